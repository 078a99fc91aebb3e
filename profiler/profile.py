"""A model built and run, with each figure beside its prediction: what `kvplan profile` does.

    profile(spec, settings)  ->  Measurement

The work is a list of named pieces, done in turn. Ctrl-C keeps the pieces that are done.
"""

# long: one run and its state, in the order in which it is measured

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from planner.errors import BadRequest, KvplanError, one_line
from planner.files.write import write_bytes
from planner.machine.calibration import Calibration, load_calibration, speedup
from planner.memory.cache_strategies import STRATEGIES, layer_shapes, strategy_bytes
from planner.memory.estimate import cache_format, estimate
from planner.memory.request import Request
from planner.model.parameters import parameters
from planner.model.spec import ModelSpec
from planner.terminal.progress import Progress
from planner.units import human_bytes
from profiler import memory, speed
from profiler.device import Device, busy_words, choose, environment
from profiler.generate import Sampling, cache_for, decode_step, generate, prefill
from profiler.gpt import GPT, build, torch_dtype
from profiler.layout import Layout, faster_layout
from profiler.linear import check_packing
from profiler.measure import Times, unstable
from profiler.recipes import design, shallower
from profiler.results import Check, Environment, Measurement, Point, Reading
from profiler.speed import Curve, Plan

PREFILL_TOKENS = (16, 128, 512, 1024)
DECODE_TOKENS = (64, 256, 1024)
WHOLE_UNCACHED_TOKENS = 25  # short enough to run whole beside the integral
RUN_BUDGET_SECONDS = 20.0  # of whole cached runs of one strategy
UNCACHED_BUDGET_SECONDS = 15.0
CHECK_MAX_TOKENS = 128
SPEED_LOW, SPEED_HIGH = 0.75, 1.25  # the range a predicted speed is expected in


@dataclass(frozen=True)
class Settings:
    """What to run. `caches`: the first is measured throughout, the others in decode; all sizes are checked anyway.

    linear   how matrices are stored: plain, packed, or auto for the one that is faster at `batch`, or at all `sweep_batches`
    """

    dtype: str | None = None
    linear: str = "auto"
    device: str | None = None
    batch: int = 1
    sweep_batches: tuple[int, ...] = ()
    caches: tuple[str, ...] = ("static", "concat")
    prompt_tokens: int = speed.PROMPT_TOKENS
    outputs: tuple[int, ...] = speed.OUTPUT_TOKENS
    layers: int | None = None
    extrapolate: bool = False
    full: bool = False
    repeats: int = 5
    seed: int = 0
    weights: str | None = None
    tokenizer: str | None = None
    prompt: str | None = None
    new_tokens: int = 100
    sampling: Sampling = field(default_factory=Sampling)
    compile: bool = False
    trace: str | None = None

    @property
    def batches(self) -> tuple[int, ...]:
        """Every batch that the layout of the matrices has to serve."""
        return self.sweep_batches or (self.batch,)

    def check(self) -> None:
        for name in self.caches:
            if name not in STRATEGIES or name == "none":
                known = ", ".join(s for s in STRATEGIES if s != "none")
                raise BadRequest(f"--cache {one_line(name, 30)!r} is not known; choose from {known}")
        if not self.caches:
            raise BadRequest("--cache names no strategy; write for example static,concat")
        if self.extrapolate and (self.layers or 2) < 2:
            raise BadRequest("--extrapolate measures two depths; --layers must be at least 2")
        if self.prompt is not None and not self.weights:
            raise BadRequest("--text needs --weights FILE: random weights write random text")


@dataclass
class Found:
    """What the pieces of work have brought so far."""

    checks: list[Check] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    figures: dict[str, Reading] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    text: str = ""


Work = tuple[str, float, Callable[[], None]]  # what it is called, how long it takes beside the others, what it does


class Profile:
    """One model on one device: builds it, and knows each piece of work."""

    def __init__(self, spec: ModelSpec, settings: Settings, device: Device | None = None) -> None:
        settings.check()
        self.settings, self.whole = settings, spec
        self.device = device or choose(settings.device)
        depth = settings.layers or (min(4, len(spec.layers)) if settings.extrapolate else None)
        self.spec = shallower(spec, depth) if depth else spec
        self.dtype = running_dtype(spec, settings.dtype)
        design(self.spec)  # what cannot be built is said before anything is allocated
        self.found = Found()
        if settings.linear == "packed":
            check_packing(self.device.torch_device, torch_dtype(self.dtype))
        self.element_bytes = cache_format(spec, Request(1, dtype=self.dtype)).model_dtype_bytes
        self.main = settings.caches[0]
        if said := busy_words():
            self.found.warnings.append(said)
        self.environment: Environment = environment(self.device)
        self.calibration = _calibration(self.environment, self.found)
        self.reach_bytes: float | None = None
        self.reach_flops: float | None = None
        self.curves: dict[str, Curve] = {}
        self.model: GPT | None = None
        self.limit = min(spec.max_positions or 4096, 4096)
        if settings.linear == "auto":
            self._choose_layout()

    def _choose_layout(self) -> None:
        """Packed matrices where they are faster at this batch, there is room for them and nothing is compiled."""
        settings, said = self.settings, "--linear auto took plain matrices: "
        layout = Layout("plain", "")
        if settings.compile:
            layout = Layout("plain", said + "torch.compile has no program for packed ones")
        elif self._has_room("plain"):  # `build` refuses a model that has none
            layout = faster_layout(self.spec, self.dtype, rows=settings.batches, device=self.device)
        if layout.kind == "packed" and not self._has_room("packed"):
            layout = Layout("plain", said + "packed ones are faster, and there is no room for the tied head again")
        self.settings = replace(settings, linear=layout.kind)
        self.found.notes += layout.notes

    def _has_room(self, linear: str) -> bool:
        free = self.device.free_bytes
        return free is None or self.wanted_bytes(self.spec, linear=linear) <= free

    @property
    def gpt(self) -> GPT:
        assert self.model is not None
        return self.model

    @property
    def plan(self) -> Plan:
        return Plan(self.settings.repeats)

    def run(self, progress: Progress | None = None) -> Measurement:
        """All pieces; those done before Ctrl-C are kept."""
        work = list(self.work())
        progress = progress or Progress(0, quiet=True)
        progress.total = sum(weight for _, weight, _ in work)
        complete = True
        try:
            for words, weight, piece in work:
                progress.show(words)
                piece()
                progress.step(words, weight)
        except KeyboardInterrupt:
            complete = False
            self.found.warnings.append("interrupted: what is here was done before")
        finally:
            progress.close()
        return self.result(complete)

    def result(self, complete: bool = True) -> Measurement:
        found = self.found
        notes = [*design(self.spec).notes, *found.notes]
        if len(self.spec.layers) < len(self.whole.layers):
            notes.append(f"ran {len(self.spec.layers)} of {len(self.whole.layers)} layers, at full width")
        return Measurement(
            model=self.whole.name,
            model_type=self.whole.model_type,
            parameters=parameters(self.whole),
            layers=len(self.whole.layers),
            layers_run=len(self.spec.layers),
            dtype=self.dtype,
            linear=self.settings.linear,
            weights=self.settings.weights or "random",
            environment=self.environment,
            checks=tuple(found.checks),
            points=tuple(found.points),
            figures=dict(found.figures),
            text=found.text,
            notes=tuple(notes),
            warnings=tuple(dict.fromkeys(found.warnings)),
            complete=complete,
        )

    def work(self) -> Iterator[Work]:
        """The pieces in the order they are done, with their rough share of the time."""
        settings = self.settings
        yield "building the model", 3, self.build
        if settings.prompt is not None:
            yield "writing text", 5, self.write_text
        yield "cache and weight bytes", 3, self.check_memory
        yield "peaks", 5, self.check_peaks
        yield "what this machine reaches", 3, self.measure_reach
        for tokens in self.lengths(PREFILL_TOKENS):
            yield f"prefill of {tokens} tokens", 0.5 + tokens / 256, partial(self.measure_prefill, tokens)
        for name in settings.caches:
            for tokens in self.lengths(DECODE_TOKENS):
                yield f"decode at {tokens}, {name} cache", 1, partial(self.measure_decode, name, tokens)
        if settings.compile:
            yield "compiled decode", 10, self.measure_compiled
        outputs = self.outputs()
        if outputs:
            for name in settings.caches:
                yield (
                    f"generating {outputs[-1]} tokens, {name} cache",
                    8 + outputs[-1] / 40,
                    partial(self.run_cached, name),
                )
            yield "uncached steps", 8 + outputs[-1] / 40, self.run_uncached
            yield "speedup", 0.1, self.compare
        if settings.extrapolate:
            yield "the shallower model", 10, self.extrapolate
        if settings.trace:
            yield "trace", 3, self.write_trace

    def lengths(self, wanted: tuple[int, ...]) -> list[int]:
        return [n for n in wanted if n <= self.limit] or [self.limit]

    def outputs(self) -> list[int]:
        """Output lengths that the context has room for."""
        room = self.limit + 1 - self.settings.prompt_tokens
        if left_out := [n for n in self.settings.outputs if n > room]:
            said = f"output lengths beyond the context of {self.limit:,} left out: {', '.join(map(str, left_out))}"
            if said not in self.found.notes:
                self.found.notes.append(said)
        return sorted({n for n in self.settings.outputs if n <= room})

    def build(self) -> None:
        settings, device = self.settings, self.device
        self._check_room()
        linear = "plain" if settings.weights else settings.linear
        self.model = build(self.spec, device=device.torch_device, dtype=self.dtype, seed=settings.seed, linear=linear)
        if settings.weights:
            from profiler.weights import load_weights

            left = load_weights(self.gpt, settings.weights)
            if left:
                self.found.notes.append(
                    f"{len(left)} tensors of the file are not the language model's: {', '.join(left[:3])}, ..."
                )
            if settings.linear == "packed":
                self.gpt.pack()

    def _check_room(self) -> None:
        """Refuses before allocating what would not fit, with what would."""
        free = self.device.free_bytes
        wanted = self.wanted_bytes(self.spec)
        if free is None or wanted <= free:
            return
        each = (wanted - self.wanted_bytes(shallower(self.spec, 1))) / max(1, len(self.spec.layers) - 1)
        depth = int((free - self.wanted_bytes(shallower(self.spec, 1))) // each) + 1 if each else 0
        hint = f"--layers {min(depth, 8)} --extrapolate fits" if depth >= 2 else "a smaller model or --dtype bf16 may"
        raise BadRequest(
            f"{self.whole.name} in {self.dtype} needs about {human_bytes(wanted)} and {human_bytes(free)} of {self.device.name} "
            f"are free; {hint}"
        )

    def wanted_bytes(
        self, spec: ModelSpec, batch: int | None = None, tokens: int | None = None, *, linear: str | None = None
    ) -> int:
        """Weights, cache and activations of the largest thing that will be run; `linear`: in another layout."""
        tokens = tokens or self.limit
        request = Request(
            tokens, batch or self.settings.batch, self.dtype, prefill_tokens=min(tokens, max(PREFILL_TOKENS))
        )
        device = estimate(spec, request).per_device
        packed = (
            linear or self.settings.linear
        ) == "packed"  # matrices are reordered one by one, the tied head is kept
        head = spec.vocab * spec.hidden * self.element_bytes if packed and spec.tied else 0
        return device.weight_bytes + head + 2 * device.kv_bytes + device.activation.bytes

    def check_memory(self) -> None:
        settings, found = self.settings, self.found
        tokens = min(settings.prompt_tokens, self.limit - memory.STEPS)
        longest = min(CHECK_MAX_TOKENS, self.limit)
        strategies = tuple(dict.fromkeys((*settings.caches, *STRATEGIES)))
        for batch in dict.fromkeys((settings.batch, 3)):
            found.checks += memory.kv_checks(
                self.gpt, self.device, strategies, batch=batch, prompt_tokens=tokens, max_tokens=longest
            )
        found.checks += memory.weight_checks(self.gpt)
        found.checks += memory.transient_checks(
            self.gpt, self.device, batch=settings.batch, tokens=min(64, self.limit - 2)
        )

    def check_peaks(self) -> None:
        tokens = min(256, self.limit // 2)
        before = self.device.resident_bytes()
        for name in self.settings.caches:
            self.found.checks += memory.peak_checks(
                self.gpt, self.device, name, batch=self.settings.batch, tokens=tokens, max_tokens=2 * tokens
            )
        shapes = layer_shapes(self.spec)
        cache = cache_for(self.gpt, "static", batch=self.settings.batch, max_tokens=self.limit)
        with torch.inference_mode():
            speed.fill(cache, self.limit)
        after = self.device.resident_bytes()
        growth = None if before is None or after is None else after - before
        predicted = strategy_bytes(
            shapes,
            "static",
            tokens=self.limit,
            max_tokens=self.limit,
            batch=self.settings.batch,
            element_bytes=self.element_bytes,
        )
        self.found.checks.append(
            memory.resident_check(self.device, growth, predicted, where=f"static, {self.limit:,} tokens")
        )

    def measure_reach(self) -> None:
        """Read bandwidth and product rate, from the device file when it is of this machine, else measured quickly."""
        found = self.found
        if self.calibration is not None:
            self.reach_bytes = self.calibration.read_bytes_per_s
            self.reach_flops = self.calibration.flops_per_s(self.dtype)
            found.notes.append(f"shares are of what kvplan calibrate found: {self.calibration.words()}")
        if self.reach_bytes is None:
            times = speed.read_rate(self.device)
            found.figures["read_bytes_per_s"] = times.rate(256 << 20)
            self.reach_bytes = found.figures["read_bytes_per_s"].value
        if self.reach_flops is None:
            times, flops = speed.gemm_rate(self.device, torch_dtype(self.dtype))
            found.figures["flops_per_s"] = times.rate(flops)
            self.reach_flops = found.figures["flops_per_s"].value

    def point(self, what: str, times: Times | None, readings: dict[str, Reading], **place: Any) -> Point:
        """A point of this run, noted; a wide spread is said in words."""
        settings = self.settings
        point = Point(what, settings.batch, dtype=self.dtype, linear=settings.linear, readings=readings, **place)
        self.found.points.append(point)
        if times is not None and (said := unstable(f"{what} at {point.context_tokens:,} tokens", times)):
            self.found.warnings.append(said)
        return point

    def predict(self, point: Point, seconds: Reading, new_tokens: int) -> None:
        """The calibrated prediction beside a measured point, where there is one."""
        if self.calibration is None or not self.calibration.serves(self.dtype, self.settings.linear):
            return
        try:
            predicted = self.calibration.step_seconds(
                self.spec, batch=point.batch, context_tokens=point.context_tokens, new_tokens=new_tokens, dtype=self.dtype,
                linear=self.settings.linear,
            )  # fmt: skip
        except KvplanError:
            return
        name = "prefill_seconds" if new_tokens > 1 else "decode_step_seconds"
        where = f"batch {point.batch}, {point.context_tokens:,} tokens"
        self.found.checks.append(
            Check(name, where, predicted, seconds.value, "estimated", SPEED_LOW * predicted, SPEED_HIGH * predicted,
                  "summed from operator times of kvplan calibrate")
        )  # fmt: skip

    def measure_prefill(self, tokens: int) -> None:
        times = speed.prefill_times(
            self.gpt, self.device, batch=self.settings.batch, tokens=tokens, strategy=self.main, plan=self.plan
        )
        readings = speed.prefill_readings(
            self.gpt, times, batch=self.settings.batch, tokens=tokens, reach_flops_per_s=self.reach_flops
        )
        point = self.point("prefill", times, readings, context_tokens=tokens, cache=self.main)
        self.predict(point, readings["ttft_seconds"], tokens)

    def measure_decode(self, strategy: str, tokens: int) -> None:
        times = speed.decode_times(self.gpt, self.device, batch=self.settings.batch, context=tokens, strategy=strategy)
        readings = speed.decode_readings(
            self.gpt, times, batch=self.settings.batch, context=tokens, reach_bytes_per_s=self.reach_bytes
        )
        point = self.point("decode", times, readings, context_tokens=tokens, cache=strategy)
        if strategy == "static":
            self.predict(point, readings["step_seconds"], 1)

    def measure_compiled(self) -> None:
        from profiler.compiled import compiled_step

        tokens = self.lengths((256,))[0]
        try:
            with compiled_step(self.gpt, self.device) as step:
                times = speed.decode_times(
                    self.gpt, self.device, batch=self.settings.batch, context=tokens, strategy="static", step=step
                )
        except Exception as error:  # a compiler that is missing or fails is a finding, not an end
            reason = one_line(f"{type(error).__name__}: {error}", 160)
            self.found.points.append(
                Point(
                    "decode",
                    self.settings.batch,
                    tokens,
                    0,
                    "static",
                    self.dtype,
                    self.settings.linear,
                    "compiled",
                    "failed",
                    reason,
                )
            )
            self.found.warnings.append(f"torch.compile does not work here: {reason}")
            return
        readings = speed.decode_readings(
            self.gpt, times, batch=self.settings.batch, context=tokens, reach_bytes_per_s=self.reach_bytes
        )
        self.point("decode", times, readings, context_tokens=tokens, cache="static", mode="compiled")

    def run_cached(self, strategy: str) -> None:
        """Whole generations as long and as often as there is time for, continued by single steps."""
        outputs, settings, prompt = self.outputs(), self.settings, self.settings.prompt_tokens
        whole = outputs[-1]
        if not settings.full:
            step = max((p.readings["step_seconds"].value for p in self.found.points if (p.what, p.cache) == ("decode", strategy)),
                       default=0.0)  # fmt: skip
            whole = max(
                [n for n in outputs if n * step <= RUN_BUDGET_SECONDS] or [min(outputs[0], WHOLE_UNCACHED_TOKENS)]
            )
        runs: list[tuple[float, ...]] = []
        start = self.device.clock()
        for _ in range(settings.repeats):
            if runs and self.device.clock() - start + runs[-1][-1] > RUN_BUDGET_SECONDS:
                break
            seconds = speed.run_times(
                self.gpt, self.device, batch=settings.batch, prompt=prompt, new_tokens=whole, strategy=strategy
            )
            runs.append(tuple(seconds))
        curve = Curve(tuple(runs), whole)
        if whole < outputs[-1]:
            lengths = [n for n in self.lengths(DECODE_TOKENS) if n > prompt]
            steps = {
                n: speed.decode_times(self.gpt, self.device, batch=settings.batch, context=n, strategy=strategy)
                for n in lengths
            }
            curve = speed.integrate(
                steps, prompt, outputs[-1], after=[curve.seconds(n).value for n in range(1, whole + 1)]
            )
        self.curves[strategy] = curve
        self._note_curve("generate", strategy, curve, outputs=outputs)

    def run_uncached(self) -> None:
        settings, prompt, outputs = self.settings, self.settings.prompt_tokens, self.outputs()
        short = outputs[-1] if settings.full else min(WHOLE_UNCACHED_TOKENS, outputs[-1])
        runs: list[tuple[float, ...]] = []
        start = self.device.clock()
        while not runs or (
            not settings.full and len(runs) < 3 and self.device.clock() - start < UNCACHED_BUDGET_SECONDS
        ):
            seconds = speed.run_times(
                self.gpt, self.device, batch=settings.batch, prompt=prompt, new_tokens=short, strategy="none"
            )
            runs.append(tuple(seconds))
        whole = Curve(tuple(runs), short)
        if settings.full:
            self.curves["none"] = whole
            self._note_curve("generate_uncached", "none", whole, outputs=outputs)
            return
        steps = {
            n: speed.uncached_times(self.gpt, self.device, batch=settings.batch, tokens=n, plan=Plan(3, 1.0))
            for n in speed.sampled_lengths(prompt, prompt + outputs[-1] - 1)
        }
        for length, times in steps.items():
            readings = {"step_seconds": times.reading(), "tokens_per_s": times.rate(settings.batch)}
            self.point("uncached_step", times, readings, context_tokens=length, cache="none")
        curve = speed.integrate(steps, prompt, outputs[-1])
        self.curves["none"] = curve
        self._note_curve("generate_uncached", "none", curve, outputs=outputs)
        predicted, measured = curve.seconds(short).value, whole.seconds(short).value
        self.found.checks.append(
            Check("uncached_seconds", f"{short} new tokens", predicted, measured, "estimated", 0.85 * predicted, 1.15 * predicted,
                  "integrated from sampled steps, against whole runs")
        )  # fmt: skip

    def _note_curve(self, what: str, strategy: str, curve: Curve, *, outputs: list[int]) -> None:
        for tokens in outputs:
            seconds = curve.seconds(tokens)
            rate = Reading(
                self.settings.batch * tokens / seconds.value, seconds.kind, repeats=seconds.repeats, note=seconds.note
            )
            self.point(
                what, None, {"total_seconds": seconds, "tokens_per_s": rate}, context_tokens=self.settings.prompt_tokens,
                new_tokens=tokens, cache=strategy,
            )  # fmt: skip

    def compare(self) -> None:
        """Speedup at each length, the crossing, and the speedup that the calibration predicts."""
        outputs, uncached, found = self.outputs(), self.curves["none"], self.found
        cached = self.curves[self.main]
        for tokens in outputs:
            slow, fast = uncached.seconds(tokens), cached.seconds(tokens)
            ratio = Reading(slow.value / fast.value, slow.kind, note=slow.note)
            self.point(
                "speedup",
                None,
                {"speedup": ratio},
                context_tokens=self.settings.prompt_tokens,
                new_tokens=tokens,
                cache=self.main,
            )
            self._predict_speedup(tokens, ratio)
        crossing = speed.crossing_tokens(cached, uncached, outputs[-1])
        if crossing is None:
            found.notes.append(f"caching did not pay here up to {outputs[-1]:,} new tokens")
        else:
            found.figures["crossing_tokens"] = Reading(
                crossing, uncached.seconds(crossing).kind, note="fewest new tokens from which the cache pays"
            )

    def _predict_speedup(self, tokens: int, ratio: Reading) -> None:
        calibration, settings = self.calibration, self.settings
        if calibration is None or not calibration.serves(self.dtype, settings.linear) or self.main != "static":
            return
        try:
            predicted = speedup(
                calibration, self.spec, batch=settings.batch, prompt_tokens=settings.prompt_tokens, new_tokens=tokens,
                dtype=self.dtype, linear=settings.linear,
            )  # fmt: skip
        except KvplanError:
            return
        self.found.checks.append(
            Check("speedup", f"{tokens} new tokens", predicted, ratio.value, "estimated", 0.85 * predicted, 1.15 * predicted,
                  "from operator times of kvplan calibrate")
        )  # fmt: skip

    def extrapolate(self) -> None:
        """The same points at half the depth; time at full depth is taken as linear in layers."""
        deep, full = len(self.spec.layers), len(self.whole.layers)
        shallow = max(1, deep // 2)
        if len(self.whole.groups) > 1:
            self.found.warnings.append("extrapolated as if all layers were alike, and they are not")
        at_depth = [p for p in self.found.points if p.what in ("prefill", "decode") and p.mode == "eager"]
        self.model = None
        self.device.release()
        model = build(
            shallower(self.whole, shallow), device=self.device.torch_device, dtype=self.dtype, seed=self.settings.seed,
            linear=self.settings.linear,
        )  # fmt: skip
        note = f"linear in depth from {shallow} and {deep} layers to {full}"
        for point in at_depth:
            name = "ttft_seconds" if point.what == "prefill" else "step_seconds"
            if point.what == "prefill":
                times = speed.prefill_times(
                    model,
                    self.device,
                    batch=point.batch,
                    tokens=point.context_tokens,
                    strategy=point.cache,
                    plan=self.plan,
                )
            else:
                times = speed.decode_times(
                    model, self.device, batch=point.batch, context=point.context_tokens, strategy=point.cache
                )
            reading = point.readings[name]

            def line(at_deep: float, at_shallow: float) -> float:
                return at_deep + (at_deep - at_shallow) / (deep - shallow) * (full - deep)

            value = line(reading.value, times.median)
            ends = line(reading.low or reading.value, times.high), line(reading.high or reading.value, times.low)
            seconds = Reading(value, "estimated", min(ends), max(ends), note=note)
            tokens = point.batch * (point.context_tokens if point.what == "prefill" else 1)
            rate = Reading(tokens / value, "estimated", note=note)
            self.found.points.append(
                replace(point, mode="extrapolated", readings={name: seconds, "tokens_per_s": rate})
            )

    def write_trace(self) -> None:
        """A Chrome trace of one prefill and a few decode steps."""
        from torch.profiler import ProfilerActivity, profile, record_function

        assert self.settings.trace is not None
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self.device.kind == "cuda" else [])
        prompt = min(128, self.limit - 8)
        ids = memory.random_tokens(self.gpt, self.settings.batch, prompt)
        with profile(activities=activities, record_shapes=True, profile_memory=True) as record:
            cache = cache_for(self.gpt, self.main, batch=self.settings.batch, max_tokens=prompt + 8)
            with record_function("prefill"):
                token = prefill(self.gpt, ids, cache).argmax(-1, keepdim=True)
            for _ in range(4):
                with record_function("decode"):
                    token = decode_step(self.gpt, token, cache).argmax(-1, keepdim=True)
            self.device.synchronise()
        with tempfile.TemporaryDirectory(prefix="kvplan-") as folder:
            made = Path(folder, "trace.json.gz" if self.settings.trace.endswith(".gz") else "trace.json")
            record.export_chrome_trace(str(made))
            write_bytes(self.settings.trace, made.read_bytes(), "--trace")
        self.found.notes.append(
            f"trace written to {self.settings.trace}; open it in chrome://tracing or ui.perfetto.dev"
        )

    def write_text(self) -> None:
        from profiler.tokenizer import find_codec

        settings = self.settings
        assert settings.prompt is not None
        codec = find_codec(self.whole, settings.weights, settings.tokenizer)
        prompt = codec.encode(settings.prompt)
        if not prompt:
            raise BadRequest("--text has no tokens; write some words")
        answer = generate(
            self.gpt, [prompt], settings.new_tokens, cache=self.main, sampling=settings.sampling,
            stop=() if codec.stop is None else codec.stop,
        )  # fmt: skip
        self.found.text = codec.decode([*prompt, *answer.sequences[0]])


def profile(spec: ModelSpec, settings: Settings | None = None, progress: Progress | None = None) -> Measurement:
    """Builds `spec`, runs it, and puts each figure beside its prediction."""
    with no_gradients():
        return Profile(spec, settings or Settings()).run(progress)


@contextmanager
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def running_dtype(spec: ModelSpec, asked: str | None) -> str:
    """Returns fp32, fp16 or bf16: as asked, else as the config says, else fp32."""
    from planner.dtypes.names import float_dtype

    name = asked or spec.dtype or "fp32"
    torch_dtype(name)
    return float_dtype(name) or name


def _calibration(here: Environment, found: Found) -> Calibration | None:
    """The device file, if it was made on this device with as many threads."""
    calibration = load_calibration()
    if calibration is None:
        return None
    made = calibration.environment
    for key, now in (("device", here.device), ("threads", here.threads)):
        if made.get(key) != now:
            found.notes.append(
                f"the device file is of {key} {one_line(str(made.get(key)), 40)}, this is {now}: not used"
            )
            return None
    return calibration
