"""What would make a request fit that does not: each change by itself, and what it gains."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.catalogue.entries import devices
from planner.dtypes.names import float_dtype
from planner.errors import KvplanError
from planner.memory.estimate import Estimate, estimate
from planner.memory.limits import longest_context, most_sequences, tensor_parallel_devices
from planner.memory.request import Request, device_capacity
from planner.units import human_bytes, human_tokens

KV_CHOICES = ("fp8", "int4")


WEIGHT_CHOICES = ("fp8", "awq")


@dataclass(frozen=True)
class Change:
    """One change: the flags that ask for it, what it gains on the fullest device, and whether it is enough."""

    words: str
    flags: str
    gain_bytes: int
    fits: bool


def advise(estimate: Estimate, limit: int = 3) -> tuple[Change, ...]:
    """Proposes up to `limit` changes, those that suffice first; at least one always names more or other devices."""
    changes = [*_kv_dtype(estimate), *_batch(estimate), *_length(estimate), *_weight_dtype(estimate)]
    devices_first = [*_more_devices(estimate), *_other_device(estimate)]
    enough = [change for change in changes if change.fits][: limit - 1]
    chosen = enough + devices_first[: limit - len(enough)]
    if len(chosen) < limit:
        rest = sorted((c for c in changes if not c.fits), key=lambda c: -c.gain_bytes)
        chosen += rest[: limit - len(chosen)]
    return tuple(chosen)


def _retry(short: Estimate, request: Request) -> Estimate:
    return estimate(short.spec, request, short.capacity)


def _gain(before: Estimate, after: Estimate) -> int:
    return before.per_device.total_bytes - after.per_device.total_bytes


def _kv_dtype(estimate: Estimate) -> list[Change]:
    if float_dtype(estimate.fmt.k.name) is None or not estimate.kv_bytes:
        return []
    changes = []
    for name in KV_CHOICES:
        try:
            after = _retry(estimate, replace(estimate.request, k_dtype=name, v_dtype=name))
        except KvplanError:  # a format this model's cache cannot take
            continue
        changes.append(Change(f"KV cache in {name}", f"--kv-dtype {name}", _gain(estimate, after), bool(after.fits)))
        if after.fits:
            break
    return changes


def _weight_dtype(estimate: Estimate) -> list[Change]:
    if not estimate.spec.weights_known or estimate.plan.fmt.name not in ("fp32", "fp16", "bf16"):
        return []
    changes = []
    kv = estimate.fmt
    for name in WEIGHT_CHOICES:
        request = replace(estimate.request, dtype=name, k_dtype=kv.k.name, v_dtype=kv.v.name)
        after = _retry(estimate, request)
        words = f"weights in {name}" + (" (4 bit)" if name == "awq" else "")
        changes.append(Change(words, f"--dtype {name}", _gain(estimate, after), bool(after.fits)))
        if after.fits:
            break
    return changes


def _batch(estimate: Estimate) -> list[Change]:
    assert estimate.capacity is not None
    if estimate.request.batch == 1:
        return []
    most = most_sequences(estimate.spec, estimate.request, estimate.capacity)
    if not most:
        return []
    after = _retry(estimate, replace(estimate.request, batch=most))
    return [
        Change(
            f"{most:,} sequence{'s' if most > 1 else ''} instead of {estimate.request.batch:,}",
            f"--batch {most}",
            _gain(estimate, after),
            True,
        )
    ]


def _length(estimate: Estimate) -> list[Change]:
    assert estimate.capacity is not None
    longest = longest_context(estimate.spec, estimate.request, estimate.capacity)
    if not longest or longest >= estimate.request.seq_tokens:
        return []
    after = _retry(estimate, replace(estimate.request, seq_tokens=longest))
    words = f"{longest:,} tokens instead of {human_tokens(estimate.request.seq_tokens)}"
    return [Change(words, f"--seq {longest}", _gain(estimate, after), True)]


def _more_devices(estimate: Estimate) -> list[Change]:
    assert estimate.capacity is not None
    layout = tensor_parallel_devices(estimate.spec, estimate.request, estimate.capacity, limit=512)
    if layout is None:
        return []
    after = _retry(estimate, replace(estimate.request, sharding=layout.sharding))
    flags = f"--tp {layout.sharding.tp}" + (f" --pp {layout.sharding.pp}" if layout.sharding.pp > 1 else "")
    return [Change(f"{layout.devices:,} x {estimate.capacity.name}", flags, _gain(estimate, after), True)]


def _other_device(short: Estimate) -> list[Change]:
    """The smallest catalogue device that holds the request as it is laid out, of the same vendor if one does."""
    need = short.per_device.total_bytes
    larger = [device for device in devices() if device.memory_bytes >= need and not device.name.startswith("MIG-")]
    if not larger:
        return []
    vendors = {device.vendor for device in devices() if short.capacity and device.name == short.capacity.name}
    best = min(larger, key=lambda device: (device.vendor not in vendors, device.memory_bytes, device.name))
    after = estimate(short.spec, short.request, device_capacity(best))
    if not after.fits:
        return []
    assert short.capacity is not None
    gain = best.memory_bytes - short.capacity.bytes
    return [Change(f"a {best.name} ({human_bytes(best.memory_bytes)})", f"--gpu {best.name}", gain, True)]
