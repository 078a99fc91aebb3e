"""Backends of llama.cpp: what another than the device's own makes of its speed.

    TPOT, prefill = those of the device's own backend · (its measured time / that of the own)

The fitted constants stand for the device's own backend. What another takes longer is the geometric mean of pairs of
measured rows that differ in nothing else (`tests/cases/llamacpp_speed.csv`). Its spread widens the range, the more the fewer
pairs there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.speed.constants import Constants, Queue

BACKENDS = ("cuda", "rocm", "vulkan", "metal", "sycl", "cpu")
OWN = {"nvidia": "cuda", "amd": "rocm", "apple": "metal", "intel": "sycl", "cpu": "cpu"}
ANY_GPU = ("nvidia", "amd", "intel")  # vendors whose drivers have Vulkan; on Apple's it is a layer over Metal
FLOATS = ("bf16", "fp16", "fp32", "f16", "f32")


@dataclass(frozen=True)
class Ratio:
    """Measured times of a backend over those of the device's own, each a pair of rows alike in all else.

    no_pair   no rows measure both: the figures of the own are taken, the pairs are those of all devices, for the range
    """

    pairs: tuple[float, ...]
    source: str
    no_pair: bool = False

    @property
    def factor(self) -> float:
        """Returns the geometric mean of the pairs; 1 where they are of other devices.

        >>> Ratio((1.0, 4.0), "").factor
        2.0
        """
        return 1.0 if self.no_pair else math.exp(sum(map(math.log, self.pairs)) / len(self.pairs))

    @property
    def ends(self) -> tuple[float, float]:
        """Returns the range as factors of the expectation: the extremes of the pairs, stretched by 1 + 1 / pairs, and in any
        case the figure of the device's own, for the pairs are of few models.

        >>> [round(end, 3) for end in Ratio((1.0, 4.0), "").ends]     # 2 ** 1.5 either way
        [0.354, 2.828]
        >>> [round(end, 3) for end in Ratio((4.0, 4.0), "").ends]
        [0.25, 1.0]
        """
        stretch, middle = 1 + 1 / len(self.pairs), self.factor
        low, high = ((end / middle) ** stretch for end in (min(self.pairs), max(self.pairs)))
        return min(1.0, 1 / middle, low), max(1.0, 1 / middle, high)

    def words(self, own: str) -> str:
        """
        >>> Ratio((1.0, 4.0), "").words("rocm")
        '2.00 times as long as with rocm (2 measured pairs, 1.00 to 4.00)'
        """
        if self.no_pair:
            return f"as long as with {own} (no rows of both on such a device: the range is wide)"
        count = f"{len(self.pairs)} measured pairs, {min(self.pairs):.2f} to {max(self.pairs):.2f}"
        return f"{self.factor:.2f} times as long as with {own} ({count})"


STRIX_HALO = "s128: Strix Halo, builds of 2026"
RTX_5090 = "s104: RTX 5090, ik_llama.cpp of 2025, with the matrix units of NVIDIA's extension and without"
# (vendor, backend, kind of weights) -> tokens, prompts. Sources are those of tests/cases/speed_sources.csv.
MEASURED: dict[tuple[str, str, str], tuple[Ratio | None, Ratio | None]] = {
    ("amd", "vulkan", "bf16"): (Ratio((1.271, 1.325, 2.080), STRIX_HALO), Ratio((1.169, 3.149), STRIX_HALO)),
    ("amd", "vulkan", "quantised"): (
        Ratio((0.924, 0.931, 0.997), STRIX_HALO),
        Ratio((1.047, 1.055, 1.090), STRIX_HALO),
    ),
    ("nvidia", "vulkan", "quantised"): (None, Ratio((1.210, 1.251, 2.350, 2.704), RTX_5090)),
}


@dataclass(frozen=True)
class OnBackend:
    """A backend on a device, and what it takes longer than the device's own: a token, a prompt. None for the own."""

    name: str
    own: str
    tokens: Ratio | None = None
    prompts: Ratio | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is the device's own, which the constants stand for."""
        return self.tokens is None or self.prompts is None

    def words(self) -> str:
        """
        >>> OnBackend("cuda", "cuda").words()
        "backend: cuda, the device's own"
        """
        if self.tokens is None or self.prompts is None:
            return f"backend: {self.name}, the device's own"
        return f"backend: {self.name}: a token takes {self.tokens.words(self.own)}, a prompt {self.prompts.words(self.own)}"


def own_backend(device: Device) -> str | None:
    """Names the backend that llama.cpp is built with for a device of this vendor; None where it has none.

    >>> from planner.catalogue.entries import find_device
    >>> [own_backend(find_device(name)) for name in ("rtx-4090", "rx-7900xtx", "apple-m2-ultra", "ryzen-9-7950x", "gaudi3")]
    ['cuda', 'rocm', 'metal', 'cpu', None]
    """
    return None if device.name.startswith("Gaudi") else OWN.get((device.vendor or "").lower())


def runs_on(device: Device) -> tuple[str, ...]:
    """Lists the backends that run on a device, its own first.

    >>> from planner.catalogue.entries import find_device
    >>> runs_on(find_device("rx-7900xtx")), runs_on(find_device("tpu-v5e"))
    (('rocm', 'vulkan'), ())
    """
    own = own_backend(device)
    if own is None:
        return ()
    return (own, "vulkan") if (device.vendor or "").lower() in ANY_GPU else (own,)


def check_backend(name: str, device: Device) -> None:
    """Raises BadRequest for a backend that does not run on the device."""
    known = runs_on(device)
    if name in known:
        return
    if not known:
        raise BadRequest(f"--backend {name}: llama.cpp has no backend that is known here for {device.name}")
    hint = "; a processor is meant: --gpu ryzen-9-7950x" if name == "cpu" else ""
    raise BadRequest(f"--backend {name} does not run on {device.name}; write {' or '.join(known)}{hint}")


def backend_on(name: str | None, device: Device, weights: str) -> OnBackend | None:
    """Finds what is known of a backend (None: the device's own) on a device, for weights of a format.

    weights   as `stored_name` writes it: bf16, q4_k_m. fp16 and fp32 are a kind of which no pair is.

    >>> from planner.catalogue.entries import find_device
    >>> found = backend_on("vulkan", find_device("ryzen-ai-max-395-128gb"), "bf16")
    >>> round(found.tokens.factor, 2), round(found.prompts.factor, 2)     # (1.271 · 1.325 · 2.080)^(1/3), (1.169 · 3.149)^(1/2)
    (1.52, 1.92)
    """
    own = own_backend(device)
    if name is not None:
        check_backend(name, device)
    if own is None:
        return None
    if name in (None, own):
        return OnBackend(own, own)
    assert name is not None
    kind = weights if weights in FLOATS else "quantised"
    tokens, prompts = MEASURED.get(((device.vendor or "").lower(), name, kind), (None, None))
    return OnBackend(name, own, tokens or _of_all(0), prompts or _of_all(1))


def _of_all(which: int) -> Ratio:
    """The extremes of all pairs of tokens (0) or prompts (1) and none, for a device or a kind of weights that no pair is of."""
    known = [ratio for found in MEASURED.values() if (ratio := found[which]) is not None]
    ratios = [pair for ratio in known for pair in ratio.pairs]
    return Ratio((min(1.0, *ratios), max(1.0, *ratios)), "pairs of other devices", no_pair=True)


def with_backend(constants: Constants, found: OnBackend | None) -> Constants:
    """Returns the constants of a backend: decode steps and prefills longer by its ratios, the ranges wider by their spread.

    `constants` are those of the model already (`model_constants`), so that nothing narrows a range after this.
    """
    if found is None or found.tokens is None or found.prompts is None:
        return constants
    c, tokens, prompts = constants, found.tokens, found.prompts
    tpot = wider((c.tpot_low, c.tpot_high), tokens.ends)
    experts = wider((c.experts_low, c.experts_high), tokens.ends)
    ttft = wider((c.ttft_low, c.ttft_high), prompts.ends)
    return replace(
        c.scaled(tpot=tokens.factor, ttft=prompts.factor),
        prompts_scale=c.prompts_scale * prompts.factor / tokens.factor,  # prompts of others, beside tpot_scale
        tpot_low=tpot[0], tpot_high=tpot[1], experts_low=experts[0], experts_high=experts[1],
        ttft_low=ttft[0], ttft_high=ttft[1],
        queue=_wider_queue(c.queue, prompts.ends), experts_queue=_wider_queue(c.experts_queue, prompts.ends),
    )  # fmt: skip


def wider(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Returns the range of a product of two factors that vary apart: the logarithms of their ends add as squares.

    >>> [round(end, 3) for end in wider((0.5, 2.0), (1.0, 2.0))]      # 2 ** sqrt(2)
    [0.5, 2.665]
    """
    low, high = (math.hypot(math.log(first), math.log(second)) for first, second in zip(one, other, strict=True))
    return math.exp(-low), math.exp(high)


def _wider_queue(queue: Queue, ends: tuple[float, float]) -> Queue:
    low, high = wider((queue.low, queue.high), ends)
    return replace(queue, low=low, high=high)
