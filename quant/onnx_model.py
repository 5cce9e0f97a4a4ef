# SPDX-License-Identifier: Apache-2.0
"""A float classifier in ONNX, its weights as they are or as int8, and how ONNX Runtime runs it.

The int8 form is ONNX Runtime's dynamic quantization: weights int8, one scale an output channel; activations uint8, with
a scale of their own a tensor and sentence; embeddings uint8. Norms, softmax, GELU and the products of activations with
each other stay in float.
"""

import logging
import math
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from .float_classifier import Inputs

try:
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
except ModuleNotFoundError as error:
    if error.name not in ("onnx", "onnxruntime"):
        raise
    raise ModuleNotFoundError(f"ONNX needs {error.name}; remedy: pip install 'zynqbert[compare]'") from None

OPSET = 17  # has LayerNormalization
NAMES = ("input_ids", "attention_mask", "token_type_ids")
CPUINFO = Path("/proc/cpuinfo")
VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")  # x86 that adds products of 8 bits without saturating at 16


class _Named(torch.nn.Module):
    """The model with its inputs by place."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(NAMES, inputs, strict=True))).logits


def export(model: PreTrainedModel, path: Path) -> None:
    """Write the model to `path` as ONNX in float32, for any number of sentences and tokens.

    By torch's TorchScript exporter, which needs no further package. Matrices that layers share stand there once.
    """
    ids = torch.zeros(1, 4, dtype=torch.int64)
    axes = {name: {0: "sentences", 1: "tokens"} for name in NAMES} | {"logits": {0: "sentences"}}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # that this exporter is the old one, and constants in what it traces
        torch.onnx.export(
            _Named(model).eval(),
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            str(path),
            input_names=list(NAMES),
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    found = onnx.load(path)
    _share(found.graph)
    onnx.save(found, path)


def _share(graph: "onnx.GraphProto") -> None:
    """Let every node name a shared matrix itself: the quantizer does not look for it behind an Identity node."""
    weights = {tensor.name for tensor in graph.initializer}
    same = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.input[0] in weights}
    kept = [n for n in graph.node if n.output[0] not in same]
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def to_int8(path: Path, to: Path) -> int:
    """Write the ONNX model at `path` to `to` with its weights as int8; returns the bits of them that are used.

    That is 8, or 7 on an x86 processor whose 16-bit sums of products would saturate, as ONNX Runtime advises.
    """
    narrow = saturates()
    with _quiet():
        quantize_dynamic(path, to, per_channel=True, reduce_range=narrow, weight_type=QuantType.QInt8)
    return 7 if narrow else 8


def saturates() -> bool:
    """Whether this is an x86 processor that adds products of 8 bits in 16 and saturates there, or may be one."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        flags = CPUINFO.read_text(encoding="utf-8").split()
    except OSError:
        return True
    return not any(flag in flags for flag in VNNI)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantizer's advice to preprocess: it is for models whose shapes are not known."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def integer_share(path: Path) -> float:
    """Share of the model's parameters that stand in it as 8-bit integers."""
    counts = {True: 0, False: 0}
    for tensor in onnx.load(path).graph.initializer:
        integer = tensor.data_type in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
        counts[integer] += math.prod(tensor.dims)
    return counts[True] / sum(counts.values())


class OnnxClassifier:
    """An ONNX model in a session of ONNX Runtime on the processor, with `threads` threads."""

    def __init__(self, path: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads that spin after a run would take the processor from whoever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Float32 [1, labels] of int64 arrays [1, tokens] by name."""
        return self.session.run(None, inputs)[0]


def arrays(inputs: Inputs) -> dict[str, np.ndarray]:
    """What ONNX Runtime takes of what transformers takes."""
    return {name: inputs[name].numpy() for name in NAMES}
