"""Lines of the engines that are known and say nothing of memory, so that none of them is taken for one that was missed.

Each phrase stands in a line that the engine's own source prints about caches, graphs, drafts or adapters without a size.
"""

from __future__ import annotations

KNOWN: dict[str, tuple[str, ...]] = {
    "graphs and compilation": (
        "Capturing CUDA graph", "Capture cuda graph begin", "Compiling a graph for", "Cache the graph", "Directly load the compiled graph",
        "Profiling CUDA graph memory", "cudagraph_mode", "CUDA graph capture", "cudagraphs for decoding", "Cudagraph",
        "torch.compile", "Breakable CUDA graph", "BREAKABLE_CUDAGRAPH", "Capturing batches", "CUDA Graphs since",
    ),
    "the cache's layout and prefixes": (
        "KV cache layout", "CACHE_LAYOUT", "kv cache group sizes", "kv lcm block sizes", "prefix cache", "prefix caching", "adix cache",
        "chunked prefill", "Chunked prefill", "KV cache scaling factors", "KV cache events", "cascade attention", "PYTHONHASHSEED", "chunk cache",
        "init engine (profile, create kv cache", "KV Cache skipped",
    ),
    "transfer of caches": ("KV connector", "KVConnector", "LMCache", "Mooncake", "Nixl", "KV offload", "KV_Caches", "kv caches", "offloading spec"),
    "drafts": (
        "drafter model", "EAGLE model", "MTP model", "draft model", "draft runner", "num_speculative_tokens", "speculative_num_draft_tokens",
        "Async scheduling", "draft acceptance", "draft tokens", "speculative decoding",
    ),
    "adapters": ("LoRA weights", "LoRA config", "LoRA kernel", "LoRA module", "LoRA to", "fused MoE LoRA", "lora adapter"),
    "context of the model": ("n_ctx_train", "n_ctx_orig_yarn", "YaRN scaling", "full-size SWA cache"),
    "pinned memory": ("Pin memory is not supported", "pin_memory=False", "cudaHostRegister", "Pinned memory"),
    "placing layers": ("repeating layers to GPU", "output layer to GPU", "layers to GPU", "entire model", "fitting params", "successfully fit params", "device memory data"),
}  # fmt: skip
PHRASES: tuple[bytes, ...] = tuple(phrase.encode() for phrases in KNOWN.values() for phrase in phrases)


def about(line: str) -> str:
    """Says what a line is about that is known and holds no size; "" where it is none.

    >>> about("INFO Using cache directory: /root for vLLM's torch.compile"), about("INFO hello")
    ('graphs and compilation', '')
    """
    return next((what for what, phrases in KNOWN.items() if any(phrase in line for phrase in phrases)), "")
