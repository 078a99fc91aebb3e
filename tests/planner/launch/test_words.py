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
    for parted in ("\n", "; ", " && "):
        assert dict(commands_of(f"{line}{parted}ollama serve")[0].env) == {"OLLAMA_NUM_PARALLEL": "4"}


def test_two_variables_of_powershell_and_its_call_of_a_path_on_one_line() -> None:
    text = '$env:CUDA_VISIBLE_DEVICES="0;1"; $env:A=\'2\'; & "C:\\llama\\llama-server.exe" -m D:\\m.gguf'
    found = commands_of(text)[0]
    assert dict(found.env) == {"CUDA_VISIBLE_DEVICES": "0;1", "A": "2"}
    assert found.words == ("C:\\llama\\llama-server.exe", "-m", "D:\\m.gguf")


@pytest.mark.parametrize(
    ("text", "value"),
    [("$((128*1024))", "131072"), ("$(( 32 * 1024 - 1 ))", "32767"), ("$((N/2))", "2048"), ("$(($N * 2))", "8192"),
     ("$((${N}+1))", "4097"), ("$((1/0))", "$((1/0))"), ("$((X*2))", "$((X*2))"), ("$((2**9))", "$((2**9))")],
)  # fmt: skip
def test_a_calculation_of_whole_numbers_is_done_and_any_other_stays(text: str, value: str) -> None:
    assert words(f"N=4096\nvllm serve m --max-model-len {text}")[0][-1] == value


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
