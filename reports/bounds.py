"""What a step must at least read and compute: bytes and FLOPs, and the seconds that no software can go below.

These are bounds, not predictions: real steps take longer. Activations, kernels and communication are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.device import Device
from planner.dtypes import float_dtype
from planner.memory import Estimate
from planner.operators import layer_attention
from planner.parameters import all_weights
from planner.spec import ModelSpec
from planner.weights import Weight

TOWERS = frozenset({"vision", "audio", "projector"})
MOST_BATCH = 1 << 20


@dataclass(frozen=True)
class Step:
    """One forward pass of the whole model."""

    read_bytes: float
    flops: float

    @property
    def intensity(self) -> float:
        """FLOPs for each byte read."""
        return self.flops / self.read_bytes

    def seconds(self, bandwidth_bytes_per_s: float, flops_per_s: float) -> float:
        """max(bytes / bandwidth, FLOPs / rate): the roofline bound."""
        return max(self.read_bytes / bandwidth_bytes_per_s, self.flops / flops_per_s)

    def bound_by(self, bandwidth_bytes_per_s: float, flops_per_s: float) -> str:
        slower = self.read_bytes / bandwidth_bytes_per_s >= self.flops / flops_per_s
        return "bandwidth" if slower else "compute"


def decode_step(answer: Estimate, batch: int) -> Step:
    """One new token for each of `batch` sequences that hold `seq_tokens` already.

    bytes = weights (of the experts those expected to be hit) + batch · (cache + state)
    FLOPs = 2 · batch · active weights + attention over the cached tokens
    """
    spec, tokens = answer.spec, answer.request.seq_tokens
    kept = (answer.kv_bytes + answer.state_bytes) // answer.request.batch
    reads = _weight_bytes(answer, batch) + batch * kept
    scores = sum(
        count * 2 * read.kv_heads * read.groups * (read.k_dim + read.v_dim) * read.reach(tokens)
        for layer, count in spec.groups
        for read in layer_attention(layer)
    )
    return Step(reads, batch * (2 * _active(spec, head=True) + scores))


def prefill_step(answer: Estimate, batch: int) -> Step:
    """The prompts of `batch` sequences at once; the head runs on the last token of each alone."""
    spec, tokens = answer.spec, answer.request.seq_tokens
    kept = (answer.kv_bytes + answer.state_bytes) // answer.request.batch
    rows = batch * tokens
    scores = sum(count * read.prefill_flops(tokens) for layer, count in spec.groups for read in layer_attention(layer))
    head = 2 * batch * spec.vocab * spec.hidden
    return Step(
        _weight_bytes(answer, rows) + batch * kept, 2 * rows * _active(spec, head=False) + head + batch * scores
    )


def _decoder_weights(spec: ModelSpec) -> list[tuple[Weight, int]]:
    """The weights that a decode step multiplies with: no towers, no encoder, no table that is only looked up."""
    skipped = {id(w) for w in (*spec.towers, *spec.encoder_extra)}
    for layer in spec.encoder:
        skipped |= {id(w) for w in layer.weights}
    looked_up = [w for w in spec.before if w.part == "embedding"]
    head = looked_up[:1] if spec.tied else []
    kept = [
        (w, n) for w, n in all_weights(spec) if id(w) not in skipped and w.part not in TOWERS and w.part != "embedding"
    ]
    return [*kept, *((w, 1) for w in head)]


def _weight_bytes(answer: Estimate, rows: float) -> float:
    """Weight bytes that a step of `rows` tokens reads; expected number of distinct experts, hit evenly."""
    total = 0.0
    for weight, count in _decoder_weights(answer.spec):
        share = 1.0
        if 0 <= weight.active < weight.count:
            share = 1 - (1 - weight.active / weight.count) ** rows
        total += answer.plan.bytes(weight) * count * share
    return total


def _active(spec: ModelSpec, head: bool) -> int:
    """Weights that one token is multiplied with."""
    tied_head = {id(w) for w in spec.before}
    return sum(
        weight.active_parameters * count
        for weight, count in _decoder_weights(spec)
        if head or not (weight.part == "lm_head" or id(weight) in tied_head)
    )


def peak_flops_per_s(device: Device, answer: Estimate) -> float | None:
    """Dense FLOP/s of the type that products run in: 8 bit for weights in fp8 or int8, else the float type.

    None where the catalogue has no rate of the device.
    """
    running = float_dtype(answer.request.dtype or "") or answer.spec.dtype or "bf16"
    stored = next((name for name in ("fp8", "int8") if answer.plan.fmt.name.startswith(name)), running)
    for name in (stored, running, "bf16", "fp16", "fp32"):
        if name in device.dense_flops_per_s:
            return float(device.dense_flops_per_s[name])
    return None


def compute_bound_batch(answer: Estimate, bandwidth_bytes_per_s: float, flops_per_s: float) -> int | None:
    """The smallest batch at which a decode step is bound by compute; None where no batch is.

    Each sequence brings its cache: where that alone takes longer to read than to compute, none ever is.
    """

    def computes(batch: int) -> bool:
        return decode_step(answer, batch).bound_by(bandwidth_bytes_per_s, flops_per_s) == "compute"

    if not computes(MOST_BATCH):
        return None
    low, high = 1, MOST_BATCH
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if computes(middle) else (middle + 1, high)
    return low
