"""One weight matrix, or many equal ones: shape, how it is split over ranks, whether a quantiser touches it.

Every count, every byte and every shard of parameters is a sum over these.
"""

from __future__ import annotations

from dataclasses import replace

from planner.frozen import dataclass
from planner.units import ceil_div

TOWERS = frozenset({"vision", "audio", "projector"})
"""Parts that see and hear, and what hands their output to the text model."""


@dataclass(frozen=True, repr=False)
class Weight:
    """`count` matrices of rows (out) x cols (in); a vector is one row.

    part        where it belongs: embedding, lm_head, attention, mlp, experts, router, norm, mixer, vision, ...
    active      how many of the `count` one token uses (experts), -1: all
    split       "" copied on each tensor-parallel rank; "rows" / "cols" split in `units` equal units
                (heads, channels, vocabulary); "kv" the same, but copied when ranks outnumber units
    linear      a quantiser may store it in fewer bits (matrices of the blocks); norms, biases, routers,
                embeddings and heads keep the float type
    name        of its module as transformers calls it (q_proj), "a|b" where several lie in one matrix here: what
                quantisation configs name
    """

    part: str
    rows: int
    cols: int
    count: int = 1
    active: int = -1
    split: str = ""
    units: int = 0
    linear: bool = True
    name: str = ""

    @property
    def parameters(self) -> int:
        return self.rows * self.cols * self.count

    @property
    def is_row_table(self) -> bool:
        """Whether it is a per-layer embedding table (of n-grams, or of a vocabulary), of which a token reads some rows."""
        return self.part == "per_layer_embedding" and not self.linear and self.split == "rows"

    @property
    def active_parameters(self) -> int:
        return self.rows * self.cols * (self.count if self.active < 0 else min(self.active, self.count))

    def on_rank(self, tp: int, ep: int = 1) -> Weight:
        """The share of the fullest rank. Experts: `ep` ranks hold whole experts, the rest splits their width."""
        count = self.count
        if self.part == "experts" and ep > 1:
            count, tp = ceil_div(count, ep), max(1, tp // ep)
        if tp == 1 or not self.split:
            return self if count == self.count else replace(self, count=count)
        extent = self.cols if self.split == "cols" else self.rows
        units = self.units or extent
        if extent % units:
            units = extent
        share = extent // units * max(1, ceil_div(units, tp))
        if self.split == "cols":
            return replace(self, cols=share, count=count)
        return replace(self, rows=share, count=count)


def linear(
    part: str,
    rows: int,
    cols: int,
    *,
    bias: bool = False,
    split: str = "",
    units: int = 0,
    count: int = 1,
    active: int = -1,
    name: str = "",
) -> tuple[Weight, ...]:  # parameters: what it makes is made of, each by name
    """Describes a linear layer y = W x (+ b), W [rows, cols].

    >>> sum(w.parameters for w in linear("mlp", 3072, 768, bias=True))
    2362368
    """
    matrix = Weight(part, rows, cols, count, active, split, units, name=name)
    if not bias:
        return (matrix,)
    bias_split = "" if split == "cols" else split
    return (matrix, Weight(part, rows, 1, count, active, bias_split, units, linear=False))


def vector(part: str, length: int, count: int = 1, *, split: str = "", units: int = 0) -> Weight:
    """Describes a vector of parameters (norm gain, bias): never quantised."""
    return Weight(part, length, 1, count, split="rows" if split else "", units=units, linear=False)
