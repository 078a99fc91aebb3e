"""Write the flags of an engine's own argument parser, one a line, from its unpacked wheel or sources.

    python tests/cases/flags/read_parsers.py vllm FOLDER      the folder that holds vllm/
    python tests/cases/flags/read_parsers.py sglang FOLDER    the folder that holds sglang/
    python tests/cases/flags/read_parsers.py llamacpp FOLDER  the folder that holds common/arg.cpp
    python tests/cases/flags/read_parsers.py lmdeploy FOLDER  the folder that holds lmdeploy/
    python tests/cases/flags/read_parsers.py trtllm FILE...   commands/serve.py and common_llm_options.py

A line is the names of one flag, then a tab and what it takes: 0 nothing, 1 a value (2 two), ? perhaps one, + one or more.
The engine is read, never imported: none of its dependencies is needed.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

Flag = tuple[tuple[str, ...], str]


def main() -> None:
    """Print the flags of the engine that the command line names."""
    engine, *paths = sys.argv[1:]
    readers = {"vllm": vllm, "sglang": sglang, "llamacpp": llamacpp, "lmdeploy": lmdeploy, "trtllm": trtllm}
    for names, takes in sorted(set(readers[engine]([Path(path) for path in paths]))):
        print(" ".join(names), takes, sep="\t")


def _trees(folder: Path) -> Iterator[ast.Module]:
    for path in sorted(folder.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8", errors="replace"))


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _takes_of_type(text: str) -> str:
    """What vLLM makes of a field's type: a switch for bool, a list for list, tuple and set, else a value."""
    if re.search(r"\bbool\b", text):
        return "?" if re.search(r"\bstr\b", text) else "0"
    return "+" if re.match(r"(list|tuple|set|List|Tuple)\[", text) else "1"


def _takes_of_keywords(call: ast.Call) -> str:
    given = {word.arg: word.value for word in call.keywords if word.arg}
    action = _text(given.get("action")) or (ast.unparse(given["action"]) if "action" in given else "")
    if "nargs" in given:
        return {"*": "+", "+": "+", "?": "?"}.get(_text(given["nargs"]) or "", "1")
    quiet = ("store_true", "store_false", "BooleanOptionalAction", "StoreTrue", "DeprecatedStoreConst", "version")
    return "0" if any(word in action for word in quiet) else "1"


def _opposites(names: Iterable[str], call_or_type: str) -> tuple[str, ...]:
    """The names that vLLM's parser adds to a switch: --no-x, and --disable-x beside --enable-x."""
    found: list[str] = []
    for name in names:
        if name.startswith("--"):
            found.append(f"--no-{name[2:]}")
        for one, other in (("--enable-", "--disable-"), ("--disable-", "--enable-")):
            if name.startswith(one):
                found.append(other + name.removeprefix(one))
    return tuple(found)


def vllm(paths: list[Path]) -> Iterator[Flag]:
    """vLLM: engine/arg_utils.py names fields of the config classes; the front end's classes are flags field by field."""
    root = paths[0] / "vllm"
    types: dict[tuple[str, str], str] = {}
    front: list[str] = []
    for tree in _trees(root / "config"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                        types[node.name, line.target.id] = ast.unparse(line.annotation)
    yield from _vllm_engine(root / "engine" / "arg_utils.py", types)
    for path in (root / "entrypoints").rglob("cli_args.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith("FrontendArgs"):
                for line in node.body:
                    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                        front.append(line.target.id)
                        names = ("--" + line.target.id.replace("_", "-"),)
                        takes = _takes_of_type(ast.unparse(line.annotation))
                        if line.target.id.startswith("allowed_"):
                            takes = "1"
                        yield names + (_opposites(names, "") if takes == "0" else ()), takes
        yield from _calls(tree)


def _vllm_engine(path: Path, types: dict[tuple[str, str], str]) -> Iterator[Flag]:
    tree = ast.parse(path.read_text())
    classes: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and "get_kwargs(" in ast.unparse(node.value):
            named = re.search(r"get_kwargs\((\w+)\)", ast.unparse(node.value))
            if named:
                classes[ast.unparse(node.targets[0])] = named.group(1)
    for names, call in _flag_calls(tree):
        text = ast.unparse(call)
        field = re.search(r"(\w+)_kwargs\[['\"](\w+)['\"]\]", text)
        known = types.get((classes.get(f"{field.group(1)}_kwargs", ""), field.group(2))) if field else None
        takes = _takes_of_type(known) if known and "action=" not in text else _takes_of_keywords(call)
        switch = takes == "0" and (known or "BooleanOptional" in text)
        yield names + (_opposites(names, text) if switch else ()), takes


def _flag_calls(tree: ast.AST) -> Iterator[tuple[tuple[str, ...], ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            names = tuple(name for name in map(_text, node.args) if name and name.startswith("-"))
            if names:
                yield names, node


def _calls(tree: ast.AST) -> Iterator[Flag]:
    for names, call in _flag_calls(tree):
        yield names, _takes_of_keywords(call)


def sglang(paths: list[Path]) -> Iterator[Flag]:
    """SGLang: annotated fields of arg_groups/fields (or of ServerArgs), and the calls beside them."""
    root = paths[0] / "sglang" / "srt"
    server = ast.parse((root / "server_args.py").read_text())
    yield from _calls(server)
    trees = [server, *_trees(root / "arg_groups" / "fields")] if (root / "arg_groups" / "fields").is_dir() else [server]
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found = _sglang_field(node.target.id, node.annotation)
                if found:
                    yield found


def _sglang_field(name: str, annotation: ast.expr) -> Flag | None:
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("A", "Annotated")):
        return None
    kind, *rest = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    call = next((node for node in rest if isinstance(node, ast.Call)), None)
    given = {word.arg: word.value for word in call.keywords if word.arg} if call else {}
    if "no_cli" in given and ast.unparse(given["no_cli"]) == "True":
        return None
    first = _text(given.get("cli_name")) or "--" + name.replace("_", "-")
    aliases = ast.literal_eval(given["aliases"]) if "aliases" in given else []
    text = ast.unparse(kind)
    takes = "0" if text == "bool" else "+" if re.search(r"\b[Ll]ist\[", text) else "1"
    if "nargs" in given:
        takes = {"*": "+", "+": "+", "?": "?"}.get(_text(given["nargs"]) or "", "1")
    action = ast.unparse(given["action"]) if "action" in given else ""
    opposite: tuple[str, ...] = ()
    if "BooleanOptional" in action:
        takes, opposite = "0", ("--no-" + first[2:],)
    elif "store_true" in action or "StoreTrue" in action or "store_false" in action:
        takes = "0"
    elif "type_parser" in given and "nargs" not in given and takes == "+":
        takes = "1"
    return (first, *aliases, *opposite), takes


def llamacpp(paths: list[Path]) -> Iterator[Flag]:
    """llama.cpp: the common_arg entries of common/arg.cpp that llama-server and llama-cli read."""
    text = (paths[0] / "common" / "arg.cpp").read_text()
    for piece in re.split(r"add_opt\(\s*common_arg\(", text)[1:]:
        names = re.match(r"\s*\{([^{}]*)\}\s*(?:,\s*\{([^{}]*)\})?", piece)
        examples = re.search(r"set_examples\(\s*\{([^}]*)\}", piece)
        handler = re.search(r"\]\s*\(\s*common_params\s*&\s*\w*\s*((?:,[^),]*)*)\)", piece)
        if not names or not handler:
            continue
        if examples and not re.search(r"EXAMPLE_(SERVER|CLI|COMMON)\b", examples.group(1)):
            continue
        values = handler.group(1).count(",")
        takes = "0" if values == 0 or "bool" in handler.group(1) else str(values)
        yield tuple(re.findall(r"\"(-[^\"]+)\"", names.group(1) + (names.group(2) or ""))), takes


def lmdeploy(paths: list[Path]) -> Iterator[Flag]:
    """LMDeploy: the flags of `lmdeploy serve api_server` and of the helper that defines them."""
    root = paths[0] / "lmdeploy" / "cli"
    yield from _calls(ast.parse((root / "utils.py").read_text()))
    yield from _calls(ast.parse((root / "serve.py").read_text()))


def trtllm(paths: list[Path]) -> Iterator[Flag]:
    """trtllm-serve: click options."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("option"):
                names = [name for name in map(_text, node.args) if name and name.startswith("-")]
                parts = tuple(part for name in names for part in name.split("/"))
                if parts:
                    given = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
                    quiet = given.get("is_flag") == "True" or len(parts) > len(names)
                    yield parts, "0" if quiet else "1"


if __name__ == "__main__":
    main()
