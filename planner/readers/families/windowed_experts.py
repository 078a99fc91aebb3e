"""Decoders with experts of 2025 and 2026: windows beside full attention, gates on what attention puts out.

Defaults and structure as in the configuration and modelling files of transformers 5.24.0, unless a type names
another source. Router correction biases are buffers there, not parameters, unless said.
"""

from __future__ import annotations

import re
from dataclasses import replace

from planner.errors import BadConfig
from planner.model.attention import Attention, Mixer
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.families.experts import ALL_MOE, EXPERTS_ONLY, ROUTED, biased_shared_experts, glm_heads
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import (
    DENSE,
    FULL,
    MOE,
    SLIDING,
    all_of,
    dense_then_moe,
    every_fourth_full,
    layer_count,
    layer_types,
    letters,
    listed,
)
from planner.readers.model_types import LayerKinds, Type

MLP_NAMES = {"dense": DENSE, "sparse": MOE}
SHARED: dict[str, str | tuple[str, ...]] = {"n_shared_experts": ("num_shared_experts", "n_shared_experts")}


def _first_dense(count: int) -> LayerKinds:
    """Experts from layer `count` on, which no key changes."""
    return lambda f: [DENSE if i < count else MOE for i in range(layer_count(f))]


def _output_gate(f: Fields, heads: int, width: int = 1) -> tuple[Weight, ...]:
    """A gate of `width` numbers for each head, computed from the hidden state: [heads·width, hidden]."""
    return linear("attention", heads * width, f.int("hidden_size"), split="rows", units=heads, name="g_proj")


# --- Laguna ----------------------------------------------------------------------------------------------


def _laguna_heads(f: Fields, index: int) -> int:
    """Query heads of one layer: `num_attention_heads_per_layer`, else the same in all."""
    each = f.int_list("num_attention_heads_per_layer", layer_count(f), low=1)
    return each[index] if each is not None else f.int("num_attention_heads")


def _laguna(f: Fields, index: int, window: int | None = None) -> tuple[Mixer, ...]:
    base = decoder.attention(f, index, window=window)
    heads = _laguna_heads(f, index)
    if heads < base.kv_heads or heads % base.kv_heads:
        raise BadConfig(f"{f.where}: {heads} query heads of layer {index} cannot share {base.kv_heads} KV heads")
    return (replace(base, heads=heads),)


def _laguna_gate(f: Fields, index: int) -> tuple[Weight, ...]:
    """`gating`: true or "per-head" one number a head, "per-element" one for each number of it, false none."""
    gating = f.get("gating", True)
    if gating in (False, None):
        return ()
    if gating not in (True, "per-head", "per-element"):
        raise f.wrong("gating", gating, "true, false, per-head or per-element")
    return _output_gate(f, _laguna_heads(f, index), decoder.head_dim(f) if gating == "per-element" else 1)


# --- Step 3.5 --------------------------------------------------------------------------------------------


def _trimmed(key: str, known: dict[str, str], fallback: LayerKinds) -> LayerKinds:
    """As `listed`; published lists go on with the multi-token-prediction layers, which are cut off."""

    def kinds(f: Fields) -> list[str]:
        names = f.sequence(key)
        count, more = layer_count(f), f.int("num_nextn_predict_layers", 0, low=0, high=64)
        if names is None or len(names) != count + more:
            return listed(key, known, fallback)(f)
        inner = Fields({key: names[:count], "num_hidden_layers": count}, where=f.where)
        return listed(key, known, fallback)(inner)

    return kinds


def _step_experts(f: Fields) -> list[str]:
    """`moe_layers_enum` names the layers with experts ("3,4,5..." or a list); else all from the fourth on."""
    chosen = f.get("moe_layers_enum")
    items = chosen.split(",") if isinstance(chosen, str) else chosen
    if items is None:
        return _first_dense(3)(f)
    if not isinstance(items, (list, tuple)) or not all(re.fullmatch(r"\s*[0-9]{1,5}\s*", str(item)) for item in items):
        raise f.wrong("moe_layers_enum", chosen, "layer numbers, by commas or as a list")
    sparse = {int(item) for item in items}
    return [MOE if i in sparse else DENSE for i in range(layer_count(f))]


def _step_heads(f: Fields) -> int:
    """Query heads of windowed layers: those of `attention_other_setting`, else as everywhere."""
    other = f.sub(f.section("attention_other_setting") or {}, "attention_other_setting")
    return f.int("num_sliding_attention_heads", other.int("num_attention_heads", f.int("num_attention_heads")))


def _step_sliding(f: Fields, index: int) -> tuple[Mixer, ...]:
    base = decoder.attention(f, index, window=f.int("sliding_window"))
    heads = _step_heads(f)
    if heads < base.kv_heads:
        raise BadConfig(f"{f.where}: {base.kv_heads} KV heads for {heads} query heads in windowed layers")
    return (replace(base, heads=heads),)


_STEP_KINDS = _trimmed("layer_types", {FULL: FULL, SLIDING: SLIDING}, all_of(FULL))


_STEP_MLPS = _trimmed("mlp_layer_types", MLP_NAMES, _step_experts)


def _step_gate(f: Fields, index: int) -> tuple[Weight, ...]:
    """The gate of each head; with `mlp_bias` the shared expert has biases, the routed ones do not."""
    sliding = _STEP_KINDS(f)[index] == SLIDING
    extra = _output_gate(f, _step_heads(f) if sliding else f.int("num_attention_heads"))
    if f.flag("mlp_bias", False) and _STEP_MLPS(f)[index] == MOE:
        extra += (vector("shared_experts", 2 * f.int("shared_expert_intermediate_size") + f.int("hidden_size")),)
    return extra


def _step_mtp(f: Fields) -> tuple[Weight, ...]:
    """Each a windowed layer with a dense MLP, a projection of two vectors to one, three norms, a head of its own.

    Source: Step-3.5-Flash holds 2,428,171,008 parameters beyond its layers and router biases: three of these.
    """
    count, hidden = f.int("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS), f.int("hidden_size")
    if not count:
        return ()
    layer = (w for piece in (*_step_sliding(f, 0), *decoder.dense(f, 0)) for w in piece.weights())
    own = (
        *_output_gate(f, _step_heads(f)),
        *linear("mtp", hidden, 2 * hidden),
        *decoder.norm(f, hidden, 5),
        Weight("lm_head", f.int("vocab_size"), hidden, split="rows", linear=False),
    )
    return (*layer, *own) * count


# --- Cohere ----------------------------------------------------------------------------------------------


def exaone_mtp(f: Fields) -> tuple[Weight, ...]:
    """Layers with a dense MLP, and once for all a projection [hidden, 2·hidden] and three norms.

    K-EXAONE's one comes to 528,513,280 parameters (0.52 B in its card). Sources: vLLM 0.33.0
    exaone_moe_mtp.py and exaone4_5_mtp.py.
    """
    count = f.int("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS)
    if not count:
        return ()
    hidden = f.int("hidden_size")
    layer = tuple(w for piece in (*decoder.full(f, 0), *decoder.dense(f, 0)) for w in piece.weights())
    each = (*layer, *decoder.norm(f, hidden, 2))
    return (*each * count, *linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 3))


def _cohere_kinds(f: Fields) -> list[str]:
    """Windows with every n-th layer full; the first dense layers count by a period of their own."""
    first, count = f.int("first_k_dense_replace", 0, low=0), layer_count(f)
    own, rest = f.int("prefix_dense_sliding_window_pattern", 1), f.int("sliding_window_pattern", 4)
    prefix = [SLIDING if (i + 1) % own else FULL for i in range(min(first, count))]
    return prefix + [SLIDING if (i + 1) % rest else FULL for i in range(count - len(prefix))]


def _bias_but_not_out(f: Fields, index: int) -> tuple[Mixer, ...]:
    """`attention_bias` reaches q, k and v, never the output."""
    base = decoder.attention(f, index)
    assert isinstance(base, Attention)
    return (replace(base, out_bias=False),)


TYPES: dict[str, Type] = {
    "hy_v3": Type(
        renames={**SHARED, "num_experts": ("num_experts", "num_local_experts")},
        defaults={"num_key_value_heads": 8, "head_dim": 128, "num_experts": 192, "num_experts_per_tok": 8,
                  "n_shared_experts": 1, "moe_intermediate_size": 1536, "intermediate_size": 13312},
        implied={"qk_norm": "head"},
        mlp_kinds=listed("mlp_layer_types", MLP_NAMES, dense_then_moe(default=1)),
        mlps={MOE: biased_shared_experts},
        mtp=decoder.mtp_layers(decoder.full, biased_shared_experts, copies=False),
    ),
    "solar_open": Type(
        renames=ROUTED,
        defaults={"num_key_value_heads": 8, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
                  "n_shared_experts": 1, "moe_intermediate_size": 1280},
        mlp_kinds=ALL_MOE,
        mixers={FULL: _bias_but_not_out},
    ),
    "exaone_moe": Type(
        renames={**SHARED, "num_experts": ("num_experts", "num_local_experts")},
        defaults={"sliding_window": 4096, "num_key_value_heads": 32, "num_experts": 64, "num_experts_per_tok": 8,
                  "n_shared_experts": 1, "moe_intermediate_size": 1024},
        implied={"attention_bias": False, "qk_norm": "head"},
        kinds=layer_types(letters("sliding_window_pattern", 4)),
        mlp_kinds=listed("mlp_layer_types", MLP_NAMES, dense_then_moe(default=1)),
        mtp=exaone_mtp,
    ),
    "cohere2_moe": Type(
        renames={**SHARED, "intermediate_size": "prefix_dense_intermediate_size",
                 "moe_intermediate_size": "intermediate_size",
                 "num_experts": ("num_experts", "num_local_experts")},
        defaults={"tie_word_embeddings": True, "sliding_window": 4096, "head_dim": 128, "num_experts": 8,
                  "num_experts_per_tok": 2, "moe_intermediate_size": 22528},
        implied={"norm": "layer_nobias", "layer_norms": 1},
        kinds=layer_types(_cohere_kinds),
        mlp_kinds=listed("mlp_layer_types", MLP_NAMES, dense_then_moe()),
    ),
    "laguna": Type(
        renames={"num_experts": ("num_experts", "num_local_experts")},
        defaults={"head_dim": 128, "num_key_value_heads": 8, "sliding_window": 512, "num_experts": 256,
                  "num_experts_per_tok": 8, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
                  "intermediate_size": 8192},
        implied={"qk_norm": "head", "router_bias": True},
        kinds=layer_types(all_of(FULL)),
        mlp_kinds=listed("mlp_layer_types", MLP_NAMES, _first_dense(1)),
        mixers={FULL: _laguna, SLIDING: lambda f, i: _laguna(f, i, f.int("sliding_window"))},
        extra=_laguna_gate,
        per_layer=True,
    ),
    "mellum": Type(
        renames={"num_experts": ("num_local_experts", "num_experts")},
        defaults={"num_key_value_heads": 4, "head_dim": 128, "sliding_window": 1024, "num_experts": 64,
                  "num_experts_per_tok": 8, "moe_intermediate_size": 896},
        implied={"qk_norm": "head"},
        kinds=layer_types(all_of(FULL)),
        mlp_kinds=listed("mlp_layer_types", MLP_NAMES, ALL_MOE),
    ),
    "sarvam_moe": Type(
        renames={**ROUTED, **SHARED},
        defaults={"num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 1,
                  "moe_intermediate_size": 1024, "use_qk_norm": True},
        implied={"o_bias": False},
        mixers={FULL: glm_heads},
        mlp_kinds=dense_then_moe(default=1),
    ),
    "bailing_moe": Type(
        source="vLLM 0.33.0 bailing_moe.py: Ling and Ring 1.5 and 2.0; counts of Ling-mini-2.0, Ling-flash-2.0 and Ling-1T",
        renames={**ROUTED, **SHARED, "qkv_bias": ("qkv_bias", "use_qkv_bias"),
                 "shared_expert_intermediate_size": ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")},
        defaults={"num_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2},
        implied={"o_bias": False},
        mixers={FULL: glm_heads},
        mlp_kinds=dense_then_moe(default=0),
        mtp=decoder.mtp_layers(glm_heads, decoder.moe, copies=False),  # SGLang 0.5.23 bailing_moe_nextn.py
    ),
    "granitemoe_swa": Type(
        renames={**EXPERTS_ONLY, "shared_expert_intermediate_size": "shared_intermediate_size"},
        defaults={"num_experts": 8, "num_experts_per_tok": 2, "sliding_window": 128,
                  "shared_expert_intermediate_size": 0},
        implied={"attn_sinks": True},
        kinds=layer_types(every_fourth_full),
        mlp_kinds=ALL_MOE,
    ),
    "step3p5": Type(
        renames={"num_key_value_heads": ("num_key_value_heads", "num_attention_groups"),
                 "num_experts": ("n_routed_experts", "moe_num_experts", "num_local_experts", "num_experts"),
                 "num_experts_per_tok": ("num_experts_per_tok", "moe_top_k"),
                 "shared_expert_intermediate_size": ("share_expert_dim", "share_expert_dims"),
                 "max_position_embeddings": ("max_position_embeddings", "max_seq_len"),
                 "num_nextn_predict_layers": ("num_nextn_predict_layers", "num_mtp_layers")},
        defaults={"num_key_value_heads": 8, "head_dim": 128, "num_experts": 288, "num_experts_per_tok": 8,
                  "moe_intermediate_size": 1280, "shared_expert_intermediate_size": 1280},
        implied={"qk_norm": "head"},
        kinds=_STEP_KINDS,
        mlp_kinds=_STEP_MLPS,
        mixers={SLIDING: _step_sliding},
        extra=_step_gate,
        mtp=_step_mtp,
        per_layer=True,
        ignore=("sliding_window",),  # read by the windowed layers, where there are any
    ),
}  # fmt: skip
