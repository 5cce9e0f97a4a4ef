# SPDX-License-Identifier: Apache-2.0
"""What we use of pynq, imported without the warnings that its own imports raise (pkg_resources, missing devices)."""

import warnings

import numpy

from .errors import TargetError


def check_numpy(version: str) -> None:
    """Raise TargetError for a numpy that pynq's buffers do not work with (every 2.x), where pynq would not say why."""
    if int(version.partition(".")[0]) >= 2:
        raise TargetError(f"numpy {version} is installed, pynq's buffers need 1.x; remedy: pip install 'numpy<2'")


check_numpy(numpy.__version__)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pynq import Overlay, allocate
    from pynq.buffer import PynqBuffer
    from pynq.overlay import DefaultIP
    from pynq.pl_server.device import Device
    from pynq.pl_server.embedded_device import EmbeddedDevice
    from pynq.ps import Clocks

__all__ = ["Clocks", "DefaultIP", "Device", "EmbeddedDevice", "Overlay", "PynqBuffer", "allocate"]
