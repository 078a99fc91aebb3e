"""The KV pool that the simulator serves from: a model's byte curve on the fullest device, cut into blocks.

    pool_of(answer, pool_bytes)               the byte curve of `planner.memory.estimate`, in blocks of 16 tokens
    vllm_pool(answer, options, version)       vLLM V1's pool, groups and pages (`planner.engines.vllm_v1`)

A layer that keeps every token adds to the kind without a limit, one with a window to the kind of that window, and
what does not grow (recurrent states, cross attention) is counted once a sequence.
"""

from __future__ import annotations

from planner.engines import vllm, vllm_v1
from planner.engines.base import Options
from planner.engines.vllm_setting import settings
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import Estimate, caches_on_rank, rank_kv_bytes
from planner.memory.limits import largest
from planner.memory.sharding import stages
from planner.serving.block_pool import BlockKind, Pool
from planner.units import MAX_TOKENS, ceil_div, human_bytes
from planner.workloads.arrivals import BLOCK_TOKENS

FAR_TOKENS = 1 << 22  # every window is full long before, and a whole number of blocks


class NoRoom(BadRequest):
    """The model does not fit, or leaves nothing for a cache."""

    exit_code = 3


@dataclass(frozen=True)
class EnginePool:
    """An engine's pool with the limits that it schedules by."""

    pool: Pool
    max_num_seqs: int
    max_num_batched_tokens: int
    longest_tokens: int
    words: tuple[str, ...]


def pool_of(estimate: Estimate, pool_bytes: int, block_tokens: int = BLOCK_TOKENS) -> Pool:
    """Returns the pool: `pool_bytes` of the device that is fullest for `estimate`, and what a sequence holds of it by its length.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.memory.request import Request
    >>> from planner.memory.estimate import estimate
    >>> from planner.readers import read_entry
    >>> pool_of(estimate(read_entry(find_model("llama-7b")), Request(2048)), 1 << 30).held_bytes(17)  # 2 blocks
    16777216

    Raises NoRoom where nothing is left for a cache.
    """
    if pool_bytes < 1:
        raise NoRoom(
            f"no memory is left for the KV cache: short by {human_bytes(-pool_bytes)}; take a larger device, more "
            "ranks (--tp), or smaller weights (--dtype)"
        )
    sharding, stage = estimate.request.sharding, estimate.per_device
    caches = caches_on_rank(stages(estimate.spec, sharding.pp)[stage.stage], sharding)
    fixed = sum(count * cache.state_bytes(estimate.fmt) for cache, count in caches.items())
    grows: dict[int | None, int] = {}
    for cache, count in caches.items():

        def curve(tokens: int, one=cache, times=count) -> int:  # type: ignore[no-untyped-def]
            return rank_kv_bytes({one: times}, sharding, tokens, source_tokens=estimate.source_tokens, fmt=estimate.fmt)

        far = curve(FAR_TOKENS)
        slope = curve(2 * FAR_TOKENS) - far
        if slope:
            block_bytes, limit = ceil_div(slope * block_tokens, FAR_TOKENS), None
            fixed += max(0, far - slope)
        else:
            limit = largest(lambda tokens, full=far, bytes_of=curve: bytes_of(tokens) < full, MAX_TOKENS) + 1  # type: ignore[misc]
            block_bytes = ceil_div(far * block_tokens, limit)
        if limit == 1:
            fixed += far
        elif block_bytes:
            grows[limit] = grows.get(limit, 0) + block_bytes
    kinds = tuple(BlockKind(block_tokens, size, limit) for limit, size in grows.items())
    return Pool(pool_bytes, kinds, fixed)


def vllm_pool(estimate: Estimate, options: Options, version: str | None = None) -> EnginePool:
    """Returns vLLM V1's pool for `estimate`'s device, formats and layout.

    A window holds its tokens and a block more while it decodes; what a long chunk of a prompt holds besides, until
    the step is over, is left out. Raises BadRequest for the first engine (V0), NoRoom where no pool is left.
    """
    setting = settings(estimate, options, version)
    if not setting.v1:
        raise BadRequest(f"vLLM {setting.label} runs its first engine (V0) here; the scheduler simulated is V1's")
    found = vllm_v1.layout(estimate, options, setting)
    ranged = vllm.answer(estimate, options, version).ranged
    if ranged is None:
        raise BadRequest("a pool is wanted: --gpu NAME, --memory 24GiB or --kv-pool SIZE")
    blocks = ranged.pool.blocks or 0
    if not blocks:
        raise NoRoom(f"vLLM {setting.label} has no memory left for a KV pool here; take a larger device or --tp")
    size = found.block_bytes
    kinds: dict[tuple[int, int | None], int] = {}
    fixed = 0
    for group in found.groups:
        kind, tokens = group.kind, group.block * found.dcp
        if kind.form == "state":
            fixed += max(1, kind.held) * size
        elif kind.form == "cross":
            fixed += ceil_div(kind.limit, group.block) * size
        else:
            limit = kind.limit if kind.form == "sliding" else None
            fixed += size if limit else 0
            kinds[tokens, limit] = kinds.get((tokens, limit), 0) + size
    pool = Pool(blocks * size, tuple(BlockKind(tokens, held, limit) for (tokens, limit), held in kinds.items()), fixed)
    words = (f"vLLM {setting.label}: {blocks:,} blocks of {found.block:,} tokens, max_num_seqs {setting.sequences:,}, "
             f"max_num_batched_tokens {setting.batched:,}, max_model_len {setting.longest:,}",)  # fmt: skip
    return EnginePool(pool, setting.sequences, setting.batched, setting.longest, words)
