"""What a reader wants first: a row a model and device, from the answers of `fit` and `speed`, and a set-up by `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from planner.answers.fit import FitAnswer, fit_answer
from planner.answers.speed import SpeedAnswer, speed_on
from planner.answers.verdict import AT_MOST, UNCERTAIN
from planner.deployment.answer import start_command
from planner.deployment.cost import price_of, token_costs
from planner.deployment.plan import Plan
from planner.deployment.question import Question as PlanQuestion
from planner.deployment.search import search
from planner.engines.base import Options
from planner.errors import KvplanError
from planner.model.positions import too_long
from planner.model.spec import ModelSpec
from planner.options.engine import EngineAsked, laid_out, started_for
from planner.options.fit import FitAsked
from planner.options.lengths import lengths_of
from planner.options.load import GPU_VENDORS
from planner.options.readers import mix
from planner.options.speed import SpeedAsked
from planner.units import plural
from planner.workloads.load import load
from planner.workloads.targets import USUAL_TPOT_SECONDS, USUAL_TTFT_SECONDS, Targets
from reports.question import Question, geometric
from reports.words import seconds

COLUMNS = (
    "model", "device", "devices", "fits", "users_at_once", "user_tokens_per_s", "user_tokens_per_s_low", "user_tokens_per_s_high",
    "ttft_seconds", "ttft_seconds_low", "ttft_seconds_high", "usd_per_h", "usd_per_million_tokens", "engine", "why",
)  # fmt: skip
SPEED_COLUMNS = (
    "model", "device", "batch", "user_tokens_per_s", "user_tokens_per_s_low", "user_tokens_per_s_high", "ttft_seconds",
    "ttft_seconds_low", "ttft_seconds_high",
)  # fmt: skip
MOST_DRAWN = 1024
YES, NO, MAYBE = "yes", "no", "maybe"
TARGET_TTFT, TARGET_TPOT = seconds(USUAL_TTFT_SECONDS), seconds(USUAL_TPOT_SECONDS)


def headline(q: Question) -> pd.DataFrame:
    """Returns a row a model and device: fits, users at once, tokens/s a user, TTFT, cost. Speeds are at the load asked,
    the cost of a million tokens is with every user at once.
    """
    return pd.DataFrame([_row(q, m, p) for m in q.names for p in range(len(q.places))], columns=list(COLUMNS))


def beyond_positions(spec: ModelSpec, tokens: int) -> str | None:
    """Says why a length is refused: the model was not made for so many tokens; None where it was.

    >>> from planner.lookup import model_spec
    >>> beyond_positions(model_spec("gpt2"), 8192)
    '8k tokens are more than its 1k positions'
    """
    found = too_long(spec, tokens)
    return None if found is None else f"{found.short}{'; only with RoPE scaling' if found.mend else ''}"


def engine_asked(q: Question, model: int) -> EngineAsked | None:
    """Returns the engine of the report, started for the length that is asked; llama.cpp of a GGUF file."""
    if q.engine is None:
        return None
    spec = q.specs[model]
    gguf = spec.model_type.startswith("gguf ") and q.engine_assumed
    name, version = ("llamacpp", None) if gguf else q.engine
    return started_for(EngineAsked(name, version, Options()), q.request.seq_tokens)


def _row(q: Question, model: int, place: int) -> dict[str, Any]:
    spec, where = q.specs[model], q.places[place]
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    found |= {"model": q.names[model], "device": where.name, "devices": q.request.sharding.devices}
    price = None if where.device is None else price_of(where.device)
    found["usd_per_h"] = None if price is None else price.usd_per_hour * q.request.sharding.devices
    if (why := beyond_positions(spec, q.request.seq_tokens)) is not None:
        return found | {"fits": NO, "users_at_once": 0, "engine": "", "why": why}
    fit, engine, said = _fit(q, model, place)
    users = fit.most_sequences
    enough = users is None or users >= q.request.batch
    word = NO if not (fit.verdict.ok and enough) else YES
    if fit.verdict.word in (UNCERTAIN, AT_MOST):
        word = MAYBE
    why = said or fit.verdict.line()
    if users and not enough:
        why = f"holds {users:,} of the {q.request.batch:,} sequences at once"
    found |= {"fits": word, "users_at_once": users, "engine": "" if engine is None else engine.label, "why": why}
    if users == 0:
        return found
    full = _speed(q, fit, engine, place, users or q.request.batch, found["usd_per_h"])
    found["usd_per_million_tokens"] = full.get("usd_per_million_tokens")
    return found | _speed(q, fit, engine, place, q.request.batch, None)


def _fit(q: Question, model: int, place: int) -> tuple[FitAnswer, EngineAsked | None, str]:
    """The answer in the engine's pool, else in kvplan's own terms with the reason."""
    spec, room = q.specs[model], q.places[place].capacity
    engine, said = engine_asked(q, model), ""
    if engine is not None and room.kind != "host":
        try:
            request = laid_out(q.request, spec, engine)
            answer = fit_answer(FitAsked(spec, request, room, engine=engine))
            answer.verdict.line()
        except KvplanError as error:
            said = f"by memory alone: {error}"
        else:
            return answer, engine, said
    return fit_answer(FitAsked(spec, q.request, room)), None, said


def _speed(  # parameters: what a speed is asked for
    q: Question, fit: FitAnswer, engine: EngineAsked | None, place: int, batch: int, usd_per_h: float | None
) -> dict[str, Any]:
    """Speed with `batch` users at once, and what a million tokens then cost; empty where it cannot be said."""
    device = q.places[place].device
    if device is None:
        return {}
    prompt, answer = lengths_of(q.request.seq_tokens)
    asked = SpeedAsked(fit.asked.spec, fit.asked.request, (device,), prompt, answer, (batch,), engine=engine)
    try:
        found: SpeedAnswer = speed_on(device, asked)
    except KvplanError:
        return {}
    one = found.batches()[0]
    row = {name: one[name] for name in ("ttft_seconds", "ttft_seconds_low", "ttft_seconds_high")}
    for end, of in (("", ""), ("_low", "_high"), ("_high", "_low")):
        row[f"user_tokens_per_s{end}"] = 1 / one[f"tpot_seconds{of}"]
    if usd_per_h is not None:
        prefill, decode = one["ttft_seconds"], answer * one["tpot_seconds"]
        costs = token_costs(
            usd_per_hour=usd_per_h, requests_per_s=batch / (prefill + decode), prompt_tokens=prompt, cached_tokens=0,
            output_tokens=answer, prompt_seconds=prefill, cached_seconds=0, decode_seconds=decode,
        )  # fmt: skip
        row["usd_per_million_tokens"] = costs.blended
    return row


def user_speeds(q: Question) -> pd.DataFrame:
    """Returns tokens/s of each user against users at once, to as many as the headline says; expectation and range."""
    rows = []
    for m in q.names:
        for p, place in enumerate(q.places):
            if place.device is None or beyond_positions(q.specs[m], q.request.seq_tokens):
                continue
            fit, engine, _ = _fit(q, m, p)
            for batch in geometric(1, min(fit.most_sequences or 0, MOST_DRAWN), 1) if fit.most_sequences else ():
                found = _speed(q, fit, engine, p, batch, None)
                if found:
                    rows.append({"model": q.names[m], "device": place.name, "batch": batch, **found})
    return pd.DataFrame(rows, columns=list(SPEED_COLUMNS))


@dataclass(frozen=True)
class SetUp:
    """What to rent for the load of a report: the cheapest within the usual targets, in the model's own formats."""

    model: str
    words: str
    command: str | None = None


def set_ups(q: Question) -> tuple[SetUp, ...]:
    """Lists the set-ups, one a model, among the devices of the report that are known by name."""
    return tuple(_set_up(q, m) for m in q.names)


def _set_up(q: Question, model: int) -> SetUp:
    name, spec = q.names[model], q.specs[model]
    if (why := beyond_positions(spec, q.request.seq_tokens)) is not None:
        return SetUp(name, f"none: {why}")
    devices = tuple(
        place.device for place in q.places if place.device is not None and place.device.vendor in GPU_VENDORS
    )
    devices = tuple(device for device in devices if device.memory_bytes and device.dense_flops_per_s)
    if not devices or not spec.weights_known:
        return SetUp(name, "none: no device is named whose speed is known")
    prompt, answer = lengths_of(q.request.seq_tokens)
    if answer < 2:
        return SetUp(name, "none: an answer has two tokens at least")
    asked = load(mix(prompt, "--prompt"), mix(answer, "--answer"), users=q.request.batch)
    engine = engine_asked(q, model)
    question = PlanQuestion(
        spec, devices, asked, Targets(USUAL_TTFT_SECONDS, USUAL_TPOT_SECONDS), as_published=True,
        engine=None if engine is None else (engine.name, engine.version),
    )  # fmt: skip
    try:
        plans = search(question).plans
    except KvplanError as error:
        return SetUp(name, f"none: {error}")
    if not plans:
        targets = f"TTFT {TARGET_TTFT} and TPOT {TARGET_TPOT}"
        return SetUp(name, f"none of these devices carries the load within {targets}, at any count searched")
    return SetUp(name, _plan_words(plans[0]), start_command(plans[0]))


def _plan_words(plan: Plan) -> str:
    cost = "no price known"
    if plan.usd_per_hour is not None and plan.costs is not None:
        cost = f"{plan.usd_per_hour:,.2f} USD/h, {plan.costs.blended:,.2f} USD a million tokens at this load"
    layout = "" if plan.devices == 1 else f" ({plan.devices // plan.replicas} a replica)"
    return (
        f"{plan.devices} x {plan.candidate.device.name}{layout}: TTFT {seconds(plan.state.ttft_seconds)}, "
        f"{1 / plan.state.tpot_seconds:,.0f} tokens/s a user, {cost}"
    )


QUESTIONS = {
    "fits": "does it fit?",
    "users_at_once": "users at once",
    "user_tokens_per_s": "tokens/s a user, at this load",
    "ttft_seconds": "time to the first token (TTFT), at this load",
    "usd_per_h": "USD/h",
    "usd_per_million_tokens": "USD a million tokens, all at once",
}


def questions(frame: pd.DataFrame) -> pd.DataFrame:
    """Turns the table: a row a question, a column a model and device, in words."""
    from reports.cells import cell, missing

    several = frame["model"].nunique() > 1
    turned: dict[str, list[str]] = {"question": list(QUESTIONS.values())}
    for row in frame.to_dict("records"):
        name = f"{row['model']} on {row['device']}" if several else str(row["device"])
        words = []
        for column in QUESTIONS:
            value = row[column]
            text = cell(column, value)
            low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
            if not missing(low) and not missing(high):
                text += f" ({cell(column, low)} to {cell(column, high)})"
            if column == "users_at_once" and missing(value):
                text = "any number"
            words.append(text)
        turned[name] = words
    return pd.DataFrame(turned)


def counted(frame: pd.DataFrame) -> str:
    """Says how many combinations fit, in a sentence; the reason of the one where there is one."""
    if len(frame) == 1:
        row = frame.iloc[0]
        word = {YES: "Yes", NO: "No", MAYBE: "Maybe"}[row["fits"]]
        return f"{word}: {str(row['why']).rstrip('.')}."
    good = int((frame["fits"] == YES).sum())
    if good == len(frame):
        return f"All {len(frame)} combinations of model and device fit."
    if not good:
        return f"None of the {len(frame)} combinations of model and device fits."
    return f"{good} of {plural(len(frame), 'combination')} of model and device fit."


__all__ = ["SetUp", "beyond_positions", "counted", "headline", "questions", "set_ups"]
