"""What every engine is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Any

from planner.engines.placement import Placed, Placement
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.sharding import Sharding, stage_sizes
from planner.model.cache import Cache
from planner.model.sparse_attention import Compressed
from planner.model.spec import ModelSpec
from planner.shown import NO, Shown
from planner.units import GIB

Version = tuple[int, ...]
NO_ROOM = "refuses to start: weights and what else is held leave nothing for the cache"
LATEST: Version = (9999,)
"""What a development build that names no release counts as."""


@dataclass(frozen=True)
class Options:
    """Engine flags, under the engines' own names; None or False is the engine's own default.

    pool_bytes   the cache budget of the poorest device, in place of one derived from the device
    num_gpu_blocks_override  blocks of vLLM's pool, whatever fits
    fraction     --gpu-memory-utilization, --mem-fraction-static, --kv-cache-free-gpu-memory-fraction or
                 --cache-max-entry-count: each engine reads its own
    cards        bytes of each card where they are unlike, in order
    compute_dtype  --dtype of a server: the float type that it runs in, where a command says so
    host_bytes   host memory for what does not lie on the cards; given, the best split is taken
    mm_items     images and videos of one prompt (--limit-mm-per-prompt)
    host_expert_layers  layers whose experts the processor computes (TabbyAPI's cpu_moe_offload_layers)
    gpu_experts  experts of a layer that stay on the device, the rest computes on the host (SGLang with KTransformers)
    state_slots  recurrent states of SGLang's pool, whatever fits (--max-mamba-cache-size)
    fp32_states  the processor has AMX or AVX-512 BF16, for which vLLM keeps recurrent states in fp32
    offline, server  vLLM was started by LLM(...) in Python, or as a server; neither where nobody says
    """

    pool_bytes: int | None = None
    num_gpu_blocks_override: int | None = None
    fraction: Fraction | None = None
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    block_size: int | None = None
    swap_space: int | None = None
    cpu_offload_bytes: int = 0
    disable_hybrid: bool = False
    mamba_ssm_dtype: str | None = None
    compute_dtype: str | None = None
    mamba_cache_mode: str | None = None
    prefix_caching: bool | None = None
    async_scheduling: bool | None = None
    kv_events: bool = False
    num_speculative_tokens: int = 0
    draft_layers: int | None = None
    draft_k_dtype: str | None = None
    draft_v_dtype: str | None = None
    max_running_requests: int | None = None
    chunked_prefill_size: int | None = None
    cuda_graph_max_bs: int | None = None
    swa_ratio: Fraction | None = None
    mamba_ratio: Fraction | None = None
    mamba_strategy: str | None = None
    state_slots: int | None = None
    disable_radix_cache: bool = False
    enable_dp_attention: bool = False
    ctx_size: int | None = None
    parallel: int | None = None
    batch_size: int | None = None
    ubatch_size: int | None = None
    flash_attn: bool | None = None
    swa_full: bool = False
    useswa: bool = False
    kv_unified: bool = False
    mla_mode: int | None = None
    placement: Placement | None = None
    cards: tuple[int, ...] = ()
    host_bytes: int | None = None
    cache_implementation: str | None = None
    mm_items: tuple[int, int] | None = None
    gpu_experts: int | None = None
    fp32_states: bool = True
    offline: bool = False
    server: bool = False
    chunked_prefill: bool | None = None
    performance_mode: str | None = None
    host_expert_layers: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why a server does not start, and which flags mend that.

    found    the flags, or how they are found: a search asks a hundred engines whether they start, and none for its flags
    sure     the whole range says so
    starts   it does start, and takes no such request
    """

    text: str
    found: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    sure: bool = True
    starts: bool = False

    @cached_property
    def mends(self) -> tuple[str, ...]:
        """The flags that make it start, the best first."""
        return self.found if isinstance(self.found, tuple) else self.found()


def heads_refusal(estimate: Estimate, flag: str) -> Refusal | None:
    """Refuses a tensor parallel size that does not divide the attention heads, as vLLM and SGLang do.

    Source: vLLM `ModelConfig.verify_with_parallel_config`; SGLang `assert num_heads % attn_tp_size == 0` in its models.
    """
    tp, config = estimate.request.sharding.tp, estimate.spec.config
    text = config.get("text_config")
    heads = next(
        (part[key] for part in (config, text) if isinstance(part, Mapping) for key in _HEADS if key in part), None
    )
    if tp < 2 or not isinstance(heads, int) or heads < 1 or heads % tp == 0:
        return None
    below = max(size for size in range(1, tp) if heads % size == 0)
    above = next((size for size in range(tp + 1, heads + 1) if heads % size == 0), below)
    return Refusal(
        f"total number of attention heads ({heads}) must be divisible by tensor parallel size ({tp})",
        (f"{flag} {below}", f"{flag} {above}"),
    )


_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")


def mended(options: Options, refusal: Refusal | None) -> Options | None:
    """Changes max_num_seqs or max_model_len as the first mend says; None where it names no such number.

    >>> mended(Options(), Refusal("too many", ("--max-num-seqs 791",))).max_num_seqs
    791
    """
    words = refusal.mends[0].split() if refusal and refusal.mends else []
    fields = {"--max-num-seqs": "max_num_seqs", "--max-model-len": "max_model_len", "--context-length": "max_model_len"}
    if len(words) != 2 or words[0] not in fields:
        return None
    return replace(options, **{fields[words[0]]: int(words[1])})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Pool:
    """A cache budget cut into an engine's blocks.

    tokens    what the pool holds when every layer keeps everything, the engine's own way of counting
    printed   the figure of the start-up line, where the engine prints one
    at_once   most requests of the longest length, as the engine counts them
    """

    bytes: int
    tokens: int
    blocks: int | None = None
    block_tokens: int | None = None
    printed: int | None = None
    at_once: Fraction = Fraction(0)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranged:
    """A pool with the least and the most that the estimates behind it allow."""

    pool: Pool
    low: Pool
    high: Pool


@dataclass(frozen=True, eq=False, repr=False)
class EngineAnswer(Shown):
    """What one engine does with the question: pool, printed lines, one reason for each difference.

    low_refusal   of a server that starts by the estimate: why it would not at the low end
    placed        what lies on which card and on the host (llama.cpp's family)
    """

    name: str
    version: str
    request_tokens: int
    request_bytes: int
    logical_bytes: int
    ranged: Ranged | None
    block_tokens: int | None = None
    activation: Estimated | None = None
    overhead: Estimated | None = None
    compute_buffer: Estimated | None = None
    fits: bool | None = None
    most_requests: int | None = None
    lines: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    refusal: Refusal | None = None
    low_refusal: str = ""
    placed: Placed | None = None

    @property
    def exit_code(self) -> int:
        """0, or 3 where the engine does not start or does not hold the request."""
        return NO if self.fits is False else 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay; null where the engine has no such figure or it is not known."""
        ranged = self.ranged
        pools = (None, None, None) if ranged is None else (ranged.pool, ranged.low, ranged.high)
        answer: dict[str, Any] = {"name": self.name, "version": self.version}
        for key, read in _POOL_KEYS.items():
            for suffix, pool in zip(("", "_low", "_high"), pools, strict=True):
                answer[key + suffix] = None if pool is None else read(pool)
        answer["block_tokens"] = self.block_tokens
        answer["request_tokens"] = self.request_tokens
        answer["request_bytes"] = self.request_bytes
        answer["logical_request_bytes"] = self.logical_bytes
        answer["most_requests"] = self.most_requests
        for key in ("compute_buffer", "activation", "overhead"):
            value: Estimated | None = getattr(self, key)
            answer[f"{key}_bytes"] = None if value is None else value.bytes
            answer[f"{key}_bytes_low"] = None if value is None else value.low
            answer[f"{key}_bytes_high"] = None if value is None else value.high
        answer["fits"] = self.fits
        answer["refusal"] = self.refusal.text if self.refusal else None
        answer["refusal_sure"] = self.refusal.sure if self.refusal else None
        answer["mends"] = list(self.refusal.mends) if self.refusal else []
        answer |= dict(self.extra) | ({} if ranged is None else dict(ranged.pool.extra))
        answer |= {} if self.placed is None else self.placed.to_dict()
        answer["prints"] = list(self.lines)
        answer["differences"] = list(self.reasons)
        answer["assumptions"] = list(self.assumptions)
        return answer


_POOL_KEYS: dict[str, Callable[[Pool], Any]] = {
    "pool_bytes": lambda pool: pool.bytes,
    "pool_tokens": lambda pool: pool.tokens,
    "pool_blocks": lambda pool: pool.blocks,
    "printed_tokens": lambda pool: pool.printed,
    "max_concurrency": lambda pool: round(float(pool.at_once), 2),
}


def parse_version(text: str) -> Version | None:
    """Reads the leading numbers of a version or build; None for a development build that names no release.

    >>> parse_version("0.8.5.post1"), parse_version("0.19.2rc1.dev134"), parse_version("b5331"), parse_version("0.1.dev18496")
    ((0, 8, 5), (0, 19, 2), (5331,), None)
    """
    numbers: list[int] = []
    for piece in text.strip().lower().lstrip("vb").split("."):
        digits = "".join(_leading_digits(piece))
        if not digits or len(digits) > 9:
            break
        numbers.append(int(digits))
        if digits != piece:
            break
    if not numbers or (numbers[:2] == [0, 1] and "dev" in text):
        return None
    return tuple(numbers)


def _leading_digits(piece: str) -> list[str]:
    digits = []
    for ch in piece:
        if ch not in "0123456789":
            break
        digits.append(ch)
    return digits


def layer_caches(estimate: Estimate) -> tuple[tuple[int, Cache], ...]:
    """Lists (index of the layer, its cache as the fullest tensor-parallel rank holds it), in order."""
    return caches_of_layers(estimate.spec, estimate.request.sharding)


def caches_of(estimate: Estimate) -> list[Cache]:
    """Lists the caches of each kind of layer once."""
    return [cache for layer, _ in estimate.spec.groups for cache in layer.caches]


@lru_cache(maxsize=64)  # a search asks for the same ones at every length
def caches_of_layers(spec: ModelSpec, sharding: Sharding) -> tuple[tuple[int, Cache], ...]:
    """Lists (index of the layer, its cache on a rank), in order: the same tuple for the same model and layout."""
    shares: dict[Cache, Cache] = {}
    found = []
    for index, layer in enumerate(spec.layers):
        for cache in layer.caches:
            if cache not in shares:
                shares[cache] = sharding.on_rank(cache)
            found.append((index, shares[cache]))
    return tuple(found)


def keeps_compressed(estimate: Estimate) -> bool:
    """Tells whether layers keep DeepSeek-V4's compressed past, which vLLM, SGLang and llama.cpp lay out by rules of its own."""
    return any(isinstance(cache, Compressed) for cache in caches_of(estimate))


def stage_ranges(layers: int, sizes: list[int] | None = None, pp: int = 1) -> list[range]:
    """Splits the layers into pipeline stages, as ranges of their numbers.

    >>> stage_ranges(5, pp=2)
    [range(0, 3), range(3, 5)]
    """
    start, found = 0, []
    for size in sizes or stage_sizes(layers, pp):
        found.append(range(start, start + size))
        start += size
    return found


def gib_two(size: int) -> str:
    """Writes a size as engines print it: two decimals of GiB, no thousands mark."""
    return f"{size / GIB:.2f}"


def want(value: int | None, default: int, name: str) -> int:
    """Returns a flag's value or the default; refuses what no engine takes."""
    if value is None:
        return default
    if value < 1:
        raise BadRequest(f"{name} {value} is not a number from 1; leave it out for the engine's own default")
    return value
