"""Computes what layers and experts in host memory cost a step: llama.cpp's --n-gpu-layers, --n-cpu-moe, --override-tensor.

A decode step goes through the layers one after the other, so what lies on the host is read and computed there, at the
processor's bandwidth and rate, and added to what the card does. A prompt is computed on the card: each of its pieces
copies the host's weights over PCIe first (llama.cpp's CUDA backend does so from 32 tokens on).

Left out: layers whose cache lies on the host attend there in a prompt, too; copies that overlap with products.
"""

from __future__ import annotations

from dataclasses import replace

from planner.frozen import dataclass
from planner.speed.constants import Constants
from planner.speed.passes import Pass, Rates, fixed_parts, roof_seconds

HAND_OVER_SECONDS = 20e-6
"""One token's vector from the card to the host or back: a copy of a few KiB over PCIe and the wait for it."""


@dataclass(frozen=True)
class Host:
    """What of a model lies in host memory, and the processor that reads it.

    dense_share, expert_share, cache_share   of the weights that every token reads, of routed experts, of the cache
    weight_bytes   on the host that a prompt's products need
    layers         share of the layers that compute there
    crossings      times that a token's vector goes over and back
    rates, constants   of the processor, by the fits of llama.cpp on processors
    slow, fast     how much longer and shorter it may take: 1 where the processor was named
    """

    name: str
    dense_share: float
    expert_share: float
    cache_share: float
    weight_bytes: float
    layers: float
    crossings: int
    rates: Rates
    constants: Constants
    slow: float = 1.0
    fast: float = 1.0

    def on_card(self, step: Pass) -> Pass:
        """Returns the part of a step that the card does."""
        part = self._part(step, 1 - self.dense_share, 1 - self.expert_share, cache=1 - self.cache_share)
        return replace(
            part,
            layers=part.layers * (1 - self.layers),
            routed_layers=part.routed_layers * (1 - self.expert_share),
        )

    def on_host(self, step: Pass) -> Pass:
        """Returns the host's part of a step whose seconds are at the host's own rates."""
        part = self._part(step, self.dense_share, self.expert_share, cache=self.cache_share)
        return replace(part, layers=part.layers * self.layers, routed_layers=part.routed_layers * self.expert_share,
                       steps=0, sequences=0, latencies=0.0, shared_seconds=0.0, message_seconds=0.0,
                       large_reduces=0.0)  # fmt: skip

    def _part(self, step: Pass, dense: float, experts: float, *, cache: float) -> Pass:
        return replace(
            step,
            weight_seconds=step.weight_seconds * dense,
            compute_seconds=step.compute_seconds * dense,
            cache_seconds=step.cache_seconds * cache,
            unshared_seconds=step.unshared_seconds * cache,
            expert_seconds=step.expert_seconds * experts,
            expert_compute_seconds=step.expert_compute_seconds * experts,
        )

    def step_seconds(self, step: Pass) -> float:
        """Computes the host's seconds of a decode step, given at the host's own rates: its roofline and its layers, and
        the vectors that go over and back.
        """
        part = self.on_host(step)
        own = roof_seconds(part, self.constants, prefill=False) + sum(fixed_parts(part, self.constants).values())
        return float(own) * self.constants.tpot_scale + self.crossings * HAND_OVER_SECONDS

    def step_bound(self, step: Pass) -> float:
        """Computes what no software can go below: reading the host's part at its whole bandwidth."""
        part = self.on_host(step)
        return float(part.weight_seconds + part.expert_seconds + part.cache_seconds) * self.fast

    def copy_seconds(self, pieces: int, pcie_bytes_per_s: float, reached: float) -> float:
        """Computes the seconds of copying the host's weights to the card for each piece of a prompt.

        reached  the share of PCIe's rate that a copy gets

        >>> from planner.speed.constants import DEFAULT
        >>> Host("cpu", 0, 0.5, 0, 10e9, 0.5, 1, Rates(5e10, 1e12, 1e9), DEFAULT).copy_seconds(2, 25e9, 0.8)
        1.0
        """
        return pieces * self.weight_bytes / (pcie_bytes_per_s * reached)
