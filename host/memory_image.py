# SPDX-License-Identifier: Apache-2.0
"""Pack an artifact into the memory image of a plan (docs/program.md, Memory image).

Values are moved, not changed. Packing checks that no accumulator can leave its width (docs/quantization.md, Q4, Q5 and
the packing check), and refuses the nibble 0x8.
"""

import numpy as np

from ..fpga import instructions as isa
from .compiler import Artifact, Plan
from .layouts import longest_row
from .nibbles import PackError, unpack_nibbles

FIELD_LIMIT = 1 << 22  # of amax * sum |n0| in one field of the packed product
ACC_LIMIT = 1 << 26  # of accumulator plus bias


def memory_image(plan: Plan, artifact: Artifact) -> np.ndarray:
    """The memory image uint8 [plan.image_bytes] of `artifact`, for the array of `plan.board`.

    Raises PackError where a weight is no int4 or a channel's accumulator could overflow.
    """
    image = np.zeros(plan.image_bytes, np.uint8)
    t = artifact.tensors

    def put(name: str, data: np.ndarray) -> None:
        region = plan.regions[name]
        flat = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        if flat.size != region.bytes:
            raise PackError(f"{name}: {flat.size} bytes for a region of {region.bytes}")
        image[region.offset : region.offset + region.bytes] = flat

    put("softmax.exp", t["softmax.exp"])
    if plan.shape.kind == "sequence":
        put("pooler.tanh", t["pooler.tanh"])
    if plan.exits is not None and plan.exits.table is not None:
        put("exits.table", np.array(plan.exits.table, np.uint8))
    for offset, spans in plan.spans.items():
        image[offset : offset + len(spans)] = spans
    adaptive = plan.shape.word_format == "adaptivfloat"
    if adaptive:
        put("embeddings.word", pack_adaptive(t["embeddings.word.q"], *t["embeddings.word.factor"]))
    for field in ("position", "type") if adaptive else ("word", "position", "type"):
        put(f"embeddings.{field}", pack_embedding(*(t[f"embeddings.{field}.{part}"] for part in "qms")))
    put("embeddings.norm", pack_norm(t, "embeddings.norm"))
    if plan.shape.mapping is not None:
        put("mapping", pack_entries(t["mapping.entries"]))
    for i in range(len(plan.shape.layers)):
        put(f"layers.{i}.gelu", t[f"layers.{i}.gelu"])
        put(f"layers.{i}.attention", pack_attention(t, f"layers.{i}.attention", plan.shape.layer_heads[i]))
        for norm in ("attention_norm", "ffn_norm"):
            if (name := f"layers.{i}.{norm}") in plan.regions:
                put(name, pack_norm(t, name))
        for adapter in ("attention_adapter", "ffn_adapter"):
            if (name := f"layers.{i}.{adapter}.table") in plan.regions:
                put(name, t[name])
    for gemm, name, owner in linear_layers(plan):
        bias = t[f"{name}.bias"].astype(np.int64)
        amax = 255 if gemm.operand_unsigned else 127
        weight = t[f"{owner}.weight"] if gemm.w8 else unpack_nibbles(owner, t[f"{owner}.weight"], gemm.k)
        (check_w8 if gemm.w8 else check_w4)(name, weight, bias, amax)
        if name == owner:
            put(f"{name}.weight", _stored(plan, name, gemm, weight))
        whole = name.rpartition(".")[2] in ("pooler", "down")  # every channel goes through the table
        table = np.ones(gemm.n, np.uint8) if whole else t.get(f"{name}.table")
        branch = (t[f"{name}.adapter_m"], t[f"{name}.adapter_s"]) if gemm.branch else None
        put(f"{name}.parameters", pack_linear_parameters(bias, t[f"{name}.m"], t[f"{name}.s"], table, branch))
    return image


def linear_layers(plan: Plan) -> list[tuple[isa.Gemm, str, str]]:
    """Every GEMM of the plan with the name of its linear layer and of the one whose matrix it uses, in order; the
    products of off-ramps as the GEMMs that they are."""
    names = {region.offset: name.rpartition(".")[0] for name, region in plan.regions.items()}
    products = (i.product() if isinstance(i, isa.Exit) else i for i in plan.instructions)
    return [(i, names[i.parameters], names[i.weights]) for i in products if isinstance(i, isa.Gemm)]


def _stored(plan: Plan, name: str, gemm: isa.Gemm, weight: np.ndarray) -> np.ndarray:
    """The matrix as its region holds it."""
    if gemm.w8:
        return pack_w8(weight, plan.board.columns)
    matrix = plan.matrices[name]
    return matrix.data if matrix.compressed else pack_w4(weight, plan.board.columns)


def pack_w4(nibbles: np.ndarray, columns: int) -> np.ndarray:
    """Nibbles uint8 [N, K] -> tiles uint8 [ct, port, K, 16]: channels ct*C + 2j (low) and + 2j + 1 (high) in byte j."""
    n, k = nibbles.shape
    tiles = -(-n // columns)
    padded = np.zeros((tiles * columns, k), np.uint8)
    padded[:n] = nibbles
    pairs = padded[0::2] | padded[1::2] << 4  # [tiles * C/2, K]
    return pairs.reshape(tiles, columns // 32, 16, k).transpose(0, 1, 3, 2)


def pack_w8(weight: np.ndarray, columns: int) -> np.ndarray:
    """int8 [N, K] -> tiles uint8 [ct, port, K, 16]: channel ct*C/2 + j in byte j, two's complement."""
    n, k = weight.shape
    tiles = -(-n // (columns // 2))
    padded = np.zeros((tiles * columns // 2, k), np.uint8)
    padded[:n] = weight.view(np.uint8)
    return padded.reshape(tiles, columns // 32, 16, k).transpose(0, 1, 3, 2)


def pack_linear_parameters(
    bias: np.ndarray,
    m: np.ndarray,
    s: np.ndarray,
    table: np.ndarray | None = None,
    branch: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Words uint64, one a channel and padded to an even count: bias [31:0], m [39:32], s [44:40], table [45], of a
    branch its adapter's m [53:46], s [58:54]."""
    n = len(bias)
    words = np.zeros(n + n % 2, np.uint64)
    words[:n] = np.asarray(bias, np.int32).view(np.uint32)
    words[:n] |= m.astype(np.uint64) << np.uint64(32) | s.astype(np.uint64) << np.uint64(40)
    if table is not None:
        words[:n] |= table.astype(np.uint64) << np.uint64(45)
    if branch is not None:
        words[:n] |= branch[0].astype(np.uint64) << np.uint64(46) | branch[1].astype(np.uint64) << np.uint64(54)
    return words


def pack_attention(tensors, name: str, heads: int) -> np.ndarray:
    """Words uint64 [heads, 1 + d padded to even]: the head's score factor, then its context channels."""
    width = len(tensors[f"{name}.context_m"]) // heads
    words = np.zeros((heads, 1 + width + (1 + width) % 2), np.uint64)
    for part, shift in (("m", 32), ("s", 40)):
        words[:, 0] |= tensors[f"{name}.score_{part}"].astype(np.uint64) << np.uint64(shift)
        context = tensors[f"{name}.context_{part}"].astype(np.uint64).reshape(heads, width)
        words[:, 1 : 1 + width] |= context << np.uint64(shift)
    return words


def pack_norm(tensors, name: str) -> np.ndarray:
    """Words uint64, one an entry, padded to even: gamma [7:0], its shift [12:8], beta [23:16], its shift [27:24],
    continues [28] where the entry is a further one of its channel."""
    entries = tensors[f"{name}.entries"]
    words = pack_entries(entries)
    channel = np.repeat(np.arange(len(entries)), entries)
    parts = (("gamma", 0), ("gamma_shift", 8), ("beta", 16), ("beta_shift", 24))
    for part, shift in parts:
        values = tensors[f"{name}.{part}"].view(np.uint8)[channel]
        words[: len(channel)] |= values.astype(np.uint64) << np.uint64(shift)
    return words


def pack_entries(entries: np.ndarray) -> np.ndarray:
    """Words of a norm that is plain, from entries a channel [N]: uint64, padded to even, `continues` [28] alone."""
    channel = np.repeat(np.arange(len(entries)), entries)
    words = np.zeros(len(channel) + len(channel) % 2, np.uint64)
    words[1 : len(channel)] |= (channel[1:] == channel[:-1]).astype(np.uint64) << np.uint64(28)
    return words


def pack_embedding(q: np.ndarray, m: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Rows of values (int8 [n, width], or nibbles uint8) padded to a beat, then one beat of m and s: uint8 [n, ...]."""
    n, width = q.shape
    padded = -(-width // isa.BEAT_BYTES) * isa.BEAT_BYTES
    rows = np.zeros((n, padded + isa.BEAT_BYTES), np.uint8)
    rows[:, :width] = q.view(np.uint8)
    rows[:, padded] = m
    rows[:, padded + 1] = s
    return rows


def pack_adaptive(codes: np.ndarray, m: int, s: int) -> np.ndarray:
    """Rows of AdaptivFloat (Q24): the mask of the codes that are not 0, these in order, padded to the longest, and then
    the beat of m and s; codes uint8 [n, width] -> uint8 [n, ...]."""
    n, width = codes.shape
    longest = longest_row(codes)
    rows = np.zeros((n, isa.adaptive_row_bytes(width, longest)), np.uint8)
    bits = np.packbits(codes != 0, axis=1, bitorder="little")
    rows[:, : bits.shape[1]] = bits
    at = isa.adaptive_row_bytes(width, 0) - isa.BEAT_BYTES
    row, channel = np.nonzero(codes)  # row by row, channels in order
    place = np.arange(len(row)) - np.searchsorted(row, row)  # among the row's codes
    rows[row, at + place] = codes[row, channel]
    rows[:, -isa.BEAT_BYTES] = m
    rows[:, -isa.BEAT_BYTES + 1] = s
    return rows


def check_w4(name: str, nibbles: np.ndarray, bias: np.ndarray, amax: int) -> None:
    """The bounds of Q4 (even columns) and of the accumulator, per channel. Raises PackError."""
    # |nibble| of two's complement: 9 .. 15 are -7 .. -1
    magnitude = np.where(nibbles > 8, 16 - nibbles, nibbles).sum(axis=1, dtype=np.int64)
    _check(name, "accumulator", amax * magnitude + np.abs(bias), ACC_LIMIT)
    _check(name, "low field", np.where(np.arange(len(bias)) % 2 == 0, amax * magnitude, 0), FIELD_LIMIT)


def check_w8(name: str, weight: np.ndarray, bias: np.ndarray, amax: int) -> None:
    """The bounds of Q5 and of the accumulator, per channel. Raises PackError."""
    magnitude = np.abs(weight.astype(np.int16)).sum(axis=1, dtype=np.int64)
    _check(name, "accumulator", amax * magnitude + np.abs(bias), ACC_LIMIT)
    _check(name, "low field", amax * (weight & 15).sum(axis=1, dtype=np.int64), FIELD_LIMIT)


def _check(name: str, what: str, reach: np.ndarray, limit: int) -> None:
    worst = int(np.argmax(reach))
    if reach[worst] >= limit:
        raise PackError(f"{name}: channel {worst} could reach {reach[worst]} in its {what}, the limit is {limit - 1}")
