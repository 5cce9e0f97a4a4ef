# SPDX-License-Identifier: Apache-2.0
"""What Vivado would find of ours: the interfaces of the HLS IPs, read from the tops and kernels, and the ports of
the RTL modules, read from the Verilog. As Tcl for the stub (tcl/vivado_stubs.tcl).

Names follow the documentation of Vitis HLS (UG1399): ap_memory ports ARGUMENT[_BANK...]_address0 and so on, structs on
streams laid out as C lays them out.
"""

import itertools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

# Beside the tests: the stub of Vivado runs without zynqbert installed.
ROOT = Path(__file__).resolve().parents[2] / "fpga"
UNITS = ("fetch", "load", "weights", "expand", "vector", "store")
# Where a unit reads and writes its streams.
HEADERS = {
    "fetch": ("fetch", "fetch_exit"),
    "load": ("load",),
    "weights": ("weights",),
    "expand": ("expand",),
    "array": ("mac_array",),
    "vector": ("vector_unit", "linear", "softmax", "layer_norm", "embed", "exit"),
    "store": ("store",),
}
MODULES = ("engine_control", "clock_select", "memory", "engine_array")
PIN_TYPES = {"clock": "clk", "reset": "rst", "interrupt": "intr"}


@dataclass
class Core:
    """An IP or module: parameters {name: default}, pins (name, direction, type, highest bit or ""), pins within
    interfaces alike, interfaces (name, mode, kind, {property: value})."""

    parameters: dict[str, str] = field(default_factory=dict)
    pins: list[tuple[str, str, str, str]] = field(default_factory=list)
    inner: list[tuple[str, str, str, str]] = field(default_factory=list)
    interfaces: list[tuple[str, str, str, dict]] = field(default_factory=list)

    @property
    def masters(self) -> list[str]:
        return [name for name, mode, kind, _ in self.interfaces if (mode, kind) == ("Master", "aximm")]


def catalogue(columns: int, units: tuple[str, ...] = UNITS, handshake: tuple[str, ...] = ("fetch",)) -> dict[str, Core]:
    """By VLNV. `handshake`: units with ap_ctrl_hs, as synthesis leaves them without a line in its configuration."""
    cores = {f"zynqbert.org:hls:engine_{unit}:1.0": hls_core(unit, columns, unit in handshake) for unit in units}
    return cores | {f"xilinx.com:module_ref:{name}:1.0": rtl_core(ROOT / "rtl" / f"{name}.v") for name in MODULES}


def as_tcl(cores: dict[str, Core]) -> str:
    """The catalogue as a Tcl dict of dicts."""
    lines = []
    for vlnv, core in cores.items():
        words = {
            "parameters": _words(itertools.chain(*core.parameters.items())),
            "pins": _rows(core.pins),
            "inner": _rows(core.inner),
            "interfaces": _rows((n, m, k, _words(itertools.chain(*p.items()))) for n, m, k, p in core.interfaces),
        }
        lines.append(f"dict set catalogue {vlnv} {{" + " ".join(f"{k} {{{v}}}" for k, v in words.items()) + "}")
    return "\n".join(lines) + "\n"


# --- HLS -------------------------------------------------------------------------------------------------------------


def constants(columns: int) -> dict[str, int]:
    """Every `constexpr int` of the kernels."""
    found = {"ZQ_COLUMNS": columns}
    for name in ("config", "load", "vector_state"):
        text = (ROOT / "kernels" / f"{name}.hpp").read_text()
        for constant, value in re.findall(r"constexpr int (\w+) = ([^;]+);", text):
            found[constant] = evaluate(value, found)
    return found


def evaluate(expression: str, names: dict[str, int]) -> int:
    """A whole-number expression of C++, of the operators that Python has too but for `a ? b : c`."""
    choice = re.fullmatch(r"(.+) \? (.+) : (.+)", expression)
    if choice:
        expression = "{1} if {0} else {2}".format(*choice.groups())
    return eval(expression.replace("/", "//"), {}, dict(names))


def struct_fields(name: str) -> list[int]:
    """Widths of a command's fields (kernels/commands.hpp)."""
    text = (ROOT / "kernels" / "commands.hpp").read_text()
    body = re.search(rf"struct {name} {{(.*?)}};", text, flags=re.S)[1]
    return [int(width) for width in re.findall(r"^\s*uint<(\d+)> \w+", body, flags=re.M)]


def word_types(names: dict[str, int]) -> dict[str, tuple[int, int]]:
    """`using X = lanes<...>` and scalars of the kernels: (elements, bits of one)."""
    types = {"token": (1, 1), "beat": (2, 64)}
    text = "".join((ROOT / "kernels" / f"{n}.hpp").read_text() for n in ("types", "commands", "load"))
    for name, _, width in re.findall(r"using (\w+) = (uint|sint)<(\w+)>;", text):
        types[name] = (1, names.get(width) or int(width))
    for name, element, count in re.findall(r"using (\w+) = lanes<(\w+), ([^>]+)>;", text):
        types[name] = (evaluate(count, names), types[element][1])
    return types


def storage_bytes(bits: int) -> int:
    """sizeof(ap_int<bits>)."""
    return next(size for size in (1, 2, 4, 8) if 8 * size >= bits)


def struct_bytes(widths: list[int]) -> int:
    """sizeof a struct of ap_ints."""
    at, alignment = 0, 1
    for size in map(storage_bytes, widths):
        at = -(-at // size) * size + size
        alignment = max(alignment, size)
    return -(-at // alignment) * alignment


def hls_core(unit: str, columns: int, handshake: bool) -> Core:
    """The IP that Vitis HLS makes of top/engine_UNIT.cpp."""
    names = constants(columns)
    types = word_types(names)
    text = (ROOT / "top" / f"engine_{unit}.cpp").read_text()
    signature = re.search(rf"void engine_{unit}\((.*?)\) {{", text, flags=re.S)[1]
    pragmas = [dict(re.findall(r"(\w+)\s*=\s*([\w.]+)", line)) for line in text.splitlines() if "#pragma HLS" in line]
    modes = {p["port"]: p for p in pragmas if "port" in p}
    partitions = {}
    for line in text.splitlines():
        if "ARRAY_PARTITION" in line and "state." not in line:
            p = dict(re.findall(r"(\w+)\s*=\s*(\w+)", line))
            partitions.setdefault(p["variable"], {})[int(p["dim"])] = int(p.get("factor", 0))
    core = Core(pins=[("ap_clk", "I", "clk", ""), ("ap_rst_n", "I", "rst", "")])
    if handshake:
        core.interfaces.append(("ap_ctrl", "Slave", "acc_handshake", {}))
        core.inner += [("ap_start", "I", "data", "")]
        core.inner += [(f"ap_{name}", "O", "data", "") for name in ("done", "ready", "idle")]
    for argument in re.sub(r"\s+", " ", signature).split(", "):
        _argument(core, unit, argument.strip(), modes, partitions, types, names)
    return core


def _argument(core: Core, unit: str, argument: str, modes: dict, partitions: dict, types: dict, names: dict) -> None:
    name = re.search(r"(\w+)(?:\[|$)", argument)[1]
    if argument.startswith("command_streams&"):
        for member in re.findall(r"hls::stream<(\w+)_command>", (ROOT / "kernels" / "fetch_state.hpp").read_text()):
            if f"{name}.{member}" in modes:
                core.interfaces.append(
                    _stream(f"{name}_{member}", "Master", struct_bytes(struct_fields(f"{member}_command")))
                )
        return
    pragma = modes.get(name)
    if pragma is None:
        raise ValueError(f"engine_{unit}: argument {name} has no INTERFACE pragma")
    mode = pragma["mode"]
    if mode == "axis":
        kind = re.search(r"hls::stream<(\w+)>", argument)[1]
        bytes_ = struct_bytes(struct_fields(kind)) if kind.endswith(("_command", "_status", "_verdict")) else None
        if bytes_ is None:
            count, bits = types[kind]
            bytes_ = count * storage_bytes(bits)
        mode = "Master" if _writes(unit, name) else "Slave"
        count = re.search(r"\[(\w+)\]", argument)
        banks = [name] if count is None else [f"{name}_{n}" for n in range(evaluate(count[1], names))]
        core.interfaces += [_stream(bank, mode, bytes_) for bank in banks]
    elif mode == "m_axi":
        core.interfaces.append(
            (f"m_axi_{pragma['bundle']}", "Master", "aximm", {"DATA_WIDTH": "128", "ADDR_WIDTH": "64"})
        )
    elif mode == "ap_memory":
        _memory(core, name, argument, partitions.get(name, {}), types, names)
    else:
        bits = int(re.search(r"uint(\d+)_t", argument)[1])
        core.pins.append((name, "I" if mode == "ap_none" else "O", "data", str(bits - 1)))
        if mode == "ap_vld":
            core.pins.append((f"{name}_ap_vld", "O", "data", ""))


def _stream(name: str, mode: str, bytes_: int) -> tuple[str, str, str, dict]:
    return (name, mode, "axis", {"TDATA_NUM_BYTES": str(bytes_)})


def _writes(unit: str, stream: str) -> bool:
    text = "".join((ROOT / "kernels" / f"{header}.hpp").read_text() for header in HEADERS[unit])
    text += (ROOT / "top" / f"engine_{unit}.cpp").read_text()
    found = set(re.findall(rf"\b{stream}(?:\[\w+\])?\.(read|write)\(", text))
    if len(found) != 1:
        raise ValueError(f"engine_{unit}: stream {stream} has {sorted(found) or 'no accesses'}")
    return found == {"write"}


def _memory(core: Core, name: str, argument: str, partition: dict[int, int], types: dict, names: dict) -> None:
    """Partition: dimension (from 1) to factor, 0 for complete."""
    sizes = [evaluate(size, names) for size in re.findall(r"\[(\w+)\]", argument)]
    kind = re.search(r"(?:const )?(?:zq::)?(\w+(?:<\d+>)?) \w+\[", argument)[1]
    bits = int(kind[5:-1]) if kind.startswith("uint<") else math.prod(types[kind])
    banks = [range(partition[d] or size) for d, size in enumerate(sizes, 1) if d in partition]
    for bank in itertools.product(*banks):
        indices = iter(bank)
        words = 1
        for d, size in enumerate(sizes, 1):
            if d in partition:
                index = next(indices)
                size = -(-(size - index) // partition[d]) if partition[d] else 1
            words *= size
        port = "_".join([name, *map(str, bank)])
        core.pins.append((f"{port}_address0", "O", "data", str((words - 1).bit_length() - 1)))
        core.pins.append((f"{port}_ce0", "O", "data", ""))
        if argument.startswith("const "):
            core.pins.append((f"{port}_q0", "I", "data", str(bits - 1)))
        else:
            core.pins.append((f"{port}_we0", "O", "data", ""))
            core.pins.append((f"{port}_d0", "O", "data", str(bits - 1)))


# --- RTL -------------------------------------------------------------------------------------------------------------


def rtl_core(path: Path) -> Core:
    """The module of a Verilog file as a module reference; X_INTERFACE_INFO tells clocks, resets and AXI."""
    text = re.sub(r"//.*", "", path.read_text())
    header = re.search(rf"module {path.stem}\b(.*?)\n\);", text, flags=re.S)[1]
    core = Core()
    for name, value in re.findall(
        r"parameter\s+(?:integer\s+|\[[^\]]*\]\s*)?(\w+)\s*=\s*([^,\n]+?)\s*(?:,|\n)", header
    ):
        core.parameters[name] = value.strip('"').replace("64'd0", "0")
    info = ""
    for line in header.splitlines():
        attribute = re.search(r'X_INTERFACE_INFO = "xilinx.com:(\w+):(\w+):1.0 (\w+) (\w+)"', line)
        if attribute:
            info = attribute.groups()
        port = re.match(r"\s*(input|output)\s+(?:wire|reg)\s*(?:\[\s*([^:\]]+):[^\]]+\])?\s*(\w+)", line)
        if not port:
            continue
        direction, left, name = port.groups()
        library, kind, bus, signal = info or ("signal", "data", "", "")
        left = re.sub(r"[A-Z_]+", r"$\g<0>", left or "")  # parameters as variables of Tcl
        pin = (name, direction[0].upper(), PIN_TYPES.get(kind, "data"), left)
        if library == "interface":
            core.inner.append(pin)
            if kind == "axis" and signal == "TDATA":
                bits = evaluate(re.sub(r"\$", "", left), {k: int(v) for k, v in core.parameters.items()}) + 1
                core.interfaces.append(_stream(bus, "Slave" if direction == "input" else "Master", bits // 8))
            elif bus not in [n for n, *_ in core.interfaces]:
                mode = "Slave" if name.endswith("awaddr") and direction == "input" else "Master"
                core.interfaces.append((bus, mode, kind, {}))
        else:
            core.pins.append(pin)
        info = ""
    return core


def _words(values) -> str:
    return " ".join(f"{{{value}}}" for value in values)


def _rows(rows) -> str:
    return " ".join(f"{{{_words(row)}}}" for row in rows)
