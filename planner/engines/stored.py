"""How an engine stores the cache of a model where it does not store what it is asked, or asked nothing."""

from __future__ import annotations

from planner.dtypes.kinds import CacheFormat
from planner.engines.base import LATEST, keeps_compressed, parse_version
from planner.memory.estimate import Estimate


def stored_format(engine: str, version: str | None, estimate: Estimate) -> CacheFormat:
    """Returns the formats of K and V as vLLM and SGLang store them: a latent with a sparse indexer (DeepSeek-V3.2) and a
    compressed past (DeepSeek-V4) are records in fp8 unless a flag says otherwise.

    Source: the functions that their answers are made with, `with_sparse_record` and `with_fp8`. Every other engine
    stores what it is asked, or the float type that the model runs in.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.memory.estimate import estimate
    >>> from planner.memory.request import Request
    >>> from planner.readers import read_entry
    >>> one = estimate(read_entry(find_model("deepseek-v3.2")), Request(seq_tokens=4096))
    >>> [stored_format(*engine, one).name for engine in (("vllm", None), ("vllm", "0.10.0"), ("llamacpp", None))]
    ['fp8_ds_mla', 'bf16', 'bf16']
    """
    if not engine.startswith("vllm") and engine != "sglang":
        return estimate.fmt
    from planner.engines.vllm import FP8_MLA_SINCE, with_fp8, with_sparse_record  # only where one of them is named

    if keeps_compressed(estimate):
        return with_fp8(estimate, "SGLang" if engine == "sglang" else "vLLM").fmt
    number = (parse_version(version) if version else None) or LATEST
    if engine == "sglang":
        from planner.engines.sglang import stores_records

        return with_sparse_record(estimate).fmt if stores_records(estimate) else estimate.fmt
    return with_sparse_record(estimate).fmt if number >= FP8_MLA_SINCE and engine != "vllm-v0" else estimate.fmt
