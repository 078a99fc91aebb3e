"""ollama's own guess at its compute graph, by architecture: what decides which layers go to the device, and `ollama ps`.

Source: ollama fs/ggml/ggml.go, `GGML.GraphSize` and `GGML.VisionGraphSize` of v0.6.8, v0.9.0, v0.11.10 and v0.12.10;
the image that its own engine reserves for: runner/ollamarunner `reserveWorstCaseGraph`, model/models/*/imageprocessor.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from planner.engines.base import Version
from planner.engines.llamacpp_setting import Setting
from planner.memory.estimate import Estimate
from planner.model.cache import Full
from planner.model.latent_attention import LatentAttention
from planner.units import MIB

# Names of a config or a GGUF -> the architecture that ollama's formulas know; all others have the default formula.
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "llama4": "llama", "llama4_text": "llama", "mllama": "mllama",
    "gemma": "gemma", "gemma2": "gemma", "gemma3": "gemma", "gemma3_text": "gemma", "gemma3n": "gemma3n", "cohere": "command-r",
    "command-r": "command-r", "qwen2": "qwen2", "phi": "phi2", "phi2": "phi2", "stablelm": "stablelm", "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2", "deepseek2": "deepseek2", "gpt_oss": "gptoss", "gpt-oss": "gptoss", "gptoss": "gptoss",
}  # fmt: skip
GPTOSS_HALF_SINCE: Version = (0, 11, 5)
GPTOSS_FLASH_SINCE: Version = (0, 11, 8)
IMAGE = 2048  # each side, in pixels, of the image that the worst case is reserved for
QWEN25VL_LARGER_SINCE: Version = (0, 13, 4)
QWEN2_IMAGES, QWEN3_IMAGES = ("qwen2_5_vl", "qwen25vl"), ("qwen3_vl", "qwen3vl", "qwen3_5", "qwen35")
MISTRAL_EDGE, QWEN_HEADS = 1540, 16  # where a config leaves them out


@dataclass(frozen=True)
class Graph:
    """Bytes of the graph on each card: `full` with all layers there, else `partial`; `vision` of an image beside it."""

    partial: int
    full: int
    vision: int = 0

    @property
    def larger(self) -> int:
        """What the placement reserves on each card before it knows which of the two it will be."""
        return max(self.partial, self.full)


@dataclass(frozen=True)
class _Numbers:
    """What the formulas count with: b rows of a batch, c tokens of all slots, e hidden, h heads, k KV heads, d their width,
    v the vocabulary.
    """

    b: int
    c: int
    e: int
    h: int
    k: int
    d: int
    v: int

    @property
    def logits(self) -> int:
        return 4 * self.b * (self.e + self.v)

    @property
    def head(self) -> int:
        """A dequantised part of the head, which a partial offload copies."""
        return self.e * self.v * 105 // 128

    @property
    def scores(self) -> int:
        return self.c * (1 + self.h)


def _llama(n: _Numbers) -> tuple[int, int]:
    full = max(4 * n.b * (1 + 4 * n.e + n.scores), n.logits)
    wide = 4 * n.b * (1 + n.e + max(n.c, n.e)) + n.e * n.e * 9 // 16 + 4 * n.c * (n.b * n.h + n.e // n.h * n.k)
    return 4 * n.b * n.e + max(wide, n.logits + n.head), full


def _gemma(n: _Numbers) -> tuple[int, int]:
    full = max(n.logits, 4 * n.b * (2 + n.scores + 2 * n.e + 2 * n.d * n.h))
    wide = 4 * n.b * (2 * n.e + 1 + 2 * n.d * n.h + n.scores) + 4 * n.d * n.c * 8 + n.e * n.d * n.h * 9 // 16
    return max(n.logits + n.head, wide), full


def _gemma3n(n: _Numbers) -> tuple[int, int]:
    partial, full = _gemma(n)
    return 4 * partial, 4 * full


def _command_r(n: _Numbers) -> tuple[int, int]:
    wide = 4 * n.b * (1 + 2 * n.e + n.scores) + 4 * n.e * n.c + n.e * n.e * 9 // 16
    return max(n.logits + n.head, wide), max(n.logits, 4 * n.b * (2 + 4 * n.e + n.scores))


def _qwen2(n: _Numbers) -> tuple[int, int]:
    wide = 4 * (n.b * (1 + 2 * n.e + n.scores) + n.e * (1 + n.c))
    return max(n.logits + n.head, wide), max(n.logits, 4 * n.b * (1 + 2 * n.e + n.scores))


def _phi2(n: _Numbers) -> tuple[int, int]:
    wide = 4 * n.b * (2 + 3 * n.e + n.scores)
    return max(n.logits + 4 * n.b * n.e + n.head, wide), max(n.logits, 4 * n.b * (1 + 4 * n.e + n.scores))


def _stablelm(n: _Numbers) -> tuple[int, int]:
    full = 4 * n.b * (n.scores + 3 * n.e + 2)
    return max(4 * n.b * (n.v + 2 * n.e), full), full


def _deepseek2(n: _Numbers) -> tuple[int, int]:
    scores, logits = n.c * (1 + n.k), 4 * n.b * (3 * n.e + n.v)
    wide = 4 * n.b * (2 * n.e + 1 + 2 * n.d * n.k + scores) + 4 * n.d * n.c * n.k + n.e * n.d * n.k * 9 // 16
    return max(logits + n.head, wide), max(logits, 4 * n.b * (3 * n.e + 2 + scores + 2 * n.d * n.k))


def _mllama(n: _Numbers) -> tuple[int, int]:
    wide = 4 * (n.b * (2 * n.e + 1 + n.scores + n.d * n.h) + n.d * n.c * n.k)
    return max(wide, n.logits + n.head), max(4 * n.b * (2 + 3 * n.e + n.d * n.h + n.scores), n.logits)


_FORMULAS: Mapping[str, Callable[[_Numbers], tuple[int, int]]] = {
    "llama": _llama, "gemma": _gemma, "gemma3n": _gemma3n, "command-r": _command_r, "qwen2": _qwen2, "phi2": _phi2,
    "stablelm": _stablelm, "deepseek2": _deepseek2, "mllama": _mllama,
}  # fmt: skip


def graph_of(estimate: Estimate, setting: Setting, *, kv_bytes: int, gate_bytes: int = 0) -> Graph:
    """Returns the graph that ollama's formulas expect.

    kv_bytes     the cache of all layers, as ollama counts it
    gate_bytes   gate matrices of one layer's experts, 0 in a dense model (counted for Mixtral and its kind alone)

    Without a formula of its own an architecture has heads / KV heads · cache / 6, on every card: of Qwen3-32B with 65,536
    tokens 21.3 GiB, whether flash attention is on or not.
    """
    numbers = _numbers(estimate, setting)
    arch = ARCHITECTURES.get(kind_of(estimate), "")
    gqa = numbers.h // max(numbers.k, 1)
    if arch == "gptoss":
        rough = (2 if setting.version >= GPTOSS_HALF_SINCE else 4) * gqa * kv_bytes // 6
        if setting.flash and setting.version >= GPTOSS_FLASH_SINCE:
            return Graph((4 * setting.slots + (numbers.c >> 10) + 110) * MIB, rough)
        return Graph(rough, rough)
    vision = vision_bytes(estimate, setting.version)
    if arch not in _FORMULAS:
        return Graph(gqa * kv_bytes // 6, gqa * kv_bytes // 6, vision)
    partial, full = _FORMULAS[arch](numbers)
    if arch == "llama" and gate_bytes:
        copies = 4 * (numbers.c * numbers.b * numbers.h + numbers.c * numbers.e // numbers.h * numbers.k)
        partial = max(3 * gate_bytes + 4 * numbers.b * (3 * numbers.e + numbers.c), copies)
    return Graph(partial, full, vision)


def kind_of(estimate: Estimate) -> str:
    """Returns the model type, of a GGUF its architecture."""
    return estimate.spec.model_type.removeprefix("gguf ")


def _numbers(estimate: Estimate, setting: Setting) -> _Numbers:
    spec = estimate.spec
    mixers = [mixer for layer, _ in spec.groups for mixer in layer.mixers]
    heads = max((mixer.score_heads for mixer in mixers), default=1) or 1
    full = [cache for layer, _ in spec.groups for cache in layer.caches if isinstance(cache, Full)]
    latent = next((mixer for mixer in mixers if isinstance(mixer, LatentAttention)), None)
    kv_heads = max((cache.kv_heads for cache in full), default=heads)
    width = latent.nope_dim + latent.rope_dim if latent else max((cache.k_dim for cache in full), default=128)
    context = setting.n_ctx
    return _Numbers(min(context, setting.ubatch), context, spec.hidden, heads, kv_heads, width, spec.vocab)


def vision_bytes(estimate: Estimate, version: Version) -> int:
    """Counts the scores of the largest image of 2048 x 2048 pixels: patches² · heads · 4 B, 0 where that is not known.

    Source: `VisionGraphSize` for gemma3, mistral3 and qwen25vl; with the same product beside weights, cache and the
    graph of the text come out SIZE of qwen3-vl:30b, qwen2.5vl:7b, qwen3.6:27b and :35b (ollama issues 12846, 13722, 15634).
    """
    vision = estimate.spec.config.get("vision_config")
    if not isinstance(vision, Mapping) or not estimate.spec.towers:
        return 0
    heads = _number(vision, "num_attention_heads", "num_heads") or QWEN_HEADS
    return 4 * heads * patches(kind_of(estimate), vision, version) ** 2


def patches(kind: str, vision: Mapping[str, Any], version: Version) -> int:
    """Counts the patches of a 2048 x 2048 image as ollama cuts it down; 0 where its rule is not known.

    >>> patches("gemma3", {"image_size": 896, "patch_size": 14}, (0, 9)), patches("qwen3_vl", {"patch_size": 16}, (0, 13))
    (4096, 8100)
    """
    size = _number(vision, "patch_size")
    if not size:
        return 0
    if kind in ("gemma3", "mistral3"):
        return ((_number(vision, "image_size") or MISTRAL_EDGE) // size) ** 2
    if kind.startswith(QWEN2_IMAGES):
        most = 2 << 20 if version >= QWEN25VL_LARGER_SINCE else 28 * 28 * 1280
    elif kind.startswith(QWEN3_IMAGES):
        most = 2 << 20
    else:
        return 0
    side = math.floor(min(IMAGE, math.sqrt(most)) / (2 * size)) * 2
    return side**2


def _number(part: Mapping[str, Any], *names: str) -> int:
    return next((part[name] for name in names if isinstance(part.get(name), int)), 0)
