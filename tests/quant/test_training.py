# SPDX-License-Identifier: Apache-2.0
"""What trainings share: learning rates, batches, and a state from which a run takes the very steps it would have."""

import json

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from zynqbert.quant.training import (
    bucketed_batches,
    check_settings,
    epoch_batches,
    learning_rate,
    load_state,
    save_state,
    save_tensors,
    versions,
    watched,
    write_json,
)

SETTINGS = {"epochs": 3, "learning_rate": 2e-4}


@pytest.mark.parametrize("steps", [1, 2, 9, 40, 1000])
def test_learning_rate_rises_and_falls(steps):
    rates = [learning_rate(step, steps, 3.0) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[top] == 3.0 and min(rates) > 0
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert top + 1 == max(1, round(0.1 * steps))


def test_learning_rate_is_made_of_two_straight_lines():
    found = [learning_rate(step, 20, 1.0) for step in range(20)]
    assert found == pytest.approx([1 / 2, 1, *(left / 18 for left in range(18, 0, -1))])


LENGTHS = [7, 3, 9, 9, 1, 4, 60, 2, 5, 8, 8, 30, 31, 6, 2, 2, 11]


@pytest.mark.parametrize("batch", [1, 4, 17, 100])
def test_batches_hold_every_index_once(batch):
    found = bucketed_batches(LENGTHS, batch, seed=0)
    assert sorted(i for some in found for i in some) == list(range(len(LENGTHS)))
    assert len(found) == -(-len(LENGTHS) // batch) and all(len(some) <= batch for some in found)


def test_batches_are_of_like_length():
    lengths = torch.randint(1, 64, (4000,), generator=torch.Generator().manual_seed(0)).tolist()
    spans = [max(map(lengths.__getitem__, some)) - min(map(lengths.__getitem__, some))
             for some in bucketed_batches(lengths, 32, seed=0)]  # fmt: skip
    assert sum(spans) / len(spans) < 4
    # within a pool alone: the same sentences do not meet in every epoch
    assert {frozenset(x) for x in bucketed_batches(lengths, 32, 0)}.isdisjoint(
        frozenset(x) for x in bucketed_batches(lengths, 32, 1)
    )


def test_an_epoch_follows_from_seed_and_number():
    def drawn(seed: int, epoch: int):
        return epoch_batches(LENGTHS, 4, seed, epoch), torch.rand(3).tolist()

    first = drawn(0, 1)
    torch.rand(5)
    assert drawn(0, 1) == first
    for other in (drawn(0, 2), drawn(1, 1)):
        assert other[0] != first[0] and other[1] != first[1]


def model() -> dict[str, torch.nn.Parameter]:
    torch.manual_seed(0)
    return {
        "w": torch.nn.Parameter(torch.randn(3, 4).T),  # not contiguous
        "b": torch.nn.Parameter(torch.randn(4, dtype=torch.float64)),
    }


def steps(parameters, optimizer, numbers) -> None:
    for i in numbers:
        x = torch.randn(3, generator=torch.Generator().manual_seed(i))
        loss = (parameters["w"] @ x + parameters["b"]).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def optimizer_of(parameters) -> torch.optim.AdamW:
    return torch.optim.AdamW(list(parameters.values()), lr=0.01)


def test_a_state_continues_to_the_bit(tmp_path):
    straight = model()
    steps(straight, optimizer_of(straight), range(8))

    file, first, log = tmp_path / "last.safetensors", model(), {"settings": SETTINGS, "epochs": [{"loss": 0.1}]}
    optimizer = optimizer_of(first)
    steps(first, optimizer, range(5))
    save_state(file, first, optimizer, log)
    second = {name: torch.nn.Parameter(torch.zeros_like(p)) for name, p in model().items()}
    optimizer = optimizer_of(second)
    assert load_state(file, second, optimizer, SETTINGS) == log
    steps(second, optimizer, range(5, 8))
    for name, parameter in straight.items():
        assert parameter.dtype == second[name].dtype and torch.equal(parameter, second[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_state_of_other_settings(tmp_path):
    parameters = model()
    optimizer = optimizer_of(parameters)
    steps(parameters, optimizer, range(1))
    save_state(tmp_path / "state", parameters, optimizer, {"settings": {**SETTINGS, "epochs": 2}})
    before = parameters["w"].detach().clone()
    steps(parameters, optimizer, range(1))
    moved = parameters["w"].detach().clone()
    assert not torch.equal(before, moved)
    with pytest.raises(ValueError, match=r"state: begun with other settings of epochs: \[2\], not \[3\]; remedy: "):
        load_state(tmp_path / "state", parameters, optimizer, SETTINGS)
    assert torch.equal(parameters["w"], moved)


@pytest.mark.parametrize(
    "wanted, named",
    [({"a": 1, "b": 2, "c": 4}, "c"), ({"b": 2, "c": 3, "d": 0}, "a, d"), ({"b": 2, "c": 3}, "a"), ({}, "a, b, c")],
)
def test_settings_that_differ_are_named(wanted, named):
    begun = {"a": 1, "b": 2, "c": 3}
    with pytest.raises(ValueError, match=f"here: begun with other settings of {named}: .*; remedy: "):
        check_settings("here", begun, wanted)
    check_settings("here", begun, {**begun})


def test_files_are_whole_or_as_they_were(tmp_path):
    save_tensors(tmp_path / "t", {"x": torch.arange(6.0).view(2, 3).T}, {"log": "a"})
    write_json(tmp_path / "j", {"α": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "j", {"α": object()})
    with pytest.raises(Exception, match=r"[Mm]eta"):
        save_tensors(tmp_path / "t", {}, {"log": 3})
    with safe_open(tmp_path / "t", "pt") as file:
        assert file.metadata()["log"] == "a" and torch.equal(file.get_tensor("x"), torch.arange(6.0).view(2, 3).T)
    assert json.loads((tmp_path / "j").read_text(encoding="utf-8")) == {"α": 1}
    assert "α" in (tmp_path / "j").read_text(encoding="utf-8")


def test_versions_name_what_decides():
    assert set(versions()) == {"torch", "transformers", "tokenizers", "python"}
    assert versions()["torch"] == torch.__version__


def test_watched_hands_every_batch_on(capsys):
    found = []
    for batch, show in watched([[1], [2, 3]], 2, "epoch 1/1", Console(width=100)):
        found.append(batch)
        show(0.25)
    assert found == [[1], [2, 3]]
    shown = capsys.readouterr().out
    assert "epoch 1/1" in shown and "2/2" in shown and "loss 0.250" in shown
