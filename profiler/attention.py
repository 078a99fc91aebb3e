"""softmax(q kᵀ · scale + mask) v, and the mask of a batch whose rows are padded at the left."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from profiler.caches import Cache


def attend(  # parameters: the tensors of one operation
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, scale: float, softcap: float | None = None
) -> Tensor:
    """Computes attention: q [B, H, T, D], k [B, K, S, D], v [B, K, S, V] -> [B, T, H·V].

    mask [B or 1, 1, T, S], True where a query may look. One query needs no causal mask, and its H / K heads
    of a group then stand where queries stand, so that each KV head is read once and not copied.
    """
    batch, heads, new, dim = q.shape
    kv_heads, groups = k.shape[1], heads // k.shape[1]
    if new == 1 and groups > 1:
        grouped = q.view(batch, kv_heads, groups, dim)
        out = _softmax_attention(grouped, k, v, mask, False, scale, softcap)  # [B, K, groups, V]
        return out.reshape(batch, 1, heads * v.shape[-1])
    out = _softmax_attention(q, k, v, mask, causal and new > 1, scale, softcap)
    return out.transpose(1, 2).reshape(batch, new, heads * v.shape[-1])


def _softmax_attention(  # parameters: the tensors of one operation
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float, softcap: float | None
) -> Tensor:
    if softcap is None:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=grouped
        )
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = torch.matmul(q, k.transpose(-1, -2)) * scale
    scores = torch.tanh(scores / softcap) * softcap
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.matmul(scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype), v)


def attention_mask(  # parameters: the tensors of one operation
    cache: Cache | None,
    layer: int,
    past: int,
    new: int,
    window: int | None,
    starts: Tensor | None,
    device: torch.device,
) -> Tensor | None:
    """Returns which of the columns that `cache` answers with each new token may look at: [B or 1, 1, T, S].

    None where a plain causal mask says the same: no padding, and all of the window in reach. A padded
    query looks at itself, so that its softmax has something to divide by.
    """
    alone = past == 0 and (window is None or new <= window)
    if starts is None and ((new == 1 and cache is not None) or alone):
        return None
    slots = cache.columns(layer, new) if cache is not None else torch.arange(new, device=device)  # [S]
    queries = torch.arange(past, past + new, device=device)[:, None]  # [T, 1]
    allowed = slots <= queries  # [T, S]
    if window is not None:
        allowed &= slots > queries - window
    if starts is None:
        return allowed[None, None]
    real = slots >= starts[:, None, None]  # [B, 1, S]
    return ((allowed & real) | (slots == queries)).unsqueeze(1)
