"""Old names of flags work for one version, with a note; what means another thing today is told by its value."""

import pytest

from planner.commands.old_names import with_new_names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("speed gpt2 --gpu l4 --output 500", "speed gpt2 --gpu l4 --answer 500"),
        ("speed gpt2 --gpu l4 --output=2k", "speed gpt2 --gpu l4 --answer=2k"),
        ("speed gpt2 --gpu l4 --output-file a.json", "speed gpt2 --gpu l4 --output a.json"),
        ("plan gpt2 --prompt 1k --output p50=200,p95=900", "plan gpt2 --prompt 1k --answer p50=200,p95=900"),
        ("simulate gpt2 --prompt a.csv --output b.csv", "simulate gpt2 --prompt a.csv --answer b.csv"),
        ("profile gpt2 --outputs 3,6 --prompt-tokens 4", "profile gpt2 --answer 3,6 --prompt 4"),
        ("profile gpt2 --weights w --prompt hello", "profile gpt2 --weights w --text hello"),
        ("sweep speed model=gpt2 gpu=l4 prompt=1k output=128", "sweep speed model=gpt2 gpu=l4 prompt=1k answer=128"),
    ],
)
def test_an_old_name_is_read_as_the_new_one_and_noted(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_new_names(old.split()) == new.split()
    assert "is now called" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "speed gpt2 --gpu l4 --output answer.json",
        "plan gpt2 --prompt 1k --answer 200 --output lengths.csv",
        "simulate gpt2 --trace t.csv --output runs.csv",
        "profile gpt2 --prompt 16 --answer 3,6 -o run.json",
        "sweep speed model=gpt2 gpu=l4 prompt=1k answer=128 --output x.csv",
    ],
)
def test_todays_names_stay_and_nothing_is_said(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_new_names(words.split()) == words.split()
    assert capsys.readouterr().err == ""
