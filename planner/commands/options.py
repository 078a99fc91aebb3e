"""Options that several commands share, and how their texts become numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from planner.dtypes import kv_format, weight_format
from planner.errors import BadRequest, one_line
from planner.memory import Request
from planner.resolve import by_hand, model_spec
from planner.sharding import Sharding
from planner.spec import ModelSpec
from planner.units import MAX_COUNT, parse_bytes, parse_tokens

F = TypeVar("F", bound=Callable[..., Any])

HAND = ("layers", "heads", "kv_heads", "head_dim", "hidden", "intermediate", "vocab", "sliding_window")
RANKS = ("tp", "pp", "ep", "dp", "dcp")


def _stack(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return apply


def model_options(function: F) -> F:
    """MODEL, --config, --assume, and the dimensions of a model described by hand."""
    return _stack(
        [
            click.argument("model", required=False),
            click.option("--config", metavar="FILE", help="A config.json, in place of MODEL."),
            click.option("--assume", metavar="WHAT", help="`full-attention`: answer an upper bound for a model kvplan does not know."),
            *[
                click.option(f"--{name.replace('_', '-')}", metavar="N", help=help_text)
                for name, help_text in (
                    ("layers", "By hand: number of layers."),
                    ("heads", "By hand: attention heads."),
                    ("kv_heads", "By hand: KV heads (default: --heads)."),
                    ("head_dim", "By hand: width of a head (default: --hidden / --heads)."),
                    ("hidden", "By hand: width of the model."),
                    ("intermediate", "By hand: width of the MLP."),
                    ("vocab", "By hand: size of the vocabulary."),
                    ("sliding_window", "By hand: every layer keeps at most N tokens."),
                )
            ],
        ]
    )(function)  # fmt: skip


def dtype_options(function: F) -> F:
    return _stack(
        [
            click.option("--dtype", metavar="D", help="How weights are stored: bf16, fp16, fp32, fp8, awq, nvfp4, q4_k_m ... (default: as the config says)."),
            click.option("--kv-dtype", metavar="D", help="How K and V are stored: fp16, fp8, int8, q8_0, q4_0, nvfp4 ... (default: the float type the model runs in)."),
            click.option("--k-dtype", metavar="D", help="K alone."),
            click.option("--v-dtype", metavar="D", help="V alone."),
        ]
    )(function)  # fmt: skip


def layout_options(function: F) -> F:
    return _stack(
        [
            click.option("--tp", metavar="N", help="Tensor-parallel ranks."),
            click.option("--pp", metavar="N", help="Pipeline stages."),
            click.option("--ep", metavar="N", help="Expert-parallel ranks (of the tp x dp devices)."),
            click.option("--dp", metavar="N", help="Data-parallel attention replicas."),
            click.option("--dcp", metavar="N", help="Decode context parallel: spread the tokens of copied KV heads over N ranks."),
        ]
    )(function)  # fmt: skip


def runtime_options(function: F) -> F:
    return _stack(
        [
            click.option("--source-tokens", metavar="N", help="Length of the encoder's input (T5, BART, Whisper, Llama Vision)."),
            click.option("--prefill-tokens", metavar="N", help="Tokens in one prefill step (default: the prompts, at most 8192)."),
            click.option("--attention", type=click.Choice(["fused", "eager"]), default="fused", show_default=True, help="Fused attention keeps no score matrix."),
            click.option("--activation", metavar="SIZE", help="Take this much for activations, in place of the estimate."),
            click.option("--overhead", metavar="NAME=SIZE", multiple=True, help="Set an overhead line: context, allocator, communication, or one of your own (cuda_graphs=1GiB). Repeatable."),
        ]
    )(function)  # fmt: skip


def device_options(function: F) -> F:
    return _stack(
        [
            click.option("--gpu", metavar="NAME", help="A device of `kvplan gpus`, or `local`."),
            click.option("--memory", metavar="SIZE", help="Plain memory of a device, for example 24GiB."),
        ]
    )(function)


def output_options(function: F) -> F:
    return _stack(
        [
            click.option("--json", "as_json", is_flag=True, help="JSON in base units, keys that stay."),
            click.option("--csv", "as_csv", is_flag=True, help="CSV in base units."),
            click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of the screen."),
        ]
    )(function)


def spec_of(values: dict[str, Any]) -> ModelSpec:
    """The model that the options name; by hand when dimensions are given."""
    dimensions = {name: maybe_count(values.pop(name), f"--{name.replace('_', '-')}") for name in HAND}
    model, config, assume = values.pop("model"), values.pop("config"), values.pop("assume")
    if any(size is not None for size in dimensions.values()):
        if model is not None or config is not None:
            raise click.UsageError("a MODEL and dimensions by hand (--layers ...) exclude each other")
        return by_hand(dimensions)
    if model is None and config is None:
        raise click.UsageError("which MODEL? A name of `kvplan models`, a config.json, or --layers --kv-heads --head-dim")
    if model is not None and config is not None:
        raise click.UsageError("MODEL and --config both name a model; give one of them")
    return model_spec(model, config=config, assume=assume)


def request_of(values: dict[str, Any], seq_tokens: int) -> Request:
    """The Request that the options describe, at one length; leaves `values` as they are."""
    kv = values.get("kv_dtype")
    k, v = values.get("k_dtype"), values.get("v_dtype")
    if kv is not None and (k is not None or v is not None):
        raise click.UsageError("--kv-dtype sets both; give --k-dtype and --v-dtype without it")
    for name in (kv, k, v):
        if name is not None:
            kv_format(name)
    if values.get("dtype") is not None:
        weight_format(values["dtype"])
    activation = values.get("activation")
    return Request(
        seq_tokens=seq_tokens,
        batch=maybe_count(values.get("batch"), "--batch") or 1,
        dtype=values.get("dtype"),
        k_dtype=kv or k,
        v_dtype=kv or v,
        source_tokens=_tokens_or_zero(values.get("source_tokens")),
        sharding=Sharding(**{name: maybe_count(values.get(name), f"--{name}") or 1 for name in RANKS}),
        prefill_tokens=parse_tokens(values["prefill_tokens"], "--prefill-tokens") if values.get("prefill_tokens") else None,
        fused_attention=values.get("attention", "fused") == "fused",
        activation_override=parse_bytes(activation) if activation else None,
        overhead_override=_overheads(values.get("overhead") or ()),
    )


def maybe_count(text: str | None, what: str) -> int | None:
    """A whole number of at least 1, None where nothing was given."""
    if text is None:
        return None
    clean = text.strip().replace("_", "").replace(",", "")
    if not (clean.isascii() and clean.isdigit() and len(clean) <= 12) or not 1 <= int(clean) <= MAX_COUNT:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a whole number from 1 to {MAX_COUNT:,}")
    return int(clean)


def _tokens_or_zero(text: str | None) -> int | None:
    if text is None:
        return None
    return 0 if text.strip() == "0" else parse_tokens(text, "--source-tokens")


def _overheads(items: tuple[str, ...]) -> dict[str, int]:
    lines = {}
    for item in items:
        name, equals, size = item.partition("=")
        if not equals or not name.strip().isidentifier():
            raise BadRequest(f"--overhead {one_line(item, 40)!r} is not NAME=SIZE; write for example context=300MiB")
        lines[name.strip()] = 0 if size.strip() in ("0", "0B") else parse_bytes(size)
    return lines
