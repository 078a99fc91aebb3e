"""`kvplan calibrate`: this machine's operator times, into a device file that every speed answer uses."""

from __future__ import annotations

from datetime import date
from statistics import median
from typing import Any

import click

from planner.answers.calibrated import StoreAnswer, store_answer
from planner.catalogue.entries import own_path
from planner.catalogue.own_speeds import to_json as own_json
from planner.files.write import check_file, make_parent
from planner.machine.calibration import Calibration, device_file_path
from planner.options.calibrated import StoreAsked
from planner.terminal.output import emit, to_json, write_whole
from planner.terminal.tables import bad, bold, dim, good, table, wrapped
from planner.units import bandwidth, human_seconds
from profiler.commands.calibrate_asked import CalibrateAsked, calibrate_asked, stored_asked
from profiler.commands.torch_wanted import want_torch

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
@click.option("--memory", metavar="SIZE", help="Of --from: memory of the device, where its name does not say: 64GiB.")
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
    output, as_json = values["output"], values["as_json"]
    if values["files"]:
        _store(stored_asked(values), output, as_json)
    else:
        _measure(calibrate_asked(values), output or device_file_path(), as_json)


def _measure(asked: CalibrateAsked, path: str, as_json: bool) -> None:
    """Measures this machine, writes the device file and says what it holds."""
    want_torch("kvplan calibrate")
    from planner.terminal.progress import Progress
    from profiler.calibrate import calibrate
    from profiler.device import choose

    make_parent(path)
    check_file(path)
    found = calibrate(
        asked.spec,
        device=choose(asked.device),
        dtypes=asked.dtypes,
        linears=asked.linears,
        progress=Progress(0),
    )
    write_whole(path, found.to_json())
    emit(found.to_json() if as_json else wrapped(page(found, path)))


def _store(asked: StoreAsked, output: str | None, as_json: bool) -> None:
    """Fits constants to points, writes them under a name and says what is stored."""
    answer = store_answer(asked, date.today().isoformat())
    path = output or own_path(answer.own.name)
    make_parent(path)
    write_whole(path, own_json(answer.own))
    emit(to_json(answer.to_dict()) if as_json else wrapped("\n".join(stored_page(answer, path))))


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
