"""Checkpoints in the names that published files use; what does not fit is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.profiler.small_models import NEEDS_TORCH, VOCAB, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
safetensors = pytest.importorskip("safetensors.torch", reason="weights are read with safetensors (extra: weights)")

from planner.errors import BadConfig, UnsupportedModel
from profiler.gpt import GPT, blank, build
from profiler.weights import load_state, load_weights

Tensors = dict[str, Any]


def gpt2_file(model: GPT) -> Tensors:
    """A GPT-2 checkpoint as released: Conv1D matrices [in, out], causal masks saved along."""
    tensors: Tensors = {"wte.weight": model.embedding, "wpe.weight": model.positions}
    for i, layer in enumerate(model.layers):
        pairs = {"attn.c_attn": layer.attention.qkv, "attn.c_proj": layer.attention.out,
                 "mlp.c_fc": layer.mlp.up, "mlp.c_proj": layer.mlp.down}  # fmt: skip
        for name, linear in pairs.items():
            tensors[f"h.{i}.{name}.weight"] = linear.weight.t()
            tensors[f"h.{i}.{name}.bias"] = linear.bias
        for name, norm in zip(("ln_1", "ln_2"), layer.norms, strict=True):
            tensors |= {f"h.{i}.{name}.weight": norm.weight, f"h.{i}.{name}.bias": norm.bias}
        tensors[f"h.{i}.attn.bias"] = torch.ones(1, 1, 256, 256)
    return {
        k: v.detach().clone()
        for k, v in {**tensors, "ln_f.weight": model.norm.weight, "ln_f.bias": model.norm.bias}.items()
    }


def llama_file(model: GPT) -> Tensors:
    """LLaMA's names; experts one by one under Mixtral's."""
    tensors: Tensors = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm.weight}
    if model.head is not None:
        tensors["lm_head.weight"] = model.head.weight
    for i, layer in enumerate(model.layers):
        at = f"model.layers.{i}."
        q, k, v = layer.attention.qkv.weight.split(layer.attention.sizes)
        tensors |= {f"{at}self_attn.{n}_proj.weight": w for n, w in zip("qkv", (q, k, v), strict=True)}
        tensors[f"{at}self_attn.o_proj.weight"] = layer.attention.out.weight
        tensors[f"{at}input_layernorm.weight"] = layer.norms[0].weight
        tensors[f"{at}post_attention_layernorm.weight"] = layer.norms[1].weight
        if model.spec.model_type == "mixtral":
            tensors[f"{at}block_sparse_moe.gate.weight"] = layer.mlp.router
            for e in range(4):
                gate, up = layer.mlp.up[e].chunk(2)
                for name, w in (("w1", gate), ("w3", up), ("w2", layer.mlp.down[e])):
                    tensors[f"{at}block_sparse_moe.experts.{e}.{name}.weight"] = w
        else:
            gate, up = layer.mlp.up.weight.chunk(2)
            for name, w in (("gate", gate), ("up", up), ("down", layer.mlp.down.weight)):
                tensors[f"{at}mlp.{name}_proj.weight"] = w
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def save(tensors: Tensors, path: Path) -> str:
    safetensors.save_file({name: t.contiguous() for name, t in tensors.items()}, str(path))
    return str(path)


def same(a: GPT, b: GPT) -> bool:
    ids = torch.randint(0, VOCAB, (2, 9))
    return torch.equal(a(ids), b(ids))


@pytest.mark.parametrize(("name", "write"), [("gpt2", gpt2_file), ("llama", llama_file), ("mixtral", llama_file)])
def test_a_file_fills_the_model(name: str, write: Any, tmp_path: Path) -> None:
    model = build(small(name), dtype="fp32", seed=1)
    other = blank(small(name))
    aside = load_weights(other, save(write(model), tmp_path / "model.safetensors"))
    assert same(model, other)
    assert aside == [f"h.{i}.attn.bias" for i in range(3)] * (name == "gpt2")


def test_gpt2_files_may_carry_the_prefix_and_the_tied_head(tmp_path: Path) -> None:
    model = build(small("gpt2"), dtype="fp32", seed=1)
    tensors = {f"transformer.{name}": t for name, t in gpt2_file(model).items()}
    tensors["lm_head.weight"] = model.embedding.detach().clone()
    other = blank(small("gpt2"))
    load_weights(other, save(tensors, tmp_path / "model.safetensors"))
    assert same(model, other)


def test_several_files_with_and_without_an_index(tmp_path: Path) -> None:
    model = build(small("llama"), dtype="fp32", seed=1)
    names = sorted(tensors := llama_file(model))
    half = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, keys in half.items():
        save({key: tensors[key] for key in keys}, tmp_path / file)
    other = blank(small("llama"))
    load_weights(other, str(tmp_path))
    assert same(model, other)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: file for file, keys in half.items() for key in keys}}))
    for path in (tmp_path, index):
        other = blank(small("llama"))
        load_weights(other, str(path))
        assert same(model, other)


def test_weights_are_converted_to_the_models_dtype(tmp_path: Path) -> None:
    model = build(small("llama"), dtype="bf16", seed=1)
    other = blank(small("llama"), dtype=torch.float32)
    load_weights(other, save(llama_file(model), tmp_path / "m.safetensors"))
    assert torch.equal(other.embedding, model.embedding.float())


def test_a_shallower_model_leaves_deeper_layers_aside() -> None:
    from profiler.recipes import shallower

    model = build(small("llama"), dtype="fp32", seed=1)
    aside = load_state(blank(shallower(small("llama"), 2)), llama_file(model))
    assert aside and all(name.startswith("model.layers.2.") for name in aside)


def test_a_missing_tensor_is_named() -> None:
    tensors = llama_file(build(small("llama"), dtype="fp32"))
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    with pytest.raises(BadConfig, match=r"layers\.1\.self_attn\.k_proj\.weight' is missing"):
        load_state(blank(small("llama")), tensors)


def test_an_untied_model_needs_its_head() -> None:
    tensors = llama_file(build(small("llama"), dtype="fp32"))
    del tensors["lm_head.weight"]
    with pytest.raises(BadConfig, match=r"lm_head\.weight' is missing"):
        load_state(blank(small("llama")), tensors)


def test_a_tensor_of_another_shape_is_named_with_both() -> None:
    tensors = llama_file(build(small("llama"), dtype="fp32"))
    with pytest.raises(BadConfig, match=r"\[97, 64\]; \[100, 64\] is wanted"):
        load_state(blank(small("llama", vocab_size=100)), tensors)


def test_left_over_tensors_are_refused() -> None:
    tensors = llama_file(build(small("llama"), dtype="fp32"))
    tensors["model.layers.0.self_attn.q_proj.weight_scale_inv"] = torch.ones(1)
    with pytest.raises(BadConfig, match=r"1 tensors are not understood, .*weight_scale_inv"):
        load_state(blank(small("llama")), tensors)


def test_a_checkpoint_of_another_model_is_refused() -> None:
    with pytest.raises(BadConfig, match=r"no tensor 'model.embed_tokens.weight'"):
        load_state(blank(small("llama")), gpt2_file(build(small("gpt2"), dtype="fp32")))


def test_types_without_a_known_layout_run_on_random_weights_only() -> None:
    spec = small("llama", model_type="internlm2")
    with pytest.raises(UnsupportedModel, match="random weights"):
        load_state(build(spec, dtype="fp32"), {})


def test_a_packed_model_takes_no_weights_any_more() -> None:
    model = build(small("llama"), dtype="fp32")
    tensors = llama_file(model)
    with pytest.raises(BadConfig, match="packed already"):
        load_state(model.pack(), tensors)


@pytest.mark.parametrize("content", [None, b"", b"not tensors"])
def test_files_that_are_not_safetensors_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadConfig):
        load_weights(blank(small("gpt2")), str(path))
    with pytest.raises(BadConfig, match=r"no \.safetensors|not a safetensors"):
        load_weights(blank(small("gpt2")), str(tmp_path))


def test_a_broken_index_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    for text in ("{", "[]", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(BadConfig, match="not an index"):
            load_weights(blank(small("gpt2")), str(index))
