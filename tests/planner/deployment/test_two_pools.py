"""`plan --disaggregate`: two pools against the same cards that do both."""

from __future__ import annotations

import pytest

from kvplan.api import plan
from planner.catalogue.device import Device
from planner.deployment.two_pools import Beside
from planner.errors import KvplanError

LONG = {"rate": 20, "prompt": 4000, "answer": 300, "ttft": "2s", "tpot": "25ms", "as_published": True}


@pytest.fixture(scope="module")
def pays():
    return plan("llama-3.1-70b", gpu="h100-sxm", disaggregate=True, **LONG)


def test_a_tight_tpot_beside_long_prompts_pays_and_says_what_both_take(pays) -> None:
    (one,) = pays["disaggregated"]
    assert one["pays"] and one["pools"]["devices"] < one["chunked"]["devices"]
    pools = one["pools"]
    each = [pools[side]["replicas"] * pools[side]["sharding"]["tp"] for side in ("prefill", "decode")]
    assert sum(each) == pools["devices"] and pools["name"] == "{}P{}D".format(
        *(pools[side]["replicas"] for side in ("prefill", "decode"))
    )
    assert pools["simulated"]["ttft_seconds"] <= 2.0 and pools["simulated"]["tpot_seconds"] <= 0.025


def test_two_pools_pay_for_the_power_of_both(pays) -> None:
    pools = pays.two_pools[0].pools
    watts, rate = pools.devices * pools.device.tdp_watts, pools.state.rate_per_s
    found = pools.energy
    assert found.watt_hours == pytest.approx(0.7 * watts / (rate * pools.decode.question.load.output_tokens) / 3.6e-3)
    assert found.low < found.watt_hours < found.high


def test_the_link_carries_the_caches_of_the_prompts(pays) -> None:
    link = pays["disaggregated"][0]["pools"]["link"]
    # the rank with most of a prompt's 1.31 GB (320 KiB a token), at 87 % of 50 GB/s
    seconds = link["prompt_bytes_mean"] / (0.87 * 50e9)
    assert link["transfer_seconds_mean"] == pytest.approx(seconds, rel=1e-3)
    assert link["prompt_bytes_mean"] in {320 * 1024 * 4000 // tp for tp in (1, 2, 4, 8)}


def test_start_commands_say_their_role(pays) -> None:
    pools = pays["disaggregated"][0]["pools"]
    assert "kv_producer" in pools["prefill"]["command"] and "kv_consumer" in pools["decode"]["command"]
    one = plan(
        "llama-3.1-8b", gpu="l4", rate=2, prompt=1000, answer=100, engine="sglang", as_published=True, disaggregate=True
    )
    pools = one["disaggregated"][0]["pools"]
    assert pools["prefill"]["command"].endswith("--disaggregation-mode prefill")
    assert pools["decode"]["command"].endswith("--disaggregation-mode decode")


def test_where_one_card_does_both_two_pools_do_not_pay() -> None:
    answer = plan("llama-3.1-8b", gpu="l4", users=20, prompt=500, answer=300, as_published=True, disaggregate=True)
    (one,) = answer["disaggregated"]
    assert not one["pays"] and one["pools"]["devices"] >= 2 > one["chunked"]["devices"]


def test_a_slow_link_takes_its_time_out_of_ttft() -> None:
    fast, slow = (
        plan(
            "llama-3.1-8b",
            gpu="h100-sxm",
            rate=2,
            prompt=4000,
            answer=100,
            as_published=True,
            disaggregate=True,
            link=link,
        )
        for link in ("nvlink", "25gbe")
    )
    times = [one["disaggregated"][0]["pools"]["ttft_seconds_mean"] for one in (fast, slow)]
    assert times[1] - times[0] > 0.18  # 524 MB at 2.7 GB/s


def test_two_pools_that_take_as_many_cards_do_not_pay() -> None:
    assert not Beside(Device("x", 0, (), None), None, None).pays


def test_a_device_without_the_link_is_answered_why_not() -> None:
    answer = plan(
        "llama-3.1-8b", gpu="l4", rate=2, prompt=500, answer=100, as_published=True, disaggregate=True, link="nvlink"
    )
    assert "no such link" in answer["disaggregated"][0]["why_not"] and answer.exit_code == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"engine": "llamacpp", "disaggregate": True}, "llamacpp has no pools"),
        ({"link": "400g"}, "disaggregate"),
        ({"link": "carrier pigeon", "disaggregate": True}, "is not a link"),
    ],
)
def test_what_cannot_be_asked_is_refused(more: dict, words: str) -> None:
    with pytest.raises(KvplanError, match=words):
        plan("llama-3.1-8b", gpu="l4", rate=2, prompt=500, answer=100, **more)
