"""How many configurations a second the grid answers on one core, beside a loop over the scalar path.

    python benchmarks/grid.py

Both ways run in this one process over the same catalogue models, devices, tensor-parallel sizes, batches,
lengths and dtypes. Then random configurations are compared byte by byte; any difference ends with exit 1.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # one core, before numpy is loaded
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import header, peak_rss_bytes

from planner.catalogue.entries import devices, models
from planner.errors import KvplanError
from planner.memory.estimate import estimate
from planner.memory.grid import Grid, GridBlock, Refused
from planner.memory.request import (
    Capacity,
    Request,
    device_capacity,
)
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.readers import read_entry

DTYPES = ("bf16", "fp8", "int4")
KV_DTYPES = (None, "fp8", "int8")


@dataclass(frozen=True)
class Question:
    """One configuration, as the scalar path is asked."""

    spec: ModelSpec
    capacity: Capacity
    request: Request

    def answer(self) -> dict[str, int]:
        found = estimate(self.spec, self.request, self.capacity)
        return {key: int(found.to_dict()["per_device"][key]) for key in COMPARED}

    def fits(self) -> bool:
        return bool(estimate(self.spec, self.request, self.capacity).fits)


COMPARED = (
    "kv_bytes",
    "state_bytes",
    "weight_bytes",
    "activation_bytes",
    "overhead_bytes",
    "total_bytes",
    "capacity_bytes",
    "free_bytes",
    "fits",
)


def catalogue_specs(limit: int, seed: int) -> list[ModelSpec]:
    """`limit` catalogue models drawn at random, of those that the readers know, by name."""
    entries = models()
    random.Random(seed).shuffle(entries)
    specs: list[ModelSpec] = []
    for entry in entries:
        if len(specs) == limit:
            break
        try:
            specs.append(read_entry(entry))
        except KvplanError:
            continue
    return sorted(specs, key=lambda spec: spec.name)


def the_grid(arguments: argparse.Namespace) -> Grid:
    capacities = [device_capacity(device) for device in devices()]
    return Grid(
        specs=catalogue_specs(arguments.models, arguments.seed),
        devices=capacities[: arguments.devices],
        batches=range(1, arguments.batches + 1),
        lengths=range(1024, 1024 * (arguments.lengths + 1), 1024),
        shardings=[Sharding(tp=tp) for tp in (1, 2, 4, 8)],
        dtypes=DTYPES,
        kv_dtypes=KV_DTYPES,
    )


def timed(blocks: Iterator[GridBlock], every_byte: bool) -> tuple[int, int, float]:
    """(configurations, how many fit, seconds); `every_byte` also makes the free bytes of each one."""
    count = fitting = 0
    start = time.perf_counter()
    for block in blocks:
        count += block.size
        fitting += int(block.fits.sum())
        if every_byte:
            block.free_bytes  # noqa: B018
    return count, fitting, time.perf_counter() - start


def question(block: GridBlock, at: tuple[int, int, int]) -> Question:
    device, batch, length = at
    request = Request(
        seq_tokens=block.lengths[length],
        batch=block.batches[batch],
        dtype=block.dtype,
        k_dtype=block.kv_dtype,
        v_dtype=block.kv_dtype,
        sharding=block.sharding,
    )
    return Question(block.spec, block.devices[device], request)


def samples(grid: Grid, wanted: int, seed: int) -> Iterator[tuple[Question, dict[str, int]]]:
    """About `wanted` random configurations of the whole grid, each as a question and the grid's answer."""
    chance = random.Random(seed)
    share = wanted / grid.size
    for block in grid.blocks([]):
        expected = block.size * share
        for _ in range(int(expected) + (chance.random() < expected % 1)):
            at = tuple(chance.randrange(extent) for extent in block.shape)
            device, batch, length = at
            yield question(block, (device, batch, length)), block.point(device, batch, length)


def rate(count: int, seconds: float) -> str:
    return f"{count:>15,} {seconds:>10.3f} s {count / seconds / 1e6:>12,.3f} M/s"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=40, help="catalogue models, drawn at random")
    parser.add_argument("--devices", type=int, default=1000, help="at most so many catalogue devices")
    parser.add_argument("--batches", type=int, default=64)
    parser.add_argument("--lengths", type=int, default=64)
    parser.add_argument("--sample", type=int, default=2000, help="configurations asked both ways")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    grid = the_grid(arguments)
    axes = (grid.specs, grid.devices, grid.shardings, grid.batches, grid.lengths, grid.dtypes, grid.kv_dtypes)
    print(header())
    print("models x devices x tp x batches x lengths x dtypes x KV dtypes =",
          " x ".join(str(len(axis)) for axis in axes), f"= {grid.size:,} configurations")  # fmt: skip

    first_refused: list[Refused] = []
    count, fitting, seconds = timed(grid.blocks(first_refused), every_byte=False)
    full_count, _, full_seconds = timed(grid.blocks([]), every_byte=True)
    peak = peak_rss_bytes()

    pairs = list(samples(grid, arguments.sample, arguments.seed))
    start = time.perf_counter()
    for asked, _ in pairs:
        asked.fits()
    scalar_seconds = time.perf_counter() - start
    different = [(asked, ours, theirs) for asked, ours in pairs if ours != (theirs := asked.answer())]

    print(f"\n{'':28} {'configurations':>15} {'time':>12} {'rate':>16}")
    print(f"{'grid: total, fits':28} {rate(count, seconds)}")
    print(f"{'grid: and every free byte':28} {rate(full_count, full_seconds)}")
    print(f"{'loop: estimate(...).fits':28} {rate(len(pairs), scalar_seconds)}")
    ratio = (count / seconds) / (len(pairs) / scalar_seconds)
    print(f"\n{ratio:,.0f} times the loop; {fitting:,} of {count:,} fit; "
          f"{len(first_refused)} model/layout/dtype combinations refused")  # fmt: skip
    print(f"peak memory of the process: {f'{peak / 2**20:,.0f} MiB' if peak else 'not known here'}")
    equal = len(pairs) - len(different)
    print(f"agreement: {equal:,} of {len(pairs):,} random configurations equal to the byte")
    for asked, ours, theirs in different[:5]:
        print(f"  {asked.spec.name} on {asked.capacity.name}, {asked.request}")
        print(f"    grid   {ours}\n    scalar {theirs}")
    return 1 if different or not pairs else 0


if __name__ == "__main__":
    sys.exit(main())
