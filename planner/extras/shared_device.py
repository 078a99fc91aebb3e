"""Memory beyond one model: LoRA adapters, a speculative drafter, other models, idle sessions on the device.

A `Request` carries them, and `planner.memory.estimate` adds them to every device: so most sequences, longest context and
fewest devices count them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import FLOAT_BYTES, kv_format
from planner.errors import BadRequest
from planner.extras.lora import Lora, adapter_parameters, layers_parameters, table_parameters
from planner.extras.projector import Projector
from planner.frozen import dataclass
from planner.memory.activations import OverheadLine
from planner.memory.estimate import Estimate, estimate, rank_kv_bytes
from planner.memory.limits import largest, pool_bytes
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.memory.weight_formats import WeightPlan
from planner.memory.weight_plan import weight_plan
from planner.model.attention import Attention
from planner.model.cache import Cache
from planner.model.mlp import Mlp
from planner.model.parameters import all_weights, counted
from planner.model.spec import Layer, ModelSpec
from planner.model.stored import MTP
from planner.model.weights import Weight, linear
from planner.units import MAX_COUNT, ceil_div

TABLES = ("embedding", "lm_head")


EAGLE3_VOCAB = 32_000


DRAFT_TOKENS = {"mtp": 1, "eagle": 4, "eagle3": 4, "model": 4}


"""Draft tokens of a step where none are given; a stated default."""


@dataclass(frozen=True, eq=False)
class Drafter:
    """What proposes tokens: a model of its own, the checkpoint's MTP layers, or an EAGLE head.

    weights, caches   what one device of TP 1 holds, each with how many equal ones
    high_share        how much more published heads of this kind hold, as a share of the weights
    spare             tables that some engines load again and others share with the target
    own_dtype         the float type it runs in; None: the target's
    """

    name: str
    kind: str
    draft_tokens: int
    weights: tuple[tuple[Weight, int], ...]
    caches: tuple[tuple[Cache, int], ...]
    plan: WeightPlan
    spare: tuple[tuple[Weight, int], ...] = ()
    high_share: Fraction = Fraction(0)
    own_dtype: str | None = None
    stored_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(weight.parameters * count for weight, count in self.weights)

    def weight_bytes(self, sharding: Sharding) -> tuple[int, int, int]:
        """(expected, low, high) on one tensor-parallel rank; the drafter is split like the target."""
        shares = [(weight.on_rank(sharding.tp, sharding.ep), count) for weight, count in self.weights]
        held = self.plan.total(shares)
        if self.stored_bytes is not None:
            on_rank = sum(weight.parameters * count for weight, count in shares)
            held = ceil_div(self.stored_bytes * on_rank, self.parameters)
        spare = self.plan.total((weight.on_rank(sharding.tp), count) for weight, count in self.spare)
        return held, held, held + int(held * self.high_share) + spare

    def cache_bytes(self, estimate: Estimate, tokens: int) -> int:
        """K, V and state of one sequence on one rank."""
        fmt, sharding = self._format(estimate), replace(estimate.request.sharding, dcp=1)
        on_rank: dict[Cache, int] = {}
        for cache, count in self.caches:
            share = sharding.on_rank(cache)
            on_rank[share] = on_rank.get(share, 0) + count
        state = sum(count * cache.state_bytes(fmt) for cache, count in on_rank.items())
        return state + rank_kv_bytes(on_rank, sharding, tokens, source_tokens=0, fmt=fmt)

    def _format(self, estimate: Estimate) -> CacheFormat:
        if self.own_dtype is None:
            return estimate.fmt
        k, v = estimate.request.k_dtype or self.own_dtype, estimate.request.v_dtype or self.own_dtype
        return CacheFormat(kv_format(k), kv_format(v), FLOAT_BYTES[self.own_dtype])


def draft_model(target: ModelSpec, draft: ModelSpec, draft_tokens: int | None = None) -> Drafter:
    """Describes a smaller model that proposes: all its weights, and its own cache for every sequence at the same length.

    Leaves out its activations, which are smaller than the target's and not alive at the same time.
    Raises BadRequest for an encoder-decoder, or one whose weights are not known.
    """
    if draft.has_cross_attention or not draft.weights_known:
        raise BadRequest(f"--drafter {draft.name}: a decoder with known weights is wanted")
    notes = []
    if draft.vocab != target.vocab:
        notes.append(f"{draft.name} has a vocabulary of {draft.vocab:,}, {target.name} of {target.vocab:,}: "
                     "most engines want the same tokens")  # fmt: skip
    caches = tuple((cache, count) for layer, count in draft.groups for cache in layer.caches)
    plan = weight_plan(draft)
    return Drafter(draft.name, "model", draft_tokens or DRAFT_TOKENS["model"], tuple(all_weights(draft)), caches, plan,
                   own_dtype=draft.dtype or "bf16", notes=tuple(notes))  # fmt: skip


def mtp_head(target: ModelSpec, draft_tokens: int | None = None) -> Drafter:
    """Describes the checkpoint's multi-token-prediction layers: their weights, and one layer's cache for each.

    Embedding and head come with each layer in some checkpoints; engines share the target's, so they are only the
    upper end. The cache is that of the model's full (or latent) attention.
    Source: vLLM deepseek_mtp.py, qwen3_next_mtp.py and the proposer that shares embedding and head.

    Raises BadRequest where the spec has none, or their layout is not known.
    """
    joined = [w for w in target.mtp if w.part == "mtp" and w.rows == target.hidden]
    # Each joins the hidden state and the embedding: by one matrix [h, 2·h], or by one [h, h] for each of the two.
    layers = sum(w.count * w.cols for w in joined if w.cols in (target.hidden, 2 * target.hidden)) // (
        2 * target.hidden
    )
    if not layers:
        raise BadRequest(
            f"--drafter mtp: no multi-token-prediction layers of a known layout in {target.name}; name a MODEL or eagle"
        )
    stored = target.stored.bytes_of(MTP) if target.stored is not None else None
    return Drafter(
        name="mtp",
        kind="mtp",
        draft_tokens=draft_tokens or DRAFT_TOKENS["mtp"],
        weights=tuple((w, 1) for w in target.mtp if w.part not in TABLES),
        caches=tuple((cache, layers) for cache in _predicting_caches(target)),
        plan=weight_plan(replace(target, stored=None)),
        spare=() if stored else tuple((w, 1) for w in target.mtp if w.part in TABLES),
        stored_bytes=stored or None,
    )


def _predicting_caches(target: ModelSpec) -> tuple[Cache, ...]:
    """What a predicting layer keeps: as the model's full (or latent) attention, or DeepSeek-V4's its window alone.

    The checkpoint of DeepSeek-V4-Pro has no compressor in that layer: its 865 GB come out without one.
    """
    if target.model_type.startswith("deepseek_v4"):
        windows = [c for layer, _ in target.groups for c in layer.caches if c.kind.startswith("sliding")]
        if windows:
            return (windows[0],)
    return _full_layer(target).caches


def _full_layer(target: ModelSpec) -> Layer:
    for layer, _ in target.groups:
        if any(cache.kind.startswith(("full", "latent")) for cache in layer.caches):
            return layer
    raise BadRequest(f"{target.name} has no full attention layer that a drafting layer could resemble; name a MODEL")


def eagle_head(target: ModelSpec, kind: str, draft_tokens: int | None = None) -> Drafter:
    """Describes an EAGLE head for a dense model: one layer of the target's shape and a projection of its inputs.

    eagle    a layer and fc [h, 2·h]; embedding and head are the target's
    eagle3   q, k, v read 2·h; fc [h, 3·h]; its own head over 32,000 draft tokens
    Published heads differ: of EAGLE's ten, two hold 4 and 11 % more than this; that is the upper end.
    Source: SafeAILab/EAGLE README (parameters by model); the configs of yuhuili's heads; vLLM llama_eagle3.py.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> round(eagle_head(read_entry(find_model("llama-2-7b")), "eagle").parameters / 1e9, 2)    # published: 0.24 B
    0.24

    Raises BadRequest where no layer is plain attention with one MLP.
    """
    hidden = target.hidden
    plain = next((layer for layer, _ in target.groups
                  if [type(piece) for piece in (*layer.mixers, *layer.mlps)] == [Attention, Mlp]), None)  # fmt: skip
    if plain is None:
        raise BadRequest(
            f"--drafter {kind}: {target.name} has no dense attention layer to shape a head after; name a MODEL"
        )
    weights = plain.weights + linear("mtp", hidden, (2 if kind == "eagle" else 3) * hidden)
    if kind == "eagle3":
        weights += tuple(w for w in plain.mixers[0].weights() if w.linear and w.split in ("rows", "kv"))
        weights += (Weight("lm_head", EAGLE3_VOCAB, hidden, split="rows", linear=False),)
    fmt = weight_plan(target, target.dtype or "bf16")  # heads are 16 bit, whatever the target is stored in
    return Drafter(
        name=kind,
        kind=kind,
        draft_tokens=draft_tokens or DRAFT_TOKENS[kind],
        weights=tuple((weight, 1) for weight in weights),
        caches=tuple((cache, 1) for cache in plain.caches),
        plan=fmt,
        high_share=Fraction(12, 100),
    )


@dataclass(frozen=True, eq=False)
class Other:
    """Another model on the same devices, a process of its own in the same layout.

    floor   the sequences and their length that it is to hold at least
    share   its part of what all floors leave; `share_bytes` is that part once it is known (`split_pool`)
    """

    spec: ModelSpec
    seq_tokens: int
    sequences: int = 1
    share: Fraction = Fraction(0)
    share_bytes: int = 0

    def on(self, sharding: Sharding, kind: str, sequences: int | None = None) -> Estimate:
        """Its estimate in the layout, with `sequences` or its floor."""
        layout = replace(sharding, pp=min(sharding.pp, len(self.spec.layers)), ep=1, dcp=1)
        request = Request(self.seq_tokens, batch=sequences or self.sequences, sharding=layout)
        return estimate(self.spec, request, Capacity("", 0, kind))

    def most_sequences(self, sharding: Sharding, kind: str) -> int:
        """Sequences that fit into its floor and its share of the rest."""
        held = self.on(sharding, kind).per_device.total_bytes + self.share_bytes
        return largest(lambda n: self.on(sharding, kind, n).per_device.total_bytes <= held, MAX_COUNT)


@dataclass(frozen=True, eq=False)
class Extras:
    """All that shares the devices with the model; `idle_sessions` are those kept on the device."""

    adapters: tuple[Lora, ...] = ()
    drafter: Drafter | None = None
    others: tuple[Other, ...] = ()
    idle_sessions: int = 0
    projector: Projector | None = None

    def on_stage(
        self, estimate: Estimate, index: int, layers: list[tuple[Layer, int]], *, caches: Mapping[Cache, int]
    ) -> tuple[tuple[OverheadLine, ...], int]:
        """(what the fullest device of a stage holds besides, cache bytes that each sequence adds there)."""
        lines = [_adapter_line(lora, estimate, index, layers=layers) for lora in self.adapters]
        if self.projector is not None and index == 0:
            lines += self.projector.lines()
        if self.drafter is not None and index == estimate.request.sharding.pp - 1:
            held, low, high = self.drafter.weight_bytes(estimate.request.sharding)
            lines.append(OverheadLine(f"drafter {self.drafter.name}", held, low, high, "its weights"))
        lines += [_other_line(other, estimate, index) for other in self.others]
        if self.idle_sessions:
            tokens = estimate.request.seq_tokens
            each = self._drafting_bytes(estimate, index, caches, tokens=tokens, drafts=0) + _own_bytes(
                estimate, caches, tokens
            )
            size = estimate.request.sharding.sequences_on_rank(self.idle_sessions) * each
            lines.append(OverheadLine("idle sessions", size, size, size, f"{self.idle_sessions:,} kept on the device"))
        return tuple(lines), self.sequence_bytes(estimate, index, caches, tokens=estimate.request.seq_tokens)

    def sequence_bytes(self, estimate: Estimate, index: int, caches: Mapping[Cache, int], *, tokens: int) -> int:
        """What each running sequence of `tokens` adds on the fullest device of a stage, the model's own cache apart."""
        drafts = 0 if self.drafter is None else self.drafter.draft_tokens
        return self._drafting_bytes(estimate, index, caches, tokens=tokens, drafts=drafts)

    def _drafting_bytes(
        self, estimate: Estimate, index: int, caches: Mapping[Cache, int], *, tokens: int, drafts: int
    ) -> int:
        """The drafter's cache at the same length, and the slots of the tokens drafted in a step: in the target's
        cache as in the drafter's, and a state more for each where the target is recurrent."""
        if self.drafter is None:
            return 0
        request, fmt, source = estimate.request, estimate.fmt, estimate.source_tokens
        longer = rank_kv_bytes(caches, request.sharding, tokens + drafts, source_tokens=source, fmt=fmt)
        slots = longer - rank_kv_bytes(caches, request.sharding, tokens, source_tokens=source, fmt=fmt)
        states = drafts * sum(count * cache.state_bytes(fmt) for cache, count in caches.items())
        last = index == request.sharding.pp - 1
        return max(0, slots) + states + (self.drafter.cache_bytes(estimate, tokens + drafts) if last else 0)


def _own_bytes(estimate: Estimate, caches: Mapping[Cache, int], tokens: int) -> int:
    """The model's own cache of one sequence on one rank."""
    kv = rank_kv_bytes(
        caches, estimate.request.sharding, tokens, source_tokens=estimate.source_tokens, fmt=estimate.fmt
    )
    return kv + sum(count * cache.state_bytes(estimate.fmt) for cache, count in caches.items())


def _adapter_line(lora: Lora, estimate: Estimate, index: int, *, layers: list[tuple[Layer, int]]) -> OverheadLine:
    spec, sharding = estimate.spec, estimate.request.sharding
    held = chain(layers, counted(spec.encoder)) if index == 0 else iter(layers)
    each = lora.count * estimate.fmt.model_dtype_bytes
    low = layers_parameters(held, lora, sharding.tp, ep=sharding.ep) * each
    tables = 0
    if lora.slots:
        ends = (index == 0) + (index == sharding.pp - 1)
        tables = table_parameters(spec, lora.rank) * ends // 2 * each
    words = "slots preallocated" if lora.slots else "adapters resident"
    return OverheadLine(lora.name, low + tables, low, low + tables, words)


def _other_line(other: Other, estimate: Estimate, index: int) -> OverheadLine:
    kind = estimate.capacity.kind if estimate.capacity else "cuda"
    stages = other.on(estimate.request.sharding, kind).stages
    device = stages[min(index, len(stages) - 1)]
    low, high = device.total_range
    share = other.share_bytes
    words = f"weights, {other.sequences:,} x {other.seq_tokens:,} tokens, activations, its own context"
    return OverheadLine(f"model {other.spec.name}", device.total_bytes + share, low + share, high + share, words)


def extras_of(request: Request) -> Extras | None:
    """Returns what the request says is on the devices besides, or None."""
    extras = request.extras
    assert extras is None or isinstance(extras, Extras)
    return extras


def split_pool(spec: ModelSpec, request: Request, capacity: Capacity) -> Request:
    """Returns the request with each other model's share of what weights and floors leave, in bytes.

    pool = capacity - all that is not cache of the model itself; share_bytes = floor(share · pool).
    Raises BadRequest where the shares are more than the whole.
    """
    extras = extras_of(request)
    if extras is None or not any(other.share for other in extras.others):
        return request
    if sum(other.share for other in extras.others) >= 1:
        raise BadRequest(
            "--also: the shares of the other models leave nothing; write shares of less than 100 % together"
        )
    left = max(0, pool_bytes(estimate(spec, replace(request, batch=1), capacity)))
    others = tuple(replace(other, share_bytes=int(other.share * left)) for other in extras.others)
    return replace(request, extras=replace(extras, others=others))


def extras_dict(estimate: Estimate) -> dict[str, Any]:
    """Returns what shares the fullest device, in base units, for one estimate that carries extras."""
    extras, device = extras_of(estimate.request), estimate.per_device
    assert extras is not None
    kind = estimate.capacity.kind if estimate.capacity else "cuda"
    sharding = estimate.request.sharding
    sequences = sharding.sequences_on_rank(estimate.request.batch)
    lines = [
        {"name": line.name, "bytes": line.bytes, "bytes_low": line.low, "bytes_high": line.high}
        for line in device.extras
    ]
    found: dict[str, Any] = {
        "device_bytes": sum(line.bytes for line in device.extras),
        "device_bytes_low": sum(line.low for line in device.extras),
        "device_bytes_high": sum(line.high for line in device.extras),
        "sequence_bytes": device.extra_cache_bytes // sequences,
        "lines": lines,
    }
    if extras.adapters:
        found["lora"] = [_lora_dict(lora, estimate) for lora in extras.adapters]
    if extras.drafter is not None:
        found["drafter"] = _drafter_dict(extras.drafter, estimate)
    if extras.others:
        found["models"] = [_other_dict(other, sharding, kind) for other in extras.others]
    return found


def _other_dict(other: Other, sharding: Sharding, kind: str) -> dict[str, Any]:
    floor = other.on(sharding, kind).per_device
    return {
        "model": other.spec.name,
        "seq_tokens": other.seq_tokens,
        "sequences": other.sequences,
        "weight_bytes": floor.weight_bytes,
        "floor_kv_bytes": floor.kv_bytes,
        "floor_bytes": floor.total_bytes,
        "share": float(other.share),
        "share_bytes": other.share_bytes,
        "most_sequences": other.most_sequences(sharding, kind),
    }


def _lora_dict(lora: Lora, estimate: Estimate) -> dict[str, Any]:
    numbers = adapter_parameters(estimate.spec, lora)
    return {
        "name": lora.name,
        "count": lora.count,
        "rank": lora.rank,
        "targets": list(lora.targets) or ["all"],
        "slots": lora.slots,
        "adapter_parameters": numbers,
        "adapter_bytes": numbers * estimate.fmt.model_dtype_bytes,
    }


def _drafter_dict(drafter: Drafter, estimate: Estimate) -> dict[str, Any]:
    held, low, high = drafter.weight_bytes(estimate.request.sharding)
    return {
        "model": drafter.name,
        "kind": drafter.kind,
        "draft_tokens": drafter.draft_tokens,
        "step_tokens": 1 + drafter.draft_tokens,
        "parameters": drafter.parameters,
        "weight_bytes": held,
        "weight_bytes_low": low,
        "weight_bytes_high": high,
        "sequence_cache_bytes": drafter.cache_bytes(estimate, estimate.request.seq_tokens),
        "notes": list(drafter.notes),
    }
