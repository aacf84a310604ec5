"""Explanations of a training step that differs: a setting of the optimizer, a moving average, a stale gradient."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from keras_ref.own_modules import registry
from scratch.arrays import Array

#: settings that frameworks choose otherwise
SETTINGS: Mapping[str, tuple[Any, ...]] = {
    "epsilon": (1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12),
    "momentum": (0.0, 0.5, 0.9, 0.99),
    "nesterov": (True, False),
    "beta_1": (0.0, 0.5, 0.9, 0.99),
    "beta_2": (0.9, 0.95, 0.99, 0.999),
    "rho": (0.9, 0.95, 0.99),
    "weight_decay": (None, 1e-4, 1e-3, 4e-3, 1e-2, 5e-4),
    "amsgrad": (True, False),
    "centered": (True, False),
    "learning_rate": (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0001),
}


@dataclass(frozen=True, kw_only=True)
class StepOf:
    """A weight in two programs: at the start (the same), and after each step; and A's gradient at the start.

    optimizer   (class, configuration) of A; None where it is not known
    samples     the size of the batch
    called      what A and B are called in a sentence
    """

    name: str
    start: Array
    a: tuple[Array, ...]
    b: tuple[Array, ...]
    gradient: Array | None
    optimizer: tuple[str, Mapping[str, Any]] | None
    samples: int
    momentum: float | None = None
    called: tuple[str, str] = ("A", "B")


def explain_step(found: StepOf, step: int, allowed: float) -> str:
    """What B does otherwise in a step (from 0), if something of this file fits to rounding; else ""."""
    wanted = found.b[step]
    for words, value in _propose(found, step):
        scale = max(1.0, float(np.max(np.abs(value), initial=0.0)))
        if np.shape(value) == wanted.shape and np.max(np.abs(value - wanted), initial=0.0) <= allowed * scale:
            return words
    return ""


def _propose(found: StepOf, step: int) -> Iterator[tuple[str, Array]]:
    """(words, the weight after the step)."""
    _, b = found.called
    before = found.b[step - 1] if step else found.start
    yield f"{b} does not update it", before
    if step and step < len(found.b):
        last = found.b[step - 2] if step > 1 else found.start
        yield (
            f"{b} takes the same step again: a stale value, the gradient is that of the previous point",
            2 * before - last,
        )
    if found.name.endswith(("moving_mean", "moving_variance")) and found.momentum not in (None, 1.0):
        yield from _vary_moving_averages(found, step)
    if found.gradient is not None and step == 0:
        yield from _vary_laws(found)
        yield from _vary_plain_steps(found)


def _vary_moving_averages(found: StepOf, step: int) -> Iterator[tuple[str, Array]]:
    """Conventions of moving averages: momentum or 1 - momentum, the biased or the unbiased variance."""
    a, b = found.called
    own = float(found.momentum or 0.0)
    old_a = found.a[step - 1] if step else found.start
    old = found.b[step - 1] if step else found.start
    batch = (found.a[step] - own * old_a) / (1 - own)
    for momentum, words in (
        (1 - own, f"{b} keeps 1 - momentum = {1 - own:g} of the old value, {a} momentum = {own:g}"),
        *((m, f"{a} has momentum {own:g}, {b} {m:g}") for m in (0.0, 0.1, 0.01, 0.9, 0.99, 0.999, 0.5) if m != own),
    ):
        yield words, momentum * old + (1 - momentum) * batch
    if found.name.endswith("moving_variance"):
        # n values for each channel, the batch times what is averaged over: as B's own value says
        with np.errstate(all="ignore"):
            share = np.median((found.b[step] - own * old) / (1 - own) / batch)
        n = share / (share - 1) if share > 1 else 0.0
        # is the share that of a whole number? What is said then has to fit to rounding (explain_step)
        if n > 1 and abs(n - round(n)) < 1e-6 * n and round(n) % found.samples == 0:
            words = f"{b} takes the unbiased variance, × {round(n)}/{round(n) - 1}, {a} the biased one"
            yield words, own * old + (1 - own) * batch * (round(n) / (round(n) - 1))


def _vary_laws(found: StepOf) -> Iterator[tuple[str, Array]]:
    """The optimizer of A with one setting changed, and other optimizers, one step from A's own gradient."""
    optimizer = None if found.optimizer is None else _build_optimizer(*found.optimizer)
    if optimizer is None or not hasattr(optimizer, "learning_rate"):  # one that holds others has no setting of its own
        return
    a, b = found.called
    own = type(optimizer).__name__
    changes = [
        (
            f"{a} has {setting}={_show_settings(getattr(optimizer, setting))}, {b} {_show_settings(value)}",
            optimizer,
            {setting: value},
        )
        for setting, values in SETTINGS.items()
        for value in (values if hasattr(optimizer, setting) else ())
        if value != getattr(optimizer, setting)
    ]
    changes += [
        (
            f"{b} steps as {other} does, {a} as {own}",
            registry.get("optimizer", other)(),
            {"learning_rate": optimizer.learning_rate},
        )
        for other in registry.names("optimizer")
        if other != own and not inspect.signature(registry.get("optimizer", other)).parameters.get("inner_optimizer")
    ]
    for words, base, change in changes:
        try:
            yield words, _run_steps(replace(base, **change), found)
        except (TypeError, ValueError):
            continue


def _build_optimizer(class_name: str, config: Mapping[str, Any]) -> Any:
    """The optimizer of scratch of a class of Keras and its configuration; None where there is none of them."""
    if class_name not in registry.names("optimizer"):
        return None
    cls = registry.get("optimizer", class_name)
    known = {one.name for one in fields(cls) if one.init}
    own = {key: value for key, value in config.items() if key in known and not isinstance(value, (dict, list))}
    if isinstance(own.get("learning_rate"), float):
        own["learning_rate"] = float(str(np.float32(own["learning_rate"])))
    try:
        return cls(**own)
    except (TypeError, ValueError):
        return None


def _run_steps(optimizer: Any, found: StepOf) -> Array:
    weights = {found.name: found.start}
    trained, _ = optimizer.step(weights, {found.name: found.gradient}, optimizer.init(weights), constraints={})
    return np.asarray(trained[found.name])


def _vary_plain_steps(found: StepOf) -> Iterator[tuple[str, Array]]:
    """w - c · g for the c that fits best."""
    gradient, (a, b) = found.gradient, found.called
    if gradient is None or not np.any(gradient):
        return
    factor = float(np.vdot(found.start - found.b[0], gradient) / np.vdot(gradient, gradient))
    own = float(np.vdot(found.start - found.a[0], gradient) / np.vdot(gradient, gradient))
    after = found.start - factor * gradient
    # chooses words for a step that is known to be wrong; what is printed has to fit to rounding afterwards
    if factor < 0 < own and np.isclose(factor, -own, rtol=1e-9, atol=0):
        yield f"{b} adds the gradient in place of subtracting it", after
    yield f"{b} steps by {factor:.6g} × the gradient, {a} by {own:.6g}", after


def _show_settings(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value)
