# SPDX-License-Identifier: Apache-2.0
"""`zynqbert bench emulator`: its fields, and random weights in the place of a model."""

from dataclasses import replace

import numpy as np
import pytest
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.bench.emulator import bench_emulator
from zynqbert.host.bench.random_model import random_model
from zynqbert.host.model_shape import LayerShape, ModelShape
from zynqbert.quant.artifact_tensors import check_values

SMALL = replace(
    ModelShape.named("bert-base"), name="small", hidden=64, embedding=64, heads=2, head_width=32, ffn=600, vocab=40,
    embedding_norm=64, layers=(LayerShape(64, 600, 64),) * 2, weights=(0, 1),
)  # fmt: skip
SHARED = replace(SMALL, embedding=32, embedding_norm=32, mapping=64, weights=(0, 0), word_bits=4)


@pytest.mark.parametrize("shape", [SMALL, SHARED], ids=["bert", "albert"])
def test_random_weights_are_timed(shape):
    figures = bench_emulator(shape, BOARDS["zcu111"], tokens=40, repeats=3, threads=2)
    assert (figures.board, figures.build, figures.model) == ("zcu111", "native", "small")
    assert (figures.threads, figures.tokens, figures.repeats) == (2, 40, 3)
    assert figures.pass_ms >= figures.best_ms > 0 and figures.cpu_ms > 0 and figures.load_s > 0
    assert figures.gmac_per_s > 0 and figures.as_dict()["source"] == "measured on this machine"


@pytest.mark.parametrize("shape", [SMALL, SHARED, ModelShape.named("minilm-l6")], ids=["bert", "albert", "minilm-l6"])
def test_random_weights_are_an_artifacts(shape, tmp_path):
    """Every value within the artifact's ranges and the engine's bounds, of the shape asked for, the same each time."""
    made, again = random_model(shape, tmp_path), random_model(shape, tmp_path)
    check_values("random", made.manifest, made.tensors)
    assert ModelShape.of_manifest(made.manifest, shape.name) == shape
    assert all(np.array_equal(tensor, again.tensors[name]) for name, tensor in made.tensors.items())
    weight = made.tensors["layers.0.ffn1.weight"]
    assert len(np.unique(weight & 15)) == len(np.unique(weight >> 4)) == 7


def test_split_channels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="small: a random model has no split channels"):
        random_model(replace(SMALL, embedding_norm=70), tmp_path)
