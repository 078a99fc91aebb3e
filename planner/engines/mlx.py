"""mlx-lm on Apple silicon: a cache in steps of 256 tokens, windows that rotate, no pool.

Source: mlx-lm `models/cache.py` (KVCache.step, RotatingKVCache, QuantizedKVCache, ArraysCache) and `server.py`; the memory is
what Metal lets the GPU wire down (recommendedMaxWorkingSetSize), which is what the catalogue's Apple entries hold.
"""

from __future__ import annotations

from fractions import Fraction

from planner.engines.base import (
    LATEST,
    EngineAnswer,
    Options,
    Pool,
    Ranged,
    Refusal,
    Version,
    caches_of,
    layer_caches,
    parse_version,
    want,
)
from planner.engines.device_memory import forward_bytes
from planner.engines.vllm import logical_bytes
from planner.errors import UnsupportedModel
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.model.attention import Attention
from planner.model.cache import Full
from planner.model.cross_attention import Cross
from planner.model.moe import Moe
from planner.model.recurrent import Recurrent
from planner.model.windows import Chunked, SlidingWindow
from planner.units import MAX_TOKENS, ceil_div, human_bytes

STEP = 256
FUSED_WIDTHS = (64, 80, 128)
"""Head widths for which MLX reads a prompt without a matrix of scores. Source: mlx
`scaled_dot_product_attention.cpp`, sdpa_full_supported_head_dim."""
PREFILL_TOKENS = 2048  # --prefill-step-size
IN_FLIGHT = 4
MASK_BYTES = 4  # of a query and a key, while a prompt is read in steps
LAST_LOGITS_SINCE: Version = (0, 27)  # the head is applied to the last token alone (PR 406 of August 2025)


def answer(
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for mlx-lm: what it holds for the batch, and whether it stays below the memory that Metal wires down.

    tokens kept = 256 · ceil(n / 256); a window layer keeps its window, and a prefill step more while a prompt is read.
    """
    seq, batch = estimate.request.seq_tokens, estimate.request.batch
    one = request_bytes(estimate, seq)
    weights = estimate.per_device.weight_bytes
    step = want(options.ubatch_size, PREFILL_TOKENS, "--ubatch-size")
    activation = _activation(estimate, step, (parse_version(version) if version else None) or LATEST)
    room = estimate.capacity
    left = None if room is None else room.bytes - weights - activation.bytes
    most = None if left is None else (max(0, left) // one if one else MAX_TOKENS)
    refusal = None
    if room is not None and left is not None and left < one:
        needed = weights + one + activation.bytes
        # Metal wires down two thirds of the memory, or three quarters: a higher limit helps within the memory alone.
        raised = ("sudo sysctl iogpu.wired_limit_mb=N",) if 3 * needed <= 4 * room.bytes else ()
        refusal = Refusal(
            f"weights, cache and activations are {human_bytes(needed)} for the {human_bytes(room.bytes)} "
            "that Metal wires down: macOS pages, or the GPU aborts",
            (*raised, "--max-kv-size"),
            sure=room.bytes - weights - activation.low < one,
        )
    ranged = None
    if left is not None and room is not None:
        ends = [max(0, room.bytes - weights - size) for size in (activation.bytes, activation.high, activation.low)]
        ranged = Ranged(*(_pool(estimate, size) for size in ends))
    return EngineAnswer(
        name="mlx",
        version=version or "as modelled",
        request_tokens=seq,
        request_bytes=one,
        logical_bytes=logical_bytes(estimate),
        ranged=ranged,
        block_tokens=STEP,
        activation=activation,
        fits=None if most is None else most >= batch,
        most_requests=most,
        reasons=(f"the cache grows in steps of {STEP} tokens", "layers with a window keep it and rotate"),
        assumptions=(f"mlx-lm {version or 'of 2026'}, its own cache of each request; memory as Metal reports it",),
        refusal=refusal,
        extra={"kv_bytes": one * batch},
    )


def _activation(estimate: Estimate, most: int, version: Version) -> Estimated:
    """Estimates what a prefill step of `most` tokens takes: vectors of the layers in flight, scores where no kernel is fused,
    and before 0.27 the logits of every token of the step.

    bytes = 4 · (forward(step) + copies for the experts) + scores. MLX hands the GPU many operations at once and keeps their
    arrays until all have run: peaks less weights and cache are 4.6 times one layer's vectors (Qwen3-4B, mlx-lm PR 1569), 2.7
    times (Mistral 7B, PR 40) and, scores apart, 4 times (Qwen3.8-27B of 131,072 tokens, PR 1781). The high end has 8, and of
    Mamba-2 the matrix of decays over a whole step, as mlx-lm had before it cut steps to 256 tokens.
    """
    step = min(most, estimate.request.seq_tokens)
    forward = forward_bytes(estimate, step) + copied_bytes(estimate, step)
    scores = score_bytes(estimate, estimate.request.seq_tokens, most)
    logits = step * estimate.spec.vocab * 2 if version < LAST_LOGITS_SINCE else 0
    words = f"a prefill step of {step:,} tokens" + (", and its logits" if logits else "")
    if scores:
        words += (
            f", and its scores: MLX has no fused kernel for heads other than {', '.join(map(str, FUSED_WIDTHS))} wide"
        )
    fixed = scores + logits
    high = 2 * IN_FLIGHT * forward + fixed + decay_bytes(estimate, step)
    return Estimated(IN_FLIGHT * forward + fixed, forward, high, words)


def copied_bytes(estimate: Estimate, step: int) -> int:
    """Counts what the widest mixture of experts copies of a step: a row in and a row out for every active expert of a token.

    2 · step · active · hidden · 2 B. Source: mlx-lm `models/switch_layers.py`; Qwen3.6-35B-A3B peaks at 21.4 GB with 512 and
    21.9 GB with 1,024 tokens, 1 MB a token.
    """
    active = [mlp.active for layer, _ in estimate.spec.groups for mlp in layer.mlps if isinstance(mlp, Moe)]
    return 2 * step * max(active, default=0) * estimate.spec.hidden * 2


def decay_bytes(estimate: Estimate, step: int) -> int:
    """Counts a Mamba-2 layer's decays and their product with B and C over one step: 2 · heads · step² · 4 B; 0 of other models.

    Source: mlx-lm `models/ssm.py` (`ssm_attn`); granite-4.0-h-small peaks at 23.5 GB of 18.1 GB of weights (mlx-lm PR 525).
    """
    caches = caches_of(estimate)
    mamba2 = [cache for cache in caches if isinstance(cache, Recurrent) and cache.label == "mamba2"]
    heads = [part.split for cache in mamba2 for part in cache.parts if part.name == "ssm"]
    return 2 * max(heads, default=0) * step * step * 4


def score_bytes(estimate: Estimate, tokens: int, most: int = PREFILL_TOKENS) -> int:
    """The scores of one prefill step against `tokens` of context, in the widest layer, and its mask; 0 where a fused kernel runs.

    min(2048, tokens) · tokens · (heads · 2 B + 4 B), the mask of steps before the last: Qwen3.8-27B of 131,072 tokens peaks at 39.78,
    32.26, 28.54 and 26.52 GB with steps of 2048, 1024, 512 and 256 (mlx-lm PR 1781), weights and cache being 24.80; of one token of context heads · 2048 · 2 B. LM Studio's own fit counts the same (98,304 B a token
    for 24 heads), and peaks of Qwen3.6-35B-A3B to 192k tokens show it (mlx-lm issue 1480: 16 heads, 1.4 GB for 16k).
    """
    heads = [
        mixer.heads
        for layer, _ in estimate.spec.groups
        for mixer in layer.mixers
        if isinstance(mixer, Attention) and mixer.head_dim not in FUSED_WIDTHS and isinstance(mixer.cache(), Full)
        and not isinstance(mixer.cache(), SlidingWindow)
    ]  # fmt: skip
    step = most if tokens == 1 else min(most, tokens)
    mask = MASK_BYTES if heads and tokens > step else 0
    return step * tokens * (max(heads, default=0) * 2 + mask)


def request_bytes(estimate: Estimate, tokens: int) -> int:
    """Counts K, V and state of one request: whole steps of every layer, a window's own length at most."""
    fmt, source, total = estimate.fmt, estimate.source_tokens, 0
    whole = ceil_div(tokens, STEP) * STEP
    for _, cache in layer_caches(estimate):
        if isinstance(cache, (Cross, Chunked)):
            raise UnsupportedModel(
                f"{estimate.spec.name}: how mlx-lm keeps {cache.kind} is not modelled; leave --engine out"
            )
        kept = min(whole, cache.window) if isinstance(cache, SlidingWindow) else whole
        total += cache.kv_bytes(kept, source, fmt) + cache.state_bytes(fmt)
    return total


def _pool(estimate: Estimate, size: int) -> Pool:
    tokens = largest(lambda n: request_bytes(estimate, n) <= size, MAX_TOKENS)
    length = estimate.request.seq_tokens
    one = request_bytes(estimate, length)
    return Pool(size, tokens, at_once=Fraction(size, one) if one else Fraction(0))
