"""The device of this machine, found without torch: an NVIDIA GPU, an Apple GPU, else the host's own memory.

The memory is what the driver says today; bandwidth, FLOP/s and the rest come from the catalogue, when the
device's name is there and its memory agrees (an "RTX 4060 Ti" is sold with 8 and with 16 GB).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.catalogue.device import Device
from planner.catalogue.entries import device_key, device_keys, devices
from planner.errors import KvplanError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.machine.calibration import Calibration

MIB = 1 << 20


GIB = 1 << 30


TIMEOUT_SECONDS = 10  # nvidia-smi takes a second or two when the driver sleeps


MEMORY_TOLERANCE = 0.15  # between marketing and driver lie 3 to 8 %, between two sizes of one card at least 25 %


NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


SYSCTL = ("sysctl", "-n", "machdep.cpu.brand_string", "hw.memsize")


Runner = Callable[[Sequence[str]], "str | None"]


"""Runs a command and returns what it printed, or None when it is missing, fails or takes too long."""


def run_command(command: Sequence[str]) -> str | None:
    """Runs `command` and returns what it prints, or None when it is missing, fails or takes longer than
    TIMEOUT_SECONDS.
    """
    import subprocess  # slow to import, and only wanted here

    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return done.stdout if done.returncode == 0 else None


def local_device(run: Runner = run_command, *, platform: str = sys.platform, root: str = "/") -> Device:
    """Finds the device at hand; `source` says what was asked.

    run       runs a command (tests hand in canned output)
    platform  as sys.platform
    root      where the file tree with /proc and /sys begins

    Rates that `kvplan calibrate` measured on it take the place of the catalogue's.
    """
    return with_measured_rates(_asked(run, platform, root))


def _asked(run: Runner, platform: str, root: str) -> Device:
    if (output := run(NVIDIA_SMI)) is not None and (device := from_nvidia_smi(output, root=root)):
        return device
    if platform == "darwin" and (output := run(SYSCTL)) is not None and (device := from_sysctl(output)):
        return device
    return from_host(root=root)


def with_measured_rates(device: Device) -> Device:
    """Returns a device with the bandwidth and FLOP/s of the user's device file, where that file is of this device."""
    found = calibration_of(device)
    if found is None:
        return device
    read = found.read_bytes_per_s
    flops = {
        name[: -len("_flops_per_s")]: int(rate.value)
        for name, rate in found.rates.items()
        if name.endswith("_flops_per_s")
    }
    words = f"bandwidth and FLOP/s {found.words()}"
    kept = None if device.bandwidth_bytes_per_s is None else device.notes
    return replace(
        device,
        bandwidth_bytes_per_s=int(read) if read else device.bandwidth_bytes_per_s,
        dense_flops_per_s={**device.dense_flops_per_s, **flops},
        notes="; ".join(filter(None, (words, kept))),
        source=(*device.source, "kvplan calibrate"),
    )


def calibration_of(device: Device) -> Calibration | None:
    """Reads the user's device file, where there is one and it is of `device`, this machine's."""
    from planner.machine.calibration import load_calibration  # most questions are about another device

    found = load_calibration()
    if found is None:
        return None
    measured = found.environment
    return found if _same(device, str(measured.get("device_kind")), str(measured.get("device"))) else None


def _same(device: Device, kind: str, name: str) -> bool:
    """Whether a device file of that kind and name is of `device`; a GPU's name is in what the driver said."""
    if kind == "cpu":
        return device.vendor is None and device.name == "cpu"
    return {"cuda": "NVIDIA", "mps": "Apple"}.get(kind) == device.vendor and (
        kind == "mps" or any(name in s for s in device.source)
    )


def from_nvidia_smi(output: str, *, root: str = "/") -> Device | None:
    """Reads the first GPU in the output of nvidia-smi, or None when no line of it makes sense.

    >>> device = from_nvidia_smi("NVIDIA H100 80GB HBM3, 81559")
    >>> device.name, device.memory_bytes < 81559 * 2**20, device.bandwidth_bytes_per_s
    ('H100-SXM5-80GB', True, 3350000000000)
    """
    found = [gpu for line in output.splitlines() if (gpu := _nvidia_line(line, root)) is not None]
    if not found:
        return None
    name, memory_bytes, shared = found[0]
    says = "host memory, which the GPU shares" if shared else "nvidia-smi memory.total; CUDA reports about 1 % less"
    note = None
    if len(found) > 1:
        same = "alike" if len(set(found)) == 1 else "not all alike"
        note = f"first of {len(found)} GPUs, {same}"
    return _known_or_bare(
        name, memory_bytes, says, asked="nvidia-smi --query-gpu=name,memory.total", vendor="NVIDIA", note=note
    )


def _nvidia_line(line: str, root: str) -> tuple[str, int, bool] | None:
    """(name, bytes, shared with the host) from one line such as "Tesla T4, 15360"."""
    name, comma, size = (part.strip() for part in line.rpartition(","))
    if not comma or not name or not name.isprintable() or len(name) > 100:
        return None
    if size.isascii() and size.isdigit() and len(size) < 10 and int(size) > 0:
        return name, int(size) * MIB, False
    # GPUs that share the host's memory (Jetson, GB10) have no memory of their own to report.
    if size in ("[N/A]", "[Not Supported]", "N/A") and (host := host_memory(root)):
        return name, host[0], True
    return None


def from_sysctl(output: str) -> Device | None:
    """Reads the Apple GPU from two lines: the chip's name and the bytes of unified memory; None when it is none.

    >>> device = from_sysctl("Apple M2 Ultra\\n206158430208")
    >>> device.name, device.memory_bytes // 2**30
    ('Apple-M2-Ultra', 144)
    """
    lines = output.split("\n")
    if len(lines) < 2 or not lines[0].startswith("Apple ") or not lines[1].strip().isdigit():
        return None
    unified_bytes = int(lines[1])
    # What Metal recommends by default, as llama.cpp prints it: two thirds up to 32 GiB, three quarters above.
    memory_bytes = unified_bytes * 2 // 3 if unified_bytes <= 32 * GIB else unified_bytes * 3 // 4
    says = f"Metal's default share of {unified_bytes / GIB:.0f} GiB of unified memory"
    asked = "sysctl machdep.cpu.brand_string hw.memsize"
    chip = lines[0].strip()
    sized = f"{chip} {unified_bytes // GIB}GB"  # the size tells an M3 Max of 300 GB/s from one of 400
    name = sized if _catalogued(sized, memory_bytes, True) else chip
    return _known_or_bare(name, memory_bytes, says, asked=asked, vendor="Apple", note=None, any_memory=True)


def from_host(*, root: str = "/") -> Device:
    """Describes the host itself, for running on the CPU: its memory, or the container's limit where that is lower."""
    memory = host_memory(root)
    if memory is None:
        raise KvplanError("this machine's memory cannot be found out; name a device with --gpu, or its memory")
    memory_bytes, says = memory
    return Device(
        name="cpu",
        memory_bytes=memory_bytes,
        source=("no GPU answered; " + says,),
        checked=None,
        arch=os.uname().machine if hasattr(os, "uname") else None,
        memory_source=says,
        origin="local",
        notes="bandwidth is not known until it is measured",
    )


def host_memory(root: str = "/") -> tuple[int, str] | None:
    """Reads (bytes, where they come from): physical memory, or the cgroup's limit where that is lower."""
    candidates = [(size, says) for size, says in (_physical(root), *_cgroup_limits(root)) if size]
    return min(candidates, default=None)


def _physical(root: str) -> tuple[int, str]:
    for line in (_read(os.path.join(root, "proc/meminfo")) or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "MemTotal:" and words[1].isdigit():
            return int(words[1]) * 1024, "MemTotal of /proc/meminfo"
    if root == "/" and hasattr(os, "sysconf"):
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "physical pages, by sysconf"
        except (OSError, ValueError):
            pass
    return 0, ""


def _cgroup_limits(root: str) -> list[tuple[int, str]]:
    """The limits of this process's cgroup and of those above it, versions 2 and 1."""
    folders = ["", "memory"]
    for line in (_read(os.path.join(root, "proc/self/cgroup")) or "").splitlines():
        hierarchy, _, path = line.rpartition(":")
        base = "memory" if "memory" in hierarchy.split(":")[-1].split(",") else ""
        parts = [part for part in path.split("/") if part not in ("", ".", "..")]
        folders += [os.path.join(base, *parts[:depth]) for depth in range(1, len(parts) + 1)]
    limits: list[tuple[int, str]] = []
    for folder in folders:
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = (_read(os.path.join(root, "sys/fs/cgroup", folder, name)) or "").strip()
            if text.isdigit():
                limits.append((int(text), f"the limit of the container or cgroup ({name})"))
    return limits


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return None


def _known_or_bare(
    name: str,
    memory_bytes: int,
    says: str,
    *,
    asked: str,
    vendor: str,
    note: str | None,
    any_memory: bool = False,
) -> Device:  # parameters: what it makes is made of, each by name
    """The catalogue's device of that name, with the driver's memory; or one of which no more is known."""
    shown = one_line(name, 100)
    source = f"{asked}: {shown}"
    known = _catalogued(name, memory_bytes, any_memory)
    if known is None:
        notes = "; ".join(filter(None, (note, "not in the catalogue, so bandwidth and FLOP/s are unknown")))
        return Device(
            shown,
            memory_bytes,
            (source,),
            None,
            vendor=vendor,
            memory_source=says,
            notes=notes,
            origin="local",
        )
    # nvidia-smi counts what CUDA does not hand out: the card by name and `local` must agree.
    usable = memory_bytes if any_memory else min(memory_bytes, known.memory_bytes)
    return replace(
        known,
        memory_bytes=usable,
        memory_source=says,
        source=(source, *known.source),
        notes="; ".join(filter(None, (note, known.notes))) or None,
        origin="local",
    )


def _catalogued(name: str, memory_bytes: int, any_memory: bool) -> Device | None:
    """The one device whose name or alias is `name` or begins with it, and whose memory agrees."""
    wanted = device_key(name)
    exact: list[Device] = []
    begins: list[Device] = []
    for device in devices():
        keys = device_keys({"name": device.name, "aliases": device.aliases})
        near = abs(device.memory_bytes - memory_bytes) <= MEMORY_TOLERANCE * device.memory_bytes
        if not (near or any_memory):
            continue
        if wanted in keys:
            exact.append(device)
        elif any(key.startswith(wanted) for key in keys):
            begins.append(device)
    if exact:
        return exact[0]
    return begins[0] if len(begins) == 1 and not any_memory else None
