"""Runs made by hand, the same each time: no torch, no clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from profiler.results import Check, Environment, Measurement, Point, Reading
from reports.extra import NEEDED
from reports.question import Question, question
from reports.runs import Run

# Without the extra `report` there is nothing to test here.
collect_ignore_glob = [] if all(map(find_spec, NEEDED)) else ["test_*.py"]
OUTPUTS = (10, 100, 1000)


def reading(value: float, spread: float = 0.02, kind: str = "measured") -> Reading:
    return Reading(value, kind, value * (1 - spread), value * (1 + spread), 5)


def environment(device: str = "Example CPU", date: str = "2026-11-22T10:00:00+00:00") -> Environment:
    return Environment(device, "cpu", "Linux 6", "2.13.0", "3.11.7", "Linux-6", 2, 16 << 30, "0.1.0", "abc", date)


def measurement(slower: float = 1.0, model: str = "gpt2", cache: str = "static", batch: int = 1) -> Measurement:
    """A run of gpt2 in fp32; `slower` stretches every time."""
    points = [
        Point("prefill", batch, tokens, 0, cache, "fp32", readings={
            "ttft_seconds": reading(slower * tokens / 1000), "tokens_per_s": reading(1000 / slower),
            "flops_per_s": reading(1e11 / slower), "flops_share": reading(0.5 / slower)})
        for tokens in (16, 256, 1024)
    ]  # fmt: skip
    points += [
        Point("decode", size, tokens, 0, cache, "fp32", readings={
            "step_seconds": reading(slower * (0.03 + tokens / 1e5)), "tokens_per_s": reading(30 / slower),
            "read_bytes_per_s": reading(1.5e10 / slower), "read_share": reading(0.5 / slower)})
        for size in (batch, 4 * batch)
        for tokens in (64, 1024)
    ]  # fmt: skip
    for new in OUTPUTS:
        fast, slow = slower * new * 0.03, slower * new * (0.02 + new / 5000)
        points.append(
            Point(
                "generate",
                batch,
                16,
                new,
                cache,
                "fp32",
                readings={"total_seconds": reading(fast), "tokens_per_s": Reading(new / fast)},
            )
        )
        points.append(Point("generate_uncached", batch, 16, new, "none", "fp32", readings={
            "total_seconds": reading(slow, kind="estimated"), "tokens_per_s": Reading(new / slow, "estimated")}))  # fmt: skip
        points.append(
            Point("speedup", batch, 16, new, cache, "fp32", readings={"speedup": Reading(slow / fast, "estimated")})
        )
    points.append(Point("decode", batch, 4096, 0, cache, "fp32", status="out_of_memory", note="needs 40 GiB"))
    checks = (
        Check("kv_bytes", f"{cache}, batch 1, 19 of 128 tokens", 9437184, 9437184),
        Check("kv_bytes", "paged, batch 1, 19 of 128 tokens", 9437216, 9437216),
        Check("weight_bytes", "all layers", 497759232, 497759232),
        Check("decode_peak_bytes", f"{cache}, 256 tokens", 40_000_000, 44_000_000, "estimated", 20_000_000, 80_000_000, "twice"),
        Check("decode_step_seconds", "batch 1, 64 tokens", 0.030, 0.031, "estimated", 0.02, 0.04),
        Check("prefill_seconds", "batch 1, 256 tokens", 0.25, None, "estimated", reason="not timed"),
        Check("speedup", "100 new tokens", 1.4, 1.33, "estimated", 1.2, 1.6),
    )  # fmt: skip
    figures = {
        "crossing_tokens": Reading(50, "estimated"),
        "read_bytes_per_s": reading(3e10),
        "flops_per_s": reading(2e11),
    }
    return Measurement(
        model, "gpt2", 124439808, 12, 12, "fp32", "plain", "random", environment(), checks, tuple(points), figures,
        notes=("a note",), warnings=("decode: wide spread",),
    )  # fmt: skip


@pytest.fixture
def make_run() -> Callable[..., Run]:
    def make(name: str = "first", slower: float = 1.0, **more: object) -> Run:
        return Run(name, f"{name}.json", measurement(slower, **more))  # type: ignore[arg-type]

    return make


@pytest.fixture
def run_file(tmp_path: Path) -> Callable[..., Path]:
    """`run_file("a", slower=2)`: a result on disk."""

    def write(name: str = "first", slower: float = 1.0, **more: object) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(measurement(slower, **more).to_json(), encoding="utf-8")  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture(scope="session")
def plan_answer() -> dict[str, object]:
    """An answer of `kvplan plan --json`: gpt2 on two small devices, both with a price."""
    from planner.deployment.answer import answer_dict
    from planner.deployment.question import Question as Asked
    from planner.deployment.search import search
    from planner.lookup import device, model_spec
    from planner.workloads.lengths import from_percentiles
    from planner.workloads.load import load
    from planner.workloads.targets import Targets

    lengths = from_percentiles("p50=200,p95=500")
    asked = load(lengths, from_percentiles("p50=50,p95=200"), users=64)
    places = (device("l4"), device("t4"))
    return answer_dict(search(Asked(model_spec("gpt2"), places, asked, Targets(1.0, 0.03), as_published=True)), 5)


@pytest.fixture
def plan_file(tmp_path: Path, plan_answer: dict[str, object]) -> Path:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan_answer), encoding="utf-8")
    return path


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as empty drawings, where a test looks at everything but them."""
    from reports.blocks import Picture

    drawing = b'<?xml version="1.0"?><svg viewBox="0 0 100 100"><g/></svg>'
    monkeypatch.setattr(Picture, "files", property(lambda picture: {"svg": drawing, "png": b"\x89PNG"}))


@pytest.fixture(scope="session")
def five() -> Question:
    """MHA, GQA, MLA, window and hybrid on a small and a large device."""
    models = ("llama-7b", "llama-3.1-8b", "deepseek-v3", "gemma-3-27b", "qwen3-next-80b")
    return question(models, gpus=("rtx-4090", "h100-sxm"))


@pytest.fixture(autouse=True)
def _no_user_catalogue(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVPLAN_CONFIG_DIR", raising=False)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
