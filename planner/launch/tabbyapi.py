"""TabbyAPI's settings: its config.yml and the flags of the same names (`common/config_models.py`, `common/args.py`, August 2026)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from planner.errors import BadRequest
from planner.launch.fields import engine_options, small_words
from planner.launch.program import Program
from planner.launch.question import Drafting, Question
from planner.launch.secrets import shown
from planner.launch.table import Table, table
from planner.launch.words import Command
from planner.launch.yaml_values import plain

USED = """
model-name=                          model text
cache-size=                          ctx_size count
max-seq-len=                         max_model_len signed
cache-mode=                          cache_mode text
chunk-size=                          ubatch_size count
max-batch-size=                      parallel count
gpu-split=+                          gpu_split texts
tensor-parallel=?                    split_heads text
backend=                             backend text
draft-mode=                          draft_mode text
draft-model-name=                    draft_model text
draft-num-tokens=                    draft_tokens count
cpu-moe-offload-layers=              host_expert_layers signed
vision=?                             vision text
"""
MATTERS = """
autosplit-reserve=+ : memory kept free on each card, 96 MiB on the first is counted
gpu-split-auto=? : layers are dealt over the cards by what is free
rope-scale= : positions are scaled: a longer context than the model's own
rope-alpha= : positions are scaled: a longer context than the model's own
draft-cache-mode= : type of the drafter's cache
draft-gpu-split=+ : shares of the cards for the drafter
sysmem-recurrent-cache= : states kept in host memory
sysmem-kv-cache= : cache kept in host memory
loras=+ : adapters, which ExLlamaV3 does not load
embedding-model-name= : an embedding model beside it: its own size
"""
QUIET = """
host= port= disable-auth=? allowed-origins=+ send-tracebacks=? api-servers=+ log-prompt=? log-generation-params=? log-requests=?
model-dir= inline-model-loading=? use-dummy-models=? dummy-model-names=+ use-as-default=+ tensor-parallel-backend=
output-chunking=? prompt-template= template-vars-default= template-vars-force= reasoning=? reasoning-start-token=
reasoning-end-token= start-in-reasoning= tool-calls-in-reasoning=? reasoning-budget-tokens= reasoning-budget-message=
tool-format= harmony=? muse-glimmer=? draft-model-dir= draft-rope-scale= draft-rope-alpha= dynamic-draft=? ngram-match-min=
override-preset= lora-dir= embedding-model-dir= embeddings-device= cuda-malloc-async=? unsafe-launch=? realtime-process-priority=?
disable-request-streaming=? seqlog=? seqlog-server-url= seqlog-api-key= force-enable-thinking=? -h|--help
"""
TABLE: Table = table(
    "exllamav3", "TabbyAPI of August 2026", USED, matters=MATTERS, quiet=QUIET, underscores=True, equals=True
)
_MARKS = (
    "cache_mode",
    "cache_size",
    "max_seq_len",
    "gpu_split",
    "gpu_split_auto",
    "autosplit_reserve",
    "chunk_size",
    "tensor_parallel",
)
_OLD_MODES = {"fp16": None, "q8": (8, 8), "q6": (6, 6), "q4": (4, 4)}


def is_config(document: Mapping[str, Any]) -> bool:
    """Tells TabbyAPI's config.yml by its section `model` with a model's name and one of its own settings."""
    model = document.get("model")
    return isinstance(model, Mapping) and "model_name" in model and any(key in model for key in _MARKS)


def config_command(document: Mapping[str, Any]) -> Command:
    """Turns config.yml into the command of the same settings: every key is a flag of that name."""
    words = ["tabbyapi"]
    for section in document.values():
        for key, value in section.items() if isinstance(section, Mapping) else ():
            flag = "--" + str(key).replace("_", "-")
            if isinstance(value, list):
                words += [flag, *map(plain, value)] if value else []
            elif value is not None and not isinstance(value, Mapping):
                words += [flag, plain(value).lower() if isinstance(value, bool) else plain(value)]
    return Command(tuple(words), where="config")


def cache_bits(text: str) -> tuple[int, int] | None:
    """Reads cache_mode: bits of K and of V, None for FP16.

    >>> cache_bits("Q6"), cache_bits("8,4"), cache_bits("FP16")
    ((6, 6), (8, 4), None)
    """
    key = text.strip().lower()
    if key in _OLD_MODES:
        return _OLD_MODES[key]
    found = re.fullmatch(r"([2-8])\s*,\s*([2-8])", key)
    if found is None:
        raise BadRequest(
            f"cache_mode {shown(text, 20)!r} is not known; write FP16, Q8, Q6, Q4 or bits of K and V from 2 to 8 as 8,4"
        )
    return int(found.group(1)), int(found.group(2))


def tabby_question(program: Program, values: dict[str, Any], rest: Sequence[str]) -> Question:
    """Builds the question of TabbyAPI: one cache of cache_size tokens, requests of max_seq_len at most."""
    bits = cache_bits(str(values.get("cache_mode") or "FP16"))
    k, v = (None, None) if bits is None else (f"exl3_q{bits[0]}", f"exl3_q{bits[1]}")
    notes, longest, cache = [], values.get("max_model_len"), values.get("ctx_size")
    longest = None if longest is None or longest < 1 else longest
    if cache is None:
        notes.append("no cache_size: TabbyAPI takes max_seq_len, else the model's own length")
    if cache and longest and longest > cache:
        notes.append(f"max_seq_len {longest:,} is more than the cache: taken as {cache:,}")
    longest = min(longest or cache, cache) if cache else longest
    cards = [one for one in values.get("gpu_split") or () if re.fullmatch(r"\d+(\.\d+)?", one) and float(one) > 0]
    heads = small_words(values.get("split_heads")) in ("true", "yes", "1", "on")
    second = small_words(values.get("backend")) == "exllamav2"
    experts = max(0, values.get("host_expert_layers") or 0)
    options = engine_options(
        {**values, "ctx_size": cache or longest, "max_model_len": None, "host_expert_layers": experts}
    )
    if small_words(values.get("vision")) in ("true", "yes", "1", "on"):
        options = replace(options, mm_items=(1, 0))
    drafting = _drafting(values)
    return Question(
        engine="exllamav2" if second else "exllamav3",
        said=program.said,
        model=values.get("model") or (rest[0] if rest else None),
        k_dtype=k,
        v_dtype=v,
        tp=max(1, len(cards)) if heads else 1,
        pp=1 if heads else max(1, len(cards)),
        seq_tokens=longest,
        options=options if drafting is None else replace(options, num_speculative_tokens=drafting.tokens or 4),
        drafting=drafting,
        notes=tuple(notes),
    )


def _drafting(values: Mapping[str, Any]) -> Drafting | None:
    """What config.yml drafts with: a model's name, the model's own MTP layers, or n-grams."""
    mode, model = small_words(values.get("draft_mode")) or "model", values.get("draft_model")
    if mode == "disabled" or (mode == "model" and not model):
        return None
    return Drafting(mode, None if mode != "model" else str(model), values.get("draft_tokens"))
