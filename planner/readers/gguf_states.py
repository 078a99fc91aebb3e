"""The recurrent states of a GGUF file's layers, as llama.cpp keeps them; shapes as in `planner.model.recurrent`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.errors import BadConfig, UnsupportedModel
from planner.model.recurrent import (
    NGRAMS,
    StateMixer,
    StatePart,
    conv_state,
    gated_delta_net,
    kimi_delta,
    mamba1,
    mamba2,
    short_conv,
)
from planner.readers.gguf import GgufTensor
from planner.readers.gguf_keys import Keys


# long: a branch a kind of recurrent layer
def state_of(
    keys: Keys, kind: str, hidden: int, *, heads: Sequence[int], index: int, block: Mapping[str, GgufTensor]
) -> StateMixer | None:
    """The state of layer `index`, None of one that has none; `kind` is what the architecture's recurrent layers are."""
    if kind == "lightning":
        return _lightning(keys, hidden, heads=heads[index], block=block)
    if not any(name.startswith(("ssm_", "shortconv.", "time_mix_")) for name in block):
        return None
    if not kind:
        raise UnsupportedModel(
            f"{keys.shown}: layer {index} has a recurrent mixer, which kvplan does not know for {keys.arch}"
        )
    if kind == "conv":
        return short_conv(hidden=hidden, conv_kernel=keys.number("shortconv.l_cache"))
    if kind == "rwkv":
        return _rwkv(keys, hidden)
    kernel = keys.number("ssm.conv_kernel")
    if kind == "kimi":
        return kimi_delta(hidden=hidden, heads=max(heads), head_dim=keys.number("kda.head_dim"), conv_kernel=kernel)
    width, state, rank = (
        keys.number("ssm.inner_size"),
        keys.number("ssm.state_size"),
        keys.number("ssm.time_step_rank"),
    )
    if kind == "plamo2":  # a Mamba 2 whose convolution runs over x alone
        parts = (conv_state("conv x", width, kernel, units=rank), StatePart("ssm", width * state, "fp32", rank))
        return StateMixer("mamba2", (), parts)
    if kind == "mamba":
        return mamba1(hidden=hidden, width=width, state=state, conv_kernel=kernel, dt_rank=rank)
    groups = keys.number("ssm.group_count", 1)
    if width % rank:
        raise BadConfig(
            f"{keys.shown}: {keys.arch}.ssm.inner_size {width} is not a multiple of {rank} heads (ssm.time_step_rank)"
        )
    if kind == "mamba2":
        return mamba2(hidden=hidden, heads=rank, head_dim=width // rank, groups=groups, state=state, conv_kernel=kernel)
    return gated_delta_net(
        hidden=hidden,
        key_heads=groups,
        value_heads=rank,
        key_dim=state,
        value_dim=width // rank,
        conv_kernel=kernel,
    )


def _lightning(keys: Keys, hidden: int, *, heads: int, block: Mapping[str, GgufTensor]) -> StateMixer | None:
    """MiniMax-01's linear attention, told by its gate: one matrix of key_length² a head, in fp32.

    Source: llama.cpp models/minimax-01.cpp and `llama_hparams::n_embd_s` (n_embd_head_la).
    """
    if "attn_gate.weight" not in block:
        return None
    width = keys.number("attention.key_length", hidden // max(1, heads))
    return StateMixer("lightning attention", (), (StatePart("linear attention", width**2 * heads, "fp32", heads),))


def _rwkv(keys: Keys, hidden: int) -> StateMixer:
    """Token shifts and a matrix of head_size a head, in fp32: shifts of both halves, or of attention alone
    (token_shift_count 1: rwkv6qwen2, arwkv7). Source: llama.cpp llama-hparams.cpp."""
    shifts, size = keys.number("token_shift_count", 2), keys.number("wkv.head_size")
    parts = (StatePart("shift", shifts * hidden, "fp32"), StatePart("wkv", hidden * size, "fp32"))
    return StateMixer("wkv", (), parts)


def ngrams(keys: Keys, hidden: int, block: Mapping[str, GgufTensor]) -> StateMixer | None:
    """What Qwen4-Exp's layer of n-grams keeps: (kernel - 1) · n columns of all streams, in fp32; None of another layer.

    Source: the P of `llama_memory_recurrent`'s log lines, b11739, with kernel and n varied.
    """
    if "ple_conv1d.weight" not in block:
        return None
    columns = (keys.number("ple.conv_kernel") - 1) * keys.number("ple.ngram_size", low=2)
    wide = keys.number("hyper_connection.count", low=2) * hidden
    return StateMixer("n-grams", (), (StatePart(NGRAMS, wide * columns, "fp32", columns=columns),))
