"""What shares the devices is counted: in the sum, in the sequences, and on the right stage."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engines.base import Options
from planner.engines.device_memory import weights_loaded
from planner.engines.registry import answer_of
from planner.errors import BadRequest
from planner.extras.lora import Lora, adapter_parameters
from planner.extras.shared_device import Extras, Other, draft_model, eagle_head, extras_dict, mtp_head, split_pool
from planner.lookup import capacity, model_spec
from planner.memory.estimate import estimate
from planner.memory.limits import longest_context, most_sequences, pool_bytes
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.units import GIB

LLAMA, SMALL, QWEN = model_spec("llama-3.1-8b"), model_spec("llama-3.2-1b"), model_spec("qwen2.5-0.5b")
ROOM = capacity("rtx-4090", None)
assert ROOM is not None


def test_adapters_lie_on_the_device_in_the_models_float_type() -> None:
    lora = Lora(8, 16)
    device = estimate(LLAMA, Request(8192, extras=Extras((lora,))), ROOM).per_device
    assert device.extra_bytes == 8 * 2 * adapter_parameters(LLAMA, lora)


def test_a_fit_without_residents_is_what_it_was() -> None:
    plain, empty = (estimate(LLAMA, Request(8192, extras=r), ROOM).per_device for r in (None, Extras()))
    assert plain.total_bytes == empty.total_bytes and plain.total_range == empty.total_range


@pytest.mark.parametrize(
    "extras",
    [
        Extras((Lora(8, 64),)),
        Extras(drafter=draft_model(LLAMA, SMALL)),
        Extras(others=(Other(QWEN, 4096, 8),)),
        Extras(idle_sessions=3),
    ],
    ids=["lora", "drafter", "also", "idle"],
)
def test_each_takes_sequences_away_and_the_last_that_fits_fits(extras: Extras) -> None:
    request = Request(8192, extras=extras)
    most = most_sequences(LLAMA, request, ROOM)
    assert most < most_sequences(LLAMA, Request(8192), ROOM)
    assert longest_context(LLAMA, request, ROOM) < longest_context(LLAMA, Request(8192), ROOM)
    assert estimate(LLAMA, replace(request, batch=most), ROOM).fits
    assert not estimate(LLAMA, replace(request, batch=most + 1), ROOM).fits


def test_adapters_of_a_pipeline_lie_with_the_layers_they_are_on() -> None:
    request = Request(1024, sharding=Sharding(pp=4), extras=Extras((Lora(4, 16),)))
    stages = estimate(LLAMA, request).stages
    assert sum(stage.extra_bytes for stage in stages) == 4 * 2 * adapter_parameters(LLAMA, Lora(4, 16))
    assert all(stage.extra_bytes > 0 for stage in stages)


def test_an_encoders_adapters_count_once() -> None:
    spec = model_spec("t5-base")
    request = Request(512, extras=Extras((Lora(1, 8, ("q", "v")),)))
    device = estimate(spec, request).per_device
    assert adapter_parameters(spec, Lora(1, 8, ("q", "v"))) == (12 + 2 * 12) * 2 * 8 * (768 + 768)
    assert device.extra_bytes == estimate(spec, request).fmt.model_dtype_bytes * 884_736


# -- drafters --------------------------------------------------------------------------------------------


def test_a_draft_model_brings_its_weights_and_a_cache_for_every_sequence() -> None:
    """Llama-3.2-1B: 1,235,814,400 parameters, 16 layers of 8 KV heads of 64 in bf16 = 32 KiB a token."""
    request = Request(8192, batch=3, extras=Extras(drafter=draft_model(LLAMA, SMALL, 4)))
    device = estimate(LLAMA, request, ROOM).per_device
    assert device.extra_bytes == 2 * 1_235_814_400
    own = 32 * 1024 * (8192 + 4)
    slots = 128 * 1024 * 4  # the target's four tokens of a step
    assert device.extra_cache_bytes == 3 * (own + slots)


def test_a_drafters_cache_follows_the_asked_kv_dtype() -> None:
    drafter = draft_model(LLAMA, SMALL, 4)
    answers = [estimate(LLAMA, Request(8192, k_dtype=d, v_dtype=d, extras=Extras(drafter=drafter))) for d in ("bf16", "fp8")]  # fmt: skip
    full, half = (answer.per_device.extra_cache_bytes for answer in answers)
    assert full == 2 * half


@pytest.mark.parametrize(
    ("model", "billions"),
    [("llama-2-7b", 0.24), ("llama-2-13b", 0.37), ("llama-2-70b", 0.99), ("llama-3-8b", 0.25), ("llama-3-70b", 0.99), ("qwen2-7b", 0.26)],
)  # fmt: skip
def test_an_eagle_head_has_the_published_number_of_parameters(model: str, billions: float) -> None:
    """The table of github.com/SafeAILab/EAGLE's README, which vLLM's documentation repeats."""
    assert round(eagle_head(model_spec(model), "eagle").parameters / 1e9, 2) == billions


def test_the_published_heads_that_hold_more_lie_in_the_range() -> None:
    """Qwen2-72B: 1.05 B in the same table, 1.01 B by the shape alone."""
    head = eagle_head(model_spec("qwen2-72b"), "eagle")
    _, low, high = head.weight_bytes(Sharding())
    assert low <= 2 * 1.05e9 <= high


def test_an_eagle3_head_weighs_what_its_file_does() -> None:
    """huggingface.co/yuhuili/EAGLE3-LLaMA3.1-Instruct-8B: pytorch_model.bin of 850 MB, fp16, 32,000 draft tokens."""
    assert abs(2 * eagle_head(LLAMA, "eagle3").parameters - 850e6) < 1e6


def test_mtp_layers_leave_the_shared_tables_out_and_keep_a_latent_each() -> None:
    """DeepSeek-V3: 13,463,426,048 parameters on disk, two tables of 129,280 x 7,168 of them shared with the model."""
    spec = model_spec("deepseek-v3")
    drafter = mtp_head(spec)
    assert drafter.parameters == 13_463_426_048 - 2 * 129_280 * 7168
    answer = estimate(spec, Request(8192, extras=Extras(drafter=drafter)))
    assert drafter.cache_bytes(answer, 8192) == 8192 * 576 * 2
    assert "multi-token-prediction" not in " ".join(answer.warnings)
    assert "multi-token-prediction" in " ".join(estimate(spec, Request(8192)).warnings)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt2"])
def test_a_model_without_known_mtp_layers_is_refused(model: str) -> None:
    with pytest.raises(BadRequest, match="--drafter mtp"):
        mtp_head(model_spec(model))


def test_deepseek_v4_predicts_with_a_window_alone() -> None:
    """128 tokens of one latent of 512 in bf16, whatever the length."""
    spec = model_spec("deepseek-v4-pro")
    drafter = mtp_head(spec)
    answer = estimate(spec, Request(8192, extras=Extras(drafter=drafter)))
    assert drafter.cache_bytes(answer, 8192) == 128 * 512 * 2
    assert "multi-token-prediction" not in " ".join(answer.warnings)


def test_an_eagle_head_is_shaped_after_a_dense_layer_or_refused() -> None:
    with pytest.raises(BadRequest, match="no dense attention layer"):
        eagle_head(model_spec("mixtral-8x7b"), "eagle")


def test_a_drafter_sits_on_the_last_stage_and_is_split_like_the_target() -> None:
    drafter = draft_model(LLAMA, SMALL)
    stages = estimate(LLAMA, Request(1024, sharding=Sharding(tp=2, pp=2), extras=Extras(drafter=drafter))).stages
    assert [bool(stage.extras) for stage in stages] == [False, True]
    assert 0.45 < stages[1].extra_bytes / (2 * SMALL_PARAMETERS) < 0.55


SMALL_PARAMETERS = 1_235_814_400


def test_recurrent_targets_keep_a_state_for_every_drafted_token() -> None:
    spec = model_spec("qwen3-next-80b-a3b")
    one = estimate(spec, Request(1024, extras=Extras(drafter=mtp_head(spec, 1)))).per_device
    three = estimate(spec, Request(1024, extras=Extras(drafter=mtp_head(spec, 3)))).per_device
    extra = three.extra_cache_bytes - one.extra_cache_bytes
    assert extra >= 2 * one.state_bytes


# -- other models ----------------------------------------------------------------------------------------


def test_another_model_brings_all_that_its_own_process_needs() -> None:
    other = Other(QWEN, 4096, 8)
    alone = estimate(QWEN, Request(4096, batch=8), Capacity("", 0)).per_device
    held = estimate(LLAMA, Request(8192, extras=Extras(others=(other,))), ROOM).per_device
    assert held.extra_bytes == alone.total_bytes


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99))
def test_what_is_left_is_split_as_given(percent: int) -> None:
    request = Request(8192, extras=Extras(others=(Other(QWEN, 4096, 2, Fraction(percent, 100)),)))
    left = pool_bytes(estimate(LLAMA, request, ROOM))
    split = split_pool(LLAMA, request, ROOM)
    found = extras_dict(estimate(LLAMA, split, ROOM))["models"][0]
    assert found["share_bytes"] == left * percent // 100
    assert found["most_sequences"] >= 2
    # what is given away is missing here, with the allocator's 2 %
    missing = left - pool_bytes(estimate(LLAMA, split, ROOM))
    assert 0 <= missing - found["share_bytes"] <= found["share_bytes"] // 50 + 1


def test_shares_of_the_whole_are_refused() -> None:
    others = (Other(QWEN, 1024, 1, Fraction(1, 2)), Other(QWEN, 1024, 1, Fraction(1, 2)))
    with pytest.raises(BadRequest, match="leave nothing"):
        split_pool(LLAMA, Request(1024, extras=Extras(others=others)), ROOM)


# -- engines ---------------------------------------------------------------------------------------------


def test_slots_are_taken_from_an_engines_pool() -> None:
    slots = Extras((Lora(8, 16, slots=True),))
    plain, less = (
        answer_of(
            "vllm", "0.11.2", estimate(LLAMA, Request(8192, extras=r), capacity("h100-sxm", None)), options=Options()
        )
        for r in (None, slots)
    )
    assert plain.ranged is not None and less.ranged is not None
    held = estimate(LLAMA, Request(8192, extras=slots)).per_device.extra_bytes
    assert held == 8 * 2 * (adapter_parameters(LLAMA, Lora(1, 16)) + 2 * 16 * (LLAMA.vocab + LLAMA.hidden))
    assert 0 <= plain.ranged.pool.bytes - less.ranged.pool.bytes - held < held // 10


@pytest.mark.parametrize(
    ("model", "printed_gib", "off_gib"),
    [
        # "Model loading took 13.58 GiB": vLLM 0.14.0, Mistral-7B-Instruct-v0.2, max_loras 1, max_lora_rank 16, L40S
        ("mistral-7b", 13.58, 0.02),
        # "Model loading took 14.43 GiB": vLLM 0.19.1 on ROCm, Qwen2.5-7B-Instruct, enable_lora with its defaults
        ("qwen2.5-7b", 14.43, 0.2),
    ],
)
def test_weights_with_slots_are_what_vllm_prints_after_loading(model: str, printed_gib: float, off_gib: float) -> None:
    slots = Extras((Lora(1, 16, slots=True),))
    found = weights_loaded(estimate(model_spec(model), Request(4096, extras=slots)))
    assert found.low <= printed_gib * GIB <= found.high
    assert abs(found.bytes - printed_gib * GIB) < off_gib * GIB
