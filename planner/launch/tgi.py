"""text-generation-launcher: not one of our engines; what its flags are called elsewhere."""

from __future__ import annotations

# its flag -> vLLM's
VLLM_NAMES = {
    "--model-id": "the model, after `vllm serve`",
    "--num-shard": "--tensor-parallel-size",
    "--quantize": "--quantization",
    "--dtype": "--dtype",
    "--kv-cache-dtype": "--kv-cache-dtype",
    "--max-total-tokens": "--max-model-len",
    "--max-batch-prefill-tokens": "--max-num-batched-tokens",
    "--max-batch-size": "--max-num-seqs",
    "--cuda-memory-fraction": "--gpu-memory-utilization",
    "--speculate": "--speculative-config",
    "--lora-adapters": "--lora-modules",
}
