"""How many points of a sweep are lost when it is killed by SIGKILL.

    python benchmarks/sweep_loss.py --rounds 30

A sweep of 6,000 estimates says after each piece of work how many points are done; it is killed at a random moment, and the
rows that its file holds are counted. What is lost is the difference.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from machine import header

CHILD = """
import os, sys
from planner.sweeps.asked import sweep_asked, write_sweep
from planner.options.tables import empty
from planner.sweeps.asked import FLAGS
from planner.terminal.progress import Progress
class Told(Progress):
    def step(self, words, weight=1.0):
        super().step(words, weight)
        os.write(1, b"%d\\n" % self.done)
asked = sweep_asked("estimate", ["model=gpt2,llama-7b,llama-3.1-8b", "seq=1..1000:+1", "batch=1,8"], {**empty(FLAGS), "output": sys.argv[1]})
write_sweep(asked, Told(0, quiet=True))
"""


def main() -> None:
    """Prints the points that were lost, and the time that they had taken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    print(header())
    with tempfile.TemporaryDirectory() as made:
        whole, took = killed(Path(made) / "whole.csv", None)
        print(f"a sweep that nobody stops: {whole[0]:,} points in {took:.1f} s, {whole[1]:,} rows in its file")
        draw, lost, shares = random.Random(1), [], []
        for index in range(asked.rounds):
            (done, kept), seconds = killed(Path(made) / f"{index}.csv", draw.uniform(0.1, 0.95) * took)
            if done:
                lost.append(done - kept)
                shares.append((done - kept) / done * seconds)
    print(f"killed {len(lost)} times: points lost median {statistics.median(lost):,.0f}, most {max(lost):,}")
    print(f"  that is the work of {statistics.median(shares):.2f} s, at most {max(shares):.2f} s")


def killed(path: Path, after: float | None) -> tuple[tuple[int, int], float]:
    """((points done, rows in the file), seconds) of a sweep that is killed `after` seconds, or not at all."""
    made = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    begun = time.monotonic()
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], env=made, stdout=subprocess.PIPE)
    try:
        said, _ = child.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        said, _ = child.communicate()
    seconds = time.monotonic() - begun
    done = int(said.split()[-1]) if said.split() else 0
    kept = path.read_bytes().count(b"\n") - 1 if path.exists() else 0
    return (done, kept), seconds


if __name__ == "__main__":
    main()
