"""Answers `plan`: the deployments that carry a load within its targets, ranked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from planner.deployment.answer import answer_dict
from planner.deployment.question import Question
from planner.deployment.search import Answer, search
from planner.deployment.simulated import verified
from planner.frozen import dataclass
from planner.options.plan import TOP
from planner.shown import NO, Shown, html_table, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.deployment.two_pools import Beside

COLUMNS = (
    "device",
    "devices",
    "layout",
    "weight_dtype",
    "kv_dtype",
    "usd_per_hour",
    "tpot_seconds",
    "ttft_seconds",
    "binds",
)


@dataclass(frozen=True, eq=False, repr=False)
class DeploymentsAnswer(Shown):
    """What `kvplan plan` found, and how many of the plans are shown; two pools a device where they were asked for."""

    found: Answer
    top: int = TOP
    two_pools: tuple[Beside, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 3 where nothing meets the targets, two pools neither."""
        return 0 if self.found.plans or any(one.pools is not None for one in self.two_pools) else NO

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay; an object a plan in `plans`."""
        return answer_dict(self.found, self.top, self.two_pools)

    def rows(self) -> list[dict[str, Any]]:
        """A row a plan."""
        plans: list[dict[str, Any]] = self.to_dict()["plans"]
        return plans

    def _repr_html_(self) -> str:
        return html_table(list(COLUMNS), [[shown(key, row[key]) for key in COLUMNS] for row in self.rows()])


def plan_answer(
    question: Question, top: int = TOP, begun: Callable[[int, int], None] | None = None
) -> DeploymentsAnswer:
    """Finds the plans for a load, the best simulated; `begun` hears (done, devices) of the search."""
    found = verified(search(question, begun))
    if not question.disaggregate:
        return DeploymentsAnswer(found, top)
    from planner.deployment.pools_simulated import verified_pools
    from planner.deployment.two_pools import beside

    return DeploymentsAnswer(found, top, verified_pools(beside(found, question.link)))
