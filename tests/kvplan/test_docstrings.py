"""What a public function does stands first in its docstring, as a verb; the share that does so only grows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Percent of the public functions of a room whose docstring begins with a verb; raise it with the docstrings.
SHARES = {
    "planner/units.py": 100,
    "planner/terminal": 100,
    "planner/catalogue": 100,
    "planner/dtypes": 100,
    "planner/workloads": 95,
    "planner/model": 95,
    "planner/readers": 95,
    "planner/memory": 95,
    "planner/extras": 100,
    "planner/speed": 95,
    "planner/serving": 85,
    "planner/machine": 95,
    "planner/accuracy": 95,
    "planner/sweeps": 95,
    "planner/shown.py": 100,
    "profiler": 95,
    "reports": 95,
    "planner/engines": 95,
    "planner/reconcile": 95,
    "planner/answers": 95,
    "planner/commands": 95,
    "planner/lookup": 95,
    "planner/launch": 95,
    "planner/measured": 95,
    "planner/options": 95,
    "planner/deployment": 90,
    "kvplan/api.py": 100,
    "kvplan/outside.py": 100,
    "kvplan/pasted.py": 100,
    "kvplan/plots.py": 100,
    "kvplan/web": 95,
}
VERBS = frozenset(
    "accepts adds answers applies asks builds calculates changes checks chooses collects compares compiles computes counts cuts decorates "
    "describes divides draws estimates extends fills finds fits flattens gives guesses inverts joins lists loads looks makes maps measures moves "
    "merges multiplies names numbers opens orders prints proposes puts quotes raises ranks reads refuses removes reorders replaces replays returns rounds runs says scales "
    "searches selects sets shortens shows simulates sorts spells splits starts stores sums takes tells tries translates turns words works wraps writes".split()
)


def public_functions(room: Path) -> Iterator[tuple[str, str]]:
    """(name, docstring) of each function that other files may call; click's commands say what a user reads."""
    for path in sorted(room.rglob("*.py")) if room.is_dir() else [room]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not node.decorator_list:
                yield f"{path.name}: {node.name}", ast.get_docstring(node) or ""


def begins_with_a_verb(docstring: str) -> bool:
    first = docstring.split(maxsplit=1)
    return bool(first) and first[0].lower().rstrip(",:;") in VERBS | {verb.removesuffix("s") for verb in VERBS}


@pytest.mark.parametrize("room", SHARES)
def test_a_docstring_begins_with_what_the_function_does(room: str) -> None:
    found = list(public_functions(ROOT / room))
    others = [name for name, docstring in found if not begins_with_a_verb(docstring)]
    assert found and 100 * (len(found) - len(others)) >= SHARES[room] * len(found), (
        f"{len(others)} of {len(found)} in {room} do not begin with a verb: {', '.join(others)}"
    )


def test_a_verb_is_told_from_a_noun() -> None:
    assert begins_with_a_verb("Returns the bytes of one sequence.") and begins_with_a_verb("Refuse what is not known.")
    assert not begins_with_a_verb("The bytes of one sequence.") and not begins_with_a_verb("")
