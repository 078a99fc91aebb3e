"""Recurrent mixers: weights and state of one layer, against published counts and transformers 5.23.0.

Element and byte counts of states are those of the cache tensors that the transformers 5.23.0 implementation
makes (one layer, one sequence, bf16); parameter counts are sums over its named parameters.
"""

from __future__ import annotations

import pytest

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.model.recurrent import (
    Recurrent,
    StateMixer,
    gated_delta_net,
    kimi_delta,
    lightning_attention,
    mamba1,
    mamba2,
    rg_lru,
    rwkv4,
    short_conv,
)

BF16 = CacheFormat(kv_format("bf16"), kv_format("bf16"))
FP32 = CacheFormat(kv_format("fp32"), kv_format("fp32"), model_dtype_bytes=4)

MAMBA_28B = mamba1(hidden=2560, width=5120, state=16, conv_kernel=4, dt_rank=160)
CODESTRAL = mamba2(hidden=4096, heads=128, head_dim=64, groups=8, state=128, conv_kernel=4)
GRANITE_SMALL = mamba2(hidden=4096, heads=128, head_dim=64, groups=1, state=128, conv_kernel=4)
QWEN3_NEXT = gated_delta_net(hidden=2048, key_heads=16, value_heads=32, key_dim=128, value_dim=128, conv_kernel=4)
OLMO_HYBRID = gated_delta_net(hidden=3840, key_heads=30, value_heads=30, key_dim=96, value_dim=192, conv_kernel=4)
KIMI_LINEAR = kimi_delta(hidden=2304, heads=32, head_dim=128, conv_kernel=4)
MINIMAX = lightning_attention(hidden=6144, heads=64, head_dim=128)
LFM2 = short_conv(hidden=1024, conv_kernel=3)
RECURRENT_GEMMA = rg_lru(hidden=2560, width=2560, heads=10, conv_kernel=4)
RWKV = rwkv4(hidden=768, width=768, ffn_width=3072)
ALL = [MAMBA_28B, CODESTRAL, QWEN3_NEXT, KIMI_LINEAR, MINIMAX, LFM2, RECURRENT_GEMMA, RWKV]


def state(mixer: StateMixer) -> Recurrent:
    cache = mixer.cache()
    assert isinstance(cache, Recurrent)
    return cache


@pytest.mark.parametrize(
    ("mixer", "layers", "state_bytes"),
    [
        (MAMBA_28B, 64, 23_592_960),
        (QWEN3_NEXT, 36, 77_856_768),
        (CODESTRAL, 64, 273_678_336),
        (MINIMAX, 70, 70 * 64 * 128 * 128 * 2),
        (LFM2, 10, 10 * 1024 * 3 * 2),
        (RECURRENT_GEMMA, 18, 18 * (2560 * 3 * 2 + 2560 * 4)),
        (KIMI_LINEAR, 20, 20 * (12288 * 4 * 2 + 32 * 128 * 128 * 4)),
        (OLMO_HYBRID, 24, 24 * (11520 * 4 * 2 + 30 * 96 * 192 * 4)),
    ],
)  # fmt: skip
def test_state_bytes_are_those_of_the_transformers_cache(mixer: StateMixer, layers: int, state_bytes: int) -> None:
    assert layers * state(mixer).state_bytes(BF16) == state_bytes


@pytest.mark.parametrize(
    ("mixer", "parameters"),
    [
        (MAMBA_28B, 41_241_600),
        (CODESTRAL, 109_635_968),
        (QWEN3_NEXT, 33_718_464),
        (KIMI_LINEAR, 39_514_272),
        (MINIMAX, 251_666_432),
        (LFM2, 4_197_376),
        (RECURRENT_GEMMA, 20_999_680),
        (RWKV, 7_673_088),
    ],
)
def test_weights_of_a_layer_are_those_of_the_implementation(mixer: StateMixer, parameters: int) -> None:
    assert sum(weight.parameters for weight in mixer.weights()) == parameters


@pytest.mark.parametrize("mixer", ALL, ids=lambda mixer: mixer.label)
def test_a_state_does_not_grow_with_the_length(mixer: StateMixer) -> None:
    cache = state(mixer)
    assert cache.elements(1, 0) == cache.elements(1_000_000, 0) > 0
    assert cache.kv_bytes(1_000_000, 0, BF16) == 0


@pytest.mark.parametrize("mixer", ALL, ids=lambda mixer: mixer.label)
def test_recurrent_parts_stay_fp32_and_convolutions_follow_the_model(mixer: StateMixer) -> None:
    for part in state(mixer).parts:
        follows = part.name.startswith(("conv", "shift", "linear attention"))
        assert part.dtype == (None if follows else "fp32")
        assert part.bytes(FP32) == 4 * part.elements
        assert part.bytes(BF16) == (2 if follows else 4) * part.elements


def test_a_convolution_keeps_as_many_columns_as_its_kernel() -> None:
    """transformers 5.23.0: conv_states [5120, 4] for a kernel of 4; RecurrentGemma alone keeps [2560, 3]."""
    assert state(MAMBA_28B).parts[0].elements == 5120 * 4
    assert state(RECURRENT_GEMMA).parts[0].elements == 2560 * 3


@pytest.mark.parametrize("mixer", [MAMBA_28B, QWEN3_NEXT, KIMI_LINEAR, MINIMAX, LFM2])
def test_ranks_that_divide_the_heads_split_a_state_evenly(mixer: StateMixer) -> None:
    whole = state(mixer)
    assert whole.on_rank(4).state_bytes(BF16) * 4 == whole.state_bytes(BF16)


def test_a_group_of_mamba2_is_copied_when_ranks_outnumber_groups() -> None:
    """Granite 4.0 H Small has one group: B and C [256, 4] stand on every rank (vLLM MambaMixer2)."""
    rank = state(GRANITE_SMALL).on_rank(8)
    assert isinstance(rank, Recurrent)
    assert [part.elements for part in rank.parts] == [8192 * 4 // 8, 256 * 4, 128 * 64 * 128 // 8]


def test_options_change_the_weights_they_name() -> None:
    def count(mixer: StateMixer) -> int:
        return sum(weight.parameters for weight in mixer.weights())

    shape = {"hidden": 64, "width": 128, "state": 8, "conv_kernel": 4, "dt_rank": 4}
    plain = count(mamba1(**shape))
    assert count(mamba1(**shape, proj_bias=True)) == plain + 2 * 128 + 64
    assert count(mamba1(**shape, conv_bias=False)) == plain - 128
    assert count(mamba1(**shape, inner_norms=True)) == plain + 4 + 8 + 8
    shape2 = {"hidden": 64, "heads": 4, "head_dim": 32, "groups": 2, "state": 8, "conv_kernel": 4}
    plain = count(mamba2(**shape2))
    assert count(mamba2(**shape2, in_bias=True)) == plain + 2 * 128 + 2 * 2 * 8 + 4
    assert count(mamba2(**shape2, out_bias=True)) == plain + 64
    assert count(mamba2(**shape2, conv_bias=False)) == plain - 128 - 2 * 2 * 8
    assert count(mamba2(**shape2, gated_norm=False)) == plain - 128
    shape3 = {"hidden": 64, "heads": 4, "head_dim": 8, "conv_kernel": 4}
    low, full = 8 * 64 + 32 * 8, 32 * 64
    assert count(kimi_delta(**shape3, full_rank_gate=True)) == count(kimi_delta(**shape3)) + full - low
    assert count(short_conv(hidden=8, conv_kernel=3, bias=True)) == count(short_conv(hidden=8, conv_kernel=3)) + 40


def test_quantisers_leave_small_tensors_alone() -> None:
    """Convolutions, decays, norms and biases keep the float type; projections may be quantised."""
    for mixer in ALL:
        for weight in mixer.weights():
            small = weight.cols <= 16
            assert weight.linear is not small
