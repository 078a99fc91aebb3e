"""The page of `kvplan plan`: the best plans as a table, the best of them in detail, why others were dropped."""

from __future__ import annotations

from collections.abc import Sequence

from planner.commands.pages.assumed import assumed_lines
from planner.commands.pages.energy import energy_words
from planner.commands.pages.model_line import named
from planner.deployment.answer import changed_formats
from planner.deployment.candidate import layout_words, missed, place
from planner.deployment.plan import Plan, start
from planner.deployment.search import Answer, neighbours
from planner.errors import KvplanError
from planner.speed.drafting import pays_words
from planner.terminal.tables import bad, dim, good, table
from planner.units import gib, human_bytes, human_seconds, percent, significant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.deployment.two_pools import Beside

LABEL = 26


def page(answer: Answer, top: int, verbose: bool = False, *, two_pools: Sequence[Beside] = ()) -> list[str]:
    """Writes the load, the verdict, a row a plan, the best plan in full, two pools where they were asked for, and what was
    left out and assumed.
    """
    if two_pools:
        from planner.commands.pages.two_pools import pools_verdict, two_pools_lines
    lines = [*_asked(answer), ""]
    lines.insert(1, _verdict(answer))
    if two_pools:
        lines.insert(2, pools_verdict(two_pools, answer.plans[0] if answer.plans else None))
    if answer.plans:
        lines += [*_table(answer, top), *_failed(answer), "", *_details(answer.plans[0])]
        own = next((plan for plan in answer.plans if not changed_formats(plan)), None)
        if changed_formats(answer.plans[0]):
            lines += ["", *_as_published(own)]
    else:
        lines += _none(answer)
    if two_pools:
        lines += ["", *two_pools_lines(two_pools)]
    return [*lines, "", *_left_out(answer), *assumed_lines(_assumed(answer, top), verbose)]


def _asked(answer: Answer) -> list[str]:
    question, load = answer.question, answer.question.load
    who = (
        f"{significant(load.rate_per_s or 0)} requests/s"
        if load.users is None
        else f"{load.users:,} user{'s' if load.users > 1 else ''}"
    )
    if load.users is not None:
        pause = f", {human_seconds(load.think_seconds)} between an answer and the next request"
        who += pause if load.think_seconds else " at once"
    engine = f" in {question.engine[0]}" if question.engine else ""
    lines = [named(question.spec) + f"{engine} for {who}", f"  {load.words}"]
    mean = f"  mean prompt {load.prompt_tokens:,.0f}, output {load.output_tokens:,.0f}, longest request {load.longest_tokens:,} tokens"
    if load.prefix_share and load.prefix_common:
        mean += f"; {100 * load.prefix_share:g} % of each prompt is one prefix of all"
    elif load.prefix_share:
        mean += f"; {100 * load.prefix_share:.0f} % of the prompt tokens came before, at most so many are cached"
    if load.trace is not None and load.trace.bad_rows:
        lines.append(f"  {load.trace.bad_rows:,} rows of the trace are left out: {'; '.join(load.trace.bad_words)}")
    return [*lines, mean, f"  targets: {_targets(answer)}"]


def _verdict(answer: Answer) -> str:
    """The best plan in one line, or that there is none."""
    if not answer.plans:
        nearest = (
            f" The nearest misses {answer.nearest.words}{_over(answer.nearest.ratio)}."
            if answer.nearest is not None
            else ""
        )
        return bad(f"NOTHING MEETS THE TARGETS of {answer.searched:,} candidates.{nearest}")
    best = answer.plans[0]
    one = best.candidate
    price = one.price
    layout = layout_words(one.sharding)
    layout = f"{best.replicas:,} replicas of {layout}" if best.replicas > 1 else layout
    cost = "" if price is None else f", {price.usd_per_hour * best.devices:,.2f} USD/h"
    return good(
        f"BEST: {best.devices} x {one.device.name} ({layout}){cost}, "
        f"TPOT {human_seconds(best.state.tpot_seconds)}, TTFT {human_seconds(best.state.ttft_seconds)}."
    )


def _targets(answer: Answer) -> str:
    targets, budget = answer.question.targets, answer.question.budget_usd_per_hour
    words = []
    if targets.ttft_seconds is not None:
        words.append(f"TTFT {human_seconds(targets.ttft_seconds)} for {100 * targets.ttft_share:g} % of requests")
    if targets.tpot_seconds is not None:
        words.append(f"TPOT {human_seconds(targets.tpot_seconds)} on average")
    if budget is not None:
        words.append(f"at most {budget:.2f} USD/h")
    return ", ".join(words) + (" (nobody asked for others: --ttft, --tpot)" if targets.assumed else "")


def _table(answer: Answer, top: int) -> list[str]:
    share = f"TTFT p{100 * answer.question.targets.ttft_share:g}"
    header = [
        "",
        "devices",
        "layout",
        "weights",
        "KV",
        "USD/h",
        "Wh/M",
        "TPOT",
        "range",
        share,
        "range",
        "full",
        "binds",
    ]
    rows = [_row(number, plan) for number, plan in enumerate(answer.plans[:top], 1)]
    lines = [table(header, rows, left=5)]
    more = len(answer.plans) - top
    if more > 0:
        lines.append(dim(f"  {more:,} more meet the targets (--top)"))
    shown = answer.plans[:top]
    if any(plan.energy for plan in shown):
        lines.append(dim("  Wh/M: watt hours a million output tokens"))
    if any(changed_formats(plan) for plan in shown):
        lines.append(dim("  * a format that is not the model's own: its answers change; test them"))
    if any(plan.tight for plan in shown):
        lines.append(dim("  ~ met by the expectation, missed at the slow end of its range"))
    if any(plan.candidate.over_pcie for plan in shown):
        lines.append(
            dim("  ! ranks over PCIe: measured servers took twice the expected time at the median; measure first")
        )
    return lines


def _failed(answer: Answer) -> list[str]:
    """Plans that the formulas accept and the simulation does not."""
    lines = []
    for plan in answer.failed_checks:
        assert plan.check is not None
        words = ", ".join(f"{name} by {100 * (r - 1):.0f} %" for name, r in missed(plan.check, answer.question.targets))
        lines.append(dim(f"  {place(plan.candidate, plan.replicas)}: simulated, it misses {words}"))
    return lines


def _row(number: int, plan: Plan) -> list[str]:
    c, state = plan.candidate, plan.state
    found = c.room.found
    layout = layout_words(c.sharding)
    if plan.replicas > 1:
        layout = f"{plan.replicas} x ({layout})" if c.sharding.devices > 1 else f"{plan.replicas} replicas"
    return [
        f"{number}{'~' if plan.tight else ''}{'!' if c.over_pcie else ''}",
        f"{plan.devices} x {c.device.name}",
        layout,
        found.plan.fmt.name + ("*" if c.formats.dtype is not None else ""),
        found.fmt.name + ("*" if c.formats.kv_dtype is not None else ""),
        "-" if plan.usd_per_hour is None else f"{plan.usd_per_hour:,.2f}",
        "-" if plan.energy is None else significant(plan.energy.watt_hours),
        human_seconds(state.tpot_seconds),
        _range(*plan.tpot_range),
        human_seconds(state.ttft_seconds),
        _range(*plan.ttft_range),
        percent(state.utilisation, 1),
        plan.binds,
    ]


def _range(low: float, high: float | None) -> str:
    return f"{human_seconds(low)} to {'overload' if high is None else human_seconds(high)}"


def _line(label: str, text: str) -> str:
    return f"  {label.ljust(LABEL)}{text}"


def _details(plan: Plan) -> list[str]:
    c = plan.candidate
    each = "" if plan.replicas == 1 else f", {plan.replicas} replicas of {c.sharding.devices}"
    lines = [
        good(f"Best by {c.question.sort}: ") + f"{plan.devices} x {c.device.name}{each} ({layout_words(c.sharding)})"
    ]
    lines += [*_memory(plan), *_speed(plan), *_drafts(plan), *_load(plan), *_money(plan), *_power(plan)]
    lines += [_line(words, text) for words, text in _steps(plan)]
    try:
        command = start(plan)[0]
    except KvplanError as error:
        command = f"no start command: {error}"
    if command:
        lines.append(_line("start each", command))
        if c.formats.dtype is not None:
            lines.append(
                _line(
                    "", dim(f"with a checkpoint stored in {c.room.found.plan.fmt.name} in place of the published one")
                )
            )
    return lines


def _memory(plan: Plan) -> list[str]:
    room = plan.candidate.room
    device = room.found.per_device
    assert room.found.capacity is not None
    parts = f"weights {gib(device.weight_bytes)}, activations {gib(device.activation.bytes)}, overhead {gib(device.overhead_bytes)}"
    pool = "left for KV" if plan.candidate.answer is None else f"{plan.candidate.answer.name}'s pool"
    beside = [f"{line.name} {human_bytes(line.bytes)}" for line in device.extras]
    parts = ", ".join([parts, *beside])
    prefix = f" ({human_bytes(room.prefix_bytes)} of it the common prefix)" if room.prefix_bytes else ""
    if room.idle_bytes:
        pool = f"idle sessions {gib(room.idle_bytes)}, {pool}"
    rank = "a rank" if plan.candidate.sharding.dp > 1 else "a replica"
    held = f"a decoding sequence holds {human_bytes(room.request_bytes)} on average"
    return [
        _line("memory, a device", f"{gib(room.found.capacity.bytes)}: {parts}, {pool} {gib(room.pool_bytes)}{prefix}"),
        _line("", f"{held}: {room.admitted:,} at once {rank}, {plan.state.decoding:,.1f} decode"),
    ]


def _speed(plan: Plan) -> list[str]:
    parts = ", ".join(f"{name} {human_seconds(seconds)}" for name, seconds in plan.tpot_parts.items() if seconds)
    state = plan.state
    return [
        _line("TPOT", f"{human_seconds(state.tpot_seconds)} ({_range(*plan.tpot_range)}; the device allows no less than "
                      f"{human_seconds(plan.tpot_bound_seconds)}): {parts}"),
        _line("TTFT", f"{human_seconds(state.ttft_seconds)} for {100 * plan.candidate.question.targets.ttft_share:g} % "
                      f"({_range(*plan.ttft_range)}), {human_seconds(state.ttft_mean_seconds)} on average"),
        _line("simulated", bad("not: the first of the ranking were, and missed") if plan.check is None else _check_words(plan)),
    ]  # fmt: skip


def _drafts(plan: Plan) -> list[str]:
    """What is drafted, and from which batch on it costs more than it saves."""
    drafts, first = plan.candidate.drafts, plan.candidate.drafting_pays_below
    if drafts is None:
        return []
    here = plan.state.seen * plan.candidate.sharding.dp
    lost = first is not None and here >= first
    said = pays_words(first) + (f"; {here:,.0f} decode here: better without" if lost else f"; {here:,.0f} decode here")
    return [_line("drafts", drafts.words()), _line("", bad(said) if lost else said)]


def _check_words(plan: Plan) -> str:
    check = plan.check
    assert check is not None
    words = f"TPOT {human_seconds(check.tpot_seconds)}, TTFT {human_seconds(check.ttft_seconds)}"
    return f"{words}: {check.requests:,} requests played one by one, {check.preemptions:,} preemptions"


def _load(plan: Plan) -> list[str]:
    most, stops = plan.capacity
    load = plan.candidate.question.load
    users = load.users is not None
    amount = f"{most:,.0f} users" if users else f"{significant(most)} requests/s"
    why = {"memory": "KV memory is full", "prompts": "prompts fill the steps"}.get(stops, f"{stops} passes its target")
    return [
        _line("load", f"{significant(plan.requests_per_s)} requests/s, {plan.requests_per_s * load.output_tokens:,.0f} output tokens/s; "
                      f"prompts take {percent(plan.state.prefill_share, 1)} of the time"),
        _line("", f"carries up to {amount}, then {why}"),
    ]  # fmt: skip


def _money(plan: Plan) -> list[str]:
    c = plan.candidate
    lines = []
    if plan.costs is None or c.price is None or plan.usd_per_hour is None:
        lines.append(
            _line("cost", f"no price of {c.device.name} is known: --price {c.device.name.lower()}=2.1/h gives one")
        )
    else:
        cached = "" if plan.costs.cached is None else f"cached {plan.costs.cached:.3f}, "
        lines.append(
            _line(
                "cost", f"{plan.usd_per_hour:,.2f} USD/h = {plan.devices} x {c.price.usd_per_hour:g} ({c.price.words})"
            )
        )
        lines.append(
            _line(
                "",
                f"a million tokens at this load: prompt {plan.costs.prompt:.3f}, {cached}output {plan.costs.output:.3f} USD",
            )
        )
    return lines


def _power(plan: Plan) -> list[str]:
    """Rated power, and energy of a million output tokens."""
    if plan.watts is None or plan.energy is None or plan.watt_hours_per_million_tokens is None:
        return [_line("power", f"no rated power of {plan.candidate.device.name} is known")]
    rated = f"{plan.watts:,.0f} W rated, {significant(plan.watt_hours_per_million_tokens)} Wh a million tokens"
    lines = [_line("power, at most", f"{rated}, prompts too"), _line("energy", energy_words(plan.energy))]
    load = plan.candidate.question.load
    if plan.state.decoding < 1 and (load.users is None or load.think_seconds):
        lines.append(_line("", "less than that: part of the time nobody asks, and a device draws little"))
    return lines


def _steps(plan: Plan) -> list[tuple[str, str]]:
    found = []
    for words, other, misses in neighbours(plan):
        if other is None:
            found.append((words, "does not carry the load"))
            continue
        speeds = f"TPOT {human_seconds(other.state.tpot_seconds)}, TTFT {human_seconds(other.state.ttft_seconds)}"
        cost = "" if other.usd_per_hour is None else f", {other.usd_per_hour:,.2f} USD/h"
        fails = (
            f": misses {', '.join(f'{name} by {100 * (ratio - 1):.0f} %' for name, ratio in misses)}" if misses else ""
        )
        found.append((words, speeds + cost + fails))
    return found


def _as_published(plan: Plan | None) -> list[str]:
    if plan is None:
        return ["As published, no plan meets the targets."]
    cost = "no price known" if plan.usd_per_hour is None else f"{plan.usd_per_hour:,.2f} USD/h"
    c = plan.candidate
    layout = layout_words(c.sharding)
    return [
        f"As published (weights {c.room.found.plan.fmt.name}, KV {c.room.found.fmt.name}) the best is {plan.devices} x {c.device.name} "
        f"({layout}{f', {plan.replicas} replicas' if plan.replicas > 1 else ''}): {cost}, TPOT {human_seconds(plan.state.tpot_seconds)}, "
        f"TTFT {human_seconds(plan.state.ttft_seconds)}"
    ]


def _none(answer: Answer) -> list[str]:
    if answer.nearest is not None and answer.nearest.reason.startswith("the longest request"):
        return ["  --longest N serves shorter requests alone"]
    return []


def _over(ratio: float) -> str:
    return "" if ratio > 1e2 else f", {100 * (ratio - 1):.0f} % over"


def _left_out(answer: Answer) -> list[str]:
    lines = [f"{answer.searched:,} candidates: {len(answer.plans):,} meet the targets" + _counts(answer.dropped)]
    return lines + [bad("  not answered: ") + line for line in answer.refused]


def _counts(dropped: Sequence[tuple[str, int]]) -> str:
    return "".join(f"; {count:,} {reason}" for reason, count in dropped)


def _assumed(answer: Answer, top: int) -> list[str]:
    shown = [plan.candidate for plan in answer.plans[:top]] or answer.candidates
    origins = dict.fromkeys(candidate.constants.origin for candidate in shown)
    chunks = sorted({candidate.chunk_tokens for candidate in answer.candidates})
    lines = [f"speeds: {origin}" for origin in origins]
    if chunks:
        lines.append(f"prompts in pieces of at most {chunks[0]:,} tokens beside the decoding sequences")
    if answer.question.extras is not None and answer.question.extras.drafter is not None:
        lines.append("the drafter's memory is counted")
    if answer.question.load.cached_tokens and answer.question.spec.has_states:
        lines.append(
            "recurrent states are cached at the end of the prefix: engines do so only where that is switched on"
        )
    if answer.question.load.cached_tokens:
        lines.append("a cached prefix spares its prefill; each decoding sequence still reads it for itself")
    lines.append("TTFT under load is approximate (M/G/1 and M/G/c waiting); of the best plan it was simulated, too")
    if answer.question.load.users is not None:
        lines.append("users do not start together: a benchmark that sends all requests at once sees a longer TTFT")
    return lines
