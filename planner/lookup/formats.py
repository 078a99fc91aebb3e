"""What a suffix says of the weights: the recipe by which that publisher quantises, as a quantization_config.

A recipe is what the repository's own config.json would say; `planner.memory.weight_plan` reads it as it reads a
published one. A suffix that says too little for bytes ("mix") is refused by name, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from planner.errors import UnknownName, one_line
from planner.lookup.gguf_files import EXACT, Spread, recipe
from planner.lookup.parts import Parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True)
class NamedFormat:
    """A weight format that a name gives.

    kind    what it is compared by: fp8, awq, int4, int8, nvfp4, mxfp4, bnb, gguf, mlx, bpw, bf16 ...
    words   for people: "fp8 (block 128)"
    config  the quantization_config that such a repository carries; empty for plain floats
    dtype   the float type, where the name gives one (BF16)
    note    what was assumed, "" where nothing was
    spread  how far below and above its count a publisher's files lie, as parts of it
    head    a head lies beside the embedding that it is tied to
    """

    kind: str
    words: str
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    dtype: str | None = None
    note: str = ""
    spread: Spread = EXACT
    head: bool = False


# Publishers who quantise with llm-compressor, and keep one scale an output row ("dynamic") or a tensor.
_COMPRESSOR = ("redhatai", "neuralmagic", "nm-testing", "inferencerefinery")
# Whose repositories are stored by a recipe of their own, whatever the suffix leaves out.
RECIPE_OWNERS = frozenset({*_COMPRESSOR, "nvidia", "mlx-community", "lmstudio-community", "cyankiwi", "cpatonn"})
# The model's own makers, whose FP8 repositories follow DeepSeek-V3: one scale per 128 x 128.
_BLOCK_FAMILIES = frozenset("qwen deepseek minimax kimi qwq glm mimo step hunyuan hy ernie intern interns".split())
_CHANNEL_GLM = frozenset(
    {"4.5", "4.5v", "4.6", "4.6v", "4.7"}
)  # zai-org's FP8 of these: compressed-tensors, by channel
_BPW = re.compile(r"(\d(?:\.\d+)?)bpw")


def format_of(parts: Parts) -> NamedFormat | None:
    """Reads the weight format that a name gives, None where it gives none.

    >>> from planner.lookup.parts import parts_of
    >>> format_of(parts_of("Qwen/Qwen3.6-27B-FP8")).words
    'fp8 (block 128)'
    >>> format_of(parts_of("cyankiwi/GLM-4.6-AWQ-4bit")).words
    'awq int4 (group 32)'
    """
    words = frozenset(parts.formats) | {"bpw" for word in parts.formats if _BPW.fullmatch(word)}
    if parts.owner == "mlx-community" and not words & {"gguf", "awq", "gptq", "bnb", "fp8"}:
        words |= {"mlx"}
    if "unquantized" in words:
        return NamedFormat("bf16", "bf16", dtype="bf16")
    if parts.gguf and "mlx" not in words:
        return gguf(parts.gguf, owner=parts.owner, words=words)
    for wanted, make in _ORDER:
        if words & wanted:
            return make(parts, words)
    if "qat" in words and "gemma" in parts.words:
        return gguf("q4_0", "quantisation-aware training: taken as the Q4_0 file that is published of it")
    if bits := _bits(parts.formats):
        return _mlx(bits, parts, words)
    return None


def gguf(kind: str, note: str = "", *, owner: str = "", words: frozenset[str] = frozenset()) -> NamedFormat:
    """Returns the format of a GGUF file of one type; `kind` as llama.cpp writes it, in lower case."""
    found = recipe(kind, owner, words)
    config: dict[str, Any] = {"quant_method": "gguf", "file_type": found.base}
    if found.own:
        config["own"] = found.own
    return NamedFormat("gguf", f"gguf {kind.upper()}", config, note=found.note or note, spread=found.spread)


GGUF_DEFAULT = "Q4_K_M is taken: the type that llama.cpp downloads when none is named"


_FLOATS = frozenset({"bf16", "fp16", "f16", "fp32", "f32", "float16", "float32", "bfloat16"})


def _gguf_unnamed(parts: Parts, words: frozenset[str]) -> NamedFormat:
    if words & _FLOATS:
        return _float(parts, words)
    if "mxfp4" in words:
        return gguf("mxfp4", owner=parts.owner, words=words)
    if "qat" in words:
        return gguf("q4_0", "a GGUF of quantisation-aware training is Q4_0")
    return gguf("q4_k_m", f"GGUF without a type; {GGUF_DEFAULT}", owner=parts.owner)


def _bits(formats: tuple[str, ...]) -> int | None:
    for word in formats:
        if match := re.fullmatch(r"([2-8])bits?|int([2348])|w([248])a\w+", word):
            return int(match.group(1) or match.group(2) or match.group(3))
    return None


def _group(parts: Parts, default: int) -> int:
    for word in parts.formats:
        if match := re.fullmatch(r"gs?(\d{2,3})|(\d{2,3})g", word):
            return int(match.group(1) or match.group(2))
    return default


def _refuse_mix(words: frozenset[str], name: str) -> None:
    if found := words & {"mix", "mixed", "int8mix", "fp16mix"}:
        raise UnknownName(
            f"{one_line(name, 40)} with {sorted(found)[0]!r} in its name stores several formats and the name does not say "
            "where; --online reads its headers, or give --dtype"
        )


def _mlx(bits: int, parts: Parts, words: frozenset[str]) -> NamedFormat:
    """mlx-lm's affine quantisation: groups of 64 along a row, each with a scale and a bias in 16 bit; embedding too."""
    group = _group(parts, 64)
    marked = bool(words & {"mlx", "dwq"}) or parts.owner in ("mlx-community", "lmstudio-community", "mlx")
    note = "" if marked else f"{bits}bit alone is read as MLX's"
    return NamedFormat(
        "mlx",
        f"mlx {bits} bit (group {group})",
        {"quant_method": "mlx", "bits": bits, "group_size": group},
        note=note,
    )


def _mlx_named(parts: Parts, words: frozenset[str]) -> NamedFormat:
    if words & {"mxfp4", "nvfp4", "mxfp8"}:
        return _mx(parts, words)
    if parts.gguf in ("q4_k_m", "q8_0", "q6_k", "q5_k_m", "q3_k_m", "q2_k"):  # older names: -mlx-q4
        return _mlx(int(parts.gguf[1]), parts, words)
    if bits := _bits(parts.formats):
        return _mlx(bits, parts, words)
    if words & {"bf16", "fp16"}:
        return _float(parts, words)
    return _mlx(4, parts, words | {"mlx"})


def _fp8(parts: Parts, words: frozenset[str]) -> NamedFormat:
    _refuse_mix(words, "fp8")
    if "block" in words:
        return _block()
    if words & {"dynamic", "fp8dynamic"} or (parts.owner in _COMPRESSOR and not words & {"static", "kv"}):
        return _channel()
    if parts.owner == "nvidia" or words & {"static", "kv", "modelopt"}:
        return NamedFormat("fp8", "fp8 (a scale a tensor)", {"quant_method": "modelopt", "quant_algo": "FP8"})
    if "llama" in parts.words and parts.sizes == {"405b"}:
        return _meta_fp8()
    if "glm" in parts.words and parts.versions & _CHANNEL_GLM:
        return _channel()
    if parts.words & _BLOCK_FAMILIES or parts.versions & {"r1"}:
        return _block()
    fmt = {"quant_method": "fp8"}
    return NamedFormat("fp8", "fp8 (a scale a tensor)", fmt, note="how its scales lie is not in the name")


def _block() -> NamedFormat:
    return NamedFormat("fp8", "fp8 (block 128)", {"quant_method": "fp8", "weight_block_size": [128, 128]})


def _channel() -> NamedFormat:
    weights = {"num_bits": 8, "type": "float", "strategy": "channel"}
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}
    return NamedFormat("fp8", "fp8 (a scale a channel)", config)


def _meta_fp8() -> NamedFormat:
    """Meta's own FP8 of the 405B: the MLPs of its 126 layers but the first and last. Source: its config.json."""
    kept = ["self_attn", "model.layers.0.mlp", "model.layers.125.mlp"]
    config = {"quant_method": "fbgemm_fp8", "modules_to_not_convert": kept}
    return NamedFormat("fp8", "fp8 (the MLPs, a scale a channel)", config)


def _awq(parts: Parts, words: frozenset[str]) -> NamedFormat:
    _refuse_mix(words, "AWQ")
    bits = _bits(parts.formats) or 4
    group = _group(parts, 32 if parts.owner in ("cyankiwi", "cpatonn") else 128)
    config = {"quant_method": "awq", "bits": bits, "group_size": group, "zero_point": True}
    return NamedFormat("awq", f"awq int{bits} (group {group})", config)


def _gptq(parts: Parts, words: frozenset[str]) -> NamedFormat:
    _refuse_mix(words, "GPTQ")
    bits, group = _bits(parts.formats) or 4, _group(parts, 128)
    return NamedFormat(
        "gptq", f"gptq int{bits} (group {group})", {"quant_method": "gptq", "bits": bits, "group_size": group}
    )


def _autoround(parts: Parts, words: frozenset[str]) -> NamedFormat:
    _refuse_mix(words, "AutoRound")
    bits, group = _bits(parts.formats) or 4, _group(parts, 128)
    return NamedFormat(
        "gptq",
        f"auto-round int{bits} (group {group})",
        {"quant_method": "auto-round", "bits": bits, "group_size": group},
    )


def _int(parts: Parts, words: frozenset[str]) -> NamedFormat:
    """w4a16, w8a8, w8a16 of llm-compressor, and INT4 or INT8 alone."""
    _refuse_mix(words, "int")
    bits = _bits(parts.formats) or 8
    if any(word.endswith("afp8") for word in words):
        raise UnknownName("weights of int4 with fp8 activations (w4afp8) are not read from a name; give --dtype int4")
    grouped = bits == 4 or _group(parts, 0)
    group = _group(parts, 128)
    weights: dict[str, Any] = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "channel"}
    if grouped:
        weights |= {"group_size": group, "strategy": "group"}
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}
    words_ = f"int{bits} (group {group})" if grouped else f"int{bits} (a scale a channel)"
    return NamedFormat(f"int{bits}", words_, config)


def _bnb(parts: Parts, words: frozenset[str]) -> NamedFormat:
    if words & {"8bit", "8bits", "int8"}:
        return NamedFormat("bnb", "bitsandbytes int8", {"quant_method": "bitsandbytes", "load_in_8bit": True})
    dynamic = "unsloth" in words
    note = "Unsloth's dynamic mix keeps some matrices in bf16 and they are counted in 4 bit" if dynamic else ""
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}
    return NamedFormat("bnb", "bitsandbytes nf4 (double quantisation)", config, note=note)


def _nvfp4(parts: Parts, words: frozenset[str]) -> NamedFormat:
    note = "which matrices stay in 16 bit is not in the name: all of the blocks' are counted in 4 bit"
    return NamedFormat("nvfp4", "nvfp4 (block 16)", {"quant_method": "modelopt", "quant_algo": "NVFP4"}, note=note)


def _mx(parts: Parts, words: frozenset[str]) -> NamedFormat:
    if "nvfp4" in words:
        return _nvfp4(parts, words)
    if "mxfp8" in words:
        return NamedFormat("mxfp8", "mxfp8 (block 32)", {"quant_method": "mxfp8"})
    note = "which matrices stay in 16 bit is not in the name: all of the blocks' are counted in 4 bit"
    return NamedFormat("mxfp4", "mxfp4 (block 32)", {"quant_method": "mxfp4"}, note=note)


def _bpw(parts: Parts, words: frozenset[str]) -> NamedFormat:
    """ExLlama's files: the name gives the mean bits of a weight, head apart."""
    for word in parts.formats:
        if match := _BPW.fullmatch(word):
            return _at_bits(float(match.group(1)))
    if bits := _bits(parts.formats):
        return _at_bits(float(bits))
    raise UnknownName("an exl2 or exl3 repository without its bits per weight; write for example -4.0bpw")


def _at_bits(bits: float) -> NamedFormat:
    config = {"quant_method": "exl2", "bits": bits}
    return NamedFormat(
        "bpw",
        f"{bits:g} bits a weight (exl)",
        config,
        note="the mean of its matrices, as the name has it; ExLlama keeps the embedding on the host (--engine exllamav3)",
    )


def _float(parts: Parts, words: frozenset[str]) -> NamedFormat:
    dtype = "bf16" if words & {"bf16", "bfloat16"} else "fp32" if words & {"fp32", "f32", "float32"} else "fp16"
    return NamedFormat(dtype, dtype, dtype=dtype)


def _hqq(parts: Parts, words: frozenset[str]) -> NamedFormat:
    raise UnknownName("hqq and torchao weights are not read from a name; give --dtype, or --online for its headers")


# The first that is named decides; what follows it (4bit, g32, dynamic) is its detail.
_ORDER = (
    (frozenset({"bpw", "exl2", "exl3"}), _bpw),
    (frozenset({"mlx", "dwq"}), _mlx_named),
    (frozenset({"bnb", "nf4", "bitsandbytes"}), _bnb),
    (frozenset({"awq", "autoawq"}), _awq),
    (frozenset({"autoround"}), _autoround),
    (frozenset({"gptq", "autogptq"}), _gptq),
    (frozenset({"hqq", "torchao"}), _hqq),
    (frozenset({"gguf", "ggml"}), _gguf_unnamed),
    (frozenset({"nvfp4", "nvfp4a16", "fp4"}), _nvfp4),
    (frozenset({"mxfp4", "mxfp8"}), _mx),
    (frozenset({"fp8", "fp8dynamic", "w8afp8"}), _fp8),
    (frozenset({"int4", "int8", "int2", "int3", "w4a16", "w8a8", "w8a16", "w4a8", "w4a4", "w4afp8", "w2a16"}), _int),
    (_FLOATS, _float),
)
