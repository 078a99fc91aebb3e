"""The progress line; `planner.progress` has it, for what runs without torch."""

from __future__ import annotations

from planner.progress import EVERY_SECONDS, SILENT_SECONDS, Progress

__all__ = ["EVERY_SECONDS", "SILENT_SECONDS", "Progress"]
