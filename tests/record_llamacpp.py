"""Records what a libllama says of GGUF files, as cases: `python -m tests.record_llamacpp --library DIR FILE.gguf ...`

With --add the rows of other models stay as another library said them.
A file's header is kept, packed, with its length: no weights are read, so a sparse file of that length stands for it. The
rows go to tests/cases/llamacpp/contexts.jsonl, which `tests/planner/engines/test_llamacpp_against_libllama.py` reads.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path

import click

from planner.errors import KvplanError
from planner.lookup import model_spec
from profiler.verify_llama import verify_llama

CASES = Path(__file__).parent / "cases" / "llamacpp" / "contexts.jsonl"


def header_of(path: str) -> bytes:
    """The bytes before the first hole, which in a sparse file are the header."""
    with open(path, "rb") as file:
        end = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        return file.read(min(end, 1 << 24)).rstrip(b"\0")


def unpacked(row: dict[str, str], folder: Path) -> Path:
    """The sparse file of a recorded row."""
    path = folder / f"{row['model']}.gguf"
    with path.open("wb") as file:
        file.write(zlib.decompress(base64.b85decode(row["header"])))
        file.truncate(int(row["bytes"]))
    return path


@click.command()
@click.option("--library", required=True, help="The folder or file of a libllama.")
@click.option("--add", is_flag=True, help="Keep the recorded rows of other models.")
@click.argument("files", nargs=-1, required=True)
def main(library: str, add: bool, files: tuple[str, ...]) -> None:
    """Writes the cases anew."""
    names = {Path(file).stem for file in files}
    kept_rows = [json.loads(line) for line in CASES.read_text().splitlines()] if add else []
    rows = [row for row in kept_rows if row["model"] not in names]
    for file in files:
        name = Path(file).stem
        try:
            found = verify_llama(name, model_spec(file), file, library=library)
        except KvplanError as error:
            raise click.ClickException(f"{file}: {error}") from None
        if found.error:
            raise click.ClickException(f"{file}: {found.error}")
        kept = [one for one in found.contexts if one.agrees is not None]
        contexts = [
            {"question": dict(one.question), "kv_mib": round(one.kv_mib, 2), "state_mib": round(one.state_mib, 2), "cells": list(one.cells)}
            for one in kept
        ]  # fmt: skip
        packed = base64.b85encode(zlib.compress(header_of(file), 9)).decode()
        rows.append({"model": name, "version": found.version, "bytes": os.path.getsize(file), "header": packed, "contexts": contexts})  # fmt: skip
    CASES.parent.mkdir(exist_ok=True)
    CASES.write_text("".join(json.dumps(row) + "\n" for row in rows))
    click.echo(f"{len(rows)} files, {sum(len(row['contexts']) for row in rows)} contexts: {CASES}")


if __name__ == "__main__":
    main()
