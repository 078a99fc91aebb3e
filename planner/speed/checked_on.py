"""How the shipped fits did on measured rows that they had not seen: what stands behind the range of an answer."""

from __future__ import annotations

from dataclasses import dataclass

from planner.speed.constants import NEW_SHAPE, shipped


@dataclass(frozen=True)
class LeftOut:
    """Measured times between tokens (and whole requests) beside a fit that was made without them.

    split              "rows left out" for a device and a model that the fit has rows of, else "device left out" or
                       "model left out"
    median_percent     of |predicted / measured - 1|; a tenth of the rows is further off than p90_percent
    in_range_percent   rows inside the range that is printed
    """

    split: str
    rows: int
    median_percent: float
    p90_percent: float
    in_range_percent: float

    def words(self) -> str:
        """
        >>> LeftOut("rows left out", 142, 4.4, 16.7, 89.4).words()
        'on 142 rows left out of the fit: median error 4.4 %, a tenth beyond 16.7 %, 89.4 % in the range'
        """
        kind = self.split.removesuffix(" left out")
        rows = "rows left out of the fit" if kind == "rows" else f"rows of {kind}s left out of the fit"
        return (
            f"on {self.rows:,} {rows}: median error {self.median_percent:g} %, a tenth beyond {self.p90_percent:g} %, "
            f"{self.in_range_percent:g} % in the range"
        )


def left_out(origin: str) -> LeftOut | None:
    """Finds the check of a fit by `Constants.origin`: its errors on rows that were left out; None where none were.

    >>> left_out("stated default") is None
    True
    """
    split = "model left out" if NEW_SHAPE in origin else "rows left out"
    split = "device left out" if ", none on " in origin else split
    named = [row for row in shipped().get("errors_by_fit", ()) if row["population"] in origin and row["split"] == split]
    if not named:
        return None
    row = max(named, key=lambda found: len(found["population"]))
    return LeftOut(split, row["rows"], row["median_percent"], row["p90_percent"], row["in_range_percent"])
