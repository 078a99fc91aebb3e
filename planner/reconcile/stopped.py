"""Why a server stopped, as its log says, and which flags mend that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.reconcile.pattern import LLAMA, LMDEPLOY, MLX, OLLAMA, SGLANG, TABBY, TRT, VLLM
from planner.reconcile.refusals import REFUSAL, REFUSALS, said
from planner.units import GIB, gib, human_bytes

if TYPE_CHECKING:
    from planner.reconcile.facts import Run

NAMES = {
    VLLM: "vLLM",
    SGLANG: "SGLang",
    LLAMA: "llama.cpp",
    OLLAMA: "ollama",
    TRT: "TensorRT-LLM",
    LMDEPLOY: "LMDeploy",
    TABBY: "TabbyAPI",
    MLX: "mlx-lm",
}


@dataclass(frozen=True)
class Stopped:
    """The reason in one line, and the flags that mend it, the surest first."""

    text: str
    mends: tuple[str, ...] = ()

    def __str__(self) -> str:
        *firsts, last = self.mends or ("",)
        return self.text + (f"; try {', '.join(firsts)}{' or ' * bool(firsts)}{last}" if last else "")


def stopped(run: Run) -> Stopped | None:
    """Says why the server of this log did not start; None where it does not say so.

    A log that goes on to name its pool and no error has started, whatever it warned of before.
    """
    for reads in (_states, _too_long, _not_free, _no_room, _not_loaded, _refused, _out_of_memory):
        found = reads(run)
        if found is not None:
            who = NAMES.get(run.engine, "the server")
            return Stopped(f"{who} {found.text}", found.mends)
    return None


def _refused(run: Run) -> Stopped | None:
    """An error that says by itself what is wrong; before the pool was made, or one that can come after it."""
    started = run.text("tokens") is not None or run.text("pool_tokens") is not None or run.text("kv_mib") is not None
    for name, _ in reversed(list(run.values)):
        if not name.startswith(REFUSAL):
            continue
        number = int(name.removeprefix(REFUSAL))
        if REFUSALS[number].late or not started:
            return Stopped(*said(number, run.values[name, ""]))
    return None


def _states(run: Run) -> Stopped | None:
    blocks = run.text("state_blocks")
    if blocks is None:
        return None
    return Stopped(
        f"refused to start: max_num_seqs {run.text('sequences')} is more than the {blocks} blocks of states",
        (f"--max-num-seqs {blocks}",),
    )


def _too_long(run: Run) -> Stopped | None:
    """The cache of one longest request is more than there is; V0 counts it in tokens."""
    longest, fits = run.largest("max_model_len"), run.whole("estimated_max_len")
    mend = (f"--max-model-len {fits}",) if fits else ()
    needed, there = run.bytes("needed_gib"), run.bytes("available_gib", poorest=True)
    if needed is not None and (there is None or needed > there):
        room = "" if there is None else f" and {gib(there)} are there"
        asked = f" for {int(longest):,} tokens" if longest else ""
        return Stopped(
            f"refused to start: {gib(needed)} of cache are needed{asked}{room}", (*mend, "--gpu-memory-utilization")
        )
    held = run.whole("stored_tokens")
    if held is not None and longest and held < longest:
        return Stopped(
            f"refused to start: max_model_len {int(longest):,} is more than the {held:,} tokens that the cache holds",
            (*((f"--max-model-len {held}",) if held else ()), "--gpu-memory-utilization"),
        )
    return None


def _not_free(run: Run) -> Stopped | None:
    if run.text("not_free") is None:
        return None
    free, card = run.bytes("free_gib", poorest=True), run.bytes("card_gib", poorest=True)
    budget = run.bytes("budget_gib", poorest=True)
    share = int(100 * free / card) / 100 if free and card else None
    return Stopped(
        f"refused to start: {gib(free or 0)} of the card are free and {gib(budget or 0)} are wanted: another process holds the rest",
        (f"--gpu-memory-utilization {share:g}",) if share else ("--gpu-memory-utilization",),
    )


def _no_room(run: Run) -> Stopped | None:
    negative, profiled = run.smallest("available_gib"), run.smallest("profiled_tokens")
    nothing = profiled is not None and profiled <= 0  # SGLang goes on with this count of tokens
    if not nothing and run.text("no_room") is None and (negative is None or negative > 0):
        return None
    short = f", {gib(int(-negative * GIB))} short" if negative is not None and negative < 0 else ""
    if run.engine == SGLANG:
        return Stopped(
            "refused to start: the weights leave nothing of mem_fraction_static for the cache",
            ("--mem-fraction-static", "--tp"),
        )
    return Stopped(
        f"refused to start: weights and activations leave nothing of the share for the cache{short}",
        ("--gpu-memory-utilization", "--max-num-batched-tokens", "--max-num-seqs", "--tensor-parallel-size"),
    )


def _not_loaded(run: Run) -> Stopped | None:
    """llama.cpp: a buffer that a device would not give."""
    if run.engine not in (LLAMA, OLLAMA):
        return None
    size = run.bytes("oom_mib") or run.whole("oom_bytes")
    projected, free = run.bytes("projected_mib"), run.bytes("device_free_mib")
    if size is not None:
        return Stopped(
            f"did not load: a device would not give a buffer of {human_bytes(size)}",
            ("--n-gpu-layers", "--ctx-size", "--ubatch-size"),
        )
    if run.text("not_fitted") is not None and projected is not None and free is not None:
        return Stopped(
            f"did not fit: {human_bytes(projected)} are wanted and {human_bytes(free)} are free",
            ("--n-gpu-layers", "--n-cpu-moe", "--ctx-size"),
        )
    wanted, there = run.bytes("whole_gib"), run.bytes("free_gib")
    if run.engine == OLLAMA and run.text("too_much") is not None and wanted and there:
        return Stopped(
            f"did not load: {gib(wanted)} are wanted and {gib(there)} are there", ("a smaller context", "num_gpu")
        )
    return None


def _out_of_memory(run: Run) -> Stopped | None:
    """PyTorch's own words: what was asked for, and what was free."""
    asked = run.bytes("oom_gib") or run.bytes("oom_mib")
    if asked is None:
        return None
    free = run.bytes("oom_free_gib") or run.bytes("oom_free_mib")
    card = run.bytes("oom_card_gib")
    where = "" if card is None else f" of {gib(card)}"
    room = "" if free is None else f", {human_bytes(free)}{where} were free"
    used = run.bytes("oom_torch_gib")
    held = "" if used is None else f"; PyTorch held {gib(used)}"
    after = "after its cache was made, " if run.text("tokens") or run.text("pool_tokens") else ""
    mends: dict[str, Callable[[], tuple[str, ...]]] = {
        VLLM: lambda: ("a lower --gpu-memory-utilization" if after else "--tensor-parallel-size", "--max-num-batched-tokens", "--max-num-seqs"),
        SGLANG: lambda: ("a lower --mem-fraction-static", "--context-length", "--chunked-prefill-size"),
    }  # fmt: skip
    return Stopped(
        f"ran out of memory: {after}{human_bytes(asked)} were asked for{room}{held}",
        mends.get(run.engine, lambda: ())(),
    )
