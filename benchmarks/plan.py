"""`kvplan plan`: its formulas beside the simulator, and the CPU seconds of the five questions of docs/examples.md.

    python benchmarks/plan.py [--requests 3000] [--seeds 1] [--no-search]

Each case is one replica under a load, 3,000 requests of a seed (few long prompts are in some samples and not in others): 4 models with their devices, 4 mixes of lengths, requests
that arrive at random at a fifth to 85 % of what the replica can carry, and users who ask again at once or after a
pause. What is printed are ratios of formula to simulation: they do not depend on the machine.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from machine import children_cpu_seconds, header

from planner.lookup import device, model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request, device_capacity
from planner.memory.sharding import Sharding
from planner.serving.block_pool import Pool
from planner.serving.replica import Policy
from planner.serving.result import percentiles
from planner.serving.scheduler import simulate
from planner.serving.steady_state import Replica, State
from planner.speed.constants import constants_for
from planner.speed.step import StepModel
from planner.speed.step_model import step_model
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import exponential_ps, synthetic
from planner.workloads.lengths import LengthMix, from_percentiles
from planner.workloads.load import load

REPLICAS = (
    ("llama-3.1-8b", "h100-sxm", Sharding()),
    ("llama-3.1-8b", "l4", Sharding()),
    ("llama-3.1-70b", "h100-sxm", Sharding(tp=4)),
    ("deepseek-v3", "h200", Sharding(tp=8)),
)
MIXES = (
    ("p50=800,p95=6000", "p50=200,p95=900"),
    ("p50=800,p95=3000", "p50=200,p95=600"),
    ("p50=3000,p95=12000", "p50=100,p95=400"),
    ("p50=300,p95=600", "p50=300,p95=600"),
)
LOADS = (
    *(("at random", share) for share in (0.2, 0.5, 0.7, 0.85)),
    *(("users", count) for count in (4, 24, 80, 160)),
    *(("users who pause", count) for count in (30, 120)),
)
SEQUENCES, CHUNK, PAUSE_SECONDS = 200, 2048, 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-search", action="store_true", help="leave the five questions out")
    asked = parser.parse_args()
    print(header())
    found: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(1, asked.seeds + 1):
        for kind, ratios in cases(asked.requests, seed):
            found.setdefault(kind, []).append(ratios)
    print(
        f"{'formula / simulation':24}{'cases':>6}  {'':10}{'least':>8}{'P10':>8}{'median':>8}{'P90':>8}{'most':>8}  mean |log|"
    )
    for kind, rows in found.items():
        for column, name in enumerate(("TPOT", "mean TTFT", "P95 TTFT")):
            values = sorted(row[column] for row in rows)
            low, high = percentiles(values, [0.1, 0.9])
            off = sum(abs(math.log(value)) for value in values) / len(values)
            numbers = "".join(f"{value:8.2f}" for value in (values[0], low, median(values), high, values[-1]))
            print(f"{kind:24}{len(values):6}  {name:10}{numbers}  {off:.3f}")
    if not asked.no_search:
        print("\nthe five questions of docs/examples.md, a process each, start of Python included:")
        words = [sys.executable, str(ROOT / "docs" / "examples.py"), "--time"]
        print(f"{children_cpu_seconds(lambda: subprocess.run(words, check=True)):5.2f} s of CPU  together")
    return 0


def cases(requests: int, seed: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    for name, gpu, sharding in REPLICAS:
        found = device(gpu)
        answer = estimate(model_spec(name), Request(8192, sharding=sharding), device_capacity(found))
        model = step_model(answer, found, constants_for(None, found))
        for prompt, output in MIXES:
            mixes = from_percentiles(prompt), from_percentiles(output)
            for kind, level in LOADS:
                yield kind, ratios(model, mixes, kind, level, requests=requests, seed=seed)


def ratios(
    model: StepModel, mixes: tuple[LengthMix, LengthMix], kind: str, level: float, *, requests: int, seed: int
) -> tuple[float, float, float]:
    """(TPOT, mean TTFT, P95 TTFT) of the formulas over those of the simulation, warm-up and end left out."""
    users = 0 if kind == "at random" else int(level)
    pause = PAUSE_SECONDS if "pause" in kind else 0.0
    asked = load(*mixes, think_seconds=pause, **({"users": users} if users else {"rate_per_s": 1.0}))
    replica = Replica(model, asked, chunk_tokens=CHUNK, most=SEQUENCES)
    rate = level * replica.full_rate_per_s if not users else None
    state: State | None = replica.at_users(users) if rate is None else replica.at_rate(rate)
    assert state is not None
    run = simulate(
        synthetic(*mixes, requests, rate_per_s=rate, seed=seed), model, Pool.of_blocks(10**7), policy=Policy(SEQUENCES, CHUNK),
        users=users, think_ps=exponential_ps(pause, seed, "pauses") if pause else None,
    )  # fmt: skip
    rows = run.requests
    kept = [i for i in rows.served if requests // 6 <= i < requests - requests // 10]
    steps = sum(rows.output_tokens[i] - 1 for i in kept)
    tpot = sum(rows.last_ps[i] - rows.first_ps[i] for i in kept) / steps / PS_PER_SECOND
    first = [(rows.first_ps[i] - rows.arrival_ps[i]) / PS_PER_SECOND for i in kept]
    (late,) = percentiles(first, [0.95])
    mean = sum(first) / len(first)
    return state.tpot_seconds / tpot, state.ttft_mean_seconds / mean, state.ttft_seconds / late


if __name__ == "__main__":
    sys.exit(main())
