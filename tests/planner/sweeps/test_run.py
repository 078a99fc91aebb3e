"""The same file whoever computes it, and what is done stays done."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from planner.errors import KvplanError
from planner.sweeps import questions, workers
from planner.sweeps.axes import Grid, parse_grid
from planner.sweeps.questions import Point, Row, Shared, shared_of
from planner.sweeps.run import Outcome, sweep

WORDS = ["model=gpt2,llama-7b,nope seq=1k..128k:x2 batch=1..64 kv_dtype=bf16,fp8 gpu=l4"]


def run(path: Path, work: Any = workers.here, resume: bool = False, words: list[str] = WORDS) -> Outcome:
    grid = parse_grid("estimate", words)
    return sweep(grid, shared_of(grid), str(path), work, resume=resume)


def stops_after(chunks: int, error: type[BaseException]) -> Any:
    def work(shared: Shared, points: Iterable[Sequence[Point]]) -> Generator[list[Row], None, None]:
        for done, rows in enumerate(workers.here(shared, points)):
            if done == chunks:
                raise error
            yield rows

    return work


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "whole.csv"
    found = run(path)
    assert (found.points, found.answered, found.refused, found.complete) == (336, 224, 112, True)
    return path.read_bytes()


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_processes_writes_the_same_bytes(tmp_path: Path, whole: bytes, count: int) -> None:
    run(tmp_path / "a.csv", partial(workers.in_processes, workers=count))
    assert (tmp_path / "a.csv").read_bytes() == whole


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on_to_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path, full = tmp_path / f"a.{suffix}", tmp_path / f"full.{suffix}"
    run(full)
    first = run(path, stops_after(1, KeyboardInterrupt))
    assert not first.complete and first.answered + first.refused == 128
    second = run(path, resume=True)
    assert second.complete and second.kept == 128
    assert path.read_bytes() == full.read_bytes()


def test_a_sweep_that_breaks_keeps_what_is_done(tmp_path: Path) -> None:
    with pytest.raises(KvplanError):
        run(tmp_path / "a.csv", stops_after(2, KvplanError))
    assert run(tmp_path / "a.csv", resume=True).kept >= 224


def test_a_sweep_that_breaks_at_once_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(KvplanError):
        run(tmp_path / "a.csv", stops_after(0, KvplanError))
    assert not run(tmp_path / "a.csv", stops_after(0, KeyboardInterrupt)).complete
    assert (tmp_path / "a.csv").read_text() == "old"


def test_a_larger_grid_keeps_the_points_of_a_smaller_one_wherever_they_are(tmp_path: Path, whole: bytes) -> None:
    small = [WORDS[0].replace("gpt2,llama-7b,nope", "llama-7b").replace("bf16,fp8", "fp8")]
    run(tmp_path / "a.csv", words=small)
    assert run(tmp_path / "a.csv", resume=True).kept == 56
    assert (tmp_path / "a.csv").read_bytes() == whole


def test_rows_of_other_formulas_and_refused_ones_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(questions, "FORMULAS", questions.FORMULAS - 1)
        run(tmp_path / "a.csv")
    assert run(tmp_path / "a.csv", resume=True).kept == 0
    assert run(tmp_path / "a.csv", resume=True).kept == 224


def test_a_row_is_computed_again_when_its_model_means_something_else(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    text = '{"model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 1000, "intermediate_size": 1024}'  # fmt: skip
    words = [f"model=gpt2,{config} seq=1k"]
    config.write_text(text)
    run(tmp_path / "a.csv", words=words)
    assert run(tmp_path / "a.csv", words=words, resume=True).kept == 2
    config.write_text(text.replace("4,", "5,", 1))
    assert run(tmp_path / "a.csv", words=words, resume=True).kept == 1
    config.write_text(text.replace("4,", "5,", 1).replace("1024", "2048"))  # as many layers, and wider ones
    assert run(tmp_path / "a.csv", words=words, resume=True).kept == 1


def test_a_file_of_another_question_is_refused_on_resume(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("model,seq\n")
    with pytest.raises(KvplanError, match="--resume"):
        run(tmp_path / "a.csv", resume=True)


def test_a_worker_that_dies_is_one_line(tmp_path: Path) -> None:
    grid = parse_grid("estimate", ["model=gpt2 seq=1k"])
    with pytest.raises(KvplanError, match="fewer --workers"):
        sweep(grid, _Poison(grid), str(tmp_path / "a.csv"), partial(workers.in_processes, workers=2))


class _Poison(Shared):
    """What all points have in common, deadly to unpickle."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid.question, {}, {}, {}, {})

    def __reduce__(self) -> Any:
        import os

        return os._exit, (9,)
