# SPDX-License-Identifier: Apache-2.0
"""Where a board's overlay is looked for: BOARD/zynqbert.bit, .hwh and manifest.json, beside this (docs/board.md)."""
