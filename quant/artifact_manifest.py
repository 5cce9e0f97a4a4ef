# SPDX-License-Identifier: Apache-2.0
"""What an artifact's manifest may say, field by field (docs/artifact.md). Standard library only."""

from typing import Any

from .artifact_fields import ArtifactError, Fields, check_version, is_int, is_positive, is_sha256, same_shape

FORMAT, MAJOR, MINOR = "zynqbert-artifact", 2, 2
MODEL, TOKENIZER, MANIFEST = "model.safetensors", "tokenizer.json", "manifest.json"
MAX_NORM_ENTRIES, MAX_ENTRIES = 1280, 4608  # of the engine (docs/program.md)
MAX_EXIT_LAYERS, MAX_THRESHOLD = 63, 32767  # of an EXIT instruction
MAX_ADAPTER_WIDTH = 512
ADAPTER_ACTIVATIONS = ("relu", "silu", "tanh", "gelu", "gelu_new")
_TOP_1, _ARCHITECTURE_1 = ("spans", "exits"), ("layer_heads", "word_format")  # that 2.1 has and 2.0 has not
_TOP_2 = ("adapters",)  # that 2.2 has and 2.1 has not


def check_manifest(file: object, manifest: Any) -> None:
    """Every field's presence, type and bounds, but for `tensors`, which are checked against the architecture."""
    minor = check_version(file, manifest, FORMAT, (MAJOR, MINOR), "give the folder of an artifact")
    names = ("format", "version", "architecture", "task", "entries", "scales", "softmax", "tensors", "files", "metrics")
    top = Fields(file, "", manifest, (*names, *(_TOP_1 if minor else ()), *(_TOP_2 if minor >= 2 else ())))
    top.check("tensors", lambda x: isinstance(x, dict), "an object")
    top.check("metrics", lambda x: isinstance(x, dict), "an object")
    check_encoder(top, minor)
    check_task(file, manifest["task"], manifest["architecture"]["positions"])
    if minor:
        check_exits(file, manifest)
    if minor >= 2 and manifest["adapters"] is not None and manifest["task"]["kind"] != "sequence":
        raise ArtifactError(file, "adapters", f"kind {manifest['task']['kind']}: adapters need kind sequence")
    check_scales(file, manifest["scales"], ("logits", "activations"))
    check_files(file, manifest["files"], (MODEL, TOKENIZER))


def check_encoder(top: Fields, minor: int) -> None:
    """What a model has before it has a task: architecture, entries, softmax, spans, adapters."""
    top.choice("softmax", "numerator", "normalized")
    architecture = top.value["architecture"]
    _check_architecture(top.file, architecture, minor)
    _check_entries(top.file, top.value["entries"], architecture)
    if minor:
        _check_spans(top, architecture["layer_heads"])
    if minor >= 2 and top.value["adapters"] is not None:
        _check_adapters(top.file, top.value["adapters"], architecture)


def check_scales(file: object, scales: Any, names: tuple[str, ...]) -> None:
    """`names`: "activations", and "logits" where there is a classifier."""
    of = Fields(file, "scales.", scales, names)
    if "logits" in names:
        of.check("logits", is_positive, "a number above 0")
    good = lambda x: isinstance(x, dict) and all(map(is_positive, x.values()))  # noqa: E731
    of.check("activations", good, "an object of numbers above 0")


def check_files(file: object, files: Any, names: tuple[str, ...]) -> None:
    """A sha256 of just these files."""
    of = Fields(file, "files.", files, names)
    for name in names:
        entry = Fields(file, f"files.{name}.", of.value[name], ("sha256",))
        entry.check("sha256", is_sha256, "a sha256 in hexadecimal")


def with_defaults(manifest: dict) -> dict:
    """The manifest with the fields that older versions do not have: all heads are left and see all, no sentence leaves
    early, there are no adapters."""
    a = manifest["architecture"]
    defaults = {"layer_heads": [a["heads"]] * a["layers"], "word_format": "integer"}
    architecture = a | {name: value for name, value in defaults.items() if name not in a}
    return {**manifest, "architecture": architecture, **{name: manifest.get(name) for name in _TOP_1 + _TOP_2}}


def _check_architecture(file: object, architecture: Any, minor: int) -> None:
    names = ("family", "layers", "hidden", "embedding", "heads", "head_width", "ffn", "vocab", "positions", "types")
    names = (*names, "activation", "word_bits", "weights", *(_ARCHITECTURE_1 if minor else ()))
    a = Fields(file, "architecture.", architecture, names)
    family = a.choice("family", "bert", "albert")
    a.choice("activation", "gelu", "gelu_new")
    a.choice("word_bits", 4, 8)
    layers, hidden = a.integer("layers", 1, 256), a.integer("hidden", 32, 1024)
    embedding = a.integer("embedding", 8, 1024)
    heads, width = a.integer("heads", 1, 32), a.choice("head_width", 32, 64)
    if heads * width != hidden:
        a.fail("hidden", f"heads × head_width = {heads * width}")
    if family == "bert" and embedding != hidden:
        a.fail("embedding", f"hidden = {hidden}, as bert has it")
    a.integer("ffn", 1, MAX_ENTRIES)
    a.integer("vocab", 1, 2**24)
    a.integer("types", 1, 2**16 - 1)
    a.integer("positions", 1, 128)
    weights = a.counts("weights", layers, 0, layers - 1)
    if any(j > i or weights[j] != j for i, j in enumerate(weights)):
        a.fail("weights", "for each layer itself, or an earlier one that uses its own matrices")
    if minor:
        if a.choice("word_format", "integer", "adaptivfloat") == "adaptivfloat" and architecture["word_bits"] != 8:
            a.fail("word_bits", "8, as AdaptivFloat codes have")
        left = a.counts("layer_heads", layers, 1, heads)
        if any(left[i] != left[j] for i, j in enumerate(weights)):
            a.fail("layer_heads", "such that layers which share matrices have equally many heads")


def _check_spans(top: Fields, layer_heads: list[int]) -> None:
    def good(spans: Any) -> bool:
        return spans is None or (
            isinstance(spans, list)
            and len(spans) == len(layer_heads)
            and all(isinstance(of, list) and len(of) == heads for of, heads in zip(spans, layer_heads, strict=True))
            and all(is_int(span, 1, 128) for of in spans for span in of)
        )

    top.check("spans", good, f"null or, for each layer, as many integers from 1 to 128 as layer_heads: {layer_heads}")


def check_exits(file: object, manifest: dict) -> None:
    """Off-ramps: null, or of a classifier of sequences whose scores are a softmax, which has an entropy."""
    if manifest["exits"] is None:
        return
    layers, task = manifest["architecture"]["layers"], manifest["task"]
    e = Fields(file, "exits.", manifest["exits"], ("entropy", "row_shift", "pooler", "points"))
    if not 2 <= layers <= MAX_EXIT_LAYERS:
        raise ArtifactError(file, "exits", f"{layers} layers are not 2 to {MAX_EXIT_LAYERS}, which off-ramps need")
    if (task["kind"], task["scores"]) != ("sequence", "softmax") or len(task["labels"]) < 2:
        found = f"{len(task['labels'])} labels, kind {task['kind']}, scores {task['scores']}"
        raise ArtifactError(file, "exits", f"{found}: off-ramps need a sequence's softmax over 2 labels or more")
    good = lambda x: isinstance(x, list) and len(x) == 2 and is_int(x[0], 32768, 65535) and is_int(x[1], 1, 31)  # noqa: E731
    e.check("entropy", good, "m_e from 32768 to 65535 and s_e from 1 to 31")
    e.integer("row_shift", 0, 15)
    e.choice("pooler", True, False)
    points = e.check("points", lambda x: isinstance(x, dict) and all(x), "an object of named operating points")
    for name, point in points.items():
        _check_point(file, f"exits.points.{name[:40]}", point, layers)


def _check_adapters(file: object, adapters: Any, architecture: dict) -> None:
    """Bottleneck adapters behind both branches of every layer, of its own or an earlier layer's with its matrices."""
    of = Fields(file, "adapters.", adapters, ("width", "activation", "owners"))
    of.integer("width", 1, MAX_ADAPTER_WIDTH)
    of.choice("activation", *ADAPTER_ACTIVATIONS)
    layers, weights = architecture["layers"], architecture["weights"]
    owners = of.counts("owners", layers, 0, layers - 1)
    if any(j > i or owners[j] != j or weights[i] != weights[j] for i, j in enumerate(owners)):
        of.fail("owners", "for each layer itself, or an earlier one that uses its own adapters and the same matrices")


def _check_point(file: object, at: str, point: Any, layers: int) -> None:
    """One operating point: what the engine needs of it; beside that it may hold what was measured."""

    def theta(at: str, of: Any) -> None:
        if not isinstance(of, dict):
            raise ArtifactError(file, at, "not an object")
        if "threshold" not in of:
            raise ArtifactError(file, f"{at}.threshold", "missing")
        if not is_int(of["threshold"], 0, MAX_THRESHOLD):
            found = repr(of["threshold"])[:60]
            raise ArtifactError(file, f"{at}.threshold", f"{found} is not an integer from 0 to {MAX_THRESHOLD}")

    theta(at, point)
    if "foretold" not in point:
        raise ArtifactError(file, f"{at}.foretold", "missing")
    if (foretold := point["foretold"]) is not None:
        theta(f"{at}.foretold", foretold)
        table = foretold.get("table")
        if not isinstance(table, list) or len(table) != 256 or not all(is_int(x, 0, layers) for x in table):
            raise ArtifactError(file, f"{at}.foretold.table", f"not a list of 256 integers from 0 to {layers}")


def check_task(file: object, task: Any, positions: int) -> None:
    t = Fields(file, "task.", task, ("kind", "scores", "labels", "max_length"))
    t.choice("kind", "sequence", "token")
    t.choice("scores", "softmax", "sigmoid", "none")
    t.integer("max_length", 1, positions)
    labels = t.check("labels", lambda x: isinstance(x, list) and 1 <= len(x) <= 1024, "a list of 1 to 1024 names")
    if not all(isinstance(label, str) and label for label in labels) or len(set(labels)) != len(labels):
        t.fail("labels", "a list of different names")


def _check_entries(file: object, entries: Any, architecture: dict) -> None:
    """The counts' bounds, and that layers which share matrices have equal K and N."""
    layers, hidden, weights = (architecture[name] for name in ("layers", "hidden", "weights"))
    albert = architecture["family"] == "albert"
    e = Fields(file, "entries.", entries, ("embedding_norm", "mapping", "attention_norm", "ffn_norm", "ffn"))
    first = e.counts("embedding_norm", 1, architecture["embedding"], MAX_NORM_ENTRIES)
    mapping = e.counts("mapping", 1 if albert else 0, hidden, MAX_NORM_ENTRIES)
    attention_norm = e.counts("attention_norm", layers, hidden, MAX_NORM_ENTRIES)
    ffn_norm = e.counts("ffn_norm", layers, hidden, MAX_NORM_ENTRIES)
    ffn = e.counts("ffn", layers, architecture["ffn"], MAX_ENTRIES)
    before = [*(mapping or first), *ffn_norm]  # K of q, k, v of each layer
    for i, j in enumerate(weights):
        wanted = f"such that layers {j} and {i}, which share matrices, have equal K and N"
        for name, counts in (("ffn_norm", before), ("attention_norm", attention_norm), ("ffn", ffn)):
            if counts[i] != counts[j]:
                e.fail(name, wanted)


def check_tensor_list(file: object, manifest: dict, expected: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """`tensors` of the manifest holds the expected names, dtypes and shapes, each with a sha256."""
    tensors = Fields(file, "tensors.", manifest["tensors"], tuple(expected))
    for name, (dtype, shape) in expected.items():
        entry = Fields(file, f"tensors.{name}.", tensors.value[name], ("dtype", "shape", "sha256"))
        entry.choice("dtype", dtype)
        entry.check("shape", lambda x, s=shape: same_shape(x, s), f"{list(shape)}")
        entry.check("sha256", is_sha256, "a sha256 in hexadecimal")
