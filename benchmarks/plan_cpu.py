"""CPU seconds of `kvplan plan` over three devices, beside a start of kvplan that plans nothing, and another checkout's.

    python benchmarks/plan_cpu.py [--runs 5] [--beside ../other-checkout]

Each run is a process of its own; the commands take turns, so that a busy machine slows all of them. What is compared are
medians and their ratio. Bytecode is written first, as an installed package has it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from machine import children_cpu_seconds, header

DEVICES = (
    "plan",
    "llama-3.1-8b",
    "--gpu",
    "h100-sxm,l40s,a100-80gb",
    "--ttft",
    "2s",
    "--tpot",
    "50ms",
    "--engine",
    "vllm",
)
MIXES = ("--answer", "p50=200,p95=900", "--prompt")
PLANS = {
    "plan, three devices": (*DEVICES, "--rate", "5", "--prompt", "1000", "--answer", "300"),
    "plan, heavy-tailed": (*DEVICES, "--rate", "5", *MIXES, "p50=800,p95=6000"),
    "plan, heavy, users": (*DEVICES, "--users", "50", *MIXES, "p50=800,p95=12000"),
}
START = ("gpus", "l40s")


def cpu_seconds(arguments: Sequence[str], tree: Path) -> float:
    """User and system seconds of one process that runs kvplan from `tree`."""
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return children_cpu_seconds(
        lambda: subprocess.run(
            [sys.executable, "-m", "kvplan", *arguments], cwd=tree, check=True, stdout=subprocess.DEVNULL,
            env=surroundings | {"PYTHONPATH": str(tree)},
        )
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="another checkout, measured in turns with this one")
    asked = parser.parse_args()
    cases: dict[str, tuple[Sequence[str], Path]] = {"start alone": (START, ROOT)}
    for name, question in PLANS.items():
        cases[name] = question, ROOT
        if asked.beside is not None:
            cases[f"{name}, other"] = question, asked.beside.resolve()
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(asked.runs + 1):
        for name, (arguments, tree) in cases.items():
            found[name].append(cpu_seconds(arguments, tree))
    print(header())
    middle = {name: median(seconds[1:]) for name, seconds in found.items()}  # the first writes bytecode
    for name, seconds in found.items():
        beside = middle.get(f"{name}, other")
        words = f"   {middle[name] / beside:.2f} of the other checkout" if beside else ""
        starts = middle[name] / middle["start alone"]
        print(f"{name:27}{middle[name]:6.2f} s of CPU   least {min(seconds[1:]):.2f}   {starts:5.1f} starts{words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
