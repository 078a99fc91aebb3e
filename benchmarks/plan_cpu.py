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

PLAN = (
    "plan", "llama-3.1-8b", "--gpu", "h100-sxm,l40s,a100-80gb", "--rate", "5", "--prompt", "1000", "--answer", "300",
    "--ttft", "2s", "--tpot", "50ms", "--engine", "vllm",
)  # fmt: skip
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
    cases: dict[str, tuple[Sequence[str], Path]] = {"plan, three devices": (PLAN, ROOT), "start alone": (START, ROOT)}
    if asked.beside is not None:
        cases["plan, the other checkout"] = (PLAN, asked.beside.resolve())
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(asked.runs + 1):
        for name, (arguments, tree) in cases.items():
            found[name].append(cpu_seconds(arguments, tree))
    print(header())
    own = median(found["plan, three devices"][1:])
    for name, seconds in found.items():
        middle = median(seconds[1:])  # the first writes bytecode
        print(f"{name:26}{middle:7.2f} s of CPU   plan / this {own / middle:5.2f}   least {min(seconds[1:]):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
