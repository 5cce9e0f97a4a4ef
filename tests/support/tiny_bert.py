# SPDX-License-Identifier: Apache-2.0
"""Small random BERT and ALBERT classifiers on disk, with a WordPiece tokenizer, for the tests."""

import json

import torch
from safetensors.torch import save_file
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedModel,
)

WORDS = ["[PAD]", "[unused0]", "[UNK]", "[unused1]", "[CLS]", "[SEP]", "a", "gem", ".", "##s", "[unused2]"]
CONFIG = dict(
    vocab_size=len(WORDS) + 2,  # two rows that no token names
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=70,
    max_position_embeddings=140,
    num_labels=3,
)
_MODELS = {
    ("bert", "sequence"): BertForSequenceClassification,
    ("bert", "token"): BertForTokenClassification,
    ("albert", "sequence"): AlbertForSequenceClassification,
    ("albert", "token"): AlbertForTokenClassification,
}


def tokenizer_json() -> str:
    special = [{"id": WORDS.index(w), "content": w, "special": True, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False} for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")]  # fmt: skip
    single = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return json.dumps({
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {
            w: {"id": w, "ids": [WORDS.index(w)], "tokens": [w]} for w in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(WORDS)}},
    })  # fmt: skip


def save_tokenizer(path) -> None:
    """The tokenizer's files, as transformers' AutoTokenizer and pipelines read them for either family."""
    (path / "tokenizer.json").write_text(tokenizer_json())
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    (path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named}))


def random_model(*, family: str = "bert", kind: str = "sequence", **changes) -> PreTrainedModel:
    """A random classifier whose activations are of trained models' size, two outlier channels in its norms included.

    `changes` are fields of its configuration; an ALBERT's embeddings are 48 wide unless they say otherwise.
    """
    torch.manual_seed(0)
    config = {"bert": BertConfig, "albert": AlbertConfig}[family]
    sizes = {**CONFIG, "vocab_size": 200} | ({"embedding_size": 48} if family == "albert" else {})
    model = _MODELS[family, kind](config(**{**sizes, **changes})).eval()
    for name, parameter in model.named_parameters():
        if name.lower().endswith(("layernorm.weight", "layer_norm.weight")):
            parameter.data = 1 + 0.2 * torch.randn_like(parameter)
            parameter.data[[3, 40]] = torch.tensor([8.0, -5.0])
        elif name.endswith("bias"):
            parameter.data = 0.2 * torch.randn_like(parameter)
        elif "embeddings" not in name:
            parameter.data = torch.randn_like(parameter) * (1.3 / parameter.shape[1] ** 0.5)
    return model


def random_classifier(path, **options) -> PreTrainedModel:
    """`random_model(**options)`, saved in the folder `path` with its tokenizer."""
    model = random_model(**options)
    model.save_pretrained(path)
    save_tokenizer(path)
    return model


def make_slim(path, spans: list[list[int]] | None = None, pooler: bool | None = None) -> None:
    """Give a saved classifier of sequences spans of its heads and, unless `pooler` is None, random off-ramps."""
    config = json.loads((path / "config.json").read_text())
    if spans is not None:
        config["zynqbert_spans"] = spans
    if pooler is not None:
        config["zynqbert_offramps"] = {"pooler": pooler, "shared": False, "trained": "frozen"}
        random, hidden, labels = torch.Generator().manual_seed(1), config["hidden_size"], len(config["id2label"])
        shapes = {"weight": (labels, hidden), "bias": (labels,)}
        shapes |= {"pooler.weight": (hidden, hidden), "pooler.bias": (hidden,)} if pooler else {}
        layers = config["num_hidden_layers"] * config.get("inner_group_num", 1)
        tensors = {
            f"{i}.{n}": 1.3 * torch.randn(s, generator=random) for i in range(layers - 1) for n, s in shapes.items()
        }
        for name, tensor in tensors.items():
            tensor.mul_(0.2 if name.endswith("bias") else hidden**-0.5)
        save_file(tensors, path / "offramps.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(config))
