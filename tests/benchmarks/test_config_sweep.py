"""The sweep of changed configs: what it changes, and how it judges an answer beside the implementation's."""

from __future__ import annotations

from typing import Any

import pytest

import benchmarks.config_sweep as sweep

BART = {"model_type": "bart", "encoder_layers": 2, "decoder_layers": 2, "d_model": 64}
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100,
    "intermediate_size": 96, "num_key_value_heads": 2,
}  # fmt: skip


def test_one_key_is_changed_at_a_time() -> None:
    made = dict(sweep.changes(BART, "bart"))
    assert "encoder_layers" not in made["drop encoder_layers"]
    assert made["null encoder_layers"]["encoder_layers"] is None
    assert made["double encoder_layers"]["encoder_layers"] == 4
    assert made["alias num_hidden_layers for encoder_layers"]["num_hidden_layers"] == 2
    assert made["foreign word_embed_proj_dim"]["word_embed_proj_dim"] == 40


@pytest.mark.parametrize(
    ("theirs", "config", "verdict"),
    [
        (74560, LLAMA, "exact"),
        (74561, LLAMA, "wrong"),
        (None, LLAMA, "rejected"),
        (74560, {**LLAMA, "sliding_window": 7}, "refused"),
        (None, {**LLAMA, "vocab_size": -1}, "rejected"),
    ],
)
def test_an_answer_is_judged_by_the_implementations_own_count(
    monkeypatch: pytest.MonkeyPatch, theirs: int | None, config: dict[str, Any], verdict: str
) -> None:
    monkeypatch.setattr(sweep, "built", lambda _: theirs)
    assert sweep.judged(config)[0] == verdict
