"""How a model's weights are stored: from `--dtype`, or from what the config's `quantization_config` says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from planner.dtypes.kinds import WeightFormat
from planner.model.weights import Weight

UNTOUCHED = frozenset({"embedding", "lm_head", "router", "norm", "vision", "audio", "projector"})


@dataclass(frozen=True, eq=False, repr=False)
class WeightPlan:
    """`fmt` for the quantised matrices, `float_fmt` for the rest; `spared` parts stay float."""

    fmt: WeightFormat
    float_fmt: WeightFormat
    spared: frozenset[str] = UNTOUCHED
    exactness: str = "exact"
    words: str = ""
    warnings: tuple[str, ...] = ()

    def bytes(self, weight: Weight) -> int:
        """Bytes of a `Weight`, all its equal matrices.

        >>> from planner.model.weights import Weight
        >>> from planner.dtypes.names import weight_format
        >>> WeightPlan(weight_format("mxfp4"), weight_format("bf16")).bytes(Weight("experts", 2880, 2880, 32))
        141004800
        """
        quantised = self.fmt.everywhere or (weight.linear and weight.part not in self.spared)
        chosen = self.fmt if quantised else self.float_fmt
        return chosen.matrix_bytes(weight.rows, weight.cols) * weight.count

    def total(self, weights: Iterable[tuple[Weight, int]]) -> int:
        """Bytes of many weights, each with how many equal copies there are."""
        return sum(self.bytes(weight) * count for weight, count in weights)

    def exactness_on(self, devices: int) -> str:
        return self.exactness
