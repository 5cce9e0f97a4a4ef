# SPDX-License-Identifier: Apache-2.0
"""Small random BERT classifiers on disk, with a WordPiece tokenizer, for the tests."""

import json

import torch
from transformers import BertConfig, BertForSequenceClassification

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


def tokenizer_json() -> str:
    special = [{"id": WORDS.index(w), "content": w, "special": True, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False} for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")]  # fmt: skip
    piece = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
             {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    return json.dumps({
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": piece, "pair": piece, "special_tokens": {
            w: {"id": w, "ids": [WORDS.index(w)], "tokens": [w]} for w in ("[CLS]", "[SEP]")}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(WORDS)}},
    })  # fmt: skip


def random_classifier(path, **changes):
    """A random classifier whose activations are of trained models' size, two outlier channels in its norms included."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**{**CONFIG, "vocab_size": 200, **changes})).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("LayerNorm.weight"):
            parameter.data = 1 + 0.2 * torch.randn_like(parameter)
            parameter.data[[3, 40]] = torch.tensor([8.0, -5.0])
        elif name.endswith("bias"):
            parameter.data = 0.2 * torch.randn_like(parameter)
        elif "embeddings" not in name:
            parameter.data = torch.randn_like(parameter) * (1.3 / parameter.shape[1] ** 0.5)
    model.save_pretrained(path)
    (path / "tokenizer.json").write_text(tokenizer_json())
