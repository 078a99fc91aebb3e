"""A workload on two pools of a server, and on as many replicas that do both beside them."""

from __future__ import annotations

from dataclasses import replace

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.serving.pools import NoRoom
from planner.serving.pools_run import simulate_pools, transfers_ps
from planner.serving.replica import Policy, Side
from planner.serving.server import Server
from planner.serving.simulate import Answer, PoolsBeside, serve, steady_load
from planner.serving.steady_state import Replica
from planner.serving.two_pools import JoinedSteps, Prefills, TwoPools, decoding_load
from planner.speed.transfer import Link, cache_bytes
from planner.units import PS_PER_SECOND
from planner.workloads.targets import Targets
from planner.workloads.workload import Workload


def serve_pools(
    replica: Server, workload: Workload, *, device: Device, counts: tuple[int, int], link: Link, targets: Targets
) -> Answer:
    """Runs a workload on `counts` replicas of a layout in two pools, and on as many that do both.

    Raises BadRequest for users who ask again after their answer, and NoRoom where not one request could be served.
    """
    if workload.users:
        raise BadRequest("--disaggregate plays requests that come at a rate: give --rate 5/s in place of --users")
    ranks = replica.found.request.sharding.dp
    reads, decodes = (
        Side(
            replica.model, replica.pool,
            Policy(replica.max_num_seqs, replica.max_num_batched_tokens, replica.longest_tokens, count * ranks),
        )
        for count in counts
    )  # fmt: skip
    arrivals = list(workload.arrivals())
    run = simulate_pools(arrivals, reads, decodes, token_ps=transfers_ps(arrivals, link, [replica.found]))
    if not run.decode.served:
        raise NoRoom(f"none of the {len(arrivals):,} requests fits the pools")
    both = serve(replica, workload, device=device, replicas=sum(counts), targets=targets)
    served = max(1, run.decode.served)
    pools = PoolsBeside(
        counts, link, run.prefill.utilisation, run.sent_ps / served / PS_PER_SECOND,
        run.lane_wait_ps / served / PS_PER_SECOND, (workload.offered_per_s or 0.0) * run.sent_ps / served / PS_PER_SECOND / run.lanes,
        both,
    )  # fmt: skip
    analytic, why_not = None, "more than the formulas of two pools carry"
    asked = steady_load(replica, workload, run.decode)
    if isinstance(asked, str):
        why_not = asked
    else:
        held, given = asked
        joined = Replica(JoinedSteps(replica.model), decoding_load(given), chunk_tokens=decodes.policy.max_num_batched_tokens,
                         most=held, share=targets.ttft_share)  # fmt: skip
        prefills = Prefills(replica.model, given, chunk_tokens=reads.policy.max_num_batched_tokens)
        sent = tuple(link.seconds(cache_bytes(replica.found, item.tokens)) for item in given.prompts)
        two = TwoPools(prefills, joined, counts[0] * ranks, counts[1] * ranks, sent, replica.constants.before_seconds)
        state = two.at_rate(given.rate_per_s or 0.0)
        if state is not None:
            analytic = replace(state.decode, ttft_seconds=state.ttft_seconds, ttft_mean_seconds=state.ttft_mean_seconds)
    return Answer(run.decode, replica, workload, decodes.policy, targets, device, analytic, why_not, pools)
