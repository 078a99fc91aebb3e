"""The device of this machine, from canned output of the commands that are asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from planner.catalogue.entries import find_device
from planner.errors import KvplanError
from planner.machine import device as local

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_own_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))


def answers(**canned: str) -> local.Runner:
    """A runner that knows some commands and finds the others missing."""

    def run(command: Sequence[str]) -> str | None:
        return canned.get(command[0].replace("-", "_"))

    return run


def host(root: Path, **files: str) -> str:
    """A file tree with the given files; __ stands for a slash."""
    for name, text in files.items():
        path = root / "tree" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(root / "tree")


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("NVIDIA H100 80GB HBM3, 81559", "H100-SXM5-80GB"),
        ("NVIDIA H100 PCIe, 81559", "H100-PCIe-80GB"),
        ("NVIDIA H100 NVL, 95830", "H100-NVL-94GB"),
        ("NVIDIA H200, 143771", "H200-SXM-141GB"),
        ("NVIDIA B200, 183359", "B200-HGX-180GB"),
        ("NVIDIA A100-SXM4-80GB, 81920", "A100-SXM4-80GB"),
        ("NVIDIA A100 80GB PCIe, 81920", "A100-PCIe-80GB"),
        ("NVIDIA A100-PCIE-40GB, 40960", "A100-PCIe-40GB"),
        ("Tesla V100-SXM2-32GB, 32510", "V100-SXM2-32GB"),
        ("Tesla T4, 15360", "T4"),
        ("NVIDIA L4, 23034", "L4"),
        ("NVIDIA GeForce RTX 4090, 24564", "RTX-4090-24GB"),
        ("NVIDIA GeForce RTX 4060 Ti, 16380", "RTX-4060Ti-16GB"),
        ("NVIDIA RTX A6000, 49140", "RTX-A6000-48GB"),
        ("NVIDIA RTX 6000 Ada Generation, 49140", "RTX-6000-Ada-48GB"),
    ],
)
def test_a_known_gpu_is_never_more_generous_than_by_name_and_has_the_catalogues_bandwidth(line: str, name: str) -> None:
    device = local.local_device(answers(nvidia_smi=line + "\n"))
    assert device.name == name
    # The driver's total holds what CUDA keeps; a driver that says less than the catalogue is believed.
    assert device.memory_bytes == min(int(line.split(", ")[1]) * MIB, find_device(name).memory_bytes)
    assert device.bandwidth_bytes_per_s == find_device(name).bandwidth_bytes_per_s
    assert "nvidia-smi" in device.source[0]
    assert device.origin == "local"


def test_the_same_name_with_another_memory_is_another_device() -> None:
    small, large, strange = (
        local.local_device(answers(nvidia_smi=f"NVIDIA GeForce RTX 4060 Ti, {mib}")) for mib in (8188, 16380, 12000)
    )
    assert (small.name, large.name) == ("RTX-4060Ti-8GB", "RTX-4060Ti-16GB")
    assert strange.name == "NVIDIA GeForce RTX 4060 Ti"
    assert strange.memory_bytes == 12000 * MIB
    assert strange.bandwidth_bytes_per_s is None


def test_an_unknown_gpu_knows_its_memory_only() -> None:
    device = local.local_device(answers(nvidia_smi="NVIDIA X9000, 1000000"))
    assert (device.name, device.memory_bytes) == ("NVIDIA X9000", 1_000_000 * MIB)
    assert device.dense_flops_per_s == {}
    assert "not in the catalogue" in (device.notes or "")


def test_of_several_gpus_the_first_is_taken_and_said_so() -> None:
    alike = local.local_device(answers(nvidia_smi="Tesla T4, 15360\nTesla T4, 15360\n"))
    assert (alike.notes or "").startswith("first of 2 GPUs, alike")
    mixed = local.local_device(answers(nvidia_smi="Tesla T4, 15360\nNVIDIA L4, 23034\n"))
    assert mixed.name == "T4"
    assert "not all alike" in (mixed.notes or "")


def test_a_gpu_without_memory_of_its_own_has_the_hosts(tmp_path: Path) -> None:
    root = host(tmp_path, proc__meminfo="MemTotal:       125000000 kB\n")
    device = local.local_device(answers(nvidia_smi="NVIDIA GB10, [N/A]"), root=root)
    assert (device.name, device.memory_bytes) == ("DGX-Spark-128GB", 125_000_000 * 1024)
    assert "shares" in (device.memory_source or "")


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "\n\n",
        "No devices were found",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        ", 81559",
        "Tesla T4,",
        "Tesla T4, lots",
        "Tesla T4, -5",
        "Tesla T4, 0",
        "Tesla T4, 99999999999999999999",
        "Tesla\x1b[31m T4, 15360",
        "x" * 5000 + ", 15360",
        "Tesla T4, ١٥٣٦٠",
    ],
)
def test_garbage_from_nvidia_smi_falls_back_to_the_host(garbage: str, tmp_path: Path) -> None:
    root = host(tmp_path, proc__meminfo="MemTotal:       16000000 kB\n")
    device = local.local_device(answers(nvidia_smi=garbage), platform="linux", root=root)
    assert (device.name, device.memory_bytes) == ("cpu", 16_000_000 * 1024)


def test_good_lines_among_garbage_are_taken() -> None:
    device = local.from_nvidia_smi("warning: something\nTesla T4, 15360\n")
    assert device is not None and device.name == "T4"


def test_an_apple_gpu_has_metals_share_of_the_memory() -> None:
    device = local.local_device(answers(sysctl="Apple M1 Pro\n17179869184\n"), platform="darwin")
    assert device.name == "Apple-M1-Pro-16GB"
    assert device.memory_bytes == 17179869184 * 2 // 3
    assert device.bandwidth_bytes_per_s == 200 * 10**9
    slower = local.local_device(answers(sysctl=f"Apple M3 Max\n{36 << 30}\n"), platform="darwin")
    assert (slower.name, slower.memory_bytes) == ("Apple-M3-Max-36GB", 27 << 30)
    assert slower.bandwidth_bytes_per_s == 300_000_000_000
    large = local.local_device(answers(sysctl="Apple M9 Max\n137438953472\n"), platform="darwin")
    assert (large.name, large.memory_bytes) == ("Apple M9 Max", 96 << 30)


@pytest.mark.parametrize("garbage", ["", "Intel(R) Core(TM) i9\n17179869184", "Apple M1", "Apple M1\nmany"])
def test_garbage_from_sysctl_falls_back_to_the_host(garbage: str, tmp_path: Path) -> None:
    root = host(tmp_path, proc__meminfo="MemTotal: 1024 kB\n")
    assert local.local_device(answers(sysctl=garbage), platform="darwin", root=root).name == "cpu"


@pytest.mark.parametrize(
    "files",
    [
        {"sys__fs__cgroup__memory.max": "2147483648\n"},
        {"sys__fs__cgroup__memory__memory.limit_in_bytes": "2147483648\n"},
        {"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a__memory.max": "2147483648\n"},
        {
            "proc__self__cgroup": "5:cpu,memory:/job\n",
            "sys__fs__cgroup__memory__job__memory.limit_in_bytes": "2147483648\n",
        },
    ],
    ids=["v2", "v1", "v2-above", "v1-below"],
)
def test_a_containers_lower_limit_is_the_hosts_memory(files: dict[str, str], tmp_path: Path) -> None:
    root = host(tmp_path, proc__meminfo="MemTotal:       16000000 kB\n", **files)
    device = local.local_device(answers(), platform="linux", root=root)
    assert device.memory_bytes == 2 << 30
    assert "limit" in (device.memory_source or "")


@pytest.mark.parametrize("limit", ["max\n", "9223372036854771712\n", ""])
def test_no_limit_and_a_limit_above_the_memory_change_nothing(limit: str, tmp_path: Path) -> None:
    files = {"sys__fs__cgroup__memory.max": limit}
    root = host(tmp_path, proc__meminfo="MemTotal:       16000000 kB\n", **files)
    assert local.from_host(root=root).memory_bytes == 16_000_000 * 1024


def test_a_machine_that_tells_nothing_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(KvplanError, match="--gpu"):
        local.local_device(answers(), platform="linux", root=str(tmp_path))


def test_commands_that_are_missing_fail_or_hang_give_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.run_command(["kvplan-no-such-command"]) is None
    assert local.run_command([sys.executable, "-c", "raise SystemExit(3)"]) is None
    assert local.run_command([sys.executable, "-c", "print('hello')"]) == "hello\n"
    monkeypatch.setattr(local, "TIMEOUT_SECONDS", 0.2)
    assert local.run_command([sys.executable, "-c", "import time; time.sleep(30)"]) is None


def test_this_machine_has_some_device() -> None:
    assert local.local_device().memory_bytes > 1 << 20
