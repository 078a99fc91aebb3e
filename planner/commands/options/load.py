"""The texts of `kvplan plan` -> Load, Targets, devices."""

from __future__ import annotations

import math
import re
from typing import Any

from planner.catalogue.device import Device
from planner.catalogue.entries import devices as catalogue_devices
from planner.commands.options.model import maybe_count
from planner.errors import BadRequest, UsageError, one_line
from planner.lookup import device as find_device
from planner.units import parse_tokens
from planner.workloads.lengths import LengthMix, parse_mix
from planner.workloads.load import Load, load, trace_hit_share
from planner.workloads.targets import Targets
from planner.workloads.traces import Trace, read_trace

GPU_VENDORS = ("NVIDIA", "AMD")  # others are searched when they are named


MAX_SECONDS = 86_400.0


MAX_RATE = 1e6


MAX_ROWS = 200_000  # of a trace: more say nothing new of lengths and rate


_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


_PER = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: str, what: str) -> float:
    """`40ms`, `1.5s`, `2m`; a unit is wanted.

    >>> parse_seconds("40ms", "--tpot"), parse_seconds("1.5 s", "--ttft")
    (0.04, 1.5)
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(us|ms|s|min|m|h)", text.strip(), re.ASCII)
    seconds = float(match.group(1)) * _UNITS[match.group(2)] if match else math.nan
    if not 0 < seconds <= MAX_SECONDS:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a time; write for example 40ms or 1.5s")
    return seconds


def parse_rate(text: str) -> float:
    """Requests a second: `5/s`, `300/min`, `1000/h`.

    >>> parse_rate("5/s"), parse_rate("300/min")
    (5.0, 5.0)
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(?:/\s*(s|m|min|h))?", text.strip(), re.ASCII)
    rate = float(match.group(1)) / _PER[match.group(2) or ""] if match else math.nan
    if not 0 < rate <= MAX_RATE:
        raise BadRequest(f"--rate {one_line(text, 40)!r} is not a number of requests a second; write for example 5/s")
    return rate


def parse_share(text: str, what: str) -> float:
    """`0.6` or `60%`.

    >>> parse_share("0.6", "--prefix-share"), parse_share("90 %", "--prefix-share")
    (0.6, 0.9)
    """
    match = re.fullmatch(r"(\d{0,3}(?:\.\d{1,9})?)\s*(%?)", text.strip(), re.ASCII)
    value = float(match.group(1)) / (100 if match.group(2) else 1) if match and match.group(1) else math.nan
    if not 0 <= value <= 1:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a share; write for example 0.6 or 60%")
    return value


def parse_ttft(text: str | None) -> tuple[float | None, float]:
    """(seconds, share of the requests): `1s` is for 95 of 100, `p99=2s` says another share.

    >>> parse_ttft("1s"), parse_ttft("p99=2s"), parse_ttft(None)
    ((1.0, 0.95), (2.0, 0.99), (None, 0.95))
    """
    if text is None:
        return None, 0.95
    match = re.fullmatch(r"p(\d{1,2}(?:\.\d{1,3})?)=(.{1,40})", text.strip(), re.ASCII)
    if match is None:
        return parse_seconds(text, "--ttft"), 0.95
    share = float(match.group(1)) / 100
    if not 0 < share < 1:
        raise BadRequest(f"--ttft {one_line(text, 40)!r}: write a percentile from p1 to p99.9, for example p99=2s")
    return parse_seconds(match.group(2), "--ttft"), share


def targets_of(values: dict[str, Any]) -> Targets:
    seconds, share = parse_ttft(values.get("ttft"))
    tpot = values.get("tpot")
    return Targets(seconds, None if tpot is None else parse_seconds(tpot, "--tpot"), share)


def mix_of(text: str, what: str) -> LengthMix:
    """`p50=800,p95=6000`, `1k`, or a file of lengths.

    >>> mix_of("1k", "--prompt").mean
    1024.0
    """
    if re.fullmatch(r"[\d_.]+[kKmM]?", text.strip(), re.ASCII):
        tokens = parse_tokens(text, what)
        return LengthMix({tokens: 1}, f"of {tokens:,} tokens")
    return parse_mix(text, what)


def clip(prompts: LengthMix, outputs: LengthMix, longest: int) -> tuple[LengthMix, LengthMix]:
    """Both within `longest` tokens together: outputs to half of it, prompts to what the longest output leaves."""
    if prompts.longest + outputs.longest <= longest:
        return prompts, outputs
    outputs = outputs.clipped(max(2, longest // 2))
    return prompts.clipped(max(1, longest - outputs.longest)), outputs


def load_of(values: dict[str, Any], max_positions: int | None) -> Load:
    """The load that the options describe, cut at the longest request that is served."""
    limit = _longest(values.get("longest"), max_positions)
    users, rate = maybe_count(values.get("users"), "--users"), values.get("rate")
    rate_per_s = None if rate is None else parse_rate(rate)
    think, share = values.get("think"), values.get("prefix_share")
    if think is not None and users is None:
        raise UsageError("--think is the pause of --users; requests of a --rate come whenever they come")
    given_share = None if share is None else parse_share(share, "--prefix-share")
    trace = None
    if values.get("trace") is not None:
        trace = _trace(values)
        prompts, outputs = trace.prompts, trace.outputs
        if users is None and rate_per_s is None:
            rate_per_s = trace.rate_per_s
            if rate_per_s is None:
                raise UsageError("--trace: this one has no times; add --rate 5/s or --users 200")
    else:
        for name in ("prompt", "output"):
            if values.get(name) is None:
                raise UsageError(f"how long? --{name} p50=800,p95=6000, or one length, or --trace FILE")
        prompts, outputs = mix_of(values["prompt"], "--prompt"), mix_of(values["output"], "--output")
    if limit is not None:
        prompts, outputs = clip(prompts, outputs, limit)
    return load(
        prompts,
        outputs,
        users=users,
        rate_per_s=rate_per_s,
        think_seconds=0.0 if think is None else parse_seconds(think, "--think"),
        prefix_share=given_share or (trace_hit_share(trace) if trace is not None and given_share is None else 0.0),
        prefix_common=trace is None or given_share is not None,
        pairs=None if trace is None else trace.pairs(),
        trace=trace,
    )


def _longest(text: str | None, max_positions: int | None) -> int | None:
    """The longest request served: as asked, else what the model takes."""
    if text is None:
        return max_positions
    asked = parse_tokens(text, "--longest")
    if max_positions and asked > max_positions:
        raise BadRequest(f"--longest {asked:,} is more than the {max_positions:,} positions of the model")
    if asked < 3:
        raise BadRequest(f"--longest {asked}: a prompt and two tokens of output are 3 at least")
    return asked


def _trace(values: dict[str, Any]) -> Trace:
    if values.get("prompt") is not None or values.get("output") is not None:
        raise UsageError("--trace has its own lengths; leave --prompt and --output out")
    return read_trace(values["trace"], MAX_ROWS)


def devices_of(values: dict[str, Any]) -> tuple[Device, ...]:
    """The devices named, or all GPUs of the catalogue that have a price."""
    texts = values.get("gpu") or ()
    names = list(dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip()))
    if names:
        return tuple({found.name: found for found in (find_device(name) for name in names)}.values())
    if texts:
        raise UsageError("--gpu names no device; write for example --gpu h100-sxm,l40s")
    return tuple(found for found in catalogue_devices() if found.prices and found.vendor in GPU_VENDORS)
