"""Decoders with mixtures of experts and ordinary attention: Mixtral and its heirs, and their dense siblings.

Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source. Router correction biases are buffers there, not parameters, unless said.
"""

# long: a declaration a model type

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from planner.errors import BadConfig, UnsupportedModel
from planner.model.attention import Mixer
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.sparse_attention import BlockIndexer
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.fields import Fields
from planner.readers.layer_kinds import (
    CHUNKED,
    DENSE,
    FULL,
    MOE,
    SLIDING,
    all_of,
    every,
    expert_layers,
    layer_count,
    layer_types,
    listed,
    sparse_step,
)
from planner.readers.model_types import Type

SPARSE = "sparse_attention"
WINDOW_ALL = layer_types(all_of(SLIDING))
ALL_MOE = all_of(MOE)
# Every layer has experts, and `intermediate_size` is the width of one.
EXPERTS_ONLY: dict[str, str | tuple[str, ...]] = {
    "num_experts": ("num_local_experts", "num_experts"),
    "moe_intermediate_size": "intermediate_size",
}
ROUTED = {"num_experts": ("n_routed_experts", "num_local_experts", "num_experts")}
NO_SHARED = {"shared_expert_intermediate_size": 0}


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


def _qwen2_moe_windows(f: Fields) -> list[str]:
    """Without `layer_types`: with `use_sliding_window`, every second layer below `max_window_layers`."""
    below = f.int("max_window_layers", low=0)
    on = f.flag("use_sliding_window")
    return [SLIDING if on and i % 2 == 0 and i < below else FULL for i in range(layer_count(f))]


def _qwen3_moe_windows(f: Fields) -> list[str]:
    """`use_sliding_window` windows every layer; `max_window_layers` is not looked at."""
    f.get("sliding_window")
    return [SLIDING if f.flag("use_sliding_window") else FULL] * layer_count(f)


def _window_from(f: Fields) -> list[str]:
    """dots1: windowed from layer `max_window_layers` on."""
    first = f.int("max_window_layers", low=0)
    return [SLIDING if i >= first else FULL for i in range(layer_count(f))]


def _dbrx_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """DBRX keeps its KV heads in attn_config (class default 1)."""
    base = decoder.attention(f, index)
    heads = f.sub(f.section("attn_config") or {}, "attn_config").int("kv_n_heads", 1)
    if heads > base.heads:
        raise BadConfig(f"{f.where}: attn_config.kv_n_heads {heads} is more than {base.heads} heads")
    return (replace(base, kv_heads=heads),)


def _dbrx_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """DBRX keeps its experts in ffn_config; absent keys take the class defaults of DbrxFFNConfig."""
    inner = f.sub(f.section("ffn_config") or {}, "ffn_config")
    experts = inner.int("moe_num_experts", 4)
    return (
        Moe(
            hidden=f.int("hidden_size"),
            experts=experts,
            active=inner.int("moe_top_k", 1, high=experts),
            expert_width=inner.int("ffn_hidden_size", 3584),
        ),
    )


def _ernie_mlps(f: Fields) -> list[str]:
    """Experts from layer start to end (-1: the last), in every `moe_layer_interval`-th."""
    layers, interval = layer_count(f), f.int("moe_layer_interval")
    start, end = f.int("moe_layer_start_index", low=0), f.int("moe_layer_end_index", low=-1)
    last = layers - 1 if end == -1 else end
    return [MOE if (i + 1) % interval == 0 and start <= i <= last else DENSE for i in range(layers)]


def biased_shared_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Builds experts where `use_bias` reaches the shared ones but not the routed ones; the correction bias is a
    parameter.
    """
    made = []
    for base in decoder.moe(f, index):
        assert isinstance(base, Moe)
        bias = (vector("shared_experts", 2 * base.shared_width + base.hidden),)
        on = f.flag("mlp_bias") and base.shared_width
        made.append(replace(base, extra=bias if on else ()))
    return tuple(made)


def _ernie_mtp(f: Fields) -> tuple[Weight, ...]:
    """Dense layers, each with a projection [hidden, 2·hidden] and two norms; the embedding is shared.

    Source: 123,217,920 parameters of ERNIE-4.5-21B-A3B-PT beyond the 21,825,437,888 that are built.
    """
    hidden, count = f.int("hidden_size"), f.int("num_nextn_predict_layers", 0, low=0, high=1000)
    layer = (w for piece in (*decoder.full(f, 0), *decoder.dense(f, 0)) for w in piece.weights())
    return (*layer, *linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 4)) * count


def _by_layer(f: Fields, key: str, index: int, *, default: int | None = None, low: int = 1) -> int:
    """A whole number, or a list with one for each layer (Hunyuan)."""
    if isinstance(f.get(key), (list, tuple)):
        return (f.int_list(key, layer_count(f), low=low) or [])[index]
    return f.int(key, default, low=low)


def _no_shared_layers(make: Callable[[Fields], list[str]]) -> Callable[[Fields], list[str]]:
    """Hunyuan can share K and V between layers (`use_cla`); how much is then kept is not known: refused."""

    def kinds(f: Fields) -> list[str]:
        if f.flag("use_cla"):
            raise UnsupportedModel(
                f"{f.where}: key 'use_cla' shares K and V between layers, which kvplan does not know for this type"
            )
        return make(f)

    return kinds


def _hunyuan_mlps(f: Fields) -> list[str]:
    skipped = f.int("moe_layer_num_skipped", 0, low=0)
    return [DENSE if i < skipped else MOE for i in range(layer_count(f))]


def _hunyuan_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Lists by layer; experts `moe_intermediate_size` wide where given, shared ones `intermediate_size`.

    Source: Hunyuan-A13B-Instruct modeling_hunyuan.py (all its widths are equal, as transformers assumes).
    """
    width, experts = f.int("intermediate_size"), _by_layer(f, "num_experts", index)
    active = _by_layer(f, "moe_topk", index, default=1)
    if active > experts:
        raise BadConfig(f"{f.where}: key 'moe_topk' is {active}; at most {experts} experts are there")
    return (
        Moe(
            hidden=f.int("hidden_size"),
            experts=experts,
            active=active,
            expert_width=_by_layer(f, "moe_intermediate_size", index, default=width),
            shared_width=width * _by_layer(f, "num_shared_expert", index, default=1, low=0),
        ),
    )


def _minimax_m2_kinds(f: Fields) -> list[str]:
    """`attn_type_list` is all 1 in published files: softmax attention everywhere."""
    if 0 in (f.int_list("attn_type_list", layer_count(f)) or []):
        raise UnsupportedModel(
            f"{f.where}: key 'attn_type_list' has a 0 (linear attention), which kvplan does not know for this type"
        )
    return [FULL] * layer_count(f)


def _m3_sparse_section(f: Fields) -> Fields:
    return f.sub(f.section("sparse_attention_config") or {}, "sparse_attention_config")


def _m3_pattern(f: Fields) -> list[str]:
    """`sparse_attention_freq` (1: sparse) in sparse_attention_config, else full attention everywhere."""
    inner = _m3_sparse_section(f)
    flags = inner.int_list("sparse_attention_freq", layer_count(f))
    if flags is None or not inner.flag("use_sparse_attention", True):
        return [FULL] * layer_count(f)
    return [SPARSE if flag else FULL for flag in flags]


def _m3_sparse(f: Fields, index: int) -> tuple[Mixer, ...]:
    """All K and V stay cached; an indexer keeps one key a token besides and picks blocks."""
    inner = _m3_sparse_section(f)
    indexer = BlockIndexer(
        hidden=f.int("hidden_size"),
        heads=inner.int("sparse_num_index_heads", f.int("index_n_heads", 4)),
        dim=inner.int("sparse_index_dim", f.int("index_head_dim", 128)),
    )
    return (decoder.attention(f, index), indexer)


def _m3_mtp(f: Fields) -> tuple[Weight, ...]:
    """`num_mtp_modules` whole layers of sparse attention and experts (vLLM 0.33.0 minimax_m3/nvidia/mtp.py).

    A file's `num_nextn_predict_layers` is another number, which vLLM does not read; it counts where the first is absent.
    """
    key = "num_mtp_modules" if f.has("num_mtp_modules") else "num_nextn_predict_layers"
    return decoder.mtp_layers(_m3_sparse, decoder.moe, copies=False, key=key)(f)


def _mimo_pattern(f: Fields) -> list[str]:
    """`hybrid_layer_pattern` (1: window), else the first and every sixth layer global."""
    flags = f.int_list("hybrid_layer_pattern", layer_count(f))
    if flags is not None:
        return [SLIDING if flag else FULL for flag in flags]
    return [FULL if i == 0 or (i + 1) % 6 == 0 else SLIDING for i in range(layer_count(f))]


def _mimo_full(f: Fields, index: int) -> tuple[Mixer, ...]:
    base = decoder.attention(f, index)
    return (replace(base, v_dim=f.int("v_head_dim"), out_bias=False, sinks=f.flag("add_full_attention_sink_bias")),)


def _mimo_sliding(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Windowed layers have shapes of their own (`swa_*`), by default twice the KV heads, and sinks.

    `sliding_window_size` counts the tokens before the query, so that many stay cached; a file with only
    `sliding_window` counts the query too.
    """
    base = decoder.attention(f, index, window=f.int("sliding_window"))
    heads = f.int("swa_num_attention_heads", base.heads)
    kv_heads = f.int("swa_num_key_value_heads", 2 * base.kv_heads)
    if kv_heads > heads:
        raise BadConfig(f"{f.where}: {kv_heads} KV heads for {heads} query heads in windowed layers")
    return (
        replace(
            base,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=f.int("swa_head_dim", base.head_dim),
            v_dim=f.int("swa_v_head_dim", f.int("v_head_dim")),
            out_bias=False,
            sinks=f.flag("add_swa_attention_sink_bias", True),
        ),
    )


def _afmoe_gate(f: Fields, index: int) -> tuple[Weight, ...]:
    """A gate on the attention output: [heads·head_dim, hidden], never biased."""
    heads = f.int("num_attention_heads")
    return linear(
        "attention", heads * decoder.head_dim(f), f.int("hidden_size"), split="rows", units=heads, name="gate_proj"
    )


def _afmoe_mlps(f: Fields) -> list[str]:
    dense = f.int("num_dense_layers", low=0)
    return [DENSE if i < dense else MOE for i in range(layer_count(f))]


def glm_heads(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds GLM-4.5's attention: `use_qk_norm` adds a gain of head_dim for q and for k."""
    base = decoder.attention(f, index)
    return (replace(base, qk_norm="head" if f.flag("use_qk_norm") else ""),)


def _biased(key: str) -> dict[str, str]:
    return dict.fromkeys(("qkv_bias", "o_bias", "mlp_bias"), key)


def _type(**keys: Any) -> Type:
    """A type whose layers all have experts."""
    return Type(**{"mlp_kinds": ALL_MOE, **keys})


GROK = _type(
    source="github.com/xai-org/grok-1 model.py: four norms a layer, tied embedding",
    renames=EXPERTS_ONLY,
    implied={"layer_norms": 4},
    defaults={"tie_word_embeddings": True},
)

MINIMAX_M3 = Type(
    source="transformers MiniMaxM3VLTextConfig",
    renames={
        "intermediate_size": "dense_intermediate_size",
        "moe_intermediate_size": ("intermediate_size", "moe_intermediate_size"),
        "shared_expert_intermediate_size": "shared_intermediate_size",
        "num_experts": ("num_local_experts", "num_experts"),
    },
    defaults={
        "intermediate_size": 12288,
        "moe_intermediate_size": 3072,
        "shared_expert_intermediate_size": 3072,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 4,
    },
    implied={"attention_bias": False, "qk_norm": "head"},
    kinds=listed("layer_types", {FULL: FULL, "minimax_m3_sparse": SPARSE}, _m3_pattern),
    mixers={SPARSE: _m3_sparse},
    mlp_kinds=expert_layers(),
    mtp=_m3_mtp,
    ignore=("index_n_heads", "index_head_dim"),  # read by the sparse layers, where there are any
)


def _mimo_mtp(f: Fields) -> tuple[Weight, ...]:
    """Windowed layers with a dense MLP, a projection [hidden, 2·hidden] and three norms each.

    The checkpoint of MiMo-V2-Flash holds three of them, though no key says so: 987,820,224 of its 309.79 billion.
    Source: vLLM 0.32.0 mimo_v2_mtp.py.
    """
    hidden, count = f.int("hidden_size"), f.int("num_nextn_predict_layers", 3, low=0, high=100)
    layer = (w for piece in (*_mimo_sliding(f, 0), *decoder.dense(f, 0)) for w in piece.weights())
    return (*layer, *linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 5)) * count


def _mimo_said_mtp(f: Fields) -> tuple[Weight, ...]:
    """Those of MiMo-V2.5 and later, whose files say how many there are."""
    return _mimo_mtp(f) if f.has("num_nextn_predict_layers") else ()


MIMO_V2 = Type(
    renames={**ROUTED, "sliding_window": ("sliding_window_size", "sliding_window")},
    defaults={
        "num_key_value_heads": 4,
        "head_dim": 192,
        "v_head_dim": 128,
        "sliding_window": 129,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 1,
    },
    kinds=layer_types(_mimo_pattern),
    mixers={FULL: _mimo_full, SLIDING: _mimo_sliding},
    mlp_kinds=expert_layers(),
    ignore=("attention_chunk_size",),  # repeats the window; no chunked layers
)

TYPES: dict[str, Type] = {
    "mixtral": _type(
        renames=EXPERTS_ONLY,
        defaults={"num_key_value_heads": 8, "num_experts": 8, "num_experts_per_tok": 2},
        implied={"attention_bias": False},
        kinds=WINDOW_ALL,
    ),
    "grok-1": GROK,
    "grok_1": GROK,
    "grok": GROK,
    "qwen2_moe": Type(
        renames={"num_experts": ("num_experts", "num_local_experts")},
        defaults={"num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4, "qkv_bias": True,
                  "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
                  "max_window_layers": 28},
        implied={"o_bias": False, "shared_gate": True},
        kinds=layer_types(_qwen2_moe_windows),
        mlp_kinds=sparse_step,
    ),
    "qwen3_moe": Type(
        renames={"num_experts": ("num_local_experts", "num_experts")},
        defaults={"num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
                  "moe_intermediate_size": 768},
        implied={"qk_norm": "head", **NO_SHARED},
        kinds=layer_types(_qwen3_moe_windows),
        mlp_kinds=sparse_step,
    ),
    "gpt_oss": _type(
        renames=EXPERTS_ONLY,
        defaults={"num_key_value_heads": 8, "head_dim": 64, "num_experts": 128, "num_experts_per_tok": 4,
                  "sliding_window": 128, "attention_bias": True},
        implied={"attn_sinks": True, "router_bias": True, "expert_bias": True, "period": 2},
        kinds=layer_types(every("period", 2)),
    ),
    "dbrx": _type(
        renames={"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
                 "max_position_embeddings": "max_seq_len"},
        implied={"norm": "layer_nobias"},
        mixers={FULL: _dbrx_attention},
        mlps={MOE: _dbrx_experts},
    ),
    "olmoe": _type(
        renames={**EXPERTS_ONLY, "num_experts": ("num_experts", "num_local_experts")},
        defaults={"num_experts": 64, "num_experts_per_tok": 8},
        implied={"qk_norm": "full"},
    ),
    "flex_olmo": _type(
        renames={**EXPERTS_ONLY, "num_experts": ("num_experts", "num_local_experts")},
        defaults={"num_experts": 7, "num_experts_per_tok": 5},
        implied={"qk_norm": "full"},
    ),
    "granitemoe": _type(renames=EXPERTS_ONLY, defaults={"num_experts": 8, "num_experts_per_tok": 2}),
    "granitemoeshared": _type(
        renames={**EXPERTS_ONLY, "shared_expert_intermediate_size": "shared_intermediate_size"},
        defaults={"num_experts": 8, "num_experts_per_tok": 2},
    ),
    "phimoe": _type(
        renames=EXPERTS_ONLY,
        defaults={"num_key_value_heads": 8, "num_experts": 16, "num_experts_per_tok": 2},
        implied={"norm": "layer"},
        kinds=WINDOW_ALL,
    ),
    "deepseek": Type(
        source="deepseek-moe-16b-base configuration_deepseek.py and modeling_deepseek.py; "
               "16,375,728,128 parameters, as published",
        renames=ROUTED,
        mlp_kinds=expert_layers(),
    ),
    "dots1": Type(
        renames=ROUTED,
        defaults={"sliding_window": 4096, "max_window_layers": 62},
        implied={"qk_norm": "head"},
        kinds=layer_types(_window_from),
        mlp_kinds=expert_layers(),
    ),
    "glm4_moe": Type(
        renames=ROUTED,
        defaults={"num_key_value_heads": 8, "first_k_dense_replace": 1, "n_shared_experts": 1},
        implied={"o_bias": False},
        mixers={FULL: glm_heads},
        mlp_kinds=expert_layers(),
        mtp=decoder.mtp_layers(glm_heads, decoder.moe),
    ),
    "glm4v_moe_text": Type(
        source="transformers 5.24.0 Glm4vMoeTextConfig: GLM-4.5 without a norm of each head",
        renames=ROUTED,
        defaults={"num_key_value_heads": 8, "first_k_dense_replace": 1, "n_shared_experts": 1, "num_experts": 128,
                  "num_experts_per_tok": 8, "moe_intermediate_size": 1408, "attention_bias": True},
        implied={"o_bias": False},
        mlp_kinds=expert_layers(),
    ),
    "ernie4_5": Type(
        renames=_biased("use_bias"),
        defaults={"tie_word_embeddings": True, "num_key_value_heads": 2, "head_dim": 128},
    ),
    "ernie4_5_moe": Type(
        renames={**_biased("use_bias"), "lm_head_bias": "use_bias",
                 "num_experts": ("moe_num_experts", "num_experts"),
                 "num_experts_per_tok": ("moe_k", "num_experts_per_tok"),
                 "n_shared_experts": "moe_num_shared_experts"},
        defaults={"tie_word_embeddings": True, "num_key_value_heads": 4, "num_experts": 64,
                  "num_experts_per_tok": 6, "n_shared_experts": 2, "moe_intermediate_size": 1536,
                  "moe_layer_interval": 1, "moe_layer_start_index": 1, "moe_layer_end_index": -1},
        implied={"router_bias": True},
        mlp_kinds=_ernie_mlps,
        mlps={MOE: biased_shared_experts},
        mtp=_ernie_mtp,
    ),
    "hunyuan_v1_dense": Type(
        renames={"head_dim": ("head_dim", "attention_head_dim")},
        implied={"qk_norm": "head"},
        kinds=_no_shared_layers(all_of(FULL)),
        ignore=("cla_share_factor",),  # counts only with use_cla
    ),
    "hunyuan_v1_moe": Type(
        renames={"head_dim": ("head_dim", "attention_head_dim")},
        defaults={"num_experts": 1, "moe_topk": 1},
        implied={"qk_norm": "head"},
        kinds=_no_shared_layers(all_of(FULL)),
        mlp_kinds=_hunyuan_mlps,
        mlps={MOE: _hunyuan_experts},
        ignore=("cla_share_factor",),
        per_layer=True,
    ),
    "minimax_m2": _type(
        renames=EXPERTS_ONLY,
        defaults={"num_key_value_heads": 8, "head_dim": 128, "num_experts": 256, "num_experts_per_tok": 8},
        implied={"attention_bias": False, "qk_norm": "full"},
        kinds=_minimax_m2_kinds,
    ),
    "minimax_m3": MINIMAX_M3,
    "minimax_m3_vl_text": MINIMAX_M3,
    "mimo_v2_flash": replace(MIMO_V2, mtp=_mimo_mtp),
    "mimo_v2": replace(MIMO_V2, mtp=_mimo_said_mtp, source="MiMo-V2.5 config.json and checkpoint: MiMo-V2-Flash with q, k and v in one"),
    "afmoe": Type(
        renames={"n_shared_experts": "num_shared_experts",
                 "num_experts": ("num_experts", "num_local_experts")},
        defaults={"head_dim": 128, "sliding_window": 1024, "num_experts": 64, "num_experts_per_tok": 6,
                  "n_shared_experts": 2, "num_dense_layers": 1, "moe_intermediate_size": 1408},
        implied={"qk_norm": "head", "layer_norms": 4, "router_bias": True},
        kinds=layer_types(every("global_attn_every_n_layers", 4)),
        mlp_kinds=_afmoe_mlps,
        extra=_afmoe_gate,
    ),
    "llama4_text": Type(
        # Shared expert: one of an expert's width. q and k are normed without gains.
        renames={"intermediate_size": "intermediate_size_mlp", "moe_intermediate_size": "intermediate_size",
                 "shared_expert_intermediate_size": "intermediate_size", "num_experts": "num_local_experts"},
        defaults={"intermediate_size": 16384, "moe_intermediate_size": 8192, "head_dim": 128,
                  "shared_expert_intermediate_size": 8192, "num_key_value_heads": 8, "num_experts": 16,
                  "num_experts_per_tok": 1, "no_rope_layer_interval": 4, "interleave_moe_layer_step": 1,
                  "attention_chunk_size": 8192},
        kinds=_llama4_kinds,
        mlp_kinds=_llama4_mlps,
    ),
}  # fmt: skip
