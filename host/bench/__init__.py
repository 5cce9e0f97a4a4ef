# SPDX-License-Identifier: Apache-2.0
"""How fast, and for how many watts: of a board (board.py), or of the emulator (emulator.py)."""
