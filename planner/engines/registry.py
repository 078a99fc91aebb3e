"""Engines by name, and the version ranges that `kvplan engines` puts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from planner.engines.base import EngineAnswer, Options, parse_version
from planner.errors import UnknownName, one_line
from planner.memory.estimate import Estimate
from planner.memory.estimate import estimate as ask

# name -> (module, function, what the function is told of the name)
ENGINES: dict[str, tuple[str, str, str | None]] = {
    "vllm": ("vllm", "answer", None),
    "vllm-v0": ("vllm", "answer", "v0"),
    "vllm-v1": ("vllm", "answer", "v1"),
    "sglang": ("sglang", "answer", None),
    "llamacpp": ("llamacpp", "answer", "llamacpp"),
    "ik_llamacpp": ("llamacpp", "answer", "ik_llamacpp"),
    "ollama": ("llamacpp", "answer", "ollama"),
    "lmstudio": ("llamacpp", "answer", "lmstudio"),
    "koboldcpp": ("llamacpp", "answer", "koboldcpp"),
    "tensorrt-llm": ("fractions_of_free", "tensorrt_llm", None),
    "lmdeploy": ("fractions_of_free", "lmdeploy", None),
    "lmdeploy-pytorch": ("fractions_of_free", "lmdeploy", "pytorch"),
    "transformers": ("transformers", "answer", None),
    "mlx": ("mlx", "answer", None),
    "exllamav3": ("exllama", "answer", "exllamav3"),
    "exllamav2": ("exllama", "answer", "exllamav2"),
}
ALIASES = {
    "llama.cpp": "llamacpp", "llama-cpp": "llamacpp", "llama_cpp": "llamacpp", "llama-server": "llamacpp",
    "ik_llama.cpp": "ik_llamacpp", "ik-llama.cpp": "ik_llamacpp", "ik_llama": "ik_llamacpp", "ik-llamacpp": "ik_llamacpp",
    "lm-studio": "lmstudio", "lm studio": "lmstudio", "lm_studio": "lmstudio", "ik-llama": "ik_llamacpp", "ik": "ik_llamacpp",
    "trtllm": "tensorrt-llm", "trt-llm": "tensorrt-llm", "tensorrt_llm": "tensorrt-llm", "tensorrtllm": "tensorrt-llm",
    "kobold": "koboldcpp", "kobold.cpp": "koboldcpp", "koboldai": "koboldcpp", "hf": "transformers", "turbomind": "lmdeploy", "mlx-lm": "mlx", "mlx_lm": "mlx",
    **dict.fromkeys(("exllama", "exl3", "tabbyapi", "tabby"), "exllamav3"), "exl2": "exllamav2",
}  # fmt: skip
# What people name as an engine and is none here -> what to write in its place
_RUN_LLAMACPP = ("jan", "llamafile", "gpt4all", "llama-cpp-python", "llama-swap", "lemonade")
_OTHERS = {
    **{name: f"{name} runs llama.cpp: write --engine llamacpp" for name in _RUN_LLAMACPP},
    **dict.fromkeys(
        ("mlx-vlm", "mlx_vlm"),
        "mlx-vlm is not modelled: --engine mlx is the closest",
    ),
    **dict.fromkeys(
        ("text-generation-webui", "oobabooga", "ooba"),
        "text-generation-webui runs llama.cpp or ExLlama: write --engine llamacpp or --engine exllamav3",
    ),
    **dict.fromkeys(
        ("tgi", "text-generation-inference", "text-generation-launcher"),
        "text-generation-inference is not modelled: --engine vllm is the closest",
    ),
    **dict.fromkeys(
        (
            "aphrodite",
            "nano-vllm",
            "vllm-omni",
            "mistral.rs",
            "mistralrs",
            "ktransformers",
            "fastllm",
            "mnn",
            "openvino",
            "triton",
        ),
        "this engine is not modelled: leave --engine out for weights and cache alone",
    ),
}
# What `kvplan engines` shows: (engine, version, label)
TABLE = (
    ("vllm-v0", "0.6.6", "vLLM to 0.7 (V0)"),
    ("vllm", "0.11.2", "vLLM 0.11 to 0.20"),
    ("vllm", "0.21", "vLLM from 0.21"),
    ("sglang", None, "SGLang 0.5"),
    ("llamacpp", None, "llama.cpp 2026"),
    ("ik_llamacpp", "3900", "ik_llama.cpp 2025"),
    ("ollama", None, "ollama"),
    ("tensorrt-llm", None, "TensorRT-LLM"),
    ("lmdeploy", None, "LMDeploy"),
    ("transformers", None, "transformers 5"),
)


def parse_engine(text: str) -> tuple[str, str | None]:
    """Reads (engine, version or None) of `vllm`, `vllm==0.11.2`, `llama.cpp==b5331`.

    >>> parse_engine("vllm==0.11.2"), parse_engine("llama.cpp"), parse_engine("TRT-LLM==0.20.0")
    (('vllm', '0.11.2'), ('llamacpp', None), ('tensorrt-llm', '0.20.0'))
    """
    name, equals, version = text.strip().partition("==")
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key in _OTHERS:
        raise UnknownName(f"--engine {one_line(text, 40)!r}: {_OTHERS[key]}")
    if key not in ENGINES:
        from difflib import get_close_matches  # slow to import, and only wanted when a name is wrong

        close = get_close_matches(key[:40], [*ENGINES, *ALIASES], n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise UnknownName(
            f"--engine {one_line(text, 40)!r} is not known{hint} Known: {', '.join(ENGINES)}; write for example vllm==0.11.2"
        )
    version = version.strip()
    if equals and (not version or (parse_version(version) is None and "dev" not in version)):
        raise UnknownName(
            f"--engine {one_line(text, 40)!r} names no version; write for example vllm==0.11.2 or llamacpp==b5331"
        )
    return key, one_line(version, 40) if version else None


def family(engine: str) -> str:
    """Names the program of which an engine is one form: vLLM's generations, LMDeploy's backends, all that runs llama.cpp.

    >>> [family(name) for name in ("vllm-v0", "lmdeploy-pytorch", "tensorrt-llm", "ollama", "exllamav2", "mlx")]
    ['vllm', 'lmdeploy', 'tensorrt-llm', 'llamacpp', 'exllama', 'mlx']
    """
    module = ENGINES[engine][0] if engine in ENGINES else engine
    return engine.removesuffix("-pytorch") if module == "fractions_of_free" else module


def answer_of(name: str, version: str | None, estimate: Estimate, *, options: Options) -> EngineAnswer:
    """Asks the engine `name`, as `parse_engine` gives it, for its answer."""
    module, function, told = ENGINES[name]
    made = getattr(import_module(f"planner.engines.{module}"), function)(estimate, options, version, told)
    assert isinstance(made, EngineAnswer)
    return made


def request_bytes_of(
    name: str, version: str | None, estimate: Estimate, *, lengths: Sequence[int], options: Options
) -> list[int]:
    """Asks the engine `name` for the bytes of its pool that requests of each length take: `answer_of(...).request_bytes`,
    and no more than that is worked out where the engine can.
    """
    module, _, told = ENGINES[name]

    def of(tokens: int) -> Estimate:
        return ask(estimate.spec, replace(estimate.request, seq_tokens=tokens), estimate.capacity)

    if module != "vllm":
        return [answer_of(name, version, of(tokens), options=options).request_bytes for tokens in lengths]
    from planner.engines import vllm

    if options.max_model_len is None:  # then the longest request, and all that hangs on it, is each one's own
        return [vllm.request_bytes(of(n), options, version, lengths=[n], generation=told)[0] for n in lengths]
    return vllm.request_bytes(estimate, options, version, lengths=lengths, generation=told)
