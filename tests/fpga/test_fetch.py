# SPDX-License-Identifier: Apache-2.0
"""What the engine does with programs it should refuse: a status and the instruction at fault, never a wild access."""

import struct
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from sparse import in_blocks, sparse
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.instructions import ProgramError
from zynqbert.fpga.simulator import Simulator
from zynqbert.quant.compressed import compress

PROGRAM, IMAGE, IO = 0x1000, 0x10_0000, 0x20_0000
RESIDENT = BOARDS["zcu102"].resident_words


@pytest.fixture(scope="module")
def simulator():
    return Simulator("native", 128)


def run(simulator, program: bytes, *, row_blocks=1, image=65536, io=65536, instructions=None):
    data = np.frombuffer(program, dtype=np.uint8).copy()
    memory = [(PROGRAM, data), (IMAGE, np.zeros(image, dtype=np.uint8)), (IO, np.zeros(io, dtype=np.uint8))]
    count = len(program) // 64 if instructions is None else instructions
    return simulator.run(memory, PROGRAM, IMAGE, IO, count, row_blocks)


def encode(*instructions) -> bytes:
    return b"".join(i.encode() for i in instructions)


GEMM = isa.Gemm(weights=0, parameters=4096, k=16, n=8, src=0, src_stride=16, dst=100, dst_stride=8)


def test_an_empty_program_ends_well(simulator):
    assert run(simulator, encode(isa.End())).name == "ok"


def test_a_gemm_that_nothing_follows_is_run(simulator):
    """Fetch holds a GEMM back until it has seen the next instruction; here there is none."""
    gemm = isa.Gemm(parameters=4096, k=16, n=8, destination=isa.TO_IO)
    program = np.frombuffer(encode(gemm), dtype=np.uint8).copy()
    image, io = np.zeros(65536, dtype=np.uint8), np.full(65536, 255, dtype=np.uint8)
    image[4096 : 4096 + 64].view(np.uint64)[:] = 1 << 40  # bias 0, m = 0, s = 1
    memory = [(PROGRAM, program), (IMAGE, image), (IO, io)]
    assert simulator.run(memory, PROGRAM, IMAGE, IO, 1, 1).name == "ok"
    assert not io[: 8 * 64].any() and io[8 * 64 :].all()  # eight words of zeros


def test_unknown_opcode_names_its_instruction(simulator):
    status = run(simulator, encode(isa.Rows(io=0)) + struct.pack("<16I", 99, *[0] * 15) + encode(isa.End()))
    assert (status.name, status.detail) == ("bad opcode", 1)


@pytest.mark.parametrize("row_blocks", [0, 5, 2**31])
def test_row_blocks_out_of_range(simulator, row_blocks):
    assert run(simulator, encode(isa.End()), row_blocks=row_blocks).name == "bad field"


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 0}, {"k": 4609}, {"n": 0}, {"n": 4609}, {"src": isa.ACTIVATION_WORDS}, {"src": 24570}, {"dst": 24570},
        {"weights": 8}, {"parameters": 4}, {"destination": 5}, {"table": 3}, {"trace": 24},
        {"destination": isa.TO_RESIDUAL, "residual_s": 0}, {"destination": isa.TO_RESIDUAL, "n": 1025, "residual_s": 1},
        {"branch": True}, {"destination": isa.TO_RESIDUAL, "residual_s": 1, "branch": True, "dst": 24570},
        {"destination": isa.TO_VALUES, "head_width": 48}, {"destination": isa.TO_VALUES, "head_width": 32, "n": 33},
    ],
    ids=str,
)  # fmt: skip
def test_gemm_field_out_of_range(simulator, bad):
    status = run(simulator, encode(isa.Gemm(**{**GEMM.__dict__, **bad}), isa.End()))
    assert (status.name, status.detail) == ("bad field", 0)


@pytest.mark.parametrize(
    "bad",
    [
        isa.Norm(width=0, entries=4), isa.Norm(width=8, entries=7), isa.Norm(width=1025, entries=1025),
        isa.Norm(width=8, entries=1281), isa.Norm(width=8, entries=8, s=0), isa.Norm(width=8, entries=8, m=256),
        isa.Norm(width=8, entries=8, dst=24570), isa.Table(table=5), isa.Table(image=8), isa.Rows(io=4),
        isa.Embed(row_bytes=16, width=16), isa.Embed(row_bytes=32, width=16, field=3),
        isa.Embed(row_bytes=16, width=128, adaptive=True), isa.Embed(row_bytes=32, width=129, adaptive=True),
        isa.Embed(row_bytes=66 * 16, width=1024, adaptive=True), isa.Embed(row_bytes=40, width=64, adaptive=True),
        isa.Embed(row_bytes=48, width=64, adaptive=True, four_bit=True),
        isa.Gather(width=8, entries=1300),
        isa.Attention(heads=1, head_width=48), isa.Attention(heads=33, head_width=32),
        isa.Attention(heads=17, head_width=64),
        isa.Attention(heads=1, head_width=64, q=24570), isa.Attention(heads=1, head_width=32, p=24400),
    ],
    ids=repr,
)  # fmt: skip
def test_field_out_of_range(simulator, bad):
    status = run(simulator, encode(isa.Rows(io=0), bad, isa.End()))
    assert (status.name, status.detail) == ("bad field", 1)
    with pytest.raises(isa.ProgramError):
        bad.check(1)


class TestQueue:
    """REFILL takes what stands at the beginning of the io buffer, 64 bytes an entry."""

    REFILL = isa.Refill(entries=3, stride=64, section=1)
    EXIT = isa.Exit(k=8, n=2, layer=2, logits=4096, record=8192, stride=512, counted=True)

    @staticmethod
    def run(simulator, *program, queue=(), row_blocks=4):
        io = np.zeros(1 << 16, dtype=np.uint8)
        io[: 64 * len(queue) : 64] = queue
        io[58 : 64 * len(queue) : 64] = 1  # the first row's keys end behind it: the lanes are of its row block
        code = np.frombuffer(encode(*program), dtype=np.uint8).copy()
        memory = [(PROGRAM, code), (IMAGE, np.zeros(1 << 16, dtype=np.uint8)), (IO, io)]
        return simulator.run(memory, PROGRAM, IMAGE, IO, len(program), row_blocks)

    @pytest.mark.parametrize(
        "bad",
        [
            {"entries": 0}, {"entries": isa.MAX_QUEUED + 1}, {"io": 8}, {"stride": 24}, {"section": 0}, {"section": 65},
        ],
        ids=str,
    )  # fmt: skip
    def test_fields_of_a_refill(self, simulator, bad):
        refill = replace(self.REFILL, **bad)
        status = self.run(simulator, isa.Table(), refill, isa.End(), queue=[1])
        assert (status.name, status.detail) == ("bad field", 1)
        with pytest.raises(isa.ProgramError):
            refill.check()

    @pytest.mark.parametrize("row_blocks", [1, 2, 3])
    def test_a_queue_fills_four_row_blocks(self, simulator, row_blocks):
        status = self.run(simulator, self.REFILL, isa.Table(), isa.End(), queue=[1], row_blocks=row_blocks)
        assert (status.name, status.detail) == ("bad field", 0)
        with pytest.raises(isa.ProgramError):
            self.REFILL.check(row_blocks)

    @pytest.mark.parametrize(
        "bad", [{"predict": True}, {"last": True}, {"stride": 8}, {"stride": isa.MAX_STRIDE + 16}], ids=str
    )
    def test_fields_of_a_counted_exit(self, simulator, bad):
        ramp = replace(self.EXIT, **bad)
        status = self.run(simulator, self.REFILL, isa.Table(), ramp, isa.End(), queue=[1])
        assert (status.name, status.detail) == ("bad field", 2)
        with pytest.raises(isa.ProgramError):
            ramp.check()

    @pytest.mark.parametrize("bad", [isa.Loop(target=3), isa.Loop(target=2, steps=1), isa.Loop(steps=0)], ids=repr)
    def test_a_loop_that_leads_nowhere(self, simulator, bad):
        status = self.run(simulator, self.REFILL, isa.Table(), bad, isa.End(), queue=[1])
        assert (status.name, status.detail) == ("bad field", 2)

    @pytest.mark.parametrize("count", [5, 255])
    def test_an_entry_that_is_none(self, simulator, count):
        status = self.run(simulator, self.REFILL, isa.Table(), isa.End(), queue=[2, count])
        assert (status.name, status.detail) == ("bad field", 0)

    def test_a_queue_of_nobody_ends_the_program(self, simulator):
        assert self.run(simulator, self.REFILL, isa.Table(), isa.Table(table=9), isa.End()).name == "ok"

    def test_a_product_of_nobody(self, simulator):
        """The one entry leaves at its second exit; LOOP alone may follow."""
        looped = self.REFILL, isa.Table(), self.EXIT, isa.Loop(target=0, steps=100)
        assert self.run(simulator, *looped, isa.End(), queue=[1]).name == "ok"
        status = self.run(simulator, *looped[:2], self.EXIT, self.EXIT, GEMM, isa.End(), queue=[1])
        assert (status.name, status.detail) == ("bad field", 4)

    def test_steps_are_the_most_that_it_runs(self, simulator):
        never = replace(self.EXIT, layer=63)
        program = self.REFILL, isa.Table(), never, isa.Loop(target=0, steps=5), isa.End()
        simulator.trips()
        assert self.run(simulator, *program, queue=[1]).name == "ok"
        assert simulator.trips()["exit_record"] == 5 * isa.RECORD_WORDS


@pytest.mark.parametrize(("width", "beats"), [(1, 2), (128, 2), (129, 3), (1024, 9), (1024, 65), (1, 65)])
def test_adaptive_rows_of_any_length_that_the_buffer_holds(simulator, width, beats):
    embed = isa.Embed(row_bytes=beats * 16, width=width, adaptive=True, first=True)
    embed.check(1)
    assert run(simulator, encode(isa.Rows(io=0), embed, isa.End())).name == "ok"


def test_memory_that_is_not_there_is_a_bus_error(simulator):
    status = run(simulator, encode(isa.Table(image=1 << 19), isa.End()))
    assert (status.name, status.detail) == ("bus error", IMAGE + (1 << 19))


def test_a_program_longer_than_its_buffer_is_a_bus_error(simulator):
    assert run(simulator, encode(isa.Rows(io=0)), instructions=9000).name == "bus error"


def test_a_token_that_never_comes_is_a_deadlock(simulator):
    waiting = isa.Gemm(**{**GEMM.__dict__, "wait": 1})
    assert run(simulator, encode(waiting, isa.End())).name == "deadlock"


def test_a_token_nobody_takes_is_told(simulator):
    loose = isa.Gemm(**{**GEMM.__dict__, "signal": True})
    assert run(simulator, encode(loose, isa.End())).name == "deadlock"


def test_the_engine_runs_again_after_a_fault(simulator):
    run(simulator, encode(isa.Gemm(**{**GEMM.__dict__, "wait": 1}), isa.End()))
    assert run(simulator, encode(GEMM, isa.End())).name == "ok"


def test_random_words_never_leave_the_memories():
    """Programs of noise, biased to small values so that some instructions are valid, end with some status."""
    rng = np.random.default_rng(0)
    simulator = Simulator("checked", 128)
    seen = set()
    for _ in range(400):
        words = rng.integers(0, 2**32, (6, 16), dtype=np.uint64) >> rng.integers(0, 33, (6, 16), dtype=np.uint64)
        words[:, 1:] &= ~np.uint64(15) * (rng.random((6, 15)) < 0.5).astype(np.uint64) | np.uint64(0x7FF)
        words[:, 0] = rng.integers(1, 10, 6) | (rng.integers(0, 128, 6) << 17)
        status = run(simulator, words.astype("<u4").tobytes(), row_blocks=int(rng.integers(1, 5)))
        seen.add(status.name)
    assert "bad field" in seen
    assert seen <= {
        "ok",
        "bad field",
        "bad opcode",
        "bus error",
        "deadlock",
        "internal fault",
        "bad directory of weights",
    }


def test_random_matrices_of_noise_never_leave_the_memories():
    """Sound programs of GEMMs and KEEP with all flags, over directories and streams that are mostly noise."""
    rng = np.random.default_rng(1)
    simulator = Simulator("checked", 128)
    seen = set()
    for _ in range(300):
        image = np.zeros(1 << 17, dtype=np.uint8)
        program = []
        for number in range(int(rng.integers(1, 5))):
            at = 8192 * number
            n, k = int(rng.integers(1, 400)), int(rng.integers(1, 300))
            tiles = -(-n // 128)
            chosen = bool(rng.integers(2))
            nibbles = in_blocks(rng, n, k, int(rng.integers(1, 4))) if chosen else sparse(rng, n, k, 0.3 * rng.random())
            made = compress(nibbles, 128, chosen)
            size = min(len(made.data), 8192 - 16)
            image[at : at + size] = made.data[:size]
            if rng.random() < 0.6:
                noisy = rng.integers(0, size, int(rng.integers(1, 20)))
                image[at + noisy] = rng.integers(0, 256, len(noisy))
            if rng.random() < 0.4:
                entry = image[at : at + 16 * tiles].view("<u4").reshape(tiles, 4)[rng.integers(tiles)]
                entry[rng.integers(4)] = int(rng.choice([0, 1, 2, 3, RESIDENT, 65535, 65536, 2**32 - 1]))
            if made.beats[0] and rng.random() < 0.1:  # all ports' first headers want more beats than there are
                ports = image[at + 16 * tiles :][: 64 * made.beats[0]].view("<u4").reshape(4, -1, 4)
                ports[:, 0, 1] = made.beats[0]
            stored = sum(made.beats) + int(rng.integers(-1, 2) * (rng.random() < 0.1))
            place = int(rng.choice([0, 100, RESIDENT - sum(made.beats)]))
            flags = {"compressed": True, "stored": max(stored, 0), "chosen": chosen or bool(rng.integers(2))}
            if rng.random() < 0.4:
                program.append(isa.Keep(weights=at, n=n, stored=max(stored, 0), resident=place))
                flags |= {"resident": True, "stored": place}
            program.append(
                isa.Gemm(
                    weights=at, parameters=65536, k=k, n=n, src_stride=-(-k // 4) * 4, dst=5000, dst_stride=n, **flags
                )
            )
        image[65536:].view(np.uint64)[:] = 1 << 40  # m = 0, s = 1
        code = np.frombuffer(encode(*program, isa.End()), dtype=np.uint8).copy()
        memory = [(PROGRAM, code), (IMAGE, image), (IO, np.zeros(64, np.uint8))]
        status = simulator.run(memory, PROGRAM, IMAGE, IO, len(program) + 1, int(rng.integers(1, 3)))
        seen.add(status.name)
        # Nibbles 0x8, which no packer writes, are beyond the operand of 27 bits; nothing else may leave its width.
        assert status.name != "internal fault" or "27 signed bits" in status.message
    faults = {
        "bad directory of weights",
        "bad segment of weights",
        "overlong segment of weights",
        "bad count of weights",
    }
    assert {"ok", *faults} <= seen <= {"ok", "internal fault", "no end of weights", *faults}


class TestCompressed:
    """Programs over compressed matrices: three layers of K = 40, N = 200, one after the other, to io."""

    K, N = 40, 200

    def matrices(self, count=3):
        made = [compress(sparse(np.random.default_rng(n), self.N, self.K, 0.3), 128) for n in range(count)]
        return made, [4096 * n for n in range(count)]

    def image(self, made, places):
        image = np.zeros(65536, dtype=np.uint8)
        for matrix, at in zip(made, places, strict=True):
            image[at : at + len(matrix.data)] = matrix.data
        image[32768:].view(np.uint64)[:] = 1 << 40 | 128 << 32  # m = 128, s = 1
        return image

    def gemm(self, at, stored, **fields):
        fields = {"k": self.K, "n": self.N, "src_stride": self.K, "dst": 5000, "dst_stride": self.N} | fields
        return isa.Gemm(weights=at, parameters=32768, compressed=True, stored=stored, **fields)

    def layers(self, made, places):
        return [self.gemm(at, sum(m.beats)) for m, at in zip(made, places, strict=True)]

    def run(self, simulator, image, *program):
        code = np.frombuffer(encode(*program, isa.End()), dtype=np.uint8).copy()
        memory = [(PROGRAM, code), (IMAGE, image), (IO, np.zeros(65536, dtype=np.uint8))]
        status = simulator.run(memory, PROGRAM, IMAGE, IO, len(program) + 1, 1)
        return status.code, status.detail if status.code else 0

    def is_sound_again(self, simulator):
        made, places = self.matrices()
        assert self.run(simulator, self.image(made, places), *self.layers(made, places)) == (0, 0)

    @pytest.mark.parametrize(
        ("word", "value"),
        [
            (0, 2),
            (0, 2**32 - 1),
            (0, 0),
            (1, 0),
            (1, 65536),
            (1, "more"),
            (2, "more"),
            (2, 2**32 - 1),
            (3, 4),
            (3, 2**32 - 1),
        ],
    )
    @pytest.mark.parametrize("where", ["gemm", "keep", "q", "k", "v"])
    def test_corrupt_directory(self, simulator, where, word, value):
        made, places = self.matrices()
        n = 192
        made = [compress(sparse(np.random.default_rng(9), n, self.K, 0.3), 128) for _ in range(3)]
        image = self.image(made, places)
        at = {"gemm": 1, "keep": 1, "q": 0, "k": 1, "v": 2}[where]
        entry = image[places[at] : places[at] + 32].view("<u4").reshape(2, 4)[1]
        entry[word] = entry[word] + 1 if value == "more" else value
        fields = {"n": n, "dst_stride": n}
        gemms = [self.gemm(p, sum(m.beats), **fields) for m, p in zip(made, places, strict=True)]
        if where == "keep":
            kept = [isa.Keep(weights=p, n=n, stored=sum(m.beats)) for m, p in zip(made, places, strict=True)]
            assert self.run(simulator, image, *kept) == (6, 1)
        elif where == "gemm":
            assert self.run(simulator, image, isa.Rows(), *gemms) == (6, 2)
            assert self.run(simulator, image, isa.Rows(), *gemms[:2], isa.Norm(width=8, entries=8)) == (6, 2)
        else:
            held = held_for(gemms)
            assert self.run(simulator, image, isa.Rows(), *held, attention(n // 32)) == (6, 1 + at)
        self.is_sound_again(simulator)

    def test_a_bound_without_the_flag(self, simulator):
        """A GEMM that does not say that it chooses has no tile with a bound; KEEP moves it all the same."""
        made = compress(in_blocks(np.random.default_rng(4), self.N, self.K, 2), 128, chosen=True)
        assert made.bounds == (2, 2)
        words, image = sum(made.beats), self.image([made], [0])
        assert self.run(simulator, image, self.gemm(0, words)) == (6, 0)
        assert self.run(simulator, image, self.gemm(0, words, chosen=True)) == (0, 0)
        keep = isa.Keep(weights=0, n=self.N, stored=words, resident=9)
        assert self.run(simulator, image, keep, self.gemm(0, 9, resident=True)) == (6, 1)
        assert self.run(simulator, image, keep, self.gemm(0, 9, resident=True, chosen=True)) == (0, 0)
        image[:4] = 0  # a tile of zeros that is not stored has none
        image[4:8] = 0
        assert self.run(simulator, image, self.gemm(0, words, chosen=True)) == (6, 0)

    @pytest.mark.parametrize("field", ["src", "src_stride"])
    def test_blocks_begin_at_a_multiple_of_four(self, simulator, field):
        made, places = self.matrices(1)
        words = sum(made[0].beats)
        with pytest.raises(ProgramError, match=f"Gemm.{field}: .* is no multiple of 4, as blocks need"):
            self.gemm(0, words, chosen=True, **{field: 42}).check(1)
        code = np.frombuffer(encode(self.gemm(0, words, chosen=True), isa.End()), dtype=np.uint8).copy()
        code.view("<u4")[isa.Gemm.WORDS[field]] = 42
        memory = [(PROGRAM, code), (IMAGE, self.image(made, places)), (IO, np.zeros(65536, dtype=np.uint8))]
        assert simulator.run(memory, PROGRAM, IMAGE, IO, 2, 1).code == 2

    def test_a_stream_beyond_the_matrix(self, simulator):
        made, places = self.matrices()
        layers = self.layers(made, places)
        layers[1] = self.gemm(places[1], sum(made[1].beats) - 1)
        assert self.run(simulator, self.image(made, places), *layers) == (6, 1)
        keep = isa.Keep(weights=places[0], n=self.N, stored=sum(made[0].beats) - 1)
        assert self.run(simulator, self.image(made, places), keep) == (6, 0)

    def test_resident_memory_ends(self, simulator):
        made, places = self.matrices(1)
        words, image = sum(made[0].beats), self.image(made, places)
        keep = isa.Keep(weights=0, n=self.N, stored=words, resident=RESIDENT - words)
        gemm = self.gemm(0, RESIDENT - words, resident=True)
        assert self.run(simulator, image, keep, gemm) == (0, 0)
        for beyond in (RESIDENT - words + 1, 2**32 - 1):
            assert self.run(simulator, image, replace(keep, resident=beyond)) == (6, 0)
            assert self.run(simulator, image, keep, replace(gemm, stored=beyond)) == (6, 1)

    @pytest.mark.parametrize("code", [7, 8, 9, 10])
    @pytest.mark.parametrize("resident", [False, True])
    @pytest.mark.parametrize("tile", [0, 1])
    def test_corrupt_stream_names_its_gemm(self, simulator, code, resident, tile):
        made, places = self.matrices()
        image, layers = self.image(made, places), self.layers(made, places)
        first = places[1] + 32 + 64 * (made[1].beats[0] if tile else 0)
        stream = image[first : first + 64 * made[1].beats[tile]].view("<u4").reshape(4, -1, 4)
        match code:
            case 7:
                stream[:, 0, 0] = 0
            case 8:
                stream[:, 0, 1] = 10**6
            case 9:
                stream[0, 0, 3] += 1
            case 10:
                stream[:, 0, 0] = 0x2E444E45
        keeps = []
        if resident:
            keeps = [isa.Keep(weights=places[1], n=self.N, stored=layers[1].stored, resident=5)]
            layers[1] = replace(layers[1], resident=True, stored=5)
        at = len(keeps) + 1
        assert self.run(simulator, image, *keeps, *layers) == (code, at)
        self.is_sound_again(simulator)

    def test_the_first_fault_is_told(self, simulator):
        made, places = self.matrices()
        image, layers = self.image(made, places), self.layers(made, places)
        for at, code in ((1, 9), (2, 7)):
            stream = image[places[at] + 32 : places[at] + 32 + 64 * made[at].beats[0]].view("<u4").reshape(4, -1, 4)
            stream[:, 0, 3 if code == 9 else 0] += 1
        assert self.run(simulator, image, *layers) == (9, 1)
        assert self.run(simulator, image, layers[0], layers[2], layers[1]) == (7, 1)
        self.is_sound_again(simulator)

    def test_a_fault_of_the_program_comes_before_those_of_weights(self, simulator):
        made, places = self.matrices()
        image, layers = self.image(made, places), self.layers(made, places)
        image[places[0] + 32 : places[0] + 36] = 0
        image[places[2]] = 2
        assert self.run(simulator, image, *layers) == (6, 2)
        self.is_sound_again(simulator)

    @pytest.mark.parametrize("fault", [7, 9])
    def test_corrupt_streams_of_held_gemms(self, simulator, fault):
        n = 192
        made = [compress(sparse(np.random.default_rng(9), n, self.K, 0.3), 128) for _ in range(3)]
        places = [0, 4096, 8192]
        for at in range(3):
            image = self.image(made, places)
            stream = image[places[at] + 32 : places[at] + 32 + 64 * made[at].beats[0]].view("<u4").reshape(4, -1, 4)
            stream[:, 0, 0 if fault == 7 else 3] += 5
            gemms = [self.gemm(p, sum(m.beats), n=n, dst_stride=n) for m, p in zip(made, places, strict=True)]
            assert self.run(simulator, image, isa.Rows(), *held_for(gemms), attention(n // 32)) == (fault, 1 + at)


def held_for(gemms):
    """Queries, keys and values of the three."""
    destinations = (isa.TO_ACTIVATION, isa.TO_KEYS, isa.TO_VALUES)
    return [replace(g, destination=d, head_width=32, grouped=True) for g, d in zip(gemms, destinations, strict=True)]


def attention(heads):
    n = 32 * heads
    where = {"q": 5000, "q_stride": n, "p": 8000, "context": 9000, "context_stride": n}
    return isa.Attention(parameters=32768, heads=heads, head_width=32, **where)


class TestHeldGemms:
    """Queries, keys, values and their attention, in this order and of this size, or a bad field."""

    BASE = replace(GEMM, n=96, dst=5000, dst_stride=96)
    HELD = tuple(held_for([BASE] * 3))
    ATTENTION = attention(3)

    def run(self, simulator, *program):
        image = np.zeros(65536, dtype=np.uint8)
        image.view(np.uint64)[:] = 1 << 40
        code = np.frombuffer(encode(*program, isa.End()), dtype=np.uint8).copy()
        memory = [(PROGRAM, code), (IMAGE, image), (IO, np.zeros(65536, dtype=np.uint8))]
        status = simulator.run(memory, PROGRAM, IMAGE, IO, len(program) + 1, 1)
        return status.name, status.detail if status.code else 0

    def test_as_it_should_be(self, simulator):
        assert self.run(simulator, *self.HELD, self.ATTENTION) == ("ok", 0)
        assert self.run(simulator, *self.HELD, self.ATTENTION, *self.HELD, self.ATTENTION) == ("ok", 0)

    def test_other_orders(self, simulator):
        for order in permutations(range(3)):
            expected = ("ok", 0) if order == (0, 1, 2) else ("bad field", 3)
            assert self.run(simulator, *(self.HELD[n] for n in order), self.ATTENTION) == expected

    @pytest.mark.parametrize("count", [1, 2])
    def test_too_few(self, simulator, count):
        assert self.run(simulator, *self.HELD[:count], self.ATTENTION) == ("bad field", count)

    def test_too_many(self, simulator):
        assert self.run(simulator, *self.HELD, self.HELD[2], self.ATTENTION) == ("bad field", 3)

    @pytest.mark.parametrize("count", [1, 2, 3])
    @pytest.mark.parametrize(
        "other", [isa.Rows(), isa.Table(), isa.Norm(width=8, entries=8), BASE, isa.End()], ids=repr
    )
    def test_followed_by_something_else(self, simulator, count, other):
        assert self.run(simulator, *self.HELD[:count], other) == ("bad field", count)

    @pytest.mark.parametrize("at", [0, 1, 2])
    @pytest.mark.parametrize("bad", [{"n": 64}, {"n": 128}, {"result_block": True}, {"signal": True}], ids=str)
    def test_other_sizes(self, simulator, at, bad):
        held = list(self.HELD)
        held[at] = replace(held[at], **bad)
        assert self.run(simulator, *held, self.ATTENTION) == ("bad field", 3)

    def test_heads_of_another_width(self, simulator):
        held = [replace(g, n=128, dst_stride=128, head_width=64) for g in self.HELD]
        assert self.run(simulator, *held, attention(4)) == ("bad field", 3)

    @pytest.mark.parametrize(
        "bad", [{"w8": True}, {"compressed": True, "w8": True, "grouped": False}, {"resident": True}], ids=str
    )
    def test_flags_that_do_not_go_together(self, simulator, bad):
        assert self.run(simulator, replace(self.HELD[0], **bad)) == ("bad field", 0)
