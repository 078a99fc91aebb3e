"""llama.cpp's logs with lines missing: a part of the cache is never taken for the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.lookup import model_spec
from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.runs import ledger_of

LOGS = Path(__file__).parents[2] / "cases" / "logs"


def without(name: str, *words: str) -> Ledger:
    """The ledger of a log without the lines that hold one of these words."""
    lines = [line for line in (LOGS / name).read_text().splitlines() if not any(word in line for word in words)]
    (run,) = engines_of(Log().read(lines))
    return ledger_of(run, Given())


@pytest.mark.parametrize("lost", ["size =   18.00 MiB", "size = 3072.00 MiB"])
def test_one_of_two_caches_closes_nothing(lost: str) -> None:
    """gpt-oss-20b: 3072 MiB of full layers and 18 of windows."""
    whole = without("llama-cpp.log")
    assert whole.closes
    half = without("llama-cpp.log", f": {lost}", "n_ctx ")
    assert half.closes is None
    assert any("one of the two caches" in line for line in half.missing)


def test_buffers_of_devices_alone_are_held_against_the_prediction() -> None:
    """Without the line that says q8_0 the cache is taken for f16, and the ledger says by how much it is off."""
    found = without("ik-llama-cpp.log", "self size")
    assert found.closes is False
    assert found.unexplained is not None and found.unexplained < -(1 << 30)


def test_a_drafting_context_is_beside_the_models_own_cache() -> None:
    """Lines of a Qwen3.8-27B with MTP on Vulkan, four slots and two drafts, as published in a fixture on GitHub (2026-09)."""
    lines = """
0.06.588 I llama_context: n_seq_max     = 4
0.06.588 I llama_context: n_ctx         = 8192
0.06.588 I llama_context: kv_unified    = true
0.06.599 I llama_kv_cache:    Vulkan0 KV buffer size =   512.00 MiB
0.06.683 I llama_memory_recurrent:    Vulkan0 RS buffer size =  1795.50 MiB
0.06.683 I llama_memory_recurrent: size = 1795.50 MiB (     4 cells,  64 layers,  4 seqs  2 rs_seq), R (f32):   67.50 MiB, S (f32): 1728.00 MiB
0.06.767 I sched_reserve:    Vulkan0 compute buffer size =   568.53 MiB
0.06.852 I srv    load_model: creating MTP draft context against the target model 'qwen3.8-27b-ud-q4km.gguf'
0.06.857 I llama_kv_cache:    Vulkan0 KV buffer size =    32.00 MiB
""".splitlines()
    (run,) = engines_of(Log().read(lines))
    found = ledger_of(run, Given(spec=model_spec("qwen3.8-27b")))
    sizes = {entry.name: entry.logged for entry in found.entries}
    assert found.closes and sizes["KV cache"] == 512 << 20 and sizes["KV cache of the drafter (MTP)"] == 32 << 20
    state = next(entry for entry in found.entries if entry.name == "recurrent state")
    assert state.predicted is not None and state.logged == state.predicted.bytes


def test_cards_of_another_machine_count() -> None:
    """Lines of a Qwen3.8-27B over two cards and one of another machine; the free memory of that one is no number of MiB."""
    lines = """
load_tensors: RPC0[192.168.1.60:50052] model buffer size =  6011.49 MiB
load_tensors:      Vulkan0 model buffer size =  4615.84 MiB
llama_kv_cache: RPC0[192.168.1.60:50052] KV buffer size =  2304.00 MiB
llama_kv_cache:    Vulkan0 KV buffer size =  1380.00 MiB
common_memory_breakdown_print: |   - RPC0 (192.168.1.60:50052) | 10267 = 17592186044402 + (8569 =  6011 +    2537 +      19) +        1711 |
""".splitlines()
    (run,) = engines_of(Log().read(lines))
    sizes = {entry.name: entry.logged for entry in ledger_of(run, Given()).entries}
    assert sizes["weights on RPC0"] == int(6011.49 * 2**20) and sizes["KV cache"] == 3684 << 20
    assert sizes["cache on RPC0 (192.168.1.60:50052) at the end"] == 2537 << 20
