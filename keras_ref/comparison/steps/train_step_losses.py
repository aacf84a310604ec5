"""The losses that a train_step of a model's own computes, each as a function of data: no optimizer acts meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common.stateless_scope import get_stateless_scope, in_stateless_scope

from keras_ref.comparison.steps.training_steps import pack_batch
from keras_ref.errors import BadInput
from keras_ref.evaluation.changed_state.keras_2 import is_optimizer
from keras_ref.evaluation.changed_state.restoration import Restoration
from keras_ref.evaluation.keras_objects.keras_classes import KerasVariable
from keras_ref.evaluation.keras_objects.nesting import list_items, walk_everything
from keras_ref.evaluation.loss_function import Data

#: the name under which a train step returns its loss
LOSS = "loss"


class NoStepLoss(BadInput):
    """A train step computes no loss that could be differenced."""


def own_optimizers(model: Any) -> list[Any]:
    """The optimizers that a model trains with: the compiled one, and those that it keeps, in lists and the like too."""
    found = walk_everything([getattr(model, "optimizer", None), *vars(model).values()], list_items)
    return list({id(o): o for o in found if isinstance(o, keras.optimizers.Optimizer) or is_optimizer(o)}.values())


def find_applying_method(optimizer: Any) -> str:
    """The method by which an optimizer takes gradients, however it is called."""
    return "apply_gradients" if is_optimizer(optimizer) else "apply"


@contextmanager
def running_functions_eagerly() -> Iterator[None]:
    """Run tf.functions as Python, so that none keeps a trace of what is put in the place of its parts for a while."""
    with Restoration() as restoration:
        restoration.undo_by(tf.config.run_functions_eagerly, tf.config.functions_run_eagerly())
        tf.config.run_functions_eagerly(run_eagerly=True)
        yield


#: what is done with the loss of each gradient by variables
Seen = Callable[[Any], None]


@contextmanager
def _without_optimizers(model: Any, optimizers: Sequence[Any], trained: Sequence[Any], seen: Seen) -> Iterator[None]:
    """Let no optimizer act, and the weights stay where they are; metrics start from zero.

    seen   is called with the loss whose gradient by variables is taken
    """
    # metrics are assigned to: inside a scope that is a value, which autodiff follows
    scope: AbstractContextManager[Any] = (
        nullcontext() if in_stateless_scope() else keras.StatelessScope(collect_losses=True)
    )
    with Restoration() as restoration, running_functions_eagerly(), scope:
        for optimizer in optimizers:
            restoration.set_attribute(optimizer, find_applying_method(optimizer), lambda *_, **__: None)
        for variable in trained:  # what a step moves by itself stays where it is
            restoration.set_attribute(variable, "assign", lambda value: value)
        present = get_stateless_scope()
        values = (present.get_current_value(v) for v in trained if isinstance(v, KerasVariable))
        tapes = _Tapes([value for value in values if value is not None], seen)
        for method, made in (("__enter__", tapes.wrap_enter), ("gradient", tapes.gradient)):
            original = getattr(tf.GradientTape, method)
            restoration.undo_by(setattr, tf.GradientTape, method, original)
            setattr(tf.GradientTape, method, made(original))
        model.reset_metrics()
        yield


def returned_loss(
    model: Any, optimizers: Sequence[Any], trained: Sequence[Any], *, dtype: str | None
) -> Callable[[Data], Any]:
    """The loss that a model's train step returns, as a function of data, whose floats it takes in `dtype`.

    It raises NoStepLoss where there is none.
    """

    def loss(data: Data) -> Any:
        with _without_optimizers(model, optimizers, trained, lambda _: None):
            return loss_in(model.train_step(pack_batch(data, dtype)))

    return loss


def differentiated_loss(
    model: Any, optimizers: Sequence[Any], trained: Sequence[Any], number: int, *, dtype: str | None
) -> Callable[[Data], Any]:
    """The loss of the train step's gradient of that number (from 0) by variables, as a function of data.

    dtype   what floats of the data are cast to

    It raises NoStepLoss where the step takes fewer.
    """

    def loss(data: Data) -> Any:
        losses: list[Any] = []
        with _without_optimizers(model, optimizers, trained, losses.append):
            model.train_step(pack_batch(data, dtype))
        if number >= len(losses):
            raise NoStepLoss(f"it takes {len(losses)} gradients where no optimizer acts, and took more")
        return losses[number]

    return loss


@dataclass
class _Tapes:
    """The tapes of a train step where no optimizer acts: the gradients by variables that they take are zeros.

    held     the tensors that a scope has in the place of variables
    seen     is called with the loss of each gradient by variables
    opened   the tapes that the step has opened so far

    A gradient by anything else is what it was: a loss may contain one, such as a penalty on that by inputs. So is one
    by variables that another tape records: a loss may contain the gradient of another one (a step inside it, a penalty
    on the slopes by weights).
    """

    held: list[Any]
    seen: Seen
    opened: list[Any] = field(default_factory=list)

    def wrap_enter(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`GradientTape.__enter__`: what stands in the place of a variable is watched like one."""

        def enter(tape: Any) -> Any:
            self.opened.append(tape)
            entered = original(tape)
            if tape._watch_accessed_variables:  # noqa: SLF001 (TensorFlow says it nowhere else)
                for tensor in self.held:
                    tape.watch(tensor)
            return entered

        return enter

    def gradient(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`GradientTape.gradient`."""

        def gradient(tape: Any, target: Any, sources: Any, *arguments: Any, **options: Any) -> Any:
            flat = tf.nest.flatten(sources)
            is_weight = [is_variable(s) or any(s is one for one in self.held) for s in flat]
            if any(is_weight):
                self.seen(sum_target(target, *arguments, **options))
            if self._is_recorded(tape):
                return original(tape, target, tf.nest.map_structure(_present, sources), *arguments, **options)
            others = [s for s, known in zip(flat, is_weight, strict=True) if not known]
            found = iter(original(tape, target, others, *arguments, **options) if others else [])

            def of(source: Any, *, known: bool) -> Any:
                if known:
                    return tf.zeros(source.shape, source.dtype)
                slope = next(found)
                return tf.zeros_like(source) if slope is None else slope

            every = [of(source, known=known) for source, known in zip(flat, is_weight, strict=True)]
            return tf.nest.pack_sequence_as(sources, every)

        return gradient

    def _is_recorded(self, tape: Any) -> bool:
        """Whether a gradient that a tape takes now is recorded by a tape of the step."""
        # TensorFlow says neither of them anywhere else
        return any(one._recording and (one is not tape or one._persistent) for one in self.opened)  # noqa: SLF001


def _present(source: Any) -> Any:
    """What a gradient by a variable is taken by: the tensor that a scope has in its place, if there is one."""
    scope = get_stateless_scope() if isinstance(source, KerasVariable) else None
    value = None if scope is None else scope.get_current_value(source)
    return source if value is None else value


def is_variable(source: Any) -> bool:
    """Whether a source of a gradient is a variable, of Keras or TensorFlow."""
    return isinstance(source, (KerasVariable, tf.Variable))


def sum_target(target: Any, output_gradients: Any = None, *_: Any, **__: Any) -> Any:
    """The scalar whose gradient GradientTape.gradient(target, …, output_gradients) takes."""
    targets = [tf.convert_to_tensor(one) for one in tf.nest.flatten(target)]
    factors = [None] * len(targets) if output_gradients is None else tf.nest.flatten(output_gradients)
    parts = [
        tf.reduce_sum(one if factor is None else one * factor) for one, factor in zip(targets, factors, strict=True)
    ]
    return tf.add_n(parts)


def loss_in(logs: Any) -> Any:
    """The loss among what a train step returned. Raises: NoStepLoss."""
    found = logs.get(LOSS) if isinstance(logs, Mapping) else None
    loss = None if found is None else tf.convert_to_tensor(found)
    if loss is None or loss.shape.rank != 0 or not loss.dtype.is_floating:
        received = ", ".join(map(str, logs)) if isinstance(logs, Mapping) else type(logs).__name__
        raise NoStepLoss(f"it returns no scalar {LOSS!r} (but {received or 'nothing'})")
    return loss
