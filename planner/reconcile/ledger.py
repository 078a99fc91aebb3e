"""A log's facts beside what kvplan says of the same model, flags and budget: where every GiB went."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from planner.activations import Estimated
from planner.catalogue import find_model, models
from planner.dtypes import canonical, float_dtype
from planner.engines.base import EngineAnswer, Options, parse_version
from planner.engines.device_memory import weights_loaded
from planner.engines.registry import answer_of
from planner.errors import KvplanError, one_line
from planner.memory import Capacity, Estimate, Request, estimate
from planner.readers import read_entry
from planner.reconcile.facts import Run
from planner.reconcile.patterns import LLAMA, LMDEPLOY, OLLAMA, SGLANG, TRT, VLLM
from planner.resolve import by_hand
from planner.sharding import Sharding
from planner.spec import ModelSpec
from planner.units import GIB, MAX_TOKENS, MIB, gib

HALF_GIB = GIB // 200  # half of the last digit of "x.xx GiB"
HALF_MIB = MIB // 200 + 1
CLOSES_WITHIN = GIB // 10
BY_DIMENSIONS = "the dimensions in the log"


@dataclass(frozen=True)
class Given:
    """What the user adds to a log: a model, a card, and what else it does not say."""

    spec: ModelSpec | None = None
    capacity: Capacity | None = None
    version: str | None = None
    program: str | None = None
    tp: int | None = None
    pp: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    max_model_len: int | None = None


@dataclass
class Entry:
    """One line of the ledger, in bytes of one device."""

    name: str
    logged: int | None
    predicted: Estimated | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        found = self.predicted
        difference = None if found is None or self.logged is None else self.logged - found.bytes
        return {
            "name": self.name,
            "logged_bytes": self.logged,
            "predicted_bytes": found.bytes if found else None,
            "predicted_bytes_low": found.low if found else None,
            "predicted_bytes_high": found.high if found else None,
            "difference_bytes": difference,
            "reason": self.reason,
        }


@dataclass
class Figure:
    """One count that the log prints, and ours at both ends of the budget's rounding."""

    name: str
    logged: float
    low: float
    high: float
    reason: str = ""

    @property
    def agrees(self) -> bool:
        return self.low <= self.logged <= self.high

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "logged": self.logged,
            "predicted_low": self.low,
            "predicted_high": self.high,
            "agrees": self.agrees,
            "reason": self.reason,
        }


@dataclass
class Room:
    """A change that would give more room: its flag and what it gains on one device."""

    flags: str
    gain_bytes: int
    gain_tokens: int | None


@dataclass
class Ledger:
    """All of one server. `unexplained`: what the entries do not account for, None where it cannot be told."""

    engine: str
    version: str | None
    model: str | None
    taken_as: str | None = None
    tp: int = 1
    pp: int = 1
    kv_dtype: str | None = None
    weight_dtype: str | None = None
    workers: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    unexplained: int | None = None
    missing: list[str] = field(default_factory=list)
    more_room: list[Room] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    run: Run | None = None

    @property
    def closes(self) -> bool | None:
        return None if self.unexplained is None else abs(self.unexplained) <= CLOSES_WITHIN

    def to_dict(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "version": self.version,
            "model": self.model,
            "taken_as": self.taken_as,
            "tp": self.tp,
            "pp": self.pp,
            "kv_dtype": self.kv_dtype,
            "weight_dtype": self.weight_dtype,
            "workers": self.workers,
            "entries": [entry.to_dict() for entry in self.entries],
            "figures": [figure.to_dict() for figure in self.figures],
            "unexplained_bytes": self.unexplained,
            "closes": self.closes,
            "missing": self.missing,
            "more_room": [vars(room) for room in self.more_room],
            "notes": self.notes,
        }


def ledger_of(run: Run, given: Given) -> Ledger:
    """The ledger of one run."""
    makers: dict[str, Callable[[Run, Given, Ledger], None]] = {
        VLLM: _vllm, SGLANG: _sglang, LLAMA: _llama, OLLAMA: _ollama, TRT: _tensorrt, LMDEPLOY: _lmdeploy,
    }  # fmt: skip
    named = run.text("model") or run.text("name")
    name = one_line(named.strip().strip("'\""), 120) if named else None
    made = Ledger(run.engine, given.version or run.text("version"), name, run=run, workers=run.workers)
    made.tp = given.tp or _ranks(run, "tp") or 1
    made.pp = given.pp or _ranks(run, "pp") or 1
    makers[run.engine](run, given, made)
    if run.mixed:
        what = "; ".join(f"{name} {one_line(said, 100)}" for name, said in run.mixed.items())
        made.missing.insert(0, f"which server said what: lines of several lie between one another ({what})")
        made.unexplained = None
        made.figures = []
    return made


def _ranks(run: Run, name: str) -> int | None:
    value = run.whole(name)
    return value if value is not None and 1 <= value <= 4096 else None


# -- the model ---------------------------------------------------------------------------------------------

_SUFFIXES = re.compile(
    r"[-_.](?:instruct|chat|it|hf|base|awq|gptq|int4|int8|fp8|fp16|bf16|gguf|bnb|4bit|8bit|unsloth|nvfp4|w4a16|w8a8|dynamic|thinking|"
    r"block|unquantized|qat|q\d[\w]*|iq\d\w*|v?\d{4,8})$",
    re.IGNORECASE,
)


def model_named(name: str) -> ModelSpec | None:
    """The catalogue's model behind a name or path of a log: whole, its last part, then without publishers' suffixes.

    >>> model_named("/models/Qwen2.5-7B-Instruct-AWQ").name
    'qwen2.5-7b'
    """
    last = name.rstrip("/").rsplit("/", 1)[-1]
    candidates = [name, last, last.replace(" ", "-")]
    short = last.replace(" ", "-")
    for _ in range(6):
        shorter = _SUFFIXES.sub("", short)
        if shorter == short:
            break
        short = shorter
        candidates.append(short)
    for candidate in candidates:
        try:
            return read_entry(find_model(candidate[:200]))
        except KvplanError:
            continue
    try:
        near = models(short[:200])  # a publisher's variant of the same model, where there is but one
        return read_entry(near[0]) if len(near) == 1 else None
    except KvplanError:
        return None


def _spec(run: Run, given: Given, made: Ledger) -> ModelSpec | None:
    """The model: as given, else as the log names it, else (llama.cpp) from the dimensions it prints."""
    if given.spec is not None:
        made.taken_as = given.spec.name
        return given.spec
    if made.model:
        found = model_named(made.model)
        if found is not None and _same_layers(run, found):
            made.taken_as = found.name
            return found
    found = _by_dimensions(run)
    if found is not None:
        made.taken_as = BY_DIMENSIONS
        return found
    what = f"model {made.model!r} is not in the catalogue" if made.model else "the model is not named"
    made.missing.append(f"{what}: --model NAME or --config FILE")
    return None


def _same_layers(run: Run, spec: ModelSpec) -> bool:
    """A name can lie: the layers that llama.cpp prints must be the model's (or one more, for drafting)."""
    layers = run.whole("n_layer")
    return layers is None or layers - len(spec.layers) in (0, 1)


def _by_dimensions(run: Run) -> ModelSpec | None:
    """A plain attention model from llama.cpp's own print-out; None where windows, states or latents are at play."""
    numbers = {
        key: run.whole(key) for key in ("n_layer", "n_head", "n_head_kv", "n_embd_head_k", "n_embd", "n_ff", "n_vocab")
    }
    plain = (run.text("arch") or "") in (
        "llama",
        "qwen2",
        "qwen3",
        "phi3",
        "mistral",
        "granite",
        "starcoder2",
        "glm4",
        "gemma",
        "qwen2moe",
        "qwen3moe",
    )
    if (
        not plain
        or run.whole("n_swa")
        or run.bytes("state_mib")
        or None in (numbers["n_layer"], numbers["n_head"], numbers["n_head_kv"])
    ):
        return None
    heads, embd = numbers["n_head"] or 1, numbers["n_embd"] or 0
    dimensions: dict[str, int | None] = {
        "layers": numbers["n_layer"], "heads": heads, "kv_heads": numbers["n_head_kv"],
        "head_dim": numbers["n_embd_head_k"] or (embd // heads or None),
    }  # fmt: skip
    if embd and numbers["n_ff"] and numbers["n_vocab"]:
        dimensions |= {"hidden": embd, "intermediate": numbers["n_ff"], "vocab": numbers["n_vocab"]}
    try:
        return by_hand(dimensions)
    except KvplanError:
        return None


_WEIGHTS = {
    "bitsandbytes": "nf4_dq", "awq": "awq", "awq_marlin": "awq", "gptq": "gptq", "gptq_marlin": "gptq", "fp8": "fp8",
    "compressed-tensors": None, "modelopt": "fp8", "modelopt_fp4": "nvfp4", "mxfp4": "mxfp4",
}  # fmt: skip


def _estimate(run: Run, given: Given, made: Ledger, spec: ModelSpec, seq: int) -> Estimate | None:
    """Our estimate with the log's layout and formats; what the log leaves open is named."""
    running = float_dtype((run.text("dtype") or "").removeprefix("torch.")) if run.text("dtype") else None
    quantised = run.text("quantization")
    made.weight_dtype = given.dtype or (_WEIGHTS.get(quantised.lower()) if quantised else running)
    said = canonical(run.text("kv_dtype") or "auto")
    said = "auto" if said.startswith("torch") else said
    made.kv_dtype = given.kv_dtype or (running if said == "auto" else said) or None
    if quantised and made.weight_dtype is None:
        made.missing.append(f"how {one_line(quantised, 40)} stores the weights: --dtype")
    request = Request(
        seq_tokens=min(max(seq, 1), MAX_TOKENS),
        dtype=made.weight_dtype,
        k_dtype=made.kv_dtype,
        v_dtype=made.kv_dtype,
        sharding=Sharding(tp=made.tp, pp=made.pp, dcp=_ranks(run, "dcp") or 1),
    )
    try:
        return estimate(spec, request, given.capacity)
    except KvplanError as error:
        made.notes.append(f"no prediction: {error}")
        return None


def _answer(made: Ledger, engine: str, version: str | None, found: Estimate, options: Options) -> EngineAnswer | None:
    try:
        return answer_of(engine, version, found, options)
    except KvplanError as error:
        if f"no prediction: {error}" not in made.notes:
            made.notes.append(f"no prediction: {error}")
        return None


def _exact(size: int, words: str = "counted") -> Estimated:
    return Estimated(size, size, size, words)


def _known_version(made: Ledger) -> str | None:
    """The version if it can be read, else the newest rules, and that said."""
    if made.version is None:
        made.missing.append("the version: --engine NAME==VERSION; the rules of the newest confirmed one are used")
        return None
    return made.version if parse_version(made.version) or "dev" in made.version else None


def _fraction(run: Run) -> Fraction | None:
    value = run.largest("fraction")
    return value if value is not None and 0 < value <= 1 else None


# -- vLLM --------------------------------------------------------------------------------------------------


def generation(run: Run) -> str:
    """v0 or v1: only the first engine prints CPU blocks."""
    return "v0" if run.text("cpu_blocks") is not None and run.text("is_v1") is None else "v1"


def _vllm(run: Run, given: Given, made: Ledger) -> None:
    engine = f"vllm-{generation(run)}"
    first = engine == "vllm-v0"
    version = _known_version(made)
    pool = run.bytes("available_gib", poorest=True)
    card = run.bytes("card_gib", poorest=True) or (given.capacity.bytes if given.capacity else None)
    if given.capacity is None and card is not None:
        given = replace(given, capacity=Capacity(f"{gib(card)} card", card))
    longest = given.max_model_len or run.whole("max_model_len")
    spec = _spec(run, given, made)
    found = _estimate(run, given, made, spec, longest or 1) if spec else None
    options = Options(
        fraction=_fraction(run),
        max_model_len=longest if longest and longest > 0 else None,
        max_num_batched_tokens=_positive(run, "batched_tokens"),
        max_num_seqs=_positive(run, "sequences"),
        block_size=None if (run.whole("block_tokens") or 0) > 256 else _positive(run, "block_size"),
        swap_space=_swap(run),
    )
    derived = _answer(made, engine, version, found, options) if found else None
    _vllm_entries(run, made, card, pool, found, derived, options)
    if found and pool is not None:
        ends = [
            _answer(made, engine, version, found, replace(options, pool_bytes=pool + step))
            for step in (-HALF_GIB, HALF_GIB)
        ]
        if ends[0] and ends[1]:
            _vllm_figures(run, made, ends[0].to_dict(), ends[1].to_dict())
    elif found and first and derived is None:
        at = _answer(made, engine, version, found, replace(options, pool_bytes=GIB))
        if at:
            _vllm_figures(run, made, at.to_dict(), at.to_dict())
    if pool is None and run.text("needed_gib") is None:
        made.missing.append('the cache budget ("Available KV cache memory"): a log of INFO level from the start')
    if card is None:
        made.missing.append("the card's memory: --gpu NAME or --memory SIZE")
    tokens = run.whole("tokens") or ((run.whole("blocks") or 0) * 16 or None)
    _room(made, pool, tokens)
    used = options.fraction or Fraction(9, 10)
    if card and used < Fraction(95, 100):
        _gain(made, "--gpu-memory-utilization 0.95", int(card * (Fraction(95, 100) - used)), pool, tokens)
    if derived and derived.activation and (options.max_num_seqs or derived.extra["max_num_seqs"]) > 64 and found:
        fewer = _answer(made, engine, version, found, replace(options, max_num_seqs=64))
        if fewer and fewer.activation:
            _gain(made, "--max-num-seqs 64", derived.activation.bytes - fewer.activation.bytes, pool, tokens)


def _positive(run: Run, name: str) -> int | None:
    value = run.whole(name)
    return value if value is not None and 0 < value <= 10**9 else None


def _swap(run: Run) -> int | None:
    value = run.smallest("swap")
    return None if value is None or not 0 <= value <= 10**6 else int(value * GIB)


def _vllm_entries(
    run: Run,
    made: Ledger,
    card: int | None,
    pool: int | None,
    found: Estimate | None,
    derived: EngineAnswer | None,
    options: Options,
) -> None:
    """Budget = weights + activation + non-torch + pool, of the poorest worker; graphs come on top."""
    budget = run.bytes("budget_gib", poorest=True)
    if budget is None and card is not None:
        fraction = options.fraction
        if fraction is None and derived is not None:
            fraction = Fraction(derived.extra["fraction"]).limit_denominator(1000)
            made.notes.append(f"gpu_memory_utilization {float(fraction):g}, the default: the log does not say")
        budget = int(card * fraction) if fraction else None
    weights = run.bytes("weights_gib")
    activation, other = run.bytes("activation_gib"), run.bytes("non_torch_gib")
    if activation is None and (peak := run.bytes("peak_torch_gib")) is not None and weights is not None:
        activation = max(0, peak - weights)
    loaded = weights_loaded(found) if found is not None and found.spec.weights_known else None
    if budget is not None:
        made.entries.append(Entry("budget (card x utilisation)", budget))
    made.entries.append(Entry("weights", weights, loaded))
    predicted_activation = derived.activation if derived else None
    predicted_other = derived.overhead if derived else None
    if activation is not None or other is not None:
        made.entries.append(Entry("activation peak", activation, predicted_activation))
        made.entries.append(Entry("non-torch memory", other, predicted_other))
        parts = [weights, activation, other, pool]
    else:
        together = None
        if budget is not None and weights is not None and pool is not None:
            together = budget - weights - pool
        both = None
        if predicted_activation and predicted_other:
            both = Estimated(
                predicted_activation.bytes + predicted_other.bytes,
                predicted_activation.low + predicted_other.low,
                predicted_activation.high + predicted_other.high,
            )
        words = "not printed: what is left of the budget"
        if together is not None and together < 0:
            words, made.unexplained = "weights and pool are more than the budget: another utilisation or card", together
        elif both is not None and together is not None and not both.low <= together <= both.high:
            words += "; outside the range expected"
        made.entries.append(Entry("activation peak and non-torch memory", together, both, words))
        parts = [weights, together, pool]
    derived_pool = None
    if derived is not None and derived.ranged is not None:
        low, middle, high = derived.ranged.low.bytes, derived.ranged.pool.bytes, derived.ranged.high.bytes
        derived_pool = Estimated(middle, low, high)
    workers = len(run.by_key("available_gib"))
    reason = f"the poorest of {workers} workers decides" if workers > 1 else ""
    made.entries.append(Entry("KV cache pool", pool, derived_pool, reason))
    graphs = run.bytes("graphs_gib")
    if graphs is not None:
        made.entries.append(
            Entry("CUDA graphs", graphs, None, "captured after the pool, outside the budget before 0.21")
        )
    if budget is not None and made.unexplained is None and all(part is not None for part in parts):
        made.unexplained = budget - sum(part or 0 for part in parts)


def _vllm_figures(run: Run, made: Ledger, low: dict[str, Any], high: dict[str, Any]) -> None:
    """Blocks, tokens, concurrency and the start-up check, each at both ends of the printed budget's rounding."""
    budgeted = (
        ("blocks", "pool_blocks", 0.0),
        ("tokens", "printed_tokens", 0.0),
        ("concurrency", "max_concurrency", 0.0051),
    )
    for name, key, slack in (*budgeted, ("cpu_blocks", "cpu_blocks", 0.0), ("block_tokens", "block_tokens", 0.0)):
        logged = run.smallest(name)
        if (
            logged is None
            or low.get(key) is None
            or (name in ("blocks", "tokens", "concurrency") and not run.text("available_gib"))
        ):
            continue
        made.figures.append(Figure(name, float(logged), low[key] - slack, high[key] + slack))
    for name, key, scale in (("needed_gib", "needed_bytes", GIB), ("estimated_max_len", "estimated_max_model_len", 1)):
        logged = run.smallest(name)
        if logged is not None:
            slack = 0.0051 if scale == GIB else 0
            made.figures.append(Figure(name, float(logged), low[key] / scale - slack, high[key] / scale + slack))
    for figure in made.figures:
        figure.reason = _why(figure, run, made)


def _why(figure: Figure, run: Run, made: Ledger) -> str:
    """One reason for a count that is not ours."""
    if figure.agrees:
        return "within the rounding of the printed budget"
    off = figure.logged / figure.high - 1 if figure.high else 0.0
    if abs(off) <= 0.003:
        return "one block and the rounding of the log"
    if figure.name in ("blocks", "tokens", "concurrency"):
        ratio = figure.high / figure.logged if figure.logged else 0.0
        if made.tp > 1 and abs(ratio - made.tp) < 0.01 * made.tp:
            return f"the printed budget is the sum over {made.tp} devices"
        if made.tp * made.pp > 1 and off < 0:
            return "minimum over ranks: another worker than the printed one had less"
        if off < 0 and abs(off) <= 0.12:
            return "more layers in the pool than the model's own: a drafter (EAGLE, MTP) would explain it"
    return "not explained by the model, version and flags found"


def _room(made: Ledger, pool: int | None, tokens: int | None) -> None:
    """An 8-bit cache where the cache is of 16 bit."""
    if pool and tokens and made.kv_dtype in ("bf16", "fp16", None):
        made.more_room.append(Room("--kv-cache-dtype fp8", 0, tokens))


def _gain(made: Ledger, flags: str, size: int, pool: int | None, tokens: int | None) -> None:
    """A change that frees bytes; in tokens by what a token took in this log."""
    if size > 0:
        made.more_room.append(Room(flags, size, size * tokens // pool if pool and tokens else None))


# -- SGLang ------------------------------------------------------------------------------------------------


def _sglang(run: Run, given: Given, made: Ledger) -> None:
    version = _known_version(made)
    before, after = run.bytes("before_gib", poorest=True), run.bytes("after_gib", poorest=True)
    weights = run.bytes("weights_gib")
    if weights is None and before is not None and after is not None:
        weights = before - after
    fraction = _fraction(run)
    longest = given.max_model_len or run.whole("max_model_len")
    spec = _spec(run, given, made)
    found = _estimate(run, given, made, spec, longest or 1) if spec else None
    options = Options(
        fraction=fraction,
        max_model_len=longest if longest and longest > 0 else None,
        block_size=_positive(run, "page_size"),
        max_running_requests=_positive(run, "running_requests"),
        swa_ratio=_sliding_ratio(run),
        chunked_prefill_size=_positive(run, "chunk"),
        cuda_graph_max_bs=_positive(run, "graph_batch"),
    )
    pool = _sglang_pool(run)
    states = sum(run.bytes(name, poorest=True) or 0 for name in ("conv_gib", "ssm_gib")) or None
    budget = None
    if before is not None and after is not None and fraction is not None:
        budget = after - int(before * (1 - fraction))
    table = None
    if options.max_running_requests and longest:
        table = 4 * (options.max_running_requests + 1) * (longest + 4)
    left = run.bytes("left_gib", poorest=True)
    loaded = weights_loaded(found) if found is not None and found.spec.weights_known else None
    derived = (
        _exact(max(0, budget), "free after the weights - free before x (1 - fraction)") if budget is not None else None
    )
    made.entries += [
        Entry("free before the weights", before),
        Entry("weights", weights, loaded),
        Entry("KV cache pool (K and V)", pool, derived if not states else None),
    ]
    if states:
        made.entries.append(Entry("recurrent states", states))
    if table is not None:
        made.entries.append(
            Entry("request table", None, _exact(table), "int32 [running requests + 1, context + 4], on top of the pool")
        )
    if left is not None:
        made.entries.append(Entry("free after the pools", left))
    graphs = run.bytes("graphs_gib")
    if graphs is not None:
        made.entries.append(Entry("CUDA graphs", graphs, None, "out of the unclaimed share"))
    if after is not None and pool is not None and left is not None:
        made.unexplained = after - left - pool - (states or 0) - (table or 0)
    elif budget is not None and pool is not None:
        made.unexplained = budget - pool - (states or 0)
    tokens = run.whole("tokens") or run.whole("pool_tokens")
    if found is not None and (pool is not None or budget is not None):
        middle, spread = (pool + (states or 0), 2 * HALF_GIB) if pool is not None else (budget or 0, 2 * HALF_GIB)
        ends = [
            _answer(made, "sglang", version, found, replace(options, pool_bytes=max(1, middle + step)))
            for step in (-spread, spread)
        ]
        if ends[0] and ends[1] and tokens is not None:
            low, high = ends[0].to_dict(), ends[1].to_dict()
            figure = Figure("tokens", tokens, low["printed_tokens"], high["printed_tokens"])
            figure.reason = _why(figure, run, made)
            made.figures.append(figure)
    if pool is None and tokens is None:
        made.missing.append(
            'the pool ("KV Cache is allocated", "max_total_num_tokens"): a log of INFO level from the start'
        )
    if fraction is None:
        made.missing.append('mem_fraction_static ("server_args="): it is not an option here, only the budget needs it')
    _room(made, pool, tokens)
    if before and fraction is not None and fraction < Fraction(92, 100):
        more = Fraction(3, 100)
        _gain(made, f"--mem-fraction-static {float(fraction + more):.2f}", int(before * more), pool, tokens)


def _sglang_pool(run: Run) -> int | None:
    """K and V of the poorest worker; layers with windows have a pool of their own, printed on a second line."""
    by_worker: dict[str, int] = {}
    for name in ("k_gib", "v_gib"):
        for key, value in run.by_key(name).items():
            worker = key.split("/")[0] if "/" in key else ""
            number = Fraction(value.replace(",", ""))
            by_worker[worker] = by_worker.get(worker, 0) + int(number * GIB)
    return min(by_worker.values(), default=None)


def _sliding_ratio(run: Run) -> Fraction | None:
    full, sliding = run.smallest("tokens"), run.smallest("swa_tokens")
    if full and sliding and 0 < sliding <= full:
        return Fraction(sliding / full).limit_denominator(1000)
    value = run.smallest("swa_ratio")
    return value if value is not None and 0 < value <= 100 else None


# -- llama.cpp and what holds it ---------------------------------------------------------------------------

_GGML_NAMES = {"f16": "fp16", "f32": "fp32"}


def _llama(run: Run, given: Given, made: Ledger) -> None:
    ollama = any(name.startswith("ollama_") for name, _ in run.values)
    ik = run.text("mla_attn") is not None or run.text("ik") is not None
    program = given.program or ("ik_llamacpp" if ik else "llamacpp")
    made.engine = "ollama" if ollama and given.program is None else program
    made.kv_dtype = run.text("k_type")
    if made.engine == "ollama":
        made.version = given.version or run.text("ollama_version")
    elif given.version is None and run.text("version") is None:
        made.missing.append("the build: --engine llamacpp==bNNNN; the newest rules are used")
    spec = _spec(run, given, made)
    kv = run.total_bytes("kv_mib") or run.bytes("kv_self_mib") or run.total_bytes("kv_device_mib")
    state, compute = run.bytes("state_mib"), run.by_key("compute_mib")
    answer = _llama_answer(run, given, made, spec, program) if spec else None
    values = answer.to_dict() if answer else {}
    for device, size in sorted(run.by_key("weights_mib").items()):
        made.entries.append(Entry(f"weights on {one_line(device, 20)}", _mib(size)))
    cache = _exact(values["kv_bytes"]) if values else None
    made.entries.append(Entry("KV cache", kv, cache, "; ".join(answer.reasons) if answer else ""))
    if state is not None or values.get("state_bytes"):
        made.entries.append(Entry("recurrent state", state, _exact(values["state_bytes"]) if values else None))
    for device, size in sorted(compute.items()):
        host = device.upper().endswith(("HOST", "CPU"))
        made.entries.append(
            Entry(
                f"compute buffer on {one_line(device, 20)}",
                _mib(size),
                None if host or answer is None else answer.compute_buffer,
            )
        )
    devices = run.total_bytes("kv_device_mib")
    if kv is not None and devices is not None:
        made.unexplained = devices - kv
    elif kv is not None and cache is not None:
        made.unexplained = kv - cache.bytes
    if cache is not None and kv is not None:
        lines = max(1, len(run.all("kv_mib")))
        figure = Figure(
            "KV cache MiB", kv / MIB, (cache.bytes - lines * HALF_MIB) / MIB, (cache.bytes + lines * HALF_MIB) / MIB
        )
        figure.reason = (
            "within the rounding of the log"
            if figure.agrees
            else "another build, --swa-full, layers or type than found in the log"
        )
        made.figures.append(figure)
    if kv is None:
        made.missing.append('the KV cache ("KV self size", "llama_kv_cache: size"): a log from the start of the model')
    _llama_room(made, run, kv)


def _llama_answer(run: Run, given: Given, made: Ledger, spec: ModelSpec, program: str) -> EngineAnswer | None:
    ctx = given.max_model_len or run.whole("n_ctx")
    if not ctx or not 0 < ctx <= MAX_TOKENS:
        made.missing.append("n_ctx: --max-model-len N")
        return None
    k, v = (
        _GGML_NAMES.get((run.text(name) or "").lower(), (run.text(name) or "").lower()) for name in ("k_type", "v_type")
    )
    flash = (run.text("flash_attn") or "").lower()
    swa_full = _window_in_full(run, ctx)
    options = Options(
        ctx_size=ctx,
        parallel=_positive(run, "n_seq_max") or 1,
        ubatch_size=_positive(run, "n_ubatch"),
        batch_size=_positive(run, "n_batch"),
        flash_attn={"1": True, "true": True, "enabled": True, "0": False, "false": False, "disabled": False}.get(flash),
        kv_unified=(run.text("kv_unified") or "").lower() == "true",
        swa_full=swa_full,
        mla_mode=run.whole("mla_attn"),
    )
    try:
        found = estimate(spec, Request(1, k_dtype=k or None, v_dtype=v or k or None), given.capacity)
    except KvplanError as error:
        made.notes.append(f"no prediction: {error}")
        return None
    return _answer(made, program, given.version or run.text("version"), found, options)


def _window_in_full(run: Run, ctx: int) -> bool:
    """Two cache lines of equal cells: the window layers hold the whole context (--swa-full)."""
    cells = [int(value) for value in run.all("cells") if value.isdigit()]
    return len(cells) > 1 and len(set(cells)) == 1 and cells[0] >= ctx


def _mib(text: str) -> int:
    return int(Fraction(text.replace(",", "")) * MIB)


def _llama_room(made: Ledger, run: Run, kv: int | None) -> None:
    cells = run.whole("n_ctx")
    if kv and made.kv_dtype in ("f16", "bf16"):
        _gain(made, "--cache-type-k q8_0 --cache-type-v q8_0", kv - kv * 34 // 64, kv, cells)
    ubatch, device = run.whole("n_ubatch"), run.largest("compute_mib")
    if ubatch and device and ubatch > 128 and device * MIB > 256 * MIB:
        _gain(made, f"--ubatch-size {ubatch // 2}", int(device * MIB) // 2, kv, cells)


def _ollama(run: Run, given: Given, made: Ledger) -> None:
    """Only ollama's own lines: sizes, no dimensions."""
    kv = run.total_bytes("kv_gib") or run.total_bytes("kv_mib")
    for name, fact in (("weights", "weights_gib"), ("KV cache", "")):
        made.entries.append(Entry(name, run.total_bytes(fact) if fact else kv))
    compute = (run.total_bytes("compute_gib") or 0) + (run.total_bytes("compute_mib") or 0)
    made.entries.append(Entry("compute graph", compute or None))
    spec, ctx = _spec(run, given, made), given.max_model_len or run.whole("ctx_size")
    if spec is None or not ctx:
        if not ctx:
            made.missing.append("the context: --max-model-len N")
        return
    found = estimate(spec, Request(1, k_dtype=given.kv_dtype, v_dtype=given.kv_dtype))
    answer = _answer(
        made, "ollama", made.version, found, Options(ctx_size=ctx, parallel=_positive(run, "parallel") or 1)
    )
    if answer and kv is not None:
        size = answer.to_dict()["kv_bytes"]
        made.entries[1].predicted = _exact(size)
        made.unexplained = kv - size


# -- TensorRT-LLM, LMDeploy --------------------------------------------------------------------------------


def _tensorrt(run: Run, given: Given, made: Ledger) -> None:
    version = _known_version(made)
    free, pool = run.bytes("free_gib", poorest=True), run.bytes("available_gib", poorest=True)
    fraction = _fraction(run) or Fraction(9, 10)
    made.entries += [
        Entry("card", run.bytes("card_gib", poorest=True)),
        Entry("engine (weights)", run.bytes("weights_mib")),
        Entry("execution context", run.bytes("execution_gib") or run.bytes("execution_mib")),
        Entry("runtime buffers", _either(run, "runtime")),
        Entry("decoder buffers", _either(run, "decoder")),
        Entry("free before the cache", free),
    ]
    predicted = _exact(int(free * fraction), f"{float(fraction):g} of what is free") if free is not None else None
    made.entries.append(Entry("KV cache pool", pool, predicted))
    if free is not None and pool is not None:
        made.unexplained = pool - int(free * fraction)
    spec = _spec(run, given, made)
    found = _estimate(run, given, made, spec, 1) if spec else None
    if found is not None and pool is not None:
        options = Options(block_size=_positive(run, "block_tokens"))
        ends = [
            _answer(made, "tensorrt-llm", version, found, replace(options, pool_bytes=max(1, pool + step)))
            for step in (-HALF_GIB, HALF_GIB)
        ]
        if ends[0] and ends[1]:
            low, high = ends[0].to_dict(), ends[1].to_dict()
            for name, key in (("blocks", "pool_blocks"), ("tokens", "pool_tokens")):
                logged = run.whole(name)
                if logged is not None:
                    figure = Figure(name, logged, low[key], high[key])
                    figure.reason = _why(figure, run, made)
                    made.figures.append(figure)
    if pool is None:
        made.missing.append('the pool ("for max tokens in paged KV cache"): a log of INFO level')
    tokens = run.whole("tokens")
    if free and fraction < Fraction(95, 100):
        _gain(
            made, "--kv_cache_free_gpu_memory_fraction 0.95", int(free * (Fraction(95, 100) - fraction)), pool, tokens
        )


def _either(run: Run, name: str) -> int | None:
    """A size that is printed in MiB or GiB, the unit in a group of its own."""
    value = run.largest(f"{name}_gib")
    if value is None:
        return None
    return int(value * (MIB if (run.text(f"{name}_unit") or "G").startswith("M") else GIB))


def _lmdeploy(run: Run, given: Given, made: Ledger) -> None:
    block, blocks = run.bytes("block_mib"), run.whole("blocks")
    pool = block * blocks if block is not None and blocks is not None else None
    if run.text("quant_policy") in ("4", "8"):
        made.kv_dtype = f"int{run.text('quant_policy')}"
    spec = _spec(run, given, made)
    found = _estimate(run, replace(given, kv_dtype=given.kv_dtype or made.kv_dtype), made, spec, 1) if spec else None
    made.entries.append(Entry("KV cache pool", pool))
    if found is not None and block is not None:
        answer = _answer(
            made,
            "lmdeploy",
            made.version,
            found,
            Options(pool_bytes=pool or GIB, block_size=_positive(run, "block_size")),
        )
        if answer is not None:
            size = answer.to_dict()["block_bytes"]
            figure = Figure("block MiB", block / MIB, size / MIB - 0.00051, size / MIB + 0.00051)
            figure.reason = (
                "within the rounding of the log" if figure.agrees else "another model, layout or cache type than found"
            )
            made.figures.append(figure)
            if pool is not None and blocks is not None:
                made.entries[-1].predicted = _exact(size * blocks)
                made.unexplained = pool - size * blocks
    fraction = _fraction(run)
    if pool is None:
        made.missing.append('the pool ("[BlockManager] max_block_count"): a log with TM_LOG_LEVEL=INFO')
    elif fraction is not None and fraction < Fraction(9, 10):
        tokens = (blocks or 0) * 64
        _gain(made, "--cache-max-entry-count 0.9", int(pool / fraction * (Fraction(9, 10) - fraction)), pool, tokens)
