# SPDX-License-Identifier: Apache-2.0
"""The ablation: each switch unrounds its part alone, the last row is the engine, a cut run goes on."""

import json
import re
import xml.etree.ElementTree as ElementTree
from math import erf, sqrt

import numpy as np
import pytest
import torch
from rich.console import Console
from tiny_bert import random_classifier
from zynqbert.quant import ablation as module
from zynqbert.quant import fake_quant
from zynqbert.quant.ablation import PAPER, ablation, draw, table
from zynqbert.quant.artifact import save_artifact
from zynqbert.quant.batch import make_batch
from zynqbert.quant.calibrate import calibrate
from zynqbert.quant.checkpoint import load_checkpoint
from zynqbert.quant.datasets import DataSet, Example
from zynqbert.quant.fake_quant import ENGINE, FakeQuantModel
from zynqbert.quant.golden_model import GoldenModel
from zynqbert.quant.options import Options
from zynqbert.quant.packing import unpack_nibbles
from zynqbert.quant.quantize import quantize
from zynqbert.quant.scales import snap_factor
from zynqbert.quant.tables import CONTEXT_STEP, SCORE_STEP, GeluCoding
from zynqbert.quant.tokens import Tokens
from zynqbert.quant.units import RealNorms, RealRest, RealScales, RealSoftmax, in_reals

PARTS = {"scales": RealScales, "softmax": RealSoftmax, "norms": RealNorms, "rest": RealRest}
ADDED = ["+ weights and activations", "+ scale factors", "+ softmax", "+ layer norm", "+ the rest"]
LABELS = ("LABEL_0", "LABEL_1", "LABEL_2")
TINY = dict(num_hidden_layers=1, intermediate_size=40)


# the units -----------------------------------------------------------------------------------------------------------


def random_sentences(n: int, seed: int) -> list[Tokens]:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 20, n)
    return [Tokens(random.integers(0, 200, k).tolist(), [0] * (k - k // 3) + [1] * (k // 3)) for k in lengths]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(checkpoint, calibration) of one layer."""
    path = tmp_path_factory.mktemp("model")
    random_classifier(path, **TINY)
    checkpoint = load_checkpoint(path)
    return checkpoint, calibrate(checkpoint.weights, random_sentences(48, seed=1))


def made(tiny, **options):
    checkpoint, calibration = tiny
    options = Options(**{"word_bits": 4, "norm_entries": 4, "gelu_entries": 6, **options})
    return quantize(checkpoint.weights, calibration, task=checkpoint.task, max_length=64, options=options)


@pytest.fixture(scope="module")
def engine(tiny):
    return made(tiny)


@pytest.fixture(scope="module")
def unrounded(tiny):
    """The model with one part in reals, by the part's name."""
    return {name: made(tiny, units=in_reals(part)) for name, part in PARTS.items()}


def taps_of(quantized, units) -> dict[str, torch.Tensor]:
    taps: dict[str, torch.Tensor] = {}
    model = FakeQuantModel(quantized.manifest, quantized.tensors, units)
    model.forward(make_batch(random_sentences(20, seed=2)), taps.__setitem__)
    return taps


def whole(x: torch.Tensor) -> bool:
    return bool((x == x.floor()).all())


ROWS = r"embeddings\.(word|position|type)"
REAL_TENSORS = {
    "scales": rf"(?!{ROWS}).*([._]m|\.operand|\.residual)",
    "softmax": r"(?!)",
    "norms": r".*\.(gamma|beta)",
    "rest": rf".*\.(gelu|tanh)|{ROWS}\.[qm]",
}


@pytest.mark.parametrize("part", PARTS)
def test_only_the_part_s_own_tensors_are_real_numbers(engine, unrounded, part):
    assert set(engine.tensors) == set(unrounded[part].tensors)
    for name, tensor in unrounded[part].tensors.items():
        if re.fullmatch(REAL_TENSORS[part], name):
            assert tensor.dtype.kind == "f", name
        else:
            assert tensor.dtype == engine.tensors[name].dtype, name


ROUNDED = {
    "embeddings.sum": "rest", "embeddings.norm.y": "norms", "layers.0.q": None, "layers.0.k": None, "layers.0.v": None,
    "layers.0.context": None, "layers.0.o.x": "rest", "layers.0.attention_norm.y": "norms", "layers.0.ffn1": None,
    "layers.0.ffn2.x": "rest", "layers.0.ffn_norm.y": "norms", "gathered": None, "pooler": None, "logits": "rest",
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_only_the_part_s_own_buffers_are_unrounded(unrounded, part):
    """Operands stay 8-bit codes whatever is in reals."""
    taps = taps_of(unrounded[part], in_reals(PARTS[part]))
    assert set(taps) == set(ROUNDED)
    assert {name for name, x in taps.items() if not whole(x)} == {n for n, of in ROUNDED.items() if of == part}
    for name in ("q", "k", "v", "context"):
        assert 40 < taps[f"layers.0.{name}"].abs().max() <= 127
    assert taps["layers.0.ffn1"].min() >= 0 and 200 < taps["layers.0.ffn1"].max() <= 255


def test_scales_have_no_mantissa_error(engine, unrounded):
    real, coded = unrounded["scales"].tensors, engine.tensors
    for name in ("layers.0.q", "layers.0.o", "layers.0.ffn1", "layers.0.ffn2", "pooler", "classifier"):
        assert not real[f"{name}.s"].any()
        assert (np.abs(snap_factor(real[f"{name}.m"]) / real[f"{name}.m"] - 1) > 1e-4).mean() > 0.5, name
        assert coded[f"{name}.m"].min() >= 128
    f = np.geomspace(1e-6, 100, 50)
    m, s = in_reals(RealScales).encode_factor(f)
    acc = torch.linspace(-3e5, 3e5, 50, dtype=torch.float64)
    expected = np.clip(np.floor((acc.numpy() + 7) * f + 0.5), -127, 127)
    np.testing.assert_array_equal(fake_quant.requantize(acc, 7, m, s, *fake_quant.INT8).numpy(), expected)


def test_softmax_in_reals_is_float64_attention_of_the_same_integers(engine):
    """Its parameters are the engine's, so that one model runs both ways."""
    ours, real = taps_of(engine, ENGINE), taps_of(engine, in_reals(RealSoftmax))
    for name in list(ROUNDED)[:5]:
        np.testing.assert_array_equal(ours[name], real[name])
    t, expected, start = engine.tensors, [], 0
    q, k, v = (real[f"layers.0.{name}"].double().numpy() for name in "qkv")
    f, context = (
        t[f"layers.0.attention.{of}_m"] * np.exp2(-t[f"layers.0.attention.{of}_s"].astype(float))
        for of in ("score", "context")
    )
    for sentence in random_sentences(20, seed=2):
        rows = slice(start, start + len(sentence.ids))
        start += len(sentence.ids)
        for head in range(2):
            c = slice(32 * head, 32 * head + 32)
            e = np.exp(q[rows, c] @ k[rows, c].T * f[head] * SCORE_STEP)
            u = (e / e.sum(axis=1, keepdims=True)) @ v[rows, c] / CONTEXT_STEP
            expected.append((rows, c, np.clip(np.floor(u * context[c] + 0.5), -127, 127)))
    for rows, c, wanted in expected:
        np.testing.assert_array_equal(real["layers.0.context"][rows, c].numpy(), wanted)
    assert 0 < (ours["layers.0.context"] - real["layers.0.context"]).abs().max() < 12


def test_norms_in_reals(unrounded):
    taps, t = taps_of(unrounded["norms"], in_reals(RealNorms)), unrounded["norms"].tensors
    for norm, x in (("embeddings.norm", "embeddings.sum"), ("layers.0.ffn_norm", "layers.0.ffn2.x")):
        x = taps[x].numpy()
        z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
        np.testing.assert_allclose(
            taps[f"{norm}.y"].numpy(), 2048 * z * t[f"{norm}.gamma"] + t[f"{norm}.beta"], rtol=1e-9, atol=1e-6
        )
    assert not in_reals(RealNorms).normalised(torch.full((2, 8), 5.0, dtype=torch.float64)).any()


def test_the_rest_in_reals(tiny, unrounded):
    weights, quantized = tiny[0].weights, unrounded["rest"]
    taps, batch = taps_of(quantized, in_reals(RealRest)), make_batch(random_sentences(20, seed=2))
    truth = (weights.word[batch.ids].double() + weights.position[batch.position] + weights.type[batch.type]).numpy()
    found = quantized.codes["embeddings.sum"].decode(taps["embeddings.sum"]).numpy()
    np.testing.assert_allclose(found, truth, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("form", ["gelu", "gelu_new"])
def test_gelu_in_reals_has_the_engine_s_codes_but_for_the_table_s_steps(form):
    coding, units = GeluCoding(step=8 / 255, scale=5.5 / 255), in_reals(RealRest)
    rng = np.random.default_rng(0)
    of = coding.entries(np.array([1, 2, 1]))
    x = rng.normal(0, 3, (4000, 3))
    acc = torch.from_numpy(np.round(1000 * x[:, of.source]))
    b, m, s = np.round(-1000 * of.origin), 1 / (1000 * of.step), np.zeros(4)
    real = units.activation(acc, b, m, s, units.gelu_table(coding, form), of.is_table)
    ours = fake_quant.activation(acc, b, m, s, ENGINE.gelu_table(coding, form), of.is_table)
    np.testing.assert_array_equal(real[:, ~of.is_table], ours[:, ~of.is_table])
    z = (acc.numpy() + b)[:, 0] / 1000 + coding.zero
    if form == "gelu":
        exact = np.array([v * 0.5 * (1 + erf(v / sqrt(2))) for v in z])
    else:
        exact = 0.5 * z * (1 + np.tanh(sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    np.testing.assert_array_equal(real[:, 0], np.clip(np.floor(exact / coding.scale + 0.5) + coding.zp, 0, 255))
    assert 0 < np.abs(real - ours)[:, of.is_table].max() <= 2


def test_tanh_in_reals():
    acc = torch.linspace(-9e4, 9e4, 1001, dtype=torch.float64)[:, None]
    units = in_reals(RealRest)
    found = units.tanh(acc, np.array([5]), np.array([0.004]), np.array([0]), units.tanh_table(0.02))
    expected = np.floor(127 * np.tanh((acc.numpy() + 5) * 0.004 * 0.02) + 0.5)
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("bits, limit", [(2, 1), (6, 31), (8, 127)])
def test_bits_of_the_encoder_s_weights(tiny, bits, limit):
    tensors = made(tiny, weight_bits=bits).tensors
    for name, tensor in tensors.items():
        if name.endswith(".weight"):
            if tensor.dtype == np.uint8:
                assert bits == 2 and name.startswith("layers.")
                tensor = unpack_nibbles(tensor, 2 * tensor.shape[1])
            expected = limit if name.startswith("layers.") else 127
            assert tensor.max() <= expected and tensor.min() >= -expected
            assert np.abs(tensor.astype(int)).max() > 0.9 * expected
            assert len(np.unique(tensor)) > (2 if bits == 2 else 15)


def test_bits_that_are_none():
    with pytest.raises(ValueError, match="weight_bits 3 is none of 2, 4, 6, 8"):
        Options(weight_bits=3).checked(64)


def test_all_in_reals_loses_less(tiny, engine):
    """Rows of 4 bits lose a tenth of the embedding; in reals nothing of it."""
    checkpoint, _ = tiny
    units = in_reals(*PARTS.values())
    truth = module.float_model.forward(checkpoint.weights, make_batch(random_sentences(20, seed=2))).double()
    error = [
        float((quantized.codes["logits"].decode(taps_of(quantized, of)["logits"]) - truth).abs().mean())
        for quantized, of in ((made(tiny, units=units), units), (engine, ENGINE))
    ]
    assert error[0] < 0.8 * error[1]


def test_shared_matrices_and_a_mapping_in_reals(tmp_path):
    random_classifier(tmp_path, family="albert", hidden_act="gelu_new", intermediate_size=40)
    checkpoint = load_checkpoint(tmp_path)
    tiny = checkpoint, calibrate(checkpoint.weights, random_sentences(48, seed=1))
    units = in_reals(*PARTS.values())
    quantized = made(tiny, units=units, weight_bits=8)
    taps = taps_of(quantized, units)
    assert quantized.tensors["layers.0.q.weight"].dtype == np.int8 and "layers.1.q.weight" not in quantized.tensors
    assert not whole(taps["mapping.x"])
    truth = module.float_model.forward(checkpoint.weights, make_batch(random_sentences(20, seed=2))).double()
    error = quantized.codes["logits"].decode(taps["logits"]) - truth
    assert error.norm() < 0.15 * (truth - truth.mean(dim=0)).norm()


# the run -------------------------------------------------------------------------------------------------------------


def load(split: str, *, offline: bool = False) -> list[Example]:
    """Random words of the tiny tokenizer, of random labels; every fourth a pair."""
    random = np.random.default_rng(len(split))
    words = ["a", "gem", ".", "gems", "b"]
    texts = [" ".join(random.choice(words, random.integers(1, 16))) for _ in range({"train": 60, "test": 50}[split])]
    return [Example(t, int(random.integers(3)), None if i % 4 else texts[i - 1]) for i, t in enumerate(texts)]


OWN = DataSet("own", LABELS, load, None)


class Cut(Exception):
    pass


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """(model, out, report, what each row made, what was told before and after the cut) of a run cut and continued."""
    root = tmp_path_factory.mktemp("ablation")
    random_classifier(root / "model", vocab_size=13, **TINY)
    told: tuple[list, list] = ([], [])
    found = []

    def until_softmax(*step) -> None:
        told[0].append(step)
        if step[0] == "+ softmax" and step[1] > 275:
            raise Cut

    with pytest.MonkeyPatch.context() as patch:
        original = module._answer

        def answer(given, calibration, options, show):
            logits = original(given, calibration, options, show)
            found.append((given, calibration, options, logits))
            return logits

        patch.setattr(module, "_answer", answer)
        with pytest.raises(Cut):
            ablation(root / "model", OWN, root / "out", max_length=30, progress=until_softmax)
        kept = json.loads((root / "out/ablation.json").read_text())
        assert list(kept["rows"]) == ["float", *ADDED[:2]]
        again = lambda *step: told[1].append(step)  # noqa: E731
        report = ablation(root / "model", OWN, root / "out", max_length=30, resume=True, progress=again)
    assert {name: report["rows"][name] for name in kept["rows"]} == kept["rows"]
    return root / "model", root / "out", report, found, told


def test_the_report(ran):
    _, out, report, found, _ = ran
    assert json.loads((out / "ablation.json").read_text()) == report
    assert list(report["rows"]) == ["float", *ADDED] and list(report["weight_bits"]) == ["2", "4", "6", "8"]
    assert report["weight_bits"]["4"] == report["rows"]["+ the rest"]
    assert len(found) == 8
    settings = report["settings"]
    assert (settings["data"], settings["split"], settings["sentences"], settings["word_bits"]) == ("own", "test", 50, 4)
    for row in [*list(report["rows"].values())[1:], *report["weight_bits"].values()]:
        assert row["sentences"] == 50 and row["float_right"] == report["rows"]["float"]["right"]
        low, high = row["difference_interval_points"]
        assert low <= row["difference_points"] <= high and 0 < row["logit_error"] < 1


def test_progress_is_told_of_the_whole(ran):
    for steps, rows in zip(ran[4], (8, 6), strict=True):
        done = [step[1] for step in steps]
        assert done == sorted(done) and {step[2] for step in steps} == {100 * rows}
    assert done[-1] == 600 and [s[0] for s in steps][:2] == ["float", "calibration"]
    assert steps[-1][0] == "8-bit weights"


def test_the_last_row_is_the_engine(ran, tmp_path):
    _, _, report, found, _ = ran
    given, calibration, options, logits = found[ADDED.index("+ the rest")]
    checkpoint = given.checkpoint
    how = dict(task=checkpoint.task, max_length=64)
    plain = quantize(checkpoint.weights, calibration, **how, options=Options(word_bits=4))
    row = quantize(checkpoint.weights, calibration, **how, options=options)
    assert plain.manifest == row.manifest and set(plain.tensors) == set(row.tensors)
    for name, tensor in plain.tensors.items():
        assert tensor.dtype == row.tensors[name].dtype
        np.testing.assert_array_equal(tensor, row.tensors[name], err_msg=name)
    golden = GoldenModel(save_artifact(tmp_path / "a", plain.manifest, plain.tensors, checkpoint.tokenizer_json))
    scale = plain.manifest["scales"]["logits"]
    expected = np.array([golden.forward_sentence(s.ids, s.types) for s in given.sentences]) * scale
    np.testing.assert_array_equal(logits.numpy(), expected)
    truth = np.concatenate(
        [module.float_model.forward(checkpoint.weights, make_batch([s])).numpy() for s in given.sentences]
    )
    entry = report["rows"]["+ the rest"]
    assert entry["logit_error"] == pytest.approx(np.abs(expected - truth).mean(), rel=1e-4)
    labels = [e.label for e in load("test")]
    assert entry["quantized_right"] == int((expected.argmax(axis=1) == labels).sum())
    assert report["rows"]["float"]["right"] == int((truth.argmax(axis=1) == labels).sum())


def test_the_plot(ran, tmp_path):
    _, out, report, _, _ = ran
    root = ElementTree.parse(out / "ablation.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    ids = {element.get("id") for element in root.iter()}
    assert {"axes_1", "axes_2"} <= ids and "axes_3" not in ids
    content = (out / "ablation.svg").read_bytes()
    for name in [*ADDED, "2 bits", "8 bits", "FQ-BERT"]:
        assert name.encode() in content
    draw(report, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == content


def test_the_table(ran):
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table(ran[2]))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert all(name in text for name in ADDED) and "92.32 %" in text and "–" in text and "2-bit weights" in text
    assert list(PAPER.items()) == [*zip(["float", *ADDED[:4]], (92.32, 91.63, 91.28, 91.86, 91.51), strict=True)]


def test_a_finished_run_stays(ran, monkeypatch):
    model, out, report, _, _ = ran
    monkeypatch.setattr(module, "quantize", None)
    before = (out / "ablation.json").read_bytes()
    assert ablation(model, OWN, out, max_length=30, resume=True) == report
    assert (out / "ablation.json").read_bytes() == before
    with pytest.raises(ValueError, match=r"ablation\.json: holds a run already; remedy: --resume"):
        ablation(model, OWN, out, max_length=30)
    with pytest.raises(ValueError, match=r"begun with other settings of word_bits: \[4\], not \[8\]"):
        ablation(model, OWN, out, max_length=30, word_bits=8, resume=True)
    with pytest.raises(ValueError, match=r"other settings of sentences, texts"):
        ablation(model, OWN, out, max_length=30, sentences=20, resume=True)


def test_another_model_of_the_same_name_is_told_apart(ran, tmp_path):
    _, out, _, _, _ = ran
    random_classifier(tmp_path / "model", vocab_size=13, **{**TINY, "intermediate_size": 44})
    with pytest.raises(ValueError, match=r"other settings of weights:"):
        ablation(tmp_path / "model", OWN, out, max_length=30, resume=True)


@pytest.mark.parametrize(
    "text, problem", [("{", "not JSON"), ("[]", "settings is missing"), ('{"settings": {}}', "rows is missing")]
)
def test_a_report_that_is_none(ran, tmp_path, text, problem):
    (tmp_path / "ablation.json").write_text(text)
    with pytest.raises(ValueError, match=rf"ablation\.json: {problem}.*remedy"):
        ablation(ran[0], OWN, tmp_path, resume=True)


@pytest.mark.parametrize(
    "data, more, problem",
    [
        ("reviews", {}, "data 'reviews' is none of movie-reviews, policy-pairs, tweets"),
        (OWN, {"sentences": 0}, "sentences = 0"),
        (OWN, {"max_length": 2}, r"max_length 2 is not within 3\.\.128"),
        (OWN, {"word_bits": 5}, "word_bits 5"),
        (DataSet("other", ("no", "yes"), load, None), {}, r"model: its labels are \['LABEL_0'"),
        (DataSet("empty", LABELS, lambda split: load(split)[: (split == "train") * 9], None), {}, "test is empty"),
    ],
)
def test_input_that_does_not_fit(ran, tmp_path, data, more, problem):
    with pytest.raises(ValueError, match=problem):
        ablation(ran[0], data, tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_a_model_without_one_label_a_text(tmp_path):
    random_classifier(tmp_path / "model", kind="token", **TINY)
    with pytest.raises(ValueError, match="task token, softmax: an accuracy needs one label a text; remedy"):
        ablation(tmp_path / "model", OWN, tmp_path / "out")
