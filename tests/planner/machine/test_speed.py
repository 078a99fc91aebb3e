"""The range of a calibrated answer, and when this machine's operator times cover a question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.lookup import model_spec
from planner.machine.calibration import AttentionTime, Calibration, HeldBack, MatmulTime
from planner.machine.speed import linear_of, running_dtype, spread, spread_of, why_not
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from tests.planner.readers.headers import LLAMA, llama_tensors, write_safetensors


def products(*kinds: tuple[str, str], **more: object) -> Calibration:
    matmuls = tuple(MatmulTime(dtype, linear, 64, 64, 1, 1e-6) for dtype, linear in kinds)
    return Calibration(environment={}, matmuls=matmuls, **more)  # type: ignore[arg-type]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=200))
def test_a_range_holds_nine_of_ten_and_the_expectation(ratios: list[float]) -> None:
    found = spread_of(ratios)
    assert found.low <= 1.0 <= found.high
    assert found.points == len(ratios) and found.held >= 0.9 * found.points
    assert found.held == sum(found.low <= ratio <= found.high for ratio in ratios)


def test_a_model_that_was_held_back_is_ranged_by_itself_alone() -> None:
    held = tuple(
        HeldBack(model, "decode", "bf16", "plain", 1, 64, 1.0, measured)
        for model, measured in (("gpt2", 1.1), ("gpt2", 1.2), ("unseen", 3.0))
    )
    file = products(("bf16", "plain"), held_back=held)
    assert spread(file, "gpt2", "bf16", linear="plain", phase="decode").high == 1.2
    assert spread(file, "other", "bf16", linear="plain", phase="decode").high == 3.0
    assert spread(file, "gpt2", "bf16", linear="packed", phase="decode").points == 0
    assert spread(file, "gpt2", "bf16", linear="plain", phase="prefill").points == 0


@pytest.mark.parametrize(
    ("model", "request_", "reason"),
    [
        ("gpt2", Request(64, dtype="bf16", k_dtype="bf16", v_dtype="bf16"), None),
        ("gpt2", Request(64, dtype="fp16", k_dtype="bf16", v_dtype="bf16"), "no products in fp16"),
        ("gpt2", Request(64, dtype="bf16", k_dtype="q8_0", v_dtype="q8_0"), "cache in q8_0"),
        ("gpt2", Request(64, dtype="bf16", k_dtype="bf16", v_dtype="bf16", sharding=Sharding(tp=2)), "one device"),
        ("mamba-2.8b", Request(64, dtype="bf16", k_dtype="bf16", v_dtype="bf16"), "not modelled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_a_question_that_is_not_covered_is_named(model: str, request_: Request, reason: str | None) -> None:
    found = why_not(products(("bf16", "plain")), estimate(model_spec(model), request_), "plain")
    assert found is None if reason is None else reason in str(found)


def test_a_checkpoint_runs_in_the_type_of_its_matrices(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    write_safetensors(tmp_path / "model.safetensors", llama_tensors())  # norms in fp32
    stored = estimate(model_spec(str(tmp_path)), Request(64))
    assert (stored.plan.fmt.name, running_dtype(stored)) == ("as stored", "bf16")
    assert why_not(products(("bf16", "plain")), stored, "plain") is None
    assert running_dtype(estimate(model_spec("gpt2"), Request(64, dtype="q4_k_m"))) == "q4_k_m"


def test_plain_products_unless_only_packed_ones_were_measured() -> None:
    assert linear_of(products(("bf16", "plain"), ("bf16", "packed")), "bf16") == "plain"
    assert linear_of(products(("bf16", "packed")), "bf16") == "packed"
    assert linear_of(products(("bf16", "packed")), "fp32") == "plain"


def test_attention_alone_serves_nothing() -> None:
    file = Calibration(environment={}, attention=(AttentionTime("bf16", 1, 12, 1, 64, 64, 1, 1e-6),))
    answer = estimate(model_spec("gpt2"), Request(64, dtype="bf16"))
    assert "no products" in str(why_not(file, answer, "plain"))
