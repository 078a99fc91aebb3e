"""A GPT built from a ModelSpec: attention of every softmax kind, dense or with experts, one class each.

B batch, T new tokens, S slots attended to, C hidden width, H query heads, K KV heads, D head width.
The model holds no state between calls: what it remembers is in the cache it is given (`profiler.caches`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planner.dtypes.names import float_dtype
from planner.errors import BadRequest, UnsupportedModel
from planner.model.attention import Attention as AttentionSpec
from planner.model.latent_attention import LatentAttention as LatentSpec
from planner.model.mlp import Mlp as MlpSpec
from planner.model.moe import Moe as MoeSpec
from planner.model.parameters import parameters
from planner.model.spec import ModelSpec
from profiler.attention import attend, attention_mask
from profiler.caches import Cache
from profiler.linear import (
    LINEAR_KINDS,
    Linear,
    check_packing,
    pack_matrix,
    packed_bytes,
    packed_linear,
    unpacked_bytes,
)
from profiler.recipes import NORMS, Design, LayerDesign, Rope, design
from profiler.rope import RopeTable, rotate

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
INIT_STD = 0.02  # GPT-2's; memory and speed do not depend on it

Turn = tuple[Tensor, Tensor] | None  # cos and sin of the new positions

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    **{name: (lambda x: F.gelu(x, approximate="tanh")) for name in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")},
}


class Norm(nn.Module):
    """RMSNorm or LayerNorm over the last `width` numbers; `offset`: the gain is 1 + weight (Gemma)."""

    def __init__(self, width: int, eps: float, kind: str = "rms", *, offset: bool = False) -> None:
        super().__init__()
        self.width, self.eps, self.kind, self.offset = width, eps, kind, offset
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if kind == "layer" else None

    def forward(self, x: Tensor) -> Tensor:  # parameters: the tensors of one operation
        if self.kind == "layer":
            return F.layer_norm(x, (self.width,), self.weight, self.bias, self.eps)
        gain = 1.0 + self.weight if self.offset else self.weight
        return F.rms_norm(x, (self.width,), gain, self.eps)


class Attention(nn.Module):
    """MHA, GQA or MQA. q, k and v come from one matrix: qkv [(H + K)·D + K·Dv, C]."""

    def __init__(self, layer: LayerDesign, whole: Design, index: int) -> None:
        super().__init__()
        spec = layer.mixer
        assert isinstance(spec, AttentionSpec)
        self.layer, self.index = layer, index
        self.heads, self.kv_heads, self.dim, self.v_dim = spec.heads, spec.kv_heads, spec.head_dim, spec.value_dim
        self.sizes = [self.heads * self.dim, self.kv_heads * self.dim, self.kv_heads * self.v_dim]
        self.qkv = Linear(spec.hidden, sum(self.sizes), spec.qkv_bias)
        self.out = Linear(self.heads * self.v_dim, spec.hidden, spec.out_bias)
        self.per_head = spec.qk_norm == "head"
        norms = (self.dim, self.dim) if self.per_head else self.sizes[:2]
        offset = whole.recipe.gain_offset
        self.q_norm = Norm(norms[0], whole.eps, offset=offset) if spec.qk_norm else None
        self.k_norm = Norm(norms[1], whole.eps, offset=offset) if spec.qk_norm else None

    def forward(
        self, x: Tensor, turn: Turn, mask: Tensor | None, causal: bool, cache: Cache | None
    ) -> Tensor:  # parameters: the tensors of one operation
        batch, new, _ = x.shape
        q, k, v = self.qkv(x).split(self.sizes, dim=-1)  # [B, T, H·D], [B, T, K·D], [B, T, K·Dv]
        if self.q_norm is not None and self.k_norm is not None and not self.per_head:
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(batch, new, self.heads, self.dim)
        k = k.view(batch, new, self.kv_heads, self.dim)
        if self.q_norm is not None and self.k_norm is not None and self.per_head:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)  # [B, H, T, D], [B, K, T, D]
        v = v.view(batch, new, self.kv_heads, self.v_dim).transpose(1, 2)  # [B, K, T, Dv]
        if turn is not None and self.layer.rope is not None:
            q = rotate(q, *turn, self.layer.rope.interleaved)
            k = rotate(k, *turn, self.layer.rope.interleaved)
        if cache is not None:
            k, v = cache.update(self.index, k, v)  # [B, K, S, D], [B, K, S, Dv]
        mixed = attend(q, k, v, mask=mask, causal=causal, scale=self.layer.scale, softcap=self.layer.softcap)
        result: Tensor = self.out(mixed)
        return result


class LatentAttention(nn.Module):
    """MLA: what is cached is one latent [R] and one rotated key [P] a token, for all heads.

    Prefill expands keys and values from the latents. Decode does not: the up-projections move to the query
    and to the output (q·(W c) = (Wᵀq)·c), so that each step reads the latents alone. arXiv:2405.04434, 2.1.2.
    """

    def __init__(self, layer: LayerDesign, whole: Design, index: int) -> None:
        super().__init__()
        spec = layer.mixer
        assert isinstance(spec, LatentSpec)
        self.layer, self.index, self.heads = layer, index, spec.heads
        self.rank, self.nope, self.rope, self.v_dim = spec.kv_rank, spec.nope_dim, spec.rope_dim, spec.v_dim
        eps = 1e-6  # of these two norms, whatever rms_norm_eps is. Source: DeepseekV3Attention
        q_out = spec.heads * (spec.nope_dim + spec.rope_dim)
        self.q_a = Linear(spec.hidden, spec.q_rank, spec.bias) if spec.q_rank else None
        self.q_norm = Norm(spec.q_rank, eps) if spec.q_rank else None
        self.q_b = Linear(spec.q_rank or spec.hidden, q_out)
        self.kv_a = Linear(spec.hidden, spec.kv_rank + spec.rope_dim, spec.bias)
        self.kv_norm = Norm(spec.kv_rank, eps)
        # [H·(nope + v), R]; kept plain: decode takes it apart by head.
        self.kv_b = nn.Parameter(torch.empty(spec.heads * (spec.nope_dim + spec.v_dim), spec.kv_rank))
        self.out = Linear(spec.heads * spec.v_dim, spec.hidden, spec.bias)

    def forward(
        self, x: Tensor, turn: Turn, mask: Tensor | None, causal: bool, cache: Cache | None
    ) -> Tensor:  # parameters: the tensors of one operation
        batch, new, _ = x.shape
        low = self.q_norm(self.q_a(x)) if self.q_a is not None and self.q_norm is not None else x
        q = self.q_b(low).view(batch, new, self.heads, self.nope + self.rope).transpose(1, 2)
        q_nope, q_rope = torch.split(q, [self.nope, self.rope], dim=-1)  # [B, H, T, nope], [B, H, T, P]
        # [B, 1, T, R], [B, 1, T, P]
        latent, k_rope = torch.split(self.kv_a(x).unsqueeze(1), [self.rank, self.rope], dim=-1)
        latent = self.kv_norm(latent)
        if turn is not None and self.layer.rope is not None:
            q_rope = rotate(q_rope, *turn, self.layer.rope.interleaved)
            k_rope = rotate(k_rope, *turn, self.layer.rope.interleaved)
        kept = torch.cat((latent, k_rope), dim=-1)
        if cache is not None:
            kept, _ = cache.update(self.index, kept, kept[..., :0])  # [B, 1, S, R + P]
        up = self.kv_b.view(self.heads, self.nope + self.v_dim, self.rank)
        mix = self._absorbed if new == 1 else self._expanded
        result: Tensor = self.out(mix(q_nope, q_rope, kept, up, mask, causal))
        return result

    def _expanded(  # parameters: the tensors of one operation
        self, q_nope: Tensor, q_rope: Tensor, kept: Tensor, up: Tensor, mask: Tensor | None, causal: bool
    ) -> Tensor:
        latent, k_rope = torch.split(kept, [self.rank, self.rope], dim=-1)
        both = torch.matmul(latent, up.transpose(1, 2))  # [B, H, S, nope + v]
        k_nope, v = torch.split(both, [self.nope, self.v_dim], dim=-1)
        k = torch.cat((k_nope, k_rope.expand(-1, self.heads, -1, -1)), dim=-1)
        q = torch.cat((q_nope, q_rope), dim=-1)
        return attend(q, k, v, mask=mask, causal=causal, scale=self.layer.scale)

    def _absorbed(  # parameters: the tensors of one operation
        self, q_nope: Tensor, q_rope: Tensor, kept: Tensor, up: Tensor, mask: Tensor | None, causal: bool
    ) -> Tensor:
        """One query: attention over the latents themselves, as if they were the one KV head."""
        up_k, up_v = torch.split(up, [self.nope, self.v_dim], dim=1)  # [H, nope, R], [H, v, R]
        q = torch.cat((torch.matmul(q_nope, up_k), q_rope), dim=-1)  # [B, H, 1, R + P]
        mixed = attend(q, kept, kept[..., : self.rank], mask=mask, causal=causal, scale=self.layer.scale)
        batch = mixed.shape[0]
        latent = mixed.view(batch, 1, self.heads, self.rank).transpose(1, 2)  # [B, H, 1, R]
        return torch.matmul(latent, up_v.transpose(1, 2)).transpose(1, 2).reshape(batch, 1, -1)  # [B, 1, H·v]


class Mlp(nn.Module):
    """down(act(up x)), or down(act(gate x) · up x) with gate and up in one matrix [2·width, C]."""

    def __init__(self, spec: MlpSpec, activation: str) -> None:
        super().__init__()
        self.gated, self.act = spec.gated, ACTIVATIONS[activation]
        self.up = Linear(spec.hidden, spec.width * (2 if spec.gated else 1), spec.bias)
        self.down = Linear(spec.width, spec.hidden, spec.bias)

    def forward(self, x: Tensor) -> Tensor:  # parameters: the tensors of one operation
        up = self.up(x)
        if self.gated:
            gate, up = up.chunk(2, dim=-1)
            result: Tensor = self.down(self.act(gate) * up)
        else:
            result = self.down(self.act(up))
        return result


class Moe(nn.Module):
    """A router, its experts (gate and up [E, 2·width, C], down [E, C, width]) and the shared ones."""

    def __init__(self, layer: LayerDesign, activation: str) -> None:
        super().__init__()
        spec, router = layer.mlp, layer.router
        assert isinstance(spec, MoeSpec) and router is not None
        self.rules, self.active, self.act = router, spec.active, ACTIVATIONS[activation]
        self.router = nn.Parameter(torch.empty(spec.experts, spec.hidden))
        self.correction: Tensor
        if router.kind == "deepseek_v3":  # a buffer in transformers too: it is not trained by gradients
            self.register_buffer("correction", torch.zeros(spec.experts, dtype=torch.float32))
        self.up = nn.Parameter(torch.empty(spec.experts, 2 * spec.expert_width, spec.hidden))
        self.down = nn.Parameter(torch.empty(spec.experts, spec.hidden, spec.expert_width))
        self.packed: list[tuple[Tensor, Tensor]] = []
        self.shared = Mlp(MlpSpec(spec.hidden, spec.shared_width), activation) if spec.shared_width else None
        self.shared_gate = Linear(spec.hidden, 1) if spec.shared_gate else None

    def forward(self, x: Tensor) -> Tensor:  # parameters: the tensors of one operation
        flat = x.reshape(-1, x.shape[-1])  # [N, C]
        chosen, weights = self.route(flat)  # [N, active] each
        result = torch.zeros_like(flat)
        for expert in sorted(set(chosen.flatten().tolist())):
            token, place = (chosen == expert).nonzero(as_tuple=True)
            y = self.expert(expert, flat[token]) * weights[token, place, None]
            result.index_add_(0, token, y.to(result.dtype))
        if self.shared is not None:
            shared = self.shared(flat)
            if self.shared_gate is not None:
                shared = torch.sigmoid(self.shared_gate(flat)) * shared
            result = result + shared
        return result.view_as(x)

    def expert(self, index: int, x: Tensor) -> Tensor:
        if self.packed:
            up, down = self.packed[index]
            gate, value = packed_linear(x, up, None).chunk(2, dim=-1)
            return packed_linear(self.act(gate) * value, down, None)
        gate, value = F.linear(x, self.up[index]).chunk(2, dim=-1)
        return F.linear(self.act(gate) * value, self.down[index])

    def route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each token's experts and their weights; scores in fp32."""
        rules, logits = self.rules, F.linear(x.float(), self.router.float())  # [N, E]
        scores = logits.sigmoid() if rules.kind == "deepseek_v3" else logits.softmax(dim=-1)
        ranked = scores + self.correction if rules.kind == "deepseek_v3" else scores
        if rules.groups > 1:
            ranked = self._best_groups(ranked)
        chosen = ranked.topk(self.active, dim=-1).indices
        weights = scores.gather(1, chosen)
        if rules.normalise:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return chosen, weights * rules.scaling

    def _best_groups(self, ranked: Tensor) -> Tensor:
        """Only the groups whose best expert (V2) or two best (V3) stand highest stay in the running."""
        rules = self.rules
        grouped = ranked.view(ranked.shape[0], rules.groups, -1)  # [N, groups, E / groups]
        best = grouped.topk(2, dim=-1).values.sum(-1) if rules.kind == "deepseek_v3" else grouped.amax(-1)
        keep = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(rules.top_groups, dim=-1).indices, True)
        return grouped.masked_fill(~keep.unsqueeze(-1), float("-inf")).flatten(-2)

    def pack(self) -> None:
        if not self.packed:
            self.packed = [(pack_matrix(up), pack_matrix(down)) for up, down in zip(self.up, self.down, strict=True)]
            empty = torch.empty(0, dtype=self.up.dtype)
            self.up, self.down = nn.Parameter(empty), nn.Parameter(empty.clone())


class Layer(nn.Module):
    """Attention and MLP with their norms and residuals, arranged as the recipe says."""

    def __init__(self, layer: LayerDesign, whole: Design, index: int) -> None:
        super().__init__()
        self.kind, self.scale, spec = whole.recipe.residual, whole.residual_scale, whole.spec
        mixer = Attention if isinstance(layer.mixer, AttentionSpec) else LatentAttention
        self.attention = mixer(layer, whole, index)
        self.mlp: nn.Module = (
            Moe(layer, whole.activation) if isinstance(layer.mlp, MoeSpec) else Mlp(layer.mlp, whole.activation)
        )
        self.norms = nn.ModuleList(_norm(whole, spec.hidden) for _ in range(NORMS[self.kind]))

    def forward(
        self, x: Tensor, turn: Turn, mask: Tensor | None, causal: bool, cache: Cache | None
    ) -> Tensor:  # parameters: the tensors of one operation
        norms = self.norms

        def attention(y: Tensor) -> Tensor:
            result: Tensor = self.attention(y, turn, mask, causal, cache)
            return result

        if self.kind == "pre":
            x = x + self._scaled(attention(norms[0](x)))
            x = x + self._scaled(self.mlp(norms[1](x)))
        elif self.kind == "post":
            x = x + norms[0](attention(x))
            x = x + norms[1](self.mlp(x))
        elif self.kind == "sandwich":
            x = x + norms[1](attention(norms[0](x)))
            x = x + norms[3](self.mlp(norms[2](x)))
        else:  # parallel, or shared: then both norms are the one there is
            x = x + attention(norms[0](x)) + self.mlp(norms[-1](x))
        return x

    def _scaled(self, y: Tensor) -> Tensor:
        return y if self.scale == 1.0 else y * self.scale


class GPT(nn.Module):
    """tokens [B, T] -> logits [B, T, V]."""

    def __init__(self, whole: Design) -> None:
        super().__init__()
        spec = whole.spec
        self.design, self.spec = whole, spec
        self.embedding = nn.Parameter(torch.empty(spec.vocab, spec.hidden))
        self.positions = nn.Parameter(torch.empty(whole.positions, spec.hidden)) if whole.positions else None
        self.layers = nn.ModuleList(Layer(layer, whole, i) for i, layer in enumerate(whole.layers))
        self.norm = _norm(whole, spec.hidden)
        self.head = None if spec.tied and not whole.head_bias else Linear(spec.hidden, spec.vocab, whole.head_bias)
        self.packed_head: Tensor | None = None  # of a tied head; the embedding stays as the table it is
        self.cache: Cache | None = None  # set by `enable_kv_cache`; used when a call brings none
        self.ropes: dict[Rope, RopeTable] = {}
        # Layers that attend alike (same window, same MLA or not) share one mask.
        self.mask_of = {layer.window: i for i, layer in reversed(list(enumerate(whole.layers)))}

    @property
    def context(self) -> int | None:
        """The longest sequence, where the config says one."""
        return self.spec.max_positions

    def forward(  # parameters: the tensors of one operation
        self, tokens: Tensor, cache: Cache | None = None, starts: Tensor | None = None, last_only: bool = False
    ) -> Tensor:
        """`starts` [B]: padded slots at the left of each row; `last_only`: logits of the last token, [B, 1, V]."""
        cache = self.cache if cache is None else cache
        past, new = cache.tokens if cache is not None else 0, tokens.shape[1]
        self._check(past, new)
        x, positions = self._embed(tokens, past, starts)
        turns = {rope: table(positions, x.dtype) for rope, table in self.ropes.items()}
        masks = {
            window: attention_mask(cache, layer, past, new, window, starts, tokens.device)
            for window, layer in self.mask_of.items()
        }
        for layer, plan in zip(self.layers, self.design.layers, strict=True):
            mask = masks[plan.window]
            turn = turns[plan.rope] if plan.rope is not None else None
            x = layer(x, turn, mask, mask is None and new > 1, cache)
        return self.logits(x[:, -1:] if last_only else x)

    def logits(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T, V]."""
        x = self.norm(x)
        if self.packed_head is not None:
            y = packed_linear(x, self.packed_head, None)
        else:
            y = self.head(x) if self.head is not None else F.linear(x, self.embedding)
        if self.design.logits_divisor != 1.0:
            y = y / self.design.logits_divisor
        cap = self.design.final_softcap
        return y if cap is None else torch.tanh(y / cap) * cap

    def _embed(self, tokens: Tensor, past: int, starts: Tensor | None) -> tuple[Tensor, Tensor]:
        """(x [B, T, C], positions [T], or [B, T] where rows start at different slots)."""
        positions = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        if starts is not None:
            positions = (positions - starts[:, None]).clamp_min(0)
        x = F.embedding(tokens, self.embedding)
        if self.design.embed_scale != 1.0:
            x = x * torch.tensor(self.design.embed_scale, dtype=x.dtype)
        if self.positions is not None:
            x = x + F.embedding(positions + self.design.recipe.position_offset, self.positions)
        return x, positions

    def _check(self, past: int, new: int) -> None:
        if self.positions is not None and self.context is not None and past + new > self.context:
            raise BadRequest(
                f"{past + new:,} tokens are more than the {self.context:,} positions {self.spec.name} has; "
                "shorten the prompt or ask for fewer new tokens"
            )

    def set_ropes(self) -> None:
        device = self.embedding.device
        self.ropes = {layer.rope: RopeTable(layer.rope, device) for layer in self.design.layers if layer.rope}

    def pack(self) -> GPT:
        """Reorders every matrix for reading speed (CPU, inference); parameters are then gone for good."""
        check_packing(self.embedding.device, self.embedding.dtype)
        for module in self.modules():
            if isinstance(module, (Linear, Moe)):
                module.pack()
        if self.head is None:
            self.packed_head = pack_matrix(self.embedding)
        return self

    @property
    def weight_bytes(self) -> int:
        """Bytes that the weights hold, packed ones with their padding; a packed tied head is a second copy."""
        return self._plain_bytes + sum(packed_bytes(packed) for packed in self.packed_matrices())

    @property
    def stored_bytes(self) -> int:
        """Bytes of its tensors as a checkpoint has them: a packed matrix without its padding, a tied head once."""
        copy = self.packed_head
        return self._plain_bytes + sum(
            unpacked_bytes(packed) for packed in self.packed_matrices() if packed is not copy
        )

    @property
    def _plain_bytes(self) -> int:
        return sum(p.nbytes for p in self.parameters()) + sum(b.nbytes for b in self.buffers())

    def packed_matrices(self) -> Iterator[Tensor]:
        """Gives every reordered matrix, the tied head's last."""
        for module in self.modules():
            if isinstance(module, Linear) and module.packed is not None:
                yield module.packed
            elif isinstance(module, Moe):
                for pair in module.packed:
                    yield from pair
        if self.packed_head is not None:
            yield self.packed_head


def _norm(whole: Design, width: int) -> Norm:
    return Norm(width, whole.eps, whole.norm, offset=whole.recipe.gain_offset)


def build(
    spec: ModelSpec,
    *,
    device: torch.device | str = "cpu",
    dtype: str | None = None,
    seed: int = 0,
    linear: str = "plain",
) -> GPT:
    """Builds the model of `spec` with random weights, ready for inference.

    `dtype` fp32, fp16 or bf16 (default: the spec's, else fp32). Raises UnsupportedModel for what cannot be
    built, and when what would be built does not have exactly the parameters that the spec counts.
    """
    device = torch.device(device)
    if linear not in LINEAR_KINDS:
        raise BadRequest(f"--linear {linear!r} is not known; choose {' or '.join(LINEAR_KINDS)}")
    kind = torch_dtype(dtype or spec.dtype or "fp32")
    if linear == "packed":
        check_packing(device, kind)
    model = blank(spec, device=device, dtype=kind)
    initialise(model, seed)
    return model.pack() if linear == "packed" else model


def blank(spec: ModelSpec, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> GPT:
    """Builds the model of `spec` with memory for its weights and nothing in it yet."""
    with torch.device("meta"):
        model = GPT(design(spec)).to(dtype)
    _check_parameters(model)
    for name, buffer in model.named_buffers():  # the router's correction stays fp32
        assert name.endswith("correction"), name
        buffer.data = buffer.data.float()
    model = model.to_empty(device=device).eval().requires_grad_(False)
    model.set_ropes()
    return model


def _check_parameters(model: GPT) -> None:
    built = sum(p.numel() for p in model.parameters())
    counted = parameters(model.spec) - sum(weight.parameters for weight in model.spec.towers)
    if built != counted:
        raise UnsupportedModel(
            f"{model.spec.name}: the profiler would build {built:,} parameters and the model has {counted:,}: some "
            "part of it is not known to the profiler"
        )


@torch.no_grad()
def initialise(model: GPT, seed: int = 0) -> None:
    """Random weights: normal of deviation 0.02, gains one, biases zero. Equal for equal seeds on one device."""
    generator = torch.Generator(model.embedding.device).manual_seed(seed)
    gains = {id(m.weight) for m in model.modules() if isinstance(m, Norm) and not m.offset}
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, INIT_STD, generator=generator)
        else:
            parameter.fill_(1.0 if id(parameter) in gains else 0.0)
    for buffer in model.buffers():
        buffer.zero_()


def torch_dtype(name: str) -> torch.dtype:
    """Finds the torch dtype of a name.

    >>> torch_dtype("bfloat16")
    torch.bfloat16
    """
    known = float_dtype(name)
    if known is None:
        raise BadRequest(f"dtype {name!r} is not one the profiler runs in; choose fp32, fp16 or bf16")
    return DTYPES[known]
