"""Makes frozen dataclasses whose methods are shared, for the classes that commands load.

The standard decorator writes the source of every method of every class and compiles it: 78 of the 206 million
instructions of a plain answer. Here the classes share what that source would do. All else is as usual: `fields`,
`replace` and `asdict` work, and standard frozen dataclasses may inherit from these; these inherit from none.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, fields
from dataclasses import dataclass as standard
from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as dataclass
    from typing import Any


def _init(cls: type) -> Callable[..., None]:
    """Returns an `__init__` that takes the fields of `cls` by position or by name."""
    names = tuple(field.name for field in fields(cls))
    known = frozenset(names)
    defaults = {field.name: field.default for field in fields(cls) if field.default is not MISSING}
    makers = [(field.name, field.default_factory) for field in fields(cls) if field.default_factory is not MISSING]

    def __init__(self: Any, /, *given: Any, **named: Any) -> None:
        values = self.__dict__
        values.update(defaults)
        if given:
            values.update(zip(names, given, strict=False))
        if named:
            free = known if not given else known.difference(names[: len(given)])
            if not named.keys() <= free:
                wrong = ", ".join(repr(name) for name in named if name not in free)
                raise TypeError(f"{cls.__name__} has no field {wrong}, or got it twice; its fields: {', '.join(names)}")
            values.update(named)
        for name, maker in makers:
            if name not in values:
                values[name] = maker()
        if len(values) < len(names) or len(given) > len(names):
            raise TypeError(f"{cls.__name__} takes {', '.join(names)}: got {', '.join(values)}")

    return __init__


def _setattr(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _repr(self: Any) -> str:
    shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{type(self).__qualname__}({shown})"


def _compare(cls: type) -> tuple[Callable[[Any, object], bool], Callable[[Any], int]]:
    """Returns `__eq__` and `__hash__` over the fields of `cls` that are compared."""
    key = attrgetter(*(field.name for field in fields(cls) if field.compare))

    def __eq__(self: Any, other: object) -> bool:
        return bool(key(self) == key(other)) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(key(self))

    return __eq__, __hash__


if not TYPE_CHECKING:

    def dataclass(*, frozen: bool, eq: bool = True, repr: bool = True) -> Callable[[type], type]:
        """Does what `dataclasses.dataclass` does for a frozen class that inherits from no other dataclass.

        >>> @dataclass(frozen=True)
        ... class Point:
        ...     "Is somewhere."
        ...     x: int
        ...     y: int = 0
        >>> Point(1), Point(1) == Point(1, y=0), Point(1, 2) == Point(1)
        (Point(x=1, y=0), True, False)
        """
        assert frozen

        def shared(cls: type) -> type:
            own = dict(vars(cls))
            standard(init=False, repr=False, eq=False)(cls)
            cls.__dataclass_params__.frozen = True  # so that a standard frozen dataclass may inherit from it
            cls.__init__, cls.__setattr__, cls.__delattr__ = _init(cls), _setattr, _delattr
            if repr and "__repr__" not in own:
                cls.__repr__ = _repr
            if eq:
                cls.__eq__, cls.__hash__ = _compare(cls)
            return cls

        return shared
