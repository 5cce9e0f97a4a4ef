# SPDX-License-Identifier: Apache-2.0
"""One unit of the simulated engine at a time, on int64 numpy arrays. Lanes are rows, words are channels or keys."""

import ctypes

import numpy as np
from zynqbert.fpga.simulator import Simulator

LANES = 32
KINDS = {
    name: i
    for i, name in enumerate(("rows", "table", "embed", "linear", "scores", "context", "norm", "gather", "heads"))
}
SOURCES = ("memory", "keep", "resident")
WEIGHTS_BASE = 0x40_0000
ABUF, RESIDUAL, KEYS, VALUES, IO, EXIT = range(6)
VECTOR_FIELDS = [
    "kind",
    "slot",
    "pop_parameters",
    "push_parameters_free",
    "push_data",
    "tee",
    "row_block",
    "words",
    "width",
    "channel",
    "destination",
    "address",
    "table",
    "unsigned_output",
    "head_width",
    "first_tile",
    "m",
    "s",
    "normalized",
    "item_slot",
    "plain",
    "four_bit",
    "span",
    "key_block",
    "last_tile",
    "predict",
    "clock",
    "last",
    "row_shift",
    "layer",
    "threshold",
    "entropy_m",
    "adaptive",
    "branch",
]


def pointer(x: np.ndarray) -> ctypes.c_void_p:
    return x.ctypes.data_as(ctypes.c_void_p)


def linear_words(b, m, s, table=None, branch=(0, 0)) -> np.ndarray:
    """Parameter words of a linear layer, uint64 [N] (docs/program.md); `branch` is the factor (m, s) of Q25."""
    b, m, s = (np.asarray(x, dtype=np.int64) for x in (b, m, s))
    flag = np.zeros_like(b) if table is None else np.asarray(table, dtype=np.int64)
    branch_m, branch_s = (np.asarray(x, dtype=np.int64) for x in branch)
    factor = (branch_m << 46) | (branch_s << 54)
    return ((b & 0xFFFFFFFF) | (m << 32) | (s << 40) | (flag << 45) | factor).astype(np.uint64)


def norm_words(gamma, gamma_shift, beta, beta_shift, entries) -> np.ndarray:
    """Parameter words of a layer norm, one an entry, uint64 [Σ e]."""
    fields = [np.repeat(np.asarray(x, dtype=np.int64), entries) for x in (gamma, gamma_shift, beta, beta_shift)]
    first = np.concatenate([[0], np.cumsum(entries)[:-1]])
    continues = np.ones(int(np.sum(entries)), dtype=np.int64)
    continues[first] = 0
    g, sg, b, tb = fields
    return ((g & 255) | (sg << 8) | ((b & 255) << 16) | (tb << 24) | (continues << 28)).astype(np.uint64)


class Units:
    def __init__(self, build: str, columns: int = 128, threads: int | None = None, sanitize: bool = False):
        self.sim = Simulator(build, columns, threads=threads, sanitize=sanitize)
        self.lib, self.engine, self.columns = self.sim.lib, self.sim.engine, columns
        self.pairs = columns // 2

    def _put(self, function, *where, values):
        v = np.ascontiguousarray(values, dtype=np.int64)
        getattr(self.lib, function)(self.engine, *where, pointer(v))

    def _get(self, function, *where, n=LANES):
        v = np.zeros(n, dtype=np.int64)
        getattr(self.lib, function)(self.engine, *where, pointer(v))
        return v

    def put_operand(self, a: np.ndarray, address: int = 0) -> None:
        """a [32, K] int8 or uint8 values → activation memory."""
        for k in range(a.shape[1]):
            self._put("zq_put_activation", address + k, values=a[:, k] & 255)

    def get_activation(self, address: int, n: int) -> np.ndarray:
        """[32, n] raw bytes."""
        return np.stack([self._get("zq_get_activation", address + i) for i in range(n)], axis=1)

    def put_residual(self, x: np.ndarray, rb: int = 0) -> None:
        for c in range(x.shape[1]):
            self._put("zq_put_residual", rb, c, values=x[:, c])

    def get_residual(self, n: int, rb: int = 0) -> np.ndarray:
        return np.stack([self._get("zq_get_residual", rb, c) for c in range(n)], axis=1)

    def put_embedding(self, rows: np.ndarray, slot: int = 0) -> None:
        """rows uint8 [32, bytes], a lane each, as the memory image has them."""
        for t, row in enumerate(rows):
            for word, beat in enumerate(row.reshape(-1, 16)):
                self._put("zq_put_embedding", slot, t, word, values=beat)

    def put_parameters(self, words: np.ndarray, slot: int = 0) -> None:
        for i, w in enumerate(words):
            self.lib.zq_put_parameter(self.engine, slot, i, ctypes.c_uint64(int(w)))

    def array(
        self,
        a,
        w,
        *,
        w8: bool,
        unsigned: bool = False,
        keys_values: bool = False,
        zero: bool = False,
        word: int = 0,
        operand: int = 0,
        bound: int = 0,
        choices: np.ndarray | None = None,
    ) -> np.ndarray:
        """a [32, K], w [N, S] → acc [32, N] through the array; N at most columns (w4) or columns / 2 (w8). S is K, or,
        with `bound`, the steps of K's blocks, in which each four columns take what `choices` [columns / 4, S] name."""
        n, k = w.shape
        self.put_operand(a, operand)
        named = np.zeros((self.columns // 4, k), dtype=np.int64) if choices is None else choices.astype(np.int64)
        choice_bytes = (named.reshape(-1, 4, k) << np.arange(0, 8, 2)[:, None]).sum(axis=1)
        if w8:
            bytes_ = np.zeros((self.pairs, k), dtype=np.int64)
            bytes_[:n] = w & 255
        else:
            full = np.zeros((self.columns, k), dtype=np.int64)
            full[:n] = w
            bytes_ = (full[0::2] & 15) | ((full[1::2] & 15) << 4)
        for i in range(k):
            if keys_values:
                for g in range(self.pairs // LANES):
                    self._put("zq_put_key_value", g, i, values=bytes_[g * LANES : (g + 1) * LANES, i])
            else:
                self._put("zq_put_weights", word + i, values=np.concatenate([bytes_[:, i], choice_bytes[:, i]]))
        out = np.zeros((n, LANES), dtype=np.int64)
        fields = np.array([w8, unsigned, keys_values, word, operand, 0, k, n, zero, bound], dtype=np.int64)
        assert self.lib.zq_array(self.engine, pointer(fields), pointer(out)) == 0
        return out.T

    def vector(self, kind: str, acc: np.ndarray | None = None, **fields) -> np.ndarray:
        """One vector command; acc [32, words] → what it teed, [32, stored words]. A verdict stays in `verdict`."""
        values = dict.fromkeys(VECTOR_FIELDS, 0) | {"kind": KINDS[kind], "tee": 1, "span": 128} | fields
        f = np.array([int(values.pop(name)) for name in VECTOR_FIELDS], dtype=np.int64)
        assert not values, f"unknown fields {values}"
        words = np.zeros((0, LANES), dtype=np.int64) if acc is None else np.ascontiguousarray(acc.T, dtype=np.int64)
        stored = np.zeros((4096, LANES), dtype=np.int64)
        self.verdict = np.full(3, -1, dtype=np.int64)
        n = self.lib.zq_vector(
            self.engine, pointer(f), pointer(words), len(words), pointer(stored), pointer(self.verdict)
        )
        assert n >= 0, f"vector command {kind} failed with {n}"
        return stored[:n].T

    def weights_tile(self, source: str, beats: int, k: int = 0, data=None, **rest) -> list[int]:
        """One tile through weights and expand; data: its port streams, uint8 [ports, beats, 16], with nothing behind.

        Returns what expand left of the segments, masks and values.
        """
        place = {"resident": 0, "compressed": 1, "instruction": 0, "word": 0} | rest
        fields = [SOURCES.index(source), WEIGHTS_BASE // 16, beats, place["resident"], k]
        fields += [int(place[name]) for name in ("compressed", "instruction", "word")]
        memory = np.zeros((0, 3), dtype=np.uint64)
        if data is not None:
            data = np.ascontiguousarray(data, dtype=np.uint8)
            memory = np.array([[WEIGHTS_BASE, data.nbytes, data.ctypes.data]], dtype=np.uint64)
        f, left = np.array(fields, dtype=np.int64), np.zeros(3, dtype=np.int64)
        status = self.lib.zq_weights_tile(self.engine, pointer(memory), len(memory), pointer(f), pointer(left))
        assert status == 0, f"status {status}"
        return left.tolist()

    def weights_status(self) -> tuple[int, int]:
        """Code and instruction of the first fault since the last call."""
        code, instruction = ctypes.c_int64(), ctypes.c_int64()
        self.lib.zq_weights_status(self.engine, ctypes.byref(code), ctypes.byref(instruction))
        return code.value, instruction.value

    def get_nibbles(self, word: int, k: int) -> np.ndarray:
        """Words word .. word + k − 1 of the weight buffer as nibbles, uint8 [columns, k]."""
        raw = self._weight_words(word, k)[: self.pairs]
        out = np.empty((self.columns, k), dtype=np.uint8)
        out[0::2], out[1::2] = raw & 15, raw >> 4
        return out

    def get_choices(self, word: int, k: int) -> np.ndarray:
        """The choices beside them, uint8 [columns / 4, k]."""
        raw = self._weight_words(word, k)[self.pairs :]
        return (raw[:, None] >> np.arange(0, 8, 2)[:, None] & 3).reshape(-1, k).astype(np.uint8)

    def _weight_words(self, word: int, k: int) -> np.ndarray:
        size = self.pairs + self.pairs // 8
        return np.stack([self._get("zq_get_weights", word + i, n=size) for i in range(k)], axis=1)

    def fill_weights(self, word: int, k: int, value: int) -> None:
        """Words of the weight buffer, every byte `value`."""
        for i in range(k):
            self._put("zq_put_weights", word + i, values=np.full(self.pairs + self.pairs // 8, value))

    def load_table(self, table_id: int, table: np.ndarray) -> None:
        self.put_parameters(np.asarray(table).astype(np.uint8).view(np.uint64))
        self.vector("table", table=table_id, words=32)

    def load_rows(self, begin, end, result_rows=()) -> None:
        """Key ranges of the pass's rows and the rows of the result block."""
        results = np.full(32, 255, dtype=np.uint8)
        results[: len(result_rows)] = result_rows
        words = list(results.view(np.uint64))
        for b, e in zip(begin, end, strict=True):
            words += [np.uint64(0), np.uint64(int(b) | (int(e) << 16))]
        self.put_parameters(np.array(words, dtype=np.uint64))
        self.vector("rows", words=len(words))
