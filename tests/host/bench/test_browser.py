# SPDX-License-Identifier: Apache-2.0
"""The benchmark's page in a real browser: nothing but the file is asked for, every figure can be read, nothing sticks
out, and drawings have a size.

Needs Chromium ($ZYNQBERT_CHROMIUM, or on PATH); without it skipped, or failed where ZYNQBERT_NEED_BROWSER is set.
"""

import os
import re
import shutil

import pytest
from fake_board import real_reports
from zynqbert.host.bench.report import page as page_of

NAMES = ("modelled", "measured", "lost")
FLAGS = (
    *("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
# Text that has a place on the page, one entry an element that holds text itself.
SHOWN = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (box.width > 0 && box.height > 0) found.push(walker.currentNode.textContent);
  }
  return found;
}"""


def chromium() -> str:
    """The browser's executable; skips or fails where there is none."""
    candidates = (os.environ.get("ZYNQBERT_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in candidates if name and (path := shutil.which(name))), None)
    if found is None:
        reason = "no Chromium: install it (Debian: apt-get install chromium), or set ZYNQBERT_CHROMIUM"
        (pytest.fail if os.environ.get("ZYNQBERT_NEED_BROWSER") else pytest.skip)(reason)
    return found


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A browser with a profile of its own."""
    executable = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=executable, headless=True, args=list(FLAGS)
        )
        yield context
        context.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return real_reports(tmp_path_factory.mktemp("reports"))


@pytest.fixture(params=NAMES)
def opened(context, reports, tmp_path, request):
    """The page of a report in the browser, the report, and what the browser had to say or asked for."""
    path = tmp_path / "bench.html"
    path.write_text(page_of(reports[request.param]), encoding="utf-8")
    page, heard = context.new_page(), []
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("requestfailed", lambda asked: heard.append(f"failed: {asked.url}"))
    page.on("request", lambda asked: asked.url == path.as_uri() or heard.append(f"request: {asked.url}"))
    page.goto(path.as_uri(), wait_until="load")
    yield page, reports[request.param], heard
    page.close()


def figures_of(found):
    """Every figure anywhere in a report: what has a value, a unit and a source."""
    if isinstance(found, dict):
        if {"value", "unit", "source"} <= set(found):
            yield found
        else:
            for part in found.values():
                yield from figures_of(part)
    elif isinstance(found, list):
        for part in found:
            yield from figures_of(part)


def test_nothing_is_asked_for_and_nothing_complains(opened):
    page, _, heard = opened
    assert heard == [] and page.title().startswith("zynqbert on ")


def test_every_figure_can_be_read(opened):
    page, report, _ = opened
    shown = page.evaluate(SHOWN)
    numbers = [(float(number), unit) for text in shown for number, unit in re.findall(r"(-?\d[\d.e-]*) ([\w/]+)", text)]
    found = list(figures_of(report))
    assert len(found) > 30
    for figure in found:
        if figure["value"] is None:
            assert "not known" in shown and any(figure["why"] in text for text in shown)
        else:
            # four digits are shown
            near = 5.01e-4 * abs(figure["value"])
            assert any(unit == figure["unit"] and abs(n - figure["value"]) <= near for n, unit in numbers), figure


def test_every_row_of_figures_says_its_source(opened):
    page, report, _ = opened
    for name, figure in report["figures"].items():
        cells = page.locator(f'tr[data-figure="{name}"] td').all_inner_texts()
        assert cells[1] == ("" if figure["value"] is None else figure["source"])


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_sticks_out(opened, width):
    page, _, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = "e => [...document.querySelectorAll('body *')].filter(x => x.getBoundingClientRect().right > innerWidth)"
    assert page.evaluate(f"({beyond})().map(x => x.outerHTML.slice(0, 80))") == []


@pytest.mark.parametrize("width", [400, 1280])
def test_drawings_have_a_size_and_keep_their_text_inside(opened, width):
    page, report, _ = opened
    page.set_viewport_size({"width": width, "height": 900})
    drawings = page.locator("svg").all()
    assert len(drawings) == (4 if report["figures"]["power"]["value"] is None else 5)
    for drawing in drawings:
        box = drawing.bounding_box()
        assert box["width"] > 250 and box["height"] > 50
        outside = drawing.evaluate(
            """svg => { const b = svg.getBoundingClientRect(); return [...svg.querySelectorAll('text')].filter(t => {
              const r = t.getBoundingClientRect();
              return r.left < b.left - 1 || r.right > b.right + 1 || r.top < b.top - 1 || r.bottom > b.bottom + 1;
            }).map(t => t.textContent); }"""
        )
        assert outside == []


def test_it_prints(opened, tmp_path):
    page, _, _ = opened
    page.pdf(path=str(tmp_path / "page.pdf"), format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


class TestWithoutABrowser:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        monkeypatch.delenv("ZYNQBERT_CHROMIUM", raising=False)
        monkeypatch.delenv("ZYNQBERT_NEED_BROWSER", raising=False)

    def test_skipped(self):
        with pytest.raises(pytest.skip.Exception, match="no Chromium: install it"):
            chromium()

    def test_failed_where_one_is_needed(self, monkeypatch):
        monkeypatch.setenv("ZYNQBERT_NEED_BROWSER", "1")
        with pytest.raises(pytest.fail.Exception, match="no Chromium: install it"):
            chromium()
