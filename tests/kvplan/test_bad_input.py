"""Wrong input of every kind: one line that says what came and what was wanted, and never a wrong number."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.catalogue.entries import find_model, models
from planner.errors import KvplanError
from planner.memory.equations import explanation
from planner.memory.estimate import estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.readers.huggingface import MAX_CONFIG_BYTES, load_json, read_config

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000,
    "intermediate_size": 11008, "max_position_embeddings": 4096,
}  # fmt: skip
MIXTRAL: dict[str, Any] = {
    **LLAMA,
    "model_type": "mixtral",
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
WRONG_NUMBERS = [
    float("nan"),
    float("inf"),
    -1,
    0,
    10**30,
    -(10**30),
    32.0,
    32.5,
    True,
    False,
    "32",
    "",
    [32],
    {"a": 1},
]
SIZES = [
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "intermediate_size",
    "head_dim",
]


def written(folder: Path, data: object, name: str = "config.json") -> Path:
    path = folder / name
    if isinstance(data, bytes):
        path.write_bytes(data)
    else:
        path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


# -- the file itself ---------------------------------------------------------------------------------------

FILES: dict[str, object] = {
    "empty": "", "blank": " \n", "list": "[]", "null": "null", "text": '"llama"', "number": "3", "NaN": "NaN",
    "Infinity": "Infinity", "true": "true", "empty object": "{}", "cut off": json.dumps(LLAMA)[:-10],
    "two objects": json.dumps(LLAMA) * 2, "binary": bytes(range(256)), "zeros": b"\0" * 1000,
    "a gzip": b"\x1f\x8b\x08\0" * 50,
    "UTF-16": json.dumps(LLAMA).encode("utf-16"), "UTF-16 without mark": json.dumps(LLAMA).encode("utf-16-le"),
    "Latin-1": '{"model_type": "llamé"}'.encode("latin-1"),
    "lists 10,000 deep": '{"model_type": "llama", "x": ' + "[" * 10_000 + "]" * 10_000 + "}",
    "objects 10,000 deep": '{"a": ' * 10_000 + "1" + "}" * 10_000,
    "lists 900 deep": json.dumps(LLAMA)[:-1] + ', "layer_types": ' + "[" * 900 + "]" * 900 + "}",
    "objects 40 deep": json.dumps(LLAMA)[:-1] + ', "quantization_config": ' + '{"a": ' * 40 + "1" + "}" * 41,
    "a number of 5,000 digits": '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}",
    "a number of 4,000 digits": json.dumps(LLAMA)[:-1] + ', "head_dim": ' + "9" * 4000 + "}",
    "a key twice": json.dumps(LLAMA)[:-1] + ', "num_hidden_layers": 2}',
    "a key twice inside": '{"model_type": "llama", "rope_scaling": {"a": 1, "a": 2}}',
    "a lone surrogate": '{"model_type": "\\ud800"}', "escapes": json.dumps({"model_type": "\x1b[31mred\n\r\x07"}),
    "markup": json.dumps({"model_type": "[red]x[/red]{0}%s"}), "a bell in a key": json.dumps({**LLAMA,
    "layer_types": ["\x07"] * 32}),
    "a model_type of 10 MB": json.dumps({"model_type": "a" * 10_000_000}),
}  # fmt: skip


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_broken_file_is_one_line(run: Callable[..., Any], tmp_path: Path, data: object) -> None:
    started = time.monotonic()
    assert "config.json" in run("estimate", "--config", written(tmp_path, data), "--seq", "1k").refused()
    assert time.monotonic() - started < 5


def test_a_byte_order_mark_is_no_harm(run: Callable[..., Any], tmp_path: Path) -> None:
    path = written(tmp_path, b"\xef\xbb\xbf" + json.dumps(LLAMA).encode())
    assert run("estimate", "--config", path, "--seq", "8k", "--json").json["kv_bytes"] == 4_294_967_296


def test_a_key_twice_with_one_value_is_no_harm(run: Callable[..., Any], tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(LLAMA)[:-1] + ', "num_hidden_layers": 32}')
    assert run("estimate", "--config", path, "--seq", "8k", "--json").json["kv_bytes"] == 4_294_967_296


def test_a_file_of_200_mb_is_not_read(run: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with open(path, "wb") as file:
        file.truncate(200 << 20)
    line = run("estimate", "--config", path).refused()
    assert "209,715,200 bytes" in line and f"{MAX_CONFIG_BYTES:,}" in line


@pytest.mark.parametrize("option", [[], ["--config"]], ids=["MODEL", "--config"])
def test_what_is_no_file_is_refused_and_never_waited_for(
    run: Callable[..., Any], tmp_path: Path, option: list[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "config.json").mkdir(parents=True)
    (tmp_path / "looped").mkdir()
    (tmp_path / "looped" / "config.json").symlink_to("config.json")
    places = ["pipe", "loop", "empty", "folder", "looped", "missing.json", "a" * 300, "a/" * 3000, "\x1b[31mred.json"]
    for place in [*(f"{tmp_path}/{place}" for place in places), "/dev/zero", "/proc/self/mem", "~nobody/x", "/"]:
        run("estimate", *option, place).refused()


def test_a_file_that_may_not_be_read_is_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    path = written(tmp_path, LLAMA)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "Permission denied" in run("estimate", "--config", path).refused()


# -- what it says ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", WRONG_NUMBERS, ids=lambda value: repr(value)[:20])
def test_a_wrong_size_is_refused_by_its_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(KvplanError, match=f"key '{key}'"):
        read_config(load_json(str(written(tmp_path, {**LLAMA, key: value}))))


WRONG_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "no model_type": ({key: value for key, value in LLAMA.items() if key != "model_type"}, "no model_type"),
    "model_type of a number": ({**LLAMA, "model_type": 5}, "model_type is a number"),
    "model_type of a list": ({**LLAMA, "model_type": ["llama"]}, "model_type is a list"),
    "unknown model_type": ({**LLAMA, "model_type": "llamma"}, "close: "),
    "more KV heads than heads": ({**LLAMA, "num_key_value_heads": 64}, "64 KV heads for 32"),
    "heads that KV heads do not divide": ({**LLAMA, "num_key_value_heads": 5}, "cannot share 5 KV heads"),
    "a width that heads do not divide": ({**LLAMA, "num_attention_heads": 31}, "not a multiple of 31"),
    "more active experts than experts": ({**MIXTRAL, "num_experts_per_tok": 9}, "num_experts_per_tok"),
    "10^9 layers": ({**LLAMA, "num_hidden_layers": 10**9}, "num_hidden_layers"),
    "10^9 MTP layers": (
        {**find_model("deepseek-v3").config, "num_nextn_predict_layers": 10**9}, "num_nextn_predict_layers",
    ),
    "head_dim of 10^12": ({**LLAMA, "head_dim": 10**12}, "head_dim"),
    "layer_types of another length": ({**LLAMA, "layer_types": ["full_attention"] * 31}, "31 entries for 32"),
    "layer_types of an unknown kind": ({**LLAMA, "layer_types": ["quantum"] * 32}, "quantum"),
    "layer_types of numbers": ({**LLAMA, "layer_types": [1] * 32}, "layer_types"),
    "layer_types as text": ({**LLAMA, "layer_types": "full_attention"}, "a list is wanted"),
    "layer_types of 10^5": ({**LLAMA, "layer_types": ["full_attention"] * 10**5}, "100,000 entries"),
    "an unread latent": ({**LLAMA, "kv_lora_rank": 512}, "'kv_lora_rank' = 512 would change the cache"),
    "an unread sharing of layers": ({**LLAMA, "cla_share_factor": 2}, "cla_share_factor"),
    "a window that no layer is given": ({**LLAMA, "sliding_window": 128}, "sliding_window"),
    "a chunk that no layer is given": ({**LLAMA, "attention_chunk_size": 128}, "attention_chunk_size"),
    "an unread key of NaN": ({**LLAMA, "kv_lora_rank": float("nan")}, "kv_lora_rank"),
    "an unread key of escapes": ({**LLAMA, "kv_lora_rank": "\x1b[31m"}, "kv_lora_rank"),
    "a dtype that is none": ({**LLAMA, "torch_dtype": "float64"}, "torch_dtype"),
    "a dtype of a number": ({**LLAMA, "dtype": 16}, "'dtype'"),
    "a quantization_config of text": ({**LLAMA, "quantization_config": "awq"}, "quantization_config"),
    "a flag of text": ({**LLAMA, "tie_word_embeddings": "yes"}, "true or false"),
    "a text model of a list": ({"model_type": "gemma3", "text_config": [1]}, "text_config"),
    "an unknown text model": ({"model_type": "llava", "text_config": {"model_type": "x"}}, "'x'"),
    "windows of zero": ({**LLAMA, "model_type": "mistral", "sliding_window": 0}, "sliding_window"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "words"), WRONG_CONFIGS.values(), ids=WRONG_CONFIGS)
def test_a_config_that_means_nothing_is_refused_with_the_reason(
    run: Callable[..., Any], tmp_path: Path, config: dict[str, Any], words: str
) -> None:
    assert words in run("estimate", "--config", written(tmp_path, config), "--seq", "1k").refused()


def test_what_is_not_read_can_be_taken_as_an_upper_bound_and_is_called_one(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    path = written(tmp_path, {**LLAMA, "cla_share_factor": 2})
    found = run("estimate", "--config", path, "--seq", "1k", "--assume", "full-attention", "--json").json
    assert found["exactness"]["kv_bytes"] == "upper bound"
    assert any("upper bound" in line for line in found["warnings"])


# -- what reaches the terminal ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["estimate", "show"])
@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=["page", "json", "csv"])
def test_no_name_of_a_file_or_a_config_reaches_the_terminal_raw(
    run: Callable[..., Any], tmp_path: Path, command: str, form: list[str]
) -> None:
    folder = tmp_path / "\x1b[31mred\x9b1m\u202e"
    folder.mkdir()
    config = {
        **LLAMA,
        "model_type": "\x1b[32mgreen\u202e\x7f",
        "architectures": ["\x1b[33m"],
        "quantization_config": {"quant_method": "\x1b[34m\x9b"},
    }
    written(folder, config)
    ended = run(command, "--config", folder, "--assume", "full-attention", *form)
    assert ended.code == 0
    raw = {ch for ch in ended.out if not ch.isprintable()}
    assert raw == {"\n"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "\t",
        "\x1b[31mred\n",
        "a" * 100_000,
        "../..",
        "[red]x[/red]",
        "%s{}",
        "\u202e",
        "\ud83d",
        "a/b/c",
        "é" * 50,
    ],
)
@pytest.mark.parametrize(
    "command",
    [["estimate"], ["show"], ["fit", "--memory", "1GiB"], ["compare-models"], ["estimate", "gpt2", "--gpu"]],
    ids=" ".join,
)
def test_an_unknown_name_is_one_line(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run(*command, name).refused()


# -- options -----------------------------------------------------------------------------------------------

COUNTS = ["0", "-1", "nan", "", "1e30", "x", "1.5", "10000000000", "\x1b[31m", "³", "٣", "1,8", "1_", " "]
OPTIONS: dict[str, list[str]] = {
    "--seq": ["0", "-1", "nan", "", "1e30", "1k..", "8k..1k", "..", ",", "1,,2", "1,000", "8,192", ",".join(map(str,
    range(1, 20_000))), "9" * 9999],
    "--batch": [value for value in COUNTS if value != "1,8"],
    **{option: COUNTS for option in ("--tp", "--pp", "--ep", "--dp", "--dcp", "--gpus")},
    **{option: COUNTS for option in ("--layers", "--kv-heads", "--head-dim", "--vocab")},
    "--memory": ["0", "-1GiB", "", "nan", "24", "24gigs", "1e9", "2000000TiB", "9" * 9999, "\x1b[31m", ".5GiB"],
    "--overhead": ["", "=", "a", "a=", "=1GiB", "a=-1", "a=nan", "a=5", "a b=1GiB", "\x1b[31m=1GiB", "context=1,5GiB"],
    "--activation": ["", "-1", "nan", "5", "x"],
    "--prefill-tokens": ["", "0", "-1", "nan", "1e30", "1,000"],
    "--source-tokens": ["", "-1", "nan", "x", "0", "5"],
    **{option: ["", "int33", "fp64", "nan", "\x1b[31m", "x" * 9999] for option in ("--dtype", "--kv-dtype",
    "--k-dtype", "--v-dtype")},
    "--gpu": ["", "no-such-gpu", "\x1b[31m", "x" * 9999],
    "--attention": ["", "flash", "\x1b[31m"],
    "--assume": ["", "nothing", "\x1b[31m"],
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_a_wrong_value_is_refused_by_its_option(run: Callable[..., Any], option: str) -> None:
    by_hand = option in ("--layers", "--kv-heads", "--head-dim", "--vocab")
    for value in OPTIONS[option]:
        words = ["estimate", *([] if by_hand else ["gpt2"]), *([] if option == "--seq" else ["--seq", "1k"])]
        line = run(*words, f"{option}={value}").refused()
        assert option.strip("-").split("-")[-1] in line or "dtype" in line or "device" in line, (value, line)


@pytest.mark.parametrize("twice", [["--overhead", "a=1GiB", "--overhead", "a=2GiB"]])
def test_what_is_said_twice_is_refused(run: Callable[..., Any], twice: list[str]) -> None:
    run("estimate", "gpt2", "--seq", "1k", *twice).refused()


@pytest.mark.parametrize("kind", ["file", "device", "loop"])
def test_a_user_catalogue_that_is_no_folder_is_refused(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", "/dev/zero" if kind == "device" else str(tmp_path / kind))
    assert "KVPLAN_CONFIG_DIR" in run("estimate", "gpt2").refused()


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "a: 1",
        "- 5",
        "\t- a",
        "- &a 1\n- *a",
        "[" * 5000,
        "- !!python/object/apply:os.system [ls]",
        "- name: x\n",
        "\x00",
    ],
)
def test_a_broken_user_catalogue_is_one_line(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.yaml").write_text(text)
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))
    assert "mine.yaml" in run("estimate", "gpt2").refused()


# -- mutated configs ---------------------------------------------------------------------------------------

BY_TYPE: dict[str, Mapping[str, Any]] = {str(entry.config["model_type"]): entry.config for entry in models()}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 300) | st.sampled_from([10**9, 10**12, 10**30, -(10**30), 0.5, 1.0])
    | st.floats() | st.text(max_size=6) | st.sampled_from(["full_attention", "sliding_attention", "bfloat16",
    "\x1b[31m", "llama"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


def paths(config: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in config.items():
        yield (*prefix, key)
        if isinstance(value, Mapping):
            yield from paths(value, (*prefix, key))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A published config with one to three keys, at any depth, dropped, scaled or replaced by any JSON."""
    config: dict[str, Any] = copy.deepcopy(dict(BY_TYPE[draw(st.sampled_from(sorted(BY_TYPE)))]))
    for _ in range(draw(st.integers(1, 3))):
        *outer, key = draw(st.sampled_from(sorted(paths(config))))
        place = config
        for name in outer:
            place = place[name]
        old = place[key]
        change = draw(st.sampled_from(["drop", "replace", "scale", "item"]))
        if change == "drop":
            del place[key]
        elif change == "scale" and isinstance(old, int) and not isinstance(old, bool):
            place[key] = draw(
                st.sampled_from([old + 1, old - 1, old * 2, old // 2, -old, old * 10**6, float(old), str(old)])
            )
        elif change == "item" and isinstance(old, list) and old:
            place[key] = [*old[:-1], draw(JSON)]
        else:
            place[key] = draw(JSON)
    return config


REQUESTS = [
    Request(1), Request(4097), Request(10**6, 3), Request(100, k_dtype="fp8", v_dtype="q8_0"),
    Request(1000, sharding=Sharding(tp=8)), Request(1000, 5, sharding=Sharding(tp=2, pp=2, dp=2)),
]  # fmt: skip


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=mutated(), request_=st.sampled_from(REQUESTS), assume=st.booleans())
def test_a_mutated_config_is_refused_or_answered_in_whole_numbers(
    config: dict[str, Any], request_: Request, assume: bool
) -> None:
    try:
        answer = estimate(read_config(config, assume_full=assume), request_, Capacity("x", 24 << 30))
        found = answer.to_dict()
        texts = [*answer.warnings, *answer.assumptions, *explanation(answer), answer.spec.name, answer.spec.model_type]
    except KvplanError as error:
        assert str(error).isprintable() and len(str(error)) < 500
        return
    assert all(text.isprintable() for text in texts)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    device = found["per_device"]
    sizes = [
        found[key]
        for key in ("kv_bytes", "state_bytes", "kv_bytes_per_token", "parameters", "active_parameters", "weight_bytes")
    ]
    sizes += [
        device[key]
        for key in ("kv_bytes", "state_bytes", "weight_bytes", "activation_bytes", "overhead_bytes", "total_bytes")
    ]
    sizes += [*found["parameters_by_part"].values(), device["total_bytes_low"], device["total_bytes_high"]]
    assert all(type(size) is int and size >= 0 for size in sizes)
    assert found["active_parameters"] <= found["parameters"]
    assert device["kv_bytes"] <= found["kv_bytes"] and device["state_bytes"] <= found["state_bytes"]
    assert device["total_bytes_low"] <= device["total_bytes"] <= device["total_bytes_high"]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=6), st.sampled_from(sorted(BY_TYPE)), st.booleans())
def test_a_config_of_random_keys_is_refused(values: dict[str, Any], model_type: str, assume: bool) -> None:
    with pytest.raises(KvplanError):
        read_config({**values, "model_type": model_type}, assume_full=assume)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_never_a_config(data: bytes) -> None:
    from planner.readers.huggingface import parse_json

    with pytest.raises(KvplanError):
        read_config(parse_json(data, "x"))


@pytest.mark.parametrize("option", ["--seq", "--max-model-len"])
def test_engines_names_the_option_that_is_wrong(option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvplan", "engines", "gpt2", "--gpu", "l4", option, "-1"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"kvplan: {option} '-1'")


@pytest.mark.parametrize("flag", ["--draft-layers", "--num-speculative-tokens"])
def test_a_count_that_nothing_has_is_refused_with_a_reason(run: Callable[..., Any], flag: str) -> None:
    words = ["fit", "llama-3.1-8b", "--gpu", "l4", "--engine", "vllm", "--num-speculative-tokens", "4"]
    line = run(*words, flag, "1000000000").refused()
    assert flag in line and "no " in line
