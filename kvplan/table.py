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
    "reconcile": ("planner.commands.reconcile", "A server's start-up log: where every GiB went, and why it differs."),
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
    "verify": ("profiler.commands.verify", "Our numbers against the real transformers implementation."),
}
# Names that commands had, and have still.
ALIASES = {"compare-models": "estimate"}
# The commands that hold our numbers against others' and against this machine.
CHECKS = ("accuracy", "verify", "calibrate")
