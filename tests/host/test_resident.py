# SPDX-License-Identifier: Apache-2.0
"""Sparse models on the engine: compressed in DDR, resident on chip, with a density bound in blocks, corrupt; always
the golden's numbers."""

import numpy as np
import pytest
from pass_runner import PassRunner, compare, pass_of
from random_artifact import make_random_artifact
from zynqbert import host
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.directory import CHOICE_STEPS, SEGMENT_STEPS, chosen_beats
from zynqbert.fpga.expansion import expand, gathers_of
from zynqbert.fpga.simulator import ROOT
from zynqbert.host import task_set
from zynqbert.host.compiler import plan
from zynqbert.host.errors import CorruptWeights
from zynqbert.host.model_shape import ModelShape
from zynqbert.host.storage import matrices
from zynqbert.host.target import emulated
from zynqbert.quant import compressed
from zynqbert.quant.artifact import load_artifact

TEXTS = ["w4 w5 w6", "w7 w8", " ".join(["w9"] * 40)]
# Two segments of K in ffn2, and entries that make no whole block; a matrix of two column tiles; layers that share.
SHAPES = {
    "bert": dict(layers=2, hidden=96, heads=3, ffn=301, labels=3),
    "albert": dict(layers=3, hidden=192, heads=3, head_width=64, ffn=270, family="albert", embedding=40),
}


PRUNED = {f"density {d}": {"density": d} for d in (0.05, 0.5, 0.9)} | {f"bound {b}": {"bound": b} for b in (1, 2, 3)}


@pytest.fixture(scope="module", params=PRUNED)
def pruned(request):
    return PRUNED[request.param]


@pytest.fixture(scope="module", params=SHAPES)
def sparse(request, pruned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse") / request.param
    return make_random_artifact(folder, vocab=50, seed=3, **pruned, **SHAPES[request.param])


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "resident"])
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("build", ["checked", "native"])
def test_pass_equals_golden(sparse, pruned, board, build, resident):
    runner = PassRunner(sparse, build, board, resident=resident)
    gemms = [i for i in runner.plan.instructions if isinstance(i, isa.Gemm) and not i.w8]
    assert {g.resident for g in gemms} == {resident}
    bounds = {tile.bound for matrix in runner.plan.matrices.values() for tile in matrix.directory}
    assert pruned.get("bound", 0) in bounds and any(g.chosen for g in gemms) == bool(bounds - {0})
    rows, results = pass_of(np.random.default_rng(1), [40, 20, 50])
    compare(sparse, runner, rows, results)


@pytest.mark.parametrize("board", BOARDS)
def test_pass_under_ap_int_equals_golden(sparse, board):
    rows, results = pass_of(np.random.default_rng(2), [20, 13])
    for resident in (False, True):
        compare(sparse, PassRunner(sparse, "csim", board, resident=resident), rows, results)


@pytest.mark.parametrize("seed", range(1, 5))
def test_any_legal_schedule_gives_the_same(sparse, seed):
    rows, results = pass_of(np.random.default_rng(3), [40, 50])
    compare(sparse, PassRunner(sparse, "native", "zcu111"), rows, results, seed=seed)


@pytest.mark.parametrize("resident", [False, True], ids=["streamed", "resident"])
def test_trips_and_bytes_are_the_models(sparse, resident):
    runner = PassRunner(sparse, "native", "zcu102", resident=resident)
    rows, results = pass_of(np.random.default_rng(4), [60, 3])
    runner.simulator.trips()
    runner.run(rows, results)
    fields = np.array(rows)[:, :3].T
    fields = np.pad(fields, ((0, 0), (0, -fields.shape[1] % 32)))
    timing = runner.plan.simulate(2, 250, gathers=gathers_of(fields))
    assert runner.simulator.trips() == timing.trips


def test_resident_weights_are_read_once(tmp_path):
    folder = make_random_artifact(tmp_path / "a", vocab=50, seed=3, density=0.5, **SHAPES["albert"])
    streamed, kept = (PassRunner(folder, "native", resident=resident).plan for resident in (False, True))
    bytes_of = [p.simulate(1, 250).ddr_bytes_read for p in (streamed, kept)]
    each = sum(m.uses * 16 * m.ports * m.words for m in kept.matrices.values())
    assert bytes_of[0] - bytes_of[1] == each
    once = kept.simulate_keeping(250).ddr_bytes_read
    assert once < each / 2  # three layers share
    assert len(kept.keeping) == 1 + len(kept.matrices) and streamed.keeping == (isa.End(),)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
@pytest.mark.parametrize("density", [0.25, 0.5, 0.75])
def test_the_array_spends_that_share_of_the_steps(board, density):
    """BERT-base: all but attention and the classifier is int4, and the beats of choices are an eighth more."""
    shape = ModelShape.named("bert-base")
    dense = plan(shape, board)
    found = plan(shape, board, density=density, pattern="blocks", resident=False)
    tiles = [expand(p.instructions, 4, board.columns, p.directories).array for p in (dense, found)]
    steps = [sum(c.k for c in of_pass) for of_pass in tiles]
    int4 = sum(c.k for c in tiles[0] if not c.w8)
    assert steps[1] == steps[0] - (1 - density) * int4
    # each block is read once, whatever is taken of it
    assert sum(c.activations for c in tiles[1]) == sum(c.k for c in tiles[0])
    matrix = found.matrices["layers.3.ffn2"]
    assert {tile.bound for tile in matrix.directory} == {round(4 * density)}
    assert (
        matrix.directory[0].beats
        == chosen_beats(3072, round(4 * density))
        == pytest.approx(3072 * density * 9 / 8, rel=0.01)
    )


def test_random_weights_take_no_bound_and_blocks_must_be_quarters():
    shape, board = ModelShape.named("minilm-l6"), BOARDS["zcu102"]
    free = plan(shape, board, density=0.5)
    assert not any(m.chosen for m in free.matrices.values())
    assert not any(m.chosen for m in plan(shape, board, density=1.0, pattern="blocks").matrices.values())
    with pytest.raises(ValueError, match=r"density 0\.4 is none that blocks of 4 can have"):
        plan(shape, board, density=0.4, pattern="blocks")


class TestPlanner:
    def test_albert_base_at_half_density_stays_on_zcu111(self):
        found = matrices(ModelShape.named("albert-base"), BOARDS["zcu111"], density=0.5)
        assert all(m.resident is not None for m in found.values())
        used = sum(m.words for m in found.values())
        assert 0.9 * BOARDS["zcu111"].resident_words < used <= BOARDS["zcu111"].resident_words

    @pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
    def test_a_shared_layer_of_hidden_384_at_half_density_stays_on_both(self, board):
        found = plan(shared_384(), board, density=0.5).matrices
        assert all(m.resident is not None for m in found.values())

    def test_dense_albert_base_does_not_fit_and_says_why(self):
        found = matrices(ModelShape.named("albert-base"), BOARDS["zcu111"])
        assert found["layers.0.ffn2"].resident is None
        assert found["layers.0.ffn2"].why == "needs 12340 words of the resident memory, 4992 of 29696 are left"
        assert not found["layers.0.ffn2"].compressed  # full tiles are stored as they are

    def test_places_do_not_overlap(self):
        for board in BOARDS.values():
            for density in (0.3, 0.5, 1.0):
                for name in ("albert-base", "bert-base", "minilm-l6"):
                    found = matrices(ModelShape.named(name), board, density=density).values()
                    kept = sorted((m.resident, m.words) for m in found if m.resident is not None)
                    ends = [word + size for word, size in kept]
                    assert all(end <= start for end, (start, _) in zip(ends, kept[1:], strict=False))
                    assert not kept or ends[-1] <= board.resident_words

    def test_what_more_layers_use_goes_first(self, tmp_path):
        folder = make_random_artifact(tmp_path / "a", layers=4, family="albert", weights=[0, 1, 1, 1], embedding=40)
        model = load_artifact(folder)
        shape = ModelShape.of_manifest(model.manifest)
        narrow = BOARDS["zcu102"].__class__(**{**vars(BOARDS["zcu102"]), "resident_words": 600})
        found = matrices(shape, narrow, artifact=model)
        assert found["layers.1.q"].resident == 0
        last = max(m.resident for m in found.values() if m.uses == 3 and m.resident is not None)
        assert all(m.resident is None or m.resident > last for m in found.values() if m.uses == 1)

    @pytest.mark.parametrize("density", [-0.1, 1.1])
    def test_density_out_of_range(self, density):
        with pytest.raises(ValueError, match="density of"):
            matrices(ModelShape.named("minilm-l6"), BOARDS["zcu102"], density=density)


def shared_384():
    mini = ModelShape.named("minilm-l6")
    return mini.__class__(**{**vars(mini), "weights": (0,) * 6})


def test_limits_are_the_kernels():
    config = (ROOT / "kernels" / "config.hpp").read_text()
    assert f"constexpr int kSegmentSteps = {SEGMENT_STEPS};" in config
    words = {board.columns: board.resident_words for board in BOARDS.values()}
    assert f"kResidentWords = kColumns == 128 ? {words[128]} : {words[192]};" in config
    assert f"constexpr int kWeightTiles = {isa.WEIGHT_TILES};" in config
    assert f"constexpr int kBlock = {isa.BLOCK};" in config
    assert f"constexpr int kChoicePairs = {isa.GROUP // 2};" in config
    assert f"constexpr int kChoiceSteps = {CHOICE_STEPS};" in config
    # quant/ uses nothing of fpga/ and has its own
    assert (compressed.BLOCK, compressed.GROUP, compressed.CHOICE_STEPS) == (isa.BLOCK, isa.GROUP, CHOICE_STEPS)


class TestEngine:
    @pytest.fixture
    def artifact(self, tmp_path):
        return make_random_artifact(tmp_path / "a", vocab=50, seed=5, density=0.5, **SHAPES["bert"])

    def answers(self, engine):
        return [list(result.logits) for result in engine.stream(TEXTS)]

    def test_weights_come_on_chip_once(self, artifact):
        target = emulated(BOARDS["zcu102"])
        runs = []
        run = target.device.engine.run
        target.device.engine.run = lambda *a: (runs.append(a[3]), run(*a))[1]
        with host.open(board="zcu102", artifact=artifact, device=target) as engine:
            self.answers(engine)
            keeping, program = len(engine.plan.keeping), len(engine.plan.instructions)
        assert runs == [keeping, *[program] * len(TEXTS)]

    def test_they_come_back_after_a_hang(self, artifact):
        target = emulated(BOARDS["zcu102"])
        with host.open(board="zcu102", artifact=artifact, device=target, timeout_s=0.2) as engine:
            before = self.answers(engine)
            target.device.faults.hangs = 1
            first, *others = engine.stream([TEXTS[0], *TEXTS])
            assert first.error is not None
            assert [list(result.logits) for result in others] == before

    @pytest.mark.parametrize("resident", [False, True], ids=["streamed", "resident"])
    def test_corrupt_weights_are_named_by_their_tensor(self, artifact, monkeypatch, resident):
        whole = task_set.plan
        monkeypatch.setattr(task_set, "plan", lambda *a, **k: whole(*a, **k, resident=resident))
        target = emulated(BOARDS["zcu102"])
        with host.open(board="zcu102", artifact=artifact, device=target) as engine:
            matrix = engine.plan.matrices["layers.1.ffn1"]
            assert matrix.compressed
            region = engine.plan.regions["layers.1.ffn1.weight"]
            at = region.offset + 16 * len(matrix.directory)  # the first header
            engine._image[at] ^= 3
            engine._image.flush()
            with pytest.raises(CorruptWeights, match=r"bad segment of weights .*: layers\.1\.ffn1\.weight is corrupt"):
                self.answers(engine)
            engine._image[at] ^= 3
            engine._image.flush()
            engine.driver.reset()  # so that resident weights are brought again
            assert len(self.answers(engine)) == len(TEXTS)

    def test_a_corrupt_directory_is_named_too(self, artifact):
        with host.open(board="zcu102", artifact=artifact, device=emulated(BOARDS["zcu102"])) as engine:
            engine._image[engine.plan.regions["layers.0.k.weight"].offset] = 7
            engine._image.flush()
            with pytest.raises(CorruptWeights, match=r"bad directory of weights .*: layers\.0\.k\.weight is corrupt"):
                self.answers(engine)
