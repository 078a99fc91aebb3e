"""Multi-head latent attention, sparse indexers, and DeepSeek-V4's compressed cache.

Parameter counts: published checkpoints (safetensors totals) or the model that transformers 5.23.0 builds from
the same config; cache elements are those it allocates for one sequence.
"""

from __future__ import annotations

from typing import Any

import pytest

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.errors import BadConfig, KvplanError, UnsupportedModel
from planner.model.parameters import active_parameters, parameters, parameters_by_part
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

Config = dict[str, Any]
BF16 = CacheFormat(kv_format("bf16"), kv_format("bf16"))
DS_MLA = CacheFormat(kv_format("fp8_ds_mla"), kv_format("fp8_ds_mla"))


def spec(model_type: str, **keys: Any) -> ModelSpec:
    return read_config({"model_type": model_type, **keys})


def cached(model: ModelSpec, tokens: int) -> int:
    return sum(count * cache.elements(tokens, 0) for layer, count in model.groups for cache in layer.caches)


def cache_bytes(model: ModelSpec, tokens: int, fmt: CacheFormat) -> int:
    return sum(
        count * (cache.kv_bytes(tokens, 0, fmt) + cache.state_bytes(fmt))
        for layer, count in model.groups
        for cache in layer.caches
    )


def indexed_layers(model: ModelSpec) -> list[int]:
    return [i for i, layer in enumerate(model.layers) if any(w.part == "indexer" for w in layer.weights)]


V3: Config = {
    "model_type": "deepseek_v3", "attention_bias": False, "first_k_dense_replace": 3, "hidden_size": 7168,
    "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "tie_word_embeddings": False, "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip
V32: Config = {**V3, "model_type": "deepseek_v32", "index_head_dim": 128, "index_n_heads": 64, "index_topk": 2048}
V2_LITE: Config = {
    "model_type": "deepseek_v2", "first_k_dense_replace": 1, "hidden_size": 2048, "intermediate_size": 10944,
    "kv_lora_rank": 512, "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
    "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
    "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 102400,
}  # fmt: skip
GLM5: Config = {
    "model_type": "glm_moe_dsa", "first_k_dense_replace": 3, "head_dim": 64, "hidden_size": 6144,
    "index_head_dim": 128, "index_n_heads": 32, "index_topk": 2048, "intermediate_size": 12288,
    "kv_lora_rank": 512, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_attention_heads": 64, "num_experts_per_tok": 8, "num_hidden_layers": 78, "num_key_value_heads": 64,
    "num_nextn_predict_layers": 1, "q_lora_rank": 2048, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64,
    "v_head_dim": 256, "vocab_size": 154880,
}  # fmt: skip
GLM52: Config = {**GLM5, "indexer_types": ["full"] * 2 + (["full"] + ["shared"] * 3) * 19}
GLM53: Config = {
    "model_type": "glm5_next_text", "first_k_dense_replace": 3, "head_dim": 0, "hidden_size": 4096,
    "index_head_dim": 128, "index_kpool": 4, "index_n_heads": 32, "index_topk": 2048,
    "intermediate_size": 12288, "kv_lora_rank": 512,
    "layer_types": (["linear_attention"] * 3 + ["deepseek_sparse_attention"]) * 11 + ["linear_attention"],
    "linear_attn_config": {"num_heads": 64, "head_dim": 128, "short_conv_kernel_size": 4},
    "moe_intermediate_size": 2048, "n_routed_experts": 288, "n_shared_experts": 1, "num_attention_heads": 64,
    "num_experts_per_tok": 8, "num_hidden_layers": 45, "num_key_value_heads": 64, "q_lora_rank": 1536,
    "qk_nope_head_dim": 256, "qk_rope_head_dim": 0, "v_head_dim": 256, "vocab_size": 154880,
}  # fmt: skip
V4_PRO: Config = {
    "model_type": "deepseek_v4", "head_dim": 512, "hidden_size": 7168, "index_head_dim": 128,
    "index_n_heads": 64, "index_topk": 1024, "moe_intermediate_size": 3072, "n_routed_experts": 384,
    "n_shared_experts": 1, "num_attention_heads": 128, "num_experts_per_tok": 6, "num_hidden_layers": 61,
    "num_key_value_heads": 1, "num_nextn_predict_layers": 1, "o_groups": 16, "o_lora_rank": 1024,
    "q_lora_rank": 1536, "qk_rope_head_dim": 64, "sliding_window": 128, "vocab_size": 129280,
    "compress_ratios": [128, 128] + [4, 128] * 29 + [4, 0],
}  # fmt: skip

PUBLISHED: dict[str, tuple[Config, int]] = {
    "deepseek-v2-lite": (V2_LITE, 15_706_484_224),
    "deepseek-v2": (
        {**V2_LITE, "hidden_size": 5120, "num_hidden_layers": 60, "num_attention_heads": 128,
         "intermediate_size": 12288, "moe_intermediate_size": 1536, "n_routed_experts": 160,
         "q_lora_rank": 1536}, 235_741_434_880),
    "deepseek-v3": (V3, 671_026_404_352),
    "deepseek-v3.2": (V32, 671_877_929_216),
    "kimi-k2": (
        {**V3, "model_type": "kimi_k2", "first_k_dense_replace": 1, "n_routed_experts": 384,
         "num_attention_heads": 64, "num_nextn_predict_layers": 0, "vocab_size": 163840}, 1_026_408_209_408),
    "moonlight-16b-a3b": (
        {**V2_LITE, "model_type": "deepseek_v3", "intermediate_size": 11264, "vocab_size": 163840},
        15_960_108_544),
    "mistral-small-4-119b": (
        {"model_type": "mistral4", "vocab_size": 131072, "hidden_size": 4096, "intermediate_size": 12288,
         "moe_intermediate_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 32,
         "num_key_value_heads": 32, "n_shared_experts": 1, "n_routed_experts": 128, "kv_lora_rank": 256,
         "q_lora_rank": 1024, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 64,
         "num_experts_per_tok": 4, "first_k_dense_replace": 0, "head_dim": 128}, 118_972_826_624),
    "glm-4.7-flash": (
        {"model_type": "glm4_moe_lite", "vocab_size": 154880, "hidden_size": 2048, "intermediate_size": 10240,
         "moe_intermediate_size": 1536, "num_hidden_layers": 47, "num_attention_heads": 20,
         "num_key_value_heads": 20, "n_shared_experts": 1, "n_routed_experts": 64, "kv_lora_rank": 512,
         "q_lora_rank": 768, "qk_rope_head_dim": 64, "v_head_dim": 256, "qk_nope_head_dim": 192,
         "num_experts_per_tok": 4, "mlp_layer_types": ["dense"] + ["sparse"] * 46,
         "num_nextn_predict_layers": 1}, 29_943_390_976),
    "glm-5": (GLM5, 743_911_199_232),
    "glm-5.2": (GLM52, 743_377_000_704),
    "glm-5.3-flash": (GLM53, 313_326_799_870),
    "deepseek-v4-pro": (V4_PRO, 1_572_997_179_491),
}  # fmt: skip

SMALL: Config = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": 101, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8, "v_head_dim": 20, "n_routed_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 24, "n_shared_experts": 1,
}  # fmt: skip
INDEX: Config = {**SMALL, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 8}
LONGCAT: Config = {
    "hidden_size": 64, "num_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 101,
    "ffn_hidden_size": 40, "expert_ffn_hidden_size": 24, "moe_topk": 2, "n_routed_experts": 8,
    "zero_expert_num": 0, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 20,
}  # fmt: skip
V4: Config = {
    "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 1,
    "vocab_size": 101, "head_dim": 32, "q_lora_rank": 24, "o_lora_rank": 12, "o_groups": 2,
    "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "sliding_window": 16,
    "qk_rope_head_dim": 8, "index_n_heads": 4, "index_head_dim": 16, "index_topk": 8,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_count(name: str) -> None:
    config, count = PUBLISHED[name]
    assert parameters(read_config(config)) == count


@pytest.mark.parametrize(
    ("name", "billions"),
    [("deepseek-v3", 37.6), ("deepseek-v2", 21.4), ("deepseek-v2-lite", 2.7), ("kimi-k2", 32.9), ("glm-5", 40.0),
     ("deepseek-v4-pro", 49.0)],
)  # fmt: skip
def test_active_parameters_are_near_the_published_figure(name: str, billions: float) -> None:
    active = active_parameters(read_config(PUBLISHED[name][0])) / 1e9
    assert abs(active - billions) / billions < 0.06


@pytest.mark.parametrize(
    ("name", "beyond"),
    [  # checkpoint total less the count above, less the router tables and correction biases in it
        ("deepseek-v3", 684_489_845_504 - 671_026_404_352 - 59 * 256),  # DeepSeek-R1, the same shape
        ("deepseek-v3.2", 685_355_329_792 - 671_877_929_216 - 59 * 256),
        ("glm-4.7-flash", 1_278_097_600 - 47 * 64),
        ("glm-5", 9_952_939_776 - 76 * 256),
        ("glm-5.2", 9_952_939_776 - 76 * 256),
        ("deepseek-v4-pro", 1_598_839_674_782 - 1_572_997_179_491 - 3 * 129280 * 6 - 59 * 384),
    ],
)
def test_mtp_layers_account_for_the_rest_of_the_checkpoint(name: str, beyond: int) -> None:
    assert sum(weight.parameters for weight in read_config(PUBLISHED[name][0]).mtp) == beyond


def test_no_mtp_layer_without_its_key() -> None:
    assert read_config(PUBLISHED["kimi-k2"][0]).mtp == ()
    assert spec("deepseek_v3", **SMALL).mtp == ()
    assert spec("deepseek_v4", **V4).mtp == ()


def test_glm_5_3_predicts_with_an_indexed_layer_without_streams() -> None:
    """Beside attention, indexer, experts and two norms: eh_proj [h, 2h] and three norms (vLLM 0.33.0 glm5next/common/mtp.py)."""
    model = read_config({**GLM53, "num_nextn_predict_layers": 1})
    indexed = next(layer for layer in reversed(model.layers) if len(layer.caches) == 2)
    streams = sum(weight.parameters for weight in indexed.weights if weight.part == "hyper_connection")
    layer, hidden = sum(weight.parameters for weight in indexed.weights), model.hidden
    assert sum(weight.parameters for weight in model.mtp) == layer - streams + 2 * hidden**2 + 3 * hidden
    assert streams and not model.warnings


def test_latent_is_cached_once_and_not_for_each_head() -> None:
    # 61 layers x (512 + 64) x 2 B x 32768, and 656 B a token a layer in fp8_ds_mla
    model = read_config(V3)
    assert cache_bytes(model, 32768, BF16) == 2_302_672_896
    assert cache_bytes(model, 32768, DS_MLA) == 1_311_244_288
    assert cached(read_config({**V3, "num_key_value_heads": 1}), 8) == cached(model, 8)
    assert {cache.on_rank(8).elements(1, 0) for layer in model.layers for cache in layer.caches} == {576}


@pytest.mark.parametrize(
    ("name", "tokens", "elements"),
    [("deepseek-v3.2", 8, 343_552), ("deepseek-v3.2", 64, 2_748_416), ("glm-5.2", 8, 380_928),
     ("glm-5.2", 64, 3_047_424), ("glm-5.3-flash", 8, 39_061_592), ("glm-5.3-flash", 64, 39_535_296),
     ("deepseek-v4-pro", 8, 695_808), ("deepseek-v4-pro", 64, 4_491_264)],
)  # fmt: skip
def test_cache_elements_equal_those_transformers_allocates(name: str, tokens: int, elements: int) -> None:
    assert cached(read_config(PUBLISHED[name][0]), tokens) == elements


def test_v4_window_counts_the_newest_token_that_transformers_drops() -> None:
    # transformers holds 5,042,688 elements at 136 tokens with window - 1 = 127 in each of 61 layers
    assert cached(read_config(V4_PRO), 136) == 5_042_688 + 61 * 512


def test_v4_caches_follow_the_transformers_shapes() -> None:
    # transformers, S = 8 and 40: windows of 15 (here 16), K and V apart in the three plain layers
    model = spec("deepseek_v4", **V4, compress_ratios=[0, 4, 128, 4, 0, 128, 0, 0])
    assert cached(model, 8) == 4_032
    assert cached(model, 40) == 10_688 + (2 * 2 + 4) * 32


def test_v4_layers_come_from_a_list_from_ratios_or_from_the_default() -> None:
    ratios = spec("deepseek_v4", **V4, compress_ratios=[128, 128, 128, 4, 128, 4])
    kinds = ["sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention"]
    assert spec("deepseek_v4", **V4).layers == ratios.layers
    listed = spec("deepseek_v4", **V4, layer_types=[*kinds, *kinds, kinds[0]])
    assert indexed_layers(listed) == [2, 5]
    assert [len(layer.caches) for layer in listed.layers] == [1, 2, 2, 1, 2, 2]


def test_v4_compression_rates_may_be_given_twice_and_the_old_spelling_wins() -> None:
    rates = {"compressed_sparse_attention": 5, "heavily_compressed_attention": 7}
    model = spec("deepseek_v4", **V4, compress_rates=rates, compress_rate_csa=3)
    assert {cache.kind for layer in model.layers for cache in layer.caches[1:]} == {"compressed 1:3", "compressed 1:7"}


def test_q_lora_rank_null_and_absent_mean_a_direct_query() -> None:
    absent = {key: value for key, value in V2_LITE.items() if key != "q_lora_rank"}
    assert parameters(read_config(absent)) == PUBLISHED["deepseek-v2-lite"][1]
    low_rank = parameters(spec("deepseek_v3", **SMALL)) - parameters(
        spec("deepseek_v3", **{**SMALL, "q_lora_rank": None})
    )
    assert low_rank == 6 * (24 * 64 + 24 + 4 * 24 * 24 - 4 * 24 * 64)


def test_attention_bias_reaches_the_down_projections_and_the_output() -> None:
    more = parameters(spec("deepseek_v3", **SMALL, attention_bias=True)) - parameters(spec("deepseek_v3", **SMALL))
    assert more == 6 * (24 + (32 + 8) + 64)


def test_dense_and_expert_layers_follow_the_first_k_or_the_list() -> None:
    def sparse(model: ModelSpec) -> list[int]:
        return [i for i, layer in enumerate(model.layers) if any(w.part == "experts" for w in layer.weights)]

    assert sparse(spec("deepseek_v3", **SMALL)) == [3, 4, 5]
    assert sparse(spec("deepseek_v2", **SMALL)) == [0, 1, 2, 3, 4, 5]
    assert sparse(spec("glm4_moe_lite", **SMALL)) == [1, 2, 3, 4, 5]
    assert sparse(spec("glm_moe_dsa", **INDEX, first_k_dense_replace=1, mlp_layer_types=["sparse", "dense"] * 3)) == [
        0,
        2,
        4,
    ]


def test_indexers_stand_where_the_list_the_pattern_or_the_period_says() -> None:
    assert len(indexed_layers(read_config(GLM5))) == 78
    assert len(indexed_layers(read_config(GLM52))) == 21
    types = ["full", "shared", "full", "full", "shared", "shared"]
    assert indexed_layers(spec("glm_moe_dsa", **INDEX, indexer_types=types)) == [0, 2, 3]
    assert indexed_layers(spec("glm_moe_dsa", **INDEX, index_topk_pattern="FSSFSS")) == [0, 3]
    # transformers: layer i owns one when max(i - offset + 1, 0) is a multiple of the period
    assert indexed_layers(spec("glm_moe_dsa", **INDEX, index_topk_freq=3)) == [0, 1, 4]
    assert indexed_layers(spec("glm_moe_dsa", **INDEX, index_topk_freq=2, index_skip_topk_offset=3)) == [0, 1, 2, 4]


def test_a_shared_indexer_caches_no_key() -> None:
    model = spec("glm_moe_dsa", **INDEX, index_topk_freq=3)
    assert cached(model, 10) == 10 * (6 * (32 + 8) + 3 * 16)


def test_glm_5_3_keeps_key_gate_and_mark_for_its_pools_and_a_state_in_linear_layers() -> None:
    base = {**INDEX, "qk_rope_head_dim": 0, "index_kpool": 4}
    shape = {"num_heads": 2, "head_dim": 12, "short_conv_kernel_size": 3}
    model = spec("glm5_next_text", **base, linear_attn_config=shape)
    state = 3 * 24 * 3 + 2 * 12 * 12
    assert cached(model, 10) == 5 * state + 10 * (32 + 2 * 16 + 1)
    flat = spec("glm5_next_text", **base, linear_num_heads=2, linear_head_dim=12, linear_conv_kernel_dim=3)
    assert [layer.caches for layer in flat.layers] == [layer.caches for layer in model.layers]
    assert parameters(flat) == parameters(model)
    # recurrent states stay fp32: conv 2 B, state 4 B
    assert cache_bytes(read_config(GLM53), 8, BF16) == 149_426_352


def test_longcat_caches_twice_a_layer_and_its_identity_experts_weigh_nothing() -> None:
    model = spec("longcat_flash", **LONGCAT)
    assert cached(model, 10) == 3 * 2 * 10 * (32 + 8)
    assert parameters(model) == 269_072  # the transformers build of this config
    zeros = spec("longcat_flash", **{**LONGCAT, "zero_expert_num": 4})
    assert parameters(zeros) - parameters(model) == 3 * 4 * 64


def test_longcat_flash_comes_to_its_published_560_billion() -> None:
    model = spec(
        "longcat_flash", hidden_size=6144, num_layers=28, num_attention_heads=64, vocab_size=131072,
        ffn_hidden_size=12288, expert_ffn_hidden_size=2048, moe_topk=12, n_routed_experts=512,
        zero_expert_num=256, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64,
        v_head_dim=128,
    )  # fmt: skip
    # The checkpoint holds 562 B with the MTP layer, of which the config says nothing.
    assert abs(parameters(model) / 1e9 - 560) < 1


def test_minicpm3_values_are_as_wide_as_hidden_over_heads() -> None:
    base = {key: value for key, value in SMALL.items() if key != "v_head_dim"}
    model = spec("minicpm3", **base)
    assert parameters(model) == 205_776  # the transformers build of this config
    assert parameters(spec("minicpm3", **base, v_head_dim=None)) == 205_776
    assert cached(model, 10) == 6 * 10 * (32 + 8)
    assert spec("minicpm3", **base).tied


def test_indexer_and_hyper_connections_are_parts_of_their_own() -> None:
    parts = parameters_by_part(read_config(V32))
    assert parts["indexer"] == 61 * (1536 * 64 * 128 + 7168 * 128 + 2 * 128 + 64 * 7168)
    assert parts["lm_head"] == parts["embedding"] == 129280 * 7168
    assert parameters_by_part(read_config(V4_PRO))["hyper_connection"] == 61 * 2 * (24 * 28672 + 27) + 4 * 28672 + 5


REFUSED: list[tuple[str, Config, Config, type[KvplanError]]] = [
    ("deepseek_v3", SMALL, {"kv_lora_rank": None}, BadConfig),
    ("deepseek_v3", SMALL, {"kv_lora_rank": 0}, BadConfig),
    ("deepseek_v3", SMALL, {"qk_rope_head_dim": -1}, BadConfig),
    ("deepseek_v3", SMALL, {"q_lora_rank": 0}, BadConfig),
    ("deepseek_v3", SMALL, {"num_key_value_heads": 0}, BadConfig),
    ("deepseek_v3", SMALL, {"num_experts_per_tok": 9}, BadConfig),
    ("deepseek_v3", SMALL, {"moe_layer_freq": 0}, BadConfig),
    ("deepseek_v3", SMALL, {"n_shared_experts": float("nan")}, BadConfig),
    ("deepseek_v3", SMALL, {"index_head_dim": 16}, UnsupportedModel),
    ("deepseek_v3", SMALL, {"sliding_window": 16}, UnsupportedModel),
    ("deepseek_v32", INDEX, {"q_lora_rank": None}, BadConfig),
    ("deepseek_v32", INDEX, {"index_head_dim": None}, BadConfig),
    ("deepseek_v32", INDEX, {"index_topk": 0}, BadConfig),
    ("deepseek_v32", INDEX, {"layer_types": ["sliding_attention"] * 6}, UnsupportedModel),
    ("glm_moe_dsa", INDEX, {"indexer_types": ["full"] * 5}, BadConfig),
    ("glm_moe_dsa", INDEX, {"indexer_types": ["full"] * 5 + ["half"]}, UnsupportedModel),
    ("glm_moe_dsa", INDEX, {"index_topk_pattern": "FX"}, BadConfig),
    ("glm_moe_dsa", INDEX, {"index_topk_pattern": "FSSFSX"}, UnsupportedModel),
    ("glm5_next_text", INDEX, {"linear_attn_config": {"num_heads": 0}}, BadConfig),
    ("glm5_next_text", INDEX, {"layer_types": ["mamba"] * 6}, UnsupportedModel),
    ("longcat_flash", LONGCAT, {"moe_topk": 9}, BadConfig),
    ("longcat_flash", LONGCAT, {"num_layers": 0}, BadConfig),
    ("deepseek_v4", V4, {"compress_ratios": [4, 4]}, BadConfig),
    ("deepseek_v4", V4, {"compress_ratios": [2] * 6}, UnsupportedModel),
    ("deepseek_v4", V4, {"layer_types": ["full_attention"] * 6}, UnsupportedModel),
    ("deepseek_v4", V4, {"o_groups": 3}, BadConfig),
    ("deepseek_v4", V4, {"compress_rates": {"compressed_sparse_attention": 0}}, BadConfig),
]


@pytest.mark.parametrize(("model_type", "good", "bad", "error"), REFUSED)
def test_impossible_values_are_refused(model_type: str, good: Config, bad: Config, error: type[KvplanError]) -> None:
    read_config({"model_type": model_type, **good})
    with pytest.raises(error):
        read_config({"model_type": model_type, **good, **bad})


def test_types_whose_cache_is_not_known_are_refused() -> None:
    # DeepSeek-V4.1's compression ratios of 1 and 2 have no implementation to read
    with pytest.raises(UnsupportedModel):
        read_config({**V4_PRO, "model_type": "deepseek_v41"})
