"""Which layers ollama puts on the devices, and the SIZE and PROCESSOR of `ollama ps`.

To 0.11.10 it counts with formulas (`EstimateGPULayers`), and so for models outside its own engine to 0.12.10; from 0.12.11
with the same formulas laid out as in its own engine, which measures its buffers (0.11.11 on); from 0.30 llama-server's --fit
chooses. Source: llm/memory.go of v0.6.8 and v0.9.0, llm/server.go (`assignLayers`, `buildLayout`) of v0.12.7 and v0.13.0,
llm/llama_server.go of v0.30.0; cmd/cmd.go and format/bytes.go for the words of `ollama ps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.engines import ollama_releases
from planner.engines.base import Version
from planner.engines.llamacpp_placement import CONTEXT_BYTES, Sizes
from planner.engines.llamacpp_setting import Setting
from planner.engines.ollama_graph import Graph, graph_of, kind_of, vision_bytes
from planner.engines.placement import Placed
from planner.memory.estimate import Estimate
from planner.units import MIB

MINIMUM_BYTES = 457 * MIB
"""What ollama leaves for CUDA and ROCm on each card."""
IDLE_BYTES = 300 * MIB
"""What the driver holds of an idle card: 23.6 GiB in all and 23.3 free on a 3090 or 4090 (ollama issues 10615, 10740)."""
VISION_IN_LAST_SINCE: Version = (0, 7, 1)
"""From then on an image encoder of its own engine is counted with the head; before on the first card, with each card's graph."""
COUNTED_BYTES = {"q8_0": (32, 34), "q4_0": (16, 18)}
"""ollama counts 1 and 1/2 byte for a number of these caches, without their scales."""


@dataclass(frozen=True)
class Predicted:
    """What ollama expects: `layers` of `of` on the cards (the head is the last), `cards` how many each has.

    size_bytes, vram_bytes   SIZE of `ollama ps`, and of it what is on the cards; `size_low` where the image encoder's
                             scores are not in it
    """

    layers: int
    of: int
    cards: tuple[int, ...]
    size_bytes: int
    vram_bytes: int
    size_low: int

    @property
    def text(self) -> str:
        """What `ollama ps` prints: 148 GB, 33%/67% CPU/GPU."""
        low, high = human(self.size_low), human(self.size_bytes)
        return f"{high if low == high else f'{low} to {high}'}, {_processor(self.size_bytes, self.vram_bytes)}"

    def to_dict(self) -> dict[str, int | str]:
        """Keys of the JSON contract."""
        return {
            "ollama_ps": self.text, "ollama_size_bytes": self.size_bytes, "ollama_size_bytes_low": self.size_low,
            "ollama_vram_bytes": self.vram_bytes, "ollama_layers": self.layers,
        }  # fmt: skip


def human(size: int) -> str:
    """Writes bytes as ollama does: powers of ten, cut from 10 on.

    >>> human(148_900_000_000), human(9_440_000_000)
    ('148 GB', '9.4 GB')
    """
    value = size / 1e9
    return f"{int(value)} GB" if value >= 10 else f"{value:.1f} GB"


def _processor(size: int, vram: int) -> str:
    if vram >= size:
        return "100% GPU"
    cpu = round(100 * (size - vram) / size)
    return "100% CPU" if not vram else f"{cpu}%/{100 - cpu}% CPU/GPU"


def predicted(estimate: Estimate, setting: Setting, found: Sizes) -> Predicted | None:
    """Predicts the placement of a release before 0.30 on cards of known size; None of newer ones, which measure."""
    cards = [size for size in found.cards if size is not None]
    if not setting.ollama_engine or len(cards) != len(found.cards) or not cards:
        return None
    model = _model(estimate, setting, found)
    free = [max(0, size - IDLE_BYTES) for size in cards]
    if setting.version < ollama_releases.LAID_OUT_SINCE and not model.measured:
        alone = (_counted(model, free, (at,)) for at in range(len(free)))
        whole = next((one for one in alone if one.layers == model.of), None)
        return whole or _counted(model, free, tuple(range(len(free))))
    return _laid_out(model, free)


def served(where: Placed, of: int) -> Predicted:
    """Reads SIZE from what llama-server allocates, for ollama from 0.30 on: buffers of cards and host, no backend's context."""
    vram = sum(card.bytes - CONTEXT_BYTES for card in where.cards if card.weight_bytes or card.cache_bytes)
    size = vram + where.host_weight_bytes + where.host_cache_bytes
    layers = where.layers_on_cards + where.head_on_cards
    whole = layers == of and not where.host_shares[1] and not where.host_cache_bytes
    return Predicted(layers, of, (), size, size if whole else vram, size)


@dataclass(frozen=True)
class _Model:
    """Bytes as ollama counts them: each layer with its cache, `last` the head (and the encoder, where it goes with it).

    first   on the first card beside its layers; `input` the embedding, which ollama's own engine counts on the host
    """

    layers: tuple[int, ...]
    last: int
    first: int
    input: int
    graph: Graph
    measured: bool

    @property
    def of(self) -> int:
        return len(self.layers) + 1


def _model(estimate: Estimate, setting: Setting, found: Sizes) -> _Model:
    times, over = COUNTED_BYTES.get(estimate.fmt.k.name, (1, 1))
    caches = [layer.cache * times // over for layer in found.layers]
    layers = tuple(
        sum(layer.parts.values()) + layer.rest + cache for layer, cache in zip(found.layers, caches, strict=True)
    )
    head = found.head + (found.embedding if found.tied else 0)
    version = setting.version
    own = ollama_releases.own_engine(kind_of(estimate), version)
    if own and version >= ollama_releases.MEASURED_SINCE:
        compute = found.other - CONTEXT_BYTES
        graph = Graph(compute, compute, vision_bytes(estimate, version))
        return _Model(layers, head + found.tower, 0, found.embedding, graph, True)
    gate = max((layer.parts.get("experts", 0) for layer in found.layers), default=0) // 3
    graph = graph_of(estimate, setting, kv_bytes=sum(caches), gate_bytes=gate)
    if len(found.cards) > 1:
        graph = Graph(graph.partial, graph.partial, graph.vision)  # of several cards each has the partial one
    if own and version >= VISION_IN_LAST_SINCE:
        return _Model(layers, head + found.tower + graph.vision, 0, 0, graph, False)
    return _Model(layers, head, found.tower + graph.vision, 0, graph, False)


def _counted(model: _Model, free: Sequence[int], at: tuple[int, ...]) -> Predicted:
    """Deals out layers from the last to the first as `EstimateGPULayers` does, on the cards `at`."""
    count, buffer = len(model.layers), model.layers[0]
    used: dict[int, int] = {}
    for card in at:
        beside = 0 if used else model.first
        if free[card] >= beside + model.graph.larger + MINIMUM_BYTES + 2 * buffer:
            used[card] = beside + MINIMUM_BYTES + buffer
    room, dealt, over = list(used), dict.fromkeys(used, 0), 0 if used else model.first
    for index in range(count - 1, -1, -1):
        size = model.layers[index]
        over += _put(_next(room, index, model.graph.larger + size, used=used, free=free), size, used=used, dealt=dealt)
    need = model.graph.larger + model.last
    last = next((one for one in room if free[one] > used[one] + need), None)
    whole = sum(dealt.values()) >= count and last is not None
    over += _put(last, model.last, used=used, dealt=dealt)
    graph = model.graph.full if whole else model.graph.partial
    vram = sum(used[one] + graph for one in used if dealt[one])
    rest = sum(used[one] for one in used if not dealt[one])
    layers = sum(dealt.values())
    cards = tuple(dealt.get(one, 0) for one in range(len(free)))
    return Predicted(layers, model.of, cards, vram + rest + over, vram + rest if layers else 0, vram + rest + over)


def _next(room: list[int], index: int, need: int, *, used: dict[int, int], free: Sequence[int]) -> int | None:
    """The next card in turn that holds `need`; those that do not are out of the turn for good."""
    while room:
        card = room[index % len(room)]
        if free[card] > used[card] + need:
            return card
        room.remove(card)
    return None


def _put(card: int | None, size: int, *, used: dict[int, int], dealt: dict[int, int]) -> int:
    """Puts a layer on a card; returns its bytes where there is none."""
    if card is None:
        return size
    used[card] += size
    dealt[card] += 1
    return 0


def _laid_out(model: _Model, free: Sequence[int]) -> Predicted:
    """Fills cards from the last layer backwards as `assignLayers` does: on as few cards as hold all; the head leaves first."""
    buffer, vision = (0, model.graph.vision) if model.measured else (model.layers[0], 0)
    rooms = sorted((max(0, size - MINIMUM_BYTES - model.graph.larger - buffer) for size in free), reverse=True)
    cards = _fewest((*model.layers, model.last), rooms, vision) or _evenly(model.layers, rooms, vision)
    dealt = sum(cards)
    graphs = model.graph.larger * sum(1 for count in cards if count) + (vision if dealt else 0)
    size = sum(model.layers) + model.last + model.input + (graphs if dealt else model.graph.larger + vision)
    vram = size if dealt == model.of else sum(model.layers[len(model.layers) - dealt :]) + graphs if dealt else 0
    return Predicted(dealt, model.of, (*cards, *[0] * (len(free) - len(cards))), size, vram, size - vision)


def _fewest(sizes: Sequence[int], rooms: Sequence[int], vision: int) -> tuple[int, ...]:
    """Deals out all layers on as few cards as hold them; () where they do not."""
    for some in range(1, len(rooms) + 1):
        if sum(_filled(sizes, rooms[:some], vision)) == len(sizes):
            return _evenly(sizes, rooms[:some], vision)
    return ()


def _evenly(sizes: Sequence[int], rooms: Sequence[int], vision: int) -> tuple[int, ...]:
    """Deals out as many layers with as little of every card as will do (`findBestFit`)."""
    best = _filled(sizes, rooms, vision)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        cards = _filled(sizes, [int(middle * room) for room in rooms], vision)
        if sum(cards) == sum(best):
            high, best = middle, cards
        else:
            low = middle
    return best


def _filled(sizes: Sequence[int], rooms: Sequence[int], vision: int) -> tuple[int, ...]:
    """How many layers each card takes, the last layers on the smallest of `rooms`, with an image's graph beside them."""
    counts, card = [0] * len(rooms), len(rooms) - 1
    left = rooms[card] - vision if rooms else 0
    for size in reversed(sizes):
        while card >= 0 and size > left:
            card -= 1
            left = rooms[card] if card >= 0 else 0
        if card < 0:
            break
        counts[card] += 1
        left -= size
    return tuple(counts)
