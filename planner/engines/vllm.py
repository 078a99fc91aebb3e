"""vLLM: the budget of a device, what its engines cut it into, whether the server starts, and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from planner.engines import vllm_compressed, vllm_v0, vllm_v1
from planner.engines.base import (
    NO_ROOM,
    EngineAnswer,
    Options,
    Pool,
    Ranged,
    Refusal,
    Version,
    caches_of,
    gib_two,
    heads_refusal,
    keeps_compressed,
)
from planner.engines.capability import in_float32, takes_float32, vllm_refusal
from planner.engines.device_memory import (
    added,
    cuda_graphs,
    kept_on_device,
    non_torch,
    vllm_activation,
    weights_loaded,
)
from planner.engines.drafting import draft_tokens, refuse_draft_model
from planner.engines.mxfp4 import padding
from planner.engines.vllm_batch import SEQUENCES
from planner.engines.vllm_setting import Setting, settings
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.estimate import estimate as ask
from planner.model.latent_attention import Latent
from planner.units import ceil_div, human_bytes, plural

GRAPHS_IN_BUDGET_SINCE: Version = (0, 21)
FP8_MLA_SINCE: Version = (0, 11)
# Servers with recurrent layers compare max_num_seqs with the blocks (`CompilationConfig` of 0.20; before, the sizes
# of the CUDA graphs were cut in silence).
STATES_CHECKED_SINCE: Version = (0, 20)
ONE_LINE_SINCE: Version = (0, 28)  # tokens and concurrency in one line
DRAFT_MODELS_SINCE: Version = (0, 15)  # V1 refused a draft model to 0.14 (`EngineArgs._is_v1_supported_oracle`)
CPU_NAMED_SINCE: Version = (0, 30)  # "CPU KV cache size"


@dataclass(frozen=True)
class Made:
    """What an engine makes of the budget: the pool, a request's share of it, lines and reasons."""

    ranged: Ranged | None
    request_bytes: int
    block: int
    most: int | None
    lines: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    refusal: Refusal | None = None
    low_refusal: str = ""


@dataclass(frozen=True)
class Sizes:
    """The cache budget of one device, and the two estimates that lead to it; None where nothing is known."""

    pool: Estimated | None
    activation: Estimated | None
    overhead: Estimated | None


FLOAT32 = "this type refuses float16, and the card has no bfloat16: vLLM takes float32, which doubles weights and cache"


def answer(
    estimate: Estimate, options: Options, version: str | None, generation: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for vLLM: its pool, start-up lines and reasons; `generation` v0 or v1 where the engine's name says which."""
    setting, estimate = _read(estimate, options, version, generation=generation)
    sizes = _sizes(estimate, options, setting)
    made = (_made_v1 if setting.v1 else _made_v0)(estimate, options, setting, sizes=sizes)
    return _answer(estimate, options, setting, sizes=sizes, made=made)


def request_bytes(
    estimate: Estimate,
    options: Options,
    version: str | None,
    *,
    lengths: Sequence[int],
    generation: str | None = None,
) -> list[int]:
    """Counts the bytes of the pool that a request of each length takes, as `answer` says them, without the budget that it
    works out.
    """
    setting, estimate = _read(estimate, options, version, generation=generation)
    if setting.v1:
        found = _layout(estimate, options, setting)
        return [found.request_blocks(tokens) * found.block_bytes for tokens in lengths]
    vllm_v0.check(estimate)
    return [vllm_v0.request_bytes(estimate, options, setting.version, length=tokens) for tokens in lengths]


@lru_cache(maxsize=2)  # a search asks for the answer and for the bytes of other lengths, one after the other
def _read(
    estimate: Estimate, options: Options, version: str | None, *, generation: str | None
) -> tuple[Setting, Estimate]:
    """The setting, and the estimate in the formats that this version stores."""
    setting = settings(estimate, options, version, generation=generation)
    if setting.v1 and setting.version < DRAFT_MODELS_SINCE:
        refuse_draft_model(estimate, f"vLLM {setting.label}")
    if takes_float32(estimate, options, setting.version):
        estimate = ask(estimate.spec, replace(estimate.request, dtype="fp32"), estimate.capacity)
    return setting, with_sparse_record(estimate) if setting.version >= FP8_MLA_SINCE else estimate


def with_sparse_record(estimate: Estimate) -> Estimate:
    """Turns fp8 of a sparse-attention model into fp8_ds_mla, which in vLLM is also what `auto` means there.

    Source: vLLM 0.11 `DeepseekV32ForCausalLM.verify_and_update_config`; bf16 given keeps bf16.
    """
    sparse = any(isinstance(c, Latent) and c.indexer_dim for c in caches_of(estimate))
    request = estimate.request
    if keeps_compressed(estimate):
        return with_fp8(estimate, "vLLM")
    if not sparse or request.k_dtype not in (None, "auto", "fp8", "fp8_e4m3"):
        return estimate
    return ask(estimate.spec, replace(request, k_dtype="fp8_ds_mla", v_dtype="fp8_ds_mla"), estimate.capacity)


def with_fp8(estimate: Estimate, engine: str) -> Estimate:
    """Turns what is kept of a compressed past into fp8, which is also what `auto` means there.

    Raises BadRequest for any other, as vLLM 0.32 does (`_resolve_dsv4_kv_cache_dtype`); SGLang 0.5.23 takes bfloat16
    too, but counts and stores such records.
    """
    request = estimate.request
    if request.k_dtype not in (None, "auto", "fp8", "fp8_e4m3", "fp8_ds_mla"):
        raise BadRequest(
            f"{engine} keeps the cache of {estimate.spec.name} in fp8 alone, not in {request.k_dtype}: write --kv-cache-dtype fp8"
        )
    return ask(estimate.spec, replace(request, k_dtype="fp8", v_dtype="fp8"), estimate.capacity)


def loaded_by_vllm(estimate: Estimate, version: Version) -> Estimated:
    """Weights as vLLM's loader leaves them: counted, with the padding of experts in mxfp4."""
    counted, more = weights_loaded(estimate), padding(estimate, version)
    if not more.high:
        return counted
    high = max(counted.high, counted.bytes + more.high)
    words = f"{counted.words}, {more.words}" if more.words else counted.words
    return Estimated(counted.bytes + more.bytes, counted.bytes, high, words)  # padding adds to the count, never takes


def budget(estimate: Estimate, setting: Setting) -> Sizes:
    """Computes the budget for the cache of one device, with the activation peak and overhead; no pool where no device
    is named.

    available = total · utilisation - weights - activation peak - non-torch memory [- CUDA graphs from 0.21]; on TPUs
    utilisation · (total - weights), with no profile run (tpu_inference, vLLM 0.9).
    Source: vLLM 0.6.6.post1 `determine_num_available_blocks`, 0.11.2 `Worker.determine_available_memory`;
    graphs are captured after the pool and outside the budget before 0.21.
    """
    run = setting.profile_run
    activation = vllm_activation(estimate, run)
    lines = [non_torch(estimate, run)]
    if setting.version >= GRAPHS_IN_BUDGET_SINCE and setting.platform == "gpu":
        lines.append(cuda_graphs(estimate, setting.version))
    overhead = added(lines, "non-torch memory" + (" and CUDA graphs" if len(lines) > 1 else ""))
    if estimate.capacity is None:
        return Sizes(None, activation, overhead)
    weights = kept_on_device(loaded_by_vllm(estimate, setting.version), setting.offloaded_bytes)
    if setting.platform == "tpu":
        free = estimate.capacity.bytes - weights.bytes
        likely = int(free * setting.fraction)
        low = int((estimate.capacity.bytes - weights.high) * setting.fraction) - activation.bytes
        nothing = Estimated(0, 0, activation.bytes, "not taken off on TPUs")
        return Sizes(Estimated(likely, min(low, likely), likely), nothing, Estimated(0, 0, 0, "in the share left"))
    total = int(estimate.capacity.bytes * setting.fraction)
    left = Estimated(
        total - weights.bytes - activation.bytes - overhead.bytes,
        total - weights.high - activation.high - overhead.high,
        total - weights.low - activation.low - overhead.low,
    )
    if setting.platform == "gaudi":  # VLLM_GRAPH_RESERVED_MEM: 0.1, in earlier releases 0.4
        ends = (left.bytes * 9 // 10, left.low * 6 // 10, left.low * 9 // 10, left.high * 9 // 10)
        left = Estimated(ends[0], min(ends), max(ends))
    return Sizes(left, activation, overhead)


def _sizes(estimate: Estimate, options: Options, setting: Setting) -> Sizes:
    """As `budget`, with the pool as given where it is; nothing is known of a model without its widths."""
    found = budget(estimate, setting)
    known = estimate.spec.weights_known
    size = found.pool if known else None
    if options.pool_bytes is not None:
        size = Estimated(options.pool_bytes, options.pool_bytes, options.pool_bytes, "as given")
    return Sizes(size, found.activation if known else None, found.overhead)


def _made_v0(estimate: Estimate, options: Options, setting: Setting, *, sizes: Sizes) -> Made:
    vllm_v0.check(estimate)

    def cut(at: int) -> Pool:
        return vllm_v0.pool(estimate, options, setting.version, size=at, longest=setting.longest)

    size = _with_blocks(sizes.pool, options, vllm_v0.block_bytes(estimate, setting.version, setting.block))
    taken = vllm_v0.request_bytes(estimate, options, setting.version, length=estimate.request.seq_tokens)
    if size is None:
        return Made(None, taken, setting.block, None)
    ranged = Ranged(cut(size.bytes), cut(size.low), cut(size.high))
    found = ranged.pool
    if not found.blocks:
        return Made(ranged, taken, setting.block, 0, (NO_ROOM,), refusal=_no_room(size))
    lines = (
        f"# GPU blocks: {found.blocks}, # CPU blocks: {found.extra['cpu_blocks']}",
        f"Maximum concurrency for {setting.longest} tokens per request: {float(found.at_once):.2f}x",
    )
    return Made(
        ranged, taken, setting.block, found.bytes // taken, lines, refusal=_too_long_v0(ranged, setting, options)
    )


def _too_long_v0(ranged: Ranged, setting: Setting, options: Options) -> Refusal | None:
    """V0 raises where the pool holds fewer tokens than max_model_len."""
    pool, block = ranged.pool, ranged.pool.block_tokens or vllm_v0.BLOCK_TOKENS
    given = options.num_gpu_blocks_override is not None
    more = f"--num-gpu-blocks-override {ceil_div(setting.longest, block)}" if given else "--gpu-memory-utilization"
    if pool.tokens >= setting.longest:
        return None
    return Refusal(
        f"the longest request (max_model_len {setting.longest:,}) is larger than the {pool.tokens:,} tokens that can "
        "be stored in KV cache",
        (f"--max-model-len {max(1, pool.tokens)}", more),
        sure=ranged.high.tokens < setting.longest,
    )


@lru_cache(maxsize=2)
def _layout(estimate: Estimate, options: Options, setting: Setting) -> vllm_v1.Layout:
    """How the model's layers share the pool."""
    if keeps_compressed(estimate):
        return vllm_compressed.layout(estimate, options, setting)
    return vllm_v1.layout(estimate, options, setting)


def _made_v1(estimate: Estimate, options: Options, setting: Setting, *, sizes: Sizes) -> Made:
    found = _layout(estimate, options, setting)

    def cut(at: int) -> Pool:
        return vllm_v1.pool(found, at, setting.version, longest=setting.longest, given=options.num_gpu_blocks_override)

    blocks = found.request_blocks(estimate.request.seq_tokens)
    taken = blocks * found.block_bytes
    reasons = _reasons_v1(estimate, options, setting, found=found)
    size = _with_blocks(sizes.pool, options, found.block_bytes)
    if size is None:
        return Made(None, taken, found.block, None, reasons=reasons)
    ranged = Ranged(cut(size.bytes), cut(size.low), cut(size.high))
    given = options.num_gpu_blocks_override is not None
    refusal = _refusal_v1(ranged, size, setting, given=given)
    lines = _lines_v1(ranged.pool, setting, refusal)
    if given and sizes.pool is not None:
        lines = (*_overriding(sizes.pool, ranged.pool), *lines[1:])
    low = "" if refusal is not None or not ranged.low.blocks else _too_few_states(ranged.low, setting)
    return Made(ranged, taken, found.block, (ranged.pool.blocks or 0) // blocks, lines, reasons, refusal, low)


def _with_blocks(size: Estimated | None, options: Options, block_bytes: int) -> Estimated | None:
    """Returns the memory for the cache, or where none is known that of the blocks given."""
    blocks = options.num_gpu_blocks_override
    if size is not None or blocks is None:
        return size
    return Estimated(blocks * block_bytes, blocks * block_bytes, blocks * block_bytes, "as given")


def _overriding(fitting: Estimated, pool: Pool) -> tuple[str, str]:
    """The two lines of a server whose blocks are given: the memory that was free, the blocks that fit it and those made."""
    return (
        f"Available KV cache memory: {gib_two(fitting.bytes)} GiB",
        f"Overriding num_gpu_blocks={fitting.bytes // pool.extra['block_bytes']} with num_gpu_blocks_override={pool.blocks}",
    )


def _beyond_device(estimate: Estimate, options: Options, *, setting: Setting, made: Made) -> Refusal | None:
    """Refuses a cache given in bytes or blocks that the device does not hold beside the weights: vLLM allocates what it is told."""
    capacity, in_blocks = estimate.capacity, options.num_gpu_blocks_override is not None
    started = options.pool_bytes is not None and (options.server or options.offline)  # --kv-pool alone only supposes
    if capacity is None or made.ranged is None or setting.platform != "gpu" or not estimate.spec.weights_known:
        return None
    if not (in_blocks or started):
        return None
    held = made.ranged.pool.bytes
    weights = kept_on_device(loaded_by_vllm(estimate, setting.version), setting.offloaded_bytes)
    if held + weights.low <= capacity.bytes:
        return None
    fits, flag, unit = budget(estimate, setting).pool, "--kv-cache-memory-bytes", 1
    if in_blocks:
        flag, unit = "--num-gpu-blocks-override", made.ranged.pool.extra["block_bytes"]
    most = 0 if fits is None else max(0, fits.bytes) // unit
    return Refusal(
        f"the cache as given ({gib_two(held)} GiB) and the weights ({gib_two(weights.bytes)} GiB) are more than the "
        f"{gib_two(capacity.bytes)} GiB of a device: CUDA out of memory",
        (f"{flag} {most}" if most else flag, "--tensor-parallel-size"),
    )


def _no_room(size: Estimated) -> Refusal:
    return Refusal(
        "weights and what else is held leave no memory for the cache",
        ("--gpu-memory-utilization", "--max-num-batched-tokens", "--max-num-seqs", "--tensor-parallel-size"),
        sure=size.high <= 0,
    )


def _refusal_v1(ranged: Ranged, size: Estimated, setting: Setting, *, given: bool) -> Refusal | None:
    """Why a server stops at start-up: no cache at all, too little for max_model_len, or fewer blocks than sequences.

    `given`: the blocks are those of --num-gpu-blocks-override, which the check counts from 0.20.1.

    Source: `_check_enough_kv_cache_memory`, and `CompilationConfig` from 0.20: "max_num_seqs exceeds available Mamba
    cache blocks" where full CUDA graphs are captured, which is the default.
    """
    pool = ranged.pool
    counted = given and setting.version >= vllm_v1.GIVEN_BLOCKS_CHECKED_SINCE
    if not pool.blocks or (size.bytes <= 0 and not counted):
        return _no_room(size)
    more = "--gpu-memory-utilization"
    needed = pool.extra["needed_bytes"]
    if needed > pool.extra["available_bytes"]:
        longest = pool.extra["estimated_max_model_len"]
        mends = (f"--max-model-len {longest}",) if longest else ()
        if counted:
            short = needed - pool.extra["available_bytes"]
            more = f"--num-gpu-blocks-override {pool.blocks + ceil_div(short, pool.extra['block_bytes'])}"
        return Refusal(
            f"{gib_two(needed)} GiB KV cache is needed for {setting.longest} tokens, {gib_two(pool.extra['available_bytes'])} "
            f"GiB are there; estimated maximum length {longest}",
            (*mends, more),
            sure=needed > ranged.high.extra["available_bytes"],
        )
    if said := _too_few_states(pool, setting):
        more = f"--num-gpu-blocks-override {setting.sequences}" if given else more
        return Refusal(
            said,
            (f"--max-num-seqs {pool.blocks}", more, "--enforce-eager"),
            sure=setting.sequences > (ranged.high.blocks or 0),
        )
    return None


def _too_few_states(pool: Pool, setting: Setting) -> str:
    """What vLLM says where it has fewer blocks for recurrent states than sequences; "" where that is no reason."""
    checked = setting.platform == "gpu" and setting.version >= STATES_CHECKED_SINCE and pool.extra["has_states"]
    if not checked or setting.sequences <= (pool.blocks or 0):
        return ""
    return f"max_num_seqs ({setting.sequences}) exceeds available Mamba cache blocks ({pool.blocks})"


def _lines_v1(pool: Pool, setting: Setting, refusal: Refusal | None) -> tuple[str, ...]:
    if not pool.blocks:
        return (NO_ROOM,)
    lines = [f"Available KV cache memory: {gib_two(pool.bytes)} GiB"]
    where = {"cpu": "CPU"}.get(setting.platform, "GPU") if setting.version >= CPU_NAMED_SINCE else "GPU"
    size = f"{where} KV cache size: {pool.printed:,} tokens"
    concurrency = f"Maximum concurrency for {setting.longest:,} tokens per request: {float(pool.at_once):.2f}x"
    if setting.version >= ONE_LINE_SINCE:
        lines.append(f"{size}, {concurrency}")
    else:
        lines += [size, concurrency]
    if refusal is not None:
        lines.append(f"refuses to start: {refusal.text}")
    return tuple(lines)


def _reasons_v1(estimate: Estimate, options: Options, setting: Setting, *, found: vllm_v1.Layout) -> tuple[str, ...]:
    reasons = []
    forms = {group.kind.form for group in found.groups}
    if "state" in forms:
        reasons += _state_reasons(setting, found)
    packed = isinstance(found, vllm_compressed.PackedLayout)
    if packed:
        reasons.append(
            f"{len(found.groups)} groups of pages of unlike sizes share the blocks: the past, windows, and open blocks "
            "in pages of 4 and 8 tokens, which a prompt under way fills"
        )
    elif len(found.groups) > 1:
        reasons.append(
            f"{len(found.groups)} groups of {max(max(g.layers) for g in found.groups)} layers share the blocks; the last of a kind is padded"
        )
    if "sliding" in forms:
        steps = setting.in_flight // setting.batched
        times = f"{steps} steps of " if steps > 1 else ""
        reasons.append(f"a window is charged window - 1 + {times}{setting.batched:,} batched tokens and one block more")
    if not packed and len({group.block for group in found.groups if group.kind.form not in ("state", "cross")}) > 1:
        reasons.append("page sizes made equal: layers of fewer bytes a token take more tokens a block")
    kinds = {cache.kind.split()[0] for cache in caches_of(estimate)}
    if (not setting.hybrid and kinds & {"sliding"}) or "chunked" in kinds:
        reasons.append("windows and chunks are charged at full length: the hybrid manager is off")
    if options.draft_layers != 0 and (draft_tokens(estimate, options) or options.draft_layers):
        reasons.append("a drafter's layers share the pool")
    if found.dcp > 1:
        reasons.append(f"decode context parallel multiplies the printed tokens by {found.dcp}")
    if setting.version >= vllm_v1.CONCURRENCY_PRINTED_SINCE and len(found.groups) > 1:
        reasons.append("the printed tokens are concurrency x max_model_len, not the capacity")
    return tuple(reasons)


def _state_reasons(setting: Setting, found: vllm_v1.Layout) -> list[str]:
    reasons = [f"recurrent states share the pool: blocks of {found.block:,} tokens so that a page holds a state"]
    if setting.cache_mode == "align":
        held = max(group.kind.held for group in found.groups)
        words = {2: "two states", 3: "three states"}.get(held, f"{held} states")
        reasons.append(
            f"a request may hold {words} of each group: prefix caching with mamba_cache_mode align, the default of "
            "hybrids from 0.28 (--no-enable-prefix-caching turns it off)"
        )
    elif setting.cache_mode == "all":
        reasons.append("every block of the text keeps a state: prefix caching with mamba_cache_mode all")
    return reasons


def _assumed(estimate: Estimate, options: Options, setting: Setting) -> tuple[str, ...]:
    newest = "" if setting.version_given else ", the newest release read (no version given)"
    assumed = [
        f"vLLM {setting.label}, the {'V1' if setting.v1 else 'first (V0)'} engine{newest}",
        f"max_model_len {setting.longest:,}, {setting.batched:,} batched tokens, {plural(setting.sequences, 'sequence')}",
    ]
    if setting.beside_a_trainer:
        assumed.append(
            f"--max-num-seqs not given: {setting.sequences} as trainers set it that share a card (Unsloth, by the memory "
            f"left); the range reaches to vLLM's own {SEQUENCES}"
        )
    if estimate.fmt.k.name == "fp8_ds_mla" and estimate.request.k_dtype != "fp8_ds_mla":
        assumed.append("a sparse indexer: vLLM stores fp8_ds_mla")
    if estimate.capacity is not None and options.pool_bytes is None and options.num_gpu_blocks_override is None:
        assumed.append(f"gpu_memory_utilization {float(setting.fraction):g} of {human_bytes(estimate.capacity.bytes)}")
    return tuple(assumed)


# long: a field of the answer a line
def _answer(
    estimate: Estimate, options: Options, setting: Setting, *, sizes: Sizes, made: Made
) -> EngineAnswer:  # everything that the question and the engine say of it meets here
    logical = logical_bytes(estimate)
    most, reasons = made.most, made.reasons
    if estimate.request.seq_tokens > setting.longest:
        most, reasons = 0, (*reasons, f"requests beyond max_model_len {setting.longest:,} are refused")
    if in_float32(estimate):
        reasons = (*reasons, FLOAT32)
    if made.request_bytes != logical and not reasons:
        reasons = (f"whole blocks of {made.block} tokens, every layer at full length",)
    refusal = (
        heads_refusal(estimate, "--tensor-parallel-size")
        or vllm_refusal(estimate, options, setting.version)
        or _beyond_device(estimate, options, setting=setting, made=made)
        or made.refusal
    )
    if refusal is not None:
        most = 0
    wanted = estimate.request.sharding.sequences_on_rank(estimate.request.batch)
    return EngineAnswer(
        name="vllm",
        version=setting.label,
        request_tokens=estimate.request.seq_tokens,
        request_bytes=made.request_bytes,
        logical_bytes=logical,
        ranged=made.ranged,
        block_tokens=made.block,
        activation=sizes.activation,
        overhead=sizes.overhead,
        fits=None if most is None else most >= wanted,
        most_requests=most,
        lines=made.lines,
        reasons=reasons,
        assumptions=_assumed(estimate, options, setting),
        refusal=refusal,
        low_refusal=made.low_refusal,
        extra={
            "generation": "v1" if setting.v1 else "v0",
            "max_model_len": setting.longest,
            "max_num_batched_tokens": setting.batched,
            "max_num_seqs": setting.sequences,
            "max_num_seqs_assumed": setting.beside_a_trainer,
            "mamba_cache_mode": setting.cache_mode,
            "fraction": float(setting.fraction),
        },
    )


def logical_bytes(estimate: Estimate) -> int:
    """Counts what one sequence needs on the fullest device, before an engine rounds it."""
    stage = estimate.per_device
    sequences = estimate.request.sharding.sequences_on_rank(estimate.request.batch)
    return (stage.kv_bytes + stage.state_bytes) // sequences
