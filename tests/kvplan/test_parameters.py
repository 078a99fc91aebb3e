"""No function takes more than six parameters, and none more than three by position, without a reason beside it.

The reason is a comment `# parameters: ...` on the lines of the `def` (or at the top of a file, for all of it). Most are of a few
kinds: "the quantities of its equation, each by name", "what it makes is made of, each by name", "what one run is made of", "the
sides of a shape", "the tensors of one operation", "a signature that others call", "as every engine", "as every cache".
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kvplan", "planner", "profiler", "reports")
MOST, MOST_BY_POSITION = 6, 3
MARK = "# parameters: "


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


@pytest.mark.parametrize("package", PACKAGES)
def test_every_function_takes_few_parameters_or_says_why(package: str) -> None:
    assert [place for path in sorted((ROOT / package).rglob("*.py")) for place in wide(path)] == []
