"""Reads the text of /metrics by the official client's parser (extra `watch`), which loads only here."""

from __future__ import annotations

import os
import re

from planner.errors import KvplanError, one_line
from planner.files.read import read_text, visible
from planner.measured.metrics import Reading, Sample, reading

_HOST = re.compile(r"[\w.-]{1,200}:\d{1,5}(?:/[\w/.-]{0,200})?")
MOST_BYTES = 16 << 20
MOST_SAMPLES = 200_000
WANTED = "reading /metrics needs prometheus_client: pip install 'llm-kvplan[watch]'"


def read_metrics(name: str) -> Reading:
    """Reads the figures of a recorded /metrics; KvplanError, in one line, where there are none."""
    if _HOST.fullmatch(name) and not os.path.exists(name):
        raise KvplanError(
            f"{one_line(name, 80)} is no file and no address; write http://{one_line(name, 80)} for a server"
        )
    text = read_text(name, most_bytes=MOST_BYTES, what="a recorded /metrics")
    return parsed(text, one_line(name, 120))


def samples(text: str, where: str) -> list[Sample]:
    """Reads the samples of a text in Prometheus' format, by the official client's parser; KvplanError in one line."""
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ModuleNotFoundError:
        raise KvplanError(WANTED) from None
    found: list[Sample] = []
    try:
        for family in text_string_to_metric_families(text):
            found += [(one.name, one.labels, float(one.value)) for one in family.samples]
            if len(found) > MOST_SAMPLES:
                raise KvplanError(f"{where}: more than {MOST_SAMPLES:,} samples, which no server has")
    except KvplanError:
        raise
    except Exception as wrong:  # the parser raises what its text leads it to: ValueError, IndexError, KeyError ...
        raise KvplanError(f"{where}: is no text in Prometheus' format ({one_line(visible(str(wrong)), 80)})") from None
    return found


def parsed(text: str, where: str) -> Reading:
    """Reads the figures of a text; KvplanError, in one line, where it is none of an engine that is known."""
    found = reading(samples(text, where))
    if found is None:
        raise KvplanError(
            f"{where}: no figures of vLLM, SGLang, llama-server, TGI, TensorRT-LLM or Dynamo; name a server's /metrics"
        )
    return found
