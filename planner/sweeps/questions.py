"""One point of a sweep -> one row: the question's figures in base units, or the one line that refuses it.

What names stand for (models, devices) is looked up once, by whoever starts the sweep, and handed to every worker:
so each of them computes on the same inputs, files and the user's own catalogue entries included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from planner.catalogue.device import Device
from planner.dtypes.names import kv_format, weight_format
from planner.engines.base import Options
from planner.errors import BadRequest, KvplanError, one_line
from planner.lookup import capacity, device, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.limits import fewest_devices, longest_context, most_sequences, pool_bytes
from planner.memory.request import Capacity, Request, device_capacity
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.sweeps.axes import COUNTS, LENGTHS, OF_QUESTION, Grid, Value
from planner.units import MAX_COUNT

Cell = str | int | float | bool | None
Row = tuple[Cell, ...]
Point = tuple[Value, ...]
Columns = tuple[tuple[str, str], ...]
T = TypeVar("T")

_ENGINE = (
    ("engine_version", "str"),
    ("engine_pool_bytes", "int"),
    ("engine_pool_tokens", "int"),
    ("engine_request_bytes", "int"),
    ("engine_most_requests", "int"),
)
_FIGURES = ("ttft_seconds", "tpot_seconds", "decode_tokens_per_s", "prefill_tokens_per_s", "request_seconds")
ANSWERS: dict[str, Columns] = {
    "estimate": (
        *((name, "int") for name in ("kv_bytes", "state_bytes", "kv_bytes_per_token", "parameters", "weight_bytes", "devices")),
        *((f"device_{name}_bytes", "int") for name in ("kv", "state", "weight", "activation", "overhead", "total")),
        ("device_total_bytes_low", "int"),
        ("device_total_bytes_high", "int"),
        ("capacity_bytes", "int"),
        ("free_bytes", "int"),
        ("fits", "bool"),
        *_ENGINE,
    ),
    "fit": (
        ("capacity_bytes", "int"),
        ("weight_bytes", "int"),
        ("pool_bytes", "int"),
        ("sequence_bytes", "int"),
        ("most_sequences", "int"),
        ("longest_context_tokens", "int"),
        ("fewest_devices", "int"),
        ("fewest_tp", "int"),
        ("fewest_pp", "int"),
        *_ENGINE,
    ),
    "speed": (
        ("devices", "int"),
        ("fits", "bool"),
        *((f"{name}{end}", "float") for name in _FIGURES for end in ("", "_low", "_high", "_bound")),
        ("tokens_per_s_user", "float"),
        ("decode_tokens_per_s_device", "float"),
        ("share_achieved", "float"),
        ("binds", "str"),
        ("constants_from", "str"),
    ),
}  # fmt: skip
_UNITS = {"seq": "seq_tokens", "prompt": "prompt_tokens", "output": "output_tokens"}


def columns(question: str) -> Columns:
    """Name and kind of every column: the axes, what came out, why nothing did, and a mark of the
    formulas and constants that say so.

    >>> columns("fit")[-2:]
    (('refused', 'str'), ('code_mark', 'str'))
    """
    axes = tuple(
        (_UNITS.get(axis, axis), "int" if axis in COUNTS or axis in LENGTHS else "str")
        for axis in OF_QUESTION[question]
    )
    return (*axes, *ANSWERS[question], ("refused", "str"), ("code_mark", "str"))


@dataclass(frozen=True, eq=False)
class Shared:
    """What the points have in common: each name's meaning, or the line that refuses it."""

    question: str
    mark: str
    models: Mapping[str, ModelSpec | str]
    devices: Mapping[str, Device | str]
    rooms: Mapping[str, Capacity | str]


def shared_of(grid: Grid, mark: str, *, assume: str | None = None, online: bool = False) -> Shared:
    """Every name of the grid looked up once."""

    def models(name: str) -> ModelSpec:
        return model_spec(name, assume=assume, online=online)

    names, sizes = _texts(grid, "gpu"), _texts(grid, "memory")
    return Shared(
        question=grid.question,
        mark=mark,
        models={name: _or_reason(models, name) for name in _texts(grid, "model")},
        devices={name: _or_reason(device, name) for name in names},
        rooms={name: _or_reason(_device_room, name) for name in names}
        | {size: _or_reason(_plain_room, size) for size in sizes},
    )


def _texts(grid: Grid, axis: str) -> list[str]:
    return [str(value) for value in grid.given.get(axis, ())]


def _device_room(gpu: str) -> Capacity:
    return device_capacity(device(gpu))


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
    """The row of one point; never raises a KvplanError."""
    asked = dict(zip(OF_QUESTION[shared.question], point, strict=True))
    names = [name for name, _ in ANSWERS[shared.question]]
    try:
        found, reason = _ANSWER[shared.question](shared, asked), None
        if any(type(value) is int and not -(1 << 63) <= value < 1 << 63 for value in found.values()):
            raise BadRequest("a figure is beyond 64 bits; take smaller numbers")
    except KvplanError as error:
        found, reason = {}, one_line(str(error), 300)
    return (*point, *(found.get(name) for name in names), reason, shared.mark)


def answer_rows(shared: Shared, points: Sequence[Point]) -> list[Row]:
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


def _asked_estimate(shared: Shared, asked: dict[str, Value]) -> Estimate:
    spec = _named(shared.models, asked["model"])
    name = asked["gpu"] if asked.get("memory") is None else asked["memory"]
    room = None if name is None else _named(shared.rooms, name)
    seq = asked["seq"] if "seq" in asked else int(asked["prompt"] or 0) + int(asked["output"] or 0)
    return estimate(spec, _request(asked, int(seq or min(spec.max_positions or 8192, 8192))), room)


def _estimate(shared: Shared, asked: dict[str, Value]) -> dict[str, Cell]:
    answer = _asked_estimate(shared, asked)
    known, fullest = answer.spec.weights_known, answer.per_device
    low, high = fullest.total_range
    return {
        "kv_bytes": answer.kv_bytes,
        "state_bytes": answer.state_bytes,
        "kv_bytes_per_token": answer.kv_bytes_per_token,
        "parameters": answer.parameters if known else None,
        "weight_bytes": answer.weight_bytes if known else None,
        "devices": answer.request.sharding.devices,
        "device_kv_bytes": fullest.kv_bytes,
        "device_state_bytes": fullest.state_bytes,
        "device_weight_bytes": fullest.weight_bytes if known else None,
        "device_activation_bytes": fullest.activation.bytes if known else None,
        "device_overhead_bytes": fullest.overhead_bytes,
        "device_total_bytes": fullest.total_bytes if known else None,
        "device_total_bytes_low": low if known else None,
        "device_total_bytes_high": high if known else None,
        "capacity_bytes": answer.capacity.bytes if answer.capacity else None,
        "free_bytes": answer.free_bytes,
        "fits": answer.fits,
    } | _engine(answer, asked)


def _fit(shared: Shared, asked: dict[str, Value]) -> dict[str, Cell]:
    answer = _asked_estimate(shared, asked)
    spec, request, room = answer.spec, answer.request, answer.capacity
    assert room is not None
    one = estimate(spec, replace(request, batch=1), room)
    most = most_sequences(spec, request, room)
    fewest = fewest_devices(spec, request, room)
    return {
        "capacity_bytes": room.bytes,
        "weight_bytes": one.weight_bytes,
        "pool_bytes": pool_bytes(one),
        "sequence_bytes": one.per_device.sequence_bytes,
        "most_sequences": None if most >= MAX_COUNT else most,
        "longest_context_tokens": longest_context(spec, request, room),
        "fewest_devices": None if fewest is None else fewest.devices,
        "fewest_tp": None if fewest is None else fewest.sharding.tp,
        "fewest_pp": None if fewest is None else fewest.sharding.pp,
    } | _engine(answer, asked)


def _engine(answer: Estimate, asked: dict[str, Value]) -> dict[str, Cell]:
    if asked["engine"] is None:
        return {}
    from planner.answers.engine import engine_answer  # only where an engine is asked
    from planner.engines.registry import parse_engine
    from planner.options.engine import EngineAsked

    found = engine_answer(EngineAsked(*parse_engine(str(asked["engine"])), Options()), answer)
    pool = None if found.ranged is None else found.ranged.pool
    return {
        "engine_version": found.version,
        "engine_pool_bytes": None if pool is None else pool.bytes,
        "engine_pool_tokens": None if pool is None else pool.tokens,
        "engine_request_bytes": found.request_bytes,
        "engine_most_requests": found.most_requests,
    }


def _speed(shared: Shared, asked: dict[str, Value]) -> dict[str, Cell]:
    from planner.speed.speed import speed  # only of this question

    answer = _asked_estimate(shared, asked)
    card = _named(shared.devices, asked["gpu"])
    found = speed(
        answer,
        card,
        prompt_tokens=int(asked["prompt"] or 0),
        output_tokens=int(asked["output"] or 0),
        batch=int(asked["batch"] or 1),
        load=str(asked["load"] or "serving"),
        engine=None if asked["engine"] is None else str(asked["engine"]),
    ).to_dict()
    return {**found, "fits": answer.fits}


_ANSWER: dict[str, Callable[[Shared, dict[str, Value]], dict[str, Cell]]] = {
    "estimate": _estimate,
    "fit": _fit,
    "speed": _speed,
}
