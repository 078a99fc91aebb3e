"""Bytes of each format against published layouts.

Pair bytes are one token, one KV head of width 128, K and V together. Sources: vLLM
vllm/v1/kv_cache_interface.py and vllm/config/cache.py; KIVI, arXiv:2402.02750; transformers 5.23.0
cache_utils.py QuantizedLayer; package gguf 0.19.0 constants.py GGML_QUANT_SIZES; OCP Microscaling Formats 1.0.
"""

from __future__ import annotations

import pytest

from planner.dtypes.names import ALIASES, FLOAT_BYTES, float_dtype, kv_format, weight_format
from planner.dtypes.tables import KV_FORMATS, WEIGHT_FORMATS
from planner.errors import BadRequest, UnknownName

PAIR_BYTES = {
    "fp32": 1024,
    "fp16": 512,
    "bf16": 512,
    "fp8": 256,  # one scale a layer: nothing a token
    "fp8_per_token_head": 264,  # + one fp32 for K and for V
    "int8_per_token_head": 264,
    "int8": 260,  # + one fp16 for K and for V
    "int4_per_token_head": 136,
    "int4": 144,  # transformers QuantizedCache, groups of 64
    "kivi4_g32": 160,  # fp16 scale and zero point a group
    "kivi4_g64": 144,
    "kivi4_g128": 136,
    "kivi2_g32": 96,
    "kivi2_g64": 80,
    "kivi2_g128": 72,
    "q6_0": 208,  # ik_llama.cpp: 26 B per 32 values
    "q8_kv": 272,  # ik_llama.cpp: 8 B a row beside the codes
    **{f"exl3_q{bits}": 32 * bits + 16 for bits in range(2, 9)},  # ExLlamaV3: an fp16 scale per 32 values
    "nvfp4_4over6": 144,
    "turboquant_k8v4": 196,  # vLLM turboquant/config.py: bytes of a slot at 128
    "turboquant_4bit_nc": 134,
    "turboquant_k3v4_nc": 118,
    "turboquant_3bit_nc": 102,
    "q8_0": 272,  # 34 B per 32 values
    "q5_1": 192,  # 24
    "q5_0": 176,  # 22
    "q4_1": 160,  # 20
    "q4_0": 144,  # 18
    "iq4_nl": 144,
    "nvfp4": 144,  # hd / 2 + hd / 16
    "mxfp4": 136,
}

BITS_PER_WEIGHT = {
    "fp32": 32.0, "fp16": 16.0, "bf16": 16.0, "fp8": 8.0, "fp8_channel": 8.0, "fp8_block": 8.002, "mxfp8": 8.25,
    "int8": 8.0, "nf4": 4.5, "nf4_dq": 4.127, "gptq": 4.15625, "awq": 4.15625, "int4": 4.15625, "int4_g32": 4.5,
    "nvfp4": 4.5, "mxfp4": 4.25,
    "q2_k": 2.625, "q3_k": 3.4375, "q4_k": 4.5, "q5_k": 5.5, "q6_k": 6.5625, "q8_0": 8.5, "q5_1": 6.0, "q5_0": 5.5,
    "q4_1": 5.0, "iq4_nl": 4.5, "iq4_xs": 4.25, "iq3_s": 3.4375, "iq3_xxs": 3.0625, "iq2_s": 2.5625,
    "iq2_xs": 2.3125, "iq2_xxs": 2.0625, "iq1_m": 1.75, "iq1_s": 1.5625, "tq2_0": 2.0625, "tq1_0": 1.6875,
    # whole files of an 8B Llama, llama.cpp quantize README
    "q3_k_s": 3.5, "q3_k_m": 3.91, "q3_k_l": 4.27, "q4_0": 4.55, "q4_k_s": 4.58, "q4_k_m": 4.85, "q5_k_s": 5.54,
    "q5_k_m": 5.69,
    "q1_0": 1.125, "q2_0": 2.25, "q6_0": 6.5, "mxfp4_moe": 4.25,
    "q2_k_s": 2.97, "iq2_m": 2.93, "iq3_xs": 3.5, "iq3_m": 3.76,
    # Unsloth's UD files, between those of a mixture of experts and of a small dense model
    "q6_k_xl": 7.4, "q8_k_xl": 9.5,
} | {
    # ik_llama.cpp ggml-common.h: bytes of a block of 256 values
    name: 8 * size / 256 for name, size in {
        "iq2_k": 76, "iq3_k": 110, "iq4_k": 144, "iq5_k": 176, "iq6_k": 212, "iq2_ks": 70, "iq3_ks": 102, "iq4_ks": 136,
        "iq5_ks": 168, "iq4_kss": 128, "iq2_kl": 86, "iq1_kt": 56, "iq2_kt": 68, "iq3_kt": 100, "iq4_kt": 128,
    }.items()
}  # fmt: skip


@pytest.mark.parametrize(("name", "pair"), PAIR_BYTES.items())
def test_a_cached_pair_of_128_wide_vectors_takes_its_published_bytes(name: str, pair: int) -> None:
    assert 2 * kv_format(name).vector_bytes(128) == pair


def test_every_kv_format_is_held_against_a_published_figure() -> None:
    known = {*FLOAT_BYTES, *KV_FORMATS}
    assert known - {"fp8_ds_mla"} == set(PAIR_BYTES)  # fp8_ds_mla: 656 B, in test_cache_kinds


@pytest.mark.parametrize(("name", "bits"), BITS_PER_WEIGHT.items())
def test_a_weight_takes_its_published_bits(name: str, bits: float) -> None:
    stored = weight_format(name).matrix_bytes(4096, 4096) * 8 / 4096**2
    assert stored == pytest.approx(bits, abs=0.009)  # channel and row scales: under a hundredth of a bit


def test_every_weight_format_is_held_against_a_published_figure() -> None:
    assert {*FLOAT_BYTES, *WEIGHT_FORMATS} == set(BITS_PER_WEIGHT)


@pytest.mark.parametrize("name", ["turbo2", "turbo3", "turbo4", "tbq3_0"])
def test_types_whose_block_differs_by_fork_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnknownName, match=f"'{name}' is of forks of llama.cpp"):
        kv_format(name)


def test_a_vector_that_leaves_a_part_group_is_rounded_up_to_a_whole_one() -> None:
    assert kv_format("nvfp4").vector_bytes(80) == 40 + 5
    assert kv_format("kivi4_g64").vector_bytes(80) == 40 + 2 * 4
    assert kv_format("int4_per_token_head").vector_bytes(7) == 4 + 4


@pytest.mark.parametrize("name", ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"])
def test_ggml_blocks_refuse_a_width_that_is_not_a_multiple_of_32(name: str) -> None:
    with pytest.raises(BadRequest, match="blocks of 32"):
        kv_format(name).vector_bytes(80)


@pytest.mark.parametrize("name", PAIR_BYTES)
def test_bytes_never_fall_with_width_and_zero_width_is_free(name: str) -> None:
    sizes = [kv_format(name).vector_bytes(n) for n in range(0, 4097, 32)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0


@pytest.mark.parametrize("name", ["", "fp64", "int3", "q4_k_m", "nan", "\x1b[31m", "x" * 1000])
def test_an_unknown_kv_format_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownName, match="choose one of: fp32"):
        kv_format(name)


@pytest.mark.parametrize("name", ["", "fp64", "int3", "fp8_ds_mla"])
def test_an_unknown_weight_format_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownName, match="choose one of: fp32"):
        weight_format(name)


def test_every_alias_leads_to_a_format() -> None:
    for alias, name in ALIASES.items():
        assert name in FLOAT_BYTES or name in KV_FORMATS or name in WEIGHT_FORMATS, alias


def test_only_floats_are_a_type_that_a_model_runs_in() -> None:
    assert [float_dtype(name) for name in ("torch.bfloat16", "half", "float32", "fp8", "int8")] == [
        "bf16",
        "fp16",
        "fp32",
        None,
        None,
    ]
