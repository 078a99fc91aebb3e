"""The names of published GGUF files, held against the sizes that such files have.

tests/cases/gguf_files.csv has them with their sources. A file is its weights and a head of at most 22 MB: metadata, the
vocabulary (16 MB of Gemma's) and vectors of weights. Where a publisher makes types by hand, our range must hold it.
"""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest

from planner.answers.setup import setup
from planner.errors import KvplanError
from planner.launch.read import one_question
from planner.lookup import model_spec
from planner.lookup.models import understand
from planner.memory.estimate import estimate
from planner.memory.gguf_plan import gguf_plan
from planner.memory.request import Request
from planner.memory.weight_plan import weight_plan
from planner.model.parameters import all_weights
from planner.model.weights import TOWERS

CASES = Path(__file__).parents[2] / "cases" / "gguf_files.csv"
LINES = [line for line in CASES.read_text().splitlines() if not line.startswith("#")]
ROWS = list(csv.DictReader(LINES))
REPOS = [list(rows) for _, rows in itertools.groupby(ROWS, key=lambda row: row["repo"])]
# No entry has these models, and the name is refused.
UNKNOWN = ("ibm-granite/granite-4.0-h-1b-GGUF", "bartowski/rednote-hilab_dots.llm1.inst-GGUF", "bartowski/Nemotron-Mini-4B-Instruct-GGUF")  # fmt: skip
HEAD = 22_000_000


def sizes_of(name: str) -> tuple[int, int, int, str]:
    """Bytes of the text model, the least and the most of them, and what the estimate calls them; the tower is another file."""
    spec = model_spec(name)
    plan = weight_plan(spec)
    size = plan.total((weight, count) for weight, count in all_weights(spec) if weight.part not in TOWERS)
    return size, *plan.range_of(size), plan.exactness


@pytest.mark.parametrize("rows", REPOS, ids=lambda rows: rows[0]["repo"])
def test_a_published_file_is_what_its_name_says_or_lies_in_the_range_that_is_given(rows: list[dict[str, str]]) -> None:
    for row in rows[:: 1 + len(rows) // 12]:
        name = f"{row['repo']}:{row['type']}"
        if row["repo"] in UNKNOWN:
            with pytest.raises(KvplanError):
                model_spec(name)
            continue
        file, slack = int(row["bytes"]), 0.0005
        slack = 0.006 if file % 1_000_000 == 0 else slack
        size, low, high, exactness = sizes_of(name)
        assert low * (1 - slack) <= file <= high * (1 + slack) + HEAD, name
        if not (size * (1 - slack) <= file <= size * (1 + slack) + HEAD):
            assert exactness == "estimated", name


def test_most_files_need_no_range() -> None:
    rows = [row for row in ROWS if not row["type"].startswith("UD-") and row["repo"] not in UNKNOWN]
    alone = [sizes_of(f"{row['repo']}:{row['type']}") for row in rows[::9]]
    assert sum(low == high for _, low, high, _ in alone) > 0.75 * len(alone)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("unsloth/Qwen3-8B-GGUF:UD-Q4_K_XL", "UD-Q4_K_XL is a mix of its publisher, counted as Q4_K_M: such files lie 8 % below to 16 % above"),
        ("unsloth/DeepSeek-R1-GGUF:UD-IQ1_S", "UD-IQ1_S is a mix of its publisher: such files lie 5 % below to 45 % above"),
        ("bartowski/google_gemma-4-31B-it-GGUF:Q4_K_M", "bartowski chooses some types by hand since 2026"),
        ("gemma-4-31B-it-Q4_K_M.gguf", "some publishers choose some types by hand since 2026"),
        ("TheBloke/Mixtral-8x7B-Instruct-v0.1-GGUF:Q3_K_M", "in files of 2023 the experts lie apart"),
    ],
)  # fmt: skip
def test_why_a_files_size_is_a_range_is_said_in_one_line(written: str, words: str) -> None:
    assert any(words in note for note in understand(written).notes)
    found = estimate(model_spec(written), Request(8192))
    least, most = found.weight_range
    assert least < found.weight_bytes < most
    assert found.exactness["weight_bytes"] == "estimated"
    low, high = found.per_device.total_range
    assert high - low >= most - least


def test_drafting_layers_that_some_files_hold_are_the_upper_end() -> None:
    """ggml-org's Qwen3.8-27B in Q8_0 is 28,595,763,648 B without them, Unsloth's 29,047,086,048 B with them."""
    found = estimate(model_spec("Qwen3.8-27B-Q8_0.gguf"), Request(128))
    least, most = found.weight_range
    assert least == found.weight_bytes
    assert (most - least) / 1.2 == pytest.approx(29_047_086_048 - 28_595_763_648, rel=0.01)
    assert any("some files also hold the drafting layers" in line for line in found.assumptions)


def test_a_type_in_float_is_no_type_of_four_bits() -> None:
    assert estimate(model_spec("Meta-Llama-3.1-8B-Instruct-f32.gguf"), Request(128)).weight_bytes == 8_030_261_248 * 4


def test_a_name_of_another_format_has_no_range() -> None:
    found = estimate(model_spec("Qwen/Qwen3.6-27B-FP8"), Request(128))
    assert found.weight_range == (found.weight_bytes, found.weight_bytes)


def test_towers_have_the_sizes_of_published_files() -> None:
    """A head of at most 40 kB. Of others Qwen2-VL and Qwen2.5-VL are 0.4 % below ours, GLM-4.6V 2.4 % above (its convolutions)."""
    lines = [line for line in CASES.with_name("mmproj_files.csv").read_text().splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        spec = model_spec(f"{row['repo']}:Q4_K_M")
        plan = gguf_plan(spec, "q4_k_m", own={"tower": row["type"].lower()})
        size = plan.total((weight, count) for weight, count in all_weights(spec) if weight.part in TOWERS)
        assert 0 <= int(row["bytes"]) - size < 40_000, (row, size)


def test_the_name_of_a_tower_says_its_type() -> None:
    """A file that is not here: half the bytes of the matrices where its name says Q8_0."""
    sizes = []
    for kind in ("F16", "Q8_0"):
        command = f"llama-server -m Qwen3-VL-2B-Instruct-Q4_K_M.gguf --mmproj mmproj-Qwen3-VL-2B-Instruct-{kind}.gguf"
        question = one_question(command)
        spec = setup(question, model_spec("Qwen3-VL-2B-Instruct-Q4_K_M.gguf"), seq=1024).spec
        sizes.append(weight_plan(spec).total((w, count) for w, count in all_weights(spec) if w.part in TOWERS))
    assert sizes == [819_376_128, 445_034_496]
