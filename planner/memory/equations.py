"""The equations with their numbers, and the config fields behind each factor."""

from __future__ import annotations

from planner.frozen import dataclass
from planner.memory.estimate import Estimate
from planner.model.cache import Cache, Full
from planner.model.spec import Layer
from planner.units import exact_bytes, human_bytes

PAIR = "batch x tokens x KV heads x (bytes of one K + one V vector) x layers"


@dataclass(frozen=True, eq=False, repr=False)
class Equation:
    """One group of equal layers: the factors, what they come to, and what they mean."""

    layers: int
    kind: str
    text: str
    bytes: int
    symbols: str
    fields: tuple[str, ...]


def equations(estimate: Estimate) -> tuple[Equation, ...]:
    """Returns one equation for each group of layers that keeps something.

    >>> from planner.readers.by_hand import by_hand
    >>> from planner.memory.request import Request
    >>> from planner.memory.estimate import estimate
    >>> e = equations(estimate(by_hand({"layers": 32, "heads": 32, "head_dim": 128}), Request(8192)))[0]
    >>> e.text, e.bytes
    ('2 x 1 x 8192 x 32 x 128 x 2 B x 32 layers', 4294967296)
    """
    found: dict[tuple[str, Cache], tuple[int, Layer]] = {}
    for layer, count in estimate.spec.groups:
        for cache in layer.caches:
            key = (cache.kind, cache)
            found[key] = (found.get(key, (0, layer))[0] + count, layer)
    result = []
    for (kind, cache), (count, layer) in found.items():
        size = _bytes(estimate, cache) * count
        if not size:
            continue
        request = estimate.request
        text = cache.equation(request.batch, request.seq_tokens, estimate.source_tokens, estimate.fmt)
        result.append(
            Equation(count, kind, f"{text} x {count} layers", size, _symbols(text, cache), layer.config_fields)
        )
    return tuple(result)


def _bytes(estimate: Estimate, cache: Cache) -> int:
    request = estimate.request
    kv = cache.kv_bytes(request.seq_tokens, estimate.source_tokens, estimate.fmt)
    return request.batch * (kv + cache.state_bytes(estimate.fmt))


def _symbols(text: str, cache: Cache) -> str:
    """The meaning of the factors; K and V of unequal bytes are written as a pair."""
    return PAIR if isinstance(cache, Full) and not text.startswith("2 x") else cache.symbols


def explanation(estimate: Estimate) -> list[str]:
    """Returns the long answer, line by line."""
    spec, device = estimate.spec, estimate.per_device
    lines = ["How it is worked out"]
    for equation in equations(estimate):
        lines.append(f"  {equation.kind}, {equation.layers} layers: {equation.text} = {exact_bytes(equation.bytes)}")
        lines.append(f"    {equation.symbols}")
        if equation.fields:
            lines.append(f"    read from: {', '.join(equation.fields)}")
    quiet = sum(count for layer, count in spec.groups if all(not _bytes(estimate, cache) for cache in layer.caches))
    if quiet:
        lines.append(f"  {quiet} of {len(spec.layers)} layers keep nothing")
    if spec.weights_known:
        lines.append(f"  weights: {estimate.plan.words} = {exact_bytes(estimate.weight_bytes)}")
    lines.append(
        f"  activations: {device.activation.words} = {human_bytes(device.activation.bytes)}, "
        f"expected {human_bytes(device.activation.low)} to {human_bytes(device.activation.high)}"
    )
    for line in device.overhead:
        lines.append(
            f"  {line.name}: {human_bytes(line.bytes)} ({human_bytes(line.low)} to {human_bytes(line.high)}): {line.source}"
        )
    lines.append("  docs/formulas.md has every formula with its source")
    return lines
