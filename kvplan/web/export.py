"""Writes a page that needs no server of ours: files for any web host, with the planner run in the browser by Pyodide."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import jinja2
import markupsafe
import yaml

import kvplan
import model_configs
import planner
from kvplan import __version__
from kvplan.web.screens import SCREENS, Asked
from planner.errors import KvplanError, one_line
from planner.files.write import replace_folder

MARK = "kvplan-static.json"
"""The file by which a folder is known as one of ours, so that it may be replaced."""
PYODIDE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
"""What the browser loads of the npm package `pyodide`; README.md and package.json go along for its licence (MPL-2.0)."""
LICENCE = ("README.md", "package.json")
WANTED = "run `npm install pyodide` and name its folder: --pyodide node_modules/pyodide"
PACKAGES: tuple[ModuleType, ...] = (kvplan, planner, model_configs, yaml, jinja2, markupsafe)
"""Ours, and the libraries that the pages import and Pyodide's own archive lacks; their compiled parts are left behind."""
LEFT_OUT = ("planner/commands/", "planner/sweeps/", "kvplan/mcp.py", "kvplan/watch.py")
"""Folders that no page imports."""
KINDS = (".py", ".json", ".jsonl", ".yaml", ".html")
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'"
)
"""As the server's, and WebAssembly."""


def export(folder: str, pyodide: str | None) -> str:
    """Writes the static page into `folder` and returns its full name.

    pyodide   the folder of the npm package (default: node_modules/pyodide, here)

    Raises KvplanError: the package is not there or lacks a file; `folder` holds something else; it cannot be written.
    """
    target = Path(folder).expanduser()
    _check(target, folder)
    files = _runtime(Path(pyodide or "node_modules/pyodide").expanduser())
    files["kvplan.zip"] = code = _code()
    mark = sha256(code + files["pyodide/pyodide.asm.wasm"]).hexdigest()[:16]
    for path in sorted((Path(__file__).parent / "static").iterdir()):
        files[f"static/{path.name}"] = path.read_bytes()
    for (method, path_of), make in SCREENS.items():
        if method == "GET" and path_of != "/answer":
            name = path_of.strip("/")
            files[f"{name}/index.html" if name else "index.html"] = _shell(make, "../" if name else "./", mark).encode()
    files[MARK] = json.dumps({"kvplan": __version__, "pyodide": _version(files)}, indent=2).encode()
    return replace_folder(folder, files, "--static")


def _check(target: Path, shown: str) -> None:
    """Refuses to replace what is not an earlier export."""
    if not target.exists() or (target.is_dir() and ((target / MARK).is_file() or not any(target.iterdir()))):
        return
    raise KvplanError(
        f"--static {one_line(shown, 120) or '.'} holds something else; name a new folder, or one that kvplan web --static wrote"
    )


def _runtime(package: Path) -> dict[str, bytes]:
    """Reads Pyodide's files."""
    found = {}
    for name in (*PYODIDE, *LICENCE):
        try:
            found[f"pyodide/{name}"] = (package / name).read_bytes()
        except OSError as error:
            if name in LICENCE:
                continue
            words = f"{one_line(str(package / name), 120)}: {error.strerror or error}"
            raise KvplanError(f"--static needs Pyodide, and {words}; {WANTED}") from None
    return found


def _version(files: dict[str, bytes]) -> str | None:
    try:
        return str(json.loads(files["pyodide/package.json"])["version"])
    except (KeyError, ValueError, TypeError):
        return None


def _code() -> bytes:
    """Packs the planner, the pages and the libraries that they import; the same input gives the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in _sources():
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _sources() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*")):
            name = f"{package.__name__}/{path.relative_to(root).as_posix()}"
            if path.suffix in KINDS and path.is_file() and not name.startswith(LEFT_OUT):
                yield name, path


def _shell(make: Callable[[Asked], str], base: str, mark: str) -> str:
    """A page as it is before the planner has started: with its answer, and with the script that asks the planner.

    mark   tells one code from another, so that a browser forgets what it kept of an older one
    """
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    script = f'<script src="{base}static/inpage.js" data-code="{mark}" defer></script>'
    text = make(Asked(base=base, served=False))
    return text.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}\n{script}', 1)


def size_words(folder: str) -> str:
    """Counts the files of the export and their bytes, in words."""
    sizes = [os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names]
    return f"{len(sizes)} files, {sum(sizes) / 2**20:.1f} MiB"
