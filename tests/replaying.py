"""Recorded cases of Keras's own test suite, replayed through the twins. `python tests/replaying.py` prints the counts.

A case ends "matched", "differing" or "not applicable". The allowed difference is what float32 does to the case:

    8 · spread + 4 · |twin in float32 - twin in float64| + 64 units in the last place of the largest value + underflow

spread: how far the twin's values move when every number that goes in moves by up to 4 units of the recorded precision
(four seeded sets of signs). The second term is the rounding of the definition's own steps, run in float32.
"""

from __future__ import annotations

import gzip
import json
import math
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np

from keras_ref.mirrors.optimizers import as_keras
from keras_ref.reflect import NoTwin, as_taken, reflected
from keras_ref.weights import variables_of
from scratch import registry
from scratch.layers.base import Layer

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
KINDS = ("layer_calls", "layer_cases", "loss", "activation", "optimizer", "schedule", "regularizer", "constraint")
Array = np.ndarray


class NotApplicable(Exception):
    """A case says something that a twin does not answer."""


@dataclass(frozen=True)
class Outcome:
    """How one case ended, and why."""

    kind: str
    subject: str
    id: str
    end: str
    reason: str = ""


@cache
def cases(kind: str) -> tuple[dict[str, Any], ...]:
    """The recorded cases of a kind; none where the folder is not there."""
    path = CASES / f"{kind if kind in ('layer_calls', 'layer_cases') else kind + '_cases'}.json.gz"
    if not path.exists():
        return ()
    with gzip.open(path) as file:
        return tuple(json.load(file)["cases"])


@cache
def exceptions() -> dict[str, Any]:
    """tests/replay.toml: what is not applicable, and what differs, with reasons."""
    with open(Path(__file__).with_name("replay.toml"), "rb") as file:
        return tomllib.load(file)


# Reading -------------------------------------------------------------------------------------------------------------


def decoded(value: Any) -> Any:
    """A recorded value without its tags; Keras objects stay serialized."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag, inner = next(iter(value.items()), ("", None)) if len(value) == 1 else ("", None)
    if tag == "__nd__":
        dtype = dtype_of(inner["dtype"])
        return np.array(inner["data"], dtype=object).astype(float if dtype.kind == "V" else dtype).astype(dtype).reshape(inner["shape"])
    if tag == "__tuple__":
        return tuple(decoded(item) for item in inner)
    if tag == "__slice__":
        return slice(*inner)
    if tag == "__variable__":
        return decoded(inner["value"])
    if tag in ("__sparse__", "__float__", "__dtype__"):
        return decoded(inner) if tag != "__float__" else float(inner)
    if tag == "__map__":
        return {decoded(k): decoded(v) for k, v in inner}
    if tag == "__indexed_slices__":
        dense = np.zeros(inner["shape"])
        np.add.at(dense, decoded(inner["indices"]), decoded(inner["values"]).astype(float))
        return dense.astype(decoded(inner["values"]).dtype)
    if tag == "__keras__":
        return inner
    return {key: decoded(item) for key, item in value.items()}


def revived(serialized: Any) -> Any:
    """The Keras object of a serialized one. Raises: NotApplicable where it is not Keras's own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return keras.saving.deserialize_keras_object(serialized)
    except (TypeError, ValueError, AttributeError, ModuleNotFoundError) as error:
        name = "quantised" if "Quantized" in str(serialized) or "Int4" in str(serialized) else serialized.get("class_name")
        raise NotApplicable(f"not revived: {name}") from error


def alive(value: Any) -> Any:
    """A recorded value, serialized Keras objects revived wherever they are in it."""
    if isinstance(value, dict):
        return revived(value["__keras__"]) if "__keras__" in value else decoded(value) if len(value) == 1 else {k: alive(v) for k, v in value.items()}
    return [alive(item) for item in value] if isinstance(value, list) else value


# Comparing -----------------------------------------------------------------------------------------------------------


def leaves(value: Any) -> list[Array]:
    """The arrays in a nested value."""
    return [np.asarray(leaf) for leaf in keras.tree.flatten(value) if leaf is not None]


def unit_of(dtype: Any) -> float:
    """The unit in the last place of a precision, of float32 for what is none."""
    return float(ml_dtypes.finfo(dtype).eps) if np.dtype(dtype).kind in "fV" else float(np.finfo(np.float32).eps)


def moved(value: Any, dtype: Any, generator: np.random.Generator | None = None, unit: float = 0.0) -> Any:
    """Floats of a nested value in a precision; with a generator, each moved by up to 4 units of its own size."""
    if isinstance(value, dict):
        return {key: moved(item, dtype, generator, unit) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(moved(item, dtype, generator, unit) for item in value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fV":
        array = value.astype(dtype)
        return array if generator is None else array * (1 + 4 * unit * generator.choice([-1.0, 1.0], array.shape)).astype(dtype)
    return value


def specification_moved(spec: Any, generator: np.random.Generator, unit: float) -> Any:
    """A specification whose floats are those that a float32 may stand for: half a unit up or down, where that is legal.

    Each of several specifications (one a step) moves by itself, as the places do where Keras rounds one number.
    """
    if isinstance(spec, tuple):
        return tuple(specification_moved(item, generator, unit) for item in spec)
    if not is_dataclass(spec):
        return spec
    for field in fields(spec):
        value = getattr(spec, field.name)
        step = float(generator.choice([-1.0, 1.0])) * unit / 2
        new = value * (1 + step) if type(value) is float and field.init else specification_moved(value, generator, unit)
        if new is not value:
            try:
                spec = replace(spec, **{field.name: new})
            except ValueError:
                continue
    return spec


def compare(law: Callable[[Any, Any], Any], spec: Any, arguments: Any, expected: Any, dtype: Any = np.float32) -> None:
    """law(specification, arguments) against recorded values. Raises: AssertionError with the worst entry."""
    unit = unit_of(dtype)
    with np.errstate(all="ignore"):
        ours, rough = leaves(law(spec, moved(arguments, np.float64))), leaves(law(spec, moved(arguments, np.float32)))
        spread = [np.zeros(o.shape) for o in ours]
        # of a million entries some show the worst that float32 does to the definition's own run
        for seed in range(4 if sum(o.size for o in ours) < 2**20 else 0):
            generator = np.random.default_rng(seed)
            near = leaves(law(specification_moved(spec, generator, unit), moved(arguments, np.float64, generator, unit)))
            spread = [np.fmax(s, np.abs(n.astype(float) - o)) for s, n, o in zip(spread, near, ours, strict=True)]
        theirs = leaves(expected)
        assert len(ours) == len(theirs), f"{len(ours)} outputs for {len(theirs)}"
        for mine, own, s, recorded in zip(ours, rough, spread, theirs, strict=True):
            assert mine.shape == recorded.shape, f"shape {mine.shape} for {recorded.shape}"
            recorded, mine = recorded.astype(float), mine.astype(float)
            finite = np.abs(mine[np.isfinite(mine)])
            scale = unit / float(np.finfo(np.float32).eps)
            tiny = float(ml_dtypes.finfo(dtype).smallest_normal) if np.dtype(dtype).kind in "fV" else 0.0
            allowed = 8 * s + 4 * scale * np.nan_to_num(np.abs(own - mine)) + 64 * unit * float(np.max(finite, initial=0.0)) + tiny
            wrong = ~((np.abs(mine - recorded) <= allowed) | (mine == recorded) | (np.isnan(mine) & np.isnan(recorded)))
            if wrong.any():
                i = np.unravel_index(int(np.argmax(np.where(wrong, np.abs(mine - recorded), -1))), mine.shape)
                raise AssertionError(f"{int(wrong.sum())} of {wrong.size} entries: {mine[i]!r} for {recorded[i]!r}, allowed {float(allowed[i]):.1e}")


# Layers --------------------------------------------------------------------------------------------------------------


def twin_of(layer: Any) -> Layer:
    """The specification of a layer. Raises: NotApplicable with the first sentence that says why there is none."""
    try:
        return reflected(layer, "layer")
    except NoTwin as reason:
        raise NotApplicable(f"no twin: {reason}") from reason


def taken(layer: Any, spec: Layer, args: Any, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Recorded arguments as the twin takes them. Raises: NotApplicable."""
    try:
        inputs, keywords = as_taken(layer, spec.accepts, args, kwargs, np.ndarray)
    except NoTwin as reason:
        raise NotApplicable(f"no twin: {reason}") from reason
    return [np.asarray(x) for x in inputs], keywords


def input_masks(case: dict[str, Any], count: int) -> Any:
    """The masks that came with the inputs, one or a tuple of them; None where there were none."""
    recorded = decoded(case.get("arg_masks") or []) or list((decoded(case.get("kwarg_masks")) or {}).values())
    flat = [mask for one in recorded for mask in (one if isinstance(one, (list, tuple)) else [one])]
    if all(mask is None for mask in flat):
        return None
    return tuple((flat + [None] * count)[:count]) if count > 1 else flat[0]


def layer_call(case: dict[str, Any]) -> None:
    """One eager call: outputs, and what it does to the weights that are not trained."""
    layer = revived(decoded(case["layer"]))
    spec = twin_of(layer)
    # Keras casts floats to the dtype that the layer computes in, unless the layer asks for them as they are
    policy = (getattr(layer, "compute_dtype", None) or "float32") if getattr(layer, "autocast", True) else "float32"
    kwargs = decoded(case.get("kwargs", {}))
    inputs, keywords = taken(layer, spec, decoded(case.get("args", [])), kwargs)
    training = bool(kwargs.get("training") or False)
    shapes = tuple(x.shape for x in inputs)
    if training and spec.draw_shapes(*shapes):
        raise NotApplicable("the random numbers of the call were not recorded")
    recorded = [w for w in case.get("weights", []) if not w["path"].endswith("seed_generator_state")]
    changed = [w["path"] for w in recorded if w["path"].rsplit("/", 1)[-1].startswith(("lora_", "kernel_scale"))]
    if changed:
        raise NotApplicable(f"adapted or quantised: {changed[0]}")
    names = tuple(spec.weight_shapes(*shapes))
    assert len(names) == len(recorded), f"weights {names} for {[w['path'] for w in recorded]}"
    for name, w in zip(names, recorded, strict=True):
        assert name.rsplit("/", 1)[-1] == w["path"].rsplit("/", 1)[-1], f"weight {name} for {w['path']}"
    weights = {name: decoded(w["value"]) for name, w in zip(names, recorded, strict=True)}
    context = {"training": training, "mask": input_masks(case, len(inputs))}
    arguments = moved((weights, inputs, {n: v for n, v in context.items() if n in spec.accepts} | keywords), policy)

    def law(spec: Any, arguments: Any) -> Any:
        weights, inputs, keywords = arguments
        outputs = spec.forward(weights, *inputs, **keywords)
        after = spec.updates(weights, *inputs, **keywords) if training and spec.state else {}
        kept = [name for name, w in zip(names, recorded, strict=True) if not w["trainable"]]
        return outputs, [after.get(name, weights[name]) for name in kept] if "weights_after" in case else []

    compare(law, spec, arguments, (decoded(case["output"]), decoded(case.get("weights_after", []))), policy)


def layer_case(case: dict[str, Any]) -> None:
    """One configuration: shapes and numbers of weights as Keras tests them, and the values of a call made now."""
    kwargs = {name: alive(value) for name, value in case.get("init_kwargs", {}).items()}
    cls = getattr(keras.layers, case["public"].rsplit(".", 1)[-1], None)
    if cls is None:
        raise NotApplicable(f"{case['public']} is not exported")
    generator = np.random.default_rng(0)
    integers = "int" in str(case.get("input_dtype", ""))

    def drawn(shape: Any) -> Any:
        if isinstance(shape, dict):
            return {name.removesuffix("_shape"): drawn(item) for name, item in shape.items()}
        if isinstance(shape, list) or (shape and isinstance(shape[0], tuple)):
            return [drawn(item) for item in shape]
        return generator.integers(0, 2, shape) if integers else generator.normal(size=shape).astype(np.float32)

    x = decoded(case["input_data"]) if "input_data" in case else drawn(decoded(case["input_shape"]))
    call = decoded(case.get("call_kwargs", {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = cls(**kwargs)
        spec = twin_of(layer)
        several = isinstance(x, (list, tuple)) and "inputs" not in _first(layer)
        args, named = (list(x) if several else [] if isinstance(x, dict) else [x]), x if isinstance(x, dict) else {}
        output = layer(*args, **named, **call)
        held = variables_of(layer)
        if call.get("training") and spec.state:
            # the first call has moved the state already
            before = [np.asarray(v.numpy()) for v in held]
            output = layer(*args, **named, **call)
        else:
            before = [np.asarray(v.numpy()) for v in held]
    inputs, keywords = taken(layer, spec, args, named | call)
    shapes = tuple(a.shape for a in inputs)
    if call.get("training") and spec.draw_shapes(*shapes):
        raise NotApplicable("the random numbers of the call were not recorded")
    own = spec.weight_shapes(*shapes)
    assert [tuple(s) for s in own.values()] == [tuple(v.shape) for v in held], f"weights {own} for {[v.path for v in held]}"
    if "expected_num_trainable_weights" in case:
        assert len(own) - len(spec.state) == case["expected_num_trainable_weights"], "another number of trainable weights"
    weights = dict(zip(own, before, strict=True))
    if "training" in spec.accepts:
        keywords["training"] = bool(call.get("training") or False)

    def law(spec: Any, arguments: Any) -> Any:
        weights, inputs = arguments
        return spec.forward(weights, *inputs, **keywords)

    expected = [np.asarray(keras.ops.convert_to_numpy(o)) for o in keras.tree.flatten(output)]
    if "expected_output_shape" in case:
        wanted = decoded(case["expected_output_shape"])
        wanted = wanted if isinstance(wanted, list) or (wanted and isinstance(wanted[0], (tuple, list))) else [wanted]
        fits = [len(s) == o.ndim and all(n in (None, m) for n, m in zip(s, o.shape, strict=True)) for s, o in zip(wanted, expected, strict=True)]
        assert all(fits), f"shapes {wanted}"
    policy = layer.compute_dtype or "float32"
    compare(law, spec, moved((weights, inputs), policy), expected, policy)
    if "expected_output" in case:
        compare(law, spec, moved((weights, inputs), policy), decoded(case["expected_output"]), policy)


def _first(layer: Any) -> str:
    return next(iter(layer._call_signature.parameters), "")


# The other kinds -----------------------------------------------------------------------------------------------------


def loss_case(case: dict[str, Any]) -> None:
    """One call of a loss object."""
    if case.get("function"):
        raise NotApplicable("a function, not an object: values per sample without a reduction")
    thing = revived(decoded(case["loss"]))
    try:
        spec = reflected(thing, "loss")
    except NoTwin as reason:
        raise NotApplicable(f"no twin: {reason}") from reason
    prediction = decoded(case["y_pred"])
    if "y_pred_keras_logits" in case and spec.shortcut:
        spec, prediction = replace(spec, from_logits=True), decoded(case["y_pred_keras_logits"])
    dtype = case["dtype"]
    share, mask = (None if case.get(n) is None else np.asarray(decoded(case[n])) for n in ("sample_weight", "y_pred_mask"))
    y_true = np.asarray(decoded(case["y_true"]))
    arguments = moved((y_true, np.asarray(prediction).astype(dtype_of(dtype))), dtype_of(dtype))
    compare(lambda s, a: s(*a, sample_weight=share, mask=mask), spec, arguments, decoded(case["value"]), dtype_of(dtype))


def dtype_of(name: str) -> Any:
    """A dtype by name, bfloat16 included."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


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
    """A run, step by step, each from the recorded weights and the twin's own state."""
    thing = revived({"module": "keras.optimizers", "class_name": case["class"], "config": case["config"], "registered_name": None})
    try:
        spec = reflected(thing, "optimizer")
    except NoTwin as reason:
        raise NotApplicable(f"no twin: {reason}") from reason
    steps = [{part: decoded([v["value"] for v in step[part]]) for part in ("before", "after")} | {"grads": decoded(step["grads"])} for step in case["steps"]]
    names = [v["path"] if len({w["path"] for w in case["steps"][0]["before"]}) == len(case["steps"][0]["before"]) else f"{i}" for i, v in enumerate(case["steps"][0]["before"])]
    excluded = {n for n, e in zip(names, case["excluded_from_weight_decay"], strict=True) if e}
    constraints = {n: reflected(revived(v["constraint"]["__keras__"]), "constraint") for n, v in zip(names, case["steps"][0]["before"], strict=True) if v["constraint"]}
    if any(v["overwrite_with_gradient"] for v in case["steps"][0]["before"]):
        raise NotApplicable("a variable that is overwritten with its gradient is not trained")
    if case.get("iterations_at_start"):
        raise NotApplicable("the optimizer had run before the recording")
    paths = {n: v["path"] for n, v in zip(names, case["steps"][0]["before"], strict=True)}

    def law(specs: Any, arguments: Any) -> Any:
        state, found = None, []
        for spec, (before, grads) in zip(specs, arguments, strict=True):
            weights = dict(zip(names, map(np.asarray, before), strict=True))
            state = spec.init(weights, paths=paths) if state is None else state
            new, state = spec.step(weights, dict(zip(names, grads, strict=True)), state, constraints=constraints, excluded_from_weight_decay=excluded, paths=paths)
            found += [new[n] for n in names]
        return found

    arguments = [(step["before"], step["grads"]) for step in steps]
    expected = [after for step in steps for after in step["after"]]
    try:
        compare(law, (spec,) * len(steps), arguments, expected)
    except AssertionError as difference:
        try:
            compare(law, (as_keras(spec),) * len(steps), arguments, expected)
        except AssertionError:
            raise difference from None
        raise AssertionError(f"as mirrors.optimizers.as_keras has it: {difference}") from None


def value_case(kind: str) -> Callable[[dict[str, Any]], None]:
    """A schedule, regularizer or constraint at one point."""

    def replayed(case: dict[str, Any]) -> None:
        try:
            spec = reflected(revived(decoded(case["object"])), kind)
        except NoTwin as reason:
            raise NotApplicable(f"no twin: {reason}") from reason
        point = decoded(case["input"]) if "input" in case else 0
        arguments = float(np.asarray(point)) if kind == "schedule" else np.asarray(point)
        compare(lambda s, a: s(int(a) if kind == "schedule" and a == math.floor(a) else a), spec, arguments, decoded(case["value"]))

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
        except Exception as error:  # a twin that refuses what Keras did differs, and says how
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
        for (subject, end, reason), count in Counter((o.subject, o.end, o.reason[:230]) for o in found if o.end != "matched").items():
            print(f"    {count:3d} {subject}: {end}: {reason}")
