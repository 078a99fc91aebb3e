"""The longest sequence of a config with its own RoPE scaling, as vLLM derives it."""

from __future__ import annotations

import pytest

from planner.lookup import model_spec
from planner.readers.positions import longest_tokens

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("scaling", "stated", "longest"),
    [
        ({"type": "linear", "factor": 4.0}, 4096, 16384),  # vicuna-13b-v1.5-16k
        ({"type": "dynamic", "factor": 2.0}, 32768, 65536),  # internlm2
        ({"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}, 163840, 163840),  # DeepSeek-V3
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 32768, 131072),  # Qwen2.5
        (LLAMA3, 131072, 131072),
        ({"type": "longrope"}, 131072, 131072),  # Phi-3.5
        ({"rope_type": "default"}, 32768, 32768),
        ({"full_attention": {"rope_type": "linear", "factor": 8.0}}, 1024, 8192),
    ],
)
def test_a_scaling_counts_as_vllm_counts_it(scaling: dict[str, object], stated: int, longest: int) -> None:
    """Source: vLLM 0.20 `_get_and_verify_max_len` and the published configs."""
    assert longest_tokens({"rope_scaling": scaling}, stated, "llama") == longest
    assert longest_tokens({"rope_parameters": scaling}, stated, "llama") == longest


def test_gemma_3_states_the_scaled_number() -> None:
    assert longest_tokens({"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 131072, "gemma3_text") == 131072


@pytest.mark.parametrize("factor", ["x", None, True, -3, 0, 1e99, float("nan"), [4]])
def test_a_factor_that_is_none_changes_nothing(factor: object) -> None:
    assert longest_tokens({"rope_scaling": {"type": "linear", "factor": factor}}, 4096, "llama") == 4096


def test_a_published_model_with_its_own_scaling() -> None:
    assert model_spec("vicuna-13b-v1.5-16k").max_positions == 16384
