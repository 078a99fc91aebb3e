"""What mlx-lm prints of memory, and PyTorch's own words where no server is named."""

from __future__ import annotations

from planner.engines.mlx import score_bytes
from planner.memory.estimate import Estimate
from planner.reconcile.facts import Run
from planner.reconcile.ledger import Draft, Entry, Figure, Given
from planner.reconcile.model import estimate_of, spec_of


def mlx(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of one mlx-lm run: the weights against what Metal recommends, and the most memory held."""
    spec = spec_of(run, given, made)
    found = estimate_of(run, given, made, spec=spec, seq=given.max_model_len or 1) if spec else None
    weights = None
    if found is not None and found.spec.weights_known:
        from planner.engines.device_memory import weights_loaded

        weights = weights_loaded(found)
    fitted = run.bytes("card_gib") is not None  # LM Studio's own fit, not Metal's warning
    card = run.bytes("card_gib") or run.bytes("card_mib")
    loaded = run.bytes("weights_mib") or run.bytes("weights_gib")
    made.add(Entry("most that Metal recommends", card), Entry("weights", loaded, weights))
    made.add(Entry("most memory held", run.bytes("peak_gb") or run.bytes("peak_gib")))
    _a_token(run, made, found)
    if not fitted and card is not None and loaded is not None:
        made.note("weights above nine tenths of what Metal recommends: sudo sysctl iogpu.wired_limit_mb=N raises it")


def _a_token(run: Run, made: Draft, estimate: Estimate | None) -> None:
    """What LM Studio says of a token of context: K and V, and the scores of a prefill step, beside ours."""
    tokens, scores = run.whole("token_bytes"), run.whole("score_bytes")
    if estimate is None:
        return
    for name, logged, ours in (
        ("K and V of a token, B", tokens, estimate.kv_bytes_per_token),
        ("scores of a token, B", scores, score_bytes(estimate, 1)),
    ):
        if logged is not None:
            made.add_figures(Figure(name, float(logged), float(ours), float(ours), "as LM Studio counts it"))


def torch(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of an error of PyTorch: what the card has, what was held and what was asked for."""
    used = run.bytes("oom_used_gib")
    made.add(
        Entry("card", run.bytes("oom_card_gib", poorest=True)),
        Entry("held by this process", used),
        Entry("held by PyTorch's tensors", run.bytes("oom_torch_gib")),
        Entry("asked for", run.bytes("oom_gib") or run.bytes("oom_mib")),
        Entry("free", run.bytes("oom_free_gib") or run.bytes("oom_free_mib")),
    )
    made.miss("which server this is: its log from the start")
