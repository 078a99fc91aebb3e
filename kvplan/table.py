"""Lists the commands: name, module, and what `kvplan --help` says of each."""

from __future__ import annotations

# name -> (module with `command`, what `kvplan --help` says of it)
COMMANDS = {
    "estimate": ("planner.commands.estimate", "Memory of a model: KV cache to the byte, weights, and whether it fits."),
    "fit": ("planner.commands.fit", "Most sequences, longest context, fewest devices, which devices."),
    "speed": ("planner.commands.speed", "How fast: TTFT, TPOT, tokens a second, with range, bound, and what binds."),
    "plan": ("planner.commands.plan", "From a load and targets to devices, layout, formats, cost."),
    "simulate": (
        "planner.commands.simulate",
        "A server under a load, request by request: queueing, percentiles, KV occupancy.",
    ),
    "check": (
        "planner.commands.check",
        "The command that starts your server, pasted: does it start, how many requests, how fast.",
    ),
    "engines": ("planner.commands.engines", "What vLLM, SGLang, llama.cpp and others make of it, side by side."),
    "reconcile": (
        "kvplan.reconcile",
        "A server's log, benchmarks and /metrics: where every GiB went, how fast it should be.",
    ),
    "watch": ("kvplan.watch", "A running server's /metrics, beside what kvplan expects of it."),
    "accuracy": ("planner.commands.accuracy", "Our numbers beside measured ones, counted from case files."),
    "models": ("planner.commands.models", "The model catalogue."),
    "show": ("planner.commands.show", "A model's layers: cache kind, bytes a token, config fields behind each."),
    "gpus": ("planner.commands.gpus", "The device catalogue."),
    "sweep": ("planner.commands.sweep", "Any grid of questions to CSV or Parquet, here or on a Ray cluster."),
    "profile": ("profiler.commands.profile", "A model built and run here: bytes and speed beside their prediction."),
    "calibrate": ("profiler.commands.calibrate", "What this machine reaches, for --gpu local and every speed answer."),
    "report": (
        "reports.commands.report",
        "A report as a folder: HTML, Markdown, figures, tables; with --profile measured too.",
    ),
    "plot": ("reports.commands.plot", "One figure of a report as SVG, PNG or PDF."),
    "web": ("kvplan.web.command", "The same answers in a browser and over HTTP, on this machine."),
    "mcp": ("kvplan.mcp", "The same answers for agents: a Model Context Protocol server over stdio."),
    "completion": ("kvplan.completion", "Turns on completion in bash, zsh or fish."),
    "verify": ("profiler.commands.verify", "Our numbers against the real transformers implementation."),
}
# Names that commands had, and have still.
ALIASES = {"compare-models": "estimate"}
# What people call them -> the command that is meant.
MEANT = {
    "compare": "estimate", "memory": "estimate", "vram": "estimate", "kv": "estimate", "cache": "estimate", "calc": "estimate",
    "users": "fit", "capacity": "fit", "max": "fit", "concurrency": "fit", "throughput": "speed", "latency": "speed", "perf": "speed",
    "tps": "speed", "ttft": "speed", "cost": "plan", "price": "plan", "rent": "plan", "deploy": "plan", "load": "simulate",
    "log": "reconcile", "logs": "reconcile", "devices": "gpus", "hardware": "gpus", "cards": "gpus", "list": "models", "ls": "models",
    "search": "models", "info": "show", "inspect": "show", "layers": "show", "bench": "profile", "benchmark": "profile",
    "measure": "profile", "run": "profile", "serve": "web", "server": "web", "ui": "web", "gui": "web", "validate": "verify",
    "paste": "check", "completions": "completion", "autocomplete": "completion", "complete": "completion", "grid": "sweep", "chart": "plot", "figure": "plot", "html": "report",
}  # fmt: skip
# What people call a flag -> the flag that is meant, where the command has it.
MEANT_FLAGS = {
    "--context": "--seq", "--ctx": "--seq", "--context-length": "--seq", "--seq-len": "--seq", "--seqlen": "--seq",
    "--length": "--seq", "--tokens": "--seq", "--max-tokens": "--seq", "--n-ctx": "--seq", "--vram": "--memory", "--ram": "--memory",
    "--gpu-memory": "--memory", "--device": "--gpu", "--card": "--gpu", "--hardware": "--gpu", "--quant": "--dtype",
    "--quantization": "--dtype", "--precision": "--dtype", "--weights": "--dtype", "--cache-dtype": "--kv-dtype", "--kv": "--kv-dtype",
    "--kv-quant": "--kv-dtype", "--concurrency": "--batch", "--bs": "--batch", "--batch-size": "--batch", "--requests": "--batch",
    "--sequences": "--batch", "--users": "--batch", "--num-gpus": "--gpus", "--n-gpus": "--gpus", "--gpu-count": "--gpus",
    "--tensor-parallel": "--tp", "--pipeline-parallel": "--pp", "--output-tokens": "--answer", "--completion": "--answer",
    "--output-len": "--answer", "--input": "--prompt", "--input-len": "--prompt", "--prompt-tokens": "--prompt",
    "--format": "--json", "--qps": "--rate", "--rps": "--rate", "--sla": "--ttft", "--slo": "--ttft", "--file": "--output",
    "--out": "--output",
}  # fmt: skip
# The commands that hold our numbers against others' and against this machine.
CHECKS = ("accuracy", "verify", "calibrate")
