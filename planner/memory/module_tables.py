"""The names that libraries give to the modules of a layer: of all types, and of types that have names of their own.

Compared with the modules of transformers 5.24 for every type by `python benchmarks/module_names.py`; the spellings of
published files besides (w1, switch_mlp, block_sparse_moe).
"""

from __future__ import annotations

Names = tuple[str, ...]

ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "ffn", "feed_forward")
_MOE = (*MLP, "block_sparse_moe", "moe")
CONTAINERS: dict[str, Names] = {
    "attention": ATTENTION,
    "cross_attention": ("cross_attn", "encoder_attn", "EncDecAttention"),
    "indexer": (
        *(f"{name}.indexer" for name in ATTENTION), "self_attn.compressor.indexer",
        "attn.indexer.compressor",
    ),
    "compressor": tuple(f"{name}.compressor" for name in ATTENTION),
    "mixer": ("linear_attn",),
    "mlp": MLP,
    "experts": (*(f"{name}.experts.0" for name in _MOE), "mlp.switch_mlp", "block_sparse_moe.switch_mlp", "moe.switch_mlp"),
    "shared_experts": (
        "mlp.shared_experts", "mlp.shared_expert", "ffn.shared_experts", "feed_forward.shared_expert",
        "block_sparse_moe.shared_experts", "share_expert", "moe.shared_experts",
    ),
    "router": _MOE,
    "per_layer_embedding": ("",), "engram": ("engram",),
    "altup": ("altup",), "laurel": ("laurel",),
}  # fmt: skip

_GRANITE: dict[str, Names] = {
    "experts": ("block_sparse_moe", "block_sparse_moe.experts.0", "block_sparse_moe.switch_mlp"),
    "shared_experts": ("shared_mlp",), "router": ("block_sparse_moe.router",),
}  # fmt: skip
_GEMMA_4: dict[str, Names] = {  # experts stand beside the dense MLP, not in it
    "experts": ("experts.0", "moe.experts.0", "experts.switch_glu"), "router": ("router",),
}  # fmt: skip
_LINEAR_IN_ATTENTION: dict[str, Names] = {"mixer": ATTENTION}
_MAMBA: dict[str, Names] = {"mixer": ("mamba",)}
_CONV: dict[str, Names] = {"mixer": ("conv",)}

# By model type without `_text`: parts under names of their own.
OWN_CONTAINERS: dict[str, dict[str, Names]] = {
    "kimi_linear": _LINEAR_IN_ATTENTION, "minimax": _LINEAR_IN_ATTENTION, "minimax_text_01": _LINEAR_IN_ATTENTION,
    "bailing_hybrid": _LINEAR_IN_ATTENTION, "glm5_next": _LINEAR_IN_ATTENTION, "kimi_k3": _LINEAR_IN_ATTENTION,
    "bamba": _MAMBA, "jamba": _MAMBA, "falcon_h1": _MAMBA, "zamba": _MAMBA, "zamba2": _MAMBA, "plamo2": {"mixer": ("mixer",)},
    "granitemoe": _GRANITE, "granitemoeshared": _GRANITE, "granitemoe_swa": _GRANITE, "granitemoehybrid": _GRANITE | _MAMBA,
    "lfm2": _CONV, "lfm2_moe": _CONV, "lfm2_vl": _CONV, "lfm3": _CONV,
    "recurrent_gemma": {"mixer": ("temporal_block",), "attention": ("temporal_block",), "mlp": ("mlp_block",)}, "rwkv": {"mixer": ("attention",)},
    "mamba": {"mixer": ("mixer",)}, "mamba2": {"mixer": ("mixer",)}, "falcon_mamba": {"mixer": ("mixer",)},
    "gemma4": _GEMMA_4, "gemma4_unified": _GEMMA_4,
    "dbrx": {"attention": ("norm_attn_norm.attn",), "experts": ("ffn.experts.mlp", "ffn.experts.0"), "router": ("ffn.router",)},
    "hunyuan_v1_moe": {"shared_experts": ("mlp.shared_mlp",)}, "hunyuan": {"shared_experts": ("mlp.shared_mlp",)},
    "gpt_neo": {"attention": ("attn.attention",)}, "opt": {"mlp": ("",)}, "afmoe": {"router": ("mlp.router",)},
    "longcat_flash": {
        "attention": ("self_attn.0", "self_attn.1"), "mlp": ("mlps.0", "mlps.1"), "router": ("mlp.router",),
    },
}  # fmt: skip
ONE_MIXER = ("nemotron_h",)  # attention, state and MLP all stand under `mixer`

PREFIXES = (
    "model.layers.", "model.language_model.layers.", "language_model.model.layers.", "layers.",
    "backbone.layers.", "transformer.h.", "model.decoder.layers.",
)  # fmt: skip
TOWERS: dict[str, Names] = {
    "vision": ("visual", "model.visual", "vision_tower", "model.vision_tower", "vision_model", "vision_encoder", "vit"),
    "audio": ("audio_tower", "model.audio_tower", "audio_encoder", "speech_encoder", "embed_audio"),
    "projector": (
        "multi_modal_projector", "model.multi_modal_projector", "mm_projector", "visual.merger", "model.visual.merger",
        "connector", "model.connector", "embed_vision", "aligner", "mlp1",
    ),
}  # fmt: skip
ALONE: dict[str, Names] = {
    "embedding": (
        "model.embed_tokens",
        "embed_tokens",
        "model.language_model.embed_tokens",
        "language_model.model.embed_tokens",
        "embed",
        "wte",
        "transformer.wte",
        "model.tok_embeddings",
        "backbone.embeddings",
    ),
    "lm_head": (
        "lm_head",
        "language_model.lm_head",
        "model.lm_head",
        "model.language_model.lm_head",
        "head",
        "output",
        "language_model.output",
        "transformer.lm_head",
    ),
}
_QKV = ("qkv_proj", "c_attn", "query_key_value", "Wqkv", "W_pack", "qkv")
FUSED: dict[str, Names] = {
    "q_proj": (*_QKV, "q"),
    "k_proj": (*_QKV, "k"),
    "v_proj": (*_QKV, "v"),
    "o_proj": ("out_proj", "dense", "c_proj", "proj", "o", "wo"),
    "kv_b_proj": ("embed_q", "unembed_out"),
    "wq_b": ("q_b_proj",),
    "gate_proj": ("gate_up_proj", "w1", "input_linear", "gate_up", "wi_0"),
    "up_proj": ("gate_up_proj", "w3", "v1", "c_fc", "fc1", "fc_in", "linear_fc1", "dense_h_to_4h", "input_linear", "gate_up", "wi_1", "wi"),
    "down_proj": ("w2", "c_proj", "fc2", "fc_out", "linear_fc2", "dense_4h_to_h", "output_linear", "wo"),
    "gate": ("proj", "layer", "classifier", "wg"),
}  # fmt: skip
