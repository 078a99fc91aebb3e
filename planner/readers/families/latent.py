"""Decoders with multi-head latent attention (MLA): DeepSeek V2 and its heirs, with and without an indexer.

DeepSeek-V4, which compresses the past in another way, stands here too. Defaults and structure as in the
configuration and modelling files of transformers 5.23.0, unless a type names another source. Router
correction biases are buffers there, not parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.model.attention import Mixer
from planner.model.latent_attention import LatentAttention
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.recurrent import kimi_delta
from planner.model.sparse_attention import Compressor, PooledIndexer, SharedKvAttention, hyper_connection
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import FULL, MOE, SLIDING, all_of, expert_layers, layer_count, listed
from planner.readers.model_types import LayerKinds, MixerMaker, Type

NOPE = "_nope"
INDEXED, LINEAR = "indexed_attention", "linear_attention"
CSA, HCA = "compressed_sparse_attention", "heavily_compressed_attention"
_INDEXED_NAMES = {INDEXED: INDEXED, "deepseek_sparse_attention": INDEXED}
_GLM5_NAMES = {**_INDEXED_NAMES, FULL: INDEXED, LINEAR: LINEAR}

# One latent serves all heads, so the number of KV heads changes nothing; head_dim repeats a rope or q width.
MLA_IGNORES = {"num_key_value_heads": 1, "head_dim": 0}
# How many tokens are attended to; all of them stay cached.
INDEX_IDLE = {"index_topk": 1}
ROUTED = {"num_experts": ("n_routed_experts", "num_local_experts", "num_experts")}
V3_DEFAULTS = {
    "first_k_dense_replace": 3,
    "n_shared_experts": 1,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
}


def idle(f: Fields, keys: Mapping[str, int]) -> None:
    """Checks keys that decide nothing about the cache: they are still held to be whole numbers of at least so much."""
    for key, low in keys.items():
        f.maybe_int(key, low=low)
        f.touched.discard(key)


def latent_attention(f: Fields, v_dim: int | None = None) -> LatentAttention:
    """Builds MLA from DeepSeek's keys, without an indexer; `v_dim` where a type does without `v_head_dim`.

    `q_lora_rank` null means a direct query projection. DeepSeek's files always write the key (a number or
    null), so a file without it had its nulls stripped: absent means null too, not the class default 1536.
    An indexer reads the low-rank query, so there the key must be a number.
    """
    idle(f, MLA_IGNORES)
    if not f.has("q_lora_rank") and "q_lora_rank" not in f.defaults and "q_lora_rank" not in f.implied:
        note = "q_lora_rank is not in the file: counted as a direct query projection, as published files without it are"
        if note not in f.notes:
            f.notes.append(note)
    return LatentAttention(
        hidden=f.int("hidden_size"),
        heads=f.int("num_attention_heads"),
        q_rank=f.int("q_lora_rank") if f.flag("q_rank_required") else f.maybe_int("q_lora_rank"),
        kv_rank=f.int("kv_lora_rank"),
        nope_dim=f.int("qk_nope_head_dim"),
        rope_dim=f.int("qk_rope_head_dim", low=0),
        v_dim=f.int("v_head_dim", v_dim),
        bias=f.flag("attention_bias"),
    )


def mla(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds the mixer of a layer that caches latent and rope key only."""
    return (latent_attention(f),)


def mla_with_indexer(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds the mixer of a layer with a sparse indexer of its own: one key of `index_head_dim` a token besides."""
    idle(f, INDEX_IDLE)
    heads, width = f.int("index_n_heads"), f.int("index_head_dim")
    return (replace(latent_attention(f), indexer_heads=heads, indexer_dim=width),)


def mla_without_indexer(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds the mixer of a layer that takes the tokens chosen by the nearest indexer before it."""
    idle(f, {**INDEX_IDLE, "index_n_heads": 1, "index_head_dim": 1})
    return mla(f, index)


def _indexers(layer_kinds: LayerKinds) -> LayerKinds:
    """Which indexed layers own an indexer: `indexer_types`, else a pattern of F and S, else every n-th.

    Source: GlmMoeDsaConfig: layer i owns one when max(i - offset + 1, 0) is a multiple of `index_topk_freq`.
    """

    def kinds(f: Fields) -> list[str]:
        found = layer_kinds(f)
        owns = _owns_indexer(f, len(found))
        return [FULL if kind == INDEXED and not own else kind for kind, own in zip(found, owns, strict=True)]

    return kinds


def _owns_indexer(f: Fields, layers: int) -> list[bool]:
    for key in ("indexer_types", "index_topk_pattern"):
        value = f.get(key)
        names = list(value) if key == "index_topk_pattern" and isinstance(value, str) else f.sequence(key)
        if names is None:
            continue
        if len(names) != layers:
            raise BadConfig(f"{f.where}: key {key!r} has {len(names)} entries for {layers} layers")
        unknown = next((name for name in names if name not in ("full", "shared", "F", "S")), None)
        if unknown is not None:
            raise UnsupportedModel(f"{f.where}: key {key!r} has {one_line(repr(unknown), 40)}; full or shared is known")
        return [name in ("full", "F") for name in names]
    period, offset = max(f.int("index_topk_freq", 1, low=0), 1), f.int("index_skip_topk_offset", 2, low=0)
    return [max(i - offset + 1, 0) % period == 0 for i in range(layers)]


def _every_fourth_indexed(f: Fields) -> list[str]:
    return [INDEXED if i % 4 == 3 else LINEAR for i in range(layer_count(f))]


def _glm5_delta(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Kimi delta attention; its shape under linear_attn_config, else in flat keys."""
    inner = f.sub(f.section("linear_attn_config") or {}, "linear_attn_config")
    heads, dim = f.int("linear_num_heads", 64), f.int("linear_head_dim", 128)
    kernel = f.int("linear_conv_kernel_dim", 4)
    return (
        kimi_delta(
            hidden=f.int("hidden_size"),
            heads=inner.int("num_heads", heads),
            head_dim=inner.int("head_dim", dim),
            conv_kernel=inner.int("short_conv_kernel_size", kernel),
        ),
    )


def _glm5_indexed(f: Fields, index: int) -> tuple[Mixer, ...]:
    """MLA and an indexer over pools of `index_kpool` tokens."""
    idle(f, INDEX_IDLE)
    base = latent_attention(f)
    indexer = PooledIndexer(
        hidden=base.hidden,
        q_rank=f.int("q_lora_rank"),
        heads=f.int("index_n_heads"),
        dim=f.int("index_head_dim"),
        pool=f.int("index_kpool", 16),
    )
    return (base, indexer)


def _large4_kinds(f: Fields) -> list[str]:
    """Mistral Large 4: every layer has an indexer, or takes another's choice; every fourth is without a rotary part."""
    found = _indexers(listed("layer_types", _INDEXED_NAMES, all_of(INDEXED)))(f)
    source = f.int_list("kv_source_layers")
    if source is not None and list(source) != list(range(len(found))):
        raise UnsupportedModel(f"{f.where}: layers that share a latent (kv_source_layers) are not known for this type")
    rotary = f.int_list("no_rope_layers")
    if rotary is None:
        every = f.int("no_rope_layer_interval", 4)
        rotary = [int((i + 1) % every != 0) for i in range(len(found))]
    if len(rotary) < len(found):
        raise BadConfig(f"{f.where}: no_rope_layers has {len(rotary)} entries for {len(found)} layers")
    return [kind if turned else kind + NOPE for kind, turned in zip(found, rotary, strict=False)]


def _large4(indexed: bool, rotary: bool) -> MixerMaker:
    """MLA without a query rank; without a rotary part its width goes to the other, and the latent stands alone."""

    def make(f: Fields, index: int) -> tuple[Mixer, ...]:
        base = (mla_with_indexer if indexed else mla_without_indexer)(f, index)[0]
        assert isinstance(base, LatentAttention)
        return (base if rotary else replace(base, nope_dim=base.nope_dim + base.rope_dim, rope_dim=0),)

    return make


def _large4_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """A scale and a bias a head over the position's logarithm; the indexer's too, and a LayerNorm before its queries."""
    scaled = vector("attention", 2 * f.int("num_attention_heads"))
    if not _owns_indexer(f, layer_count(f))[index]:
        return (scaled,)
    return (scaled, vector("indexer", 2 * f.int("index_n_heads")), vector("indexer", 2 * f.int("hidden_size")))


def _normed_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """A.X-K1: a norm of what experts and shared experts put out together."""
    return tuple(
        replace(piece, extra=(vector("norm", piece.hidden),)) if isinstance(piece, Moe) else piece
        for piece in decoder.moe(f, index)
    )


def hyper_connections(f: Fields, index: int) -> tuple[Weight, ...]:
    """Lists the hyper-connections of a layer: one before attention, one before the MLP."""
    return hyper_connection(f.int("hidden_size"), f.int("hc_mult", 4)) * 2


def _longcat_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """A LongCat layer holds two attentions, each with a cache of its own."""
    return mla(f, index) * 2


def _longcat_mlps(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Two dense MLPs and one mixture, whose `zero_expert_num` identity experts have only a router row.

    Source: the published 560 B; the transformers class allocates gate and up for them besides (741 B).
    """
    experts, zero = f.int("num_experts"), f.maybe_int("zero_expert_num", low=0) or 0
    hidden, bias = f.int("hidden_size"), f.flag("router_bias")
    extra: tuple[Weight, ...] = (Weight("router", zero, hidden, linear=False, name="gate|router"),) if zero else ()
    note = f"{zero} identity experts are counted as a router row each, as the published 560 B has them; transformers makes weights"
    if zero and note not in f.notes:
        f.notes.append(note)
    if bias:
        extra += (vector("router", experts + zero),)
    mixture = Moe(
        hidden=hidden,
        experts=experts,
        active=min(f.int("num_experts_per_tok", high=experts + zero), experts),
        expert_width=f.int("moe_intermediate_size"),
        extra=extra,
    )
    return (*decoder.dense(f, index) * 2, mixture)


def _minicpm3(f: Fields, index: int) -> tuple[Mixer, ...]:
    """MiniCPM3: without `v_head_dim` a value is as wide as hidden / heads."""
    return (latent_attention(f, f.int("hidden_size") // f.int("num_attention_heads")),)


_V4_RATIOS: dict[object, str] = {0: SLIDING, 4: CSA, 128: HCA}


def _v4_kinds(f: Fields) -> list[str]:
    """`layer_types`, else `compress_ratios` (0, 4 or 128 a layer), else two HCA and then HCA, CSA in turn.

    Lists may be longer than the layers: the tail belongs to the MTP layers.
    """
    layers = layer_count(f)
    names = f.sequence("layer_types")
    ratios = f.int_list("compress_ratios")
    if names is not None:
        known: dict[object, str] = {SLIDING: SLIDING, CSA: CSA, HCA: HCA}
        found = _translate(f, "layer_types", list(names), known=known)
    elif ratios is not None:
        found = _translate(f, "compress_ratios", list(ratios), known=_V4_RATIOS)
    else:
        found = [CSA if i > 2 and i % 2 else HCA for i in range(layers)]
    if len(found) < layers:
        raise BadConfig(f"{f.where}: the layer list has {len(found)} entries for {layers} layers")
    return found[:layers]


def _translate(f: Fields, key: str, names: list[object], *, known: dict[object, str]) -> list[str]:
    for name in names:
        if not isinstance(name, (str, int)) or name not in known:
            raise UnsupportedModel(
                f"{f.where}: key {key!r} has {one_line(repr(name), 40)}, unknown for this type; "
                f"known: {', '.join(map(str, known))}"
            )
    return [known[name] for name in names]


def v4_core(f: Fields) -> SharedKvAttention:
    """Builds attention with one KV vector for all heads; rope width and index_topk choose what is read, not what is kept."""
    idle(f, {**INDEX_IDLE, "num_key_value_heads": 1, "qk_rope_head_dim": 0, "index_n_heads": 1, "index_head_dim": 1})
    heads, groups = f.int("num_attention_heads"), f.int("o_groups", 8)
    dim = f.int("head_dim", 512)
    if heads * dim % groups:
        raise BadConfig(f"{f.where}: o_groups {groups} does not divide {heads} heads of {dim}")
    return SharedKvAttention(
        hidden=f.int("hidden_size"),
        heads=heads,
        dim=dim,
        q_rank=f.int("q_lora_rank"),
        out_groups=groups,
        out_rank=f.int("o_lora_rank", 1024),
        window=f.int("sliding_window", 128),
    )


def _v4_rate(f: Fields, kind: str, legacy: str, *, default: int) -> int:
    rates = f.sub(f.section("compress_rates") or {}, "compress_rates")
    return f.int(legacy, rates.int(kind, default))


def _v4_sliding(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Without a compressor the ordinary window cache holds the vector as key and again as value."""
    return (replace(v4_core(f), copies=2),)


def _v4_hca(f: Fields, index: int) -> tuple[Mixer, ...]:
    core = v4_core(f)
    return (core, Compressor(core.hidden, core.dim, _v4_rate(f, HCA, "compress_rate_hca", default=128)))


def _v4_csa(f: Fields, index: int) -> tuple[Mixer, ...]:
    core = v4_core(f)
    compressor = Compressor(
        hidden=core.hidden,
        dim=core.dim,
        rate=_v4_rate(f, CSA, "compress_rate_csa", default=4),
        overlap=True,
        q_rank=core.q_rank,
        indexer_heads=f.int("index_n_heads", 64),
        indexer_dim=f.int("index_head_dim", 128),
    )
    return (core, compressor)


def v4_head(f: Fields) -> tuple[Weight, ...]:
    """Lists what folds the streams into one before the head: [m, m·hidden], m and 1."""
    streams = f.int("hc_mult", 4)
    fold = Weight("hyper_connection", streams, streams * f.int("hidden_size"), linear=False)
    return (fold, vector("hyper_connection", streams + 1))


def _v4_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """Hyper-connections, and the shared expert's biases where `mlp_bias` gives it some."""
    if not f.flag("mlp_bias"):
        return hyper_connections(f, index)
    biases = 2 * f.int("moe_intermediate_size") + f.int("hidden_size")
    return (*hyper_connections(f, index), vector("shared_experts", biases))


def _v4_mtp(f: Fields) -> tuple[Weight, ...]:
    """A windowed layer with experts, two projections [hidden, hidden], three norms and a folding head.

    Source: the DeepSeek-V4-Pro checkpoint holds so many parameters beyond the layers and router tables.
    """
    count, hidden = f.int("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS), f.int("hidden_size")
    if not count:
        return ()
    layer = (w for piece in (*_v4_sliding(f, 0), *decoder.moe(f, 0)) for w in piece.weights())
    own = (*linear("mtp", hidden, hidden) * 2, *decoder.norm(f, hidden, 5), *v4_head(f))
    return (*layer, *hyper_connections(f, 0), *own) * count


def v2_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Builds experts whose shared ones have biases where `mlp_bias` says so: it reaches the shared experts as it does the dense MLPs, and not the routed ones."""
    made = decoder.moe(f, index)
    width = decoder.shared_width(f)
    if not f.flag("mlp_bias") or not width:
        return made
    biases = (vector("shared_experts", 2 * width + f.int("hidden_size")),)
    return tuple(replace(base, extra=(*base.extra, *biases)) for base in made if isinstance(base, Moe))


def _longcat_mtp(f: Fields) -> tuple[Weight, ...]:
    """Lists one attention, a dense MLP, a projection, five norms and a table (vLLM 0.33.0 longcat_flash_mtp.py)."""
    hidden = f.int("hidden_size")
    layer = tuple(w for piece in (*mla(f, 0), *decoder.dense(f, 0)) for w in piece.weights())
    own = (*linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 5))
    return (*layer, *own, Weight("embedding", f.int("vocab_size"), hidden, split="rows", linear=False))


DEEPSEEK_V3 = Type(
    renames=ROUTED,
    defaults=V3_DEFAULTS,
    mixers={FULL: mla},
    mlp_kinds=expert_layers(3),
    mtp=decoder.mtp_layers(mla, decoder.moe),
)
INDEXER_MAKERS = {INDEXED: mla_with_indexer, FULL: mla_without_indexer}

TYPES: dict[str, Type] = {
    "deepseek_v2": Type(
        renames=ROUTED,
        defaults={"n_shared_experts": 2, "num_experts": 64},
        mixers={FULL: mla},
        mlp_kinds=expert_layers(),
        mlps={MOE: v2_experts},
    ),
    "deepseek_v3": DEEPSEEK_V3,
    "kimi_k2": replace(DEEPSEEK_V3, source="Kimi-K2-Instruct config.json: DeepseekV3ForCausalLM"),
    "deepseek_v32": replace(
        DEEPSEEK_V3,
        # an old name of the class sets the same, and wins
        renames={"num_experts": ("num_experts", "n_routed_experts", "num_local_experts")},
        implied={"q_rank_required": True, "mlp_bias": False},
        kinds=listed("layer_types", _INDEXED_NAMES, all_of(INDEXED)),
        mixers={INDEXED: mla_with_indexer},
        mtp=decoder.mtp_layers(mla_with_indexer, decoder.moe),
    ),
    "glm_moe_dsa": replace(
        DEEPSEEK_V3,
        renames={"num_experts": ("num_experts", *ROUTED["num_experts"][:-1])},
        implied={"q_rank_required": True, "mlp_bias": False},
        kinds=_indexers(listed("layer_types", _INDEXED_NAMES, all_of(INDEXED))),
        mixers=INDEXER_MAKERS,
        mtp=decoder.mtp_layers(mla_with_indexer, decoder.moe, copies=False),
    ),
    "axk1": replace(
        DEEPSEEK_V3,
        source="transformers 5.24.0 AXK1Config: DeepSeek-V3 with a norm behind the experts",
        defaults={**V3_DEFAULTS, "first_k_dense_replace": 1, "num_experts": 192},
        mlp_kinds=expert_layers(1),
        mlps={MOE: _normed_experts},
        mtp=None,
    ),
    "sarvam_mla": replace(
        DEEPSEEK_V3,
        source="transformers 5.24.0 SarvamMLAConfig: DeepSeek-V3 under other names of its keys, without a query rank",
        renames={"num_experts": ROUTED["num_experts"], "n_shared_experts": ("n_shared_experts", "num_shared_experts")},
        defaults={**V3_DEFAULTS, "first_k_dense_replace": 1, "num_experts": 128, "q_lora_rank": None, "kv_lora_rank": 512,
                  "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128},
        mlp_kinds=expert_layers(1),
        mtp=None,
    ),
    "mistral_large4_text": Type(
        source="transformers 5.24.0 MistralLarge4TextConfig: MLA with an indexer, every fourth layer without a rotary part",
        renames={"num_experts": ("num_experts", *ROUTED["num_experts"][:-1])},
        defaults={"n_shared_experts": 1, "num_experts": 128, "num_experts_per_tok": 4, "moe_intermediate_size": 6144,
                  "first_k_dense_replace": 1, "q_lora_rank": None, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
                  "qk_nope_head_dim": 64, "v_head_dim": 128, "index_n_heads": 32, "index_head_dim": 128},
        kinds=_large4_kinds,
        mixers={INDEXED: _large4(True, True), INDEXED + NOPE: _large4(True, False), FULL: _large4(False, True),
                FULL + NOPE: _large4(False, False)},
        mlp_kinds=expert_layers(1),
        extra=_large4_extra,
        model_extra=lambda f: (vector("norm", f.int("qk_rope_head_dim") // 2),),  # learned scales of the frequencies
    ),
    "youtu": Type(
        source="transformers 5.24.0 YoutuConfig: dense layers with a latent cache",
        defaults={"tie_word_embeddings": True, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
                  "qk_nope_head_dim": 128, "v_head_dim": 128},
        mixers={FULL: mla},
    ),
    "mistral4": Type(
        renames=ROUTED,
        defaults={"n_shared_experts": 1, "num_experts": 128, "num_experts_per_tok": 4,
                  "moe_intermediate_size": 2048},
        mixers={FULL: mla},
        mlp_kinds=expert_layers(),
    ),
    "glm4_moe_lite": Type(
        renames=ROUTED,
        defaults={"n_shared_experts": 1, "num_experts": 64, "num_experts_per_tok": 4,
                  "moe_intermediate_size": 1536},
        mixers={FULL: mla},
        mlp_kinds=expert_layers(1),
        mtp=decoder.mtp_layers(mla, decoder.moe),
    ),
    "glm5_next_text": Type(
        renames=ROUTED,
        defaults={"n_shared_experts": 1, "num_experts": 288, "num_experts_per_tok": 8,
                  "moe_intermediate_size": 2048, "qk_rope_head_dim": 0},
        implied={"q_rank_required": True},
        kinds=_indexers(listed("layer_types", _GLM5_NAMES, _every_fourth_indexed)),
        mixers={INDEXED: _glm5_indexed, FULL: mla_without_indexer, LINEAR: _glm5_delta},
        mlp_kinds=expert_layers(3),
        extra=hyper_connections,
        mtp=decoder.mtp_layers(_glm5_indexed, decoder.moe, copies=False),  # vLLM 0.33.0 glm5next/common/mtp.py
        ignore=("linear_attn_config", "linear_conv_kernel_dim"),  # of the linear layers
    ),
    "longcat_flash": Type(
        source="transformers LongcatFlash; LongCat-Flash-Chat config.json, 560 B",
        renames={**ROUTED, "num_hidden_layers": ("num_layers", "num_hidden_layers"),
                 "intermediate_size": ("ffn_hidden_size", "intermediate_size"),
                 "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_intermediate_size"),
                 "num_experts_per_tok": ("moe_topk", "num_experts_per_tok")},
        defaults={"num_experts": 512, "zero_expert_num": 256},
        implied={"q_rank_required": True, "layer_norms": 4},
        mixers={FULL: _longcat_attention},
        mlp_kinds=all_of(MOE),
        mlps={MOE: _longcat_mlps},
        mtp=_longcat_mtp,
    ),
    "minicpm3": Type(
        defaults={"tie_word_embeddings": True, "kv_lora_rank": 256, "q_lora_rank": 768,
                  "qk_nope_head_dim": 64, "qk_rope_head_dim": 32},
        mixers={FULL: _minicpm3},
    ),
    "deepseek_v4": Type(
        renames=ROUTED,
        defaults={"n_shared_experts": 1, "num_experts": 256, "num_experts_per_tok": 6, "q_lora_rank": 1024,
                  "moe_intermediate_size": 2048},
        kinds=_v4_kinds,
        mixers={SLIDING: _v4_sliding, HCA: _v4_hca, CSA: _v4_csa},
        mlp_kinds=all_of(MOE),
        implied={"n_shared_experts": 1},  # one of an expert's width, whatever the file says
        extra=_v4_extra,
        model_extra=v4_head,
        mtp=_v4_mtp,
    ),
}  # fmt: skip
