"""Which kind each layer is: the few rules by which model types arrange windows, experts and state layers."""

from __future__ import annotations

from planner.errors import UnsupportedModel, one_line
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.model_types import LayerKinds

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


DENSE, MOE, NONE = "dense", "moe", "none"


def layer_count(f: Fields) -> int:
    """Reads the number of layers, at most MAX_LAYERS."""
    return f.int("num_hidden_layers", high=MAX_LAYERS)


def all_of(kind: str) -> LayerKinds:
    """Makes the rule that every layer is of one kind."""
    return lambda f: [kind] * layer_count(f)


def listed(key: str, known: dict[str, str], fallback: LayerKinds) -> LayerKinds:
    """Makes the rule that the kinds are those listed in the file under `key`, each translated; `fallback` where the
    file has no list.
    """

    def kinds(f: Fields) -> list[str]:
        names = f.sequence(key, layer_count(f))
        if names is None:
            return fallback(f)
        return [_known(f, key, name, known=known) for name in names]

    return kinds


def _known(f: Fields, key: str, name: object, *, known: dict[str, str]) -> str:
    if isinstance(name, str) and name in known:
        return known[name]
    raise UnsupportedModel(
        f"{f.where}: key {f.file_key(key)!r} names a layer {one_line(repr(name), 40)}, which kvplan does not know for this "
        f"type; known: {', '.join(known)}"
    )


_ATTENTION = {FULL: FULL, SLIDING: SLIDING, CHUNKED: CHUNKED}


def layer_types(fallback: LayerKinds) -> LayerKinds:
    """Makes the rule of `layer_types` where the file has it, else the type's own; without a window there is no sliding
    layer.
    """
    from_file = listed("layer_types", _ATTENTION, fallback)

    def kinds(f: Fields) -> list[str]:
        found = from_file(f)
        # The list says all that these keys would.
        f.ignore("sliding_window_pattern", "_sliding_window_pattern", "use_sliding_window", "max_window_layers")
        if f.get("sliding_window") is None:
            return [FULL if kind == SLIDING else kind for kind in found]
        return found

    return kinds


def listed_or_full(f: Fields) -> list[str]:
    """Reads `layer_types` where the file has it, else full attention everywhere.

    A window that no list places stays unread, and so the model is refused: transformers' cache would keep
    only the window, vLLM would keep everything.
    """
    if f.get("layer_types") is not None:
        return layer_types(all_of(FULL))(f)
    if not f.flag("use_sliding_window", True):
        f.ignore("sliding_window")
    return [FULL] * layer_count(f)


def every(period_key: str, default: int, at_period: str = FULL, *, otherwise: str = SLIDING) -> LayerKinds:
    """Makes the rule that layer i is `at_period` when (i + 1) is a multiple of the period (Gemma 3: five windows, one
    global).
    """

    def kinds(f: Fields) -> list[str]:
        period = f.int(period_key, default)
        return [at_period if (i + 1) % period == 0 else otherwise for i in range(layer_count(f))]

    return kinds


def every_fourth_full(f: Fields) -> list[str]:
    """Lists layers 0, 4, 8... as full attention, the others as windows (Granite with windows)."""
    return [SLIDING if i % 4 else FULL for i in range(layer_count(f))]


def letters(key: str, default: int) -> LayerKinds:
    """Makes the rule of `every` where the key is a number; a text such as "LLLG" is repeated letter by letter (L:
    window), and the last layer is global.

    Source: EXAONE-4.0-32B configuration, transformers ExaoneMoeConfig.
    """
    by_number = every(key, default)

    def kinds(f: Fields) -> list[str]:
        pattern, count = f.get(key), layer_count(f)
        if not isinstance(pattern, str):
            return by_number(f)
        if not pattern or set(pattern) - {"L", "G"}:
            raise f.wrong(key, pattern, "a whole number, or a text of L and G")
        return [SLIDING if pattern[i % len(pattern)] == "L" and i < count - 1 else FULL for i in range(count)]

    return kinds


def periodic(period_key: str, offset_key: str, at: str, *, otherwise: str) -> LayerKinds:
    """Makes the rule that layer i is `at` when i % period == offset (Jamba's attention and expert layers)."""

    def kinds(f: Fields) -> list[str]:
        period, offset = f.int(period_key), f.int(offset_key, low=0)
        return [at if i % period == offset else otherwise for i in range(layer_count(f))]

    return kinds


def window_from_layer(f: Fields) -> list[str]:
    """Lists Qwen 2/3's kinds: no window unless `use_sliding_window`; then from layer `max_window_layers` on."""
    first = f.int("max_window_layers", 28, low=0)
    if not f.flag("use_sliding_window"):
        f.get("sliding_window")
        return [FULL] * layer_count(f)
    return [SLIDING if i >= first else FULL for i in range(layer_count(f))]


def dense_then_moe(first_key: str = "first_k_dense_replace", default: int = 0) -> LayerKinds:
    """Makes the rule that the first k layers are dense and the others have experts (DeepSeek)."""

    def kinds(f: Fields) -> list[str]:
        first = f.int(first_key, default, low=0)
        return [DENSE if i < first else MOE for i in range(layer_count(f))]

    return kinds


def expert_layers(default_first: int = 0) -> LayerKinds:
    """Makes the rule of `mlp_layer_types`, else of `moe_layer_freq` as a list of 0 and 1, else DeepSeek's.

    DeepSeek: experts from layer `first_k_dense_replace` on where the index is a multiple of `moe_layer_freq`
    (published files: 1). Source: modeling_deepseek.py, DeepseekDecoderLayer.
    """
    return listed("mlp_layer_types", {"dense": DENSE, "sparse": MOE}, _by_frequency(default_first))


def _by_frequency(default_first: int) -> LayerKinds:
    def kinds(f: Fields) -> list[str]:
        first, layers = f.int("first_k_dense_replace", default_first, low=0), layer_count(f)
        if isinstance(f.get("moe_layer_freq"), (list, tuple)):
            flags = f.int_list("moe_layer_freq", layers) or []
            return [MOE if flag else DENSE for flag in flags]
        period = f.int("moe_layer_freq", 1)
        return [MOE if i >= first and i % period == 0 else DENSE for i in range(layers)]

    return kinds


def sparse_step(f: Fields) -> list[str]:
    """Lists Qwen MoE's kinds: experts in every `decoder_sparse_step`-th layer, except those in `mlp_only_layers`."""
    step = f.int("decoder_sparse_step", 1)
    dense = set(f.int_list("mlp_only_layers") or [])
    experts = f.int("num_experts", low=0)
    return [MOE if i not in dense and experts > 0 and (i + 1) % step == 0 else DENSE for i in range(layer_count(f))]
