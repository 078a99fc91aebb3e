"""A page that has no server answers as the server does, and what is exported holds all that it imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the extra `web` is not installed")

from kvplan import outside
from kvplan.cli import main
from kvplan.web.export import MARK, PYODIDE, export
from kvplan.web.inpage import respond
from kvplan.web.screens import SCREENS, Asked
from planner.errors import KvplanError

ROOT = Path(__file__).parents[3]
QUESTION = "model=llama-3.1-8b&gpu=rtx-4090&seq=32k&batch=8"


@pytest.fixture(scope="module")
def pyodide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of the names that the npm package has."""
    folder = tmp_path_factory.mktemp("pyodide")
    for name in PYODIDE:
        (folder / name).write_text(f"// {name}")
    (folder / "package.json").write_text('{"version": "1.2.3"}')
    return folder


@pytest.fixture(scope="module")
def site(pyodide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(export(str(tmp_path_factory.mktemp("made") / "site"), str(pyodide)))


def ended(words: list[str]) -> int:
    with pytest.raises(SystemExit) as found:
        main(words)
    return int(found.value.code or 0)


def test_a_question_gives_the_json_and_the_csv_of_the_planner() -> None:
    found = outside.answer("estimate", {"model": "llama-3.1-8b", "gpu": "rtx-4090", "seq": "32k", "batch": "8"})
    status, kind, text = respond("GET", f"api/estimate?{QUESTION}")
    assert (status, kind) == (200, "application/json") and json.loads(text) == found.to_dict()
    assert respond("GET", f"api/estimate?{QUESTION}&format=csv")[2].splitlines()[0].startswith("schema_version,model,")
    command = "command=vllm+serve+Qwen%2FQwen3-8B&gpu=h100-sxm"
    assert json.loads(respond("GET", f"api/check?{command}")[2])["engine"] == "vllm"


@pytest.mark.parametrize(
    "address", ["", f"?{QUESTION}", f"answer?{QUESTION}", "check", "reconcile", f"compare?c={QUESTION}"]
)
def test_a_screen_is_the_servers_but_for_what_only_a_server_has(address: str) -> None:
    status, kind, text = respond("GET", address, base="/kvplan/")
    path, _, query = address.partition("?")
    there = SCREENS["GET", f"/{path}"](Asked(query, base="/kvplan/"))
    only = ("/kvplan/docs", "/kvplan/report")
    assert (status, kind) == (200, "text/html") and not any(word in text for word in only)
    kept = [line for line in there.splitlines() if line.strip() and not any(word in line for word in only)]
    assert kept == [line for line in text.splitlines() if line.strip()]


def test_a_pasted_log_is_reconciled() -> None:
    log = b"INFO vLLM API server version 0.9.0\nINFO Model loading took 14.9889 GiB and 3.2 seconds\n"
    status, _, text = respond("POST", "reconcile?gpu=l4", log, "text/plain")
    assert status == 200 and "14.99 GiB" in text


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("api/estimate?model=no-such-model", 404),
        ("api/estimate?model=gpt2&seq=0", 400),
        ("api/nothing", 404),
        ("nothing", 404),
        ("gguf?size=x", 404),
        ("answer?no_control=1", 400),
        ("api/estimate?model=./x.json", 404),
    ],
)
def test_what_is_wrong_is_one_line_with_its_status(address: str, status: int) -> None:
    found, kind, text = respond("GET", address)
    detail = json.loads(text)["detail"]
    assert (found, kind) == (status, "application/problem+json") and detail and "\n" not in detail


def test_the_export_holds_all_that_the_page_imports(site: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(site / "kvplan.zip").extractall(tmp_path)
    code = (
        "import sys; sys.path[:] = [one for one in sys.path if 'site-packages' not in one]; sys.path.insert(0, sys.argv[1])\n"
        "from kvplan.web.inpage import respond\n"
        "import kvplan, jinja2, yaml\n"
        "assert all(one.__file__.startswith(sys.argv[1]) for one in (kvplan, jinja2, yaml))\n"
        f"for address in ('?{QUESTION}', 'check?command=vllm+serve+gpt2&gpu=l4', 'plan?model=gpt2&gpu=l4&users=4', 'api/fit?{QUESTION}'):\n"
        "    status, kind, text = respond('GET', address)\n"
        "    assert status == 200, text\n"
        "assert respond('POST', 'reconcile', b'x', 'text/plain')[0] == 200\n"
        "assert not [one for one in sys.modules if one.partition('.')[0] in ('fastapi', 'starlette', 'click', 'pandas')]\n"
    )
    made = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-S", "-c", code, str(tmp_path)], env=made, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_export_answers_before_the_planner_has_started_and_asks_nobody_else(site: Path) -> None:
    text = (site / "index.html").read_text()
    assert 'id="verdict"' in text and "RTX-4090" in text and "static/inpage.js" in text
    assert "default-src 'none'" in text and "http://" not in text.replace("http://www.w3.org", "")
    assert (site / "pyodide" / "pyodide.asm.wasm").is_file()
    assert json.loads((site / MARK).read_text())["pyodide"] == "1.2.3"
    for name in ("check", "compare", "plan", "reconcile"):
        assert 'src="../static/inpage.js"' in (site / name / "index.html").read_text()


def test_the_same_code_exports_the_same_bytes(site: Path, pyodide: Path, tmp_path: Path) -> None:
    again = Path(export(str(tmp_path / "site"), str(pyodide)))
    names = sorted(path.relative_to(site) for path in site.rglob("*") if path.is_file())
    assert names and all((site / name).read_bytes() == (again / name).read_bytes() for name in names)
    export(str(again), str(pyodide))  # an earlier export is replaced


def test_a_folder_that_holds_something_else_is_left_alone(
    pyodide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").write_text("mine")
    assert ended(["web", "--static", str(tmp_path), "--pyodide", str(pyodide)]) == 1
    assert "holds something else" in capsys.readouterr().err and (tmp_path / "kept").read_text() == "mine"


def test_without_pyodide_the_line_says_how_to_get_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["web", "--static", str(tmp_path / "site"), "--pyodide", str(tmp_path)]) == 1
    assert "npm install pyodide" in capsys.readouterr().err and not (tmp_path / "site").exists()
    with pytest.raises(KvplanError, match="npm install pyodide"):
        export(str(tmp_path / "site"), None)
    assert ended(["web", "--pyodide", str(tmp_path)]) == 2


def test_what_a_browser_keeps_has_loaded_all_that_the_screens_load() -> None:
    code = (
        "import sys\n"
        "from kvplan.web.inpage import respond, warm\n"
        "warm()\n"
        "before = set(sys.modules)\n"
        f"for address in ('?{QUESTION}', 'check?command=vllm+serve+gpt2&gpu=l4', 'plan?model=gpt2&gpu=l4&users=4', 'compare?c={QUESTION}'):\n"
        "    assert respond('GET', address)[0] == 200\n"
        "assert respond('POST', 'reconcile?gpu=l4', b'x', 'text/plain')[0] == 200\n"
        "print(sorted(one for one in set(sys.modules) - before if one.startswith(('kvplan', 'jinja2'))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[]\n")
