"""Keras 2 (tf_keras): the model built again from its configuration where it computes in another precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from keras_ref.programs.keras_layers import leaves
from keras_ref.programs.keras_models import Batch, KerasProgram, Loss, list_optimizer_variables
from keras_ref.programs.program import program
from scratch.arrays import Array


@program
class Keras2(KerasProgram):
    """A model of tf_keras. What it holds is bit-identical after each run."""

    prefix = "keras2"
    needs = ("tf_keras", "keras2")
    library = "tf_keras"
    title = "Keras {} (tf_keras)"

    @classmethod
    def accepts(cls, value: Any) -> bool:
        return any(c.__name__ == "Model" and c.__module__.startswith("tf_keras.") for c in type(value).__mro__)

    @contextmanager
    def model_in(self, precision: str, loss: Any = None) -> Iterator[Any]:
        from keras_ref.evaluation.changed_state.restoration import Restoration

        with super().model_in(precision, loss) as model, Restoration() as restoration:
            optimizers = [o for o in [getattr(model, "optimizer", None)] if o is not None]
            for keras_object in (*leaves(model), *optimizers):
                restoration.keep_attributes(keras_object)
                _keep_constants_exact(keras_object)
            for variable in (*model.variables, *(v for o in optimizers for v in list_optimizer_variables(o))):
                restoration.keep_value(variable)
            yield model

    def make(self, precision: str) -> Any:
        model = self.load()[0]
        if all(np.dtype(v.dtype.as_numpy_dtype).name == precision for v in model.trainable_variables):
            return model
        again = type(model).from_config(_retype_config(model.get_config(), precision))
        if self._is_compiled(model):
            optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
            again.compile(optimizer=optimizer, loss=model.loss, run_eagerly=True)
        return again

    def numpy(self, value: Any) -> Array:
        return np.asarray(value)

    def dense(self, gradient: Any) -> Any:
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)

    def _convert_to_tensors(self, value: Any) -> Any:
        import tensorflow as tf

        return None if value is None else tf.nest.map_structure(tf.convert_to_tensor, value)

    def _sum(self, value: Any) -> Any:
        import tensorflow as tf

        return tf.reduce_sum(value)

    def compute_loss(self, model: Any, batch: Batch, output: Any, *, training: bool) -> Any:
        del training
        return model.compute_loss(x=batch.x, y=batch.y, y_pred=output, sample_weight=batch.sample_weight)

    def gradient(self, model: Any, loss: Loss, inputs: Mapping[str, Any]) -> tuple[float, list[Any], dict[str, Any]]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(list(inputs.values()))
            value = loss(inputs)
        found, of_inputs = tape.gradient(value, (model.trainable_variables, list(inputs.values())))
        return float(value), list(found), dict(zip(inputs, of_inputs, strict=True))


def _keep_constants_exact(keras_object: Any) -> None:
    """Let the constants of a layer or optimizer be float64: TensorFlow takes a plain 0.999 for a float32."""
    for name, value in list(vars(keras_object).items()):
        if type(value) is float:
            setattr(keras_object, name, np.float64(value))


def _retype_config(config: Any, precision: str) -> Any:
    """A configuration with every floating dtype in it replaced."""
    if isinstance(config, dict):
        return {
            key: precision if key == "dtype" and str(value).startswith("float") else _retype_config(value, precision)
            for key, value in config.items()
        }
    return [_retype_config(item, precision) for item in config] if isinstance(config, (list, tuple)) else config
