"""The flags of mlx_lm.server, mlx_lm.generate and mlx_lm.chat (mlx-lm 0.32.2), and what they ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.engines.base import Options
from planner.errors import BadRequest
from planner.launch.program import Program
from planner.launch.question import Question
from planner.launch.table import Table, table

USED = """
--model=                                    model text
--max-kv-size=                              max_kv_size count
--kv-bits=                                  kv_bits count
--prefill-step-size=                        ubatch_size count
"""
MATTERS = """
--adapter-path= : an adapter: its own file's size, on the device
--draft-model= : a drafter beside it: its weights and its cache
--num-draft-tokens= : tokens that a drafter proposes
--kv-group-size= : numbers that share a scale in a quantised cache: 64 are counted
--quantized-kv-start= : the first tokens of a quantised cache are kept in 16 bit
--decode-concurrency= : requests that decode together
--prompt-concurrency= : prompts that are read together
--prompt-cache-size= : finished prompts that keep their cache
--prompt-cache-bytes= : the most that finished prompts keep
--prompt-cache-file= : a stored cache is loaded
--pipeline : layers spread over machines
--quantize-activations|-qa : products in fewer bits: speed
--image= : an image: the weights of its tower and its tokens
"""
QUIET = """
host= port= allowed-origins= trust-remote-code log-level= chat-template= use-default-chat-template temp= top-p= top-k= min-p=
--max-tokens|-m= chat-template-args= chat-template-config= extra-eos-token=+ system-prompt= --prompt|-p= prefill-response=
xtc-probability= xtc-threshold= min-tokens-to-keep= seed= ignore-chat-template verbose=
"""
TABLE: Table = table("mlx", "mlx-lm 0.32.2", USED, matters=MATTERS, quiet=QUIET, abbreviations=True, equals=True)
# A scale and a bias of 16 bit for 64 numbers: 4.5 and 8.5 bits a number.
_CACHE_TYPES = {4: "int4", 8: "q8_0"}


def mlx_question(program: Program, values: dict[str, Any], rest: Sequence[str]) -> Question:
    """Builds the question of mlx-lm: no pool, a cache of each request that grows; a length only where --max-kv-size gives one."""
    bits, notes = values.get("kv_bits"), []
    if bits is not None and bits not in _CACHE_TYPES:
        raise BadRequest(f"--kv-bits {bits} is not modelled; 4 and 8 are")
    if bits == 8:
        notes.append("--kv-bits 8 takes 8.5 bits a number, as q8_0 does")
    length = values.get("max_kv_size")
    if length is None:
        notes.append("mlx-lm sets no length: requests of 8k tokens unless --seq says another")
    cache = None if bits is None else _CACHE_TYPES[bits]
    model = values.get("model") or (rest[0] if rest else None)
    return Question(
        engine="mlx",
        said=program.said,
        model=None if model is None else str(model),
        k_dtype=cache,
        v_dtype=cache,
        requests=1,
        seq_tokens=length,
        options=Options(ubatch_size=values.get("ubatch_size")),
        notes=tuple(notes),
    )
