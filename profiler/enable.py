"""A KV cache for a model that has none, without editing it.

    enable_kv_cache(model)     from now on a call takes only the new tokens and remembers the ones before
    reset_kv_cache(model)      forgets them: the next call starts a new sequence
    disable_kv_cache(model)    the model is as it was

Works on our GPT, and on plain transformers written by hand whose attention follows the usual pattern:

    - a module with three Linears for q, k, v (`q_proj`, `wq`, `query`, `W_query`, ...), or one for all
      three (`qkv`, `c_attn`, `in_proj`, ...), rows in the order q, k, v, and perhaps an output Linear
      (`out_proj`, `o_proj`, `c_proj`, `proj`, `wo`, ...)
    - its number of heads in an attribute (`n_heads`, `num_heads`, `n_head`, `heads`, ...; none: one
      head), for grouped queries also `n_kv_heads` and the like
    - causal softmax(q kᵀ / sqrt(d)) v, one tensor in and one out; a mask argument is taken to be causal
    - positions, if any, from an nn.Embedding that is indexed by 0, 1, 2, ...

What it does there is replace `forward` of those modules on the instance. It then runs a short sequence with
and without the cache; unless the outputs agree it undoes all and raises UnsupportedModel with the reason
(rotary positions inside the attention, a position table that is a bare Parameter, another scale, ...).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planner.errors import BadRequest, UnsupportedModel, one_line
from planner.memory.cache_strategies import LayerShape
from profiler.caches import Cache, make_cache
from profiler.generate import cache_for
from profiler.gpt import GPT

QUERY = ("q_proj", "wq", "query", "W_query", "w_query", "to_q", "q", "Wq", "w_q", "q_linear", "query_proj", "queries")
KEY = ("k_proj", "wk", "key", "W_key", "w_key", "to_k", "k", "Wk", "w_k", "k_linear", "key_proj", "keys")
VALUE = ("v_proj", "wv", "value", "W_value", "w_value", "to_v", "v", "Wv", "w_v", "v_linear", "value_proj", "values")
FUSED = ("qkv", "c_attn", "qkv_proj", "in_proj", "to_qkv", "Wqkv", "wqkv", "query_key_value", "attn_proj", "c_qkv")
OUT = (
    "out_proj",
    "o_proj",
    "c_proj",
    "proj",
    "wo",
    "out",
    "to_out",
    "dense",
    "output",
    "Wo",
    "w_o",
    "out_linear",
    "fc_out",
)
HEADS = ("n_heads", "num_heads", "n_head", "heads", "nhead", "num_attention_heads", "nh", "h")
KV_HEADS = (
    "n_kv_heads",
    "num_kv_heads",
    "n_kv_head",
    "kv_heads",
    "num_key_value_heads",
    "n_kv_groups",
    "num_kv_groups",
)
POSITIONS = ("wpe", "pos", "pos_emb", "pos_embed", "pos_embedding", "position_embedding", "position_embeddings",
             "positional_embedding", "positional_encoding", "positions")  # fmt: skip
STATE = "_kv_cache_state"  # where the wrapped model keeps what it must remember
CHECK_IDS = (1, 0, 1, 1, 0, 1, 0, 0)  # in any vocabulary, and not 0, 1, 2, ...
SHARP = 1.5  # deviation of q and k during the check: scores of about 2, so that attention matters


@dataclass
class Pattern:
    """One attention module, understood."""

    module: nn.Module
    projections: tuple[nn.Module, ...]  # q, k, v, or all in one
    out: nn.Module | None
    heads: int
    kv_heads: int
    dim: int
    v_dim: int


@dataclass
class State:
    cache: Cache | None
    make: Any  # batch -> Cache
    patched: list[tuple[nn.Module, Any]]  # modules with a forward of ours, and what `__dict__` held before
    hooks: list[Any]
    max_tokens: int


def enable_kv_cache(
    model: nn.Module, strategy: str = "concat", max_tokens: int | None = None, *, example: Tensor | None = None
) -> nn.Module:
    """Adds a cache; the model comes back, changed in place.

    strategy     as in `profiler.caches` ("concat", "static", "paged", "int8", ...)
    max_tokens   the longest sequence (default: the model's context)
    example      token ids [1, T] for the check on a user's model (default: a few zeros and ones)
    """
    if hasattr(model, STATE):
        raise BadRequest("the model has a KV cache already; call disable_kv_cache first")
    if strategy == "none":
        raise BadRequest("cache strategy 'none' keeps nothing; choose concat, static, sliding, paged, int8 or int4")
    if isinstance(model, GPT):
        return _enable_own(model, strategy, max_tokens)
    patterns = _patterns(model)
    ids = _example(model) if example is None else example
    tables = _position_tables(model, ids)
    limit = max_tokens or min((table.num_embeddings for table in tables), default=2048)
    state = _wrap(model, patterns, tables, strategy=strategy, limit=limit)
    setattr(model, STATE, state)
    try:
        _check(model, ids, patterns)
    except BaseException:
        disable_kv_cache(model)
        raise
    return model


def disable_kv_cache(model: nn.Module) -> nn.Module:
    """Removes the cache and everything that was put in its way."""
    state = _state(model)
    _restore(state)
    for hook in state.hooks:
        hook.remove()
    if isinstance(model, GPT):
        model.cache = None
    delattr(model, STATE)
    return model


def _restore(state: State) -> None:
    """The modules' own forwards."""
    for module, before in state.patched:
        if before is None:
            module.__dict__.pop("forward", None)
        else:
            module.__dict__["forward"] = before


def reset_kv_cache(model: nn.Module) -> None:
    """Starts a new sequence with the next call, which may have another batch size."""
    state = _state(model)
    state.cache = None
    if isinstance(model, GPT):
        model.cache = None


def kv_cache(model: nn.Module) -> Cache | None:
    """Returns the cache of an enabled model: None until its first call."""
    return _state(model).cache


def _state(model: nn.Module) -> State:
    state = getattr(model, STATE, None)
    if state is None:
        raise BadRequest("the model has no KV cache; call enable_kv_cache first")
    assert isinstance(state, State)
    return state


def _enable_own(model: GPT, strategy: str, max_tokens: int | None) -> GPT:
    limit = max_tokens or model.context or 2048

    def make(batch: int) -> Cache:
        return cache_for(model, strategy, batch=batch, max_tokens=limit)

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tokens = args[0] if args else kwargs["tokens"]
        own = len(args) > 1 or kwargs.get("cache") is not None  # the call brings a cache of its own
        if state.cache is None and not own:
            state.cache = model.cache = make(tokens.shape[0])
            state.cache.reset(kwargs.get("starts"))

    state = State(None, make, [], [], limit)
    state.hooks.append(model.register_forward_pre_hook(before, with_kwargs=True))
    setattr(model, STATE, state)
    return model


# --- a user's model ---


def _named(module: nn.Module, names: Sequence[str]) -> nn.Module | None:
    """The child under the first of `names`, looking into a Sequential for its Linear."""
    for name in names:
        child = getattr(module, name, None)
        if isinstance(child, nn.Sequential) and len(child) and _is_linear(child[0]):
            child = child[0]
        if isinstance(child, nn.Module) and _is_linear(child):
            return child
    return None


def _is_linear(module: nn.Module) -> bool:
    """nn.Linear, or a module with one 2-D weight that maps the last dimension (transformers' Conv1D)."""
    return isinstance(module, nn.Linear) or (type(module).__name__ == "Conv1D" and hasattr(module, "nf"))


def _outputs(linear: nn.Module) -> int:
    return int(linear.out_features if isinstance(linear, nn.Linear) else linear.nf)  # type: ignore[arg-type]


def _number(module: nn.Module, names: Sequence[str]) -> int | None:
    for owner in (module, getattr(module, "config", None), getattr(module, "cfg", None), getattr(module, "args", None)):
        for name in names:
            value = getattr(owner, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _patterns(model: nn.Module) -> list[Pattern]:
    found = [p for p in map(_pattern, model.modules()) if p is not None]
    if not found:
        kinds = sorted({type(m).__name__ for m in model.modules() if "attention" in type(m).__name__.lower()})
        seen = f" (its {', '.join(kinds)} is another)" if kinds else ""
        raise UnsupportedModel(
            f"{type(model).__name__} has no attention module of the pattern that can be wrapped{seen}: q, k and v "
            "Linears, or one for all three, and the number of heads in an attribute such as n_heads"
        )
    return found


def _pattern(module: nn.Module) -> Pattern | None:
    """`module` as an attention module, None when it is none."""
    parts = tuple(_named(module, names) for names in (QUERY, KEY, VALUE))
    fused = _named(module, FUSED)
    heads = _number(module, HEADS)
    if all(part is not None for part in parts):
        q, k, v = (_outputs(part) for part in parts if part is not None)
        projections = tuple(part for part in parts if part is not None)
    elif fused is not None:
        projections, q, k, v = (fused,), 0, 0, 0
    else:
        return None
    name = type(module).__name__
    heads = 1 if heads is None else heads  # if it has more, the check finds out
    kv_heads = _number(module, KV_HEADS) or heads
    if fused is not None and len(projections) == 1:
        q, k, v = _fused_widths(name, _outputs(fused), heads, kv_heads=kv_heads)
    if q % heads or k % kv_heads or v % kv_heads or q // heads != k // kv_heads:
        raise UnsupportedModel(
            f"{name}: widths {q}, {k}, {v} of q, k, v do not divide into {heads} heads and {kv_heads} KV heads"
        )
    out = _named(module, OUT)
    return Pattern(module, projections, out, heads, kv_heads, q // heads, v // kv_heads)


def _fused_widths(name: str, total: int, heads: int, *, kv_heads: int) -> tuple[int, int, int]:
    dim, rest = divmod(total, heads + 2 * kv_heads)
    if rest:
        raise UnsupportedModel(
            f"{name}: {total} outputs of the fused projection are not {heads} + 2 x {kv_heads} equal heads"
        )
    return heads * dim, kv_heads * dim, kv_heads * dim


@torch.no_grad()
def _position_tables(model: nn.Module, ids: Tensor) -> list[nn.Embedding]:
    """Embeddings that a call indexes by 0, 1, 2, ...: found by watching one call."""
    for name, parameter in model.named_parameters():
        if name.rsplit(".", 1)[-1] in POSITIONS:
            raise UnsupportedModel(
                f"{type(model).__name__}: positions come from a bare Parameter, {name} {list(parameter.shape)}; they "
                "cannot be shifted without editing the model: use an nn.Embedding"
            )
    seen: list[nn.Embedding] = []
    counting = torch.arange(ids.shape[1], device=ids.device)

    def watch(module: nn.Module, args: tuple[Any, ...]) -> None:
        index = args[0]
        counts = index.shape[-1] == counting.shape[0] and bool((index == counting).all())
        if counts and isinstance(module, nn.Embedding) and module not in seen:
            seen.append(module)

    hooks = [m.register_forward_pre_hook(watch) for m in model.modules() if isinstance(m, nn.Embedding)]
    try:
        model(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _wrap(model: nn.Module, patterns: list[Pattern], tables: list[nn.Embedding], *, strategy: str, limit: int) -> State:
    shapes = tuple(LayerShape(p.kv_heads, p.dim, p.v_dim) for p in patterns)

    def make(batch: int) -> Cache:
        weight = next(model.parameters())
        return make_cache(strategy, shapes, batch=batch, max_tokens=limit, dtype=weight.dtype, device=weight.device)

    state = State(None, make, [], [], limit)
    for index, pattern in enumerate(patterns):
        state.patched.append((pattern.module, pattern.module.__dict__.get("forward")))
        pattern.module.forward = _cached_forward(pattern, index, state)
    for table in tables:
        state.hooks.append(table.register_forward_pre_hook(_shift(state)))
    return state


def _shift(state: State) -> Any:
    """Positions go on where the last call ended."""

    def hook(module: nn.Module, args: tuple[Any, ...]) -> Any:
        past = state.cache.tokens if state.cache is not None else 0
        positions = args[0] + past
        table = module.num_embeddings
        assert isinstance(table, int)
        if int(positions.max()) >= table:
            raise BadRequest(
                f"{int(positions.max()) + 1} tokens are more than the {table} positions of the model: "
                "reset_kv_cache starts a new sequence"
            )
        return (positions, *args[1:])

    return hook


def _cached_forward(pattern: Pattern, index: int, state: State) -> Any:
    """softmax attention over the cache and the new tokens, in place of the module's own forward."""

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad and pattern.module.training:
            raise BadRequest("a KV cache is for inference; call model.eval(), or disable_kv_cache before training")
        batch, new, _ = x.shape
        if state.cache is None:
            state.cache = state.make(batch)
        widths = [pattern.heads * pattern.dim, pattern.kv_heads * pattern.dim, pattern.kv_heads * pattern.v_dim]
        outputs = [projection(x) for projection in pattern.projections]
        q, k, v = outputs if len(outputs) == 3 else outputs[0].split(widths, dim=-1)
        q = q.view(batch, new, pattern.heads, pattern.dim).transpose(1, 2)  # [B, H, T, D]
        k = k.view(batch, new, pattern.kv_heads, pattern.dim).transpose(1, 2).detach()
        v = v.view(batch, new, pattern.kv_heads, pattern.v_dim).transpose(1, 2).detach()
        past = state.cache.lengths[index]
        k, v = state.cache.update(index, k, v)
        if pattern.heads != pattern.kv_heads:
            groups = pattern.heads // pattern.kv_heads
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        mask = (
            None if past == 0 or new == 1 else torch.ones(new, past + new, dtype=torch.bool, device=x.device).tril(past)
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=past == 0 and new > 1)
        y = y.transpose(1, 2).reshape(batch, new, pattern.heads * pattern.v_dim)
        result: Tensor = y if pattern.out is None else pattern.out(y)
        return result

    return forward


def _example(model: nn.Module) -> Tensor:
    return torch.tensor([CHECK_IDS], device=next(model.parameters()).device)


@torch.no_grad()
def _check(model: nn.Module, ids: Tensor, patterns: list[Pattern]) -> None:
    """The wrapped model against the unwrapped one: all tokens at once, and one after another."""
    state, was_training = _state(model), model.training
    ids = ids[:, : state.max_tokens]
    half = ids.shape[1] // 2 or 1
    ours = [module.__dict__["forward"] for module, _ in state.patched]
    model.eval()
    try:
        with _sharpened(patterns):
            whole = _output(model, ids)
            reset_kv_cache(model)
            pieces = [_output(model, ids[:, :half])]
            pieces += [_output(model, ids[:, at : at + 1]) for at in range(half, ids.shape[1])]
            reset_kv_cache(model)
            _restore(state)
            wanted = _output(model, ids)
    except (RuntimeError, TypeError, IndexError, AttributeError, ValueError) as error:
        why = one_line(str(error), 160)
        raise UnsupportedModel(f"{type(model).__name__} does not run with its attention replaced: {why}") from None
    finally:
        for (module, _), forward in zip(state.patched, ours, strict=True):
            module.__dict__["forward"] = forward
        reset_kv_cache(model)
        model.train(was_training)
    _compare(model, whole, wanted, how="all tokens at once", state=state)
    _compare(model, torch.cat(pieces, dim=1), wanted, how="token by token", state=state)


@contextmanager
def _sharpened(patterns: list[Pattern]) -> Iterator[None]:
    """Projections scaled for a while so that scores are not all near zero.

    Freshly initialised weights attend almost evenly, and then a wrong number of heads would go unseen.
    """
    linears = {id(p): p for pattern in patterns for p in pattern.projections}
    kept = [(weight, weight.clone()) for linear in linears.values() if isinstance(weight := linear.weight, Tensor)]
    try:
        for weight, _ in kept:
            if weight.is_floating_point():
                spread = weight.float().std().item() * max(weight.shape) ** 0.5
                weight.mul_(SHARP / max(spread, 1e-6))
        yield
    finally:
        for weight, before in kept:
            weight.copy_(before)


def _output(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits [B, T, V] of a model that answers with a tensor, a tuple that begins with one, or `.logits`."""
    result = model(ids)
    if isinstance(result, (tuple, list)):
        result = result[0]
    result = getattr(result, "logits", result)
    if not isinstance(result, Tensor):
        raise UnsupportedModel(f"{type(model).__name__} answers with a {type(result).__name__}, not with logits")
    return result


def _compare(model: nn.Module, found: Tensor, wanted: Tensor, *, how: str, state: State) -> None:
    exact = state.make(1).exact
    close = 1e-3 if wanted.dtype == torch.float32 else 5e-2
    if not exact:
        close = 0.5
    found = found[:, -wanted.shape[1] :]
    scale = wanted.abs().max().item()
    apart = (found - wanted).abs().max().item() if found.shape == wanted.shape else float("inf")
    if not apart <= close * scale:
        raise UnsupportedModel(
            f"{type(model).__name__} gives other outputs with a cache, {how} (they differ by {apart:.2g}): its "
            "attention or its positions are not of the pattern that can be wrapped (rotary or fixed positions inside, "
            "a scale of its own, no causal mask, heads counted in no attribute)"
        )
