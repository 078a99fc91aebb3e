"""Reads a quantisation config into rules: which modules have which weight format.

One place for all of them, whoever wrote the file: each method below says what it reads, as the engine that loads
such files reads it. What is not understood leaves its matrices in the float type (an upper bound) with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import weight_format
from planner.errors import one_line
from planner.memory.module_names import Matcher, matcher
from planner.memory.quantization_groups import compressed_tensors, modelopt
from planner.memory.quantization_listed import spqr, vptq
from planner.memory.quantization_mlx import metal, mlx
from planner.memory.quantization_torchao import quark, torchao
from planner.memory.recipes import (
    SAVED_BY,
    Reader,
    Recipe,
    Rule,
    block_fp8,
    by_format,
    few,
    first,
    integers,
    or_unread,
    packed,
    unread_all,
    whole,
)
from planner.memory.weight_formats import UNTOUCHED
from planner.model.spec import TEXT_ONLY
from planner.model.weights import TOWERS


def read_recipe(config: Mapping[str, Any]) -> Recipe:
    """Reads the rules of one config, by its `quant_method`; an unknown one leaves everything float.

    >>> read_recipe({"quant_method": "awq", "bits": 4, "group_size": 128}).default.name
    'awq_int4'
    >>> read_recipe({"quant_method": "my_own"}).unread
    ("quantization_config 'my_own' is not read",)
    """
    method = _method(config)
    reader = _METHODS.get(method)
    if reader is None:
        shown = one_line(method or "without a quant_method", 40)
        return unread_all(f"quantization_config {shown!r} is not read")
    recipe = reader(config)
    if _fp8_beneath(config):
        recipe = replace(recipe, default=block_fp8(config), untouched=UNTOUCHED - TOWERS)
    skipped = None if _fp8_beneath(config) else _skipped(config)
    rules = (Rule(skipped, None), *recipe.rules) if skipped is not None else recipe.rules
    if config.get("lm_head") is True and recipe.default is not None:  # GPTQ, AutoRound: the head is quantised, too
        rules += (Rule(matcher(["lm_head"]), recipe.default),)
    experts = _expert_format(config, method)
    if experts is not None:
        rules = (Rule(matcher(["experts"]), experts), *rules)
    if method in _LINEAR_ALONE and _stacks_experts(config.get(SAVED_BY)):
        rules = (*rules, Rule(matcher(["experts"]), None))
    refused = [text for rule in rules for text in rule.where.refused]
    reasons = recipe.unread
    if refused:  # which matrices they spare is not known, so none is taken as quantised
        return unread_all(f"{len(refused)} module names are not evaluated, the first {one_line(refused[0], 60)!r}")
    about = "upper bound" if reasons else recipe.about
    untouched = recipe.untouched | TOWERS if config.get(TEXT_ONLY) else recipe.untouched
    return replace(recipe, rules=rules, untouched=untouched, about=about, unread=reasons)


def _method(config: Mapping[str, Any]) -> str:
    method = str(config.get("quant_method") or "").lower()
    if config.get("quant_algo") and (not method or str(config["quant_algo"]).upper() == "MIXED_PRECISION"):
        return "modelopt"
    if not method and (config.get("load_in_4bit") or config.get("load_in_8bit")):
        return "bitsandbytes"  # files of 2023
    if not method and isinstance(config.get("group_size"), int) and "bits" in config:
        return "mlx"
    if not method and "config_groups" in config:
        return "compressed-tensors"
    return method


# Quantisers of transformers that replace `nn.Linear` and nothing else
_LINEAR_ALONE = (
    "bitsandbytes", "bitsandbytes_4bit", "quanto", "eetq", "torchao", "hqq", "higgs", "sinq", "bitnet", "metal", "gemma",
)  # fmt: skip


def _stacks_experts(version: object) -> bool:
    """Whether transformers, from 5.0, had the experts of a layer as one parameter, which is no linear layer.

    Source: what transformers 5.24 with bitsandbytes 0.50 and torchao 0.18 writes of a small Qwen3-MoE and Mixtral; of the
    others its integrations/, which look for `nn.Linear`.
    """
    major = str(version or "").split(".", 1)[0]
    return major.isascii() and major.isdigit() and 5 <= int(major[:4]) < 1000


def _fp8_beneath(config: Mapping[str, Any]) -> bool:
    """DeepSeek-V4-NVFP4: ModelOpt made NVFP4 of some layers of a file in fp8 and left the rest, its `ignore`, in fp8."""
    mixed = str(config.get("quant_algo") or "").upper() == "MIXED_PRECISION"
    return mixed and config.get("quant_method") == "fp8" and bool(config.get("weight_block_size"))


SKIP_KEYS = (
    "modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules", "exclude",
    "skip_modules", "linear_weights_not_to_quantize", "ignored_modules", "not_convert_modules",
)  # fmt: skip


def _skipped(config: Mapping[str, Any]) -> Matcher | None:
    """The modules that the config leaves in the float type, under any of the keys in use."""
    names: list[object] = []
    for key in SKIP_KEYS:
        value = config.get(key)
        if isinstance(value, (list, tuple)):
            names += value
        elif isinstance(value, str):
            names.append(value)
    if not names:
        return None
    # AWQ and GPTQ lists end some names in `.weight`; compressed-tensors compares a plain name whole (its `is_match`), so
    # that llm-compressor's lists may name a block (`linear_attn`) whose matrices are quantised.
    whole = _method(config) == "compressed-tensors"
    return matcher([n.removesuffix(".weight") if isinstance(n, str) else n for n in names], whole=whole)


def _expert_format(config: Mapping[str, Any], method: str) -> WeightFormat | None:
    """DeepSeek-V4's `expert_dtype` fp4: E2M1 codes and one e8m0 byte per 32, beside fp8 for the rest."""
    named = str(config.get("expert_dtype") or "").lower()
    return weight_format("mxfp4") if named in ("fp4", "mxfp4") and method in ("fp8", "finegrained_fp8") else None


# -- methods of transformers, vLLM and others --------------------------------------------------------------
def _fp8(config: Mapping[str, Any]) -> Recipe:
    """transformers FineGrainedFP8, vLLM Fp8Config: every linear layer that no list names, towers too."""
    if config.get("dequantize") is True:
        return unread_all("quantization_config asks to dequantise at load")
    fmt, also = block_fp8(config), config.get("modules_to_convert")
    rules = (Rule(matcher(also), fmt),) if isinstance(also, (list, tuple)) and also else ()
    return Recipe(fmt, rules, UNTOUCHED - TOWERS)


def _fbgemm(config: Mapping[str, Any]) -> Recipe:
    """Meta's fp8: a scale an output row; the list names what stays (attention, first and last layer)."""
    return Recipe(weight_format("fp8_channel"))


def _awq(config: Mapping[str, Any]) -> Recipe:
    bits = first(config, "bits", "w_bit")
    if bits not in (None, 4, 8):
        return unread_all(f"awq of {one_line(repr(bits), 20)} bits")
    # a file of symmetric codes has its zeros, too (WQLinear_GEMM of AutoAWQ, AutoRound 0.16); Marlin's has none
    zero = 0 if str(config.get("version")).lower() == "marlin" else (bits if isinstance(bits, int) else 4)
    return or_unread(integers("awq", bits, first(config, "group_size", "q_group_size"), group_bits=16 + zero), "awq")


def _gptq(config: Mapping[str, Any]) -> Recipe:
    """The packed layout holds zeros even when symmetric. GPTQModel's `dynamic` and AutoRound's `extra_config` override."""
    name, bits, group = "gptq", first(config, "bits", "w_bit"), first(config, "group_size")
    if str(config.get("data_type", "int")).startswith(("mx_fp", "nv_fp", "fp")):
        return _float_auto_round(config)
    default = packed(name, bits, group)
    recipe = or_unread(default, name)
    only = _only(config.get("modules_in_block_to_quantize"))
    if only is not None and default is not None:
        recipe = Recipe(None, (Rule(only, default),))
    rules = (*_overrides(config.get("dynamic"), bits, group), *_overrides(config.get("extra_config"), bits, group))
    return replace(recipe, rules=(*rules, *recipe.rules))


def _only(groups: object) -> Matcher | None:
    """The modules of each block that Optimum quantised: lists of names without their layer."""
    if not isinstance(groups, (list, tuple)) or not groups:
        return None
    flat = [name for group in groups for name in (group if isinstance(group, (list, tuple)) else [group])]
    return matcher(flat)


def _float_auto_round(config: Mapping[str, Any]) -> Recipe:
    named = str(config["data_type"])
    eight = config.get("bits") == 8
    if named.startswith("fp"):
        return Recipe(weight_format("fp8_channel")) if eight else unread_all(f"auto-round {one_line(named, 20)!r}")
    fmt = weight_format("nvfp4" if named.startswith("nv_fp") else "mxfp8" if eight else "mxfp4")
    return Recipe(fmt, _overrides(config.get("extra_config"), config.get("bits"), config.get("group_size")))


def _overrides(table: object, bits: object, group: object) -> tuple[Rule, ...]:
    """Patterns with bits of their own. `-:` leaves the float type; bits of 16 and more are the float type.

    An empty override says nothing: it does not make a table or the head quantised (`lm_head: {}` in Qwen's files).
    """
    if not isinstance(table, Mapping):
        return ()
    rules, named, odd = [], [], []
    for pattern, given in table.items():
        if not isinstance(pattern, str):
            continue
        spared, clean = pattern.startswith("-:"), pattern.removeprefix("-:").removeprefix("+:")
        wide = spared or any(sign in clean for sign in "*\\^$|[(")
        own = given if isinstance(given, Mapping) else {}
        own_bits = first(own, "bits")
        if spared or (isinstance(own_bits, int) and own_bits >= 16):
            fmt = None
        elif own_bits is not None or first(own, "group_size") is not None:
            fmt = packed("gptq", bits if own_bits is None else own_bits, first(own, "group_size") or group)
            if fmt is None:
                odd.append(pattern)
        else:
            continue
        if wide:
            rules.append(Rule(matcher([clean], expressions=True), fmt))
        else:
            named.append((clean, fmt))
    return (*by_format(named), *few(rules), *((_not_understood(odd),) if odd else ()))


def _not_understood(names: list[str]) -> Rule:
    """Bits that no packed layout has: which matrices they make smaller is not known."""
    rule = Rule(matcher([]), None)
    rule.where.refused += names
    return rule


def _bitsandbytes(config: Mapping[str, Any]) -> Recipe:
    """bitsandbytes replaces every nn.Linear that is not skipped, those of a vision tower too."""
    if config.get("load_in_8bit") or config.get("_load_in_8bit"):
        fmt = weight_format("int8")
    elif config.get("load_in_4bit", True) is False and config.get("_load_in_4bit", True) is False:
        return unread_all("bitsandbytes: neither load_in_4bit nor load_in_8bit")
    else:
        fmt = weight_format("nf4_dq" if config.get("bnb_4bit_use_double_quant") else "nf4")
    return Recipe(fmt, untouched=UNTOUCHED - TOWERS)


def _mxfp4(config: Mapping[str, Any]) -> Recipe:
    return Recipe(weight_format("mxfp4"))


def _one(name: str) -> Reader:
    """A method with one format for every linear layer that its list does not name."""
    return lambda config: Recipe(weight_format(name), untouched=UNTOUCHED - TOWERS)


def _eetq(config: Mapping[str, Any]) -> Recipe:
    """int8 codes and one fp16 scale an output row (transformers integrations/eetq.py)."""
    return Recipe(WeightFormat("eetq_int8", (8, 1), 1, 0, 16), untouched=UNTOUCHED - TOWERS)


def _quanto(config: Mapping[str, Any]) -> Recipe:
    """quanto: int8 and float8 with a scale a row; int4 and int2 with scale and shift per 128, both in the float type."""
    named = str(config.get("weights") or "int8")
    table = {
        "int8": WeightFormat("quanto_int8", (8, 1), 1, 0, 16), "float8": WeightFormat("fp8_channel", (8, 1), 1, 0, 16),
        "int4": WeightFormat("quanto_int4", (4, 1), 1, 128, 32), "int2": WeightFormat("quanto_int2", (2, 1), 1, 128, 32),
    }  # fmt: skip
    fmt = table.get(named)
    return Recipe(fmt, untouched=UNTOUCHED - TOWERS) if fmt else unread_all(f"quanto weights {one_line(named, 20)!r}")


def _hqq(config: Mapping[str, Any]) -> Recipe:
    """HQQ: codes and an fp16 scale and zero a group; 3 bits lie ten to an int32. One table, or one a linear tag."""
    inner = config.get("quant_config")
    if not isinstance(inner, Mapping):
        return unread_all("hqq without a quant_config")
    own = inner.get("weight_quant_params")
    if isinstance(own, Mapping):
        return or_unread(_hqq_format(own), "hqq", untouched=UNTOUCHED - TOWERS)
    rules = []
    for tag, given in inner.items():
        params = given.get("weight_quant_params") if isinstance(given, Mapping) else None
        if not isinstance(params, Mapping):
            return unread_all(f"hqq quant_config of {one_line(str(tag), 40)!r}")
        rules.append(Rule(matcher([str(tag)]), _hqq_format(params)))
    return Recipe(None, tuple(few(rules)))  # tags that are not named stay float


def _hqq_format(params: Mapping[str, Any]) -> WeightFormat | None:
    bits, group = whole(params.get("nbits"), 4, 1, high=8), whole(params.get("group_size"), 64)
    if bits is None or group is None:
        return None
    return WeightFormat(f"hqq_int{bits}", (32, 10) if bits == 3 else (bits, 1), 1, group, 32)


def _fp_quant(config: Mapping[str, Any]) -> Recipe:
    """FP-Quant: mxfp4 (e8m0 per 32) or nvfp4 (fp8 per 16); with pseudo-quantisation or master weights nothing is saved."""
    if config.get("store_master_weights") is True or config.get("pseudoquantization") is True:
        return unread_all("fp_quant keeps master weights in the float type")
    named = str(config.get("forward_dtype") or "nvfp4")
    return (
        Recipe(weight_format(named)) if named in ("mxfp4", "nvfp4", "mxfp8") else unread_all(f"fp_quant {named[:20]!r}")
    )


def _four_over_six(config: Mapping[str, Any]) -> Recipe:
    if config.get("keep_master_weights") is True:
        return unread_all("fouroversix keeps master weights in the float type")
    named = str(first(config, "weight_dtype", "dtype") or "nvfp4")
    return Recipe(weight_format(named)) if named in ("mxfp4", "nvfp4") else unread_all(f"fouroversix {named[:20]!r}")


def _bitnet(config: Mapping[str, Any]) -> Recipe:
    """Ternary weights, four a byte, and one scale a matrix; `online` files hold the float weights."""
    if str(config.get("quantization_mode") or "offline") == "online":
        return unread_all("bitnet in online mode: the file holds float weights")
    return Recipe(WeightFormat("bitnet", (2, 1), 0, 0, 16))


def _higgs(config: Mapping[str, Any]) -> Recipe:
    """HIGGS: `bits` a weight, a float scale a group, and tables of 2^bits and 2 · 4^bits a matrix (integrations/higgs.py)."""
    bits = whole(config.get("bits"), 4, 1, high=8)
    fmt = None if bits is None else integers("higgs", bits, whole(config.get("group_size"), 256), group_bits=16)
    if fmt is None or bits is None:
        return or_unread(None, "higgs")
    return Recipe(replace(fmt, matrix_bits=16 * (2**bits + 2 * 4**bits)))


def _aqlm(config: Mapping[str, Any]) -> Recipe:
    """AQLM: codebooks · bits a codebook over a group of weights, a scale an output row, and the codebooks themselves."""
    books, width = (
        whole(config.get("num_codebooks"), 1, 1, high=16),
        whole(config.get("nbits_per_codebook"), 16, 1, high=24),
    )
    rows, cols = whole(config.get("out_group_size"), 1, 1, high=64), whole(config.get("in_group_size"), 8, 1, high=64)
    if books is None or width is None or rows is None or cols is None:
        return unread_all("aqlm: codebooks or groups not understood")
    tables = books * 2**width * rows * cols * 16
    return Recipe(WeightFormat("aqlm", (books * width, rows * cols), rows, 0, 16, matrix_bits=tables))


def _sinq(config: Mapping[str, Any]) -> Recipe:
    """SINQ: codes, a scale and a zero point a group, and a second scale a column of the matrix."""
    bits, group = whole(config.get("nbits"), 4, 1, high=8), whole(config.get("group_size"), 64)
    if bits is None or group is None:
        return unread_all("sinq: nbits or group_size not understood")
    return Recipe(WeightFormat(f"sinq_int{bits}", (bits, 1), 1, group, 32), about="estimated")


def _gguf(config: Mapping[str, Any]) -> Recipe:
    """A GGUF file of which only the type is known: bits a weight of a whole file, embedding and head with the rest. A tower
    lies in a file of its own (mmproj), in 16 bit."""
    from planner.dtypes.tables import gguf_file, gguf_parts

    named = str(config.get("file_type") or "").lower()
    if not named and isinstance(config.get("gguf_file"), str):  # transformers: the file alone, its type in its name
        named = config["gguf_file"].lower().removesuffix(".gguf").rpartition("-")[2].rpartition(".")[2]
    if config.get("dequantize") is True:
        return unread_all("gguf asks to dequantise at load")
    fmt = gguf_file(named)
    if fmt is None:
        return unread_all(f"gguf: file type {one_line(named, 20)!r} is not known")
    rules: tuple[Rule, ...]
    if named == "mxfp4":  # LLAMA_FTYPE_MOSTLY_MXFP4_MOE: experts in MXFP4, every other matrix in Q8_0
        rules = (Rule(matcher(["experts"]), fmt),)
        return Recipe(weight_format("q8_0"), rules, untouched=frozenset({"norm", *TOWERS}), about="estimated")
    if parts := gguf_parts(named):
        tied = config.get("tied") is True
        rules = (
            Rule(matcher(["lm_head"]), parts[2]),
            Rule(matcher(["embedding", "embed_tokens"]), parts[2] if tied else parts[1]),
        )
        return Recipe(parts[0], rules, untouched=frozenset({"norm", *TOWERS}), about="estimated")
    return Recipe(fmt, untouched=frozenset({"norm", *TOWERS}), about="estimated")


def _gemma(config: Mapping[str, Any]) -> Recipe:
    """transformers' Gemma files: bits by regular expression, the first that is found decides; an fp32 scale a row, and two
    of activations a linear layer (integrations/gemma_quant.py)."""
    bits = whole(config.get("num_bits"), 4, 1, high=8)
    if bits is None:
        return unread_all("gemma: num_bits not understood")
    rules = []
    table = config.get("module_quant_configs")
    for pattern, given in table.items() if isinstance(table, Mapping) else ():
        own = whole(given.get("num_bits") if isinstance(given, Mapping) else None, bits, 1, high=8)
        fmt = None if own is None else _gemma_format(own)
        rules.append(Rule(matcher([f".*(?:{pattern})"], expressions=True), fmt))
    untouched = UNTOUCHED - TOWERS - ({"embedding", "lm_head"} if config.get("quantize_embeddings") is True else set())
    return Recipe(_gemma_format(bits), tuple(few(rules)), untouched)


def _gemma_format(bits: int) -> WeightFormat:
    return WeightFormat(f"gemma_int{bits}", (bits, 1), 1, 0, 32, matrix_bits=64)


DEFAULT_HEAD_BITS = 6  # `-hb` of exllamav2's and exllamav3's convert.py


def _average(name: str) -> Reader:
    """exl2, exl3: a mean of bits a weight over the linear layers, and the head's own, 6 where it is not said (the converters'
    default); the embedding stays fp16."""

    def read(config: Mapping[str, Any]) -> Recipe:
        bits, head = config.get("bits"), config.get("head_bits", DEFAULT_HEAD_BITS)
        if isinstance(bits, bool) or not isinstance(bits, (int, float)) or not 0.5 <= bits <= 16:
            return unread_all(f"{name}: bits not understood")
        fmt = WeightFormat(name, (round(bits * 1000), 1000))
        rules: tuple[Rule, ...] = ()
        if isinstance(head, (int, float)) and not isinstance(head, bool) and 0.5 <= head <= 16:
            rules = (Rule(matcher(["lm_head"]), WeightFormat(f"{name} head", (round(head * 1000), 1000))),)
        return Recipe(fmt, rules, about="estimated")

    return read


def _int8(config: Mapping[str, Any]) -> Recipe:
    """SGLang's int8: a scale a row, or one fp32 scale a block where `weight_block_size` says so."""
    blocks = block_fp8(config) if config.get("weight_block_size") else weight_format("int8")
    return Recipe(replace(blocks, name="int8_block" if config.get("weight_block_size") else "int8"))


def _int4_experts(config: Mapping[str, Any]) -> Recipe:
    """W4AFP8: experts in int4 with a bf16 scale a group of 128, the other linear layers in fp8 by block (SGLang w4afp8.py)."""
    experts = integers("int", 4, config.get("group_size"), group_bits=16)
    if experts is None:
        return unread_all("w4afp8: group_size not understood")
    return Recipe(block_fp8({"weight_block_size": [128, 128]}), (Rule(matcher(["experts"]), experts),))


def _experts_alone(config: Mapping[str, Any]) -> Recipe:
    """vLLM's experts_int8: experts in int8 with a scale a row, made at load; the rest stays."""
    return Recipe(None, (Rule(matcher(["experts"]), weight_format("int8")),))


def _mxfp8_and_nvfp4(config: Mapping[str, Any]) -> Recipe:
    """MiniMax-M3: projections in mxfp8, routed experts in nvfp4 (SGLang minimax_m3_nvfp4.py)."""
    return Recipe(weight_format("mxfp8"), (Rule(matcher(["experts"]), weight_format("nvfp4")),))


def _marlin(config: Mapping[str, Any]) -> Recipe:
    """Marlin's own files: symmetric int4, an fp16 scale a group, no zeros; 2:4 keeps half of the codes and their places."""
    fmt = integers("marlin", config.get("bits"), config.get("group_size"), group_bits=16)
    if fmt is not None and config.get("quant_method") == "gptq_marlin_24":
        fmt = replace(fmt, name=f"{fmt.name}_2:4", bits=(fmt.bits[0] + 2, 2))
    return or_unread(fmt, "marlin")


def _moe_wna16(config: Mapping[str, Any]) -> Recipe:
    """vLLM's name for GPTQ and AWQ of experts: `linear_quant_method` says which."""
    return (_awq if config.get("linear_quant_method") == "awq" else _gptq)(config)


def _like(name: str) -> Reader:
    """Formats that an engine makes of 16-bit weights at load, named as if they were a checkpoint's."""
    return lambda config: Recipe(weight_format(name))


_METHODS: dict[str, Reader] = {
    "fp8": _fp8, "finegrained_fp8": _fp8, "fbgemm_fp8": _fbgemm, "ptpc_fp8": _fbgemm, "mxfp8": _one("mxfp8"),
    "awq": _awq, "awq_marlin": _awq, "gptq": _gptq, "gptq_marlin": _gptq, "auto-round": _gptq, "inc": _gptq,
    "intel/auto-round": _gptq, "gptqmodel": _gptq, "bitsandbytes": _bitsandbytes, "bitsandbytes_4bit": _bitsandbytes,
    "mxfp4": _mxfp4, "gpt_oss_mxfp4": _mxfp4, "nvfp4": _one("nvfp4"), "eetq": _eetq, "quanto": _quanto, "hqq": _hqq,
    "torchao": torchao, "quark": quark, "fp_quant": _fp_quant, "fouroversix": _four_over_six, "bitnet": _bitnet,
    "higgs": _higgs, "aqlm": _aqlm, "sinq": _sinq, "metal": metal, "mlx": mlx, "gemma": _gemma,
    "vptq": vptq, "spqr": spqr, "gguf": _gguf, "exl2": _average("exl2"), "exl3": _average("exl3"), "modelopt": modelopt, "modelopt_fp4": modelopt,
    "modelopt_mixed": modelopt, "modelopt_fp8": modelopt, "modelopt_mxfp8": modelopt, "petit_nvfp4": modelopt,
    "deepseek_v4_fp8": _fp8, "auto_awq": _awq, "auto_gptq": _gptq, "gptq_bitblas": _gptq, "moe_wna16": _moe_wna16,
    "marlin": _marlin, "gptq_marlin_24": _marlin, "w8a8_int8": _int8, "auto-round-int8": _int8, "blockwise_int8": _int8,
    "w8a8_fp8": _like("fp8_channel"), "w4afp8": _int4_experts, "experts_int8": _experts_alone,
    "minimax_m3_nvfp4": _mxfp8_and_nvfp4, "quark_mxfp4": quark, "fp8_per_tensor": _like("fp8"),
    "fp8_per_block": _like("fp8_block"), "fp8_per_channel": _like("fp8_channel"),
    "int8_per_channel_weight_only": _like("int8"), "nvfp4_per_token": _like("nvfp4"), "compressed-tensors": compressed_tensors, "compressed_tensors": compressed_tensors,
}  # fmt: skip
