"""The first line of a page: the model and the question, in one line of the terminal."""

from __future__ import annotations

from planner.model.spec import ModelSpec
from planner.terminal.tables import bold, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def named(spec: ModelSpec) -> str:
    """Returns the model's name; for a name that was read, what it was read as: "read as qwen3.6-27b, weights fp8"."""
    return bold(spec.name if spec.read_as is None else spec.read_as.words)


def headline(spec: ModelSpec, pieces: Sequence[str], drop: Sequence[int] = ()) -> tuple[str, list[str]]:
    """Returns the first line, and the pieces that it has no room for as lines to follow the verdict.

    pieces  each with the mark before it: ", 8.03 B parameters", "; 1 sequence of 8,192 tokens"
    drop    the places of those that go first, one after another; the others stay
    """
    words = spec.name if spec.read_as is None else spec.read_as.words
    kept, gone = _fitted(len(words), pieces, drop)
    if spec.read_as is not None and len(words) + len(kept) > width():
        kept, gone = _fitted(len(spec.name), pieces, drop)
        return bold(spec.name) + kept, [f"  {', '.join([words, *gone])}"]
    return bold(words) + kept, [f"  {', '.join(gone)}"] if gone else []


def _fitted(name: int, pieces: Sequence[str], drop: Sequence[int]) -> tuple[str, list[str]]:
    """The pieces that a name of so many letters leaves room for, and those that are dropped."""
    kept, gone = dict(enumerate(pieces)), []
    for place in drop:
        if name + sum(map(len, kept.values())) <= width():
            break
        piece = kept.pop(place).strip(",; ")
        piece = piece[1:-1] if piece.startswith("(") else piece
        gone += [piece] if piece else []
    return "".join(kept.values()), gone
