"""A pasted text -> the questions in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from planner.errors import BadRequest, one_line
from planner.launch import koboldcpp, llamacpp, lmdeploy, lmstudio, mlx, ollama, sglang, tabbyapi, trtllm, vllm
from planner.launch.arguments import Given, read_arguments
from planner.launch.backend import WITH_BACKENDS, backend_said
from planner.launch.before import said_before
from planner.launch.environment import classify, llama_flag
from planner.launch.fields import kobold_question, llama_question, ollama_question, server_question
from planner.launch.files import commands_in
from planner.launch.presets import with_presets
from planner.launch.program import Program, program_of
from planner.launch.question import Question, Said
from planner.launch.secrets import HIDDEN, is_secret_name, shown
from planner.launch.table import UNKNOWN, Table
from planner.launch.values import READERS
from planner.launch.words import Command

TABLES: Mapping[str, Table] = {
    "vllm": vllm.TABLE,
    "sglang": sglang.TABLE,
    "llamacpp": llamacpp.TABLE,
    "llama-bench": llamacpp.BENCH,
    "koboldcpp": koboldcpp.TABLE,
    "ollama": ollama.TABLE,
    "tensorrt-llm": trtllm.TABLE,
    "lmdeploy": lmdeploy.TABLE,
    "mlx": mlx.TABLE,
    "lmstudio": lmstudio.TABLE,
    "exllamav3": tabbyapi.TABLE,
}
KNOWN = (
    "vllm serve, sglang serve, llama-server, llama-cli, llama-bench, koboldcpp, ollama, trtllm-serve, lmdeploy serve, "
    "mlx_lm.server, lms load, TabbyAPI's config.yml"
)


def question_of(words: Sequence[str]) -> Question:
    """Reads the question of one command, its words already split by the shell.

    Raises BadRequest where no known server is started, or a value cannot be read.

    >>> asked = question_of(["vllm", "serve", "Qwen/Qwen3-8B", "-tp", "2", "--max-model-len", "64k", "--foo", "1"])
    >>> asked.model, asked.tp, asked.seq_tokens, [(flag.name, flag.kind) for flag in asked.flags]
    ('Qwen/Qwen3-8B', 2, 64000, [('-tp', 'used'), ('--max-model-len', 'used'), ('--foo', 'not known')])
    """
    if len(words) == 1 and any(ch in words[0] for ch in " \n"):
        return one_question(words[0], "")  # the whole command in one pair of quotes
    found = program_of(Command(tuple(words)))
    if found is None:
        raise _nothing(words[0] if words else "")
    return _question(found)


def one_question(text: str, service: str = "") -> Question:
    """Reads the one question of a file's text, or the one that `service` names.

    Raises BadRequest for none, and for several of which none is named: with their names.
    """
    asked = questions_in(text)
    if service:
        named = [one for one in asked if service in (one.where, *one.where.split("/"))]
        if not named:
            raise BadRequest(f"--service {one_line(service, 40)!r} is not in the text; it has {_names(asked)}")
        return named[0]
    if len(asked) > 1 and len({(one.model, one.where) for one in asked}) > 1:
        raise BadRequest(f"the text starts {len(asked)} servers; choose one with --service NAME: {_names(asked)}")
    return asked[0]


def with_flags(question: Question, text: str) -> Question:
    """Adds further flags of its engine to a question: `--max-num-seqs 96`.

    >>> with_flags(question_of(["vllm", "serve", "m"]), "--max-num-seqs 96").options.max_num_seqs
    96
    >>> with_flags(question_of(["vllm", "serve", "m", "--dtype", "bfloat16"]), "--dtype half").dtype
    'half'
    """
    name = next((own for own in ("vllm", "exllama", "lmdeploy") if question.engine.startswith(own)), question.engine)
    name = {"exllama": "exllamav3"}.get(name, name)
    values = read_values(read_arguments(text.split(), TABLES[name])[0])
    own = {key: value for key, value in values.items() if key in question.options.__dataclass_fields__}
    length = own.get("max_model_len", question.seq_tokens)
    dtype, cache = values.get("dtype"), values.get("kv_dtype")
    if dtype is not None:
        own, question = {**own, "compute_dtype": dtype}, replace(question, dtype=dtype)
    if cache is not None:
        question = replace(question, k_dtype=cache, v_dtype=cache)
    return replace(question, options=replace(question.options, **own), seq_tokens=length)


def _names(asked: Sequence[Question]) -> str:
    return ", ".join(shown(one.where or one.model or one.said, 40) for one in asked[:12])


def questions_in(text: str) -> list[Question]:
    """Lists every server that a text starts, in order.

    `ollama serve` and the `ollama run` that follows it are one.
    """
    commands = commands_in(text)
    programs = [found for found in map(program_of, commands) if found is not None]
    if not programs:
        raise _nothing(commands[0].words[0] if commands and commands[0].words else text)
    return [_question(one) for one in _without_bare_ollama(programs)]


def _without_bare_ollama(programs: list[Program]) -> list[Program]:
    runs = [one for one in programs if one.name == "ollama" and one.words[:1] != ("serve",)]
    serves = [one for one in programs if one.name == "ollama" and one.words[:1] == ("serve",)]
    if not runs or not serves:
        return programs
    env = {name: text for one in serves for name, text in one.env.items()}
    version = next((one.version for one in serves if one.version), None)
    return [
        replace(one, env={**env, **one.env}, version=one.version or version) if one in runs else one
        for one in programs
        if one not in serves
    ]


def _nothing(start: str) -> BadRequest:
    return BadRequest(
        f"no server is started by {shown(start, 40)!r}; known are {KNOWN}, and docker run of their images"
    )


def _question(program: Program) -> Question:
    """The flags of a program, read by its table."""
    table = TABLES[program.name]
    given, rest = read_arguments(_program_words(program), table)
    if program.name in ("llamacpp", "llama-bench", "ollama"):
        given = [*_from_environment(program.env, table), *given]
    values = read_values(given)
    made = _maker(program.name)(program, values, rest)
    said = tuple(_said(one) for one in given)
    return replace(
        made,
        version=made.version or program.version,
        backend=backend_said(program.said, said, program.env) if program.name in WITH_BACKENDS else None,
        flags=tuple(one for one in said if not one.name.startswith("LLAMA_ARG_"))
        + tuple(Said(shown(word, 60), "", UNKNOWN, "") for word in _unread(program, rest))
        + made.flags,
        environment=(
            *(_said_variable(name, text, table) for name, text in program.env.items()),
            *said_before(program.before),
        ),
        notes=(*made.notes, *program.notes),
        where=program.where,
        device=program.device,
    )


def _unread(program: Program, rest: Sequence[str]) -> Sequence[str]:
    """Words that are neither flags nor the model: never dropped in silence."""
    first = (
        1
        if program.name in ("vllm", "tensorrt-llm", "lmdeploy", "mlx", "lmstudio", "exllamav3")
        else 2
        if program.name == "koboldcpp"
        else 0
    )
    return () if program.name in ("ollama", "llama-bench") else rest[first : first + 8]


def _maker(name: str) -> Callable[[Program, dict[str, Any], Sequence[str]], Question]:
    if name in ("llamacpp", "llama-bench"):
        return llama_question
    own = {
        "ollama": ollama_question,
        "koboldcpp": kobold_question,
        "mlx": mlx.mlx_question,
        "lmstudio": lmstudio.lms_question,
        "exllamav3": tabbyapi.tabby_question,
    }
    return own.get(name, server_question)


def _program_words(program: Program) -> Sequence[str]:
    """Without ollama's own command, and without a Modelfile's text."""
    if program.name == "llamacpp":
        return with_presets(program.words)
    if program.name != "ollama":
        return program.words
    return () if program.words[1:2] == ("Modelfile",) else program.words[1:]


def _from_environment(env: Mapping[str, str], table: Table) -> list[Given]:
    """llama.cpp reads LLAMA_ARG_ variables before its flags; ollama hands its own on to the llama-server that it starts (0.30)."""
    found = []
    flags = llamacpp.TABLE if table.engine == "ollama" else table
    for name, text in env.items():
        flag = flags.by_name.get(llama_flag(name)) if name.startswith("LLAMA_ARG_") else None
        if flag is not None and (flag.takes != "0" or text.strip().lower() in ("1", "true", "on", "enabled")):
            found.append(Given(name, flag, () if flag.takes == "0" else (text,)))
    return found


def read_values(given: Sequence[Given]) -> dict[str, Any]:
    """Reads field -> value of the used flags; the last of a repeated flag counts, texts and JSON keys add up."""
    found: dict[str, Any] = {}
    for one in given:
        if one.flag is None or not one.flag.field:
            continue
        field, reader = one.flag.field, one.flag.reader
        if one.flag.takes == "0" or (one.flag.takes == "?" and not one.values):
            found[field] = not one.off and (not one.values or bool(READERS["switch"](one.values[0], one.name)))
        elif one.key:
            inner = found.setdefault(field, {})
            inner[one.key] = _json_scalar(one.values[0] if one.values else "true")
        elif reader == "texts":
            texts = [READERS["text"](text, one.name) for text in one.values]
            found[field] = [*found.get(field, []), *texts]
        elif reader in ("json", "limits"):
            found[field] = {**found.get(field, {}), **READERS[reader](one.values[0], one.name)}
        else:
            found[field] = READERS[reader](one.values[0], one.name)
    return found


def _json_scalar(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        return text


def _said(one: Given) -> Said:
    name = f"{one.name}.{one.key}" if one.key else one.name
    kind, effect = (UNKNOWN, "") if one.flag is None else (one.flag.kind, one.flag.effect)
    secret = is_secret_name(name) or (one.flag is not None and any(map(is_secret_name, one.flag.names)))
    value = HIDDEN if secret and one.values else shown(" ".join(one.values), 80)
    return Said(shown(name, 60), value, kind, effect)


def _said_variable(name: str, text: str, table: Table) -> Said:
    kind, effect = classify(name, table)
    return Said(shown(name, 60), shown(text, 60, name=name), kind, effect)
