"""`kvplan fit`: the inverse questions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from planner.answers.fit import fit_answer
from planner.commands.options import extras as resident_values
from planner.commands.options import tables as flags
from planner.commands.options.click_options import with_flags
from planner.commands.options.model import maybe_count, one_format, request_of, spec_of
from planner.errors import BadRequest, UsageError
from planner.lookup import capacity, device
from planner.memory.estimate import estimate
from planner.memory.request import Capacity, Request
from planner.model.spec import ModelSpec
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import bad, bold, dim, good, table
from planner.units import gib, human_bytes, human_tokens, parse_tokens
from planner.workloads.lengths import parse_mix

DOES_NOT_FIT = 3


FLAGS: tuple[flags.Flag, ...] = (
    *flags.MODEL,
    ("--seq", "N", "Tokens of a sequence (default: the model's own limit, at most 8k)."),
    ("--batch", "N", "Sequences at once, for the longest context (default: 1)."),
    ("--lengths", "MIX", "Real lengths: p50=800,p95=6000, or a CSV / JSONL file of requests."),
    *flags.DTYPE,
    *flags.DEVICE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    *flags.RESIDENTS,
    *flags.ENGINE,
    ("--ngl", "N", "A GGUF file: N layers on the card, as llama.cpp's --n-gpu-layers (default: the most that fit)."),
    *flags.OUTPUT,
)


@click.command(
    name="fit", epilog="\b\nExample: kvplan fit llama-3.1-8b --gpu rtx-4090 --seq 8k --lengths p50=800,p95=6000"
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """What fits: most sequences at a length, longest context at a batch, fewest devices, which devices.

    Exit code 3 when not even one sequence fits.
    """
    one_format(values["as_json"], values["as_csv"])
    asked = None
    if flags.engine_flags_given(values):
        from planner.commands.options.engine import prepare

        asked = prepare(values)
    online = values["online"]
    spec = spec_of(values)
    room = capacity(values["gpu"], values["memory"])
    if room is None:
        raise UsageError("a device is wanted: --gpu NAME (kvplan gpus lists them) or --memory 24GiB")
    seq = parse_tokens(values["seq"], "--seq") if values["seq"] is not None else min(spec.max_positions or 8192, 8192)
    request = request_of(values, seq)
    mix = None if values["lengths"] is None else parse_mix(values["lengths"])
    tiers, card = None, None
    if resident_values.residents_given(values):
        engine = None if asked is None else asked[0]
        request = replace(request, residents=resident_values.residents_of(values, spec, engine=engine, online=online))
        card = None if values["gpu"] is None else device(values["gpu"])
        tiers = resident_values.tiers_of(values, card)
    answer = fit_answer(spec, request, room, mix, tiers, card)
    lines: list[str] = []
    if asked is not None:
        answer["engine"], lines = _engine(spec, request, room, asked, values["emit"])
    for_people = not (values["as_json"] or values["as_csv"])
    if values["ngl"] is not None:
        answer["offload"] = _offload(spec, request, room, values["ngl"])
    emit("\n".join([_render(answer, values), *(lines if for_people else [])]), values["output"])
    if not (answer["engine"]["most_requests"] if asked is not None else answer["most_sequences"]):
        raise SystemExit(DOES_NOT_FIT)


def _engine(
    spec: ModelSpec, request: Request, room: Capacity, asked: Any, emitted: bool
) -> tuple[dict[str, Any], list[str]]:
    """The same questions in an engine's terms: (its block of the JSON, its lines for people)."""
    from planner.answers.engine import engine_answer, longest_request
    from planner.commands.pages.engine import engine_lines
    from planner.engines.emit import command as start_command

    found = estimate(spec, request, room)
    answer = engine_answer(asked, found)
    start = start_command(answer, found, asked[2]) if emitted else None
    longest = longest_request(asked, found)
    block = answer.to_dict() | {"longest_context_tokens": longest} | ({"command": start} if start else {})
    return block, [
        "",
        *engine_lines(answer, start),
        f"  longest context at batch {request.batch:,}: {longest:,} tokens",
    ]


def _offload(spec: ModelSpec, request: Request, room: Capacity, text: str) -> dict[str, Any]:
    """So many layers on the card, whether they fit or not; 0 keeps all of them on the host."""
    from planner.memory.offload import offload  # only of GGUF files

    layers = 0 if text.strip() == "0" else maybe_count(text, "--ngl") or 0
    if spec.stored is None or not spec.model_type.startswith("gguf ") or request.sharding.devices > 1:
        raise BadRequest("--ngl is for a .gguf file on one card; give the file itself, and no --tp or --pp")
    if layers > len(spec.layers) + 1:
        raise BadRequest(
            f"--ngl {layers}: {spec.name} has {len(spec.layers)} layers and a head; write 0 to {len(spec.layers) + 1}"
        )
    return offload(estimate(spec, request, room), layers).to_dict()


def _offload_lines(found: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """llama.cpp's layers on the card; weights and caches exact, the rest of the card estimated."""
    where = f"batch {answer['batch']:,} of {human_tokens(answer['seq_tokens'])} tokens"
    head = " and the head" if found["head_on_device"] else ""
    return [
        f"llama.cpp at {where}: --n-gpu-layers {found['ngl']}, {found['layers_on_device']} of {found['layers']} layers{head} on the card",
        f"  card  {gib(found['device_bytes'])}: weights {gib(found['device_weight_bytes'])}, cache "
        f"{gib(found['device_cache_bytes'])}, {gib(found['device_other_bytes'])} estimated for the rest",
        f"  host  weights {gib(found['host_weight_bytes'])}, cache {gib(found['host_cache_bytes'])}",
    ]


def _render(answer: dict[str, Any], values: dict[str, Any]) -> str:
    if values["as_json"]:
        return to_json(answer)
    if values["as_csv"]:
        if "residents" in answer:
            from planner.commands.pages.extras import resident_row

            answer = {**answer, "residents": resident_row(answer["residents"])}
        return to_csv([{**answer, "devices_that_hold_it": [row["device"] for row in answer["devices_that_hold_it"]],
                        "by_length": [f"{row['seq_tokens']}:{row['most_sequences']}" for row in answer["by_length"]]}])  # fmt: skip
    return "\n".join(_page(answer))


def _page(answer: dict[str, Any]) -> list[str]:
    lines = [
        bold(answer["model"]) + f" on {answer['device']} ({gib(answer['capacity_bytes'])}), KV in {answer['kv_dtype']}",
        "",
    ]
    most = answer["most_sequences"]
    count = "no bound: nothing is kept" if most is None else f"{most:,}"
    seq = human_tokens(answer["seq_tokens"])
    rows = [
        ["  left for cache", gib(answer["pool_bytes"])],
        [f"  one sequence of {seq} tokens", human_bytes(answer["sequence_bytes"])],
        [f"  most sequences of {seq} tokens", (good if most or most is None else bad)(count)],
        [f"  longest context at batch {answer['batch']:,}", _longest(answer)],
        ["  fewest devices", _devices(answer)],
    ]
    width = max(len(row[0]) for row in rows)
    lines += [f"{name.ljust(width)}  {value}" for name, value in rows]
    if not most and most is not None:
        lines.append(bad(f"  does not fit: short by {gib(max(0, answer['sequence_bytes'] - answer['pool_bytes']))}"))
    by_length = [[f"  {human_tokens(row['seq_tokens'])} tokens", "no bound" if row["most_sequences"] is None else f"{row['most_sequences']:,}"]
                 for row in answer["by_length"]]  # fmt: skip
    lines += ["", table(["  length", "most sequences"], by_length)]
    if "length_mix" in answer:
        lines += ["", *_mix_lines(answer["length_mix"])]
    if "residents" in answer:
        from planner.commands.pages.extras import resident_lines

        lines += ["", *resident_lines(answer["residents"], answer["seq_tokens"])]
    if "offload" in answer:
        lines += ["", *_offload_lines(answer["offload"], answer)]
    lines += ["", _holder_line(answer)]
    lines += [dim(f"  assumed: {line}") for line in answer["assumptions"]]
    return lines + [bad("  note: ") + line for line in answer["warnings"]]


def _longest(answer: dict[str, Any]) -> str:
    longest, limit = answer["longest_context_tokens"], answer["longest_context_limit_tokens"]
    if not longest:
        return bad("none")
    return f"{longest:,} tokens" + (" (the model's own limit)" if longest == limit else "")


def _devices(answer: dict[str, Any]) -> str:
    fewest, servers = answer["fewest_devices"], answer["fewest_devices_tensor_parallel"]
    if fewest is None:
        return bad("no number of them holds it")
    words = _layout_words(fewest)
    if servers and servers != fewest:
        words += f"; as servers are started, {_layout_words(servers)}"
    return words


def _layout_words(layout: dict[str, int]) -> str:
    if layout["devices"] == 1:
        return "1"
    stages = f" x PP {layout['pp']}" if layout["pp"] > 1 else ""
    return f"{layout['devices']:,} (TP {layout['tp']}{stages})"


def _mix_lines(mix: dict[str, Any]) -> list[str]:
    return [
        f"Real lengths: {mix['source']}",
        f"  mean {mix['mean_tokens']:,}, p50 {mix['p50_tokens']:,}, p95 {mix['p95_tokens']:,}, longest {mix['longest_tokens']:,} tokens",
        f"  {mix['safe_sequences']:,} at once in 99 of 100 moments; {mix['average_sequences']:,} on average; "
        f"{mix['sequences_at_longest']:,} if every one were the longest",
        dim("  estimated: every request at its full length, lengths independent"),
    ]


def _holder_line(answer: dict[str, Any]) -> str:
    holders = answer["devices_that_hold_it"]
    asked = f"batch {answer['batch']:,} of {human_tokens(answer['seq_tokens'])} tokens"
    if not holders:
        return f"Catalogue devices that hold {asked} in this layout: none"
    names = ", ".join(f"{row['device']}" for row in holders[:8])
    more = f" and {len(holders) - 8} more" if len(holders) > 8 else ""
    return f"Catalogue devices that hold {asked} in this layout, smallest first: {names}{more}"
