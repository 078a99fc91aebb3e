"""Weights of checkpoints as they lie on the Hub, beside the size that their own index or their publisher states.

The first: `metadata.total_size` of model.safetensors.index.json, and config.json beside it, of public repositories
(GitHub roshinpv/mpx, Arp1tMoga/fast_qwen, leo-kreisman/Qwen3.5-9B-MLX-8bit, root-hypercube/qwen3-mlx and
mapengAdam/qianwen-72B, copies of the Hub's files). The second: file sizes in publishers' lists (mradermacher's of
Bagel-Hermes-34B, which is Yi-34B's shape, and of Qwen2.5-32B's; bartowski's of Mistral-7B v0.3 and Qwen3-8B).
"""

from __future__ import annotations

from typing import Any

import pytest

from planner.catalogue.entries import find_model
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.readers.huggingface import read_config


def mlx(bits: int, group: int, **named: dict[str, Any]) -> dict[str, Any]:
    return {"bits": bits, "group_size": group, "mode": "affine", **named}


def mixed_27b() -> dict[str, Any]:
    """Qwen3.6-27B in 4 bit, with both tables, the linear layers' outputs and the last eight MLPs in 8."""
    high = {"bits": 8, "group_size": 64, "mode": "affine"}
    text = "language_model.model"
    linear = [n for n in range(64) if n % 4 != 3]
    names = ["language_model.lm_head", f"{text}.embed_tokens"]
    names += [f"{text}.layers.{n}.linear_attn.out_proj" for n in linear]
    names += [f"{text}.layers.{n}.mlp.{half}_proj" for n in range(56, 64) for half in ("gate", "up", "down")]
    return mlx(4, 32, **dict.fromkeys(names, high))


@pytest.mark.parametrize(
    ("model", "quantization", "total"),
    [
        ("deepseek-r1-distill-qwen-14b", {"bits": 3, "group_size": 64}, 6_463_203_328),
        ("qwen3.6-27b", mixed_27b(), 20_444_027_360),
        ("qwen3.5-9b", mlx(8, 64), 10_426_433_504),  # its A_log lies in 32 bit: 1,536 B more than we count
        ("qwen3-1.7b", None, 3_441_149_952),
        ("qwen-72b", None, 144_575_840_256),
    ],
    ids=["3 bit", "4 and 8 bit", "8 bit", "bf16", "bf16 of Qwen 1"],
)
def test_a_checkpoint_takes_what_its_own_index_says(
    model: str, quantization: dict[str, Any] | None, total: int
) -> None:
    config = dict(find_model(model).config)
    if quantization:
        config |= {"quantization": quantization, "quantization_config": quantization}
    found = estimate(read_config(config), Request(128))
    assert found.weight_bytes == pytest.approx(total, rel=2e-7)
    assert found.exactness["weight_bytes"] == "exact"


YI_34B = {
    "IQ2_XXS": 9.4, "IQ2_XS": 10.4, "IQ2_S": 11.0, "IQ2_M": 11.9, "Q2_K": 12.9, "IQ3_XXS": 13.4, "IQ3_XS": 14.3,
    "Q3_K_S": 15.1, "IQ3_S": 15.1, "IQ3_M": 15.7, "Q3_K_M": 16.8, "Q3_K_L": 18.2, "IQ4_XS": 18.6, "Q4_0": 19.6,
    "Q4_K_S": 19.7, "Q4_K_M": 20.8, "Q5_K_S": 23.8, "Q5_K_M": 24.4, "Q6_K": 28.3,
}  # fmt: skip
MISTRAL_7B = {
    "IQ1_S": 1.62, "IQ1_M": 1.76, "IQ2_XXS": 1.99, "IQ2_XS": 2.2, "IQ2_S": 2.31, "IQ2_M": 2.5, "IQ3_XXS": 2.83,
    "IQ3_XS": 3.02, "IQ3_S": 3.19, "IQ3_M": 3.29, "IQ4_XS": 3.91, "IQ4_NL": 4.13, "Q2_K": 2.72,
}  # fmt: skip
QWEN_32B = {"IQ1_M": 8.0, "IQ2_XXS": 9.1, "IQ2_XS": 10.1, "IQ2_M": 11.4, "Q2_K_S": 11.6}
QWEN3_8B = {"bf16": 16.39, "Q8_0": 8.71, "Q6_K_L": 7.03, "Q6_K": 6.73, "Q5_K_L": 6.24}


@pytest.mark.parametrize(
    ("written", "gb"),
    [
        (f"{model}-{kind}.gguf", gb)
        for model, sizes in (
            ("Yi-1.5-34B", YI_34B),
            ("Mistral-7B-Instruct-v0.3", MISTRAL_7B),
            ("Qwen2.5-32B", QWEN_32B),
            ("Qwen3-8B", QWEN3_8B),
        )
        for kind, gb in sizes.items()
    ],
)
def test_a_gguf_takes_what_its_publisher_says_within_three_percent(written: str, gb: float) -> None:
    assert estimate(model_spec(written), Request(128)).weight_bytes == pytest.approx(gb * 1e9, rel=0.03)


# File sizes in GB of bartowski's model cards (imatrix but for the first two rows of types): Yi-1.5-34B-Chat, Behemoth-ReduX-123B
# (Mistral Large's shape), Codestral-22B, Llama-3.1-70B, Ministral-8B-2410, gpt-oss-20b ("all FFN kept at MXFP4").
CARDS = {
    "yi-1.5-34b": (0.002, {
        "q8_0": 36.54, "q6_k": 28.21, "q5_k_m": 24.32, "q5_k_s": 23.70, "q4_k_m": 20.65, "q4_k_s": 19.59, "iq4_nl": 19.52,
        "iq4_xs": 18.47, "q3_k_l": 18.13, "q3_k_m": 16.65, "iq3_m": 15.56, "iq3_s": 15.01, "q3_k_s": 14.96, "iq3_xs": 14.23,
        "iq3_xxs": 13.33, "q2_k": 12.82, "iq2_m": 11.79, "iq2_s": 10.89, "iq2_xs": 10.30, "iq2_xxs": 9.30, "iq1_m": 8.17, "iq1_s": 7.49}),
    "mistral-large-2411": (0.0003, {
        "q8_0": 130.28, "q6_k": 100.59, "q5_k_m": 86.49, "q5_k_s": 84.36, "q4_1": 76.72, "q4_k_m": 73.22, "q4_k_s": 69.57,
        "iq4_nl": 69.22, "iq4_xs": 65.43, "q3_k_l": 64.55, "q3_k_m": 59.10, "iq3_m": 55.28, "q3_k_s": 52.85, "iq3_xs": 50.14,
        "iq3_xxs": 47.01, "q2_k": 45.20, "iq2_m": 41.62, "iq2_s": 38.38, "iq2_xs": 36.08, "iq2_xxs": 32.43, "iq1_m": 28.39, "iq1_s": 25.96}),
    "codestral-22b": (0.001, {"q6_k": 18.25, "q5_k_m": 15.72, "q4_k_m": 13.34, "q4_k_s": 12.66, "iq4_xs": 11.93, "q3_k_m": 10.75, "iq3_m": 10.06}),
    "llama-3.1-70b": (0.0005, {"q8_0": 74.98, "q6_k": 57.89, "q5_k_m": 49.95, "q4_k_m": 42.52, "q4_k_s": 40.35, "iq4_xs": 37.90, "q3_k_l": 37.14, "iq3_m": 31.94, "q3_k_s": 30.91}),
    "ministral-8b": (0.005, {"q6_k": 6.59, "q5_k_m": 5.72, "q4_k_m": 4.91, "iq4_xs": 4.45, "q3_k_m": 4.02, "iq3_m": 3.79, "iq2_m": 2.96}),
    "gpt-oss-20b": (0.01, {"mxfp4_moe": 12.10, "q6_k": 12.04, "q5_k_m": 11.73, "q4_k_m": 11.67, "q4_0": 11.52, "iq4_xs": 11.56, "q2_k": 11.56}),
}  # fmt: skip


@pytest.mark.parametrize(("model", "kind"), [(model, kind) for model, (_, sizes) in CARDS.items() for kind in sizes])
def test_a_gguf_type_takes_what_the_publisher_card_says_to_its_last_digit_or_the_vocabulary(
    model: str, kind: str
) -> None:
    within, sizes = CARDS[model]
    found = estimate(model_spec(model), Request(128, dtype=kind))
    assert found.weight_bytes / 1e9 == pytest.approx(sizes[kind], rel=within, abs=0.006)


def test_a_block_in_a_list_of_compressed_tensors_is_that_module_and_not_its_matrices() -> None:
    """Qwen3.6-27B in 4 bit by llm-compressor, whose list names each `linear_attn` beside two of its small matrices.

    The file is 18,698,467,264 B by its Git LFS pointer (GitHub fantasylord/Qwen36, 8a77d82), with a header of some 0.3 MB.
    """
    spared = ["", ".norm", ".in_proj_b", ".in_proj_a"]
    ignore = ["re:model[.]visual.*", "lm_head", "mtp.fc"]
    ignore += [f"model.language_model.layers.{n}.linear_attn{leaf}" for n in range(64) if n % 4 != 3 for leaf in spared]
    weights = {"num_bits": 4, "group_size": 128, "strategy": "group", "symmetric": False, "type": "int"}
    group = {"format": "pack-quantized", "targets": ["Linear"], "weights": weights}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": group},
    }
    config = {**find_model("qwen3.6-27b").config, "quantization_config": {**quantization, "ignore": ignore}}
    found = estimate(read_config(config), Request(128))
    assert 0 < 18_698_467_264 - found.weight_bytes < 500_000
    assert found.exactness["weight_bytes"] == "exact"
