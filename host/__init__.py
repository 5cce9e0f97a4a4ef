# SPDX-License-Identifier: Apache-2.0
"""The host side: compiler, PYNQ drivers, emulated board, command line.

`with zynqbert.host.open(board="zcu102", artifact=DIR) as engine: for result in engine.stream(texts): ...`
"""


def __getattr__(name: str):
    # Late: importing pynq takes most of a second, which `zynqbert --help` need not wait for.
    if name in ("open", "Engine", "Result", "TokenLabel"):
        from . import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
