"""Which way of storing matrices is faster here, measured on one layer of the model before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from planner.errors import BadRequest
from planner.model.spec import ModelSpec
from planner.speed.operators import layer_matmuls
from planner.units import human_seconds
from profiler.device import Device
from profiler.gpt import torch_dtype
from profiler.linear import LINEAR_KINDS, Linear, check_packing
from profiler.measure import measure

COLD_BYTES = 128 << 20  # matrices in rotation are more than this together, so that none is in a cache
ROUNDS = 7  # runs of each layout, in turns: a slow moment of the machine hits both
MARGIN = 1.1  # packing has to be so much faster: it cannot be undone, and a tied head becomes a second copy


@dataclass(frozen=True)
class Layout:
    """What was chosen, and why, in words."""

    kind: str
    note: str


def faster_layout(spec: ModelSpec, dtype: str, *, rows: int, device: Device) -> Layout:
    """Chooses `plain` or `packed` by the time of a layer's products with `rows` rows, a decode step's batch.

    Takes a layer of the first kind. Where this device or dtype cannot pack, `plain` with the reason.
    """
    try:
        check_packing(device.torch_device, torch_dtype(dtype))
    except BadRequest as error:
        reason = str(error).removeprefix("--linear packed").lstrip(": ").split(";")[0]
        return Layout("plain", f"--linear auto took plain matrices: {reason}")
    seconds = layer_seconds(spec, dtype, rows=rows, device=device)
    kind = "packed" if seconds["plain"] > MARGIN * seconds["packed"] else "plain"
    measured = ", ".join(f"{name} {human_seconds(took)}" for name, took in seconds.items())
    return Layout(
        kind,
        f"--linear auto took {kind} matrices: a layer's products with {rows:,} row{'s' * (rows > 1)} took {measured}",
    )


def layer_seconds(spec: ModelSpec, dtype: str, *, rows: int, device: Device) -> dict[str, float]:
    """Measures the products of the first layer in each layout, over copies that no cache holds: the least seconds of ROUNDS
    runs, which take turns. Other programs only ever make a run longer, so the least is the one that they disturbed least.
    """
    runs = {kind: _products(spec, dtype, kind, rows=rows, device=device) for kind in LINEAR_KINDS}
    least = dict.fromkeys(runs, float("inf"))
    with torch.no_grad():
        for turn in range(ROUNDS):
            for kind, (run, copies) in runs.items():
                took = measure(run, device, repeats=1, warmup=not turn).median / copies
                least[kind] = min(least[kind], took)
    return least


def _products(spec: ModelSpec, dtype: str, kind: str, *, rows: int, device: Device) -> tuple[Callable[[], None], int]:
    """Returns what multiplies `rows` rows by every matrix of so many copies of a layer, and the number of copies."""
    number = torch_dtype(dtype)
    sizes = [
        (m.outputs, m.inputs) for m in layer_matmuls(spec.layers[0]) for _ in range(max(1, round(m.count * m.share)))
    ]
    each = sum(outputs * inputs for outputs, inputs in sizes) * number.itemsize
    copies = max(1, min(64, -(-COLD_BYTES // each)))
    modules = [
        matrix(outputs, inputs, number, kind=kind, device=device) for _ in range(copies) for outputs, inputs in sizes
    ]
    given = {inputs: torch.randn(rows, inputs, device=device.torch_device).to(number) for _, inputs in sizes}

    def run() -> None:
        for module in modules:
            module(given[module.inputs])

    return run, copies


def matrix(outputs: int, inputs: int, number: torch.dtype, *, kind: str, device: Device) -> Linear:
    """Makes one matrix of a layout, of equal numbers: time does not depend on them."""
    module = Linear(inputs, outputs)
    weight = torch.full((outputs, inputs), 0.01, dtype=number, device=device.torch_device)
    module.weight = nn.Parameter(weight, requires_grad=False)
    if kind == "packed":
        module.pack()
    return module
