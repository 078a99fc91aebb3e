"""Every flag that an answer advises is one that the engine has: held against the tables of its own parser."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.answers import advice, changes
from planner.engines.registry import ENGINES
from planner.launch.read import TABLES
from planner.options.running import Load, Running, speed_of
from planner.reconcile.refusals import REFUSALS
from planner.workloads.targets import USUAL_TARGETS

PLANNER = Path(__file__).parents[3] / "planner"
FLAG = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")
# file -> whose flags its mends are; stopped.py says several engines' in one file, by function or key
FILES = {
    "engines/vllm.py": "vllm", "engines/vllm_setting.py": "vllm", "engines/vllm_v0.py": "vllm", "engines/vllm_v1.py": "vllm",
    "engines/sglang.py": "sglang", "engines/llamacpp.py": "llamacpp", "engines/llamacpp_placement.py": "llamacpp",
    "reconcile/vllm.py": "vllm", "reconcile/sglang.py": "sglang", "reconcile/llamacpp.py": "llamacpp",
}  # fmt: skip
KVPLANS_OWN = {"--host-memory", "--gpus", "--kv-dtype", "--dtype", "--tp", "--pp"}


def mends_in(tree: ast.AST) -> Iterator[str]:
    """The texts of a call's flags: the second argument of Refusal and gain, the first of Room."""
    places = {"Refusal": 1, "gain": 1, "Room": 0}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in places:
            place = places[node.func.id]
            given = node.args[place : place + 1] + [word.value for word in node.keywords if word.arg == "mends"]
            for part in given:
                yield from (
                    one.value for one in ast.walk(part) if isinstance(one, ast.Constant) and isinstance(one.value, str)
                )


def unknown(texts: list[str], engine: str) -> list[str]:
    flags = [flag for text in texts for flag in FLAG.findall(text)]
    return [flag for flag in flags if flag not in KVPLANS_OWN and TABLES[engine].find(flag)[0] is None]


@pytest.mark.parametrize("row", REFUSALS, ids=[f"{row.engine}-{n}" for n, row in enumerate(REFUSALS)])
def test_what_mends_a_refusal_is_a_flag_of_that_engine(row: object) -> None:
    assert unknown(list(row.mends), row.engine) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FILES)
def test_what_an_answer_advises_is_a_flag_of_that_engine(name: str) -> None:
    assert unknown(list(mends_in(ast.parse((PLANNER / name).read_text()))), FILES[name]) == []


def test_the_mends_are_found() -> None:
    found = [text for name in FILES for text in mends_in(ast.parse((PLANNER / name).read_text()))]
    assert sum(bool(FLAG.search(text)) for text in found) > 15
    assert unknown(["--max-model-len 4"], "sglang") == ["--max-model-len"]


def test_why_a_server_stopped_names_flags_of_that_engine() -> None:
    """`stopped.py`: mends stand under an engine's name, in functions of one engine, or both are vLLM's."""
    source = (PLANNER / "reconcile" / "stopped.py").read_text()
    tree = ast.parse(source)
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        engine = "llamacpp" if node.name == "_not_loaded" else "vllm"
        texts = [
            one.value
            for one in ast.walk(node)
            if isinstance(one, ast.Constant) and isinstance(one.value, str) and one.value.count("--") == 1
        ]
        others = [*TABLES["sglang"].by_name]
        assert [flag for flag in unknown(texts, engine) if flag not in others] == [], node.name


@pytest.mark.parametrize(
    ("function", "engine"), [("tensorrt", "tensorrt-llm"), ("lmdeploy", "lmdeploy"), ("_pytorch", "lmdeploy")]
)
def test_what_a_log_of_the_others_advises_is_a_flag_of_that_engine(function: str, engine: str) -> None:
    tree = ast.parse((PLANNER / "reconcile" / "fractions_of_free.py").read_text())
    (found,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
    texts = list(mends_in(found))
    assert texts and unknown(texts, engine) == []


@pytest.mark.parametrize("engine", sorted({**changes._FLAGS, **changes._LLAMA_FLAGS}))
def test_what_check_would_change_is_a_flag_of_that_engine(engine: str) -> None:
    texts = list((changes._FLAGS.get(engine) or changes._LLAMA_FLAGS[engine]).values())
    assert unknown(texts, {"exllamav2": "exllamav3"}.get(engine, engine)) == []


def advised(engine: str, tp: int | None = None) -> list[str]:
    """What the advice for a running server would have written, for each flag that the engine could be given."""
    running = Running(model="llama-3.1-8b", gpu="h100-sxm", engine=engine, tp=tp)
    asked = speed_of(running, Load(8, 1000, 200))
    return [words for words, _ in advice._changes(running, asked, advice._estimate(asked))]


@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"transformers"}))
def test_what_a_running_server_is_advised_is_a_flag_of_that_engine(engine: str) -> None:
    own = {"ik_llamacpp": "llamacpp", "exllamav2": "exllamav3"}.get(engine, re.sub("-(v0|v1|pytorch)$", "", engine))
    texts = advised(engine)
    assert texts and unknown(texts, own) == []


def test_an_engine_without_flags_for_it_is_advised_nothing_of_the_kind() -> None:
    assert not any(FLAG.search(words) for words in advised("transformers"))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "llamacpp", "tensorrt-llm", "lmdeploy", "ollama"])
def test_more_requests_at_once_are_asked_for_by_the_engines_own_flag(engine: str) -> None:
    names = {"vllm": "--max-num-seqs 16", "sglang": "--max-running-requests 16", "llamacpp": "-np 16 with twice the -c",
             "tensorrt-llm": "--max_batch_size 16", "lmdeploy": "--max-batch-size 16", "ollama": "OLLAMA_NUM_PARALLEL=16"}  # fmt: skip
    running = Running(model="llama-3.1-8b", gpu="h100-sxm", engine=engine, slots=8)
    found = advice.advice(running, [], load=Load(8, 1000, 200), targets=USUAL_TARGETS)
    assert names[engine] in found.tried
    assert (found.now.most_users, found.now.by) == (8, "slots")


def test_an_engine_without_a_flag_for_it_is_not_told_to_take_more_at_once() -> None:
    running = Running(model="llama-3.1-8b", gpu="h100-sxm", engine="mlx", slots=8)
    assert not any(
        "16" in words for words in advice.advice(running, [], load=Load(8, 1000, 200), targets=USUAL_TARGETS).tried
    )
