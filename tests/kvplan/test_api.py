"""The commands as functions."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import kvplan
from planner.options import tables


def test_the_example_of_the_readme() -> None:
    answer = kvplan.estimate("llama-7b", seq=8192)
    assert answer.kv_bytes == 4_294_967_296
    assert answer.to_dict()["weight_bytes"] == 13_476_831_232


def test_every_public_name_is_there_and_documented() -> None:
    for name in kvplan.__all__:
        value = getattr(kvplan, name)
        assert inspect.getdoc(value), name
        assert name in dir(kvplan)
    with pytest.raises(AttributeError, match="no_such_name"):
        kvplan.no_such_name  # noqa: B018


def test_the_package_is_typed() -> None:
    assert (Path(kvplan.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, []),
        ({"batch": 3, "kv_dtype": "fp8"}, ["--batch", "3", "--kv-dtype", "fp8"]),
        ({"gpu": "h100-sxm", "tp": 2, "pp": 2}, ["--gpu", "h100-sxm", "--tp", "2", "--pp", "2"]),
        ({"memory": "24GiB", "dtype": "awq"}, ["--memory", "24GiB", "--dtype", "awq"]),
        ({"k_dtype": "q8_0", "v_dtype": "q4_0"}, ["--k-dtype", "q8_0", "--v-dtype", "q4_0"]),
        ({"fused_attention": False, "prefill_tokens": 512}, ["--attention", "eager", "--prefill-tokens", "512"]),
        ({"overhead": {"context": 2**30}}, ["--overhead", "context=1GiB"]),
    ],
    ids=str,
)
def test_the_function_and_the_command_answer_alike(
    run: Callable[..., Any], options: dict[str, Any], flags: list[str]
) -> None:
    ours = kvplan.estimate("llama-7b", seq=4096, **options).to_dict()
    assert json.loads(json.dumps(ours)) == run("estimate", "llama-7b", "--seq", "4096", *flags, "--json").json


def test_fit_answers_as_the_command_does(run: Callable[..., Any]) -> None:
    ours = kvplan.fit("llama-3.1-8b", gpu="rtx-4090", seq=8192).to_dict()
    assert json.loads(json.dumps(ours)) == run("fit", "llama-3.1-8b", "--gpu", "rtx-4090", "--seq", "8k", "--json").json


@pytest.mark.parametrize(
    ("name", "given", "options", "flags"),
    [
        ("vllm==0.11.2", {"seq": 4096}, {}, ["--seq", "4096"]),
        ("vllm", {"flags": {"max_model_len": 4096, "gpu_memory_utilization": 0.8}}, {"tp": 2},
         ["--max-model-len", "4096", "--gpu-memory-utilization", "0.8", "--tp", "2"]),
        ("llama.cpp", {"flags": {"ctx_size": 8192, "parallel": 4, "kv_unified": True}}, {"kv_dtype": "q8_0"},
         ["--ctx-size", "8192", "--parallel", "4", "--kv-unified", "--kv-dtype", "q8_0"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_engine_answers_as_the_command_does(
    run: Callable[..., Any], name: str, given: dict[str, Any], options: dict[str, Any], flags: list[str]
) -> None:
    ours = kvplan.engine("llama-3.1-8b", name, gpu="h100-sxm", **given, **options).to_dict()
    theirs = run("estimate", "llama-3.1-8b", "--gpu", "h100-sxm", "--engine", name, *flags, "--json").json["engine"]
    assert json.loads(json.dumps(ours)) == theirs


def test_plan_and_simulate_answer_as_the_commands_do(run: Callable[..., Any]) -> None:
    load: dict[str, Any] = {"prompt": "p50=800,p95=6000", "answer": 200}
    words = ("--prompt", "p50=800,p95=6000", "--answer", "200", "--json")
    ours = kvplan.plan("gpt2", users=50, gpu=["l40s", "l4"], tpot="60ms", longest="1k", **load).to_dict()
    theirs = run(
        "plan", "gpt2", "--users", "50", "--gpu", "l40s", "--gpu", "l4", "--tpot", "60ms", "--longest", "1k", *words
    ).json
    assert json.loads(json.dumps(ours)) == theirs
    ours = kvplan.simulate("gpt2", gpu="l4", rate="5/s", requests=40, **load).to_dict()
    theirs = run("simulate", "gpt2", "--gpu", "l4", "--rate", "5/s", "--requests", "40", *words).json
    assert json.loads(json.dumps(ours)) == theirs


def test_an_engine_refuses_flags_that_are_not_its_own() -> None:
    with pytest.raises(kvplan.KvplanError, match="mem_fraction_static= is not a flag of vllm"):
        kvplan.engine("gpt2", "vllm", gpu="l4", flags={"mem_fraction_static": 0.8})
    with pytest.raises(kvplan.KvplanError, match="'max-len' is not an engine's flag"):
        kvplan.engine("gpt2", "vllm", gpu="l4", flags={"max-len": 1})
    with pytest.raises(kvplan.KvplanError, match=r"seq=.?0.? is"):
        kvplan.engine("gpt2", "vllm", gpu="l4", seq=0)


def test_models_are_compared_at_one_length() -> None:
    answers = kvplan.compare_models("gpt2", "llama-7b", seq=1000, kv_dtype="fp8")
    assert [answer.spec.name for answer in answers] == ["gpt2", "llama-7b"]
    assert {answer.request.seq_tokens for answer in answers} == {1000}


def test_a_spec_is_shown_once_and_asked_often() -> None:
    spec = kvplan.show("gemma-3-27b")
    assert len(spec.layers) == 62
    assert kvplan.estimate(spec, seq=100).kv_bytes == kvplan.estimate("gemma-3-27b", seq=100).kv_bytes


def test_catalogues_are_lists_of_entries() -> None:
    assert {entry.name for entry in kvplan.models("gpt-oss")} == {"gpt-oss-20b", "gpt-oss-120b"}
    assert len(kvplan.gpus()) >= 70


def test_answers_cannot_be_changed() -> None:
    answer = kvplan.estimate("gpt2", seq=1)
    for thing, field in (
        (answer, "spec"),
        (answer.request, "seq_tokens"),
        (answer.spec, "name"),
        (answer.per_device, "kv_bytes"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field, None)


@pytest.mark.parametrize(
    "call",
    [
        lambda: kvplan.estimate("no-such-model", seq=1),
        lambda: kvplan.estimate("gpt2", seq=0),
        lambda: kvplan.estimate("gpt2", seq=1.5),
        lambda: kvplan.estimate("gpt2", seq=1, batch=True),
        lambda: kvplan.estimate("gpt2", seq=1, tp=0),
        lambda: kvplan.estimate("gpt2", seq=1, kv_dtype="int3"),
        lambda: kvplan.estimate("gpt2", seq=1, overhead={"context": -1}),
        lambda: kvplan.estimate("gpt2", seq=1, overhead={"context": 1.5}),
        lambda: kvplan.estimate("gpt2", seq=1, kv_dtype="fp8", k_dtype="fp8"),
        lambda: kvplan.estimate("t5-base", seq=1, source_tokens=1.5),
        lambda: kvplan.estimate("gpt2", seq=1, prefill_tokens=-1),
        lambda: kvplan.estimate("gpt2", seq=1, source_tokens=1),
        lambda: kvplan.estimate("gpt2", seq=1, assume="whatever"),
        lambda: kvplan.fit("gpt2"),
        lambda: kvplan.fit("gpt2", memory="24GiB", lengths="p50"),
        lambda: kvplan.show(""),
        lambda: kvplan.show("nul\0byte"),
    ],
)
def test_what_is_wrong_raises_a_kvplan_error_in_one_line(call: Callable[[], object]) -> None:
    with pytest.raises(kvplan.KvplanError) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_importing_costs_no_more_than_its_own_file() -> None:
    code = "import sys; before = set(sys.modules); import kvplan; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=1800, check=True)
    assert not [name for name in done.stdout.split() if name.startswith(("planner", "kvplan."))]


def test_lengths_and_models_are_taken_as_a_notebook_has_them() -> None:
    """A number or a text, a list of either, a config as a dict; no length asks for the model's own limit."""
    assert kvplan.estimate("llama-7b", seq="8k").kv_bytes == kvplan.estimate("llama-7b", seq=8192).kv_bytes
    assert kvplan.estimate("gpt2").request.seq_tokens == 1024
    config = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 32000,
              "num_attention_heads": 32, "intermediate_size": 11008, "torch_dtype": "float16"}  # fmt: skip
    assert kvplan.estimate(config, seq=8192).kv_bytes == 4_294_967_296
    several = kvplan.estimate(["gpt2", config], seq=["1k", 512])
    assert [answer.request.seq_tokens for answer in several] == [1024, 512, 1024, 512]
    assert several[0].kv_bytes == kvplan.estimate("gpt2", seq=1024).kv_bytes
    assert [row["seq_tokens"] for row in several.to_dict()] == [1024, 512, 1024, 512]


def test_an_answer_is_read_by_the_keys_of_its_json() -> None:
    answer = kvplan.fit("llama-3.1-8b", gpu="rtx-4090")
    assert answer["most_sequences"] == answer.most_sequences == dict(answer)["most_sequences"]
    assert answer.exit_code == 0 and kvplan.fit("llama-3.1-70b", gpu="l4").exit_code == 3
    with pytest.raises(KeyError):
        answer["no_such_key"]


ANSWERS: dict[str, Callable[[], Any]] = {
    "estimate": lambda: kvplan.estimate("gpt2", seq=512, gpu="l4"),
    "estimates": lambda: kvplan.estimate(["gpt2", "llama-7b"], gpu="l4"),
    "fit": lambda: kvplan.fit("gpt2", gpu="l4"),
    "engine": lambda: kvplan.engine("gpt2", "vllm", gpu="l4"),
    "engines": lambda: kvplan.engines("gpt2", gpu="l4"),
    "speed": lambda: kvplan.speed("gpt2", gpu="l4", batch=[1, 8]),
    "plan": lambda: kvplan.plan("gpt2", users=5, prompt=100, answer=20, gpu="l4"),
    "simulate": lambda: kvplan.simulate("gpt2", gpu="l4", prompt=100, answer=20, rate=5, requests=10),
    "sweep": lambda: kvplan.sweep("estimate", model="gpt2", seq=[512, 1024], gpu="l4"),
    "compare": lambda: kvplan.compare_models("gpt2", "llama-7b", seq="1k"),
}


@pytest.mark.parametrize("question", ANSWERS)
def test_every_answer_is_a_table_in_a_notebook_and_a_line_in_a_shell(question: str) -> None:
    answer = ANSWERS[question]()
    page, line = answer._repr_html_(), repr(answer)
    assert page.startswith("<table>") and page.endswith("</table>") and "<td>" in page
    assert "gpt2" in line or (question in ("engine", "plan", "sweep") and len(line) > 20)
    assert answer.exit_code in (0, 3)
    json.dumps(answer.to_dict(), allow_nan=False)


@pytest.mark.parametrize("question", ANSWERS)
def test_every_answer_is_a_data_frame_where_pandas_is_there(question: str) -> None:
    pytest.importorskip("pandas")
    answer = ANSWERS[question]()
    assert len(answer.to_frame()) == len(answer.rows()) > 0


def test_what_a_config_calls_itself_is_escaped_in_a_notebook() -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 64, "num_attention_heads": 1,
              "intermediate_size": 64, "torch_dtype": "float16", "_name_or_path": "<script>alert(1)</script>"}  # fmt: skip
    assert "<script>" not in kvplan.estimate(config, seq=8)._repr_html_()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kvplan.estimate("gpt2", seq=0), "seq=.?0"),
        (lambda: kvplan.estimate("gpt2", seq="eight"), "seq='eight' is not a number of tokens"),
        (lambda: kvplan.estimate("gpt2", seq=None, kv_dtype=8), "kv_dtype= ?8"),
        (lambda: kvplan.estimate(8, seq=1), "8 is not a model"),
        (lambda: kvplan.fit("gpt2"), "a device is wanted: gpu=NAME"),
        (lambda: kvplan.speed("gpt2", gpu="l4", batch="x"), "batch='x'"),
        (lambda: kvplan.plan("gpt2", users=1), "prompt="),
        (lambda: kvplan.speed("gpt2", gpu="l4", grid=-1), "grid='-1'"),
        (lambda: kvplan.speed("gpt2", gpu="l4", acceptance=0.5), "acceptance= .*draft_tokens"),
        (lambda: kvplan.speed("gpt2", gpu="l4", drafter="ngram", acceptance=2), "acceptance='?2"),
        (lambda: kvplan.simulate("gpt2", gpu="l4", rate="fast", prompt=1, answer=2), "rate='fast'"),
        (lambda: kvplan.engine("gpt2", "vllm", gpu="l4", flags={"max_num_seqs": 0}), "max_num_seqs=.?0"),
    ],
)
def test_errors_name_keywords_and_never_flags(call: Callable[[], object], words: str) -> None:
    with pytest.raises(kvplan.KvplanError, match=words) as caught:
        call()
    assert "--" not in str(caught.value) and "\n" not in str(caught.value)


NOT_KEYWORDS = {
    *(flag.parameter for flag in (*tables.MODEL, *tables.OUTPUT)),  # a model is a dict; an answer has to_dict
    *(flag.parameter for flag in (*tables.ENGINE_FLAGS, *tables.PLACEMENT_FLAGS)),  # flags={"max_model_len": 4096}
    "attention", "explain", "emit",  # fused_attention=False; texts
}  # fmt: skip


@pytest.mark.parametrize("name", ["estimate", "fit", "engines", "speed", "plan", "simulate", "check"])
def test_a_function_takes_every_flag_of_its_command(name: str) -> None:
    module = import_module(f"planner.options.{name}")
    asked = {flag.parameter for flag in getattr(module, "FLAGS", tables.ESTIMATE)}
    assert asked - NOT_KEYWORDS <= set(inspect.signature(getattr(kvplan, name)).parameters)


def test_the_keywords_of_drafts_energy_and_caches_answer_as_the_flags_do(run: Callable[..., Any]) -> None:
    ours = kvplan.speed(
        "llama-3.1-8b", gpu="h100-sxm", batch=8, drafter="eagle3", acceptance=0.6, grid=50, bring_back="host"
    )
    words = "--gpu h100-sxm --batch 8 --drafter eagle3 --acceptance 0.6 --grid 50g/kWh --bring-back host --json"
    assert json.loads(json.dumps(ours.to_dict())) == run("speed", "llama-3.1-8b", *words.split()).json
    assert ours["co2_grams_per_million_tokens"] == pytest.approx(ours["wh_per_million_tokens"] * 0.05)


def test_a_sweep_in_memory_has_the_rows_of_its_file(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"model": ["gpt2", "llama-7b"], "seq": "1k..4k", "gpu": "l4"}
    kept, written = kvplan.sweep("fit", **axes), kvplan.sweep("fit", path=str(tmp_path / "a.csv"), **axes)
    assert kept.rows() == written.rows() and len(kept.rows()) == 6
    with pytest.raises(kvplan.KvplanError, match="needs a device"):
        kvplan.sweep("fit", model="gpt2")
