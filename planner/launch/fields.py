"""Values of used flags -> a Question, an engine at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from planner.dtypes.names import float_dtype
from planner.engines.base import Options, parse_version
from planner.engines.llamacpp_setting import AUTO_SLOTS, AUTO_SLOTS_SINCE
from planner.engines.placement import Placement, parse_shares
from planner.errors import BadRequest
from planner.launch.environment import ollama_values, visible_devices
from planner.launch.modelfile import read_modelfile
from planner.launch.program import Program
from planner.launch.question import TABLES_DRAFT, Adapters, Drafting, Question, Said
from planner.launch.secrets import shown
from planner.launch.values import count, switch, whole

_OPTIONS = {one.name for one in fields(Options)}


def engine_options(values: Mapping[str, Any], **more: Any) -> Options:
    """Builds Options of the fields that it has, of those that were given."""
    found = {name: value for name, value in {**values, **more}.items() if name in _OPTIONS and value is not None}
    return Options(**found)


def small_words(text: Any) -> str:
    """Returns a setting in small letters without space; "" for none."""
    return "" if text is None else str(text).strip().lower()


# long: a field a line
def server_question(program: Program, values: dict[str, Any], rest: Sequence[str]) -> Question:
    """Builds the question of vLLM, SGLang, TensorRT-LLM or LMDeploy from the fields that its flags set."""
    engine, notes = program.name, []
    model = rest[0] if rest and engine != "sglang" else values.get("model")
    if model is None and values.get("model"):
        model = values["model"]
    if engine == "lmdeploy" and small_words(values.get("backend")) == "pytorch":
        engine = "lmdeploy-pytorch"
    if engine == "vllm" and program.env.get("VLLM_USE_V1", "").strip() == "0":
        engine = "vllm-v0"
    if values.get("max_model_len", 0) is None:
        notes.append("--max-model-len auto: the longest that fits, up to the model's own limit")
    tp, dp = values.get("tp", 1), values.get("dp", 1)
    if engine == "sglang" and values.get("attn_dp"):
        values["dp_attention"], dp = True, values["attn_dp"]
    chunk = values.get("chunked_prefill_size")
    if chunk is not None and chunk < 1:
        del values["chunked_prefill_size"]
        notes.append("--chunked-prefill-size -1: a prompt is one step, whatever its length")
    if (values.get("kv_events_config") or {}).get("enable_kv_cache_events"):
        values["kv_events"] = True
    values["mm_items"] = _items(values)
    drafting = _drafting(values)
    tokens = None if drafting is None else drafting.tokens or 1
    k_dtype, v_dtype = _cache_types(engine, values)
    return Question(
        engine=engine,
        said=program.said,
        model=model,
        weights=_no_auto(values.get("quantization")),
        dtype=_no_auto(values.get("dtype")),
        k_dtype=k_dtype,
        v_dtype=v_dtype,
        tp=tp // dp if values.get("dp_attention") and dp > 1 and tp % dp == 0 else tp,
        pp=values.get("pp", 1),
        dp=dp,
        ep=_expert_ranks(values, tp, dp),
        dcp=values.get("dcp", 1),
        devices=_visible(program, values),
        seq_tokens=values.get("max_model_len"),
        options=engine_options(
            values,
            num_speculative_tokens=tokens,
            draft_layers=0 if drafting is not None and drafting.method in TABLES_DRAFT else None,
            mamba_ssm_dtype=_state_dtype(values.get("mamba_ssm_dtype")),
            compute_dtype=_no_auto(values.get("dtype")),
            offline=program.offline,
            server=not program.offline,
        ),
        pool_tokens=values.get("pool_tokens"),
        drafting=drafting,
        adapters=_adapters(values),
        notes=tuple(notes),
    )


def _items(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """(images, videos) of a prompt that vLLM measures at start; a kind that is left out has one."""
    if values.get("mm_unmeasured"):
        return 0, 0
    limits = values.get("mm_limits")
    if not limits:
        return None
    counts = [
        value.get("count", 1) if isinstance(value, Mapping) else value for value in map(limits.get, ("image", "video"))
    ]
    images, videos = (1 if not isinstance(one, int) or one < 0 else min(one, 1024) for one in counts)
    return images, videos


def _no_auto(text: str | None) -> str | None:
    return None if text is None or text.strip().lower() in ("auto", "none", "") else text.strip()


def _state_dtype(text: str | None) -> str | None:
    """The type of recurrent states, as the engines' answers call it."""
    said = _no_auto(text)
    if said is None:
        return None
    if (known := float_dtype(said)) is None:
        raise BadRequest(f"the states' dtype {shown(said, 30)!r} is not known; write float32, bfloat16 or float16")
    return known


def _expert_ranks(values: Mapping[str, Any], tp: int, dp: int) -> int:
    """vLLM's switch spreads experts over all ranks; others say how many."""
    if values.get("expert_parallel"):
        return int(tp if values.get("dp_attention") else tp * dp)
    return int(values.get("ep") or 1)


def _cache_types(engine: str, values: Mapping[str, Any]) -> tuple[str | None, str | None]:
    if "quant_policy" in values:
        policy = {0: None, 4: "int4", 8: "int8", 16: "fp8", 17: "fp8"}
        if values["quant_policy"] not in policy:
            raise BadRequest(f"--quant-policy {values['quant_policy']} is not known; write 0, 4 or 8")
        return policy[values["quant_policy"]], policy[values["quant_policy"]]
    text = _no_auto(values.get("kv_dtype"))
    if text and engine == "sglang" and text.lower() in ("fp4_e2m1", "fp4"):
        text = "nvfp4"
    return text, text


def _visible(program: Program, values: Mapping[str, Any]) -> int | None:
    given = values.get("device_ids") or values.get("devices")
    if given:
        return len([one for one in str(given).split(",") if one.strip()])
    seen = visible_devices(program.env)
    return program.gpus if seen is None else seen


def _adapters(values: Mapping[str, Any]) -> Adapters | None:
    if not (values.get("lora") or values.get("lora_modules")) or values.get("lora") is False:
        return None
    return Adapters(values.get("max_loras") or 1, values.get("max_lora_rank") or 16)


def _drafting(values: Mapping[str, Any]) -> Drafting | None:
    """--speculative-config, or the flags that stand for its keys."""
    config = values.get("speculative_config") or {}
    method = config.get("method") or values.get("draft_method")
    model = config.get("model") or values.get("draft_model")
    steps = values.get("draft_steps")
    tokens = config.get("num_speculative_tokens") or values.get("num_speculative_tokens") or (steps and steps + 1)
    if not (method or model or tokens):
        return None
    if tokens is not None:
        tokens = count(str(tokens), "num_speculative_tokens")
    name = str(method or "").strip().lower().replace("-", "_")
    if model and not name:
        name = next((kind for kind in ("eagle3", "eagle", "mtp") if kind in str(model).lower()), "model")
    return Drafting(_method(name), None if model is None else str(model), tokens)


def _method(name: str) -> str:
    """What engines call the same drafter, by one name.

    >>> _method("qwen3_next_mtp"), _method("nextn"), _method("draft_mtp"), _method("draft_simple"), _method("standalone")
    ('mtp', 'mtp', 'mtp', 'model', 'model')
    """
    if "mtp" in name or name == "nextn":
        return "mtp"
    name = name.removeprefix("draft_")
    return {"simple": "model", "standalone": "model", "draft_model": "model", "ngram_mod": "ngram"}.get(name, name)


def _proposed(drafting: Drafting | None, ik: bool) -> int | None:
    """Tokens that a step proposes: --spec-draft-n-max, which is 3 by default since MTP came."""
    if drafting is None:
        return None
    return drafting.tokens or (1 if ik or drafting.method in TABLES_DRAFT else 3)


# long: a field a line
def llama_question(program: Program, values: dict[str, Any], rest: Sequence[str]) -> Question:
    """Builds the question of llama-server, llama-cli or llama-bench, of llama.cpp or ik_llama.cpp."""
    bench = program.name == "llama-bench"
    if bench:
        values = _bench_values(values)
    ik = "ik_llama" in " ".join(program.wrapper).lower() or "mla_mode" in values
    slots = values.get("parallel")
    slots = None if slots is None or slots < 1 else slots
    ctx = values.get("ctx_size")
    if not ctx and values.get("ctx_per_slot"):
        ctx = values["ctx_per_slot"] * (slots or 1)
    values["ctx_size"] = ctx if ctx and ctx > 0 else None
    values["parallel"] = slots if not bench else 1
    if _automatic_slots(program, values, slots=slots, ik=ik):
        values["parallel"], values["kv_unified"] = AUTO_SLOTS, True
    if values.get("flash_attn_off"):
        values["flash_attn"] = False
    if values.get("kv_unified_off"):
        values["kv_unified"] = False
    drafting = _drafting({**values, "draft_method": "mtp" if values.get("draft_mtp") else values.get("draft_method")})
    per_slot = None if not values["ctx_size"] else max(1, values["ctx_size"] // (slots or 1))
    model, weights = _llama_model(values)
    notes = ["-c 0: the model's own context"] if ctx == 0 else []
    if slots is None and values["parallel"] == AUTO_SLOTS:
        notes.append("no -np: llama-server makes 4 slots over one pool of cells; windows and states are held for each")
    return Question(
        engine="ik_llamacpp" if ik else "llamacpp",
        said=program.said,
        model=model,
        weights=weights,
        k_dtype=values.get("k_dtype"),
        v_dtype=values.get("v_dtype"),
        devices=_visible(program, values),
        requests=slots,
        seq_tokens=per_slot,
        prompt_tokens=values.get("prompt_tokens"),
        output_tokens=values.get("output_tokens") if (values.get("output_tokens") or 0) > 0 else None,
        options=engine_options(values, num_speculative_tokens=_proposed(drafting, ik)),
        drafting=drafting,
        placement=_placement(values),
        projector=None if values.get("mmproj_off") else values.get("mmproj"),
        notes=tuple(notes),
    )


def _automatic_slots(program: Program, values: Mapping[str, Any], *, slots: int | None, ik: bool) -> bool:
    """llama-server without -np makes 4 slots over one pool of cells, from b6925 (PR 16736, 17997); llama-cli one."""
    build = parse_version(program.version or "")
    old = build is not None and len(build) == 1 and build[0] < AUTO_SLOTS_SINCE
    return (
        program.name == "llamacpp"
        and "server" in program.said
        and slots is None
        and not ik
        and not old
        and not values.get("kv_unified_off")
    )


def _bench_values(values: dict[str, Any]) -> dict[str, Any]:
    """The largest of each list: what must fit at once."""

    def most(name: str, default: int | None) -> int | None:
        text = values.get(name)
        if text is None:
            return default
        numbers = [
            whole(one.partition("-")[2] or one, name) if "-" in one[1:] else whole(one, name)
            for one in str(text).split(",")
        ]
        return max(numbers)

    prompt, output, depth = most("prompt_tokens", 512), most("output_tokens", 128), most("depth_tokens", 0)
    both = re.fullmatch(r"(\d{1,9}),(\d{1,9})", str(values.get("prompt_and_output", "")), re.ASCII)
    longest = max(prompt or 0, output or 0, sum(map(int, both.groups())) if both else 0) + (depth or 0)
    found = {**values, "ctx_size": longest, "prompt_tokens": max(prompt or 1, 1), "output_tokens": max(output or 1, 1)}
    for name in ("batch_size", "ubatch_size", "n_cpu_moe", "mla_mode"):
        if name in values:
            found[name] = most(name, None)
    for name in ("k_dtype", "v_dtype", "gpu_layers", "flash_attn", "kv_on_host"):
        if name in values:
            found[name] = str(values[name]).split(",")[0]
    for name in ("flash_attn", "kv_on_host"):
        if name in found:
            found[name] = switch(found[name], "-fa" if name == "flash_attn" else "-nkvo")
    return found


def _llama_model(values: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """(name, quantization) of -hf owner/name:Q4_K_M, -m path/to/file.gguf, --model-url; of NAME/model.gguf, as Jan keeps
    its files, the folder's.
    """
    if values.get("hub_model"):
        name, _, tag = str(values["hub_model"]).partition(":")
        return name, tag or _file_quantization(str(values.get("hub_file") or "")) or None
    text = values.get("model") or values.get("model_url")
    if not text:
        return None, None
    if folder := re.fullmatch(r"(?:.*[/\\])?([^/\\]+)[/\\](?:ggml-)?model\.gguf", str(text), re.IGNORECASE):
        text = f"{folder[1]}.gguf" if "-" in folder[1] else text
    return str(text), _file_quantization(str(text))


def _file_quantization(path: str) -> str | None:
    """The quantization that a GGUF file is named for.

    >>> _file_quantization("/models/Qwen3-8B-UD-Q4_K_XL-00001-of-00002.gguf"), _file_quantization("x-IQ3_XXS.gguf")
    ('UD-Q4_K_XL', 'IQ3_XXS')
    """
    base = re.split(r"[/\\]", path)[-1]
    found = re.search(
        r"(?i)(?:^|[-._])((?:UD-)?(?:I?Q[1-8]_[0-9A-Z_]+|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32))(?=[-._]|$)", base
    )
    return found.group(1) if found else None


def _placement(values: Mapping[str, Any]) -> Placement:
    layers = str(values.get("gpu_layers", "")).strip().lower()
    number = None if layers in ("", "auto", "all", "-1", "-2") else whole(layers, "-ngl", least=0)
    experts = -1 if values.get("cpu_moe") else max(0, values.get("n_cpu_moe") or 0)
    shares: tuple[float, ...] = ()
    if values.get("tensor_split"):
        shares = parse_shares(str(values["tensor_split"]), "-ts")
    return Placement(
        layers=number,
        expert_layers=experts,
        ffn_layers=max(0, values.get("n_cpu_ffn") or 0),
        overrides=tuple(values.get("override_tensor") or ()),
        cache_on_host=bool(values.get("kv_on_host")),
        split=str(values.get("split_mode") or "layer").strip().lower(),
        shares=shares,
    )


_KOBOLD_TYPES = {0: None, 1: "q8_0", 2: "q4_0", 3: "bf16"}
# KoboldCpp's --contextsize by release: its parser of v1.60 to v1.76, and its notes of v1.95
KOBOLD_TOKENS = (((1, 95), 8192), ((1, 70), 4096), ((0,), 2048))


def kobold_question(program: Program, values: dict[str, Any], rest: Sequence[str]) -> Question:
    """Builds the question of KoboldCpp: one slot, its own names for cache types and batch, the model with or without --model."""
    level = values.get("kv_level", 0)
    if level not in _KOBOLD_TYPES:
        raise BadRequest(f"--quantkv {level} is not known; write 0 (f16), 1 (q8), 2 (q4) or 3 (bf16)")
    notes = []
    ctx = values.get("ctx_size")
    if ctx is None or ctx < 1:
        version = parse_version(program.version or "")
        ctx = next(tokens for since, tokens in KOBOLD_TOKENS if version is None or version >= since)
        notes.append(f"no --contextsize: KoboldCpp takes {ctx:,}")
    layers = "0" if values.get("on_cpu") else str(values.get("gpu_layers", "-1"))
    if layers == "-1":
        notes.append("no --gpulayers: KoboldCpp guesses how many fit; all are counted on the device")
    moe = values.get("moe_cpu")
    values["gpu_layers"] = "1" if layers == "True" else layers  # named alone it is 1
    values["n_cpu_moe"] = 0 if moe is None else 999 if moe is True or not str(moe).isdigit() else int(moe)
    values["tensor_split"] = ",".join(values.get("tensor_split") or ()) or None
    if (values.get("ubatch_size") or 0) < 1:
        values.pop("ubatch_size", None)
    model = values.get("model") or (rest[0] if rest else None)
    cache = _KOBOLD_TYPES[level]
    return Question(
        engine="koboldcpp",
        said="koboldcpp",
        model=None if model is None else str(model),
        weights=_file_quantization(str(model or "")),
        k_dtype=cache,
        v_dtype=cache,
        devices=_visible(program, values),
        requests=1,
        seq_tokens=ctx,
        options=engine_options(
            {**values, "ctx_size": ctx, "parallel": 1, "batch_size": values.get("ubatch_size")},
            flash_attn=True if values.get("flash_attn") or cache else None,
        ),
        drafting=_drafting(values),
        placement=_placement(values),
        projector=values.get("mmproj"),
        notes=tuple(notes),
    )


def ollama_question(program: Program, values: dict[str, Any], rest: Sequence[str]) -> Question:
    """Builds the question of ollama run, ollama serve or a Modelfile: the environment is its flags."""
    text = program.words[2] if program.words[1:2] == ("Modelfile",) else None
    model, given, flags, notes = (rest[0] if rest else None, {}, (), []) if text is None else read_modelfile(text)
    env = ollama_values(program.env)
    parallel = env.get("parallel") or given.get("parallel")
    slots = count(parallel or "1", "OLLAMA_NUM_PARALLEL")
    per_slot = given.get("ctx_size") or env.get("context_per_slot")
    length = count(per_slot, "num_ctx") if per_slot else None
    cache = _no_auto(env.get("kv_dtype"))
    flash = switch(env["flash_attn"], "OLLAMA_FLASH_ATTENTION") if "flash_attn" in env else None
    layers = given.get("gpu_layers")
    ubatch = count(given["ubatch_size"], "num_batch") if given.get("ubatch_size") else None
    extra: tuple[Said, ...] = tuple(flags)
    return Question(
        engine="ollama",
        said=program.said,
        model=None if model is None else str(model),
        weights=_file_quantization(str(model or "")),
        k_dtype=cache,
        v_dtype=cache,
        devices=_visible(program, values),
        requests=slots if parallel else None,
        seq_tokens=length,
        options=engine_options(
            {},
            ctx_size=None if length is None else length * slots,
            parallel=slots,
            flash_attn=flash,
            ubatch_size=ubatch,
        ),
        placement=_ollama_placement(values, layers),
        overhead_bytes=whole(env["overhead_bytes"], "OLLAMA_GPU_OVERHEAD", least=0, most=1 << 50)
        if "overhead_bytes" in env
        else 0,
        flags=extra,
        notes=tuple(notes),
    )


def _ollama_placement(values: dict[str, Any], layers: str | None) -> Placement:
    """What num_gpu says, and LLAMA_ARG_ variables that ollama's llama-server reads."""
    if layers is not None and layers != "-1":
        values = {**values, "gpu_layers": whole(layers, "num_gpu", least=0)}
    return _placement(values) or Placement()
