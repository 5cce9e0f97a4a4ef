# SPDX-License-Identifier: Apache-2.0
"""The pattern "blocks": of every 4 entries a group of 4 channels keeps the same few, through quantizer and training."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from tiny_bert import random_classifier
from zynqbert.quant.batch import make_batch
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import load_checkpoint, with_spans
from zynqbert.quant.options import Options
from zynqbert.quant.pipeline import quantize_checkpoint
from zynqbert.quant.pruning import block_bound, encoder_matrices, keep_blocks
from zynqbert.quant.quantize import quantize
from zynqbert.quant.tokens import Tokens
from zynqbert.quant.trainable import TrainableModel


def kept_in_groups(score, bound, times, block=4, group=4):
    """By trying every choice of a group's block."""
    n, k = score.shape
    rows = [i for i in range(n) for _ in range(times[i])]
    mask = np.ones((n, k), bool)
    for p, at in itertools.product(range(0, len(rows), group), range(0, k, block)):
        of, width = rows[p : p + group], min(block, k - at)
        sizes = [sum(float(score[row, at + j]) ** 2 for row in of) for j in range(width)]
        choices = itertools.combinations(range(width), min(bound, width))
        best = max(choices, key=lambda c: (sum(sizes[j] for j in c), [-j for j in c]))
        for row in of:
            for j in set(range(width)) - set(best):
                mask[row, at + j] = False
    return mask


@pytest.mark.parametrize("bound", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(6, 16), (5, 13), (1, 3), (2, 1)])
def test_a_group_keeps_the_largest_of_each_block(bound, shape):
    score = np.random.default_rng(bound).random(shape)
    for times in (np.ones(shape[0], int), 1 + np.arange(shape[0]) % 3):
        mask = keep_blocks(score, bound / 4, times)
        np.testing.assert_array_equal(mask, kept_in_groups(score, bound, times))
        stored = np.repeat(mask, times, axis=0)
        assert block_bound(stored) <= bound
    assert keep_blocks(score, 1.0).all()


@pytest.mark.parametrize("block, group", [(2, 2), (8, 1), (4, 6)])
def test_blocks_of_other_shapes(block, group):
    score, times = np.random.default_rng(block).random((9, 21)), 1 + np.arange(9) % 2
    mask = keep_blocks(score, 0.5, times, (block, group))
    np.testing.assert_array_equal(mask, kept_in_groups(score, block // 2, times, block, group))


def test_of_equal_entries_the_first_stay():
    np.testing.assert_array_equal(keep_blocks(np.ones((4, 5)), 0.5), [[True, True, False, False, True]] * 4)


def test_the_bound_of_a_matrix():
    q = np.zeros((8, 9), int)
    assert block_bound(q) == 0
    q[0, 1] = q[3, 3] = 1  # a group
    assert block_bound(q) == 2
    q[4, 5] = q[7, 5] = q[6, 6] = 2
    assert block_bound(q) == 2
    q[1, 0] = -1
    assert block_bound(q) == 3
    q[1, 0], q[1, 4] = 0, 7  # of the next block
    assert block_bound(q) == 2
    assert block_bound(np.eye(3, 3, dtype=int)[:1]) == 1


@pytest.fixture(scope="module", params=["bert", "albert"])
def model(request, tmp_path_factory):
    """(checkpoint, calibration)."""
    path = tmp_path_factory.mktemp("model")
    random_classifier(path, family=request.param)
    checkpoint, random = load_checkpoint(path), np.random.default_rng(0)
    sentences = [Tokens(random.integers(0, 200, k).tolist(), [0] * k) for k in random.integers(3, 25, 48)]
    return checkpoint, calibrate(checkpoint.weights, sentences)


def made(model, **options):
    checkpoint, calibration = model
    options = Options(word_bits=4, norm_entries=5, gelu_entries=7, **options)
    return quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=64, options=options)


@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])
def test_every_block_of_every_matrix_has_the_density(model, density):
    """As they are stored: channels of a norm and of a GELU with several entries included."""
    quantized = made(model, density=density, pattern="blocks")
    matrices = encoder_matrices(quantized.manifest, quantized.tensors)
    assert any(len(q) % 4 or q.shape[1] % 4 for q in matrices.values())  # blocks and groups that are not whole
    for name, q in matrices.items():
        assert block_bound(q) == 4 * density, name
        assert 0.8 * density < np.count_nonzero(q) / q.size <= 1.02 * density, name
    free = made(model, density=density)
    assert min(map(block_bound, encoder_matrices(free.manifest, free.tensors).values())) > 4 * density


def test_heads_that_are_gone_do_not_loosen_the_bound(model):
    checkpoint, _ = model
    weights = with_spans(checkpoint.weights, [[0, 128]] * 2)
    fewer = dataclasses.replace(checkpoint, weights=weights)
    quantized = made((fewer, calibrate(weights, model[1].sentences)), density=0.5, pattern="blocks")
    assert set(map(block_bound, encoder_matrices(quantized.manifest, quantized.tensors).values())) == {2}


def test_training_keeps_the_pattern(model):
    whole = made(model)
    trained = TrainableModel(whole.manifest, whole.tensors)
    optimizer = torch.optim.AdamW(list(trained.parameters.values()), lr=0.05, weight_decay=0.0)
    batch = make_batch([Tokens(s.ids[:20], s.types[:20]) for s in model[1].sentences[:3]])
    for density, bound in ((0.6, 3), (0.5, 2), (0.25, 1)):  # on its way down it is the next bound above
        trained.prune(density, "blocks")
        loss = trained.forward(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trained.hold()
        matrices = encoder_matrices(whole.manifest, trained.tensors())
        assert {block_bound(q) for q in matrices.values()} == {bound}
    assert trained.moved() > 0.05


def test_pruned_to_what_it_has_it_is_the_given_model(model):
    half = made(model, density=0.5, pattern="blocks")
    trained = TrainableModel(half.manifest, half.tensors)
    trained.prune(0.5, "blocks")
    for name, tensor in trained.tensors().items():
        np.testing.assert_array_equal(tensor, half.tensors[name], err_msg=name)


def test_the_manifest_tells_the_bound(tmp_path):
    random_classifier(tmp_path / "model")
    texts = ["a gem .", "gems", ". . a", "a a gem . gems", ". gem"] * 4
    quiet = dict(word_bits=4, progress=lambda *step: None)
    report = quantize_checkpoint(tmp_path / "model", texts, tmp_path / "a", density=0.5, pattern="blocks", **quiet)
    assert report["density"]["block_bound"] == 2
    for pattern, density in (("blocks", 0.6), ("rows", 0.5)):
        with pytest.raises(ValueError, match=f"pattern '{pattern}' is none|none that blocks of 4"):
            quantize_checkpoint(tmp_path / "model", texts, tmp_path / "b", density=density, pattern=pattern, **quiet)
    assert not (tmp_path / "b").exists()
