"""Where and when a benchmark ran: one line for its head. Standard library only."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Callable
from pathlib import Path


def cpu_name() -> str:
    """The processor as Linux names it, else as Python does."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def children_cpu_seconds(run: Callable[[], object]) -> float:
    """User and system seconds of the processes that `run` starts and waits for."""
    import resource  # Unix alone has it

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_rss_bytes() -> int | None:
    """Most memory this process ever held; None where the system does not say.

    Linux's VmHWM starts anew when a program starts; ru_maxrss goes on from the process that started it.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def header() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{cpu_name()}, {platform.system()}, {python}, {datetime.date.today().isoformat()}"
