"""Which architectures (a layer, all of its options, the shapes of its inputs) the properties of the layers are tried
on.

Building a layer in Keras costs more than a hundred of its gradients, so few architectures are drawn for each layer, the
same ones for every property, and several points for each. They are drawn from all legal ones, and chosen so that every
option comes up: each value of a choice, True and False, None and not, each kind of part inside.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from typing import Any, Literal, get_args, get_origin

import numpy as np
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st

from keras_ref import strategies as gt
from keras_ref.translation.departures import nested_specifications
from scratch import registry
from scratch.fields import list_alternatives
from scratch.layers.base import Layer
from scratch.model import Model

#: architectures of a layer: one for every five examples, and these at least; more where options ask for more
LEAST, SHARE = 5, 5
#: outputs of an example are smaller than this
LARGEST = 2.0**64
#: how many are drawn to choose from, and how many where those show too few options
CANDIDATES = (32, 128)


@dataclass(frozen=True)
class Architecture:
    """A layer and the shapes of its inputs, the batch first."""

    layer: Layer
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def model(self) -> Model:
        """The model of this layer alone."""
        return gt.model_of(self.layer, self.shapes)


@st.composite
def architectures(draw: st.DrawFn, name: str) -> Architecture:
    """Any legal specification of a layer, on any legal input."""
    layer = draw(gt.specifications("layer", name))
    return Architecture(layer, draw(gt.input_shapes_of(layer)))


@cache
def pool(name: str) -> tuple[Architecture, ...]:
    """The architectures of a layer."""
    size = max(LEAST, settings.default.max_examples // SHARE)
    return covering(architectures(name), "layer", name, size, lambda one: one.layer)


@cache
def losses(name: str) -> tuple[Any, ...]:
    """The specifications of a loss, as many as there are examples."""
    return covering(gt.specifications("loss", name), "loss", name, settings.default.max_examples)


def covering(
    strategy: st.SearchStrategy[Any], kind: str, name: str, size: int, spec_of: Callable[[Any], Any] = lambda one: one
) -> tuple[Any, ...]:
    """Of CANDIDATES examples those that show an option for the first time, and others up to the size."""
    for candidates in CANDIDATES:
        found = drawn(strategy, max(candidates, 2 * size), name)
        chosen: list[Any] = []
        seen: set[tuple[str, str, str]] = set()
        for one in found:
            if not seen.issuperset(shown := set(options(spec_of(one)))):
                seen |= shown
                chosen.append(one)
        if seen.issuperset(legal(kind, name)):
            break
    others = [one for one in found if one not in chosen]
    return tuple(chosen + others[: max(0, size - len(chosen))])


@cache
def legal(kind: str, name: str) -> frozenset[tuple[str, str, str]]:
    """(class, field, option) for every option of a definition's own fields."""
    cls = registry.get(kind, name)
    return frozenset(
        (name, field.name, option) for field in fields(cls) if field.init for option in legal_options(cls, field.name)
    )


def examples(strategy: st.SearchStrategy[Any], count: int, seeded: int = 0) -> list[Any]:
    """So many examples of a strategy, the same in every run and process."""
    found: list[Any] = []

    @seed(seeded)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(one: Any) -> None:
        found.append(one)

    collect()
    return found


def drawn(strategy: st.SearchStrategy[Any], count: int, name: str) -> list[Any]:
    """The different ones of so many examples, the same in every run and process."""
    different: list[Any] = []
    for one in examples(strategy, count, zlib.crc32(name.encode())):
        if one not in different:
            different.append(one)
    return different


def options(spec: Any) -> Iterator[tuple[str, str, str]]:
    """(class, field, option) for every choice that a specification and the parts inside it make."""
    for part in nested_specifications(spec):
        for field in fields(part) if is_dataclass(part) else ():
            for option in legal_options(type(part), field.name):
                value = repr(getattr(part, field.name))
                if value == option or (option == KIND and value not in legal_options(type(part), field.name)):
                    yield type(part).__name__, field.name, option


#: the option of a field that it is neither None nor one of a list of values, but a number, a shape, another
#: specification
KIND = "another value"


@cache
def legal_options(cls: type, field: str) -> tuple[str, ...]:
    """The options of a field: the values of a Literal, True and False, and whatever else it may be by its kind."""
    found: list[str] = []
    for plain, _ in list_alternatives(registry.read_hints(cls).get(field, Any)):
        if get_origin(plain) is Literal:
            found += [repr(value) for value in get_args(plain)]
        elif plain is bool:
            found += ["True", "False"]
        elif plain is type(None):
            found.append("None")
        else:
            found.append(KIND)
    return () if found == [KIND] else tuple(found)


#: the options that the examples of this process have shown, counted (see reached.py)
COUNTED: Counter[tuple[str, ...]] = Counter()


def record(kind: str, spec: object) -> None:
    """Count the options of a drawn specification."""
    COUNTED.update((kind, *option) for option in options(spec))


@st.composite
def cases(draw: st.DrawFn, name: str, patterns: tuple[str, ...] = gt.PATTERNS) -> tuple[Model, dict[str, Any], Any]:
    """(model of one layer, weights, inputs as the model takes them): an architecture of the pool, any point."""
    chosen = draw(st.sampled_from(pool(name)))
    record("layer", chosen.layer)
    model = chosen.model
    weights = draw(gt.weights_of(model, patterns))
    x = draw(gt.inputs_of(model, batch=chosen.shapes[0][0], patterns=patterns))
    given = [x[name] for name in model.inputs] if len(x) > 1 else x["x0"]
    with np.errstate(all="ignore"):
        outputs = model.forward(weights, given)
    # exp of hundreds: no slope can be measured there, and no two sides agree on what is left of the last place
    assume(all(np.max(np.abs(o), initial=0) < LARGEST for o in (outputs if isinstance(outputs, tuple) else (outputs,))))
    return model, weights, given
