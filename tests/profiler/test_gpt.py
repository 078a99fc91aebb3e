"""Building the model: sizes as planned, equal seeds, dtypes, packed matrices, refusals."""

from __future__ import annotations

from typing import Any

import pytest

from tests.profiler.small_models import NEEDS_TORCH, SMALL, VOCAB, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)

from planner.catalogue.entries import find_model
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.moe import Moe
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight
from planner.readers import read_entry
from planner.readers.huggingface import read_config
from profiler.gpt import GPT, build
from profiler.linear import Linear, most_packed_bytes, pack_matrix, packed_bytes, unpacked_bytes
from profiler.measure import Times
from profiler.recipes import design, shallower


def louder(model: GPT, times: float = 6.0) -> GPT:
    """Larger weights, so that attention is uneven and a wrong mask or position shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(times)
            else:  # gains and biases: not all ones and zeros
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_take_the_bytes_that_the_estimate_says(name: str, dtype: str) -> None:
    spec = small(name)
    model = build(spec, dtype=dtype)
    buffers = sum(b.nbytes for b in model.buffers())  # the router's correction: a buffer, not a parameter
    assert model.weight_bytes - buffers == estimate(spec, Request(1, dtype=dtype)).weight_bytes


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl", "llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gemma-3-27b"])
def test_full_size_models_have_the_published_parameters(name: str) -> None:
    """On the meta device: no memory is used. Towers are left out."""
    spec = read_entry(find_model(name))
    with torch.device("meta"):
        model = GPT(design(spec))
    counted = estimate(spec, Request(1)).parameters - sum(w.parameters for w in spec.towers)
    assert sum(p.numel() for p in model.parameters()) == counted


def test_gpt2_has_124_million_parameters() -> None:
    with torch.device("meta"):
        model = GPT(design(read_entry(find_model("gpt2"))))
    assert sum(p.numel() for p in model.parameters()) == 124_439_808  # the released checkpoint


def test_equal_seeds_give_equal_weights_and_others_do_not() -> None:
    one, same, other = (build(small("llama"), dtype="fp32", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.embedding, same.embedding)
    assert not torch.equal(one.embedding, other.embedding)


@pytest.mark.parametrize("name", ["gpt2", "llama3_rope", "gemma2", "mixtral", "deepseek_v3"])
def test_packed_matrices_give_the_same_logits(name: str) -> None:
    ids = torch.randint(0, VOCAB, (2, 9))
    with torch.inference_mode():
        plain = louder(build(small(name), dtype="fp32"))
        wanted = plain(ids)
        found = plain.pack()(ids)
    assert (wanted - found).abs().max() < 1e-4


def test_packed_weights_are_counted_with_their_padding_and_a_tied_head_twice() -> None:
    plain, packed = (build(small("gpt2"), dtype="fp32", linear=kind) for kind in ("plain", "packed"))
    assert not any(m.weight is not None for m in packed.modules() if isinstance(m, Linear))
    head = VOCAB * 64 * 4
    assert packed.weight_bytes >= plain.weight_bytes + head
    assert packed.stored_bytes == plain.stored_bytes == plain.weight_bytes
    for shape in ((96, 64), (1, 1), (65, 17), (VOCAB, 48)):
        matrix = pack_matrix(torch.randn(shape))
        assert 4 * shape[0] * shape[1] == unpacked_bytes(matrix) <= packed_bytes(matrix) <= most_packed_bytes(matrix)


@pytest.mark.parametrize("name", SMALL)
def test_weights_of_packed_matrices_are_checked_to_the_byte(name: str) -> None:
    from profiler.memory import weight_checks

    exact, packed = weight_checks(build(small(name), dtype="fp32", linear="packed"))
    assert (exact.expect, exact.verdict) == ("exact", "exact") and exact.predicted > 0
    assert packed.verdict in ("exact", "within 2 %", "in range") and not packed.failed
    assert len(weight_checks(build(small(name), dtype="fp32"))) == 1


def test_a_matrix_too_many_in_a_packed_model_fails_the_check() -> None:
    from profiler.memory import weight_checks

    model = build(small("llama"), dtype="fp32", linear="packed")
    model.surplus = Linear(8, 8)
    model.surplus.pack()
    assert weight_checks(model)[0].failed


def test_unknown_dtypes_and_layouts_are_refused() -> None:
    with pytest.raises(BadRequest, match="fp32, fp16 or bf16"):
        build(small("gpt2"), dtype="fp8")
    with pytest.raises(BadRequest, match="plain or packed"):
        build(small("gpt2"), linear="sparse")


def test_packing_is_refused_where_there_is_no_cpu() -> None:
    with pytest.raises(BadRequest, match="layout for CPUs"):
        build(small("gpt2"), device="meta", dtype="fp32", linear="packed")


def test_a_spec_with_a_weight_that_is_not_built_is_refused() -> None:
    spec = small("llama")
    layer = spec.layers[0]
    odd = Layer(layer.mixers, layer.mlps, (*layer.extra, Weight("norm", 64, 1)))
    changed: dict[str, Any] = {**spec.__dict__, "layers": (odd, *spec.layers[1:])}
    changed.pop("groups", None)
    with pytest.raises(UnsupportedModel, match="not known to the profiler"):
        build(ModelSpec(**changed), dtype="fp32")


def test_the_dtype_is_the_configs_unless_another_is_asked_for() -> None:
    spec = read_config({**SMALL["llama"][1], "torch_dtype": "bfloat16"})
    assert build(spec).embedding.dtype == torch.bfloat16
    assert build(spec, dtype="fp32").embedding.dtype == torch.float32


def test_a_shallower_model_runs() -> None:
    model = build(shallower(small("deepseek_v3"), 1), dtype="fp32")
    assert model(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, VOCAB)


def test_low_precision_stays_near_fp32() -> None:
    ids = torch.randint(0, VOCAB, (1, 20))
    # No experts: a rounded score can pick another one.
    for spec in (small("gpt2"), small("llama"), small("gemma3"), small("deepseek_v3", first_k_dense_replace=3)):
        exact, rough = louder(build(spec, dtype="fp32"), 2.0), build(spec, dtype="bf16")
        with torch.no_grad():
            for mine, other in zip(rough.parameters(), exact.parameters(), strict=True):
                mine.copy_(other)
            apart = (rough(ids).float() - exact(ids)).std() / exact(ids).std()
        assert rough(ids).dtype == torch.bfloat16
        assert apart < 0.02, spec.name


def test_learned_positions_end_where_the_table_ends() -> None:
    model = build(small("gpt2"), dtype="fp32")
    model(torch.zeros(1, 256, dtype=torch.long))
    with pytest.raises(BadRequest, match="257 tokens are more than the 256 positions"):
        model(torch.zeros(1, 257, dtype=torch.long))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "mixtral", "deepseek_v3"])
def test_cuda_gives_the_logits_of_the_cpu(name: str) -> None:
    model = louder(build(small(name), dtype="fp32"))
    ids = torch.randint(0, VOCAB, (2, 20))
    wanted = model(ids)
    model = model.cuda()
    assert (model(ids.cuda()).cpu() - wanted).abs().max() < 1e-3


def test_the_faster_layout_is_taken_and_both_times_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from profiler import layout
    from profiler.device import choose

    for plain, packed, kind in (
        ((2.0, 2.0, 8.0), (1.0, 1.0, 4.0), "packed"),
        ((1.0,), (0.97,), "plain"),  # not clearly
        ((2.0, 2.1, 8.0), (1.0, 30.0, 40.0), "plain"),  # faster when left alone, which it seldom is
    ):
        times = {"plain": Times(plain), "packed": Times(packed)}
        monkeypatch.setattr(layout, "layer_times", lambda spec, dtype, times=times, **_: times)
        found = layout.faster_layout(small("gpt2"), "fp32", rows=(2,), device=choose("cpu"))
        assert found.kind == kind and f"took {kind}" in found.note and "with 2 rows" in found.note


def test_packing_has_to_be_faster_with_every_batch_that_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from profiler import layout
    from profiler.device import choose

    times = {
        1: {"plain": Times((2.0,)), "packed": Times((1.0,))},
        16: {"plain": Times((2.0,)), "packed": Times((1.95,))},
    }
    monkeypatch.setattr(layout, "layer_times", lambda spec, dtype, *, rows, device: times[rows])
    take = {
        rows: layout.faster_layout(small("gpt2"), "fp32", rows=rows, device=choose("cpu")) for rows in ((1,), (1, 16))
    }
    assert [found.kind for found in take.values()] == ["packed", "plain"]
    assert "with 1 row;" in take[1, 16].note and "with 16 rows" in take[1, 16].note


def test_no_layout_is_tried_where_there_is_no_choice_or_no_room() -> None:
    from profiler import layout
    from profiler.device import Device

    class Card(Device):
        kind = "cuda"

    class Full(Device):
        free_bytes = 1 << 20  # type: ignore[assignment]

    assert layout.faster_layout(small("gpt2"), "fp32", rows=(1,), device=Card()) == layout.Layout("plain", "")
    full = layout.faster_layout(small("gpt2"), "fp32", rows=(1,), device=Full())
    assert full.kind == "plain" and "1.00 MiB are free" in full.note


def test_of_experts_only_those_that_a_token_is_sent_to_are_timed() -> None:
    from profiler import layout

    spec = small("mixtral")
    sizes = {(m.outputs, m.inputs) for m in layout._matmuls(spec)}
    experts = next(mlp for mlp in spec.layers[0].mlps if isinstance(mlp, Moe))
    up = (2 * experts.expert_width, experts.hidden)
    assert up in sizes and sum((m.outputs, m.inputs) == up for m in layout._matmuls(spec)) == experts.active


def test_products_of_a_layer_are_measured_in_both_layouts() -> None:
    from profiler.device import choose
    from profiler.layout import layer_times

    found = layer_times(small("gpt2"), "fp32", rows=1, device=choose("cpu"))
    assert set(found) == {"plain", "packed"} and all(min(times.seconds) > 0 for times in found.values())


def test_a_slow_moment_of_the_machine_does_not_choose_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    from profiler import layout
    from profiler.device import choose

    calm, turns = {"plain": 1.0, "packed": 0.5}, {"plain": 0, "packed": 0}

    def layers(spec: ModelSpec, dtype: str, kind: str, **_: Any) -> list[Any]:
        return [lambda: kind] * 3

    def lapped(step: Any, device: object, count: int, warmup: int) -> Times:
        kind = step()
        turns[kind] += 1
        alone = turns[kind] == (2 if kind == "plain" else layout.ROUNDS)  # one copy of one turn is left alone
        return Times(tuple(calm[kind] * (1.0 if alone and copy == 1 else 4.0) for copy in range(count)))

    monkeypatch.setattr(layout, "_layers", layers)
    monkeypatch.setattr(layout, "laps", lapped)
    found = layout.layer_times(small("gpt2"), "fp32", rows=1, device=choose("cpu"))
    assert {kind: min(times.seconds) for kind, times in found.items()} == calm
    assert turns == dict.fromkeys(calm, layout.ROUNDS)
