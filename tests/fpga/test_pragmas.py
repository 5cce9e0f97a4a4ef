# SPDX-License-Identifier: Apache-2.0
"""g++ ignores HLS pragmas, so every one is parsed here against the directives and options that Vitis HLS accepts."""

import re

import pytest
from zynqbert.fpga.simulator import ROOT

NUMBER = r"\d+|0x[0-9A-Fa-f]+"
CONSTANT = rf"{NUMBER}|k[A-Z]\w*"  # the tool takes constant expressions; here a number, or a constant's name
VARIABLE = r"[\w.]+"
# directive -> option -> pattern of its value; None: a bare word.
LEGAL = {
    "INLINE": {"off": None, "recursive": None},
    "PIPELINE": {"II": NUMBER, "off": None, "style": "stp|frp|flp", "rewind": None},
    "UNROLL": {"factor": NUMBER, "skip_exit_check": None},
    "DEPENDENCE": {
        "variable": VARIABLE, "type": "inter|intra", "direction": "RAW|WAR|WAW", "distance": NUMBER,
        "false": None, "true": None,
    },
    "ARRAY_PARTITION": {"variable": VARIABLE, "type": "complete|block|cyclic", "factor": NUMBER, "dim": NUMBER},
    "AGGREGATE": {"variable": VARIABLE, "compact": "bit|byte|none|auto"},
    "DISAGGREGATE": {"variable": VARIABLE},
    "STREAM": {"variable": VARIABLE, "depth": NUMBER, "type": "fifo|pipo|shared|unsync"},
    "DATAFLOW": {},
    "ALLOCATION": {"function": None, "operation": None, "instances": r"\w+", "limit": NUMBER},
    "BIND_STORAGE": {
        "variable": VARIABLE, "type": r"ram_(1p|1wnr|2p|s2p|t2p)|rom_(1p|2p|np)", "impl": "bram|lutram|uram",
    },
    "BIND_OP": {"variable": r"\w+", "op": "mul|add|sub", "impl": "fabric|dsp", "latency": NUMBER},
}  # fmt: skip
# The options of INTERFACE depend on its mode.
SCALAR = {"register": None, "name": r"\w+", "depth": CONSTANT}
MEMORY = {
    "name": r"\w+", "depth": CONSTANT, "latency": NUMBER, "storage_type": r"(ram_(1p|1wnr|2p|s2p|t2p)|rom_(1p|2p|np))",
}  # fmt: skip
MODES = {
    "ap_none": SCALAR, "ap_vld": SCALAR, "ap_ack": SCALAR, "ap_hs": SCALAR, "ap_ovld": SCALAR, "ap_fifo": SCALAR,
    "ap_memory": MEMORY, "bram": MEMORY,
    "axis": {"register": None, "register_mode": "forward|reverse|both|off", "name": r"\w+", "depth": CONSTANT},
    "s_axilite": {"bundle": r"\w+", "offset": NUMBER, "register": None, "clock": r"\w+", "name": r"\w+"},
    "m_axi": {
        "bundle": r"\w+", "offset": "off|slave|direct", "depth": CONSTANT, "name": r"\w+", "latency": NUMBER,
        "max_read_burst_length": NUMBER, "max_write_burst_length": NUMBER, "num_read_outstanding": NUMBER,
        "num_write_outstanding": NUMBER, "max_widen_bitwidth": NUMBER,
    },
    "ap_ctrl_none": {"name": r"\w+"}, "ap_ctrl_hs": {"name": r"\w+"}, "ap_ctrl_chain": {"name": r"\w+"},
}  # fmt: skip
REQUIRED = {
    "DEPENDENCE": {"variable"}, "ARRAY_PARTITION": {"variable", "type", "dim"}, "AGGREGATE": {"variable"},
    "DISAGGREGATE": {"variable"}, "INTERFACE": {"mode", "port"}, "STREAM": {"variable", "depth"}, "PIPELINE": {"II"},
}  # fmt: skip
FILES = sorted([*(ROOT / "kernels").glob("*.hpp"), *(ROOT / "top").glob("*.cpp")])


def parse(line: str) -> tuple[str, dict[str, str | None]]:
    words = re.sub(r"\s*=\s*", "=", line.split("#pragma", 1)[1].strip()).split()
    if words[0] != "HLS":
        raise ValueError(f"not an HLS pragma: {line.strip()}")
    options = {}
    for word in words[2:]:
        name, _, value = word.partition("=")
        if name in options:
            raise ValueError(f"{name} twice: {line.strip()}")
        options[name] = value or None
    return words[1], options


def legal_options(directive: str, options: dict[str, str | None]) -> dict[str, str | None]:
    """Option -> pattern of its value, for this directive and, of INTERFACE, this mode."""
    if directive == "INTERFACE":
        if options.get("mode") not in MODES:
            raise ValueError(f"INTERFACE has no mode {options.get('mode')}")
        return {"mode": r"\w+", "port": VARIABLE} | MODES[options["mode"]]
    if directive not in LEGAL:
        raise ValueError(f"unknown directive {directive}")
    return LEGAL[directive]


def check(line: str) -> None:
    directive, options = parse(line)
    legal = legal_options(directive, options)
    for name, value in options.items():
        if name not in legal:
            raise ValueError(f"{directive} has no option {name}")
        pattern = legal[name]
        if (pattern is None) != (value is None) or (pattern and not re.fullmatch(pattern, value)):
            raise ValueError(f"{directive} {name}={value}")
    missing = REQUIRED.get(directive, set()) - set(options)
    if missing:
        raise ValueError(f"{directive} lacks {', '.join(sorted(missing))}")
    if directive == "ARRAY_PARTITION" and (options["type"] == "complete") == ("factor" in options):
        raise ValueError("a factor belongs to cyclic and block partitions, and to them alone")


def pragmas():
    return [
        pytest.param(line, path.name, id=f"{path.name}:{n}")
        for path in FILES
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if "#pragma" in line and "once" not in line
    ]


@pytest.mark.parametrize(("line", "name"), pragmas())
def test_pragma_is_legal(line, name):
    check(line)
    assert "INTERFACE" not in line or name.startswith("engine_"), "INTERFACE pragmas belong to top/"


@pytest.mark.parametrize(
    "line",
    [
        "#pragma HLS PIPELINED II=1", "#pragma HLS PIPELINE", "#pragma HLS PIPELINE II=one", "#pragma HLS UNROL",
        "#pragma HLS ARRAY_PARTITION variable=x type=cyclic dim=1", "#pragma HLS INTERFACE mode=s_axi port=x",
        "#pragma HLS ARRAY_PARTITION variable=x complete dim=1", "#pragma omp parallel", "#pragma HLS DISAGGREGATE x",
        "#pragma HLS INTERFACE mode=ap_memory port=x bundle=y", "#pragma HLS INTERFACE mode=axis port=x latency=2",
        "#pragma HLS INTERFACE mode=m_axi port=x depth=beats", "#pragma HLS INTERFACE port=x",
    ],
)  # fmt: skip
def test_the_check_refuses(line):
    with pytest.raises(ValueError):
        check(line)


def test_constants_in_pragmas_are_the_sources():
    """g++ would not miss one that is misspelt."""
    constant = r"const(?:expr)? \S+ (k\w+)(?:\[\w*\])? ="
    defined = {m[1] for path in ROOT.rglob("*.hpp") for m in re.finditer(constant, path.read_text())}
    named = {m[1] for line, _ in (p.values for p in pragmas()) for m in re.finditer(r"=\s*(k[A-Z]\w*)", line)}
    assert "kTestbenchBeats" in named <= defined


def loops(text: str):
    """Label and first body line of each for loop, and whether it is a single statement without braces."""
    lines = text.splitlines()
    for n, line in enumerate(lines):
        if re.match(r"\s*for \(", line):
            yield lines[n - 1].strip(), line, lines[n + 1].strip() if n + 1 < len(lines) else ""


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".hpp"], ids=lambda p: p.name)
def test_every_counted_loop_is_pipelined_at_one(path):
    """A loop that counts its trips is the one the cycle model knows: its first line is PIPELINE II = 1."""
    text = path.read_text()
    for label, line, first in loops(text):
        body = text[text.index(line) : text.index(line) + 400].split("\n")[1:5]
        if any(re.match(r"\s*trip\(", b) for b in body[:3]):
            assert first.startswith("#pragma HLS PIPELINE II = 1"), f"{path.name}: {label}"


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".hpp"], ids=lambda p: p.name)
def test_every_loop_has_a_label(path):
    """Reports name loops by their labels."""
    bare = [line for label, line, _ in loops(path.read_text()) if not re.fullmatch(r"\w+:", label)]
    assert not bare


def test_no_synthesis_switches_outside_simulation():
    for path in FILES:
        assert "__SYNTHESIS__" not in path.read_text(), path.name


def test_kernels_use_nothing_that_cannot_be_built():
    """No dynamic memory, no recursion helpers, no exceptions, no standard containers in what Vitis sees."""
    banned = re.compile(
        r"\b(new|delete|malloc|free|throw|try|std::(vector|map|string|deque|function|unique_ptr))\b\s*[(<;{ ]"
    )
    for path in FILES:
        code = re.sub(r"//.*", "", path.read_text())
        assert not banned.search(code), f"{path.name}: {banned.search(code).group(0)}"
