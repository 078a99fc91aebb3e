"""Real weights from safetensors files into the model: GPT-2's names, LLaMA's, and those of their heirs.

A `Layout` says how a checkpoint names things; all that follows is one walk over the model. Every tensor of
the file must be used or be known to be of no use, every parameter must be filled, and shapes must agree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from planner.errors import BadConfig, KvplanError, UnsupportedModel, one_line
from planner.files.read import parse_json, read_text
from profiler.gpt import GPT, Attention, LatentAttention, Layer, Mlp, Moe, Norm
from profiler.linear import Linear

MAX_INDEX_BYTES = 64 << 20
Split = tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Names of tensors, without `.weight` / `.bias` where they come in pairs.

    qkv, up   one name when the file has the matrix whole, else the names of its parts in order
    conv1d    matrices are stored [in, out] (GPT-2)
    by_head   with as many KV heads as heads, the rows of a whole qkv are q, k, v of head 0, of head 1, ...
    """

    prefixes: Split = ("model.", "model.language_model.", "language_model.model.", "")
    embedding: str = "embed_tokens"
    positions: str = ""
    layer: str = "layers.{}."
    norms: Split = ("input_layernorm", "post_attention_layernorm")
    qkv: Split = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    out: str = "self_attn.o_proj"
    qk_norms: Split = ("self_attn.q_norm", "self_attn.k_norm")
    up: Split = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    norm: str = "norm"
    head: str = "lm_head"
    conv1d: bool = False
    by_head: bool = False


LLAMA = Layout()
GPT2 = Layout(
    prefixes=("transformer.", ""), embedding="wte", positions="wpe", layer="h.{}.", norms=("ln_1", "ln_2"),
    qkv=("attn.c_attn",), out="attn.c_proj", up=("mlp.c_fc",), down="mlp.c_proj", norm="ln_f", conv1d=True,
)  # fmt: skip
LAYOUTS = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "gpt_bigcode": replace(GPT2, conv1d=False, by_head=True),
    "olmo2": replace(LLAMA, norms=("post_attention_layernorm", "post_feedforward_layernorm")),
    "phi3": replace(LLAMA, qkv=("self_attn.qkv_proj",), up=("mlp.gate_up_proj",)),
    "phi": replace(
        LLAMA, norms=("input_layernorm",), out="self_attn.dense", up=("mlp.fc1",), down="mlp.fc2",
        norm="final_layernorm",
    ),
    "starcoder2": replace(LLAMA, up=("mlp.c_fc",), down="mlp.c_proj"),
    "opt": replace(
        LLAMA, prefixes=("model.decoder.", "decoder."), positions="embed_positions",
        norms=("self_attn_layer_norm", "final_layer_norm"), out="self_attn.out_proj", up=("fc1",), down="fc2",
        norm="final_layer_norm",
    ),
    "gpt_neox": replace(
        LLAMA, prefixes=("gpt_neox.", ""), embedding="embed_in", qkv=("attention.query_key_value",),
        out="attention.dense", up=("mlp.dense_h_to_4h",), down="mlp.dense_4h_to_h", norm="final_layer_norm",
        head="embed_out", by_head=True,
    ),
}  # fmt: skip
SANDWICH = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")

# Names a file may hold that no parameter takes: causal masks and frequencies once saved as buffers.
USELESS = re.compile(r"(\.attn\.bias|\.attn\.masked_bias|\.attention\.bias|\.masked_bias|inv_freq)$")

Take = Callable[[str], Tensor]


class Checkpoint:
    """Named tensors, each read when it is asked for; remembers which were."""

    def __init__(self, names: Iterable[str], take: Take, where: str) -> None:
        self.names, self._take, self.where = set(names), take, where
        self.used: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self.names

    def take(self, name: str) -> Tensor:
        if name not in self.names:
            raise BadConfig(
                f"{self.where}: tensor {one_line(name, 80)!r} is missing; is it a checkpoint of this model?"
            )
        self.used.add(name)
        return self._take(name)

    def first(self, *names: str) -> str | None:
        """The first of `names` that is there."""
        return next((name for name in names if name in self.names), None)


def load_weights(model: GPT, path: str) -> list[str]:
    """Fills `model` from a .safetensors file, an .index.json or a folder; answers the names it left aside.

    Load before `pack`. Raises BadConfig for what is missing, left over, or of another shape.
    """
    return fill(model, open_checkpoint(path))


def open_checkpoint(path: str) -> Checkpoint:
    """Opens a checkpoint, a folder or one file, for reading its tensors one by one."""
    try:
        from safetensors import safe_open
    except ImportError:
        raise KvplanError(
            "loading weights needs the safetensors package: pip install 'llm-kvplan[weights]', or leave --weights out "
            "(random weights use the same memory and time)"
        ) from None
    files: dict[str, Any] = {}
    owner: dict[str, Any] = {}
    for file in _files(path):
        try:
            files[file] = safe_open(file, framework="pt", device="cpu")
        except Exception as error:
            raise BadConfig(f"{one_line(file)} is not a safetensors file: {one_line(str(error), 80)}") from None
        owner.update(dict.fromkeys(files[file].keys(), files[file]))
    return Checkpoint(owner, lambda name: owner[name].get_tensor(name), one_line(path))


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        found = sorted(name for name in os.listdir(path) if name.endswith(".safetensors"))
        if not found:
            raise BadConfig(f"{one_line(path)} holds no .safetensors file")
        index = os.path.join(path, "model.safetensors.index.json")
        return _files(index) if os.path.isfile(index) else [os.path.join(path, name) for name in found]
    if not os.path.isfile(path):
        raise BadConfig(f"{one_line(path)} does not exist; a .safetensors file or a folder with some is wanted")
    if not path.endswith(".json"):
        return [path]
    what = "an index of safetensors files"
    try:
        found = parse_json(read_text(path, most_bytes=MAX_INDEX_BYTES, what=what), one_line(path))
        names = set(found["weight_map"].values())
    except (KvplanError, KeyError, AttributeError, TypeError):
        raise BadConfig(
            f"{one_line(path)} is not an index of safetensors files (a JSON object with weight_map)"
        ) from None
    return [os.path.join(os.path.dirname(path), os.path.basename(str(name))) for name in sorted(names)]


def load_state(model: GPT, state: Mapping[str, Tensor], where: str = "state dict") -> list[str]:
    """Loads as `load_weights` does, from tensors in memory."""
    return fill(model, Checkpoint(state, state.__getitem__, where))


@torch.no_grad()
def fill(model: GPT, source: Checkpoint) -> list[str]:
    """Copies every tensor to its place."""
    layout = _layout(model)
    prefix = next((p for p in layout.prefixes if source.has(f"{p}{layout.embedding}.weight")), None)
    if prefix is None:
        wanted = f"{layout.prefixes[0]}{layout.embedding}.weight"
        raise BadConfig(f"{source.where}: no tensor {wanted!r}; is it a checkpoint of {model.spec.name}?")
    filled: set[int] = set()
    put = _Putter(source, filled)
    put(model.embedding, f"{prefix}{layout.embedding}.weight")
    if model.positions is not None:
        put(model.positions, f"{prefix}{layout.positions}.weight")
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, Layer)
        _fill_layer(put, layout, layer, at=prefix + layout.layer.format(index))
    put.norm(model.norm, f"{prefix}{layout.norm}")
    head = source.first(f"{layout.head}.weight", "lm_head.weight")
    if model.head is not None:
        put.linear(model.head, [(head or f"{layout.head}.weight").removesuffix(".weight")])
    elif head is not None:
        source.used.add(head)  # tied: a copy of the embedding
    empty = [name for name, p in _targets(model) if id(p) not in filled]
    if empty:
        raise BadConfig(f"{source.where}: nothing for {', '.join(empty[:4])}")
    return _left_over(model, source, prefix + layout.layer)


def _targets(model: GPT) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _layout(model: GPT) -> Layout:
    recipe, spec = model.design.recipe, model.spec
    if recipe.layout not in LAYOUTS:
        raise UnsupportedModel(
            f"{spec.name}: loading weights of model_type {spec.model_type!r} is not written; run it with random weights"
        )
    layout = LAYOUTS[recipe.layout]
    return replace(layout, norms=SANDWICH) if recipe.residual == "sandwich" else layout


def _left_over(model: GPT, source: Checkpoint, layer: str) -> list[str]:
    """Names that nobody took: refused unless they are masks, other towers, or layers beyond the model's."""
    deeper = re.compile(re.escape(layer).replace(r"\{\}", r"(\d+)"))
    aside: list[str] = []
    unknown: list[str] = []
    for name in sorted(source.names - source.used):
        match = deeper.match(name)
        beyond = match is not None and int(match.group(1)) >= len(model.layers)
        tower = bool(model.spec.towers) and re.search(r"vision|audio|projector|multi_modal", name)
        (aside if USELESS.search(name) or beyond or tower else unknown).append(name)
    if unknown:
        raise BadConfig(
            f"{source.where}: {len(unknown)} tensors are not understood, {one_line(unknown[0], 80)!r} for one; is it a "
            "quantised or adapted checkpoint?"
        )
    return aside


class _Putter:
    """Copies named tensors into parameters, shapes checked."""

    def __init__(self, source: Checkpoint, filled: set[int]) -> None:
        self.source, self.filled = source, filled

    def __call__(self, target: Tensor, name: str) -> None:
        self.copy(target, self.source.take(name), name)

    def copy(self, target: Tensor, value: Tensor, name: str) -> None:
        if target.shape != value.shape:
            raise BadConfig(
                f"{self.source.where}: tensor {one_line(name, 80)!r} is {list(value.shape)}; "
                f"{list(target.shape)} is wanted"
            )
        target.copy_(value)
        self.filled.add(id(target))

    def norm(self, norm: nn.Module | None, name: str) -> None:
        if not isinstance(norm, Norm):
            return
        self(norm.weight, f"{name}.weight")
        if norm.bias is not None:
            self(norm.bias, f"{name}.bias")

    def linear(  # parameters: what one run is made of
        self, linear: nn.Module | None, names: Iterable[str], conv1d: bool = False, heads: tuple[int, int] | None = None
    ) -> None:
        """One or several matrices under each other; `heads` (count, width): rows come head by head."""
        if not isinstance(linear, Linear):
            return
        names = list(names)
        if linear.weight is None:
            raise BadConfig(f"{self.source.where}: the model is packed already; load its weights first")
        parts = [self.source.take(f"{name}.weight") for name in names]
        self.copy(linear.weight, _rows([p.t() for p in parts] if conv1d else parts, heads), f"{names[0]}.weight")
        if linear.bias is not None:
            biases = [self.source.take(f"{name}.bias") for name in names]
            self.copy(linear.bias, _rows(biases, heads), f"{names[0]}.bias")


def _rows(parts: list[Tensor], heads: tuple[int, int] | None) -> Tensor:
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    if heads is None:
        return whole
    count, width = heads  # [H, (q, k, v), D] -> [(q, k, v), H, D]
    return whole.reshape(count, 3, width, *whole.shape[1:]).transpose(0, 1).flatten(0, 2)


def _fill_layer(put: _Putter, layout: Layout, layer: Layer, *, at: str) -> None:
    for norm, name in zip(layer.norms, layout.norms, strict=True):
        put.norm(norm, at + name)
    attention = layer.attention
    if isinstance(attention, LatentAttention):
        _fill_latent(put, attention, f"{at}self_attn.")
    else:
        assert isinstance(attention, Attention)
        heads = (attention.heads, attention.dim) if layout.by_head and attention.kv_heads == attention.heads else None
        put.linear(attention.qkv, [at + name for name in layout.qkv], layout.conv1d, heads)
        put.linear(attention.out, [at + layout.out], layout.conv1d)
        put.norm(attention.q_norm, at + layout.qk_norms[0])
        put.norm(attention.k_norm, at + layout.qk_norms[1])
    if isinstance(layer.mlp, Moe):
        _fill_experts(put, layer.mlp, at)
    else:
        assert isinstance(layer.mlp, Mlp)
        put.linear(layer.mlp.up, [at + name for name in layout.up], layout.conv1d)
        put.linear(layer.mlp.down, [at + layout.down], layout.conv1d)


def _fill_latent(put: _Putter, attention: LatentAttention, at: str) -> None:
    if attention.q_a is None:
        put.linear(attention.q_b, [f"{at}q_proj"])
    else:
        put.linear(attention.q_a, [f"{at}q_a_proj"])
        put.norm(attention.q_norm, f"{at}q_a_layernorm")
        put.linear(attention.q_b, [f"{at}q_b_proj"])
    put.linear(attention.kv_a, [f"{at}kv_a_proj_with_mqa"])
    put.norm(attention.kv_norm, f"{at}kv_a_layernorm")
    put(attention.kv_b, f"{at}kv_b_proj.weight")
    put.linear(attention.out, [f"{at}o_proj"])


def _fill_experts(put: _Putter, moe: Moe, at: str) -> None:
    """Experts in one tensor (transformers 5) or one by one, under either of the names in use."""
    source = put.source
    at += "block_sparse_moe." if source.has(f"{at}block_sparse_moe.gate.weight") else "mlp."
    put(moe.router, f"{at}gate.weight")
    if moe.rules.kind == "deepseek_v3":
        put(moe.correction, f"{at}gate.e_score_correction_bias")
    if source.has(f"{at}experts.gate_up_proj"):
        put(moe.up, f"{at}experts.gate_up_proj")
        put(moe.down, f"{at}experts.down_proj")
    else:
        numbered = source.has(f"{at}experts.0.w1.weight")  # Mixtral's own names
        gate, up, down = ("w1", "w3", "w2") if numbered else ("gate_proj", "up_proj", "down_proj")
        for expert in range(moe.up.shape[0]):
            name = f"{at}experts.{expert}."
            both = torch.cat([source.take(f"{name}{part}.weight") for part in (gate, up)])
            put.copy(moe.up[expert], both, f"{name}{gate}.weight")
            put.copy(moe.down[expert], source.take(f"{name}{down}.weight"), f"{name}{down}.weight")
        put.filled.update((id(moe.up), id(moe.down)))
    if moe.shared is not None:
        shared = at + ("shared_expert." if source.has(f"{at}shared_expert.up_proj.weight") else "shared_experts.")
        put.linear(moe.shared.up, [f"{shared}gate_proj", f"{shared}up_proj"])
        put.linear(moe.shared.down, [f"{shared}down_proj"])
    put.linear(moe.shared_gate, [f"{at}shared_expert_gate"])
