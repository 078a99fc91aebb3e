"""What is alive besides weights and cache: activations of the largest step, and what the runtime holds.

These are estimates with a range; every line can be overridden by its name.
"""

from __future__ import annotations

from functools import lru_cache

from planner.frozen import dataclass
from planner.model.spec import Layer, ModelSpec
from planner.units import GIB, MIB, ceil_div

PREFILL_TOKENS = 8192


LOGIT_COPIES = 2  # fp32 logits and their softmax


@dataclass(frozen=True, eq=False, repr=False)
class Estimated:
    """A figure with the range it is expected in."""

    bytes: int
    low: int
    high: int
    words: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class OverheadLine:
    """One named line of overhead, with where the figure comes from."""

    name: str
    bytes: int
    low: int
    high: int
    source: str


def layer_width(layer: Layer, tp: int = 1) -> int:
    """Counts the widest set of intermediate vectors that one token has alive in a layer, in elements on one rank.

    The `activation_width` of its mixers and MLPs, over the tensor-parallel ranks.

    >>> from planner.model.attention import Attention
    >>> from planner.model.mlp import Mlp
    >>> layer_width(Layer((Attention(4096, 32, 32, 128),), (Mlp(4096, 11008),)))
    33024
    """
    widths = [ceil_div(mixer.activation_width, tp) for mixer in layer.mixers] or [0]
    for mlp in layer.mlps:
        widths.append(ceil_div(mlp.activation_width, tp))
    return max(widths)


@lru_cache(maxsize=64)  # a search asks for the same one at every length
def _widest_layer(spec: ModelSpec, tp: int) -> int:
    return max(layer_width(layer, tp) for layer, _ in spec.groups)


def activation_bytes(
    spec: ModelSpec,
    *,
    prefill_tokens: int,
    sequences: int,
    context: int,
    dtype_bytes: int,
    tp: int = 1,
    fused_attention: bool = True,
) -> Estimated:  # parameters: the quantities of its equation, each by name
    """Returns the peak of one prefill step of `prefill_tokens` tokens on one rank.

    bytes = tokens·(per_token + context·per_score) + sequences·per_sequence, with
    per_token = (2·hidden + widest layer)·dtype_bytes; per_sequence = vocab/tp·4·2 (fp32 logits and softmax of the
    last positions); per_score = heads/tp·(4 + dtype_bytes), without fused attention only.
    Leaves out workspaces of kernels and pipelined copies: the range is 0.5 to 2 times.

    >>> from planner.readers.huggingface import read_config
    >>> tiny = read_config({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 100,
    ...     "num_attention_heads": 4, "intermediate_size": 128, "tie_word_embeddings": True})
    >>> activation_bytes(tiny, prefill_tokens=10, sequences=1, context=10, dtype_bytes=2).bytes   # 10*(128+384)*2 + 800
    11040
    """
    per_token = (2 * spec.hidden + _widest_layer(spec, tp)) * dtype_bytes
    per_sequence = ceil_div(spec.vocab, tp) * 4 * LOGIT_COPIES
    per_score = 0 if fused_attention else ceil_div(_heads(spec), tp) * (4 + dtype_bytes)
    total = prefill_tokens * (per_token + context * per_score) + sequences * per_sequence
    words = f"one prefill step of {prefill_tokens:,} tokens, {'fused' if fused_attention else 'eager'} attention"
    return Estimated(total, total // 2, total * 2, words)


def _heads(spec: ModelSpec) -> int:
    return max((mixer.score_heads for layer, _ in spec.groups for mixer in layer.mixers), default=0)


def overhead_lines(device_kind: str, devices: int, model_bytes: int) -> tuple[OverheadLine, ...]:
    """Returns the runtime's own memory on one device, line by line.

    >>> [line.name for line in overhead_lines("cuda", 2, 0)]
    ['context', 'allocator', 'communication']
    """
    if device_kind == "host":
        context = OverheadLine(
            "context", 300 * MIB, 100 * MIB, 600 * MIB, "resident size of python with torch loaded, no device context"
        )
    else:
        context = OverheadLine(
            "context", 512 * MIB, 300 * MIB, 800 * MIB, "CUDA context and kernel images; stated default"
        )
    slack = model_bytes // 50
    lines = [
        context,
        OverheadLine(
            "allocator", slack, 0, 2 * slack, "2 % of what is allocated, rounding and fragments; stated default"
        ),
    ]
    if devices > 1:
        lines.append(
            OverheadLine("communication", 512 * MIB, 128 * MIB, GIB,
                         "NCCL buffers a rank; vLLM logs print 0.25 to 0.6 GiB of non-torch memory at TP 2 to 4")
        )  # fmt: skip
    return tuple(lines)
