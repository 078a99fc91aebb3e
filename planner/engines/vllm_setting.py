"""vLLM's flags with the defaults of a version and a platform filled in.

Read off the released sources 0.9.2 to 0.33.0 (`engine/arg_utils.py`, `config/vllm.py`, `config/cache.py`,
`platforms/cpu.py`, `model_executor/models/config.py`); each constant says which release has it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from planner.engines import vllm_batch, vllm_v0
from planner.engines.base import LATEST, Options, Version, caches_of, keeps_compressed, parse_version, want
from planner.engines.device_memory import ProfileRun, device_of
from planner.engines.vllm_batch import SEQUENCES
from planner.errors import BadRequest
from planner.memory.estimate import Estimate
from planner.model.cache import Full
from planner.model.latent_attention import Latent
from planner.model.recurrent import Recurrent
from planner.units import GIB

# The newest release whose sources were read, on 2026-11-29.
DEFAULT: Version = (0, 33, 0)
DEFAULT_V0: Version = (0, 8, 5)
V1_SINCE: Version = (0, 7)
V1_BY_DEFAULT_SINCE: Version = (0, 8)
V1_ONLY_SINCE: Version = (0, 11)
HYBRID_SINCE: Version = (0, 9, 1)
HYBRID_ON_CPU_SINCE: Version = (0, 10, 2)
HYBRID_WITH_EVENTS_SINCE: Version = (0, 20)
HIGHER_UTILISATION_SINCE: Version = (0, 20)
HYBRIDS_CACHE_PREFIXES_SINCE: Version = (0, 28)  # PR 50991
CACHE_MODES_SINCE: Version = (0, 15)
ALIGN_ALONE_SINCE: Version = (0, 28)
IN_FLIGHT_SINCE: Version = (0, 26)  # PR 47728: `VllmConfig.max_in_flight_tokens`
FP32_STATES_ON_CPU_SINCE: Version = (0, 26)
OLD_ARCHITECTURES = ("Volta", "Turing", "Pascal")
FLASHINFER_STATES = ("Hopper", "Blackwell")
MAMBA_LABELS = ("mamba", "mamba2")
# Sequences by GiB that weights leave of the share, as Unsloth sets them (unsloth_zoo/vllm_utils.py of 2025; its logs
# print "Num Sequences"). Eight of nine logs of V0 on a card shared with a trainer have them; one of an estimate of its own has 128 for 192.
TRAINER_SEQUENCES = ((2, 128), (4, 160), (8, 192), (12, 224), (16, 256), (24, 288), (40, 320))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A version, the engine it runs, and the flags with the defaults filled in.

    in_flight    tokens that may be scheduled and not yet settled: the batched tokens of every step under way
    cache_mode   how recurrent states are cached: none, align or all
    platform     gpu, cpu, tpu or gaudi
    flashinfer_states   FlashInfer's kernel fills the states of gated DeltaNet: Hopper and Blackwell, or not known
    """

    version: Version
    label: str
    v1: bool
    fraction: Fraction
    longest: int
    batched: int
    sequences: int
    block: int
    hybrid: bool
    in_flight: int
    cache_mode: str = "none"
    platform: str = "gpu"
    flashinfer_states: bool = True
    version_given: bool = True
    sequences_given: bool = True
    beside_a_trainer: bool = False
    offloaded_bytes: int = 0
    mm_items: tuple[int, int] | None = None

    @property
    def profile_run(self) -> ProfileRun:
        """Tells what the dummy step at start-up holds."""
        most = max(self.sequences, SEQUENCES) if self.beside_a_trainer else self.sequences
        return ProfileRun(
            self.version, self.v1, self.batched, self.sequences, most, self.sequences_given, self.longest, self.mm_items
        )


def settings(estimate: Estimate, options: Options, text: str | None, *, generation: str | None = None) -> Setting:
    """Fills in vLLM's defaults for the flags that are not given.

    Source: `EngineArgs._set_default_args` and `get_batch_defaults` (batched tokens and sequences by device),
    `CacheConfig.gpu_memory_utilization` 0.9, 0.92 from 0.20; 0.8 to 0.10 fall back to the first engine on devices
    before compute capability 8.0 and for encoder-decoders; 0.7 runs V1 where VLLM_USE_V1 says so.
    """
    version = _number(text, generation)
    v1 = generation == "v1" or (generation is None and runs_v1(estimate, version))
    longest = want(options.max_model_len, default_length(estimate), "--max-model-len")
    batched, sequences = vllm_batch.default_batch(estimate, options, version, v1=v1, longest=longest)
    default_fraction = Fraction(92, 100) if version >= HIGHER_UTILISATION_SINCE else Fraction(9, 10)
    fraction = default_fraction if options.fraction is None else options.fraction
    beside = options.max_num_seqs is None and not v1 and not options.server and _shares_its_card(estimate, fraction)
    if beside:
        sequences = _sequences_beside_a_trainer(estimate, fraction)
    batched = want(options.max_num_batched_tokens, batched, "--max-num-batched-tokens")
    return Setting(
        version=version,
        label=text or ".".join(map(str, version)),
        v1=v1,
        fraction=fraction,
        longest=longest,
        batched=batched,
        sequences=want(options.max_num_seqs, min(sequences, batched) if v1 else sequences, "--max-num-seqs"),
        block=want(options.block_size, default_block(estimate, v1, version, longest=longest), "--block-size"),
        hybrid=_hybrid_manager(estimate, options, version),
        in_flight=batched * batches_under_way(estimate, options, version),
        cache_mode=cache_mode(estimate, options, version),
        platform=platform_of(estimate),
        flashinfer_states=platform_of(estimate) == "gpu"
        and (architecture(estimate) or "Hopper").startswith(FLASHINFER_STATES),
        version_given=text is not None,
        sequences_given=options.max_num_seqs is not None,
        beside_a_trainer=beside,
        offloaded_bytes=options.cpu_offload_bytes,
        mm_items=options.mm_items,
    )


def _hybrid_manager(estimate: Estimate, options: Options, version: Version) -> bool:
    """Tells whether windows are kept as windows: not with the flag, on a platform without, or (to 0.19) with KV events."""
    if options.disable_hybrid or version < HYBRID_SINCE:
        return False
    if options.kv_events and version < HYBRID_WITH_EVENTS_SINCE:
        return False
    platform = platform_of(estimate)
    return platform == "gpu" or (platform == "cpu" and version >= HYBRID_ON_CPU_SINCE)


def batches_under_way(estimate: Estimate, options: Options, version: Version) -> int:
    """Counts the steps whose tokens a window may hold at once: two where scheduling overlaps with a running step.

    Source: vLLM 0.26 `VllmConfig.max_concurrent_batches`: the stages of a pipeline, and one more with asynchronous
    scheduling, which is on by default on GPUs, off on CPU, and off in a pipeline on the first model runner.
    Before 0.26 a window was charged one batch.
    """
    if version < IN_FLIGHT_SINCE:
        return 1
    stages = estimate.request.sharding.pp
    overlaps = options.async_scheduling
    if overlaps is None:
        overlaps = platform_of(estimate) != "cpu" and stages == 1
    return stages + 1 if overlaps else stages


def cache_mode(estimate: Estimate, options: Options, version: Version) -> str:
    """Tells how recurrent states are cached: `none`, `align` (a request holds two) or `all` (one a block).

    Prefix caching decides: hybrids have it by default from 0.28 (PR 50991), models without attention never. With it,
    `none` is replaced, too; without it the mode is `none` whatever is given (`MambaModelConfig`). The mode is `align`, or, for Mamba layers before 0.28, `all`; before 0.15 other layers had no prefix caching.
    """
    labels = {cache.label for cache in caches_of(estimate) if isinstance(cache, Recurrent)}
    attention = any(isinstance(cache, (Full, Latent)) for cache in caches_of(estimate))
    if not labels:
        return "none"
    prefixes = options.prefix_caching
    if prefixes is None:
        prefixes = attention and version >= HYBRIDS_CACHE_PREFIXES_SINCE
    if not prefixes:
        return "none"
    if options.mamba_cache_mode not in (None, "none"):
        return str(options.mamba_cache_mode)
    mamba = labels <= set(MAMBA_LABELS)
    if version < CACHE_MODES_SINCE:
        return "all" if mamba else "none"
    return "all" if mamba and version < ALIGN_ALONE_SINCE else "align"


def _shares_its_card(estimate: Estimate, fraction: Fraction) -> bool:
    """Tells of one GPU of which V0 may take less than its default share: something else runs on it."""
    capacity = estimate.capacity
    alone = estimate.request.sharding.devices == 1 and estimate.spec.weights_known
    return bool(capacity and alone and fraction < Fraction(9, 10) and platform_of(estimate) == "gpu")


def _sequences_beside_a_trainer(estimate: Estimate, fraction: Fraction) -> int:
    assert estimate.capacity is not None
    if estimate.spec.towers:
        return 1
    left = estimate.capacity.bytes * fraction - estimate.per_device.weight_bytes
    return next((count for limit, count in TRAINER_SEQUENCES if left <= limit * GIB), 368)


def _number(text: str | None, generation: str | None) -> Version:
    """Reads the version asked for; none is the newest read, a development build has the newest rules."""
    number = parse_version(text) if text else None
    if number is not None and generation == "v0" and number >= V1_ONLY_SINCE:
        raise BadRequest(f"vllm-v0=={text}: vLLM 0.11 and later have V1 alone; name vllm or an earlier version")
    if number is not None and generation == "v1" and number < V1_SINCE:
        raise BadRequest(f"vllm-v1=={text}: V1 came with vLLM 0.7; name vllm or a later version")
    if number is not None:
        return number
    return DEFAULT_V0 if generation == "v0" else LATEST if text else DEFAULT


def runs_v1(estimate: Estimate, version: Version) -> bool:
    """Tells which engine a version runs by itself."""
    if version >= V1_ONLY_SINCE:
        return True
    if version < V1_BY_DEFAULT_SINCE or estimate.spec.encoder:
        return False
    return architecture(estimate) not in OLD_ARCHITECTURES


def default_length(estimate: Estimate) -> int:
    """Gives the model's positions, or the request where that is longer (a flag lets a server go beyond them)."""
    return max(estimate.spec.max_positions or 0, estimate.request.seq_tokens)


def default_block(estimate: Estimate, v1: bool, version: Version, *, longest: int) -> int:
    """Returns the tokens of a block where no flag says: 16; MLA 64 where FlashMLA runs (a record of 576, Hopper or an
    unknown device), 128 with CUTLASS MLA (Blackwell before 0.12), 64 with a sparse indexer; 128 on CPU (MLA 16) and
    Gaudi; a sixteenth of the longest request, 16 to 256, on TPU.
    """
    platform = platform_of(estimate)
    if platform == "tpu":
        power = 1 << max(0, longest - 1).bit_length()  # PallasAttentionBackend.get_page_size
        return min(256, max(16, power // 16))
    if keeps_compressed(estimate):
        return 256  # DeepseekSparseSWABackend.get_preferred_block_size
    latents = [cache for cache in caches_of(estimate) if isinstance(cache, Latent)]
    if platform != "gpu":
        return 16 if latents and platform == "cpu" else 128
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
    """Names the device's architecture, "" where it is not known."""
    device = device_of(estimate)
    return "" if device is None else device.arch or ""


def platform_of(estimate: Estimate) -> str:
    """Names vLLM's platform of the device: gpu, cpu, tpu or gaudi."""
    capacity = estimate.capacity
    if capacity is None:
        return "gpu"
    name = capacity.name.lower()
    for platform in ("gaudi", "tpu"):
        if name.startswith(platform):
            return platform
    return "cpu" if capacity.kind == "host" else "gpu"
