# SPDX-License-Identifier: Apache-2.0
"""engine_array.v under Verilator: tiles in, accumulator words and their cycles out (rtl/array_bench.cpp)."""

import ctypes
from dataclasses import dataclass, field

import numpy as np
import rtl
import vivado_catalogue
from zynqbert.quant import golden

MAX_ENTRIES = 4608
NEVER = 1 << 40
SETTLED = 200  # cycles out of reset until what power-up left has gone through the array (kSettled in array_bench.cpp)
FIELDS = (
    "w8", "unsigned_operand", "keys_values", "weights", "operand", "key_value", "k", "words",
    "pop_weights_ready", "push_weights_free", "pop_data", "zero", "bound",
)  # fmt: skip


class _Run(ctypes.Structure):
    _fields_ = (
        [(name, ctypes.c_uint64) for name in ("seed", "commands", "weights", "data", "words", "limit")]
        + [(name, ctypes.c_int64) for name in ("command_rate", "token_rate", "free_rate", "word_rate")]
        + [(name, ctypes.c_int64) for name in ("free_from", "word_from", "reset_at")]
        + [(name, ctypes.c_void_p) for name in ("command_bytes", "command_at", "weights_at", "data_at")]
        + [(name, ctypes.c_void_p) for name in ("activations", "weight_words", "key_values")]
        + [(name, ctypes.c_uint64) for name in ("activation_count", "weight_count", "weight_bytes", "key_value_count")]
        + [(name, ctypes.c_void_p) for name in ("accumulators", "word_at", "word_taken_at", "free_at")]
        + [(name, ctypes.c_uint64) for name in ("faults", "got", "freed", "cycles", "multiplied", "added")]
    )


def command_bytes(**fields: int) -> bytes:
    """One array_command as C lays it out: each field in the least of 1, 2, 4, 8 bytes, on a multiple of that."""
    widths = vivado_catalogue.struct_fields("array_command")
    assert set(fields) <= set(FIELDS) and len(widths) == len(FIELDS)
    out = bytearray()
    for name, bits in zip(FIELDS, widths, strict=True):
        size = vivado_catalogue.storage_bytes(bits)
        out += bytes(-len(out) % size) + int(fields.get(name, 0)).to_bytes(size, "little")
    return bytes(out) + bytes(vivado_catalogue.struct_bytes(widths) - len(out))


@dataclass
class Result:
    """What a run gave: accumulators [words, rows]; cycles at which each word could be taken first and was taken, and
    each weights_free token; all counted from the first cycle out of reset. Of a counting array also the cycles, of all
    its cells together and from SETTLED on, in which the registers behind multiplier and adder were enabled."""

    accumulators: np.ndarray
    there: np.ndarray
    taken: np.ndarray
    freed: np.ndarray
    cycles: int
    multiplied: int
    added: int


@dataclass
class Stalls:
    """Rates in 256ths at which commands and tokens are offered and results taken, and cycles before which none are."""

    seed: int = 1
    commands: int = 256
    tokens: int = 256
    free: int = 256
    words: int = 256
    free_from: int = 0
    words_from: int = 0
    reset_at: int = 0  # so many cycles of the same tiles run before, and end in a reset


@dataclass
class Array:
    """An array of `rows` by `columns` (w4) and its memories: activations [words, rows], weights [9216, columns / 2] and
    behind them a byte for the choices of four groups of four columns, key_values [3, words, rows], all bytes."""

    rows: int = 32
    columns: int = 128
    counting: bool = False
    activations: np.ndarray = field(init=False)
    weights: np.ndarray = field(init=False)
    key_values: np.ndarray = field(init=False)

    def __post_init__(self):
        rng = np.random.default_rng(7)  # what was never written
        self.pairs = self.columns // 2
        self.activations = rng.integers(0, 256, (24576, self.rows), dtype=np.uint8)
        nibbles = rng.integers(-7, 8, (2 * MAX_ENTRIES, self.pairs, 2)) & 15
        choices = rng.integers(0, 256, (2 * MAX_ENTRIES, self.pairs // 8))
        pairs = nibbles[..., 0] | nibbles[..., 1] << 4
        self.weights = np.concatenate([pairs, choices], axis=1).astype(np.uint8)
        self.key_values = rng.integers(0, 256, (3, 6144, self.rows), dtype=np.uint8)
        self.lib = rtl.compile_bench(
            "engine_array",
            "array_bench",
            beside="enabled_cycles.sv" if self.counting else "",
            ROWS=self.rows,
            COLUMNS=self.columns,
        )

    def put_operand(self, a: np.ndarray, address: int = 0) -> None:
        """a [rows, K], int8 or uint8."""
        self.activations[address : address + a.shape[1]] = (a.T & 255).astype(np.uint8)

    def put_weights(self, w: np.ndarray, w8: bool, word: int = 0) -> None:
        """w [N, K]: int4 values, two columns a byte, or int8; from `word` on."""
        packed = w & 255 if w8 else w4_bytes(w)
        self.weights[word : word + w.shape[1], : packed.shape[0]] = packed.T.astype(np.uint8)

    def put_keys_values(self, w: np.ndarray, address: int = 0) -> None:
        """w [N, K] int8: a bank for every `rows` columns."""
        for bank in range(-(-w.shape[0] // self.rows)):
            part = w[bank * self.rows : (bank + 1) * self.rows]
            self.key_values[bank, address : address + w.shape[1], : part.shape[0]] = (part.T & 255).astype(np.uint8)

    def choose(self, c: dict) -> np.ndarray:
        """Activation words that each pair takes in each step of a tile, [pairs, K]."""
        first, k, bound = c.get("weights", 0), c["k"], c.get("bound", 0)
        if not bound:
            return np.broadcast_to(np.arange(k), (self.pairs, k))
        named = self.weights[first : first + k, self.pairs :, None] >> np.arange(0, 8, 2) & 3
        groups = named.reshape(k, -1).T.repeat(2, axis=0)
        return 4 * (np.arange(k) // bound) + groups * (not c.get("keys_values"))

    def product(self, c: dict) -> np.ndarray:
        """The golden product of what the memories hold for a tile, [rows, words]: each pair with what it takes."""
        w, a = self.operands(c)
        a = a if c.get("bound") else a[:, : c["k"]]
        of = self.choose(c).repeat(1 if c.get("w8") else 2, axis=0)
        columns = [golden.linear_ref(w[n : n + 1], a[:, of[n]]) for n in range(len(w))]
        return np.concatenate(columns, axis=1) if c.get("bound") else golden.linear_ref(w, a)

    def operands(self, c: dict) -> tuple[np.ndarray, np.ndarray]:
        """What the memories hold for a tile: w [words, K] and a [rows, K], of a tile with a bound a [rows, words]."""
        at, k, n = c.get("operand", 0), c["k"], c["words"]
        entries = 4 * -(-k // c["bound"]) if c.get("bound") else k
        a = self.activations[at : at + entries].T.astype(np.int64)
        a = a if c.get("unsigned_operand") else (a ^ 128) - 128
        if c.get("keys_values"):
            at = c.get("key_value", 0)
            raw = np.concatenate(list(self.key_values[:, at : at + k]), axis=1)[:, : self.pairs].T.astype(np.int64)
        else:
            first = c.get("weights", 0)
            raw = self.weights[first : first + k, : self.pairs].T.astype(np.int64)
        if c.get("w8"):
            w = (raw ^ 128) - 128
        else:
            w = np.stack([((raw & 15) ^ 8) - 8, ((raw >> 4) ^ 8) - 8], axis=1).reshape(2 * self.pairs, k)
        return w[:n], a * (not c.get("zero"))

    def run(
        self, commands: list[dict], *, at=None, weights_at=None, data_at=None, stalls: Stalls | None = None
    ) -> Result:
        """Run tiles (fields of array_command each). `at`: cycle from which each command is offered; `weights_at`,
        `data_at`: the same of each token; by default all are there from the start."""
        stalls = stalls or Stalls()
        count = sum(c["words"] for c in commands)
        weights = sum(c.get("pop_weights_ready", 0) for c in commands)
        data = sum(c.get("pop_data", 0) for c in commands)
        times = [
            np.ascontiguousarray(np.zeros(n) if given is None else given, dtype=np.int64)
            for n, given in ((len(commands), at), (weights, weights_at), (data, data_at))
        ]
        raw = np.frombuffer(b"".join(command_bytes(**c) for c in commands), dtype=np.uint8).copy()
        acc = np.zeros((count, self.rows), dtype=np.int32)
        there, taken, freed = (np.full(n, -1, dtype=np.int64) for n in (count, count, len(commands)))
        memories = [np.ascontiguousarray(m) for m in (self.activations, self.weights, self.key_values)]
        steps = sum(c["k"] + c["words"] for c in commands)
        r = _Run(
            seed=stalls.seed, commands=len(commands), weights=len(times[1]), data=len(times[2]), words=count,
            limit=2000 + 40 * steps + int(max([0, *map(int, np.concatenate(times))])) + stalls.words_from,
            command_rate=stalls.commands, token_rate=stalls.tokens, free_rate=stalls.free, word_rate=stalls.words,
            free_from=stalls.free_from, word_from=stalls.words_from, reset_at=stalls.reset_at,
            activation_count=len(self.activations), weight_count=2 * MAX_ENTRIES,
            weight_bytes=self.weights.shape[1], key_value_count=6144,
        )  # fmt: skip
        arrays = {
            "command_bytes": raw, "command_at": times[0], "weights_at": times[1], "data_at": times[2],
            "activations": memories[0], "weight_words": memories[1], "key_values": memories[2],
            "accumulators": acc, "word_at": there, "word_taken_at": taken, "free_at": freed,
        }  # fmt: skip
        for name, array in arrays.items():
            setattr(r, name, array.ctypes.data)
        self.lib.zq_array(ctypes.byref(r))
        assert r.faults == 0, "a word moved while it waited, or there was one too many"
        assert r.got == count, f"{r.got} of {count} words within {r.cycles} cycles"
        return Result(acc, there, taken, freed[: r.freed], int(r.cycles), int(r.multiplied), int(r.added))


def w4_bytes(w: np.ndarray) -> np.ndarray:
    """w [N, K] of -7 .. 7 → bytes [ceil(N / 2), K]: the even column in the low nibble."""
    even = np.zeros((w.shape[0] + w.shape[0] % 2, w.shape[1]), dtype=np.int64)
    even[: w.shape[0]] = w
    return (even[0::2] & 15) | (even[1::2] & 15) << 4
