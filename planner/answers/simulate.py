"""Answers `simulate`: a server under a load, request by request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from planner.answers.measured import constants_from
from planner.engines.prefixes import check_prefixes
from planner.files.read import read_text
from planner.memory.estimate import estimate
from planner.memory.request import device_capacity
from planner.options.simulate import SimulateAsked
from planner.serving.pools_served import serve_pools
from planner.serving.server import server, with_drafts, with_measured_steps
from planner.serving.simulate import Answer, serve
from planner.shown import NO, Shown
from planner.speed.transfer import DEFAULT_LINK, link_of, tier_of


@dataclass(frozen=True, eq=False, repr=False)
class SimulateAnswer(Shown):
    """A run, its percentiles, and the formulas beside it."""

    found: Answer

    @property
    def exit_code(self) -> int:
        """0, or 3 where a target is missed."""
        return NO if self.found.misses else 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        return self.found.to_dict()

    def rows(self) -> list[dict[str, Any]]:
        """A row a request."""
        return list(self.found.rows())


def simulate_answer(asked: SimulateAsked, arrived: Callable[[int], None] | None = None) -> SimulateAnswer:
    """Runs a load on a server; `arrived` hears how many requests have come."""
    room = device_capacity(asked.device)
    engine = asked.engine.label
    one = estimate(asked.spec, asked.request, room)
    if asked.workload.prefix_share:
        check_prefixes("--prefix-share", asked.engine.name, asked.engine.version, one, asked.engine.options)
    constants, _ = constants_from(asked.measured, one, asked.device, engine=engine)
    replica = server(asked.spec, asked.request, asked.device, room=room, constants=constants, asked=asked.engine)
    if asked.steps is not None:
        text = read_text(asked.steps, most_bytes=1 << 20, what="a file of measured steps", option="--steps")
        replica = with_measured_steps(replica, text, asked.steps)
    if asked.drafting is not None:
        replica = with_drafts(replica, asked.drafting)
    if asked.tier_bytes is not None:
        tier = tier_of(asked.tier_from or "host", asked.device, "--kv-offloading-from")
        replica = replace(replica, tier=tier, tier_bytes=asked.tier_bytes)
    if asked.pools is not None:
        link = link_of(asked.link or DEFAULT_LINK, asked.device)
        return SimulateAnswer(
            serve_pools(
                replica, asked.workload, device=asked.device, counts=asked.pools, link=link, targets=asked.targets
            )
        )
    found = serve(
        replica, asked.workload, device=asked.device, replicas=asked.replicas, routing=asked.routing,
        targets=asked.targets, progress=arrived,
    )  # fmt: skip
    return SimulateAnswer(found)
