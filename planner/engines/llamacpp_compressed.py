"""What llama.cpp allocates for DeepSeek-V4: windows of raw keys, compressed entries, their indexer's keys, open blocks.

Source: llama.cpp llama-kv-cache-dsv4.cpp. Each slot has a stream of its own, also where the cache is unified: then of the
whole context. Nothing has V rows; what an open block holds is fp32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from planner.dtypes.kinds import CacheFormat
from planner.engines.llamacpp_setting import FP32, Setting
from planner.model.sparse_attention import Compressed
from planner.model.spec import Layer
from planner.units import ceil_div

PAD = 256


@dataclass(frozen=True)
class CompressedCache:
    """One of the caches: `cells` of a stream in `layers` layers."""

    cells: int
    layers: int
    bytes: int


def compressed_caches(
    groups: Iterable[tuple[Layer, int]], setting: Setting, fmt: CacheFormat
) -> tuple[tuple[CompressedCache, ...], int]:
    """Lists the caches of compressed entries, by rate, and of the indexer's keys; and the bytes of open blocks.

    cells = pad256(ceil(stream / rate)); bytes = layers · streams · cells · bytes of a row of K. An open block keeps
    values and scores in fp32, 2 · rows · width · 4 B a layer and stream: of overlapping blocks two, each of twice the width.
    """
    rows: dict[tuple[int, int], int] = {}
    states = 0
    for layer, count in groups:
        for cache in layer.caches:
            if not isinstance(cache, Compressed):
                continue
            for width in cache.widths:
                rows[cache.rate, width] = rows.get((cache.rate, width), 0) + count
                held = cache.rate * width * (4 if cache.overlap else 1)
                states += 2 * count * held * FP32 * setting.slots * (1 + setting.snapshots)
    found = []
    for (rate, width), layers in sorted(rows.items(), key=lambda item: (item[0][1] < 512, item[0][0])):
        cells = ceil_div(max(1, ceil_div(setting.seq_cells, rate)), PAD) * PAD
        found.append(CompressedCache(cells, layers, layers * cells * setting.streams * fmt.k.vector_bytes(width)))
    return tuple(found), states
