"""Looking models and devices up by name, and the user's own entries beside the shipped ones."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from planner.catalogue import entries as catalogue
from planner.catalogue.entries import find_device, find_model
from planner.errors import BadConfig, KvplanError, UnknownName

MODEL = """
- name: {name}
  aliases: [{alias}]
  config:
    model_type: llama
    num_hidden_layers: 4
    rms_norm_eps: 1e-5
  source: our own
  checked: 2026-11-21
"""
DEVICE = "- {name: lab-card, memory_bytes: 8589934592, source: [our lab], checked: 2026-11-21}\n"


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder: empty, and away from the real one."""
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "gpus").mkdir()
    return tmp_path


def add(own: Path, text: str, name: str = "models/mine.yaml") -> Path:
    path = own / name
    path.write_text(text, encoding="utf-8")
    return path


# -- shipped names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "gpt2",
        "gpt2-medium",
        "gpt2-large",
        "gpt2-xl",
        "gpt3-small",
        "gpt3-medium",
        "gpt3-large",
        "gpt3-xl",
        "gpt3-2.7b",
        "gpt3-6.7b",
        "gpt3-13b",
        "gpt3-175b",
        "llama-7b",
        "llama-13b",
        "llama-65b",
        "llama-2-7b",
        "llama-2-13b",
        "llama-2-70b",
        "llama-3-8b",
        "llama-3.1-8b",
        "llama-3.1-405b",
        "mixtral-8x7b",
        "deepseek-v3",
        "deepseek-r1",
        "gemma-3-27b",
        "qwen2.5-72b",
        "falcon-7b",
        "t5-large",
        "whisper-large-v3",
        "gpt-oss-20b",
    ],
)
def test_the_usual_names_are_there(name: str) -> None:
    assert find_model(name).name == name


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("gpt-3", "gpt3-175b"),
        ("gpt-3-175b", "gpt3-175b"),
        ("gpt2-small", "gpt2"),
        ("llama-1-7b", "llama-7b"),
        ("llama-30b", "llama-33b"),
        ("llama2-7b", "llama-2-7b"),
        ("meta-llama/Llama-2-7b-hf", "llama-2-7b"),
        ("Llama-2-7b-hf", "llama-2-7b"),
        ("LLAMA_2 7B", "llama-2-7b"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("llama3.1-8b", "llama-3.1-8b"),
        ("mistral-7b", "mistral-7b-v0.1"),
        ("qwen3-next-80b", "qwen3-next-80b-a3b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
    ],
)
def test_aliases_and_ids_find_their_model(asked: str, name: str) -> None:
    assert find_model(asked).name == name


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("h100", "H100-SXM5-80GB"),
        ("a100-80gb", "A100-SXM4-80GB"),
        ("a100-40gb", "A100-SXM4-40GB"),
        ("RTX 4090", "RTX-4090-24GB"),
        ("rtx-4090", "RTX-4090-24GB"),
        ("4090", "RTX-4090-24GB"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090-24GB"),
        ("Tesla T4", "T4"),
        ("l4", "L4"),
        ("mi300x", "MI300X-192GB"),
        ("m2_ultra", "Apple-M2-Ultra"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"),
    ],
)
def test_devices_are_found_whatever_the_spelling(asked: str, name: str) -> None:
    assert find_device(asked).name == name


def test_every_listed_model_and_device_is_found_by_each_of_its_names() -> None:
    for model in catalogue.models():
        for name in filter(None, (model.name, model.hf_id, *model.aliases)):
            assert find_model(name).name == model.name
    for device in catalogue.devices():
        for name in (device.name, *device.aliases):
            assert find_device(name) == device


def test_a_word_inside_a_config_is_no_name() -> None:
    with pytest.raises(UnknownName):
        find_model("bfloat16")
    with pytest.raises(UnknownName):
        find_model("keys")


def test_dashes_in_model_names_matter() -> None:
    """qwen-27b must not silently be qwen2-7b."""
    with pytest.raises(UnknownName):
        find_model("qwen-27b")


def test_entries_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        find_model("gpt2").name = "other"  # type: ignore[misc]


def test_a_query_keeps_what_has_all_its_words() -> None:
    found = [model.name for model in catalogue.models("llama 3.1 70b")]
    assert {"llama-3.1-70b", "llama-3.1-70b-fp8"} <= set(found) and "llama-3.1-8b" not in found
    assert catalogue.models("no such words") == []
    assert len(catalogue.models()) >= 240
    assert len(catalogue.devices()) >= 70


# -- unknown and ambiguous names -------------------------------------------------------------------------


def test_an_unknown_name_gets_the_closest_and_what_to_do() -> None:
    with pytest.raises(UnknownName) as refused:
        find_model("lama-7b")
    message = str(refused.value)
    assert "'lama-7b'" in message and "llama-7b" in message and "kvplan models QUERY" in message
    assert message.split("close: ")[1].split(";")[0].count(",") == 2
    with pytest.raises(UnknownName, match=r"no device is called 'h1000'; close: .*H100"):
        find_device("h1000")


@pytest.mark.parametrize("name", ["v100", "a100", "orin"])
def test_a_short_form_of_several_devices_is_refused_with_all_of_them(name: str) -> None:
    with pytest.raises(UnknownName, match=r"could be .*, .*: say which"):
        find_device(name)


def test_a_short_form_of_several_models_is_refused_with_all_of_them() -> None:
    with pytest.raises(UnknownName, match=r"could be llama-3\.1-8b, llama-3\.1-70b"):
        find_model("llama-3.1")


@pytest.mark.parametrize("name", ["", "   ", "-", "\n\x1b[31m", '"', "\\", "a" * 100_000, "läma", "/", 'keys":['])
def test_nonsense_is_refused_in_one_short_line(name: str) -> None:
    for find in (find_model, find_device):
        with pytest.raises(UnknownName) as refused:
            find(name)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 500


# -- the user's own entries ------------------------------------------------------------------------------


def test_the_users_models_and_devices_are_added(own: Path) -> None:
    path = add(own, MODEL.format(name="house-1b", alias="House Model"))
    add(own, DEVICE, "gpus/lab.yml")
    found = find_model("house-model")
    assert (found.name, found.origin) == ("house-1b", str(path))
    assert found.config["rms_norm_eps"] == 1e-5  # YAML 1.1 alone would make a text of it
    assert found.checked == "2026-11-21"
    assert find_device("LAB CARD").memory_bytes == 8 << 30
    assert "house-1b" in [model.name for model in catalogue.models()]
    assert find_model("gpt2").origin == "shipped"


def test_a_users_entry_takes_the_place_of_the_shipped_one_under_all_its_names(own: Path) -> None:
    path = add(own, MODEL.format(name="LLAMA-2-7B", alias="mine"))
    for name in ("llama-2-7b", "meta-llama/Llama-2-7b-hf", "mine"):
        assert find_model(name).origin == str(path)
    names = [model.name.lower() for model in catalogue.models()]
    assert names.count("llama-2-7b") == 1


def test_a_users_alias_wins_over_a_shipped_name_that_stays_otherwise(own: Path) -> None:
    add(own, MODEL.format(name="house-1b", alias="llama2-7b"))
    assert find_model("llama2-7b").name == "house-1b"
    assert find_model("llama-2-7b").name == "llama-2-7b"


def test_a_changed_file_is_read_again(own: Path) -> None:
    add(own, MODEL.format(name="first", alias="x"))
    assert find_model("first")
    add(own, MODEL.format(name="second-name", alias="x"))
    assert find_model("x").name == "second-name"


def test_without_the_users_files_yaml_is_never_imported(own: Path) -> None:
    code = "import sys; from planner.catalogue.entries import find_model; find_model('gpt2'); print(*sys.modules)"
    root = Path(catalogue.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "planner.catalogue.entries" in loaded
    assert not loaded & {"yaml", "difflib", "planner.catalogue.schema", "torch", "numpy", "subprocess"}


def test_a_folder_that_is_named_but_missing_is_an_empty_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path / "nowhere"))
    assert find_model("gpt2").name == "gpt2"


def test_without_the_variable_a_missing_folder_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KVPLAN_CONFIG_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert find_model("gpt2").name == "gpt2"


BOMB = "a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("just a text", "wants a list of entries"),
        ("name: x", "wants a list of entries"),
        ("- 7", "is no mapping"),
        ("- name: [", "is not YAML"),
        ("- {name: x, config: {model_type: llama}, checked: 2026-11-21}", "has no 'source'"),
        ("- {name: x, config: {model_type: llama}, source: s}", "has no 'checked'"),
        ("- {name: x, config: {model_type: llama}, source: s, checked: yesterday}", "YYYY-MM-DD"),
        ("- {name: x, config: {model_type: llama}, source: s, checked: 2026-02-30}", "YYYY-MM-DD"),
        ("- {name: x, config: {}, source: s, checked: 2026-11-21}", "model_type"),
        ("- {name: 7, config: {model_type: llama}, source: s, checked: 2026-11-21}", "name wants a text"),
        ("- {name: x, config: {model_type: m, n: .nan}, source: s, checked: 2026-11-21}", "nan or infinity"),
        ("- {name: x, config: {model_type: m, 1: 2}, source: s, checked: 2026-11-21}", "key that is no text"),
        (
            "- {name: x, config: {model_type: m}, source: s, checked: 2026-11-21, parameters: true}",
            "parameters wants a whole number",
        ),
        (
            "- {name: x, nmae: y, config: {model_type: m}, source: s, checked: 2026-11-21}",
            "unknown key 'nmae'",
        ),
        (MODEL.format(name="x", alias="a") + MODEL.format(name="y", alias="a"), "share the name 'a'"),
        ("- {name: x, name: y}", "given twice"),
        (BOMB, "aliases"),
        ("- " + "[" * 20, "nested deeper"),
        ("- " + "[" * 5000, "line 1: is n"),  # PyYAML may refuse this depth first: "is not YAML"
        ("- !!python/object/apply:os.system [true]", "tags"),
        ("- {name: !!float ''}", "tags (!!float)"),
        ("- {name: x, kv: !!int '-'}", "tags (!!int)"),
        ("- {name: !!bool 'x'}", "tags (!!bool)"),
        ("- {name: !!timestamp 'x'}", "line 1: YAML tags"),
        ("- {name: \x00}", "is not YAML"),
        ("- {name: x}\n---\n- {name: y}", "is not YAML"),
        ("#" * (1 << 20) + "#", "larger than 1 MiB"),
    ],
)
def test_a_broken_user_file_is_refused_in_one_line_that_names_it(own: Path, text: str, problem: str) -> None:
    path = add(own, text)
    with pytest.raises(KvplanError) as refused:
        find_model("gpt2")
    message = str(refused.value)
    assert problem in message and str(path) in message
    assert message.isprintable() and len(message) < 600


def test_bytes_that_are_no_text_are_refused(own: Path) -> None:
    (own / "models" / "mine.yaml").write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(BadConfig, match="not UTF-8"):
        find_model("gpt2")


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("memory_bytes", "80", "memory_bytes must lie between"),
        ("memory_bytes", "80 GB", "memory_bytes wants a whole number"),
        ("bandwidth_bytes_per_s", "-1", "bandwidth_bytes_per_s must lie"),
        ("dense_flops_per_s", "{fp12: 1000000000}", "fp12"),
        ("dense_flops_per_s", "{fp16: 989}", "fp16 must lie"),
        ("interconnect", "{bytes_per_s_per_direction: 450000000000}", "has no 'type'"),
        ("prices", "[{usd_per_hour: 2, provider: p, date: soon, source: s}]", "date wants a date"),
        ("source", "[]", "source is empty"),
        ("confidence", "sure", "confidence must be one of"),
    ],
)
def test_a_device_with_an_impossible_value_is_refused(own: Path, key: str, value: str, problem: str) -> None:
    base = {
        "name": "lab",
        "memory_bytes": "8589934592",
        "source": "[lab]",
        "checked": "2026-11-21",
        key: value,
    }
    add(own, "- " + "\n  ".join(f"{name}: {text}" for name, text in base.items()), "gpus/lab.yaml")
    with pytest.raises(BadConfig, match=problem):
        find_device("h100")


def test_empty_files_and_other_files_are_passed_over(own: Path) -> None:
    add(own, "")
    add(own, "# nothing yet\n", "models/later.yml")
    add(own, "not yaml: [", "models/notes.txt")
    (own / "models" / "folder.yaml").mkdir()
    assert find_model("gpt2").name == "gpt2"
