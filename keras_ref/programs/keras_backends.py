"""What Keras 3 on JAX and on PyTorch share: a process has one backend, and float64 has to be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from keras_ref.programs.keras_layers import leaves
from keras_ref.programs.keras_models import KerasProgram, find_compute_dtypes
from keras_ref.programs.program import Load
from keras_ref.undoing import undoing


class KerasOnBackend(KerasProgram):
    """Base of Keras 3 on another backend than TensorFlow."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._functions: dict[tuple[int, bool, bool], Any] = {}

    @classmethod
    def accepts(cls, value: Any) -> bool:
        del value
        return False  # a model does not say its backend: the process has one

    @contextmanager
    def float_type(self, precision: str) -> Iterator[None]:
        before = self.keras.config.dtype_policy()
        with super().float_type(precision), undoing(self.keras.config.set_dtype_policy, before):
            self.keras.config.set_dtype_policy(precision)  # of new layers, which Keras keeps beside floatx
            yield

    def make(self, precision: str) -> Any:
        keep_float64()
        restart_names()
        model = self.load()[0]
        return model if find_compute_dtypes(model) <= {precision} else self._retype(model, precision)

    def _retype(self, model: Any, precision: str) -> Any:
        """A model built again from its configuration, where that says a precision: every saved file does.

        One that cannot be built so computes in the precision that it has, which its noise shows.
        """
        saving = self.keras.saving
        try:
            with saving.custom_object_scope({type(one).__name__: type(one) for one in leaves(model)}):
                again = saving.deserialize_keras_object(retype_config(saving.serialize_keras_object(model), precision))
        except (TypeError, ValueError, NotImplementedError):
            return model
        again.set_weights(model.get_weights())
        return again


def retype_config(config: Any, precision: str) -> Any:
    """A configuration with another precision wherever it says one: as a dtype, or as the policy of a layer."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy" and "float" in str(config["config"].get("name")):
            return {**config, "config": {"name": precision}}
        return {
            k: precision if (k, v) == ("dtype", "float32") else retype_config(v, precision) for k, v in config.items()
        }
    return [retype_config(item, precision) for item in config] if isinstance(config, (list, tuple)) else config


def restart_names() -> None:
    """Let the next layer without a name be called dense, not dense_7: a model has the same names however often it is
    made.
    """
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("object_name_uids", None)


def keep_float64() -> None:
    """Let Keras on JAX and PyTorch compute in float64 in this process: they turn float64 results into float32."""
    from keras.src.backend.common import dtypes

    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
