# SPDX-License-Identifier: Apache-2.0
"""Published performance of other accelerators, a row each: what ours is set beside. None of it is ours or modelled.

A figure is read in the source, or follows from figures read there and is named in `derived`; None where neither. What
the same designs publish in watts and counts for the power model is in published.py, cycles against FQ-BERT's in
reference.py. Tags in `source` as in published.py: [P] read, [D] derived, [U] not told by any source at hand.
"""

from dataclasses import dataclass

FIGURES = ("ms", "gop", "gops", "watts", "fps_per_w", "gops_per_w", "ddr_mb")


@dataclass(frozen=True)
class Rival:
    """One published design at work.

    `sequence`: tokens of the input, None for images or where it is not told. `ms`: latency at batch 1. `gop`: 10^9
    operations of one pass, two a product, of the dense model. `gops`: 10^9 operations a second. `ddr_mb`: 10^6 bytes
    that one pass moves to and from DDR. `fps_per_w_high`: the upper end where `fps_per_w` begins a range. `derived`:
    names of the figures that are not read but follow from those that are.
    """

    name: str
    platform: str
    precision: str
    clock_mhz: float | None
    model: str
    sequence: int | None
    ms: float | None
    gop: float | None
    gops: float | None
    watts: float | None
    fps_per_w: float | None
    gops_per_w: float | None
    ddr_mb: float | None
    source: str
    derived: frozenset[str] = frozenset()
    fps_per_w_high: float | None = None

    @property
    def intensity(self) -> float | None:
        """Operations a byte of DDR traffic; None where it does not follow from what is published."""
        return None if self.gop is None or self.ddr_mb is None else self.gop * 1e3 / self.ddr_mb

    def tag(self, figure: str) -> str | None:
        """How `figure` (one of FIGURES) came about: "read", "derived", or None where it is not known."""
        if getattr(self, figure) is None:
            return None
        return "derived" if figure in self.derived else "read"


def bert_base_gop(tokens: int) -> float:
    """10^9 operations of BERT-base's encoder on `tokens` tokens, two a product, head and embedding left out."""
    layer = tokens * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * tokens * tokens * 768
    return 12 * layer * 2 / 1e9


# BERT-base's encoder in 4 bits a weight, read once a pass: no design with less on-chip memory moves less.
_FQ_BERT_MB = 12 * (4 * 768 * 768 + 2 * 768 * 3072) / 2 / 1e6
_DEIT_S_GOP = 2 * 4.6


def _row(
    name: str, platform: str, precision: str, model: str, source: str, *, clock_mhz: float | None = None,
    sequence: int | None = None, fps_per_w_high: float | None = None, derived: tuple[str, ...] = (), **read: float,
) -> Rival:  # fmt: skip
    """A row of the figures `read`; what follows from them is worked out here, so that no derived figure is typed in.

    `derived`: those of `read` that are not the source's own either.
    """
    found = dict.fromkeys(FIGURES) | read
    follows = (
        ("gops", ("gop", "ms"), lambda gop, ms: gop / ms * 1e3),
        ("watts", ("gops", "gops_per_w"), lambda gops, gops_per_w: gops / gops_per_w),
        ("gops_per_w", ("gops", "watts"), lambda gops, watts: gops / watts),
        ("fps_per_w", ("ms", "watts"), lambda ms, watts: 1e3 / ms / watts),
    )
    for figure, of, made in follows:
        values = [found[name] for name in of]
        if found[figure] is None and None not in values:
            found[figure] = made(*values)
            derived += (figure,)
    return Rival(
        name=name, platform=platform, precision=precision, clock_mhz=clock_mhz, model=model, sequence=sequence,
        source=source, derived=frozenset(derived), fps_per_w_high=fps_per_w_high, **found,
    )  # fmt: skip


def _fq_bert(name: str, platform: str, clock_mhz: float | None, precision: str, source: str, **read: float) -> Rival:
    """A row of FQ-BERT's tables: BERT-base's encoder at 128 tokens, batch 1."""
    return _row(
        name, platform, precision, "BERT-base", source, clock_mhz=clock_mhz, sequence=128,
        gop=bert_base_gop(128), derived=("gop", "ddr_mb") if "ddr_mb" in read else ("gop",), **read,
    )  # fmt: skip


_FQ_BERT = "[P] arXiv 2103.02800, tables III and IV: ms, W and fps/W"
_ONCE = "; traffic [D]: each 4-bit weight read once a pass"

RIVALS: tuple[Rival, ...] = (
    _fq_bert(
        "FQ-BERT ZCU102 (8,16)", "ZCU102", 214, "w4a8", _FQ_BERT + _ONCE,
        ms=43.89, watts=9.8, fps_per_w=2.32, ddr_mb=_FQ_BERT_MB,
    ),
    _fq_bert(
        "FQ-BERT ZCU102 (16,8)", "ZCU102", 214, "w4a8", "[P] the same; no watts are given" + _ONCE,
        ms=45.35, ddr_mb=_FQ_BERT_MB,
    ),
    _fq_bert(
        "FQ-BERT ZCU111 (16,16)", "ZCU111", 214, "w4a8", _FQ_BERT + _ONCE,
        ms=23.79, watts=13.2, fps_per_w=3.18, ddr_mb=_FQ_BERT_MB,
    ),
    _fq_bert(
        "Core i7-8700", "CPU", None, "float", "[P] arXiv 2103.02800, table IV",
        ms=145.06, watts=65, fps_per_w=0.11,
    ),
    _fq_bert(
        "Tesla K80", "GPU", None, "float", "[P] arXiv 2103.02800, table IV",
        ms=27.84, watts=143, fps_per_w=0.25,
    ),
    _row(
        "spatial dataflow", "U280", "w4a8", "BERT-base",
        "[P] arXiv 2312.15159: 26.0 ms; operations [D]; neither watts nor traffic at hand",
        clock_mhz=245, sequence=512, ms=26.0, gop=bert_base_gop(512), derived=("gop",),
    ),
    _row(
        "HeatViT", "ZCU102", "int8", "DeiT-S",
        "[P] arXiv 2211.08110: 9.15 ms; 10.697 W: arXiv 2502.05602, table III (read in an extract); operations [D]: of "
        "the dense model, tokens that it prunes included",
        clock_mhz=300, ms=9.15, watts=10.697, gop=_DEIT_S_GOP, derived=("gop",),
    ),
    _row(
        "EfficientViT accelerator", "ZCU102", "int8", "EfficientViT",
        "[P] arXiv 2403.20230, abstract: the best of its layers and models",
        clock_mhz=200, gops=780.2, gops_per_w=105.1,
    ),
    _row(
        "BETA", "ZCU102", "binary", "binary transformers",
        "[P] arXiv 2401.11851: 174 GOPS/W on average (abstract), 1436 GOPS; one-bit products, which are not ours",
        gops=1436, gops_per_w=174,
    ),
    _row(
        "COBRA", "edge FPGA", "binary", "binary BERT",
        "[P] arXiv 2504.16269, abstract: at best, on a part of ZCU102's class; one-bit products, which are not ours",
        gops=3894.7, gops_per_w=448.7,
    ),
    _row(
        "Jetson AGX Orin", "GPU", "int8", "BERT-base",
        "[D] power logs of MLPerf submissions with BERT-large, scaled to BERT-base; about; length and ms [U]",
        fps_per_w=22, fps_per_w_high=30, derived=("fps_per_w",),
    ),
)  # fmt: skip
