# SPDX-License-Identifier: Apache-2.0
"""A task's float tensors as the integers it keeps of its own over a quantized backbone (Q7, Q13, Q25).

Everything is rounded from the float tensors, with scales that follow from what the backbone fixes and from the range of
the bottleneck: nothing is fitted to other tasks, so that a task comes out the same alone and among others.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from .checkpoint import Adapter, Linear
from .codes import Code
from .float_model import ACTIVATIONS
from .packing import check_linear
from .scales import FACTOR_MAX, FACTOR_MIN, decode_factor, encode_factor, round_half_up

_BIAS_BITS = 24  # a bias stays below 2^24 accumulator steps, which leaves room within the 27 bits
_FLOOR = {"relu": 0.0, "silu": -8.0, "tanh": -4.0, "gelu": -4.0, "gelu_new": -4.0}  # below it nothing happens any more
_CEILING = {"tanh": 4.0}
_VALUES = 50_000  # of the bottleneck's input that a coding is searched on
TANH_STEP = 1 / 127  # of the pooler's output


@dataclass(frozen=True)
class Narrow:
    """Coding of a bottleneck: input zero + i·step for i in −128 .. 127, output code·scale; `table` int8 [256]."""

    step: float
    zero: float
    scale: float
    table: np.ndarray


@dataclass
class TaskTensors:
    """What a task keeps, by the names of an artifact, and the code of each tap that depends on the task."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)

    def put_linear(self, name: str, linear: Linear, step: np.ndarray, out_scale: float, origin: float = 0.0) -> None:
        """Keep a linear layer in int8 for operands of real steps `step` [K] and outputs counted from `origin` in steps
        of `out_scale`. Raises ValueError naming the channel that does not fit.
        """
        w = linear.weight.detach().double().numpy() * step
        bias = linear.bias.detach().double().numpy()
        least = np.maximum(FACTOR_MIN, (np.abs(bias) + abs(origin)) * 2.0**-_BIAS_BITS / out_scale)
        wanted = np.abs(w).max(axis=1) / 127 / out_scale
        m, s = encode_factor(np.clip(wanted, least, FACTOR_MAX))
        unit = decode_factor(m, s) * out_scale  # real value of one accumulator step
        q = np.clip(round_half_up(w / unit[:, None]), -127, 127).astype(np.int8)
        b = round_half_up((bias - origin) / unit).astype(np.int32)
        check_linear(name, q, b, 127, 8)
        parts = {"weight": q, "bias": b, "m": m.astype(np.uint8), "s": s.astype(np.uint8)}
        self.tensors |= {f"{name}.{part}": value for part, value in parts.items()}

    def put_adapter(self, at: str, adapter: Adapter, step: np.ndarray, z: torch.Tensor, grid: float) -> Narrow:
        """Keep the adapter `at` ("layers.0.ffn_adapter") for a branch whose operand has real steps `step` [hidden] and
        a residual in steps of `grid`; z [rows, width] is what its bottleneck takes in."""
        coding = narrow_coding(adapter.activation, z)
        self.put_linear(f"{at}.down", adapter.down, step, coding.step, coding.zero)
        self.tensors[f"{at}.table"] = coding.table
        self.put_linear(f"{at}.up", adapter.up, np.full(adapter.up.weight.shape[1], coding.scale), grid)
        return coding


def narrow_coding(activation: str, z: torch.Tensor) -> Narrow:
    """The coding with the least squared error of the activation's output on z [rows, width]; the same for all of it."""
    some = z.flatten()
    some = some[:: max(1, len(some) // _VALUES)].double()
    apply, floor, ceiling = ACTIVATIONS[activation], _FLOOR[activation], _CEILING.get(activation, np.inf)
    low = max(float(some.min()), floor)
    high = max(min(float(some.max()), ceiling), low + 1e-6)
    truth = apply(some)
    best: tuple[float, Narrow | None] = (np.inf, None)
    for above in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4):
        for below in (1.0, 0.8, 0.6, 0.4) if low < 0 else (1.0,):
            coding = _coding(activation, low * below, max(high * above, low * below + 1e-6))
            index = ((some - coding.zero) / coding.step + 0.5).floor().clamp(-128, 127)
            found = torch.from_numpy(coding.table)[(index + 128).long()].double() * coding.scale
            lost = float((found - truth).square().mean())
            if lost < best[0]:
                best = lost, coding
    return best[1]


def _coding(activation: str, low: float, high: float) -> Narrow:
    step = (high - low) / 255
    zero = high - 127 * step
    values = ACTIVATIONS[activation](zero + torch.arange(-128, 128, dtype=torch.float64) * step).numpy()
    scale = max(float(np.abs(values).max()), 1e-9) / 127
    return Narrow(step, zero, scale, np.clip(round_half_up(values / scale), -127, 127).astype(np.int8))
