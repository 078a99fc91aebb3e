"""SGLang: a pool of single tokens from what is free after the weights; two pools where windows are split off.

Sources: sglang 0.5.5 `ModelRunner.profile_max_num_token`, `set_num_token_hybrid`, `memory_pool.py`,
`ServerArgs._handle_gpu_memory_settings`; older releases' `ServerArgs.__post_init__`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.engines import sglang_compressed
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
    heads_refusal,
    keeps_compressed,
    layer_caches,
    parse_version,
    stage_ranges,
    want,
)
from planner.engines.capability import sglang_refusal
from planner.engines.device_memory import context_before_weights, kept_on_device, weights_loaded
from planner.engines.drafting import drafted_caches, drafter_of, drafter_weights
from planner.engines.sglang_fraction import DRAFTS_IN_POOL_SINCE, default_fraction
from planner.engines.sglang_states import DRAFTING_REQUESTS, INKLING_RATIO, StateRule, state_bytes, state_rule
from planner.engines.vllm import logical_bytes, with_sparse_record
from planner.engines.vllm_setting import architecture, default_length
from planner.errors import UnsupportedModel
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.model.cache import Cache, Full, Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent
from planner.model.recurrent import Recurrent
from planner.model.sparse_attention import IndexKeys
from planner.model.windows import Chunked, SlidingWindow, most_kept
from planner.units import GIB, human_bytes, human_tokens

# Architectures whose windows get a pool of their own (`is_hybrid_swa_model`); every other window is charged in full.
SPLIT_TYPES = ("llama4", "gpt_oss", "gemma4", "mimo_v2", "step3p5", "inkling")
FULL_TOKENS_RATIO = Fraction(8, 10)
NEWEST = "0.5.23"  # the release read, on 2026-11-29


@dataclass(frozen=True)
class Cell:
    """Bytes of one token on the fullest stage, by pool, and of one request's recurrent state.

    fixed, beside, running   of a compressed past: bytes taken first, tokens a request takes beside its window, most requests
    rule     how states and tokens share the bytes, where there are states
    window_ratio  tokens of the layers with a window for each of the full pool, where no flag says
    """

    full: int | Fraction
    sliding: int | Fraction
    full_layers: int
    sliding_layers: int
    k: int | Fraction
    v: int
    state: int
    window: int
    fixed: int = 0
    beside: int = 0
    running: int | None = None
    rule: StateRule | None = None
    window_ratio: Fraction = FULL_TOKENS_RATIO

    @property
    def all(self) -> int | Fraction:
        return self.full + self.sliding


def stores_records(estimate: Estimate) -> bool:
    """Tells whether a sparse-attention model's latents are fp8 records: where fp8 is asked, and by default on Blackwell."""
    unsaid = estimate.request.k_dtype in (None, "auto")
    return estimate.fmt.k.name == "fp8" or (unsaid and architecture(estimate).startswith("Blackwell"))


# long: a field of the answer a line, after what SGLang reserves in its order
def answer(
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for SGLang: its pool, start-up lines and reasons."""
    number = (parse_version(version) if version else None) or LATEST
    compressed = keeps_compressed(estimate)
    if compressed:
        estimate, options = sglang_compressed.prepared(estimate, options, number)
    elif stores_records(estimate):
        estimate = with_sparse_record(estimate)
    cell = _compressed_cell(estimate, options, number) if compressed else token_cell(estimate)
    if number >= DRAFTS_IN_POOL_SINCE and not compressed:
        cell = with_drafts(cell, estimate)
    if cell.state:
        cell = replace(cell, rule=state_rule(estimate, options, number))
    longest = want(options.max_model_len, default_length(estimate), "--max-model-len")
    page = want(options.block_size, 1, "--page-size")
    size, fraction = _budget(estimate, options, number, version_known=version is not None)

    def cut(at: int) -> Pool:
        return pool(cell, options, at, page=page, longest=longest)

    ranged = None if size is None else Ranged(cut(size.bytes), cut(size.low), cut(size.high))
    seq = estimate.request.seq_tokens
    taken = int(seq * cell.full + (min(seq, cell.window) if cell.window else seq) * cell.sliding + cell.state)
    most = None if ranged is None else _most(ranged.pool, cell, seq)
    reasons = _reasons(cell, options, estimate)
    if seq > longest:
        most, reasons = 0, (*reasons, f"requests beyond a context length of {longest:,} are refused")
    running = _running(None if ranged is None else ranged.pool, cell, options, longest=longest)
    table = None if running is None else Table(running, longest)
    beside = 0 if number >= DRAFTS_IN_POOL_SINCE or compressed else _drafter_beside(estimate, cell, ranged)
    refusal = heads_refusal(estimate, "--tp") or sglang_refusal(estimate)
    if refusal is None and ranged is not None:
        refusal = _refusal(estimate, options, ranged, fraction=fraction, table=table, beside=beside)
    if compressed and refusal is None and ranged is not None:
        refusal = sglang_compressed.windows_refusal(ranged, cell.window, number)
    if refusal is None and ranged is not None and most == 0 and seq <= longest:
        refusal = _no_request(ranged, cell, seq, longest=longest)
    if refusal is not None:
        most = 0
    extra = {
        "max_model_len": longest,
        "fraction": None if fraction is None else float(fraction),
        "max_running_requests": running,
        "request_table_bytes": None if table is None else table.bytes,
        "drafter_beside_bytes": beside or None,
    }
    if compressed and ranged is not None:  # the windows and the requests at once bind as well: no share of the tokens
        extra |= {
            "most_requests_low": _most(ranged.low, cell, seq),
            "most_requests_high": _most(ranged.high, cell, seq),
        }
    return EngineAnswer(
        name="sglang",
        version=version or NEWEST,
        request_tokens=seq,
        request_bytes=taken,
        logical_bytes=logical_bytes(estimate),
        ranged=ranged,
        block_tokens=page,
        overhead=None if estimate.capacity is None else context_before_weights(estimate),
        fits=None if most is None else most >= estimate.request.sharding.sequences_on_rank(estimate.request.batch),
        most_requests=most,
        lines=(
            *_lines(ranged.pool, estimate),
            *([f"refuses to start: {refusal.text}"] if refusal and not refusal.starts and ranged.pool.bytes else []),
        )
        if ranged
        else (),
        reasons=reasons,
        assumptions=_assumptions(estimate, options, fraction, version=version),
        extra=extra,
        refusal=refusal,
    )


def _running(found: Pool | None, cell: Cell, options: Options, *, longest: int) -> int | None:
    """max_running_requests: as the flag says, 48 where tokens are drafted, else 512 whole contexts' worth, 2,048 to 4,096,
    at most half the tokens; never more than there are recurrent states for.

    Source: sglang 0.4.6 `init_memory_pool`, 0.5.2 to 0.5.23 `speculative_hook.py`, 0.5.23 `kv_cache_configurator.py`.
    """
    asked, rule = options.max_running_requests, cell.rule
    if asked is None and rule is not None and rule.drafts:
        asked = DRAFTING_REQUESTS
    if found is None or not found.tokens:
        return asked
    running = asked or min(max(min(found.tokens * 512 // longest, 4096), 2048), max(1, found.tokens // 2))
    return running if rule is None else max(1, min(running, rule.requests(found.extra["state_slots"])))


@dataclass(frozen=True)
class Table:
    """The request table: int32 [running requests + 1, context + 4], beside the pool on every device."""

    running: int
    context: int

    @property
    def bytes(self) -> int:
        return 4 * (self.running + 1) * (self.context + 4)


def _compressed_cell(estimate: Estimate, options: Options, version: Version) -> Cell:
    """The cell of a compressed past: a request's window may reach into one page more."""
    found, window = sglang_compressed.stage_bytes(estimate, options, version), sglang_compressed.window_of(estimate)
    layers, running = len(estimate.spec.layers), options.max_running_requests
    return Cell(found.full, found.sliding, layers, layers, found.full + found.sliding, 0, 0, window,
                found.fixed, sglang_compressed.PAGE, running)  # fmt: skip


def with_drafts(cell: Cell, estimate: Estimate) -> Cell:
    """Adds a drafter's layers to the cell, each counted as an average layer of the model (`pool_configurator.py`)."""
    layers, count = len(drafted_caches(estimate)), cell.full_layers + cell.sliding_layers
    if not layers or not count:
        return cell
    more = int(cell.all * layers // count)
    return replace(cell, full=cell.full + more)


def _drafter_beside(estimate: Estimate, cell: Cell, ranged: Ranged | None) -> int:
    """What a drafter holds beside the pool before 0.5.15: its weights, and its layers for as many tokens."""
    layers, count = len(drafted_caches(estimate)), cell.full_layers + cell.sliding_layers
    if ranged is None or not layers or not count:
        return 0
    return drafter_weights(estimate) + int(cell.all * layers // count) * ranged.pool.tokens


def _refusal(
    estimate: Estimate, options: Options, ranged: Ranged, *, fraction: Fraction | None, table: Table | None, beside: int
) -> Refusal | None:
    """No pool at all, or a request table or drafter larger than the share that mem_fraction_static leaves."""
    found = ranged.pool
    if found.bytes > 0 and found.extra["state_slots"] and (found.tokens <= 0 < found.extra["cell_bytes"]):
        return Refusal(
            f"{found.extra['state_slots']:,} recurrent states, {human_bytes(found.extra['state_bytes'])}, leave nothing of "
            f"the {human_bytes(found.bytes)} for tokens",
            ("--max-running-requests", "--max-mamba-cache-size", "--mem-fraction-static", "--tp"),
            sure=ranged.high.tokens <= 0,
        )
    if found.bytes <= 0 or (found.tokens <= 0 and not found.extra["state_slots"]):
        mends = ("--mem-fraction-static", "--tp")
        return Refusal("weights leave nothing of mem_fraction_static for the cache", mends, sure=ranged.high.bytes <= 0)
    if table is None or fraction is None or estimate.capacity is None or options.pool_bytes is not None:
        return None
    held = context_before_weights(estimate)
    left = int((estimate.capacity.bytes - held.bytes) * (1 - fraction))
    if beside > left:
        return Refusal(
            f"the drafter's weights and cache, {human_bytes(beside)}, do not fit into the {human_bytes(left)} that "
            "mem_fraction_static leaves",
            ("a lower --mem-fraction-static", "--max-total-tokens"),
            sure=False,
        )
    if table.bytes <= left:
        return None
    context = max(1, left // (4 * (table.running + 1)) - 4)
    return Refusal(
        f"the request table, {table.running + 1:,} x ({table.context:,} + 4) x 4 B = {human_bytes(table.bytes)}, does not fit "
        f"into the {human_bytes(left)} that mem_fraction_static leaves",
        (f"--context-length {context}", "--max-running-requests"),
        sure=table.bytes > int((estimate.capacity.bytes - held.low) * (1 - fraction)),
    )


def _no_request(ranged: Ranged, cell: Cell, seq: int, *, longest: int) -> Refusal:
    """The pool holds no request of this length: the server starts, and refuses such requests alone.

    Source: sglang `scheduler.py`, max_req_len = min(context_len - 1, max_total_num_tokens - 1); `tests/cases/logs/sglang-tp4.log`
    is of a server with 46,611 tokens of cache and a context length of 131,072.
    """
    at, low, high = (
        largest(lambda tokens, found=found: bool(_most(found, cell, tokens)), longest)  # type: ignore[misc]
        for found in (ranged.pool, ranged.low, ranged.high)
    )
    spread = "" if low == high else f" (estimated, {low:,} to {high:,})"
    return Refusal(
        f"its cache holds requests of {at:,} tokens at most{spread}, none of {human_tokens(seq)}", starts=True
    )


def token_cell(estimate: Estimate) -> Cell:
    """Counts what one token takes on the stage with most layers."""
    pp = estimate.request.sharding.pp
    split = estimate.spec.model_type.startswith(SPLIT_TYPES)
    cells = [_stage_cell(estimate, stage, split) for stage in stage_ranges(len(estimate.spec.layers), pp=pp)]
    cell = max(cells, key=lambda found: found.all)
    if not cell.all and not cell.state:
        raise UnsupportedModel(f"{estimate.spec.name}: no layer keeps a cache, so SGLang makes no pool")
    own = estimate.spec.model_type.startswith("inkling")
    return replace(cell, window_ratio=INKLING_RATIO) if own else cell


def _stage_cell(estimate: Estimate, stage: range, split: bool) -> Cell:
    full = sliding = full_layers = sliding_layers = k = v = state = window = 0
    for index, cache in layer_caches(estimate):
        if index not in stage or isinstance(cache, Shared):
            continue
        if isinstance(cache, Recurrent):
            state += state_bytes(cache, estimate)
            continue
        key, value = _token_bytes(cache, estimate)
        limit = most_kept(cache) or 0
        if limit and split:
            sliding += key + value
            sliding_layers += 1
            window = max(window, limit)
        else:
            full += key + value
            full_layers += 1
        k, v = k + key, v + value
    if sliding and not full:  # windows alone: one pool
        full, full_layers, sliding, sliding_layers = sliding, sliding_layers, 0, 0
    return Cell(full, sliding, full_layers, sliding_layers, k, v, state, window)


def _token_bytes(cache: Cache, estimate: Estimate) -> tuple[int, int]:
    """(K, V) of one token in one layer; a latent counts as K, index keys as V where they stand beside it."""
    fmt = estimate.fmt
    if isinstance(cache, Latent):
        own = replace(cache, indexer_dim=0).token_bytes(fmt)
        stored = kv_format("fp8_ds_mla")  # the indexer is always fp8 with a scale per 128
        index = IndexKeys(cache.indexer_dim).token_bytes(CacheFormat(stored, stored)) if cache.indexer_dim else 0
        return own, index
    if isinstance(cache, Cross) or not isinstance(cache, Full):
        raise UnsupportedModel(
            f"{estimate.spec.name}: how SGLang pools a layer of {cache.kind} is not modelled; "
            "ask without --engine for the logical figure"
        )
    return cache.kv_heads * fmt.k.vector_bytes(cache.k_dim), cache.kv_heads * fmt.v.vector_bytes(cache.v_dim)


def pool(cell: Cell, options: Options, size: int, *, page: int, longest: int) -> Pool:
    """Cuts `size` bytes left for cache into tokens.

    One pool: floor(size / cell), to a multiple of the page. Windows apart: full tokens F and ratio · F sliding
    ones share the bytes, F = size / (full + ratio · sliding). Recurrent layers take their slots first (`StateRule.split`).
    """
    size = max(0, size)
    left, states, state_bytes = max(0, size - cell.fixed), 0, 0
    if cell.rule is not None:
        states, state_bytes = cell.rule.split(size, cell.state)
        left = max(0, size - state_bytes)
    ratio = cell.window_ratio if options.swa_ratio is None else options.swa_ratio
    token = cell.full + ratio * cell.sliding
    tokens = int(left / token) // page * page if token else 0
    sliding = int(tokens * ratio) // page * page if cell.sliding else 0
    used = tokens * cell.full + sliding * cell.sliding
    extra: dict[str, Any] = {
        "cell_bytes": int(cell.all),
        "sliding_tokens": sliding if cell.sliding else None,
        "state_slots": states if cell.state else None,
        "state_bytes": state_bytes if cell.state else None,
        "slots_of_a_request": None if cell.rule is None else cell.rule.held,
        "k_bytes": int(used * cell.k // cell.all) if cell.all else 0,
        "v_bytes": int(used * cell.v // cell.all) if cell.all else 0,
    }
    at_once = Fraction(tokens, longest)
    if cell.rule is not None:
        requests = Fraction(cell.rule.requests(states))
        at_once = min(at_once, requests) if token else requests
    return Pool(size, tokens, tokens // page, page, tokens, at_once, extra)


def _most(found: Pool, cell: Cell, seq: int) -> int:
    counts = []
    if cell.full:
        counts.append(found.tokens // seq)
    if cell.sliding:
        counts.append(found.extra["sliding_tokens"] // (min(seq, cell.window) + cell.beside))
    if cell.rule is not None:
        counts.append(cell.rule.requests(found.extra["state_slots"]))
    if cell.running is not None:
        counts.append(cell.running)
    return int(min(counts))


def _budget(
    estimate: Estimate, options: Options, version: Version, *, version_known: bool
) -> tuple[Estimated | None, Fraction | None]:
    """rest = free after the weights - free before them · (1 - mem_fraction_static); no profile run.

    Where neither version nor fraction is known, the range holds the default of older releases, too.
    """
    if options.pool_bytes is not None:
        return Estimated(options.pool_bytes, options.pool_bytes, options.pool_bytes, "as given"), options.fraction
    if estimate.capacity is None:
        return None, options.fraction
    fraction = default_fraction(estimate, options, version) if options.fraction is None else options.fraction
    fractions = [fraction]
    if (
        options.fraction is None and not version_known and not keeps_compressed(estimate)
    ):  # no older release has the latter
        fractions.append(default_fraction(estimate, options, (0, 4)))
    weights, held = _on_device(estimate, options, (version, version_known)), context_before_weights(estimate)
    if drafter_of(estimate) is not None:
        weights = _with_drafter(weights, estimate, version)
    total = estimate.capacity.bytes

    def rest(share: Fraction, context: int, loaded: int) -> int:
        return int((total - context) * share) - loaded

    return (
        Estimated(
            rest(fraction, held.bytes, weights.bytes),
            rest(min(fractions), held.high, weights.high),
            rest(max(fractions), held.low, weights.low),
        ),
        fraction,
    )


def _on_device(estimate: Estimate, options: Options, version: tuple[Version, bool]) -> Estimated:
    """Weights with the scales that a release leaves beside them (`version`, and whether it was said), less what lies in host memory: experts in their share of the whole, so that its range stays in proportion."""
    found = weights_loaded(estimate)
    kept = max(0, found.bytes - experts_on_host(estimate, options.gpu_experts))
    low, middle, high = (value * kept // max(1, found.bytes) for value in (found.low, found.bytes, found.high))
    more = sglang_compressed.stale_scales(estimate, *version) if keeps_compressed(estimate) else Estimated(0, 0, 0)
    low, middle, high = low + more.low, middle + more.bytes, max(high, middle) + more.high
    return kept_on_device(Estimated(middle, low, high, found.words), options.cpu_offload_bytes)


def experts_on_host(estimate: Estimate, kept: int | None) -> int:
    """Counts the bytes of a rank's experts beyond the first `kept` of each layer (--kt-num-gpu-experts); 0 without it."""
    if kept is None:
        return 0
    sharding = estimate.request.sharding
    experts = [
        (replace(here, count=here.count - kept), times)
        for layer, times in estimate.spec.groups
        for weight in layer.weights
        if weight.part == "experts" and (here := weight.on_rank(sharding.tp, sharding.ep)).count > kept >= 0
    ]
    return estimate.plan.total(experts) // sharding.pp


def _with_drafter(weights: Estimated, estimate: Estimate, version: Version) -> Estimated:
    """Weights there when the pool is sized: without the drafter before 0.5.15, later with it, and an MTP or EAGLE head
    with copies of embedding and head that are dropped only afterwards (sglang issue 36452)."""
    drafter = drafter_of(estimate)
    assert drafter is not None
    if version < DRAFTS_IN_POOL_SINCE:
        less = drafter_weights(estimate)
        return Estimated(weights.bytes - less, weights.low - less, weights.high - less, weights.words)
    spec = estimate.spec
    copies = 0
    if drafter.kind != "model":
        copies = 2 * spec.vocab * spec.hidden * estimate.fmt.model_dtype_bytes // estimate.request.sharding.tp
    return Estimated(weights.bytes + copies, weights.low, weights.high + copies, weights.words)


def _lines(found: Pool, estimate: Estimate) -> tuple[str, ...]:
    if not found.bytes:
        return (NO_ROOM,)
    if keeps_compressed(estimate):
        return (f"max_total_num_tokens={found.tokens}",)
    k, v = found.extra["k_bytes"], found.extra["v_bytes"]
    latent = any(isinstance(cache, Latent) for cache in caches_of(estimate))
    sizes = f"KV size: {(k + v) / GIB:.2f} GB" if latent else f"K size: {k / GIB:.2f} GB, V size: {v / GIB:.2f} GB"
    return (f"KV Cache is allocated. #tokens: {found.tokens}, {sizes}", f"max_total_num_tokens={found.tokens}")


def _reasons(cell: Cell, options: Options, estimate: Estimate) -> tuple[str, ...]:
    reasons = []
    if cell.sliding:
        ratio = cell.window_ratio if options.swa_ratio is None else options.swa_ratio
        reasons.append(
            f"two pools: layers with a window hold {float(ratio):g} of the tokens; the printed count is the full pool"
        )
    elif cell.window or any(isinstance(c, (SlidingWindow, Chunked)) for c in caches_of(estimate)):
        reasons.append("windows are charged at full length for this architecture")
    if cell.beside:
        reasons.append(
            f"pages of {cell.beside} tokens, whatever --page-size says; {cell.running:,} requests run at once on a replica"
        )
    if cell.fixed:
        reasons.append(f"the state of open blocks of as many requests, {human_bytes(cell.fixed)}, is taken first")
    if cell.rule is not None:
        reasons.append(cell.rule.said())
    if not reasons:
        reasons.append("single tokens: no rounding to blocks")
    reasons.append("the request table (int32 [running requests + 1, context + 4]) comes on top of the pool")
    return tuple(reasons)


def _assumptions(
    estimate: Estimate, options: Options, fraction: Fraction | None, *, version: str | None
) -> tuple[str, ...]:
    lines = [f"SGLang {version or NEWEST}" + ("" if version else ", the newest release read (no version given)")]
    if fraction is not None and estimate.capacity is not None and options.pool_bytes is None:
        lines.append(
            f"mem_fraction_static {float(fraction):g} of what is free of {human_bytes(estimate.capacity.bytes)}"
        )
    return tuple(lines)
