"""Timing with a clock that is moved by hand: nothing here waits or depends on how fast it runs."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("torch", reason="the profiler needs torch: pip install 'llm-kvplan[profile]'")

from planner.terminal.progress import Progress
from profiler.device import Device
from profiler.measure import Times, laps, measure, unstable


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_warm_up_and_preparation_are_not_timed() -> None:
    clock, order = Clock(), []

    def action() -> None:
        order.append("action")
        clock.now += 1.0

    def before() -> None:
        order.append("before")
        clock.now += 100.0

    times = measure(action, Device(clock), repeats=2, warmup=1, before=before)
    assert times.seconds == (1.0, 1.0)
    assert order == ["before", "action"] * 3


def test_a_budget_ends_the_repeats_but_never_the_first() -> None:
    clock = Clock()

    def action() -> None:
        clock.now += 4.0

    assert len(measure(action, Device(clock), repeats=9, warmup=0, budget_seconds=6.0).seconds) == 2
    assert len(measure(action, Device(clock), repeats=9, warmup=3, budget_seconds=0.0).seconds) == 2 - 1
    assert len(laps(action, Device(clock), 9, warmup=0, budget_seconds=1.0).seconds) == 3


def test_median_and_middle_half() -> None:
    times = Times((3.0, 1.0, 2.0, 10.0, 4.0))
    assert (times.median, times.low, times.high) == (3.0, 2.0, 4.0)
    reading = times.rate(6.0)
    assert (reading.value, reading.low, reading.high, reading.repeats, reading.kind) == (2.0, 1.5, 3.0, 5, "measured")


def test_an_unstable_machine_is_told_in_words() -> None:
    assert unstable("decode", Times((1.0, 1.0, 1.01, 1.0))) is None
    assert unstable("decode", Times((1.0, 9.0))) is None  # too few to say
    assert "close other programs" in (unstable("decode", Times((1.0, 1.5, 2.0, 2.5))) or "")


def test_a_time_of_nothing_is_no_rate() -> None:
    assert Times((0.0,)).rate(5.0).note


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_speaks_after_two_seconds_on_a_terminal_only() -> None:
    clock, screen, pipe = Clock(), Terminal(), io.StringIO()
    shown, silent = Progress(10, stream=screen, clock=clock), Progress(10, stream=pipe, clock=clock)
    for progress in (shown, silent):
        progress.step("soon", 1)
    clock.now = 3.0
    for progress in (shown, silent):
        progress.step("later", 4)
        progress.close()
    assert "soon" not in screen.getvalue() and "50 %" in screen.getvalue() and "3 s left" in screen.getvalue()
    assert pipe.getvalue() == ""
