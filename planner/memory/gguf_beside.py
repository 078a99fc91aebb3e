"""How far a published GGUF file may lie from the count of its weights, where only its name is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.memory.weight_formats import WeightPlan
from planner.model.parameters import all_weights
from planner.model.spec import ModelSpec
from planner.model.weights import Weight
from planner.units import human_bytes

# Drafting layers take up to a fifth more than in the file's type: some publishers keep their projection in 16 bit
# (bartowski's Qwen3.5-9B in Q8_0: 277 MB of them, 235 counted).
MORE = 1.2


def as_published(spec: ModelSpec, plan: WeightPlan) -> WeightPlan:
    """Returns the plan with the range of such files: what their publisher chooses by hand, and what some hold beside.

    Multi-token-prediction layers are in some files and not in others: in Unsloth's and lmstudio-community's Qwen3.8-27B,
    not in ggml-org's. Where there is a range, the weights are an estimate, whatever their type.
    """
    below, above = spec.read_as.spread if spec.read_as is not None else (0.0, 0.0)
    whole = plan.total(all_weights(spec))
    beside = round(MORE * (sum(_bytes(weight, plan) for weight in spec.mtp) or _drafting(spec, plan)))
    exactness = "estimated" if plan.exactness == "exact" and (beside or below or above) else plan.exactness
    words = plan.words
    if beside:
        words += f"; some files also hold the drafting layers: up to {human_bytes(beside)} more"
    above += beside / whole if whole else 0.0
    return replace(plan, spread=(below, above), exactness=exactness, words=words)


def _bytes(weight: Weight, plan: WeightPlan) -> int:
    """Bytes of a weight that no layer of the plan has: a matrix in the file's type, a vector in fp32."""
    if weight.cols == 1:
        return 4 * weight.parameters
    return plan.fmt.matrix_bytes(weight.rows, weight.cols) * weight.count


def _drafting(spec: ModelSpec, plan: WeightPlan) -> int:
    """About the bytes of drafting layers that the config counts and no reader builds: each a last layer, two widths into one, a norm.

    count · (bytes(last layer) + 2 · hidden² at the plan's mean bits)
    """
    section = spec.config.get("text_config")
    count = (section if isinstance(section, Mapping) else spec.config).get("num_nextn_predict_layers")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= len(spec.layers):
        return 0
    layer = plan.total((weight, 1) for weight in spec.layers[-1].weights)
    return count * (layer + plan.fmt.matrix_bytes(spec.hidden, 2 * spec.hidden))
