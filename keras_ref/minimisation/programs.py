"""Two Keras models that part: their layers, sizes and numbers reduced as long as they part in the same way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_ref.checks.compare import compare
from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.inputs.targets import load_data, load_target
from keras_ref.minimisation.cases import Setup, describe
from keras_ref.minimisation.expressions import Call, Expression, Listing, Writer, replace_node, walk
from keras_ref.minimisation.minimise import SECONDS, Minimised, NothingToMinimise, Trial, search_from
from keras_ref.minimisation.origins import as_point
from keras_ref.minimisation.reading import express
from keras_ref.minimisation.running import running
from keras_ref.minimisation.showing import Shown, find_worst, list_both, run_setup, write_setup
from keras_ref.minimisation.source import NotWritable
from keras_ref.reports.comparison import Comparison
from scratch.progress import Progress


@dataclass(frozen=True, kw_only=True)
class PairCase:
    """Two models and an input; B has the weights of A."""

    a: Expression
    b: Expression
    x: Expression

    @property
    def tree(self) -> Expression:
        """All that the passes reduce."""
        return (self.a, self.b, self.x)

    def with_tree(self, tree: Expression) -> PairCase:
        """The case with another tree."""
        a, b, x = tree
        return replace(self, a=a, b=b, x=x)

    @property
    def what(self) -> str:
        """What is shown to be wrong."""
        return f"{describe(self.a)} and {describe(self.b)} part with the same weights"

    def simpler(self) -> Iterator[PairCase]:
        """Without a layer in the same place of both; one layer of both."""
        a, b = (node for side in (self.a, self.b) for node in [_list_layers(side)])
        if a is None or b is None or len(a.items) != len(b.items):
            return
        count = len(a.items)
        for kept in [range(i, i + 1) for i in range(count)] * (count > 1):
            yield self._with_layers(list(kept))
        for gone in range(count) if count > 2 else ():
            yield self._with_layers([i for i in range(count) if i != gone])

    def _with_layers(self, kept: list[int]) -> PairCase:
        sides = []
        for side in (self.a, self.b):
            path, node = next((p, n) for p, n in walk(side) if isinstance(n, Listing))
            sides.append(replace_node(side, path, Listing(tuple(node.items[i] for i in kept))))
        return replace(self, a=sides[0], b=sides[1])

    def setup(self) -> Setup:
        """The lines that build both."""
        writer = Writer(modules={"keras", "numpy"})
        lines = (
            "keras.utils.set_random_seed(0)",
            f"a, b = {writer.write(self.a)}, {writer.write(self.b)}",
            f"x = {writer.write(self.x)}",
            "a(x), b(x), b.set_weights(a.get_weights())",
        )
        return Setup(writer=writer, lines=lines, function="None", points="[]", in_float64=True)


def _list_layers(side: Expression) -> Listing | None:
    return next((node for _, node in walk(side) if isinstance(node, Listing)), None)


@leaves_no_trace
def minimise_programs(
    a: Any,
    b: Any,
    x: Any = None,
    y: Any = None,
    *,
    data: str = "",
    seconds: float = SECONDS,
    progress: Progress | None = None,
    seed: int = 0,
) -> Minimised:
    """Minimise two Keras models whose outputs part though their weights are the same.

    a, b   models, or targets that return them;   x, y   a batch;   data   a file with it

    Raises: NothingToMinimise where they agree; BadInput where they are no Keras models of layers in a row with the same
    weights in the same order, or part elsewhere than in their outputs.
    """
    started = time.monotonic()
    first, x, y = _open(a, x, y)
    second, x, y = _open(b, x, y)
    if data:
        x, y, _ = load_data(data)
    found = compare(first, second, x, y, steps=0, seed=seed)
    if found.parting is None:
        raise NothingToMinimise(
            f"Two programs must part to be made small. Received: {found.a} and {found.b}. {found.sentence}"
        )
    try:
        written = [express(model) for model in (first, second)]
    except NotWritable as error:
        raise BadInput(
            f"Both programs must be such that they can be written as Python. Received: {error}. Give their classes a "
            "get_config."
        ) from error
    case = PairCase(a=written[0], b=written[1], x=as_point(express(np.asarray(x))))
    differ = find_differences(case.a, case.b)
    trial = Trial(
        shows=lambda one: show_pair(one) if is_about(one, differ) else None, has_same=lambda one: _has_same(one, found)
    )
    if show_pair(case) is None:
        raise BadInput(
            f"Two programs must part in their outputs to be made small. Received: {found.sentence} Check the gradients "
            "of each by itself."
        )
    parts = f"parting at stage {found.parting.stage}"
    return search_from(case, trial, finding=parts, started=started, seconds=seconds, progress=progress)


def _open(program: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """A Keras model, and the data that come with it unless they are given."""
    if isinstance(program, str):
        model, own_x, own_y, _ = load_target(program.removeprefix("keras:"))
        return model, own_x if x is None else x, own_y if y is None else y
    if not isinstance(program, keras.Model):
        raise BadInput(
            f"A program must be a Keras model to be made small. Received: {type(program).__name__}. Compare the "
            "programs with gradtwin compare, which names the place where they part."
        )
    return program, x, y


def find_differences(a: Expression, b: Expression) -> frozenset[Any]:
    """In what two programs of the same structure differ: {(class or option, in A, in B)}."""
    found = set[Any]()
    for (path, one), (other_path, other) in zip(walk(a), walk(b), strict=False):
        if path != other_path or type(one) is not type(other):
            break
        if isinstance(one, Call) and isinstance(other, Call):
            if one.function != other.function:
                found.add(("", one.function, other.function))
            mine, theirs = dict(one.keywords), dict(other.keywords)
            names = (name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
            found |= {(name, mine.get(name), theirs.get(name)) for name in names}
    return frozenset(found)


def is_about(case: PairCase, differ: frozenset[Any]) -> bool:
    """Whether a case differs in nothing but what the programs differed in, as far as that was seen."""
    left = find_differences(case.a, case.b)
    return left <= differ and bool(left) == bool(differ)


def show_pair(case: PairCase) -> Shown | None:
    """An output of both; None where they agree."""
    try:
        setup = case.setup()
        with running(write_setup(setup)) as names:
            values = [np.asarray(names[side](names["x"])) for side in ("a", "b")]
            both = list_both(*values)
            entry = find_worst(both)
            if entry is None:
                return None
            lines = [f"got, want = (np.asarray(m(x)){both.place(entry)} for m in (a, b))"]
            got, want = (float(v[entry.index]) for v in values)
            return run_setup(setup, lines, got=got, want=want, names=("A", "B"))
    except Exception:  # noqa: BLE001 (a candidate that makes no sense may raise anything)
        return None


def _has_same(case: PairCase, found: Comparison) -> bool:
    """Whether both still part at the same stage, in a layer of the same class or for the same cause."""
    try:
        with running(write_setup(case.setup())) as names:
            a, b = (m if isinstance(m, keras.Model) else _as_model(m, names["x"]) for m in (names["a"], names["b"]))
            again = compare(a, b, names["x"], steps=0)
    except Exception:  # noqa: BLE001 (as above)
        return False
    if again.parting is None or found.parting is None:
        return False
    return again.parting.stage == found.parting.stage and _strip_numbers(again.cause) == _strip_numbers(found.cause)


def _as_model(layer: Any, x: Any) -> Any:
    model = keras.Sequential([layer])
    model(x)
    return model


def _strip_numbers(cause: str) -> str:
    """A cause without its numbers and names."""
    return " ".join(word for word in cause.split() if word.isalpha())
