"""TensorRT-LLM, LMDeploy and transformers; names of engines; start commands."""

from __future__ import annotations

import shlex
from fractions import Fraction
from typing import Any

import pytest

from planner.catalogue.entries import find_model
from planner.engines.base import EngineAnswer, Options
from planner.engines.emit import command
from planner.engines.fractions_of_free import lmdeploy, runtime_bytes
from planner.engines.registry import ENGINES, answer_of, parse_engine
from planner.errors import UnknownName, UnsupportedModel, UsageError
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.readers import read_entry
from planner.units import GIB


def asked(name: str, seq: int = 1024, kv: str | None = None, tp: int = 1, batch: int = 1, gib: int = 0) -> Estimate:
    capacity = Capacity("card", gib * GIB) if gib else None
    request = Request(seq, batch, k_dtype=kv, v_dtype=kv, sharding=Sharding(tp=tp))
    return estimate(read_entry(find_model(name)), request, capacity)


def of(engine: str, found: Estimate, version: str | None = None, **options: Any) -> EngineAnswer:
    return answer_of(engine, version, found, options=Options(**options))


def test_tensorrt_llm_rounds_blocks_up() -> None:
    """0.9 · 21.89 GiB / 32 MiB = 630.4: 631 blocks of 64 tokens in 0.13 (TensorRT-LLM issue 2268)."""
    pool = int(21.89 * 0.9 * GIB)
    found = of("tensorrt-llm", asked("llama-2-7b"), "0.13.0", pool_bytes=pool).to_dict()
    assert (found["pool_blocks"], found["block_tokens"]) == (631, 64)
    assert of("tensorrt-llm", asked("llama-2-7b"), "0.20.0", pool_bytes=pool).block_tokens == 32


def test_tensorrt_llm_counts_layers_with_attention_alone() -> None:
    """Nemotron Super 49B: 49 of 80 layers; 26.2 GiB are 4381 blocks of 32 (log of 0.20)."""
    found = of("tensorrt-llm", asked("llama-3.3-nemotron-super-49b"), "0.20.0", pool_bytes=int(26.2 * GIB)).to_dict()
    assert abs(found["pool_blocks"] - 4381) <= 1


def test_lmdeploy_blocks_of_64_tokens() -> None:
    """9.000 MB a block of 64 tokens of 147,456 B (log): Qwen3-8B."""
    found = of("lmdeploy", asked("qwen3-8b"), pool_bytes=GIB)
    assert found.lines[0].endswith("block_size = 9.000 MB")
    assert found.to_dict()["pool_blocks"] == GIB // (9 << 20)


def test_transformers_keeps_window_minus_one_and_static_all() -> None:
    mistral = asked("mistral-7b-v0.1", 8192)
    assert of("transformers", mistral).request_bytes == 4095 * 131072
    assert of("transformers", mistral, cache_implementation="static").request_bytes == 4096 * 131072
    llama = asked("llama-3.1-8b", 1000)
    assert of("transformers", llama, cache_implementation="static", max_model_len=4096).request_bytes == 4096 * 131072
    assert of("transformers", llama, cache_implementation="quantized").request_bytes < 1000 * 131072 // 2
    assert of("transformers", llama).to_dict()["pool_bytes"] is None


def test_models_that_an_engine_cannot_hold_are_refused_in_words() -> None:
    for engine in ("tensorrt-llm", "lmdeploy"):
        with pytest.raises(UnsupportedModel, match="not modelled"):
            of(engine, asked("mamba-2.8b"), pool_bytes=GIB)


@pytest.mark.parametrize("text", ["vlm", "vllm==", "vllm==latest", "", "==1", "vllm==\x1b[31m"])
def test_engines_that_are_not_known_are_refused(text: str) -> None:
    with pytest.raises(UnknownName):
        parse_engine(text)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_answers_and_its_json_keeps_its_keys(engine: str) -> None:
    found = of(engine, asked("llama-3.1-8b", gib=80)).to_dict()
    keys = {"name", "version", "pool_bytes", "pool_tokens", "pool_blocks", "block_tokens", "printed_tokens",
            "max_concurrency", "request_bytes", "compute_buffer_bytes", "activation_bytes", "overhead_bytes"}  # fmt: skip
    assert keys <= set(found)
    for key in ("pool_bytes", "pool_tokens", "compute_buffer_bytes", "activation_bytes", "overhead_bytes"):
        low, middle, high = found[f"{key}_low"], found[key], found[f"{key}_high"]
        assert (low is None) == (middle is None) == (high is None)
        assert middle is None or low <= middle <= high


STARTS = {
    "vllm": ["vllm", "serve", "--tensor-parallel-size", "2", "--kv-cache-dtype", "fp8"],
    "sglang": ["sglang.launch_server", "--tp", "2", "--kv-cache-dtype", "fp8_e4m3", "--mem-fraction-static"],
    "tensorrt-llm": ["trtllm-serve", "--tp_size", "2", "--kv_cache_free_gpu_memory_fraction"],
    "lmdeploy": ["lmdeploy", "serve", "--tp", "2", "--cache-max-entry-count"],
}


@pytest.mark.parametrize("engine", STARTS)
def test_start_commands_carry_the_flags_of_the_answer(engine: str) -> None:
    found = asked("llama-3.1-8b", kv="fp8", tp=2, gib=80)
    words = shlex.split(command(of(engine, found), found, Options()))
    assert [word for word in STARTS[engine] if word not in words] == []


def test_llama_servers_start_with_all_slots_in_the_context() -> None:
    found = asked("llama-3.1-8b", 8192, kv="q8_0", batch=4)
    words = shlex.split(command(of("llamacpp", found), found, Options()))
    assert words[:2] == ["llama-server", "--model"]
    assert words[words.index("--ctx-size") + 1] == "32768"
    assert words[words.index("--cache-type-k") + 1] == "q8_0"
    ollama = command(of("ollama", found), found, Options())
    assert "OLLAMA_CONTEXT_LENGTH=8192 OLLAMA_NUM_PARALLEL=4" in ollama
    assert "OLLAMA_KV_CACHE_TYPE=q8_0" in ollama


def test_transformers_has_no_start_command() -> None:
    found = asked("llama-3.1-8b")
    with pytest.raises(UsageError, match="leave --emit out"):
        command(of("transformers", found), found, Options())


def test_lmdeploys_pytorch_engine_sets_a_step_aside_first() -> None:
    """Llama-3.1-8B on an L4: (22.16 - weights - 0.625 GiB - (8192 + 2 * 128) * 128,256 * 2 B) * 0.8 in blocks of 64 tokens of 128 KiB."""
    spec = read_entry(find_model("llama-3.1-8b"))
    card = int(22.16 * GIB)
    found = estimate(spec, Request(8192), Capacity("L4", card))
    answer = lmdeploy(found, Options(), None, "pytorch")
    assert (
        answer.activation is not None
        and answer.activation.bytes == runtime_bytes(8192, 128, 128_256) == 8448 * 128_256 * 2
    )
    weights = found.per_device.weight_bytes
    left = int((card - weights - 640 * 2**20 - answer.activation.bytes) * Fraction(8, 10))
    assert answer.to_dict()["pool_blocks"] == pytest.approx(left // (64 * 131_072), abs=2)
    more = lmdeploy(estimate(spec, Request(8192), Capacity("H100", 80 * GIB)), Options(), None, "pytorch")
    assert more.activation is not None and more.activation.bytes == runtime_bytes(8192, 1024, 128_256)


def test_a_card_with_little_left_halves_its_prefill_tokens() -> None:
    """As the engine warns: No enough memory. Update max_prefill_token_num."""
    found = estimate(read_entry(find_model("llama-3.1-8b")), Request(512), Capacity("small", int(17.2 * GIB)))
    answer = lmdeploy(found, Options(), None, "pytorch")
    assert answer.activation is not None and answer.activation.bytes == runtime_bytes(4096, 128, 128_256)
