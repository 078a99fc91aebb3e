"""Two pools of a plan played request by request, to hold their formulas against the scheduler."""

from __future__ import annotations

from dataclasses import replace

from planner.deployment.candidate import Check, missed
from planner.deployment.simulated import MOST_REQUESTS, REQUESTS, arrivals_of, check_of, side_of
from planner.deployment.two_pools import Beside, Pools, with_replicas
from planner.serving.pools_run import simulate_pools, transfers_ps

ROUNDS = 8
LIVES = 4  # as many requests as are under way, this many times over


def verified_pools(found: tuple[Beside, ...]) -> tuple[Beside, ...]:
    """Simulates the pools of the first device; a pool that misses its target gets a replica more, and the answer why not
    where that does not help.
    """
    if not found or found[0].pools is None:
        return found
    pools = found[0].pools
    for _ in range(ROUNDS):
        played = replace(pools, check=check(pools))
        assert played.check is not None
        misses = {name for name, _ in missed(played.check, pools.decode.question.targets)}
        if not misses:
            return (replace(found[0], pools=played), *found[1:])
        more = with_replicas(pools, "TTFT" in misses, "TPOT" in misses)
        if more is None:
            break
        pools = more
    return (replace(found[0], pools=None, why_not="simulated, they miss their targets"), *found[1:])


def check(pools: Pools) -> Check:
    """Simulates both pools under the whole load at the rate that the formulas found."""
    load, state = pools.decode.question.load, pools.state
    under_way = state.rate_per_s * (state.ttft_mean_seconds + load.decode_steps * state.tpot_seconds)
    count = max(REQUESTS, min(MOST_REQUESTS, round(LIVES * under_way)))
    if load.trace is not None:
        count = min(count, len(load.trace))
    arrivals = list(arrivals_of(load, state.rate_per_s, count))
    sent = transfers_ps(arrivals, pools.link, [pools.prefill.room.found, pools.decode.room.found])
    reads = side_of(pools.prefill, pools.prefill_replicas * pools.prefill.sharding.dp)
    decodes = side_of(pools.decode, pools.decode_replicas * pools.decode.sharding.dp)
    run = simulate_pools(arrivals, reads, decodes, token_ps=sent).decode
    return check_of(run, pools.decode, first=len(run.requests) // 10)
