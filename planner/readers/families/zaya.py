"""Zaya: compressed convolutional attention and experts that a small MLP chooses, in both forms of its files.

transformers' form (ZAYA1-8B) has attention and experts in each layer; the older one (ZAYA1-base, ZAYA1-8B-legacy), which
SGLang reads, has them in layers of their own, in turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.errors import BadConfig, UnsupportedModel
from planner.model.attention import Attention, Mixer
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.recurrent import CONVOLVED, CONVOLVED_IN_TURNS, PART, StateMixer, StatePart, depthwise
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import FULL, MOE, NONE, SLIDING, all_of, layer_count, listed
from planner.readers.model_types import Type

TURNS = "zaya_in_turns"  # the older form of the files
NO_MIXER = "experts_alone"
_OLDER_KEYS = ("zaya_layers", "ffn_hidden_size", "ffn_hidden_size_list", "zaya_mlp_expansion", "moe_router_topk", "cca")


def _form(raw: Mapping[str, Any], shown: str) -> str:
    """The form of a file, by the keys that only the older one has."""
    return TURNS if any(key in raw for key in _OLDER_KEYS) else "zaya"


def _convolved(base: Attention, f: Fields, last: int, *, label: str = CONVOLVED) -> tuple[Mixer, ...]:
    """Attention whose q and k pass two short convolutions, and half of whose v is that of the token before.

    Over the (heads + kv_heads) · head_dim channels of q and k: one filter of `cca_time0` a channel, then for each head
    [head_dim, head_dim, cca_time1], both with a bias; a temperature a KV head. v_proj as two halves, which every rank
    holds whole. State: the newest cca_time0 + cca_time1 - 2 columns of those channels, and `last` numbers for the token
    before. Sources: transformers 5.24.0 ZayaCCAProjection; SGLang 0.5.23 CCA and ZayaConfig.mamba2_cache_params.
    """
    heads, kv_width = base.heads + base.kv_heads, base.kv_heads * base.head_dim
    if kv_width % 2:
        raise BadConfig(f"{f.where}: {base.kv_heads} KV heads of {base.head_dim} make no two equal halves of v")
    first, second = f.int("cca_time0"), f.int("cca_time1")
    channels = heads * base.head_dim
    weights = (
        *linear(
            "attention", kv_width // 2, base.hidden, bias=base.qkv_bias, count=2, name="v_proj_current|v_proj_delayed"
        ),
        *depthwise(channels, first, heads, bias=True),
        Weight(PART, channels, base.head_dim * second, split="rows", units=heads, linear=False),
        vector(PART, channels, split="rows", units=heads),
        vector("attention", base.kv_heads, split="rows", units=base.kv_heads),
    )
    state = StatePart("conv", channels * (first + second - 2), None, heads)
    return (replace(base, k_is_v=True), StateMixer(label, weights, (state, StatePart("token before", last))))


def _with_keys(f: Fields, index: int, window: int | None = None) -> tuple[Mixer, ...]:
    """A layer of transformers' form: of the token before it keeps the half of v that was computed for this one."""
    base = decoder.attention(f, index, window=window)
    return _convolved(base, f, base.kv_heads * base.head_dim // 2)


def _windowed(f: Fields, index: int) -> tuple[Mixer, ...]:
    return _with_keys(f, index, f.int("sliding_window"))


def _router(hidden: int, width: int, classes: int, *, scaled: bool) -> tuple[Weight, ...]:
    """Down [width, hidden], a norm, two layers [width, width] with biases, out [classes, width]; a scale of the layer before's."""
    return (
        Weight("router", width, hidden, linear=False, name="down_proj"),
        Weight("router", width, width, 2, linear=False, name="router_mlp"),
        Weight("router", classes, width, linear=False, name="router_mlp"),
        vector("router", width, 4 + scaled),
    )


def _moe(f: Fields, active: str, *, width: int, router: int, scaled: bool) -> tuple[Mlp | Moe, ...]:
    """One expert a token of `num_experts`, or none: then the router has one class more."""
    hidden, experts = f.int("hidden_size"), f.int("num_experts")
    if f.int(active) != 1:
        raise UnsupportedModel(f"{f.where}: key {active!r} is {f.int(active)}; Zaya has one expert a token")
    classes = experts + f.flag("zaya_use_mod", True)
    return (Moe(hidden, experts, 1, width, router=_router(hidden, router, classes, scaled=scaled)),)


def _experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """The experts of transformers' form; the first layer's router has no layer before it to scale."""
    width, router = f.int("moe_intermediate_size"), f.int("router_hidden_size")
    return _moe(f, "num_experts_per_tok", width=width, router=router, scaled=index > 0)


def _scales(f: Fields, index: int) -> tuple[Weight, ...]:
    """Scale and bias of what a half adds and of the residual, behind attention and behind the experts."""
    return (vector("norm", f.int("hidden_size"), 8),)


def _first_scale(f: Fields) -> tuple[Weight, ...]:
    """Scale and bias of the embedding."""
    return (vector("norm", f.int("hidden_size"), 2),)


# --- the older form ----------------------------------------------------------------------------------------


def _first_set(f: Fields, key: str, one: str) -> int:
    """The first number over zero of a list by layer, where the file has it; else the key `one`."""
    each = f.int_list(key) if isinstance(f.get(key), (list, tuple)) else None
    found = [value for value in each or () if value]
    return found[0] if found else f.int(one)


def _turns(f: Fields) -> list[str]:
    """`zaya_layers`: "a" attends, a number is of experts; without it every second layer attends, the first one first."""
    listed_layers = f.sequence("zaya_layers")
    if not listed_layers:
        return [FULL if index % 2 == 0 else NO_MIXER for index in range(layer_count(f))]
    if len(listed_layers) > MAX_LAYERS:
        raise BadConfig(f"{f.where}: key 'zaya_layers' has {len(listed_layers)} entries; at most {MAX_LAYERS} are read")
    experts = f.int("num_experts")
    for entry in listed_layers:
        if entry != "a" and (isinstance(entry, bool) or entry != experts):
            raise f.wrong("zaya_layers", entry, f"'a', or the number of experts, {experts}")
    return [FULL if entry == "a" else NO_MIXER for entry in listed_layers]


def _turn_experts(f: Fields) -> list[str]:
    return [MOE if kind == NO_MIXER else NONE for kind in _turns(f)]


def _turn_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """An attention layer of the older form: of the token before SGLang keeps the whole hidden state."""
    heads, kv_heads = _first_set(f, "cca_num_q_heads", "num_attention_heads"), f.int("num_key_value_heads")
    groups = _first_set(f, "num_query_groups_list", "num_query_groups")
    if groups != kv_heads or heads % kv_heads:
        raise BadConfig(
            f"{f.where}: {heads} query heads, {groups} query groups and {kv_heads} KV heads do not go together"
        )
    bias, width = f.flag("attention_bias"), f.maybe_int("head_dim") or f.int("kv_channels")
    base = Attention(f.int("hidden_size"), heads, kv_heads, width, qkv_bias=bias, out_bias=bias)
    note = "its window is not read: SGLang 0.5.23 keeps every token of every layer"
    if (f.get("sliding_window") or f.get("swa_layers")) and note not in f.notes:
        f.notes.append(note)
    return _convolved(base, f, base.hidden, label=CONVOLVED_IN_TURNS)


def _turn_moe(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Experts whose width is half of `ffn_hidden_size`, which counts gate and up together."""
    width = _first_set(f, "ffn_hidden_size_list", "ffn_hidden_size")
    if width % 2:
        raise BadConfig(f"{f.where}: {width} outputs of gate and up together; an even number is wanted")
    listed_widths = isinstance(f.get("zaya_mlp_expansion"), (list, tuple))
    router = _first_set(f, "zaya_mlp_expansion", "router_hidden_size" if listed_widths else "zaya_mlp_expansion")
    return _moe(f, "moe_router_topk", width=width // 2, router=router, scaled=f.flag("zaya_use_eda", True))


def _turn_scales(f: Fields, index: int) -> tuple[Weight, ...]:
    """Scale and bias of what the layer before added and of the residual; the first layer has no residual."""
    return (vector("norm", f.int("hidden_size"), 4 if index else 2),) if f.flag("scale_residual_merge", True) else ()


def _last_scales(f: Fields) -> tuple[Weight, ...]:
    return (vector("norm", f.int("hidden_size"), 4),) if f.flag("scale_residual_merge", True) else ()


_SIZES = {
    "tie_word_embeddings": True, "num_key_value_heads": 2, "head_dim": 128, "num_experts": 16, "router_hidden_size": 256,
    "cca_time0": 2, "cca_time1": 2, "lm_head_bias": False,
}  # fmt: skip

TYPES: dict[str, Type] = {
    "zaya": Type(
        source="transformers 5.24.0 ZayaConfig and modeling_zaya.py; 8,840,488,784 parameters of ZAYA1-8B (17.7 GB in bf16)",
        defaults={**_SIZES, "num_experts_per_tok": 1, "moe_intermediate_size": 2048},
        implied={"zaya_use_mod": True},
        kinds=listed("layer_types", {"hybrid": FULL, "hybrid_sliding": SLIDING}, all_of(FULL)),
        mlp_kinds=all_of(MOE),
        mixers={FULL: _with_keys, SLIDING: _windowed},
        mlps={MOE: _experts},
        extra=_scales,
        model_extra=_first_scale,
        text_of=_form,
        per_layer=True,
        ignore=("sliding_window",),  # read by the windowed layers, where there are any
    ),
    TURNS: Type(
        source="SGLang 0.5.23 ZayaConfig and zaya.py: zaya as ZAYA1-base and the -legacy repositories write it",
        defaults={**_SIZES, "num_query_groups": 2, "ffn_hidden_size": 4096, "zaya_mlp_expansion": 256, "moe_router_topk": 1},
        implied={"layer_norms": 1},
        kinds=_turns,
        mlp_kinds=_turn_experts,
        mixers={FULL: _turn_attention, NO_MIXER: lambda f, index: ()},
        mlps={MOE: _turn_moe},
        extra=_turn_scales,
        model_extra=_last_scales,
        per_layer=True,
        ignore=("sliding_window", "kv_channels"),
    ),
}  # fmt: skip
