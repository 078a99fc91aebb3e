"""Kills sweep, report, profile --sweep, simulate and calibrate at random moments and looks at what is left.

    python benchmarks/kill.py --rounds 30            # 30 times SIGINT and 30 times SIGKILL of each command
    python benchmarks/kill.py --rounds 2 --command sweep

After each signal the file (or folder) must be the one of before or a whole new one, and no other file may lie beside it,
but for the one temporary file that SIGKILL can leave (counted). `sweep` and `profile --sweep` then go on with --resume:
the sweep's file must equal that of a run that nobody stopped.
The exit code is 1 where anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from machine import header

SWEEP = ["sweep", "estimate", "model=gpt2,llama-7b,llama-3.1-8b", "seq=1..{points}:+1", "batch=1,8", "-o", "out.csv"]


@dataclass(frozen=True)
class Victim:
    """A command: its words, what it writes, how a whole result is told, and the words that go on where it can."""

    words: list[str]
    writes: str
    is_whole: Callable[[Path], bool]
    resume: list[str] = field(default_factory=list)


def whole_csv(path: Path) -> bool:
    """Whether every line of a CSV has as many commas as its header at least, and the last one is ended."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    return text.endswith("\n") and all(line.count(",") >= lines[0].count(",") for line in lines)


def whole_json(path: Path) -> bool:
    """Whether a file is one JSON value."""
    json.loads(path.read_text(encoding="utf-8"))
    return True


def whole_report(path: Path) -> bool:
    """Whether a folder holds every file that its manifest names."""
    manifest = json.loads((path / "report.json").read_text(encoding="utf-8"))
    return all((path / name).exists() for name in manifest["files"])


def victims(points: int) -> dict[str, Victim]:
    """The commands by name."""
    sweep = [word.format(points=points) for word in SWEEP]
    profile = ["profile", "gpt2", "--layers", "1", "--repeats", "1", "--sweep", "batch=1,2,3,4", "context=16,32"]
    simulate = ["simulate", "llama-3.1-8b", "--gpu", "h100-sxm", "--rate", "5/s", "--prompt", "200", "--answer", "50"]
    return {
        "sweep": Victim(sweep, "out.csv", whole_csv, [*sweep, "--resume"]),
        "report": Victim(["report", "gpt2", "--gpu", "l4", "-o", "out", "--force"], "out", whole_report),
        "profile": Victim([*profile, "-o", "out.json"], "out.json", whole_json, [*profile, "--resume", "out.json"]),
        "simulate": Victim([*simulate, "--requests", "400", "--json", "--output", "out.json"], "out.json", whole_json),
        "calibrate": Victim(
            ["calibrate", "--model", "pythia-14m", "--dtype", "fp32", "--linear", "plain", "-o", "out.json"],
            "out.json",
            whole_json,
        ),
    }


@dataclass
class Count:
    """What came of the signals of one command: `done` had ended before, `left` are temporary files that SIGKILL left."""

    old: int = 0
    new: int = 0
    done: int = 0
    left: int = 0
    broken: list[str] = field(default_factory=list)


def started(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The command, in a folder of its own."""
    made = {
        **os.environ,
        "KVPLAN_CONFIG_DIR": str(folder / "config"),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "kvplan", *words]
    return subprocess.Popen(command, cwd=folder, env=made, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(words: list[str], folder: Path) -> float:
    """Run to the end; seconds."""
    start = time.monotonic()
    child = started(words, folder)
    _, said = child.communicate()
    if child.returncode not in (0, 3):
        raise SystemExit(f"{' '.join(words)} ends with {child.returncode}: {said.decode()[-500:]}")
    return time.monotonic() - start


def killed(victim: Victim, folder: Path, sign: signal.Signals, after: float) -> tuple[int, bytes]:
    """The exit code and stderr of the command, to which `sign` was sent `after` seconds."""
    child = started(victim.words, folder)
    try:
        child.wait(after)
    except subprocess.TimeoutExpired:
        child.send_signal(sign)
    _, said = child.communicate()
    return child.returncode, said


def rows_of(path: Path) -> int:
    """Lines of a file; 0 where it is not there."""
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def fingerprint(path: Path) -> object:
    """What tells one state of a file or a folder from another."""
    if path.is_dir():
        return {str(one.relative_to(path)): one.read_bytes() for one in sorted(path.rglob("*")) if one.is_file()}
    return path.read_bytes() if path.exists() else None


def one(victim: Victim, folder: Path, sign: signal.Signals, after: float, count: Count, reference: object) -> None:
    """Kill once and look; then go on where the command can."""
    target = folder / victim.writes
    before = fingerprint(target)
    code, said = killed(victim, folder, sign, after)
    where = f"{sign.name} after {after:.2f} s"
    if b"Traceback" in said or said.count(b"\n") > 1:
        count.broken.append(f"{where}: {said.decode(errors='replace')[-300:]}")
    count.done += code not in (130, -sign)
    if sign is signal.SIGINT and code not in (0, 3, 130, -signal.SIGINT):
        count.broken.append(f"{where}: exit code {code}")
    after_it = fingerprint(target)
    try:
        if after_it == before:
            count.old += 1
        elif victim.is_whole(target):
            count.new += 1
        else:
            count.broken.append(f"{where}: {victim.writes} is not whole")
    except (ValueError, OSError, KeyError) as error:
        count.broken.append(f"{where}: {victim.writes} is not whole: {error!s:.80}")
    beside = [name for name in os.listdir(folder) if name not in (victim.writes, "config")]
    if beside and sign is signal.SIGINT:
        count.broken.append(f"{where}: {beside[0]} is left")
    count.left += len(beside)
    for name in beside:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    if victim.resume and target.exists():
        finished(victim.resume, folder)
        if reference is not None and fingerprint(target) != reference:
            count.broken.append(f"{where}: --resume gives another file")


def torture(name: str, victim: Victim, sign: signal.Signals, rounds: int) -> Count:
    """`rounds` kills of one command, at moments spread over what it takes, half of them over a result that is there."""
    count, draw = Count(), random.Random(f"{name}{sign}")
    with tempfile.TemporaryDirectory() as made:
        first = Path(made) / "first"
        first.mkdir()
        took = finished(victim.words, first)
        reference = fingerprint(first / victim.writes) if name == "sweep" else None
        for index in range(rounds):
            folder = Path(made) / f"round-{index}"
            folder.mkdir()
            if index % 2 and name != "sweep":
                there = first / victim.writes
                (shutil.copytree if there.is_dir() else shutil.copy)(there, folder / victim.writes)
            one(victim, folder, sign, draw.uniform(0.02, 1.0) * took, count, reference)
            shutil.rmtree(folder)
            state = f"{count.old} old, {count.new} new, {count.done} ended before, {len(count.broken)} broken"
            print(f"  {name}, {sign.name}: {index + 1} of {rounds}: {state}", file=sys.stderr, flush=True)
    return count


def main() -> int:
    """Print a row a command and signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = victims(1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--points", type=int, default=3000, help="lengths of the sweep's grid")
    parser.add_argument("--command", choices=sorted(every), action="append")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
    print(header())
    print(f"{'command':<12}{'signal':<9}{'kills':>6}{'old':>5}{'new':>5}{'ended':>7}{'temporary':>11}{'broken':>8}")
    found = 0
    for name, victim in victims(asked.points).items():
        if asked.command and name not in asked.command:
            continue
        for sign in (signal.SIGINT, signal.SIGKILL):
            count = torture(name, victim, sign, asked.rounds)
            cells = (asked.rounds, count.old, count.new, count.done, count.left, len(count.broken))
            print(
                f"{name:<12}{sign.name:<9}"
                + "".join(f"{cell:>{width}}" for cell, width in zip(cells, (6, 5, 5, 7, 11, 8), strict=True)),
                flush=True,
            )
            for line in count.broken[:3]:
                print(f"  {line!r:.300}")
            found += len(count.broken)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
