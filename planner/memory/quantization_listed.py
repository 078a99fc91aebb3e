"""Reads the methods whose configs list the sizes of every module: VPTQ and SpQR."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

from planner.dtypes.kinds import WeightFormat
from planner.errors import one_line
from planner.memory.recipes import Recipe, by_format, unread_all, whole
from planner.units import ceil_div

_LARGE = 1 << 34


def vptq(config: Mapping[str, Any]) -> Recipe:
    """Reads VPTQ: vectors along the output as indices into codebooks, with residual and outlier books of their own.

    Every module has its sizes in `config_for_layers`; a linear layer that is not listed stays float. Source:
    vptq/layers/vqlinear.py of microsoft/VPTQ, transformers 5.24.0 integrations/vptq.py (indices are packed).
    """
    layers = config.get("config_for_layers")
    if not isinstance(layers, Mapping) or not layers:
        return unread_all("vptq without config_for_layers")
    named = []
    for name, given in layers.items():
        fmt = _vptq_format(given) if isinstance(given, Mapping) else None
        if fmt is None:
            return unread_all(f"vptq: the sizes of {one_line(str(name), 60)!r}")
        named.append((str(name), fmt))
    return Recipe(None, by_format(named))


def _pair(given: Mapping[str, Any], key: str) -> tuple[int, int] | None:
    """Reads two whole numbers: of outliers and of the rest; -1 is none."""
    value = given.get(key)
    if (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(type(n) is int and -1 <= n < 1 << 24 for n in value)
    ):
        return value[0], value[1]
    return None


def _vptq_format(given: Mapping[str, Any]) -> WeightFormat | None:
    """Counts one module: int32 words of packed indices, fp16 books, a scale and a shift a column, a permutation.

    words = groups · ceil(out / vector) · ceil(group_size · index bits / 32)

    >>> _vptq_format({"in_features": 4096, "out_features": 4096, "vector_lens": [-1, 8], "num_centroids": [-1, 65536],
    ...     "num_res_centroids": [-1, 256], "group_num": 1, "group_size": 4096, "outlier_size": 0, "enable_norm": True,
    ...     "enable_perm": True}).matrix_bytes(4096, 4096)
    7368704
    """
    vectors, books, residual = (_pair(given, key) for key in ("vector_lens", "num_centroids", "num_res_centroids"))
    rows, cols = (whole(given.get(key), 0, 1, high=_LARGE) for key in ("out_features", "in_features"))
    groups, group = whole(given.get("group_num"), 1), whole(given.get("group_size"), 0, -1, high=_LARGE)
    outliers = whole(given.get("outlier_size"), 0, 0, high=_LARGE)
    if not (vectors and books and residual and rows and cols and groups) or group is None or outliers is None:
        return None
    vector, book, rest = vectors[1], books[1], residual[1]
    if vector < 1 or book < 2:
        return None
    if group < 1:
        group = ceil_div(max(1, cols - outliers), groups)
    index_bits = int(log2(book)) + (int(log2(rest)) if rest > 0 else 0)
    size = 4 * groups * ceil_div(rows, vector) * ceil_div(group * index_bits, 32)
    size += 2 * groups * vector * (book + max(0, rest))
    if vectors[0] > 1 and books[0] > 0:
        size += 2 * books[0] * vectors[0] + 2 * ceil_div(rows, vectors[0]) * outliers
    size += 4 * cols if given.get("enable_norm") is True else 0
    size += 2 * cols if given.get("enable_perm") is True else 0
    return WeightFormat("vptq", (8 * size, rows * cols))


_SPQR_BYTES = {"dense_weights": 8, "row_offsets": 4, "col_vals": 4, "in_perm": 4}
_SPQR_WEIGHTS = 16  # in one int64 of dense_weights: 3-bit codes, their scale and zero, a part of the second order


def spqr(config: Mapping[str, Any]) -> Recipe:
    """Reads SpQR: `shapes` lists the elements of the four tensors of every module; the mean of all is taken for each.

    bytes = 8 · dense_weights + 4 · (row_offsets + col_vals + in_perm), for 16 weights a dense element. Source:
    inference_lib/src/spqr_quant/inference.py of Vahe1994/SpQR.
    """
    shapes = config.get("shapes")
    if not isinstance(shapes, Mapping) or not shapes:
        return unread_all("spqr without the shapes of its tensors")
    size = dense = 0
    for key, count in shapes.items():
        tensor = str(key).removesuffix(".shape").rsplit(".", 1)[-1]
        if isinstance(count, (list, tuple)) and len(count) == 1:
            count = count[0]
        if tensor not in _SPQR_BYTES or type(count) is not int or not 0 <= count < _LARGE:
            return unread_all(f"spqr: the shape of {one_line(str(key), 60)!r}")
        size += _SPQR_BYTES[tensor] * count
        dense += count if tensor == "dense_weights" else 0
    if not dense:
        return unread_all("spqr without the shape of any dense_weights")
    return Recipe(WeightFormat("spqr", (8 * size, _SPQR_WEIGHTS * dense)))
