"""Which measured rows a question is like: by engine, its generation and the class of device."""

from __future__ import annotations

import re

from planner.frozen import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.catalogue.device import Device

# What an engine may be called -> the engine that its rows are kept under; the first that the name holds.
_NAMES = {
    "tensorrt": "tensorrt-llm", "trt": "tensorrt-llm", "nim": "tensorrt-llm",
    "deepspeed-mii": "deepspeed-mii", "deepspeed": "deepspeed",
    "vllm": "vllm", "sglang": "sglang", "lmdeploy": "lmdeploy", "turbomind": "lmdeploy", "tgi": "tgi",
    "llama.cpp": "llamacpp", "llamacpp": "llamacpp", "llama-cpp": "llamacpp", "ollama": "llamacpp", "lmstudio": "llamacpp",
    "lm-studio": "llamacpp", "koboldcpp": "llamacpp",
    "exllama": "exllama", "autoawq-gemv": "autoawq-gemv", "autoawq": "autoawq", "tinychat": "tinychat", "mlc": "mlc", "transformers": "transformers",
    "huggingface": "transformers", "fastertransformer": "fastertransformer", "megatron": "megatron-lm",
    "gpt-fast": "gpt-fast",
}  # fmt: skip

# The version from which an engine is a generation of its own: CUDA graphs and schedulers were rewritten there.
_CURRENT_FROM = {"vllm": (0, 8), "tensorrt-llm": (1, 0), "sglang": (0, 5)}
_CURRENT_BUILD = 4400  # of llama.cpp: January 2025

# Of llama.cpp, July 2025: from then on Vulkan and ROCm run a prompt's experts in groups, CUDA since b5200.
_GROUPED_BUILD = 6000

OLD, CURRENT = "to 2024", "current"


@dataclass(frozen=True)
class Population:
    """Which measured rows a question is like: engine ("" for one that none are of), generation, class of device; `early`
    a llama.cpp whose prompts ran experts one by one.
    """

    engine: str
    generation: str
    device_class: str
    early: bool = False


def population(engine: str | None, load: str, device: Device) -> Population:
    """Returns the group of published measurements that a question belongs to, by engine version, load and device.
    Without a version, a static batch counts as one of the rows of 2023 and 2024 (all that were published of static
    batches without a version are), and serving as the current generation.

    >>> from planner.catalogue.entries import find_device
    >>> population("vllm==0.6.3", "serving", find_device("h100-sxm"))
    Population(engine='vllm', generation='to 2024', device_class='nvidia hbm', early=False)
    >>> population("TensorRT-LLM", "serving", find_device("b200")).generation
    'current'
    """
    name, _, version = (engine or "").lower().partition("==")
    kept = next((to for part, to in _NAMES.items() if part in name), "")
    since, found = _CURRENT_FROM.get(kept), re.search(r"(\d+)\.(\d+)", version)
    build = re.search(r"b(\d+)", version)
    if kept == "llamacpp":
        current = build is None or int(build[1]) >= _CURRENT_BUILD
    elif since is not None and found:
        current = (int(found[1]), int(found[2])) >= since
    elif since is not None and name.endswith(("-v0", "-v1")):
        current = name.endswith("-v1")
    else:
        current = load == "serving"
    generation = CURRENT if current else OLD
    kind = device_class(device)
    early = kept == "llamacpp" and kind == "amd" and build is not None and int(build[1]) < _GROUPED_BUILD
    return Population(kept, generation, kind, early)


def device_class(device: Device) -> str:
    """Names a device's class: its vendor, and for NVIDIA the kind of memory, since kernels come nearer to the bandwidth
    of GDDR than to that of HBM.

    >>> from planner.catalogue.entries import find_device
    >>> [device_class(find_device(name)) for name in ("h100-3g.40gb", "l40s", "rtx-4090", "mi300x", "apple-m2-ultra")]
    ['nvidia hbm', 'nvidia gddr', 'nvidia gddr', 'amd', 'apple']
    """
    vendor = (device.vendor or "").lower()
    if vendor == "nvidia":
        whole = device.name.removeprefix("MIG-")  # a slice has a part of the bandwidth, and the memory of its GPU
        fast = (device.bandwidth_bytes_per_s or 0) >= 900e9 or whole != device.name
        return "nvidia hbm" if fast and not whole.startswith(("RTX", "L40")) else "nvidia gddr"
    if vendor == "intel":
        return "gaudi" if device.name.startswith("Gaudi") else "intel"
    return vendor or "other"
