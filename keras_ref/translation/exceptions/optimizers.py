"""Optimizers, both ways; the state of a Keras optimizer as that of its twin; the laws that Keras computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache
from typing import Any

import keras
import numpy as np

from keras_ref.evaluation.changed_state.float64 import keep_default_dtype
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable, find_optimizer_class
from keras_ref.evaluation.sparse_gradient import SparseGradient
from keras_ref.own_modules import registry
from keras_ref.translation.exceptions import mirrors, reflects
from keras_ref.translation.given_schedules import GivenSchedule
from keras_ref.translation.specifications import NoTwin, reflect_object, simplify
from keras_ref.translation.to_keras import mirror_object
from scratch.fields import list_alternatives
from scratch.optimizers.adafactor import Adafactor
from scratch.optimizers.adagrad import Ftrl
from scratch.optimizers.adam import Lamb, Nadam
from scratch.optimizers.base import Optimizer, State, constrain
from scratch.optimizers.muon import Muon
from scratch.optimizers.schedule_free import ScheduleFreeAdamW
from scratch.optimizers.wrappers import LossScaleOptimizer, MultiOptimizer
from scratch.schedules import CosineDecayRestarts, Schedule

_WRAPPERS = ("LossScaleOptimizer", "MultiOptimizer")
_PLAIN = tuple(name for name in registry.names("optimizer") if name not in _WRAPPERS)
#: arguments that Keras treats as not given where they are zero
_OFF = ("clipnorm", "clipvalue", "global_clipnorm", "ema_overwrite_frequency", "gradient_accumulation_steps")


@contextmanager
def _float64_rate(*, wanted: bool) -> Iterator[None]:
    """Let floatx be float64, if wanted: Keras keeps a constant learning rate in floatx, where 0.1 would be rounded."""
    with Restoration() as restoration:
        keep_default_dtype(restoration)
        if wanted:
            keras.config.set_floatx("float64")
        yield


@mirrors(*_PLAIN)
def optimizer(spec: Any, **options: Any) -> Any:
    """The Keras optimizer, with floats for integers where Keras asks for floats, and the learning rate in float64.

    Muon's rate stays in floatx: it is multiplied as it is with weights, which have to be of the same dtype.
    """
    cls: Any = type(spec)
    hints, values, precise = registry.read_hints(cls), {}, cls.__name__ != "Muon"
    for name in (f.name for f in fields(spec)):
        value = getattr(spec, name)
        if isinstance(value, Schedule):
            value = mirror_object(value, precise=precise)
        elif type(value) is int and any(kind is float for kind, _ in list_alternatives(hints[name])):
            value = float(value)
        values[name] = list(value) if isinstance(value, tuple) else value
    with _float64_rate(wanted=precise):
        return getattr(keras.optimizers, cls.__name__)(**values, **options)


@mirrors("LossScaleOptimizer")
def loss_scale(spec: Any, **options: Any) -> Any:
    """The wrapper around the mirrored optimizer."""
    own = {name: getattr(spec, name) for name in ("initial_scale", "dynamic_growth_steps")}
    return keras.optimizers.LossScaleOptimizer(mirror_object(spec.inner_optimizer), **own, **options)


@mirrors("MultiOptimizer")
def multi(spec: Any, **options: Any) -> Any:
    """The Keras MultiOptimizer. Each optimizer is mirrored once, so that one object under two patterns stays one."""
    made = {id(inner): mirror_object(inner) for inner in spec.optimizers}
    routes = {pattern: made[id(inner)] for pattern, inner in spec.optimizer_map}
    table = keras.optimizers.OptimizerMap(made[id(spec.default_optimizer)], routes)
    return keras.optimizers.MultiOptimizer(table, loss_scale_factor=spec.loss_scale_factor, **options)


def _read_rate(optimizer: Any) -> Any:
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        is_own = getattr(keras.optimizers.schedules, type(rate).__name__, None) is not type(rate)
        return GivenSchedule.of(rate) if is_own else reflect_object(rate, "schedule")
    if isinstance(rate, KerasVariable):
        return float(np.asarray(rate.numpy()))
    raise NoTwin(
        f"A learning rate must be a number or one of Keras's schedules to have a twin. Received: {rate!r}. "
        "Write it as a schedule in scratch/schedules.py."
    )


@reflects(*_PLAIN)
def optimizer_back(keras_optimizer: Any) -> Any:
    """The twin of a Keras optimizer, its learning rate as it is now. Raises: NoTwin."""
    cls = registry.get("optimizer", type(keras_optimizer).__name__)
    values = {"learning_rate": _read_rate(keras_optimizer)}
    for name in (f.name for f in fields(cls) if f.name != "learning_rate"):
        value = simplify(getattr(keras_optimizer, name))
        value = value.numpy().item() if hasattr(value, "numpy") else value
        values[name] = (value or None) if name in _OFF else value
    try:
        return cls(**values)
    except ValueError as error:
        raise NoTwin(
            f"The twin of {type(keras_optimizer).__name__} does not take this configuration: {error}"
        ) from error


@reflects("LossScaleOptimizer")
def loss_scale_back(keras_optimizer: Any) -> Any:
    """The twin of a Keras LossScaleOptimizer and of the optimizer that it wraps."""
    inner = reflect_object(keras_optimizer.inner_optimizer, "optimizer")
    return LossScaleOptimizer(inner, float(keras_optimizer.initial_scale), int(keras_optimizer.dynamic_growth_steps))


@reflects("MultiOptimizer")
def multi_back(keras_optimizer: Any) -> Any:
    """The twin of a Keras MultiOptimizer. Raises: NoTwin for one that is not built and has a function.

    A function that chooses optimizers becomes a map of the paths that the optimizer was built with.
    """
    table = keras_optimizer._optimizer_map
    if isinstance(table, keras.optimizers.OptimizerMap):
        default, routes = table.default_optimizer, dict(table.items())
    elif keras_optimizer.built:
        routes = {
            v.path: keras_optimizer.optimizers[keras_optimizer._var_to_optimizer_idx[keras_optimizer._var_key(v)]]
            for v in keras_optimizer._trainable_variables
        }
        default = next(iter(routes.values()))
    else:
        raise NoTwin(
            "A MultiOptimizer must hold an OptimizerMap, or be built, to have a twin. Received: an unbuilt one with a "
            "function. Call build(model.trainable_variables)."
        )
    # the wrapper's loss_scale_factor has overwritten theirs
    made = {id(o): replace(reflect_object(o, "optimizer"), loss_scale_factor=None) for o in (*routes.values(), default)}
    return MultiOptimizer(
        made[id(default)],
        tuple((pattern, made[id(inner)]) for pattern, inner in routes.items()),
        loss_scale_factor=keras_optimizer.loss_scale_factor,
    )


def read_state(optimizer: Any, names: Mapping[str, str]) -> State:
    """The state of a live Keras optimizer for its twin; `names` maps the paths of its variables to the twin's names.

    ScheduleFreeAdamW keeps no sum of squared rates: it is computed from the present learning rate over the steps taken.
    Raises: ValueError for an optimizer that is not built; KeyError for a variable without a name.
    """
    if not optimizer.built:
        raise ValueError(
            f"An optimizer must be built to have a state. Received: {optimizer.name!r}, unbuilt. "
            "Call build(model.trainable_variables), or take the twin's init."
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        own = {
            "dynamic_scale": float(optimizer.dynamic_scale.numpy()),
            "step_counter": int(optimizer.step_counter.numpy()),
        }
        inner = read_state(optimizer.inner_optimizer, names)
        return replace(inner, shared={**inner.shared, **own})
    if isinstance(optimizer, find_optimizer_class("MultiOptimizer")):
        parts = [(i, read_state(inner, names)) for i, inner in enumerate(optimizer.optimizers) if inner.built]
        slots = {name: own for _, part in parts for name, own in part.slots.items()}
        shared = {f"{i}/{key}": value for i, part in parts for key, value in part.shared.items()}
        return State(int(optimizer._iterations.numpy()), slots, shared)
    slots = {names[v.path]: _read_slots(optimizer, i, v) for i, v in enumerate(optimizer._trainable_variables)}
    iterations = int(optimizer._iterations.numpy())
    return State(iterations, slots, _read_shared(optimizer, iterations))


def _read_slots(optimizer: Any, i: int, variable: Any) -> dict[str, np.ndarray]:
    """The slots of the i-th variable in every list that the optimizer keeps, by the ends of their names."""
    count, prefix = len(optimizer._trainable_variables), variable.path.replace("/", "_") + "_"
    tables = {
        n: t
        for n, t in vars(optimizer).items()
        if isinstance(t, list) and n not in ("_variables", "_trainable_variables")
    }
    found = {}
    for table in tables.values():
        entry = table[i] if len(table) == count else None
        if isinstance(entry, KerasVariable) and entry.name.startswith(prefix):
            found[entry.name.removeprefix(prefix)] = np.array(entry.numpy())
    if isinstance(optimizer, keras.optimizers.Adafactor) and len(variable.shape) >= 2:
        found.update(r=np.array(optimizer._r[i].numpy()), c=np.array(optimizer._c[i].numpy()))
    return found


def _read_shared(optimizer: Any, iterations: int) -> dict[str, float]:
    """The parts of the state that belong to no single variable."""
    if isinstance(optimizer, keras.optimizers.Nadam):
        return {"u_product": float(optimizer._u_product.numpy())}
    if isinstance(optimizer, find_optimizer_class("ScheduleFreeAdamW")):
        spec = reflect_object(optimizer, "optimizer")
        every = spec.gradient_accumulation_steps or 1
        rates = (spec.warm(spec.rate(every * k + every - 1), k) for k in range(iterations // every))
        return {"weight_sum": float(sum(rate**2 for rate in rates))}
    return {}


def find_excluded_from_weight_decay(optimizer: Any, names: Mapping[str, str]) -> frozenset[str]:
    """The twin's names of the variables that a live Keras optimizer does not decay.

    On TensorFlow the patterns of exclude_from_weight_decay() are searched for in the path with ":0" behind it, by Muon
    in the variable's own name. Patterns given to a wrapper have no effect on the optimizers inside it.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return find_excluded_from_weight_decay(optimizer.inner_optimizer, names)
    if isinstance(optimizer, find_optimizer_class("MultiOptimizer")):
        inside = (find_excluded_from_weight_decay(inner, names) for inner in optimizer.optimizers if inner.built)
        return frozenset[str]().union(*inside)
    keys: set[Any] = getattr(optimizer, "_exclude_from_weight_decay", set())
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    muon = isinstance(optimizer, find_optimizer_class("Muon"))
    found = set()
    for variable in optimizer._trainable_variables:
        searched = variable.name if muon else variable.value.name
        if optimizer._var_key(variable) in keys or (pattern is not None and pattern.search(searched)):
            found.add(names[variable.path])
    return frozenset(found)


def map_to_paths(names: Mapping[str, str]) -> dict[str, str]:
    """{twin's name: path} of {path: twin's name}: patterns of init, step and finalize are matched with paths."""
    return {name: path for path, name in names.items()}


# The laws that Keras computes where it departs from the definition ---------------------------------------------------


class _AsKeras(Optimizer):
    """Any optimizer: Keras averages before it constrains, and does both also while gradients are accumulated."""

    def settle(self, weights: Any, slots: Any, updated: Any, constraints: Any, iterations: int) -> None:
        self.average(weights, slots, iterations)
        constrain(weights, updated, constraints)

    wait = settle


class _ScheduleFree(ScheduleFreeAdamW):
    """ScheduleFreeAdamW: Keras takes x from the new z, decays y alone, averages with 1/k and ends training with y."""

    def update(self, weight: Any, gradient: Any, slots: Any, *, rate: float, iterations: int) -> Any:  # type: ignore[override]
        # z and v are those of the definition: an error in them is no departure
        _, new = super().update(weight, gradient, slots, rate=rate, iterations=iterations, shared={"weight_sum": 0.0})
        k, b, z = iterations + 1, self.beta_1, new["momentum"]
        x = (1 - 1 / k) * self.averaged(weight, z) + z / k
        return (1 - b) * z + b * x, new

    def finalize(self, weights: Any, state: State, *, paths: Any = None) -> Any:
        return Optimizer.finalize(self, weights, state)


class _Nadam(Nadam):
    """Nadam: Keras warms up by 0.96ᵏ, and has 0.96 in float32, but not in the product of the momenta."""

    warming = 1.0

    def mu(self, k: int) -> float:
        return self.beta_1 * (1 - 0.5 * float(np.float32(0.96)) ** k)

    def advance(self, shared: Mapping[str, float], *, rate: float, iterations: int) -> dict[str, float]:
        return {"u_product": shared["u_product"] * super().mu(iterations + 1)}


class _NadamOfKeras2(_Nadam):
    """Nadam of Keras 2: it has 0.96 in float32 in the product of the momenta too."""

    advance = Nadam.advance


class _Adafactor(Adafactor):
    """Adafactor: Keras limits the rate by 1/√k whatever relative_step says."""

    def relative(self, rate: float, k: int) -> float:
        return float(min(rate, k**-0.5))


class _Ftrl(Ftrl):
    """Ftrl: Keras has 2·λ₂ in place of λ₂, and divides 0 by 0 where nothing has been accumulated."""

    def solution(self, z: Any, curvature: Any, l1: float, l2: float) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (np.clip(z, -l1, l1) - z) / (curvature + 2 * l2)


class _Lamb(Lamb):
    """Lamb: Keras decays the weight beforehand, outside the trust ratio."""

    def update(self, weight: Any, gradient: Any, slots: Any, *, rate: float, iterations: int) -> Any:  # type: ignore[override]
        return super().update(weight, gradient, slots, rate=rate, iterations=iterations)


class _Muon(Muon):
    """Muon: Keras decays the weights that move by AdamW at the main learning rate."""

    def adam_decay_rate(self, rate: float) -> float:
        return rate


class _Restarts(CosineDecayRestarts):
    """CosineDecayRestarts: Keras has the amplitude (1 - α)·m_mulⁱ in place of m_mulⁱ - α."""

    def amplitude(self, period: int) -> float:
        return (1 - self.alpha) * super().amplitude(period) + self.alpha


_LAWS = {law.__bases__[0]: law for law in (_ScheduleFree, _Nadam, _Adafactor, _Ftrl, _Lamb, _Muon, _Restarts)}
#: release of Keras → the laws that it computes
_LAWS_OF = {2: {**_LAWS, Nadam: _NadamOfKeras2}, 3: _LAWS}


@cache
def _find_class(cls: type, release: int) -> type:
    law = _LAWS_OF[release].get(cls, cls)
    return type(cls.__name__, (_AsKeras, law), {}) if issubclass(cls, Optimizer) else law


def as_keras(spec: Any, release: int = 3) -> Any:
    """An optimizer or schedule with the laws that Keras (2 or 3) computes where it departs from the definition.

    A step of Keras that differs from the definition and agrees with this is explained by known departures.
    """
    if isinstance(spec, LossScaleOptimizer):
        return replace(spec, inner_optimizer=as_keras(spec.inner_optimizer, release))
    if isinstance(spec, MultiOptimizer):
        made = {id(inner): as_keras(inner, release) for inner in spec.optimizers}
        routes = tuple((pattern, made[id(inner)]) for pattern, inner in spec.optimizer_map)
        return replace(spec, default_optimizer=made[id(spec.default_optimizer)], optimizer_map=routes)
    if not isinstance(spec, (Optimizer, Schedule)):
        return spec
    own: Any = type(spec)
    cls: Any = _find_class(own, release)
    if release == 3 and getattr(spec, "global_clipnorm", None) is not None:
        cls = _make_dense_after_clipping(cls)
    return cls(**{f.name: as_keras(getattr(spec, f.name), release) for f in fields(spec)})


class _DenseAfterClipping:
    """Keras 3 multiplies by a common norm what it then no longer knows the slices of: their sum is squared."""

    def clipped(self, gradients: Mapping[str, Any]) -> dict[str, Any]:
        found = super().clipped(gradients)  # type: ignore[misc]
        return {name: g.view(np.ndarray) if isinstance(g, SparseGradient) else g for name, g in found.items()}


@cache
def _make_dense_after_clipping(cls: type) -> type:
    return type(cls.__name__, (_DenseAfterClipping, cls), {})
