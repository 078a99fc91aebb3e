"""Small configs, one for each kind of model that the profiler builds, as transformers writes them."""

from __future__ import annotations

from typing import Any

from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

NEEDS_TORCH = "the profiler needs torch: pip install 'llm-kvplan[profile]'"
VOCAB = 97

BASE: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "vocab_size": VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256, "layer_norm_epsilon": 1e-2,
}  # fmt: skip
EXPERTS: dict[str, Any] = {**BASE, "num_experts_per_tok": 2, "num_experts": 4, "moe_intermediate_size": 32}
MLA: dict[str, Any] = {
    **BASE, "num_key_value_heads": 4, "num_experts_per_tok": 2, "n_routed_experts": 8, "n_group": 4, "topk_group": 2,
    "moe_intermediate_size": 32, "kv_lora_rank": 32, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 12, "first_k_dense_replace": 1, "rms_norm_eps": 1e-3,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {
    "type": "yarn", "factor": 4.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.7,
    "original_max_position_embeddings": 64,
}  # fmt: skip

# name -> (classes of transformers: <this>Config and <this>ForCausalLM, config)
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", {"model_type": "gpt2", **GPT2}),
    "gpt_bigcode": ("GPTBigCode", {"model_type": "gpt_bigcode", **GPT2}),
    "gpt_bigcode_mha": ("GPTBigCode", {"model_type": "gpt_bigcode", **GPT2, "multi_query": False}),
    "opt": ("OPT", {
        "model_type": "opt", "vocab_size": VOCAB, "hidden_size": 64, "ffn_dim": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 256, "word_embed_proj_dim": 64,
    }),
    "llama": ("Llama", {"model_type": "llama", **BASE}),
    "llama_mha_biased_tied": ("Llama", {
        "model_type": "llama", **BASE, "num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True,
        "tie_word_embeddings": True, "rms_norm_eps": 1e-2,
    }),
    "llama3_rope": ("Llama", {"model_type": "llama", **BASE, "rope_theta": 500000.0, "rope_scaling": LLAMA3_ROPE}),
    "llama_mqa": ("Llama", {"model_type": "llama", **BASE, "num_key_value_heads": 1, "head_dim": 24}),
    "mistral_window": ("Mistral", {"model_type": "mistral", **BASE, "sliding_window": 16, "head_dim": 24}),
    "qwen2": ("Qwen2", {"model_type": "qwen2", **BASE}),
    "qwen2_window": ("Qwen2", {
        "model_type": "qwen2", **BASE, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1,
    }),
    "qwen3": ("Qwen3", {"model_type": "qwen3", **BASE, "head_dim": 32}),
    "gemma": ("Gemma", {"model_type": "gemma", **BASE, "head_dim": 32}),
    "gemma2": ("Gemma2", {
        "model_type": "gemma2", **BASE, "head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 24,
    }),
    "gemma3": ("Gemma3", {
        "model_type": "gemma3_text", **BASE, "head_dim": 32, "sliding_window": 16, "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 24, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }),
    "phi3": ("Phi3", {"model_type": "phi3", **BASE, "pad_token_id": 0}),
    "phi": ("Phi", {"model_type": "phi", **BASE}),
    "gpt_neox": ("GPTNeoX", {"model_type": "gpt_neox", **{k: v for k, v in BASE.items() if "key_value" not in k}}),
    "starcoder2": ("Starcoder2", {"model_type": "starcoder2", **BASE}),
    "granite": ("Granite", {
        "model_type": "granite", **BASE, "embedding_multiplier": 3.0, "attention_multiplier": 0.1,
        "residual_multiplier": 0.5, "logits_scaling": 4.0,
    }),
    "olmo2": ("Olmo2", {"model_type": "olmo2", **BASE}),
    "smollm3": ("SmolLM3", {"model_type": "smollm3", **BASE, "num_hidden_layers": 5, "pad_token_id": 0}),
    "seed_oss": ("SeedOss", {"model_type": "seed_oss", **BASE, "head_dim": 16}),
    "mixtral": ("Mixtral", {"model_type": "mixtral", **BASE, "num_experts_per_tok": 2, "num_local_experts": 4}),
    "qwen2_moe": ("Qwen2Moe", {"model_type": "qwen2_moe", **EXPERTS, "shared_expert_intermediate_size": 40}),
    "qwen3_moe": ("Qwen3Moe", {"model_type": "qwen3_moe", **EXPERTS, "head_dim": 32, "norm_topk_prob": True}),
    "olmoe": ("Olmoe", {"model_type": "olmoe", **BASE, "num_experts_per_tok": 2, "num_experts": 4}),
    "deepseek_v2": ("DeepseekV2", {
        "model_type": "deepseek_v2", **MLA, "q_lora_rank": None, "topk_method": "group_limited_greedy",
        "n_shared_experts": 2, "routed_scaling_factor": 3.0,
    }),
    "deepseek_v3": ("DeepseekV3", {"model_type": "deepseek_v3", **MLA}),
    "deepseek_v3_yarn": ("DeepseekV3", {"model_type": "deepseek_v3", **MLA, "rope_scaling": YARN}),
}  # fmt: skip


def small(name: str, **changes: Any) -> ModelSpec:
    return read_config({**SMALL[name][1], **changes}, name=name)
