"""llama-server's presets: one flag that names a model and its settings.

Source: llama.cpp v0.5.0 common/arg.cpp, `// presets`.
"""

from __future__ import annotations

from collections.abc import Sequence

_FIM = "-ub 1024 -b 1024 -c 0"
_GPT_OSS = "-ub 2048 -b 32768 -np 2 -c 262144"
_CODER = "ggml-org/Qwen2.5-Coder-{}-Q8_0-GGUF"
PRESETS = {
    "--embd-gemma-default": "-hf ggml-org/embeddinggemma-300M-qat-q4_0-GGUF -ub 2048 -b 2048 -np 32 -c 65536",
    "--fim-qwen-1.5b-default": f"-hf {_CODER.format('1.5B')} {_FIM}",
    "--fim-qwen-3b-default": f"-hf {_CODER.format('3B')} {_FIM}",
    "--fim-qwen-7b-default": f"-hf {_CODER.format('7B')} {_FIM}",
    "--fim-qwen-7b-spec": f"-hf {_CODER.format('7B')} -hfd {_CODER.format('0.5B')} {_FIM}",
    "--fim-qwen-14b-spec": f"-hf {_CODER.format('14B')} -hfd {_CODER.format('0.5B')} {_FIM}",
    "--fim-qwen-30b-default": f"-hf ggml-org/Qwen3-Coder-30B-A3B-Instruct-Q8_0-GGUF {_FIM}",
    "--gpt-oss-20b-default": f"-hf ggml-org/gpt-oss-20b-GGUF {_GPT_OSS}",
    "--gpt-oss-120b-default": f"-hf ggml-org/gpt-oss-120b-GGUF {_GPT_OSS}",
    "--vision-gemma-4b-default": "-hf ggml-org/gemma-3-4b-it-qat-GGUF -c 0",
    "--vision-gemma-12b-default": "-hf ggml-org/gemma-3-12b-it-qat-GGUF -c 0",
}


def with_presets(words: Sequence[str]) -> list[str]:
    """Puts a preset's own flags in front of the words, so that what is written beside it counts.

    >>> with_presets(["--vision-gemma-4b-default", "-c", "8192"])
    ['-hf', 'ggml-org/gemma-3-4b-it-qat-GGUF', '-c', '0', '-c', '8192']
    """
    meant = [word for name in words if name in PRESETS for word in PRESETS[name].split()]
    return [*meant, *(word for word in words if word not in PRESETS)]
