"""--num-gpu-blocks-override: the blocks are those given, and what a server makes of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.catalogue.entries import find_model
from planner.engines import vllm
from planner.engines.base import Options
from planner.engines.emit import command
from planner.launch.read import question_of
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.readers import read_entry
from planner.units import GIB

CARD = Capacity("H100", 79 * GIB)
BLOCK = 16 * 32 * 2 * 8 * 128 * 2  # Llama-3.1-8B: 16 tokens, 32 layers, K and V of 8 heads of 128, 2 B


def asked(capacity: Capacity | None = CARD, name: str = "llama-3.1-8b", **ranks: int) -> Estimate:
    return estimate(read_entry(find_model(name)), Request(8192, sharding=Sharding(**ranks)), capacity)


def answered(blocks: int, version: str = "0.33.0", found: Estimate | None = None, **options: int) -> dict[str, object]:
    own = Options(num_gpu_blocks_override=blocks, max_model_len=8192, **options)  # type: ignore[arg-type]
    return vllm.answer(found or asked(), own, version).to_dict()


def test_the_pool_is_the_blocks_given_whatever_fits() -> None:
    """1,000 blocks of 2 MiB on a card with 50 GiB left, on one that is not named, and with a pool in bytes beside them."""
    for answer in (answered(1000), answered(1000, found=asked(None)), answered(1000, pool_bytes=20 * GIB)):
        assert (answer["pool_blocks"], answer["pool_tokens"], answer["pool_bytes"]) == (1000, 16000, 1000 * BLOCK)
        assert (answer["pool_blocks_low"], answer["pool_blocks_high"]) == (1000, 1000)
        assert answer["max_concurrency"] == 1.95 and answer["refusal"] is None and answer["most_requests"] == 1


def test_the_lines_say_how_many_would_fit() -> None:
    prints = answered(1000)["prints"]
    fits = int(str(vllm.answer(asked(), Options(max_model_len=8192), "0.33.0").to_dict()["pool_blocks"]))
    assert isinstance(prints, list)
    assert prints[1] == f"Overriding num_gpu_blocks={fits} with num_gpu_blocks_override=1000"
    assert prints[2].startswith("GPU KV cache size: 16,000 tokens, ")


@pytest.mark.parametrize(("version", "least"), [("0.33.0", 513), ("0.29.0", 513), ("0.28.0", 512), ("0.20.1", 512)])
def test_too_few_blocks_for_the_longest_request_refuse(version: str, least: int) -> None:
    """8,192 tokens are 512 blocks of 16; from 0.29 one is never handed out. The flag that mends it says how many."""
    assert answered(least, version)["refusal"] is None
    short = answered(least - 1, version)
    assert str(short["refusal"]).startswith("1.00 GiB KV cache is needed for 8192 tokens") and short["fits"] is False
    assert short["mends"] == ["--max-model-len 8176", f"--num-gpu-blocks-override {least}"]


def test_before_0_20_1_the_check_counts_the_memory_and_not_the_blocks() -> None:
    """10 blocks start, and hold no request of 8,192 tokens; much memory given by blocks does not mend too little memory."""
    few = answered(10, "0.20.0")
    assert few["refusal"] is None and few["pool_blocks"] == 10 and few["fits"] is False
    full = asked(Capacity("L4", 18 * GIB))
    assert answered(600, "0.20.0", found=full)["refusal"] is not None
    assert answered(600, "0.20.1", found=full)["refusal"] is None


def test_the_first_engine_counts_them_too() -> None:
    assert answered(512, "0.6.6")["refusal"] is None
    short = answered(511, "0.6.6")
    assert short["pool_blocks"] == 511 and "8,176 tokens" in str(short["refusal"])
    assert short["mends"] == ["--max-model-len 8176", "--num-gpu-blocks-override 512"]


def test_fewer_blocks_than_sequences_refuse_where_states_share_the_pool() -> None:
    found = asked(name="qwen3.5-4b")
    few = answered(100, found=found, max_num_seqs=256)
    assert few["refusal"] == "max_num_seqs (256) exceeds available Mamba cache blocks (100)"
    assert few["mends"] == ["--max-num-seqs 100", "--num-gpu-blocks-override 256", "--enforce-eager"]
    assert answered(256, found=found, max_num_seqs=256)["refusal"] is None


@pytest.mark.parametrize("options", [{"num_gpu_blocks_override": 60_000}, {"pool_bytes": 100 * GIB, "server": True}])
def test_a_cache_that_the_device_does_not_hold_is_out_of_memory(options: dict[str, int]) -> None:
    """117 and 100 GiB of cache beside 15 GiB of weights on 79: nothing was profiled against it, the allocation fails."""
    found = vllm.answer(asked(), Options(max_model_len=8192, **options), "0.33.0")  # type: ignore[arg-type]
    assert found.refusal is not None and found.fits is False
    assert found.refusal.text.endswith("are more than the 79.00 GiB of a device: CUDA out of memory")
    flag, value = found.refusal.mends[0].split()
    smaller = {"--num-gpu-blocks-override": "num_gpu_blocks_override", "--kv-cache-memory-bytes": "pool_bytes"}[flag]
    mended = Options(max_model_len=8192, **{smaller: int(value)})  # type: ignore[arg-type]
    assert vllm.answer(asked(), mended, "0.33.0").refusal is None


@given(st.integers(513, 20_000), st.sampled_from(["0.9.2", "0.19.1", "0.24.0", "0.33.0"]), st.sampled_from([1, 2]))
def test_blocks_given_are_blocks_got(blocks: int, version: str, pp: int) -> None:
    """Each stage of a pipeline makes as many."""
    answer = answered(blocks, version, found=asked(pp=pp))
    assert answer["pool_blocks"] == blocks and answer["pool_bytes"] == blocks * BLOCK // pp


def test_a_pasted_command_and_the_emitted_one_carry_it() -> None:
    question = question_of("vllm serve meta-llama/Llama-3.1-8B --num-gpu-blocks-override 4000".split())
    assert question.options.num_gpu_blocks_override == 4000
    found = asked()
    options = Options(num_gpu_blocks_override=4000, max_model_len=8192)
    assert "--num-gpu-blocks-override 4000" in command(vllm.answer(found, options, None), found, options)
