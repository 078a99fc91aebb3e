"""Reads the load of `plan` and the targets: Load, Targets, devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.catalogue.device import Device
from planner.catalogue.entries import devices as catalogue_devices
from planner.errors import BadRequest, UsageError, one_line
from planner.lookup import device as find_device
from planner.lookup import machine
from planner.options.readers import mix, text
from planner.options.tables import Flag
from planner.workloads.lengths import LengthMix
from planner.workloads.load import Load, load, trace_hit_share
from planner.workloads.targets import USUAL_TPOT_SECONDS, USUAL_TTFT_SECONDS, Targets
from planner.workloads.traces import Trace, read_trace

ANSWERS = Flag("--answer", "MIX", "Answer lengths: p50=200,p95=900, one length, or a file of lengths.", mix, "Load")
LINK = Flag("--link", "NAME|RATE", "What joins the pools of --disaggregate: nvlink, pcie, 200g, 400g (default), 800g, 10gbe, 25gbe, 100gbe, or 40GB/s; +5ms adds a latency.", text, "Layout")  # fmt: skip
GPU_VENDORS = ("NVIDIA", "AMD")  # others are searched when they are named
MAX_ROWS = 200_000  # of a trace: more say nothing new of lengths and rate


def clip(prompts: LengthMix, outputs: LengthMix, longest: int) -> tuple[LengthMix, LengthMix]:
    """Cuts prompts and outputs to `longest` tokens together: outputs to half of it, prompts to what the longest output
    leaves.
    """
    if prompts.longest + outputs.longest <= longest:
        return prompts, outputs
    outputs = outputs.clipped(max(2, longest // 2))
    return prompts.clipped(max(1, longest - outputs.longest)), outputs


def targets_of(given: Mapping[str, Any]) -> Targets:
    """Reads the targets that --ttft and --tpot ask for."""
    seconds, share = given.get("ttft") or (None, 0.95)
    return Targets(seconds, given.get("tpot"), share)


def targets_or_usual(given: Mapping[str, Any]) -> Targets:
    """Reads the targets of --ttft and --tpot, else takes what a person who reads along puts up with: some plan is
    always found.
    """
    asked = targets_of(given)
    if asked.ttft_seconds is None and asked.tpot_seconds is None:
        return Targets(USUAL_TTFT_SECONDS, USUAL_TPOT_SECONDS, asked.ttft_share, assumed=True)
    return asked


def load_of(given: Mapping[str, Any], max_positions: int | None) -> Load:
    """Reads the load that the flags describe, cut at the longest request that is served."""
    limit = _longest(given.get("longest"), max_positions)
    users, rate, share = given.get("users"), given.get("rate"), given.get("prefix_share")
    if given.get("think") is not None and users is None:
        raise UsageError("--think is the pause of --users; requests of a --rate come whenever they come")
    trace = trace_of(given, MAX_ROWS)
    if trace is not None and users is None and rate is None:
        rate = trace.rate_per_s
        if rate is None:
            raise UsageError("--trace: this one has no times; add --rate 5/s or --users 200")
    prompts, outputs = (trace.prompts, trace.outputs) if trace is not None else mixes_of(given)
    _refuse_too_long(prompts, outputs, max_positions)
    if limit is not None:
        prompts, outputs = clip(prompts, outputs, limit)
    return load(
        prompts,
        outputs,
        users=users,
        rate_per_s=rate,
        think_seconds=given.get("think") or 0.0,
        prefix_share=share or (trace_hit_share(trace) if trace is not None and share is None else 0.0),
        prefix_common=trace is None or share is not None,
        pairs=None if trace is None else trace.pairs(),
        trace=trace,
    )


def _refuse_too_long(prompts: LengthMix, outputs: LengthMix, max_positions: int | None) -> None:
    """Raises NoRoom where not one request is within the model's positions: what is left of them is another load."""
    shortest = min(prompts.counts) + min(outputs.counts)
    if max_positions is None or shortest <= max_positions:
        return
    from planner.serving.pools import NoRoom

    raise NoRoom(
        f"TOO LONG: the model has {max_positions:,} positions, and no request is shorter than {shortest:,} tokens; "
        "shorten --prompt and --answer, or give --rope-scaling where the model has RoPE"
    )


def mixes_of(given: Mapping[str, Any]) -> tuple[LengthMix, LengthMix]:
    """Reads --prompt and --answer, both of which are wanted where there is no trace."""
    for name in ("prompt", "answer"):
        if given.get(name) is None:
            raise UsageError(
                f"how long? --{name} p50=800,p95=6000, or one length; --seq 8k for both together, or --trace FILE"
            )
    return given["prompt"], given["answer"]


def trace_of(given: Mapping[str, Any], rows: int | None) -> Trace | None:
    """Reads the requests of --trace, at most `rows` of them; None without it."""
    if given.get("trace") is None:
        return None
    if given.get("prompt") is not None or given.get("answer") is not None:
        raise UsageError("--trace has its own lengths; leave --prompt and --answer out")
    return read_trace(given["trace"], rows)


def _longest(asked: int | None, max_positions: int | None) -> int | None:
    """The longest request served: as asked, else what the model takes."""
    if asked is None:
        return max_positions
    if max_positions and asked > max_positions:
        raise BadRequest(f"--longest {asked:,} is more than the {max_positions:,} positions of the model")
    if asked < 3:
        raise BadRequest(f"--longest {asked}: a prompt and two tokens of output are 3 at least")
    return asked


def _one_card(name: str) -> Device:
    """A device to search with; how many of it a plan takes is what it answers."""
    found = machine(name)
    if found.count > 1:
        cards = ",".join(dict.fromkeys(card.name for card in found.devices))
        raise BadRequest(
            f"--gpu {one_line(name, 40)} names {found.count} devices: a plan says how many, of one kind; write --gpu {cards}"
        )
    return find_device(name)


def devices_of(given: Mapping[str, Any]) -> tuple[Device, ...]:
    """Lists the devices that --gpu names, or all GPUs of the catalogue that have a price."""
    texts = given.get("gpu") or ()
    names = list(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))
    if names:
        return tuple({found.name: found for found in map(_one_card, names)}.values())
    if texts:
        raise UsageError("--gpu names no device; write for example --gpu h100-sxm,l40s")
    return tuple(found for found in catalogue_devices() if found.prices and found.vendor in GPU_VENDORS)
