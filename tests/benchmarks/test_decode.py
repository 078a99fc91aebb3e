"""What `--linear auto` takes stands beside both layouts; where nothing can be packed it is the plain one."""

from __future__ import annotations

import pytest

from tests.profiler.small_models import NEEDS_TORCH, small

pytest.importorskip("torch", reason=NEEDS_TORCH)

from planner.errors import BadRequest
from profiler.device import choose
from profiler.measure import Times


@pytest.mark.parametrize("packs", [True, False])
def test_auto_is_never_slower_than_plain_in_the_table_of_layouts(monkeypatch: pytest.MonkeyPatch, packs: bool) -> None:
    from benchmarks import decode
    from profiler import gpt, layout

    def refuse(*_: object) -> None:
        raise BadRequest("--linear packed: this CPU has no bf16 support in oneDNN; use --linear plain or fp32")

    if not packs:
        monkeypatch.setattr(gpt, "check_packing", refuse)
        monkeypatch.setattr(layout, "check_packing", refuse)
    monkeypatch.setattr(layout, "layer_times", lambda *_, **__: {"plain": Times((2.0,)), "packed": Times((1.0,))})
    monkeypatch.setattr(decode, "LAYOUT_CONTEXT", 8)
    rows = decode.layout_rows(small("gpt2"), "fp32", [1, 2], 1, choose("cpu"))
    assert [row[:2] for row in rows] == [["fp32", "1"], ["fp32", "2"]]
    assert {row[4] for row in rows} == {"packed" if packs else "plain"}
    assert packs or [row[3:] for row in rows] == [["-", "plain", "1.00"]] * 2
