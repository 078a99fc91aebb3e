"""Reads what `kvplan watch` asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.errors import UsageError
from planner.options.readers import count, kv_dtype, seconds, switch, text, tokens, ttft, weight_dtype
from planner.options.tables import Flag
from planner.workloads.targets import USUAL_TARGETS, Targets

USUAL = USUAL_TARGETS
FLAGS: tuple[Flag, ...] = (
    Flag("--model", "NAME", "The model, where the server names one that kvplan does not know.", text, "Model"),
    Flag("--config", "FILE", "Its config.json, in place of --model.", text, "Model"),
    Flag("--gpu", "NAME", "The device that it runs on: then what kvplan expects stands beside.", text, "Device"),
    Flag("--memory", "SIZE", "Memory of the device, where its name does not say: 64GiB.", text, "Device"),
    Flag("--tp", "N", "Tensor-parallel ranks.", count, "Layout"),
    Flag("--dtype", "D", "How weights are stored (default: the model's).", weight_dtype, "Precision"),
    Flag("--kv-dtype", "D", "How K and V are stored (default: the model's).", kv_dtype, "Precision"),
    Flag("--prompt", "N", "Tokens of a prompt, where the server does not say (llama-server): 1k.", tokens, "Load"),
    Flag("--answer", "N", "Tokens of an answer, where it does not say.", tokens, "Load"),
    Flag("--ttft", "TIME", "Target: mean time to the first token (default: 2s).", ttft, "Load"),
    Flag("--tpot", "TIME", "Target: mean time between two tokens (default: 100ms).", seconds, "Load"),
    Flag("--every", "TIME", "Read again and again, 10s apart; of two files: the time between them.", seconds, "Output"),
    Flag("--reads", "N", "Stop after so many reads with --every (default: on until Ctrl-C).", count, "Output"),
    Flag("--json", "", "JSON in base units, keys that stay; with --every a line a read.", switch, "Output"),
)


@dataclass(frozen=True)
class WatchAsked:
    """A server, and what is known of it besides its /metrics.

    every   seconds between two reads; None: one read
    prompt, answer   tokens of a request, where the server does not say
    """

    model: str | None = None
    gpu: str | None = None
    tp: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    targets: Targets = USUAL
    every: float | None = None
    reads: int | None = None
    prompt: int | None = None
    answer: int | None = None
    config: str | None = None
    memory: str | None = None


def watch_asked(values: Mapping[str, Any]) -> WatchAsked:
    """Reads the question of `watch` from its flags."""
    from planner.options.tables import read_values

    given = read_values(FLAGS, values)
    if given["reads"] is not None and given["every"] is None:
        raise UsageError("--reads counts the reads of --every: give both")
    first, share = given["ttft"] or (USUAL.ttft_seconds, USUAL.ttft_share)
    assumed = given["ttft"] is None and given["tpot"] is None
    targets = Targets(first, given["tpot"] or USUAL.tpot_seconds, share, assumed=assumed)
    return WatchAsked(
        given["model"], given["gpu"], given["tp"], given["dtype"], given["kv_dtype"], targets, given["every"], given["reads"],
        given["prompt"], given["answer"], given["config"], given["memory"],
    )  # fmt: skip
