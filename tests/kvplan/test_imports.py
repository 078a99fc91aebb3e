"""What may import what, and what an answer may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "numpy", "pandas", "matplotlib", "transformers", "rich", "yaml", "jsonschema")
QUICK = """
import sys
from kvplan.cli import main
try:
    main({arguments!r})
except SystemExit as ended:
    assert not ended.code, ended.code
sys.stderr.write(" ".join(sys.modules))
"""


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter holds after `code`, as it writes them on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1800, check=True, cwd=ROOT
    )
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "module", ["planner", "kvplan", "kvplan.cli", "kvplan.api", "planner.memory.estimate", "planner.lookup"]
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    modules = loaded(f"import sys, {module}\nsys.stderr.write(' '.join(sys.modules))")
    assert module in modules
    assert not modules.intersection(HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        ["estimate", "llama-7b", "--seq", "8192"],
        ["estimate", "deepseek-v3", "--seq", "1k,8k", "--gpu", "h100-sxm", "--gpus", "16", "--json"],
        ["fit", "llama-3.1-8b", "--gpu", "rtx-4090"],
        ["speed", "llama-3.1-8b", "--gpu", "l4", "--engine", "vllm"],
        ["compare-models", "gpt2", "mamba-2.8b"],
        ["models", "llama"],
        ["show", "gemma-3-27b"],
        ["gpus"],
        ["--help"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_planning_command_loads_anything_heavy(arguments: list[str]) -> None:
    assert not loaded(QUICK.format(arguments=arguments)).intersection(HEAVY)


def test_the_main_question_is_answered_without_click() -> None:
    modules = loaded(QUICK.format(arguments=["estimate", "llama-7b", "--seq", "8192"]))
    assert not modules & {"click", "difflib", "typing", "inspect"}


def test_the_main_question_compiles_the_methods_of_one_class_alone() -> None:
    modules = loaded(QUICK.format(arguments=["estimate", "llama-7b", "--seq", "8192"]))
    files = [path for path in FILES if name_of(path) in modules]
    standard = [name_of(path) for path in files if "from dataclasses import dataclass\n" in path.read_text("utf-8")]
    assert standard == ["planner.answers.estimate"]  # it inherits from another; all others take planner.frozen's


# -- who imports whom --------------------------------------------------------------------------------------

MAY_IMPORT = {
    "planner": {"planner", "model_configs"},
    "model_configs": {"model_configs"},
    "profiler": {"profiler", "planner"},
    "reports": {"reports", "planner", "profiler.results"},
    "kvplan": {"kvplan", "planner", "profiler", "reports", "model_configs"},
}
# The rooms of planner/, ground floor first. An import goes down, or stays in its room; rooms of one floor are apart.
FLOORS = (
    ("errors", "frozen"),
    ("files",),
    ("units", "terminal", "catalogue"),
    ("dtypes", "workloads", "shown"),
    ("model",),
    ("memory", "readers"),
    ("engines", "extras", "speed"),
    ("machine", "serving", "accuracy"),
    ("lookup", "launch", "measured", "reconcile", "deployment"),
    ("options",),
    ("answers",),
    ("sweeps",),
    ("commands",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS, start=1) for room in rooms}
# What may import by a name in a string: tables that list what is loaded only when it is asked for.
REGISTRIES = {
    "kvplan": "public names, loaded when they are used",
    "kvplan.group": "commands",
    "planner.engines.registry": "engines",
    "planner.readers.registry": "families of model types",
    "planner.accuracy.page": "the section of speed, which only the page loads",
}
# Answers come from `planner.answers`; what prints them is not a source of numbers.
DOORS = ("kvplan.api", "kvplan.plots", "reports", "planner.sweeps", "planner.answers")
OURS = tuple(MAY_IMPORT)
FILES = sorted(path for package in OURS for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, top_level: bool) -> set[str]:
    """Modules of ours that a file imports: all, or those that load with it (not inside functions or TYPE_CHECKING)."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(_from(node))
        elif top_level and _loads_later(node):
            continue
        else:
            pending.extend(ast.iter_child_nodes(node))
    return {name for name in found if name.split(".")[0] in OURS}


def _loads_later(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.dump(node.test)
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))


def _from(node: ast.ImportFrom) -> set[str]:
    """`from planner.commands import flags` imports a module, `from planner.units import gib` a name."""
    module = node.module or ""
    submodules = {f"{module}.{alias.name}" for alias in node.names if _is_module(f"{module}.{alias.name}")}
    return submodules | ({module} if len(submodules) < len(node.names) else set())


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_arrows_between_the_floors_go_one_way(path: Path) -> None:
    allowed = MAY_IMPORT[name_of(path).split(".")[0]]
    for name in imports(path, top_level=False):
        assert any(name == floor or name.startswith(f"{floor}.") for floor in allowed), name


def test_no_module_imports_itself_by_way_of_others() -> None:
    edges = {name_of(path): imports(path, top_level=True) for path in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module in done:
            return
        for other in edges.get(module, ()):
            visit(other, (*path, module))
        done.add(module)

    for module in edges:
        visit(module, ())


def room_of(module: str) -> str:
    """The room of planner/ that a module stands in, or "" outside it."""
    parts = module.split(".")
    return parts[1] if parts[0] == "planner" and len(parts) > 1 else ""


def arrows() -> dict[str, set[str]]:
    """Every import of every file, lazy and type-only ones too: module -> modules."""
    return {name_of(path): imports(path, top_level=False) for path in FILES}


def against_the_floors(edges: dict[str, set[str]]) -> list[str]:
    """The imports that climb, or that cross to another room of their own floor."""
    return [
        f"{module} -> {other}"
        for module, others in edges.items()
        for other in others
        if (mine := room_of(module)) and (theirs := room_of(other)) and mine != theirs and FLOOR[theirs] >= FLOOR[mine]
    ]


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that import each other by some way (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in edges.get(module, ()):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in edges:
        if module not in index:
            visit(module)
    return found


def test_every_room_of_the_planner_has_its_floor() -> None:
    rooms = {room_of(name_of(path)) for path in FILES} - {""}
    assert rooms <= set(FLOOR), rooms - set(FLOOR)


def test_no_import_climbs_a_floor_or_crosses_one() -> None:
    assert not against_the_floors(arrows())


def test_no_files_import_each_other_even_lazily_or_for_types() -> None:
    # A package's face names what its files hold, and a file of it may ask another by way of the face.
    edges = {module: {other for other in others if other != module} for module, others in arrows().items()}
    assert not circles(edges)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_registries_import_by_a_string(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "import_module(" in text or "__import__(" in text:
        assert name_of(path) in REGISTRIES


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_doors_and_reports_take_answers_and_never_commands(path: Path) -> None:
    module = name_of(path)
    if module.startswith(DOORS) and ".commands" not in module:
        assert not [other for other in imports(path, top_level=False) if other.startswith("planner.commands")]


@pytest.mark.skipif(not (ROOT / "profiler" / "results.py").is_file(), reason="no profiler")
def test_results_of_measurements_load_without_torch() -> None:
    modules = loaded("import sys, profiler.results\nsys.stderr.write(' '.join(sys.modules))")
    assert "torch" not in modules


def figures() -> dict[str, int]:
    """The figures of the structure of planner/ that CONTRIBUTING.md states."""
    edges = arrows()
    inside = {(room_of(a), room_of(b)) for a, others in edges.items() for b in others}
    between = {(a, b) for a, b in inside if a and b and a != b}
    return {
        "rooms": len({room_of(name_of(path)) for path in FILES} - {""}),
        "floors": len(FLOORS),
        "arrows between rooms": len(between),
        "imports against the floors": len(against_the_floors(edges)),
        "circles of files": len(circles(edges)),
    }


if __name__ == "__main__":
    for name, count in figures().items():
        print(f"{count:5} {name}")
