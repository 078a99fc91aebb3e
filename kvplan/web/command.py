"""`kvplan web`: the page and the HTTP interface, on this machine unless told otherwise."""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import socket

import click

from planner.errors import BadRequest, KvplanError, UsageError, one_line

WANTED = "kvplan web needs FastAPI, uvicorn and Jinja2: pip install 'llm-kvplan[web]'"


@click.command(
    name="web",
    epilog="\b\nExample: kvplan web --port 8000\n         curl '127.0.0.1:8000/api/fit?model=llama-3.1-8b&gpu=l4'"
    "\n         kvplan web --static site --pyodide node_modules/pyodide",
)
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", help="Listen here (default: 127.0.0.1, this machine alone)."
)
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=8000,
    help="Listen on this port; 0: any that is free (default: 8000).",
)
@click.option("--prefix", metavar="PATH", default="", help="The path under which a proxy serves it: /kvplan.")
@click.option(
    "--static",
    metavar="FOLDER",
    help="Serve nothing: write files for any web host, with the planner run in the reader's browser (Pyodide).",
)
@click.option("--pyodide", metavar="FOLDER", help="With --static: the npm package (default: node_modules/pyodide).")
def command(
    host: str, port: int, prefix: str, static: str | None, pyodide: str | None
) -> None:  # parameters: one an option, passed by name
    """The same answers in a browser and over HTTP: /api/estimate, fit, speed, plan, engines, check, reconcile, models, gpus.

    Listens on this machine alone unless --host says otherwise. No file that a request names is opened, and nothing is
    asked of the network.
    """
    if static is not None:
        _export(static, pyodide)
        return
    if pyodide is not None:
        raise UsageError("--pyodide goes with --static FOLDER")
    if prefix and not re.fullmatch(r"(/[\w.~-]+)+", prefix, re.ASCII):
        raise BadRequest(f"--prefix {one_line(prefix, 40)!r} is not a path; write for example /kvplan")
    try:
        import uvicorn

        from kvplan.web.app import create_app
        from kvplan.web.timely import Timely
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    os.environ.pop("KVPLAN_ONLINE", None)  # a request asks nothing of the network
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"kvplan web: http://{shown}:{listening.getsockname()[1]}{prefix}/  (Ctrl-C ends it)")
    if not _loopback(host):
        click.echo("kvplan web: listens beyond this machine: whoever reaches it may ask", err=True)
    config = uvicorn.Config(
        create_app(prefix), log_level="error", access_log=False, timeout_keep_alive=10, server_header=False,
        h11_max_incomplete_event_size=64 << 10, ws="none", http=Timely,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def _export(folder: str, pyodide: str | None) -> None:
    try:
        from kvplan.web.export import export, size_words
    except ModuleNotFoundError as error:
        raise _lacking(error) from None
    os.environ.pop("KVPLAN_ONLINE", None)
    written = export(folder, pyodide)
    click.echo(
        f"{folder}: {size_words(written)}; serve it, for example: python -m http.server -d {shlex.quote(folder)}"
    )


def _lacking(error: ModuleNotFoundError) -> Exception:
    """What to install, where that is what lacks; else the error itself."""
    if (error.name or "").partition(".")[0] not in ("fastapi", "starlette", "uvicorn", "jinja2", "markupsafe"):
        return error
    return KvplanError(WANTED)


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(found[0], found[1], found[2])  # with its protocol: asyncio sets TCP_NODELAY by that
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found[4])
        listening.listen(128)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise KvplanError(
            f"--host {one_line(host, 60)} --port {port}: {words}; give another --port, or 0 for a free one"
        ) from None
    return listening


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
