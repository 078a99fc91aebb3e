"""A preset of llama-server is the command that it stands for."""

from __future__ import annotations

from planner.launch.llamacpp import TABLE
from planner.launch.presets import PRESETS
from planner.launch.read import question_of


def test_every_preset_names_a_model_and_flags_that_are_known() -> None:
    for name in PRESETS:
        found = question_of(["llama-server", name])
        assert found.model and found.model.startswith("ggml-org/"), name
        assert {one.kind for one in found.flags} <= {"used", "no effect"}, found.flags
        assert TABLE.find(name)[0] is not None


def test_what_stands_beside_a_preset_counts() -> None:
    found = question_of(["llama-server", "--gpt-oss-20b-default", "-np", "1", "-c", "32768"])
    assert (found.options.parallel, found.options.ctx_size) == (1, 32768)
