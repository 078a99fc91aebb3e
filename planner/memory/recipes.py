"""Holds what a quantisation config says, as rules over module names, and the formats that several methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import weight_format
from planner.memory.module_names import Matcher, matcher
from planner.memory.weight_formats import UNTOUCHED

MAX_RULES = 500
# Put beside a quantisation config: what some writers reach depends on the model, and on the version of transformers
MODEL_TYPE, SAVED_BY = "model_type", "transformers_version"


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
    columns    a matrix whose columns are no multiple of it stays in the float type; 1: none does
    about      "exact", "estimated" (a mean over the file) or "upper bound", with the reasons in `unread`
    least      why the weights are a lower bound, where they are
    """

    default: WeightFormat | None
    rules: tuple[Rule, ...] = ()
    untouched: frozenset[str] = UNTOUCHED
    about: str = "exact"
    unread: tuple[str, ...] = ()
    columns: int = 1
    least: str = ""


Reader = Callable[[Mapping[str, Any]], Recipe]


def unread_all(*reasons: str) -> Recipe:
    """Returns a recipe of which nothing was understood: the weights are an upper bound, for these reasons."""
    return Recipe(None, about="upper bound", unread=reasons)


def whole(value: object, default: int, low: int = 1, *, high: int = 10**6) -> int | None:
    """Reads a whole number in range; the default for nothing, None for anything else."""
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return None
    return value


def first(config: Mapping[str, Any], *keys: str) -> Any:
    """Finds the first of some keys that has a value; None where none has."""
    return next((config[key] for key in keys if config.get(key) is not None), None)


def integers(name: str, bits: object, group: object, *, group_bits: int) -> WeightFormat | None:
    """Builds integer codes with `group_bits` of scale and zero point a group of columns; group -1 and 0: a whole row.

    >>> integers("gptq", 4, 128, group_bits=20).matrix_bytes(4096, 4096) * 8 / 4096**2
    4.15625
    """
    width, columns = whole(bits, 4, 1, high=16), whole(group, 128, -1)
    if width is None or columns is None:
        return None
    return WeightFormat(f"{name}_int{width}", (width, 1), 1, max(0, columns), group_bits)


def or_unread(fmt: WeightFormat | None, what: str, **more: Any) -> Recipe:
    """Returns a recipe of one format, or one that was not understood where there is none."""
    return Recipe(fmt, **more) if fmt is not None else unread_all(f"{what}: bits or group_size not understood")


def block_fp8(config: Mapping[str, Any]) -> WeightFormat:
    """Builds fp8 codes with one scale a block (fp32; one byte beside DeepSeek-V4's fp4 experts) or a matrix."""
    block = first(config, "weight_block_size", "block_structure")
    if isinstance(block, str):  # compressed-tensors writes "128x128", too
        block = [int(side) if side.isascii() and side.isdigit() and len(side) < 7 else 0 for side in block.split("x")]
    if isinstance(block, (list, tuple)) and len(block) == 2 and all(type(n) is int and 0 < n < 10**6 for n in block):
        scale = 8 if config.get("scale_fmt") == "ue8m0" and config.get("expert_dtype") else 32
        return WeightFormat("fp8_block", (8, 1), block[0], block[1], scale)
    return weight_format("fp8")


def packed(name: str, bits: object, group: object) -> WeightFormat | None:
    """Builds integer codes with a 16-bit scale and a packed zero point a group; None for widths that are not packed so."""
    width = whole(bits, 4, 2, high=8)
    return None if width is None or width in (5, 6, 7) else integers(name, width, group, group_bits=16 + width)


def by_format(named: Iterable[tuple[str, WeightFormat | None]]) -> tuple[Rule, ...]:
    """Builds rules from plain names, one for all that have the same format: a file may list each matrix of each expert."""
    groups: dict[tuple[object, ...], tuple[WeightFormat | None, list[str]]] = {}
    for name, fmt in named:
        key = () if fmt is None else (fmt.name, fmt.bits, fmt.group_rows, fmt.group_cols, fmt.group_bits)
        groups.setdefault(key, (fmt, []))[1].append(name)
    return tuple(Rule(matcher(names), fmt) for fmt, names in groups.values())


def few(rules: list[Rule]) -> list[Rule]:
    """Cuts expressions with formats of their own to a number that no published file comes near; the rest is refused."""
    if len(rules) <= MAX_RULES:
        return rules
    rest = matcher([])
    rest.refused.append(f"{len(rules) - MAX_RULES} expressions more")
    return [*rules[:MAX_RULES], Rule(rest, None)]
