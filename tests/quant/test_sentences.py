# SPDX-License-Identifier: Apache-2.0
"""Texts as tokens for trainings in float, and the noise that makes new ones of them."""

import dataclasses

import pytest
import torch
from gems import NAMES, examples, sentences
from tiny_bert import WORDS, tokenizer_json
from zynqbert.quant.batch import make_batch
from zynqbert.quant.datasets import Example
from zynqbert.quant.distillation import UNLABELLED
from zynqbert.quant.sentences import Sentences, noisy
from zynqbert.quant.tokens import Tokens

SPECIAL = (WORDS.index("[CLS]"), WORDS.index("[SEP]"))


def test_tokens_and_labels():
    texts = sentences()
    assert texts.lengths == [len(s.ids) for s in texts.tokens["train"]] and len(texts.labels["dev"]) == 24
    batch, target = texts.batch("train", [5, 0])
    assert target.tolist() == [1, 0] and batch.lengths.tolist() == [texts.lengths[5], texts.lengths[0]]
    assert batch.ids.tolist() == texts.tokens["train"][5].ids + texts.tokens["train"][0].ids


def test_texts_without_label_follow_those_of_the_train_split():
    texts = sentences()
    more = texts.with_unlabelled(["a gem", "s"])
    assert more.lengths == [*texts.lengths, 4, 3] and len(texts.lengths) == 60
    assert more.batch("train", [61, 5])[1].tolist() == [UNLABELLED, 1]
    assert more.tokens["dev"] == texts.tokens["dev"] and more.labels["dev"] == texts.labels["dev"]
    kept, other = more.settings, texts.with_unlabelled(["a gem", "a"]).settings
    assert {k for k in kept if kept[k] != other[k]} == kept.keys() - texts.settings.keys() != set()


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_noise_replaces_a_share_of_the_words(share):
    texts = sentences(train=400)
    batch, _ = texts.batch("train", range(400))
    torch.manual_seed(0)
    found = noisy(batch, share)
    special = torch.isin(batch.ids, torch.tensor(SPECIAL))
    assert special.sum() == 800 and torch.equal(found.ids[special], batch.ids[special])
    assert not torch.isin(found.ids[~special], torch.tensor(SPECIAL)).any()
    kinds = batch.ids[~special].unique(return_counts=True)[1] / (~special).sum()
    alike = float(kinds.square().sum())  # a word drawn is often the one there was
    changed = float((found.ids != batch.ids)[~special].double().mean())
    assert changed == pytest.approx(share * (1 - alike), abs=0.03)
    assert torch.equal(found.position, batch.position) and torch.equal(found.lengths, batch.lengths)
    torch.manual_seed(0)
    assert torch.equal(texts.batch("train", range(400), share)[0].ids, found.ids)
    assert torch.equal(texts.batch("train", range(400))[0].ids, batch.ids)


def test_noise_has_nothing_to_replace_in_empty_texts():
    batch = make_batch([Tokens(list(SPECIAL), [0, 0])] * 2)
    assert noisy(batch, 0.9) is batch


def test_settings_name_what_is_trained_on():
    def settings(**changes):
        data = {"train": examples(4, 1), "dev": examples(4, 2), **changes}
        return Sentences(data, NAMES, tokenizer_json(), 16).settings

    assert settings() == settings() == settings(test=examples(4, 3))
    other = dataclasses.replace(examples(4, 2)[0], label=1)
    changed = settings(dev=[other, *examples(4, 2)[1:]])
    assert {k for k in changed if changed[k] != settings()[k]} == {"examples.dev.sha256"}
    assert settings(train=[Example("a", 0)])["examples.train.sha256"] != settings()["examples.train.sha256"]
