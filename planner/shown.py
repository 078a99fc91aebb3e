"""What every answer has in common: a dict, an exit code, and how a notebook shows it."""

from __future__ import annotations

from planner.errors import KvplanError
from planner.terminal.output import flat
from planner.units import bandwidth, flops, human_bytes, human_seconds, significant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

NO = 3
"""The exit code of an answer that is no: it does not fit, it misses its target."""


class Shown:
    """An answer: `to_dict` is the JSON contract, `exit_code` its verdict, and the rest how it is looked at.

    `answer["kv_bytes"]` and `dict(answer)` read what `to_dict` says.
    """

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        raise NotImplementedError

    @property
    def exit_code(self) -> int:
        """0, or 3 where the answer is no."""
        return 0

    def rows(self) -> list[dict[str, Any]]:
        """The rows of its table, in CSV and in a data frame."""
        return [self.to_dict()]

    def to_frame(self) -> Any:
        """A pandas DataFrame of `rows`; nested keys are joined by a dot. Needs pandas (extra `report`)."""
        return frame(self.rows())

    def keys(self) -> Iterator[str]:
        """The keys of `to_dict`."""
        return iter(self.to_dict())

    def __getitem__(self, key: str) -> Any:
        return self.to_dict()[key]

    def __repr__(self) -> str:
        words = ", ".join(f"{key}={value!r}" for key, value in _plain(self.to_dict())[:6])
        return f"{type(self).__name__}({words})"

    def _repr_html_(self) -> str:
        return html_table(
            ["", type(self).__name__], [[key, shown(key, value)] for key, value in _plain(self.to_dict())]
        )


def _plain(found: dict[str, Any]) -> list[tuple[str, Any]]:
    """The figures and words of an answer, without what is nested and what is not known."""
    return [
        (key, value)
        for key, value in found.items()
        if key != "schema_version" and value is not None and not isinstance(value, (dict, list, tuple))
    ]


def shown(key: str, value: Any) -> str:
    """Writes a figure as a person reads it, by the unit that ends its key.

    >>> shown("kv_bytes", 4294967296), shown("seq_tokens", 8192), shown("tpot_seconds", 0.0123), shown("fits", True)
    ('4.00 GiB', '8,192', '12.3 ms', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    for ending, words in _UNITS.items():
        if key.endswith(ending):
            return words(value)
    return f"{value:,}" if isinstance(value, int) else significant(value)


_UNITS: dict[str, Callable[[Any], str]] = {
    "_bytes_per_s": bandwidth,
    "_flops_per_s": flops,
    "_bytes": human_bytes,
    "_bytes_per_token": human_bytes,
    **{f"_seconds{end}": human_seconds for end in ("", "_low", "_high", "_bound", "_mean")},
}


def html_table(header: list[str], rows: list[list[str]]) -> str:
    """Writes a table for a notebook; every text is escaped."""
    from html import escape

    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"


def frame(rows: list[dict[str, Any]]) -> Any:
    """Turns rows into a pandas DataFrame, a column a figure."""
    try:
        import pandas
    except ImportError:
        raise KvplanError("to_frame needs pandas: pip install 'llm-kvplan[report]'") from None
    return pandas.DataFrame([dict(flat(row)) for row in rows])
