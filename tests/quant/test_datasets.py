# SPDX-License-Identifier: Apache-2.0
import functools
import hashlib
import http.server
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from zynqbert.quant import datasets
from zynqbert.quant.datasets import LABELS, SPLITS, DataUnavailable, Example, deduplicate, normalise, split_of

COUNTS = {"train": (3391, 3407), "dev": (534, 466), "test": (1150, 1122)}  # negative, positive


@pytest.fixture(scope="module")
def reviews() -> dict[str, list[Example]]:
    try:
        return {split: datasets.movie_reviews(split) for split in SPLITS}
    except DataUnavailable as error:
        pytest.skip(f"movie reviews not available: {error}")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the test's own, no ZYNQBERT_DATA, no proxy, and an index that does not answer."""
    monkeypatch.delenv("ZYNQBERT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "zynqbert"


@pytest.fixture
def index(tmp_path, cache, monkeypatch):
    """A local PEP 503 index whose archive has the bytes b"archive"; yields the folder it serves."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    root = tmp_path / "index"
    (root / "simple" / "vadersentiment").mkdir(parents=True)
    (root / "files").mkdir()
    (root / "files" / datasets.ARCHIVE).write_bytes(b"archive")
    (root / "simple" / "vadersentiment" / "index.html").write_text(
        '<a href="../../files/vaderSentiment-0.5.tar.gz">no</a>\n'
        f"<A data-requires-python='&gt;=3' HREF='../../files/{datasets.ARCHIVE}#sha256=0'>yes</A>"
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    yield root
    server.shutdown()
    server.server_close()


def expect(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(datasets, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())


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


def test_unknown_split():
    with pytest.raises(ValueError, match="'validation' is none of train, dev, test"):
        datasets.movie_reviews("validation")


def test_offline_names_file_place_and_remedy(cache):
    with pytest.raises(DataUnavailable) as caught:
        datasets.movie_reviews("dev", offline=True)
    for part in (datasets.ARCHIVE, str(cache), "offline", "Remedy", "ZYNQBERT_DATA", datasets.ARCHIVE_SHA256):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreachable_index_names_the_address(cache):
    with pytest.raises(DataUnavailable, match=r"http://127\.0\.0\.1:9/simple/vadersentiment/.*Remedy"):
        datasets.archive()


def test_index_with_password_is_refused_without_showing_it(cache, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@127.0.0.1:9/simple")
    with pytest.raises(DataUnavailable, match="user name") as caught:
        datasets.archive()
    assert "secret" not in str(caught.value)


def test_missing_certificates_are_reported(cache, monkeypatch):
    monkeypatch.setenv("PIP_CERT", "/nowhere/ca.pem")
    with pytest.raises(DataUnavailable, match="cannot be downloaded"):
        datasets.archive()


def test_download_once_then_from_the_cache(index, cache, monkeypatch):
    expect(monkeypatch, b"archive")
    path = datasets.archive()
    assert path == cache / datasets.ARCHIVE
    (index / "files" / datasets.ARCHIVE).unlink()
    assert datasets.archive() == datasets.archive(offline=True) == path
    assert list(cache.iterdir()) == [path]  # no temporary file is left


def test_damaged_cache_is_replaced(index, cache, monkeypatch):
    expect(monkeypatch, b"archive")
    cache.mkdir(parents=True)
    (cache / datasets.ARCHIVE).write_bytes(b"arch")
    with pytest.raises(DataUnavailable):
        datasets.archive(offline=True)
    assert datasets.archive().read_bytes() == b"archive"


def test_hash_mismatch_of_a_download_leaves_nothing(index, cache):
    with pytest.raises(DataUnavailable, match=f"/files/{datasets.ARCHIVE} has sha256 .*, expected 5d97c37f"):
        datasets.archive()
    assert not cache.exists()


def test_hash_mismatch_of_a_given_file(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("ZYNQBERT_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match="not found in"):
        datasets.archive()
    (tmp_path / datasets.ARCHIVE).write_bytes(b"other")
    with pytest.raises(DataUnavailable, match=r"has sha256 .*, expected 5d97c37f"):
        datasets.archive()
    expect(monkeypatch, b"other")
    assert datasets.archive() == tmp_path / datasets.ARCHIVE


def test_archive_missing_from_the_index(index):
    (index / "simple" / "vadersentiment" / "index.html").write_text('<a href="x.zip">x</a>')
    with pytest.raises(DataUnavailable, match="not listed at"):
        datasets.archive()


def test_needs_only_the_standard_library():
    code = (
        "import sys; import zynqbert.quant.datasets;"
        "print(*{m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "transformers", "tokenizers"} & set(loaded)
