"""Answers `reconcile`: all that is known of one server, its log, its benchmarks and its /metrics, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.answers.advice import Advice, advice
from planner.answers.measured_beside import Beside, beside
from planner.answers.watch import WatchAnswer, watch_answer
from planner.catalogue.entries import known_model
from planner.engines.registry import ENGINES, family
from planner.errors import KvplanError, one_line
from planner.measured.metrics import Reading, served
from planner.measured.points import MeasuredPoint
from planner.measured.server_config import ServerConfig
from planner.memory.estimate import SCHEMA_VERSION
from planner.options.running import Load, Running
from planner.options.watch import WatchAsked
from planner.reconcile.ledger import Ledger
from planner.reconcile.model import BY_DIMENSIONS
from planner.shown import Shown
from planner.speed.observed import Observed
from planner.workloads.targets import Targets

SAY_LIMITS = ("vllm", "sglang")  # engines whose log says their share of the memory and the longest request


@dataclass(frozen=True, eq=False, repr=False)
class ServerAnswer(Shown):
    """What was read of a server, beside what is expected of it.

    files     as they were named
    ledgers   of its log: where memory went
    speeds    points of benchmarks and of /metrics, beside what is expected there
    load      what /metrics says; None without
    advice    what flags would change; None where nothing was measured, `no_advice` says why where it was
    """

    files: tuple[str, ...]
    gpu: str | None
    ledgers: tuple[Ledger, ...]
    speeds: tuple[Beside, ...] = ()
    load: WatchAnswer | None = None
    advice: Advice | None = None
    no_advice: str | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        found: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "file": self.files[0],
            "ledgers": [made.to_dict() for made in self.ledgers],
        }
        if self.speeds:
            found |= {
                "files": list(self.files),
                "speed": [one.to_dict() for one in self.speeds],
                "load": None if self.load is None else self.load.to_dict(),
                "advice": None if self.advice is None else self.advice.to_dict(),
                "no_advice": self.no_advice,
                "notes": list(self.notes),
            }
        return found


@dataclass(frozen=True)
class Read:
    """What the files of a server hold."""

    ledgers: tuple[Ledger, ...]
    points: tuple[MeasuredPoint, ...]
    metrics: tuple[tuple[str, Reading], ...]
    notes: tuple[str, ...]


def server_answer(files: Sequence[str], read: Read, running: Running, *, targets: Targets) -> ServerAnswer:
    """Puts what is expected beside what was read; `running` is what the flags say of the server."""
    points, load = list(read.points), None
    running = with_log(running, read.ledgers)
    model = next((name for made in read.ledgers if (name := model_of(made))), None)
    if read.metrics:
        said = read.metrics[-1][1].engine
        running = replace(running, engine=running.engine or (said if said in ENGINES else None))
        now = served(read.metrics[-1][1], read.metrics[-2][1] if len(read.metrics) > 1 else None)
        points.append(now.point(read.metrics[-1][0]))
        name = running.model or model
        asked = WatchAsked(
            None if running.config else name, running.gpu, running.tp, running.dtype, running.kv_dtype, targets,
            config=running.config, memory=running.memory,
        )  # fmt: skip
        load = watch_answer(asked, now, ServerConfig(slots=running.slots) if running.slots else None)
    running = running.with_own_share()
    speeds = beside(points, running, model) if points else ()
    found, why = _advice(speeds, running, model, targets=targets)
    if load is not None and found is not None:  # one answer on one page: by all points, not by /metrics alone
        load = replace(load, most_users=found.now.most_users, by=found.now.by)
    notes = (*read.notes, *_several(read, points))
    return ServerAnswer(tuple(files), running.gpu, read.ledgers, speeds, load, found, why, notes)


def _several(read: Read, points: Sequence[MeasuredPoint]) -> tuple[str, ...]:
    """A note where the files are of several models: one page is of one server."""
    served = {
        made.run.text("served") for made in read.ledgers if made.run is not None
    }  # what requests call a log's model
    names = [made.model or made.taken_as for made in read.ledgers]
    names += [point.model for point in points if point.model not in served]
    known = {_one_name(name): name for name in names if name}
    if len(known) < 2:
        return ()
    return (
        f"the files name several models, and one page is of one server: {one_line(', '.join(known.values()), 120)}",
    )


def model_of(made: Ledger) -> str | None:
    """Names the model of a log as kvplan knows it; where it knows the dimensions alone, as the log does."""
    return made.model if made.taken_as in (None, BY_DIMENSIONS) else made.taken_as


def _one_name(name: str) -> str:
    """A model's name in the catalogue, else what stands behind the last slash."""
    entry = known_model(name)
    return entry.name if entry is not None else name.rpartition("/")[2].lower()


def with_log(running: Running, ledgers: Sequence[Ledger]) -> Running:
    """Adds what the one log says of engine, layout and limits, where no flag does."""
    if len(ledgers) != 1:
        return running
    made = ledgers[0]
    found = replace(
        running,
        engine=running.engine or (made.engine if made.engine in ENGINES else None),
        tp=running.tp or made.tp,
        pp=running.pp or made.pp,
        kv_dtype=running.kv_dtype or made.kv_dtype,
    )
    if family(found.engine_name) not in SAY_LIMITS or made.run is None:
        return found
    longest = running.max_model_len or made.run.positive("max_model_len")
    slots = running.slots or made.run.positive("sequences") or made.run.positive("running_requests")
    return replace(found, share=running.share or made.run.share(), max_model_len=longest, slots=slots)


def _advice(
    speeds: Sequence[Beside], running: Running, model: str | None, *, targets: Targets
) -> tuple[Advice | None, str | None]:
    """What flags would change at the load of the last point, by the server's own times; or why that is not known."""
    known = [(one.point, found) for one in speeds if one.expected is not None and (found := one.point.observed())]
    loads = [(point, found) for point, found in known if found.output_tokens > 1]
    if not loads:
        return None, None
    point, now = max(loads, key=lambda item: (item[0].tool == "/metrics", item[1].batch * item[1].output_tokens))
    name = running.model or (None if running.config else model or point.model)
    engine = running.engine or (point.engine if point.engine in ENGINES else None)
    server = replace(running, model=name, engine=engine)
    if engine is None:
        server = replace(server, max_model_len=None, share=None)
    load = Load(now.batch, now.prompt_tokens, now.output_tokens)
    try:
        return advice(server, _alike([found for _, found in known]), load=load, targets=targets), None
    except KvplanError as refused:
        return None, str(refused)


def _alike(observed: Sequence[Observed]) -> list[Observed]:
    """At most so many points as are fitted at once."""
    from planner.speed.measured_fit import MOST_POINTS

    return list(observed[-MOST_POINTS:])
