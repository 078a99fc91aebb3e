"""A pasted file -> its commands: script, compose file, Kubernetes manifest, llama-swap or vLLM config, Modelfile."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from planner.errors import BadConfig, BadRequest, one_line
from planner.launch.python_calls import python_commands
from planner.launch.words import MOST_CHARACTERS, Command, commands_of, substitute

MOST_NODES = 50_000
_MODELFILE = re.compile(r"^\s*FROM\s+\S+", re.IGNORECASE | re.MULTILINE)
_DOCKERFILE = re.compile(r"^\s*(RUN|COPY|ENTRYPOINT|CMD|WORKDIR)\s", re.MULTILINE)
_YAML_LINE = re.compile(r"^\s*(- )?[\w.\"'-]+\s*:(\s|$)", re.MULTILINE)


def commands_in(text: str) -> list[Command]:
    """The commands of a file, whatever its kind; the kind is seen from the text.

    Raises BadRequest for a text that is too long or holds nothing, BadConfig for YAML that cannot be read.

    >>> commands_in("services:\\n  a:\\n    image: vllm/vllm-openai\\n    command: --model m")[0].words
    ('docker', 'run', 'vllm/vllm-openai', '--model', 'm')
    """
    if len(text) > MOST_CHARACTERS:
        raise BadRequest(f"the text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    if not text.strip("\0 \t\r\n\ufeff"):
        raise BadRequest("the text is empty; paste a start command, a script, a compose file or a manifest")
    if re.search(r"\b(?:LLM|EngineArgs|Engine)\(", text) and (calls := python_commands(text)):
        return calls
    if (_DOCKERFILE.search(text) and _MODELFILE.search(text)) or re.match(r"\s*(?:ENTRYPOINT|CMD)\s*\[", text):
        return _dockerfile(text)
    if re.match(r"\s*\[\s*[\"']", text) and (listed := _listed(text)):
        return listed
    if _MODELFILE.search(text) and not text.lstrip().startswith(("{", "services", "apiVersion")):
        return [Command(("ollama", "run", "Modelfile", text), where="Modelfile")]
    if _looks_like_yaml(text):
        documents = _documents(text)
        found = [command for document in documents for command in _from_yaml(document)]
        if found:
            return found
        if any(isinstance(document, Mapping) for document in documents):
            raise BadRequest(
                "a YAML file with no service, container, model command or engine setting in it; known are compose "
                "files, Kubernetes manifests, llama-swap configs and vLLM's --config"
            )
    text = re.sub(r"^\s*ExecStart=-?", "", text, flags=re.MULTILINE)
    return commands_of(re.sub(r"^\[\w+\]\s*$|^(?!Environment=)[A-Z][A-Za-z]+=.*$", _not_ours, text, flags=re.MULTILINE))


def _listed(text: str) -> list[Command]:
    """A command as a JSON or YAML list of words, as in `command: [...]`."""
    documents = _documents(text)
    words = _words(documents[0]) if documents else []
    return [Command(tuple(words))] if words else []


def _not_ours(found: re.Match[str]) -> str:
    """Lines of a systemd unit that start nothing; a shell's own Name=value stays."""
    line = found.group(0)
    units = (
        "[",
        "Description=",
        "After=",
        "Wants=",
        "User=",
        "Group=",
        "Restart=",
        "Type=",
        "WantedBy=",
        "WorkingDirectory=",
    )
    return "" if line.startswith(units) or line.startswith(("RestartSec=", "Requires=", "StandardOutput=")) else line


def _looks_like_yaml(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "---"))]
    return (bool(lines) and bool(_YAML_LINE.match(lines[0]))) or text.lstrip().startswith("{")


class _Bounded(yaml.SafeLoader):
    """The safe loader that stops where anchors and merges make a small text large."""

    nodes = 0

    def flatten_mapping(self, node: Any) -> None:
        super().flatten_mapping(node)
        self._count(len(node.value))

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        self._count(1)
        return super().construct_object(node, deep=deep)

    def _count(self, more: int) -> None:
        self.nodes += more
        if self.nodes > MOST_NODES:
            raise BadConfig(f"the YAML has more than {MOST_NODES:,} values; give the part that starts the server")


def _documents(text: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, Loader=_Bounded))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise BadConfig(
            f"the file{line} is not YAML: {one_line(getattr(error, 'problem', None) or 'cut short', 80)}"
        ) from None
    except (
        ValueError,
        RecursionError,
        OverflowError,
        TypeError,
        AttributeError,
        LookupError,
    ) as error:  # a tag's value
        raise BadConfig(f"the file has a value that cannot be read: {one_line(str(error), 80)}") from None


def _from_yaml(document: Any) -> Iterator[Command]:
    if not isinstance(document, Mapping):
        return
    if isinstance(document.get("services"), Mapping):
        for name, service in document["services"].items():
            if isinstance(service, Mapping):
                yield from _compose_service(str(name), service)
    elif "kind" in document or "apiVersion" in document:
        yield from _kubernetes(document)
    elif isinstance(document.get("servingEngineSpec"), Mapping):
        yield from _production_stack(document["servingEngineSpec"])
    elif any(key == "model_loading_config" for key, _ in _walk(document, 0, [0])):
        yield from _ray_serve(document)
    elif isinstance(document.get("models"), Mapping):
        yield from _llama_swap(document)
    elif isinstance(document.get("image"), str) or isinstance(document.get("command", document.get("args")), list):
        # A container or a service on its own.
        yield from _container(document, "", "") if "args" in document else _compose_service("", document)
    elif any(key in document for key in ("model", "model_tag", "model-path", "model_path")):
        yield _config(document)


def _words(value: Any) -> list[str]:
    """A command as YAML writes it: a list, or a text that a shell splits."""
    if isinstance(value, list):
        return [_plain(word) for word in value if not isinstance(word, (list, Mapping))]
    if isinstance(value, str):
        try:
            return shlex.split(value.replace("\\\n", " "), comments=False)
        except ValueError:
            raise BadRequest("a quote in the file's command is never closed") from None
    return []


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _environment(value: Any) -> dict[str, str]:
    """A map, a list of NAME=value, or a list of {name, value}."""
    if isinstance(value, Mapping):
        return {str(name): _plain(text) for name, text in value.items()}
    found: dict[str, str] = {}
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping):
            if "value" in item and not isinstance(item["value"], (Mapping, list)):
                found[str(item.get("name"))] = _plain(item["value"])
        elif isinstance(item, str):
            name, equals, text = item.partition("=")
            if equals:
                found[name] = text
    return found


def _compose_service(name: str, service: Mapping[str, Any]) -> Iterator[Command]:
    env = _environment(service.get("environment"))
    words = [*_words(service.get("entrypoint")), *_words(service.get("command"))]
    image = _plain(service.get("image"))
    words = [substitute(word, env) for word in (["docker", "run", image, *words] if image else words)]
    if words:
        yield Command(tuple(words), env, where=name, gpus=_compose_gpus(service))


def _compose_gpus(service: Mapping[str, Any]) -> int | None:
    devices: Any = service.get("gpus")
    for key in ("deploy", "resources", "reservations", "devices"):
        if key == "deploy":
            inner: Any = service.get(key)
        else:
            inner = inner.get(key) if isinstance(inner, Mapping) else None
    for device in inner if isinstance(inner, list) else devices if isinstance(devices, list) else ():
        if isinstance(device, Mapping):
            if isinstance(device.get("device_ids"), list):
                return len(device["device_ids"])
            if isinstance(device.get("count"), int):
                return max(1, int(device["count"]))
    return None


def _kubernetes(document: Mapping[str, Any]) -> Iterator[Command]:
    kind, name = str(document.get("kind", "")), ""
    if isinstance(document.get("metadata"), Mapping):
        name = _plain(document["metadata"].get("name"))
    spec = document.get("spec")
    if kind == "Model" and isinstance(spec, Mapping) and spec.get("url"):  # KubeAI
        yield from _kserve({**spec, "storageUri": spec["url"]}, name)
        return
    for holder, value in _walk(document, 0, [0]):
        if holder in ("containers", "initContainers") and isinstance(value, list) and holder == "containers":
            for container in value:
                if isinstance(container, Mapping):
                    yield from _container(container, name, kind)
        elif holder == "model" and isinstance(value, Mapping) and ("modelFormat" in value or "storageUri" in value):
            yield from _kserve(value, name)


def _production_stack(spec: Mapping[str, Any]) -> Iterator[Command]:
    """The Helm values of vLLM's production-stack: a server for each model."""
    models = spec.get("modelSpec")
    for model in models if isinstance(models, list) else ():
        if not isinstance(model, Mapping):
            continue
        found = model.get("vllmConfig")
        settings = found if isinstance(found, Mapping) else {}
        flags = {re.sub(r"(?<=[a-z0-9])([A-Z])", r"-\1", str(key)).lower(): value for key, value in settings.items()}
        extra = _words(flags.pop("extra-args", None))
        tag = _plain(model.get("tag"))
        image = _plain(model.get("repository") or "vllm/vllm-openai") + (f":{tag}" if tag else "")
        words = _config({"model": model.get("modelURL"), **flags}).words[2:]
        gpus = model.get("requestGPU")
        yield Command(
            ("docker", "run", image, "vllm", "serve", *words, *extra),
            _environment(model.get("env")),
            where=_plain(model.get("name")),
            gpus=gpus if isinstance(gpus, int) and gpus > 0 else None,
        )


def _ray_serve(document: Mapping[str, Any]) -> Iterator[Command]:
    """Ray Serve's `llm_configs`: a model and vLLM's arguments."""
    for _, value in _walk({"": document}, 0, [0]):
        for one in value if isinstance(value, list) else [value]:
            loading = one.get("model_loading_config") if isinstance(one, Mapping) else None
            if not isinstance(loading, Mapping):
                continue
            model = loading.get("model_source") or loading.get("model_id")
            kwargs = one.get("engine_kwargs") if isinstance(one.get("engine_kwargs"), Mapping) else {}
            if isinstance(model, str):
                yield replace(_config({"model": model, **kwargs}), where=_plain(loading.get("model_id")))


def _walk(value: Any, depth: int, seen: list[int]) -> Iterator[tuple[str, Any]]:
    seen[0] += 1
    if depth > 40 or seen[0] > MOST_NODES:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key), inner
            yield from _walk(inner, depth + 1, seen)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, depth + 1, seen)


def _container(container: Mapping[str, Any], name: str, kind: str) -> Iterator[Command]:
    env = _environment(container.get("env"))
    words = [*_words(container.get("command")), *_words(container.get("args"))]
    image = _plain(container.get("image"))
    words = [substitute(word, env) for word in (["docker", "run", image, *words] if image else words)]
    label = "/".join(filter(None, (name, _plain(container.get("name")))))
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
    env = _environment(model.get("env"))
    words = [substitute(word, env) for word in [*_words(model.get("command")), *_words(model.get("args"))]]
    kept: list[str] = []
    model_id = _plain(model.get("storageUri")).removeprefix("hf://")
    for word in words:
        if word.startswith("--model_id="):
            model_id = word.partition("=")[2]
        elif not word.startswith(("--model_name", "--model_dir", "--backend")):
            kept.append(word)
    yield Command(("vllm", "serve", *([model_id] if model_id else []), *kept), env, where=name, gpus=_limits(model))


def _llama_swap(document: Mapping[str, Any]) -> Iterator[Command]:
    """The command of each model, its macros filled in."""
    shared = _macros(document.get("macros"))
    for name, model in document["models"].items():
        if not isinstance(model, Mapping) or not isinstance(model.get("cmd"), (str, list)):
            continue
        macros = {**shared, **_macros(model.get("macros")), "PORT": "8080", "MODEL_ID": str(name)}
        text = model["cmd"] if isinstance(model["cmd"], str) else shlex.join(_words(model["cmd"]))
        for _ in range(8):  # a macro may hold macros
            filled = substitute(text, macros)
            if filled == text or len(filled) > MOST_CHARACTERS // 8:
                break
            text = filled
        # The file's lines are one command, without marks of continuation.
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        env = _environment(model.get("env"))
        for command in commands_of(" ".join(line.rstrip().rstrip("\\") for line in lines)):
            yield Command(command.words, {**env, **command.env}, where=str(name))


def _macros(value: Any) -> dict[str, str]:
    return {str(name): _plain(text) for name, text in value.items()} if isinstance(value, Mapping) else {}


def _config(document: Mapping[str, Any]) -> Command:
    """vLLM's --config file (SGLang's is the same): keys are flags, true is a switch."""
    import json

    model = (
        document.get("model_tag") or document.get("model") or document.get("model-path") or document.get("model_path")
    )
    sglang = any(
        str(key).replace("_", "-") in ("model-path", "mem-fraction-static", "context-length") for key in document
    )
    words = ["sglang", "serve", "--model-path", _plain(model)] if sglang else ["vllm", "serve", _plain(model)]
    for key, value in document.items():
        name = "--" + str(key).replace("_", "-")
        if name in ("--model", "--model-tag", "--model-path"):
            continue
        if isinstance(value, bool):
            words += [name] if value else ([f"--no-{name[2:]}"] if not sglang else [])
        elif isinstance(value, Mapping):
            words += [name, json.dumps(value)]
        elif isinstance(value, list):
            words += [name, *map(_plain, value)]
        elif value is not None:
            words += [name, _plain(value)]
    return Command(tuple(words), where="config")


def _dockerfile(text: str) -> list[Command]:
    """FROM, ENV, ENTRYPOINT and CMD of an image's last stage."""
    import json

    env: dict[str, str] = {}
    parts: dict[str, list[str]] = {"FROM": [], "ENTRYPOINT": [], "CMD": []}
    for line in text.replace("\\\n", " ").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword == "ENV":
            env.update(_environment(shlex.split(rest)))
        elif keyword in parts:
            try:
                value = json.loads(rest) if rest.strip().startswith("[") else shlex.split(rest)
            except ValueError:
                value = rest.split()
            parts[keyword] = _words(value)
    image = ["docker", "run", parts["FROM"][0]] if parts["FROM"] else []
    words = [*image, *parts["ENTRYPOINT"], *parts["CMD"]]
    return [Command(tuple(substitute(word, env) for word in words), env, where="Dockerfile")]
