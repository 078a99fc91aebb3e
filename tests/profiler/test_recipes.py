"""What the profiler can build and what it names as not buildable; no torch needed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from planner.catalogue.entries import find_model
from planner.errors import BadConfig, BadRequest, UnsupportedModel
from planner.readers import read_entry
from planner.readers.by_hand import by_hand
from planner.readers.huggingface import read_config
from profiler.recipes import RECIPES, design, shallower
from tests.profiler.small_models import BASE, MLA, SMALL, small


@pytest.mark.parametrize("name", SMALL)
def test_every_small_model_has_a_design(name: str) -> None:
    spec = small(name)
    assert len(design(spec).layers) == len(spec.layers)


def test_reading_recipes_loads_no_torch() -> None:
    code = "import sys, profiler.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mamba-2.8b", "model_type 'mamba'"),
        ("whisper-base", "model_type 'whisper'"),
        ("gpt-oss-20b", "model_type 'gpt_oss'"),
        ("opt-350m", "do_layer_norm_before = False"),
        ("phi-3.5-mini", "rope scaling 'longrope'"),
    ],
)
def test_catalogued_models_that_cannot_be_built_are_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason) as caught:
        design(read_entry(find_model(name)))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "scale_attn_by_inverse_layer_idx": True},
         "scale_attn_by_inverse_layer_idx"),
        ({"model_type": "gpt_neox", **BASE, "use_parallel_residual": False}, "use_parallel_residual = False"),
        ({"model_type": "llama", **BASE, "hidden_act": "mish"}, "activation 'mish'"),
        ({"model_type": "llama", **BASE, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
         "rope scaling 'dynamic'"),
        ({"model_type": "gemma2", **BASE, "use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"model_type": "deepseek_v3", **MLA, "n_group": 3}, "8 experts in n_group = 3"),
    ],
)  # fmt: skip
def test_a_switch_that_changes_the_forward_pass_is_refused_by_name(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        design(read_config(config))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": "10000"},
        {"rope_theta": -1.0},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"rope_scaling": {"type": "linear", "factor": None}},
        {"rope_scaling": {"type": "yarn", "factor": float("nan")}},
        {"rope_scaling": "yarn"},
        {"rope_parameters": {"rope_theta": 0}},
        {"partial_rotary_factor": "half"},
        {"rms_norm_eps": 0},
    ],
)
def test_rotary_keys_that_mean_nothing_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        design(small("llama", **changes))


def test_the_refusal_of_an_unknown_type_lists_what_is_built() -> None:
    with pytest.raises(UnsupportedModel) as caught:
        design(read_entry(find_model("mamba-2.8b")))
    assert all(kind in str(caught.value) for kind in RECIPES)


def test_a_multimodal_file_builds_its_language_model_and_says_what_is_left_out() -> None:
    plan = design(read_entry(find_model("gemma-3-4b")))
    assert plan.recipe is RECIPES["gemma3_text"]
    assert "vision" in plan.notes[0]


def test_windowed_layers_of_gemma_3_turn_at_their_own_base() -> None:
    plan = design(small("gemma3"))
    local, whole = plan.layers[0].rope, plan.layers[1].rope
    assert local is not None and whole is not None
    assert (local.theta, local.scaling["rope_type"]) == (10_000.0, "default")
    assert (whole.theta, whole.scaling["factor"]) == (1_000_000.0, 8.0)


def test_smollm3_layers_without_positions() -> None:
    assert [layer.rope is None for layer in design(small("smollm3")).layers] == [False, False, False, True, False]


def test_softcaps_null_in_the_file_mean_none() -> None:
    plan = design(small("gemma2", attn_logit_softcapping=None, final_logit_softcapping=None))
    assert plan.final_softcap is None and plan.layers[0].softcap is None
    assert design(small("gemma2")).layers[0].softcap == 50.0


def test_a_model_by_hand_needs_its_widths() -> None:
    dimensions = {"layers": 2, "heads": 4, "head_dim": 16}
    with pytest.raises(BadRequest, match="--hidden, --intermediate and --vocab"):
        design(by_hand(dimensions))
    assert len(design(by_hand({**dimensions, "hidden": 64, "intermediate": 96, "vocab": 97})).layers) == 2


def test_shallower_models_keep_the_first_layers() -> None:
    spec = small("deepseek_v3")
    assert shallower(spec, 1).layers == spec.layers[:1]
    for wrong in (0, 4):
        with pytest.raises(BadRequest, match="has 3 layers"):
            shallower(spec, wrong)
