"""Decoders with recurrent layers other than Mamba: delta rules, linear attention, convolutions, RWKV.

Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source. The recurrent mixers themselves stand in `planner.model.recurrent`.
"""

# long: a declaration a model type, with the rule of its layers

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.model.attention import Mixer
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.recurrent import gated_delta_net, kimi_delta, lightning_attention, rg_lru, rwkv4, short_conv
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.families.latent import MLA_IGNORES, idle, latent_attention
from planner.readers.families.state_keys import (
    ATTENTION_KEYS,
    CONV,
    DELTA_KEYS,
    LINEAR,
    MIXER_ONLY,
    NAMES,
    by_index,
    check_multiple,
    required_list,
    warn_once,
)
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import (
    DENSE,
    FULL,
    MOE,
    SLIDING,
    all_of,
    dense_then_moe,
    every,
    expert_layers,
    layer_count,
    listed,
    sparse_step,
)
from planner.readers.model_types import Type
from planner.units import ceil_div

# ---------------------------------------------------------------- gated delta rule


def gated_delta_net_layer(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds the mixer of a gated delta net layer, which keeps a state of fixed size."""
    heads = f.int("linear_num_key_heads"), f.int("linear_num_value_heads")
    return _delta_net(f, heads, (f.int("linear_key_head_dim"), f.int("linear_value_head_dim")))


def _olmo_delta_net(f: Fields, index: int) -> tuple[Mixer, ...]:
    """OLMo Hybrid derives what its file leaves out from the attention heads."""
    heads = f.int("num_attention_heads")
    key_heads = f.int("linear_num_key_heads", heads)
    key_dim = f.int("linear_key_head_dim", max(1, 3 * f.int("hidden_size") // (4 * key_heads)))
    dims = key_dim, f.int("linear_value_head_dim", 2 * key_dim)
    return _delta_net(f, (key_heads, f.int("linear_num_value_heads", heads)), dims)


def _delta_net(f: Fields, heads: tuple[int, int], dims: tuple[int, int]) -> tuple[Mixer, ...]:
    """A gated delta net of that many (key, value) heads, each as wide as `dims`."""
    check_multiple(f, "linear_num_value_heads", heads[1], of="linear_num_key_heads", base=heads[0])
    return (
        gated_delta_net(
            hidden=f.int("hidden_size"),
            key_heads=heads[0],
            value_heads=heads[1],
            key_dim=dims[0],
            value_dim=dims[1],
            conv_kernel=f.int("linear_conv_kernel_dim"),
        ),
    )


def _olmo_plan(f: Fields) -> list[str]:
    """Every fourth layer full attention; a shorter model has one, at the end."""
    kinds = [FULL if i % 4 == 3 else LINEAR for i in range(layer_count(f))]
    if FULL not in kinds:
        kinds[-1] = FULL
    return kinds


def gated_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds attention whose query projection also makes a gate, as wide as the output of each head."""
    base = decoder.attention(f, index)
    return (replace(base, gate=base.head_dim, qk_norm="head"),)


def _qwen_mtp(kind: str) -> Callable[[Fields], tuple[Weight, ...]]:
    """A projection of two vectors to one, three norms, and `mtp_num_hidden_layers` layers of full attention.

    Source: vLLM qwen3_next_mtp.py; counts agree with the published checkpoints.
    """

    def weights(f: Fields) -> tuple[Weight, ...]:
        count = f.int("mtp_num_hidden_layers", 0, low=0, high=MAX_LAYERS)
        if not count:
            return ()
        hidden = f.int("hidden_size")
        mlp = decoder.moe if kind == MOE and f.int("num_experts", low=0) else decoder.dense
        pieces = (*gated_attention(f, 0), *mlp(f, 0))
        layer = tuple(weight for piece in pieces for weight in piece.weights()) + decoder.norm(f, hidden, 2)
        return (*linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 3), *(layer * count))

    return weights


QWEN_KINDS = listed("layer_types", NAMES, every("full_attention_interval", 4, FULL, otherwise=LINEAR))
QWEN_DEFAULTS = {
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
QWEN_MOE_DEFAULTS = {
    **QWEN_DEFAULTS,
    "num_key_value_heads": 2,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
}
QWEN_HYBRID = Type(
    defaults={**QWEN_DEFAULTS, "num_key_value_heads": 4, "intermediate_size": 12288},
    kinds=QWEN_KINDS,
    mixers={FULL: gated_attention, LINEAR: gated_delta_net_layer},
    # The interval is read only where there is no layer_types, which says the same layer by layer.
    ignore=("full_attention_interval", *ATTENTION_KEYS, *DELTA_KEYS),
    mtp=_qwen_mtp(DENSE),
)


# ---------------------------------------------------------------- Kimi


def _kimi_section(f: Fields) -> Fields:
    return f.sub(f.section("linear_attn_config") or {}, "linear_attn_config")


def _kimi_delta(f: Fields, index: int) -> tuple[Mixer, ...]:
    """The section's keys; later files of transformers write linear_head_dim, linear_num_heads beside it."""
    section = _kimi_section(f)
    return (
        kimi_delta(
            hidden=f.int("hidden_size"),
            heads=section.int("num_heads", f.int("linear_num_heads")),
            head_dim=section.int("head_dim", f.int("linear_head_dim")),
            conv_kernel=section.int("short_conv_kernel_size", f.int("linear_conv_kernel_dim")),
            full_rank_gate=section.flag("use_full_rank_gate"),
        ),
    )


def _kimi_kinds(f: Fields) -> list[str]:
    """`layer_types`, else the section's two lists (layers from one), else indices 4, 8, 12... full."""
    count = layer_count(f)
    if f.get("layer_types") is not None:
        return listed("layer_types", NAMES, all_of(FULL))(f)
    section = _kimi_section(f)
    full_layers = section.int_list("full_attn_layers", low=1)
    delta_layers = section.int_list("kda_layers", low=1)
    if full_layers is None or delta_layers is None:
        return [FULL if i and i % 4 == 0 else LINEAR for i in range(count)]
    if sorted(full_layers + delta_layers) != list(range(1, count + 1)):
        raise BadConfig(
            f"{section.where}: full_attn_layers and kda_layers do not name each layer from 1 to {count} once"
        )
    chosen = set(full_layers)
    return [FULL if i + 1 in chosen else LINEAR for i in range(count)]


def _kimi_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """MLA as DeepSeek's, the query without a low rank unless q_lora_rank says so."""
    return (latent_attention(f),)


def _kimi_moe(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Kimi K3's experts work on a narrower vector (routed_expert_hidden_size)."""
    (base,) = decoder.moe(f, index)
    assert isinstance(base, Moe)
    inner = f.maybe_int("routed_expert_hidden_size")
    if inner is None:
        return (base,)
    warn_once(
        f,
        "Kimi K3's layers are read from its config, not from an implementation: the cache is exact, the "
        "parameters leave out what the config does not name (2,777.4 of 2,779.9 billion, with the vision tower)",
    )
    return (replace(base, expert_hidden=inner),)


KIMI_LATENT_KEYS = ("kv_lora_rank", "qk_rope_head_dim", "v_head_dim")
KIMI_SIZES = {
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "intermediate_size": 9216,
    "moe_intermediate_size": 1024,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "n_shared_experts": 1,
}
KIMI_LINEAR = Type(
    renames={
        "num_experts": ("num_experts", "num_local_experts"),
        "num_experts_per_tok": ("num_experts_per_token", "num_experts_per_tok"),
        "n_shared_experts": ("num_shared_experts", "n_shared_experts"),
        "max_position_embeddings": ("model_max_length", "max_position_embeddings"),
    },
    defaults={
        **KIMI_SIZES,
        "linear_head_dim": 128,
        "linear_num_heads": 32,
        "linear_conv_kernel_dim": 4,
    },
    implied={"tie_word_embeddings": False},  # the class names no tied weights, whatever the file says
    kinds=_kimi_kinds,
    mlp_kinds=expert_layers(1),
    mixers={FULL: _kimi_attention, LINEAR: _kimi_delta},
    mlps={MOE: _kimi_moe},
    # A file may hold both spellings of the plan; layer_types wins.
    ignore=("linear_attn_config", "linear_conv_kernel_dim", *KIMI_LATENT_KEYS, *MLA_IGNORES),
)


def _ling_delta(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Ling 3: one matrix each for decay and gate; files saved by transformers repeat the shape as linear_*."""
    return (
        kimi_delta(
            hidden=f.int("hidden_size"),
            heads=f.int("linear_num_heads", f.int("num_attention_heads")),
            head_dim=f.int("linear_head_dim", f.int("head_dim")),
            conv_kernel=f.int("linear_conv_kernel_dim", f.int("short_conv_kernel_size")),
            full_rank_gate=True,
            full_rank_decay=True,
        ),
    )


ling_kinds = listed("layer_types", NAMES, every("layer_group_size", 6, FULL, otherwise=LINEAR))


def _ling_gate(f: Fields, index: int) -> tuple[Weight, ...]:
    """Attention layers gate each head by one number."""
    if index < layer_count(f) and ling_kinds(f)[index] == LINEAR:
        return ()
    heads = f.int("num_attention_heads")
    return linear("attention", heads, f.int("hidden_size"), split="rows", units=heads, name="g_proj")


def _is_ling_25(f: Fields) -> bool:
    """Whether the linear layers are those of Ling and Ring 2.5 and 2.6: their files have no short convolution."""
    return bool(f.get("num_kv_heads_for_linear_attn")) and not f.has("short_conv_kernel_size")


def _ling_linear(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Kimi's delta rule in Ling 3; in 2.5 lightning attention with a norm of each head's q and k.

    Source of 2.5: vLLM 0.33.0 bailing_moe_linear.py, BailingMoELinearAttention.
    """
    if not _is_ling_25(f):
        return _ling_delta(f, index)
    idle(f, {"num_kv_heads_for_linear_attn": 0, "num_key_value_heads": 1})
    width = f.int("head_dim")
    norms = (vector("norm", width, 2),) if f.flag("use_qk_norm") else ()
    base = lightning_attention(hidden=f.int("hidden_size"), heads=f.int("num_attention_heads"), head_dim=width)
    return (replace(base, weight_list=(*base.weight_list, *norms)),)


def _ling_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """Attention layers of Ling 3 gate each head by one number; those of 2.5 do not."""
    return () if _is_ling_25(f) else _ling_gate(f, index)


def _ling_mtp(f: Fields) -> tuple[Weight, ...]:
    """Whole layers of attention and experts, as DeepSeek's without copies of the tables; Ling 3's gate their heads, too.

    Sources: vLLM 0.33.0 bailing_moe_mtp.py, bailing_moe_v3_mtp.py.
    """
    layers = decoder.mtp_layers(_kimi_attention, decoder.moe, copies=False)(f)
    count = f.int("num_nextn_predict_layers", 0, low=0)
    return layers + (() if _is_ling_25(f) else _ling_gate(f, f.int("num_hidden_layers")) * count)


LING = replace(
    KIMI_LINEAR,
    defaults={
        **KIMI_SIZES,
        "head_dim": 128,
        "short_conv_kernel_size": 4,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 512,
        "q_lora_rank": None,
    },
    kinds=ling_kinds,
    mlp_kinds=expert_layers(2),
    mixers={FULL: _kimi_attention, LINEAR: _ling_linear},
    mlps={},
    extra=_ling_extra,
    mtp=_ling_mtp,
    ignore=("linear_conv_kernel_dim", *KIMI_LATENT_KEYS, *MLA_IGNORES),
)


# ---------------------------------------------------------------- MiniMax-01


def _lightning(f: Fields, index: int) -> tuple[Mixer, ...]:
    return (
        lightning_attention(
            hidden=f.int("hidden_size"), heads=f.int("num_attention_heads"), head_dim=decoder.head_dim(f)
        ),
    )


def _minimax_plan(f: Fields) -> list[str]:
    """`attn_type_list` of the original files: 0 lightning attention, 1 softmax attention."""
    values = f.sequence("attn_type_list", layer_count(f))
    if values is None:
        return [FULL if i % 2 == 0 else LINEAR for i in range(layer_count(f))]
    kinds = {0: LINEAR, 1: FULL}
    for value in values:
        if isinstance(value, bool) or value not in (0, 1):
            raise f.wrong("attn_type_list", value, "0 (lightning) or 1 (softmax) for each layer")
    return [kinds[value] for value in values]


def _minimax_original(f: Fields) -> list[str]:
    """As above, but these files always have a list; without one nothing is guessed."""
    if f.get("layer_types") is None and f.get("attn_type_list") is None:
        raise UnsupportedModel(
            f"{f.where}: neither attn_type_list nor layer_types says which layers are softmax attention"
        )
    return MINIMAX_KINDS(f)


MINIMAX_KINDS = listed("layer_types", NAMES, _minimax_plan)
MINIMAX = Type(
    renames={
        "num_experts": ("num_local_experts", "num_experts"),
        "moe_intermediate_size": "intermediate_size",
        "shared_expert_intermediate_size": "shared_intermediate_size",
    },
    defaults={
        "num_key_value_heads": 8,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 14336,
    },
    implied={"attention_bias": False},
    kinds=MINIMAX_KINDS,
    mlp_kinds=all_of(MOE),
    mixers={LINEAR: _lightning},
    # attn_type_list is read where there is no layer_types, which says the same.
    ignore=("attn_type_list", *ATTENTION_KEYS),
)
MINIMAX_ORIGINAL = replace(
    MINIMAX,
    source="MiniMax-Text-01 configuration_minimax_text_01.py: attn_type_list; transformers: the layers",
    kinds=_minimax_original,
)


# ---------------------------------------------------------------- LFM2


def _short_conv(f: Fields, index: int) -> tuple[Mixer, ...]:
    return (short_conv(hidden=f.int("hidden_size"), conv_kernel=f.int("conv_L_cache"), bias=f.flag("conv_bias")),)


def _lfm2_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Two thirds of the written width, times a factor, rounded up; as written without the adjustment."""
    width = f.int("intermediate_size")
    if f.flag("block_auto_adjust_ff_dim", True):
        width = 2 * width // 3
        if f.get("block_ffn_dim_multiplier") is not None:
            step = f.int("block_multiple_of")
            width = step * ceil_div(int(f.number("block_ffn_dim_multiplier") * width), step)
    return (Mlp(f.int("hidden_size"), width),)


LFM2_NAMES = {"conv": CONV, "full_attention": FULL, "attention": FULL}
LFM2_KEYS = {"tie_word_embeddings": ("tie_embedding", "tie_word_embeddings")}
LFM2_DEFAULTS = {"tie_word_embeddings": True, "num_key_value_heads": 8, "conv_L_cache": 3}


def _lfm2_plan(f: Fields) -> list[str]:
    """`full_attn_idxs` lists the layers with attention; without it all of them have it."""
    if f.get("full_attn_idxs") is None:
        return all_of(FULL)(f)
    return by_index("full_attn_idxs", FULL, CONV)(f)


LFM3_NAMES = {**LFM2_NAMES, "sliding_attention": SLIDING}


def _lfm3_plan(f: Fields) -> list[str]:
    """Two convolutions first, then every second layer attends, over all tokens and over a window in turn."""
    return [FULL if i % 4 == 2 else SLIDING if i % 4 == 0 and i else CONV for i in range(layer_count(f))]


LFM3_KINDS = listed("layer_types", LFM3_NAMES, _lfm3_plan)


def _lfm3_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """Norms behind both halves too; attention layers gate each head by one number."""
    hidden, heads = f.int("hidden_size"), f.int("num_attention_heads")
    extra = decoder.norm(f, hidden, 2) if f.flag("use_sandwich_norm", True) else ()
    if LFM3_KINDS(f)[index] != CONV and f.flag("use_attention_gate", True):
        extra += linear("attention", heads, hidden, split="rows", units=heads, name="g_proj")
    return extra


# ---------------------------------------------------------------- RWKV


def _rwkv4(f: Fields, index: int) -> tuple[Mixer, ...]:
    hidden = f.int("hidden_size")
    return (
        rwkv4(
            hidden=hidden,
            width=f.int("attention_hidden_size", hidden),
            ffn_width=f.int("intermediate_size", 4 * hidden),
        ),
    )


# ---------------------------------------------------------------- RecurrentGemma


def _rg_lru(f: Fields, index: int) -> tuple[Mixer, ...]:
    hidden, heads = f.int("hidden_size"), f.int("num_attention_heads")
    width = f.int("lru_width", hidden)
    check_multiple(f, "lru_width", width, of="num_attention_heads", base=heads)
    return (rg_lru(hidden=hidden, width=width, heads=heads, conv_kernel=f.int("conv1d_width")),)


def _recurrent_gemma_kinds(f: Fields) -> list[str]:
    """`block_types` is repeated over the layers."""
    known = {"recurrent": LINEAR, "attention": SLIDING}
    names = f.sequence("block_types") or []
    if not names:
        raise f.wrong("block_types", names, "a list of 'recurrent' and 'attention'")
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise UnsupportedModel(
                f"{f.where}: key 'block_types' names {one_line(repr(name), 40)}; known: {', '.join(known)}"
            )
    return [known[names[i % len(names)]] for i in range(layer_count(f))]


def _half_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """`intermediate_size` counts gate and up together; all three have biases."""
    return (Mlp(f.int("hidden_size"), max(1, f.int("intermediate_size") // 2), bias=True),)


TYPES: dict[str, Type] = {
    "qwen3_next": replace(
        QWEN_HYBRID,
        defaults={**QWEN_MOE_DEFAULTS, "intermediate_size": 5632, "num_experts": 512,
                  "num_experts_per_tok": 10,
                  # Not in the file; the published checkpoint holds one (81,324,862,720 weights in all).
                  "mtp_num_hidden_layers": 1},
        implied={"shared_gate": True},
        renames={"mtp_num_hidden_layers": "num_nextn_predict_layers"},
        mlp_kinds=sparse_step,
        mtp=_qwen_mtp(MOE),
    ),
    "qwen3_5_text": QWEN_HYBRID,
    "qwen3_5_moe_text": replace(
        QWEN_HYBRID,
        defaults={**QWEN_MOE_DEFAULTS, "num_experts": 256, "num_experts_per_tok": 8},
        implied={"shared_gate": True},
        mlp_kinds=all_of(MOE),
        mtp=_qwen_mtp(MOE),
    ),
    "kimi_linear": KIMI_LINEAR,
    "bailing_hybrid": LING,
    "kimi_k3": replace(KIMI_LINEAR, nested=("text_config",)),
    "minimax": MINIMAX,
    "minimax_text_01": MINIMAX_ORIGINAL,
    "minimax_m1": MINIMAX_ORIGINAL,
    "lfm2": Type(
        renames={**LFM2_KEYS, "intermediate_size": ("block_ff_dim", "intermediate_size")},
        defaults={**LFM2_DEFAULTS, "intermediate_size": 12288, "block_multiple_of": 256,
                  "block_ffn_dim_multiplier": 1.0},
        implied={"attention_bias": False, "qk_norm": "head"},
        kinds=listed("layer_types", LFM2_NAMES, _lfm2_plan),
        mixers={CONV: _short_conv},
        mlps={DENSE: _lfm2_mlp},
        # full_attn_idxs is read where there is no layer_types, which says the same.
        ignore=("full_attn_idxs", "conv_L_cache", *ATTENTION_KEYS),
    ),
    "lfm2_moe": Type(
        renames=LFM2_KEYS,
        defaults={**LFM2_DEFAULTS, "intermediate_size": 7168, "moe_intermediate_size": 1792,
                  "num_experts": 32, "num_experts_per_tok": 4},
        implied={"attention_bias": False, "qk_norm": "head"},
        kinds=required_list("layer_types", LFM2_NAMES),
        mlp_kinds=dense_then_moe("num_dense_layers", 2),
        mixers={CONV: _short_conv},
        ignore=("conv_L_cache", *ATTENTION_KEYS),
    ),
    "lfm3": Type(
        defaults={"tie_word_embeddings": True, "num_key_value_heads": 4, "head_dim": 128, "conv_L_cache": 7,
                  "sliding_window": 256, "intermediate_size": 7680},
        implied={"qk_norm": "head"},
        kinds=LFM3_KINDS,
        mixers={CONV: _short_conv},
        extra=_lfm3_extra,
        ignore=("conv_L_cache", "sliding_window", *ATTENTION_KEYS),
    ),
    "rwkv": Type(
        renames={"max_position_embeddings": "context_length"},
        implied={"norm": "layer", "embed_norms": 1},
        mixers={LINEAR: _rwkv4},
        **MIXER_ONLY,
    ),
    "recurrent_gemma": Type(
        renames={"sliding_window": "attention_window_size", "qkv_bias": "attention_bias"},
        defaults={"tie_word_embeddings": True, "sliding_window": 2048, "conv1d_width": 4,
                  "intermediate_size": 7680, "block_types": ["recurrent", "recurrent", "attention"]},
        implied={"o_bias": True},
        kinds=_recurrent_gemma_kinds,
        mixers={LINEAR: _rg_lru},
        mlps={DENSE: _half_mlp},
        ignore=ATTENTION_KEYS,
    ),
    "olmo_hybrid": Type(
        defaults={"linear_conv_kernel_dim": 4},
        implied={"qk_norm": "full"},
        kinds=listed("layer_types", NAMES, _olmo_plan),
        mixers={LINEAR: _olmo_delta_net},
        ignore=(*ATTENTION_KEYS, *DELTA_KEYS),
    ),
}  # fmt: skip
