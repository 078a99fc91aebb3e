"""Positions of a model: what bounds them, and what scaling does to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.positions import LEARNED, ROPE, TRAINED, kind_of, scaled, too_long


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gpt2", LEARNED), ("opt-125m", LEARNED), ("bart-large", LEARNED), ("whisper-tiny", LEARNED), ("llama-7b", ROPE),
     ("qwen3-8b", ROPE), ("bloom-560m", TRAINED), ("mpt-7b", TRAINED), ("falcon-rw-1b", TRAINED)],
)  # fmt: skip
def test_what_bounds_the_positions(name: str, kind: str) -> None:
    """Learned tables: transformers' GPT2Model.wpe, OPT's and BART's with two rows more; ALiBi needs none."""
    assert kind_of(model_spec(name)) == kind


def test_a_model_without_positions_is_never_too_long() -> None:
    assert too_long(model_spec("mamba-130m"), 10**9) is None and too_long(model_spec("t5-small"), 10**6) is None


@given(st.integers(1, 10**7))
def test_the_factor_that_is_named_is_enough_and_no_less_would_be(tokens: int) -> None:
    found = too_long(spec := model_spec("llama-7b"), tokens)
    if found is None:
        assert tokens <= 2048
        return
    factor = found.factor
    assert factor is not None and tokens <= 2048 * factor and tokens > 2048 * (factor - 1)
    assert factor > 128 or too_long(scaled(spec, factor), tokens) is None


def test_scaling_changes_no_byte() -> None:
    plain, longer = (
        estimate(spec, Request(8192)) for spec in (model_spec("llama-7b"), scaled(model_spec("llama-7b"), 4))
    )
    assert (plain.kv_bytes, plain.weight_bytes) == (longer.kv_bytes, longer.weight_bytes) and not longer.warnings


@pytest.mark.parametrize("name", ["gpt2", "bloom-560m", "mamba-130m"])
def test_what_has_no_rope_is_not_scaled(name: str) -> None:
    with pytest.raises(BadRequest, match="--rope-scaling"):
        scaled(model_spec(name), 2)
