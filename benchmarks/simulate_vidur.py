"""vidur on the requests of `benchmarks/simulate.py`: run by it, in a Python where vidur is installed.

    python -m venv .vidur && .vidur/bin/pip install vidur
    python benchmarks/simulate.py --vidur-python .vidur/bin/python

Reads {"requests": [[seconds, prompt, output], ...], "blocks", "seats", "budget", "fixed_ps", "kv_ps", "token_ps"} on
stdin and prints seconds, TTFT and latency as JSON on stdout. The event loop and the scheduler with chunked prefill
(`sarathi`) are vidur's, its metrics off where they can be. Step times come from the formula that kvplan's run has
too, in place of vidur's predictor (whose profiles of attention are not public): both simulate the same machine.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from importlib.metadata import version
from typing import Any


def main() -> None:
    asked = json.load(sys.stdin)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_run(asked, folder)))


def _run(asked: dict[str, Any], folder: str) -> dict[str, Any]:
    from vidur import config as c
    from vidur._native.entities import ExecutionTime
    from vidur.entities import Request
    from vidur.execution_time_predictor import ExecutionTimePredictorRegistry
    from vidur.request_generator import RequestGeneratorRegistry
    from vidur.simulator import Simulator

    requests = [Request(at, prompt, output) for at, prompt, output in asked["requests"]]

    class Steps:
        """fixed + max(cached tokens of those that decode, new tokens of prompts), as planner.speed.step.Linear."""

        def __init__(self, **_: Any) -> None:
            pass

        def get_execution_time(self, batch: Any, stage: int) -> Any:
            read = new = 0
            rows = zip(batch.requests, batch.num_q_tokens, batch.num_kv_tokens, strict=True)
            for request, tokens, cached in rows:
                if request.is_prefill_complete:
                    read += cached - 1  # vidur counts the token that the step gives, too
                else:
                    new += tokens
            picoseconds = asked["fixed_ps"] + max(asked["kv_ps"] * read, asked["token_ps"] * new)
            return ExecutionTime(1, 0, 0, picoseconds / 1e9, *[0] * 11)

    class Given:
        def __init__(self, *_: Any) -> None:
            pass

        def generate(self) -> list[Any]:
            return requests

    settings = c.SimulationConfig(
        cluster_config=c.ClusterConfig(
            num_replicas=1,
            replica_config=c.ReplicaConfig(num_pipeline_stages=1, tensor_parallel_size=1),
            cache_config=c.CacheConfig(num_blocks=asked["blocks"], watermark_blocks_fraction=0.0),
            replica_scheduler_config=c.SarathiSchedulerConfig(
                batch_size_cap=asked["seats"], chunk_size=asked["budget"]
            ),
        ),
        metrics_config=c.MetricsConfig(
            write_metrics=False, enable_chrome_trace=False, store_plots=False, store_request_metrics=False,
            store_batch_metrics=False, store_utilization_metrics=False, output_dir=folder,
        ),
    )  # fmt: skip
    predictor = settings.execution_time_predictor_config.get_type()
    generator = settings.request_generator_config.get_type()
    for registry, key, made in (
        (ExecutionTimePredictorRegistry, predictor, Steps),
        (RequestGeneratorRegistry, generator, Given),
    ):
        registry.unregister(key)
        registry.register(key, made)
    simulator = Simulator(settings)
    began = time.perf_counter()
    simulator.run()
    seconds = time.perf_counter() - began
    return {
        "version": version("vidur"),
        "seconds": seconds,
        "ttft_seconds": [r.prefill_completed_at - r.arrived_at for r in requests],
        "latency_seconds": [r.completed_at - r.arrived_at for r in requests],
    }


if __name__ == "__main__":
    main()
