"""Calibration of a small model: every table is filled and serves predictions. No accuracy is asserted here."""

from __future__ import annotations

import pytest

from tests.profiler.small_models import NEEDS_TORCH, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)

import profiler.gpt
from planner.machine.calibration import Calibration, calibration_from_json
from planner.speed.operators import head_matmul, layer_matmuls
from profiler import calibrate as calibration_module
from profiler.calibrate import BATCHES, answers, attention_seconds, calibrate, matmul_times, rest_times
from profiler.commands.calibrate import page
from profiler.device import choose
from profiler.gpt import build
from profiler.linear import Linear
from profiler.speed import Plan


@pytest.fixture(scope="module")
def found() -> Calibration:
    """Everything at a hundredth of its size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_module, "COLD_BYTES", 1 << 16)
        patch.setattr(calibration_module, "SMALL", Plan(1, 0.0))
        patch.setattr(calibration_module, "SHAPES", ((64, 64), (256, 64)))
        patch.setattr(calibration_module, "UNSEEN", dict(small("llama").config))
        patch.setattr(calibration_module.speed, "DECODE_STEPS", 3)
        yield calibrate(small("gpt2"), device=choose("cpu"), dtypes=("fp32",), linears=("plain",))


def test_every_table_is_filled(found: Calibration) -> None:
    assert set(found.rates) == {"read_bytes_per_s", "copy_bytes_per_s", "fp32_flops_per_s"}
    assert found.matmuls and found.attention and found.layers and found.probes and found.held_back
    assert found.environment["device_kind"] == "cpu" and found.date


def test_the_models_own_shapes_are_measured(found: Calibration) -> None:
    spec = small("gpt2")
    own = {(m.outputs, m.inputs) for layer, _ in spec.groups for m in (*layer_matmuls(layer), head_matmul(spec))}
    assert own <= {(m.outputs, m.inputs) for m in found.matmuls}


def test_probed_points_are_not_held_back(found: Calibration) -> None:
    probed = {(p.batch, p.context_tokens) for p in found.probes if p.new_tokens == 1}
    held = {(h.batch, h.context_tokens) for h in found.held_back if (h.model, h.what) == ("gpt2", "decode")}
    assert len(probed) <= 6 and not probed & held
    assert {batch for batch, _ in held} <= set(BATCHES)


def test_a_model_with_few_positions_is_probed_at_the_last_of_them() -> None:
    runner = calibration_module.Calibrator(small("gpt2"), choose("cpu"), ("fp32",), linears=("plain",))
    limit = small("gpt2").max_positions
    assert limit is not None and limit < 1024
    assert runner._probed(("gpt2", "fp32", "plain", 1, limit, 1))
    assert not runner._probed(("gpt2", "fp32", "plain", 2, limit, 1))
    assert not runner._probed(("unseen", "fp32", "plain", 1, limit, 1))


def test_every_point_was_measured_in_every_round(found: Calibration) -> None:
    device, rounds = choose("cpu"), calibration_module.ROUNDS
    runner = calibration_module.Calibrator(small("gpt2"), device, ("fp32",), linears=("plain",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration_module, "STEPS", 2)
        for _ in range(rounds):
            runner.whole_steps(small("gpt2"), "fp32", "plain")
    decode = [seconds for key, seconds in runner.samples.steps.items() if key[-1] == 1]
    assert decode and all(len(seconds) == 2 * rounds for seconds in decode)


def test_a_model_without_probes_is_corrected_as_the_probed_one_is(found: Calibration) -> None:
    ratio = next(w.ratio for w in found.whole_steps if w.phase == "decode")
    asked = {"batch": 2, "context_tokens": 32, "dtype": "fp32"}
    corrected = found.step_seconds(small("llama"), **asked)
    assert corrected == pytest.approx(ratio * found.step_seconds(small("llama"), **asked, corrected=False))


def test_the_file_serves_predictions(found: Calibration) -> None:
    back = calibration_from_json(found.to_json(), "device file")
    assert back == found
    for name in ("gpt2", "llama", "mixtral", "deepseek_v3"):
        assert back.step_seconds(small(name), batch=2, context_tokens=32, dtype="fp32") > 0
        assert back.step_seconds(small(name), batch=1, context_tokens=32, new_tokens=32, dtype="fp32") > 0


def test_the_screen_shows_errors_of_probed_and_of_unseen_sizes(found: Calibration) -> None:
    shown = page(found, "device.json")
    assert "median error" in shown and "unseen (not probed)" in shown and "gpt2" in shown and "read" in shown


def test_operators_are_timed_alone() -> None:
    device = choose("cpu")
    rows = [row for row, seconds in matmul_times(64, 64, "fp32", linear="plain", device=device) if min(seconds) > 0]
    assert rows == list(calibration_module.ROWS)
    assert min(attention_seconds("bf16", 2, 4, 2, 16, 32, 1, device)) > 0
    times = list(rest_times("rope", 256, "fp32", device=device))
    assert [row for row, _, _ in times] == [1, 4, 16, 64, 256, 1024] and all(a > 0 and b > 0 for _, a, b in times)


def test_a_hollow_model_is_put_back_together() -> None:
    model, attend = build(small("llama"), dtype="fp32"), profiler.gpt.attend
    with answers(model, 1, 4):
        assert profiler.gpt.attend is not attend
        assert model(torch.zeros(1, 4, dtype=torch.int64), last_only=True).shape == (1, 1, model.spec.vocab)
    assert profiler.gpt.attend is attend
    assert any(isinstance(module, Linear) for module in model.modules())
