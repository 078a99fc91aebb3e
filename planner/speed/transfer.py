"""The time that a KV cache takes over a link: from a pool that reads prompts to one that decodes, or back from host memory
or disk.

    seconds = bytes / (reached · link) + latency

A link is one device's, in one direction; every rank sends what it holds over its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from planner.catalogue.device import Device, pcie_bytes_per_s, slot_generation
from planner.errors import BadRequest, one_line
from planner.memory.estimate import Estimate, caches_on_rank, rank_kv_bytes
from planner.memory.sharding import stages

# Mooncake's transfer engine moves 87 GB/s over 4 x 200 Gbit/s and 190 GB/s over 8 x 400 Gbit/s (its README of 2025:
# 87 % and 47.5 % of the signalling rate). The first is expected; the second, and the whole rate, are the ends.
REACHED, REACHED_LOW, REACHED_HIGH = 0.87, 0.475, 1.0
PCIE_REACHED = 0.85  # copies to and from pinned memory reach 80 to 90 % of a slot's rate (`pcie_bytes_per_s`)
RDMA_SECONDS, TCP_SECONDS = 5e-6, 50e-6  # a message's own time: one-sided RDMA a few us, TCP through the kernel tens
MAX_LATENCY_SECONDS = 10.0
GBIT = 10**9 // 8

# InfiniBand: HDR 200, NDR 400, XDR 800 Gbit/s a port (InfiniBand Trade Association, roadmap); Ethernet: IEEE 802.3.
NETWORKS = {
    "200g": (200 * GBIT, RDMA_SECONDS, "200 Gbit/s InfiniBand HDR or RoCE"),
    "400g": (400 * GBIT, RDMA_SECONDS, "400 Gbit/s InfiniBand NDR or RoCE"),
    "800g": (800 * GBIT, RDMA_SECONDS, "800 Gbit/s InfiniBand XDR or RoCE"),
    "10gbe": (10 * GBIT, TCP_SECONDS, "10 Gbit/s Ethernet"),
    "25gbe": (25 * GBIT, TCP_SECONDS, "25 Gbit/s Ethernet"),
    "100gbe": (100 * GBIT, TCP_SECONDS, "100 Gbit/s Ethernet"),
}
# Disks: what the sheets of drives say of sequential reads; a drive is one for all ranks.
DISKS = {"nvme": (7 * 10**9, "an NVMe drive, PCIe 4.0 x4"), "sata": (550 * 10**6, "a SATA drive")}
DISK_SECONDS = 100e-6  # a read's own time on flash
OF_A_DEVICE = ("nvlink", "pcie")
DEFAULT_LINK = "400g"
RATE = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(GB|GiB|MB|Gbit|Gb)/s")
UNITS = {"GB": 10**9, "GiB": 1 << 30, "MB": 10**6, "Gbit": GBIT, "Gb": GBIT}
LATENCY = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*(us|ms|s)")
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Link:
    """A link in one direction, of one device.

    reached, low, high   shares of its rate that a transfer reaches: expected, at worst, at best
    """

    words: str
    bytes_per_s: float
    latency_seconds: float
    reached: float = REACHED
    low: float = REACHED_LOW
    high: float = REACHED_HIGH

    def seconds(self, size: float) -> float:
        """Computes the time of so many bytes, expected; 0 for none."""
        return transfer_seconds(size, self.bytes_per_s * self.reached, self.latency_seconds)

    def slowed(self, reached: float) -> Link:
        """Returns the link where transfers reach this share of it."""
        return replace(self, reached=reached)


def transfer_seconds(size: float, bytes_per_s: float, latency_seconds: float = 0.0) -> float:
    """Computes bytes / rate + latency; 0 where nothing is sent.

    Left out: what the engines on both sides do besides (handshakes, block tables, the way of a request over a proxy), and
    layers that are sent while others are computed.

    >>> round(transfer_seconds(1.31e9, 50e9, 5e-6), 6)     # 4,000 tokens of Llama-2-70B (320 KiB each) at 400 Gbit/s
    0.026205
    >>> transfer_seconds(0, 50e9, 1.0)
    0.0
    """
    return size / bytes_per_s + latency_seconds if size else 0.0


def link_of(text: str, device: Device, name: str = "--link") -> Link:
    """Reads a link: a network's name, `nvlink` or `pcie` of the device, or a rate that is reached; `+5ms` adds to its latency.

    >>> from planner.catalogue.entries import find_device
    >>> link_of("400g", find_device("h100-sxm")).bytes_per_s, link_of("40GB/s+2ms", find_device("l4")).latency_seconds
    (50000000000.0, 0.002)
    """
    rate, plus, added = text.strip().partition("+")
    found = _named(rate.strip(), device, name)
    if not plus:
        return found
    match = LATENCY.fullmatch(added.strip())
    latency = float(match.group(1)) * SECONDS[match.group(2)] if match else math.inf
    if latency > MAX_LATENCY_SECONDS:
        raise BadRequest(
            f"{name} {one_line(text, 40)!r}: what it adds is a time of at most 10 s; write for example 400g+5ms"
        )
    return replace(found, latency_seconds=found.latency_seconds + latency, words=f"{found.words} + {added.strip()}")


def _named(text: str, device: Device, name: str) -> Link:
    key = text.lower()
    if key in NETWORKS:
        rate, latency, words = NETWORKS[key]
        return Link(words, float(rate), latency)
    if key == "pcie":
        generation = slot_generation(device)
        words = f"PCIe {generation}.0 x16"
        return Link(words, float(pcie_bytes_per_s(generation)), RDMA_SECONDS, PCIE_REACHED, 0.8, 0.9)
    if key == "nvlink":
        between = device.interconnect
        if between is None or not between.bytes_per_s_per_direction:
            raise BadRequest(
                f"{name} nvlink: {device.name} has no such link to its neighbours; write pcie, 400g or a rate"
            )
        return Link(f"{between.type} of one node", float(between.bytes_per_s_per_direction), RDMA_SECONDS)
    match = RATE.fullmatch(text)
    rate_per_s = float(match.group(1)) * UNITS[match.group(2)] if match else 0.0
    if rate_per_s <= 0:
        known = ", ".join([*OF_A_DEVICE, *NETWORKS])
        raise BadRequest(
            f"{name} {one_line(text, 40)!r} is not a link; write one of {known}, or a rate that is reached: 40GB/s"
        )
    return Link(f"{match.group(1)} {match.group(2)}/s as given" if match else "", rate_per_s, 0.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Tier:
    """A place outside the device where caches are kept, and the way back.

    shared   one way for all ranks (a drive, a network), else each has its own
    """

    link: Link
    shared: bool

    def seconds(self, estimate: Estimate, tokens: int, reached: float | None = None) -> float:
        """Computes how long the cache of so many tokens takes to come back to all ranks; `reached` is another share of the way.

        Left out: a first copy in host memory on the way from a drive, and what comes back while layers are computed.
        """
        ranks = estimate.request.sharding.devices // estimate.request.sharding.dp if self.shared else 1
        link = self.link if reached is None else self.link.slowed(reached)
        return link.seconds(ranks * cache_bytes(estimate, tokens))


def tier_of(text: str, device: Device, name: str) -> Tier:
    """Reads where caches are kept: `host` (over the device's PCIe), `nvme`, `sata`, a network's name, or a rate that is reached.

    >>> from planner.catalogue.entries import find_device
    >>> tier_of("host", find_device("h100-sxm"), "--bring-back").link.words
    'PCIe 5.0 x16'
    """
    key = text.strip().lower()
    if key in ("host", "pcie"):
        return Tier(link_of("pcie", device, name), False)
    if key in DISKS:
        rate, words = DISKS[key]
        return Tier(Link(words, float(rate), DISK_SECONDS, 0.9, 0.5, 1.0), True)
    if key not in NETWORKS and RATE.fullmatch(text.strip().partition("+")[0]) is None:
        raise BadRequest(
            f"{name} {one_line(text, 40)!r} is no place for caches: write host, {', '.join(DISKS)}, {', '.join(NETWORKS)}, or a "
            "rate that is reached, 5GB/s"
        )
    return Tier(link_of(text, device, name), True)


def sent_bytes(sides: Iterable[Estimate], tokens: int) -> int:
    """Counts what the rank that has most to send or to take of one prompt's cache holds, between layouts of one model."""
    return max(cache_bytes(side, tokens) for side in sides)


def cache_bytes(estimate: Estimate, tokens: int) -> int:
    """Counts what one sequence of `tokens` holds on the fullest rank of a layout: growing caches, windows and states.

    >>> from planner.lookup import model_spec
    >>> from planner.memory.estimate import estimate
    >>> from planner.memory.request import Request
    >>> cache_bytes(estimate(model_spec("llama-3.1-8b"), Request(1)), 1000)      # 128 KiB a token
    131072000
    """
    sharding, stage = estimate.request.sharding, estimate.per_device
    caches = caches_on_rank(stages(estimate.spec, sharding.pp)[stage.stage], sharding)
    state = sum(count * cache.state_bytes(estimate.fmt) for cache, count in caches.items())
    return state + rank_kv_bytes(caches, sharding, tokens, source_tokens=estimate.source_tokens, fmt=estimate.fmt)
