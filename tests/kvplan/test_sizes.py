"""A function of over 40 lines of code and a file of over 500 say why, in a comment `# long: ...` (CONTRIBUTING.md).

The comment stands above the `def` (or its decorators), or above the imports of the file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kvplan", "planner", "profiler", "reports")
MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_A_FILE = 40, 500
MARK = "# long: "


def long_without_reason(path: Path) -> Iterator[str]:
    """The places of a file that are long and say no reason."""
    text = path.read_text(encoding="utf-8")
    lines, place = text.splitlines(), path.relative_to(ROOT).as_posix()
    if len(lines) > MOST_LINES_OF_A_FILE and not any(line.startswith(MARK) for line in lines[:40]):
        yield f"{place}: {len(lines)} lines"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
        count = (node.end_lineno or 0) - first.lineno + 1
        above = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 2
        if count > MOST_LINES_OF_A_FUNCTION and MARK not in lines[above]:
            yield f"{place}:{node.lineno} {node.name}: {count} lines"


def test_what_is_long_says_why() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert [place for path in files for place in long_without_reason(path)] == []
