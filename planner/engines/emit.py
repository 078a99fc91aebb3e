"""The start command that an answer implies, with the flags that made it."""

from __future__ import annotations

import re
import shlex

from planner.engines.base import EngineAnswer, Options
from planner.engines.placement import Placement
from planner.errors import KvplanError, UsageError
from planner.memory.estimate import Estimate

_VLLM_KV = {"fp8": "fp8", "fp8_ds_mla": "fp8_ds_mla", "nvfp4": "nvfp4"}
_SGLANG_KV = {"fp8": "fp8_e4m3", "fp8_ds_mla": "fp8_e4m3", "nvfp4": "fp4_e2m1"}
_GGML = {"fp16": "f16", "fp32": "f32"}


_TABBY = "ExLlama is set in TabbyAPI's config.yml, which is not written (kvplan check config.yml reads one)"
NOT_WRITTEN = {
    "exllamav3": _TABBY,
    "exllamav2": _TABBY,
    "transformers": "transformers is a library and has no start command",
}
SCALING_BY_FLAG = ("llamacpp", "ik_llamacpp", "lmdeploy")


def command(answer: EngineAnswer, estimate: Estimate, options: Options) -> str:
    """Writes the command that starts the engine with what was asked, as one shell line.

    Raises UsageError for an engine that has no server.
    """
    makers = {
        "vllm": _vllm, "sglang": _sglang, "llamacpp": _llama, "ik_llamacpp": _llama, "ollama": _ollama,
        "tensorrt-llm": _trtllm, "lmdeploy": _lmdeploy, "lmdeploy-pytorch": _lmdeploy,
    }  # fmt: skip
    maker = makers.get(answer.name)
    if estimate.spec.rope_factor != 1 and answer.name not in SCALING_BY_FLAG:
        raise UsageError(
            f"--emit: {answer.name} has no flag of its own for RoPE scaling: the model's card says what goes into its config; leave --emit out"
        )
    if maker is None:
        raise UsageError(
            f"--emit: {NOT_WRITTEN.get(answer.name, f'no start command of {answer.name} is written')}; leave --emit out"
        )
    return shlex.join(maker(answer, estimate, options))


def model_id(estimate: Estimate) -> str:
    """Returns the Hugging Face id that was written, else that of the catalogue's model, else its name."""
    read_as = estimate.spec.read_as
    if read_as is not None and re.fullmatch(r"[\w.-]+/[\w.-]+", read_as.asked):
        return read_as.asked
    from planner.catalogue.entries import find_model

    try:
        return find_model(estimate.spec.name).hf_id or estimate.spec.name
    except KvplanError:
        return estimate.spec.name


def _flags(pairs: list[tuple[str, object]]) -> list[str]:
    """Those that are given; True is a flag without a value."""
    words: list[str] = []
    for flag, value in pairs:
        if value is None or value is False:
            continue
        words += [flag] if value is True else [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    return words


def _more_than_one(ranks: int) -> int | None:
    return ranks if ranks > 1 else None


def _share(options: Options) -> float | None:
    return None if options.fraction is None else float(options.fraction)


def _assumed_sequences(answer: EngineAnswer) -> int | None:
    """The answer's own count where it is not vLLM's default."""
    return answer.extra["max_num_seqs"] if answer.extra["max_num_seqs_assumed"] else None


def _vllm(answer: EngineAnswer, estimate: Estimate, options: Options) -> list[str]:
    sharding = estimate.request.sharding
    pairs: list[tuple[str, object]] = [
        ("--tensor-parallel-size", _more_than_one(sharding.tp)),
        ("--pipeline-parallel-size", _more_than_one(sharding.pp)),
        ("--data-parallel-size", _more_than_one(sharding.dp)),
        ("--enable-expert-parallel", sharding.ep > 1),
        ("--decode-context-parallel-size", _more_than_one(sharding.dcp)),
        ("--max-model-len", answer.extra["max_model_len"]),
        ("--gpu-memory-utilization", answer.extra["fraction"]),
        ("--kv-cache-dtype", _VLLM_KV.get(estimate.fmt.k.name) if estimate.request.k_dtype else None),
        ("--max-num-batched-tokens", options.max_num_batched_tokens),
        ("--max-num-seqs", options.max_num_seqs or _assumed_sequences(answer)),
        ("--block-size", options.block_size),
        ("--cpu-offload-gb", options.cpu_offload_bytes / 2**30 or None),
        ("--swap-space", None if options.swap_space is None else f"{options.swap_space / 2**30:g}"),
        (
            "--mamba-ssm-cache-dtype",
            options.mamba_ssm_dtype and {"fp32": "float32"}.get(options.mamba_ssm_dtype, "auto"),
        ),
        ("--disable-hybrid-kv-cache-manager", options.disable_hybrid),
    ]
    if options.pool_bytes is not None and answer.extra["generation"] == "v1":
        pairs.append(("--kv-cache-memory-bytes", options.pool_bytes))
    pairs.append(("--num-gpu-blocks-override", options.num_gpu_blocks_override))
    return ["vllm", "serve", model_id(estimate), *_flags(_mended(pairs, answer))]


def _mended(pairs: list[tuple[str, object]], answer: EngineAnswer) -> list[tuple[str, object]]:
    """The flags with the first value that mends a refusal, so that the command starts."""
    refusal = answer.refusal
    mend = refusal.mends[0].split() if refusal and refusal.mends and not refusal.starts else []
    if len(mend) != 2:
        return pairs
    return [pair for pair in pairs if pair[0] != mend[0]] + [(mend[0], mend[1])]


def _sglang(answer: EngineAnswer, estimate: Estimate, options: Options) -> list[str]:
    sharding = estimate.request.sharding
    tokens = answer.ranged.pool.tokens if answer.ranged and options.pool_bytes is not None else None
    spread = sharding.dp > 1 and (sharding.ep > 1 or options.enable_dp_attention)  # one server over all the devices
    pairs: list[tuple[str, object]] = [
        ("--tp", _more_than_one(sharding.tp * sharding.dp if spread else sharding.tp)),
        ("--pp-size", _more_than_one(sharding.pp)),
        ("--dp", _more_than_one(sharding.dp)),
        ("--enable-dp-attention", spread),
        ("--ep-size", _more_than_one(sharding.ep)),
        ("--context-length", answer.extra["max_model_len"]),
        ("--mem-fraction-static", answer.extra["fraction"]),
        ("--max-total-tokens", tokens),
        ("--kv-cache-dtype", _SGLANG_KV.get(estimate.fmt.k.name) if estimate.request.k_dtype else None),
        ("--page-size", options.block_size),
        ("--max-running-requests", options.max_running_requests),
        ("--chunked-prefill-size", options.chunked_prefill_size),
        ("--cuda-graph-max-bs", options.cuda_graph_max_bs),
        ("--swa-full-tokens-ratio", None if options.swa_ratio is None else float(options.swa_ratio)),
        ("--mamba-full-memory-ratio", None if options.mamba_ratio is None else float(options.mamba_ratio)),
    ]
    return ["python", "-m", "sglang.launch_server", "--model-path", model_id(estimate), *_flags(_mended(pairs, answer))]


def _llama(answer: EngineAnswer, estimate: Estimate, options: Options) -> list[str]:
    assert answer.ranged is not None
    extra = answer.ranged.pool.extra
    k, v = (_GGML.get(side.name, side.name) for side in (estimate.fmt.k, estimate.fmt.v))
    given = estimate.request.k_dtype is not None or estimate.request.v_dtype is not None
    ik = answer.name == "ik_llamacpp"
    flash = None if options.flash_attn is None else ("on" if options.flash_attn else "off")
    pairs: list[tuple[str, object]] = [
        ("--ctx-size", extra["slots"] * _within(extra["ctx_size"] // extra["slots"], estimate)),
        ("--parallel", extra["slots"]),
        ("--ubatch-size", options.ubatch_size),
        ("--batch-size", options.batch_size),
        ("--flash-attn", (options.flash_attn is True) if ik else flash),
        ("--cache-type-k", k if given else None),
        ("--cache-type-v", v if given else None),
        ("--kv-unified", options.kv_unified and not ik),
        ("--swa-full", options.swa_full and not ik),
        ("-mla", options.mla_mode if ik else None),
        *_placing(answer),
        *_yarn(estimate),
    ]
    return ["llama-server", "--model", f"{estimate.spec.name}.gguf", *_flags(_mended(pairs, answer))]


def _placing(answer: EngineAnswer) -> list[tuple[str, object]]:
    """What lies on which card and what on the host; everything on the cards where nothing says otherwise."""
    placement = Placement() if answer.placed is None else answer.placed.placement
    return [
        ("--n-gpu-layers", 999 if placement.layers is None else placement.layers),
        ("--n-cpu-moe", placement.expert_layers if placement.expert_layers > 0 else None),
        ("--cpu-moe", placement.expert_layers < 0),
        ("--override-tensor", ",".join(placement.overrides) or None),
        ("--tensor-split", ",".join(f"{share:g}" for share in placement.shares) or None),
        ("--split-mode", None if placement.split == "layer" else placement.split),
        ("--no-kv-offload", placement.cache_on_host),
    ]


def _yarn(estimate: Estimate) -> list[tuple[str, object]]:
    """llama.cpp's flags of RoPE scaling: with them a slot is no longer capped at the positions of the file."""
    factor, positions = estimate.spec.rope_factor, estimate.spec.max_positions
    if factor == 1 or positions is None:
        return []
    return [("--rope-scaling", "yarn"), ("--rope-scale", f"{factor:g}"), ("--yarn-orig-ctx", int(positions / factor))]


def _within(tokens: int, estimate: Estimate) -> int:
    """A length that the engine takes: it would cut a longer one to the model's positions."""
    return min(tokens, estimate.spec.max_positions or tokens)


def _ollama(answer: EngineAnswer, estimate: Estimate, options: Options) -> list[str]:
    assert answer.ranged is not None
    extra = answer.ranged.pool.extra
    slots = extra["slots"]
    words = [
        "env",
        f"OLLAMA_CONTEXT_LENGTH={_within(extra['ctx_size'] // slots, estimate)}",
        f"OLLAMA_NUM_PARALLEL={slots}",
    ]
    if estimate.request.k_dtype is not None:
        words += [
            "OLLAMA_FLASH_ATTENTION=1",
            f"OLLAMA_KV_CACHE_TYPE={_GGML.get(estimate.fmt.k.name, estimate.fmt.k.name)}",
        ]
    return [*words, "ollama", "serve"]


def _trtllm(answer: EngineAnswer, estimate: Estimate, options: Options) -> list[str]:
    sharding = estimate.request.sharding
    pairs: list[tuple[str, object]] = [
        ("--tp_size", _more_than_one(sharding.tp)),
        ("--pp_size", _more_than_one(sharding.pp)),
        ("--max_seq_len", _within(answer.extra["max_model_len"], estimate)),
        ("--kv_cache_free_gpu_memory_fraction", answer.extra["fraction"]),
    ]
    return ["trtllm-serve", model_id(estimate), *_flags(pairs)]


def _lmdeploy(answer: EngineAnswer, estimate: Estimate, options: Options) -> list[str]:
    policy = {"int8": 8, "int4": 4}.get(estimate.fmt.k.name) if estimate.request.k_dtype else None
    pairs: list[tuple[str, object]] = [
        ("--tp", _more_than_one(estimate.request.sharding.tp)),
        ("--session-len", _within(answer.extra["max_model_len"], estimate)),
        ("--rope-scaling-factor", estimate.spec.rope_factor if estimate.spec.rope_factor != 1 else None),
        ("--cache-max-entry-count", answer.extra["fraction"]),
        ("--cache-block-seq-len", options.block_size),
        ("--quant-policy", policy),
    ]
    own = ["--backend", "pytorch"] if answer.name == "lmdeploy-pytorch" else []
    return ["lmdeploy", "serve", "api_server", model_id(estimate), *own, *_flags(pairs)]
