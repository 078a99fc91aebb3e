"""--seq of a load: prompt and answer together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan.cli import main
from planner.errors import BadRequest, UsageError
from planner.options.lengths import parts_of


@given(st.integers(2, 10**7), st.one_of(st.none(), st.integers(1, 10**7)), st.booleans())
def test_prompt_and_answer_are_the_whole(seq: int, part: int | None, is_prompt: bool) -> None:
    prompt, answer = (part, None) if is_prompt else (None, part)
    if part is not None and part >= seq:
        with pytest.raises(BadRequest, match="leaves nothing"):
            parts_of(seq, prompt, answer)
        return
    first, last = parts_of(seq, prompt, answer)
    assert first + last == seq and first >= 1 and last >= 1
    assert part is None or part == (first if is_prompt else last)
    assert part is not None or (last <= 256 and last <= max(1, seq // 4))


def test_all_three_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="leave one of the three out"):
        parts_of(100, 60, 40)


@pytest.mark.parametrize(
    ("by_seq", "by_parts"),
    [
        ("speed gpt2 --gpu l4 --seq 1k --batch 1", "speed gpt2 --gpu l4 --prompt 768 --answer 256 --batch 1"),
        ("speed gpt2 --gpu l4 --seq 1k --answer 24 --batch 1", "speed gpt2 --gpu l4 --prompt 1000 --answer 24 --batch 1"),
        ("plan gpt2 --gpu l4 --seq 512 --rate 1/s", "plan gpt2 --gpu l4 --prompt 384 --answer 128 --rate 1/s"),
        ("simulate gpt2 --gpu l4 --seq 512 --rate 1/s --requests 20", "simulate gpt2 --gpu l4 --prompt 384 --answer 128 --rate 1/s --requests 20"),
    ],
)  # fmt: skip
def test_the_commands_answer_as_for_the_parts(capsys: pytest.CaptureFixture[str], by_seq: str, by_parts: str) -> None:
    found = []
    for words in (by_seq, by_parts):
        with pytest.raises(SystemExit):
            main([*words.split(), "--json"])
        answer = json.loads(capsys.readouterr().out)
        found.append({key: value for key, value in answer.items() if key not in ("assumptions", "load")})
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("speed gpt2 --gpu l4 --seq 512 --answer 512", "leaves nothing of --seq"),
        ("plan gpt2 --gpu l4 --seq 512 --answer p50=80,p95=200 --rate 1/s", "one length of --answer"),
        ("simulate gpt2 --gpu l4 --seq 512 --trace none.csv", "leave --seq out"),
    ],
)
def test_what_cannot_be_taken_apart_is_said(capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    error = capsys.readouterr().err
    assert ended.value.code in (1, 2) and said in error and error.count("\n") == 1
