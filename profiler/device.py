"""What differs between CUDA, MPS and CPU, and nothing else.

    device = choose()            CUDA, else MPS, else CPU
    device.synchronise()         waits until all queued work is done
    device.mark(), .between()    a place in time and the seconds between two, without stopping the queue
    device.allocated_bytes()     None where the device cannot say: never a silent 0
    device.peak_bytes()          since reset_peak(); `peak_means` says what it is a peak of

What each peak is:
    CUDA   the caching allocator's: bytes of live blocks (allocated), and of segments taken from the driver
           (reserved). Blocks are rounded up to 512 B, segments to 2 MiB.
    MPS    there is no counter of peaks; what is allocated now, sampled by the caller
    CPU    the largest resident set of the process (VmHWM): everything in it, not only tensors. torch has no
           counter on CPU; what operators allocate is counted by `profiler.memory` from torch.profiler.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import torch

from planner.errors import BadRequest, one_line
from planner.units import ceil_div
from profiler.results import Environment

CUDA_BLOCK_BYTES = 512


def cuda_block_bytes(size_bytes: int) -> int:
    """Counts what one tensor takes from the caching allocator: whole blocks of 512 B.

    Source: c10/cuda/CUDACachingAllocator, kMinBlockSize.

    >>> cuda_block_bytes(1), cuda_block_bytes(512), cuda_block_bytes(1025), cuda_block_bytes(0)
    (512, 512, 1536, 0)
    """
    return ceil_div(size_bytes, CUDA_BLOCK_BYTES) * CUDA_BLOCK_BYTES


class Device:
    """The CPU, and what all devices share. `clock` is passed in so that tests need not wait."""

    kind = "cpu"
    peak_means = "largest resident set of the whole process; it grows by 1.05 to 2.9 times a cache and proves nothing"

    def __init__(self, clock: Callable[[], float] = time.perf_counter, root: str = "/") -> None:
        self.clock, self.root = clock, root

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.kind)

    @property
    def name(self) -> str:
        for line in self._read("proc/cpuinfo").splitlines():
            if line.startswith("model name"):
                return one_line(line.partition(":")[2], 80)
        return platform.processor() or platform.machine() or "cpu"

    @property
    def driver(self) -> str:
        return f"{platform.system()} {platform.release()}"

    @property
    def memory_bytes(self) -> int | None:
        from planner.machine.device import host_memory

        found = host_memory(self.root)
        return found[0] if found else None

    @property
    def free_bytes(self) -> int | None:
        """What may still be allocated; None where nobody says."""
        return self._status("proc/meminfo", "MemAvailable:")

    def synchronise(self) -> None:
        """CPU work is done when the call returns."""

    def mark(self) -> Any:
        return self.clock()

    def between(self, first: Any, last: Any) -> float:
        """Seconds from one mark to another; `synchronise` before."""
        return float(last - first)

    def allocated_bytes(self) -> int | None:
        return None

    def peak_bytes(self) -> int | None:
        return self._status("proc/self/status", "VmHWM:")

    def resident_bytes(self) -> int | None:
        return self._status("proc/self/status", "VmRSS:")

    def reset_peak(self) -> None:
        """Linux lets a process lower its own high-water mark to what is resident now."""
        try:
            with open(os.path.join(self.root, "proc/self/clear_refs"), "w", encoding="ascii") as file:
                file.write("5")
        except OSError:
            pass

    def round_bytes(self, size_bytes: int) -> int:
        """What a tensor of this size takes from the allocator, as `allocated_bytes` counts it."""
        return size_bytes

    def release(self) -> None:
        """Gives cached memory back, so that the next point starts clean."""

    def _read(self, path: str) -> str:
        try:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
                return file.read(1 << 20)
        except OSError:
            return ""

    def _status(self, path: str, key: str) -> int | None:
        for line in self._read(path).splitlines():
            words = line.split()
            if words[:1] == [key] and len(words) >= 2 and words[1].isdigit():
                return int(words[1]) * 1024
        return None


class Cuda(Device):
    """An NVIDIA or AMD GPU through torch.cuda; `api` is that module, or a stand-in."""

    kind = "cuda"
    peak_means = "most bytes in live blocks of the caching allocator, each rounded up to 512 B"

    def __init__(self, clock: Callable[[], float] = time.perf_counter, api: Any = torch.cuda, index: int = 0) -> None:
        super().__init__(clock)
        self.api, self.index = api, index

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", self.index)

    @property
    def name(self) -> str:
        return one_line(str(self.api.get_device_name(self.index)), 80)

    @property
    def driver(self) -> str:
        return f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"

    @property
    def memory_bytes(self) -> int | None:
        return int(self.api.mem_get_info(self.index)[1])

    @property
    def free_bytes(self) -> int | None:
        """What the driver has free, and what the allocator holds without using it."""
        idle = self.api.memory_reserved(self.index) - self.api.memory_allocated(self.index)
        return int(self.api.mem_get_info(self.index)[0] + idle)

    def synchronise(self) -> None:
        self.api.synchronize(self.index)

    def mark(self) -> Any:
        event = self.api.Event(enable_timing=True)
        event.record()
        return event

    def between(self, first: Any, last: Any) -> float:
        return float(first.elapsed_time(last)) / 1e3  # milliseconds

    def allocated_bytes(self) -> int | None:
        return int(self.api.memory_allocated(self.index))

    def peak_bytes(self) -> int | None:
        return int(self.api.max_memory_allocated(self.index))

    def resident_bytes(self) -> int | None:
        return None

    def reset_peak(self) -> None:
        self.api.reset_peak_memory_stats(self.index)

    def round_bytes(self, size_bytes: int) -> int:
        return cuda_block_bytes(size_bytes)

    def release(self) -> None:
        self.api.empty_cache()


class Mps(Device):
    """An Apple GPU; it shares the host's memory and counts no peak."""

    kind = "mps"
    peak_means = "MPS counts no peak; this is what was allocated when it was asked"

    def __init__(self, clock: Callable[[], float] = time.perf_counter, api: Any = torch.mps) -> None:
        super().__init__(clock)
        self.api = api

    @property
    def name(self) -> str:
        return f"Apple GPU ({platform.processor() or platform.machine()})"

    @property
    def driver(self) -> str:
        return f"Metal, macOS {platform.mac_ver()[0]}"

    @property
    def memory_bytes(self) -> int | None:
        return int(self.api.recommended_max_memory())

    @property
    def free_bytes(self) -> int | None:
        return max(0, int(self.api.recommended_max_memory()) - int(self.api.driver_allocated_memory()))

    def synchronise(self) -> None:
        self.api.synchronize()

    def mark(self) -> Any:
        self.api.synchronize()  # MPS events cannot be timed on every torch; the queue is emptied instead
        return self.clock()

    def allocated_bytes(self) -> int | None:
        return int(self.api.current_allocated_memory())

    def peak_bytes(self) -> int | None:
        return self.allocated_bytes()

    def resident_bytes(self) -> int | None:
        return None

    def reset_peak(self) -> None:
        """There is none."""

    def release(self) -> None:
        self.api.empty_cache()


def choose(name: str | None = None) -> Device:
    """Finds the device called `name` (cuda, cuda:1, mps, cpu), or the fastest that is there."""
    kind, _, index = (name or "").strip().lower().partition(":")
    if kind not in ("", "cuda", "mps", "cpu") or not (index == "" or (kind == "cuda" and index.isdigit())):
        raise BadRequest(f"--device {one_line(str(name), 30)!r} is not known; choose cuda, cuda:N, mps or cpu")
    if kind == "cuda" or (not kind and torch.cuda.is_available()):
        if not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count():
            raise BadRequest(f"--device {name}: torch finds no such device here; use --device cpu")
        torch.cuda.set_device(int(index or 0))
        return Cuda(index=int(index or 0))
    if kind == "mps" or (not kind and torch.backends.mps.is_available()):
        if not torch.backends.mps.is_available():
            raise BadRequest("--device mps: torch finds no Apple GPU here; use --device cpu")
        return Mps()
    return Device()


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tells whether an exception says that memory ran out; torch uses a RuntimeError for it on the CPU."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def busy_words(load: float | None = None, cores: int | None = None) -> str | None:
    """Returns a warning when other programs were running in the last minute.

    >>> busy_words(3.0, 2), busy_words(0.4, 2) is None
    ('the load of this machine was 3.0 on 2 cores before the start: other programs were running', True)
    """
    if load is None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = cores or os.cpu_count() or 1
    if load <= 0.75 * cores:
        return None
    return f"the load of this machine was {load:.1f} on {cores} cores before the start: other programs were running"


def environment(device: Device) -> Environment:
    """Describes the surroundings of a measurement made now on `device`."""
    version, commit = _version(), _commit()
    return Environment(
        device=device.name,
        device_kind=device.kind,
        driver=device.driver,
        torch=torch.__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        threads=torch.get_num_threads(),
        memory_bytes=device.memory_bytes,
        kvplan=version,
        commit=commit,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("llm-kvplan")
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of this checkout, with a + where files differ from it; empty for an installed copy."""
    import subprocess

    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if not os.path.exists(os.path.join(here, ".git")):
        return ""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", here, *arguments], capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + "+" if commit and git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return ""
