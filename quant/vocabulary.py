# SPDX-License-Identifier: Apache-2.0
"""Drop the words of a vocabulary that no text can produce: BERT's ~1,000 `[unusedN]`, 0.4 MB of embeddings.

`BertPreTokenizer` splits at every punctuation mark, so a WordPiece with brackets inside never matches a piece of text,
unless it is an added (special) token. What stays is renumbered in order, in the embedding and in the tokenizer alike.
"""

import dataclasses
import json
import re

import torch

from .checkpoint import Checkpoint

_UNUSED = re.compile(r"\[unused\d+\]")


def drop_unused_words(checkpoint: Checkpoint) -> Checkpoint:
    """The same classifier without unreachable words; unchanged where the tokenizer is of another kind."""
    tokenizer = json.loads(checkpoint.tokenizer_json)
    model, added = tokenizer["model"], tokenizer.get("added_tokens") or []
    special = (tokenizer.get("post_processor") or {}).get("type")
    pre = (tokenizer.get("pre_tokenizer") or {}).get("type")
    if model.get("type") != "WordPiece" or pre != "BertPreTokenizer" or special != "TemplateProcessing":
        return checkpoint
    vocab, weights = model["vocab"], checkpoint.weights
    reached = {token["content"] for token in added}
    dropped = {i for word, i in vocab.items() if _UNUSED.fullmatch(word) and word not in reached}
    kept = [i for i in range(weights.architecture.vocab) if i not in dropped]
    number = {old: new for new, old in enumerate(kept)}
    model["vocab"] = {word: number[i] for word, i in vocab.items() if i in number}
    for token in added:
        token["id"] = number[token["id"]]
    for token in tokenizer["post_processor"]["special_tokens"].values():
        token["ids"] = [number[i] for i in token["ids"]]
    architecture = dataclasses.replace(weights.architecture, vocab=len(kept))
    word = weights.word[torch.tensor(kept)]
    return dataclasses.replace(
        checkpoint,
        weights=dataclasses.replace(weights, architecture=architecture, word=word),
        tokenizer_json=json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")),
    )
