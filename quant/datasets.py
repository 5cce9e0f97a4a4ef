# SPDX-License-Identifier: Apache-2.0
"""Labelled sentences for the two-class task (0 negative, 1 positive). Standard library only: boards import it too.

`movie_reviews` reads the sentence-level movie reviews of Hutto and Gilbert (ICWSM 2014, VADER) out of the source
archive vaderSentiment-0.5.zip on PyPI. The archive is downloaded once, checked by sha256 and kept in
`${XDG_CACHE_HOME:-~/.cache}/zynqbert/`; its setup never runs and nothing is unpacked to disk. `ZYNQBERT_DATA` names a
folder that already holds the zip. The texts belong to their owners, so no copy lies in this repository;
`own_sentences` reads the few of our own that do.

The file inside (`movieReviewSnippets_GroundTruth.txt`: id, mean human rating -4..4, text, separated by tabs): 10,605
rows ended by CRLF, no header, no end of line after the last row; strictly valid UTF-8 (133 rows are not ASCII, none of
them encoded twice), no quoting; `&` is written `&amp;` in 22 places, which is undone here.
"""

import functools
import hashlib
import html
import http.client
import importlib.resources
import io
import os
import re
import ssl
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LABELS = ("negative", "positive")
SPLITS = ("train", "dev", "test")
ARCHIVE = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"

_TAR = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_REVIEWS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
_TEST_PERCENT, _DEV_PERCENT = 23, 10
_MIN_RATING = 0.5
_TIMEOUT_S = 60


class DataUnavailable(RuntimeError):
    """The archive cannot be had; the message names the file, what was tried and the remedy."""

    def __init__(self, tried: str):
        super().__init__(
            f"{ARCHIVE}: {tried}. Remedy: download it (sha256 {ARCHIVE_SHA256}) from "
            "https://pypi.org/project/vaderSentiment/0.5/#files and set ZYNQBERT_DATA to its folder"
        )


@dataclass(frozen=True)
class Example:
    """One sentence; `label` indexes LABELS."""

    text: str
    label: int


def movie_reviews(split: str, *, offline: bool = False) -> list[Example]:
    """The movie reviews of one split, "train", "dev" or "test": 6,798, 1,000 and 2,272 sentences of ~19 words.

    Rows with |rating| < 0.5 are left out; the order is that of the texts' hashes, so a prefix is a fair sample.
    Raises ValueError for an unknown split, DataUnavailable where the archive cannot be had or is not the one expected
    (with `offline`, nothing is downloaded).
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {', '.join(SPLITS)}")
    return [e for e in _reviews(archive(offline=offline)) if split_of(e.text) == split]


def own_sentences() -> list[Example]:
    """24 short sentences in the manner of movie reviews, written for this project; they need no download."""
    table = importlib.resources.files(__package__).joinpath("sentences.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines())
    return [Example(text, LABELS.index(label)) for label, text in rows]


def normalise(text: str) -> str:
    """The form in which two texts count as the same: casefolded, each run of white space one blank."""
    return " ".join(text.casefold().split())


def split_of(text: str) -> str:
    """The split of a text, from the first 8 bytes of the sha256 of its normal form: 23 % test, 10 % dev, rest train."""
    percent = int.from_bytes(_digest(text)[:8], "big") % 100
    if percent < _TEST_PERCENT:
        return "test"
    return "dev" if percent < _TEST_PERCENT + _DEV_PERCENT else "train"


def deduplicate(examples: Iterable[Example]) -> list[Example]:
    """One example per normal form, ordered by hash; a text that occurs with both labels is dropped.

    The result depends on the set of examples alone, not on their order.
    """
    by_text: dict[str, list[Example]] = {}
    for example in examples:
        by_text.setdefault(normalise(example.text), []).append(example)
    kept = [min(same, key=lambda e: e.text) for same in by_text.values() if len({e.label for e in same}) == 1]
    return sorted(kept, key=lambda e: _digest(e.text))


def archive(*, offline: bool = False) -> Path:
    """Path of the checked archive: from ZYNQBERT_DATA if set, else from the cache, else downloaded into the cache.

    Raises DataUnavailable.
    """
    if given := os.environ.get("ZYNQBERT_DATA"):
        path = Path(given) / ARCHIVE
        if not path.is_file():
            raise DataUnavailable(f"not found in {given} (ZYNQBERT_DATA)")
        _check(path.read_bytes(), str(path))
        return path
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zynqbert" / ARCHIVE
    if path.is_file() and _sha256(path.read_bytes()) == ARCHIVE_SHA256:
        return path
    if offline:
        raise DataUnavailable(f"not in the cache {path.parent}, and offline")
    content = _download()
    partial = path.with_name(f"{ARCHIVE}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise DataUnavailable(f"cannot write the cache {path.parent}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _download() -> bytes:
    """The archive's bytes, found through the PEP 503 index and checked."""
    index = os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
    if "@" in urllib.parse.urlsplit(index).netloc:
        raise DataUnavailable("PIP_INDEX_URL carries a user name, which is not supported here")
    page = index.rstrip("/") + "/vadersentiment/"
    cafile = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=cafile)

        def get(url: str) -> tuple[str, bytes]:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S, context=context) as reply:
                return reply.url, reply.read()

        base, listing = get(page)
        hrefs = map(html.unescape, re.findall(r"""href\s*=\s*["']([^"']+)""", listing.decode(), re.IGNORECASE))
        urls = [urllib.parse.urldefrag(urllib.parse.urljoin(base, href)).url for href in hrefs]
        url = next((u for u in urls if u.rpartition("/")[2] == ARCHIVE), None)
        if url is None:
            raise DataUnavailable(f"not listed at {page}")
        content = get(url)[1]
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataUnavailable(f"cannot be downloaded through {page}: {error}") from error
    _check(content, url)
    return content


def _check(content: bytes, origin: str) -> None:
    if _sha256(content) != ARCHIVE_SHA256:
        raise DataUnavailable(f"{origin} has sha256 {_sha256(content)}, expected {ARCHIVE_SHA256}")


@functools.lru_cache(maxsize=1)
def _reviews(path: Path) -> tuple[Example, ...]:
    with zipfile.ZipFile(path) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(_TAR))) as inner:
        table = inner.extractfile(_REVIEWS).read().decode("utf-8")
    rows = (line.split("\t") for line in table.split("\r\n") if line)
    rated = ((float(rating), html.unescape(text).strip()) for _, rating, text in rows)
    return tuple(deduplicate(Example(text, int(rating > 0)) for rating, text in rated if abs(rating) >= _MIN_RATING))


def _digest(text: str) -> bytes:
    return hashlib.sha256(normalise(text).encode()).digest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
