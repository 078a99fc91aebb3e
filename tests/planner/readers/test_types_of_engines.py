"""Model types of 2025 and 2026 that an engine or a repository implements: published totals, to the parameter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import BadConfig, UnsupportedModel
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.parameters import parameters
from planner.readers.huggingface import read_config
from planner.speed.work import work_of
from tests.planner.readers.headers import write_gguf

LING = {
    "model_type": "bailing_hybrid", "architectures": ["BailingMoeV2_5ForCausalLM"], "first_k_dense_replace": 4,
    "head_dim": 128, "hidden_size": 8192, "intermediate_size": 18432, "kv_lora_rank": 512, "layer_group_size": 8,
    "moe_intermediate_size": 2048, "num_attention_heads": 64, "num_experts": 256, "num_experts_per_tok": 8,
    "num_hidden_layers": 80, "num_key_value_heads": 64, "num_kv_heads_for_linear_attn": 64, "q_lora_rank": 1536,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 157184, "use_qk_norm": True,
    "num_shared_experts": 1,
}  # fmt: skip
SOLAR = {
    "model_type": "solar_open2", "vocab_size": 196608, "hidden_size": 4096, "intermediate_size": 10240,
    "num_hidden_layers": 48, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
    "moe_intermediate_size": 1280, "n_routed_experts": 320, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "gqa_layers": list(range(0, 48, 4)), "max_position_embeddings": 1048576,
}  # fmt: skip
ERNIE = {
    "model_type": "ernie4_5_moe_vl", "hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 28,
    "num_attention_heads": 20, "num_key_value_heads": 4, "vocab_size": 103424, "moe_num_experts": [64, 64],
    "moe_intermediate_size": [1536, 512], "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28], "moe_k": 6,
    "moe_num_shared_experts": 2, "use_bias": False, "tie_word_embeddings": True, "temporal_conv_size": 2,
    "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 1280, "in_channels": 3, "mlp_ratio": 4,
                      "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2},
}  # fmt: skip
SIGLIP = {
    "hidden_size": 1152, "image_size": 980, "intermediate_size": 4304, "model_type": "siglip", "num_attention_heads": 16,
    "num_hidden_layers": 27, "patch_size": 14,
}  # fmt: skip


# text_config of deepseek-ai/DeepSeek-V4.1-Flash
V41 = {
    "model_type": "deepseek_v41_text", "compress_ratios": [0, 0, *[2] * 18, *[1] * 20, 0, 0, 0], "dspark_markov_rank": 256,
    "dspark_n_routed_experts": 128, "dspark_num_experts_per_tok": 3, "dspark_target_layer_ids": [37, 38, 39],
    "engram_head_dim": 256, "engram_layer_ids": [1, 14], "engram_max_ngram_size": 4, "engram_n_heads": 8,
    "engram_num_embeddings": [384006168, 384016682], "hc_mult": 4, "head_dim": 512, "hidden_size": 5120, "index_head_dim": 128,
    "index_n_heads": 32, "index_source_layer_ids": [2, 8, 14, 20, 24, 28, 32, 36], "kv_source_layer_ids": [2, 8, 14, 20],
    "moe_intermediate_size": 2304, "n_routed_experts": 384, "num_attention_heads": 64, "num_experts_per_tok": 6,
    "num_hidden_layers": 40, "num_nextn_predict_layers": 3, "o_groups": 8, "o_lora_rank": 1024, "q_lora_rank": 1280,
    "qk_rope_head_dim": 64, "sliding_window": 128, "tie_word_embeddings": False, "vocab_size": 129280,
}  # fmt: skip


def minicpm(
    version: object, hidden: int, width: int, layers: int, heads: int, kv: int, vocab: int, dim: int = 128
) -> Any:
    return {
        "model_type": "minicpmv", "version": version, "hidden_size": hidden, "intermediate_size": width,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": dim,
        "vocab_size": vocab, "tie_word_embeddings": False, "query_num": 64, "vision_config": SIGLIP,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "total", "biases"),
    [
        # Safetensors totals on the Hub, October 2026; a router's correction biases are stored besides.
        pytest.param(LING, 1_012_231_160_320, 76 * 256, id="Ring-2.5-1T"),
        pytest.param(LING | {"num_nextn_predict_layers": 1}, 1_025_414_425_344, 77 * 256, id="Ling-2.6-1T"),
        pytest.param(SOLAR, 250_287_810_304, 48 * 320, id="Solar-Open2-250B"),
        pytest.param(ERNIE, 29_399_294_336, 0, id="ERNIE-4.5-VL-28B-A3B"),
        pytest.param(minicpm(2.6, 3584, 18944, 28, 28, 4, 151666), 8_099_175_152, 0, id="MiniCPM-V-2_6"),
        pytest.param(minicpm("4.5", 4096, 12288, 36, 32, 8, 151748), 8_695_895_280, 0, id="MiniCPM-V-4_5"),
        pytest.param(minicpm(4.0, 2560, 10240, 32, 32, 2, 73448), 4_059_533_040, 0, id="MiniCPM-V-4"),
    ],
)
def test_published_totals(config: dict[str, Any], total: int, biases: int) -> None:
    spec = read_config(config)
    assert parameters(spec) + sum(weight.parameters for weight in spec.mtp) + biases == total
    assert not spec.warnings


def test_ling_2_5_keeps_one_matrix_a_head_in_seven_of_eight_layers() -> None:
    """[64 heads, 128, 128] in the model's dtype: `get_mamba_state_shape_from_config` of vLLM 0.33's BailingMoeV25."""
    spec = read_config(LING)
    kept = [(layer.caches[0].elements(1000, 0), count) for layer, count in spec.groups]
    assert sum(count for size, count in kept if size == 64 * 128 * 128) == 70
    assert sum(count for size, count in kept if size == 1000 * (512 + 64)) == 10


def test_deepseek_v4_1_compresses_in_four_layers_for_the_layers_behind_them() -> None:
    """By hand: windows of 128 in 40 layers; of 65,536 tokens an entry of 512 + 128 for two in three layers, for one in one."""
    spec = read_config(V41)
    kept = sum(count * cache.elements(65536, 0) for layer, count in spec.groups for cache in layer.caches)
    assert kept == 40 * 128 * 512 + (3 * 32768 + 65536) * (512 + 128)
    one_more = sum(count * cache.elements(65537, 0) for layer, count in spec.groups for cache in layer.caches)
    assert one_more - kept == 3 * 2 * 512 + (512 + 128)


def test_deepseek_v4_1_has_the_experts_and_fp8_matrices_of_its_checkpoint() -> None:
    """On the Hub, October 2026: I8 557,171,343,360 are the experts, F8_E4M3 204,015,223,296; 763,205,315,794 in all."""
    spec = model_spec("deepseek-v4.1-flash")
    every = [(w, n) for layer, n in spec.groups for w in layer.weights] + [(w, 1) for w in spec.mtp]
    experts = sum(w.parameters * n for w, n in every if w.part == "experts")
    whole = {"attention", "shared_experts", "engram"}
    named = {("indexer", "wq_b"), ("mtp", "main_proj")}
    fp8 = sum(w.parameters * n for w, n in every if (w.part in whole and w.linear) or (w.part, w.name) in named)
    assert (experts, fp8) == (557_171_343_360, 204_015_223_296)
    total = parameters(spec) + sum(weight.parameters for weight in spec.mtp)
    assert 0 < 763_205_315_794 - total < 200_000  # router biases, the picture's marks


def test_dots_note_keeps_a_latent_of_its_window_and_a_longer_one_with_an_indexer() -> None:
    """279,551,718,016: transformers 5.24.0 builds the defaults of Dots3NoteTextConfig on the meta device."""
    config = {
        "model_type": "dots3_note_text", "vocab_size": 152064, "hidden_size": 5120, "intermediate_size": 13824,
        "num_hidden_layers": 46, "num_attention_heads": 128, "max_position_embeddings": 524288,
    }  # fmt: skip
    spec = read_config(config)
    assert parameters(spec) == 279_551_718_016
    kept = {layer.caches[0].elements(10_000, 0): layer.caches[0].kind for layer, _ in spec.groups}
    assert kept == {
        10_000 * (512 + 64 + 128): "latent (MLA) + indexer",
        512 * (1024 + 64): "latent (MLA), sliding window 512",
    }
    # The speed model reads no further back than that: 32 of the 46 layers attend to 512 tokens.
    tokens = {read.reach: read.token_bytes for read in work_of(spec).reads}
    windows = sum(count for layer, count in spec.groups if layer.caches[0].elements(10_000, 0) == 512 * (1024 + 64))
    assert tokens[512] == windows * (1024 + 64) * 2


def test_an_expert_for_images_is_stored_and_no_text_token_reads_it() -> None:
    images = [
        mlp for layer in read_config(ERNIE).layers for mlp in layer.mlps if getattr(mlp, "expert_width", 0) == 512
    ]
    assert len(images) == 27
    assert all(mlp.active == 0 and mlp.experts == 64 for mlp in images)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (SOLAR | {"gqa_layers": [48]}, "layer 48 of 48"),
        (SOLAR | {"linear_attn_config": {"num_heads": 64, "num_kv_heads": 8}}, "num_kv_heads"),
        (ERNIE | {"moe_num_experts": [64]}, "one for text and one for vision"),
        (minicpm("9", 3584, 18944, 28, 28, 4, 151666), "key 'version'"),
        ({"model_type": "step3p5v", "hidden_size": 4096}, "nearest that are read are step3p5"),
        (V41 | {"compress_ratios": [0, 4] * 20}, "compress_ratios"),
        (V41 | {"dspark_num_experts_per_tok": 129}, "dspark_num_experts_per_tok"),
        (ERNIE | {"moe_k": 65}, "moe_k"),
        (V41 | {"kv_source_layer_ids": [3]}, "no layer before it"),
        ({"model_type": "gemma4_assistant", "hidden_size": 64}, "a drafter of another model"),
    ],
)
def test_what_is_not_read_is_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises((BadConfig, UnsupportedModel), match=named):
        read_config(config)


def test_a_gguf_of_minimax_01_keeps_a_matrix_a_head_in_seven_of_eight_layers(tmp_path: Path) -> None:
    """Keys and tensors of llama.cpp's models/minimax-01.cpp: state head_dim² a head in fp32, no convolution."""
    kv, dim, heads, hidden = 2, 128, 16, 1024
    keys = {"embedding_length": hidden, "block_count": 8, "attention.head_count": heads, "attention.head_count_kv": kv,
            "attention.key_length": dim, "attention.value_length": dim, "context_length": 4096, "expert_count": 4,
            "expert_used_count": 2}  # fmt: skip
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        "token_embd.weight": ("F16", (hidden, 1000)),
        "output_norm.weight": ("F32", (hidden,)),
    }
    for n in range(8):
        block = f"blk.{n}."
        tensors |= {block + "attn_norm.weight": ("F32", (hidden,)), block + "ffn_norm.weight": ("F32", (hidden,)),
                    block + "attn_output.weight": ("F16", (dim * heads, hidden)), block + "ffn_gate_inp.weight": ("F16", (hidden, 4)),
                    block + "ffn_up_exps.weight": ("F16", (hidden, 512, 4)), block + "ffn_down_exps.weight": ("F16", (512, hidden, 4))}  # fmt: skip
        if n % 8 == 7:
            tensors |= {block + "attn_q.weight": ("F16", (hidden, dim * heads)), block + "attn_k.weight": ("F16", (hidden, dim * kv)),
                        block + "attn_v.weight": ("F16", (hidden, dim * kv))}  # fmt: skip
        else:
            tensors |= {block + "attn_qkv.weight": ("F16", (hidden, 3 * dim * heads)), block + "attn_gate.weight": ("F16", (hidden, dim * heads)),
                        block + "attn_norm_2.weight": ("F32", (dim * heads,))}  # fmt: skip
    path = tmp_path / "m.gguf"
    write_gguf(
        path,
        {"general.architecture": "minimax-01", **{f"minimax-01.{key}": value for key, value in keys.items()}},
        tensors,
    )
    spec = model_spec(str(path))
    kept = [cache.elements(100, 0) for layer in spec.layers for cache in layer.caches]
    assert kept == [dim * dim * heads] * 7 + [100 * 2 * kv * dim]
    asked = estimate(spec, Request(1024))
    assert asked.kv_bytes + asked.state_bytes == 1024 * 2 * kv * dim * 2 + 7 * dim * dim * heads * 4


def test_the_version_of_a_minicpm_is_refused_with_the_name_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(minicpm("9", 3584, 18944, 28, 28, 4, 151666)))
    with pytest.raises(UnsupportedModel) as error:
        model_spec(str(path))
    assert str(error.value).startswith(f"{path}: key 'version'")


@pytest.mark.parametrize("name", ["Gemma4-Assistant", "GEMMA4_assistant", "gemma4-unified-assistant"])
def test_a_drafters_type_is_known_however_it_is_spelt(name: str) -> None:
    with pytest.raises(UnsupportedModel, match="is a drafter of another model"):
        read_config({"model_type": name, "hidden_size": 64})


def test_dots_ocr_and_phi_3_vision_have_their_published_totals() -> None:
    """rednote-hilab/dots.ocr 3,039,179,264 and microsoft/Phi-3.5-vision-instruct 4,146,621,440, the Hub's totals of safetensors."""
    assert parameters(model_spec("dots.ocr")) == 3_039_179_264
    vision, text = model_spec("phi-3.5-vision"), model_spec("phi-3.5-mini")
    assert parameters(vision) == 4_146_621_440
    assert vision.layers == text.layers


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("step3p5v", "no public implementation"),
        ("t5gemma", "an encoder and a decoder of text"),
        ("kosmos-2.5", "a model that sees"),
        ("sam2", "writes no text"),
        ("qwen3_vl_vision", "is a tower"),
    ],
)
def test_a_type_that_is_not_read_is_named_for_what_it_is(model_type: str, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        read_config({"model_type": model_type, "hidden_size": 64})
