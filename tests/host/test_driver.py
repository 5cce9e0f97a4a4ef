# SPDX-License-Identifier: Apache-2.0
"""The drivers' register traffic, access by access: whatever is not expected, or not done, fails."""

import asyncio
from collections import deque

import pytest
from pynq.pl_server.device import Device
from zynqbert.host import driver as drivers
from zynqbert.host.errors import ClockError, EngineError, EngineMismatch, EngineTimeout, ResetTimeout

BASE = 0xA000_0000
PROGRAM, IMAGE, IO = 0x8_0000_1230, 0x9_1234_5670, 0x7000_0000


class ScriptedDevice(Device):
    """Expects exactly the steps of `script`: ("R", offset, value to answer), ("W", offset, value), ("call", name)."""

    def __init__(self):
        super().__init__("scripted")
        self.capabilities = {"REGISTER_RW": True}
        self.script = deque()

    def expect(self, *accesses):
        self.script = deque(accesses)
        return self

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            assert not self.script, f"not done: {list(self.script)}"

    def read_registers(self, address, length):
        assert length == 4
        assert self.script, f"unexpected read of 0x{address - BASE:X}"
        access, offset, value = self.script.popleft()
        assert (access, offset) == ("R", address - BASE)
        return value.to_bytes(4, "little")

    def write_registers(self, address, data):
        self.step("W", address - BASE, int.from_bytes(bytes(data), "little"))

    def step(self, *found):
        assert self.script, f"unexpected {found}"
        assert found == self.script.popleft()


@pytest.fixture
def device():
    return ScriptedDevice()


@pytest.fixture
def engine(device):
    return drivers.EngineDriver(description(device))


@pytest.fixture
def wizard(device):
    return drivers.ClockWizardDriver(description(device))


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch):
    monkeypatch.setattr(drivers, "POLL_S", 0)


def description(device):
    return {"device": device, "phys_addr": BASE, "addr_range": 0x1_0000, "fullpath": "block", "interrupts": {}}


START = (
    ("W", 0x10, 0x1230), ("W", 0x14, 0x8),
    ("W", 0x20, 0x1234_5670), ("W", 0x24, 0x9),
    ("W", 0x30, 0x7000_0000), ("W", 0x34, 0x0),
    ("W", 0x40, 71), ("W", 0x48, 2),
    ("W", 0x00, 1),
)  # fmt: skip
RUNNING, DONE, IDLE = ("R", 0x00, 0b0000), ("R", 0x00, 0b1110), ("R", 0x00, 0b0100)
FINE = ("R", 0x50, 0)


class TestEngine:
    def test_run(self, device, engine):
        with device.expect(*START, RUNNING, RUNNING, DONE, FINE):
            engine.run(PROGRAM, IMAGE, IO, 71, 2)

    def test_done_is_not_lost_to_a_look_at_idle(self, device, engine):
        """ap_done clears on read, whoever reads."""
        with device.expect(*START, DONE, ("R", 0x00, 0b0100), FINE):
            engine.start(PROGRAM, IMAGE, IO, 71, 2)
            assert engine.idle
            engine.wait(1.0)

    def test_an_old_done_does_not_end_a_new_run(self, device, engine):
        with device.expect(*START, DONE, FINE, *START, RUNNING, DONE, FINE):
            engine.run(PROGRAM, IMAGE, IO, 71, 2)
            engine.run(PROGRAM, IMAGE, IO, 71, 2)

    @pytest.mark.parametrize(
        ("status", "low", "high", "message"),
        [
            (1, 12, 0, "engine: bad opcode at instruction 12"),
            (2, 3, 0, "engine: bad field at instruction 3"),
            (3, 0xDEAD_BEE0, 0x8, "engine: bus error at address 0x8DEADBEE0"),
            (4, 70, 0, "engine: deadlock at instruction 70"),
            (9, 0, 0, "engine: bad count of weights at instruction 0"),
            (15, 0, 0, "engine: status 15 at instruction 0"),
        ],
    )
    def test_status(self, device, engine, status, low, high, message):
        with (
            device.expect(*START, DONE, ("R", 0x50, status), ("R", 0x60, low), ("R", 0x64, high)),
            pytest.raises(EngineError) as caught,
        ):
            engine.run(PROGRAM, IMAGE, IO, 71, 2)
        assert str(caught.value) == message
        assert (caught.value.status, caught.value.detail) == (status, high << 32 | low)

    def test_time_out_names_the_registers(self, device, engine):
        shown = (("R", 0x10, 0x1230), ("R", 0x14, 8), ("R", 0x20, 0), ("R", 0x24, 0), ("R", 0x30, 0), ("R", 0x34, 0))
        with (
            device.expect(*START, RUNNING, RUNNING, *shown, ("R", 0x40, 71), ("R", 0x48, 2)),
            pytest.raises(EngineTimeout) as caught,
        ):
            engine.run(PROGRAM, IMAGE, IO, 71, 2, timeout_s=-1)
        assert str(caught.value) == (
            "engine: not done after -1 s (AP_CTRL = 0x0, PROGRAM = 0x800001230, IMAGE = 0x0, IO = 0x0, "
            "INSTRUCTIONS = 71, ROW_BLOCKS = 2)"
        )

    def test_an_address_off_a_beat_is_refused_before_any_start(self, device, engine):
        words = (("W", 0x10, 0x10), ("W", 0x14, 0))
        with device.expect(*words), pytest.raises(ValueError, match="register IMAGE: address 0x8 is no multiple of 16"):
            engine.run(0x10, 8, 0, 1, 1)


class TestIdentity:
    @staticmethod
    def read(value):
        return ("R", 0x70, value & 0xFFFF_FFFF), ("R", 0x74, value >> 32)

    def test_one_read_of_id(self, device, engine):
        with device.expect(*self.read(0xFE20_5A51_04C0)):
            found = engine.identify()
        everything = {"plain_norm", "normalized_softmax", "token_results", "clock_select"}
        everything |= {"exit", "spans", "adaptive_rows"}
        assert found == drivers.Identity(4, 192, 32, frozenset(everything))

    def test_bits_of_later_versions_are_no_fault(self, device, engine):
        with device.expect(*self.read(0x80_0120_5A51_0480)):
            assert engine.identify().capabilities == {"four_bit_rows"}

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (0, "0x0000000000000000: this is no zynqbert engine; remedy"),
            (0x1F20_5A50_0480, "this is no zynqbert engine"),
            (0x1F20_5A51_0580, "0x00001F205A510580: program version 5, this host needs 4; remedy"),
            (0x1F10_5A51_0480, "lanes 16, this host needs 32"),
        ],
    )
    def test_another_block(self, device, engine, value, message):
        with device.expect(*self.read(value)), pytest.raises(EngineMismatch, match=message):
            engine.identify()


class TestClock:
    """CLOCK is 0x80, CLOCK_STATUS 0x84: output in [1:0], bit 8 stopped, bit 9 changing."""

    def test_select(self, device, engine):
        changing = (("R", 0x84, 0x200), ("R", 0x84, 0x000), ("R", 0x84, 0x202))
        with device.expect(IDLE, ("W", 0x80, 2), *changing, ("R", 0x84, 0x002)):
            engine.select_clock(2)

    def test_select_starts_a_stopped_clock(self, device, engine):
        with device.expect(IDLE, ("W", 0x80, 2), ("R", 0x84, 0x102), ("R", 0x84, 0x002)):
            engine.select_clock(2)

    def test_stop_and_start_keep_the_output(self, device, engine):
        stop = (("R", 0x80, 3), IDLE, ("W", 0x80, 0x103), ("R", 0x84, 0x303), ("R", 0x84, 0x103))
        start = (("R", 0x80, 0x103), IDLE, ("W", 0x80, 3), ("R", 0x84, 0x003))
        with device.expect(*stop, *start):
            engine.stop_clock()
            engine.start_clock()

    def test_only_while_idle(self, device, engine):
        with device.expect(RUNNING), pytest.raises(ClockError, match="a program runs, its clock cannot be changed"):
            engine.select_clock(1)
        for change in (engine.stop_clock, engine.start_clock):
            with device.expect(("R", 0x80, 0), RUNNING), pytest.raises(ClockError, match="a program runs"):
                change()

    def test_a_change_that_does_not_end(self, device, engine, monkeypatch):
        monkeypatch.setattr(drivers, "CLOCK_TIMEOUT_S", -1)
        with (
            device.expect(IDLE, ("W", 0x80, 1), ("R", 0x84, 0x200)),
            pytest.raises(ClockError, match=r"\(CLOCK = 0x1, CLOCK_STATUS = 0x200\); remedy: load the overlay"),
        ):
            engine.select_clock(1)

    @pytest.mark.parametrize("output", [-1, 4, 0.5])
    def test_outputs_there_are_none_of(self, device, engine, output):
        with device.expect(), pytest.raises(ValueError, match=f"clock output {output} is none of 0 .. 3"):
            engine.select_clock(output)

    def test_state(self, device, engine):
        with device.expect(("R", 0x84, 0x103), ("R", 0x84, 0x103), ("R", 0x84, 0x001)):
            assert engine.clock_output == 3
            assert engine.clock_stopped
            assert not engine.clock_stopped


class TestReset:
    def test_waits_for_reset_and_idle(self, device, engine):
        steps = (("R", 0x88, 1), ("R", 0x88, 0), RUNNING, ("R", 0x88, 0), IDLE)
        with device.expect(("W", 0x88, 1), *steps):
            engine.reset()

    def test_an_end_from_before_is_forgotten(self, device, engine):
        shown = (IDLE, *(("R", offset, 0) for offset in (0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x40, 0x48)))
        reset = (("W", 0x88, 1), ("R", 0x88, 0), IDLE)
        with device.expect(*START, DONE, *reset, IDLE, *shown), pytest.raises(EngineTimeout):
            engine.start(PROGRAM, IMAGE, IO, 71, 2)
            assert engine.idle
            engine.reset()
            engine.wait(-1)

    def test_time_out_says_what_to_do(self, device, engine, monkeypatch):
        monkeypatch.setattr(drivers, "RESET_TIMEOUT_S", -1)
        shown = (("R", 0x88, 1), RUNNING, *(("R", offset, 0) for offset in (0x10, 0x14, 0x20, 0x24, 0x30, 0x34)))
        with (
            device.expect(("W", 0x88, 1), ("R", 0x88, 1), *shown, ("R", 0x40, 0), ("R", 0x48, 0)),
            pytest.raises(ResetTimeout, match=r"not reset after -1 s \(RESET = 0x1, AP_CTRL = 0x0, .*; remedy: load"),
        ):
            engine.reset()
        assert issubclass(ResetTimeout, EngineTimeout)


class StandIn:
    """For pynq's Interrupt: comes at once, `times` times, then never."""

    def __init__(self, times):
        self.times = times

    async def wait(self):
        if self.times == 0:
            await asyncio.Event().wait()
        self.times -= 1


class TestInterrupt:
    """GIE is 0x04, IER 0x08, ISR 0x0C, which toggles. Pynq's own Interrupt: emulated/test_device.py."""

    def test_enable(self, device, engine):
        with device.expect(("W", 0x08, 1), ("W", 0x04, 1)):
            engine.enable_interrupt()

    def test_wait(self, device, engine):
        engine.interrupt = StandIn(1)
        clear = (("R", 0x0C, 1), ("W", 0x0C, 1))
        with device.expect(RUNNING, *clear, DONE, ("R", 0x0C, 0), FINE):
            asyncio.run(engine.wait_async(1.0))

    def test_an_end_before_the_wait_needs_no_interrupt(self, device, engine):
        engine.interrupt = StandIn(0)
        with device.expect(DONE, ("R", 0x0C, 1), ("W", 0x0C, 1), FINE):
            asyncio.run(engine.wait_async(1.0))

    def test_an_interrupt_from_before_does_not_end_it(self, device, engine):
        """Cleared before AP_CTRL is read; where ISR is 0 nothing is written, for a 1 would set it."""
        engine.interrupt = StandIn(2)
        early = (("R", 0x0C, 1), ("W", 0x0C, 1), RUNNING)
        with device.expect(RUNNING, *early, ("R", 0x0C, 0), DONE, ("R", 0x0C, 0), FINE):
            asyncio.run(engine.wait_async(1.0))

    def test_a_lost_interrupt_costs_little(self, device, engine, monkeypatch):
        monkeypatch.setattr(drivers, "LOST_INTERRUPT_S", 0.001)
        engine.interrupt = StandIn(0)
        with device.expect(RUNNING, RUNNING, DONE, ("R", 0x0C, 0), FINE):
            asyncio.run(engine.wait_async(5.0))

    def test_time_out(self, device, engine):
        engine.interrupt = StandIn(0)
        shown = (RUNNING, *(("R", offset, 0) for offset in (0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x40, 0x48)))
        with device.expect(RUNNING, RUNNING, *shown), pytest.raises(EngineTimeout, match=r"not done after 0\.01 s"):
            asyncio.run(engine.wait_async(0.01))

    def test_a_refused_program(self, device, engine):
        engine.interrupt = StandIn(0)
        refused = (("R", 0x50, 2), ("R", 0x60, 7), ("R", 0x64, 0))
        with (
            device.expect(DONE, ("R", 0x0C, 0), *refused),
            pytest.raises(EngineError, match="bad field at instruction 7"),
        ):
            asyncio.run(engine.wait_async(1.0))

    def test_an_overlay_without(self, device, engine):
        with device.expect(RUNNING), pytest.raises(EngineMismatch, match="engine has no interrupt; remedy: wait"):
            asyncio.run(engine.wait_async(1.0))


class StubEngine:
    """All that the clocking wizard's driver asks of the engine, in the device's script."""

    clock_output = 1

    def __init__(self, device, idle=True):
        self.device, self.idle, self.clock_stopped = device, idle, False

    def stop_clock(self):
        self.device.step("call", "stop")
        self.clock_stopped = True

    def start_clock(self):
        self.device.step("call", "start")
        self.clock_stopped = False


LOCKED, UNLOCKED = ("R", 0x04, 1), ("R", 0x04, 0)
STOP, START_CLOCK = ("call", "stop"), ("call", "start")
OFFSETS = (0x200, 0x208, 0x214, 0x220, 0x22C)
BUILT = (12 << 8 | 1, 4, 6, 8, 12)  # 300, 200, 150, 100 MHz
# 229.6 MHz is 100 x 71.75 / (5 x 6.25); 200, 150, 100 from below by 8, 10, 15
ASKED, GIVEN = (229.6, 200, 150, 100), (229.6, 179.375, 143.5, 1435 / 15)
NEW = (750 << 16 | 71 << 8 | 5, 250 << 8 | 6, 8, 10, 15)


def read_all(words):
    return tuple(("R", offset, word) for offset, word in zip(OFFSETS, words, strict=True))


def load(words):
    return *(("W", offset, word) for offset, word in zip(OFFSETS, words, strict=True)), ("W", 0x25C, 3)


class TestClockWizard:
    def test_outputs(self, device, wizard):
        with device.expect(*read_all(BUILT), *read_all(NEW)):
            assert wizard.outputs_mhz() == (300, 200, 150, 100)
            assert wizard.outputs_mhz() == GIVEN

    def test_registers_that_are_no_settings(self, device, wizard):
        with (
            device.expect(*read_all((12 << 8 | 1, 4, 0, 8, 12))),
            pytest.raises(ClockError, match=r"wizard: CLKOUT1 holds a factor of 0 .*; remedy: load the overlay"),
        ):
            wizard.outputs_mhz()

    def test_retune(self, device, wizard):
        """The clock stands from the first write to the last read."""
        waits = (UNLOCKED, LOCKED, STOP, *load(NEW), UNLOCKED, UNLOCKED, LOCKED)
        with device.expect(*read_all(BUILT), *waits, *read_all(NEW), START_CLOCK):
            assert wizard.retune(ASKED, StubEngine(device)) == GIVEN

    def test_lock_is_looked_at_only_a_while_after_loading(self, device, wizard, monkeypatch):
        """STATUS shows the lock before until the reconfiguration begins."""
        monkeypatch.setattr(drivers.time, "sleep", lambda _: device.step("call", "sleep"))
        waits = (LOCKED, STOP, *load(NEW), ("call", "sleep"), LOCKED)
        with device.expect(*read_all(BUILT), *waits, *read_all(NEW), START_CLOCK):
            wizard.retune(ASKED, StubEngine(device))

    def test_not_while_the_engine_runs(self, device, wizard):
        with device.expect(), pytest.raises(ClockError, match="the engine is busy"):
            wizard.retune(ASKED, StubEngine(device, idle=False))

    def test_no_lock_before(self, device, wizard, monkeypatch):
        """Nothing is stopped or written."""
        monkeypatch.setattr(drivers, "LOCK_TIMEOUT_S", -1)
        with device.expect(*read_all(BUILT), UNLOCKED), pytest.raises(ClockError, match="no lock before loading"):
            wizard.retune(ASKED, StubEngine(device))

    def test_no_lock_after_brings_the_settings_before_back(self, device, wizard, monkeypatch):
        monkeypatch.setattr(drivers, "LOCK_TIMEOUT_S", -1)
        back = (STOP, *load(BUILT), LOCKED, *read_all(BUILT), START_CLOCK)
        with (
            device.expect(*read_all(BUILT), LOCKED, STOP, *load(NEW), UNLOCKED, *back),
            pytest.raises(ClockError) as caught,
        ):
            wizard.retune(ASKED, StubEngine(device))
        assert str(caught.value) == (
            "clocking wizard: no lock after loading, STATUS bit 0 stays 0; "
            "the engine runs from output 1 at 200 MHz, as before"
        )

    def test_no_lock_then_either_says_that_the_clock_stands(self, device, wizard, monkeypatch):
        monkeypatch.setattr(drivers, "LOCK_TIMEOUT_S", -1)
        failing = (STOP, *load(NEW), UNLOCKED, STOP, *load(BUILT), UNLOCKED)
        with (
            device.expect(*read_all(BUILT), LOCKED, *failing),
            pytest.raises(ClockError, match=r"nor do the settings before .* clock stays stopped; remedy: load"),
        ):
            wizard.retune(ASKED, StubEngine(device))

    def test_what_does_not_read_back(self, device, wizard):
        wrong = (*read_all(NEW)[:2], ("R", 0x214, 5))
        back = (STOP, *load(BUILT), LOCKED, *read_all(BUILT), START_CLOCK)
        with (
            device.expect(*read_all(BUILT), LOCKED, STOP, *load(NEW), LOCKED, *wrong, *back),
            pytest.raises(ClockError, match="CLKOUT1 reads back 0x00000005, written 0x00000008; the engine runs"),
        ):
            wizard.retune(ASKED, StubEngine(device))

    def test_ctrl_c_brings_the_settings_before_back(self, device, wizard, monkeypatch):
        """It comes while lock is awaited."""
        sleeps = iter([None, KeyboardInterrupt])

        def sleep(_):
            error = next(sleeps, None)
            if error:
                raise error

        monkeypatch.setattr(drivers.time, "sleep", sleep)
        back = (STOP, *load(BUILT), LOCKED, *read_all(BUILT), START_CLOCK)
        with (
            device.expect(*read_all(BUILT), LOCKED, STOP, *load(NEW), UNLOCKED, *back),
            pytest.raises(KeyboardInterrupt),
        ):
            wizard.retune(ASKED, StubEngine(device))

    def test_out_of_reach_touches_nothing(self, device, wizard):
        with device.expect(), pytest.raises(ValueError, match="clock of 800 MHz is outside"):
            wizard.retune((800, 200, 150, 100), StubEngine(device))


def test_drivers_are_bound_to_the_tables_blocks():
    assert drivers.EngineDriver.bindto == ["xilinx.com:module_ref:engine_control:1.0"]
    assert drivers.ClockWizardDriver.bindto == ["xilinx.com:ip:clk_wiz:6.0"]
