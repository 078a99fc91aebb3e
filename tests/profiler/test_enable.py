"""A cache for models that have none: ours, and the kinds that people write by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.profiler.small_models import NEEDS_TORCH, VOCAB, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)

from torch import nn
from torch.nn import functional as F

from planner.errors import BadRequest, UnsupportedModel
from profiler.enable import disable_kv_cache, enable_kv_cache, kv_cache, reset_kv_cache
from profiler.generate import cache_for
from profiler.gpt import build

C, CONTEXT = 32, 24


def causal(scores: Any) -> Any:
    length = scores.shape[-1]
    return scores.masked_fill(~torch.ones(length, length, dtype=torch.bool).tril(), float("-inf")).softmax(-1)


class FusedAttention(nn.Module):
    """As in nanoGPT: one Linear for q, k and v, a causal mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.n_head = 4
        self.c_attn, self.c_proj = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Any) -> Any:
        b, t, _ = x.shape
        q, k, v = (y.view(b, t, 4, C // 4).transpose(1, 2) for y in self.c_attn(x).split(C, dim=2))
        y = self.drop(causal(q @ k.transpose(-2, -1) / math.sqrt(C // 4))) @ v
        return self.c_proj(y.transpose(1, 2).reshape(b, t, C))


class SeparateAttention(nn.Module):
    """As in textbooks: W_query, W_key, W_value; scores masked by hand; the mask comes as an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2
        self.W_query, self.W_key, self.W_value = (nn.Linear(C, C, bias=False) for _ in range(3))
        self.out_proj = nn.Linear(C, C)

    def forward(self, x: Any, mask: Any = None) -> Any:
        b, t, _ = x.shape
        q, k, v = (w(x).view(b, t, 2, C // 2).transpose(1, 2) for w in (self.W_query, self.W_key, self.W_value))
        return self.out_proj((causal(q @ k.transpose(2, 3) / (C // 2) ** 0.5) @ v).transpose(1, 2).reshape(b, t, C))


class GroupedAttention(nn.Module):
    """Grouped queries through scaled_dot_product_attention."""

    def __init__(self) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = 4, 2
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(C, n, bias=False) for n in (C, C // 2, C // 2, C))

    def forward(self, x: Any) -> Any:
        b, t, _ = x.shape
        q, k, v = (w(x).view(b, t, -1, C // 4).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        y = F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), is_causal=True)
        return self.wo(y.transpose(1, 2).reshape(b, t, C))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(C, C // 4, bias=False) for _ in range(3))

    def forward(self, x: Any) -> Any:
        return causal(self.query(x) @ self.key(x).transpose(-2, -1) * (C // 4) ** -0.5) @ self.value(x)


class HeadByHead(nn.Module):
    """As in Karpathy's lecture: each head a module of its own, without a count of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.proj = nn.ModuleList(Head() for _ in range(4)), nn.Linear(C, C)

    def forward(self, x: Any) -> Any:
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class RotaryAttention(FusedAttention):
    """Positions inside the attention: not of the pattern."""

    def forward(self, x: Any) -> Any:
        turn = torch.arange(x.shape[1])[:, None] / 3.0
        return super().forward(x * turn.cos() + x.flip(-1) * turn.sin())


class OddScale(SeparateAttention):
    def forward(self, x: Any, mask: Any = None) -> Any:
        return super().forward(2 * x, mask)


class UncountedHeads(SeparateAttention):
    """Two heads, and no attribute says so."""

    def __init__(self) -> None:
        super().__init__()
        del self.num_heads


class Decoder(nn.Module):
    def __init__(self, attention: type[nn.Module], positions: str = "embedding", std: float = 0.02) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tok_emb, self.head = nn.Embedding(VOCAB, C), nn.Linear(C, VOCAB, bias=False)
        if positions == "embedding":
            self.where = nn.Embedding(CONTEXT, C)
        elif positions == "buffer":
            self.register_buffer("sines", torch.sin(torch.arange(CONTEXT)[:, None] * torch.rand(C)))
        elif positions == "parameter":
            self.pos_emb = nn.Parameter(torch.zeros(1, CONTEXT, C))
        self.positions = positions
        self.attentions = nn.ModuleList(attention() for _ in range(2))
        self.mlps = nn.ModuleList(nn.Sequential(nn.Linear(C, 2 * C), nn.GELU(), nn.Linear(2 * C, C)) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(C) for _ in range(5))
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, 0.0, std)

    def forward(self, ids: Any) -> Any:
        x = self.tok_emb(ids)
        if self.positions == "embedding":
            x = x + self.where(torch.arange(ids.shape[1], device=ids.device))
        elif self.positions == "buffer":
            x = x + self.sines[: ids.shape[1]]
        elif self.positions == "parameter":
            x = x + self.pos_emb[:, : ids.shape[1]]
        for i, (attention, mlp) in enumerate(zip(self.attentions, self.mlps, strict=True)):
            x = x + attention(self.norms[2 * i](x))
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(self.norms[4](x))


WRITTEN = [FusedAttention, SeparateAttention, GroupedAttention, HeadByHead]


def ids_of(batch: int = 2, length: int = 20) -> Any:
    return torch.randint(0, VOCAB, (batch, length), generator=torch.Generator().manual_seed(7))


def in_pieces(model: Any, ids: Any) -> Any:
    with torch.no_grad():
        cuts = [(0, 5), (5, 9), *((at, at + 1) for at in range(9, ids.shape[1]))]
        return torch.cat([model(ids[:, a:b]) for a, b in cuts], dim=1)


@pytest.mark.parametrize("attention", WRITTEN)
@pytest.mark.parametrize("strategy", ["concat", "static", "sliding", "paged"])
@pytest.mark.parametrize("std", [0.02, 0.3])
def test_a_hand_written_model_answers_the_same_with_a_cache(attention: Any, strategy: str, std: float) -> None:
    model, ids = Decoder(attention, std=std).eval(), ids_of()
    with torch.no_grad():
        wanted = model(ids)
        assert enable_kv_cache(model, strategy) is model
        close = 1e-5 * max(1.0, wanted.abs().max().item())
        assert torch.allclose(in_pieces(model, ids), wanted, atol=close)
        reset_kv_cache(model)
        assert torch.allclose(model(ids), wanted, atol=close)  # whole, as before


@pytest.mark.parametrize("attention", WRITTEN)
def test_the_cache_holds_keys_and_values_of_every_layer_and_nothing_else(attention: Any) -> None:
    model = Decoder(attention).eval()
    enable_kv_cache(model, "concat")
    in_pieces(model, ids_of(2, 20))
    cache = kv_cache(model)
    width = C // 2 if attention is GroupedAttention else C
    assert cache is not None and cache.tokens == 20
    assert cache.nbytes == 2 * 2 * 20 * 2 * width * 4  # K and V, layers, tokens, rows


def test_disabling_leaves_the_model_as_it_was() -> None:
    model, ids = Decoder(FusedAttention), ids_of()
    names, weights = set(model.state_dict()), {k: v.clone() for k, v in model.state_dict().items()}
    attributes = [set(module.__dict__) for module in model.modules()]
    with torch.no_grad():
        wanted = model.eval()(ids)
        model.train()
        enable_kv_cache(model)
        assert model.training
        assert set(model.state_dict()) == names
        model.eval()
        model(ids[:, :3])
        disable_kv_cache(model)
        assert torch.equal(model(ids), wanted)
    assert [set(module.__dict__) for module in model.modules()] == attributes
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_reset_starts_a_new_sequence_of_any_batch_size() -> None:
    model = Decoder(FusedAttention).eval()
    enable_kv_cache(model)
    with torch.no_grad():
        model(ids_of(2, 9))
        reset_kv_cache(model)
        assert kv_cache(model) is None
        assert model(ids_of(5, 4)).shape == (5, 4, VOCAB)


def test_more_tokens_than_positions_is_a_clear_error() -> None:
    model = Decoder(FusedAttention).eval()
    enable_kv_cache(model)
    with torch.no_grad():
        model(ids_of(1, CONTEXT))
        with pytest.raises(BadRequest, match=f"{CONTEXT + 1} tokens"):
            model(ids_of(1, 1))


@pytest.mark.parametrize(
    ("attention", "positions", "reason"),
    [
        (RotaryAttention, "none", "rotary"),
        (FusedAttention, "buffer", "token by token"),
        (OddScale, "embedding", "all tokens at once"),
        (UncountedHeads, "embedding", "heads counted in no attribute"),
        (FusedAttention, "parameter", "bare Parameter, pos_emb"),
    ],
)
@pytest.mark.parametrize("std", [0.02, 0.3])
def test_other_attention_and_positions_are_refused_with_the_reason(
    attention: Any, positions: str, reason: str, std: float
) -> None:
    model, ids = Decoder(attention, positions, std).eval(), ids_of()
    with torch.no_grad():
        wanted = model(ids)
        with pytest.raises(UnsupportedModel, match=reason):
            enable_kv_cache(model)
        assert torch.equal(model(ids), wanted)  # and nothing is left behind
    with pytest.raises(BadRequest, match="no KV cache"):
        disable_kv_cache(model)


def test_a_model_without_such_attention_is_refused() -> None:
    layer = nn.TransformerEncoderLayer(C, 4, batch_first=True)
    with pytest.raises(UnsupportedModel, match=r"no attention module of the pattern.*MultiheadAttention is another"):
        enable_kv_cache(nn.Sequential(nn.Embedding(VOCAB, C), layer))


def test_enabling_twice_and_disabling_what_is_not_enabled_are_refused() -> None:
    model = Decoder(FusedAttention).eval()
    enable_kv_cache(model)
    with pytest.raises(BadRequest, match="already"):
        enable_kv_cache(model)
    disable_kv_cache(model)
    for call in (disable_kv_cache, reset_kv_cache, kv_cache):
        with pytest.raises(BadRequest, match="call enable_kv_cache first"):
            call(model)
    with pytest.raises(BadRequest, match="keeps nothing"):
        enable_kv_cache(model, "none")


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "deepseek_v3"])
@pytest.mark.parametrize("strategy", ["concat", "static", "paged"])
def test_our_own_model_built_without_one_gets_a_cache_too(name: str, strategy: str) -> None:
    model, ids = build(small(name), dtype="fp32"), ids_of()
    wanted = model(ids)
    enable_kv_cache(model, strategy)
    assert torch.allclose(in_pieces(model, ids), wanted, atol=1e-5)
    cache = kv_cache(model)
    assert cache is not None and cache.tokens == 20
    reset_kv_cache(model)
    assert torch.allclose(model(ids), wanted, atol=1e-5)
    disable_kv_cache(model)
    assert torch.equal(model(ids), model(ids)) and model.cache is None


def test_a_cache_brought_to_a_call_goes_before_the_enabled_one() -> None:
    model, ids = build(small("gpt2"), dtype="fp32"), ids_of()
    enable_kv_cache(model)
    own = cache_for(model, "static", batch=2, max_tokens=20)
    model(ids, own)
    assert own.tokens == 20 and kv_cache(model) is None
