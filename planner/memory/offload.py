"""How many layers of a GGUF file fit on the card, and what stays on the host (llama.cpp --n-gpu-layers).

llama.cpp puts the last N layers on the card, each with its cache; the head follows when N is one more than the
layers; the embedding table stays on the host. A tied head is a second copy of the embedding on the card.
Source: llama.cpp src/llama-model.cpp, load_tensors (i_gpu_start = n_layer - n_gpu_layers, dev_input, dev_output).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from planner.memory.estimate import Estimate
from planner.model.stored import StoredWeights

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True)
class Offload:
    """Where the layers lie. Weights as stored and caches exact; what the card needs besides is estimated."""

    ngl: int
    layers: int
    layers_on_device: int
    head_on_device: bool
    device_weight_bytes: int
    device_cache_bytes: int
    device_other_bytes: int
    host_weight_bytes: int
    host_cache_bytes: int

    @property
    def device_bytes(self) -> int:
        return self.device_weight_bytes + self.device_cache_bytes + self.device_other_bytes

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"device_bytes": self.device_bytes}


def offload(answer: Estimate, ngl: int) -> Offload:
    """The layout for one number of layers; `answer` is the estimate of the same request on one device."""
    stored = answer.spec.stored
    assert stored is not None
    count = len(answer.spec.layers)
    on_device, head = min(ngl, count), ngl > count
    layers = stored.layer_bytes[count - on_device : count]
    caches = _layer_caches(answer)
    head_bytes = _head_bytes(answer.spec.tied, stored) if head else 0
    device = answer.per_device
    other = device.activation.bytes + sum(line.bytes for line in device.overhead if line.name != "allocator")
    weights = sum(layers) + head_bytes
    copied = stored.bytes_of("embedding") if head and answer.spec.tied else 0
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
    )


def most_layers(answer: Estimate, capacity_bytes: int) -> Offload:
    """The most layers that fit in `capacity_bytes`; none where not even one does."""
    best = offload(answer, 0)
    for ngl in range(1, len(answer.spec.layers) + 2):
        tried = offload(answer, ngl)
        if tried.device_bytes > capacity_bytes:
            break
        best = tried
    return best


def _layer_caches(answer: Estimate) -> list[int]:
    """K, V and state of each layer, all sequences together."""
    tokens, batch = answer.request.seq_tokens, answer.request.batch
    return [
        batch
        * sum(c.kv_bytes(tokens, answer.source_tokens, answer.fmt) + c.state_bytes(answer.fmt) for c in layer.caches)
        for layer in answer.spec.layers
    ]


def _head_bytes(tied: bool, stored: StoredWeights) -> int:
    """Head and what else is neither in a layer nor the embedding (last norm)."""
    rest = stored.loaded_bytes - sum(stored.layer_bytes) - stored.bytes_of("embedding")
    return rest + (stored.bytes_of("embedding") if tied else 0)
