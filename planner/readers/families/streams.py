"""Decoders that carry several residual streams between their layers: Qwen4-Exp (Qwen3.8-Flash-Next) and Hy4.

Defaults and structure as in the configuration and modelling files of transformers 5.24.0. Router correction
biases are buffers there, not parameters.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from planner.errors import BadConfig
from planner.model.attention import Mixer
from planner.model.recurrent import NGRAMS, StateMixer, StatePart
from planner.model.sparse_attention import BlockIndexer
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.families import hybrid, latent
from planner.readers.families.state_keys import ATTENTION_KEYS, DELTA_KEYS, LINEAR, NAMES
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import DENSE, FULL, MOE, all_of, every, layer_count, listed
from planner.readers.model_types import Type
from planner.units import ceil_div

STREAMS, TABLE = "hyper_connection", "per_layer_embedding"
MAX_PRIME = 10**8  # published: 20 million; the search for primes below this stays short
NGRAM_PARTS = {"ngram_size": 3, "heads_per_ngram": 8, "ngram_vocab_size_base": 20_000_000}


# --- Qwen4-Exp -------------------------------------------------------------------------------------------


def _mixer_of_streams(f: Fields) -> tuple[Weight, ...]:
    """Folds m streams into one: a norm of m·hidden, down [rank, m·hidden] and up [m·hidden, rank]."""
    wide, rank = f.int("hc_count", low=2) * f.int("hidden_size"), f.int("hc_lowrank")
    return (
        vector("norm", wide),
        Weight(STREAMS, rank, wide, linear=False),
        Weight(STREAMS, wide, rank, linear=False),
    )


def _connections(f: Fields, index: int) -> tuple[Weight, ...]:
    """Before attention and before the experts: a fold, and what goes back to each stream [m, m·hidden]."""
    streams = f.int("hc_count", low=2)
    back = Weight(STREAMS, streams, streams * f.int("hidden_size"), linear=False)
    return (*_mixer_of_streams(f), back) * 2


def _indexed(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Gated attention; with `indexer_n_heads` an indexer, which keeps one key a token besides."""
    base = hybrid.gated_attention(f, index)
    heads = f.maybe_int("indexer_n_heads")
    if heads is None:
        return base
    f.maybe_int("indexer_kv_heads", low=1)
    pool = f.int("indexer_compress_ratio", 1)
    return (*base, BlockIndexer(f.int("hidden_size"), heads, f.int("indexer_head_dim"), pool))


def _linear(f: Fields, index: int) -> tuple[Mixer, ...]:
    """A gated delta net; layers of `ple_layer_ids` (counted from one) look up n-grams of tokens before it."""
    base = hybrid.gated_delta_net_layer(f, index)
    ids = sorted(set(f.int_list("ple_layer_ids", low=1) or []))
    return (*base, _ngrams(f, ids.index(index + 1))) if index + 1 in ids else base


def _qwen4_mtp(f: Fields) -> tuple[Weight, ...]:
    """A whole layer of indexed attention with its connections, a fold, a projection of two vectors to one, norms.

    Source: Qwen3.8-Flash-Next holds 2,607,150,848 parameters beyond its layers and its vision tower: these.
    """
    count, hidden = f.int("mtp_num_hidden_layers", 0, low=0, high=MAX_LAYERS), f.int("hidden_size")
    if not count:
        return ()
    layer = tuple(w for piece in (*_indexed(f, 0), *decoder.moe(f, 0)) for w in piece.weights())
    norms = vector("norm", hidden, 1 + f.int("hc_count", low=2))
    return (*linear("mtp", hidden, 2 * hidden), norms, *_mixer_of_streams(f), *((*layer, *_connections(f, 0)) * count))


def _ngrams(f: Fields, order: int) -> StateMixer:
    """A hashed table for each n-gram and head, its projections to key and value, a dilated convolution.

    table [the sum of its heads' primes, rounded up, embed / heads], key [m·hidden, embed], value [hidden,
    embed], three norms of m·hidden, conv [m·hidden, kernel]. State: (kernel - 1)·n columns of m·hidden (the ids
    of the n - 1 tokens before, 8 bytes each, are not counted).
    """
    hidden, largest = f.int("hidden_size"), f.int("ngram_size", low=2, high=64)
    wide, kernel = f.int("hc_count", low=2) * hidden, f.int("ple_conv_kernel_size", 4)
    heads, embed = (largest - 1) * f.int("heads_per_ngram", high=4096), f.int("ple_embed_dim", hidden)
    if embed % heads:
        raise BadConfig(f"{f.where}: ple_embed_dim {embed} is not a multiple of {heads} n-gram heads")
    base = f.int("ngram_vocab_size_base", high=MAX_PRIME)
    primes = _primes_from(base, (order + 1) * heads)[order * heads :]
    step = f.int("make_ngram_vocab_size_divisible_by", 128)
    rows = step * ceil_div(sum(primes), step)
    weights = (
        Weight(TABLE, rows, embed // heads, split="rows", linear=False),
        *linear(TABLE, wide, embed),
        *linear(TABLE, hidden, embed),
        vector("norm", wide, 3),
        Weight(TABLE, wide, kernel, linear=False),
    )
    columns = (kernel - 1) * largest
    return StateMixer("n-grams", weights, (StatePart(NGRAMS, wide * columns, columns=columns),))


@lru_cache(maxsize=8)
def _primes_from(start: int, count: int) -> tuple[int, ...]:
    """The first `count` primes from `start` on.

    >>> _primes_from(20_000_000, 2)
    (20000003, 20000023)
    """
    found: list[int] = []
    number = max(start, 2)
    while len(found) < count:
        if number == 2 or (number % 2 and all(number % odd for odd in range(3, int(number**0.5) + 1, 2))):
            found.append(number)
        number += 1
    return tuple(found)


# --- Hy4 -------------------------------------------------------------------------------------------------


def _hy4_kinds(f: Fields) -> list[str]:
    """`indexer_types`: full owns an indexer, shared takes the last one's choice; else layers 0, 1, 5, 9... own one."""
    listed("layer_types", {"deepseek_sparse_attention": FULL, latent.INDEXED: FULL}, all_of(FULL))(f)
    names = {"full": latent.INDEXED, "shared": FULL}

    def rule(f: Fields) -> list[str]:
        return [latent.INDEXED if i == 0 or i % 4 == 1 else FULL for i in range(layer_count(f))]

    return listed("indexer_types", names, rule)(f)


def _hy4_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """A sink for each head, a gate for each number that attention puts out, connections before both halves.

    Connections: projection [2m, m·hidden], base [2m] and two scales.
    """
    hidden, streams = f.int("hidden_size"), f.int("hc_mult", 4)
    connection = (Weight(STREAMS, 2 * streams, streams * hidden, linear=False), vector(STREAMS, 2 * streams + 2))
    return (*_hy4_gate(f), *(connection * 2))


def _hy4_gate(f: Fields) -> tuple[Weight, ...]:
    heads = f.int("num_attention_heads")
    gate = linear(
        "attention", heads * f.int("v_head_dim"), f.int("hidden_size"), split="rows", units=heads, name="gate_proj"
    )
    return (vector("attention", heads, split="rows"), *gate)


def _hy4_head(f: Fields) -> tuple[Weight, ...]:
    """The streams are folded into one before the head: [m, m·hidden], m and 1."""
    streams = f.int("hc_mult", 4)
    return (Weight(STREAMS, streams, streams * f.int("hidden_size"), linear=False), vector(STREAMS, streams + 1))


def _hy4_mtp(f: Fields) -> tuple[Weight, ...]:
    """A whole layer with its own indexer and one stream, a projection of two vectors to one, three norms.

    Source: Hy4-preview holds 10,053,583,680 parameters beyond its layers and router biases: these.
    """
    count, hidden = f.int("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS), f.int("hidden_size")
    if not count:
        return ()
    layer = (w for piece in (*latent.mla_with_indexer(f, 0), *decoder.moe(f, 0)) for w in piece.weights())
    own = (*linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 5))
    return (*layer, *_hy4_gate(f), *own) * count


TYPES: dict[str, Type] = {
    "qwen4_exp_text": Type(
        renames={"num_experts": ("num_experts", "num_local_experts")},
        defaults={**hybrid.QWEN_MOE_DEFAULTS, **NGRAM_PARTS, "num_experts": 512, "num_experts_per_tok": 10,
                  "hc_count": 4, "hc_lowrank": 320},
        implied={"shared_gate": True, "layer_norms": 0, "final_norm": False},
        kinds=listed("layer_types", {**NAMES, latent.INDEXED: FULL},
                     every("full_attention_interval", 4, FULL, otherwise=LINEAR)),
        mlp_kinds=all_of(MOE),
        mixers={FULL: _indexed, LINEAR: _linear},
        extra=_connections,
        model_extra=_mixer_of_streams,
        mtp=_qwen4_mtp,
        per_layer=True,
        ignore=("full_attention_interval", *ATTENTION_KEYS, *DELTA_KEYS),
    ),
    "hy_v4": replace(
        latent.DEEPSEEK_V3,
        defaults={"n_shared_experts": 1, "num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
                  "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64,
                  "v_head_dim": 256, "index_n_heads": 16, "index_head_dim": 128},
        implied={"q_rank_required": True},
        kinds=_hy4_kinds,
        mixers=latent.INDEXER_MAKERS,
        mlp_kinds=listed("mlp_layer_types", {"dense": DENSE, "sparse": MOE},
                         lambda f: [DENSE, *[MOE] * (layer_count(f) - 1)]),
        extra=_hy4_extra,
        model_extra=_hy4_head,
        mtp=_hy4_mtp,
    ),
}  # fmt: skip
