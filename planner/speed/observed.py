"""A speed that somebody measured: the load and the two times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Observed:
    """What one run measured, in seconds; None for a time that was not measured.

    batch    requests at once
    load     "static" or "serving", as `planner.speed.speed.speed` has them
    source   the file or the text it is from
    """

    batch: int
    prompt_tokens: int
    output_tokens: int
    load: str
    ttft_seconds: float | None
    tpot_seconds: float | None
    source: str
