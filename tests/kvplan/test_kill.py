"""Signals at moments that a test can wait for; benchmarks/kill.py sends them at random ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWEEP = ["sweep", "estimate", "model=gpt2", "seq=1..1000:+1", "-o", "out.csv"]
# Saves after each chunk, in place of every five seconds.
EAGER = "import sys; import planner.sweeps.run as run; run.SAVE_SECONDS = 0; from kvplan.cli import main; main(sys.argv[1:])"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def child(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    made = {**os.environ, "PYTHONPATH": str(ROOT), "KVPLAN_CONFIG_DIR": str(folder / "none")}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *words], cwd=folder, env=made, stdin=pipe, stdout=pipe, stderr=pipe)


def test_a_kill_while_a_log_is_read_leaves_the_old_answer(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")
    started = child(["-m", "kvplan", "reconcile", "-", "--json", "--output", "out.json"], tmp_path)
    assert started.stdin is not None
    started.stdin.write(b"INFO a request came\n" * 60_000)  # more than a pipe holds: it is reading
    started.stdin.flush()
    started.kill()
    started.communicate(timeout=60)
    assert (tmp_path / "out.json").read_text() == "old" and os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_goes_on_to_the_same_file(tmp_path: Path, sign: signal.Signals) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    assert child(["-m", "kvplan", *SWEEP], whole).wait(120) == 0
    started = child(["-c", EAGER, *SWEEP], tmp_path)
    while not (tmp_path / "out.csv").exists() and started.poll() is None:
        time.sleep(0.005)
    started.send_signal(sign)
    started.communicate(timeout=60)
    kept = (tmp_path / "out.csv").read_bytes()
    assert kept.endswith(b"\n") and (whole / "out.csv").read_bytes().startswith(kept)
    if sign is signal.SIGINT:
        assert sorted(os.listdir(tmp_path)) == ["out.csv", "whole"]
    assert child(["-m", "kvplan", *SWEEP, "--resume"], tmp_path).wait(120) == 0
    assert (tmp_path / "out.csv").read_bytes() == (whole / "out.csv").read_bytes()


def test_ctrl_c_ends_a_reading_that_waits_for_more_in_one_line(tmp_path: Path) -> None:
    started = child(["-m", "kvplan", "reconcile", "-"], tmp_path)
    assert started.stdin is not None
    started.stdin.write(b"INFO a request came\n" * 60_000)  # more than a pipe holds: it is reading, then waits
    started.stdin.flush()
    started.send_signal(signal.SIGINT)
    assert started.wait(60) == 130
    assert started.stderr is not None and len(started.stderr.read().decode().strip().splitlines()) == 1
