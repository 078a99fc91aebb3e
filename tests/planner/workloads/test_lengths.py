"""Mixes of request lengths: what a file may look like, and how many requests of a mix are held at once."""

from __future__ import annotations

import math
import os
import random
from pathlib import Path
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import KvplanError
from planner.workloads.lengths import LengthMix, concurrency, from_percentiles, parse_mix
from planner.workloads.rows import MAX_LINE


def written(folder: Path, text: str | bytes, name: str = "lengths.csv") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        "tokens\n10\n20\n20\n",
        "Tokens , user\n10,a\n20,b\n20,c\n",
        "\ufefftokens\r\n10\r\n\r\n20\r\n20\r\n",
        "10\n20\n20",
        '{"tokens": 10}\n{"total_tokens": 20}\n{"LENGTH": 20}\n',
        "prompt_tokens,completion_tokens\n10,0\n15,5\n0,20\n",
        '{"input_tokens": 4, "output_tokens": 6}\n{"prompt_len": 15, "output_len": 5}\n{"seq_tokens": "20"}\n',
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16,4,6\n2023-11-16,15,5\n2023-11-16,19,1\n",  # Azure's trace
    ],
)
def test_csv_json_lines_and_bare_numbers_are_read_alike(tmp_path: Path, text: str) -> None:
    assert dict(parse_mix(written(tmp_path, text)).counts) == {10: 1, 20: 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no lengths"), ("\n\n", "no lengths"), ("tokens\n", "no lengths"), ("a,b\n1,2\n", "no column"),
        ("1,2\n", "no header"), ("tokens\n-5\n", "line 2"), ("tokens\n0\n", "0 tokens"), ("tokens\n1.5\n", "line 2"),
        ("tokens\n1e3\n", "line 2"), ("tokens\n99999999999\n", "line 2"), ("tokens\n" + "9" * 5000 + "\n", "line 2"),
        ("a,tokens\n1\n", "line 2 has 1 columns"), ("tokens\n1,2\n", "line 2 has 2 columns"),
        ("tokens,tokens\n1,2\n", "two columns"), ("tokens\n٣\n", "line 2"), ("tokens\n\x1b[31m5\n", "line 2"),
        ('{"tokens": true}\n', "line 1"), ('{"tokens": NaN}\n', "line 1"), ('{"tokens": [1]}\n', "line 1"),
        ('{"tokens"\n', "not JSON"), ("[1, 2]\n", "no column"), ('{"a": 1}\n', "no column"),
        ('{"tokens": ' + "[" * 100_000 + "\n", "not JSON"), (b"\xff\xfe\x00", "not text"), (bytes(range(256)),
         "not text"),
        ("prompt_tokens,output_tokens\n0,0\n", "0 tokens"), ("prompt_tokens,output_tokens\n5,-1\n", "line 2"),
        ("1" * (MAX_LINE + 10), "too long"), ('"' + "a" * 200_000, "not text"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_in_one_line_that_says_where(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(KvplanError, match=words) as caught:
        parse_mix(written(tmp_path, text))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_a_file_without_line_ends_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(KvplanError, match="too long"):
        parse_mix(str(path))


def test_what_is_no_regular_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (
        tmp_path / "pipe",
        tmp_path,
        tmp_path / "loop",
        tmp_path / "missing",
        Path("/dev/zero"),
        Path("a" * 5000),
    ):
        with pytest.raises(KvplanError, match="--lengths"):
            parse_mix(str(path))
    with pytest.raises(KvplanError):
        parse_mix("")
    with pytest.raises(KvplanError):
        parse_mix("nul\0byte")


@pytest.mark.parametrize(
    "text",
    ["=", "p50=", "p50=0", "p50=x", "p0=5", "p100=5", "p-1=5", "pnan=5", "p1e1=5", "50=5", "p50=5,p50=6",
     "p50=800,p95=600",
     "p1=1,p2=2,p3=3", "p50=800,", "p50==8", "p50.5.5=1", "p٣=5", "p50=" + "9" * 1000, "p50=-5", "p50=1e30"],
)  # fmt: skip
def test_a_broken_percentile_is_refused(text: str) -> None:
    with pytest.raises(KvplanError, match="--lengths"):
        parse_mix(text)


@settings(max_examples=30, deadline=None)
@given(low=st.integers(1, 5000), ratio=st.integers(1, 30))
def test_a_log_normal_mix_goes_through_its_two_percentiles(low: int, ratio: int) -> None:
    mix = from_percentiles(f"p50={low},p95={low * ratio}")
    assert mix.percentile(0.5) == pytest.approx(low, rel=0.01, abs=1)
    assert mix.percentile(0.95) == pytest.approx(low * ratio, rel=0.02, abs=1)
    assert mix.total == 2000


def test_the_mean_of_a_log_normal_mix_is_that_of_the_distribution() -> None:
    sigma = math.log(6000 / 800) / NormalDist().inv_cdf(0.95)
    assert from_percentiles("p50=800,p95=6000").mean == pytest.approx(800 * math.exp(sigma**2 / 2), rel=0.01)


def test_one_percentile_is_a_fixed_length() -> None:
    assert dict(from_percentiles("p50=4k").counts) == {4096: 1}


def test_requests_beyond_the_models_limit_are_counted_at_it_and_said_so() -> None:
    mix = LengthMix({10: 1, 20: 3}, "mine")
    assert dict(mix.clipped(15).counts) == {10: 1, 15: 3}
    assert "3 of 4" in mix.clipped(15).words
    assert mix.clipped(20) is mix


@given(st.dictionaries(st.integers(1, 10**6), st.integers(1, 100), min_size=1, max_size=20), st.integers(0, 10**9))
def test_safe_is_between_the_longest_and_the_average(counts: dict[int, int], pool: int) -> None:
    mix = LengthMix(counts, "")
    held = concurrency(mix, pool, {length: 100 * length for length in counts})
    assert 0 <= held.at_longest <= held.safe <= held.average
    assert held.at_longest * 100 * mix.longest <= pool
    assert held.average * 100 * mix.mean <= pool * 1.000001


def test_the_safe_number_fits_in_99_of_100_draws() -> None:
    mix = from_percentiles("p50=800,p95=6000")
    held = concurrency(mix, 10**7, {length: length for length in mix.counts})
    rng = random.Random(0)
    lengths, weights = list(mix.counts), list(mix.counts.values())
    over = sum(sum(rng.choices(lengths, weights, k=held.safe)) > 10**7 for _ in range(200))
    assert 0 <= over <= 10  # 1 in 100 wanted; the tail of a log-normal is heavier than the normal's


def test_no_room_holds_no_request() -> None:
    mix = LengthMix({10: 1}, "")
    assert concurrency(mix, -5, {10: 10}).safe == concurrency(mix, 0, {10: 10}).average == 0
