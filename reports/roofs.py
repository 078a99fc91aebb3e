"""What bounds a step, as tables: its seconds by bandwidth and by compute, and the roofs of the devices."""

from __future__ import annotations

from typing import Any

import pandas as pd

from planner.memory.limits import most_sequences
from planner.speed.work import decode_step, peak_flops_per_s, prefill_step
from reports.question import Place, Question

STEP_BATCHES = (1, 4, 16, 64, 256)
BOUND_COLUMNS = [
    "model", "device", "step", "batch", "context_tokens", "read_bytes", "flops", "intensity_flops_per_byte",
    "bound_seconds", "bound_tokens_per_s", "bound_by", "fits", "exactness",
]  # fmt: skip
ROOFLINE = [
    "role", "run", "device", "label", "intensity_flops_per_byte", "flops_per_s", "bandwidth_bytes_per_s", "exactness",
]  # fmt: skip


def step_bounds(q: Question) -> pd.DataFrame:
    """Returns the least that a prefill and a decode step can take on each device: max(bytes / bandwidth, FLOPs / rate)."""
    rows = []
    for m in q.names:
        for p, place in enumerate(q.places):
            rows += _bounds_on(q, m, p, place=place)
    return pd.DataFrame(rows, columns=BOUND_COLUMNS)


def _bounds_on(q: Question, model: int, index: int, *, place: Place) -> list[dict[str, Any]]:
    device, answer = place.device, q.answer(model, index)
    peak = None if device is None else peak_flops_per_s(device, answer)
    if device is None or not device.bandwidth_bytes_per_s or peak is None:
        return []
    rates = (float(device.bandwidth_bytes_per_s), peak)  # a step's bytes and FLOPs are those of one rank
    most = most_sequences(q.specs[model], q.request, place.capacity)
    rows = []
    for name, make in (("prefill", prefill_step), ("decode", decode_step)):
        for batch in sorted({*STEP_BATCHES, q.request.batch, *([most] if 0 < most < 4096 else [])}):
            if name == "prefill" and batch not in (1, q.request.batch):
                continue
            step = make(answer, batch)
            seconds = step.seconds(*rates)
            tokens = batch * (q.request.seq_tokens if name == "prefill" else 1)
            rows.append(
                {
                    "model": q.names[model],
                    "device": place.name,
                    "step": name,
                    "batch": batch,
                    "context_tokens": q.request.seq_tokens,
                    "read_bytes": step.read_bytes,
                    "flops": step.flops,
                    "intensity_flops_per_byte": step.intensity,
                    "bound_seconds": seconds,
                    "bound_tokens_per_s": tokens / seconds,
                    "bound_by": step.bound_by(*rates),
                    "fits": batch <= most,
                    "exactness": "bound",
                }
            )
    return rows


def roofs(q: Question) -> pd.DataFrame:
    """Returns bandwidth and dense FLOP/s of each device that the catalogue has them for; a row a rate that a model runs
    at.
    """
    rows = []
    for place in q.places:
        if place.device is None or not place.device.bandwidth_bytes_per_s:
            continue
        peaks = [peak_flops_per_s(place.device, q.answer(m, None)) for m in q.names]
        for peak in sorted({rate for rate in peaks if rate}):
            types = [name for name, rate in place.device.dense_flops_per_s.items() if rate == peak]
            name = "16 bit" if {"fp16", "bf16"} <= set(types) else types[0]
            rows.append([place.name, name, float(place.device.bandwidth_bytes_per_s), peak, "published"])
    return pd.DataFrame(rows, columns=["device", "dtype", "bandwidth_bytes_per_s", "flops_per_s", "source"])


def roofline(q: Question) -> pd.DataFrame:
    """Returns roofs of the devices, and the bounds of decode and prefill steps on the one with most memory."""
    found = roofs(q)
    rows: list[list[Any]] = [
        [
            "roof",
            None,
            r["device"],
            f"{r['device']} {r['dtype']}",
            None,
            r["flops_per_s"],
            r["bandwidth_bytes_per_s"],
            "published",
        ]
        for r in found.to_dict("records")
    ]
    if rows:
        room = {place.name: place.capacity.bytes for place in q.places}
        device = max(found["device"], key=lambda name: room[name])
        bounds = step_bounds(q)
        for r in bounds[bounds["device"] == device].to_dict("records"):
            if r["step"] == "prefill" or r["batch"] in (1, 16, 256):
                rows.append(
                    [
                        "point",
                        None,
                        device,
                        r["model"],
                        r["intensity_flops_per_byte"],
                        r["flops"] / r["bound_seconds"],
                        None,
                        "bound",
                    ]
                )
    return pd.DataFrame(rows, columns=ROOFLINE)
