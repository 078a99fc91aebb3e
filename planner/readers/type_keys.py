"""Which keys the config class of a model type has: what it does not have, no file of that type can set.

`model_configs/type_keys.jsonl` is written by `benchmarks/type_keys.py` from the classes of transformers: a line a type,
with those of the shared keys below that the class has, its other names for them (`attribute_map`), and whether it ties
the head by default. A type without a class there (remote code) reads every key that its rules name.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache

import model_configs
from planner.frozen import dataclass

# Keys that the shared builders ask for under their common names, whatever the type.
SHARED = frozenset(
    """
    attention_bias attention_chunk_size encoder_attention_heads encoder_ffn_dim encoder_layers decoder_attention_heads
    decoder_ffn_dim decoder_layers head_dim intermediate_size max_window_layers mlp_bias moe_intermediate_size n_shared_experts
    num_experts num_experts_per_tok num_key_value_heads q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim qkv_bias
    shared_expert_intermediate_size sliding_window use_sliding_window v_head_dim word_embed_proj_dim
    """.split()
)

# Names of our own for structure that a type implies: no published file has them.
INTERNAL = frozenset(
    """
    attn_gate attn_sinks decoder_positions embed_norms encoder_positions expert_bias final_norm k_bias layer_norms
    learned_positions lm_head_bias mlp_4x mlp_gated norm norm_affine o_bias padded_source period position_offset
    q_rank_required qk_norm relative_bias router_bias shared_gate untied_tables num_heads_never_read
    """.split()
)


@dataclass(frozen=True, eq=False, repr=False)
class TypeKeys:
    """What one config class has. `aliases`: another name -> the key that it sets; `ties`: the head, by default."""

    keys: frozenset[str] = SHARED
    aliases: Mapping[str, str] = field(default_factory=dict)
    ties: bool | None = None
    known: bool = False

    def names_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """`names` with the other names that set them in front: where a file has both, transformers takes the alias."""
        if not self.aliases:
            return names
        return tuple(alias for alias, key in self.aliases.items() if key in names) + names

    def foreign(self, name: str) -> bool:
        """Tells whether the type's class lacks a shared key, so that its implementation never sees it."""
        if name in self.keys or name in self.aliases:
            return False
        return name in INTERNAL or (self.known and name in SHARED)


ANY = TypeKeys()


@lru_cache(maxsize=64)
def type_keys(model_type: str) -> TypeKeys:
    """The keys of a type's class.

    >>> type_keys("gpt_neox").foreign("num_key_value_heads"), type_keys("llama").foreign("num_key_value_heads")
    (True, False)
    >>> type_keys("bart").aliases["num_hidden_layers"]
    'encoder_layers'
    """
    start = f'{{"type": {json.dumps(model_type)}, '
    for line in _lines():
        if line.startswith(start):
            row = json.loads(line)
            return TypeKeys(frozenset(row["keys"].split()), row["aliases"], row["ties"], True)
    return ANY


@lru_cache(maxsize=1)
def _lines() -> tuple[str, ...]:
    path = os.path.join(os.path.dirname(str(model_configs.__file__)), "type_keys.jsonl")
    with open(path, encoding="utf-8") as file:  # pathlib costs as long as a tenth of the answer
        return tuple(file.read().splitlines())
