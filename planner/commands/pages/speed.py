"""How `kvplan speed` looks on the screen."""

from __future__ import annotations

from planner.answers.speed import SpeedAnswer
from planner.commands.pages.assumed import assumed_lines
from planner.commands.pages.energy import energy_words
from planner.commands.pages.model_line import headline
from planner.speed.energy import energy_of
from planner.speed.speed import Figure, Speed
from planner.terminal.tables import bad, good, table
from planner.units import human_seconds, human_tokens, percent, significant

BAR_WIDTH = 48


FILLS = {"bandwidth": "#", "compute": "@", "layers": "=", "steps": "-", "sequences": "+", "all-reduce": "~", "prefill of others": ":", "experts": "%", "drafts": "d", "host": "h"}  # fmt: skip


def page(answers: list[SpeedAnswer], explain: bool = False, verbose: bool = False) -> list[str]:
    """Writes a table of all devices and batches, the shares of a step, and what was taken as given."""
    first = answers[0]
    one = first.speeds[0]
    stored = first.estimate.plan.fmt.name == "as stored"
    where = "" if len(answers) > 1 else f" on {_devices(first)}"
    engine = f", {first.engine}" if first.engine else ""
    formats = f", weights {'' if stored else 'in '}{first.estimate.plan.fmt.name}, KV in {first.kv_dtype}"
    cached = f" ({human_tokens(one.cached_tokens)} of them cached)" if one.cached_tokens else ""
    lengths = (
        f"; prompts of {human_tokens(one.prompt_tokens)} tokens{cached}, answers of {human_tokens(one.output_tokens)}"
    )
    head, more = headline(first.estimate.spec, [where, formats, engine, f", {one.load}", lengths], drop=(1, 3, 2))
    lines = [
        head,
        _verdict(answers),
        *more,
        "",
        _table(answers),
        "",
        *_bars(answers),
        "",
    ]
    for answer in answers:
        lines += _facts(answer, named=len(answers) > 1)
    if explain:
        lines += _explained(answers)
    return lines + _said(answers, verbose)


def _verdict(answers: list[SpeedAnswer]) -> str:
    """What one user of the first device sees, and each of the most that fit; or that memory admits none."""
    first = answers[0]
    if first.refused is not None:
        return bad(f"{first.refused.line()} The speeds below are as if it took them.")
    held = [found for found in first.speeds if first.fits(found.batch)]
    if not held:
        return bad(f"DOES NOT FIT {first.device.name}: memory admits none of these batches.")
    device = f"{first.device.name}: " if len(answers) > 1 else ""
    ends = [held[0], held[-1]] if held[0].batch == 1 < len(held) else held[-1:]
    return good(f"{device}{'; '.join(_users(found) for found in ends)}.")


def _users(found: Speed) -> str:
    first = f"first token after {human_seconds(found.ttft_seconds.value)}"
    each = f"{significant(1 / found.tpot_seconds.value)} tok/s"
    if found.batch == 1:
        return f"one user: {each}, {first}"
    together = significant(found.decode_tokens_per_s.value)
    return f"{found.batch:,} users: {each} each, {together} together, {first}"


def _explained(answers: list[SpeedAnswer]) -> list[str]:
    from planner.speed.terms import calibrated_explanation, explanation  # only where it is asked for

    lines = []
    for answer in answers:
        for found in answer.speeds:
            explained = (
                calibrated_explanation(found)
                if answer.calibrated
                else explanation(answer.estimate, answer.device, found)
            )
            lines += ["", *([answer.device.name] if len(answers) > 1 else []), *explained]
    return [*lines, ""]


def _devices(answer: SpeedAnswer) -> str:
    sharding = answer.estimate.request.sharding
    if sharding.devices == 1 or " + " in answer.device.name:
        return answer.device.name
    kinds = [f"{name.upper()} {getattr(sharding, name)}" for name in ("tp", "pp", "ep", "dp", "dcp")
             if getattr(sharding, name) > 1]  # fmt: skip
    return f"{sharding.devices:,} x {answer.device.name} ({', '.join(kinds)})"


def _table(answers: list[SpeedAnswer]) -> str:
    header = ["  batch", "TTFT", "range", "TPOT", "range", "bound", "reached", "request", "tok/s a user", "a device", "prefill tok/s", "binds"]  # fmt: skip
    rows = []
    for answer in answers:
        for found in answer.speeds:
            row = [f"  {found.batch:,}{'' if answer.fits(found.batch) or answer.refused else ' *'}", *_cells(found)]
            rows.append(([f"  {answer.device.name}"] if len(answers) > 1 else []) + row)
    several = len(answers) > 1
    return table((["  device"] if several else []) + header, rows, left=int(several))


def _cells(found: Speed) -> list[str]:
    tpot = found.tpot_seconds
    return [
        human_seconds(found.ttft_seconds.value),
        _range(found.ttft_seconds),
        human_seconds(tpot.value),
        _range(tpot),
        human_seconds(tpot.bound),
        percent(found.share_achieved, 1),
        human_seconds(found.request_seconds.value),
        significant(1 / tpot.value),
        significant(found.decode_tokens_per_s.value / found.devices),
        significant(found.prefill_tokens_per_s.value),
        found.binds,
    ]


def _range(figure: Figure) -> str:
    """The unit once where both ends have the same: 10.1-19.3 ms."""
    low, high = human_seconds(figure.low), human_seconds(figure.high)
    number, unit = low.rsplit(" ", 1)
    return f"{number}-{high}" if high.endswith(f" {unit}") else f"{low}-{high}"


def _bars(answers: list[SpeedAnswer]) -> list[str]:
    """Where the time between two tokens goes, a bar a row."""
    lines = ["Where the time between tokens goes"]
    used: dict[str, None] = {}
    width = max(len(f"{found.batch:,}") for answer in answers for found in answer.speeds)
    name_width = max(len(answer.device.name) for answer in answers) + 2 if len(answers) > 1 else 0
    for answer in answers:
        for found in answer.speeds:
            used |= dict.fromkeys(found.tpot_parts)
            name = answer.device.name.ljust(name_width) if name_width else ""
            shares = ", ".join(f"{part} {_percent(seconds / sum(found.tpot_parts.values()))}"
                               for part, seconds in found.tpot_parts.items())  # fmt: skip
            lines.append(f"  {name}{found.batch:>{width},}  [{share_bar(found.tpot_parts)}]  {shares}")
    return [*lines, "  " + "  ".join(f"{FILLS.get(part, '?')} {part}" for part in used)]


def _percent(share: float) -> str:
    return "<1 %" if share < 0.005 else percent(share, 1)


def share_bar(parts: dict[str, float], width: int = BAR_WIDTH) -> str:
    """Draws the parts of a whole as one bar.

    >>> share_bar({"bandwidth": 3.0, "layers": 1.0}, 8)
    '######=='
    """
    total, done, cells = sum(parts.values()), 0.0, ""
    for name, seconds in parts.items():
        done += seconds
        cells += FILLS.get(name, "?") * (round(width * done / total) - len(cells))
    return cells


def _facts(answer: SpeedAnswer, named: bool) -> list[str]:
    """What holds for all batches: the ridge, memory, and where the constants come from."""
    one = answer.speeds[0]
    tokens = one.prompt_tokens + one.output_tokens
    most, ridge = answer.largest_batch, answer.compute_bound_batch
    lead = f"  {answer.device.name}: " if named else "  "
    compute = (
        "decode is bound by memory at every batch: reading a sequence's cache takes longer than computing with it"
        if ridge is None
        else f"decode is bound by compute from batch {ridge:,} on"
    )
    hint = "; kvplan fit says what it would take" if most == 0 else ""
    admits = (
        "memory admits any number: nothing is kept"
        if most is None
        else f"memory admits {most:,} sequence{'' if most == 1 else 's'} of {human_tokens(tokens)} tokens{hint}"
    )
    beyond = [found.batch for found in answer.speeds if not answer.fits(found.batch)]
    waits = beyond and answer.refused is None
    lines = [f"{lead}{compute}", lead + bad(f"{admits}; * is more than that: the rest waits in line") if waits else f"{lead}{admits}"]  # fmt: skip
    if answer.refused is not None and most == 0:
        lines.pop()
    lines.append(f"{lead}constants: {one.constants_from}")
    if answer.left_out is not None:
        lines.append(f"{lead}checked: {answer.left_out.words()}")
    lines += [f"{lead}{note}" for note in answer.notes]
    best = max(answer.speeds, key=lambda found: found.decode_tokens_per_s.value)
    energy = energy_of(answer.device, best, answer.asked.grid_grams)
    if energy is not None:
        lines.append(f"{lead}energy at batch {best.batch:,}: {energy_words(energy)}")
    return lines


def _said(answers: list[SpeedAnswer], verbose: bool) -> list[str]:
    found = answers[0].estimate
    notes = [bad("  note: ") + line for line in found.warnings if line != found.beyond_note]
    return [*notes, *assumed_lines(found.assumptions, verbose)]
