"""Makes the screens: from an address and a body to HTML. Knows no server, so that a page can run without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from kvplan import outside
from kvplan.web.state import CONTROLS, MOST_COMPARED, State
from kvplan.web.view import columns, unknown, view
from planner.answers.verdict import NAMES
from planner.catalogue.entries import devices, models
from planner.engines.registry import TABLE
from planner.errors import BadRequest, KvplanError
from planner.model.spec import ModelSpec
from planner.units import gib, human_bytes, human_seconds, human_tokens

FIRST = State({"model": "llama-3.1-8b", "gpu": "rtx-4090", "seq": "8k", "batch": "4"})
"""What the page shows where its address asks nothing."""
_PLAN = ("gpu", "users", "prompt", "answer", "ttft", "tpot", "engine", "max_model_len", "rope_scaling")


@dataclass(frozen=True)
class Asked:
    """One request for a screen.

    query    of the address, without its question mark
    body     what was posted; `kind` is its content type
    base     the path under which the pages lie, which ends in a slash
    served   a server answers; a page that runs in the browser alone has no HTTP interface and makes no report
    """

    query: str = ""
    body: bytes = b""
    kind: str = ""
    base: str = "/"
    served: bool = True

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the address, in its order."""
        return parse_qsl(self.query, keep_blank_values=True)

    def get(self, name: str, default: str = "") -> str:
        """The last value of a name in the address."""
        return dict(self.pairs).get(name, default)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True),
        auto_reload=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"svg": Markup, "gib": gib, "bytes": human_bytes, "seconds": human_seconds, "tokens": human_tokens}
    found.filters["engine"] = lambda name: NAMES.get(name, name)
    found.tests["number"] = lambda value: isinstance(value, (int, float))
    return found


@cache
def _names() -> dict[str, list[str]]:
    """What the controls offer; any spelling is understood beside these."""
    return {
        "model": sorted({name for entry in models() for name in (entry.name, entry.hf_id or entry.name)}),
        "gpu": [device.name for device in devices()],
        "engine": list(dict.fromkeys(name for name, _, _ in TABLE)),
    }


def render(template: str, asked: Asked, /, **values: Any) -> str:
    """Fills a template for the place where the pages lie."""
    return _templates().get_template(template).render(base=asked.base, served=asked.served, **values)


def _state(asked: Asked) -> State:
    return State.of(pair for pair in asked.pairs if pair[0] not in ("name", "size"))


def _shown(asked: Asked, state: State, spec: ModelSpec | None = None) -> str:
    """The answer, or what is wrong with what to do, as a piece of the page."""
    try:
        return render("answer.html", asked, view=view(state, spec), state=state, most=MOST_COMPARED)
    except KvplanError as error:
        return render("wrong.html", asked, words=str(error), near=unknown(error, state))


def page(asked: Asked) -> str:
    """Makes the first page: the controls, and the answer to what they say."""
    try:
        state = _state(asked)
    except KvplanError as error:
        shown = render("wrong.html", asked, words=str(error), near=[])
        return render("page.html", asked, state=FIRST, names=_names(), answer=Markup(shown))
    state = state if state.values else State(FIRST.values, state.compared)
    return render("page.html", asked, state=state, names=_names(), answer=Markup(_shown(asked, state)))


def answer(asked: Asked) -> str:
    """Makes the answer alone, as a piece of the page."""
    return _shown(asked, _state(asked))


def gguf(asked: Asked) -> str:
    """Answers for the header of a GGUF file that was dropped; the rest of the state is in the address."""
    from kvplan import pasted  # its patterns are slow to compile, and the first page wants none

    size = asked.get("size")
    if not size.isdigit() or len(size) > 15:
        raise BadRequest("size is wanted: the bytes of the whole file")
    state = _state(asked)
    try:
        spec = pasted.gguf_header(asked.body, name=asked.get("name", "the file"), size=int(size))
    except KvplanError as error:
        return render("wrong.html", asked, words=str(error), near=[])
    return _shown(asked, state, spec)


def compare(asked: Asked) -> str:
    """Shows up to four configurations side by side, each a query string in `c`."""
    addresses = [value for name, value in asked.pairs if name == "c"][:MOST_COMPARED]
    seen = columns([State.read(one) for one in addresses])
    shown = []
    for index, (state, found, wrong) in enumerate(seen):
        rest = tuple(addresses[:index] + addresses[index + 1 :])
        edit, without = State(state.values, rest).address, State({}, rest).address
        shown.append({"view": found, "wrong": wrong, "edit": edit, "without": without})
    names = list(dict.fromkeys(name for _, found, _ in seen if found for name, _ in found.facts))
    more = State(seen[-1][0].values if seen else {}, tuple(addresses)).address
    return render("compare.html", asked, shown=shown, names=names, more=more, most=MOST_COMPARED)


def plan(asked: Asked) -> str:
    """Ranks deployments by cost for a load, on the devices that are named."""
    state = _state(asked)
    try:
        found = outside.answer("plan", {"prompt": "1k", "answer": "256", **state.asked(_PLAN), "top": "6"})
    except KvplanError as error:
        return render("plan.html", asked, state=state, found=None, words=str(error))
    return render("plan.html", asked, state=state, found=found.to_dict(), words="")


def check(asked: Asked) -> str:
    """Says whether a pasted start command starts, and with how many requests."""
    from kvplan import pasted  # its patterns are slow to compile, and the first page wants none
    from planner.answers.check_words import verdict_text

    values, found, words, said = dict(asked.pairs), None, "", ""
    if values.get("command"):
        try:
            named = {name: values[name] for name in pasted.CHECK_PARAMETERS if values.get(name)}
            answer = pasted.check_command(values["command"], named)
            found, said = answer.to_dict(), verdict_text(answer)
        except KvplanError as error:
            words = str(error)
    return render("check.html", asked, asked=values, answer=found, words=words, said=said)


def log_page(asked: Asked) -> str:
    """Makes the form that takes a log."""
    return render("log.html", asked, ledgers=[], words="", gpu=asked.get("gpu"), model="")


def log(asked: Asked) -> str:
    """Makes the ledger of a log that was pasted into the form, or dropped on the page as it is (text/plain)."""
    from kvplan import pasted  # its patterns are slow to compile, and the first page wants none

    gpu, model, body = asked.get("gpu"), asked.get("model"), asked.body
    piece = asked.kind.startswith("text/plain")
    if not piece:
        form = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=20))
        body, gpu, model = form.get("log", "").encode(), form.get("gpu", gpu), form.get("model", model)
    ledgers: list[dict[str, Any]] = []
    words = ""
    try:
        ledgers = pasted.reconcile(body, {"gpu": gpu or None, "model": model or None}).to_dict()["ledgers"]
    except KvplanError as error:
        words = str(error)
    return render("ledgers.html" if piece else "log.html", asked, ledgers=ledgers, words=words, gpu=gpu, model=model)


SCREENS: dict[tuple[str, str], Callable[[Asked], str]] = {
    ("GET", "/"): page,
    ("GET", "/answer"): answer,
    ("GET", "/compare"): compare,
    ("GET", "/check"): check,
    ("GET", "/plan"): plan,
    ("GET", "/reconcile"): log_page,
    ("POST", "/reconcile"): log,
    ("POST", "/gguf"): gguf,
}
"""Method and path of each screen."""
LONG = ("/plan",)
"""Those that may take long."""

assert set(FIRST.values) <= set(CONTROLS)
