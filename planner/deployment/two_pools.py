"""Two pools, one that reads prompts and one that decodes (xPyD), against the same cards that do both.

Both pools run the model in the same formats on the same device; each has the layout that takes the fewest cards. First
the decoding pool gets the fewest replicas that meet TPOT, then the other the fewest that meet TTFT beside it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from planner.catalogue.device import Device
from planner.deployment.candidate import Candidate, Check, layout_words
from planner.deployment.choices import Formats
from planner.deployment.plan import Plan, start
from planner.deployment.question import Question
from planner.deployment.search import Answer
from planner.errors import BadRequest, KvplanError
from planner.memory.limits import smallest
from planner.serving.steady_state import Replica
from planner.serving.two_pools import JoinedSteps, PoolsState, Prefills, TwoPools, decoding_load
from planner.speed.energy import Energy, energy
from planner.speed.transfer import DEFAULT_LINK, Link, link_of, sent_bytes

MOST_REPLICAS = 256  # of one pool
ENGINES = ("vllm", "vllm-v1", "sglang", "tensorrt-llm", "lmdeploy")  # that can serve in two pools


@dataclass(frozen=True, eq=False)
class Pools:
    """`prefill_replicas` of one layout that read prompts and `decode_replicas` of another that decode."""

    prefill: Candidate
    decode: Candidate
    prefill_replicas: int
    decode_replicas: int
    link: Link
    state: PoolsState
    check: Check | None = None

    @property
    def device(self) -> Device:
        """The device that both pools are of."""
        return self.decode.device

    @property
    def prefill_devices(self) -> int:
        """Devices of the pool that reads prompts."""
        return self.prefill_replicas * self.prefill.sharding.devices

    @property
    def decode_devices(self) -> int:
        """Devices of the pool that decodes."""
        return self.decode_replicas * self.decode.sharding.devices

    @property
    def devices(self) -> int:
        """Devices of both pools."""
        return self.prefill_devices + self.decode_devices

    @property
    def usd_per_hour(self) -> float | None:
        """Price of both pools; None where the device has none."""
        price = self.decode.price
        return None if price is None else price.usd_per_hour * self.devices

    @property
    def words(self) -> str:
        """Names the pools as engines do: 2P3D, with layouts."""
        return f"{self.prefill_replicas}P{self.decode_replicas}D"

    @property
    def layout(self) -> str:
        """Names the layouts of one replica of each pool."""
        first, second = layout_words(self.prefill.sharding), layout_words(self.decode.sharding)
        return first if first == second else f"{first} reads, {second} decodes"

    @cached_property
    def prompt_bytes(self) -> int:
        """Bytes of a mean prompt's cache on the rank that has most of it to send or to take."""
        tokens = round(self.decode.question.load.prompt_tokens)
        return sent_bytes((self.prefill.room.found, self.decode.room.found), tokens)

    @cached_property
    def tpot_range(self) -> tuple[float, float | None]:
        """TPOT where steps are as fast, and as slow, as the constants' range says; None: overloaded then."""
        low, high = (self._scaled(factor, 1.0, self.link) for factor in self.decode.tpot_range)
        return (low or self.state).tpot_seconds, None if high is None else high.tpot_seconds

    @cached_property
    def ttft_range(self) -> tuple[float, float | None]:
        """TTFT with prefills and the link at the fast, and at the slow, end of their ranges; None: overloaded then."""
        c, (fast, slow) = self.prefill.steps.constants, self.decode.tpot_range
        low = self._scaled(fast, c.ttft_low, self.link.slowed(self.link.high))
        high = self._scaled(slow, c.ttft_high, self.link.slowed(self.link.low))
        return (low or self.state).ttft_seconds, None if high is None else high.ttft_seconds

    @cached_property
    def energy(self) -> Energy | None:
        """Energy of a million output tokens of both pools; None where the TDP is not known. An overloaded pool whose
        steps take s times as long makes at least 1/s of the tokens.
        """
        watts, question = self.device.tdp_watts, self.decode.question
        if watts is None:
            return None
        fast, slow = self.decode.tpot_range
        expected = self.state.rate_per_s
        low, high = (self._scaled(factor, 1.0, self.link) for factor in (fast, slow))
        rates = (expected, high.rate_per_s if high else expected / slow, low.rate_per_s if low else expected)
        first, least, most = (rate * question.load.output_tokens for rate in rates)
        return energy(watts * self.devices, (first, least, most), question.grid_grams)

    @property
    def tight(self) -> bool:
        """The targets are met by the expectation, not by the slow end of its range."""
        targets, (_, tpot), (_, ttft) = self.decode.question.targets, self.tpot_range, self.ttft_range
        late = targets.ttft_seconds is not None and (ttft is None or ttft > targets.ttft_seconds)
        return late or (targets.tpot_seconds is not None and (tpot is None or tpot > targets.tpot_seconds))

    def _scaled(self, decode: float, prefill: float, link: Link) -> PoolsState | None:
        pools = _pools(self.prefill, self.decode, link, slower=(prefill, decode))
        return _state(pools, self.decode.question, (self.prefill_replicas, self.decode_replicas))


@dataclass(frozen=True, eq=False)
class Beside:
    """Two pools on one device beside the best plan on the same device whose replicas do both; None where there is none.

    why_not   why no two pools meet the targets
    """

    device: Device
    pools: Pools | None
    plan: Plan | None
    why_not: str = ""

    @property
    def pays(self) -> bool:
        """Whether two pools take fewer of the same cards for the same targets."""
        return self.pools is not None and (self.plan is None or self.pools.devices < self.plan.devices)


def check_asked(engine: str | None, link: str | None, device: Device) -> None:
    """Raises BadRequest for an engine that does not serve in two pools, and for a text that is no link."""
    if engine is not None and engine not in ENGINES:
        raise BadRequest(
            f"--disaggregate: {engine} has no pools for prompts and answers; it is for {', '.join(ENGINES)}"
        )
    if link is not None and link.partition("+")[0].strip().lower() != "nvlink":
        link_of(link, device)


def beside(answer: Answer, link: str | None) -> tuple[Beside, ...]:
    """Searches two pools on each device of an answer, the best first."""
    question = answer.question
    found = []
    for device in {candidate.device.name: candidate.device for candidate in answer.candidates}.values():
        mine = [candidate for candidate in answer.candidates if candidate.device is device]
        plan = next((plan for plan in answer.plans if plan.candidate.device is device), None)
        try:
            joined = link_of(link or DEFAULT_LINK, device)
        except BadRequest as error:  # no NVLink
            found.append(Beside(device, None, plan, str(error)))
            continue
        pools = _best(mine, joined)
        found.append(Beside(device, pools, plan, "" if pools else "no pools of up to 256 replicas meet the targets"))
    return tuple(sorted(found, key=lambda one: _order(one.pools, question.sort)))


def _order(pools: Pools | None, sort: str) -> tuple[float, ...]:
    if pools is None:
        return (float("inf"),)
    cost = float("inf") if pools.usd_per_hour is None else pools.usd_per_hour
    energy = pools.energy.watt_hours if sort == "energy" and pools.energy else float("inf")
    first = {"cost": cost, "devices": float(pools.devices), "energy": energy}[sort]
    return (first, float(pools.devices), pools.state.tpot_seconds)


def _best(candidates: Iterable[Candidate], link: Link) -> Pools | None:
    """The pools of the fewest devices, the fastest of these."""
    by_formats: dict[Formats, list[Candidate]] = {}
    for candidate in candidates:
        by_formats.setdefault(candidate.formats, []).append(candidate)
    found = [pools for alike in by_formats.values() if (pools := _of_formats(alike, link)) is not None]
    return min(found, key=lambda pools: (pools.devices, pools.state.tpot_seconds), default=None)


def _of_formats(candidates: list[Candidate], link: Link) -> Pools | None:
    """The decoding pool of the fewest devices, and beside it the other; a layout of more devices than were found before
    is not tried.
    """
    ordered = sorted(candidates, key=lambda one: one.sharding.devices)
    decode, count = None, 0
    for one in ordered:
        most = MOST_REPLICAS if decode is None else (decode.sharding.devices * count - 1) // one.sharding.devices
        found = _decoding(one, link, most) if most else None
        if found is not None:
            decode, count = one, found
    best: Pools | None = None
    for one in ordered if decode is not None else ():
        most = MOST_REPLICAS if best is None else (best.prefill_devices - 1) // one.sharding.devices
        assert decode is not None
        best = (_reading(one, decode, (most, count), link=link) if most else None) or best
    return best


def _decoding(candidate: Candidate, link: Link, most: int) -> int | None:
    """The fewest replicas whose TPOT meets its target while prompts never wait."""
    question, pools = candidate.question, _pools(candidate, candidate, link)
    target = question.targets.tpot_seconds

    def meets(count: int) -> bool:
        state = _state(pools, question, (MOST_REPLICAS, count))
        return state is not None and (target is None or state.tpot_seconds <= target)

    return smallest(meets, most)


def _reading(candidate: Candidate, decode: Candidate, counts: tuple[int, int], *, link: Link) -> Pools | None:
    """The fewest replicas, at most the first of `counts`, that meet TTFT beside a decoding pool of the second."""
    most, count = counts
    question, pools = candidate.question, _pools(candidate, decode, link)
    target = question.targets.ttft_seconds

    def meets(replicas: int) -> bool:
        state = _state(pools, question, (replicas, count))
        return state is not None and (target is None or state.ttft_seconds <= target)

    fewest = smallest(meets, most)
    found = None if fewest is None else _state(pools, question, (fewest, count))
    return None if fewest is None or found is None else Pools(candidate, decode, fewest, count, link, found)


# vLLM, docs/features/nixl_connector_usage.md; SGLang, docs/advanced_features/pd_disaggregation.md
_NIXL = '{"kv_connector":"NixlConnector","kv_role":"%s"}'
ROLE_FLAGS = {
    "vllm": (["--kv-transfer-config", _NIXL % "kv_producer"], ["--kv-transfer-config", _NIXL % "kv_consumer"]),
    "sglang": (["--disaggregation-mode", "prefill"], ["--disaggregation-mode", "decode"]),
}


def start_commands(pools: Pools) -> tuple[str | None, str | None]:
    """Returns what starts one replica of each pool; None for an engine whose roles are not set by flags, and where it has no
    start command.
    """
    engine = pools.decode.question.engine
    flags = ROLE_FLAGS.get((engine[0] if engine else "vllm").split("-v")[0])
    if flags is None:
        return None, None
    alone = replace(pools.state.decode, seen=1.0)
    sides = (Plan(pools.prefill, 1, alone), Plan(pools.decode, 1, pools.state.decode))
    lines = []
    for plan, words in zip(sides, flags, strict=True):
        try:
            line = start(plan)[0]
        except KvplanError:
            line = None
        lines.append(None if line is None else f"{line} {shlex.join(words)}")
    return lines[0], lines[1]


def with_replicas(pools: Pools, reading: bool, decoding: bool) -> Pools | None:
    """Returns the pools with a replica more of the one, of the other, or of both; None where there are no more."""
    counts = pools.prefill_replicas + reading, pools.decode_replicas + decoding
    question = pools.decode.question
    state = _state(_pools(pools.prefill, pools.decode, pools.link), question, counts)
    if state is None or max(counts) > MOST_REPLICAS:
        return None
    return replace(pools, prefill_replicas=counts[0], decode_replicas=counts[1], state=state)


def _pools(prefill: Candidate, decode: Candidate, link: Link, *, slower: tuple[float, float] = (1.0, 1.0)) -> TwoPools:
    """A replica of each; `slower` are factors on the steps of the first and of the second."""
    load, sides = decode.question.load, (prefill.room.found, decode.room.found)
    sent = tuple(link.seconds(sent_bytes(sides, item.tokens)) for item in load.prompts)
    joined = Replica(
        JoinedSteps(decode.steps), decoding_load(load), chunk_tokens=decode.chunk_tokens, most=decode.room.admitted,
        share=decode.question.targets.ttft_share, slower=slower[1],
    )  # fmt: skip
    reading = Prefills(prefill.steps, load, chunk_tokens=prefill.chunk_tokens, slower=slower[0])
    ranks = prefill.sharding.dp, decode.sharding.dp
    return TwoPools(reading, joined, *ranks, sent, decode.constants.before_seconds)


def _state(pools: TwoPools, question: Question, counts: tuple[int, int]) -> PoolsState | None:
    """The state with so many times the ranks of `pools`."""
    many = replace(pools, prefill_ranks=counts[0] * pools.prefill_ranks, decode_ranks=counts[1] * pools.decode_ranks)
    if question.load.users is not None:
        return many.at_users(question.load.users)
    assert question.load.rate_per_s is not None
    return many.at_rate(question.load.rate_per_s)
