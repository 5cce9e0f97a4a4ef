# SPDX-License-Identifier: Apache-2.0
"""Rails of both boards in both kernel layouts, on copies of sysfs: watts, groups, what is missing, what is refused."""

import pytest
from hwmon import FakeSysfs, board_sysfs
from zynqbert.host.rails import find_rails

# The boards' parts, as their schematics number them.
PL = {
    "zcu102": {"u79", "u81", "u80", "u84", "u16", "u65", "u74", "u75"},
    "zcu111": {*("u67", "u59", "u61", "u60", "u64", "u69", "u66", "u65", "u63"), *("u3", "u71", "u79", "u77", "u73")},
}
PS = {"zcu102": {"u76", "u77", "u78", "u87", "u85", "u86", "u93", "u88", "u15", "u92"}, "zcu111": set()}
LAYOUTS = ("iio", "ina2xx")


def names(rails):
    return {rail.name for rail in rails}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("board", PL)
class TestBothLayouts:
    def test_every_rail_is_found_in_its_group(self, tmp_path, board, layout):
        rails = find_rails(board, board_sysfs(tmp_path, board, layout).class_hwmon)
        assert (names(rails.pl), names(rails.ps), rails.missing) == (PL[board], PS[board], ())
        assert list(rails.groups) == (["pl", "ps"] if board == "zcu102" else ["pl"])

    @pytest.mark.parametrize("amperes_file", [True, False])
    def test_watts_are_volts_times_amperes(self, tmp_path, board, layout, amperes_file):
        sysfs = board_sysfs(tmp_path, board, layout, amperes_file=amperes_file)
        rails = find_rails(board, sysfs.class_hwmon)
        for rail in rails.pl + rails.ps:
            sysfs.set(rail.name, 0.85, 4)  # 8 or 20 mV at the shunt
            assert rail.watts() == pytest.approx(3.4)

    def test_the_sensor_of_another_chip_is_none(self, tmp_path, board, layout):
        sysfs = FakeSysfs(tmp_path, layout)
        sysfs.add_other()
        with pytest.raises(OSError, match=f"no INA226 sensor of the {board}'s PL.*remedy.*troubleshooting.md, sensors"):
            find_rails(board, sysfs.class_hwmon)


class TestAmperes:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_the_kernels_milliamperes_are_finer_than_the_shunts_millivolts(self, tmp_path, layout):
        sysfs = FakeSysfs(tmp_path, layout)
        sysfs.add("u79", 2)
        sysfs.set("u79", 1.0, 0.2)  # 0.4 mV: no millivolt
        assert find_rails("zcu102", sysfs.class_hwmon).pl[0].watts() == pytest.approx(0.2)

    @pytest.mark.parametrize(
        "board, part, milliohm", [("zcu102", "u79", 2), ("zcu102", "u81", 5), ("zcu111", "u59", 2)]
    )
    def test_the_shunt_where_the_kernel_gives_none(self, tmp_path, board, part, milliohm):
        sysfs = FakeSysfs(tmp_path)
        sysfs.add(part, milliohm, amperes_file=False)
        rails = find_rails(board, sysfs.class_hwmon)
        sysfs.set(part, 0.5, 10)
        assert rails.pl[0].watts() == pytest.approx(5.0)

    def test_another_shunt_than_the_boards_is_told(self, tmp_path):
        sysfs = FakeSysfs(tmp_path)
        sysfs.add("u67", 2)
        sysfs.add("u59", 5)  # listed with 2
        for part in ("u67", "u59"):
            sysfs.set(part, 1.0, 2.5)
        rails = find_rails("zcu111", sysfs.class_hwmon)
        told = [note for note in rails.notes if "the kernel's amperes count" in note]
        assert told == [
            "u59 VCCINT_IO_BRAM_PS_SDFEC: the kernel takes its shunt for 4.8 mΩ, not 2 mΩ; the kernel's amperes count"
        ]
        assert rails.pl[1].watts() == pytest.approx(2.5)

    def test_rounding_is_no_other_shunt(self, tmp_path):
        sysfs = FakeSysfs(tmp_path)
        sysfs.add("u79", 2)
        for milliamperes in range(0, 20_000, 37):
            sysfs.set("u79", 0.85, milliamperes / 1000)
            assert find_rails("zcu102", sysfs.class_hwmon).notes == ()

    def test_a_sensor_that_fails_now_is_found_all_the_same(self, tmp_path):
        sysfs = FakeSysfs(tmp_path)
        sysfs.add("u79", 2)
        sysfs.garble("u79", "")
        (rail,) = find_rails("zcu102", sysfs.class_hwmon).pl
        with pytest.raises(ValueError):
            rail.watts()
        sysfs.set("u79", 0.85, 2)
        assert rail.watts() == pytest.approx(1.7)


class TestIdentity:
    """The ina2xx driver calls every sensor alike; the device tree tells the part, where it has a label."""

    @pytest.mark.parametrize("label", ["ina226-{part}", "ina226_{part}", "{part}", "INA226-U79"])
    def test_forms_of_a_label(self, tmp_path, label):
        sysfs = FakeSysfs(tmp_path, "ina2xx")
        sysfs.add("u79", 2, label=label)
        assert names(find_rails("zcu102", sysfs.class_hwmon).pl) == {"u79"}

    def test_a_label_that_newer_kernels_show_beside_the_inputs(self, tmp_path):
        sysfs = FakeSysfs(tmp_path, "ina2xx")
        sysfs.add("u79", 2, label=None, linked=False)
        (sysfs.folders["u79"] / "label").write_text("ina226-u79\n")
        assert names(find_rails("zcu102", sysfs.class_hwmon).pl) == {"u79"}

    def test_the_name_of_the_node(self, tmp_path):
        sysfs = FakeSysfs(tmp_path, "ina2xx")
        sysfs.add("u79", 2, label="ina226-{part}", label_at="name")
        assert names(find_rails("zcu102", sysfs.class_hwmon).pl) == {"u79"}

    @pytest.mark.parametrize("label", [None, "ina226", "ina226@40", "ina226-u79-spare"])
    def test_what_no_label_tells_is_not_guessed(self, tmp_path, label):
        sysfs = FakeSysfs(tmp_path, "ina2xx")
        sysfs.add("u79", 2, label=label)
        with pytest.raises(OSError, match="a device tree that labels the sensors"):
            find_rails("zcu102", sysfs.class_hwmon)

    def test_a_part_shown_twice_counts_once(self, tmp_path):
        sysfs = FakeSysfs(tmp_path)
        sysfs.add("u79", 2)
        (sysfs.class_hwmon / "hwmon1").symlink_to(sysfs.folders["u79"])
        assert len(find_rails("zcu102", sysfs.class_hwmon).pl) == 1


class TestMissing:
    def test_what_is_there_is_found_and_the_rest_named(self, tmp_path):
        sysfs = board_sysfs(tmp_path, "zcu102")
        for part in ("u81", "u92"):
            sysfs.remove(part)
        rails = find_rails("zcu102", sysfs.class_hwmon)
        assert rails.missing == ("u81 VCCBRAM", "u92 VCCPSDDRPLL")
        assert names(rails.pl) == PL["zcu102"] - {"u81"}

    def test_the_ps_alone_is_refused(self, tmp_path):
        sysfs = FakeSysfs(tmp_path)
        sysfs.add("u76", 5)
        with pytest.raises(OSError, match="no INA226 sensor of the zcu102's PL"):
            find_rails("zcu102", sysfs.class_hwmon)

    def test_no_hwmon_at_all(self, tmp_path):
        with pytest.raises(OSError, match="no INA226 sensor"):
            find_rails("zcu102", tmp_path / "nowhere")

    def test_the_shared_rail_of_the_zcu111_is_told(self, tmp_path):
        rails = find_rails("zcu111", board_sysfs(tmp_path, "zcu111").class_hwmon)
        assert any("u59 feeds block RAM and the PS together: it counts as PL" in note for note in rails.notes)
