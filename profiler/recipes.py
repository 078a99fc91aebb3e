"""What the forward pass of a model type needs beside its ModelSpec: a few declarative lines each.

The spec says how large each piece is; a recipe says how the pieces are joined (where norms stand, what is
scaled or capped, which tokens a router picks), and `design` reads the numbers that the config holds for
it. No torch here: what cannot be built is known, and named, without it.

Structure and class defaults as in the configuration and modelling files of transformers 5.23.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from planner.errors import BadConfig, BadRequest, UnsupportedModel, one_line
from planner.model.attention import Attention, Mixer
from planner.model.cache import Full
from planner.model.latent_attention import Latent, LatentAttention
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.spec import Layer, ModelSpec
from planner.readers.fields import Fields
from planner.readers.registry import find_type

# How many norms of the hidden width a layer has, by how its residuals are arranged:
#   pre       x + f(norm(x))
#   post      x + norm(f(x))
#   sandwich  x + norm(f(norm(x)))
#   parallel  x + attention(norm1(x)) + mlp(norm2(x))
#   shared    x + attention(norm(x)) + mlp(norm(x))
NORMS = {"pre": 2, "post": 2, "sandwich": 4, "parallel": 2, "shared": 1}


@dataclass(frozen=True)
class Recipe:
    """One `model_type`. Keys are tried in order; the default is that of the transformers config class.

    layout          how its checkpoints name tensors (`profiler.weights`)
    positions       "rope" or "learned"; a learned table starts `position_offset` rows late (OPT: 2)
    rotary_keys     which share of a head is rotated; all of it without
    interleaved     rotated pairs are neighbours (0,1), (2,3), ..., not halves (0,d/2), ...
    local_theta     base of the windowed layers where it differs (Gemma 3)
    no_rope         some layers have no positions at all (SmolLM 3)
    gain_offset     norm gains are stored as distances from one (Gemma)
    scale_key       config key that replaces head_dim in 1/sqrt(head_dim) ("scalar"), or is the scale itself
    router          how experts are picked: "softmax", "deepseek_v2", "deepseek_v3"
    off             switches whose "on" is not built: key -> the value that means off
    """

    layout: str = "llama"
    positions: str = "rope"
    position_offset: int = 0
    eps: tuple[str, float] = ("rms_norm_eps", 1e-6)
    activation: tuple[tuple[str, ...], str] = (("hidden_act",), "silu")
    theta: float = 10000.0
    local_theta: float | None = None
    rotary: float = 1.0
    interleaved: bool = False
    no_rope: bool = False
    gain_offset: bool = False
    residual: str = "pre"
    scale_scalar: tuple[str, float] | None = None
    scale_itself: tuple[str, float] | None = None
    embed_sqrt: bool = False
    embed_scale: tuple[str, float] | None = None
    residual_scale: tuple[str, float] | None = None
    logits_divisor: tuple[str, float] | None = None
    attention_softcap: tuple[str, float | None] | None = None
    final_softcap: tuple[str, float | None] | None = None
    router: str = "softmax"
    normalise_experts: bool | None = None
    off: Mapping[str, Any] = field(default_factory=dict)


GPT2 = Recipe(
    layout="gpt2",
    positions="learned",
    eps=("layer_norm_epsilon", 1e-5),
    activation=(("activation_function",), "gelu_new"),
    off={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
)
LLAMA = Recipe()
GEMMA2 = Recipe(
    activation=(("hidden_activation",), "gelu_pytorch_tanh"),
    gain_offset=True,
    residual="sandwich",
    embed_sqrt=True,
    scale_scalar=("query_pre_attn_scalar", 256),
    attention_softcap=("attn_logit_softcapping", 50.0),
    final_softcap=("final_logit_softcapping", 30.0),
    off={"use_bidirectional_attention": False},
)
GEMMA3 = replace(
    GEMMA2,
    theta=1_000_000.0,
    local_theta=10_000.0,
    # Read by the config class, but Gemma3Attention does not pass it on.
    attention_softcap=None,
    final_softcap=("final_logit_softcapping", None),
)
DEEPSEEK = Recipe(interleaved=True, router="deepseek_v3", normalise_experts=True)

RECIPES: dict[str, Recipe] = {
    "gpt2": GPT2,
    # arXiv:2005.14165 describes a GPT-2; alternating sparse attention is not modelled.
    "gpt3": GPT2,
    "gpt_bigcode": replace(GPT2, layout="gpt_bigcode", activation=(("activation_function",), "gelu_pytorch_tanh")),
    "opt": Recipe(
        layout="opt",
        positions="learned",
        position_offset=2,
        eps=("layer_norm_eps", 1e-5),
        activation=(("activation_function",), "relu"),
        off={"do_layer_norm_before": True, "_remove_final_layer_norm": False},
    ),
    "llama": LLAMA,
    "mistral": LLAMA,
    "ministral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "gemma": Recipe(
        # GemmaConfig: "gelu" in old files means the tanh form.
        activation=(("hidden_activation", "hidden_act"), "gelu_pytorch_tanh"), gain_offset=True, embed_sqrt=True
    ),
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "granite": Recipe(
        embed_scale=("embedding_multiplier", 1.0),
        scale_itself=("attention_multiplier", 1.0),
        residual_scale=("residual_multiplier", 1.0),
        logits_divisor=("logits_scaling", 1.0),
    ),
    "phi3": Recipe(layout="phi3", eps=("rms_norm_eps", 1e-5)),
    "phi": Recipe(
        layout="phi", eps=("layer_norm_eps", 1e-5), activation=(("hidden_act",), "gelu_new"), rotary=0.5,
        residual="shared", off={"qk_layernorm": False},
    ),
    "gpt_neox": Recipe(
        layout="gpt_neox", eps=("layer_norm_eps", 1e-5), activation=(("hidden_act",), "gelu"), rotary=0.25,
        residual="parallel", off={"use_parallel_residual": True},
    ),
    "starcoder2": Recipe(
        layout="starcoder2", eps=("norm_epsilon", 1e-5), activation=(("hidden_act",), "gelu_pytorch_tanh")
    ),
    "olmo2": Recipe(layout="olmo2", eps=("rms_norm_eps", 1e-5), residual="post"),
    "smollm3": Recipe(theta=2_000_000.0, no_rope=True),
    "mixtral": Recipe(eps=("rms_norm_eps", 1e-5), theta=1_000_000.0, normalise_experts=True),
    "qwen2_moe": LLAMA,
    "qwen3_moe": LLAMA,
    "deepseek_v2": replace(DEEPSEEK, router="deepseek_v2"),
    "deepseek_v3": DEEPSEEK,
    "kimi_k2": DEEPSEEK,
    "seed_oss": LLAMA,
    "olmoe": Recipe(eps=("rms_norm_eps", 1e-5), off={"clip_qkv": None}),
    # Not in transformers; LLaMA's forward pass by their own modelling files. MiMo's MTP layer is not built.
    "mimo": replace(LLAMA, layout=""),
    "internlm2": replace(LLAMA, layout=""),
}  # fmt: skip


@dataclass(frozen=True)
class Rope:
    """Rotary positions: the first `dim` of each head turn, frequency i by theta^(-2i/dim), scaled as `scaling`."""

    dim: int
    theta: float
    interleaved: bool = False
    scaling_items: tuple[tuple[str, Any], ...] = ()

    @property
    def scaling(self) -> dict[str, Any]:
        return dict(self.scaling_items)


@dataclass(frozen=True)
class Router:
    """How a token's experts are picked and weighed."""

    kind: str
    normalise: bool
    scaling: float = 1.0
    groups: int = 1
    top_groups: int = 1


@dataclass(frozen=True)
class LayerDesign:
    """One layer: the spec's pieces, and what joins them."""

    mixer: Attention | LatentAttention
    mlp: Mlp | Moe
    rope: Rope | None
    scale: float
    window: int | None = None
    softcap: float | None = None
    router: Router | None = None


@dataclass(frozen=True)
class Design:
    """All that a forward pass needs to know; `notes` say in words what was left out or taken as default."""

    spec: ModelSpec
    recipe: Recipe
    layers: tuple[LayerDesign, ...]
    norm: str
    eps: float
    activation: str
    positions: int | None
    context: int | None
    embed_scale: float
    residual_scale: float
    logits_divisor: float
    final_softcap: float | None
    head_bias: bool
    notes: tuple[str, ...] = ()


# long: a field a line
def design(spec: ModelSpec) -> Design:
    """Says how to build `spec`, or raises UnsupportedModel with what stands in the way."""
    if not spec.weights_known:
        raise BadRequest(
            f"{spec.name}: the profiler needs the widths of a model described by hand; add --heads, --hidden, "
            "--intermediate and --vocab"
        )
    f, model_type = _text_fields(spec)
    recipe = RECIPES.get(model_type)
    if recipe is None:
        raise UnsupportedModel(
            f"{spec.name}: the profiler cannot build model_type {one_line(model_type, 40)!r}; "
            f"it builds {', '.join(sorted(RECIPES))}"
        )
    if spec.encoder:
        raise _cannot(spec, "an encoder")
    for key, wanted in recipe.off.items():
        if f.get(key, wanted) not in (wanted, None):
            raise _cannot(spec, f"{f.file_key(key)} = {one_line(repr(f.get(key)), 30)}")
    if f.get("word_embed_proj_dim") not in (None, spec.hidden):
        raise _cannot(spec, "an embedding narrower than the model (word_embed_proj_dim)")
    if not f.flag("norm_affine", True) or not f.flag("final_norm", True):
        raise _cannot(spec, "norms without gains, or no final norm")
    notes = []
    if spec.towers:
        parts = ", ".join(sorted({weight.part for weight in spec.towers}))
        notes.append(f"the language model only; left out: {parts}")
    return Design(
        spec=spec,
        recipe=recipe,
        layers=tuple(_layer(spec, f, recipe, layer=layer, index=index) for index, layer in enumerate(spec.layers)),
        norm="rms" if f.text("norm", "rms") == "rms" else "layer",
        eps=float(f.number(recipe.eps[0], recipe.eps[1])),
        activation=_activation(spec, f, recipe),
        positions=_position_rows(spec) if recipe.positions == "learned" else None,
        context=spec.max_positions,
        embed_scale=math.sqrt(spec.hidden) if recipe.embed_sqrt else _number(f, recipe.embed_scale, 1.0),
        residual_scale=_number(f, recipe.residual_scale, 1.0),
        logits_divisor=_number(f, recipe.logits_divisor, 1.0),
        final_softcap=_maybe(f, recipe.final_softcap),
        head_bias=f.flag("lm_head_bias"),
        notes=tuple(notes),
    )


def shallower(spec: ModelSpec, layers: int) -> ModelSpec:
    """Returns the same model with its first `layers` layers only, of full width.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> len(shallower(read_entry(find_model("gpt2")), 2).layers)
    2
    """
    if not 1 <= layers <= len(spec.layers):
        raise BadRequest(f"--layers {layers}: {spec.name} has {len(spec.layers)} layers; write 1 to {len(spec.layers)}")
    return replace(spec, layers=spec.layers[:layers])


def _text_fields(spec: ModelSpec) -> tuple[Fields, str]:
    """The language model's keys, and its model_type (a multimodal file keeps both in a section)."""
    kind, raw, model_type = find_type(spec.model_type), spec.config, spec.model_type
    for key in kind.nested if kind else ():
        inner = raw.get(key)
        if isinstance(inner, Mapping):
            raw, model_type = inner, str(inner.get("model_type") or model_type)
            kind = find_type(model_type)
            break
    if kind is None:
        return Fields(raw), model_type
    if kind.nested and model_type not in RECIPES and f"{model_type}_text" in RECIPES:
        model_type += "_text"
    return Fields(raw, renames=kind.renames, defaults=kind.defaults, implied=kind.implied), model_type


def _layer(spec: ModelSpec, f: Fields, recipe: Recipe, *, layer: Layer, index: int) -> LayerDesign:
    if len(layer.mixers) != 1 or len(layer.mlps) != 1:
        raise _cannot(spec, f"{len(layer.mixers)} mixers and {len(layer.mlps)} MLPs in layer {index}")
    mixer, mlp = layer.mixers[0], layer.mlps[0]
    if type(mixer) is Attention:
        _check_attention(spec, mixer)
        dim = mixer.head_dim
    elif type(mixer) is LatentAttention:
        if mixer.indexer_dim:
            raise _cannot(spec, "a sparse indexer")
        dim = mixer.nope_dim + mixer.rope_dim
    else:
        raise _cannot(spec, f"a {_name(mixer)} layer (layer {index})")
    window = mixer.window if isinstance(mixer, Attention) else None
    rope = _rope(spec, f, recipe, mixer=mixer, window=window) if recipe.positions == "rope" else None
    if recipe.no_rope and not _has_rope(f, index):
        rope = None
    return LayerDesign(
        mixer=mixer,
        mlp=mlp,
        rope=rope,
        scale=_scale(f, recipe, dim) * _latent_scale(mixer, rope),
        window=window,
        softcap=_maybe(f, recipe.attention_softcap),
        router=_router(f, recipe, mlp) if isinstance(mlp, Moe) else None,
    )


def _check_attention(spec: ModelSpec, mixer: Attention) -> None:
    unbuilt = {
        "gated attention": bool(mixer.gate),
        "attention sinks": mixer.sinks,
        "chunked attention": mixer.chunk is not None,
        "layers that share a cache": mixer.shares_cache,
        "values that are the keys": mixer.k_is_v,
        "a key bias apart": mixer.k_bias not in (None, mixer.qkv_bias),
        f"{mixer.qk_norm} query and key norms": mixer.qk_norm not in ("", "head", "full"),
        "biased query and key norms": mixer.qk_norm_bias,
        "query heads that KV heads do not divide": bool(mixer.heads % mixer.kv_heads),
    }
    for what, found in unbuilt.items():
        if found:
            raise _cannot(spec, what)


def _rope_section(spec: ModelSpec, f: Fields, recipe: Recipe, *, window: int | None) -> dict[str, Any]:
    """The rope keys of one layer kind: `rope_parameters` of transformers 5 (flat, or by layer type), else the
    older `rope_theta`, `rope_scaling`, `rope_local_base_freq`."""
    kind = "full_attention" if window is None else "sliding_attention"
    local = recipe.local_theta is not None and window is not None
    default = recipe.local_theta if local else recipe.theta
    section = f.section("rope_parameters")
    if section is not None:
        inner = section.get(kind, section)
        if not isinstance(inner, Mapping):
            raise _cannot(spec, f"rope_parameters without an entry for {kind}")
        return {"rope_theta": f.raw.get("rope_theta", default), **inner}
    if local:
        return {"rope_theta": f.number("rope_local_base_freq", default)}
    return {"rope_theta": f.number(_theta_key(f), default), **(f.section("rope_scaling") or {})}


def _theta_key(f: Fields) -> str:
    return "rotary_emb_base" if f.has("rotary_emb_base") else "rope_theta"  # GPT-NeoX's older name


# What each scaling of rotary positions must say.
ROPE_TYPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
}


def _rope(spec: ModelSpec, f: Fields, recipe: Recipe, *, mixer: Mixer, window: int | None) -> Rope:
    section = _rope_section(spec, f, recipe, window=window)
    kind = section.get("rope_type", section.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_TYPES:
        raise _cannot(spec, f"rope scaling {one_line(repr(kind), 30)} (it builds {', '.join(ROPE_TYPES)})")
    if kind in ("llama3", "yarn"):
        section.setdefault("original_max_position_embeddings", spec.max_positions)
    share = (
        section.get("partial_rotary_factor") or f.get("partial_rotary_factor") or f.get("rotary_pct") or recipe.rotary
    )
    _positive(spec, "partial_rotary_factor", share)
    width = mixer.rope_dim if isinstance(mixer, LatentAttention) else int(_head_dim(mixer) * min(1.0, float(share)))
    interleaved = f.flag("rope_interleave", recipe.interleaved) if recipe.interleaved else False
    for key in ("rope_theta", *ROPE_TYPES[kind]):
        _positive(spec, key, section.get(key))
    scaling = {key: value for key, value in section.items() if isinstance(value, (int, float))}
    return Rope(width, float(section["rope_theta"]), interleaved, tuple(sorted({**scaling, "rope_type": kind}.items())))


def _positive(spec: ModelSpec, key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise BadConfig(
            f"{spec.name}: {key} of its rotary positions is {one_line(repr(value), 30)}; a number is wanted"
        )


def _head_dim(mixer: Mixer) -> int:
    assert isinstance(mixer, Attention)
    return mixer.head_dim


def _has_rope(f: Fields, index: int) -> bool:
    """SmolLM 3: `no_rope_layers` is 1 where a layer rotates; else every `no_rope_layer_interval`-th does not."""
    listed = f.sequence("no_rope_layers")
    return bool(listed[index]) if listed else (index + 1) % f.int("no_rope_layer_interval", 4) != 0


def _scale(f: Fields, recipe: Recipe, dim: int) -> float:
    if recipe.scale_itself:
        return f.number(*recipe.scale_itself)
    return 1.0 / math.sqrt(f.number(*recipe.scale_scalar) if recipe.scale_scalar else dim)


def _latent_scale(mixer: Mixer, rope: Rope | None) -> float:
    """MLA under YaRN: scores grow by (0.1·mscale_all_dim·ln(factor) + 1)². Source: DeepseekV3Attention."""
    if not isinstance(mixer, LatentAttention) or rope is None:
        return 1.0
    wanted, factor = rope.scaling.get("mscale_all_dim"), rope.scaling.get("factor")
    if rope.scaling["rope_type"] == "default" or not wanted or not factor:
        return 1.0
    return (0.1 * float(wanted) * math.log(factor) + 1.0) ** 2 if factor > 1 else 1.0


def _router(f: Fields, recipe: Recipe, mlp: Moe) -> Router:
    normalise = recipe.normalise_experts
    if normalise is None or recipe.router == "deepseek_v3":
        normalise = f.flag("norm_topk_prob", bool(normalise))
    if recipe.router == "softmax":
        return Router("softmax", normalise)
    if recipe.router == "deepseek_v2":
        grouped = f.text("topk_method", "greedy") == "group_limited_greedy"
        groups = (f.int("n_group"), f.int("topk_group")) if grouped else (1, 1)
        # transformers' DeepseekV2TopkRouter does not look at norm_topk_prob.
        return Router("deepseek_v2", False, f.number("routed_scaling_factor", 1.0), *groups)
    groups = (f.int("n_group", 8), f.int("topk_group", 4))
    if mlp.experts % groups[0]:
        raise UnsupportedModel(f"{mlp.experts} experts in n_group = {groups[0]} groups do not divide")
    return Router("deepseek_v3", normalise, f.number("routed_scaling_factor", 2.5), *groups)


ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2")


def _activation(spec: ModelSpec, f: Fields, recipe: Recipe) -> str:
    keys, default = recipe.activation
    name = next((str(f.get(key)) for key in keys if f.get(key) is not None), default)
    if recipe.gain_offset and name == "gelu":
        name = "gelu_pytorch_tanh"  # Gemma's early files; see GemmaConfig
    if name not in ACTIVATIONS:
        raise _cannot(spec, f"activation {one_line(name, 30)!r}")
    return name


def _position_rows(spec: ModelSpec) -> int:
    """Rows of the learned position table: the second embedding of the spec."""
    tables = [weight for weight in spec.before if weight.part == "embedding" and weight.cols == spec.hidden]
    if len(tables) < 2:
        raise _cannot(spec, "learned positions of unknown length")
    return tables[1].rows


def _number(f: Fields, key: tuple[str, float] | None, default: float) -> float:
    return default if key is None else f.number(*key)


def _maybe(f: Fields, key: tuple[str, float | None] | None) -> float | None:
    if key is None or f.get(*key) is None:
        return None
    return f.number(key[0], key[1])


def _name(mixer: Mixer) -> str:
    cache = mixer.cache()
    return cache.kind if not isinstance(cache, (Full, Latent)) else type(mixer).__name__


def _cannot(spec: ModelSpec, what: str) -> UnsupportedModel:
    return UnsupportedModel(f"{spec.name}: the profiler cannot build {what}")
