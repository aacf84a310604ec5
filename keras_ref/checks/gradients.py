"""The public verb check_gradients: a model's gradients against slopes that need no calculus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from keras_ref.checks.check import check
from keras_ref.checks.checked_loss import (
    CheckedLoss,
    find_loss_objects,
    list_untrained,
    loss_scale,
    make_model_loss,
    mirror_losses,
)
from keras_ref.checks.culprits import name_culprit
from keras_ref.checks.keras_2 import check_keras_2_model
from keras_ref.checks.other_backends import BACKENDS, check_on_backend
from keras_ref.checks.twins import build_twin
from keras_ref.checks.unchecked_training import note_unchecked_training
from keras_ref.checks.used_rows import leave_unused_rows_out
from keras_ref.comparison.sources.settings import Approximation, Settings, require_one_of
from keras_ref.errors import BadInput, errors_as_bad_input
from keras_ref.evaluation.arguments import MODEL, takes
from keras_ref.evaluation.changed_state.guard import leaves_no_trace
from keras_ref.evaluation.changed_state.keras_2 import is_model
from keras_ref.evaluation.loss_function import Data
from keras_ref.inputs import data as data_module
from keras_ref.inputs.arrays import convert_data
from keras_ref.inputs.building import build_model
from keras_ref.reports.verdict import Report
from keras_ref.translation.to_keras import mirror
from scratch.arrays import Array
from scratch.differences import Scheme
from scratch.model import Model
from scratch.progress import Progress


@takes(model=MODEL)
@leaves_no_trace
def check_gradients(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    loss: Any = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    wrt: Sequence[str] = ("weights", "inputs"),
    training: bool = False,
    effort: str = "auto",
    budget: float | str | None = None,
    variables: str = "*",
    modes: Sequence[str] = ("eager",),
    expect: Mapping[str, str | Approximation] | None = None,
    oracles: Sequence[str] = ("forward", "twin"),
    scheme: Scheme | None = None,
    most: int | None = None,
    weights: Mapping[str, Array] | None = None,
    order: int = 1,
    forward_mode: bool = False,
    digits: bool = False,
    seed: int = 0,
    executor: Any = None,
    progress: Progress | None = None,
    replay: str = "",
    batches: int = 1,
    backend: str = "tensorflow",
) -> Report:
    """Compare autodiff's gradients of a model's loss with slopes that need no calculus.

    model          a keras.Model (loss and everything else as compiled), which the data build if it is not built; or a
                   scratch.Model with `weights`
    x, y           a batch, as the model takes it: arrays, tensors or frames; without y and loss every output meets a
                   random cotangent. Or a data set alone (tf.data, keras.utils.PyDataset, a DataLoader of PyTorch), or a
                   generator of batches, whose first ones are taken
    loss           a loss in place of the compiled one;   sample_weight, class_weight  as model.fit takes them
    wrt            "weights", "inputs" or both
    training       whether the forward pass is that of training
    effort         "full": every entry; "auto": every entry of a small model, as many as the budget allows of a large
                   one, the others together; "fast": all entries together along random directions, bisected where they
                   disagree
    budget         seconds, or a text such as "60s" or "5m", that "auto" may take for comparing entries
    variables      a glob over the paths of variables and inputs, the model's name in front or not
    modes          how autodiff runs: "eager", "function" or "jit_compile"; of several, the first is compared with the
                   oracles and the others with the first
    expect         {glob: "surrogate"}: gradients that are meant to differ; {glob: "stop_gradient"}: that differ by
                   tf.stop_gradient alone, compared with its value held; {glob: Approximation(1e-8)}: exact so far
    oracles        "forward", "twin" or both; "twin" alone raises NoTwin where there is none
    scheme         a scheme of scratch.differences for every entry, in place of as many steps as each entry needs
    most           compare at most so many entries of each variable, drawn with the seed
    order          2 checks the second derivative too: autodiff's Hessian · v against differences of its own gradient
    forward_mode   check tf.autodiff.ForwardAccumulator too, along a random direction of each variable
    digits         compare the digits of the smallest entries with the forward pass in many digits (needs mpmath): one
                   that has lost more than half of those it could have is "inaccurate"
    seed           of drawn cotangents, entries and directions
    executor       a concurrent.futures.Executor whose workers compute forward passes, Keras's own and the twin's
    progress       called with (done, total, what)
    replay         a command that repeats the check, for the report
    batches        how many batches of a data set are taken, as one
    backend        "jax" or "torch": Keras on that backend, in a process of its own; `model` is then a text that the
                   process opens ("package.module:factory", a .keras file), or a model that can be saved for it

    Two oracles: Keras's own forward pass differenced in float64, always; the NumPy twin where every layer has one.
    Nothing of the model, the data or the seeds is changed.

    Shapes  x, y and sample_weight with the batch first;   weights  {name: array}, of a scratch.Model
    Units   in the report: slopes, errors and noise are absolute, loss per unit of the variable; shares are of the entry
    Raises: BadInput (a ValueError) for what cannot be checked; NoTwin (a LookupError) where only the twin is wanted and
    there is none; LookupError for a layer of a scratch.Model that Keras does not have; CouldNotRun where the process of
    another backend cannot do its work; MemoryError where memory does not suffice.
    Source  of the numbers: .github/docs/numbers.md; of a definition: its docstring in scratch/
    """
    settings = Settings(
        wrt=wrt,
        effort=effort,
        budget=budget,
        variables=variables,
        modes=modes,
        expect=expect,
        oracles=oracles,
        scheme=scheme,
        most=most,
        order=order,
        forward_mode=forward_mode,
        digits=digits,
        seed=seed,
        progress=progress,
        replay=replay,
    )
    require_one_of("backend", backend, legal=BACKENDS)
    if isinstance(model, str) and backend == BACKENDS[0]:
        raise BadInput(
            f"A model must be a keras.Model or a scratch.Model. Received: the text {model!r}. Pass the model, or name "
            "another backend, whose process opens it."
        )
    if isinstance(model, Model):
        model = mirror(model, weights)
        loss = mirror_losses(loss)
    given = Data(None) if x is None and backend != BACKENDS[0] else convert_data(x, y, sample_weight, batches=batches)
    data = replace(given, sample_weight=data_module.apply_class_weight(given.y, given.sample_weight, class_weight))
    if backend != BACKENDS[0]:
        report = check_on_backend(model, data, backend=backend, loss=loss, training=training, settings=settings)
        return note_unchecked_training(report, model, training=training)
    with errors_as_bad_input():
        build_model(model, data.x)
    data_module.validate_data(model, data.x, data.y, data.sample_weight)
    if is_model(model):
        report = check_keras_2_model(model, data, loss=loss, training=training, settings=settings)
        return note_unchecked_training(report, model, training=training)
    if settings.watch_weights:
        data_module.require_finite_weights(model, needs_trainable=not settings.watch_inputs)

    def prepare_on(data: Data, dtype: str | None) -> CheckedLoss:
        scale = loss_scale(model)  # of the optimizer, which a loss that is given takes the place of
        found = make_model_loss(model, data, loss=loss, training=training, seed=seed, dtype=dtype)
        trained = list(model.trainable_variables) if settings.watch_weights else []
        has_training = getattr(model, "_call_has_training_arg", False)
        return CheckedLoss(
            name=model.name,
            data=found.data,
            loss=found.loss,
            trained=trained,
            state=list_untrained(model, trained),
            twin=lambda loss: build_twin(
                model,
                loss,
                data=found.data,
                projection=found.is_projection,
                training=training,
                executor=executor,
            ),
            scale=scale,
            otherwise=(lambda: make_model_loss(model, data, training=not training, seed=seed, dtype=dtype).loss)
            if has_training
            else None,
            training=training,
            notes=found.notes,
            executor=executor,
        )

    keras_objects = (model, *find_loss_objects(loss))
    with leave_unused_rows_out(keras_objects, data, prepare_on) as (used, on_all_rows):
        report = on_all_rows(check(keras_objects, partial(prepare_on, used), settings))
    report = name_culprit(report, model, data, training=training, settings=settings)
    return note_unchecked_training(report, model, training=training)
