"""Scales the constants of a speed so that a measured point is met."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.speed.constants import Constants, constants_for
from planner.speed.observed import Observed
from planner.speed.speed import model_constants, speed
from planner.speed.work import work
from planner.units import parse_tokens

MEASURED_KEYS = ("tpot_ms", "ttft_ms", "tok_s", "batch", "seq", "prompt", "answer", "output")


# What holds nine of ten values at other batches and lengths of the deployment (benchmarks/measured_point.py).
MEASURED_SPREAD = {"tpot": 1.25, "tpot of experts": 1.4, "ttft": 1.5}


def with_measured_point(  # parameters: the quantities of its equation, each by name
    text: str, estimate: Estimate, device: Device, *, load: str = "serving", engine: str | None = None,
    prompt_tokens: int | None = None, output_tokens: int | None = None,
) -> Constants:  # fmt: skip
    """Returns constants that give exactly what was measured at one point, for other loads of the same model, device and
    engine.

    `text`: "tpot_ms=14.2 batch=8 seq=2048", also ttft_ms, or tok_s (of all sequences) in place of tpot_ms; `seq` is
    the mean context of the steps, or prompt and answer (also: output) say it apart; where the text names neither, `prompt_tokens` and
    `output_tokens`. All that a step takes is scaled alike, and all that a prefill takes, beside a request's way in.
    Raises BadRequest for anything else, and for a time below the bound of the device.
    """
    given = _measured(text)
    batch = int(given.get("batch", 1))
    prompt = int(given.get("prompt", given.get("seq", prompt_tokens or estimate.request.seq_tokens)))
    output = int(given.get("answer", given.get("output", 1 if "seq" in given else output_tokens or 128)))
    base = model_constants(constants_for(engine, device, load), work(estimate))
    found = speed(
        estimate, device, prompt_tokens=prompt, output_tokens=output, batch=batch, load=load if output > 1 else "static",
        constants=base,
    )  # fmt: skip
    if "tok_s" in given:
        given["tpot_ms"] = 1e3 * batch / given["tok_s"]
    queue = base.queue
    fixed = queue.seconds if found.load == "serving" and batch > 1 else base.request_seconds
    scales, way_in = dict[str, float](), fixed
    for key, figure in (("tpot_ms", found.tpot_seconds), ("ttft_ms", found.ttft_seconds)):
        if key in given:
            seconds = given[key] / 1e3
            if seconds < figure.bound:
                raise BadRequest(
                    f"--measured {key}={given[key]:g}: {device.name} cannot be faster than {figure.bound * 1e3:.3g} ms "
                    "at this point by its bandwidth and FLOP/s; check model, dtype, layout and units"
                )
            if key == "ttft_ms":
                way_in = min(fixed, seconds / 2)
                scales["ttft"] = (seconds - way_in) / (figure.value - fixed)
            else:
                scales["tpot"] = seconds / figure.value
    measured = base.scaled(**scales, origin=f"measured point given ({' '.join(text.split())}), beside: {base.origin}")
    spread: dict[str, Any] = {"request_seconds": min(base.request_seconds, way_in)}
    for name in scales:
        factor = MEASURED_SPREAD["tpot of experts" if name == "tpot" and work(estimate).experts else name]
        for end in (name, *(("experts",) if name == "tpot" else ())):
            spread |= {f"{end}_low": 1 / factor, f"{end}_high": factor}
        if name == "ttft":
            met = replace(queue, seconds=min(queue.seconds, way_in), low=1 / factor, high=factor)
            spread |= {"queue": met, "experts_queue": met}
    return replace(measured, **spread)


def observed_of(text: str, *, load: str, prompt_tokens: int, output_tokens: int) -> Observed:
    """Reads one of several points that were written by hand, by the rules of `with_measured_point`.

    >>> observed_of("tpot_ms=14.2 batch=8 seq=2k", load="serving", prompt_tokens=1024, output_tokens=128).prompt_tokens
    2048
    """
    given = _measured(text)
    batch = int(given.get("batch", 1))
    tpot = 1e3 * batch / given["tok_s"] if "tok_s" in given else given.get("tpot_ms")
    ttft = given.get("ttft_ms")
    return Observed(
        batch=batch,
        prompt_tokens=int(given.get("prompt", given.get("seq", prompt_tokens))),
        output_tokens=int(given.get("answer", given.get("output", 2 if "seq" in given else output_tokens))),
        load="static" if "seq" in given and not given.keys() & {"answer", "output"} else load,
        ttft_seconds=None if ttft is None else ttft / 1e3,
        tpot_seconds=None if tpot is None else tpot / 1e3,
        source="a point by hand",
    )


def _measured(text: str) -> dict[str, float]:
    wanted = 'write for example "tpot_ms=14.2 batch=8 seq=2048"'
    given: dict[str, float] = {}
    for word in text.replace(",", " ").split():
        key, equals, value = word.partition("=")
        whole = key in ("batch", "seq", "prompt", "answer", "output")
        try:
            number = float(parse_tokens(value, f"--measured {key}") if whole else value)
        except ValueError:
            number = math.nan
        if not equals or key not in MEASURED_KEYS or not 0 < number < 1e12:
            raise BadRequest(
                f"--measured {word[:40]!r} is not one of {', '.join(MEASURED_KEYS)} with a number; {wanted}"
            )
        given[key] = number
    if not given.keys() & {"tpot_ms", "ttft_ms", "tok_s"}:
        raise BadRequest(f"--measured names no tpot_ms, ttft_ms or tok_s; {wanted}")
    return given
