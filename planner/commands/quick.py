"""`kvplan estimate` without click: the plain question is answered before click would have loaded."""

from __future__ import annotations

from planner.answers.estimate import EstimateAnswer, compared_answer, estimate_answer
from planner.commands.pages.estimate import page
from planner.commands.say import say
from planner.options.estimate import estimate_questions
from planner.options.model import output_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def estimate(values: Mapping[str, Any]) -> None:
    """Answers what the flags ask, on the screen or into a file; SystemExit(3) where it does not fit."""
    output = output_of(values)
    questions = estimate_questions(values)
    if len(questions) > 1:
        from planner.commands.pages.compare import page as compared

        several = compared_answer(questions)
        say(several, output, lambda: compared(several, output.verbose))
        return
    answer = estimate_answer(questions[0])
    answers = [answer] if isinstance(answer, EstimateAnswer) else list(answer)
    say(answer, output, lambda: page(answers, output))
