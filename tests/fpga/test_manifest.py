# SPDX-License-Identifier: Apache-2.0
"""manifest.json: what is written is read again, everything wrong with one is named, foreign files are noticed."""

import json
import os
from dataclasses import asdict, replace

import pytest
from zynqbert.fpga.manifest import (
    Manifest,
    ManifestError,
    Timing,
    UnitReport,
    Use,
    Utilization,
    check_files,
    load_manifest,
    save_manifest,
    sha256,
)

DIGESTS = {
    "zynqbert.bit": "ab" * 32,
    "zynqbert.hwh": "01" * 32,
}
MANIFEST = Manifest(
    board="zcu102",
    part="xczu9eg-ffvb1156-2-e",
    program_version=3,
    columns=128,
    lanes=32,
    capabilities=("four_bit_rows", "clock_select"),
    max_clock_mhz=300.0,
    wizard_outputs_mhz=(300.0, 200.0, 150.0, 100.0),
    commit="c" * 40,
    modified=True,
    tools={"vivado": "2024.2", "vitis_hls": "2024.2"},
    sha256=DIGESTS,
    utilization=Utilization(Use(1, 10), Use(2, 20), Use(2.5, 30), Use(0, 0), Use(4, 40)),
    timing=Timing(0.1, 0.0, 0, 0.02, 0.0, 0, 0.3, 0.0, 0, 0),
    csynth={"engine_load": UnitReport(2.2, 3.333, 1000, 2000, 0, 8, 0)},
    date="2025-01-31T12:00:00Z",
    predictor={"name": "network", "sha256": "ef" * 32},
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "manifest.json"


def written(path, edit):
    """A manifest file whose content `edit` has changed."""
    save_manifest(MANIFEST, path)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    return path


def test_what_is_written_is_read(path):
    save_manifest(MANIFEST, path)
    found = load_manifest(path)
    assert found == MANIFEST
    assert isinstance(found.utilization.lut.used, float) and isinstance(found.timing.no_clock, int)
    assert json.loads(path.read_text())["format_version"] == 1
    assert os.stat(path).st_mode & 0o777 == 0o644
    assert [p.name for p in path.parent.iterdir()] == ["manifest.json"]


def test_folders_are_made_and_old_files_replaced(tmp_path):
    path = tmp_path / "bitstreams" / "zcu102" / "manifest.json"
    save_manifest(MANIFEST, path)
    save_manifest(replace(MANIFEST, board="zcu111"), path)
    assert load_manifest(path).board == "zcu111"


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    save_manifest(MANIFEST, path)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        save_manifest(replace(MANIFEST, board="zcu111"), path)
    assert load_manifest(path) == MANIFEST
    assert [p.name for p in path.parent.iterdir()] == ["manifest.json"]


def names(value, prefix=""):
    """Every field of a manifest, by its path."""
    for name, inner in value.items():
        yield f"{prefix}{name}"
        if isinstance(inner, dict) and name not in ("tools", "sha256", "csynth"):
            yield from names(inner, f"{prefix}{name}.")


FIELDS = ["format_version", *names(asdict(MANIFEST)), "csynth.engine_load.lut", "sha256.zynqbert.hwh"]


def at(content, field):
    """The object that holds `field`, and its key there."""
    parts = ["sha256", field[7:]] if field.startswith("sha256.") else field.split(".")
    for part in parts[:-1]:
        content = content[part]
    return content, parts[-1]


@pytest.mark.parametrize("field", FIELDS)
def test_missing_field_is_named(path, field):
    def remove(content):
        holder, key = at(content, field)
        del holder[key]

    with pytest.raises(ManifestError, match=rf"{path}: {field} is missing; remedy: "):
        load_manifest(written(path, remove))


@pytest.mark.parametrize("field", [field for field in FIELDS if field != "format_version"])
@pytest.mark.parametrize("wrong", [None, [None], True, {"x": None}], ids=str)
def test_wrong_type_is_named(path, field, wrong):
    if field == "modified" and wrong is True:
        wrong = "true"
    with pytest.raises(ManifestError) as error:
        load_manifest(written(path, lambda content: at(content, field)[0].__setitem__(at(content, field)[1], wrong)))
    message = str(error.value)
    assert message.startswith(f"{path}: {field}"), message
    assert "; remedy: " in message and "\n" not in message


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("format_version", 2, "format_version is 2, this zynqbert reads 1"),
        ("format_version", True, "format_version is True, this zynqbert reads 1"),
        ("format_version", "1", "format_version is '1', this zynqbert reads 1"),
        ("columns", 0, "columns must be above 0, is 0"),
        ("columns", 128.0, "columns must be a whole number, is 128.0"),
        ("max_clock_mhz", 10**400, "max_clock_mhz must be a finite number"),
        ("max_clock_mhz", -1, "max_clock_mhz must be above 0, is -1.0"),
        ("max_clock_mhz", 250, "wizard_outputs_mhz has 300, above max_clock_mhz 250"),
        ("wizard_outputs_mhz", [300, 200, 150], r"wizard_outputs_mhz must be four numbers above 0, is \[300.0, 200.0"),
        ("wizard_outputs_mhz", [300, 200, 150, 0], "wizard_outputs_mhz must be four numbers above 0"),
        ("wizard_outputs_mhz", [300, 200, 150, "100"], r"wizard_outputs_mhz\[3\] must be a number, is '100'"),
        ("capabilities", "all", "capabilities must be a list"),
        ("capabilities", [1], r"capabilities\[0\] must be a string, is 1"),
        ("timing.wns_ns", -0.001, "timing was not met"),
        ("timing.no_clock", 1, "timing was not met"),
        ("sha256.zynqbert.bit", "ab", "sha256.zynqbert.bit must be 64 hexadecimal digits, is 'ab'"),
        ("sha256.other.bit", "ab" * 32, "sha256.other.bit is none of zynqbert.bit, zynqbert.hwh"),
        ("colums", 128, "colums is no field of format 1"),
        ("timing.slack", 1, "timing.slack is no field of format 1"),
    ],
)
def test_wrong_value_is_named(path, field, value, said):
    def put(content):
        holder, key = at(content, field)
        holder[key] = value

    with pytest.raises(ManifestError, match=rf"{path}: {said}.*; remedy: take zynqbert.bit, zynqbert.hwh and manifest"):
        load_manifest(written(path, put))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "NaN", '"text"', "\x00", "[" * 100_000, '{"format_version": ' + "9" * 5000 + "}"],
    ids=range(9),
)
def test_what_is_no_manifest_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(ManifestError, match=rf"{path}: .*remedy: "):
        load_manifest(path)


def test_bytes_that_are_no_text_are_refused(path):
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ManifestError, match="not JSON"):
        load_manifest(path)


def test_not_a_number_is_refused(path):
    save_manifest(MANIFEST, path)
    path.write_text(path.read_text().replace('"max_clock_mhz": 300.0', '"max_clock_mhz": NaN'))
    with pytest.raises(ManifestError, match="not JSON"):
        load_manifest(path)
    with pytest.raises(ValueError):
        save_manifest(replace(MANIFEST, max_clock_mhz=float("nan")), path)


def test_no_manifest(path):
    with pytest.raises(FileNotFoundError):
        load_manifest(path)


@pytest.fixture
def build(tmp_path):
    """A folder of the two files, and their manifest."""
    (tmp_path / "zynqbert.bit").write_bytes(b"bits")
    (tmp_path / "zynqbert.hwh").write_bytes(b"<hwh/>")
    return tmp_path, replace(MANIFEST, sha256={name: sha256(tmp_path / name) for name in DIGESTS})


def test_files_of_the_build_pass(build):
    folder, manifest = build
    check_files(manifest, folder)
    assert manifest.sha256["zynqbert.bit"] == "e5e59d10f196504b6e08ac7785f84430a61e1558fd6246075a9566edaab2e814"


@pytest.mark.parametrize("name", DIGESTS)
def test_other_files_are_refused(build, name):
    folder, manifest = build
    (folder / name).write_bytes(b"bitz")
    with pytest.raises(ManifestError, match=rf"{folder / name}: sha256 is \w+, manifest.json has \w+.*; remedy: "):
        check_files(manifest, folder)
    (folder / name).unlink()
    with pytest.raises(ManifestError, match=rf"{folder / name} is missing; remedy: "):
        check_files(manifest, folder)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        ({"name": "network"}, "predictor.sha256 is missing"),
        ({"sha256": "ef" * 32}, "predictor.name is missing"),
        ({"name": "x", "sha256": "ef" * 32, "y": ""}, "predictor.y is none of name, sha256"),
        ({"name": "x", "sha256": "EF" * 32}, "predictor.sha256 must be 64 hexadecimal digits"),
    ],
)
def test_a_predictor_is_named_with_its_digest(path, predictor, message):
    with pytest.raises(ManifestError, match=message):
        load_manifest(written(path, lambda content: content.update(predictor=predictor)))


def test_without_a_predictor_the_exit_table_foretells(path):
    assert load_manifest(written(path, lambda content: content.update(predictor={}))).predictor == {}
