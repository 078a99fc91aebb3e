"""Rows that are written come back as they were, and a file is whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import KvplanError
from planner.sweeps.files import check_path, read_rows, write_rows

COLUMNS = (("name", "str"), ("size", "int"), ("share", "float"), ("fits", "bool"))
text = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=20)
row = st.tuples(
    text,
    st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(row, max_size=20))
def test_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
) -> None:
    path = str(tmp_path_factory.mktemp("sweep") / "a.csv")
    write_rows(path, COLUMNS, rows)  # type: ignore[arg-type]
    found = list(read_rows(path, COLUMNS))
    assert found == rows
    again = Path(path).read_bytes()
    write_rows(path, COLUMNS, found)
    assert Path(path).read_bytes() == again


@settings(max_examples=20, deadline=None)
@given(st.lists(row, max_size=20))
def test_parquet_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]]
) -> None:
    pytest.importorskip("pyarrow")
    path = str(tmp_path_factory.mktemp("sweep") / "a.parquet")
    write_rows(path, COLUMNS, rows)  # type: ignore[arg-type]
    assert list(read_rows(path, COLUMNS)) == rows


@pytest.mark.parametrize(
    "content",
    [b"", b"other,columns\n1,2\n", b"name,size,share,fits\na,1\n", b"name,size,share,fits\na,x,1.0,True\n",
     b"name,size,share,fits\na,1,1.0,maybe\n", b"\xff\xfe\x00", b'name,size,share,fits\n"a'],
)  # fmt: skip
def test_a_file_that_no_sweep_wrote_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(KvplanError, match="not a file that a sweep of this question wrote"):
        list(read_rows(str(tmp_path / "a.csv"), COLUMNS))


def test_rubbish_under_the_name_of_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(KvplanError, match="not a file that a sweep"):
        list(read_rows(str(tmp_path / "a.parquet"), COLUMNS))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_rows(str(path), COLUMNS, [None])  # type: ignore[list-item]
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("name", ["a.txt", "a", "nowhere/a.csv", "folder.csv", ""])
def test_what_cannot_become_a_file_is_refused_before_anything_is_computed(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(KvplanError, match="-o"):
        check_path(str(tmp_path / name) if name else "")


@pytest.mark.parametrize(
    "data", [b"\0" * (3 << 20), b"," * (3 << 20), b'"' + b"\n" * (3 << 20)], ids=["zeros", "commas", "quote"]
)
def test_a_file_without_lines_is_refused_before_it_is_in_memory(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "grid.csv"
    path.write_bytes(data)
    with pytest.raises(KvplanError, match="not a file that a sweep of this question wrote"):
        list(read_rows(str(path), COLUMNS))
