# SPDX-License-Identifier: Apache-2.0
"""An easy rule for tiny encoders to learn: a text is positive where it speaks of a gem."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from rich.console import Console
from tiny_bert import random_model, save_tokenizer, tokenizer_json
from zynqbert.quant.datasets import Example
from zynqbert.quant.sentences import Sentences

NAMES = ("LABEL_0", "LABEL_1")  # a tiny_bert's of two labels


def quiet() -> Console:
    return Console(file=io.StringIO())


def examples(count: int, seed: int) -> list[Example]:
    """Texts of 3 to 7 words, every other one with a gem."""
    random = torch.Generator().manual_seed(seed)
    words = [["a", ".", "s"][i] for i in torch.randint(0, 3, (7 * count,), generator=random).tolist()]
    found = []
    for i in range(count):
        text = words[7 * i : 7 * i + 3 + i % 5]
        if i % 2:
            text[i % 3] = "gem"
        found.append(Example(" ".join(text), i % 2))
    return found


def save_project(folder: Path, sizes: Mapping[str, int]) -> None:
    """A pretrained encoder in `base/`, and a table of so many examples for each split."""
    random_model().base_model.save_pretrained(folder / "base")
    save_tokenizer(folder / "base")
    for seed, (split, count) in enumerate(sizes.items()):
        rows = [f"{NAMES[e.label]}\t{e.text}\n" for e in examples(count, seed)]
        (folder / f"{split}.tsv").write_text("".join(rows))


def sentences(train: int = 60, dev: int = 24) -> Sentences:
    """The rule's train and dev split as tokens."""
    return Sentences({"train": examples(train, 1), "dev": examples(dev, 2)}, NAMES, tokenizer_json(), 16)


def cut_after(monkeypatch, module, steps: int) -> None:
    """Ctrl-C after so many steps of a training whose loop is in the module."""
    watched = module.watched
    left = [steps]

    def until(*args):
        for step in watched(*args):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield step

    monkeypatch.setattr(module, "watched", until)
