# SPDX-License-Identifier: Apache-2.0
"""The data sets' splits, and their parsing on small archives made here."""

import dataclasses
import hashlib
import io
import json
import random
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest
from zynqbert.quant import datasets
from zynqbert.quant.datasets import (
    DATA_SETS,
    LABELS,
    POLICY_LABELS,
    SPLITS,
    DataUnavailable,
    Example,
    deduplicate,
    normalise,
    split_of,
)

COUNTS = {"train": (3391, 3407), "dev": (534, 466), "test": (1150, 1122)}  # negative, positive
PAIR_COUNTS = {"train": (3531, 3684), "dev": (524, 475), "test": (1419, 1290)}  # no answer, answer
TWEET_COUNTS = {"train": (9764, 8288, 3554), "dev": (1401, 1273, 572), "test": (3259, 2859, 1272)}


@pytest.fixture(scope="module")
def reviews() -> dict[str, list[Example]]:
    try:
        return {split: datasets.movie_reviews(split) for split in SPLITS}
    except DataUnavailable as error:
        pytest.skip(f"movie reviews not available: {error}")


@pytest.fixture(scope="module")
def pairs() -> dict[str, list[Example]]:
    try:
        return {split: datasets.policy_pairs(split) for split in SPLITS}
    except DataUnavailable as error:
        pytest.skip(f"policy pairs not available: {error}")


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Puts bytes in the place of a data set's archive: given("REVIEWS_ARCHIVE", content)."""
    monkeypatch.setenv("ZYNQBERT_DATA", str(tmp_path))

    def put(name: str, content: bytes) -> None:
        archive = getattr(datasets, name)
        monkeypatch.setattr(datasets, name, dataclasses.replace(archive, sha256=hashlib.sha256(content).hexdigest()))
        (tmp_path / archive.file).write_bytes(content)

    return put


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def everything(load) -> set[Example]:
    return {example for split in SPLITS for example in load(split, offline=True)}


def test_split_sizes(reviews):
    counts = {split: tuple(sum(e.label == label for e in reviews[split]) for label in (0, 1)) for split in SPLITS}
    assert counts == COUNTS
    assert sum(counts["test"]) >= 2000


def test_splits_are_disjoint_and_hold_no_text_twice(reviews):
    texts = [normalise(e.text) for split in SPLITS for e in reviews[split]]
    assert len(set(texts)) == len(texts)


def test_texts_are_clean(reviews):
    texts = [e.text for split in SPLITS for e in reviews[split]]
    assert not any(bad in text for text in texts for bad in ("&amp;", "\ufffd", "Ã", "\t", "\r", "\n"))
    assert all(text == text.strip() != "" for text in texts)
    assert sum("cliché" in text for text in texts) > 10  # decoded as UTF-8


def test_splits_do_not_depend_on_order(reviews):
    rows = [e for split in SPLITS for e in reviews[split]]
    rows += rows[:50]
    random.Random(0).shuffle(rows)
    again = deduplicate(rows)
    for split in SPLITS:
        assert [e for e in again if split_of(e.text) == split] == reviews[split]


def test_split_of_is_frozen():
    assert [split_of(text) for text in ("A delight.", "Eh.", "Weak.")] == ["test", "train", "dev"]
    assert split_of("A  Delight.\n") == split_of("a delight.")


def test_split_of_shares():
    splits = [split_of(str(i)) for i in range(20_000)]
    assert splits.count("test") / len(splits) == pytest.approx(0.23, abs=0.01)
    assert splits.count("dev") / len(splits) == pytest.approx(0.10, abs=0.01)


def test_deduplicate():
    good, shouted = Example("A  good film", 1), Example("a good FILM", 1)
    loved, loathed = Example("So so", 1), Example("so  so", 0)
    for rows in ([good, shouted, loved, loathed], [loathed, shouted, loved, good]):
        assert deduplicate(rows) == [good]  # the smallest of equal texts; texts with both labels go


def test_own_sentences():
    own = datasets.own_sentences()
    assert len(own) == len({normalise(e.text) for e in own}) == 24
    assert [e.label for e in own].count(1) == 12
    assert LABELS[own[0].label] == "positive"


def test_own_sentences_are_not_from_the_reviews(reviews):
    theirs = {normalise(e.text) for split in SPLITS for e in reviews[split]}
    assert not theirs & {normalise(e.text) for e in datasets.own_sentences()}


@pytest.mark.parametrize("name", DATA_SETS)
def test_unknown_split(name):
    with pytest.raises(ValueError, match="'validation' is none of train, dev, test"):
        DATA_SETS[name].load("validation")


@pytest.mark.parametrize("name", DATA_SETS)
def test_without_the_archive_its_file_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ZYNQBERT_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match=re.escape(DATA_SETS[name].archive.file)):
        DATA_SETS[name].load("dev", offline=True)


def test_parsing_of_the_reviews(given):
    rows = ["1\t2.5\tGood &amp; long ", "2\t-0.5\tBad cliché", "3\t0.49\tUndecided", "4\t-4\tgood  &amp; SHORT",
            "5\t3\tGOOD &amp; short", "6\t-1\tbad  CLICHÉ"]  # fmt: skip
    table = tarred({datasets._REVIEWS: "\r\n".join(rows).encode()})
    given("REVIEWS_ARCHIVE", zipped(datasets._TAR, table))
    # the undecided one goes, one text with two labels goes, and of two that are the same one stays
    assert everything(datasets.movie_reviews) == {Example("Good & long", 1), Example("Bad cliché", 0)}


def test_texts_without_label_are_in_no_split(given):
    reviews = ["1\t2.5\tGood", "2\t0.49\tUndecided &amp; long", "3\t-0.4\tgood ", "4\t0\tSo so"]
    products = ["1_1\t3.0\tIt WORKS", "1_2\t-2\tit  works", "1_3\t-2\tso SO", "1_4\t1\tGOOD", "1_5\t1\t "]
    files = {datasets._REVIEWS: reviews, datasets._PRODUCTS: products}
    table = tarred({name: "\r\n".join(rows).encode() for name, rows in files.items()})
    given("REVIEWS_ARCHIVE", zipped(datasets._TAR, table))
    found = DATA_SETS["movie-reviews"].unlabelled()
    assert {normalise(text) for text in found} == {"undecided & long", "so so", "it works"} and len(found) == 3
    assert [e.text for split in SPLITS for e in datasets.movie_reviews(split)] == ["Good"]


def test_texts_without_label_of_the_reviews(reviews):
    found = datasets.more_reviews()
    assert len(found) == 4229 and found == datasets.more_reviews()
    labelled = {normalise(e.text) for examples in reviews.values() for e in examples}
    assert not labelled & {normalise(text) for text in found}


def test_parsing_of_the_pairs(given):
    rows = [
        {"question": " who sees it? ", "context": "Nobody does. ", "answer": "True"},
        {"question": "who sees it?", "context": "Cookies are biscuits.", "answer": "False"},
        {"question": "Who sees it?", "context": "nobody  does.", "answer": "True"},
        {"question": "is it sold?", "context": "Perhaps.", "answer": "True"},
        {"question": "is it sold?", "context": "perhaps.", "answer": "False"},
    ]
    given("POLICY_ARCHIVE", zipped(datasets._POLICY, "\n".join(map(json.dumps, rows)).encode()))
    found = everything(datasets.policy_pairs)
    assert {(normalise(e.text), normalise(e.pair), e.label) for e in found} == {
        ("who sees it?", "nobody does.", 1),
        ("who sees it?", "cookies are biscuits.", 0),
    }
    assert len(found) == 2 and POLICY_LABELS[1] == "answer"
    # both passages of one question are in one split
    assert sum(bool(datasets.policy_pairs(split, offline=True)) for split in SPLITS) == 1


def test_questions_that_differ_in_marks_and_case_share_a_split(given):
    words = [f"question number {i}" for i in range(100)]
    rows = [
        {"question": text, "context": f"Passage {i}.", "answer": "True"}
        for word in words
        for i, text in enumerate((word, f"{word}?", f"{word.upper()}!", word.replace(" ", "  ")))
    ]
    given("POLICY_ARCHIVE", zipped(datasets._POLICY, "\n".join(map(json.dumps, rows)).encode()))
    found = {split: datasets.policy_pairs(split) for split in SPLITS}
    assert all(found.values()) and sum(map(len, found.values())) == 400
    for examples in found.values():
        numbers = [re.findall(r"\d+", e.text)[0] for e in examples]
        assert all(numbers.count(n) == 4 for n in numbers)


def test_pair_split_sizes(pairs):
    assert {split: len(pairs[split]) for split in SPLITS} == {"train": 7215, "dev": 999, "test": 2709}
    counts = {split: tuple(sum(e.label == label for e in pairs[split]) for label in (0, 1)) for split in SPLITS}
    assert counts == PAIR_COUNTS


def test_no_question_of_one_split_is_in_another(pairs):
    asked = [{" ".join(re.findall(r"\w+", e.text.casefold())) for e in pairs[split]} for split in SPLITS]
    assert sum(map(len, asked)) == len(set.union(*asked)) > 300


def test_no_pair_is_there_twice_and_all_are_clean(pairs):
    examples = [e for split in SPLITS for e in pairs[split]]
    assert len({(normalise(e.text), normalise(e.pair)) for e in examples}) == len(examples)
    assert {e.label for e in examples} == {0, 1}
    for text in (text for e in examples for text in e.texts):
        assert text == text.strip() != ""
        assert text.isascii() and text.isprintable() and "&amp;" not in text


def test_pair_splits_do_not_depend_on_order(pairs):
    rows = [e for split in SPLITS for e in pairs[split]]
    random.Random(0).shuffle(rows)
    again = deduplicate(rows)
    for split in SPLITS:
        kept = set(pairs[split])
        assert [e for e in again if e in kept] == pairs[split]


def test_parsing_of_the_tweets(given):
    table = (
        'sentiment,confidence,text\r\nnegative,0.7,"late, again"\r\npositive,,Thanks &amp; bye\r\n'
        'neutral,1,"two\nlines"\r\nneutral,1,lost \xd1\r\nnegative,1,thanks &amp;  BYE\r\nneutral,1, \r\n'
    )
    given("TWEETS_ARCHIVE", zipped(datasets._TWEETS, table.encode("latin-1")))
    assert everything(datasets.tweets) == {Example("late, again", 0), Example("two lines", 1)}


def test_tweets():
    try:
        found = {split: datasets.tweets(split) for split in SPLITS}
    except DataUnavailable as error:
        pytest.skip(f"tweets not available: {error}")
    counts = {split: tuple(sum(e.label == label for e in found[split]) for label in (0, 1, 2)) for split in SPLITS}
    assert counts == TWEET_COUNTS
    texts = [normalise(e.text) for split in SPLITS for e in found[split]]
    assert len(set(texts)) == len(texts)
    assert not any(bad in text for text in texts for bad in ("&amp;", "\ufffd", "\t", "\r", "\n"))


def test_texts_of_an_example():
    assert Example("one", 0).texts == "one"
    assert Example("one", 0, "two").texts == ("one", "two")


def test_the_data_sets_by_name():
    assert {name: d.labels for name, d in DATA_SETS.items()} == {
        "movie-reviews": ("negative", "positive"),
        "policy-pairs": ("no answer", "answer"),
        "tweets": ("negative", "neutral", "positive"),
    }
    assert all(d.name == name for name, d in DATA_SETS.items())


def test_needs_only_the_standard_library():
    code = (
        "import sys; import zynqbert.quant.datasets;"
        "print(*{m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers", "tokenizers"} & set(loaded)
