"""The options of the commands as plain data: a row a flag, read by click, by the quick way and by the Python functions.

`kvplan estimate MODEL --seq N` is asked far more often than anything else, and importing click costs twice
the answer. So a command line that holds nothing but known options with values is read by `quick_values`;
whatever else it holds (--help, an abbreviation, a mistake) goes to click, which knows how to say so.
"""

# long: one table, a row a flag

from __future__ import annotations

from dataclasses import replace

from planner.errors import BadRequest, one_line
from planner.frozen import dataclass
from planner.options.readers import (
    choice,
    count,
    count_or_zero,
    count_up_to,
    emit_form,
    float_type,
    gib_or_size,
    kv_dtype,
    lengths,
    mla_mode,
    on_off,
    overhead,
    override_tensor,
    ratio,
    rope_factor,
    share_above_zero,
    shares,
    size,
    size_a_second,
    size_or_zero,
    switch,
    text,
    tokens,
    tokens_or_zero,
    weight_dtype,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

VLLM = ("vllm", "vllm-v0", "vllm-v1")
LLAMA = ("llamacpp", "ik_llamacpp", "ollama", "lmstudio", "koboldcpp")
EXLLAMA = ("exllamav3", "exllamav2")
FREE = ("tensorrt-llm", "lmdeploy", "lmdeploy-pytorch")


@dataclass(frozen=True, eq=False, repr=False)
class Flag:
    """One option of a command.

    metavar   what stands for its value in --help; "" is a switch, one that ends in "..." may be repeated
    reader    (what came, the flag's name) -> its value; raises a BadRequest that names the flag
    section   the heading under which --help lists it: Model, Load, Device, Layout, Precision, Engine or Output
    owners    the engines whose flag it is; () is everybody's
    """

    name: str
    metavar: str
    help: str
    reader: Callable[[Any, str], Any]
    section: str
    owners: tuple[str, ...] = ()

    @property
    def parameter(self) -> str:
        """The name under which a command gets its value."""
        return parameter(self.name)

    @property
    def repeated(self) -> bool:
        """Whether it may be given several times."""
        return self.metavar.endswith("...")


def _in(section: str, *rows: tuple[Any, ...]) -> tuple[Flag, ...]:
    """Rows (name, metavar, help, reader[, owners]) under one heading."""
    return tuple(Flag(row[0], row[1], row[2], row[3], section, *row[4:]) for row in rows)


HAND = _in(
    "Model",
    ("--layers", "N", "By hand: number of layers.", count),
    ("--heads", "N", "By hand: attention heads.", count),
    ("--kv-heads", "N", "By hand: KV heads (default: --heads).", count),
    ("--head-dim", "N", "By hand: width of a head (default: --hidden / --heads).", count),
    ("--hidden", "N", "By hand: width of the model.", count),
    ("--intermediate", "N", "By hand: width of the MLP.", count),
    ("--vocab", "N", "By hand: size of the vocabulary.", count),
    ("--sliding-window", "N", "By hand: every layer keeps at most N tokens.", count),
)


ASSUME = _in(
    "Model",
    ("--assume", "WHAT", "`full-attention`: an upper bound for an unknown model.", text),
)


ONLINE = _in(
    "Model",
    (
        "--online",
        "",
        "Look up on the Hugging Face Hub: headers, never weights.",
        switch,
    ),
)


ROPE = _in(
    "Model",
    ("--rope-scaling", "X", "Multiply the positions by X: RoPE scaling (YaRN).", rope_factor),
)


MODEL = (
    Flag("--config", "FILE", "A config.json, in place of MODEL.", text, "Model"),
    *ONLINE,
    *ASSUME,
    *ROPE,
    *HAND,
)


DTYPE = _in(
    "Precision",
    (
        "--dtype",
        "D",
        "Weights: bf16, fp8, awq, q4_k_m ... (default: config's).",
        weight_dtype,
    ),
    (
        "--kv-dtype",
        "D",
        "K and V: fp16, fp8, q8_0 ... (default: as it runs).",
        kv_dtype,
    ),
    ("--k-dtype", "D", "K alone.", kv_dtype),
    ("--v-dtype", "D", "V alone.", kv_dtype),
)


DEVICE = _in(
    "Device",
    ("--gpu", "NAME", "A device of `kvplan gpus`, or `local`.", text),
    ("--memory", "SIZE", "Memory of one device, for example 24GiB.", text),
)


# Where a list of them is asked at once.
DEVICES = (replace(DEVICE[0], help="A device of `kvplan gpus`, `local`, or a list."), *DEVICE[1:])


LAYOUT = _in(
    "Layout",
    ("--gpus", "N", "N devices, as --tp N up to 8 and pipeline stages of 8 beyond.", count),
    ("--tp", "N", "Tensor-parallel ranks.", count),
    ("--pp", "N", "Pipeline stages.", count),
    ("--ep", "N", "Expert-parallel ranks (of the tp x dp devices).", count),
    ("--dp", "N", "Data-parallel attention replicas.", count),
    ("--dcp", "N", "Decode context parallel: copied KV heads split tokens.", count),
)


RUNTIME = (
    Flag(
        "--source-tokens",
        "N",
        "Length of the encoder's input (T5, Whisper).",
        tokens_or_zero,
        "Load",
    ),
    Flag("--prefill-tokens", "N", "Tokens of a prefill step (default: at most 8192).", tokens, "Load"),
    Flag(
        "--attention",
        "fused|eager",
        "fused (the default) keeps no score matrix.",
        choice("fused", "eager"),
        "Load",
    ),
    Flag("--activation", "SIZE", "Bytes for activations, in place of the estimate.", size_or_zero, "Device"),
    Flag(
        "--overhead",
        "NAME=SIZE...",
        "One line of overhead: context, allocator or your own.",
        overhead,
        "Device",
    ),
)


# What shares the devices with the model; `planner.options.extras` reads them.
EXTRAS = _in(
    "Device",
    (
        "--lora",
        "NxrRANK...",
        "LoRA adapters on the device: 8xr16, or 4xr64:q,v for some modules (default: every linear layer). Repeatable.",
        text,
    ),
    (
        "--mmproj",
        "FILE",
        "A tower in a GGUF of its own, with its buffer.",
        text,
    ),
    ("--drafter", "MODEL", "Speculative decoding: a draft MODEL, or mtp, eagle, eagle3 for a head of that kind.", text),
    ("--draft-tokens", "N", "Tokens drafted in a step (default: 4, mtp 1).", count),
    (
        "--also",
        "MODEL:SEQxN...",
        "Another model on the same devices with room for N sequences of SEQ tokens; MODEL:4kx8@30% gets that share of what is left, too. Repeatable.",
        text,
    ),
    (
        "--idle-sessions",
        "N",
        "Sessions whose cache is kept between turns: on the device, or in the tiers below.",
        count,
    ),
    ("--host-memory", "SIZE", "Host memory for idle sessions, or for what llama.cpp's cards do not hold: 64GiB.", size),
    ("--ssd", "SIZE", "Disk for idle sessions: 2TB.", size),
    (
        "--host-bandwidth",
        "SIZE",
        "Bytes a second between one device and the host: 25GB (default: its PCIe x16).",
        size_a_second,
    ),
    ("--ssd-bandwidth", "SIZE", "Bytes a second of the disks together: 7GB.", size_a_second),
)


OUTPUT = _in(
    "Output",
    ("--json", "", "JSON in base units, keys that stay.", switch),
    ("--csv", "", "CSV in base units.", switch),
    ("--verbose", "", "Say what is usually assumed, too.", switch),
    ("--output", "FILE", "Write to FILE instead of the screen.", text),
)


# Flags keep the names their engines give them.
ENGINE_FLAGS = _in(
    "Engine",
    ("--kv-pool", "SIZE", "Cache of the poorest device, in place of --gpu's.", size),
    (
        "--gpu-memory-utilization",
        "X",
        "vLLM: share of the device (0.9, from 0.20 0.92).",
        share_above_zero,
        VLLM,
    ),
    (
        "--mem-fraction-static",
        "X",
        "SGLang: share for weights and cache (default: by device).",
        share_above_zero,
        ("sglang",),
    ),
    (
        "--kv-cache-free-gpu-memory-fraction",
        "X",
        "TensorRT-LLM: share of what is free after the engine (default: 0.9).",
        share_above_zero,
        ("tensorrt-llm",),
    ),
    (
        "--cache-max-entry-count",
        "X",
        "LMDeploy: share of what is free after the weights (default: 0.8).",
        share_above_zero,
        ("lmdeploy", "lmdeploy-pytorch"),
    ),
    ("--max-model-len", "N", "Longest request admitted (default: positions).", tokens),
    ("--max-num-batched-tokens", "N", "vLLM: tokens of a step (default: by device).", tokens, VLLM),
    ("--max-num-seqs", "N", "vLLM: sequences of a step (default: by device).", count, VLLM),
    (
        "--block-size",
        "N",
        "Tokens of a block; SGLang calls it page size.",
        count,
        (*VLLM, *FREE, "sglang"),
    ),
    ("--swap-space", "GIB", "vLLM V0: GiB to swap to, a device (default: 4).", gib_or_size, VLLM),
    ("--cpu-offload-gb", "GIB", "vLLM: GiB of weights on the host, a device.", gib_or_size, VLLM),
    ("--disable-hybrid-kv-cache-manager", "", "vLLM V1: charge windows at full length.", switch, VLLM),
    (
        "--mamba-ssm-cache-dtype",
        "D",
        "vLLM V1: type of states (default: config's).",
        float_type,
        VLLM,
    ),
    (
        "--mamba-cache-mode",
        "none|align|all",
        "vLLM V1: states, where prefixes are cached: align, or all to 0.27.",
        choice("none", "align", "all"),
        VLLM,
    ),
    ("--enable-prefix-caching", "", "vLLM: prefix caching (hybrids: from 0.28).", switch, VLLM),
    ("--no-enable-prefix-caching", "", "vLLM: no prefix caching, one state a request.", switch, VLLM),
    ("--no-async-scheduling", "", "vLLM: windows are charged one batch, not two.", switch, VLLM),
    ("--kv-events-config", "JSON", "vLLM to 0.19: turns the hybrid manager off.", text, VLLM),
    ("--kv-cache-memory-bytes", "SIZE", "vLLM: the cache of a device as given, as --kv-pool.", size, VLLM),
    ("--num-gpu-blocks-override", "N", "vLLM: blocks of the cache, whatever fits.", count, VLLM),
    (
        "--num-speculative-tokens",
        "N",
        "Draft tokens of a step: states, a drafter.",
        count_up_to(1024, "no server drafts more in one step"),
        (*VLLM, *LLAMA, *EXLLAMA),
    ),
    (
        "--draft-layers",
        "N",
        "vLLM V1: layers of the drafter (default: 1).",
        count_up_to(1024, "no drafter has more layers"),
        VLLM,
    ),
    ("--max-running-requests", "N", "SGLang: for the size of the request table.", count, ("sglang",)),
    ("--chunked-prefill-size", "N", "SGLang: tokens of a prefill step (default: by device).", tokens, ("sglang",)),
    ("--cuda-graph-max-bs", "N", "SGLang: largest captured batch (default: by device).", count, ("sglang",)),
    (
        "--swa-full-tokens-ratio",
        "X",
        "SGLang: tokens of the window pool for each of the full pool (default: 0.8).",
        ratio,
        ("sglang",),
    ),
    (
        "--mamba-full-memory-ratio",
        "X",
        "SGLang: memory of states for each byte of tokens (default: 0.9).",
        ratio,
        ("sglang",),
    ),
    (
        "--enable-dp-attention",
        "",
        "SGLang: --dp divides --tp in place of multiplying it.",
        switch,
        ("sglang",),
    ),
    (
        "--ctx-size",
        "N",
        "llama.cpp: context of all slots together (default: --seq times --parallel); ExLlama: cache_size.",
        tokens,
        (*LLAMA, *EXLLAMA),
    ),
    ("--parallel", "N", "llama.cpp: slots (default: --batch); ExLlama: max_batch_size.", count, (*LLAMA, *EXLLAMA)),
    ("--batch-size", "N", "llama.cpp: logical batch (default: 2048).", tokens, LLAMA),
    (
        "--ubatch-size",
        "N",
        "llama.cpp: physical batch (default: 512); ExLlama: chunk_size (2048).",
        tokens,
        (*LLAMA, *EXLLAMA),
    ),
    ("--flash-attn", "on|off|auto", "llama.cpp: flash attention (default: on from late 2025).", on_off, LLAMA),
    ("--swa-full", "", "llama.cpp: window layers hold the whole context.", switch, LLAMA),
    (
        "--useswa",
        "",
        "KoboldCpp: window layers hold the window alone (from 1.114 the default).",
        switch,
        ("koboldcpp",),
    ),
    ("--kv-unified", "", "llama.cpp: one stream of cells for all slots.", switch, LLAMA),
    ("--mla-mode", "0|1|2|3", "ik_llama.cpp: its -mla (default: 3).", mla_mode, ("ik_llamacpp",)),
    ("--cache-implementation", "NAME", "transformers: dynamic, static or quantized.", text, ("transformers",)),
)


# What llama.cpp keeps on which card and what on the host: of `estimate` and `fit`.
PLACEMENT_FLAGS = _in(
    "Engine",
    (
        "--n-gpu-layers",
        "N",
        "llama.cpp: layers on the cards, the last ones with the head (default: all).",
        count_or_zero,
        LLAMA,
    ),
    ("--n-cpu-moe", "N", "llama.cpp: the first N layers keep their experts on the host.", count_or_zero, LLAMA),
    ("--cpu-moe", "", "llama.cpp: all experts on the host.", switch, LLAMA),
    (
        "--override-tensor",
        "REGEX=CPU...",
        "llama.cpp: tensors on the host by name. Repeatable.",
        override_tensor,
        LLAMA,
    ),
    ("--tensor-split", "A,B", "llama.cpp: shares of the cards (default: by their memory).", shares, LLAMA),
    ("--split-mode", "MODE", "llama.cpp: layer, row or none (default: layer).", choice("layer", "row", "none"), LLAMA),
    ("--no-kv-offload", "", "llama.cpp: the cache on the host.", switch, LLAMA),
)


ENGINE = (
    Flag(
        "--engine",
        "NAME",
        "Answer in its terms: vllm, vllm==0.11.2, sglang ...",
        text,
        "Engine",
    ),
    *ENGINE_FLAGS,
    *PLACEMENT_FLAGS,
    Flag(
        "--emit",
        "[FORM]",
        "Print its start command; compose or k8s: a file.",
        emit_form,
        "Engine",
    ),
)


SEQ = _in(
    "Load",
    ("--seq", "N", "Tokens: 8k or 1k..128k (default: 8k or limit).", lengths),
)


BATCH = _in(
    "Load",
    ("--batch", "N", "Sequences at once (default: 1).", count),
)


ESTIMATE = (
    *MODEL,
    *SEQ,
    replace(BATCH[0], help="Sequences at once, one or a list (default: 1)."),
    *DTYPE,
    *DEVICES,
    *LAYOUT,
    *RUNTIME,
    *ENGINE,
    Flag("--host-memory", "SIZE", "llama.cpp: the host takes what the cards do not.", size, "Device"),
    *(flag for flag in EXTRAS if flag.name == "--mmproj"),
    Flag("--explain", "", "Every equation with its numbers and config fields.", switch, "Output"),
    *OUTPUT,
)


_PARAMETERS = {"--json": "as_json", "--csv": "as_csv"}  # json and csv are modules
SHORT = {"-o": "--output", "-v": "--verbose"}


def parameter(option: str) -> str:
    """Names the parameter under which a command gets an option's value.

    >>> parameter("--kv-dtype"), parameter("--json")
    ('kv_dtype', 'as_json')
    """
    return _PARAMETERS.get(option, option[2:].replace("-", "_"))


def empty(flags: Sequence[Flag]) -> dict[str, Any]:
    """Returns what a command gets where nothing is given."""
    return {flag.parameter: () if flag.repeated else None if flag.metavar else False for flag in flags}


def engine_flags_given(values: Mapping[str, Any]) -> bool:
    """Tells whether anything on the command line concerns an engine; all else loads none of their code."""
    return any(values.get(flag.parameter) for flag in ENGINE)


def read_values(flags: Sequence[Flag], values: Mapping[str, Any]) -> dict[str, Any]:
    """Reads every value by the reader of its flag; what was not given stays None, False or ().

    >>> read_values(LAYOUT, {"tp": "2", "pp": 4})["tp"], read_values(LAYOUT, {"tp": "2", "pp": 4})["pp"]
    (2, 4)

    Raises BadRequest in one line that names the flag; MODEL and unknown names are handed through.
    """
    found = dict(values)
    for flag in flags:
        value = values.get(flag.parameter)
        if flag.repeated:
            items = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
            found[flag.parameter] = tuple(flag.reader(item, flag.name) for item in items)
        elif value is not None:
            found[flag.parameter] = flag.reader(value, flag.name)
    return found


def given(flags: Sequence[Flag], options: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns options by name as a command gets them, all others empty; `kind` says what any other name is not.

    >>> given(BATCH, {"batch": 8}, "an option")
    {'batch': 8}
    """
    values = empty(flags)
    for name, value in options.items():
        if name not in values:
            raise BadRequest(f"{one_line(name, 40)!r} is not {kind}")
        values[name] = values[name] if value is None else value
    return values


def quick_values(arguments: Sequence[str], flags: Sequence[Flag]) -> dict[str, Any] | None:
    """Reads the values of a plain command line, as click would hand them over; None where click should read it.

    >>> quick_values(["gpt2", "--seq", "1k"], SEQ + BATCH)
    {'seq': '1k', 'batch': None, 'model': 'gpt2'}
    >>> quick_values(["gpt2", "--sek", "1k"], SEQ + BATCH) is None
    True
    """
    known = {flag.name: flag for flag in flags}
    values = empty(flags) | {"model": None}
    seen: set[str] = set()
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            if values["model"] is not None:
                return None
            values["model"] = word
            continue
        option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        flag = known.get(SHORT.get(option, option))
        if flag is None or (flag.name in seen and not flag.repeated) or (equals and not flag.metavar):
            return None
        seen.add(flag.name)
        if flag.metavar and not equals:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
        name = flag.parameter
        values[name] = (*values[name], value) if flag.repeated else value if flag.metavar else True
    return values
