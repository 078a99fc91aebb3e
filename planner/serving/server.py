"""A replica as it is simulated: its steps, its pool in an engine's terms, and the limits that it schedules by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.catalogue.device import Device
from planner.engines.base import Options
from planner.engines.registry import answer_of
from planner.errors import BadRequest
from planner.memory.estimate import Estimate, estimate
from planner.memory.limits import pool_bytes
from planner.memory.request import Capacity, Request
from planner.model.spec import ModelSpec
from planner.serving.block_pool import Pool
from planner.serving.pools import EnginePool, NoRoom, pool_of, vllm_pool
from planner.speed.constants import Constants
from planner.speed.drafted_steps import DraftedSteps
from planner.speed.drafting import DraftingAsked, Drafts, drafts_of
from planner.speed.measured_steps import MeasuredSteps, measured_steps
from planner.speed.step_model import LinearSteps, step_model
from planner.speed.transfer import Tier, cache_bytes
from planner.speed.work import work
from planner.units import PS_PER_SECOND, human_bytes
from planner.workloads.arrivals import BLOCK_TOKENS
from planner.workloads.traces import HASH_TOKENS

OTHER_SCHEDULERS = ("sglang", "tensorrt-llm", "lmdeploy")


DEFAULT_SEQS, DEFAULT_BATCHED = 256, 8192


Asked = tuple[str, str | None, Options]


@dataclass(frozen=True)
class Server:
    """One replica: its estimate, steps, pool and the limits that it schedules by; `tier_bytes` of host memory or disk, all
    ranks together, for blocks that leave the pool.
    """

    found: Estimate
    model: LinearSteps | DraftedSteps | MeasuredSteps
    constants: Constants
    pool: Pool
    max_num_seqs: int
    max_num_batched_tokens: int
    longest_tokens: int | None
    words: tuple[str, ...]
    tier: Tier | None = None
    tier_bytes: int = 0
    drafts: Drafts | None = None

    @property
    def tier_blocks(self) -> tuple[int, int]:
        """(blocks of 512 tokens that the tier holds for one rank that schedules, picoseconds to bring one back)."""
        if self.tier is None or not self.pool.hash_bytes:
            return 0, 0
        sharding = self.found.request.sharding
        each = cache_bytes(self.found, HASH_TOKENS) * sharding.devices
        return self.tier_bytes // max(1, each), round(self.tier.seconds(self.found, HASH_TOKENS) * PS_PER_SECOND)


def server(
    spec: ModelSpec, request: Request, device: Device, *, room: Capacity, constants: Constants, asked: Asked | None
) -> Server:
    """Describes a replica in an engine's terms (`asked`: name, version, flags), or with all that the byte curve leaves free.

    `request` says formats and layout; its length is that of the longest request.
    """
    found = estimate(spec, replace(request, batch=request.sharding.dp), room)
    if found.fits is False and asked is None:
        raise NoRoom(
            f"{spec.name} does not fit {room.name} with one request: short by {human_bytes(-(found.free_bytes or 0))}"
        )
    engine = _engine_pool(found, asked)
    model = step_model(found, device, constants)
    return Server(
        found, model, model.constants, engine.pool, engine.max_num_seqs, engine.max_num_batched_tokens, engine.longest_tokens,
        engine.words,
    )  # fmt: skip


def with_drafts(replica: Server, asked: DraftingAsked) -> Server:
    """Returns the replica with steps that verify drafted tokens; that each takes a place in a step's budget is left out."""
    drafts = drafts_of(replica.found, asked)
    assert drafts is not None and isinstance(replica.model, LinearSteps)
    steps = DraftedSteps(replica.model, drafts)
    return replace(replica, model=steps, drafts=drafts, words=(*replica.words, drafts.words()))


def with_measured_steps(replica: Server, text: str, where: str) -> Server:
    """Returns the replica with steps from a file of measured points in place of the speed model's."""
    model = measured_steps(text, where, work(replica.found))
    batches, lengths = (f"{points[0][0]:,} to {points[-1][0]:,}" for points in (model.decode, model.prefill))
    origin = f"{where}: steps measured at batches of {batches} and prompts of {lengths} tokens"
    constants = replace(
        replica.constants, request_seconds=0.0, tpot_low=0.9, tpot_high=1.1, experts_low=0.9, experts_high=1.1,
        ttft_low=0.85, ttft_high=1.15, origin=origin,
    )  # fmt: skip
    return replace(replica, model=model, constants=constants)


def _engine_pool(estimate: Estimate, asked: Asked | None) -> EnginePool:
    positions = estimate.spec.max_positions or estimate.request.seq_tokens
    if asked is None:
        pool = pool_of(estimate, pool_bytes(estimate))
        words = (f"pool: all that is left of {estimate.capacity.name if estimate.capacity else 'the device'}",)
        return EnginePool(pool, DEFAULT_SEQS, DEFAULT_BATCHED, positions, words)
    name, version, options = asked
    if name in ("vllm", "vllm-v1"):
        return vllm_pool(estimate, options, version)
    if name not in OTHER_SCHEDULERS:
        raise BadRequest(
            f"{name} is not simulated: how it admits and batches requests is not modelled; choose vllm, {', '.join(OTHER_SCHEDULERS)}"
        )
    answer = answer_of(name, version, estimate, options=options)
    if answer.ranged is None or answer.ranged.pool.bytes < 1:
        raise NoRoom(f"{name} has no memory left for a KV pool here; take a larger device or --tp")
    pool = pool_of(estimate, answer.ranged.pool.bytes, answer.block_tokens or BLOCK_TOKENS)
    seats = options.max_running_requests or DEFAULT_SEQS
    batched = max(seats, options.chunked_prefill_size or DEFAULT_BATCHED)
    words = (
        f"{name} {answer.version}: its pool; scheduled by vLLM's rule, {seats:,} sequences, {batched:,} tokens a step",
    )
    return EnginePool(pool, seats, batched, options.max_model_len or positions, words)
