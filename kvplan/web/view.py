"""From the controls of the page to what it shows: answers of the planner in words, tables and figures. No formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from kvplan import outside
from kvplan.web.figures import Axes, Line, chart, memory_bar, tokens_words
from kvplan.web.state import ESTIMATE, State
from planner.answers.engine import kv_name
from planner.answers.engines import EnginesAnswer
from planner.answers.estimate import EstimateAnswer
from planner.answers.fit import FitAnswer
from planner.answers.speed import SpeedAnswer
from planner.answers.verdict import BUDGETED, NAMES
from planner.catalogue.entries import models
from planner.deployment.cost import price_of
from planner.engines.placement import Card
from planner.errors import BadRequest, KvplanError, UnknownName, one_line
from planner.memory.advice import Change, advise
from planner.memory.equations import Equation, equations, explanation
from planner.memory.estimate import Estimate, estimate
from planner.memory.limits import longest_context, pool_bytes
from planner.model.spec import ModelSpec
from planner.units import exact_bytes, gib, human_bytes, human_count, human_seconds, human_tokens

T = TypeVar("T")
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576)
FIT = (*(name for name in ESTIMATE if name != "gpus"),)
ENGINES = (
    "gpu",
    "memory",
    "tp",
    "pp",
    "dp",
    "ep",
    "seq",
    "batch",
    "dtype",
    "kv_dtype",
    "max_model_len",
    "max_num_seqs",
    "gpu_memory_utilization",
    "rope_scaling",
)
SPEED = (
    "gpu",
    "tp",
    "pp",
    "dp",
    "ep",
    "dtype",
    "kv_dtype",
    "engine",
    "max_model_len",
    "max_num_seqs",
    "gpu_memory_utilization",
    "rope_scaling",
    "prompt",
    "answer",
)


@dataclass(frozen=True)
class Fix:
    """A change that would make it fit: what it says, and the address that asks it."""

    words: str
    saves: str
    enough: bool
    address: str


@dataclass(frozen=True)
class Drawn:
    """A figure and the table behind it."""

    name: str
    svg: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """All that the page shows of one configuration."""

    state: State
    estimate: EstimateAnswer
    verdict: str
    good: bool | None
    asked: str
    facts: tuple[tuple[str, str], ...]
    bars: tuple[Drawn, ...]
    fixes: tuple[Fix, ...]
    figures: tuple[Drawn, ...]
    engines: EnginesAnswer | None
    engine_lines: tuple[str, ...]
    command: str | None
    equations: tuple[Equation, ...]
    explained: tuple[str, ...]
    not_shown: tuple[str, ...] = ()
    downloads: tuple[tuple[str, str], ...] = ()


@dataclass
class Parts:
    """Answers that are there, and in a line each those that are not."""

    missing: list[str] = field(default_factory=list)

    def of(self, name: str, make: Callable[[], T]) -> T | None:
        """Returns what `make` makes; None where it refuses, with its words kept."""
        try:
            return make()
        except KvplanError as error:
            self.missing.append(f"{name}: {error}")
            return None


def view(state: State, spec: ModelSpec | None = None) -> View:
    """Answers a state; `spec` stands in place of the model's name (a GGUF file that was dropped).

    Raises KvplanError where not even the memory can be told.
    """
    spec = spec if spec is not None else model_of(state)
    one = _estimate(state, spec)
    device = one.capacity is not None
    laid_out = _layout(state)
    parts = Parts()
    fit = parts.of("fit", lambda: _ask("fit", laid_out, FIT, spec)) if device else None
    engines = parts.of("engines", lambda: _ask("engines", laid_out, ENGINES, spec)) if device else None
    speed = parts.of("speed", lambda: _speed(laid_out, spec)) if "gpu" in state.values else None
    drawn = [cache_figure(one)] + (speed_figures(speed) if speed is not None else [])
    return View(
        state=state,
        estimate=one,
        verdict=verdict(one),
        good=None if one.verdict is None else one.verdict.ok,
        asked=asked(one),
        facts=tuple(facts(one, fit, speed)),
        bars=bars(one),
        fixes=fixes(state, one, fit),
        figures=tuple(drawn),
        engines=engines,
        engine_lines=tuple(_engine_lines(one)),
        command=parts.of("start command", lambda: _command(laid_out, spec, one)),
        equations=equations(one),
        explained=tuple(explanation(one)[1:]),
        not_shown=tuple(parts.missing),
        downloads=tuple(_downloads(state)),
    )


def model_of(state: State) -> ModelSpec:
    """Finds the model that the controls name; UnknownName lists what was perhaps meant."""
    asked = state.values.get("config") or state.values.get("model")
    if not asked:
        raise BadRequest("which model? A name in any spelling, a Hugging Face id, or the contents of its config.json")
    return outside.model(asked)


def near(name: str) -> list[str]:
    """Lists names of the catalogue in which every word of `name` is found, at most twelve."""
    try:
        found = models(name.replace("/", " ")[:100])
    except KvplanError:
        return []
    return [entry.name for entry in found[:12]]


def _estimate(state: State, spec: ModelSpec) -> EstimateAnswer:
    found = _ask("estimate", state, ESTIMATE, spec)
    if not isinstance(found, EstimateAnswer):
        raise BadRequest("--seq is one length on the page; compare two configurations, or ask /api/estimate")
    return found


def _ask(
    kind: str, state: State, names: tuple[str, ...], spec: ModelSpec
) -> Any:  # parameters: what a page needs, named
    return outside.answer(kind, {**{n: v for n, v in state.asked(names).items() if n != "model"}, "model": spec})


def _layout(state: State) -> State:
    """`gpus` as tp and pp, which the other questions ask."""
    values = dict(state.values)
    if "gpus" in values:
        count = int(values.pop("gpus"))
        values |= {"tp": str(min(count, 8)), "pp": str(max(1, count // 8))}
    return State(values)


def _speed(state: State, spec: ModelSpec) -> SpeedAnswer:
    batches = sorted({*BATCHES, int(state.values.get("batch", "1"))})
    asked = {n: v for n, v in state.asked(SPEED).items() if n != "model"}
    found: SpeedAnswer = outside.answer("speed", {**asked, "model": spec, "batch": ",".join(map(str, batches))})
    return found


def _command(state: State, spec: ModelSpec, one: EstimateAnswer) -> str | None:
    if one.engine is None:
        return None
    from planner.engines.emit import command

    return command(one.engine, one, one.asked.options) if one.asked is not None else None


def verdict(one: EstimateAnswer) -> str:
    """Says the first line of the page: the one verdict of the command line."""
    if one.verdict is None:
        said = f"{human_bytes(one.kv_bytes)} of KV cache; name a device to see whether it fits"
        return said if one.too_long is None else f"{said}. {one.too_long.text}"
    return one.verdict.text


def asked(one: EstimateAnswer) -> str:
    """Says what the verdict is about: model, sequences, type of the cache."""
    request = one.request
    many = f"{request.batch:,} sequence{'s' if request.batch > 1 else ''} of {human_tokens(request.seq_tokens)} tokens"
    return (
        f"{one.spec.name}, {one.spec.model_type}, {len(one.spec.layers)} layers: {many}, KV cache in {_kv_dtype(one)}"
    )


def _kv_dtype(one: EstimateAnswer) -> str:
    """The type of K and V, as the engine keeps them where one is named."""
    return kv_name(one, one.engine.name if one.engine is not None else None)


def facts(one: EstimateAnswer, fit: FitAnswer | None, speed: SpeedAnswer | None) -> list[tuple[str, str]]:
    """Lists (name, words) of the figures beside the verdict: memory, most sequences, speed, price."""
    found = [("KV cache", f"{human_bytes(one.kv_bytes)} ({exact_bytes(one.kv_bytes)}) in {_kv_dtype(one)}")]
    if one.state_bytes:
        found.append(("recurrent states", human_bytes(one.state_bytes)))
    found.append(("a token more adds", f"{human_bytes(one.kv_bytes_per_token)} a sequence"))
    if one.spec.weights_known:
        found.append(
            (
                "weights",
                f"{human_bytes(one.weight_bytes)}, {human_count(one.parameters)} parameters in {one.plan.fmt.name}",
            )
        )
    if fit is not None:
        most = fit.most_sequences
        found.append(
            (
                "most sequences at once",
                "no bound" if most is None else f"{most:,} of {human_tokens(fit.asked.request.seq_tokens)} tokens",
            )
        )
        found.append(("longest context", f"{fit.longest_context_tokens:,} tokens at {fit.asked.request.batch:,}"))
        if fit.fewest_tensor_parallel is not None:
            found.append(("fewest devices", f"{fit.fewest_tensor_parallel.devices:,}"))
    if speed is not None:
        found += _speed_facts(one, speed)
    return found


def _speed_facts(one: EstimateAnswer, speed: SpeedAnswer) -> list[tuple[str, str]]:
    row = next((row for row in speed.batches() if row["batch"] == one.request.batch), speed.batches()[0])
    found = [
        (f"TPOT at {row['batch']:,}", _ranged(row, "tpot_seconds", human_seconds)),
        (f"TTFT at {row['batch']:,}", _ranged(row, "ttft_seconds", human_seconds)),
        ("decode", f"{row['decode_tokens_per_s']:,.0f} tok/s together, bound by {row['binds']}"),
    ]
    price = price_of(speed.device)
    if price is not None:
        found.append(("price", f"{price.usd_per_hour:,.2f} USD/h a device ({price.words})"))
    return found


def _ranged(row: dict[str, Any], key: str, words: Callable[[float], str]) -> str:
    return f"{words(row[key])} ({words(row[key + '_low'])} to {words(row[key + '_high'])})"


def bars(one: EstimateAnswer) -> tuple[Drawn, ...]:
    """Draws what lies on each card where the engine fills them one by one (llama.cpp), else on the fullest device."""
    found = []
    for number, card in enumerate(_cards(one), 1):
        parts = [("weights", card.weight_bytes), ("KV cache", card.cache_bytes), ("overhead", card.other_bytes)]
        rows = [(kind, gib(size), exact_bytes(size)) for kind, size in parts]
        rows.append(("together", gib(card.bytes), exact_bytes(card.bytes)))
        if card.capacity_bytes is not None:
            rows.append(("the card offers", gib(card.capacity_bytes), exact_bytes(card.capacity_bytes)))
        name = f"Memory of card {number}"
        found.append(Drawn(name, memory_bar(parts, card.capacity_bytes, name), ("part", "size", "bytes"), tuple(rows)))
    return tuple(found) or (bar(one),)


def _cards(one: EstimateAnswer) -> tuple[Card, ...]:
    """Returns the cards that the engine fills one by one; none where it has one, or shares all evenly."""
    placed = one.engine.placed if one.engine is not None else None
    return placed.cards if placed is not None and len(placed.cards) > 1 else ()


def bar(estimate: Estimate) -> Drawn:
    """Draws what lies on the fullest device as a bar, with its table."""
    device, capacity = estimate.per_device, estimate.capacity.bytes if estimate.capacity else None
    parts = [("weights", device.weight_bytes), ("KV cache", device.kv_bytes + device.state_bytes),
             ("activations", device.activation.bytes), ("overhead", device.overhead_bytes)]  # fmt: skip
    if device.extra_bytes:
        parts.append(("others", device.extra_bytes))
    kinds = estimate.exactness
    rows = [(name, gib(size), exact_bytes(size), "exact" if name in ("weights", "KV cache") and kinds.get("kv_bytes") == "exact" else "estimated")
            for name, size in parts]  # fmt: skip
    rows.append(
        (
            "together",
            gib(device.total_bytes),
            exact_bytes(device.total_bytes),
            f"{gib(device.total_range[0])} to {gib(device.total_range[1])}",
        )
    )
    if capacity is not None:
        rows.append(("the device has", gib(capacity), exact_bytes(capacity), "as its driver reports it"))
    name = "Memory of the fullest device" if estimate.request.sharding.devices > 1 else "Memory of the device"
    return Drawn(name, memory_bar(parts, capacity, name), ("part", "size", "bytes", "known"), tuple(rows))


def cache_figure(estimate: EstimateAnswer) -> Drawn:
    """Draws the cache of the fullest device against length, at three batches; what is left for it, and where they cross."""
    limit = _left_for_cache(estimate)
    ceiling = max(estimate.spec.max_positions or 131072, estimate.request.seq_tokens)
    lengths = sorted({*(n for n in LENGTHS if n <= ceiling), estimate.request.seq_tokens})
    batches = sorted({1, 8, estimate.request.batch})
    sizes = {(n, b): _cache(estimate, n, b) for n in lengths for b in batches}
    lines = [Line(f"{b:,} at once", tuple((n, sizes[n, b]) for n in lengths)) for b in batches]
    here = sizes[estimate.request.seq_tokens, estimate.request.batch]
    mark = (
        float(estimate.request.seq_tokens),
        float(here),
        f"here: {gib(here)} at {human_tokens(estimate.request.seq_tokens)} tokens",
    )
    axes = Axes("tokens of a sequence", "KV cache", tokens_words, lambda value: human_bytes(round(value)), powers=True)
    name = "KV cache against length"
    svg = chart(lines, axes, name, limit=limit, mark=mark) if min(sizes.values()) > 0 else ""
    rows = tuple((human_tokens(n), *(_marked(sizes[n, b], limit) for b in batches)) for n in lengths)
    header = ("tokens", *(f"{b:,} at once" for b in batches))
    return Drawn(name, svg, header, rows, _crossing(estimate, batches, limit), tuple(line.name for line in lines))


def _left_for_cache(one: EstimateAnswer) -> int | None:
    """Returns the engine's pool where it cuts one, else what weights and the rest leave of the device.

    None where no device is named, nothing is left, or an engine fills cards one by one: those have no one limit.
    """
    if one.capacity is None or _cards(one):
        return None
    if one.engine is not None and one.engine.name in BUDGETED:
        found = one.engine.ranged.pool.bytes if one.engine.ranged is not None else None
    else:
        found = pool_bytes(_at(one, one.request.seq_tokens, 1))
    return found if found is not None and found > 0 else None


def _crossing(estimate: EstimateAnswer, batches: Sequence[int], limit: int | None) -> str:
    """Where the lines cross what is left for the cache, in words."""
    if _cards(estimate):
        return (
            "The lines are the cache of all cards together: llama.cpp and its kin fill the cards one by one, so there is "
            "no one limit to cross."
        )
    if limit is None or estimate.capacity is None:
        return ""
    if estimate.engine is not None and estimate.engine.name in BUDGETED:
        return f"The dashed line is the pool that {NAMES.get(estimate.engine.name, estimate.engine.name)} cuts on a device: {gib(limit)}."
    ends = [(b, longest_context(estimate.spec, replace(estimate.request, batch=b), estimate.capacity)) for b in batches]
    words = ", ".join(f"{tokens:,} tokens at {b:,} at once" for b, tokens in ends if tokens)
    end = f" Longest that fits: {words}." if words else " No length fits at these batches."
    return f"The dashed line is what is left for the cache on a device: {gib(limit)}.{end}"


def _marked(size: int, limit: int | None) -> str:
    return human_bytes(size) + (" (over)" if limit is not None and size > limit else "")


def _cache(one: EstimateAnswer, tokens: int, batch: int) -> int:
    """Of the fullest device; of all cards where the engine fills them one by one, which is not even."""
    found = _at(one, tokens, batch)
    return (
        found.kv_bytes + found.state_bytes if _cards(one) else found.per_device.kv_bytes + found.per_device.state_bytes
    )


def _at(one: Estimate, tokens: int, batch: int) -> Estimate:
    found = estimate(one.spec, replace(one.request, seq_tokens=tokens, batch=batch), one.capacity)
    return replace(found, fmt=one.fmt)  # as an engine stores it


def speed_figures(answer: SpeedAnswer) -> list[Drawn]:
    """Draws users at once against TPOT and TTFT, each with its range."""
    rows = [row for row in answer.batches() if row["fits"]]
    if not rows:
        return []
    found = []
    for key, name in (
        ("tpot_seconds", "Time between tokens (TPOT)"),
        ("ttft_seconds", "Time to the first token (TTFT)"),
    ):
        line = Line(name, tuple((row["batch"], row[key]) for row in rows),
                    tuple(row[f"{key}_low"] for row in rows), tuple(row[f"{key}_high"] for row in rows))  # fmt: skip
        axes = Axes("sequences at once", name, lambda value: f"{value:,.0f}", human_seconds)
        table = tuple(
            (
                f"{row['batch']:,}",
                human_seconds(row[key]),
                human_seconds(row[f"{key}_low"]),
                human_seconds(row[f"{key}_high"]),
                f"{row['decode_tokens_per_s']:,.0f}",
            )
            for row in rows
        )
        note = f"Estimated, {answer.speeds[0].constants_from}; prompts of {answer.asked.prompt_tokens:,}, outputs of {answer.asked.output_tokens:,} tokens."
        found.append(
            Drawn(name, chart([line], axes, name), ("at once", "expected", "low", "high", "decode tok/s"), table, note)
        )
    return found


def fixes(state: State, one: EstimateAnswer, fit: FitAnswer | None) -> tuple[Fix, ...]:
    """Lists what would make it fit, each as an address: the engine's own mends first, and its own counts."""
    if one.verdict is None or one.verdict.ok:
        return ()
    if one.engine is None:
        changes = advise(one) if one.fits is False else ()
        scaled = [
            _fix(state, mend, mend) for mend in one.verdict.mends if one.too_long is not None and state.takes(mend)
        ]
        return (*scaled, *(_fix(state, change.words, change.flags, change=change) for change in changes))
    found = [_fix(state, mend, mend) for mend in one.verdict.mends if state.takes(mend)]
    asked = one.request
    if fit is not None and fit.most_sequences and fit.most_sequences < asked.batch:
        words = f"{fit.most_sequences:,} at once instead of {asked.batch:,}"
        found.append(_fix(state, words, f"--batch {fit.most_sequences}"))
    if fit is not None and 0 < fit.longest_context_tokens < asked.seq_tokens:
        words = f"{fit.longest_context_tokens:,} tokens instead of {human_tokens(asked.seq_tokens)}"
        found.append(_fix(state, words, f"--seq {fit.longest_context_tokens}"))
    others = [change for change in advise(one) if not change.flags.startswith(("--seq", "--batch"))]
    found += [
        _fix(state, change.words, change.flags) for change in others if _suffices(state.having(change.flags), one)
    ]
    return tuple(found)


def _fix(state: State, words: str, flags: str, *, change: Change | None = None) -> Fix:
    saves = human_bytes(change.gain_bytes) if change is not None else ""
    return Fix(words, saves, change is None or change.fits, state.having(flags).address)


def _suffices(state: State, one: EstimateAnswer) -> bool:
    """Whether the engine starts and holds all with this change."""
    try:
        verdict = _estimate(state, one.spec).verdict
    except KvplanError:
        return False
    return verdict is not None and verdict.ok


def _engine_lines(one: EstimateAnswer) -> list[str]:
    if one.engine is None:
        return []
    return [*(f"prints: {line}" for line in one.engine.lines[:4]), *one.engine.reasons, *one.engine.assumptions]


def _downloads(state: State) -> list[tuple[str, str]]:
    """(words, address) of the same question over HTTP."""
    asked = State(state.asked(ESTIMATE)).query
    found = [("JSON", f"api/estimate?{asked}"), ("CSV", f"api/estimate?{asked}&format=csv")]
    if "gpu" in state.values or "memory" in state.values:
        found.append(("JSON of fit", f"api/fit?{State(_layout(state).asked(FIT)).query}"))
    return found


def columns(states: Sequence[State]) -> list[tuple[State, View | None, str]]:
    """Lists configurations side by side: (state, what it shows, or why not)."""
    found: list[tuple[State, View | None, str]] = []
    for state in states:
        try:
            found.append((state, view(state), ""))
        except KvplanError as error:
            found.append((state, None, str(error)))
    return found


def unknown(error: KvplanError, state: State) -> list[tuple[str, str]]:
    """Lists (name, address) of models that were perhaps meant."""
    if not isinstance(error, UnknownName) or "model" not in state.values:
        return []
    names = near(one_line(state.values["model"], 100))
    return [(name, State({**state.values, "model": name}, state.compared).address) for name in names]
