"""Strategies for specifications, from the annotations of their fields.

Legal is not the same as small: examples are small, because then they are fast, and readable once shrunk.
"""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from keras_ref.own_modules import fields as domains
from keras_ref.own_modules import registry
from scratch.layers.base import Layer


def _draw_numbers(plain: type, found: tuple[domains.Domain, ...]) -> SearchStrategy[Any]:
    """Small legal numbers: the range a domain calls small, else the first few from its lower end."""
    for d in found:
        if isinstance(d, domains.Integers):
            length = st.integers(d.shortest, 3) if d.length is None else st.just(d.length)
            low, high = max(d.low, d.small[0]), max(d.small[1], d.low)
            return length.flatmap(lambda n, low=low, high=high: st.tuples(*[st.integers(low, high)] * n))  # type: ignore[misc]
        if isinstance(d, (domains.AtLeast, domains.Above, domains.Between, domains.Real)):
            small = d.small or (getattr(d, "low", -2.0), getattr(d, "high", getattr(d, "low", -2.0) + 4))
            if plain is int:
                low = int(np.floor(small[0])) + (isinstance(d, domains.Above) and small[0] == d.low)
                return st.integers(low, max(low, int(min(small[1], low + 3 if d.small is None else small[1]))))
            inside = st.integers(1, 7).map(lambda k, s=small: s[0] + (s[1] - s[0]) * k / 8)  # type: ignore[misc]
            ends = [end for end in small if all(other.holds(end) for other in found)]
            return inside | st.sampled_from(ends) if ends else inside
    return st.integers(0, 3) if plain is int else st.integers(-16, 16).map(lambda k: k / 8)


def keeps_shape(thing: Any) -> bool:
    """Whether an activation (`thing`) keeps the shape of its input: not glu, which halves an axis of an even size."""
    return getattr(thing, "__name__", "") != "glu"


def needs_no_arguments(thing: Any) -> bool:
    """Whether an activation (`thing`) may be called on an array alone: not `threshold`, whose arguments lack defaults.

    A class, which is no activation, needs none.
    """
    if isinstance(thing, type):
        return True
    return all(
        p.default is not p.empty or p.kind is not p.KEYWORD_ONLY for p in inspect.signature(thing).parameters.values()
    )


def _list_registered_under(base: type) -> list[tuple[str, str]]:
    """(kind, name) of every definition that is a `base`: a field may hold a schedule, whichever it is."""
    return [
        (kind, name)
        for kind in registry.KINDS
        for name, thing in sorted(registry.every(kind).items())
        if isinstance(thing, type) and issubclass(thing, base)
    ]


@st.composite
def arguments(draw: DrawFn, name: str) -> dict[str, Any]:
    """Keyword arguments of the activation `name`, each from its domain; those with a default may be left out.

    Raises: ValueError for a name that is not registered; TypeError for an argument whose annotation states no domain.
    """
    function = registry.get("activation", name)
    hints, chosen = registry.read_hints(function), {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and (parameter.default is parameter.empty or draw(st.booleans())):
            hint = hints[parameter.name]
            chosen[parameter.name] = domains.check_value(name, parameter.name, hint, draw(values(hint)))
    return chosen


def values(hint: Any) -> SearchStrategy[Any]:
    """Legal values of a field annotation `hint`, small ones.

    Raises: TypeError for an annotation that states no domain; ValueError for a domain of a kind that is not registered.
    """
    options: list[SearchStrategy[Any]] = []
    for plain, found in domains.list_alternatives(hint):
        registered = next((d for d in found if isinstance(d, registry.Registered)), None)
        examples = next((d.examples for d in found if hasattr(d, "examples")), None)  # every legal kind, small
        if registered is not None:
            every = sorted(registry.every(registered.kind).items())
            options.append(
                st.sampled_from([n for n, thing in every if keeps_shape(thing) and needs_no_arguments(thing)])
            )
        elif examples is not None:
            options.append(st.sampled_from(tuple(examples() if callable(examples) else examples)))
        elif plain is type(None):
            options.append(st.none())
        elif get_origin(plain) is Literal:
            options.append(st.sampled_from(get_args(plain)))
        elif plain is bool:
            options.append(st.booleans())
        elif isinstance(plain, type) and (kinds := _list_registered_under(plain)):
            options.append(st.sampled_from(kinds).flatmap(lambda kind: specifications(*kind)))
        elif plain in (int, float) or plain is tuple or get_origin(plain) is tuple:
            options.append(_draw_numbers(plain if plain in (int, float) else int, found))
        else:
            raise TypeError(
                f"A field annotation must say what is legal. Received: {hint!r}. "
                "Write a strategy hook, or a domain with examples()."
            )
    return st.one_of(options)


@st.composite
def specifications(draw: DrawFn, /, kind: str, name: str, **fixed: Any) -> Any:
    """Legal specifications of the definition of this `kind` ("layer", "loss", …) and `name`, small ones.

    Fields in `fixed` have the values that are given. A class may offer `examples()`, whole specifications to choose
    from, where fields hold other specifications.
    Raises: ValueError for a kind or name that is not registered; TypeError for a field that states no domain.
    """
    cls = registry.get(kind, name)
    offered = getattr(cls, "examples", None)
    if offered is not None:
        return draw(st.sampled_from(list(offered())))
    hints = registry.read_hints(cls)
    chosen: dict[str, Any] = dict(fixed)
    for field in fields(cls):
        if field.init and field.name not in chosen:
            legal = values(hints[field.name])
            has_default = field.default is not MISSING or field.default_factory is not MISSING
            # defaults are what people use: they come up often, and examples shrink towards them
            if has_default and draw(st.booleans()):
                continue
            chosen[field.name] = draw(legal)
    try:
        return cls(**chosen)
    except ValueError:
        return _keep_compatible(draw, cls, chosen, fixed)


def _keep_compatible(draw: DrawFn, cls: type, chosen: dict[str, Any], fixed: dict[str, Any]) -> Any:
    """The specification for values that a rule on several fields refuses together.

    It begins with the defaults and takes each optional value, in any order, that is legal with those before it.
    """
    optional = [
        f.name
        for f in fields(cls)
        if f.init
        and f.name in chosen
        and f.name not in fixed
        and (f.default is not MISSING or f.default_factory is not MISSING)
    ]
    kept = {name: value for name, value in chosen.items() if name not in optional}
    try:
        spec = cls(**kept)
    except ValueError:
        from hypothesis import reject

        reject()
    for name in draw(st.permutations(optional)):
        try:
            spec = cls(**kept | {name: chosen[name]})
        except ValueError:
            continue
        kept[name] = chosen[name]
    return spec


@st.composite
def layers(draw: DrawFn, names: tuple[str, ...] | None = None) -> Layer:
    """Any legal specification of any registered layer, or of one of those in `names`.

    Raises: ValueError for a name that is not registered; TypeError for a field that states no domain.
    """
    found: Layer = draw(specifications("layer", draw(st.sampled_from(names or registry.names("layer")))))
    return found
