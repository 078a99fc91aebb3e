"""TensorRT-LLM and LMDeploy: a fraction of what is free once the engine is loaded, in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from planner.engines.base import (
    LATEST,
    NO_ROOM,
    EngineAnswer,
    Options,
    Pool,
    Ranged,
    Refusal,
    Version,
    caches_of,
    gib_two,
    layer_caches,
    parse_version,
    stage_ranges,
    want,
)
from planner.engines.capability import tensorrt_llm_refusal
from planner.engines.device_memory import forward_bytes, weights_loaded
from planner.engines.vllm import logical_bytes
from planner.errors import UnsupportedModel
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.model.cache import Full, Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent
from planner.model.windows import Chunked, SlidingWindow
from planner.units import GIB, MIB, ceil_div, human_bytes, human_tokens


@dataclass(frozen=True)
class Rules:
    """What differs between the two: default fraction, tokens of a block, and which way blocks are rounded."""

    name: str
    words: str
    fraction: Fraction
    rounds_up: bool
    flag: str


TENSORRT_LLM = Rules("tensorrt-llm", "TensorRT-LLM", Fraction(9, 10), True, "--kv-cache-free-gpu-memory-fraction")
LMDEPLOY = Rules("lmdeploy", "LMDeploy turbomind", Fraction(8, 10), False, "--cache-max-entry-count")
LMDEPLOY_PYTORCH = Rules(
    "lmdeploy-pytorch", "LMDeploy's PyTorch engine", Fraction(8, 10), False, "--cache-max-entry-count"
)
PREFILL_TOKENS = 8192  # --max-prefill-token-num
BATCHES = {"A100": 384, "A800": 384, "H100": 1024, "H800": 1024, "H200": 1024}
OTHER_BATCH = 128  # LMDeploy `get_max_batch_size`
LEAST_BLOCKS = 16
SMALL_BLOCKS_SINCE: Version = (0, 14)
BATCH = 2048  # TensorRT-LLM's default max_batch_size
BUFFER_BYTES = 56
CONTEXT = Estimated(640 * MIB, 256 * MIB, 2 * GIB, "CUDA context, kernels, NCCL")


def tensorrt_llm(  # parameters: as every engine
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:
    """Answers for TensorRT-LLM: tokens = fraction (0.9) · free memory / bytes a token, rounded up to blocks of 32
    tokens (64 before 0.14).

    Source: TensorRT-LLM `KvCacheManager` / `[MemUsageChange]` lines: ceil(0.9 · 21.89 GiB / 32 MiB) = 631 blocks.
    """
    number = (parse_version(version) if version else None) or LATEST
    recent = number >= SMALL_BLOCKS_SINCE
    return _answer(
        TENSORRT_LLM, 32 if recent else 64, BATCH if recent else 0, estimate=estimate, options=options, version=version
    )


def lmdeploy(
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for LMDeploy: blocks of 64 tokens, floor(fraction (0.8) · free memory / block bytes). Source: LMDeploy
    `BlockManager`. Its PyTorch engine takes `runtime_bytes` off first.
    """
    if generation == "pytorch":
        return _answer(
            LMDEPLOY_PYTORCH, _pytorch_block(estimate), 0, estimate=estimate, options=options, version=version
        )
    return _answer(LMDEPLOY, 64, 0, estimate=estimate, options=options, version=version)


def runtime_bytes(prefill_tokens: int, batches: int, vocab: int) -> int:
    """Returns what LMDeploy's PyTorch engine sets aside for a step before it counts blocks.

    bytes = (prefill tokens + 2 · batches) · vocabulary · 2 B. Source: LMDeploy 0.9 to 0.13 `ExecutorBase._get_runtime_size`.

    >>> runtime_bytes(8192, 128, 128_256)     # Llama 3.1: 2.02 GiB
    2167013376
    """
    return (prefill_tokens + 2 * batches) * vocab * 2


def _pytorch_runtime(estimate: Estimate, options: Options, fraction: Fraction) -> int:
    """The prefill budget is halved until 16 blocks fit, as the engine does."""
    name = estimate.capacity.name.upper() if estimate.capacity is not None else ""
    batches = options.max_num_seqs or next((size for card, size in BATCHES.items() if card in name), OTHER_BATCH)
    tokens = options.max_num_batched_tokens or PREFILL_TOKENS
    if estimate.capacity is None:
        return runtime_bytes(tokens, batches, estimate.spec.vocab)
    one = token_bytes(estimate, LMDEPLOY_PYTORCH.words) * (options.block_size or _pytorch_block(estimate))
    free = estimate.capacity.bytes - weights_loaded(estimate).bytes - CONTEXT.bytes
    while (
        tokens > 1 and int((free - runtime_bytes(tokens, batches, estimate.spec.vocab)) * fraction) < LEAST_BLOCKS * one
    ):
        tokens //= 2
    return runtime_bytes(tokens, batches, estimate.spec.vocab)


def _pytorch_block(estimate: Estimate) -> int:
    """Blocks of 64 tokens; of 32 where heads are 512 wide and more (`_adjust_block_size`)."""
    wide = any(isinstance(cache, Full) and cache.k_dim >= 512 for cache in caches_of(estimate))
    return 32 if wide else 64


def token_bytes(estimate: Estimate, words: str) -> int:
    """Counts the bytes of one token on the stage with most; every layer with attention at full length."""
    stages = stage_ranges(len(estimate.spec.layers), pp=estimate.request.sharding.pp)
    return max(_stage_bytes(estimate, stage, words) for stage in stages)


def _stage_bytes(estimate: Estimate, stage: range, words: str) -> int:
    total = 0
    for index, cache in layer_caches(estimate):
        if index not in stage or isinstance(cache, Shared) or cache.kind == "no cache":
            continue
        if isinstance(cache, Latent) and not cache.indexer_dim:
            total += cache.token_bytes(estimate.fmt)
        elif isinstance(cache, Full) and not isinstance(cache, Cross):
            total += cache.kv_heads * cache.vector_pair_bytes(estimate.fmt)
        else:
            raise UnsupportedModel(
                f"{estimate.spec.name}: how {words} keeps {cache.kind} is not modelled; leave --engine out"
            )
    if not total:
        raise UnsupportedModel(f"{estimate.spec.name}: no layer keeps a cache, so {words} makes no pool")
    return total


def _no_kernel(rules: Rules, estimate: Estimate, version: str | None) -> Refusal | None:
    if rules is not TENSORRT_LLM:
        return None
    return tensorrt_llm_refusal(estimate, (parse_version(version) if version else None) or LATEST)


def _assumed(rules: Rules, estimate: Estimate, options: Options, *, version: str | None) -> tuple[str, ...]:
    release = f"{rules.words} {version or 'as modelled'}"
    if estimate.capacity is None or options.pool_bytes is not None:
        return (release,)
    fraction = rules.fraction if options.fraction is None else options.fraction
    return (release, f"{rules.flag[2:]} {float(fraction):g} of what is free of {human_bytes(estimate.capacity.bytes)}")


def _answer(
    rules: Rules, block: int, sequences: int, *, estimate: Estimate, options: Options, version: str | None
) -> EngineAnswer:
    block = want(options.block_size, block, "--block-size")
    one = token_bytes(estimate, rules.words) * block
    longest = want(options.max_model_len, estimate.spec.max_positions or estimate.request.seq_tokens, "--max-model-len")
    fraction = rules.fraction if options.fraction is None else options.fraction
    size, activation, overhead = _budget(rules, estimate, options, fraction=fraction, sequences=sequences)

    def cut(at: int) -> Pool:
        blocks = ceil_div(max(0, at), one) if rules.rounds_up else max(0, at) // one
        tokens = blocks * block
        return Pool(max(0, at), tokens, blocks, block, tokens, Fraction(tokens, longest), {"block_bytes": one})

    ranged = None if size is None else Ranged(cut(size.bytes), cut(size.low), cut(size.high))
    seq = estimate.request.seq_tokens
    taken = ceil_div(seq, block) * one
    most = None if ranged is None else (ranged.pool.blocks or 0) // (taken // one)
    refusal = _cut_session(ranged, seq) if rules is LMDEPLOY and ranged is not None and not most else None
    if (no_kernel := _no_kernel(rules, estimate, version)) is not None:
        refusal, most = no_kernel, 0
    return EngineAnswer(
        name=rules.name,
        version=version or "as modelled",
        request_tokens=seq,
        request_bytes=taken,
        logical_bytes=logical_bytes(estimate),
        ranged=ranged,
        block_tokens=block,
        activation=activation,
        overhead=overhead,
        fits=None if most is None else most >= estimate.request.sharding.sequences_on_rank(estimate.request.batch),
        most_requests=most,
        lines=_lines(rules, ranged.pool, one) if ranged else (),
        reasons=_reasons(rules, block, estimate),
        assumptions=_assumed(rules, estimate, options, version=version),
        refusal=refusal,
        extra={"max_model_len": longest, "fraction": float(fraction)},
    )


def _cut_session(ranged: Ranged, seq: int) -> Refusal | None:
    """TurboMind starts with a pool below the session length, which it cuts to the pool.

    Source: a log of 2025 that says so (InternLM/lmdeploy issue 3950: 131,072 asked, 111,360 = 1,740 blocks of 64 left).
    """
    at = ranged.pool.tokens
    if not at:
        return None
    spread = (
        ""
        if ranged.low.tokens == ranged.high.tokens
        else f" (estimated, {ranged.low.tokens:,} to {ranged.high.tokens:,})"
    )
    return Refusal(
        f"its cache holds requests of {at:,} tokens at most{spread}, none of {human_tokens(seq)}", starts=True
    )


def _reasons(rules: Rules, block: int, estimate: Estimate) -> tuple[str, ...]:
    reasons = [f"blocks of {block} tokens, rounded {'up' if rules.rounds_up else 'down'}"]
    if any(isinstance(cache, (SlidingWindow, Chunked)) for cache in caches_of(estimate)):
        reasons.append("windows are charged at full length")
    return tuple(reasons)


def _buffers(estimate: Estimate, sequences: int) -> Estimated:
    """forward(8192 tokens) + 56 B · sequences · vocabulary: runtime and decoder buffers in fp32 for every slot.

    A log of 0.20 with its default of 2,048 slots prints 2.2 + 6.0 + 8.0 GiB for a vocabulary of 128,256; a server
    of fewer slots has less, so the range begins at a quarter of the forward pass.
    """
    forward = forward_bytes(estimate, 8192)
    size = forward + BUFFER_BYTES * sequences * estimate.spec.vocab
    if not sequences:
        size = 2 * forward
    return Estimated(size, forward // 4, size + 11 * forward + 4 * GIB, "execution, runtime and decoder buffers")


def _budget(
    rules: Rules, estimate: Estimate, options: Options, *, fraction: Fraction, sequences: int
) -> tuple[Estimated | None, Estimated | None, Estimated | None]:
    """fraction · (total - context - weights - execution buffers)."""
    given = options.pool_bytes
    if estimate.capacity is None or given is not None:
        return (None if given is None else Estimated(given, given, given, "as given")), None, None
    weights = weights_loaded(estimate)
    activation = _buffers(estimate, sequences)
    if estimate.request.activation_override is not None:
        own = estimate.request.activation_override
        activation = Estimated(own, own, own, "as given")
    if rules is LMDEPLOY_PYTORCH:
        size = _pytorch_runtime(estimate, options, fraction)
        activation = Estimated(size, size, size, "set aside for a step, by its own formula")
    overhead = CONTEXT
    total = estimate.capacity.bytes

    def left(loaded: int, acting: int, held: int) -> int:
        return int((total - loaded - acting - held) * fraction)

    return (
        Estimated(
            left(weights.bytes, activation.bytes, overhead.bytes),
            left(weights.high, activation.high, overhead.high),
            left(weights.low, activation.low, overhead.low),
        ),
        activation,
        overhead,
    )


def _lines(rules: Rules, pool: Pool, one: int) -> tuple[str, ...]:
    if not pool.blocks:
        return (NO_ROOM,)
    if rules is LMDEPLOY_PYTORCH:
        return (f"CacheConfig(..., block_size={pool.block_tokens}, num_gpu_blocks={pool.blocks}, ...)",)
    if rules is LMDEPLOY:
        return (f"[BlockManager] block_size = {one / MIB:.3f} MB", f"[BlockManager] max_block_count = {pool.blocks}")
    return (
        f"[MemUsageChange] Allocated {gib_two((pool.blocks or 0) * one)} GiB for max tokens in paged KV cache ({pool.tokens}).",
    )
