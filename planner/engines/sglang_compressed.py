"""SGLang's pools of a compressed past (DeepSeek-V4): tokens of full length, and a smaller pool for the windows.

A token of full length takes a share of an entry in every compressing layer. The windows of all layers lie in a pool of a
tenth of the tokens, with the state of the blocks of 4 that are still open. The state of open blocks of 128 is kept for
every running request from 0.5.15 on, and lay with the windows before. Each rank holds it all.

Sources: `pool_configurator.py` (DSV4PoolConfigurator), `deepseek_v4_memory_pool.py`, `arg_groups/deepseek_v4_hook.py`
and `arg_groups/overrides.py` of sglang 0.5.12 to 0.5.16, 0.5.18 and 0.5.20 to 0.5.23; 0.5.11 has no such model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from planner.engines.base import Options, Ranged, Refusal, Version, layer_caches, stage_ranges
from planner.engines.drafting import drafter_of
from planner.engines.mxfp4 import BLOCK, experts_in_mxfp4
from planner.engines.vllm import with_fp8
from planner.engines.vllm_compressed import FP32, RECORD_BYTES, SCALE_BYTES, page_bytes
from planner.engines.vllm_setting import architecture
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.model.sparse_attention import Compressed
from planner.model.windows import SlidingWindow
from planner.units import ceil_div

SINCE: Version = (0, 5, 12)
STAGES_SINCE: Version = (0, 5, 13)  # before, every stage counted the entries of all layers, the draft head's too
STATE_BY_REQUEST_SINCE: Version = (0, 5, 15)
RATIO_AS_GIVEN_SINCE: Version = (0, 5, 20)  # before, 0.8 was taken for the default that was not given
PADDED_SINCE: Version = (0, 5, 21)
WINDOWS_CHECKED_SINCE: Version = (0, 5, 21)
PAGE = 256  # set for this model, whatever --page-size says
RATIO = Fraction(1, 10)
RUNNING = 256
STALE_SCALES_TO: Version = (0, 5, 15)  # the last read that keeps them; 0.5.23 drops them, and between is not read
WITHOUT_STALE_SCALES: Version = (0, 5, 23)
RINGS = {4: 8, 128: 128}  # tokens of an open block's state; twice as many where tokens are drafted


def stale_scales(estimate: Estimate, version: Version, version_known: bool) -> Estimated:
    """Counts the scales of experts in mxfp4 that stay on a device beside Marlin's own: 4 B for 32 weights, in fp32.

    SGLang's loader makes them in fp32, Marlin (Hopper, RTX Blackwell) packs a copy of 1 B each under another name, and the first
    ones are dropped from 0.5.23 on. Source: SGLang 0.5.12, 0.5.15, 0.5.23 `mxfp4_marlin_moe.py`, `marlin_utils_fp4.py`. V4-Pro on
    eight H200: 101.02 counted + 22.51 = 123.53 GiB, logged 125.65 (SemiAnalysisAI/InferenceX issue 2128).
    """
    arch, capacity = architecture(estimate), estimate.capacity
    rtx = arch.startswith("Blackwell") and capacity is not None and capacity.name.upper().startswith("RTX")
    if arch != "Hopper" and not rtx:
        return Estimated(0, 0, 0)
    size = sum(rows * cols * count for rows, cols, count, _ in experts_in_mxfp4(estimate)) // BLOCK * FP32
    if version_known and version >= WITHOUT_STALE_SCALES:
        return Estimated(0, 0, 0)
    return Estimated(size if version_known else 0, size if version <= STALE_SCALES_TO else 0, size)


@dataclass(frozen=True)
class Bytes:
    """What a stage keeps: bytes of a token of full length, of a token of the windows' pool, and for running requests."""

    full: Fraction
    sliding: Fraction
    fixed: int


def prepared(estimate: Estimate, options: Options, version: Version) -> tuple[Estimate, Options]:
    """Sets what SGLang sets for this model: fp8, pages of 256 tokens, a window ratio of 0.1, 256 running requests (by
    replica of data-parallel attention).

    Raises UnsupportedModel for a release without the model and for NPUs, BadRequest for a cache in another format or for a drafter
    other than the model's own head.
    """
    if version < SINCE:
        label = ".".join(map(str, version))
        raise UnsupportedModel(f"{estimate.spec.name}: SGLang {label} does not have this model; it came with 0.5.12")
    drafter = drafter_of(estimate)
    if drafter is not None and drafter.kind == "model":
        raise BadRequest(
            f"--drafter {drafter.name}: SGLang runs no draft model beside {estimate.spec.name}, only its own head "
            "(kvplan check of its command counts that)"
        )
    if architecture(estimate).startswith("Da Vinci"):
        raise UnsupportedModel(f"{estimate.spec.name}: SGLang's pools of this model on NPUs are not modelled")
    ratio = options.swa_ratio
    if ratio is None or (version < RATIO_AS_GIVEN_SINCE and ratio == Fraction(8, 10)):
        ratio = RATIO
    sharding = estimate.request.sharding
    replicas = sharding.dp if sharding.ep > 1 or options.enable_dp_attention else 1
    running = max(1, (options.max_running_requests or RUNNING) // replicas)
    changed = replace(options, block_size=PAGE, swa_ratio=ratio, max_running_requests=running)
    return with_fp8(estimate, "SGLang"), changed


def stage_bytes(estimate: Estimate, options: Options, version: Version) -> Bytes:
    """Counts the bytes of the stage that takes most for a token, with options as `prepared` left them.

    full     Σ (584 + the indexer's width + 4) / rate over compressing layers
    sliding  584 · layers + ring / 128 · 8 · (widths of blocks of 4) fp32, before 0.5.15 the blocks of 128 as well
    fixed    rows of value and gate in fp32 for running requests + 1, from 0.5.15

    From 0.5.21 pages of 256 tokens are padded to 576 B, and a ring stands for 256 tokens, not 128. A drafter makes
    rings twice as long and multiplies full and sliding by (layers + 1) / layers.
    """
    count, more = len(estimate.spec.layers), 0
    stages: Sequence[range] = stage_ranges(count, pp=estimate.request.sharding.pp)
    if version < STAGES_SINCE:
        listed = estimate.spec.config.get("compress_ratios")
        stages, more = [range(count)], max(0, len(listed) - count) if isinstance(listed, list) else 0
    found = [_of_stage(estimate, options, stage, windows=len(stage) + more, version=version) for stage in stages]
    ratio = options.swa_ratio or RATIO
    return max(found, key=lambda one: one.full + ratio * one.sliding)


def _of_stage(estimate: Estimate, options: Options, stage: range, *, windows: int, version: Version) -> Bytes:
    drafts = drafter_of(estimate) is not None or options.num_speculative_tokens > 0
    kept = Counter(cache for layer, cache in layer_caches(estimate) if layer in stage and isinstance(cache, Compressed))
    full, sliding, fixed = Fraction(), _record(1, version) * windows, 0
    for cache, layers in kept.items():
        if cache.rate not in RINGS:
            raise UnsupportedModel(f"{estimate.spec.name}: SGLang keeps no blocks of {cache.rate} tokens")
        keys = sum(width + SCALE_BYTES for width in cache.widths[1:])
        full += (_record(cache.rate, version) + keys) / cache.rate * layers
        ring, row = RINGS[cache.rate] * (2 if drafts else 1), _state_row(cache)
        if cache.rate == 128 and version >= STATE_BY_REQUEST_SINCE:
            fixed += state_rows((options.max_running_requests or RUNNING) + 1, ring) * row * layers
        else:
            sliding += Fraction(ring, PAGE if version >= PADDED_SINCE else window_of(estimate)) * row * layers
    grown = Fraction(windows + 1, windows) if drafts else Fraction(1)
    return Bytes(full * grown, sliding * grown, fixed)


def _record(rate: int, version: Version) -> Fraction:
    """Bytes of an entry, with its share of the page's padding."""
    return (
        Fraction(page_bytes(PAGE // rate * RECORD_BYTES), PAGE // rate)
        if version >= PADDED_SINCE
        else Fraction(RECORD_BYTES)
    )


def _state_row(cache: Compressed) -> int:
    """Bytes of one token of an open block: value and gate in fp32, two series with overlap."""
    return 2 * (2 if cache.overlap else 1) * sum(cache.widths) * FP32


def state_rows(slots: int, ring: int) -> int:
    """Counts the rows of the state of blocks of 128, a ring for every slot and one more, in whole blocks.

    >>> state_rows(257, 128)
    33152
    """
    return ceil_div((slots + 1) * ring + 1, 128) * 128


def window_of(estimate: Estimate) -> int:
    """Returns the tokens of the model's window."""
    return next(cache.window for _, cache in layer_caches(estimate) if isinstance(cache, SlidingWindow))


def windows_refusal(ranged: Ranged, window: int, version: Version) -> Refusal | None:
    """Refuses a windows' pool that holds no request: from 0.5.21 the server does not start, before it hangs.

    Source: `MemoryPoolConfigurator.validate_swa_pool_size`: more tokens than a window and a page are wanted.
    """
    held, most = (found.extra["sliding_tokens"] for found in (ranged.pool, ranged.high))
    if version < WINDOWS_CHECKED_SINCE or held > window + PAGE:
        return None
    text = f"SWA pool ({held:,} tokens) cannot hold even one request of {window} + {PAGE} tokens"
    return Refusal(text, ("--swa-full-tokens-ratio", "--mem-fraction-static"), sure=most <= window + PAGE)
