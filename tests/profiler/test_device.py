"""What each device is asked, with stand-ins for torch.cuda and torch.mps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the profiler needs torch: pip install 'llm-kvplan[profile]'")

from planner.errors import BadRequest
from profiler.device import Cuda, Device, Mps, choose, environment, is_out_of_memory
from profiler.measure import laps, measure

MIB = 1 << 20


class FakeEvent:
    def __init__(self, api: FakeCuda) -> None:
        self.api = api

    def record(self) -> None:
        self.at = self.api.now

    def elapsed_time(self, later: FakeEvent) -> float:
        assert self.api.synchronised, "an event is read only after the queue is empty"
        return (later.at - self.at) * 1e3


class FakeCuda:
    """As much of torch.cuda as Cuda asks for; `work` lets time pass and memory grow."""

    def __init__(self) -> None:
        self.now, self.live, self.peak, self.reserved, self.synchronised, self.calls = 0.0, 0, 0, 0, True, []  # type: ignore[var-annotated]

    def work(self, seconds: float, size_bytes: int = 0) -> None:
        self.now += seconds
        self.live += size_bytes
        self.peak = max(self.peak, self.live)
        self.reserved = max(self.reserved, self.live)
        self.synchronised = False

    def Event(self, enable_timing: bool) -> FakeEvent:
        assert enable_timing
        return FakeEvent(self)

    def synchronize(self, index: int = 0) -> None:
        self.synchronised = True

    def memory_allocated(self, index: int) -> int:
        return self.live

    def max_memory_allocated(self, index: int) -> int:
        return self.peak

    def memory_reserved(self, index: int) -> int:
        return self.reserved

    def reset_peak_memory_stats(self, index: int) -> None:
        self.peak = self.live

    def mem_get_info(self, index: int) -> tuple[int, int]:
        return 10 * MIB - self.reserved, 10 * MIB

    def get_device_name(self, index: int) -> str:
        return "NVIDIA Fake"

    def empty_cache(self) -> None:
        self.calls.append("empty_cache")


def test_cuda_is_timed_by_events_read_after_synchronising() -> None:
    api = FakeCuda()
    device = Cuda(api=api, clock=lambda: api.now)
    times = measure(lambda: api.work(0.25), device, repeats=3)
    assert times.seconds == pytest.approx((0.25, 0.25, 0.25))


def test_steps_in_a_row_are_timed_without_stopping_the_queue() -> None:
    api = FakeCuda()
    waits = iter((9.0, 9.0, 0.1, 0.2, 0.3))  # two to warm up
    times = laps(lambda: api.work(next(waits)), Cuda(api=api, clock=lambda: api.now), 3)
    assert times.seconds == pytest.approx((0.1, 0.2, 0.3))


def test_cuda_peak_counts_from_the_reset() -> None:
    api = FakeCuda()
    device = Cuda(api=api)
    api.work(0, 3 * MIB)
    api.work(0, -2 * MIB)
    assert (device.allocated_bytes(), device.peak_bytes()) == (MIB, 3 * MIB)
    device.reset_peak()
    assert device.peak_bytes() == MIB
    assert device.free_bytes == 9 * MIB  # free in the driver, and idle in the allocator
    device.release()
    assert api.calls == ["empty_cache"]


def test_cuda_rounds_tensors_to_blocks() -> None:
    assert Cuda(api=FakeCuda()).round_bytes(513) == 1024
    assert Device().round_bytes(513) == 513


def test_cpu_says_none_where_torch_would_say_zero() -> None:
    assert Device().allocated_bytes() is None


def test_cpu_figures_come_from_proc(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("VmHWM:\t 2048 kB\nVmRSS:\t 1024 kB\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8192 kB\nMemAvailable: 4096 kB\n")
    (tmp_path / "proc/cpuinfo").write_text("processor: 0\nmodel name : Some CPU\n")
    device = Device(root=str(tmp_path))
    assert (device.peak_bytes(), device.resident_bytes(), device.free_bytes) == (2 * MIB, MIB, 4 * MIB)
    assert (device.name, device.memory_bytes) == ("Some CPU", 8 * MIB)
    nowhere = Device(root=str(tmp_path / "none"))
    assert (nowhere.peak_bytes(), nowhere.free_bytes) == (None, None)


class FakeMps:
    def __init__(self) -> None:
        self.synchronised = 0

    def synchronize(self) -> None:
        self.synchronised += 1

    def current_allocated_memory(self) -> int:
        return 5

    def driver_allocated_memory(self) -> int:
        return 8

    def recommended_max_memory(self) -> int:
        return 100


def test_mps_empties_its_queue_at_each_mark_and_has_no_peak() -> None:
    api, ticks = FakeMps(), iter((1.0, 3.0))
    device = Mps(api=api, clock=lambda: next(ticks))
    first, last = device.mark(), device.mark()
    assert device.between(first, last) == 2.0 and api.synchronised == 2
    assert (device.allocated_bytes(), device.peak_bytes(), device.free_bytes) == (5, 5, 92)
    assert "no peak" in device.peak_means


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:1", "cuda:999", "cuda"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(BadRequest, match="--device"):
        choose(name)


def test_running_out_of_memory_is_told_from_other_errors() -> None:
    said = (
        "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    )
    assert is_out_of_memory(RuntimeError(said)) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_the_environment_is_complete() -> None:
    here = environment(choose("cpu"))
    assert all((here.device, here.driver, here.torch, here.python, here.platform, here.threads, here.kvplan, here.date))
    assert here.device_kind == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_allocator_rounds_as_the_pure_functions_say() -> None:
    device = choose("cuda")
    device.release()
    before, kept = device.allocated_bytes(), []
    assert before is not None
    for size_bytes in (1, 511, 513, 4097, MIB + 1):
        now: Any = device.allocated_bytes()
        kept.append(torch.empty(size_bytes, dtype=torch.uint8, device="cuda"))
        assert device.allocated_bytes() == now + device.round_bytes(size_bytes)
    assert device.peak_bytes() is not None
