"""Decoders with multi-head latent attention (MLA): DeepSeek V2 and its heirs, with and without a sparse indexer.

Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source.
"""

from __future__ import annotations

from dataclasses import replace

from planner.mixers import LatentAttention, Mixer
from planner.readers.fields import Fields
from planner.readers.types import Type

# One latent serves all heads, so the number of KV heads changes nothing; head_dim repeats a rope or q width.
MLA_IGNORES = ("num_key_value_heads", "head_dim")


def latent_attention(f: Fields) -> LatentAttention:
    """MLA by DeepSeek's keys, without an indexer.

    `q_lora_rank` null means a direct query projection. DeepSeek's files always write the key (a number or
    null), so a file without it had its nulls stripped: absent means null too, not the class default 1536.
    """
    f.ignore(*MLA_IGNORES)
    return LatentAttention(
        hidden=f.int("hidden_size"),
        heads=f.int("num_attention_heads"),
        q_rank=f.int("q_lora_rank") if f.flag("q_rank_required") else f.maybe_int("q_lora_rank"),
        kv_rank=f.int("kv_lora_rank"),
        nope_dim=f.int("qk_nope_head_dim"),
        rope_dim=f.int("qk_rope_head_dim", low=0),
        v_dim=f.int("v_head_dim"),
        bias=f.flag("attention_bias"),
    )


def mla(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Layers that cache latent and rope key only."""
    return (latent_attention(f),)


def mla_with_indexer(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Layers with a sparse indexer of their own: one key of `index_head_dim` a token besides."""
    heads, width = f.int("index_n_heads"), f.int("index_head_dim")
    return (replace(latent_attention(f), indexer_heads=heads, indexer_dim=width),)


TYPES: dict[str, Type] = {}
