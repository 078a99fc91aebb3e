"""The feed-forward half of a layer: one MLP."""

from __future__ import annotations

from planner.frozen import dataclass
from planner.model.weights import Weight, linear


@dataclass(frozen=True, repr=False)
class Mlp:
    """up [width, hidden], down [hidden, width], and gate [width, hidden] when gated (SwiGLU, GeGLU)."""

    hidden: int
    width: int
    gated: bool = True
    bias: bool = False
    part: str = "mlp"
    count: int = 1
    active: int = -1

    @property
    def activation_width(self) -> int:
        """Elements that one token has alive: up (and gate) and their product."""
        return (3 if self.gated else 2) * self.width

    def weights(self) -> tuple[Weight, ...]:
        ups = tuple(
            weight
            for name in (("gate_proj", "up_proj") if self.gated else ("up_proj",))
            for weight in linear(self.part, self.width, self.hidden, bias=self.bias, split="rows", count=self.count,
                                 active=self.active, name=name)
        )  # fmt: skip
        down = linear(self.part, self.hidden, self.width, bias=self.bias, split="cols", count=self.count,
                      active=self.active, name="down_proj")  # fmt: skip
        return ups + down
