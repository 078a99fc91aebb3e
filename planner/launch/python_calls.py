"""A pasted Python text that makes an engine: `LLM(model=..., max_model_len=...)` -> the command of the same settings."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Iterator
from typing import Any

from planner.launch.words import MOST_WORDS, Command

_MAKERS = {
    "LLM": ("vllm", "serve"),
    "EngineArgs": ("vllm", "serve"),
    "AsyncEngineArgs": ("vllm", "serve"),
    "Engine": ("sglang", "serve"),
    "pipeline": ("lmdeploy", "serve", "api_server"),
}
_MODEL = ("model", "model_path")
# Objects that go in as one argument: LMDeploy's `backend_config`, TensorRT-LLM's `kv_cache_config`. transformers has a
# `pipeline` without.
_CONFIGS = ("TurbomindEngineConfig", "PytorchEngineConfig", "KvCacheConfig")
_SUMS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv}
_LARGEST_PART = 1 << 48  # of a sum or a product
_DEEPEST_SUM = 16  # sums within sums: a server's setting has two or three


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
    makers = (
        {**_MAKERS, "LLM": ("trtllm-serve",)} if re.search(r"\btensorrt_llm\b|\bKvCacheConfig\(", text) else _MAKERS
    )
    return [_command(node, makers[_name(node.func)], named) for node in _calls(tree)][:64]


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _name(node.func) not in _MAKERS or not (node.keywords or node.args):
            continue
        if _name(node.func) != "pipeline" or _configuration(node) is not None:
            yield node


def _configuration(node: ast.Call) -> ast.Call | None:
    """Finds the engine's own settings that go in as one argument."""
    for one in [*node.args, *(keyword.value for keyword in node.keywords)]:
        if isinstance(one, ast.Call) and _name(one.func) in _CONFIGS:
            return one
    return None


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


def _value(node: ast.expr, named: dict[str, Any], deep: int = 0) -> Any:
    """Reads a constant, a name of one, or a sum of whole numbers (4096 * 2); None for anything else."""
    if deep > _DEEPEST_SUM:
        return None
    if isinstance(node, ast.Name):
        return named.get(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
        left, right = _value(node.left, named, deep + 1), _value(node.right, named, deep + 1)
        if type(left) is not int or type(right) is not int or max(abs(left), abs(right)) > _LARGEST_PART:
            return None
        return None if right == 0 and isinstance(node.op, ast.FloorDiv) else _SUMS[type(node.op)](left, right)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None


def _command(node: ast.Call, maker: tuple[str, ...], named: dict[str, Any]) -> Command:
    words = list(maker)
    model = _value(node.args[0], named) if node.args else None
    inner = _configuration(node)
    keywords = [*node.keywords, *(inner.keywords if inner is not None else ())]
    given = {one.arg: _value(one.value, named) for one in keywords if one.arg and one.value is not inner}
    unread = [name for name, value in given.items() if value is None]
    model = next((given.pop(key) for key in _MODEL if key in given), model)
    if isinstance(model, str):
        words += ["--model-path", model] if words[0] == "sglang" else [model]
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
    return Command(tuple(words), where="", notes=notes, offline=_name(node.func) == "LLM")
