"""What would make a request fit: every change that is called enough is tried and fits."""

from __future__ import annotations

import shlex

import pytest

from planner.catalogue.entries import find_device
from planner.lookup import capacity, model_spec
from planner.memory.advice import Change, advise
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request, device_capacity
from planner.options.model import request_of
from planner.options.tables import ESTIMATE, quick_values, read_values

L4 = device_capacity(find_device("L4"))
CASES = {
    "a longer context than fits": (model_spec("llama-3.1-8b"), Request(131072), L4),
    "more sequences than fit": (model_spec("llama-3.1-8b"), Request(8192, 64), L4),
    "weights larger than the device": (model_spec("llama-3.1-70b"), Request(8192), L4),
    "a latent that no rank splits": (model_spec("deepseek-v3"), Request(8192, 4), L4),
    "a state model": (model_spec("mamba-2.8b"), Request(1000, 5000), L4),
    "nothing could ever fit": (model_spec("llama-3.1-8b"), Request(8192), Capacity("tiny", 1 << 20)),
}


def shortened(name: str) -> Estimate:
    spec, request, room = CASES[name]
    answer = estimate(spec, request, room)
    assert answer.fits is False
    return answer


def retried(answer: Estimate, change: Change) -> Estimate:
    """The same question with the change's own flags added, read as a user would type them."""
    request = answer.request
    asked = {"--seq": str(request.seq_tokens), "--batch": str(request.batch)}
    words = shlex.split(change.flags)
    asked.update(zip(words[::2], words[1::2], strict=True))
    values = quick_values([word for pair in asked.items() for word in pair], ESTIMATE)
    assert values is not None
    room = capacity(values["gpu"], None) if values["gpu"] else answer.capacity
    return estimate(answer.spec, request_of(read_values(ESTIMATE, values), int(asked["--seq"])), room)


@pytest.mark.parametrize("name", CASES)
def test_a_change_called_enough_fits_when_its_flags_are_typed(name: str) -> None:
    answer = shortened(name)
    for change in advise(answer):
        assert retried(answer, change).fits is change.fits


@pytest.mark.parametrize("name", CASES)
def test_a_gain_is_the_difference_on_the_fullest_device(name: str) -> None:
    answer = shortened(name)
    for change in advise(answer):
        if not change.flags.startswith("--gpu"):
            assert change.gain_bytes == answer.per_device.total_bytes - retried(answer, change).per_device.total_bytes


@pytest.mark.parametrize("name", CASES)
def test_at_most_three_changes_and_those_that_suffice_first(name: str) -> None:
    changes = advise(shortened(name))
    assert len(changes) <= 3
    assert [change.fits for change in changes] == sorted((change.fits for change in changes), reverse=True)


@pytest.mark.parametrize(
    "name", ["a longer context than fits", "more sequences than fit", "weights larger than the device"]
)
def test_more_or_other_devices_are_always_among_them(name: str) -> None:
    assert any(change.flags.startswith(("--tp", "--gpu")) for change in advise(shortened(name)))


def test_fewer_tokens_or_sequences_are_the_most_that_fit() -> None:
    changes = {change.flags.split()[0]: change for change in advise(shortened("more sequences than fit"), limit=10)}
    most = int(changes["--batch"].flags.split()[1])
    spec, request, room = CASES["more sequences than fit"]
    assert not estimate(spec, Request(request.seq_tokens, most + 1), room).fits


def test_where_nothing_helps_nothing_is_promised() -> None:
    assert not any(
        change.fits and not change.flags.startswith("--gpu") for change in advise(shortened("nothing could ever fit"))
    )
