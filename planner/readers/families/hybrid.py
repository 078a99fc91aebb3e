"""Decoders with recurrent layers, alone or beside attention: Mamba, Jamba, Qwen3-Next, Nemotron-H, LFM2...

Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source. The recurrent mixers themselves stand in `planner.recurrent`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.mixers import Attention, Mixer
from planner.mlps import Mlp, Moe
from planner.readers import decoder
from planner.readers.families.latent import MLA_IGNORES, latent_attention
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.plans import (
    DENSE,
    FULL,
    MOE,
    NONE,
    SLIDING,
    all_of,
    dense_then_moe,
    every,
    expert_layers,
    layer_count,
    listed,
    periodic,
    sparse_step,
)
from planner.readers.types import LayerKinds, Type
from planner.recurrent import (
    gated_delta_net,
    kimi_delta,
    lightning_attention,
    mamba1,
    mamba2,
    rg_lru,
    rwkv4,
    short_conv,
)
from planner.spec import ModelSpec
from planner.units import ceil_div
from planner.weights import Weight, linear, vector

LINEAR, CONV, HYBRID, TIED = "linear_attention", "conv", "hybrid", "hybrid_tied"

# Keys that only the layers of one kind read; a file holds them also where it has no such layer.
ATTENTION_KEYS = ("num_key_value_heads", "head_dim")
MAMBA_KEYS = ("mamba_d_conv", "mamba_d_state", "mamba_expand", "mamba_n_heads")
DELTA_KEYS = (
    "linear_conv_kernel_dim",
    "linear_key_head_dim",
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_value_head_dim",
)

# Old and new names of the same layers; transformers maps the first pair of names to the second.
NAMES = {"mamba": LINEAR, "attention": FULL, LINEAR: LINEAR, FULL: FULL}


def _by_index(key: str, at: str, otherwise: str) -> LayerKinds:
    """Layers listed under `key` are `at` (Bamba: attn_layer_indices); an absent list is empty."""

    def kinds(f: Fields) -> list[str]:
        count = layer_count(f)
        chosen = set(_indices(f, key, f.int_list(key) or [], count))
        return [at if i in chosen else otherwise for i in range(count)]

    return kinds


def _indices(f: Fields, key: str, values: list[int], count: int) -> list[int]:
    for value in values:
        if value >= count:
            raise BadConfig(f"{f.where}: key {f.file_key(key)!r} names layer {value} of {count}")
    return values


def _inside_period(period_key: str, offset_key: str, at: str, otherwise: str) -> LayerKinds:
    """As `periodic`; an offset outside the period would never be met, so it is refused."""
    inner = periodic(period_key, offset_key, at, otherwise)

    def kinds(f: Fields) -> list[str]:
        period, offset = f.int(period_key), f.int(offset_key, low=0)
        if offset >= period:
            raise BadConfig(f"{f.where}: key {f.file_key(offset_key)!r} is {offset} in a period of {period}")
        return inner(f)

    return kinds


def _auto(f: Fields, key: str, derived: int) -> int:
    """A number, or "auto" / null / absent: what the type derives."""
    value = f.get(key)
    return derived if value is None or value == "auto" else f.int(key)


def _multiple(f: Fields, key: str, count: int, of: str, base: int) -> None:
    if count % base:
        raise BadConfig(
            f"{f.where}: key {f.file_key(key)!r} is {count}; a multiple of {f.file_key(of)} {base} is wanted"
        )


def _warn_once(f: Fields, words: str) -> None:
    if words not in f.warnings:
        f.warnings.append(words)


# ---------------------------------------------------------------- Mamba


def _width(f: Fields) -> int:
    """Inner width of a Mamba layer: given, else mamba_expand times hidden."""
    given = f.maybe_int("mamba_width")
    return given if given is not None else max(1, int(f.number("mamba_expand", 2) * f.int("hidden_size")))


def _mamba1(f: Fields, index: int) -> tuple[Mixer, ...]:
    hidden, width = f.int("hidden_size"), _width(f)
    heads = f.int("n_mamba_heads", 1)  # Zamba only: x and dt projections in blocks, of the same size together
    _multiple(f, "mamba_width", width, "n_mamba_heads", heads)
    return (
        mamba1(
            hidden=hidden,
            width=width,
            state=f.int("mamba_d_state"),
            conv_kernel=f.int("mamba_d_conv"),
            dt_rank=_auto(f, "mamba_dt_rank", ceil_div(hidden, 16)),
            proj_bias=f.flag("mamba_proj_bias"),
            conv_bias=f.flag("mamba_conv_bias", True),
            inner_norms=f.flag("mamba_inner_norms"),
        ),
    )


def _mamba2(f: Fields, index: int) -> tuple[Mixer, ...]:
    heads, groups = f.int("mamba_n_heads"), f.int("mamba_n_groups")
    if f.flag("width_from_heads"):  # Nemotron-H: `expand` is there and not used
        head_dim = f.int("mamba_d_head")
    else:
        width = _width(f)
        head_dim = _auto(f, "mamba_d_head", max(1, width // heads))
        if heads * head_dim != width:
            raise BadConfig(
                f"{f.where}: {heads} Mamba heads of {head_dim} ({f.file_key('mamba_n_heads')}, "
                f"{f.file_key('mamba_d_head')}) do not make the inner width {width}"
            )
    _multiple(f, "mamba_n_heads", heads, "mamba_n_groups", groups)
    proj_bias = f.flag("mamba_proj_bias")
    return (
        mamba2(
            hidden=f.int("hidden_size"),
            heads=heads,
            head_dim=head_dim,
            groups=groups,
            state=f.int("mamba_d_state"),
            conv_kernel=f.int("mamba_d_conv"),
            in_bias=proj_bias,
            out_bias=f.flag("mamba_out_bias", proj_bias),
            conv_bias=f.flag("mamba_conv_bias", True),
            gated_norm=f.flag("mamba_rms_norm", True),
        ),
    )


def _attention_and_mamba2(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Falcon-H1: both in every layer, side by side."""
    return (*decoder.full(f, index), *_mamba2(f, index))


def _jamba_mlp_kinds(f: Fields) -> list[str]:
    """Experts by period and offset; with one expert the layer is a plain MLP."""
    kinds = _inside_period("expert_layer_period", "expert_layer_offset", MOE, DENSE)(f)
    return kinds if f.int("num_experts") > 1 else [DENSE] * len(kinds)


MAMBA1_KEYS = {
    "mamba_d_state": "state_size",
    "mamba_d_conv": "conv_kernel",
    "mamba_expand": "expand",
    "mamba_width": "intermediate_size",  # where given, it wins over expand (Falcon-Mamba has expand 16)
    "mamba_dt_rank": "time_step_rank",
    "mamba_proj_bias": "use_bias",
    "mamba_conv_bias": "use_conv_bias",
}
MAMBA2_KEYS = {
    "mamba_n_heads": "num_heads",
    "mamba_d_head": "head_dim",
    "mamba_n_groups": "n_groups",
    "mamba_d_state": "state_size",
    "mamba_d_conv": "conv_kernel",
    "mamba_expand": "expand",
    "mamba_proj_bias": "use_bias",
    "mamba_conv_bias": "use_conv_bias",
}
# One norm and one mixer a layer, no MLP.
MIXER_ONLY: dict[str, Any] = {"kinds": all_of(LINEAR), "mlp_kinds": all_of(NONE)}
BAMBA_DEFAULTS = {"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4}

MAMBA = Type(
    renames=MAMBA1_KEYS,
    defaults={"mamba_d_state": 16, "mamba_d_conv": 4, "tie_word_embeddings": True},
    implied={"layer_norms": 1},
    mixers={LINEAR: _mamba1},
    **MIXER_ONLY,
)


# ---------------------------------------------------------------- gated delta rule


def _gated_delta_net(f: Fields, index: int) -> tuple[Mixer, ...]:
    key_heads, value_heads = f.int("linear_num_key_heads"), f.int("linear_num_value_heads")
    _multiple(f, "linear_num_value_heads", value_heads, "linear_num_key_heads", key_heads)
    return (
        gated_delta_net(
            hidden=f.int("hidden_size"),
            key_heads=key_heads,
            value_heads=value_heads,
            key_dim=f.int("linear_key_head_dim"),
            value_dim=f.int("linear_value_head_dim"),
            conv_kernel=f.int("linear_conv_kernel_dim"),
        ),
    )


def _olmo_delta_net(f: Fields, index: int) -> tuple[Mixer, ...]:
    """OLMo Hybrid derives what its file leaves out from the attention heads."""
    heads = f.int("num_attention_heads")
    key_heads = f.int("linear_num_key_heads", heads)
    key_dim = f.int("linear_key_head_dim", max(1, 3 * f.int("hidden_size") // (4 * key_heads)))
    value_heads = f.int("linear_num_value_heads", heads)
    _multiple(f, "linear_num_value_heads", value_heads, "linear_num_key_heads", key_heads)
    return (
        gated_delta_net(
            hidden=f.int("hidden_size"),
            key_heads=key_heads,
            value_heads=value_heads,
            key_dim=key_dim,
            value_dim=f.int("linear_value_head_dim", 2 * key_dim),
            conv_kernel=f.int("linear_conv_kernel_dim"),
        ),
    )


def _olmo_plan(f: Fields) -> list[str]:
    """Every fourth layer full attention; a shorter model has one, at the end."""
    kinds = [FULL if i % 4 == 3 else LINEAR for i in range(layer_count(f))]
    if FULL not in kinds:
        kinds[-1] = FULL
    return kinds


def _gated_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """The query projection also makes a gate as wide as the output of each head."""
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
        pieces = (*_gated_attention(f, 0), *mlp(f, 0))
        layer = tuple(weight for piece in pieces for weight in piece.weights()) + decoder.norm(f, hidden, 2)
        return (*linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 3), *(layer * count))

    return weights


QWEN_KINDS = listed("layer_types", NAMES, every("full_attention_interval", 4, FULL, LINEAR))
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
    mixers={FULL: _gated_attention, LINEAR: _gated_delta_net},
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
    _warn_once(
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


def _ling_gate(f: Fields, index: int) -> tuple[Weight, ...]:
    """Attention layers gate each head by one number."""
    if f.int("num_nextn_predict_layers", 0, low=0):
        _warn_once(f, "multi-token-prediction layers are not counted")
    if LING_KINDS(f)[index] == LINEAR:
        return ()
    heads = f.int("num_attention_heads")
    return linear("attention", heads, f.int("hidden_size"), split="rows", units=heads)


LING_KINDS = listed("layer_types", NAMES, every("layer_group_size", 6, FULL, LINEAR))
LING = replace(
    KIMI_LINEAR,
    defaults={
        **KIMI_SIZES,
        "head_dim": 128,
        "short_conv_kernel_size": 4,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 512,
    },
    implied={"q_lora_rank": None},
    kinds=LING_KINDS,
    mlp_kinds=expert_layers(2),
    mixers={FULL: _kimi_attention, LINEAR: _ling_delta},
    mlps={},
    extra=_ling_gate,
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


def _required(key: str, names: dict[str, str]) -> LayerKinds:
    """A type whose file must list its layers."""

    def missing(f: Fields) -> list[str]:
        raise UnsupportedModel(f"{f.where}: key {f.file_key(key)!r} is missing; it says what each layer is")

    return listed(key, names, missing)


LFM2_NAMES = {"conv": CONV, "full_attention": FULL, "attention": FULL}
LFM2_KEYS = {"tie_word_embeddings": ("tie_embedding", "tie_word_embeddings")}
LFM2_DEFAULTS = {"tie_word_embeddings": True, "num_key_value_heads": 8, "conv_L_cache": 3}


def _lfm2_plan(f: Fields) -> list[str]:
    """`full_attn_idxs` lists the layers with attention; without it all of them have it."""
    if f.get("full_attn_idxs") is None:
        return all_of(FULL)(f)
    return _by_index("full_attn_idxs", FULL, CONV)(f)


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
        extra += linear("attention", heads, hidden, split="rows", units=heads)
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
    _multiple(f, "lru_width", width, "num_attention_heads", heads)
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


# ---------------------------------------------------------------- Granite 4


def _granite_mlp_kinds(f: Fields) -> list[str]:
    experts = f.int("num_experts", low=0)
    return [MOE if experts else DENSE] * layer_count(f)


def _shared_only(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Without experts only the shared MLP is left."""
    width = f.int("shared_expert_intermediate_size", low=0)
    return (Mlp(f.int("hidden_size"), width),) if width else ()


GRANITE_KEYS = {
    "num_experts": "num_local_experts",
    "moe_intermediate_size": "intermediate_size",
    "shared_expert_intermediate_size": "shared_intermediate_size",
}
GRANITE_DEFAULTS = {"num_experts": 8, "num_experts_per_tok": 2}


# ---------------------------------------------------------------- Nemotron-H

PATTERN = {"M": LINEAR, "E": MOE, "*": FULL, "-": DENSE}
BLOCK_NAMES = {**NAMES, "moe": MOE, "mlp": DENSE}


def _nothing(f: Fields, index: int) -> tuple[Mixer, ...]:
    """A layer that is only an MLP: it mixes nothing and keeps nothing."""
    return ()


def _pattern(f: Fields, key: str) -> list[str]:
    """The letters of a pattern: M Mamba-2, * attention, - MLP, E experts."""
    letters = f.text(key)
    for letter in letters:
        if letter not in PATTERN:
            raise UnsupportedModel(
                f"{f.where}: key {key!r} has a letter {one_line(letter, 4)!r}; known: {', '.join(PATTERN)}"
            )
    return [PATTERN[letter] for letter in letters]


def _nemotron_blocks(f: Fields) -> list[str]:
    """One block a layer, by list or by pattern; the list wins where a file has both."""
    f.get("hybrid_override_pattern")
    names = f.sequence("layers_block_type")
    if names is None:
        return _pattern(f, "hybrid_override_pattern")
    for name in names:
        if not isinstance(name, str) or name not in BLOCK_NAMES:
            raise UnsupportedModel(
                f"{f.where}: key {f.file_key('layers_block_type')!r} names {one_line(repr(name), 40)}; "
                f"known: {', '.join(BLOCK_NAMES)}"
            )
    return [BLOCK_NAMES[name] for name in names]


def _nemotron_kinds(f: Fields) -> list[str]:
    return [NONE if block in (DENSE, MOE) else block for block in _nemotron_blocks(f)]


def _nemotron_mlp_kinds(f: Fields) -> list[str]:
    return [block if block in (DENSE, MOE) else NONE for block in _nemotron_blocks(f)]


def _nemotron_moe(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Experts without a gate, one shared MLP of its own width, a narrower vector for the experts if given."""
    (base,) = decoder.moe(f, index)
    assert isinstance(base, Moe)
    inner = f.maybe_int("moe_latent_size") or 0
    if not f.has("shared_expert_intermediate_size"):
        _warn_once(
            f,
            "moe_shared_expert_intermediate_size is not in the file; taken as "
            f"{base.shared_width}, the default of transformers 5.23.0",
        )
    biases: tuple[Weight, ...] = ()
    if f.flag("mlp_bias"):  # the shared MLP and the projections have it, the experts do not
        widths = (base.shared_width, base.hidden) + ((inner, base.hidden) if inner else ())
        biases = tuple(vector("mlp", width) for width in widths)
    return (replace(base, expert_hidden=inner, extra=biases),)


def _nemotron_mtp(f: Fields) -> tuple[Weight, ...]:
    """Each module: a projection of two vectors to one, their norms and a last one, the blocks of its pattern.

    Source: vLLM nemotron_h_mtp.py; counts agree with the published checkpoints of Nemotron 3 Super and Ultra.
    """
    count = f.int("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS)
    if not count:
        return ()
    hidden = f.int("hidden_size")
    makers = {FULL: decoder.full, LINEAR: _mamba2, DENSE: decoder.dense, MOE: _nemotron_moe}
    blocks = _pattern(f, "mtp_hybrid_override_pattern") or [FULL, MOE]
    weights = (*linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 3 + len(blocks)))
    for block in blocks:
        for piece in makers[block](f, 0):
            weights += piece.weights()
    return weights * count


def _build_nemotron(f: Fields, kind: Type, name: str, model_type: str) -> ModelSpec:
    """The plan gives the number of layers; where num_hidden_layers stands too, they must agree."""
    blocks = _nemotron_blocks(f)
    if not blocks:
        raise UnsupportedModel(
            f"{f.where}: neither hybrid_override_pattern nor layers_block_type is there to name the layers"
        )
    written = f.maybe_int("num_hidden_layers")
    if written is not None and written != len(blocks):
        raise BadConfig(f"{f.where}: num_hidden_layers is {written} and the plan has {len(blocks)}; they must agree")
    f.implied = {**f.implied, "num_hidden_layers": len(blocks)}
    return decoder.decoder(f, kind, name, model_type)


# ---------------------------------------------------------------- Nemotron-NAS

NAS_UNREAD = ("num_sink_tokens", "sparsify", "unshifted_sink", "use_prefill_window_in_sink_attention")


def _nas_block(f: Fields, index: int) -> tuple[Fields, Fields]:
    """(attention, ffn) of block_configs[index]."""
    blocks = f.sequence("block_configs", layer_count(f))
    if blocks is None:
        raise UnsupportedModel(f"{f.where}: key 'block_configs' is missing; it says what each layer is")
    block = blocks[index]
    if not isinstance(block, Mapping):
        raise f.wrong("block_configs", block, "an object for each layer")
    where = f"block_configs[{index}]"
    inner = f.sub(block, where)
    return (
        inner.sub(inner.section("attention") or {}, "attention"),
        inner.sub(inner.section("ffn") or {}, "ffn"),
    )


def _nas_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Heads grouped by n_heads_in_group; absent where no_op; a plain matrix where replace_with_linear."""
    block, _ = _nas_block(f, index)
    if block.flag("no_op"):
        return ()
    for key in NAS_UNREAD:
        if block.get(key) not in (None, False, 0):
            raise UnsupportedModel(f"{block.where}: key {key!r} is set; kvplan does not know its cache")
    hidden = f.int("hidden_size")
    if block.flag("replace_with_linear"):
        return (LinearLayer(hidden),)
    base = decoder.attention(f, index)
    group = block.int("n_heads_in_group")
    if base.heads % group:
        raise BadConfig(f"{block.where}: n_heads_in_group {group} does not divide {base.heads} heads")
    return (replace(base, kv_heads=base.heads // group, window=block.maybe_int("window_length")),)


@dataclass(frozen=True)
class LinearLayer(Mixer):
    """One matrix [hidden, hidden] in place of attention: nothing is mixed, nothing is kept."""

    hidden: int

    def weights(self) -> tuple[Weight, ...]:
        return linear("attention", self.hidden, self.hidden)


def _nas_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Width 2/3 · ffn_mult · hidden, rounded up to 256 (or intermediate_size where the block gives it)."""
    _, block = _nas_block(f, index)
    hidden = f.int("hidden_size")
    if block.flag("no_op") or block.flag("replace_with_linear"):
        return ()
    width = block.maybe_int("intermediate_size")
    if width is None:
        width = 256 * ceil_div(max(1, int(2 * block.number("ffn_mult") * hidden / 3)), 256)
    return (Mlp(hidden, width, bias=f.flag("mlp_bias")),)


def _nas_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """One norm before each half that is there; the plain matrix of an MLP replaced by one."""
    attention, ffn = _nas_block(f, index)
    hidden = f.int("hidden_size")
    halves = [half for half in (attention, ffn) if not half.flag("no_op")]
    extra = decoder.norm(f, hidden, len(halves))
    if ffn.flag("replace_with_linear") and not ffn.flag("no_op"):
        extra += linear("mlp", hidden, hidden)
    return extra


# ---------------------------------------------------------------- Zamba


@dataclass(frozen=True)
class SharedBlockAttention(Attention):
    """Attention that reads the hidden state beside the embedding: q, k, v [.., source_width], o [hidden, ..].

    Each use keeps its own K and V. `owner`: this layer is the first to use the block, and holds its weights.
    """

    source_width: int = 0
    owner: bool = True

    def weights(self) -> tuple[Weight, ...]:
        if not self.owner:
            return ()
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            *linear(self.part, q_width, self.source_width, split="rows", units=self.heads),
            *linear(self.part, kv_width, self.source_width, split="kv", units=self.kv_heads) * 2,
            *linear(self.part, self.hidden, q_width, split="cols", units=self.heads),
        )


def _zamba_attention(f: Fields, owner: bool) -> SharedBlockAttention:
    hidden, heads = f.int("hidden_size"), f.int("num_attention_heads")
    f.ignore("kv_channels", "num_query_groups")  # written by the class, not read by the model
    return SharedBlockAttention(
        hidden=hidden,
        heads=heads,
        kv_heads=decoder.kv_heads(f),
        head_dim=f.int("attention_head_dim", max(1, 2 * hidden // heads)),
        source_width=f.int("attention_hidden_size", 2 * hidden),
        owner=owner,
    )


def _zamba_kinds(plan: LayerKinds) -> LayerKinds:
    """The first `num_mem_blocks` hybrid layers hold the shared blocks, the later ones use them in turn."""

    def kinds(f: Fields) -> list[str]:
        owners = f.int("num_mem_blocks", 1)
        result = []
        for name in plan(f):
            if name == HYBRID:
                name = HYBRID if owners > 0 else TIED
                owners -= 1
            result.append(name)
        return result

    return kinds


def _zamba_plan(f: Fields) -> list[str]:
    """Zamba without a list: the third layer is hybrid, then by period and offset counted from the fourth."""
    period, offset = f.int("attn_layer_period", 6), f.int("attn_layer_offset", 4, low=0)
    count = layer_count(f)
    rest = [HYBRID if i % period == offset else LINEAR for i in range(count - 3)]
    return [LINEAR, LINEAR, HYBRID, *rest][:count]


ZAMBA_NAMES = {"mamba": LINEAR, LINEAR: LINEAR, HYBRID: HYBRID}
ZAMBA_KINDS = _zamba_kinds(listed("layers_block_type", ZAMBA_NAMES, _zamba_plan))
ZAMBA2_KINDS = _zamba_kinds(_required("layers_block_type", ZAMBA_NAMES))


def _zamba_mlp_kinds(kinds: LayerKinds) -> LayerKinds:
    return lambda f: [DENSE if kind == HYBRID else NONE for kind in kinds(f)]


def _zamba_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """A hybrid layer's own matrix; with the shared block its two norms."""
    kind = ZAMBA_KINDS(f)[index]
    return _hybrid_extra(f, kind)


def _hybrid_extra(f: Fields, kind: str) -> tuple[Weight, ...]:
    if kind == LINEAR:
        return ()
    hidden = f.int("hidden_size")
    extra = linear("mixer", hidden, hidden)
    if kind == HYBRID:
        extra += (vector("norm", f.int("attention_hidden_size", 2 * hidden)), vector("norm", hidden))
    return extra


def _zamba2_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """As Zamba; for each use low-rank adapters of the shared MLP, and of q, k, v if the file says so."""
    kind = ZAMBA2_KINDS(f)[index]
    extra = _hybrid_extra(f, kind)
    if kind == LINEAR:
        return extra
    hidden, rank = f.int("hidden_size"), f.int("adapter_rank", 128)
    extra += linear("mlp", rank, hidden) + linear("mlp", 2 * _zamba_width(f), rank, split="rows")
    if f.flag("use_shared_attention_adapter"):
        wide = f.int("attention_hidden_size", 2 * hidden)
        extra += (linear("attention", rank, wide) + linear("attention", wide, rank)) * 3
    return extra


def _zamba_width(f: Fields) -> int:
    return f.int("intermediate_size", 4 * f.int("hidden_size"))


def _zamba_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    return (Mlp(f.int("hidden_size"), _zamba_width(f), bias=f.flag("mlp_bias")),)


TYPES: dict[str, Type] = {
    "mamba": MAMBA,
    "falcon_mamba": MAMBA,  # its norms of B, C and Δ have no gain
    "mamba2": Type(
        renames=MAMBA2_KEYS,
        defaults={"mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 8, "mamba_d_state": 128,
                  "mamba_d_conv": 4},
        implied={"layer_norms": 1},
        mixers={LINEAR: _mamba2},
        **MIXER_ONLY,
    ),
    "jamba": Type(
        renames={"moe_intermediate_size": "intermediate_size"},
        defaults={"num_key_value_heads": 8, "attn_layer_period": 8, "attn_layer_offset": 4,
                  "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 16,
                  "num_experts_per_tok": 2, "mamba_d_state": 16, "mamba_d_conv": 4},
        implied={"attention_bias": False, "mamba_inner_norms": True},
        kinds=_inside_period("attn_layer_period", "attn_layer_offset", FULL, LINEAR),
        mlp_kinds=_jamba_mlp_kinds,
        mixers={LINEAR: _mamba1},
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS),
    ),
    "bamba": Type(
        defaults={**BAMBA_DEFAULTS, "num_key_value_heads": 8},
        kinds=_by_index("attn_layer_indices", FULL, LINEAR),
        mixers={LINEAR: _mamba2},
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS),
    ),
    "falcon_h1": Type(
        renames={"mamba_width": "mamba_d_ssm", "mamba_out_bias": "projectors_bias"},
        defaults={**BAMBA_DEFAULTS, "num_key_value_heads": 8, "mamba_width": 1024, "mamba_out_bias": False,
                  "mamba_rms_norm": False},
        mixers={FULL: _attention_and_mamba2},
        ignore=("mamba_expand",),  # read where mamba_d_ssm is null
    ),
    "granitemoehybrid": Type(
        renames={**GRANITE_KEYS, "layer_types": ("layer_types", "layers_block_type")},
        defaults={**BAMBA_DEFAULTS, **GRANITE_DEFAULTS, "shared_expert_intermediate_size": 1024},
        kinds=listed("layer_types", NAMES, all_of(LINEAR)),
        mlp_kinds=_granite_mlp_kinds,
        mixers={LINEAR: _mamba2},
        mlps={DENSE: _shared_only},
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS),
    ),
    "zamba": Type(
        defaults={"tie_word_embeddings": True, "mamba_d_state": 16, "mamba_d_conv": 4, "n_mamba_heads": 2,
                  "num_key_value_heads": 16, "num_mem_blocks": 1},
        implied={"layer_norms": 1, "mlp_bias": False},
        kinds=ZAMBA_KINDS,
        mlp_kinds=_zamba_mlp_kinds(ZAMBA_KINDS),
        mixers={LINEAR: _mamba1,
                HYBRID: lambda f, i: (*_mamba1(f, i), _zamba_attention(f, True)),
                TIED: lambda f, i: (*_mamba1(f, i), _zamba_attention(f, False))},
        mlps={DENSE: _zamba_mlp},
        extra=_zamba_extra,
        # Read where there is no layers_block_type, which says the same.
        ignore=("attn_layer_period", "attn_layer_offset", *ATTENTION_KEYS),
    ),
    "zamba2": Type(
        renames={"mamba_n_heads": "n_mamba_heads", "mamba_d_head": "mamba_headdim",
                 "mamba_n_groups": "mamba_ngroups", "mamba_proj_bias": "add_bias_linear",
                 "mlp_bias": "add_bias_linear"},
        defaults={"tie_word_embeddings": True, "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_n_groups": 1,
                  "mamba_n_heads": 8},
        implied={"layer_norms": 1, "mamba_conv_bias": True},  # use_conv_bias is not read by the model
        kinds=ZAMBA2_KINDS,
        mlp_kinds=_zamba_mlp_kinds(ZAMBA2_KINDS),
        mixers={LINEAR: _mamba2,
                HYBRID: lambda f, i: (*_mamba2(f, i), _zamba_attention(f, True)),
                TIED: lambda f, i: (*_mamba2(f, i), _zamba_attention(f, False))},
        mlps={DENSE: _zamba_mlp},
        extra=_zamba2_extra,
        ignore=ATTENTION_KEYS,
    ),
    "nemotron_h": Type(
        renames={"mamba_n_heads": "mamba_num_heads", "mamba_d_head": "mamba_head_dim",
                 "mamba_n_groups": ("mamba_n_groups", "n_groups"), "mamba_d_state": "ssm_state_size",
                 "mamba_d_conv": ("mamba_d_conv", "conv_kernel"), "mamba_proj_bias": "use_bias",
                 "mamba_conv_bias": ("mamba_conv_bias", "use_conv_bias"),
                 "head_dim": ("head_dim", "attention_head_dim"),
                 "layers_block_type": ("layers_block_type", "layer_types"),
                 "num_experts": ("n_routed_experts", "num_local_experts"),
                 "shared_expert_intermediate_size": "moe_shared_expert_intermediate_size"},
        defaults={"mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 8, "mamba_d_state": 128,
                  "mamba_d_conv": 4, "head_dim": 128, "num_key_value_heads": 8, "num_experts": 8,
                  "num_experts_per_tok": 2, "intermediate_size": 21504, "moe_intermediate_size": 7688,
                  "shared_expert_intermediate_size": 7688},
        implied={"attention_bias": False, "mlp_gated": False, "layer_norms": 1, "width_from_heads": True},
        kinds=_nemotron_kinds,
        mlp_kinds=_nemotron_mlp_kinds,
        mixers={NONE: _nothing, LINEAR: _mamba2},
        mlps={MOE: _nemotron_moe},
        # mamba_expand is never read: the width is heads times head_dim.
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS, "conv_kernel", "ssm_state_size"),
        build=_build_nemotron,
        mtp=_nemotron_mtp,
    ),
    "nemotron-nas": Type(
        source="Llama-3_3-Nemotron-Super-49B-v1 configuration_decilm.py, block_config.py, modeling_decilm.py",
        implied={"layer_norms": 0},
        mixers={FULL: _nas_attention},
        mlps={DENSE: _nas_mlp},
        extra=_nas_extra,
        per_layer=True,
        ignore=ATTENTION_KEYS,  # null in the files: the blocks say it
    ),
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
        kinds=_required("layer_types", LFM2_NAMES),
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
