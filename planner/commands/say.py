"""How a command ends: the answer as JSON, CSV or a page, on the screen or in a file, and its exit code."""

from __future__ import annotations

from planner.options.model import Output
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import wrapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    class Said(Protocol):
        """An answer, or several: what a command says."""

        @property
        def exit_code(self) -> int: ...
        def to_dict(self) -> Any: ...
        def rows(self) -> list[dict[str, Any]]: ...


def say(answer: Said, output: Output, page: Callable[[], Iterable[str]]) -> None:
    """Writes the answer as it is wanted; SystemExit with its exit code where that is not 0."""
    if output.as_json:
        text = to_json(answer.to_dict())
    elif output.as_csv:
        text = to_csv(answer.rows())
    else:
        text = wrapped("\n".join(page()))
    emit(text, output.path)
    if answer.exit_code:
        raise SystemExit(answer.exit_code)
