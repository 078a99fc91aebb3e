"""Layers and experts in host memory: read there, one after the other, and copied to the card for a prompt."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.cli import main
from planner.catalogue.entries import find_device, find_model
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.readers import read_entry
from planner.speed.constants import constants_for
from planner.speed.host import Host
from planner.speed.passes import decode_pass, rates_of
from planner.speed.speed import Speed, speed
from planner.speed.work import work

RTX_4090, RYZEN = find_device("rtx-4090"), find_device("ryzen-9-5950x")


def mixture() -> Estimate:
    return estimate(read_entry(find_model("qwen3-30b-a3b")), Request(1024, dtype="q8_0"))


def host(answer: Estimate, share: float, **changed: float) -> Host:
    made = Host(
        RYZEN.name, 0.0, share, 0.0, share * 30_802_968_576, 0.0, round(48 * share),
        rates_of(RYZEN, answer), constants_for("llamacpp", RYZEN, "static"),
    )  # fmt: skip
    return replace(made, **changed)


def asked(answer: Estimate, part: Host | None, prompt: int = 512) -> Speed:
    return speed(
        answer, RTX_4090, prompt_tokens=prompt, output_tokens=128, batch=1, load="static", engine="llamacpp", host=part
    )


def test_a_token_waits_for_the_host_to_read_the_experts_that_it_hits() -> None:
    """All experts of qwen3-30b-a3b in q8_0, 8 of 128 a token: 1.93 GB at 51.2 GB/s is 37.6 ms, whatever the card does."""
    answer = mixture()
    found = asked(answer, host(answer, 1.0))
    assert found.tpot_parts["host"] >= 30_802_968_576 * 8 / 128 / 51.2e9
    assert found.tpot_seconds.bound >= 0.0375
    assert found.tpot_parts["host"] > 0.6 * found.tpot_seconds.value


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_more_on_the_host_is_never_faster(a: float, b: float) -> None:
    answer = mixture()
    less, more = sorted((a, b))
    first, second = (asked(answer, host(answer, share)) for share in (less, more))
    assert first.tpot_seconds.value <= second.tpot_seconds.value + 30e-6  # a hand-over is whole
    assert first.ttft_seconds.value <= second.ttft_seconds.value
    assert first.tpot_seconds.bound <= first.tpot_seconds.value


def test_each_piece_of_a_prompt_copies_the_hosts_weights_over_pcie() -> None:
    """PCIe 4 x16 carries 31.5 GB/s: half of the experts, 15.4 GB, takes at least 0.489 s for each 512 tokens."""
    answer = mixture()
    for prompt, pieces in ((512, 1), (2048, 4)):
        more = (
            asked(answer, host(answer, 0.5), prompt).ttft_seconds.value - asked(answer, None, prompt).ttft_seconds.value
        )
        assert more / pieces == pytest.approx(15_401_484_288 / 31.5e9 / 0.75, rel=0.35)
        assert more / pieces > 0.489


def test_a_host_that_nobody_named_has_the_range_of_host_memories() -> None:
    named = kvplan.speed("qwen3-30b-a3b", gpu="rtx-4090", engine="llamacpp", dtype="q8_0", flags={"cpu_moe": True},
                         batch=1, prompt=512, answer=64, host="ryzen-9-7950x")  # fmt: skip
    usual = kvplan.speed("qwen3-30b-a3b", gpu="rtx-4090", engine="llamacpp", dtype="q8_0", flags={"cpu_moe": True},
                         batch=1, prompt=512, answer=64)  # fmt: skip
    spread = [found.speeds[0].tpot_seconds.high / found.speeds[0].tpot_seconds.low for found in (named, usual)]
    assert spread[1] > 1.5 * spread[0]
    assert any("40 to 80" in note for note in usual.notes) and any("Ryzen-9-7950X" in note for note in named.notes)


def test_nothing_on_the_host_changes_nothing() -> None:
    plain = kvplan.speed("llama-3.1-8b", gpu="rtx-4090", engine="llamacpp", dtype="q8_0", batch=1)
    all_there = kvplan.speed(
        "llama-3.1-8b", gpu="rtx-4090", engine="llamacpp", dtype="q8_0", flags={"n_gpu_layers": 99}
    )
    assert plain.speeds[0].tpot_seconds == all_there.speeds[0].tpot_seconds
    some = kvplan.speed("llama-3.1-8b", gpu="rtx-4090", engine="llamacpp", dtype="q8_0", flags={"n_gpu_layers": 16})
    assert some.speeds[0].tpot_seconds.value > 2 * plain.speeds[0].tpot_seconds.value


@pytest.mark.parametrize(("gpu", "said"), [("h100-sxm", "not a processor"), ("ryzen-9-7950x", "llama.cpp keeps")])
def test_a_host_is_a_processor_beside_llama_cpp(gpu: str, said: str) -> None:
    engine = "llamacpp" if gpu == "h100-sxm" else "vllm"
    with pytest.raises(kvplan.KvplanError, match=said):
        kvplan.speed("llama-3.1-8b", gpu="rtx-4090", engine=engine, host=gpu)


def test_larger_pieces_copy_the_host_less_often() -> None:
    """--ubatch-size 2048: a prompt of 2,048 tokens is one piece in place of four, with one copy of what lies on the host."""
    first = [
        kvplan.speed("qwen3-30b-a3b", gpu="rtx-4090", engine="llamacpp", dtype="q8_0", prompt=2048, answer=16,
                     load="static", flags={"cpu_moe": True} | ({"ubatch_size": 2048} if large else {})).speeds[0].ttft_seconds.value
        for large in (False, True)
    ]  # fmt: skip
    assert 2 < first[0] / first[1] < 4


def test_what_is_said_of_drafts_and_pieces_is_of_a_model_that_is_partly_on_the_host(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """16 of 32 layers on the card: a step of five tokens computes on the processor, which no step of one does."""
    words = "speed llama-3.1-8b --gpu rtx-4090 --engine llamacpp --dtype q4_k_m --num-speculative-tokens 4 --drafter ngram --batch 1"
    with pytest.raises(SystemExit):
        main([*words.split(), "--json", "-ngl", "16", "--ubatch-size", "2048"])
    there = " ".join(json.loads(capsys.readouterr().out)["notes"])
    with pytest.raises(SystemExit):
        main([*words.split(), "--json"])
    card = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert "each piece of 2,048 tokens copies" in there and "from batch 4 on" in there
    assert "saves time at every batch" in card


@pytest.mark.parametrize("layers", [0, 1, 20])
def test_no_part_of_a_step_is_negative(layers: int) -> None:
    found = kvplan.speed(
        "qwen3-30b-a3b", gpu="rtx-4090", engine="llamacpp", dtype="q8_0", flags={"n_gpu_layers": layers}
    )
    assert all(seconds > 0 for seconds in found.speeds[0].tpot_parts.values())


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_what_the_card_and_the_host_do_is_the_step(experts: float, layers: float) -> None:
    """The card launched the kernels of all routed layers, though the host computes the experts of some."""
    answer = mixture()
    part = host(answer, experts, layers=layers, dense_share=layers, cache_share=layers)
    step = decode_pass(work(answer), rates_of(RTX_4090, answer), 1, first_tokens=512, last_tokens=640)
    card, there = part.on_card(step), part.on_host(step)
    for name in ("layers", "routed_layers", "weight_seconds", "expert_seconds", "cache_seconds", "compute_seconds"):
        assert getattr(card, name) + getattr(there, name) == pytest.approx(getattr(step, name))
