"""The plan of a model's weights: from `--dtype`, from its checkpoint's headers, or from its quantisation config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import canonical, float_dtype, weight_format
from planner.memory.weight_formats import UNTOUCHED, Shares, WeightPlan, is_matrix
from planner.model.spec import ModelSpec
from planner.model.weights import Weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from planner.memory.recipes import Recipe

_GGUF = ("q", "iq", "tq", "mxfp4_moe")
FP8_MLP = "fp8_mlp"  # Meta's recipe for Llama 3.1 405B: the MLPs of all but the first and the last layer


@lru_cache(maxsize=64)  # a search asks for the same plan at every length; a ModelSpec is equal to itself alone
def weight_plan(spec: ModelSpec, dtype: str | None = None) -> WeightPlan:
    """Returns the plan for `dtype`, or what the checkpoint's headers say, or its config, or 16 bit where it says nothing."""
    if dtype is None and spec.stored is not None:
        from planner.memory.stored_plan import stored_plan  # only where there is a checkpoint

        return stored_plan(spec, spec.stored)
    float_name = spec.dtype or "bf16"
    if dtype is not None:
        return _as_asked(spec, dtype, float_name)
    if spec.read_as is not None and spec.read_as.gguf:
        from planner.memory.gguf_beside import as_published  # only for the name of a GGUF file

        return as_published(spec, _as_said(spec, float_name))
    return _as_said(spec, float_name)


def _as_said(spec: ModelSpec, float_name: str) -> WeightPlan:
    """The plan of what config or name say."""
    if spec.quantization:
        return _from_config(spec, float_name)
    if spec.dtype:
        return WeightPlan(
            weight_format(spec.dtype),
            weight_format(spec.dtype),
            words=f"weights in {spec.dtype}, as {_says(spec, 'the config')}",
        )
    fmt = weight_format("bf16")
    return WeightPlan(fmt, fmt, words="weights in 16 bit (bf16): the config names no dtype")


def _says(spec: ModelSpec, otherwise: str) -> str:
    """Who says how the weights are stored: a suffix of the name, or what stands in the file."""
    return "the name says" if spec.read_as is not None and spec.read_as.weights else f"{otherwise} says"


def _file_type_of(config: Mapping[str, Any]) -> str | None:
    """Finds the type of a GGUF file that a name gave, where its matrices are known."""
    if config.get("quant_method") != "gguf":
        return None
    from planner.memory.gguf_plan import is_file_type

    named = str(config.get("file_type") or "").lower()
    named = "mxfp4_moe" if named == "mxfp4" else named
    return named if is_file_type(named) else None


def _as_asked(spec: ModelSpec, dtype: str, float_name: str) -> WeightPlan:
    """One format for what it names: all linear layers, or with `fp8_mlp` the MLPs alone."""
    if canonical(dtype) == FP8_MLP:
        return _mlp_alone(spec, float_name)
    if canonical(dtype).startswith(_GGUF):
        from planner.memory.gguf_plan import gguf_plan, is_file_type  # only for a type of GGUF files

        if is_file_type(canonical(dtype)):
            return gguf_plan(spec, canonical(dtype))
    fmt = weight_format(dtype)
    if float_dtype(dtype):
        return WeightPlan(fmt, fmt, words=f"weights in {fmt.name}")
    exactness = "estimated" if fmt.estimated else "exact"
    kept = "" if fmt.everywhere else f": all linear layers; embedding, head, norms and router stay {float_name}"
    if fmt.name == "fp8" and not kept_apart(spec):
        kept += " (--dtype fp8-mlp for files that leave attention alone)"
    return WeightPlan(fmt, weight_format(float_name), exactness=exactness, words=f"weights in {fmt.name}{kept}")


def kept_apart(spec: ModelSpec) -> bool:
    """Tells whether the model has no plain MLP that a recipe could be limited to."""
    return not any(weight.part in ("mlp", "experts") for layer, _ in spec.groups for weight in layer.weights)


def _mlp_alone(spec: ModelSpec, float_name: str) -> WeightPlan:
    """fp8 with a scale a row in the MLPs of all but the first and last layer. Source: Llama-3.1-405B-FP8 config.json."""
    fmt, float_fmt = weight_format("fp8_channel"), weight_format(float_name)
    last, mixed = len(spec.layers) - 1, _Mixed()
    for weight, layer in _placed(spec):
        inside = layer is not None and 0 < layer < last and weight.part in ("mlp", "experts", "shared_experts")
        if is_matrix(weight):
            mixed.add(weight, fmt if inside and weight.linear else float_fmt)
    return WeightPlan(
        fmt, float_fmt, mixed=mixed.shares(),
        words=f"weights in fp8-mlp: MLPs of all but the first and last layer in fp8, the rest stays {float_name}",
    )  # fmt: skip


# -- from a config -----------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _from_config(spec: ModelSpec, float_name: str) -> WeightPlan:
    """The plan of a quantisation config; what it leaves unclear is counted in the float type, an upper bound.

    Kept for a spec: the inverse questions ask hundreds of times.
    """
    named = _file_type_of(spec.quantization or {})
    if named is not None:
        from planner.memory.gguf_plan import gguf_plan

        plan = gguf_plan(spec, named, own=(spec.quantization or {}).get("own"))
        return replace(plan, words=f"{plan.words}, as {_says(spec, 'the quantisation config')}")
    from planner.memory.quantization import read_recipe  # only for a model that is quantised
    from planner.memory.recipes import MODEL_TYPE, SAVED_BY

    config = {
        **(spec.quantization or {}),
        "tied": spec.tied,
        MODEL_TYPE: _text_type(spec),
        SAVED_BY: spec.config.get("transformers_version"),
    }
    recipe, float_fmt = read_recipe(config), weight_format(float_name)
    mixed = assigned(spec, recipe, float_fmt)
    sizes = mixed.bytes_by_format(float_fmt)
    fmt = max(sizes.values(), key=lambda item: item[1])[0] if sizes else float_fmt
    warnings: tuple[str, ...] = ()
    about = recipe.about
    if recipe.unread:
        found = "; ".join(recipe.unread[:2])
        warnings = (
            f"{found}: counted in {float_name}, so the weights are an upper bound; give --dtype to say what they are stored in",
        )
    elif recipe.least:
        about, warnings = "lower bound", (f"{recipe.least}: the weights are a lower bound",)
    elif fmt.estimated or mixed.uneven_shapes or (spec.read_as is not None and spec.read_as.rough):
        about = "estimated"
    words = (
        f"weights in {_words(mixed, float_fmt)}, as {_says(spec, 'the quantisation config')}"
        if sizes
        else f"weights in {float_name}"
    )
    return WeightPlan(fmt, float_fmt, UNTOUCHED, about, words, warnings, mixed.shares())


class _Mixed:
    """Which formats the matrices of each part and name have, layer by layer."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[str, tuple[WeightFormat, int]]] = {}
        self.shapes: dict[tuple[str, str], set[tuple[int, int, int]]] = {}
        self.parameters: dict[tuple[str, str], int] = {}

    def add(self, weight: Weight, fmt: WeightFormat) -> None:
        key = (weight.part, weight.name)
        held = self.found.setdefault(key, {})
        name = f"{fmt.name} {fmt.bits} {fmt.group_rows} {fmt.group_cols}"
        held[name] = (held.get(name, (fmt, 0))[0], held.get(name, (fmt, 0))[1] + 1)
        self.shapes.setdefault(key, set()).add((weight.rows, weight.cols, weight.count))
        self.parameters[key] = self.parameters.get(key, 0) + weight.parameters

    def shares(self) -> dict[tuple[str, str], Shares]:
        """Shares by part and name; under an empty name those of all matrices of the part together."""
        found: dict[tuple[str, str], Shares] = {}
        for (part, _), held in self.found.items():
            found[part, ""] = found.get((part, ""), ()) + tuple(held.values())
        return found | {key: tuple(held.values()) for key, held in self.found.items()}

    @property
    def uneven_shapes(self) -> bool:
        """Matrices of one name that differ both in shape and in format: their mean is an estimate."""
        return any(len(held) > 1 and len(self.shapes[key]) > 1 for key, held in self.found.items())

    def bytes_by_format(self, float_fmt: WeightFormat) -> dict[str, tuple[WeightFormat, float]]:
        """Bits of each quantised format, roughly: it decides which of them names the model."""
        sizes: dict[str, tuple[WeightFormat, float]] = {}
        for key, held in self.found.items():
            layers = sum(count for _, count in held.values())
            for fmt, count in held.values():
                if fmt.name != float_fmt.name:
                    bits = self.parameters[key] * count / layers * fmt.bits[0] / fmt.bits[1]
                    sizes[fmt.name] = (fmt, sizes.get(fmt.name, (fmt, 0.0))[1] + bits)
        return sizes


def _text_type(spec: ModelSpec) -> str:
    section = spec.config.get("text_config")
    return str(section.get("model_type") or spec.model_type) if isinstance(section, Mapping) else spec.model_type


def assigned(spec: ModelSpec, recipe: Recipe, float_fmt: WeightFormat) -> _Mixed:
    """Returns each matrix with the format that the rules give it."""
    mixed = _Mixed()
    text_type = _text_type(spec)
    constant: dict[tuple[Weight, bool], WeightFormat] = {}
    numbered = any(rule.where.depends_on_layer for rule in recipe.rules)
    for weight, layer in _placed(spec, blocks=any(rule.where.blocks for rule in recipe.rules)):
        if not is_matrix(weight):
            continue
        key = (weight, layer is None)
        fmt = None if numbered else constant.get(key)
        if fmt is None:
            fmt = constant[key] = _format_of(weight, layer, text_type, recipe=recipe, float_fmt=float_fmt)
        mixed.add(weight, fmt)
    return mixed


def _format_of(
    weight: Weight, layer: int | None, model_type: str, *, recipe: Recipe, float_fmt: WeightFormat
) -> WeightFormat:
    """The first rule that names the matrix, else the default of what the method reaches."""
    if not weight.name and weight.part in ("vision", "audio"):  # the convolution over patches
        return float_fmt
    if weight.cols % recipe.columns:
        return float_fmt
    for rule in recipe.rules:
        if rule.where.hits(weight, layer, model_type):
            return rule.fmt or float_fmt
    return float_fmt if recipe.default is None or weight.part in recipe.untouched else recipe.default


MAX_BLOCKS = 200


def _placed(spec: ModelSpec, *, blocks: bool = False) -> Iterator[tuple[Weight, int | None]]:
    """Every weight with its layer, None outside the layers; with `blocks` those of towers block by block."""
    for weight in (*spec.before, *spec.after, *spec.encoder_extra, *spec.towers):
        if blocks and weight.part in ("vision", "audio") and 1 < weight.count <= MAX_BLOCKS:
            yield from ((replace(weight, count=1), block) for block in range(weight.count))
        else:
            yield weight, None
    for layers in (spec.layers, spec.encoder):
        for index, layer in enumerate(layers):
            for weight in layer.weights:
                yield weight, index


def _words(mixed: _Mixed, float_fmt: WeightFormat) -> str:
    """The formats with the parts that have them; one that has nearly all goes without."""
    parts: dict[str, list[str]] = {}
    for (part, _), held in mixed.found.items():
        for fmt, _count in held.values():
            if part not in parts.setdefault(fmt.name, []) and part not in ("norm", "buffer"):
                parts[fmt.name].append(part)
    named = [f"{name} ({', '.join(sorted(held))})" for name, held in parts.items() if name != float_fmt.name]
    rest = parts.get(float_fmt.name)
    return "; ".join(named) + (f"; {', '.join(sorted(rest))} stay {float_fmt.name}" if rest else "")


def format_of_kv(config: Mapping[str, Any] | None) -> str | None:
    """Reads what a quantised checkpoint says of its KV cache; kvplan only repeats it, and never applies it unasked."""
    if not config:
        return None
    for key in ("kv_cache_scheme", "kv_cache_quant_algo"):
        value = config.get(key)
        if isinstance(value, Mapping) and value.get("num_bits") == 8:
            return "fp8" if value.get("type") == "float" else "int8"
        if isinstance(value, str) and canonical(value) in ("fp8", "int8", "nvfp4"):
            return canonical(value)
    return None
