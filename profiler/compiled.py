"""A decode step through torch.compile, with CUDA graphs where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from profiler.caches import Cache
from profiler.device import Device
from profiler.gpt import GPT

Step = Callable[[GPT, Tensor, Cache], Tensor]


@contextmanager
def compiled_step(model: GPT, device: Device) -> Iterator[Step]:
    """`decode_step` of a compiled forward pass. Lengths change every step, so shapes are dynamic.

    The cache's lengths are plain numbers of Python: the compiler guards on them, compiles once more when it sees
    that they change, and keeps the second program.
    """
    mode = "reduce-overhead" if device.kind == "cuda" else "default"
    forward = torch.compile(model.forward, dynamic=True, mode=mode)

    @torch.inference_mode()
    def step(
        model: GPT, token: Tensor, cache: Cache, starts: Tensor | None = None
    ) -> Tensor:  # parameters: a signature that others call
        result: Tensor = forward(token, cache, starts, last_only=True)[:, -1]
        return result.clone() if mode == "reduce-overhead" else result

    try:
        yield step
    finally:
        torch.compiler.reset()
