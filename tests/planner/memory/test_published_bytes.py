"""Bytes of whole checkpoints as published: elements by stored type on the Hub (October 2026), worked out to bytes.

Where the Hub counts packed codes as their weights (U8 of MXFP4, I32 of int4, I8 of fp4) they are taken apart again, with
their scales, which it does not count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.readers.huggingface import read_config

BF16, FP8, FP32, INT64 = 2, 1, 4, 8


def fp4(codes: int) -> float:
    """Half a byte a weight, and a byte of scale for 32."""
    return codes * 17 / 32


PUBLISHED = {
    # model: (bytes, whether its prediction layers are among them, how much may differ, why)
    "kimi-k2.5": (1_014_686_023_680 * (1 / 2 + 2 / 32) + BF16 * 12_193_329_648, False, 100, "exact"),
    "mistral-small-4-119b": (FP8 * 117_879_865_344 + BF16 * 1_521_452_032, False, 40_000, "a scale a tensor, in fp32 here"),
    "minimax-m2.5": (FP8 * 227_410_968_576 + BF16 * 1_230_021_632 + FP32 * 62_654_720, False, 98_000_000, "routers in fp32"),
    "ling-2.6-1t": (
        FP8 * 1_009_494_523_904 * (1 + 4 / 128**2) + BF16 * (15_919_881_728 - 13_183_264_768), False, 5_000_000, "exact"),
    "deepseek-v4-flash": (
        fp4(283_467_841_536) + FP8 * 6_023_020_544 + BF16 * 1_415_259_264 + FP32 * 36_168_018 + INT64 * 2_327_040, True,
        410_000_000, "compressors and connections in fp32"),
    "deepseek-v4.1-flash": (
        fp4(557_171_343_360) + FP8 * 204_015_223_296 + BF16 * 1_976_441_856 + FP32 * 42_307_282, True, 500_000_000,
        "scales of fp8 blocks, connections in fp32"),
    "deepseek-v4-pro": (
        fp4(1_572_763_336_704) + FP8 * 23_169_335_296 + BF16 * 2_816_899_328 + FP32 * 87_776_414 + INT64 * 2_327_040, True,
        990_000_000, "compressors and connections in fp32"),
}  # fmt: skip


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_checkpoint_weighs_what_the_hub_counts(model: str) -> None:
    expected, with_prediction, near, _ = PUBLISHED[model]
    spec = model_spec(model)
    if with_prediction:
        spec = replace(spec, before=spec.before + spec.mtp)
    assert estimate(spec, Request(1)).weight_bytes == pytest.approx(expected, abs=near)


def test_deepseek_v4_pro_is_865_gb_with_its_prediction_layer_and_850_without() -> None:
    spec = model_spec("deepseek-v4-pro")
    bare = estimate(spec, Request(1)).weight_bytes
    whole = estimate(replace(spec, before=spec.before + spec.mtp), Request(1)).weight_bytes
    assert round(bare / 1e9) == 850 and round(whole / 1e9) in (864, 865)


@pytest.mark.parametrize(
    ("model", "codes", "fp8"),
    [("mimo-v2.6-flash", 302_795_194_368, 3_859_808_256), ("mimo-v2.6-pro", 1_000_190_509_056, 13_378_781_184)],
)
def test_mimo_stores_experts_in_mxfp4_and_all_but_the_output_projection_in_fp8(
    model: str, codes: int, fp8: int
) -> None:
    """U8 is the experts, F8_E4M3 q, k, v and the dense MLP of the model and of three prediction layers with windows."""
    spec = model_spec(model)
    config = spec.config
    hidden, heads, kv = config["hidden_size"], config["swa_num_attention_heads"], config["swa_num_key_value_heads"]
    predicted = 3 * ((heads * 192 + kv * (192 + 128)) * hidden + 3 * hidden * config["intermediate_size"])
    weights = [(w, count) for layer, count in spec.groups for w in layer.weights]
    experts = sum(w.parameters * count for w, count in weights if w.part == "experts")
    dense = sum(
        w.parameters * count
        for w, count in weights
        if w.part in ("attention", "mlp") and w.linear and "o_proj" not in w.name
    )
    assert (experts, dense + predicted) == (codes, fp8)
    scales = dense * 4 / 128**2
    rest = BF16 * (sum(w.parameters * count for w, count in weights) - experts - dense)
    tables = BF16 * sum(w.parameters for w in (*spec.before, *spec.after))
    assert estimate(spec, Request(1)).weight_bytes == pytest.approx(
        fp4(codes) + dense + scales + rest + tables, rel=1e-4
    )


def llama_2_gptq(hidden: int, width: int, layers: int, *, bits: int, group: int) -> dict[str, Any]:
    stored = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": True, "sym": True}
    return {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": width, "num_hidden_layers": layers,
        "num_attention_heads": hidden // 128, "vocab_size": 32000, "torch_dtype": "float16", "quantization_config": stored,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hidden", "width", "layers", "bits", "group", "file_gb"),
    [
        # TheBloke/Llama-2-13B-GPTQ and -7B-GPTQ, "Provided files" of their cards of July 2023, made with AutoGPTQ.
        (5120, 13824, 40, 4, 128, 7.26), (5120, 13824, 40, 4, 64, 7.51), (5120, 13824, 40, 4, 32, 8.00),
        (5120, 13824, 40, 8, 128, 13.65), (4096, 11008, 32, 4, 128, 3.90), (4096, 11008, 32, 4, 32, 4.28),
    ],
)  # fmt: skip
def test_autogptq_stores_four_bytes_an_input_and_two_an_output_more_than_is_loaded(
    hidden: int, width: int, layers: int, bits: int, group: int, file_gb: float
) -> None:  # parameters: a row of the card
    """Each QuantLinear of 2023 registers g_idx, int32 [in], and a bias of zeros, fp16 [out], which engines drop."""
    spec = read_config(llama_2_gptq(hidden, width, layers, bits=bits, group=group))
    inputs, outputs = 6 * hidden + width, 5 * hidden + 2 * width
    idle = layers * (4 * inputs + 2 * outputs)
    assert round((estimate(spec, Request(1)).weight_bytes + idle) / 1e9, 2) == file_gb


def test_gptq_for_llama_stores_its_scales_in_fp32_which_is_2_7_percent_of_a_13b() -> None:
    """Two bytes more for each group of 128 inputs and each output; the file alone says so, its config has no word of it."""
    spec = read_config(llama_2_gptq(5120, 13824, 40, bits=4, group=128))
    more = 40 * 2 * (4 * 5120**2 + 3 * 5120 * 13824) // 128
    assert round(100 * more / estimate(spec, Request(1)).weight_bytes, 1) == 2.7
