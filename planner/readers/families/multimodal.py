"""Models that see or hear: the text model of each, and the outer type that names its towers.

The text model is nested (`text_config`) and read by its own type; the towers are weights beside it and cache
nothing, except where the text model attends across to them (Llama 3.2 Vision).
Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.model.attention import Attention, Mixer
from planner.model.cross_attention import CrossAttention
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder, gemma_towers, more_towers, qwen_towers, towers
from planner.readers.families.dense import EXAONE4, QWEN_WINDOW
from planner.readers.families.windowed_experts import exaone_mtp
from planner.readers.fields import Fields
from planner.readers.layer_kinds import DENSE, FULL, SLIDING, all_of, every, layer_count, layer_types, sparse_step
from planner.readers.model_types import LayerKinds, Type

NESTED = ("text_config",)
CROSS = "cross_attention"
SHARED = "shared "  # before the kind of layer whose cache an earlier layer of that kind keeps
WIDE = "wide"

# --- Llama 3.2 Vision ------------------------------------------------------------------------------------


def _mllama_kinds(f: Fields) -> list[str]:
    """Cross attention at the layers listed, self attention at the others."""
    cross = f.int_list("cross_attention_layers") or []
    count = layer_count(f)
    if any(index >= count for index in cross):
        raise BadConfig(f"{f.where}: key 'cross_attention_layers' names a layer beyond the {count} layers")
    return [CROSS if index in set(cross) else FULL for index in range(count)]


def _mllama_cross(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Attention over the vision tokens only: norms of each head's q and k, no self attention beside it."""
    base = decoder.attention(f, index)
    return (CrossAttention(base.hidden, base.heads, base.kv_heads, base.head_dim, qk_norm="head"),)


def _mllama_gates(f: Fields, index: int) -> tuple[Weight, ...]:
    """A cross layer scales what attention and MLP add by a learned number each."""
    return (vector(CROSS, 1, 2),) if index in (f.int_list("cross_attention_layers") or []) else ()


def _mllama_image_rows(f: Fields) -> tuple[Weight, ...]:
    """Eight rows of the embedding beyond the vocabulary, for the image tokens; the head has none."""
    return (Weight("embedding", 8, f.int("hidden_size"), linear=False),)


# --- Gemma 3n and 4 --------------------------------------------------------------------------------------


def _with_shared_caches(kinds: LayerKinds) -> LayerKinds:
    """The last `num_kv_shared_layers` attend over what the last earlier layer of their kind cached."""

    def plan(f: Fields) -> list[str]:
        found = kinds(f)
        first = len(found) - f.int("num_kv_shared_layers", 0, low=0)
        if first == len(found):
            return found
        if first < 1 or set(found[first:]) - set(found[:first]):
            raise BadConfig(
                f"{f.where}: key 'num_kv_shared_layers' is {len(found) - first} of {len(found)} layers; "
                "each kind of layer that shares a cache wants an earlier one that keeps it"
            )
        return found[:first] + [SHARED + kind for kind in found[first:]]

    return plan


def _shared(maker: Callable[[Fields, int], Any]) -> Callable[[Fields, int], tuple[Mixer, ...]]:
    def make(f: Fields, index: int) -> tuple[Mixer, ...]:
        (base,) = maker(f, index)
        return (replace(base, shares_cache=True),)

    return make


def _per_layer_embeddings(f: Fields) -> tuple[Weight, ...]:
    """One table for all layers [vocabulary, layers x width], a projection of the same width and its norm."""
    width = f.int("hidden_size_per_layer_input", 0, low=0)
    if not width:
        return ()
    total = layer_count(f) * width
    rows = f.int("vocab_size_per_layer_input")
    part = "per_layer_embedding"
    return (
        Weight(part, rows, total, split="rows", linear=False),
        *linear(part, total, f.int("hidden_size")),
        vector("norm", width),
    )


def _per_layer_input(f: Fields, index: int) -> tuple[Weight, ...]:
    """Down to the width of the per-layer embedding, up again, and a norm."""
    hidden, width = f.int("hidden_size"), f.int("hidden_size_per_layer_input", 0, low=0)
    if not width:
        return ()
    part = "per_layer_embedding"
    return (
        *linear(part, width, hidden, name="per_layer_input_gate"),
        *linear(part, hidden, width, name="per_layer_projection"),
        vector("norm", hidden),
    )


def _altup(f: Fields, index: int) -> tuple[Weight, ...]:
    """AltUp keeps n copies of the stream: scales [hidden], coefficients [n, n] and [n x n, n], a router with its norm.

    Laurel adds a low-rank residual: [rank, hidden], [hidden, rank] and a norm.
    """
    hidden, copies, rank = f.int("hidden_size"), f.int("altup_num_inputs"), f.int("laurel_rank")
    return (
        vector("altup", hidden, 2),
        Weight("altup", copies, copies, linear=False),
        Weight("altup", copies**2, copies, linear=False),
        Weight("altup", copies, hidden, linear=False),
        *linear("laurel", rank, hidden),
        *linear("laurel", hidden, rank),
        vector("laurel", hidden),
        *_per_layer_input(f, index),
    )


def _altup_projections(f: Fields) -> tuple[Weight, ...]:
    """Into and out of each further copy of the stream, [hidden, hidden] both; the per-layer embeddings."""
    hidden, further = f.int("hidden_size"), f.int("altup_num_inputs") - 1
    projections = linear("altup", hidden, hidden, count=2 * further) if further else ()
    return (*projections, *_per_layer_embeddings(f))


def _gemma3n_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """`intermediate_size` is one number, or one for each layer."""
    widths = f.get("intermediate_size")
    if isinstance(widths, (list, tuple)):
        widths = f.int_list("intermediate_size", layer_count(f), low=1)
        assert widths is not None
        return (Mlp(f.int("hidden_size"), widths[index]),)
    return decoder.dense(f, index)


def _last_full(kinds: LayerKinds) -> LayerKinds:
    """Gemma 4 makes the last layer a global one whatever the file says."""

    def plan(f: Fields) -> list[str]:
        return [*kinds(f)[:-1], FULL]

    return plan


def _gemma4_full(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Global layers: heads of `global_head_dim`; with attention_k_eq_v their own KV heads and no v projection."""
    base = decoder.attention(f, index)
    same = f.flag("attention_k_eq_v")
    width, own_heads = f.int("global_head_dim"), f.maybe_int("num_global_key_value_heads")
    if f.get("per_layer_config") is None:
        heads = own_heads if same and own_heads is not None else base.kv_heads
        base = replace(base, head_dim=width, kv_heads=heads)
    return (_checked(f, replace(_overridden(f, index, base), k_is_v=same)),)


def _gemma4_sliding(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Windowed layers; with use_bidirectional_attention "all" the window reaches half as far back."""
    window = f.int("sliding_window")
    if f.get("use_bidirectional_attention") == "all":
        window = window // 2 + 1
    return (_checked(f, _overridden(f, index, decoder.attention(f, index, window=window))),)


def _overridden(f: Fields, index: int, base: Attention) -> Attention:
    """Files saved by transformers 5 list what differs by layer: {"05": {"head_dim": 512}}; then no rule applies."""
    for key, values in (f.section("per_layer_config") or {}).items():
        if not re.fullmatch(r"[0-9]{1,5}", key) or int(key) >= layer_count(f):
            raise BadConfig(
                f"{f.where}: key 'per_layer_config' names layer {one_line(key, 20)!r}, and there are {layer_count(f)}"
            )
        if int(key) != index:
            continue
        if not isinstance(values, Mapping) or set(values) - {"head_dim", "num_key_value_heads"}:
            raise UnsupportedModel(
                f"{f.where}: key 'per_layer_config' changes more in layer {index} than head_dim and num_key_value_heads"
            )
        own = f.sub(values, f"per_layer_config of layer {index}")
        return replace(
            base, head_dim=own.int("head_dim", base.head_dim), kv_heads=own.int("num_key_value_heads", base.kv_heads)
        )
    return base


def _checked(f: Fields, mixer: Attention) -> Attention:
    if mixer.kv_heads > mixer.heads:
        raise BadConfig(
            f"{f.where}: {mixer.kv_heads} KV heads of one layer for {mixer.heads} query heads; at most as many wanted"
        )
    return mixer


def _gemma4_mlp_kinds(f: Fields) -> list[str]:
    """Layers that share a cache have an MLP twice as wide where use_double_wide_mlp says so."""
    count = layer_count(f)
    wide = f.int("num_kv_shared_layers", 0, low=0) if f.flag("use_double_wide_mlp") else 0
    return [WIDE if index >= count - wide else DENSE for index in range(count)]


def _gemma4_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """The dense MLP, and with enable_moe_block experts beside it.

    The router scales its input [hidden], projects [experts, hidden] and scales each expert [experts].
    """
    base = decoder.dense(f, index)
    if not f.flag("enable_moe_block"):
        return base
    hidden, experts = f.int("hidden_size"), f.int("num_experts")
    moe = Moe(
        hidden,
        experts,
        f.int("top_k_experts", high=experts),
        f.int("moe_intermediate_size"),
        extra=(vector("router", hidden), vector("router", experts)),
    )
    return (*base, moe)


def _gemma4_wide(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    first, *rest = _gemma4_mlp(f, index)
    assert isinstance(first, Mlp)
    return (replace(first, width=2 * first.width), *rest)


def _gemma4_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """Experts bring three norms more; then the per-layer input."""
    norms = decoder.norm(f, f.int("hidden_size"), 3) if f.flag("enable_moe_block") else ()
    return (*norms, *_per_layer_input(f, index))


# --- Muse Glimmer ----------------------------------------------------------------------------------------


def muse_kinds(f: Fields) -> list[str]:
    """Lists the kinds of layers: every fourth is global, counted back from the last."""
    count = layer_count(f)
    return [FULL if (count - 1 - index) % 4 == 0 else SLIDING for index in range(count)]


def muse_gate(f: Fields, index: int) -> tuple[Weight, ...]:
    """A gate for each number of the attention's output, without bias whatever attention_bias says."""
    heads = f.int("num_attention_heads")
    return linear(
        "attention", heads * decoder.head_dim(f), f.int("hidden_size"), split="rows", units=heads, name="gate_proj"
    )


# --- the types -------------------------------------------------------------------------------------------


def outer(text: str, tower: Callable[[Fields, int], tuple[Weight, ...]], **more: Any) -> Type:
    """Describes a type whose text model is nested in its file, and has the type `text` unless the file names another."""
    return Type(nested=NESTED, text=text, towers=tower, **more)


def _sizes(hidden: int, ffn: int, layers: int, *, heads: int, vocab: int, **more: int) -> Mapping[str, int]:
    return {
        "hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
        "vocab_size": vocab, **more,
    }  # fmt: skip


# Published LLaVA files name a text model and leave out what its class has by default.
LLAVA_SIZES = {
    "llama": _sizes(4096, 11008, 32, heads=32, vocab=32000),
    "mistral": _sizes(4096, 14336, 32, heads=32, vocab=32000, num_key_value_heads=8),
    "qwen2": _sizes(4096, 22016, 32, heads=32, vocab=151936, num_key_value_heads=32),
}
FUYU_SIZES = {"persimmon": _sizes(4096, 16384, 36, heads=64, vocab=262144)}

QWEN2_TEXT = Type(
    defaults={"num_key_value_heads": 8, "max_window_layers": 80},
    implied={"qkv_bias": True, "o_bias": False},
    kinds=QWEN_WINDOW,
)
QWEN3_TEXT = Type(defaults={"head_dim": 128, "num_key_value_heads": 32}, implied={"qk_norm": "head"})
OMNI = outer("qwen2_5_omni_text", qwen_towers.qwen2_5_omni)
QWEN3_OMNI_TEXT = Type(
    defaults={"num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
    implied={"qk_norm": "head", "shared_expert_intermediate_size": 0},
    renames={"num_experts": ("num_local_experts", "num_experts")},
    mlp_kinds=sparse_step,
)
QWEN3_OMNI = outer("qwen3_omni_moe_text", more_towers.qwen3_omni)

_GEMMA_NORMS = {"layer_norms": 4, "qk_norm": "head"}
_PER_LAYER = {"hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144}

GEMMA4_TEXT = Type(
    defaults={
        **_sizes(2304, 9216, 30, heads=8, vocab=262144, num_key_value_heads=4, head_dim=256, sliding_window=512),
        **_PER_LAYER,
        "global_head_dim": 512,
        "tie_word_embeddings": True,
    },
    implied={**_GEMMA_NORMS, "period": 6},
    kinds=_with_shared_caches(_last_full(layer_types(every("period", 6)))),
    mlp_kinds=_gemma4_mlp_kinds,
    mixers={
        FULL: _gemma4_full,
        SLIDING: _gemma4_sliding,
        SHARED + FULL: _shared(_gemma4_full),
        SHARED + SLIDING: _shared(_gemma4_sliding),
    },
    mlps={DENSE: _gemma4_mlp, WIDE: _gemma4_wide},
    extra=_gemma4_extra,
    model_extra=_per_layer_embeddings,
    per_layer=True,
)
GEMMA4_UNIFIED_TEXT = replace(
    GEMMA4_TEXT,
    defaults={**GEMMA4_TEXT.defaults, "sliding_window": 1024, "hidden_size_per_layer_input": 0},
)

TYPES: dict[str, Type] = {
    "mllama_text_model": Type(
        defaults={"num_key_value_heads": 8, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]},
        # The embedding has rows that the head has not, so no file can tie them.
        implied={"tie_word_embeddings": False},
        kinds=_mllama_kinds,
        mixers={CROSS: _mllama_cross},
        extra=_mllama_gates,
        model_extra=_mllama_image_rows,
        per_layer=True,
    ),
    "ministral3": Type(
        defaults={"num_key_value_heads": 8, "head_dim": 128},
        implied={"attention_bias": False},
        kinds=layer_types(all_of(SLIDING)),
        nested=("text_config",),
        towers=towers.mistral3,
    ),
    "mllama": outer("mllama_text_model", towers.mllama, source_tokens=towers.mllama_source_tokens),
    "llama4": outer("llama4_text", towers.llama4, ties_from="inner"),
    "gemma3": outer("gemma3_text", towers.gemma3),
    "gemma3n_text": Type(
        defaults={
            **_sizes(2048, 16384, 35, heads=8, vocab=262400, num_key_value_heads=2, head_dim=256, sliding_window=512),
            **_PER_LAYER, "num_kv_shared_layers": 15, "altup_num_inputs": 4, "laurel_rank": 64,
            "tie_word_embeddings": True,
        },
        implied={**_GEMMA_NORMS, "period": 5},
        kinds=_with_shared_caches(layer_types(every("period", 5))),
        mixers={SHARED + FULL: _shared(decoder.full), SHARED + SLIDING: _shared(decoder.sliding)},
        mlps={DENSE: _gemma3n_mlp},
        extra=_altup,
        model_extra=_altup_projections,
        per_layer=True,
    ),
    "gemma3n": outer("gemma3n_text", gemma_towers.gemma3n),
    "gemma4_text": GEMMA4_TEXT,
    "gemma4": outer("gemma4_text", gemma_towers.gemma4),
    "gemma4_unified_text": GEMMA4_UNIFIED_TEXT,
    "gemma4_unified": outer("gemma4_unified_text", more_towers.gemma4_unified),
    "mistral_large4": outer("mistral_large4_text", towers.mistral3),
    "mistral3": outer("mistral", towers.mistral3, inner_ties=True),
    "qwen2_vl_text": QWEN2_TEXT,
    "qwen2_vl": outer("qwen2_vl_text", qwen_towers.qwen2_vl, either_ties=True),
    "qwen2_5_vl_text": QWEN2_TEXT,
    "qwen2_5_vl": outer("qwen2_5_vl_text", qwen_towers.qwen2_5_vl, either_ties=True),
    "qwen2_5_omni_text": replace(
        QWEN2_TEXT,
        defaults={**_sizes(3584, 18944, 28, heads=28, vocab=152064, num_key_value_heads=4), "max_window_layers": 28},
    ),
    "qwen2_5_omni_thinker": OMNI,
    "qwen2_5_omni": replace(OMNI, inside="thinker_config"),
    "qwen3_vl_text": QWEN3_TEXT,
    "qwen3_vl": outer("qwen3_vl_text", qwen_towers.qwen3_vl),
    "qwen3_vl_moe_text": Type(
        renames={"num_experts": ("num_local_experts", "num_experts")},
        defaults={"num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4,
                  "moe_intermediate_size": 1408},
        implied={"qk_norm": "head"},
        mlp_kinds=sparse_step,
    ),
    "qwen3_vl_moe": outer("qwen3_vl_moe_text", qwen_towers.qwen3_vl),
    "qwen3_5": outer("qwen3_5_text", qwen_towers.qwen3_5),
    "qwen3_5_moe": outer("qwen3_5_moe_text", qwen_towers.qwen3_5),
    "qwen4_exp": outer("qwen4_exp_text", qwen_towers.qwen3_5),
    "kimi_k25": outer("deepseek_v3", towers.kimi_k25),
    "glm5_next": outer("glm5_next_text", towers.glm5_next),
    "muse_glimmer_text": Type(
        defaults={"num_key_value_heads": 2, "head_dim": 128, "sliding_window": 2048},
        implied={"layer_norms": 4},
        kinds=layer_types(muse_kinds),
        extra=muse_gate,
    ),
    "muse_glimmer": outer("muse_glimmer_text", towers.muse_glimmer, ties_from="outer"),
    "minimax_m3_vl": outer("minimax_m3_vl_text", more_towers.minimax_m3, either_ties=True),
    "step3p7": outer("step3p5", more_towers.step3p7, ties_from="outer"),
    "exaone4_5_text": EXAONE4,  # as the first files of EXAONE 4.5 call it
    "exaone4_5": outer("exaone4", more_towers.exaone4_5, mtp=exaone_mtp, outer_keys=("num_nextn_predict_layers",)),
    "aya_vision": outer("cohere2", more_towers.aya_vision),
    "cohere2_vision": outer("cohere2", more_towers.cohere2_vision),
    "glm4v": outer("glm4v_text", more_towers.glm4v, either_ties=True),
    "glm4v_moe": outer("glm4v_moe_text", more_towers.glm4v, either_ties=True),
    "glm46v": outer("glm4v_text", more_towers.glm4v),
    "lfm2_vl": outer("lfm2", more_towers.lfm2_vl),
    "voxtral": outer(
        "llama", more_towers.voxtral, ties_from="outer",
        text_sizes={"llama": _sizes(3072, 8192, 30, heads=32, vocab=131072, num_key_value_heads=8, head_dim=128)},
    ),
    "qwen2_audio": outer("qwen2", more_towers.qwen2_audio, ties_from="outer"),
    "qwen3_omni_moe_text": QWEN3_OMNI_TEXT,
    "qwen3_omni_moe_thinker": QWEN3_OMNI,
    "qwen3_omni_moe": replace(QWEN3_OMNI, inside="thinker_config"),
    "llava_onevision": outer("qwen2", more_towers.llava_onevision, either_ties=True, text_sizes=LLAVA_SIZES),
    "llava": outer("llama", towers.llava, either_ties=True, text_sizes=LLAVA_SIZES),
    "llava_next": outer("llama", towers.llava_next, text_sizes=LLAVA_SIZES),
    "paligemma": outer("gemma", towers.paligemma),
    "internvl": outer("qwen2", towers.internvl),
    "internvl_chat": replace(
        outer("internlm2", towers.internvl_chat, ties_from="inner"), nested=("llm_config",),
        source="OpenGVLab's repositories: the text model under llm_config",
    ),
    "idefics3": outer("llama", towers.idefics3, text_sizes=LLAVA_SIZES),
    "smolvlm": outer("llama", towers.idefics3, text_sizes=LLAVA_SIZES),
}  # fmt: skip
