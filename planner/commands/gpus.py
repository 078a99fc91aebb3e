"""`kvplan gpus`: the device catalogue."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from planner.catalogue.device import Device
from planner.catalogue.entries import devices, measured_device, measured_names
from planner.commands.click_options import Sectioned, with_flags
from planner.errors import UnknownName, one_line
from planner.options.model import Output, output_of
from planner.options.tables import OUTPUT
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import table
from planner.units import bandwidth, flops, gib, plural


@click.command(cls=Sectioned, name="gpus", epilog="\b\nExample: kvplan gpus rtx; kvplan gpus local")
@click.argument("query", required=False)
@with_flags(OUTPUT)
def command(query: str | None, **values: Any) -> None:
    """Devices by name or vendor: memory as the driver reports it, bandwidth, dense FLOP/s.

    `kvplan gpus local` shows the device of this machine; those that `kvplan calibrate --from` stored are listed last.
    """
    output = output_of(values)
    if query is not None and query.strip().lower() == "local":
        from planner.machine.device import local_device  # asks the driver

        found = [local_device()]
    else:
        found = devices(query) + _measured(query)
    if not found:
        raise UnknownName(f"no device matches {one_line(query or '', 60)!r}; `kvplan gpus` lists all of them")
    emit(_render(found, output), output.path)


def _measured(query: str | None) -> list[Device]:
    """The devices that the user measured; with a query those whose stored name holds it."""
    asked = (query or "").strip().lower()
    return [device for name in measured_names() if asked in name and (device := measured_device(name)) is not None]


def _render(found: list[Device], output: Output) -> str:
    rows: list[dict[str, Any]] = [{**asdict(device), "memory_bytes": device.memory_bytes or None} for device in found]
    if output.as_json:
        return to_json(rows)
    if output.as_csv:
        for row in rows:
            row["prices"] = [f"{p['usd_per_hour']} USD/h {p['provider']} {p['date']}" for p in row["prices"]]
        return to_csv(rows)
    cells = [_cells(device) for device in found]
    return (
        table(
            ["device", "vendor", "memory", "bandwidth", "bf16 dense", "from (USD/h)"],
            cells,
            left=2,
            drop=("from (USD/h)", "vendor"),
        )
        + f"\n{plural(len(found), 'device')}"
    )


def _cells(device: Device) -> list[str]:
    rate = device.dense_flops_per_s.get("bf16") or device.dense_flops_per_s.get("fp16")
    cheapest = min(device.prices, key=lambda price: price.usd_per_hour, default=None)
    return [
        device.name,
        device.vendor or "-",
        gib(device.memory_bytes) if device.memory_bytes else "as put in",
        bandwidth(device.bandwidth_bytes_per_s) if device.bandwidth_bytes_per_s else "-",
        flops(rate) if rate else "-",
        f"{cheapest.usd_per_hour:.2f} ({cheapest.date})" if cheapest else "-",
    ]
