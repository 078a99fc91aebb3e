"""What of a GGUF file fits on the card, and what stays on the host (llama.cpp --n-gpu-layers, --n-cpu-moe).

llama.cpp puts the last N layers on the card, each with its cache; the head follows when N is one more than the
layers; the embedding table stays on the host. A tied head is a second copy of the embedding on the card.
Source: llama.cpp src/llama-model.cpp, load_tensors (i_gpu_start = n_layer - n_gpu_layers, dev_input, dev_output);
common/fit.cpp puts experts into host memory first: they are most of the bytes and little of the work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from planner.memory.estimate import Estimate
from planner.model.moe import Moe
from planner.model.stored import StoredWeights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True)
class Offload:
    """Where the layers lie. Weights as stored and caches exact; what the card needs besides is estimated.

    cpu_moe_layers   the first so many layers keep their experts on the host (--n-cpu-moe)
    host_memory      bytes that the host was said to have; None: not said
    """

    ngl: int
    layers: int
    layers_on_device: int
    head_on_device: bool
    device_weight_bytes: int
    device_cache_bytes: int
    device_other_bytes: int
    host_weight_bytes: int
    host_cache_bytes: int
    cpu_moe_layers: int = 0
    host_memory: int | None = None

    @property
    def host_bytes(self) -> int:
        return self.host_weight_bytes + self.host_cache_bytes

    @property
    def host_fits(self) -> bool | None:
        """Whether the host holds its part; None where its memory was not said."""
        return None if self.host_memory is None else self.host_bytes <= self.host_memory

    @property
    def flags(self) -> str:
        """The start flags of this layout."""
        moe = f" --n-cpu-moe {self.cpu_moe_layers}" if self.cpu_moe_layers else ""
        return f"--n-gpu-layers {self.ngl}{moe}"

    @property
    def device_bytes(self) -> int:
        return self.device_weight_bytes + self.device_cache_bytes + self.device_other_bytes

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "device_bytes": self.device_bytes,
            "host_bytes": self.host_bytes,
            "host_fits": self.host_fits,
            "flags": self.flags,
        }


def offload(estimate: Estimate, ngl: int, cpu_moe_layers: int = 0) -> Offload:
    """Returns the layout for one number of layers; `estimate` is that of the same request on one device.

    With `cpu_moe_layers`, the experts of the first so many layers that have any lie on the host.
    """
    stored = estimate.spec.stored
    assert stored is not None
    count = len(estimate.spec.layers)
    on_device, head = min(ngl, count), ngl > count
    layers = stored.layer_bytes[count - on_device : count]
    caches = _layer_caches(estimate)
    head_bytes = _head_bytes(estimate.spec.tied, stored) if head else 0
    device = estimate.per_device
    other = device.activation.bytes + sum(line.bytes for line in device.overhead if line.name != "allocator")
    moved = sum(_expert_bytes(estimate)[count - on_device : cpu_moe_layers]) if cpu_moe_layers else 0
    weights = sum(layers) + head_bytes - moved
    copied = stored.bytes_of("embedding") if head and estimate.spec.tied else 0
    return Offload(
        ngl=ngl,
        layers=count,
        layers_on_device=on_device,
        head_on_device=head,
        device_weight_bytes=weights,
        device_cache_bytes=sum(caches[count - on_device :]),
        device_other_bytes=other,
        host_weight_bytes=stored.loaded_bytes - weights + copied,
        host_cache_bytes=sum(caches[: count - on_device]),
        cpu_moe_layers=cpu_moe_layers,
    )


def best_split(estimate: Estimate, capacity_bytes: int, host_memory: int | None = None) -> Offload:
    """Finds the layout that keeps most on the card: all of it, else all but experts, else fewer layers.

    Experts leave the card first, those of as few layers as will do; only then whole layers do.
    """
    count = len(estimate.spec.layers)
    experts = _expert_bytes(estimate)
    found = offload(estimate, count + 1)
    if found.device_bytes > capacity_bytes and any(experts):
        fewest = next(
            (n for n in range(1, count + 1) if offload(estimate, count + 1, n).device_bytes <= capacity_bytes), count
        )
        found = offload(estimate, count + 1, fewest)
    if found.device_bytes > capacity_bytes:
        moe = count if any(experts) else 0
        tried = (offload(estimate, ngl, moe) for ngl in range(count, -1, -1))
        found = next((one for one in tried if one.device_bytes <= capacity_bytes), offload(estimate, 0))
    return replace(found, host_memory=host_memory)


def _expert_bytes(estimate: Estimate) -> list[int]:
    """Routed experts of each layer as stored: the file's own sum over the layers, by the numbers each layer holds."""
    stored = estimate.spec.stored
    assert stored is not None
    numbers = [
        sum(weight.parameters for weight in layer.weights if weight.part == "experts") for layer in estimate.spec.layers
    ]
    whole = sum(numbers)
    size = stored.bytes_of("experts")
    return [size * own // whole if whole else 0 for own in numbers]


def read_bytes(estimate: Estimate, split: Offload) -> tuple[int, int]:
    """Counts (card, host) weights and cache that one decoded token reads: of the experts only those that are active.

    The embedding table is a lookup and is left out.
    """
    stored, spec = estimate.spec.stored, estimate.spec
    assert stored is not None
    shares = [
        mlp.active / mlp.experts for layer in spec.layers for mlp in layer.mlps if isinstance(mlp, Moe) and mlp.experts
    ]
    active = max(shares, default=1.0)
    experts = _expert_bytes(estimate)
    count = len(spec.layers)
    first = count - split.layers_on_device
    host_experts = sum(experts[: max(first, split.cpu_moe_layers)])
    card_experts = sum(experts) - host_experts
    host = split.host_weight_bytes - stored.bytes_of("embedding") - host_experts
    card = split.device_weight_bytes - card_experts
    if not split.head_on_device and spec.tied:
        host += stored.bytes_of("embedding")  # the head is the table
    return (
        int(card + card_experts * active) + split.device_cache_bytes,
        max(0, int(host + host_experts * active)) + split.host_cache_bytes,
    )


def _layer_caches(estimate: Estimate) -> list[int]:
    """K, V and state of each layer, all sequences together."""
    tokens, batch = estimate.request.seq_tokens, estimate.request.batch
    return [
        batch
        * sum(
            c.kv_bytes(tokens, estimate.source_tokens, estimate.fmt) + c.state_bytes(estimate.fmt) for c in layer.caches
        )
        for layer in estimate.spec.layers
    ]


def _head_bytes(tied: bool, stored: StoredWeights) -> int:
    """Head and what else is neither in a layer nor the embedding (last norm)."""
    rest = stored.loaded_bytes - sum(stored.layer_bytes) - stored.bytes_of("embedding")
    return rest + (stored.bytes_of("embedding") if tied else 0)
