"""Decoders with mixtures of experts and ordinary attention: Mixtral and its heirs.

Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source.
"""

from __future__ import annotations

from planner.errors import BadConfig
from planner.readers.fields import Fields
from planner.readers.plans import CHUNKED, DENSE, FULL, MOE, layer_count, listed
from planner.readers.types import Type


def _llama4_attention(f: Fields) -> list[str]:
    """Rope layers attend in chunks, the others (every fourth) to everything; without a chunk size all do."""
    layers = layer_count(f)
    rope = f.int_list("no_rope_layers") or []
    interval = f.int("no_rope_layer_interval")
    if not rope:
        rope = [(i + 1) % interval for i in range(layers)]
    if len(rope) < layers:
        raise BadConfig(
            f"{f.where}: key 'no_rope_layers' has {len(rope)} entries for {layers} layers; one each is wanted"
        )
    return [CHUNKED if on else FULL for on in rope[:layers]]


_LLAMA4_TYPES = listed("layer_types", {FULL: FULL, CHUNKED: CHUNKED}, _llama4_attention)


def _llama4_kinds(f: Fields) -> list[str]:
    kinds = _LLAMA4_TYPES(f)
    return [FULL] * len(kinds) if f.get("attention_chunk_size") is None else kinds


def _llama4_mlps(f: Fields) -> list[str]:
    """Experts in the layers listed, else in every `interleave_moe_layer_step`-th."""
    step = f.int("interleave_moe_layer_step")
    chosen = f.int_list("moe_layers")
    layers = range(layer_count(f))
    sparse = set(layers[step - 1 :: step] if chosen is None else chosen)
    return [MOE if i in sparse else DENSE for i in layers]


TYPES: dict[str, Type] = {
    "llama4_text": Type(
        # Shared expert: one of an expert's width. q and k are normed without gains.
        renames={"intermediate_size": "intermediate_size_mlp", "moe_intermediate_size": "intermediate_size",
                 "shared_expert_intermediate_size": "intermediate_size", "num_experts": "num_local_experts"},
        defaults={"intermediate_size": 16384, "moe_intermediate_size": 8192, "shared_expert_intermediate_size": 8192,
                  "head_dim": 128, "num_key_value_heads": 8, "num_experts_per_tok": 1, "num_experts": 16,
                  "no_rope_layer_interval": 4, "interleave_moe_layer_step": 1, "attention_chunk_size": 8192},
        kinds=_llama4_kinds,
        mlp_kinds=_llama4_mlps,
    ),
}  # fmt: skip
