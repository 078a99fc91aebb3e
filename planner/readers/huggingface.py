"""A Hugging Face config.json -> ModelSpec, or a refusal that names what is not understood."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace

from planner.dtypes.names import float_dtype
from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.model.spec import ModelSpec
from planner.readers.decoder import decoder
from planner.readers.fields import Fields
from planner.readers.model_types import Type
from planner.readers.quantization_files import quantization_beside, quantization_in, quantization_of_part
from planner.readers.registry import find_type, known_types
from planner.readers.type_keys import type_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CONFIG_BYTES = 16 << 20  # the largest published config.json is under 1 MiB
MAX_DEPTH = 32  # published files need 6
BY_HAND = "describe it by hand with --layers --heads --kv-heads --head-dim --hidden --vocab"


def read_file(path: str, assume_full: bool = False) -> ModelSpec:
    """Reads the model that a config.json describes, the config.json in a folder, or a GGUF file."""
    if path.lower().endswith(".gguf"):
        from planner.readers.gguf_models import read_gguf  # only for such a file

        return read_gguf(path)
    raw = load_json(path)
    name = os.path.basename(os.path.dirname(os.path.abspath(config_path(path)))) or "config"
    if not os.path.isdir(path) and os.path.basename(path) != "config.json":
        name = os.path.splitext(os.path.basename(path))[0]
    spec = read_config(raw, name=name, where=path, assume_full=assume_full)
    folder = os.path.dirname(config_path(path))

    def beside(file: str) -> dict[str, Any] | None:
        other = os.path.join(folder, file)
        return load_json(other) if os.path.isfile(other) else None

    return with_file_beside(spec, beside)


def with_file_beside(spec: ModelSpec, read: Callable[[str], Mapping[str, Any] | None]) -> ModelSpec:
    """Adds to a spec what a file beside its config.json says of the weights: how they are stored, or (exl3) each tensor."""
    method = spec.quantization.get("quant_method") if spec.quantization else None
    if method == "modelopt":
        return _with_modelopt_beside(spec, read)
    if spec.quantization:
        return _with_tensors_beside(spec, read) if method == "exl3" else spec
    found = quantization_beside(read)
    if found is None:
        return spec
    config, file = found
    return replace(spec, quantization=config, notes=(*spec.notes, f"how weights are stored is read from {file}"))


def _with_modelopt_beside(spec: ModelSpec, read: Callable[[str], Mapping[str, Any] | None]) -> ModelSpec:
    """Adds the keys that ModelOpt 0.47 writes into hf_quant_config.json alone (`group_size` of AWQ)."""
    try:
        found = quantization_beside(lambda file: read(file) if file == "hf_quant_config.json" else None)
    except BadConfig as error:
        return replace(
            spec, warnings=(*spec.warnings, f"hf_quant_config.json is not read, so config.json decides: {error}")
        )
    return spec if found is None else replace(spec, quantization={**found[0], **(spec.quantization or {})})


def _with_tensors_beside(spec: ModelSpec, read: Callable[[str], Mapping[str, Any] | None]) -> ModelSpec:
    """Adds the tensors that ExLlamaV3 lists in a file of its own: bytes as stored, where bits a weight are a mean."""
    from planner.readers import exl3  # only for its files

    try:
        raw = read(exl3.FILE)
        stored = None if raw is None else exl3.storage_of(raw, exl3.FILE, len(spec.layers))
    except BadConfig as error:
        return replace(spec, warnings=(*spec.warnings, f"{exl3.FILE} is not read, so the config decides: {error}"))
    return spec if stored is None else replace(spec, stored=stored)


def config_path(path: str) -> str:
    """Returns the path of the config.json that a path means: itself, or the one in a folder."""
    return os.path.join(path, "config.json") if os.path.isdir(path) else path


def load_json(path: str) -> dict[str, Any]:
    """Reads the object in a JSON file; size, kind, encoding and nesting are checked, and nothing is trusted."""
    folder, path = path, config_path(path)
    adapter = os.path.join(folder, "adapter_config.json")
    if folder != path and not os.path.exists(path) and os.path.isfile(adapter):
        path = adapter
    shown = one_line(path)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise BadConfig(f"{shown} is not a regular file; a config.json or a folder with one is wanted")
        if info.st_size > MAX_CONFIG_BYTES:
            raise BadConfig(
                f"{shown} has {info.st_size:,} bytes; a config.json has at most {MAX_CONFIG_BYTES:,}: "
                "is it the weights?"
            )
        with open(path, "rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise BadConfig(f"{shown} does not exist; a config.json or a folder with one is wanted") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadConfig(f"{shown} cannot be read: {one_line(str(reason), 80)}") from None
    return parse_json(data, shown)


def parse_json(data: bytes, shown: str) -> dict[str, Any]:
    """Reads a JSON object from bytes; BadConfig, in one line, for anything else."""
    try:
        raw = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_once)
    except UnicodeDecodeError:
        raise BadConfig(f"{shown} is not text; a JSON object in UTF-8 is wanted") from None
    except RecursionError:
        raise BadConfig(f"{shown} is nested too deep; a JSON object of a model config is wanted") from None
    except _Twice as error:
        raise BadConfig(f"{shown}: key {one_line(str(error), 40)!r} stands twice with two values; keep one") from None
    except ValueError as error:
        raise BadConfig(f"{shown} is not JSON: {one_line(str(error), 80)}") from None
    if not isinstance(raw, dict):
        raise BadConfig(f"{shown} holds a JSON {_kind(raw)}; an object with a model_type is wanted")
    if _deeper(raw, MAX_DEPTH):
        raise BadConfig(f"{shown} is nested deeper than {MAX_DEPTH} levels; a JSON object of a model config is wanted")
    return raw


# Types that read all of their input at once.
ENCODERS = frozenset(
    """
    albert bert bge beit big_bird bigbird bros camembert clip clip_text_model clip_vision_model convbert convnext data2vec_text
    deberta deberta_v2 deit dinov2 dinov3_vit distilbert electra ernie esm eurobert flaubert fnet funnel gte_new hubert ibert
    jina_bert layoutlm layoutlmv3 longformer luke megatron_bert mobilebert modernbert mpnet mra new nezha nomic_bert nvembed
    nystromformer perceiver rembert roberta roberta_prelayernorm roformer roc_bert siglip siglip2 siglip_vision_model splinter
    squeezebert swin swinv2 vit vit_mae wav2vec2 wav2vec2_bert wavlm xlm xlm_roberta xlm_roberta_xl xlnet xmod yoso
    """.split()
)


def _refuse_adapter(raw: Mapping[str, Any], shown: str) -> None:
    """An adapter_config.json has no model of its own."""
    if "peft_type" in raw or ("lora_alpha" in raw and "target_modules" in raw):
        base = raw.get("base_model_name_or_path")
        named = f", {one_line(base, 80)!r}," if isinstance(base, str) and base else ""
        raise UnsupportedModel(
            f"{shown} is an adapter: name its base model{named} and give the adapter to `kvplan fit` with --lora"
        )


class _Twice(Exception):
    """A key given twice: which value counts depends on the reader."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if value != found[key]:
                raise _Twice(key)
    return found


def _deeper(value: object, levels: int) -> bool:
    """Whether lists and objects are nested deeper than `levels`; level by level, so that no depth is too deep."""
    level = [value]
    for _ in range(levels):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        if not inner:
            return False
        level = [item for items in inner for item in items]
    return any(isinstance(item, (dict, list)) for item in level)


def _kind(value: object) -> str:
    names = {list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
    return names.get(type(value), "null")


# long: one config from its type to its notes, in the order in which it is read
def read_config(
    raw: Mapping[str, Any], *, name: str = "config", where: str = "config", assume_full: bool = False
) -> ModelSpec:
    """Builds the spec of one config.

    Raises UnsupportedModel for an unknown `model_type`, and for a key that changes the cache and is not
    read by its type; with `assume_full` the second becomes full attention, labelled an upper bound.
    """
    shown, name = one_line(where), one_line(name, 100)
    _refuse_adapter(raw, shown)
    model_type, known = _declared(raw, shown, assume_full)
    kind = known or find_type("llama")
    assert kind is not None
    unknown = known is None
    whole = Fields(raw, where=shown)
    core, outer_kind = _inside(whole, kind), kind
    text, text_type, kind = _text_part(core, kind, shown)
    f = Fields(
        text, where=shown, renames=kind.renames, defaults=kind.defaults, implied=kind.implied, model_type=text_type
    )
    f.ignore(*kind.ignore)
    try:
        spec = (kind.build or decoder)(f, kind, name, one_line(model_type, 40))
    except RecursionError:
        raise BadConfig(f"{shown} is nested too deep") from None
    _check_sizes_given(f, text_type)
    unread = f.unread_cache_keys()
    if unread and not assume_full:
        raise UnsupportedModel(
            f"{shown}: key {unread[0]!r} = {one_line(repr(text[unread[0]]), 40)} would change the cache and kvplan "
            f"does not read it for model_type {one_line(text_type, 40)!r}; add --assume full-attention for an upper "
            "bound"
        )
    outer = whole if core is raw else Fields(core, where=shown)
    towers = kind.towers(outer, spec.hidden) if kind.towers else ()
    source_tokens = kind.source_tokens(outer) if kind.source_tokens else spec.source_tokens
    if outer is not whole:
        _warn_of_uncounted(whole, text_type)
    _warn_of_uncounted(outer, text_type)
    notes = [*f.notes, *outer.notes, *_foreign_note(f, text_type), *_ties_note(core, outer_kind)]
    warnings = [*f.warnings, *outer.warnings, *(whole.warnings if outer is not whole else ())]
    if unread or unknown:
        reason = f"model_type {one_line(model_type, 40)!r} is not known" if unknown else f"{', '.join(unread)} not read"
        beyond = (
            "; its experts are not known, so its parameters are not counted" if unknown and _has_experts(text) else ""
        )
        warnings.append(f"upper bound: every layer taken as full attention ({reason}){beyond}")
    predicted = _predicts_more(raw)
    if predicted and not spec.mtp and not any("multi-token" in line for line in warnings):
        warnings.append(
            f"the config names {predicted} multi-token-prediction layers; their layout is not known for this type: not counted"
        )
    unsized = unknown and _has_experts(text)
    made = replace(
        spec,
        towers=spec.towers + towers,
        source_tokens=source_tokens,
        dtype=_dtype(text, shown) or _dtype(raw, shown) or spec.dtype,
        quantization=quantization_in(raw, shown) or quantization_of_part(text, shown),
        notes=spec.notes + tuple(notes),
        warnings=spec.warnings + tuple(warnings),
        upper_bound=bool(unread) or unknown,
        partial=f.partial or outer.partial or whole.partial,
        weights_known=spec.weights_known and not unsized,
        config=raw,
    )
    if not core.get("architectures"):  # the catalogue's own name no class
        return made
    from planner.readers.task_heads import with_task_head

    return with_task_head(made, core)


def _declared(raw: Mapping[str, Any], shown: str, assume_full: bool) -> tuple[str, Type | None]:
    """The model type that a config names, and its declaration; None for one that is not known, where that is assumed."""
    model_type = raw.get("model_type")
    if model_type is None or model_type == "":
        raise BadConfig(f"{shown}: no model_type in the config; add it, or {BY_HAND}")
    if not isinstance(model_type, str):
        raise BadConfig(f"{shown}: model_type is a {_kind(model_type)}; a name such as 'llama' is wanted")
    kind = find_type(model_type)
    if kind is None and model_type.lower().replace("-", "_") in ENCODERS:
        raise UnsupportedModel(
            f"{shown}: {one_line(model_type, 40)!r} is an encoder: it reads its whole input at once and has no KV cache"
        )
    if kind is None and not assume_full:
        from planner.readers.unread_types import words_of  # only on the way to an error

        if why := words_of(model_type):
            raise UnsupportedModel(f"{shown}: model_type {model_type!r} {why}")
        raise UnsupportedModel(
            f"{shown}: model_type {one_line(model_type, 40)!r} is not one kvplan knows{_hint(model_type)}; "
            f"{BY_HAND}, or add --assume full-attention for an upper bound"
        )
    return model_type, kind


_PREDICTORS = (
    "num_nextn_predict_layers",
    "num_mtp_modules",
    "num_mtp_layers",
    "mtp_num_hidden_layers",
    "mtp_num_layers",
)


def _predicts_more(raw: Mapping[str, Any]) -> int:
    """How many multi-token-prediction layers the file, or a section of it, names."""
    sections = (raw, *(value for value in raw.values() if isinstance(value, Mapping)))
    counts = [section[key] for section in sections for key in _PREDICTORS if isinstance(section.get(key), int)]
    return max((count for count in counts if not isinstance(count, bool) and 0 < count < 100), default=0)


def _has_experts(text: Mapping[str, Any]) -> bool:
    """Whether an unknown type has experts: then a dense model of its sizes says nothing about its parameters."""
    return any(
        "expert" in key or key.startswith("moe_") for key, value in text.items() if value not in (None, 0, False, [])
    )


def _foreign_note(f: Fields, text_type: str) -> list[str]:
    """Names the keys of other model types that the file sets and this type's implementation does not have."""
    if not f.foreign:
        return []
    names = ", ".join(one_line(name, 40) for name in f.foreign[:4])
    return [f"not read, because model type {one_line(text_type, 40)!r} has no such key: {names}"]


def _ties_note(raw: Mapping[str, Any], kind: Type) -> list[str]:
    """Says where the text model decides what transformers would take from the outer class."""
    if not kind.inner_ties or "tie_word_embeddings" in raw:
        return []
    return ["tie_word_embeddings is left out of the outer file: the head is counted as the text model's section says"]


def _inside(whole: Fields, kind: Type) -> Mapping[str, Any]:
    """The section that holds text model and towers; the whole file for nearly every type."""
    section = whole.section(kind.inside) if kind.inside else whole.raw
    if section is None:
        raise BadConfig(f"{whole.where}: key {kind.inside!r} is missing; the config of the model that reads is wanted")
    return section


def _check_sizes_given(f: Fields, text_type: str) -> None:
    """Class defaults complete a file; they do not replace it, and a depth taken from them is said."""
    shown = one_line(text_type, 40)
    if not f.used.intersection(f.raw):
        raise BadConfig(f"{f.where}: none of the keys of model type {shown!r} is there; the whole config is wanted")
    if "num_hidden_layers" in f.defaults and not f.has("num_hidden_layers") and "num_hidden_layers" not in f.implied:
        default = f.defaults["num_hidden_layers"]
        f.notes.append(f"the file gives no number of layers: {default}, the default of {shown!r}")


def _text_part(raw: Mapping[str, Any], kind: Type, shown: str) -> tuple[Mapping[str, Any], str, Type]:
    """The keys of the language model, its model type and its rules: the file's own, or those of the nested config."""
    outer_type = str(raw.get("model_type"))
    for key in kind.nested:
        inner = raw.get(key)
        if inner is None:
            continue
        if not isinstance(inner, Mapping):
            raise BadConfig(f"{shown}: key {key!r} is not an object; the text model's config is wanted")
        inner_type = inner.get("model_type")
        if inner_type is not None and not isinstance(inner_type, str):
            raise BadConfig(f"{shown}: key 'model_type' of {key} is not a text")
        if inner_type is None or inner_type == outer_type:
            inner_type = kind.text or outer_type
        said = {name: raw[name] for name in kind.outer_keys if name in raw}
        return (
            {**_with_ties(inner, raw, kind), **said},
            inner_type,
            _text_kind(kind, inner_type, outer_type, shown=shown),
        )
    inner_type = kind.text_of(raw, shown) if kind.text_of else kind.text or outer_type
    return raw, inner_type, _text_kind(kind, inner_type, outer_type, shown=shown)


def _text_kind(kind: Type, inner_type: str, outer_type: str, *, shown: str) -> Type:
    """The text model's own rules, with what the outer file adds."""
    if inner_type == outer_type:
        return kind
    inner = find_type(inner_type)
    if inner is None:
        raise UnsupportedModel(
            f"{shown}: the text model's model_type {one_line(inner_type, 40)!r} is not one kvplan knows; {BY_HAND}"
        )
    return replace(
        inner,
        defaults={**kind.text_sizes.get(inner_type, {}), **inner.defaults},
        implied={**inner.implied, **kind.implied},
        towers=kind.towers or inner.towers,
        source_tokens=kind.source_tokens or inner.source_tokens,
        mtp=kind.mtp or inner.mtp,
    )


def _with_ties(inner: Mapping[str, Any], raw: Mapping[str, Any], kind: Type) -> Mapping[str, Any]:
    """The nested keys, the head tied as the outer file says, or its class by default: transformers asks it first."""
    key = "tie_word_embeddings"
    if kind.ties_from == "inner":
        return inner
    outer_type = str(raw.get("model_type"))
    speaks = kind.inner_ties or inner.get("model_type") == outer_type
    default = None if speaks else False if kind.ties_from == "outer" else type_keys(outer_type).ties
    outside = raw.get(key, default)
    if key in raw and outside is None:
        outside = False  # null is no default: to the class it is false
    if outside is None or (kind.either_ties and inner.get(key)):
        return inner
    return {**inner, key: outside}


# Parts of a multimodal file that have weights of their own.
_TOWERS = {
    "vision_config": "vision tower",
    "audio_config": "audio tower",
    "visual": "vision tower",  # Qwen-VL of 2023, inside a config of type qwen
    "speech_config": "speech tower",
    "encoder_config": "encoder",
    "perceiver_config": "perceiver",
    "qformer_config": "Q-Former",
    "talker_config": "talker and its cache",
    "token2wav_config": "speech decoder",
    "code2wav_config": "speech decoder",
}


def _warn_of_uncounted(outer: Fields, text_type: str) -> None:
    """Name each tower that the file has and that nothing counted: its weights are missing from every total."""
    named = outer.raw.get("mm_vision_tower")  # LLaVA of its own repository: the tower is another checkpoint
    if isinstance(named, str) and named:
        outer.leave_out(f"vision tower and projector not counted: the file names the tower {one_line(named, 80)!r}")
    for key, words in _TOWERS.items():
        if isinstance(outer.raw.get(key), Mapping) and key not in outer.used:
            outer.leave_out(
                f"{words} not counted: kvplan does not know the {key} beside a text model of type "
                f"{one_line(text_type, 40)!r}"
            )


def _hint(model_type: str) -> str:
    from difflib import get_close_matches  # only on the way to an error

    close = get_close_matches(model_type[:60], known_types(), n=3)
    return f" (close: {', '.join(close)})" if close else ""


def _dtype(raw: Mapping[str, Any], shown: str) -> str | None:
    """The float type the model runs in; None where the file leaves it open."""
    for key in ("dtype", "torch_dtype"):
        value = raw.get(key)
        if value is None or value == "auto":
            continue
        name = float_dtype(value) if isinstance(value, str) else None
        if name is None:
            raise BadConfig(
                f"{shown}: key {key!r} is {one_line(repr(value), 40)}; float32, float16, bfloat16 or auto is wanted "
                "(how weights are stored is for quantization_config, or --dtype)"
            )
        return name
    return None
