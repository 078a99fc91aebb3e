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


def advise(short: Estimate, limit: int = 3) -> tuple[Change, ...]:
    """Proposes up to `limit` changes, those that suffice first; at least one always names more or other devices."""
    changes = [*_kv_dtype(short), *_batch(short), *_length(short), *_weight_dtype(short)]
    devices_first = [*_more_devices(short), *_other_device(short)]
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


def _kv_dtype(short: Estimate) -> list[Change]:
    if float_dtype(short.fmt.k.name) is None or not short.kv_bytes:
        return []
    changes = []
    for name in KV_CHOICES:
        try:
            after = _retry(short, replace(short.request, k_dtype=name, v_dtype=name))
        except KvplanError:  # a format this model's cache cannot take
            continue
        changes.append(Change(f"KV cache in {name}", f"--kv-dtype {name}", _gain(short, after), bool(after.fits)))
        if after.fits:
            break
    return changes


def _weight_dtype(short: Estimate) -> list[Change]:
    if not short.spec.weights_known or short.plan.fmt.name not in ("fp32", "fp16", "bf16"):
        return []
    changes = []
    kv = short.fmt
    for name in WEIGHT_CHOICES:
        request = replace(short.request, dtype=name, k_dtype=kv.k.name, v_dtype=kv.v.name)
        after = _retry(short, request)
        words = f"weights in {name}" + (" (4 bit)" if name == "awq" else "")
        changes.append(Change(words, f"--dtype {name}", _gain(short, after), bool(after.fits)))
        if after.fits:
            break
    return changes


def _batch(short: Estimate) -> list[Change]:
    assert short.capacity is not None
    if short.request.batch == 1:
        return []
    most = most_sequences(short.spec, short.request, short.capacity)
    if not most:
        return []
    after = _retry(short, replace(short.request, batch=most))
    return [
        Change(
            f"{most:,} sequence{'s' if most > 1 else ''} instead of {short.request.batch:,}",
            f"--batch {most}",
            _gain(short, after),
            True,
        )
    ]


def _length(short: Estimate) -> list[Change]:
    assert short.capacity is not None
    longest = longest_context(short.spec, short.request, short.capacity)
    if not longest or longest >= short.request.seq_tokens:
        return []
    after = _retry(short, replace(short.request, seq_tokens=longest))
    words = f"{longest:,} tokens instead of {human_tokens(short.request.seq_tokens)}"
    return [Change(words, f"--seq {longest}", _gain(short, after), True)]


def _more_devices(short: Estimate) -> list[Change]:
    assert short.capacity is not None
    layout = tensor_parallel_devices(short.spec, short.request, short.capacity, limit=512)
    if layout is None:
        return []
    after = _retry(short, replace(short.request, sharding=layout.sharding))
    flags = f"--tp {layout.sharding.tp}" + (f" --pp {layout.sharding.pp}" if layout.sharding.pp > 1 else "")
    return [Change(f"{layout.devices:,} x {short.capacity.name}", flags, _gain(short, after), True)]


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
