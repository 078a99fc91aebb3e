"""Builds one candidate deployment, or says why it cannot be one: devices, layout, formats, what fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from planner.catalogue.device import Device
from planner.deployment.choices import GGUF_ENGINES, Formats, kv_dtypes, layouts, over_pcie, weight_dtypes
from planner.deployment.cost import HourlyPrice, price_of
from planner.deployment.question import Question
from planner.deployment.room import Room, engine_room, room
from planner.engines.base import EngineAnswer, mended
from planner.engines.registry import answer_of, request_bytes_of
from planner.errors import BadRequest, UnsupportedModel
from planner.extras.shared_device import split_pool
from planner.frozen import dataclass
from planner.memory.estimate import Estimate
from planner.memory.request import Request, device_capacity
from planner.memory.sharding import Sharding
from planner.serving.steady_state import Replica, State
from planner.speed.backends import backend_on, own_backend, with_backend
from planner.speed.constants import Constants, constants_for
from planner.speed.drafted_steps import DraftedSteps
from planner.speed.drafting import Drafts, drafts_of
from planner.speed.passes import rates_of
from planner.speed.speed import Case, drafting_pays_below, model_constants, tpot_range
from planner.speed.step_model import LinearSteps, step_model
from planner.speed.work import stored_name, work
from planner.units import ceil_div, human_bytes
from planner.workloads.targets import Targets

MAX_DEVICES = 512


CHUNK_TOKENS = 2048  # prompt tokens of a step, unless the engine or the user says otherwise


@dataclass(frozen=True)
class Miss:
    """Why a candidate was dropped, and by how much: `ratio` is what it has over what it may have."""

    reason: str
    ratio: float
    words: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """One replica: a layout of a model in its formats on a device."""

    question: Question
    device: Device
    sharding: Sharding
    formats: Formats
    room: Room
    chunk_tokens: int
    constants: Constants
    answer: EngineAnswer | None = None

    @cached_property
    def steps(self) -> LinearSteps | DraftedSteps:
        plain = step_model(self.room.found, self.device, self.constants)
        return plain if self.drafts is None else DraftedSteps(plain, self.drafts)

    @cached_property
    def drafts(self) -> Drafts | None:
        """Speculative decoding on this layout."""
        return drafts_of(self.room.found, self.question.drafting)

    @property
    def tpot_range(self) -> tuple[float, float]:
        """The range of a step's time for a token, as factors of the expectation."""
        low, high = tpot_range(self.steps.constants, bool(self.steps.sums.experts))
        return (low, high) if self.drafts is None else self.drafts.widened(low, high)

    @cached_property
    def drafting_pays_below(self) -> int | None:
        """The first batch of a replica at which drafts cost more than they save, at the load's mean lengths."""
        load, found = self.question.load, self.room.found
        lengths = max(1, round(load.prompt_tokens)), max(1, round(load.output_tokens))
        rates, drafts = rates_of(self.device, found), self.drafts
        case = Case(self.steps.sums, rates, self.steps.constants, *lengths, 1, "serving", found.source_tokens, drafts)
        return drafting_pays_below(case)

    @cached_property
    def replica(self) -> Replica:
        """Returns the formulas of one of the `dp` ranks, each of which serves sequences of its own."""
        return Replica(
            self.steps,
            self.question.load,
            chunk_tokens=self.chunk_tokens,
            most=self.room.admitted,
            share=self.question.targets.ttft_share,
            before_seconds=self.constants.before_seconds,
            queue_scale=self.constants.queue_scale,
        )

    @property
    def over_pcie(self) -> bool:
        return over_pcie(self.device, self.sharding)

    @property
    def backend(self) -> str | None:
        """The backend of llama.cpp that the speeds are of; None for engines that have none, and for measured devices."""
        engine = self.question.engine
        if engine is None or engine[0] not in GGUF_ENGINES or self.device.own is not None:
            return None
        return self.question.backend or own_backend(self.device)

    @cached_property
    def price(self) -> HourlyPrice | None:
        return price_of(self.device, self.question.prices)

    def state(self, replicas: int, replica: Replica | None = None) -> State | None:
        """Returns the steady state of each rank under its share of the load; None where that is more than it can
        carry.
        """
        if replica is not None:
            return self._state(replicas, replica)
        if replicas not in self._states:
            self._states[replicas] = self._state(replicas, self.replica)
        return self._states[replicas]

    @cached_property
    def _states(self) -> dict[int, State | None]:
        """What was asked before: a search comes back to the replicas it ends at."""
        return {}

    def _state(self, replicas: int, steady: Replica) -> State | None:
        load, ranks = self.question.load, replicas * self.sharding.dp
        if load.users is not None:
            return steady.at_users(ceil_div(load.users, ranks))
        assert load.rate_per_s is not None
        return steady.at_rate(load.rate_per_s / ranks)

    @property
    def most_replicas(self) -> int:
        """Returns the most replicas worth trying: more would stand idle, or take more devices than are searched."""
        most = MAX_DEVICES // self.sharding.devices
        users = self.question.load.users
        if users is None or self.question.idle_sessions:
            return max(1, most)
        return max(1, min(most, ceil_div(users, self.sharding.dp)))

    def holding(self, replicas: int) -> Candidate:
        """Returns the candidate as it is with so many replicas, each of which keeps its share of the idle sessions."""
        if not self.question.idle_sessions:
            return self
        kept = ceil_div(self.question.idle_sessions, replicas * self.sharding.dp)
        return replace(self, room=self.room.keeping(kept))


def failures(state: State | None, targets: Targets) -> list[tuple[str, float]]:
    """Returns the targets that a state misses, with what it has over what it may have; the worst first."""
    if state is None:
        return [("load", float("inf"))]
    return sorted(missed(state, targets), key=lambda item: -item[1])


def missed(found: State | Check, targets: Targets) -> list[tuple[str, float]]:
    """Lists the targets that formulas or a simulation miss, with what they have over what they may have."""
    pairs = (("TTFT", found.ttft_seconds, targets.ttft_seconds), ("TPOT", found.tpot_seconds, targets.tpot_seconds))
    return [(name, has / may) for name, has, may in pairs if may is not None and has > may]


@dataclass(frozen=True)
class Check:
    """What came of `requests` simulated requests, the first of them left out; seeded, so the same each time."""

    requests: int
    tpot_seconds: float
    ttft_seconds: float
    preemptions: int


def _candidates(question: Question, device: Device) -> Iterator[Candidate | Miss]:
    """Layouts x weight formats x cache formats of one device, each with its room, or why not."""
    name = question.engine[0] if question.engine else None
    constants = constants_for("==".join(filter(None, question.engine)) if question.engine else None, device)
    kept = question.as_published
    formats_of = name or ("llamacpp" if question.spec.model_type.startswith("gguf ") else None)
    dtypes = (question.dtype,) if question.dtype or kept else weight_dtypes(question.spec, device, formats_of)
    kvs = (question.kv_dtype,) if question.kv_dtype or kept else kv_dtypes(device, formats_of)
    for sharding in layouts(question.spec, device):
        for dtype in dtypes:
            for kv in kvs:
                formats = Formats(dtype, kv)
                try:
                    found = _candidate(question, device, sharding, formats=formats, constants=constants)
                except UnsupportedModel:
                    raise
                except BadRequest as error:
                    yield Miss("format or layout that the engine does not take", float("inf"), str(error))
                    continue
                if not found.room.admitted:
                    yield _too_large(found)
                else:
                    yield found


def _candidate(
    question: Question, device: Device, sharding: Sharding, *, formats: Formats, constants: Constants
) -> Candidate:
    chunk = question.chunk_tokens or CHUNK_TOKENS
    request = Request(
        1,
        dtype=formats.dtype,
        k_dtype=formats.kv_dtype,
        v_dtype=formats.kv_dtype,
        sharding=sharding,
        prefill_tokens=chunk,
    )
    capacity = device_capacity(device)
    if question.extras is not None:
        given = replace(request, extras=question.extras, seq_tokens=question.load.longest_tokens)
        request = split_pool(question.spec, given, capacity)
    mine = room(question.spec, request, capacity, load=question.load)
    if question.backend is not None:
        constants = _on_backend(mine.found, device, constants, name=question.backend)
    if question.engine is None or question.engine[0] == "transformers":  # transformers has no pool of its own
        return Candidate(question, device, sharding, formats, mine, chunk, constants)
    points, longest = engine_answers(question, mine.found, chunk)
    theirs = engine_room(mine, points, longest, load=question.load)
    return Candidate(question, device, sharding, formats, theirs, chunk, constants, longest)


def _on_backend(found: Estimate, device: Device, constants: Constants, *, name: str) -> Constants:
    """Returns the constants of another backend of llama.cpp than the device's own, for weights of this format."""
    backend = backend_on(name, device, stored_name(found.plan))
    if backend is None or backend.is_own:
        return constants
    of_backend = with_backend(model_constants(constants, work(found)), backend)
    return replace(of_backend, origin=f"{constants.origin}; {backend.words()}")


def engine_answers(question: Question, found: Estimate, chunk: int) -> tuple[list[tuple[int, int]], EngineAnswer]:
    """Asks the engine for the longest request of the load, which `found` is of, and for its bytes of a short, a middle, a long
    and that one."""
    assert question.engine is not None
    load = question.load
    held = sorted(r.tokens for r in load.held_sequences)
    lengths = sorted({held[len(held) // 10], held[len(held) // 2], held[9 * len(held) // 10], load.longest_tokens})
    name, version = question.engine
    options = replace(question.options, max_model_len=question.options.max_model_len or load.longest_tokens)
    if name in ("vllm", "vllm-v0", "vllm-v1"):
        options = replace(options, max_num_batched_tokens=options.max_num_batched_tokens or chunk)
    if name == "sglang":
        options = replace(options, chunked_prefill_size=options.chunked_prefill_size or chunk)

    longest = answer_of(name, version, found, options=options)
    refusal = longest.refusal
    if options.max_num_seqs is None and refusal and refusal.mends and refusal.mends[0].startswith("--max-num-seqs"):
        options = (
            mended(options, refusal) or options
        )  # a default that hybrids refuse is not what a server is started with
        longest = answer_of(name, version, found, options=options)
    short = [n for n in lengths if n < load.longest_tokens]
    points = zip(short, request_bytes_of(name, version, found, lengths=short, options=options), strict=True)
    return [*points, (load.longest_tokens, longest.request_bytes)], longest


def _too_large(found: Candidate) -> Miss:
    """What is missing, over what there is."""
    device = device_capacity(found.device)
    need = device.bytes + found.room.short_bytes
    if found.room.pool_bytes <= 0:
        reason, words = "weights do not fit", "weights, activations and overhead alone"
    else:
        reason, words = (
            "the longest request does not fit",
            f"one request of {found.question.load.longest_tokens:,} tokens",
        )
    return Miss(
        reason, need / device.bytes + 1e3, f"{words}: short by {human_bytes(found.room.short_bytes)} on {place(found)}"
    )


def place(found: Candidate, replicas: int = 1) -> str:
    """Names devices, layout and formats in words."""
    return f"{found.sharding.devices * replicas} x {found.device.name} ({layout_words(found.sharding)}, {formats_words(found)})"


def layout_words(sharding: Sharding) -> str:
    """Names the ranks of a layout.

    >>> layout_words(Sharding(tp=8, pp=2)), layout_words(Sharding(dp=8, ep=8)), layout_words(Sharding())
    ('TP 8 PP 2', 'DP 8 EP 8', 'one device')
    """
    names = [
        f"{name.upper()} {getattr(sharding, name)}" for name in ("tp", "pp", "dp", "ep") if getattr(sharding, name) > 1
    ]
    return " ".join(names) or "one device"


def formats_words(found: Candidate) -> str:
    estimate_of = found.room.found
    return f"weights {estimate_of.plan.fmt.name}, KV {estimate_of.fmt.name}"
