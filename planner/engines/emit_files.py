"""A start command as a file that starts it: a compose file, or a Kubernetes Deployment with its Service."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from planner.errors import UsageError

# engine -> (image without its tag, tag without a version, port)
_IMAGES = {
    "vllm": ("vllm/vllm-openai", "latest", 8000),
    "sglang": ("lmsysorg/sglang", "latest", 30000),
    "llamacpp": ("ghcr.io/ggml-org/llama.cpp", "server-cuda", 8080),
    "ollama": ("ollama/ollama", "latest", 11434),
    "tensorrt-llm": ("nvcr.io/nvidia/tensorrt-llm/release", "latest", 8000),
    "lmdeploy": ("openmmlab/lmdeploy", "latest", 23333),
}
FORMATS = ("command", "compose", "k8s")


def start_file(
    command: str, engine: str, version: str | None, devices: int, form: str
) -> str:  # parameters: what stands in the file
    """Writes a file that starts `command` on so many devices.

    command   as `planner.engines.emit.command` writes it
    form      compose or k8s

    Raises UsageError for another form, and for an engine that has no public image.

    >>> print(start_file("vllm serve org/m --max-model-len 4096", "vllm", "0.11.2", 2, "compose").splitlines()[2])
        image: vllm/vllm-openai:v0.11.2
    """
    if form not in FORMATS[1:]:
        raise UsageError(f"--emit {form!r} is not known; write {', '.join(FORMATS)}")
    if engine not in _IMAGES:
        raise UsageError(f"--emit {form}: no public image of {engine} is known; use --emit alone for its command")
    import yaml

    image, env, words = _container(command, engine, version)
    port = _IMAGES[engine][2]
    if form == "compose":
        document: Any = _compose(image, env, words, port, devices, engine)
        return yaml.safe_dump(document, sort_keys=False, width=1000)
    documents = _kubernetes(image, env, words, port, devices, engine)
    return yaml.safe_dump_all(documents, sort_keys=False, width=1000)


def _container(command: str, engine: str, version: str | None) -> tuple[str, dict[str, str], list[str]]:
    """(image, variables, the words that the image is given)."""
    words = shlex.split(command)
    env: dict[str, str] = {}
    if words[:1] == ["env"]:
        words = words[1:]
    while words and re.match(r"[A-Z_0-9]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    if engine == "vllm":
        words = ["--model", *words[2:]]
    elif engine == "llamacpp":
        words = words[1:]
        place = words.index("--model") + 1
        words[place] = f"/models/{words[place]}"
        words += ["--host", "0.0.0.0"]
    elif engine == "sglang":
        words = ["python3", *words[1:], "--host", "0.0.0.0"]
    elif engine == "ollama":
        words = ["serve"]
    elif engine == "tensorrt-llm":
        words += ["--host", "0.0.0.0"]
    return f"{_IMAGES[engine][0]}:{_tag(engine, version)}", env, words


def _tag(engine: str, version: str | None) -> str:
    """The image's tag for a released version; the newest where none is named."""
    plain = _IMAGES[engine][1]
    if not version:
        return plain
    if engine == "llamacpp":
        return f"{plain}-{version}" if re.fullmatch(r"b[0-9]+", version) else plain
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+(\.post[0-9]+)?", version):
        return plain
    return version if engine in ("ollama", "tensorrt-llm") else f"v{version}"


def _compose(  # parameters: what stands in the file
    image: str, env: Mapping[str, str], words: Sequence[str], port: int, devices: int, engine: str
) -> dict[str, Any]:
    service: dict[str, Any] = {"image": image, "command": list(words), "ports": [f"{port}:{port}"]}
    service["environment"] = dict(env) if engine in ("ollama", "llamacpp") else {**env, "HF_TOKEN": "${HF_TOKEN:-}"}
    service["volumes"] = [f"{_volume(engine)[0]}:{_volume(engine)[1]}"]
    service["ipc"] = "host"
    wanted = {"driver": "nvidia", "count": devices, "capabilities": ["gpu"]}
    service["deploy"] = {"resources": {"reservations": {"devices": [wanted]}}}
    if not service["environment"]:
        del service["environment"]
    return {"services": {engine: service}}


def _volume(engine: str) -> tuple[str, str]:
    """(on the host, in the container)."""
    if engine == "llamacpp":
        return "./models", "/models"
    if engine == "ollama":
        return "./ollama", "/root/.ollama"
    return "~/.cache/huggingface", "/root/.cache/huggingface"


def _kubernetes(  # parameters: what stands in the file
    image: str, env: Mapping[str, str], words: Sequence[str], port: int, devices: int, engine: str
) -> list[dict[str, Any]]:
    labels = {"app": f"kvplan-{engine}"}
    variables: list[dict[str, Any]] = [{"name": name, "value": text} for name, text in env.items()]
    if engine not in ("ollama", "llamacpp"):
        secret = {"name": "hf-token", "key": "token", "optional": True}
        variables.append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}})
    container: dict[str, Any] = {
        "name": engine,
        "image": image,
        "args": list(words),
        "env": variables,
        "ports": [{"containerPort": port}],
        "resources": {"limits": {"nvidia.com/gpu": str(devices)}},
        "volumeMounts": [{"name": "models", "mountPath": _volume(engine)[1]}, {"name": "shm", "mountPath": "/dev/shm"}],
    }
    volumes = [
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes}}
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"kvplan-{engine}"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": f"kvplan-{engine}"},
        "spec": {"selector": labels, "ports": [{"port": port, "targetPort": port}]},
    }  # fmt: skip
    return [deployment, service]
