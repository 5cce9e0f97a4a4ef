# SPDX-License-Identifier: Apache-2.0
"""How each int4 matrix is stored for a board: as it is or compressed, in DDR or resident on chip.

The planner keeps on chip what saves most traffic: matrices that several layers use before others, in the program's
order. A matrix that DDR holds is compressed where that takes fewer bytes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..fpga.boards import Board
from ..fpga.directory import FRAME_BEATS, Directory, Tile, chosen_beats, expected_beats, region_bytes, segments
from ..fpga.instructions import BLOCK
from ..quant.compressed import compress
from ..quant.pruning import check_pattern
from .model_shape import ModelShape
from .nibbles import unpack_nibbles

MATRICES = ("q", "k", "v", "o", "ffn1", "ffn2")


class Artifact(Protocol):
    """What is needed of an artifact: its tensors by name."""

    tensors: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Matrix:
    """One int4 matrix of an encoder layer and those layers that share it.

    `uses`: products of a pass with it. `density`: share of its weights that are not 0. `directory`: its column tiles,
    compressed; `data`: those bytes, None where only the shape is known. `resident`: first word in the
    resident memory, None in DDR; `why` it is not resident.
    """

    name: str
    k: int
    n: int
    uses: int
    density: float
    dense_bytes: int
    directory: Directory
    ports: int
    data: np.ndarray | None = None
    resident: int | None = None
    why: str = ""

    @property
    def words(self) -> int:
        """Words of the resident memory that it takes: beats a port."""
        return sum(tile.beats for tile in self.directory)

    @property
    def compressed_bytes(self) -> int:
        """Bytes in the memory image, compressed."""
        return region_bytes(self.directory, self.ports)

    @property
    def compressed(self) -> bool:
        """Whether the memory image holds it compressed: all that is resident, and what gets smaller."""
        return self.resident is not None or self.compressed_bytes < self.dense_bytes

    @property
    def chosen(self) -> bool:
        """Whether a tile of it has a density bound in blocks."""
        return self.compressed and any(tile.bound for tile in self.directory)

    @property
    def bytes(self) -> int:
        """Bytes in the memory image."""
        return self.compressed_bytes if self.compressed else self.dense_bytes


def shapes(shape: ModelShape) -> Iterator[tuple[str, int, int, int]]:
    """Name, K, N and uses of every int4 matrix, in the program's order."""
    entries = shape.embedding_norm if shape.mapping is None else shape.mapping
    for index, layer in enumerate(shape.layers):
        if shape.weights[index] == index:
            uses = shape.weights.count(index)
            context = shape.context_width(index)
            sizes = dict.fromkeys("qkv", (entries, context))
            sizes |= {"o": (context, shape.hidden)}
            sizes |= {"ffn1": (layer.attention_norm, layer.ffn), "ffn2": (layer.ffn, shape.hidden)}
            for matrix in MATRICES:
                yield f"layers.{index}.{matrix}", *sizes[matrix], uses
        entries = layer.ffn_norm


def matrices(
    shape: ModelShape,
    board: Board,
    *,
    artifact: Artifact | None = None,
    density: float = 1.0,
    pattern: str = "free",
    resident: bool = True,
) -> dict[str, Matrix]:
    """Every int4 matrix by name, stored and placed for `board`.

    What is not 0 comes from `artifact`; without one a share of `density` is taken for random weights, of `pattern`
    "free" or "blocks" (quant/pruning.py). With `resident` false nothing stays on chip. Raises ValueError for a density
    outside 0 .. 1, or one that blocks cannot have.
    """
    if not 0 <= density <= 1:
        raise ValueError(f"density of {density:g} is not 0 to 1")
    check_pattern(pattern, density)
    bound = round(density * BLOCK) % BLOCK if pattern == "blocks" else 0
    found = {}
    for name, k, n, uses in shapes(shape):
        tiles = -(-n // board.columns)
        common = {"name": name, "k": k, "n": n, "uses": uses, "ports": board.ports}
        common["dense_bytes"] = tiles * k * board.columns // 2
        if artifact is None:
            beats = min(expected_beats(k, density), k + segments(k) + FRAME_BEATS)
            tile = Tile(chosen_beats(k, bound), bound) if bound else Tile(beats)
            found[name] = Matrix(**common, density=density, directory=(tile,) * tiles)
        else:
            found[name] = _of_tensor(artifact.tensors[f"{name}.weight"], board, **common)
    return _placed(found, board, resident)


def _of_tensor(packed: np.ndarray, board: Board, *, name: str, k: int, n: int, **common) -> Matrix:
    nibbles = unpack_nibbles(name, packed, k)
    density = np.count_nonzero(nibbles) / nibbles.size
    made = compress(nibbles, board.columns, chosen=True)
    tiles = tuple(map(Tile, made.beats, made.bounds))
    return Matrix(name, k, n, density=density, directory=tiles, data=made.data, **common)


def _placed(found: dict[str, Matrix], board: Board, resident: bool) -> dict[str, Matrix]:
    """Each with its place, or why it has none."""
    placed, used = dict(found), 0
    order = sorted(found.values(), key=lambda matrix: -matrix.uses)  # stable: the program's order within
    for matrix in order:
        left = board.resident_words - used
        if not resident:
            why = "nothing is kept on chip"
        elif matrix.words > left:
            why = f"needs {matrix.words} words of the resident memory, {left} of {board.resident_words} are left"
        else:
            placed[matrix.name] = replace(matrix, resident=used)
            used += matrix.words
            continue
        placed[matrix.name] = replace(matrix, why=why)
    return placed
