"""vLLM's V1 engine: pages, groups and padding of the hybrid allocator, and what it prints of them.

Sources, by rule: `vllm/v1/kv_cache_interface.py` (page sizes, bytes a request may take),
`vllm/v1/core/kv_cache_utils.py` (groups, number of blocks, concurrency, the check at start-up),
`vllm/model_executor/models/config.py` (blocks enlarged to fit a recurrent state), of 0.11.2 unless a later
version is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import FLOAT_BYTES, float_dtype, kv_format
from planner.engines.base import Options, Pool, Version, layer_caches, stage_ranges
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.model.attention import Full, SlidingWindow
from planner.model.cache import Cache, Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent
from planner.model.recurrent import Recurrent, StatePart
from planner.model.sparse_attention import IndexKeys
from planner.units import ceil_div

HYBRID_SINCE: Version = (0, 9, 1)
CONCURRENCY_PRINTED_SINCE: Version = (0, 21)
STATE_ALIGNMENT = 16
MLA_ALIGNMENT = 64

# Recurrent layers whose state keeps fp32 whatever is asked (vLLM MambaStateDtypeCalculator.kda_state_dtype).
FP32_STATES = ("kimi delta",)
REFUSED_STATES = ("rg-lru", "rwkv")
# Types whose published configs say mamba_ssm_dtype / mamba_ssm_cache_dtype float32; catalogue entries may lack the key.
FP32_TYPES = ("qwen3_5", "nemotron_h", "qwen4_exp")


@dataclass(frozen=True)
class LayerKind:
    """What one layer asks of the pool; layers of equal kind share groups.

    form         full (also MLA, index keys, chunked), sliding, cross, state
    token_bytes  of one token on one rank; 0 for a state
    limit        window, or length of the encoder's output
    """

    form: str
    token_bytes: int
    state_bytes: int = 0
    limit: int = 0
    shape: Cache | None = None

    def blocks(self, length: int, block: int, batched: int, dcp: int, states: int) -> int:
        """Most blocks that one request of `length` tokens holds.

        full cdiv(length, block); sliding cdiv(min(window - 1 + batched, length), block) + 1; state 1 + drafts.
        """
        if self.form == "state":
            return states
        if self.form == "sliding":
            return ceil_div(min(self.limit - 1 + batched, length), block) + 1
        if self.form == "cross":
            return ceil_div(self.limit, block)
        return ceil_div(ceil_div(length, dcp), block)


@dataclass(frozen=True)
class Group:
    """Layers of one kind that share block tables: `layers[stage]` of them on each stage."""

    kind: LayerKind
    block: int
    layers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """How the layers share the pool.

    page   bytes of one block of one layer, the same for all; or of all layers together (`uniform`)
    """

    groups: tuple[Group, ...]
    page: int
    uniform: bool
    stage_pages: tuple[int, ...]
    needs: tuple[tuple[LayerKind, int, int], ...]
    batched: int
    dcp: int
    states: int

    @cached_property
    def block_bytes(self) -> int:
        """One block over all tensors of the fullest stage."""
        return max(self.stage_pages)

    @property
    def block(self) -> int:
        return min(group.block for group in self.groups)

    def request_blocks(self, length: int) -> int:
        found = [group.kind.blocks(length, group.block, self.batched, self.dcp, self.states) for group in self.groups]
        return max(found) if self.uniform else sum(found)

    def check_bytes(self, length: int) -> int:
        """What the check at start-up adds up: every layer of the whole model, whatever the stages."""
        return sum(
            count * page * kind.blocks(length, _block_of(kind, self.groups), self.batched, self.dcp, self.states)
            for kind, count, page in self.needs
        )


def _block_of(kind: LayerKind, groups: tuple[Group, ...]) -> int:
    return next((group.block for group in groups if group.kind == kind), groups[0].block)


def layout(
    estimate: Estimate, options: Options, version: Version, *, block: int, batched: int, longest: int, hybrid: bool
) -> Layout:
    """Groups and page size of a model.

    One kind, or kinds that all keep every token: one group, a block holds a page of each layer. Else all pages
    are made equal (a smaller one gets more tokens a block, a state page is padded) and each kind is cut into
    groups of the size of the smallest kind; the last group is padded.
    """
    kinds = layer_kinds(estimate, options, hybrid)
    names = list(dict.fromkeys(kind for _, kind in kinds))
    pp = estimate.request.sharding.pp
    ranges = stage_ranges(len(estimate.spec.layers), pp=pp)
    states = (2 if options.mamba_cache_mode == "align" else 1) + options.num_speculative_tokens
    dcp = estimate.request.sharding.dcp
    one_limit = len({(kind.form, kind.limit) for kind in names}) == 1
    if one_limit and names[0].form != "state":
        return _uniform(kinds, names, ranges, block, batched, dcp, states)
    blocks, page = equal_pages(names, block, longest, options.mamba_cache_mode == "all", _uses_latent(estimate))
    groups = _groups(kinds, names, blocks, ranges, version)
    stage_pages = tuple(page * max(group.layers[stage] for group in groups) for stage in range(pp))
    counts = {name: sum(1 for _, kind in kinds if kind == name) for name in names}
    needs = tuple((name, count, page) for name, count in counts.items())
    return Layout(groups, page, False, stage_pages, needs, batched, dcp, states)


def _uniform(
    kinds: list[tuple[int, LayerKind]],
    names: list[LayerKind],
    ranges: list[range],
    block: int,
    batched: int,
    dcp: int,
    states: int,
) -> Layout:
    """One group of all layers, their pages side by side (vLLM UniformTypeKVCacheSpecs, or one spec)."""
    pages = tuple(sum(kind.token_bytes * block for index, kind in kinds if index in stage) for stage in ranges)
    counts = {name: sum(1 for _, kind in kinds if kind == name) for name in names}
    layers = tuple(sum(1 for index, _ in kinds if index in stage) for stage in ranges)
    needs = tuple((name, count, name.token_bytes * block) for name, count in counts.items())
    return Layout((Group(names[0], block, layers),), max(pages), True, pages, needs, batched, dcp, states)


def equal_pages(
    names: list[LayerKind], block: int, longest: int, every_block: bool, latent: bool
) -> tuple[dict[LayerKind, int], int]:
    """(tokens a block of each kind, bytes of every page).

    With states the attention block grows to the smallest multiple of 16 (MLA: 64) whose page holds the state,
    which is then padded to it; without attention a state's block is the longest request. A smaller attention
    page takes a whole multiple of tokens where that fits, else padding.

    >>> gdn = LayerKind("state", 0, 2146304)                   # Qwen3.6-35B-A3B, attention 2048 B a token
    >>> full = LayerKind("full", 2048)
    >>> equal_pages([gdn, full], 16, 131072, False, False)[0][full]
    1056
    """
    state = max((kind.state_bytes for kind in names), default=0)
    attention = [kind for kind in names if kind.form != "state"]
    if not attention:
        return {kind: longest for kind in names}, state
    if state:
        token = next((kind.token_bytes for kind in attention if kind.form == "full"), attention[0].token_bytes)
        step = MLA_ALIGNMENT if latent else STATE_ALIGNMENT
        block = max(block, step * ceil_div(state, step * token))
    page = max(state, *(kind.token_bytes * block for kind in attention))
    blocks = {}
    for kind in names:
        own = kind.token_bytes * block
        blocks[kind] = block * (page // own) if own and page % own == 0 else block
        if kind.form == "state":
            blocks[kind] = block if every_block else longest
    return blocks, page


def _groups(
    kinds: list[tuple[int, LayerKind]],
    names: list[LayerKind],
    blocks: Mapping[LayerKind, int],
    ranges: list[range],
    version: Version,
) -> tuple[Group, ...]:
    """Each kind cut into groups of `group_size` layers, every n-th layer to the n-th group."""
    layers = {name: [index for index, kind in kinds if kind == name] for name in names}
    size = group_size([len(found) for found in layers.values()], version)
    groups = []
    for name, found in layers.items():
        count = ceil_div(len(found), size)
        for start in range(count):
            own = found[start::count]
            groups.append(
                Group(name, blocks[name], tuple(sum(1 for index in own if index in stage) for stage in ranges))
            )
    return tuple(groups)


def group_size(counts: list[int], version: Version) -> int:
    """Layers of a group: the smallest kind's, or the largest kind's where that is less than 1.5 times as many.

    The exception came after 0.11.0 with a factor of 1.25, which later sources have as 1.5 (gpt-oss with an
    EAGLE layer: 12 and 13).

    >>> group_size([25, 5], (0, 20)), group_size([12, 13], (0, 20)), group_size([12, 13], (0, 10))
    (5, 13, 12)
    """
    low, high = min(counts), max(counts)
    if version < (0, 11, 1):
        return low
    near = 4 * high < 5 * low if version < (0, 17) else 2 * high < 3 * low
    return high if near else low


def layer_kinds(estimate: Estimate, options: Options, hybrid: bool) -> list[tuple[int, LayerKind]]:
    """(layer, kind) of every layer that owns a cache; a drafter's layers come last and look like the first full one."""
    made: dict[Cache, tuple[LayerKind, ...]] = {}
    found: list[tuple[int, LayerKind]] = []
    for index, cache in layer_caches(estimate):
        if cache not in made:
            made[cache] = _kinds_of(cache, estimate, options, hybrid)
        found += [(index, kind) for kind in made[cache]]
    if not found:
        raise UnsupportedModel(f"{estimate.spec.name}: no layer keeps a cache, so vLLM makes no pool")
    drafts = options.draft_layers if options.draft_layers is not None else int(options.num_speculative_tokens > 0)
    if drafts:
        last = len(estimate.spec.layers) - 1
        drafted = next((kind for _, kind in found if kind.form == "full"), None)
        if drafted is None:
            raise BadRequest(
                f"{estimate.spec.name} has no full attention layer that a drafter could resemble; leave the drafter out"
            )
        found += [(last, drafted)] * drafts
    return found


def _kinds_of(cache: Cache, estimate: Estimate, options: Options, hybrid: bool) -> tuple[LayerKind, ...]:
    fmt = estimate.fmt
    if isinstance(cache, Shared) or cache.kind == "no cache":
        return ()
    if isinstance(cache, Latent):
        latent = replace(cache, indexer_dim=0)
        own = LayerKind("full", latent.token_bytes(fmt), shape=latent)
        return (own, _indexer(cache.indexer_dim)) if cache.indexer_dim else (own,)
    if isinstance(cache, IndexKeys):
        return (LayerKind("full", cache.token_bytes(fmt), shape=cache),)
    if isinstance(cache, Recurrent):
        return (LayerKind("state", 0, state_bytes(cache, estimate, options)),)
    if isinstance(cache, Full):
        token = cache.kv_heads * cache.vector_pair_bytes(fmt)
        if isinstance(cache, SlidingWindow) and hybrid:
            return (LayerKind("sliding", token, limit=cache.window, shape=cache),)
        if isinstance(cache, Cross):
            return (LayerKind("cross", token, limit=cache.tokens_kept(0, estimate.source_tokens), shape=cache),)
        plain = Full(cache.kv_heads, cache.k_dim, cache.v_dim)
        return (LayerKind("full", token, shape=plain),)
    raise UnsupportedModel(
        f"{estimate.spec.name}: how vLLM pages a layer of {cache.kind} is not modelled; ask without --engine for the logical figure"
    )


def _indexer(width: int) -> LayerKind:
    """A sparse indexer's keys: always fp8 with a 4-byte scale per 128 (vLLM DeepseekV32IndexerCache, 132 B for 128)."""
    stored = kv_format("fp8_ds_mla")
    return LayerKind("full", IndexKeys(width).token_bytes(CacheFormat(stored, stored)), shape=IndexKeys(width))


def _uses_latent(estimate: Estimate) -> bool:
    return any(isinstance(cache, Latent) for layer, _ in estimate.spec.groups for cache in layer.caches)


def state_bytes(cache: Recurrent, estimate: Estimate, options: Options) -> int:
    """A recurrent layer's page on one rank: conv (columns - 1 + drafts) in the model's dtype, the rest as `state_dtype`.

    Source: vLLM MambaStateShapeCalculator, MambaStateDtypeCalculator.
    """
    if cache.label in REFUSED_STATES:
        raise UnsupportedModel(f"{estimate.spec.name}: vLLM does not run {cache.label} layers")
    recurrent = FLOAT_BYTES[state_dtype(cache, estimate, options)]
    return sum(_part_bytes(part, estimate, options.num_speculative_tokens, recurrent) for part in cache.parts)


def _part_bytes(part: StatePart, estimate: Estimate, drafts: int, recurrent: int) -> int:
    if part.columns:
        return part.elements // part.columns * (part.columns - 1 + drafts) * estimate.fmt.model_dtype_bytes
    return part.elements * recurrent


def state_dtype(cache: Recurrent, estimate: Estimate, options: Options) -> str:
    """The flag, else what the config says, else the model's dtype (fp32 for types whose configs all say so)."""
    if cache.label in FP32_STATES:
        return "fp32"
    if options.mamba_ssm_dtype:
        return options.mamba_ssm_dtype
    spec = estimate.spec
    for config in (spec.config, spec.config.get("text_config")):
        if not isinstance(config, Mapping):
            continue
        for key in ("mamba_ssm_dtype", "mamba_ssm_cache_dtype"):
            said = config.get(key)
            if isinstance(said, str) and float_dtype(said):
                return float_dtype(said) or "fp32"
    if spec.model_type.startswith(FP32_TYPES):
        return "fp32"
    return {4: "fp32", 2: "bf16"}[estimate.fmt.model_dtype_bytes]


def pool(found: Layout, size: int, version: Version, longest: int) -> Pool:
    """`size` bytes of the poorest worker cut into blocks, and the two lines printed of them.

    num_blocks = floor(size / page / layers of a group). Printed to 0.20: num_blocks // groups · tokens of the
    smallest block · dcp; from 0.21: int(concurrency · max_model_len). Concurrency = num_blocks / blocks that a
    request of max_model_len may hold (before 0.9.1: tokens / max_model_len).
    """
    size = max(0, size)
    blocks = size // found.block_bytes
    tokens = blocks // len(found.groups) * found.block * found.dcp
    at_once = Fraction(blocks, found.request_blocks(longest)) if version >= HYBRID_SINCE else Fraction(tokens, longest)
    printed = int(at_once * longest) if version >= CONCURRENCY_PRINTED_SINCE else tokens
    extra: dict[str, Any] = {
        "groups": len(found.groups),
        "layers_per_group": max(max(group.layers) for group in found.groups),
        "page_bytes": found.page,
        "block_bytes": found.block_bytes,
        "needed_bytes": found.check_bytes(longest),
        "estimated_max_model_len": largest(lambda n: found.check_bytes(n) <= size, longest),
    }
    return Pool(size, tokens, blocks, found.block, printed, at_once, extra)
