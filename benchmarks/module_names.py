"""Compares the names that quantisation configs use for modules with those of transformers, for every known type.

    python benchmarks/module_names.py                 # all types; needs transformers and torch, on the meta device
    python benchmarks/module_names.py gemma4 dbrx

Each module of a layer, and each container of some, is named in a list of its own; the parameters that this list takes
out of our layer must be those of the module. Printed are (name, theirs, ours) where they differ. Not compared are towers,
encoders, and types that transformers does not build from its defaults.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.config_sweep import small
from planner.errors import KvplanError
from planner.memory.module_names import matcher
from planner.memory.weight_formats import is_matrix
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config
from planner.readers.registry import known_types
from planner.readers.type_keys import type_keys

LAYER = re.compile(r"^(?:.*?)(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.(.*)$")
BESIDE = re.compile(r"vision|visual|audio|vit\b|speech|sam_|tower|talker|code2wav|conv|bias$")
NO_LINEAR = re.compile(r"expert|gate$|router")  # matrices that are parameters of their own


def matrices(config: Mapping[str, Any]) -> dict[int, dict[str, int]]:
    """Layer -> module -> elements, of the implementation; empty where there is none."""
    import torch
    import transformers
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = config["model_type"]
    names = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind) or auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(
        kind
    )
    if names is None:
        return {}
    with torch.device("meta"):
        cls = getattr(transformers, names if isinstance(names, str) else names[0])
        model = cls(CONFIG_MAPPING[kind].from_dict(dict(config)))
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for name, parameter in model.named_parameters():
        module = name.removesuffix(".weight")
        inside = LAYER.match(module)
        if (
            inside
            and parameter.dim() > 1
            and not BESIDE.search(module)
            and (module in linear or NO_LINEAR.search(module))
        ):
            found[int(inside.group(1))][inside.group(2)] = parameter.numel()
    return found


def containers(modules: Mapping[str, int]) -> dict[str, int]:
    """Every module, and every container of modules, with its elements; experts by number are one."""
    sums: dict[str, int] = defaultdict(int)
    for name, size in modules.items():
        pieces = name.split(".")
        for n in range(1, len(pieces) + 1):
            sums[re.sub(r"experts\.\d+", "experts", ".".join(pieces[:n]))] += size
    return sums


def differences(spec: ModelSpec, theirs: Mapping[int, Mapping[str, int]]) -> Iterator[tuple[str, int, int]]:
    section = spec.config.get("text_config")
    kind = str(section.get("model_type") or spec.model_type) if isinstance(section, Mapping) else spec.model_type
    for index, modules in theirs.items():
        own = [weight for weight in spec.layers[index].weights if is_matrix(weight)]
        for name, size in containers(modules).items():
            named = matcher([f"model.layers.{index}.{name}"])
            held = sum(weight.parameters for weight in own if named.hits(weight, index, kind))
            if held != size:
                yield name, size, held


def main() -> int:
    """Prints the differences of each type, and how many types have none."""
    warnings.simplefilter("ignore")
    same = 0
    for kind in sys.argv[1:] or known_types():
        if not type_keys(kind).known:
            continue
        try:
            config = small(kind)
            spec, theirs = read_config(config), matrices(config)
        except KvplanError as error:
            print(f"{kind}: refused: {error}"[:120])
            continue
        except Exception as error:
            print(f"{kind}: transformers does not build its defaults: {error!r}"[:120])
            continue
        if spec.encoder or not theirs:
            continue
        found = sorted(set(differences(spec, theirs)))
        same += not found
        if found:
            print(f"{kind}: " + "; ".join(f"{name} {size:,} {held:,}" for name, size, held in found[:8]), flush=True)
    print(f"{same} types whose modules have the names and sizes of the implementation")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
