# SPDX-License-Identifier: Apache-2.0
"""A float model in ONNX answers as it does in PyTorch, and its int8 form is int8: every matrix, by output channel."""

import math
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from tiny_bert import random_model
from zynqbert.quant import onnx_model
from zynqbert.quant.finetune import collate
from zynqbert.quant.onnx_model import OnnxClassifier, arrays, export, integer_share, to_int8
from zynqbert.quant.tokens import Tokens

LAYERS = 3
BOUND = 1e-4  # of float32 logits around 1, whose products are summed in another order
INT8_BOUND = 0.2  # of the same with weights and activations of 8 bits; seen: 0.06
LENGTHS = (1, 7, 40, 128)


def tokens(length):
    draw = np.random.default_rng(length)
    return Tokens(draw.integers(0, 200, length).tolist(), [0] * (length // 2) + [1] * (length - length // 2))


@pytest.fixture(scope="module", params=["bert", "albert"])
def made(request, tmp_path_factory):
    """Family, model and its two files."""
    model = random_model(family=request.param, num_hidden_layers=LAYERS)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export(model, path)
    narrow = path.with_name("int8.onnx")
    assert to_int8(path, narrow) in (7, 8)
    return request.param, model, path, narrow


def initializers(path):
    return {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}


def logits(model, length):
    with torch.inference_mode():
        return model(**collate([tokens(length)])).logits.numpy()


@pytest.mark.parametrize("length", LENGTHS)
def test_float_logits_are_pytorchs(made, length):
    _, model, path, _ = made
    found = OnnxClassifier(path, 1).logits(arrays(collate([tokens(length)])))
    np.testing.assert_allclose(found, logits(model, length), rtol=0, atol=BOUND)


def test_int8_logits_are_near_and_not_the_same(made):
    """In the middle: a random model's softmax now and then tips over by any error."""
    _, model, _, narrow = made
    session = OnnxClassifier(narrow, 2)
    away = [np.abs(session.logits(arrays(collate([tokens(n)]))) - logits(model, n)).max() for n in range(3, 20)]
    assert BOUND < np.median(away) < INT8_BOUND


def test_every_matrix_is_int8(made):
    family, _, _, narrow = made
    graph = onnx.load(narrow).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    integer = [node for node in graph.node if node.op_type == "MatMulInteger"]
    # q, k, v, o, ffn1, ffn2 at every place; ALBERT's mapping, pooler, classifier
    assert len(integer) == 6 * LAYERS + (family == "albert") + 2
    assert {stored[node.input[1]].data_type for node in integer} == {TensorProto.INT8}
    wide = [t for t in stored.values() if t.data_type == TensorProto.FLOAT and len(t.dims) == 2 and min(t.dims) > 1]
    assert wide == []
    floats = sum(math.prod(t.dims) for t in stored.values() if t.data_type == TensorProto.FLOAT)
    all_of_them = sum(math.prod(t.dims) for t in stored.values())
    assert integer_share(narrow) > 0.9 and floats < 0.1 * all_of_them


def test_weights_are_rounded_by_output_channel(made):
    _, _, path, narrow = made
    exact, stored = initializers(path), initializers(narrow)
    checked = 0
    for name, tensor in stored.items():
        base = name.removesuffix("_quantized")
        if base == name or tensor.data_type != TensorProto.INT8:
            continue
        scale = numpy_helper.to_array(stored[f"{base}_scale"])
        zero = numpy_helper.to_array(stored[f"{base}_zero_point"]).astype(np.int64)
        weights = numpy_helper.to_array(exact[base])
        codes = numpy_helper.to_array(tensor).astype(np.int64)
        if base.endswith(".weight"):  # of a Gemm, as torch has it
            weights = weights.T
        assert scale.shape == (codes.shape[1],)
        assert (np.abs((codes - zero) * scale - weights) <= scale / 2 + 1e-6).all()
        checked += 1
    assert checked >= 8


def test_shared_matrices_stand_once(tmp_path):
    counts = []
    for layers in (1, LAYERS):
        path = tmp_path / f"{layers}.onnx"
        export(random_model(family="albert", num_hidden_layers=layers), path)
        assert not [node for node in onnx.load(path).graph.node if node.op_type == "Identity"]
        counts.append(sum(math.prod(tensor.dims) for tensor in initializers(path).values()))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("machine", "flags", "bits"),
    [("x86_64", "fpu avx2", 7), ("x86_64", "avx2 avx512_vnni", 8), ("x86_64", None, 7), ("aarch64", "", 8)],
)
def test_seven_bits_where_sums_saturate(made, tmp_path, monkeypatch, machine, flags, bits):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"flags : {flags}\n")
    monkeypatch.setattr(onnx_model, "CPUINFO", cpuinfo)
    monkeypatch.setattr(onnx_model.platform, "machine", lambda: machine)
    narrow = tmp_path / "int8.onnx"
    assert to_int8(made[2], narrow) == bits
    codes = [numpy_helper.to_array(t) for t in initializers(narrow).values() if t.data_type == TensorProto.INT8]
    largest = max(np.abs(of.astype(int)).max() for of in codes)
    assert (largest > 64) == (bits == 8)


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named_with_the_remedy(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "zynqbert.quant.onnx_model")
    with pytest.raises(ModuleNotFoundError, match=rf"needs {name}; remedy: pip install 'zynqbert\[compare\]'") as found:
        import zynqbert.quant.onnx_model  # noqa: F401
    assert found.value.name is None


def test_the_quantizers_advice_is_not_shown_and_logs_go_on(made, tmp_path, caplog):
    import logging

    to_int8(made[2], tmp_path / "int8.onnx")
    assert caplog.records == []
    logging.getLogger("after").warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]
