"""A grid of decode and prefill points: `batch=1,4,16 context=128..4096 cache=concat,static dtype=fp32,bf16`.

What would not fit by our own estimate is skipped and says so; a point that runs out of memory is noted and the
grid goes on; a result that was begun is continued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from planner.dtypes.names import float_dtype
from planner.errors import BadRequest, KvplanError, one_line
from planner.memory.cache_strategies import STRATEGIES
from planner.model.spec import ModelSpec
from planner.speed.work import prefill_flops
from planner.terminal.progress import Progress
from planner.units import human_bytes, parse_lengths
from profiler import memory, speed
from profiler.device import Device, is_out_of_memory
from profiler.generate import cache_for
from profiler.profile import Profile, Settings
from profiler.results import BadResult, Measurement, Point, Reading
from profiler.speed import Plan

AXES = ("batch", "context", "cache", "dtype")
MAX_POINTS = 5000
PREFILL_LIMIT_SECONDS = 10.0


@dataclass(frozen=True)
class Grid:
    """The values of each axis; every combination is a point."""

    batch: tuple[int, ...] = (1,)
    context: tuple[int, ...] = (256,)
    cache: tuple[str, ...] = ("static",)
    dtype: tuple[str, ...] = ()

    def places(self) -> list[tuple[str, str, int, int]]:
        """(dtype, cache, batch, context), one dtype after the other since each is a model built anew."""
        return list(product(self.dtype, self.cache, self.batch, self.context))


def parse_grid(items: Iterable[str], dtype: str) -> Grid:
    """Reads a grid, `batch=1,4` and the like; an axis that is not named has one value.

    >>> parse_grid(["batch=1,4", "context=128..512"], "fp32")
    Grid(batch=(1, 4), context=(128, 256, 512), cache=('static',), dtype=('fp32',))
    """
    given: dict[str, tuple[str, ...]] = {}
    for item in (word for text in items for word in text.split()):
        name, equals, values = item.partition("=")
        if not equals or name not in AXES or name in given:
            raise BadRequest(
                f"--sweep {one_line(item, 40)!r} is not an axis; write each once: batch=1,4,16 context=128..4096 "
                "cache=concat,static dtype=fp32,bf16"
            )
        given[name] = tuple(dict.fromkeys(value for value in values.split(",") if value))
    numbers = {name: tuple(parse_lengths(",".join(given[name]))) for name in ("batch", "context") if given.get(name)}
    for name in given.get("cache", ()):
        if name not in STRATEGIES:
            raise BadRequest(f"--sweep cache={one_line(name, 30)} is not known; choose from {', '.join(STRATEGIES)}")
    dtypes = []
    for name in given.get("dtype", (dtype,)):
        known = float_dtype(name)
        if known is None:
            raise BadRequest(
                f"--sweep dtype={one_line(name, 30)} is not one the profiler runs in; choose fp32, fp16, bf16"
            )
        dtypes.append(known)
    if empty := [name for name, values in given.items() if not values]:
        raise BadRequest(f"--sweep {empty[0]}= names no value")
    grid = Grid(
        batch=numbers.get("batch", (1,)),
        context=numbers.get("context", (256,)),
        cache=given.get("cache", ("static",)),
        dtype=tuple(dict.fromkeys(dtypes)),
    )
    if len(grid.places()) > MAX_POINTS:
        raise BadRequest(f"--sweep is {len(grid.places()):,} points; {MAX_POINTS:,} at most")
    return grid


def sweep(
    spec: ModelSpec,
    settings: Settings,
    grid: Grid,
    *,
    begun: Measurement | None = None,
    save: Callable[[Measurement], None] | None = None,
    progress: Progress | None = None,
    device: Device | None = None,
    make: Callable[[ModelSpec, Settings, Device | None], Profile] = Profile,
) -> Measurement:  # parameters: what one run is made of
    """Runs every point of the grid once. `begun`: a result whose points are kept; `save` is called after each point."""
    progress = progress or Progress(0, quiet=True)
    progress.total = len(grid.places()) or 1
    done = _kept(begun, spec, settings) if begun else ()
    result: Measurement | None = None
    complete = True
    try:
        for dtype in grid.dtype:
            linear = _layout_of(done, dtype, settings.linear)
            runner = make(spec, replace(settings, dtype=dtype, linear=linear, sweep_batches=grid.batch), device)
            runner.found.points += [p for p in done if p.dtype == dtype]
            places = [place for place in grid.places() if place[0] == dtype]
            others = [p for p in (result.points if result else ()) if p.dtype != dtype]
            if begun:
                others += [p for p in done if p.dtype != dtype and p not in others]
            for place in places:
                progress.show(_words(place))
                _visit(runner, place)
                progress.step(_words(place))
                result = _merged(runner, others, result or begun)
                if save is not None:
                    save(replace(result, complete=False))
            runner.model = None
            runner.device.release()
    except KeyboardInterrupt:
        complete = False
    finally:
        progress.close()
    if result is None:
        raise KeyboardInterrupt  # before its first point: there is nothing to keep
    return replace(result, complete=complete, dtype=",".join(grid.dtype))


def _kept(begun: Measurement, spec: ModelSpec, settings: Settings) -> tuple[Point, ...]:
    layers = settings.layers or len(spec.layers)
    if (begun.model, begun.layers_run) != (spec.name, layers):
        raise BadResult(
            f"--resume: that result is of {begun.model} with {begun.layers_run} layers, not {spec.name} with {layers}"
        )
    return tuple(p for p in begun.points if p.status in ("done", "skipped"))


def _layout_of(done: Sequence[Point], dtype: str, asked: str) -> str:
    """The layout of the matrices: as asked; with auto, a sweep that goes on keeps what its points were measured with."""
    begun = (point.linear for point in done if point.dtype == dtype and point.status == "done")
    return next(begun, asked) if asked == "auto" else asked


def _merged(runner: Profile, others: Sequence[Point], before: Measurement | None) -> Measurement:
    """The runner's result with the points of other dtypes and the checks made before."""
    result = runner.result()
    checks = [*(before.checks if before else ()), *result.checks]
    return replace(result, points=(*others, *result.points), checks=tuple(dict.fromkeys(checks)))


def _words(place: tuple[str, str, int, int]) -> str:
    dtype, cache, batch, context = place
    return f"{dtype}, {cache}, batch {batch}, {context:,} tokens"


def _visit(runner: Profile, place: tuple[str, str, int, int]) -> None:
    """One point, whatever happens to it."""
    dtype, cache, batch, context = place
    blank = Point("decode", batch, context, 0, cache, dtype, runner.settings.linear)
    if any(point.key == blank.key for point in runner.found.points):
        return
    if reason := _too_much(runner, batch, context):
        runner.found.points.append(replace(blank, status="skipped", note=reason))
        return
    try:
        if runner.model is None:
            runner.build()
            runner.measure_reach()
        _measure(runner, blank)
    except KvplanError as error:
        runner.found.points.append(replace(blank, status="failed", note=one_line(str(error), 160)))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        runner.device.release()
        runner.found.points.append(replace(blank, status="out_of_memory", note=one_line(str(error), 160)))


def _too_much(runner: Profile, batch: int, context: int) -> str:
    """Why a point is not tried; empty when it is."""
    if runner.spec.max_positions and context > runner.spec.max_positions:
        return f"{context:,} tokens are more than the {runner.spec.max_positions:,} positions of {runner.spec.name}"
    wanted = runner.wanted_bytes(runner.spec, batch, context)
    free = runner.device.free_bytes
    if runner.model is not None:  # its weights are there already
        wanted -= runner.wanted_bytes(runner.spec, 1, 1)
    if free is not None and wanted > free:
        return f"would need about {human_bytes(wanted)} by our estimate, {human_bytes(free)} are free"
    return ""


def _measure(runner: Profile, blank: Point) -> None:
    """Decode steps at the point with the cache's bytes beside the formula, and the prefill up to it."""
    gpt, device, found = runner.gpt, runner.device, runner.found
    batch, context, cache = blank.batch, blank.context_tokens, blank.cache
    readings: Mapping[str, Reading]
    if cache == "none":
        times = speed.uncached_times(gpt, device, batch=batch, tokens=context, plan=Plan(3, 2.0))
        readings = {"step_seconds": times.reading(), "tokens_per_s": times.rate(batch)}
    else:
        times = speed.decode_times(gpt, device, batch=batch, context=context, strategy=cache)
        readings = speed.decode_readings(gpt, times, batch=batch, context=context, reach_bytes_per_s=runner.reach_bytes)
        _check_bytes(runner, cache, batch, context=context)
    found.points.append(replace(blank, readings=dict(readings)))
    if cache == "static":
        runner.predict(found.points[-1], readings["step_seconds"], 1)
    prefill = replace(blank, what="prefill")
    if cache == "none" or any(replace(p, cache="").key == replace(prefill, cache="").key for p in found.points):
        return  # a prefill does not depend on the cache: once is enough
    expected = (
        prefill_flops(runner.spec, batch=batch, tokens=context) / runner.reach_flops if runner.reach_flops else 0.0
    )
    if expected > PREFILL_LIMIT_SECONDS and not runner.settings.full:
        found.points.append(
            replace(prefill, status="skipped", note=f"a prefill would take about {expected:.0f} s; --full runs it")
        )
        return
    times = speed.prefill_times(gpt, device, batch=batch, tokens=context, strategy=cache, plan=Plan(3, 2.0))
    found.points.append(
        replace(
            prefill,
            readings=speed.prefill_readings(
                gpt, times, batch=batch, tokens=context, reach_flops_per_s=runner.reach_flops
            ),
        )
    )


def _check_bytes(runner: Profile, strategy: str, batch: int, *, context: int) -> None:
    """The storages of a cache filled to this place, against the formula."""
    cache = cache_for(runner.gpt, strategy, batch=batch, max_tokens=context)
    speed.fill(cache, context)
    where = f"{runner.dtype}, {strategy}, batch {batch}, {context:,} tokens"
    runner.found.checks += memory.kv_check(cache, cache.shapes, runner.device, where=where)
