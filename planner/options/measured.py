"""Reads --measured: a point written by hand, a benchmark's file, or several of both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import estimate
from planner.memory.limits import tensor_parallel_devices
from planner.memory.request import Request, device_capacity
from planner.model.spec import ModelSpec
from planner.options.readers import text as read_text
from planner.options.tables import Flag
from planner.speed.constants import constants_for
from planner.speed.measured_point import MEASURED_KEYS, observed_of
from planner.speed.observed import Observed
from planner.speed.work import work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.measured.points import MeasuredPoint

MEASURED = Flag(
    "--measured", "POINT|FILE...",
    'What was measured: a point, "tpot_ms=14.2 batch=8 seq=2048" (also ttft_ms, tok_s, prompt, answer), or the file of a '
    "benchmark (docs/measured.md). Repeatable.",
    read_text, "Device",
)  # fmt: skip


@dataclass(frozen=True)
class MeasuredAsked:
    """What --measured gave.

    text     one point and nothing else: the constants are scaled to it
    points   several points, or those of files: the constants are fitted to them
    notes    what of the files is not part of that
    models, engines   that the files name
    """

    text: str | None = None
    points: tuple[Observed, ...] = ()
    notes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()


def measured_of(
    texts: Sequence[str] | str | None, *, load: str, prompt_tokens: int, output_tokens: int
) -> MeasuredAsked | None:
    """Reads the points of all --measured; None without one.

    A text names a file where one is there, or where it holds no key of a point; the load and the lengths are those of
    points by hand that do not name them.
    """
    given = (texts,) if isinstance(texts, str) else tuple(texts or ())
    if not given:
        return None
    if len(given) == 1 and not _is_file(given[0]):
        return MeasuredAsked(text=given[0])
    points, notes = list[Observed](), list[str]()
    read: list[MeasuredPoint] = []
    for text in given:
        if _is_file(text):
            from planner.measured.reader import read_measured  # a reader a format, which most questions have no use for

            file = read_measured(text, "--measured")
            found = [observed for point in file.points if (observed := point.observed()) is not None]
            notes += [f"{text}: {note}" for note in file.notes]
            read += file.points
            if len(found) < len(file.points):
                notes.append(
                    f"{text}: {len(file.points) - len(found)} of {len(file.points)} points do not say {WANTED}"
                )
            points += found
        else:
            points.append(observed_of(text, load=load, prompt_tokens=prompt_tokens, output_tokens=output_tokens))
    if not points:
        raise BadRequest(f"--measured: no point says {WANTED}" + (f"; {notes[0]}" if notes else ""))
    models, engines = (
        tuple(dict.fromkeys(filter(None, (getattr(p, key) for p in read)))) for key in ("model", "engine")
    )
    return MeasuredAsked(None, tuple(points), tuple(dict.fromkeys(notes)), models, engines)


def points_of(texts: Sequence[str] | str | None) -> MeasuredAsked | None:
    """Reads the points of all --measured; one by hand is taken as of a server under load where it names no other. None
    without one.
    """
    found = measured_of(texts, load="serving", prompt_tokens=1024, output_tokens=256)
    if found is None or found.text is None:
        return found
    point = observed_of(found.text, load="serving", prompt_tokens=1024, output_tokens=256)
    return replace(found, text=None, points=(point,))


def measured_on(
    device: Device, points: MeasuredAsked, *, spec: ModelSpec, request: Request, engine: str | None
) -> Device:
    """Returns `device` with constants made of points that were measured on it, for questions that try other layouts and
    formats.

    The points are taken as of the formats of `request` and of its layout; where it has none, on the fewest devices that
    hold the model and the largest of them, as servers are started. Other layouts and formats are stretched alike.
    """
    from planner.speed.measured_fit import fitted
    from planner.speed.own import own_speed

    room = device_capacity(device)
    largest = max(points.points, key=lambda point: point.batch * (point.prompt_tokens + point.output_tokens))
    whole = replace(request, seq_tokens=largest.prompt_tokens + largest.output_tokens, batch=largest.batch)
    sharding = request.sharding
    if sharding.devices == 1:
        layout = tensor_parallel_devices(spec, whole, room)
        if layout is None:
            raise BadRequest(
                f"--measured: no number of {device.name} holds {largest.batch:,} requests of the largest point"
            )
        sharding = layout.sharding
    one = estimate(spec, replace(whole, sharding=sharding, batch=1), room)
    base = constants_for(engine, device)
    fit = fitted(points.points, one, device, base=base)
    own = own_speed(
        fit, points.points, base, name="--measured", device=device.name,
        engine=engine or "", model=spec.name, shape=work(one).shape, date="",
    )  # fmt: skip
    count = f"{sharding.devices} x {device.name}" if sharding.devices > 1 else f"one {device.name}"
    words = f"{own.words}; taken as of {count}, weights in {one.plan.fmt.name}, KV in {one.fmt.name}"
    return replace(device, own=replace(own, words=words))


WANTED = "requests at once, lengths, and TTFT or TPOT"


def _is_file(text: str) -> bool:
    if any(f"{key}=" in text for key in MEASURED_KEYS) and not os.path.lexists(text):
        return False
    return (
        os.path.lexists(text)
        or "/" in text
        or text.lower().endswith((".json", ".jsonl", ".csv", ".md", ".yaml", ".yml", ".txt"))
    )
