"""The shipped catalogues: every entry sound, sorted, unique, sourced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.catalogue.build import HERE, KINDS, Kind, load, natural
from planner.catalogue.schema import MODEL_CONFIDENCE, shared_name
from planner.catalogue.yaml_files import read_entries

MODELS, GPUS = KINDS
FILES = [(kind, path) for kind in KINDS for path in sorted((HERE / kind.folder).glob("*.yaml"))]
EACH_FILE = pytest.mark.parametrize(("kind", "path"), FILES, ids=lambda value: getattr(value, "stem", ""))

# The paper's table 2.1: layers, d_model, heads, d_head, as printed.
GPT3_TABLE = {
    "gpt3-small": (12, 768, 12, 64),
    "gpt3-medium": (24, 1024, 16, 64),
    "gpt3-large": (24, 1536, 16, 96),
    "gpt3-xl": (24, 2048, 24, 128),
    "gpt3-2.7b": (32, 2560, 32, 80),
    "gpt3-6.7b": (32, 4096, 32, 128),
    "gpt3-13b": (40, 5140, 40, 128),
    "gpt3-175b": (96, 12288, 96, 128),
}


@EACH_FILE
def test_every_entry_follows_the_schema(kind: Kind, path: Path) -> None:
    wrong = {str(entry.get("name")): kind.problems(entry) for entry in read_entries(str(path))}
    assert {name: found for name, found in wrong.items() if found} == {}


@EACH_FILE
def test_entries_are_sorted_by_name(kind: Kind, path: Path) -> None:
    names = [entry["name"] for entry in read_entries(str(path))]
    assert names == sorted(names, key=natural)


@EACH_FILE
def test_every_file_says_what_it_holds(kind: Kind, path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith(f"# {path.stem}: ")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_no_two_entries_share_a_name_alias_or_id(kind: Kind) -> None:
    assert shared_name((entry["name"], kind.keys(entry)) for entry in load(kind)) is None


def test_there_are_at_least_500_models_and_470_devices() -> None:
    assert len(load(MODELS)) >= 500
    assert len(load(GPUS)) >= 470


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_every_entry_says_how_far_it_can_be_trusted(kind: Kind) -> None:
    assert [entry["name"] for entry in load(kind) if "confidence" not in entry] == []


def test_confidence_is_one_of_the_named_classes_and_recalled_entries_are_few() -> None:
    classes = [entry["confidence"] for entry in load(MODELS)]
    assert set(classes) <= set(MODEL_CONFIDENCE)
    assert classes.count("memory") <= 5


def test_all_eight_gpt3_models_are_as_the_paper_prints_them() -> None:
    printed = {
        entry["name"]: tuple(
            entry["config"][key] for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "head_dim")
        )
        for entry in load(MODELS)
        if entry["name"].startswith("gpt3-")
    }
    assert printed == GPT3_TABLE


@pytest.mark.parametrize("name", ["gpt3-xl", "gpt3-13b"])
def test_rows_of_the_paper_that_contradict_themselves_carry_a_note(name: str) -> None:
    (entry,) = (entry for entry in load(MODELS) if entry["name"] == name)
    assert "Table 2.1 prints" in entry["notes"]


def test_no_config_holds_keys_that_no_publisher_wrote() -> None:
    assert [entry["name"] for entry in load(MODELS) if "n_params_table" in entry["config"]] == []


def test_memory_is_what_the_driver_reports_not_more_than_the_box_says() -> None:
    own = [e for e in load(GPUS) if e["memory_bytes"] != "installed"]
    assert [e["name"] for e in own if e["memory_bytes"] > 1.01 * e["advertised_gb"] * 2**30] == []
    assert [e["name"] for e in load(GPUS) if not e.get("memory_source")] == []


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("T4", 14.74),
        ("L4", 22.16),
        ("A100-SXM4-40GB", 39.38),
        ("A100-SXM4-80GB", 79.15),
        ("H100-SXM5-80GB", 79.11),
        ("H200-SXM-141GB", 139.72),
        ("B200-HGX-180GB", 178.35),
    ],
)
def test_logged_memory_is_the_memory_of_the_entry(name: str, gib: float) -> None:
    (entry,) = (entry for entry in load(GPUS) if entry["name"] == name)
    assert entry["memory_bytes"] == round(gib * 2**30)


# Their fp8 is a block or microscaled format with units of its own, as the vendor states.
OWN_FP8 = {"Trainium3", "Tenstorrent-n150-12GB", "Tenstorrent-n300-24GB"}


def test_flops_are_dense_so_fp8_is_at_most_twice_fp16() -> None:
    def doubled(entry: dict[str, Any]) -> bool:
        rate = entry.get("dense_flops_per_s", {})
        return "fp8" not in rate or rate["fp8"] <= 2.03 * rate.get("bf16", rate["fp8"])

    assert {entry["name"] for entry in load(GPUS) if not doubled(entry)} <= OWN_FP8
