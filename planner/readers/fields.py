"""A config file's keys, read with suspicion: types and ranges checked, and every key that was read remembered.

What is remembered tells two things: which keys decided the answer (`kvplan show`), and which keys that
change a cache were there and not understood (then the model is refused, by name of the key).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.errors import BadConfig, one_line
from planner.readers.type_keys import ANY, type_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_INT = 10**9  # no width, vocabulary or length of a decoder comes near
MAX_LAYERS = 1024  # published models have under 200

# Keys that change what a layer caches. A model type that meets one of these and does not read it is refused.
CACHE_KEYS = frozenset(
    """
    attention_chunk_size attention_layers attention_types attn_layer_indices attn_layer_offset
    attn_layer_period attn_type_list attn_types block_configs block_types block_types_list compress_ratios
    conv_L_cache conv_kernel cross_attention_layers first_attn_layer full_attention_interval full_attn_idxs
    global_head_dim head_dim hybrid_layer_pattern hybrid_override_pattern index_head_dim index_n_heads
    index_topk kv_channels kv_lora_rank layer_types layers_block_type linear_attn_config linear_conv_kernel_dim
    linear_key_head_dim linear_num_key_heads linear_num_value_heads linear_value_head_dim mamba_d_conv
    mamba_d_state mamba_expand mamba_n_heads multi_query multi_query_attention multi_query_group_num
    no_rope_layer_interval_window num_global_key_value_heads num_key_value_heads num_kv_heads
    num_kv_shared_layers num_query_groups qk_rope_head_dim sliding_window sliding_window_pattern
    sliding_window_size ssm_cfg ssm_state_size state_size use_sliding_window v_head_dim window_size
    attention_window local_attention_window n_head_kv num_attention_groups cla_share_factor
    use_cla num_hidden_layers_shared_kv kv_share_layers per_layer_config
    """.split()
)  # fmt: skip

Int = int  # Fields.int shadows the name in the class body

_OFF: tuple[object, ...] = (None, False, 0, "", [], {})


class Fields:
    """Canonical access to one config: `renames` map our key to the file's, `defaults` fill absent keys.

    A key that is present and null stays null (Hugging Face configs mean it); a key that is absent takes
    the type's default. `implied` keys belong to the model type and no file overrides them.
    """

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        where: str = "config",
        renames: Mapping[str, str | tuple[str, ...]] | None = None,
        defaults: Mapping[str, Any] | None = None,
        implied: Mapping[str, Any] | None = None,
        model_type: str = "",
    ) -> None:
        self.raw = raw
        self.where = where
        self.renames = renames or {}
        self.defaults = defaults or {}
        self.implied = implied or {}
        self.used: set[str] = set()
        self.touched: set[str] = set()  # as `used`, but emptied by the builder before each layer
        # Remote code reads what it likes; a class of transformers, what it has.
        self.keys = type_keys(model_type) if model_type and "auto_map" not in raw else ANY
        self.foreign: list[str] = []  # keys that are set, and that the type's implementation does not have
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.partial = False  # a part of the model that is loaded is named and not counted

    def leave_out(self, words: str) -> None:
        """Names a part that is not counted: the weights are then a lower bound."""
        self.warnings.append(words)
        self.partial = True

    def names(self, key: str) -> tuple[str, ...]:
        """The names under which a file may have `key`, those that win first."""
        names = self.renames.get(key, key)
        return self.keys.names_of((names,) if isinstance(names, str) else names)

    def file_key(self, key: str) -> str:
        """The name under which the file has `key` (the first of its spellings that is present)."""
        names = self.names(key)
        for name in names:
            if name in self.raw and not self._foreign(name, key):
                return name
        return names[0]

    def _foreign(self, name: str, key: str) -> bool:
        """A key of other types: this one's rules do not name it, and its class does not have it."""
        if not self.keys.foreign(name) or name in self.defaults or key in self.renames:
            return False
        if name not in self.foreign and self.raw[name] not in _OFF:
            self.foreign.append(name)
        return True

    def has(self, key: str) -> bool:
        return key not in self.implied and self._present(self.file_key(key), key)

    def _present(self, name: str, key: str) -> bool:
        return name in self.raw and not self._foreign(name, key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it stands: implied, else the file's (null included), else the type's default."""
        if key in self.implied:
            return self.implied[key]
        self.used.update(self.names(key))
        name = self.file_key(key)
        if self._present(name, key):
            self.touched.add(name)
            return self.raw[name]
        return self.defaults.get(key, default)

    def int(self, key: str, default: int | None = None, *, low: int = 1, high: int = MAX_INT) -> int:
        """A whole number in low..high; absent or null without a default is an error that names the key."""
        value = self.get(key, default)
        if value is None:
            value = default
        if value is None:
            raise BadConfig(f"{self.where}: key {self.file_key(key)!r} is missing; a whole number is wanted")
        return self._whole(value, self.file_key(key), low, high=high)

    def maybe_int(self, key: str, *, low: Int = 1) -> Int | None:
        """As `int`, but absent and null mean None."""
        value = self.get(key)
        return None if value is None else self._whole(value, self.file_key(key), low, high=MAX_INT)

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if value is None:  # null is no default: to a class, `if config.flag` is false
            return False if self.has(key) else default
        if value in (0, 1):
            return bool(value)
        raise self.wrong(key, value, "true or false")

    def text(self, key: str, default: str = "") -> str:
        value = self.get(key, default)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, value, "a text")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite positive number (an expansion factor)."""
        value = self.get(key, default)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < MAX_INT:
            raise self.wrong(key, value, "a positive number")
        return float(value)

    def sequence(self, key: str, length: Int | None = None) -> list[Any] | None:
        """A list, of `length` items when given; None when absent or null."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)):
            raise self.wrong(key, value, "a list")
        if len(value) > MAX_LAYERS:
            raise BadConfig(
                f"{self.where}: key {self.file_key(key)!r} has {len(value):,} entries; {MAX_LAYERS:,} at most"
            )
        if length is not None and len(value) != length:
            raise BadConfig(
                f"{self.where}: key {self.file_key(key)!r} has {len(value)} entries for {length} layers; one each is wanted"
            )
        return list(value)

    def int_list(self, key: str, length: Int | None = None, *, low: Int = 0) -> list[Int] | None:
        values = self.sequence(key, length)
        if values is None:
            return None
        return [self._whole(value, self.file_key(key), low, high=MAX_INT) for value in values]

    def section(self, key: str) -> Mapping[str, Any] | None:
        """A nested object; None when absent or null."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, value, "an object")
        return value

    def sub(self, raw: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None) -> Fields:
        """Fields of a nested object, with its own defaults."""
        return Fields(raw, where=f"{self.where}: {where}", defaults=defaults)

    def ignore(self, *keys: str) -> None:
        """Keys that look as if they changed the cache, and for this type do not."""
        self.used.update(keys)

    def unread_cache_keys(self) -> list[str]:
        return sorted(
            key for key, value in self.raw.items()
            if key in CACHE_KEYS and key not in self.used and value not in _OFF and not _all_full(key, value)
        )  # fmt: skip

    def wrong(self, key: str, value: Any, wanted: str) -> BadConfig:
        return BadConfig(f"{self.where}: key {self.file_key(key)!r} is {_show(value)}; {wanted} is wanted")

    def _whole(self, value: Any, name: str, low: Int, *, high: Int) -> Int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadConfig(f"{self.where}: key {name!r} is {_show(value)}; a whole number is wanted")
        if not low <= value <= high:
            raise BadConfig(f"{self.where}: key {name!r} is {_show(value)}; {low:,} to {high:,} is wanted")
        return value


def _all_full(key: str, value: Any) -> bool:
    return key == "layer_types" and isinstance(value, Sequence) and set(map(str, value)) <= {"full_attention"}


def _show(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**18:
        return "a number of over 18 digits"
    try:
        return one_line(repr(value), 60)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too long to print"
