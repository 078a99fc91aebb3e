"""The page in a real browser: answers follow the controls, a link is a configuration, nothing is asked of anybody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.browser import CHROMIUM, DRIVER, chromium

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("selenium", reason="the browser test needs selenium")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver here: apt-get install chromium chromium-driver"
)
ROOT = Path(__file__).resolve().parents[3]
LLAMA = "?model=llama-3.1-8b&gpu=rtx-4090&seq=32k&batch=8"
LOG = """INFO 05-01 vLLM API server version 0.9.0
INFO 05-01 LLM engine (v0.9.0) with config: model='meta-llama/Llama-3.1-8B', dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1
INFO 05-01 Model loading took 14.9889 GiB and 3.2 seconds
INFO 05-01 GPU KV cache size: 40,000 tokens
"""
DROP = """
const data = new DataTransfer(); data.items.add(new File([arguments[1]], arguments[0], {type: 'text/plain'}));
document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    words = [sys.executable, "-m", "kvplan", "web", "--port", "0"]
    server = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"http://\S+", server.stdout.readline())
    assert found is not None
    yield found.group()
    server.terminate()
    server.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def show(browser: Any, url: str, width: int = 1280, *, scheme: str = "light", script: bool = True) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    browser.get(url)


def until(said: Callable[[], Any], seconds: float = 60) -> Any:
    """What `said` returns once it is true; a machine under load may take long."""
    end = time.monotonic() + seconds
    while not (found := said()):
        assert time.monotonic() < end, "the page did not follow"
        time.sleep(0.05)
    return found


def text(browser: Any, what: str = "#verdict") -> str:
    return str(
        browser.execute_script(
            "const e = document.querySelector(arguments[0]); return e ? e.textContent.trim() : ''", what
        )
    )


def put(browser: Any, name: str, value: str) -> None:
    """Types a value into a control, as a person does."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    control = browser.find_element(By.NAME, name)
    control.send_keys(Keys.CONTROL, "a")
    control.send_keys(value)


def press(browser: Any, what: str) -> None:
    browser.execute_script("document.querySelector(arguments[0]).click()", what)


def test_it_loads_without_errors_and_asks_nobody_else(browser: Any, address: str) -> None:
    browser.get_log("performance")
    for page in ("", LLAMA, "check", "reconcile", "docs", "compare"):
        show(browser, address + page)
    assert browser.get_log("browser") == []
    asked = [
        message["params"]["request"]["url"]
        for message in (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert asked and [url for url in asked if not url.startswith((address, "data:"))] == []


def test_without_javascript_the_first_answer_is_there(browser: Any, address: str) -> None:
    show(browser, address + LLAMA, script=False)
    words = browser.page_source
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "DOES NOT FIT RTX-4090-24GB: short by" in words and "<svg" in words and 'type="submit"' in words


@pytest.mark.parametrize("spelling", ["Llama 3.1 8B", "meta-llama/Llama-3.1-8B", "llama_3.1_8b"])
def test_a_model_is_found_by_any_spelling(browser: Any, address: str, spelling: str) -> None:
    show(browser, f"{address}?model=gpt2&gpu=l4&seq=1k")
    put(browser, "model", spelling)
    until(lambda: text(browser, ".model").startswith("llama-3.1-8b,"))


def test_a_word_that_names_several_models_lists_them_as_links(browser: Any, address: str) -> None:
    show(browser, f"{address}?model=gpt2&gpu=l4&seq=1k")
    put(browser, "model", "llama 3.1")
    until(lambda: "3.1" in text(browser, ".near a"))


def test_the_verdict_the_bar_and_the_address_follow_length_and_device(browser: Any, address: str) -> None:
    show(browser, address + LLAMA)
    first, bar = text(browser), text(browser, "#bar svg desc")
    assert first.startswith("DOES NOT FIT RTX-4090-24GB")
    put(browser, "seq", "4k")
    until(lambda: text(browser).startswith("FITS RTX-4090-24GB"))
    assert text(browser, "#bar svg desc") != bar and "seq=4k" in browser.current_url
    put(browser, "gpu", "h100 sxm")
    until(lambda: "H100-SXM" in text(browser))
    put(browser, "gpu", "no such card")
    until(lambda: "no device is called" in text(browser))
    verdict = text(browser)
    browser.refresh()
    assert text(browser) == verdict


def test_a_link_that_would_make_it_fit_makes_it_fit(browser: Any, address: str) -> None:
    show(browser, address + LLAMA)
    links = browser.execute_script("return [...document.querySelectorAll('.fixes a')].map(a => a.href)")
    assert len(links) >= 2
    for link in links:
        browser.get(link)
        assert text(browser).startswith("FITS"), link


def test_two_are_compared_side_by_side(browser: Any, address: str) -> None:
    show(browser, address + LLAMA)
    press(browser, "#compare")
    until(lambda: text(browser, "h1") == "Side by side")
    press(browser, "#another")
    until(lambda: text(browser, "#compare"))
    put(browser, "kv_dtype", "fp8")
    until(lambda: "KV cache in fp8" in text(browser, ".model"))
    press(browser, "#compare")
    until(lambda: text(browser, "h1") == "Side by side")
    cells = browser.execute_script(
        "return [...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()))"
    )
    rows = {row[0]: row[1:] for row in cells}
    assert rows["KV cache"] == ["32.00 GiB (34,359,738,368 B) in bf16", "16.00 GiB (17,179,869,184 B) in fp8"]


def test_a_log_that_is_dropped_is_reconciled(browser: Any, address: str) -> None:
    show(browser, f"{address}?model=llama-3.1-8b&gpu=l4")
    browser.execute_script(DROP, "server.log", LOG)
    until(lambda: "vllm 0.9.0" in text(browser, ".ledger h2").lower())
    assert "14.99 GiB" in text(browser, ".ledger table")


def test_a_config_that_is_dropped_is_the_model(browser: Any, address: str) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 512}  # fmt: skip
    show(browser, f"{address}?gpu=l4&seq=128")
    browser.execute_script(DROP, "config.json", json.dumps(config))
    until(lambda: "2 layers" in text(browser, ".model"))
    assert "config=" in browser.current_url


@pytest.mark.parametrize("width, scheme", [(390, "light"), (390, "dark"), (1280, "dark")])
def test_nothing_runs_over_the_side_and_text_stands_out(browser: Any, address: str, width: int, scheme: str) -> None:
    for page in (LLAMA + "&engine=vllm", "check", "docs"):
        show(browser, address + page, width, scheme=scheme)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        ink, paper = browser.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        brightness = [sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 765 for colour in (ink, paper)]
        assert abs(brightness[0] - brightness[1]) > 0.6 and (brightness[1] < 0.5) == (scheme == "dark")


def test_every_control_is_reached_by_the_keyboard_and_has_a_label(browser: Any, address: str) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    show(browser, address + LLAMA)
    unlabelled = browser.execute_script(
        "return [...document.querySelectorAll('input:not([type=hidden]), textarea')].filter(e => !e.labels.length).map(e => e.name)"
    )
    assert unlabelled == []
    browser.execute_script("for (const one of document.querySelectorAll('form details')) one.open = true")
    wanted = set(
        browser.execute_script(
            "return [...document.querySelectorAll('form input:not([type=hidden]), form textarea, form button')].map(e => e.name || e.id || e.type)"
        )
    )
    reached = set()
    for _ in range(90):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.add(
            browser.execute_script("const e = document.activeElement; return e.name || e.id || e.type || e.tagName")
        )
    assert wanted <= reached and len(wanted) > 20
    browser.find_element(By.NAME, "batch").send_keys(Keys.CONTROL, "a")
    browser.find_element(By.NAME, "batch").send_keys("1", Keys.ENTER)
    until(lambda: text(browser).startswith("FITS"))


def test_each_figure_has_a_name_a_description_and_a_table(browser: Any, address: str) -> None:
    show(browser, address + LLAMA)
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => [f.querySelector('svg').getAttribute('role'),"
        " f.querySelector('svg').getAttribute('aria-label'), f.querySelectorAll('table tbody tr').length])"
    )
    assert len(figures) == 4
    for role, label, rows in figures:
        assert role == "img" and len(label) > 60 and rows >= 4


CONTROLS = frozenset(("button", "link", "textbox", "searchbox", "combobox", "spinbutton", "checkbox", "radio", "slider", "DisclosureTriangle"))  # fmt: skip


def heard(browser: Any) -> list[dict[str, Any]]:
    """What a screen reader is given: the nodes of Chromium's accessibility tree, with their role and name."""
    browser.execute_cdp_cmd("Accessibility.enable", {})
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        {
            "role": node.get("role", {}).get("value", ""),
            "name": (node.get("name", {}).get("value") or "").strip(),
            "live": any(
                one["name"] == "live" and one["value"].get("value") in ("polite", "assertive")
                for one in node.get("properties", ())
            ),
        }
        for node in nodes
        if not node.get("ignored")
    ]


@pytest.mark.parametrize("page", [LLAMA, "compare?c=model%3Dgpt2%26gpu%3Dl4&c=model%3Dllama-3.1-8b%26gpu%3Dl4", "check?command=vllm+serve+gpt2&gpu=l4", "reconcile"])  # fmt: skip
def test_a_screen_reader_has_a_name_for_every_control_and_figure(browser: Any, address: str, page: str) -> None:
    show(browser, address + page)
    browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
    nodes = heard(browser)
    nameless = [
        node
        for node in nodes
        if node["role"] in CONTROLS | {"image", "img", "figure", "table", "region", "form"} and not node["name"]
    ]
    assert nameless == []
    assert any(node["role"] == "main" for node in nodes) and any(node["role"] == "heading" for node in nodes)
    assert sum(node["role"] in CONTROLS for node in nodes) >= 4


def test_a_screen_reader_hears_the_verdict_and_reads_a_table_behind_each_figure(browser: Any, address: str) -> None:
    show(browser, address + LLAMA)
    live = [node for node in heard(browser) if node["live"] and node["role"] == "status"]
    assert len(live) == 2  # the verdict, and which file was dropped
    browser.execute_script("document.getElementById('verdict').mine = true")
    put(browser, "seq", "9k")
    until(lambda: "9k tokens" in text(browser, ".model"))
    assert (
        browser.execute_script("const e = document.getElementById('verdict'); return e.mine && e.getAttribute('role')")
        == "status"
    )
    browser.execute_script("for (const one of document.querySelectorAll('figure details')) one.open = true")
    nodes = heard(browser)
    figures = [node["name"] for node in nodes if node["role"] == "image" or node["role"] == "img"]
    tables = [node["name"] for node in nodes if node["role"] == "table"]
    assert len(figures) == 4
    for name in figures:
        assert any(table and name.startswith(table) for table in tables), (name, tables)


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page without a server of ours, under a path, as a web host serves it."""
    package = os.environ.get("KVPLAN_PYODIDE")
    if not package:
        pytest.skip("KVPLAN_PYODIDE does not name the npm package pyodide")
    root = tmp_path_factory.mktemp("host")
    words = [sys.executable, "-m", "kvplan", "web", "--static", str(root / "size"), "--pyodide", package]
    subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/size/"
        server.shutdown()


def test_the_page_without_a_server_answers_by_itself(browser: Any, static: str) -> None:
    browser.get_log("browser"), browser.get_log("performance")
    show(browser, static)
    assert text(browser).startswith("FITS RTX-4090-24GB"), "the first answer is in the file"
    show(browser, static + LLAMA)
    until(lambda: text(browser).startswith("DOES NOT FIT RTX-4090-24GB"), 300)
    put(browser, "seq", "4k")
    until(lambda: text(browser).startswith("FITS RTX-4090-24GB"))
    assert "seq=4k" in browser.current_url
    press(browser, "nav a[href$=check]")
    until(lambda: "command" in browser.page_source and browser.current_url.endswith("/check"))
    fill = "document.querySelector(`[name=${arguments[0]}]`).value = arguments[1]"
    browser.execute_script(fill, "command", "vllm serve Qwen/Qwen3-8B --max-model-len 16k")
    browser.execute_script(fill, "gpu", "h100-sxm")
    press(browser, "form button")
    until(lambda: "vllm" in text(browser).lower())
    browser.back()
    browser.back()
    until(lambda: text(browser).startswith("FITS RTX-4090-24GB"))
    browser.execute_script(DROP, "server.log", LOG)
    until(lambda: "Closes" in text(browser) or "close" in text(browser))
    assert browser.get_log("browser") == []
    asked = [
        message["params"]["request"]["url"]
        for message in (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert asked and [url for url in asked if not url.startswith((static, "data:", "blob:"))] == []


KEPT = (
    "const done = arguments[0]; caches.open('kvplan-started').then(async (store) => {"
    " const keys = await store.keys(); const found = keys.length ? await (await store.match(keys[0])).arrayBuffer() : null;"
    " done([keys.length, found ? found.byteLength : 0]); })"
)
SPOIL = (
    "const done = arguments[0]; caches.open('kvplan-started').then(async (store) => {"
    " const keys = await store.keys(); await store.put(keys[0], new Response(new Uint8Array(4096))); done(true); })"
)


def test_a_later_visit_begins_with_the_memory_that_the_first_has_kept(browser: Any, static: str) -> None:
    show(browser, static + LLAMA)
    until(lambda: text(browser).startswith("DOES NOT FIT RTX-4090-24GB"), 300)
    until(lambda: browser.execute_async_script(KEPT)[1] > 10 << 20, 300)
    show(browser, static + LLAMA + "&kv_dtype=int4")
    until(
        lambda: "KV cache in int4" in browser.execute_script("return document.querySelector('main').textContent"), 300
    )
    press(browser, "nav a[href$=check]")
    until(lambda: browser.current_url.endswith("/check") and "command" in browser.page_source)
    assert browser.execute_async_script(KEPT)[0] == 1 and browser.get_log("browser") == []


def test_a_kept_memory_that_does_not_start_is_passed_over(browser: Any, static: str) -> None:
    show(browser, static)
    until(lambda: browser.execute_async_script(KEPT)[1] > 10 << 20, 300)
    browser.execute_async_script(SPOIL)
    show(browser, static + LLAMA)
    until(lambda: text(browser).startswith("DOES NOT FIT RTX-4090-24GB"), 300)
    until(lambda: browser.execute_async_script(KEPT)[1] > 10 << 20, 300)
    browser.get_log("browser")
