"""The caches: one small class for each way to keep keys and values. Their sizes: `planner.memory.cache_strategies`.

All take k [B, H, T, K] and v [B, H, T, V] of T new tokens and share five calls:

    update(layer, k, v)   keeps them; answers what these T queries attend to (k, v of old and new tokens)
    get(layer)            what is kept now
    reset(starts)         empties it; `starts` [B] are the padded slots at the left of each row, if any
    nbytes                bytes of the tensor storages
    tokens                slots seen so far, padding included

A slot is a column of the left-padded batch; `columns(layer, new)` says which slots `update` answers with,
in their order, so that a mask can be built for any of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from planner.dtypes.kinds import KvFormat
from planner.dtypes.names import kv_format
from planner.errors import BadRequest
from planner.memory.cache_strategies import BLOCK_TOKENS, STRATEGIES, LayerShape, concat_peak_bytes, paged_blocks
from planner.units import ceil_div

KV = tuple[Tensor, Tensor]


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Counts the bytes of the storages behind `tensors`, each counted once: a view holds all of what it views."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors if t.numel()}
    return sum(storages.values())


class Cache:
    """Base, and the cache that keeps nothing: every step runs the whole sequence again."""

    name = "none"
    keeps = False  # False: feed the whole sequence each step
    exact = True  # False: what comes back is not what went in

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        batch: int,
        max_tokens: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:  # parameters: the sides of a shape
        self.shapes, self.batch, self.max_tokens = tuple(shapes), batch, max_tokens
        self.dtype, self.device = dtype, torch.device(device)
        self.lengths = [0] * len(self.shapes)
        self.starts: Tensor | None = None
        self.allocate()

    def allocate(self) -> None:
        """Storage that is there from the start."""

    def update(self, layer: int, k: Tensor, v: Tensor) -> KV:
        return k, v

    def get(self, layer: int) -> KV:
        return self.empty(layer)

    def columns(self, layer: int, new: int) -> Tensor:
        return torch.arange(new, device=self.device)

    def reset(self, starts: Tensor | None = None) -> None:
        self.lengths = [0] * len(self.shapes)
        self.starts = starts

    def tensors(self) -> list[Tensor]:
        return []

    @property
    def nbytes(self) -> int:
        return storage_bytes(self.tensors())

    @property
    def tokens(self) -> int:
        return self.lengths[-1] if self.lengths else 0

    def empty(self, layer: int, length: int = 0) -> KV:
        """k [B, H, length, K] and v [B, H, length, V]."""
        shape = self.shapes[layer]
        front = (self.batch, shape.kv_heads, length)
        keys = torch.empty(*front, shape.k_dim, dtype=self.dtype, device=self.device)
        return keys, torch.empty(*front, shape.v_dim, dtype=self.dtype, device=self.device)

    def seen(self, layer: int, k: Tensor) -> int:
        """Slots before `k`, which is checked and then counted."""
        past, shape, new = self.lengths[layer], self.shapes[layer], k.shape[2]
        if k.shape != (self.batch, shape.kv_heads, new, shape.k_dim):
            raise BadRequest(
                f"cache made for keys [{self.batch}, {shape.kv_heads}, T, {shape.k_dim}] and given {list(k.shape)}"
            )
        if past + new > self.max_tokens:
            raise BadRequest(f"the {self.name} cache was made for {self.max_tokens} tokens and {past + new} are wanted")
        self.lengths[layer] = past + new
        return past

    def reach(self, layer: int, past: int) -> int:
        """The first slot that a query at slot `past` or later attends to."""
        window = self.shapes[layer].window
        return 0 if window is None else max(0, past - (window - 1))


class ConcatCache(Cache):
    """K and V grow by torch.cat, as tutorials do it: exact in size, and each step copies all of it.

    `old_kept`: the old tensors stay until the last layer has its new ones, as when a tuple of the past goes
    in and a new one comes out. `peak_nbytes` is the most that was alive at once either way.
    """

    name, keeps = "concat", True
    old_kept = False

    def allocate(self) -> None:
        self.layers = [self.empty(layer) for layer in range(len(self.shapes))]
        self.peak_nbytes = 0

    def update(self, layer: int, k: Tensor, v: Tensor) -> KV:
        past = self.seen(layer, k)
        skip = self.reach(layer, past) - (past - self.layers[layer][0].shape[2])
        window = self.shapes[layer].window
        # A first k is copied as well: as a view of a fused projection it would hold all of q, k and v.
        both = tuple(
            torch.cat((old[:, :, skip:], new), dim=2) for old, new in zip(self.layers[layer], (k, v), strict=True)
        )
        kept = both if window is None or past + k.shape[2] <= window else tuple(t[:, :, -window:].clone() for t in both)
        self._note_peak(layer, kept)
        self.layers[layer] = (kept[0], kept[1])
        return both[0], both[1]

    def _note_peak(self, layer: int, new: tuple[Tensor, ...]) -> None:
        if layer == 0:
            self._before = [t.nbytes for pair in self.layers for t in pair]
            self._after: list[int] = []
        self._after += [t.nbytes for t in new]
        if layer == len(self.shapes) - 1:
            peak = concat_peak_bytes(before=self._before, after=self._after, old_kept=self.old_kept)
            self.peak_nbytes = max(self.peak_nbytes, peak)

    def get(self, layer: int) -> KV:
        return self.layers[layer]

    def columns(self, layer: int, new: int) -> Tensor:
        past = self.lengths[layer]
        return torch.arange(self.reach(layer, past), past + new, device=self.device)

    def reset(self, starts: Tensor | None = None) -> None:
        super().reset(starts)
        self.allocate()

    def tensors(self) -> list[Tensor]:
        return [t for pair in self.layers for t in pair]


class StaticCache(Cache):
    """Preallocated for `max_tokens` in every layer; a new token is written in place and nothing is copied."""

    name, keeps = "static", True

    def allocate(self) -> None:
        self.layers = [self.empty(layer, self.max_tokens) for layer in range(len(self.shapes))]

    def update(self, layer: int, k: Tensor, v: Tensor) -> KV:
        past = self.seen(layer, k)
        end, first = past + k.shape[2], self.reach(layer, past)
        keys, values = self.layers[layer]
        keys[:, :, past:end] = k
        values[:, :, past:end] = v
        return keys[:, :, first:end], values[:, :, first:end]

    def get(self, layer: int) -> KV:
        keys, values = self.layers[layer]
        return keys[:, :, : self.lengths[layer]], values[:, :, : self.lengths[layer]]

    def columns(self, layer: int, new: int) -> Tensor:
        past = self.lengths[layer]
        return torch.arange(self.reach(layer, past), past + new, device=self.device)

    def tensors(self) -> list[Tensor]:
        return [t for pair in self.layers for t in pair]


class SlidingCache(Cache):
    """A preallocated ring of min(max_tokens, window) slots a layer: the newest token overwrites the oldest.

    Layers without a window are as in StaticCache. Slot s lies at s mod ring, so a full ring comes back
    rotated: attention does not mind, since positions are in the keys already.
    """

    name, keeps = "sliding", True

    def allocate(self) -> None:
        rings = [min(self.max_tokens, shape.window or self.max_tokens) for shape in self.shapes]
        self.layers = [self.rings(layer, ring) for layer, ring in enumerate(rings)]

    def rings(self, layer: int, length: int) -> tuple[Ring, Ring]:
        keys, values = self.empty(layer, length)
        return Ring(keys), Ring(values)

    def update(self, layer: int, k: Tensor, v: Tensor) -> KV:
        past, (keys, values) = self.seen(layer, k), self.layers[layer]
        if self._in_ring(layer, past, k.shape[2]):
            keys.write(past, k)
            values.write(past, v)
            held = min(past + k.shape[2], keys.length)
            return keys.read(held), values.read(held)
        # Several tokens over the end of the ring: early queries still see what the late ones overwrite.
        old = torch.arange(self.reach(layer, past), past, device=self.device) % keys.length
        both = [torch.cat((ring.pick(old), new), dim=2) for ring, new in ((keys, k), (values, v))]
        last = min(k.shape[2], keys.length)
        keys.write(past + k.shape[2] - last, k[:, :, -last:])
        values.write(past + k.shape[2] - last, v[:, :, -last:])
        return both[0], both[1]

    def _in_ring(self, layer: int, past: int, new: int) -> bool:
        return new == 1 or past + new <= self.layers[layer][0].length

    def get(self, layer: int) -> KV:
        """Oldest first."""
        keys, values = self.layers[layer]
        length = self.lengths[layer]
        if length <= keys.length:
            return keys.read(length), values.read(length)
        order = torch.arange(length - keys.length, length, device=self.device) % keys.length
        return keys.pick(order), values.pick(order)

    def columns(self, layer: int, new: int) -> Tensor:
        past, ring = self.lengths[layer], self.layers[layer][0].length
        end = past + new
        if not self._in_ring(layer, past, new):
            return torch.arange(self.reach(layer, past), end, device=self.device)
        places = torch.arange(min(end, ring), device=self.device)
        return end - 1 - (end - 1 - places) % ring

    def tensors(self) -> list[Tensor]:
        return [t for pair in self.layers for ring in pair for t in ring.tensors()]


class Ring:
    """One preallocated tensor [B, H, length, D], written round and round."""

    def __init__(self, data: Tensor) -> None:
        self.data, self.length = data, data.shape[2]

    def write(self, first: int, x: Tensor) -> None:
        """x [B, H, T, D] at slots first..first+T, modulo the length; T is at most the length."""
        at = first % self.length
        fits = min(x.shape[2], self.length - at)
        self.put(at, x[:, :, :fits])
        if fits < x.shape[2]:
            self.put(0, x[:, :, fits:])

    def put(self, at: int, x: Tensor) -> None:
        self.data[:, :, at : at + x.shape[2]] = x

    def read(self, length: int) -> Tensor:
        return self.data[:, :, :length]

    def pick(self, places: Tensor) -> Tensor:
        return self.data.index_select(2, places)

    def tensors(self) -> list[Tensor]:
        return [self.data]


class QuantisedRing(Ring):
    """Codes and scales in place of numbers; `fmt` as `planner.dtypes.names` counts it.

    int8: one fp16 scale a vector, x ≈ code · scale. int4: fp16 scale and minimum a group, two codes a byte,
    x ≈ code · scale + minimum.
    """

    def __init__(
        self, batch: int, heads: int, length: int, dim: int, fmt: KvFormat, like: Tensor
    ) -> None:  # parameters: the sides of a shape
        self.fmt, self.length, self.dim, self.dtype = fmt, length, dim, like.dtype
        self.group = min(fmt.group or dim, dim)
        self.groups = ceil_div(dim, fmt.group or dim) if dim else 0
        code_bytes = ceil_div(dim * fmt.bits, 8)
        code_type = torch.int8 if fmt.bits == 8 else torch.uint8
        self.data = torch.zeros(batch, heads, length, code_bytes, dtype=code_type, device=like.device)
        per_group = fmt.group_bytes // 2  # fp16 numbers
        self.scales = torch.zeros(
            batch, heads, length, self.groups * per_group, dtype=torch.float16, device=like.device
        )

    def put(self, at: int, x: Tensor) -> None:
        if not self.dim:
            return
        codes, scales = self._quantise(x.float())
        self.data[:, :, at : at + x.shape[2]] = codes
        self.scales[:, :, at : at + x.shape[2]] = scales

    def read(self, length: int) -> Tensor:
        return self._dequantise(self.data[:, :, :length], self.scales[:, :, :length])

    def pick(self, places: Tensor) -> Tensor:
        return self._dequantise(self.data.index_select(2, places), self.scales.index_select(2, places))

    def tensors(self) -> list[Tensor]:
        return [self.data, self.scales]

    def _quantise(self, x: Tensor) -> KV:
        if self.fmt.bits == 8:
            scale = _fp16(x.abs().amax(-1, keepdim=True) / 127)
            return (x / scale.float()).round().clamp(-127, 127).to(torch.int8), scale
        grouped = self._grouped(x)  # [B, H, T, groups, group]
        low = grouped.amin(-1, keepdim=True).to(torch.float16)
        scale = _fp16((grouped.amax(-1, keepdim=True) - low.float()) / 15)
        codes = ((grouped - low.float()) / scale.float()).round().clamp(0, 15).to(torch.uint8)
        codes = codes.flatten(-2)[..., : self.dim]
        if self.dim % 2:
            codes = torch.nn.functional.pad(codes, (0, 1))
        return codes[..., 0::2] | (codes[..., 1::2] << 4), torch.cat((scale, low), dim=-1).flatten(-2)

    def _dequantise(self, codes: Tensor, scales: Tensor) -> Tensor:
        if not self.dim:
            return codes.to(self.dtype)
        if self.fmt.bits == 8:
            return (codes.float() * scales.float()).to(self.dtype)
        nibbles = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2)[..., : self.dim]
        parts = scales.reshape(*scales.shape[:-1], self.groups, 2).float()
        grouped = self._grouped(nibbles.float()) * parts[..., :1] + parts[..., 1:]
        numbers = grouped.flatten(-2)[..., : self.dim].to(self.dtype)
        return numbers

    def _grouped(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., groups, group]; a short last group is filled with its last number."""
        missing = self.groups * self.group - self.dim
        if missing:
            x = torch.cat((x, x[..., -1:].expand(*x.shape[:-1], missing)), dim=-1)
        return x.reshape(*x.shape[:-1], self.groups, self.group)


def _fp16(scale: Tensor) -> Tensor:
    """A scale as fp16 stores it, rounded up: the largest number still has a code, and no scale is zero."""
    return (scale + (scale * 2.0**-11).clamp_min(2.0**-25)).to(torch.float16)


class QuantisedCache(SlidingCache):
    """Preallocated codes and scales; each read makes a copy in the model's dtype."""

    keeps, exact = True, False

    def __init__(self, *args: object, fmt: str = "int8", **kwargs: object) -> None:
        self.fmt, self.name = kv_format(fmt), fmt
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def rings(self, layer: int, length: int) -> tuple[Ring, Ring]:
        shape, like = self.shapes[layer], torch.empty(0, dtype=self.dtype, device=self.device)
        front = (self.batch, shape.kv_heads, length)
        return QuantisedRing(*front, shape.k_dim, self.fmt, like), QuantisedRing(*front, shape.v_dim, self.fmt, like)


class PagedCache(Cache):
    """Blocks of 16 tokens from a pool that all sequences share; a table says which blocks are whose.

    Each sequence takes blocks as it grows and keeps no padding. `blocks`: size of the pool (default: what
    all rows at `max_tokens` need). Reading gathers a sequence's blocks into a copy, which a fused kernel
    would not need; which pool rows those are is worked out once a step for all layers (not in `nbytes`).
    """

    name, keeps = "paged", True

    def __init__(
        self, *args: object, blocks: int | None = None, block_tokens: int = BLOCK_TOKENS, **kwargs: object
    ) -> None:
        self.blocks, self.block_tokens = blocks, block_tokens
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def allocate(self) -> None:
        size = self.block_tokens
        everyone = paged_blocks(lengths=[self.max_tokens] * self.batch, block_tokens=size)
        self.pool_blocks = everyone if self.blocks is None else self.blocks
        self.pools = [(self._pool(s.kv_heads, s.k_dim), self._pool(s.kv_heads, s.v_dim)) for s in self.shapes]
        row = ceil_div(self.max_tokens, size)
        self.table = torch.zeros(self.batch, row, dtype=torch.int32, device=self.device)
        self.reset()

    def _pool(self, heads: int, dim: int) -> Tensor:
        """[tokens, heads, dim]. Zeros: a padded slot reads block 0, and what it reads must be a number."""
        return torch.zeros(self.pool_blocks * self.block_tokens, heads, dim, dtype=self.dtype, device=self.device)

    def reset(self, starts: Tensor | None = None) -> None:
        super().reset(starts)
        self.first = [0] * self.batch if starts is None else [int(s) for s in starts]
        self.owned: list[list[int]] = [[] for _ in range(self.batch)]
        self.free = list(range(self.pool_blocks))[::-1]
        self.places = torch.zeros(self.batch, 0, dtype=torch.int64, device=self.device)  # [B, slots] -> pool rows

    def update(self, layer: int, k: Tensor, v: Tensor) -> KV:
        past, new = self.seen(layer, k), k.shape[2]
        if self.places.shape[1] < past + new:
            self._grow(past, new)
        for pool, x in zip(self.pools[layer], (k, v), strict=True):
            pool[self.where] = x.transpose(1, 2)[self.rows, self.columns_in]  # [real tokens, H, D]
        return self._gather(layer, self.reach(layer, past))

    def get(self, layer: int) -> KV:
        return self._gather(layer, 0)

    def columns(self, layer: int, new: int) -> Tensor:
        past = self.lengths[layer]
        return torch.arange(self.reach(layer, past), past + new, device=self.device)

    @property
    def sequence_lengths(self) -> list[int]:
        return [max(0, self.tokens - first) for first in self.first]

    @property
    def used_nbytes(self) -> int:
        """Bytes of the blocks that sequences hold, and of the table."""
        held = sum(map(len, self.owned))
        pools: int = sum(t.nbytes // self.pool_blocks * held for pair in self.pools for t in pair if self.pool_blocks)
        return pools + self.table.nbytes

    def tensors(self) -> list[Tensor]:
        return [self.table, *(t for pair in self.pools for t in pair)]

    def _grow(self, past: int, new: int) -> None:
        """Blocks for `new` more slots of each row, and where in the pool those slots lie."""
        for row, first in enumerate(self.first):
            wanted = ceil_div(max(0, past + new - first), self.block_tokens)
            while len(self.owned[row]) < wanted:
                if not self.free:
                    raise BadRequest(f"the pool of {self.pool_blocks} blocks of {self.block_tokens} tokens is used up")
                self.table[row, len(self.owned[row])] = self.free[-1]
                self.owned[row].append(self.free.pop())
        slots = torch.arange(past, past + new, device=self.device)
        positions = (slots - torch.tensor(self.first, device=self.device)[:, None]).clamp_min(0)  # [B, new]
        blocks = self.table.long().gather(1, positions // self.block_tokens)
        places = blocks * self.block_tokens + positions % self.block_tokens
        self.places = torch.cat((self.places, places), dim=1)
        real = slots >= torch.tensor(self.first, device=self.device)[:, None]  # not padding
        self.rows, self.columns_in = real.nonzero(as_tuple=True)
        self.where = places[self.rows, self.columns_in]

    def _gather(self, layer: int, first: int) -> KV:
        places = self.places[:, first : self.lengths[layer]]
        keys, values = (pool[places].transpose(1, 2) for pool in self.pools[layer])  # [B, H, S, D]
        return keys, values


def make_cache(
    strategy: str,
    shapes: Sequence[LayerShape],
    *,
    batch: int = 1,
    max_tokens: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    blocks: int | None = None,
) -> Cache:  # parameters: the sides of a shape
    """Makes the cache called `strategy` (`planner.memory.cache_strategies.STRATEGIES`) for `batch` rows of up to
    `max_tokens`.
    """
    if strategy not in STRATEGIES:
        raise BadRequest(f"cache strategy {strategy!r} is not known; choose one of: {', '.join(STRATEGIES)}")
    if batch < 1 or max_tokens < 1:
        raise BadRequest(f"a cache for {batch} sequences of {max_tokens} tokens; at least 1 of each is wanted")
    args = (shapes, batch, max_tokens, dtype, device)
    if strategy == "paged":
        return PagedCache(*args, blocks=blocks)
    if strategy in ("int8", "int4"):
        return QuantisedCache(*args, fmt=strategy)
    return {"none": Cache, "concat": ConcatCache, "static": StaticCache, "sliding": SlidingCache}[strategy](*args)
