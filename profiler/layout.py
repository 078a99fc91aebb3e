"""Which way of storing matrices is faster here, measured on one layer of the model before it is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle

import torch
from torch import Tensor, nn

from planner.errors import BadRequest
from planner.model.spec import ModelSpec
from planner.speed.operators import Matmul, layer_matmuls
from planner.units import human_bytes, human_seconds
from profiler.device import Device
from profiler.gpt import torch_dtype
from profiler.linear import LINEAR_KINDS, Linear, check_packing
from profiler.measure import Times, laps

COLD_BYTES = 128 << 20  # matrices in rotation are more than this together, so that none is in a cache
ROUNDS = 9  # turns of the layouts: a slow moment of the machine hits both
MARGIN = 1.05  # packing has to be so much faster: it cannot be undone, and a tied head becomes a second copy


@dataclass(frozen=True)
class Layout:
    """What was chosen, and why, in words; no words where there is no choice."""

    kind: str
    note: str

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.note,) if self.note else ()


def faster_layout(spec: ModelSpec, dtype: str, *, rows: Iterable[int], device: Device) -> Layout:
    """Chooses `plain` or `packed` by the time of a layer's products with each number of `rows`, the batches of decode steps.

    `packed` only where it is clearly faster with all of them, undisturbed and as this machine is now; the layer is of the kind that most layers are. `plain` with
    the reason where this dtype cannot be packed here or both layouts of a layer have no room beside each other.
    """
    if device.kind != "cpu":
        return Layout("plain", "")
    if reason := _why_not(spec, dtype, device):
        return Layout("plain", f"--linear auto took plain matrices: {reason}")
    found = {number: layer_times(spec, dtype, rows=number, device=device) for number in dict.fromkeys(rows)}
    kind = "packed" if all(_packed_is_faster(**times) for times in found.values()) else "plain"
    return Layout(kind, f"--linear auto took {kind} matrices: a layer's products took {_measured(found)}")


def _packed_is_faster(plain: Times, packed: Times) -> bool:
    """Whether the shortest run of packed products is clearly shorter, and the middle one shorter too: beside programs that hold
    the cores all the time packed products on several threads were measured to be the slower ones.

    >>> calm, busy = Times((1.0, 1.1, 4.0)), Times((1.0, 9.0, 9.0))
    >>> _packed_is_faster(Times((2.0, 2.2, 8.0)), calm), _packed_is_faster(Times((2.0, 2.2, 8.0)), busy)
    (True, False)
    """
    return min(plain.seconds) > MARGIN * min(packed.seconds) and plain.median > packed.median


def _why_not(spec: ModelSpec, dtype: str, device: Device) -> str:
    """Says why packing is out of the question; empty where it is not."""
    try:
        check_packing(device.torch_device, torch_dtype(dtype))
    except BadRequest as error:
        return str(error).removeprefix("--linear packed").lstrip(": ").split(";")[0]
    free, each = device.free_bytes, _layer_bytes(spec, dtype)
    wanted = 2 * each * _copies(each)
    if free is not None and wanted > free:
        return f"trying both wants {human_bytes(wanted)} and {human_bytes(free)} are free"
    return ""


def _measured(found: dict[int, dict[str, Times]]) -> str:
    """
    >>> _measured({4: {"plain": Times((0.005, 0.007, 0.009)), "packed": Times((0.001, 0.002, 0.003))}})
    'plain 5.00 ms (median 7.00 ms), packed 1.00 ms (median 2.00 ms) with 4 rows'
    """
    return "; ".join(
        ", ".join(
            f"{kind} {human_seconds(min(times.seconds))} (median {human_seconds(times.median)})"
            for kind, times in layouts.items()
        )
        + f" with {rows:,} row{'s' * (rows > 1)}"
        for rows, layouts in found.items()
    )


def layer_times(spec: ModelSpec, dtype: str, *, rows: int, device: Device) -> dict[str, Times]:
    """Measures the products of one layer in each layout, over copies that no cache holds: seconds of every copy in ROUNDS turns of
    all copies in a row, as a step runs them. Other programs only ever make a layer longer, so the least is the one that they
    disturbed least, and a layer is short enough to slip between them.
    """
    copies = {kind: _layers(spec, dtype, kind, rows=rows, device=device) for kind in LINEAR_KINDS}
    found: dict[str, tuple[float, ...]] = dict.fromkeys(copies, ())
    with torch.no_grad():
        for turn in range(ROUNDS):
            for kind, layers in copies.items():
                order = cycle(layers)
                step = lambda order=order: next(order)()  # noqa: E731
                found[kind] += laps(step, device, len(layers), warmup=0 if turn else 2).seconds
    return {kind: Times(seconds) for kind, seconds in found.items()}


def _layers(spec: ModelSpec, dtype: str, kind: str, *, rows: int, device: Device) -> list[Callable[[], None]]:
    """Returns what multiplies `rows` rows by every matrix of a layer, for so many copies of it that they are in no cache."""
    number = torch_dtype(dtype)
    given: dict[tuple[int, int], Tensor] = {}

    def product(m: Matmul) -> tuple[Linear, Tensor]:
        n = max(1, round(m.rows_each(rows)))
        x = given.setdefault((n, m.inputs), torch.randn(n, m.inputs, device=device.torch_device).to(number))
        return matrix(m.outputs, m.inputs, number, kind=kind, device=device), x

    def layer() -> Callable[[], None]:
        products = [product(m) for m in _matmuls(spec)]

        def run() -> None:
            for module, x in products:
                module(x)

        return run

    return [layer() for _ in range(_copies(_layer_bytes(spec, dtype)))]


def _matmuls(spec: ModelSpec) -> list[Matmul]:
    """Lists the products of one token in the kind of layer that most layers are; of experts those that it is sent to."""
    layer = max(spec.groups, key=lambda group: group[1])[0]
    return [m for m in layer_matmuls(layer) for _ in range(max(1, round(m.count * m.share)))]


def _layer_bytes(spec: ModelSpec, dtype: str) -> int:
    return sum(m.outputs * m.inputs for m in _matmuls(spec)) * torch_dtype(dtype).itemsize


def _copies(layer_bytes: int) -> int:
    return max(2, min(64, -(-COLD_BYTES // layer_bytes)))


def matrix(outputs: int, inputs: int, number: torch.dtype, *, kind: str, device: Device) -> Linear:
    """Makes one matrix of a layout, of equal numbers: time does not depend on them."""
    module = Linear(inputs, outputs)
    weight = torch.full((outputs, inputs), 0.01, dtype=number, device=device.torch_device)
    module.weight = nn.Parameter(weight, requires_grad=False)
    if kind == "packed":
        module.pack()
    return module
