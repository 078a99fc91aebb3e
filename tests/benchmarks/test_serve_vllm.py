"""The model that is served is whole without a download: a config and a tokenizer, both files written here."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.serve_vllm import CUT, VOCABULARY, running, tidy, write_model
from planner.lookup import model_spec


def test_the_model_has_a_token_a_character_and_as_many_as_its_config_says(tmp_path: Path) -> None:
    write_model(tmp_path)
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) == VOCABULARY == json.loads((tmp_path / "config.json").read_text())["vocab_size"]
    assert all(chr(code) in vocabulary for code in range(33, 127))
    assert len(model_spec(config=str(tmp_path / "config.json")).layers) == 8


def test_requests_that_run_are_read_from_the_text() -> None:
    assert running('vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_running{engine="1"} 2.0\n') == 5


def test_what_was_sent_and_where_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(
        json.dumps({"request_throughput": 1, "tokenizer_id": f"{tmp_path}/model", **{key: ["text"] for key in CUT}})
    )
    tidy(tmp_path, [str(tmp_path)])
    assert json.loads(path.read_text()) == {"request_throughput": 1, "tokenizer_id": ".../model"}
