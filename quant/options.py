# SPDX-License-Identifier: Apache-2.0
"""Switches of the quantizer."""

import dataclasses
from dataclasses import dataclass

from .fake_quant import ENGINE, Units
from .pruning import PRUNE_BY, SHAPE, check_density, check_pattern
from .words import FORMATS

SOFTMAX = ("numerator", "normalized")
WEIGHT_BITS = (2, 4, 6, 8)


@dataclass(frozen=True)
class Options:
    """The defaults are those that came out best on the movie reviews' dev split."""

    word_bits: int = 8
    word_format: str = "integer"  # or "adaptivfloat" (adaptivfloat.py)
    word_density: float = 1.0  # share of each AdaptivFloat row that is kept, the largest values
    softmax: str = "numerator"
    norm_entries: int | None = None  # at most so many extra entries a layer norm (Q9); a 64th of the width if None
    gelu_entries: int | None = None  # and direct entries a GELU (Q11)
    ridge: float = 0.1  # of the mean operand variance
    follow: bool = True  # fit weights and norms to the quantized operand, not the float one
    sweeps: int = 2  # of coordinate descent after the compensation
    weight_bits: int = 4  # of the encoder's matrices; the engine runs 4, others are for comparison (ablation.py)
    units: Units = ENGINE  # likewise
    tied: bool = False  # one set of integers for all layers, which share their matrices (tied.py)
    density: float = 1.0  # share of each encoder matrix that may be other than 0 (pruning.py); 1 prunes nothing
    prune_by: str = "contribution"
    pattern: str = "free"  # or "blocks": the density holds in every block of a group of channels (pruning.py)
    block_shape: tuple[int, int] = SHAPE  # others than the engine's are for comparison

    def checked(self, hidden: int) -> "Options":
        """With the entries of a model of that width filled in; ValueError for a value that is none."""
        if self.softmax not in SOFTMAX:
            raise ValueError(f"softmax {self.softmax!r} is none of {', '.join(SOFTMAX)}")
        if self.word_bits not in (4, 8):
            raise ValueError(f"word_bits {self.word_bits} is neither 4 nor 8")
        if self.word_format not in FORMATS:
            raise ValueError(f"word_format {self.word_format!r} is none of {', '.join(FORMATS)}")
        check_density(self.word_density, "word_density")
        if self.word_format == "adaptivfloat" and self.word_bits != 8:
            raise ValueError(f"word_bits {self.word_bits}: AdaptivFloat codes have 8")
        if self.word_format != "adaptivfloat" and self.word_density < 1:
            raise ValueError(f"word_density {self.word_density:g} is below 1, which only adaptivfloat rows can be")
        if self.weight_bits not in WEIGHT_BITS:
            raise ValueError(f"weight_bits {self.weight_bits} is none of {', '.join(map(str, WEIGHT_BITS))}")
        check_density(self.density)
        check_pattern(self.pattern, self.density, self.block_shape[0])
        if self.prune_by not in PRUNE_BY:
            raise ValueError(f"prune_by {self.prune_by!r} is none of {', '.join(PRUNE_BY)}")
        norm, gelu = (hidden // 64 if n is None else n for n in (self.norm_entries, self.gelu_entries))
        return dataclasses.replace(self, norm_entries=norm, gelu_entries=gelu)
