# SPDX-License-Identifier: Apache-2.0
"""What an engine can do beyond what every one can: a bit each in its ID register (registers.py). A program that needs
what the bitstream lacks is refused by name.
"""

from collections.abc import Iterable, Sequence

from .instructions import TO_IO, Attention, Embed, Exit, Gemm, Instruction, Norm, Refill

# Bit n of the ID register's capabilities is CAPABILITIES[n]; new ones go to the end.
CAPABILITIES = (
    "four_bit_rows",
    "plain_norm",
    "normalized_softmax",
    "token_results",
    "clock_select",
    "exit",
    "spans",
    "adaptive_rows",
    "branches",
    "queue",
    "chosen",
)


def bits(names: Iterable[str]) -> int:
    """The capability bits of `names`. Raises ValueError for a name that is none."""
    return sum(1 << CAPABILITIES.index(name) for name in set(names))


def names(value: int) -> frozenset[str]:
    """The capabilities whose bits are set; bits that this version does not know are left out."""
    return frozenset(name for n, name in enumerate(CAPABILITIES) if value >> n & 1)


def needed(program: Sequence[Instruction]) -> frozenset[str]:
    """What `program` asks of the engine that runs it."""
    found = set()
    for instruction in program:
        match instruction:
            case Embed(four_bit=True):
                found.add("four_bit_rows")
            case Embed(adaptive=True):
                found.add("adaptive_rows")
            case Norm(plain=True):
                found.add("plain_norm")
            case Attention(normalized=normalized, banded=banded) if normalized or banded:
                found |= {"normalized_softmax"} if normalized else set()
                found |= {"spans"} if banded else set()
            case Exit():
                found.add("exit")
            case Refill():
                found.add("queue")
            case Gemm():
                found |= {"branches"} if instruction.branch else set()
                found |= {"chosen"} if instruction.chosen else set()
                of_tokens = instruction.destination == TO_IO and not instruction.result_block
                found |= {"token_results"} if of_tokens else set()
    return frozenset(found)
