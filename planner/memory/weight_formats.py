"""How a model's weights are stored: one format, or several with the matrices that have each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace

from planner.dtypes.kinds import WeightFormat
from planner.frozen import dataclass
from planner.model.weights import TOWERS, Weight
from planner.units import ceil_div

UNTOUCHED = TOWERS | {"embedding", "lm_head", "router", "norm"}

TABLES = frozenset({"embedding", "lm_head", "router"})

# Formats of the matrices of one part and name, each with how many of the model's layers have it.
Shares = tuple[tuple[WeightFormat, int], ...]


def is_matrix(weight: Weight) -> bool:
    """Tells whether a quantiser may reach it at all: no norm, bias, filter or table of positions."""
    return weight.cols > 1 and (weight.linear or weight.part in TABLES)


@dataclass(frozen=True, eq=False, repr=False)
class WeightPlan:
    """`fmt` for the quantised matrices, `float_fmt` for the rest; `spared` parts stay float.

    mixed   (part, name) -> formats, where a config gives matrices formats of their own: it goes before `fmt`
    spread  how far below and above the count the weights may lie, as parts of it
    """

    fmt: WeightFormat
    float_fmt: WeightFormat
    spared: frozenset[str] = UNTOUCHED
    exactness: str = "exact"
    words: str = ""
    warnings: tuple[str, ...] = ()
    mixed: Mapping[tuple[str, str], Shares] = field(default_factory=dict)
    spread: tuple[float, float] = (0.0, 0.0)

    def range_of(self, size: int) -> tuple[int, int]:
        """Returns the least and the most that weights counted as `size` bytes may take: size · (1 - below), size · (1 + above).

        >>> from planner.dtypes.names import weight_format
        >>> WeightPlan(weight_format("bf16"), weight_format("bf16"), spread=(0.1, 0.25)).range_of(1000)
        (900, 1250)
        """
        low, high = self.spread
        return size - round(size * low), size + round(size * high)

    def bytes(self, weight: Weight) -> int:
        """Bytes of a `Weight`, all its equal matrices; the mean over the layers where these differ.

        >>> from planner.model.weights import Weight
        >>> from planner.dtypes.names import weight_format
        >>> WeightPlan(weight_format("mxfp4"), weight_format("bf16")).bytes(Weight("experts", 2880, 2880, 32))
        141004800
        """
        return self._bytes(weight, 1)

    def _bytes(self, weight: Weight, count: int) -> int:
        """Σ over formats of bytes(matrix) · matrices · layers with the format / layers."""
        matrices = weight.count * count
        shares = self.mixed.get((weight.part, weight.name)) if is_matrix(weight) else None
        if shares is not None:
            layers = sum(share for _, share in shares)
            sizes = (fmt.matrix_bytes(weight.rows, weight.cols) * matrices * share for fmt, share in shares)
            return ceil_div(sum(sizes), layers)
        quantised = (self.fmt.everywhere and weight.part not in TOWERS) or (
            weight.linear and weight.part not in self.spared
        )
        chosen = self.fmt if quantised else self.float_fmt
        return chosen.matrix_bytes(weight.rows, weight.cols) * matrices

    def total(self, weights: Iterable[tuple[Weight, int]]) -> int:
        """Bytes of many weights, each with how many equal copies there are."""
        if not self.mixed:
            return sum(self.bytes(weight) * count for weight, count in weights)
        counts: dict[Weight, int] = {}  # equal matrices of all layers together, so that shares of them come out whole
        for weight, count in weights:
            one = replace(weight, count=1, active=-1)
            counts[one] = counts.get(one, 0) + weight.count * count
        return sum(self._bytes(weight, count) for weight, count in counts.items())

    def exactness_on(self, devices: int, stages: int = 1) -> str:
        """Says how exact the weights of one device are: exact in one stage, whatever its ranks; stages may hold
        layers of other formats than the mean.
        """
        uneven = any(len(shares) > 1 for (_, name), shares in self.mixed.items() if name)
        return "estimated" if uneven and stages > 1 and self.exactness == "exact" else self.exactness
