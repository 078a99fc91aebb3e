"""The shipped devices: figures that agree with each other, with the chip beneath, and with what people call them.

tests/cases/device_chips.csv has bus, data rate, shaders and clock of the chips, with the source of each row.
"""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from planner.catalogue.build import KINDS, load
from planner.catalogue.entries import find_device
from planner.errors import BadRequest, UnknownName
from planner.memory.request import device_capacity

GIB = 1 << 30
CHIPS = Path(__file__).parents[1] / "cases" / "device_chips.csv"

# Memory sizes in GB that Apple sold of each chip for Macs (apple.com technical specifications).
APPLE_SIZES = {
    "M1": (8, 16),
    "M1-Pro": (16, 32),
    "M1-Max": (32, 64),
    "M1-Ultra": (64, 128),
    "M2": (8, 16, 24),
    "M2-Pro": (16, 32),
    "M2-Max": (32, 64, 96),
    "M2-Ultra": (64, 128, 192),
    "M3": (8, 16, 24),
    "M3-Pro": (18, 36),
    "M3-Max": (36, 48, 64, 96, 128),
    "M3-Ultra": (96, 256, 512),
    "M4": (16, 24, 32),
    "M4-Pro": (24, 48, 64),
    "M4-Max": (36, 48, 64, 128),
    "M5": (16, 24, 32),
    "M5-Pro": (24, 48, 64),
    "M5-Max": (36, 48, 64, 128),
}


@lru_cache(maxsize=1)
def devices() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in load(KINDS[1])}


@lru_cache(maxsize=1)
def chips() -> tuple[dict[str, str], ...]:
    with CHIPS.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def off(value: float, expected: float) -> float:
    return abs(value / expected - 1)


def test_bandwidth_is_bus_width_times_data_rate() -> None:
    assert len(chips()) >= 250
    wrong = {}
    for chip in chips():
        said = devices()[chip["device"]]["bandwidth_bytes_per_s"]
        by_bus = int(chip["bus_bits"]) / 8 * float(chip["gbit_per_s_a_pin"]) * 1e9
        if off(said, by_bus) > 0.03:
            wrong[chip["device"]] = (said, by_bus)
    assert wrong == {}


def test_fp32_is_two_operations_a_shader_and_clock_or_four_where_two_issue_at_once() -> None:
    wrong = {}
    for chip in chips():
        rate = devices()[chip["device"]].get("dense_flops_per_s", {}).get("fp32")
        if rate and chip["shaders"]:
            once = 2e6 * int(chip["shaders"]) * int(chip["boost_mhz"])
            if min(off(rate, once), off(rate, 2 * once)) > 0.035:
                wrong[chip["device"]] = (rate, once)
    # Our figure counts another clock than the table: the vendor's highest, or the super firmware's.
    assert set(wrong) <= {"Arc-B580-12GB", "Jetson-Orin-Nano-4GB"}, wrong


@pytest.mark.parametrize(
    ("start", "arch", "times"),
    [
        ("RTX-2", "Turing", 4),
        ("Quadro-RTX", "Turing", 8),
        ("RTX-3", "Ampere", 2),
        ("RTX-A", "Ampere", 4),
        ("RTX-40", "Ada", None),  # cards and workstation cards, told apart by their names
        ("RTX-5", "Blackwell", 2),
        ("RTX-PRO", "Blackwell", 4),
    ],
)
def test_geforce_counts_fp32_sums_which_halve_its_tensor_rate(start: str, arch: str, times: int | None) -> None:
    seen = 0
    for name, entry in devices().items():
        rate = entry.get("dense_flops_per_s", {})
        if name.startswith(start) and entry["arch"] == arch and "fp16" in rate:
            expected = times or (4 if "-Ada-" in name else 2)
            assert off(rate["fp16"], expected * rate["fp32"]) < 0.07, name
            seen += 1
    assert seen >= 3


def test_memory_is_below_the_label_and_an_estimate_says_its_rule() -> None:
    for name, entry in devices().items():
        if entry["memory_bytes"] == "installed":
            continue
        assert entry["memory_bytes"] <= entry["advertised_gb"] * GIB * 1.01, name
        if entry["memory_source"].startswith("estimated"):
            assert entry["memory_bytes"] < entry["advertised_gb"] * GIB, name
            assert any(word in entry["memory_source"] for word in ("less", "of the", "as the", "half", "slices")), name


def test_a_processor_has_the_memory_that_is_put_in_and_a_fit_asks_how_much() -> None:
    installed = [name for name, entry in devices().items() if entry["memory_bytes"] == "installed"]
    assert len(installed) >= 70
    assert all("--memory" in devices()[name]["memory_source"] for name in installed)
    assert {devices()[name]["vendor"] for name in installed} == {"CPU", "AMD"}
    assert not any("advertised_gb" in devices()[name] for name in installed)
    epyc = find_device("AMD EPYC 9654")
    assert (epyc.memory_bytes, epyc.bandwidth_bytes_per_s) == (0, 460_800_000_000)  # 12 x 8 B x 4800 MT/s
    with pytest.raises(BadRequest, match=r"EPYC-9654 has the memory that was put in: say how much.*--memory"):
        device_capacity(epyc)
    assert device_capacity(replace(epyc, memory_bytes=64 * GIB)).kind == "host"


def test_a_processors_bandwidth_is_that_of_all_its_memory_channels() -> None:
    written = re.compile(r"(\d+) memory channels? of (\d+) bits at (\d+) MT/s")
    seen = 0
    for name, entry in devices().items():
        if found := written.match(entry.get("notes", "")):
            channels, bits, rate = map(int, found.groups())
            assert entry["bandwidth_bytes_per_s"] == channels * bits // 8 * rate * 10**6, name
            seen += 1
    assert seen >= 60


def test_every_device_has_vendor_year_bandwidth_and_sources() -> None:
    for name, entry in devices().items():
        assert entry["vendor"] and entry["source"] and entry["confidence"], name
        assert 2014 <= entry.get("year", 0) <= 2026 or "replaced by larger ones" in entry["notes"], name
        assert entry["bandwidth_bytes_per_s"] > 0, name


def test_a_mig_slice_is_no_larger_than_its_gpu_and_the_whole_is_the_sum() -> None:
    slices = [entry for name, entry in devices().items() if name.startswith("MIG-")]
    assert len(slices) >= 42
    for entry in slices:
        parent = devices()[entry["notes"].removeprefix("a slice of ").split(":")[0]]
        assert entry["memory_bytes"] <= parent["memory_bytes"], entry["name"]
        assert entry["bandwidth_bytes_per_s"] <= parent["bandwidth_bytes_per_s"], entry["name"]
        assert "interconnect" not in entry, entry["name"]
        share = entry["bandwidth_bytes_per_s"] / parent["bandwidth_bytes_per_s"]
        assert off(entry["memory_bytes"], share * parent["memory_bytes"]) < 0.15, entry["name"]
        for dtype, rate in entry["dense_flops_per_s"].items():
            assert rate <= parent["dense_flops_per_s"][dtype] * 1.001, entry["name"]


@pytest.mark.parametrize(("chip", "size"), [(chip, size) for chip, sizes in APPLE_SIZES.items() for size in sizes])
def test_every_apple_chip_is_there_in_every_memory_size(chip: str, size: int) -> None:
    for written in (f"Apple {chip} {size}GB", f"{chip.lower()}-{size}gb"):
        found = find_device(written)
        assert found.name.startswith(f"Apple-{chip}")
        assert found.advertised_gb == size
        assert found.memory_bytes < size * GIB


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX-4070Ti-Super-16GB"),
        ("2080 ti 22g", "RTX-2080-Ti-22GB"),
        ("RTX 4090 48G", "RTX-4090-48GB"),
        ("rtx 4060 laptop", "RTX-4060-Laptop-8GB"),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", "RTX-3080-Ti-Laptop-16GB"),
        ("Tesla P40", "Tesla-P40-24GB"),
        ("Tesla V100S-PCIE-32GB", "V100S-PCIe-32GB"),
        ("A800-80GB", "A800-SXM4-80GB"),
        ("NVIDIA H20-3e", "H20-141GB"),
        ("NVIDIA H200 NVL", "H200-NVL-141GB"),
        ("B300-288GB", "B300-HGX"),
        ("dgx-spark", "DGX-Spark-128GB"),
        ("NVIDIA Thor", "Jetson-Thor-T5000-128GB"),
        ("H100 MIG 3g.40gb", "MIG-H100-80GB-3g.40gb"),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "MIG-A100-40GB-3g.20gb"),
        ("RTX 4500 Ada", "RTX-4500-Ada-24GB"),
        ("RTX PRO 6000 Max-Q", "RTX-PRO-6000-Blackwell-Max-Q-96GB"),
        ("AMD Radeon RX 7800 XT", "RX-7800XT-16GB"),
        ("9070xt", "RX-9070XT-16GB"),
        ("AMD Radeon AI PRO R9700", "R9700-32GB"),
        ("mi250", "MI250-per-GCD"),
        ("Strix Halo 128GB", "Ryzen-AI-Max-395-128GB"),
        ("Ryzen AI Max+ 395 64GB", "Ryzen-AI-Max-395-64GB"),
        ("Intel Arc Pro B50", "Arc-Pro-B50-16GB"),
        ("Ascend 910C", "Ascend-910C-per-die"),
        ("ironwood", "TPU-v7x"),
        ("trn3", "Trainium3"),
    ],
)
def test_devices_are_found_as_people_and_drivers_write_them(written: str, name: str) -> None:
    assert find_device(written).name == name


@pytest.mark.parametrize(
    ("written", "choices"),
    [
        ("V100", ("V100-PCIe-16GB", "V100-PCIe-32GB", "V100-SXM2-16GB", "V100-SXM2-32GB")),
        ("5060 Ti", ("RTX-5060-Ti-8GB", "RTX-5060-Ti-16GB")),
        ("mi50", ("MI50-16GB", "MI50-32GB")),
        ("M5 Max", ("Apple-M5-Max-36GB", "Apple-M5-Max-128GB")),
        ("Strix Halo", ("Ryzen-AI-Max-395-32GB", "Ryzen-AI-Max-395-128GB")),
        ("Ascend 910B", ("Ascend-910B1-64GB", "Ascend-910B4-32GB")),
        ("Jetson Orin NX", ("Jetson-Orin-NX-8GB", "Jetson-Orin-NX-16GB")),
    ],
)
def test_a_name_of_several_devices_asks_which(written: str, choices: tuple[str, ...]) -> None:
    with pytest.raises(UnknownName, match="say which") as asked:
        find_device(written)
    assert all(choice in str(asked.value) for choice in choices)
