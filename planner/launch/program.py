"""Which server a command starts, under which wrapper: sudo, env, uv run, docker run, bash -c."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.errors import BadRequest, UnknownName
from planner.launch.secrets import shown
from planner.launch.words import Command, commands_of

_MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.api_server": "vllm",
    "vllm.entrypoints.cli.main": "vllm",
    "sglang.launch_server": "sglang",
    "llama_cpp.server": "llama-cpp-python",
    "mlx_lm.server": "mlx",
    "tabbyapi": "exllamav3",
    "mlx_lm": "mlx",
    "mlx_lm.generate": "mlx",
    "mlx_lm.chat": "mlx",
    "mlx_vlm.server": "mlx-vlm",
    "dynamo.vllm": "vllm",
    "dynamo.sglang": "sglang",
    "sglang_router.launch_server": "sglang",
    "lmdeploy.serve.openai.api_server": "lmdeploy",
}
_LLAMA = {
    "llama-server",
    "llama-cli",
    "llama-bench",
    "llama-mtmd-cli",
    "llama-run",
    "llama-completion",
    "server",
    "main",
}
# What a user starts that is no engine of kvplan -> what to do
REFUSED = {
    "text-generation-launcher": "text-generation-launcher (TGI) is not an engine that kvplan knows, and is no longer developed",
    "mlx-vlm": "mlx-vlm is not modelled; ask kvplan estimate MODEL --engine mlx --gpu m3-max --seq 8k",
    "llama-cpp-python": "llama_cpp.server has flags of its own; give the llama-server command: --n_ctx is -c, --n_gpu_layers is -ngl",
    "lms": "of lms, `lms load MODEL` is read; ask kvplan estimate MODEL --engine lmstudio --ctx-size 32k --gpu NAME",
    "aphrodite": "Aphrodite is a fork of vLLM that kvplan does not know; give the `vllm serve` command of the same flags",
    "llamafile": "llamafile is no engine that kvplan knows; it runs llama.cpp: give the llama-server command, its flags are the same",
    "ramalama": "ramalama starts llama.cpp or vLLM; give their command: ramalama --dryrun serve ... prints it",
    "mistralrs": "mistral.rs is not an engine that kvplan knows; kvplan estimate MODEL answers memory alone",
    "mistralrs-server": "mistral.rs is not an engine that kvplan knows; kvplan estimate MODEL answers memory alone",
    "ktransformers": "KTransformers is not an engine that kvplan knows; kvplan check reads the llama-server command of such a split",
    "text-generation-webui": "text-generation-webui loads with llama.cpp or ExLlama and is no engine that kvplan knows: kvplan estimate MODEL --engine llamacpp or --engine exllamav3",
    "vllm-mlx": "vllm-mlx is no engine that kvplan knows; kvplan estimate MODEL --engine mlx answers for MLX's memory",
    "docker model": "Docker Model Runner runs llama.cpp: give the llama-server command, llama-server -dr MODEL -c N",
    "llama-swap": "llama-swap's models stand in its config: kvplan check config.yaml --service NAME",
    "vllm bench": "`vllm bench` measures a server; give the `vllm serve` command",
}
_IMAGES = (
    (r"vllm", "vllm", ("vllm", "serve")),
    (r"text-generation-inference", "tgi", ("text-generation-launcher",)),
    (r"llama\.?cpp", "llamacpp", ("llama-server",)),
    (r"(^|/)ollama", "ollama", ("ollama", "serve")),
    (r"koboldcpp", "koboldcpp", ("koboldcpp",)),
    (r"tabbyapi", "tabbyapi", ("tabbyapi",)),
    (r"sglang", "sglang", ()),
    (r"tensorrt-?llm", "trtllm", ()),
    (r"lmdeploy", "lmdeploy", ()),
)
# Options of `docker run` that take a value, and how a value follows
_DOCKER_SWITCHES = frozenset("-d --detach -i --interactive -t --tty -it -ti -dit -itd --rm --init --privileged -P --publish-all --read-only --no-healthcheck --oom-kill-disable --sig-proxy --tls --quiet -q --disable-content-trust".split())  # fmt: skip


@dataclass(frozen=True)
class Program:
    """What starts, and with which words.

    name     vllm, sglang, llamacpp, llama-bench, koboldcpp, ollama, tensorrt-llm, lmdeploy, exllamav3 (TabbyAPI)
    said     how it was started, for people: `vllm serve`, `docker run vllm/vllm-openai`
    """

    name: str
    said: str
    words: tuple[str, ...]
    env: Mapping[str, str]
    version: str | None = None
    gpus: int | None = None
    where: str = ""
    notes: tuple[str, ...] = ()
    # What stood before the words, the program itself last; what stood before that.
    wrapper: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    offline: bool = False
    device: str = ""


def program_of(command: Command) -> Program | None:
    """Finds the server that a command starts; None where it starts none.

    Raises UnknownName for a server that is no engine of kvplan.

    >>> found = program_of(Command(("sudo", "docker", "run", "-e", "A=1", "vllm/vllm-openai:v0.11.2", "--model", "m")))
    >>> found.name, found.version, found.words, dict(found.env)
    ('vllm', '0.11.2', ('--model', 'm'), {'A': '1'})
    """
    env, words = dict(command.env), list(command.words)
    place = _docker_at(words)
    inner = _inner_shell(words) if place is None else None
    if inner is not None:
        for one in commands_of(inner):
            outer = replace(command, words=one.words, env={**env, **one.env}, notes=one.notes)
            found = program_of(outer)
            if found is not None:
                return _after(words[: words.index(inner)], found)
        return None
    gpus, version, image, notes = command.gpus, None, "", command.notes
    outside = [] if place is None else words[: place - 1]
    if place is not None:
        image, rest, gpus_given = _docker(words[place + 1 :], env)
        gpus = gpus_given if gpus is None else gpus
        version = _image_version(image)
        inner = _inner_shell(rest)
        if inner is not None:
            found = program_of(Command(("sh", "-c", inner), env, command.where, gpus, device=command.device))
            return None if found is None else _in_image(_after(outside, found), image, version, notes=notes)
        words = list(_image_words(image, " ".join(rest[:6])))
        words += rest[1:] if words[:1] == ["llama-server"] and rest[:1] in (["--server"], ["-s"]) else rest
    found = _plain_program(words, env)
    if found is None:
        found = _by_flags(words, env) if words and words[0].startswith("-") else None
    if found is None:
        return None
    return replace(
        _in_image(_after(outside, found), image, version, notes=notes),
        gpus=gpus,
        where=command.where,
        offline=command.offline,
        device=command.device,
    )


def _after(before: Sequence[str], found: Program) -> Program:
    return replace(found, before=(*before, *found.before))


def _in_image(found: Program, image: str, version: str | None, *, notes: tuple[str, ...]) -> Program:
    """The program with the version that its image names."""
    if version and found.name in ("vllm", "sglang") and int(version.partition(".")[0].lstrip("b") or 0) >= 1:
        notes = (*notes, f"{version} is the image's own version, not {found.said}'s: the newest that was read is taken")
        version = None
    said = f"{found.said} in {shown(image, 60)}" if image else found.said
    return replace(found, said=said, version=found.version or version, notes=(*found.notes, *notes))


def _by_flags(words: Sequence[str], env: Mapping[str, str]) -> Program | None:
    """Flags alone, as a compose file with an image of one's own has them: the server that knows most of them."""
    from planner.launch import llamacpp, lmdeploy, sglang, trtllm, vllm

    names = [word.partition("=")[0].partition(".")[0] for word in words if word.startswith("-")]
    tables = (vllm.TABLE, sglang.TABLE, llamacpp.TABLE, trtllm.TABLE, lmdeploy.TABLE)
    known = [sum(table.find(name)[0] is not None for name in names) for table in tables]
    best = max(range(len(tables)), key=lambda place: known[place])
    if known[best] * 2 <= len(names) or known.count(known[best]) > 1:
        return None
    said = {"vllm": "vllm serve", "sglang": "sglang serve", "llamacpp": "llama-server"}.get(
        tables[best].engine, tables[best].engine
    )
    notes = (f"no server is named: the flags are those of {said}",)
    return Program(tables[best].engine, said, tuple(words), dict(env), notes=notes)


def _plain_program(words: Sequence[str], env: Mapping[str, str]) -> Program | None:
    own = dict(env)
    for place, word in enumerate(words[:200]):
        if re.match(r"[A-Za-z_]\w*=(?!=)", word):
            name, _, value = word.partition("=")
            own[name] = value
            continue
        found = _named(word, words[place + 1 :])
        if found is None:
            continue
        name, said, rest = found
        if name in REFUSED:
            raise UnknownName(_with_its_model(REFUSED[name], rest) + _tgi_hint(name))
        version = None if name != "vllm" else _pinned(words[: place + 1])
        return Program(
            name, said, tuple(rest), own, version, wrapper=tuple(words[: place + 1]), before=tuple(words[:place])
        )
    return None


# long: a branch a program
def _named(word: str, rest: Sequence[str]) -> tuple[str, str, Sequence[str]] | None:
    """(program, how it is said, its words) where `word` starts one."""
    base = re.split(r"[/\\]", word)[-1].lower().removesuffix(".exe")
    if word in ("-m", "--module") and rest and rest[0] in _MODULES:
        rest_after = rest[1:]
        if rest[0] == "vllm.entrypoints.cli.main" and rest_after[:1] == ["serve"]:
            rest_after = rest_after[1:]
        return _MODULES[rest[0]], f"python -m {rest[0]}", rest_after
    if word.startswith("-m") and word[2:] in _MODULES:
        return _MODULES[word[2:]], f"python -m {word[2:]}", rest
    if re.fullmatch(r"vllm(\[[^\]]*\])?(==|@)v?[0-9][\w.]*", base):
        base = "vllm"  # uvx vllm==0.11.0 serve MODEL
    if base == "vllm" and rest[:1] and rest[0] in ("serve", "bench"):
        return ("vllm", "vllm serve", rest[1:]) if rest[0] == "serve" else ("vllm bench", "", rest)
    if base == "sglang" and rest[:1] and rest[0] == "serve":
        return "sglang", "sglang serve", rest[1:]
    if base in ("llama", "llama.cpp") and rest[:1] and rest[0] in ("serve", "server", "cli", "bench"):
        base, rest = {"serve": "llama-server", "server": "llama-server"}.get(rest[0], "llama-" + rest[0]), rest[1:]
    if base in _LLAMA and (
        base not in ("server", "main") or any(one in rest for one in ("-m", "--model", "-hf", "-ngl"))
    ):
        name = "llama-bench" if base == "llama-bench" else "llamacpp"
        return name, {"server": "llama-server", "main": "llama-cli"}.get(base, base), rest
    if base in ("docker", "docker.exe") and rest[:2] in (["model", "run"], ("model", "run")):
        return "docker model", "", ["--model", *[one for one in rest[2:] if not one.startswith("-")][:1]]
    if base == "server.py" and any(one.startswith("--loader") for one in rest):
        return "text-generation-webui", "", rest
    if base == "ollama" and rest[:1] and rest[0] in ("run", "serve", "start", "create"):
        return "ollama", f"ollama {rest[0]}", rest
    if base == "trtllm-serve":
        return "tensorrt-llm", "trtllm-serve", rest[1:] if rest[:1] and rest[0] == "serve" else rest
    if base == "lmdeploy" and rest[:1] and rest[0] in ("serve", "chat"):
        after = rest[2:] if rest[0] == "serve" and rest[1:2] and rest[1] == "api_server" else rest[1:]
        return "lmdeploy", "lmdeploy serve api_server", after
    if base in ("mlx_lm.server", "mlx_lm.generate", "mlx_lm.chat", "mlx_lm"):
        known = base == "mlx_lm" and rest[:1] and rest[0] in ("server", "generate", "chat")
        return "mlx", f"{base}.{rest[0]}" if known else base, rest[1:] if known else rest
    if base in ("mlx_vlm.server", "mlx_vlm.generate"):
        return "mlx-vlm", "", rest
    if base == "lms" and rest[:1] and rest[0] == "load":
        return "lmstudio", "lms load", rest[1:]
    if re.fullmatch(
        r"koboldcpp([-_](linux|mac|nocuda|oldcpu|oldpc|rocm|cu1[12]|x64|arm64|nightly|[\d.]+))*(\.py)?", base
    ):
        return "koboldcpp", "koboldcpp", rest
    if base in ("tabbyapi", "tabby"):
        return "exllamav3", "TabbyAPI", rest
    if base in REFUSED:
        return base, "", rest
    return None


def _with_its_model(advice: str, rest: Sequence[str]) -> str:
    """The advice with the model of the command in place of MODEL."""
    for place, word in enumerate(rest[:200]):
        name, equals, value = word.partition("=")
        if name in ("--model", "-m") and (equals or place + 1 < len(rest)):
            model = value if equals else rest[place + 1]
            return advice.replace("MODEL", shown(model, 80))
    first = next((word for word in rest[:4] if not word.startswith("-") and re.search(r"[/\d]", word)), "")
    return advice.replace("MODEL", shown(first, 80)) if first else advice


def _tgi_hint(name: str) -> str:
    if name != "text-generation-launcher":
        return ""
    from planner.launch.tgi import VLLM_NAMES

    pairs = [f"{one} is {other}" for one, other in VLLM_NAMES.items() if one not in ("--dtype", "--kv-cache-dtype")]
    return f"; as a vllm serve command: {', '.join(pairs[:7])}"


def _inner_shell(words: Sequence[str]) -> str | None:
    """The text of bash -c "...", wherever it stands before a program."""
    for place, word in enumerate(words[:60]):
        if re.split(r"[/\\]", word)[-1] in ("bash", "sh", "zsh", "dash") and place + 2 < len(words) + 1:
            for after in range(place + 1, min(place + 4, len(words) - 1)):
                if re.fullmatch(r"-[a-z]*c", words[after]):
                    return words[after + 1]
            return None
        if _named(word, words[place + 1 :]) is not None:
            return None
    return None


def _docker_at(words: Sequence[str]) -> int | None:
    """Where `run` stands in docker run, podman run, nerdctl run; None for other commands."""
    for place, word in enumerate(words[:20]):
        if re.split(r"[/\\]", word)[-1] in ("kubectl", "oc") and words[place + 1 : place + 2] == ["run"]:
            return place + 1
        if re.split(r"[/\\]", word)[-1] in ("docker", "podman", "nerdctl", "docker.exe"):
            for after in range(place + 1, min(place + 4, len(words))):
                if words[after] in ("run", "create"):
                    return after
            return None
    return None


def _docker(words: Sequence[str], env: dict[str, str]) -> tuple[str, list[str], int | None]:
    """(image, the words after it, devices) of docker run; -e variables go to `env`."""
    gpus: int | None = None
    entry: list[str] = []
    mounts: dict[str, str] = {}
    place = 0
    if images := [word for word in words if word.startswith("--image=")]:  # kubectl run NAME --image=IMAGE -- words
        after = words.index("--") + 1 if "--" in words else len(words)
        return images[0].partition("=")[2], list(words[after:]), None
    while place < len(words):
        word = words[place]
        if not word.startswith("-"):
            return word, [*entry, *(mounts.get(one.rstrip("/"), one) for one in words[place + 1 :])], gpus
        name, equals, value = word.partition("=")
        takes = not equals and word not in _DOCKER_SWITCHES
        if takes:
            value = words[place + 1] if place + 1 < len(words) else ""
        if name in ("-e", "--env") and "=" in value:
            key, _, text = value.partition("=")
            env[key] = text
        elif name == "--gpus":
            gpus = _gpus(value)
        elif name in ("-v", "--volume", "--mount"):
            mounts.update(mounted(value))
        elif name == "--entrypoint" and value:
            entry = [value]
        place += 2 if takes else 1
    raise BadRequest("docker run names no image; paste the whole command")


def mounted(value: str) -> dict[str, str]:
    """Returns {folder in the container: folder outside} of -v outside:inside, where the outer one has a model's name
    (a digit is in it).

    >>> mounted("/data/Qwen3-32B:/model:ro"), mounted("type=bind,source=/data/phi-4,target=/model"), mounted("cache:/root")
    ({'/model': '/data/Qwen3-32B'}, {'/model': '/data/phi-4'}, {})
    """
    parts = dict(part.partition("=")[::2] for part in value.split(",")) if "target=" in value else {}
    outside, inside = (parts.get("source", ""), parts.get("target", "")) if parts else (*value.split(":"), "", "")[:2]
    return {inside.rstrip("/"): outside} if re.search(r"[/\\].*\d", outside) and inside.startswith("/") else {}


def _gpus(value: str) -> int | None:
    """Devices of --gpus: a number, or a list of ids; None for all."""
    ids = re.search(r"device=([\w,:-]+)", value)
    if ids:
        return len([one for one in ids.group(1).split(",") if one])
    return int(value) if re.fullmatch(r"[0-9]{1,4}", value) and int(value) else None


def _image_version(image: str) -> str | None:
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    found = re.search(r"(?:^|[-_])v?([0-9]+\.[0-9]+(?:\.[0-9]+)?(?:\.post[0-9]+)?)(?=$|[-_])", tag)
    build = re.search(r"(?:^|-)(b[0-9]{3,6})$", tag)
    return found.group(1) if found else build.group(1) if build else None


def _image_words(image: str, start: str) -> tuple[str, ...]:
    """What an image starts by itself, unless the words after it name a program."""
    first = start.split()
    named = any(_named(word, first[place + 1 :]) for place, word in enumerate(first))
    name = image.rpartition("@")[0] or image
    for pattern, engine, words in _IMAGES:
        if re.search(pattern, name.lower()):
            if engine == "llamacpp" and first[:1] in (["--server"], ["-s"]):
                return ("llama-server",)
            if engine == "llamacpp" and ":light" in name:
                words = ("llama-cli",)
            if engine == "ollama" and first[:1] and first[0] in ("run", "serve", "start"):
                return ("ollama",)
            return () if named else words
    return ()


def _pinned(before: Sequence[str]) -> str | None:
    """The version of `uvx vllm==0.11.0`, `uv run --with vllm==0.11.0`."""
    for word in before:
        found = re.search(r"vllm(?:\[[^\]]*\])?(?:==|@)v?([0-9][\w.]*)", word)
        if found:
            return found.group(1)
    return None
