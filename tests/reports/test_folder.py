"""Where a report is written: whole or not at all, and never over what is somebody's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from planner.errors import KvplanError
from planner.files import write
from planner.files.write import write_bytes
from reports.folder import KIND, MANIFEST, check_target, write_folder


def files(**more: bytes) -> dict[str, bytes]:
    names = sorted(["report.html", "figures/a.svg", MANIFEST, *more])
    manifest = json.dumps({"kind": KIND, "files": names}).encode()
    return {"report.html": b"page", "figures/a.svg": b"<svg/>", MANIFEST: manifest, **more}


def names_in(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_a_new_folder_holds_all_files_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_folder(str(tmp_path / "a" / "out"), files(), force=False)
    assert names_in(tmp_path) == sorted(f"a/out/{name}" for name in files())


def test_an_existing_report_stays_without_force_and_goes_with_it(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    write_folder(out, files(**{"old.csv": b"1"}), force=False)
    with pytest.raises(KvplanError, match="--force"):
        write_folder(out, files(), force=False)
    write_folder(out, files(), force=True)
    assert names_in(tmp_path / "out") == sorted(files())
    assert os.listdir(tmp_path) == ["out"]


def test_force_never_takes_what_is_not_a_reports(tmp_path: Path) -> None:
    write_folder(str(tmp_path / "out"), files(), force=False)
    (tmp_path / "out" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(KvplanError, match=r"thesis\.txt"):
        write_folder(str(tmp_path / "out"), files(), force=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.csv").write_text("1", encoding="utf-8")
    with pytest.raises(KvplanError, match=r"data\.csv"):
        write_folder(str(tmp_path / "other"), files(), force=True)


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(str(tmp_path / "out"), files(), force=False)
    assert names_in(tmp_path / "out") == sorted(files())


def test_a_failure_leaves_the_old_report_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_folder(str(out), files(), force=False)

    def fail(fresh: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "_put", fail)
    with pytest.raises(KvplanError, match="No space left"):
        write_folder(str(out), files(**{"new.csv": b"1"}), force=True)
    assert names_in(out) == sorted(files()) and os.listdir(tmp_path) == ["out"]


def test_a_swap_that_fails_half_way_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_folder(str(out), files(), force=False)
    rename, calls = os.rename, []

    def fail_second(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_second)
    monkeypatch.setattr(write, "_exchange", lambda one, other: False)
    with pytest.raises(KvplanError, match="Input/output"):
        write_folder(str(out), files(), force=True)
    assert names_in(out) == sorted(files()) and os.listdir(tmp_path) == ["out"]


def test_a_file_in_the_way_and_a_folder_that_cannot_be_made_are_said_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(KvplanError, match="is a file"):
        check_target(str(tmp_path / "file"), False)
    with pytest.raises(KvplanError, match="not a folder"):
        check_target(str(tmp_path / "file" / "inside"), False)
    for name in ("", "a\0b"):
        with pytest.raises(KvplanError, match="name of a folder"):
            check_target(name, False)


def test_one_file_is_written_whole(tmp_path: Path) -> None:
    write_bytes(str(tmp_path / "a.svg"), b"<svg/>")
    assert (tmp_path / "a.svg").read_bytes() == b"<svg/>" and os.listdir(tmp_path) == ["a.svg"]
    with pytest.raises(KvplanError, match="not the name of a file"):
        write_bytes(str(tmp_path), b"")
    with pytest.raises(KvplanError, match="cannot be written"):
        write_bytes(str(tmp_path / "none" / "a.svg"), b"")
