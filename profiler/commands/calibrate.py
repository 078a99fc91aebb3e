"""`kvplan calibrate`: this machine's operator times, into a device file that every speed answer uses."""

from __future__ import annotations

import os
from statistics import median
from typing import Any

import click

from planner.dtypes.names import float_dtype
from planner.errors import BadRequest, one_line
from planner.lookup import model_spec
from planner.machine.calibration import Calibration, device_file_path
from planner.terminal.output import emit, write_whole
from planner.terminal.tables import bad, bold, dim, table, wrapped
from planner.units import bandwidth
from profiler.commands.torch_wanted import want_torch


@click.command(name="calibrate", epilog="Example: kvplan calibrate; kvplan calibrate --model llama-3.2-1b --dtype bf16")
@click.option(
    "--model",
    default="gpt2",
    show_default=True,
    help="The model whose shapes are measured exactly and whose steps are probed.",
)
@click.option("--dtype", default="fp32,bf16", show_default=True, help="fp32, fp16, bf16: a list.")
@click.option("--linear", help="plain or packed (default: both where the device has both).")
@click.option("--device", metavar="NAME", help="cuda, cuda:N, mps or cpu (default: the fastest that is there).")
@click.option("--json", "as_json", is_flag=True, help="The device file as JSON on the screen.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE (default: local-device.json in the config folder).")
def command(**values: Any) -> None:
    """Measure bandwidth, product rates, attention and overheads of this machine, in under two minutes.

    The device file is what `--gpu local` and predicted speeds use. At the end steps that were not used are predicted
    and measured, and the error is printed. Close other programs first.
    """
    want_torch("kvplan calibrate")
    from planner.terminal.progress import Progress
    from profiler.calibrate import calibrate
    from profiler.device import choose

    spec = model_spec(values["model"])
    linears = None if values["linear"] is None else _linears(values["linear"])
    found = calibrate(
        spec, device=choose(values["device"]), dtypes=_dtypes(values["dtype"]), linears=linears, progress=Progress(0)
    )
    path = values["output"] or device_file_path()
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    write_whole(path, found.to_json())
    emit(found.to_json() if values["as_json"] else wrapped(page(found, path)))


def _dtypes(text: str) -> list[str]:
    found = []
    for name in text.split(","):
        known = float_dtype(name)
        if known is None:
            raise BadRequest(f"--dtype {one_line(name, 30)!r} is not one the profiler runs in; choose fp32, fp16, bf16")
        found.append(known)
    return list(dict.fromkeys(found))


def _linears(text: str) -> list[str]:
    found = [name.strip() for name in text.split(",")]
    for name in found:
        if name not in ("plain", "packed"):
            raise BadRequest(f"--linear {one_line(name, 30)!r} is not known; choose plain or packed")
    return found


def page(found: Calibration, path: str) -> str:
    """The short answer for a screen."""
    here = found.environment
    lines = [bold(str(here["device"])) + f"  {here['threads']} threads, torch {here['torch']}, {found.date}", ""]
    rows = []
    for name, rate in found.rates.items():
        spread = f"{100 * (rate.high - rate.low) / rate.value:.0f} % spread"
        shown = bandwidth(rate.value) if "bytes" in name else f"{rate.value / 1e9:,.0f} GFLOP/s"
        rows.append([f"  {name.rsplit('_', 3)[0].replace('_', ' ')}", shown, f"  {spread}"])
    lines += [table(["reached", "", ""], rows), "", error_table(found)]
    lines += [bad("  note: ") + line for line in found.warnings[:5]]
    if len(found.warnings) > 5:
        lines.append(dim(f"  and {len(found.warnings) - 5} more such notes in the file"))
    lines.append(dim(f"  device file: {path}"))
    return "\n".join(lines)


def error_table(found: Calibration) -> str:
    """Predicted against measured at the points that no table saw: median and worst error of each kind."""
    groups: dict[tuple[str, str, str, str], list[float]] = {}
    for point in found.held_back:
        groups.setdefault((point.model, point.what, point.dtype, point.linear), []).append(abs(point.error))
    probed = {probe.model for probe in found.probes}
    rows = [
        [
            f"  {model}{'' if model in probed else ' (not probed)'}", what, dtype, linear, str(len(values)),
            f"{100 * median(values):.1f} %", f"{100 * max(values):.1f} %",
        ]
        for (model, what, dtype, linear), values in groups.items()
    ]  # fmt: skip
    return table(["steps predicted", "", "", "", "points", "median error", "worst"], rows, left=4)
