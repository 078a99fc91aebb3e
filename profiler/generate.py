"""Text from a model: prefill, decode steps, and the choice of the next token.

    prefill(model, tokens, cache, starts)       logits of the last token, [B, V]
    decode_step(model, token, cache, starts)    the same for one more token a row
    generate(model, prompts, ...)               both in a loop

Prompts of unequal length are padded at the left, so that the last token of every row is in the last column.
A cache that keeps nothing is fed the whole sequence at each step: the uncached decode of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from planner.errors import BadRequest
from planner.memory.cache_strategies import layer_shapes
from profiler.caches import Cache, make_cache
from profiler.gpt import GPT


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0: the likeliest (greedy), and top_k, top_p do nothing.

    top_k   only the k likeliest
    top_p   only the likeliest that together reach probability p (the one that crosses it included)
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise BadRequest(f"--temperature {self.temperature} is not a number from 0 up")
        if self.top_k is not None and self.top_k < 1:
            raise BadRequest(f"--top-k {self.top_k} is not a number from 1 up")
        if self.top_p is not None and not 0.0 < self.top_p <= 1.0:
            raise BadRequest(f"--top-p {self.top_p} is not a share above 0 and at most 1")


@dataclass(frozen=True)
class Generated:
    """`sequences`: the new tokens of each row, its stop token included; `steps`: forward passes after prefill."""

    sequences: tuple[tuple[int, ...], ...]
    steps: int
    cache: Cache


def pad_left(
    prompts: Sequence[Sequence[int]], pad: int = 0, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor | None]:
    """Joins prompts to (tokens [B, T], starts [B]); starts is None where all are as long.

    >>> tokens, starts = pad_left([[5, 6, 7], [8]])
    >>> tokens.tolist(), starts.tolist()
    ([[5, 6, 7], [0, 0, 8]], [0, 2])
    """
    if not prompts or not all(len(prompt) for prompt in prompts):
        raise BadRequest("a prompt of no tokens; at least one token is wanted")
    longest = max(map(len, prompts))
    starts = [longest - len(prompt) for prompt in prompts]
    tokens = [[pad] * start + list(prompt) for start, prompt in zip(starts, prompts, strict=True)]
    return torch.tensor(tokens, device=device), torch.tensor(starts, device=device) if any(starts) else None


@torch.inference_mode()
def prefill(
    model: GPT, tokens: Tensor, cache: Cache, starts: Tensor | None = None
) -> Tensor:  # parameters: a signature that others call
    """Runs the prompts [B, T] through the model into an emptied cache; logits of their last tokens [B, V]."""
    cache.reset(starts)
    logits: Tensor = model(tokens, cache, starts, last_only=True)
    return logits[:, -1]


@torch.inference_mode()
def decode_step(
    model: GPT, token: Tensor, cache: Cache, starts: Tensor | None = None
) -> Tensor:  # parameters: a signature that others call
    """One more token a row, [B, 1], or the whole sequences [B, T] for a cache that keeps nothing; logits [B, V]."""
    logits: Tensor = model(token, cache, starts, last_only=True)
    return logits[:, -1]


def check_length(model: GPT, prompt_tokens: int, new_tokens: int) -> None:
    """Raises BadRequest where prompt and answer are longer than the model's context."""
    context = model.context
    if new_tokens < 1:
        raise BadRequest(f"--new-tokens {new_tokens} is not a number from 1 up")
    if context is None:
        return
    if prompt_tokens > context:
        raise BadRequest(
            f"the prompt has {prompt_tokens:,} tokens and the context of {model.spec.name} is {context:,}: "
            "shorten the prompt"
        )
    if prompt_tokens + new_tokens > context + 1:  # the last new token is not fed back
        room = context + 1 - prompt_tokens
        raise BadRequest(
            f"{prompt_tokens:,} prompt tokens and {new_tokens:,} new ones are more than the context of "
            f"{model.spec.name}, {context:,}: ask for at most {room:,} new tokens"
        )


def cache_for(model: GPT, strategy: str, *, batch: int, max_tokens: int, blocks: int | None = None) -> Cache:
    """Makes a cache of `strategy` on the model's device and in its dtype."""
    return make_cache(
        strategy,
        layer_shapes(model.spec),
        batch=batch,
        max_tokens=max_tokens,
        dtype=model.embedding.dtype,
        device=model.embedding.device,
        blocks=blocks,
    )


def stream(
    model: GPT,
    tokens: Tensor,
    cache: Cache,
    *,
    new_tokens: int,
    choose: Callable[[Tensor], Tensor],
    starts: Tensor | None = None,
) -> Iterator[Tensor]:
    """Returns the chosen token of each row [B], `new_tokens` times; the caller stops taking when it has enough."""
    logits = prefill(model, tokens, cache, starts)
    for step in range(new_tokens):
        chosen = choose(logits)
        yield chosen
        if step + 1 == new_tokens:
            return
        column = chosen[:, None]
        if not cache.keeps:
            tokens = column = torch.cat((tokens, column), dim=1)
        logits = decode_step(model, column, cache, starts)


def generate(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    *,
    cache: str | Cache = "static",
    sampling: Sampling | None = None,
    stop: int | Sequence[int] = (),
    on_token: Callable[[list[int]], None] | None = None,
) -> Generated:  # parameters: what one run is made of
    """Extends each prompt by at most `new_tokens`; a row ends at a `stop` token, all end together.

    `cache`: a strategy's name, or a cache made before. `on_token` gets each step's tokens as they come.
    """
    longest = max((len(prompt) for prompt in prompts), default=0)
    check_length(model, longest, new_tokens)
    _check_ids(prompts, model.spec.vocab)
    tokens, starts = pad_left(prompts, device=model.embedding.device)
    if isinstance(cache, str):
        cache = cache_for(model, cache, batch=len(prompts), max_tokens=longest + new_tokens - 1)
    choose = chooser(sampling or Sampling(), model.embedding.device)
    stops = {stop} if isinstance(stop, int) else set(stop)
    rows: list[list[int]] = [[] for _ in prompts]
    done = [False] * len(prompts)
    taken = 0
    for chosen in stream(model, tokens, cache, new_tokens=new_tokens, choose=choose, starts=starts):
        taken += 1
        found = chosen.tolist()
        for row, token in enumerate(found):
            if not done[row]:
                rows[row].append(token)
                done[row] = token in stops
        if on_token is not None:
            on_token(found)
        if all(done):
            break
    return Generated(tuple(map(tuple, rows)), taken - 1, cache)


def _check_ids(prompts: Sequence[Sequence[int]], vocab: int) -> None:
    for prompt in prompts:
        for token in prompt:
            if not 0 <= token < vocab:
                raise BadRequest(
                    f"token {token} is outside the vocabulary of {vocab:,}: is it another model's tokenizer?"
                )


def chooser(sampling: Sampling, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """Makes a function logits [B, V] -> tokens [B], with a random state of its own."""
    generator = torch.Generator(device).manual_seed(sampling.seed)

    def choose(logits: Tensor) -> Tensor:
        if sampling.temperature == 0.0:
            return logits.argmax(dim=-1)
        chances = filtered(logits.float() / sampling.temperature, sampling.top_k, sampling.top_p).softmax(dim=-1)
        return torch.multinomial(chances, 1, generator=generator)[:, 0]

    return choose


def filtered(logits: Tensor, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """Replaces logits by -inf where top_k or top_p leave a token out.

    >>> filtered(torch.tensor([[1.0, 3.0, 2.0]]), top_k=2).tolist()
    [[-inf, 3.0, 2.0]]
    """
    if top_k is not None and top_k < logits.shape[-1]:
        lowest = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < lowest, float("-inf"))
    if top_p is not None and top_p < 1.0:
        ranked, order = logits.sort(dim=-1, descending=True)
        chances = ranked.softmax(dim=-1)
        beyond = chances.cumsum(dim=-1) - chances >= top_p  # what is ahead of it reaches p already
        logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), float("-inf"))
    return logits


@dataclass(frozen=True)
class LogitsError:
    """How far the logits with a cache stand from those without, over decode steps that were fed equal tokens."""

    steps: int
    largest: float  # largest difference of any logit
    mean: float  # mean difference
    scale: float  # standard deviation of the logits, to set the two against
    same_choice: float  # share of steps whose likeliest token is the same


@torch.inference_mode()
def logits_error(model: GPT, tokens: Tensor, cache: Cache, *, prompt_tokens: int = 1) -> LogitsError:
    """Cached decode of `tokens` [B, T] after a prefill of `prompt_tokens`, against one uncached forward pass."""
    if not 1 <= prompt_tokens <= tokens.shape[1]:
        raise BadRequest(f"a prompt of {prompt_tokens} out of {tokens.shape[1]} tokens")
    wanted = model(tokens, cache_for(model, "none", batch=tokens.shape[0], max_tokens=tokens.shape[1]))
    cached = [prefill(model, tokens[:, :prompt_tokens], cache)]
    cached += [decode_step(model, tokens[:, at : at + 1], cache) for at in range(prompt_tokens, tokens.shape[1])]
    found, wanted = torch.stack(cached, dim=1).float(), wanted[:, prompt_tokens - 1 :].float()
    apart = (found - wanted).abs()
    same = (found.argmax(-1) == wanted.argmax(-1)).float().mean()
    return LogitsError(found.shape[1], apart.max().item(), apart.mean().item(), wanted.std().item(), same.item())
