"""The packages of the extra `report`, asked for in one line where they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from planner.errors import KvplanError

NEEDED = ("pandas", "matplotlib", "jinja2")


def need_report_extra(names: tuple[str, ...] = NEEDED) -> None:
    """Raises where a package of the extra is not installed; imports none of them."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise KvplanError(f"reports need {', '.join(missing)}, not installed: pip install 'llm-kvplan[report]'")
