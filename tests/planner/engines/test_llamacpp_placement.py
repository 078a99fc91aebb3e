"""llama.cpp's layers on cards and host: every byte lies somewhere, and the flags move what they say."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from planner.catalogue.entries import find_model
from planner.engines import llamacpp
from planner.engines.base import Options
from planner.engines.llamacpp_placement import CONTEXT_BYTES, Sizes, best, placed, sizes
from planner.engines.llamacpp_setting import settings
from planner.engines.placement import Placement
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.readers import read_entry
from planner.units import GIB, MIB
from tests.kvplan.test_own_names import run

CARDS = (24 * GIB, 12 * GIB)
LOGGED = Path(__file__).parents[2] / "cases" / "llamacpp" / "cards.tsv"
LOGS = list(
    csv.DictReader(
        (line for line in LOGGED.read_text().splitlines() if not line.startswith("#")),
        delimiter="\t",
        quoting=csv.QUOTE_NONE,
    )
)


def whole(name: str, dtype: str = "q8_0", tokens: int = 8192) -> Estimate:
    return estimate(read_entry(find_model(name)), Request(tokens, dtype=dtype))


def sized(name: str, cards: tuple[int, ...] = CARDS, version: str | None = None) -> Sizes:
    found = whole(name)
    return sizes(found, settings(found, Options(), version, program="llamacpp"), compute=0, cards=cards)


MOE, DENSE, TIED = sized("qwen3-30b-a3b"), sized("llama-3.1-8b"), sized("gemma-3-27b")


@given(
    st.sampled_from((MOE, DENSE, TIED)),
    st.builds(
        Placement,
        layers=st.one_of(st.none(), st.integers(0, 80)),
        expert_layers=st.integers(-1, 60),
        ffn_layers=st.integers(0, 60),
        overrides=st.sampled_from(((), ("exps=CPU",), (r"blk\.[0-9]\.attn=CPU",))),
        cache_on_host=st.booleans(),
        split=st.sampled_from(("layer", "row", "none")),
        shares=st.sampled_from(((), (3.0, 1.0))),
    ),
)
def test_every_byte_lies_on_a_card_or_on_the_host(found: Sizes, placement: Placement) -> None:
    where = placed(found, placement)
    weights = (
        sum(sum(one.parts.values()) + one.rest for one in found.layers) + found.head + found.embedding + found.tower
    )
    copy = found.embedding if found.tied and where.head_on_cards else 0
    assert abs(where.device_weight_bytes + where.host_weight_bytes - weights - copy) < 8
    cache = sum(one.cache for one in found.layers)
    assert abs(sum(card.cache_bytes for card in where.cards) + where.host_cache_bytes - cache) < len(found.layers)
    assert where.token_bytes[0] <= where.device_weight_bytes + 8


def test_a_card_gets_layers_by_its_memory_and_the_head_is_one_of_them() -> None:
    """36 layers and a head over 24 and 12 GiB: layer i goes to the second card from i / 37 >= 2 / 3 on, i = 25."""
    found = sized("qwen3-8b")
    where = placed(found, Placement())
    assert where.cards[0].cache_bytes == 25 * found.layers[0].cache
    assert where.cards[1].cache_bytes == 11 * found.layers[0].cache and where.head_on_cards
    halves = placed(found, Placement(shares=(1.0, 1.0)))
    assert halves.cards[0].cache_bytes == 19 * found.layers[0].cache


def test_the_head_is_the_first_of_ngl_since_december_2025() -> None:
    """llama.cpp PR 18148: -ngl 1 is the head; before it was the last layer, and the head came when all layers were there."""
    new, old = (placed(sized("qwen3-8b", version=version), Placement(layers=1)) for version in ("b8000", "b7000"))
    assert (new.layers_on_cards, new.head_on_cards) == (0, True)
    assert (old.layers_on_cards, old.head_on_cards) == (1, False)
    none = placed(sized("qwen3-8b"), Placement(layers=0))
    assert (none.layers_on_cards, none.head_on_cards) == (0, False)


def test_the_embedding_stays_on_the_host_and_a_tied_head_is_a_copy() -> None:
    """Llama-3.1-8B in Q8_0: 128,256 x 4,096 numbers, 34 bytes for 32 of them, beside the card (llama.cpp: dev_input is the CPU)."""
    table = 128_256 * 4096 * 34 // 32
    assert placed(DENSE, Placement()).host_weight_bytes == table
    assert not placed(DENSE, Placement()).split
    assert (
        placed(TIED, Placement()).device_weight_bytes + TIED.embedding - TIED.tower
        == sum(sum(one.parts.values()) for one in TIED.layers) + TIED.head + 2 * TIED.embedding
    )


def test_experts_leave_the_cards_before_layers_do() -> None:
    everything = placed(MOE, Placement())
    room = tuple(card.bytes for card in everything.cards)
    tight = sized("qwen3-30b-a3b", (room[0] - 1, room[1]))
    chosen = best(tight, Placement(shares=(2.0, 1.0)))
    assert chosen is not None and chosen.layers is None and chosen.expert_layers >= 1
    small = sized("qwen3-30b-a3b", (2 * GIB,))
    least = best(small, Placement())
    assert least is not None and least.expert_layers == -1 and least.layers is not None
    assert placed(small, least).short_bytes <= 0
    assert best(sized("qwen3-30b-a3b", (CONTEXT_BYTES - 1,)), Placement()) is None


def test_the_first_pattern_that_matches_decides() -> None:
    """-ot 'blk.[0-9].*exps=CUDA1,exps=CPU': experts of ten layers lie on the second card, whatever card their layer is on."""
    text = r"blk\.[0-9]\.ffn_.*_exps=CUDA1,exps=CPU"
    both, plain = placed(MOE, Placement(overrides=(text,))), placed(MOE, Placement(overrides=("exps=CPU",)))
    ten = sum(one.parts["experts"] for one in MOE.layers[:10])
    assert abs(both.cards[1].weight_bytes - plain.cards[1].weight_bytes - ten) < 8
    assert both.cards[0].weight_bytes == plain.cards[0].weight_bytes
    assert abs(plain.host_weight_bytes - both.host_weight_bytes - ten) < 8


def test_a_pattern_that_is_not_read_is_named() -> None:
    found = llamacpp.answer(
        whole("qwen3-30b-a3b"), Options(placement=Placement(overrides=("exps=RPC[10.0.0.2:50052]",))), None
    )
    assert any("RPC" in line and "not read" in line for line in found.assumptions)


def test_what_a_token_reads_counts_active_experts_alone() -> None:
    """Qwen3-30B-A3B reads 8 of 128 experts: 48 x 3 x 8 x 2048 x 768 numbers of them on the host with --cpu-moe."""
    where = placed(MOE, Placement(expert_layers=-1))
    assert where.token_bytes[1] == pytest.approx(48 * 3 * 8 * 2048 * 768 * 34 / 32, rel=1e-6)
    assert where.most_tokens_per_s(1e15, 40e9) == pytest.approx(40e9 / where.token_bytes[1], rel=1e-3)


def test_the_refusal_names_flags_that_start_it() -> None:
    card = Capacity("RTX-3090", 23 * GIB)
    found = estimate(read_entry(find_model("qwen3-30b-a3b")), Request(8192, dtype="q8_0"), card)
    refused = llamacpp.answer(found, Options(), None)
    assert refused.refusal is not None and len(refused.refusal.mends) == 2
    for mend in refused.refusal.mends:
        flag, number = mend.split()
        field = {"--n-cpu-moe": "expert_layers", "--n-gpu-layers": "layers"}[flag]
        assert llamacpp.answer(found, Options(placement=Placement(**{field: int(number)})), None).fits  # type: ignore[arg-type]
    split = llamacpp.answer(found, Options(host_bytes=64 * GIB), None)
    assert split.fits and split.placed is not None and split.placed.placement.expert_layers > 0
    assert llamacpp.answer(found, Options(host_bytes=GIB), None).fits is False


def test_two_alike_cards_hold_what_one_of_twice_the_size_does_not_need() -> None:
    found = estimate(
        read_entry(find_model("llama-3.1-70b")),
        Request(8192, dtype="q4_k_m", sharding=Sharding(pp=2)),
        Capacity("c", 24 * GIB),
    )
    where = llamacpp.answer(found, Options(), None).placed
    assert where is not None and [card.capacity_bytes for card in where.cards] == [24 * GIB] * 2
    assert abs(where.cards[0].bytes - where.cards[1].bytes) < GIB


def test_fit_says_how_many_slots_and_which_context(capsys: pytest.CaptureFixture[str]) -> None:
    """Llama-3.1-8B keeps 128 KiB a token in f16: 8 slots of 8,192 are 8 GiB beside the weights."""
    line = "fit llama-3.1-8b --dtype q8_0 --gpu 3090 --engine llamacpp"
    found = json.loads(run(capsys, f"{line} --seq 8k --json")[1])
    most = found["most_sequences"]
    engine = found["engine"]
    assert most == (23.58 * GIB - engine["cards"][0]["weight_bytes"] - engine["cards"][0]["other_bytes"]) // GIB
    assert (engine["slots"], engine["ctx_size"], found["kv_dtype"]) == (most, 8192 * most, "f16")
    assert f"-c {8192 * most} -np {most}" in run(capsys, f"{line} --seq 8k")[1]
    rows = {row["seq_tokens"]: row["most_sequences"] for row in found["by_length"]}
    assert rows[32768] == most // 4 and most * 2 <= rows[4096] <= most * 2 + 1
    given = json.loads(run(capsys, f"{line} --ctx-size 64k -np 4 --json")[1])
    assert (given["most_sequences"], given["seq_tokens"]) == (4, 16384)


def test_unlike_cards_are_filled_by_their_memory(capsys: pytest.CaptureFixture[str]) -> None:
    line = "qwen3-30b-a3b --dtype q4_k_m --gpu 3090+3060 --engine llamacpp --seq 8k --json"
    for command in ("estimate", "fit"):
        code, out, _ = run(capsys, f"{command} {line}")
        cards = json.loads(out)["engine"]["cards"]
        assert code == 0 and 1.9 < cards[0]["weight_bytes"] / cards[1]["weight_bytes"] < 2.3
    checked = json.loads(
        run(capsys, "check --gpu 3090+3060 --json -- llama-server -m Qwen3-30B-A3B-Q4_K_M.gguf -c 8192 -np 1 -ngl 99")[
            1
        ]
    )
    assert checked["engine_answer"]["cards"] == json.loads(run(capsys, f"estimate {line}")[1])["engine"]["cards"]


def test_host_memory_is_taken_where_it_counts(capsys: pytest.CaptureFixture[str]) -> None:
    for engine in ("", " --engine vllm"):
        code, out, err = run(capsys, f"estimate qwen3-8b --gpu 3090 --seq 8k --host-memory 64GiB{engine}")
        assert code == 2 and not out and "--engine llamacpp" in err and err.count("\n") == 1
    line = "estimate llama-3.1-70b --dtype q4_k_m --gpu 3090 --engine llamacpp --seq 8k --json"
    assert run(capsys, line)[0] == 3 and run(capsys, f"{line} --host-memory 8GiB")[0] == 3
    code, out, _ = run(capsys, f"{line} --host-memory 64GiB")
    split = json.loads(out)["engine"]
    assert code == 0 and split["placement"].startswith("--n-gpu-layers")
    assert split["tokens_per_s_most_low"] < split["tokens_per_s_most_high"]


@pytest.mark.parametrize(
    "flags, said",
    [
        ("-ts 0,0", "gives no device a share"),
        ("-ts a,b", "is not a list of shares"),
        ("-ts 1,1,1", "names 3 shares and there are 1 devices"),
        ("-ot exps", "is not REGEX=BUFFER"),
        ("-ot ffn=CUDA3", "names device 3 and there are 1"),
        ("--n-cpu-moe -3", "--n-cpu-moe"),
        ("--n-gpu-layers x", "--n-gpu-layers"),
    ],
)
def test_wrong_placements_are_asked_back(capsys: pytest.CaptureFixture[str], flags: str, said: str) -> None:
    code, out, err = run(capsys, f"estimate qwen3-8b --engine llamacpp --gpu 3090 -c 8192 {flags}")
    assert code in (1, 2) and not out and said in err and err.count("\n") == 1


def test_fit_deals_as_many_layers_to_each_card_as_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    """gpt-oss-120b on two 5090 runs with --n-cpu-moe 3 (llama.cpp PR 15077); by equal shares the first card stays half empty."""
    line = "check --gpu 2x5090 --json -- llama-server -hf ggml-org/gpt-oss-120b-GGUF --ctx-size 131072"
    code, out, _ = run(capsys, line)
    assert code == 0 and any("--n-cpu-moe 3," in note for note in json.loads(out)["notes"])


@given(st.integers(-1, 60), st.integers(0, 60), st.sampled_from(["qwen3-30b-a3b", "llama-3.1-8b"]))
def test_dealt_layers_are_all_of_them(experts: int, layers: int, name: str) -> None:
    found = sized(name)
    plain = Placement(layers=layers, expert_layers=experts)
    dealt = placed(found, Placement(layers=layers, expert_layers=experts, fill=True))
    there = placed(found, plain)
    assert sum(card.weight_bytes + card.cache_bytes for card in dealt.cards) == pytest.approx(
        sum(card.weight_bytes + card.cache_bytes for card in there.cards), abs=8
    )
    assert (dealt.host_bytes, dealt.layers_on_cards) == (there.host_bytes, there.layers_on_cards)


@pytest.mark.parametrize("row", LOGS, ids=[row["id"] for row in LOGS])
def test_cards_hold_what_public_logs_say(row: dict[str, str]) -> None:
    """Weights of each card, and behind them those of the host, and the cache of each card, of tests/cases/llamacpp/cards.tsv."""
    found = kvplan.check(row["command"], gpu=row["gpu"]).placed
    assert found is not None
    ours = [*(card.weight_bytes for card in found.cards), found.host_weight_bytes]
    for logged, size in zip(map(float, row["model"].split()), ours, strict=False):
        assert abs(size / MIB / logged - 1) <= float(row["within"]) / 100, (logged, size / MIB)
    for logged, card in zip(map(float, row["context"].split()), found.cards, strict=False):
        assert abs(card.cache_bytes / MIB - logged) <= 1.5


def test_a_file_by_name_is_refused_for_sure_where_the_least_such_file_is_too_large() -> None:
    """gemma-4-31B-it-UD-Q6_K_XL takes 26.4 GiB as a sum, and 12 % less as published files go."""
    sure = []
    for memory in ("27.5GiB", "24GiB"):
        command = "llama-server -m gemma-4-31B-it-UD-Q6_K_XL.gguf -c 4096 -np 1 -ngl 99"
        refusal = kvplan.check(command, memory=memory).engine.refusal
        sure.append(refusal is not None and refusal.sure)
    assert sure == [False, True]
