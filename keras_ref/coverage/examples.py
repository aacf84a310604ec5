"""One small example of a definition against Keras, as `gradtwin coverage --run` shows it. Drawn with Hypothesis's `find`:
the simplest legal specification, so always the same one; weights and inputs are drawn with a seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.gradients import check_gradients
from keras_ref.checks.updates import check_updates
from keras_ref.errors import CouldNotRun
from keras_ref.evaluation.float64 import policy_of
from keras_ref.translation import departures
from keras_ref.translation.to_keras import mirror, mirrored
from scratch import registry
from scratch.fields import Index, Real
from scratch.layers.core import Activation, Dense
from scratch.model import Model

#: unit in the last place of float32: how far a value computed in it may be off, per step of the sum behind an entry
UNIT32 = float(np.finfo(np.float32).eps)
#: what activations are called with that have arguments without default
ARGUMENTS = {"threshold": {"threshold": 0.5, "default_value": -0.25}}


def compared(kind: str, name: str) -> dict[str, str]:
    """{column: "match", "departure", "-" where it does not apply, or what went wrong}."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _RUNS.get(kind, _value)(kind, name)
        except Exception as error:
            return {"values": f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"}


def example(kind: str, name: str, chosen: Callable[[Any], bool] = lambda spec: True) -> Any:
    """The simplest legal specification of those `chosen`, one that Keras does not refuse if there is one. Raises: CouldNotRun without Hypothesis."""
    try:
        from hypothesis import find, settings
        from hypothesis.errors import NoSuchExample
    except ImportError as error:
        raise CouldNotRun(
            "Examples are drawn with Hypothesis. Received: an installation without it. pip install gradtwin[test]."
        ) from error
    from keras_ref import strategies

    cls = registry.get(kind, name)
    # what has a default keeps it: that is what people use
    given = {f.name: f.default for f in fields(cls) if f.init and f.default is not MISSING}
    found, quiet = strategies.specifications(kind, name, **given), settings(database=None, derandomize=True)
    try:
        return find(found, lambda spec: chosen(spec) and not departures.find_refusals([spec]), settings=quiet)
    except NoSuchExample:
        return find(found, chosen, settings=quiet)


def _filled(shape: tuple[int, ...], domain: Any, seed: int) -> np.ndarray:
    from hypothesis import find, settings

    from keras_ref import strategies

    if not hasattr(domain, "small") and not isinstance(domain, Index):
        drawn = find(
            strategies.samples(shape, domain, patterns=("generic",)),
            lambda _: True,
            settings=settings(database=None, derandomize=True),
        )
        return np.asarray(drawn)
    generator = np.random.default_rng(seed)
    return (
        generator.integers(0, domain.below, size=shape) if isinstance(domain, Index) else generator.normal(size=shape)
    )


def model_of(spec: Any) -> tuple[Model, dict[str, np.ndarray], Any]:
    """A model of one layer, weights, inputs."""
    from keras_ref import strategies

    shapes = tuple(tuple(int(n or 2) for n in shape) for shape in spec.input_shapes(lambda low, high: high))
    model = strategies.model_of(spec, shapes)
    own, domains = spec.weight_domains(), spec.input_domains()
    weights = {
        n: _filled(tuple(s), own.get(n.partition("/")[2], _REAL), i)
        for i, (n, s) in enumerate(model.weight_shapes.items())
    }
    x = [_filled(s, domains[min(i, len(domains) - 1)], 100 + i) for i, s in enumerate(shapes)]
    return model, weights, x if len(x) > 1 else x[0]


def _layer(kind: str, name: str) -> dict[str, str]:
    """The simplest specification, or where Keras refuses that the simplest with no size of one."""
    for chosen in (lambda spec: True, _without_ones):
        spec = example(kind, name, chosen)
        try:
            return _of_model(*model_of(spec))
        except (ValueError, LookupError, tf.errors.OpError):
            if not departures.find_refusals([spec]):
                raise
    return {"values": f"refused: {', '.join(departures.find_refusals([spec]))}"}


def _without_ones(spec: Any) -> bool:
    return all(
        1 not in value
        for f in fields(spec)
        if f.default is MISSING and isinstance(value := getattr(spec, f.name), tuple)
    )


def _activation(kind: str, name: str) -> dict[str, str]:
    if name in ARGUMENTS:
        return _function(name, ARGUMENTS[name])
    shape = (2, 4)
    model = Model.chain([Activation(name)], shape[1:])
    return _of_model(model, {}, np.random.default_rng(0).normal(size=shape))


def _function(name: str, arguments: dict[str, float]) -> dict[str, str]:
    """An activation that a layer cannot name, because it asks for arguments: the function itself, its slope by complex step."""
    law, own = registry.get("activation", name), getattr(keras.activations, name)
    x = np.random.default_rng(0).normal(size=(2, 4))
    found = {}
    for column, dtype in (("values", np.float64), ("float32", np.float32)):
        y = np.asarray(own(x.astype(dtype), **arguments))
        found[column] = (
            "match"
            if np.allclose(law(x.astype(dtype), **arguments), y, rtol=64 * np.finfo(dtype).eps, atol=0)
            else "differs"
        )
    slope = law(x + 1e-30j, **arguments).imag / 1e-30
    for column, options in (("inputs", {}), ("graph", {"jit_compile": False}), ("compiled", {"jit_compile": True})):
        called = (
            (lambda z: own(z, **arguments))
            if not options
            else tf.function(lambda z: own(z, **arguments), autograph=False, **options)
        )
        z = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = called(z)
        found[column] = "match" if np.allclose(slope, tape.gradient(y, z), rtol=64 * 2.0**-52, atol=0) else "mismatch"
    return {"weights": "-", **found}


def _of_model(model: Model, weights: dict[str, np.ndarray], x: Any) -> dict[str, str]:
    found = {"values": _values(model, weights, x, "float64"), "float32": _values(model, weights, x, "float32")}
    floats = any(np.asarray(a).dtype.kind == "f" for a in (x if isinstance(x, list) else [x]))
    wrt = ("weights",) * bool(model.trainable) + ("inputs",) * floats
    found |= _gradients(lambda modes: check_gradients(model, x, weights=weights, wrt=wrt, modes=modes))
    # what rounds to float32 in one mode and not in the other is a known departure
    rounded = any(
        d.reading == "precision" and d.applies_to(layer)
        for d in departures.load_departures()
        for layer in model.layers.values()
    )
    return {c: "departure" if v == "mode-dependent" and rounded else v for c, v in found.items()}


def _gradients(check: Callable[[tuple[str, ...]], Any]) -> dict[str, str]:
    """Columns of a check in all modes; without the compiled one where XLA refuses the model."""
    try:
        report, refused = check(("eager", "function", "jit_compile")), ""
    except Exception as error:
        if isinstance(error, (ValueError, LookupError)):
            raise
        report, refused = check(("eager", "function")), f"refused: {type(error).__name__}"
    modes = {"function": "graph", "jit_compile": "compiled"}
    by_column: dict[str, list[Any]] = {}
    for v in report.verdicts:
        by_column.setdefault(modes.get(v.oracle) or ("inputs" if v.name.startswith("input") else "weights"), []).append(
            v
        )
    found = {
        column: _said(by_column[column]) if column in by_column else "-"
        for column in ("weights", "inputs", "graph", "compiled")
    }
    return found | ({"compiled": refused} if refused else {})


def _values(model: Model, weights: dict[str, np.ndarray], x: Any, dtype: str) -> str:
    single = dtype == "float32" or any(policy_of(layer) == "float32" for layer in model.layers.values())
    cast = {n: w.astype(dtype) if w.dtype.kind == "f" else w for n, w in weights.items()}
    arrays = [
        np.asarray(a).astype(dtype) if np.asarray(a).dtype.kind == "f" else a
        for a in (x if isinstance(x, list) else [x])
    ]
    x = arrays if len(arrays) > 1 else arrays[0]
    ours = [np.asarray(o, float) for o in keras.tree.flatten(model.forward(cast, x))]
    theirs = [np.asarray(o, float) for o in keras.tree.flatten(mirror(model, cast, dtype=dtype)(x, training=False))]
    # entries of these small examples are sums of some dozen terms, each off by a unit of the largest value at most
    unit = UNIT32 if single else 2.0**-52
    close = all(
        np.abs(a - b).max(initial=0) <= 64 * unit * max(np.abs(a).max(initial=0), 1)
        for a, b in zip(ours, theirs, strict=True)
    )
    return "match" if close else "departure" if departures.find_departures(model.layers.values()) else "differs"


def _said(verdicts: Any) -> str:
    failed = sorted({v.verdict for v in verdicts if v.failed})
    return ", ".join(failed) or ("departure" if any(v.verdict == "departure" for v in verdicts) else "match")


def _loss(kind: str, name: str) -> dict[str, str]:
    spec = example(kind, name)
    shapes = spec.shapes(lambda low, high: high)
    y, p = (
        _filled(tuple(int(n or 2) for n in s), d, i)
        for i, (s, d) in enumerate(zip(shapes, spec.domains(), strict=True))
    )
    model = Model.chain([Activation("linear")], p.shape[1:])
    value, keras_value = float(spec(y, p)), float(mirrored(spec, dtype="float64")(y, p))
    near = abs(value - keras_value) <= 64 * 2.0**-52 * max(abs(value), 1)
    said = (
        "match"
        if near
        else "departure"
        if departures.find_departures([spec])
        else f"differs: {value!r}, {keras_value!r}"
    )
    return {"values": said} | _gradients(
        lambda modes: check_gradients(model, p, y, loss=spec, weights={}, wrt=("inputs",), modes=modes)
    )


def _optimizer(kind: str, name: str) -> dict[str, str]:
    model = Model.chain([Dense(2)], (3,))
    generator = np.random.default_rng(0)
    weights = {n: generator.normal(size=s) for n, s in model.weight_shapes.items()}
    x, y = generator.normal(size=(4, 3)), generator.normal(size=(4, 2))
    spec = example(kind, name)
    report = check_updates(model, x, y, optimizer=spec, loss="MeanSquaredError", weights=weights)
    return {
        "updates": "match"
        if report.ok
        else "departure"
        if departures.find_departures([spec])
        else _said(report.verdicts)
    }


def _value(kind: str, name: str) -> dict[str, str]:
    """Schedules at some steps, regularizers and constraints at a weight."""
    spec = example(kind, name)
    points: Any = (0, 1, 2, 5, 11) if kind == "schedule" else (data_point(),)
    law = mirrored(spec)
    pairs = [
        (
            np.asarray(spec(p), float),
            np.asarray(law(keras.ops.convert_to_tensor(p)) if kind != "schedule" else law(p), float),
        )
        for p in points
    ]
    near = all(np.abs(a - b).max() <= 64 * 2.0**-52 * max(np.abs(a).max(), 1) for a, b in pairs)
    return {"values": "match" if near else "departure" if departures.find_departures([spec]) else "differs"}


def data_point() -> np.ndarray:
    """A weight (3, 2) of eighths, asymmetric."""
    return np.array([[0.5, -1.25], [2.0, 0.375], [-0.875, 0.125]])


_REAL = Real()
_RUNS: dict[str, Callable[[str, str], dict[str, str]]] = {
    "layer": _layer,
    "activation": _activation,
    "loss": _loss,
    "optimizer": _optimizer,
}
