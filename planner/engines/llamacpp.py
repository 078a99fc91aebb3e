"""llama.cpp and its relatives (ik_llama.cpp, ollama, LM Studio): cells, streams, window caches, compute buffers.

Sources: llama.cpp `llama-context.cpp`, `llama-kv-cache.cpp`, `llama-kv-cache-iswa.cpp`,
`llama-memory-recurrent.cpp`; pull requests 12801 (MLA), 13194 and 13833 (window cells), 14363 (streams), 17046
(padding), 19067 (no V beside a latent); ik_llama.cpp's -mla modes. Builds are numbers of the b-tags; those of a
pull request are the first tag after its merge, to within some tens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.engines import ollama_layers
from planner.engines.base import EngineAnswer, Options, Pool, Ranged, Refusal, caches_of
from planner.engines.llamacpp_buffers import Buffers, buffers
from planner.engines.llamacpp_placement import (
    CONTEXT_BYTES,
    Sizes,
    best,
    fewest_experts,
    lighter,
    most_layers,
    placed,
    sizes,
)
from planner.engines.llamacpp_setting import (
    FP32,
    LOGITS_OF_OUTPUTS_SINCE,
    MLA_OF_ONE_TYPE_SINCE,
    NEWEST,
    PADDED_SINCE,
    STREAMS_SINCE,
    WINDOWS_SINCE,
    Setting,
    build_of,
    settings,
)
from planner.engines.placement import FIT_LEAVES_BYTES, Placed, Placement
from planner.engines.vllm import logical_bytes
from planner.errors import BadRequest, one_line
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.limits import largest
from planner.memory.sharding import Sharding
from planner.model.latent_attention import Latent
from planner.model.latent_window import LatentWindow
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.sparse_attention import Compressed
from planner.units import GIB, MAX_TOKENS, MIB, gib


# long: a field of the answer a line
def answer(
    estimate: Estimate, options: Options, version: str | None, program: str | None = None
) -> EngineAnswer:  # parameters: as every engine
    """Answers for one program of llama.cpp's family: cache buffers, compute buffer and start-up lines."""
    program = program or "llamacpp"
    ranks = estimate.request.sharding
    estimate = _with_f16(replace(estimate, request=replace(estimate.request, sharding=Sharding())))
    _check(estimate, build_of(version, program), program)
    setting = settings(estimate, options, version, program=program)
    if options.pool_bytes is not None and options.ctx_size is None:
        setting = _largest_context(estimate, options, version, asked=setting)
    found = buffers(estimate, setting)
    compute = compute_buffer(estimate, setting)
    one = _one_request(estimate, options, version, setting=setting)
    pool = _pool(found, setting, estimate)
    seq = estimate.request.seq_tokens
    most = (
        setting.slots
        if seq <= setting.seq_cells and setting.streams > 1
        else min(setting.slots, setting.seq_cells // seq)
    )
    where, refusal, ollamas = _layout(estimate, setting, options, compute=compute, ranks=ranks)
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
        overhead=Estimated(CONTEXT_BYTES, GIB // 8, GIB, "context of the device backend"),
        fits=most >= min(estimate.request.batch, setting.slots),
        most_requests=most,
        lines=(*_lines(found, setting, estimate), *_ollama_lines(ollamas)),
        reasons=reasons,
        assumptions=(*_assumptions(setting, estimate, version), *_unread(where)),
        refusal=refusal,
        placed=where,
        extra={} if ollamas is None else ollamas.to_dict(),
    )


def _layout(
    estimate: Estimate, setting: Setting, options: Options, *, compute: Estimated, ranks: Sharding
) -> tuple[Placed | None, Refusal | None, ollama_layers.Predicted | None]:
    """Where weights and cells lie, and why that does not load; the best split where a host's memory is given for it. Of ollama
    also what it says of that.

    llama.cpp lays whole layers on each card (--split-mode layer), the cache of a layer beside its weights.
    """
    if not estimate.spec.weights_known:
        return None, None, None
    asked = options.placement or Placement()
    if ranks.tp > 1 and asked.split == "layer":
        asked = replace(asked, split="row")
    size = None if estimate.capacity is None else estimate.capacity.bytes
    count = ranks.devices if size is not None else max(ranks.devices, len(asked.shares))
    cards = options.cards or (size,) * count
    found = sizes(estimate, setting, compute=compute.bytes, cards=cards)
    ollamas = ollama_layers.predicted(estimate, setting, found) if asked.open else None
    if ollamas is not None:
        asked = _as_ollama(asked, ollamas)
    if options.host_bytes is not None and asked.open and placed(found, asked).short_bytes > 0:
        asked = best(found, asked, FIT_LEAVES_BYTES) or best(found, asked) or asked
    where = placed(found, asked)
    if setting.program == "ollama" and not setting.ollama_engine and size is not None:
        ollamas = ollama_layers.served(where, len(found.layers) + 1)
    if where.short_bytes > 0:
        low = placed(replace(lighter(found, estimate), other=compute.low), asked)
        mends = partial(_mends, found, asked, setting.program)
        return where, Refusal(_too_much(where), mends, sure=low.short_bytes > 0), None
    if options.host_bytes is not None and where.host_bytes > options.host_bytes:
        said = f"the host would hold {gib(where.host_bytes)} and has {gib(options.host_bytes)}"
        return where, Refusal(f"{said}: fewer bits a weight, or more memory"), ollamas
    return where, None, ollamas


def _ollama_lines(ollamas: ollama_layers.Predicted | None) -> tuple[str, ...]:
    return () if ollamas is None else (f"ollama ps: {ollamas.text}",)


def _as_ollama(asked: Placement, ollamas: ollama_layers.Predicted) -> Placement:
    """Puts as many layers on each card as ollama does by its own count."""
    shares = tuple(float(count) for count in ollamas.cards) if sum(1 for count in ollamas.cards if count) else ()
    layers = ollamas.layers if ollamas.layers < ollamas.of else None
    return replace(asked, layers=layers, shares=asked.shares or (shares if len(shares) > 1 else ()))


def _too_much(where: Placed) -> str:
    """What the fullest card would hold."""
    cards = where.cards
    fullest = max(range(len(cards)), key=lambda index: cards[index].short_bytes)
    card = cards[fullest]
    name = "the device" if len(cards) == 1 else f"device {fullest + 1} of {len(cards)}"
    return (
        f"{name} would hold {gib(card.bytes)} (weights {gib(card.weight_bytes)}, cache {gib(card.cache_bytes)}, buffers "
        f"{gib(card.other_bytes)}), and has {gib(card.capacity_bytes or 0)}"
    )


def _mends(found: Sizes, asked: Placement, program: str) -> tuple[str, ...]:
    """The flags that move as little to the host as will do: experts, or layers."""
    experts, layers = fewest_experts(found, asked), most_layers(found, asked)
    moe, ngl = {"koboldcpp": ("--moecpu", "--gpulayers"), "ollama": ("", "num_gpu"), "lmstudio": ("", "")}.get(
        program, ("--n-cpu-moe", "--n-gpu-layers")
    )
    mends = [f"{moe} {experts}"] if experts and moe else []
    mends += [f"{ngl} {layers}"] if layers and ngl else []
    return tuple(mends) or (("--n-gpu-layers", "--ctx-size") if ngl.startswith("--") else ())


def _check(estimate: Estimate, build: int, program: str) -> None:
    """Refuses what llama.cpp refuses: K and V of different types in an MLA cache (`llama_init_from_model`), from b10236."""
    latent = any(isinstance(cache, (Latent, LatentWindow, Compressed)) for cache in caches_of(estimate))
    if (
        latent
        and program != "ik_llamacpp"
        and build >= MLA_OF_ONE_TYPE_SINCE
        and estimate.fmt.k.name != estimate.fmt.v.name
    ):
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


def _largest_context(estimate: Estimate, options: Options, version: str | None, *, asked: Setting) -> Setting:
    """The longest context whose buffers stay within the pool, not beyond the model's positions for every slot."""
    pool = options.pool_bytes or 0

    def at(n: int) -> Setting:
        return settings(estimate, replace(options, ctx_size=n), version, program=asked.program)

    longest = (estimate.spec.max_positions or estimate.request.seq_tokens) * asked.slots
    best = largest(lambda n: buffers(estimate, at(n)).total <= pool, min(longest, MAX_TOKENS))
    return at(max(best, 1))


def _one_request(estimate: Estimate, options: Options, version: str | None, *, setting: Setting) -> int:
    """What one slot takes: its stream, or the cells of a unified cache that the request fills."""
    own = replace(options, ctx_size=estimate.request.seq_tokens, parallel=1, kv_unified=True)
    one = settings(estimate, own, version, program=setting.program)
    return buffers(estimate, replace(one, swa_full=setting.swa_full)).total


def _pool(found: Buffers, setting: Setting, estimate: Estimate) -> Pool:
    cells = setting.seq_cells * setting.streams
    seq = estimate.request.seq_tokens
    at_once = Fraction(setting.slots) if setting.streams > 1 else Fraction(cells, seq)
    extra: dict[str, Any] = {
        "kv_bytes": found.full + found.window + found.index + found.entries, "kv_full_bytes": found.full, "kv_swa_bytes": found.window,
        "kv_index_bytes": found.index, "kv_compressed_bytes": found.entries, "state_bytes": found.state,
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
    """Estimates the device's compute buffer, ub = min(ubatch, n_ctx):

    max of logits ub · (vocab + hidden) · 4 (from b9340 of the slots alone), the layer's own vectors
    ub · (3 · ff + 5 · hidden) · 4 (2 · ff where an MLP has no gate), and without flash attention the scores
    ub · cells · (heads + 1) · 4 + 5 · ub · hidden · 4; with it the mask, fp32 as it came and fp16 as the kernel reads it,
    ub · cells · 6 + 5 · ub · hidden · 4 (Qwen3.5-9B of 262,144 cells: 808.00 MiB, 808.02 printed in llama.cpp PR 22546).
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
    elif setting.program != "ik_llamacpp" and not setting.ollama_engine:
        sizes.append(ub * setting.seq_cells * (FP32 + 2) + 5 * ub * hidden * FP32)
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
    lines += [
        f"llama_kv_cache: size = {_mib(one.bytes)} ({one.cells:6d} cells, {one.layers:3d} layers, {seqs})"
        for one in found.compressed
    ]
    if found.index_layers:
        lines.append(
            f"llama_kv_cache: size = {_mib(found.index)} ({setting.seq_cells:6d} cells, {found.index_layers:3d} layers, {seqs})"
        )
    if found.draft:
        lines.append(f"llama_kv_cache: size = {_mib(found.draft)} ({setting.seq_cells:6d} cells), the drafter's")
    if found.state and not found.compressed:
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
    if estimate.spec.encoder:
        reasons.append(
            "T5: cells for as many layers as the encoder has; K and V of its output are computed in every step, not kept"
        )
    if found.state:
        reasons.append("recurrent state is kept in f32 and for every slot")
    if any(isinstance(cache, Latent) for cache in caches_of(estimate)):
        reasons.append("MLA: K and V as this build keeps them" if found.v else "MLA: K alone, V is a view of it")
    if setting.streams > 1 and setting.seq_cells * setting.streams > setting.n_ctx:
        reasons.append(
            f"every slot is padded by itself: {setting.seq_cells * setting.streams:,} cells for a context of {setting.n_ctx:,}"
        )
    return tuple(reasons)


def _unread(where: Placed | None) -> tuple[str, ...]:
    """What of -ot is counted with its layer because it is not read."""
    if where is None or not where.not_read:
        return ()
    return (f"-ot {one_line(', '.join(where.not_read), 120)} is not read: these tensors are counted with their layers",)


def _assumptions(setting: Setting, estimate: Estimate, version: str | None) -> tuple[str, ...]:
    names: Sequence[str] = (
        f"{setting.program} {version or 'of 2026'}",
        f"context {setting.n_ctx:,} in {setting.streams} stream{'s' if setting.streams > 1 else ''}, ubatch {setting.ubatch}, "
        f"flash attention {'on' if setting.flash else 'off'}",
        f"K in {_ggml(estimate.fmt.k.name)}, V in {_ggml(estimate.fmt.v.name)}",
    )
    if estimate.spec.encoder:
        names = (*names, "an encoder is run by programs that call llama_encode; llama-server does not (issue 26565)")
    return tuple(names)
