# SPDX-License-Identifier: Apache-2.0
"""How far the integer model is from the float model, tap by tap and in its answers."""

from collections.abc import Sequence

import torch
from torch.nn.functional import kl_div, log_softmax

from . import float_model
from .batch import split_batches
from .checkpoint import BertWeights
from .codes import Quantized
from .fake_quant import FakeQuantModel


@torch.inference_mode()
def compare(weights: BertWeights, quantized: Quantized, sentences: Sequence[Sequence[int]]) -> dict:
    """`errors`: per tap ‖integer − float‖/‖float − mean‖ over all rows; `agreement` of answers; `divergence` in nats.

    sentences: token ids. The integers are those of the golden model (fake_quant.py is equal to it).
    """
    model = FakeQuantModel(quantized.manifest, quantized.tensors)
    wrong: dict[str, float] = {}
    total: dict[str, float] = {}
    logits: dict[str, list[torch.Tensor]] = {"float": [], "integer": []}
    for batch in split_batches(sentences):
        real: dict[str, torch.Tensor] = {}
        taps: dict[str, torch.Tensor] = {}
        float_model.forward(weights, batch, real.__setitem__)
        model.forward(batch, taps.__setitem__)
        for name, code in quantized.codes.items():
            truth = real[name].double()
            decoded = code.decode(taps[name])
            wrong[name] = wrong.get(name, 0.0) + float((decoded - truth).square().sum())
            total[name] = total.get(name, 0.0) + float((truth - truth.mean(dim=0)).square().sum())
            if name == "logits":
                logits["float"].append(truth)
                logits["integer"].append(decoded)
    a, b = (torch.cat(logits[kind]) for kind in ("float", "integer"))
    return {
        "errors": {name: (wrong[name] / max(total[name], 1e-30)) ** 0.5 for name in wrong},
        "agreement": float((a.argmax(dim=1) == b.argmax(dim=1)).double().mean()),
        "divergence": float(kl_div(log_softmax(b, 1), log_softmax(a, 1), log_target=True, reduction="batchmean")),
    }
