"""Two pools (xPyD): what the formulas of `plan --disaggregate` say beside the simulator, in twenty settings.

    python benchmarks/two_pools.py [--requests 3000] [--seeds 5]

Prints a table in Markdown, as docs/plan.md has it: llama-3.1-8b on H100s, one device a replica, 400 Gbit/s between the
pools; of the simulations with several seeds the median, and the least and the most of P95. Nothing depends on the machine
that runs it.
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
    ("1P1D", 2, "p50=800,p95=12000", 200),  # from here on: no part in how the formula was made
    ("1P1D", 8, "p50=800,p95=12000", 200),
    ("3P1D", 15, "p50=800,p95=12000", 200),
    ("8P4D", 48, "p50=800,p95=12000", 200),
    ("1P1D", 4, "p50=2000,p95=20000", 300),
    ("2P2D", 10, "p50=2000,p95=20000", 300),
    ("1P1D", 12, "p50=1000,p95=4000", 150),
    ("6P2D", 60, "p50=1500,p95=5000", 100),
    ("1P1D", 5, "p50=4000,p95=9000", 400),
    ("2P1D", 40, "p50=200,p95=3000", 200),
)


Setting = tuple[str, int, str, int]


def figures(setting: Setting, requests: int, seeds: int) -> tuple[list[float], list[float], float, float]:
    """Returns mean and P95 of TTFT in seconds: as each seed gives them, and by formula."""
    pools, rate, prompt, answer = setting
    means, late, said = [], [], {}
    for seed in range(1, seeds + 1):
        found: Any = kvplan.simulate(
            "llama-3.1-8b", gpu="h100-sxm", disaggregate=pools, rate=rate, prompt=prompt, answer=answer,
            requests=requests, seed=seed,
        ).to_dict()  # fmt: skip
        means.append(found["ttft_seconds"]["mean"])
        late.append(found["ttft_seconds"]["p95"])
        said = found["analytic"]
    return means, sorted(late), said["ttft_seconds_mean"], said["ttft_seconds_p95"]


def main() -> int:
    """Prints a row a setting, and the least, the median and the most of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print("| pools | requests/s | prompts | answers | P95 simulated | by seed | P95 formula | ratio | ratio of means |")
    print("|---|---|---|---|---|---|---|---|---|")
    ratios, means = [], []
    for setting in SETTINGS:
        played, late, said_mean, said_p95 = figures(setting, asked.requests, asked.seeds)
        ratios.append(said_p95 / median(late))
        means.append(said_mean / median(played))
        pools, rate, prompt, answer = setting
        least, middle, most, formula = (
            f"{1e3 * seconds:,.0f}" for seconds in (late[0], median(late), late[-1], said_p95)
        )
        times = f"{middle} ms | {least} to {most} ms | {formula} ms"
        print(f"| {pools} | {rate} | {prompt} | {answer} | {times} | {ratios[-1]:.2f} | {means[-1]:.2f} |", flush=True)
    for name, values in (("P95", ratios), ("mean", means)):
        print(f"\nformula over simulation, {name}: {min(values):.2f} to {max(values):.2f}, median {median(values):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
