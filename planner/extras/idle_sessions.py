"""Idle sessions: their cache in host memory or on disk, how many a tier holds, and how long one takes to come back.

Source of the idea: vLLM's OffloadingConnector, SGLang's HiCache, LMCache, Mooncake (arXiv:2407.00079): each rank
copies its own share of a session out and in again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.memory.estimate import Estimate, caches_on_rank, rank_kv_bytes, sequence_kv_bytes
from planner.memory.sharding import stages


@dataclass(frozen=True)
class Tiers:
    """Where idle sessions may go, for the whole layout; a size of None: there is no such tier.

    link_bytes_per_s   between one device and the host, one direction; None where it is not known
    ssd_bytes_per_s    of the disks together
    """

    sessions: int = 0
    host_bytes: int | None = None
    ssd_bytes: int | None = None
    link_bytes_per_s: int | None = None
    ssd_bytes_per_s: int | None = None


@dataclass(frozen=True)
class SessionBytes:
    """One session's cache: on the device that holds most of it, on all ranks together, and stored once."""

    device_bytes: int
    ranks_bytes: int
    once_bytes: int


def session_bytes(estimate: Estimate) -> SessionBytes:
    """Returns the bytes that one sequence of the request leaves behind.

    ranks = sum over pipeline stages of tp · (KV and state of the fullest rank): heads and latents that ranks hold
    several times are copied out several times, unless the store keeps one (then `once_bytes`).

    >>> from planner.catalogue.entries import find_model
    >>> from planner.memory.request import Request
    >>> from planner.memory.estimate import estimate
    >>> from planner.readers import read_entry
    >>> session_bytes(estimate(read_entry(find_model("llama-3.1-8b")), Request(8192))).ranks_bytes    # 8192 · 128 KiB
    1073741824
    """
    sharding, fmt, tokens = estimate.request.sharding, estimate.fmt, estimate.request.seq_tokens
    shares = []
    for layers in stages(estimate.spec, sharding.pp):
        caches = caches_on_rank(layers, sharding)
        state = sum(count * cache.state_bytes(fmt) for cache, count in caches.items())
        shares.append(state + rank_kv_bytes(caches, sharding, tokens, source_tokens=estimate.source_tokens, fmt=fmt))
    once = sequence_kv_bytes(estimate.spec, tokens, estimate.source_tokens, fmt=fmt)
    states = sum(count * cache.state_bytes(fmt) for layer, count in estimate.spec.groups for cache in layer.caches)
    return SessionBytes(max(shares), sharding.tp * sum(shares), once + states)


@dataclass(frozen=True)
class IdleAnswer:
    """Where so many idle sessions lie, and the least time that one of each tier takes to come back.

    host_capacity, ssd_capacity   sessions that the tier holds; None without the tier, or where nothing is kept
    on_host, on_ssd, left         where the asked sessions go: host first, then disk; `left` are computed again
    """

    session: SessionBytes
    sessions: int
    host_capacity: int | None
    ssd_capacity: int | None
    on_host: int
    on_ssd: int
    left: int
    host_restore_seconds: float | None
    ssd_restore_seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "sessions": self.sessions,
            "session_bytes": self.session.ranks_bytes,
            "session_bytes_stored_once": self.session.once_bytes,
            "session_device_bytes": self.session.device_bytes,
            "host_sessions_most": self.host_capacity,
            "ssd_sessions_most": self.ssd_capacity,
            "host_sessions": self.on_host,
            "ssd_sessions": self.on_ssd,
            "sessions_left": self.left,
            "host_restore_seconds_bound": self.host_restore_seconds,
            "ssd_restore_seconds_bound": self.ssd_restore_seconds,
        }


def idle_answer(estimate: Estimate, tiers: Tiers) -> IdleAnswer:
    """Fills tiers in order, host memory first.

    most = floor(tier bytes / session bytes); restore seconds (a bound: no latency, a link of its own for each
    device) = device bytes / link for the host, and for the disk at least session bytes / its rate as well.
    """
    each = session_bytes(estimate)
    host, ssd = _held(tiers.host_bytes, each.ranks_bytes), _held(tiers.ssd_bytes, each.ranks_bytes)
    on_host = min(tiers.sessions, host or 0)
    on_ssd = min(tiers.sessions - on_host, ssd or 0)
    link = None if tiers.link_bytes_per_s is None else each.device_bytes / tiers.link_bytes_per_s
    disk = None if tiers.ssd_bytes_per_s is None else each.ranks_bytes / tiers.ssd_bytes_per_s
    return IdleAnswer(
        session=each,
        sessions=tiers.sessions,
        host_capacity=host,
        ssd_capacity=ssd,
        on_host=on_host,
        on_ssd=on_ssd,
        left=tiers.sessions - on_host - on_ssd,
        host_restore_seconds=link,
        ssd_restore_seconds=None if disk is None else max(disk, link or 0.0),
    )


def _held(tier_bytes: int | None, each_bytes: int) -> int | None:
    return None if tier_bytes is None or not each_bytes else tier_bytes // each_bytes
