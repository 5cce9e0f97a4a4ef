# SPDX-License-Identifier: Apache-2.0
"""A board that is not there, register by register (device.py)."""
