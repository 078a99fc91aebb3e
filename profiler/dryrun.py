"""The real transformers implementation, built at full size on the meta device: what it has and what it caches.

No weight is allocated and none is needed: tensors on torch's meta device have shapes and dtypes, no data. A
prefill and a few decode steps run through the model's own forward pass with its own cache classes; then every
float tensor that hangs off the cache is read. A 2.4 T model takes a few hundred MiB and a few seconds.

Needs the `[verify]` extra (transformers, torch); both are imported inside the functions, so that reading this
module costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from planner.errors import KvplanError, UnsupportedModel, one_line

DECODE_STEPS = 2
MISSING = "kvplan verify needs transformers and torch: pip install 'llm-kvplan[verify]'"


@dataclass(frozen=True)
class Shape:
    """One run: sequences, prompt tokens, and tokens of the encoder's input where there is one."""

    batch: int
    prefill_tokens: int
    source_tokens: int = 0


@dataclass(frozen=True)
class CacheTensor:
    """One tensor that the implementation kept for one cache slot."""

    slot: int
    kind: str  # "self" or "cross"
    name: str
    shape: tuple[int, ...]
    dtype: str
    elements: int
    bytes: int


@dataclass(frozen=True)
class Run:
    """The cache after `tokens` tokens (prefill, then prefill and decode)."""

    shape: Shape
    tokens: int
    slots: int
    tensors: tuple[CacheTensor, ...]


@dataclass(frozen=True)
class DryRun:
    """What the implementation has, and what it kept in each run."""

    class_name: str
    parameters: int
    text_only: bool
    fallbacks: tuple[str, ...]
    filled: tuple[str, ...]
    runs: tuple[Run, ...]
    transformers: str
    torch: str


class NotKnownToTransformers(UnsupportedModel):
    """transformers has no class for this model type: nothing to compare with."""


class DryRunFailed(KvplanError):
    """The implementation could not be built or run on the meta device."""


def import_libraries() -> tuple[Any, Any]:
    """Returns (torch, transformers), kept off the network and off custom kernels; one line where they are missing."""
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "USE_HUB_KERNELS": "0",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    }.items():
        os.environ.setdefault(name, value)
    try:
        import torch
        import transformers
    except ImportError:
        raise KvplanError(MISSING) from None
    return torch, transformers


def dry_run(config: Mapping[str, Any], shapes: Sequence[Shape], decode_steps: int = DECODE_STEPS) -> DryRun:
    """Build the implementation of `config` and run every shape through it."""
    torch, transformers = import_libraries()
    import warnings

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()  # it names each custom kernel that is not installed
    cfg, filled = _config_object(transformers, config)
    model, text_only = _build(torch, transformers, cfg)
    model = getattr(model, "thinker", model)  # Qwen's Omni models: the talker is a model of its own, with its own cache
    model.eval()
    fallbacks: list[str] = []
    runs: list[Run] = []
    with torch.no_grad():
        for shape in shapes:
            runs += _run_or_its_text_model(torch, model, shape, decode_steps=decode_steps, used=fallbacks)
    return DryRun(
        class_name=type(model).__name__,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        text_only=text_only,
        fallbacks=tuple(fallbacks),
        filled=filled,
        runs=tuple(runs),
        transformers=transformers.__version__,
        torch=torch.__version__,
    )


# -- keys that a file leaves out ---------------------------------------------------------------------------

# Absent, transformers takes a class default that does not fit or is not what was published; our readers say so.
_TEXT_WIDTH = "text hidden_size"
_VISION_KEYS: dict[str, dict[str, Any]] = {
    "gemma3": {"vision_use_head": False},
    "gemma4": {"num_key_value_heads": 16, "head_dim": 72},
    "llama4": {"vision_output_dim": 4096},
    "qwen3_vl": {"out_hidden_size": _TEXT_WIDTH},
    "qwen3_vl_moe": {"out_hidden_size": _TEXT_WIDTH},
    "qwen3_5": {"out_hidden_size": _TEXT_WIDTH},
    "qwen3_5_moe": {"out_hidden_size": _TEXT_WIDTH},
    "glm5_next": {"out_hidden_size": _TEXT_WIDTH},
}
_GEMMA4_LARGE = 1152  # only the larger tower departs from the class defaults
_NULL_Q_RANK = ("deepseek_v2", "deepseek_v3", "deepseek_v32")


def complete(config: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns (config with keys that abridged files lack, each said in words). Present keys stay as they are.

    >>> complete({"model_type": "deepseek_v2"})
    ({'model_type': 'deepseek_v2', 'q_lora_rank': None}, ('q_lora_rank null',))
    """
    raw, said = dict(config), list[str]()
    model_type = str(raw.get("model_type"))
    if model_type in _NULL_Q_RANK and "q_lora_rank" not in raw:
        # DeepSeek's files always write the key; absent, its null was stripped, and 1536 would be another model.
        raw["q_lora_rank"] = None
        said.append("q_lora_rank null")
    if model_type == "ministral3" and isinstance(raw.get("text_config"), Mapping):
        raw["model_type"] = "mistral3"
        said.append("built as mistral3, which has the vision tower")
    vision, text = raw.get("vision_config"), raw.get("text_config")
    if isinstance(vision, Mapping) and model_type in _VISION_KEYS:
        if model_type == "gemma4" and vision.get("hidden_size") != _GEMMA4_LARGE:
            return raw, tuple(said)
        wanted = _VISION_KEYS[model_type]
        width = text.get("hidden_size") if isinstance(text, Mapping) else None
        added = {key: width if value is _TEXT_WIDTH else value for key, value in wanted.items() if key not in vision}
        raw["vision_config"] = {**vision, **added}
        said += [f"vision_config.{key} {value}" for key, value in added.items()]
    return raw, tuple(said)


# -- building ----------------------------------------------------------------------------------------------


def _config_object(transformers: Any, config: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """(config object, what was filled in or left out for it). Quantised packing changes neither count nor cache."""
    raw, filled = complete(
        {key: value for key, value in config.items() if key not in ("quantization_config", "auto_map")}
    )
    model_type = raw.get("model_type")
    if (
        model_type == "bailing_hybrid"
        and raw.get("num_kv_heads_for_linear_attn")
        and "short_conv_kernel_size" not in raw
    ):
        raise NotKnownToTransformers(
            "bailing_hybrid of transformers is Ling 3, whose linear layers are others than Ling 2.5's"
        )
    if model_type not in transformers.CONFIG_MAPPING:
        raise NotKnownToTransformers(
            f"transformers {transformers.__version__} has no model_type {one_line(str(model_type), 40)!r}: nothing to compare with"
        )
    make = transformers.CONFIG_MAPPING[model_type].from_dict
    try:
        return make(raw), filled
    except Exception as error:
        plain = {key: value for key, value in raw.items() if not key.startswith("rope_")}
        if len(plain) < len(
            raw
        ):  # rotations have no parameters and cache nothing; an abridged file may lack their factors
            try:
                return make(plain), (*filled, "rope settings left out: " + _reason(error))
            except Exception as again:
                error = again
        raise DryRunFailed(f"transformers refuses this config: {_reason(error)}") from None


def _build(torch: Any, transformers: Any, cfg: Any) -> tuple[Any, bool]:
    """(model, whether it is the text model of a multimodal config). The first class that builds is taken."""
    first: Exception | None = None
    for make, text_only in _classes(transformers, cfg):
        try:
            with torch.device("meta"):
                return make(dtype=torch.bfloat16, attn_implementation="eager"), text_only
        except Exception as error:  # a class that does not take this config, or a tower that needs another package
            if first is None or not _not_this_class(error):
                first = error if first is None or _not_this_class(first) else first
    if first is not None and _not_this_class(first):  # a text config that only its multimodal model uses (step3p5)
        raise NotKnownToTransformers(
            f"transformers {transformers.__version__} has no model of its own for model_type "
            f"{one_line(str(cfg.model_type), 40)!r}: nothing to compare with"
        )
    raise DryRunFailed(f"transformers cannot build it on the meta device: {_reason(first)}")


def _classes(transformers: Any, cfg: Any) -> Iterator[tuple[Callable[..., Any], bool]]:
    """Makers in the order in which they are tried: whole multimodal models first, then the text model alone."""
    names = ["AutoModelForImageTextToText", "AutoModelForMultimodalLM", "AutoModelForCausalLM"]
    if getattr(cfg, "is_encoder_decoder", False):
        names = ["AutoModelForSpeechSeq2Seq", "AutoModelForSeq2SeqLM", *names]
    text = cfg.get_text_config() if hasattr(cfg, "get_text_config") else cfg
    nested = text is not cfg and not getattr(cfg, "is_encoder_decoder", False)
    for name in names:
        auto = getattr(transformers, name, None)
        if auto is not None:
            yield _maker(auto, cfg), nested and name == "AutoModelForCausalLM"
    if nested:
        yield _maker(transformers.AutoModelForCausalLM, text), True


def _maker(auto: Any, cfg: Any) -> Callable[..., Any]:
    return lambda **options: auto.from_config(cfg, **options)


def _not_this_class(error: Exception) -> bool:
    return isinstance(error, ValueError) and "Unrecognized configuration class" in str(error)


def _reason(error: Exception | None) -> str:
    return one_line(f"{type(error).__name__}: {error}", 200) if error else "no class for it"


# -- running -----------------------------------------------------------------------------------------------


def _run_or_its_text_model(torch: Any, model: Any, shape: Shape, *, decode_steps: int, used: list[str]) -> list[Run]:
    """The whole model; where its own forward pass fails (Llama 4's, of 5.24), its text model, which keeps the cache."""
    try:
        return _run_with_fallbacks(torch, model, shape, decode_steps=decode_steps, used=used)
    except DryRunFailed:
        inner = getattr(model, "language_model", None)
        if inner is None or not hasattr(inner, "config"):
            raise
        used.clear()
        return _run_with_fallbacks(torch, inner, shape, decode_steps=decode_steps, used=used)


def _run_with_fallbacks(torch: Any, model: Any, shape: Shape, *, decode_steps: int, used: list[str]) -> list[Run]:
    """As it is; else with `.item()` answered; else with experts that pass their input on as well."""
    error: Exception | None = None
    for level in range(len(used), len(FALLBACKS) + 1):  # what one run needed, the next will need
        with ExitStack() as stack:
            for _, enter in FALLBACKS[:level]:
                stack.enter_context(enter(torch, model))
            try:
                runs = _one(torch, model, shape, decode_steps=decode_steps)
            except Exception as found:
                error = error or found
                continue
        used[:] = [words for words, _ in FALLBACKS[:level]]
        return runs
    raise DryRunFailed(f"its forward pass does not run on the meta device: {_reason(error)}")


@contextmanager
def _answer_item(torch: Any, model: Any) -> Iterator[None]:
    """A meta tensor has no value to read: truth values read as true, numbers as zero."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Answer(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:  # parameters: a signature that others call
            if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
                return True if args[0].dtype == torch.bool else 0.0 if args[0].is_floating_point() else 0
            return func(*args, **(kwargs or {}))

    with Answer():
        yield


@contextmanager
def _identity_experts(torch: Any, model: Any) -> Iterator[None]:
    """Routing asks which experts were chosen, which meta tensors cannot say. No cache depends on an MLP."""
    changed = []
    for module in model.modules():
        if type(module).__name__.endswith(("Experts", "MoE", "FFN")) and "forward" not in module.__dict__:
            module.forward = _pass_on
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _pass_on(hidden: Any, *args: Any, **kwargs: Any) -> Any:
    return hidden


@contextmanager
def _all_nonzero(torch: Any, model: Any) -> Iterator[None]:
    from torch.fx.experimental import _config

    before = _config.meta_nonzero_assume_all_nonzero
    _config.meta_nonzero_assume_all_nonzero = True
    try:
        yield
    finally:
        _config.meta_nonzero_assume_all_nonzero = before


FALLBACKS: tuple[tuple[str, Callable[[Any, Any], AbstractContextManager[None]]], ...] = (
    ("item() answered", _answer_item),
    ("experts replaced by the identity", _identity_experts),
    ("every nonzero() full", _all_nonzero),
)


def _one(torch: Any, model: Any, shape: Shape, *, decode_steps: int) -> list[Run]:
    """A prefill and `decode_steps` steps of one token; the cache after the prefill and after the last step."""
    inputs = _inputs(torch, model, shape)
    decoder = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    out = model(**inputs, use_cache=True)
    key, cache = _cache_of(out, inputs)
    runs = [_read(torch, model, cache, shape=shape, tokens=shape.prefill_tokens)]
    for _ in range(decode_steps):
        token = torch.zeros((shape.batch, 1), dtype=torch.long, device="meta")
        again = {decoder: token, key: cache, "use_cache": True}
        if decoder == "decoder_input_ids":
            again["encoder_outputs"] = (out.encoder_last_hidden_state,)
        step = model(**again)
        _, cache = _cache_of(step, again)
    return [*runs, _read(torch, model, cache, shape=shape, tokens=shape.prefill_tokens + decode_steps)]


def _inputs(torch: Any, model: Any, shape: Shape) -> dict[str, Any]:
    cfg = model.config
    ids = torch.zeros((shape.batch, shape.prefill_tokens), dtype=torch.long, device="meta")
    if getattr(cfg, "is_encoder_decoder", False):
        if model.main_input_name == "input_features":
            frames = 2 * cfg.max_source_positions
            features = torch.zeros((shape.batch, cfg.num_mel_bins, frames), dtype=torch.bfloat16, device="meta")
            return {"input_features": features, "decoder_input_ids": ids}
        source = torch.zeros(
            (shape.batch, shape.source_tokens or shape.prefill_tokens), dtype=torch.long, device="meta"
        )
        return {"input_ids": source, "decoder_input_ids": ids}
    inputs = {"input_ids": ids}
    if cfg.model_type == "mllama" and hasattr(cfg, "vision_config"):
        inputs |= _mllama_image(torch, cfg.vision_config, shape)
    if type(model).__name__.startswith("RecurrentGemma"):
        from transformers import DynamicCache

        inputs["past_key_values"] = DynamicCache(config=cfg)
    return inputs


def _mllama_image(torch: Any, vision: Any, shape: Shape) -> dict[str, Any]:
    """One image in all its tiles: without it there is no cross cache."""
    tiles, size = vision.max_num_tiles, vision.image_size
    pixels = (shape.batch, 1, tiles, 3, size, size)
    mask = (shape.batch, shape.prefill_tokens, 1, tiles)
    return {
        "pixel_values": torch.zeros(pixels, dtype=torch.bfloat16, device="meta"),
        "aspect_ratio_ids": torch.ones((shape.batch, 1), dtype=torch.long, device="meta"),
        "aspect_ratio_mask": torch.ones((shape.batch, 1, tiles), dtype=torch.long, device="meta"),
        "cross_attention_mask": torch.ones(mask, dtype=torch.long, device="meta"),
    }


# -- reading the cache -------------------------------------------------------------------------------------


def _cache_of(out: Any, inputs: Mapping[str, Any]) -> tuple[str, Any]:
    """(the keyword under which the model takes its cache, the cache): returned, or else the one it was given."""
    for key in ("past_key_values", "cache_params", "state"):
        cache = getattr(out, key, None)
        cache = inputs.get(key) if cache is None else cache
        if cache is not None:
            return key, cache
    raise ValueError("the forward pass returned no cache")


def _read(torch: Any, model: Any, cache: Any, *, shape: Shape, tokens: int) -> Run:
    """Every float tensor of every slot; whole numbers there are counters, not cache."""
    found: list[CacheTensor] = []
    slots = 0
    for kind, layers in _halves(cache):
        slots = max(slots, len(layers))
        for slot, layer in enumerate(layers):
            once = {id(value): (name, value) for name, value in _tensors(torch, layer, "")}  # one may have two names
            found += [_tensor(slot, kind, name, value=value) for name, value in once.values()]
    if type(model).__name__.startswith("RecurrentGemma"):
        for slot, layer in enumerate(model.model.layers):
            block = layer.temporal_block
            held = [("conv1d_state", getattr(block, "conv1d_state", None))]
            held.append(("recurrent_states", getattr(getattr(block, "rg_lru", None), "recurrent_states", None)))
            found += [_tensor(slot, "self", name, value=value) for name, value in held if value is not None]
        slots = max(slots, len(model.model.layers))
    return Run(shape, tokens, slots, tuple(found))


def _halves(cache: Any) -> list[tuple[str, Sequence[Any]]]:
    if hasattr(cache, "self_attention_cache"):
        return [("self", cache.self_attention_cache.layers), ("cross", cache.cross_attention_cache.layers)]
    if hasattr(cache, "layers"):
        beside = [value for name, value in vars(cache).items() if isinstance(value, list) and name != "layers"]
        return [("self", cache.layers), *(("self", values) for values in beside)]  # MiniMax: linear_cache
    return [("whole", [cache])]  # RWKV: tensors over all layers


def _tensors(torch: Any, value: Any, name: str, *, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Float tensors below `value`: in attributes, dicts and lists, a few levels deep."""
    if torch.is_tensor(value):
        if value.is_floating_point() and value.numel():
            yield name, value
        return
    if depth > 3:
        return
    if isinstance(value, Mapping):
        items: Iterator[tuple[str, Any]] = ((str(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        items = ((str(index), item) for index, item in enumerate(value))
    elif hasattr(value, "__dict__"):
        items = iter(vars(value).items())
    else:
        return
    for key, item in items:
        yield from _tensors(torch, item, f"{name}.{key}" if name else key, depth=depth + 1)


def _tensor(slot: int, kind: str, name: str, *, value: Any) -> CacheTensor:
    size = value.numel()
    return CacheTensor(
        slot, kind, name, tuple(value.shape), str(value.dtype).removeprefix("torch."), size, size * value.element_size()
    )
