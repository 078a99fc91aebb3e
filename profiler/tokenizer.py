"""Text to token ids and back, through `tokenizers` or `tiktoken`: an extra, and only with --text."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from planner.errors import BadRequest, KvplanError, one_line
from planner.model.spec import ModelSpec

EXTRA = "pip install 'llm-kvplan[text]'"


@dataclass(frozen=True)
class Codec:
    """`stop`: the id that ends a text, where the tokenizer names one."""

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    stop: int | None = None


def find_codec(spec: ModelSpec, weights: str | None, tokenizer: str | None) -> Codec:
    """Finds the tokenizer.json that was named or lies beside the weights; for GPT-2, tiktoken's own tables."""
    path = tokenizer or _beside(weights)
    if path is not None:
        return _from_file(path)
    if spec.model_type == "gpt2" and find_spec("tiktoken"):
        import tiktoken

        encoding = tiktoken.get_encoding("gpt2")
        return Codec(
            lambda text: list(encoding.encode(text)), lambda ids: str(encoding.decode(list(ids))), encoding.eot_token
        )
    raise BadRequest(
        f"--text: no tokenizer.json beside the weights; name one with --tokenizer FILE (or for GPT-2: {EXTRA})"
    )


def _beside(weights: str | None) -> str | None:
    if weights is None:
        return None
    folder = weights if os.path.isdir(weights) else os.path.dirname(os.path.abspath(weights))
    path = os.path.join(folder, "tokenizer.json")
    return path if os.path.isfile(path) else None


def _from_file(path: str) -> Codec:
    if not find_spec("tokenizers"):
        raise KvplanError(f"--text needs the package tokenizers: {EXTRA}")
    from tokenizers import Tokenizer

    shown = one_line(path, 80)
    if not os.path.isfile(path):
        raise BadRequest(f"--tokenizer {shown}: is no file")
    try:
        found = Tokenizer.from_file(path)
    except Exception as error:  # the package raises bare Exception
        raise BadRequest(f"--tokenizer {shown}: cannot be read ({one_line(str(error), 80)})") from None
    stops = (found.token_to_id(name) for name in ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>"))
    stop = next((token for token in stops if token is not None), None)
    return Codec(lambda text: list(found.encode(text).ids), lambda ids: str(found.decode(list(ids))), stop)
