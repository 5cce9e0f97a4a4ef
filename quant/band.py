# SPDX-License-Identifier: Apache-2.0
"""(Q23) The band of keys that the heads of adaptive spans see."""

from collections.abc import Sequence

import torch


def unseen(length: int, spans: Sequence[int], device: torch.device | str = "cpu") -> torch.Tensor:
    """(Q23) Which keys of a sentence a row does not see, |i − j| ≥ span: bool [heads, length, length].

    >>> unseen(3, [1, 2])[:, 0].tolist()
    [[False, True, True], [False, False, True]]
    """
    at = torch.arange(length, device=device)
    return (at[:, None] - at).abs() >= torch.as_tensor(spans, device=device)[:, None, None]
