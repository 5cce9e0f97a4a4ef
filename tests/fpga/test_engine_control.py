# SPDX-License-Identifier: Apache-2.0
"""engine_control.v under Verilator: its registers one by one, and the real driver on them, at clocks of any ratio."""

import numpy as np
import pytest
import rtl
from pynq.pl_server.device import Device
from zynqbert.fpga import registers
from zynqbert.fpga.capabilities import CAPABILITIES
from zynqbert.fpga.instructions import LANES, PROGRAM_VERSION
from zynqbert.host import driver as drivers
from zynqbert.host.driver import EngineDriver, Identity
from zynqbert.host.errors import ClockError, EngineError, EngineTimeout

BASE = registers.ENGINE_BLOCK.base
ARGUMENTS = ("PROGRAM", "IMAGE", "IO", "INSTRUCTIONS", "ROW_BLOCKS")
START, DONE, IDLE, READY = registers.AP_START, registers.AP_DONE, registers.AP_IDLE, registers.AP_READY
STOPPED, BUSY = registers.CLOCK_STOPPED, registers.CLOCK_BUSY
RESET_MIN_CYCLES = 16
ACTS = ("AP_CTRL", "ISR", "RESET")  # written, they do not hold but do: TestRuns, TestInterrupt, TestReset
# Half periods in ps of the fixed clock and of the engine's: faster, all but equal, slower, ten times slower, a fixed
# clock that is the faster by far, phases that wander.
CLOCKS = {
    "engine-fast": (5000, 1667),
    "engine-just-faster": (5000, 4999),
    "engine-just-slower": (5000, 5003),
    "engine-slow": (5000, 11_731),
    "engine-10-MHz": (5000, 48_611),
    "fixed-fast": (1013, 5000),
    "fixed-slow": (20_011, 1667),
    "wander": ((4000, 6000), (1500, 9000)),
}


def address(name: str) -> int:
    return registers.engine(name).offset


class RtlDevice(Device):
    """A pynq device whose registers are AXI4-Lite accesses to the bench."""

    def __init__(self, bench: rtl.EngineBench):
        super().__init__("rtl")
        self.capabilities = {"REGISTER_RW": True}
        self.bench = bench

    def read_registers(self, at, length):
        return b"".join(self.bench.read(at - BASE + i).to_bytes(4, "little") for i in range(0, length, 4))

    def write_registers(self, at, data):
        data = bytes(data)
        for i in range(0, len(data), 4):
            self.bench.write(at - BASE + i, int.from_bytes(data[i : i + 4], "little"))


def drive(bench: rtl.EngineBench) -> EngineDriver:
    """The host's own driver on the bench."""
    return EngineDriver(
        {"device": RtlDevice(bench), "phys_addr": BASE, "addr_range": registers.RANGE, "fullpath": "engine"}
    )


def ready_bench(**settings) -> rtl.EngineBench:
    """A bench whose first reset is over."""
    bench = rtl.EngineBench(**settings)
    bench.wait("RESET", 1, 0)
    return bench


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    monkeypatch.setattr(drivers, "POLL_S", 0)


@pytest.fixture
def bench():
    return ready_bench()


@pytest.fixture
def driver(bench):
    return drive(bench)


def begin(bench, cycles=1000, early=0, **arguments):
    """Start a run of so many engine cycles; it is ready so many before it is done."""
    bench.set("run_cycles", cycles)
    bench.set("run_early", early)
    for name, value in arguments.items():
        bench.put_register(name, value)
    bench.write(address("AP_CTRL"), START)


def test_lint():
    assert rtl.lint("engine_control") == ""


class TestRegisters:
    # What a write may change of each register, and what it holds before any.
    WRITABLE = {  # noqa: RUF012
        "AP_CTRL": (0, IDLE), "GIE": (1, 0), "IER": (3, 0), "ISR": (0, 0),
        "PROGRAM": (2**64 - 1, 0), "IMAGE": (2**64 - 1, 0), "IO": (2**64 - 1, 0),
        "INSTRUCTIONS": (2**32 - 1, 0), "ROW_BLOCKS": (2**32 - 1, 0),
        "STATUS": (0, 0), "DETAIL": (0, 0), "ID": (0, rtl.ENGINE_ID),
        "CLOCK": (0x103, 0), "CLOCK_STATUS": (0, 0), "RESET": (0, 0),
        "CLOCK_LIMIT": (3, registers.CLOCK_LIMIT_DEFAULT), "CLOCK_ENDED": (0, 0),
    }  # fmt: skip

    def test_no_register_is_left_out(self):
        assert tuple(self.WRITABLE) == tuple(r.name for r in registers.ENGINE)

    @pytest.mark.parametrize("register", [r for r in registers.ENGINE if r.name not in ACTS], ids=lambda r: r.name)
    def test_holds_what_may_be_written(self, bench, register):
        """Every byte by itself, by WSTRB; and no other register is touched."""
        mask, value = self.WRITABLE[register.name]
        rng = np.random.default_rng(register.offset)
        follow = ("CLOCK_STATUS",) if register.name == "CLOCK" else ()
        others = {n: bench.get_register(n) for n in self.WRITABLE if n != register.name and n not in follow}
        assert bench.get_register(register.name) == value
        for _ in range(12):
            written, strobe = int(rng.integers(2**63)) * 2 + 1, int(rng.integers(256))
            for word in range(register.width // 32):
                bench.write(register.offset + 4 * word, written >> 32 * word & 0xFFFFFFFF, strobe >> 4 * word & 15)
            bytes_ = sum(0xFF << 8 * i for i in range(register.width // 8) if strobe >> i & 1)
            value = value & ~(mask & bytes_) | written & mask & bytes_
            assert bench.get_register(register.name) == value
        if register.access == "R":
            assert mask == 0
        assert {name: bench.get_register(name) for name in others} == others

    def test_nothing_is_where_there_is_no_register(self, bench):
        """Up to the end of the range: no register is found again at another address."""
        known = {r.offset + at for r in registers.ENGINE for at in range(0, r.width // 8, 4)}
        offsets = [*range(0, 0x200, 4), *(known_ + alias for known_ in sorted(known) for alias in (0x400, 0x8000))]
        before = {name: bench.get_register(name) for name in self.WRITABLE}
        for offset in offsets:
            if offset not in known:
                bench.write(offset, 0xFFFFFFFF)
                assert bench.read(offset) == 0, f"0x{offset:X}"
        assert {name: bench.get_register(name) for name in self.WRITABLE} == before
        assert bench.get("starts") == 0

    def test_driver_knows_the_engine(self, driver):
        assert driver.identify() == Identity(PROGRAM_VERSION, 128, LANES, frozenset(CAPABILITIES))


class TestAxi:
    @pytest.mark.parametrize("pressure", [0, 30, 80])
    def test_any_order_and_any_wait(self, pressure):
        """Writes and reads side by side, address and data in any order, each side waiting at random: every write is
        done once, in order, before its answer; a read sees whole words."""
        bench = ready_bench(seed=pressure)
        bench.set("pressure", pressure)
        at = address("INSTRUCTIONS")
        for i in range(1, 301):
            bench.post_write(at, i * 0x0101_0101 % 2**32)
            bench.post_write(address("PROGRAM") + 4 * (i % 2), i)
            bench.post_read(at)
            bench.post_read(address("ID"))
        words = bench.finish()
        index = {i * 0x0101_0101 % 2**32: i for i in range(301)}
        seen = [index[word] for word in words[::2]]
        assert seen == sorted(seen) and seen[-1] > 100
        assert set(words[1::2]) == {rtl.ENGINE_ID & 0xFFFFFFFF}
        assert bench.read(at) == 300 * 0x0101_0101 % 2**32
        assert bench.get_register("PROGRAM") == 299 << 32 | 300

    def test_a_read_after_the_answer_sees_the_write(self, bench):
        bench.set("pressure", 60)
        for i in range(200):
            bench.write(address("ROW_BLOCKS"), i)
            assert bench.read(address("ROW_BLOCKS")) == i


class TestRuns:
    @pytest.mark.parametrize("uncertain", [False, True], ids=["real-crossings", "uncertain-crossings"])
    @pytest.mark.parametrize("pressure", [0, 50])
    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_driver_at_any_ratio_of_the_clocks(self, clocks, pressure, uncertain):
        """Runs back to back, of 1 cycle and more: fetch gets the arguments, they stand still, status and detail come
        back, each run is one."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(seed=pressure, fixed=fixed, outputs=(output,) * 4, uncertain=uncertain)
        driver = drive(bench)
        bench.set("pressure", pressure)
        rng = np.random.default_rng(pressure)
        for run in range(40):
            values = [int(v) << 4 for v in rng.integers(0, 2**60, 3)] + [int(v) for v in rng.integers(0, 2**32, 2)]
            status = int(rng.integers(0, 6))
            detail = int(rng.integers(0, 2**63))
            cycles = 1 if run % 4 == 0 else int(rng.integers(1, 50))
            bench.set("run_cycles", cycles)
            bench.set("run_early", int(rng.integers(0, cycles)))
            bench.set("run_status", status)
            bench.set("run_detail", detail)
            if status:
                with pytest.raises(EngineError) as caught:
                    driver.run(*values)
                assert (caught.value.status, caught.value.detail) == (status, detail)
            else:
                driver.run(*values)
                assert (bench.get_register("STATUS"), bench.get_register("DETAIL")) == (0, detail)
            assert bench.arguments() == dict(zip(ARGUMENTS, values, strict=True))
            assert bench.get("starts") == run + 1
            assert bench.read(address("AP_CTRL")) == IDLE
        assert bench.get("moved") == 0

    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_each_end_is_seen_once(self, clocks):
        """AP_CTRL read without a pause: no done and no ready is lost, none comes twice, at any phase of the end."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(fixed=fixed, outputs=(output,) * 4)
        for run in range(1, 61):
            begin(bench, cycles=run, early=run // 3)
            seen = []
            while not seen or not seen[-1] & IDLE:
                seen.append(bench.read(address("AP_CTRL")))
            seen += [bench.read(address("AP_CTRL")) for _ in range(3)]
            assert sum(bool(value & DONE) for value in seen) == 1
            assert sum(bool(value & READY) for value in seen) == 1
            assert seen[-1] == IDLE

    def test_ap_ctrl_follows_a_run(self, bench):
        """Start is 1 until the engine has taken it, ready and done come in their time and clear when read."""
        begin(bench, cycles=3000, early=1500)
        assert [bench.read(address("AP_CTRL")) for _ in range(3)] == [START] * 3
        bench.wait("AP_CTRL", READY, READY)
        assert bench.read(address("AP_CTRL")) == 0
        bench.wait("AP_CTRL", DONE | IDLE, DONE | IDLE)
        assert bench.read(address("AP_CTRL")) == IDLE

    def test_results_change_only_at_the_end(self, bench):
        bench.set("run_status", 3)
        bench.set("run_detail", 2**64 - 5)
        begin(bench, cycles=10)
        bench.wait("AP_CTRL", DONE, DONE)
        bench.set("run_status", 1)
        bench.set("run_detail", 7)
        begin(bench, cycles=2000)
        for _ in range(20):
            assert (bench.get_register("STATUS"), bench.get_register("DETAIL")) == (3, 2**64 - 5)
        assert bench.read(address("AP_CTRL")) == START
        bench.wait("AP_CTRL", DONE, DONE)
        assert (bench.get_register("STATUS"), bench.get_register("DETAIL")) == (1, 7)

    def test_arguments_stand_still_while_a_program_runs(self, bench):
        values = {name: 0x1230 + i for i, name in enumerate(ARGUMENTS)}
        begin(bench, cycles=3000, early=2000, **values)
        for reason in ("start", "running"):
            for name in ARGUMENTS:
                bench.put_register(name, 0xFFFF_FFF0)
                assert bench.get_register(name) == values[name], reason
            bench.wait("AP_CTRL", START, 0)
        bench.wait("AP_CTRL", DONE, DONE)
        assert bench.get("moved") == 0
        bench.put_register("IO", 0x5550)
        assert bench.get_register("IO") == 0x5550

    def test_done_is_said_of_an_idle_engine(self, bench):
        """fetch still busy for a while after ap_done: the run lasts as long, so no clock is changed under it."""
        bench.set("run_lingers", 500)
        begin(bench, cycles=10)
        bench.wait("AP_CTRL", IDLE, IDLE)
        assert bench.get("engine_idle") == 1
        begin(bench, cycles=10)
        bench.wait("AP_CTRL", DONE, DONE)
        assert bench.get("starts") == 2

    def test_a_second_start_is_none_before_the_first_is_taken(self, bench):
        begin(bench, cycles=2000)
        for _ in range(5):
            bench.write(address("AP_CTRL"), START)
        bench.wait("AP_CTRL", DONE, DONE)
        bench.advance(50_000_000)
        assert (bench.get("starts"), bench.read(address("AP_CTRL"))) == (1, IDLE)

    def test_a_second_start_waits_once_the_first_is_taken(self, bench):
        begin(bench, cycles=2000, early=1900)
        bench.wait("AP_CTRL", START, 0)
        bench.write(address("AP_CTRL"), START)
        assert bench.get("starts") == 1
        bench.wait("AP_CTRL", DONE, DONE)
        bench.wait("AP_CTRL", DONE, DONE)
        assert (bench.get("starts"), bench.read(address("AP_CTRL"))) == (2, IDLE)

    def test_only_byte_0_and_bit_0_start(self, bench):
        bench.write(address("AP_CTRL"), 0xFFFFFFFF, strobe=0b1110)
        bench.write(address("AP_CTRL"), 0xFFFFFFFE)
        bench.advance(1_000_000)
        assert (bench.get("starts"), bench.read(address("AP_CTRL"))) == (0, IDLE)

    def test_registers_answer_while_no_clock_reaches_the_engine(self, bench, driver):
        """The wizard without lock: registers read and write, a start waits for the clock, and is not lost."""
        for output in range(4):
            bench.clock(output, 0)
        driver.identify()
        begin(bench, cycles=5, PROGRAM=0x40)
        for _ in range(20):
            assert bench.read(address("AP_CTRL")) == START
        bench.clock(0, 1667)
        driver.wait(10)
        assert (bench.get("starts"), bench.arguments()["PROGRAM"]) == (1, 0x40)


class TestInterrupt:
    @pytest.mark.parametrize("enable", [0, 1, 2, 3])
    def test_events_that_are_enabled(self, bench, enable):
        bench.write(address("GIE"), 1)
        bench.write(address("IER"), enable)
        begin(bench, cycles=10)
        bench.wait("AP_CTRL", DONE, DONE)
        assert bench.read(address("ISR")) == enable
        assert bench.get("irq") == (enable != 0)

    def test_it_is_a_level_until_isr_is_cleared(self, bench):
        bench.write(address("GIE"), 1)
        bench.write(address("IER"), 1)
        begin(bench, cycles=10)
        bench.wait("AP_CTRL", DONE, DONE)
        bench.advance(1_000_000)
        assert bench.get("irq") == 1
        bench.write(address("ISR"), 1)
        assert (bench.get("irq"), bench.read(address("ISR"))) == (0, 0)

    def test_ready_comes_before_done(self, bench):
        bench.write(address("GIE"), 1)
        bench.write(address("IER"), 3)
        begin(bench, cycles=2000, early=1900)
        bench.wait("ISR", 3, 2)
        assert bench.get("irq") == 1
        bench.write(address("ISR"), 2)
        assert bench.get("irq") == 0
        bench.wait("ISR", 3, 1)

    def test_gie_gates_the_pin_alone(self, bench):
        bench.write(address("IER"), 1)
        begin(bench, cycles=10)
        bench.wait("AP_CTRL", DONE, DONE)
        assert (bench.get("irq"), bench.read(address("ISR"))) == (0, 1)
        bench.write(address("GIE"), 1)
        assert bench.get("irq") == 1
        bench.write(address("GIE"), 0)
        assert bench.get("irq") == 0

    def test_isr_toggles(self, bench):
        bench.write(address("GIE"), 1)
        for written, strobe, expected in ((2, 15, 2), (3, 15, 1), (3, 0b1110, 1), (0, 15, 1), (0xFFFF_FFF1, 15, 0)):
            bench.write(address("ISR"), written, strobe)
            assert bench.read(address("ISR")) == expected
            assert bench.get("irq") == (expected != 0)


class TestReset:
    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_hung_program(self, clocks):
        """The driver's time-out, its reset, and the next program; again and again, at any phase."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(fixed=fixed, outputs=(output,) * 4)
        driver = drive(bench)
        bench.write(address("IER"), 3)
        bench.write(address("GIE"), 1)
        for run in range(8):
            bench.advance(run * 1237)
            bench.set("run_hangs", 1)
            driver.start(0x40, 0x80, 0xC0, 3, 1)
            with pytest.raises(EngineTimeout):
                driver.wait(-1)
            driver.reset()
            assert bench.read(address("AP_CTRL")) == IDLE, "no done of a run that was ended"
            assert (bench.read(address("ISR")), bench.get("irq")) == (0, 0)
            assert bench.get("reset_cycles") >= RESET_MIN_CYCLES
            bench.set("run_hangs", 0)
            bench.set("run_cycles", run + 1)
            before = bench.get("starts")
            driver.run(0x100, 0x200, 0x300, run, 2)
            assert bench.get("starts") == before + 1
            assert bench.arguments() == dict(zip(ARGUMENTS, (0x100, 0x200, 0x300, run, 2), strict=True))
            bench.write(address("ISR"), 3)
        assert bench.get("moved") == 0

    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_at_any_moment_of_a_run(self, clocks):
        """Reset written close to start, ready and done: AP_CTRL is idle at once and stays, the next run is one."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(fixed=fixed, outputs=(output,) * 4)
        for moment in range(60):
            begin(bench, cycles=4, early=moment % 4)
            bench.advance(moment * 1009)
            bench.write(address("RESET"), 1)
            assert bench.read(address("AP_CTRL")) == IDLE
            bench.wait("RESET", 1, 0)
            assert bench.read(address("AP_CTRL")) == IDLE
            before = bench.get("starts")
            begin(bench, cycles=3, INSTRUCTIONS=moment)
            bench.wait("AP_CTRL", DONE, DONE)
            bench.advance(2_000_000)
            assert bench.get("starts") == before + 1
            assert bench.arguments()["INSTRUCTIONS"] == moment
            assert bench.read(address("AP_CTRL")) == IDLE

    @pytest.mark.parametrize("clocks", ["engine-just-slower", "engine-slow", "engine-10-MHz"])
    def test_a_start_that_arrives_in_the_reset_is_none(self, clocks):
        """RESET written right behind start, whose toggle may take a cycle more: nothing begins after the reset."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(fixed=fixed, outputs=(output,) * 4, uncertain=True)
        met = 0
        for moment in range(200):
            begin(bench, cycles=4)
            bench.advance(moment % 40 * 1009)
            before, cycles = bench.get("starts"), bench.get("reset_cycles")
            bench.write(address("RESET"), 1)
            while bench.get("reset_cycles") == cycles:
                bench.advance(500)
            during = bench.get("starts")
            met += during == before
            bench.wait("RESET", 1, 0)
            bench.advance(2_000_000)
            assert bench.get("starts") == during
        assert met

    @pytest.mark.parametrize("output", range(4))
    def test_keeps_the_clock(self, bench, driver, output):
        driver.select_clock(output)
        driver.reset()
        assert bench.read(address("CLOCK")) == bench.read(address("CLOCK_STATUS")) == output

    @pytest.mark.parametrize("output", range(4))
    def test_of_a_stopped_engine(self, bench, driver, output):
        """The clock runs for the reset, and stands again when RESET reads 0."""
        driver.select_clock(output)
        driver.stop_clock()
        before = bench.get("engine_cycles")
        driver.reset()
        assert bench.read(address("CLOCK")) == output | registers.CLOCK_STOP
        assert bench.read(address("CLOCK_STATUS")) == output | STOPPED
        assert bench.get("reset_cycles") >= RESET_MIN_CYCLES
        after = bench.get("engine_cycles")
        assert after > before + RESET_MIN_CYCLES
        bench.advance(10_000_000)
        assert bench.get("engine_cycles") == after
        driver.start_clock()
        driver.run(0, 0, 0, 1, 1)

    def test_clears_what_runs_left_and_no_more(self, bench):
        kept = {"IER": 3, "GIE": 1, "PROGRAM": 0x1230, "CLOCK": 1}
        for name, value in kept.items():
            bench.put_register(name, value)
        bench.set("run_status", 2)
        bench.set("run_detail", 77)
        begin(bench, cycles=10)
        bench.advance(10_000_000)
        assert bench.get("irq") == 1
        bench.write(address("RESET"), 1)
        bench.wait("RESET", 1, 0)
        assert bench.read(address("AP_CTRL")) == IDLE
        assert (bench.read(address("ISR")), bench.get("irq")) == (0, 0)
        kept |= {"STATUS": 2, "DETAIL": 77}
        assert {name: bench.get_register(name) for name in kept} == kept

    def test_only_byte_0_and_bit_0_reset(self, bench):
        bench.write(address("RESET"), 0xFFFFFFFF, strobe=0b1110)
        bench.write(address("RESET"), 0xFFFFFFFE)
        cycles = bench.get("unit_cycles")
        bench.advance(1_000_000)
        assert bench.read(address("RESET")) == 0
        assert bench.get("unit_cycles") > cycles

    def test_a_start_meanwhile_is_held(self, bench):
        bench.write(address("RESET"), 1)
        begin(bench, cycles=5, IO=0x990)
        bench.wait("AP_CTRL", DONE, DONE)
        assert (bench.get("starts"), bench.arguments()["IO"]) == (1, 0x990)

    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_nothing_of_the_run_before_ends_the_next(self, clocks):
        """Reset between ap_done and idle, the next start held meanwhile: it ends when it ends."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(fixed=fixed, outputs=(output,) * 4)
        for _ in range(10):
            bench.set("run_lingers", 10_000)
            begin(bench, cycles=1)
            bench.advance(2_000_000)
            bench.write(address("RESET"), 1)
            bench.set("run_lingers", 0)
            before = bench.get("engine_cycles")
            begin(bench, cycles=400)
            bench.wait("AP_CTRL", DONE, DONE)
            assert bench.get("engine_cycles") - before > 400

    def test_a_start_at_power_up_is_held(self):
        bench = rtl.EngineBench(outputs=(48_611,) * 4)
        begin(bench, cycles=5, IO=0x990)
        assert bench.read(address("RESET")) == 1
        bench.wait("AP_CTRL", DONE, DONE)
        assert bench.get("starts") == 1
        assert bench.get("reset_cycles") >= RESET_MIN_CYCLES

    def test_reset_pin(self, bench, driver):
        """In the middle of a run, from another output: all registers as at power-up, the engine reset, output 0."""
        driver.select_clock(2)
        bench.write(address("GIE"), 1)
        bench.write(address("IER"), 3)
        bench.set("run_hangs", 1)
        driver.start(0x40, 0x80, 0xC0, 3, 1)
        bench.advance(1_000_000)
        bench.set("fixed_resetn", 0)
        bench.advance(20_000)
        bench.set("fixed_resetn", 1)
        bench.wait("RESET", 1, 0)
        for register in registers.ENGINE:
            assert bench.get_register(register.name) == TestRegisters.WRITABLE[register.name][1], register.name
        assert bench.get("reset_cycles") >= RESET_MIN_CYCLES
        bench.set("run_hangs", 0)
        driver.run(0x10, 0x20, 0x30, 1, 1)


class TestClockAndRuns:
    def test_driver_selects_stops_and_starts(self, bench, driver):
        for output in (3, 1, 0, 2, 2):
            driver.select_clock(output)
            assert (driver.clock_output, driver.clock_stopped) == (output, False)
            driver.run(0, 0, 0, 1, 1)
            driver.stop_clock()
            assert (driver.clock_output, driver.clock_stopped) == (output, True)
            driver.start_clock()
            assert (driver.clock_output, driver.clock_stopped) == (output, False)

    def test_driver_changes_nothing_while_a_program_runs(self, bench, driver):
        bench.set("run_hangs", 1)
        driver.start(0, 0, 0, 1, 1)
        with pytest.raises(ClockError, match="a program runs"):
            driver.select_clock(1)

    def test_a_start_waits_for_a_stopped_clock(self, bench, driver):
        driver.stop_clock()
        bench.set("run_cycles", 5)
        driver.start(0x40, 0x80, 0xC0, 3, 1)
        bench.advance(10_000_000)
        assert (bench.get("starts"), bench.read(address("AP_CTRL"))) == (0, START)
        bench.write(address("CLOCK"), 2)
        driver.wait(10)
        assert bench.get("starts") == 1
        assert bench.arguments() == dict(zip(ARGUMENTS, (0x40, 0x80, 0xC0, 3, 1), strict=True))

    def test_a_start_waits_for_the_change_before_it(self, bench):
        """Neither AP_CTRL nor CLOCK_STATUS awaited in between: the run is on the new clock from its first cycle."""
        bench.write(address("CLOCK"), 3)
        begin(bench, cycles=50)
        bench.wait("AP_CTRL", DONE, DONE)
        assert bench.read(address("CLOCK_STATUS")) == 3
        bench.edges()
        bench.write(address("CLOCK"), 0)
        begin(bench, cycles=50)
        bench.wait("AP_CTRL", DONE, DONE)
        times = np.abs(bench.edges())
        slow, fast = np.diff(times) == rtl.OUTPUTS_PS[3], np.diff(times) == rtl.OUTPUTS_PS[0]
        assert slow.sum() < 20 and fast.sum() > 100

    @pytest.mark.parametrize("value", [1, 2, 3, registers.CLOCK_STOP, 2 | registers.CLOCK_STOP])
    def test_a_change_waits_for_the_program(self, bench, value):
        """CLOCK_STATUS says changing, the clock goes on without a gap; after done it is made."""
        begin(bench, cycles=3000)
        bench.edges()
        bench.write(address("CLOCK"), value)
        assert bench.read(address("CLOCK")) == value
        for _ in range(50):
            assert bench.read(address("CLOCK_STATUS")) == BUSY
        assert set(np.diff(np.abs(bench.edges()))) == {rtl.OUTPUTS_PS[0]}
        assert bench.read(address("AP_CTRL")) == START
        bench.wait("AP_CTRL", DONE, DONE)
        bench.wait("CLOCK_STATUS", BUSY, 0)
        assert bench.read(address("CLOCK_STATUS")) == value

    def test_a_change_that_is_taken_back_is_none(self, bench):
        begin(bench, cycles=3000)
        bench.write(address("CLOCK"), 2)
        bench.write(address("CLOCK"), 0)
        bench.edges()
        bench.wait("AP_CTRL", DONE, DONE)
        bench.advance(5_000_000)
        assert set(np.diff(np.abs(bench.edges()))) == {rtl.OUTPUTS_PS[0]}

    @pytest.mark.parametrize("value", [1, registers.CLOCK_STOP, 3 | registers.CLOCK_STOP])
    def test_reset_makes_a_change_that_waits_for_a_hung_program(self, bench, value):
        bench.set("run_hangs", 1)
        begin(bench)
        bench.write(address("CLOCK"), value)
        bench.advance(10_000_000)
        assert bench.read(address("CLOCK_STATUS")) == BUSY
        bench.write(address("RESET"), 1)
        bench.wait("RESET", 1, 0)
        assert bench.read(address("CLOCK_STATUS")) == value
        assert bench.get("reset_cycles") >= RESET_MIN_CYCLES
        assert bench.read(address("AP_CTRL")) == IDLE

    def test_resets_and_changes_at_any_moment(self, bench, driver):
        """CLOCK and RESET written close upon each other: the last CLOCK counts, the engine is out of reset and runs."""
        rng = np.random.default_rng(0)
        for _ in range(60):
            value = int(rng.integers(0, 4)) | int(rng.integers(0, 2)) << 8
            for at, written in rng.permutation([(address("CLOCK"), value), (address("RESET"), 1)]).tolist():
                bench.write(at, written)
                bench.advance(int(rng.integers(0, 2_000_000)))
            bench.wait("RESET", 1, 0)
            bench.wait("CLOCK_STATUS", BUSY, 0)
            assert bench.read(address("CLOCK_STATUS")) == value
            driver.start_clock()
            driver.run(0, 0, 0, 1, 1)
        assert bench.get("violations") == 0


def ask(bench, output, cycle=10, again=0, last=0):
    """The coming runs ask for `output` in engine cycle `cycle`, and for `last` so many cycles later."""
    for name, value in {"cycle": cycle, "output": output, "again": again, "last": last}.items():
        bench.set(f"ask_{name}", value)


def half_periods(bench) -> np.ndarray:
    """Lengths in ps of the phases of the engine's clock since the last call."""
    return np.diff(np.abs(bench.edges()))


class TestChoiceOfTheProgram:
    """Outputs that a program chooses in its run: fetch's clock_output."""

    CHOSEN = registers.CLOCK_CHOSEN

    @pytest.mark.parametrize("host", range(4))
    @pytest.mark.parametrize("limit", range(4))
    @pytest.mark.parametrize("output", range(4))
    def test_any_output_from_the_limit_on(self, bench, driver, host, limit, output):
        """Below the limit, the lower of the host's two, it is the limit; the host's output comes back after the run."""
        driver.select_clock(host)
        bench.write(address("CLOCK_LIMIT"), limit)
        ask(bench, output | 0xABCD_EF00)
        begin(bench, cycles=4000)
        allowed = max(output, min(limit, host))
        bench.advance(3_000_000)
        assert bench.read(address("AP_CTRL")) == START
        assert bench.read(address("CLOCK_STATUS")) == allowed
        bench.edges()
        bench.advance(500_000)
        assert set(half_periods(bench)) == {rtl.OUTPUTS_PS[allowed]}
        assert bench.read(address("CLOCK")) == host
        bench.wait("AP_CTRL", DONE, DONE)
        assert bench.read(address("CLOCK_ENDED")) == self.CHOSEN | allowed
        bench.wait("CLOCK_STATUS", BUSY, 0)
        assert bench.read(address("CLOCK_STATUS")) == host
        ask(bench, 0, cycle=0)
        driver.run(0, 0, 0, 1, 1)
        assert bench.read(address("CLOCK_ENDED")) == host, "and the next run has no choice"
        assert bench.get("violations") == 0

    @pytest.mark.parametrize("uncertain", [False, True], ids=["real-crossings", "uncertain-crossings"])
    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_at_any_ratio_of_the_clocks(self, clocks, uncertain):
        """Every phase of the engine's clock is one of the old output or of the new, or the pause; nothing is reset, the
        arguments stand still, the run is as many engine cycles as ever."""
        fixed, output = CLOCKS[clocks]
        shortest = np.min(output)
        longer = shortest * 3 + 7 if shortest < 10_000 else shortest // 3
        other = (longer, longer)
        bench = ready_bench(fixed=fixed, outputs=(output, other, other, other), uncertain=uncertain)
        rng = np.random.default_rng(7)
        for run in range(12):
            ask(bench, 1 + run % 3, cycle=int(rng.integers(1, 300)))
            bench.edges()
            before, reset_cycles = bench.get("engine_cycles"), bench.get("reset_cycles")
            begin(bench, cycles=2500, INSTRUCTIONS=run)
            bench.wait("AP_CTRL", DONE, DONE, reads=100_000)
            assert bench.read(address("CLOCK_ENDED")) == self.CHOSEN | 1 + run % 3
            bench.wait("CLOCK_STATUS", BUSY, 0, reads=100_000)
            bench.advance(20 * max(other[0], np.max(output)))  # until the gate has opened
            lengths = half_periods(bench)
            assert np.count_nonzero(lengths == other[0]) > 1000
            gaps = lengths > max(other[0], np.max(output))
            assert lengths.min() >= min(other[0], shortest)
            assert isinstance(output, tuple) or set(lengths[~gaps]) == {output, other[0]}
            # To the choice and back to the host's; each is a pause of SELECT_WAIT_CYCLES and more.
            assert np.count_nonzero(gaps) == 2
            assert lengths[gaps].min() > registers.SELECT_WAIT_CYCLES * 2 * np.min(fixed)
            assert bench.get("engine_cycles") - before > 2500
            assert bench.get("reset_cycles") == reset_cycles
            assert bench.get("starts") == run + 1
        assert bench.get("moved") == bench.get("violations") == 0

    def test_the_output_in_use_changes_nothing(self, bench, driver):
        """Neither at its begin nor at its end does the clock pause."""
        driver.select_clock(2)
        ask(bench, 2)
        bench.edges()
        driver.run(0, 0, 0, 1, 1)
        bench.advance(5_000_000)
        assert set(half_periods(bench)) == {rtl.OUTPUTS_PS[2]}

    def test_of_two_choices_the_last_counts(self, bench):
        """However close they follow each other, also while the clock changes: each word is whole."""
        for again in (1, 2, 3, 5, 8, 13, 50, 200):
            for first, last in ((1, 2), (2, 1), (3, 0), (1, 3)):
                ask(bench, first, again=again, last=last)
                begin(bench, cycles=3000)
                bench.wait("AP_CTRL", DONE, DONE)
                assert bench.read(address("CLOCK_ENDED")) == self.CHOSEN | last
        assert bench.get("violations") == 0

    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_close_to_the_end(self, clocks):
        """Asked in the last cycles of a run, with done or a little before, the next start being written already: the
        choice counts or not, but never in the next run, which is on the host's clock from its first cycle."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(fixed=fixed, outputs=(output,) * 4)
        for before in range(12):
            for cycles in (12, 13):
                starts = bench.get("starts")
                ask(bench, 2, cycle=cycles - before)
                begin(bench, cycles=cycles, early=cycles - 1)
                bench.wait("AP_CTRL", START, 0)
                ask(bench, 2, cycle=0)
                bench.wait("AP_CTRL", IDLE, IDLE)
                assert bench.read(address("CLOCK_ENDED")) in (0, self.CHOSEN | 2)
                begin(bench, cycles=5)
                bench.wait("AP_CTRL", DONE, DONE)
                assert bench.read(address("CLOCK_ENDED")) == 0
                assert bench.read(address("CLOCK_STATUS")) == 0
                assert bench.get("starts") == starts + 2

    def test_with_done_it_is_none(self, bench):
        ask(bench, 3, cycle=50)
        for _ in range(10):
            bench.edges()
            begin(bench, cycles=50)
            bench.wait("AP_CTRL", DONE, DONE)
            assert bench.read(address("CLOCK_ENDED")) == 0
            bench.advance(3_000_000)
            assert set(half_periods(bench)) == {rtl.OUTPUTS_PS[0]}

    @pytest.mark.parametrize("value", [1, registers.CLOCK_STOP, 3 | registers.CLOCK_STOP])
    @pytest.mark.parametrize("first", ["write", "choice"])
    def test_beside_a_change_that_waits(self, bench, first, value):
        """CLOCK written before or after the choice waits for the run's end, a stop too; the run ends on the choice."""
        bench.write(address("CLOCK_LIMIT"), 0)
        ask(bench, 2, cycle=10 if first == "choice" else 1500)
        begin(bench, cycles=4000)
        if first == "choice":
            bench.wait("CLOCK_STATUS", 3 | BUSY, 2)
        bench.write(address("CLOCK"), value)
        bench.wait("CLOCK_STATUS", 3 | BUSY, 2)
        assert bench.read(address("AP_CTRL")) & IDLE == 0
        bench.wait("AP_CTRL", DONE, DONE)
        assert bench.read(address("CLOCK_ENDED")) == self.CHOSEN | 2
        bench.wait("CLOCK_STATUS", BUSY, 0)
        assert bench.read(address("CLOCK_STATUS")) == value
        bench.write(address("CLOCK"), 0)
        bench.wait("CLOCK_STATUS", BUSY, 0)
        assert bench.read(address("CLOCK_STATUS")) == 0

    @pytest.mark.parametrize("clocks", CLOCKS)
    def test_reset_forgets_it(self, clocks):
        """Written at any moment about the choice, of a run that hangs: the host's clock, and none for the next run."""
        fixed, output = CLOCKS[clocks]
        bench = ready_bench(fixed=fixed, outputs=(output,) * 4)
        ended = 0
        for moment in range(40):
            ask(bench, 3, cycle=1 + moment % 5)
            bench.set("run_hangs", 1)
            begin(bench)
            bench.advance(moment * 5 * np.max(output))
            bench.write(address("RESET"), 1)
            bench.wait("RESET", 1, 0)
            assert bench.get("reset_cycles") >= RESET_MIN_CYCLES
            assert (bench.read(address("CLOCK_STATUS")), bench.read(address("CLOCK_ENDED"))) == (0, ended)
            ask(bench, 3, cycle=0)
            bench.set("run_hangs", 0)
            begin(bench, cycles=5)
            bench.wait("AP_CTRL", DONE, DONE)
            assert (bench.read(address("CLOCK_STATUS")), bench.read(address("CLOCK_ENDED"))) == (0, ended)
        assert bench.get("violations") == 0

    def test_reset_pin_forgets_it(self, bench):
        bench.write(address("CLOCK_LIMIT"), 1)
        ask(bench, 3)
        bench.set("run_hangs", 1)
        begin(bench)
        bench.wait("CLOCK_STATUS", 3 | BUSY, 3)
        bench.set("fixed_resetn", 0)
        bench.advance(20_000)
        bench.set("fixed_resetn", 1)
        bench.wait("RESET", 1, 0)
        assert bench.read(address("CLOCK_LIMIT")) == registers.CLOCK_LIMIT_DEFAULT
        assert (bench.read(address("CLOCK_STATUS")), bench.read(address("CLOCK_ENDED"))) == (0, 0)

    def test_the_next_start_waits_for_the_hosts_clock(self, bench):
        """Started as soon as the engine has taken the first: no cycle of the second run is on the first's choice."""
        ask(bench, 3)
        begin(bench, cycles=3000, early=2900)
        bench.wait("AP_CTRL", START, 0)
        bench.write(address("AP_CTRL"), START)
        bench.wait("CLOCK_STATUS", 3 | BUSY, 3)
        ask(bench, 3, cycle=0)
        while bench.get("starts") == 1:
            bench.advance(1000)
        bench.edges()
        bench.wait("AP_CTRL", IDLE, IDLE)
        assert set(half_periods(bench)) == {rtl.OUTPUTS_PS[0]}
        assert bench.read(address("CLOCK_ENDED")) == 0
