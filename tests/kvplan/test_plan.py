"""`kvplan plan`: what it prints, what it writes, how it ends."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from planner.errors import BadRequest, KvplanError
from planner.options.load import clip, load_of
from planner.workloads.lengths import LengthMix
from planner.workloads.texts import mix_of, parse_rate, parse_seconds, parse_share, parse_ttft

Run = Callable[..., Any]
LENGTHS = ("--prompt", "p50=500,p95=2000", "--answer", "p50=200,p95=600")
TARGETS = ("--ttft", "1s", "--tpot", "40ms")
ANSWERED: dict[tuple[str, ...], Any] = {}
SMALL = ("plan", "gpt2", "--users", "20", "--prompt", "300", "--answer", "100", "--gpu", "l4,t4", "--as-published")
ASKED = ("plan", "llama-3.1-8b", "--users", "100", *LENGTHS, *TARGETS, "--gpu", "h100-sxm,l4")


@pytest.fixture
def plan(run: Run) -> Run:
    """`run` for a plan that several tests read: equal command lines are answered once."""

    def call(*arguments: str) -> Any:
        if arguments not in ANSWERED:
            ANSWERED[arguments] = run(*arguments)
        return ANSWERED[arguments]

    return call


# -- the page ----------------------------------------------------------------------------------------------


def test_the_page_holds_question_ranking_details_and_what_was_dropped(plan: Run) -> None:
    ended = plan(*ASKED)
    assert (ended.code, ended.err) == (0, "")
    for words in (
        "llama-3.1-8b for 100 users at once",
        "targets: TTFT 1.00 s for 95 % of requests, TPOT 40.0 ms on average",
        "USD/h",
        "Best by cost: ",
        "memory, a device",
        "the device allows no less than",
        "simulated ",
        "carries up to ",
        "median of 37 providers, 2026-05-20",
        "a million tokens at this load: prompt",
        "rated",
        "replicas of the same",
        "vllm serve ",
        "As published (weights bf16, KV bf16) the best is ",
        "candidates: ",
        "assumed: speeds: ",
    ):
        assert words in ended.out, words


def test_quantised_formats_are_marked_and_said_to_change_the_answers(plan: Run) -> None:
    out = plan(*ASKED).out
    first = next(line for line in out.splitlines() if line.startswith("1"))
    assert "fp8*" in first and "its answers change" in out
    kept = plan(*ASKED, "--as-published").out
    assert "*" not in kept.split("Best by")[0] and "As published (" not in kept


def test_top_says_how_many_rows_are_shown(plan: Run) -> None:
    assert "\n3" in plan(*ASKED).out.split("Best by")[0]
    assert "\n3" not in plan(*ASKED, "--top", "2").out.split("Best by")[0]


def test_ranks_over_pcie_are_marked(run: Run) -> None:
    out = run("plan", "llama-3.1-70b", "--users", "4", *LENGTHS, "--gpu", "l40s", "--dtype", "fp8").out
    assert "! ranks over PCIe" in out and "\n1!" in out.replace("~", "")
    assert "over PCIe" not in run(*ASKED[:-1], "h100-sxm").out


def test_an_engine_answers_in_its_own_pool(run: Run) -> None:
    ended = run(*ASKED[:-1], "l4", "--as-published", "--engine", "vllm==0.11.2", "--gpu-memory-utilization", "0.85")
    assert ended.code == 0 and "vllm's pool" in ended.out and "--gpu-memory-utilization 0.85" in ended.out
    found = run(*SMALL, "--engine", "sglang", "--json").json
    assert found["engine"] == "sglang" and found["plans"][0]["command"].startswith("python -m sglang.launch_server")


def test_a_shared_prefix_is_said_with_its_rule(run: Run) -> None:
    out = run(*ASKED, "--prefix-share", "60%").out
    assert "60 % of each prompt is one prefix of all" in out and "of it the common prefix" in out
    assert "cached 0." in out and "each decoding sequence still reads it" in out


def test_a_device_that_cannot_be_answered_is_named_and_the_others_are(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpus").mkdir()
    entry = "- name: Laptop-X\n  memory_bytes: 17179869184\n  source: [mine]\n  checked: '2026-11-22'\n"
    (tmp_path / "gpus" / "mine.yaml").write_text(entry, encoding="utf-8")
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))
    ended = run(*ASKED[:-1], "laptop-x,h100-sxm")
    assert ended.code == 0 and "not answered: Laptop-X: its memory bandwidth" in ended.out.replace(
        "FLOP/s", "memory bandwidth"
    )
    alone = run(*ASKED[:-1], "laptop-x")
    assert alone.code == 3 and "not answered: Laptop-X" in alone.out


# -- nothing meets -----------------------------------------------------------------------------------------


def test_nothing_that_meets_ends_with_3_and_the_nearest_miss(run: Run) -> None:
    ended = run("plan", "llama-3.1-8b", "--users", "10", *LENGTHS, "--tpot", "1ms", "--gpu", "l4")
    assert ended.code == 3 and "NOTHING MEETS THE TARGETS of " in ended.out
    assert "The nearest misses TPOT: " in ended.out and "% over" in ended.out
    found = run("plan", "llama-3.1-8b", "--users", "10", *LENGTHS, "--tpot", "1ms", "--gpu", "l4", "--json")
    assert found.code == 3 and found.json["nearest_miss"]["has_over_may"] > 1 and found.json["plans"] == []


def test_a_budget_that_is_too_small_says_by_how_much(run: Run) -> None:
    ended = run(*ASKED, "--budget", "0.5/h")
    assert ended.code == 3 and "the budget: " in ended.out and "against 0.50" in ended.out


def test_a_request_that_fits_nowhere_says_how_to_serve_shorter_ones(run: Run) -> None:
    one = ("plan", "llama-3.1-8b", "--users", "1", "--prompt", "120000", "--answer", "100", "--as-published")
    ended = run(*one, "--gpu", "apple-m2-pro")
    assert ended.code == 3 and "short by" in ended.out and "--longest N serves shorter requests alone" in ended.out


# -- files and machines ------------------------------------------------------------------------------------


def test_json_keeps_base_units_and_its_keys(plan: Run) -> None:
    found = plan(*ASKED, "--top", "2", "--json").json
    assert {"schema_version", "model", "load", "targets", "plans", "dropped", "points", "nearest_miss"} <= set(found)
    assert len(found["plans"]) == 2
    best = found["plans"][0]
    assert (
        best["devices"] == best["replicas"] * best["sharding"]["tp"] * best["sharding"]["pp"] * best["sharding"]["dp"]
    )
    assert best["simulated"]["tpot_seconds"] > 0 and best["changes_answers"]


def test_energy_is_power_over_output_tokens_in_text_json_csv_and_python(plan: Run) -> None:
    asked = (*ASKED, "--grid", "400g/kWh")
    found = plan(*asked, "--json").json
    first = found["plans"][0]
    assert first["device"].startswith("H100") and found["grid_grams_per_kwh"] == 400
    key = "wh_per_million_output_tokens"
    hours = 1e6 / first["output_tokens_per_s"] / 3600  # 700 W a device
    assert first[key] == pytest.approx(0.7 * 700 * first["devices"] * hours)
    assert first[f"{key}_low"] < first[key] < first[f"{key}_high"]
    assert first["co2_grams_per_million_output_tokens"] == pytest.approx(0.4 * first[key])
    text = " ".join(plan(*asked).out.split())
    assert f"energy {first[key]:.1f} Wh a million output tokens" in text and "g CO2 at 400 g/kWh" in text
    row = next(csv.DictReader(io.StringIO(plan(*asked, "--csv").out)))
    assert float(row[key]) == pytest.approx(first[key])
    gpus = ["h100-sxm", "l4"]
    lengths = {"prompt": "p50=500,p95=2000", "answer": "p50=200,p95=600", "ttft": "1s", "tpot": "40ms"}
    ours = kvplan.plan("llama-3.1-8b", users=100, gpu=gpus, grid=400, **lengths)
    assert ours["plans"][0][key] == first[key]


def test_a_plan_takes_the_worlds_mean_grid_and_refuses_what_is_none(plan: Run, run: Run) -> None:
    assert "g CO2 at 473 g/kWh" in " ".join(plan(*ASKED).out.split())
    assert "--grid '400 kg' is not grams" in run(*ASKED, "--grid", "400 kg").refused(1)


def test_a_device_that_waits_for_requests_is_said_to_draw_less(run: Run) -> None:
    asked = ("plan", "gpt2", "--prompt", "300", "--answer", "100", "--gpu", "l4", "--as-published")
    assert "part of the time nobody asks" in " ".join(run(*asked, "--rate", "0.1/s").out.split())
    assert "nobody asks" not in run(*asked, "--users", "1").out


def test_csv_has_a_row_a_plan(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run(*SMALL, "--csv", "--top", "4").out)))
    assert len(rows) == 4 and float(rows[0]["tpot_seconds"]) > 0 and rows[0]["sharding.tp"]


def test_the_answer_goes_to_a_file_and_a_plot_reads_it(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert run(*SMALL, "--json", "-o", path).out == ""
    assert json.loads(path.read_text(encoding="utf-8"))["model"] == "gpt2"


def test_a_trace_gives_lengths_and_rate(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = "".join(f"{400 + i % 7},{50 + i % 11},{i * 0.5}\n" for i in range(200))
    path.write_text("prompt,output,time\n" + rows + "0,0,bad\n", encoding="utf-8")
    found = run("plan", "gpt2", "--trace", path, *TARGETS, "--gpu", "l4", "--as-published", "--json").json
    assert found["load"]["rate_per_s"] == pytest.approx(2.0) and found["load"]["prompt_tokens_mean"] == pytest.approx(
        403, abs=1
    )
    out = run("plan", "gpt2", "--trace", path, *TARGETS, "--gpu", "l4", "--as-published").out
    assert "1 rows of the trace are left out" in out
    users = run("plan", "gpt2", "--trace", path, "--users", "5", "--gpu", "l4", "--as-published", "--json").json
    assert users["load"]["users"] == 5 and users["load"]["rate_per_s"] is None


def test_without_devices_all_that_have_a_price_are_searched(run: Run) -> None:
    found = run(
        "plan", "gpt2", "--users", "1", "--prompt", "100", "--answer", "20", "--as-published", "--top", "100", "--json"
    )
    assert {plan["price_from"] is not None for plan in found.json["plans"]} == {True}
    assert len({plan["device"] for plan in found.json["plans"]}) > 5


# -- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        ((), "which MODEL?", 2),
        (("llama-3.1-8b",), "--prompt p50=800", 2),
        (("llama-3.1-8b", *LENGTHS), "--users 200, or --rate", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--rate", "1/s"), "give one of them", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "0"), "--users '0'", 1),
        (("llama-3.1-8b", *LENGTHS, "--rate", "1/s", "--think", "5s"), "--think is the pause of --users", 2),
        (("whisper-large-v3", *LENGTHS, "--users", "1"), "a plan is of decoders", 1),
        (("llama-3.1-8b", *LENGTHS, "--rate", "-1/s"), "requests a second", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--ttft", "1"), "not a time", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--tpot", "nan"), "not a time", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--gpu", ","), "names no device", 2),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--gpu", "h1000"), "no device is called", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--sort", "speed"), "cost, devices or energy", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--price", "l4"), "NAME=PRICE", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--budget", "cheap"), "US dollars an hour", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--prefix-share", "1.5"), "not a share", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--as-published", "--dtype", "fp8"), "exclude each other", 2),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--dtype", "fp7"), "not known", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--longest", "1M"), "positions of the model", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--longest", "2"), "3 at least", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--engine", "vllm", "--kv-dtype", "q8_0"), "no KV dtype", 1),
        (("llama-3.1-8b", *LENGTHS, "--users", "1", "--max-num-seqs", "8"), "say whose", 2),
        (("llama-3.1-8b", "--trace", "none.csv", "--users", "1"), "does not exist", 1),
        (("llama-3.1-8b", "--trace", "a.csv", *LENGTHS), "leave --prompt and --answer out", 2),
        (("llama-3.1-8b", "--prompt", "100", "--answer", "1", "--users", "1"), "at least 2", 1),
        (("llama-3.1-8b", "--prompt", "p50=a", "--answer", "9", "--users", "1"), "--prompt", 1),
        (("--layers", "2", "--kv-heads", "2", "--head-dim", "8", *LENGTHS, "--users", "1"), "needs its weights", 1),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    run: Run, arguments: tuple[str, ...], words: str, code: int
) -> None:
    assert words in run("plan", *arguments).refused(code)


@given(st.text(max_size=20))
def test_no_text_breaks_the_readers_of_times_rates_and_shares(text: str) -> None:
    for read in (lambda: parse_seconds(text, "--tpot"), lambda: parse_rate(text), lambda: parse_share(text, "-s"), lambda: parse_ttft(text)):  # fmt: skip
        try:
            read()
        except KvplanError as error:
            assert isinstance(error, BadRequest) and str(error).isprintable()


@given(
    st.dictionaries(st.integers(1, 10**5), st.integers(1, 9), min_size=1, max_size=9),
    st.dictionaries(st.integers(1, 10**4), st.integers(1, 9), min_size=1, max_size=9),
    st.integers(3, 10**5),
)
def test_no_request_is_longer_than_the_longest_served(
    prompts: dict[int, int], outputs: dict[int, int], longest: int
) -> None:
    cut, short = clip(LengthMix(prompts, ""), LengthMix(outputs, ""), longest)
    assert cut.longest + short.longest <= longest or (cut.longest, short.longest) == (1, 2)
    assert (cut.total, short.total) == (sum(prompts.values()), sum(outputs.values()))


def test_a_model_without_limit_cuts_nothing() -> None:
    found = load_of({"prompt": mix_of("100k", "--prompt"), "answer": mix_of("1k", "--answer"), "users": 2}, None)
    assert found.longest_tokens == 101 * 1024


def test_what_shares_the_devices_is_in_the_ledger(run: Run) -> None:
    out = run(*ASKED, "--lora", "8xr64", "--also", "gpt2:1kx8", "--idle-sessions", "100", "--as-published").out
    assert "8 LoRA r64 " in out and "model gpt2 " in out and "idle sessions " in out
    drafted = run(*ASKED, "--drafter", "eagle3", "--as-published").out
    assert "drafter eagle3 " in drafted and "each accepted with 0.7" in drafted and "from batch" in drafted


def test_drafts_that_cost_more_than_they_save_are_said_and_their_flags_stand_in_the_command(run: Run) -> None:
    never = run(*ASKED, "--as-published", "--drafter", "eagle3", "--draft-tokens", "3", "--acceptance", "0.01").out
    said = " ".join(never.split())
    assert "costs more than it saves at every batch" in said and "better without" in said
    found = json.loads(run(*ASKED, "--as-published", "--drafter", "ngram", "--acceptance", "0.7", "--json").out)
    best = found["plans"][0]
    assert best["tokens_a_step"] == pytest.approx(1 + 0.7 + 0.7**2 + 0.7**3 + 0.7**4)
    assert '"method": "ngram"' in best["command"] and best["tpot_seconds"] >= best["tpot_seconds_bound"]


def test_drafts_that_nothing_names_are_asked_back(run: Run) -> None:
    answer = run(*ASKED, "--acceptance", "0.5")
    assert answer.code == 2 and "--draft-tokens" in answer.err


def test_two_pools_have_a_verdict_a_row_a_device_and_their_arithmetic(run: Run) -> None:
    load = ("--rate", "20", "--prompt", "4000", "--answer", "300", "--ttft", "2s", "--tpot", "25ms", "--as-published")
    ended = run("plan", "llama-3.1-70b", "--gpu", "h100-sxm", *load, "--disaggregate", "--top", "1")
    assert (ended.code, ended.err) == (0, "")
    for words in ("TWO POOLS PAY: ", "cards", "prefill pool", "decode pool", "400 Gbit/s", "start each prefill"):
        assert words in ended.out, words
