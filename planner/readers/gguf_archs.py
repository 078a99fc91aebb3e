"""What each architecture of GGUF files implies and no key says, as llama.cpp has it in src/llama-model.cpp.

An architecture that is not in `ARCHITECTURES` is refused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arch:
    """What an architecture implies.

    period      of window layers: all but every period-th have one (0: the metadata's list, 1: every layer)
    first_full  the full layer stands first in its period, not last
    window      tokens where the file names none (0: then there is no window)
    chunk       the window is a chunk (Llama 4)
    only_layers the window is that of the model of so many layers (0: of all)
    state       the recurrent layers' kind
    interval    every interval-th layer attends, the others recur, where neither key nor tensors say so
    """

    period: int | None = None
    first_full: bool = False
    window: int = 0
    chunk: bool = False
    only_layers: int = 0
    state: str = ""


_PLAIN = [
    "apertus",
    "arcee",
    "arctic",
    "baichuan",
    "bailingmoe",
    "bailingmoe2",
    "bitnet",
    "bitnet-25",  # of ik_llama.cpp
    "bitnet-b1.58",  # of ik_llama.cpp
    "bloom",
    "chameleon",
    "chatglm",
    "codeshell",
    "command-r",
    "dbrx",
    "deci",
    "deepseek",
    "dots1",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone",
    "falcon",
    "gemma",
    "glm4",
    "glm4moe",
    "gpt2",
    "gptj",
    "gptneox",
    "granite",
    "granitemoe",
    "grok",
    "grovemoe",
    "hunyuan-dense",
    "hunyuan-moe",
    "internlm2",
    "jais",
    "llama",
    "maincoder",
    "minicpm",
    "minimax-m2",
    "mistral3",
    "mpt",
    "nemotron",
    "olmo",
    "olmoe",
    "openelm",
    "orion",
    "paddleocr",
    "pangu-embedded",
    "phi2",
    "phimoe",
    "plamo",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen3moe",
    "qwen3vl",
    "qwen3vlmoe",
    "refact",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder",
    "starcoder2",
    "xverse",
    "cogvlm",
    "graniteswitch",
    "hunyuan_vl",
    "hy_v3",
    "jais2",
    "nanbeige",
    "talkie",
    "deepseek2",
    "deepseek32",
    "deepseek2-ocr",
    "glm-dsa",
    "minicpm3",
    "mistral4",
    "plm",
    "hrm_text",
    "hy_v4",
    "k2-horizon",
    "pockettts",
    "qwen3tts",
    "t5",
    "vllm-decision2",
]

# A window whose layers the file lists, and must (llama.cpp b11739 loads none of these without the list;
# cohere2_moe is ik_llama.cpp's name).
_LISTED = ("beam", "cohere2_moe", "dots3note", "kolibri1", "maion-coder", "maple", "muse-spark", "spark2_5")

ARCHITECTURES: dict[str, Arch] = {
    **{name: Arch() for name in _PLAIN},
    "gemma2": Arch(2, window=4096),
    "gemma3": Arch(6),
    "gemma3n": Arch(5),
    "gemma4": Arch(0),
    "cohere2": Arch(4),
    "cohere2moe": Arch(4, first_full=True),
    "granite_swa": Arch(0),
    "laguna": Arch(4, first_full=True),
    "mellum": Arch(4),
    "muse-glimmer": Arch(4),
    "plamo3": Arch(8),
    "olmo2": Arch(4),
    "exaone4": Arch(4, window=4096, only_layers=64),
    "exaone-moe": Arch(4, window=128),
    "afmoe": Arch(4),
    "gpt-oss": Arch(2),
    "smallthinker": Arch(4, first_full=True, window=4096),
    "llama4": Arch(4, window=8192, chunk=True),
    "phi3": Arch(1),
    "mimo2": Arch(0),
    "step35": Arch(0),
    "mamba": Arch(state="mamba"),
    "jamba": Arch(state="mamba"),
    "mamba2": Arch(state="mamba2"),
    "falcon-h1": Arch(state="mamba2"),
    "granitehybrid": Arch(state="mamba2"),
    "nemotron_h": Arch(state="mamba2"),
    "nemotron_h_moe": Arch(state="mamba2"),
    "qwen3next": Arch(state="delta"),
    "qwen35": Arch(state="delta"),
    "qwen35moe": Arch(state="delta"),
    "kimi-linear": Arch(state="kimi"),
    "kimi-k3": Arch(state="kimi"),
    "glm5-next": Arch(state="kimi"),
    "minimax-m3": Arch(),
    **{name: Arch(0) for name in _LISTED},
    "qwen4exp": Arch(state="delta"),
    "rwkv6qwen2": Arch(state="rwkv"),
    "arwkv7": Arch(state="rwkv"),
    "minimax-01": Arch(state="lightning"),
    "deepseek4": Arch(),
    "bailingmoe3": Arch(state="kimi"),
    "plamo2": Arch(state="plamo2"),
    "lfm2": Arch(1, state="conv"),
    "lfm2moe": Arch(1, state="conv"),
    "rwkv6": Arch(state="rwkv"),
    "rwkv7": Arch(state="rwkv"),
}
NO_CACHE = (
    "bert",
    "clef",
    "clip",
    "t5encoder",
    "wavtokenizer",
    "embedding",
    "modern-bert",
    "llama-embed",
    "llada",
    "dream",
    "rnd1",
)
UNREAD = ("t5encoder", "llama-embed")  # b11739 makes a cache for these alone of `NO_CACHE`
# These read `attention.indexer.types`: a layer that shares another's choice keeps no keys (b11739; deepseek32 does not).
INDEXER_TYPES = ("dots3note", "glm-dsa", "glm5-next", "hy_v4")
DRAFTS = ("eagle3", "dflash", "gemma4-assistant", "dflash-draft", "gemma4_mtp")
NOT_READ = {"openpangu": "latents, windows, an indexer and convolutions of its own, in ik_llama.cpp alone"}
# What a file with no decoder in it is, by `general.type` or its architecture.
OTHER_FILES = {
    "adapter": "a LoRA adapter: name the base model, and give the adapter to `kvplan fit` with --lora",
    "mmproj": "a vision or audio tower (mmproj): give the model's own file",
    "clip": "a vision or audio tower (mmproj): give the model's own file",
    "vocab": "a vocabulary or a header, without tensors: give the model's own file",
    "imatrix": "an importance matrix: give the model's own file",
    "controlvector": "a control vector: name the model that it steers",
}
