# SPDX-License-Identifier: Apache-2.0
"""Which part of a model each instruction of a program belongs to, by the shape that programs of encoders have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .instructions import TO_ACTIVATION, TO_KEYS, TO_VALUES, Attention, Embed, End, Gemm, Instruction, Norm, Rows, Table

FRAME = "start and end"  # rows, tables, END
# The parts of a layer, in the order in which they run.
LAYER_PARTS = (
    *("q/k/v", "attention", "o", "attention adapter", "attention norm"),
    *("ffn1", "ffn2", "ffn adapter", "ffn norm", "off-ramp"),
)
PARTS = ("embedding", "mapping", *LAYER_PARTS, "head", FRAME)


@dataclass(frozen=True)
class Part:
    """A part of a model: `name` (one of PARTS), and its `layer`, 1 the first; None outside the layers."""

    layer: int | None
    name: str


def parts_of(program: Sequence[Instruction]) -> tuple[Part, ...]:
    """The part of each instruction.

    A layer begins with the three products before its ATTENTION and ends with the second norm behind it. What follows
    is an off-ramp, behind the last layer the head. Raises ValueError for an ATTENTION without its products.
    """
    attentions = [index for index, i in enumerate(program) if isinstance(i, Attention)]
    for index in attentions:
        before = [i.destination if isinstance(i, Gemm) else None for i in program[max(index - 3, 0) : index]]
        if before != [TO_ACTIVATION, TO_KEYS, TO_VALUES]:
            raise ValueError(f"instruction {index}: an ATTENTION that does not follow its queries, keys and values")
    begins = [index - 3 for index in attentions]
    found = list(_before(program[: begins[0] if begins else len(program)]))
    for number, (begin, end) in enumerate(zip(begins, [*begins[1:], len(program)], strict=True), 1):
        behind = Part(None, "head") if number == len(begins) else Part(number, "off-ramp")
        found += _layer(program[begin:end], number, behind)
    return tuple(found)


def _before(program: Sequence[Instruction]) -> Iterator[Part]:
    """Up to the first layer: tables, embeddings with their norm, and the mapping to the hidden width."""
    normed = False
    for i in program:
        if isinstance(i, (Rows, Table, End)):
            yield Part(None, FRAME)
        elif isinstance(i, Embed) or (not normed and isinstance(i, Norm)):
            yield Part(None, "embedding")
            normed |= isinstance(i, Norm)
        else:
            yield Part(None, "mapping")


def _layer(program: Sequence[Instruction], layer: int, behind: Part) -> Iterator[Part]:
    """From a layer's queries to before those of the next, or to END."""
    norms, products = 0, 0
    for at, i in enumerate(program):
        if isinstance(i, End):
            yield Part(None, FRAME)
        elif norms == 2:
            yield behind
        elif at < 4:
            yield Part(layer, "q/k/v" if at < 3 else "attention")
        elif isinstance(i, Norm):
            yield Part(layer, ("attention norm", "ffn norm")[norms])
            norms, products = norms + 1, 0
        else:  # a table goes before the product that it is for
            branch = (("o", "attention adapter"), ("ffn1", "ffn2", "ffn adapter"))[norms]
            yield Part(layer, branch[min(products, len(branch) - 1)])
            products += isinstance(i, Gemm)
