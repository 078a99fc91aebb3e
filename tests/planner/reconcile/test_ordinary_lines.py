"""A log is mostly lines that say nothing: each kind of them is looked at once, and none that says something is lost by that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.reconcile import reader
from planner.reconcile.facts import Log
from planner.reconcile.pattern import fixed_text
from planner.reconcile.patterns import PATTERNS
from planner.reconcile.reader import PHRASES, Source

LOGS = Path(__file__).parents[2] / "cases" / "logs"
LINES = [json.loads(line)["line"] for line in (LOGS / "lines.jsonl").read_text().splitlines()]
LINES += [line for path in sorted(LOGS.glob("*.log")) for line in path.read_text().splitlines()]
REQUESTS = "\n".join(
    f"INFO [logger.py:43] Received request cmpl-{number * 2654435761 % 2**32:08x}-0: multimodal, max_model_len={number}"
    for number in range(1000, 4000)
)


def test_lines_that_differ_in_digits_and_ids_are_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60,000 of them took 22 s of CPU where each was searched for 357 patterns, and the line after it for 286 phrases."""
    searched: list[str] = []
    says = Log._says
    monkeypatch.setattr(Log, "_says", lambda log, line: searched.append(line) or says(log, line))
    path = tmp_path / "server.log"
    path.write_text(REQUESTS)
    Log().read(Source(str(path)).lines())
    assert 1 <= len(searched) <= 2  # an id may be of digits alone


def test_the_phrases_of_a_shape_are_looked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    starts = reader._marked_starts
    monkeypatch.setattr(reader, "_marked_starts", lambda text: searched.append(text.count(b"\n") + 1) or starts(text))
    path = tmp_path / "server.log"
    path.write_text(re.sub(r"cmpl-\w+", "cmpl", REQUESTS) + "\n" + "INFO 10.0.0.1 GET /health 200\n" * 3000)
    assert len(list(Source(str(path)).lines())) == 3000
    assert sum(searched) <= 4


@pytest.mark.parametrize("digit", "0379")
def test_a_line_that_says_something_says_something_with_other_digits(digit: str) -> None:
    """Else a line that said nothing would hide one that does: `_line` takes the two for alike."""
    others = str.maketrans("0123456789", digit * 10)
    lost = [line for line in LINES if Log()._says(line) and not Log()._says(line.translate(others))]
    assert lost == []


def test_what_a_pattern_fixes_stands_in_every_line_it_finds() -> None:
    assert sum(len(pattern.fixed) > 3 for pattern in PATTERNS) > 0.95 * len(PATTERNS)
    for line in LINES:
        for pattern in PATTERNS:
            if pattern.search(line) or pattern.is_unreadable(line):
                assert pattern.fixed in line


@pytest.mark.parametrize(
    "regex, fixed",
    [(r"ab?cd", "cd"), (r"a{0,2}bcd", "bcd"), (r"(one|two) three", " three"), (r"[ab]+cd\.", "cd."), (r"a|bcd", ""), (r"\u2588 x", " x")],
)  # fmt: skip
def test_what_may_be_missing_is_not_fixed(regex: str, fixed: str) -> None:
    assert fixed_text(regex) == fixed


def _doubles() -> Iterator[tuple[bytes, bytes]]:
    for number, phrase in enumerate(PHRASES):
        yield from ((other, phrase) for place, other in enumerate(PHRASES) if place != number and other in phrase)


def test_no_phrase_is_searched_twice_and_none_has_a_digit() -> None:
    assert list(_doubles()) == []
    assert [phrase for phrase in PHRASES if re.search(rb"\d", phrase)] == []


def test_a_continuation_is_no_line_that_holds_a_phrase(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    first = "INFO the current vLLM instance can use total_gpu_memory (14.74GiB) x gpu_memory_utilization"
    path.write_text(f"{first}\n(0.69) = 10.22GiB\n{first}\nsays: GPU KV cache size: 10 tokens\n")
    lines = list(Source(str(path)).lines())
    assert lines == [f"{first} (0.69) = 10.22GiB", first, "says: GPU KV cache size: 10 tokens"]
