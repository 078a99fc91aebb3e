"""How an estimate looks on the screen."""

from __future__ import annotations

from planner.commands.pages.assumed import assumed_lines
from planner.commands.pages.model_line import headline
from planner.memory.equations import equations, explanation
from planner.memory.estimate import Estimate
from planner.memory.estimate import sequence_kv_bytes as curve
from planner.terminal.tables import bad, bar, dim, good, table
from planner.units import exact_bytes, gib, human_bytes, human_count, human_tokens, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.answers.estimate import EstimateAnswer
    from planner.options.model import Output

BATCHES = (1, 8, 32, 128)


FITS = {True: "yes", False: "no", None: "not known"}


def page(answers: Sequence[EstimateAnswer], output: Output) -> list[str]:
    """Writes the question, the verdict, the equation and the ledger; of several lengths a table. What was assumed comes
    last.
    """
    last = answers[-1]
    if last.start_file is not None:
        return last.start_file.splitlines()  # alone, so that it can be written to a file
    first, more = _headline(answers)
    lines = [first, *_verdict(answers), *more]
    lines += ["", _length_table(answers)] if len(answers) > 1 else _body(answers[0])
    if last.engine is not None:
        from planner.commands.pages.engine import engine_lines  # only where an engine is named

        lines += ["", *engine_lines(last.engine, last.command, last.capacity)]
    if last.engine is None and len(answers) == 1:
        lines += ["", *_grid_lines(last)]
    if output.explain:
        lines += ["", *explanation(last)]
    return lines + _said(last, output.verbose)


def _kept_in(answer: EstimateAnswer) -> str:
    """The type of K and V."""
    if answer.engine is None:
        return answer.fmt.name
    from planner.answers.engine import kv_name  # only where an engine is named

    return kv_name(answer, answer.engine.name)


def _headline(answers: Sequence[EstimateAnswer]) -> tuple[str, list[str]]:
    """The model and the question in one line, and what it has no room for."""
    one = answers[0]
    spec, request = one.spec, one.request
    counted = f", {human_count(one.parameters)} parameters" if spec.weights_known else ""
    if one.active_parameters != one.parameters and spec.weights_known:
        counted += f" ({human_count(one.active_parameters)} active a token)"
    sequences = plural(request.batch, "sequence")
    length = "" if len(answers) > 1 else f" of {request.seq_tokens:,} tokens"
    return headline(spec, [counted, f"; {sequences}{length}", f", KV in {_kept_in(one)}"], drop=(0, 2))


def _verdict(answers: Sequence[EstimateAnswer]) -> list[str]:
    """The answer in one line: whether it fits or starts, else what it takes."""
    last = answers[-1]
    if len(answers) > 1 and last.verdict is not None:
        held = [answer for answer in answers if answer.verdict is not None and answer.verdict.ok]
        longest = f"up to {held[-1].request.seq_tokens:,} tokens" if held else "none of these lengths"
        if len(held) == len(answers):
            return [good(f"YES, every length: {last.verdict.text}.")]
        return [bad(f"NOT ALL: {longest}. {last.request.seq_tokens:,} tokens: {last.verdict.line()}")]
    if last.verdict is not None:
        return [(good if last.verdict.ok else bad)(last.verdict.line())]
    return [_taken(last), *([bad(f"  {last.too_long.line()}")] if last.too_long is not None else [])]


def _taken(last: EstimateAnswer) -> str:
    """What it takes, where no device says whether that is much."""
    cache = f"KV cache {human_bytes(last.kv_bytes + last.state_bytes)}"
    if last.engine is not None:
        from planner.answers.verdict import NAMES  # only where an engine is named

        name, where = NAMES.get(last.engine.name, last.engine.name), last.engine.placed
        if where is not None and last.engine.ranged is not None:
            cards = sum(card.bytes for card in where.cards)
            host = f", and {gib(where.host_bytes)} on the host" if where.host_bytes >= 1 << 27 else ""
            pool = human_bytes(last.engine.ranged.pool.bytes)
            return f"{name} allocates {pool} of cache; about {gib(cards)} with weights and buffers{host}."
        cache = f"A request takes {human_bytes(last.engine.request_bytes)} of cache in {name}"
    if not last.spec.weights_known:
        return f"{cache}; weights are not known."
    each = "a device" if last.request.sharding.devices > 1 else "in all"
    return f"{cache}; about {gib(last.per_device.total_bytes)} {each} with weights, activations and overhead."


def _body(answer: EstimateAnswer) -> list[str]:
    estimate: Estimate = answer
    request = estimate.request
    lines = ["", f"KV cache, {plural(request.batch, 'sequence')} of {request.seq_tokens:,} tokens, {_kept_in(answer)}"]
    lines += _cache_lines(estimate)
    if estimate.spec.weights_known:
        lines += ["", f"Weights, {estimate.plan.fmt.name}"]
        about = "" if estimate.plan.exactness == "exact" else f"  ({estimate.plan.exactness}{_span(estimate)})"
        lines.append(
            f"  {estimate.parameters:,} parameters = {exact_bytes(estimate.weight_bytes)} = {gib(estimate.weight_bytes)}{about}"
        )
    if estimate.per_device.extras:
        lines += ["", "Beside the model"]
        lines += [f"  {line.name}  {human_bytes(line.bytes)}  ({line.source})" for line in estimate.per_device.extras]
    if answer.engine is not None:
        return lines
    if estimate.capacity is not None:
        lines += ["", *_fit_lines(estimate)]
    elif estimate.request.sharding.devices > 1:
        lines += ["", *_device_lines(estimate)]
    return lines


def _span(estimate: Estimate) -> str:
    """From what to what weights may take that a file's name leaves open."""
    low, high = estimate.weight_range
    return f", {gib(low)} to {gib(high)}" if low < high else ""


def _cache_lines(estimate: Estimate) -> list[str]:
    parts = equations(estimate)
    total = estimate.kv_bytes + estimate.state_bytes
    lines = []
    for part in parts:
        size = f" = {exact_bytes(part.bytes)} = {human_bytes(part.bytes)}"
        lines.append(
            f"  {part.text}{size}" + (dim(f"   {part.kind}") if len(parts) > 1 or part.kind != "full attention" else "")
        )
    if not parts:
        lines.append("  nothing is kept: 0 B")
    if len(parts) > 1:
        lines.append(f"  together {exact_bytes(total)} = {human_bytes(total)}")
    if estimate.state_bytes and estimate.kv_bytes:
        lines.append(
            f"  of it {exact_bytes(estimate.kv_bytes)} of K and V, {exact_bytes(estimate.state_bytes)} of state that does not grow"
        )
    lines.append(_next_token_line(estimate))
    return lines


def _next_token_line(estimate: Estimate) -> str:
    token, cycle = estimate.kv_bytes_per_token, estimate.token_cycle
    start = (
        f"each of the next {cycle:,} tokens of a sequence adds on average"
        if cycle > 1
        else "the next token of a sequence adds"
    )
    return f"  {start} {exact_bytes(token)}" + (f" ({human_bytes(token)})" if token >= 1024 else "")


def _device_rows(estimate: Estimate) -> list[tuple[str, int]]:
    device = estimate.per_device
    rows = [("weights", device.weight_bytes), ("KV cache", device.kv_bytes + device.state_bytes)]
    rows += [("beside the model", device.extra_bytes)] if device.extras else []
    return [*rows, ("activations", device.activation.bytes), ("overhead", device.overhead_bytes)]


def _device_lines(estimate: Estimate) -> list[str]:
    device = estimate.per_device
    count = estimate.request.sharding.devices
    title = "On the device" if count == 1 else f"On the fullest of {count:,} devices"
    if not estimate.spec.weights_known:
        return [title, f"  KV cache  {gib(device.kv_bytes + device.state_bytes)}  {estimate.exactness['kv_bytes']}"]
    rows = []
    for name, size in _device_rows(estimate):
        note = "exact" if name in ("weights", "KV cache") else "estimated"
        if name == "weights":
            note = estimate.exactness["weight_bytes"]
        elif name == "KV cache":
            note = estimate.exactness["kv_bytes"]
        if name == "activations":
            note = f"estimated, {human_bytes(device.activation.low)} to {human_bytes(device.activation.high)}"
        if name == "overhead":
            note += ": " + ", ".join(f"{line.name} {human_bytes(line.bytes)}" for line in device.overhead)
        rows.append([f"  {name}", gib(size), f"  {note}"])
    rows.append(["  together", gib(device.total_bytes), ""])
    width = max(len(row[0]) for row in rows)
    right = max(len(row[1]) for row in rows)
    return [title, *(f"{name.ljust(width)}  {size.rjust(right)}{note}" for name, size, note in rows)]


def _fit_lines(estimate: Estimate) -> list[str]:
    room, free = estimate.capacity, estimate.free_bytes
    assert room is not None and free is not None
    lines = _device_lines(estimate)
    lines.append("  " + bar(_device_rows(estimate), room.bytes))
    return lines if free >= 0 or estimate.fits is None else lines + _advice_lines(estimate)


def _advice_lines(estimate: Estimate) -> list[str]:
    from planner.memory.advice import advise  # only where something does not fit

    changes = advise(estimate)
    if not changes:
        return ["  nothing in the catalogue and no change of dtype, batch or length makes it fit"]
    rows = []
    for change in changes:
        verdict = "fits" if change.fits else "helps, not enough"
        sign = "adds" if change.flags.startswith("--gpu ") else "saves"
        rows.append([f"    {change.words}", f"{sign} {gib(change.gain_bytes)}", f" {change.flags}", f" {verdict}"])
    return ["  what would change that", table(["    change", "each device", " flags", " then"], rows).split("\n", 1)[1]]


def _grid_lines(estimate: Estimate) -> list[str]:
    """KV of the whole model over a few lengths and batches, the asked ones among them."""
    request = estimate.request
    ceiling = estimate.spec.max_positions or request.seq_tokens
    lengths = sorted(
        {request.seq_tokens, *(n for n in (1024, 4096, 8192, 32768, 131072) if n <= max(ceiling, request.seq_tokens))}
    )
    batches = sorted({request.batch, *BATCHES})
    state = estimate.state_bytes // request.batch
    rows = []
    for length in lengths[-6:]:
        one = curve(estimate.spec, length, _source(estimate, length), fmt=estimate.fmt) + state
        rows.append([f"  {human_tokens(length)} tokens", *(human_bytes(batch * one) for batch in batches)])
    return [table(["  KV cache", *(f"batch {batch:,}" for batch in batches)], rows)]


def _source(estimate: Estimate, length: int) -> int:
    """An encoder length that was given or fixed stays; one taken from the decoder's follows it."""
    follows = estimate.request.source_tokens is None and estimate.spec.source_tokens is None
    return length if follows and estimate.spec.has_cross_attention else estimate.source_tokens


def _length_table(estimates: Sequence[EstimateAnswer]) -> str:
    with_state = any(estimate.state_bytes for estimate in estimates)
    fitted = estimates[0].capacity is not None
    sharded = estimates[0].request.sharding.devices > 1
    known = estimates[0].spec.weights_known
    header = ["tokens", "KV cache", *(["state"] if with_state else []), "next token", *(["KV a device"] if sharded else []),
              *(["total a device"] if known else []), *(["free", "fits"] if fitted else [])]  # fmt: skip
    rows = []
    for estimate in estimates:
        row = [f"{estimate.request.seq_tokens:,}", human_bytes(estimate.kv_bytes)]
        if with_state:
            row.append(human_bytes(estimate.state_bytes))
        row.append(human_bytes(estimate.kv_bytes_per_token))
        if sharded:
            row.append(human_bytes(estimate.per_device.kv_bytes))
        if known:
            row.append(gib(estimate.per_device.total_bytes))
        if fitted:
            row += [gib(estimate.free_bytes or 0), FITS[estimate.held]]
        rows.append(row)
    return table(header, rows, left=0)


def _said(answer: EstimateAnswer, verbose: bool) -> list[str]:
    """Notes, then what was assumed: kvplan's own and the engine's."""
    engine = answer.engine
    own = [line for line in answer.assumptions if engine is None or engine.placed is None or not line.startswith("PP ")]
    assumed = [*own, *(engine.assumptions if engine is not None else ())]  # llama.cpp lays layers out by its own rule
    lines = [bad("  note: ") + line for line in answer.warnings if line != answer.beyond_note]
    lines += assumed_lines(assumed, verbose)
    return ["", *lines] if lines else []
