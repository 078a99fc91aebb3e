"""A frozen dataclass with shared methods does what the standard one does."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.frozen import dataclass

FIELDS = ("name", "size", "notes", "kept", "table")


@dataclass(frozen=True)
class Shared:
    """Has every kind of field that the planner's classes have."""

    name: str
    size: int
    notes: tuple[str, ...] = ()
    kept: int = dataclasses.field(default=1, repr=False)
    table: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)

    @cached_property
    def twice(self) -> int:
        return 2 * self.size


@dataclasses.dataclass(frozen=True)
class Standard:
    """Has the same fields."""

    name: str
    size: int
    notes: tuple[str, ...] = ()
    kept: int = dataclasses.field(default=1, repr=False)
    table: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True)
class Heir(Shared):
    """Inherits from it the standard way."""

    more: int = 0


VALUES = st.lists(st.integers(0, 2), max_size=6)
NAMED = st.dictionaries(st.sampled_from((*FIELDS, "unknown")), st.integers(0, 2), max_size=5)


def made(cls: Any, values: list[int], named: dict[str, int]) -> Any:
    """The object, or None where the class does not take these."""
    try:
        return cls(*values, **named)
    except TypeError:
        return None


@given(VALUES, NAMED)
def test_the_fields_are_those_of_the_standard_class_or_both_refuse(values: list[int], named: dict[str, int]) -> None:
    ours, theirs = made(Shared, values, named), made(Standard, values, named)
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert dataclasses.asdict(ours) == dataclasses.asdict(theirs)
        assert repr(ours) == repr(theirs).replace("Standard", "Shared")


@given(VALUES, VALUES)
def test_objects_are_equal_where_the_standard_ones_are(one: list[int], other: list[int]) -> None:
    ours, theirs = ([made(cls, values, {}) for values in (one, other)] for cls in (Shared, Standard))
    assert (ours[0] == ours[1]) == (theirs[0] == theirs[1])
    if None not in ours and ours[0] == ours[1]:
        assert hash(ours[0]) == hash(ours[1])


def test_it_cannot_be_changed() -> None:
    shared = Shared("a", 1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="'size'"):
        shared.size = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="'size'"):
        del shared.size
    assert (shared.twice, shared == Shared("a", 1)) == (2, True)  # what is kept is no field


def test_each_object_gets_its_own_default_table() -> None:
    assert Shared("a", 1).table is not Shared("a", 1).table


def test_it_can_be_replaced_copied_and_pickled() -> None:
    shared = Shared("a", 1, ("x",))
    assert dataclasses.replace(shared, size=2) == Shared("a", 2, ("x",))
    assert copy.deepcopy(shared) == pickle.loads(pickle.dumps(shared)) == shared


def test_a_standard_frozen_class_inherits_from_it() -> None:
    heir = Heir("a", 1, more=3)
    assert (heir.name, heir.more, heir.twice) == ("a", 3, 2)
    assert heir != Shared("a", 1)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(TypeError, match=r"name, size, notes"):
        Shared("a")  # type: ignore[call-arg]
