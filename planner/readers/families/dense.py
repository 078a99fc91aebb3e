"""Decoders of dense layers: GPT-2 and its heirs, LLaMA and its heirs.

Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source.
"""

from __future__ import annotations

from dataclasses import replace

from planner.errors import BadConfig
from planner.model.attention import Mixer
from planner.model.mlp import Mlp
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.fields import Fields
from planner.readers.layer_kinds import (
    DENSE,
    FULL,
    SLIDING,
    all_of,
    every,
    every_fourth_full,
    layer_types,
    letters,
    listed_or_full,
    window_from_layer,
)
from planner.readers.model_types import Type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.model.moe import Moe

GPT2_KEYS: dict[str, str | tuple[str, ...]] = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": ("n_positions", "n_ctx"),
}
GPT2_STYLE = {
    "norm": "layer",
    "mlp_gated": False,
    "mlp_4x": True,
    "qkv_bias": True,
    "o_bias": True,
    "mlp_bias": True,
}
WINDOW_ALL = layer_types(all_of(SLIDING))
SLIDING_KEYS: dict[str, str | tuple[str, ...]] = {"sliding_window": ("sliding_window", "sliding_window_size")}


def _one_kv_head(f: Fields, index: int) -> tuple[Mixer, ...]:
    """GPT-BigCode: `multi_query` (default true) means one KV head, without a key that says so."""
    base = decoder.attention(f, index)
    return (replace(base, kv_heads=1 if f.flag("multi_query", True) else base.heads),)


def _falcon(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Falcon: num_kv_heads counts only in the new architecture; else multi_query means one head."""
    base = decoder.attention(f, index)
    grouped, multi_query = f.maybe_int("num_kv_heads"), f.flag("multi_query", True)
    ungrouped = 1 if multi_query else base.heads
    heads = (grouped or base.heads) if f.flag("new_decoder_architecture") else ungrouped
    bias = f.flag("bias")
    return (replace(base, kv_heads=heads, qkv_bias=bias, out_bias=bias),)


def _falcon_norms(f: Fields, index: int) -> tuple[Weight, ...]:
    """One norm where attention and MLP run in parallel on it; two otherwise and for the 40B layout."""
    if f.flag("new_decoder_architecture"):
        norms = f.int("num_ln_in_parallel_attn", 2)
    else:
        norms = 1 if f.flag("parallel_attn", True) else 2
    return decoder.norm(f, f.int("hidden_size"), norms)


def _mpt(f: Fields, index: int) -> tuple[Mixer, ...]:
    """MPT keeps attention keys in a section of their own; kv_n_heads where given (grouped query)."""
    section = f.section("attn_config") or {}
    inner = f.sub(section, "attn_config")
    base = decoder.attention(f, index)
    heads = inner.int("kv_n_heads", base.heads)
    if inner.text("attn_type") == "multiquery_attention":
        heads = 1
    return (replace(base, kv_heads=heads, qk_norm="full" if inner.flag("qk_ln") else ""),)


def _mpt_positions(f: Fields) -> tuple[Weight, ...]:
    """A learned position table unless ALiBi is on (it is, unless the file says alibi: false)."""
    inner = f.sub(f.section("attn_config") or {}, "attn_config")
    if inner.flag("alibi", True):
        return ()
    return (Weight("embedding", f.int("max_position_embeddings"), f.int("hidden_size"), linear=False),)


def _opt_positions(f: Fields) -> tuple[Weight, ...]:
    """OPT's position table has two rows more than positions."""
    rows = f.int("max_position_embeddings") + 2
    return (Weight("embedding", rows, f.int("hidden_size"), linear=False),)


def _gpt2_positions(f: Fields) -> tuple[Weight, ...]:
    return (Weight("embedding", f.int("max_position_embeddings"), f.int("hidden_size"), linear=False),)


def _gpt2_cross(f: Fields, index: int) -> tuple[Weight, ...]:
    """`add_cross_attention`: k and v [2·h, h], q and out [h, h], each with a bias, and a norm in every layer.

    Its cache depends on an encoder that is another model: it is named, not counted. Source: transformers GPT2Block.
    """
    if not f.flag("add_cross_attention"):
        return ()
    note = (
        "add_cross_attention: its weights are counted; what it keeps of an encoder's output, of another model, is not"
    )
    if note not in f.notes:
        f.notes.append(note)
    hidden = f.int("hidden_size")
    own = (
        *linear("cross_attention", 2 * hidden, hidden, bias=True, name="k_proj|v_proj"),
        *linear("cross_attention", hidden, hidden, bias=True, name="q_proj"),
        *linear("cross_attention", hidden, hidden, bias=True, name="o_proj"),
    )
    return own + decoder.norm(f, hidden)


def _phi_norms(f: Fields, index: int) -> tuple[Weight, ...]:
    if not f.flag("qk_layernorm"):
        return ()
    return (vector("norm", decoder.head_dim(f), 4),)


def _stablelm_norms(f: Fields, index: int) -> tuple[Weight, ...]:
    """Two norms, or one where attention and MLP run in parallel; a bias-free norm for each head's q and k."""
    norms = decoder.norm(f, f.int("hidden_size"), 1 if f.flag("use_parallel_residual") else 2)
    if f.flag("qk_layernorm"):
        heads = f.int("num_attention_heads") + decoder.kv_heads(f)
        norms += (vector("norm", decoder.head_dim(f), heads),)
    return norms


def _cohere_norms(f: Fields, index: int) -> tuple[Weight, ...]:
    """One norm a layer (attention and MLP in parallel); `use_qk_norm` adds a gain for each head."""
    norms = decoder.norm(f, f.int("hidden_size"))
    if f.flag("use_qk_norm"):
        heads = f.int("num_attention_heads") + decoder.kv_heads(f)
        norms += (vector("norm", heads * decoder.head_dim(f), 1),)
    return norms


def _blocksparse(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Phi-3-small attends block-sparsely in most layers, and caches every token all the same."""
    return (replace(decoder.attention(f, index), qkv_bias=True, out_bias=True),)


def _chatglm(f: Fields, index: int) -> tuple[Mixer, ...]:
    """ChatGLM 2/3: grouped heads only when multi_query_attention; bias on q, k, v."""
    base = decoder.attention(f, index)
    grouped = f.int("multi_query_group_num", 1)
    heads = grouped if f.flag("multi_query_attention") else base.heads
    if heads > base.heads:
        raise BadConfig(f"{f.where}: multi_query_group_num {heads} is more than {base.heads} heads")
    linear_bias = f.flag("add_bias_linear")
    return (replace(base, kv_heads=heads, qkv_bias=linear_bias or f.flag("add_qkv_bias", True), out_bias=linear_bias),)


def _half_width(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Qwen 1: the file's intermediate_size is that of gate and up together."""
    return (Mlp(f.int("hidden_size"), f.int("intermediate_size", low=2) // 2),)


LLAMA = Type(source="transformers LlamaConfig", kinds=listed_or_full)
QWEN_WINDOW = layer_types(window_from_layer)


def _qwen_vl_tower(f: Fields, hidden: int) -> tuple[Weight, ...]:
    """Lists the tower of Qwen-VL, whose text model and file are Qwen's."""
    if f.section("visual") is None:
        return ()
    from planner.readers.older_towers import qwen_vl  # a plain answer does not load towers

    return qwen_vl(f, hidden)


_REFINED_WEB = Type(
    source="falcon-7b of 2023 configuration_RW.py; 7B's file: 14,434,449,852 bytes",
    renames={
        "num_hidden_layers": ("n_layer", "num_hidden_layers"),
        "num_attention_heads": ("n_head", "num_attention_heads"),
        "num_kv_heads": ("n_head_kv", "num_kv_heads"),
        "num_key_value_heads": "num_heads_never_read",
        "intermediate_size": "ffn_hidden_size",
        "mlp_bias": "bias",
    },
    defaults={"tie_word_embeddings": True, "max_position_embeddings": 2048},
    implied={"norm": "layer", "layer_norms": 0, "mlp_gated": False, "mlp_4x": True},
    mixers={FULL: _falcon},
    extra=_falcon_norms,
)

EXAONE4 = Type(
    defaults={"sliding_window": 4096},
    implied={"attention_bias": False, "qk_norm": "head"},
    kinds=layer_types(letters("sliding_window_pattern", 4)),
)

TYPES: dict[str, Type] = {
    "gpt2": Type(
        renames=GPT2_KEYS,
        defaults={"max_position_embeddings": 1024, "vocab_size": 50257, "tie_word_embeddings": True},
        implied=GPT2_STYLE,
        extra=_gpt2_cross,
        model_extra=_gpt2_positions,
    ),
    "gpt3": Type(
        source="arXiv:2005.14165 table 2.1; a GPT-2 of these widths",
        defaults={"tie_word_embeddings": True},
        implied=GPT2_STYLE,
        model_extra=_gpt2_positions,
    ),
    "gptj": Type(
        renames=GPT2_KEYS,
        implied={"norm": "layer", "layer_norms": 1, "mlp_gated": False, "mlp_4x": True, "mlp_bias": True,
                 "lm_head_bias": True},
    ),
    "gpt_neo": Type(
        renames={"num_hidden_layers": "num_layers", "num_attention_heads": "num_heads"},
        defaults={"tie_word_embeddings": True},
        implied={**GPT2_STYLE, "qkv_bias": False},
        model_extra=_gpt2_positions,
        # Local layers mask, but the cache keeps every token.
        ignore=("attention_types", "attention_layers", "window_size"),
    ),
    "gpt_neox": Type(
        defaults={"attention_bias": True},
        implied={"norm": "layer", "mlp_gated": False, "mlp_bias": True, "mlp_4x": True},
    ),
    "gpt_bigcode": Type(
        renames=GPT2_KEYS,
        defaults={"tie_word_embeddings": True},
        implied=GPT2_STYLE,
        mixers={FULL: _one_kv_head},
        extra=_gpt2_cross,
        model_extra=_gpt2_positions,
    ),
    "opt": Type(
        renames={"intermediate_size": "ffn_dim", "qkv_bias": "enable_bias", "o_bias": "enable_bias",
                 "mlp_bias": "enable_bias", "norm_affine": "layer_norm_elementwise_affine",
                 "final_norm": "do_layer_norm_before"},
        defaults={"tie_word_embeddings": True, "qkv_bias": True, "o_bias": True, "mlp_bias": True},
        implied={"norm": "layer", "mlp_gated": False},
        model_extra=_opt_positions,
    ),
    "bloom": Type(
        renames={"hidden_size": ("hidden_size", "n_embed"), "num_hidden_layers": ("n_layer", "num_hidden_layers"),
                 "num_attention_heads": ("n_head", "num_attention_heads"), "max_position_embeddings": "seq_length"},
        defaults={"tie_word_embeddings": True, "vocab_size": 250880},
        implied={**GPT2_STYLE, "embed_norms": 1},
    ),
    "falcon": Type(
        renames={"intermediate_size": "ffn_hidden_size", "num_key_value_heads": "num_heads_never_read",
                 "mlp_bias": "bias"},
        defaults={"tie_word_embeddings": True},
        implied={"norm": "layer", "layer_norms": 0, "mlp_gated": False, "mlp_4x": True},
        mixers={FULL: _falcon},
        extra=_falcon_norms,
    ),
    # Falcon under the name of its first files, whose 40B layout is said by the type.
    "RefinedWebModel": _REFINED_WEB,
    "RefinedWeb": replace(_REFINED_WEB, implied={**_REFINED_WEB.implied, "new_decoder_architecture": True}),
    "mpt": Type(
        renames={"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
                 "max_position_embeddings": "max_seq_len"},
        defaults={"tie_word_embeddings": True, "max_position_embeddings": 2048},
        implied={"norm": "layer_nobias", "mlp_gated": False, "mlp_4x": True},
        mixers={FULL: _mpt},
        model_extra=_mpt_positions,
    ),
    "llama": LLAMA,
    "internlm": replace(
        LLAMA, source="internlm configuration_internlm.py: key `bias`",
        renames={"attention_bias": "bias"}, defaults={"attention_bias": True},
    ),
    "internlm2": replace(LLAMA, source="internlm2 configuration_internlm2.py", renames={"attention_bias": "bias"}),
    "internlm3": replace(
        LLAMA, renames={"qkv_bias": ("qkv_bias", "attention_bias"), "o_bias": ("bias", "attention_bias"),
                        "mlp_bias": ("bias", "mlp_bias")},
        defaults={"num_key_value_heads": 2, "head_dim": 128},
    ),
    "baichuan": replace(LLAMA, source="Baichuan2 configuration_baichuan.py: MHA, no biases"),
    "smollm3": replace(LLAMA, defaults={"tie_word_embeddings": True, "num_key_value_heads": 4},
                       kinds=layer_types(window_from_layer)),
    "granite": LLAMA,
    "apertus": replace(LLAMA, implied={"qk_norm": "head", "mlp_gated": False}, extra=lambda f, i: (vector("mlp", 1, 2),)),
    "seed_oss": replace(
        LLAMA, renames={"qkv_bias": "attention_bias", "o_bias": "attention_out_bias"},
        defaults={"qkv_bias": True, "o_bias": False, "head_dim": 128, "num_key_value_heads": 8},
    ),
    "starcoder2": Type(
        renames={"qkv_bias": "use_bias", "o_bias": "use_bias", "mlp_bias": "use_bias"},
        defaults={"qkv_bias": True, "o_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
                  "num_key_value_heads": 2},
        implied={"norm": "layer", "mlp_gated": False},
        kinds=WINDOW_ALL,
    ),
    "mistral": Type(
        renames=SLIDING_KEYS,
        defaults={"sliding_window": 4096, "num_key_value_heads": 8},
        implied={"attention_bias": False},
        kinds=WINDOW_ALL,
    ),
    "ministral": Type(
        renames=SLIDING_KEYS,
        defaults={"sliding_window": 4096, "num_key_value_heads": 8},
        implied={"attention_bias": False},
        kinds=WINDOW_ALL,
    ),
    "qwen": Type(
        towers=_qwen_vl_tower,
        source="Qwen-72B modeling_qwen.py: MHA, bias on q, k, v; intermediate_size counts gate and up together",
        renames={"head_dim": "kv_channels", "max_position_embeddings": ("seq_length", "max_position_embeddings")},
        implied={"qkv_bias": True, "o_bias": False},
        mlps={DENSE: _half_width},
    ),
    "molmo_text": Type(
        source="vLLM 0.33.0 molmo.py: a Qwen2 with a table of 128 further tokens",
        renames={"vocab_size": ("embedding_size", "vocab_size"), "tie_word_embeddings": ("weight_tying", "tie_word_embeddings")},
        implied={"o_bias": False}, mlps={DENSE: _half_width},
        model_extra=lambda f: (vector("embedding", 128 * f.int("hidden_size")),),
    ),
    "PanguEmbedded": Type(
        source="vLLM 0.33.0 openpangu.py: `bias` for q, k, v and o; openPangu-Embedded-7B's index: 16,061,784,576 bytes",
        renames={"qkv_bias": "bias", "o_bias": "bias", "attention_bias": "bias"},
    ),
    "qwen2": Type(implied={"qkv_bias": True, "o_bias": False}, kinds=QWEN_WINDOW),
    "qwen3": Type(implied={"qk_norm": "head"}, defaults={"head_dim": 128}, kinds=QWEN_WINDOW),
    "mimo": Type(source="MiMo-7B modeling_mimo.py: a Qwen2 with an MTP layer",
                 implied={"qkv_bias": True, "o_bias": False}, kinds=QWEN_WINDOW,
                 mtp=decoder.mtp_layers(decoder.full, decoder.dense, copies=False)),
    "gemma": Type(defaults={"tie_word_embeddings": True, "head_dim": 256, "num_key_value_heads": 16}),
    "gemma2": Type(
        renames=SLIDING_KEYS,
        defaults={"tie_word_embeddings": True, "head_dim": 256, "sliding_window": 4096, "num_key_value_heads": 4},
        implied={"layer_norms": 4, "period": 2},
        kinds=layer_types(every("period", 2)),
    ),
    "gemma3_text": Type(
        renames={"sliding_window_pattern": ("sliding_window_pattern", "_sliding_window_pattern")},
        # Published text_configs of Gemma 3 omit most of these keys.
        defaults={"tie_word_embeddings": True, "head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4,
                  "sliding_window": 4096, "vocab_size": 262208, "max_position_embeddings": 131072},
        implied={"layer_norms": 4, "qk_norm": "head"},
        kinds=layer_types(every("sliding_window_pattern", 6)),
    ),
    "phi": Type(
        implied={"norm": "layer", "layer_norms": 1, "mlp_gated": False, "mlp_bias": True, "qkv_bias": True,
                 "o_bias": True, "lm_head_bias": True},
        extra=_phi_norms,
    ),
    "phi3": Type(implied={"attention_bias": False}, kinds=WINDOW_ALL),
    "phi3small": Type(
        source="Phi-3-small configuration_phi3_small.py and modeling_phi3_small.py",
        renames={"intermediate_size": ("ff_intermediate_size", "intermediate_size")},
        defaults={"tie_word_embeddings": True, "intermediate_size": 14336},
        implied={"norm": "layer", "mlp_bias": True},
        mixers={FULL: _blocksparse},
    ),
    "chatglm": Type(
        source="ChatGLM3-6B configuration_chatglm.py",
        renames={"num_hidden_layers": "num_layers", "intermediate_size": "ffn_hidden_size", "head_dim": "kv_channels",
                 "vocab_size": ("padded_vocab_size", "vocab_size"), "max_position_embeddings": "seq_length",
                 "num_key_value_heads": "num_heads_never_read", "mlp_bias": "add_bias_linear"},
        defaults={"head_dim": 128},
        mixers={FULL: _chatglm},
    ),
    "glm": Type(defaults={"head_dim": 128, "num_key_value_heads": 2, "qkv_bias": True},
                renames={"qkv_bias": "attention_bias"}, implied={"o_bias": False}),
    "glm4": Type(defaults={"head_dim": 128, "num_key_value_heads": 2, "qkv_bias": True},
                 renames={"qkv_bias": "attention_bias"}, implied={"o_bias": False, "layer_norms": 4}),
    "glm4v_text": Type(defaults={"num_key_value_heads": 2}, implied={"qkv_bias": True, "o_bias": False, "layer_norms": 4}),
    "cohere": Type(defaults={"tie_word_embeddings": True},
                   implied={"norm": "layer_nobias", "layer_norms": 0}, extra=_cohere_norms),
    "cohere2": Type(
        defaults={"tie_word_embeddings": True, "sliding_window": 4096},
        implied={"norm": "layer_nobias", "layer_norms": 1},
        kinds=layer_types(every("sliding_window_pattern", 4)),
    ),
    "nemotron": Type(defaults={"head_dim": 128}, implied={"norm": "layer", "mlp_gated": False}),
    "olmo": Type(implied={"norm": "none"}),
    "olmo2": Type(implied={"qk_norm": "full"}),
    "olmo3": Type(
        defaults={"sliding_window": 4096}, implied={"qk_norm": "full", "period": 4},
        kinds=layer_types(every("period", 4)),
    ),
    "stablelm": Type(
        renames={"qkv_bias": "use_qkv_bias"}, implied={"norm": "layer", "layer_norms": 0, "o_bias": False},
        extra=_stablelm_norms,
    ),
    "exaone4": EXAONE4,
    "exaone": replace(LLAMA, source="transformers 5.24.0 ExaoneConfig; EXAONE-3.5 config.json: num_layers",
                      defaults={"num_key_value_heads": 8},
                      renames={"num_hidden_layers": ("num_hidden_layers", "num_layers")}),
    "iquestcoder": replace(LLAMA, source="transformers 5.24.0 IQuestCoderConfig",
                           defaults={"num_key_value_heads": 8, "head_dim": 128}),
    "arcee": replace(LLAMA, source="transformers 5.24.0 ArceeConfig: an MLP without a gate", implied={"mlp_gated": False}),
    "vaultgemma": Type(
        source="transformers 5.24.0 VaultGemmaConfig: Gemma 2 with two norms a layer",
        defaults={"tie_word_embeddings": True, "head_dim": 256, "sliding_window": 4096, "num_key_value_heads": 4},
        implied={"period": 2},
        kinds=layer_types(every("period", 2)),
    ),
    "granite_swa": replace(
        LLAMA,
        source="transformers 5.24.0 GraniteSWAConfig: windows of 128 and sinks",
        defaults={"tie_word_embeddings": True, "num_key_value_heads": 4, "sliding_window": 128},
        implied={"attn_sinks": True},
        kinds=layer_types(every_fourth_full),
    ),
}  # fmt: skip
