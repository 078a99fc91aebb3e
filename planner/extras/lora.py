"""LoRA adapters: how many numbers one has, and what so many of them take on a device.

An adapter of rank r adds W + (alpha/r)·B·A to a matrix W [out, in] with A [r, in] and B [out, r].
Source: arXiv:2106.09685; huggingface/peft.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from planner.errors import BadRequest, one_line
from planner.frozen import dataclass
from planner.model.attention import Attention, Mixer
from planner.model.cross_attention import CrossAttention
from planner.model.latent_attention import LatentAttention
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.parameters import counted
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight

MAX_RANK = 4096


VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


"""`--max-lora-rank` takes these alone. Source: vLLM `MaxLoRARanks` in vllm/config/lora.py."""


Matrix = tuple[Weight, ...]


"""One module: the matrix, or several that are stored as one (fused q, k and v share A)."""


FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}


GROUPS = {"attention": ("q", "k", "v", "o", "q_a", "q_b", "kv_a", "kv_b"), "mlp": ("gate", "up", "down")}


_ALIASES = {
    "c_attn": "qkv", "query_key_value": "qkv", "w_pack": "qkv", "wqkv": "qkv",
    "out": "o", "c_fc": "up", "fc_in": "up", "fc1": "up", "fc_out": "down", "fc2": "down",
    "dense_h_to_4h": "up", "dense_4h_to_h": "down", "kv_a_proj_with_mqa": "kv_a", "w1": "gate", "w3": "up", "w2": "down",
}  # fmt: skip


@dataclass(frozen=True)
class Lora:
    """`count` adapters of one rank on the modules `targets`; none named: on every linear layer.

    slots   an engine's padded buffers, preallocated for every module whatever an adapter really has
    """

    count: int
    rank: int
    targets: tuple[str, ...] = ()
    slots: bool = False

    @property
    def name(self) -> str:
        return f"{self.count:,} LoRA r{self.rank}" + (f" {','.join(self.targets)}" if self.targets else "")


def modules(layer: Layer, targets: Sequence[str] = ()) -> Iterator[tuple[str, Matrix]]:
    """Returns the modules of one layer that an adapter goes on, by name: q, k, v, o, gate, up, down, router,
    q_a, q_b, kv_a, kv_b (latent attention), or fused: qkv, gate_up. Experts and shared experts count as
    gate, up and down, each expert for itself.

    >>> from planner.model.attention import Attention
    >>> layer = Layer((Attention(4096, 32, 8, 128),), (Mlp(4096, 14336),))
    >>> [name for name, _ in modules(layer)], [name for name, _ in modules(layer, ["qkv"])]
    (['q', 'o', 'k', 'v', 'gate', 'up', 'down'], ['qkv'])

    Raises BadRequest without `targets` where a layer has a recurrent or sparse mixer: how its projections are
    fused differs by engine. A sparse indexer beside latent attention is left out.
    """
    wanted = set(targets)
    for piece in (*layer.mixers, *layer.mlps):
        found = list(_named(piece))
        if not wanted and not found and any(weight.linear for weight in piece.weights()):
            raise BadRequest(
                "LoRA on every linear layer is not modelled where layers are recurrent or sparse; name targets, "
                "for example r16:q,k,v,o,gate,up,down"
            )
        for fused, parts in FUSED.items():
            group = tuple(weight for name, weight in found if name in parts)
            if fused in wanted and group:
                yield fused, group
        for name, weight in found:
            if name in wanted or (not wanted and name != "router"):
                yield name, (weight,)


def _named(piece: Mixer | Mlp | Moe) -> Iterator[tuple[str, Weight]]:
    """The matrices of a mixer or MLP in the order in which `weights()` gives them, with their names."""
    matrices = [weight for weight in piece.weights() if weight.cols > 1 and weight.part != "norm"]
    if isinstance(piece, CrossAttention):
        yield from zip(("q", "k", "v", "o"), matrices, strict=False)
    elif isinstance(piece, Attention):
        yield from zip(("q", "o", "k", "v"), matrices, strict=False)
    elif isinstance(piece, LatentAttention):
        q = ("q",) if piece.q_rank is None else ("q_a", "q_b")
        yield from zip((*q, "kv_a", "kv_b", "o"), matrices, strict=False)
    elif isinstance(piece, Mlp):
        yield from zip(("gate", "up", "down") if piece.gated else ("up", "down"), matrices, strict=True)
    elif isinstance(piece, Moe):
        yield from _moe_named(piece, matrices)


def _moe_named(moe: Moe, matrices: Iterable[Weight]) -> Iterator[tuple[str, Weight]]:
    names = ("gate", "up", "down") if moe.gated else ("up", "down")
    seen: dict[str, int] = {}
    for weight in matrices:
        place = seen.get(weight.part, 0)
        seen[weight.part] = place + 1
        if weight.part in ("experts", "shared_experts"):
            yield names[place], weight
        elif weight.part == "router" and weight.rows == moe.experts:
            yield "router", weight
        elif weight.part == "mlp":
            yield "latent", weight


def canonical_targets(spec: ModelSpec, names: Iterable[str]) -> tuple[str, ...]:
    """Reads module names as people and peft write them -> ours; `attention`, `mlp` and `all` are groups.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> canonical_targets(read_entry(find_model("llama-7b")), ["q_proj", "v_proj"])
    ('q', 'v')

    Raises BadRequest for a name that this model has no matrix for.
    """
    has = _module_names(spec)
    found: list[str] = []
    for name in names:
        plain = name.strip().lower()
        plain = _ALIASES.get(plain, plain.removesuffix("_proj"))
        if plain in ("all", "all-linear"):
            return ()
        group = tuple(part for part in GROUPS.get(plain, (plain,)) if part in has)
        if not group:
            raise BadRequest(
                f"LoRA target {one_line(name, 40)!r} is not a module of {spec.name}; choose from "
                f"{', '.join(sorted(has))}, or attention, mlp, all"
            )
        found += group
    return tuple(dict.fromkeys(found))


def _module_names(spec: ModelSpec) -> set[str]:
    has = {
        name
        for layer, _ in (*spec.groups, *counted(spec.encoder))
        for piece in (*layer.mixers, *layer.mlps)
        for name, _ in _named(piece)
    }
    return has | {fused for fused, parts in FUSED.items() if has >= set(parts)}


def module_parameters(matrix: Matrix, rank: int, tp: int = 1, *, ep: int = 1) -> int:
    """Counts the numbers of A and B of one module on one rank: r·(in + sum of outs), each expert for itself.

    Column-parallel matrices (q, k, v, gate, up) hold A whole and their share of B, row-parallel ones (o, down)
    their share of A and B whole; expert ranks hold their experts' adapters.
    Source: vLLM `ColumnParallelLinearWithLoRA`, `RowParallelLinearWithLoRA` without --fully-sharded-loras.

    >>> module_parameters((Weight("attention", 4096, 4096, split="rows", units=32),), 8)
    65536
    >>> module_parameters((Weight("attention", 4096, 4096, split="rows", units=32),), 8, tp=2)   # 8·(4096 + 2048)
    49152
    """
    shares = [weight.on_rank(tp, ep) for weight in matrix]
    return rank * (shares[0].cols + sum(weight.rows for weight in shares)) * shares[0].count


def layers_parameters(layers: Iterable[tuple[Layer, int]], lora: Lora, tp: int = 1, *, ep: int = 1) -> int:
    """Counts the numbers of one adapter over some layers, each with how many equal ones there are."""
    return sum(
        count * sum(module_parameters(matrix, lora.rank, tp, ep=ep) for _, matrix in modules(layer, lora.targets))
        for layer, count in layers
    )


def adapter_parameters(spec: ModelSpec, lora: Lora) -> int:
    """Counts the numbers of one adapter, the whole model: what peft prints as trainable parameters.

    Encoder layers count, towers and tables (embedding, head) do not.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> adapter_parameters(read_entry(find_model("llama-7b")), Lora(1, 8, ("q", "v")))   # 32·2·8·(4096 + 4096)
    4194304
    """
    return layers_parameters((*spec.groups, *counted(spec.encoder)), lora)


def table_parameters(spec: ModelSpec, rank: int) -> int:
    """Counts the numbers of a slot for embedding and head, which some engines preallocate too: 2·r·(vocab + hidden), not split.

    Source: vLLM `VocabParallelEmbeddingWithLoRA`, `LogitsProcessorWithLoRA`, for the model classes that list
    `embedding_modules` (Llama, Mistral, Mixtral ...); an upper bound for the others.
    """
    return 2 * rank * (spec.vocab + spec.hidden)


def slot_rank(rank: int) -> int:
    """Returns the `--max-lora-rank` that holds adapters of `rank`.

    >>> slot_rank(16), slot_rank(24)
    (16, 32)
    """
    for allowed in VLLM_RANKS:
        if rank <= allowed:
            return allowed
    raise BadRequest(f"LoRA rank {rank}: vLLM holds at most {VLLM_RANKS[-1]}; write a smaller rank")
