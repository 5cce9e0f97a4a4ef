# SPDX-License-Identifier: Apache-2.0
"""The drivers' register traffic, access by access: whatever is not expected, or not done, fails."""

from collections import deque

import pytest
from pynq.pl_server.device import Device
from zynqbert.fpga import registers
from zynqbert.host import driver as drivers
from zynqbert.host.clock_settings import find_settings
from zynqbert.host.errors import ClockError, EngineError, EngineMismatch, EngineTimeout

BASE = 0xA000_0000
PROGRAM, IMAGE, IO = 0x8_0000_1230, 0x9_1234_5670, 0x7000_0000


class ScriptedDevice(Device):
    """Expects exactly the accesses of `script`: ("R", offset, value to answer) and ("W", offset, value)."""

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
        found = ("W", address - BASE, int.from_bytes(bytes(data), "little"))
        assert self.script, f"unexpected write {found}"
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
    return {"device": device, "phys_addr": BASE, "addr_range": 0x1_0000, "fullpath": "block"}


START = (
    ("W", 0x10, 0x1230), ("W", 0x14, 0x8),
    ("W", 0x20, 0x1234_5670), ("W", 0x24, 0x9),
    ("W", 0x30, 0x7000_0000), ("W", 0x34, 0x0),
    ("W", 0x40, 71), ("W", 0x48, 2),
    ("W", 0x00, 1),
)  # fmt: skip
EMPTY = (*(("W", offset, 0) for offset in (0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x40)), ("W", 0x48, 1), ("W", 0x00, 1))
RUNNING, DONE = ("R", 0x00, 0b0000), ("R", 0x00, 0b1110)
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
            (9, 0, 0, "engine: status 9 at instruction 0"),
        ],
    )
    def test_status(self, device, engine, status, low, high, message):
        with device.expect(*START, DONE, ("R", 0x50, status), ("R", 0x60, low), ("R", 0x64, high)):
            with pytest.raises(EngineError) as caught:
                engine.run(PROGRAM, IMAGE, IO, 71, 2)
            assert str(caught.value) == message
            assert (caught.value.status, caught.value.detail) == (status, high << 32 | low)

    def test_time_out_names_the_registers(self, device, engine):
        shown = (("R", 0x10, 0x1230), ("R", 0x14, 8), ("R", 0x20, 0), ("R", 0x24, 0), ("R", 0x30, 0), ("R", 0x34, 0))
        with device.expect(*START, RUNNING, RUNNING, *shown, ("R", 0x40, 71), ("R", 0x48, 2)):
            with pytest.raises(EngineTimeout) as caught:
                engine.run(PROGRAM, IMAGE, IO, 71, 2, timeout_s=-1)
            assert str(caught.value) == (
                "engine: not done after -1 s (AP_CTRL = 0x0, PROGRAM = 0x800001230, IMAGE = 0x0, IO = 0x0, "
                "INSTRUCTIONS = 71, ROW_BLOCKS = 2)"
            )

    def test_an_address_off_a_beat_is_refused_before_any_start(self, device, engine):
        words = (("W", 0x10, 0x10), ("W", 0x14, 0))
        with device.expect(*words), pytest.raises(ValueError, match="register IMAGE: address 0x8 is no multiple of 16"):
            engine.run(0x10, 8, 0, 1, 1)

    def test_identify_runs_an_empty_program_first(self, device, engine):
        with device.expect(*EMPTY, DONE, FINE, ("R", 0x70, 0x5A51_02C0)):
            assert engine.identify() == 192

    @pytest.mark.parametrize(
        ("value", "message"), [(0, "0x00000000: this is no zynqbert engine"), (0x5A51_0380, "program version 3, this")]
    )
    def test_identify_refuses_another_block(self, device, engine, value, message):
        with device.expect(*EMPTY, DONE, FINE, ("R", 0x70, value)), pytest.raises(EngineMismatch, match=message):
            engine.identify()


class StubEngine:
    """All that the clocking wizard's driver asks of the engine."""

    def __init__(self, idle):
        self.idle = idle


LOCKED, UNLOCKED = ("R", 0x04, 1), ("R", 0x04, 0)


class TestClockWizard:
    def test_retuning(self, device, wizard):
        """300 MHz = 100 x 15 / 5; loading waits for lock before and after, and reads back."""
        written = (("W", 0x200, 15 << 8 | 1), ("W", 0x208, 5))
        read = (("R", 0x200, 15 << 8 | 1), ("R", 0x208, 5))
        with device.expect(LOCKED, *written, LOCKED, ("W", 0x25C, 3), UNLOCKED, UNLOCKED, LOCKED, *read):
            assert wizard.set_mhz(300, StubEngine(True)) == 300

    def test_not_while_the_engine_runs(self, device, wizard):
        with device.expect(), pytest.raises(ClockError, match="the engine is busy"):
            wizard.set_mhz(300, StubEngine(False))

    def test_no_lock(self, device, wizard, monkeypatch):
        monkeypatch.setattr(drivers, "LOCK_TIMEOUT_S", -1)
        with device.expect(UNLOCKED), pytest.raises(ClockError, match="no lock before loading"):
            wizard.set_mhz(300, StubEngine(True))
        written = (("W", 0x200, 15 << 8 | 1), ("W", 0x208, 5), LOCKED, ("W", 0x25C, 3))
        with device.expect(LOCKED, *written, UNLOCKED), pytest.raises(ClockError, match="no lock after loading"):
            wizard.set_mhz(300, StubEngine(True))

    def test_what_does_not_read_back(self, device, wizard):
        written = (("W", 0x200, 15 << 8 | 1), ("W", 0x208, 5), LOCKED, ("W", 0x25C, 3))
        with (
            device.expect(LOCKED, *written, LOCKED, ("R", 0x200, 15 << 8 | 1), ("R", 0x208, 4)),
            pytest.raises(ClockError, match="CONFIG2 reads back 0x00000004, written 0x00000005"),
        ):
            wizard.set_mhz(300, StubEngine(True))

    def test_out_of_reach_touches_nothing(self, device, wizard):
        with device.expect(), pytest.raises(ValueError, match="clock of 800 MHz is outside"):
            wizard.set_mhz(800, StubEngine(True))


class TestClockSettings:
    @pytest.mark.parametrize("mhz", [6.25, 100, 150, 187.5, 200, 214, 250, 300, 333, 500, 775])
    def test_within_the_parts_limits_and_never_faster_than_asked(self, mhz):
        s = find_settings(mhz)
        vco = 100 * s.multiply_eighths / 8 / s.prescale
        assert 800 <= vco <= 1600
        assert 2 <= s.multiply_eighths / 8 <= 128 and 2 <= s.divide_eighths / 8 <= 128 and 1 <= s.prescale <= 106
        assert mhz * 0.999 <= s.mhz(100) <= mhz

    def test_the_vendors_example(self):
        """100 MHz in, 0xA01 and 5 give 200 MHz."""
        settings = find_settings(200)
        assert settings.mhz(100) == 200
        assert type(settings)(1, 80, 40).config0() == 0xA01
        assert type(settings)(1, 80, 40).config2() == 5
        assert type(settings)(1, 80, 40).mhz(100) == 200

    def test_fractions_are_in_thousandths(self):
        settings = find_settings(200)
        assert type(settings)(1, 83, 41).config0() == 375 << 16 | 10 << 8 | 1
        assert type(settings)(1, 83, 41).config2() == 125 << 8 | 5

    @pytest.mark.parametrize("mhz", [0, -1, 6, 776, float("nan")])
    def test_out_of_reach(self, mhz):
        with pytest.raises(ValueError, match="outside"):
            find_settings(mhz)


def test_drivers_are_bound_to_the_tables_blocks():
    assert drivers.EngineDriver.bindto == [registers.ENGINE_VLNV]
    assert drivers.ClockWizardDriver.bindto == [registers.CLOCK_WIZARD_VLNV]
