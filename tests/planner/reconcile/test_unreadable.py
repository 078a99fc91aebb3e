"""Lines that hold no number where one should stand, and lines made to take long."""

from __future__ import annotations

import re
import re._constants as kinds  # type: ignore[import-untyped]
import re._parser as parser  # type: ignore[import-untyped]
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli import main
from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.patterns import ARGUMENTS, PATTERNS, RANK
from planner.reconcile.reader import Source
from planner.reconcile.runs import ledger_of

CASES = Path(__file__).parents[2] / "cases"


def ledgers(*lines: str) -> list[Ledger]:
    return [ledger_of(run, Given()) for run in engines_of(Log().read(lines))]


@pytest.mark.parametrize("name", ["recon-comma.log", "recon-comma-llama.log", "recon-comma-sglang.log"])
def test_a_size_that_is_only_a_comma_is_skipped_and_said(name: str) -> None:
    lines = list(Source(str(CASES / "robustness" / name)).lines())
    found = [note for made in ledgers(*lines) for note in made.notes]
    assert any("skipped, where a number should stand and none does" in note for note in found), found


@pytest.mark.parametrize("size", [",", ",,,", "", "nan", "1.2.3", "9" * 20, "1e5", "-"])
def test_whatever_stands_for_a_number_the_line_is_skipped_and_said(size: str) -> None:
    (made,) = ledgers(
        "INFO Initializing a V1 LLM engine (v0.11.2) with config: model='x'",
        "INFO GPU KV cache size: 1,000 tokens",
        f"INFO Available KV cache memory: {size} GiB",
    )
    assert made.run is not None
    assert made.run.text("available_gib") is None
    assert any(note.startswith("a line was skipped") and note.endswith(f"{size} GiB") for note in made.notes)


def test_a_log_with_nothing_else_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("INFO Available KV cache memory: , GiB\n")
    with pytest.raises(SystemExit):
        main(["reconcile", str(log)])
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "a line was skipped" in said.err


def test_a_list_of_layers_is_no_number_and_nothing_to_say() -> None:
    """llama.cpp prints `n_head_kv = [8, 8, 4]` where layers differ."""
    (made,) = ledgers(
        "print_info: n_head_kv        = [8, 8, 4]",
        "llama_kv_cache: size =   18.00 MiB (   768 cells,  12 layers,  1/1 seqs), K (f16):    9.00 MiB, V (f16):    9.00 MiB",
    )
    assert made.notes == ()


def test_whole_logs_have_no_such_line() -> None:
    for path in sorted((CASES / "logs").glob("*.log")):
        for run in engines_of(Log().read(Source(str(path)).lines())):
            assert run.unread == [], path.name


def test_the_slots_that_ollama_says_in_its_environment_are_read() -> None:
    """The name of the variable holds NUM, which stands for a number elsewhere."""
    found = Log().read(['msg="server config" env="map[OLLAMA_MAX_QUEUE:512 OLLAMA_NUM_PARALLEL:4]"'])
    assert found.current["ollama"].whole("parallel") == 4


def _most(tree: Any) -> Iterator[int]:
    """The upper bound of each repetition of a parsed pattern."""
    for kind, value in tree:
        if kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            yield value[1]
            yield from _most(value[2])
        elif kind is kinds.SUBPATTERN:
            yield from _most(value[3])
        elif kind is kinds.BRANCH:
            for branch in value[1]:
                yield from _most(branch)
        elif kind in (kinds.ASSERT, kinds.ASSERT_NOT):
            yield from _most(value[1])


def _patterns() -> list[re.Pattern[str]]:
    own = [part for pattern in PATTERNS for part in (pattern.regex, pattern.unreadable) if part is not None]
    return [*own, RANK, *(regex for _, phrase, found in ARGUMENTS for regex in (phrase, *(one for _, one in found)))]


def test_every_repetition_has_a_bound_so_that_a_search_is_linear_in_the_line() -> None:
    """Python's `re` tries a pattern at every place: time is places x bound. benchmarks/reconcile_lines.py measures it."""
    for pattern in _patterns():
        assert max(_most(parser.parse(pattern.pattern, pattern.flags)), default=0) <= 400, pattern.pattern
