"""Reads what `kvplan reconcile` asks: what its flags say of a server besides its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.engines.registry import family, parse_engine
from planner.errors import UsageError
from planner.lookup import capacity, model_spec
from planner.model.spec import ModelSpec
from planner.options import tables as flags
from planner.options.engine import check_owners, options_of
from planner.options.model import with_count
from planner.options.readers import count, kv_dtype, seconds, switch, text, tokens, ttft, weight_dtype
from planner.options.running import SHARES, Running
from planner.options.tables import Flag
from planner.reconcile.ledger import Given
from planner.workloads.targets import USUAL_TPOT_SECONDS, USUAL_TTFT_SECONDS, Targets

FLAGS: tuple[Flag, ...] = (
    Flag("--model", "NAME", "The model, where the log does not name one that kvplan knows.", text, "Model"),
    Flag("--config", "FILE", "Its config.json, in place of --model.", text, "Model"),
    *flags.ASSUME,
    *flags.DEVICE,
    Flag(
        "--engine",
        "NAME",
        "The engine or program and its version, where the log does not say: vllm==0.11.2, llamacpp==b5331.",
        text,
        "Engine",
    ),
    Flag("--tp", "N", "Tensor-parallel ranks, where the log does not say.", count, "Layout"),
    Flag("--pp", "N", "Pipeline stages, where the log does not say.", count, "Layout"),
    Flag("--dtype", "D", "How weights are stored, where the log does not say.", weight_dtype, "Precision"),
    Flag("--kv-dtype", "D", "How K and V are stored, where the log does not say.", kv_dtype, "Precision"),
    Flag(
        "--max-model-len", "N", "Longest request, or llama.cpp's context, where the log does not say.", tokens, "Load"
    ),
    *(flag for flag in flags.ENGINE_FLAGS if flag.name not in ("--max-model-len", "--kv-pool", "--emit")),
    Flag("--ttft", "TIME", "Target of the advice: mean time to the first token (default: 2s).", ttft, "Load"),
    Flag("--tpot", "TIME", "Target of the advice: mean time between two tokens (default: 100ms).", seconds, "Load"),
    Flag(
        "--record",
        "FILE",
        "Append what the log says, or the times of benchmarks, as rows of a case file (CSV).",
        text,
        "Output",
    ),
    Flag("--json", "", "JSON in base units, keys that stay.", switch, "Output"),
    Flag("--output", "FILE", "Write to FILE instead of the screen.", text, "Output"),
)


@dataclass(frozen=True)
class ServerAsked:
    """A server whose files are read.

    given     what the flags add to its log
    running   what they say of the server itself
    targets   of the advice
    record    a case file to which rows are added; None: none
    """

    given: Given
    running: Running
    targets: Targets
    record: str | None = None


def server_asked(values: Mapping[str, Any]) -> ServerAsked:
    """Reads the question of `reconcile` from its flags."""
    read = flags.read_values(FLAGS, values)
    model, config = read["model"], read["config"]
    if model is not None and config is not None:
        raise UsageError("--model and --config both name a model; give one of them")
    spec = model_spec(model, config=config, assume=read["assume"]) if model or config else None
    first, tpot = read["ttft"][0] if read["ttft"] else None, read["tpot"]
    targets = Targets(first or USUAL_TTFT_SECONDS, tpot or USUAL_TPOT_SECONDS, assumed=first is None and tpot is None)
    running = Running(
        model=model,
        config=config,
        assume=read["assume"],
        gpu=read["gpu"],
        memory=read["memory"],
        engine=read["engine"],
        tp=read["tp"],
        pp=read["pp"],
        dtype=read["dtype"],
        kv_dtype=read["kv_dtype"],
        max_model_len=read["max_model_len"],
        shares={name: read[name] for name in dict.fromkeys(SHARES.values()) if read[name] is not None},
    )
    return ServerAsked(given_of(read, spec), running, targets, read["record"])


def given_of(read: Mapping[str, Any], spec: ModelSpec | None) -> Given:
    """Returns what the flags add to a log, from their values as read; a flag that is not among them adds nothing."""
    read = with_count(read)
    name = version = None
    if read["engine"] is not None:
        name, version = parse_engine(read["engine"])
        check_owners(read, name)
    return Given(
        spec=spec,
        capacity=capacity(read["gpu"], read["memory"]),
        version=version,
        program=name if name and family(name) == "llamacpp" else None,
        tp=read["tp"],
        pp=read["pp"],
        dtype=read["dtype"],
        kv_dtype=read["kv_dtype"],
        max_model_len=read["max_model_len"],
        options=replace(options_of(read, None), max_model_len=None),
    )
