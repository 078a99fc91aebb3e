"""Layouts and formats that are tried."""

from __future__ import annotations

import pytest

from planner.deployment.choices import heads_divide, kv_dtypes, layouts, shares_memory, weight_dtypes
from planner.lookup import device, model_spec
from planner.memory.sharding import Sharding

NAMES = ("gpt2", "llama-3.1-70b", "deepseek-v3", "gemma-3-27b", "gpt-oss-20b", "falcon-7b", "mamba-2.8b", "qwen3-32b")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["h100-sxm", "rtx-4090", "apple-m4-max", "l4"])
def test_every_layout_is_one_that_the_sharding_rules_permit(name: str, place: str) -> None:
    spec = model_spec(name)
    found = list(layouts(spec, device(place)))
    assert found[0] == Sharding() and len(found) == len(set(found))
    for layout in found:
        layout.check(spec)
        assert heads_divide(spec, layout.tp)
        assert layout.devices <= 8 or (layout.tp == 8 and layout.devices % 8 == 0)


def test_a_device_that_shares_the_hosts_memory_stands_alone() -> None:
    for name in ("apple-m3-pro", "jetson-agx-orin-64gb"):
        assert shares_memory(device(name)) and list(layouts(model_spec("llama-3.1-8b"), device(name))) == [Sharding()]


def test_latent_attention_is_tried_in_dp_with_experts_over_all_ranks() -> None:
    assert Sharding(dp=8, ep=8) in list(layouts(model_spec("deepseek-v3"), device("h200")))
    assert not any(layout.dp > 1 for layout in layouts(model_spec("llama-3.1-70b"), device("h200")))


def test_stages_inside_a_node_are_for_devices_without_a_link() -> None:
    inside = [layout for layout in layouts(model_spec("llama-3.1-8b"), device("rtx-4090")) if layout.pp > 1]
    assert Sharding(tp=1, pp=2) in inside
    linked = layouts(model_spec("llama-3.1-8b"), device("h100-sxm"))
    assert all(layout.tp == 8 for layout in linked if layout.pp > 1)


def test_heads_that_do_not_divide_are_not_split() -> None:
    assert not heads_divide(model_spec("falcon-7b"), 8)  # 71 heads
    assert heads_divide(model_spec("falcon-7b"), 1)
    assert not heads_divide(model_spec("gpt2"), 8)


@pytest.mark.parametrize(
    ("name", "place", "engine", "wanted"),
    [
        ("llama-3.1-8b", "a100-sxm4-80gb", None, (None, "int8", "awq")),
        ("llama-3.1-8b", "b200", None, (None, "fp8", "awq", "nvfp4")),
        ("llama-3.1-8b", "l4", "llamacpp", (None, "q8_0", "q4_k_m")),
        ("deepseek-v3", "apple-m3-ultra", None, ("q8_0", "q4_k_m")),
        ("gpt-oss-20b", "h100-sxm", None, (None,)),  # published in mxfp4
    ],
)
def test_formats_are_those_that_shrink_the_model_and_the_device_runs(
    name: str, place: str, engine: str | None, wanted: tuple[str | None, ...]
) -> None:
    assert weight_dtypes(model_spec(name), device(place), engine) == wanted


def test_cache_formats_follow_device_and_engine() -> None:
    assert kv_dtypes(device("h100-sxm"), "transformers") == (None,)
    assert kv_dtypes(device("h100-sxm"), "llamacpp") == (None, "q8_0")
    assert kv_dtypes(device("a100-sxm4-80gb"), "vllm") == (None,)
