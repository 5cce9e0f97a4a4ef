# SPDX-License-Identifier: Apache-2.0
"""The block design's table against kernels and RTL, and what its Tcl makes of it over stubs of Vivado's commands."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import vivado_catalogue
import vivado_stub
from vivado_stub import read_design, run_script
from zynqbert.fpga import block_design as bd
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.build.vivado import CONSTRAINTS, SCRIPTS, _rtl
from zynqbert.fpga.resources import memories as modelled_memories
from zynqbert.fpga.resources import resources
from zynqbert.fpga.simulator import ROOT
from zynqbert.host.emulated.device import EmulatedDevice

CLOCKS = (300, 250, 200, 150, 100, 262.5, 333, 275)


def prepare(folder, board, clock_mhz=300):
    """A place with settings and empty IPs, and a way to run the scripts there."""
    ips = []
    for top in bd.UNITS.values():
        ips.append(folder / "ip" / top)
        ips[-1].mkdir(parents=True)
        (ips[-1] / "component.xml").write_text("<component/>")
    (folder / "results").mkdir()
    design = bd.block_design(board, clock_mhz)
    settings = bd.settings_tcl(
        design,
        project=folder / "project",
        results=folder / "results",
        ip_folders=ips,
        rtl=_rtl(),
        constraints=CONSTRAINTS,
        jobs=2,
    )
    (folder / "settings.tcl").write_text(settings)
    record = folder / "record.txt"
    record.touch()

    def run(script, **how):
        return run_script(SCRIPTS / f"{script}.tcl", folder / "settings.tcl", board.columns, record, **how)

    return SimpleNamespace(design=design, board=board, run=run, record=record, folder=folder)


@pytest.fixture
def zcu102(tmp_path):
    return prepare(tmp_path, BOARDS["zcu102"])


@pytest.fixture(scope="module", params=BOARDS)
def made(request, tmp_path_factory):
    """A board's block design as the Tcl made it."""
    place = prepare(tmp_path_factory.mktemp(request.param), BOARDS[request.param])
    run = place.run("design")
    assert run.returncode == 0, run.stdout
    place.found = read_design(place.record)
    place.cores = vivado_catalogue.catalogue(place.board.columns)
    return place


def core(made, cell):
    return made.cores[made.found.cells[cell]]


def width(made, cell, left):
    """Bits of a pin by its highest bit, an expression where the cell has parameters."""
    values = core(made, cell).parameters | made.found.settings.get(cell, {})
    return vivado_catalogue.evaluate(left.replace("$", ""), {n: int(v) for n, v in values.items()}) + 1


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", bd.COMMAND_BITS)
def test_commands_are_as_wide_as_their_fields(unit):
    assert bd.COMMAND_BITS[unit] == sum(vivado_catalogue.struct_fields(f"{unit}_command"))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_streams_and_memories_have_the_sizes_of_the_kernels(board):
    k = vivado_catalogue.constants(board.columns)
    streams = {s.name: s for s in bd.streams(board)}
    assert {s.depth for s in streams.values() if s.name.startswith("commands_")} == {k["kCommandDepth"]}
    assert {s.depth for s in streams.values() if s.bits == bd.TOKEN_BITS} == {k["kTokenDepth"]}
    accumulators, stored = streams["accumulators"], streams["stored"]
    assert (accumulators.depth, accumulators.bits) == (0, 32 * k["kAccBits"])  # the array holds kAccumulatorDepth
    assert (stored.depth, stored.bits) == (k["kStoredDepth"], 512)
    banks = {m.name: (m.words, m.bits) for m in bd.memories(board)}
    assert banks["weights"] == (k["kWeightWords"], 8 * (k["kPairs"] + k["kChoiceBytes"]))
    assert {banks[f"activations_{n}"] for n in range(4)} == {(k["kActivationWords"] // k["kBlock"], 256)}
    assert banks["key_value_1"] == (k["kKeyValueWords"], 256)
    assert banks["parameters_1"] == (k["kSlots"] * k["kParameterWords"] // 2, 64)
    assert banks["embedding_31"] == (k["kSlots"] * k["kEmbeddingWords"], 128)
    assert len(banks) == 1 + 2 + 32 + 4 + k["kGroups"]
    last = k["kPorts"] - 1
    assert (streams[f"masks_{last}"].depth, streams[f"masks_{last}"].bits) == (k["kMaskDepth"], 128)
    assert (streams[f"values_{last}"].depth, streams[f"values_{last}"].bits) == (k["kValueDepth"], 128)
    assert f"masks_{last + 1}" not in streams
    assert streams["segments"].bits == sum(vivado_catalogue.struct_fields("segment_command"))
    assert streams["faults"].bits == sum(vivado_catalogue.struct_fields("weights_status"))
    assert streams["verdicts"].bits == sum(vivado_catalogue.struct_fields("exit_verdict"))
    assert board.resident_words == k["kResidentWords"]
    assert len(board.weight_ports) == board.ports == k["kPorts"]


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_memories_take_what_the_model_counts(board):
    """The same banks as in the resource model, and URAM within the part."""
    between_units = ("weights", "activations, four banks", "keys and values", "parameters, even and odd",
                     "embedding rows, a bank a lane")  # fmt: skip
    modelled = [m for m in modelled_memories(board) if m.name in between_units]
    assert sorted((m.words, m.bits) for m in bd.memories(board)) == sorted(
        (m.words, m.bits) for m in modelled for _ in range(m.copies)
    )
    assert {m.style for m in bd.memories(board)} == {"block"}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_resident_weights_take_the_uram_there_is(board):
    kept = [m for m in modelled_memories(board) if m.name.startswith("resident weights")]
    assert sum(m.words for m in kept) == board.resident_words
    assert {m.bits for m in kept} == {128 * board.ports}
    uram = sum(math.ceil(m.words / 4096) * math.ceil(m.bits / 72) for m in kept if m.deep)
    assert uram == resources(board).uram <= board.uram
    assert board.uram - uram < 11 or not board.uram  # no row of 4,096 words more


@pytest.mark.parametrize(("depth", "words"), [(1, 16), (16, 16), (17, 32), (64, 64), (256, 256), (384, 512)])
def test_fifos_have_depths_that_there_are(depth, words):
    assert bd.Stream("s", "a/x", "b/x", 1, depth).fifo_depth == words


def test_wide_deep_fifos_take_block_ram():
    assert {s.fifo_memory for s in bd.streams(BOARDS["zcu102"])} == {"distributed"}
    assert bd.Stream("wide", "a", "b", 864, 256).fifo_memory == "block"


def test_wizard_gives_the_four_outputs_exactly():
    assert bd.wizard(300).mhz() == registers.WIZARD_OUTPUTS_MHZ


@pytest.mark.parametrize("mhz", CLOCKS)
def test_no_output_is_above_the_clock_asked_for(mhz):
    targets = (mhz, *(min(mhz, output) for output in registers.WIZARD_OUTPUTS_MHZ[1:]))
    found = bd.wizard(mhz).mhz()
    assert all(0.8 * target < output <= target for output, target in zip(found, targets, strict=True))


def test_wizard_prefers_whole_factors():
    assert bd.wizard(250).mhz() == (250, 200, 1000 / 7, 100)


@pytest.mark.parametrize("mhz", [9.9, 0, -1, 776])
def test_clock_out_of_reach_is_refused(mhz):
    with pytest.raises(ValueError, match=r"clock of .* MHz is (below 10 MHz|outside 6.25 .. 775 MHz)"):
        bd.wizard(mhz)


@pytest.mark.parametrize(
    "text", ["plain", "a b", "{", "}", 'q"uo', "$x", "[exit 7]", "back\\slash", "two\nlines", "#", ";", "", "ü/€", "~"]
)
def test_any_text_is_one_word_of_tcl(tmp_path, text):
    script = tmp_path / "word.tcl"
    script.write_text(
        f"set all {bd.tcl_rows([['x', text], [text]])}\nfconfigure stdout -encoding utf-8\n"
        "puts -nonewline [lindex $all 1 0]<[llength $all]>[lindex $all 0 1]",
        encoding="utf-8",
    )
    reader = tmp_path / "reader.tcl"  # as Vivado on a machine whose encoding is UTF-8
    reader.write_text(f"source -encoding utf-8 {script}")
    run = subprocess.run([*vivado_stub.interpreter(), str(reader)], capture_output=True, check=True)
    assert run.stdout.decode() == f"{text}<2>{text}"


# --- the block design ------------------------------------------------------------------------------------------------


def test_addresses_are_those_of_the_register_table(made):
    expected = {block.cell: (block.base, registers.RANGE) for block in registers.BLOCKS}
    found = {segment.split("/")[0]: place for segment, place in made.found.addresses["ps/Data"].items()}
    assert found == expected
    assert {block.cell: block.vlnv for block in registers.BLOCKS} == {c: made.found.cells[c] for c in expected}


def test_addresses_are_those_of_the_emulated_board(made):
    device = EmulatedDevice(made.board)
    metadata = device.get_bitfile_metadata(device.bitstream)
    found = {segment.split("/")[0]: place for segment, place in made.found.addresses["ps/Data"].items()}
    told = {name: (ip["phys_addr"], ip["addr_range"]) for name, ip in metadata.ip_dict.items()}
    assert told == {name: found[name] for name in told}
    assert {name: ip["type"] for name, ip in metadata.ip_dict.items()} == {n: made.found.cells[n] for n in told}
    assert set(told) >= {"engine", "clock_wizard"}


def test_engine_is_told_its_id(made):
    assert int(made.found.settings["engine"]["ID"], 16) == registers.engine_id(made.board.columns)
    assert re.fullmatch("0x[0-9A-F]{16}", made.found.settings["engine"]["ID"])


def test_registers_are_reached_through_the_pss_first_port(made):
    buses = made.found.buses
    assert buses["registers/S00_AXI"] == "ps/M_AXI_HPM0_FPD"
    slaves = {slave for slave, master in buses.items() if master.startswith("registers/")}
    assert slaves == {"engine/s_axi_control", "clock_wizard/s_axi_lite", "interrupts/s_axi"}


def test_interrupt_goes_straight_to_the_ps(made):
    """No concatenation between: pynq follows plain wires and the old xlconcat alone."""
    assert made.found.nets["interrupts/intr"] == "engine/interrupt"
    assert made.found.nets["ps/pl_ps_irq0"] == "interrupts/irq"
    assert made.found.settings["interrupts"] == {"C_IRQ_CONNECTION": "1"}
    assert registers.ENGINE_INTERRUPT == 0


FIXED, ENGINE = "ps/pl_clk0", "clock_select/engine_clk"
BOTH = {"engine": {"fixed_clk": FIXED, "engine_clk": ENGINE}}
FIXED_CELLS = {"fixed_reset", "clock_wizard", "interrupts", "registers"}


def clock_inputs(made, cell):
    """Clock pins of a cell and what drives them."""
    names = re.compile(r"clk\d?|ap_clk|.*_a?clk|slowest_sync_clk|aclk|clk_in1")
    found = {}
    for sink, driver in made.found.nets.items():
        owner, pin = sink.split("/")
        if owner == cell and names.fullmatch(pin):
            found[pin] = driver
    return found


def test_no_cell_mixes_the_clocks_but_engine_control_and_the_ps(made):
    for cell in made.found.cells:
        drivers = clock_inputs(made, cell)
        assert drivers, cell
        if cell == "clock_select":
            assert drivers == {f"clk{n}": f"clock_wizard/clk_out{n + 1}" for n in range(4)}
        elif cell == "ps":
            assert drivers == {"maxihpm0_fpd_aclk": FIXED} | {port.clock: ENGINE for port in made.design.ports}
        elif cell in BOTH:
            assert drivers == BOTH[cell]
        else:
            assert set(drivers.values()) == {FIXED if cell in FIXED_CELLS else ENGINE}, cell


def test_resets_go_with_their_clocks(made):
    resets = {"fixed_reset/peripheral_aresetn": FIXED, "engine/engine_resetn": ENGINE}
    checked = set()
    for sink, driver in made.found.nets.items():
        if driver in resets:
            cell = sink.split("/")[0]
            assert resets[driver] in clock_inputs(made, cell).values(), sink
            checked.add(cell)
    without = {"ps", "fixed_reset", "clock_select"} | {c for c in made.found.cells if c.startswith("memory_")}
    without -= {c for c in made.found.cells if c.startswith("memory_port_")}
    assert checked == set(made.found.cells) - without
    assert made.found.nets["fixed_reset/ext_reset_in"] == "ps/pl_resetn0"
    assert "clock_wizard/locked" not in made.found.nets.values(), "nothing is reset by the loss of lock"


def test_every_input_of_units_and_modules_is_driven(made):
    for cell, vlnv in made.found.cells.items():
        if vlnv not in made.cores:
            continue
        for name, direction, *_ in made.cores[vlnv].pins:
            open_ = f"{cell}/{name}" in made.design.unconnected
            assert direction == "O" or (f"{cell}/{name}" in made.found.nets) != open_, f"{cell}/{name}"


def test_fetch_and_engine_control_are_joined(made):
    outputs = ("ap_start", "program_address", "image_address", "io_address", "instructions", "row_blocks")
    inputs = ("ap_done", "ap_ready", "ap_idle", "status", "status_ap_vld", "detail", "detail_ap_vld")
    inputs += ("clock_output", "clock_output_ap_vld")
    assert {name: made.found.nets[f"fetch/{name}"] for name in outputs} == {n: f"engine/{n}" for n in outputs}
    assert {name: made.found.nets[f"engine/{name}"] for name in inputs} == {n: f"fetch/{n}" for n in inputs}
    assert made.found.nets["clock_select/select"] == "engine/clock_select"
    assert made.found.nets["clock_select/enable"] == "engine/clock_enable"


def test_every_stream_of_the_units_has_one_fifo(made):
    """But the accumulators, which the array's RTL holds itself: they are joined."""
    ends = {}
    for unit in (*bd.UNITS, *bd.MODULES):
        for name, mode, kind, properties in core(made, unit).interfaces:
            if kind == "axis":
                ends[f"{unit}/{name}"] = (mode, properties["TDATA_NUM_BYTES"])
    fifos = {cell for cell, vlnv in made.found.cells.items() if ":axis_data_fifo:" in vlnv}
    assert {made.found.cells[fifo] for fifo in fifos} == {"xilinx.com:ip:axis_data_fifo:2.0"}
    assert made.found.buses["vector/accumulators"] == "array/accumulators"
    assert ends.pop("array/accumulators") == ("Master", "128")
    assert ends.pop("vector/accumulators") == ("Slave", "128")
    assert len(ends) == 2 * len(fifos) == 2 * (16 + 2 * made.board.ports)
    for fifo in fifos:
        producer = made.found.buses[f"{fifo}/S_AXIS"]
        consumers = [slave for slave, master in made.found.buses.items() if master == f"{fifo}/M_AXIS"]
        assert len(consumers) == 1
        width = made.found.settings[fifo]["TDATA_NUM_BYTES"]
        assert ends.pop(producer) == ("Master", width)
        assert ends.pop(consumers[0]) == ("Slave", width)
    assert not ends


def test_fifos_are_as_deep_as_the_table_says(made):
    for stream in made.design.streams:
        if stream.depth == 0:
            assert f"stream_{stream.name}" not in made.found.cells
            continue
        found = made.found.settings[f"stream_{stream.name}"]
        assert int(found["FIFO_DEPTH"]) == stream.fifo_depth >= stream.depth
        assert found["FIFO_MEMORY_TYPE"] == stream.fifo_memory
        assert 8 * int(found["TDATA_NUM_BYTES"]) >= stream.bits
        assert {found[name] for name in ("IS_ACLK_ASYNC", "HAS_TLAST", "HAS_TKEEP", "HAS_TSTRB")} == {"0"}


def test_every_memory_port_of_the_units_has_its_memory(made):
    """One writer, one reader, as wide and deep as both want."""
    ports = {}
    for unit in (*bd.UNITS, *bd.MODULES):
        for name, direction, _, left in core(made, unit).pins:
            if re.search(r"_(d0|q0)$", name) and f"{unit}/{name}" not in made.design.unconnected:
                ports[f"{unit}/{name}"] = (direction, width(made, unit, left))
    cells = [cell for cell, vlnv in made.found.cells.items() if vlnv == "xilinx.com:module_ref:memory:1.0"]
    for cell in cells:
        writer = made.found.nets[f"{cell}/write_d"]
        readers = [sink for sink, driver in made.found.nets.items() if driver == f"{cell}/read_q"]
        assert len(readers) == 1
        settings = made.found.settings[cell]
        assert ports.pop(writer) == ("O", int(settings["WIDTH"]))
        assert ports.pop(readers[0]) == ("I", int(settings["WIDTH"]))
        for side, port in (("write", writer.removesuffix("_d0")), ("read", readers[0].removesuffix("_q0"))):
            assert made.found.nets[f"{cell}/{side}_address"] == f"{port}_address0"
            assert made.found.nets[f"{cell}/{side}_ce"] == f"{port}_ce0"
        assert made.found.nets[f"{cell}/write_we"] == writer.replace("_d0", "_we0")
        assert writer.split("/")[1].removesuffix("_d0") == readers[0].split("/")[1].removesuffix("_q0")
        assert 2 ** int(settings["ADDRESS_WIDTH"]) >= int(settings["DEPTH"])
    assert not ports
    assert {m.name: m.style for m in made.design.memories} == {
        cell.removeprefix("memory_"): made.found.settings[cell]["STYLE"] for cell in cells
    }
    still = {cell.removeprefix("memory_") for cell in cells if made.found.settings[cell]["STALLS"] == "0"}
    assert still == {
        "weights",
        *(f"activations_{n}" for n in range(4)),
        *(f"key_value_{n}" for n in range(made.board.groups)),
    }


def test_memory_ports_of_the_ps(made):
    """docs/block-design.md: weights each a port, fetch and store share one, all of 128 bits, DDR and nothing else."""
    number = {"HPC0": 0, "HPC1": 1, "HP0": 2, "HP1": 3, "HP2": 4, "HP3": 5, "LPD": 6}
    used = {*made.board.weight_ports, made.board.shared_port}
    for name, n in number.items():
        settings = made.found.settings["ps"]
        assert settings[f"PSU__USE__S_AXI_GP{n}"] == str(int(name in used))
        assert settings.get(f"PSU__SAXIGP{n}__DATA_WIDTH") == ("128" if name in used else None)
        slave = "S_AXI_LPD" if name == "LPD" else f"S_AXI_{name}_FPD"
        assert (f"ps/{slave}" in made.found.buses) == (name in used)
    masters = {}
    for port, name in enumerate(made.board.weight_ports):
        masters[f"weights/m_axi_hp{port}"] = name
    masters["load/m_axi_hp0"] = made.board.weight_ports[0]
    masters |= {f"{unit}/m_axi_hp0": made.board.shared_port for unit in ("fetch", "store")}
    for master, name in masters.items():
        cell = f"memory_port_{name.lower()}"
        assert master in [made.found.buses.get(f"{cell}/S{n:02d}_AXI") for n in range(2)]
        slave = "S_AXI_LPD" if name == "LPD" else f"S_AXI_{name}_FPD"
        assert made.found.buses[f"ps/{slave}"] == f"{cell}/M00_AXI"
        space = master.replace("/", "/Data_")
        prefix = f"ps/SAXIGP{number[name]}/{name}"
        assert made.found.addresses[space] == {
            f"{prefix}_DDR_LOW": (0, 1 << 31),
            f"{prefix}_DDR_HIGH": (1 << 35, 1 << 35),
        }
        assert {s for where, s in made.found.excluded if where == space} == {f"{prefix}_LPS_OCM", f"{prefix}_QSPI"}
    assert set(made.found.addresses) == {"ps/Data", *(m.replace("/", "/Data_") for m in masters)}


def test_weight_ports_without_columns_stay_open(made):
    joined = {master for master in made.found.buses.values() if master.startswith("weights/m_axi_")}
    assert joined == {f"weights/m_axi_hp{n}" for n in range(made.board.ports)}
    assert ("weights/m_axi_hp5" in made.design.unconnected) == (made.board.name == "zcu102")


def test_wizard_and_engine_clock(made):
    settings = made.found.settings["clock_wizard"]
    assert {name: settings[name] for name in settings if name.startswith("MMCM_")} == {
        "MMCM_DIVCLK_DIVIDE": "1", "MMCM_CLKFBOUT_MULT_F": "12.000", "MMCM_CLKOUT0_DIVIDE_F": "4.000",
        "MMCM_CLKOUT1_DIVIDE": "6", "MMCM_CLKOUT2_DIVIDE": "8", "MMCM_CLKOUT3_DIVIDE": "12",
    }  # fmt: skip
    assert settings["USE_DYN_RECONFIG"] == "true"
    assert {settings[f"CLKOUT{n}_DRIVES"] for n in range(1, 5)} == {"No_buffer"}
    wanted = [float(settings[f"CLKOUT{n}_REQUESTED_OUT_FREQ"]) for n in range(1, 5)]
    assert tuple(wanted) == registers.WIZARD_OUTPUTS_MHZ
    assert made.found.nets["clock_wizard/clk_in1"] == FIXED
    assert float(made.found.settings["ps"]["PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ"]) == registers.CLOCK_INPUT_MHZ
    assert made.found.of("frequency") == [["clock_select/engine_clk", "300000000"]]


def test_project(made):
    newest = {"zcu102": "xilinx.com:zcu102:part0:3.10", "zcu111": "xilinx.com:zcu111:part0:1.4"}
    assert made.found.of("create_project") == [["zynqbert", made.board.part]]
    assert ["board_part", newest[made.board.name]] in made.found.of("project")
    assert made.found.settings["ps"]["PRESET"] == "1"
    assert made.found.cells["ps"] == "xilinx.com:ip:zynq_ultra_ps_e:3.5"
    assert made.found.of("file_property") == [
        ["crossings.xdc", "used_in_synthesis", "false"],
        ["crossings.xdc", "processing_order", "LATE"],
    ]
    order = [kind for kind, *_ in made.found.rows]
    assert order.index("validate_bd_design") < order.index("save_bd_design") < order.index("generate_target")
    assert made.found.of("top") == [["zynqbert_wrapper"]]
    sources = {f.split("/")[-1] for where, f in made.found.of("file") if where == "sources_1"}
    assert sources == {*(path.name for path in (ROOT / "rtl").glob("*.*")), "zynqbert_wrapper.v"}
    assert sources >= {"clock_select.v", "engine_control.v", "memory.v", "registers.vh"}


def test_a_slower_clock_changes_the_wizard_alone(tmp_path):
    """--clock-mhz 200: the same design with other factors, and the frequency told to the block design."""
    texts = {}
    for mhz in (300, 200):
        place = prepare(tmp_path / str(mhz), BOARDS["zcu111"], mhz)
        text = (place.folder / "settings.tcl").read_text().replace(str(place.folder), "FOLDER")
        texts[mhz] = text.splitlines()
    changed = [(a, b) for a, b in zip(texts[300], texts[200], strict=True) if a != b]
    assert [a.split()[0] for a, _ in changed] == ["set", "[list", "[list"]
    assert changed[0][1] == "set design(engine_hz) 200000000"
    assert "CONFIG.MMCM_CLKOUT0_DIVIDE_F 6.000 CONFIG.MMCM_CLKOUT1_DIVIDE 6" in changed[2][1]


# --- what the script refuses -----------------------------------------------------------------------------------------


def swapped(old, new):
    def edit(text):
        assert old in text, old
        return text.replace(old, new)

    return edit


REFUSED = {
    "no part": ({"trouble": "no-part"}, r"has no part xczu9eg-ffvb1156-2-e; remedy: .*Add Design Tools or Devices"),
    "no board files": ({"trouble": "no-board"}, r"no board files xilinx.com:zcu102:part0.*remedy: .*install ZCU102"),
    "no IP": (
        {"units": ("fetch", "load", "weights", "expand", "vector")},
        r"no zynqbert.org:hls:engine_store; remedy: .*--step ip --force.*/ip/engine_fetch, .*/ip/engine_store",
    ),
    "pin of another name": (
        {"edit": swapped("{status_ap_vld} {O}", "{status_vld} {O}")},
        r"there is no pin fetch/status_ap_vld; the pins of fetch are: .*status, status_vld",
    ),
    "interface of another name": (
        {"edit": swapped("{commands_vector} {Master}", "{out_vector} {Master}")},
        r"there is no interface fetch/commands_vector; those of fetch are: .*commands_load.*out_vector",
    ),
    "unit with a handshake": ({"handshake": ("fetch", "load")}, r"not connected: /load/ap_ctrl$"),
    "second port": (
        {"edit": swapped("{weights_we0} {O} {data} {}}",
                         "{weights_we0} {O} {data} {}} {{weights_address1} {O} {data} {13}}")},
        r"expand/weights has a second port \(expand/weights_address1\)",
    ),
    "unknown input": (
        {"edit": swapped("{activations_0_q0} {I}", "{extra} {I} {data} {}} {{activations_0_q0} {I}")},
        r"not connected: /array/extra$",
    ),
    "narrow memory port": (
        {"edit": swapped("{weights_q0} {I} {data} {$COLUMNS*9/2-1}", "{weights_q0} {I} {data} {4*$COLUMNS-1}")},
        r"the width of array/weights_q0 is 512, must be 576",
    ),
    "addresses that differ": (
        {"edit": swapped("{weights_address0} {O} {data} {13}} {{weights_ce0} {O} {data} {}} {{weights_q0}",
                         "{weights_address0} {O} {data} {12}} {{weights_ce0} {O} {data} {}} {{weights_q0}")},
        r"the width of array/weights_address0 is 13, must be 14",
    ),
    "address beyond the memory": (
        {"edit": swapped("{activations_3_address0} {O} {data} {12}", "{activations_3_address0} {O} {data} {13}")},
        r"vector/activations_3_address0 has 14 bits, 6144 words need 13",
    ),
    "byte enables": (
        {"edit": swapped("{weights_we0} {O} {data} {}", "{weights_we0} {O} {data} {63}")},
        r"the width of expand/weights_we0 is 64, must be 1",
    ),
    "narrow AXI": (
        {"edit": swapped("{m_axi_hp2} {Master} {aximm} {{DATA_WIDTH} {128}",
                         "{m_axi_hp2} {Master} {aximm} {{DATA_WIDTH} {64}")},
        r"the data width of weights/m_axi_hp2 is 64, must be 128",
    ),
    "ends of a stream that differ": (
        {"edit": swapped("{words} {Slave} {axis} {{TDATA_NUM_BYTES} {64}",
                         "{words} {Slave} {axis} {{TDATA_NUM_BYTES} {32}")},
        r"TDATA of store/words, in bytes, is 32, must be 64",
    ),
    "stream too narrow": (
        {"edit": swapped("{accumulators} {Master} {axis} {{TDATA_NUM_BYTES} {128}",
                         "{accumulators} {Master} {axis} {{TDATA_NUM_BYTES} {107}")},
        r"TDATA of vector/accumulators, in bytes, is 128, must be 107",
    ),
    "validation": ({"trouble": "validate"}, r"validation failed"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named(zcu102, case):
    how, expected = REFUSED[case]
    run = zcu102.run("design", **how)
    assert run.returncode == 1
    lines = [line for line in run.stdout.splitlines() if line.startswith("zynqbert: ")]
    assert len(lines) == 1 and re.search(expected, lines[0]), run.stdout
    assert "save_bd_design" not in zcu102.record.read_text()


def test_streams_narrower_than_their_payload_are_refused(zcu102):
    edit = swapped(
        "{accumulators} {Master} {axis} {{TDATA_NUM_BYTES} {128}",
        "{accumulators} {Master} {axis} {{TDATA_NUM_BYTES} {107}",
    )
    other = swapped(
        "{accumulators} {Slave} {axis} {{TDATA_NUM_BYTES} {128}",
        "{accumulators} {Slave} {axis} {{TDATA_NUM_BYTES} {107}",
    )
    run = zcu102.run("design", edit=lambda text: other(edit(text)))
    assert "zynqbert: TDATA of array/accumulators has 107 bytes, too few for 864 bits" in run.stdout


def test_interpreter_of_tkinter_does_the_same(tmp_path, monkeypatch):
    """Where there is no tclsh."""
    pytest.importorskip("tkinter", reason="this Python has no tkinter; tclsh ran the other tests")
    places = [prepare(tmp_path / name, BOARDS["zcu102"]) for name in ("tclsh", "tkinter")]
    assert places[0].run("design").returncode == 0
    monkeypatch.setattr(vivado_stub, "interpreter", lambda: [sys.executable, "-c", vivado_stub.TKINTER])
    assert places[1].run("design").returncode == 0
    assert places[1].run("implement", figures={"wns": -1.0, "tns": -1.0}).returncode == 3
    texts = [p.record.read_text().replace(str(p.folder), "") for p in places]
    assert texts[1].startswith(texts[0])


# --- implementation --------------------------------------------------------------------------------------------------


@pytest.fixture
def designed(zcu102):
    assert zcu102.run("design").returncode == 0
    return zcu102


def launched(place):
    return [row[0] for row in read_design(place.record).of("launch_runs")]


def test_implementation_reports_and_writes(designed):
    run = designed.run("implement")
    assert run.returncode == 0, run.stdout
    assert launched(designed) == ["synth_1", "impl_1"]
    reports = {"timing_summary", "utilization", "utilization_hierarchical", "clocks", "clock_interaction", "cdc"}
    results = designed.folder / "results"
    assert {path.stem for path in (results / "reports").iterdir()} == reports
    assert (results / "zynqbert.bit").is_file() and (results / "zynqbert.hwh").is_file()
    strategies = dict(read_design(designed.record).of("strategy"))
    assert strategies == {"synth_1": bd.SYNTHESIS_STRATEGY, "impl_1": bd.IMPLEMENTATION_STRATEGY}


@pytest.mark.parametrize(
    "figures",
    [
        {"wns": -0.001, "tns": -0.001}, {"whs": -0.002, "ths": -0.01}, {"tpws": -0.3, "wpws": -0.3}, {"tns": -0.001},
    ],
    ids=["setup", "hold", "pulse width", "sum"],
)  # fmt: skip
def test_no_bitstream_where_timing_is_not_met(designed, figures):
    run = designed.run("implement", figures=figures)
    assert run.returncode == 3
    assert (designed.folder / "results" / "reports" / "timing_summary.rpt").is_file()
    assert not list((designed.folder / "results").glob("*.bit"))
    assert not read_design(designed.record).of("write_bitstream")


@pytest.mark.parametrize(
    ("trouble", "after"), [("killed-synth_1", ["synth_1", "impl_1"]), ("killed-impl_1", ["impl_1"]), ("no-bit", [])]
)
def test_cut_short_it_goes_on_with_the_run_that_is_not_complete(designed, trouble, after):
    """Killed right after a run was launched, whose state then says less than 100 %."""
    assert designed.run("implement", trouble=trouble).returncode == (0 if trouble == "no-bit" else 9)
    before = launched(designed)
    runs = designed.folder / "project" / "runs.txt"
    if trouble != "no-bit":
        killed = trouble.removeprefix("killed-")
        runs.write_text(re.sub(rf"({killed} \{{PROGRESS) 100%", r"\1 62%", runs.read_text()))
    assert designed.run("implement").returncode == 0
    assert launched(designed)[len(before) :] == after


@pytest.mark.parametrize("name", ["synth_1", "impl_1"])
def test_failed_run_is_named_with_its_log(designed, name):
    run = designed.run("implement", trouble=f"fail-{name}")
    assert run.returncode == 1
    assert re.search(rf"^zynqbert: {name} ended with '{name} ERROR'; its log: .*/zynqbert.runs/{name}/runme.log$",
                     run.stdout, flags=re.M)  # fmt: skip
    assert not read_design(designed.record).of("write_bitstream")


def test_clocks_that_do_not_reach_the_engine_are_noticed(designed):
    run = designed.run("implement", trouble="clocks")
    assert run.returncode == 1
    assert "zynqbert: 1 clocks reach the engine (clk_out1_zynqbert), must be the wizard's four" in run.stdout


# --- constraints -----------------------------------------------------------------------------------------------------

RECORDER = """
set interpreter [interp create -safe]
foreach command [$interpreter eval {info commands}] {
  if {$command ni {set rename interp}} {$interpreter hide $command}
}
proc told {name args} {puts [list $name {*}$args]}
foreach name {set_clock_groups set_max_delay set_false_path set_clock_uncertainty} {
  $interpreter alias $name told $name
}
$interpreter alias get_pins pins
$interpreter alias get_clocks clocks
$interpreter alias get_property period
proc pins {name} {return $name}
proc clocks {option pin} {
  switch -glob $pin {
    zynqbert_i/ps/pl_clk0 {return fixed}
    zynqbert_i/clock_select/engine_clk {return {out0 out1 out2 out3}}
    zynqbert_i/clock_select/clk? {return out[string index $pin end]}
  }
  error "no clock at $pin"
}
proc period {option name clocks} {
  if {"$option $name" ne "-min PERIOD"} {error "get_property $option $name"}
  return [expr {$clocks eq "fixed" ? 10.0 : 3.333}]
}
set file [open [lindex $argv 0]]
$interpreter eval [read $file]
"""


def exceptions(tmp_path, text):
    """Commands of the constraints. XDC allows no control flow: none is left in the interpreter."""
    (tmp_path / "recorder.tcl").write_text(RECORDER)
    (tmp_path / "constraints.xdc").write_text(text)
    command = [*vivado_stub.interpreter(), str(tmp_path / "recorder.tcl"), str(tmp_path / "constraints.xdc")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_exceptions_between_clocks(tmp_path):
    assert exceptions(tmp_path, CONSTRAINTS.read_text()) == [
        "set_clock_groups -name engine_outputs -logically_exclusive -group out0 -group out1 -group out2 -group out3",
        "set_max_delay -datapath_only -from fixed -to {out0 out1 out2 out3} 3.333",
        "set_max_delay -datapath_only -from {out0 out1 out2 out3} -to fixed 10.0",
        "set_false_path -from fixed -through zynqbert_i/clock_select/select*",
        "set_false_path -from fixed -through zynqbert_i/clock_select/enable",
        f"set_clock_uncertainty -setup {bd.RETUNE_MARGIN_NS:g} {{out0 out1 out2 out3}}",
    ]


def test_constraints_name_what_the_design_has(made):
    """zynqbert_i is what the wrapper calls the block design; its cells and pins are those of the Tcl."""
    for name in re.findall(r"\bzynqbert_i/([\w/]+)", CONSTRAINTS.read_text()):
        cell, pin = name.split("/")
        assert cell in made.found.cells
        pins = {"pl_clk0"} if cell == "ps" else {name for name, *_ in core(made, cell).pins}
        assert pin in pins, name
    assert bd.NAME == "zynqbert"


def test_scripts_hold_no_number_of_the_table():
    """Addresses, widths, depths and frequencies come from the settings."""
    for path in SCRIPTS.glob("*.tcl"):
        code = re.sub(r"#.*", "", path.read_text())
        assert not re.findall(r"\b0x[0-9A-Fa-f]+\b|\b\d{3,}\b", re.sub(r"\b100%|2024\.2", "", code)), path.name


# --- the stubs themselves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no_such_command", 'invalid command name "no_such_command"'),
        ("get_bd_pins a/nothing", "nothing in pin matches a/nothing"),
        ("connect_bd_net [get_bd_pins a/peripheral_aresetn] [get_bd_pins b/ext_reset_in]", "is joined to"),
        ("connect_bd_net [get_bd_pins a/aux_reset_in] [get_bd_pins b/aux_reset_in]", "a net needs one driver"),
        ("connect_bd_intf_net [get_bd_intf_pins s/S00_AXI] [get_bd_intf_pins s/M00_AXI]", "Slave"),
        ("set_property -dict {CONFIG.NUM_XI 2} [get_bd_cells s]", "has no parameter CONFIG.NUM_XI"),
        ("set_property CONFIG.NUM_MI 2 [get_bd_cells -quiet nothing]", "on nothing"),
        ("create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:9.0 t", "the catalogue has no"),
        ("create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 s", "is there already"),
        ("add_files /no/such/file", "does not exist"),
        ("assign_bd_address -offset 0 -range 64K -target_address_space x y", "is no address space"),
        ("get_bd_cells -unknown", "unknown option -unknown"),
    ],
)
def test_stubs_refuse(tmp_path, line, said):
    script = tmp_path / "script.tcl"
    script.write_text(
        "create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset:5.0 a\n"
        "create_bd_cell -type ip -vlnv xilinx.com:ip:proc_sys_reset:5.0 b\n"
        "create_bd_cell -type ip -vlnv xilinx.com:ip:smartconnect:1.0 s\n"
        "connect_bd_net [get_bd_pins a/mb_reset] [get_bd_pins b/ext_reset_in]\n" + line
    )
    run = run_script(script, script, 128, tmp_path / "record.txt")
    assert run.returncode == 1 and said in run.stdout, run.stdout


def test_ports_are_named_as_the_vendor_names_them():
    """The three kinds of port of the PS."""
    found = [(p.interface, p.clock, p.segments) for p in (bd.MemoryPort(n, ()) for n in ("HP3", "HPC1", "LPD"))]
    assert found == [
        ("S_AXI_HP3_FPD", "saxihp3_fpd_aclk", "SAXIGP5/HP3"),
        ("S_AXI_HPC1_FPD", "saxihpc1_fpd_aclk", "SAXIGP1/HPC1"),
        ("S_AXI_LPD", "saxi_lpd_aclk", "SAXIGP6/LPD"),
    ]


def test_a_board_with_other_ports_has_other_open_ones():
    narrow = replace(BOARDS["zcu111"], columns=64, weight_ports=("HP0", "HP1"))
    open_ = (*(f"weights/m_axi_hp{n}" for n in range(2, 6)), *(f"array/key_value_{n}_q0" for n in (1, 2)))
    assert bd.block_design(narrow, 300).unconnected == ("fetch/ap_ctrl", *open_)
