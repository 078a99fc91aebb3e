"""What one flag would change on a server that runs: each change is tried by answering the question again with it.

The server's own times scale the speeds (docs/measured.md), so a change is held against what this server does. What is
compared is how many requests at once meet the targets, and the output tokens a second that these give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from planner.answers.changes import flags_of
from planner.answers.users import UsersAsked, most_users
from planner.dtypes.names import float_dtype
from planner.engines.registry import family
from planner.errors import KvplanError
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import device_capacity
from planner.options.running import SHARES, Load, Running, speed_of
from planner.options.speed import SpeedAsked
from planner.options.tables import LLAMA
from planner.speed.constants import constants_for
from planner.speed.drafting import drafts_of
from planner.speed.measured_fit import fitted
from planner.speed.observed import Observed
from planner.workloads.targets import Targets

WORTH = 1.02  # a change of less is within what the estimate can tell
SHARE = Fraction(95, 100)


@dataclass(frozen=True)
class Outcome:
    """What a server comes to with some flags.

    flags          to write; "" as it is
    devices        of one replica
    most_users     requests at once until a target fails or memory is full, and what ends it
    tokens_per_s   output tokens of so many, all together; 0 where not one request meets the targets
    tpot_seconds, ttft_seconds   at the load that runs now
    """

    flags: str
    devices: int
    most_users: int
    by: str
    tokens_per_s: float
    tpot_seconds: float
    ttft_seconds: float

    @property
    def tokens_per_s_device(self) -> float:
        """Returns the output tokens a second of one device."""
        return self.tokens_per_s / self.devices


@dataclass(frozen=True)
class Advice:
    """The server as it is, and the changes that are worth it, those of the largest gain first.

    points   of the server's own that scale the speeds
    tried    the flags of all changes that were answered
    """

    load: Load
    targets: Targets
    now: Outcome
    changes: tuple[Outcome, ...]
    points: int
    tried: tuple[str, ...]

    def gain(self, change: Outcome) -> float | None:
        """Output tokens a second of one device, over those now; None where now no request meets the targets."""
        return change.tokens_per_s_device / self.now.tokens_per_s_device if self.now.tokens_per_s else None

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract."""
        return {
            "load": vars(self.load),
            "target_ttft_seconds": self.targets.ttft_seconds,
            "target_tpot_seconds": self.targets.tpot_seconds,
            "points": self.points,
            "tried": list(self.tried),
            "now": vars(self.now),
            "changes": [{**vars(change), "gain": self.gain(change)} for change in self.changes],
        }


def advice(running: Running, observed: Sequence[Observed], *, load: Load, targets: Targets) -> Advice:
    """Tries every change that the engine has a flag for.

    running    what runs now
    observed   what was measured there; those that the device cannot reach raise BadRequest
    """
    asked, slots = speed_of(running, load), running.slots
    one, engine = _estimate(asked), None if asked.engine is None else asked.engine.label
    device = asked.devices[0]
    fit = fitted(observed, one, device, base=constants_for(engine, device)) if observed else None

    def outcome(flags: str, changed: Running, slots: int | None = slots) -> Outcome:
        question = speed_of(changed, load)
        found, name = _estimate(question), None if question.engine is None else question.engine.label
        base = constants_for(name, question.devices[0])
        constants = base if fit is None else fit.applied(base)
        users = UsersAsked(
            found, question.devices[0], question.engine, load.prompt_tokens, load.output_tokens, drafts_of(found, question.drafting)
        )  # fmt: skip
        most, by = within(most_users(users, constants, targets), slots)
        there, here = (users.speed(max(1, batch), constants) for batch in (most, load.batch))
        rate = there.decode_tokens_per_s.value if most else 0.0
        devices = found.request.sharding.devices
        return Outcome(flags, devices, most, by, rate, here.tpot_seconds.value, here.ttft_seconds.value)

    now, tried = outcome("", running), list[Outcome]()
    for flags, changed in _changes(running, asked, one):
        try:
            tried.append(outcome(flags, changed))
        except KvplanError:
            continue  # a flag that this model, layout or version does not take
    more = flags_of(running.engine_name).get("slots")
    if slots is not None and more is not None:
        tried.append(outcome(more.format(2 * slots), running, 2 * slots))
    worth = [change for change in tried if _worth(change, now)]
    worth.sort(key=lambda change: (-change.tokens_per_s_device, change.tpot_seconds))
    return Advice(load, targets, now, tuple(worth), len(observed), tuple(change.flags for change in tried))


def within(most: tuple[int, str], slots: int | None) -> tuple[int, str]:
    """Returns the most at once, and what ends it, of a server with so many slots.

    >>> within((9, "memory"), 4), within((3, "TPOT"), 4)
    ((4, 'slots'), (3, 'TPOT'))
    """
    return most if slots is None or most[0] <= slots else (slots, "slots")


def _worth(change: Outcome, now: Outcome) -> bool:
    """More tokens of each device; or, where the targets are missed now, a change that meets them."""
    if not now.tokens_per_s:
        return change.tokens_per_s > 0
    return change.tokens_per_s_device > now.tokens_per_s_device * WORTH


def _estimate(asked: SpeedAsked) -> Estimate:
    return estimate(asked.spec, replace(asked.request, batch=1), device_capacity(asked.devices[0]))


_SHARES = {
    "sglang": "--mem-fraction-static",
    "tensorrt-llm": "--kv_cache_free_gpu_memory_fraction",
    "lmdeploy": "--cache-max-entry-count",
    "vllm": "--gpu-memory-utilization",
}
_EIGHT_BITS = {"lmdeploy": "int8", "exllamav2": "exl3_q8", "exllamav3": "exl3_q8"} | dict.fromkeys(LLAMA, "q8_0")
_DRAFTS = {
    "sglang": "--speculative-algorithm NGRAM",
    "vllm": '--speculative-config \'{"method": "ngram", "num_speculative_tokens": 4}\'',
}


def _changes(running: Running, asked: SpeedAsked, estimate: Estimate) -> Iterator[tuple[str, Running]]:
    """(what to write, the server with that changed), for what the engine has a flag or a file for."""
    engine = "" if asked.engine is None else asked.engine.name
    llama, names = engine in LLAMA, flags_of(engine or "vllm")
    if not llama and engine not in _EIGHT_BITS:
        engine = family(engine)
    if float_dtype(estimate.fmt.name) is not None and "kv" in names:
        attention = "on" if engine == "llamacpp" else None
        yield (
            names["kv"],
            replace(running, kv_dtype=_EIGHT_BITS.get(engine, "fp8"), flash_attn=attention or running.flash_attn),
        )
    if float_dtype(estimate.plan.fmt.name) is not None and asked.spec.quantization is None:
        yield from _smaller_weights(running, names, llama=llama, fp8="fp8" in asked.devices[0].dense_flops_per_s)
    if engine in SHARES:
        given = asked.engine.options.fraction if asked.engine is not None else None
        if given is None or given < SHARE:
            yield f"{_SHARES[engine]} {float(SHARE)}", replace(running, share=SHARE)
    tp = running.tp or 1
    if names.get("tp", "").startswith("--") and tp <= 8:  # llama.cpp splits by layers, which makes no request faster
        yield f"{names['tp']} {2 * tp}", replace(running, tp=2 * tp)
    if asked.drafting is None and engine in _DRAFTS and asked.spec.model_type:
        yield _DRAFTS[engine], replace(running, drafter="ngram")


def _smaller_weights(
    running: Running, names: dict[str, str], *, llama: bool, fp8: bool
) -> Iterator[tuple[str, Running]]:
    """Weights of fewer bits: a flag that makes them, or a file that holds them."""
    if llama:
        yield "a Q4_K_M file in place of this one", replace(running, dtype="q4_k_m")
        return
    if fp8 and "weights" in names:
        yield names["weights"], replace(running, dtype="fp8")
    yield "an AWQ checkpoint (4 bit) in place of this one", replace(running, dtype="awq")
