"""The device of a manifest's node labels, and Dynamo's files."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import BadRequest
from planner.launch.node_labels import CLOUD_NAMES, node_device
from planner.launch.read import one_question, questions_in
from planner.lookup import machine
from planner.options.check import check_asked

NOTHING: dict[str, Any] = dict.fromkeys(
    ("gpu", "memory", "model", "seq", "engine", "backend", "service", "json", "output")
)
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: llm}
spec:
  template:
    spec:
      %s
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.20.0
        args: ["--model", "Qwen/Qwen3-8B"]
"""


@pytest.mark.parametrize(
    ("where", "count", "device"),
    [
        ("nodeSelector: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3}", 1, "H100-SXM5-80GB"),
        ("nodeSelector: {cloud.google.com/gke-accelerator: nvidia-l4}", 1, "L4"),
        ("nodeSelector: {node.kubernetes.io/instance-type: p5.48xlarge}", 8, "H100-SXM5-80GB"),
        ("nodeSelector: {cloud.google.com/gke-tpu-accelerator: tpu-v6e-slice}", 1, "TPU-v6e"),
        (
            "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: "
            "[{matchExpressions: [{key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-L40S]}]}]}}}",
            1,
            "L40S",
        ),
    ],
)
def test_a_manifest_names_its_device(where: str, count: int, device: str, tmp_path: Any) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text(DEPLOYMENT % where)
    asked = check_asked([str(path)], NOTHING)
    assert asked.device is not None and asked.device.name == device
    assert asked.devices == (count if count > 1 else None)
    assert any("node labels" in note for note in asked.question.notes)
    named = check_asked([str(path)], {**NOTHING, "gpu": "a10"})
    assert named.device is not None and named.device.name == "A10" and not named.question.notes


def test_two_products_or_a_wish_name_none() -> None:
    expressions = [{"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4", "NVIDIA-L40S"]}]
    terms = {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
    assert node_device({"affinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}) == ""
    del expressions[0]["values"][1]
    assert node_device({"affinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}) == ""
    assert node_device({"affinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}) == "NVIDIA-L4"
    expressions[0]["operator"] = "NotIn"
    assert node_device({"affinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}) == ""


@pytest.mark.parametrize("name", sorted(CLOUD_NAMES.values()))
def test_clouds_names_are_devices(name: str) -> None:
    assert machine(name).count == 1


def test_a_label_that_names_no_device_asks_back(tmp_path: Any) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text(DEPLOYMENT % "nodeSelector: {nvidia.com/gpu.product: NVIDIA-Z9}")
    asked = check_asked([str(path)], {**NOTHING, "gpu": "l4"})
    assert asked.device is not None and asked.device.name == "L4"


def test_dynamos_workers_are_servers_of_vllm() -> None:
    """ai-dynamo/dynamo issue 479: the settings of VllmWorker, the router's own keys left out."""
    text = """
Frontend: {port: 8000}
VllmWorker:
  model: Qwen/Qwen3-32B
  block-size: 64
  max-model-len: 32768
  remote-prefill: true
  tensor-parallel-size: 4
  router: kv
  ServiceArgs: {workers: 1, resources: {gpu: 4}}
"""
    asked = one_question(text)
    assert (asked.model, asked.tp, asked.seq_tokens, asked.devices) == ("Qwen/Qwen3-32B", 4, 32768, 4)
    assert not [flag for flag in asked.flags if flag.kind == "not known"]


def test_a_request_to_dynamo_has_no_layout_yet() -> None:
    """ai-dynamo/dynamo issue 10104."""
    text = "apiVersion: nvidia.com/v1beta1\nkind: DynamoGraphDeploymentRequest\nspec: {model: nvidia/Llama-3.1-70B-Instruct-FP8}\n"
    with pytest.raises(BadRequest, match="vllm serve nvidia"):
        questions_in(text)


def test_a_rack_is_as_many_devices() -> None:
    assert [machine(name).count for name in ("GB200 NVL72", "gb300-nvl72", "GB200 NVL4", "gb200")] == [72, 72, 4, 1]
