"""Recorded calls and configurations of layers, replayed through the twins."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import custom_cells  # noqa: F401  (twins of the cells that Keras's tests define)
import keras
import numpy as np
from float32_allowance import compare, moved
from recorded import NotApplicable, alive, decoded, revived

from keras_ref.translation.from_keras import NoTwin, as_taken, reflect_object
from keras_ref.translation.random_draws import predict_draws
from keras_ref.translation.weights import list_variables
from scratch.arrays import Array
from scratch.layers.base import Layer
from scratch.layers.multi_head_attention import Projected
from scratch.layers.recurrent import Recurrent


@dataclass(frozen=True)
class Call:
    """One call of a layer, as its twin takes it, and what Keras answered: outputs, and the weights not trained."""

    layer: Any
    spec: Layer
    weights: Mapping[str, Array]
    inputs: list[Array]
    keywords: Mapping[str, Any]
    mask: Any
    training: bool
    output: Any
    after: list[Array] | None = None
    kept: tuple[str, ...] = ()
    draws: Mapping[str, Array] = field(default_factory=dict)

    @property
    def policy(self) -> str:
        """The dtype that floats are cast to, unless the layer asks for them as they are."""
        own = getattr(self.layer, "compute_dtype", None) or "float32"
        return own if getattr(self.layer, "autocast", True) else "float32"


def compared(call: Call, forward: Callable[..., Any] | None = None) -> None:
    """The twin's answer against Keras's, or that of another `forward`. Raises: AssertionError with the worst entry."""
    context = {"training": call.training, "mask": call.mask, "draw": call.draws or None}
    context = {name: value for name, value in context.items() if name in call.spec.accepts} | dict(call.keywords)

    def law(spec: Any, arguments: Any) -> Any:
        weights, inputs, keywords = arguments
        outputs = (forward or type(spec).forward)(spec, weights, *inputs, **keywords)
        after = spec.updates(weights, *inputs, **keywords) if call.training and spec.state else {}
        return outputs, [after.get(name, weights[name]) for name in call.kept] if call.after is not None else []

    own = context.get("mask")
    if isinstance(own, list) and isinstance(call.mask, tuple):
        context["mask"] = [there if given is None else given for given, there in zip_longest(own, call.mask)]
    arguments = moved((dict(call.weights), call.inputs, context), call.policy)
    compare(law, call.spec, arguments, (call.output, call.after or []), call.policy)


def twin_of(layer: Any) -> Layer:
    """The specification of a layer. Raises: NotApplicable with the first sentence that says why there is none."""
    try:
        return reflect_object(layer, "layer")
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


# Recorded calls ------------------------------------------------------------------------------------------------------


def layer_call(case: dict[str, Any]) -> None:
    """One eager call: outputs, and what it does to the weights that are not trained."""
    layer = revived(decoded(case["layer"]))
    spec, kwargs = twin_of(layer), decoded(case.get("kwargs", {}))
    inputs, keywords = taken(layer, spec, decoded(case.get("args", [])), kwargs)
    recorded = [w for w in case.get("weights", []) if not w["path"].endswith("seed_generator_state")]
    changed = [w["path"] for w in recorded if w["path"].rsplit("/", 1)[-1].startswith(("lora_", "kernel_scale"))]
    if changed:
        raise NotApplicable(f"adapted or quantised: {changed[0]}")
    names = tuple(spec.weight_shapes(*(x.shape for x in inputs)))
    assert len(names) == len(recorded), f"weights {names} for {[w['path'] for w in recorded]}"
    for name, w in zip(names, recorded, strict=True):
        assert name.rsplit("/", 1)[-1] == w["path"].rsplit("/", 1)[-1], f"weight {name} for {w['path']}"
    call = Call(
        layer,
        spec,
        {name: decoded(w["value"]) for name, w in zip(names, recorded, strict=True)},
        inputs,
        keywords,
        input_masks(case, len(inputs)),
        bool(kwargs.get("training") or False),
        decoded(case["output"]),
        after=decoded(case["weights_after"]) if "weights_after" in case else None,
        kept=tuple(name for name, w in zip(names, recorded, strict=True) if not w["trainable"]),
    )
    first = None
    for possible in readings(call, told="training" in kwargs):
        try:
            return compared(possible)
        except AssertionError as difference:
            first = first or difference
    assert first is not None
    if isinstance(spec, Projected) and not keywords.get("return_attention_scores"):
        compared(call, keyless_rows_see_all)
        raise AssertionError(f"as fully-masked-queries-attend-everywhere has it: {first}")
    raise first


def readings(call: Call, *, told: bool) -> Iterator[Call]:
    """What a record may stand for, first the call as it was written down.

    A random layer: what was dropped shows in the output (a kept entry is scaled, and that is compared); training may
    have been switched on by the model around the layer. A stateful layer: it may have been called before, on the same
    input.
    """
    drawn = call.spec.draw_shapes(*(x.shape for x in call.inputs))
    if not (call.training and drawn):
        yield call
    if drawn and (call.training or not told):
        yield replaced(call, training=True, draws=shown_draws(call, drawn))
    if isinstance(call.spec, Recurrent) and call.spec.stateful:
        states = call.spec.updates(call.weights, *call.inputs, mask=call.mask, training=call.training)
        yield replaced(call, keywords={**call.keywords, "initial_state": list(states.values())})


def replaced(call: Call, **changes: Any) -> Call:
    """The call with some fields changed."""
    return Call(**{**vars(call), **changes})


def shown_draws(call: Call, drawn: Mapping[str, Any]) -> dict[str, Array]:
    """Where entries were kept, read from the recorded outputs. Raises: NotApplicable where they do not show it."""
    outputs = [np.asarray(leaf) for leaf in keras.tree.flatten(call.output)]
    shape = drawn.get("keep")
    found = [output for output in outputs if output.shape == shape]
    if len(drawn) > 1 or not found or type(call.spec).__name__ == "AlphaDropout":
        raise NotApplicable("the random numbers of the call were not recorded")
    return {"keep": found[-1] != 0}


def keyless_rows_see_all(spec: Projected, weights: Mapping[str, Array], *inputs: Array, **keywords: Any) -> Any:
    """Attention in which a query that may attend to no key takes the mean of all values: Keras's fused path, a
    departure.

    The mean comes of a query that fits all keys alike, a zero one.
    """
    query, value = (x.shape for x in inputs[:2])
    masks, causally = keywords.get("mask") or (), keywords.get("use_causal_mask", False)
    allowed = spec.allowed(query, value, masks=masks, given=keywords.get("attention_mask"), causally=causally)
    assert allowed is not None, "no query is without a key"
    blind = {name: np.zeros_like(w) if name.startswith("query/") else w for name, w in weights.items()}
    y = spec.forward(weights, *inputs, **keywords)
    without = ~np.broadcast_to(allowed.any(-1).all(-2), query[:-1])
    return np.where(without.reshape(without.shape + (1,) * (y.ndim - without.ndim)), spec.forward(blind, *inputs), y)


# Configurations ------------------------------------------------------------------------------------------------------


def layer_case(case: dict[str, Any]) -> None:
    """One configuration: shapes and numbers of weights as Keras tests them, and the values of a call made now."""
    kwargs = {name: alive(value) for name, value in case.get("init_kwargs", {}).items()}
    cls = getattr(keras.layers, case["public"].rsplit(".", 1)[-1], None)
    if cls is None:
        raise NotApplicable(f"{case['public']} is not exported")
    x = decoded(case["input_data"]) if "input_data" in case else drawn_inputs(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = called(cls(**kwargs), x, decoded(case.get("call_kwargs", {})))
    expected = [np.asarray(leaf) for leaf in keras.tree.flatten(made.output)]
    if "expected_num_trainable_weights" in case:
        count = len(made.weights) - len(made.spec.state)
        assert count == case["expected_num_trainable_weights"], "another number of trainable weights"
    if "expected_output_shape" in case:
        wanted = decoded(case["expected_output_shape"])
        wanted = wanted if isinstance(wanted, list) or (wanted and isinstance(wanted[0], (tuple, list))) else [wanted]
        fits = [
            len(s) == o.ndim and all(n in (None, m) for n, m in zip(s, o.shape, strict=True))
            for s, o in zip(wanted, expected, strict=True)
        ]
        assert all(fits), f"shapes {wanted}"
    compared(made)
    if "expected_output" in case:
        compared(replaced(made, output=decoded(case["expected_output"])))


def drawn_inputs(case: dict[str, Any]) -> Any:
    """Inputs of the shapes that a configuration is tested with."""
    generator = np.random.default_rng(0)
    integers = "int" in str(case.get("input_dtype", ""))

    def drawn(shape: Any) -> Any:
        if isinstance(shape, dict):
            return {name.removesuffix("_shape"): drawn(item) for name, item in shape.items()}
        if isinstance(shape, list) or (shape and isinstance(shape[0], tuple)):
            return [drawn(item) for item in shape]
        return generator.integers(0, 2, shape) if integers else generator.normal(size=shape).astype(np.float32)

    return drawn(decoded(case["input_shape"]))


def spread_out(layer: Any, x: Any) -> tuple[list[Any], dict[str, Any]]:
    """Inputs as the layer's call takes them: one, several one by one or in one list, or by name."""
    several = isinstance(x, (list, tuple)) and "inputs" not in next(iter(layer._call_signature.parameters), "")
    return (list(x) if several else [] if isinstance(x, dict) else [x]), x if isinstance(x, dict) else {}


def called(layer: Any, x: Any, kwargs: dict[str, Any]) -> Call:
    """A call of a Keras layer made now: what goes in and what comes out, the draws of a random layer included.

    Raises: NotApplicable for a layer without twin.
    """
    spec = twin_of(layer)
    args, named = spread_out(layer, x)
    inputs, keywords = taken(layer, spec, args, named | kwargs)
    layer(*args, **named, **kwargs)  # builds it, and moves its state: everything below is of the second call
    if getattr(layer, "stateful", False):
        layer.reset_state()
    shapes, training = tuple(a.shape for a in inputs), bool(kwargs.get("training") or False)
    own, held = spec.weight_shapes(*shapes), list_variables(layer)
    assert [tuple(s) for s in own.values()] == [tuple(v.shape) for v in held], (
        f"weights {own} for {[v.path for v in held]}"
    )
    weights = {name: np.asarray(v.numpy()) for name, v in zip(own, held, strict=True)}
    draws = predict_draws(layer, *shapes) if training and spec.draw_shapes(*shapes) else {}
    output = keras.tree.map_structure(keras.ops.convert_to_numpy, layer(*args, **named, **kwargs))
    return Call(
        layer,
        spec,
        weights,
        inputs,
        keywords,
        None,
        training,
        output,
        after=[np.asarray(v.numpy()) for v in held if not v.trainable],
        kept=tuple(name for name, v in zip(own, held, strict=True) if not v.trainable),
        draws=draws,
    )
