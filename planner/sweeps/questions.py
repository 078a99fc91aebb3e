"""One point of a sweep -> one row: the question's figures in base units, or the one line that refuses it.

What names stand for (models, devices) is looked up once, by whoever starts the sweep, and handed to every worker:
so each of them computes on the same inputs, files and the user's own catalogue entries included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from planner.answers.estimate import estimate_answers
from planner.answers.fit import fit_answer
from planner.catalogue.device import Device
from planner.dtypes.names import kv_format, weight_format
from planner.errors import BadRequest, KvplanError, one_line
from planner.lookup import capacity, device, machine, model_spec
from planner.memory.request import Capacity, Request, device_capacity
from planner.memory.sharding import Sharding
from planner.model.positions import scaled
from planner.model.spec import ModelSpec
from planner.options.estimate import EstimateAsked
from planner.options.fit import FitAsked
from planner.options.model import usual_tokens
from planner.options.readers import choice
from planner.sweeps.axes import COUNTS, LENGTHS, OF_QUESTION, Grid, Value
from planner.terminal.output import flat

if TYPE_CHECKING:
    from planner.options.engine import EngineAsked

Cell = str | int | float | bool | None
Row = tuple[Cell, ...]
Point = tuple[Value, ...]
Columns = tuple[tuple[str, str], ...]
T = TypeVar("T")

FORMULAS = 2
"""The version of the formulas and constants: rows of another one are computed again by `--resume`.

A change of a number is a line in CHANGELOG.md, a new version here, and new digits in tests/planner/sweeps/test_formulas.py.
"""

_ENGINE = (
    ("engine.version", "str"),
    ("engine.pool_bytes", "int"),
    ("engine.pool_tokens", "int"),
    ("engine.request_bytes", "int"),
    ("engine.most_requests", "int"),
    ("engine.fits", "bool"),
)
_FIGURES = ("ttft_seconds", "tpot_seconds", "decode_tokens_per_s", "prefill_tokens_per_s", "request_seconds")
# Each column is called as its key in --json; a nested key is joined by a dot.
ANSWERS: dict[str, Columns] = {
    "estimate": (
        *((name, "int") for name in ("kv_bytes", "state_bytes", "kv_bytes_per_token", "parameters", "weight_bytes", "devices")),
        *((f"per_device.{name}_bytes", "int") for name in ("kv", "state", "weight", "activation", "overhead", "total")),
        ("per_device.total_bytes_low", "int"),
        ("per_device.total_bytes_high", "int"),
        ("per_device.capacity_bytes", "int"),
        ("per_device.free_bytes", "int"),
        ("per_device.fits", "bool"),
        ("verdict", "str"),
        *_ENGINE,
    ),
    "fit": (
        ("capacity_bytes", "int"),
        ("weight_bytes", "int"),
        ("pool_bytes", "int"),
        ("sequence_bytes", "int"),
        ("most_sequences", "int"),
        ("longest_context_tokens", "int"),
        ("fewest_devices.devices", "int"),
        ("fewest_devices.tp", "int"),
        ("fewest_devices.pp", "int"),
        ("verdict", "str"),
        *_ENGINE,
    ),
    "speed": (
        ("devices", "int"),
        ("fits", "bool"),
        ("verdict", "str"),
        *((f"{name}{end}", "float") for name in _FIGURES for end in ("", "_low", "_high", "_bound")),
        ("tokens_per_s_user", "float"),
        ("decode_tokens_per_s_device", "float"),
        ("share_achieved", "float"),
        ("binds", "str"),
        ("constants_from", "str"),
    ),
}  # fmt: skip
_UNITS = {"seq": "seq_tokens", "prompt": "prompt_tokens", "answer": "output_tokens"}


def columns(question: str) -> Columns:
    """Name and kind of every column: the axes, what came out, why nothing did, and a mark of the
    formulas, the model and the device that say so.

    >>> columns("fit")[-2:]
    (('refused', 'str'), ('formulas', 'str'))
    """
    axes = tuple(
        (_UNITS.get(axis, axis), "int" if axis in COUNTS or axis in LENGTHS else "str")
        for axis in OF_QUESTION[question]
    )
    return (*axes, *ANSWERS[question], ("refused", "str"), ("formulas", "str"))


@dataclass(frozen=True, eq=False)
class Shared:
    """What the points have in common: each name's meaning, or the line that refuses it, and a mark of each meaning."""

    question: str
    marks: Mapping[str, str]
    models: Mapping[str, ModelSpec | str]
    devices: Mapping[str, Device | str]
    rooms: Mapping[str, Capacity | str]


def shared_of(
    grid: Grid, *, assume: str | None = None, online: bool = False, rope_scaling: float | None = None
) -> Shared:
    """Looks every name of the grid up once."""

    def models(name: str) -> ModelSpec:
        return scaled(model_spec(name, assume=assume, online=online), rope_scaling)

    names, sizes = _texts(grid, "gpu"), _texts(grid, "memory")
    specs = {name: _or_reason(models, name) for name in _texts(grid, "model")}
    devices = {name: _or_reason(_one_device, name) for name in names}
    rooms: dict[str, Capacity | str] = {
        name: found if isinstance(found, str) else device_capacity(found) for name, found in devices.items()
    }
    rooms |= {size: _or_reason(_plain_room, size) for size in sizes}
    marks = {f"model {name}": mark_of(found) for name, found in specs.items()}
    marks |= {f"gpu {name}": mark_of(found) for name, found in devices.items()}
    return Shared(grid.question, marks, specs, devices, rooms)


def mark_of(meaning: object) -> str:
    """Returns eight digits that change when what a name stands for does."""
    return hashlib.sha256(repr(_facts(meaning)).encode()).hexdigest()[:8]


def _facts(value: object) -> object:
    """All that a value holds, without addresses: many classes have a repr for people, or none of their own."""
    if is_dataclass(value):
        return type(value).__name__, [_facts(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, Mapping):
        return {key: _facts(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return [_facts(one) for one in value] if isinstance(value, (list, tuple)) else value


def mark(shared: Shared, point: Point) -> str:
    """Returns the mark of a row: the version of the formulas, and what its model and its device stand for."""
    asked = dict(zip(OF_QUESTION[shared.question], point, strict=True))
    parts = [shared.marks.get(f"{axis} {asked.get(axis)}") for axis in ("model", "gpu")]
    return "-".join([str(FORMULAS), *(part for part in parts if part)])


def _texts(grid: Grid, axis: str) -> list[str]:
    return [str(value) for value in grid.given.get(axis, ())]


def _one_device(name: str) -> Device:
    """One device by its name; how many of them is an axis of the grid."""
    found = machine(name)
    if found.mixed:
        raise BadRequest(f"{one_line(name, 60)!r}: unlike cards are no point of a grid; kvplan fit --gpu takes them")
    if found.count > 1:
        raise BadRequest(
            f"{one_line(name, 60)!r} names {found.count} devices; their number is an axis: gpu={found.devices[0].name} "
            f"tp={found.count}"
        )
    return device(name)


def _plain_room(memory: str) -> Capacity:
    found = capacity(None, memory)
    assert found is not None
    return found


def _or_reason(look_up: Callable[[str], T], name: str) -> T | str:
    try:
        return look_up(name)
    except KvplanError as error:
        return one_line(str(error), 300)


def answer_row(shared: Shared, point: Point) -> Row:
    """Answers one point as a row; never raises a KvplanError."""
    asked = dict(zip(OF_QUESTION[shared.question], point, strict=True))
    names = [name for name, _ in ANSWERS[shared.question]]
    try:
        found, reason = dict(flat(_ANSWER[shared.question](shared, asked))), None
        if any(type(value) is int and not -(1 << 63) <= value < 1 << 63 for value in found.values()):
            raise BadRequest("a figure is beyond 64 bits; take smaller numbers")
    except KvplanError as error:
        found, reason = {}, one_line(str(error), 300)
    cells = (found.get(name) for name in names)
    return (*point, *(None if cell == "" else cell for cell in cells), reason, mark(shared, point))


def answer_rows(shared: Shared, points: Sequence[Point]) -> list[Row]:
    """Answers several points, a row each."""
    return [answer_row(shared, point) for point in points]


def _named(table: Mapping[str, T | str], name: Value) -> T:
    found = table[str(name)]
    if isinstance(found, str):
        raise BadRequest(found)
    return found


def _request(asked: dict[str, Value], seq_tokens: int) -> Request:
    dtype, kv_dtype = (None if asked[name] is None else str(asked[name]) for name in ("dtype", "kv_dtype"))
    if dtype is not None:
        weight_format(dtype)
    if kv_dtype is not None:
        kv_format(kv_dtype)
    ranks = {name: int(asked[name] or 1) for name in ("tp", "pp", "ep", "dp", "dcp")}
    return Request(seq_tokens, int(asked["batch"] or 1), dtype, kv_dtype, kv_dtype, sharding=Sharding(**ranks))


def _engine(asked: dict[str, Value]) -> EngineAsked | None:
    if asked["engine"] is None:
        return None
    from planner.engines.base import Options  # only where an engine is asked
    from planner.engines.registry import parse_engine
    from planner.options.engine import EngineAsked

    return EngineAsked(*parse_engine(str(asked["engine"])), Options())


def _room(shared: Shared, asked: dict[str, Value]) -> Capacity | None:
    name = asked["gpu"] if asked.get("memory") is None else asked["memory"]
    return None if name is None else _named(shared.rooms, name)


def _estimate(shared: Shared, asked: dict[str, Value]) -> dict[str, Any]:
    spec = _named(shared.models, asked["model"])
    request = _request(asked, int(asked["seq"] or 0))
    question = EstimateAsked(spec, (request,), _room(shared, asked), _engine(asked))
    return estimate_answers(question)[0].to_dict()


def _fit(shared: Shared, asked: dict[str, Value]) -> dict[str, Any]:
    spec, room = _named(shared.models, asked["model"]), _room(shared, asked)
    assert room is not None
    request = _request(asked, int(asked["seq"] or usual_tokens(spec)))
    answer = fit_answer(FitAsked(spec, request, room, engine=_engine(asked)))
    return answer.figures() | ({} if answer.engine is None else {"engine": answer.engine.to_dict()})


def _speed(shared: Shared, asked: dict[str, Value]) -> dict[str, Any]:
    from planner.answers.speed import speed_on  # only of this question
    from planner.options.speed import SpeedAsked
    from planner.speed.speed import LOADS

    spec, card = _named(shared.models, asked["model"]), _named(shared.devices, asked["gpu"])
    prompt, output, batch = (int(asked[name] or 1) for name in ("prompt", "answer", "batch"))
    question = SpeedAsked(
        spec,
        _request({**asked, "batch": 1}, prompt + output),
        (card,),
        prompt_tokens=prompt,
        output_tokens=output,
        batches=(batch,),
        load=None if asked["load"] is None else choice(*LOADS)(str(asked["load"]), "load"),
        engine=_engine(asked),
    )
    answer = speed_on(card, question)
    return answer.batches()[0] | {"devices": question.request.sharding.devices}


_ANSWER: dict[str, Callable[[Shared, dict[str, Value]], dict[str, Any]]] = {
    "estimate": _estimate,
    "fit": _fit,
    "speed": _speed,
}
