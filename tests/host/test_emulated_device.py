# SPDX-License-Identifier: Apache-2.0
"""The emulated board: what a board would not forgive shows, and every fault ends in a clear error."""

import numpy as np
import pynq
import pytest
from pynq.pl_server.device import DeviceMeta
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import driver
from zynqbert.host.emulated_device import EmulatedDevice
from zynqbert.host.emulated_memory import JUNK
from zynqbert.host.emulated_registers import EmulationError, Faults
from zynqbert.host.errors import ClockError, EngineError, EngineTimeout
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
        for address in (0xA000_0000 - 4, 0xA002_0000, 0x0):
            with pytest.raises(EmulationError, match=f"address 0x{address:X} is not mapped"):
                device.read_registers(address, 4)
            with pytest.raises(EmulationError, match="is not mapped"):
                device.write_registers(address, bytes(4))

    def test_offsets_without_a_register_raise(self, overlay):
        with pytest.raises(EmulationError, match="read of engine offset 0x18, where there is no register"):
            overlay.engine.read(0x18)
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

    def test_id_is_there_after_the_first_run(self, overlay):
        assert overlay.engine.read(registers.engine("ID").offset) == 0
        assert overlay.engine.identify() == 128

    def test_overlay_set_the_pl_clock(self, overlay):
        assert abs(pynq.ps.Clocks.fclk0_mhz - 100) < 0.01

    def test_pynq_never_finds_it_by_itself(self):
        assert EmulatedDevice not in DeviceMeta._subclasses.values()

    def test_two_devices_do_not_share_clocks_or_registers(self, overlay):
        other = EmulatedDevice(BOARDS["zcu111"])
        second = pynq.Overlay(other.bitstream, device=other)
        assert (overlay.engine.identify(), second.engine.identify()) == (128, 192)


class TestClockWizard:
    def test_retuning_takes_effect_at_load(self, device, overlay):
        assert device.clock_wizard.mhz == 250
        assert overlay.clock_wizard.set_mhz(300, overlay.engine) == 300
        assert device.clock_wizard.mhz == 300
        overlay.clock_wizard.write(registers.clock_wizard("CONFIG2").offset, 50)
        assert device.clock_wizard.mhz == 300

    def test_fractions(self, device, overlay):
        found = overlay.clock_wizard.set_mhz(187.5, overlay.engine)
        assert found == device.clock_wizard.mhz == 187.5

    def test_reset_and_defaults(self, device, overlay):
        for name, value in (("RESET", registers.WIZARD_RESET), ("LOAD", registers.WIZARD_DEFAULTS)):
            overlay.clock_wizard.set_mhz(100, overlay.engine)
            overlay.clock_wizard.write(registers.clock_wizard(name).offset, value)
            assert device.clock_wizard.mhz == 250

    def test_no_lock_times_out(self, device, overlay, monkeypatch):
        monkeypatch.setattr(driver, "LOCK_TIMEOUT_S", 0.02)
        device.faults.never_locks = True
        with pytest.raises(ClockError, match="no lock before loading"):
            overlay.clock_wizard.set_mhz(100, overlay.engine)

    def test_a_busy_engines_clock_is_left_alone(self, device, overlay):
        device.faults.never_finishes = True
        overlay.engine.start(0, 0, 0, 0, 1)
        with pytest.raises(ClockError, match="the engine is busy"):
            overlay.clock_wizard.set_mhz(100, overlay.engine)
        with pytest.raises(EmulationError, match="written while the engine runs"):
            overlay.clock_wizard.write(registers.clock_wizard("CONFIG0").offset, 1)
        assert device.clock_wizard.mhz == 250


class TestFaults:
    def test_an_engine_that_never_finishes_times_out(self, artifact):
        target = emulated(ZCU102)
        with host.open(board="zcu102", artifact=artifact, device=target, timeout_s=0.05) as engine:
            target.device.faults.never_finishes = True
            with pytest.raises(EngineTimeout, match=r"not done after 0\.05 s \(AP_CTRL = 0x1, PROGRAM = 0x8"):
                next(engine.stream(TEXTS))

    def test_it_times_out_at_open_too(self, artifact):
        target = emulated(ZCU102, faults=Faults(never_finishes=True))
        with pytest.raises(EngineTimeout, match="not done after 1 s"):
            host.open(board="zcu102", artifact=artifact, device=target)

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
        addresses = [int(b.physical_address) for b in (engine._program, engine._image, engine._io)]
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
