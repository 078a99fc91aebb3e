"""What `kvplan estimate` answers and how it looks; the options are in `flags`, the click command in `estimate`."""

from __future__ import annotations

from planner.commands.options.model import maybe_count, one_format, request_of, spec_of
from planner.commands.options.tables import engine_flags_given
from planner.errors import BadRequest, UsageError
from planner.lookup import capacity
from planner.memory.equations import equations, explanation
from planner.memory.estimate import Estimate, estimate
from planner.memory.estimate import sequence_kv_bytes as curve
from planner.model.spec import ModelSpec
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import bad, bar, bold, dim, good, table
from planner.units import exact_bytes, gib, human_bytes, human_count, human_tokens, parse_lengths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DOES_NOT_FIT = 3


MAX_LENGTHS = 1000


BATCHES = (1, 8, 32, 128)


def run(values: dict[str, Any]) -> None:
    """Answer, on the screen or into a file; SystemExit(3) where it does not fit."""
    one_format(values["as_json"], values["as_csv"])
    if values["explain"] and (values["as_json"] or values["as_csv"]):
        raise UsageError("--explain is for people; leave it out with --json and --csv")
    output = values["output"]
    if engine_flags_given(values):
        return _run_with_engine(values)
    answers = answers_of(values)
    emit(render(answers, values), output)
    if any(answer.fits is False for answer in answers):
        raise SystemExit(DOES_NOT_FIT)


def _run_with_engine(values: dict[str, Any]) -> None:
    """As `run`, with what the engine that `--engine` names makes of it; the engine's verdict counts."""
    from planner.answers.engine import engine_answer
    from planner.commands.options.engine import prepare
    from planner.commands.pages.engine import engine_lines
    from planner.engines.emit import command

    asked = prepare(values)
    assert asked is not None
    answers = answers_of(values)
    found = [engine_answer(asked, answer) for answer in answers]
    starts = [
        command(one, answer, asked[2]) if values["emit"] else None for one, answer in zip(found, answers, strict=True)
    ]
    if values["as_json"] or values["as_csv"]:
        blocks = [
            one.to_dict() | ({"command": start} if start else {}) for one, start in zip(found, starts, strict=True)
        ]
        rows = [answer.to_dict() | {"engine": block} for answer, block in zip(answers, blocks, strict=True)]
        text = to_csv(rows) if values["as_csv"] else to_json(rows[0] if len(rows) == 1 else rows)
    else:
        text = "\n".join([render(answers, values), "", *engine_lines(found[-1], starts[-1])])
    emit(text, values["output"])
    if any(one.fits is False for one in found):
        raise SystemExit(DOES_NOT_FIT)


def answers_of(values: dict[str, Any]) -> list[Estimate]:
    """An Estimate for each length that `--seq` names."""
    spec = spec_of(values)
    lengths = _lengths(spec, values["seq"])
    _spread(values)
    room = capacity(values["gpu"], values["memory"])
    return [estimate(spec, request_of(values, length), room) for length in lengths]


def _lengths(spec: ModelSpec, text: str | None) -> list[int]:
    if text is None:
        if spec.max_positions is None:
            raise BadRequest("--seq is wanted: the config of this model gives no length; write for example --seq 8k")
        return [spec.max_positions]
    lengths = parse_lengths(text)
    if len(lengths) > MAX_LENGTHS:
        raise BadRequest(f"--seq names {len(lengths):,} lengths; {MAX_LENGTHS:,} at most")
    return lengths


def _spread(values: dict[str, Any]) -> None:
    """--gpus N as --tp and --pp, unless those are given."""
    count = maybe_count(values.pop("gpus"), "--gpus")
    if count is None:
        return
    if any(values[name] for name in ("tp", "pp", "dp")):
        raise UsageError("--gpus N lays the model out by itself; leave out --tp, --pp and --dp")
    if count > 8 and count % 8:
        raise BadRequest(f"--gpus {count} is not a multiple of 8; lay it out with --tp and --pp")
    values["tp"], values["pp"] = str(min(count, 8)), str(max(1, count // 8))


def render(answers: list[Estimate], values: dict[str, Any]) -> str:
    if values["as_json"]:
        found = [answer.to_dict() for answer in answers]
        return to_json(found[0] if len(found) == 1 else found)
    if values["as_csv"]:
        return to_csv(answer.to_dict() for answer in answers)
    if len(answers) > 1:
        lines = [*_headline(answers[0]), "", _length_table(answers)]
        lines += _said(answers[-1])
    else:
        lines = _page(answers[0])
    if values["explain"]:
        lines += ["", *explanation(answers[-1])]
    return "\n".join(lines)


def _headline(answer: Estimate) -> list[str]:
    spec = answer.spec
    counted = f", {human_count(answer.parameters)} parameters" if spec.weights_known else ""
    if answer.active_parameters != answer.parameters and spec.weights_known:
        counted += f" ({human_count(answer.active_parameters)} active a token)"
    return [bold(f"{spec.name}") + f"  {spec.model_type}, {len(spec.layers)} layers{counted}"]


def _page(answer: Estimate) -> list[str]:
    request = answer.request
    sequences = "1 sequence" if request.batch == 1 else f"{request.batch:,} sequences"
    lines = _headline(answer)
    lines += ["", f"KV cache, {sequences} of {request.seq_tokens:,} tokens, {answer.fmt.name}"]
    lines += _cache_lines(answer)
    if answer.spec.weights_known:
        lines += ["", f"Weights, {answer.plan.fmt.name}"]
        about = "" if answer.plan.exactness == "exact" else f"  ({answer.plan.exactness})"
        lines.append(
            f"  {answer.parameters:,} parameters = {exact_bytes(answer.weight_bytes)} = {gib(answer.weight_bytes)}{about}"
        )
    if answer.capacity is not None:
        lines += ["", *_fit_lines(answer)]
    elif answer.request.sharding.devices > 1:
        lines += ["", *_device_lines(answer)]
    lines += ["", *_grid_lines(answer)]
    return lines + _said(answer)


def _cache_lines(answer: Estimate) -> list[str]:
    parts = equations(answer)
    total = answer.kv_bytes + answer.state_bytes
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
    if answer.state_bytes and answer.kv_bytes:
        lines.append(
            f"  of it {exact_bytes(answer.kv_bytes)} of K and V, {exact_bytes(answer.state_bytes)} of state that does not grow"
        )
    token = answer.kv_bytes_per_token
    lines.append(
        f"  the next token of a sequence adds {exact_bytes(token)}"
        + (f" ({human_bytes(token)})" if token >= 1024 else "")
    )
    return lines


def _device_rows(answer: Estimate) -> list[tuple[str, int]]:
    device = answer.per_device
    rows = [("weights", device.weight_bytes), ("KV cache", device.kv_bytes + device.state_bytes)]
    return [*rows, ("activations", device.activation.bytes), ("overhead", device.overhead_bytes)]


def _device_lines(answer: Estimate) -> list[str]:
    device = answer.per_device
    count = answer.request.sharding.devices
    title = "On the device" if count == 1 else f"On the fullest of {count:,} devices"
    if not answer.spec.weights_known:
        return [title, f"  KV cache  {gib(device.kv_bytes + device.state_bytes)}  {answer.exactness['kv_bytes']}"]
    rows = []
    for name, size in _device_rows(answer):
        note = "exact" if name in ("weights", "KV cache") else "estimated"
        if name == "weights":
            note = answer.exactness["weight_bytes"]
        elif name == "KV cache":
            note = answer.exactness["kv_bytes"]
        if name == "activations":
            note = f"estimated, {human_bytes(device.activation.low)} to {human_bytes(device.activation.high)}"
        if name == "overhead":
            note += ": " + ", ".join(f"{line.name} {human_bytes(line.bytes)}" for line in device.overhead)
        rows.append([f"  {name}", gib(size), f"  {note}"])
    rows.append(["  together", gib(device.total_bytes), ""])
    width = max(len(row[0]) for row in rows)
    right = max(len(row[1]) for row in rows)
    return [title, *(f"{name.ljust(width)}  {size.rjust(right)}{note}" for name, size, note in rows)]


def _fit_lines(answer: Estimate) -> list[str]:
    room, free = answer.capacity, answer.free_bytes
    assert room is not None and free is not None
    lines = _device_lines(answer)
    lines.append("  " + bar(_device_rows(answer), room.bytes))
    low, high = answer.per_device.total_range
    if free >= 0:
        tight = high > room.bytes
        lines.append(good(f"  fits in {room.name} ({gib(room.bytes)}): {gib(free)} free") + (
            f"; tight: with estimates at their highest it needs {gib(high)}" if tight else ""))  # fmt: skip
        return lines
    maybe = low <= room.bytes
    lines.append(bad(f"  does not fit in {room.name} ({gib(room.bytes)}): short by {gib(-free)}") + (
        f"; with estimates at their lowest it would need {gib(low)}" if maybe else ""))  # fmt: skip
    return lines + _advice_lines(answer)


def _advice_lines(answer: Estimate) -> list[str]:
    from planner.memory.advice import advise  # only where something does not fit

    changes = advise(answer)
    if not changes:
        return ["  nothing in the catalogue and no change of dtype, batch or length makes it fit"]
    rows = []
    for change in changes:
        verdict = "fits" if change.fits else "helps, not enough"
        sign = "adds" if change.flags.startswith("--gpu ") else "saves"
        rows.append([f"    {change.words}", f"{sign} {gib(change.gain_bytes)}", f" {change.flags}", f" {verdict}"])
    return ["  what would change that", table(["    change", "each device", " flags", " then"], rows).split("\n", 1)[1]]


def _grid_lines(answer: Estimate) -> list[str]:
    """KV of the whole model over a few lengths and batches, the asked ones among them."""
    request = answer.request
    ceiling = answer.spec.max_positions or request.seq_tokens
    lengths = sorted(
        {request.seq_tokens, *(n for n in (1024, 4096, 8192, 32768, 131072) if n <= max(ceiling, request.seq_tokens))}
    )
    batches = sorted({request.batch, *BATCHES})
    state = answer.state_bytes // request.batch
    rows = []
    for length in lengths[-6:]:
        one = curve(answer.spec, length, _source(answer, length), answer.fmt) + state
        rows.append([f"  {human_tokens(length)} tokens", *(human_bytes(batch * one) for batch in batches)])
    return [table(["  KV cache", *(f"batch {batch:,}" for batch in batches)], rows)]


def _source(answer: Estimate, length: int) -> int:
    """An encoder length that was given or fixed stays; one taken from the decoder's follows it."""
    follows = answer.request.source_tokens is None and answer.spec.source_tokens is None
    return length if follows and answer.spec.has_cross_attention else answer.source_tokens


def _length_table(answers: list[Estimate]) -> str:
    with_state = any(answer.state_bytes for answer in answers)
    fitted = answers[0].capacity is not None
    sharded = answers[0].request.sharding.devices > 1
    known = answers[0].spec.weights_known
    header = ["tokens", "KV cache", *(["state"] if with_state else []), "next token", *(["KV a device"] if sharded else []),
              *(["total a device"] if known else []), *(["free", "fits"] if fitted else [])]  # fmt: skip
    rows = []
    for answer in answers:
        row = [f"{answer.request.seq_tokens:,}", human_bytes(answer.kv_bytes)]
        if with_state:
            row.append(human_bytes(answer.state_bytes))
        row.append(human_bytes(answer.kv_bytes_per_token))
        if sharded:
            row.append(human_bytes(answer.per_device.kv_bytes))
        if known:
            row.append(gib(answer.per_device.total_bytes))
        if fitted:
            row += [gib(answer.free_bytes or 0), "yes" if answer.fits else "no"]
        rows.append(row)
    batch = answers[0].request.batch
    return f"{'1 sequence' if batch == 1 else f'{batch:,} sequences'}, KV in {answers[0].fmt.name}\n" + table(
        header, rows, left=0
    )


def _said(answer: Estimate) -> list[str]:
    lines = [dim(f"  assumed: {line}") for line in answer.assumptions]
    lines += [bad("  note: ") + line for line in answer.warnings]
    return ["", *lines] if lines else []
