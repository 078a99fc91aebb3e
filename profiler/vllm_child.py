"""Asks an installed vLLM what it makes of a config: run by `profiler.verify_engine` in an interpreter that has vLLM.

Dummy weights, no tokenizer. What `get_kv_cache_configs` is given at start-up is asked again at each budget. One line of
JSON, marked, goes to standard output. Imports nothing of this project: that interpreter need not have it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

MARK = "KVPLAN-ANSWER "


# long: one session of a process of its own
def main(folder: str, budgets: list[int], length: int, batched: int) -> None:  # parameters: what one run is made of
    """Prints vLLM's blocks, groups, page and concurrency, or its refusal, for each budget in bytes."""
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_CPU_KVCACHE_SPACE="1"
    )
    import vllm
    import vllm.v1.engine.core as core
    from vllm import LLM

    seen: dict[str, Any] = {}
    plan = core.get_kv_cache_configs

    def spy(config: Any, specs: Any, memory: Any) -> Any:
        seen.update(config=config, specs=specs)
        return plan(config, specs, memory)

    core.get_kv_cache_configs = spy
    try:
        LLM(
            model=folder, load_format="dummy", skip_tokenizer_init=True, enforce_eager=True, max_model_len=length,
            max_num_batched_tokens=batched,
        )  # fmt: skip
    except Exception as error:
        if not seen:
            print(MARK + json.dumps({"error": f"{type(error).__name__}: {error}"[-400:]}), flush=True)
            return
    from vllm.v1.core.kv_cache_utils import get_max_concurrency_for_kv_cache_config as at_once

    config, rows = seen["config"], []
    for budget in budgets:
        try:
            (made,) = plan(config, [dict(seen["specs"][0])], [budget])
        except ValueError as error:
            rows.append({"bytes": budget, "refusal": str(error)[:400]})
            continue
        groups = made.kv_cache_groups
        many = at_once(config, made)
        rows.append(
            {
                "bytes": budget, "blocks": made.num_blocks, "groups": len(groups), "concurrency": many,
                "tokens": int(many * config.model_config.max_model_len),
                "block_tokens": min(group.kv_cache_spec.block_size for group in groups),
            }
        )  # fmt: skip
    cache = config.cache_config
    answer = {
        "version": vllm.__version__,
        "platform": config.device_config.device_type,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "mamba_cache_mode": getattr(cache, "mamba_cache_mode", None),
        "prefix_caching": cache.enable_prefix_caching,
        "fp32_states": getattr(cache, "mamba_ssm_cache_dtype", None) == "float32",
        "rows": rows,
    }
    print(MARK + json.dumps(answer), flush=True)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    main(asked["folder"], asked["budgets"], asked["length"], asked["batched"])
