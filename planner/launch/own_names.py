"""An engine's own flag names on kvplan's command line -> kvplan's names for them.

`kvplan estimate M --engine vllm --tensor-parallel-size 2 -q fp8` is `kvplan estimate M --engine vllm --tp 2 --dtype fp8`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any

from planner.engines.registry import family
from planner.errors import UsageError
from planner.launch.arguments import Given, read_arguments
from planner.launch.read import TABLES, read_values
from planner.launch.secrets import shown
from planner.launch.table import MATTERS, QUIET, Table
from planner.units import GIB

LLAMA = ("llamacpp", "ik_llamacpp", "ollama", "lmstudio", "koboldcpp")
_SHARES = {
    "vllm": "--gpu-memory-utilization", "sglang": "--mem-fraction-static",
    "tensorrt-llm": "--kv-cache-free-gpu-memory-fraction", "lmdeploy": "--cache-max-entry-count",
}  # fmt: skip
# field -> kvplan's option, where the value goes over as it is
_PLAIN = {
    "tp": "--tp", "pp": "--pp", "dp": "--dp", "ep": "--ep", "dcp": "--dcp",
    "max_model_len": "--max-model-len", "kv_dtype": "--kv-dtype", "k_dtype": "--k-dtype", "v_dtype": "--v-dtype",
    "block_size": "--block-size", "max_num_seqs": "--max-num-seqs", "max_num_batched_tokens": "--max-num-batched-tokens",
    "mamba_ssm_dtype": "--mamba-ssm-cache-dtype", "mamba_cache_mode": "--mamba-cache-mode",
    "num_speculative_tokens": "--num-speculative-tokens", "max_running_requests": "--max-running-requests",
    "chunked_prefill_size": "--chunked-prefill-size", "cuda_graph_max_bs": "--cuda-graph-max-bs",
    "ctx_size": "--ctx-size", "parallel": "--parallel", "batch_size": "--batch-size", "ubatch_size": "--ubatch-size",
    "mla_mode": "--mla-mode", "num_gpu_blocks_override": "--num-gpu-blocks-override",
}  # fmt: skip
# Fields for which kvplan has no option under some engines, and why that is said and not asked.
_NOT_OF = {
    "tensorrt-llm": ("max_num_seqs", "max_num_batched_tokens"),
    "lmdeploy": ("max_num_seqs", "max_num_batched_tokens", "num_speculative_tokens"),
    "sglang": ("num_speculative_tokens", "mamba_ssm_dtype"),
}
# ollama's and LM Studio's words for llama.cpp's flags
_WORDS = {
    "--num-ctx": "--ctx-size", "--num_ctx": "--ctx-size", "--context-length": "--ctx-size", "--num-batch": "--ubatch-size",
    "--num_batch": "--ubatch-size", "--num-parallel": "--parallel", "--num_parallel": "--parallel", "--num-gpu": "-ngl",
    "--num_gpu": "-ngl", "--contextsize": "--ctx-size", "--blasbatchsize": "--batch-size", "--batchsize": "--batch-size",
    "--gpulayers": "-ngl", "--flashattention": "--flash-attn",
}  # fmt: skip
_SWITCHES = {
    "disable_hybrid": "--disable-hybrid-kv-cache-manager",
    "swa_full": "--swa-full",
    "kv_unified": "--kv-unified",
}
_OF_FIT = ("--drafter", "--draft-tokens", "--lora", "--also", "--idle-sessions", "--ngl")
_AUTOMATIC = ("--dtype", "--kv-dtype", "--max-model-len", "--n-gpu-layers")
# Where weights and cache lie: of estimate, fit and check
_PLACING = {
    "gpu_layers": "--n-gpu-layers", "n_cpu_moe": "--n-cpu-moe", "cpu_moe": "--cpu-moe", "override_tensor": "--override-tensor",
    "kv_on_host": "--no-kv-offload", "tensor_split": "--tensor-split", "split_mode": "--split-mode",
}  # fmt: skip
PLACES = (
    "gpu_layers",
    "n_cpu_moe",
    "cpu_moe",
    "n_cpu_ffn",
    "override_tensor",
    "kv_on_host",
    "tensor_split",
    "split_mode",
)
_NOTED = {
    "mmproj": "the file is not here; an image encoder's weight counts where the model itself has one",
    "draft_model": "a drafter is a model of its own: --drafter without --engine counts it",
    "devices": "which devices: say how many with --gpus",
    "device_ids": "which devices: say how many with --tp",
    "expert_parallel": "experts whole on a rank: the same bytes on each device",
    "dtype": "the float type it runs in; --dtype is how weights are stored",
    "model": "the model stands before the flags",
    "hub_model": "the model stands before the flags",
}


def own_names(arguments: Sequence[str], engine: str, known: Collection[str]) -> tuple[list[str], list[str]]:
    """Replaces an engine's names of flags by kvplan's: (arguments, notes on what was not replaced).

    arguments   of one command, without its name
    engine      a name of planner.engines.registry
    known       the names of the command's own options; they stay, whatever an engine calls so

    Raises UsageError for flags that place weights on the host where a device is named and the command does not count that.

    >>> own_names(["m", "--engine", "vllm", "-tp", "2", "--kv-cache-dtype", "fp8", "--port", "80"], "vllm", {"--engine"})[0]
    ['m', '--engine', 'vllm', '--tp', '2', '--kv-dtype', 'fp8']
    """
    table = TABLES.get(family(engine)) or TABLES.get(engine)
    if table is None:
        return list(arguments), []
    if engine in ("ollama", "lmstudio", "koboldcpp"):
        arguments = [_WORDS.get(word, word) for word in arguments]
    kept: list[str] = []
    theirs: list[Given] = []
    place = 0
    while place < len(arguments):
        if arguments[place] in _AUTOMATIC and [*arguments[place + 1 : place + 2]] in (["auto"], ["-1"], ["all"]):
            place += 2  # the engine's own default, as kvplan takes it without the flag
            continue
        if arguments[place] == "--flash-attn" and not _switch_follows(arguments[place:]):
            kept += ["--flash-attn", "on"]  # older builds take no value
            place += 1
            continue
        elsewhere = _names_a_file_elsewhere(arguments[place:])
        piece = arguments[place : place + (elsewhere or _length(arguments[place:], table, known))]
        place += len(piece)
        if elsewhere or _is_theirs(piece[0], table, known):
            theirs += read_arguments(piece, table)[0]
        else:
            kept += piece
    _refuse_another_commands(kept, known)
    # kvplan's own reader takes the text of what goes over as it is: `-c 32k` is --ctx-size 32k.
    left_out = _NOT_OF.get(engine, ())
    plain = [one for one in theirs if one.flag and one.flag.field in _PLAIN and one.flag.field not in left_out]
    values = read_values([one for one in theirs if one not in plain])
    options, said = _options(values, engine)
    if "--n-gpu-layers" in known:
        return [*kept, *_plain_options(plain), *options, *_placing(theirs)], [*_notes(theirs, said), *_unplaced(theirs)]
    _refuse_placement(values, theirs, kept, engine=engine)
    return [*kept, *_plain_options(plain), *options], [*_notes(theirs, said), *_placement_notes(theirs)]


def _names_a_file_elsewhere(words: Sequence[str]) -> int:
    """Returns how many words `--mmproj FILE` is where no such file is here, as in a command of another machine; else 0."""
    name, equals, value = words[0].partition("=")
    value = value if equals else "".join(words[1:2])
    if name != "--mmproj" or not value or value.startswith("-") or os.path.exists(value):
        return 0
    return 1 if equals else 2


def _is_theirs(word: str, table: Table, known: Collection[str]) -> bool:
    name = word.partition("=")[0]
    if not word.startswith("-") or name in known:
        return False
    return table.find(name.partition(".")[0])[0] is not None


def _length(words: Sequence[str], table: Table, known: Collection[str]) -> int:
    """How many words one flag is, with its values."""
    if not _is_theirs(words[0], table, known) or "=" in words[0]:
        return 1
    flag, _ = table.find(words[0].partition(".")[0])
    if flag is None or flag.takes == "0":
        return 1
    if flag.takes in ("1", "2"):
        return min(len(words), 1 + int(flag.takes))
    if flag.takes == "?":
        return 2 if _switch_follows(words) else 1
    count = 1
    while count < len(words) and not words[count].startswith("-"):
        count += 1
    return count


def _switch_follows(words: Sequence[str]) -> bool:
    return len(words) > 1 and words[1].lower() in (
        "on",
        "off",
        "auto",
        "0",
        "1",
        "true",
        "false",
        "enabled",
        "disabled",
    )


def _plain_options(given: Sequence[Given]) -> list[str]:
    """kvplan's options; 0, -1 and auto are the engine's own default: the model's context, automatic slots."""
    last = {one.flag.field: one.values[0] for one in given if one.flag is not None and one.values}
    automatic = ("0", "-1", "auto", "none")
    return [word for field, text in last.items() if text.lower() not in automatic for word in (_PLAIN[field], text)]


def _options(values: Mapping[str, Any], engine: str) -> tuple[list[str], dict[str, str]]:
    """(kvplan's options, notes by field)."""
    found: list[str] = []
    notes: dict[str, str] = {}
    for field, value in values.items():
        if field in _NOT_OF.get(engine, ()):
            notes[field] = "not counted in the answer of this engine"
            continue
        if field in PLACES or value is None or (value is False and field != "flash_attn"):
            continue
        if field in _SWITCHES:
            found.append(_SWITCHES[field])
        elif field in _SPECIAL:
            found += _SPECIAL[field](value, engine)
        else:
            notes[field] = _NOTED.get(field, "not counted here; kvplan check reads it")
    return found, notes


def _number(value: Fraction) -> str:
    return f"{float(value):.6f}".rstrip("0").rstrip(".")


_SPECIAL: Mapping[str, Callable[[Any, str], list[str]]] = {
    "fraction": lambda value, engine: [_SHARES[family(engine)], _number(value)],
    "flash_attn": lambda value, engine: ["--flash-attn", "on" if value else "off"],
    "flash_attn_off": lambda value, engine: ["--flash-attn", "off"],
    "pool_bytes": lambda value, engine: ["--kv-pool", f"{value}B"],
    "swap_space": lambda value, engine: ["--swap-space", _number(Fraction(value, GIB))],
    "cpu_offload_bytes": lambda value, engine: ["--cpu-offload-gb", _number(Fraction(value, GIB))],
    "swa_ratio": lambda value, engine: ["--swa-full-tokens-ratio", _number(value)],
    "mamba_ratio": lambda value, engine: ["--mamba-full-memory-ratio", _number(value)],
    "quantization": lambda value, engine: [] if value.lower() in ("auto", "none", "compressed-tensors", "gguf") else ["--dtype", _format(value)],
    "speculative_config": lambda value, engine: _drafts(value),
    "quant_policy": lambda value, engine: ["--kv-dtype", {4: "int4", 8: "int8"}[value]] if value in (4, 8) else [],
    "draft_mtp": lambda value, engine: ["--num-speculative-tokens", "1"],
}  # fmt: skip


def _drafts(config: Mapping[str, Any]) -> list[str]:
    """How many tokens are drafted, and that n-grams of the text do it."""
    words = ["--drafter", "ngram"] if config.get("method") == "ngram" else []
    tokens = config.get("num_speculative_tokens")
    return words + (["--num-speculative-tokens", str(tokens)] if tokens is not None else [])


def _format(text: str) -> str:
    """The weight format that a quantization names, as kvplan writes it."""
    key = text.lower().replace("-", "_").removesuffix("_marlin")
    return {"modelopt_fp4": "nvfp4", "modelopt": "fp8", "fbgemm_fp8": "fp8", "bitsandbytes": "nf4"}.get(key, key)


def _placing(theirs: Sequence[Given]) -> list[str]:
    """kvplan's own options for what lies where; auto and all are the default."""
    found: list[str] = []
    for one in theirs:
        name = _PLACING.get(one.flag.field) if one.flag is not None else None
        values = [text for text in one.values if text.lower() not in ("auto", "all", "-1", "-2")]
        if name is not None and (values or not one.values):
            found += [name, *values[:1]]
    return found


def _unplaced(theirs: Sequence[Given]) -> list[str]:
    return [
        f"{shown(_written(one), 60)}: not counted here; kvplan check reads it"
        for one in theirs
        if one.flag is not None and one.flag.field in PLACES and one.flag.field not in _PLACING
    ]


def _refuse_placement(values: Mapping[str, Any], theirs: Sequence[Given], kept: Sequence[str], *, engine: str) -> None:
    """With a device, where weights lie decides whether they fit: that is `kvplan check`'s question."""
    placed = [one for one in theirs if one.flag is not None and one.flag.field in PLACES]
    moving = [one for one in placed if not _all_on_device(one)]
    gpu = kept[kept.index("--gpu") + 1] if "--gpu" in kept[:-1] else None
    if not moving or gpu is None or engine not in ("llamacpp", "ik_llamacpp"):
        return
    model = next((word for word in kept if not word.startswith("-")), "MODEL")
    flags = " ".join(_written(one) for one in theirs)
    if "--gpus" in kept[:-1]:
        gpu = f"{kept[kept.index('--gpus') + 1]}x{gpu}"
    raise UsageError(
        f"{moving[0].name} says where weights lie, which kvplan check answers: "
        f"kvplan check --gpu {shown(gpu, 40)} --model {shown(model, 60)} -- llama-server {shown(flags, 200)}"
    )


def _refuse_another_commands(kept: Sequence[str], known: Collection[str]) -> None:
    """Options of `kvplan fit` that this command does not have: its parser would guess at another one."""
    for word in kept:
        name = word.partition("=")[0]
        if name in _OF_FIT and name not in known:
            alone = ", without --engine" if name == "--also" else ""
            raise UsageError(f"{name} is an option of kvplan fit, plan and simulate: ask kvplan fit{alone}")


def _all_on_device(one: Given) -> bool:
    """-ngl 99 and the like: what kvplan takes for granted."""
    text = one.values[0].lower() if one.values else ""
    field = one.flag.field if one.flag is not None else ""
    if field == "gpu_layers":
        return text in ("all", "auto", "-1", "-2") or (text.isdigit() and int(text) >= 99)
    return field in ("split_mode", "n_cpu_moe") and text in ("layer", "0")


def _written(one: Given) -> str:
    return " ".join((one.name + (f".{one.key}" if one.key else ""), *one.values))


def _notes(theirs: Sequence[Given], said: Mapping[str, str]) -> list[str]:
    """What was taken from the command line and is not in the answer."""
    notes = []
    for one in theirs:
        if one.flag is None:
            continue
        name = shown(_written(one), 60) if one.flag.kind != QUIET else shown(one.name, 40)
        if one.flag.kind == QUIET:
            notes.append(f"{name}: no effect on memory or speed")
        elif one.flag.kind == MATTERS:
            notes.append(f"{name}: not counted; {one.flag.effect}")
        elif one.flag.field in said:
            notes.append(f"{name}: {said[one.flag.field]}")
    return notes


def _placement_notes(theirs: Sequence[Given]) -> list[str]:
    return [
        f"{shown(_written(one), 60)}: "
        + (
            "everything on the devices, as counted"
            if _all_on_device(one)
            else "all bytes are counted together; with a device, kvplan check says where they lie"
        )
        for one in theirs
        if one.flag is not None and one.flag.field in PLACES
    ]
