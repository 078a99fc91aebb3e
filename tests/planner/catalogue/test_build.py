"""Compiling the YAML: the compiled files are current, and a bad entry is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.catalogue.build import HERE, KINDS, compile_text, load, main
from planner.errors import BadConfig

MODELS = KINDS[0]
GOOD = """
- name: tiny-{n}
  config: {{model_type: llama}}
  source: here
  checked: 2026-11-21
"""


def write(root: Path, text: str) -> None:
    (root / "models").mkdir(exist_ok=True)
    (root / "models" / "some.yaml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_compiled_files_are_current(kind: object) -> None:
    assert isinstance(kind, type(MODELS))
    assert (HERE / kind.compiled).read_text(encoding="utf-8") == compile_text(kind)


def test_check_passes_and_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert "models.jsonl" in capsys.readouterr().out
    assert main(["--frobnicate"]) == 2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.folder)
def test_each_line_is_one_entry_with_its_keys_first(kind: object) -> None:
    assert isinstance(kind, type(MODELS))
    for line, entry in zip(compile_text(kind).splitlines(), load(kind), strict=True):
        raw = json.loads(line)
        assert next(iter(raw)) == "keys"
        assert raw.pop("keys") == kind.keys(entry)
        assert raw == entry


def test_unsorted_entries_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD.format(n=10) + GOOD.format(n=9))
    with pytest.raises(BadConfig, match="not sorted"):
        load(MODELS, tmp_path)


def test_a_name_given_twice_is_refused_whatever_its_case(tmp_path: Path) -> None:
    write(tmp_path, GOOD.format(n=1) + GOOD.format(n="1b").replace("source:", "aliases: [Tiny_1]\n  source:"))
    with pytest.raises(BadConfig, match="share the name 'tiny-1'"):
        load(MODELS, tmp_path)


def test_a_bad_entry_is_named_with_all_that_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, "- {name: x, config: {}, source: here, colour: red}")
    with pytest.raises(BadConfig, match=r"some.yaml: entry 1 \(x\) has no 'checked'; .*model_type.*'colour'"):
        load(MODELS, tmp_path)
