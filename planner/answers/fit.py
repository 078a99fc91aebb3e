"""Answers `fit`: the most sequences, the longest context, the fewest devices, and which devices hold a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from planner.catalogue.device import Device
from planner.catalogue.entries import devices
from planner.extras.idle_sessions import Tiers
from planner.memory.estimate import SCHEMA_VERSION, Estimate, caches_on_rank, estimate, rank_kv_bytes
from planner.memory.limits import fewest_devices, longest_context, most_sequences, pool_bytes, tensor_parallel_devices
from planner.memory.request import Capacity, Request, device_capacity
from planner.memory.sharding import stages
from planner.model.spec import ModelSpec
from planner.units import MAX_COUNT
from planner.workloads.lengths import Concurrency, LengthMix, concurrency

TABLE_LENGTHS = (1024, 4096, 8192, 32768, 131072)


def fit_answer(
    spec: ModelSpec,
    request: Request,
    room: Capacity,
    mix: LengthMix | None = None,
    tiers: Tiers | None = None,
    card: Device | None = None,
) -> dict[str, Any]:
    """The inverse questions of one model on one device, in base units; what the request carries beside it counts."""
    fewest = fewest_devices(spec, request, room)
    servers = tensor_parallel_devices(spec, request, room)
    holders = _holders(spec, request)
    if request.residents is not None:
        from planner.extras.shared_device import split_pool

        request = split_pool(spec, request, room)
    one = estimate(spec, replace(request, batch=1), room)
    answer: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": spec.name,
        "device": room.name,
        "capacity_bytes": room.bytes,
        "seq_tokens": request.seq_tokens,
        "batch": request.batch,
        "kv_dtype": one.fmt.name,
        "weight_bytes": one.weight_bytes if spec.weights_known else None,
        "pool_bytes": pool_bytes(one),
        "sequence_bytes": one.per_device.sequence_bytes,
        "most_sequences": _bounded(most_sequences(spec, request, room)),
        "longest_context_tokens": longest_context(spec, request, room),
        "longest_context_limit_tokens": spec.max_positions,
        "fewest_devices": None if fewest is None else _layout(fewest.sharding.tp, fewest.sharding.pp, fewest.devices),
        "fewest_devices_tensor_parallel": None
        if servers is None
        else _layout(servers.sharding.tp, servers.sharding.pp, servers.devices),
        "by_length": [
            {"seq_tokens": n, "most_sequences": _bounded(most_sequences(spec, replace(request, seq_tokens=n), room))}
            for n in _lengths(spec, request)
        ],
        "devices_that_hold_it": holders,
        "warnings": list(one.warnings),
        "assumptions": list(one.assumptions),
        "exactness": one.exactness,
    }
    if mix is not None:
        answer["length_mix"] = _mix_answer(spec, request, room, mix)
    if request.residents is not None or tiers is not None:
        from planner.answers.extras import resident_block

        answer["residents"] = resident_block(one, tiers, card)
    if spec.stored is not None and spec.model_type.startswith("gguf ") and request.sharding.devices == 1:
        from planner.memory.offload import most_layers  # only of GGUF files

        answer["offload"] = most_layers(estimate(spec, request, room), room.bytes).to_dict()
    return answer


def _bounded(count: int) -> int | None:
    """None where nothing bounds the count (a cache of zero bytes)."""
    return None if count >= MAX_COUNT else count


def _layout(tp: int, pp: int, count: int) -> dict[str, int]:
    return {"devices": count, "tp": tp, "pp": pp}


def _lengths(spec: ModelSpec, request: Request) -> list[int]:
    ceiling = max(spec.max_positions or request.seq_tokens, request.seq_tokens)
    return sorted({request.seq_tokens, *(n for n in TABLE_LENGTHS if n <= ceiling)})


def _holders(spec: ModelSpec, request: Request) -> list[dict[str, Any]]:
    """Catalogue devices that hold the request in its layout, the smallest first."""
    holders = []
    for held in devices():
        answer = estimate(spec, request, device_capacity(held))
        if answer.fits:
            free = answer.free_bytes
            holders.append({"device": held.name, "capacity_bytes": held.memory_bytes, "free_bytes": free})
    return sorted(holders, key=lambda row: (row["capacity_bytes"], row["device"]))


def _mix_answer(spec: ModelSpec, request: Request, room: Capacity, mix: LengthMix) -> dict[str, Any]:
    """Requests of the mix held at once on the whole layout, by the average and safely."""
    if spec.max_positions:
        mix = mix.clipped(spec.max_positions)
    # Stage, activations and overhead as at the longest request: the pool is what is left beside them.
    longest = estimate(spec, replace(request, seq_tokens=mix.longest, batch=1), room)
    seen = request_bytes(longest, mix.counts)
    held: Concurrency = concurrency(mix, pool_bytes(longest), seen)
    replicas = request.sharding.dp
    return {
        "source": mix.words,
        "mean_tokens": round(mix.mean),
        "p50_tokens": mix.percentile(0.5),
        "p95_tokens": mix.percentile(0.95),
        "longest_tokens": mix.longest,
        "mean_request_bytes": held.mean_request_bytes,
        "average_sequences": held.average * replicas,
        "safe_sequences": held.safe * replicas,
        "sequences_at_longest": held.at_longest * replicas,
    }


def request_bytes(longest: Estimate, lengths: Iterable[int]) -> dict[int, int]:
    """Cache of one request of each length on the device that is fullest at `longest`: a file may hold 10^5 lengths."""
    sharding, stage = longest.request.sharding, longest.per_device
    caches = caches_on_rank(stages(longest.spec, sharding.pp)[stage.stage], sharding)
    follows = longest.request.source_tokens is None and longest.spec.source_tokens is None
    source = longest.source_tokens
    residents = longest.request.residents

    def beside(length: int) -> int:
        return 0 if residents is None else residents.sequence_bytes(longest, stage.stage, caches, length)

    return {
        length: stage.state_bytes
        + rank_kv_bytes(caches, sharding, length, length if follows else source, longest.fmt)
        + beside(length)
        for length in lengths
    }
