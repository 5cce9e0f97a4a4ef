# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a file says is what is followed, anything else is refused by file and field; and tables of texts."""

import dataclasses
from pathlib import Path

import pytest
from zynqbert.quant.datasets import DATA_SETS, Example, read_table
from zynqbert.quant.deepen import Deepen
from zynqbert.quant.exit_predictor import Exits
from zynqbert.quant.finetune import FineTuning
from zynqbert.quant.offramps import OffRamps
from zynqbert.quant.recipe import TABLES, Data, Prune, QuantizedTraining, Quantizing, Recipe, RecipeError, load_recipe
from zynqbert.quant.slim import Slim

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(set(RECIPES.glob("*.toml")) - {RECIPES / "tasks.toml"})  # that one: test_multi_task.py
LEAST = 'name = "x"\n[data]\nset = "movie-reviews"\n'
OWN = 'name = "x"\n[data]\nlabels = ["no", "yes"]\ntrain = "a.tsv"\ndev = "b.tsv"\ntest = "c.tsv"\n'
LABELS = ("no", "yes")
# others are named after their data
ON_REVIEWS = ("movie-reviews-sparse", "movie-reviews-blocks", "edgebert", "edgebert-dense", "continuous")
DATA_OF = dict.fromkeys(ON_REVIEWS, "movie-reviews")


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe of the given text and loads it."""

    def load(text: str | bytes) -> Recipe:
        file = tmp_path / "recipe.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe(file)

    return load


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_committed_recipes(file):
    found = load_recipe(file)
    assert found.name == file.stem and found.data.set == DATA_OF.get(file.stem, file.stem)
    assert (found.deepen is None) == (found.slim is None) == (file.stem != "edgebert")
    assert (found.offramps is None) == (found.exits is None) == (not file.stem.startswith("edgebert"))
    begins = {
        "movie-reviews-sparse": "build/movie-reviews/float",
        "movie-reviews-blocks": "build/movie-reviews/float",
        "edgebert-dense": "build/edgebert/dense",
        "continuous": "build/tasks/backbone",
    }
    assert found.checkpoint == begins.get(file.stem)
    assert (found.prune is not None) == file.stem.endswith(("-sparse", "-blocks"))
    assert found.prune is None or (found.prune.pattern == "blocks") == file.stem.endswith("-blocks")
    assert found.finetune.base == "minilm-l6" and found.quantize.word_bits == (8 if found.tied else 4)
    assert (found.tied is not None) == (file.stem == "continuous")
    assert f"zynqbert train recipes/{file.name}\n" in file.read_text()


def test_every_data_set_has_a_recipe():
    assert {DATA_OF.get(file.stem, file.stem) for file in FILES} == set(DATA_SETS)


def test_defaults(recipe):
    assert recipe(LEAST) == Recipe(data=Data(set="movie-reviews"), name="x")


def test_every_field_is_taken(recipe):
    found = recipe(
        'name = "n"\nseed = 7\nthreads = 3\ndevice = "cpu"\nprecision = "bfloat16"\n'
        '[data]\nlabels = ["no", "yes"]\ntrain = "a"\ndev = "b"\ntest = "c"\nmax_length = 9\n'
        "unlabelled = false\n"
        '[finetune]\nbase = "here"\nepochs = 4\nbatch = 5\nlearning_rate = 0.5\n'
        '[quantize]\nword_bits = 8\nsoftmax = "normalized"\nword_format = "adaptivfloat"\nword_density = 0.4\n'
        "[train]\nepochs = 6\nbatch = 8\nlearning_rate = 1\ndistillation = 0\ntemperature = 3\nfeatures = 0\n"
        "[deepen]\nlayers = 8\nshare = 0.2\nepochs = 4\nbatch = 5\nlearning_rate = 0.1\n"
        "distillation = 1\ntemperature = 1\nfeatures = 2\n"
        '[slim]\ndensity = 0.25\nmethod = "movement"\nramp = 0.5\nscore_rate = 0.02\nspan_ramp = 6\nspan_rate = 2\n'
        "span_penalty = 7\nspan_from = 0.4\nanswers = 0\nheads_off = 0.75\n"
        "epochs = 5\nsettle = 2\nbatch = 6\nlearning_rate = 0.2\ndropout = 0\nnoise = 0.2\n"
        "distillation = 0.5\ntemperature = 4\nfeatures = 0.5\n"
        '[offramps]\npooler = true\nshared = true\ntrain = "frozen"\nepochs = 7\nbatch = 3\nlearning_rate = 0.3\n'
        "backbone_rate = 0.4\ndropout = 0.3\nnoise = 0\ndistillation = 0.8\ntemperature = 5\n"
        "[exits]\nlosses = [0.25, 3]\nsentences = 9\nepochs = 8\nlearning_rate = 0.6\nthresholds = 7\nseeds = 0\n"
        "firmware = 3\n"
    )
    assert found == Recipe(
        data=Data(None, LABELS, "a", "b", "c", 9),
        name="n",
        seed=7,
        threads=3,
        device="cpu",
        precision="bfloat16",
        finetune=FineTuning("here", 4, 5, 0.5),
        quantize=Quantizing(8, "normalized", "adaptivfloat", 0.4),
        train=QuantizedTraining(6, 8, 1, 0, 3, 0),
        deepen=Deepen(8, 0.2, 4, 5, 0.1, 1, 1, 2),
        slim=Slim(0.25, "movement", 0.5, 0.02, 6, 2, 7, 0.4, 0.75, 0, 5, 2, 6, 0.2, 0, 0.2, 0.5, 4, 0.5),
        offramps=OffRamps(True, True, "frozen", 7, 3, 0.3, 0.4, 0.3, 0, 0.8, 5),
        exits=Exits(9, 8, 0.6, 7, 0, (0.25, 3), 3),
    )
    assert recipe('checkpoint = "there"\n' + LEAST).checkpoint == "there"
    assert recipe(LEAST + "[prune]\ndensity = 0.5\nramp = 0.3\n").prune == Prune(0.5, 0.3)  # not beside [slim]
    assert recipe(LEAST + '[prune]\ndensity = 0.5\npattern = "blocks"\n').prune == Prune(0.5, 0.0, "blocks")


@pytest.mark.parametrize(
    "text, field",
    [
        ('word_format = "adaptivfloat"', "quantize.word_bits: 4, where AdaptivFloat codes have 8"),
        ("word_bits = 8\nword_density = 0.4", "quantize.word_density: 0.4 is below 1, which only adaptivfloat"),
    ],
)
def test_words_that_do_not_go_together(recipe, text, field):
    with pytest.raises(RecipeError, match=field):
        recipe(f"{LEAST}[quantize]\n{text}\n")


@pytest.mark.parametrize("density, pattern", [(0.6, "blocks"), (0.1, "blocks"), (0.5, "squares")])
def test_a_density_that_blocks_cannot_have(recipe, density, pattern):
    field = "prune.density: density .* is none that blocks of 4 can have" if pattern == "blocks" else "prune.pattern: "
    with pytest.raises(RecipeError, match=field):
        recipe(f'{LEAST}[prune]\ndensity = {density}\npattern = "{pattern}"\n')


def test_another_seed(recipe, tmp_path):
    recipe("seed = 3\n" + LEAST)
    assert load_recipe(tmp_path / "recipe.toml", seed=0) == Recipe(data=Data(set="movie-reviews"), name="x", seed=0)
    assert load_recipe(tmp_path / "recipe.toml").seed == 3
    with pytest.raises(RecipeError, match=r"seed: -1 is not a whole number from 0 to 2147483647; remedy: "):
        load_recipe(tmp_path / "recipe.toml", seed=-1)


STAGES = ("deepen", "slim", "offramps", "tied")
WRONG = {  # by field: a type and a range that it has not
    "name": ['""', "3", '"a/b"', '".."'],
    "seed": ["-1", "2147483648", '"0"', "1.0", "true"],
    "threads": ["0", "1025", "2.0"],
    "device": ['"gpu"', "0"],
    "precision": ['"float16"', "32"],
    "checkpoint": ['""', "[]"],
    "data.set": ['"reviews"', "1"],
    "data.labels": ['["one"]', '["a", "a"]', '["a", ""]', '["a", 1]', '"ab"', "[]"],
    "data.train": ['""', "0"],
    "data.dev": ['""', "false"],
    "data.test": ['""', '["a"]'],
    "data.max_length": ["2", "129", "64.0", '"64"', "true"],
    "data.unlabelled": ["2", '"yes"', "[]"],
    "finetune.base": ['""', "1"],
    "finetune.epochs": ["0", "1001", "2.5", "true"],
    "finetune.batch": ["0", "4097", '"32"'],
    "finetune.learning_rate": ["0", "-1e-5", "1.1", "nan", "inf", '"5e-5"', "true"],
    "quantize.word_bits": ["2", "4.0", '"4"', "true"],
    "quantize.softmax": ['"exact"', "0"],
    "quantize.word_format": ['"float"', "8"],
    "quantize.word_density": ["0", "-0.4", "1.01", "nan", '"0.4"', "true"],
    "train.epochs": ["0", "1001", "1.0"],
    "train.batch": ["0", "4097", "[32]"],
    "train.learning_rate": ["0.0", "1.001", "nan", "{}"],
    "train.distillation": ["-0.1", "1.01", "nan", '"0.7"', "true"],
    "train.temperature": ["0", "101", "-1", "inf"],
    "train.features": ["-0.5", "1001", "nan", '"1"'],
    "prune.density": ["0", "-0.5", "1.01", "nan", '"0.5"', "true"],
    "prune.ramp": ["-0.1", "0.91", "nan", '"0"', "false"],
    "prune.pattern": ['"squares"', "1"],
    "deepen.layers": ["1", "257", "12.0", "true"],
    "deepen.share": ["0", "1.1", "nan"],
    "slim.density": ["0", "1.01", "true"],
    "slim.method": ['"size"', "1"],
    "slim.ramp": ["-0.1", "0.91", '"0"'],
    "slim.score_rate": ["0", "1.1"],
    "slim.span_ramp": ["0", "129", "nan"],
    "slim.span_rate": ["0", "129"],
    "slim.span_penalty": ["-1", "nan", "true"],
    "slim.heads_off": ["-0.1", "1.1", "true"],
    "slim.settle": ["0", "1.0", "true"],
    "offramps.pooler": ["0", "1", '"no"'],
    "offramps.shared": ["0", "1", '"yes"'],
    "offramps.train": ['"together"', "true"],
    "offramps.backbone_rate": ["0", "1.1"],
    "exits.losses": ["[]", "[1, 1]", "[-0.5]", "[101]", "1", "[true]", '["1"]', "[[1]]"],
    "exits.sentences": ["0", "0.5", "true"],
    "exits.epochs": ["0", "100001", "1.0"],
    "exits.learning_rate": ["0", "1.1"],
    "exits.thresholds": ["0", "1001"],
    "exits.seeds": ["-1", "101", "true"],
    "exits.firmware": ["-1", "101", '"1"', "true"],
    **{f"{table}.epochs": ["0", "1001", "1.0"] for table in STAGES},
    **{f"{table}.batch": ["0", "4097", "[32]"] for table in STAGES},
    **{f"{table}.learning_rate": ["0", "1.1", '"1e-4"'] for table in STAGES},
    **{f"{table}.distillation": ["-0.1", "1.1", "true"] for table in STAGES},
    **{f"{table}.temperature": ["0", "101"] for table in STAGES},
    **{f"{table}.{name}": ["-0.1", "0.91"] for table in ("slim", "offramps", "tied") for name in ("dropout", "noise")},
    "slim.span_from": ["-0.1", "0.91"],
    "tied.early": ["-0.1", "1001", "true"],
    "tied.losses": ["[]", "[1, 1]", "[-0.5]", "1"],
    "slim.answers": ["-1", "1001", "true"],
    **{f"{table}.features": ["-0.5", "1001"] for table in ("deepen", "slim")},
}


def test_every_field_is_among_the_wrong_ones():
    parts = {"": Recipe} | {f"{name}.": kind for name, kind in TABLES.items()}
    fields = {at + f.name for at, kind in parts.items() for f in dataclasses.fields(kind)}
    assert set(WRONG) == fields - set(TABLES)


@pytest.mark.parametrize("field, value", [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_value(recipe, tmp_path, field, value):
    table, _, name = field.rpartition(".")
    top = "" if field == "name" else 'name = "x"\n'
    lines = {"": f"{top}{name} = {value}\n[data]\n", "data": f"{top}[data]\n{name} = {value}\n"}
    text = lines.get(table, f'{top}[data]\nset = "movie-reviews"\n[{table}]\n{name} = {value}\n')
    with pytest.raises(RecipeError) as caught:
        recipe(text)
    message = str(caught.value)
    assert caught.value.field == field
    assert message.startswith(f"{tmp_path / 'recipe.toml'}: {field}: ") and " is not " in message
    assert "; remedy: " in message and "\n" not in message


@pytest.mark.parametrize(
    "text, field",
    [
        (LEAST + "colour = 1\n", "data.colour"),
        ("epochs = 3\n" + LEAST, "epochs"),
        (LEAST + "[train]\nlabels = 2\n", "train.labels"),
        (LEAST + "[optimizer]\nname = 'sgd'\n", "optimizer"),
        (LEAST + "[finetune.more]\nx = 1\n", "finetune.more"),
    ],
)
def test_unknown_fields(recipe, text, field):
    with pytest.raises(RecipeError, match=f"{field}: unknown field; remedy: known are ") as caught:
        recipe(text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "text, field",
    [
        ('name = "x"\n', "data"),
        ("", "data"),
        ('[data]\nset = "movie-reviews"\n', "name"),
        ('name = "x"\n[data]\n', "data.labels"),
        (LEAST + "[prune]\nramp = 0.2\n", "prune.density"),
        *((OWN.replace(line, ""), f"data.{line.split()[0]}") for line in OWN.splitlines(keepends=True)[2:]),
    ],
)
def test_missing_fields(recipe, text, field):
    with pytest.raises(RecipeError, match=f"{field}: missing; remedy: ") as caught:
        recipe(text)
    assert caught.value.field == field


@pytest.mark.parametrize("own", ['labels = ["a", "b"]', 'train = "a"', 'dev = "a"', 'test = "a"'])
def test_a_set_beside_tables(recipe, own):
    field = f"data.{own.split()[0]}"
    with pytest.raises(RecipeError, match=f"{field}: stands beside data.set; remedy: ") as caught:
        recipe(LEAST + own)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "text, fault",
    [
        ('name = "x"\n[data]\nset = "policy-pairs"\nunlabelled = true\n[slim]\n', "policy-pairs has none; remedy: "),
        ('name = "x"\n' + OWN[OWN.index("[data]") :] + "unlabelled = true\n[slim]\n", "tables has none; remedy: "),
        (LEAST + "unlabelled = true\n", r"neither \[slim\] nor \[offramps\] is there to read them; remedy: "),
    ],
)
def test_texts_without_label(recipe, text, fault):
    with pytest.raises(RecipeError, match=f"data.unlabelled: {fault}") as caught:
        recipe(text)
    assert caught.value.field == "data.unlabelled"
    assert recipe(LEAST + "unlabelled = true\n[slim]\n").data.unlabelled


def test_a_checkpoint_beside_fine_tuning(recipe):
    with pytest.raises(RecipeError, match=r"checkpoint: stands beside \[finetune\]; remedy: ") as caught:
        recipe('checkpoint = "a"\n' + LEAST + "[finetune]\nepochs = 1\n")
    assert caught.value.field == "checkpoint"


@pytest.mark.parametrize("epochs, settle", [(1, 1), (3, 3), (2, 5)])
def test_epochs_to_learn_in(recipe, epochs, settle):
    with pytest.raises(RecipeError, match=rf"slim\.settle: {settle} is not below slim\.epochs, {epochs}; ") as caught:
        recipe(LEAST + f"[slim]\nepochs = {epochs}\nsettle = {settle}\n")
    assert caught.value.field == "slim.settle"
    assert recipe(LEAST + f"[slim]\nepochs = {settle + 1}\nsettle = {settle}\n").slim.settle == settle


@pytest.mark.parametrize("table", list(TABLES))
@pytest.mark.parametrize("value", ["{} = 5\n", "[[{}]]\n"])
def test_a_table_that_is_none(recipe, table, value):
    value = value.format(table)
    text = value + LEAST if value[0] != "[" else LEAST + value
    if table == "data":
        text = value + 'name = "x"\n' if value[0] != "[" else 'name = "x"\n' + value
    with pytest.raises(RecipeError, match=rf": {table}: not a table; remedy: write \[{table}\]"):
        recipe(text)


@pytest.mark.parametrize("text", ["name = ", "name = 'a'\nname = 'b'\n", b"name = '\xff'\n"])
def test_a_file_that_is_no_toml(recipe, tmp_path, text):
    with pytest.raises(RecipeError) as caught:
        recipe(text)
    assert caught.value.field == "file" and str(tmp_path / "recipe.toml") in str(caught.value)
    assert "no valid TOML" in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.toml: file: cannot be read \(No such file or directory\); remedy: "):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(RecipeError, match=r"file: cannot be read \(Is a directory\); remedy: "):
        load_recipe(tmp_path)


@pytest.mark.parametrize("text", [LEAST + "[offramp]\n", "colour = 1\n" + LEAST])
def test_unknown_tables_are_told_which_there_are(recipe, text):
    with pytest.raises(RecipeError, match=r"known are name, .*\[data\], .*\[offramps\]"):
        recipe(text)
    with pytest.raises(RecipeError) as caught:
        recipe(LEAST + "[slim]\ncolour = 1\n")
    assert "[" not in str(caught.value)


@pytest.mark.parametrize(
    "table, page",
    [
        ("[slim]\ndensity = 0\n", "edgebert"),
        ("[exits]\nseeds = -1\n", "edgebert"),
        ("unlabelled = 1\n", "edgebert"),
        ("max_length = 1\n", "training"),
        ("[train]\nepochs = 0\n", "training"),
    ],
)
def test_the_page_that_says_more(recipe, table, page):
    with pytest.raises(RecipeError, match=f"; remedy: see docs/{page}.md$"):
        recipe(LEAST + table)


def test_pruned_once(recipe):
    """What [prune] holds would apply to the dense model too, which the slim one is held against."""
    with pytest.raises(RecipeError, match=r"prune: stands beside \[slim\].*remedy: drop \[prune\]") as caught:
        recipe(LEAST + "[slim]\n[prune]\ndensity = 0.5\n")
    assert caught.value.field == "prune"
    assert recipe(LEAST + "[offramps]\n[prune]\ndensity = 0.5\n").prune == Prune(0.5)


def test_data_of_a_set(monkeypatch):
    rows = {split: [Example(split, 1)] for split in ("train", "dev", "test")}
    given = dataclasses.replace(DATA_SETS["movie-reviews"], load=rows.__getitem__)
    monkeypatch.setitem(DATA_SETS, "movie-reviews", given)
    assert Data(set="movie-reviews").load(Path("nowhere")) == (("negative", "positive"), rows)
    given = dataclasses.replace(given, unlabelled=lambda: ["a", "b"])
    monkeypatch.setitem(DATA_SETS, "movie-reviews", given)
    assert Data(set="movie-reviews").load_unlabelled() == []
    assert Data(set="movie-reviews", unlabelled=True).load_unlabelled() == ["a", "b"]


def test_data_of_tables_beside_the_recipe(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text(f"yes\tof {split}\nno\tanother\n")
    data = Data(labels=LABELS, train="train.tsv", dev="dev.tsv", test="test.tsv")
    names, examples = data.load(tmp_path)
    assert names == LABELS
    assert examples == {s: [Example(f"of {s}", 1), Example("another", 0)] for s in ("train", "dev", "test")}


# tables --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """Writes a table of these bytes and reads it."""

    def read(content: bytes) -> list[Example]:
        file = tmp_path / "table.tsv"
        file.write_bytes(content)
        return read_table(file, LABELS)

    return read


SINGLE = [Example("Good.", 1), Example("Très mal", 0)]


@pytest.mark.parametrize(
    "content",
    [
        "yes\tGood.\nno\tTrès mal\n",
        "yes\tGood.\nno\tTrès mal",
        "yes\tGood.\r\nno\tTrès mal\r\n",
        "\ufeffyes\tGood.\nno\tTrès mal\n",
        "yes\tGood.\nno\tTrès mal\n\n\n",
        "yes\tGood.\r\nno\tTrès mal\r\n\r\n",
    ],
)
def test_single_texts(table, content):
    assert table(content.encode()) == SINGLE


def test_pairs(table):
    found = table(b"no\tWho?\tNobody.\r\nyes\tWhy?\t Because.")
    assert found == [Example("Who?", 0, "Nobody."), Example("Why?", 1, " Because.")]
    assert found[0].texts == ("Who?", "Nobody.") and SINGLE[0].texts == "Good."


def test_only_line_ends_end_a_row(table):
    assert table("yes\ta\u2028b\x0bc\x85d\n".encode()) == [Example("a\u2028b\x0bc\x85d", 1)]


@pytest.mark.parametrize(
    "content, fault",
    [
        ("yes\ta\nmaybe\tb\n", "line 2: label 'maybe' is none of no, yes"),
        ("Yes\ta\n", "line 1: label 'Yes' is none of no, yes"),
        ("yes\ta\nno\n", "line 2: 1 cells"),
        ("yes a\n", "line 1: 1 cells"),
        ("yes\ta\tb\tc\n", "line 1: 4 cells"),
        ("yes\t  \n", "line 1: 2 cells, or an empty one"),
        ("yes\ta\t\n", "line 1: 3 cells, or an empty one"),
        ("yes\ta\n\nno\tb\n", "line 2: 1 cells"),
        ("yes\ta\nno\tb\tc\n", "line 2: 2 texts"),
        ("yes\ta\tb\nno\tc\n", "line 2: 1 texts"),
    ],
)
def test_a_wrong_row(table, tmp_path, content, fault):
    with pytest.raises(ValueError) as caught:
        table(content.encode())
    assert f"{tmp_path / 'table.tsv'}, {fault}" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf"])
def test_a_table_without_rows(table, tmp_path, content):
    with pytest.raises(ValueError, match=r"no rows; remedy: ") as caught:
        table(content)
    assert str(tmp_path / "table.tsv") in str(caught.value)


@pytest.mark.parametrize("content", ["no\tTrès mal\n".encode("latin-1"), "no\tmal\n".encode("utf-16")])
def test_a_table_that_is_not_utf_8(table, tmp_path, content):
    with pytest.raises(ValueError, match=r"table\.tsv: not UTF-8 .*; remedy: ") as caught:
        table(content)
    assert str(tmp_path / "table.tsv") in str(caught.value)


def test_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tsv"):
        read_table(tmp_path / "none.tsv", LABELS)
