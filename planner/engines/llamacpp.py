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
from planner.engines.base import LATEST, EngineAnswer, Options, Pool, Ranged, Refusal, Version, parse_version, want
from planner.engines.drafting import draft_tokens, drafted_caches
from planner.engines.vllm import logical_bytes
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.memory.sharding import stages
from planner.model.attention import Chunked, Full, SlidingWindow
from planner.model.cache import Shared
from planner.model.cross_attention import Cross
from planner.model.latent_attention import Latent, LatentAttention
from planner.model.mlp import Mlp, Moe
from planner.model.recurrent import Recurrent
from planner.model.spec import Layer
from planner.units import GIB, MAX_TOKENS, MIB, ceil_div, human_bytes

MLA_SINCE, NO_V_SINCE = 5134, 7830
WINDOWS_SINCE, WINDOWS_BY_UBATCH_SINCE = 5427, 5554
STREAMS_SINCE = 5913
PADDED_SINCE = 6980
AUTO_SLOTS_SINCE = 6925  # llama-server without -np: 4 slots over one unified cache (PR 16736, PR 17997)
LOGITS_OF_OUTPUTS_SINCE = 9340  # PR 23861 of June 2026: logits of the slots alone, before of the whole ubatch
# ollama: windows as windows in its own engine (0.6.3), a llama-server for every GGUF from 0.30 (PR 16031).
OLLAMA_WINDOWS_SINCE: Version = (0, 6, 3)
OLLAMA_SERVER_SINCE: Version = (0, 30)
OLLAMA_ENGINE_TYPES = ("gemma3", "gemma3n", "gemma4", "gpt_oss", "gpt-oss", "llama4", "mistral3", "olmo3")
GPT_OSS_MEMORY = 4096  # tokens that ollama's engine keeps of gpt-oss' windows of 128 (NewSWAMemCache)
LMSTUDIO_WINDOWS_SINCE: Version = (2, 11)
# Architectures whose state can be rolled back (`llm_arch_supports_rs_rollback`); elsewhere n_rs_seq is set to 0.
ROLLBACK = (
    "qwen3_5",
    "qwen35",
    "qwen4exp",
    "qwen4_exp",
    "kimi_k3",
    "kimi-k3",
    "nemotron_h",
    "lfm2",
    "deepseek4",
    "glm5_next",
    "glm5-next",
    "bailingmoe3",
)
IK_WITHOUT_MTP_SINCE = 3961
DEFAULT_UBATCH, DEFAULT_BATCH = 512, 2048
# The newest release that the rules were held against, on 2026-11-29.
NEWEST = {"llamacpp": "v0.5.0", "ollama": "0.32.15", "lmstudio": "2.11 or later"}
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
    version: Version = LATEST
    snapshots: int = 0

    @property
    def ollama_engine(self) -> bool:
        """ollama before 0.30: its own engine or the llama.cpp that was linked in, one pool for all slots."""
        return self.program == "ollama" and self.version < OLLAMA_SERVER_SINCE


Groups = Sequence[tuple[Layer, int]]


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
    draft: int = 0

    @property
    def total(self) -> int:
        return self.full + self.window + self.state + self.draft


def answer(estimate: Estimate, options: Options, version: str | None, program: str | None = None) -> EngineAnswer:
    """Cache buffers, compute buffer and start-up lines of one program of the family."""
    program = program or "llamacpp"
    estimate = _with_f16(estimate)
    _check(estimate, build_of(version, program), program)
    setting = settings(estimate, options, version, program)
    if options.pool_bytes is not None and options.ctx_size is None:
        setting = _largest_context(estimate, options, version, setting)
    found = buffers(estimate, setting)
    compute = compute_buffer(estimate, setting)
    one = _one_request(estimate, options, version, setting)
    pool = _pool(found, setting, estimate)
    seq = estimate.request.seq_tokens
    most = (
        setting.slots
        if seq <= setting.seq_cells and setting.streams > 1
        else min(setting.slots, setting.seq_cells // seq)
    )
    refusal = _too_much(estimate, setting, compute)
    if options.pool_bytes is not None and found.total > options.pool_bytes:
        most = 0
    reasons = _reasons(found, setting, estimate)
    if refusal is not None:
        most, reasons = 0, (*reasons, refusal.text)
    return EngineAnswer(
        name=program,
        version=version or NEWEST.get(program, "as modelled"),
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
        refusal=refusal,
    )


def held_bytes(estimate: Estimate, setting: Setting, compute: int) -> list[int]:
    """What each card holds: its layers' weights and cells, a compute buffer and half a GiB of the backend.

    llama.cpp lays whole layers on each card (--split-mode layer), the cache of a layer beside its weights.
    """
    parts = zip(estimate.stages, stages(estimate.spec, estimate.request.sharding.pp), strict=True)
    held = [
        device.weight_bytes + device.resident_bytes + buffers(estimate, setting, layers).total + compute + GIB // 2
        for device, layers in parts
    ]
    held[-1] += draft_bytes(estimate, setting)
    return held


def _too_much(estimate: Estimate, setting: Setting, compute: Estimated) -> Refusal | None:
    """Why it does not load: a card holds less than the layers that it would get."""
    if estimate.capacity is None:
        return None
    held = held_bytes(estimate, setting, compute.bytes)
    if max(held) <= estimate.capacity.bytes:
        return None
    where = f" on card {held.index(max(held))} of {len(held)}" if len(held) > 1 else ""
    return Refusal(
        f"weights, cells and buffers are {human_bytes(max(held))} for {human_bytes(estimate.capacity.bytes)}{where}: fewer "
        "layers on the device with --n-gpu-layers, or a shorter context",
        ("--n-gpu-layers", "--ctx-size"),
        sure=max(held_bytes(estimate, setting, compute.low)) - GIB // 2 > estimate.capacity.bytes,
    )


def build_of(version: str | None, program: str) -> int:
    """The number of a b-tag; the newest rules where none is named, for releases by three numbers (0.5.0, from 2026),
    and for programs with versions of their own.

    >>> build_of("b6900", "llamacpp"), build_of("v0.5.0", "llamacpp") == build_of(None, "llamacpp")
    (6900, True)
    """
    number = (parse_version(version) if version else None) or LATEST
    return number[0] if program in ("llamacpp", "ik_llamacpp") and len(number) == 1 else LATEST[0]


def _check(estimate: Estimate, build: int, program: str) -> None:
    """Refuses what llama.cpp refuses: K and V of different types in an MLA cache (`llama_init_from_model`)."""
    latent = any(isinstance(cache, Latent) for layer, _ in estimate.spec.groups for cache in layer.caches)
    if latent and program != "ik_llamacpp" and build >= NO_V_SINCE and estimate.fmt.k.name != estimate.fmt.v.name:
        raise BadRequest(
            f"{estimate.spec.name}: {program} wants K and V of one type in an MLA cache, not {estimate.fmt.k.name} and "
            f"{estimate.fmt.v.name}; give --k-dtype and --v-dtype the same"
        )


def _with_f16(estimate: Estimate) -> Estimate:
    """The family keeps K and V in f16 unless flags say otherwise, whatever the model runs in."""
    request = estimate.request
    f16 = kv_format("fp16")
    k = estimate.fmt.k if request.k_dtype else f16
    v = estimate.fmt.v if request.v_dtype else f16
    return replace(estimate, fmt=CacheFormat(k, v, estimate.fmt.model_dtype_bytes))


def settings(estimate: Estimate, options: Options, version: str | None, program: str) -> Setting:
    """Cells and streams.

    From b6980 (PR 17046) the context is padded to 256; one stream of it when unified, else a stream a slot of
    pad256(n_ctx / slots) each, which may come to more than n_ctx. Before, padding is 256 with flash attention
    and 32 without, and before b5913 there is one stream; hybrids held the whole context in every stream.
    ik_llama.cpp has one stream and the older padding. The ubatch is at most the batch, and both at most the context.
    """
    build = build_of(version, program)
    number = (parse_version(version) if version else None) or LATEST
    slots = want(options.parallel, estimate.request.batch, "--parallel")
    n_ctx = want(options.ctx_size or options.max_model_len, estimate.request.seq_tokens * slots, "--ctx-size")
    mainline = program != "ik_llamacpp"
    new = mainline and build >= PADDED_SINCE
    flash = options.flash_attn if options.flash_attn is not None else new
    pad = 256 if flash or new else 32
    one_pool = options.kv_unified or (program == "ollama" and number < OLLAMA_SERVER_SINCE)
    streams = slots if mainline and build >= STREAMS_SINCE and not one_pool else 1
    whole = ceil_div(n_ctx, 256) * 256 if new else n_ctx
    if streams > 1 and not new and _has_states(estimate):
        whole *= streams
    batch = min(want(options.batch_size, DEFAULT_BATCH, "--batch-size"), max(n_ctx, 1))
    return Setting(
        program=program, build=build, n_ctx=n_ctx, slots=slots, streams=streams,
        seq_cells=ceil_div(max(ceil_div(whole, streams), 1), pad) * pad,
        ubatch=min(want(options.ubatch_size, DEFAULT_UBATCH, "--ubatch-size"), batch), batch=batch, flash=flash, pad=pad,
        swa_full=options.swa_full or not _keeps_windows(estimate, build, number, program),
        mla_mode=3 if options.mla_mode is None else options.mla_mode, version=number,
        snapshots=draft_tokens(estimate, options) if _rolls_back(estimate, program) else 0,
    )  # fmt: skip


def _has_states(estimate: Estimate) -> bool:
    return any(isinstance(cache, Recurrent) for layer, _ in estimate.spec.groups for cache in layer.caches)


def _rolls_back(estimate: Estimate, program: str) -> bool:
    """Tells whether drafts keep snapshots of the recurrent state (`llm_arch_supports_rs_rollback`)."""
    kind = estimate.spec.model_type.removeprefix("gguf ")
    return program == "ik_llamacpp" or kind.startswith(ROLLBACK)


def _keeps_windows(estimate: Estimate, build: int, version: Version, program: str) -> bool:
    """Tells whether layers with a window keep the window alone, by program and release.

    llama.cpp from b5427; LM Studio from its engine 2.11; ollama in its own engine from 0.6.3 (the types it has) and
    for all from 0.30; ik_llama.cpp not.
    """
    if program == "ik_llamacpp":
        return False
    if program == "lmstudio":
        return version >= LMSTUDIO_WINDOWS_SINCE
    if program == "ollama" and version < OLLAMA_SERVER_SINCE:
        kind = estimate.spec.model_type.removeprefix("gguf ")
        return version >= OLLAMA_WINDOWS_SINCE and kind.startswith(OLLAMA_ENGINE_TYPES)
    return build >= WINDOWS_SINCE


def _largest_context(estimate: Estimate, options: Options, version: str | None, asked: Setting) -> Setting:
    """The longest context whose buffers stay within the pool, not beyond the model's positions for every slot."""
    pool = options.pool_bytes or 0

    def at(n: int) -> Setting:
        return settings(estimate, replace(options, ctx_size=n), version, asked.program)

    longest = (estimate.spec.max_positions or estimate.request.seq_tokens) * asked.slots
    best = largest(lambda n: buffers(estimate, at(n)).total <= pool, min(longest, MAX_TOKENS))
    return at(max(best, 1))


def window_cells(setting: Setting, window: int) -> int:
    """Cells of a window layer in one stream.

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


def buffers(estimate: Estimate, setting: Setting, groups: Groups | None = None) -> Buffers:
    """Bytes of the K, V and state buffers: layers · cells · streams · bytes of a row; of all layers, or of `groups`."""
    spec, fmt = estimate.spec, estimate.fmt
    if spec.encoder:
        raise UnsupportedModel(
            f"{spec.name}: encoder-decoders are not modelled for {setting.program}; leave --engine out"
        )
    split = has_window_cache(estimate)
    widest = _widest_v(estimate)
    sums = dict.fromkeys(Buffers.__dataclass_fields__, 0)
    for layer, count in spec.groups if groups is None else groups:
        for cache, mixer in zip(layer.caches, layer.mixers, strict=True):
            if isinstance(cache, Shared) or cache.kind == "no cache":
                continue
            if isinstance(cache, Recurrent):
                sums["state"] += count * state_bytes(cache, spec.name) * setting.slots * (1 + setting.snapshots)
                sums["state_layers"] += count
                continue
            if isinstance(cache, Latent):
                k, v = _latent_row(cache, mixer, setting, fmt, spec.name)
            elif isinstance(cache, Full) and not isinstance(cache, Cross):
                k, v = (
                    fmt.k.vector_bytes(cache.kv_heads * cache.k_dim),
                    fmt.v.vector_bytes(cache.kv_heads * cache.v_dim if setting.flash else widest),
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
    if groups is None:
        _add_mtp(sums, estimate, setting)
        sums["draft"] = draft_bytes(estimate, setting)
    return Buffers(**sums)


def draft_bytes(estimate: Estimate, setting: Setting) -> int:
    """A drafter's own cache (-md, or MTP layers with --spec-type draft-mtp): cells of the whole context in f16.

    Its context is as long as all slots together, whichever way the build lays it out (PR 10586: one of each slot's
    length; since 2026 one for all, issue 28433), and its types are f16 unless --cache-type-k-draft says otherwise.
    """
    f16 = kv_format("fp16")
    rows = 0
    for cache in drafted_caches(estimate):
        if isinstance(cache, Latent):
            rows += f16.vector_bytes(cache.latent_dim + cache.rope_dim)
        elif isinstance(cache, Full):
            rows += cache.kv_heads * (f16.vector_bytes(cache.k_dim) + f16.vector_bytes(cache.v_dim))
        else:
            raise UnsupportedModel(
                f"how {setting.program} keeps a drafter's {cache.kind} is not modelled; leave --drafter out"
            )
    return rows * setting.seq_cells * setting.streams


def _widest_v(estimate: Estimate) -> int:
    """Numbers of the widest V row: without flash attention the rows of all layers are padded to it."""
    found = [c for layer, _ in estimate.spec.groups for c in layer.caches if isinstance(c, Full)]
    return max((cache.kv_heads * cache.v_dim for cache in found), default=0)


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


def _one_request(estimate: Estimate, options: Options, version: str | None, setting: Setting) -> int:
    """What one slot takes: its stream, or the cells of a unified cache that the request fills."""
    own = replace(options, ctx_size=estimate.request.seq_tokens, parallel=1, kv_unified=True)
    one = settings(estimate, own, version, setting.program)
    return buffers(estimate, replace(one, swa_full=setting.swa_full)).total


def _pool(found: Buffers, setting: Setting, estimate: Estimate) -> Pool:
    cells = setting.seq_cells * setting.streams
    seq = estimate.request.seq_tokens
    at_once = Fraction(setting.slots) if setting.streams > 1 else Fraction(cells, seq)
    extra: dict[str, Any] = {
        "kv_bytes": found.full + found.window, "kv_full_bytes": found.full, "kv_swa_bytes": found.window, "state_bytes": found.state,
        "k_bytes": found.k, "v_bytes": found.v, "kv_full_cells": setting.seq_cells, "kv_swa_cells": found.window_cells or None,
        "draft_cache_bytes": found.draft, "streams": setting.streams, "slots": setting.slots, "ctx_size": setting.n_ctx,
    }  # fmt: skip
    return Pool(found.total, cells, cells // setting.pad, setting.pad, setting.seq_cells, at_once, extra)


def _mlp_numbers(estimate: Estimate) -> int:
    """Numbers that the widest MLP has alive for a token: up, gate (where there is one) and their product, of the
    active and shared experts together."""
    alive = [0]
    for layer, _ in estimate.spec.groups:
        for mlp in layer.mlps:
            if isinstance(mlp, Mlp):
                alive.append((3 if mlp.gated else 2) * mlp.width)
            elif isinstance(mlp, Moe):
                alive.append((3 if mlp.gated else 2) * (mlp.active * mlp.expert_width + mlp.shared_width))
    return max(alive)


def compute_buffer(estimate: Estimate, setting: Setting) -> Estimated:
    """The device's compute buffer, ub = min(ubatch, n_ctx):

    max of logits ub · (vocab + hidden) · 4 (from b9340 of the slots alone), the layer's own vectors
    ub · (3 · ff + 5 · hidden) · 4 (2 · ff where an MLP has no gate), and without flash attention the scores
    ub · cells · (heads + 1) · 4 + 5 · ub · hidden · 4.
    Leaves out pipeline copies of several devices, dequantised K and V of MLA and copies of offloaded experts: for
    MoE and MLA models it is a lower bound, and the range says so.
    """
    spec = estimate.spec
    ub, hidden = setting.ubatch, spec.hidden
    heads = max((mixer.score_heads for layer, _ in spec.groups for mixer in layer.mixers), default=0)
    vectors = ub * (_mlp_numbers(estimate) + 5 * hidden) * FP32
    logits = ub * (spec.vocab + hidden) * FP32
    outputs_only = setting.program != "ik_llamacpp" and setting.build >= LOGITS_OF_OUTPUTS_SINCE
    sizes = [vectors] if outputs_only else [logits, vectors] if setting.build >= PADDED_SINCE else [logits]
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
    if found.draft:
        lines.append(f"llama_kv_cache: size = {_mib(found.draft)} ({setting.seq_cells:6d} cells), the drafter's")
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
    if found.draft:
        reasons.append("the drafter has a cache of its own, as long as all slots together, in f16")
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
