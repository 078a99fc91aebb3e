"""States what is asked of a model (`Request`) and what a device offers for it (`Capacity`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.sharding import Sharding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from planner.catalogue.device import Device
    from planner.memory.activations import OverheadLine
    from planner.model.cache import Cache

    class Drafts(Protocol):
        """Tokens that are proposed in each step of a sequence."""

        @property
        def kind(self) -> str: ...

        @property
        def name(self) -> str: ...

        @property
        def draft_tokens(self) -> int: ...

        @property
        def caches(self) -> tuple[tuple[Cache, int], ...]: ...

        def weight_bytes(self, sharding: Sharding) -> tuple[int, int, int]: ...

    class Shares(Protocol):
        """What else is on the devices, as `planner.extras` makes it: an estimate adds its bytes to every device.

        `estimate` is the `Estimate` that asks; it is not imported here, since an estimate holds its request.
        """

        @property
        def adapters(self) -> tuple[object, ...]: ...

        @property
        def drafter(self) -> Drafts | None: ...

        def on_stage(
            self, estimate: Any, index: int, layers: Any, *, caches: Any
        ) -> tuple[tuple[OverheadLine, ...], int]: ...

        def sequence_bytes(self, estimate: Any, index: int, caches: Any, *, tokens: int) -> int: ...


@dataclass(frozen=True, eq=False, repr=False)
class Request:
    """What is asked of a model: lengths, formats, layout. Sizes in tokens, sequences and bytes.

    `activation_override` and `overhead_override` (by line name) replace the estimates; `extras` share the devices.
    """

    seq_tokens: int
    batch: int = 1
    dtype: str | None = None
    k_dtype: str | None = None
    v_dtype: str | None = None
    source_tokens: int | None = None
    sharding: Sharding = field(default_factory=Sharding)
    prefill_tokens: int | None = None
    fused_attention: bool = True
    activation_override: int | None = None
    overhead_override: Mapping[str, int] = field(default_factory=dict, hash=False)
    extras: Shares | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Capacity:
    """What a device offers: bytes as its driver reports them."""

    name: str
    bytes: int
    kind: str = "cuda"


def device_capacity(found: Device) -> Capacity:
    """Returns what `found` offers; BadRequest where its memory is what the user put in, and nobody said how much."""
    if not found.memory_bytes:
        raise BadRequest(f"{found.name} has the memory that was put in: say how much, for example --memory 64GiB")
    kind = "host" if (found.vendor or "").lower() in ("apple", "host", "cpu") else "cuda"
    return Capacity(found.name, found.memory_bytes, kind)
