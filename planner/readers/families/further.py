"""Further decoders: those met more seldom, and the text models of models that read documents or hear.

Structure as in the modelling files of transformers 5.24.0, unless a type names another source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.errors import BadConfig, UnsupportedModel
from planner.model.attention import Mixer
from planner.model.latent_attention import LatentAttention
from planner.model.latent_window import WindowedLatentAttention
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.recurrent import kimi_delta
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.families import latent, streams
from planner.readers.families.dense import GPT2_KEYS, LLAMA
from planner.readers.families.experts import EXPERTS_ONLY, ROUTED, biased_shared_experts
from planner.readers.families.state_keys import LINEAR, NAMES, layer_indices
from planner.readers.fields import Fields
from planner.readers.layer_kinds import (
    DENSE,
    FULL,
    MOE,
    SLIDING,
    all_of,
    every_fourth_full,
    expert_layers,
    layer_count,
    layer_types,
    listed,
)
from planner.readers.model_types import Type

# --- dense -----------------------------------------------------------------------------------------------


def _persimmon_norms(f: Fields, index: int) -> tuple[Weight, ...]:
    """With `qk_layernorm` one LayerNorm of head_dim for all heads' q, one for k."""
    return (vector("norm", decoder.head_dim(f), 4),) if f.flag("qk_layernorm", True) else ()


def _bitnet_norms(f: Fields, index: int) -> tuple[Weight, ...]:
    """A norm before the output projection [hidden], and one before the down projection [intermediate]."""
    return (vector("norm", f.int("hidden_size")), vector("norm", f.int("intermediate_size")))


def _hyperclovax_norms(f: Fields, index: int) -> tuple[Weight, ...]:
    """With `use_post_norm` a norm behind each half, too."""
    return decoder.norm(f, f.int("hidden_size"), 2) if f.flag("use_post_norm", True) else ()


def _helium(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Helium's output projection is square: heads of other widths than hidden / heads would not fit it."""
    base = decoder.attention(f, index)
    if base.heads * base.head_dim != base.hidden:
        raise BadConfig(
            f"{f.where}: {base.heads} heads of {base.head_dim} for a hidden size of {base.hidden}; Helium's output "
            "projection wants their product"
        )
    return (base,)


def _delay_norm(f: Fields, index: int) -> tuple[Weight, ...]:
    """Scales what the MLP reads by the delay, through a low rank: [32, hidden] and [hidden, 32]."""
    hidden = f.int("hidden_size")
    return (*linear("norm", 32, hidden, name="ada_rms_norm"), *linear("norm", hidden, 32, name="ada_rms_norm"))


def _minicpm_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """MiniCPM-MoE: every expert as wide as the dense MLP would be."""
    experts = f.int("num_experts")
    return (Moe(f.int("hidden_size"), experts, f.int("num_experts_per_tok", high=experts), f.int("intermediate_size")),)


# --- ERNIE that sees ---------------------------------------------------------------------------------------


def _of_text(f: Fields, key: str, default: int, *, at: int = 0) -> int:
    """Reads a number, or entry `at` of a list: text first, then vision."""
    value = f.get(key)
    if not isinstance(value, (list, tuple)):
        return f.int(key, default, low=0)
    found = f.int_list(key, low=0) or []
    if at >= len(found):
        raise BadConfig(f"{f.where}: key {key!r} has {len(found)} entries; one for text and one for vision are wanted")
    return found[at]


def _ernie_vl_mlps(f: Fields) -> list[str]:
    """`mlp_layer_types`, else experts from `moe_layer_start_index` to `moe_layer_end_index`, else behind the first layer."""
    layers = layer_count(f)
    first, last = _of_text(f, "moe_layer_start_index", 1), _of_text(f, "moe_layer_end_index", layers)

    def rule(f: Fields) -> list[str]:
        return [MOE if first <= i <= last else DENSE for i in range(layers)]

    return listed("mlp_layer_types", {"dense": DENSE, "sparse": MOE}, rule)(f)


def _ernie_vl_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Experts for text and as many narrower ones for images, each with a router and its correction bias; shared ones.

    A token goes to one of the two sets: of the other nothing is active.
    """
    hidden = f.int("hidden_size")
    width = [_of_text(f, "moe_intermediate_size", default, at=at) for at, default in ((0, 1536), (1, 512))]
    count = [_of_text(f, "num_experts", 64, at=at) for at in (0, 1)]
    active = f.int("num_experts_per_tok", 6, high=count[0])
    shared = width[0] * f.int("n_shared_experts", 2, low=0)
    bias: tuple[Weight, ...] = (vector("shared_experts", 2 * shared + hidden),) if f.flag("mlp_bias") and shared else ()
    text = Moe(hidden, count[0], active, width[0], shared_width=shared, router_bias=True, extra=bias)
    images = replace(text, experts=count[1], expert_width=width[1], shared_width=0, active=0, extra=())
    note = "experts for images are stored beside those for text; a text token uses none of them"
    if note not in f.notes:
        f.notes.append(note)
    return (text, images)


# --- dots.note ---------------------------------------------------------------------------------------------

_DOTS_SLIDING = {
    "num_attention_heads": 64, "q_lora_rank": 1024, "kv_lora_rank": 1024, "head_dim": 256, "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}  # fmt: skip


def _dots_kinds(f: Fields) -> list[str]:
    """`layer_types`, else global in the first two and every fourth layer from the second.

    Released files call a global layer full_attention and mean one with an indexer, unless `use_dsa` is false; files
    saved by transformers, which hold `per_layer_config`, mean what they say.
    """
    own, names = latent.INDEXED, {FULL: latent.INDEXED, latent.INDEXED: latent.INDEXED, SLIDING: SLIDING}
    if f.get("use_dsa") is False:
        own, names = FULL, {FULL: FULL, latent.INDEXED: FULL, SLIDING: SLIDING}
    elif f.get("use_dsa") is None and f.get("per_layer_config") is not None:
        names[FULL] = FULL
    windows = f.flag("use_sliding_window", True)

    def rule(f: Fields) -> list[str]:
        return [own if not windows or i < 2 or i % 4 == 1 else SLIDING for i in range(layer_count(f))]

    return listed("layer_types", names, rule)(f)


def _dots_sliding(f: Fields, index: int) -> tuple[Mixer, ...]:
    """MLA of its own shape over a window: `swa_*`, or what `per_layer_config` changes of the model's own keys."""
    saved = f.section("per_layer_config")
    if saved is None:
        size = {key: f.int(f"swa_{key}", default) for key, default in _DOTS_SLIDING.items()}
        rope = f.int("swa_qk_rope_head_dim", size["head_dim"] - size["qk_nope_head_dim"])
    else:
        changed = next(
            (values for key, values in saved.items() if len(key) < 6 and key.isdecimal() and int(key) == index), None
        )  # "02" as well
        own = f.sub(changed if isinstance(changed, Mapping) else {}, f"per_layer_config of layer {index}")
        size = {key: own.int(key, f.int(key, default)) for key, default in _DOTS_SLIDING.items()}
        rope = own.int("qk_rope_head_dim", f.int("qk_rope_head_dim"))
    return (
        WindowedLatentAttention(
            hidden=f.int("hidden_size"),
            heads=size["num_attention_heads"],
            q_rank=size["q_lora_rank"],
            kv_rank=size["kv_lora_rank"],
            nope_dim=size["qk_nope_head_dim"],
            rope_dim=rope,
            v_dim=size["v_head_dim"],
            bias=f.flag("attention_bias"),
            window=f.int("sliding_window", 512),
        ),
    )


def _dots_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """`n_shared_experts` experts of the shared width, one by default."""
    shared = f.int("n_shared_experts", 1)
    return tuple(
        replace(m, shared_width=shared * m.shared_width) if isinstance(m, Moe) else m for m in decoder.moe(f, index)
    )


def _dots_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """A norm of the rope key, and a gate for each head."""
    mixer = (_dots_sliding if _dots_kinds(f)[index] == SLIDING else latent.mla)(f, index)[0]
    assert isinstance(mixer, LatentAttention)
    gate = linear("attention", mixer.heads, f.int("hidden_size"), split="rows", units=mixer.heads, name="g_proj")
    return (vector("norm", mixer.rope_dim), *gate)


# --- Solar Open 2 ------------------------------------------------------------------------------------------


def _solar_kinds(f: Fields) -> list[str]:
    """`layer_types`, else `gqa_layers` (counted from zero), else the first of every `gqa_interval` + 1 layers attends."""
    count, chosen = layer_count(f), f.int_list("gqa_layers", low=0)

    def rule(f: Fields) -> list[str]:
        period = f.int("gqa_interval", 3) + 1
        full = set(range(0, count, period) if chosen is None else layer_indices(f, "gqa_layers", chosen, count=count))
        return [FULL if i in full else LINEAR for i in range(count)]

    return listed("layer_types", NAMES, rule)(f)


def _solar_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Attention over all tokens with a gate of its output; a norm of each head's q and k where `use_qk_norm` says so."""
    base = decoder.attention(f, index)
    gate = base.head_dim if f.flag("use_gqa_gate", True) else 0
    return (replace(base, gate=gate, qk_norm="head" if f.flag("use_qk_norm") else ""),)


def _solar_delta(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Kimi's delta rule, its keys in `linear_attn_config`."""
    own = f.sub(f.section("linear_attn_config") or {}, "linear_attn_config")
    heads, full = own.int("num_heads", f.int("num_attention_heads")), f.flag("kda_use_full_proj")
    if own.maybe_int("num_kv_heads") not in (None, heads):
        raise UnsupportedModel(f"{own.where}: key 'num_kv_heads' of fewer heads than num_heads {heads} is not read")
    return (
        kimi_delta(
            hidden=f.int("hidden_size"),
            heads=heads,
            head_dim=own.int("head_dim", f.int("head_dim", 128)),
            conv_kernel=own.int("short_conv_kernel_size", 4),
            full_rank_gate=full,
            full_rank_decay=full,
        ),
    )


# --- the types -------------------------------------------------------------------------------------------


SOURCE = "transformers 5.24.0"
LAYER_NORMED = {"norm": "layer", "mlp_gated": False}
_BIASED = {"qkv_bias": "use_bias", "o_bias": "use_bias", "mlp_bias": "use_bias"}


def _reference_windows(f: Fields) -> list[str]:
    """Full everywhere: prompt and pages stay whole, and of what is written engines keep all, attending to the last window."""
    kinds = listed("layer_types", {"reference_sliding_attention": SLIDING, FULL: FULL}, all_of(SLIDING))(f)
    if SLIDING in kinds:
        f.notes.append(
            f"generated tokens attend to the prompt and the last {f.int('sliding_window')} of them; all are counted as kept, "
            "as vLLM keeps them: transformers drops the older ones"
        )
    return [FULL] * len(kinds)


OCR_EXPERTS = Type(
    source=f"{SOURCE} DeepseekOcr2TextConfig: DeepSeek's experts over ordinary attention",
    implied={"head_dim": None},  # the class sets it itself: hidden / heads
    ignore=("head_dim",),
    renames={"num_experts": ("num_experts", "n_routed_experts")},
    defaults={"n_shared_experts": 2, "num_experts": 64, "moe_intermediate_size": 1407},
    mlp_kinds=expert_layers(),
    mlps={MOE: latent.v2_experts},
)

TYPES: dict[str, Type] = {
    "cwm": replace(
        LLAMA,
        source=f"{SOURCE} CwmConfig: Llama with windows in three of four layers",
        defaults={"num_key_value_heads": 8, "head_dim": 128, "sliding_window": 8192},
        implied={"attention_bias": False},
        kinds=layer_types(every_fourth_full),
    ),
    "helium": replace(LLAMA, source=f"{SOURCE} HeliumConfig", defaults={"head_dim": 128, "num_key_value_heads": 20},
                      implied={"o_bias": False}, mixers={FULL: _helium}),
    "jais2": Type(source=f"{SOURCE} Jais2Config", implied=LAYER_NORMED, defaults={"attention_bias": True, "mlp_bias": True}),
    "nanochat": Type(source=f"{SOURCE} NanoChatConfig: norms without weights", implied={"norm": "none", "mlp_gated": False}),
    "hyperclovax": replace(LLAMA, source=f"{SOURCE} HyperCLOVAXConfig", extra=_hyperclovax_norms),
    "persimmon": Type(
        source=f"{SOURCE} PersimmonConfig",
        implied={**LAYER_NORMED, "attention_bias": True, "mlp_bias": True},
        renames={"num_key_value_heads": "num_heads_never_read", "head_dim": "head_dim_never_read"},
        extra=_persimmon_norms,
    ),
    "bitnet": Type(source=f"{SOURCE} BitNetConfig", defaults={"num_key_value_heads": 5}, extra=_bitnet_norms),
    "codegen": Type(
        source=f"{SOURCE} CodeGenConfig",
        renames=GPT2_KEYS,
        implied={**LAYER_NORMED, "layer_norms": 1, "mlp_4x": True, "mlp_bias": True, "lm_head_bias": True},
    ),
    "glm_ocr_text": Type(
        source=f"{SOURCE} GlmOcrTextConfig: GLM-4 without biases",
        defaults={"num_key_value_heads": 8}, implied={"layer_norms": 4},
        mtp=decoder.mtp_layers(decoder.full, decoder.dense, copies=False),  # vLLM 0.33.0 glm_ocr_mtp.py
    ),
    "paddleocr_vl_text": Type(
        source=f"{SOURCE} PaddleOCRTextConfig: ERNIE 4.5",
        renames=_BIASED, defaults={"tie_word_embeddings": True, "num_key_value_heads": 2, "head_dim": 128},
    ),
    "hunyuan_vl_text": Type(
        source=f"{SOURCE} HunYuanVLTextConfig: Hunyuan dense",
        renames={"head_dim": ("head_dim", "attention_head_dim"), "vocab_size": ("vocab_size", "org_vocab_size")},
        defaults={"tie_word_embeddings": True}, implied={"qk_norm": "head"},
    ),
    "minicpm": Type(
        source="MiniCPM4-8B configuration_minicpm.py and modeling_minicpm.py: Llama with scales; its sparse attention keeps all",
        defaults={"tie_word_embeddings": True, "num_experts": 0, "num_experts_per_tok": 2},
        mlp_kinds=lambda f: [MOE if f.int("num_experts", low=0) else DENSE] * layer_count(f),
        mlps={MOE: _minicpm_experts},
    ),
    "granite4_vision_text": LLAMA,
    "granite_docling_text": replace(LLAMA, defaults={"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "voxtral_realtime_text": Type(
        source=f"{SOURCE} VoxtralRealtimeTextConfig: Mistral, its norms set by the delay",
        defaults={"num_key_value_heads": 8, "sliding_window": 4096},
        kinds=layer_types(all_of(SLIDING)),
        extra=_delay_norm,
    ),
    "aria_text": Type(
        source=f"{SOURCE} AriaTextConfig",
        renames={**EXPERTS_ONLY, "num_experts": "moe_num_experts", "num_experts_per_tok": "moe_topk",
                 "n_shared_experts": "moe_num_shared_experts"},
        defaults={"num_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 2},
        mlp_kinds=all_of(MOE),
        mlps={MOE: biased_shared_experts},
    ),
    "deepseek_ocr2_text": OCR_EXPERTS,
    "unlimited_ocr_text": replace(
        OCR_EXPERTS,
        source=f"{SOURCE} UnlimitedOcrTextConfig: DeepSeek's experts over ordinary attention",
        defaults={"num_key_value_heads": 10, "n_shared_experts": 2, "num_experts": 64, "num_experts_per_tok": 6, "moe_intermediate_size": 896,
                  "sliding_window": 128},
        kinds=_reference_windows,
        mlp_kinds=expert_layers(1),
    ),
    "ernie4_5_vl_moe_text": Type(
        source=f"{SOURCE} Ernie4_5_VLMoeTextConfig",
        renames={**_BIASED, "num_experts": ("moe_num_experts", "num_experts"),
                 "num_experts_per_tok": ("moe_k", "num_experts_per_tok"), "n_shared_experts": "moe_num_shared_experts"},
        defaults={"tie_word_embeddings": True, "num_key_value_heads": 4, "vocab_size": 103424, "hidden_size": 2560,
                  "intermediate_size": 12288, "num_hidden_layers": 28, "num_attention_heads": 20},
        mlp_kinds=_ernie_vl_mlps,
        mlps={MOE: _ernie_vl_experts},
    ),
    "dots3_note_text": Type(
        source=f"{SOURCE} Dots3NoteTextConfig: MLA with an indexer, three of four layers MLA over a window",
        renames={**ROUTED, "shared_expert_intermediate_size": ("shared_experts_intermediate_size",
                                                               "moe_shared_expert_intermediate_size"),
                 "sliding_window": ("sliding_window", "sliding_window_size")},
        defaults={"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "kv_lora_rank": 512,
                  "shared_expert_intermediate_size": 1536, "q_lora_rank": 1024, "qk_rope_head_dim": 64,
                  "qk_nope_head_dim": 128, "v_head_dim": 128, "index_n_heads": 64, "index_head_dim": 128,
                  "use_sliding_window": True},
        implied={"mlp_bias": False},
        kinds=_dots_kinds,
        mlp_kinds=expert_layers(1),
        mixers={FULL: latent.mla, latent.INDEXED: latent.mla_with_indexer, SLIDING: _dots_sliding},
        mlps={MOE: _dots_experts},
        extra=_dots_extra,
        per_layer=True,
        ignore=("per_layer_config", "use_sliding_window", "index_head_dim", "index_n_heads", "index_topk", "sliding_window"),
    ),
    "hy_v4_vl_text": replace(
        streams.TYPES["hy_v4"],
        source=f"{SOURCE} HYV4VLTextConfig: Hy4 of other sizes",
        defaults={**streams.TYPES["hy_v4"].defaults, "moe_intermediate_size": 2048, "q_lora_rank": 2048, "index_n_heads": 32},
    ),
    "solar_open2": Type(
        source="Upstage's vLLM configs/solar_open2.py; 250,287,810,304 parameters of Solar-Open2-250B with its routers' biases",
        renames=ROUTED,
        defaults={"num_key_value_heads": 8, "head_dim": 128, "num_experts": 320, "num_experts_per_tok": 8,
                  "n_shared_experts": 1, "moe_intermediate_size": 1280},
        kinds=_solar_kinds,
        mixers={FULL: _solar_attention, LINEAR: _solar_delta},
        mlp_kinds=expert_layers(),
        ignore=("linear_attn_config", "head_dim", "num_key_value_heads"),
    ),
}  # fmt: skip
