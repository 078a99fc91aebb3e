"""Which module declares a model type; modules load only when asked for."""

from __future__ import annotations

from planner.readers.model_types import Type

# The modules that declare types, those of most questions first.
MODULES = (
    "dense",
    "experts",
    "windowed_experts",
    "latent",
    "mamba",
    "hybrid",
    "streams",
    "encoder_decoder",
    "multimodal",
    "newest",
    "further",
    "text_alone",
    "deepseek_v41",
    "zaya",
    "inkling",
)


def find_type(model_type: str) -> Type | None:
    """Finds the declaration of `model_type`, None when there is none."""
    for module in MODULES:
        kind = _types(module).get(model_type)
        if kind is not None:
            return kind
    return None


def known_types() -> list[str]:
    """Lists the names of all model types that are declared."""
    return sorted(name for module in MODULES for name in _types(module))


def _types(module: str) -> dict[str, Type]:
    types: dict[str, Type] = __import__(f"planner.readers.families.{module}", fromlist=["TYPES"]).TYPES
    return types
