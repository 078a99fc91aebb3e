"""What llama.cpp keeps on its devices and what on the host, for -ngl, --n-cpu-moe, -ot and --no-kv-offload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from planner.launch.question import Placement
from planner.memory.estimate import Estimate
from planner.model.weights import Weight

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


@dataclass(frozen=True)
class Placed:
    """Bytes on the devices together and on the host; the cache is of all slots.

    not_read   patterns of -ot that are not read: more may lie on the host
    """

    device_weight_bytes: int
    host_weight_bytes: int
    cache_share: float
    layers_on_device: int
    not_read: tuple[str, ...] = ()

    @property
    def split(self) -> bool:
        return bool(self.host_weight_bytes)


def placed(estimate: Estimate, placement: Placement) -> Placed:
    """Where weights and cache lie; `estimate` is that of the whole model on one device.

    Weights of a file that was read as it is stored are counted by layer, all others by matrix. The embedding table
    counts with the device where all layers are there, as the engine's own answer does.
    Leaves out: the few MiB of norms and buffers that llama.cpp keeps where it computes.
    """
    spec = estimate.spec
    count = len(spec.layers)
    on = count if placement.layers is None else min(placement.layers, count)
    patterns, not_read = _patterns(placement.overrides)
    total = estimate.per_device.weight_bytes
    host = 0.0
    caches, cache_here = 0, 0
    for index, layer in enumerate(spec.layers):
        here = index >= count - on
        cache = _cache_bytes(estimate, index)
        caches += cache
        cache_here += cache if here and not placement.cache_on_host else 0
        if not here:
            host += _layer_bytes(estimate, index)
            continue
        for part, weights in _parts(layer.weights):
            host += _part_share(part, index, placement, patterns=patterns) * estimate.plan.total(
                (weight, 1) for weight in weights
            )
    if placement.layers is not None and placement.layers <= count:
        host += estimate.plan.total((weight, 1) for weight in spec.after)
    if placement.layers == 0:
        host = float(total)
    share = cache_here / caches if caches else 1.0
    return Placed(total - min(total, round(host)), min(total, round(host)), share, on, not_read)


def _layer_bytes(estimate: Estimate, index: int) -> int:
    stored = estimate.spec.stored
    if stored is not None and len(stored.layer_bytes) == len(estimate.spec.layers):
        return stored.layer_bytes[index]
    return estimate.plan.total((weight, 1) for weight in estimate.spec.layers[index].weights)


def _cache_bytes(estimate: Estimate, index: int) -> int:
    tokens = estimate.request.seq_tokens
    return sum(
        cache.kv_bytes(tokens, estimate.source_tokens, estimate.fmt) + cache.state_bytes(estimate.fmt)
        for cache in estimate.spec.layers[index].caches
    )


def _parts(weights: tuple[Weight, ...]) -> Iterator[tuple[str, list[Weight]]]:
    found: dict[str, list[Weight]] = {}
    for weight in weights:
        found.setdefault(weight.part, []).append(weight)
    yield from found.items()


def _part_share(part: str, index: int, placement: Placement, *, patterns: tuple[re.Pattern[str], ...]) -> float:
    """The share of a part of layer `index` that stays on the host."""
    if part == "experts" and (placement.expert_layers < 0 or index < placement.expert_layers):
        return 1.0
    if part == "mlp" and index < placement.ffn_layers:
        return 1.0
    names = _TENSORS.get(part, ())
    if not patterns or not names:
        return 0.0
    return sum(any(one.search(f"blk.{index}.{name}") for one in patterns) for name in names) / len(names)


@lru_cache(maxsize=64)
def _patterns(overrides: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], ...], tuple[str, ...]]:
    """(patterns that go to the host, those that are not read).

    A pattern comes from outside: one that could take long to match is not run.

    >>> [one.pattern for one in _patterns(("exps=CPU,blk.1.ffn=CUDA0",))[0]]
    ['exps']
    """
    read: list[re.Pattern[str]] = []
    not_read: list[str] = []
    for text in [piece for override in overrides for piece in _pieces(override)][:MOST_PATTERNS]:
        pattern, _, buffer = text.rpartition("=")
        if not buffer.strip().upper().startswith("CPU"):
            continue
        if (
            len(pattern) > 400
            or len(re.findall(r"[*+{]", pattern)) > 4
            or re.search(r"[*+}]\)*[*+{]|\\[1-9]|\(\?", pattern)
        ):
            not_read.append(text)
            continue
        try:
            read.append(re.compile(pattern))
        except re.error:
            not_read.append(text)
    return tuple(read), tuple(not_read)


def _pieces(override: str) -> list[str]:
    """PATTERN=BUFFER,PATTERN=BUFFER; a comma inside brackets is the pattern's own."""
    return [piece for piece in re.split(r"(?<==CPU),|(?<==CUDA\d),|(?<==CUDA_Host),", override) if piece]
