"""A speed that somebody measured: the load and the two times."""

from __future__ import annotations

from planner.catalogue.device import Observed  # kept beside a device, too

__all__ = ["Observed"]
