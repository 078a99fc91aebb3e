"""Holds what the headers of a checkpoint's files say of its weights: bytes by tensor, as stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import float_dtype, weight_format
from planner.memory.weight_formats import WeightPlan
from planner.model.parameters import all_weights
from planner.model.spec import ModelSpec
from planner.model.stored import MTP, StoredWeights
from planner.model.weights import Weight
from planner.units import ceil_div, human_bytes


@dataclass(frozen=True, eq=False, repr=False)
class StoredPlan(WeightPlan):
    """Weights as stored: a rank holds of each part the share that it holds of the part's parameters.

    bytes(rank) = sum over parts of ceil(stored(part) · parameters on the rank / parameters of the part).
    Unsharded that is what is stored, to the byte. Parts that only one side knows by that name count together.
    """

    stored: StoredWeights | None = None
    whole: Mapping[str, int] | None = None

    def exactness_on(self, devices: int, stages: int = 1) -> str:
        """Says how exact the weights of one device are: exact on one; ranks share each part in proportion, whatever
        its dtypes.
        """
        return "exact" if devices == 1 else "estimated"

    def total(self, weights: Iterable[tuple[Weight, int]]) -> int:
        stored, whole = self.stored, self.whole
        assert stored is not None and whole is not None
        held: dict[str, int] = {}
        for weight, count in weights:
            held[weight.part] = held.get(weight.part, 0) + weight.parameters * count
        total = rest_bytes = 0
        both = {part for part in stored.by_part if whole.get(part) and part != MTP}
        for part, size in stored.by_part.items():
            if part in both:
                total += ceil_div(size * held.get(part, 0), whole[part])
            elif part != MTP:
                rest_bytes += size
        rest = [part for part in whole if part not in both] or list(whole)
        return total + ceil_div(rest_bytes * sum(held.get(part, 0) for part in rest), sum(whole[part] for part in rest))


def stored_plan(spec: ModelSpec, stored: StoredWeights) -> StoredPlan:
    """Returns the plan of a spec that knows what is stored."""
    whole: dict[str, int] = {}
    for weight, count in all_weights(spec):
        whole[weight.part] = whole.get(weight.part, 0) + weight.parameters * count
    shown = ", ".join(f"{dtype} {human_bytes(size)}" for dtype, size in list(stored.by_dtype.items())[:6])
    plain = float_dtype(next(iter(stored.by_dtype))) if len(stored.by_dtype) == 1 else None
    fmt = weight_format(plain) if plain else WeightFormat("as stored", (16, 1))
    return StoredPlan(fmt, fmt, words=f"weights as stored in {stored.source}: {shown}", stored=stored, whole=whole)
