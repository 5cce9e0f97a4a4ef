# SPDX-License-Identifier: Apache-2.0
"""How far the integer model is from the float model, tap by tap and in its answers."""

from collections.abc import Sequence

import torch
from torch.nn.functional import kl_div, log_softmax

from . import float_model
from .batch import split_batches
from .checkpoint import ModelWeights
from .codes import Quantized
from .fake_quant import FakeQuantModel
from .tokens import Tokens


@torch.inference_mode()
def compare(weights: ModelWeights, quantized: Quantized, sentences: Sequence[Tokens]) -> dict:
    """`errors`: per tap ‖integer − float‖/‖float − mean‖ over all rows; and what `compare_answers` says.

    The integers are those of the golden model (fake_quant.py is equal to it).
    """
    model = FakeQuantModel(quantized.manifest, quantized.tensors)
    wrong: dict[str, float] = {}
    total: dict[str, float] = {}
    logits: dict[str, list[torch.Tensor]] = {"float": [], "integer": []}
    for batch in split_batches(sentences):
        real: dict[str, torch.Tensor] = {}
        taps: dict[str, torch.Tensor] = {}
        float_model.forward(weights, batch, real.__setitem__)
        run = model.every_ramp if weights.ramps else model.forward
        run(batch, taps.__setitem__)
        for name, code in quantized.codes.items():
            truth = real[name].double()
            decoded = code.decode(taps[name])
            wrong[name] = wrong.get(name, 0.0) + float((decoded - truth).square().sum())
            total[name] = total.get(name, 0.0) + float((truth - truth.mean(dim=0)).square().sum())
            if name == "logits":
                logits["float"].append(truth)
                logits["integer"].append(decoded)
    answers = (torch.cat(logits[kind]) for kind in ("float", "integer"))
    return {
        "errors": {name: (wrong[name] / max(total[name], 1e-30)) ** 0.5 for name in wrong},
        **compare_answers(quantized.manifest["task"]["scores"], *answers),
    }


def compare_answers(scores: str, truth: torch.Tensor, found: torch.Tensor) -> dict:
    """The float model's logits and the integer model's, [answers, labels], by what they are read as (`task.scores`).

    "softmax": `agreement` of the best labels and `divergence` in nats; "sigmoid": `agreement` on which side of one half
    each label is; "none": `mean_absolute_error` in standard deviations of the float values, averaged over the labels.
    """
    if scores == "none":
        spread = truth.std(dim=0, correction=0).clamp(min=1e-12)
        return {"mean_absolute_error": float(((found - truth).abs().mean(dim=0) / spread).mean())}
    if scores == "sigmoid":
        return {"agreement": float(((found > 0) == (truth > 0)).double().mean())}
    return {
        "agreement": float((truth.argmax(dim=1) == found.argmax(dim=1)).double().mean()),
        "divergence": float(
            kl_div(log_softmax(found, 1), log_softmax(truth, 1), log_target=True, reduction="batchmean")
        ),
    }
