"""Mixtures of experts with ordinary attention.

Parameter counts are those of the published checkpoints (safetensors totals) or, where said, of the model
that transformers 5.23.0 builds from the same config; cache elements are those it allocates.
"""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import BadConfig, KvplanError, UnsupportedModel
from planner.model.parameters import active_parameters, parameters, parameters_by_part
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

Config = dict[str, Any]


def spec(model_type: str, **keys: Any) -> ModelSpec:
    return read_config({"model_type": model_type, **keys})


def cached(model: ModelSpec, tokens: int) -> int:
    return sum(count * cache.elements(tokens, 0) for layer, count in model.groups for cache in layer.caches)


def kinds(model: ModelSpec) -> list[str]:
    return [layer.caches[0].kind for layer in model.layers]


def sparse_layers(model: ModelSpec) -> list[int]:
    return [i for i, layer in enumerate(model.layers) if any(w.part == "experts" for w in layer.weights)]


SMALL: Config = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 101, "num_experts_per_tok": 2,
}  # fmt: skip
ROUTED: Config = {**SMALL, "n_routed_experts": 5, "moe_intermediate_size": 24, "n_shared_experts": 1}
LOCAL: Config = {**SMALL, "num_local_experts": 5}
QWEN: Config = {**SMALL, "num_experts": 6, "moe_intermediate_size": 24}

MIXTRAL: Config = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_experts_per_tok": 2,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8, "sliding_window": None,
    "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
LLAMA4: Config = {
    "attention_chunk_size": 8192, "head_dim": 128, "hidden_size": 5120, "intermediate_size": 8192,
    "num_attention_heads": 40, "num_experts_per_tok": 1, "num_hidden_layers": 48, "num_key_value_heads": 8,
    "vocab_size": 202048,
}  # fmt: skip
PUBLISHED: dict[str, tuple[Config, int]] = {
    "mixtral-8x7b": ({"model_type": "mixtral", **MIXTRAL}, 46_702_792_704),
    "qwen1.5-moe-a2.7b": (
        {"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, "max_window_layers": 21,
         "num_attention_heads": 16, "num_hidden_layers": 24, "num_key_value_heads": 16, "sliding_window": 32768,
         "use_sliding_window": False, "vocab_size": 151936, "decoder_sparse_step": 1,
         "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4,
         "num_experts": 60}, 14_315_784_192),
    "qwen3-30b-a3b": (
        {"model_type": "qwen3_moe", "decoder_sparse_step": 1, "head_dim": 128, "hidden_size": 2048,
         "intermediate_size": 6144, "mlp_only_layers": [], "moe_intermediate_size": 768,
         "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48,
         "num_key_value_heads": 4, "sliding_window": None, "vocab_size": 151936}, 30_532_122_624),
    "gpt-oss-20b": (
        {"model_type": "gpt_oss", "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880,
         "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
         "num_local_experts": 32, "sliding_window": 128, "vocab_size": 201088}, 20_914_757_184),
    "phi-3.5-moe": (
        {"model_type": "phimoe", "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 6400,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "attention_bias": True,
         "lm_head_bias": True, "sliding_window": 131072, "num_local_experts": 16, "num_experts_per_tok": 2},
        41_873_153_344),
    "olmoe-1b-7b": (
        {"model_type": "olmoe", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 16,
         "num_key_value_heads": 16, "intermediate_size": 1024, "vocab_size": 50304, "num_experts": 64,
         "num_experts_per_tok": 8}, 6_919_161_856),
    "deepseek-moe-16b": (
        {"model_type": "deepseek", "first_k_dense_replace": 1, "hidden_size": 2048, "intermediate_size": 10944,
         "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_routed_experts": 64, "n_shared_experts": 2,
         "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 28,
         "num_key_value_heads": 16, "vocab_size": 102400}, 16_375_728_128),
    "hunyuan-a13b": (
        {"model_type": "hunyuan_v1_moe", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072,
         "moe_intermediate_size": [3072] * 32, "num_experts": 64, "num_shared_expert": [1] * 32,
         "moe_topk": [8] * 32, "vocab_size": 128167, "tie_word_embeddings": True, "use_cla": False,
         "cla_share_factor": 2}, 80_393_183_232),
    # Transformers build of the text model; the checkpoint adds the vision tower.
    "llama-4-scout": (
        {"model_type": "llama4_text", **LLAMA4, "interleave_moe_layer_step": 1, "num_local_experts": 16},
        107_769_861_120),
    "llama-4-maverick": (
        {"model_type": "llama4_text", **LLAMA4, "interleave_moe_layer_step": 2, "num_local_experts": 128},
        400_711_848_960),
    # Transformers builds; these checkpoints add MTP layers or router tables.
    "dbrx": (
        {"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "max_seq_len": 32768,
         "vocab_size": 100352, "attn_config": {"kv_n_heads": 8}, "tie_word_embeddings": False,
         "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}}, 131_596_523_520),
    "minimax-m2": (
        {"model_type": "minimax_m2", "vocab_size": 200064, "hidden_size": 3072, "intermediate_size": 1536,
         "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
         "num_experts_per_tok": 8, "num_local_experts": 256, "attn_type_list": [1] * 62}, 228_689_748_992),
    "dots-llm1": (
        {"model_type": "dots1", "hidden_size": 4096, "num_hidden_layers": 62, "intermediate_size": 10944,
         "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 152064, "first_k_dense_replace": 1,
         "moe_intermediate_size": 1408, "n_routed_experts": 128, "n_shared_experts": 2,
         "num_experts_per_tok": 6}, 142_774_373_888),
    "ernie-4.5-21b-a3b": (
        {"model_type": "ernie4_5_moe", "vocab_size": 103424, "hidden_size": 2560, "intermediate_size": 12288,
         "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4,
         "tie_word_embeddings": True, "moe_intermediate_size": 1536, "moe_num_experts": 64}, 21_825_437_888),
    "glm-4.5-air": (
        {"model_type": "glm4_moe", "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944,
         "num_hidden_layers": 46, "num_attention_heads": 96, "num_key_value_heads": 8, "attention_bias": True,
         "moe_intermediate_size": 1408, "num_experts_per_tok": 8, "n_shared_experts": 1,
         "n_routed_experts": 128, "first_k_dense_replace": 1, "num_nextn_predict_layers": 1, "head_dim": 128},
        106_852_245_504),
    "mimo-v2-flash": (
        {"model_type": "mimo_v2_flash", "num_hidden_layers": 48, "hidden_size": 4096, "num_attention_heads": 64,
         "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "intermediate_size": 16384,
         "vocab_size": 152576, "sliding_window": 128, "sliding_window_size": 128, "attention_chunk_size": 128,
         "swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128,
         "hybrid_layer_pattern": [0, 1, 1, 1, 1] + [0, 1, 1, 1, 1, 1] * 7 + [0], "moe_layer_freq": [0] + [1] * 47,
         "moe_intermediate_size": 2048, "n_routed_experts": 256, "num_experts_per_tok": 8}, 308_778_768_832),
    "minimax-m3": (
        {"model_type": "minimax_m3", "dense_intermediate_size": 12288, "head_dim": 128, "hidden_size": 6144,
         "intermediate_size": 3072, "moe_layer_freq": [0] * 3 + [1] * 57, "num_attention_heads": 64,
         "num_experts_per_tok": 4, "num_hidden_layers": 60, "num_key_value_heads": 4, "num_local_experts": 128,
         "shared_intermediate_size": 3072, "vocab_size": 200064,
         "sparse_attention_config": {"sparse_attention_freq": [0] * 3 + [1] * 57, "sparse_index_dim": 128,
                                     "sparse_num_index_heads": 4, "use_sparse_attention": True}},
        426_174_565_632),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_count(name: str) -> None:
    config, count = PUBLISHED[name]
    assert parameters(read_config(config)) == count


def test_grok_1_has_four_norms_a_layer_and_a_tied_head() -> None:
    # xai-org/grok-1 model.py; a Mixtral of these widths (two norms) would be 315,684,034,560.
    config = {
        **MIXTRAL, "hidden_size": 6144, "intermediate_size": 32768, "num_hidden_layers": 64,
        "num_attention_heads": 48, "vocab_size": 131072, "tie_word_embeddings": True,
    }  # fmt: skip
    config.pop("sliding_window")
    for name in ("grok-1", "grok_1", "grok"):
        assert parameters(spec(name, **config)) == 315_684_034_560 + 2 * 64 * 6144


@pytest.mark.parametrize(
    ("name", "billions"),
    [("mixtral-8x7b", 12.9), ("qwen3-30b-a3b", 3.3), ("gpt-oss-20b", 4.2), ("olmoe-1b-7b", 1.3),
     ("deepseek-moe-16b", 2.8), ("llama-4-scout", 17.2), ("llama-4-maverick", 17.2), ("phi-3.5-moe", 6.6),
     ("dbrx", 36.5), ("glm-4.5-air", 13.0), ("dots-llm1", 14.3)],
)  # fmt: skip
def test_active_parameters_are_near_the_published_figure(name: str, billions: float) -> None:
    # Model cards round and some leave out the embedding, so a tenth is allowed.
    active = active_parameters(read_config(PUBLISHED[name][0])) / 1e9
    assert abs(active - billions) / billions < 0.1


def test_every_part_of_a_mixture_is_named() -> None:
    parts = parameters_by_part(read_config(PUBLISHED["deepseek-moe-16b"][0]))
    assert parts["experts"] == 27 * 64 * 3 * 2048 * 1408
    assert parts["shared_experts"] == 27 * 3 * 2048 * 2816
    assert parts["mlp"] == 3 * 2048 * 10944
    assert parts["router"] == 27 * 64 * 2048


@pytest.mark.parametrize(
    ("name", "beyond"),
    [("glm-4.5-air", 3_616_579_328 - 46 * 128), ("ernie-4.5-21b-a3b", 123_217_920)],
)
def test_mtp_layers_account_for_the_rest_of_the_checkpoint(name: str, beyond: int) -> None:
    # safetensors total less the model above; GLM's checkpoint also holds 46 router correction biases of 128.
    config = {**PUBLISHED[name][0], "num_nextn_predict_layers": 1}
    model = read_config(config)
    assert sum(weight.parameters for weight in model.mtp) == beyond
    assert parameters(model) == PUBLISHED[name][1]


@pytest.mark.parametrize("given", [{"num_mtp_modules": 2}, {"num_mtp_modules": 2, "num_nextn_predict_layers": 7}])
def test_minimax_m3_predicts_with_whole_sparse_layers_of_the_count_that_vllm_reads(given: dict[str, Any]) -> None:
    """Beside a layer: eh_proj [h, 2h], enorm, hnorm and a last norm (vLLM 0.33.0 minimax_m3/nvidia/mtp.py)."""
    model = read_config({**PUBLISHED["minimax-m3"][0], **given})
    sparse = next(layer for layer in reversed(model.layers) if len(layer.caches) == 2)
    layer, hidden = sum(weight.parameters for weight in sparse.weights), model.hidden
    assert sum(weight.parameters for weight in model.mtp) == 2 * (layer + 2 * hidden**2 + 3 * hidden)
    assert not model.warnings


def test_ling_2_predicts_with_a_layer_of_attention_and_experts() -> None:
    """SGLang 0.5.23 bailing_moe_nextn.py: enorm, hnorm, eh_proj, a block, a last norm; the tables are the model's."""
    small = {"model_type": "bailing_moe", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
             "num_key_value_heads": 2, "intermediate_size": 96, "moe_intermediate_size": 32, "num_experts": 4,
             "num_experts_per_tok": 2, "num_shared_experts": 1, "first_k_dense_replace": 1, "vocab_size": 100}  # fmt: skip
    model = read_config({**small, "num_nextn_predict_layers": 1})
    layer = sum(weight.parameters for weight in model.layers[1].weights)
    assert sum(weight.parameters for weight in model.mtp) == layer + 2 * 64**2 + 3 * 64
    assert not model.warnings


@pytest.mark.parametrize(
    ("name", "tokens", "elements"),
    [("minimax-m3", 8, 549_888), ("mimo-v2-flash", 8, 890_880), ("mimo-v2-flash", 137, 14_357_760),
     ("gpt-oss-20b", 64, 24 * 64 * 1024)],
)  # fmt: skip
def test_cache_elements_equal_those_transformers_allocates(name: str, tokens: int, elements: int) -> None:
    assert cached(read_config(PUBLISHED[name][0]), tokens) == elements


def test_mixtral_windows_every_layer_or_none() -> None:
    assert set(kinds(spec("mixtral", **MIXTRAL))) == {"full attention"}
    assert set(kinds(spec("mixtral", **{**MIXTRAL, "sliding_window": 4096}))) == {"sliding window 4096"}


def test_gpt_oss_alternates_without_a_list_and_follows_one() -> None:
    base = {**LOCAL, "sliding_window": 16}
    assert kinds(spec("gpt_oss", **base)) == ["sliding window 16", "full attention"] * 3
    listed = ["full_attention"] * 5 + ["sliding_attention"]
    assert kinds(spec("gpt_oss", **base, layer_types=listed)) == ["full attention"] * 5 + ["sliding window 16"]


def test_gpt_oss_has_sinks_and_biases_in_experts_and_router() -> None:
    model = spec("gpt_oss", **LOCAL, attention_bias=False, head_dim=16)
    biased = spec("gpt_oss", **LOCAL, head_dim=16)
    assert parameters(biased) - parameters(model) == 6 * (64 + 32 + 32 + 64)
    plain = spec("mixtral", **LOCAL)
    extra = 6 * (4 + 5 + 5 * (2 * 96 + 64))  # sinks, router bias, expert biases
    assert parameters(model) - parameters(plain) == extra


def test_qwen2_moe_windows_every_second_layer_below_max_window_layers() -> None:
    model = spec(
        "qwen2_moe", **QWEN, use_sliding_window=True, sliding_window=16, max_window_layers=4,
    )  # fmt: skip
    assert [i for i, kind in enumerate(kinds(model)) if kind.startswith("sliding")] == [0, 2]


def test_qwen3_moe_windows_every_layer_when_told_to() -> None:
    on = spec("qwen3_moe", **QWEN, use_sliding_window=True, sliding_window=16, max_window_layers=4)
    off = spec("qwen3_moe", **QWEN, use_sliding_window=False, sliding_window=16, max_window_layers=4)
    assert set(kinds(on)) == {"sliding window 16"}
    assert set(kinds(off)) == {"full attention"}


def test_dots1_windows_from_max_window_layers_on() -> None:
    model = spec("dots1", **ROUTED, sliding_window=16, max_window_layers=4)
    assert kinds(model) == ["full attention"] * 4 + ["sliding window 16"] * 2


def test_qwen_experts_follow_the_sparse_step_and_the_dense_list() -> None:
    assert sparse_layers(spec("qwen3_moe", **QWEN, decoder_sparse_step=2)) == [1, 3, 5]
    assert sparse_layers(spec("qwen3_moe", **QWEN, mlp_only_layers=[0, 3])) == [1, 2, 4, 5]
    assert sparse_layers(spec("qwen2_moe", **{**QWEN, "num_experts": 0})) == []


def test_deepseek_experts_start_after_the_dense_layers_and_keep_their_period() -> None:
    assert sparse_layers(spec("deepseek", **ROUTED, first_k_dense_replace=2)) == [2, 3, 4, 5]
    assert sparse_layers(spec("deepseek", **ROUTED, first_k_dense_replace=1, moe_layer_freq=2)) == [2, 4]
    assert sparse_layers(spec("mimo_v2_flash", **ROUTED, moe_layer_freq=[0, 0, 1, 1, 0, 1])) == [2, 3, 5]
    named = ["dense", "sparse"] * 3
    assert sparse_layers(spec("mimo_v2_flash", **ROUTED, mlp_layer_types=named)) == [1, 3, 5]


def test_ernie_experts_lie_between_start_and_end_in_every_interval() -> None:
    base = {**SMALL, "moe_num_experts": 5, "moe_k": 2, "moe_intermediate_size": 24}
    base.pop("num_experts_per_tok")
    assert sparse_layers(spec("ernie4_5_moe", **base)) == [1, 2, 3, 4, 5]
    bounded = {"moe_layer_start_index": 2, "moe_layer_end_index": 4, "moe_layer_interval": 2}
    assert sparse_layers(spec("ernie4_5_moe", **base, **bounded)) == [3]


def test_ernie_bias_reaches_shared_experts_but_not_routed_ones() -> None:
    base = {**SMALL, "moe_num_experts": 5, "moe_k": 2, "moe_intermediate_size": 24, "tie_word_embeddings": False}
    base.pop("num_experts_per_tok")
    attention, dense, shared, head = 64 + 32 + 32 + 64, 2 * 96 + 64, 2 * 48 + 64, 101
    more = parameters(spec("ernie4_5_moe", **base, use_bias=True)) - parameters(spec("ernie4_5_moe", **base))
    assert more == 6 * attention + dense + 5 * shared + head


def test_llama4_chunks_where_rope_is_and_is_global_in_every_fourth_layer() -> None:
    small = {**LOCAL, "attention_chunk_size": 16}
    model = spec("llama4_text", **small, num_experts=5)
    assert kinds(model) == ["chunked 16"] * 3 + ["full attention"] + ["chunked 16"] * 2
    rope = spec("llama4_text", **small, no_rope_layers=[1, 0, 0, 0, 0, 0])
    assert kinds(rope) == ["chunked 16"] + ["full attention"] * 5
    thirds = spec("llama4_text", **small, no_rope_layers=[], no_rope_layer_interval=3)
    assert kinds(thirds) == (["chunked 16"] * 2 + ["full attention"]) * 2
    named = spec("llama4_text", **small, layer_types=["full_attention"] * 5 + ["chunked_attention"])
    assert kinds(named) == ["full attention"] * 5 + ["chunked 16"]
    assert set(kinds(spec("llama4_text", **{**small, "attention_chunk_size": None}))) == {"full attention"}


def test_llama4_experts_interleave_or_are_listed() -> None:
    assert sparse_layers(spec("llama4_text", **LOCAL, interleave_moe_layer_step=2)) == [1, 3, 5]
    assert sparse_layers(spec("llama4_text", **LOCAL, moe_layers=[0, 4])) == [0, 4]
    assert sparse_layers(spec("llama4_text", **LOCAL, moe_layers=[])) == []


def test_llama4_stops_growing_at_the_chunk_except_in_global_layers() -> None:
    model = read_config(PUBLISHED["llama-4-scout"][0])
    step = cached(model, 20_000) - cached(model, 10_000)
    assert step == 12 * 10_000 * 2 * 8 * 128


def test_mimo_windows_have_their_own_heads_and_hold_the_tokens_before_the_query() -> None:
    model = spec("mimo_v2_flash", **{**ROUTED, "num_attention_heads": 8}, head_dim=24, v_head_dim=16,
                 sliding_window_size=16, hybrid_layer_pattern=[0, 1, 1, 1, 1, 0])  # fmt: skip
    assert cached(model, 100) == (2 * 100 * 2 + 4 * 16 * 4) * (24 + 16)
    saved = spec("mimo_v2_flash", **{**ROUTED, "num_attention_heads": 8}, sliding_window=17)
    assert kinds(saved) == ["full attention"] + ["sliding window 17"] * 4 + ["full attention"]


def test_minimax_m3_keeps_all_keys_and_an_index_key_in_sparse_layers() -> None:
    base = {**LOCAL, "dense_intermediate_size": 50, "shared_intermediate_size": 30, "head_dim": 16}
    names = ["full_attention", "minimax_m3_sparse"] * 3
    model = spec("minimax_m3", **base, layer_types=names, index_head_dim=20, index_n_heads=2)
    assert cached(model, 40) == 40 * (6 * 2 * 2 * 16 + 3 * 20)
    assert cached(spec("minimax_m3_vl_text", **base), 40) == 40 * 6 * 2 * 2 * 16


def test_index_keys_lie_on_every_rank() -> None:
    cache = read_config(PUBLISHED["minimax-m3"][0]).layers[-1].caches
    assert [c.on_rank(4).elements(1, 0) for c in cache] == [256, 128]


def test_afmoe_gates_attention_and_starts_dense() -> None:
    model = spec("afmoe", **{**QWEN, "num_dense_layers": 2}, head_dim=16, sliding_window=16)
    assert sparse_layers(model) == [2, 3, 4, 5]
    assert kinds(model) == ["sliding window 16"] * 3 + ["full attention"] + ["sliding window 16"] * 2
    # transformers build of this config
    assert parameters(model) == 298_904


@pytest.mark.parametrize(
    ("model_type", "keys", "count"),
    [  # parameters of the transformers builds of these small configs
        ("flex_olmo", {"num_experts": 5}, 642_944),
        ("granitemoe", {"num_local_experts": 5}, 642_368),
        ("granitemoeshared", {"num_local_experts": 5, "shared_intermediate_size": 33}, 680_384),
        ("ernie4_5", {"head_dim": 16}, 191_616),
        ("hunyuan_v1_dense", {"head_dim": 24}, 235_232),
    ],
)
def test_smaller_siblings_agree_with_transformers(model_type: str, keys: Config, count: int) -> None:
    assert parameters(spec(model_type, **SMALL, **keys)) == count


def test_experts_may_be_spelled_both_ways() -> None:
    one = {**SMALL, "moe_intermediate_size": 24}
    assert parameters(spec("qwen3_moe", **one, num_local_experts=6)) == parameters(spec("qwen3_moe", **QWEN))


REFUSED: list[tuple[str, Config, Config, type[KvplanError]]] = [
    ("mixtral", LOCAL, {"num_experts_per_tok": 6}, BadConfig),
    ("mixtral", LOCAL, {"num_local_experts": 0}, BadConfig),
    ("mixtral", LOCAL, {"num_key_value_heads": 5}, BadConfig),
    ("mixtral", LOCAL, {"sliding_window": -1}, BadConfig),
    ("mixtral", LOCAL, {"layer_types": ["full_attention"]}, BadConfig),
    ("mixtral", LOCAL, {"layer_types": ["mamba"] * 6}, UnsupportedModel),
    ("mixtral", LOCAL, {"attention_chunk_size": 8}, UnsupportedModel),
    ("qwen3_moe", QWEN, {"decoder_sparse_step": 0}, BadConfig),
    ("qwen3_moe", QWEN, {"mlp_only_layers": ["x"]}, BadConfig),
    ("dbrx", {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 9}, {"attn_config": 3}, BadConfig),
    ("dbrx", {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 9}, {"attn_config": {"kv_n_heads": 5}},
     BadConfig),
    ("dbrx", {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 9},
     {"ffn_config": {"moe_num_experts": 2, "moe_top_k": 3}}, BadConfig),
    ("llama4_text", LOCAL, {"no_rope_layers": [1, 0]}, BadConfig),
    ("llama4_text", LOCAL, {"no_rope_layer_interval": 0}, BadConfig),
    ("llama4_text", LOCAL, {"interleave_moe_layer_step": 0}, BadConfig),
    ("hunyuan_v1_moe", {**SMALL, "num_experts": 5, "moe_topk": 2}, {"use_cla": True}, UnsupportedModel),
    ("hunyuan_v1_moe", {**SMALL, "num_experts": 5, "moe_topk": 2}, {"num_experts_per_tok": [2, 2]}, BadConfig),
    ("hunyuan_v1_moe", {**SMALL, "num_experts": 5, "moe_topk": 2}, {"num_experts_per_tok": 6}, BadConfig),
    ("hunyuan_v1_dense", SMALL, {"use_cla": True}, UnsupportedModel),
    ("minimax_m2", LOCAL, {"attn_type_list": [1, 1, 0, 1, 1, 1]}, UnsupportedModel),
    ("minimax_m2", LOCAL, {"attn_type_list": [1]}, BadConfig),
    ("minimax_m3", LOCAL, {"sparse_attention_config": {"sparse_attention_freq": [1]}}, BadConfig),
    ("minimax_m3", LOCAL, {"layer_types": ["sliding_attention"] * 6}, UnsupportedModel),
    ("mimo_v2_flash", ROUTED, {"swa_num_key_value_heads": 99}, BadConfig),
    ("mimo_v2_flash", ROUTED, {"hybrid_layer_pattern": [0, 1]}, BadConfig),
    ("mimo_v2_flash", ROUTED, {"moe_layer_freq": [1, 0]}, BadConfig),
    ("mimo_v2_flash", ROUTED, {"mlp_layer_types": ["wide"] * 6}, UnsupportedModel),
    ("glm4_moe", ROUTED, {"num_nextn_predict_layers": -1}, BadConfig),
    ("ernie4_5_moe", {**SMALL, "moe_num_experts": 5, "moe_k": 2}, {"moe_layer_interval": 0}, BadConfig),
]  # fmt: skip


@pytest.mark.parametrize(("model_type", "good", "bad", "error"), REFUSED)
def test_impossible_values_are_refused(model_type: str, good: Config, bad: Config, error: type[KvplanError]) -> None:
    read_config({"model_type": model_type, **good})
    with pytest.raises(error):
        read_config({"model_type": model_type, **good, **bad})
