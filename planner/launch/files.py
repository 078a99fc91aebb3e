"""A pasted file -> its commands: script, compose file, Kubernetes manifest, llama-swap or vLLM config, Modelfile."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from planner.errors import BadConfig, BadRequest, one_line
from planner.launch import dynamo
from planner.launch.manifests import container_command, kubernetes, production_stack, ray_serve
from planner.launch.program import mounted
from planner.launch.python_calls import python_commands
from planner.launch.tabbyapi import config_command, is_config
from planner.launch.words import MOST_CHARACTERS, Command, commands_of, substitute
from planner.launch.yaml_values import MOST_NODES, environment, plain, settings_command, walk, words_of

_MODELFILE = re.compile(r"^\s*FROM\s+\S+", re.IGNORECASE | re.MULTILINE)
_DOCKERFILE = re.compile(r"^\s*(RUN|COPY|ENTRYPOINT|CMD|WORKDIR)\s", re.MULTILINE)
_YAML_LINE = re.compile(r"^\s*(- )?[\w.\"'-]+\s*:(\s|$)", re.MULTILINE)


def commands_in(text: str) -> list[Command]:
    """Finds the commands of a file, whatever its kind; the kind is seen from the text.

    Raises BadRequest for a text that is too long or holds nothing, BadConfig for YAML that cannot be read.

    >>> commands_in("services:\\n  a:\\n    image: vllm/vllm-openai\\n    command: --model m")[0].words
    ('docker', 'run', 'vllm/vllm-openai', '--model', 'm')
    """
    if len(text) > MOST_CHARACTERS:
        raise BadRequest(f"the text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    if not text.strip("\0 \t\r\n\ufeff"):
        raise BadRequest("the text is empty; paste a start command, a script, a compose file or a manifest")
    if re.search(r"\b(?:LLM|(?:Async)?EngineArgs|Engine|pipeline)\(", text) and (calls := python_commands(text)):
        return calls
    if (_DOCKERFILE.search(text) and _MODELFILE.search(text)) or re.match(r"\s*(?:ENTRYPOINT|CMD)\s*\[", text):
        return _dockerfile(text)
    if re.match(r"\s*\[\s*[\"']", text) and (listed := _listed(text)):
        return listed
    if found := [*_presets(text), *_asked_of_ollama(text), *_said_in_a_log(text)]:
        return found
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
                "files, Kubernetes manifests, llama-swap configs, vLLM's --config and TabbyAPI's config.yml"
            )
    if re.search(r"\bOLLAMA_\w+=", text) and not re.search(r"\bollama(?:\.exe)?\s", text):
        text += "\nollama serve"  # variables of its service alone
    text = re.sub(r"^\s*ExecStart=-?", "", text, flags=re.MULTILINE)
    return commands_of(re.sub(r"^\[\w+\]\s*$|^(?!Environment=)[A-Z][A-Za-z]+=.*$", _not_ours, text, flags=re.MULTILINE))


_SECTION = re.compile(r"^\[([^\]\n]+)\]\s*$", re.MULTILINE)
_OLLAMA_ASKED = re.compile(r"^\s*curl\b.*?/api/(?:generate|chat)\b.*?(\{.*\})", re.DOTALL)


def _presets(text: str) -> list[Command]:
    """The models of llama-server's --models-preset: sections of an INI file, whose keys are flags; [*] is for all."""
    if not _SECTION.match(text.lstrip().partition("\n")[0]) or re.search(r"^\[(?:Unit|Service|Install)\]", text, re.M):
        return []
    sections: dict[str, list[str]] = {}
    words: list[str] = []
    for line in text.splitlines():
        if found := _SECTION.match(line.strip()):
            words = sections.setdefault(found.group(1), [])
        elif line.strip() and line.strip()[0] not in "#;" and "=" in line:
            key, _, value = (part.strip() for part in line.partition("="))
            flag = f"-{key}" if len(key) <= 3 or key in ("hff", "ngld", "cmoe", "ncmoe") else f"--{key}"
            off = value.lower() in ("false", "off", "0") and not re.search(r"attn|fa$|ctx|size|layers|ngl", key)
            if not off:
                words += [flag] if value.lower() == "true" else [flag, value]
    shared = sections.pop("*", [])
    return [Command(("llama-server", *shared, *words), where=name) for name, words in sections.items() if words]


def _asked_of_ollama(text: str) -> list[Command]:
    """A request to ollama's own API, whose options are a Modelfile's parameters: the body alone, or curl with it."""
    body = found.group(1) if (found := _OLLAMA_ASKED.match(text)) else text.strip()
    if not (body.startswith("{") and '"options"' in body):
        return []
    documents = _documents(body)
    asked = documents[0] if documents else None
    if not isinstance(asked, Mapping) or not isinstance(asked.get("options"), Mapping) or not asked.get("model"):
        return []
    lines = [
        f"FROM {plain(asked['model'])}",
        *(f"PARAMETER {key} {plain(one)}" for key, one in asked["options"].items()),
    ]
    return [Command(("ollama", "run", "Modelfile", "\n".join(lines)), where="request")]


def _said_in_a_log(text: str) -> list[Command]:
    """The flags that vLLM's log repeats: `non-default args: {'model': ..., 'max_model_len': ...}`."""
    import ast

    found = re.search(r"non-default args: (\{.*\})\s*$", text, re.MULTILINE)
    if found is None or len(found.group(1)) > MOST_CHARACTERS // 8:
        return []
    try:
        given = ast.literal_eval(found.group(1))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    if not isinstance(given, dict) or not isinstance(given.get("model", given.get("model_tag")), str):
        return []
    return [settings_command({str(key): value for key, value in given.items()})]


def _listed(text: str) -> list[Command]:
    """A command as a JSON or YAML list of words, as in `command: [...]`."""
    documents = _documents(text)
    words = words_of(documents[0]) if documents else []
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
        yield from kubernetes(document)
    elif isinstance(document.get("servingEngineSpec"), Mapping):
        yield from production_stack(document["servingEngineSpec"])
    elif isinstance(document.get("modelSpec"), list):
        yield from production_stack(document)
    elif any(key == "model_loading_config" for key, _ in walk(document, 0, [0])):
        yield from ray_serve(document)
    elif dynamo.is_service_file(document):
        yield from dynamo.workers(document)
    elif is_config(document):
        yield config_command(document)
    elif isinstance(document.get("models"), Mapping):
        yield from _llama_swap(document)
    elif isinstance(document.get("image"), str) or isinstance(document.get("command", document.get("args")), list):
        # A container or a service on its own.
        yield from container_command(document, "", "") if "args" in document else _compose_service("", document)
    elif any(key in document for key in ("model", "model_tag", "model-path", "model_path")):
        yield settings_command(document)


def _compose_service(name: str, service: Mapping[str, Any]) -> Iterator[Command]:
    env = environment(service.get("environment"))
    volumes = service.get("volumes")
    mounts = {
        inside: outside
        for one in (volumes if isinstance(volumes, list) else ())
        if isinstance(one, str)
        for inside, outside in mounted(one).items()
    }
    words = [*words_of(service.get("entrypoint")), *words_of(service.get("command"))]
    words = [mounts.get(word.rstrip("/"), word) for word in words]
    image = plain(service.get("image"))
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


def _llama_swap(document: Mapping[str, Any]) -> Iterator[Command]:
    """The command of each model, its macros filled in."""
    shared = _macros(document.get("macros"))
    for name, model in document["models"].items():
        if not isinstance(model, Mapping) or not isinstance(model.get("cmd"), (str, list)):
            continue
        macros = {**shared, **_macros(model.get("macros")), "PORT": "8080", "MODEL_ID": str(name)}
        text = model["cmd"] if isinstance(model["cmd"], str) else shlex.join(words_of(model["cmd"]))
        for _ in range(8):  # a macro may hold macros
            filled = substitute(text, macros)
            if filled == text or len(filled) > MOST_CHARACTERS // 8:
                break
            text = filled
        # The file's lines are one command, without marks of continuation.
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        env = environment(model.get("env"))
        for command in commands_of(" ".join(line.rstrip().rstrip("\\") for line in lines)):
            yield Command(command.words, {**env, **command.env}, where=str(name))


def _macros(value: Any) -> dict[str, str]:
    return {str(name): plain(text) for name, text in value.items()} if isinstance(value, Mapping) else {}


def _dockerfile(text: str) -> list[Command]:
    """FROM, ENV, ENTRYPOINT and CMD of an image's last stage."""
    import json

    env: dict[str, str] = {}
    parts: dict[str, list[str]] = {"FROM": [], "ENTRYPOINT": [], "CMD": []}
    for line in text.replace("\\\n", " ").splitlines():
        keyword, _, rest = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword == "ENV":
            env.update(environment(shlex.split(rest)))
        elif keyword in parts:
            try:
                value = json.loads(rest) if rest.strip().startswith("[") else shlex.split(rest)
            except ValueError:
                value = rest.split()
            parts[keyword] = words_of(value)
    image = ["docker", "run", parts["FROM"][0]] if parts["FROM"] else []
    words = [*image, *parts["ENTRYPOINT"], *parts["CMD"]]
    return [Command(tuple(substitute(word, env) for word in words), env, where="Dockerfile")]
