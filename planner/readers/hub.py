"""Models on the Hugging Face Hub: config.json whole, weights by their headers alone, in byte ranges.

Needs the `[hub]` extra (huggingface_hub), which also knows the endpoint, the proxy and the user's token; the
token is never printed. Nothing here runs unless the network was asked for. The revision is resolved to its
commit first, and every byte is read at that commit. A server that answers a range with a whole file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from planner.errors import BadConfig, BadRequest, KvplanError, UnknownName, one_line
from planner.model.spec import ModelSpec
from planner.readers.checkpoint import CONFIG, attach
from planner.readers.gguf import join_parts, part_names, read_gguf_file
from planner.readers.huggingface import MAX_CONFIG_BYTES, parse_json, read_config, with_file_beside
from planner.readers.safetensors import INDEX, MAX_FILES, MAX_HEADER_BYTES, SINGLE, Checkpoint, read_files, read_index

MISSING = "reading from the Hub needs huggingface_hub: pip install 'llm-kvplan[hub]'"
FIRST_BYTES = 256 << 10  # of a safetensors file: most headers are whole in it
NEXT_BYTES = 4 << 20  # of a GGUF file, whose vocabulary comes before its tensors
READERS = 8  # shards asked for at once
SECONDS = 30


@dataclass(frozen=True)
class HubName:
    """What a name of the Hub says: repository, revision, and a file or a part of its name."""

    repo: str
    revision: str | None = None
    file: str | None = None
    wanted: str | None = None  # "Q4_K_M" in org/name:Q4_K_M


_REPO = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
_REVISION = re.compile(r"^[\w./-]{1,120}$")


def is_hub_url(name: str) -> bool:
    return name.startswith(("hf://", "https://", "http://"))


def hub_name(text: str) -> HubName:
    """org/name, org/name@revision, org/name:Q4_K_M, org/name/file.gguf, hf://... or a page's address.

    >>> hub_name("hf://meta-llama/Llama-3.1-8B@main")
    HubName(repo='meta-llama/Llama-3.1-8B', revision='main', file=None, wanted=None)
    >>> hub_name("https://huggingface.co/org/name/resolve/main/model-Q4_K_M.gguf").file
    'model-Q4_K_M.gguf'
    """
    shown = one_line(text, 80)
    plain, revision = text.removeprefix("hf://"), None
    file = wanted = None
    if text.startswith(("https://", "http://")):
        parts = [unquote(part) for part in urlsplit(text).path.split("/") if part]
        plain = "/".join(parts[:2])
        if len(parts) > 3 and parts[2] in ("tree", "resolve", "blob", "raw"):
            revision, file = parts[3], "/".join(parts[4:]) or None
    else:
        plain, _, revision_text = plain.partition("@")
        revision = revision_text or None
        plain, _, wanted_text = plain.partition(":")
        wanted = wanted_text or None
        pieces = plain.split("/")
        plain, file = "/".join(pieces[:2]), "/".join(pieces[2:]) or None
    if not _REPO.match(plain) or (revision is not None and not _REVISION.match(revision)):
        raise BadRequest(f"{shown!r} is no name of the Hub; write owner/name, owner/name@revision or a page's address")
    if file is not None and (".." in file or not file.endswith((".gguf", ".safetensors", ".json"))):
        raise BadRequest(f"{shown!r}: a .gguf, .safetensors or .json file of the repository is wanted")
    return HubName(plain, revision, file, wanted)


class Transport(Protocol):
    """What is asked of the Hub."""

    def files(self, repo: str, revision: str | None) -> tuple[str, Mapping[str, int]]:
        """(commit, size of each file)."""
        ...

    def read(self, repo: str, commit: str, file: str, offset: int, length: int) -> bytes:
        """Exactly these bytes."""
        ...


@dataclass
class HubFile:
    """A `Source` over the network: what was read ahead is kept until the next piece is wanted."""

    transport: Transport
    repo: str
    commit: str
    file: str
    size: int
    ahead: int = FIRST_BYTES
    held: tuple[int, bytes] = field(default=(0, b""), repr=False)

    @property
    def name(self) -> str:
        return one_line(f"{self.repo}/{self.file}", 120)

    def read(self, offset: int, length: int) -> bytes:
        start, data = self.held
        if not start <= offset <= offset + length <= start + len(data):
            count = min(max(length, self.ahead), self.size - offset)
            if offset < 0 or count < length:
                raise BadConfig(
                    f"{self.name} is cut short: {length:,} bytes at {offset:,} of {self.size:,} were expected"
                )
            data = self.transport.read(self.repo, self.commit, self.file, offset, count)
            if len(data) != count:
                raise BadConfig(f"{self.name}: the Hub sent {len(data):,} bytes where {count:,} were asked for")
            start, self.held = offset, (offset, data)
        return data[offset - start : offset - start + length]


def read_hub(text: str, transport: Transport | None = None, assume_full: bool = False) -> ModelSpec:
    """The model of a repository, with what its headers say is stored."""
    name = hub_name(text)
    transport = transport or HuggingFaceTransport()
    commit, files = transport.files(name.repo, name.revision)
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise BadConfig(f"{name.repo}: the Hub gave no commit for {name.revision or 'its main branch'}")
    repository = Repository(transport, name.repo, commit, files)
    spec = repository.gguf(name) if repository.is_gguf(name) else repository.transformers(name, assume_full)
    return replace(spec, notes=(f"read from the Hub: {name.repo} at revision {commit}", *spec.notes))


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    transport: Transport
    repo: str
    commit: str
    files: Mapping[str, int]

    def open(self, file: str, ahead: int = FIRST_BYTES) -> HubFile:
        if file not in self.files:
            raise BadConfig(f"{self.repo} has no file {one_line(file, 80)!r} at {self.commit[:12]}")
        return HubFile(self.transport, self.repo, self.commit, file, self.files[file], ahead)

    def whole(self, file: str, limit: int) -> bytes:
        source = self.open(file)
        if source.size > limit:
            raise BadConfig(f"{source.name} has {source.size:,} bytes; {limit:,} at most are read")
        return source.read(0, source.size)

    # -- transformers

    def transformers(self, name: HubName, assume_full: bool) -> ModelSpec:
        if CONFIG not in self.files:
            raise BadConfig(f"{self.repo} has neither a {CONFIG} nor GGUF files at {self.commit[:12]}")
        raw = parse_json(self.whole(CONFIG, MAX_CONFIG_BYTES), f"{self.repo}/{CONFIG}")
        spec = read_config(raw, name=self.repo, where=self.repo, assume_full=assume_full)
        if not spec.quantization:
            spec = with_file_beside(spec, self._object)
        found = self._checkpoint()
        return attach(spec, found) if found is not None else spec

    def _object(self, file: str) -> dict[str, Any] | None:
        """The JSON object of a small file, None where there is no such file."""
        return parse_json(self.whole(file, MAX_CONFIG_BYTES), f"{self.repo}/{file}") if file in self.files else None

    def _checkpoint(self) -> Checkpoint | None:
        if INDEX in self.files:
            data = self.whole(INDEX, MAX_HEADER_BYTES)
            return read_index(data, f"{self.repo}/{INDEX}", self._prefetched(data))
        return read_files([self.open(SINGLE)]) if SINGLE in self.files else None

    def _prefetched(self, index: bytes) -> Any:
        """An opener whose files have their first piece already: many shards are asked for side by side."""
        names = [name for name in self.files if name.endswith(".safetensors") and name.encode() in index][:MAX_FILES]
        sources = {name: self.open(name) for name in names}
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(lambda source: source.read(0, min(8, source.size)), sources.values()))
        return lambda name: sources.get(name) or self.open(name)

    # -- GGUF

    def is_gguf(self, name: HubName) -> bool:
        if name.file is not None:
            return name.file.endswith(".gguf")
        return name.wanted is not None or (
            CONFIG not in self.files and any(file.endswith(".gguf") for file in self.files)
        )

    def gguf(self, name: HubName) -> ModelSpec:
        from planner.readers.gguf_models import spec_of

        first = name.file or self._one_gguf(name.wanted)
        folder, _, base = first.rpartition("/")
        parts = [f"{folder}/{part}" if folder else part for part in part_names(base)]
        file = join_parts([read_gguf_file(self.open(part, NEXT_BYTES)) for part in parts], base)
        return spec_of(file, name=f"{self.repo}:{base.removesuffix('.gguf')}", shown=f"{self.repo}/{base}")

    def _one_gguf(self, wanted: str | None) -> str:
        names = sorted(name for name in self.files if name.endswith(".gguf") and "mmproj" not in name.lower())
        firsts = sorted({_first_part(name) for name in names})
        matching = [name for name in firsts if wanted is None or wanted.lower() in name.lower()]
        if len(matching) != 1:
            listed = one_line(", ".join((matching or firsts)[:8]), 200) or "none"
            raise BadRequest(
                f"{self.repo} has {len(matching)} GGUF models that match; name one as {self.repo}:Q4_K_M or by its file: {listed}"
            )
        return matching[0]


def _first_part(name: str) -> str:
    folder, _, base = name.rpartition("/")
    first = part_names(base)[0]
    return f"{folder}/{first}" if folder else first


class HuggingFaceTransport:
    """The Hub through huggingface_hub: its session, endpoint and token."""

    def __init__(self) -> None:
        try:
            import huggingface_hub
            import huggingface_hub.utils as utils
        except ImportError:
            raise KvplanError(MISSING) from None
        self.hub, self.utils = huggingface_hub, utils

    def files(self, repo: str, revision: str | None) -> tuple[str, Mapping[str, int]]:
        try:
            info = self.hub.HfApi(library_name="kvplan").model_info(
                repo, revision=revision, files_metadata=True, timeout=SECONDS
            )
        except Exception as error:
            raise _refusal(repo, error) from None
        siblings = info.siblings or []
        return str(info.sha), {item.rfilename: int(item.size) for item in siblings if item.size is not None}

    def read(self, repo: str, commit: str, file: str, offset: int, length: int) -> bytes:
        if length <= 0:
            return b""
        url = self.hub.hf_hub_url(repo, file, revision=commit)
        headers = {**self.utils.build_hf_headers(library_name="kvplan"), "Range": f"bytes={offset}-{offset + length - 1}",
                   "Accept-Encoding": "identity"}  # fmt: skip
        try:
            with self.utils.get_session().stream(
                "GET", url, headers=headers, timeout=SECONDS, follow_redirects=True
            ) as response:
                self.utils.hf_raise_for_status(response)
                if response.status_code != 206 and (offset or response.headers.get("content-length") != str(length)):
                    raise BadConfig(
                        f"{one_line(repo, 80)}: the server does not send parts of a file; nothing was downloaded"
                    )
                return _at_most(response.iter_bytes(), length)
        except KvplanError:
            raise
        except Exception as error:
            raise _refusal(repo, error) from None


def _at_most(pieces: Iterator[bytes], length: int) -> bytes:
    """No more than `length` bytes, however many are sent."""
    data = bytearray()
    for piece in pieces:
        data += piece[: length - len(data)]
        if len(data) >= length:
            break
    return bytes(data)


def _refusal(repo: str, error: Exception) -> KvplanError:
    """One line for what went wrong; no header of the request is in it."""
    kind = type(error).__name__
    shown = one_line(repo, 80)
    if kind == "GatedRepoError":
        return KvplanError(f"{shown} is gated: accept its licence on the Hub and log in (hf auth login)")
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError"):
        return UnknownName(f"{shown}: the Hub has no such repository or revision (or it is private: hf auth login)")
    if kind == "OfflineModeIsEnabled":
        return KvplanError(f"{shown}: HF_HUB_OFFLINE is set; unset it to ask the Hub")
    return KvplanError(f"{shown}: the Hub could not be asked ({kind}: {one_line(str(error), 120)})")


__all__: Sequence[str] = ["HubFile", "HubName", "Repository", "Transport", "hub_name", "is_hub_url", "read_hub"]
