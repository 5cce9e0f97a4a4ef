# SPDX-License-Identifier: Apache-2.0
"""Each instruction's part of the model: held against the compiler's names, and against a layer written out."""

from dataclasses import replace
from itertools import groupby

import pytest
from zynqbert.fpga import instructions as isa
from zynqbert.fpga.boards import BOARDS
from zynqbert.fpga.program_parts import PARTS, Part, parts_of
from zynqbert.fpga.reference import encoder_program
from zynqbert.host.compiler import plan
from zynqbert.host.exit_plan import ExitPlan
from zynqbert.host.model_shape import Adapters, ModelShape, Ramps

BOARD = BOARDS["zcu102"]
MINI = ModelShape.named("minilm-l6")
OF_NAME = {"q": "q/k/v", "k": "q/k/v", "v": "q/k/v", "o": "o", "ffn1": "ffn1", "ffn2": "ffn2"}


def in_order(program):
    """The parts as they follow each other, each run of instructions once."""
    return [part for part, _ in groupby(parts_of(program))]


@pytest.mark.parametrize("name", ["bert-base", "minilm-l6"])
def test_products_are_of_the_tensors_that_the_compiler_names(name):
    compiled = plan(ModelShape.named(name), BOARD)
    parts = parts_of(compiled.instructions)
    assert len(parts) == len(compiled.instructions)
    for index, tensor in compiled.names.items():
        words = tensor.split(".")
        expected = Part(int(words[1]) + 1, OF_NAME[words[2]]) if words[0] == "layers" else Part(None, "head")
        assert parts[index] == expected, tensor


def test_the_order_of_a_whole_model():
    names = ("q/k/v", "attention", "o", "attention norm", "ffn1", "ffn2", "ffn norm")
    layers = [Part(layer, name) for layer in range(1, 7) for name in names]
    frame = Part(None, "start and end")
    assert in_order(plan(MINI, BOARD).instructions) == [
        *(frame, Part(None, "embedding")),
        *layers,
        *(Part(None, "head"), frame),
    ]
    # without tables for an activation, as programs for timing have it, and with nothing around the layers
    encoder = encoder_program(layers=6, hidden=384, heads=12, ffn=1536)
    assert in_order(encoder) == [*layers, frame]


def test_albert_has_a_mapping():
    program = plan(ModelShape.named("albert-base"), BOARD).instructions
    found = in_order(program)
    assert found[:3] == [Part(None, name) for name in ("start and end", "embedding", "mapping")]
    parts = parts_of(program)
    mapping = [i for i, part in zip(program, parts, strict=True) if part.name == "mapping"]
    assert [type(i) for i in mapping] == [isa.Gemm, isa.Norm] and mapping[1].plain


def test_off_ramps_and_adapters_are_parts_of_their_own():
    ramped = replace(MINI, exits=Ramps(pooler=True, entropy=(40000, 5), row_shift=3))
    program = plan(ramped, BOARD, exits=ExitPlan(0)).instructions
    parts = parts_of(program)
    ramps = [(part.layer, part.name) for part, i in zip(parts, program, strict=True) if isinstance(i, isa.Exit)]
    assert ramps == [*((layer, "off-ramp") for layer in range(1, 6)), (None, "head")]
    assert Part(1, "off-ramp") in in_order(program) and Part(6, "off-ramp") not in in_order(program)

    adapted = replace(MINI, word_format="adaptivfloat", adapters=Adapters(32, MINI.weights))
    program = plan(adapted, BOARD, density=0.5, word_density=0.5).instructions
    layer = [part.name for part in in_order(program) if part.layer == 2]
    assert layer == [name for name in PARTS if name in layer] and len(layer) == 9
    for name in ("attention adapter", "ffn adapter"):
        own = [i for i, part in zip(program, parts_of(program), strict=True) if part == Part(2, name)]
        assert [type(i) for i in own] == [isa.Table, isa.Gemm, isa.Gemm]
        assert [i.n for i in own[1:]] == [32, 384]


def test_an_attention_without_its_products_is_refused():
    program = plan(MINI, BOARD).instructions
    at = next(index for index, i in enumerate(program) if isinstance(i, isa.Attention))
    with pytest.raises(ValueError, match=f"instruction {at - 1}: an ATTENTION that does not follow its queries"):
        parts_of(program[: at - 1] + program[at:])
