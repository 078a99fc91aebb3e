"""The page of `kvplan watch`."""

from __future__ import annotations

from planner.answers.watch import WatchAnswer
from planner.commands.pages.advice import advice_page
from planner.terminal.tables import bad, bold, dim, good, table
from planner.units import human_seconds


# long: the page from top to bottom
def page(answer: WatchAnswer, with_advice: bool = True) -> list[str]:
    """Writes who it is, the verdict, then measured beside expected."""
    found, expected = answer.served, answer.expected
    span = (
        f"over {found.seconds:,.0f} s"
        if found.seconds
        else "between two reads"
        if found.between
        else "since it started"
    )
    lines = [
        bold(f"{found.engine}  {found.model or answer.asked.model or 'model not named'}, {span}"),
        _verdict(answer),
        "",
    ]
    rows = [["  running", _count(found.running), ""], ["  waiting", _count(found.waiting), ""]]
    rows.append(["  cache in use", _share(found.cache_share), ""])
    if found.pool_tokens:
        rows.append(["  pool", f"{found.pool_tokens:,.0f} tokens", ""])
    rows += [["  preemptions", _count(found.preemptions), ""], ["  prefix hits", _share(found.prefix_hit_share), ""]]
    rows.append(["  prompts", _tokens(found.prompt_tokens), ""])
    rows.append(["  answers", _tokens(found.output_tokens), ""])
    for name, value, p95, figure in (
        ("TTFT", found.ttft_seconds, found.ttft_p95_seconds, expected.ttft_seconds if expected else None),
        ("TPOT", found.tpot_seconds, found.tpot_p95_seconds, expected.tpot_seconds if expected else None),
    ):
        said = "-" if value is None else human_seconds(value)
        said += f" (p95 {human_seconds(p95)})" if p95 is not None else ""
        range_ = (
            ""
            if figure is None
            else f"{human_seconds(figure.value)} ({human_seconds(figure.low)} to {human_seconds(figure.high)})"
        )
        rows.append([f"  {name}", said, range_])
    rate = None if expected is None else f"{expected.decode_tokens_per_s.value:,.0f} tok/s"
    rows.append(
        [
            "  output",
            "-" if found.output_tokens_per_s is None else f"{found.output_tokens_per_s:,.0f} tok/s",
            rate or "",
        ]
    )
    lines.append(table(["  ", "measured", "expected" if expected else ""], rows))
    if expected is not None:
        lines.append(f"  binds: {expected.binds}; constants: {expected.constants_from}")
    if answer.config is not None and answer.config.words:
        lines.append(dim(f"  it says: {answer.config.words}"))
    if answer.why_not:
        lines.append(dim(f"  note: {answer.why_not}"))
    return lines + (["", *advice_page(answer.advice, None)] if with_advice and answer.advice is not None else [])


def _verdict(answer: WatchAnswer) -> str:
    """Whether targets are met, and how many more users are."""
    targets, found = answer.asked.targets, answer.served
    usual = " (usual targets)" if targets.assumed else ""
    pairs = (("TTFT", targets.ttft_seconds, found.ttft_seconds), ("TPOT", targets.tpot_seconds, found.tpot_seconds))
    said = [
        f"{name} {human_seconds(wanted)}" for name, wanted, value in pairs if wanted is not None and value is not None
    ]
    named = ", ".join(said) + usual
    if answer.missed:
        verdict = bad(f"Misses {' and '.join(answer.missed)}: targets are {named}.")
    elif found.ttft_seconds is None and found.tpot_seconds is None:
        verdict = "It says no times: whether targets are met is not known."
    else:
        verdict = good(f"Meets {named}." + (" It does not say the other." if len(said) == 1 else ""))
    if answer.most_users is not None and found.in_flight is not None:
        more = answer.most_users - round(found.in_flight)
        if more > 0:
            verdict += f" {more:,} more at once until {answer.by} ends it at {answer.most_users:,}."
        else:
            verdict += f" No room for more: {answer.by} ends it at {answer.most_users:,} at once."
    return verdict


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _tokens(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} tokens"
