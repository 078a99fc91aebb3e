"""Towers of Inkling: patches folded step by step into one vector, frames of sound as sums of table rows; Inkling 2's ViT.

Sources: transformers 5.24.0 modeling_inkling.py (`plan_out_scales`), modeling_inkling2.py.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from math import log
from operator import mul

from planner.model.weights import linear, vector
from planner.readers.fields import Fields
from planner.readers.tower_parts import AUDIO, PROJECTOR, VISION, Weights, section, table, transformer, two_layers
from planner.units import ceil_div

MAX_SIDE = 4096  # a patch of published files has 40 pixels a side


def inkling(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a patch's folds, each but the last with a norm, a last norm; and the table and norm of sound."""
    weights: Weights = ()
    renames = {"layers": ("n_layers", "num_hidden_layers"), "channels": ("num_channels", "n_channels")}
    v = section(f, "vision_config", {"patch_size": 40, "temporal_patch_size": 2}, renames=renames)
    if v is not None:
        layers = v.int("layers", 24, high=1024)
        sizes = _scales(v.int("temporal_patch_size", high=MAX_SIDE), v.int("patch_size", high=MAX_SIDE), layers,
                        channels=v.int("channels", 3, high=MAX_SIDE))  # fmt: skip
        for index, (before, after) in enumerate(pairwise(sizes)):
            folded = before[2] * (after[0] // before[0]) * (after[1] // before[1]) ** 2
            last = index == layers - 1
            width = hidden if last else after[2]
            weights += linear(VISION, width, folded) + (() if last else (vector(VISION, width),))
        weights += (vector(PROJECTOR, hidden),)
    a = section(f, "audio_config", {"n_mel_bins": 80, "mel_vocab_size": 256},
                renames={"n_mel_bins": ("num_codebooks", "n_mel_bins"), "mel_vocab_size": ("codebook_size", "mel_vocab_size")})  # fmt: skip
    if a is not None:
        weights += (table(AUDIO, a.int("n_mel_bins") * a.int("mel_vocab_size"), hidden), vector(AUDIO, hidden))
    return weights


def _scales(frames: int, side: int, layers: int, *, channels: int) -> list[tuple[int, int, int]]:
    """Plans (frames, side, channels) before the first and behind each of `layers` folds, nearest to even steps.

    The steps are the products of the prime factors of the side, largest first, then of the frames. Channels are as many
    as the numbers folded so far, in multiples of 64; over frames they are 64 times as many, as transformers' class has
    it (the last step's are the hidden size, so that only a file with a fold over frames before its last has any).

    >>> _scales(2, 40, 2, channels=3)
    [(1, 1, 3), (1, 10, 320), (2, 40, 614400)]
    """
    sides = list(accumulate(_factors(side), mul)) or [1]
    steps = [(1, 1, channels)]
    if side > 1:
        steps += [(1, s, 64 * ceil_div(s * s * channels, 64)) for s in sides]
    steps += [(t, sides[-1], 64 * (sides[-1] ** 2 * channels * t)) for t in accumulate(_factors(frames), mul)]
    return _chosen(steps, log(side * side * frames * channels), layers)


def _chosen(steps: list[tuple[int, int, int]], whole: float, layers: int) -> list[tuple[int, int, int]]:
    """One of the steps for each of layers + 1 even parts of `whole`: the nearest, each once where there are enough."""
    sizes = [log(t * s * s) for t, s, _ in steps]
    ideal = [whole * part / layers for part in range(layers + 1)]
    cost = [[abs(want - size) for size in sizes] for want in ideal]
    picked = (
        [min(range(len(sizes)), key=row.__getitem__) for row in cost]
        if layers >= len(steps)
        else _in_order(cost, len(steps))
    )
    picked[0], picked[-1] = 0, len(steps) - 1
    return [steps[index] for index in picked]


def _in_order(cost: list[list[float]], columns: int) -> list[int]:
    """The cheapest choice of a column for each row, each column once and in order."""
    best: list[tuple[float, list[int]]] = [(0.0, [])] * (columns + 1)
    for row, prices in enumerate(cost):
        found: list[tuple[float, list[int]]] = [(float("inf"), [])] * (columns + 1)
        for column in range(row, columns):
            before, path = best[column]
            here = (before + prices[column], [*path, column])
            found[column + 1] = min(found[column], here, key=lambda pair: pair[0])
        best = found
    return best[columns][1]


def _factors(number: int) -> list[int]:
    """The prime factors, largest first."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1
    return sorted(found + ([number] if number > 1 else []), reverse=True)


def inkling2(f: Fields, hidden: int) -> Weights:
    """Lists the weights of a ViT with scaled residuals, a class vector and a grid of positions; two layers over squares."""
    defaults = {"hidden_size": 1024, "num_hidden_layers": 23, "num_attention_heads": 16, "patch_size": 20}
    renames = {"patch_size": ("native_patch_size", "patch_size"), "merge": ("adapter_merge_size", "spatial_merge_size")}
    v = section(f, "vision_config", defaults, renames=renames)
    if v is None:
        return ()
    width = v.int("hidden_size")
    ffn = v.maybe_int("intermediate_size") or int(width * v.number("mlp_ratio", 4.0))
    square, middle = width * v.int("merge", 2) ** 2, v.int("projection_hidden_dim", 4096)
    return (
        *linear(VISION, width, v.int("num_channels", 3) * v.int("patch_size") ** 2),
        vector(VISION, width, 2 + 2),
        table(VISION, v.int("posemb_grid_size", 32) ** 2, width),
        *transformer(v, width, ffn=ffn, norm_vectors=6),
        *two_layers(square, middle, v.int("text_hidden_size", hidden), bias=v.flag("projector_bias")),
    )
