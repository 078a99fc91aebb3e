"""Builds a model from dimensions that are typed on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.errors import BadRequest
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config


def by_hand(dimensions: Mapping[str, int | None]) -> ModelSpec:
    """Builds a model of equal attention layers from its dimensions alone.

    Needed: layers, and either kv_heads (or heads) with head_dim, or heads with hidden. Weights are
    counted as a LLaMA's when hidden, intermediate and vocab are there too; else only the cache is answered.

    >>> spec = by_hand({"layers": 32, "heads": 32, "head_dim": 128})
    >>> len(spec.layers), spec.weights_known
    (32, False)
    """
    given = {key: value for key, value in dimensions.items() if value is not None}
    for key, value in given.items():
        if value < 1:
            raise BadRequest(f"--{key.replace('_', '-')} {value} is not a size; write a number of at least 1")
    heads = given.get("heads", given.get("kv_heads"))
    head_dim, hidden = given.get("head_dim"), given.get("hidden")
    if "layers" not in given or heads is None or (head_dim is None and hidden is None):
        raise BadRequest(
            "a model by hand needs --layers, --kv-heads (or --heads), and --head-dim (or --heads with --hidden)"
        )
    known = all(key in given for key in ("heads", "hidden", "intermediate", "vocab"))
    config = {
        "model_type": "mistral" if "sliding_window" in given else "llama",
        "num_hidden_layers": given["layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": given.get("kv_heads", heads),
        "hidden_size": hidden or heads * (head_dim or 1),
        "intermediate_size": given.get("intermediate", 1),
        "vocab_size": given.get("vocab", 1),
        "tie_word_embeddings": False,
    }
    if head_dim is not None:
        config["head_dim"] = head_dim
    if "sliding_window" in given:
        config["sliding_window"] = given["sliding_window"]
    spec = read_config(config, name="by hand", where="by hand")
    if known:
        return replace(spec, notes=("weights counted as those of a LLaMA of these widths, untied",))
    missing = ", ".join(f"--{key}" for key in ("heads", "hidden", "intermediate", "vocab") if key not in given)
    return replace(
        spec,
        weights_known=False,
        warnings=(f"only the cache is answered, not weights and activations: {missing} not given",),
    )
