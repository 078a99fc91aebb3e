"""What a start command drafts, for the speed that `kvplan check` says with and without it."""

from __future__ import annotations

from planner.errors import KvplanError
from planner.launch.question import TABLES_DRAFT, Question
from planner.model.spec import ModelSpec
from planner.options.check import catalogue_model
from planner.speed.drafting import DraftingAsked

METHODS = {"eagle": "eagle3", "eagle3": "eagle3", "mtp": "mtp"} | dict.fromkeys(TABLES_DRAFT, "ngram")


def drafting_in(question: Question, spec: ModelSpec) -> DraftingAsked | None:
    """Reads what the command drafts; None where it drafts nothing, or with what is not known here.

    Where it does not say with what, the model's own MTP layers do, if it has some. EAGLE's first heads are timed as EAGLE-3's,
    and suffix decoding as n-gram lookup.
    """
    asked = question.drafting
    if asked is None:
        return None
    method, model = METHODS.get(asked.method), None
    if method is None and asked.model is not None:
        try:
            method, model = "draft-model", catalogue_model(asked.model)
        except KvplanError:
            return None
    if method is None and not asked.method and spec.mtp:
        method = "mtp"
    if method is None:
        return None
    return DraftingAsked(method, model, asked.tokens or (1 if method == "mtp" else 4), None)
