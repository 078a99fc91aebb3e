"""Reads a quantisation config into rules: which modules have which weight format.

One place for all of them, whoever wrote the file: each method below says what it reads, as the engine that loads
such files reads it. What is not understood leaves its matrices in the float type (an upper bound) with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import weight_format
from planner.errors import one_line
from planner.memory.module_names import Matcher, matcher
from planner.memory.weight_formats import UNTOUCHED
from planner.model.spec import TEXT_ONLY

TOWERS = frozenset({"vision", "audio", "projector"})
MAX_RULES = 500


@dataclass(frozen=True)
class Rule:
    """The modules of `where` are stored as `fmt`; None: in the float type."""

    where: Matcher
    fmt: WeightFormat | None


@dataclass(frozen=True)
class Recipe:
    """What one config says.

    default    of the matrices that no rule names; None: the float type
    rules      the first that names a matrix decides
    untouched  parts that only a rule that names them reaches
    about      "exact", "estimated" (a mean over the file) or "upper bound", with the reasons in `unread`
    """

    default: WeightFormat | None
    rules: tuple[Rule, ...] = ()
    untouched: frozenset[str] = UNTOUCHED
    about: str = "exact"
    unread: tuple[str, ...] = ()


Reader = Callable[[Mapping[str, Any]], Recipe]


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
        return _unread(f"quantization_config {shown!r} is not read")
    recipe = reader(config)
    skipped = _skipped(config)
    rules = (Rule(skipped, None), *recipe.rules) if skipped is not None else recipe.rules
    if config.get("lm_head") is True and recipe.default is not None:  # GPTQ, AutoRound: the head is quantised, too
        rules += (Rule(matcher(["lm_head"]), recipe.default),)
    experts = _expert_format(config, method)
    if experts is not None:
        rules = (Rule(matcher(["experts"]), experts), *rules)
    refused = [text for rule in rules for text in rule.where.refused]
    reasons = recipe.unread
    if refused:  # which matrices they spare is not known, so none is taken as quantised
        return _unread(f"{len(refused)} module names are not evaluated, the first {one_line(refused[0], 60)!r}")
    about = "upper bound" if reasons else recipe.about
    untouched = recipe.untouched | TOWERS if config.get(TEXT_ONLY) else recipe.untouched
    return replace(recipe, rules=rules, untouched=untouched, about=about, unread=reasons)


def _method(config: Mapping[str, Any]) -> str:
    method = str(config.get("quant_method") or "").lower()
    if config.get("quant_algo") and (not method or str(config["quant_algo"]).upper() == "MIXED_PRECISION"):
        return "modelopt"
    if not method and isinstance(config.get("group_size"), int) and "bits" in config:
        return "mlx"
    if not method and "config_groups" in config:
        return "compressed-tensors"
    return method


def _unread(*reasons: str) -> Recipe:
    return Recipe(None, about="upper bound", unread=reasons)


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
    # AWQ and GPTQ lists end some names in `.weight`
    return matcher([n.removesuffix(".weight") if isinstance(n, str) else n for n in names]) if names else None


def _expert_format(config: Mapping[str, Any], method: str) -> WeightFormat | None:
    """DeepSeek-V4's `expert_dtype` fp4: E2M1 codes and one e8m0 byte per 32, beside fp8 for the rest."""
    named = str(config.get("expert_dtype") or "").lower()
    return weight_format("mxfp4") if named in ("fp4", "mxfp4") and method in ("fp8", "finegrained_fp8") else None


# -- numbers -----------------------------------------------------------------------------------------------


def _whole(value: object, default: int, low: int = 1, high: int = 10**6) -> int | None:
    """A whole number in range, the default for nothing, None for anything else."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return None
    return value


def _first(config: Mapping[str, Any], *keys: str) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)


def integers(name: str, bits: object, group: object, group_bits: int) -> WeightFormat | None:
    """Integer codes with `group_bits` of scale and zero point a group of columns; group -1 and 0: a whole row.

    >>> integers("gptq", 4, 128, 20).matrix_bytes(4096, 4096) * 8 / 4096**2
    4.15625
    """
    width, columns = _whole(bits, 4, 1, 16), _whole(group, 128, -1)
    if width is None or columns is None:
        return None
    return WeightFormat(f"{name}_int{width}", (width, 1), 1, max(0, columns), group_bits)


def _or_unread(fmt: WeightFormat | None, what: str, **more: Any) -> Recipe:
    return Recipe(fmt, **more) if fmt is not None else _unread(f"{what}: bits or group_size not understood")


def block_fp8(config: Mapping[str, Any]) -> WeightFormat:
    """fp8 codes with one scale a block (fp32; one byte beside DeepSeek-V4's fp4 experts) or a matrix."""
    block = _first(config, "weight_block_size", "block_structure")
    if isinstance(block, str):  # compressed-tensors writes "128x128", too
        block = [int(side) if side.isascii() and side.isdigit() and len(side) < 7 else 0 for side in block.split("x")]
    if isinstance(block, (list, tuple)) and len(block) == 2 and all(type(n) is int and 0 < n < 10**6 for n in block):
        scale = 8 if config.get("scale_fmt") == "ue8m0" and config.get("expert_dtype") else 32
        return WeightFormat("fp8_block", (8, 1), block[0], block[1], scale)
    return weight_format("fp8")


# -- methods of transformers, vLLM and others --------------------------------------------------------------


def _fp8(config: Mapping[str, Any]) -> Recipe:
    """transformers FineGrainedFP8, vLLM Fp8Config: every linear layer that no list names, towers too."""
    if config.get("dequantize") is True:
        return _unread("quantization_config asks to dequantise at load")
    fmt, also = block_fp8(config), config.get("modules_to_convert")
    rules = (Rule(matcher(also), fmt),) if isinstance(also, (list, tuple)) and also else ()
    return Recipe(fmt, rules, UNTOUCHED - TOWERS)


def _fbgemm(config: Mapping[str, Any]) -> Recipe:
    """Meta's fp8: a scale an output row; the list names what stays (attention, first and last layer)."""
    return Recipe(weight_format("fp8_channel"))


def _awq(config: Mapping[str, Any]) -> Recipe:
    bits = _first(config, "bits", "w_bit")
    if bits not in (None, 4, 8):
        return _unread(f"awq of {one_line(repr(bits), 20)} bits")
    zero = 0 if config.get("zero_point", True) is False else (bits if isinstance(bits, int) else 4)
    return _or_unread(integers("awq", bits, _first(config, "group_size", "q_group_size"), 16 + zero), "awq")


def _gptq(config: Mapping[str, Any]) -> Recipe:
    """The packed layout holds zeros even when symmetric. GPTQModel's `dynamic` and AutoRound's `extra_config` override."""
    name, bits, group = "gptq", _first(config, "bits", "w_bit"), _first(config, "group_size")
    if str(config.get("data_type", "int")).startswith(("mx_fp", "nv_fp")):
        return _float_auto_round(config)
    default = _packed(name, bits, group)
    recipe = _or_unread(default, name)
    rules = (*_overrides(config.get("dynamic"), bits, group), *_overrides(config.get("extra_config"), bits, group))
    return replace(recipe, rules=rules)


def _packed(name: str, bits: object, group: object) -> WeightFormat | None:
    width = _whole(bits, 4, 2, 8)
    return None if width is None or width in (5, 6, 7) else integers(name, width, group, 16 + width)


def _float_auto_round(config: Mapping[str, Any]) -> Recipe:
    named = str(config["data_type"])
    eight = config.get("bits") == 8
    fmt = weight_format("nvfp4" if named.startswith("nv_fp") else "mxfp8" if eight else "mxfp4")
    return Recipe(fmt, _overrides(config.get("extra_config"), config.get("bits"), config.get("group_size")))


def _overrides(table: object, bits: object, group: object) -> tuple[Rule, ...]:
    """Patterns with bits of their own. `-:` leaves the float type; bits of 16 and more are the float type.

    An empty override says nothing: it does not make a table or the head quantised (`lm_head: {}` in Qwen's files).
    """
    if not isinstance(table, Mapping):
        return ()
    rules, named = [], []
    for pattern, given in table.items():
        if not isinstance(pattern, str):
            continue
        spared, clean = pattern.startswith("-:"), pattern.removeprefix("-:").removeprefix("+:")
        wide = spared or any(sign in clean for sign in "*\\^$|[(")
        own = given if isinstance(given, Mapping) else {}
        own_bits = _first(own, "bits")
        if spared or (isinstance(own_bits, int) and own_bits >= 16):
            fmt = None
        elif own_bits is not None or _first(own, "group_size") is not None:
            fmt = _packed("gptq", bits if own_bits is None else own_bits, _first(own, "group_size") or group)
        else:
            continue
        if wide:
            rules.append(Rule(matcher([clean], expressions=True), fmt))
        else:
            named.append((clean, fmt))
    return (*by_format(named), *_few(rules))


def by_format(named: Iterable[tuple[str, WeightFormat | None]]) -> tuple[Rule, ...]:
    """Plain names, one rule for all that have the same format: a file may list each matrix of each expert."""
    groups: dict[tuple[object, ...], tuple[WeightFormat | None, list[str]]] = {}
    for name, fmt in named:
        key = () if fmt is None else (fmt.name, fmt.bits, fmt.group_rows, fmt.group_cols, fmt.group_bits)
        groups.setdefault(key, (fmt, []))[1].append(name)
    return tuple(Rule(matcher(names), fmt) for fmt, names in groups.values())


def _few(rules: list[Rule]) -> list[Rule]:
    """Expressions with formats of their own; beyond a number that no published file comes near the rest is refused."""
    if len(rules) <= MAX_RULES:
        return rules
    rest = matcher([])
    rest.refused.append(f"{len(rules) - MAX_RULES} expressions more")
    return [*rules[:MAX_RULES], Rule(rest, None)]


def _bitsandbytes(config: Mapping[str, Any]) -> Recipe:
    """bitsandbytes replaces every nn.Linear that is not skipped, those of a vision tower too."""
    if config.get("load_in_8bit") or config.get("_load_in_8bit"):
        fmt = weight_format("int8")
    elif config.get("load_in_4bit", True) is False and config.get("_load_in_4bit", True) is False:
        return _unread("bitsandbytes: neither load_in_4bit nor load_in_8bit")
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
    return Recipe(fmt, untouched=UNTOUCHED - TOWERS) if fmt else _unread(f"quanto weights {one_line(named, 20)!r}")


def _hqq(config: Mapping[str, Any]) -> Recipe:
    """HQQ: codes and an fp16 scale and zero a group; 3 bits lie ten to an int32. One table, or one a linear tag."""
    inner = config.get("quant_config")
    if not isinstance(inner, Mapping):
        return _unread("hqq without a quant_config")
    own = inner.get("weight_quant_params")
    if isinstance(own, Mapping):
        return _or_unread(_hqq_format(own), "hqq", untouched=UNTOUCHED - TOWERS)
    rules = []
    for tag, given in inner.items():
        params = given.get("weight_quant_params") if isinstance(given, Mapping) else None
        if not isinstance(params, Mapping):
            return _unread(f"hqq quant_config of {one_line(str(tag), 40)!r}")
        rules.append(Rule(matcher([str(tag)]), _hqq_format(params)))
    return Recipe(None, tuple(_few(rules)))  # tags that are not named stay float


def _hqq_format(params: Mapping[str, Any]) -> WeightFormat | None:
    bits, group = _whole(params.get("nbits"), 4, 1, 8), _whole(params.get("group_size"), 64)
    if bits is None or group is None:
        return None
    return WeightFormat(f"hqq_int{bits}", (32, 10) if bits == 3 else (bits, 1), 1, group, 32)


def _torchao(config: Mapping[str, Any]) -> Recipe:
    """torchao's serialised config: {"default": {"_type": "Int4WeightOnlyConfig", "_data": {...}}}, or one a module."""
    given = config.get("quant_type")
    inner = given.get("default") if isinstance(given, Mapping) and "default" in given else given
    kind, data = _torchao_named(inner, config)
    untouched = UNTOUCHED - TOWERS
    if config.get("include_input_output_embeddings") is True:
        untouched -= {"embedding", "lm_head"}
    if kind in ("ModuleFqnToConfig", "FqnToConfig"):
        table = _first(data, "module_fqn_to_config", "fqn_to_config")
        return _torchao_by_module(table, config, untouched)
    fmt = _torchao_format(kind, data)
    return Recipe(fmt, untouched=untouched) if fmt else _unread(f"torchao {one_line(kind, 40)!r}")


def _torchao_named(inner: object, config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(inner, Mapping):
        data = inner.get("_data")
        return str(inner.get("_type") or ""), data if isinstance(data, Mapping) else {}
    more = config.get("quant_type_kwargs")
    return str(inner or ""), more if isinstance(more, Mapping) else {}


def _torchao_by_module(table: object, config: Mapping[str, Any], untouched: frozenset[str]) -> Recipe:
    """Names and `re:` expressions with a config each; `_default` for the rest."""
    if not isinstance(table, Mapping):
        return _unread("torchao ModuleFqnToConfig without a table")
    default, rules = None, []
    for name, given in table.items():
        kind, data = _torchao_named(given, {})
        fmt = None if given is None else _torchao_format(kind, data)
        if given is not None and fmt is None:
            return _unread(f"torchao {one_line(kind, 40)!r} for {one_line(str(name), 40)!r}")
        if name == "_default":
            default = fmt
        else:
            rules.append((str(name), fmt))
    expressions = [Rule(matcher([name]), fmt) for name, fmt in rules if name.startswith("re:")]
    names = by_format(pair for pair in rules if not pair[0].startswith("re:"))
    return Recipe(default, (*names, *_few(expressions)), untouched)


def _torchao_format(kind: str, data: Mapping[str, Any]) -> WeightFormat | None:
    """int4: scale and zero in bf16 a group (128); int8 and fp8: a scale a row; intx and uintx by their dtype."""
    name = kind.replace("_", "").lower()
    group = _whole(data.get("group_size"), 128)
    if name.startswith("int4weightonly"):
        return None if group is None else WeightFormat("torchao_int4", (4, 1), 1, group, 32)
    if name.startswith(("int8weightonly", "int8dynamicactivationint8weight")):
        return WeightFormat("int8", (8, 1), 1, 0, 32)
    if name.startswith("int8dynamicactivationint4weight"):
        own = _whole(data.get("group_size"), 32)
        return None if own is None else WeightFormat("torchao_int4", (4, 1), 1, own, 32)
    if name.startswith(("float8weightonly", "float8dynamicactivationfloat8weight", "float8staticactivation")):
        return weight_format("fp8_channel")
    if name.startswith(("nvfp4",)):
        return weight_format("nvfp4")
    if name.startswith("mxfp8") or name.startswith("mxfpinference"):
        return weight_format("mxfp8")
    return None


def _quark(config: Mapping[str, Any]) -> Recipe:
    """AMD Quark: a global format, formats of layers by pattern, and `exclude`."""
    top = config.get("global_quant_config")
    default = _quark_format(top.get("weight") if isinstance(top, Mapping) else None)
    if default is None:
        return _unread("quark: the weight format of global_quant_config")
    rules = []
    layers = config.get("layer_quant_config")
    for pattern, given in layers.items() if isinstance(layers, Mapping) else ():
        fmt = _quark_format(given.get("weight") if isinstance(given, Mapping) else None)
        if fmt is None:
            return _unread(f"quark: the weight format of {one_line(str(pattern), 40)!r}")
        rules.append(Rule(matcher([str(pattern)]), fmt))
    return Recipe(default, tuple(_few(rules)), UNTOUCHED - TOWERS)


def _quark_format(weight: object) -> WeightFormat | None:
    """One tensor's `dtype`, `qscheme` and `group_size`; a list of two is read by its first."""
    if isinstance(weight, (list, tuple)) and weight:
        weight = weight[0]
    if not isinstance(weight, Mapping):
        return None
    dtype, scheme = str(weight.get("dtype") or "").lower(), str(weight.get("qscheme") or "")
    grouped = weight.get("group_size")
    if dtype.startswith("fp8"):
        return weight_format("mxfp8" if grouped == 32 else "fp8_channel" if "channel" in scheme else "fp8")
    if dtype in ("fp4", "mxfp4"):
        return weight_format("nvfp4" if grouped == 16 else "mxfp4")
    if dtype in ("fp6_e2m3", "fp6_e3m2", "mxfp6_e2m3", "mxfp6_e3m2"):
        return WeightFormat("mxfp6", (6, 1), 1, 32, 8)
    if dtype in ("int8", "uint8"):
        return weight_format("int8")
    if dtype in ("int4", "uint4"):
        group = _whole(grouped, 0, -1)
        return None if group is None else integers("quark", 4, group, 16 if weight.get("symmetric") else 20)
    return None


def _fp_quant(config: Mapping[str, Any]) -> Recipe:
    """FP-Quant: mxfp4 (e8m0 per 32) or nvfp4 (fp8 per 16); with pseudo-quantisation or master weights nothing is saved."""
    if config.get("store_master_weights") is True or config.get("pseudoquantization") is True:
        return _unread("fp_quant keeps master weights in the float type")
    named = str(config.get("forward_dtype") or "nvfp4")
    return Recipe(weight_format(named)) if named in ("mxfp4", "nvfp4", "mxfp8") else _unread(f"fp_quant {named[:20]!r}")


def _four_over_six(config: Mapping[str, Any]) -> Recipe:
    if config.get("keep_master_weights") is True:
        return _unread("fouroversix keeps master weights in the float type")
    named = str(_first(config, "weight_dtype", "dtype") or "nvfp4")
    return Recipe(weight_format(named)) if named in ("mxfp4", "nvfp4") else _unread(f"fouroversix {named[:20]!r}")


def _bitnet(config: Mapping[str, Any]) -> Recipe:
    """Ternary weights, four a byte, and one scale a matrix; `online` files hold the float weights."""
    if str(config.get("quantization_mode") or "offline") == "online":
        return _unread("bitnet in online mode: the file holds float weights")
    return Recipe(WeightFormat("bitnet", (2, 1), 0, 0, 16))


def _higgs(config: Mapping[str, Any]) -> Recipe:
    """HIGGS: `bits` a weight and a float scale per group (transformers integrations/higgs.py)."""
    return _or_unread(integers("higgs", config.get("bits"), _whole(config.get("group_size"), 256), 16), "higgs")


def _aqlm(config: Mapping[str, Any]) -> Recipe:
    """AQLM: codebooks · bits a codebook over a group of weights, a scale an output row, and the codebooks themselves."""
    books, width = _whole(config.get("num_codebooks"), 1, 1, 16), _whole(config.get("nbits_per_codebook"), 16, 1, 24)
    rows, cols = _whole(config.get("out_group_size"), 1, 1, 64), _whole(config.get("in_group_size"), 8, 1, 64)
    if books is None or width is None or rows is None or cols is None:
        return _unread("aqlm: codebooks or groups not understood")
    tables = books * 2**width * rows * cols * 16
    return Recipe(WeightFormat("aqlm", (books * width, rows * cols), rows, 0, 16, matrix_bits=tables))


def _sinq(config: Mapping[str, Any]) -> Recipe:
    """SINQ: codes, a scale and a zero point a group, and a second scale a column of the matrix."""
    bits, group = _whole(config.get("nbits"), 4, 1, 8), _whole(config.get("group_size"), 64)
    if bits is None or group is None:
        return _unread("sinq: nbits or group_size not understood")
    return Recipe(WeightFormat(f"sinq_int{bits}", (bits, 1), 1, group, 32), about="estimated")


def affine(bits: object, group: object, mode: str = "affine") -> WeightFormat | None:
    """MLX's formats: codes with a scale and a bias in the float type a group (64); mxfp4, mxfp8, nvfp4 with their own."""
    if mode in ("mxfp4", "mxfp8", "nvfp4"):
        return weight_format(mode)
    width, columns = _whole(bits, 4, 1, 8), _whole(group, 64)
    if width is None or columns is None or mode != "affine":
        return None
    return WeightFormat(f"mlx_int{width}", (width, 1), 1, columns, 32)


def _metal(config: Mapping[str, Any]) -> Recipe:
    if config.get("dequantize") is True:
        return _unread("metal asks to dequantise at load")
    return _or_unread(affine(config.get("bits"), config.get("group_size")), "metal")


def _mlx(config: Mapping[str, Any]) -> Recipe:
    """mlx-lm: every linear layer, the embedding and the head; entries by module override or leave out (false)."""
    default = affine(config.get("bits"), config.get("group_size"), str(config.get("mode") or "affine"))
    if default is None:
        return _unread("mlx: bits, group_size or mode not understood")
    named: list[tuple[str, WeightFormat | None]] = []
    unread = []
    for name, given in config.items():
        if given is False and name not in ("bits", "group_size", "mode"):
            named.append((name, None))
        elif isinstance(given, Mapping):
            fmt = affine(given.get("bits"), given.get("group_size"), str(given.get("mode") or "affine"))
            named.append((str(name), fmt))
            unread += [] if fmt else [f"mlx: the format of {one_line(str(name), 40)!r}"]
    return Recipe(default, by_format(named), frozenset({"norm", *TOWERS}), unread=tuple(unread[:1]))


def _gguf(config: Mapping[str, Any]) -> Recipe:
    """A GGUF file of which only the type is known: bits a weight of a whole file, embedding and head with the rest."""
    from planner.dtypes.tables import gguf_file

    named = str(config.get("file_type") or "").lower()
    fmt = gguf_file(named)
    if fmt is None:
        return _unread(f"gguf: file type {one_line(named, 20)!r} is not known")
    return Recipe(fmt, untouched=frozenset({"norm"}), about="estimated")


def _gemma(config: Mapping[str, Any]) -> Recipe:
    """transformers' Gemma files: bits by regular expression; the first that is found decides."""
    bits = _whole(config.get("num_bits"), 4, 1, 8)
    if bits is None:
        return _unread("gemma: num_bits not understood")
    rules = []
    table = config.get("module_quant_configs")
    for pattern, given in table.items() if isinstance(table, Mapping) else ():
        own = _whole(given.get("num_bits") if isinstance(given, Mapping) else None, bits, 1, 8)
        fmt = None if own is None else WeightFormat(f"gemma_int{own}", (own, 1), 1, 0, 16)
        rules.append(Rule(matcher([f".*(?:{pattern})"], expressions=True), fmt))
    untouched = UNTOUCHED - TOWERS - ({"embedding", "lm_head"} if config.get("quantize_embeddings") is True else set())
    return Recipe(WeightFormat(f"gemma_int{bits}", (bits, 1), 1, 0, 16), tuple(_few(rules)), untouched)


def _average(name: str) -> Reader:
    """exl2, exl3: a mean of bits a weight over the linear layers, and the head's own; the embedding stays fp16."""

    def read(config: Mapping[str, Any]) -> Recipe:
        bits, head = config.get("bits"), config.get("head_bits")
        if isinstance(bits, bool) or not isinstance(bits, (int, float)) or not 0.5 <= bits <= 16:
            return _unread(f"{name}: bits not understood")
        fmt = WeightFormat(name, (round(bits * 1000), 1000))
        rules: tuple[Rule, ...] = ()
        if isinstance(head, (int, float)) and not isinstance(head, bool) and 0.5 <= head <= 16:
            rules = (Rule(matcher(["lm_head"]), WeightFormat(f"{name} head", (round(head * 1000), 1000))),)
        return Recipe(fmt, rules, about="estimated")

    return read


# -- compressed-tensors and ModelOpt -----------------------------------------------------------------------


def compressed_format(weights: object, layout: str = "") -> WeightFormat | None:
    """Reads the `weights` of one config group; `layout` is its `format` (sparse ones store half the codes and where they lie)."""
    if not isinstance(weights, Mapping):
        return None
    bits, kind, group = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
    fmt: WeightFormat | None
    if kind == "float" and bits == 4:
        fmt = weight_format("nvfp4" if group == 16 else "mxfp4")
    elif kind == "float" and bits == 8:
        if group == 32:
            fmt = weight_format("mxfp8")
        elif weights.get("block_structure") or weights.get("strategy") == "block":
            fmt = block_fp8({"weight_block_size": weights.get("block_structure") or [128, 128]})
        else:
            fmt = weight_format("fp8_channel" if weights.get("strategy") == "channel" else "fp8")
    elif kind == "int" and bits == 8 and not group:
        fmt = weight_format("int8")
    elif kind == "int" and isinstance(bits, int):
        zero = bits if weights.get("symmetric") is False else 0
        fmt = integers("int", bits, group or 0, 16 + zero)
    else:
        return None
    return _sparse(fmt, layout) if fmt is not None else None


def _sparse(fmt: WeightFormat, layout: str) -> WeightFormat:
    """2:4 sparsity: half the codes, and 2 bits for each kept one (Marlin) or 1 for each place (bitmask)."""
    numerator, denominator = fmt.bits
    if layout in ("marlin-24", "sparse-24", "sparse-24-bitmask"):
        # half of the codes, and one bit a place: as two bits for each of the two kept of four, or as a mask
        return replace(fmt, name=f"{fmt.name}_2:4", bits=(numerator + 2 * denominator, 2 * denominator))
    return fmt


def _compressed_tensors(config: Mapping[str, Any]) -> Recipe:
    """Each group's `targets` (Linear, a name, `re:`) have its `weights`; a name goes before an expression before a class."""
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping) or not groups:
        sparse = config.get("sparsity_config")
        return _sparse_only(sparse) if isinstance(sparse, Mapping) else _unread("compressed-tensors: no config_groups")
    default: WeightFormat | None = None
    exact, wide, unread = [], [], []
    for name, group in groups.items():
        if not isinstance(group, Mapping):
            return _unread(f"compressed-tensors: group {one_line(str(name), 40)!r} is no object")
        layout = str(group.get("format") or config.get("format") or "")
        fmt = compressed_format(group.get("weights"), _sparse_layout(config, layout))
        if group.get("weights") is None:
            continue  # activations or cache only
        if fmt is None:
            unread.append(f"compressed-tensors: the weights of group {one_line(str(name), 40)!r}")
        targets = group.get("targets")
        for target in targets if isinstance(targets, (list, tuple)) else ["Linear"]:
            if target in _CLASSES and default is not None and fmt is not None and not _same(default, fmt):
                return _unread("compressed-tensors: two groups have a format for every linear layer")
            elif target in _CLASSES:
                default = default or fmt
            elif isinstance(target, str) and not target.startswith("re:"):
                exact.append((target, fmt))
            else:
                wide.append(Rule(matcher([target]), fmt))
    if default is None and not exact and not wide and not unread:
        unread.append("compressed-tensors: no group has weights")
    return Recipe(default, (*by_format(exact), *_few(wide)), UNTOUCHED - TOWERS, unread=tuple(unread[:2]))


_CLASSES = ("Linear", "LinearBase", "FusedMoE")


def _same(one: WeightFormat, other: WeightFormat) -> bool:
    return (one.name, one.bits, one.group_rows, one.group_cols) == (
        other.name,
        other.bits,
        other.group_rows,
        other.group_cols,
    )


def _sparse_layout(config: Mapping[str, Any], layout: str) -> str:
    sparse = config.get("sparsity_config")
    if isinstance(sparse, Mapping) and str(sparse.get("sparsity_structure")) == "2:4":
        named = str(sparse.get("format") or "")
        if named not in ("", "dense"):
            return named
    return layout


def _sparse_only(sparse: Mapping[str, Any]) -> Recipe:
    """Sparse and not quantised: 2:4 files hold half of the 16-bit weights and a bit a place."""
    if str(sparse.get("format")) in ("sparse-24-bitmask", "sparse-24"):
        return Recipe(WeightFormat("bf16_2:4", (9, 1)))
    return _unread("compressed-tensors: sparsity alone")


_ALGORITHMS = {
    "FP8": "fp8", "FP8_PER_TENSOR": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8_channel", "FP8_PB_WO": "fp8_block",
    "FP8_PB_REAL": "fp8_block", "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "NVFP4_SVD": "nvfp4", "W4A16_NVFP4": "nvfp4",
    "NVFP4_W4A16": "nvfp4", "W4A8_NVFP4_FP8": "nvfp4", "MXFP4": "mxfp4", "W4A8_MXFP4_FP8": "mxfp4", "MXFP8": "mxfp8",
    "INT8_SQ": "int8", "W8A8_SQ_PER_CHANNEL": "int8", "W8A16": "int8",
}  # fmt: skip


def _algorithm(config: Mapping[str, Any]) -> WeightFormat | None:
    """The format of one ModelOpt algorithm; W4A16_AWQ and W4A8_AWQ are int4 in groups."""
    algorithm = str(config.get("quant_algo") or "").upper()
    if algorithm in _ALGORITHMS:
        return weight_format(_ALGORITHMS[algorithm])
    if algorithm.startswith(("W4A16", "W4A8", "INT4")):
        return integers("int", 4, config.get("group_size"), 16)
    return None


def _modelopt(config: Mapping[str, Any]) -> Recipe:
    """NVIDIA ModelOpt: one algorithm, or MIXED_PRECISION with the layers that have each in `quantized_layers`."""
    algorithm = str(config.get("quant_algo") or "").upper()
    if algorithm != "MIXED_PRECISION":
        fmt = _algorithm(config)
        if fmt is None and "config_groups" in config:
            return _compressed_tensors(config)
        return Recipe(fmt, untouched=UNTOUCHED - TOWERS) if fmt else _unread(f"ModelOpt {one_line(algorithm, 40)!r}")
    layers = config.get("quantized_layers")
    named, unread = [], []
    for name, given in layers.items() if isinstance(layers, Mapping) else ():
        fmt = _algorithm(given) if isinstance(given, Mapping) else None
        if fmt is None:
            unread.append(f"ModelOpt: the format of {one_line(str(name), 40)!r}")
        else:
            named.append((str(name), fmt))
    found = list(by_format(named))
    experts = _algorithm({"quant_algo": config.get("moe_quant_algo"), "group_size": config.get("group_size")})
    if experts is not None and not found:
        found.append(Rule(matcher(["experts"]), experts))
    if not found and not unread:
        if isinstance(config.get("config_groups"), Mapping):
            return _compressed_tensors(config)
        unread.append("ModelOpt MIXED_PRECISION without quantized_layers")
    return Recipe(None, tuple(found), UNTOUCHED - TOWERS, unread=tuple(unread[:1]))


_METHODS: dict[str, Reader] = {
    "fp8": _fp8, "finegrained_fp8": _fp8, "fbgemm_fp8": _fbgemm, "ptpc_fp8": _fbgemm, "mxfp8": _one("mxfp8"),
    "awq": _awq, "awq_marlin": _awq, "gptq": _gptq, "gptq_marlin": _gptq, "auto-round": _gptq, "inc": _gptq,
    "intel/auto-round": _gptq, "gptqmodel": _gptq, "bitsandbytes": _bitsandbytes, "bitsandbytes_4bit": _bitsandbytes,
    "mxfp4": _mxfp4, "gpt_oss_mxfp4": _mxfp4, "nvfp4": _one("nvfp4"), "eetq": _eetq, "quanto": _quanto, "hqq": _hqq,
    "torchao": _torchao, "quark": _quark, "fp_quant": _fp_quant, "fouroversix": _four_over_six, "bitnet": _bitnet,
    "higgs": _higgs, "aqlm": _aqlm, "sinq": _sinq, "metal": _metal, "mlx": _mlx, "gemma": _gemma,
    "gguf": _gguf, "exl2": _average("exl2"), "exl3": _average("exl3"), "modelopt": _modelopt, "modelopt_fp4": _modelopt,
    "modelopt_mixed": _modelopt, "compressed-tensors": _compressed_tensors, "compressed_tensors": _compressed_tensors,
}  # fmt: skip
