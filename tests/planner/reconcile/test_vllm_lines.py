"""Lines of vLLM that came with 2025 and 2026, and those of trainers around it."""

from __future__ import annotations

from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.runs import ledger_of
from planner.units import GIB


def one(*lines: str) -> Ledger:
    (run,) = engines_of(Log().read(lines))
    return ledger_of(run, Given())


START = "(EngineCore pid=1) INFO [core.py:107] Initializing a V1 LLM engine (v0.26.0) with config: model='Qwen/Qwen3-8B', dtype=torch.bfloat16,"


def test_the_usage_line_gives_budget_activation_and_non_torch_memory() -> None:
    """67.43 - 16.92 - 5.66 - 0.13 - 43.40 leaves the 1.32 GiB estimated for CUDA graphs (vLLM issue 50722)."""
    found = one(
        START,
        "INFO [gpu_model_runner.py:6003] Estimated CUDA graph memory: 1.32 GiB total",
        "INFO [gpu_worker.py:440] Available KV cache memory: 43.40 GiB",
        "INFO [gpu_worker.py:857] Free memory on device (77.78/79.33 GiB) on startup. Desired GPU memory utilization is "
        "(0.85, 67.43 GiB). Actual usage is 16.92 GiB for weight, 5.66 GiB for peak activation, 0.13 GiB for non-torch "
        "memory, and 1.34 GiB for CUDAGraph memory.",
    )
    logged = {entry.name: entry.logged for entry in found.entries}
    assert logged["activation peak"] == int(5.66 * GIB)
    assert logged["CUDA graphs, estimated in the budget"] == int(1.32 * GIB)
    assert found.closes


def test_weights_and_non_torch_memory_may_come_together() -> None:
    """28.88 - 15.03 - 1.59 = 12.26: no estimate of graphs in this budget (club-3090 issue 1087)."""
    found = one(
        START,
        "INFO [gpu_model_runner.py:5405] Model loading took 14.28 GiB memory and 6.3 seconds",
        "INFO [gpu_worker.py:440] Available KV cache memory: 12.26 GiB",
        "INFO [gpu_worker.py:726] Estimated CUDA graph memory: 0.13 GiB total",
        "INFO [gpu_worker.py:789] Free memory on device (30.27/31.4 GiB) on startup. Desired GPU memory utilization is "
        "(0.92, 28.88 GiB). Actual usage is 15.03 GiB for consumed memory (weights + non-torch), 1.59 GiB for peak "
        "activation, and 0.09 GiB for CUDAGraph memory.",
    )
    logged = {entry.name: entry.logged for entry in found.entries}
    assert logged["non-torch memory"] == int(15.03 * GIB) - int(14.28 * GIB)
    assert "CUDA graphs, estimated in the budget" not in logged
    assert found.closes


def test_a_trainers_sequences_are_read() -> None:
    """Unsloth prints them itself: the activation peak of 0.88 GiB is that of 160 sequences."""
    found = one(
        "Unsloth: Using conservativeness = 1.0. Chunked prefill tokens = 2048. Num Sequences = 160.",
        "INFO [llm_engine.py:240] Initializing a V0 LLM engine (v0.8.5.post1) with config: model='unsloth/Qwen3-4B-Base', "
        "dtype=torch.float16, max_seq_len=2048, quantization=None",
        "INFO [worker.py:287] the current vLLM instance can use total_gpu_memory (14.74GiB) x gpu_memory_utilization "
        "(0.69) = 10.22GiB",
        "INFO [worker.py:287] model weights take 7.63GiB; non_torch_memory takes 0.03GiB; PyTorch activation peak memory "
        "takes 0.88GiB; the rest of the memory reserved for KV Cache is 1.68GiB.",
        "INFO [executor_base.py:112] # cuda blocks: 764, # CPU blocks: 0",
    )
    peak = next(entry for entry in found.entries if entry.name == "activation peak")
    assert peak.predicted is not None
    assert abs(peak.predicted.bytes / GIB - 0.88) < 0.01
    assert found.closes


def test_a_pool_that_was_set_by_hand_is_cut_from_no_budget() -> None:
    """VLLM_CPU_KVCACHE_SPACE and --kv-cache-memory-bytes: the pool is no prediction, and no share of the memory is missing."""
    lines = [
        "INFO 11-30 07:54:07 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='smollm2-135m', dtype=torch.bfloat16, max_seq_len=2048",
        "INFO 11-30 07:54:22 [cpu_worker.py:260] Explicitly set (1.0/23.54) GiB for KV cache on node 0.",
        "INFO 11-30 07:54:22 [kv_cache_utils.py:2327] CPU KV cache size: 46,592 tokens",
    ]
    made = one(*lines)
    assert made.logged_bytes("KV cache pool") == 1 << 30
    assert [entry.name for entry in made.entries if entry.predicted is None] == ["KV cache pool"]
    assert "budget (card x utilisation)" not in [entry.name for entry in made.entries]
    assert all(figure.agrees for figure in made.figures) and made.figures
