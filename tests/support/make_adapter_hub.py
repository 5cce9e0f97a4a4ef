# SPDX-License-Identifier: Apache-2.0
"""Write tests/support/adapter_hub/: tiny adapters that the `adapters` library saved, and what it answered with them.

    python -m pip install adapters==1.3.0 && python tests/support/make_adapter_hub.py

The backbones are tiny_bert.random_model of BACKBONES. "bert" has the head of transformers' class, "albert" one that the
library added; there, no adapter stands at attention.
"""

import json
from pathlib import Path

import torch
from tiny_bert import random_model

FOLDER = Path(__file__).parent / "adapter_hub"
BACKBONES = {
    "bert": dict(num_hidden_layers=1, num_labels=2),
    "albert": dict(num_hidden_layers=4, num_hidden_groups=2, num_labels=2),
}
IDS = [[4, 6, 7, 5], [4, 6, 6, 9, 8, 5], [4, 7, 9, 8, 6, 8, 5]]  # of words in tiny_bert.WORDS


def loud(model: torch.nn.Module) -> None:
    """Adapters and heads that matter, in place of the library's small first ones."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "adapters.gems" in name or name.startswith(("heads", "classifier")):
            parameter.data = torch.randn_like(parameter) * (1.5 / parameter.shape[-1] ** 0.5)


def main() -> None:
    import adapters  # no requirement of this project

    for family, changes in BACKBONES.items():
        model = random_model(family=family, **changes)
        if family == "bert":
            adapters.init(model)
        else:
            plain, model = model, adapters.AlbertAdapterModel(model.config)
            model.albert.load_state_dict(plain.albert.state_dict(), strict=False)  # beside its own, still empty parts
            named = {0: "stone", 1: "gem"}
            model.add_classification_head("gems", num_labels=2, layers=1, use_pooler=True, id2label=named)
        settings = dict(reduction_factor=32, non_linearity="swish" if family == "bert" else "gelu")
        settings = adapters.BnConfig(mh_adapter=family == "bert", output_adapter=True, **settings)
        model.add_adapter("gems", config=settings, set_active=True)
        loud(model.eval())
        model.save_adapter(str(FOLDER / family), "gems", with_head=True)
        with torch.inference_mode():
            logits = [model(input_ids=torch.tensor([ids])).logits[0].tolist() for ids in IDS]
        (FOLDER / f"{family}.json").write_text(json.dumps({"ids": IDS, "logits": logits}) + "\n")


if __name__ == "__main__":
    main()
