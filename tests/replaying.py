"""Recorded cases of Keras's own test suite, replayed through the twins. `python tests/replaying.py` prints the counts.

A case ends "matched", "differing" or "not applicable". What is allowed: allowance.py; what is excused: replay.toml.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from float32_allowance import compare, moved
from recorded import KINDS, NotApplicable, Outcome, cases, decoded, dtype_of, revived
from replaying_layers import layer_call, layer_case

from keras_ref.translation.exceptions.optimizers import as_keras
from keras_ref.translation.from_keras import NoTwin, reflect_object
from scratch import registry
from scratch.optimizers.base import State


def loss_case(case: dict[str, Any]) -> None:
    """One call of a loss object, or of a function, which gives values per sample."""
    thing = made_of(case) if case.get("function") else revived(decoded(case["loss"]))
    spec = twin_of(thing, "loss")
    y_true, y_pred = decoded(case["args"]) if case.get("function") else (decoded(case[n]) for n in ("y_true", "y_pred"))
    if "y_pred_keras_logits" in case and spec.shortcut:
        spec, y_pred = replace(spec, from_logits=True), decoded(case["y_pred_keras_logits"])
    dtype = dtype_of(case.get("dtype", "float32"))
    share, mask = (
        None if case.get(n) is None else np.asarray(decoded(case[n])) for n in ("sample_weight", "y_pred_mask")
    )
    arguments = moved((np.asarray(y_true), np.asarray(y_pred).astype(dtype)), dtype)
    compare(lambda s, a: s(*a, sample_weight=share, mask=mask), spec, arguments, decoded(case["value"]), dtype)


def made_of(case: dict[str, Any]) -> Any:
    """A loss object around a recorded function, its keywords being fields. Raises: NotApplicable for other keywords."""
    kwargs = decoded(case.get("kwargs", {}))
    if any(isinstance(value, np.ndarray) for value in kwargs.values()):
        raise NotApplicable(f"a function with arguments that no loss object takes: {sorted(kwargs)}")
    wrapper = keras.src.losses.losses.LossFunctionWrapper
    return wrapper(getattr(keras.losses, case["name"]), reduction=None, name=case["name"], **kwargs)


def twin_of(thing: Any, kind: str) -> Any:
    """The specification of a Keras object. Raises: NotApplicable where there is none."""
    try:
        return reflect_object(thing, kind)
    except NoTwin as reason:
        raise NotApplicable(f"no twin: {reason}") from reason


def activation_case(case: dict[str, Any]) -> None:
    """One call of an activation."""
    if case["name"] not in registry.every("activation"):
        raise NotApplicable(f"no twin: {case['name']}")
    law = registry.get("activation", case["name"])
    args, kwargs = [decoded(a) for a in case["args"]], decoded(case.get("kwargs", {}))
    args = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.kind in "iub" else a for a in args]
    value = decoded(case["value"])
    compare(lambda _, a: law(*a, **kwargs), None, args, value, np.float32)


def optimizer_case(case: dict[str, Any]) -> None:
    """A run, step by step, each from the recorded weights and the twin's own state; weights and state are compared.

    Variables that are overwritten with their gradients (of float8) are assigned, not trained, and left out.
    """
    made = {
        "module": "keras.optimizers",
        "class_name": case["class"],
        "config": case["config"],
        "registered_name": None,
    }
    spec, variables = twin_of(revived(made), "optimizer"), case["steps"][0]["before"]
    trained = [i for i, v in enumerate(variables) if not v["overwrite_with_gradient"]]
    if not trained:
        raise NotApplicable("a variable that is overwritten with its gradient is not trained")
    if case.get("iterations_at_start"):
        raise NotApplicable("the optimizer had run before the recording")
    several = len({v["path"] for v in variables} - {None}) < len(variables)
    names = {i: f"{i}" if several else variables[i]["path"] for i in trained}
    paths = {names[i]: variables[i]["path"] for i in trained}
    own = {
        "excluded_from_weight_decay": {names[i] for i in trained if case["excluded_from_weight_decay"][i]},
        "constraints": {
            names[i]: twin_of(revived(c["__keras__"]), "constraint")
            for i in trained
            if (c := variables[i]["constraint"])
        },
        "paths": paths,
    }
    slots = (
        {}
        if several
        else recorded_slots(
            case, spec.init({names[i]: decoded(variables[i]["value"]) for i in trained}, paths=paths), paths
        )
    )

    def law(specs: Any, arguments: Any) -> Any:
        state, found = None, []
        for spec, (before, grads) in zip(specs, arguments, strict=True):
            weights = {name: np.asarray(before[i]) for i, name in names.items()}
            state = spec.init(weights, paths=paths) if state is None else state
            new, state = spec.step(weights, {name: grads[i] for i, name in names.items()}, state, **own)
            found += [new[name] for name in names.values()] + [
                np.asarray(state.slots[name][key]) for name, key in slots
            ]
        return found

    def values(step: dict[str, Any], part: str) -> Any:
        return decoded([v["value"] for v in step[part]])

    arguments = [(values(step, "before"), decoded(step["grads"])) for step in case["steps"]]
    expected = []
    for step in case["steps"]:
        after, kept = values(step, "after"), {v["path"]: v["value"] for v in step["optimizer_variables_after"]}
        expected += [after[i] for i in names] + [decoded(kept[path]) for path in slots.values()]
    try:
        compare(law, (spec,) * len(case["steps"]), arguments, expected)
    except AssertionError as difference:
        try:
            compare(law, (as_keras(spec),) * len(case["steps"]), arguments, expected)
        except AssertionError:
            raise difference from None
        raise AssertionError(f"as exceptions.optimizers.as_keras has it: {difference}") from None


def recorded_slots(case: dict[str, Any], state: State, paths: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """{(weight, slot of the twin): path of the Keras variable that holds it} for what was recorded after every step."""
    kept = [{v["path"] for v in step["optimizer_variables_after"]} for step in case["steps"]]
    found = {}
    for name, own in state.slots.items():
        for key in own:
            end = f"/{paths[name].replace('/', '_')}_{key}"
            fitting = [path for path in kept[0] if path.endswith(end) and all(path in after for after in kept)]
            found |= {(name, key): fitting[0]} if len(fitting) == 1 else {}
    return found


def value_case(kind: str) -> Callable[[dict[str, Any]], None]:
    """A schedule, regularizer or constraint at one point."""

    def replayed(case: dict[str, Any]) -> None:
        spec = twin_of(revived(decoded(case["object"])), kind)
        point = decoded(case["input"]) if "input" in case else 0
        arguments = float(np.asarray(point)) if kind == "schedule" else np.asarray(point)
        compare(
            lambda s, a: s(int(a) if kind == "schedule" and a == math.floor(a) else a),
            spec,
            arguments,
            decoded(case["value"]),
        )

    return replayed


REPLAYS: dict[str, Callable[[dict[str, Any]], None]] = {
    "layer_calls": layer_call,
    "layer_cases": layer_case,
    "loss": loss_case,
    "activation": activation_case,
    "optimizer": optimizer_case,
    **{kind: value_case(kind) for kind in ("schedule", "regularizer", "constraint")},
}


def outcomes(kind: str, subject: str | None = None) -> Iterator[Outcome]:
    """How every case of a kind (of one class) ended."""
    for case in cases(kind):
        if subject is not None and case["class"] != subject:
            continue
        end, reason = "matched", ""
        try:
            keras.config.set_image_data_format(case.get("image_data_format", "channels_last"))
            REPLAYS[kind](case)
        except NotApplicable as why:
            end, reason = "not applicable", str(why)
        except AssertionError as why:
            end, reason = "differing", str(why)
        except Exception as error:  # noqa: BLE001 (a twin that refuses what Keras did differs)
            end, reason = "differing", f"{type(error).__name__}: {error}"
        finally:
            keras.config.set_image_data_format("channels_last")
        yield Outcome(kind, case["class"], case["id"], end, " ".join(reason.split()))


if __name__ == "__main__":
    import sys
    import time

    for kind in sys.argv[1:] or KINDS:
        start = time.time()
        found = list(outcomes(kind))
        print(kind, dict(Counter(o.end for o in found)), f"{time.time() - start:.1f} s", flush=True)
        for (subject, end, reason), count in Counter(
            (o.subject, o.end, o.reason[:230]) for o in found if o.end != "matched"
        ).items():
            print(f"    {count:3d} {subject}: {end}: {reason}")
