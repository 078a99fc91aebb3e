"""States the targets of a deployment: TTFT, TPOT and latency, each at a percentile."""

from __future__ import annotations

from planner.frozen import dataclass


@dataclass(frozen=True)
class Targets:
    """What is promised: TTFT to a share of the requests, TPOT on average.

    assumed   nobody asked for these: they are what a person who reads along puts up with
    """

    ttft_seconds: float | None = None
    tpot_seconds: float | None = None
    ttft_share: float = 0.95
    assumed: bool = False


USUAL_TTFT_SECONDS, USUAL_TPOT_SECONDS = 2.0, 0.1
"""Targets where none is given: what a person who reads along puts up with."""
USUAL_TARGETS = Targets(USUAL_TTFT_SECONDS, USUAL_TPOT_SECONDS, assumed=True)
