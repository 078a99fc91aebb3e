"""`kvplan calibrate`: this machine's operator times, into a device file that every speed answer uses."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from statistics import median
from typing import Any

import click

from planner.answers.calibrated import StoreAnswer, store_answer
from planner.catalogue.entries import own_path
from planner.catalogue.own_speeds import to_json as own_json
from planner.dtypes.names import float_dtype
from planner.errors import BadRequest, UsageError, one_line
from planner.files.write import check_file, make_parent
from planner.lookup import model_spec
from planner.machine.calibration import Calibration, device_file_path
from planner.options.calibrated import store_asked
from planner.terminal.output import emit, to_json, write_whole
from planner.terminal.tables import bad, bold, dim, good, table, wrapped
from planner.units import bandwidth, human_seconds
from profiler.commands.torch_wanted import want_torch

OF_FROM = ("name", "gpu", "engine", "tp", "kv_dtype")
MOST_SHOWN = 12


@click.command(name="calibrate", epilog="Example: kvplan calibrate; kvplan calibrate --model llama-3.2-1b --dtype bf16")
@click.option(
    "--model",
    metavar="NAME",
    help="The model whose shapes are measured exactly and whose steps are probed (default: gpt2); of --from: the one that was served.",
)
@click.option(
    "--dtype", metavar="LIST", help="fp32, fp16, bf16: a list (default: fp32,bf16); of --from: how weights are stored."
)
@click.option("--linear", help="plain or packed (default: both where the device has both).")
@click.option("--device", metavar="NAME", help="cuda, cuda:N, mps or cpu (default: the fastest that is there).")
@click.option(
    "--from",
    "files",
    metavar="FILE...",
    multiple=True,
    help="Store constants fitted to a benchmark's files, or points by hand, of your own server; nothing is measured here. Repeatable.",
)
@click.option(
    "--name", metavar="NAME", help="Of --from: store them under NAME, then --gpu NAME uses them (default: mine)."
)
@click.option("--gpu", metavar="NAME", help="Of --from: the device that was measured.")
@click.option("--engine", metavar="NAME", help="Of --from: the engine, where the files do not say: vllm, llamacpp ...")
@click.option("--tp", metavar="N", help="Of --from: tensor-parallel ranks.")
@click.option("--kv-dtype", metavar="D", help="Of --from: how K and V are stored.")
@click.option("--json", "as_json", is_flag=True, help="The device file as JSON on the screen.")
@click.option("-o", "--output", metavar="FILE", help="Write to FILE (default: local-device.json in the config folder).")
def command(**values: Any) -> None:
    """Measure bandwidth, product rates, attention and overheads of this machine, in under two minutes.

    The device file is what `--gpu local` and predicted speeds use. At the end steps that were not used are predicted
    and measured, and the error is printed. Close other programs first.

    With --from nothing is measured: constants are fitted to your own points, on any device of `kvplan gpus`, and stored
    under a name that --gpu takes in every command (docs/measured.md).
    """
    if values["files"]:
        _store(values)
        return
    if given := [f"--{name.replace('_', '-')}" for name in OF_FROM if values[name] is not None]:
        raise UsageError(f"{', '.join(given)} go with --from FILE, which says what was measured")
    want_torch("kvplan calibrate")
    from planner.terminal.progress import Progress
    from profiler.calibrate import calibrate
    from profiler.device import choose

    spec = model_spec(values["model"] or "gpt2")
    linears = None if values["linear"] is None else _linears(values["linear"])
    path = values["output"] or device_file_path()
    make_parent(path)
    check_file(path)
    found = calibrate(
        spec,
        device=choose(values["device"]),
        dtypes=_dtypes(values["dtype"] or "fp32,bf16"),
        linears=linears,
        progress=Progress(0),
    )
    write_whole(path, found.to_json())
    emit(found.to_json() if values["as_json"] else wrapped(page(found, path)))


def _store(values: Mapping[str, Any]) -> None:
    """Fits constants to points, writes them under a name and says what is stored."""
    if values["linear"] is not None or values["device"] is not None:
        raise UsageError("--linear and --device are of a measurement on this machine: leave them out with --from")
    answer = store_answer(store_asked(values["files"], values), date.today().isoformat())
    path = values["output"] or own_path(answer.own.name)
    make_parent(path)
    write_whole(path, own_json(answer.own))
    emit(to_json(answer.to_dict()) if values["as_json"] else wrapped("\n".join(stored_page(answer, path))))


def stored_page(answer: StoreAnswer, path: str) -> list[str]:
    """Writes what is stored, how well its points were met when left out, and how it is used."""
    own, fit = answer.own, answer.fit
    of = f"{own.model}{' with ' + own.engine if own.engine else ''} on {own.device}"
    lines = [bold(f"{own.name}  {of}"), good(f"STORED: {own.words}."), ""]
    rows = [
        [f"  {point.source}", f"{point.batch:,}", f"{point.prompt_tokens:,}+{point.output_tokens:,}", _time(point.ttft_seconds), _time(point.tpot_seconds)]
        for point in own.points[:MOST_SHOWN]
    ]  # fmt: skip
    lines.append(table(["  point", "at once", "lengths", "TTFT", "TPOT"], rows))
    if len(own.points) > MOST_SHOWN:
        lines.append(dim(f"  and {len(own.points) - MOST_SHOWN} more points"))
    low, high = fit.constants.tpot_low, fit.constants.tpot_high
    lines += [
        f"  range of TPOT x{low:.2f} to x{high:.2f} for this model and format; of others no narrower than as shipped",
        f"  use it: kvplan speed {own.model} --gpu {own.name}; as well in fit, plan, simulate, check and watch",
    ]
    lines += [bad("  note: ") + note for note in answer.notes]
    return [*lines, dim(f"  beside: {answer.base.origin}"), dim(f"  file: {path}")]


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else human_seconds(seconds)


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
    """Writes the short answer for a screen."""
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
    """Writes predicted against measured at the points that no table saw: median and worst error of each kind."""
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
