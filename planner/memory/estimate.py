"""Estimate: weights + cache + activations + overhead, for the whole model and on each device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import FLOAT_BYTES, float_dtype, kv_format
from planner.errors import BadRequest, KvplanError, one_line
from planner.frozen import dataclass
from planner.memory.activations import PREFILL_TOKENS, Estimated, OverheadLine, activation_bytes, overhead_lines
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding, stages
from planner.memory.weight_formats import WeightPlan
from planner.memory.weight_plan import format_of_kv, weight_plan
from planner.model.cache import Cache
from planner.model.parameters import active_parameters, all_weights, parameters, parameters_by_part
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight
from planner.units import MAX_BYTES, MAX_COUNT, MAX_TOKENS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from planner.catalogue.device import Device

SCHEMA_VERSION = 2


@dataclass(frozen=True, eq=False, repr=False)
class OnDevice:
    """The fullest device of one pipeline stage.

    `extras` are what else lies there: adapters, a drafter, other models; `extra_cache_bytes` what they keep for the sequences.
    `weight_range` is the least and the most of weights that only a file's name tells.
    """

    stage: int
    layers: int
    kv_bytes: int
    state_bytes: int
    weight_bytes: int
    activation: Estimated
    overhead: tuple[OverheadLine, ...]
    extras: tuple[OverheadLine, ...] = ()
    extra_cache_bytes: int = 0
    weight_range: tuple[int, int] | None = None

    @property
    def overhead_bytes(self) -> int:
        return sum(line.bytes for line in self.overhead)

    @property
    def extra_bytes(self) -> int:
        return sum(line.bytes for line in self.extras)

    @property
    def sequence_bytes(self) -> int:
        """Sums all that grows with the sequences."""
        return self.kv_bytes + self.state_bytes + self.extra_cache_bytes

    @property
    def total_bytes(self) -> int:
        beside = self.extra_bytes if self.extras else 0
        return self.sequence_bytes + self.weight_bytes + self.activation.bytes + self.overhead_bytes + beside

    @property
    def total_range(self) -> tuple[int, int]:
        least, most = self.weight_range or (self.weight_bytes, self.weight_bytes)
        lines = (*self.overhead, *self.extras)
        low = self.sequence_bytes + least + self.activation.low + sum(line.low for line in lines)
        return low, self.sequence_bytes + most + self.activation.high + sum(line.high for line in lines)


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """The answer to one request. Bytes are of the whole model unless the name says device."""

    spec: ModelSpec
    request: Request
    fmt: CacheFormat
    plan: WeightPlan
    source_tokens: int
    capacity: Capacity | None = None

    def __repr__(self) -> str:
        return f"Estimate({self.spec.name!r}, seq_tokens={self.request.seq_tokens}, kv_bytes={self.kv_bytes})"

    @cached_property
    def kv_bytes(self) -> int:
        """All that grows with the length: K and V, latent, cross; every layer, every sequence."""
        return self.request.batch * sequence_kv_bytes(
            self.spec, self.request.seq_tokens, self.source_tokens, fmt=self.fmt
        )

    @cached_property
    def state_bytes(self) -> int:
        """Counts the recurrent state, which does not grow."""
        return self.request.batch * sum(
            count * cache.state_bytes(self.fmt) for layer, count in self.spec.groups for cache in layer.caches
        )

    @cached_property
    def kv_bytes_per_token(self) -> int:
        """The marginal token: what one sequence's next token adds at this length.

        Where tokens wait until a block of them is compressed, a single one may free memory: it is the mean over the
        next `token_cycle` tokens, rounded down.
        """
        now, cycle = self.request.seq_tokens, self.token_cycle
        have, then = (
            sequence_kv_bytes(self.spec, tokens, self.source_tokens, fmt=self.fmt) for tokens in (now, now + cycle)
        )
        return (then - have) // cycle

    @cached_property
    def device(self) -> Device | None:
        """Finds the catalogue's device of this capacity, once; None where it is a bare size."""
        from planner.catalogue.entries import find_device

        if self.capacity is None:
            return None
        try:
            return find_device(self.capacity.name)
        except KvplanError:
            return None

    @cached_property
    def token_cycle(self) -> int:
        """Tokens over which `kv_bytes_per_token` is a mean: 1, or the least common multiple of the compressed blocks."""
        return math.lcm(*(cache.cycle for layer, _ in self.spec.groups for cache in layer.caches))

    @cached_property
    def parameters(self) -> int:
        return parameters(self.spec)

    @cached_property
    def active_parameters(self) -> int:
        return active_parameters(self.spec)

    @cached_property
    def weight_bytes(self) -> int:
        return self.plan.total(all_weights(self.spec))

    @property
    def weight_range(self) -> tuple[int, int]:
        """The least and the most that the weights may take: their bytes, unless a GGUF file's name leaves them open."""
        return self.plan.range_of(self.weight_bytes)

    @cached_property
    def stages(self) -> tuple[OnDevice, ...]:
        """The fullest device of each pipeline stage."""
        pp = self.request.sharding.pp
        return tuple(self._stage(i, layers) for i, layers in enumerate(stages(self.spec, pp)))

    @cached_property
    def per_device(self) -> OnDevice:
        """The device that needs most: it decides whether the model fits."""
        return max(self.stages, key=lambda stage: (stage.total_bytes, stage.layers))

    @property
    def free_bytes(self) -> int | None:
        return None if self.capacity is None else self.capacity.bytes - self.per_device.total_bytes

    @property
    def bounded(self) -> bool:
        """Whether a number behind the verdict is an upper bound: then less than this may be needed."""
        return "upper bound" in (self.exactness["weight_bytes"], self.exactness["kv_bytes"])

    @property
    def fits(self) -> bool | None:
        """True or false where both are known; None without a device, and where an upper bound alone does not fit."""
        free = self.free_bytes
        if free is None or (free < 0 and self.bounded):
            return None
        return free >= 0

    @property
    def fits_word(self) -> str | None:
        """`fits`, `does not fit`, or `at most`: this much at most, so whether it fits is not known."""
        if self.free_bytes is None:
            return None
        return "at most" if self.fits is None else "fits" if self.fits else "does not fit"

    def _stage(self, index: int, layers: list[tuple[Layer, int]]) -> OnDevice:
        request, sharding = self.request, self.request.sharding
        sequences = sharding.sequences_on_rank(request.batch)
        caches = caches_on_rank(layers, sharding)
        kv = rank_kv_bytes(caches, sharding, request.seq_tokens, source_tokens=self.source_tokens, fmt=self.fmt)
        state = sum(count * cache.state_bytes(self.fmt) for cache, count in caches.items())
        known = self.spec.weights_known
        weights = rank_weight_bytes(self.spec, self.plan, sharding)[index] if known else 0
        activation = self._activation(sequences) if known else Estimated(0, 0, 0, "not counted")
        beside, cache_beside = (
            ((), 0) if request.extras is None else request.extras.on_stage(self, index, layers, caches=caches)
        )
        held = sequences * (kv + state + cache_beside) + weights + sum(line.bytes for line in beside)
        lines = overhead_lines(self.capacity.kind if self.capacity else "cuda", sharding.devices, held)
        return OnDevice(
            stage=index,
            layers=sum(count for _, count in layers),
            kv_bytes=sequences * kv,
            state_bytes=sequences * state,
            weight_bytes=weights,
            weight_range=self.plan.range_of(weights),
            activation=activation,
            overhead=override_lines(lines, request.overhead_override),
            extras=beside,
            extra_cache_bytes=sequences * cache_beside,
        )

    def _activation(self, sequences: int) -> Estimated:
        request = self.request
        if request.activation_override is not None:
            given = request.activation_override
            return Estimated(given, given, given, "as given")
        tokens = request.prefill_tokens or min(sequences * request.seq_tokens, PREFILL_TOKENS)
        return activation_bytes(
            self.spec,
            prefill_tokens=tokens,
            sequences=sequences,
            context=request.seq_tokens,
            dtype_bytes=self.fmt.model_dtype_bytes,
            tp=request.sharding.tp,
            fused_attention=request.fused_attention,
        )

    @cached_property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken as given, in words."""
        lines = [self.plan.words if self.spec.weights_known else "", *self.spec.notes]
        request = self.request
        if request.k_dtype is None and request.v_dtype is None:
            running = float_dtype(self.fmt.name) is not None
            why = "the float type the model runs in" if running else "as this engine stores the model's"
            lines.append(f"KV cache in {self.fmt.name}, {why}")
        if self.spec.has_cross_attention and request.source_tokens is None:
            lines.append(_source_words(self.spec, self.source_tokens))
        if request.prefill_tokens is None and request.activation_override is None:
            lines.append(f"prefill in steps of at most {PREFILL_TOKENS:,} tokens")
        lines += request.sharding.words(self.spec)
        return tuple(line for line in lines if line)

    @property
    def beyond_note(self) -> str | None:
        """What is said of a length beyond the model's positions."""
        limit, asked = self.spec.max_positions, self.request.seq_tokens
        if not limit or asked <= limit:
            return None
        return f"{asked:,} tokens are more than the {limit:,} positions that the config gives this model"

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        lines = [*self.spec.warnings, *self.plan.warnings]
        if self.beyond_note:
            lines.append(self.beyond_note)
        stated = format_of_kv(self.spec.quantization)
        if stated and self.request.k_dtype is None:
            lines.append(
                f"the checkpoint says its KV cache is meant for {stated}; that is not applied unasked: --kv-dtype {stated}"
            )
        for fmt in {self.fmt.k.name: self.fmt.k, self.fmt.v.name: self.fmt.v}.values():
            if fmt.note and fmt.group_bytes == 4 and fmt.name.startswith("kivi"):
                lines.append(fmt.note)
        drafter = None if self.request.extras is None else self.request.extras.drafter
        if self.spec.mtp and (drafter is None or drafter.kind != "mtp"):
            extra = sum(weight.parameters for weight in self.spec.mtp)
            lines.append(
                f"the checkpoint also holds multi-token-prediction layers of {extra:,} parameters; not counted"
            )
        return tuple(lines)

    @property
    def exactness(self) -> dict[str, str]:
        cache = "upper bound" if self.spec.upper_bound else "exact"
        weights = "not counted" if not self.spec.weights_known else "upper bound" if self.spec.upper_bound else ""
        of_plan = self.plan.exactness_on(self.request.sharding.devices, self.request.sharding.pp)
        # a tower that is not counted; a checkpoint's headers count every part
        lower = "lower bound" if self.spec.partial and self.spec.stored is None else "exact"
        return {
            "kv_bytes": cache,
            "state_bytes": cache,
            "parameters": weights or lower,
            "weight_bytes": weights or (lower if of_plan == "exact" else of_plan),
            "activation_bytes": "estimated" if self.spec.weights_known else "not counted",
            "overhead_bytes": "estimated",
        }

    # long: the keys of the JSON contract, one a line
    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay; null where the model's weights are not known."""
        device = self.per_device
        known = self.spec.weights_known
        low, high = device.total_range
        sharding = self.request.sharding
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.spec.name,
            "read_as": self.spec.read_as.to_dict() if self.spec.read_as else None,
            "model_type": self.spec.model_type,
            "batch": self.request.batch,
            "seq_tokens": self.request.seq_tokens,
            "source_tokens": self.source_tokens if self.spec.has_cross_attention else None,
            "kv_dtype": self.fmt.name,
            "kv_bytes": self.kv_bytes,
            "state_bytes": self.state_bytes,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "parameters": self.parameters if known else None,
            "active_parameters": self.active_parameters if known else None,
            "parameters_by_part": parameters_by_part(self.spec) if known else None,
            "weight_dtype": self.plan.fmt.name if known else None,
            "weight_bytes": self.weight_bytes if known else None,
            "weight_bytes_low": self.weight_range[0] if known else None,
            "weight_bytes_high": self.weight_range[1] if known else None,
            "sharding": {name: getattr(sharding, name) for name in ("tp", "pp", "ep", "dp", "dcp")},
            "devices": sharding.devices,
            "device": self.capacity.name if self.capacity else None,
            "per_device": {
                "stage": device.stage,
                "layers": device.layers,
                "kv_bytes": device.kv_bytes,
                "state_bytes": device.state_bytes,
                "weight_bytes": device.weight_bytes if known else None,
                "activation_bytes": device.activation.bytes if known else None,
                "activation_bytes_low": device.activation.low if known else None,
                "activation_bytes_high": device.activation.high if known else None,
                "overhead_bytes": device.overhead_bytes,
                "overhead": {line.name: line.bytes for line in device.overhead},
                **({"extras": {line.name: line.bytes for line in device.extras}} if device.extras else {}),
                "total_bytes": device.total_bytes if known else None,
                "total_bytes_low": low if known else None,
                "total_bytes_high": high if known else None,
                "capacity_bytes": self.capacity.bytes if self.capacity else None,
                "free_bytes": self.free_bytes,
                "fits": self.fits,
                "verdict": self.fits_word,
            },
            "assumptions": list(self.assumptions),
            "warnings": list(self.warnings),
            "exactness": self.exactness,
        }


@lru_cache(maxsize=256)  # a search asks for them at every length and batch; a spec and a plan equal themselves alone
def rank_weight_bytes(spec: ModelSpec, plan: WeightPlan, sharding: Sharding) -> tuple[int, ...]:
    """Returns the bytes of the weights that the fullest rank of each pipeline stage holds.

    Σ over weights of bytes(rank's share) · copies. A tied head is a second copy of the embedding on the last of several
    stages. Leaves out multi-token-prediction layers, as `ModelSpec.parameters` does.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> spec = read_entry(find_model("llama-7b"))
    >>> rank_weight_bytes(spec, weight_plan(spec), Sharding())
    (13476831232,)
    """
    last = sharding.pp - 1
    held = (
        _stage_weights(spec, layers, first=stage == 0, last=stage == last)
        for stage, layers in enumerate(stages(spec, sharding.pp))
    )
    return tuple(plan.total((w.on_rank(sharding.tp, sharding.ep), count) for w, count in weights) for weights in held)


def _stage_weights(
    spec: ModelSpec, layers: Iterable[tuple[Layer, int]], *, first: bool, last: bool
) -> Iterable[tuple[Weight, int]]:
    for layer, count in layers:
        for weight in layer.weights:
            yield weight, count
    if first:
        yield from ((weight, 1) for weight in (*spec.before, *spec.towers, *spec.encoder_extra))
        yield from ((weight, 1) for layer in spec.encoder for weight in layer.weights)
    if last:
        yield from ((weight, 1) for weight in spec.after)
        if spec.tied and not first:
            yield spec.before[0], 1


def sequence_kv_bytes(spec: ModelSpec, tokens: int, source_tokens: int, *, fmt: CacheFormat) -> int:
    """Counts the bytes of one sequence over all layers, unsharded."""
    return sum(
        count * cache.kv_bytes(tokens, source_tokens, fmt) for layer, count in spec.groups for cache in layer.caches
    )


def caches_on_rank(layers: Iterable[tuple[Layer, int]], sharding: Sharding) -> dict[Cache, int]:
    """Returns the caches of these layers as the fullest rank holds them, equal ones counted together."""
    counts: dict[Cache, int] = {}
    for layer, count in layers:
        for cache in layer.caches:
            share = sharding.on_rank(cache)
            counts[share] = counts.get(share, 0) + count
    return counts


def rank_kv_bytes(
    caches: Mapping[Cache, int], sharding: Sharding, tokens: int, *, source_tokens: int, fmt: CacheFormat
) -> int:
    """Counts the bytes of one sequence over what `caches_on_rank` gave."""
    return sum(
        count * cache.kv_bytes(sharding.tokens_on_rank(cache, tokens), source_tokens, fmt)
        for cache, count in caches.items()
    )


def estimate(spec: ModelSpec, request: Request, capacity: Capacity | None = None) -> Estimate:
    """Estimates the memory of one request.

    >>> from planner.readers.huggingface import read_config
    >>> llama = read_config({"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 32000,
    ...     "num_attention_heads": 32, "intermediate_size": 11008, "torch_dtype": "float16"})
    >>> e = estimate(llama, Request(8192))
    >>> e.kv_bytes, e.kv_bytes_per_token, e.parameters, e.weight_bytes
    (4294967296, 524288, 6738415616, 13476831232)

    Raises BadRequest for lengths, batches and layouts that mean nothing for this model.
    """
    _check_range("--seq", request.seq_tokens, MAX_TOKENS)
    _check_range("--batch", request.batch, MAX_COUNT)
    if request.prefill_tokens is not None:
        _check_range("--prefill-tokens", request.prefill_tokens, MAX_TOKENS)
    if request.activation_override is not None:
        _check_range("--activation", request.activation_override, MAX_BYTES, low=0)
    for name, size in request.overhead_override.items():
        _check_range(f"--overhead {one_line(str(name), 40)}", size, MAX_BYTES, low=0)
    request.sharding.check(spec)
    if capacity is not None and not spec.weights_known:
        raise BadRequest(
            f"{spec.name}: whether it fits cannot be said without its weights; describe it by hand with "
            "--layers --heads --kv-heads --head-dim --hidden --intermediate --vocab"
        )
    return Estimate(
        spec=spec,
        request=request,
        fmt=cache_format(spec, request),
        plan=weight_plan(spec, request.dtype),
        source_tokens=_source_tokens(spec, request),
        capacity=capacity,
    )


def cache_format(spec: ModelSpec, request: Request) -> CacheFormat:
    """Finds the formats of K and V: as asked, else the float type the model runs in; never inferred from quantised weights."""
    running = (float_dtype(request.dtype) if request.dtype else None) or spec.dtype or "bf16"
    k = kv_format(request.k_dtype or running)
    v = kv_format(request.v_dtype or running)
    return CacheFormat(k, v, FLOAT_BYTES[running])


def _source_tokens(spec: ModelSpec, request: Request) -> int:
    if request.source_tokens is not None:
        _check_range("--source-tokens", request.source_tokens, MAX_TOKENS, low=0)
        if not spec.has_cross_attention:
            raise BadRequest(f"--source-tokens: {spec.name} has no cross attention; leave it out")
        return request.source_tokens
    if not spec.has_cross_attention:
        return 0
    return request.seq_tokens if spec.source_tokens is None else spec.source_tokens


def _source_words(spec: ModelSpec, tokens: int) -> str:
    if spec.source_tokens is None:
        return f"encoder input as long as the decoder's, {tokens:,} tokens: --source-tokens says otherwise"
    return f"encoder output of {tokens:,} positions, as the config fixes it: --source-tokens says otherwise"


def override_lines(lines: tuple[OverheadLine, ...], given: Mapping[str, int]) -> tuple[OverheadLine, ...]:
    """Replaces named lines by what the user gave; a name that is not there is a line of its own."""
    kept = [
        OverheadLine(line.name, given[line.name], given[line.name], given[line.name], "as given")
        if line.name in given
        else line
        for line in lines
    ]
    names = {line.name for line in lines}
    kept += [OverheadLine(name, size, size, size, "as given") for name, size in given.items() if name not in names]
    return tuple(kept)


def _check_range(name: str, value: int, high: int, *, low: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"{name} {one_line(repr(value), 40)} is not a whole number; write {low} to {high:,}")
    if not low <= value <= high:
        raise BadRequest(f"{name} {one_line(repr(value), 40)} is out of range; write {low} to {high:,}")
