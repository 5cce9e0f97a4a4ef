# SPDX-License-Identifier: Apache-2.0
"""Integer weights that minimise a linear layer's output error: columns one by one, the rest makes up for each (GPTQ).

For one output channel with real weights w, scale s and integers q, on operands of covariance G, the error is
(w − s·q)ᵀ G (w − s·q): the mean is the bias's business. Frantar et al., arXiv 2210.17323; the refinement afterwards is
plain coordinate descent on the same error. Weights outside a mask (pruning.py) are 0 throughout: their whole value is
an error that the columns after them make up for, as in SparseGPT (arXiv 2301.00774).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

_BLOCK = 128


def regress(g: torch.Tensor, c: torch.Tensor, start: torch.Tensor, ridge: float) -> torch.Tensor:
    """Real weights [N, K] that best give the wanted outputs from the operands at hand.

    g [K, K] is the operands' covariance, c [N, K] that of outputs and operands, `start` the weights the ridge pulls to.
    """
    eye = torch.eye(len(g), dtype=g.dtype)
    return start + torch.linalg.solve(g + ridge * eye, (c - start @ g).T).T


def error(w: torch.Tensor, q: torch.Tensor, scale: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """(w − s·q)ᵀ G (w − s·q) for each row, [N]."""
    d = w - scale[:, None] * q
    return ((d @ g) * d).sum(dim=1)


def compensate(
    w: torch.Tensor, scale: torch.Tensor, g: torch.Tensor, limit: int, kept: torch.Tensor | None = None
) -> torch.Tensor:
    """GPTQ: integers [N, K] for w [N, K] float32, columns by falling variance; g [K, K] float64, positive definite.

    `kept` [N, K] is 1 where a weight may be other than 0, all of them if not given.
    """
    order = torch.argsort(g.diagonal(), descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(g[order][:, order]))
    u = torch.linalg.cholesky(inverse, upper=True).float()
    w = w[:, order].clone()
    kept = None if kept is None else kept[:, order]
    q = torch.zeros_like(w)
    for start in range(0, w.shape[1], _BLOCK):
        end = min(start + _BLOCK, w.shape[1])
        part, uu = w[:, start:end].T.contiguous(), u[start:end, start:end]  # [block, N]: columns are rows here
        lost = torch.zeros_like(part)
        with _one_thread():
            for j in range(end - start):
                qj = torch.floor(part[j] / scale + 0.5).clamp_(-limit, limit)
                q[:, start + j] = qj = qj if kept is None else qj * kept[:, start + j]
                lost[j] = (part[j] - scale * qj) / uu[j, j]
                part[j + 1 :].addr_(uu[j, j + 1 :], lost[j], alpha=-1)
        w[:, end:].addmm_(lost.T, u[start:end, end:], alpha=-1)
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order))
    return q[:, back]


def refine(
    w: torch.Tensor,
    q: torch.Tensor,
    scale: torch.Tensor,
    g: torch.Tensor,
    limit: int,
    sweeps: int,
    kept: torch.Tensor | None = None,
) -> torch.Tensor:
    """Coordinate descent: each integer in turn set to its best value given all others; the error never rises.

    Those where `kept` [N, K] is 0 stay 0.
    """
    g = g.float()
    q = q.clone()
    pull = (w - scale[:, None] * q) @ g  # [N, K], half the negative gradient
    for _ in range(sweeps):
        for start in range(0, w.shape[1], _BLOCK):
            end = min(start + _BLOCK, w.shape[1])
            part, gg = pull[:, start:end].T.contiguous(), g[start:end, start:end]
            change = torch.zeros_like(part)
            with _one_thread():
                for j in range(end - start):
                    old = q[:, start + j]
                    new = torch.floor(old + part[j] / (scale * gg[j, j]) + 0.5).clamp_(-limit, limit)
                    new = new if kept is None else new * kept[:, start + j]
                    change[j] = scale * (new - old)
                    q[:, start + j] = new
                    part.addr_(gg[j], change[j], alpha=-1)
            pull -= change.T @ g[start:end]
    return q


@contextmanager
def _one_thread() -> Iterator[None]:
    """For loops of many small operations, where threads that wait for each other cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def quantize_rows(
    w: torch.Tensor,
    g: torch.Tensor,
    limit: int,
    snap: Callable[[np.ndarray], np.ndarray],
    clips: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5),
    sweeps: int = 2,
    kept: torch.Tensor | None = None,
) -> tuple[torch.Tensor, np.ndarray]:
    """Integers [N, K] and scales [N] (float64) for the rows of w [N, K]; g [K, K] float64, positive definite.

    Every clip is tried with compensation and each row keeps its best; then the scale is refitted and the integers
    refined. `snap` maps [N] scales to the nearest ones that can be encoded. With `kept` bool [N, K] all other integers
    are 0.
    """
    n = len(w)
    w, g32 = w.float(), g.float()
    kept = None if kept is None else kept.float()
    peak = (w if kept is None else w * kept).abs().amax(dim=1).clamp_(min=1e-12).numpy().astype(np.float64)
    scales = np.stack([snap(peak * clip / limit) for clip in clips])  # [clips, N]
    flat = torch.from_numpy(scales.ravel()).float()
    every = None if kept is None else kept.repeat(len(clips), 1)
    tried = compensate(w.repeat(len(clips), 1), flat, g, limit, every)
    errors = error(w.repeat(len(clips), 1), tried, flat, g32).view(len(clips), n)
    best = errors.argmin(dim=0)
    q = tried.view(len(clips), n, -1)[best, torch.arange(n)]
    scale = scales[best.numpy(), np.arange(n)]
    for _ in range(sweeps):
        q = refine(w, q, torch.from_numpy(scale).float(), g, limit, 1, kept)
        qg = q @ g32
        fitted = ((qg * w).sum(dim=1) / (qg * q).sum(dim=1).clamp_(min=1e-30)).double().numpy()
        other = snap(np.where(fitted > 0, fitted, scale))
        now, then = (error(w, q, torch.from_numpy(x).float(), g32).numpy() for x in (scale, other))
        scale = np.where(then < now, other, scale)
    return q, scale
