# SPDX-License-Identifier: Apache-2.0
"""The cycle model held against FQ-BERT: the same model, at its number of multipliers and its clock. Nothing is fitted.

FQ-BERT (arXiv 2103.02800) has 12 PUs of N PEs of M multipliers of 8 by 4 bits; an 8 by 8 product takes two. Its
latencies are of the encoder of BERT-base at 128 tokens, batch 1, embedding and head on the CPU. So is the program here.
"""

from dataclasses import dataclass, replace

from . import instructions as isa
from .boards import Board
from .cycles import Model, Timing, simulate

FQ_BERT_CLOCK_MHZ = 214
ROW_BLOCKS = 4

DIFFERENCE = (
    "With every multiplier busy in every cycle, 8 x 8 products at half rate, the encoder would take {ideal:.1f} ms. "
    "The paper reaches {published_share:.0%} of that rate, the model {modelled_share:.0%}: it hides loading, drain and "
    "hand-over of tiles behind the array. If each tile drained before the next began, the same model would say "
    "{serial:.1f} ms. The other {rest:.1f} ms it does not explain; the paper double-buffers weights and partial sums, "
    "but gives no cycles for softmax, for the three stages of its layer norm, or for PUs left over when channels are "
    "shared out."
)


@dataclass(frozen=True)
class Check:
    """One published design and what the model says of it; times in ms, `ratio` = published over modelled."""

    board: str
    multipliers: int
    clock_mhz: float
    published_ms: float
    modelled_ms: float
    ideal_ms: float  # every multiplier busy in every cycle
    serial_ms: float  # modelled with each tile drained before the next begins
    difference: str
    modelled: bool = True

    @property
    def ratio(self) -> float:
        """Published time over modelled time."""
        return self.published_ms / self.modelled_ms


# Board, PEs a PU, multipliers a PE, published latency in ms.
FQ_BERT = (("zcu102", 8, 16, 43.89), ("zcu102", 16, 8, 45.35), ("zcu111", 16, 16, 23.79))


def fq_bert_check() -> list[Check]:
    """What the cycle model says at FQ-BERT's multiplier counts and clock, beside its published latencies."""
    return [_check(board, 12 * pes * multipliers, ms) for board, pes, multipliers, ms in FQ_BERT]


def _check(board: str, multipliers: int, published_ms: float) -> Check:
    modelled_ms = fq_bert_timing(multipliers).seconds * 1e3
    serial_ms = fq_bert_timing(multipliers, drain_overlap=False).seconds * 1e3
    ideal_ms = encoder_products() / multipliers / FQ_BERT_CLOCK_MHZ * 1e-3
    difference = DIFFERENCE.format(
        ideal=ideal_ms,
        published_share=ideal_ms / published_ms,
        modelled_share=ideal_ms / modelled_ms,
        serial=serial_ms,
        rest=published_ms - serial_ms,
    )
    return Check(board, multipliers, FQ_BERT_CLOCK_MHZ, published_ms, modelled_ms, ideal_ms, serial_ms, difference)


def encoder_products() -> int:
    """8 by 4 bit products of BERT-base's encoder at 128 tokens: an 8 by 8 product of attention counts two."""
    tokens = ROW_BLOCKS * isa.LANES
    linear = tokens * (4 * 768 * 768 + 2 * 768 * 3072)
    attention = 2 * tokens * tokens * 768
    return 12 * (linear + 2 * attention)


def fq_bert_timing(multipliers: int, drain_overlap: bool = True) -> Timing:
    """The encoder of BERT-base at 128 tokens on `multipliers` multipliers at FQ-BERT's clock.

    The array keeps its shape; a K step takes 32·C/multipliers cycles instead of one, so that its peak is that of
    `multipliers` products a cycle.
    """
    columns = 64 * max(-(-multipliers // (64 * isa.LANES)), 2)  # two groups: a head of width 64 in w8 mode
    array = Board(f"FQ-BERT {multipliers}", "", columns, 0, 0, 0, 0, 0, (FQ_BERT_CLOCK_MHZ,))
    interval = array.peak_macs_per_cycle / multipliers
    model = replace(Model(), array_interval=interval, drain_overlap=drain_overlap)
    program = encoder_program(layers=12, hidden=768, heads=12, ffn=3072)
    return simulate(program, ROW_BLOCKS, array, FQ_BERT_CLOCK_MHZ, model)


def encoder_program(*, layers: int, hidden: int, heads: int, ffn: int) -> tuple[isa.Instruction, ...]:
    """The encoder layers of a BERT model alone, its addresses of no account: for timing, not for running."""
    x, q, p = 0, ROW_BLOCKS * hidden, 2 * ROW_BLOCKS * hidden
    program: list[isa.Instruction] = []
    for layer in range(layers):
        source = {"k": hidden, "src": x, "src_stride": hidden}
        program += [
            isa.Gemm(n=hidden, dst=q, dst_stride=hidden, wait=int(layer > 0), **source),
            isa.Gemm(n=hidden, destination=isa.TO_KEYS, head_width=hidden // heads, **source),
            isa.Gemm(n=hidden, destination=isa.TO_VALUES, head_width=hidden // heads, signal=True, **source),
            isa.Attention(
                heads=heads,
                head_width=hidden // heads,
                q=q,
                q_stride=hidden,
                p=p,
                context=x,
                context_stride=hidden,
                wait=1,
                signal=True,
            ),
            _residual(hidden, x, hidden),
            _norm(hidden, x, signal=True),
            isa.Gemm(n=ffn, dst=q, dst_stride=ffn, table=isa.TABLE_ACTIVATION, wait=1, signal=True, **source),
            _residual(ffn, q, hidden),
            _norm(hidden, x, signal=layer < layers - 1),
        ]
    return (*program, isa.End())


def _residual(k: int, src: int, n: int) -> isa.Gemm:
    return isa.Gemm(k=k, n=n, src=src, src_stride=k, destination=isa.TO_RESIDUAL, residual_m=128, residual_s=8, wait=1)


def _norm(hidden: int, dst: int, signal: bool) -> isa.Norm:
    return isa.Norm(width=hidden, entries=hidden, dst=dst, dst_stride=hidden, signal=signal)
