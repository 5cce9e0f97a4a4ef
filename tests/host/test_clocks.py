# SPDX-License-Identifier: Apache-2.0
"""The clock an engine gets: selected where an output has it, retuned where none has, refused where timing ends."""

import math
from itertools import pairwise

import pynq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zynqbert.fpga import clocking, registers
from zynqbert.fpga.boards import BOARDS
from zynqbert.host import driver
from zynqbert.host.clocks import ClockChange, ClockTree
from zynqbert.host.emulated.device import EmulatedDevice
from zynqbert.host.errors import ClockError

SELECT, RETUNE = clocking.select_seconds(), clocking.retune_seconds()


@pytest.fixture
def device():
    return EmulatedDevice(BOARDS["zcu102"])


def tree_on(device, limit_mhz=300.0):
    overlay = pynq.Overlay(device.bitstream, device=device)
    return ClockTree(overlay.engine, overlay.clock_wizard, limit_mhz)


@pytest.fixture
def tree(device):
    return tree_on(device)


@pytest.fixture(scope="module")
def shared():
    device = EmulatedDevice(BOARDS["zcu102"])
    return device, tree_on(device)


class TestSelecting:
    def test_what_an_output_gives_is_selected(self, device, tree, monkeypatch):
        monkeypatch.setattr(device.clock_wizard, "write", lambda *_: pytest.fail("the wizard is written"))
        for output, mhz in ((1, 200), (3, 100), (2, 150), (0, 300)):
            assert tree.set_mhz(mhz) == ClockChange(mhz, output, "select", SELECT)
            assert device.engine_mhz == mhz

    def test_what_runs_is_left_alone(self, device, tree, monkeypatch):
        tree.set_mhz(200)
        monkeypatch.setattr(device.engine, "write", lambda *_: pytest.fail("a register is written"))
        assert tree.set_mhz(200) == ClockChange(200, 1, "none", 0.0)

    def test_a_stopped_clock_is_started(self, device, tree):
        tree.engine.stop_clock()
        assert tree.set_mhz(300) == ClockChange(300, 0, "select", SELECT)
        assert device.engine_mhz == 300

    def test_available(self, device, tree):
        assert tree.available() == registers.WIZARD_OUTPUTS_MHZ
        tree.set_mhz(250)
        assert tree.available() == device.clock_wizard.outputs_mhz

    def test_not_from_a_wizard_without_lock(self, device, tree):
        device.faults.never_locks = True
        with pytest.raises(ClockError, match="clocking wizard: no lock, STATUS bit 0 is 0; remedy"):
            tree.set_mhz(200)
        assert tree.set_mhz(300).kind == "none"


class TestRetuning:
    def test_output_0_gets_what_no_output_has(self, device, tree):
        assert tree.set_mhz(250) == ClockChange(250, 0, "retune", RETUNE)
        assert device.engine_mhz == 250

    def test_from_another_output_it_is_selected_too(self, device, tree):
        tree.set_mhz(100)
        assert tree.set_mhz(250) == ClockChange(250, 0, "retune", RETUNE + SELECT)
        assert device.engine_mhz == 250

    def test_the_others_stay_near_what_the_bitstream_gave(self, tree):
        """By whole factors of a VCO of 1000 MHz: 7, for example, where 150 MHz was."""
        tree.set_mhz(250)
        assert tree.available() == (250, 200, 1000 / 7, 100)

    def test_what_was_reached_is_not_retuned_again(self, device, tree, monkeypatch):
        """Asked for by what was asked first, and by what that gave."""
        first = tree.set_mhz(187.3)
        assert 187.2 < first.mhz < 187.3 and first.kind == "retune"
        monkeypatch.setattr(device.clock_wizard, "write", lambda *_: pytest.fail("the wizard is written"))
        assert tree.set_mhz(187.3) == tree.set_mhz(first.mhz) == ClockChange(first.mhz, 0, "none", 0.0)
        tree.engine.select_clock(3)
        assert tree.set_mhz(187.3) == ClockChange(first.mhz, 0, "select", SELECT)

    def test_back_to_the_bitstreams_own(self, device, tree):
        tree.set_mhz(187.5)
        assert tree.set_mhz(300) == ClockChange(300, 0, "retune", RETUNE)
        assert tree.available() == registers.WIZARD_OUTPUTS_MHZ

    @settings(derandomize=True, database=None, deadline=None, max_examples=60)
    @given(
        st.lists(st.one_of(st.floats(6.25, 300), st.sampled_from([100, 150, 200, 250, 300])), min_size=1, max_size=4)
    )
    def test_any_sequence_ends_on_the_clock_it_says(self, shared, sequence):
        """One device for all: each sequence starts where the one before ended."""
        device, tree = shared
        for mhz in sequence:
            change = tree.set_mhz(mhz)
            assert change.mhz == device.engine_mhz == tree.available()[change.output]
            assert 0.99 * mhz <= change.mhz <= mhz
            assert max(device.clock_wizard.outputs_mhz) <= 300


class TestLimit:
    def test_above_it_nothing_is_touched(self, device):
        tree = tree_on(device, 250.0)
        with pytest.raises(
            ClockError, match="clock of 251 MHz is above 250 MHz, the highest that the bitstream's timing"
        ):
            tree.set_mhz(251)
        assert device.engine_mhz == 300

    def test_an_output_above_it_is_not_selected(self, device):
        """300 MHz is there, but timing was not met for it."""
        with pytest.raises(ClockError, match="is above 250 MHz"):
            tree_on(device, 250.0).set_mhz(300)

    def test_outputs_that_nobody_asked_for_keep_it_too(self, device):
        tree = tree_on(device, 125.0)
        tree.set_mhz(120)
        assert max(device.clock_wizard.outputs_mhz) <= 125

    @pytest.mark.parametrize("mhz", [math.nan, math.inf])
    def test_no_number(self, tree, mhz):
        with pytest.raises(ClockError, match=f"clock of {mhz} MHz is above 300 MHz"):
            tree.set_mhz(mhz)

    @pytest.mark.parametrize("mhz", [0, -100, 6])
    def test_below_the_wizards_reach(self, device, tree, mhz):
        with pytest.raises(ValueError, match=rf"clock of {mhz} MHz is outside 6\.25 \.\. 775 MHz"):
            tree.set_mhz(mhz)
        assert device.engine_mhz == 300


class TestFailures:
    def test_a_busy_engine(self, device, tree):
        device.faults.hangs = 1
        tree.engine.start(0, 0, 0, 0, 1)
        for mhz in (200, 187.5):
            with pytest.raises(ClockError, match=r"a program runs|engine is busy"):
                tree.set_mhz(mhz)
        assert device.engine_mhz == 300

    def test_a_lost_lock_leaves_the_clock_before(self, device, tree, monkeypatch):
        monkeypatch.setattr(driver, "LOCK_TIMEOUT_S", 0.02)
        tree.set_mhz(150)
        device.faults.locks_lost = 1
        with pytest.raises(ClockError, match="the engine runs from output 2 at 150 MHz, as before"):
            tree.set_mhz(187.5)
        assert device.engine_mhz == 150
        assert tree.set_mhz(187.5).mhz == device.engine_mhz == 187.5

    def test_after_a_lock_that_stays_lost_no_clock_is_started(self, device, tree, monkeypatch):
        monkeypatch.setattr(driver, "LOCK_TIMEOUT_S", 0.02)
        device.faults.locks_lost = 2
        with pytest.raises(ClockError, match="the engine's clock stays stopped"):
            tree.set_mhz(187.5)
        with pytest.raises(ClockError, match="no lock"):
            tree.set_mhz(200)
        assert tree.engine.clock_stopped


def test_costs_grow_with_what_is_done(tree):
    none, select, retune = (tree.set_mhz(mhz) for mhz in (300, 200, 187.5))
    assert [c.kind for c in (none, select, retune)] == ["none", "select", "retune"]
    assert all(a.modelled_s < b.modelled_s for a, b in pairwise((none, select, retune)))
