"""What a checkpoint's headers say is stored: exact bytes by dtype and by part, and how ranks share them.

The config decides the cache, the headers decide the weights. A record is built once by a reader; `StoredPlan`
answers with it wherever a `WeightPlan` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

from planner.frozen import dataclass

MTP, BUFFER = "mtp", "buffer"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a header describes it. `parameters`: the numbers it stands for, unpacked; 0 for a scale."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    parameters: int


@dataclass(frozen=True)
class StoredGroup:
    """All tensors of one part in one dtype."""

    part: str
    dtype: str
    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class StoredWeights:
    """The weights of one checkpoint.

    source        which files, in words
    file_bytes    all of them together, headers and padding too
    layer_bytes   by decoder layer
    packed        some tensors hold numbers in a packing that is not understood: parameters are not known
    """

    source: str
    groups: tuple[StoredGroup, ...]
    file_bytes: int
    layer_bytes: tuple[int, ...] = ()
    packed: bool = False

    @cached_property
    def bytes(self) -> int:
        """Sums the bytes of all tensors, those of multi-token-prediction layers too."""
        return sum(group.bytes for group in self.groups)

    @cached_property
    def loaded_bytes(self) -> int:
        """Sums the bytes that a server loads which leaves out multi-token-prediction layers."""
        return sum(group.bytes for group in self.groups if group.part != MTP)

    @cached_property
    def parameters(self) -> int:
        """Numbers stored, packed ones unpacked; without scales, buffers and multi-token-prediction layers."""
        return sum(group.parameters for group in self.groups if group.part not in (MTP, BUFFER))

    def bytes_of(self, part: str) -> int:
        return sum(group.bytes for group in self.groups if group.part == part)

    def parameters_of(self, part: str) -> int:
        return sum(group.parameters for group in self.groups if group.part == part)

    @property
    def by_part(self) -> dict[str, int]:
        return _summed((group.part, group.bytes) for group in self.groups)

    @property
    def by_dtype(self) -> dict[str, int]:
        return _summed((group.dtype, group.bytes) for group in self.groups)

    def to_dict(self) -> dict[str, object]:
        return {
            "source": self.source,
            "file_bytes": self.file_bytes,
            "bytes": self.bytes,
            "loaded_bytes": self.loaded_bytes,
            "parameters": None if self.packed else self.parameters,
            "bytes_by_dtype": self.by_dtype,
            "bytes_by_part": self.by_part,
            "layer_bytes": list(self.layer_bytes),
        }


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Sums by name, the largest first."""
    sums: dict[str, int] = {}
    for name, size in pairs:
        sums[name] = sums.get(name, 0) + size
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


# First match wins. Names are those of transformers checkpoints, of Mistral's and Meta's own, and of GGUF.
# Plain texts, which `re` compiles and keeps when they are first asked for: most answers name no tensor.
_PARTS = (
    (BUFFER, r"inv_freq$|masked_bias$|rope_freqs|rope_factors|position_ids$|(^|\.)(attn|attention)\.bias$"),
    (MTP, r"(^|\.)mtp[._]|(^|\.)nextn\.|(^|\.)eh_proj"),
    ("projector", r"multi_modal_projector|mm_proj|embed_vision|embed_audio|connector|(^|\.)mm\.|aligner\."),
    ("audio", r"audio|speech|(^|\.)a\.(blk|conv|position|pre_ln|post_ln)"),
    ("vision", r"vision|visual\.|image_|img_|(^|\.)v\.(blk|patch|class|pos|pre_ln|post_ln|deepstack)|patch_embed"),
    ("indexer", r"indexer"),
    ("router", r"router|mlp\.gate\.|moe\.gate\.|mixer\.gate\.|feed_forward\.gate\.|e_score_correction_bias|expert_bias"
               r"|shared_expert_gate|ffn_gate_inp|exp_probs_b|ffn\.gate\."),
    ("attention", r"attn_v_(exps|gate)"),
    ("shared_experts", r"shared_expert|shexp|shared_mlp|shared_head"),
    ("experts", r"experts?\.|experts_|_exps|_chexps"),
    ("norm", r"norm|(^|\.)ln_|layernorm|(^|\.)ln\d"),
    ("cross_attention", r"cross_attn|encoder_attn|EncDecAttention"),
    ("lm_head", r"lm_head|embed_out|^output(\.|$)|(^|\.)output\.weight$"),
    ("mixer", r"linear_attn|mamba|ssm_|mixer\.(in_proj|out_proj|conv1d|dt_|A_log|D$|x_proj)|short_?conv|time_mix|channel_mix"
              r"|temporal_block|(^|\.)conv\.|rg_lru|(^|\.)kda"),
    ("embedding", r"embed_tokens|wte\.|wpe\.|word_embeddings|tok_embeddings|embed_in|embed_positions|embeddings?\."
                  r"|^shared\.|token_embd|position_embd|token_types|(^|\.)embed\.|per_layer_(model|token|proj)|altup_(un)?e?mb"),
    ("attention", r"attn|[aA]ttention|[qkvo]_proj|qkv|query_key_value|sinks|(^|\.)w[qkvo]\b"),
    ("mlp", r"mlp|ffn|feed_forward|fc[12]|[dD]ense|(gate|up|down)_proj|w[123]\b|c_fc|c_proj"),
)  # fmt: skip


_LAYER = r"(?:^|\.)(?:layers|h|blocks|block|blk)\.(\d{1,5})\."


_SIDE_LAYER = r"vision|visual|audio|encoder\.|(^|\.)(v|a|enc)\."


def layer_of(name: str) -> int | None:
    """Returns the decoder layer that a tensor's name puts it in.

    >>> layer_of("model.layers.61.mlp.gate.weight"), layer_of("blk.3.attn_q.weight"), layer_of("lm_head.weight")
    (61, 3, None)
    """
    found = re.search(_LAYER, name)
    return int(found.group(1)) if found and not re.search(_SIDE_LAYER, name) else None


def part_of(name: str, rank: int = 2, layers: int | None = None) -> str:
    """Tells which part a tensor belongs to, by its name; layers beyond `layers` predict several tokens (DeepSeek).

    >>> part_of("model.layers.3.mlp.experts.7.down_proj.weight"), part_of("model.layers.3.self_attn.q_norm.weight")
    ('experts', 'norm')
    >>> part_of("model.layers.61.self_attn.o_proj.weight", layers=61), part_of("token_embd.weight")
    ('mtp', 'embedding')
    """
    layer = layer_of(name)
    if layer is not None and layers is not None and layer >= layers:
        return MTP
    for part, pattern in _PARTS:
        if re.search(pattern, name):
            if part == BUFFER and rank < 3 and name.endswith((".attn.bias", ".attention.bias")):
                continue  # GPT-2's causal mask has four axes; a bias of a projection has one
            return part
    return "other"


def gather(
    tensors: Iterable[StoredTensor], *, source: str, file_bytes: int, layers: int | None = None, packed: bool = False
) -> StoredWeights:
    """Returns the record of these tensors. `layers`: how many the config gives the decoder."""
    sums: dict[tuple[str, str], list[int]] = {}
    by_layer: dict[int, int] = {}
    for tensor in tensors:
        part = part_of(tensor.name, len(tensor.shape), layers)
        group = sums.setdefault((part, tensor.dtype), [0, 0, 0])
        group[0] += 1
        group[1] += tensor.parameters
        group[2] += tensor.bytes
        layer = layer_of(tensor.name)
        if layer is not None and part != MTP:
            by_layer[layer] = by_layer.get(layer, 0) + tensor.bytes
    groups = tuple(StoredGroup(part, dtype, *counts) for (part, dtype), counts in sorted(sums.items()))
    deepest = min(max(by_layer, default=-1) + 1, 10_000)
    return StoredWeights(source, groups, file_bytes, tuple(by_layer.get(i, 0) for i in range(deepest)), packed)
