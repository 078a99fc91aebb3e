"""Engine flags of a command line -> Options, and the answer of the engine that `--engine` names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from planner.answers.engine import FREE, LLAMA, VLLM
from planner.commands.options.model import maybe_count
from planner.commands.options.tables import ENGINE_FLAGS, parameter
from planner.dtypes.names import float_dtype
from planner.engines.base import Options
from planner.engines.registry import ENGINES, parse_engine
from planner.errors import BadRequest, UsageError, one_line
from planner.units import GIB, parse_bytes, parse_tokens

# Whose flag is whose; a flag that is not here is every engine's.
OWNERS: dict[str, tuple[str, ...]] = {
    "--gpu-memory-utilization": VLLM,
    "--mem-fraction-static": ("sglang",),
    "--kv-cache-free-gpu-memory-fraction": ("tensorrt-llm",),
    "--cache-max-entry-count": ("lmdeploy",),
    "--max-num-batched-tokens": VLLM,
    "--max-num-seqs": VLLM,
    "--block-size": (*VLLM, *FREE, "sglang"),
    "--swap-space": VLLM,
    "--cpu-offload-gb": VLLM,
    "--disable-hybrid-kv-cache-manager": VLLM,
    "--mamba-ssm-cache-dtype": VLLM,
    "--mamba-cache-mode": VLLM,
    "--num-speculative-tokens": (*VLLM, *LLAMA),
    "--draft-layers": VLLM,
    "--max-running-requests": ("sglang",),
    "--chunked-prefill-size": ("sglang",),
    "--cuda-graph-max-bs": ("sglang",),
    "--swa-full-tokens-ratio": ("sglang",),
    "--mamba-full-memory-ratio": ("sglang",),
    "--ctx-size": LLAMA,
    "--parallel": LLAMA,
    "--batch-size": LLAMA,
    "--ubatch-size": LLAMA,
    "--flash-attn": LLAMA,
    "--swa-full": LLAMA,
    "--kv-unified": LLAMA,
    "--mla-mode": ("ik_llamacpp",),
    "--cache-implementation": ("transformers",),
}


FRACTIONS = {
    "vllm": "--gpu-memory-utilization", "vllm-v0": "--gpu-memory-utilization", "vllm-v1": "--gpu-memory-utilization",
    "sglang": "--mem-fraction-static", "tensorrt-llm": "--kv-cache-free-gpu-memory-fraction", "lmdeploy": "--cache-max-entry-count",
}  # fmt: skip


def check_flags(values: Mapping[str, Any], engine: str | None) -> None:
    """Refuses engine flags without an engine, and those of another one."""
    for option, _, _ in ENGINE_FLAGS:
        given = values.get(parameter(option))
        if given is None or given is False:
            continue
        if engine is None:
            raise UsageError(f"{option} is an engine's flag: say whose with --engine, for example --engine vllm")
        owners = OWNERS.get(option)
        if owners and engine not in owners:
            raise UsageError(f"{option} is not a flag of {engine}; it belongs to {', '.join(owners)}")
        if engine == "transformers" and option == "--kv-pool":
            raise UsageError("--kv-pool: transformers has no pool; leave it out")


def options_of(values: Mapping[str, Any], engine: str) -> Options:
    """The flags that `engine` reads, as numbers."""

    def text(option: str) -> str | None:
        owners = OWNERS.get(option)
        found: str | None = values.get(parameter(option)) if owners is None or engine in owners else None
        return found

    def count(option: str) -> int | None:
        return maybe_count(text(option), option)

    def tokens(option: str) -> int | None:
        found = text(option)
        return None if found is None else parse_tokens(found, option)

    ssm, mode, pool = text("--mamba-ssm-cache-dtype"), text("--mamba-cache-mode"), text("--kv-pool")
    if mode not in (None, "none", "align", "all"):
        raise BadRequest(f"--mamba-cache-mode {one_line(str(mode), 40)!r} is not known; write none, align or all")
    if ssm is not None and ssm != "auto" and float_dtype(ssm) is None:
        raise BadRequest(
            f"--mamba-ssm-cache-dtype {one_line(ssm, 40)!r} is not known; write float32, bfloat16 or float16"
        )
    return Options(
        pool_bytes=None if pool is None else parse_bytes(pool, "--kv-pool"),
        fraction=_fraction(text(FRACTIONS[engine]), FRACTIONS[engine]) if engine in FRACTIONS else None,
        max_model_len=tokens("--max-model-len"),
        max_num_batched_tokens=tokens("--max-num-batched-tokens"),
        max_num_seqs=count("--max-num-seqs"),
        block_size=count("--block-size"),
        swap_space=_gib(text("--swap-space"), "--swap-space"),
        cpu_offload_bytes=_gib(text("--cpu-offload-gb"), "--cpu-offload-gb") or 0,
        disable_hybrid=bool(text("--disable-hybrid-kv-cache-manager")),
        mamba_ssm_dtype=None if ssm in (None, "auto") else float_dtype(str(ssm)),
        mamba_cache_mode=mode,
        num_speculative_tokens=count("--num-speculative-tokens") or 0,
        draft_layers=count("--draft-layers"),
        max_running_requests=count("--max-running-requests"),
        chunked_prefill_size=tokens("--chunked-prefill-size"),
        cuda_graph_max_bs=count("--cuda-graph-max-bs"),
        swa_ratio=_ratio(text("--swa-full-tokens-ratio"), "--swa-full-tokens-ratio"),
        mamba_ratio=_ratio(text("--mamba-full-memory-ratio"), "--mamba-full-memory-ratio"),
        ctx_size=tokens("--ctx-size"),
        parallel=count("--parallel"),
        batch_size=tokens("--batch-size"),
        ubatch_size=tokens("--ubatch-size"),
        flash_attn=_switch(text("--flash-attn")),
        swa_full=bool(text("--swa-full")),
        kv_unified=bool(text("--kv-unified")),
        mla_mode=_mla(text("--mla-mode")),
        cache_implementation=text("--cache-implementation"),
    )


def _decimal(text: str, option: str) -> Fraction:
    if not re.fullmatch(r"\d{0,4}\.?\d{1,18}", text.strip(), re.ASCII):
        raise BadRequest(f"{option} {one_line(text, 40)!r} is not a number; write for example 0.9")
    return Fraction(text.strip())


def _fraction(text: str | None, option: str) -> Fraction | None:
    if text is None:
        return None
    value = _decimal(text, option)
    if not 0 < value <= 1:
        raise BadRequest(f"{option} {one_line(text, 40)} is not a share; write a number above 0 and up to 1")
    return value


def _ratio(text: str | None, option: str) -> Fraction | None:
    if text is None:
        return None
    value = _decimal(text, option)
    if not 0 < value <= 100:
        raise BadRequest(f"{option} {one_line(text, 40)} is out of range; write a number above 0")
    return value


def _gib(text: str | None, option: str) -> int | None:
    """vLLM counts swap space and offloaded weights in GiB."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text.strip(), re.ASCII):
        return int(Fraction(text.strip()) * GIB)
    return parse_bytes(text, option)


def _switch(text: str | None) -> bool | None:
    if text is None or text.strip().lower() == "auto":
        return None
    known = {
        "on": True,
        "1": True,
        "true": True,
        "enabled": True,
        "off": False,
        "0": False,
        "false": False,
        "disabled": False,
    }
    if text.strip().lower() not in known:
        raise BadRequest(f"--flash-attn {one_line(text, 40)!r} is not known; write on, off or auto")
    return known[text.strip().lower()]


def _mla(text: str | None) -> int | None:
    if text is None:
        return None
    if text.strip() not in ("0", "1", "2", "3"):
        raise BadRequest(f"--mla-mode {one_line(text, 40)!r} is not known; write 0, 1, 2 or 3")
    return int(text)


def prepare(values: dict[str, Any]) -> tuple[str, str | None, Options] | None:
    """(engine, version, flags) of a command line, None without --engine; a length that only a flag names becomes --seq."""
    if values.get("engine") is None:
        check_flags(values, None)
        if values.get("emit"):
            raise UsageError("--emit prints an engine's start command: say which with --engine")
        return None
    name, version = parse_engine(values["engine"])
    check_flags(values, name)
    options = options_of(values, name)
    if values.get("seq") is None:
        slots = options.parallel or 1
        longest = options.max_model_len or (options.ctx_size and max(1, options.ctx_size // slots))
        values["seq"] = str(longest) if longest else None
    return name, version, options


assert set(FRACTIONS) <= set(ENGINES)
