"""Millions of configurations at once: model x layout x weight dtype x KV dtype x device x batch x length.

No formula lives here. For each model, layout and dtype the scalar path gives the few numbers that matter
(the cache bytes of one sequence at each length, the weights, the rate of the activations) and numpy spreads
them over batches, lengths and devices in exact 64-bit integers, block by block, so that memory stays bounded
however large the grid is. What would not fit in 63 bits is refused before it is computed.

numpy is loaded when the blocks are asked for, not before; it comes with `pip install 'llm-kvplan[grid]'`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from planner.dtypes.kinds import CacheFormat
from planner.errors import BadRequest, KvplanError
from planner.memory.activations import PREFILL_TOKENS, ActivationRate, OverheadLine, activation_rate, overhead_lines
from planner.memory.estimate import caches_on_rank, estimate, override_lines, rank_kv_bytes
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding, stages
from planner.model.spec import Layer, ModelSpec
from planner.units import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Bools = NDArray[np.bool_]

INT64_MAX = (1 << 63) - 1


BLOCK_CONFIGURATIONS = 1 << 18  # 2 MiB a column: small enough for the cache of a core, large enough for numpy


@dataclass(frozen=True, eq=False)
class GridBlock:
    """The answers for one model, layout and dtypes over [device, batch, length].

    Every array has that shape (read-only views where an axis does not matter) and holds what the scalar
    `Estimate.per_device` would say: bytes on the fullest device.
    """

    spec: ModelSpec
    sharding: Sharding
    dtype: str | None
    kv_dtype: str | None
    devices: tuple[Capacity, ...]
    batches: tuple[int, ...]
    lengths: tuple[int, ...]
    fits: Bools
    columns: _Columns = field(repr=False)
    capacities: Ints = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.devices), len(self.batches), len(self.lengths)

    @property
    def size(self) -> int:
        """Configurations answered."""
        return len(self.devices) * len(self.batches) * len(self.lengths)

    @property
    def kv_bytes(self) -> Ints:
        return self._spread(self.columns.kv)

    @property
    def state_bytes(self) -> Ints:
        return self._spread(self.columns.state)

    @property
    def weight_bytes(self) -> Ints:
        return self._spread(self.columns.weight)

    @property
    def activation_bytes(self) -> Ints:
        return self._spread(self.columns.activation)

    @property
    def overhead_bytes(self) -> Ints:
        return self._spread(self.columns.overhead)

    @property
    def total_bytes(self) -> Ints:
        return self._spread(self.columns.total)

    @property
    def free_bytes(self) -> Ints:
        """Computed when asked for: the only column besides `fits` that differs by device."""
        free: Ints = self.capacities - self.columns.total
        return free

    def point(self, device: int, batch: int, length: int) -> dict[str, int]:
        """One configuration as plain ints, with the keys of `per_device` in the JSON contract.

        `fits` is 0 or 1.
        """
        at = (device, batch, length)
        parts = ("kv", "state", "weight", "activation", "overhead", "total")
        found = {f"{part}_bytes": int(getattr(self, f"{part}_bytes")[at]) for part in parts}
        capacity = self.devices[device].bytes
        found |= {"capacity_bytes": capacity, "free_bytes": capacity - found["total_bytes"]}
        return found | {"fits": int(self.fits[at])}

    def _spread(self, column: Any) -> Ints:
        import numpy as np

        spread: Ints = np.broadcast_to(np.asarray(column, dtype=np.int64), self.shape)
        return spread


class Refused(NamedTuple):
    """A part of the grid without an answer, and why."""

    spec: ModelSpec
    sharding: Sharding
    dtype: str | None
    kv_dtype: str | None
    reason: str


@dataclass(frozen=True)
class Grid:
    """A grid of configurations; `base` holds whatever is the same for all (source_tokens, overrides, ...).

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> llama = read_entry(find_model("llama-7b"))
    >>> grid = Grid([llama], [Capacity("24 GiB", 24 << 30)], batches=range(1, 9), lengths=[2048, 4096, 8192])
    >>> grid.size, [block.fits.sum(axis=1).tolist() for block in grid.blocks()]
    (24, [[[8, 4, 2]]])

    Time: one scalar look at each (model, layout, dtype, length), then a few numpy passes over batch x length
    and one over all; so the longer those three axes are, the cheaper each configuration.
    """

    specs: Sequence[ModelSpec]
    devices: Sequence[Capacity]
    batches: Sequence[int]
    lengths: Sequence[int]
    shardings: Sequence[Sharding] = (Sharding(),)
    dtypes: Sequence[str | None] = (None,)
    kv_dtypes: Sequence[str | None] = (None,)
    base: Request = field(default_factory=lambda: Request(seq_tokens=1))
    block: int = BLOCK_CONFIGURATIONS

    @property
    def size(self) -> int:
        """Configurations in all."""
        planes = len(self.specs) * len(self.shardings) * len(self.dtypes) * len(self.kv_dtypes)
        return planes * len(self.devices) * len(self.batches) * len(self.lengths)

    def blocks(self, refused: list[Refused] | None = None) -> Iterator[GridBlock]:
        """The answers, at most `block` configurations at a time.

        In the order of the axes specs, shardings, dtypes, kv_dtypes, then batches, lengths; every block
        holds as many devices as it can, those of one kind (accelerator, host) together.

        What the scalar path would refuse (a KV dtype that the model's heads do not allow, say) raises
        here too, unless a list `refused` is given to collect it in.
        """
        _load_numpy()
        self._check_axes()
        return self._blocks(refused)

    def _check_axes(self) -> None:
        for name in ("specs", "devices", "batches", "lengths", "shardings", "dtypes", "kv_dtypes"):
            if not len(getattr(self, name)):
                raise BadRequest(f"a grid with no {name} has nothing to answer")
        if self.block < 1:
            raise BadRequest(f"a grid block of {self.block} configurations; write 1 or more")
        for device in self.devices:
            if not 0 <= device.bytes <= MAX_BYTES:
                raise BadRequest(f"{device.name}: {device.bytes} bytes of memory is out of range")
        for name in ("batches", "lengths"):
            if any(type(number) is not int for number in getattr(self, name)):
                raise BadRequest(f"the {name} of a grid must be plain ints")

    def _request(
        self, tokens: int, sharding: Sharding, dtype: str | None = None, kv_dtype: str | None = None
    ) -> Request:
        """`base` for one sequence; a dtype of None leaves the one of `base`."""
        base = self.base
        return replace(
            base,
            seq_tokens=tokens,
            batch=1,
            sharding=sharding,
            dtype=dtype or base.dtype,
            k_dtype=kv_dtype or base.k_dtype,
            v_dtype=kv_dtype or base.v_dtype,
        )

    def _blocks(self, refused: list[Refused] | None) -> Iterator[GridBlock]:
        for spec in self.specs:
            curves = _Curves(self, spec)
            for sharding in self.shardings:
                for dtype in self.dtypes:
                    for kv_dtype in self.kv_dtypes:
                        try:
                            plane = curves.plane(sharding, dtype, kv_dtype)
                        except KvplanError as error:
                            if refused is None:
                                raise
                            refused.append(Refused(spec, sharding, dtype, kv_dtype, str(error)))
                        else:
                            yield from self._plane_blocks(plane)

    def _plane_blocks(self, plane: _Plane) -> Iterator[GridBlock]:
        for devices in _of_one_kind(self.devices):
            rows = min(len(devices), self.block)
            wide = min(len(self.lengths), self.block // rows)
            deep = min(len(self.batches), self.block // (rows * wide))
            for batch in _slices(len(self.batches), deep):
                for length in _slices(len(self.lengths), wide):
                    columns = self._columns(plane, devices[0].kind, batch, length)
                    for device in _slices(len(devices), rows):
                        yield self._block(plane, devices[device], batch, length, columns)

    def _block(
        self, plane: _Plane, devices: tuple[Capacity, ...], batch: slice, length: slice, columns: _Columns
    ) -> GridBlock:
        import numpy as np

        capacities = np.array([device.bytes for device in devices], dtype=np.int64)[:, None, None]
        return GridBlock(
            spec=plane.spec,
            sharding=plane.sharding,
            dtype=plane.dtype,
            kv_dtype=plane.kv_dtype,
            devices=devices,
            batches=tuple(self.batches[batch]),
            lengths=tuple(self.lengths[length]),
            fits=columns.total <= capacities,
            columns=columns,
            capacities=capacities,
        )

    def _columns(self, plane: _Plane, kind: str, batch: slice, length: slice) -> _Columns:
        """Each part over [batch, length] on the fullest device of the fullest stage."""
        import numpy as np

        sequences = np.array(plane.sequences[batch], dtype=np.int64)[:, None]
        lengths = np.array(self.lengths[length], dtype=np.int64)[None, :]
        activation = self._activation(plane.rate, sequences, lengths, np.minimum)
        fullest: _Columns | None = None
        for stage in plane.stages:
            kv = sequences * np.array(stage.kv[length], dtype=np.int64)
            columns = self._stage_columns(stage, plane.sharding, kind, sequences, kv, activation)
            fullest = columns if fullest is None else _fuller(fullest, columns)
        assert fullest is not None
        return fullest

    def _stage_columns(
        self, stage: _Stage, sharding: Sharding, kind: str, sequences: Any, kv: Any, activation: Any
    ) -> _Columns:
        """The sums of `OnDevice`, for ints and for whole arrays alike."""
        state = sequences * stage.state
        held = kv + (state + stage.weight)
        overhead = sum(line.bytes for line in self._overhead(kind, sharding, held))
        total = held + activation + overhead
        return _Columns(kv, state, stage.weight, activation, overhead, total, stage.layers)

    def _overhead(self, kind: str, sharding: Sharding, held: Any) -> tuple[OverheadLine, ...]:
        return override_lines(overhead_lines(kind, sharding.devices, held), self.base.overhead_override)

    def _activation(self, rate: ActivationRate, sequences: Any, lengths: Any, minimum: Any) -> Any:
        if self.base.activation_override is not None:
            return self.base.activation_override
        tokens = self.base.prefill_tokens or minimum(sequences * lengths, PREFILL_TOKENS)
        return rate.bytes(tokens, sequences, lengths)

    def _refuse_overflow(self, plane: _Plane) -> None:
        """Raises when the largest number of the plane does not fit: every other one is smaller."""
        sequences, longest = max(plane.sequences), max(self.lengths)
        activation = self._activation(plane.rate, sequences, longest, min)
        largest = sequences * longest
        for stage in plane.stages:
            held = sequences * (max(stage.kv) + stage.state) + stage.weight
            overhead = sum(line.high for line in self._overhead("cuda", plane.sharding, held))
            largest = max(largest, held + activation + overhead)
        if largest > INT64_MAX or min((activation, *self.base.overhead_override.values())) < 0:
            raise BadRequest(
                f"{plane.spec.name}: {sequences:,} sequences of {longest:,} tokens are beyond the 64-bit "
                "integers of a grid; a single estimate is exact at any size"
            )


class _Stage(NamedTuple):
    """One pipeline stage on its fullest rank: bytes of one sequence at each length, its state, weights."""

    layers: int
    kv: tuple[int, ...]
    state: int
    weight: int


class _Plane(NamedTuple):
    """The numbers that all devices, batches and lengths of one model, layout and dtypes share."""

    spec: ModelSpec
    sharding: Sharding
    dtype: str | None
    kv_dtype: str | None
    sequences: tuple[int, ...]
    rate: ActivationRate
    stages: tuple[_Stage, ...]


class _Columns(NamedTuple):
    """Bytes over [batch, length]; a column that an axis does not change is shorter, or one int."""

    kv: Any
    state: Any
    weight: Any
    activation: Any
    overhead: Any
    total: Any
    layers: Any


class _Curves:
    """The scalar path, asked once for what several planes of a model share."""

    def __init__(self, grid: Grid, spec: ModelSpec) -> None:
        self.grid, self.spec = grid, spec
        self._layers: dict[int, list[list[tuple[Layer, int]]]] = {}
        self._kv: dict[tuple[Sharding, CacheFormat], list[tuple[tuple[int, ...], int]]] = {}
        self._weights: dict[tuple[Sharding, str | None], tuple[int, ...]] = {}
        self._sources: tuple[int, ...] = ()
        self._sequences: dict[Sharding, tuple[int, ...]] = {}

    def plane(self, sharding: Sharding, dtype: str | None, kv_dtype: str | None) -> _Plane:
        grid, spec = self.grid, self.spec
        request = grid._request(grid.lengths[0], sharding, dtype, kv_dtype)
        answer = estimate(spec, request)
        if sharding not in self._sequences:
            self._sequences[sharding] = tuple(sharding.sequences_on_rank(batch) for batch in grid.batches)
        if sharding.pp not in self._layers:
            self._layers[sharding.pp] = stages(spec, sharding.pp)
        if (sharding, dtype) not in self._weights:
            self._weights[sharding, dtype] = tuple(stage.weight_bytes for stage in answer.stages)
        parts = zip(
            self._layers[sharding.pp],
            self._caches(sharding, answer.fmt),
            self._weights[sharding, dtype],
            strict=True,
        )
        plane = _Plane(
            spec,
            sharding,
            dtype,
            kv_dtype,
            self._sequences[sharding],
            activation_rate(
                spec,
                dtype_bytes=answer.fmt.model_dtype_bytes,
                tp=sharding.tp,
                fused_attention=grid.base.fused_attention,
            ),
            tuple(_Stage(sum(n for _, n in layers), *curve, weight) for layers, curve, weight in parts),
        )
        grid._refuse_overflow(plane)
        return plane

    def _caches(self, sharding: Sharding, fmt: CacheFormat) -> list[tuple[tuple[int, ...], int]]:
        """(bytes of one sequence at each length, bytes of its state) for each stage."""
        found = self._kv.get((sharding, fmt))
        if found is None:
            found = []
            lengths = tuple(zip(self.grid.lengths, self._source_tokens(sharding), strict=True))
            for layers in self._layers[sharding.pp]:
                caches = caches_on_rank(layers, sharding)
                curve = tuple(rank_kv_bytes(caches, sharding, tokens, source, fmt) for tokens, source in lengths)
                found.append((curve, sum(count * cache.state_bytes(fmt) for cache, count in caches.items())))
            self._kv[sharding, fmt] = found
        return found

    def _source_tokens(self, sharding: Sharding) -> tuple[int, ...]:
        """Encoder tokens at each length; asking the scalar path at both ends also checks the two axes."""
        if not self._sources:
            lengths, batches = self.grid.lengths, self.grid.batches
            for extreme in (min, max):
                request = self.grid._request(extreme(lengths), sharding)
                estimate(self.spec, replace(request, batch=extreme(batches)))
            if not self.spec.has_cross_attention:
                self._sources = (0,) * len(lengths)
            else:
                requests = (self.grid._request(tokens, sharding) for tokens in lengths)
                self._sources = tuple(estimate(self.spec, request).source_tokens for request in requests)
        return self._sources


def _fuller(a: _Columns, b: _Columns) -> _Columns:
    """`b` where it needs more than `a`, or as much with more layers; as `Estimate.per_device` picks."""
    import numpy as np

    more = (b.total > a.total) | ((b.total == a.total) & (b.layers > a.layers))
    return _Columns(*(np.where(more, new, old) for new, old in zip(b, a, strict=True)))


def _of_one_kind(devices: Sequence[Capacity]) -> Iterator[tuple[Capacity, ...]]:
    """Devices apart by kind, for the runtime's overhead differs by kind alone."""
    for kind in dict.fromkeys(device.kind for device in devices):
        yield tuple(device for device in devices if device.kind == kind)


def _slices(length: int, step: int) -> Iterator[slice]:
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _load_numpy() -> None:
    try:
        import numpy  # noqa: F401
    except ImportError:
        raise KvplanError("a grid needs numpy, which is missing: pip install 'llm-kvplan[grid]'") from None
