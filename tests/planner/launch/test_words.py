"""Shell texts as people paste them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadRequest, KvplanError
from planner.launch.words import MOST_CHARACTERS, commands_of, substitute


def words(text: str) -> list[tuple[str, ...]]:
    return [command.words for command in commands_of(text)]


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve m \\\n  --tp 2 \\\n  --x 3",
        "vllm serve m `\n  --tp 2 `\n  --x 3",
        "vllm serve m ^\n  --tp 2 ^\n  --x 3",
        "vllm serve m\n  --tp 2\n  --x 3",
        "vllm serve m \\\n  # how many\n  --tp 2 \\\n\\\n  --x 3",
        "$ vllm serve m --tp 2 --x 3 > log 2>&1 &",
        "vllm serve m --tp 2 --x 3 2>/dev/null | tee log",
        "vllm serve m --tp 2 --x 3 # as before",
        "\ufeffvllm serve m --tp 2 --x 3\r\n",
    ],
)
def test_a_command_over_several_lines_is_one(text: str) -> None:
    assert words(text)[0] == ("vllm", "serve", "m", "--tp", "2", "--x", "3")


def test_json_in_quotes_is_one_word() -> None:
    assert words("""x --a '{"b": "c d", "e": [1, 2]}' --f "{\\"g\\": 1}" """)[0] == (
        "x", "--a", '{"b": "c d", "e": [1, 2]}', "--f", '{"g": 1}',
    )  # fmt: skip


def test_a_pattern_with_brackets_and_bars_in_quotes_is_one_word() -> None:
    assert words(r"""l -ot "blk\.(1|2)\.ffn_.*_exps\.=CPU" -c 1""")[0][2] == r"blk\.(1|2)\.ffn_.*_exps\.=CPU"


def test_variables_and_their_defaults_are_filled_in() -> None:
    assert words('M="a/b"\nN=${N:-4096}\nvllm serve $M --n ${N} --o $UNSET')[0] == (
        "vllm", "serve", "a/b", "--n", "4096", "--o", "$UNSET",
    )  # fmt: skip


def test_an_export_is_seen_and_a_variable_of_the_script_is_not() -> None:
    found = commands_of("export A=1\nB=2\nOLLAMA_NUM_PARALLEL=4\nC=3 ollama serve")[0]
    assert dict(found.env) == {"A": "1", "OLLAMA_NUM_PARALLEL": "4", "C": "3"}


@pytest.mark.parametrize(
    "line", ['$env:OLLAMA_NUM_PARALLEL = "4"', "set OLLAMA_NUM_PARALLEL=4", "export OLLAMA_NUM_PARALLEL=4"]
)
def test_every_shell_sets_a_variable(line: str) -> None:
    assert dict(commands_of(f"{line}\nollama serve")[0].env) == {"OLLAMA_NUM_PARALLEL": "4"}


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(BadRequest, match="never closed"):
        commands_of("vllm serve 'm --tp 2")


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadRequest, match="at most"):
        commands_of("x" * (MOST_CHARACTERS + 1))


def test_a_variable_that_holds_itself_stays() -> None:
    assert substitute("$A", {"A": "$A$A"}) == "$A$A"


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        for command in commands_of(text):
            assert command.words
    except KvplanError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        'ARGS="--max-model-len 8192 --port 80"\nvllm serve m $ARGS',
        'ARGS=(--max-model-len 8192 --port 80)\nvllm serve m "${ARGS[@]}"',
        "ARGS=(\n  --max-model-len 8192  # tokens\n)\nARGS+=(--port 80)\nvllm serve m ${ARGS[@]}",
    ],
    ids=["text", "array", "array over lines"],
)
def test_a_variable_that_holds_flags_is_several_words(text: str) -> None:
    assert commands_of(text)[-1].words == ("vllm", "serve", "m", "--max-model-len", "8192", "--port", "80")


def test_a_path_with_a_space_in_a_variable_stays_one_word() -> None:
    assert commands_of('M="/a b/x.gguf"\nllama-server -m "$M"')[-1].words == ("llama-server", "-m", "/a b/x.gguf")
