"""What a sequence takes of a paged KV pool, and the prefix blocks that requests share.

    held(t) = sequence_bytes + Σ_kind block_bytes · ceil(min(t, limit) / block_tokens)

A kind is the layers that cut a sequence alike: those that keep everything, those with a window (`limit`). States and
whatever else does not grow are `sequence_bytes`. Where every layer keeps everything there is one kind, and the pool
is the usual count of blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from planner.errors import BadRequest
from planner.workloads.arrivals import BLOCK_TOKENS
from planner.workloads.traces import HASH_TOKENS


@dataclass(frozen=True)
class BlockKind:
    """Layers whose cache is cut into blocks of `block_tokens`, up to `limit_tokens` where they have a window."""

    block_tokens: int
    block_bytes: int
    limit_tokens: int | None = None

    def blocks(self, tokens: int) -> int:
        """
        >>> BlockKind(16, 1).blocks(17), BlockKind(16, 1, 32).blocks(1000), BlockKind(16, 1).blocks(0)
        (2, 2, 0)
        """
        kept = tokens if self.limit_tokens is None else min(tokens, self.limit_tokens)
        return -(-kept // self.block_tokens)


@dataclass(frozen=True)
class Pool:
    """The KV pool of one replica, as its fullest device sees it."""

    pool_bytes: int
    kinds: tuple[BlockKind, ...]
    sequence_bytes: int = 0

    def __post_init__(self) -> None:
        sizes = [self.pool_bytes, *(kind.block_tokens for kind in self.kinds)]
        sizes += [kind.limit_tokens for kind in self.kinds if kind.limit_tokens is not None]
        if min(sizes) < 1 or self.sequence_bytes < 0 or any(kind.block_bytes < 0 for kind in self.kinds):
            raise BadRequest("a KV pool needs at least one byte, and blocks and windows of at least one token")

    @classmethod
    def of_blocks(cls, blocks: int, block_tokens: int = BLOCK_TOKENS) -> Pool:
        """A pool counted in blocks: one "byte" a block."""
        return cls(blocks, (BlockKind(block_tokens, 1),))

    def held_bytes(self, tokens: int) -> int:
        """Counts the bytes that a sequence with `tokens` in the cache holds.

        >>> Pool.of_blocks(100).held_bytes(33)
        3
        """
        total = self.sequence_bytes
        for kind in self.kinds:
            total += kind.block_bytes * kind.blocks(tokens)
        return total

    @cached_property
    def hash_bytes(self) -> int:
        """What one shared block of 512 tokens spares: the kinds without a window; 0 where their blocks do not divide it."""
        whole = [kind for kind in self.kinds if kind.limit_tokens is None]
        if any(HASH_TOKENS % kind.block_tokens for kind in whole):
            return 0
        return sum(kind.block_bytes * (HASH_TOKENS // kind.block_tokens) for kind in whole)


class PrefixCache:
    """Blocks of 512 tokens by their hash: those in use, counted, and idle ones, the longest idle first.

    Idle blocks take only memory that nothing else wants: `trim` drops the longest idle ones.
    """

    def __init__(self) -> None:
        self.uses: dict[int, int] = {}
        self.idle: OrderedDict[int, None] = OrderedDict()  # its first is found at once, however many left before it

    def hits(self, ids: Sequence[int]) -> int:
        """Counts how many of the leading blocks are in the pool.

        >>> cache = PrefixCache()
        >>> cache.use([7, 8]); cache.release([7, 8])
        >>> cache.hits([7, 8, 9]), cache.hits([9, 7])
        (2, 0)
        """
        found = 0
        for block in ids:
            if block not in self.uses and block not in self.idle:
                break
            found += 1
        return found

    def new_uses(self, ids: Sequence[int]) -> int:
        """How many different ones of these blocks nothing uses yet."""
        return len({block for block in ids if block not in self.uses})

    def use(self, ids: Sequence[int]) -> None:
        for block in ids:
            self.idle.pop(block, None)
            self.uses[block] = self.uses.get(block, 0) + 1

    def release(self, ids: Sequence[int]) -> None:
        """Lets go of a request's blocks: the last becomes idle first, so that a prefix outlives what follows it."""
        for block in reversed(ids):
            left = self.uses.pop(block) - 1
            if left:
                self.uses[block] = left
            else:
                self.idle[block] = None

    def trim(self, blocks: int) -> None:
        """Keeps at most `blocks` idle ones.

        >>> cache = PrefixCache()
        >>> cache.use([1, 2]); cache.release([1, 2]); cache.trim(1)
        >>> list(cache.idle)
        [1]
        """
        while len(self.idle) > max(0, blocks):
            self.idle.popitem(last=False)


class HostTier:
    """Blocks of 512 tokens that were computed, copied out of the pool as they are made: the longest unused goes first.

    blocks     how many it holds; block_ps: the time to bring one back
    """

    def __init__(self, blocks: int, block_ps: int) -> None:
        self.blocks, self.block_ps = blocks, block_ps
        self.held: OrderedDict[int, None] = OrderedDict()

    def hits(self, ids: Sequence[int]) -> int:
        """Counts how many of the leading blocks are here, and notes that they were used.

        >>> tier = HostTier(2, 1)
        >>> tier.store([1, 2, 3])
        >>> tier.hits([2, 3, 4]), tier.hits([1, 2])
        (2, 0)
        """
        found = 0
        for block in ids:
            if block not in self.held:
                break
            self.held.move_to_end(block)
            found += 1
        return found

    def store(self, ids: Sequence[int]) -> None:
        """Keeps these blocks, in place of the longest unused."""
        for block in ids:
            self.held[block] = None
            self.held.move_to_end(block)
        while len(self.held) > self.blocks:
            self.held.popitem(last=False)
