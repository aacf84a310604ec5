"""A check during training: keras_ref.GradientCheck, a callback for model.fit."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ref.checks import gradients
from keras_ref.errors import find_user_stacklevel
from keras_ref.evaluation.arguments import describe_value
from keras_ref.evaluation.changed_state.float64 import restore_process_state
from keras_ref.inputs.arrays import convert_data, take_first_batches, take_samples
from keras_ref.inputs.targets import complete_data
from keras_ref.options import project_keywords, read_settings
from keras_ref.reports.verdict import GradientMismatch, Kind, Report

ON_FAILURE = ("warn", "stop", "raise")
#: options of check_gradients, but for what is checked
OPTIONS = tuple(name for name in signature(gradients.check_gradients).parameters if name not in ("model", "x", "y"))


class GradientWarning(UserWarning):
    """A check during training failed, or could not be run; the message is the report's."""


class GradientCheck(keras.callbacks.Callback):  # type: ignore[misc]
    """Check the model's gradients while it trains: before the first batch, and then before every `every`-th one.

    data         what is checked: (x, y) or (x, y, sample_weight), or a data set or generator (its first batch).
                 A callback cannot see the batches of fit or its validation data. Without data, they are drawn from the
                 model's inputs with the seed.
    samples      at most so many samples of the data are used, the first ones
    effort       "fast" unless given here or in [tool.gradtwin] of pyproject.toml, whose options count where they are
                 not given here; as for check_gradients, as are all other options (training=True, expect=…)
    on_failure   "warn": a GradientWarning, and training goes on; "stop": a warning, and training ends after this batch;
                 "raise": GradientMismatch; or a function that is called with the report
    seed         of what is drawn; 0 unless given here or in pyproject.toml
    options      the other options of check_gradients

    A check changes nothing: weights, optimizer, and the random states of Python, NumPy and Keras are bit for bit what
    they were, so that training goes on as it would have without. Between checks, a batch costs one integer comparison.
    `report` is the last report.

    Raises: ValueError for illegal options, and at the first check for data that do not fit the model; CouldNotRun for a
    pyproject.toml that cannot be read or has an illegal option.
    """

    def __init__(
        self,
        data: Any = None,
        *,
        every: int = 1000,
        effort: str | None = None,
        on_failure: str | Callable[[Report], Any] = "warn",
        samples: int = 32,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, number in (("every", every), ("samples", samples)):
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {describe_value(number)}. Pass 1 or more."
                )
        unknown = [name for name in options if name not in OPTIONS]
        if unknown:
            raise ValueError(
                f"GradientCheck must have options of check_gradients. Received: {', '.join(unknown)}. Choose from "
                f"{', '.join(OPTIONS)}."
            )
        if not callable(on_failure) and not (isinstance(on_failure, str) and on_failure in ON_FAILURE):
            raise ValueError(
                f"`on_failure` must be one of {', '.join(ON_FAILURE)}, or a function of the report. "
                f"Received: {describe_value(on_failure)}. Choose one of them."
            )
        if isinstance(data, Iterator):  # which has its first batch once
            data = next(iter(take_first_batches(data, 1)), ())
        self.data, self.every, self.samples, self.on_failure = data, int(every), int(samples), on_failure
        given = {name: value for name, value in (("effort", effort), ("seed", seed)) if value is not None}
        settings = read_settings(Path.cwd())
        self.allowed = frozenset(settings.get("allow", ()))
        self.options = {
            "effort": "fast",
            "seed": 0,
            **project_keywords(settings, OPTIONS),
            **given,
            **options,
        }
        self.report: Report | None = None
        self._left = 0
        self._epoch = 0
        self._said: frozenset[tuple[str, str, Kind]] = frozenset()

    def on_train_begin(self, logs: Any = None) -> None:
        """Check before the first batch; a model without Input, which that batch builds, before the second."""
        self._left = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch, which Keras counts from 0 and shows from 1."""
        self._epoch = epoch + 1

    # a callback with on_train_batch_end would make Keras wait for the metrics of every batch
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Count batches, and check when it is time."""
        if self._left > 0:
            self._left -= 1
        elif self.model.built:
            self._left = self.every - 1
            self._check(batch)

    def _check(self, batch: int) -> None:
        first = self.report is None
        with restore_process_state():
            try:
                (model, x, y, weight), _ = complete_data(
                    self.model, *_take_first(self.data, self.samples), seed=self.options["seed"]
                )
                report = gradients.check_gradients(model, x, y, sample_weight=weight, **self.options)
            except ValueError as error:
                if first:  # data that do not fit are the caller's mistake
                    raise
                self._fail(f"The gradients could not be checked before {self._place(batch)}: {error}", None)
                return
        self.report = report = replace(report, allowed=self.allowed)
        if report.ok:
            self._said = frozenset()
            return
        failures = frozenset((v.name, v.oracle, v.verdict) for v in report.failures)
        again = failures == self._said and bool(failures)
        self._said = failures
        self._fail(f"Before {self._place(batch)}: {_repeat_briefly(report) if again else report.explain()}", report)

    def _place(self, batch: int) -> str:
        """Where training stands, as Keras's progress bar counts."""
        return f"batch {batch + 1} of epoch {self._epoch}"

    def _fail(self, text: str, report: Report | None) -> None:
        if callable(self.on_failure) and report is not None:
            self.on_failure(report)
        elif self.on_failure == "raise":
            raise GradientMismatch(text)
        else:
            warnings.warn(text, GradientWarning, stacklevel=find_user_stacklevel())
            self.model.stop_training |= self.on_failure == "stop"


def _repeat_briefly(report: Report) -> str:
    """One line for what has been said in full before."""
    counts = Counter(v.verdict for v in report.failures)
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    at_fault = "" if report.culprit is None else f"; the layer at fault: {report.culprit.text}"
    return f"still the same failures ({found}){at_fault}"


def _take_first(data: Any, samples: int) -> tuple[Any, ...]:
    """(x, y, sample_weight) of the first samples, as far as they are given; () without data."""
    if data is None:
        return ()
    parts = data if isinstance(data, tuple) else (data,)
    found = convert_data(*parts)
    return tuple(take_samples(part, 0, samples) for part in (found.x, found.y, found.sample_weight))
