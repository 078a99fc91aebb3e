"""Files that are whole or not there, whatever happens in between."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from planner.errors import KvplanError
from planner.files import write
from planner.files.write import check_file, locked, make_parent, replace_folder, write_bytes, write_with

ROOT = Path(__file__).resolve().parents[3]


def test_a_file_keeps_its_permissions_and_a_link_its_target(tmp_path: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    write_bytes(str(link), b"new")
    assert path.read_text() == "new" and link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KvplanError, match="is a pipe or a device"):
        write_bytes(str(tmp_path / "pipe"), b"x")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_dev_null_is_written_to_and_stays() -> None:
    write_bytes(os.devnull, b"x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: BaseException) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def broken(file: BinaryIO) -> None:
        file.write(b"half")
        raise failure

    with pytest.raises((KvplanError, KeyboardInterrupt)):
        write_with(str(path), broken)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchanges:
        monkeypatch.setattr(write, "_exchange", lambda one, other: False)
    target = tmp_path / "report"
    replace_folder(str(target), {"a/b": b"1", "c": b"2"})
    replace_folder(str(target), {"d": b"3"})
    assert os.listdir(tmp_path) == ["report"] and os.listdir(target) == ["d"]


def test_rows_that_several_processes_add_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    code = (
        "import sys, time\nfrom planner.files.write import locked, write_bytes\n"
        "path, row = sys.argv[1:]\n"
        "with locked(path):\n"
        "    try:\n        old = open(path).read()\n"
        "    except FileNotFoundError:\n        old = ''\n"
        "    time.sleep(0.05)\n"
        "    write_bytes(path, (old + row + '\\n').encode())\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), str(i)], cwd=ROOT) for i in range(6)]
    assert [process.wait() for process in running] == [0] * 6
    assert sorted(path.read_text().split()) == list("012345")


def test_a_lock_leaves_no_file_behind(tmp_path: Path) -> None:
    with locked(str(tmp_path / "rows")):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "folder", "none/answer", "pipe", "a\0b"])
def test_what_cannot_be_written_is_refused_before_anything_is_made_for_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    given = f"{tmp_path}/{name}" if name else ""
    with pytest.raises(KvplanError) as before:
        check_file(given)
    with pytest.raises(KvplanError) as after:
        write_bytes(given, b"")
    assert str(before.value) == str(after.value)


def test_asking_whether_a_file_can_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    for name in ("old", "new"):
        check_file(str(tmp_path / name))
    check_file(None)
    check_file(os.devnull)
    assert [one.name for one in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_a_folder_that_a_file_stands_above_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KvplanError, match=r"cannot be written: .*; choose a file in a folder you may write to"):
        make_parent(str(tmp_path / "file" / "below" / "answer"))
    make_parent(str(tmp_path / "new" / "answer"))
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_the_system_lets_nobody_write_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A folder without write permission; the root user may write there, so the system's answer stands in for it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    target = folder / "answer"
    if kind == "file":
        target.write_text("old")
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    try:
        with pytest.raises(KvplanError, match="Permission denied") as error:
            check_file(str(target))
    finally:
        monkeypatch.undo()
        folder.chmod(0o700)
    said = str(error.value)  # a long path is cut
    assert "\n" not in said and said.startswith(f"-o {target}"[:60])
    assert [one.name for one in folder.iterdir()] == (["answer"] if kind == "file" else [])
