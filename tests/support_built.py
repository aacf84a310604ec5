"""A Keras model built once for an architecture, in float64, and moved from point to point: for many points of few
models.

    built = Built.of(model, x)                              # kept, for models and inputs of the same shapes
    built.values(weights, x)                                # Keras's outputs
    built.verdicts(weights, x, seed=0)                      # the twin against autodiff, under random cotangents

Building a model costs more than a hundred of its small gradients, and tracing a gradient about ten: an architecture's
first gradients are taken eagerly, and from the second point on as a graph; as a graph at once where that is slow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.checks.annotations import prove_departures
from keras_ref.checks.checked_loss import list_untrained, make_model_loss
from keras_ref.checks.twins import build_twin
from keras_ref.comparison.entries.entrywise import compare_entries
from keras_ref.comparison.entries.proven_departures import DepartingTwin
from keras_ref.comparison.sources.autodiff import Autodiff, run_autodiff
from keras_ref.comparison.sources.evidence import Outcome
from keras_ref.comparison.sources.oracles import ForwardOracle, TwinOracle
from keras_ref.evaluation.changed_state.float64 import DTYPE, _move
from keras_ref.evaluation.changed_state.restoration import Restoration, apart
from keras_ref.evaluation.loss_function import Data, LossFunction
from keras_ref.reports.verdict import Reason, Verdict
from keras_ref.translation import departures
from keras_ref.translation import weights as weights_module
from keras_ref.translation.departures import nested_specifications
from keras_ref.translation.to_keras import mirror, mirror_loss
from scratch.arrays import Array
from scratch.layers.recurrent import Recurrent
from scratch.losses.base import Loss
from scratch.model import Model

#: how many architectures are kept: more than one layer's examples have, fewer than all layers' together
KEPT = 64
_KEPT: OrderedDict[Any, Built] = OrderedDict()
#: scopes of models: one that nobody holds would end whenever the garbage collector finds it
_OPEN: list[Any] = []


@contextmanager
def computing_in(dtype: str) -> Iterator[None]:
    """Let new layers compute in a dtype for a while. No Restoration: it would end what is opened inside it for good."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


@contextmanager
def objects_in_float64(*keras_objects: Any) -> Iterator[None]:
    """`in_float64` for objects without a tf.function: those of the process are left alone, so that it may stay open."""
    with Restoration() as restoration:
        _move(restoration, DTYPE, keras_objects)
        yield


class Built:
    """A Keras model of an architecture in float64, whose weights and inputs are moved.

    Raises: whatever Keras raises where it refuses the model, on building it or on its first inputs.
    """

    def __init__(
        self, model: Model, x: Any, *, y: Any = None, loss: Loss | list[Loss] | None = None, training: bool = False
    ) -> None:
        self.model, self._x, self._y, self.training = model, x, y, training
        self.keras_model = mirror(model)
        if loss is not None:
            compiled = list(map(mirror_loss, loss)) if isinstance(loss, list) else mirror_loss(loss)
            self.keras_model.compile(optimizer=None, loss=compiled, run_eagerly=True)
        self._points = 0
        # float64 for good, while Keras's default float type stays what it is for everything else
        self._scope = objects_in_float64(self.keras_model)
        with computing_in(keras.config.floatx()), apart():
            self._scope.__enter__()
        _OPEN.append(self._scope)

    @classmethod
    def of(
        cls, model: Model, x: Any, *, y: Any = None, loss: Loss | list[Loss] | None = None, training: bool = False
    ) -> Built:
        """The model of this architecture on inputs of these shapes: the one that is kept, or a new one."""
        key = repr(model), tuple((np.shape(a), np.asarray(a).dtype) for a in _leaves(x)), repr(loss), training
        if key not in _KEPT:
            while len(_KEPT) >= KEPT:
                _KEPT.popitem(last=False)[1].close()
            _KEPT[key] = cls(model, x, y=y, loss=loss, training=training)
        _KEPT.move_to_end(key)
        return _KEPT[key]

    def close(self) -> None:
        """Give the model back its own precision; it is of no use afterwards."""
        with computing_in(keras.config.floatx()):
            self._scope.__exit__(None, None, None)
        _OPEN.remove(self._scope)

    def values(self, weights: Mapping[str, Array], x: Any) -> list[Array]:
        """Keras's outputs, in inference. What a call writes, the states of stateful layers, is discarded."""
        weights_module.assign(self.keras_model, self.model, weights)
        with computing_in(DTYPE), keras.StatelessScope():
            return [np.asarray(o) for o in keras.tree.flatten(self._forward(x))]

    @cached_property
    def _forward(self) -> Callable[[Any], Any]:
        """The forward pass, as a graph where Keras would compile a part of it in every call anew."""
        compiles = any(
            _compiles_anew(part) for layer in self.model.layers.values() for part in nested_specifications(layer)
        )
        return tf.function(self.keras_model, autograph=False) if compiles else self.keras_model

    @cached_property
    def _probed(self) -> LossFunction:
        found = make_model_loss(self.keras_model, Data(self._x, self._y), training=self.training)
        trained = list(self.keras_model.trainable_variables)
        return LossFunction(
            found.loss, variables=trained, state=list_untrained(self.keras_model, trained), data=found.data
        )

    @property
    def mode(self) -> str:
        """How the next gradient is taken."""
        if weights_module.find_adapted(self.keras_model):
            return "eager"  # a graph keeps the copy of the weights that it was traced with
        return "function" if self._slow or self._points > 1 else "eager"

    @property
    def first_mode(self) -> str:
        """How a first gradient is taken, however many there were: what is said of one does not depend on the others."""
        return "function" if self._slow and not weights_module.find_adapted(self.keras_model) else "eager"

    @property
    def _slow(self) -> bool:
        return any(_slow_eagerly(part) for layer in self.model.layers.values() for part in nested_specifications(layer))

    @contextmanager
    def at(self, weights: Mapping[str, Array], x: Any, y: Any = None, *, seed: int = 0) -> Iterator[LossFunction]:
        """Keras's loss at a point, good inside the `with` block: under random cotangents, or with a loss on targets
        `y`.
        """
        weights_module.assign(self.keras_model, self.model, weights)
        with computing_in(DTYPE):
            probe = self._probed
            generator = np.random.default_rng(seed)
            targets = y if y is not None else [generator.normal(size=np.shape(c)) for c in probe.data.y]
            yield probe.refresh(Data(x, targets))

    def twin(self, probe: LossFunction) -> TwinOracle:
        """The twin as oracle where the probe is."""
        return build_twin(
            self.keras_model,
            probe,
            data=probe.data,
            projection=self._y is None,
            training=self.training,
        )

    def sides(self, weights: Mapping[str, Array], x: Any, *, seed: int = 0) -> tuple[TwinOracle, Autodiff]:
        """Both sides at a point under random cotangents, ready for `compare_entries`: the twin as oracle, Keras's
        autodiff.
        """
        with self.at(weights, x, seed=seed) as probe:
            self._points += 1
            return self.twin(probe), run_autodiff(probe, probe.values, mode=self.mode)

    def verdicts(
        self, weights: Mapping[str, Array], x: Any, *, seed: int = 0, most: int | None = None
    ) -> list[Verdict]:
        """One verdict for every weight and float input, a departure where that is proven; of each variable `most`
        entries are compared, drawn with the seed.
        """
        found = []
        with self.at(weights, x, seed=seed) as probe:
            self._points += 1
            oracle, autodiff = self.twin(probe), run_autodiff(probe, probe.values, mode=self.mode)
            for refused in autodiff.refused.values():
                raise RuntimeError(refused.reason.text(*refused.details))
            for i, (name, value) in enumerate(oracle.values.items()):
                if name in oracle.names:
                    size = value.size
                    chosen = np.random.default_rng(seed + i).permutation(size)[:most]
                    found.append(compare_entries(oracle, name, autodiff=autodiff, entries=np.sort(chosen), seed=seed))
            forward = cache(lambda: ForwardOracle.at(probe, probe.values, seed=seed))
            departing = DepartingTwin(twin=oracle, autodiff=autodiff, forward=forward, seed=seed)
            return list(prove_departures(Outcome(tuple(found)), departing).verdicts)


def _slow_eagerly(spec: Any) -> bool:
    """Whether an eager gradient costs as much as a trace: a loop over steps does.

    That of AdaptiveMaxPooling is no number: the kernel adds what memory held, now and then, which no second evaluation
    repeats (departure adaptive-max-pooling-gradient-from-anywhere, with a test of its own).
    """
    return isinstance(spec, Recurrent) or _compiles_anew(spec) or type(spec).__name__.startswith("AdaptiveMaxPooling")


def _compiles_anew(spec: Any) -> bool:
    """Whether Keras compiles a convolution in every eager call anew: with groups, and with channels in front."""
    return hasattr(spec, "kernel_size") and (getattr(spec, "groups", 1) > 1 or spec.data_format == "channels_first")


def _leaves(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def wrong_only_at_known_points(report: Any, specifications: Any) -> bool:
    """Whether autodiff is wrong at single points only, where a known departure says that it is (celu at 0)."""
    known = [departures.get_departure(one) for one in departures.find_departures(specifications, "gradient")]
    points = any("special points" in departure.only for departure in known)
    return points and all(v.reason_code is Reason.WRONG_ONLY_HERE for v in report.failures)
