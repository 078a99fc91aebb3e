"""Answers `check`: whether a start command starts, with how many requests, how fast, and what to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from planner.answers.engine import engine_answer, longest_request
from planner.answers.placement import Placed, placed
from planner.answers.setup import Setup, has_experts, setup
from planner.answers.speed import SpeedAnswer, speed_on
from planner.catalogue.device import Device
from planner.engines.base import EngineAnswer
from planner.errors import BadRequest, KvplanError
from planner.launch.question import Placement, Question
from planner.launch.read import with_flags
from planner.launch.table import MATTERS, QUIET, UNKNOWN, USED
from planner.memory.estimate import SCHEMA_VERSION, Estimate, estimate
from planner.memory.limits import largest, smallest
from planner.memory.request import Capacity, device_capacity
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.options.engine import EngineAsked
from planner.options.speed import SpeedAsked
from planner.options.tables import LLAMA
from planner.shown import NO, Shown
from planner.units import GIB, gib, human_tokens

MOST_ADVICE = 4
MOST_BATCH = 512
CONTEXT_BYTES = GIB // 2
"""What a llama.cpp process holds on each device before a model: the engine's own answer has the same."""


@dataclass(frozen=True, eq=False)
class Advice:
    """A change that was tried: the flags to write, and what comes of it."""

    change: str
    requests: int
    seq_tokens: int


@dataclass(frozen=True, eq=False, repr=False)
class CheckAnswer(Shown):
    """What a start command comes to.

    starts     whether the server starts
    requests   of the asked length at once, over all replicas; 0 where it does not start
    reasons    why it does not start, in words
    speed      None where it is not known, with `no_speed` why
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

    @property
    def unsure(self) -> bool:
        """Whether only an upper bound of the weights or the cache speaks against a start."""
        return self.starts and self.requests < 1 and self.found.bounded

    @property
    def exit_code(self) -> int:
        """0, or 3 where the server refuses to start."""
        return 0 if self.starts else NO

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
            "engine": self.engine.name,
            "engine_version": self.engine.version,
            "device": None if self.device is None else self.device.name,
            "device_bytes": self.capacity.bytes,
            "devices": self.setup.devices,
            "devices_given": self.devices_given,
            "sharding": {name: getattr(sharding, name) for name in ("tp", "pp", "ep", "dp", "dcp")},
            "weight_dtype": self.found.plan.fmt.name,
            "kv_dtype": self.found.fmt.name,
            "seq_tokens": self.setup.request.seq_tokens,
            "starts": None if self.unsure else self.starts,
            "requests": self.requests,
            "reasons": list(self.reasons),
            "weight_bytes_a_device": self.found.per_device.weight_bytes,
            "host_weight_bytes": None if self.placed is None else self.placed.host_weight_bytes,
            "speed": None if self.speed is None else self.speed.to_dict()["batches"],
            "no_speed": self.no_speed,
            "flags": flags,
            "advice": [
                {"change": one.change, "requests": one.requests, "seq_tokens": one.seq_tokens} for one in self.advice
            ],
            "engine_answer": self.engine.to_dict(),
            "notes": list(self.setup.notes),
            "exit_code": self.exit_code,
        }


def check(
    question: Question,
    spec: ModelSpec,
    capacity: Capacity,
    *,
    device: Device | None = None,
    devices: int | None = None,
    seq: int | None = None,
    advise: bool = True,
) -> CheckAnswer:
    """The answer to a start command on so many devices of one kind.

    capacity, device   memory of one device, and the device where it is known by name (else no speed)
    devices            how many there are; None: as many as the command takes
    seq                tokens of a request, in place of the longest that the command admits

    Raises KvplanError for a layout, format or model that the engine does not have.
    """
    if devices is not None and question.engine in LLAMA and question.devices is None:
        question = replace(question, devices=devices)
    asked = setup(question, spec, seq=seq)
    given = devices if devices is not None else question.devices or asked.devices
    answer = _answered(asked, capacity, device, given)
    if not advise:
        return answer
    speed, why = _speed(answer)
    return replace(answer, speed=speed, no_speed=why, advice=tuple(_advice(answer)))


def _answered(asked: Setup, capacity: Capacity, device: Device | None, given: int) -> CheckAnswer:
    capacity = replace(capacity, bytes=max(1, capacity.bytes - asked.question.overhead_bytes))
    if asked.question.engine in LLAMA:
        found, engine, where, requests, reasons = _llama(asked, capacity)
    else:
        found, engine, requests, reasons = _server(asked, capacity)
        where = None
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
        where,
        None,
        None,
    )


def _refusals(asked: Setup, given: int) -> list[str]:
    """What an engine refuses before it loads anything."""
    found: list[str] = []
    spec, question = asked.spec, asked.question
    if asked.devices > given:
        found.append(f"it takes {asked.devices} devices, and there {'is' if given == 1 else 'are'} {given}")
    limit, wanted = spec.max_positions, question.seq_tokens
    lifted = {"--hf-overrides", "--json-model-override-args", "--rope-scaling", "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
              "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"}  # fmt: skip
    names = {
        one.name.replace("_", "-") if one.name.startswith("-") else one.name
        for one in (*question.flags, *question.environment)
    }
    if question.engine not in LLAMA and limit and wanted and wanted > limit and not names & lifted:
        found.append(f"{human_tokens(wanted)} tokens are more than the model's own {human_tokens(limit)}")
    return found


def _server(asked: Setup, capacity: Capacity) -> tuple[Estimate, EngineAnswer, int, list[str]]:
    found = estimate(asked.spec, asked.request, capacity)
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


def _llama(asked: Setup, capacity: Capacity) -> tuple[Estimate, EngineAnswer, Placed, int, list[str]]:
    """llama.cpp's cells for all slots, beside the weights that stay on the devices, split over them."""
    question, count = asked.question, asked.devices
    options = asked.asked[2]
    slots = options.parallel or 1
    if options.ctx_size is None:
        options = replace(options, ctx_size=asked.request.seq_tokens * slots)
    request = replace(asked.request, batch=slots, sharding=Sharding())
    whole = estimate(asked.spec, request, None)
    engine = engine_answer(EngineAsked(asked.asked.name, asked.asked.version, options), whole)
    where = placed(whole, question.placement or Placement())
    cells = engine.ranged.pool.bytes if engine.ranged is not None else 0
    buffer = engine.compute_buffer.bytes if engine.compute_buffer is not None else 0
    beside = whole.per_device.resident_bytes
    split = where.device_weight_bytes + beside + round(cells * where.cache_share)
    needed = round(split * _largest_share(question.placement, count)) + buffer + CONTEXT_BYTES
    requests = engine.most_requests if engine.most_requests is not None else slots
    reasons = []
    if needed > capacity.bytes:
        each = "a device" if count > 1 else "the device"
        reasons.append(
            f"{each} would hold {gib(needed)} (weights {gib(round(where.device_weight_bytes / count))}, cache "
            f"{gib(round(cells * where.cache_share / count))}, buffers {gib(buffer)}), and has {gib(capacity.bytes)}"
        )
    return whole, engine, where, requests, reasons


def _largest_share(placement: Placement | None, count: int) -> float:
    """The share of the fullest device: -ts, else equal parts."""
    shares = placement.shares if placement is not None else ()
    if len(shares) == count and sum(shares) > 0:
        return max(shares) / sum(shares)
    return 1 / count


def _speed(answer: CheckAnswer) -> tuple[SpeedAnswer | None, str | None]:
    """TTFT and TPOT at one request and at as many as it admits."""
    asked = answer.setup
    if not answer.starts:
        return None, None
    if answer.device is None:
        return None, "the device's speed is not known: name it with --gpu"
    if answer.placed is not None and answer.placed.split:
        return None, "part of the weights is on the host, which kvplan does not time yet"
    question = asked.question
    output = min(question.output_tokens or 256, max(1, asked.request.seq_tokens // 2))
    prompt = max(1, min(question.prompt_tokens or 1024, asked.request.seq_tokens - output))
    batches = sorted({1, max(1, min(answer.requests, MOST_BATCH))})
    sharding = asked.request.sharding
    if question.engine in LLAMA and asked.devices > 1:
        row = question.placement is not None and question.placement.split in ("row", "tensor", "graph")
        sharding = Sharding(tp=asked.devices) if row else Sharding(pp=min(asked.devices, len(asked.spec.layers)))
    request = replace(asked.request, seq_tokens=prompt + output, sharding=sharding)
    try:
        timed = SpeedAsked(
            asked.spec,
            request,
            (answer.device,),
            prompt_tokens=prompt,
            output_tokens=output,
            batches=tuple(batches),
            engine=asked.asked,
        )
        return speed_on(answer.device, timed), None
    except KvplanError as error:
        return None, str(error)


def _advice(answer: CheckAnswer) -> Iterable[Advice]:
    """Changes that make it start, or admit more; each was tried."""
    kinds: set[str] = set()
    for change, question, devices in _changes(answer):
        kind = change.split(" ", 1)[0]
        if len(kinds) >= MOST_ADVICE:
            return
        if kind in kinds:
            continue  # the smallest of a kind that helps is enough
        try:
            found = check(
                question, answer.setup.spec, answer.capacity, device=answer.device, devices=devices,
                seq=_asked_length(answer, question), advise=False,
            )  # fmt: skip
        except KvplanError:
            continue
        if found.starts and (not answer.starts or found.requests > answer.requests):
            kinds.add(kind)
            yield Advice(change, found.requests, found.setup.request.seq_tokens)


def _asked_length(answer: CheckAnswer, question: Question) -> int | None:
    """The length that was asked, unless the change is the length itself."""
    now = answer.setup.request.seq_tokens
    return now if question.seq_tokens is None or question.seq_tokens >= now else None


def _changes(answer: CheckAnswer) -> Iterable[tuple[str, Question, int]]:
    """(flags to write, the question with them, devices) in the order of what they cost."""
    question, given = answer.setup.question, answer.devices_given
    if question.engine in LLAMA:
        yield from _llama_changes(answer)
        return
    if answer.engine.refusal is not None:
        for mend in answer.engine.refusal.mends:
            if mend.startswith("--") and len(mend.split()) == 2:  # others name a flag to give, without a value
                yield mend, with_flags(question, mend), given
    names = _FLAGS.get(
        question.engine.partition("-v")[0] if question.engine.startswith("vllm") else question.engine, {}
    )
    fp8 = {"lmdeploy": "int8"}.get(question.engine, "fp8")
    if question.k_dtype is None and "kv" in names:
        yield names["kv"], replace(question, k_dtype=fp8, v_dtype=fp8), given
    if not answer.starts:
        length = _longest(answer)
        if length:
            yield (
                f"{names.get('length', '--max-model-len')} {length}",
                replace(question, seq_tokens=length, options=replace(question.options, max_model_len=length)),
                given,
            )
    if not answer.starts and "weights" in names and question.weights is None and answer.setup.spec.quantization is None:
        yield names["weights"], replace(question, weights="fp8"), given
    fraction = question.options.fraction
    if names.get("share") and (fraction is None or fraction < 0.95) and question.engine.startswith("vllm"):
        from fractions import Fraction

        yield (
            f"{names['share']} 0.95",
            replace(question, options=replace(question.options, fraction=Fraction(19, 20))),
            given,
        )
    if not answer.starts:
        for tp in (2, 4, 8, 16):
            if tp > question.tp and tp * question.pp * question.dp > 1:
                devices = tp * question.pp * question.dp
                words = f"{names.get('tp', '--tp')} {tp}" + (f" on {devices} devices" if devices > given else "")
                yield words, replace(question, tp=tp), max(devices, given)


# What a change is called, by engine
_FLAGS = {
    "vllm": {"kv": "--kv-cache-dtype fp8", "weights": "--quantization fp8", "length": "--max-model-len", "share": "--gpu-memory-utilization", "tp": "--tensor-parallel-size"},
    "sglang": {"kv": "--kv-cache-dtype fp8_e4m3", "weights": "--quantization fp8", "length": "--context-length", "tp": "--tp"},
    "tensorrt-llm": {"kv": "kv_cache_config: {dtype: fp8}", "length": "--max_seq_len", "tp": "--tp_size"},
    "lmdeploy": {"kv": "--quant-policy 8", "length": "--session-len", "tp": "--tp"},
}  # fmt: skip


def _longest(answer: CheckAnswer) -> int:
    """The longest request that starts, rounded down to a step that a person would write."""
    try:
        length = longest_request(answer.setup.asked, answer.found)
    except KvplanError:
        return 0
    step = 1024 if length >= 4096 else 256
    return length // step * step


def _llama_changes(answer: CheckAnswer) -> Iterable[tuple[str, Question, int]]:
    question, given, spec = answer.setup.question, answer.devices_given, answer.setup.spec
    placement = question.placement or Placement()
    slots = question.options.parallel or 1
    if answer.starts:
        return

    def starts(asked: Question) -> bool:
        try:
            return check(
                asked, spec, answer.capacity, devices=given, seq=_asked_length(answer, asked), advise=False
            ).starts
        except KvplanError:
            return False

    def experts(count: int) -> Question:
        return replace(question, placement=replace(placement, expert_layers=count))

    def layers(count: int) -> Question:
        return replace(question, placement=replace(placement, layers=count))

    def length(tokens: int) -> Question:
        return replace(question, seq_tokens=tokens, options=replace(question.options, ctx_size=tokens * slots))

    if question.k_dtype is None:
        own = {"OLLAMA_KV_CACHE_TYPE=q8_0": question.engine == "ollama", "-ctk q8_0 -ctv q8_0": True}
        words = next(text for text, holds in own.items() if holds)
        yield (
            words,
            replace(question, k_dtype="q8_0", v_dtype="q8_0", options=replace(question.options, flash_attn=True)),
            given,
        )
    longest = largest(lambda n: starts(length(n * 256)), answer.setup.request.seq_tokens // 256) * 256
    if longest:
        words = f"OLLAMA_CONTEXT_LENGTH={longest}" if question.engine == "ollama" else f"-c {longest * slots}"
        yield words, length(longest), given
    if question.engine == "ollama":
        return
    if has_experts(spec) and placement.expert_layers >= 0:
        fewest = smallest(lambda n: starts(experts(n)), len(spec.layers), placement.expert_layers + 1)
        if fewest is not None:
            yield f"--n-cpu-moe {fewest}", experts(fewest), given
    most = largest(lambda n: starts(layers(n)), len(spec.layers))
    if most:
        yield f"-ngl {most}", layers(most), given


def capacity_of(device: Device) -> Capacity:
    """The memory of one device, as its driver reports it."""
    if device.memory_bytes < 1:
        raise BadRequest(f"{device.name} has no memory of its own")
    return device_capacity(device)
