"""The page of what one flag would change."""

from __future__ import annotations

from planner.answers.advice import Advice, Outcome
from planner.terminal.tables import bold, dim, good, table
from planner.units import human_seconds

MOST = 6
LONG = 26  # characters of a flag that stand in a table


def advice_page(found: Advice | None, why_not: str | None) -> list[str]:
    """Writes the changes that are worth it, the largest gain first; why there are none where that is not known."""
    if found is None:
        return [dim(f"  no advice: {why_not}")]
    load, targets = found.load, found.targets
    usual = " (usual targets)" if targets.assumed else ""
    aim = f"TTFT {human_seconds(targets.ttft_seconds or 0)}, TPOT {human_seconds(targets.tpot_seconds or 0)}{usual}"
    lines = [bold(f"what one flag would change, within {aim}"), good(best(found) + "."), ""]
    several = any(change.devices != found.now.devices for change in found.changes[:MOST])
    rows = [_row("as it is", found.now, "", several)]
    long = [change for change in found.changes[:MOST] if len(change.flags) > LONG]
    for change in found.changes[:MOST]:
        gain = found.gain(change)
        said = "-" if gain is None else f"{100 * (gain - 1):+,.0f} %"
        name = f"({long.index(change) + 1})" if change in long else change.flags
        rows.append(_row(name, change, said, several))
    each = ["a device"] if several else []
    at = f"at {load.batch:,}"
    lines.append(table(["  with", "at once", "ends by", "tok/s", *each, "gain", f"TPOT {at}", f"TTFT {at}"], rows))
    lines += [f"  ({number}) {change.flags}" for number, change in enumerate(long, 1)]
    if not found.changes and found.tried:
        lines.append(f"  tried: {', '.join(found.tried)}")
    points = f"{found.points} measured point{'s' * (found.points != 1)} of this server"
    lines.append(dim(f"  estimated: each flag answered anew with speeds scaled by {points}; try it before you keep it"))
    return lines


def best(found: Advice) -> str:
    """Writes the change of the largest gain in a few words."""
    if not found.changes:
        return "No flag that was tried gives more"
    first = found.changes[0]
    gain = found.gain(first)
    more = "meets the targets" if gain is None else f"{100 * (gain - 1):+,.0f} % output tokens a second of a device"
    return f"Best: {first.flags}: {more}, {first.most_users:,} at once ({found.now.most_users:,} now)"


def _row(name: str, one: Outcome, gain: str, several: bool) -> list[str]:  # parameters: the cells of a row
    rates = [one.tokens_per_s, one.tokens_per_s_device][: 1 + several]
    return [
        f"  {name}", f"{one.most_users:,}", one.by.replace("no target up to ", "above "),
        *(f"{rate:,.0f}" if rate else "-" for rate in rates), gain, human_seconds(one.tpot_seconds), human_seconds(one.ttft_seconds),
    ]  # fmt: skip
