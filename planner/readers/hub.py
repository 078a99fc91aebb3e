"""Models on the Hugging Face Hub: config.json whole, weights by their headers alone, in byte ranges.

Needs the `[hub]` extra (huggingface_hub), which also knows the endpoint, the proxy and the user's token; the
token is never printed. Nothing here runs unless the network was asked for. The revision is resolved to its
commit first, and every byte is read at that commit. A server that answers a range with a whole file is refused.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

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
SECONDS = 30  # without a byte
MAX_ANSWER_BYTES = 16 << 20  # the list of a repository's files: 10,000 shards are under 4 MiB
TOTAL_SECONDS = 120.0  # for one answer, however slowly it comes
HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
T = TypeVar("T")


@dataclass(frozen=True)
class HubName:
    """What a name of the Hub says: repository, revision, and a file or a part of its name."""

    repo: str
    revision: str | None = None
    file: str | None = None
    wanted: str | None = None  # "Q4_K_M" in org/name:Q4_K_M


_REPO = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
_REVISION = re.compile(r"^[\w./-]{1,120}$")


def hub_name(text: str) -> HubName:
    """Reads org/name, org/name@revision, org/name:Q4_K_M, org/name/file.gguf, hf://... or a page's address.

    >>> hub_name("hf://meta-llama/Llama-3.1-8B@main")
    HubName(repo='meta-llama/Llama-3.1-8B', revision='main', file=None, wanted=None)
    >>> hub_name("https://huggingface.co/org/name/resolve/main/model-Q4_K_M.gguf").file
    'model-Q4_K_M.gguf'
    """
    shown = one_line(without_secrets(text), 80)
    plain, revision = text.removeprefix("hf://"), None
    file = wanted = None
    if text.startswith(("https://", "http://")):
        _known_host(text)
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


def _known_host(address: str) -> None:
    """Refuse an address of another host than the Hub's, which is HF_ENDPOINT's where that is set."""
    endpoint = os.environ.get("HF_ENDPOINT", "")
    try:
        parts, wanted = urlsplit(address), urlsplit(endpoint)
        host, known = (parts.hostname or ""), wanted.hostname
        same = host in HOSTS if known is None else (host, parts.port) == (known, wanted.port) or host in HOSTS
    except ValueError:
        raise BadRequest("the address is damaged; write owner/name or https://huggingface.co/owner/name") from None
    if not same:
        raise BadRequest(
            f"{one_line(host, 60)!r} is not the Hub's host; write owner/name, or set HF_ENDPOINT to ask a mirror"
        )


_SECRETS = (
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,15}://)[^\s/@]{1,500}@"), r"\1"),
    (re.compile(r"(?i)\b(bearer|basic|token)([\s:=]{1,4})[\w.~+/=-]{4,}"), r"\1\2(hidden)"),
    (re.compile(r"\bhf_\w{4,}"), "(hidden)"),
    (re.compile(r"(?i)([?&](?:[\w-]{0,40}(?:token|signature|secret|password|credential|key)[\w-]{0,20})=)[^&\s]+"), r"\1(hidden)"),
)  # fmt: skip


def without_secrets(text: str) -> str:
    """Return `text` without what lets somebody in: passwords in addresses, tokens, signatures of links.

    >>> without_secrets("GET https://me:pw@host/x?sig=1&token=abc failed: Authorization: Bearer hf_abcdef")
    'GET https://host/x?sig=1&token=(hidden) failed: Authorization: Bearer (hidden)'
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if len(secret := os.environ.get(name, "").strip()) > 3:
            text = text.replace(secret, "(hidden)")
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


class Transport(Protocol):
    """What is asked of the Hub."""

    def files(self, repo: str, revision: str | None) -> tuple[str, Mapping[str, int]]:
        """Returns (commit, size of each file)."""
        ...

    def read(
        self, repo: str, commit: str, file: str, offset: int, length: int
    ) -> bytes:  # parameters: a signature that others call
        """Returns exactly these bytes."""
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
    """Reads the model of a repository, with what its headers say is stored."""
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
        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        url = f"{self.hub.HfApi().endpoint}/api/models/{repo}{at}?blobs=true"
        data = self._asked(repo, lambda: self._whole(repo, url))
        raw = parse_json(data, f"{repo}: the Hub's answer")
        siblings = raw.get("siblings") or []
        if not isinstance(siblings, list) or not all(isinstance(item, dict) for item in siblings):
            raise BadConfig(f"{one_line(repo, 80)}: the Hub's answer has no list of files")
        return str(raw.get("sha")), _sizes(repo, siblings)

    def read(
        self, repo: str, commit: str, file: str, offset: int, length: int
    ) -> bytes:  # parameters: a signature that others call
        if length <= 0:
            return b""
        url = self.hub.hf_hub_url(repo, file, revision=commit)
        return self._asked(repo, lambda: self._part(repo, url, offset, length=length))

    def _asked(self, repo: str, work: Callable[[], bytes]) -> bytes:
        try:
            return _within(work)
        except KvplanError:
            raise
        except Exception as error:
            raise _refusal(repo, error) from None

    def _stream(self, url: str, **more: str) -> Any:
        headers = {**self.utils.build_hf_headers(library_name="kvplan"), "Accept-Encoding": "identity", **more}
        return self.utils.get_session().stream("GET", url, headers=headers, timeout=SECONDS, follow_redirects=True)

    def _checked(self, response: Any) -> None:
        if response.status_code >= 400 and int(response.headers.get("content-length") or 0) > MAX_ANSWER_BYTES:
            raise BadConfig("the error is larger than an answer of the Hub")
        self.utils.hf_raise_for_status(response)

    def _whole(self, repo: str, url: str) -> bytes:
        with self._stream(url) as response:
            self._checked(response)
            data = _at_most(response.iter_raw(), MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise BadConfig(f"{one_line(repo, 80)}: the Hub's answer is larger than {MAX_ANSWER_BYTES >> 20} MiB")
        return data

    def _part(self, repo: str, url: str, offset: int, *, length: int) -> bytes:
        with self._stream(url, Range=f"bytes={offset}-{offset + length - 1}") as response:
            self._checked(response)
            if response.status_code != 206 and (offset or response.headers.get("content-length") != str(length)):
                raise BadConfig(
                    f"{one_line(repo, 80)}: the server does not send parts of a file; nothing was downloaded"
                )
            return _at_most(response.iter_raw(), length)


def _sizes(repo: str, siblings: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The size in bytes of each file that has one; a size that is no whole number is refused."""
    found: dict[str, int] = {}
    for item in siblings:
        size, name = item.get("size"), item.get("rfilename")
        if size is None or not isinstance(name, str):
            continue
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 60:
            raise BadConfig(
                f"{one_line(repo, 80)}: the Hub gives {one_line(repr(size), 30)} as the size of "
                f"{one_line(name, 60)!r}; a whole number of bytes is wanted"
            )
        found[name] = size
    return found


def _within(work: Callable[[], T]) -> T:
    """Return what `work` returns, or raise TimeoutError when `TOTAL_SECONDS` have passed.

    The thread that a slow server holds ends with the process.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def call() -> None:
        try:
            done.append(work())
        except BaseException as error:  # it is raised again below, where it was asked for
            failed.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(TOTAL_SECONDS)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no whole answer in {TOTAL_SECONDS:.0f} s")
    return done[0]


def _at_most(pieces: Iterator[bytes], length: int) -> bytes:
    """No more than `length` bytes, however many are sent and however slowly."""
    data, end = bytearray(), time.monotonic() + TOTAL_SECONDS
    for piece in pieces:
        if time.monotonic() > end:
            raise TimeoutError(f"no whole answer in {TOTAL_SECONDS:.0f} s")
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
    return KvplanError(f"{shown}: the Hub could not be asked ({kind}: {one_line(without_secrets(str(error)), 120)})")


__all__: Sequence[str] = ["HubFile", "HubName", "Repository", "Transport", "hub_name", "read_hub"]
