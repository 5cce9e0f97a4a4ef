# SPDX-License-Identifier: Apache-2.0
"""What the stub vitis-run, v++ and vitis_hls do: check all that they are given, and write what the real ones would.

The reports have the structure of reports of Vitis HLS 2024.2; their figures are made up. Standard library alone.

Environment: ZQ_FAKE_LOG, a file that takes {"argv", "cwd"} of every call as a line of JSON; ZQ_FAKE, JSON of how to
fail:
  fail: "STEP:UNIT" ends with `code` (1)          silent: "STEP:UNIT" ends with 0, having done nothing
  hang: "STEP:UNIT" starts a child, writes both process ids to ZQ_FAKE_LOG.pids and waits
  ii: {LABEL: II}     missing: [LABEL or FUNCTION]     estimated: ns     protocol: block-level protocol
"""

import json
import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FAKE = json.loads(os.environ.get("ZQ_FAKE", "{}"))

# Pipelined loops of each unit, as (function, label) with the label of the report: the tool joins those of flattened
# loops. Written down by hand, so that what the build reads from the source has something to be held against.
LOOPS = {
    "engine_fetch": [
        ("read_instruction_beat_s", "read_instruction"),
        ("read_directory_beat_s", "read_directory"),
        ("read_spans_beat_s", "read_spans"),
    ],
    "engine_load": [
        ("find_neighbours", "load_neighbours"),
        ("load_words_beat_s", "load_words"),
        ("load_embedding_beat_s", "load_embedding_beats"),
    ],
    "engine_weights": [("weights_tile_beat_s", "weights_tile")],
    "engine_expand": [("expand_segment", "expand_words")],
    "engine_array": [("array_mac", "array_mac"), ("array_drain", "array_drain")],
    "engine_vector": [
        ("copy_rows", "vector_copy"),
        ("copy_table", "vector_copy"),
        ("copy_heads", "vector_copy"),
        ("vector_embed", "vector_embed"),
        ("vector_to_activation", "vector_linear"),
        ("vector_to_residual", "vector_linear"),
        ("vector_to_io", "vector_linear"),
        ("vector_to_values", "vector_turn"),
        ("vector_softmax", "vector_scores"),
        ("vector_softmax", "vector_softmax"),
        ("vector_softmax", "vector_reciprocal"),
        ("vector_softmax", "vector_normalize"),
        ("vector_context", "vector_context"),
        ("vector_norm", "norm_statistics"),
        ("vector_norm", "norm_apply"),
        ("vector_gather", "gather"),
        ("vector_to_exit_exit_table_s", "exit_logits"),
        ("decide_exits_exit_table_s", "exit_entropy"),
        ("vector_to_exit_exit_table_s", "exit_record"),
    ],
    "engine_store": [("store_unit_beat_s", "store_words_store_beats")],
}
FUNCTIONS = {"engine_vector": ["requantize_word"]}
OUTER = {"engine_load": [("load_embedding_beat_s", "load_embedding_runs")]}  # loops that are not pipelined
OWN_FILE = ("read_instruction",)  # loops that stand in their module's own file alone
DEPTHS = {"weights_tile": 6, "load_words": 3, "vector_copy": 3, "gather": 20}  # the others: 9
RESOURCES = {"BRAM_18K": 4, "DSP": 310, "FF": 5120, "LUT": 7700, "URAM": 0}


class Refused(Exception):
    """The stub was given something that the real tool would not take."""


def version(argv):
    """Print the banner of the tool called `argv`; a file VERSION beside it says which version it is."""
    called = Path(argv[0])
    number = called.parent / "VERSION"
    text = number.read_text().strip() if number.is_file() else "2024.2"
    print(f"****** {called.name} v{text} (64-bit)\n  **** SW Build 5239630 on 2024-11-10-11:19:46")
    return 0


def vitis_run(argv):
    if argv[1:] == ["--version"]:
        return version(argv)
    note(argv)
    options = parse(argv[1:])
    if options.pop("--mode") != "hls":
        return refuse("--mode is not hls")
    if "--tcl" in options:
        return tcl(options["--tcl"])
    action = next(a for a in ("--csim", "--cosim", "--package") if a in options)
    return act(action.removeprefix("--"), configured(options))


def compiler(argv):
    note(argv)
    options = parse(argv[1:])
    if options.pop("--mode") != "hls" or "-c" not in options:
        return refuse("not -c --mode hls")
    return act("csynth", configured(options))


def vitis_hls(argv):
    if argv[1:] == ["-version"]:
        return version(argv)
    note(argv)
    return tcl(parse(argv[1:])["-f"])


def note(argv):
    if "ZQ_FAKE_LOG" in os.environ:
        with open(os.environ["ZQ_FAKE_LOG"], "a", encoding="utf-8") as log:
            log.write(json.dumps({"argv": [Path(argv[0]).name, *argv[1:]], "cwd": os.getcwd()}) + "\n")


def parse(arguments):
    """Options of a command line; those without a value are True."""
    flags = ("-c", "--csim", "--cosim", "--package")
    options, rest = {}, list(arguments)
    while rest:
        name = rest.pop(0)
        if name not in (*flags, "--mode", "--config", "--work_dir", "--tcl", "-f"):
            raise SystemExit(refuse(f"unknown option {name}"))
        options[name] = True if name in flags else rest.pop(0)
    return options


def configured(options):
    """Settings from a configuration file, in the terms of `act`."""
    known = {
        "part", "flow_target", "clock", "clock_uncertainty",
        "syn.file", "syn.top", "syn.cflags", "tb.file", "tb.cflags",
        "syn.directive.interface", "csim.argv", "csim.O", "cosim.argv", "cosim.O", "cosim.rtl", "package.output.format",
        "package.output.syn", "package.ip.vendor", "package.ip.library", "package.ip.name", "package.ip.version",
    }  # fmt: skip
    values, section = {}, ""
    for line in Path(options["--config"]).read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        key, _, value = line.partition("=")
        if key not in known or (key == "part") == (section == "hls"):
            raise SystemExit(refuse(f"configuration: {key} in section {section!r}"))
        values.setdefault(key, []).append(value)
    return {
        "work": options["--work_dir"],
        "top": values["syn.top"][0],
        "part": values["part"][0],
        "period": float(values["clock"][0].removesuffix("ns")),
        "uncertainty": values["clock_uncertainty"][0],
        "files": [*values["syn.file"], *values["tb.file"]],
        "flags": [values["syn.cflags"][0], values["tb.cflags"][0]],
        "protocol": protocol_of(values.get("syn.directive.interface"), values["syn.top"][0]),
        "csim argv": values.get("csim.argv", [""])[0],
        "cosim argv": values.get("cosim.argv", [""])[0],
        "vlnv": [values.get(f"package.ip.{k}", [""])[0] for k in ("vendor", "library", "name", "version")],
    }


def protocol_of(directives, top):
    for directive in directives or []:
        if directive.split() == [top, "mode=ap_ctrl_none"]:
            return "ap_ctrl_none"
        raise SystemExit(refuse(f"syn.directive.interface={directive}"))
    return "ap_ctrl_hs"


def tcl(name):
    """Run a script by tclsh with the commands of fake_hls.tcl."""
    import subprocess  # costs a start as much as all else

    environment = os.environ | {"ZQ_FAKE_PYTHON": sys.executable, "ZQ_FAKE_HLS": str(HERE / "fake_hls.py")}
    return subprocess.run(["tclsh", str(HERE / "fake_hls.tcl"), name], env=environment, check=False).returncode


def from_tcl(text):
    """Settings from what a script said, and its last command: ("csynth", settings)."""
    said = [line.split("\t") for line in text.splitlines()]
    settings = {"files": [], "flags": [], "protocol": "ap_ctrl_hs", "csim argv": "", "cosim argv": "", "vlnv": []}
    for command, *rest in said:
        if command == "open_project":
            settings["work"] = rest[-1]
            if rest[0] != "-reset":
                settings |= json.loads((Path(rest[-1]) / "fake.json").read_text())
        elif command == "open_solution":
            if rest[-3:] not in (["hls", "-flow_target", "vivado"], ["hls"]):
                raise Refused(f"open_solution {rest}")
        elif command == "set_top":
            settings["top"] = rest[0]
        elif command == "add_files":
            rest = rest[1:] if rest[0] == "-tb" else rest
            settings["files"].append(rest[0])
            settings["flags"].append(rest[rest.index("-cflags") + 1])
        elif command == "set_part":
            settings["part"] = rest[0]
        elif command == "create_clock":
            settings["period"] = float(rest[rest.index("-period") + 1].removesuffix("ns"))
        elif command == "set_clock_uncertainty":
            settings["uncertainty"] = rest[0]
        elif command == "set_directive_interface":
            if rest != ["-mode", "ap_ctrl_none", settings["top"]]:
                raise Refused(f"set_directive_interface {rest}")
            settings["protocol"] = "ap_ctrl_none"
        elif command in ("csim_design", "cosim_design"):
            settings[f"{command.split('_')[0]} argv"] = rest[rest.index("-argv") + 1]
        elif command == "export_design":
            settings["vlnv"] = [rest[rest.index(o) + 1] for o in ("-vendor", "-library", "-ipname", "-version")]
    last = said[-1][0]
    return {"export_design": "package"}.get(last, last.removesuffix("_design")), settings


def act(action, settings):
    """Do the step, or fail as ZQ_FAKE says."""
    step = "ip" if action == "package" else action
    what = f"{step}:{settings['top']}"
    if FAKE.get("hang") == what:
        hang()
    if FAKE.get("fail") == what:
        print("\n".join(f"INFO: line {n}" for n in range(40)))
        print(f"ERROR: [HLS 200-1] {step} of {settings['top']} went wrong")
        return FAKE.get("code", 1)
    if FAKE.get("silent") == what:
        return 0
    try:
        check(settings, step)
        {"csim": csim, "csynth": csynth, "cosim": cosim, "ip": package}[step](settings)
    except Refused as error:
        return refuse(str(error))
    return 0


def refuse(message):
    print(f"ERROR: {message}", file=sys.stderr)
    return 1


def hang():
    import subprocess

    child = subprocess.Popen(["sleep", "600"])
    pids = Path(os.environ["ZQ_FAKE_LOG"] + ".pids")
    pids.with_suffix(".new").write_text(f"{os.getpid()} {child.pid}")
    pids.with_suffix(".new").replace(pids)
    time.sleep(600)


def check(settings, step):
    """Every file and folder that is named must be there."""
    named = [*settings["files"], *(settings[f"{step} argv"].split() if step in ("csim", "cosim") else [])]
    named += [word[2:] for flags in settings["flags"] for word in flags.split() if word.startswith("-I")]
    for path in named:
        if not Path(path).is_absolute() or not Path(path).exists():
            raise Refused(f"{path} is not there, or not named from the root")
    if settings["uncertainty"] != "27%":
        raise Refused(f"clock uncertainty {settings['uncertainty']}")


def csim(settings):
    report = Path(settings["work"]) / "hls" / "csim" / "report"
    report.mkdir(parents=True)
    (report / f"{settings['top']}_csim.log").write_text("passed\n")
    print("INFO: [SIM 211-1] CSim done with 0 errors.")


def cosim(settings):
    work = Path(settings["work"])
    if "ap_ctrl_none" in (work / "hls" / "syn" / "report" / "csynth.xml").read_text():
        raise Refused("[SIM-345] Cosim only supports the following 'ap_ctrl_none' designs")
    (work / "hls" / "sim" / "report").mkdir(parents=True)
    print("INFO: [COSIM 212-1000] *** C/RTL co-simulation finished: PASS ***")


def package(settings):
    work = Path(settings["work"]) / "hls"
    if not (work / "syn" / "report" / "csynth.xml").is_file():
        raise Refused(f"{work}: no synthesis to package")
    vendor, library, name, number = settings["vlnv"]
    hdl = work / "impl" / "ip" / "hdl" / "verilog"
    hdl.mkdir(parents=True, exist_ok=True)
    (hdl / f"{name}.v").write_text(f"module {name}; endmodule\n")
    tags = f"<spirit:vendor>{vendor}</spirit:vendor><spirit:library>{library}</spirit:library>"
    tags += f"<spirit:name>{name}</spirit:name><spirit:version>{number}</spirit:version>"
    component = work / "impl" / "ip" / "component.xml"
    component.write_text(f"<spirit:component>{tags}</spirit:component>\n")
    stem = "_".join((vendor, library, name, number)).replace(".", "_")
    import zipfile

    with zipfile.ZipFile(work / "impl" / "ip" / f"{stem}.zip", "w") as archive:
        archive.write(component, "component.xml")


def csynth(settings):
    syn = Path(settings["work"]) / "hls" / "syn"
    (syn / "verilog").mkdir(parents=True)
    (syn / "report").mkdir()
    (Path(settings["work"]) / "fake.json").write_text(json.dumps(settings))
    top = settings["top"]
    (syn / "verilog" / f"{top}.v").write_text(f"module {top}; endmodule\n")
    missing = FAKE.get("missing", [])
    loops = [(function, label) for function, label in LOOPS[top] if label not in missing]
    modules = [
        module(settings, f"{function}_Pipeline_{label}", loop_xml(label, named=True))
        for function, label in loops
        if label not in OWN_FILE
    ]
    modules += [module(settings, name, outer_xml(label)) for name, label in OUTER.get(top, [])]
    functions = [name for name in FUNCTIONS.get(top, []) if name not in missing]
    modules += [module(settings, name, "", FAKE.get("ii", {}).get(name, 1)) for name in functions]
    for function, label in loops:
        name = f"{function}_Pipeline_{label}"
        text = profile(settings, name, loop_xml(label, named=False), "", "", "ap_ctrl_hs")
        (syn / "report" / f"{name}_csynth.xml").write_text(text)
    instances = "".join(f"<Instance><ModuleName>{name}</ModuleName></Instance>" for name in functions)
    hierarchy = f"<TopModule><ModuleName>{top}</ModuleName><InstancesList>{instances}</InstancesList></TopModule>"
    protocol = FAKE.get("protocol", settings["protocol"])
    (syn / "report" / "csynth.xml").write_text(profile(settings, top, "", "".join(modules), hierarchy, protocol))


def loop_xml(label, named):
    ii = FAKE.get("ii", {}).get(label, 1)
    name = f"<Name>{label}</Name>" if named else ""
    return f"""
<{label}>{name}
<Slack>2.43</Slack><TripCount><range><min>0</min><max>1024</max></range></TripCount>
<Latency><range><min>0</min><max>1030</max></range></Latency><AbsoluteTimeLatency>0 ns ~ 3.433 us</AbsoluteTimeLatency>
<PipelineII>{ii}</PipelineII><PipelineDepth>{DEPTHS.get(label, 9)}</PipelineDepth><PipelineType>yes</PipelineType>
<InstanceList/></{label}>"""


def outer_xml(label):
    return f"""
<{label}><Name>{label}</Name><Slack>2.43</Slack><TripCount>32</TripCount><Latency>undef</Latency>
<AbsoluteTimeLatency>undef</AbsoluteTimeLatency><IterationLatency>undef</IterationLatency><PipelineII/><PipelineDepth/>
<PipelineType>no</PipelineType><InstanceList/></{label}>"""


def timing(settings):
    target, share = f"{settings['period']:.2f}", f"{settings['period'] * 0.27:.2f}"
    return f"<TargetClockPeriod>{target}</TargetClockPeriod><ClockUncertainty>{share}</ClockUncertainty>"


def estimated():
    return f"<EstimatedClockPeriod>{FAKE.get('estimated', 2.271):.3f}</EstimatedClockPeriod>"


def module(settings, name, loops, interval="undef"):
    return f"""
<Module><Name>{name}</Name><PerformanceEstimates>
<SummaryOfTimingAnalysis>{timing(settings)}{estimated()}</SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><Best-caseLatency>1</Best-caseLatency><Worst-caseLatency>undef</Worst-caseLatency>
<PipelineInitiationInterval>{interval}</PipelineInitiationInterval></SummaryOfOverallLatency>
<SummaryOfLoopLatency>{loops}</SummaryOfLoopLatency></PerformanceEstimates></Module>"""


def profile(settings, top, loops, modules, hierarchy, protocol):
    resources = "".join(f"<{name}>{count}</{name}>" for name, count in RESOURCES.items())
    available = "".join(f"<{name}>999999</{name}>" for name in RESOURCES)
    ports = "".join(
        f"<RtlPorts><name>{name}</name><Object>{thing}</Object><IOProtocol>{kind}</IOProtocol><Dir>in</Dir>"
        f"<Bits>{bits}</Bits></RtlPorts>"
        for name, thing, kind, bits in (("ap_clk", top, protocol, 1), ("m_axi_hp0_RDATA", "hp0", "m_axi", 128))
    )
    return f"""<profile>
<ReportVersion><Version>2024.2</Version></ReportVersion>
<UserAssignments><unit>ns</unit><ProductFamily>zynquplus</ProductFamily><Part>{settings["part"]}</Part>
<TopModelName>{top}</TopModelName>{timing(settings)}<FlowTarget>vivado</FlowTarget></UserAssignments>
<PerformanceEstimates><PipelineType>no</PipelineType>
<SummaryOfTimingAnalysis><unit>ns</unit>{estimated()}</SummaryOfTimingAnalysis>
<SummaryOfOverallLatency><unit>clock cycles</unit><Best-caseLatency>3</Best-caseLatency>
<Average-caseLatency>undef</Average-caseLatency><Worst-caseLatency>undef</Worst-caseLatency>
<Interval-min>4</Interval-min><Interval-max>undef</Interval-max></SummaryOfOverallLatency>
<SummaryOfLoopLatency>{loops}</SummaryOfLoopLatency></PerformanceEstimates>
<AreaEstimates><Resources>{resources}</Resources><AvailableResources>{available}</AvailableResources></AreaEstimates>
<InterfaceSummary>{ports}</InterfaceSummary>
<RTLDesignHierarchy>{hierarchy}</RTLDesignHierarchy>
<ModuleInformation>{modules}</ModuleInformation>
</profile>
"""


if __name__ == "__main__":  # called by fake_hls.tcl
    try:
        sys.exit(act(*from_tcl(sys.stdin.read())))
    except Refused as refused:
        sys.exit(refuse(str(refused)))
