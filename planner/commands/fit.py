"""`kvplan fit`: the inverse questions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import click

from planner.catalogue import devices
from planner.commands import flags, resident_values
from planner.commands.options import with_flags
from planner.commands.output import emit, to_csv, to_json
from planner.commands.values import maybe_count, one_format, request_of, spec_of
from planner.device import Device
from planner.errors import BadRequest, UsageError
from planner.kv_tiers import Tiers
from planner.lengths import Concurrency, LengthMix, concurrency, parse_mix
from planner.limits import fewest_devices, longest_context, most_sequences, pool_bytes, tensor_parallel_devices
from planner.memory import SCHEMA_VERSION, Capacity, Estimate, Request, caches_on_rank, estimate, rank_kv_bytes
from planner.resolve import capacity, device, device_capacity
from planner.sharding import stages
from planner.spec import ModelSpec
from planner.text import bad, bold, dim, good, table
from planner.units import MAX_COUNT, gib, human_bytes, human_tokens, parse_tokens

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
TABLE_LENGTHS = (1024, 4096, 8192, 32768, 131072)


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
        from planner.commands.engine_values import prepare

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
    from planner.commands.engine_text import engine_lines
    from planner.commands.engine_values import engine_answer, longest_request
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


def fit_answer(
    spec: ModelSpec,
    request: Request,
    room: Capacity,
    mix: LengthMix | None = None,
    tiers: Tiers | None = None,
    card: Device | None = None,
) -> dict[str, Any]:
    """The inverse questions of one model on one device, in base units; what the request carries beside it counts."""
    fewest = fewest_devices(spec, request, room)
    servers = tensor_parallel_devices(spec, request, room)
    holders = _holders(spec, request)
    if request.residents is not None:
        from planner.residents import split_pool

        request = split_pool(spec, request, room)
    one = estimate(spec, replace(request, batch=1), room)
    answer: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": spec.name,
        "device": room.name,
        "capacity_bytes": room.bytes,
        "seq_tokens": request.seq_tokens,
        "batch": request.batch,
        "kv_dtype": one.fmt.name,
        "weight_bytes": one.weight_bytes if spec.weights_known else None,
        "pool_bytes": pool_bytes(one),
        "sequence_bytes": one.per_device.sequence_bytes,
        "most_sequences": _bounded(most_sequences(spec, request, room)),
        "longest_context_tokens": longest_context(spec, request, room),
        "longest_context_limit_tokens": spec.max_positions,
        "fewest_devices": None if fewest is None else _layout(fewest.sharding.tp, fewest.sharding.pp, fewest.devices),
        "fewest_devices_tensor_parallel": None
        if servers is None
        else _layout(servers.sharding.tp, servers.sharding.pp, servers.devices),
        "by_length": [
            {"seq_tokens": n, "most_sequences": _bounded(most_sequences(spec, replace(request, seq_tokens=n), room))}
            for n in _lengths(spec, request)
        ],
        "devices_that_hold_it": holders,
        "warnings": list(one.warnings),
        "assumptions": list(one.assumptions),
        "exactness": one.exactness,
    }
    if mix is not None:
        answer["length_mix"] = _mix_answer(spec, request, room, mix)
    if request.residents is not None or tiers is not None:
        from planner.commands.resident_text import resident_block

        answer["residents"] = resident_block(one, tiers, card)
    if spec.stored is not None and spec.model_type.startswith("gguf ") and request.sharding.devices == 1:
        from planner.offload import most_layers  # only of GGUF files

        answer["offload"] = most_layers(estimate(spec, request, room), room.bytes).to_dict()
    return answer


def _offload(spec: ModelSpec, request: Request, room: Capacity, text: str) -> dict[str, Any]:
    """So many layers on the card, whether they fit or not; 0 keeps all of them on the host."""
    from planner.offload import offload  # only of GGUF files

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


def _bounded(count: int) -> int | None:
    """None where nothing bounds the count (a cache of zero bytes)."""
    return None if count >= MAX_COUNT else count


def _layout(tp: int, pp: int, count: int) -> dict[str, int]:
    return {"devices": count, "tp": tp, "pp": pp}


def _lengths(spec: ModelSpec, request: Request) -> list[int]:
    ceiling = max(spec.max_positions or request.seq_tokens, request.seq_tokens)
    return sorted({request.seq_tokens, *(n for n in TABLE_LENGTHS if n <= ceiling)})


def _holders(spec: ModelSpec, request: Request) -> list[dict[str, Any]]:
    """Catalogue devices that hold the request in its layout, the smallest first."""
    holders = []
    for held in devices():
        answer = estimate(spec, request, device_capacity(held))
        if answer.fits:
            free = answer.free_bytes
            holders.append({"device": held.name, "capacity_bytes": held.memory_bytes, "free_bytes": free})
    return sorted(holders, key=lambda row: (row["capacity_bytes"], row["device"]))


def _mix_answer(spec: ModelSpec, request: Request, room: Capacity, mix: LengthMix) -> dict[str, Any]:
    """Requests of the mix held at once on the whole layout, by the average and safely."""
    if spec.max_positions:
        mix = mix.clipped(spec.max_positions)
    # Stage, activations and overhead as at the longest request: the pool is what is left beside them.
    longest = estimate(spec, replace(request, seq_tokens=mix.longest, batch=1), room)
    seen = request_bytes(longest, mix.counts)
    held: Concurrency = concurrency(mix, pool_bytes(longest), seen)
    replicas = request.sharding.dp
    return {
        "source": mix.words,
        "mean_tokens": round(mix.mean),
        "p50_tokens": mix.percentile(0.5),
        "p95_tokens": mix.percentile(0.95),
        "longest_tokens": mix.longest,
        "mean_request_bytes": held.mean_request_bytes,
        "average_sequences": held.average * replicas,
        "safe_sequences": held.safe * replicas,
        "sequences_at_longest": held.at_longest * replicas,
    }


def request_bytes(longest: Estimate, lengths: Iterable[int]) -> dict[int, int]:
    """Cache of one request of each length on the device that is fullest at `longest`: a file may hold 10^5 lengths."""
    sharding, stage = longest.request.sharding, longest.per_device
    caches = caches_on_rank(stages(longest.spec, sharding.pp)[stage.stage], sharding)
    follows = longest.request.source_tokens is None and longest.spec.source_tokens is None
    source = longest.source_tokens
    residents = longest.request.residents

    def beside(length: int) -> int:
        return 0 if residents is None else residents.sequence_bytes(longest, stage.stage, caches, length)

    return {
        length: stage.state_bytes
        + rank_kv_bytes(caches, sharding, length, length if follows else source, longest.fmt)
        + beside(length)
        for length in lengths
    }


def _render(answer: dict[str, Any], values: dict[str, Any]) -> str:
    if values["as_json"]:
        return to_json(answer)
    if values["as_csv"]:
        if "residents" in answer:
            from planner.commands.resident_text import resident_row

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
        from planner.commands.resident_text import resident_lines

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
