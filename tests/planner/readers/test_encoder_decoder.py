"""Encoder-decoders: counts and cache elements of the transformers 5.23.0 implementation on the meta device.

Parameter counts are also those of the published checkpoints (t5-large 737,668,096; bart-base 139,420,416;
whisper-large-v3 1,543,490,560).
"""

from __future__ import annotations

from typing import Any

import pytest

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.errors import BadConfig, KvplanError, UnsupportedModel
from planner.model.parameters import parameters, parameters_by_part
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

T5_LARGE: dict[str, Any] = {
    "model_type": "t5", "d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_layers": 24, "num_decoder_layers": 24,
    "num_heads": 16, "vocab_size": 32128, "n_positions": 512, "is_encoder_decoder": True,
}  # fmt: skip
FLAN_T5_XL: dict[str, Any] = {
    "model_type": "t5", "d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32,
    "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip
BART_BASE: dict[str, Any] = {
    "model_type": "bart", "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 50265,
    "max_position_embeddings": 1024,
}  # fmt: skip
WHISPER_TINY: dict[str, Any] = {"model_type": "whisper", "vocab_size": 51865}
WHISPER_LARGE_V3: dict[str, Any] = {
    "model_type": "whisper", "d_model": 1280, "encoder_layers": 32, "decoder_layers": 32,
    "encoder_attention_heads": 20, "decoder_attention_heads": 20, "encoder_ffn_dim": 5120, "decoder_ffn_dim": 5120,
    "vocab_size": 51866, "num_mel_bins": 128, "max_source_positions": 1500, "max_target_positions": 448,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "d_model": 64, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 8, "encoder_ffn_dim": 96, "decoder_ffn_dim": 80, "vocab_size": 200,
    "max_position_embeddings": 50,
}  # fmt: skip
SMALL_T5: dict[str, Any] = {
    "d_model": 48, "d_kv": 8, "num_heads": 5, "num_layers": 3, "num_decoder_layers": 4, "d_ff": 70,
    "vocab_size": 200, "relative_attention_num_buckets": 16,
}  # fmt: skip


def elements(spec: ModelSpec, tokens: int, source: int) -> int:
    return sum(count * cache.elements(tokens, source) for layer, count in spec.groups for cache in layer.caches)


@pytest.mark.parametrize(
    ("config", "total"),
    [
        (T5_LARGE, 737_668_096),
        (FLAN_T5_XL, 2_783_959_040),
        (BART_BASE, 139_420_416),
        ({"model_type": "bart", "vocab_size": 50265}, 406_291_456),  # bart-large is the class default
        (WHISPER_TINY, 37_760_640),
        (WHISPER_LARGE_V3, 1_543_490_560),
    ],
)
def test_published_models_have_their_published_parameters(config: dict[str, Any], total: int) -> None:
    assert parameters(read_config(config)) == total


@pytest.mark.parametrize(
    ("config", "total"),
    [
        ({**SMALL_T5, "model_type": "t5"}, 142_240),
        ({**SMALL_T5, "model_type": "t5", "feed_forward_proj": "gated-silu"}, 165_760),
        ({**SMALL_T5, "model_type": "mt5"}, 165_760),  # gated unless the file says otherwise
        ({**SMALL_T5, "model_type": "umt5"}, 166_160),  # position bias in each layer, not in the first alone
        ({"model_type": "mt5", "feed_forward_proj": "relu"}, 163_730_816),
        ({**SMALL, "model_type": "bart"}, 195_840),
        ({**SMALL, "model_type": "mbart"}, 196_096),
        ({**SMALL, "model_type": "pegasus"}, 195_584),
        ({**SMALL, "model_type": "bart", "tie_word_embeddings": False}, 234_240),  # two tables and a head more
        ({**SMALL, "model_type": "pegasus", "tie_word_embeddings": False}, 233_984),
    ],
)
def test_changed_sizes_count_as_transformers_builds_them(config: dict[str, Any], total: int) -> None:
    assert parameters(read_config(config)) == total


def test_t5_large_keeps_its_own_512_tokens_and_256_of_the_source() -> None:
    """2 x 24 layers x 16 heads x 64 x 4 B x (512 + 256), the cache of transformers."""
    spec = read_config(T5_LARGE)
    fp32 = CacheFormat(kv_format("fp32"), kv_format("fp32"), 4)
    kept = sum(count * c.kv_bytes(512, 256, fp32) for layer, count in spec.groups for c in layer.caches)
    assert kept == 150_994_944


@pytest.mark.parametrize(
    ("config", "tokens", "source", "kept"),
    [
        ({**T5_LARGE, "d_kv": 128, "num_heads": 32, "d_ff": 16384}, 8, 16, 4_718_592),  # t5-3b
        ({"model_type": "bart", "d_model": 1024}, 8, 16, 589_824),  # bart-large: the defaults of its class
        (WHISPER_LARGE_V3, 8, 1500, 123_535_360),
    ],
)
def test_cache_is_that_of_transformers(config: dict[str, Any], tokens: int, source: int, kept: int) -> None:
    assert elements(read_config(config), tokens, source) == kept


def test_encoder_layers_cache_nothing() -> None:
    spec = read_config(T5_LARGE)
    assert len(spec.encoder) == 24
    assert all(cache.elements(100, 100) == 0 for layer in spec.encoder for cache in layer.caches)


def test_cross_attention_does_not_grow_with_the_answer() -> None:
    spec = read_config(BART_BASE)
    assert spec.has_cross_attention
    assert elements(spec, 2, 0) == 2 * elements(spec, 1, 0)
    assert elements(spec, 5, 100) - elements(spec, 5, 0) == elements(spec, 50, 100) - elements(spec, 50, 0)


def test_whisper_pads_its_source_and_the_others_ask_for_it() -> None:
    assert read_config(WHISPER_LARGE_V3).source_tokens == 1500
    assert read_config({**WHISPER_TINY, "max_source_positions": 750}).source_tokens == 750
    assert read_config(T5_LARGE).source_tokens is None
    assert read_config(BART_BASE).source_tokens is None


def test_limits_are_those_of_the_position_table() -> None:
    assert read_config(T5_LARGE).max_positions is None  # relative positions: n_positions is no limit
    assert read_config(BART_BASE).max_positions == 1024
    assert read_config(WHISPER_TINY).max_positions == 448


def test_t5_ties_its_head_whatever_the_file_says_and_tells_so() -> None:
    spec = read_config(FLAN_T5_XL)
    assert spec.tied
    assert any("tie_word_embeddings" in note for note in spec.notes)
    assert not read_config(T5_LARGE).notes


def test_decoder_layers_default_to_the_encoders() -> None:
    absent = {k: v for k, v in T5_LARGE.items() if k != "num_decoder_layers"}
    assert len(read_config(absent).layers) == 24
    assert len(read_config({**T5_LARGE, "num_decoder_layers": None}).layers) == 24
    assert len(read_config({**T5_LARGE, "num_decoder_layers": 3}).layers) == 3


def test_whisper_sound_convolutions_are_a_part_of_their_own() -> None:
    parts = parameters_by_part(read_config(WHISPER_TINY))
    assert parts["audio"] == 384 * 80 * 3 + 384 + 384 * 384 * 3 + 384


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"is_encoder_decoder": False}, UnsupportedModel),
        ({"feed_forward_proj": "swish-gelu"}, BadConfig),
        ({"feed_forward_proj": "gated-gelu-new"}, BadConfig),
        ({"feed_forward_proj": 3}, BadConfig),
        ({"num_layers": 0}, BadConfig),
        ({"num_heads": "16"}, BadConfig),
        ({"d_model": -1}, BadConfig),
        ({"d_kv": float("nan")}, BadConfig),
        ({"num_key_value_heads": 2}, UnsupportedModel),  # no T5 has grouped heads: not silently MHA
        ({"sliding_window": 128}, UnsupportedModel),
    ],
)
def test_wrong_values_are_refused(change: dict[str, Any], error: type[KvplanError]) -> None:
    with pytest.raises(error):
        read_config({**T5_LARGE, **change})


def test_heads_must_divide_the_width_where_no_head_width_is_given() -> None:
    with pytest.raises(BadConfig, match="decoder heads"):
        read_config({**BART_BASE, "decoder_attention_heads": 7})
