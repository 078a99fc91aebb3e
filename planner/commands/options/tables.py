"""The options of the memory commands as plain data: click builds its own from them, and the quick way reads them.

`kvplan estimate MODEL --seq N` is asked far more often than anything else, and importing click costs twice
the answer. So a command line that holds nothing but known options with values is read by `quick_values`;
whatever else it holds (--help, an abbreviation, a mistake) goes to click, which knows how to say so.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# (option, metavar, help); a metavar of "" is a flag, one that ends in "..." may be repeated
Flag = tuple[str, str, str]


HAND: tuple[Flag, ...] = (
    ("--layers", "N", "By hand: number of layers."),
    ("--heads", "N", "By hand: attention heads."),
    ("--kv-heads", "N", "By hand: KV heads (default: --heads)."),
    ("--head-dim", "N", "By hand: width of a head (default: --hidden / --heads)."),
    ("--hidden", "N", "By hand: width of the model."),
    ("--intermediate", "N", "By hand: width of the MLP."),
    ("--vocab", "N", "By hand: size of the vocabulary."),
    ("--sliding-window", "N", "By hand: every layer keeps at most N tokens."),
)


ASSUME: tuple[Flag, ...] = (
    ("--assume", "WHAT", "`full-attention`: answer an upper bound for a model kvplan does not know."),
)


ONLINE: tuple[Flag, ...] = (
    ("--online", "", "Read a model that is not here from the Hugging Face Hub: config and headers, never weights."),
)


MODEL: tuple[Flag, ...] = (("--config", "FILE", "A config.json, in place of MODEL."), *ONLINE, *ASSUME, *HAND)


DTYPE: tuple[Flag, ...] = (
    (
        "--dtype",
        "D",
        "How weights are stored: bf16, fp16, fp32, fp8, awq, nvfp4, q4_k_m ... (default: as the config says).",
    ),
    (
        "--kv-dtype",
        "D",
        "How K and V are stored: fp16, fp8, int8, q8_0, q4_0, nvfp4 ... (default: the float type the model runs in).",
    ),
    ("--k-dtype", "D", "K alone."),
    ("--v-dtype", "D", "V alone."),
)


DEVICE: tuple[Flag, ...] = (
    ("--gpu", "NAME", "A device of `kvplan gpus`, or `local`."),
    ("--memory", "SIZE", "Plain memory of a device, for example 24GiB."),
)


LAYOUT: tuple[Flag, ...] = (
    ("--tp", "N", "Tensor-parallel ranks."),
    ("--pp", "N", "Pipeline stages."),
    ("--ep", "N", "Expert-parallel ranks (of the tp x dp devices)."),
    ("--dp", "N", "Data-parallel attention replicas."),
    ("--dcp", "N", "Decode context parallel: spread the tokens of copied KV heads over N ranks."),
)


RUNTIME: tuple[Flag, ...] = (
    ("--source-tokens", "N", "Length of the encoder's input (T5, BART, Whisper, Llama Vision)."),
    ("--prefill-tokens", "N", "Tokens in one prefill step (default: the prompts, at most 8192)."),
    ("--attention", "fused|eager", "Fused attention (the default) keeps no score matrix."),
    ("--activation", "SIZE", "Take this much for activations, in place of the estimate."),
    (
        "--overhead",
        "NAME=SIZE...",
        "Set an overhead line: context, allocator, communication, or one of your own (cuda_graphs=1GiB). Repeatable.",
    ),
)


# What shares the devices with the model; `planner.commands.options.extras` reads them.
RESIDENTS: tuple[Flag, ...] = (
    (
        "--lora",
        "NxrRANK...",
        "LoRA adapters on the device: 8xr16, or 4xr64:q,v for some modules (default: every linear layer). Repeatable.",
    ),
    ("--drafter", "MODEL", "Speculative decoding: a draft MODEL, or mtp, eagle, eagle3 for a head of that kind."),
    ("--draft-tokens", "N", "Tokens drafted in a step (default: 4, mtp 1)."),
    (
        "--also",
        "MODEL:SEQxN...",
        "Another model on the same devices with room for N sequences of SEQ tokens; MODEL:4kx8@30% gets that share "
        "of what is left, too. Repeatable.",
    ),
    ("--idle-sessions", "N", "Sessions whose cache is kept between turns: on the device, or in the tiers below."),
    ("--host-memory", "SIZE", "Host memory for idle sessions, of the whole layout: 256GiB."),
    ("--ssd", "SIZE", "Disk for idle sessions: 2TB."),
    ("--host-bandwidth", "SIZE", "Bytes a second between one device and the host: 25GB (default: its PCIe x16)."),
    ("--ssd-bandwidth", "SIZE", "Bytes a second of the disks together: 7GB."),
)


OUTPUT: tuple[Flag, ...] = (
    ("--json", "", "JSON in base units, keys that stay."),
    ("--csv", "", "CSV in base units."),
    ("--output", "FILE", "Write to FILE instead of the screen."),
)


# Where --output is the tokens of an answer.
OUTPUT_FILE: tuple[Flag, ...] = (*OUTPUT[:2], ("--output-file", "FILE", OUTPUT[2][2]))


# Flags keep the names their engines give them; `planner.commands.options.engine` knows whose is whose.
ENGINE_FLAGS: tuple[Flag, ...] = (
    ("--kv-pool", "SIZE", "The cache budget of the poorest device, in place of one derived from --gpu."),
    ("--gpu-memory-utilization", "X", "vLLM: share of the device it may take (default: 0.9, from 0.20 0.92)."),
    ("--mem-fraction-static", "X", "SGLang: share for weights and cache (default: by device)."),
    (
        "--kv-cache-free-gpu-memory-fraction",
        "X",
        "TensorRT-LLM: share of what is free after the engine (default: 0.9).",
    ),
    ("--cache-max-entry-count", "X", "LMDeploy: share of what is free after the weights (default: 0.8)."),
    ("--max-model-len", "N", "Longest request the server admits (default: the model's positions)."),
    ("--max-num-batched-tokens", "N", "vLLM: tokens of one step (default: by device and version)."),
    ("--max-num-seqs", "N", "vLLM: sequences of one step (default: by device and version)."),
    ("--block-size", "N", "Tokens of a block (default: the engine's; SGLang calls it page size)."),
    ("--swap-space", "GIB", "vLLM V0: host memory for swapped blocks, GiB a device (default: 4)."),
    ("--cpu-offload-gb", "GIB", "vLLM: weights kept in host memory, GiB a device (default: 0)."),
    ("--disable-hybrid-kv-cache-manager", "", "vLLM V1: charge windows at full length."),
    ("--mamba-ssm-cache-dtype", "D", "vLLM V1: type of recurrent states (default: as the config says)."),
    (
        "--mamba-cache-mode",
        "none|align|all",
        "vLLM V1: how recurrent states are cached (default: none, from 0.28 align).",
    ),
    ("--num-speculative-tokens", "N", "Draft tokens of one step: state columns, and a drafter's layer in the pool."),
    ("--draft-layers", "N", "vLLM V1: attention layers of the drafter (default: 1 where tokens are drafted)."),
    ("--max-running-requests", "N", "SGLang: for the size of the request table."),
    ("--chunked-prefill-size", "N", "SGLang: tokens of a prefill step (default: by device)."),
    ("--cuda-graph-max-bs", "N", "SGLang: largest captured batch (default: by device)."),
    ("--swa-full-tokens-ratio", "X", "SGLang: tokens of the window pool for each of the full pool (default: 0.8)."),
    ("--mamba-full-memory-ratio", "X", "SGLang: memory of states for each byte of tokens (default: 0.9)."),
    ("--ctx-size", "N", "llama.cpp: context of all slots together (default: --seq times --parallel)."),
    ("--parallel", "N", "llama.cpp: slots (default: --batch)."),
    ("--batch-size", "N", "llama.cpp: logical batch (default: 2048)."),
    ("--ubatch-size", "N", "llama.cpp: physical batch (default: 512)."),
    ("--flash-attn", "on|off|auto", "llama.cpp: flash attention (default: on from late 2025)."),
    ("--swa-full", "", "llama.cpp: window layers hold the whole context."),
    ("--kv-unified", "", "llama.cpp: one stream of cells for all slots."),
    ("--mla-mode", "0|1|2|3", "ik_llama.cpp: its -mla (default: 3)."),
    ("--cache-implementation", "NAME", "transformers: dynamic, static or quantized."),
)


ENGINE: tuple[Flag, ...] = (
    ("--engine", "NAME", "Answer in an engine's terms: vllm, vllm==0.11.2, sglang, llamacpp, ollama, tensorrt-llm ..."),
    *ENGINE_FLAGS,
    ("--emit", "", "With --engine: print the start command that the answer implies."),
)


SEQ: tuple[Flag, ...] = (
    ("--seq", "N", "Tokens of a sequence: 8192, 8k, a list 1k,8k,32k or a range 1k..128k (k = 1024)."),
)


BATCH: tuple[Flag, ...] = (("--batch", "N", "Sequences at once (default: 1)."),)


ESTIMATE: tuple[Flag, ...] = (
    *MODEL,
    *SEQ,
    *BATCH,
    *DTYPE,
    *DEVICE,
    ("--gpus", "N", "N devices, as --tp N up to 8 and pipeline stages of 8 beyond."),
    *LAYOUT,
    *RUNTIME,
    *ENGINE,
    ("--explain", "", "Every equation with its numbers, and the config fields behind it."),
    *OUTPUT,
)


_PARAMETERS = {"--json": "as_json", "--csv": "as_csv"}  # json and csv are modules


SHORT = {"-o": "--output"}


def parameter(option: str) -> str:
    """The name under which a command gets an option's value.

    >>> parameter("--kv-dtype"), parameter("--json")
    ('kv_dtype', 'as_json')
    """
    return _PARAMETERS.get(option, option[2:].replace("-", "_"))


def engine_flags_given(values: dict[str, Any]) -> bool:
    """Whether anything on the command line concerns an engine; all else loads none of their code."""
    return any(values.get(parameter(option)) for option, _, _ in ENGINE)


def empty(flags: Sequence[Flag]) -> dict[str, Any]:
    """What a command gets where nothing is given."""
    return {
        parameter(option): () if metavar.endswith("...") else None if metavar else False for option, metavar, _ in flags
    }


def quick_values(arguments: Sequence[str], flags: Sequence[Flag]) -> dict[str, Any] | None:
    """The values of a plain command line, as click would hand them over; None where click should read it.

    >>> quick_values(["gpt2", "--seq", "1k"], SEQ + BATCH)
    {'seq': '1k', 'batch': None, 'model': 'gpt2'}
    >>> quick_values(["gpt2", "--sek", "1k"], SEQ + BATCH) is None
    True
    """
    kinds = {option: metavar for option, metavar, _ in flags}
    values = empty(flags) | {"model": None}
    given: set[str] = set()
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("-"):
            if values["model"] is not None:
                return None
            values["model"] = word
            continue
        option, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        option = SHORT.get(option, option)
        metavar = kinds.get(option)
        many = bool(metavar) and str(metavar).endswith("...")
        if metavar is None or (option in given and not many) or (equals and not metavar):
            return None
        given.add(option)
        if metavar and not equals:
            value = next(rest, "-")
            if value.startswith("-"):
                return None
        name = parameter(option)
        values[name] = (*values[name], value) if many else value if metavar else True
    return values
