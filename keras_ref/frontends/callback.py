"""A check during training: keras_ref.GradientCheck, a callback for model.fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_ref.evaluation.float64 import restore_process_state
from keras_ref.inputs.targets import complete_data
from keras_ref.reports.verdict import GradientMismatch, Report

ON_FAILURE = ("warn", "stop", "raise")


class GradientWarning(UserWarning):
    """A check during training failed, or could not be run; the message is the report's."""


class GradientCheck(keras.callbacks.Callback):  # type: ignore[misc]
    """Check the model's gradients while it trains: before the first batch, and then before every `every`-th one.

    data         what is checked: (x, y) or (x, y, sample_weight), a tf.data.Dataset or a PyDataset (its first batch).
                 A callback cannot see the batches of fit or its validation data. Without data, they are drawn from the
                 model's inputs with the seed.
    samples      at most so many samples of the data are used, the first ones
    effort       as for check_gradients, as are all other options (training=True, variables="encoder/*", expect=…)
    on_failure   "warn": a GradientWarning, and training goes on; "stop": a warning, and training ends after this batch;
                 "raise": GradientMismatch; or a function that is called with the report

    A check changes nothing: weights, optimizer, and the random states of Python, NumPy and Keras are bit for bit what
    they were, so that training goes on as it would have without. Between checks, a batch costs one integer comparison.
    `report` is the last report.

    Raises: ValueError for illegal options; at the first check for data that do not fit the model.
    """

    def __init__(
        self,
        data: Any = None,
        *,
        every: int = 1000,
        effort: str = "fast",
        on_failure: str | Callable[[Report], Any] = "warn",
        samples: int = 32,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, number in (("every", every), ("samples", samples)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
                raise ValueError(f"`{name}` must be a positive integer. Received: {number!r}. Pass 1 or more.")
        if not callable(on_failure) and on_failure not in ON_FAILURE:
            raise ValueError(
                f"`on_failure` must be one of {', '.join(ON_FAILURE)}, or a function of the report. "
                f"Received: {on_failure!r}. Choose one of them."
            )
        self.data, self.every, self.samples, self.on_failure = data, int(every), int(samples), on_failure
        self.options = {"effort": effort, "seed": seed, **options}
        self.report: Report | None = None
        self._left = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Check before the first batch; a model without Input, which that batch builds, before the second."""
        self._left = 0

    # a callback with on_train_batch_end would make Keras wait for the metrics of every batch
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Count batches, and check when it is time."""
        if self._left > 0:
            self._left -= 1
        elif self.model.built:
            self._left = self.every - 1
            self._check(batch)

    def _check(self, batch: int) -> None:
        from keras_ref.checks.gradients import check_gradients

        first = self.report is None
        with restore_process_state():
            try:
                (model, x, y, weight), _ = complete_data(
                    self.model, *_first(self.data, self.samples), seed=self.options["seed"]
                )
                report = check_gradients(model, x, y, sample_weight=weight, **self.options)
            except ValueError as error:
                if first:  # data that do not fit are the caller's mistake
                    raise
                self._fail(f"The gradients could not be checked before batch {batch}: {error}", None)
                return
        self.report = report
        if not report.ok:
            self._fail(f"Before batch {batch}: {report.explain()}", report)

    def _fail(self, text: str, report: Report | None) -> None:
        if callable(self.on_failure) and report is not None:
            self.on_failure(report)
        elif self.on_failure == "raise":
            raise GradientMismatch(text)
        else:
            warnings.warn(text, GradientWarning, stacklevel=2)
            self.model.stop_training |= self.on_failure == "stop"


def _first(data: Any, samples: int) -> tuple[Any, ...]:
    """(x, y, sample_weight) of the first samples, as far as they are given; () without data."""
    if data is None:
        return ()
    if isinstance(data, tf.data.Dataset):
        data = next(iter(data))
    elif isinstance(data, keras.utils.PyDataset):
        data = data[0]
    parts = data if isinstance(data, tuple) else (data,)
    return tuple(
        keras.tree.map_structure(lambda leaf: None if leaf is None else np.asarray(leaf)[:samples], part)
        for part in parts
    )
