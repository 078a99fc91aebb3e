"""llama.cpp and its relatives (ik_llama.cpp, ollama, LM Studio): cells, streams, window caches, compute buffers.

Sources: llama.cpp `llama-context.cpp`, `llama-kv-cache.cpp`, `llama-kv-cache-iswa.cpp`,
`llama-memory-recurrent.cpp`; pull requests 12801 (MLA), 13194 and 13833 (window cells), 14363 (streams), 17046
(padding), 19067 (no V beside a latent); ik_llama.cpp's -mla modes. Builds are numbers of the b-tags; those of a
pull request are the first tag after its merge, to within some tens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import FLOAT_BYTES, kv_format
from planner.engines.base import LATEST, EngineAnswer, Options, Pool, Ranged, parse_version, want
from planner.engines.vllm import logical_bytes
from planner.errors import UnsupportedModel
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.model.attention import Chunked, Full, SlidingWindow
from planner.model.cache import Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent, LatentAttention
from planner.model.mlp import Mlp, Moe
from planner.model.recurrent import Recurrent
from planner.units import GIB, MAX_TOKENS, MIB, ceil_div, human_bytes

MLA_SINCE, NO_V_SINCE = 5134, 7830
WINDOWS_SINCE, WINDOWS_BY_UBATCH_SINCE = 5427, 5554
STREAMS_SINCE = 5913
PADDED_SINCE = 6980
LOGITS_OF_OUTPUTS_SINCE = 7500
IK_WITHOUT_MTP_SINCE = 3961
DEFAULT_UBATCH, DEFAULT_BATCH = 512, 2048
FAMILY = ("llamacpp", "ik_llamacpp", "ollama", "lmstudio")
FP32 = FLOAT_BYTES["fp32"]
IK_MTP_TYPES = ("glm4_moe", "glm4v_moe")


@dataclass(frozen=True)
class Setting:
    """A program and build, with the flags filled in. `seq_cells`: cells of one stream, `streams` of them."""

    program: str
    build: int
    n_ctx: int
    slots: int
    streams: int
    seq_cells: int
    ubatch: int
    batch: int
    flash: bool
    pad: int
    swa_full: bool
    mla_mode: int


@dataclass(frozen=True)
class Buffers:
    """What the program allocates for the cache."""

    full: int
    window: int
    window_cells: int
    state: int
    full_layers: int
    window_layers: int
    state_layers: int
    k: int
    v: int

    @property
    def total(self) -> int:
        return self.full + self.window + self.state


def answer(estimate: Estimate, options: Options, version: str | None, program: str | None = None) -> EngineAnswer:
    """Cache buffers, compute buffer and start-up lines of one program of the family."""
    program = program or "llamacpp"
    build = build_of(version, program)
    estimate = _with_f16(estimate)
    setting = settings(estimate, options, build, program)
    if options.pool_bytes is not None and options.ctx_size is None:
        setting = _largest_context(estimate, options, build, program, options.pool_bytes)
    found = buffers(estimate, setting, options)
    compute = compute_buffer(estimate, setting)
    one = _one_request(estimate, options, build, program, setting)
    pool = _pool(found, setting, estimate)
    seq = estimate.request.seq_tokens
    most = (
        setting.slots
        if seq <= setting.seq_cells and setting.streams > 1
        else min(setting.slots, setting.seq_cells // seq)
    )
    weights = estimate.per_device.weight_bytes + estimate.per_device.resident_bytes
    if options.pool_bytes is not None and found.total > options.pool_bytes:
        most = 0
    held = weights + found.total + compute.bytes + GIB // 2
    reasons = _reasons(found, setting, estimate)
    if estimate.capacity is not None and held > estimate.capacity.bytes:
        most = 0
        reasons += (
            f"weights, cells and buffers are {human_bytes(held)} for {human_bytes(estimate.capacity.bytes)}: fewer layers "
            "on the device with --n-gpu-layers, or a shorter context",
        )
    return EngineAnswer(
        name=program,
        version=version or ("2026" if program == "llamacpp" else "as modelled"),
        request_tokens=seq,
        request_bytes=one,
        logical_bytes=logical_bytes(estimate),
        ranged=Ranged(pool, pool, pool),
        block_tokens=setting.pad,
        compute_buffer=compute,
        overhead=Estimated(GIB // 2, GIB // 8, GIB, "context of the device backend"),
        fits=most >= min(estimate.request.batch, setting.slots),
        most_requests=most,
        lines=_lines(found, setting, estimate),
        reasons=reasons,
        assumptions=_assumptions(setting, estimate, version),
    )


def build_of(version: str | None, program: str) -> int:
    """The number of a b-tag; the newest rules where none is named, and for programs with versions of their own."""
    number = (parse_version(version) if version else None) or LATEST
    return number[0] if program in ("llamacpp", "ik_llamacpp") else LATEST[0]


def _with_f16(estimate: Estimate) -> Estimate:
    """The family keeps K and V in f16 unless flags say otherwise, whatever the model runs in."""
    request = estimate.request
    f16 = kv_format("fp16")
    k = estimate.fmt.k if request.k_dtype else f16
    v = estimate.fmt.v if request.v_dtype else f16
    return replace(estimate, fmt=CacheFormat(k, v, estimate.fmt.model_dtype_bytes))


def settings(estimate: Estimate, options: Options, build: int, program: str) -> Setting:
    """Cells and streams.

    From b6980 (PR 17046) the context is padded to 256; one stream of it when unified, else a stream a slot of
    pad256(n_ctx / slots) each, which may come to more than n_ctx. Before, padding is 256 with flash attention
    and 32 without, and before b5913 there is one stream. ik_llama.cpp has one stream and the older padding.
    """
    slots = want(options.parallel, estimate.request.batch, "--parallel")
    n_ctx = want(options.ctx_size or options.max_model_len, estimate.request.seq_tokens * slots, "--ctx-size")
    mainline = program != "ik_llamacpp"
    new = mainline and build >= PADDED_SINCE
    flash = options.flash_attn if options.flash_attn is not None else (mainline and build >= PADDED_SINCE)
    pad = 256 if flash or new else 32
    streams = slots if mainline and build >= STREAMS_SINCE and not options.kv_unified and program != "ollama" else 1
    cells = -(-ceil_div(n_ctx, 1) // streams) if not new else (ceil_div(n_ctx, 256) * 256) // streams
    seq_cells = ceil_div(max(cells, 1), pad) * pad
    ubatch = min(want(options.ubatch_size, DEFAULT_UBATCH, "--ubatch-size"), max(n_ctx, 1))
    swa_full = options.swa_full or program in ("ik_llamacpp", "ollama", "lmstudio") or build < WINDOWS_SINCE
    return Setting(
        program, build, n_ctx, slots, streams, seq_cells, ubatch, want(options.batch_size, DEFAULT_BATCH, "--batch-size"),
        flash, pad, swa_full, 3 if options.mla_mode is None else options.mla_mode,
    )  # fmt: skip


def _largest_context(estimate: Estimate, options: Options, build: int, program: str, pool: int) -> Setting:
    """The longest context whose buffers stay within `pool`, not beyond the model's positions for every slot."""

    def at(n: int) -> Setting:
        return settings(estimate, replace(options, ctx_size=n), build, program)

    slots = options.parallel or estimate.request.batch
    longest = (estimate.spec.max_positions or estimate.request.seq_tokens) * slots
    best = largest(lambda n: buffers(estimate, at(n), options).total <= pool, min(longest, MAX_TOKENS))
    return at(max(best, 1))


def window_cells(setting: Setting, window: int) -> int:
    """Cells of a window layer in one stream.

    pad(min(stream, window · sequences of the stream + ubatch)); the first version (b5427 to b5553) used the
    batch for the ubatch; up to 2025 the stream's own length was not padded again.
    """
    if setting.swa_full:
        return setting.seq_cells
    sequences = setting.slots if setting.streams == 1 else 1
    step = setting.batch if setting.build < WINDOWS_BY_UBATCH_SINCE else setting.ubatch
    wanted = ceil_div(window * sequences + step, setting.pad) * setting.pad
    return min(setting.seq_cells, wanted)


def buffers(estimate: Estimate, setting: Setting, options: Options) -> Buffers:
    """Bytes of the K, V and state buffers: layers · cells · streams · bytes of a row."""
    spec, fmt = estimate.spec, estimate.fmt
    if spec.encoder:
        raise UnsupportedModel(
            f"{spec.name}: encoder-decoders are not modelled for {setting.program}; leave --engine out"
        )
    split = has_window_cache(estimate)
    sums = dict.fromkeys(Buffers.__dataclass_fields__, 0)
    for layer, count in spec.groups:
        for cache, mixer in zip(layer.caches, layer.mixers, strict=True):
            if isinstance(cache, Shared) or cache.kind == "no cache":
                continue
            if isinstance(cache, Recurrent):
                sums["state"] += (
                    count * state_bytes(cache, spec.name) * setting.slots * (1 + options.num_speculative_tokens)
                )
                sums["state_layers"] += count
                continue
            if isinstance(cache, Latent):
                k, v = _latent_row(cache, mixer, setting, fmt, spec.name)
            elif isinstance(cache, Full) and not isinstance(cache, Cross):
                k, v = (
                    cache.kv_heads * fmt.k.vector_bytes(cache.k_dim),
                    cache.kv_heads * fmt.v.vector_bytes(cache.v_dim),
                )
            else:
                raise UnsupportedModel(
                    f"{spec.name}: how {setting.program} keeps {cache.kind} is not modelled; leave --engine out"
                )
            limit = (
                cache.window if isinstance(cache, SlidingWindow) else cache.chunk if isinstance(cache, Chunked) else 0
            )
            windowed = bool(limit) and split
            cells = (window_cells(setting, limit) if windowed else setting.seq_cells) * setting.streams
            if windowed:
                sums["window_cells"] = cells // setting.streams
            sums["window" if windowed else "full"] += count * cells * (k + v)
            sums["window_layers" if windowed else "full_layers"] += count
            sums["k"] += count * cells * k
            sums["v"] += count * cells * v
    _add_mtp(sums, estimate, setting)
    return Buffers(**sums)


def _add_mtp(sums: dict[str, int], estimate: Estimate, setting: Setting) -> None:
    """ik_llama.cpp before b3961 also allocates GLM-4.5's multi-token-prediction layers (47 for 46, 93 for 92)."""
    extra = estimate.spec.config.get("num_nextn_predict_layers", 1)
    if setting.program != "ik_llamacpp" or setting.build >= IK_WITHOUT_MTP_SINCE:
        return
    if estimate.spec.model_type not in IK_MTP_TYPES or not isinstance(extra, int) or not sums["full_layers"]:
        return
    for key in ("full", "k", "v"):
        sums[key] += sums[key] // sums["full_layers"] * extra
    sums["full_layers"] += extra


def has_window_cache(estimate: Estimate) -> bool:
    """A window cache of its own where windows and full layers alternate; a model of windows alone is kept in full."""
    kinds = {type(cache) for layer, _ in estimate.spec.groups for cache in layer.caches}
    return bool(kinds & {SlidingWindow, Chunked}) and Full in kinds


def _latent_row(cache: Latent, mixer: object, setting: Setting, fmt: CacheFormat, name: str) -> tuple[int, int]:
    """(K, V) bytes of a token in one MLA layer.

    llama.cpp: all heads before b5134 (PR 12801), K latent + rope and V latent to b7829, then K alone. ik: -mla 0
    all heads, 1 without flash attention K and V, else K alone.
    """
    if cache.indexer_dim:
        raise UnsupportedModel(
            f"{name}: how {setting.program} keeps a sparse indexer's keys is not modelled; leave --engine out"
        )
    latent, joined = cache.latent_dim, cache.latent_dim + cache.rope_dim
    ik = setting.program == "ik_llamacpp"
    plain = setting.mla_mode == 0 if ik else setting.build < MLA_SINCE
    if plain and isinstance(mixer, LatentAttention):
        return mixer.heads * fmt.k.vector_bytes(mixer.nope_dim + mixer.rope_dim), mixer.heads * fmt.v.vector_bytes(
            mixer.v_dim
        )
    with_v = setting.mla_mode == 1 and not setting.flash if ik else setting.build < NO_V_SINCE
    return fmt.k.vector_bytes(joined), fmt.v.vector_bytes(latent) if with_v else 0


def state_bytes(cache: Recurrent, name: str) -> int:
    """One sequence's state in one layer, all fp32; a convolution keeps its columns less one.

    R = (d_conv - 1) · (d_inner + 2 · n_group · d_state) · 4 B, S = d_state · d_inner · 4 B.
    """
    if cache.label in ("rg-lru", "rwkv"):
        raise UnsupportedModel(f"{name}: llama.cpp's state of {cache.label} layers is not modelled; leave --engine out")
    return sum(
        (part.elements // part.columns * (part.columns - 1) if part.columns else part.elements) * FP32
        for part in cache.parts
    )


def _one_request(estimate: Estimate, options: Options, build: int, program: str, setting: Setting) -> int:
    """What one slot takes: its stream, or the cells of a unified cache that the request fills."""
    own = replace(options, ctx_size=estimate.request.seq_tokens, parallel=1, kv_unified=True)
    return buffers(estimate, replace(settings(estimate, own, build, program), swa_full=setting.swa_full), own).total


def _pool(found: Buffers, setting: Setting, estimate: Estimate) -> Pool:
    cells = setting.seq_cells * setting.streams
    seq = estimate.request.seq_tokens
    at_once = Fraction(setting.slots) if setting.streams > 1 else Fraction(cells, seq)
    extra: dict[str, Any] = {
        "kv_bytes": found.full + found.window, "kv_full_bytes": found.full, "kv_swa_bytes": found.window, "state_bytes": found.state,
        "k_bytes": found.k, "v_bytes": found.v, "kv_full_cells": setting.seq_cells, "kv_swa_cells": found.window_cells or None,
        "streams": setting.streams, "slots": setting.slots, "ctx_size": setting.n_ctx,
    }  # fmt: skip
    return Pool(found.total, cells, cells // setting.pad, setting.pad, setting.seq_cells, at_once, extra)


def _ff_width(estimate: Estimate) -> int:
    """Widest intermediate vector of a token: a dense MLP's, or those of its active and shared experts."""
    widths = [0]
    for layer, _ in estimate.spec.groups:
        for mlp in layer.mlps:
            if isinstance(mlp, Mlp):
                widths.append(mlp.width)
            elif isinstance(mlp, Moe):
                widths.append(mlp.active * mlp.expert_width + mlp.shared_width)
    return max(widths)


def compute_buffer(estimate: Estimate, setting: Setting) -> Estimated:
    """The device's compute buffer, ub = min(ubatch, n_ctx):

    max of logits ub · (vocab + hidden) · 4, from about b7500 (which reserves them for outputs only) the layer's own
    vectors ub · (3 · ff + 5 · hidden) · 4, and without flash attention the scores
    ub · cells · (heads + 1) · 4 + 5 · ub · hidden · 4.
    Leaves out pipeline copies of several devices, dequantised K and V of MLA and copies of offloaded experts: for
    MoE and MLA models it is a lower bound, and the range says so.
    """
    spec = estimate.spec
    ub, hidden = setting.ubatch, spec.hidden
    heads = max((mixer.score_heads for layer, _ in spec.groups for mixer in layer.mixers), default=0)
    vectors = ub * (3 * _ff_width(estimate) + 5 * hidden) * FP32
    logits = ub * (spec.vocab + hidden) * FP32
    outputs_only = setting.program != "ik_llamacpp" and setting.build >= LOGITS_OF_OUTPUTS_SINCE
    sizes = [vectors] if outputs_only else [logits]
    scores = 0
    if not setting.flash:
        scores = ub * setting.seq_cells * (heads + 1) * FP32 + 5 * ub * hidden * FP32
        sizes.append(scores)
    size = max(sizes)
    latent = any(isinstance(cache, Latent) for layer, _ in spec.groups for cache in layer.caches)
    experts = any(isinstance(mlp, Moe) for layer, _ in spec.groups for mlp in layer.mlps)
    low = min(size, max(vectors, scores)) * 85 // 100
    high = max(size, logits) * 5 // 4
    if latent:
        return Estimated(size, low, high * 3 + 9 * GIB, "lower bound: MLA dequantises K and V on top")
    if experts:
        return Estimated(size, low, high * 4 + 512 * MIB, "lower bound: copies of offloaded experts come on top")
    return Estimated(size, low, high, "logits, scores and the layer's vectors of one ubatch")


def _mib(size: int) -> str:
    return f"{size / MIB:.2f} MiB"


def _lines(found: Buffers, setting: Setting, estimate: Estimate) -> tuple[str, ...]:
    fmt = estimate.fmt
    names = f"K ({_ggml(fmt.k.name)}): {_mib(found.k)}, V ({_ggml(fmt.v.name)}): {_mib(found.v)}"
    seqs = (
        f"{setting.slots:2d}/{setting.streams} seqs" if setting.build >= STREAMS_SINCE else f"{setting.slots:2d} seqs"
    )
    lines = []
    if setting.program == "ik_llamacpp" or setting.build < WINDOWS_SINCE:
        lines.append(f"llama_new_context_with_model: KV self size  = {_mib(found.full + found.window)}, {names}")
        return tuple(lines)
    if found.full_layers:
        tail = f", {names}" if not found.window_layers else ""
        lines.append(
            f"llama_kv_cache: size = {_mib(found.full)} ({setting.seq_cells:6d} cells, {found.full_layers:3d} layers, {seqs}){tail}"
        )
    if found.window_layers:
        lines.append(
            f"llama_kv_cache: size = {_mib(found.window)} ({found.window_cells:6d} cells, {found.window_layers:3d} layers, {seqs})"
        )
    if found.state:
        lines.append(
            f"llama_memory_recurrent: size = {_mib(found.state)} ({setting.slots:6d} cells, {len(estimate.spec.layers):3d} layers)"
        )
    return tuple(lines)


def _ggml(name: str) -> str:
    return {"fp16": "f16", "fp32": "f32"}.get(name, name)


def _reasons(found: Buffers, setting: Setting, estimate: Estimate) -> tuple[str, ...]:
    reasons = [f"cells are padded to {setting.pad} and allocated at the start, for {setting.slots} slots"]
    if found.window_layers:
        full = setting.seq_cells == found.window_cells
        reasons.append(
            "window layers hold the whole context"
            if full
            else f"window layers hold {found.window_cells:,} cells: the window and one ubatch, padded"
        )
    if found.state:
        reasons.append("recurrent state is kept in f32 and for every slot")
    if any(isinstance(cache, Latent) for layer, _ in estimate.spec.groups for cache in layer.caches):
        reasons.append("MLA: K and V as this build keeps them" if found.v else "MLA: K alone, V is a view of it")
    if setting.streams > 1 and setting.seq_cells * setting.streams > setting.n_ctx:
        reasons.append(
            f"every slot is padded by itself: {setting.seq_cells * setting.streams:,} cells for a context of {setting.n_ctx:,}"
        )
    return tuple(reasons)


def _assumptions(setting: Setting, estimate: Estimate, version: str | None) -> tuple[str, ...]:
    names: Sequence[str] = (
        f"{setting.program} {version or 'of 2026'}",
        f"context {setting.n_ctx:,} in {setting.streams} stream{'s' if setting.streams > 1 else ''}, ubatch {setting.ubatch}, "
        f"flash attention {'on' if setting.flash else 'off'}",
        f"K in {_ggml(estimate.fmt.k.name)}, V in {_ggml(estimate.fmt.v.name)}",
    )
    return tuple(names)
