"""The tokens and sequences of a step of vLLM where no flag says: by release, by device, and by how the engine was started.

Read off `engine/arg_utils.py` and `config.py` of 0.4.2, 0.5.5, 0.6.3, 0.6.4, 0.6.6, 0.7.3, 0.8.2, 0.8.5 and 0.9.2 to 0.33.0.
"""

from __future__ import annotations

from planner.engines import vllm_v0
from planner.engines.base import Options, Version, caches_of
from planner.engines.device_memory import device_of
from planner.memory.estimate import Estimate
from planner.memory.request import Capacity
from planner.model.cache import Cache
from planner.model.latent_attention import Latent
from planner.model.windows import SlidingWindow
from planner.units import GIB

SEQUENCES = 256
MORE_SEQUENCES = 1024
LARGE_DEVICE_BYTES = 70 * GIB
LARGER_DEVICE_BYTES = 160 * GIB
BY_NAME_UNTIL: Version = (0, 8, 3)  # before, an H100 or H200 by its name, and 1,024 sequences everywhere
LARGE_BATCH_SINCE: Version = (0, 28)  # PR 51726
SMALL_GB10_SINCE: Version = (0, 33)  # DGX Spark has the memory of a large device, and is counted as a small one
NO_MORE_THAN_REQUESTS_SINCE: Version = (0, 9)  # at most max_num_seqs · max_model_len
THROUGHPUT_SINCE: Version = (0, 17)  # --performance-mode throughput doubles both
WHOLE_ITEM_SINCE: Version = (0, 22)  # an image or video of a prefix LM is never cut
GEMMA4_VIDEO_TOKENS = 32 * (70 + 8)  # `Gemma4ProcessingInfo.get_mm_max_tokens_per_item`
# The first engine.
CHUNKED_ABOVE = 32768
CHUNKED_BY_LENGTH_SINCE: Version = (0, 5, 3)  # EngineArgs.create_engine_config, `use_long_context`
LONGER_CHUNKS_SINCE: Version = (0, 6, 5)  # PR 10544: 2,048 in place of 512
SHORT_CHUNK, CHUNK = 512, 2048
MULTIMODAL_TOKENS = 5120
MULTIMODAL_SINCE: Version = (0, 6)  # 5,120 at least, and never chunked by itself
CHUNKED_WITH_PREFIXES_SINCE: Version = (0, 6)


def default_batch(estimate: Estimate, options: Options, version: Version, *, v1: bool, longest: int) -> tuple[int, int]:
    """Gives (batched tokens, sequences) of an engine without these flags."""
    if not v1:
        return _first_engine(estimate, options, version, longest=longest), SEQUENCES
    tokens, sequences = _by_device(estimate, version, offline=options.offline)
    if options.performance_mode == "throughput" and version >= THROUGHPUT_SINCE:
        tokens, sequences = 2 * tokens, 2 * sequences
    if version >= WHOLE_ITEM_SINCE and estimate.spec.model_type.startswith("gemma4") and estimate.spec.towers:
        tokens = max(tokens, 0 if options.mm_items == (0, 0) else GEMMA4_VIDEO_TOKENS)
    if version >= NO_MORE_THAN_REQUESTS_SINCE:
        tokens = min(tokens, (options.max_num_seqs or sequences) * longest)
    return tokens, sequences


def _by_device(estimate: Estimate, version: Version, *, offline: bool) -> tuple[int, int]:
    """V1 by the device's memory; `LLM(...)` in Python takes larger steps than a server.

    2,048 tokens and 256 sequences; from 70 GiB on 8,192 and 1,024 (not A100, from 0.33 not GB10), from 160 GiB on
    16,384 (0.28). Offline 8,192 and 16,384. CPUs 2,048 and 128 a rank, offline twice that.
    """
    capacity = estimate.capacity
    if capacity is not None and capacity.kind == "host":
        ranks = estimate.request.sharding.tp * estimate.request.sharding.pp * (2 if offline else 1)
        return 2048 * ranks, 128 * ranks
    name = "" if capacity is None else capacity.name.lower()
    if version < BY_NAME_UNTIL:
        large = "h100" in name or "h200" in name
        return (16384 if large else 8192) if offline else (8192 if large else 2048), MORE_SEQUENCES
    size = 0 if capacity is None else capacity.bytes
    if size >= LARGER_DEVICE_BYTES and version >= LARGE_BATCH_SINCE:
        return 16384, MORE_SEQUENCES
    small = "a100" in name or (version >= SMALL_GB10_SINCE and _is_gb10(estimate, capacity))
    if size >= LARGE_DEVICE_BYTES and not small:
        return 16384 if offline else 8192, MORE_SEQUENCES
    return 8192 if offline else 2048, SEQUENCES


def _is_gb10(estimate: Estimate, capacity: Capacity | None) -> bool:
    device = device_of(estimate)
    return capacity is not None and device is not None and "gb10" in device.aliases


def _first_engine(estimate: Estimate, options: Options, version: Version, *, longest: int) -> int:
    """A step holds the longest request, 2,048 at least; with chunked prefill 512, from 0.6.5 2,048.

    Above 32,768 chunked prefill comes on by itself (from 0.5.3). Multimodal models have 5,120 at least.
    """
    chunked = options.chunked_prefill
    if chunked is None:
        chunked = _chunked_by_length(estimate, options, version, longest=longest)
    tokens = (CHUNK if version >= LONGER_CHUNKS_SINCE else SHORT_CHUNK) if chunked else max(longest, CHUNK)
    many = estimate.spec.towers and version >= MULTIMODAL_SINCE
    return max(tokens, MULTIMODAL_TOKENS) if many else tokens


def _chunked_by_length(estimate: Estimate, options: Options, version: Version, *, longest: int) -> bool:
    """Not for windows, drafts, LoRA, states, MLA and images; to 0.5 not beside prefix caching."""
    if longest <= CHUNKED_ABOVE or version < CHUNKED_BY_LENGTH_SINCE:
        return False
    if options.prefix_caching and version < CHUNKED_WITH_PREFIXES_SINCE:
        return False
    extras, caches = estimate.request.extras, caches_of(estimate)
    images = bool(estimate.spec.towers) and version >= MULTIMODAL_SINCE
    latents = version >= vllm_v0.MLA_SINCE and any(isinstance(cache, Latent) for cache in caches)
    states = estimate.spec.has_states
    drafts = options.num_speculative_tokens or (extras is not None and extras.drafter is not None)
    adapters = extras is not None and extras.adapters
    return not (images or latents or states or drafts or adapters or _windows(estimate, caches))


def _windows(estimate: Estimate, caches: list[Cache]) -> bool:
    """Tells whether the config sets one window for all layers (`get_sliding_window`): a mix of layers has none."""
    config = estimate.spec.config
    if config.get("use_sliding_window") is False:
        return False
    kinds = {isinstance(cache, SlidingWindow) for cache in caches}
    return kinds == {True} or (kinds == {False} and isinstance(config.get("sliding_window"), int))
