# SPDX-License-Identifier: Apache-2.0
"""The units in real numbers, part by part, for the ablation (docs/ablation.md): each class unrounds one part.

`in_reals(RealScales, RealSoftmax)` leaves all other parts as the engine has them. The tensors of a part in reals are
real numbers, in the places and units where the integers would be.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import layer_norm

from . import fake_quant, float_model
from .batch import Batch
from .fake_quant import FIELDS, Units, round_shift, wide
from .scales import Z_STEP
from .tables import CONTEXT_STEP, SCORE_STEP, GeluCoding

_FORMS = ("gelu", "gelu_new")
_EPS = 1e-12  # of a variance in squared grid steps: only keeps rows without variance from dividing by 0


def in_reals(*parts: type[Units]) -> Units:
    """The engine's units, but for those of `parts`."""
    return type("RealUnits", (*parts, Units), {})()


def _rescale(acc: torch.Tensor, b, m, s) -> torch.Tensor:
    """(Q2) without rounding and without limits."""
    return (wide(acc) + wide(b, acc.device)) * _factor(m, s, acc.device)


def _factor(m, s, device: torch.device) -> torch.Tensor:
    return wide(m, device) * torch.exp2(-wide(s, device))


def _gelu(acc: torch.Tensor, b, m, s, table) -> torch.Tensor:
    """Codes float32 [rows, N] of the exact GELU; `table` is that of `RealRest`."""
    step, scale, form = np.asarray(table).tolist()
    coding = GeluCoding(step, scale)
    x = coding.zero + _rescale(acc, b, m, s) * step
    code = round_shift(float_model.activate(x, _FORMS[int(form)]) / scale, 0) + coding.zp
    return code.clamp_(*fake_quant.UINT8).float()


class RealScales(Units):
    """Factors of Q2, Q9 and Q12 as they are: m is the factor, s is 0, and the same equations hold."""

    @staticmethod
    def encode_factor(f) -> tuple[np.ndarray, np.ndarray]:
        """f itself and 0, of f's shape."""
        f = np.asarray(f, np.float64)
        return f, np.zeros(f.shape, np.int64)

    @staticmethod
    def snap_factor(f) -> np.ndarray:
        """Every factor can be had."""
        return np.asarray(f, np.float64)


class RealSoftmax(Units):
    """(Q14–Q18) Scores unrounded, the exact softmax, and V's average in reals."""

    @staticmethod
    def average_values(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        batch: Batch,
        score_m,
        score_s,
        exp_table,
        normalized: bool,
        spans: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """q, k, v [rows, hidden] → the average of V in the engine's steps, float64 [rows, hidden]."""
        d = q.shape[1] // len(score_m)
        # float_model.attention divides by √d, which the factors have in them
        score = _factor(score_m, score_s, q.device) * SCORE_STEP * math.sqrt(d)
        q = wide(q) * score.repeat_interleave(d)
        return float_model.attention(q, wide(k), wide(v), batch, d, spans) / CONTEXT_STEP


class RealNorms(Units):
    """(Q7, Q8) The exact normalisation with real γ and β, y unrounded; z keeps its unit of 2^−11, y its grid's."""

    @staticmethod
    def encode_gamma(gamma: np.ndarray, grid: float) -> tuple[np.ndarray, np.ndarray]:
        """γ for z in steps of 2^−11 and y in steps of `grid`, and 0."""
        return np.asarray(gamma, np.float64) * Z_STEP / grid, np.zeros(len(gamma), np.int64)

    @staticmethod
    def encode_beta(beta: np.ndarray, grid: float) -> tuple[np.ndarray, np.ndarray]:
        """β in steps of `grid`, and 0."""
        return np.asarray(beta, np.float64) / grid, np.zeros(len(beta), np.int64)

    @staticmethod
    def normalised(x: torch.Tensor) -> torch.Tensor:
        """x [rows, N] → z."""
        return layer_norm(x, x.shape[-1:], eps=_EPS) / Z_STEP

    @staticmethod
    def scale_shift(z: torch.Tensor, gamma, gamma_shift, beta, beta_shift) -> torch.Tensor:
        """z [rows, N] → y; the shifts are 0."""
        return z * wide(gamma, z.device) + wide(beta, z.device)


class RealRest(Units):
    """All else that is no operand (Q6, Q11–Q13, Q20): embedding rows, residual stream and logits unrounded, and exact
    GELU and tanh, whose outputs stay 8-bit codes."""

    @staticmethod
    def encode_rows(
        rows: np.ndarray, grid: float, bits: int, importance: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows themselves, 1/grid and 0."""
        return rows, np.full(len(rows), 1 / grid), np.zeros(len(rows), np.int64)

    @staticmethod
    def embed(tables, batch: Batch) -> torch.Tensor:
        """x [rows, N], of what `encode_rows` gives."""
        x = 0.0
        for field, index in zip(FIELDS, (batch.ids, batch.position, batch.type), strict=True):
            q, m, s = (torch.as_tensor(part, device=index.device)[index] for part in tables[field])
            x = x + wide(q) * _factor(m, s, index.device)[:, None]
        return x

    @staticmethod
    def gelu_table(coding: GeluCoding, form: str) -> np.ndarray:
        """What `activation` needs to know: step and scale of the coding, and the form; float64 [3]."""
        return np.array([coding.step, coding.scale, _FORMS.index(form)])

    @staticmethod
    def tanh_table(step: float) -> np.ndarray:
        """Likewise `tanh`, float64 [1]."""
        return np.array([step])

    activation = staticmethod(functools.partial(fake_quant.activation, look_up=_gelu))

    @staticmethod
    def tanh(acc: torch.Tensor, b, m, s, step) -> torch.Tensor:
        """acc [rows, N] → codes float32 [rows, N], ±127 for ±1."""
        return round_shift(127 * torch.tanh(_rescale(acc, b, m, s) * wide(step, acc.device)), 0).float()

    @staticmethod
    def residual(acc: torch.Tensor, b, m, s, y: torch.Tensor, m_r, s_r) -> torch.Tensor:
        """→ x [rows, N]."""
        return _rescale(acc, b, m, s) + y * _factor(m_r, s_r, y.device)

    onto_int16 = staticmethod(_rescale)
