"""No reader of what comes from outside ends in a traceback: a few of the inputs of `python -m tests.fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import READERS, fuzz


@pytest.mark.parametrize("reader", READERS)
def test_a_changed_file_is_answered_or_refused_in_one_line(reader: str) -> None:
    row = fuzz(reader, 60, seed=1)
    assert (row.tracebacks, row.hangs) == (0, 0), row.first
