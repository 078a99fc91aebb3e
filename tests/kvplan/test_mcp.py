"""The answers for agents, asked over stdio by the SDK's own client."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from kvplan.cli import main

ROOT = Path(__file__).resolve().parents[2]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("estimate", {"model": "llama-3.1-8b", "seq": "8k", "gpu": "l4", "batch": 2}),
    ("fit", {"model": "gpt2", "gpu": "l4"}),
    ("engines", {"model": "gpt2", "gpu": "l4"}),
    ("speed", {"model": "gpt2", "gpu": "l4", "batch": "1"}),
    ("plan", {"model": "gpt2", "gpu": "l4", "users": 2, "prompt": "64", "answer": "16"}),
    ("check", {"command": "vllm serve Qwen/Qwen3-8B --max-model-len 8k", "gpu": "rtx-4090"}),
    ("reconcile", {"log": "INFO vLLM API server version 0.9.0\nINFO GPU KV cache size: 40,000 tokens\n"}),
    ("models", {"query": "llama-3.1"}),
    ("gpus", {"query": "l4"}),
    ("estimate", {"model": "/etc/passwd"}),
    ("estimate", {"model": "gpt2", "seq": "0"}),
    ("check", {"command": "rm -rf /", "gpu": "l4"}),
]


@pytest.fixture(scope="module")
def spoken() -> tuple[list[Any], list[tuple[bool, str]]]:
    """The tools that the server names, and (is an error, text) of each call."""
    from mcp.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    async def talk() -> tuple[list[Any], list[tuple[bool, str]]]:
        server = StdioServerParameters(command=sys.executable, args=["-m", "kvplan", "mcp"], cwd=str(ROOT))
        async with Client(stdio_client(server)) as client:
            tools = (await client.list_tools()).tools
            results = [await client.call_tool(name, arguments) for name, arguments in CALLS]
            return tools, [(bool(one.is_error), one.content[0].text) for one in results]

    return asyncio.run(asyncio.wait_for(talk(), 300))


def test_each_tool_has_a_description_and_typed_arguments(spoken: tuple[list[Any], Any]) -> None:
    tools = {tool.name: tool for tool in spoken[0]}
    assert {"estimate", "fit", "engines", "speed", "plan", "check", "reconcile"} <= set(tools)
    for tool in tools.values():
        assert 20 < len(tool.description) < 200
        assert all("type" in one for one in tool.input_schema["properties"].values())


def test_answers_are_those_of_the_command_line_with_their_exactness(spoken: tuple[Any, list[tuple[bool, str]]]) -> None:
    for (name, arguments), (wrong, said) in zip(CALLS[:9], spoken[1][:9], strict=True):
        assert not wrong and json.loads(said), (name, arguments, said)
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit):
        main(["estimate", "llama-3.1-8b", "--seq", "8k", "--gpu", "l4", "--batch", "2", "--json"])
    found = json.loads(spoken[1][0][1])
    assert found == json.loads(out.getvalue())
    assert found["exactness"]["kv_bytes"] == "exact" and found["assumptions"]


def test_what_is_wrong_is_an_error_of_the_tool_in_one_line(spoken: tuple[Any, list[tuple[bool, str]]]) -> None:
    for wrong, said in spoken[1][9:]:
        assert wrong and "\n" not in said and "Traceback" not in said
    assert "none is opened here" in spoken[1][9][1]
