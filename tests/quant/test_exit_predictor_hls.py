# SPDX-License-Identifier: Apache-2.0
"""The predictor's network as an hls4ml project, compiled by g++, against the float network and the exit table."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn
from zynqbert.fpga.build.predictor import read_predictor
from zynqbert.quant.exit_predictor import Predicting, network, row_shares
from zynqbert.quant.exit_predictor_hls import (
    BITS,
    answers,
    compare,
    compiled,
    cost,
    entropies,
    export,
    follower,
    foretold_by,
    precisions,
    sha256_of,
)

pytest.importorskip("h5py", reason="hls4ml's own dependencies are missing: pip install zynqbert[sim]")
pytest.importorskip("quantizers", reason="hls4ml's own dependencies are missing: pip install zynqbert[sim]")

SHIFT = 3


def small(seed: int = 0) -> nn.Sequential:
    """The predictor's shape, of fewer and narrower layers."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(1, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hls") / "predictor"
    return folder, export(small(), folder, row_shift=SHIFT, point="1")


def in_fixed_point(model: nn.Sequential, entropy: np.ndarray) -> np.ndarray:
    """The project's arithmetic by its stated precisions, written from the definition of fixed point alone."""

    def fixed(x: np.ndarray, kind: str) -> np.ndarray:
        bits, whole = (int(n) for n in kind[len("ap_fixed<") : -1].split(","))
        steps = np.floor(x * 2.0 ** (bits - whole) + 0.5)  # half up, as AP_RND
        return np.clip(steps, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) / 2.0 ** (bits - whole)

    x = entropy[:, None] / (64 << SHIFT)
    for part, kind in zip(model, precisions(model, SHIFT), strict=True):
        if isinstance(part, nn.Linear):
            weight, bias = (
                fixed(getattr(part, name).detach().double().numpy(), kind[name]) for name in ("weight", "bias")
            )
            x = x @ weight.T + bias
        else:
            x = np.maximum(x, 0)
        x = fixed(x, kind["result"])
    return x


def test_project_has_the_interface_of_the_build(exported):
    folder, content = exported
    header = (folder / "firmware" / "exit_predictor.h").read_text()
    assert "void exit_predictor(" in header and "input_t input_1[1]" in header and "_out[3]" in header
    defines = (folder / "firmware" / "defines.h").read_text()
    assert f"typedef {content['input']['type']} input_t;" in defines and "result_t;" in defines
    assert list((folder / "firmware" / "weights").glob("w*.h"))
    assert not list(folder.parent.glob("*.partial"))
    assert str(folder.parent) not in "".join(
        p.read_text() for p in folder.rglob("*.*") if p.suffix in (".yml", ".tcl", ".json")
    )


def test_file_says_what_it_is(exported):
    folder, content = exported
    assert content == json.loads((folder / "predictor.json").read_text())
    assert read_predictor(folder).layers == 3, "the build takes it"
    assert (content["layers"], content["row_shift"], content["point"]) == (3, SHIFT, "1")
    assert content["input"] == {"type": "ap_fixed<16,7>", "entropy_steps_per_unit": 512}  # 2^9: the bits are the steps
    assert content["model_sha256"] == sha256_of(small()) != sha256_of(small(1))


def test_export_again_replaces_and_refuses_a_foreign_folder(exported, tmp_path):
    folder, _ = exported
    changed = export(small(1), folder.parent / "other", row_shift=SHIFT)
    assert export(small(2), folder.parent / "other", row_shift=SHIFT)["model_sha256"] != changed["model_sha256"]
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no predictor"):
        export(small(), tmp_path, row_shift=SHIFT)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_cost_of_the_papers_network():
    found = cost(network(12))
    assert found["multiplications"] == 64 + 3 * 64 * 64 + 64 * 12 == 13120
    assert found["parameters"] == 13120 + 4 * 64 + 12
    assert found["parameter_bits"] == BITS * found["parameters"]
    assert found["estimated_multipliers"] == 1 + 3 * 64 + 12 and found["table_bits"] == 2048


def test_compiled_project_is_its_fixed_point_to_the_bit(tmp_path):
    model = small()
    entropy = np.arange(0, 2048, 13)
    fixed = compiled(model, tmp_path / "project", SHIFT)(entropy)
    np.testing.assert_array_equal(fixed, in_fixed_point(model, entropy))
    assert 0 < np.abs(fixed - answers(model, entropy, SHIFT)).max() < 0.01


def test_follower_learns_the_table():
    table = np.repeat([1, 3, 2, 3], 64)
    learnt = row_shares(follower(table, 3, SHIFT, Predicting(epochs=300)), SHIFT).argmax(axis=1) + 1
    away = np.abs(np.arange(256)[:, None] - np.array([64, 128, 192])).min(axis=1) > 4
    np.testing.assert_array_equal(learnt[away], table[away])


def test_layers_foretold_by_the_compiled_network():
    fixed = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 5.0]])
    entropy = np.array([[0, 2], [1, 0], [2, 0], [9, 0]])
    assert foretold_by(fixed, entropy).tolist() == [1, 2, 3, 3]


def test_comparison_counts_what_differs():
    model, table = small(), np.full(256, 1)
    wanted = answers(model, entropies(SHIFT), SHIFT)
    same = compare(model, wanted, table, SHIFT)
    assert (same["error"], same["as_float"], same["differ_where_far"]) == (0, 1, 0)
    assert same["as_table"] == same["float_as_table"] == (wanted.argmax(axis=1) == 0).mean()
    other = compare(model, np.roll(wanted, 1, axis=1), table, SHIFT)
    assert other["as_float"] < 0.5 and other["error"] > 0


@pytest.mark.proof
def test_the_papers_network_compiled(tmp_path):
    """Over every entropy of a model of two labels: the stated bound, and the same layer wherever that bound decides."""
    table = np.array(list(itertools.chain([1] * 30, [4] * 40, [7] * 30, [9] * 40, [12] * 116)))
    model = follower(table, 12, 4, Predicting(epochs=600))
    found = compare(model, compiled(model, tmp_path / "project", 4)(entropies(4)), table, 4)
    assert found["error"] < 2**-4
    assert found["differ_where_far"] == 0 and found["as_float"] > 0.99 and found["as_table"] > 0.98
