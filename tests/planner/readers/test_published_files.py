"""Files as publishers wrote them, counted to the bytes of their own index or of the file, with the repository's name."""

from __future__ import annotations

from typing import Any

import pytest

from planner.catalogue.entries import find_model
from planner.errors import UnsupportedModel
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.readers.huggingface import read_config

QWEN_VL = {
    "model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016, "kv_channels": 128, "num_attention_heads": 32,
    "num_hidden_layers": 32, "seq_length": 2048, "vocab_size": 151936, "tie_word_embeddings": False, "torch_dtype": "float16",
    "visual": {"heads": 16, "image_size": 448, "layers": 48, "mlp_ratio": 4.9231, "output_dim": 4096, "patch_size": 14, "width": 1664},
    "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True},
}  # fmt: skip
OCR_TEXT = {
    "first_k_dense_replace": 1, "hidden_size": 1280, "intermediate_size": 6848, "kv_lora_rank": None, "q_lora_rank": None,
    "max_position_embeddings": 8192, "moe_intermediate_size": 896, "n_routed_experts": 64, "n_shared_experts": 2,
    "num_attention_heads": 10, "num_key_value_heads": 10, "num_experts_per_tok": 6, "num_hidden_layers": 12, "use_mla": False,
    "qk_nope_head_dim": 0, "qk_rope_head_dim": 0, "v_head_dim": 0, "vocab_size": 129280, "torch_dtype": "bfloat16",
}  # fmt: skip
OCR = {
    "model_type": "deepseek_vl_v2", "torch_dtype": "bfloat16", "language_config": OCR_TEXT,
    "projector_config": {"input_dim": 2048, "n_embed": 1280, "projector_type": "linear"},
    "vision_config": {"width": {"clip-l-14-224": {"layers": 24, "width": 1024}, "sam_vit_b": {"layers": 12, "width": 768}}},
}  # fmt: skip
OCR_2 = {
    **OCR, "projector_config": {"input_dim": 896, "n_embed": 1280, "projector_type": "linear"},
    "vision_config": {"width": {"qwen2-0-5b": {"dim": 896}, "sam_vit_b": {"layers": 12, "width": 768}}},
}  # fmt: skip
MINICPM_V2 = {
    "model_type": "minicpmv", "drop_vision_last_layer": True, "hidden_size": 2304, "image_size": 448, "intermediate_size": 5760,
    "max_position_embeddings": 4096, "num_attention_heads": 36, "num_hidden_layers": 40, "num_key_value_heads": 36,
    "query_num": 64, "scale_emb": 12, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 122753,
    "vision_encoder": "vit_so400m_patch14_siglip_384.webli",
}  # fmt: skip
PANGU = {
    "model_type": "PanguEmbedded", "bias": True, "hidden_size": 4096, "intermediate_size": 12800, "max_position_embeddings": 32768,
    "num_attention_heads": 32, "num_hidden_layers": 34, "num_key_value_heads": 8, "rope_theta": 16000000.0, "vocab_size": 153376,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
MOLMO = {
    "model_type": "molmo", "embedding_size": 152064, "hidden_size": 3584, "intermediate_size": 37888, "vocab_size": 152064,
    "max_position_embeddings": 4096, "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4, "qkv_bias": True,
    "tie_word_embeddings": False, "weight_tying": False, "torch_dtype": "float16",
    "quantization_config": {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False,
        "llm_int8_skip_modules": ["model.vision_backbone", "model.transformer.ff_out", "model.transformer.ln_f"],
    },
}  # fmt: skip
FUYU = {
    "model_type": "fuyu", "hidden_size": 4096, "image_size": 300, "intermediate_size": 16384, "max_position_embeddings": 16384,
    "num_attention_heads": 64, "num_hidden_layers": 36, "patch_size": 30, "qk_layernorm": True, "vocab_size": 262144,
    "text_config": {"model_type": "persimmon"}, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip

# repository: (its config, bytes that its index or file gives, how far they may be apart)
FILES: dict[str, tuple[dict[str, Any], int, float]] = {
    "Qwen/Qwen-VL-Chat-Int4 (with g_idx and biases of zeros)": (QWEN_VL, 9_731_786_240, 6e-4),
    "deepseek-ai/DeepSeek-OCR": (OCR, 6_672_212_480, 0),
    "deepseek-ai/DeepSeek-OCR-2": (OCR_2, 6_779_249_408, 2e-4),
    "openbmb/MiniCPM-V-2": (MINICPM_V2, 6_869_931_584, 0),
    "openPangu-Embedded-7B": (PANGU, 16_061_784_576, 1e-6),
    "Molmo-7B-D in nf4 (with its quantisers' states)": (MOLMO, 6_661_964_712, 1e-5),
    "adept/fuyu-8b": (FUYU, 18_816_477_184, 0),
}


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_counted_to_the_bytes_of_its_index(name: str) -> None:
    config, size, share = FILES[name]
    found = estimate(read_config(config), Request(128))
    assert found.weight_bytes == pytest.approx(size, rel=share, abs=0)
    assert found.exactness["weight_bytes"] == "exact"


def test_falcon_under_its_first_name_is_falcon_and_keeps_one_head() -> None:
    """tiiuae/falcon-7b of 2023: 14,434,449,852 bytes with a copy of the tied head of 65,024 x 4,544."""
    config = {
        "model_type": "RefinedWebModel", "alibi": False, "bias": False, "hidden_size": 4544, "multi_query": True, "n_head": 71,
        "n_layer": 32, "parallel_attn": True, "torch_dtype": "bfloat16", "vocab_size": 65024,
    }  # fmt: skip
    found = estimate(read_config(config), Request(128, k_dtype="bf16"))
    assert found.weight_bytes == pytest.approx(14_434_449_852 - 2 * 65024 * 4544, rel=1e-5)
    assert found.kv_bytes_per_token == 2 * 64 * 2 * 32


def test_an_embedding_model_that_sees_both_ways_has_no_cache() -> None:
    with pytest.raises(UnsupportedModel, match="no KV cache"):
        read_config({"model_type": "nvembed", "text_config": {"model_type": "bidir_mistral"}})


def test_weights_without_a_tower_that_is_loaded_are_a_lower_bound() -> None:
    unknown = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 10,
               "intermediate_size": 64, "vision_config": {"hidden_size": 32}}  # fmt: skip
    found = estimate(read_config(unknown), Request(8))
    assert found.exactness["weight_bytes"] == found.exactness["parameters"] == "lower bound"
    assert found.exactness["kv_bytes"] == "exact"
    named = {key: value for key, value in unknown.items() if key != "vision_config"}
    assert estimate(read_config(named), Request(8)).exactness["weight_bytes"] == "exact"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        # attention of 64 heads of 128 and 8 for K and V, their norms, a dense MLP, a projection, five norms
        ("k-exaone-236b-a23b", 2 * 6144 * 8192 + 2 * 6144 * 1024 + 2 * 128 + 3 * 6144 * 18432 + 2 * 6144**2 + 5 * 6144),
        # q 1536, k and v 512 + 64, 64 heads of 128 + 64 and 128; a dense MLP of 12288, a projection, five norms, a table
        (
            "longcat-flash-560b",
            6144 * 1536
            + 1536
            + 1536 * 64 * 192
            + 6144 * 576
            + 512
            + 512 * 64 * 256
            + 64 * 128 * 6144
            + 3 * 6144 * 12288
            + 2 * 6144**2
            + 5 * 6144
            + 131072 * 6144,
        ),
    ],
)
def test_layers_that_predict_further_tokens_are_said_with_their_size(name: str, size: int) -> None:
    """vLLM 0.33.0 exaone_moe_mtp.py and longcat_flash_mtp.py."""
    spec = read_config(find_model(name).config)
    assert sum(weight.parameters for weight in spec.mtp) == size
    assert any(f"{size:,}" in line for line in estimate(spec, Request(8)).warnings)
