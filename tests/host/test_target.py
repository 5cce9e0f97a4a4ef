# SPDX-License-Identifier: Apache-2.0
"""Where the engine is, and whether board, bitstream, manifest and artifact fit: what does not is refused by name."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga import registers
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.capabilities import CAPABILITIES
from zynqbert.fpga.manifest import ManifestError, load_manifest
from zynqbert.host import target as targets
from zynqbert.host.errors import EngineMismatch, TargetError
from zynqbert.host.target import Target, emulated

ZCU102 = BOARDS["zcu102"]
FILES = ("zynqbert.bit", "zynqbert.hwh")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_random_artifact(tmp_path_factory.mktemp("artifact"), seed=4)


def write_build(folder: Path, **changed) -> Path:
    """The three files of one build for the ZCU102 that met 250 MHz, the manifest with fields `changed`; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    sha256 = {}
    for name in FILES:
        (folder / name).write_text(f"contents of {name}")
        sha256[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    use = {"used": 1, "available": 2}
    content = {
        "format_version": 1, "board": "zcu102", "part": ZCU102.part, "program_version": registers.PROGRAM_VERSION,
        "columns": 128, "lanes": 32, "capabilities": list(CAPABILITIES), "max_clock_mhz": 250.0,
        "wizard_outputs_mhz": [250.0, 200.0, 150.0, 100.0], "commit": "unknown", "modified": False, "tools": {},
        "sha256": sha256, "utilization": dict.fromkeys(("lut", "ff", "bram36", "uram", "dsp"), use),
        "timing": dict.fromkeys(("wns_ns", "tns_ns", "whs_ns", "ths_ns", "wpws_ns", "tpws_ns"), 0.1)
        | dict.fromkeys(("setup_failing", "hold_failing", "pulse_failing", "no_clock"), 0),
        "csynth": {}, "date": "2026-01-01T00:00:00+00:00", "predictor": {},
    }  # fmt: skip
    path = folder / "manifest.json"
    path.write_text(json.dumps(content | changed))
    return path


class TestChoosingADevice:
    """auto takes a board where there is one; on a board nothing falls back to emulation."""

    @pytest.fixture
    def board(self, monkeypatch, tmp_path):
        """A board that pynq would find, and a folder for its bitstreams."""
        device = object()
        monkeypatch.setattr(targets, "find_board", lambda: device)
        monkeypatch.setattr(targets, "BOARD_NAME", tmp_path / "pynq_board")
        monkeypatch.setenv("ZYNQBERT_BITSTREAMS", str(tmp_path))
        return device

    def test_pynq_that_fails_as_it_looks(self, monkeypatch):
        class Failing:
            @property
            def devices(self):
                raise RuntimeError("XRT is not set up")

        monkeypatch.setattr(targets, "Device", Failing())
        with pytest.raises(TargetError, match=r"board \(RuntimeError: XRT is not set up\); remedy: a root login shell"):
            targets.choose(ZCU102, "auto")

    def test_auto_without_a_board_says_emulated(self, artifact, capsys):
        with host.open(board="zcu102", artifact=artifact) as engine:
            assert engine.target.name == "emulated zcu102" and engine.target.manifest is None
        captured = capsys.readouterr()
        assert captured.err == "zynqbert: no board here, the zcu102 is emulated\n"
        assert captured.out == ""

    def test_emulated_says_nothing(self, artifact, capsys):
        with host.open(board="zcu102", artifact=artifact, device="emulated"):
            pass
        assert capsys.readouterr().err == ""

    def test_board_without_a_board(self):
        with pytest.raises(TargetError, match="no board: pynq finds no device"):
            targets.choose(ZCU102, "board")

    @pytest.mark.parametrize("device", ["auto", "board"])
    @pytest.mark.parametrize("missing", [*FILES, "manifest.json"])
    def test_a_missing_file_is_an_error(self, board, tmp_path, device, missing, capsys):
        write_build(tmp_path / "zcu102")
        (tmp_path / "zcu102" / missing).unlink()
        with pytest.raises(TargetError) as caught:
            targets.choose(ZCU102, device)
        assert str(caught.value) == (
            f"{tmp_path}/zcu102/{missing} is missing; remedy: put zynqbert.bit, zynqbert.hwh and manifest.json of one "
            "build there, or set ZYNQBERT_BITSTREAMS"
        )
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize("device", ["auto", "board"])
    @pytest.mark.parametrize("given", [False, True])
    def test_a_board_is_taken(self, board, tmp_path, device, given):
        (tmp_path / "pynq_board").write_bytes(b"ZCU102\0")
        path = write_build(tmp_path / ("mine" if given else "zcu102"))
        bitstream = str(path.with_name("zynqbert.bit"))
        target = targets.choose(ZCU102, device, bitstream=bitstream if given else None)
        assert target.device is board
        assert (target.bitstream, target.name) == (bitstream, "zcu102")
        assert (target.manifest, target.manifest_path) == (load_manifest(path), path)
        assert target.max_clock_mhz == 250

    def test_another_board(self, board, tmp_path):
        (tmp_path / "pynq_board").write_bytes(b"Pynq-Z2\0")
        with pytest.raises(TargetError, match="this board is 'Pynq-Z2', not a zcu102"):
            targets.choose(ZCU102)

    def test_unknown(self):
        with pytest.raises(TargetError, match="'gpu' is none of auto, board, emulated"):
            targets.choose(ZCU102, "gpu")
        with pytest.raises(ValueError, match="board 'zcu104' is none of"):
            host.open(board="zcu104", artifact=Path("."))

    @pytest.mark.parametrize("name", FILES)
    def test_a_file_of_another_build(self, board, tmp_path, name):
        write_build(tmp_path / "zcu102")
        (tmp_path / "zcu102" / name).write_text("of another build")
        with pytest.raises(ManifestError, match=rf"zcu102/{name}: sha256 is .* remedy"):
            targets.choose(ZCU102)

    def test_a_bitstream_of_another_name(self, board, tmp_path):
        """The manifest beside it would vouch for other files."""
        write_build(tmp_path)
        (tmp_path / "other.bit").touch()
        with pytest.raises(TargetError, match=r"other\.bit: a bitstream is called zynqbert\.bit; remedy"):
            targets.choose(ZCU102, bitstream=str(tmp_path / "other.bit"))

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"board": "zcu111"}, "board is zcu111, this host needs zcu102 for the zcu102"),
            ({"columns": 192}, "columns is 192, this host needs 128 for the zcu102"),
            ({"program_version": 1}, "program_version is 1, this host needs 4 for the zcu102"),
        ],
    )
    def test_a_manifest_of_another_engine(self, board, tmp_path, changed, said):
        path = write_build(tmp_path / "zcu102", **changed)
        with pytest.raises(TargetError) as caught:
            targets.choose(ZCU102)
        assert str(caught.value) == f"{path}: {said}; remedy: build the bitstream again (zynqbert build)"


def engine_with(lacking=(), **fields) -> Target:
    """An emulated ZCU102 whose engine lacks capabilities."""
    identity = registers.engine_id(128, tuple(name for name in CAPABILITIES if name not in lacking))
    return emulated(ZCU102, identity=identity, **fields)


class TestWhatTheArtifactNeeds:
    NEEDS = (
        ("four_bit_rows", {"word_bits": 4}, "4-bit word embeddings need"),
        ("plain_norm", {"family": "albert"}, "embedding mapping needs"),
        ("normalized_softmax", {"softmax": "normalized"}, "normalized softmax needs"),
        ("token_results", {"kind": "token"}, "labels of tokens need"),
        ("chosen", {"bound": 2}, "weights with a density bound in blocks need"),
    )

    @pytest.mark.parametrize(("capability", "kind", "words"), NEEDS, ids=[name for name, *_ in NEEDS])
    def test_an_engine_without_it(self, tmp_path, capability, kind, words):
        """Refused by name and before it runs; one that lacks all the rest answers."""
        folder = make_random_artifact(tmp_path / "artifact", **kind)
        target = engine_with(lacking=[capability])
        with pytest.raises(EngineMismatch) as caught:
            host.open(board="zcu102", artifact=folder, device=target)
        assert str(caught.value) == (
            f"the artifact's {words} {capability}, which this bitstream's engine lacks; "
            "remedy: build the bitstream again (zynqbert build)"
        )
        assert not target.device.memory.blocks
        rest = [name for name in CAPABILITIES if name != capability]
        with host.open(board="zcu102", artifact=folder, device=engine_with(lacking=rest)) as engine:
            (result,) = engine.stream(["w4"])
        assert result.error is None

    def test_each_of_several_is_named(self, tmp_path):
        folder = make_random_artifact(tmp_path / "artifact", kind="token", softmax="normalized")
        with pytest.raises(EngineMismatch) as caught:
            host.open(board="zcu102", artifact=folder, device=engine_with(lacking=CAPABILITIES))
        assert (
            "normalized softmax needs normalized_softmax, the artifact's labels of tokens need token_results, "
            in str(caught.value)
        )

    def test_a_plain_model_needs_nothing(self, artifact):
        with host.open(board="zcu102", artifact=artifact, device=engine_with(lacking=CAPABILITIES)):
            pass


class TestManifestAgainstEngine:
    """A bitstream with a manifest, on an emulated board in the real one's place."""

    @pytest.fixture
    def target(self, tmp_path):
        """Its engine, and the manifest of its build with fields changed."""

        def made(lacking=(), **changed):
            target = engine_with(lacking)
            path = write_build(Path(target.bitstream).parent, **changed)
            return replace(target, manifest=load_manifest(path), name="zcu102")

        return made

    def test_they_agree(self, artifact, target):
        with host.open(board="zcu102", artifact=artifact, device=target()) as engine:
            assert engine.stream(["w4"])

    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"lanes": 16}, "lanes is 16, the engine's register ID says 32"),
            ({"program_version": 1}, "program_version is 1, the engine's register ID says 4"),
            (
                {"capabilities": ["clock_select"]},
                "capabilities is clock_select, the engine's register ID says adaptive_rows, branches, chosen, "
                "clock_select, exit, four_bit_rows, normalized_softmax, plain_norm, queue, spans, token_results",
            ),
            (
                {"capabilities": []},
                "capabilities is none, the engine's register ID says adaptive_rows, branches, chosen, "
                "clock_select, exit, four_bit_rows, normalized_softmax, plain_norm, queue, spans, token_results",
            ),
        ],
    )
    def test_they_differ(self, artifact, target, changed, said):
        there = target(**changed)
        with pytest.raises(EngineMismatch) as caught:
            host.open(board="zcu102", artifact=artifact, device=there)
        assert str(caught.value) == (
            f"{there.manifest_path}: {said}; remedy: take zynqbert.bit, zynqbert.hwh and manifest.json from one build "
            "(zynqbert build)"
        )
        assert not there.device.memory.blocks

    def test_the_order_of_capabilities_does_not_matter(self, artifact, target):
        with host.open(board="zcu102", artifact=artifact, device=target(capabilities=list(CAPABILITIES[::-1]))):
            pass

    def test_what_the_manifest_lacks_is_known_before_the_bitstream_is_loaded(self, tmp_path, target, monkeypatch):
        folder = make_random_artifact(tmp_path / "artifact", family="albert")
        there = target(lacking=["plain_norm"], capabilities=["clock_select"])
        loaded = []
        monkeypatch.setattr(there.device, "download", lambda *_: loaded.append(1))
        with pytest.raises(EngineMismatch) as caught:
            host.open(board="zcu102", artifact=folder, device=there)
        assert str(caught.value) == (
            f"the artifact's embedding mapping needs plain_norm, which the engine of {there.manifest_path} lacks; "
            "remedy: build the bitstream again (zynqbert build)"
        )
        assert not loaded

    def test_the_clock_is_the_boards_or_the_limit(self, artifact, target):
        outputs = {"wizard_outputs_mhz": [175.0, 150.0, 100.0, 50.0]}
        for limit, expected in ((300.0, 250), (250.0, 250), (175.0, 175)):
            there = target(max_clock_mhz=limit, **outputs)
            with host.open(board="zcu102", artifact=artifact, device=there) as engine:
                assert engine.clock_mhz == engine.asked_mhz == there.device.engine_mhz == expected

    def test_a_clock_above_the_limit(self, artifact, target):
        with pytest.raises(host.errors.ClockError, match="clock of 251 MHz is above 250 MHz"):
            host.open(board="zcu102", artifact=artifact, device=target(), clock_mhz=251)


class TestAnotherBoardsBitstream:
    def test_is_refused(self, artifact):
        with pytest.raises(EngineMismatch, match=r"engine has 192 columns, the zcu102's 128; remedy"):
            host.open(board="zcu102", artifact=artifact, device=emulated(BOARDS["zcu111"]))

    @pytest.mark.parametrize("identity", [0, 0x5A52_0280 | 32 << 32, registers.engine_id(128) ^ 1 << 8])
    def test_a_block_that_is_none_of_ours(self, artifact, identity):
        """Nothing is written to it, not even a reset."""
        target = emulated(ZCU102, identity=identity)
        target.device.engine.put(registers.engine("AP_CTRL"), 0)  # not idle, as we read it
        written = []
        write = target.device.write_registers
        target.device.write_registers = lambda address, data: (written.append(address), write(address, data))
        with pytest.raises(EngineMismatch, match="engine register ID is"):
            host.open(board="zcu102", artifact=artifact, device=target)
        assert not [address for address in written if address < 0xB000_0000]
