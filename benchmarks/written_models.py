"""Small random models, one for each shape that quantisers treat in a way of its own, for `written_checkpoints.py`."""

from __future__ import annotations

from typing import Any

COMMON: dict[str, Any] = {
    "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1024,
    "intermediate_size": 1024, "max_position_embeddings": 2048, "head_dim": 64, "tie_word_embeddings": False,
}  # fmt: skip
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 256}
_DELTA = {
    "num_hidden_layers": 4, "linear_num_value_heads": 8, "linear_num_key_heads": 4, "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
}  # fmt: skip
_VISION = {"depth": 2, "hidden_size": 256, "intermediate_size": 512, "num_heads": 4, "out_hidden_size": 512}

# name -> (config class of transformers, its values)
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", COMMON),
    "odd widths": ("LlamaConfig", {**COMMON, "hidden_size": 320, "intermediate_size": 864, "num_attention_heads": 5, "num_key_value_heads": 5}),
    "qwen3": ("Qwen3Config", {**COMMON, "tie_word_embeddings": True}),
    "qwen3_moe": ("Qwen3MoeConfig", {**COMMON, **_EXPERTS, "decoder_sparse_step": 1, "mlp_only_layers": []}),
    "mixtral": ("MixtralConfig", {**COMMON, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v3": ("DeepseekV3Config", {
        **{key: value for key, value in COMMON.items() if key != "head_dim"}, "num_key_value_heads": 8, "q_lora_rank": 256,
        "kv_lora_rank": 128, "qk_rope_head_dim": 64, "qk_nope_head_dim": 64, "v_head_dim": 64, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 256, "first_k_dense_replace": 1,
        "n_group": 2, "topk_group": 1}),
    "qwen3_next": ("Qwen3NextConfig", {**COMMON, **_EXPERTS, **_DELTA, "shared_expert_intermediate_size": 256}),
    "gemma3": ("Gemma3Config", {"text_config": {**COMMON, "tie_word_embeddings": True}, "mm_tokens_per_image": 4, "vision_config": {
        "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
        "patch_size": 14, "vision_use_head": False}}),
    "qwen2_5_vl": ("Qwen2_5_VLConfig", {"text_config": COMMON, "vision_config": {**_VISION, "patch_size": 14}, "tie_word_embeddings": False}),
    "qwen3_5": ("Qwen3_5Config", {"text_config": {**COMMON, **_DELTA}, "vision_config": {**_VISION, "patch_size": 16}, "tie_word_embeddings": False}),
}  # fmt: skip
TOWERS = ("gemma3", "qwen2_5_vl", "qwen3_5")


def build(name: str) -> Any:
    """Builds the model of this name with random weights in bf16."""
    import torch
    import transformers

    torch.manual_seed(0)
    config_class, values = SMALL[name]
    auto = transformers.AutoModelForImageTextToText if name in TOWERS else transformers.AutoModelForCausalLM
    model = auto.from_config(getattr(transformers, config_class)(**values), dtype=torch.bfloat16)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.02)
    return model.eval()


def tokenizer() -> Any:
    """Builds a tokenizer of a thousand words, for tools that want one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"t{index}": index for index in range(1000)} | {"[UNK]": 1000}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made)
