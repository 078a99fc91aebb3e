"""SGLang's share of the memory where --mem-fraction-static gives none, as of each release.

Sources: sglang 0.5.5 `ServerArgs._handle_gpu_memory_settings`, 0.5.23 `memory_hook.py`; older releases'
`ServerArgs.__post_init__`.
"""

from __future__ import annotations

from fractions import Fraction

from planner.engines.base import Options, Version, want
from planner.engines.drafting import drafter_of
from planner.memory.estimate import Estimate
from planner.units import MIB

FRACTION_BY_RANKS = ((16, 79), (8, 81), (4, 85), (2, 87), (1, 88))
MORE_FOR_DP_SINCE: Version = (0, 5, 8)
FRACTION_BY_DEVICE_SINCE: Version = (0, 4, 10)
# From 0.5.15 the drafter is loaded before the pool is sized and its layers are in each token's bytes; before, both came on
# top, out of the share that mem_fraction_static leaves, which was made larger for it.
DRAFTS_IN_POOL_SINCE: Version = (0, 5, 15)
EAGLE_RESERVE_MIB = (((0, 5, 10), 4096), ((0,), 2048))
DRAFT_MODEL_RESERVE_MIB = 6144


def default_fraction(estimate: Estimate, options: Options, version: Version) -> Fraction:
    """Computes mem_fraction_static where no flag sets it.

    Before about 0.4.10 by the number of ranks; then (memory - reserved) / memory with reserved MiB =
    512 + 1.5 · max(chunked prefill, 2048) + 2 · largest CUDA graph batch + 1024 · tp · pp / 8 (data-parallel attention
    3 · batch · dp more, 4.5 for batches above 300 in 0.5.8 and later), at least 10 GiB above 60 GiB; a multimodal model takes 0.95 of it.
    """
    sharding = estimate.request.sharding
    assert estimate.capacity is not None
    if version < FRACTION_BY_DEVICE_SINCE:
        ranks = sharding.tp
        return Fraction(next(percent for least, percent in FRACTION_BY_RANKS if ranks >= least), 100)
    memory = estimate.capacity.bytes // MIB
    spread = sharding.dp if sharding.ep > 1 or options.enable_dp_attention else 1  # replicas of data-parallel attention
    ranks = sharding.tp * spread
    chunk, graphs = _sizes_by_memory(memory, ranks)
    chunk = want(options.chunked_prefill_size, chunk, "--chunked-prefill-size")
    graphs = want(options.cuda_graph_max_bs, graphs, "--cuda-graph-max-bs")
    reserved = Fraction(512) + Fraction(3, 2) * max(chunk, 2048) + 2 * graphs + Fraction(1024 * ranks * sharding.pp, 8)
    if spread > 1:
        more = Fraction(9, 2) if graphs > 300 and version >= MORE_FOR_DP_SINCE else Fraction(3)
        reserved += graphs * spread * more
    if memory > 60 * 1024:
        reserved = max(reserved, Fraction(10 * 1024))
    reserved += _drafting_reserve_mib(estimate, version)
    fraction = max(Fraction(0), Fraction(round((memory - reserved) / memory * 1000), 1000))  # 0: nothing is left
    return fraction * Fraction(95, 100) if estimate.spec.towers else fraction


def _sizes_by_memory(memory: int, tp: int) -> tuple[int, int]:
    """(chunked prefill, largest CUDA graph batch) by MiB of the device."""
    wide = tp >= 4
    for limit, chunk, few, many in (
        (20, 2048, 8, 8),
        (35, 2048, 24, 80),
        (60, 4096, 32, 160),
        (90, 8192, 256, 512),
        (160, 8192, 256, 512),
    ):
        if memory < limit * 1024:
            return chunk, many if wide else few
    return 16384, 512


def _drafting_reserve_mib(estimate: Estimate, version: Version) -> int:
    """MiB that the default fraction leaves for a drafter, before it was counted in the pool."""
    drafter = drafter_of(estimate)
    if drafter is None or version >= DRAFTS_IN_POOL_SINCE:
        return 0
    if drafter.kind == "model":
        return DRAFT_MODEL_RESERVE_MIB
    return next(size for since, size in EAGLE_RESERVE_MIB if version >= since)
