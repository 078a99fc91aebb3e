"""Reads what flags say of speculative decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import UsageError
from planner.lookup import model_spec
from planner.options.engine import EngineAsked
from planner.options.readers import count, share, text
from planner.options.tables import Flag
from planner.speed.drafting import DraftingAsked

ACCEPTANCE = Flag(
    "--acceptance", "SHARE", "How often a drafted token is accepted, 0 to 1 (default: what is published of the method, as a range).",
    share, "Engine",
)  # fmt: skip
DRAFTED = (
    Flag("--drafter", "MODEL", "Speculative decoding: a draft MODEL, or the method ngram, eagle3, mtp.", text, "Engine"),
    Flag("--draft-tokens", "N", "Tokens drafted in a step (default: --num-speculative-tokens, else 4, mtp 1).", count, "Engine"),
    ACCEPTANCE,
)  # fmt: skip
METHOD_NAMES = {"ngram": "ngram", "eagle": "eagle3", "eagle3": "eagle3", "mtp": "mtp"}


def drafting_of(given: Mapping[str, Any], engine: EngineAsked | None) -> DraftingAsked | None:
    """Reads what the flags say of speculative decoding; None where no flag is about it."""
    named, tokens, acceptance = given["drafter"], given["draft_tokens"], given["acceptance"]
    by_engine = engine.options.num_speculative_tokens if engine is not None else 0
    if named is None and tokens is None and not by_engine:
        if acceptance is not None:
            raise UsageError(
                "--acceptance is of drafted tokens: say how many with --draft-tokens N, or name a --drafter"
            )
        return None
    method = METHOD_NAMES.get((named or "").strip().lower())
    model = model_spec(named, online=bool(given.get("online"))) if named is not None and method is None else None
    if model is not None:
        method = "draft-model"
    if model is None and method is None and acceptance is None:
        raise UsageError(
            "how many of the drafted tokens are accepted? Write --drafter ngram, eagle3, mtp or MODEL, or --acceptance SHARE, "
            "for example 0.7"
        )
    default = 1 if method == "mtp" else 4
    return DraftingAsked(method, model, tokens or by_engine or default, acceptance)
