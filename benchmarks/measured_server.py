"""What eight points of a real server are worth: its other points, and its load at three rates and other settings.

    python benchmarks/measured_server.py [FOLDER]

FOLDER is one that benchmarks/serve_vllm.py wrote; without it the recording in tests/cases/vllm-server. One of loads alone (`--flags`)
takes the points of tests/cases/vllm-server-quiet, of the same server. The points make
constants as `--measured` does. TPOT of points that were left out is that of `kvplan speed`; the load is the simulator's, of the very
arrivals and lengths that the benchmark sent. `alone` counts requests that had the server for themselves once they had their first
token, with their measured TPOT over the simulated: above 1 the machine was slower during this load than when the points were made. The device is the whole processor, as a user would name it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from planner.catalogue.device import Device
from planner.lookup import device, model_spec
from planner.measured.reader import read_measured
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.serving.block_pool import Pool
from planner.serving.replica import Policy
from planner.serving.scheduler import simulate
from planner.speed.constants import constants_for
from planner.speed.measured_fit import Fitted, fitted
from planner.speed.observed import Observed
from planner.speed.speed import speed
from planner.speed.step_model import step_model
from planner.terminal.tables import table
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import Arrival

RECORDED = ROOT / "tests" / "cases" / "vllm-server"
QUIET = RECORDED.with_name("vllm-server-quiet")
PROCESSOR: Device = device("epyc-7763")  # of 64 cores; the server had one, which the points say
BLOCKS = 512  # of 128 tokens: VLLM_CPU_KVCACHE_SPACE=1
SETTINGS = {  # folder -> max_num_seqs and tokens of a step
    "rates": (32, 512),
    "rates-8-seqs-128-tokens": (8, 128),
    "rates-4-seqs-1024-tokens": (4, 1024),
}


@dataclass(frozen=True)
class Recording:
    """A folder of points, points left out, and loads."""

    folder: Path

    @cached_property
    def source(self) -> Path:
        """Where its points are."""
        return self.folder if (self.folder / "points").is_dir() else QUIET

    @cached_property
    def model(self) -> Estimate:
        """The model that was served, in float32."""
        return estimate(model_spec(config=str(self.source / "config.json")), Request(2048, dtype="fp32"))

    @cached_property
    def fit(self) -> Fitted:
        """Constants of the eight points."""
        return fitted(self.points("points"), self.model, PROCESSOR, base=constants_for("vllm", PROCESSOR))

    def points(self, name: str) -> list[Observed]:
        """The points of a folder, by prompt and requests at once."""
        files = sorted((self.source / name).glob("*.json"))
        found = [point.observed() for path in files for point in read_measured(str(path)).points]
        return sorted((one for one in found if one is not None), key=lambda one: (one.prompt_tokens, one.batch))

    def left_out(self) -> Iterator[tuple[Observed, float, float]]:
        """(point, predicted TPOT, predicted TTFT in seconds) of points that made no constants."""
        for one in self.points("left-out"):
            lengths = {"prompt_tokens": one.prompt_tokens, "output_tokens": one.output_tokens}
            found = speed(
                self.model, PROCESSOR, batch=one.batch, load="serving", constants=self.fit.constants, **lengths
            )  # type: ignore[arg-type]
            yield one, found.tpot_seconds.value, found.ttft_seconds.value

    def loads(self, name: str) -> Iterator[Load]:
        """Each recorded rate of a setting, simulated."""
        for path in sorted((self.folder / name).glob("*.json")):
            yield self.load(path, Policy(*SETTINGS[name]))

    def load(self, path: Path, policy: Policy) -> Load:
        """The arrivals of one run of the benchmark, simulated."""
        raw = json.loads(path.read_text())
        began = min(raw["start_times"])
        sent = sorted(zip(raw["start_times"], raw["input_lens"], raw["output_lens"], strict=True))
        arrivals = [Arrival(round((at - began) * PS_PER_SECOND), prompt, output) for at, prompt, output in sent]
        constants = self.fit.constants
        run = simulate(
            arrivals, step_model(self.model, PROCESSOR, constants), Pool.of_blocks(BLOCKS, 128), policy=policy
        )
        ttft, tpot = sorted(run.ttft_seconds()), run.tpot_seconds()
        ratios = [took / tpot[place] for place, took in alone(raw).items()]
        simulated = (sum(ttft) / len(ttft), ttft[int(0.95 * (len(ttft) - 1))], sum(tpot) / len(tpot))
        way_in = constants.before_seconds
        return Load(
            raw["request_rate"],
            (raw["mean_ttft_ms"] / 1e3, raw["p95_ttft_ms"] / 1e3, raw["mean_tpot_ms"] / 1e3),
            (simulated[0] + way_in, simulated[1] + way_in, simulated[2]),
            (len(ratios), median(ratios) if ratios else None),
        )


def alone(raw: dict[str, Any]) -> dict[int, float]:
    """Measured TPOT of the requests that had the server for themselves from their first token on, by their place in the order of
    arrival. A step of one sequence is as long at every rate: where theirs are longer, something else ran on the machine.
    """
    rows = sorted(zip(raw["start_times"], raw["ttfts"], raw["latencies"], raw["output_lens"], strict=True))
    found = {}
    for place, (start, ttft, latency, output) in enumerate(rows):
        others = [row for other, row in enumerate(rows) if other != place]
        if all(at >= start + latency or at + took <= start + ttft for at, _, took, _ in others):
            found[place] = (latency - ttft) / (output - 1)
    return found


@dataclass(frozen=True)
class Load:
    """Mean TTFT, its 95th percentile and mean TPOT in seconds at a rate, as measured and as simulated; requests that ran alone,
    and the median of measured over simulated TPOT of these.
    """

    rate_per_s: float
    measured: tuple[float, float, float]
    simulated: tuple[float, float, float]
    alone: tuple[int, float | None]

    def cells(self) -> list[str]:
        """A figure a cell: simulated over measured, and how far that is off."""
        pairs = zip(self.simulated, self.measured, strict=True)
        cells = [f"{1e3 * found:,.0f} of {1e3 * true:,.0f} ms {found / true - 1:+4.0%}" for found, true in pairs]
        count, slower = self.alone
        return [*cells, f"{count}: x{slower:.2f}" if slower else "-"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=RECORDED)
    made = Recording(parser.parse_args().folder)
    print(f"{made.fit.points} points; {made.fit.words.partition('), ')[2]}\n")
    rows = [
        [str(one.batch), f"{one.prompt_tokens}+{one.output_tokens}",
         f"{1e3 * tpot:.1f} of {1e3 * (one.tpot_seconds or 0):.1f} ms {tpot / (one.tpot_seconds or tpot) - 1:+4.0%}",
         f"{1e3 * ttft:,.0f} of {1e3 * (one.ttft_seconds or 0):,.0f} ms {ttft / (one.ttft_seconds or ttft) - 1:+4.0%}"]
        for one, tpot, ttft in made.left_out()
    ]  # fmt: skip
    print(table(["at once", "lengths", "TPOT left out", "TTFT left out"], rows) + "\n")
    rows = [
        [f"{load.rate_per_s:g}", *map(str, SETTINGS[name]), *load.cells()]
        for name in SETTINGS
        for load in made.loads(name)
    ]
    print(table(["requests/s", "max_num_seqs", "tokens a step", "mean TTFT", "p95 TTFT", "mean TPOT", "alone"], rows))


if __name__ == "__main__":
    main()
