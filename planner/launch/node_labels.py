"""The device that a Kubernetes manifest asks its nodes for: labels of nodeSelector and of affinity."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from planner.launch.yaml_values import plain, walk

# The most exact first: NVIDIA's and AMD's device plugins, clouds by the card, machines by their type.
LABELS = (
    "nvidia.com/gpu.product", "amd.com/gpu.product-name", "cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name",
    "cloud.google.com/gke-tpu-accelerator", "gpu.nvidia.com/class", "gpu.nvidia.com/model",
    "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type",
)  # fmt: skip
# Names that a cloud gives a card which our catalogue has under another.
CLOUD_NAMES = {
    "nvidia-tesla-a100": "A100-SXM4-40GB", "nvidia-tesla-v100": "V100-SXM2-16GB", "nvidia-h100-mega-80gb": "H100-SXM5-80GB",
    "tpu-v6e-slice": "TPU-v6e", "tpu-v5-lite-podslice": "TPU-v5e", "tpu-v5-lite-device": "TPU-v5e", "tpu-v5p-slice": "TPU-v5p",
    "h100_nvlink_80gb": "H100-SXM5-80GB", "a100_nvlink_80gb": "A100-SXM4-80GB", "a100_nvlink": "A100-SXM4-40GB",
}  # fmt: skip


def node_device(document: Mapping[str, Any]) -> str:
    """Names the device or machine that the nodes of a manifest have; "" where it asks for none, or lets several do.

    >>> node_device({"spec": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A10G-SHARED"}}})
    'NVIDIA-A10G'
    >>> node_device({"nodeSelector": {"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}})
    'A100-SXM4-40GB'
    """
    wanted: dict[str, set[str]] = {}
    for name, value in _wanted(document):
        wanted.setdefault(name, set()).add(value)
    for label in LABELS:
        if len(values := wanted.get(label, set())) == 1:
            text = re.sub(r"-SHARED$", "", next(iter(values)))
            return CLOUD_NAMES.get(text.lower(), text)
    return ""


def _wanted(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(label, value) of every nodeSelector, and of every affinity that is required and says In."""
    for holder, value in walk(document, 0, [0]):
        if holder == "nodeSelector" and isinstance(value, Mapping):
            yield from ((str(name), plain(text)) for name, text in value.items() if isinstance(text, str))
        elif holder == "requiredDuringSchedulingIgnoredDuringExecution":
            yield from _expressions(value)


def _expressions(value: Any) -> Iterator[tuple[str, str]]:
    for holder, found in walk({"": value}, 0, [0]):
        for one in found if holder == "matchExpressions" and isinstance(found, list) else ():
            values = one.get("values") if isinstance(one, Mapping) and one.get("operator") == "In" else None
            for text in values if isinstance(values, list) else ():
                yield str(one.get("key")), plain(text)
