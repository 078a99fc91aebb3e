"""The page of `kvplan simulate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from planner.commands.pages.assumed import assumed_lines
from planner.commands.pages.model_line import headline
from planner.serving.result import percentiles
from planner.serving.simulate import SHARES, Answer
from planner.serving.steady_state import State
from planner.terminal.tables import bad, dim, good, table, width
from planner.units import gib, human_bytes, percent, plural
from planner.workloads.traces import HASH_TOKENS

LEVELS = "▁▂▃▄▅▆▇█"


PLAIN_LEVELS = " .:-=+*#"


def page(answer: Answer, verbose: bool = False) -> list[str]:
    """Writes what happened, at a glance: times by percentile, throughput, the pool, the targets, and the formulas
    beside it.
    """
    run = answer.run
    lines = [*_head(answer), "", _times(answer), ""]
    lines += _throughput(answer) + _pool(answer)
    lines += _targets(answer)
    lines += _pools(answer)
    lines += ["", *_check(answer)]
    lines += [bad("  note: ") + line for line in answer.notes]
    low, high = answer.tpot_range
    lines.append(dim(f"  assumed: expected step times ({answer.server.constants.origin}); measured TPOT is x{low:.2f} to x{high:.2f} of them, 9 times in 10"))  # fmt: skip
    if answer.before_seconds:
        lines.append(dim(f"  assumed: {seconds(answer.before_seconds)} of every TTFT and latency before the scheduler sees a request"))  # fmt: skip
    lines += assumed_lines([*answer.server.words, *answer.workload.words], verbose)
    lines.append(dim(f"  simulated: {run.steps:,} steps in {run.events:,} schedules"))
    return lines


def several_page(answers: Sequence[Answer], asked: int) -> list[str]:
    """Writes a row for each device that has room, below on how many of those asked the targets are met."""
    first = answers[0]
    wanted = first.targets.ttft_seconds is not None or first.targets.tpot_seconds is not None
    met = sum(not answer.misses for answer in answers)
    rows = []
    for answer in answers:
        ttft, tpot = (
            [seconds(value) for value in percentiles(values, [0.5, 0.95])] if values else ["-", "-"]
            for values in (answer.ttft_seconds, answer.tpot_seconds)
        )
        run = answer.run
        rows.append([answer.device.name, *ttft, *tpot, _plain(run.requests_per_s), f"{run.output_tokens_per_s:,.0f}",
                     f"{run.rejected:,}", *([("missed" if answer.misses else "met")] if wanted else [])])  # fmt: skip
    head = [
        "device",
        "TTFT p50",
        "p95",
        "TPOT p50",
        "p95",
        "requests/s",
        "tok/s",
        "rejected",
        *(["targets"] if wanted else []),
    ]
    said = (
        f"MEETS its targets on {met} of {plural(asked, 'device')}."
        if wanted
        else f"RUNS on {len(answers)} of {plural(asked, 'device')} (targets: --ttft, --tpot)."
    )
    notes = dict.fromkeys(f"{answer.device.name}: {line}" for answer in answers for line in answer.notes)
    question = headline(
        first.server.found.spec, [f" on {plural(asked, 'device')}", f"; {len(first.run.requests):,} requests"]
    )[0]
    return [
        question, (good if met and wanted else bad if wanted else str)(said), "", table(head, rows),
        *(bad("  note: ") + line for line in notes),
        *assumed_lines(dict.fromkeys(line for answer in answers for line in answer.workload.words), False),
    ]  # fmt: skip


def _head(answer: Answer) -> list[str]:
    server, run = answer.server, answer.run
    sharding = server.found.request.sharding
    replicas = answer.replicas
    layout = ", ".join(f"{name.upper()} {getattr(sharding, name)}" for name in ("tp", "pp", "ep", "dp", "dcp") if getattr(sharding, name) > 1)  # fmt: skip
    many = f", {replicas} replicas ({answer.policy.routing})" if replicas > 1 else ""
    if answer.pools is not None:
        many = ", {}P{}D".format(*answer.pools.counts)
    offered = answer.workload.offered_per_s
    how = f"{answer.workload.users:,} users" if answer.workload.users else f"{_plain(offered)} requests/s" if offered else "all at once"  # fmt: skip
    head, more = headline(
        server.found.spec,
        [
            f" on {answer.device.name}",
            f", {layout}" if layout else "",
            many,
            f"; {len(run.requests):,} requests, {how}",
        ],
        drop=(3, 2, 1),
    )
    return [
        head,
        _verdict(answer),
        *more,
        f"over {seconds(run.seconds)}; "
        f"prompts {_mean(run.requests.prompt_tokens):,.0f} tokens and outputs {_mean(run.requests.output_tokens):,.0f} on the mean",
    ]


def _verdict(answer: Answer) -> str:
    """Whether the targets are met; without targets, what 95 requests in 100 see."""
    run, targets = answer.run, answer.targets
    within = f"{percent(answer.meeting, len(run.requests))} of the requests are within them"
    wanted = [f"{name} {seconds(value)}" for name, value in (("TTFT", targets.ttft_seconds), ("TPOT", targets.tpot_seconds)) if value is not None]  # fmt: skip
    if wanted and not answer.misses:
        return good(f"MEETS {' and '.join(wanted)}: {within}.")
    if wanted:
        return bad(f"MISSES its targets: {'; '.join(answer.misses)}; {within}.")
    if not answer.ttft_seconds or not answer.tpot_seconds:
        return bad("NO REQUEST was served.")
    ttft, tpot = (percentiles(values, [0.95])[0] for values in (answer.ttft_seconds, answer.tpot_seconds))
    line = (
        f"TTFT {seconds(ttft)} and TPOT {seconds(tpot)} for 95 of 100 requests, {_plain(run.requests_per_s)} served a "
        "second (targets: --ttft, --tpot)."
    )
    return bad(f"OVERLOADED, the queue grows: {line}") if answer.overloaded else line


def _times(answer: Answer) -> str:
    rows = []
    for name, values in (
        ("time to first token", answer.ttft_seconds),
        ("  of that queueing", answer.queueing_seconds),
        ("time between tokens", answer.tpot_seconds),
        ("request, to last token", answer.latency_seconds),
    ):
        cells = [seconds(value) for value in (_mean(values), *percentiles(values, SHARES))] if values else ["-"] * 5
        rows.append([f"  {name}", *cells])
    return table(["", "mean", *(f"p{100 * share:g}" for share in SHARES)], rows)


def _throughput(answer: Answer) -> list[str]:
    run = answer.run
    devices = answer.replicas * answer.server.found.request.sharding.devices
    lines = [
        f"  served       {run.served:,} requests, {_plain(run.requests_per_s)}/s; {run.output_tokens_per_s:,.0f} output tokens/s"
        + (f", {run.output_tokens_per_s / devices:,.0f} a device" if devices > 1 else "")
        + (f"; {bad(f'{run.rejected:,} rejected')}" if run.rejected else ""),
        f"  utilisation  {percent(run.utilisation, 1)} of the time in steps, {_plain(run.mean_concurrency)} requests in the "
        "system on the mean",
    ]  # fmt: skip
    hits = sum(run.requests.hit_tokens)
    if hits:
        lines.append(
            f"  prefix hits  {percent(hits, sum(run.requests.prompt_tokens))} of the prompt tokens" + _tier(answer)
        )
    return lines


def _tier(answer: Answer) -> str:
    """What of the hits came back from host memory or disk, and what a cache that forgets nothing would find."""
    run, server = answer.run, answer.server
    prompts = sum(run.requests.prompt_tokens)
    words = ""
    if server.tier is not None:
        each = seconds(answer.policy.tier_block_ps / 1e12)
        words = (
            f", {percent(run.tier_hit_tokens, prompts)} brought back from {human_bytes(server.tier_bytes)} over "
            f"{server.tier.link.words}, {each} for {HASH_TOKENS} tokens"
        )
    trace = answer.workload.trace
    if answer.most_hits is None or trace is None:
        return words
    return f"{words}; a cache that forgets nothing finds {percent(answer.most_hits, sum(trace.prompt_tokens))}"


def _pool(answer: Answer) -> list[str]:
    run = answer.run
    preempted = f"{run.preemptions:,} preemptions"
    top = max([0.01, *answer.occupancy])
    return [
        f"  KV pool      {gib(run.pool_bytes)} a replica, {percent(answer.mean_occupancy, 1)} in use on the mean, "
        f"{percent(run.peak_bytes, run.pool_bytes)} at most; {bad(preempted) if run.preemptions else preempted}",
        f"  over time    [{sparkline(_thinned([share / top for share in answer.occupancy], width() - 30))}] 0 to {percent(top, 1)}",
    ]


def _thinned(shares: list[float], most: int) -> list[float]:
    """At most `most` columns: each the largest of those it stands for."""
    step = -(-len(shares) // max(1, most))
    return [max(shares[at : at + step]) for at in range(0, len(shares), step)]


def _targets(answer: Answer) -> list[str]:
    targets, run = answer.targets, answer.run
    wanted = [f"{name} {seconds(value)}" for name, value in (("TTFT", targets.ttft_seconds), ("TPOT", targets.tpot_seconds)) if value is not None]  # fmt: skip
    if not wanted:
        return []
    share = f"{100 * targets.ttft_share:g} of 100"
    return [
        f"  targets      {' and '.join(wanted)} for {share}",
        f"  goodput      {answer.meeting / run.seconds if run.end_ps else 0:.3g} requests/s within them, "
        f"{percent(answer.meeting, len(run.requests))} of all",
    ]


def _pools(answer: Answer) -> list[str]:
    """Two pools beside the same cards that do both."""
    pools = answer.pools
    if pools is None:
        return []
    reads, decodes = pools.counts
    waited = (
        f", waits {seconds(pools.link_wait_seconds)} for it"
        if pools.link_wait_seconds > pools.transfer_seconds / 100
        else ""
    )
    rows = []
    for name, one in ((f"{reads}P{decodes}D", answer), (f"{reads + decodes} that do both", pools.both)):
        ttft, tpot = (
            [seconds(value) for value in percentiles(values, [0.5, 0.95])] if values else ["-", "-"]
            for values in (one.ttft_seconds, one.tpot_seconds)
        )
        met = [("missed" if one.misses else "met")] if one.aimed else []
        rows.append([f"  {name}", *ttft, *tpot, _plain(one.run.requests_per_s), *met])
    head = ["", "TTFT p50", "p95", "TPOT p50", "p95", "requests/s", *(["targets"] if answer.aimed else [])]
    return [
        f"  two pools    {plural(reads, 'replica')} {'reads' if reads == 1 else 'read'} prompts, {percent(pools.prefill_utilisation, 1)} of the time in steps; "
        f"{decodes} {'decodes' if decodes == 1 else 'decode'} (the figures above)",
        f"  link         {pools.link.words}: a cache takes {seconds(pools.transfer_seconds)}{waited} on the mean",
        "",
        table(head, rows),
        f"  {_pays(answer, pools.both)}",
    ]


def _pays(answer: Answer, both: Answer) -> str:
    """Which of the two the targets favour, or what differs where there are none."""
    if answer.aimed and bool(answer.misses) != bool(both.misses):
        if answer.misses:
            return bad("two pools do not pay here: the same cards doing both meet the targets")
        return good("two pools pay here: the same cards doing both miss the targets")
    stuck = answer.overloaded or (answer.pools is not None and answer.pools.link_utilisation >= 1)
    if stuck and not both.overloaded:
        return bad("two pools do not pay here: they do not carry the load, which the same cards doing both do")
    if not (answer.ttft_seconds and answer.tpot_seconds and both.ttft_seconds and both.tpot_seconds):
        return "nothing to compare: a request of one token has no TPOT"
    ttft, tpot = (
        percentiles(getattr(answer, name), [0.95])[0] / (percentiles(getattr(both, name), [0.95])[0] or 1.0)
        for name in ("ttft_seconds", "tpot_seconds")
    )
    if ttft >= 1 and tpot >= 1:
        return bad("two pools do not pay here: both times are longer than with the same cards doing both")
    if ttft <= 1 and tpot <= 1:
        return good("two pools pay here: both times are shorter than with the same cards doing both")
    return f"two pools trade: TTFT p95 x{ttft:.2f}, TPOT p95 x{tpot:.2f} of the same cards doing both"


def _check(answer: Answer) -> list[str]:
    """The same load by formulas, and Little's law on what was counted."""
    run = answer.run
    mean_latency = _mean(run.latency_seconds())
    lines = []
    if answer.analytic is not None:
        lines.append(table(["  beside it", "simulated", "formulas"], _beside(answer, answer.analytic)))
    lines.append(
        dim(
            f"  Little's law: {_plain(run.requests_per_s)}/s x {seconds(mean_latency)} = "
            f"{_plain(run.requests_per_s * mean_latency)} in the system, counted {_plain(run.mean_concurrency)}"
        )
    )
    return lines


def _beside(answer: Answer, state: State) -> list[list[str]]:
    share = answer.targets.ttft_share
    ttft, replicas = percentiles(answer.ttft_seconds, [share])[0], answer.policy.replicas
    return [
        ["  time between tokens, mean", seconds(_token_mean(answer)), seconds(state.tpot_seconds)],
        ["  time to first token, mean", seconds(_mean(answer.ttft_seconds)), seconds(state.ttft_mean_seconds)],
        [f"  time to first token, p{100 * share:g}", seconds(ttft), seconds(state.ttft_seconds)],
        ["  requests/s", f"{answer.run.requests_per_s:.3g}", f"{state.rate_per_s * replicas:.3g}"],
    ]


def _token_mean(answer: Answer) -> float:
    """The mean gap between tokens, each token counting alike: what the formulas mean by TPOT."""
    rows = answer.run.requests
    served = rows.served
    spans = sum(rows.last_ps[i] - rows.first_ps[i] for i in served)
    return spans / max(1, sum(rows.output_tokens[i] - 1 for i in served)) / 1e12


def _mean(values: object) -> float:
    found = list(values)  # type: ignore[call-overload]
    return sum(found) / len(found) if found else 0.0


def seconds(value: float) -> str:
    """Writes a time in the unit that suits it.

    >>> seconds(0.0123), seconds(1.5), seconds(75.0), seconds(7200), seconds(0)
    ('12.3 ms', '1.50 s', '75.0 s', '2.00 h', '0 s')
    """
    if not value:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (600.0, 1.0, "s"), (7200.0, 1 / 60, "min")):
        if value < limit:
            return f"{_three(value * factor)} {unit}"
    return f"{value / 3600:,.2f} h"


def _plain(value: float) -> str:
    """
    >>> _plain(0.26257), _plain(20.361), _plain(2048.2)
    ('0.263', '20.36', '2,048')
    """
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}" if value >= 1 else f"{value:.3g}"


def _three(value: float) -> str:
    """Three digits that count."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def sparkline(shares: list[float]) -> str:
    """Draws a column a share, 0 to 1, in eight heights."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") in ("utf8", "utf16") and sys.stdout.isatty()
    levels = LEVELS if unicode else PLAIN_LEVELS
    return "".join(levels[max(0, min(7, round(8 * share - 0.5)))] for share in shares)
