"""Keras 3 on TensorFlow: the model itself, computing in another precision for the time of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keras_ref.programs.keras_models import KerasProgram, Loss
from keras_ref.programs.program import program


@program
class KerasOnTensorFlow(KerasProgram):
    """A model of Keras 3, on TensorFlow. What it holds is bit-identical after each run."""

    prefix = "keras"
    backend = "tensorflow"

    @classmethod
    def accepts(cls, value: Any) -> bool:
        return any(c.__name__ == "Model" and c.__module__.startswith("keras.src.") for c in type(value).__mro__)

    @contextmanager
    def model_in(self, precision: str, loss: Any = None) -> Iterator[Any]:
        from keras_ref.evaluation.changed_state.float64 import in_precision, restore_process_state

        if not self._models:
            self._models[""] = self.load()[0]
        with restore_process_state(), in_precision(precision, self._models[""]):
            if loss is not None:
                self._models[""].compile(optimizer=None, loss=self.keras.losses.deserialize(loss))
            self._models[""].run_eagerly = True  # a step would be traced anew for each run
            yield self._models[""]

    def data(self) -> tuple[Any, Any]:
        """Those of the target; drawn from the model's inputs where it has none."""
        from keras_ref.inputs.targets import complete_data

        model, x, y = self.load()
        (_, x, y, _), _ = complete_data(model, x, y)
        return x, y

    def dense(self, gradient: Any) -> Any:
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)

    def gradient(self, model: Any, loss: Loss, inputs: Mapping[str, Any]) -> tuple[float, list[Any], dict[str, Any]]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(list(inputs.values()))
            value = loss(inputs)
        found, of_inputs = tape.gradient(value, ([v.value for v in model.trainable_variables], list(inputs.values())))
        return float(value), list(found), dict(zip(inputs, of_inputs, strict=True))
