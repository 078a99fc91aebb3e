"""Finds the backend of llama.cpp that a start command names: by its devices, its flags, its image or its folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from planner.launch.question import Said

WITH_BACKENDS = ("llamacpp", "llama-bench", "ollama", "koboldcpp")
# How llama.cpp calls the devices of its backends (`--list-devices`), as `-dev` takes them.
DEVICES = {"cuda": "cuda", "rocm": "rocm", "vulkan": "vulkan", "sycl": "sycl", "metal": "metal", "mtl": "metal"}
# Of KoboldCpp; --usecublas is of both CUDA and ROCm builds, and says neither.
FLAGS = {"--usevulkan": "vulkan", "--usehipblas": "rocm", "--usecuda": "cuda", "--usecpu": "cpu"}
# As images (`llama.cpp:server-vulkan`, `ollama:rocm`) and folders of releases (`llama-b5331-bin-ubuntu-vulkan-x64`) have them.
NAMED = re.compile(r"(?<![a-z])(cuda|rocm|vulkan|sycl|intel|metal)(?![a-z])")


def backend_said(said: str, flags: Sequence[Said], env: Mapping[str, str]) -> str | None:
    """Names the backend that a text says; None where it says none.

    said   the program as it was started, with its image

    >>> dev = Said("-dev", "Vulkan0,Vulkan1", "used")
    >>> backend_said("llama-server", (dev,), {}), backend_said("ollama serve", (), {"OLLAMA_LLM_LIBRARY": "cuda_v12"})
    ('vulkan', 'cuda')
    >>> backend_said("llama-server in ghcr.io/ggml-org/llama.cpp:server-intel", (), {})
    'sycl'
    """
    for flag in reversed(flags):
        name = flag.name.partition("=")[0]
        if name in ("-dev", "--device") and (found := re.match(r"[a-z]+", flag.value.lower())):
            return DEVICES.get(found[0])
        if name in FLAGS:
            return FLAGS[name]
    found = NAMED.search(f"{env.get('OLLAMA_LLM_LIBRARY', '')} {said}".lower())
    return None if found is None else {"intel": "sycl"}.get(found[1], found[1])
