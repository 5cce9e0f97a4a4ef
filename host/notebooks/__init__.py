# SPDX-License-Identifier: Apache-2.0
"""Notebooks for a board or a laptop; `pynq get-notebooks zynqbert` copies them (docs/board.md)."""
