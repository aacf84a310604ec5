"""Domains of fields: which values are legal, stated in the annotation, checked when a specification is made.

    units: Annotated[int, AtLeast(1)] = 1

A domain has four parts: whether a value is legal (`holds`), the rule in words (`rule`), the canonical form of a legal
value (`normalise`), and the small values that examples draw (`small`). The Hypothesis strategies read the last: legal
is not the same as small.
"""

from __future__ import annotations

import math
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

Shape = tuple[int | None, ...]
Size = Callable[[int, int], int]
T = TypeVar("T")


def is_integer(value: object) -> bool:
    """Whether `value` is an integer, NumPy's included, and no boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether `value` is a real number that a float can be, and no boolean."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


class HashableDict(dict[str, Any]):
    """A dictionary that can be hashed, as a field of a frozen specification must be: equal ones have the same names."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


class Domain:
    """Base of all domains; a domain is a frozen dataclass."""

    @property
    def rule(self) -> str:
        """The rule, in words that follow the name of a field."""
        return "must be legal"

    def holds(self, value: Any) -> bool:
        """Whether `value` is legal."""
        return True

    def normalise(self, value: Any) -> Any:
        """The canonical form of a legal value (a list becomes a tuple, and so on)."""
        return value


@dataclass(frozen=True)
class AtLeast(Domain):
    """Numbers of at least `low`; examples are drawn from `small`, (lowest, highest)."""

    low: float
    small: tuple[float, float] | None = None

    @property
    def rule(self) -> str:
        return f"must be at least {self.low}"

    def holds(self, value: Any) -> bool:
        return is_real(value) and value >= self.low


@dataclass(frozen=True)
class Above(Domain):
    """Numbers greater than `low`; examples are drawn from `small`, (lowest, highest)."""

    low: float
    small: tuple[float, float] | None = None

    @property
    def rule(self) -> str:
        return f"must be greater than {self.low}"

    def holds(self, value: Any) -> bool:
        return is_real(value) and value > self.low


@dataclass(frozen=True)
class Between(Domain):
    """Numbers from `low` to `high`; `open_low` and `open_high` exclude the ends.

    Examples are drawn from `small`, (lowest, highest).
    """

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    small: tuple[float, float] | None = None

    @property
    def rule(self) -> str:
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"must lie in {left}{self.low}, {self.high}{right}"

    def holds(self, value: Any) -> bool:
        if not is_real(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return bool(above and below)


@dataclass(frozen=True)
class Real(Domain):
    """Any finite real number; examples are drawn from `small`."""

    small: tuple[float, float] | None = (-2.0, 2.0)

    @property
    def rule(self) -> str:
        return "must be a finite number"

    def holds(self, value: Any) -> bool:
        return is_real(value)


@dataclass(frozen=True)
class Integers(Domain):
    """A tuple of `length` integers (None: of any number), each at least `low`; an integer means `length` equal ones.

    Without a `length` there are at least `shortest`. Examples are drawn from `small`, (lowest, highest).
    """

    length: int | None = None
    low: int = 1
    small: tuple[int, int] = (1, 3)
    shortest: int = 0

    @property
    def rule(self) -> str:
        many = "integers" if self.length is None else f"{self.length} integer{'s' if self.length != 1 else ''}"
        return f"must be {many}, each at least {self.low}"

    def holds(self, value: Any) -> bool:
        if self.length is not None and is_integer(value):
            return bool(value >= self.low)
        if not isinstance(value, (tuple, list)) or not all(is_integer(v) and v >= self.low for v in value):
            return False
        return len(value) == self.length if self.length is not None else len(value) >= self.shortest

    def normalise(self, value: Any) -> tuple[int, ...]:
        if is_integer(value):
            return (int(value),) * (self.length or 1)
        return tuple(int(v) for v in value)


@dataclass(frozen=True)
class Numbers(Domain):
    """A tuple of at least one finite number, each at least `low`; with `increasing` each greater than the one before.

    `examples` are legal values to draw from.
    """

    low: float | None = None
    increasing: bool = False
    examples: tuple[tuple[float, ...], ...] = ()

    @property
    def rule(self) -> str:
        low = "" if self.low is None else f", each at least {self.low}"
        return f"must be a sequence of finite numbers{low}" + ", each greater than the one before" * self.increasing

    def holds(self, value: Any) -> bool:
        listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        if not (listed or getattr(value, "ndim", 0) == 1) or not len(value):
            return False
        above = all(is_real(v) and (self.low is None or v >= self.low) for v in value)
        return above and (not self.increasing or all(a < b for a, b in pairwise(value)))

    def normalise(self, value: Any) -> tuple[float, ...]:
        return tuple(getattr(v, "item", lambda v=v: v)() for v in value)


def _is_plain(hint: Any, value: Any) -> bool:
    """Whether `value` is of the type `hint`; a bool is not an int, and an int is a float."""
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return is_integer(value)
    if hint is float:
        return is_real(value)
    return isinstance(value, get_origin(hint) or hint)


def list_alternatives(hint: Any) -> Iterator[tuple[Any, tuple[Domain, ...]]]:
    """The members of an annotation `hint`, a (possibly annotated) union: pairs of a type and its domains."""
    if get_origin(hint) is typing.Annotated:
        inner, *metadata = get_args(hint)
        for plain, domains in list_alternatives(inner):
            yield plain, domains + tuple(m for m in metadata if isinstance(m, Domain))
    elif get_origin(hint) in (Union, types.UnionType):
        for member in get_args(hint):
            yield from list_alternatives(member)
    else:
        yield hint, ()


def _is_alike(value: Any, option: Any) -> bool:
    """Whether a value is of the type of an option: True is not 1."""
    return isinstance(value, type(option)) and isinstance(value, bool) == isinstance(option, bool)


def _is_member(hint: Any, domains: tuple[Domain, ...], value: Any) -> bool:
    if hint is type(None):
        return value is None
    if get_origin(hint) is Literal:
        return any(value is option or (value == option and _is_alike(value, option)) for option in get_args(hint))
    if (domains and get_origin(hint) is tuple) or hint is tuple:
        return all(domain.holds(value) for domain in domains)
    return _is_plain(hint, value) and all(domain.holds(value) for domain in domains)


def describe_rule(hint: Any) -> str:
    """The rule of an annotation `hint`, in words that follow the name of a field."""
    parts: list[str] = []
    for plain, domains in list_alternatives(hint):
        if domains and plain is not type(None):
            text = " and ".join(domain.rule for domain in domains)
            if plain is int:
                text = text.replace("must be ", "must be an integer, ", 1) if "integer" not in text else text
            parts.append(text)
        elif get_origin(plain) is Literal:
            parts.append("must be one of " + ", ".join(repr(option) for option in get_args(plain)))
        elif plain is type(None):
            parts.append("must be None")
        else:
            names = {bool: "must be True or False", int: "must be an integer", float: "must be a finite number"}
            parts.append(names.get(plain, f"must be of type {getattr(plain, '__name__', plain)}"))
    first, *rest = dict.fromkeys(parts)
    return " or ".join([first, *(part.removeprefix("must be ") for part in rest)])


def check_value(owner: str, name: str, hint: Any, value: Any) -> Any:
    """The canonical form of `value` for the field `name` of `owner`, whose annotation is `hint`.

    Raises: ValueError where the value is not legal, with the rule and the value.
    """
    return _check_member(owner, name, hint=hint, members=tuple(list_alternatives(hint)), value=value)


def _check_member(
    owner: str, name: str, hint: Any, members: tuple[tuple[Any, tuple[Domain, ...]], ...], value: Any
) -> Any:
    for plain, domains in members:
        if _is_member(plain, domains, value):
            for domain in domains:
                value = domain.normalise(value)
            return value
    raise ValueError(f"`{name}` of {owner} {describe_rule(hint)}. Received: {name}={value!r}. Pass a legal value.")


@cache
def read_hints(definition: Any) -> Mapping[str, Any]:
    """{field or parameter: annotation with its domains} of a `definition`, a class or function."""
    return get_type_hints(definition, include_extras=True)


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked when an instance is made.

    Each field takes the canonical form of its value. A method `check`, if there is one, then checks fields together.
    Both raise ValueError for what is not legal.
    """
    cls.__post_init__ = _check_fields  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


def _check_fields(self: Any) -> None:
    cls: Any = type(self)
    for name, hint, members in _list_members(cls):
        object.__setattr__(
            self, name, _check_member(cls.__name__, name, hint=hint, members=members, value=getattr(self, name))
        )
    if hasattr(self, "check"):
        self.check()


@cache
def _list_members(cls: Any) -> tuple[tuple[str, Any, tuple[tuple[Any, tuple[Domain, ...]], ...]], ...]:
    """The fields of a class: name, annotation, and the members of the annotation."""
    return tuple(
        (field.name, read_hints(cls)[field.name], tuple(list_alternatives(read_hints(cls)[field.name])))
        for field in fields(cls)
    )


# Domains of the entries of arrays: of inputs, targets and predictions ------------------------------------------------


@dataclass(frozen=True)
class Positive(Domain):
    """Entries greater than zero (a variance, a rate)."""


@dataclass(frozen=True)
class Binary(Domain):
    """Entries 0 and 1."""


@dataclass(frozen=True)
class Signs(Domain):
    """Entries -1 and 1."""


@dataclass(frozen=True)
class Probability(Domain):
    """Entries in (0, 1)."""


@dataclass(frozen=True)
class Distribution(Domain):
    """Entries in (0, 1) that sum to one along the last axis."""


@dataclass(frozen=True)
class OneHot(Domain):
    """One 1 along the last axis, 0 elsewhere."""


@dataclass(frozen=True)
class Index(Domain):
    """Integers from 0 up to but not including `below`."""

    below: int
