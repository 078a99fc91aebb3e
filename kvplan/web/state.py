"""What the page is asked, as its address has it: a link is a configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from planner.errors import BadRequest

CONTROLS = (
    "model", "config", "gpu", "memory", "gpus", "tp", "pp", "dp", "ep", "seq", "batch", "dtype", "kv_dtype", "engine",
    "max_model_len", "max_num_seqs", "gpu_memory_utilization", "rope_scaling", "prompt", "answer", "users", "ttft", "tpot",
)  # fmt: skip
LAYOUT = ("gpus", "tp", "pp", "dp", "ep")
MOST_COMPARED = 4
ESTIMATE = (
    "gpu", "memory", "gpus", "tp", "pp", "dp", "ep", "seq", "batch", "dtype", "kv_dtype", "engine", "max_model_len", "max_num_seqs", "gpu_memory_utilization",
    "rope_scaling",
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """The controls that are set, and the configurations that it is compared with."""

    values: Mapping[str, str]
    compared: tuple[str, ...] = ()

    @staticmethod
    def of(pairs: Iterable[tuple[str, str]]) -> State:
        """Reads the state of an address; BadRequest for a control that is not there."""
        values: dict[str, str] = {}
        compared = []
        for name, value in pairs:
            name = "answer" if name == "output" else name  # addresses of 0.1
            if name == "c":
                compared.append(value)
            elif name not in CONTROLS:
                raise BadRequest(f"{name[:40]!r} is not a control of the page; it has {', '.join(CONTROLS)}")
            elif value.strip():
                values[name] = value.strip()
        return State(values, tuple(compared[:MOST_COMPARED]))

    @staticmethod
    def read(query: str) -> State:
        """The state of a query string.

        >>> State.read("model=gpt2&seq=1k&batch=").values
        {'model': 'gpt2', 'seq': '1k'}
        """
        return State.of(parse_qsl(query, keep_blank_values=False))

    @property
    def query(self) -> str:
        """The query string, without what it is compared with."""
        return urlencode(self.values)

    @property
    def address(self) -> str:
        """The query string, all of it."""
        return urlencode([*self.values.items(), *(("c", one) for one in self.compared)])

    @property
    def comparison(self) -> str:
        """The query string of the page that shows it beside what it is compared with."""
        return urlencode([("c", one) for one in (*self.compared, self.query)])

    def takes(self, flags: str) -> bool:
        """Tells whether the page has controls for these flags and their values."""
        words = flags.split()
        names = [word.removeprefix("--").replace("-", "_") for word in words[::2]]
        return bool(words) and len(words) % 2 == 0 and set(names) <= set(CONTROLS)

    def having(self, flags: str) -> State:
        """This state with flags of the command line, as advice names them.

        >>> State({"model": "gpt2", "tp": "2"}).having("--tp 8 --pp 2").query
        'model=gpt2&tp=8&pp=2'
        """
        values = dict(self.values)
        words = shlex.split(flags)
        changed = {name[2:].replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)}
        if changed.keys() & set(LAYOUT):
            values = {name: value for name, value in values.items() if name not in LAYOUT}
            if "gpu" in values:  # a count in the device's name is a layout too
                values["gpu"] = re.sub(r"^\s*\d+\s*[x×*]\s*", "", values["gpu"])
        if "gpu" in changed:
            values.pop("memory", None)
        return State({**values, **changed}, self.compared)

    def asked(self, names: tuple[str, ...]) -> dict[str, str]:
        """Parameters of a question: those of `names` that are set, and the model."""
        found = {name: self.values[name] for name in names if name in self.values}
        model = self.values.get("config") or self.values.get("model")
        return {**found, **({"model": model} if model else {})}
