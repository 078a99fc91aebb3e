"""What --measured promises: the range around other points of the deployment holds the nine of ten that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "measured_point.py"


def test_one_point_ranges_the_others_of_its_deployment() -> None:
    screen = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--every", "4"], capture_output=True, text=True, env=screen, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^(.+?)  +shipped fit, one point given +([\d,]+) +([\d.]+) % +([\d.]+) % +([\d.]+) %$", done.stdout, re.M
    )
    found = {name: tuple(map(float, (pairs.replace(",", ""), *shares))) for name, pairs, *shares in rows}
    for name in ("TPOT and decode steps, dense", "llama.cpp token generation, dense"):
        pairs, median, _, held = found[name]
        assert pairs > 30 and median <= 10 and held >= 85, (name, found[name])
    for name in ("TPOT and decode steps, MoE", "prefill and TTFT of static batches, dense"):
        pairs, median, _, held = found[name]
        assert pairs > 30 and median <= 15 and held >= 80, (name, found[name])
