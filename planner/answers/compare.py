"""Answers `compare-models`: several models at one length."""

from __future__ import annotations

from planner.answers.estimate import EstimateAnswer, estimate_answers, several
from planner.answers.several import Answers
from planner.options.compare_models import CompareAsked
from planner.options.estimate import EstimateAsked

CompareAnswer = Answers[EstimateAnswer]


def compare_answer(asked: CompareAsked) -> CompareAnswer:
    """An answer for each model, at the same length; the verdict is no where none of them fits."""
    questions = (EstimateAsked(spec, (asked.request,), asked.capacity) for spec in asked.specs)
    return several([answer for question in questions for answer in estimate_answers(question)], all_must=False)
