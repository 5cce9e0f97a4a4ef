# SPDX-License-Identifier: Apache-2.0
"""Scripts of benchmarks/ that write a document, no part of the package; and rows of documents that repeat a report."""

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
    sys.path.insert(0, str(ROOT / "benchmarks"))  # as for a script that is run: others lie beside it
    spec.loader.exec_module(module)
    sys.path.remove(str(ROOT / "benchmarks"))
    yield module
    del sys.modules[spec.name]


def batching_row(name: str, row: dict) -> str:
    """A way of `zynqbert bench batching` as the pages have it."""
    value = {field: of["value"] for field, of in row.items()}
    cells = (
        name, f"{value['passes']:,}", f"{value['sentences_per_second']:,.0f}", f"{value['power']:.1f}",
        f"{value['fps_per_watt']:.1f}", f"{value['energy_per_sentence']:.2f}", f"{value['ratio']:.1f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"
