"""Hypothesis strategies, public: specifications from their field annotations, weights, inputs, special points.

    layers()              any registered layer        specifications(kind, name)   one definition, every legal combination
    models()              small graphs of layers      weights_of(model)            {name: array}
    inputs_of(model)      arrays that it takes        special_points(shape)        zeros, ties, saturation, repeats
    samples(shape, domain)   entries of a domain    arguments(name)   keyword arguments of an activation

Legal is not the same as small: examples are small because they are then fast, and readable once shrunk.
"""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from keras_ref.departures import parts, touching
from scratch import domain as domains
from scratch import registry
from scratch.layers.base import Layer
from scratch.model import Model

Array = np.ndarray

#: how an array of examples is made; the names appear in falsifying examples
PATTERNS = ("generic", "eighths", "zeros", "equal", "repeated", "saturated")


@st.composite
def special_points(draw: DrawFn, shape: tuple[int, ...], patterns: tuple[str, ...] = PATTERNS) -> Array:
    """Real arrays, special ones included: k/8 (ties and exact zeros), zeros, one value, repeated rows, saturation."""
    pattern = draw(st.sampled_from(patterns))
    size = int(np.prod(shape))
    if pattern == "zeros":
        return np.zeros(shape)
    if pattern == "equal":
        return np.full(shape, draw(st.integers(-16, 16)) / 8)
    if pattern == "eighths":
        return (
            np.array(draw(st.lists(st.integers(-16, 16), min_size=size, max_size=size)), dtype=float).reshape(shape) / 8
        )
    generic = np.random.default_rng(draw(st.integers(0, 2**16))).normal(size=shape)
    if pattern == "repeated" and shape:
        return np.repeat(generic[:1], shape[0], axis=0)
    return generic * 40 if pattern == "saturated" else generic


@st.composite
def samples(
    draw: DrawFn, shape: tuple[int, ...], domain: domains.Domain, patterns: tuple[str, ...] = PATTERNS
) -> Array:
    """An array whose entries belong to the domain of an input, a target or a weight."""
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    if isinstance(domain, domains.Index):
        return generator.integers(0, domain.below, size=shape)
    if isinstance(domain, domains.Binary):
        return generator.integers(0, 2, size=shape).astype(float)
    if isinstance(domain, domains.Signs):
        return generator.choice([-1.0, 1.0], size=shape)
    if isinstance(domain, domains.OneHot):
        return np.eye(shape[-1])[generator.integers(0, shape[-1], size=shape[:-1])]
    if isinstance(domain, domains.Distribution):
        return generator.dirichlet(np.ones(shape[-1]), size=shape[:-1])
    if isinstance(domain, domains.Probability):
        return generator.uniform(0.05, 0.95, size=shape)
    if isinstance(domain, domains.Positive):
        return generator.uniform(0.25, 2.0, size=shape)
    own = getattr(domain, "sample", None)
    if own is not None:
        return own(shape, generator)
    return draw(special_points(shape, patterns))


def _numbers(plain: type, found: tuple[domains.Domain, ...]) -> SearchStrategy[Any]:
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
    """False for an activation that halves its axis (glu): it asks for an even size, which a field cannot see."""
    return getattr(thing, "__name__", "") != "glu"


def needs_no_arguments(thing: Any) -> bool:
    """False for an activation that asks for arguments (threshold): where a field names it, there is no place for them."""
    if isinstance(thing, type):
        return True
    return all(
        p.default is not p.empty or p.kind is not p.KEYWORD_ONLY for p in inspect.signature(thing).parameters.values()
    )


def _registered_under(base: type) -> list[tuple[str, str]]:
    """(kind, name) of every definition that is a `base`: a field may hold a schedule, whichever it is."""
    return [
        (kind, name)
        for kind in registry.KINDS
        for name, thing in sorted(registry.every(kind).items())
        if isinstance(thing, type) and issubclass(thing, base)
    ]


@st.composite
def arguments(draw: DrawFn, name: str) -> dict[str, Any]:
    """Keyword arguments of a registered activation, each from its domain; those with a default may be left out."""
    function = registry.get("activation", name)
    hints, chosen = registry.hints(function), {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and (parameter.default is parameter.empty or draw(st.booleans())):
            hint = hints[parameter.name]
            chosen[parameter.name] = domains.checked(name, parameter.name, hint, draw(values(hint)))
    return chosen


def values(hint: Any) -> SearchStrategy[Any]:
    """Legal values of a field annotation, small ones."""
    options: list[SearchStrategy[Any]] = []
    for plain, found in domains.alternatives(hint):
        registered = next((d for d in found if isinstance(d, domains.Registered)), None)
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
        elif isinstance(plain, type) and (kinds := _registered_under(plain)):
            options.append(st.sampled_from(kinds).flatmap(lambda kind: specifications(*kind)))
        elif plain in (int, float) or plain is tuple or get_origin(plain) is tuple:
            options.append(_numbers(plain if plain in (int, float) else int, found))
        else:
            raise TypeError(
                f"A field annotation must say what is legal. Received: {hint!r}. Write a strategy hook, or a domain with examples()."
            )
    return st.one_of(options)


@st.composite
def specifications(draw: DrawFn, kind: str, name: str, **fixed: Any) -> Any:
    """Legal specifications of one registered definition; `fixed` fields are taken as given.

    A class may offer `examples()`, whole specifications to choose from, where fields hold other specifications.
    """
    cls = registry.get(kind, name)
    offered = getattr(cls, "examples", None)
    if offered is not None:
        return draw(st.sampled_from(list(offered())))
    hints = registry.hints(cls)
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
        return _as_many_as_go(draw, cls, chosen, fixed)


def _as_many_as_go(draw: DrawFn, cls: type, chosen: dict[str, Any], fixed: dict[str, Any]) -> Any:
    """What is drawn where a rule that binds several fields refuses all of them together: defaults, and then each
    optional field, in any order, that goes with those before it."""
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


def departures_of(model: Model) -> tuple[str, ...]:
    """Ids of the known departures that a model's layers may show."""
    return touching(model.layers.values())


def sizes(draw: DrawFn) -> domains.Size:
    """The `size(low, high)` that definitions choose example shapes with, drawn by Hypothesis."""
    return lambda low, high: draw(st.integers(low, max(low, high)))


@st.composite
def layers(draw: DrawFn, names: tuple[str, ...] | None = None) -> Layer:
    """Any registered layer (or one of the named ones), any legal specification."""
    return draw(specifications("layer", draw(st.sampled_from(names or registry.names("layer")))))


def model_of(layer: Layer, shapes: tuple[tuple[int, ...], ...], **keywords: Any) -> Model:
    """A model of one layer on inputs of these shapes (the batch first), all of its outputs being outputs."""
    from scratch.model import Call, snake_case

    name = snake_case(type(layer).__name__)
    # a layer that keeps a state from call to call has one for each sample, so the batch is fixed
    fixed = any(getattr(part, "stateful", False) for part in parts(layer))
    inputs = {f"x{i}": shape if fixed else (None, *shape[1:]) for i, shape in enumerate(shapes)}
    arrays = [
        np.zeros(shape, dtype=int if isinstance(d, domains.Index) else float)
        for shape, d in zip(shapes, _each(layer, len(shapes)), strict=True)
    ]
    weights = {n: np.ones([k or 1 for k in shape]) for n, shape in layer.weight_shapes(*shapes).items()}
    with np.errstate(all="ignore"):
        output = layer.forward(weights, *arrays, **keywords)
    count = len(output) if isinstance(output, (tuple, list)) else 1
    outputs = tuple(f"y{i}" for i in range(count))
    return Model(inputs, {name: layer}, (Call(name, tuple(inputs), outputs, keywords),), outputs)


def _each(layer: Layer, count: int) -> tuple[domains.Domain, ...]:
    own = layer.input_domains()
    return tuple(own[min(i, len(own) - 1)] for i in range(count))


@st.composite
def input_shapes_of(draw: DrawFn, layer: Layer) -> tuple[tuple[int, ...], ...]:
    """Legal input shapes of a layer, the batch first, one batch size for all."""
    shapes = layer.input_shapes(sizes(draw))
    return tuple(tuple(int(n) for n in shape if n is not None) for shape in shapes)


@st.composite
def models(draw: DrawFn, names: tuple[str, ...] = ("Dense", "Activation", "Flatten"), *, longest: int = 3) -> Model:
    """Chains of the named layers on a small input; every activation may come up."""
    chain = [
        draw(specifications("layer", draw(st.sampled_from(names)))) for _ in range(draw(st.integers(0, longest - 1)))
    ]
    head = draw(specifications("layer", "Dense"))
    shape = (draw(st.integers(1, 4)),)
    return Model.chain([*chain, head], shape)


@st.composite
def weights_of(draw: DrawFn, model: Model, patterns: tuple[str, ...] = PATTERNS) -> dict[str, Array]:
    """Weights for a model, special ones included, each from the domain its layer states."""
    drawn = {}
    for name, shape in model.weight_shapes.items():
        layer, _, part = name.partition("/")
        own = model.layers[layer].weight_domains() if layer in model.layers else {}
        drawn[name] = draw(samples(tuple(shape), own.get(part, domains.Real()), patterns))
    return drawn


@st.composite
def inputs_of(
    draw: DrawFn, model: Model, batch: int | None = None, patterns: tuple[str, ...] = PATTERNS
) -> dict[str, Array]:
    """Arrays for a model's inputs, special ones included."""
    size = draw(st.integers(1, 4)) if batch is None else batch
    wanted: dict[str, domains.Domain] = {}
    for call in model.calls:
        own = model.layers[call.layer].input_domains()
        for i, name in enumerate(call.inputs):
            if name in model.inputs:
                wanted.setdefault(name, own[min(i, len(own) - 1)])
    return {
        name: draw(
            samples(
                tuple(size if i == 0 and n is None else n or 2 for i, n in enumerate(shape)),
                wanted.get(name, domains.Real()),
                patterns,
            )
        )
        for name, shape in model.inputs.items()
    }
