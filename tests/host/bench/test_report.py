# SPDX-License-Identifier: Apache-2.0
"""The benchmark's report for people: every figure with its source, text of others escaped, nothing loaded."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from fake_board import real_reports
from zynqbert.host.bench import charts
from zynqbert.host.bench.report import page, text

NAMES = ("modelled", "measured", "lost")


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return real_reports(tmp_path_factory.mktemp("reports"))


class Tags(HTMLParser):
    """The tags of a page, and the text outside of style and drawings' descriptions."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"style", "desc"} & {*self.open}:
            self.text.append(data)


class TestText:
    @pytest.mark.parametrize("name", NAMES)
    def test_every_figure_and_its_source(self, reports, name):
        lines = text(reports[name]).splitlines()
        for figure in reports[name]["figures"].values():
            value = "not known" if figure["value"] is None else f"{figure['value']:.4g} {figure['unit']}"
            if figure["value"] is None or abs(figure["value"]) < 1000:
                assert any(value in line and f"  {figure['source']}" in line for line in lines), value
        assert sum(line.endswith("published") for line in lines) == 2

    def test_why_a_figure_is_not_known(self, reports):
        (line, *_) = (line for line in text(reports["lost"]).splitlines() if "not known" in line)
        assert "the sensor u76 VCCPSINTFP was lost after" in line

    def test_notes_are_told(self, reports):
        assert "note: the zcu102 is emulated: time, power and energy are modelled" in text(reports["modelled"])


@pytest.mark.parametrize("name", NAMES)
class TestPage:
    def test_what_others_wrote_is_text(self, reports, name):
        """File, folder and sentence hold tags (tests/support/fake_board.py), which must not become the page's."""
        content = Tags(page(reports[name]))
        assert {"script", "img", "b"}.isdisjoint(tag for tag, _ in content.tags)
        said = "".join(content.text)
        for given in ("<script>alert(1)</script>", "<b>model</b>", "</td><img src=x onerror=alert(2)>.txt"):
            assert given in said

    def test_labels_and_notes_are_text_too(self, reports, name):
        report = reports[name] | {"notes": ["<i>note</i>"], "versions": {"<u>x": "1"}}
        report["settings"] = report["settings"] | {"labels": ["<s>good", "&amp;"], "device": "<q>"}
        content = Tags(page(report))
        assert {"i", "u", "s", "q"}.isdisjoint(tag for tag, _ in content.tags)
        assert "<s>good, &amp;" in "".join(content.text)

    def test_nothing_is_loaded(self, reports, name):
        content = Tags(page(reports[name]))
        for tag, attributes in content.tags:
            for key, value in attributes.items():
                assert not key.startswith("on"), (tag, key)
                if key in ("src", "href", "action", "data"):
                    assert value.startswith("data:"), (tag, value)
        assert not re.search(r"@import|url\(", page(reports[name]))

    def test_every_figure_has_a_row_that_says_its_source(self, reports, name):
        rows = dict(re.findall(r'<tr data-figure="([^"]+)">(.*?)</tr>', page(reports[name])))
        for figure, found in reports[name]["figures"].items():
            if found["value"] is None:
                assert "not known" in rows[figure] and found["why"] in rows[figure]
            else:
                assert f'<span class="source {found["source"]}">{found["source"]}</span>' in rows[figure]

    def test_drawings_say_what_they_show(self, reports, name):
        drawings = re.findall(r"<svg.*?</svg>", page(reports[name]))
        assert len(drawings) == (4 if name == "lost" else 5)
        for drawing in drawings:
            root = ElementTree.fromstring(drawing)
            space = "{http://www.w3.org/2000/svg}"
            assert root.get("role") == "img" and root.get("aria-label")
            assert root.find(f"{space}title").text and root.find(f"{space}desc").text


class TestPageOfItsKind:
    def test_a_model_never_looks_measured(self, reports):
        said = "".join(Tags(page(reports["modelled"])).text)
        assert "Modelled: there was no board." in said and "Measured on a board" not in said
        assert "Power by part, engine busy (modelled)" in said and "Power over time" not in said

    def test_a_measurement_shows_its_sensors(self, reports):
        said = "".join(Tags(page(reports["measured"])).text)
        assert "Measured on a board" in said and "modelled" not in said
        assert "u79 VCCINT (PL)" in said and "Power over time (measured)" in said

    def test_published_figures_say_so_and_their_length(self, reports):
        said = "".join(Tags(page(reports["modelled"])).text)
        assert "FQ-BERT, zcu102, BERT-base, 128 tokens (published)" in said and "2.32 fps/W" in said
        assert "3.18 fps/W" in said and "Another model and length than this run's" in said

    def test_no_sensors_at_all(self, reports):
        none = {"value": None, "unit": "W", "source": "measured", "why": "no <sensors>"}
        figures = {k: none if "power" in k else v for k, v in reports["lost"]["figures"].items()}
        found = page(reports["lost"] | {"figures": figures, "sampling": None, "power_over_time": None})
        assert "Not known: no &lt;sensors&gt;." in found and "Power sensors" not in found


class TestCharts:
    @pytest.mark.parametrize(
        "low, high, expected",
        [
            (0, 10, [0, 2, 4, 6, 8, 10]),
            (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
            (0.72, 1.03, [0.8, 0.9, 1.0]),
            (-3, 4, [-2, 0, 2, 4]),
            (5, 5, [5]),
            (0, 1.2e-3, [0, 0.0005, 0.001]),
        ],
    )
    def test_ticks_are_round(self, low, high, expected):
        assert charts.ticks(low, high) == expected

    def test_a_line_breaks_where_nothing_is_known(self):
        assert charts.unbroken([1, 2, 3, 4, 5], [None, 7, None, 8, 9]) == [[(2, 7)], [(4, 8), (5, 9)]]
        assert charts.unbroken([1], [None]) == []
        drawing = charts.lines("t", [1, 2, 3], {"PL": [1, None, 2], "PS": [None] * 3}, ("s", "W"), [("idle", 1, 2)])
        assert drawing.count("<polyline") == 2

    @pytest.mark.parametrize(
        "value, expected",
        [(0, "0"), (12345.6, "12346"), (0.72381, "0.7238"), (1, "1"), (999.96, "1000"), (-0.02, "-0.02")],
    )
    def test_four_digits(self, value, expected):
        assert charts.four_digits(value) == expected

    def test_bars_are_as_long_as_their_values(self):
        drawing = ElementTree.fromstring(charts.bars("t", "W", [("a", 4.0, True), ("<b>", 1.0, False)]))
        widths = [float(rect.get("width")) for rect in drawing.iter("{http://www.w3.org/2000/svg}rect")]
        assert widths[0] == pytest.approx(4 * widths[1], abs=0.4)  # a tenth of a pixel is kept

    def test_one_value_alone(self):
        for drawing in (
            charts.histogram("t", "ms", [0.5, 1.5], [1], {"p50": 1.0}),
            charts.points("t", [3], [0.0], ("tokens", "mJ")),
            charts.bars("t", "W", [("a", 0.0, True)]),
            charts.lines("t", [1.0], {"PL": [2.0]}, ("s", "W"), []),
        ):
            assert "nan" not in drawing and ElementTree.fromstring(drawing) is not None
