# SPDX-License-Identifier: Apache-2.0
"""Data archives: from the cache, a given folder or a local index, always by their sha256."""

import dataclasses
import functools
import hashlib
import http.server
import threading
from pathlib import Path

import pytest
from zynqbert.quant.archives import Archive, DataUnavailable

ARCHIVE = Archive("someProject", "1.2", "someProject-1.2.zip", hashlib.sha256(b"archive").hexdigest())
OTHER = dataclasses.replace(ARCHIVE, sha256=hashlib.sha256(b"other").hexdigest())


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
    (root / "simple" / "someproject").mkdir(parents=True)
    (root / "files").mkdir()
    (root / "files" / ARCHIVE.file).write_bytes(b"archive")
    (root / "simple" / "someproject" / "index.html").write_text(
        '<a href="../../files/someProject-1.2.tar.gz">no</a>\n'
        f"<A data-requires-python='&gt;=3' HREF='../../files/{ARCHIVE.file}#sha256=0'>yes</A>"
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    yield root
    server.shutdown()
    server.server_close()


def test_offline_names_file_place_and_remedy(cache):
    with pytest.raises(DataUnavailable) as caught:
        ARCHIVE.path(offline=True)
    page = "https://pypi.org/project/someProject/1.2/#files"
    for part in (ARCHIVE.file, str(cache), "offline", "Remedy", "ZYNQBERT_DATA", ARCHIVE.sha256, page):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreachable_index_names_the_address(cache):
    with pytest.raises(DataUnavailable, match=r"http://127\.0\.0\.1:9/simple/someproject/.*Remedy"):
        ARCHIVE.path()


def test_index_with_password_is_refused_without_showing_it(cache, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:secret@127.0.0.1:9/simple")
    with pytest.raises(DataUnavailable, match="user name") as caught:
        ARCHIVE.path()
    assert "secret" not in str(caught.value)


def test_missing_certificates_are_reported(cache, monkeypatch):
    monkeypatch.setenv("PIP_CERT", "/nowhere/ca.pem")
    with pytest.raises(DataUnavailable, match="cannot be downloaded"):
        ARCHIVE.path()


def test_download_once_then_from_the_cache(index, cache):
    path = ARCHIVE.path()
    assert path == cache / ARCHIVE.file
    (index / "files" / ARCHIVE.file).unlink()
    assert ARCHIVE.path() == ARCHIVE.path(offline=True) == path
    assert list(cache.iterdir()) == [path]  # no temporary file is left


def test_damaged_cache_is_replaced(index, cache):
    cache.mkdir(parents=True)
    (cache / ARCHIVE.file).write_bytes(b"arch")
    with pytest.raises(DataUnavailable):
        ARCHIVE.path(offline=True)
    assert ARCHIVE.path().read_bytes() == b"archive"


def test_hash_mismatch_of_a_download_leaves_nothing(index, cache):
    with pytest.raises(DataUnavailable, match=f"/files/{ARCHIVE.file} has sha256 .*, expected {OTHER.sha256}"):
        OTHER.path()
    assert not cache.exists()


def test_hash_mismatch_of_a_given_file(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("ZYNQBERT_DATA", str(tmp_path))
    with pytest.raises(DataUnavailable, match="not found in"):
        ARCHIVE.path()
    (tmp_path / ARCHIVE.file).write_bytes(b"other")
    with pytest.raises(DataUnavailable, match=f"has sha256 .*, expected {ARCHIVE.sha256}"):
        ARCHIVE.path()
    assert OTHER.path() == tmp_path / ARCHIVE.file
    assert not cache.exists()


def test_an_unwritable_cache_is_reported(index, cache):
    (cache / ARCHIVE.file / "in the way").mkdir(parents=True)
    with pytest.raises(DataUnavailable, match="cannot write the cache"):
        ARCHIVE.path()
    assert list(cache.iterdir()) == [cache / ARCHIVE.file]


def test_archive_missing_from_the_index(index):
    (index / "simple" / "someproject" / "index.html").write_text('<a href="x.zip">x</a>')
    with pytest.raises(DataUnavailable, match="not listed at"):
        ARCHIVE.path()
