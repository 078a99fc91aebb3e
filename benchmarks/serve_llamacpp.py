"""A real llama-server on this machine: its log, its /metrics under load, what it says of itself, and its answers' timings.

    pip install --only-binary=:all: xllamacpp gguf
    python benchmarks/serve_llamacpp.py FOLDER

xllamacpp holds llama.cpp's own server as a library. The model is made here: Llama's shape with random weights, 4 M
parameters in f16, so nothing is downloaded. FOLDER gets server.log (as of -lv 4), metrics-1.txt and metrics-2.txt (before and after
the load of four users), props.json, and answers.jsonl: a line an answer, alone, with the timings that the server wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, VOCABULARY, POSITIONS = 4, 256, 4, 2, 64, 768, 1024, 2048
SLOTS, SECONDS_TO_START = 4, 120
ALONE = ((64, 64), (256, 64), (512, 64), (1024, 64))  # prompt and answer tokens of requests that run alone
UNDER_LOAD = (256, 64)
EACH = 4  # requests of each of the users


def write_model(path: Path) -> None:
    """A GGUF file of Llama's shape with random weights and a vocabulary of its own."""
    import gguf
    import numpy as np

    made = gguf.GGUFWriter(str(path), "llama")
    made.add_name("random-4m")
    made.add_block_count(LAYERS)
    made.add_context_length(POSITIONS)
    made.add_embedding_length(HIDDEN)
    made.add_feed_forward_length(FEED_FORWARD)
    made.add_head_count(HEADS)
    made.add_head_count_kv(KV_HEADS)
    made.add_key_length(HEAD_DIM)
    made.add_value_length(HEAD_DIM)
    made.add_rope_dimension_count(HEAD_DIM)
    made.add_layer_norm_rms_eps(1e-5)
    made.add_vocab_size(VOCABULARY)
    made.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [f"\u2581w{number}" for number in range(VOCABULARY - len(pieces))]
    made.add_tokenizer_model("llama")
    made.add_token_list(pieces)
    made.add_token_scores([0.0] * VOCABULARY)
    made.add_token_types([2, 3, 3, *[6] * 256, *[1] * (VOCABULARY - 259)])
    made.add_bos_token_id(1)
    made.add_eos_token_id(2)
    random = np.random.default_rng(18)

    def add(name: str, *shape: int) -> None:
        kind = np.float32 if len(shape) == 1 else np.float16
        values = np.ones(shape) if len(shape) == 1 else random.normal(0, 0.02, shape)
        made.add_tensor(name, values.astype(kind))

    add("token_embd.weight", VOCABULARY, HIDDEN)
    add("output_norm.weight", HIDDEN)
    add("output.weight", VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        add(f"{block}.attn_norm.weight", HIDDEN)
        add(f"{block}.ffn_norm.weight", HIDDEN)
        add(f"{block}.attn_q.weight", HEADS * HEAD_DIM, HIDDEN)
        add(f"{block}.attn_k.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        add(f"{block}.attn_v.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        add(f"{block}.attn_output.weight", HIDDEN, HEADS * HEAD_DIM)
        add(f"{block}.ffn_gate.weight", FEED_FORWARD, HIDDEN)
        add(f"{block}.ffn_up.weight", FEED_FORWARD, HIDDEN)
        add(f"{block}.ffn_down.weight", HIDDEN, FEED_FORWARD)
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


def serve(model: str, threads: int) -> None:
    """Runs the server until its standard input ends; its first line of output is its address."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx, params.n_parallel, params.endpoint_metrics = POSITIONS * SLOTS, SLOTS, True
    params.verbosity = 4  # from 4 on the log says how much cache the server got
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    del server


def ask(url: str, body: dict[str, Any] | None = None) -> str:
    """The text that the server answers with."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        text: str = answer.read().decode()
    return text


def complete(url: str, lengths: tuple[int, int], first: int) -> dict[str, Any]:
    """The timings of one request of so many prompt and answer tokens; no two prompts begin alike."""
    prompt, answer = lengths
    tokens = [1, *(259 + (first * 7919 + 31 * place) % (VOCABULARY - 259) for place in range(prompt - 1))]
    body = {"prompt": tokens, "n_predict": answer, "ignore_eos": True, "cache_prompt": False, "temperature": 0.0}
    found: dict[str, Any] = json.loads(ask(f"{url}/completion", body))
    return {"model": "random-4m", "timings": found["timings"]}


def record(url: str, folder: Path) -> None:
    """Requests alone, then four users, with /metrics before and after."""
    complete(url, UNDER_LOAD, 0)  # the first is slower
    alone = [complete(url, lengths, number) for number, lengths in enumerate(ALONE, 1)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in alone))
    (folder / "props.json").write_text(json.dumps(json.loads(ask(f"{url}/props")), indent=1) + "\n")
    (folder / "metrics-1.txt").write_text(ask(f"{url}/metrics"))

    def user(number: int) -> None:
        for turn in range(EACH):
            complete(url, UNDER_LOAD, 100 + EACH * number + turn)

    began, users = time.monotonic(), [threading.Thread(target=user, args=(number,)) for number in range(SLOTS)]
    for thread in users:
        thread.start()
    for thread in users:
        thread.join()
    print(f"{SLOTS * EACH} requests of {SLOTS} users in {time.monotonic() - began:.1f} s")
    (folder / "metrics-2.txt").write_text(ask(f"{url}/metrics"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--serve", metavar="MODEL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.threads)
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    model = asked.folder / "random-4m-F16.gguf"
    write_model(model)
    command = [sys.executable, __file__, str(asked.folder), "--threads", str(asked.threads), "--serve", str(model)]
    with (asked.folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            if not url:
                sys.exit(f"the server did not start: {asked.folder / 'server.log'}")
            record(url, asked.folder)
        finally:
            server.communicate("", timeout=60)
    print(f"written: {asked.folder}")


if __name__ == "__main__":
    main()
