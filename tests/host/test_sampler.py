# SPDX-License-Identifier: Apache-2.0
"""The sampler on a copy of sysfs and a clock that only the test moves: means, glitches, and sensors that go away."""

import itertools
import math
import threading

import pytest
from hwmon import FakeSysfs, board_sysfs
from zynqbert.host.rails import find_rails
from zynqbert.host.sampler import LOST_AFTER, Sampler, stands_alone


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sysfs(tmp_path):
    """VCCINT of the PL and of the PS."""
    sysfs = FakeSysfs(tmp_path)
    sysfs.add("u79", 2)
    sysfs.add("u76", 5)
    return sysfs


@pytest.fixture
def sampler(sysfs, clock):
    return Sampler(find_rails("zcu102", sysfs.class_hwmon), keep=True, clock=clock)


def sweep(sampler, sysfs, clock, seconds, **amperes):
    """A sweep `seconds` later with these amperes at 1 V."""
    clock.now += seconds
    for part, value in amperes.items():
        sysfs.set(part, 1.0, value)
    sampler.sweep()


def mean_of(sampler, sysfs, clock, readings, part="u79"):
    """The mean over readings (seconds since the last one, amperes) of a part, the other at 1 A."""
    begin = sampler.mark()
    for seconds, amperes in readings:
        sweep(sampler, sysfs, clock, seconds, **{"u79": 1, "u76": 1} | {part: amperes})
    sampler.stop()
    return sampler.mean(begin, sampler.mark())


class TestMean:
    def test_each_reading_weighs_by_its_time(self, sampler, sysfs, clock):
        # trapezoids: (2+2)/2·1 + (2+6)/2·1 + (6+6)/2·3 over 5 s, where the plain mean would be 4
        found = mean_of(sampler, sysfs, clock, [(1, 2), (1, 2), (1, 6), (3, 6)])
        assert found.rails == {"u79": pytest.approx(24 / 5), "u76": pytest.approx(1)}
        assert found.groups == {"pl": pytest.approx(24 / 5), "ps": pytest.approx(1)}
        assert found.total_w == pytest.approx(24 / 5 + 1)
        assert (found.samples, found.dropped, found.lost) == (8, 0, {})

    def test_between_two_moments_only(self, sampler, sysfs, clock):
        for amperes in (9, 9, 9, 2, 2):
            sweep(sampler, sysfs, clock, 1, u79=amperes, u76=0)
        begin = sampler.mark()  # the last reading is held back until the next
        for amperes in (4, 4, 4):
            sweep(sampler, sysfs, clock, 1, u79=amperes, u76=0)
        sampler.stop()
        found = sampler.mean(begin, sampler.mark())
        assert found.groups["pl"] == pytest.approx((2 + 3 + 4 + 4) / 4)

    def test_nothing_read_in_between_is_the_reading_before(self, sampler, sysfs, clock):
        for _ in range(3):
            sweep(sampler, sysfs, clock, 1, u79=3, u76=1)
        mark = sampler.mark()
        assert sampler.mean(mark, mark).total_w == pytest.approx(4)

    def test_one_reading(self, sampler, sysfs, clock):
        assert mean_of(sampler, sysfs, clock, [(1, 7)]).groups["pl"] == pytest.approx(7)

    def test_no_reading_at_all_is_unknown(self, sampler):
        mark = sampler.mark()
        assert sampler.mean(mark, mark).total_w is None

    def test_a_board_without_rails_of_the_ps(self, tmp_path, clock):
        sampler = Sampler(find_rails("zcu111", board_sysfs(tmp_path, "zcu111").class_hwmon), clock=clock)
        mark = sampler.mark()
        sampler.sweep()
        sampler.stop()
        assert sampler.mean(mark, sampler.mark()).groups == {"pl": 0}

    def test_a_group_whose_rails_are_all_missing_is_unknown(self, tmp_path, clock):
        sysfs = FakeSysfs(tmp_path)
        sysfs.add("u79", 2)
        sampler = Sampler(find_rails("zcu102", sysfs.class_hwmon), clock=clock)
        mark = sampler.mark()
        sweep(sampler, sysfs, clock, 1, u79=2)
        sampler.stop()
        found = sampler.mean(mark, sampler.mark())
        assert found.groups == {"pl": pytest.approx(2), "ps": None} and found.total_w is None

    def test_what_was_kept(self, sampler, sysfs, clock):
        mean_of(sampler, sysfs, clock, [(1, 2), (0.5, 3)])
        assert sampler.series()["u79"] == [(1.0, pytest.approx(2)), (1.5, pytest.approx(3))]


class TestGlitches:
    """What cannot be true is dropped and counted; what can be is not."""

    @pytest.mark.parametrize("text", ["", "\n", "nan", "inf", "-inf", "2e9", "broken", "1\n2\n", "\0\0", "-60"])
    def test_no_number_or_no_such_power(self, sampler, sysfs, clock, text):
        begin = sampler.mark()
        for number in range(6):
            sysfs.set("u79", 1.0, 2)
            if number in (2, 3):
                sysfs.garble("u79", text)
            sweep(sampler, sysfs, clock, 1, u76=1)
        sampler.stop()
        found = sampler.mean(begin, sampler.mark())
        assert found.groups == {"pl": pytest.approx(2), "ps": pytest.approx(1)}
        assert (found.samples, found.dropped, found.lost) == (10, 2, {})

    def test_an_offset_below_zero_is_kept(self, sampler, sysfs, clock):
        found = mean_of(sampler, sysfs, clock, [(1, -0.02)] * 4)
        assert found.groups["pl"] == pytest.approx(-0.02) and found.dropped == 0

    @pytest.mark.parametrize("glitch", [20, 0, 59])
    def test_a_reading_that_stands_alone(self, sampler, sysfs, clock, glitch):
        readings = [(1, 2), (1, 2), (1, glitch), (1, 2), (1, 2)]
        found = mean_of(sampler, sysfs, clock, readings)
        assert found.groups["pl"] == pytest.approx(2)
        assert (found.samples, found.dropped) == (9, 1)

    @pytest.mark.parametrize(
        "amperes",
        [
            pytest.param([2, 2, 20, 20, 2, 2], id="a short load"),
            pytest.param([2, 2, 20, 20, 20], id="a load that begins"),
            pytest.param([20, 20, 2, 2, 2], id="a load that ends"),
            pytest.param([2, 2, 5, 2, 2], id="less than three times"),
            pytest.param([0.1, 0.1, 0.9, 0.1, 0.1], id="less than a watt"),
            pytest.param([0.6, 0.6, 0.0, 0.6, 0.6], id="less than a watt below"),
            pytest.param([20, 2, 2], id="the first"),
            pytest.param([2, 2, 20], id="the last"),
        ],
    )
    def test_a_load_is_none(self, sampler, sysfs, clock, amperes):
        found = mean_of(sampler, sysfs, clock, [(1, value) for value in amperes])
        assert found.dropped == 0 and found.samples == 2 * len(amperes)
        expected = math.fsum((a + b) / 2 for a, b in itertools.pairwise(amperes)) / (len(amperes) - 1)
        assert found.groups["pl"] == pytest.approx(expected)

    def test_bounds_of_standing_alone(self):
        assert stands_alone(2, 6.01, 2) and not stands_alone(2, 6, 2)
        assert stands_alone(3, 0.99, 3) and not stands_alone(3, 1, 3)
        assert not stands_alone(2, 6.01, 2.1)


class TestLostSensors:
    def test_one_that_vanishes_costs_its_group_and_not_the_other(self, sampler, sysfs, clock, caplog):
        begin = sampler.mark()
        for _ in range(3):
            sweep(sampler, sysfs, clock, 1, u79=2, u76=1)
        sysfs.remove("u76")
        for _ in range(3):
            sweep(sampler, sysfs, clock, 1, u79=2)
        sampler.stop()
        found = sampler.mean(begin, sampler.mark())
        assert found.groups == {"pl": pytest.approx(2), "ps": None}
        assert found.total_w is None and found.rails["u76"] is None
        assert found.lost == {"u76": 4.0} and found.dropped == 1
        assert caplog.messages == ["power sensor u76 VCCPSINTFP is lost"]

    def test_what_was_measured_before_stays(self, sampler, sysfs, clock):
        begin = sampler.mark()
        for _ in range(3):
            sweep(sampler, sysfs, clock, 1, u79=2, u76=1)
        middle = sampler.mark()
        sysfs.remove("u76")
        sweep(sampler, sysfs, clock, 1)
        assert sampler.mean(begin, middle).total_w == pytest.approx(3)
        assert sampler.mean(middle, sampler.mark()).total_w is None

    def test_failing_on_and_on_is_lost(self, sampler, sysfs, clock):
        sweep(sampler, sysfs, clock, 1, u79=2, u76=1)
        begin = sampler.mark()
        for number in range(LOST_AFTER):
            assert sampler.mark()["u79"].lost_at is None, number
            sysfs.garble("u79", "")
            sweep(sampler, sysfs, clock, 1, u76=1)
        found = sampler.mean(begin, sampler.mark())
        assert found.lost == {"u79": 1.0 + LOST_AFTER} and found.dropped == LOST_AFTER
        sweep(sampler, sysfs, clock, 1, u79=2, u76=1)
        assert sampler.mark()["u79"].lost_at == 1.0 + LOST_AFTER

    def test_failing_now_and_then_is_not(self, sampler, sysfs, clock):
        begin = sampler.mark()
        for number in range(5 * LOST_AFTER):
            sysfs.set("u79", 1.0, 2)
            if number % LOST_AFTER:
                sysfs.garble("u79", "")
            sweep(sampler, sysfs, clock, 1, u76=1)
        sampler.stop()
        found = sampler.mean(begin, sampler.mark())
        assert found.groups["pl"] == pytest.approx(2) and found.lost == {}

    def test_all_of_them(self, sampler, sysfs, clock):
        begin = sampler.mark()
        for part in ("u79", "u76"):
            sysfs.remove(part)
        sweep(sampler, sysfs, clock, 1)
        found = sampler.mean(begin, sampler.mark())
        assert found.groups == {"pl": None, "ps": None} and set(found.lost) == {"u79", "u76"}


class TestThread:
    def test_it_reads_until_it_is_stopped(self, sysfs):
        sysfs.set("u79", 1.0, 2)
        before = threading.active_count()
        with Sampler(find_rails("zcu102", sysfs.class_hwmon)) as sampler:
            begin = sampler.mark()
            end = sampler.after(begin, timeout_s=10)
            assert all(end[part].samples > begin[part].samples for part in end)
        assert threading.active_count() == before
        stopped = sampler.mark()
        assert stopped["u79"].samples > end["u79"].samples  # the one that was held back
        assert sampler.mean(begin, stopped).groups["pl"] == pytest.approx(2)

    def test_waiting_ends_with_the_time_out_and_with_a_loss(self, sampler, sysfs):
        begin = sampler.mark()
        assert sampler.after(begin, timeout_s=0.01) == begin
        for part in ("u79", "u76"):
            sysfs.remove(part)
        sampler.sweep()
        assert sampler.after(begin, timeout_s=60)["u79"].lost_at is not None
