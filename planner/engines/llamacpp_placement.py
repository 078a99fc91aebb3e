"""What llama.cpp's family keeps on which card and what on the host: -ngl, -ts, --n-cpu-moe, -ot, --no-kv-offload.

Source: llama.cpp src/llama-model.cpp, load_tensors (i_gpu_start, act_gpu_layers, splits, dev_input, dev_output); PR 18148
(the head counts as the last layer, from b7450); common/fit.cpp (experts leave the cards first).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import accumulate

from planner.engines.drafting import drafter_of
from planner.engines.llamacpp_buffers import buffers, draft_bytes
from planner.engines.llamacpp_setting import HEAD_FIRST_SINCE, Setting
from planner.engines.placement import (
    FIT_LEAVES_BYTES,
    HOST,
    Card,
    Override,
    Placed,
    Placement,
    part_targets,
    patterns_of,
)
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.memory.limits import largest, smallest
from planner.memory.weight_formats import WeightPlan
from planner.model.moe import Moe
from planner.model.spec import Layer, ModelSpec
from planner.units import GIB, ceil_div

ROWS = ("row", "tensor", "graph")
"""Splits that cut every matrix."""
CONTEXT_BYTES = GIB // 2
"""What the backend holds on each card before a model."""


@dataclass(frozen=True)
class _LayerSize:
    """Bytes of one layer: its weights by part, its cache for all slots, and the share of its experts a token reads."""

    parts: dict[str, int]
    rest: int
    cache: int
    active: float


@dataclass(frozen=True)
class Sizes:
    """A model's bytes by layer as llama.cpp loads them, for any placement.

    embedding   the table, which stays on the host; a tied head is a second copy of it
    head        head, last norm, and what no layer claims
    lookups     tables of n-grams (per_layer_token_embd), of which a token reads some rows: on the host
    tower       image or sound encoders, on the first card
    beside      what adapters and a drafter hold, weights and cache
    other       compute buffer and backend of each card
    predicting  layers of the file that predict further tokens: not loaded, and dealt out as if they were
    """

    layers: tuple[_LayerSize, ...]
    embedding: int
    head: int
    tower: int
    beside: int
    other: int
    tied: bool
    head_first: bool
    lookups: int = 0
    predicting: int = 0
    cards: tuple[int | None, ...] = field(default=(None,))


def sizes(whole: Estimate, setting: Setting, *, compute: int, cards: Sequence[int | None]) -> Sizes:
    """Counts the bytes by layer; `whole` is the estimate on one device, `compute` the buffer of a card, `cards` what
    each offers.
    """
    spec, plan, stored = whole.spec, whole.plan, whole.spec.stored
    known: dict[int, _LayerSize] = {}
    by_layer = stored.layer_bytes if stored is not None and len(stored.layer_bytes) == len(spec.layers) else ()
    layers, lookups = [], 0
    for index, layer in enumerate(spec.layers):
        if id(layer) not in known:
            known[id(layer)] = _layer_size(whole, setting, layer)
        one = known[id(layer)]
        # A table of n-grams is an input of the graph: llama.cpp keeps it on the host or on disk (PR 27742).
        lookups += plan.total((weight, 1) for weight in layer.weights if weight.is_row_table)
        one = replace(one, rest=by_layer[index] - sum(one.parts.values())) if by_layer else one
        beside = spec.encoder[index].weights if index < len(spec.encoder) else ()  # of T5, on the same device
        layers.append(replace(one, rest=one.rest + plan.total((weight, 1) for weight in beside)))
    embedding = stored.bytes_of("embedding") if stored is not None else plan.total((w, 1) for w in spec.before)
    tower = plan.total((weight, 1) for weight in spec.towers)
    total = whole.per_device.weight_bytes
    claimed = sum(sum(one.parts.values()) + one.rest for one in layers) + embedding + tower + lookups
    outside = setting.program == "ik_llamacpp" or setting.ollama_engine
    return Sizes(
        layers=tuple(layers), embedding=embedding, head=max(0, total - claimed), tower=tower,
        beside=whole.per_device.extra_bytes + draft_bytes(whole, setting), other=compute + CONTEXT_BYTES, tied=spec.tied,
        head_first=not outside and setting.build >= HEAD_FIRST_SINCE, lookups=lookups, predicting=predicting(whole), cards=tuple(cards),
    )  # fmt: skip


def predicting(whole: Estimate) -> int:
    """Counts the layers behind the last in the file: `block_count` holds them, and -ngl and -ts count with it.

    GLM-5.2 on four cards with -ts 54,9,8,8 (b10505): 55, 9, 8 and 6 of its 78 layers; Qwen3.8-27B of Unsloth with MTP and
    -ts 38,27: 39 and 25. By name they are in GLM's files, and wherever they draft.
    """
    spec, drafter = whole.spec, drafter_of(whole)
    header = spec.config.get("gguf")
    if isinstance(header, Mapping):
        found = next((value for key, value in header.items() if str(key).endswith(".nextn_predict_layers")), 0)
    elif (spec.read_as is not None and spec.read_as.gguf and spec.model_type.startswith("glm")) or (
        drafter is not None and drafter.kind == "mtp"
    ):
        section = spec.config.get("text_config")
        config = section if isinstance(section, Mapping) else spec.config
        found = config.get("num_nextn_predict_layers", config.get("mtp_num_hidden_layers", 0))
    else:
        return 0
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 < found < len(spec.layers) else 0


def lighter(found: Sizes, whole: Estimate) -> Sizes:
    """The same with the least weights that published files of this name have."""
    (least, _), usual = whole.weight_range, whole.weight_bytes
    if least >= usual:
        return found
    layers = tuple(
        replace(
            one, parts={part: size * least // usual for part, size in one.parts.items()}, rest=one.rest * least // usual
        )
        for one in found.layers
    )
    return replace(found, layers=layers, embedding=found.embedding * least // usual, head=found.head * least // usual)


@lru_cache(maxsize=32)  # a search asks for the same ones at every length
def _parts(spec: ModelSpec, plan: WeightPlan) -> dict[int, dict[str, int]]:
    """Bytes of each part of each layer, by the layer's identity."""
    found: dict[int, dict[str, int]] = {}
    for layer in spec.layers:
        if id(layer) not in found:
            weights = [weight for weight in layer.weights if not weight.is_row_table]
            names = dict.fromkeys(weight.part for weight in weights)
            totals = (plan.total((weight, 1) for weight in weights if weight.part == name) for name in names)
            found[id(layer)] = dict(zip(names, totals, strict=True))
    return found


def _layer_size(whole: Estimate, setting: Setting, layer: Layer) -> _LayerSize:
    parts = _parts(whole.spec, whole.plan)[id(layer)]
    shares = [mlp.active / mlp.experts for mlp in layer.mlps if isinstance(mlp, Moe) and mlp.experts]
    return _LayerSize(parts, 0, buffers(whole, setting, [(layer, 1)]).total, max(shares, default=1.0))


# long: one placement, card by card
def placed(found: Sizes, placement: Placement) -> Placed:
    """Puts layers, head and caches on the cards and the host.

    The last `layers` go to the cards, the head as the last of them (before b7450 once all layers are there); layer i of
    n goes to the first card whose cumulated share of memory, or of -ts, is above i / n. Row and tensor splits cut every
    matrix by these shares. Leaves out: norms that stay where they are used, and copies for pipelining.
    """
    count, ahead = len(found.layers), len(found.layers) + found.predicting
    total = ahead + 1
    wanted = total if placement.layers is None else min(placement.layers, total)
    first = max(total - wanted, 0) if found.head_first else max(ahead - wanted, 0)
    shares = _filling(found, placement, first=first, wanted=wanted) or _shares(placement, found.cards)
    points = [share / sum(shares) for share in accumulate(shares)]
    _, not_read = patterns_of(placement.overrides)
    weights, caches = [0.0] * len(points), [0] * len(points)
    host, host_cache, on_host, read = 0.0, 0, 0.0, 0.0
    experts_there, experts_in_all, dense_in_all = 0.0, 0.0, 0.0
    for two, card_parts, cache, times in _alike(found, placement, first=first, wanted=wanted, points=points):
        host, on_host, read = host + times * two.moved, on_host + times * two.read_there, read + times * two.read_here
        experts_there += times * two.experts_there
        experts_in_all += times * two.experts
        dense_in_all += times * (two.whole - two.experts)
        cache_here = bool(card_parts) and not placement.cache_on_host
        host_cache += 0 if cache_here else times * cache
        for card, size in two.pinned.items():
            weights[card] += times * size
        for card, part in card_parts:
            weights[card] += times * part * (two.whole - two.moved - sum(two.pinned.values()))
            caches[card] += times * round(part * cache) if cache_here else 0
    head_here = first <= ahead < first + wanted
    head = found.head + (found.embedding if found.tied else 0)
    if head_here:
        for card, part in _cards_of(ahead, first, wanted, points=points, split=placement.split):
            weights[card] += part * head
    dense_there = host - experts_there + (0 if head_here else head)
    shares_there = (_part(dense_there, dense_in_all + head), _part(experts_there, experts_in_all))
    weights[0] += found.tower if wanted else 0
    host += found.embedding + found.lookups + (0 if wanted else found.tower) + (0 if head_here else found.head)
    beside = [round(found.beside * share / sum(shares)) for share in shares] if wanted else [0] * len(shares)
    cards = tuple(
        Card(round(weight), cache, found.other + extra, capacity)
        for weight, cache, extra, capacity in zip(weights, caches, beside, found.cards, strict=True)
    )
    reads = (round(read + (head if head_here else 0)), round(on_host + (0 if head_here else head)))
    on_cards = max(0, min(wanted, count, count - first))  # none where the head alone would be first
    return Placed(cards, round(host), host_cache, on_cards, head_here, reads, placement, not_read, shares_there)


def _filling(found: Sizes, placement: Placement, *, first: int, wanted: int) -> tuple[float, ...]:
    """Counts the layers that each card takes until it is full; () where the placement does not ask for it.

    A layer that no card has room for goes to the last one, which is then too small.
    """
    sizes = [size for size in found.cards if size is not None]
    if (
        not placement.fill
        or placement.shares
        or placement.split in ROWS
        or len(sizes) < 2
        or len(sizes) < len(found.cards)
    ):
        return ()
    beside = ceil_div(found.beside, len(sizes))
    left = [
        size - found.other - beside - FIT_LEAVES_BYTES - (0 if card else found.tower) for card, size in enumerate(sizes)
    ]
    counts, card = [0.0] * len(sizes), 0
    for index in range(first, first + wanted):
        if index < len(found.layers):
            one = found.layers[index]
            there = one.parts.get("experts", 0) if placement.expert_layers < 0 or index < placement.expert_layers else 0
            need = sum(one.parts.values()) + one.rest - there + (0 if placement.cache_on_host else one.cache)
        elif index < len(found.layers) + found.predicting:
            need = 0
        else:
            need = found.head + (found.embedding if found.tied else 0)
        while card < len(left) - 1 and left[card] < need:
            card += 1
        left[card] -= need
        counts[card] += 1
    return tuple(counts) if wanted else ()


@dataclass(frozen=True)
class _Parted:
    """Bytes of one layer where a placement puts them.

    moved          weights that lie on the host; `whole` is all of them
    read_here      what a token reads of them on the cards, `read_there` on the host
    experts        of the experts, `experts_there` those on the host
    pinned         what -ot puts on a card by name
    """

    whole: int
    moved: float
    read_here: float
    read_there: float
    experts: int
    experts_there: float
    pinned: dict[int, float]


Parts = tuple[tuple[int, float], ...]
"""(card, its part) of a layer."""


def _alike(
    found: Sizes, placement: Placement, *, first: int, wanted: int, points: Sequence[float]
) -> list[tuple[_Parted, Parts, int, int]]:
    """Lists (a layer as it is parted, the cards' parts of it, bytes of its cache, how many layers are so)."""
    patterns, _ = patterns_of(placement.overrides)
    times: dict[tuple[int, ...], int] = {}
    made: dict[tuple[int, ...], tuple[_Parted, Parts, int]] = {}
    row = _cards_of(0, first, max(wanted, 1), points=points, split=placement.split) if placement.split in ROWS else None
    experts, ffn = placement.expert_layers, placement.ffn_layers
    for index, one in enumerate(found.layers):
        here = first <= index < first + wanted
        parts = (row or _cards_of(index, first, wanted, points=points, split=placement.split)) if here else ()
        card = parts[0][0] if parts else -1
        kind = (id(one), card, index < experts, index < ffn, index if patterns else 0)
        if kind in times:
            times[kind] += 1
            continue
        parted = _parted(one, index, placement, patterns=patterns, here=here, cards=len(points))
        times[kind], made[kind] = 1, (parted, parts, one.cache)
    return [(*made[kind], count) for kind, count in times.items()]


def _parted(
    one: _LayerSize, index: int, placement: Placement, *, patterns: tuple[Override, ...], here: bool, cards: int
) -> _Parted:
    """Parts layer `index`, which is `here` on the cards or not; layers of one kind are parted alike."""
    goes = {name: part_targets(name, index, placement, patterns=patterns) for name in one.parts}
    stays = {name: target.get(HOST, 0.0) if here else 1.0 - _on_cards(target) for name, target in goes.items()}
    moved = sum(size * stays[part] for part, size in one.parts.items()) + (0 if here else one.rest)
    whole, experts, there = sum(one.parts.values()) + one.rest, one.parts.get("experts", 0), stays.get("experts", 0.0)
    idle = (1 - one.active) * experts
    read_here, read_there = whole - moved - (idle - idle * there), moved - idle * there
    return _Parted(whole, moved, read_here, read_there, experts, experts * there, _pinned(one, goes, cards))


def _part(there: float, in_all: float) -> float:
    return there / in_all if in_all else 0.0


def _on_cards(targets: Mapping[int, float]) -> float:
    return sum(share for target, share in targets.items() if target != HOST)


def _pinned(one: _LayerSize, goes: Mapping[str, Mapping[int, float]], cards: int) -> dict[int, float]:
    """Bytes of a layer that -ot puts on a card by name."""
    found: dict[int, float] = {}
    for part, targets in goes.items():
        for card, share in targets.items():
            if card >= cards:
                raise BadRequest(f"-ot names device {card} and there are {cards}; they are counted from 0")
            if card != HOST:
                found[card] = found.get(card, 0.0) + share * one.parts[part]
    return found


def _shares(placement: Placement, cards: Sequence[int | None]) -> list[float]:
    """The part of the layers that each card gets: -ts, else by its memory."""
    if placement.split == "none":
        return [1.0] + [0.0] * (len(cards) - 1)
    given = placement.shares
    if len(given) > len(cards) and any(given[len(cards) :]):
        raise BadRequest(f"-ts names {len(given)} shares and there are {len(cards)} devices; give one share a device")
    if sum(given) > 0:
        return [*given[: len(cards)], *[0.0] * (len(cards) - len(given))]
    return [float(size or 1) for size in cards]


def _cards_of(index: int, first: int, wanted: int, *, points: Sequence[float], split: str) -> Parts:
    """(card, its part) of layer `index`."""
    if split in ROWS:
        starts = (0.0, *points[:-1])
        return tuple((card, end - start) for card, (start, end) in enumerate(zip(starts, points, strict=True)))
    return ((min(bisect_right(points, (index - first) / wanted), len(points) - 1), 1.0),)


def best(found: Sizes, placement: Placement, free: int = 0) -> Placement | None:
    """Finds the placement that keeps most on the cards with `free` bytes left on each; None where nothing helps.

    Experts leave the cards first, those of as few layers as will do; only then whole layers do, as --fit does it.
    """
    if any("experts" in one.parts for one in found.layers):
        placement = replace(placement, fill=True)
    experts = fewest_experts(found, placement, free)
    if experts is not None:
        return replace(placement, expert_layers=experts) if experts else placement
    if any("experts" in one.parts for one in found.layers):
        most = most_layers(found, replace(placement, expert_layers=-1), free)
        return None if most is None else replace(placement, expert_layers=-1, layers=most)
    most = most_layers(found, placement, free)
    return None if most is None else replace(placement, layers=most)


def fewest_experts(found: Sizes, placement: Placement, free: int = 0) -> int | None:
    """Finds the fewest layers whose experts have to lie on the host; 0 where all fits, None where that does not help."""
    if placed(found, placement).short_bytes <= -free:
        return 0
    if placement.expert_layers < 0 or not any("experts" in one.parts for one in found.layers):
        return None
    return smallest(
        lambda n: placed(found, replace(placement, expert_layers=n)).short_bytes <= -free, len(found.layers), 1
    )


def most_layers(found: Sizes, placement: Placement, free: int = 0) -> int | None:
    """Finds the most layers that the cards hold, None where they do not even hold their buffers."""

    def fits(layers: int) -> bool:
        return placed(found, replace(placement, layers=layers)).short_bytes <= -free

    if not fits(0):
        return None
    return largest(fits, len(found.layers) + found.predicting + 1, max(1, len(found.layers) // 2))
