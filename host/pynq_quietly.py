# SPDX-License-Identifier: Apache-2.0
"""What we use of pynq, imported without the warnings that its own imports raise (pkg_resources, missing devices)."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pynq import Overlay, allocate
    from pynq.buffer import PynqBuffer
    from pynq.overlay import DefaultIP
    from pynq.pl_server.device import Device
    from pynq.pl_server.embedded_device import EmbeddedDevice
    from pynq.ps import Clocks

__all__ = ["Clocks", "DefaultIP", "Device", "EmbeddedDevice", "Overlay", "PynqBuffer", "allocate"]
