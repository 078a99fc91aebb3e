"""Trace files: the public formats, what a bad row is, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadConfig, BadRequest
from planner.workloads.arrivals import (
    cached_tokens,
    drawn,
    exponential_ps,
    poisson_ps,
    replayed,
    speed_up_to,
    synthetic,
)
from planner.workloads.lengths import LengthMix, from_percentiles
from planner.workloads.traces import read_trace

# First rows of AzureLLMInferenceTrace_conv.csv, Azure/AzurePublicDataset, CC-BY 4.0 (Patel et al., Splitwise, ISCA 2024).
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
# Rows in the form of FAST25-release/traces/conversation_trace.jsonl, kvcache-ai/Mooncake, Apache-2.0.
MOONCAKE = """{"timestamp": 0, "input_length": 1100, "output_length": 500, "hash_ids": [0, 1, 2]}
{"timestamp": 0, "input_length": 700, "output_length": 490, "hash_ids": [0, 14]}
{"timestamp": 27000, "input_length": 1024, "output_length": 794, "hash_ids": [0, 28]}
"""
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n118,GPT-4,417,276,693,Conversation log\n"
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.314579,396,109\n"
S = 10**12


def written(folder: Path, text: str | bytes, name: str = "trace") -> str:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("text", "name", "times", "pairs"),
    [
        (AZURE, "Azure", [0, 4_314_579_000_000, 4_541_877_000_000], [(374, 44), (396, 109), (879, 55)]),
        (MOONCAKE, "Mooncake", [0, 0, 27 * S], [(1100, 500), (700, 490), (1024, 794)]),
        (BURST, "BurstGPT", [0, 113 * S], [(472, 18), (417, 276)]),
        (VIDUR, "Vidur", [0, 4_314_579_000_000], [(374, 44), (396, 109)]),
        ("prompt,output,time\n10,20,100.25\n30,40,101\n", "plain", [0, 3 * S // 4], [(10, 20), (30, 40)]),
        ("10,20,1\n30,40,1\n", "plain", [0, 0], [(10, 20), (30, 40)]),
        ("10,20\n30,40\n", "plain", [], [(10, 20), (30, 40)]),
        ("\ufeffTime , Prompt_Tokens,completion_tokens,user\r\n1e1,10,20,a\r\n\r\n11,30,40,b\r\n", "plain", [0, S], [(10, 20), (30, 40)]),
        ('{"prompt": 10, "output": 20, "timestamp": 1700000000.5}\n{"output": 40, "timestamp": 1700000001, "prompt": 30}', "plain", [0, S // 2], [(10, 20), (30, 40)]),
        ("ContextTokens,GeneratedTokens,TIMESTAMP\n1,2,2024-05-10 23:59:59.5+00:00\n3,4,2024-05-11T02:00:00+02:00\n", "Azure", [0, S // 2], [(1, 2), (3, 4)]),
    ],
)  # fmt: skip
def test_the_public_formats_are_read(tmp_path, text, name, times, pairs):
    trace = read_trace(written(tmp_path, text))
    assert (trace.format, list(trace.time_ps), list(trace.pairs())) == (name, times, pairs)


def test_hash_ids_stay_with_their_requests(tmp_path):
    trace = read_trace(written(tmp_path, MOONCAKE))
    assert [trace.hash_ids(row) for row in range(3)] == [(0, 1, 2), (0, 14), (0, 28)]
    assert read_trace(written(tmp_path, AZURE)).hash_ids(1) == ()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("x,1,1", "line 3: 'x' is not a length"), ("-5,1,1", "is not a length"), ("1.5,1,1", "is not a length"),
        ("0,5,1", "0 prompt and 5 output"), ("5,0,1", "5 prompt and 0 output"), ("5,5", "2 columns, its header 3"),
        ("5,5,soon", "'soon' is not a time"), ("5,5,-1", "is not a time"), ("5,5,nan", "is not a time"), ("5,5,", "is not a time"),
        ("5,5,2023-13-01 00:00:00", "is not a date"), ("5,5,2023-01-01 25:00:00", "is not a time of day"),
        ('{"prompt": 5}', "no columns of prompts"), ("{broken", "is not JSON"), ('{"prompt": 5, "output": 5}', "has no time"),
        ('{"prompt": 5, "output": 5, "time": 1, "hash_ids": "x"}', "hash_ids"), ('{"prompt": 5, "output": 5, "time": 1, "hash_ids": [1, 2]}', "hash_ids"),
        ('{"prompt": true, "output": 5, "time": 1}', "is not a length"), ('{"prompt": 5, "output": 5, "time": true}', "is not a time"),
        ('{"prompt": 5, "output": 5, "time": 1, "hash_ids": [1.5]}', "hash_ids"), ("99999999999,5,1", "is not a length"),
    ],
)  # fmt: skip
def test_a_bad_row_is_left_out_counted_and_named(tmp_path, bad, words):
    trace = read_trace(written(tmp_path, f"prompt,output,time\n10,20,0\n{bad}\n30,40,2\n"))
    assert list(trace.pairs()) == [(10, 20), (30, 40)] and list(trace.time_ps) == [0, 2 * S]
    assert trace.bad_rows == 1 and trace.bad_words[0].startswith("line 3") and words in trace.bad_words[0]


def test_only_the_first_bad_rows_are_named_but_all_are_counted(tmp_path):
    trace = read_trace(written(tmp_path, "prompt,output\n" + "x,1\n" * 100 + "1,1\n"))
    assert (trace.bad_rows, len(trace.bad_words), len(trace)) == (100, 3, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no requests"), ("prompt,output\n", "holds no requests"), ("prompt,output\nx,1\n", "'x' is not a length"),
        ("tokens\n5\n", "no columns of prompts"), ("5\n6\n", "1 columns and no header"), ("1,2,3,4\n", "4 columns and no header"),
        ("prompt,output,time\n1,1,5\n1,1,4\n", "line 3 is earlier"), ("prompt,output,time\n1,1,0\n1,1,9e9\n", "104 days"),
        ("prompt,prompt,output\n1,1,1\n", "two columns 'prompt'"), (b"\xff\xfe\x00\x01", "not text"), ("1" * (1 << 21), "too long"),
        (AZURE.replace(",44", ",44\x00"), ""),
    ],
)  # fmt: skip
def test_a_file_that_is_no_trace_is_refused_in_one_line(tmp_path, text, words):
    if not words:  # a NUL in a cell is a bad row, not the end
        assert read_trace(written(tmp_path, text)).bad_rows == 1
        return
    with pytest.raises(BadConfig, match=words) as caught:
        read_trace(written(tmp_path, text))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_what_is_no_regular_file_is_refused(tmp_path):
    for path in (str(tmp_path), str(tmp_path / "missing"), "/dev/zero", "nul\0byte", ""):
        with pytest.raises(BadConfig, match="--trace"):
            read_trace(path)


def test_the_first_rows_alone_are_read_where_no_more_are_wanted(tmp_path):
    assert len(read_trace(written(tmp_path, AZURE + "broken"), 2)) == 2


TEXTS = st.text(st.sampled_from('0123456789,.:-{}[]"\n eEprompt_utlis\x00é٣'), max_size=300)


@settings(max_examples=200, deadline=None)
@given(
    text=TEXTS, header=st.sampled_from(["", "prompt,output\n", "prompt,output,time\n", '{"prompt": 1, "output": 1}\n'])
)
def test_any_text_is_a_trace_or_refused(tmp_path_factory, text, header):
    try:
        trace = read_trace(written(tmp_path_factory.mktemp("any"), header + text))
    except BadConfig as error:
        assert str(error).isprintable()
    else:
        assert all(prompt > 0 and output > 0 for prompt, output in trace.pairs())
        assert list(trace.time_ps) == sorted(trace.time_ps)


def test_a_trace_is_replayed_at_its_times_faster_and_again(tmp_path):
    trace = read_trace(written(tmp_path, MOONCAKE))
    assert [a.time_ps for a in replayed(trace)] == [0, 0, 27 * S]
    assert [a.time_ps for a in replayed(trace, speed_up=Fraction(2))] == [0, 0, 27 * S // 2]
    # again one mean gap (27 s / 2) after its end
    assert [a.time_ps for a in replayed(trace, 5)] == [0, 0, 27 * S, 81 * S // 2, 81 * S // 2]
    assert next(replayed(trace)).hash_ids == (0, 1, 2)


def test_a_rate_is_reached_by_the_times_of_the_trace(tmp_path):
    trace = read_trace(written(tmp_path, AZURE))
    assert trace.rate_per_s == pytest.approx(2 / 4.541877)
    times = [a.time_ps for a in replayed(trace, speed_up=speed_up_to(trace, 10.0))]
    assert times[-1] == pytest.approx(S / 5, rel=1e-6)
    assert times[1] / times[2] == pytest.approx(4.314579 / 4.541877, rel=1e-6)


def test_a_trace_without_times_needs_a_rate(tmp_path):
    trace = read_trace(written(tmp_path, "10,20\n30,40\n"))
    with pytest.raises(BadRequest, match="no times"):
        list(replayed(trace))
    with pytest.raises(BadRequest, match="one time"):
        speed_up_to(trace, 1.0)
    assert [a.time_ps for a in replayed(trace, rate_per_s=5.0)] == list(islice(poisson_ps(5.0, 1), 2))
    assert [a.time_ps for a in replayed(trace, timed=False)] == [0, 0]


def test_poisson_times_have_their_rate_and_spread():
    times = list(islice(poisson_ps(4.0, 3), 20_000))
    gaps = [(b - a) / S for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.25, rel=0.03)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(
        mean**2, rel=0.06
    )  # exponential: sd = mean


def test_drawn_lengths_follow_their_mix():
    mix = from_percentiles("p50=800,p95=6000")
    lengths = sorted(islice(drawn(mix, 1, "prompts"), 20_000))
    assert lengths[10_000] == pytest.approx(800, rel=0.05)
    assert lengths[19_000] == pytest.approx(6000, rel=0.08)
    few = list(islice(drawn(LengthMix({1: 1, 9: 3}, ""), 1, "x"), 4000))
    assert few.count(9) / len(few) == pytest.approx(0.75, abs=0.03)


def test_another_rate_has_the_same_lengths_and_another_seed_others():
    mix = from_percentiles("p50=800,p95=6000")

    def pairs(rate, seed):
        return [arrival[1:3] for arrival in synthetic(mix, mix, 50, rate_per_s=rate, seed=seed)]

    assert pairs(1.0, 1) == pairs(7.0, 1) != pairs(1.0, 2)


def test_no_pause_is_no_pause():
    assert list(islice(exponential_ps(0.0, 1, "pauses"), 3)) == [0, 0, 0]


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_a_stated_share_is_whole_blocks_and_leaves_a_token_to_compute(prompt, share):
    found = cached_tokens(prompt, share)
    assert found % 16 == 0 and 0 <= found < prompt and found <= share * prompt + 1e-6


def test_the_issue_trace_examples_round_trip_through_json(tmp_path):
    rows = [{"timestamp": 1000 * i, "input_length": 600, "output_length": 5, "hash_ids": [i, i + 1]} for i in range(4)]
    trace = read_trace(written(tmp_path, "\n".join(map(json.dumps, rows))))
    assert [(a.time_ps, a.prompt_tokens, a.output_tokens, a.hash_ids) for a in replayed(trace)] == [
        (i * S, 600, 5, (i, i + 1)) for i in range(4)
    ]
