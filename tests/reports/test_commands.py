"""`kvplan report`, `kvplan plot` and `kvplan.plots`, by what they write and how they refuse."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import kvplan
from kvplan.cli import main
from kvplan.plots import KINDS_OF_MODELS, KINDS_OF_RUNS
from planner.errors import KvplanError
from planner.options.tables import empty
from reports.asked import FLAGS, command_lines, question_of, report_asked
from reports.commands import report as report_command
from reports.kinds import KINDS, MODELS, PLANS

Write = Callable[..., Path]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ended(int(ended.value.code or 0), said.out, said.err)

    return call


Runner = Callable[..., Ended]


def refused(ended: Ended, words: str, code: int = 1) -> None:
    assert ended.code == code and words in ended.err and ended.err.count("\n") == 1, ended


def test_a_report_is_a_folder_with_a_page_markdown_figures_and_tables(run: Runner, tmp_path: Path) -> None:
    ended = run("report", "gpt2", "--gpu", "t4", "-o", "out")
    assert ended.code == 0 and "out/report.html" in ended.out
    listed = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert all((tmp_path / "out" / name).is_file() for name in listed["files"])
    assert {"report.html", "report.md", "figures/memory-bars.png", "tables/verdicts.csv"} <= set(listed["files"])


def test_rope_scaling_reaches_the_models_and_the_command_that_makes_it_again() -> None:
    values = {**empty(FLAGS), "gpu": ("l40s",), "seq": "64k", "rope_scaling": "4"}
    asked = report_asked(("qwen3-8b",), values)
    found = question_of(asked, ())
    assert found.specs[0].max_positions == 4 * 40960
    assert command_lines(asked, found)[0] == "kvplan report qwen3-8b --gpu l40s --seq 64k --rope-scaling 4"
    with pytest.raises(KvplanError, match="gpt2 has no RoPE"):
        question_of(report_asked(("gpt2",), values), ())


@pytest.mark.usefixtures("undrawn")
def test_the_folder_is_named_after_the_model(run: Runner, tmp_path: Path) -> None:
    run("report", "gpt2", "--gpu", "t4", "--seq", "512")
    assert (tmp_path / "report-gpt2" / "report.html").is_file()
    refused(run("report", "gpt2", "--gpu", "t4"), "--force")


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_how_to_make_it_again(run: Runner, tmp_path: Path, run_file: Write) -> None:
    path = run_file()
    run("report", "gpt2", "--gpu", "t4,l4", "--seq", "512", "--kv-dtype", "fp8", "--run", path, "-o", "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    again = f"kvplan report gpt2 --gpu t4,l4 --run {shlex.quote(str(path))} --seq 512 --kv-dtype fp8"
    assert again in text


@pytest.mark.usefixtures("undrawn")
def test_runs_alone_bring_their_model_and_their_device(run: Runner, tmp_path: Path, run_file: Write) -> None:
    assert run("report", "--run", run_file(), "-o", "out").code == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "# kvplan: gpt2" in text and "Example CPU" in text and "in fp32" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_of_a_model_that_is_in_no_catalogue_is_shown_without_an_estimate(
    run: Runner, tmp_path: Path, run_file: Write
) -> None:
    assert run("report", "--run", run_file(model="my own model"), "-o", "out").code == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "is not in the catalogue" in text and "## Speed, measured" in text and "## Memory" not in text


@pytest.mark.usefixtures("undrawn")
def test_two_runs_are_compared(run: Runner, tmp_path: Path, run_file: Write) -> None:
    ended = run("report", "--compare", run_file("a"), run_file("b", 1.5), "-o", "out")
    assert ended.code == 0
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "## a against b" in text and "beyond the spread" in text and "+50.0 %" in text


@pytest.mark.usefixtures("undrawn")
def test_a_bad_run_file_is_named_and_left_out(run: Runner, tmp_path: Path, run_file: Write) -> None:
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    ended = run("report", "gpt2", "--run", run_file(), "--run", "bad.json", "-o", "out", "--gpu", "t4")
    assert ended.code == 0 and "left out: bad.json" in ended.err
    assert "bad\\.json" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8").replace(
        "bad.json", "bad\\.json"
    )
    refused(run("report", "gpt2", "--run", "bad.json", "-o", "other"), "bad.json")
    refused(run("report", "--compare", "bad.json", run_file(), "-o", "other"), "bad.json")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ((), "which MODEL?", 2),
        (("--profile",), "--profile wants a MODEL", 2),
        (("no-such-model",), "no-such-model", 1),
        (("gpt2", "--gpu", "no-such-gpu"), "no-such-gpu", 1),
        (("gpt2", "--gpu", ","), "names no device", 2),
        (("gpt2", "--seq", "many"), "--seq", 1),
        (("gpt2", "--memory", "lots"), "--memory", 1),
        (("gpt2", "--compare", "one"), "--compare", 2),
        (("gpt2", "-o", ""), "name of a folder", 1),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    run: Runner, arguments: tuple[str, ...], words: str, code: int
) -> None:
    refused(run("report", *arguments), words, code)


def test_a_missing_extra_is_one_line_that_says_what_to_install(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.extra.find_spec", lambda name: None)
    for command in (("report", "gpt2"), ("plot", "memory-bars", "gpt2", "-o", "a.svg")):
        refused(run(*command), "pip install 'llm-kvplan[report]'")
    with pytest.raises(KvplanError, match="llm-kvplan"):
        kvplan.plots.memory_bars("gpt2")


def test_a_profile_without_torch_is_refused_before_anything_is_done(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_command, "find_spec", lambda name: None)
    refused(run("report", "gpt2", "--profile"), "llm-kvplan[profile]")


@pytest.mark.usefixtures("undrawn")
def test_a_profile_is_run_first_and_kept_in_the_folder(
    run: Runner, tmp_path: Path, run_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run_file()
    asked: list[list[str]] = []

    class Child:
        def __init__(self, words: list[str], **_: object) -> None:
            asked.append(words)
            Path(words[words.index("-o") + 1]).write_bytes(made.read_bytes())

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(report_command, "find_spec", lambda name: object())
    monkeypatch.setattr(subprocess, "Popen", Child)
    assert run("report", "gpt2", "--profile", "-o", "out").code == 0
    assert asked[0][:5] == [sys.executable, "-m", "kvplan", "profile", "gpt2"]
    assert (tmp_path / "out" / "run.json").read_bytes() == made.read_bytes() + b""
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "kvplan profile gpt2 -o run.json" in text and "## Prediction against measurement" in text


def test_a_profile_that_ends_without_a_result_is_said(
    run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Child:
        def __init__(self, words: list[str], **_: object) -> None:
            pass

        def wait(self) -> int:
            return 1

    monkeypatch.setattr(report_command, "find_spec", lambda name: object())
    monkeypatch.setattr(subprocess, "Popen", Child)
    ended = run("report", "gpt2", "--profile", "-o", "out")
    assert ended.code == 1 and "without a result" in ended.err and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_open_hands_the_page_to_the_browser(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: not opened.append(address))
    assert run("report", "gpt2", "--gpu", "t4", "-o", "out", "--open").code == 0
    assert opened == [(tmp_path / "out" / "report.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    ended = run("report", "gpt2", "--gpu", "t4", "-o", "out", "--open", "--force")
    assert ended.code == 0 and "no browser could be opened" in ended.err


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_plotted_by_itself(
    run: Runner, tmp_path: Path, run_file: Write, plan_file: Path, name: str
) -> None:
    asked: tuple[object, ...] = ("gpt2", "--gpu", "t4") if KINDS[name].needs == MODELS else ("--run", run_file("a"))
    if KINDS[name].needs == PLANS:
        asked = ("--plan", plan_file)
    if KINDS[name].needs == "two runs":
        asked = (*asked, "--run", run_file("b", 2.0))
    ended = run("plot", name, *asked, "-o", "out.svg", "--data")
    assert ended.code == 0, ended
    assert (tmp_path / "out.svg").read_bytes().startswith(b"<?xml") and (tmp_path / "out.csv").read_text().count(
        "\n"
    ) > 1
    assert ended.out.startswith("out.svg: ")


@pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_ending_decides_the_format(run: Runner, tmp_path: Path, ending: str, start: bytes) -> None:
    run("plot", "memory-bars", "gpt2", "--gpu", "t4", "-o", f"out.{ending}")
    assert (tmp_path / f"out.{ending}").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("memory-bar", "gpt2", "-o", "a.svg"), "did you mean memory-bars", 2),
        (("memory-bars", "-o", "a.svg"), "which MODEL?", 2),
        (("speedup", "gpt2", "-o", "a.svg"), "--run RESULT.json", 2),
        (("cost-vs-tpot", "gpt2", "-o", "a.svg"), "--plan PLAN.json", 2),
        (("memory-bars", "gpt2", "-o", "a.gif"), ".svg, .png, .pdf", 2),
        (("memory-bars", "gpt2", "-o", "none/a.svg"), "cannot be written", 1),
        (("kv-dtype-savings", "mamba-2.8b", "-o", "a.svg"), "nothing to draw", 1),
    ],
)
def test_a_plot_that_cannot_be_made_is_refused_in_one_line(
    run: Runner, arguments: tuple[str, ...], words: str, code: int
) -> None:
    refused(run("plot", *arguments), words, code)


def test_a_plot_replaces_the_file_that_o_names_as_every_command_does(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text("old", encoding="utf-8")
    assert run("plot", "memory-bars", "gpt2", "--gpu", "t4", "-o", "a.svg").code == 0
    assert "<svg" in (tmp_path / "a.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", KINDS_OF_MODELS)
def test_a_notebook_gets_a_figure_from_names(name: str) -> None:
    assert isinstance(getattr(kvplan.plots, name)("gpt2", "llama-3.1-8b", gpu="l4", seq=1024), Figure)


@pytest.mark.parametrize("name", KINDS_OF_RUNS)
def test_a_notebook_gets_a_figure_from_run_files(name: str, run_file: Write) -> None:
    paths = [str(run_file("a"))] + ([str(run_file("b", 2.0))] if name == "comparison" else [])
    assert isinstance(getattr(kvplan.plots, name)(*paths), Figure)


def test_a_notebook_gets_a_figure_from_a_plan(plan_file: Path) -> None:
    assert isinstance(kvplan.plots.cost_vs_tpot(str(plan_file)), Figure)


def test_there_is_no_other_plot() -> None:
    with pytest.raises(AttributeError, match="pie"):
        kvplan.plots.pie  # noqa: B018
    assert set(KINDS_OF_MODELS) <= set(dir(kvplan.plots))


def test_a_report_from_python_is_that_of_the_command(tmp_path: Path) -> None:
    page = kvplan.report("gpt2", output=str(tmp_path / "a"), gpu="l4", seq="1k")
    assert Path(page).name == "report.html" and (tmp_path / "a" / "report.md").is_file()
    assert "--seq 1k" in (tmp_path / "a" / "report.md").read_text(encoding="utf-8")
    with pytest.raises(kvplan.KvplanError, match="force="):
        kvplan.report("gpt2", output=str(tmp_path / "a"))
