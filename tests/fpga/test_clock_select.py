# SPDX-License-Identifier: Apache-2.0
"""clock_select.v as engine_control.v drives it, edge by edge in picoseconds: whole pulses, or none.

The multiplexers are those of the vendor's description, or ones that glitch: the gate has to be shut either way.
"""

import itertools

import numpy as np
import pytest
import rtl
from zynqbert.fpga import registers
from zynqbert.fpga.registers import CLOCK_BUSY, CLOCK_STOPPED, SELECT_WAIT_CYCLES
from zynqbert.fpga.registers import CLOCK_STOP as STOP

CLOCK, CLOCK_STATUS = (registers.engine(name).offset for name in ("CLOCK", "CLOCK_STATUS"))
# Fixed cycles from the answer to a write of CLOCK to CLOCK_STATUS done, as engine_control.v states.
CHANGE_CYCLES = 2 * SELECT_WAIT_CYCLES + 1
# Half periods in ps, no two with a common factor, from 300 MHz to the slowest that is promised.
ODD_PS = (1667, 2503, 6661, 50_000)
PAIRS = tuple(itertools.permutations(range(4), 2))
MULTIPLEXERS = pytest.mark.parametrize("plain_mux", [False, True], ids=["glitch-free", "plain"])


def ready_bench(**settings) -> rtl.EngineBench:
    bench = rtl.EngineBench(**settings)
    bench.wait("RESET", 1, 0)
    bench.edges()
    return bench


def change(bench: rtl.EngineBench, value: int) -> None:
    """Write CLOCK and wait until it is so."""
    bench.write(CLOCK, value)
    bench.wait("CLOCK_STATUS", CLOCK_BUSY, 0)


def pulses(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths in ps of the high phases and of the low phases between them; rises and falls have to alternate."""
    rises, falls = edges[edges > 0], -edges[edges < 0]
    if len(edges) and edges[0] < 0:
        falls = falls[1:]
    if len(edges) and edges[-1] > 0:
        rises = rises[:-1]
    assert len(rises) == len(falls)
    return falls - rises, rises[1:] - falls[:-1]


def test_lint():
    assert rtl.lint("clock_select") == ""


class TestPulses:
    @MULTIPLEXERS
    @pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}-to-{pair[1]}")
    def test_every_change_passes_whole_pulses(self, pair, plain_mux):
        """To and fro at many phases: every high phase is one of the old or of the new clock, no low phase is shorter
        than theirs; each clock is the engine's for a while."""
        bench = ready_bench(outputs=ODD_PS, plain_mux=plain_mux)
        old, new = (ODD_PS[output] for output in pair)
        change(bench, pair[0])
        bench.advance(500_000)
        bench.edges()
        for phase in range(30):
            change(bench, pair[1 - phase % 2])
            bench.advance(600_000 + 137 * phase)
        high, low = pulses(bench.edges())
        assert set(high) == {old, new}
        assert min(low) == min(old, new)
        # One gap for each change: the clock stands for the second wait at least.
        assert np.count_nonzero(low > 2 * max(ODD_PS)) == 30
        assert bench.get("violations") == 0

    @MULTIPLEXERS
    @pytest.mark.parametrize("seed", range(3))
    def test_clocks_whose_phases_wander(self, seed, plain_mux):
        """Fixed clock and outputs with phases of random length: no pulse is shorter than the shortest phase."""
        bounds = ((1500, 1900), (2400, 2600), (6000, 8000), (30_000, 50_000))
        bench = ready_bench(seed=seed, fixed=(4900, 5100), outputs=bounds, plain_mux=plain_mux)
        rng = np.random.default_rng(seed)
        output = 0
        for _ in range(60):
            bench.edges()
            shortest = bounds[output][0]
            output = int(rng.integers(0, 4))
            shortest = min(shortest, bounds[output][0])
            if rng.random() < 0.3:
                change(bench, output | STOP)
                bench.advance(int(rng.integers(0, 1_000_000)))
            change(bench, output)
            bench.advance(int(rng.integers(0, 500_000)))
            high, low = pulses(bench.edges())
            assert min([*high, *low], default=shortest) >= shortest
        assert bench.get("violations") == 0

    def test_power_up(self):
        """Output 0 runs, without a register being written, and its first pulse is whole."""
        bench = rtl.EngineBench(outputs=ODD_PS)
        bench.advance(10_000_000)
        high, low = pulses(bench.edges())
        assert set(high) == set(low) == {ODD_PS[0]}
        assert len(high) > 2900

    def test_reset_pin_changes_by_the_same_steps(self):
        bench = ready_bench(outputs=ODD_PS, plain_mux=True)
        for output in (1, 2, 3):
            change(bench, output)
            bench.advance(1_000_000)
            bench.edges()
            bench.set("fixed_resetn", 0)
            bench.advance(20_000)
            bench.set("fixed_resetn", 1)
            bench.advance(5_000_000)
            high, low = pulses(bench.edges())
            assert set(high) == {ODD_PS[output], ODD_PS[0]}
            assert min(low) == ODD_PS[0]
            assert bench.read(CLOCK_STATUS) == 0


class TestStop:
    @MULTIPLEXERS
    @pytest.mark.parametrize("output", range(4))
    def test_stopped_is_no_edge_at_all(self, output, plain_mux):
        bench = ready_bench(outputs=ODD_PS, plain_mux=plain_mux)
        for phase in range(10):
            change(bench, output)
            bench.advance(400_000 + 1009 * phase)
            bench.edges()
            change(bench, output | STOP)
            assert bench.read(CLOCK_STATUS) == output | CLOCK_STOPPED
            high, low = pulses(bench.edges())
            assert set(high) == set(low) == {ODD_PS[output]}, "up to the stop every pulse is whole"
            bench.advance(5_000_000)
            assert len(bench.edges()) == 0

    @MULTIPLEXERS
    @pytest.mark.parametrize("seed", range(4))
    def test_retuned_while_stopped(self, seed, plain_mux):
        """Outputs that go wild, stand still and come back with other periods: no edge passes before the start, whole
        pulses of the new period after."""
        bench = ready_bench(seed=seed, outputs=ODD_PS, plain_mux=plain_mux)
        rng = np.random.default_rng(seed)
        for _ in range(8):
            change(bench, (output := int(rng.integers(0, 4))) | STOP)
            bench.edges()
            tuned = rng.integers(1500, 50_000, 4).tolist()
            for which in range(4):
                bench.clock(which, (20, 3000))
            bench.advance(300_000)
            for which in range(4):
                bench.clock(which, 0)
            bench.advance(int(rng.integers(0, 300_000)))
            for which in range(4):
                bench.clock(which, tuned[which], first=int(rng.integers(1, 100_000)))
            bench.advance(300_000)
            assert len(bench.edges()) == 0
            assert bench.read(CLOCK_STATUS) == output | CLOCK_STOPPED
            change(bench, output := int(rng.integers(0, 4)))
            bench.advance(2_000_000)
            high, low = pulses(bench.edges())
            assert set(high) == set(low) == {tuned[output]}
        assert bench.get("violations") == 0

    def test_nothing_on_chip_is_reset(self):
        """A unit's counter counts on, edge by edge, over changes, stops and a retuning."""
        bench = ready_bench(outputs=ODD_PS)
        rng = np.random.default_rng(0)
        counted = bench.get("unit_cycles")
        for _ in range(40):
            output = int(rng.integers(0, 4))
            change(bench, output | STOP)
            assert bench.get("unit_cycles") >= counted
            for which in range(4):
                bench.clock(which, int(rng.integers(1500, 50_000)))
            change(bench, output)
            bench.advance(int(rng.integers(0, 2_000_000)))
            counted += np.count_nonzero(bench.edges() > 0)
            assert bench.get("unit_cycles") == counted


class TestTime:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            *PAIRS,
            (0, STOP),
            (STOP, 0),
            (1, 2 | STOP),
            (3 | STOP, 0),
            (STOP, STOP | 1),
        ],
    )
    def test_a_change_takes_this_long(self, before, after):
        """From the answer to the write, in fixed cycles, to the cycle; the same whatever the clocks."""
        bench = ready_bench(outputs=ODD_PS)

        def busy_after(cycles: int) -> bool:
            """Whether CLOCK_STATUS says changing so many cycles after the answer."""
            change(bench, before)
            answered = bench.write(CLOCK, after)
            # A read's address is taken two cycles after it is asked for.
            bench.advance((answered + cycles - bench.get("fixed_cycles") - 2) * 2 * rtl.FIXED_PS)
            value, cycle = bench.read_at(CLOCK_STATUS)
            assert cycle == answered + cycles
            return bool(value & CLOCK_BUSY)

        assert busy_after(CHANGE_CYCLES - 1)
        assert not busy_after(CHANGE_CYCLES)

    @pytest.mark.parametrize(("before", "after"), [(0, 3), (0, STOP), (2 | STOP, 1)])
    def test_stopped_is_said_only_of_a_clock_that_stands(self, before, after):
        """While CLOCK_STATUS says changing, it never says stopped: the wizard must not be touched yet."""
        bench = ready_bench(outputs=ODD_PS)
        change(bench, before)
        bench.post_write(CLOCK, after)
        for _ in range(100):
            bench.post_read(CLOCK_STATUS)
        words = bench.finish()
        assert (words[0], words[-1]) == (before, after)
        assert {word & ~3 for word in words} == {before & STOP, CLOCK_BUSY, after & STOP}

    @pytest.mark.parametrize("value", [0, 2, 3 | STOP])
    def test_what_is_set_already_changes_nothing(self, value):
        bench = ready_bench(outputs=ODD_PS)
        change(bench, value)
        bench.advance(1_000_000)
        bench.edges()
        bench.write(CLOCK, value)
        assert not bench.read(CLOCK_STATUS) & CLOCK_BUSY
        bench.advance(5_000_000)
        assert set(np.diff(np.abs(bench.edges()))) == (set() if value & STOP else {ODD_PS[value]})

    def test_written_again_meanwhile_the_last_counts(self):
        """Anywhere in a change: it ends where the last write said, and passes no pulse of what was between."""
        for cycles in range(0, 140, 3):
            bench = ready_bench(outputs=ODD_PS, plain_mux=True)
            bench.advance(100_000)
            bench.edges()
            bench.write(CLOCK, 1)
            bench.advance(cycles * 2 * rtl.FIXED_PS)
            change(bench, 2)
            assert bench.read(CLOCK_STATUS) == 2
            bench.advance(100_000)
            high, low = pulses(bench.edges())
            between = {ODD_PS[1]} if cycles > 2 * SELECT_WAIT_CYCLES - 10 else set()
            assert {ODD_PS[0], ODD_PS[2]} <= set(high) <= {ODD_PS[0], ODD_PS[2]} | between
            assert min(low) == ODD_PS[0]
