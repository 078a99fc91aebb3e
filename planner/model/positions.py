"""Says whether a length is more than a model's positions, and whether scaling its RoPE can lift that."""

from __future__ import annotations

from dataclasses import replace

from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.model.spec import ModelSpec
from planner.units import ceil_div, human_tokens

LEARNED, ROPE, TRAINED = "a table of positions", "RoPE", "the length it was trained on"
EXTRA_ROWS = (0, 2)  # OPT's and BART's tables have two rows more than positions
ALIBI = ("bloom", "mpt")  # no rotary positions: a bias of the distance
MOST_FACTOR = 128


@dataclass(frozen=True, eq=False, repr=False)
class TooLong:
    """A length beyond the positions of a model.

    kind   LEARNED: there is no row for the next position; ROPE: scaling lifts it; TRAINED: neither table nor RoPE
    """

    model: str
    tokens: int
    positions: int
    kind: str

    @property
    def factor(self) -> int | None:
        """The smallest whole factor of RoPE scaling that is enough; None where no scaling helps.

        >>> TooLong("m", 100_000, 32_768, ROPE).factor, TooLong("m", 8192, 1024, LEARNED).factor
        (4, None)
        """
        return ceil_div(self.tokens, self.positions) if self.kind == ROPE else None

    @property
    def mend(self) -> str | None:
        """The flag of kvplan that lifts it."""
        return None if self.factor is None or self.factor > MOST_FACTOR else f"--rope-scaling {self.factor}"

    @property
    def words(self) -> str:
        """One sentence without its full stop, for people.

        >>> TooLong("gpt2", 8192, 1024, LEARNED).words
        'gpt2 has 1,024 positions, and 8,192 tokens are asked'
        """
        return f"{self.model} has {self.positions:,} positions, and {self.tokens:,} tokens are asked"

    @property
    def short(self) -> str:
        """The same in a few words, for a cell of a table.

        >>> TooLong("gpt2", 8192, 1024, LEARNED).short
        '8k tokens are more than its 1k positions'
        """
        return f"{human_tokens(self.tokens)} tokens are more than its {human_tokens(self.positions)} positions"


def too_long(spec: ModelSpec, tokens: int) -> TooLong | None:
    """Returns why a request of so many tokens is more than the model takes; None where it is not, or no limit is known.

    >>> from planner.lookup import model_spec
    >>> too_long(model_spec("gpt2"), 1024), too_long(model_spec("gpt2"), 1025).kind
    (None, 'a table of positions')
    """
    limit = spec.max_positions
    return None if limit is None or tokens <= limit else TooLong(spec.name, tokens, limit, kind_of(spec))


def kind_of(spec: ModelSpec) -> str:
    """Returns what bounds the positions: a learned table of so many rows, RoPE, or only what it was trained on."""
    tables = [weight for weight in spec.before if weight.part == "embedding"][1:]
    if any(weight.rows - rows == spec.max_positions for weight in tables for rows in EXTRA_ROWS):
        return LEARNED
    return TRAINED if spec.model_type in ALIBI or spec.config.get("alibi") else ROPE


def scaled(spec: ModelSpec, factor: float | None) -> ModelSpec:
    """Returns the model with `factor` times the positions, as RoPE scaling (YaRN) gives it; the memory is the same.
    None, where nobody asked for scaling, leaves the model as it is.

    Raises BadRequest for a model that has no positions to scale, or has them in a table.
    """
    if factor is None:
        return spec
    if spec.max_positions is None:
        raise BadRequest(f"--rope-scaling: {spec.name} has no limit of positions; leave it out")
    if kind_of(spec) != ROPE:
        raise BadRequest(
            f"--rope-scaling: {spec.name} has no RoPE; its {spec.max_positions:,} positions are {kind_of(spec)}"
        )
    positions = int(spec.max_positions * factor)
    note = (
        f"RoPE scaled by {factor:g}, from {spec.max_positions:,} to {positions:,} positions; the quality is not judged"
    )
    return replace(spec, max_positions=positions, rope_factor=factor, notes=(*spec.notes, note))
