"""The answer of `kvplan plan` as plain data: base units, keys that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from planner.deployment.candidate import Miss, layout_words
from planner.deployment.plan import Plan, start
from planner.deployment.search import Answer, Point, neighbours
from planner.errors import KvplanError
from planner.memory.estimate import SCHEMA_VERSION
from planner.speed.energy import Energy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.deployment.two_pools import Beside, Pools

RANKS = ("tp", "pp", "ep", "dp")


def answer_dict(answer: Answer, top: int, two_pools: Sequence[Beside] = ()) -> dict[str, Any]:
    """Returns the whole answer, with the `top` best plans, and two pools beside them where they were asked for."""
    question, load = answer.question, answer.question.load
    targets = question.targets
    return {
        "schema_version": SCHEMA_VERSION,
        "model": question.spec.name,
        "read_as": question.spec.read_as.to_dict() if question.spec.read_as else None,
        "engine": None if question.engine is None else "==".join(part for part in question.engine if part),
        "load": {
            "users": load.users,
            "rate_per_s": load.rate_per_s,
            "think_seconds": load.think_seconds,
            "prompt_tokens_mean": load.prompt_tokens,
            "cached_tokens_mean": load.cached_tokens,
            "output_tokens_mean": load.output_tokens,
            "decoding_tokens_mean": sum(held.tokens * held.share for held in load.held_sequences),
            "longest_tokens": load.longest_tokens,
            "prefix_share": load.prefix_share,
            "words": load.words,
        },
        "targets": {
            "ttft_seconds": targets.ttft_seconds,
            "ttft_share": targets.ttft_share,
            "tpot_seconds": targets.tpot_seconds,
            "budget_usd_per_hour": question.budget_usd_per_hour,
        },
        "sort": question.sort,
        "grid_grams_per_kwh": question.grid_grams,
        "searched": answer.searched,
        "meet_the_targets": len(answer.plans),
        "plans": [plan_dict(plan) for plan in answer.plans[:top]],
        "dropped": [{"reason": reason, "count": count} for reason, count in answer.dropped],
        "refused_devices": list(answer.refused),
        "nearest_miss": None if answer.nearest is None else miss_dict(answer.nearest),
        "disaggregated": [beside_dict(one) for one in two_pools],
        "points": [point_dict(point) for point in answer.points],
    }


def beside_dict(one: Beside) -> dict[str, Any]:
    """Returns two pools on one device beside the best plan whose replicas do both: an object of `disaggregated`."""
    pools, plan = one.pools, one.plan
    chunked = None if plan is None else {"devices": plan.devices, "usd_per_hour": plan.usd_per_hour,
                                         "layout": layout_words(plan.candidate.sharding), "replicas": plan.replicas}  # fmt: skip
    return {
        "device": one.device.name,
        "pays": one.pays,
        "why_not": one.why_not or None,
        "pools": None if pools is None else pools_dict(pools),
        "chunked": chunked,
    }


# long: the keys of the JSON contract, one a line
def pools_dict(pools: Pools) -> dict[str, Any]:
    """Returns two pools: what runs where, how fast, what is sent."""
    state, (tpot_low, tpot_high), (ttft_low, ttft_high) = pools.state, pools.tpot_range, pools.ttft_range
    found = pools.decode.room.found
    from planner.deployment.two_pools import start_commands  # loaded with the pools

    first, second = start_commands(pools)
    return {
        "name": pools.words,
        "devices": pools.devices,
        "usd_per_hour": pools.usd_per_hour,
        **_energy(pools.energy),
        "weight_dtype": found.plan.fmt.name,
        "kv_dtype": found.fmt.name,
        "prefill": {
            "replicas": pools.prefill_replicas,
            "layout": layout_words(pools.prefill.sharding),
            "sharding": {name: getattr(pools.prefill.sharding, name) for name in RANKS},
            "utilisation": state.prefill_utilisation,
            "prompt_seconds_mean": state.prefill_seconds,
            "wait_seconds_mean": state.prefill_wait_seconds,
            "command": first,
        },
        "decode": {
            "replicas": pools.decode_replicas,
            "layout": layout_words(pools.decode.sharding),
            "sharding": {name: getattr(pools.decode.sharding, name) for name in RANKS},
            "utilisation": state.decode.utilisation,
            "decoding_per_rank": state.decode.decoding,
            "admitted_per_rank": pools.decode.room.admitted,
            "command": second,
        },
        "link": {
            "words": pools.link.words,
            "bytes_per_s": pools.link.bytes_per_s,
            "reached": pools.link.reached,
            "latency_seconds": pools.link.latency_seconds,
            "prompt_bytes_mean": pools.prompt_bytes,
            "transfer_seconds_mean": state.transfer_seconds,
            "wait_seconds_mean": state.link_wait_seconds,
            "utilisation": state.link_utilisation,
        },
        "requests_per_s": state.rate_per_s,
        "tpot_seconds": state.tpot_seconds,
        "tpot_seconds_low": tpot_low,
        "tpot_seconds_high": tpot_high,
        "ttft_seconds": state.ttft_seconds,
        "ttft_seconds_low": ttft_low,
        "ttft_seconds_high": ttft_high,
        "ttft_seconds_mean": state.ttft_mean_seconds,
        "met_at_the_slow_end": not pools.tight,
        "simulated": None if pools.check is None else asdict(pools.check),
    }


def _energy(found: Energy | None) -> dict[str, float | None]:
    """Energy and CO2 of a million output tokens; None where the device's power is not known."""
    output = "per_million_output_tokens"
    names = {
        f"wh_{output}": "watt_hours",
        f"wh_{output}_low": "low",
        f"wh_{output}_high": "high",
        f"co2_grams_{output}": "grams",
    }
    return {key: None if found is None else getattr(found, name) for key, name in names.items()}


def miss_dict(miss: Miss) -> dict[str, Any]:
    return {"reason": miss.reason, "words": miss.words, "has_over_may": None if miss.ratio > 1e2 else miss.ratio}


# long: the keys of the JSON contract, one a line
def plan_dict(plan: Plan) -> dict[str, Any]:
    """Returns one plan: what runs where, how fast, how full, what it costs, what binds."""
    c, state = plan.candidate, plan.state
    tpot_low, tpot_high = plan.tpot_range
    ttft_low, ttft_high = plan.ttft_range
    costs, price = plan.costs, c.price
    most, stops = plan.capacity
    device = c.room.found.per_device
    users = c.question.load.users is not None
    return {
        "device": c.device.name,
        "devices": plan.devices,
        "replicas": plan.replicas,
        "sharding": {name: getattr(c.sharding, name) for name in RANKS},
        "layout": layout_words(c.sharding),
        "weight_dtype": c.room.found.plan.fmt.name,
        "kv_dtype": c.room.found.fmt.name,
        "changes_answers": changed_formats(plan),
        "usd_per_hour": plan.usd_per_hour,
        "price_from": None if price is None else price.words,
        "usd_per_million_prompt_tokens": None if costs is None else costs.prompt,
        "usd_per_million_cached_tokens": None if costs is None else costs.cached,
        "usd_per_million_output_tokens": None if costs is None else costs.output,
        "usd_per_million_tokens": None if costs is None else costs.blended,
        "rated_watts": plan.watts,
        "rated_watt_hours_per_million_tokens": plan.watt_hours_per_million_tokens,
        **_energy(plan.energy),
        "tpot_seconds": state.tpot_seconds,
        "tpot_seconds_low": tpot_low,
        "tpot_seconds_high": tpot_high,
        "tpot_seconds_bound": plan.tpot_bound_seconds,
        "tpot_parts_seconds": dict(plan.tpot_parts),
        "ttft_seconds": state.ttft_seconds,
        "ttft_seconds_low": ttft_low,
        "ttft_seconds_high": ttft_high,
        "ttft_seconds_mean": state.ttft_mean_seconds,
        "simulated": None if plan.check is None else asdict(plan.check),
        "met_at_the_slow_end": not plan.tight,
        "over_pcie": c.over_pcie,
        "requests_per_s": plan.requests_per_s,
        "output_tokens_per_s": plan.requests_per_s * c.question.load.output_tokens,
        "requests_per_s_per_rank": state.rate_per_s,
        "decoding_per_rank": state.decoding,
        "admitted_per_rank": c.room.admitted,
        "utilisation": state.utilisation,
        "tokens_a_step": 1.0 if c.drafts is None else c.drafts.tokens_a_step,
        "drafting_pays_below": None if c.drafts is None else c.drafting_pays_below,
        "prefill_share": state.prefill_share,
        "binds": plan.binds,
        "most_users": most if users else None,
        "most_requests_per_s": None if users else most,
        "stopped_by": stops,
        "per_device": {
            "capacity_bytes": c.room.found.capacity.bytes if c.room.found.capacity else None,
            "weight_bytes": device.weight_bytes,
            "activation_bytes": device.activation.bytes,
            "overhead_bytes": device.overhead_bytes,
            "pool_bytes": c.room.pool_bytes,
            "prefix_bytes": c.room.prefix_bytes,
            "resident_bytes": device.extra_bytes,
            "idle_session_bytes": c.room.idle_bytes,
            "mean_sequence_bytes": c.room.request_bytes,
            "longest_sequence_bytes": c.room.longest_bytes,
        },
        "constants_from": c.constants.origin,
        "backend": c.backend,
        "command": start_command(plan),
        "next_steps": [
            {
                "change": words,
                "devices": None if found is None else found.devices,
                "usd_per_hour": None if found is None else found.usd_per_hour,
                "tpot_seconds": None if found is None else found.state.tpot_seconds,
                "ttft_seconds": None if found is None else found.state.ttft_seconds,
                "misses": [name for name, _ in missed],
            }
            for words, found, missed in neighbours(plan)
        ],
    }


def changed_formats(plan: Plan) -> list[str]:
    """Names the formats that are not the model's own: they change its answers."""
    formats, found = plan.candidate.formats, plan.candidate.room.found
    changed = []
    if formats.dtype is not None:
        changed.append(f"weights in {found.plan.fmt.name}")
    if formats.kv_dtype is not None:
        changed.append(f"KV cache in {found.fmt.name}")
    return changed


def start_command(plan: Plan) -> str | None:
    """Returns the start command of one replica; None where the engine has none for this model or layout."""
    try:
        return start(plan)[0]
    except KvplanError:
        return None


def point_dict(point: Point) -> dict[str, Any]:
    plan = point.plan
    return {
        "device": plan.candidate.device.name,
        "devices": plan.devices,
        "layout": layout_words(plan.candidate.sharding),
        "weight_dtype": plan.candidate.room.found.plan.fmt.name,
        "kv_dtype": plan.candidate.room.found.fmt.name,
        "usd_per_hour": plan.usd_per_hour,
        "tpot_seconds": plan.state.tpot_seconds,
        "ttft_seconds": plan.state.ttft_seconds,
        "meets_targets": point.meets,
        "front": point.front,
    }
