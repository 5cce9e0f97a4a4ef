# SPDX-License-Identifier: Apache-2.0
"""From the kernels to a bitstream with the vendor's tools (docs/building.md)."""
