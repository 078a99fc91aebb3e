"""What lies on which card and what on the host: the words of llama.cpp's family for it, and its patterns of tensors."""

from __future__ import annotations

import re
from functools import lru_cache

from planner.errors import BadRequest, one_line
from planner.frozen import dataclass
from planner.units import GIB

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Names of a layer's tensors in a GGUF file, by the part of the layer that they are.
_TENSORS = {
    "experts": ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"),
    "shared_experts": ("ffn_gate_shexp.weight", "ffn_up_shexp.weight", "ffn_down_shexp.weight"),
    "mlp": ("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"),
    "attention": ("attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"),
    "mixer": ("ssm_in.weight", "ssm_out.weight"),
    "router": ("ffn_gate_inp.weight",),
}
MOST_PATTERNS = 64
FIT_LEAVES_BYTES = GIB
"""Free memory that --fit keeps on each device. Source: common/arg.cpp, --fit-target, default 1024 MiB."""
HOST_BYTES_PER_S = (40e9, 80e9)
"""Host memory of two channels of DDR4-2667 and of DDR5-5600, near their peak."""


@dataclass(frozen=True)
class Placement:
    """What llama.cpp keeps where. None and empty are its defaults: everything on the devices.

    layers         layers on the devices (-ngl), the head among them; None for all or automatic
    expert_layers  the first so many layers keep their experts on the host (--n-cpu-moe); -1 for all
    ffn_layers     the first so many layers keep their dense MLP on the host (--n-cpu-ffn)
    overrides      -ot PATTERN=BUFFER as written
    cache_on_host  --no-kv-offload
    split          none, layer, row or tensor
    shares         -ts, one number a device
    fill           where no shares are given: as many layers a device as it holds with 1 GiB left, in order, as --fit deals them
    """

    layers: int | None = None
    expert_layers: int = 0
    ffn_layers: int = 0
    overrides: tuple[str, ...] = ()
    cache_on_host: bool = False
    split: str = "layer"
    shares: tuple[float, ...] = ()
    fill: bool = False

    @property
    def open(self) -> bool:
        """Tells whether the flags leave open what lies on the host."""
        return self == Placement(split=self.split, shares=self.shares)

    @property
    def flags(self) -> str:
        """The flags that move something to the host; "" where none does.

        >>> Placement(expert_layers=12).flags, Placement(layers=20, expert_layers=-1).flags
        ('--n-cpu-moe 12', '--n-gpu-layers 20 --cpu-moe')
        """
        words = [] if self.layers is None else [f"--n-gpu-layers {self.layers}"]
        if self.expert_layers:
            words.append("--cpu-moe" if self.expert_layers < 0 else f"--n-cpu-moe {self.expert_layers}")
        return " ".join(words)


@dataclass(frozen=True)
class Card:
    """Bytes on one card; `capacity_bytes` is what it offers, None where no device is named.

    other_bytes   compute buffer, backend, and what a drafter or adapters take
    """

    weight_bytes: int
    cache_bytes: int
    other_bytes: int
    capacity_bytes: int | None = None

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes + self.other_bytes

    @property
    def short_bytes(self) -> int:
        """How far it is over; negative where something is free."""
        return self.bytes - (self.bytes if self.capacity_bytes is None else self.capacity_bytes)


@dataclass(frozen=True)
class Placed:
    """Where everything lies; weights and cache are counted, the rest of a card is estimated.

    layers_on_cards   of the model's layers; `head_on_cards` for the head
    token_bytes       (cards, host): weights that one decoded token reads; of the experts only those that are active
    host_shares       on the host: of the weights that every token reads, the head among them, and of routed experts
    placement         what was asked, or chosen
    not_read          patterns of -ot that are not read: more may lie on the host
    """

    cards: tuple[Card, ...]
    host_weight_bytes: int
    host_cache_bytes: int
    layers_on_cards: int
    head_on_cards: bool
    token_bytes: tuple[int, int]
    placement: Placement
    not_read: tuple[str, ...] = ()
    host_shares: tuple[float, float] = (0.0, 0.0)

    @property
    def device_weight_bytes(self) -> int:
        return sum(card.weight_bytes for card in self.cards)

    @property
    def host_bytes(self) -> int:
        return self.host_weight_bytes + self.host_cache_bytes

    @property
    def short_bytes(self) -> int:
        """How far the fullest card is over."""
        return max(card.short_bytes for card in self.cards)

    @property
    def split(self) -> bool:
        """Whether the host computes: more than the embedding, which it only looks up, or a cache lies there."""
        return bool(self.token_bytes[1] or self.host_cache_bytes)

    def most_tokens_per_s(self, card_bytes_per_s: float, host_bytes_per_s: float) -> float:
        """The most tokens a second of one sequence that reading the weights allows.

        1 / (card bytes / card rate + host bytes / host rate). Leaves out the cache, kernels and copies between the two.
        """
        card, host = self.token_bytes
        return 1 / (card / card_bytes_per_s + host / host_bytes_per_s)

    def to_dict(self) -> dict[str, Any]:
        """The keys of an engine's answer: base units."""
        return {
            "cards": [
                {
                    "weight_bytes": card.weight_bytes,
                    "cache_bytes": card.cache_bytes,
                    "other_bytes": card.other_bytes,
                    "total_bytes": card.bytes,
                    "capacity_bytes": card.capacity_bytes,
                }
                for card in self.cards
            ],
            "host_weight_bytes": self.host_weight_bytes,
            "host_cache_bytes": self.host_cache_bytes,
            "layers_on_cards": self.layers_on_cards,
            "head_on_cards": self.head_on_cards,
            "device_read_bytes": self.token_bytes[0],
            "host_read_bytes": self.token_bytes[1],
            "placement": self.placement.flags,
        }


def part_targets(part: str, index: int, placement: Placement, *, patterns: tuple[Override, ...]) -> dict[int, float]:
    """Returns where a part of layer `index` lies that does not stay with its layer: HOST or a card -> its share.

    The first pattern that a tensor's name matches decides, as llama.cpp's loader takes it; --n-cpu-moe and its kin are
    patterns behind those that are written.
    """
    names = _TENSORS.get(part, ())
    moved: dict[int, float] = {}
    left = 1.0
    for name in names if patterns else ():
        target = next((one.target for one in patterns if one.regex.search(f"blk.{index}.{name}")), None)
        if target is not None:
            moved[target] = moved.get(target, 0.0) + 1 / len(names)
            left -= 1 / len(names)
    experts = part == "experts" and (placement.expert_layers < 0 or index < placement.expert_layers)
    if left > 1e-9 and (experts or (part == "mlp" and index < placement.ffn_layers)):
        moved[HOST] = moved.get(HOST, 0.0) + left
    return moved


def parse_shares(text: str, name: str) -> tuple[float, ...]:
    """Reads shares of devices as llama.cpp reads -ts: numbers between commas, slashes or semicolons.

    >>> parse_shares("3,1", "-ts"), parse_shares("0.5/0.5", "-ts")
    ((3.0, 1.0), (0.5, 0.5))
    """
    pieces = re.split(r"[,/;]", text)
    if not all(re.fullmatch(r"\s*\d{1,9}(\.\d{0,9})?\s*", one, re.ASCII) for one in pieces) or len(pieces) > 128:
        raise BadRequest(f"{name} {one_line(text, 40)!r} is not a list of shares; write for example 3,1")
    found = tuple(float(one) for one in pieces)
    if not sum(found):
        raise BadRequest(f"{name} {one_line(text, 40)!r} gives no device a share; write for example 3,1")
    return found


@dataclass(frozen=True)
class Override:
    """A pattern of tensors' names and where they lie: HOST, or a card's number."""

    regex: re.Pattern[str]
    target: int


HOST = -1
_BUFFER = re.compile(r"([A-Za-z]{2,12}?)(\d{0,2})(?:_\w{1,12})?")


@lru_cache(maxsize=64)
def patterns_of(overrides: tuple[str, ...]) -> tuple[tuple[Override, ...], tuple[str, ...]]:
    """(patterns in the order in which they are tried, those that are not read).

    A pattern comes from outside: one that could take long to match is not run. A buffer of another machine (RPC) is not read.

    >>> [(one.regex.pattern, one.target) for one in patterns_of(("exps=CPU,blk.1.ffn=CUDA0",))[0]]
    [('exps', -1), ('blk.1.ffn', 0)]
    """
    read: list[Override] = []
    not_read: list[str] = []
    for text in [piece for override in overrides for piece in _pieces(override)][:MOST_PATTERNS]:
        pattern, equals, buffer = text.rpartition("=")
        if not equals or not pattern.strip():
            raise BadRequest(f"-ot {one_line(text, 60)!r} is not REGEX=BUFFER; write for example exps=CPU")
        target = _target(buffer.strip())
        plain = pattern.replace("(?:", "(")
        if (
            target is None
            or len(pattern) > 400
            or len(re.findall(r"[*+{]", plain)) > 4
            or re.search(r"[*+}]\)*[*+{]|\\[1-9]|\(\?", plain)
        ):
            not_read.append(text)
            continue
        try:
            read.append(Override(re.compile(pattern), target))
        except re.error:
            not_read.append(text)
    return tuple(read), tuple(not_read)


def _target(buffer: str) -> int | None:
    """HOST for CPU and pinned host memory, a card's number for CUDA1, Vulkan0, Metal; None for anything else.

    >>> [_target(name) for name in ("CPU", "CUDA_Host", "CUDA1", "Metal", "RPC[10.0.0.2:50052]")]
    [-1, -1, 1, 0, None]
    """
    if buffer.upper().startswith("CPU") or buffer.endswith("_Host"):
        return HOST
    found = _BUFFER.fullmatch(buffer)
    return int(found.group(2) or 0) if found is not None else None


def _pieces(override: str) -> list[str]:
    """PATTERN=BUFFER,PATTERN=BUFFER, as written where it is nothing of the kind.

    >>> _pieces("blk.{1,2}.ffn=CUDA0,exps=CPU"), _pieces("exps")
    (['blk.{1,2}.ffn=CUDA0', 'exps=CPU'], ['exps'])
    """
    found = re.findall(r"([^=]{1,2000}=\s*[A-Za-z]\w{0,30}(?:\[[^\]]{0,80}\])?)\s*(?:,|$)", override[:8000])
    return found if found and len(",".join(found)) >= len(override.rstrip(", ")) - 2 * len(found) else [override]
