"""GGUF metadata and tensors -> ModelSpec: the metadata decides the cache, the tensors decide the weights.

Which layers attend, recur or share is read from the tensors that each has; widths come from the metadata and
are held against the tensors' shapes. What an architecture implies and no key says stands in `gguf_archs.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.model.attention import Attention, Mixer
from planner.model.latent_attention import LatentAttention
from planner.model.spec import Layer, ModelSpec
from planner.model.stored import StoredTensor, gather, part_of
from planner.model.weights import Weight
from planner.readers.gguf import GgufFile, GgufTensor, read_parts
from planner.readers.gguf_archs import (
    ARCHITECTURES,
    DRAFTS,
    INDEXER_TYPES,
    NO_CACHE,
    NOT_READ,
    OTHER_FILES,
    UNREAD,
    Arch,
)
from planner.readers.gguf_graphs import again, in_t5, stacks, t5_halves
from planner.readers.gguf_keys import Keys
from planner.readers.gguf_states import ngrams, state_of
from planner.readers.gguf_stored import (
    StoredAttention,
    StoredCompressor,
    StoredIndexer,
    StoredLatent,
    StoredLatentWindow,
    StoredMlp,
    StoredMoe,
    StoredShared,
)
from planner.units import human_bytes

MAX_LAYERS = 10_000
MISMATCH = "contradiction: {name} has {held:,} rows in the tensors, the metadata gives {wanted:,}"


def read_gguf(path: str) -> ModelSpec:
    """Reads the model of a GGUF file, with the other files of its set."""
    name = os.path.splitext(os.path.basename(path))[0]
    return spec_of(read_parts(path), name=one_line(name, 80), shown=one_line(path, 120))


def read_gguf_folder(folder: str, names: list[str]) -> ModelSpec:
    """Reads the one model in a folder: parts of a set count as one, vision files (mmproj) are left aside."""
    from planner.readers.gguf import part_names

    models = sorted({part_names(name)[0] for name in names if "mmproj" not in name.lower()})
    if len(models) != 1:
        shown = one_line(", ".join(models[:4]) or ", ".join(names[:4]), 160)
        if not models:
            raise BadConfig(f"{one_line(folder, 80)} holds no GGUF model, only {shown}; name the model's own file")
        raise BadConfig(f"{one_line(folder, 80)} holds {len(models)} GGUF models; name the file of one: {shown}")
    return read_gguf(os.path.join(folder, models[0]))


def spec_of(file: GgufFile, *, name: str, shown: str) -> ModelSpec:
    """Builds the spec of a parsed file."""
    keys = Keys(file.metadata, shown)
    _refuse_other_files(file, keys)
    arch = ARCHITECTURES.get(keys.arch)
    if arch is None:
        raise _unknown(keys)
    model = _Model(file, keys, arch)
    _refuse_drafters(model, shown)
    encoder, layers = t5_halves(model) if keys.arch == "t5" else ((), model.layers())
    top = [weight for tensor in model.top if not in_t5(tensor) for weight in model.weights(tensor)]
    positions = keys.number("context_length", 0, low=0)
    return ModelSpec(
        name=name,
        model_type=f"gguf {keys.arch}",
        hidden=model.hidden,
        vocab=model.vocab,
        layers=layers,
        before=tuple(weight for weight in top if weight.part == "embedding"),
        after=tuple(
            weight
            for weight in top
            if weight.part not in ("embedding", "vision", "audio", "projector", "mtp", "buffer")
        ),
        towers=tuple(weight for weight in top if weight.part in ("vision", "audio", "projector")),
        tied=not any(tensor.name.startswith("output.") for tensor in model.top),
        encoder=encoder,
        encoder_extra=tuple(w for tensor in model.top if in_t5(tensor) == "enc" for w in model.weights(tensor)),
        mtp=tuple(weight for weight in model.mtp),
        again=tuple(model.again),
        max_positions=positions or None,
        dtype="fp16",
        notes=("read from a GGUF file: K and V in fp16 unless asked otherwise, as llama.cpp has it", *model.notes),
        warnings=tuple(dict.fromkeys(model.warnings)),
        config={"gguf": dict(file.metadata)},
        stored=gather(
            [StoredTensor(t.name, t.type, t.shape, t.bytes, t.elements) for t in file.tensors],
            source="1 GGUF file" if file.files == 1 else f"{file.files} GGUF files",
            file_bytes=file.file_bytes,
            layers=model.count,
        ),
    )


def _refuse_drafters(model: _Model, shown: str) -> None:
    if model.mtp and not any(model.blocks):
        raise UnsupportedModel(
            f"{shown} holds layers that predict further tokens (MTP) alone: a drafter; give the file of the model that it runs beside"
        )


def _refuse_other_files(file: GgufFile, keys: Keys) -> None:
    """A GGUF file that holds no model is named for what it is, with its size."""
    kind = str(keys.metadata.get("general.type") or "").lower()
    kind = kind if kind in OTHER_FILES else keys.arch if keys.arch in OTHER_FILES else ""
    if not kind and not file.tensors:
        kind = "vocab"
    if kind:
        size = sum(tensor.bytes for tensor in file.tensors)
        held = f" of {human_bytes(size)} in {len(file.tensors):,} tensors" if size else ""
        raise UnsupportedModel(f"{keys.shown} is {OTHER_FILES[kind].replace(':', held + ':', 1)}")


def _unknown(keys: Keys) -> UnsupportedModel:
    arch = one_line(str(keys.arch), 40)
    if any(word in str(keys.arch) for word in NO_CACHE):
        unread = (
            "; llama.cpp allocates K and V of its layers all the same, which nothing reads" if arch in UNREAD else ""
        )
        return UnsupportedModel(
            f"{keys.shown}: GGUF architecture {arch!r} is no autoregressive decoder; it keeps no KV cache between tokens{unread}"
        )
    if keys.arch in DRAFTS:
        return UnsupportedModel(
            f"{keys.shown}: {arch!r} is a draft model: it runs beside its target; give the target's file"
        )
    if keys.arch in NOT_READ:
        return UnsupportedModel(
            f"{keys.shown}: what is kept for {arch!r} ({NOT_READ[keys.arch]}) is not read from GGUF; give its "
            "Hugging Face config.json"
        )
    return UnsupportedModel(
        f"{keys.shown}: GGUF architecture {arch!r} is not one kvplan knows; give its Hugging Face config.json, or describe it "
        "by hand with --layers --heads --kv-heads --head-dim"
    )


class _Model:
    """One file on its way to a spec."""

    def __init__(self, file: GgufFile, keys: Keys, arch: Arch) -> None:
        self.keys, self.arch = keys, arch
        self.warnings: list[str] = []
        self.notes: list[str] = []
        blocks = keys.number("block_count", high=MAX_LAYERS)
        predicted = keys.number("nextn_predict_layers", 0, low=0, high=blocks - 1)
        self.count = blocks - predicted
        self.hidden = keys.number("embedding_length")
        self.top: list[GgufTensor] = []
        self.mtp: list[Weight] = []
        self.again: list[tuple[Weight, int]] = []
        self.blocks: list[dict[str, GgufTensor]] = [{} for _ in range(self.count)]
        for tensor in file.tensors:
            self._place(tensor)
        table = next((t for t in self.top if t.name == "token_embd.weight"), None)
        self.vocab = table.shape[1] if table is not None and len(table.shape) > 1 else keys.number("vocab_size", 1)
        if table is not None and table.shape[0] != self.hidden:
            self.warnings.append(
                f"contradiction: token_embd.weight is {table.shape[0]:,} wide in the tensors, the metadata gives {self.hidden:,}"
            )

    def _place(self, tensor: GgufTensor) -> None:
        head, _, rest = tensor.name.partition(".")
        number, _, inner = rest.partition(".")
        if head == "blk" and number.isascii() and number.isdigit() and len(number) <= 5:
            if int(number) < self.count:
                self.blocks[int(number)][inner] = tensor
            else:
                self.mtp += self.weights(tensor)
        else:
            self.top.append(tensor)

    # -- weights

    def weights(self, tensor: GgufTensor) -> tuple[Weight, ...]:
        """A tensor as a `Weight`: [rows, cols] is [outer axis, inner axis], experts are `count`."""
        part = part_of(tensor.name, len(tensor.shape), None)
        if part == "buffer":
            return ()
        cols = tensor.shape[0]
        rows = tensor.shape[1] if len(tensor.shape) > 1 else 1
        count = 1
        for axis in tensor.shape[2:]:
            count *= axis
        if len(tensor.shape) == 1:
            return (Weight(part, cols, 1, linear=False),)
        used = "attention.value_expert_used_count" if "attn_v_exps" in tensor.name else "expert_used_count"
        active = min(self.keys.number(used, 1), count) if part == "experts" or "attn_v_exps" in tensor.name else -1
        linear = part not in ("embedding", "lm_head", "router", "norm")
        split, units = self._split(tensor.name, rows)
        return (Weight(part, rows, cols, count, active, split, units, linear),)

    def _split(self, name: str, rows: int) -> tuple[str, int]:
        if name.startswith(("token_embd.", "output.")):
            return "rows", 0
        inner = name.split(".")[-2] if "." in name else name
        if inner in ("attn_q", "attn_q_b", "ffn_up", "ffn_gate", "ffn_up_exps", "ffn_gate_exps", "ffn_gate_up_exps"):
            return "rows", 0
        if inner in ("attn_output", "ffn_down", "ffn_down_exps"):
            return "cols", 0
        return "", 0

    # -- layers

    @cached_property
    def heads(self) -> list[int]:
        return self.keys.per_layer("attention.head_count", self.count, 0 if self.arch.state else None)

    @cached_property
    def kv_heads(self) -> list[int]:
        given = self.keys.raw("attention.head_count_kv")
        return self.heads if given is None else self.keys.per_layer("attention.head_count_kv", self.count)

    def layers(self) -> tuple[Layer, ...]:
        windows = self._windows()
        shared = self.keys.number("attention.shared_kv_layers", 0, low=0, high=self.count)
        made = []
        sources = stacks(self.keys, self.count) if self.keys.arch == "hrm_text" else list(range(self.count))
        for index, source in enumerate(sources):
            block = self.blocks[source]
            if not block:
                raise BadConfig(
                    f"{self.keys.shown}: layer {index} of {self.count} has no tensors; is a part of the file missing?"
                )
            layer = self._layer(index, block, windows[index], shared=index >= self.count - shared)
            if source in sources[:index]:
                self.again += [(weight, 1) for weight in layer.weights]
                layer = again(layer)
            made.append(layer)
        if len(set(sources)) < len(sources):
            self.notes.append(
                f"{len(set(sources))} blocks of weights run as {len(sources)} layers, each with a cache of its own"
            )
        return tuple(made)

    def _windows(self) -> list[int]:
        """The window of each layer, 0 where it has none."""
        arch, keys = self.arch, self.keys
        window = keys.number("attention.sliding_window", arch.window, low=0)
        if arch.only_layers not in (0, self.count):  # the graph of the others has none, whatever the file says
            return [0] * self.count
        if not window or arch.period is None:
            if window:
                self.notes.append(
                    f"the file names a window of {window:,} tokens, which llama.cpp does not use for {keys.arch}; not counted"
                )
            return [0] * self.count
        flags = keys.flags("attention.sliding_window_pattern", self.count)
        if flags is None:
            given = keys.raw("attention.sliding_window_pattern")
            period = given if isinstance(given, int) and not isinstance(given, bool) and given > 0 else arch.period
            if period == 0:
                raise UnsupportedModel(
                    f"{keys.shown}: no {keys.arch}.attention.sliding_window_pattern says which layers have the window"
                )
            if period == 1:
                flags = [True] * self.count
            else:
                full = 0 if arch.first_full else period - 1
                flags = [i % period != full for i in range(self.count)]
        if self.arch.chunk:
            window = arch.window
        if keys.arch == "phi3":
            self.notes.append("llama.cpp itself keeps every token of Phi-3; attention needs the window")
        return [window if flag else 0 for flag in flags]

    def _layer(self, index: int, block: Mapping[str, GgufTensor], window: int, *, shared: bool) -> Layer:
        mixing = {
            name: t for name, t in block.items() if part_of(t.name, len(t.shape)) in ("attention", "mixer", "indexer")
        }
        feeding = {
            name: t
            for name, t in block.items()
            if part_of(t.name, len(t.shape)) in ("mlp", "experts", "shared_experts", "router")
        }
        rest = tuple(
            w for name, t in block.items() if name not in mixing and name not in feeding for w in self.weights(t)
        )
        recurrent = state_of(self.keys, self.arch.state, self.hidden, heads=self.heads, index=index, block=mixing)
        if self.keys.arch == "deepseek4":
            mixers: tuple[Mixer, ...] = self._deepseek4(index, mixing)
        elif recurrent is not None:
            own = {name for name in mixing if name.startswith(("ssm_", "shortconv", "time_mix", "channel_mix"))}
            attends = any(name.startswith(("attn_k.", "attn_q.")) for name in mixing) and self.keys.arch == "falcon-h1"
            if not attends:
                own = set(mixing)
            mixers = (replace(recurrent, weight_list=self.held(mixing, own)),)
            if attends:
                mixers = (self._attention(index, mixing, window, shared=shared, names=set(mixing) - own), *mixers)
        elif any(name.startswith(("attn_q", "attn_k", "attn_v", "attn_kv")) for name in mixing):
            mixers = self._indexed(index, mixing, window, shared=shared)
        else:
            mixers = ()
            rest += self.held(mixing, set(mixing))
        looked_up = ngrams(self.keys, self.hidden, block)
        return Layer(
            mixers if looked_up is None else (*mixers, looked_up),
            self.mlps(feeding),
            rest,
            ("block_count", "head_count", "head_count_kv", "key_length", "value_length"),
        )

    def _indexed(
        self, index: int, mixing: Mapping[str, GgufTensor], window: int, *, shared: bool
    ) -> tuple[Mixer, ...]:  # parameters: one layer of a file
        """The layer's attention, and the indexer with keys of its own that some have beside it."""
        keyed = {name for name in mixing if name.startswith("indexer.") and "indexer.k_proj.weight" in mixing}
        attention = self._attention(index, mixing, window, shared=shared, names=set(mixing) - keyed)
        if not keyed:
            return (attention,)
        heads, dim = (self.keys.number(f"attention.indexer.{name}") for name in ("head_count", "key_length"))
        pool = self._pool() if self.keys.arch == "qwen4exp" else 0
        return attention, StoredIndexer(self.hidden, heads, dim, pool, held=self.held(mixing, keyed))

    def _pool(self) -> int:
        """Tokens whose keys Qwen4-Exp's indexer pools, at least 1; layers that pool share one number (llama.cpp's rule)."""
        rates = {rate for rate in self.keys.per_layer("attention.compress_ratios", self.count, 0) if rate}
        if len(rates) > 1 or 1 in rates:
            raise BadConfig(
                f"{self.keys.shown}: {self.keys.arch}.attention.compress_ratios are {sorted(rates)[:4]}; one number above 1 is wanted"
            )
        return rates.pop() if rates else 1

    def held(self, tensors: Mapping[str, GgufTensor], names: set[str]) -> tuple[Weight, ...]:
        """The weights of those tensors that are named."""
        return tuple(weight for name, tensor in tensors.items() if name in names for weight in self.weights(tensor))

    # -- attention

    def _attention(
        self, index: int, block: Mapping[str, GgufTensor], window: int, *, shared: bool, names: set[str]
    ) -> Attention | LatentAttention:
        keys = self.keys
        held = self.held(block, names)
        heads, kv_heads = self.heads[index], self.kv_heads[index]
        if not heads or not kv_heads:
            raise BadConfig(
                f"{keys.shown}: layer {index} has attention tensors, but the metadata gives it {heads} heads and {kv_heads} KV heads"
            )
        if "attn_kv_a_mqa.weight" in block:
            if keys.raw("attention.key_length_mla") is not None:
                return self._latent(index, block, held, window=window)
            return self._unfolded(heads, held)
        if kv_heads > heads:
            raise BadConfig(
                f"{keys.shown}: layer {index} has {kv_heads} KV heads for {heads} heads; at most as many are wanted"
            )
        default = max(1, self.hidden // heads)
        swa = "_swa" if window and keys.raw("attention.key_length_swa") is not None else ""
        k_dim = keys.number(f"attention.key_length{swa}", default)
        v_dim = keys.number(f"attention.value_length{swa}", keys.number("attention.value_length", default))
        self._check_rows(block, heads, kv_heads, k_dim=k_dim, v_dim=v_dim, shared=shared)
        return StoredAttention(
            hidden=self.hidden, heads=heads, kv_heads=kv_heads, head_dim=k_dim, v_dim=v_dim,
            window=window if window and not self.arch.chunk else None,
            chunk=window if window and self.arch.chunk else None,
            shares_cache=shared, held=held,
        )  # fmt: skip

    def _deepseek4(self, index: int, block: Mapping[str, GgufTensor]) -> tuple[Mixer, ...]:
        """A window of raw keys, and entries for every 4 tokens with an indexer, or for every 128; keys of deepseek4.cpp."""
        keys, ratios = self.keys, self.keys.per_layer("attention.compress_ratios", self.count)
        dim, rank = keys.number("attention.key_length"), keys.number("attention.q_lora_rank")
        entries = {name for name in block if "compressor" in name or name.startswith("indexer")}
        core = StoredShared(
            self.hidden, self.heads[index], dim, rank, keys.number("attention.output_group_count", 1),
            keys.number("attention.output_lora_rank", 1), keys.number("attention.sliding_window"),
            held=self.held(block, set(block) - entries),
        )  # fmt: skip
        if ratios[index] not in (0, 4, 128):
            raise UnsupportedModel(
                f"{keys.shown}: layer {index} compresses {ratios[index]} tokens to one; 0, 4 or 128 is known"
            )
        if not ratios[index]:
            return (core,)
        indexed = ratios[index] == 4
        return (
            core,
            StoredCompressor(
                self.hidden, dim, ratios[index], indexed, rank,
                keys.number("attention.indexer.head_count") if indexed else 0,
                keys.number("attention.indexer.key_length") if indexed else 0, held=self.held(block, entries),
            ),
        )  # fmt: skip

    def _check_rows(
        self, block: Mapping[str, GgufTensor], heads: int, kv_heads: int, *, k_dim: int, v_dim: int, shared: bool
    ) -> None:
        """Widths that the metadata gives against the rows of the projections."""
        wanted = {"attn_k.weight": kv_heads * k_dim, "attn_v.weight": kv_heads * v_dim,
                  "attn_qkv.weight": heads * k_dim + kv_heads * (k_dim + v_dim)}  # fmt: skip
        for name, rows in wanted.items():
            tensor = block.get(name)
            if tensor is not None and len(tensor.shape) == 2 and tensor.shape[1] != rows:
                self.warnings.append(MISMATCH.format(name=name, held=tensor.shape[1], wanted=rows))
        if not shared and not {"attn_k.weight", "attn_qkv.weight"} & set(block):
            raise BadConfig(f"{self.keys.shown}: a layer has a query projection but neither attn_k nor attn_qkv")

    @cached_property
    def indexers(self) -> list[bool]:
        """Which layers have an indexer of their own; where a file lists none, the tensors say it."""
        kinds = self.keys.flags("attention.indexer.types", self.count) if self.keys.arch in INDEXER_TYPES else None
        return [True] * self.count if kinds is None else kinds

    def _latent(
        self, index: int, block: Mapping[str, GgufTensor], held: tuple[Weight, ...], *, window: int
    ) -> LatentAttention:
        """MLA in a file that has the widths of its heads under keys of their own: the latent is what is kept, of layers
        with a window (dots.note) one of widths of its own."""
        keys, heads, swa = self.keys, self.heads[index], "_swa" if window else ""
        rank, rope = keys.number(f"attention.kv_lora_rank{swa}"), keys.number("rope.dimension_count", low=0)
        projection = block["attn_kv_a_mqa.weight"]
        if len(projection.shape) == 2 and projection.shape[1] != rank + rope:
            self.warnings.append(
                MISMATCH.format(name="attn_kv_a_mqa.weight", held=projection.shape[1], wanted=rank + rope)
            )
        k_mla = keys.number(f"attention.key_length_mla{swa}", rank + rope)
        v_mla = keys.number(f"attention.value_length_mla{swa}", rank)
        q_rank = keys.number("attention.q_lora_rank", 0, low=0) or None
        if window:
            return StoredLatentWindow(
                self.hidden, heads, q_rank, rank, max(1, k_mla - rope), rope, v_mla, window=window, held=held
            )
        indexed = "indexer.attn_k.weight" in block and self.indexers[index]
        kept = 3 if keys.raw("attention.indexer.kpool") else 1  # GLM-5.3: key, gate and pooled value
        return StoredLatent(
            hidden=self.hidden, heads=heads, q_rank=q_rank, kv_rank=rank,
            nope_dim=max(1, k_mla - rope), rope_dim=rope, v_dim=v_mla,
            indexer_heads=keys.number("attention.indexer.head_count", 1) if indexed else 0,
            indexer_dim=kept * keys.number("attention.indexer.key_length") if indexed else 0,
            held=held,
        )  # fmt: skip

    def _unfolded(self, heads: int, held: tuple[Weight, ...]) -> StoredAttention:
        """MLA without key_length_mla (old files, MiniCPM3): llama.cpp keeps K and V of every head, many times the latent."""
        keys = self.keys
        default = max(1, self.hidden // heads)
        note = (
            "llama.cpp keeps K and V of every head for a file without attention.key_length_mla, not the latent; "
            "a file converted anew may have it"
        )
        if note not in self.notes:
            self.notes.append(note)
        k_dim, v_dim = keys.number("attention.key_length", default), keys.number("attention.value_length", default)
        return StoredAttention(hidden=self.hidden, heads=heads, kv_heads=heads, head_dim=k_dim, v_dim=v_dim, held=held)

    # -- MLP

    def mlps(self, block: Mapping[str, GgufTensor]) -> tuple[StoredMlp | StoredMoe, ...]:
        """The tensors that feed forward as one MLP or one mixture."""
        held = self.held(block, set(block))
        up = (
            block.get("ffn_up_exps.weight") or block.get("ffn_gate_up_exps.weight") or block.get("ffn_down_exps.weight")
        )
        if up is not None and len(up.shape) == 3:
            width = up.shape[1] if "down" not in up.name else up.shape[0]
            shared = block.get("ffn_up_shexp.weight")
            gated = any(name.startswith(("ffn_gate_exps", "ffn_gate_up_exps")) for name in block)
            return (
                StoredMoe(
                    self.hidden, up.shape[2], min(self.keys.number("expert_used_count", 1), up.shape[2]), width,
                    shared.shape[1] if shared is not None and len(shared.shape) == 2 else 0, gated, held=held,
                ),
            )  # fmt: skip
        plain = block.get("ffn_up.weight") or block.get("ffn_down.weight")
        if plain is None or len(plain.shape) != 2:
            return (StoredMlp(self.hidden, 1, held=held),) if held else ()
        width = plain.shape[1] if "up" in plain.name else plain.shape[0]
        return (StoredMlp(self.hidden, width, "ffn_gate.weight" in block, held=held),)
