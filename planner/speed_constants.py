"""The constants of the speed model: what of a device's peak an engine reaches, and what its steps take besides."""

from __future__ import annotations

from dataclasses import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.device import Device


@dataclass(frozen=True)
class Constants:
    """How far a real step is from its bound.

    memory_efficiency    of the device's bandwidth, reading weights
    packed_efficiency    the same for weights in codes that have to be unpacked (4 bits, GGUF blocks)
    cache_efficiency     the same for the cache
    compute_efficiency   of its FLOP/s, in the products of a decode step
    prefill_efficiency, packed_prefill_efficiency   of its FLOP/s, in a prefill
    layer_seconds        a layer's kernels, whatever their size
    step_seconds         a step's scheduling and sampling, whatever its batch
    sequence_seconds     scheduling and sampling of one sequence in a step
    all_reduce_seconds   latency of one all-reduce of two ranks
    link_efficiency      of the bandwidth between devices
    request_seconds      a request's way in before its prefill starts
    tpot_scale, ttft_scale  what a measured point, or the device itself, showed beside the model
    tpot_low .. ttft_high   the range that holds 9 of 10 measured values, as factors of the expectation
    origin               where all this comes from, in words
    """

    memory_efficiency: float
    packed_efficiency: float
    cache_efficiency: float
    compute_efficiency: float
    prefill_efficiency: float
    packed_prefill_efficiency: float
    layer_seconds: float
    step_seconds: float
    sequence_seconds: float
    all_reduce_seconds: float
    link_efficiency: float
    request_seconds: float
    tpot_low: float
    tpot_high: float
    ttft_low: float
    ttft_high: float
    origin: str
    tpot_scale: float = 1.0
    ttft_scale: float = 1.0

    def scaled(self, *, tpot: float = 1.0, ttft: float = 1.0, origin: str | None = None) -> Constants:
        """The same with decode steps `tpot` and prefills `ttft` times as long."""
        return replace(
            self,
            tpot_scale=self.tpot_scale * tpot,
            ttft_scale=self.ttft_scale * ttft,
            origin=self.origin if origin is None else origin,
        )


DEFAULT = Constants(
    memory_efficiency=0.85,
    packed_efficiency=0.75,
    cache_efficiency=0.8,
    compute_efficiency=0.5,
    prefill_efficiency=0.5,
    packed_prefill_efficiency=0.35,
    layer_seconds=65e-6,
    step_seconds=0.0,
    sequence_seconds=27e-6,
    all_reduce_seconds=2e-6,
    link_efficiency=0.75,
    request_seconds=10e-3,
    tpot_low=0.6,
    tpot_high=1.8,
    ttft_low=0.4,
    ttft_high=3.0,
    origin="stated default",
)


def constants_for(engine: str | None, device: Device, load: str = "serving") -> Constants:
    """The constants for an engine (as `--engine` names it, with a version or without) on a device."""
    return DEFAULT
