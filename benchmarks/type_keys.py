"""Writes model_configs/type_keys.jsonl: which of the shared keys each config class of transformers has.

python benchmarks/type_keys.py            # needs transformers; --check writes nothing, and fails on a difference
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from planner.readers.registry import known_types
from planner.readers.type_keys import INTERNAL, SHARED

TARGET = ROOT / "model_configs" / "type_keys.jsonl"


def row(model_type: str) -> dict[str, Any] | None:
    """The line of one type; None where transformers has no class of that name."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        made = CONFIG_MAPPING[model_type]
    except KeyError:
        return None
    config = made()
    held = set(vars(config)) | set(config.to_dict())
    aliases = {
        alias: key for alias, key in made.attribute_map.items() if "token" not in alias and wins(made, alias, key)
    }
    wanted = SHARED | INTERNAL | set(aliases.values())
    held |= read_by_name(made, wanted)
    return {
        "type": model_type,
        "keys": " ".join(sorted(held & wanted)),
        "aliases": dict(sorted(aliases.items())),
        "ties": getattr(config, "tie_word_embeddings", None),
    }


def wins(made: Any, alias: str, key: str) -> bool:
    """Whether the other name decides where a file has both."""
    if made.model_type == "dbrx":  # of two keys alone it does, of a whole file it does not
        return False
    try:
        return getattr(made.from_dict({key: 2, alias: 4}), key) == 4  # type: ignore[no-any-return]
    except Exception:  # a class that is not made from two keys alone
        return True


def read_by_name(made: type, wanted: set[str]) -> set[str]:
    """Keys that the modelling file reads although the class does not declare them (`getattr(config, "head_dim", ...)`)."""
    folder = Path(str(sys.modules[made.__module__].__file__)).parent
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("modeling_*.py"))
    return {key for key in wanted if re.search(rf'self\.\w+ = getattr\(\s*(?:self\.)?\w*config, "{key}"', text)}


def main() -> int:
    """Write or check the file; the exit code."""
    rows = [found for name in known_types() if (found := row(name)) is not None]
    text = "".join(json.dumps(found) + "\n" for found in rows)
    if "--check" in sys.argv:
        same = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        print("as written" if same else f"{TARGET.name} is not what transformers says: run without --check")
        return 0 if same else 1
    TARGET.write_text(text, encoding="utf-8")
    print(f"{TARGET.name}: {len(rows)} types, {len(text):,} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
