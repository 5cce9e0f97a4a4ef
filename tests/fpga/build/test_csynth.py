# SPDX-License-Identifier: Apache-2.0
"""Reports of C synthesis: read in the tool's structure, held against what is wanted, set beside the assumptions.

The samples are in the form of reports of Vitis HLS 2024.2; their figures are made up.
"""

import json
import os
import shutil
import subprocess

import pytest
from fake_vitis import install
from zynqbert.fpga.assumptions import DEPTHS, LABELS, assumed
from zynqbert.fpga.boards import board_named
from zynqbert.fpga.build.csynth import ReportedLoop, ReportError, read_report
from zynqbert.fpga.build.evidence import assumptions, summary
from zynqbert.fpga.build.gate import budget_ns, failures, reachable_mhz
from zynqbert.fpga.build.hls import REPORTS, Component, configuration
from zynqbert.fpga.build.source import UNITS, pipelines_of
from zynqbert.fpga.simulator import ROOT

# The top's own loops, a module's, nested ones and ranges; the nested module's file repeats a loop and has one more.
CSYNTH = """<profile>
<ReportVersion><Version>2024.2</Version></ReportVersion>
<UserAssignments><unit>ns</unit><Part>xczu9eg-ffvb1156-2-e</Part><TopModelName>engine_x</TopModelName>
<TargetClockPeriod>3.33</TargetClockPeriod><ClockUncertainty>0.90</ClockUncertainty></UserAssignments>
<PerformanceEstimates><PipelineType>no</PipelineType>
<SummaryOfTimingAnalysis><unit>ns</unit><EstimatedClockPeriod>2.271</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit><Best-caseLatency>3</Best-caseLatency>
<Worst-caseLatency>99</Worst-caseLatency><Interval-min>4</Interval-min></SummaryOfOverallLatency>
<SummaryOfLoopLatency>
<outer><Slack>2.43</Slack><TripCount>32</TripCount><Latency>undef</Latency><IterationLatency>undef</IterationLatency>
<PipelineII/><InstanceList/>
<inner><TripCount>inf</TripCount><Latency>1 ~ 5</Latency><PipelineII>2</PipelineII><PipelineDepth>7</PipelineDepth>
</inner></outer></SummaryOfLoopLatency></PerformanceEstimates>
<AreaEstimates><Resources><BRAM_18K>1</BRAM_18K><DSP>2</DSP><FF>3</FF><LUT>4</LUT><URAM>5</URAM></Resources>
<AvailableResources><BRAM_18K>10</BRAM_18K><DSP>20</DSP><FF>30</FF><LUT>40</LUT><URAM>0</URAM></AvailableResources>
</AreaEstimates>
<InterfaceSummary>
<RtlPorts><name>data_TDATA</name><Object>data</Object><IOProtocol>axis</IOProtocol><Bits>16</Bits></RtlPorts>
<RtlPorts><name>ap_clk</name><Object>engine_x</Object><IOProtocol>ap_ctrl_none</IOProtocol><Bits>1</Bits></RtlPorts>
</InterfaceSummary>
<RTLDesignHierarchy><TopModule><ModuleName>engine_x</ModuleName><InstancesList>
<Instance><ModuleName>f</ModuleName><InstancesList><Instance><ModuleName>g</ModuleName></Instance></InstancesList>
</Instance><Instance><ModuleName>g</ModuleName></Instance></InstancesList></TopModule></RTLDesignHierarchy>
<ModuleInformation><Module><Name>f_Pipeline_a</Name><Loops><a/></Loops><PerformanceEstimates>
<SummaryOfOverallLatency><PipelineInitiationInterval>1 ~ 3</PipelineInitiationInterval></SummaryOfOverallLatency>
<SummaryOfLoopLatency><a><Name>a</Name><TripCount><range><min>1</min><max>512</max></range></TripCount>
<Latency><range><min>3</min><max>514</max></range></Latency><PipelineII>1</PipelineII>
<PipelineDepth>3</PipelineDepth><PipelineType>yes</PipelineType></a></SummaryOfLoopLatency></PerformanceEstimates>
</Module></ModuleInformation></profile>
"""
SUB = """<profile><UserAssignments><TopModelName>{name}</TopModelName></UserAssignments><PerformanceEstimates>
<SummaryOfOverallLatency><Interval-max>12</Interval-max></SummaryOfOverallLatency><SummaryOfLoopLatency>
<{loop}><TripCount>4</TripCount><Latency>9</Latency><PipelineII>1</PipelineII><PipelineDepth>6</PipelineDepth></{loop}>
</SummaryOfLoopLatency></PerformanceEstimates></profile>
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "csynth.xml").write_text(CSYNTH)
    (tmp_path / "f_Pipeline_a_csynth.xml").write_text(SUB.format(name="f_Pipeline_a", loop="a"))
    (tmp_path / "g_Pipeline_b_csynth.xml").write_text(SUB.format(name="g_Pipeline_b", loop="b"))
    return tmp_path


def test_figures_of_the_report(folder):
    report = read_report(folder)
    assert (report.top, report.version, report.part) == ("engine_x", "2024.2", "xczu9eg-ffvb1156-2-e")
    assert (report.target_ns, report.uncertainty_ns, report.estimated_ns) == (3.33, 0.9, 2.271)
    assert (report.latency, report.protocol) == ((3, 99), "ap_ctrl_none")
    assert report.resources == {"BRAM_18K": 1, "DSP": 2, "FF": 3, "LUT": 4, "URAM": 5}
    assert report.available == {"BRAM_18K": 10, "DSP": 20, "FF": 30, "LUT": 40, "URAM": 0}
    assert report.modules == {"f_Pipeline_a": 3, "g_Pipeline_b": 12}
    assert report.instances == {"f": 1, "g": 2}
    assert report.ports == {"data_TDATA": 16, "ap_clk": 1}


def test_loops_of_top_modules_and_files_of_their_own(folder):
    assert read_report(folder).loops == (
        ReportedLoop("engine_x", "outer", None, None, (32, 32), None),
        ReportedLoop("engine_x", "inner", 2, 7, None, (1, 5)),
        ReportedLoop("f_Pipeline_a", "a", 1, 3, (1, 512), (3, 514)),
        ReportedLoop("g_Pipeline_b", "b", 1, 6, (4, 4), (9, 9)),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<EstimatedClockPeriod>2.271</EstimatedClockPeriod>", "", "SummaryOfTimingAnalysis/EstimatedClockPeriod"),
        (">2.271<", ">undef<", "EstimatedClockPeriod is 'undef', no number"),
        ("<DSP>2</DSP>", "", "has no AreaEstimates/Resources/DSP"),
        ("<Name>f_Pipeline_a</Name>", "", "has no Name"),
        ("</profile>", "", "no readable report"),
    ],
)
def test_a_report_without_a_figure_names_file_and_figure(folder, old, new, message):
    (folder / "csynth.xml").write_text(CSYNTH.replace(old, new))
    with pytest.raises(ReportError, match=f"csynth.xml: .*{message}"):
        read_report(folder)


def test_a_missing_report_names_the_remedy(tmp_path):
    with pytest.raises(ReportError, match=r"csynth\.xml: not there; remedy: "):
        read_report(tmp_path)


# The gate, on reports as the stub of the tool writes them.


@pytest.fixture
def synthesised(tmp_path):
    """A function that synthesises a unit with the stub, told how to go wrong: (report, component, pipelines)."""

    compiler = install(tmp_path / "bin", "v++") / "v++"

    def make(unit: str, board: str = "zcu102", mhz: float = 300, **fake):
        component = Component(unit, board_named(board), mhz)
        (tmp_path / "hls_config.cfg").write_text(configuration(component))
        shutil.rmtree(tmp_path / "csynth", ignore_errors=True)
        command = [compiler, "-c", "--mode", "hls", "--config", "hls_config.cfg", "--work_dir", "csynth"]
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "ZQ_FAKE": json.dumps(fake)}, check=True)
        return read_report(tmp_path / REPORTS), component, pipelines_of(unit, ROOT)

    return make


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_as_wanted_passes(synthesised, unit):
    assert failures(*synthesised(unit)) == []


@pytest.mark.parametrize(
    ("unit", "fake", "lines"),
    [
        (
            "engine_vector",
            {"ii": {"vector_turn": 2}},
            ["engine_vector: loop vector_turn of vector_to_values_Pipeline_vector_turn: found II 2, wanted II 1"],
        ),
        (
            "engine_store",  # the name of a flattened loop
            {"ii": {"store_words_store_beats": 4}},
            [
                "engine_store: loop store_words_store_beats of store_unit_beat_s_Pipeline_store_words_store_beats: "
                "found II 4, wanted II 1"
            ],
        ),
        (
            "engine_fetch",  # a loop that stands in its module's own file alone
            {"ii": {"read_instruction": "undef"}},
            [
                "engine_fetch: loop read_instruction of read_instruction_beat_s_Pipeline_read_instruction: "
                "found II none, wanted II 1"
            ],
        ),
        (
            "engine_load",
            {"missing": ["load_words"]},
            [
                "engine_load: loop load_words: found 0 times in the report, wanted 1 (load_words), each with II 1",
            ],
        ),
        (
            "engine_vector",  # three loops of one label, each of which must be there
            {"missing": ["vector_linear"]},
            [
                "engine_vector: loop vector_linear: found 0 times in the report, wanted 3 "
                "(vector_to_activation, vector_to_io, vector_to_residual), each with II 1",
            ],
        ),
        (
            "engine_vector",
            {"ii": {"requantize_word": 2}},
            ["engine_vector: function requantize_word: found II 2, wanted II 1"],
        ),
        (
            "engine_vector",
            {"missing": ["requantize_word"]},
            ["engine_vector: function requantize_word: not in the report, wanted II 1"],
        ),
        (
            "engine_array",
            {"protocol": "ap_ctrl_hs"},
            ["engine_array: block-level protocol: found ap_ctrl_hs, wanted ap_ctrl_none"],
        ),
        (
            "engine_fetch",
            {"protocol": "ap_ctrl_none"},
            ["engine_fetch: block-level protocol: found ap_ctrl_none, wanted ap_ctrl_hs"],
        ),
        (
            "engine_array",
            {"estimated": 2.9},
            [
                "engine_array: estimated clock period: found 2.900 ns, wanted at most 2.433 ns (3.333 ns less 27 %); "
                "remedy: --clock-mhz 251 or less"
            ],
        ),
    ],
)
def test_each_failure_is_a_line(synthesised, unit, fake, lines):
    assert failures(*synthesised(unit, **fake)) == lines


def test_one_of_three_loops_of_a_label_missing(synthesised, tmp_path):
    _, component, pipelines = synthesised("engine_vector")
    reports = tmp_path / REPORTS
    (reports / "vector_to_io_Pipeline_vector_linear_csynth.xml").unlink()
    text = (reports / "csynth.xml").read_text()
    start = text.index("<Name>vector_to_io_Pipeline_vector_linear</Name>")
    cut = text[: text.rindex("<Module>", 0, start)] + text[text.index("</Module>", start) + len("</Module>") :]
    (reports / "csynth.xml").write_text(cut)
    (line,) = failures(read_report(reports), component, pipelines)
    assert "loop vector_linear: found 2 times in the report, wanted 3" in line


def test_every_failure_is_told(synthesised):
    lines = failures(*synthesised("engine_load", ii={"load_embedding_beats": 2}, missing=["load_words"], estimated=9))
    assert len(lines) == 3


def test_the_period_passes_up_to_the_budget(synthesised):
    """The share of the uncertainty, 27 %, is kept for wires."""
    assert failures(*synthesised("engine_array", mhz=250, estimated=2.92)) == []
    assert len(failures(*synthesised("engine_array", mhz=250, estimated=2.93))) == 1
    report, component, _ = synthesised("engine_array", mhz=250, estimated=2.5)
    assert budget_ns(component) == 2.92
    assert reachable_mhz(report) == 292


def test_a_report_of_another_clock_board_or_unit_is_no_proof(synthesised):
    report, component, pipelines = synthesised("engine_array")
    other = Component("engine_array", board_named("zcu111"), 300)
    (line,) = failures(report, other, pipelines)
    assert line == "engine_array: part: found xczu9eg-ffvb1156-2-e, wanted xczu28dr-ffvg1517-2-e"
    lines = failures(report, Component("engine_array", component.board, 250), pipelines)
    assert lines == [
        "engine_array: clock period of the report: found 3.33 ns, wanted 4.00 ns",
        "engine_array: clock uncertainty of the report: found 0.90 ns, wanted 1.08 ns",
    ]
    assert "engine_store: top function: found engine_array, wanted engine_store" in failures(
        report, Component("engine_store", component.board, 300), pipelines_of("engine_store", ROOT)
    )


def test_assumptions_beside_what_the_report_says(synthesised):
    report, _, pipelines = synthesised("engine_load")
    rows = {row["name"]: row for row in assumptions(report, pipelines)}
    assert set(rows) == {"clock_mhz", "ii"} | {
        f"depth.{loop}" for loop in DEPTHS if loop.startswith("load_") and loop != "load_weights"
    }
    assert rows["clock_mhz"] == {
        "id": "A01", "name": "clock_mhz", "assumed": 250, "found": 321.4, "unit": "MHz", "verdict": "confirmed",
    }  # fmt: skip
    assert (rows["ii"]["found"], rows["ii"]["verdict"]) == (1, "confirmed")
    assert (rows["depth.load_embedding"]["found"], rows["depth.load_embedding"]["verdict"]) == (9, "contradicted")
    # one loop stands for three of the cycle model
    for loop in ("load_parameters", "load_table", "load_rows"):
        assert rows[f"depth.{loop}"]["found"] == 3


def test_the_weights_report_speaks_of_the_ports_and_of_its_loop(synthesised):
    report, _, pipelines = synthesised("engine_weights")
    rows = {row["name"]: row for row in assumptions(report, pipelines)}
    assert (rows["port_bytes"]["found"], rows["port_bytes"]["verdict"]) == (16, "confirmed")
    assert (rows["depth.load_weights"]["found"], rows["depth.load_weights"]["verdict"]) == (6, "confirmed")


def test_what_the_report_does_not_say_is_said(synthesised):
    report, _, pipelines = synthesised("engine_vector", missing=["gather", "requantize_word"])
    rows = {row["name"]: row for row in assumptions(report, pipelines)}
    for name in ("depth.gather", "one_requantizer"):
        assert (rows[name]["found"], rows[name]["verdict"]) == (None, "not in this report")
    report, _, pipelines = synthesised("engine_fetch")
    rows = {row["name"]: row for row in assumptions(report, pipelines)}
    assert rows["fetch_command_cycles"]["verdict"] == "not in this report"


def test_vector_unit_speaks_for_dsps_and_the_requantizer(synthesised):
    report, _, pipelines = synthesised("engine_vector", ii={"gather": 2})
    rows = {row["name"]: row for row in assumptions(report, pipelines)}
    assert (rows["one_requantizer"]["found"], rows["one_requantizer"]["verdict"]) == (1, "confirmed")
    assert rows["mantissa_products_in_luts"]["found"] == 310
    assert rows["mantissa_products_in_luts"]["verdict"] == "contradicted"
    assert (rows["ii"]["found"], rows["ii"]["verdict"]) == (2, "contradicted")


def test_every_pipeline_depth_of_the_models_is_answered_by_one_unit():
    owners = [
        unit
        for unit in UNITS
        for loop in DEPTHS
        if any(p.label == LABELS.get(loop, loop) for p in pipelines_of(unit, ROOT).loops)
    ]
    assert len(owners) == len(DEPTHS)


def test_summary_is_json_with_loops_assumptions_and_failures(synthesised):
    report, component, pipelines = synthesised("engine_store", "zcu111", ii={"store_words_store_beats": 2})
    failed = failures(report, component, pipelines)
    text = summary(report, component, pipelines, failed)
    assert json.loads(json.dumps(text))["failures"] == failed
    assert (text["unit"], text["board"], text["clock_mhz"]) == ("engine_store", "zcu111", 300)
    assert text["loops"] == [
        {
            "module": "store_unit_beat_s_Pipeline_store_words_store_beats",
            "loop": "store_words_store_beats",
            "ii": 2,
            "depth": 9,
            "trips": (0, 1024),
            "latency": (0, 1030),
        }
    ]
    depth = next(row for row in text["assumptions"] if row["name"] == "depth.store_words")
    assert (depth["assumed"], depth["found"]) == (assumed("depth.store_words"), 9)
