"""The same GPT over several processes: each rank keeps its share of every layer.

    torchrun --nproc-per-node 2 -m kvplan profile gpt2 --tp 2

q, k, v and the MLP's first matrix are split by rows (heads, width), the second matrices by columns; their outputs
are partial sums, added up by an all-reduce after attention and after the MLP. KV heads are split, and copied where
there are more ranks than heads. Embedding, head, norms, routers and latents are whole on each rank. The model is
built whole and then cut, so one rank needs room for it for a moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from planner.errors import BadRequest
from planner.memory.cache_strategies import STRATEGIES, layer_shapes
from planner.model.spec import ModelSpec
from profiler import memory, speed
from profiler.caches import make_cache
from profiler.device import Device, choose
from profiler.generate import decode_step, prefill
from profiler.gpt import GPT, Attention, LatentAttention, Layer, Mlp, Moe
from profiler.layout import Layout, faster_layout
from profiler.linear import Linear
from profiler.measure import laps, measure
from profiler.profile import CHECK_MAX_TOKENS, DECODE_TOKENS, Profile, Settings, no_gradients
from profiler.results import Check, Measurement, Reading


def rank_of(units: int, tp: int, rank: int) -> slice:
    """Returns the units of one rank: units / tp in a row, or the one that it shares with its neighbours.

    >>> rank_of(8, 2, 1), rank_of(2, 4, 3)
    (slice(4, 8, None), slice(1, 2, None))
    """
    if units >= tp:
        if units % tp:
            raise BadRequest(f"--tp {tp} does not divide {units} KV heads")
        each = units // tp
        return slice(rank * each, (rank + 1) * each)
    if tp % units:
        raise BadRequest(f"--tp {tp}: {units} KV heads cannot be copied evenly")
    at = rank * units // tp
    return slice(at, at + 1)


def _keep_rows(linear: Linear, rows: Tensor) -> None:
    """Only these outputs."""
    assert linear.weight is not None
    linear.weight = nn.Parameter(linear.weight[rows].clone(), requires_grad=False)
    linear.outputs = len(rows)
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias[rows].clone(), requires_grad=False)


def _keep_columns(linear: Linear, columns: Tensor, rank: int) -> None:
    """Only these inputs: the output is a partial sum, and the bias is added by rank 0 alone."""
    assert linear.weight is not None
    linear.weight = nn.Parameter(linear.weight[:, columns].clone(), requires_grad=False)
    linear.inputs = len(columns)
    if linear.bias is not None and rank:
        linear.bias = None


def _rows_of(heads: slice, dim: int, first: int, *, device: torch.device) -> Tensor:
    """Row numbers of some heads of `dim` rows in a matrix where heads begin at row `first`."""
    return torch.arange(first + heads.start * dim, first + heads.stop * dim, device=device)


def _split_attention(attention: Attention, tp: int, rank: int) -> None:
    if attention.heads % tp:
        raise BadRequest(f"--tp {tp} does not divide {attention.heads} heads")
    if attention.q_norm is not None and not attention.per_head:
        raise BadRequest("--tp: norms over all heads together are not split")
    device = attention.out.weight.device if attention.out.weight is not None else torch.device("cpu")
    queries, kept = rank_of(attention.heads, tp, rank), rank_of(attention.kv_heads, tp, rank)
    dim, v_dim = attention.dim, attention.v_dim
    k_first, v_first = attention.sizes[0], attention.sizes[0] + attention.sizes[1]
    rows = [
        _rows_of(queries, dim, 0, device=device), _rows_of(kept, dim, k_first, device=device), _rows_of(kept, v_dim, v_first, device=device)
    ]  # fmt: skip
    _keep_rows(attention.qkv, torch.cat(rows))
    _keep_columns(attention.out, _rows_of(queries, v_dim, 0, device=device), rank)
    attention.heads, attention.kv_heads = queries.stop - queries.start, kept.stop - kept.start
    attention.sizes = [len(part) for part in rows]


def _split_latent(attention: LatentAttention, tp: int, rank: int) -> None:
    if attention.heads % tp:
        raise BadRequest(f"--tp {tp} does not divide {attention.heads} heads")
    device, heads = attention.kv_b.device, rank_of(attention.heads, tp, rank)
    up = attention.nope + attention.v_dim
    _keep_rows(attention.q_b, _rows_of(heads, attention.nope + attention.rope, 0, device=device))
    attention.kv_b = nn.Parameter(attention.kv_b[_rows_of(heads, up, 0, device=device)].clone(), requires_grad=False)
    _keep_columns(attention.out, _rows_of(heads, attention.v_dim, 0, device=device), rank)
    attention.heads = heads.stop - heads.start


def _part(width: int, tp: int, rank: int) -> slice:
    if width % tp:
        raise BadRequest(f"--tp {tp} does not divide the MLP width {width}")
    return slice(rank * width // tp, (rank + 1) * width // tp)


def _up_rows(width: int, part: slice, gated: bool, *, device: torch.device) -> Tensor:
    """Rows of up, or of gate and up one after the other."""
    own = torch.arange(part.start, part.stop, device=device)
    return torch.cat((own, own + width)) if gated else own


def _split_mlp(mlp: Mlp, tp: int, rank: int) -> None:
    assert mlp.down.weight is not None
    part, device = _part(mlp.down.inputs, tp, rank), mlp.down.weight.device
    _keep_rows(mlp.up, _up_rows(mlp.down.inputs, part, mlp.gated, device=device))
    _keep_columns(mlp.down, torch.arange(part.start, part.stop, device=device), rank)


def _split_moe(moe: Moe, tp: int, rank: int) -> None:
    width, device = moe.down.shape[-1], moe.down.device
    part = _part(width, tp, rank)
    moe.up = nn.Parameter(moe.up[:, _up_rows(width, part, True, device=device)].clone(), requires_grad=False)
    moe.down = nn.Parameter(moe.down[:, :, part].clone(), requires_grad=False)
    if moe.shared is not None:
        _split_mlp(moe.shared, tp, rank)


def _all_reduce(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    dist.all_reduce(output)
    return output


def split(model: GPT, tp: int, rank: int) -> GPT:
    """Cuts `model` to the share of `rank` and adds the all-reduces; in place. Split before `pack`."""
    for layer in model.layers:
        assert isinstance(layer, Layer)
        if isinstance(layer.attention, Attention):
            _split_attention(layer.attention, tp, rank)
        else:
            _split_latent(layer.attention, tp, rank)
        if isinstance(layer.mlp, Moe):
            _split_moe(layer.mlp, tp, rank)
        else:
            assert isinstance(layer.mlp, Mlp)
            _split_mlp(layer.mlp, tp, rank)
        if tp > 1:
            layer.attention.register_forward_hook(_all_reduce)
            layer.mlp.register_forward_hook(_all_reduce)
    return model


@contextmanager
def joined(tp: int, device: Device) -> Iterator[int]:
    """This process as one of `tp` ranks that torchrun started; gives its rank."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        raise BadRequest(
            f"--tp {tp} wants {tp} processes: torchrun --nproc-per-node {tp} -m kvplan profile MODEL --tp {tp}"
        )
    if int(os.environ["WORLD_SIZE"]) != tp:
        raise BadRequest(f"--tp {tp} and torchrun's {os.environ['WORLD_SIZE']} processes differ; make them equal")
    dist.init_process_group("nccl" if device.kind == "cuda" else "gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def rank_checks(model: GPT, device: Device, settings: Settings, *, tp: int, rank: int) -> list[Check]:
    """Compares every strategy's bytes on this rank with the sharding formula."""
    longest = min(CHECK_MAX_TOKENS, model.context or CHECK_MAX_TOKENS)
    prompt = min(settings.prompt_tokens, longest - memory.STEPS)
    return memory.kv_checks(
        model, device, dict.fromkeys((*settings.caches, *STRATEGIES)), batch=settings.batch, prompt_tokens=prompt,
        max_tokens=longest, tp=tp, rank=rank,
    )  # fmt: skip


def profile_parallel(spec: ModelSpec, settings: Settings, tp: int) -> Measurement | None:
    """Measures one model over `tp` processes; rank 0 gets the result, the others None."""
    name = settings.device
    if name is None and torch.cuda.is_available():
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = choose(name)
    with joined(tp, device) as rank, no_gradients():
        runner = Profile(spec, replace(settings, linear="plain"), device)
        layout = _shared_layout(runner, settings, rank)
        runner.build()
        split(runner.gpt, tp, rank)
        if layout.kind == "packed":
            runner.gpt.pack()
        gathered: list[list[Check] | None] = [None] * tp
        dist.all_gather_object(gathered, rank_checks(runner.gpt, device, settings, tp=tp, rank=rank))
        for checks in gathered:
            runner.found.checks += checks or []
        _time_ranks(runner, tp)
        runner.found.notes += [f"tensor parallel over {tp} processes; embedding and head whole on each", *layout.notes]
        runner.found.figures["ranks_count"] = Reading(tp, "exact")
        return replace(runner.result(), linear=layout.kind) if rank == 0 else None


def _shared_layout(runner: Profile, settings: Settings, rank: int) -> Layout:
    """The layout of all ranks' matrices: with auto what rank 0 finds faster, on a layer that is not cut."""
    if settings.linear != "auto":
        return Layout(settings.linear, "")
    found = [Layout("plain", "")]
    if rank == 0:
        found = [faster_layout(runner.spec, runner.dtype, rows=settings.batches, device=runner.device)]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def _time_ranks(runner: Profile, tp: int) -> None:
    """Prefill and decode of the whole group, timed on this rank."""
    gpt, device, settings = runner.gpt, runner.device, runner.settings
    shapes = layer_shapes(gpt.spec, tp)
    for context in runner.lengths(DECODE_TOKENS)[:2]:
        cache = make_cache(
            "static",
            shapes,
            batch=settings.batch,
            max_tokens=context,
            dtype=gpt.embedding.dtype,
            device=device.torch_device,
        )
        steps = min(speed.DECODE_STEPS, context - 3)
        ids = memory.random_tokens(gpt, settings.batch, context)
        times = measure(lambda ids=ids, cache=cache: prefill(gpt, ids, cache), device, repeats=3)  # type: ignore[misc]
        readings = speed.prefill_readings(gpt, times, batch=settings.batch, tokens=context, reach_flops_per_s=None)
        runner.point("prefill", times, readings, context_tokens=context, cache="static", mode=f"tp{tp}")
        speed.fill(cache, context - steps - 2)
        token = ids[:, :1]
        times = laps(lambda token=token, cache=cache: decode_step(gpt, token, cache), device, steps)  # type: ignore[misc]
        readings = speed.decode_readings(gpt, times, batch=settings.batch, context=context, reach_bytes_per_s=None)
        runner.point("decode", times, readings, context_tokens=context, cache="static", mode=f"tp{tp}")
