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
from math import lcm
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import FLOAT_BYTES, float_dtype, kv_format
from planner.engines.base import Options, Pool, Version, caches_of, layer_caches, stage_ranges
from planner.engines.drafting import draft_tokens, drafted_caches
from planner.engines.vllm_setting import FP32_STATES_ON_CPU_SINCE, HYBRID_SINCE, Setting
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.model.cache import Cache, Full, Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent
from planner.model.recurrent import (
    CONVOLVED,
    CONVOLVED_IN_TURNS,
    FOUR_CONVOLUTIONS,
    FOUR_CONVOLUTIONS_2,
    Recurrent,
    StatePart,
)
from planner.model.sparse_attention import IndexKeys
from planner.model.windows import SlidingWindow
from planner.units import ceil_div

CONCURRENCY_PRINTED_SINCE: Version = (0, 20, 1)
STATE_ALIGNMENT = 16
MLA_ALIGNMENT = 64
# TRT-LLM's MLA kernels want 128 tokens of whole kernel blocks (`Platform._align_hybrid_block_size` of 0.27).
MLA_ALIGNMENT_128_SINCE: Version = (0, 27)
# The start-up check: every layer of the whole model, then the groups (of the first group alone to 0.18), of each
# stage by itself from 0.17; from 0.29 without the block that the pool never hands out.
GROUPS_CHECKED_SINCE: Version = (0, 14)
STAGES_CHECKED_SINCE: Version = (0, 17)
ALL_GROUPS_CHECKED_SINCE: Version = (0, 19)
NULL_BLOCK_SINCE: Version = (0, 29)
# The check counts the blocks of --num-gpu-blocks-override; before, the memory that they take the place of.
GIVEN_BLOCKS_CHECKED_SINCE: Version = (0, 20, 1)
# A prefill writes a checkpoint of its state into a block of its own: Mamba-2 (`MambaMixer2.get_kv_cache_spec` of
# 0.32), gated DeltaNet with FlashInfer's kernel (`qwen_gdn_linear_attn.py` of 0.33).
MAMBA2_CHECKPOINT_SINCE: Version = (0, 32)
GDN_CHECKPOINT_SINCE: Version = (0, 33)
HELD_FOREVER = 0

# Recurrent layers whose state keeps fp32 whatever is asked (vLLM MambaStateDtypeCalculator.kda_state_dtype).
FP32_STATES = ("kimi delta",)
REFUSED_STATES = ("rg-lru", "rwkv", CONVOLVED, CONVOLVED_IN_TURNS, FOUR_CONVOLUTIONS_2)
# Types whose published configs say mamba_ssm_dtype float32; catalogue entries may lack the key.
FP32_TYPES = ("qwen3_5", "qwen4_exp")
NEMOTRON_READ_SINCE: Version = (0, 13)
NEMOTRON_FP32_SINCE: Version = (0, 20)


@dataclass(frozen=True)
class LayerKind:
    """What one layer asks of the pool; layers of equal kind share groups.

    form         full (also MLA, index keys, chunked), sliding, cross, state
    token_bytes  of one token on one rank; 0 for a state
    limit        window, or length of the encoder's output
    held         blocks of a state that one request holds; 0 where every block of the text keeps one (`all`)
    tokens       of a block where the layer sets them itself, whatever --block-size says; 0 elsewhere
    """

    form: str
    token_bytes: int
    state_bytes: int = 0
    limit: int = 0
    shape: Cache | None = None
    held: int = 0
    tokens: int = 0

    def blocks(self, length: int, block: int, in_flight: int, *, dcp: int) -> int:
        """Counts the most blocks that one request of `length` tokens holds.

        full cdiv(length, block); sliding cdiv(min(window - 1 + in flight, length), block) + 1; state as `held` says.
        """
        if self.form == "state" and self.held:
            return self.held
        if self.form == "sliding":
            return ceil_div(min(self.limit - 1 + in_flight, length), block) + 1
        if self.form == "cross":
            return ceil_div(self.limit, block)
        return ceil_div(ceil_div(length, dcp), block)


@dataclass(frozen=True)
class Group:
    """Layers of one kind that share block tables: `layers[stage]` of them on each stage."""

    kind: LayerKind
    block: int
    layers: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """How the layers share the pool.

    page     bytes of one block of one layer, the same for all; or of all layers together (`uniform`)
    needs    (kind, layers, page) of the whole model, which the check at start-up added up to 0.13
    version  which of the checks at start-up is made
    uneven   groups take unlike numbers of tokens for a block: the pool's tokens are those that are printed
    """

    groups: tuple[Group, ...]
    page: int
    uniform: bool
    stage_pages: tuple[int, ...]
    needs: tuple[tuple[LayerKind, int, int], ...]
    in_flight: int
    dcp: int
    version: Version
    uneven: bool = False

    @cached_property
    def block_bytes(self) -> int:
        """One block over all tensors of the fullest stage."""
        return max(self.stage_pages)

    @property
    def block(self) -> int:
        return min(group.block for group in self.groups)

    @property
    def usable_bytes_off(self) -> int:
        """What the check at start-up takes off the pool: from 0.29 the block that is never handed out."""
        return self.block_bytes if self.version >= NULL_BLOCK_SINCE else 0

    def group_blocks(self, group: Group, length: int) -> int:
        """Counts the blocks of one group that a request of `length` tokens may hold."""
        return group.kind.blocks(length, group.block, self.in_flight, dcp=self.dcp)

    def request_blocks(self, length: int) -> int:
        """Counts the blocks of the pool that a request of `length` tokens may hold."""
        found = [self.group_blocks(group, length) for group in self.groups]
        return max(found) if self.uniform else sum(found)

    def check_bytes(self, length: int) -> int:
        """Bytes that the check at start-up wants for one request of `length` tokens.

        To 0.13 every layer of the whole model is added up; to 0.18 the blocks of the first group times the bytes of
        a block (`_max_memory_usage_bytes_from_groups`), from 0.17 of each stage by itself; then of all groups.
        """
        if self.version < GROUPS_CHECKED_SINCE:
            return sum(
                count * page * kind.blocks(length, _block_of(kind, self.groups), self.in_flight, dcp=self.dcp)
                for kind, count, page in self.needs
            )
        size = self.block_bytes if self.version >= STAGES_CHECKED_SINCE else self._whole_block_bytes()
        if self.version < ALL_GROUPS_CHECKED_SINCE and not self.uniform:
            return size * self.group_blocks(self.groups[0], length)
        return size * self.request_blocks(length)

    def _whole_block_bytes(self) -> int:
        """One block over the layers of all stages."""
        return sum(self.stage_pages) if self.uniform else self.page * max(sum(group.layers) for group in self.groups)


def _block_of(kind: LayerKind, groups: tuple[Group, ...]) -> int:
    return next((group.block for group in groups if group.kind == kind), groups[0].block)


def layout(estimate: Estimate, options: Options, setting: Setting) -> Layout:
    """Works out the groups of layers and the page size of a model.

    One kind, or kinds that all keep every token: one group, a block holds a page of each layer. Else all pages
    are made equal (a smaller one gets more tokens a block, a state page is padded) and each kind is cut into
    groups of the size of the smallest kind; the last group is padded.
    """
    kinds = layer_kinds(estimate, options, setting)
    names = list(dict.fromkeys(kind for _, kind in kinds))
    ranges = stage_ranges(len(estimate.spec.layers), pp=estimate.request.sharding.pp)
    counts = {name: sum(1 for _, kind in kinds if kind == name) for name in names}
    one_limit = len({(kind.form, kind.limit) for kind in names}) == 1
    uniform = one_limit and names[0].form != "state"
    if uniform:  # one group of all layers, their pages side by side (vLLM UniformTypeKVCacheSpecs, or one spec)
        block = setting.block
        pages = tuple(sum(kind.token_bytes * block for index, kind in kinds if index in stage) for stage in ranges)
        layers = tuple(sum(1 for index, _ in kinds if index in stage) for stage in ranges)
        groups: tuple[Group, ...] = (Group(names[0], block, layers),)
        page = max(pages)
        needs = tuple((name, count, name.token_bytes * block) for name, count in counts.items())
    else:
        blocks, page = equal_pages(names, _steps(estimate, setting))
        groups = _groups(kinds, blocks, ranges, version=setting.version)
        pages = tuple(page * max(group.layers[stage] for group in groups) for stage in range(len(ranges)))
        needs = tuple((name, count, page) for name, count in counts.items())
    return Layout(
        groups=groups, page=page, uniform=uniform, stage_pages=pages, needs=needs, in_flight=setting.in_flight,
        dcp=estimate.request.sharding.dcp, version=setting.version,
    )  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """Which sizes a block may have: `least` tokens, multiples of `alignment` where a state wants more, `longest`
    tokens where every state is held for the whole request, `every_block` where each block keeps one."""

    least: int
    alignment: int
    longest: int
    every_block: bool = False


def _steps(estimate: Estimate, setting: Setting) -> Steps:
    """The alignment of a hybrid's blocks: 16 or the block given, MLA 64 and from 0.27 128; with the mode `all` (to
    0.27) also whole chunks of the Mamba kernels."""
    alignment = max(STATE_ALIGNMENT, setting.block)
    if _uses_latent(estimate):
        alignment = max(alignment, 128 if setting.version >= MLA_ALIGNMENT_128_SINCE else MLA_ALIGNMENT)
    every_block = setting.cache_mode in ("all", "align")
    if setting.cache_mode == "all":
        alignment = lcm(alignment, _mamba_chunk(estimate))
    return Steps(setting.block, alignment, setting.longest, every_block)


def _mamba_chunk(estimate: Estimate) -> int:
    """Tokens of a chunk of the Mamba kernels: `mamba_chunk_size`, `chunk_size`, or 2,048 for Mamba-1."""
    for key in ("mamba_chunk_size", "chunk_size"):
        value = estimate.spec.config.get(key)
        if isinstance(value, int) and 0 < value <= 1 << 20:
            return value
    return 2048


def equal_pages(names: list[LayerKind], steps: Steps) -> tuple[dict[LayerKind, int], int]:
    """Returns (tokens a block of each kind, bytes of every page), so that the pages of all kinds are equal.

    With states the attention block grows to the smallest multiple of the alignment whose page holds the state,
    which is then padded to it; without attention a state's block is the longest request. A smaller attention
    page takes a whole multiple of tokens where that fits, else padding.

    >>> gdn = LayerKind("state", 0, 2146304)                   # Qwen3.6-35B-A3B, attention 2048 B a token
    >>> full = LayerKind("full", 2048)
    >>> equal_pages([gdn, full], Steps(16, 16, 131072))[0][full]
    1056
    """
    state = max((kind.state_bytes for kind in names), default=0)
    attention = [kind for kind in names if kind.form != "state"]
    if not attention:
        return {kind: steps.longest for kind in names}, state
    block = steps.least
    if state:
        token = next((kind.token_bytes for kind in attention if kind.form == "full"), attention[0].token_bytes)
        block = max(block, steps.alignment * ceil_div(state, steps.alignment * token))
    page = max(state, *(kind.token_bytes * (kind.tokens or block) for kind in attention))
    blocks = {}
    for kind in names:
        least = kind.tokens or block
        own = kind.token_bytes * least
        blocks[kind] = least * (page // own) if own and page % own == 0 else least
        if kind.form == "state":
            blocks[kind] = block if steps.every_block else steps.longest
    return blocks, page


def _groups(
    kinds: list[tuple[int, LayerKind]], blocks: Mapping[LayerKind, int], ranges: list[range], *, version: Version
) -> tuple[Group, ...]:
    """Each kind cut into groups of `group_size` layers, every n-th layer to the n-th group."""
    layers = {name: [index for index, kind in kinds if kind == name] for name in blocks}
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
    """Counts the layers of a group: the smallest kind's, or the largest kind's where that is less than 1.5 times as
    many.

    The exception came after 0.11.0 with a factor of 1.25, which is 1.5 from 0.18 (gpt-oss with an EAGLE layer: 12
    and 13).

    >>> group_size([25, 5], (0, 20)), group_size([12, 13], (0, 20)), group_size([12, 13], (0, 10))
    (5, 13, 12)
    """
    low, high = min(counts), max(counts)
    if version < (0, 11, 1):
        return low
    near = 4 * high < 5 * low if version < (0, 18) else 2 * high < 3 * low
    return high if near else low


def layer_kinds(estimate: Estimate, options: Options, setting: Setting) -> list[tuple[int, LayerKind]]:
    """Lists (layer, kind) of every layer that owns a cache. A drafter's layers come last: its own where --drafter names
    it, else like the model's first full one.
    """
    made: dict[int, tuple[LayerKind, ...]] = {}  # by identity: layers that are alike share one cache
    found: list[tuple[int, LayerKind]] = []
    for index, cache in layer_caches(estimate):
        if id(cache) not in made:
            made[id(cache)] = _kinds_of(cache, estimate, options, setting=setting)
        found += [(index, kind) for kind in made[id(cache)]]
    if not found:
        raise UnsupportedModel(f"{estimate.spec.name}: no layer keeps a cache, so vLLM makes no pool")
    last = len(estimate.spec.layers) - 1
    if options.draft_layers is None and (own := drafted_caches(estimate)):
        return found + [(last, kind) for cache in own for kind in _kinds_of(cache, estimate, options, setting=setting)]
    drafts = options.draft_layers if options.draft_layers is not None else int(options.num_speculative_tokens > 0)
    if drafts:
        drafted = next((kind for _, kind in found if kind.form == "full"), None)
        if drafted is None:
            raise BadRequest(
                f"{estimate.spec.name} has no full attention layer that a drafter could resemble; leave the drafter out"
            )
        found += [(last, drafted)] * drafts
    return found


def _kinds_of(cache: Cache, estimate: Estimate, options: Options, *, setting: Setting) -> tuple[LayerKind, ...]:
    fmt = estimate.fmt
    if isinstance(cache, Shared) or cache.kind == "no cache":
        return ()
    if isinstance(cache, Latent):
        latent = replace(cache, indexer_dim=0)
        own = LayerKind("full", latent.token_bytes(fmt), shape=latent)
        return (own, _indexer(cache.indexer_dim)) if cache.indexer_dim else (own,)
    if isinstance(cache, IndexKeys):
        return (LayerKind("full", cache.token_bytes(fmt), shape=cache),)
    if isinstance(cache, Recurrent) and cache.label == FOUR_CONVOLUTIONS:
        return (_convolved_kind(cache, estimate),)
    if isinstance(cache, Recurrent):
        size = state_bytes(cache, estimate, options, setting=setting)
        return (LayerKind("state", 0, size, held=states_held(cache, draft_tokens(estimate, options), setting)),)
    if isinstance(cache, Full):
        token = cache.kv_heads * cache.vector_pair_bytes(fmt)
        if isinstance(cache, SlidingWindow) and setting.hybrid:
            return (LayerKind("sliding", token, limit=cache.window, shape=cache),)
        if isinstance(cache, Cross):
            return (LayerKind("cross", token, limit=cache.tokens_kept(0, estimate.source_tokens), shape=cache),)
        plain = Full(cache.kv_heads, cache.k_dim, cache.v_dim)
        return (LayerKind("full", token, shape=plain),)
    raise UnsupportedModel(
        f"{estimate.spec.name}: how vLLM pages a layer of {cache.kind} is not modelled; ask without --engine for the "
        "logical figure"
    )


def _convolved_kind(cache: Recurrent, estimate: Estimate) -> LayerKind:
    """Inkling's four convolutions of a layer: a window of `kernel` tokens, whose block has as many, in bf16.

    A token has, for each KV head of the rank, 2 · head_dim + 2 · hidden / KV heads numbers, up to the next power of two.
    Source: vLLM 0.33.0 models/inkling/nvidia/sconv_swa_attn.py, InklingConvState.
    """
    keys, outputs = cache.parts
    tp, kernel = estimate.request.sharding.tp, keys.columns
    per_head, hidden = keys.elements // (2 * kernel * keys.split), outputs.elements // (2 * kernel)
    width = 2 * per_head + 2 * (hidden // (keys.split * tp))
    return LayerKind("sliding", keys.split * (1 << (width - 1).bit_length()) * 2, limit=kernel, tokens=kernel)


def _indexer(width: int) -> LayerKind:
    """A sparse indexer's keys: always fp8 with a 4-byte scale per 128 (vLLM DeepseekV32IndexerCache, 132 B for 128)."""
    stored = kv_format("fp8_ds_mla")
    return LayerKind("full", IndexKeys(width).token_bytes(CacheFormat(stored, stored)), shape=IndexKeys(width))


def _uses_latent(estimate: Estimate) -> bool:
    return any(isinstance(cache, Latent) for cache in caches_of(estimate))


def states_held(cache: Recurrent, drafts: int, setting: Setting) -> int:
    """Counts the states that a request holds of one layer; 0 where each block keeps one (mode `all`).

    none 1 + drafts; align 2 + drafts, and one more for the checkpoint that a prefill writes: Mamba-2 from 0.32,
    gated DeltaNet from 0.33 where FlashInfer's kernel runs (Hopper, Blackwell; not on CPU or AMD).
    Source: `MambaSpec.max_memory_usage_bytes`.
    """
    if setting.cache_mode == "all":
        return HELD_FOREVER
    if setting.cache_mode != "align":
        return 1 + drafts
    checkpoint = (cache.label == "mamba2" and setting.version >= MAMBA2_CHECKPOINT_SINCE) or (
        cache.label == "gated delta net" and setting.version >= GDN_CHECKPOINT_SINCE and setting.flashinfer_states
    )
    return 2 + drafts + int(checkpoint)


def state_bytes(cache: Recurrent, estimate: Estimate, options: Options, *, setting: Setting) -> int:
    """Counts a recurrent layer's page on one rank: conv (columns - 1 + drafts) in the model's dtype, the rest as
    `state_dtype`.

    Source: vLLM MambaStateShapeCalculator, MambaStateDtypeCalculator.
    """
    if cache.label in REFUSED_STATES:
        raise UnsupportedModel(f"{estimate.spec.name}: vLLM does not run {cache.label} layers")
    recurrent = FLOAT_BYTES[state_dtype(cache, estimate, options, setting=setting)]
    return sum(
        _part_bytes(part, estimate, draft_tokens(estimate, options), recurrent=recurrent) for part in cache.parts
    )


def _part_bytes(part: StatePart, estimate: Estimate, drafts: int, *, recurrent: int) -> int:
    if part.columns:
        return part.elements // part.columns * (part.columns - 1 + drafts) * estimate.fmt.model_dtype_bytes
    return part.elements * recurrent


def state_dtype(cache: Recurrent, estimate: Estimate, options: Options, *, setting: Setting) -> str:
    """Returns the dtype of the state: the flag's, else what the config says, else the model's (fp32 for types whose
    configs all say so).

    CPUs with AMX (0.26) or AVX-512 BF16 (0.31) keep fp32 (`CpuPlatform.check_and_update_config`). Nemotron-H's config is read
    from 0.13 on (PR 29978), and where it says nothing the state is 16-bit to 0.19 and fp32 from 0.20 (PR 39032).
    """
    own = {4: "fp32", 2: "bf16"}[estimate.fmt.model_dtype_bytes]
    spec = estimate.spec
    if cache.label in FP32_STATES:
        return "fp32"
    if cache.label == "short conv":
        return own
    if setting.platform == "cpu" and options.fp32_states and setting.version >= FP32_STATES_ON_CPU_SINCE:
        return "fp32"
    if options.mamba_ssm_dtype:
        return options.mamba_ssm_dtype
    nemotron = spec.model_type.startswith("nemotron_h")
    if nemotron and setting.version < NEMOTRON_READ_SINCE:
        return own
    said = _said_dtype(spec.config)
    if said or spec.model_type.startswith(FP32_TYPES):
        return said or "fp32"
    if nemotron:  # Nemotron 3, the one with experts, says float32; catalogue entries may lack the key
        return "fp32" if setting.version >= NEMOTRON_FP32_SINCE or spec.config.get("n_routed_experts") else own
    return own


def _said_dtype(config: Mapping[str, Any]) -> str | None:
    """What a config says of the recurrent state's dtype."""
    for found in (config, config.get("text_config")):
        if not isinstance(found, Mapping):
            continue
        for key in ("mamba_ssm_dtype", "mamba_ssm_cache_dtype"):
            said = found.get(key)
            if isinstance(said, str) and float_dtype(said):
                return float_dtype(said)
    return None


def pool(found: Layout, size: int, version: Version, *, longest: int, given: int | None = None) -> Pool:
    """Cuts `size` bytes of the poorest worker into blocks, and writes the two lines printed of them.

    num_blocks = floor(size / page / layers of a group). Printed to 0.20.0: num_blocks // groups · tokens of the
    smallest block · dcp; from 0.20.1: int(concurrency · max_model_len). Concurrency = num_blocks / blocks that a
    request of max_model_len may hold (before 0.9.1: tokens / max_model_len). `given` blocks take the place of those
    that fit (`may_override_num_blocks`), and from 0.20.1 their bytes that of the memory in the check at start-up.
    """
    size = max(0, size)
    blocks = size // found.block_bytes if given is None else given
    held = size if given is None else given * found.block_bytes
    size = held if version >= GIVEN_BLOCKS_CHECKED_SINCE else size
    tokens = blocks // len(found.groups) * found.block * found.dcp
    at_once = Fraction(blocks, found.request_blocks(longest)) if version >= HYBRID_SINCE else Fraction(tokens, longest)
    printed = int(at_once * longest) if version >= CONCURRENCY_PRINTED_SINCE else tokens
    if found.uneven:
        tokens = printed
    usable = size - found.usable_bytes_off
    needed = found.check_bytes(longest)
    extra: dict[str, Any] = {
        "groups": len(found.groups),
        "layers_per_group": max(max(group.layers) for group in found.groups),
        "page_bytes": found.page,
        "block_bytes": found.block_bytes,
        "needed_bytes": needed,
        "available_bytes": max(0, usable),
        "estimated_max_model_len": longest
        if needed <= usable
        else largest(lambda n: found.check_bytes(n) <= usable, longest),
        "has_states": any(group.kind.form == "state" for group in found.groups),
    }
    return Pool(held, tokens, blocks, found.block, printed, at_once, extra)
