"""Arguments in the forms that Keras takes: numbers for tuples, lists, None, capitals, negative axes, unusual dtypes,
masks.

Each layer is made with every combination of some options, called by Keras, and its twin is compared as a recorded call
is: outputs, and what a training call does to the weights that are not trained.
"""

import itertools
import warnings
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from replaying_layers import called, compared, spread_out

from keras_ref.translation import departures
from keras_ref.translation.from_keras import reflect_object

GENERATOR = np.random.default_rng(7)
STEPS = np.array([[True, True, False, True], [False, True, True, False]])


def drawn(*shape, dtype="float32"):
    """Numbers of that shape."""
    return GENERATOR.normal(size=shape).astype(dtype)


def indices(below, *shape):
    """Whole numbers of that shape."""
    return GENERATOR.integers(0, below, shape)


@dataclass(frozen=True)
class Case:
    """A layer, its options (each with the values that are tried), inputs, and calls."""

    layer: str
    inputs: list[Any]
    options: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=lambda: [{}])


TRAINING = [{"training": True}, {"training": False}, {}]
CASES = [
    Case(
        "Dense",
        [drawn(2, 4), drawn(2, 3, 4), indices(5, 2, 4)],
        {"units": [3], "activation": [None, "gelu"], "dtype": ["float32", "mixed_float16", "bfloat16", "float64"]},
    ),
    Case(
        "EinsumDense",
        [drawn(2, 3, 4)],
        {"equation": ["abc,cd->abd"], "output_shape": [(None, 5), [3, 5]], "bias_axes": [None, "d"]},
    ),
    Case(
        "Embedding",
        [indices(5, 2, 3), indices(5, 4).astype("float32")],
        {"input_dim": [5], "output_dim": [3], "mask_zero": [False, True]},
    ),
    Case("Flatten", [drawn(2, 3, 4), drawn(2), indices(3, 2, 3, 2)], {"data_format": [None, "channels_first"]}),
    Case("Reshape", [drawn(2, 12)], {"target_shape": [(3, 4), [-1, 2], (2, -1, 3)]}),
    Case(
        "ReLU",
        [3 * drawn(2, 5), indices(9, 2, 5) - 4],
        {"negative_slope": [0, 0.25], "max_value": [None, 2.0], "threshold": [0.0, 0.5]},
    ),
    Case("PReLU", [drawn(2, 3, 4)], {"shared_axes": [None, [1], (1, 2)]}),
    Case(
        "Softmax",
        [drawn(2, 3, 4)],
        {"axis": [-1, 1, (1, 2), [-1, -2]]},
        [{}, {"mask": indices(2, 2, 3, 4).astype(bool)}],
    ),
    Case("Dot", [[drawn(2, 3, 4), drawn(2, 3, 4)]], {"axes": [1, -1, (2, 2), [1, 1]], "normalize": [False, True]}),
    Case("Concatenate", [[drawn(2, 3, 4), drawn(2, 3, 1)]], {"axis": [-1, 2]}),
    Case(
        "LayerNormalization",
        [drawn(2, 3, 4)],
        {"axis": [-1, 1, [1, 2], (-1, -2)], "center": [True, False], "scale": [True, False]},
    ),
    Case("GroupNormalization", [drawn(2, 4, 4)], {"groups": [1, 2, -1], "axis": [-1, 1, -2]}),
    Case(
        "BatchNormalization",
        [drawn(2, 3, 4)],
        {"axis": [-1, 1], "momentum": [0.0, 0.75], "renorm": [False, True]},
        TRAINING,
    ),
    Case("BatchNormalization", [drawn(2, 4, 3)], {"center": [True, False]}, [{"training": True, "mask": STEPS}]),
    Case(
        "Conv1D",
        [drawn(2, 7, 4)],
        {
            "filters": [4],
            "kernel_size": [1, (3,)],
            "strides": [1, [2]],
            "padding": ["valid", "SAME", "causal"],
            "groups": [1, 2],
        },
    ),
    Case(
        "Conv2D",
        [drawn(2, 7, 6, 2)],
        {
            "filters": [2],
            "kernel_size": [2, (1, 3)],
            "strides": [1, (2, 1)],
            "padding": ["same", "VALID"],
            "dilation_rate": [1, [1, 1]],
        },
    ),
    Case(
        "Conv2DTranspose",
        [drawn(2, 4, 3, 2)],
        {
            "filters": [3],
            "kernel_size": [3],
            "strides": [2, (2, 1)],
            "padding": ["valid", "same"],
            "output_padding": [None, 0],
        },
    ),
    Case(
        "DepthwiseConv2D",
        [drawn(2, 5, 6, 3)],
        {"kernel_size": [2, (1, 2)], "strides": [1, 2], "depth_multiplier": [1, 2]},
    ),
    Case(
        "SeparableConv1D",
        [drawn(2, 7, 3)],
        {"filters": [4], "kernel_size": [3], "padding": ["same", "VALID"], "use_bias": [True, False]},
    ),
    Case(
        "MaxPooling1D",
        [drawn(2, 7, 3)],
        {
            "pool_size": [2, (3,)],
            "strides": [None, 1],
            "padding": ["valid", "SAME"],
            "data_format": [None, "channels_first"],
        },
    ),
    Case(
        "AveragePooling2D",
        [drawn(2, 7, 6, 3)],
        {"pool_size": [2, (1, 3)], "strides": [None, (2, 1)], "padding": ["same", "Valid"]},
    ),
    Case("AdaptiveAveragePooling2D", [drawn(2, 7, 6, 3)], {"output_size": [2, (3, 4), [5, 2]]}),
    Case("GlobalAveragePooling1D", [drawn(2, 4, 3)], {"keepdims": [False, True]}, [{}, {"mask": STEPS}]),
    Case("ZeroPadding2D", [drawn(2, 3, 4, 1)], {"padding": [1, (0, 2), ((1, 0), (0, 2)), [[1, 2], [0, 1]]]}),
    Case("Cropping1D", [drawn(2, 6, 2)], {"cropping": [1, (0, 2), [2, 1]]}),
    Case("UpSampling2D", [drawn(2, 3, 4, 1)], {"size": [2, (1, 3)], "interpolation": ["nearest", "bilinear"]}),
    Case(
        "LSTM",
        [drawn(2, 4, 3)],
        {"units": [2], "return_sequences": [False, True], "return_state": [False, True], "go_backwards": [False, True]},
        [{}, {"mask": STEPS}],
    ),
    Case(
        "GRU",
        [drawn(2, 4, 3)],
        {"units": [2], "reset_after": [False, True], "dropout": [0.0, 0.5], "recurrent_dropout": [0.0, 0.25]},
        [{"training": True}],
    ),
    Case(
        "Attention",
        [[drawn(2, 3, 4), drawn(2, 5, 4)]],
        {"use_scale": [False, True], "score_mode": ["dot", "concat"], "dropout": [0.0, 0.5]},
        [{"return_attention_scores": True}, {"training": True}, {"use_causal_mask": True}],
    ),
    Case(
        "MultiHeadAttention",
        [{"query": drawn(2, 3, 4), "value": drawn(2, 4, 4)}],
        {"num_heads": [2], "key_dim": [3], "output_shape": [None, 5, (3, 2)]},
        [{}, {"value_mask": STEPS}, {"return_attention_scores": True}],
    ),
    Case("Dropout", [drawn(3, 4, 5)], {"rate": [0, 0.5], "noise_shape": [None, (None, 1, 5), [3, 1, 5]]}, TRAINING),
    Case(
        "Rescaling",
        [indices(255, 2, 3, 4, 3), drawn(2, 3)],
        {"scale": [2, 1 / 255, [0.5, 1.0, 2.0]], "offset": [0, [1.0, 2.0, 3.0]]},
    ),
]


@pytest.mark.sampled
@pytest.mark.parametrize("case", CASES, ids=[f"{case.layer}-{i}" for i, case in enumerate(CASES)])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_forms(case):
    """Every combination that Keras takes has a twin that says the same; what differs is a departure that says so."""
    taken = 0
    for values in itertools.product(*case.options.values()):
        options = dict(zip(case.options, values, strict=True))
        for x, call in itertools.product(case.inputs, case.calls):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                layer = getattr(keras.layers, case.layer)(**options)
                if refuses(layer, x, call):
                    continue
                made = called(layer, x, call)
            taken += 1
            try:
                compared(made)
            except AssertionError as difference:
                assert departures.find_departures([reflect_object(layer, "layer")], "value"), (  # noqa: PT017 (known)
                    f"{case.layer}({options}) on {call}: {difference}"
                )
    assert taken


def refuses(layer, x, call):
    """Whether Keras does not compute this: a mask or a scale for another shape, a kernel that TensorFlow lacks."""
    args, named = spread_out(layer, x)
    try:
        layer(*args, **named, **call)
    except (ValueError, TypeError, IndexError, NotImplementedError, tf.errors.OpError):
        return True
    return False
