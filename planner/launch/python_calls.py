"""A pasted Python text that makes an engine: `LLM(model=..., max_model_len=...)` -> the command of the same settings."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

from planner.launch.words import MOST_WORDS, Command

_MAKERS = {
    "LLM": ("vllm", "serve"),
    "EngineArgs": ("vllm", "serve"),
    "AsyncEngineArgs": ("vllm", "serve"),
    "Engine": ("sglang", "serve"),
}
_MODEL = ("model", "model_path")


def python_commands(text: str) -> list[Command]:
    """Finds the engines that a Python text makes; nothing of it is run, and what is no constant stays out, named.

    >>> python_commands("llm = LLM(model='org/m', tensor_parallel_size=2, enforce_eager=True)")[0].words
    ('vllm', 'serve', 'org/m', '--tensor-parallel-size', '2', '--enforce-eager')
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    named = _constants(tree)
    return [_command(node, named) for node in _calls(tree)][:64]


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _MAKERS and (node.keywords or node.args):
            yield node


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _constants(tree: ast.AST) -> dict[str, Any]:
    """Names that are set to a constant: MODEL = "org/m"."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            value = _value(node.value, {})
            if value is not None:
                found[node.targets[0].id] = value
    return found


def _value(node: ast.expr, named: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return named.get(node.id)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None


def _command(node: ast.Call, named: dict[str, Any]) -> Command:
    words = list(_MAKERS[_name(node.func)])
    model = _value(node.args[0], named) if node.args else None
    given = {keyword.arg: _value(keyword.value, named) for keyword in node.keywords if keyword.arg}
    unread = [name for name, value in given.items() if value is None]
    model = next((given.pop(key) for key in _MODEL if key in given), model)
    if isinstance(model, str):
        words += [model] if words[0] == "vllm" else ["--model-path", model]
    for name, value in list(given.items())[: MOST_WORDS // 2]:
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is False:
            words += [f"--no-{flag[2:]}"] if name in ("enable_prefix_caching", "enable_chunked_prefill") else []
        elif isinstance(value, (dict, list, tuple)):
            words += [flag, json.dumps(value)]
        elif value is not None:
            words += [flag, str(value)]
    notes = (f"not read, for the text does not say what it is: {', '.join(unread[:8])}",) if unread else ()
    return Command(tuple(words), where="", notes=notes)
