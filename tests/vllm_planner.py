"""Asks vLLM's own cache planning for layers of any model: run by `tests.record_vllm_plans` in an interpreter that has its sources.

No model is started: `get_kv_cache_configs` is handed the layers' specs, a memory size and the few settings that it reads.
Imports nothing of this project.
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any


class Settings:
    """Attributes as given, None for whatever else a release looks at."""

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def main(questions: list[dict[str, Any]]) -> None:
    """Prints blocks, groups, tokens of a block and concurrency, or the refusal, of each question at each size."""
    import torch
    import vllm.v1.core.kv_cache_utils as planning
    import vllm.v1.kv_cache_interface as specs

    kinds = {"mla": specs.MLAAttentionSpec, "sliding": specs.SlidingWindowSpec, "full": specs.FullAttentionSpec}
    rows = []
    for question in questions:
        layers = {}
        for index, layer in enumerate(question["layers"]):
            kind = kinds[layer["form"]]
            given = {**layer, "block_size": question["block"], "dtype": torch.bfloat16, "use_mla": False}
            known = inspect.signature(kind).parameters
            layers[f"model.layers.{index}.attn"] = kind(**{name: given[name] for name in known if name in given})
        for size in question["sizes"]:
            config = _config(question)  # anew: to 0.13 a refusal leaves another length in it
            row = {"model": question["model"], "bytes": size}
            try:
                (made,) = planning.get_kv_cache_configs(config, [dict(layers)], [size])
            except ValueError as error:
                rows.append({**row, "refusal": str(error)[:300]})
                continue
            many = planning.get_max_concurrency_for_kv_cache_config(config, made)
            blocks = min(group.kv_cache_spec.block_size for group in made.kv_cache_groups)
            rows.append({**row, "blocks": made.num_blocks, "groups": len(made.kv_cache_groups), "block_tokens": blocks, "concurrency": many})  # fmt: skip
    print("KVPLAN-ANSWER " + json.dumps(rows), flush=True)


def _config(question: dict[str, Any]) -> Settings:
    length, batched = question["length"], question["batched"]
    return Settings(
        model_config=Settings(max_model_len=length, original_max_model_len=length),
        scheduler_config=Settings(max_num_batched_tokens=batched, max_num_seqs=256, disable_hybrid_kv_cache_manager=False),
        cache_config=Settings(block_size=16, gpu_memory_utilization=0.9, cache_dtype="auto", enable_prefix_caching=True),
        parallel_config=Settings(
            decode_context_parallel_size=1, prefill_context_parallel_size=1, pipeline_parallel_size=1, tensor_parallel_size=1
        ),
        max_in_flight_tokens=question["in_flight"], num_speculative_tokens=0,
    )  # fmt: skip


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file))
