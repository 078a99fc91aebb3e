"""Doctests of this package need the extra `report`; without it none are collected."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("pandas") and find_spec("matplotlib") and find_spec("jinja2") else ["*.py"]
