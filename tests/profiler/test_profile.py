"""A whole profile of a small model: what is checked, what is said, what is kept. No timing is asserted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the profiler needs torch: pip install 'llm-kvplan[profile]'")

from planner.errors import BadRequest, UnsupportedModel
from planner.lookup import model_spec
from planner.machine.calibration import device_file_path
from profiler import memory, speed
from profiler.caches import make_cache
from profiler.device import Device, choose
from profiler.generate import cache_for
from profiler.gpt import build
from profiler.measure import Times
from profiler.profile import Profile, Settings, profile
from profiler.results import Check, Measurement, Point, load
from profiler.speed import Curve, Plan, crossing_tokens, integrate
from profiler.sweep import Grid, parse_grid, sweep
from tests.profiler.small_models import small

QUICK = Settings(device="cpu", dtype="fp32", outputs=(3, 8), prompt_tokens=4, repeats=2)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def result() -> Measurement:
    return profile(small("gpt2"), replace(QUICK, caches=("static", "concat", "paged")))


def test_every_size_that_should_be_exact_is(result: Measurement) -> None:
    exact = [check for check in result.checks if check.expect == "exact"]
    assert {check.name for check in exact} == {"kv_bytes", "weight_bytes", "concat_transient_bytes"}
    strategies = {check.where.split(",")[0] for check in exact if check.name == "kv_bytes"}
    assert strategies == {"none", "concat", "static", "sliding", "paged", "int8", "int4"}
    assert all(check.verdict == "exact" for check in exact) and not result.failed


def test_peaks_hold_the_cache_and_some_activations(result: Measurement) -> None:
    peaks = [check for check in result.checks if check.name.endswith("_peak_bytes")]
    assert len(peaks) == 6
    assert all(check.measured and check.low is not None and check.measured >= check.low for check in peaks), peaks


def test_each_curve_has_its_points(result: Measurement) -> None:
    assert {point.cache for point in result.of("decode")} == {"static", "concat", "paged"}
    assert [p.context_tokens for p in result.of("prefill")] == [16, 128]
    assert [p.new_tokens for p in result.of("speedup")] == [3, 8]
    assert result.complete and result.weights == "random" and result.layers_run == 3


def test_integrated_times_say_so_and_measured_ones_say_that(result: Measurement) -> None:
    for point in result.of("generate_uncached"):
        assert (
            point.readings["total_seconds"].kind == "estimated" and "integrated" in point.readings["total_seconds"].note
        )
    assert all(p.readings["total_seconds"].kind == "measured" for p in result.of("generate"))
    assert any(check.name == "uncached_seconds" for check in result.checks)


def test_full_runs_are_measured() -> None:
    found = profile(small("gpt2"), replace(QUICK, full=True, outputs=(4,)))
    assert [p.readings["total_seconds"].kind for p in found.of("generate_uncached")] == ["measured"]


def test_interrupted_work_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "decode_times", interrupt)
    found = profile(small("gpt2"), QUICK)
    assert not found.complete and found.of("prefill") and not found.of("decode")
    assert any("interrupted" in warning for warning in found.warnings)
    assert Measurement.from_json(found.to_json()) == found


def test_a_size_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = memory.strategy_bytes
    monkeypatch.setattr(memory, "strategy_bytes", lambda *a, **k: real(*a, **k) + 1)
    model = build(small("llama"), dtype="fp32")
    checks = memory.kv_checks(model, choose("cpu"), ("static",), batch=1, prompt_tokens=4, max_tokens=16)
    assert [check.failed for check in checks] == [True]


def test_views_of_a_fused_projection_would_be_found() -> None:
    """K and V kept as views of [q, k, v] hold one and a half times their size."""
    model = build(small("gpt2"), dtype="fp32")
    cache = cache_for(model, "concat", batch=1, max_tokens=8)
    fused = torch.zeros(1, 4, 8, 3 * 16)
    cache.layers = [(fused[..., 16:32], fused[..., 32:])] * len(cache.shapes)  # type: ignore[attr-defined]
    cache.lengths = [8] * len(cache.shapes)
    checks = memory.kv_check(cache, cache.shapes[:1], Device(), where="views")
    assert checks[0].measured == 1.5 * checks[0].predicted and checks[0].failed


def test_one_more_token_doubles_a_kept_tuple_and_hardly_moves_one_replaced_by_layers() -> None:
    model = build(small("llama"), dtype="fp32")
    by_layer, kept = memory.transient_checks(model, choose("cpu"), batch=2, tokens=60)
    assert by_layer.verdict == kept.verdict == "exact"
    cache_bytes = 2 * 60 * 2 * 2 * 16 * 4 * 3  # batch, tokens, K and V, heads, dim, fp32, layers
    assert by_layer.measured is not None and by_layer.measured / cache_bytes == pytest.approx(1 + 1 / 3, rel=0.05)
    assert kept.measured is not None and kept.measured / cache_bytes == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("strategy", ["concat", "static", "sliding", "paged", "int8", "int4"])
def test_a_cache_can_be_filled_without_the_model(strategy: str) -> None:
    model = build(small("mistral_window"), dtype="fp32")
    cache = cache_for(model, strategy, batch=2, max_tokens=20)
    speed.fill(cache, 17)
    assert cache.tokens == 17
    checks = memory.kv_check(cache, cache.shapes, Device(), where=strategy)
    assert checks[0].verdict == "exact"


def test_decode_is_timed_up_to_the_asked_length() -> None:
    model = build(small("gpt2"), dtype="fp32")
    assert len(speed.decode_times(model, choose("cpu"), batch=2, context=256, steps=4).seconds) >= 3
    assert len(speed.decode_times(model, choose("cpu"), batch=1, context=4).seconds) == 1


def test_integration_is_linear_between_samples() -> None:
    steps = {10: Times((1.0,)), 12: Times((3.0,))}
    curve = integrate(steps, 10, 3)
    assert [curve.seconds(n).value for n in (1, 2, 3)] == [1.0, 3.0, 6.0]
    assert curve.seconds(3).kind == "estimated"


def test_a_measured_run_is_continued() -> None:
    curve = integrate({12: Times((2.0,))}, 10, 4, after=[5.0, 6.0])
    assert [curve.seconds(n).value for n in (1, 2, 3, 4)] == [5.0, 6.0, 8.0, 10.0]
    assert [curve.seconds(n).kind for n in (2, 3)] == ["measured", "estimated"]


def test_the_crossing_is_where_the_cache_wins_for_good() -> None:
    uncached = Curve(((1.0, 2.0, 3.0, 4.0),), 4)
    assert crossing_tokens(Curve(((1.5, 2.5, 2.9, 3.0),), 4), uncached, 4) == 3
    assert crossing_tokens(Curve(((0.5, 2.5, 2.9, 3.0),), 4), uncached, 4) == 3
    assert crossing_tokens(Curve(((9.0, 9.0, 9.0, 9.0),), 4), uncached, 4) is None
    assert (
        crossing_tokens(Curve(((0.5, 1.0, 1.5, 2.0),), 4), uncached, 4) == 2
    )  # the first token is a prefill either way


def test_two_depths_predict_a_third() -> None:
    found = profile(small("gpt2"), replace(QUICK, layers=2, extrapolate=True, outputs=()))
    assert found.layers_run == 2 and any("2 of 3 layers" in note for note in found.notes)
    grown = [p for p in found.points if p.mode == "extrapolated"]
    assert {p.what for p in grown} == {"prefill", "decode"}
    assert all(r.kind == "estimated" and "linear in depth" in r.note for p in grown for r in p.readings.values())


def test_what_would_not_fit_is_refused_before_it_is_built() -> None:
    class Tiny(Device):
        free_bytes = 1 << 20  # type: ignore[assignment]

    with pytest.raises(BadRequest, match="are free"):
        Profile(model_spec("gpt2"), Settings(), Tiny()).build()


def test_a_depth_that_fits_is_named() -> None:
    class Some(Device):
        free_bytes = 8 << 30  # type: ignore[assignment]

    with pytest.raises(BadRequest, match=r"--layers \d --extrapolate fits"):
        Profile(model_spec("llama-7b"), Settings(dtype="fp32"), Some()).build()


def _packed_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "profiler.layout.layer_times", lambda *_, **__: {"plain": Times((2.0,)), "packed": Times((1.0,))}
    )


def test_the_faster_layout_is_what_is_run_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    _packed_is_faster(monkeypatch)
    found = profile(small("gpt2"), replace(QUICK, caches=("static",)))
    assert found.linear == "packed" and not found.failed
    assert {point.linear for point in found.points} == {"packed"}
    assert any("took packed matrices" in note for note in found.notes)
    assert {"weight_bytes", "packed_bytes"} <= {check.name for check in found.checks}


def test_matrices_stay_plain_where_packed_ones_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    _packed_is_faster(monkeypatch)
    found = Profile(small("gpt2"), replace(QUICK, compile=True))
    assert found.settings.linear == "plain" and "torch.compile" in found.found.notes[0]


def test_matrices_stay_plain_where_the_tied_head_has_no_room_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    _packed_is_faster(monkeypatch)
    spec = model_spec("gpt2")
    head = 4 * spec.vocab * spec.hidden
    wanted = Profile(spec, replace(QUICK, linear="plain")).wanted_bytes(spec)

    class Room(Device):
        free_bytes = wanted + head - 1  # type: ignore[assignment]

    class More(Device):
        free_bytes = wanted + head  # type: ignore[assignment]

    tight, wide = Profile(spec, QUICK, Room()), Profile(spec, QUICK, More())
    assert tight.settings.linear == "plain" and "no room for the tied head" in tight.found.notes[0]
    assert wide.settings.linear == "packed"


def test_a_sweep_chooses_for_all_its_batches_and_keeps_the_layout_when_it_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def seconds(*_: object, rows: int, **__: object) -> dict[str, Times]:
        seen.append(rows)
        return {"plain": Times((2.0,)), "packed": Times((1.0,))}

    monkeypatch.setattr("profiler.layout.layer_times", seconds)
    grid = Grid((1, 4), (16,), ("static",), ("fp32",))
    first = sweep(small("gpt2"), QUICK, grid)
    assert seen == [1, 4] and {p.linear for p in first.points} == {"packed"}
    monkeypatch.setattr(
        "profiler.layout.layer_times", lambda *_, **__: {"plain": Times((1.0,)), "packed": Times((2.0,))}
    )
    more = sweep(small("gpt2"), QUICK, replace(grid, context=(16, 32)), begun=first)
    assert {p.linear for p in more.points} == {"packed"}


def test_what_cannot_be_built_is_refused_at_once() -> None:
    with pytest.raises(UnsupportedModel, match="cannot build"):
        profile(model_spec("mamba-2.8b"), Settings())


@pytest.mark.parametrize(
    "settings",
    [
        {"caches": ("ring",)}, {"caches": ("none",)}, {"caches": ()}, {"prompt": "Once"}, {"extrapolate": True, "layers": 1},
        {"layers": 9}, {"dtype": "int8"}, {"device": "tpu"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(BadRequest):
        profile(small("gpt2"), replace(QUICK, **settings))  # type: ignore[arg-type]


def test_outputs_beyond_the_context_are_left_out_and_that_is_said() -> None:
    found = profile(small("gpt2"), replace(QUICK, outputs=(3, 5000), caches=("static",)))
    assert [p.new_tokens for p in found.of("generate")] == [3]
    assert any("5000" in note for note in found.notes)


def test_a_trace_is_a_chrome_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    profile(small("gpt2"), replace(QUICK, trace=str(path), outputs=(), caches=("static",)))
    assert '"traceEvents"' in path.read_text()


def test_a_device_file_of_another_machine_is_not_used() -> None:
    from tests.planner.machine.test_calibration import machine

    Path(device_file_path()).write_text(machine().to_json())
    found = profile(small("gpt2"), replace(QUICK, outputs=(), caches=("static",)))
    assert any("imagined" in note and "not used" in note for note in found.notes)


# --- the grid


def test_a_grid_is_read() -> None:
    assert parse_grid(["batch=1,4 context=128..512", "cache=concat,static", "dtype=float32,bf16"], "fp32") == Grid(
        (1, 4), (128, 256, 512), ("concat", "static"), ("fp32", "bf16")
    )


@pytest.mark.parametrize(
    "text", ["batch", "speed=1", "batch=", "batch=0", "batch=x", "cache=ring", "dtype=int8", "context=9..3", "batch=1 batch=2",
             "batch=1..1000000 context=1..1000000000 cache=static,concat,paged,int8,int4,none dtype=fp32,bf16,fp16"],
)  # fmt: skip
def test_a_grid_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_grid([text], "fp32")


SMALL_GRID = Grid(batch=(1, 2), context=(16, 512), cache=("static", "none"), dtype=("fp32", "bf16"))


def test_a_sweep_runs_what_fits_and_says_what_does_not() -> None:
    found = sweep(small("gpt2"), QUICK, SMALL_GRID)
    assert not found.failed and found.dtype == "fp32,bf16"
    places = {(p.dtype, p.cache, p.batch, p.context_tokens): p for p in found.points if p.what == "decode"}
    assert len(places) == 16
    for (_, _, _, context), point in places.items():
        assert point.status == ("skipped" if context == 512 else "done")
    assert all("positions" in p.note for p in found.points if p.status == "skipped")
    assert {(p.dtype, p.batch) for p in found.of("prefill")} == {("fp32", 1), ("fp32", 2), ("bf16", 1), ("bf16", 2)}


def test_a_sweep_skips_what_our_own_estimate_says_is_too_much() -> None:
    class Full(Device):
        free_bytes = 100_000  # type: ignore[assignment]

    found = sweep(small("gpt2"), QUICK, Grid(context=(64,), dtype=("fp32",)), device=Full())
    assert [(p.status, "by our estimate" in p.note) for p in found.points] == [("skipped", True)]


def test_a_sweep_survives_a_point_that_runs_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    real = speed.decode_times

    def sometimes(*arguments: object, **more: object) -> Times:
        if more["batch"] == 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(speed, "decode_times", sometimes)
    found = sweep(small("gpt2"), QUICK, Grid((1, 2, 3), (16,), ("static",), ("fp32",)))
    assert [p.status for p in found.points if p.what == "decode"] == ["done", "out_of_memory", "done"]


def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls, path = speed.decode_times, [], tmp_path / "run.json"

    def counted(*arguments: object, **more: object) -> Times:
        calls.append(more["batch"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(speed, "decode_times", counted)
    grid = Grid((1, 2), (16,), ("static",), ("fp32", "bf16"))
    first = sweep(small("gpt2"), QUICK, grid, save=lambda found: path.write_text(found.to_json()) and None)
    assert not first.complete and len(first.of("decode")) == 1
    second = sweep(small("gpt2"), QUICK, grid, begun=load(str(path)))
    assert second.complete and len(second.of("decode")) == 4
    assert calls == [1, 2, 2, 1, 2]  # the first point is not run again
    with pytest.raises(BadRequest.__base__, match="--resume"):  # type: ignore[arg-type]
        sweep(small("llama"), QUICK, grid, begun=second)


def test_points_and_checks_are_plain_data() -> None:
    assert Point("decode", note="x").key == Point("decode", note="y").key
    assert Check("a_bytes", "", 1, 1) == Check("a_bytes", "", 1, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_sizes_and_peaks() -> None:
    found = profile(
        model_spec("gpt2"), Settings(device="cuda", dtype="bf16", outputs=(10, 25), caches=("static", "concat"))
    )
    assert not found.failed
    assert any(check.name == "kv_allocated_bytes" and check.verdict == "exact" for check in found.checks)


def test_measured_plan_has_a_budget() -> None:
    model = build(small("gpt2"), dtype="fp32")
    device = choose("cpu")
    assert speed.uncached_times(model, device, batch=1, tokens=8, plan=Plan(3, 0.0)).seconds
    assert make_cache("none", (), max_tokens=1).nbytes == 0
