"""vLLM's first engine (to 0.8, and later where V1 could not run): equal blocks, every layer at full length."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from planner.engines.base import Options, Pool, Version, layer_caches, stage_ranges, want
from planner.engines.drafting import drafted_caches
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.estimate import Estimate
from planner.model.cache import Cache, Full, Shared
from planner.model.latent_attention import Latent
from planner.model.recurrent import Recurrent
from planner.units import GIB, ceil_div

BLOCK_TOKENS = 16
SWAP_BYTES = 4 * GIB
MQA_SINCE: Version = (0, 2)  # before, GPTBigCode's one KV head was stored for every query head
MLA_SINCE: Version = (0, 7, 1)
MLA_ALIGNED: tuple[Version, Version] = ((0, 7, 2), (0, 9))
PADDED_MLA_HEAD = 256
REMAINDER_SPREAD_SINCE: Version = (0, 7, 3)


def block_bytes(estimate: Estimate, version: Version, block: int) -> int:
    """Counts the bytes of one block on the stage with most layers.

    block · 2 · attention layers of the stage · KV heads of the rank · head size · itemsize; a window changes
    nothing, recurrent state lies outside the pool, cross attention counts as a layer like any other.

    Source: vLLM 0.6.6.post1 and 0.7.3 `CacheEngine.get_cache_block_size`. MLA is stored as plain attention of
    all heads with the head size padded to 256 before 0.7.1; from 0.7.2 each latent starts at a multiple of
    256 bytes (VLLM_CUDA_MEM_ALIGN_KV_CACHE). Encoder-decoders count `num_hidden_layers`, which is the depth
    of the encoder (Whisper turbo: 32 for 4 decoder layers, 8 times too much).
    """
    stages = _stages(estimate, version)
    sizes = [_stage_bytes(estimate, version, stage) for stage in stages]
    sizes[-1] += sum(_token_bytes(estimate, cache, version) for cache in drafted_caches(estimate))
    return max(sizes) * block


def _token_bytes(estimate: Estimate, cache: Cache, version: Version) -> int:
    """Bytes of one token in one of a drafter's layers, whose blocks are as many as the model's
    (`split_num_cache_blocks_evenly`)."""
    if isinstance(cache, Latent):
        return _latent_bytes(estimate, cache, version)
    if isinstance(cache, Full):
        return cache.kv_heads * cache.vector_pair_bytes(estimate.fmt)
    raise UnsupportedModel(f"vLLM's first engine never held a drafter's layer of {cache.kind}; name a later version")


def _stages(estimate: Estimate, version: Version) -> list[range]:
    """Before 0.7.3 the last stage takes the whole remainder (61 layers on 2: 30 + 31)."""
    layers, pp = len(estimate.spec.layers), estimate.request.sharding.pp
    if version >= REMAINDER_SPREAD_SINCE:
        return stage_ranges(layers, pp=pp)
    size = layers // pp
    return stage_ranges(layers, [size] * (pp - 1) + [layers - size * (pp - 1)])


def _stage_bytes(estimate: Estimate, version: Version, stage: range) -> int:
    """Bytes of one token on one stage."""
    sizes = []
    shared = 0
    for index, cache in layer_caches(estimate):
        if index not in stage:
            continue
        if isinstance(cache, Shared):
            shared += 1
        elif isinstance(cache, Latent):
            sizes.append(_latent_bytes(estimate, cache, version))
        elif isinstance(cache, Full):
            heads = cache.kv_heads
            if version < MQA_SINCE and estimate.spec.model_type == "gpt_bigcode":
                heads = _query_heads(estimate)
            sizes.append(heads * cache.vector_pair_bytes(estimate.fmt))
        elif not isinstance(cache, Recurrent) and cache.kind != "no cache":
            raise UnsupportedModel(
                f"{estimate.spec.name}: vLLM's first engine never held a layer of {cache.kind}; name a later version"
            )
    if not sizes:
        raise UnsupportedModel(f"{estimate.spec.name}: vLLM's first engine kept no pool for a model without attention")
    if estimate.spec.encoder:
        return encoder_depth(estimate) * max(sizes)
    return sum(sizes) + shared * max(sizes)


def encoder_depth(estimate: Estimate) -> int:
    """Counts what an encoder-decoder's config calls `num_hidden_layers`: its encoder layers."""
    config = estimate.spec.config
    for key in ("num_hidden_layers", "encoder_layers", "num_layers"):
        value = config.get(key)
        if isinstance(value, int) and value > 0:
            return value
    return len(estimate.spec.encoder)


def _latent_bytes(estimate: Estimate, cache: Latent, version: Version) -> int:
    fmt = estimate.fmt
    if version >= MLA_SINCE:
        plain = fmt.k.vector_bytes(cache.latent_dim + cache.rope_dim)
        low, high = MLA_ALIGNED
        return ceil_div(plain, 256) * 256 if low <= version < high else plain
    return _query_heads(estimate) * (fmt.k.vector_bytes(PADDED_MLA_HEAD) + fmt.v.vector_bytes(PADDED_MLA_HEAD))


def _query_heads(estimate: Estimate) -> int:
    """Attention heads of one rank."""
    heads = max((mixer.score_heads for layer, _ in estimate.spec.groups for mixer in layer.mixers), default=1)
    return max(1, ceil_div(heads, estimate.request.sharding.tp))


def pool(estimate: Estimate, options: Options, version: Version, *, size: int, longest: int) -> Pool:
    """Cuts `size` bytes into blocks: floor(size / block bytes); the CPU's come from the swap space.

    Source: vLLM 0.6.6.post1 `Worker.determine_num_available_blocks`, `LLMEngine._initialize_kv_caches`
    (minimum over workers, or --num-gpu-blocks-override; printed as "# GPU blocks", "# CPU blocks" and "Maximum concurrency").
    """
    block = want(options.block_size, BLOCK_TOKENS, "--block-size")
    one = block_bytes(estimate, version, block)
    size = max(0, size)
    blocks = size // one if options.num_gpu_blocks_override is None else options.num_gpu_blocks_override
    swap = SWAP_BYTES if options.swap_space is None else options.swap_space
    tokens = blocks * block
    extra: dict[str, Any] = {
        "cpu_blocks": swap // one,
        "block_bytes": one,
        "needed_bytes": ceil_div(longest, block) * one,
    }
    return Pool(
        size if options.num_gpu_blocks_override is None else blocks * one,
        tokens,
        blocks,
        block,
        tokens,
        Fraction(tokens, longest),
        extra,
    )


def request_bytes(estimate: Estimate, options: Options, version: Version, *, length: int) -> int:
    """Counts the bytes of the blocks that one request of `length` tokens takes."""
    block = want(options.block_size, BLOCK_TOKENS, "--block-size")
    return ceil_div(length, block) * block_bytes(estimate, version, block)


def check(estimate: Estimate) -> None:
    """Refuses formats and layouts that this engine never had."""
    if estimate.fmt.k.name == "fp8_ds_mla":
        raise BadRequest("fp8_ds_mla came with vLLM 0.11; name a later version or another --kv-dtype")
    if estimate.request.sharding.dcp > 1:
        raise BadRequest("--dcp came with vLLM's V1 engine; name a later version")
