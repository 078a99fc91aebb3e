"""The page of measured points beside expected ones."""

from __future__ import annotations

from collections.abc import Sequence

from planner.answers.measured_beside import Beside, place
from planner.terminal.tables import bold, dim, table
from planner.units import human_seconds

MARKS = {"inside": "", "above": " +", "below": " -", "beyond": " !"}


def measured_page(found: Sequence[Beside], device: str, notes: Sequence[str]) -> list[str]:
    """Writes the verdict, then a row a point: measured, expected, and where it lies."""
    names = list(dict.fromkeys(one.point.tool for one in found))
    lines = [bold(f"speed  {', '.join(names)} on {device}"), verdict(found), ""]
    rows = [_row(one) for one in found if one.expected is not None]
    if rows:
        header = ["  at once", "lengths", "TTFT", "expected", "TPOT", "expected", "tok/s", "expected"]
        lines.append(table(header, rows))
        lines.append("  + above the range, - below it, ! beyond the bound of the device")
        known = [one.expected for one in found if one.expected is not None]
        binds = dict.fromkeys(f"{expected.batch} at once: {expected.binds}" for expected in known)
        one_word = len(known) > 1 and len({expected.binds for expected in known}) == 1
        lines.append(f"  binds at all: {known[0].binds}" if one_word else f"  binds at {', '.join(binds)}")
        origins = dict.fromkeys(one.expected.constants_from for one in found if one.expected is not None)
        lines += [f"  constants: {origin}" for origin in origins]
    reasons = dict.fromkeys(f"{one.point.source}: {one.why_not}" for one in found if one.why_not)
    return lines + [dim(f"  note: {line}") for line in (*reasons, *notes)]


def verdict(found: Sequence[Beside]) -> str:
    """Says how many of the measured times lie where they are expected."""
    places = [place(seconds, figure) for one in found for _, seconds, figure in one.pairs()]
    if not places:
        return "No point can be held against what is expected."
    inside = places.count("inside")
    said = f"{inside} of {len(places)} measured times lie in the range that is expected."
    if "beyond" in places:
        said += f" {places.count('beyond')} are faster than the device can be: another model, format, layout or device."
    elif inside < len(places):
        said += " --measured FILE in kvplan speed, simulate makes constants of this server's own."
    return said


def _row(one: Beside) -> list[str]:
    point, expected = one.point, one.expected
    assert expected is not None
    cells = {name: (human_seconds(s), human_seconds(f.value) + MARKS[place(s, f)]) for name, s, f in one.pairs()}
    ttft, tpot = cells.get("TTFT", ("-", "-")), cells.get("TPOT", ("-", "-"))
    measured = point.output_tokens_per_s
    rate = (f"{measured:,.0f}", f"{expected.decode_tokens_per_s.value:,.0f}") if measured else ("-", "-")
    return [f"  {expected.batch:,}", f"{expected.prompt_tokens:,}+{expected.output_tokens:,}", *ttft, *tpot, *rate]
