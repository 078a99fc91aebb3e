"""ollama's names: `family:tag`, where the tag says size, tuning and file type, and what is left out has a default.

Source: the library's pages on ollama.com as of 2026 and, for older models, as their tags stood when added; a tag
can be moved by its owner, so the answer says what was taken.
"""

from __future__ import annotations

# What `family` and `family:latest` are.
LATEST = {
    "llama2": "7b", "llama3": "8b", "llama3.1": "8b", "llama3.2": "3b", "llama3.3": "70b", "llama3.2-vision": "11b",
    "llama4": "scout", "codellama": "7b", "tinyllama": "1.1b", "vicuna": "7b",
    "gemma": "7b", "gemma2": "9b", "gemma3": "4b", "gemma3n": "e4b", "gemma4": "e4b",
    "qwen": "4b", "qwen2": "7b", "qwen2.5": "7b", "qwen2.5-coder": "7b", "qwen2.5vl": "7b", "qwen3": "8b",
    "qwen3-coder": "30b", "qwen3-vl": "8b", "qwen3-next": "80b", "qwen3-embedding": "8b", "qwq": "32b",
    "phi": "2.7b", "phi3": "3.8b", "phi3.5": "3.8b", "phi4": "14b", "phi4-reasoning": "14b",
    "mistral": "7b", "mistral-nemo": "12b", "mistral-small": "24b", "mistral-large": "123b", "mixtral": "8x7b",
    "devstral": "24b", "magistral": "24b", "deepseek-r1": "8b", "deepseek-coder": "1.3b", "deepseek-coder-v2": "16b",
    "deepseek-llm": "7b", "deepseek-v2": "16b", "deepseek-v3": "671b", "deepseek-v3.1": "671b", "command-r": "35b",
    "command-r-plus": "104b", "command-a": "111b", "command-r7b": "7b", "gpt-oss": "20b", "granite3.3": "8b",
    "granite-code": "3b", "smollm": "1.7b", "smollm2": "1.7b", "starcoder2": "3b", "yi": "6b", "falcon3": "7b",
    "olmo2": "7b", "exaone-deep": "7.8b", "nemotron": "70b", "solar": "10.7b", "stablelm2": "1.6b", "internlm2": "7b",
    "hermes3": "8b", "openhermes": "latest", "zephyr": "7b", "dbrx": "132b", "qwen3.5": "9b", "codestral": "22b",
    "ministral-3": "8b", "devstral-small-2": "24b", "devstral-2": "123b", "mistral-small3.1": "24b", "cogito": "8b",
    "mistral-small3.2": "24b", "granite4": "micro", "granite3.1-dense": "8b", "granite3.2": "8b", "olmo-3": "7b",
    "olmo-3.1": "32b", "exaone3.5": "7.8b", "phi4-mini": "3.8b", "phi4-mini-reasoning": "3.8b", "llava": "7b",
    "gpt-oss-safeguard": "20b", "nemotron-3-nano": "30b", "nemotron-3-super": "120b", "nemotron-mini": "4b",
    "dolphin3": "8b", "tulu3": "8b", "codegemma": "7b", "aya-expanse": "8b", "deepscaler": "1.5b", "deepcoder": "14b",
    "openthinker": "7b", "minicpm-v": "8b", "medgemma": "4b", "translategemma": "4b", "functiongemma": "270m",
    "smallthinker": "3b", "lfm2.5-thinking": "1.2b", "mathstral": "7b", "wizardlm2": "7b", "starling-lm": "7b",
    "dolphin-mixtral": "8x7b", "dolphin-mistral": "7b", "dolphin-llama3": "8b", "qwen2-math": "7b", "marco-o1": "7b",
}  # fmt: skip
# Tags that stand for one model whose own name says more: (family, first word of the tag) -> catalogue name.
MEANS = {
    ("deepseek-r1", "1.5b"): "deepseek-r1-distill-qwen-1.5b",
    ("deepseek-r1", "7b"): "deepseek-r1-distill-qwen-7b",
    ("deepseek-r1", "8b"): "deepseek-r1-0528-qwen3-8b",
    ("deepseek-r1", "14b"): "deepseek-r1-distill-qwen-14b",
    ("deepseek-r1", "32b"): "deepseek-r1-distill-qwen-32b",
    ("deepseek-r1", "70b"): "deepseek-r1-distill-llama-70b",
    ("deepseek-r1", "671b"): "deepseek-r1",
    ("mistral", "7b"): "mistral-7b-v0.3",
    ("mistral-small", "24b"): "mistral-small-24b",
    ("mistral-small", "22b"): "mistral-small-22b",
    ("mistral-large", "123b"): "mistral-large-2-123b",
    ("phi3", "mini"): "phi-3-mini-128k",
    ("phi3", "3.8b"): "phi-3-mini-128k",
    ("phi3", "medium"): "phi-3-medium-128k",
    ("phi3", "14b"): "phi-3-medium-128k",
    ("phi", "2.7b"): "phi-2",
    ("llama4", "16x17b"): "llama-4-scout",
    ("llama4", "128x17b"): "llama-4-maverick",
    ("nemotron", "70b"): "llama-3.1-nemotron-70b",
    ("command-r", "35b"): "command-r-08-2024",
    ("hermes3", "8b"): "hermes-3-llama-3.1-8b",
    ("hermes3", "70b"): "hermes-3-llama-3.1-70b",
    ("hermes3", "3b"): "hermes-3-llama-3.2-3b",
    ("openhermes", "latest"): "openhermes-2.5-mistral-7b",
    ("zephyr", "7b"): "zephyr-7b-beta",
    ("cogito", "3b"): "llama-3.2-3b",
    ("cogito", "8b"): "llama-3.1-8b",
    ("cogito", "14b"): "qwen2.5-14b",
    ("cogito", "32b"): "qwen2.5-32b",
    ("cogito", "70b"): "llama-3.1-70b",
    ("granite4", "micro"): "granite-4.0-micro",
    ("granite4", "3b"): "granite-4.0-micro",
    ("granite3.1-dense", "8b"): "granite-3.1-8b",
    ("granite3.1-dense", "2b"): "granite-3.1-2b",
    ("dolphin3", "8b"): "llama-3.1-8b",
    ("dolphin-llama3", "8b"): "llama-3-8b",
    ("dolphin-mixtral", "8x7b"): "mixtral-8x7b",
    ("dolphin-mixtral", "8x22b"): "mixtral-8x22b",
    ("dolphin-mistral", "7b"): "mistral-7b-v0.2",
    ("wizardlm2", "7b"): "mistral-7b-v0.1",
    ("wizardlm2", "8x22b"): "mixtral-8x22b",
    ("openthinker", "7b"): "qwen2.5-7b",
    ("openthinker", "32b"): "qwen2.5-32b",
    ("deepscaler", "1.5b"): "deepseek-r1-distill-qwen-1.5b",
    ("deepcoder", "1.5b"): "deepseek-r1-distill-qwen-1.5b",
    ("deepcoder", "14b"): "deepseek-r1-distill-qwen-14b",
    ("marco-o1", "7b"): "qwen2-7b",
    ("tulu3", "8b"): "llama-3.1-tulu-3-8b",
    ("tulu3", "70b"): "llama-3.1-tulu-3-70b",
    ("llava", "7b"): "llava-1.6-mistral-7b",
    ("llava", "13b"): "llava-1.6-vicuna-13b",
    ("llava", "34b"): "llava-1.6-34b",
    ("codestral", "22b"): "mistral-small-22b",
    ("devstral", "24b"): "devstral-small-2507",
    ("magistral", "24b"): "magistral-small-2506",
    ("vicuna", "7b"): "vicuna-7b-v1.5",
    ("vicuna", "13b"): "vicuna-13b-v1.5",
    ("nous-hermes2-mixtral", "8x7b"): "nous-hermes-2-mixtral-8x7b",
} | {("qwen", f"{size}b"): f"qwen1.5-{size}b" for size in ("0.5", "1.8", "4", "7", "14", "32", "72", "110")}  # fmt: skip
# A tag without a file type is Q4_K_M, but for these.
OLD_Q4_0 = frozenset(
    "llama2 llama3 codellama gemma gemma2 mixtral mistral-nemo phi phi3 qwen qwen2 vicuna tinyllama deepseek-coder "
    "deepseek-coder-v2 deepseek-llm deepseek-v2 command-r command-r-plus starcoder2 yi falcon stablelm2 internlm2 zephyr "
    "solar openhermes hermes3 nous-hermes2-mixtral granite-code smollm orca-mini dbrx".split()
)
OTHER_TYPES = {
    ("llama3.2", "1b"): "q8_0", ("smollm2", "1.7b"): "q8_0", ("smollm2", "360m"): "f16", ("smollm2", "135m"): "f16",
    ("gemma3", "270m"): "q8_0", ("gpt-oss", "20b"): "", ("gpt-oss", "120b"): "",
}  # fmt: skip
AS_PUBLISHED = frozenset({"gpt-oss"})  # mxfp4, as OpenAI published it
