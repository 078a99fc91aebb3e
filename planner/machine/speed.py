"""How fast this machine runs a model, summed from the operator times of `kvplan calibrate`.

The same `Speed` as the roofline gives for catalogue devices, with two differences: the expectation is a sum of
measured operators (see `planner.machine.calibration`), and the range is what the steps held back at the calibration showed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from planner.catalogue.device import Device
from planner.dtypes.names import float_dtype
from planner.machine.calibration import Calibration, phase_of, style_of
from planner.memory.estimate import Estimate
from planner.model.attention import Attention
from planner.model.latent_attention import LatentAttention
from planner.speed.constants import DEFAULT
from planner.speed.operators import head_matmul, layer_attention, layer_matmuls
from planner.speed.passes import Rates, rates_of
from planner.speed.speed import Figure, Speed
from planner.speed.work import decode_step, prefill_step

LINEARS = ("plain", "packed")


UNKNOWN_RANGE = (0.5, 2.0)  # of the expectation, where no step was held back


@dataclass(frozen=True)
class Spread:
    """Measured over predicted at the steps held back: the range that holds nine of ten of them.

    held, points   how many of the steps lie in the range, and how many there are
    """

    low: float
    high: float
    held: int
    points: int


def running_dtype(estimate: Estimate) -> str:
    """Names the type that products run in: the weights' own; of a checkpoint that of its matrices, norms may have
    another.
    """
    stored = estimate.spec.stored
    if estimate.plan.fmt.name != "as stored" or stored is None:
        return estimate.plan.fmt.name
    matrices = {float_dtype(group.dtype) for group in stored.groups if group.part != "norm"}
    return next(iter(matrices)) or "as stored" if len(matrices) == 1 else "as stored"


def why_not(calibration: Calibration, estimate: Estimate, linear: str) -> str | None:
    """Says why the operator times do not cover this question, None where they do."""
    dtype, sharding = running_dtype(estimate), estimate.request.sharding
    if sharding.devices > 1:
        return "it is of one device"
    if not calibration.serves(dtype, linear):
        return f"it has no products in {dtype}, {linear}"
    if estimate.fmt.name != dtype:
        return f"it has no attention over a cache in {estimate.fmt.name}"
    for layer, _ in estimate.spec.groups:
        for mixer in layer.mixers:
            if type(mixer) is not Attention and not isinstance(mixer, LatentAttention):
                return f"the time of a layer with {mixer.cache().kind} is not modelled"
    return None


def linear_of(calibration: Calibration, dtype: str) -> str:
    """Returns `plain` products, which torch runs unasked; `packed` where only those were measured."""
    return next((linear for linear in LINEARS if calibration.serves(dtype, linear)), LINEARS[0])


def spread(calibration: Calibration, model: str, dtype: str, *, linear: str, phase: str) -> Spread:
    """Returns the range at the steps held back in this dtype, layout and phase: of this model where it was measured,
    else of all.

    The ends are the ratios at 5 and 95 % of the sorted ones, rounded outwards, and hold the expectation itself.
    """
    alike = [h for h in calibration.held_back if (h.dtype, h.linear, h.what) == (dtype, linear, phase)]
    own = [h for h in alike if h.model == model] or alike
    return spread_of([h.measured_seconds / h.predicted_seconds for h in own])


def spread_of(ratios: Sequence[float]) -> Spread:
    """Returns the range of ratios; a wide one where there are none.

    >>> spread_of([1.1, 0.9, 1.3])
    Spread(low=0.9, high=1.3, held=3, points=3)
    >>> spread_of([])
    Spread(low=0.5, high=2.0, held=0, points=0)
    """
    if not ratios:
        return Spread(*UNKNOWN_RANGE, 0, 0)
    found = sorted(ratios)
    last = len(found) - 1
    low, high = min(1.0, found[floor(0.05 * last)]), max(1.0, found[ceil(0.95 * last)])
    return Spread(low, high, sum(low <= ratio <= high for ratio in found), len(found))


def local_speed(
    estimate: Estimate,
    device: Device,
    calibration: Calibration,
    *,
    prompt_tokens: int,
    output_tokens: int,
    batch: int,
    linear: str = "plain",
) -> Speed:  # parameters: the quantities of its equation, each by name
    """Estimates one static batch on the calibrated device: prompts prefilled together, then a step a token.

    TTFT = step(batch · prompt);  TPOT = mean of step(batch) over the contexts prompt + 1 .. prompt + output

    The bounds are of the rates that were measured here: bytes over read bandwidth, FLOPs over the product rate.
    Leaves out: a server's scheduling, other programs on this machine. Raises BadRequest where no product of this dtype
    was measured (`why_not` says so before).
    """
    spec, dtype = estimate.spec, running_dtype(estimate)
    rates = rates_of(device, estimate)
    first, last = prompt_tokens + 1, prompt_tokens + output_tokens
    parts = decode_parts(calibration, estimate, rates, batch=batch, first=first, last=last, linear=linear)
    ttft = calibration.step_seconds(
        spec, batch=batch, context_tokens=prompt_tokens, new_tokens=prompt_tokens, dtype=dtype, linear=linear
    )
    prefill_bound = prefill_step(estimate, batch, prompt_tokens).seconds(rates.bandwidth_bytes_per_s, rates.flops_per_s)
    decode_bound = decode_step(estimate, batch, (first + last) // 2).seconds(
        rates.bandwidth_bytes_per_s, rates.flops_per_s
    )
    decode, prefill = (spread(calibration, spec.name, dtype, linear=linear, phase=phase_of(new)) for new in (1, 2))
    ttft_seconds = _figure(ttft, prefill, prefill_bound)
    tpot_seconds = _figure(sum(parts.values()), decode, decode_bound)
    return Speed(
        batch=batch,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        load="static",
        ttft_seconds=ttft_seconds,
        tpot_seconds=tpot_seconds,
        prefill_tokens_per_s=ttft_seconds.inverse(batch * prompt_tokens),
        tpot_parts=parts,
        binds=max(parts, key=lambda name: parts[name]),
        devices=1,
        constants=replace(
            DEFAULT,
            tpot_low=decode.low,
            tpot_high=decode.high,
            ttft_low=prefill.low,
            ttft_high=prefill.high,
            origin=f"this machine's calibration: {calibration.words()}; {dtype}, {linear} products; {_coverage(decode, 'decode')}, "
            f"{_coverage(prefill, 'prefill')}",
        ),
    )


def decode_parts(
    calibration: Calibration, estimate: Estimate, rates: Rates, *, batch: int, first: int, last: int, linear: str
) -> dict[str, float]:  # parameters: the quantities of its equation, each by name
    """Splits the mean decode step into its parts: products with attention (by what binds them), the rest of layers, of
    the step.
    """
    spec, dtype = estimate.spec, running_dtype(estimate)
    layer_rest, step_rest = calibration.layer_time(style_of(spec), batch, spec.hidden, dtype=dtype)
    products = calibration.matmul_seconds(head_matmul(spec), batch, dtype, linear=linear)
    for layer, count in spec.groups:
        products += count * sum(
            calibration.matmul_seconds(m, batch, dtype, linear=linear) for m in layer_matmuls(layer)
        )
    found = {"products": 0.0, "layers": 0.0, "steps": 0.0}
    for context, weight in zip(
        (first, (first + last) // 2, last), (1 / 6, 4 / 6, 1 / 6), strict=True
    ):  # Simpson's rule
        reads = sum(
            count * calibration.attention_seconds(read, batch, context, new=1, dtype=dtype)
            for layer, count in spec.groups
            for read in layer_attention(layer)
        )
        scale = weight * calibration.correction(spec, batch, context, new=1, dtype=dtype, linear=linear)
        found["products"] += scale * (products + reads)
        found["layers"] += scale * len(spec.layers) * layer_rest
        found["steps"] += scale * step_rest
    middle = decode_step(estimate, batch, (first + last) // 2)
    bound_by = middle.bound_by(rates.bandwidth_bytes_per_s, rates.flops_per_s)
    return {bound_by if name == "products" else name: seconds for name, seconds in found.items() if seconds}


def _figure(value: float, spread: Spread, bound: float) -> Figure:
    return Figure(value, max(value * spread.low, min(bound, value)), value * spread.high, bound)


def _coverage(spread: Spread, phase: str) -> str:
    if not spread.points:
        return f"no {phase} step was held back, range assumed"
    return f"the range holds {spread.held} of {spread.points} {phase} steps held back"
