"""What a report is about: models, devices, one length and batch, and the runs laid beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from planner.catalogue.device import Device
from planner.errors import KvplanError
from planner.lookup import device as find_device
from planner.lookup import model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.limits import most_sequences
from planner.memory.request import Capacity, Request, device_capacity
from planner.model.spec import ModelSpec
from planner.units import human_tokens
from reports.plans import PlanFile
from reports.runs import Run, reach, unique

USUAL_DEVICES = ("RTX-4090-24GB", "L40S", "H100-SXM5-80GB")
USUAL_TOKENS = 8192
MOST_TOKENS = 1 << 20
LENGTHS_PER_OCTAVE = 4
MOST_BATCH = 4096


@dataclass(frozen=True)
class Place:
    """A device that is to hold the model: its memory, and its rates where they are known."""

    capacity: Capacity
    device: Device | None = None

    @property
    def name(self) -> str:
        return self.capacity.name


@dataclass(frozen=True, eq=False)
class Question:
    """The input of every table and figure.

    request   length, batch, dtypes and layout, the same for every model
    places    devices asked about; `usual` where none was named
    engine    (name, version) whose pool and speed the headline is of; None: kvplan's own terms
    """

    specs: tuple[ModelSpec, ...]
    places: tuple[Place, ...]
    request: Request
    usual: bool = False
    runs: tuple[Run, ...] = ()
    plans: tuple[PlanFile, ...] = ()
    notes: tuple[str, ...] = field(default=())
    engine: tuple[str, str | None] | None = ("vllm", None)
    engine_assumed: bool = True

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for each model that no other has (two files may both say "gpt2")."""
        return dict(enumerate(unique([spec.name for spec in self.specs])))

    def answer(self, model: int, place: int | None = None, **changes: object) -> Estimate:
        """The estimate for one model on one device (None: on none), with changes to the request."""
        request = replace(self.request, **changes) if changes else self.request  # type: ignore[arg-type]
        return estimate(self.specs[model], request, None if place is None else self.places[place].capacity)

    @cached_property
    def titles(self) -> str:
        names = list(self.names.values())
        return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

    @cached_property
    def load(self) -> str:
        """The load in words: `4 sequences of 8k tokens`."""
        batch = self.request.batch
        return f"{'1 sequence' if batch == 1 else f'{batch:,} sequences'} of {tokens_words(self.request.seq_tokens)}"

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Lengths for the curves: to the positions of the longest model, and to the length asked."""
        asked = self.request.seq_tokens
        ceiling = max((spec.max_positions or MOST_TOKENS for spec in self.specs), default=MOST_TOKENS)
        high = max(asked, min(MOST_TOKENS, ceiling))
        shortest = min((spec.max_positions or MOST_TOKENS for spec in self.specs), default=MOST_TOKENS)
        return geometric(min(max(64, high // 128), asked, max(64, shortest // 16)), high, LENGTHS_PER_OCTAVE, asked)

    @cached_property
    def batches(self) -> tuple[int, ...]:
        """Batches for the curves: to where the first device is full, and at least to 64."""
        asked = self.request.batch
        full = [most_sequences(spec, self.request, place.capacity) for spec in self.specs for place in self.places]
        first = min((n for n in full if n), default=0)
        return geometric(1, min(MOST_BATCH, max(64, 4 * asked, 2 * first)), LENGTHS_PER_OCTAVE, asked)


def tokens_words(tokens: int) -> str:
    """Writes a number of tokens with its word.

    >>> tokens_words(8192), tokens_words(1)
    ('8k tokens', '1 token')
    """
    return f"{human_tokens(tokens)} token{'' if tokens == 1 else 's'}"


def geometric(low: int, high: int, per_octave: int, *always: int) -> tuple[int, ...]:
    """Lists whole numbers from low to high, evenly on a log scale, powers of two and `always` among them.

    >>> geometric(1, 8, 2, 5)
    (1, 2, 3, 4, 5, 6, 8)
    """
    found = {low, high, *always}
    power = 0
    while (1 << power) <= high:
        for part in range(per_octave):
            value = round(2 ** (power + part / per_octave))
            if low <= value <= high:
                found.add(value)
        power += 1
    return tuple(sorted(found))


def places_of(gpus: tuple[str, ...], memories: tuple[Capacity, ...] = ()) -> tuple[Place, ...]:
    """Lists devices by name and plain memories, without repeats."""
    found = [Place(device_capacity(device), device) for device in map(find_device, gpus)]
    found += [Place(room) for room in memories]
    return tuple({place.name: place for place in found}.values())


def question(
    models: tuple[str | ModelSpec, ...],
    *,
    gpus: tuple[str, ...] = (),
    memories: tuple[Capacity, ...] = (),
    request: Request | None = None,
    runs: tuple[Run, ...] = (),
    plans: tuple[PlanFile, ...] = (),
    assume: str | None = None,
) -> Question:  # parameters: what it makes is made of, each by name
    """Builds a question from names; the models of the runs are added where the catalogue knows them.

    Without a length: 8k, or what the longest model can do. Without devices: those of the runs, else three usual ones.
    """
    specs = [model if isinstance(model, ModelSpec) else model_spec(model, assume=assume) for model in models]
    notes: list[str] = []
    known = {spec.name for spec in specs}
    for run in runs:
        name = run.found.model
        if name in known:
            continue
        known.add(name)
        try:
            specs.append(model_spec(name))
        except (KvplanError, OSError):
            notes.append(f"{name} of {run.name} is not in the catalogue: its run is shown without an estimate")
    if request is None:
        request = Request(seq_tokens=usual_tokens(specs))
    places = places_of(gpus, memories)
    measured = tuple({place.name: place for place in map(run_place, runs) if place is not None}.values())
    usual = not places and not measured
    if not places:
        places = measured or places_of(USUAL_DEVICES)
    return Question(tuple(specs), places, request, usual, runs, plans, tuple(notes))


def run_place(run: Run) -> Place | None:
    """Returns the device that a run was measured on; None where it is not known."""
    where = run.found.environment
    if not where.memory_bytes:
        return None
    room = Capacity(where.device, where.memory_bytes, "cuda" if where.device_kind == "cuda" else "host")
    bandwidth, peak = reach(run.found)
    if not bandwidth or not peak:
        return Place(room)
    rates = {run.found.dtype: int(peak)}
    source = (f"measured, {where.date[:10]}",)
    return Place(
        room,
        Device(
            where.device,
            where.memory_bytes,
            source,
            where.date[:10],
            bandwidth_bytes_per_s=int(bandwidth),
            dense_flops_per_s=rates,
        ),
    )


def usual_tokens(specs: list[ModelSpec]) -> int:
    """Returns 8k, or what the longest of the models can do where that is less."""
    return min(USUAL_TOKENS, max((spec.max_positions or USUAL_TOKENS for spec in specs), default=USUAL_TOKENS))
