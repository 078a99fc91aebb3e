"""Serves `kvplan mcp`: the answers for agents, as tools of a Model Context Protocol server over stdio. Needs the extra `mcp`.

A tool returns what `kvplan COMMAND --json` prints, with its exactness and assumptions. No file is opened, and nothing
is asked of the network.
"""

from __future__ import annotations

# parameters: each function here is a tool, whose arguments an agent names one by one.
import os
from typing import TYPE_CHECKING, Any

import click

from planner.errors import KvplanError, UnknownName

if TYPE_CHECKING:
    from mcp.server import MCPServer

WANTED = "kvplan mcp needs the official SDK: pip install 'llm-kvplan[mcp]'"
ABOUT = (
    "Memory, fit, speed and cost of serving a language model, before a GPU is rented. `exactness` says which figures are "
    "exact and which estimated; ranges are *_low and *_high; bytes, seconds and tokens are base units. Sizes are texts: "
    "8k tokens, 24GiB. A model is a name, a Hugging Face id, or the text of a config.json."
)


def server() -> MCPServer[Any]:
    """Builds the server with its tools.

    Raises KvplanError where the SDK is not installed.
    """
    try:
        from mcp.server import MCPServer
    except ImportError:
        raise KvplanError(WANTED) from None
    found: MCPServer[Any] = MCPServer("kvplan", instructions=ABOUT, log_level="ERROR")
    for tool in (estimate, fit, engines, speed, plan, check, reconcile, models, gpus):
        found.tool(structured_output=False)(tool)
    return found


@click.command(name="mcp", epilog="\b\nExample: kvplan mcp    (in an agent's list of servers)")
def command() -> None:
    """Serve the same answers to agents, as MCP tools: estimate, fit, engines, speed, plan, check, reconcile, models, gpus.

    It speaks over stdin and stdout and ends when they close. No file that an agent names is opened.
    """
    os.environ.pop("KVPLAN_ONLINE", None)  # an agent asks nothing of the network
    server().run("stdio")


def estimate(
    model: str,
    seq: str = "",
    batch: int = 1,
    gpu: str = "",
    memory: str = "",
    gpus: int = 1,
    dtype: str = "",
    kv_dtype: str = "",
    engine: str = "",
) -> str:
    """Counts KV cache (to the byte), weights and activations, and says whether they fit on `gpus` devices. seq: tokens, 8k."""
    return _answer("estimate", model=model, seq=seq, batch=batch, gpu=gpu, memory=memory, gpus=gpus if gpus > 1 else "",
                   dtype=dtype, kv_dtype=kv_dtype, engine=engine)  # fmt: skip


def fit(
    model: str,
    gpu: str = "",
    memory: str = "",
    seq: str = "",
    batch: int = 1,
    tp: int = 1,
    dtype: str = "",
    kv_dtype: str = "",
    engine: str = "",
    lengths: str = "",
) -> str:
    """Finds the most sequences at once, the longest context, the fewest devices, and which devices hold it. lengths: p50=800,p95=6000."""
    return _answer("fit", model=model, gpu=gpu, memory=memory, seq=seq, batch=batch, tp=tp, dtype=dtype, kv_dtype=kv_dtype,
                   engine=engine, lengths=lengths)  # fmt: skip


def engines(
    model: str, gpu: str = "", memory: str = "", seq: str = "", max_model_len: str = "", tp: int = 1, kv_dtype: str = ""
) -> str:
    """Compares what vLLM, SGLang, llama.cpp and others make of one request: pool, tokens, requests at once, and why."""
    return _answer(
        "engines", model=model, gpu=gpu, memory=memory, seq=seq, max_model_len=max_model_len, tp=tp, kv_dtype=kv_dtype
    )


def speed(
    model: str,
    gpu: str,
    prompt: str = "1k",
    answer: str = "256",
    batch: str = "1,8,32,128",
    tp: int = 1,
    dtype: str = "",
    kv_dtype: str = "",
    engine: str = "",
) -> str:
    """Estimates TTFT, TPOT and tokens a second at each batch: expected, range, bound, and what binds. Nothing is measured."""
    return _answer("speed", model=model, gpu=gpu, prompt=prompt, answer=answer, batch=batch, tp=tp, dtype=dtype,
                   kv_dtype=kv_dtype, engine=engine)  # fmt: skip


def plan(
    model: str,
    gpu: str,
    users: int = 0,
    rate: str = "",
    prompt: str = "1k",
    answer: str = "256",
    ttft: str = "",
    tpot: str = "",
    budget: str = "",
    top: int = 4,
) -> str:
    """Ranks deployments that carry a load within its targets, by cost. gpu: a list of up to 8, h100-sxm,l40s; give users, or rate: 5/s."""
    return _answer("plan", model=model, gpu=gpu, users=users or "", rate=rate, prompt=prompt, answer=answer, ttft=ttft, tpot=tpot,
                   budget=budget, top=top)  # fmt: skip


def check(command: str, gpu: str = "", memory: str = "", model: str = "", seq: str = "") -> str:
    """Says whether a start command or compose file starts (vllm serve ..., llama-server ...), and how many requests it holds. gpu: 2x3090."""
    from kvplan.pasted import check_command

    return _json(lambda: check_command(command, _given(gpu=gpu, memory=memory, model=model, seq=seq)).to_dict())


def reconcile(log: str, gpu: str = "", model: str = "", engine: str = "") -> str:
    """Reads the text of a server's start-up log: where every GiB went, beside what kvplan predicts, and why the two differ."""
    from kvplan.pasted import reconcile as ledgers

    return _json(lambda: ledgers(log.encode(), _given(gpu=gpu, model=model, engine=engine)).to_dict())


def models(query: str) -> str:
    """Lists models of the catalogue whose names hold the words of `query`."""
    from planner.catalogue.entries import models as find

    return _json(
        lambda: _some(
            [{"name": one.name, "hf_id": one.hf_id, "parameters": one.parameters} for one in find(query)], query
        )
    )


def gpus(query: str) -> str:
    """Lists devices of the catalogue whose names hold the words of `query`, with memory and bandwidth."""
    from planner.catalogue.entries import devices

    return _json(
        lambda: _some(
            [
                {
                    "name": one.name,
                    "memory_bytes": one.memory_bytes or None,
                    "bandwidth_bytes_per_s": one.bandwidth_bytes_per_s,
                }
                for one in devices(query)
            ],
            query,
        )
    )


def _some(rows: list[dict[str, Any]], query: str) -> list[dict[str, Any]]:
    if not rows:
        raise UnknownName(f"the catalogue has nothing under {query[:60]!r}; ask with fewer words")
    return rows[:50]


def _given(**values: Any) -> dict[str, Any]:
    """Keeps the arguments that were given: an empty text stands for none."""
    return {name: value for name, value in values.items() if value != ""}


def _answer(kind: str, **values: Any) -> str:
    from kvplan.outside import answer

    return _json(lambda: answer(kind, _given(**values)).to_dict())


def _json(make: Any) -> str:
    """Writes the answer as JSON; what is wrong becomes an error of the tool, in its one line."""
    from planner.terminal.output import to_json

    try:
        return to_json(make())
    except KvplanError as error:
        from mcp.server.mcpserver.exceptions import ToolError

        raise ToolError(str(error)) from None
