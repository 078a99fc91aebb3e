"""Environment variables of a start command: which are used, which change what is not counted, which do neither."""

from __future__ import annotations

import re
from collections.abc import Mapping

from planner.launch.llamacpp import ENVIRONMENT as LLAMA_NAMES
from planner.launch.llamacpp import TABLE as LLAMA_TABLE
from planner.launch.secrets import is_secret_name
from planner.launch.table import MATTERS, QUIET, UNKNOWN, USED, Table

VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL",
           "ONEAPI_DEVICE_SELECTOR", "ZE_AFFINITY_MASK", "ASCEND_RT_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES")  # fmt: skip
_OLLAMA_USED = {
    "OLLAMA_CONTEXT_LENGTH": "context_per_slot",
    "OLLAMA_NUM_PARALLEL": "parallel",
    "OLLAMA_KV_CACHE_TYPE": "kv_dtype",
    "OLLAMA_FLASH_ATTENTION": "flash_attn",
    "OLLAMA_GPU_OVERHEAD": "overhead_bytes",
}
_EFFECTS = {
    "OLLAMA_SCHED_SPREAD": "the model is spread over every device, even where one holds it",
    "OLLAMA_MAX_LOADED_MODELS": "other models may be on the device at the same time",
    "OLLAMA_LLM_LIBRARY": "which build of llama.cpp runs: speed",
    "OLLAMA_VULKAN": "Vulkan in place of CUDA or ROCm: speed",
    "OLLAMA_IGPU_ENABLE": "the processor's own graphics count as a device",
    "OLLAMA_NEW_ENGINE": "ollama's own engine in place of llama.cpp: other buffers",
    "OLLAMA_MULTIUSER_CACHE": "prefixes of several users are kept",
    "OLLAMA_NEW_ESTIMATES": "how ollama chooses layers for the device",
    "HSA_OVERRIDE_GFX_VERSION": "kernels of another device: speed",
    "HSA_NO_SCRATCH_RECLAIM": "memory that kernels borrow is kept: a little more of it, fewer stalls",
    "VLLM_ATTENTION_BACKEND": "which attention kernel runs: speed, and the block size it wants",
    "VLLM_CPU_KVCACHE_SPACE": "GiB of cache on a server without GPU",
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "--max-model-len may exceed the model's own limit",
    "VLLM_PP_LAYER_PARTITION": "layers of each pipeline stage",
    "VLLM_MLA_DISABLE": "latent attention is run as plain attention: a much larger cache than is said",
    "VLLM_KV_CACHE_LAYOUT": "order inside a block: speed",
    "VLLM_SSM_CONV_STATE_LAYOUT": "order of recurrent states: speed",
    "VLLM_BATCH_INVARIANT": "slower kernels that repeat exactly",
    "VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE": "bytes of a work buffer on each device (default: 0.4 GiB)",
    "VLLM_DEEPEP_BUFFER_SIZE_MB": "MB of a work buffer on each device",
    "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "memory of CUDA graphs is taken from the pool before it is made",
    "VLLM_REPLICATE_EMBED": "the embedding whole on every rank: more weight a rank",
    "VLLM_USE_SIMPLE_KV_OFFLOAD": "where blocks go that leave the device",
    "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE": "windows of chunked attention are freed",
    "VLLM_SPARSE_INDEXER_MAX_LOGITS_MB": "MB of a work buffer of sparse attention",
    "VLLM_WEIGHT_OFFLOADING_DISABLE_UVA": "offloaded weights are copied each step: speed",
    "VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY": "offloaded weights are copied more slowly: speed",
    "PYTORCH_CUDA_ALLOC_CONF": "PyTorch's allocator: how much is lost to fragments",
    "PYTORCH_ALLOC_CONF": "PyTorch's allocator: how much is lost to fragments",
    "PYTORCH_HIP_ALLOC_CONF": "PyTorch's allocator: how much is lost to fragments",
    "NCCL_P2P_DISABLE": "devices exchange through the host: slower steps with several devices",
    "NCCL_SHM_DISABLE": "how devices exchange: slower steps with several devices",
    "NCCL_IB_DISABLE": "how machines exchange: slower steps on several machines",
    "NCCL_P2P_LEVEL": "how devices exchange: speed with several devices",
    "NCCL_BUFFSIZE": "buffers of each device for exchange",
    "NCCL_CUMEM_ENABLE": "buffers of each device for exchange",
    "CUDA_DEVICE_MAX_CONNECTIONS": "how work reaches the device: speed",
    "CUDA_MODULE_LOADING": "kernels are loaded at start or when needed: up to 1 GiB on each device",
    "GGML_CUDA_ENABLE_UNIFIED_MEMORY": "what does not fit goes to host memory, in place of an error: slow",
    "GGML_CUDA_FORCE_MMQ": "which matrix kernel runs: speed and buffers",
    "GGML_CUDA_FORCE_CUBLAS": "which matrix kernel runs: speed and buffers",
    "GGML_CUDA_NO_PINNED": "host buffers are copied more slowly: speed of what stays on the host",
    "GGML_CUDA_DISABLE_GRAPHS": "no CUDA graphs: decode speed",
    "GGML_CUDA_GRAPH_OPT": "how CUDA graphs run: speed",
    "GGML_CUDA_P2P": "devices exchange directly: speed with several devices",
    "HCCL_BUFFSIZE": "buffers of each device for exchange",
    "PYTORCH_NPU_ALLOC_CONF": "how the allocator keeps blocks: memory lost between them",
    "OMP_NUM_THREADS": "threads of the processor: speed of what stays on the host",
}
_SPEED = re.compile(
    r"VLLM_(USE|ROCM|ALLREDUCE|MARLIN|FUSED|MOE|FLASHINFER|FLASH|TRITON|CUTLASS|HUMMING|GDN|KIMI|STEP|DBO|CPU|XPU|TPU|XLA|"
    r"DEEP|ENABLE|DISABLE|CUDART|SHARED|MULTI|NVFP4|MXFP|FORCE|TUNED|PREFILL|SKIP_P2P|SLEEP)\w*|"
    r"SG?L?(ANG)?_(USE|ENABLE|DISABLE|DEEP|MOE|AITER|ROCM|SET|OPT|FORCE|INT4|FP8|NSA|TRITON|FLASHINFER)\w*|"
    r"(TRTLLM|TLLM|FLASHINFER|NCCL|RCCL|GGML|HIPBLASLT|ROCBLAS|MIOPEN|AITER|TORCHINDUCTOR|TORCH|TRITON)_\w+"
)
_QUIET = re.compile(
    r"HF_\w+|HUGGING_?FACE\w*|TRANSFORMERS_\w+|TOKENIZERS_\w+|MODELSCOPE\w*|VLLM_\w*(LOG|PORT|HOST|_IP|TIMEOUT|CACHE_ROOT|ASSETS|"
    r"USAGE|DO_NOT_TRACK|MAX_|MEDIA|FETCH|DEBUG|TRACE|PLUGINS|WORKER_MULTIPROC|CONFIG_ROOT|API_KEY|RPC|PROCESS|RAY|IMAGE|"
    r"AUDIO|VIDEO|MODELSCOPE|STATS|BUILD|REGEX|RINGBUFFER|NIXL|SERVER_DEV|LORA_RES|ALLOW_RUNTIME|ALLOW_INSECURE|DP_)\w*|"
    r"SGLANG_\w*(LOG|PORT|HOST|TIMEOUT|CACHE|DEBUG|TRACE|RECORD|VERSION|USE_MODELSCOPE|TOOL|HEALTH|WATCHDOG|PROFIL|THINKING|REASONING)\w*|"
    r"HCCL_\w*(TIMEOUT|IF_IP|IFNAME|WHITELIST)\w*|ASCEND_(HOME|TOOLKIT|LAUNCH|GLOBAL|SLOG|PROCESS)\w*|TASK_QUEUE_ENABLE|"
    r"OLLAMA_(HOST|ORIGINS|MODELS|KEEP_ALIVE|LOAD_TIMEOUT|REMOTES|DEBUG\w*|GO_TEMPLATE|NOHISTORY|NOPRUNE|AUTH|NO_CLOUD|"
    r"EDITOR|MAX_QUEUE|MAX_TRANSFER_STREAMS|TMPDIR|USE_MMAP)|"
    r"LLAMA_(LOG|CACHE|API_KEY|OFFLINE)\w*|PATH|HOME|TZ|LANG|LC_\w+|USER|HOSTNAME|PORT|PYTHON\w*|VIRTUAL_ENV|XDG_\w+|TMPDIR|"
    r"(NO|HTTPS?|ALL|no|https?)_(PROXY|proxy)|NVIDIA_DRIVER_CAPABILITIES|NVIDIA_REQUIRE\w*|CUDA_(HOME|PATH|DEVICE_ORDER|LAUNCH_BLOCKING|VERSION)|"
    r"LD_LIBRARY_PATH|LD_PRELOAD|RAY_\w+|GLOO_\w+|NCCL_(DEBUG|SOCKET|IB_HCA|NET)\w*|MASTER_(ADDR|PORT)|WORLD_SIZE|RANK|POD_\w+|"
    r"KUBERNETES_\w+|GOMAXPROCS|DEBIAN_FRONTEND|MALLOC_\w+|LWS_\w+"
)


def classify(name: str, table: Table) -> tuple[str, str]:
    """Returns (kind, what it changes) of a variable under one engine.

    >>> from planner.launch.vllm import TABLE
    >>> classify("CUDA_VISIBLE_DEVICES", TABLE)[0], classify("HF_TOKEN", TABLE)[0], classify("NCCL_P2P_DISABLE", TABLE)[0]
    ('used', 'no effect', 'matters')
    """
    if name in VISIBLE or (table.engine == "ollama" and name in _OLLAMA_USED):
        return USED, ""
    if name == "VLLM_USE_V1" and table.engine == "vllm":
        return USED, ""
    if name in _EFFECTS:
        return MATTERS, _EFFECTS[name]
    if name.startswith("LLAMA_ARG_") and table.engine in ("llamacpp", "ollama"):
        flag = LLAMA_TABLE.by_name.get(llama_flag(name))
        return (UNKNOWN, "") if flag is None else (flag.kind, flag.effect)
    if _QUIET.fullmatch(name) or is_secret_name(name):
        return QUIET, ""
    if _SPEED.fullmatch(name):
        return MATTERS, "which kernels run: speed"
    return UNKNOWN, ""


def llama_flag(name: str) -> str:
    """Returns the flag that an LLAMA_ARG_ variable stands for.

    >>> llama_flag("LLAMA_ARG_CTX_SIZE"), llama_flag("LLAMA_ARG_N_PARALLEL")
    ('--ctx-size', '--parallel')
    """
    return LLAMA_NAMES.get(name, "--" + name.removeprefix("LLAMA_ARG_").lower().replace("_", "-"))


def ollama_values(env: Mapping[str, str]) -> dict[str, str]:
    """Reads the fields that ollama's variables set, as text; an empty variable is not set."""
    return {field: env[name].strip() for name, field in _OLLAMA_USED.items() if env.get(name, "").strip()}


def visible_devices(env: Mapping[str, str]) -> int | None:
    """Counts the devices that the variables leave visible; None where they do not say.

    >>> visible_devices({"CUDA_VISIBLE_DEVICES": "0,2,3"}), visible_devices({"NVIDIA_VISIBLE_DEVICES": "all"})
    (3, None)
    """
    for name in VISIBLE:
        text = env.get(name, "").strip()
        if text and text.lower() not in ("all", "none", "void"):
            count = len([one for one in re.split(r"[,;]", text) if one.strip()])
            return None if "$" in text else count
    return None
