# SPDX-License-Identifier: Apache-2.0
"""Commands that make models. They need PyTorch and transformers, which a board has not."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .inputs import InputError, read_texts
from .options import Pattern, check_pattern


class SoftmaxName(str, Enum):
    """Form of the softmax."""

    numerator = "numerator"
    normalized = "normalized"


class WordFormat(str, Enum):
    """How word embeddings are stored (docs/quantization.md, Q6 and Q24)."""

    integer = "integer"
    adaptivfloat = "adaptivfloat"


class PruneBy(str, Enum):
    """Score by which weights stay (quant/pruning.py)."""

    magnitude = "magnitude"
    contribution = "contribution"


ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on in the folder where a run was cut.")]


def quantize(
    source: Annotated[str, typer.Argument(help="Hugging Face model: a folder, or a name on the hub.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the quantized model to.")],
    calibrate: Annotated[
        Path | None, typer.Option(help="Calibration texts, one a line; else the movie reviews' train split.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Each calibration line holds two texts, parted by a tab.")
    ] = False,
    word_bits: Annotated[int, typer.Option(help="Bits of the word embeddings: 4 or 8.")] = 8,
    word_format: Annotated[
        WordFormat, typer.Option(help="adaptivfloat: 8-bit floats with one exponent bias, behind a mask of the zeros.")
    ] = WordFormat.integer,
    word_density: Annotated[
        float, typer.Option(help="Share of each adaptivfloat row that is kept, the largest values.")
    ] = 1.0,
    softmax: Annotated[SoftmaxName, typer.Option(help="normalized: the paper's form.")] = SoftmaxName.numerator,
    density: Annotated[
        float, typer.Option(help="Share of the encoder's weights that may be other than 0; below 1 the rest is pruned.")
    ] = 1.0,
    pattern: Annotated[
        Pattern, typer.Option(help="blocks: the density holds in every 4 weights, which takes fewer cycles too.")
    ] = Pattern.free,
    tied: Annotated[
        bool, typer.Option("--tied", help="One set of integers for all layers of an ALBERT: for continuous batching.")
    ] = False,
) -> None:
    """Quantize a float BERT, MiniLM or ALBERT model to a folder that every other command takes.

    Example: zynqbert quantize ./my-classifier --out ./my-artifact --calibrate sentences.txt

    Pairs: zynqbert quantize ./my-pair-classifier --out ./my-pairs-artifact --calibrate pairs.tsv --pairs

    Pruned words: zynqbert quantize ./my-classifier --out ./my-artifact --word-format adaptivfloat --word-density 0.4

    Sparse: zynqbert quantize ./my-classifier --out ./my-sparse-artifact --calibrate sentences.txt --density 0.5

    In blocks: zynqbert quantize ./my-classifier --out ./my-sparse-artifact --density 0.5 --pattern blocks

    For continuous batching: zynqbert quantize ./my-albert --out ./my-tied-artifact --tied
    """
    if word_bits not in (4, 8):
        raise InputError(f"--word-bits {word_bits} is neither 4 nor 8")
    if word_format is WordFormat.adaptivfloat and word_bits != 8:
        raise InputError(f"--word-bits {word_bits}: with --word-format adaptivfloat it is 8")
    if not 0 < word_density <= 1:
        raise InputError(f"--word-density {word_density:g} is not above 0 and at most 1")
    if word_density < 1 and word_format is WordFormat.integer:
        raise InputError(f"--word-density {word_density:g} is for --word-format adaptivfloat alone")
    if not 0 < density <= 1:
        raise InputError(f"--density {density:g} is not above 0 and at most 1")
    check_pattern(pattern, density)
    if pairs and calibrate is None:
        raise InputError("--pairs is about the lines of a file: give it with --calibrate F")
    with needing_packages("quantize"):
        from ..quant.pipeline import quantize_checkpoint
    from ..quant.datasets import movie_reviews
    from .output import quantize_summary

    if calibrate is not None:
        texts = list(read_texts(str(calibrate), pairs))
    else:
        print("zynqbert: calibrating on movie reviews; --calibrate F takes texts of your own task", file=sys.stderr)
        texts = [example.text for example in movie_reviews("train")]
    words = dict(word_bits=word_bits, word_format=word_format.value, word_density=word_density)
    options = dict(**words, softmax=softmax.value, density=density, pattern=pattern.value, tied=tied)
    report = quantize_checkpoint(source, texts, out, **options)
    print(f"{out}: {quantize_summary(report)}")


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file (docs/training.md, docs/edgebert.md).")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the run; build/NAME of the recipe if none.")
    ] = None,
    resume: ResumeOption = False,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="In place of the recipe's.")] = None,
) -> None:
    """Fine-tune, quantize and train a model by a recipe, and measure what was lost.

    Example: zynqbert train recipes/movie-reviews.toml --resume

    Early exit: zynqbert train recipes/edgebert.toml --out build/edgebert

    Many tasks on one backbone: zynqbert train recipes/tasks.toml --resume
    """
    with needing_packages("train"):
        from ..quant.multi_task import follow_tasks
        from ..quant.recipe import load_recipe
        from ..quant.task_recipe import load_tasks_recipe
        from ..quant.train import train as follow
    from .output import print_stages, print_tasks, print_training

    tasks = load_tasks_recipe(recipe, seed)
    given = tasks or load_recipe(recipe, seed)
    out = out or Path("build") / given.name
    with needing_packages("train"):
        if tasks is not None:
            print_tasks(follow_tasks(tasks, out, resume=resume), out)
            return
        report = follow(given, recipe.parent, out, resume=resume)
    if "stages" in report:
        print_stages(report, out)
    else:
        print_training(report, out)


def ablation(
    source: Annotated[str, typer.Argument(help="Hugging Face classifier of the data's labels: a folder or hub name.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("build/ablation"),
    data: Annotated[str, typer.Option(help="Data set: movie-reviews, policy-pairs or tweets.")] = "movie-reviews",
    sentences: Annotated[int | None, typer.Option(min=1, help="Of the test split; all if not given.")] = None,
    resume: ResumeOption = False,
) -> None:
    """What each part of full quantization costs in accuracy, beside the paper's table; and 2, 4, 6, 8-bit weights.

    Example: zynqbert ablation build/movie-reviews/float --resume
    """
    with needing_packages("ablation"):
        from ..quant.ablation import ablation as study
        from ..quant.ablation import table
    from rich.console import Console

    report = study(source, data, out, sentences=sentences, resume=resume)
    Console().print(table(report))
    print(f"{out}/ablation.json, {out}/ablation.svg")


def sparsity(
    source: Annotated[str, typer.Argument(help="Hugging Face classifier of the data's labels: a folder or hub name.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("build/sparsity"),
    data: Annotated[str, typer.Option(help="Data set: movie-reviews, policy-pairs or tweets.")] = "movie-reviews",
    trained: Annotated[
        list[Path] | None, typer.Option("--trained", help="A pruned and trained artifact to measure too; repeatable.")
    ] = None,
    prune_by: Annotated[PruneBy, typer.Option(help="Score by which weights stay.")] = PruneBy.contribution,
    sentences: Annotated[int | None, typer.Option(min=1, help="Of dev and of test; all if not given.")] = None,
    resume: ResumeOption = False,
) -> None:
    """What pruned weights cost in accuracy and save in bytes: densities from 1 to 0.2, quantized in one shot.

    Example: zynqbert sparsity build/movie-reviews/float --trained build/movie-reviews-sparse/artifact --resume
    """
    with needing_packages("sparsity"):
        from ..quant.sparsity import sparsity as study
        from ..quant.sparsity import table
    from rich.console import Console

    options = dict(trained=trained or [], prune_by=prune_by.value, sentences=sentences, resume=resume)
    report = study(source, data, out, **options)
    Console().print(table(report))
    print(f"{out}/sparsity.json, {out}/sparsity.svg")


@contextmanager
def needing_packages(command: str) -> Iterator[None]:
    """A missing package of the workstation becomes an InputError with the remedy."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name in ("torch", "transformers", "tomli"):
            raise InputError(f"{command} needs {error.name}; remedy: pip install 'zynqbert[quant]'") from None
        if error.name is None:  # our own, with its remedy
            raise InputError(str(error)) from None
        raise
