"""What llama.cpp's family allocates for the cache: full and window cells, states, a drafter's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.engines.base import caches_of, keeps_compressed
from planner.engines.drafting import drafted_caches
from planner.engines.llamacpp_compressed import CompressedCache, compressed_caches
from planner.engines.llamacpp_setting import (
    FP32,
    GPT_OSS_MEMORY,
    IK_MTP_TYPES,
    IK_WITHOUT_MTP_SINCE,
    MLA_SINCE,
    MTP_IN_CACHE,
    NO_V_SINCE,
    WINDOWS_BY_UBATCH_SINCE,
    Setting,
    latent_build,
)
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.estimate import Estimate
from planner.model.cache import Full, Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent, LatentAttention
from planner.model.latent_window import LatentWindow
from planner.model.recurrent import NGRAMS, Recurrent
from planner.model.sparse_attention import BlockIndexer, Compressed, IndexKeys, PooledIndexer, SharedKvAttention
from planner.model.spec import Layer
from planner.model.windows import Chunked, SlidingWindow, most_kept
from planner.units import ceil_div

Groups = Sequence[tuple[Layer, int]]
# Keys of DeepSeek-V3.2's and GLM-5's indexer lie in a second cache (llama-kv-cache-dsa.cpp). 9340 is a build that has it; in
# which it began is not known.
DSA_PROGRAMS = ("llamacpp", "ollama", "lmstudio")
DSA_SINCE = 9340
GLM_INDEXED_SINCE, GLM_DSA = 10_152, ("gguf glm-dsa", "glm_moe_dsa")
IK_INDEXED_SINCE = 4676  # ik_llama.cpp's builds
POOLED_KEYS_SINCE = 11_413  # Qwen4-Exp's pooled keys lie beside its keys; b11227 keeps none
T5_TYPES = ("t5", "mt5", "umt5")


@dataclass(frozen=True)
class Buffers:
    """What the program allocates for the cache."""

    full: int
    window: int
    window_cells: int
    state: int
    full_layers: int
    window_layers: int
    k: int
    v: int
    draft: int = 0
    index: int = 0
    index_layers: int = 0
    compressed: tuple[CompressedCache, ...] = ()

    @property
    def entries(self) -> int:
        """Bytes of compressed entries and their indexer's keys (DeepSeek-V4)."""
        return sum(cache.bytes for cache in self.compressed)

    @property
    def total(self) -> int:
        return self.full + self.window + self.state + self.draft + self.index + self.entries


def window_cells(setting: Setting, window: int) -> int:
    """Counts the cells of a window layer in one stream.

    pad256(min(stream, window · sequences of the stream + ubatch)); the first version (b5427 to b5553) used the
    batch for the ubatch; up to 2025 the stream's own length was not padded again, and the padding was 32 without
    flash attention. ollama's own engine: window · slots + 512, gpt-oss 4,096 tokens for its windows.
    """
    if setting.swa_full:
        return setting.seq_cells
    sequences = setting.slots if setting.streams == 1 else 1
    if setting.ollama_engine:
        window = GPT_OSS_MEMORY if window == 128 else window
    step = setting.batch if setting.build < WINDOWS_BY_UBATCH_SINCE else setting.ubatch
    wanted = ceil_div(window * sequences + step, setting.pad) * setting.pad
    return min(setting.seq_cells, wanted)


# long: one buffer after the other, as llama.cpp makes them
def buffers(estimate: Estimate, setting: Setting, groups: Groups | None = None) -> Buffers:
    """Counts the bytes of the K, V and state buffers: layers · cells · streams · bytes of a row; of all layers, or of
    `groups`.
    """
    spec, fmt = estimate.spec, estimate.fmt
    check_encoder(estimate, setting)
    split = has_window_cache(estimate)
    widest = _widest_v(estimate)
    sums = {name: 0 for name in Buffers.__dataclass_fields__ if name != "compressed"}
    packed = compressed_of(estimate, setting, groups)
    sums["state"] += packed[1]
    for layer, count in spec.groups if groups is None else groups:
        for cache, mixer in zip(layer.caches, layer.mixers, strict=True):
            if isinstance(cache, (Shared, Compressed, Cross)) or cache.kind == "no cache":
                continue
            if isinstance(mixer, SharedKvAttention) and isinstance(cache, SlidingWindow):
                _add_raw(sums, setting, fmt, cache, count)
                continue
            if isinstance(cache, Recurrent):
                sums["state"] += count * state_bytes(cache, spec.name) * setting.slots * (1 + setting.snapshots)
                continue
            if isinstance(cache, IndexKeys):
                _add_index(sums, setting, fmt, _index_row(layer, mixer, setting, name=spec.name), count)
                continue
            if isinstance(cache, LatentWindow):
                k, v = fmt.k.vector_bytes(cache.latent_dim + cache.rope_dim), 0
                _check_dsa(setting, spec.name)
            elif isinstance(cache, Latent):
                k, v = _latent_row(cache, mixer, setting, fmt=fmt, name=spec.name, kind=spec.model_type)
                if cache.indexer_dim and setting.program == "ik_llamacpp":
                    sums["index"] += count * ik_index_bytes(estimate, setting, cache.indexer_dim)[1]
                elif cache.indexer_dim and not _unindexed(spec.model_type, setting):
                    _add_index(sums, setting, fmt, (cache.indexer_dim, 0), count)
            elif isinstance(cache, Full):
                k, v = (
                    fmt.k.vector_bytes(cache.kv_heads * cache.k_dim),
                    fmt.v.vector_bytes(cache.kv_heads * cache.v_dim if setting.flash else widest),
                )
            else:
                raise UnsupportedModel(
                    f"{spec.name}: how {setting.program} keeps {cache.kind} is not modelled; leave --engine out"
                )
            limit = cache.window if isinstance(cache, LatentWindow) else most_kept(cache) or 0
            windowed = bool(limit) and split
            cells = (window_cells(setting, limit) if windowed else setting.seq_cells) * setting.streams
            if windowed:
                sums["window_cells"] = cells // setting.streams
            sums["window" if windowed else "full"] += count * cells * (k + v)
            sums["window_layers" if windowed else "full_layers"] += count
            sums["k"] += count * cells * k
            sums["v"] += count * cells * v
    if groups is None:
        _as_encoder(sums, estimate)
        if setting.program == "ik_llamacpp" and sums["index"]:
            width = next(cache.indexer_dim for cache in caches_of(estimate) if isinstance(cache, Latent))
            sums["index"] = ik_index_bytes(estimate, setting, width)[0]
        _add_mtp(sums, estimate, setting)
        sums["draft"] = draft_bytes(estimate, setting)
    sums["k"] += sum(one.bytes for one in packed[0])
    return Buffers(**sums, compressed=packed[0])


def compressed_of(
    estimate: Estimate, setting: Setting, groups: Groups | None
) -> tuple[tuple[CompressedCache, ...], int]:
    """Finds DeepSeek-V4's compressed caches and open blocks; nothing of other models."""
    if not keeps_compressed(estimate):
        return (), 0
    if setting.program not in DSA_PROGRAMS or setting.build < DSA_SINCE:
        raise UnsupportedModel(
            f"{estimate.spec.name}: how {setting.program} keeps compressed entries is not modelled for this version; "
            "leave --engine out"
        )
    return compressed_caches(estimate.spec.groups if groups is None else groups, setting, estimate.fmt)


def _add_raw(
    sums: dict[str, int], setting: Setting, fmt: CacheFormat, cache: SlidingWindow, count: int
) -> None:  # parameters: sums that are added to
    """DeepSeek-V4's window of raw keys: K alone, the window and one ubatch in every stream."""
    wanted = ceil_div(cache.window + setting.ubatch, setting.pad) * setting.pad
    cells = setting.seq_cells if setting.swa_full else min(setting.seq_cells, wanted)
    size = count * cells * setting.streams * fmt.k.vector_bytes(cache.kv_heads * cache.k_dim)
    sums["window"] += size
    sums["k"] += size
    sums["window_cells"] = cells
    sums["window_layers"] += count


def _add_index(
    sums: dict[str, int], setting: Setting, fmt: CacheFormat, widths: tuple[int, int], count: int
) -> None:  # parameters: sums that are added to, and what a row is made of
    """A cache of its own for the keys of `count` layers' indexers: one row of K a token, and of V where it has one.

    llama.cpp makes it of an attention's cache with one head: V rows of MiniMax-M3's lie there and are never written.
    """
    cells = count * setting.seq_cells * setting.streams
    k, v = cells * fmt.k.vector_bytes(widths[0]), cells * fmt.v.vector_bytes(widths[1]) if widths[1] else 0
    sums["index"] += k + v
    sums["k"] += k
    sums["v"] += v
    sums["index_layers"] += count


def _index_row(layer: Layer, mixer: object, setting: Setting, *, name: str) -> tuple[int, int]:
    """Numbers of (K, V) that a cell of an indexer's own cache has.

    MiniMax-M3: one key, beside V rows as wide as a head's (llama-kv-cache-msa.cpp). Where tokens are pooled, what is pooled
    lies beside it: Qwen4-Exp key and pooled key, GLM-5.3 key, gate and pooled key (llama-memory-hybrid-idx.cpp).
    """
    _check_dsa(setting, name)
    if isinstance(mixer, PooledIndexer):
        return 3 * mixer.dim, 0
    if not isinstance(mixer, BlockIndexer):
        raise UnsupportedModel(
            f"{name}: how {setting.program} keeps these indexer keys is not modelled; leave --engine out"
        )
    if mixer.pool:
        return (2 if mixer.pool > 1 and setting.build >= POOLED_KEYS_SINCE else 1) * mixer.dim, 0
    return mixer.dim, next((cache.v_dim for cache in layer.caches if isinstance(cache, Full)), 0)


def _check_dsa(setting: Setting, name: str) -> None:
    """Refuses programs and builds whose caches of sparse attention are not known."""
    if setting.program not in DSA_PROGRAMS or setting.build < DSA_SINCE:
        raise UnsupportedModel(
            f"{name}: how {setting.program} keeps indexer keys is not modelled for this version; leave --engine out"
        )


def draft_bytes(estimate: Estimate, setting: Setting) -> int:
    """Counts a drafter's own cache (-md, or MTP layers with --spec-type draft-mtp): cells of the whole context.

    Its context is as long as all slots together, whichever way the build lays it out (PR 10586: one of each slot's
    length; since 2026 one for all, issue 28433), and its types are f16 unless --cache-type-k-draft says otherwise.
    """
    k, v = map(kv_format, setting.draft_types)
    rows = 0
    for cache in drafted_caches(estimate):
        if isinstance(cache, Latent):
            rows += k.vector_bytes(cache.latent_dim + cache.rope_dim)
        elif isinstance(cache, Full):
            rows += cache.kv_heads * (k.vector_bytes(cache.k_dim) + v.vector_bytes(cache.v_dim))
        elif isinstance(cache, IndexKeys) and (keys := _pooled_keys(estimate, setting)):
            rows += k.vector_bytes(keys)
        else:
            raise UnsupportedModel(
                f"how {setting.program} keeps a drafter's {cache.kind} is not modelled; leave --drafter out"
            )
    return rows * setting.seq_cells * setting.streams


def _pooled_keys(estimate: Estimate, setting: Setting) -> int:
    """Numbers of a cell of the indexer that Qwen4-Exp's predicting layer has beside its K and V, as the model's own; 0 of
    other models. Source: b11739's context of the predicting layers (GLM-5's has its latent alone).
    """
    for layer, _ in estimate.spec.groups:
        for mixer in layer.mixers:
            if isinstance(mixer, BlockIndexer) and mixer.pool:
                return _index_row(layer, mixer, setting, name=estimate.spec.name)[0]
    return 0


def check_encoder(estimate: Estimate, setting: Setting) -> None:
    """Refuses encoder-decoders that llama.cpp does not have (all but T5 and its heirs), and T5 in more than one stream.

    Several streams abort while the first graph is laid out (ggml_can_repeat, seen in b11739).
    """
    spec = estimate.spec
    if not spec.encoder:
        return
    if (
        spec.model_type.removeprefix("gguf ") not in T5_TYPES
        or setting.program == "ik_llamacpp"
        or setting.ollama_engine
    ):
        raise UnsupportedModel(
            f"{spec.name}: encoder-decoders are not modelled for {setting.program} (llama.cpp has T5 and its heirs alone); "
            "leave --engine out"
        )
    if setting.streams > 1:
        raise BadRequest(f"{spec.name}: llama.cpp aborts with T5 in {setting.streams} streams; give --parallel 1")


def _as_encoder(sums: dict[str, int], estimate: Estimate) -> None:
    """T5's decoder gets cells for as many layers as its encoder has; those of cross attention it does not keep: they are
    computed from the encoder's output in every step. Source: llama.cpp models/t5.cpp; b11739 asked with other counts.
    """
    spec, layers = estimate.spec, sums["full_layers"]
    if spec.encoder and layers:
        for key in ("full", "k", "v", "full_layers"):
            sums[key] = sums[key] // layers * len(spec.encoder)


def _widest_v(estimate: Estimate) -> int:
    """Numbers of the widest V row: without flash attention the rows of all layers are padded to it."""
    found = [c for c in caches_of(estimate) if isinstance(c, Full)]
    return max((cache.kv_heads * cache.v_dim for cache in found), default=0)


def _add_mtp(sums: dict[str, int], estimate: Estimate, setting: Setting) -> None:
    """ik_llama.cpp before b3961, and llama.cpp in the builds of `MTP_IN_CACHE`, also allocate GLM-4.5's
    multi-token-prediction layers (47 for 46, 93 for 92)."""
    header = estimate.spec.config.get("gguf")
    extra = estimate.spec.config.get("num_nextn_predict_layers", 1)
    if header is not None:
        extra = header.get("glm4moe.nextn_predict_layers", 0)
    first, end = (0, IK_WITHOUT_MTP_SINCE) if setting.program == "ik_llamacpp" else MTP_IN_CACHE
    if not first <= setting.build < end or setting.program not in ("ik_llamacpp", "llamacpp"):
        return
    if estimate.spec.model_type not in IK_MTP_TYPES or not isinstance(extra, int) or not sums["full_layers"]:
        return
    for key in ("full", "k", "v"):
        sums[key] += sums[key] // sums["full_layers"] * extra
    sums["full_layers"] += extra


def has_window_cache(estimate: Estimate) -> bool:
    """Tells whether windows have a cache of their own: they do where windows and full layers alternate; a model of
    windows alone is kept in full.
    """
    kinds = {type(cache) for cache in caches_of(estimate)}
    return (bool(kinds & {SlidingWindow, Chunked}) and Full in kinds) or {LatentWindow, Latent} <= kinds


def _unindexed(kind: str, setting: Setting) -> bool:
    """Tells whether a build runs GLM-5 without its indexer, as plain MLA: to b10069, of which b8368 is the oldest that was asked."""
    return setting.program == "llamacpp" and setting.build < GLM_INDEXED_SINCE and kind in GLM_DSA


def ik_index_bytes(estimate: Estimate, setting: Setting, width: int) -> tuple[int, int]:
    """Bytes of GLM-5's indexer keys in ik_llama.cpp, (of all layers, of each where they are dealt out evenly), in f16
    whatever -ctk says (-ictk sets them), with --dsa or without.

    From build 4676 (PR 2045) on in layers 0, 1, 2, 6, 10 and so on, whichever own an indexer; before it in none.
    Source: its src/llama.cpp (cache_kr_l) and src/llama-hparams.cpp (indexer_is_full) of August 2026.
    """
    spec = estimate.spec
    if spec.model_type not in GLM_DSA:
        _check_dsa(setting, spec.name)
    layers = len(spec.layers)
    kept = sum(index <= 1 or index % 4 == 2 for index in range(layers)) if setting.build >= IK_INDEXED_SINCE else 0
    size = kept * setting.seq_cells * setting.streams * kv_format("fp16").vector_bytes(width)
    return size, ceil_div(size, layers)


def _latent_row(
    cache: Latent, mixer: object, setting: Setting, *, fmt: CacheFormat, name: str, kind: str
) -> tuple[int, int]:  # parameters: a layer, and the model and the engine that have it
    """(K, V) bytes of a token in one MLA layer.

    llama.cpp: all heads before b5134 (PR 12801), K latent + rope and V latent to b7829, then K alone; ollama all heads
    before 0.6.7, K and V to 0.29. ik: -mla 0 all heads, 1 without flash attention K and V, else K alone.
    """
    if cache.indexer_dim and setting.program != "ik_llamacpp" and not _unindexed(kind, setting):
        _check_dsa(setting, name)
    latent, joined = cache.latent_dim, cache.latent_dim + cache.rope_dim
    ik = setting.program == "ik_llamacpp"
    plain = setting.mla_mode == 0 if ik else latent_build(setting) < MLA_SINCE
    if plain and isinstance(mixer, LatentAttention):
        return mixer.heads * fmt.k.vector_bytes(mixer.nope_dim + mixer.rope_dim), mixer.heads * fmt.v.vector_bytes(
            mixer.v_dim
        )
    with_v = setting.mla_mode == 1 and not setting.flash if ik else latent_build(setting) < NO_V_SINCE
    return fmt.k.vector_bytes(joined), fmt.v.vector_bytes(latent) if with_v else 0


def state_bytes(cache: Recurrent, name: str) -> int:
    """Counts one sequence's state in one layer, all fp32; a convolution keeps its columns less one.

    R = (d_conv - 1) · (d_inner + 2 · n_group · d_state) · 4 B, S = d_state · d_inner · 4 B; of hashed n-grams
    P = (d_conv - 1) · n · streams · hidden · 4 B, all of them.
    """
    if cache.label in ("rg-lru", "rwkv"):
        raise UnsupportedModel(f"{name}: llama.cpp's state of {cache.label} layers is not modelled; leave --engine out")
    return sum(
        (part.elements // part.columns * (part.columns - (part.name != NGRAMS)) if part.columns else part.elements)
        * FP32
        for part in cache.parts
    )
