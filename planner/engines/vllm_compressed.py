"""vLLM's pages of a compressed past (DeepSeek-V4): five kinds of layer caches, packed into the blocks of one pool.

A layer keeps the window of raw records, a compressing one the entries of its long past and the state of the block that
is still open, and one with an indexer the same of its keys. Each is a page in a block; what a request holds is many
small blocks for the open ones (4 and 8 tokens each) while a prompt is under way, and few large ones for the past.

Sources: `models/deepseek_v4/attention.py`, `compressor.py` (pages), `v1/attention/backends/mla/sparse_swa.py` (window),
`v1/core/kv_cache_utils.py` (groups, bytes of a block, concurrency) of the releases 0.20.1 to 0.33.0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from planner.engines.base import Options, Version, caches_of_layers, stage_ranges
from planner.engines.vllm_setting import Setting
from planner.engines.vllm_v1 import Group, LayerKind, Layout
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.estimate import Estimate
from planner.memory.sharding import Sharding
from planner.model.cache import Cache
from planner.model.sparse_attention import Compressed
from planner.model.spec import ModelSpec
from planner.model.windows import SlidingWindow
from planner.units import ceil_div

SINCE: Version = (0, 20)
# A block is so many rows of one page of each size; then of as many pages of each size as a group has; then as wide as
# the widest group; at last without padding the windows' pages to those of the past.
PAGES_BY_SIZE_SINCE: Version = (0, 23)
WIDEST_GROUP_SINCE: Version = (0, 27)
UNPADDED_SINCE: Version = (0, 29)
RECORD_BYTES = 584  # 448 in fp8, 64 of the rotary part in bf16, 7 scales and a byte to fill
SCALE_BYTES = 4  # of an indexer's key, in fp8
ALIGNMENT = 576
WINDOW_BLOCK = 64
STATE_BLOCKS = {4: 4, 128: 8}  # tokens a block of the open block's state, by rate
FP32 = 4


@dataclass(frozen=True)
class Page:
    """One layer's share of a block: `block` tokens in `bytes`; `window` 0 where every token's entry stays."""

    layer: int
    block: int
    bytes: int
    window: int = 0


def page_bytes(size: int) -> int:
    """Rounds a page up to what FlashMLA reads.

    >>> page_bytes(64 * 584), page_bytes(2 * 584), page_bytes(64 * 132)
    (37440, 1728, 8640)
    """
    return ceil_div(size, ALIGNMENT) * ALIGNMENT


def pages(caches: Sequence[tuple[int, Cache]], block: int, drafts: int) -> list[Page]:
    """Lists the pages of every layer, those of a draft head (windows alone) last.

    `caches` are those of the layers as `layer_caches` gives them, `drafts` the layers of the head.

    window     64 tokens of 584 B
    entries    block / rate of 584 B, and of the indexer's width + 4 B
    open block rate 4: 4 tokens, rate 128: 8, of value and gate in fp32, twice with overlap; kept for that many rates
    """
    found: list[Page] = []
    window: SlidingWindow | None = None
    for layer, cache in caches:
        if isinstance(cache, SlidingWindow):
            window = cache
            found.append(Page(layer, WINDOW_BLOCK, page_bytes(WINDOW_BLOCK * RECORD_BYTES), cache.window))
        elif isinstance(cache, Compressed):
            found += _compressed(layer, cache, block)
    if window is not None:
        last = caches[-1][0]
        found += [Page(last, WINDOW_BLOCK, page_bytes(WINDOW_BLOCK * RECORD_BYTES), window.window)] * drafts
    return found


def _compressed(layer: int, cache: Compressed, block: int) -> list[Page]:
    if cache.rate not in STATE_BLOCKS or block % max(STATE_BLOCKS):
        raise BadRequest(f"--block-size {block} does not hold whole entries of {cache.rate} tokens; write 256")
    series = 2 if cache.overlap else 1
    open_block, kept = STATE_BLOCKS[cache.rate], cache.rate * series
    entry = [RECORD_BYTES, *(width + SCALE_BYTES for width in cache.widths[1:])]
    found = []
    for size, width in zip(entry, cache.widths, strict=True):
        found.append(Page(layer, block, page_bytes(block // cache.rate * size)))
        found.append(Page(layer, open_block, page_bytes(open_block * 2 * series * width * FP32), kept))
    return found


def rows_of(counts: list[int], least: int) -> int:
    """Chooses the layers of a group: the size from `least` to the largest count that pads the counts least; of equals
    the larger.

    >>> rows_of([21, 43, 21, 20], 21), rows_of([31, 61, 30, 31], 31)
    (22, 31)
    """
    return min(range(least, max(counts) + 1), key=lambda size: (sum(-count % size for count in counts), -size))


def grouped(found: list[Page], version: Version) -> list[list[Page]]:
    """Cuts the pages into groups that share block tables: those of equal block and window, in groups of `rows_of`.

    The past is one group. The windows of all layers outnumber the others and are cut, every n-th layer to the n-th
    group. Before 0.29 a page of a window is padded to the next size that the past has.
    """
    buckets: dict[tuple[int, int], list[Page]] = {}
    for page in found:
        buckets.setdefault((page.window, page.block), []).append(page)
    past = next(bucket for (window, _), bucket in buckets.items() if not window)
    rows = {key: max(Counter(page.bytes for page in bucket).values()) for key, bucket in buckets.items()}
    if version < UNPADDED_SINCE:
        sizes = sorted({page.bytes for page in past})
        if max(page.bytes for page in found) > sizes[-1]:
            raise BadRequest("vLLM before 0.29 wants --block-size 256 for a compressed past")
        buckets = {key: [_padded(page, sizes) for page in bucket] for key, bucket in buckets.items()}
        size = rows_of(list(rows.values()), max(Counter(page.bytes for page in past).values()))
    else:
        even = {key: bucket for key, bucket in buckets.items() if _is_even(bucket)}
        mixed = [rows[key] for key, bucket in even.items() if len({page.bytes for page in bucket}) > 1]
        size = rows_of([rows[key] for key in even], max(mixed)) if mixed else max(rows.values())
    groups: list[list[Page]] = []
    for key, bucket in buckets.items():
        count = ceil_div(rows[key], size) if _is_even(bucket) else 1
        groups += [_every(bucket, start, count) for start in range(count)]
    return sorted(groups, key=lambda group: group[0].window > 0)


def _is_even(bucket: list[Page]) -> bool:
    """Tells whether a bucket has as many pages of each size."""
    return len(set(Counter(page.bytes for page in bucket).values())) == 1


def _every(bucket: list[Page], start: int, step: int) -> list[Page]:
    """Takes every `step`-th page of each size."""
    sizes = dict.fromkeys(page.bytes for page in bucket)
    return [page for size in sizes for page in [one for one in bucket if one.bytes == size][start::step]]


def _padded(page: Page, sizes: list[int]) -> Page:
    return Page(page.layer, page.block, min(size for size in sizes if size >= page.bytes), page.window)


def block_bytes(groups: list[list[Page]], version: Version) -> int:
    """Counts the bytes of one block of the pool, which any group may take.

    to 0.22     rows · sum of the past's page sizes, rows the most pages of one size in a group
    0.23-0.26   sum over sizes of size · the most pages of that size in a group
    from 0.27   the widest group's pages
    """
    counts = [Counter(page.bytes for page in group) for group in groups]
    if version >= WIDEST_GROUP_SINCE:
        return max(sum(page.bytes for page in group) for group in groups)
    if version >= PAGES_BY_SIZE_SINCE:
        return sum(size * max(count[size] for count in counts) for size in counts[0])
    return row_bytes(groups)


def row_bytes(groups: list[list[Page]]) -> int:
    """Counts a block as rows of one page of each size of the past: the check at start-up does so to 0.28."""
    rows = max(max(Counter(page.bytes for page in group).values()) for group in groups)
    return rows * sum({page.bytes for page in groups[0]})


@dataclass(frozen=True, eq=False, kw_only=True)
class PackedLayout(Layout):
    """Groups whose pages differ in size.

    check_block  bytes of a block as the check at start-up counts them
    group_bytes  bytes of all pages of each group, where concurrency weighs blocks by them (to 0.26); else empty
    tokens       tokens of a block of the past
    """

    check_block: int
    group_bytes: tuple[int, ...]
    tokens: int

    @property
    def block(self) -> int:
        return self.tokens

    def request_blocks(self, length: int) -> int:
        """Counts the blocks that a request of `length` tokens may hold; to 0.26 in blocks of the first group's size."""
        if not self.group_bytes:
            return super().request_blocks(length)
        held = zip(self.groups, self.group_bytes, strict=True)
        return ceil_div(sum(self.group_blocks(group, length) * size for group, size in held), self.group_bytes[0])

    def check_bytes(self, length: int) -> int:
        """Bytes that the check at start-up wants for one request of `length` tokens."""
        return self.check_block * super().request_blocks(length)


@lru_cache(maxsize=32)  # a search asks for the same ones at every length
def _groups(
    spec: ModelSpec, sharding: Sharding, block: int, *, drafts: int, version: Version
) -> tuple[tuple[Page, ...], ...]:
    found = grouped(pages(caches_of_layers(spec, sharding), block, drafts), version)
    return tuple(tuple(group) for group in found)


def layout(estimate: Estimate, options: Options, setting: Setting) -> PackedLayout:
    """Works out the groups of a model with a compressed past and the bytes of a block on each stage."""
    version = setting.version
    if version < SINCE:
        raise UnsupportedModel(
            f"{estimate.spec.name}: vLLM {setting.label} does not have this model; it came with 0.20"
        )
    drafts = options.draft_layers if options.draft_layers is not None else int(options.num_speculative_tokens > 0)
    groups = _groups(estimate.spec, estimate.request.sharding, setting.block, drafts=drafts, version=version)
    ranges = stage_ranges(len(estimate.spec.layers), pp=estimate.request.sharding.pp)
    stages = [[[page for page in group if page.layer in stage] for group in groups] for stage in ranges]
    staged = [[group for group in stage if group] for stage in stages]
    check = block_bytes if version >= UNPADDED_SINCE else lambda found, _: row_bytes(found)
    return PackedLayout(
        groups=tuple(
            Group(
                LayerKind("sliding" if group[0].window else "full", 0, limit=group[0].window),
                group[0].block,
                tuple(len(stage[index]) for stage in stages),
            )
            for index, group in enumerate(groups)
        ),
        page=max(page.bytes for group in groups for page in group),
        uniform=False,
        stage_pages=tuple(block_bytes(stage, version) for stage in staged),
        needs=(),
        in_flight=setting.in_flight,
        dcp=1,
        version=version,
        uneven=True,
        check_block=max(check(stage, version) for stage in staged),
        group_bytes=tuple(sum(page.bytes for page in group) for group in groups)
        if version < WIDEST_GROUP_SINCE
        else (),
        tokens=setting.block,
    )
