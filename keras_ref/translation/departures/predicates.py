"""The predicates that conditions name: parameters are fields of a specification, or the `shapes` of its inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_ref.translation.departures.conditions import Predicate, Shapes

PREDICATES: dict[str, Predicate] = {}


def predicate(function: Predicate) -> Predicate:
    """Register a predicate under its name."""
    PREDICATES[function.__name__] = function
    return function


def _needs_float64(value: float) -> bool:
    """Whether a number changes when it is rounded to float32."""
    return float(np.float32(value)) != value


# Activations ----------------------------------------------------------------------------------------------------------


@predicate
def leaks_and_is_bounded(negative_slope: float, max_value: float | None) -> bool:
    return negative_slope > 0 and max_value is not None


@predicate
def slope_needs_float64(negative_slope: float) -> bool:
    return _needs_float64(negative_slope)


@predicate
def plain_slope_needs_float64(negative_slope: float, max_value: float | None, threshold: float) -> bool:
    return _needs_float64(negative_slope) and max_value is None and threshold == 0


# Losses ---------------------------------------------------------------------------------------------------------------


@predicate
def alpha_differs_from_beta(alpha: float, beta: float) -> bool:
    return alpha != beta


@predicate
def axis_is_not_the_last(axis: Any) -> bool:
    return bool(axis != -1)


@predicate
def smooths_along_another_axis(label_smoothing: float, axis: int) -> bool:
    return label_smoothing > 0 and axis != -1


@predicate
def has_alphas_along_another_axis(alpha: Any, axis: int) -> bool:
    return isinstance(alpha, tuple) and axis != -1


@predicate
def has_alphas_that_need_float64(alpha: Any) -> bool:
    return isinstance(alpha, tuple) and any(map(_needs_float64, alpha))


@predicate
def gamma_is_below_one(gamma: float) -> bool:
    return gamma < 1


@predicate
def takes_logits_along_an_inner_axis_from_the_end(from_logits: bool, axis: int) -> bool:
    return from_logits and axis < -1


@predicate
def averages_a_single_value(axis: Any, reduction: str | None) -> bool:
    return axis is None and reduction == "mean_with_sample_weight"


# Layers ---------------------------------------------------------------------------------------------------------------


@predicate
def adds_a_bias_to_several_filters(use_bias: bool, filters: int) -> bool:
    return use_bias and filters > 1


@predicate
def adds_along_another_axis(shapes: Shapes) -> bool:
    return any(_is_taken_for_a_bias(np.broadcast_shapes(*shapes[:i]), shapes[i]) for i in range(1, len(shapes)))


def _is_taken_for_a_bias(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether keras.ops.add takes the second for a bias of the first, and adds it along another axis than its own."""
    long = [i - len(second) for i, n in enumerate(second) if n > 1]
    if len(long) != 1 or len(first) < 2 or second[long[0]] not in (first[1], first[-1]):
        return False
    return long[0] != (-1 if second[long[0]] == first[-1] else 1 - len(first))


@predicate
def bias_is_not_along_the_last_axis(bias_axes: str | None, equation: str) -> bool:
    return bias_axes is not None and bias_axes != equation.replace(" ", "")[-1]


@predicate
def heads_have_size_one(use_bias: bool, num_heads: int, key_dim: int, value_dim: int | None) -> bool:
    return use_bias and num_heads > 1 and 1 in (key_dim, value_dim or key_dim)


@predicate
def query_heads_have_size_one(use_bias: bool, num_query_heads: int, head_dim: int) -> bool:
    return use_bias and num_query_heads > 1 and head_dim == 1


@predicate
def key_scale_needs_float64(key_dim: int) -> bool:
    return _needs_float64(key_dim**-0.5)


@predicate
def head_scale_needs_float64(head_dim: int) -> bool:
    return _needs_float64(head_dim**-0.5)


@predicate
def pools_from_or_to_size_one(shapes: Shapes, output_size: tuple[int, ...], data_format: str) -> bool:
    return 1 in output_size or 1 in (shapes[0][1:-1] if data_format == "channels_last" else shapes[0][2:])


@predicate
def has_more_bins_than_float32_counts(output_size: tuple[int, ...]) -> bool:
    return max(output_size) > 2048


@predicate
def strides_exceed_the_pool(strides: tuple[int, ...] | None, pool_size: tuple[int, ...]) -> bool:
    return any(s > p + 1 for s, p in zip(strides or pool_size, pool_size, strict=False))


@predicate
def strides_exceed_the_kernel(strides: tuple[int, ...], kernel_size: tuple[int, ...]) -> bool:
    return any(s > k + 1 for s, k in zip(strides, kernel_size, strict=False))


@predicate
def has_unequal_strides(strides: tuple[int, ...]) -> bool:
    return len(set(strides)) > 1


@predicate
def is_dilated(dilation_rate: tuple[int, ...]) -> bool:
    return max(dilation_rate) > 1


@predicate
def has_unequal_dilations(dilation_rate: tuple[int, ...]) -> bool:
    return len(set(dilation_rate)) > 1


@predicate
def factor_is_not_a_power_of_two(size: tuple[int, ...]) -> bool:
    return any(s & (s - 1) for s in size)


@predicate
def counts_axes_from_both_ends(axis: Any) -> bool:
    return isinstance(axis, tuple) and len({a < 0 for a in axis}) > 1


@predicate
def is_given_its_moments(mean: Any) -> bool:
    return mean is not None


@predicate
def takes_one_pixel(shapes: Shapes, data_format: str) -> bool:
    height, width = shapes[0][-3:-1] if data_format == "channels_last" else shapes[0][-2:]
    return height * width == 1


# Recurrent layers -----------------------------------------------------------------------------------------------------


@predicate
def zeroes_masked_steps_backwards_and_unrolled(
    unroll: bool, go_backwards: bool, return_sequences: bool, zero_output_for_mask: bool
) -> bool:
    return unroll and go_backwards and return_sequences and zero_output_for_mask


@predicate
def wraps_a_layer_that_zeroes_masked_steps_unrolled(layer: Any) -> bool:
    return bool(layer.unroll and layer.return_sequences and layer.zero_output_for_mask)


@predicate
def zeroes_a_single_output(zero_output_for_mask: bool, return_sequences: bool) -> bool:
    return zero_output_for_mask and not return_sequences


@predicate
def returns_reversed_sequences(go_backwards: bool, return_sequences: bool) -> bool:
    return go_backwards and return_sequences


@predicate
def drops_everything(dropout: float, recurrent_dropout: float) -> bool:
    return 1 in (dropout, recurrent_dropout)


@predicate
def is_unrolled_and_ends_in_probabilities(unroll: bool, activation: str) -> bool:
    return unroll and activation in ("sigmoid", "softmax")


@predicate
def wraps_a_layer_that_keeps_and_returns_states(layer: Any) -> bool:
    return bool(layer.stateful and layer.return_state)


@predicate
def stacks_a_single_cell(cell: Any) -> bool:
    return len(getattr(cell, "cells", ())) == 1


# Optimizers and schedules ---------------------------------------------------------------------------------------------


@predicate
def decays_its_weights(weight_decay: float | None) -> bool:
    return bool(weight_decay)


@predicate
def warms_up(warmup_steps: int) -> bool:
    return warmup_steps > 1


@predicate
def has_an_l2_strength(l2_regularization_strength: float) -> bool:
    return l2_regularization_strength > 0


@predicate
def accumulates_from_zero(initial_accumulator_value: float) -> bool:
    return initial_accumulator_value == 0


@predicate
def accumulates_gradients_and_averages_weights(gradient_accumulation_steps: int | None, use_ema: bool) -> bool:
    return gradient_accumulation_steps is not None and use_ema


@predicate
def decays_vectors_at_another_rate(adam_lr_ratio: float, adam_weight_decay: float) -> bool:
    return adam_lr_ratio != 1 and bool(adam_weight_decay)


@predicate
def shrinks_periods_above_a_floor(m_mul: float, alpha: float) -> bool:
    return m_mul != 1 and alpha != 0


@predicate
def lengthens_its_periods(t_mul: float) -> bool:
    return t_mul > 1


@predicate
def starts_from_an_integer_rate(initial_learning_rate: Any) -> bool:
    return type(initial_learning_rate) is int
