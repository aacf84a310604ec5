"""One small example of each definition against Keras, for `gradtwin coverage --run`.

Hypothesis's `find` gives the simplest legal specification, so it is always the same one; weights and inputs are drawn
with a fixed seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.updates import check_updates
from keras_ref.errors import CouldNotRun
from keras_ref.evaluation.changed_state.float64 import find_policy
from keras_ref.own_modules import registry
from keras_ref.reports.verdict import Report, Verdict
from keras_ref.reports.words import is_input
from keras_ref.translation import departures
from keras_ref.translation.to_keras import mirror, mirror_object
from scratch.arrays import Array
from scratch.fields import Index, Real
from scratch.layers.core import Activation, Dense
from scratch.model import Model

#: {column: "match", "departure", "-" where the column does not apply, or what else the comparison gave}
Results = dict[str, str]
#: how many units in the last place the entries of these small examples may be off: sums of some dozen terms
UNITS = 64
#: units in the last place of float64 and float32
EPS64, EPS32 = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
#: the columns of the execution modes
MODES = {"function": "graph", "jit_compile": "compiled"}
#: arguments of activations that have some without a default
ARGUMENTS = {"threshold": {"threshold": 0.5, "default_value": -0.25}}
#: what a weight may be whose layer does not restrict it
_REAL = Real()


def compare_example(kind: str, name: str) -> Results:
    """Compare the simplest example of a definition with Keras. An error is a result: {"values": "ValueError: …"}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _COMPARISONS.get(kind, _compare_values)(kind, name)
        except Exception as error:  # noqa: BLE001 (whatever an example raises is reported, and the others go on)
            return {"values": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}


# Drawing an example ---------------------------------------------------------------------------------------------------


def _accept_anything(_: Any) -> bool:
    return True


def _choose_size(_: Any, high: Any) -> Any:
    """The size that is taken of a free dimension, of those between low and high."""
    return high


def draw_specification(kind: str, name: str, suits: Callable[[Any], bool] = _accept_anything) -> Any:
    """The simplest legal specification that `suits`; one that Keras does not refuse, if there is one.

    Raises: CouldNotRun without Hypothesis.
    """
    try:
        from hypothesis import find, settings
        from hypothesis.errors import NoSuchExample
    except ImportError as error:
        raise CouldNotRun(
            "Examples are drawn with Hypothesis. Received: an installation without it. pip install gradtwin[test]."
        ) from error
    from keras_ref import strategies

    cls = registry.get(kind, name)
    # fields with a default keep it: the default is what most people use
    defaults = {f.name: f.default for f in fields(cls) if f.init and f.default is not MISSING}
    specifications = strategies.specifications(kind, name, **defaults)
    quiet = settings(database=None, derandomize=True, deadline=None)
    try:
        return find(specifications, lambda spec: suits(spec) and not departures.find_refusals([spec]), settings=quiet)
    except NoSuchExample:
        return find(specifications, suits, settings=quiet)


def _draw_array(shape: tuple[int, ...], domain: Any, seed: int) -> Array:
    from hypothesis import find, settings

    from keras_ref import strategies

    generator = np.random.default_rng(seed)
    if isinstance(domain, Index):
        return generator.integers(0, domain.below, size=shape)
    if hasattr(domain, "small"):
        return generator.normal(size=shape)
    samples = strategies.samples(shape, domain, patterns=("generic",))
    return np.asarray(
        find(samples, _accept_anything, settings=settings(database=None, derandomize=True, deadline=None))
    )


def _draw_model(spec: Any) -> tuple[Model, dict[str, Array], Any]:
    """A model of one layer, its weights, its input or inputs."""
    from keras_ref import strategies

    shapes = tuple(tuple(int(n or 2) for n in shape) for shape in spec.input_shapes(_choose_size))
    model = strategies.model_of(spec, shapes)
    own, domains = spec.weight_domains(), spec.input_domains()
    weights = {
        n: _draw_array(tuple(s), own.get(n.partition("/")[2], _REAL), i)
        for i, (n, s) in enumerate(model.weight_shapes.items())
    }
    x = [_draw_array(s, domains[min(i, len(domains) - 1)], 100 + i) for i, s in enumerate(shapes)]
    return model, weights, x if len(x) > 1 else x[0]


# Comparing it ---------------------------------------------------------------------------------------------------------


def _compare_layer(kind: str, name: str) -> Results:
    """The simplest specification; if Keras refuses it, the simplest one without sizes of 1."""
    for suits in (_accept_anything, _has_no_ones):
        spec = draw_specification(kind, name, suits)
        try:
            return _compare_model(*_draw_model(spec))
        except (ValueError, LookupError, tf.errors.OpError):
            if not departures.find_refusals([spec]):
                raise
    return {"values": f"refused: {', '.join(departures.find_refusals([spec]))}"}


def _has_no_ones(spec: Any) -> bool:
    return all(
        1 not in value
        for f in fields(spec)
        if f.default is MISSING and isinstance(value := getattr(spec, f.name), tuple)
    )


def _compare_activation(_: str, name: str) -> Results:
    if name in ARGUMENTS:
        return _compare_function(name, ARGUMENTS[name])
    shape = (2, 4)
    model = Model.chain([Activation(name)], shape[1:])
    return _compare_model(model, {}, np.random.default_rng(0).normal(size=shape))


def _compare_function(name: str, arguments: dict[str, float]) -> Results:
    """An activation with arguments, which no layer can name: the function itself, its slope by the complex step."""
    twin, own = registry.get("activation", name), getattr(keras.activations, name)
    x = np.random.default_rng(0).normal(size=(2, 4))
    found: Results = {"weights": "-"}
    for column, dtype, eps in (("values", np.float64, EPS64), ("float32", np.float32, EPS32)):
        y = np.asarray(own(x.astype(dtype), **arguments))
        close = np.allclose(twin(x.astype(dtype), **arguments), y, rtol=UNITS * eps, atol=0)
        found[column] = "match" if close else "differs"
    slope = twin(x + 1e-30j, **arguments).imag / 1e-30

    def call(z: Any) -> Any:
        return own(z, **arguments)

    for column, called in (
        ("inputs", call),
        ("graph", tf.function(call, autograph=False, jit_compile=False)),
        ("compiled", tf.function(call, autograph=False, jit_compile=True)),
    ):
        z = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = called(z)
        close = np.allclose(slope, tape.gradient(y, z), rtol=UNITS * EPS64, atol=0)
        found[column] = "match" if close else "mismatch"
    return found


def _compare_model(model: Model, weights: dict[str, Array], x: Any) -> Results:
    found = {
        "values": _compare_forward(model, weights, x, "float64"),
        "float32": _compare_forward(model, weights, x, "float32"),
    }
    floats = any(np.asarray(a).dtype.kind == "f" for a in (x if isinstance(x, list) else [x]))
    wrt = ("weights",) * bool(model.trainable) + ("inputs",) * floats
    found |= _compare_gradients(lambda modes: check_gradients(model, x, weights=weights, wrt=wrt, modes=modes))
    # a layer that rounds to float32 in one mode and not in the other has a known departure
    rounds = any(
        d.reading == "precision" and d.applies_to(layer)
        for d in departures.load_departures()
        for layer in model.layers.values()
    )
    return {c: "departure" if v == "mode-dependent" and rounds else v for c, v in found.items()}


def _compare_gradients(check: Callable[[tuple[str, ...]], Report]) -> Results:
    """The columns of a check in all modes; without the compiled mode where XLA refuses the model."""
    refused = {}
    try:
        report = check(("eager", "function", "jit_compile"))
    except (ValueError, LookupError):
        raise
    except Exception as error:  # noqa: BLE001 (XLA's refusals have no type in common)
        report, refused = check(("eager", "function")), {"compiled": f"refused: {type(error).__name__}"}
    by_column: dict[str, list[Verdict]] = {}
    for v in report.verdicts:
        column = MODES.get(v.oracle) or ("inputs" if is_input(v.name) else "weights")
        by_column.setdefault(column, []).append(v)
    columns = ("weights", "inputs", "graph", "compiled")
    return {c: _sum_up(by_column[c]) if c in by_column else "-" for c in columns} | refused


def _compare_forward(model: Model, weights: dict[str, Array], x: Any, dtype: str) -> str:
    """The values of a forward pass in one precision."""

    def cast(array: Any) -> Array:
        given: Array = np.asarray(array)
        return given.astype(dtype) if given.dtype.kind == "f" else given

    x = [cast(a) for a in x] if isinstance(x, list) else cast(x)
    weights = {n: cast(w) for n, w in weights.items()}
    keras_model = mirror(model, weights, dtype=dtype)
    ours = [np.asarray(o, float) for o in keras.tree.flatten(model.forward(weights, x))]
    theirs = [np.asarray(o, float) for o in keras.tree.flatten(keras_model(x, training=False))]
    single = dtype == "float32" or any(find_policy(layer) == "float32" for layer in model.layers.values())
    close = all(_are_close(a, b, eps=EPS32 if single else EPS64) for a, b in zip(ours, theirs, strict=True))
    return _judge(model.layers.values(), close=close)


def _are_close(ours: Any, theirs: Any, *, eps: float = EPS64) -> bool:
    """Whether all entries agree to UNITS units of the largest value."""
    difference = np.abs(np.asarray(ours) - np.asarray(theirs)).max(initial=0)
    return bool(difference <= UNITS * eps * max(np.abs(ours).max(initial=0), 1))


def _judge(specs: Iterable[Any], *, close: bool) -> str:
    """The result "match", "departure" if one of the definitions has a known one, or "differs"."""
    return "match" if close else "departure" if departures.find_departures(specs) else "differs"


def _sum_up(verdicts: list[Verdict]) -> str:
    """The kinds of the failing verdicts, else "departure" or "match"."""
    failed = sorted({v.verdict for v in verdicts if v.failed})
    return ", ".join(failed) or ("departure" if any(v.verdict == "departure" for v in verdicts) else "match")


def _compare_loss(kind: str, name: str) -> Results:
    spec = draw_specification(kind, name)
    shapes = [tuple(int(n or 2) for n in shape) for shape in spec.shapes(_choose_size)]
    y, p = (_draw_array(s, d, i) for i, (s, d) in enumerate(zip(shapes, spec.domains(), strict=True)))
    model = Model.chain([Activation("linear")], p.shape[1:])
    value, keras_value = np.float64(spec(y, p)), np.float64(mirror_object(spec, dtype="float64")(y, p))
    result = _judge([spec], close=_are_close(value, keras_value))
    values = f"differs: {float(value)!r}, {float(keras_value)!r}" if result == "differs" else result
    return {"values": values} | _compare_gradients(
        lambda modes: check_gradients(model, p, y, loss=spec, weights={}, wrt=("inputs",), modes=modes)
    )


def _compare_optimizer(kind: str, name: str) -> Results:
    model = Model.chain([Dense(2)], (3,))
    generator = np.random.default_rng(0)
    weights = {n: generator.normal(size=s) for n, s in model.weight_shapes.items()}
    x, y = generator.normal(size=(4, 3)), generator.normal(size=(4, 2))
    spec = draw_specification(kind, name)
    report = check_updates(model, x, y, optimizer=spec, loss="MeanSquaredError", weights=weights)
    result = _judge([spec], close=report.ok)
    return {"updates": _sum_up(list(report.verdicts)) if result == "differs" else result}


def _compare_values(kind: str, name: str) -> Results:
    """A schedule at some steps, a regularizer or constraint at a weight."""
    spec = draw_specification(kind, name)
    own = mirror_object(spec)
    if kind == "schedule":
        pairs = [(np.asarray(spec(step), float), np.asarray(own(step), float)) for step in (0, 1, 2, 5, 11)]
    else:
        weight = _weight()
        pairs = [(np.asarray(spec(weight), float), np.asarray(own(keras.ops.convert_to_tensor(weight)), float))]
    return {"values": _judge([spec], close=all(_are_close(a, b) for a, b in pairs))}


def _weight() -> Array:
    """A weight (3, 2) of eighths, asymmetric."""
    return np.array([[0.5, -1.25], [2.0, 0.375], [-0.875, 0.125]])


_COMPARISONS: dict[str, Callable[[str, str], Results]] = {
    "layer": _compare_layer,
    "activation": _compare_activation,
    "loss": _compare_loss,
    "optimizer": _compare_optimizer,
}
