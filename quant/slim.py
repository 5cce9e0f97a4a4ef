# SPDX-License-Identifier: Apache-2.0
"""A fine-tuned encoder made slim: half of its weights, a short reach for each head, and no head that is not needed.

One training for all three (EdgeBERT, arXiv 2011.14203): the density of the encoder's matrices falls step by step
(masks.py), the heads' spans are learnt under a penalty (spans.py) which harden towards the end, and the loss follows
the unpruned model. So that spans are left as long as off-ramps will need them, a classifier after each layer answers
too while this is learnt; it is not kept. The last `settle` epochs have masks and integer spans as they will run.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from .distillation import Teacher, distillation_loss, feature_loss
from .float_stage import Rank, Run, Stage, run_epochs
from .masks import Masks
from .pruning import stage_density
from .ramps import SCALING_SENTENCES, Ramps, on_dev
from .sentences import Sentences
from .spans import SPANS, HardSpans, SoftSpans, Spans, whole_spans
from .student import Attend, Student, forward, load_unshared, read

ANSWER_RATE = 1e-3  # peak learning rate of the classifiers after each layer
HARDEN = 0.5  # from this part of the learning epochs on, R falls to 1 token


@dataclass(frozen=True)
class Slim:
    """`density` of each encoder matrix, reached over the first `ramp` part of the learning epochs, by `method`;
    `score_rate` is the peak rate of movement's scores.

    `span_ramp` R in tokens at the beginning, `span_rate` the peak rate of z in tokens a step, `span_penalty` the weight
    of the mean span after the first `span_from` part of the learning epochs, `heads_off` the least share of heads that
    end at span 0. `answers` weighs the loss of each layer's classifier. Of `epochs` the last `settle` have masks and
    spans fixed. `dropout` and `noise` (sentences.py) are the student's and of what it reads; `distillation`,
    `temperature`, `features` as of Deepen.
    """

    density: float = 0.5
    method: str = "magnitude"
    ramp: float = 0.8
    score_rate: float = 1e-2
    span_ramp: float = 8.0
    span_rate: float = 0.5
    span_penalty: float = 3.0
    span_from: float = 0.3
    heads_off: float = 0.0
    answers: float = 0.3
    epochs: int = 3
    settle: int = 1
    batch: int = 32
    learning_rate: float = 1e-4
    dropout: float = 0.1
    noise: float = 0.1
    distillation: float = 0.9
    temperature: float = 2.0
    features: float = 1.0


class _Slimming(Stage):
    """All of the student, the spans while they are learnt, and movement's scores."""

    def __init__(self, student: Student, teacher: Teacher, sentences: Sentences, settings: Slim):
        sizes, device = student.weights.architecture, sentences.device
        self.student, self.teacher, self.sentences, self.settings = student, teacher, sentences, settings
        self.soft = SoftSpans(sizes.layers, sizes.heads, sentences.max_length, settings.span_ramp, device)
        self.masks = Masks(student.matrices, settings.method)
        some = sentences.tokens["train"][:SCALING_SENTENCES]
        whole = whole_spans(sizes.layers, sizes.heads, device)
        self.ramps = Ramps.new(read(student.weights, some, whole.attend)[1].to(device), len(sentences.names))
        answers = {f"answers.{name}": tensor for name, tensor in self.ramps.trained.items()}
        scores = self.masks.scores
        rates = {**dict.fromkeys(scores, settings.score_rate), **dict.fromkeys(answers, ANSWER_RATE)}
        super().__init__(
            {**student.parameters, "spans": self.soft.z, **scores, **answers}, {"spans": settings.span_rate, **rates}
        )
        per_epoch = -(-len(sentences.lengths) // settings.batch)
        self.per_epoch, self.learning = per_epoch, (settings.epochs - settings.settle) * per_epoch
        self.hard: HardSpans | None = None
        self.density: float | None = None
        self.shorten = False

    def prepare(self, step: int) -> None:
        """Masks are chosen anew where an epoch begins, the density falls or the spans become hard."""
        self.shorten = step >= self.settings.span_from * self.learning
        self.soft.ramp = ramp_at(step, self.learning, self.settings.span_ramp)
        if step >= self.learning:
            if self.hard is None:
                self.fix()
            return
        density = stage_density(step, self.learning, self.settings.density, self.settings.ramp)
        if density != self.density or step % self.per_epoch == 0:
            self.masks.choose(density, self.soft.gone())
            self.density = density

    def fix(self) -> None:
        """Spans and masks as they will run: both follow from the parameters, which no later step changes."""
        self.hard = HardSpans(self.soft.hard(self.settings.heads_off), self.sentences.device)
        self.masks.choose(self.settings.density, torch.tensor(self.hard.spans) == 0)

    @property
    def attend(self) -> Attend:
        return self.soft.attend if self.hard is None else self.hard.attend

    def loss(self, rows: list[int]) -> torch.Tensor:
        s, learnt = self.settings, self.hard is None
        batch, target = self.sentences.batch("train", rows, s.noise)
        out = forward(self.masks.applied(self.student.weights, learnt), batch, self.attend, s.dropout)
        wanted, last = self.teacher(batch)
        loss = distillation_loss(out.logits, target, wanted, s.distillation, s.temperature)
        loss = loss + s.answers * self.ramps.loss(out.first, target, wanted, s.distillation, s.temperature)
        if s.features:
            loss = loss + s.features * feature_loss(out.rows, last)
        return loss + s.span_penalty * self.soft.penalty() if learnt and self.shorten else loss

    def hold(self) -> None:
        self.soft.clamp()
        self.masks.hold()

    def measure(self) -> dict:
        weights = self.masks.applied(self.student.weights, learnt=False)
        last, first = (x.to(self.sentences.device) for x in read(weights, self.sentences.tokens["dev"], self.attend))
        found = on_dev(self.ramps, first, last, self.sentences.labels["dev"])
        spans = span_report(self.soft.hard(self.settings.heads_off))
        return {**found, "settled": self.hard is not None, "density": self.masks.density(), **spans}

    def rank(self, entry: dict) -> Rank | None:
        return super().rank(entry) if entry["settled"] else None


def ramp_at(step: int, steps: int, ramp: float) -> float:
    """R at `step` of the learning ones: `ramp`, then linearly to 1 token (or `ramp`, if that is less) at the last.

    >>> [ramp_at(step, 9, 8.0) for step in (0, 4, 6, 8, 20)]
    [8.0, 8.0, 4.5, 1.0, 1.0]
    """
    begun = HARDEN * (steps - 1)
    part = min(max((step - begun) / max(steps - 1 - begun, 1), 0.0), 1.0)
    return ramp - part * max(ramp - 1, 0.0)


def span_report(spans: Spans) -> dict:
    """`heads_off`, the share of heads at span 0, and `mean_span` of the others (POSITIONS stands for everything)."""
    every = [n for of_layer in spans for n in of_layer]
    left = [n for n in every if n]
    return {"heads_off": round(1 - len(left) / len(every), 4), "mean_span": round(sum(left) / len(left), 2)}


def slim(
    source: Path,
    sentences: Sentences,
    out: Path,
    settings: Slim,
    *,
    seed: int = 0,
    resume: bool = False,
    precision: str = "float32",
    console: Console | None = None,
) -> dict:
    """Make the fine-tuned folder `source` slim, itself as teacher; the log, which is also `out/slim.json`.

    `out` is a Hugging Face folder of full size: pruned weights are exactly 0, and config.json has the spans under
    SPANS. Keeps the settled epoch best on dev. Raises ValueError where `out` holds a run already or one begun with
    other settings, UnsupportedModel.
    """
    kept = {**asdict(settings), "seed": seed, "precision": precision, **sentences.settings}
    run = Run(out, "slim", kept, resume, precision)
    if (log := run.log()) is not None:
        return log
    student, teacher = (load_unshared(source, sentences.device) for _ in range(2))
    stage = _Slimming(student, Teacher(teacher.weights, sentences.device), sentences, settings)
    dense = stage.measure()
    log = run_epochs(stage, run, sentences.lengths, epochs=settings.epochs, batch=settings.batch,
                     rate=settings.learning_rate, seed=seed, console=console or Console(stderr=True))  # fmt: skip
    stage.fix()
    stage.masks.bake()
    student.save(out, source, **{SPANS: stage.hard.spans})
    best = {"best": stage.measure(), "matrices": stage.masks.densities(), "spans": stage.hard.spans}
    return run.finish({**log, "dense": {k: dense[k] for k in ("dev_loss", "dev_accuracy")}, **best})
