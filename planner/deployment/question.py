"""States the question that `plan` answers: model, load, targets, and what may be chosen."""

from __future__ import annotations

from dataclasses import field

from planner.catalogue.device import Device
from planner.engines.base import Options
from planner.extras.shared_device import Extras
from planner.frozen import dataclass
from planner.model.spec import ModelSpec
from planner.speed.drafting import DraftingAsked
from planner.speed.energy import GRID_GRAMS
from planner.workloads.load import Load
from planner.workloads.targets import Targets

SORTS = ("cost", "devices", "energy")


@dataclass(frozen=True)
class Question:
    """What `kvplan plan` asks.

    dtype, kv_dtype   fixed formats; None searches
    as_published      search no format but the model's own
    engine            (name, version) as `parse_engine` gives it, with its options; None: in kvplan's own terms
    prices            given US dollars an hour, by the device's key
    extras            adapters, drafter and other models on each replica's devices
    drafting          speculative decoding, None without
    idle_sessions     sessions whose cache stays in the pools, of all replicas together
    disaggregate      search two pools besides, joined by `link` (`planner.speed.transfer`)
    grid_grams        CO2 of a kWh
    backend           of llama.cpp; None: each device's own
    """

    spec: ModelSpec
    devices: tuple[Device, ...]
    load: Load
    targets: Targets = field(default_factory=Targets)
    dtype: str | None = None
    kv_dtype: str | None = None
    as_published: bool = False
    engine: tuple[str, str | None] | None = None
    options: Options = field(default_factory=Options)
    chunk_tokens: int | None = None
    prices: dict[str, float] = field(default_factory=dict)
    budget_usd_per_hour: float | None = None
    sort: str = "cost"
    extras: Extras | None = None
    drafting: DraftingAsked | None = None
    idle_sessions: int = 0
    disaggregate: bool = False
    link: str | None = None
    grid_grams: float = GRID_GRAMS
    backend: str | None = None
