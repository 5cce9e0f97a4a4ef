# SPDX-License-Identifier: Apache-2.0
"""Scripts of benchmarks/ that write a document; they are no part of the package."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def document_of(name: str) -> Iterator[ModuleType]:
    """benchmarks/NAME.py as a module, for a fixture."""
    spec = importlib.util.spec_from_file_location(f"{name}_document", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]
