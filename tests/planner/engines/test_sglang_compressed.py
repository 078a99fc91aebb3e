"""DeepSeek-V4's compressed past in SGLang: figures that servers printed, bytes worked out by hand, what always holds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvplan.cli import main
from planner.engines import sglang
from planner.engines.base import EngineAnswer, Options
from planner.engines.sglang_compressed import stale_scales
from planner.errors import BadRequest, UnsupportedModel
from planner.lookup import device, model_spec
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request, device_capacity
from planner.memory.sharding import Sharding
from planner.units import GIB

FLASH, PRO = "deepseek-v4-flash", "deepseek-v4-pro"
RELEASES = ("0.5.12", "0.5.13", "0.5.15", "0.5.20", "0.5.21", "0.5.23")


def asked(model: str = FLASH, tokens: int = 8192, dtype: str | None = None, **sharding: int) -> Estimate:
    return estimate(model_spec(model), Request(tokens, k_dtype=dtype, v_dtype=dtype, sharding=Sharding(**sharding)))


def answer(version: str | None, size: int, found: Estimate | None = None, **options: Any) -> EngineAnswer:
    return sglang.answer(found or asked(), Options(pool_bytes=size, **options), version)


def tokens(version: str | None, size: int, found: Estimate | None = None, **options: Any) -> int:
    ranged = answer(version, size, found, **options).ranged
    assert ranged is not None
    return ranged.pool.tokens


def test_the_memory_and_tokens_of_a_server_are_those_of_v4_pro() -> None:
    """4.13 GB left (4.125 to 4.135) and 186,368 tokens; V4-Flash would hold half as many again.

    Source: https://github.com/sgl-project/sglang/issues/24523, its two figures; that they are V4-Pro's is told by them alone.
    """
    low, high = (tokens("0.5.12", int(size * GIB), asked(PRO, tp=8)) for size in (4.125, 4.135))
    assert (low, high) == (186_368, 186_880)
    assert tokens("0.5.12", int(4.125 * GIB)) > 1.4 * 186_368


def test_a_draft_head_takes_the_share_of_tokens_that_two_servers_said() -> None:
    """V4-Flash on eight L20, otherwise alike: 120,576 tokens, 73,472 with the model's head.

    Source: https://github.com/sgl-project/sglang/pull/28620; to 1 %, for what the head itself holds is not told.
    """
    size = next(size for size in range(1_900_000_000, 2_000_000_000, 1_000_000) if tokens("0.5.12", size) == 120_576)
    drafted = tokens("0.5.12", size, num_speculative_tokens=1)
    assert abs(drafted / 73_472 - 1) < 0.01
    assert tokens("0.5.15", size) == 0  # the state of 256 requests is taken first there: another release's count


def test_what_a_server_that_did_not_start_had_is_in_the_range() -> None:
    """V4-Pro on eight H200: 125.65 GiB of weights a card, nothing left at a fraction of 0.88.

    Source: https://github.com/SemiAnalysisAI/InferenceX/issues/2128
    """
    request = Request(8192, sharding=Sharding(tp=8))
    found = estimate(model_spec(PRO), request, device_capacity(device("h200")))
    ranged = sglang.answer(found, Options(fraction=Fraction(88, 100)), None).ranged
    assert ranged is not None and ranged.low.tokens == 0 < ranged.high.tokens


def test_bytes_are_those_worked_out_by_hand() -> None:
    """V4-Flash: 43 layers and a head's entry, 21 layers 1:4 with an indexer, 20 layers 1:128; 10 GiB."""
    past = Fraction(21 * (584 + 132), 4) + Fraction(20 * 584, 128)
    state = Fraction(8, 128) * 4 * (512 + 128) * 4 * 21  # of blocks of 4: 8 tokens for a window of 128
    with_state = state + 20 * 2 * 512 * 4  # and of blocks of 128
    by_hand = 10 * GIB / (past + Fraction(1, 10) * (44 * 584 + with_state))
    assert tokens("0.5.12", 10 * GIB) == int(by_hand) // 256 * 256
    by_hand = 10 * GIB / (past + Fraction(1, 10) * (43 * 584 + with_state))
    assert tokens("0.5.13", 10 * GIB) == tokens("0.5.14", 10 * GIB) == int(by_hand) // 256 * 256
    fixed = 33_152 * 2 * 512 * 4 * 20  # 257 rings of 128 tokens, one more, and a row, in blocks of 128
    by_hand = (10 * GIB - fixed) / (past + Fraction(1, 10) * (43 * 584 + state))
    assert tokens("0.5.15", 10 * GIB) == tokens("0.5.20", 10 * GIB) == int(by_hand) // 256 * 256
    padded = Fraction(21 * (585 + 132), 4) + Fraction(20 * 864, 128)  # 2 entries of 584 B in a page of 1,728
    by_hand = (10 * GIB - fixed) / (padded + Fraction(1, 10) * (43 * 585 + state / 2))
    assert tokens("0.5.23", 10 * GIB) == tokens(None, 10 * GIB) == int(by_hand) // 256 * 256 == 1_131_776


def test_flags_change_what_sglang_lets_them_change() -> None:
    whole = tokens("0.5.23", 10 * GIB)
    assert tokens("0.5.23", 10 * GIB, asked(tp=8)) == whole  # nothing is split over ranks
    assert tokens("0.5.23", 10 * GIB, block_size=64) == whole  # set to 256
    assert tokens("0.5.23", 10 * GIB, swa_ratio=Fraction(1, 5)) < whole
    assert tokens("0.5.12", 10 * GIB, swa_ratio=Fraction(8, 10)) == tokens("0.5.12", 10 * GIB)
    few = answer("0.5.23", 10 * GIB, max_running_requests=16)
    assert few.most_requests == 16
    assert few.ranged is not None and few.ranged.pool.tokens > whole
    replicas = answer("0.5.23", 10 * GIB, asked(tp=8, dp=8), enable_dp_attention=True)
    assert replicas.extra["max_running_requests"] == 256 // 8
    assert tokens("0.5.23", 10 * GIB, asked(pp=2)) > whole


@settings(deadline=None, max_examples=30)
@given(
    version=st.sampled_from(RELEASES),
    model=st.sampled_from([FLASH, PRO]),
    size=st.integers(0, 100 * GIB),
    more=st.integers(0, 10 * GIB),
    drafts=st.integers(0, 3),
)
def test_more_bytes_never_hold_less_and_a_drafter_never_holds_more(
    version: str, model: str, size: int, more: int, drafts: int
) -> None:
    found = asked(model)
    assert tokens(version, size, found) <= tokens(version, size + more, found)
    assert tokens(version, size, found, num_speculative_tokens=drafts) <= tokens(version, size, found)


def test_what_sglang_does_not_do_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"0\.5\.11 does not have this model; it came with 0\.5\.12"):
        answer("0.5.11", GIB)
    with pytest.raises(BadRequest, match="SGLang keeps the cache of deepseek-v4-flash in fp8 alone, not in bf16"):
        answer(None, GIB, asked(dtype="bf16"))
    with pytest.raises(UnsupportedModel, match=r"how SGLang pools a layer of .* is not modelled"):
        answer(None, GIB, asked("deepseek-v4.1-flash"))
    npu = estimate(model_spec(FLASH), Request(8192), device_capacity(device("ascend-910b1")))
    with pytest.raises(UnsupportedModel, match="on NPUs are not modelled"):
        sglang.answer(npu, Options(), None)
    small = answer(None, 2_736_000_000)
    assert small.refusal is not None and "cannot hold even one request of 128 + 256 tokens" in small.refusal.text
    assert small.fits is False and small.most_requests == 0


def test_the_command_says_how_many_it_holds_and_no_more_than_run_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", FLASH, "--gpu", "8xh200", "--engine", "sglang"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert "STARTS: 256 requests of 8k tokens at once." in said
    assert "prints: max_total_num_tokens=" in said


def test_scales_of_mxfp4_experts_stay_in_fp32_until_they_are_dropped() -> None:
    """V4-Pro on eight H200 loads 125.65 GiB a card for 101.02 counted (SemiAnalysisAI/InferenceX issue 2128)."""
    spec, sharding = model_spec("deepseek-v4-pro"), Sharding(tp=8)
    on = [
        estimate(spec, Request(seq_tokens=8192, sharding=sharding), Capacity(name, int(140 * GIB)))
        for name in ("h200", "b200")
    ]
    more = stale_scales(on[0], (0, 5, 12), True)
    assert (on[0].per_device.weight_bytes + more.bytes) / GIB == pytest.approx(125.65, rel=0.02)
    assert stale_scales(on[0], (0, 5, 23), True).high == 0 == stale_scales(on[1], (0, 5, 12), True).high
    between = stale_scales(on[0], (0, 5, 18), True)
    assert (between.low, between.bytes, between.high) == (0, more.bytes, more.bytes)
