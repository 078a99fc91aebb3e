"""llama.cpp's logs with lines missing: a part of the cache is never taken for the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.runs import ledger_of

LOGS = Path(__file__).parents[2] / "cases" / "logs"


def without(name: str, *words: str) -> Ledger:
    """The ledger of a log without the lines that hold one of these words."""
    lines = [line for line in (LOGS / name).read_text().splitlines() if not any(word in line for word in words)]
    (run,) = engines_of(Log().read(lines))
    return ledger_of(run, Given())


@pytest.mark.parametrize("lost", ["size =   18.00 MiB", "size = 3072.00 MiB"])
def test_one_of_two_caches_closes_nothing(lost: str) -> None:
    """gpt-oss-20b: 3072 MiB of full layers and 18 of windows."""
    whole = without("llama-cpp.log")
    assert whole.closes
    half = without("llama-cpp.log", f": {lost}", "n_ctx ")
    assert half.closes is None
    assert any("one of the two caches" in line for line in half.missing)


def test_buffers_of_devices_alone_are_held_against_the_prediction() -> None:
    """Without the line that says q8_0 the cache is taken for f16, and the ledger says by how much it is off."""
    found = without("ik-llama-cpp.log", "self size")
    assert found.closes is False
    assert found.unexplained is not None and found.unexplained < -(1 << 30)
