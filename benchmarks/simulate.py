"""The simulator: how fast it is, beside vidur on the same requests, and beside measured servers.

    python benchmarks/simulate.py --trace AzureLLMInferenceTrace_conv.csv --vidur-python .vidur/bin/python

The day is the rate and the lengths of the Azure conversation trace of 2023 (5.53 requests a second; the hour of the
file repeated, or, without --trace, log-normal lengths through its median and 95th percentile at Poisson times), on
Llama-3.1-8B, one H100, vLLM's pool. vidur (https://github.com/microsoft/vidur) runs its own scheduler and event loop
with step times of the same formula as kvplan in that comparison, so the times it gives should be ours too; it is
skipped with a word where it is not installed. Measured servers are the rows under load of
tests/cases/serving_speed.csv: a closed loop of as many users as the row names, all of one length, each asking six times;
TPOT of the rows that the speed model's constants are fitted on, TTFT of rows that no constant of a queue is fitted on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import header, peak_rss_bytes

from planner.catalogue.entries import find_device
from planner.engines.base import Options
from planner.lookup import model_spec
from planner.memory.request import Request, device_capacity
from planner.serving.block_pool import Pool
from planner.serving.replica import Policy
from planner.serving.result import Simulation, percentiles
from planner.serving.scheduler import simulate
from planner.serving.server import Server, server
from planner.speed.constants import constants_for
from planner.speed.step import Linear
from planner.speed.step_model import step_model
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import Arrival
from planner.workloads.lengths import from_percentiles
from planner.workloads.traces import read_trace
from planner.workloads.workload import Workload
from tests.speed_truth import QUEUED, Row, serving_rows

DAY_REQUESTS = 500_000
FEW_REQUESTS = 2_000
AZURE_RATE_PER_S = 5.53
AZURE_PROMPTS, AZURE_OUTPUTS = "p50=1020,p95=4083", "p50=129,p95=451"
LIMIT_SECONDS, LIMIT_BYTES = 60, 10**9
STEPS = Linear(
    fixed_ps=8 * 10**9, token_ps=30 * 10**6, kv_ps=(50_000,)
)  # 8 ms + max(30 us a new token, 50 ns a cached)
BLOCKS, SEATS, BUDGET = 20_000, 256, 2048
ROUNDS_A_USER = 6


def workload(trace: str | None, requests: int) -> Workload:
    if trace is not None:
        return Workload(trace=read_trace(trace), wanted=requests)
    prompts, outputs = from_percentiles(AZURE_PROMPTS), from_percentiles(AZURE_OUTPUTS)
    return Workload(prompts=prompts, outputs=outputs, rate_per_s=AZURE_RATE_PER_S, wanted=requests)


def replica(load: Workload) -> Server:
    gpu = find_device("h100-sxm")
    return server(
        model_spec("llama-3.1-8b"), Request(load.longest_tokens), gpu, room=device_capacity(gpu), constants=constants_for("vllm", gpu),
        asked=("vllm", None, Options()),
    )  # fmt: skip


def a_day(trace: str | None, requests: int = DAY_REQUESTS) -> dict[str, Any]:
    """CPU seconds and peak memory of reading and running a day, in this process."""
    began = time.process_time()
    load = workload(trace, requests)
    one = replica(load)
    policy = Policy(one.max_num_seqs, one.max_num_batched_tokens, one.longest_tokens)
    run = simulate(load.arrivals(), one.model, one.pool, policy=policy)
    seconds = time.process_time() - began
    return {
        "requests": len(run.requests),
        "simulated_seconds": run.seconds,
        "steps": run.steps,
        "schedules": run.events,
        "cpu_seconds": seconds,
        "peak_bytes": peak_rss_bytes() or 0,
        "utilisation": run.utilisation,
        "ttft_seconds_p95": percentiles(run.ttft_seconds(), [0.95])[0],
    }


def few(arrivals: list[Arrival]) -> tuple[Simulation, float]:
    began = time.perf_counter()
    run = simulate(arrivals, STEPS, Pool.of_blocks(BLOCKS), policy=Policy(SEATS, BUDGET))
    return run, time.perf_counter() - began


def vidur(python: str, arrivals: list[Arrival]) -> dict[str, Any] | None:
    """vidur's answer to the same requests; None where it does not run."""
    asked = {
        "requests": [[a.time_ps / PS_PER_SECOND, a.prompt_tokens, a.output_tokens] for a in arrivals],
        "blocks": BLOCKS, "seats": SEATS, "budget": BUDGET,
        "fixed_ps": STEPS.fixed_ps, "kv_ps": STEPS.kv_ps[0], "token_ps": STEPS.token_ps,
    }  # fmt: skip
    script = Path(__file__).resolve().parent / "simulate_vidur.py"
    done = subprocess.run([python, str(script)], input=json.dumps(asked), capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def beside(python: str, trace: str | None, rounds: int) -> dict[str, Any]:
    """The best of `rounds` of each on the first 2,000 requests, and how far their answers are apart."""
    arrivals = list(workload(trace, FEW_REQUESTS).arrivals())
    runs = [few(arrivals) for _ in range(rounds)]
    ours = min(seconds for _, seconds in runs)
    answer: dict[str, Any] = {"requests": len(arrivals), "rounds": rounds, "kvplan_seconds": ours, "vidur": None}
    theirs = [vidur(python, arrivals) for _ in range(rounds)]
    found = next((one for one in theirs if one is not None), None)
    if found is None:
        return answer
    seconds = min(one["seconds"] for one in theirs if one is not None)
    pairs = [*zip(runs[0][0].ttft_seconds(), found["ttft_seconds"], strict=True),
             *zip(runs[0][0].latency_seconds(), found["latency_seconds"], strict=True)]  # fmt: skip
    return answer | {
        "vidur": found["version"],
        "vidur_seconds": seconds,
        "ratio": seconds / ours,
        "largest_difference_seconds": max(abs(a - b) for a, b in pairs),
    }


def closed_loop(row: Row) -> tuple[float, float]:
    """(mean TTFT, mean TPOT) of a measured row's users, with room for all of them."""
    constants = constants_for(row.engine, row.device, row.load)
    run = simulate(
        [Arrival(0, row.prompt, row.output)] * (ROUNDS_A_USER * row.batch), step_model(row.answer, row.device, constants),
        Pool.of_blocks(1 << 40), policy=Policy(max(SEATS, row.batch), 8192), users=row.batch,
    )  # fmt: skip
    ttft, tpot = run.ttft_seconds(), run.tpot_seconds()
    return constants.request_seconds + sum(ttft) / len(ttft), sum(tpot) / len(tpot) if tpot else 0.0


def measured(every: int = 1) -> list[dict[str, Any]]:
    """Errors of TTFT and TPOT on measured servers under a closed loop; of every so many rows."""
    rows = [row for row in serving_rows().rows if row.load == "serving"][::every]
    found: dict[str, list[float]] = {"ttft": [], "tpot": []}
    for row in rows:
        if row.kind == QUEUED:
            found["ttft"].append(closed_loop(row)[0] / row.seconds)
        elif row.measured == "tpot_ms" and not row.apart and row.output > 1:
            found["tpot"].append(closed_loop(row)[1] / row.seconds)
    return [
        {
            "measured": name,
            "rows": len(ratios),
            "median_error": percentiles([abs(ratio - 1) for ratio in ratios], [0.5])[0],
            "p90_error": percentiles([abs(ratio - 1) for ratio in ratios], [0.9])[0],
            "median_ratio": percentiles(ratios, [0.5])[0],
        }
        for name, ratios in found.items()
    ]


def show_measured(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        print(f"measured  {line['measured'].upper()} under load, {line['rows']:,} rows: median error "
              f"{line['median_error']:.1%}, P90 {line['p90_error']:.0%}, ours / measured {line['median_ratio']:.2f}")  # fmt: skip


def show(day: dict[str, Any], both: dict[str, Any]) -> None:
    print(f"a day     {day['requests']:,} requests, {day['steps']:,} steps in {day['schedules']:,} schedules")
    print(f"          {day['cpu_seconds']:.1f} s of one core, {day['peak_bytes'] / 1e6:,.0f} MB at most"
          f" (wanted: {LIMIT_SECONDS} s, {LIMIT_BYTES / 1e6:,.0f} MB)")  # fmt: skip
    print(f"          utilisation {day['utilisation']:.0%}, TTFT p95 {day['ttft_seconds_p95'] * 1e3:.0f} ms")
    print(
        f"beside    {both['requests']:,} requests, best of {both['rounds']}: kvplan {both['kvplan_seconds']:.3f} s",
        end="",
    )
    if both["vidur"] is None:
        print("; vidur skipped: not installed in the Python of --vidur-python")
        return
    print(f", vidur {both['vidur']} {both['vidur_seconds']:.2f} s: {both['ratio']:.0f} times as long")
    print(f"          TTFT and latency of each request: {both['largest_difference_seconds']:.1e} s apart at most")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trace", help="the Azure conversation trace, a CSV file")
    parser.add_argument("--vidur-python", default=sys.executable, help="a Python in which vidur is installed")
    parser.add_argument("--requests", type=int, default=DAY_REQUESTS, help="of the day")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="play every so many of the measured rows")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    day = a_day(arguments.trace, max(1, arguments.requests))
    both = beside(arguments.vidur_python, arguments.trace, max(1, arguments.rounds))
    servers = measured(max(1, arguments.every))
    if arguments.json:
        print(json.dumps({"machine": header(), "day": day, "beside": both, "measured": servers}, indent=1))
    else:
        print(header() + "\n")
        show(day, both)
        show_measured(servers)
    return 0 if day["cpu_seconds"] <= LIMIT_SECONDS and day["peak_bytes"] <= LIMIT_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
