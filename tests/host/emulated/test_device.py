# SPDX-License-Identifier: Apache-2.0
"""The emulated board: what a board would not forgive shows, and every fault ends in a clear error."""

import asyncio

import numpy as np
import pynq
import pytest
from pynq.interrupt import _InterruptController
from pynq.pl_server.device import Device, DeviceMeta
from random_artifact import make_random_artifact
from units import pointer
from zynqbert import host
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import driver
from zynqbert.host.emulated.device import EmulatedDevice
from zynqbert.host.emulated.memory import JUNK
from zynqbert.host.emulated.registers import EmulationError, Faults
from zynqbert.host.errors import ClockError, EngineError, EngineMismatch, EngineTimeout, ResetTimeout
from zynqbert.host.packing import pack_pass
from zynqbert.host.target import emulated

ZCU102 = BOARDS["zcu102"]
TEXTS = ("w4 w5 w6", "w30 w21 w12 w43")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def device():
    return EmulatedDevice(ZCU102)


@pytest.fixture
def overlay(device):
    return pynq.Overlay(device.bitstream, device=device)


@pytest.fixture
def engine(artifact):
    with host.open(board="zcu102", artifact=artifact, device=emulated(ZCU102), trace=True) as engine:
        yield engine


def logits(engine, *texts):
    return [result.logits for result in engine.stream(texts)]


class TestMemory:
    def test_what_is_not_flushed_the_device_does_not_see(self, device):
        buffer = pynq.allocate(8, np.uint8, target=device, cacheable=True)
        buffer[:] = range(8)
        assert device.device_bytes(buffer).tolist() == [JUNK] * 8
        buffer[2:4].flush()
        assert device.device_bytes(buffer).tolist() == [JUNK, JUNK, 2, 3, *[JUNK] * 4]
        buffer.flush()
        assert device.device_bytes(buffer).tolist() == list(range(8))

    def test_what_is_not_invalidated_the_cpu_does_not_see(self, device):
        buffer = pynq.allocate(4, np.uint32, target=device, cacheable=True)
        buffer[:] = 7
        device.device_bytes(buffer).view(np.uint32)[:] = range(4)
        assert buffer.tolist() == [7, 7, 7, 7]
        buffer[1:3].invalidate()
        assert buffer.tolist() == [7, 1, 2, 7]

    def test_coherent_buffers_need_neither(self, device):
        buffer = pynq.allocate(4, np.uint8, target=device)
        buffer[:] = 9
        assert device.device_bytes(buffer).tolist() == [9] * 4
        buffer.flush()
        buffer.invalidate()

    def test_addresses_are_sparse_and_above_4_gib(self, device):
        a, b = (pynq.allocate(100, np.uint8, target=device, cacheable=True) for _ in range(2))
        assert a.physical_address >= 1 << 32 and a.physical_address % 4096 == 0
        assert b.physical_address - a.physical_address > 100
        assert a[16:].physical_address == a.physical_address + 16

    def test_a_buffer_is_freed_once_and_by_itself_alone(self, device):
        buffer = pynq.allocate(100, np.uint8, target=device, cacheable=True)
        view = buffer[10:]
        del view
        assert device.memory.blocks
        buffer.freebuffer()
        buffer.freebuffer()
        assert not device.memory.blocks
        with pytest.raises(RuntimeError, match=r"used after it was freed"):
            buffer.flush()

    def test_a_buffer_that_nobody_holds_is_freed(self, device):
        pynq.allocate(100, np.uint8, target=device, cacheable=True)
        assert not device.memory.blocks


class TestRegisters:
    def test_unmapped_addresses_raise(self, device):
        for address in (0xA000_0000 - 4, 0xA003_0000, 0x0):
            with pytest.raises(EmulationError, match=f"address 0x{address:X} is not mapped"):
                device.read_registers(address, 4)
            with pytest.raises(EmulationError, match="is not mapped"):
                device.write_registers(address, bytes(4))

    def test_offsets_without_a_register_raise(self, overlay):
        with pytest.raises(EmulationError, match="read of engine offset 0x18, where there is no register"):
            overlay.engine.read(0x18)
        overlay.engine.stop_clock()
        with pytest.raises(EmulationError, match="write to clocking wizard offset 0x300"):
            overlay.clock_wizard.write(0x300, 1)

    def test_read_only_registers_refuse(self, overlay):
        with pytest.raises(EmulationError, match="engine offset 0x50, which is read-only"):
            overlay.engine.write(registers.engine("STATUS").offset, 1)

    def test_done_clears_on_read(self, overlay):
        engine = overlay.engine
        engine.start(0, 0, 0, 0, 1)
        assert [engine.read(0), engine.read(0)] == [0b1110, 0b0100]

    def test_interrupt_status_toggles(self, overlay):
        engine = overlay.engine
        engine.write(registers.engine("IER").offset, 1)
        engine.run(0, 0, 0, 0, 1)
        assert engine.read(registers.engine("ISR").offset) == 1
        engine.write(registers.engine("ISR").offset, 1)
        assert engine.read(registers.engine("ISR").offset) == 0

    @pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
    def test_id_is_the_tables_before_any_run(self, board):
        device = EmulatedDevice(board)
        overlay = pynq.Overlay(device.bitstream, device=device)
        value = overlay.engine.read(0x70) | overlay.engine.read(0x74) << 32
        assert value == registers.engine_id(board.columns)

    def test_another_id(self):
        device = EmulatedDevice(ZCU102, identity=registers.engine_id(192, ("plain_norm",)))
        found = pynq.Overlay(device.bitstream, device=device).engine.identify()
        assert found == driver.Identity(registers.PROGRAM_VERSION, 192, 32, frozenset({"plain_norm"}))

    def test_overlay_set_the_pl_clock(self, overlay):
        assert abs(pynq.ps.Clocks.fclk0_mhz - 100) < 0.01

    def test_pynq_never_finds_it_by_itself(self):
        assert EmulatedDevice not in DeviceMeta._subclasses.values()

    def test_two_devices_do_not_share_clocks_or_registers(self, overlay):
        other = EmulatedDevice(BOARDS["zcu111"])
        second = pynq.Overlay(other.bitstream, device=other)
        assert (overlay.engine.identify().columns, second.engine.identify().columns) == (128, 192)


def put(block, table, name, value):
    block.write(table(name).offset, value)


OTHERS = (200, 150, 100)


class TestEngineClock:
    def test_it_powers_up_on_output_0(self, device, overlay):
        assert (device.engine_mhz, overlay.engine.clock_output) == (300, 0)

    def test_it_follows_the_selection(self, device, overlay):
        for output, mhz in enumerate(registers.WIZARD_OUTPUTS_MHZ):
            overlay.engine.select_clock(output)
            assert (device.engine_mhz, overlay.engine.clock_output) == (mhz, output)

    def test_it_follows_the_wizard(self, device, overlay):
        overlay.engine.select_clock(2)
        assert overlay.clock_wizard.retune((229.6, *OTHERS), overlay.engine)[2] == device.engine_mhz == 143.5
        overlay.engine.select_clock(0)
        assert device.engine_mhz == 229.6

    def test_stop_and_start(self, device, overlay):
        overlay.engine.select_clock(3)
        overlay.engine.stop_clock()
        assert (device.engine_mhz, overlay.engine.clock_stopped) == (0, True)
        overlay.engine.start_clock()
        assert (device.engine_mhz, overlay.engine.clock_stopped) == (100, False)

    def test_a_change_takes_some_reads(self, overlay):
        put(overlay.engine, registers.engine, "CLOCK", 1)
        read = [overlay.engine.read(registers.engine("CLOCK_STATUS").offset) for _ in range(4)]
        assert read == [0x200, 0x200, 1, 1]
        put(overlay.engine, registers.engine, "CLOCK", 1)
        assert not overlay.engine.clock_stopped, "a change to what is set already is none"

    def test_not_while_a_program_runs(self, device, overlay):
        device.faults.hangs = 1
        overlay.engine.start(0, 0, 0, 0, 1)
        for change in (lambda: overlay.engine.select_clock(1), overlay.engine.stop_clock):
            with pytest.raises(ClockError, match="a program runs"):
                change()
        for value in (1, registers.CLOCK_STOP):
            with pytest.raises(EmulationError, match="clock is changed while a program runs"):
                put(overlay.engine, registers.engine, "CLOCK", value)

    def test_no_start_while_it_stands(self, overlay):
        overlay.engine.stop_clock()
        with pytest.raises(EmulationError, match="started while its clock is stopped"):
            overlay.engine.start(0, 0, 0, 0, 1)
        overlay.engine.start_clock()
        overlay.engine.run(0, 0, 0, 0, 1)

    def test_not_from_a_wizard_without_lock(self, device, overlay):
        device.faults.never_locks = True
        with pytest.raises(EmulationError, match="clock is started while the clocking wizard has no lock"):
            overlay.engine.select_clock(1)


class TestChoiceOfTheProgram:
    """CLOCK_LIMIT and CLOCK_ENDED, as engine_control.v has them (tests/fpga/test_engine_control.py)."""

    @staticmethod
    def ended(overlay, device, chosen):
        device.engine.run = lambda *arguments: (0, 7) if chosen is None else (0, 7, chosen)
        overlay.engine.run(0, 0, 0, 0, 1)
        assert (device.engine_mhz, overlay.engine.read(registers.engine("DETAIL").offset)) == (
            registers.WIZARD_OUTPUTS_MHZ[overlay.engine.clock_output],
            7,
        )
        return overlay.engine.read(registers.engine("CLOCK_ENDED").offset)

    @pytest.mark.parametrize("host_output", range(4))
    def test_it_is_none_below_the_limit(self, device, overlay, host_output):
        overlay.engine.select_clock(host_output)
        for chosen in range(4):
            assert self.ended(overlay, device, chosen) == registers.CLOCK_CHOSEN | max(chosen, host_output)
        for limit in range(4):
            put(overlay.engine, registers.engine, "CLOCK_LIMIT", 0xFFFFFFFC | limit)
            assert overlay.engine.read(registers.engine("CLOCK_LIMIT").offset) == limit
            for chosen in range(4):
                allowed = max(chosen, min(limit, host_output))
                assert self.ended(overlay, device, chosen) == registers.CLOCK_CHOSEN | allowed
        assert overlay.engine.clock_output == host_output, "the host's comes back"

    def test_a_run_without_one_ends_on_the_hosts(self, device, overlay):
        overlay.engine.select_clock(2)
        assert self.ended(overlay, device, None) == 2


class TestClockWizard:
    def test_it_powers_up_with_the_tables_outputs(self, device, overlay):
        assert device.clock_wizard.outputs_mhz == overlay.clock_wizard.outputs_mhz() == registers.WIZARD_OUTPUTS_MHZ

    def test_retuning_takes_effect_at_load(self, device, overlay):
        overlay.clock_wizard.retune((250, *OTHERS), overlay.engine)
        assert device.clock_wizard.outputs_mhz[0] == 250
        overlay.engine.stop_clock()
        put(overlay.clock_wizard, registers.clock_wizard, "CLKOUT0", 50)
        assert device.clock_wizard.outputs_mhz[0] == 250

    @pytest.mark.parametrize("mhz", [(187.5, *OTHERS), (333, 177, 151, 99), (6.25, *OTHERS), (775, 775, 775, 12.5)])
    def test_both_sides_say_the_same(self, device, overlay, mhz):
        found = overlay.clock_wizard.retune(mhz, overlay.engine)
        assert found == device.clock_wizard.outputs_mhz == overlay.clock_wizard.outputs_mhz()

    def test_reset_and_defaults(self, device, overlay):
        for name, value in (("RESET", registers.WIZARD_RESET), ("LOAD", registers.WIZARD_DEFAULTS)):
            overlay.clock_wizard.retune((123, *OTHERS), overlay.engine)
            overlay.engine.stop_clock()
            put(overlay.clock_wizard, registers.clock_wizard, name, value)
            assert device.clock_wizard.outputs_mhz == registers.WIZARD_OUTPUTS_MHZ
            while not overlay.clock_wizard.locked:
                pass
            overlay.engine.start_clock()

    def test_only_while_the_engines_clock_stands(self, overlay):
        put(overlay.engine, registers.engine, "CLOCK", registers.CLOCK_STOP)
        for _ in range(2):  # running, then stopping
            with pytest.raises(EmulationError, match="written while the engine's clock is not stopped"):
                put(overlay.clock_wizard, registers.clock_wizard, "CLKOUT0", 5)
            assert not overlay.engine.clock_stopped
        assert overlay.engine.clock_stopped
        put(overlay.clock_wizard, registers.clock_wizard, "CLKOUT0", 5)

    @pytest.mark.parametrize(
        ("name", "word", "message"),
        [("CONFIG0", 20 << 8 | 1, "VCO of 2000 MHz"), ("CONFIG0", 12 << 8, "a factor of 0"), ("CLKOUT2", 0, "of 0")],
    )
    def test_settings_that_an_mmcm_does_not_take(self, overlay, name, word, message):
        overlay.engine.stop_clock()
        put(overlay.clock_wizard, registers.clock_wizard, name, word)
        with pytest.raises(EmulationError, match=f"clocking wizard is loaded with .*{message}"):
            put(overlay.clock_wizard, registers.clock_wizard, "LOAD", registers.WIZARD_LOAD)

    def test_a_busy_engines_clock_is_left_alone(self, device, overlay):
        device.faults.hangs = 1
        overlay.engine.start(0, 0, 0, 0, 1)
        with pytest.raises(ClockError, match="the engine is busy"):
            overlay.clock_wizard.retune((100, *OTHERS), overlay.engine)
        assert device.engine_mhz == 300


class TestLostLock:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr(driver, "LOCK_TIMEOUT_S", 0.02)

    def test_before(self, device, overlay):
        device.faults.never_locks = True
        with pytest.raises(ClockError, match="no lock before loading"):
            overlay.clock_wizard.retune((100, *OTHERS), overlay.engine)
        assert device.engine_mhz == 300

    def test_once_and_the_clock_before_runs_again(self, device, overlay):
        overlay.engine.select_clock(1)
        device.faults.locks_lost = 1
        with pytest.raises(ClockError, match=r"no lock after loading.*; the engine runs from output 1 at 200 MHz, as"):
            overlay.clock_wizard.retune((100, *OTHERS), overlay.engine)
        assert (device.engine_mhz, overlay.engine.clock_stopped) == (200, False)
        overlay.engine.run(0, 0, 0, 0, 1)
        assert overlay.clock_wizard.retune((100, *OTHERS), overlay.engine)[0] == 100

    def test_twice_and_it_is_said_that_the_clock_stands(self, device, overlay):
        device.faults.locks_lost = 2
        with pytest.raises(
            ClockError, match=r"nor do the settings before come back \(.*the engine's clock stays stopped"
        ):
            overlay.clock_wizard.retune((100, *OTHERS), overlay.engine)
        assert overlay.engine.clock_stopped and device.faults.locks_lost == 0

    def test_for_ever(self):
        device = EmulatedDevice(ZCU102, faults=Faults(locks_lost=-1))
        overlay = pynq.Overlay(device.bitstream, device=device)
        with pytest.raises(ClockError, match="stays stopped"):
            overlay.clock_wizard.retune((100, *OTHERS), overlay.engine)
        assert device.faults.locks_lost == -1


class TestReset:
    def test_it_ends_a_hang(self, device, overlay):
        device.faults.hangs = 1
        overlay.engine.start(0, 0, 0, 0, 1)
        assert not overlay.engine.idle
        overlay.engine.reset()
        overlay.engine.run(0, 0, 0, 0, 1)

    def test_the_clock_stays_as_it_was(self, device, overlay):
        overlay.engine.select_clock(2)
        overlay.engine.reset()
        assert device.engine_mhz == 150
        overlay.engine.stop_clock()
        overlay.engine.reset()
        assert overlay.engine.clock_stopped

    def test_nothing_is_pending_after(self, device, overlay):
        overlay.engine.enable_interrupt()
        overlay.engine.start(0, 0, 0, 0, 1)
        overlay.engine.reset()
        assert overlay.engine.read(0) == registers.AP_IDLE
        assert not device.engine.interrupt

    def test_no_start_before_it_is_done(self, overlay):
        put(overlay.engine, registers.engine, "RESET", 1)
        with pytest.raises(EmulationError, match="started while it is being reset"):
            overlay.engine.start(0, 0, 0, 0, 1)

    def test_without_clocks_there_is_none(self, device, overlay, monkeypatch):
        monkeypatch.setattr(driver, "RESET_TIMEOUT_S", 0.02)
        device.faults.never_locks = True
        with pytest.raises(
            ResetTimeout, match=r"not reset after 0\.02 s \(RESET = 0x1, .*remedy: load the overlay again"
        ):
            overlay.engine.reset()


class TestHangs:
    @pytest.mark.parametrize("hangs", [0, 1, 2, -1])
    def test_so_many_starts_never_end(self, device, overlay, hangs):
        device.faults.hangs = hangs
        ended = []
        for _ in range(4):
            overlay.engine.start(0, 0, 0, 0, 1)
            ended.append(overlay.engine.idle)
            overlay.engine.reset()
        assert ended.count(False) == (4 if hangs == -1 else hangs) and ended == sorted(ended)

    def test_a_start_in_a_hang_is_no_other_hang(self, device, overlay):
        device.faults.hangs = 2
        for _ in range(3):
            overlay.engine.start(0, 0, 0, 0, 1)
        assert device.faults.hangs == 1


class TestOnChip:
    """What is on chip: activations and the residual, as the simulated engine has them after a pass."""

    @staticmethod
    def on_chip(device):
        lib, engine = device.simulator.lib, device.simulator.engine
        words = np.zeros((24576 + 4 * 1024, 32), dtype=np.int64)
        for address in range(24576):
            lib.zq_get_activation(engine, address, pointer(words[address]))
        for n in range(4 * 1024):
            lib.zq_get_residual(engine, n // 1024, n % 1024, pointer(words[24576 + n]))
        return words

    def test_changes_of_the_clock_leave_it_alone(self, engine):
        device = engine.target.device
        before = logits(engine, *TEXTS)
        held = self.on_chip(device)
        assert held[:24576].any() and held[24576:].any()
        wizard = engine.overlay.clock_wizard
        wizard.retune((187.5, *OTHERS), engine.driver)
        engine.driver.select_clock(2)
        engine.driver.stop_clock()
        engine.driver.start_clock()
        np.testing.assert_array_equal(self.on_chip(device), held)
        assert logits(engine, *TEXTS) == before

    def test_a_lost_lock_leaves_it_alone(self, engine, monkeypatch):
        monkeypatch.setattr(driver, "LOCK_TIMEOUT_S", 0.02)
        logits(engine, *TEXTS)
        held = self.on_chip(engine.target.device)
        engine.target.device.faults.locks_lost = 1
        with pytest.raises(ClockError, match="as before"):
            engine.overlay.clock_wizard.retune((187.5, *OTHERS), engine.driver)
        np.testing.assert_array_equal(self.on_chip(engine.target.device), held)

    def test_a_reset_loses_it_and_the_next_pass_is_right(self, engine):
        before = logits(engine, *TEXTS)
        engine.driver.reset()
        assert not self.on_chip(engine.target.device).any()
        assert logits(engine, *TEXTS) == before


class FakeUio:
    """The processor's interrupt as Linux hands it to pynq: looked at while somebody waits."""

    def __init__(self, device):
        self.device, self.seen = device, 0

    def add_event(self, event, number):
        asyncio.get_running_loop().create_task(self.watch(event))

    async def watch(self, event):
        while not self.device.interrupts.output:
            await asyncio.sleep(0.001)
        self.seen += 1
        event.set()


class TestInterrupt:
    """Pynq's own Interrupt and controller, which know the active device alone."""

    @pytest.fixture
    def uio(self, device, overlay, monkeypatch):
        uio = FakeUio(device)
        monkeypatch.setattr(DeviceMeta, "_active_device", device, raising=False)
        monkeypatch.setattr(_InterruptController, "_uio_devices", {121: uio})
        monkeypatch.setattr(_InterruptController, "_controllers", [])
        # A lost interrupt would end a wait too: then these tests time out.
        monkeypatch.setattr(driver, "LOST_INTERRUPT_S", 60)
        assert Device.active_device is device
        return uio

    @staticmethod
    def later(device, monkeypatch, delay):
        """Runs end that long after their start, as a board's do."""
        start = device.engine._start

        def slow():
            device.engine._set("AP_CTRL", registers.AP_START)
            asyncio.get_running_loop().call_later(delay, start)

        monkeypatch.setattr(device.engine, "_start", slow)

    def test_runs_one_after_another(self, device, overlay, uio, monkeypatch):
        self.later(device, monkeypatch, 0.02)
        overlay.engine.enable_interrupt()

        async def runs():
            for _ in range(3):
                overlay.engine.start(0, 0, 0, 0, 1)
                assert not overlay.engine.idle
                await overlay.engine.wait_async(5.0)
                assert overlay.engine.idle and not device.engine.interrupt

        asyncio.run(runs())
        assert uio.seen >= 3

    def test_an_interrupt_that_nobody_awaited_does_not_end_the_next_run(self, device, overlay, uio, monkeypatch):
        overlay.engine.enable_interrupt()
        overlay.engine.run(0, 0, 0, 0, 1)
        assert device.engine.interrupt
        self.later(device, monkeypatch, 0.02)
        ended = []
        run = device.engine.run

        def noted(*arguments):
            ended.append(True)
            return run(*arguments)

        monkeypatch.setattr(device.engine, "run", noted)

        async def next_run():
            overlay.engine.start(0, 0, 0, 0, 1)
            await overlay.engine.wait_async(5.0)
            assert ended == [True]

        asyncio.run(next_run())
        assert uio.seen == 2

    def test_others_run_meanwhile(self, device, overlay, uio, monkeypatch):
        self.later(device, monkeypatch, 0.05)
        overlay.engine.enable_interrupt()

        async def both():
            overlay.engine.start(0, 0, 0, 0, 1)
            waiting = asyncio.create_task(overlay.engine.wait_async(5.0))
            turns = 0
            while not waiting.done():
                await asyncio.sleep(0.005)
                turns += 1
            await waiting
            return turns

        assert asyncio.run(both()) >= 3

    def test_time_out(self, device, overlay, uio):
        overlay.engine.enable_interrupt()
        device.faults.hangs = 1

        async def hang():
            overlay.engine.start(0, 0, 0, 0, 1)
            await overlay.engine.wait_async(0.05)

        with pytest.raises(EngineTimeout, match=r"not done after 0\.05 s"):
            asyncio.run(hang())

    def test_without_the_processors_side(self, device, overlay, uio, monkeypatch):
        monkeypatch.setattr(_InterruptController, "_uio_devices", {})
        monkeypatch.setattr("pynq.interrupt.get_uio_irq", lambda irq: None)
        device.faults.hangs = 1

        async def wait():
            overlay.engine.start(0, 0, 0, 0, 1)
            await overlay.engine.wait_async(1.0)

        with pytest.raises(EngineMismatch, match=r"Could not find UIO device .*121; remedy: wait\(\)"):
            asyncio.run(wait())

    def test_metadata_is_that_of_a_block_design_with_a_controller(self, overlay):
        pin = {"controller": "interrupts", "index": 0, "fullpath": "engine/interrupt"}
        assert dict(overlay.interrupt_pins) == {"engine/interrupt": pin}
        assert dict(overlay.interrupt_controllers) == {"interrupts": {"parent": "", "index": 0, "raw_irq": 121}}
        assert {name: dict(ip["interrupts"]) for name, ip in overlay.ip_dict.items()} == {
            "engine": {"interrupt": pin},
            "clock_wizard": {},
            "interrupts": {},
        }
        assert {name: (ip["type"], ip["phys_addr"], ip["addr_range"]) for name, ip in overlay.ip_dict.items()} == {
            block.cell: (block.vlnv, block.base, registers.RANGE) for block in registers.BLOCKS
        }


class TestFaults:
    def test_a_pass_that_hangs_times_out(self, artifact):
        target = emulated(ZCU102, faults=Faults(hangs=1))
        with host.open(board="zcu102", artifact=artifact, device=target, timeout_s=0.05) as engine:
            rows = pack_pass([engine.encoder.encode(TEXTS[0])])
            with pytest.raises(EngineTimeout, match=r"not done after 0\.05 s \(AP_CTRL = 0x1, PROGRAM = 0x8"):
                engine.run_pass(rows)
            engine.driver.reset()
            engine.run_pass(rows)

    def test_a_missing_flush_leaves_the_sentence_before(self, engine, monkeypatch):
        first, second = logits(engine, *TEXTS)
        assert first != second
        monkeypatch.setattr(engine.target.device, "flush", lambda *_: None)
        assert logits(engine, TEXTS[0]) == [second]

    def test_a_missing_invalidate_leaves_the_answer_before(self, engine, monkeypatch):
        first, second = logits(engine, *TEXTS)
        monkeypatch.setattr(engine.target.device, "invalidate", lambda *_: None)
        assert logits(engine, TEXTS[0]) == [second]
        monkeypatch.undo()
        assert logits(engine, TEXTS[0]) == [first]

    def test_a_program_that_was_never_flushed_is_refused(self, artifact, monkeypatch):
        monkeypatch.setattr(EmulatedDevice, "flush", lambda *_: None)
        engine = host.open(board="zcu102", artifact=artifact, device=emulated(ZCU102))
        with engine, pytest.raises(EngineError, match="engine: bad opcode at instruction 0"):
            next(engine.stream(TEXTS))

    def test_an_address_that_nobody_owns_is_a_bus_error(self, engine):
        rows = pack_pass([engine.encoder.encode(TEXTS[0])])
        engine.run_pass(rows)
        addresses = [int(b.physical_address) for b in (engine._program, engine._image, engine._ios[0])]
        beyond = addresses[1] + (1 << 40)
        with pytest.raises(EngineError, match=r"engine: bus error at address 0x1") as caught:
            engine.driver.run(addresses[0], beyond, addresses[2], len(engine.plan.instructions), 1)
        assert caught.value.status == 3 and caught.value.detail >= beyond

    def test_a_flipped_weight_changes_the_result(self, engine):
        rows = pack_pass([engine.encoder.encode(TEXTS[0])])
        pooled = engine.traces(rows)["pooler"][0]
        k = int(np.argmax(np.abs(pooled.astype(int))))
        (before,) = logits(engine, TEXTS[0])
        offset = engine.plan.regions["classifier.weight"].offset + 16 * k  # channel 0: byte 0 of beat k
        engine.target.device.memory.flip(int(engine._image.physical_address) + offset, 0x40)
        (after,) = logits(engine, TEXTS[0])
        assert after[0] != before[0] and after[1] == before[1]

    def test_flipping_what_is_no_memory(self, device):
        with pytest.raises(ValueError, match="no buffer holds address 0x10"):
            device.memory.flip(0x10, 1)
