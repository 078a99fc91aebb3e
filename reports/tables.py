"""The numbers behind each figure and table: estimates as data frames whose columns carry their units.

One frame a question; bytes, tokens and seconds stay in base units. `role` says what a row of a figure's frame is:
a point of a line, a device's limit, a crossing of the two.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from planner.errors import KvplanError
from planner.memory.advice import advise
from planner.memory.equations import equations
from planner.memory.estimate import Estimate, cache_format, estimate
from planner.memory.limits import fewest_devices, largest, longest_context, most_sequences
from planner.model.attention import Attention
from planner.model.cache import Full
from planner.model.latent_attention import Latent
from planner.model.recurrent import Recurrent
from planner.model.spec import ModelSpec
from planner.model.windows import Chunked, SlidingWindow
from planner.speed.work import compute_bound_batch, decode_step, peak_flops_per_s
from planner.units import MAX_COUNT
from reports.headline import beyond_positions
from reports.question import MOST_TOKENS, Place, Question, geometric

KV_SERIES = (None, "fp8", "int4")  # lines for a single model
SAVINGS = ("fp32", "bf16", "fp8", "int8", "q8_0", "int4", "q4_0", "nvfp4", "kivi4_g32", "kivi2_g32", "fp8_ds_mla")


def verdicts(q: Question) -> pd.DataFrame:
    """Returns a row a model and device: does it fit, how many, how long, what binds first, what would change it."""
    return pd.DataFrame([_verdict(q, m, p) for m in q.names for p in range(len(q.places))])


def _verdict(q: Question, model: int, place: int) -> dict[str, Any]:
    answer, room = q.answer(model, place), q.places[place].capacity
    spec, request = q.specs[model], q.request
    device = answer.per_device
    low, high = device.total_range
    most = most_sequences(spec, request, room)
    turn, bound = _turning(answer, q.places[place])
    layout = fewest_devices(spec, request, room, limit=64)
    return {
        "model": q.names[model],
        "device": room.name,
        "fits": bool(answer.fits) and beyond_positions(spec, request.seq_tokens) is None,
        "total_bytes": device.total_bytes,
        "total_bytes_low": low,
        "total_bytes_high": high,
        "capacity_bytes": room.bytes,
        "free_bytes": answer.free_bytes,
        "most_sequences": most,
        "longest_tokens": longest_context(spec, request, room),
        "max_tokens": spec.max_positions,
        "fewest_devices": None if layout is None else layout.devices,
        "layout": None if layout is None else _layout_words(layout.sharding.tp, layout.sharding.pp),
        "compute_bound_batch": turn,
        "step_bound_by": bound,
        "binds_first": "positions" if beyond_positions(spec, request.seq_tokens) else binds_first(most, turn, bound),
    }


def _layout_words(tp: int, pp: int) -> str:
    return "1 device" if tp * pp == 1 else f"TP {tp}" + (f" x PP {pp}" if pp > 1 else "")


def _turning(estimate: Estimate, place: Place) -> tuple[int | None, str | None]:
    """(batch at which a decode step turns compute-bound, what bounds it at the batch asked), by the device's rates."""
    device = place.device
    if device is None or not device.bandwidth_bytes_per_s:
        return None, None
    peak = peak_flops_per_s(device, estimate)
    if peak is None:
        return None, None
    rates = (float(device.bandwidth_bytes_per_s), peak)
    return compute_bound_batch(estimate, *rates), decode_step(estimate, estimate.request.batch).bound_by(*rates)


def binds_first(most: int, turn: int | None, bound: str | None) -> str:
    """Says what runs out first as sequences are added: memory, or the arithmetic of a decode step.

    >>> binds_first(6, 300, "bandwidth"), binds_first(400, 300, "bandwidth"), binds_first(0, None, None)
    ('memory', 'compute', 'memory')
    """
    if most and turn is not None and turn <= most:
        return "compute"
    return "memory"


def changes(q: Question) -> pd.DataFrame:
    """Lists what would make a model fit that does not, with the flags that ask for it."""
    columns = ["model", "device", "change", "flags", "gain_bytes", "fits"]
    rows = []
    for m in q.names:
        for p, place in enumerate(q.places):
            answer = q.answer(m, p)
            if answer.fits or beyond_positions(q.specs[m], q.request.seq_tokens):
                continue
            rows += [
                [q.names[m], place.name, change.words, change.flags, change.gain_bytes, change.fits]
                for change in advise(answer)
            ]
    return pd.DataFrame(rows, columns=columns)


def memory_vs_length(q: Question) -> pd.DataFrame:
    """Returns memory of the fullest device against context: a line a model (or KV dtype of the one model), limits,
    crossings.
    """
    return _curves(q, "context_tokens", q.lengths)


def memory_vs_batch(q: Question) -> pd.DataFrame:
    """Returns memory of the fullest device against sequences at once."""
    return _curves(q, "batch", q.batches)


def _curves(q: Question, axis: str, values: tuple[int, ...]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    over_length = axis == "context_tokens"
    for series, spec, kv_dtype in _series(q):
        base = replace(q.request, k_dtype=kv_dtype or q.request.k_dtype, v_dtype=kv_dtype or q.request.v_dtype)
        for value in values:
            if over_length and spec.max_positions and value > spec.max_positions:
                continue  # the line ends where the model does
            asked = replace(base, seq_tokens=value) if over_length else replace(base, batch=value)
            device = estimate(spec, asked, q.places[0].capacity).per_device
            rows.append(
                {
                    "role": "line",
                    "series": series,
                    "device": None,
                    axis: value,
                    "total_bytes": device.total_bytes,
                    "cache_bytes": device.kv_bytes + device.state_bytes,
                }
            )
        rows += _crossings(q, series, spec, kv_dtype=kv_dtype, axis=axis, values=values)
    for place in q.places:
        rows.append(
            {
                "role": "limit",
                "series": None,
                "device": place.name,
                axis: None,
                "total_bytes": place.capacity.bytes,
                "cache_bytes": None,
            }
        )
    frame = pd.DataFrame(rows, columns=["role", "series", "device", axis, "total_bytes", "cache_bytes"])
    return frame.astype({axis: "Int64", "total_bytes": "Int64", "cache_bytes": "Int64"})


def _series(q: Question) -> list[tuple[str, ModelSpec, str | None]]:
    """(name, model, KV dtype): the models, or the one model with several KV dtypes."""
    if len(q.specs) > 1:
        return [(q.names[i], spec, None) for i, spec in enumerate(q.specs)]
    spec, found = q.specs[0], []
    native = cache_format(spec, q.request)
    for name in KV_SERIES:
        if name is not None and (name == native.k.name or q.request.k_dtype or q.request.v_dtype):
            continue
        try:
            q.answer(0, None, **({} if name is None else {"k_dtype": name, "v_dtype": name})).kv_bytes  # noqa: B018
        except KvplanError:
            continue
        found.append((f"KV in {name or native.name}", spec, name))
    return found


def _crossings(
    q: Question, series: str, spec: ModelSpec, *, kv_dtype: str | None, axis: str, values: tuple[int, ...]
) -> list[dict[str, Any]]:
    """The largest length (or batch) at which the series still fits each device, where that is on the axis."""
    base = replace(q.request, k_dtype=kv_dtype or q.request.k_dtype, v_dtype=kv_dtype or q.request.v_dtype)
    over_length = axis == "context_tokens"
    ceiling = (spec.max_positions or MOST_TOKENS) if over_length else MAX_COUNT
    rows = []
    for place in q.places:

        def answer(n: int, place: Place = place) -> Estimate:
            asked = replace(base, seq_tokens=n) if over_length else replace(base, batch=n)
            return estimate(spec, asked, place.capacity)

        last = largest(lambda n: bool(answer(n).fits), min(ceiling, values[-1]))
        if not values[0] <= last < min(ceiling, values[-1]):
            continue
        found = answer(last)
        rows.append(
            {
                "role": "crossing",
                "series": series,
                "device": place.name,
                axis: last,
                "total_bytes": found.per_device.total_bytes,
                "cache_bytes": found.per_device.kv_bytes + found.per_device.state_bytes,
            }
        )
    return rows


def memory_parts(q: Question) -> pd.DataFrame:
    """Returns what fills each device: weights, KV cache, activations, overhead, and what is free (below zero: missing)."""
    rows = []
    for m in q.names:
        for p, place in enumerate(q.places):
            device = q.answer(m, p).per_device
            rows.append(
                {
                    "model": q.names[m],
                    "device": place.name,
                    "weight_bytes": device.weight_bytes,
                    "cache_bytes": device.kv_bytes + device.state_bytes,
                    "activation_bytes": device.activation.bytes,
                    "overhead_bytes": device.overhead_bytes,
                    "free_bytes": place.capacity.bytes - device.total_bytes,
                    "total_bytes": device.total_bytes,
                    "total_bytes_low": device.total_range[0],
                    "total_bytes_high": device.total_range[1],
                    "capacity_bytes": place.capacity.bytes,
                    "within_positions": beyond_positions(q.specs[m], q.request.seq_tokens) is None,
                }
            )
    return pd.DataFrame(rows)


def bytes_per_token(q: Question) -> pd.DataFrame:
    """Returns what one sequence keeps for each token of its context, and what its next token adds."""
    rows = []
    for m in q.names:
        answer = q.answer(m, None, batch=1)
        kept = answer.kv_bytes + answer.state_bytes
        rows.append(
            {
                "model": q.names[m],
                "attention": attention_family(q.specs[m]),
                "kv_dtype": answer.fmt.name,
                "context_tokens": q.request.seq_tokens,
                "average_bytes": kept / q.request.seq_tokens,
                "next_token_bytes": answer.kv_bytes_per_token,
                "kv_bytes": answer.kv_bytes,
                "state_bytes": answer.state_bytes,
                "exactness": answer.exactness["kv_bytes"],
            }
        )
    return pd.DataFrame(rows)


def attention_family(spec: ModelSpec) -> str:
    """Names what the layers keep: MHA, GQA, MQA, MLA, window, hybrid or state.

    >>> from planner.lookup import model_spec
    >>> [attention_family(model_spec(name)) for name in ("gpt2", "llama-3.1-8b", "deepseek-v3", "gemma-3-27b", "mamba-2.8b")]
    ['MHA', 'GQA', 'MLA', 'window', 'state']
    """
    caches = [cache for layer, _ in spec.groups for cache in layer.caches]
    attends = [cache for cache in caches if isinstance(cache, (Full, Latent))]
    if any(isinstance(cache, Recurrent) for cache in caches):
        return "hybrid" if attends else "state"
    if any(isinstance(cache, Latent) for cache in caches):
        return "MLA"
    if any(isinstance(cache, (SlidingWindow, Chunked)) for cache in caches):
        return "window"
    mixers = [mixer for layer, _ in spec.groups for mixer in layer.mixers if isinstance(mixer, Attention)]
    if not mixers:
        return "none"
    if all(mixer.kv_heads == mixer.heads for mixer in mixers):
        return "MHA"
    return "MQA" if all(mixer.kv_heads == 1 for mixer in mixers) else "GQA"


def feasible_region(q: Question, model: int = 0, place: int = 0) -> pd.DataFrame:
    """Returns batch x context on one device: tokens in all, memory, and whether it fits."""
    spec, room = q.specs[model], q.places[place].capacity
    ceiling = max(q.request.seq_tokens, min(spec.max_positions or MOST_TOKENS, 262144))
    lengths = geometric(max(1, min(512, ceiling // 64)), ceiling, 1, q.request.seq_tokens)[-9:]
    most = most_sequences(spec, replace(q.request, seq_tokens=lengths[-1]), room)
    high = min(1 << 16, max(256, 2 * q.request.batch, 2 * most))
    batches = _thinned(geometric(1, 1 << (high - 1).bit_length(), 1), q.request.batch)
    rows = []
    for batch in batches:
        for tokens in lengths:
            found = estimate(spec, replace(q.request, batch=batch, seq_tokens=tokens), room)
            rows.append(
                {
                    "model": q.names[model],
                    "device": room.name,
                    "batch": batch,
                    "context_tokens": tokens,
                    "held_tokens": batch * tokens,
                    "total_bytes": found.per_device.total_bytes,
                    "capacity_bytes": room.bytes,
                    "fits": bool(found.fits) and beyond_positions(spec, tokens) is None,
                }
            )
    return pd.DataFrame(rows)


def sequences_by_length(q: Question) -> pd.DataFrame:
    """Returns the most sequences in memory at each length that a model takes, on each device."""
    rows = []
    for m, spec in enumerate(q.specs):
        ceiling = min(spec.max_positions or MOST_TOKENS, MOST_TOKENS)
        for place in q.places:
            for tokens in geometric(min(512, ceiling), ceiling, 1):
                most = most_sequences(spec, replace(q.request, seq_tokens=tokens), place.capacity)
                rows.append([q.names[m], place.name, tokens, None if most >= MAX_COUNT else most])
    frame = pd.DataFrame(rows, columns=["model", "device", "context_tokens", "most_sequences"])
    kept = frame.dropna().groupby(["model", "device"])["most_sequences"].transform("max") > 0
    return frame.dropna()[kept].astype({"most_sequences": "int64"}).reset_index(drop=True)


def _thinned(values: tuple[int, ...], asked: int, most: int = 10) -> tuple[int, ...]:
    """At most `most` of the values, evenly, and `asked`.

    >>> _thinned((1, 2, 4, 8, 16), 3, most=3)
    (1, 3, 4, 16)
    """
    step = -(-len(values) // most)
    return tuple(sorted({*values[::step], asked}))


def kv_dtype_savings(q: Question) -> pd.DataFrame:
    """Returns the cache in each KV dtype beside the one asked for, scales and block padding counted."""
    rows = []
    for m in q.names:
        native = q.answer(m, None)
        for name in dict.fromkeys((native.fmt.name, *SAVINGS)):
            if name == "bf16" and native.fmt.name == "fp16":  # as many bytes
                continue
            try:
                answer = native if name == native.fmt.name else q.answer(m, None, k_dtype=name, v_dtype=name)
                size = answer.kv_bytes
            except KvplanError:  # a format that this model's heads do not allow
                continue
            if not native.kv_bytes:
                continue
            codes = _code_bytes(answer)
            rows.append(
                {
                    "model": q.names[m],
                    "kv_dtype": name,
                    "kv_bytes": size,
                    "code_bytes": codes,
                    "scale_bytes": size - codes,
                    "ratio": size / native.kv_bytes,
                    "asked": name == native.fmt.name,
                }
            )
    columns = ["model", "kv_dtype", "kv_bytes", "code_bytes", "scale_bytes", "ratio", "asked"]
    return pd.DataFrame(rows, columns=columns)


def _code_bytes(estimate: Estimate) -> int:
    """The cached numbers alone, without scales: elements x bits / 8 (K and V in equal parts)."""
    spec, request = estimate.spec, estimate.request
    elements = request.batch * sum(
        count * cache.elements(request.seq_tokens, estimate.source_tokens)
        for layer, count in spec.groups
        for cache in layer.caches
        if not isinstance(cache, Recurrent)
    )
    k, v = estimate.fmt.k, estimate.fmt.v
    return min(estimate.kv_bytes, elements * (k.bits + v.bits) // 16)


def equation_rows(q: Question) -> pd.DataFrame:
    """Returns the equation of each group of layers with its numbers, and the config fields behind it."""
    rows = []
    for m in q.names:
        answer = q.answer(m, None)
        for part in equations(answer):
            rows.append(
                {
                    "model": q.names[m],
                    "layers": part.layers,
                    "keeps": part.kind,
                    "equation": part.text,
                    "bytes": part.bytes,
                    "symbols": part.symbols,
                    "config_fields": ", ".join(part.fields),
                    "exactness": answer.exactness["kv_bytes"],
                }
            )
    columns = ["model", "layers", "keeps", "equation", "bytes", "symbols", "config_fields", "exactness"]
    return pd.DataFrame(rows, columns=columns)


def model_rows(q: Question) -> pd.DataFrame:
    """Returns each model in one line: size, weights, cache."""
    rows = []
    for m, spec in enumerate(q.specs):
        answer = q.answer(m, None)
        rows.append(
            {
                "model": q.names[m],
                "model_type": spec.model_type,
                "attention": attention_family(spec),
                "layers": len(spec.layers),
                "parameters": answer.parameters,
                "active_parameters": answer.active_parameters,
                "weight_dtype": answer.plan.fmt.name,
                "weight_bytes": answer.weight_bytes,
                "kv_dtype": answer.fmt.name,
                "kv_bytes": answer.kv_bytes,
                "state_bytes": answer.state_bytes,
                "next_token_bytes": answer.kv_bytes_per_token,
                "max_tokens": spec.max_positions,
                "exactness": answer.exactness["kv_bytes"],
            }
        )
    return pd.DataFrame(rows).astype({"max_tokens": "Int64"})


def asked_words(q: Question) -> str:
    """Says the question in a sentence."""
    device = q.places[0].name if len(q.places) == 1 else f"{len(q.places)} devices"
    layout = q.request.sharding.devices
    on = f"{layout} x {device}" if layout > 1 else device
    models = q.titles if len(q.names) <= 3 else f"{len(q.names)} models"
    return f"{'Does' if len(q.names) == 1 else 'Do'} {models} fit with {q.load} on {on}?"
