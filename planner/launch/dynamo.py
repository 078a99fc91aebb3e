"""NVIDIA Dynamo's files: a worker's settings in a service file are vLLM's; a deployment request leaves them to its profiler."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from planner.errors import BadRequest
from planner.launch.secrets import shown
from planner.launch.words import Command
from planner.launch.yaml_values import plain, settings_command

# Dynamo's own keys of a worker, which are no flags of the engine.
_OWN = ("router", "remote-prefill", "conditional-disagg", "max-local-prefill-length", "max-prefill-queue-size",
        "ServiceArgs", "common-configs", "min-workers", "endpoint", "block-size-router")  # fmt: skip


def refuse_request(document: Mapping[str, Any]) -> None:
    """Raises BadRequest for a DynamoGraphDeploymentRequest: it names a model and devices, and no layout yet."""
    spec = document.get("spec")
    model = plain(spec.get("model")) if isinstance(spec, Mapping) else ""
    named = shown(model, 60) if model else "MODEL"
    raise BadRequest(
        "a DynamoGraphDeploymentRequest leaves tensor parallelism and lengths to Dynamo's profiler: paste the "
        f"DynamoGraphDeployment that it makes, or ask kvplan check -- vllm serve {named} -tp N --max-model-len N"
    )


def is_service_file(document: Mapping[str, Any]) -> bool:
    """Tells whether a file names Dynamo's services: `VllmWorker`, `PrefillWorker`, beside a Frontend or a Processor."""
    return any(_is_worker(name, value) for name, value in document.items()) and any(
        name in document for name in ("Frontend", "Processor", "Common")
    )


def workers(document: Mapping[str, Any]) -> Iterator[Command]:
    """Reads the workers of a service file, each a vLLM server with the settings of `Common` beneath its own."""
    common = document.get("Common")
    for name, value in document.items():
        if not _is_worker(name, value):
            continue
        settings = {**(common if isinstance(common, Mapping) else {}), **value}
        kept = {key: one for key, one in settings.items() if key not in _OWN}
        yield replace(settings_command(kept), where=str(name), gpus=_gpus(value))


def _is_worker(name: Any, value: Any) -> bool:
    return isinstance(value, Mapping) and str(name).endswith("Worker")


def _gpus(worker: Mapping[str, Any]) -> int | None:
    arguments = worker.get("ServiceArgs")
    resources = arguments.get("resources") if isinstance(arguments, Mapping) else None
    count = plain(resources.get("gpu")) if isinstance(resources, Mapping) else ""
    return int(count) if count.isdigit() and int(count[:6]) > 0 else None
