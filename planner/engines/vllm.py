"""vLLM: which engine a version runs, its defaults by device, the budget, and what it prints at start-up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from planner.engines import vllm_v0, vllm_v1
from planner.engines.base import (
    LATEST,
    NO_ROOM,
    EngineAnswer,
    Options,
    Pool,
    Ranged,
    Version,
    gib_two,
    parse_version,
    want,
)
from planner.engines.device_memory import (
    ProfileRun,
    added,
    cuda_graphs,
    device_of,
    kept_on_device,
    non_torch,
    vllm_activation,
    weights_loaded,
)
from planner.errors import BadRequest
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.estimate import estimate as ask
from planner.model.latent_attention import Latent
from planner.units import GIB, human_bytes

V1_SINCE: Version = (0, 8)
V1_ONLY_SINCE: Version = (0, 11)
GRAPHS_IN_BUDGET_SINCE: Version = (0, 21)
HIGHER_UTILISATION_SINCE: Version = (0, 20)
FP8_MLA_SINCE: Version = (0, 11)
ALIGNED_STATES_SINCE: Version = (0, 28)
LARGE_DEVICE_BYTES = 70 * GIB
OLD_ARCHITECTURES = ("Volta", "Turing", "Pascal")
DEFAULT: Version = (0, 20, 0)
DEFAULT_V0: Version = (0, 8, 5)
CHUNKED_ABOVE = 32768
SEQUENCES = 256
MULTIMODAL_TOKENS = 5120
# Sequences by GiB that weights leave of the share, as Unsloth sets them (unsloth_zoo/vllm_utils.py of 2025; its logs
# print "Num Sequences"). Eight of nine logs of V0 on a card shared with a trainer have them; one of an estimate of its own has 128 for 192.
TRAINER_SEQUENCES = ((2, 128), (4, 160), (8, 192), (12, 224), (16, 256), (24, 288), (40, 320))


@dataclass(frozen=True)
class Setting:
    """A version, the engine it runs, and the flags with the defaults filled in."""

    version: Version
    label: str
    v1: bool
    fraction: Fraction
    longest: int
    batched: int
    sequences: int
    block: int
    hybrid: bool
    sequences_given: bool = True
    beside_a_trainer: bool = False
    offloaded_bytes: int = 0

    @property
    def profile_run(self) -> ProfileRun:
        most = max(self.sequences, SEQUENCES) if self.beside_a_trainer else self.sequences
        return ProfileRun(self.version, self.v1, self.batched, self.sequences, most, self.sequences_given)


def answer(estimate: Estimate, options: Options, version: str | None, generation: str | None = None) -> EngineAnswer:
    """vLLM's pool, start-up lines and reasons; `generation` v0 or v1 where the name of the engine says which."""
    setting = settings(estimate, options, version, generation)
    if setting.version >= FP8_MLA_SINCE:
        estimate = with_sparse_record(estimate)
    if setting.v1:
        return _answer_v1(estimate, options, setting)
    return _answer_v0(estimate, options, setting)


def settings(estimate: Estimate, options: Options, text: str | None, generation: str | None = None) -> Setting:
    """Flags with vLLM's defaults.

    Source: vLLM 0.11.2 `EngineArgs._set_default_args` (batched tokens and sequences by device),
    `CacheConfig.gpu_memory_utilization` 0.9 (0.92 in logs of 0.20); 0.8 to 0.10 fall back to the first engine
    on devices before compute capability 8.0 and for encoder-decoders.
    """
    version = _number(text, generation)
    v1 = generation == "v1" or (generation is None and runs_v1(estimate, version))
    longest = want(options.max_model_len, default_length(estimate), "--max-model-len")
    batched, sequences = _default_batch(estimate, v1, version, longest)
    default_fraction = Fraction(92, 100) if version >= HIGHER_UTILISATION_SINCE else Fraction(9, 10)
    fraction = default_fraction if options.fraction is None else options.fraction
    beside = options.max_num_seqs is None and not v1 and _shares_its_card(estimate, fraction)
    if beside:
        sequences = _sequences_beside_a_trainer(estimate, fraction)
    return Setting(
        version,
        text or ".".join(map(str, version)),
        v1,
        fraction,
        longest,
        want(options.max_num_batched_tokens, batched, "--max-num-batched-tokens"),
        want(options.max_num_seqs, sequences, "--max-num-seqs"),
        want(options.block_size, default_block(estimate, v1, version, longest), "--block-size"),
        not options.disable_hybrid and version >= vllm_v1.HYBRID_SINCE and not _off_gpu(estimate),
        options.max_num_seqs is not None,
        beside,
        options.cpu_offload_bytes,
    )


def _default_batch(estimate: Estimate, v1: bool, version: Version, longest: int) -> tuple[int, int]:
    """(batched tokens, sequences) of a server without these flags.

    V0: a step holds the longest request, unless that is above 32,768 and chunked prefill comes on by itself, which
    it does not for multimodal models, MLA and LoRA; multimodal models have 5,120 at least.
    """
    capacity = estimate.capacity
    if v1:
        large = bool(capacity and capacity.bytes >= LARGE_DEVICE_BYTES and "a100" not in capacity.name.lower())
        return (8192 if large else 2048), (1024 if large and version >= (0, 8, 3) else SEQUENCES)
    residents = estimate.request.residents
    adapters = bool(residents and residents.adapters)
    whole = bool(estimate.spec.towers) or adapters or (version >= vllm_v0.MLA_SINCE and has_latents(estimate))
    if longest > CHUNKED_ABOVE and not whole:
        return 2048, SEQUENCES
    return max(longest, MULTIMODAL_TOKENS if estimate.spec.towers else 2048), SEQUENCES


def has_latents(estimate: Estimate) -> bool:
    return any(isinstance(cache, Latent) for layer, _ in estimate.spec.groups for cache in layer.caches)


def _shares_its_card(estimate: Estimate, fraction: Fraction) -> bool:
    """One GPU of which V0 may take less than its default share: something else runs on it."""
    capacity = estimate.capacity
    alone = estimate.request.sharding.devices == 1 and estimate.spec.weights_known
    return bool(capacity and alone and fraction < Fraction(9, 10) and not _off_gpu(estimate))


def _sequences_beside_a_trainer(estimate: Estimate, fraction: Fraction) -> int:
    assert estimate.capacity is not None
    if estimate.spec.towers:
        return 1
    left = estimate.capacity.bytes * fraction - estimate.per_device.weight_bytes
    return next((count for limit, count in TRAINER_SEQUENCES if left <= limit * GIB), 368)


def _number(text: str | None, generation: str | None) -> Version:
    """The version asked for; the newest that logs confirm where none is, the newest rules for a development build."""
    number = parse_version(text) if text else None
    if number is not None and generation == "v0" and number >= V1_ONLY_SINCE:
        raise BadRequest(f"vllm-v0=={text}: vLLM 0.11 and later have V1 alone; name vllm or an earlier version")
    if number is not None and generation == "v1" and number < V1_SINCE:
        raise BadRequest(f"vllm-v1=={text}: V1 came with vLLM 0.8; name vllm or a later version")
    if number is not None:
        return number
    return DEFAULT_V0 if generation == "v0" else LATEST if text else DEFAULT


def runs_v1(estimate: Estimate, version: Version) -> bool:
    if version >= V1_ONLY_SINCE:
        return True
    if version < V1_SINCE or estimate.spec.encoder:
        return False
    return architecture(estimate) not in OLD_ARCHITECTURES


def default_length(estimate: Estimate) -> int:
    """The model's positions, or the request where that is longer (a flag lets a server go beyond them)."""
    return max(estimate.spec.max_positions or 0, estimate.request.seq_tokens)


def default_block(estimate: Estimate, v1: bool, version: Version, longest: int) -> int:
    """Tokens of a block: 16; MLA 64 where FlashMLA runs (a record of 576, Hopper or an unknown device), 128 with
    CUTLASS MLA (Blackwell before 0.12), 64 with a sparse indexer; 128 on CPU and Gaudi;
    a sixteenth of the longest request, 16 to 256, on TPU."""
    if estimate.capacity is not None and estimate.capacity.name.lower().startswith("tpu"):
        power = 1 << max(0, longest - 1).bit_length()  # PallasAttentionBackend.get_page_size
        return min(256, max(16, power // 16))
    if _off_gpu(estimate):
        return 128
    latents = [cache for layer, _ in estimate.spec.groups for cache in layer.caches if isinstance(cache, Latent)]
    if not latents or not v1:
        return vllm_v0.BLOCK_TOKENS
    if any(cache.indexer_dim for cache in latents):
        return 64
    if latents[0].latent_dim + latents[0].rope_dim != 576:
        return 16
    arch = architecture(estimate)
    if arch.startswith("Blackwell"):
        return 128 if version < (0, 12) else 64
    return 64 if arch in ("", "Hopper") else 16


def architecture(estimate: Estimate) -> str:
    """The device's architecture, "" where it is not known."""
    device = device_of(estimate)
    return "" if device is None else device.arch or ""


def _off_gpu(estimate: Estimate) -> bool:
    capacity = estimate.capacity
    return bool(capacity and (capacity.kind == "host" or capacity.name.lower().startswith(("gaudi", "tpu"))))


def with_sparse_record(estimate: Estimate) -> Estimate:
    """fp8 of a sparse-attention model becomes fp8_ds_mla, which in vLLM is also what `auto` means there.

    Source: vLLM 0.11 `DeepseekV32ForCausalLM.verify_and_update_config`; bf16 given keeps bf16.
    """
    sparse = any(isinstance(c, Latent) and c.indexer_dim for layer, _ in estimate.spec.groups for c in layer.caches)
    request = estimate.request
    if not sparse or request.k_dtype not in (None, "auto", "fp8", "fp8_e4m3"):
        return estimate
    return ask(estimate.spec, replace(request, k_dtype="fp8_ds_mla", v_dtype="fp8_ds_mla"), estimate.capacity)


def budget(estimate: Estimate, setting: Setting) -> tuple[Estimated | None, Estimated, Estimated]:
    """(cache budget, activation peak, overhead) of one device; no budget where no device is named.

    available = total · utilisation - weights - activation peak - non-torch memory [- CUDA graphs from 0.21].
    Source: vLLM 0.6.6.post1 `determine_num_available_blocks`, 0.11.2 `Worker.determine_available_memory`;
    graphs are captured after the pool and outside the budget before 0.21.
    """
    run = setting.profile_run
    activation = vllm_activation(estimate, run)
    lines = [non_torch(estimate, run)]
    if setting.version >= GRAPHS_IN_BUDGET_SINCE:
        lines.append(cuda_graphs(estimate, setting.version))
    overhead = added(lines, "non-torch memory" + (" and CUDA graphs" if len(lines) > 1 else ""))
    if estimate.capacity is None:
        return None, activation, overhead
    total = int(estimate.capacity.bytes * setting.fraction)
    weights = kept_on_device(weights_loaded(estimate), setting.offloaded_bytes)
    left = Estimated(
        total - weights.bytes - activation.bytes - overhead.bytes,
        total - weights.high - activation.high - overhead.high,
        total - weights.low - activation.low - overhead.low,
    )
    if estimate.capacity.name.lower().startswith("gaudi"):  # VLLM_GRAPH_RESERVED_MEM: 0.1, in earlier releases 0.4
        left = Estimated(left.bytes * 9 // 10, left.low * 6 // 10, left.high * 9 // 10)
    return left, activation, overhead


def _sizes(
    estimate: Estimate, options: Options, setting: Setting
) -> tuple[Estimated | None, Estimated | None, Estimated | None]:
    """As `budget`, with the pool as given where it is; nothing is known of a model without its widths."""
    derived, activation, overhead = budget(estimate, setting)
    known = estimate.spec.weights_known
    if options.pool_bytes is not None:
        derived = Estimated(options.pool_bytes, options.pool_bytes, options.pool_bytes, "as given")
    elif not known:
        derived = None
    return derived, activation if known else None, overhead


def _answer_v0(estimate: Estimate, options: Options, setting: Setting) -> EngineAnswer:
    vllm_v0.check(estimate)
    size, activation, overhead = _sizes(estimate, options, setting)

    def cut(at: int) -> Pool:
        return vllm_v0.pool(estimate, options, setting.version, at, setting.longest)

    ranged = None if size is None else Ranged(cut(size.bytes), cut(size.low), cut(size.high))
    seq = estimate.request.seq_tokens
    taken = vllm_v0.request_bytes(estimate, options, setting.version, seq)
    lines: tuple[str, ...] = ()
    if ranged:
        found = ranged.pool
        lines = (
            (NO_ROOM,)
            if not found.blocks
            else (
                f"# GPU blocks: {found.blocks}, # CPU blocks: {found.extra['cpu_blocks']}",
                f"Maximum concurrency for {setting.longest} tokens per request: {float(found.at_once):.2f}x",
            )
        )
    most = None if ranged is None else ranged.pool.bytes // taken
    return _finish(estimate, options, setting, ranged, taken, setting.block, activation, overhead, most, lines, ())


def _answer_v1(estimate: Estimate, options: Options, setting: Setting) -> EngineAnswer:
    size, activation, overhead = _sizes(estimate, options, setting)
    options = replace(options, mamba_cache_mode=options.mamba_cache_mode or state_mode(setting.version))
    found = vllm_v1.layout(
        estimate, options, setting.version, block=setting.block, batched=setting.batched, longest=setting.longest,
        hybrid=setting.hybrid,
    )  # fmt: skip

    def cut(at: int) -> Pool:
        return vllm_v1.pool(found, at, setting.version, setting.longest)

    ranged = None if size is None else Ranged(cut(size.bytes), cut(size.low), cut(size.high))
    blocks = found.request_blocks(estimate.request.seq_tokens)
    taken = blocks * found.block_bytes
    most = None if ranged is None else (ranged.pool.blocks or 0) // blocks
    lines = _lines_v1(ranged.pool, setting) if ranged else ()
    reasons = _reasons_v1(estimate, options, setting, found)
    return _finish(estimate, options, setting, ranged, taken, found.block, activation, overhead, most, lines, reasons)


def state_mode(version: Version) -> str:
    """How recurrent states are cached where no flag says: `align` with prefix caching, which hybrids have by default
    from 0.28 (vLLM PR 50991), `none` before.

    >>> state_mode((0, 27)), state_mode((0, 28))
    ('none', 'align')
    """
    return "align" if version >= ALIGNED_STATES_SINCE else "none"


def _lines_v1(pool: Pool, setting: Setting) -> tuple[str, ...]:
    if not pool.blocks:
        return (NO_ROOM,)
    lines = [f"Available KV cache memory: {gib_two(pool.bytes)} GiB"]
    size = f"GPU KV cache size: {pool.printed:,} tokens"
    concurrency = f"Maximum concurrency for {setting.longest:,} tokens per request: {float(pool.at_once):.2f}x"
    if setting.version >= vllm_v1.CONCURRENCY_PRINTED_SINCE:
        lines.append(f"{size}, {concurrency}")
    else:
        lines += [size, concurrency]
    needed = pool.extra["needed_bytes"]
    if needed > pool.bytes:
        lines.append(
            f"refuses to start: {gib_two(needed)} GiB KV cache is needed for {setting.longest} tokens; "
            f"estimated maximum length {pool.extra['estimated_max_model_len']}"
        )
    return tuple(lines)


def _reasons_v1(estimate: Estimate, options: Options, setting: Setting, found: vllm_v1.Layout) -> tuple[str, ...]:
    reasons = []
    forms = {group.kind.form for group in found.groups}
    if "state" in forms:
        reasons.append(
            f"recurrent states share the pool: blocks of {found.block:,} tokens so that a page holds a state"
        )
        if options.mamba_cache_mode == "align":
            reasons.append(
                "a request may hold two states of each group: mamba_cache_mode align, the default from 0.28 "
                "(--mamba-cache-mode none where prefix caching is off)"
            )
    if len(found.groups) > 1:
        reasons.append(
            f"{len(found.groups)} groups of {max(max(g.layers) for g in found.groups)} layers share the blocks; the last of a kind is padded"
        )
    if "sliding" in forms:
        reasons.append(f"a window is charged window - 1 + {setting.batched:,} batched tokens and one block more")
    if len({group.block for group in found.groups if group.kind.form not in ("state", "cross")}) > 1:
        reasons.append("page sizes made equal: layers of fewer bytes a token take more tokens a block")
    kinds = {cache.kind.split()[0] for layer, _ in estimate.spec.groups for cache in layer.caches}
    if (not setting.hybrid and kinds & {"sliding"}) or "chunked" in kinds:
        reasons.append("windows and chunks are charged at full length: the hybrid manager is off")
    if options.num_speculative_tokens or options.draft_layers:
        reasons.append("a drafter's layers share the pool")
    if found.dcp > 1:
        reasons.append(f"decode context parallel multiplies the printed tokens by {found.dcp}")
    if setting.version >= vllm_v1.CONCURRENCY_PRINTED_SINCE and len(found.groups) > 1:
        reasons.append("the printed tokens are concurrency x max_model_len, not the capacity")
    return tuple(reasons)


def _finish(
    estimate: Estimate,
    options: Options,
    setting: Setting,
    ranged: Ranged | None,
    taken: int,
    block: int,
    activation: Estimated | None,
    overhead: Estimated | None,
    most: int | None,
    lines: tuple[str, ...],
    reasons: tuple[str, ...],
) -> EngineAnswer:
    logical = logical_bytes(estimate)
    if estimate.request.seq_tokens > setting.longest:
        most, reasons = 0, (*reasons, f"requests beyond max_model_len {setting.longest:,} are refused")
    if taken != logical and not reasons:
        reasons = (f"whole blocks of {block} tokens, every layer at full length",)
    given = options.pool_bytes is not None
    assumed = [f"vLLM {setting.label}, the {'V1' if setting.v1 else 'first (V0)'} engine",
               f"max_model_len {setting.longest:,}, {setting.batched:,} batched tokens, {setting.sequences:,} sequences"]  # fmt: skip
    if setting.beside_a_trainer:
        assumed.append(
            f"--max-num-seqs not given: {setting.sequences} as trainers set it that share a card (Unsloth, by the memory "
            f"left); the range reaches to vLLM's own {SEQUENCES}"
        )
    if estimate.fmt.k.name == "fp8_ds_mla" and estimate.request.k_dtype != "fp8_ds_mla":
        assumed.append("a sparse indexer: vLLM stores fp8_ds_mla")
    if estimate.capacity is not None and not given:
        assumed.append(f"gpu_memory_utilization {float(setting.fraction):g} of {human_bytes(estimate.capacity.bytes)}")
    return EngineAnswer(
        name="vllm",
        version=setting.label,
        request_tokens=estimate.request.seq_tokens,
        request_bytes=taken,
        logical_bytes=logical,
        ranged=ranged,
        block_tokens=block,
        activation=activation,
        overhead=overhead,
        fits=None if most is None else most >= estimate.request.sharding.sequences_on_rank(estimate.request.batch),
        most_requests=most,
        lines=lines,
        reasons=reasons,
        assumptions=tuple(assumed),
        extra={
            "generation": "v1" if setting.v1 else "v0",
            "max_model_len": setting.longest,
            "max_num_batched_tokens": setting.batched,
            "max_num_seqs": setting.sequences,
            "max_num_seqs_assumed": setting.beside_a_trainer,
            "fraction": float(setting.fraction),
        },
    )


def logical_bytes(estimate: Estimate) -> int:
    """What one sequence needs on the fullest device, before an engine rounds it."""
    stage = estimate.per_device
    sequences = estimate.request.sharding.sequences_on_rank(estimate.request.batch)
    return (stage.kv_bytes + stage.state_bytes) // sequences
