"""One request's memory: the parts, what they add up to, and what the answer says of itself."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.readers.by_hand import by_hand

NAMES = [
    "llama-7b",
    "gpt2",
    "gemma-3-27b",
    "deepseek-v3",
    "mamba-2.8b",
    "t5-base",
    "mixtral-8x7b",
    "qwen3-next-80b-a3b",
]
SPECS = {name: model_spec(name) for name in NAMES}
H100 = Capacity("H100", 79 << 30)


@pytest.mark.parametrize(
    ("name", "request_", "kv_bytes"),
    [
        ("llama-7b", Request(8192), 4_294_967_296),  # 4 GiB
        ("llama-7b", Request(1024), 536_870_912),  # 0.54 GB
        ("gpt2", Request(1024, k_dtype="fp32", v_dtype="fp32"), 75_497_472),  # 75.5 MB
        ("gpt3-175b", Request(2048, k_dtype="fp32", v_dtype="fp32"), 19_327_352_832),  # 19.3 GB
        ("mamba-2.8b", Request(10**6), 0),
    ],
)
def test_well_known_figures_come_out(name: str, request_: Request, kv_bytes: int) -> None:
    assert estimate(model_spec(name), request_).kv_bytes == kv_bytes


def test_a_mamba_keeps_its_state_and_nothing_that_grows() -> None:
    answer = estimate(SPECS["mamba-2.8b"], Request(4096))
    assert (answer.kv_bytes, answer.state_bytes, answer.kv_bytes_per_token) == (0, 23_592_960, 0)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@settings(max_examples=15, deadline=None)
@given(tokens=st.integers(1, 10**6), batch=st.integers(1, 10**4))
def test_cache_is_linear_in_the_batch_and_the_next_token_is_the_difference(
    spec: ModelSpec, tokens: int, batch: int
) -> None:
    one, many = (
        estimate(spec, Request(tokens, source_tokens=_source(spec))),
        estimate(spec, Request(tokens, batch, source_tokens=_source(spec))),
    )
    assert (many.kv_bytes, many.state_bytes) == (batch * one.kv_bytes, batch * one.state_bytes)
    longer = estimate(spec, Request(tokens + 1, source_tokens=_source(spec)))
    assert longer.kv_bytes - one.kv_bytes == one.kv_bytes_per_token >= 0


@pytest.mark.parametrize(("name", "cycle", "each"), [("deepseek-v4.1-flash", 2, 3 * 1280 // 2 + 1280)])
@settings(max_examples=20, deadline=None)
@given(tokens=st.integers(128, 10**6))
def test_where_blocks_are_compressed_the_next_token_is_the_mean_of_a_cycle(
    name: str, cycle: int, each: int, tokens: int
) -> None:
    """An entry of 512 + 128 bf16 numbers for two tokens in three layers, for every token in a fourth: never below 0."""
    answer = estimate(model_spec(name), Request(tokens))
    assert (answer.token_cycle, answer.kv_bytes_per_token) == (cycle, each)
    assert estimate(model_spec(name), Request(tokens + cycle)).kv_bytes - answer.kv_bytes == cycle * each


def _source(spec: ModelSpec) -> int | None:
    return 100 if spec.has_cross_attention else None


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@settings(max_examples=15, deadline=None)
@given(
    tokens=st.integers(1, 10**6),
    batch=st.integers(1, 300),
    tp=st.sampled_from([1, 2, 8]),
    pp=st.integers(1, 4),
    dp=st.integers(1, 3),
)
def test_the_parts_of_a_device_add_up_to_its_total(
    spec: ModelSpec, tokens: int, batch: int, tp: int, pp: int, dp: int
) -> None:
    answer = estimate(spec, Request(tokens, batch, sharding=Sharding(tp=tp, pp=pp, dp=dp)), H100)
    found = answer.to_dict()["per_device"]
    names = ("kv_bytes", "state_bytes", "weight_bytes", "activation_bytes", "overhead_bytes")
    assert sum(found[name] for name in names) == found["total_bytes"]
    assert found["capacity_bytes"] - found["total_bytes"] == found["free_bytes"]
    assert found["fits"] is (found["free_bytes"] >= 0)
    assert found["total_bytes_low"] <= found["total_bytes"] <= found["total_bytes_high"]
    assert sum(found["overhead"].values()) == found["overhead_bytes"]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_one_device_holds_the_whole_model(spec: ModelSpec) -> None:
    answer = estimate(spec, Request(1000, 3))
    device = answer.per_device
    assert (device.kv_bytes, device.state_bytes, device.weight_bytes) == (
        answer.kv_bytes,
        answer.state_bytes,
        answer.weight_bytes,
    )


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_answer_is_json_with_whole_numbers(spec: ModelSpec) -> None:
    found = estimate(spec, Request(1000), H100).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["parameters"] == sum(
        size for part, size in found["parameters_by_part"].items() if "not counted" not in part
    )
    for key, value in _numbers(found):
        assert isinstance(value, int), key


def _numbers(found: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            rows += _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)):
            rows.append((prefix + key, value))
    return rows


@pytest.mark.parametrize(
    "request_",
    [
        Request(0), Request(-1), Request(10**10 + 1), Request(1, 0), Request(1, -5), Request(1, 10**9 + 1),
        Request(True),
        Request(1.0), Request("8192"), Request(1, prefill_tokens=0), Request(1, source_tokens=5),
    ],
)  # fmt: skip
def test_a_request_out_of_range_is_refused(request_: Request) -> None:
    with pytest.raises(BadRequest):
        estimate(SPECS["llama-7b"], request_)


def test_fp8_ds_mla_takes_656_bytes_a_token_and_layer_of_deepseek_v3() -> None:
    answer = estimate(SPECS["deepseek-v3"], Request(1000, k_dtype="fp8_ds_mla", v_dtype="fp8_ds_mla"))
    assert answer.kv_bytes == 1000 * 61 * 656


def test_k_and_v_can_be_stored_apart() -> None:
    answer = estimate(SPECS["llama-7b"], Request(1, k_dtype="q8_0", v_dtype="q4_0"))
    assert answer.kv_bytes == 32 * 32 * (136 + 72)
    assert answer.fmt.name == "q8_0/q4_0"


def test_the_float_type_of_the_weights_is_that_of_the_cache_unless_asked() -> None:
    assert estimate(SPECS["llama-7b"], Request(1, dtype="fp32")).fmt.name == "fp32"
    assert estimate(SPECS["llama-7b"], Request(1, dtype="awq")).fmt.name == "fp16"


def test_the_encoders_length_follows_the_decoders_unless_given_or_fixed() -> None:
    t5, whisper = SPECS["t5-base"], model_spec("whisper-large-v3")
    assert estimate(t5, Request(77)).source_tokens == 77
    assert estimate(t5, Request(77, source_tokens=5)).source_tokens == 5
    assert estimate(whisper, Request(77)).source_tokens == 1500
    assert any("--source-tokens" in line for line in estimate(t5, Request(77)).assumptions)


def test_more_tokens_than_positions_are_warned_of() -> None:
    assert any("2,048 positions" in line for line in estimate(SPECS["llama-7b"], Request(8192)).warnings)
    assert not estimate(SPECS["llama-7b"], Request(2048)).warnings


def test_an_overhead_line_is_replaced_by_name_and_others_are_added() -> None:
    answer = estimate(SPECS["llama-7b"], Request(1, overhead_override={"context": 0, "cuda_graphs": 5}))
    lines = {line.name: line.bytes for line in answer.per_device.overhead}
    assert (lines["context"], lines["cuda_graphs"]) == (0, 5) and lines["allocator"] > 0


def test_given_activations_replace_the_estimate() -> None:
    activation = estimate(SPECS["llama-7b"], Request(1, activation_override=7)).per_device.activation
    assert (activation.low, activation.bytes, activation.high) == (7, 7, 7)


def test_a_model_by_hand_without_widths_answers_its_cache_and_no_verdict() -> None:
    spec = by_hand({"layers": 32, "kv_heads": 8, "head_dim": 128})
    answer = estimate(spec, Request(8192))
    assert answer.kv_bytes == 2 * 8192 * 8 * 128 * 2 * 32
    assert answer.to_dict()["weight_bytes"] is None and answer.to_dict()["per_device"]["total_bytes"] is None
    with pytest.raises(BadRequest, match="without its weights"):
        estimate(spec, Request(8192), H100)


@pytest.mark.parametrize("part", ["kv_bytes", "parameters"])
def test_an_unknown_type_taken_as_full_attention_is_called_an_upper_bound(part: str) -> None:
    from planner.readers.huggingface import read_config

    config = {**SPECS["llama-7b"].config, "model_type": "never-heard-of"}
    answer = estimate(read_config(config, assume_full=True), Request(1))
    assert answer.exactness[part] == "upper bound"
    assert any("upper bound" in line for line in answer.warnings)


def test_weights_and_cache_are_exact_and_the_rest_is_estimated() -> None:
    exactness = estimate(SPECS["llama-7b"], Request(1)).exactness
    assert exactness["kv_bytes"] == exactness["weight_bytes"] == exactness["parameters"] == "exact"
    assert exactness["activation_bytes"] == exactness["overhead_bytes"] == "estimated"


def test_a_gguf_mix_is_an_estimate() -> None:
    assert estimate(SPECS["llama-7b"], Request(1, dtype="q4_k_m")).exactness["weight_bytes"] == "estimated"


def test_active_parameters_of_mixtral_count_two_of_eight_experts() -> None:
    answer = estimate(SPECS["mixtral-8x7b"], Request(1))
    assert (answer.parameters, answer.active_parameters) == (46_702_792_704, 12_879_925_248)


@pytest.mark.parametrize("get", [lambda e: e.fits, lambda e: e.free_bytes], ids=["fits", "free_bytes"])
def test_without_a_device_there_is_no_verdict(get: Callable[[Estimate], object]) -> None:
    assert get(estimate(SPECS["gpt2"], Request(1))) is None
