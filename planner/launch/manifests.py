"""Kubernetes manifests and the values of operators -> commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from planner.launch.dynamo import refuse_request
from planner.launch.node_labels import node_device
from planner.launch.words import Command, commands_of, substitute
from planner.launch.yaml_values import environment, plain, settings_command, walk, words_of


def kubernetes(document: Mapping[str, Any]) -> Iterator[Command]:
    """Finds the commands of a manifest's containers, of an operator's model, or of a script in a ConfigMap, each with the
    device that the manifest wants its nodes to have."""
    device = node_device(document)
    yield from (replace(command, device=device) for command in _commands(document))


def _commands(document: Mapping[str, Any]) -> Iterator[Command]:
    kind, name = str(document.get("kind", "")), ""
    if isinstance(document.get("metadata"), Mapping):
        name = plain(document["metadata"].get("name"))
    spec = document.get("spec")
    if kind == "Model" and isinstance(spec, Mapping) and spec.get("url"):  # KubeAI
        yield from _kserve({**spec, "storageUri": spec["url"]}, name)
        return
    if kind == "LLMInferenceService" and isinstance(spec, Mapping):
        yield from _llm_inference_service(spec, name)
        return
    if kind == "DynamoGraphDeploymentRequest":
        refuse_request(document)
    if kind == "ConfigMap":
        yield from _scripts(document, name)
        return
    for holder, value in walk(document, 0, [0]):
        if holder in ("containers", "initContainers") and isinstance(value, list) and holder == "containers":
            for container in value:
                if isinstance(container, Mapping):
                    yield from container_command(container, name, kind)
        elif holder == "model" and isinstance(value, Mapping) and ("modelFormat" in value or "storageUri" in value):
            yield from _kserve(value, name)


def _scripts(document: Mapping[str, Any], name: str) -> Iterator[Command]:
    """The commands of the scripts that a ConfigMap holds."""
    data = document.get("data")
    for key, text in data.items() if isinstance(data, Mapping) else ():
        if isinstance(text, str) and "\n" in text:
            for command in commands_of(text):
                yield replace(command, where=f"{name}/{key}" if name else str(key))


def _llm_inference_service(spec: Mapping[str, Any], name: str) -> Iterator[Command]:
    """KServe's LLMInferenceService: vLLM, its layout in `parallelism`, its flags in a variable."""
    model = spec.get("model")
    uri = plain(model.get("uri")) if isinstance(model, Mapping) else ""
    parallel = spec.get("parallelism")
    words = [uri.removeprefix("hf://")]
    for key, flag in (("tensor", "tensor"), ("pipeline", "pipeline"), ("data", "data")):
        if isinstance(parallel, Mapping) and isinstance(parallel.get(key), int):
            words += [f"--{flag}-parallel-size", str(parallel[key])]
    gpus: int | None = None
    env: dict[str, str] = {}
    for holder, value in walk(spec, 0, [0]):
        for container in value if holder == "containers" and isinstance(value, list) else ():
            if isinstance(container, Mapping):
                env = {**env, **environment(container.get("env"))}
                gpus = gpus or _limits(container)
                words += words_of(container.get("args"))
    words += words_of(env.pop("VLLM_ADDITIONAL_ARGS", ""))
    yield Command(("vllm", "serve", *words), env, where=name, gpus=gpus)


def production_stack(spec: Mapping[str, Any]) -> Iterator[Command]:
    """Reads the Helm values of vLLM's production-stack: a server for each model."""
    models = spec.get("modelSpec")
    for model in models if isinstance(models, list) else ():
        if not isinstance(model, Mapping):
            continue
        found = model.get("vllmConfig")
        settings = found if isinstance(found, Mapping) else {}
        flags = {re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", str(key)).lower(): value for key, value in settings.items()}
        extra = words_of(flags.pop("extra-args", None))
        tag = plain(model.get("tag"))
        image = plain(model.get("repository") or "vllm/vllm-openai") + (f":{tag}" if tag else "")
        words = settings_command({"model": model.get("modelURL"), **flags}).words[2:]
        gpus = model.get("requestGPU")
        yield Command(
            ("docker", "run", image, "vllm", "serve", *words, *extra),
            environment(model.get("env")),
            where=plain(model.get("name")),
            gpus=gpus if isinstance(gpus, int) and gpus > 0 else None,
        )


def ray_serve(document: Mapping[str, Any]) -> Iterator[Command]:
    """Reads Ray Serve's `llm_configs`: a model and vLLM's arguments."""
    for _, value in walk({"": document}, 0, [0]):
        for one in value if isinstance(value, list) else [value]:
            loading = one.get("model_loading_config") if isinstance(one, Mapping) else None
            if not isinstance(loading, Mapping):
                continue
            model = loading.get("model_source") or loading.get("model_id")
            kwargs = one.get("engine_kwargs") if isinstance(one.get("engine_kwargs"), Mapping) else {}
            if isinstance(model, str):
                yield replace(settings_command({"model": model, **kwargs}), where=plain(loading.get("model_id")))


def container_command(container: Mapping[str, Any], name: str, kind: str) -> Iterator[Command]:
    """Reads the command of one container, with its image, environment and device limits; nothing where it has none."""
    env = environment(container.get("env"))
    words = [*words_of(container.get("command")), *words_of(container.get("args"))]
    image = plain(container.get("image"))
    if stored := env.get("STORAGE_URI", "").removeprefix("hf://"):  # KServe mounts it there
        words = [stored if word.rstrip("/") == "/mnt/models" else word for word in words]
    words = [substitute(word, env) for word in (["docker", "run", image, *words] if image else words)]
    label = "/".join(filter(None, (name, plain(container.get("name")))))
    notes = ("a LeaderWorkerSet: one replica runs on several machines",) if kind == "LeaderWorkerSet" else ()
    if words:
        yield Command(tuple(words), env, where=label, gpus=_limits(container), notes=notes)


def _limits(container: Mapping[str, Any]) -> int | None:
    resources = container.get("resources")
    for key in ("limits", "requests"):
        part = resources.get(key) if isinstance(resources, Mapping) else None
        for name, count in part.items() if isinstance(part, Mapping) else ():
            if re.search(r"/(gpu|mig-|tpu)", str(name)) and str(count).isdigit() and len(str(count)) < 6:
                return int(count)
    return None


def _kserve(model: Mapping[str, Any], name: str) -> Iterator[Command]:
    """KServe's own model block: its huggingface runtime is vLLM."""
    env = environment(model.get("env"))
    words = [substitute(word, env) for word in [*words_of(model.get("command")), *words_of(model.get("args"))]]
    kept: list[str] = []
    model_id = plain(model.get("storageUri")).removeprefix("hf://")
    for word in words:
        if word.startswith("--model_id="):
            model_id = word.partition("=")[2]
        elif not word.startswith(("--model_name", "--model_dir", "--backend")):
            kept.append(word)
    yield Command(("vllm", "serve", *([model_id] if model_id else []), *kept), env, where=name, gpus=_limits(model))
