"""No function takes more than six parameters, and none more than three by position, without a reason beside it.

The reason is a comment `# parameters: ...` on the line of the `def` (or at the top of a file, for all of it).
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kvplan", "planner", "profiler", "reports")
MOST, MOST_BY_POSITION = 6, 3
MARK = "# parameters: "
# The border keeps the rule whole; the rooms below it have so many functions left that do not. A number may only fall.
STRICT = ("kvplan", "planner/options", "planner/answers", "planner/commands", "planner/sweeps", "planner/terminal")
LEFT = {'planner/catalogue': 1, 'planner/deployment': 1, 'planner/engines': 30, 'planner/extras': 2, 'planner/launch': 1, 'planner/machine': 5, 'planner/memory': 3, 'planner/model': 4, 'planner/readers': 4, 'planner/reconcile': 8, 'planner/serving': 8, 'planner/speed': 11, 'planner/workloads': 2, 'profiler': 19, 'reports': 1}  # fmt: skip


def wide(path: Path) -> Iterator[str]:
    """The functions of a file that take too many parameters and say no reason."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if any(line.startswith(MARK) for line in lines):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            named = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args) if arg.arg not in ("self", "cls")]
            many = len(named) + len(node.args.kwonlyargs) > MOST or len(named) > MOST_BY_POSITION
            head = lines[node.lineno - 1 : node.body[0].lineno - 1] or lines[node.lineno - 1 : node.lineno]
            if many and not any(MARK in line for line in head):
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno} {node.name}"


def room(place: str) -> str:
    """`planner/speed` of a file in it, and the package of all others."""
    parts = place.split(":")[0].split("/")
    return "/".join(parts[:2]) if parts[0] == "planner" and len(parts) > 2 else parts[0]


FOUND = [place for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) for place in wide(path)]
COUNTS = Counter(map(room, FOUND))


@pytest.mark.parametrize("name", STRICT)
def test_the_border_takes_few_parameters(name: str) -> None:
    assert [place for place in FOUND if room(place) == name] == []


@pytest.mark.parametrize("name", sorted({*LEFT, *COUNTS} - {*STRICT}))
def test_no_room_gets_more_functions_with_many_parameters(name: str) -> None:
    assert COUNTS[name] <= LEFT.get(name, 0), [place for place in FOUND if room(place) == name]
