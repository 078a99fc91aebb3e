"""ollama: the flags of `ollama run` and `serve`, a Modelfile's parameters, its environment (v0.33.0)."""

from __future__ import annotations

from planner.launch.table import Table, table

QUIET = """
-v|--version --verbose --insecure --nowordwrap --format= --think=? --hidethinking --truncate=? --dimensions=
--keepalive= --experimental --experimental-yolo --experimental-websearch -h|--help
"""
TABLE: Table = table("ollama", "ollama v0.33.0", "", matters="", quiet=QUIET, equals=True)

# PARAMETER lines of a Modelfile, and /set parameter
PARAMETERS_USED = {
    "num_ctx": "ctx_size",
    "num_batch": "ubatch_size",
    "num_gpu": "gpu_layers",
    "num_parallel": "parallel",
    "num_predict": "output_tokens",
}
PARAMETERS_MATTER = {
    "num_thread": "threads of the processor: speed of what stays on the host",
    "main_gpu": "which device takes the small tensors",
    "use_mmap": "how the file is read: host memory while it runs",
    "use_mlock": "the file stays in host memory",
    "numa": "memory of several processors: speed of what stays on the host",
    "low_vram": "no scratch buffers on the device (no longer)",
    "num_gqa": "KV heads, of files that did not say (no longer)",
    "num_keep": "tokens that stay when a context is cut",
    "draft_num_predict": "tokens drafted in a step: speed",
}
PARAMETERS_QUIET = frozenset(
    (
        "mirostat mirostat_eta mirostat_tau repeat_last_n repeat_penalty temperature seed stop tfs_z top_k top_p min_p "
        "typical_p presence_penalty frequency_penalty penalize_newline vocab_only f16_kv logits_all embedding_only "
        "rope_frequency_base rope_frequency_scale"
    ).split()
)
# Instructions of a Modelfile beside FROM and PARAMETER
INSTRUCTIONS_QUIET = frozenset("TEMPLATE SYSTEM LICENSE MESSAGE RENDERER PARSER REQUIRES".split())
