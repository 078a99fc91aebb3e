"""The lines that engines' own sources print about memory: each is read, shown, says why a server stopped, or is known.

`tests/cases/logs/lines.jsonl`: the form of a line with figures of our own; `source`: package, versions and file that print it;
`reads`: facts that the ledger uses, `shows`: readings, `stops` and `mend`: why it stopped, `known`: what it is about.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli import main
from planner.reconcile.facts import Log, Run, engines_of
from planner.reconcile.known import KNOWN, about
from planner.reconcile.ledger import Given, Ledger, readings_of
from planner.reconcile.patterns import BESIDE, PATTERNS
from planner.reconcile.reader import Source
from planner.reconcile.refusals import REFUSALS
from planner.reconcile.runs import ledger_of

LOGS = Path(__file__).parents[2] / "cases" / "logs"
ROWS = [json.loads(line) for line in (LOGS / "lines.jsonl").read_text().splitlines()]
WRAPPED = {
    "docker": lambda line: json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-01-05T10:00:00Z"}),
    "journald json": lambda line: json.dumps({"__CURSOR": "s=1", "MESSAGE": line, "PRIORITY": "6"}),
    "cloud": lambda line: json.dumps({"insertId": "a", "textPayload": line, "severity": "INFO"}),
    "shipper": lambda line: json.dumps({"timestamp": "2026-01-05T10:00:00Z", "level": "info", "message": line}),
    "kubernetes": lambda line: f"2026-01-05T10:00:00.000000000Z stderr F {line}",
    "journald": lambda line: f"Jan 05 10:00:00 host server[4321]: {line}",
    "rank": lambda line: f"(Worker_TP1 pid=102) {line}",
    "ray": lambda line: f"\x1b[36m(RayWorkerProc pid=77, ip=10.0.0.2)\x1b[0m {line}",
    "colours": lambda line: f"\x1b[32mINFO\x1b[0m {line}\x1b[K",
    "crlf": lambda line: f"{line}\r",
}


def run_of(row: dict[str, Any], tmp_path: Path, line: str = "") -> tuple[Log, Run | None]:
    """The log of this line alone, through the file reader, and the run of its engine."""
    path = tmp_path / "server.log"
    path.write_text((line or row["line"]) + "\n")
    log = Log().read(Source(str(path)).lines())
    runs = [run for run in [*log.complete.values(), *log.current.values()] if run.engine == row["engine"]]
    return log, runs[0] if runs else None


def ledger_of_line(run: Run) -> Ledger:
    return ledger_of(run, Given())


@pytest.mark.parametrize("row", ROWS, ids=[f"{row['engine']}-{n}" for n, row in enumerate(ROWS)])
def test_a_line_is_read_shown_or_known(row: dict[str, Any], tmp_path: Path) -> None:
    log, run = run_of(row, tmp_path)
    if "known" in row:
        assert about(row["line"]) == row["known"] and log.known == {row["known"]: 1}
        return
    assert run is not None
    assert {name: run.text(name) for name in row.get("reads", {})} == row.get("reads", {})
    readings = readings_of(run)
    assert {name: readings.get(name) for name in row.get("shows", {})} == row.get("shows", {})
    if "stops" in row:
        stopped = ledger_of_line(run).stopped
        assert stopped is not None and row["stops"] in stopped.text
        assert any(mend.startswith(row["mend"]) for mend in stopped.mends), stopped.mends


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_of_a_line_do_not_matter(wrapper: str, tmp_path: Path) -> None:
    """Every form inside docker's JSON, Kubernetes', journald's and Ray's prefixes, colours and carriage returns."""
    for row in ROWS:
        if "known" in row or row["line"].startswith("  "):
            continue
        _, run = run_of(row, tmp_path, WRAPPED[wrapper](row["line"]))
        assert run is not None, row["line"]
        assert {name: run.text(name) for name in row.get("reads", {})} == row.get("reads", {}), row["line"]
        readings = readings_of(run)
        assert {name: readings.get(name) for name in row.get("shows", {})} == row.get("shows", {}), row["line"]


def test_every_row_beside_the_pool_and_every_refusal_has_a_line() -> None:
    lines = [row["line"] for row in ROWS]
    patterns = [*BESIDE, *PATTERNS[len(PATTERNS) - len(REFUSALS) :]]
    assert [one.regex.pattern[:70] for one in patterns if not any(one.search(line) for line in lines)] == []


def test_a_known_line_holds_nothing_that_is_read() -> None:
    for row in ROWS:
        if "known" in row:
            assert not any(pattern.search(row["line"]) for pattern in PATTERNS), row["line"]
    assert len({phrase for phrases in KNOWN.values() for phrase in phrases}) == sum(map(len, KNOWN.values()))


def test_a_warning_of_a_server_that_started_is_no_reason(tmp_path: Path) -> None:
    """vLLM with VLLM_ALLOW_LONG_MAX_MODEL_LEN warns in the words of its error, and goes on."""
    row = next(row for row in ROWS if "User-specified max_model_len" in row["line"])
    path = tmp_path / "server.log"
    path.write_text(f"{row['line']}\nINFO GPU KV cache size: 1,000 tokens\n")
    (run,) = engines_of(Log().read(Source(str(path)).lines()))
    assert ledger_of_line(run).stopped is None


def test_only_lines_that_say_nothing_of_memory_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.log"
    path.write_text("".join(row["line"] + "\n" for row in ROWS if row.get("known") == "drafts"))
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(["reconcile", str(path)]))
    said = capsys.readouterr()
    assert end.value.code == 1 and said.out == "" and said.err.count("\n") == 1
    assert "known and say nothing of memory (6 of drafts)" in said.err


def test_a_line_broken_by_a_terminal_or_a_page_is_read(tmp_path: Path) -> None:
    """Broken at a space by a page, at column 80 by a terminal; llama.cpp's next line is no rest of the one before."""
    one = "INFO [worker.py:287] the current vLLM instance can use total_gpu_memory (14.74GiB) x gpu_memory_utilization (0.69) = 10.22GiB"
    for text in (
        one.replace("utilization (", "utilization\n("),
        one[:80] + "\n" + one[80:],
        one[:80] + "\r\n" + one[80:],
    ):
        (tmp_path / "server.log").write_text(text + "\nINFO [worker.py:300] hello\n")
        run = Log().read(Source(str(tmp_path / "server.log")).lines()).current["vllm"]
        assert (run.text("card_gib"), run.text("fraction"), run.text("budget_gib")) == ("14.74", "0.69", "10.22")
    lines = list(Source(str(LOGS / "llama-cpp.log")).lines())
    text = (LOGS / "llama-cpp.log").read_text()
    assert all(line in text for line in lines)


def test_the_last_lines_of_an_error_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tail.txt"
    path.write_text(
        """    raise ValueError(
ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len
(max_position_embeddings=32768 or model_max_length=None in model's config.json).
Traceback (most recent call last):
  File "/usr/local/bin/vllm", line 8, in <module>
    sys.exit(main())
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
    )
    with pytest.raises(SystemExit):
        main(["reconcile", str(path)])
    said = capsys.readouterr()
    assert said.err == "" and "STOPPED: vLLM refused to start: max_model_len 65536 is more than the 32768" in said.out
    assert "try --max-model-len 32768" in " ".join(said.out.split())
