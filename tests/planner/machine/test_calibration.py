"""The device file and the speed model on it, without torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.catalogue.entries import models
from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.machine import device as local
from planner.machine.calibration import (
    AttentionTime,
    BadDeviceFile,
    Calibration,
    LayerTime,
    MatmulTime,
    Probe,
    Rate,
    calibration_from_json,
    load_calibration,
    speedup,
    style_of,
)
from planner.model.attention import Attention
from planner.model.latent_attention import LatentAttention
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.speed.operators import AttentionRead, Matmul, head_matmul, layer_attention, layer_matmuls
from planner.speed.work import TOWERS, decode_read_bytes, prefill_flops, work_of

GPT2_SHAPES = ((2304, 768), (768, 768), (3072, 768), (768, 3072), (50257, 768))
READ = 40e9  # of an imagined machine: every product reads its matrix at this rate, and does 100 GFLOP/s beyond


def product_seconds(outputs: int, inputs: int, rows: int) -> float:
    return max(outputs * inputs * 4 / READ, 2 * rows * outputs * inputs / 100e9)


def machine(**more: Any) -> Calibration:
    """Tables of the imagined machine: attention at 20 GB/s, 50 us a layer, 1 ms a step."""
    shapes = (*GPT2_SHAPES, (512, 512), (4096, 4096))
    return Calibration(
        environment={"device": "imagined", "device_kind": "cpu", "threads": 2, "date": "2026-01-02T03:04:05+00:00"},
        rates={"read_bytes_per_s": Rate(READ, 0.9 * READ, READ), "fp32_flops_per_s": Rate(1e11, 1e11, 1e11)},
        matmuls=tuple(
            MatmulTime("fp32", "plain", o, i, rows, product_seconds(o, i, rows))
            for o, i in shapes
            for rows in (1, 4, 16, 256, 1024)
        ),
        attention=tuple(
            AttentionTime("fp32", batch, 12, 1, 64, context, 1, batch * 12 * context * 128 * 4 / 20e9)
            for batch in (1, 4, 16)
            for context in (64, 256, 1024)
        )
        + tuple(AttentionTime("fp32", 1, 12, 1, 64, n, n, 1e-6 * n) for n in (16, 1024)),
        layers=tuple(LayerTime("fp32", "learned", rows, 768, 50e-6, 1e-3) for rows in (1, 1024)),
        **more,
    )


def test_a_step_is_the_sum_of_its_operators() -> None:
    gpt2 = model_spec("gpt2")
    weights = (12 * 12 * 768**2 + 50257 * 768) * 4 / READ
    attention = 12 * 12 * 1024 * 128 * 4 / 20e9
    found = machine().step_seconds(gpt2, batch=1, context_tokens=1024, dtype="fp32")
    assert found == pytest.approx(weights + attention + 12 * 50e-6 + 1e-3)


def test_between_measured_places_times_follow_the_logarithms() -> None:
    gpt2 = model_spec("gpt2")
    steps = [machine().step_seconds(gpt2, batch=b, context_tokens=512, dtype="fp32") for b in (1, 2, 4, 8, 16)]
    assert steps == sorted(steps)


def test_a_shape_that_was_not_measured_lies_between_its_neighbours() -> None:
    found = machine().matmul_seconds(Matmul(1024, 1024), 1, "fp32", linear="plain")
    assert found == pytest.approx(product_seconds(1024, 1024, 1), rel=0.02)


def test_probes_correct_their_own_model_and_no_other() -> None:
    gpt2, plain = model_spec("gpt2"), machine()
    summed = plain.step_seconds(gpt2, batch=1, context_tokens=64, dtype="fp32")
    probed = machine(probes=(Probe("gpt2", "fp32", "plain", 1, 64, 1, 2 * summed),))
    assert probed.step_seconds(gpt2, batch=1, context_tokens=64, dtype="fp32") == pytest.approx(2 * summed)
    assert probed.step_seconds(gpt2, batch=1, context_tokens=64, dtype="fp32", corrected=False) == pytest.approx(summed)
    other = replace(gpt2, name="other")
    assert probed.step_seconds(other, batch=1, context_tokens=64, dtype="fp32") == pytest.approx(summed)


def test_the_speedup_grows_with_the_answer() -> None:
    gpt2 = model_spec("gpt2")
    curve = [speedup(machine(), gpt2, batch=1, prompt_tokens=16, new_tokens=n, dtype="fp32") for n in (1, 10, 100, 500)]
    assert curve[0] == pytest.approx(1.0) and curve == sorted(curve)


def test_a_dtype_that_was_not_measured_is_refused() -> None:
    with pytest.raises(BadRequest, match="kvplan calibrate --dtype bf16"):
        machine().step_seconds(model_spec("gpt2"), batch=1, context_tokens=64, dtype="bf16")
    assert not machine().serves("bf16") and machine().serves("fp32")


def test_small_operators_differ_by_kind_of_model() -> None:
    assert style_of(model_spec("gpt2")) == "learned"
    assert style_of(model_spec("llama-7b")) == "rope"


def test_a_window_bounds_what_a_step_reads() -> None:
    read = AttentionRead(8, 32, 128, 128, 256, 256, window=4096)
    assert read.reach(100_000) == read.reach(4096) == 4096


def test_bytes_and_flops_of_gpt2_by_hand() -> None:
    gpt2 = model_spec("gpt2")
    weights = 124_439_808 - 1024 * 768  # official count; positions are looked up
    assert decode_read_bytes(gpt2, batch=2, context_tokens=100, element_bytes=4) == 4 * (weights + 2 * 100 * 12 * 1536)
    assert prefill_flops(gpt2, batch=1, tokens=1) == 2 * weights + 12 * 2 * 12 * 128


def test_a_prefill_of_a_latent_costs_what_the_expanded_heads_cost() -> None:
    """61 layers of 128 heads: q kT over nope + rope = 192 numbers, p v over 128, on half the square."""
    spec = model_spec("deepseek-v3")
    one, two = (prefill_flops(spec, batch=1, tokens=tokens) for tokens in (1, 2048))
    products = prefill_flops(spec, batch=1, tokens=2) - one - 61 * 2 * 128 * 320 * 2
    assert two - one - 2047 * products == pytest.approx(61 * 2 * 128 * 320 * (2048 * 2049 / 2 - 1), rel=1e-9)


def summed_and_listed(spec: ModelSpec, rows: int) -> tuple[float, float]:
    """FLOPs of the products of `rows` tokens without the head: of the speed model, and by the list that is timed."""
    tables = ("embedding", "lm_head", *TOWERS)  # looked up, counted apart, or not run
    ends = [w for w in (*spec.before, *spec.after) if w.part not in tables and not w.is_row_table]
    vectors = sum(w.active_parameters * n for layer, n in spec.groups for w in layer.weights if w.cols == 1)
    listed = sum(count * m.flops(rows) for layer, count in spec.groups for m in layer_matmuls(layer))
    return work_of(spec).row_products(rows), listed + 2 * rows * (vectors + sum(w.parameters for w in ends))


def test_the_products_that_are_timed_are_those_that_are_summed() -> None:
    """One pass, of every catalogue model: what a calibration looks up comes to the FLOPs of the speed model."""
    for entry in models():
        spec = read_entry(entry)
        summed, listed = summed_and_listed(spec, 7)
        assert listed == pytest.approx(summed, rel=1e-9), entry.name
        # project_out of opt-350m and biases are part of the head, too
        assert work_of(spec).head_flops == pytest.approx(head_matmul(spec).flops(1), rel=0.03), entry.name
        mixers = [mixer for layer, _ in spec.groups for mixer in layer.mixers]
        if "index_topk" not in spec.config and all(type(m) in (Attention, LatentAttention) for m in mixers):
            reads = [(read, count) for layer, count in spec.groups for read in layer_attention(layer)]
            pairs = sum(read.pair_flops for read in work_of(spec).reads)
            assert sum(count * read.pair_flops for read, count in reads) == pytest.approx(pairs), entry.name


def test_the_device_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    path.write_text(machine().to_json(), encoding="utf-8")
    assert load_calibration(str(path)) == machine()
    assert load_calibration(str(tmp_path / "none.json")) is None


def broken(**values: Any) -> str:
    return json.dumps({**json.loads(machine().to_json()), **values})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "not a device file"),
        ('{"kind": "kvplan measurement"}', "not a device file"),
        (broken(schema_version=2), "newer"),
        (broken(schema_version=None), "no schema_version"),
        (broken(matmuls={}), "damaged"),
        (broken(matmuls=[{"dtype": "fp32"}]), "damaged"),
        (broken(layers=[{"dtype": "fp32", "style": "rope", "rows": 1, "hidden": 8, "layer_seconds": -1, "step_seconds": 1}]), "damaged"),
        (broken(rates={"read_bytes_per_s": {"value": 0, "low": 1, "high": 1}}), "damaged"),
        (broken(rates=3), "damaged"),
    ],
)  # fmt: skip
def test_a_damaged_device_file_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(BadDeviceFile, match=words) as refused:
        calibration_from_json(text, "device.json")
    assert str(refused.value).isprintable()


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A host without a GPU, and an empty config folder."""
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path / "config"))
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 8388608 kB\n")
    return str(tmp_path)


def test_gpu_local_uses_what_was_measured_here(cpu: str) -> None:
    before = local.local_device(lambda command: None, platform="linux", root=cpu)
    assert before.bandwidth_bytes_per_s is None
    (Path(cpu) / "config/local-device.json").write_text(machine().to_json())
    after = local.local_device(lambda command: None, platform="linux", root=cpu)
    assert (after.bandwidth_bytes_per_s, after.dense_flops_per_s["fp32"]) == (40_000_000_000, 100_000_000_000)
    assert after.notes is not None and "2026-01-02" in after.notes and "10 % spread" in after.notes


def test_rates_of_another_device_are_not_used(cpu: str) -> None:
    gpu = replace(machine(), environment={**machine().environment, "device_kind": "cuda", "device": "NVIDIA H100"})
    (Path(cpu) / "config/local-device.json").write_text(gpu.to_json())
    assert local.local_device(lambda command: None, platform="linux", root=cpu).bandwidth_bytes_per_s is None
    smi = "NVIDIA H100 80GB HBM3, 81559"
    found = local.local_device(lambda command: smi if command[0] == "nvidia-smi" else None, platform="linux", root=cpu)
    assert found.bandwidth_bytes_per_s == 40_000_000_000
