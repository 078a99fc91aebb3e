"""Two pools (xPyD): what the formulas of `plan --disaggregate` say beside the simulator, in ten settings.

    python benchmarks/two_pools.py [--requests 3000]

Prints a table in Markdown, as docs/plan.md has it: llama-3.1-8b on H100s, one device a replica, 400 Gbit/s between the
pools. Nothing depends on the machine that runs it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kvplan

SETTINGS = (  # pools, requests a second, prompts, tokens of an answer
    ("1P1D", 6, "2000", 200),
    ("1P1D", 14, "2000", 200),
    ("2P1D", 24, "2000", 200),
    ("4P1D", 30, "2000", 100),
    ("4P2D", 60, "2000", 200),
    ("1P1D", 3, "8000", 300),
    ("4P2D", 10, "8000", 300),
    ("2P1D", 16, "p50=800,p95=6000", 200),
    ("2P1D", 12, "p50=800,p95=12000", 200),
    ("4P2D", 24, "p50=800,p95=12000", 200),
)


def figures(setting: tuple[str, int, str, int], requests: int) -> tuple[float, float, float, float]:
    """Returns mean and P95 of TTFT in seconds: simulated, simulated, by formula, by formula."""
    pools, rate, prompt, answer = setting
    found: Any = kvplan.simulate(
        "llama-3.1-8b", gpu="h100-sxm", disaggregate=pools, rate=rate, prompt=prompt, answer=answer, requests=requests
    ).to_dict()
    played, said = found["ttft_seconds"], found["analytic"]
    return played["mean"], played["p95"], said["ttft_seconds_mean"], said["ttft_seconds_p95"]


def main() -> int:
    """Prints a row a setting, and the least, the median and the most of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    asked = parser.parse_args()
    print("| pools | requests/s | prompts | answers | P95 simulated | P95 formula | ratio | ratio of means |")
    print("|---|---|---|---|---|---|---|---|")
    ratios, means = [], []
    for setting in SETTINGS:
        mean, p95, said_mean, said_p95 = figures(setting, asked.requests)
        ratios.append(said_p95 / p95)
        means.append(said_mean / mean)
        pools, rate, prompt, answer = setting
        times = f"{p95 * 1e3:,.0f} ms | {said_p95 * 1e3:,.0f} ms"
        print(f"| {pools} | {rate} | {prompt} | {answer} | {times} | {ratios[-1]:.2f} | {means[-1]:.2f} |")
    for name, values in (("P95", ratios), ("mean", means)):
        print(f"\nformula over simulation, {name}: {min(values):.2f} to {max(values):.2f}, median {median(values):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
