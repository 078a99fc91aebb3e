"""Flags that an engine had and has no longer: a command with one ends with the parser's error.

Source: the argument parsers of vLLM 0.9.2, 0.10.2, 0.11.2, 0.12.0 to 0.33.0 and of SGLang 0.5.8, 0.5.10, 0.5.12, 0.5.15
and 0.5.23, read release by release: the last that has a flag, the first that was read without it. llama.cpp: the words
of its own parser of v0.5.0 ("the argument has been removed").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from planner.engines.base import parse_version
from planner.launch.question import Question

_NAMES = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp"}
# last release that has it | first that was read without it | what to write instead | the flags
_VLLM = """
0.9.2|0.10.2|the V1 engine schedules each step|--num-scheduler-steps --multi-step-stream-outputs
0.9.2|0.10.2||--use-v2-block-manager --tokenizer-pool-size --enable-prompt-adapter --qlora-adapter-name-or-path
0.9.2|0.10.2|write --reasoning-parser alone|--enable-reasoning
0.10.2|0.11.2|write it in --hf-overrides|--rope-scaling --rope-theta
0.10.2|0.11.2||--preemption-mode --max-seq-len-to-capture --disable-async-output-proc
0.11.2|0.12.0|write --structured-outputs-config|--guided-decoding-backend --guided-decoding-disable-any-whitespace
0.11.2|0.12.0||--lora-extra-vocab-size
0.12.0|0.13.0|write --runner or --convert|--task
0.12.0|0.13.0|write --mm-processor-cache-gb 0|--disable-mm-preprocessor-cache
0.16.0|0.17.1||--logits-processor-pattern
0.17.1|0.18.1|the V1 engine swaps nothing: leave it out|--swap-space
0.18.1|0.19.1||--disable-frontend-multiprocessing
0.26.0|0.27.1||--max-num-partial-prefills --max-long-partial-prefills
0.27.1|0.28.0||--calculate-kv-scales --override-attention-dtype
"""
_SGLANG = """
0.5.8|0.5.10||--disaggregation-decode-tp --disaggregation-decode-dp --disaggregation-prefill-pp --mm-max-concurrent-calls
0.5.8|0.5.10||--speculative-ngram-branch-length --speculative-ngram-max-match-window-size
0.5.10|0.5.12||--enable-double-sparsity --ds-channel-config-path --multi-item-scoring-delimiter
0.5.12|0.5.15||--hybrid-kvcache-ratio --enable-piecewise-cuda-graph --enable-nan-detection
0.5.15|0.5.23||--torchao-config --keep-mm-feature-on-device --collect-tokens-histogram --prefill-round-robin-balance
0.5.15|0.5.23||--piecewise-cuda-graph-tokens --piecewise-cuda-graph-max-tokens --piecewise-cuda-graph-compiler
"""
_LLAMACPP = """
|0.5.0|write --spec-draft-n-max|--draft --draft-n --draft-max
|0.5.0|write --spec-draft-n-min|--draft-min --draft-n-min
"""


@dataclass(frozen=True)
class Gone:
    """A flag of the command that the engine has no longer, from which release on."""

    flag: str
    engine: str
    last: str
    first: str
    instead: str

    def text(self) -> str:
        """Says since when, and what to write."""
        had = f"{self.engine} {self.first} has it no longer"
        if self.last:
            had = f"{self.engine} {self.last} has it, {self.first} does not"
        return f"{had}{f': {self.instead}' if self.instead else ''}"


def _rows(text: str, engine: str) -> Iterator[Gone]:
    for line in text.strip().splitlines():
        last, first, instead, flags = line.split("|")
        for flag in flags.split():
            yield Gone(flag, engine, last, first, instead)


GONE = {
    engine: {row.flag: row for row in _rows(text, _NAMES[engine])}
    for engine, text in (("vllm", _VLLM), ("sglang", _SGLANG), ("llamacpp", _LLAMACPP))
}


def gone(question: Question) -> list[Gone]:
    """Lists the flags of a command that its release, or the newest where none is named, has no longer."""
    known = GONE.get(question.engine, {})
    named = parse_version(question.version) if question.version else None
    found = []
    for said in question.flags:
        row = known.get(said.name.replace("_", "-"))
        first = parse_version(row.first) if row else None
        build = named is not None and named[0] > 1000  # llama.cpp's b5331: its order among the releases is not known
        if row is not None and not build and (named is None or (first is not None and named >= first)):
            found.append(row)
    return found


def is_named(question: Question) -> bool:
    """Tells whether the command, or --engine, says which release runs."""
    return question.version is not None and parse_version(question.version) is not None
