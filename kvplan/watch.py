"""`kvplan watch`: a running server's /metrics beside what kvplan expects of it. Reads alone, of the one address given."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from planner.answers.watch import WatchAnswer, watch_answer
from planner.commands.click_options import Sectioned, with_flags
from planner.commands.pages.watch import page
from planner.errors import BadRequest, KvplanError, one_line
from planner.files.read import parse_json, visible
from planner.measured.metrics import served
from planner.measured.metrics_text import MOST_BYTES, parsed, read_metrics
from planner.measured.server_config import MOST_BYTES as CONFIG_BYTES
from planner.measured.server_config import PATHS, ServerConfig, server_config
from planner.options.watch import FLAGS, WatchAsked, watch_asked
from planner.terminal.output import emit, to_json
from planner.terminal.tables import wrapped

TIMEOUT_SECONDS = 10.0
TOKEN = "KVPLAN_WATCH_TOKEN"


@click.command(
    cls=Sectioned,
    name="watch",
    epilog="\b\nExample: kvplan watch http://localhost:8000 --gpu h100-sxm --every 10s",
)
@click.argument("source", nargs=-1, required=True)
@with_flags(FLAGS)
def command(source: tuple[str, ...], **values: Any) -> None:
    """What a running server does, beside what kvplan expects of it: SOURCE is its address, or one or two files of /metrics.

    vLLM, SGLang, llama-server (--metrics), TGI, TensorRT-LLM and Dynamo. Running and waiting requests, cache in use,
    preemptions, prefix hits, TTFT and TPOT; with --gpu what is expected at this load, how many more users until a
    target fails, and what one flag would change. One read says means since the server started; --every 10s says those between two reads.

    Nothing is sent but GET /metrics and one GET for what the server says of itself (/v1/models, /get_server_info, /props,
    /info by engine), only to the address given; redirects elsewhere are not followed. A token is
    taken from the environment (KVPLAN_WATCH_TOKEN) and never printed. Exit code 3 when a target that was given is missed.
    """
    asked = watch_asked(values)
    as_json = bool(values["as_json"])
    last: WatchAnswer | None = None
    for answer in _answers(source, asked):
        last = answer
        if as_json:
            text = to_json(answer.to_dict())
            emit(text if asked.every is None or len(source) > 1 else " ".join(text.split()), None)
        else:
            emit(wrapped("\n".join(page(answer))), None)
    if last is not None and last.exit_code:
        raise SystemExit(last.exit_code)


def _answers(source: tuple[str, ...], asked: WatchAsked) -> Iterator[WatchAnswer]:
    """An answer for each read: of a file, of two files, or of a server as often as is asked."""
    if len(source) > 2:
        raise BadRequest("kvplan watch: one address, or one or two files of /metrics, the earlier first")
    if "://" not in source[0]:
        reads = [read_metrics(name) for name in source]
        before = reads[0] if len(reads) > 1 else None
        yield watch_answer(asked, served(reads[-1], before, asked.every))
        return
    if len(source) > 1:
        raise BadRequest("kvplan watch: one address at a time")
    url = metrics_url(source[0])
    before, at, number, config = None, 0.0, 0, None
    while True:
        now, read_at = parsed(fetch(url), _hidden(url)), time.monotonic()
        if not number and asked.gpu is not None and url.endswith("/metrics"):
            config = config_of(url.removesuffix("/prometheus/metrics").removesuffix("/metrics"), now.engine)
        yield watch_answer(asked, served(now, before, read_at - at if before is not None else None), config)
        number += 1
        if asked.every is None or (asked.reads is not None and number >= asked.reads):
            return
        before, at = now, read_at
        sys.stdout.flush()
        time.sleep(asked.every)


def metrics_url(given: str) -> str:
    """The address of /metrics: http or https, a host, no user and no password in it.

    >>> metrics_url("http://localhost:8000"), metrics_url("http://10.0.0.5:8000/prometheus/metrics")
    ('http://localhost:8000/metrics', 'http://10.0.0.5:8000/prometheus/metrics')
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(given)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and given.isprintable()
    except ValueError:
        parts, valid = None, False
    if parts is None or not valid or " " in given:
        raise BadRequest(f"{_hidden(given)} is not an address; write for example http://localhost:8000")
    if parts.username is not None or parts.password is not None:
        raise BadRequest(f"no user and no password in the address; set {TOKEN} in the environment")
    path = parts.path.rstrip("/") or "/metrics"
    return f"{parts.scheme}://{parts.netloc}{path}" + (f"?{parts.query}" if parts.query else "")


def _hidden(given: str) -> str:
    """The address without what may be secret in it."""
    return one_line(visible(given.rpartition("@")[2]), 80)


def config_of(base: str, engine: str) -> ServerConfig | None:
    """What a server says of itself; None where it offers nothing that is understood."""
    for path in PATHS.get(engine, ()):
        try:
            found = server_config(engine, parse_json(fetch(base + path, CONFIG_BYTES), base))
        except KvplanError:
            continue
        if found != ServerConfig():
            return found
    return None


def fetch(url: str, most_bytes: int = MOST_BYTES) -> str:
    """The text at `url`, in bounded time and size; KvplanError in one line for all that can go wrong."""
    import urllib.error
    import urllib.request

    class Stay(urllib.request.HTTPRedirectHandler):
        """Follows no redirect: the address given is the one that is read."""

        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(
        url, headers={"Accept": "text/plain, application/json;q=0.9", "User-Agent": "kvplan"}
    )
    if token := os.environ.get(TOKEN):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    opener = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))
    shown, data, end = _hidden(url), bytearray(), time.monotonic() + TIMEOUT_SECONDS
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            while piece := answer.read1(1 << 16):
                data += piece
                if len(data) > most_bytes:
                    raise KvplanError(f"{shown}: more than {most_bytes >> 20} MiB, which no /metrics is")
                if time.monotonic() > end:
                    raise KvplanError(f"{shown}: no end of the answer in {TIMEOUT_SECONDS:.0f} s")
    except urllib.error.HTTPError as refused:
        raise KvplanError(f"{shown}: HTTP {refused.code}{_hint(refused.code)}") from None
    except (OSError, ValueError, EOFError) as failed:
        reason = getattr(failed, "reason", None) or failed
        raise KvplanError(
            f"{shown}: cannot be read ({one_line(visible(str(reason)), 100)}); is the server running?"
        ) from None
    except Exception as failed:  # http.client's own: answers that are no HTTP
        raise KvplanError(f"{shown}: is no HTTP server ({type(failed).__name__})") from None
    return data.decode("utf-8", "replace")


def _hint(code: int) -> str:
    if code in (401, 403):
        return f": it wants a token; set {TOKEN} in the environment"
    if code in (301, 302, 303, 307, 308):
        return ": it points elsewhere, which is not followed; give that address"
    if code in (404, 405, 501):
        return ": it offers no /metrics there; llama-server wants --metrics, SGLang --enable-metrics, TensorRT-LLM /prometheus/metrics"
    return ""
