"""Reads --backend: which backend of llama.cpp runs, where it is not the device's own."""

from __future__ import annotations

from collections.abc import Iterable

from planner.catalogue.device import Device
from planner.errors import UsageError
from planner.options.readers import choice
from planner.options.tables import LLAMA, Flag
from planner.speed.backends import BACKENDS, check_backend

BACKEND = Flag(
    "--backend", "NAME", "llama.cpp and its kin: cuda, rocm, vulkan, metal, sycl or cpu (default: the device's own).",
    choice(*BACKENDS), "Engine",
)  # fmt: skip


def backend_of(name: str | None, devices: Iterable[Device], *, engine: str | None, measured: bool) -> str | None:
    """Checks the backend that --backend names: refused for engines that have none, for devices that do not run it, and
    beside points of one's own, which are of their backend already.
    """
    if name is None:
        return None
    if engine not in LLAMA:
        whose = "say --engine llamacpp" if engine is None else f"{engine} has none"
        raise UsageError(f"--backend is of llama.cpp and its kin ({', '.join(LLAMA)}): {whose}")
    cards = list(devices)
    if measured or any(card.own is not None for card in cards):
        raise UsageError("--backend: what was measured is of its backend already; leave --backend out")
    for card in cards:
        check_backend(name, card)
    return name
