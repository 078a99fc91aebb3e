"""Rotary positions: pairs of a head's numbers turn by an angle that grows with the position.

angle(p, i) = p · f_i, f_i = theta^(-2i/dim). Source: arXiv:2104.09864. Scalings of f as Llama 3
(arXiv:2407.21783) and YaRN (arXiv:2309.00071) describe them. All in fp32, whatever the model's dtype.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from profiler.recipes import Rope


def frequencies(rope: Rope) -> tuple[Tensor, float]:
    """Computes (f [dim/2], what cos and sin are multiplied by)."""
    plain = 1.0 / (rope.theta ** (torch.arange(0, rope.dim, 2, dtype=torch.float32) / rope.dim))
    kind, scaling = rope.scaling.get("rope_type", "default"), rope.scaling
    if kind == "linear":
        return plain / float(scaling["factor"]), 1.0
    if kind == "llama3":
        return _llama3(plain, scaling), 1.0
    if kind == "yarn":
        return _yarn(plain, rope)
    return plain, 1.0


def _llama3(plain: Tensor, scaling: Mapping[str, Any]) -> Tensor:
    """Long waves slowed by `factor`, short ones kept, those between blended."""
    factor, low, high = (float(scaling[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = float(scaling["original_max_position_embeddings"]) * plain / (2 * math.pi)  # within the trained length
    blend = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - blend) * plain / factor + blend * plain


def _yarn(plain: Tensor, rope: Rope) -> tuple[Tensor, float]:
    """Dimensions that turn often are kept, those that turn seldom are slowed, with a linear ramp between."""
    scaling, half = rope.scaling, rope.dim // 2
    trained, factor = float(scaling["original_max_position_embeddings"]), float(scaling["factor"])

    def dimension(turns: float) -> float:
        return rope.dim * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(scaling.get("beta_fast") or 32), dimension(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    if low == high:
        high += 0.001
    slowed = ((torch.arange(half, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return plain / factor * slowed + plain * (1 - slowed), _yarn_factor(scaling, factor)


def _yarn_factor(scaling: Mapping[str, Any], factor: float) -> float:
    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    given = scaling.get("attention_factor")
    if given is not None:
        return float(given)
    over, under = scaling.get("mscale"), scaling.get("mscale_all_dim")
    return mscale(over) / mscale(under) if over and under else mscale(1.0)


class RopeTable:
    """cos and sin for the positions of one forward pass, computed when asked: no table to keep or outgrow."""

    def __init__(self, rope: Rope, device: torch.device) -> None:
        self.rope = rope
        table, self.factor = frequencies(rope)
        self.frequencies = table.to(device)  # [dim/2]

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """positions [T] or [B, T] -> cos, sin [1 or B, 1, T, dim/2]."""
        if self.frequencies.device != positions.device:  # the model was moved
            self.frequencies = self.frequencies.to(positions.device)
        angles = positions.to(torch.float32).unsqueeze(-1) * self.frequencies
        angles = angles.view(-1, 1, *angles.shape[-2:])
        return (angles.cos() * self.factor).to(dtype), (angles.sin() * self.factor).to(dtype)


def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool
) -> Tensor:  # parameters: the tensors of one operation
    """Turns x [B, H, T, D] by position: the first 2·cos.shape[-1] of D turn, the rest passes."""
    dim = 2 * cos.shape[-1]
    turning, passing = (x, None) if dim == x.shape[-1] else (x[..., :dim], x[..., dim:])
    a, b = (turning[..., 0::2], turning[..., 1::2]) if interleaved else turning.chunk(2, dim=-1)
    # Interleaved pairs come out as halves: q and k alike, and a dot product does not see the order.
    parts = [a * cos - b * sin, b * cos + a * sin]
    return torch.cat(parts if passing is None else [*parts, passing], dim=-1)
