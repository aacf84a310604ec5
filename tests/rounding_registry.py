"""Losses on which the stated rounding error is compared with the true one: what the registry has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import keras
import numpy as np
from example_pools import examples, pool
from hypothesis import strategies as st
from rounding_cases import BESIDE, Case, Losses, Subject, anywhere, compared, moved, summed, together, weighted

from keras_ref import strategies as gt
from keras_ref.evaluation.many_digits.exact_graph import Graph
from scratch import registry
from scratch.arrays import Array


def activations() -> list[Subject]:
    """Every registered activation, as Keras has it."""
    return [
        Subject(f"activation {name}", summed(keras.activations.get(name), weighted), together(anywhere(2, 4)))
        for name in registry.names("activation")
        if hasattr(keras.activations, name) and gt.needs_no_arguments(registry.get("activation", name))
    ]


def drawn_by(strategy: st.SearchStrategy[Any]) -> Callable[[np.random.Generator], Any]:
    """Points of a Hypothesis strategy."""
    kept: list[Any] = []

    def draw(generator: np.random.Generator) -> Any:
        kept.extend([] if kept else examples(strategy, 200))
        return kept[generator.integers(len(kept))]

    return draw


class LayerSubject:
    """A layer of the registry as the product checks it: the loss of random cotangents, at points of Hypothesis."""

    def __init__(self, architecture: Any) -> None:
        self.architecture, self.name = architecture, f"layer {architecture.layer}"

    @cached_property
    def points(self) -> list[Any]:
        """(weights, inputs)"""
        model, batch = self.architecture.model, self.architecture.shapes[0][0]
        return examples(st.tuples(gt.weights_of(model), gt.inputs_of(model, batch=batch)), 40)

    def cases(self, generator: np.random.Generator, count: int, *, beside: bool = False) -> Iterator[Case]:
        """So many points."""
        from support_built import Built

        built: Built | None = None
        exact: Graph | None = None
        for _ in range(count):
            weights, x = self.points[generator.integers(len(self.points))]
            given = [x[name] for name in self.architecture.model.inputs] if len(x) > 1 else x["x0"]
            built = built or Built.of(self.architecture.model, given)
            with built.at(weights, given, seed=int(generator.integers(1 << 32))) as probe:
                value, stated = probe.directional({}, np.zeros(1)), np.array([probe.noise()])
                if not np.isfinite(value).all():
                    continue
                exact = exact or Graph(probe._traced())
                near = _beside(probe, exact, generator) if beside else ()
                yield from compared(value, stated, _truth(probe, exact, probe.values), near)


def _truth(probe: Any, exact: Graph, values: dict[str, Array]) -> Array:
    """The loss of a loss function at these values, in 50 digits."""
    return np.ravel(exact(*map(np.asarray, probe._make_point(values)))[0])


def _beside(probe: Any, exact: Graph, generator: np.random.Generator) -> Iterator[Losses]:
    for distance in generator.permutation(BESIDE):
        there = {name: moved(value, distance, generator) for name, value in probe.values.items()}
        losses = probe.directional({}, np.zeros(1), at=there)
        if np.isfinite(losses).all():
            yield losses, _truth(probe, exact, there)


def layers() -> list[LayerSubject]:
    """Small examples of every registered layer but adaptive pooling, some of which end the process in TensorFlow."""
    names = [name for name in registry.names("layer") if not name.startswith("Adaptive")]
    return [LayerSubject(one) for name in names for one in pool(name)[:3]]


def losses() -> list[Subject]:
    """Every registered loss with its defaults, as Keras has it, of predictions (targets are data)."""
    from keras_ref.translation.to_keras import mirror_loss

    found = []
    for name in registry.names("loss"):
        spec = registry.get("loss", name)()
        try:
            loss = mirror_loss(spec)
        except LookupError:  # a definition that Keras has no loss for
            continue
        shapes = spec.shapes(lambda low, high: min(high, max(low, 3)))
        true, predicted = (
            drawn_by(gt.samples(tuple(shape), domain)) for shape, domain in zip(shapes, spec.domains(), strict=True)
        )

        def draw(generator: np.random.Generator, t: Any = true, p: Any = predicted) -> list[Array]:
            return [np.asarray(t(generator)), np.asarray(p(generator), float)]

        found.append(Subject(f"loss {name}", summed(loss), draw))
    return found
