"""Drafters in an engine's terms: their layers in the pool, their weights beside it, and who runs them at all."""

from __future__ import annotations

from typing import Any

import pytest

from planner.catalogue.entries import find_device, find_model
from planner.engines.base import Options
from planner.engines.registry import answer_of
from planner.errors import BadRequest
from planner.extras.shared_device import Drafter, Extras, draft_model, eagle_head, mtp_head
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request, device_capacity
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.units import GIB, MIB


def spec(name: str) -> ModelSpec:
    return read_entry(find_model(name))


def asked(model: ModelSpec, drafter: Drafter | None = None, seq: int = 8192, **ranks: int) -> Estimate:
    extras = Extras((), drafter) if drafter is not None else None
    request = Request(seq, sharding=Sharding(**ranks), extras=extras)
    return estimate(model, request, device_capacity(find_device("h100")))


def answered(engine: str, version: str | None, found: Estimate, **options: Any) -> dict[str, Any]:
    return answer_of(engine, version, found, options=Options(**options)).to_dict()


def test_an_eagle_head_is_a_layer_more_in_vllms_pool() -> None:
    """vllm-project/vllm issue 19996: 51.63 GiB printed 410,128 tokens of Llama 3.1 8B with EAGLE, 33 layers, not 32."""
    llama = spec("llama-3.1-8b")
    found = answered("vllm", "0.9.1", asked(llama, eagle_head(llama, "eagle")), pool_bytes=int(51.63 * GIB))
    assert found["block_bytes"] == 33 * 16 * 4096
    assert found["printed_tokens"] == pytest.approx(410_128, rel=0.0002)


def test_a_draft_models_own_layers_share_the_blocks() -> None:
    """Llama 3.2 1B under Llama 3.3 70B: 80 layers of 4,096 B a token and 16 of 2,048, in the first engine as in V1."""
    found = asked(spec("llama-3.3-70b"), draft_model(spec("llama-3.3-70b"), spec("llama-3.2-1b")))
    for engine, version in (("vllm", "0.20"), ("vllm-v0", "0.8.5")):
        assert answered(engine, version, found, pool_bytes=GIB)["block_bytes"] == 16 * (80 * 4096 + 16 * 2048)


def test_a_drafter_leaves_less_for_the_pool_by_its_weights() -> None:
    llama = spec("llama-3.1-8b")
    plain, drafted = asked(llama), asked(llama, eagle_head(llama, "eagle3"))
    less = answered("vllm", "0.24.0", plain)["pool_bytes"] - answered("vllm", "0.24.0", drafted)["pool_bytes"]
    held = eagle_head(llama, "eagle3").weight_bytes(Sharding())[0]
    assert less == held


def test_vllm_runs_draft_models_from_0_15_on_in_v1() -> None:
    """`EngineArgs` of 0.9 to 0.14 raises for them; mtp and EAGLE ran."""
    found = asked(spec("llama-3.3-70b"), draft_model(spec("llama-3.3-70b"), spec("llama-3.2-1b")))
    with pytest.raises(BadRequest, match="runs no draft model"):
        answered("vllm", "0.14.1", found)
    assert answered("vllm", "0.15.0", found, pool_bytes=GIB)["refusal"]


def test_sglang_counts_a_draft_in_each_tokens_bytes_from_0_5_15() -> None:
    """Cell + int(cell / layers) an EAGLE layer (`pool_configurator.py`); before, it came on top, in the share left."""
    llama = spec("llama-3.1-8b")
    found = asked(llama, eagle_head(llama, "eagle"))
    new, old = (answered("sglang", version, found, pool_bytes=10 * GIB) for version in ("0.5.23", "0.5.8"))
    assert (new["cell_bytes"], old["cell_bytes"]) == (33 * 4096, 32 * 4096)
    weights = eagle_head(llama, "eagle").weight_bytes(Sharding())[0]
    assert old["drafter_beside_bytes"] == weights + 4096 * old["pool_tokens"]
    assert new["drafter_beside_bytes"] is None


def test_sglangs_default_share_is_smaller_with_a_drafter_before_0_5_15() -> None:
    """2 GiB for EAGLE, 4 from 0.5.10, 6 for a draft model (`ServerArgs._handle_gpu_memory_settings`)."""
    llama = spec("llama-3.1-8b")
    plain = answered("sglang", "0.5.8", asked(llama))["fraction"]
    card = device_capacity(find_device("h100")).bytes // MIB
    for version, drafter, less in (
        ("0.5.8", eagle_head(llama, "eagle"), 2048),
        ("0.5.10", eagle_head(llama, "eagle"), 4096),
        ("0.5.8", draft_model(llama, spec("llama-3.2-1b")), 6144),
    ):
        assert plain - answered("sglang", version, asked(llama, drafter))["fraction"] == pytest.approx(
            less / card, abs=0.002
        )


def test_llama_cpps_drafter_has_a_cache_of_its_own_in_f16() -> None:
    """ggml-org/llama.cpp issue 12436: -c 32768 -ctk q8_0 -ctv q8_0 -md Qwen2.5-0.5B: 24 layers x 2 heads x 64 x 2 x 2 B a token."""
    qwq = spec("qwq-32b")
    request = Request(32768, k_dtype="q8_0", v_dtype="q8_0", extras=Extras((), draft_model(qwq, spec("qwen2.5-0.5b"))))
    found = answered("llamacpp", "b4906", estimate(qwq, request, None), ctx_size=32768, flash_attn=True)
    assert found["draft_cache_bytes"] == 384 * MIB and found["kv_bytes"] == 4352 * MIB
    assert found["pool_bytes"] == 4736 * MIB


def test_mtp_layers_add_states_in_hybrids() -> None:
    """Qwen3.5 with 3 drafts: columns of the convolution and held states grow, as with --num-speculative-tokens 3."""
    model = spec("qwen3.5-27b")
    by_drafter = answered("vllm", "0.24.0", asked(model, mtp_head(model, 3)), pool_bytes=10 * GIB)
    by_flag = answered("vllm", "0.24.0", asked(model), pool_bytes=10 * GIB, num_speculative_tokens=3)
    keys = ("block_tokens", "page_bytes", "pool_blocks", "request_bytes")
    assert [by_drafter[key] for key in keys] == [by_flag[key] for key in keys]
