"""Answers `check`: whether a start command starts, with how many requests, how fast, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from planner.answers.changes import Tried, adapted, llama_changes, server_changes, with_length
from planner.answers.check_drafts import drafting_in
from planner.answers.engine import as_stored, engine_answer, host_bound, kv_name, longest_request
from planner.answers.setup import Setup, setup
from planner.answers.speed import SpeedAnswer, speed_on
from planner.answers.verdict import AT_MOST, REFUSES, SCALED, STARTS, STARTS_TIGHT, TOO_LONG, UNCERTAIN, tight
from planner.catalogue.device import Device
from planner.engines import ollama_releases
from planner.engines.base import EngineAnswer
from planner.engines.placement import Placed
from planner.engines.sglang import experts_on_host
from planner.errors import KvplanError
from planner.launch.gone import gone, is_named
from planner.launch.question import Question
from planner.launch.table import MATTERS, QUIET, UNKNOWN, USED
from planner.memory.estimate import SCHEMA_VERSION, Estimate, estimate
from planner.memory.limits import largest
from planner.memory.request import Capacity
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.options.check import CheckAsked
from planner.options.engine import EngineAsked
from planner.options.speed import SpeedAsked
from planner.options.tables import LLAMA
from planner.shown import NO, Shown
from planner.speed.backends import runs_on
from planner.speed.unlike_cards import one_after_another, side_by_side
from planner.units import GIB, human_tokens, significant

MOST_ADVICE = 4
MOST_BATCH = 512


@dataclass(frozen=True, eq=False)
class Advice:
    """A change that was tried: the flags to write, and what comes of it."""

    change: str
    requests: int
    seq_tokens: int


@dataclass(frozen=True, eq=False, repr=False)
class CheckAnswer(Shown):
    """What a start command comes to.

    starts     whether the server starts, and takes requests of this length
    requests   of the asked length at once, over all replicas; 0 where it does not start
    reasons    why it does not start, in words
    speed      None where it is not known, with `no_speed` why; with drafts, where the command drafts
    plain_speed   without them, where it drafts
    """

    setup: Setup
    device: Device | None
    capacity: Capacity
    devices_given: int
    found: Estimate
    engine: EngineAnswer
    starts: bool
    requests: int
    reasons: tuple[str, ...]
    placed: Placed | None
    speed: SpeedAnswer | None
    no_speed: str | None
    advice: tuple[Advice, ...] = ()
    plain_speed: SpeedAnswer | None = None

    @property
    def unsure(self) -> bool:
        """Whether only an upper bound of the weights or the cache speaks against a start."""
        return self.starts and self.requests < 1 and self.found.bounded

    @property
    def offloaded_bytes(self) -> int:
        """Bytes of weights of a rank that flags of vLLM or SGLang keep in host memory."""
        options = self.setup.question.options
        here = self.found.per_device.weight_bytes
        return min(here, options.cpu_offload_bytes + experts_on_host(self.found, options.gpu_experts))

    @property
    def kv_dtype(self) -> str:
        """The type of K and V."""
        return kv_name(self.found, self.setup.question.engine)

    @property
    def exit_code(self) -> int:
        """0, or 3 where the server refuses to start."""
        return 0 if self.starts else NO

    def rows(self) -> list[dict[str, Any]]:
        """One row: the answer has no table."""
        return [self.to_dict()]

    @property
    def verdict(self) -> str:
        """starts, starts tightly (not at the low end of the estimate), refuses to start, may or may not start (the interval of the cache spans it), at most; too long or only with RoPE scaling where it starts and takes no such request."""
        if self.unsure:
            return AT_MOST
        refusal = self.engine.refusal
        if not self.starts and refusal is not None and not refusal.sure and len(self.reasons) == 1:
            return UNCERTAIN
        if self.starts:
            return STARTS_TIGHT if tight(self.engine) else STARTS
        if refusal is not None and refusal.starts and len(self.reasons) == 1:
            return SCALED if refusal.mends else TOO_LONG
        return REFUSES

    # long: the keys of the JSON contract, one a line
    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        asked, sharding = self.setup.question, self.setup.request.sharding
        flags = {
            kind: [
                {"name": one.name, "value": one.value, **({"effect": one.effect} if one.effect else {})}
                for one in (*asked.flags, *asked.environment)
                if one.kind == word
            ]
            for kind, word in (("used", USED), ("matters", MATTERS), ("no_effect", QUIET), ("not_known", UNKNOWN))
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "command": asked.said,
            "service": asked.where or None,
            "model_asked": asked.model,
            "model": self.setup.spec.name,
            "read_as": self.setup.spec.read_as.to_dict() if self.setup.spec.read_as else None,
            "engine": self.engine.name,
            "engine_version": self.engine.version,
            "device": None if self.device is None else self.device.name,
            "device_bytes": self.capacity.bytes,
            "devices": self.setup.devices,
            "devices_given": self.devices_given,
            "sharding": {name: getattr(sharding, name) for name in ("tp", "pp", "ep", "dp", "dcp")},
            "weight_dtype": self.found.plan.fmt.name,
            "kv_dtype": self.kv_dtype,
            "seq_tokens": self.setup.request.seq_tokens,
            "verdict": self.verdict,
            "starts": None if self.unsure else self.starts,
            "requests": self.requests,
            "reasons": list(self.reasons),
            "weight_bytes_a_device": self.found.per_device.weight_bytes - self.offloaded_bytes,
            "host_weight_bytes": (self.offloaded_bytes or None)
            if self.placed is None
            else self.placed.host_weight_bytes,
            "host_cache_bytes": None if self.placed is None else self.placed.host_cache_bytes,
            "speed": None if self.speed is None else self.speed.to_dict()["batches"],
            "speed_without_drafts": None if self.plain_speed is None else self.plain_speed.to_dict()["batches"],
            "no_speed": self.no_speed,
            "backend": None if self.speed is None or self.speed.backend is None else self.speed.backend.name,
            "flags": flags,
            "advice": [
                {"change": one.change, "requests": one.requests, "seq_tokens": one.seq_tokens} for one in self.advice
            ],
            "engine_answer": self.engine.to_dict(),
            "notes": list(self.setup.notes),
            "exit_code": self.exit_code,
        }


def check_answer(asked: CheckAsked) -> CheckAnswer:
    """Answers for a start command on devices of one kind, with its speed and what to change."""
    return check(
        asked.question, asked.spec, asked.capacity, device=asked.device, devices=asked.devices, seq=asked.seq,
        cards=asked.cards,
    )  # fmt: skip


def check(  # parameters: a question, what it runs on, and two ways to ask it again for advice
    question: Question,
    spec: ModelSpec,
    capacity: Capacity,
    *,
    device: Device | None = None,
    devices: int | None = None,
    seq: int | None = None,
    cards: tuple[Device, ...] = (),
    advise: bool = True,
) -> CheckAnswer:
    """Answers for a start command on so many devices of one kind.

    capacity, device   memory of one device, and the device where it is known by name (else no speed)
    devices            how many there are; None: as many as the command takes
    seq                tokens of a request, in place of the longest that the command admits
    cards              each device where they are unlike

    Raises KvplanError for a layout, format or model that the engine does not have.
    """
    if devices is not None and question.engine in LLAMA and question.devices is None:
        question = replace(question, devices=devices)
    question = _with_gone_flags(_with_ollamas_length(question, spec, capacity))
    question = _with_ollamas_slots(question, lambda more: _all_on_cards(more, spec, capacity=capacity, cards=cards))
    asked = replace(setup(question, spec, seq=seq), cards=cards)
    given = devices if devices is not None else question.devices or asked.devices
    answer = _answered(asked, capacity, device, given=given)
    if (
        seq is None
        and question.engine in ("sglang", "lmdeploy")
        and answer.engine.refusal is not None
        and answer.engine.refusal.starts
    ):
        shorter = _within_the_pool(asked, answer)
        if shorter is not asked:
            asked, answer = shorter, _answered(shorter, capacity, device, given=given)
    if not advise:
        return answer
    if not answer.starts and question.engine in LLAMA and asked.devices <= given:
        changed = adapted(_tried(answer, capacity))
        if changed is not None:
            again = replace(changed[0], notes=(*changed[0].notes, changed[1]))
            length = _asked_length(asked.request.seq_tokens, again)
            asked = replace(setup(again, spec, seq=length), cards=cards)
            answer = _answered(asked, capacity, device, given=given)
    speed, plain, why = _speed(answer)
    return replace(answer, speed=speed, plain_speed=plain, no_speed=why, advice=tuple(_advice(answer, capacity)))


def _all_on_cards(question: Question, spec: ModelSpec, *, capacity: Capacity, cards: tuple[Device, ...]) -> bool:
    """Whether the devices hold all layers and the head."""
    asked = replace(setup(question, spec), cards=cards)
    placed = _answered(asked, capacity, None, given=asked.devices).placed
    return placed is not None and placed.head_on_cards and placed.layers_on_cards == len(spec.layers)


def _with_gone_flags(question: Question) -> Question:
    """Adds a note for each flag that the newest release has no longer, where the command names no release."""
    if is_named(question):
        return question
    notes = [f"{row.flag} is gone from newer releases, which end at it ({row.text()})" for row in gone(question)]
    return replace(question, notes=(*question.notes, *notes))


def _within_the_pool(asked: Setup, answer: CheckAnswer) -> Setup:
    """SGLang starts with a pool below its context length, and then refuses requests beyond the pool alone; LMDeploy's TurboMind
    cuts the session length.
    """
    held = longest_request(asked.asked, answer.found)
    if not held:
        return asked
    note = (
        f"the pool is smaller than the context length: SGLang starts, and refuses requests of more than {held:,} tokens"
    )
    if asked.question.engine == "lmdeploy":
        note = f"the pool is smaller than the session length: TurboMind starts, and cuts it to {held:,} tokens"
    return replace(asked, request=replace(asked.request, seq_tokens=held), notes=(*asked.notes, note))


def _with_ollamas_length(question: Question, spec: ModelSpec, capacity: Capacity) -> Question:
    """ollama's own context where none is set: by the memory of all devices, and not beyond the model's.

    Source: ollama v0.33.0, server/routes.go, defaultNumCtx; before 0.15.5 envconfig's 4,096, before 0.6.7 2,048.
    """
    if question.engine != "ollama" or question.seq_tokens is not None:
        return question
    total = capacity.bytes * (question.devices or 1)
    fixed = ollama_releases.default_context(ollama_releases.version_of(question.version))
    tokens = fixed or (262_144 if total >= 47 * GIB else 32_768 if total >= 23 * GIB else 4096)
    tokens = min(tokens, spec.max_positions or tokens)
    why = "" if fixed else " with this much memory"
    note = f"no context length is set: ollama takes {human_tokens(tokens)} tokens{why}"
    return with_length(replace(question, notes=(*question.notes, note)), tokens)


def _with_ollamas_slots(question: Question, holds: Callable[[Question], bool]) -> Question:
    """As many slots as an older ollama takes where OLLAMA_NUM_PARALLEL is not set: 4, from 0.6.7 2, where all layers fit so.

    holds   whether the cards hold all layers of a question. Source: server/sched.go, `defaultParallel`, to 0.9.
    """
    slots = ollama_releases.default_slots(ollama_releases.version_of(question.version))
    if question.engine != "ollama" or slots == 1 or question.requests is not None or not question.seq_tokens:
        return question
    note = f"no OLLAMA_NUM_PARALLEL: ollama {question.version} makes {slots} slots where all layers fit so"
    options = replace(question.options, parallel=slots)
    more = with_length(replace(question, options=options, notes=(*question.notes, note)), question.seq_tokens)
    return more if holds(more) else question


def _answered(asked: Setup, capacity: Capacity, device: Device | None, *, given: int) -> CheckAnswer:
    capacity = replace(capacity, bytes=max(1, capacity.bytes - asked.question.overhead_bytes))
    if asked.question.engine in LLAMA:
        found, engine, requests, reasons = _llama(asked, capacity)
    else:
        found, engine, requests, reasons = _server(asked, capacity)
    reasons = [*_refusals(asked, given), *reasons]
    return CheckAnswer(
        asked,
        device,
        capacity,
        given,
        found,
        engine,
        not reasons,
        0 if reasons else requests,
        tuple(reasons),
        engine.placed,
        None,
        None,
    )


def _refusals(asked: Setup, given: int) -> list[str]:
    """What an engine refuses before it loads anything."""
    found: list[str] = []
    if asked.devices > given:
        found.append(f"it takes {asked.devices} devices, and there {'is' if given == 1 else 'are'} {given}")
    if is_named(asked.question):
        found += [f"{row.flag} is no flag of this release ({row.text()})" for row in gone(asked.question)]
    return found


def _server(asked: Setup, capacity: Capacity) -> tuple[Estimate, EngineAnswer, int, list[str]]:
    found = as_stored(asked.asked, estimate(asked.spec, asked.request, capacity))
    engine = engine_answer(asked.asked, found)
    refused = [line.removeprefix("refuses to start: ") for line in engine.lines if line.startswith("refuses to start")]
    if engine.refusal is not None:
        refused = [engine.refusal.text.removeprefix("refuses to start: ")]
    requests = engine.most_requests or 0
    cap = engine.extra.get("max_num_seqs") or asked.asked[2].max_num_seqs or asked.asked[2].max_running_requests
    if cap:
        requests = min(requests, int(cap))
    if asked.question.pool_tokens is not None:
        requests = min(requests, asked.question.pool_tokens // asked.request.seq_tokens)
    if found.bounded and engine.fits is None:
        return found, engine, requests * asked.request.sharding.dp, []  # an upper bound refuses nothing
    if not refused and (engine.fits is False or requests < 1):
        refused = [f"the pool does not hold one request of {human_tokens(asked.request.seq_tokens)} tokens"]
    return found, engine, requests * asked.request.sharding.dp, refused


def _llama(asked: Setup, capacity: Capacity) -> tuple[Estimate, EngineAnswer, int, list[str]]:
    """llama.cpp's cells for all slots beside the weights, card by card, as the engine's own answer has them."""
    question, count = asked.question, asked.devices
    options = asked.asked.options
    slots = options.parallel or 1
    if options.ctx_size is None:
        options = replace(options, ctx_size=asked.request.seq_tokens * (1 if options.kv_unified else slots))
    cards = asked.memories if len(asked.memories) == count else (capacity.bytes,) * count
    free = asked.question.overhead_bytes if len(asked.memories) == count else 0
    options = replace(options, placement=question.placement, cards=tuple(max(1, size - free) for size in cards))
    whole = estimate(asked.spec, replace(asked.request, batch=slots, sharding=Sharding()), capacity)
    engine = engine_answer(EngineAsked(asked.asked.name, asked.asked.version, options), whole)
    requests = engine.most_requests if engine.most_requests is not None else slots
    return whole, engine, requests, [] if engine.refusal is None else [engine.refusal.text]


def _speed(answer: CheckAnswer) -> tuple[SpeedAnswer | None, SpeedAnswer | None, str | None]:
    """TTFT and TPOT at one request and at as many as it admits; without drafts, where there are some; why not."""
    asked = answer.setup
    if not answer.starts:
        return None, None, None
    if answer.device is None:
        return None, None, "the device's speed is not known: name it with --gpu"
    if answer.placed is not None and answer.placed.split:
        return None, None, _host_bound(answer)
    if answer.offloaded_bytes:
        return (
            None,
            None,
            "part of the weights is in host memory, and read or computed there in each step: not timed yet",
        )
    question = asked.question
    output = min(question.output_tokens or 256, max(1, asked.request.seq_tokens // 2))
    prompt = max(1, min(question.prompt_tokens or 1024, asked.request.seq_tokens - output))
    batches = sorted({1, max(1, min(answer.requests, MOST_BATCH))})
    sharding = asked.request.sharding
    if question.engine in LLAMA and asked.devices > 1:
        row = question.placement is not None and question.placement.split in ("row", "tensor", "graph")
        sharding = Sharding(tp=asked.devices) if row else Sharding(pp=min(asked.devices, len(asked.spec.layers)))
    request = replace(asked.request, seq_tokens=prompt + output, sharding=sharding)
    device = _together(answer, answer.device, sharding)
    backend = question.backend
    if backend is not None and backend not in (known := runs_on(answer.device)):
        runs = ", ".join(known) or "none"
        return None, None, f"the text names the backend {backend}, which {answer.device.name} does not run ({runs})"
    timed = SpeedAsked(
        asked.spec, request, (device,), prompt_tokens=prompt, output_tokens=output, batches=tuple(batches),
        engine=asked.asked, backend=backend,
    )  # fmt: skip
    drafts = drafting_in(question, asked.spec)
    try:
        plain = speed_on(device, timed)
        return (
            (plain, None, None) if drafts is None else (speed_on(device, replace(timed, drafting=drafts)), plain, None)
        )
    except KvplanError as error:
        return None, None, str(error)


def _together(answer: CheckAnswer, device: Device, sharding: Sharding) -> Device:
    """A device as fast as the unlike cards together, each with what lies on it; else the device."""
    cards = answer.setup.cards
    if answer.placed is None or len(answer.placed.cards) != len(cards) or not cards:
        return device
    sizes = [card.weight_bytes + card.cache_bytes for card in answer.placed.cards]
    return (side_by_side if sharding.tp > 1 else one_after_another)(device, cards, sizes)


def _host_bound(answer: CheckAnswer) -> str:
    """What is said where the host computes, which the speed model does not time."""
    bound = host_bound(answer.placed, answer.capacity)
    if bound is None:
        return "part of the weights or of the cache is on the host, which kvplan does not time yet"
    return (
        f"part of the weights is on the host: at most {significant(bound[0])} to {significant(bound[1])} tok/s for one user "
        "with host memory of 40 to 80 GB/s (two channels of DDR4-2667 to DDR5-5600; a server's 8 channels or a unified memory "
        "allow more in proportion); the prompt is not timed"
    )


def _tried(answer: CheckAnswer, whole: Capacity) -> Tried:
    """The question of an answer, for changes to it; `whole` is the device's memory before anything is taken off."""
    spec, given, now = answer.setup.spec, answer.devices_given, answer.setup.request.seq_tokens

    def starts(question: Question, free: int) -> bool:
        room = replace(whole, bytes=max(1, whole.bytes - free))
        cards = tuple(replace(one, memory_bytes=max(1, one.memory_bytes - free)) for one in answer.setup.cards)
        try:
            length = _asked_length(now, question)
            return check(question, spec, room, devices=given, seq=length, cards=cards, advise=False).starts
        except KvplanError:
            return False

    @cache
    def longest() -> int:
        if answer.setup.question.engine in LLAMA:
            length = largest(lambda n: starts(with_length(answer.setup.question, 256 * n), 0), now // 256) * 256
        else:
            try:
                length = longest_request(answer.setup.asked, answer.found)
            except KvplanError:
                return 0
        step = 1024 if length >= 4096 else 256
        return length // step * step  # as a person would write it

    return Tried(answer.setup.question, spec, given, now, starts, longest)


def _asked_length(now: int, question: Question) -> int | None:
    """The length that was asked, unless the change is the length itself."""
    return now if question.seq_tokens is None or question.seq_tokens >= now else None


def _advice(answer: CheckAnswer, whole: Capacity) -> Iterator[Advice]:
    """Changes that make it start, or admit more; each was tried."""
    tried = _tried(answer, whole)
    if answer.setup.question.engine in LLAMA:
        changes = iter(()) if answer.starts else llama_changes(tried)
    else:
        changes = server_changes(tried, answer.engine, answer.starts)
    kinds: set[str] = set()
    for change, question, devices in changes:
        kind = change.split(" ", 1)[0]
        if kind in kinds:
            continue  # the smallest of a kind that helps is enough
        try:
            length = _asked_length(tried.tokens, question)
            found = check(question, tried.spec, whole, device=answer.device, devices=devices, seq=length,
                          cards=answer.setup.cards, advise=False)  # fmt: skip
        except KvplanError:
            continue
        if found.starts and (not answer.starts or found.requests > answer.requests):
            kinds.add(kind)
            yield Advice(change, found.requests, found.setup.request.seq_tokens)
        if len(kinds) >= MOST_ADVICE:
            return
