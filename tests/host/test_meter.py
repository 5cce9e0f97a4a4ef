# SPDX-License-Identifier: Apache-2.0
"""Meters of passes: the board's on a copy of sysfs, and what it says where the sensors do not."""

import gc
import threading
import time

import pytest
from hwmon import FakeSysfs
from zynqbert.fpga.boards import BOARDS
from zynqbert.host.compiler import ModelShape, plan
from zynqbert.host.meter import BoardMeter, ModelledMeter
from zynqbert.host.rails import find_rails
from zynqbert.host.sampler import SETTLE_S


@pytest.fixture
def sysfs(tmp_path):
    """A PL of 2 W and a PS of 1.5 W."""
    sysfs = FakeSysfs(tmp_path)
    for part, milliohm, amperes in (("u79", 2, 2), ("u76", 5, 1.5)):
        sysfs.add(part, milliohm)
        sysfs.set(part, 1.0, amperes)
    return sysfs


@pytest.fixture
def meter(sysfs):
    meter = BoardMeter("zcu102", find_rails("zcu102", sysfs.class_hwmon))
    yield meter
    meter.close()


def sampling():
    return [thread for thread in threading.enumerate() if thread.name == "power sampler"]


class TestBoardMeter:
    def test_the_pass_runs_once_and_is_timed(self, meter):
        ran = []

        def run():
            ran.append(True)
            time.sleep(0.02)

        reading = meter.measure(run, 1, 250)
        assert ran == [True]
        assert 20 <= reading.latency_ms < 500
        assert reading.power_w == pytest.approx(3.5)
        assert reading.source == "measured"

    def test_a_load_within_a_stream_shows(self, meter, sysfs):
        """Short passes share a mean, which lies between the powers that there were."""
        meter.measure(lambda: None, 1, 250)
        sysfs.set("u79", 1.0, 5)
        last = meter.measure(lambda: time.sleep(SETTLE_S / 2), 1, 250)
        assert 3.5 < last.power_w < 6.5

    def test_a_long_pass_has_its_own_mean(self, meter, sysfs):
        for _ in range(3):
            meter.measure(lambda: time.sleep(0.01), 1, 250)
        sysfs.set("u79", 1.0, 5)
        meter.measure(lambda: time.sleep(0.3), 1, 250)  # until the last reading before the change is past
        assert meter.measure(lambda: time.sleep(SETTLE_S + 0.01), 1, 250).power_w == pytest.approx(6.5)

    @pytest.mark.parametrize("pause, mhz", [(SETTLE_S + 0.01, 250), (0, 200)], ids=["a pause", "another clock"])
    def test_a_new_stream_begins_after(self, meter, sysfs, pause, mhz):
        meter.measure(lambda: time.sleep(0.03), 1, 250)
        sysfs.set("u79", 1.0, 5)
        meter.measure(lambda: time.sleep(0.3), 1, 250)
        time.sleep(pause)
        assert meter.measure(lambda: time.sleep(0.01), 1, mhz).power_w == pytest.approx(6.5)

    def test_a_sensor_that_goes_away_costs_the_power_not_the_pass(self, meter, sysfs):
        assert meter.measure(lambda: None, 1, 250).power_w is not None
        sysfs.remove("u76")
        time.sleep(0.02)
        reading = meter.measure(lambda: time.sleep(0.01), 1, 250)
        assert reading.power_w is None and reading.latency_ms > 0 and reading.source == "measured"

    def test_a_board_without_sensors_runs_too(self, monkeypatch, tmp_path, caplog):
        monkeypatch.setattr("zynqbert.host.meter.find_rails", lambda board: find_rails(board, tmp_path))
        meter = BoardMeter("zcu102")
        reading = meter.measure(lambda: None, 1, 250)
        assert reading.power_w is None and reading.source == "measured"
        assert "no INA226 sensor of the zcu102's PL" in caplog.text and not sampling()

    def test_an_error_of_the_pass_goes_on(self, meter):
        def run():
            raise ValueError("refused")

        with pytest.raises(ValueError, match="refused"):
            meter.measure(run, 1, 250)
        assert meter.measure(lambda: None, 1, 250).power_w == pytest.approx(3.5)

    def test_the_thread_ends_with_the_meter(self, sysfs):
        rails = find_rails("zcu102", sysfs.class_hwmon)
        closed, dropped = BoardMeter("zcu102", rails), BoardMeter("zcu102", rails)
        for meter in (closed, dropped):
            meter.measure(lambda: None, 1, 250)
        assert len(sampling()) == 2
        closed.close()
        assert len(sampling()) == 1
        del dropped, meter
        gc.collect()
        assert not sampling()

    def test_a_pass_after_closing_is_measured(self, meter):
        meter.measure(lambda: None, 1, 250)
        meter.close()
        assert meter.measure(lambda: None, 1, 250).power_w == pytest.approx(3.5)


class TestModelledMeter:
    def test_the_models_figures(self):
        compiled = plan(ModelShape.named("minilm-l6"), BOARDS["zcu102"])
        meter = ModelledMeter(compiled)
        ran = []
        reading = meter.measure(lambda: ran.append(True), 2, 200)
        assert ran == [True] and reading.source == "modelled"
        assert reading.latency_ms == compiled.simulate(2, 200).seconds * 1e3
        assert meter.measure(lambda: None, 2, 200) == reading != meter.measure(lambda: None, 1, 200)
        meter.close()
