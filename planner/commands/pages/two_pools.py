"""The part of `kvplan plan --disaggregate` on two pools: whether they pay, a row a device, the best in full."""

from __future__ import annotations

from collections.abc import Sequence

from planner.commands.pages.energy import energy_words
from planner.deployment.candidate import layout_words
from planner.deployment.plan import Plan
from planner.deployment.two_pools import Beside, Pools, start_commands
from planner.terminal.tables import bad, dim, good, table
from planner.units import human_bytes, human_seconds, percent, plural, significant

LABEL = 26


def pools_verdict(found: Sequence[Beside], best: Plan | None) -> str:
    """Says in a line or two whether two pools pay on the device where they cost least; `best` is the best plan of all."""
    one = found[0]
    if one.pools is None:
        return bad(f"TWO POOLS, {one.device.name}: {one.why_not}.")
    pools = one.pools
    said = f"{pools.words} of {pools.layout}: {_cards(pools.devices, pools.usd_per_hour)} of {one.device.name}"
    if one.plan is None:
        return good(f"TWO POOLS PAY: {said}; no number of these cards that do both meets the targets.")
    chunked = f"against {_cards(one.plan.devices, one.plan.usd_per_hour)} that do both"
    if not one.pays:
        return bad(f"TWO POOLS DO NOT PAY: {said}, {chunked}.")
    cheaper = best is not None and (best.usd_per_hour or 0.0) < (pools.usd_per_hour or 0.0)
    return good(f"TWO POOLS PAY: {said}, {chunked}" + ("; the best plan above costs less." if cheaper else "."))


def _cards(devices: int, usd_per_hour: float | None) -> str:
    return plural(devices, "card") + ("" if usd_per_hour is None else f", {usd_per_hour:,.2f} USD/h")


def two_pools_lines(found: Sequence[Beside]) -> list[str]:
    """Writes a row a device, and the pools of the first in full."""
    header = ["two pools", "device", "layout", "weights", "KV", "cards", "TPOT", "TTFT", "doing both", "pays"]
    rows = [_row(one) for one in found if one.pools is not None]
    lines = [table(header, rows, left=5)] if rows else []
    if any(one.pools is not None and one.pools.tight for one in found):
        lines.append(dim("  ~ met by the expectation, missed at the slow end of its range"))
    lines += [dim(f"  {one.device.name}: {one.why_not}") for one in found if one.pools is None]
    if found[0].pools is not None:
        lines += ["", *_details(found[0].pools)]
    return lines


def _row(one: Beside) -> list[str]:
    pools = one.pools
    assert pools is not None
    found = pools.decode.room.found
    return [
        pools.words + ("~" if pools.tight else ""),
        one.device.name,
        pools.layout,
        found.plan.fmt.name + ("*" if pools.decode.formats.dtype is not None else ""),
        found.fmt.name + ("*" if pools.decode.formats.kv_dtype is not None else ""),
        f"{pools.devices:,}",
        human_seconds(pools.state.tpot_seconds),
        human_seconds(pools.state.ttft_seconds),
        "-" if one.plan is None else plural(one.plan.devices, "card"),
        "yes" if one.pays else "no",
    ]


def _line(label: str, text: str) -> str:
    return f"  {label.ljust(LABEL)}{text}"


def _range(low: float, high: float | None) -> str:
    return f"{human_seconds(low)} to {'overload' if high is None else human_seconds(high)}"


def _details(pools: Pools) -> list[str]:
    """The arithmetic of both pools and of the link."""
    state, share = pools.state, f"{100 * pools.decode.question.targets.ttft_share:g} %"
    first, second = start_commands(pools)
    reads, decodes = (layout_words(one.sharding) for one in (pools.prefill, pools.decode))
    lanes = pools.prefill_replicas * pools.prefill.sharding.dp, pools.decode_replicas * pools.decode.sharding.dp
    long = state.link_wait_seconds > state.transfer_seconds / 100
    waits = f" and wait {human_seconds(state.link_wait_seconds)}" if long else ""
    lines = [
        f"Two pools: {pools.words}, {pools.prefill_devices} + {pools.decode_devices} x {pools.device.name}",
        _line("prefill pool", f"{pools.prefill_replicas} of {reads}: a mean prompt takes {human_seconds(state.prefill_seconds)} and waits "
                              f"{human_seconds(state.prefill_wait_seconds)}; {percent(state.prefill_utilisation, 1)} full"),
        _line("decode pool", f"{pools.decode_replicas} of {decodes}: {state.decode.decoding:,.1f} decode a rank of "
                             f"{pools.decode.room.admitted:,} at once; {percent(state.decode.utilisation, 1)} full"),
        _line("link", f"{pools.link.words}, {_rate(pools)}: {human_bytes(pools.prompt_bytes)} of a mean prompt's cache take "
                      f"{human_seconds(state.transfer_seconds)}{waits}; "
                      f"{percent(state.link_utilisation, 1)} of {min(lanes)} at a time"),
        _line("TPOT", f"{human_seconds(state.tpot_seconds)} ({_range(*pools.tpot_range)})"),
        _line("TTFT", f"{human_seconds(state.ttft_seconds)} for {share} ({_range(*pools.ttft_range)}), "
                      f"{human_seconds(state.ttft_mean_seconds)} on average, transfer and the step that it joins in it "
                      f"({human_seconds(state.join_seconds)})"),
        _line("load", f"{significant(state.rate_per_s)} requests/s"),
    ]  # fmt: skip
    if pools.energy is not None:
        lines.append(_line("energy", energy_words(pools.energy)))
    if pools.check is not None:
        check = pools.check
        lines.append(_line("simulated", f"TPOT {human_seconds(check.tpot_seconds)}, TTFT {human_seconds(check.ttft_seconds)}: "
                                        f"{check.requests:,} requests played one by one"))  # fmt: skip
    lines += [
        _line(f"start each {name}", command) for name, command in (("prefill", first), ("decode", second)) if command
    ]
    return lines


def _rate(pools: Pools) -> str:
    link = pools.link
    share = "" if link.reached == 1 else f", {percent(link.reached, 1)} of it reached"
    return f"{link.bytes_per_s / 1e9:,.4g} GB/s{share}"
