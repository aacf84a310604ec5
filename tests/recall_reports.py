"""The reports that tests/recall.py goes through: public threads on derivatives of TensorFlow and Keras."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

TF, KERAS = "tensorflow", "keras"


@dataclass(frozen=True, kw_only=True)
class Report:
    """One public report.

    thread     "tensorflow 127226", or several numbers of one fault
    function   what it is about, of arguments of these `kinds` (keras_ref/campaign/points.py)
    options    of check_function: what the report is about
    live       (what TensorFlow says, the closed form) at the reporter's point; None where it was not run, for `reason`
    refusal    words of the sentence in which a missing derivative is refused
    reason     why it was not run, or why it is missed
    """

    thread: str
    name: str
    function: Callable[..., Any] = tf.identity
    kinds: tuple[str, ...] = ("vector",)
    options: dict[str, Any] = field(default_factory=dict)
    live: Callable[[], tuple[Any, Any]] | None = None
    refusal: str = ""
    reason: str = ""


def gradient(function: Callable[..., Any], *arguments: Any, wrt: int = 0) -> Any:
    """Autodiff's gradient of the sum by one argument, NaN where there is none."""
    given = [tf.convert_to_tensor(a, None if np.iscomplexobj(a) else tf.float64) for a in arguments]
    with tf.GradientTape() as tape:
        tape.watch(given)
        y = tf.reduce_sum(function(*given))
    found = tape.gradient(y, given[wrt])
    return math.nan if found is None else found


def slope_of(function: Callable[..., Any], wrt: int = 0) -> Callable[..., Any]:
    """The function's gradient by one argument, as a function."""

    def slope(*arguments: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            y = tf.reduce_sum(function(*arguments))
        return tape.gradient(y, arguments[wrt], unconnected_gradients="zero")

    return slope


def second(function: Callable[..., Any], *arguments: Any) -> Any:
    """The gradient of the sum of the first derivatives, both by the first argument."""
    return gradient(slope_of(function), *arguments)


def third(function: Callable[..., Any], *arguments: Any) -> Any:
    """The same once more."""
    return gradient(slope_of(slope_of(function)), *arguments)


def tangent_of(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """The function's slope along ones in forward mode, as a function."""

    def tangent(x: Any) -> Any:
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as forward:
            y = function(x)
        return forward.jvp(y, unconnected_gradients="zero")

    return tangent


def forward(function: Callable[..., Any], x: Any) -> Any:
    """The sum's slope along ones in forward mode, NaN where there is none."""
    x = tf.constant(x, tf.float64)
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        y = tf.reduce_sum(function(x))
    found = accumulator.jvp(y)
    return math.nan if found is None else found


def twice_forward(function: Callable[..., Any], x: Any) -> Any:
    """The second slope along ones of the sum, by forward mode over forward mode."""
    return forward(lambda x: tangent_of(lambda x: tf.reduce_sum(function(x)))(x), x)


def real(function: Callable[..., Any]) -> Callable[..., Any]:
    """The real part of a function of complex numbers, by the parts of each: z = a + ib."""
    return lambda *parts: tf.math.real(function(*map(tf.complex, parts[::2], parts[1::2])))


def cube(x: Any) -> Any:
    m = tf.identity(x)
    return (m * m) * m


def bump(x: Any) -> Any:
    return (1 - tf.exp(-(x - 1))) ** 2


def softplus_by_choice(x: Any) -> Any:
    return tf.where(x > 20, x, tf.math.log1p(tf.exp(x)))


def crossentropy(x: Any) -> Any:
    return tf.nn.softmax_cross_entropy_with_logits(tf.one_hot([0] * x.shape[0], x.shape[1], dtype=x.dtype), x)


def recomposed(x: Any) -> Any:
    s, u, v = tf.linalg.svd(x)
    return u @ tf.linalg.diag(s) @ tf.transpose(v)


def squared_determinant(x: Any) -> Any:
    return tf.linalg.det(x) ** 2


def similarity(x: Any) -> Any:
    return tf.image.ssim_multiscale(x, 1 - x, 1.0, power_factors=(0.5, 0.5), filter_size=2)


def focal(z: Any) -> Any:
    y = tf.one_hot([0] * z.shape[0], z.shape[1], dtype=z.dtype)
    return keras.losses.binary_focal_crossentropy(y, z, from_logits=True, gamma=0.0)


def crossentropy_of_nothing(z: Any) -> Any:
    return keras.losses.categorical_crossentropy(tf.zeros_like(z), keras.ops.softmax(z))


def polymorphic(x: Any) -> Any:
    mask = x > tf.reduce_mean(x, axis=1, keepdims=True)
    y = tf.where(mask, tf.math.sin(x), tf.math.cos(x))
    return y * tf.reshape(tf.cast(tf.linspace(0.17, 1.13, tf.size(y)), y.dtype), tf.shape(y))


def _polymorphic_gradients() -> tuple[Any, Any]:
    x = tf.reshape(tf.linspace(-1.0, 1.0, 15), [3, 5])
    compiled = tf.function(
        slope_of(polymorphic), jit_compile=True, input_signature=[tf.TensorSpec([None, 5], tf.float32)]
    )
    return compiled(x), slope_of(polymorphic)(x)


SECOND, FORWARD, DIGITS = {"order": 2}, {"forward_mode": True}, {"digits": True}
TWO, LOGITS, PAIR = ("vector", "vector"), ("logits",), ("complex vector", "complex vector")
IMAGES, MATRIX, COMPLEX = ("images",), ("matrix",), ("complex vector",)
WEIGHTS = np.array([[1.0, 2.0], [3.0, 4.0]])
S = 1.7580993408473768  # selu's λα


def _silu_second(x: float) -> float:
    s = 1 / (1 + math.exp(-x))
    return s * (1 - s) * (2 + x * (1 - 2 * s))


def at(thread: str, name: str, function: Callable[..., Any] = tf.identity, live: Any = None, **more: Any) -> Report:
    """A report."""
    return Report(thread=thread, name=name, function=function, live=live, **more)


REPORTS = (
    # open, of recent releases: smooth points
    at("tensorflow 127226", "keras.ops.sinc", keras.ops.sinc, lambda: (gradient(keras.ops.sinc, 0.0), 0.0)),
    at("tensorflow 127232", "keras.ops.logaddexp", keras.ops.logaddexp, lambda: (gradient(keras.ops.logaddexp, -4.0, -4.0), 0.5), kinds=TWO),
    at("keras 23616", "keras.ops.logaddexp2", keras.ops.logaddexp2, lambda: (gradient(keras.ops.logaddexp2, -4.0, -4.0), 0.5), kinds=TWO),
    at("tensorflow 127244, keras 23615", "keras.ops.ldexp", lambda x: keras.ops.ldexp(x, [3, -1, 2, 0]), lambda: (gradient(lambda x: keras.ops.ldexp(x, 3), 0.0), 8.0)),
    at("tensorflow 127230", "keras.ops.hypot, second", keras.ops.hypot, lambda: (second(keras.ops.hypot, 0.0, -3.0), 1 / 3), kinds=TWO, options=SECOND),
    at("tensorflow 127697", "keras.ops.hypot", keras.ops.hypot, lambda: (gradient(keras.ops.hypot, 1.0, 1.0), 0.5**0.5), kinds=TWO),
    at("tensorflow 127243", "tf.math.cumulative_logsumexp, forward over forward", tangent_of(lambda x: tf.math.cumulative_logsumexp(x, reverse=True)),
       lambda: (twice_forward(lambda t: tf.math.cumulative_logsumexp(tf.stack([t, 2 * t]), reverse=True)[0], -40.0), math.exp(-40) / (1 + math.exp(-40)) ** 2), options=FORWARD),
    at("tensorflow 127753", "nested ForwardAccumulator of an operand used twice", tangent_of(cube), lambda: (twice_forward(cube, 0.7), 4.2), options=FORWARD),
    at("tensorflow 127713", "tf.math.xlogy of complex numbers", tf.math.xlogy, lambda: (gradient(lambda a, b: real(tf.math.xlogy)(a, b, tf.zeros_like(a), tf.fill(a.shape, tf.constant(2.0, a.dtype))), 0.5, 0.25, wrt=1), -math.pi / 2), kinds=PAIR),
    at("tensorflow 127713", "tf.math.xlog1py of complex numbers", tf.math.xlog1py, lambda: (gradient(lambda a, b: real(tf.math.xlog1py)(a, b, -tf.ones_like(a), tf.fill(a.shape, tf.constant(2.0, a.dtype))), 0.5, 0.25, wrt=1), -math.pi / 2), kinds=PAIR),
    at("tensorflow 127713", "tf.math.xdivy of complex numbers", tf.math.xdivy, lambda: (gradient(lambda a, b: real(tf.math.xdivy)(a, b, tf.zeros_like(a), tf.fill(a.shape, tf.constant(2.0, a.dtype))), 0.5, 0.25, wrt=1), 0.5), kinds=PAIR),
    at("tensorflow 127713", "tf.math.multiply_no_nan of complex numbers", tf.math.multiply_no_nan, lambda: (gradient(lambda a, b: real(tf.math.multiply_no_nan)(a, b, tf.zeros_like(a), tf.fill(a.shape, tf.constant(2.0, a.dtype))), 0.5, 0.25, wrt=1), -2.0), kinds=PAIR),
    at("tensorflow 12514", "tf.reduce_prod of complex numbers", tf.reduce_prod, lambda: (gradient(lambda x: tf.math.real(tf.reduce_prod(tf.stack([tf.complex(x, 2 * x), tf.complex(x, 2 * x)]))), 1.0), -6.0), kinds=COMPLEX),
    at("tensorflow 49946", "tf.linalg.det of complex matrices", tf.linalg.det, lambda: (gradient(lambda a, b: tf.math.real(tf.linalg.det(tf.complex(a, b))), [[1.0, 2.0], [0.0, 3.0]], [[1.0, 0.0], [0.5, -1.0]]), [[3.0, 0.0], [-2.0, 1.0]]), kinds=("complex matrix",)),
    at("tensorflow 7397", "tf.dynamic_stitch of one index twice", lambda a, b: tf.dynamic_stitch([[0, 0, 1, 2], [2, 3, 3, 4]], [a, b]), lambda: (gradient(lambda a: tf.dynamic_stitch([[0], [0]], [a, [2.0]]), [1.0]), 0.0), kinds=TWO),
    at("tensorflow 41125", "a power of a difference, third", slope_of(bump), lambda: (third(bump, 1.0), -6.0), options=SECOND),
    at("tensorflow 22048", "tf.clip_by_norm of zeros", lambda x: tf.clip_by_norm(x, 1.0), lambda: (gradient(lambda x: tf.clip_by_norm(x, 1.0), [0.0, 0.0, 0.0]), [1.0, 1.0, 1.0])),
    # a matter of convention
    at("tensorflow 12071", "tf.norm", tf.norm, lambda: (gradient(tf.norm, [1e-170]), [1.0])),
    at("keras 23551", "categorical_crossentropy of outputs that sum to 0", reason="the value is 0/0"),
    at("tensorflow 118673", "reduce_max of NaN, compiled", reason="the value is NaN"),
    # lost in the tail
    at("tensorflow 124831", "tf.nn.selu, second, near 0", tf.nn.selu, lambda: (second(tf.nn.selu, -1e-300), S), options=SECOND | DIGITS),
    at("tensorflow 124830", "tf.nn.elu, second, near 0", tf.nn.elu, lambda: (second(tf.nn.elu, -1e-300), 1.0), options=SECOND | DIGITS),
    at("tensorflow 126627", "keras.ops.exp2 at 1024", reason="the value is infinite"),
    at("tensorflow 126631, 126060", "tf.math.sigmoid", tf.math.sigmoid, lambda: (gradient(tf.math.sigmoid, 37.42994775), 5.55e-17 * 1.0003), options=DIGITS),
    at("tensorflow 126628", "tf.math.log_sigmoid, second", tf.math.log_sigmoid, lambda: (second(tf.math.log_sigmoid, -37.42994775), -math.exp(-37.42994775)), options=SECOND | DIGITS),
    at("tensorflow 126634", "tf.nn.softmax_cross_entropy_with_logits", crossentropy, lambda: (gradient(crossentropy, [[37.42994775, 0.0]])[0, 0], -math.exp(-37.42994775)), kinds=LOGITS, options=DIGITS),
    at("tensorflow 124832", "tf.nn.silu, second", tf.nn.silu, lambda: (second(tf.nn.silu, -709.0), -707.0 * math.exp(-709.0)), options=SECOND | DIGITS),
    # compiled, or not a wrong number
    at("tensorflow 118713", "tf.where under XLA with a shape that is not known", polymorphic, _polymorphic_gradients, kinds=("matrix",), options={"modes": ("eager", "jit_compile")}, reason="modes are traced with the shapes of the data"),
    at("tensorflow 116258", "a model of several branches, compiled", reason="its script lies in an attached archive"),
    at("tensorflow 72785", "sparse_segment_mean on a GPU", reason="needs a GPU"),
    at("tensorflow 126206", "max_pool of an empty output under oneDNN", reason="ends the process: in the ledger by a subprocess"),
    at("tensorflow 126083", "tf.image.adjust_hue", lambda x: tf.image.adjust_hue(x, 0.1), lambda: (gradient(lambda x: tf.image.adjust_hue(x, 0.1), np.full((1, 1, 1, 3), [0.2, 0.5, 0.7])), 1.0), kinds=IMAGES, refusal="has no entry for"),
    at("tensorflow 126083", "tf.image.adjust_saturation", lambda x: tf.image.adjust_saturation(x, 0.5), lambda: (gradient(lambda x: tf.image.adjust_saturation(x, 0.5), np.full((1, 1, 1, 3), [0.2, 0.5, 0.7])), 1.0), kinds=IMAGES, refusal="has no entry for"),
    at("tensorflow 126083, 62145", "tf.image.adjust_contrast", lambda x: tf.image.adjust_contrast(x, 0.5), lambda: (gradient(lambda x: tf.image.adjust_contrast(x, 0.5), np.full((1, 1, 1, 3), [0.2, 0.5, 0.7])), 1.0), kinds=IMAGES, refusal="has no entry for"),
    # closed in 2026
    at("tensorflow 119430", "tf.math.cumprod", tf.math.cumprod, lambda: (gradient(tf.math.cumprod, [2.0, 3.0, 0.0]), [4.0, 2.0, 6.0])),
    at("tensorflow 119476", "tf.math.xlogy", tf.math.xlogy, lambda: (gradient(tf.math.xlogy, 0.0, 2.0), math.log(2)), kinds=TWO),
    at("tensorflow 119476, 56873", "tf.math.xlog1py", tf.math.xlog1py, lambda: (gradient(tf.math.xlog1py, 0.0, 2.0), math.log(3)), kinds=TWO),
    at("tensorflow 127238", "tf.math.xdivy", tf.math.xdivy, lambda: (gradient(tf.math.xdivy, 0.0, 2.0), 0.5), kinds=TWO),
    at("tensorflow 127240", "tf.math.xlogy, second", tf.math.xlogy, lambda: (gradient(slope_of(tf.math.xlogy), 0.0, 2.0, wrt=1), 0.5), kinds=TWO, options=SECOND),
    at("tensorflow 120578", "tf.math.bessel_i1", tf.math.bessel_i1, lambda: (gradient(tf.math.bessel_i1, 0.0), 0.5)),
    at("tensorflow 123578", "tf.math.igamma, to x", tf.math.igamma, lambda: (gradient(tf.math.igamma, 1.0, 0.0, wrt=1), 1.0), kinds=TWO),
    at("tensorflow 127227", "tf.experimental.numpy.vander", tf.experimental.numpy.vander, lambda: (gradient(tf.experimental.numpy.vander, [0.0, 2.0]), [1.0, 1.0])),
    at("tensorflow 127233", "tf.math.segment_mean, forward mode", lambda x: tf.math.segment_mean(x, [0, 0, 2, 2]), lambda: (forward(lambda x: tf.math.segment_mean(x, [0, 0, 2, 2, 2]), [1.0] * 5), 2.0), options=FORWARD),
    at("tensorflow 127245", "tf.signal.kaiser_window, second", lambda b: tf.signal.kaiser_window(6, b, dtype=tf.float64), lambda: (second(lambda b: tf.signal.kaiser_window(3, b, dtype=tf.float64)[0], 0.0), -0.5), kinds=("number",), options=SECOND),
    at("tensorflow 127224", "tf.linalg.expm, forward over forward", tangent_of(tf.linalg.expm), lambda: (twice_forward(lambda t: tf.linalg.expm(t * tf.eye(2, dtype=t.dtype) + tf.constant([[0.0, 1.0], [-1.0, 0.0]], t.dtype)), 0.7), 2 * math.exp(0.7) * math.cos(1)), kinds=MATRIX, options=FORWARD),
    at("tensorflow 119477", "tf.linalg.det of a singular matrix", tf.linalg.det, lambda: (gradient(tf.linalg.det, [[1.0, 2.0], [2.0, 4.0]]), [[4.0, -2.0], [-2.0, 1.0]]), kinds=MATRIX, refusal="invertible"),
    at("tensorflow 126524, 126637", "tf.math.tanh", tf.math.tanh, lambda: (gradient(tf.math.tanh, 20.0), 1 / math.cosh(20.0) ** 2), options=DIGITS),
    at("tensorflow 124833", "tf.nn.elu", tf.nn.elu, lambda: (gradient(tf.nn.elu, -40.0), math.exp(-40.0)), options=DIGITS),
    at("tensorflow 124834", "tf.nn.selu", tf.nn.selu, lambda: (gradient(tf.nn.selu, -700.0), S * math.exp(-700.0)), options=DIGITS),
    at("tensorflow 124835", "tf.nn.silu", tf.nn.silu, lambda: (gradient(tf.nn.silu, -709.0), -708.0 * math.exp(-709.0)), options=DIGITS),
    at("tensorflow 126632", "tf.nn.silu, second, in saturation", tf.nn.silu, lambda: (second(tf.nn.silu, 40.4108), math.exp(-40.4108) * (2 - 40.4108)), options=SECOND | DIGITS),
    at("tensorflow 126635", "tf.nn.softplus, second", tf.nn.softplus, lambda: (second(tf.nn.softplus, 37.42994775), math.exp(-37.42994775)), options=SECOND | DIGITS),
    at("tensorflow 126633", "tf.nn.softmax", tf.nn.softmax, lambda: (gradient(lambda z: tf.nn.softmax(z)[0], [37.42994775, 0.0]), [math.exp(-37.42994775), -math.exp(-37.42994775)]), kinds=LOGITS, options=DIGITS),
    at("keras 23075", "keras.ops.normalize of zeros", keras.ops.normalize, lambda: (gradient(keras.ops.normalize, [[0.0, 0.0]]), [[1e7, 1e7]]), kinds=MATRIX),
    # closed, of older releases
    at("tensorflow 35011", "tf.pow, third", slope_of(lambda x: tf.pow(x, 2.0 + 0 * x)), lambda: (third(lambda x: tf.pow(x, tf.constant(2.0, x.dtype)), 0.0), 0.0), options=SECOND),
    at("tensorflow 61117", "tf.reduce_prod, second", tf.reduce_prod, lambda: (second(tf.reduce_prod, [0.0, 1.0]), [1.0, 1.0]), options=SECOND),
    at("tensorflow 44556", "tf.reduce_prod of multiples, second", lambda x: tf.reduce_prod(tf.constant([2.0, 0.0, 1.0, 1.0], x.dtype) * x * x), lambda: (second(lambda x: tf.reduce_prod(tf.constant([2.0, 0.0], x.dtype) * x * x), 0.0), 0.0), options=SECOND),
    at("tensorflow 55230", "tf.linalg.det, second", tf.linalg.det, lambda: (second(tf.linalg.det, [[0.5, 2.0], [-1.0, 3.0]]), [[1.0, -1.0], [-1.0, 1.0]]), kinds=MATRIX, options=SECOND),
    at("tensorflow 57430", "tf.linalg.det, forward over reverse", slope_of(squared_determinant), lambda: (forward(slope_of(squared_determinant), [[0.4128, 0.4728], [0.5486, 0.8008]]), 2 * 0.1922**2), kinds=MATRIX, options=FORWARD),
    at("tensorflow 17476", "tf.linalg.svd of equal singular values", recomposed, lambda: (gradient(lambda x: WEIGHTS * recomposed(x), np.eye(2)), WEIGHTS), kinds=MATRIX),
    at("tensorflow 57480", "tf.math.atan of complex numbers", tf.math.atan, lambda: (gradient(real(tf.math.atan), 0.0, 1.1262), np.real(1 / (1 + (1.1262j) ** 2))), kinds=COMPLEX),
    at("tensorflow 57481", "keras swish of complex numbers", lambda z: keras.activations.swish(z), lambda: (gradient(lambda a, b: tf.math.real(tf.nn.silu(tf.complex(a, b))), 0.0, 0.5, wrt=1), -np.imag(0.5 + 0.5j * 0.5)), kinds=COMPLEX),
    at("tensorflow 37307", "tf.einsum of complex matrices", lambda a, b: tf.einsum("ij,jk->ik", a, b), lambda: (gradient(lambda a, b: real(lambda p, q: tf.einsum("ij,jk->ik", p, q))(a, b, a, b)[0, 0], [[1.0]], [[2.0]], wrt=1), [[-4.0]]), kinds=("complex matrix", "complex matrix")),
    at("tensorflow 56796", "tf.nn.l2_normalize of zeros", tf.nn.l2_normalize, lambda: (gradient(tf.nn.l2_normalize, [0.0, 0.0]), [1e6, 1e6])),
    at("tensorflow 56694", "tf.image.rgb_to_hsv in float64", tf.image.rgb_to_hsv, lambda: (gradient(lambda x: tf.image.rgb_to_hsv(x)[..., 2], [[[0.2, 0.5, 0.7]]]), [[[0.0, 0.0, 1.0]]]), kinds=IMAGES),
    at("tensorflow 57002", "tf.math.segment_max, forward mode", lambda x: tf.math.segment_max(x, [1, 1, 1, 1]), lambda: (forward(lambda x: tf.math.segment_max(x, [1, 1]), [1.0, 2.0]), 1.0), options=FORWARD),
    at("tensorflow 57786", "tf.acos outside of its domain", tf.acos, reason="the value is NaN"),
    at("tensorflow 38349", "tf.where whose other branch overflows", softplus_by_choice, lambda: (gradient(softplus_by_choice, 1000.0), 1.0)),
    at("tensorflow 60736", "tf.math.sign, forward mode", tf.math.sign, lambda: (forward(tf.math.sign, [0.5]), 0.0), options=FORWARD),
    at("tensorflow 60071", "tf.experimental.numpy.fabs, forward over reverse", slope_of(tf.experimental.numpy.fabs), lambda: (forward(slope_of(tf.experimental.numpy.fabs), [1.0]), 0.0), options=FORWARD),
    at("tensorflow 56737", "tf.signal.mdct, forward mode", lambda x: tf.signal.mdct(x, 8), lambda: (forward(lambda x: tf.signal.mdct(x, 8), np.arange(16.0)), tf.reduce_sum(gradient(lambda x: tf.signal.mdct(x, 8), np.arange(16.0)))), kinds=("signal",), options=FORWARD),
    at("tensorflow 50400", "tf.image.ssim_multiscale", similarity, lambda: (np.isfinite(gradient(similarity, np.random.default_rng(0).uniform(size=(1, 8, 8, 3)))).all(), True), kinds=IMAGES),
    at("tensorflow 70326", "keras binary_focal_crossentropy, gamma=0", focal, lambda: (gradient(focal, [[40.0]]), [[-math.exp(-40.0)]]), kinds=LOGITS),
    at("tensorflow 60314", "keras categorical_crossentropy of no target", crossentropy_of_nothing, lambda: (gradient(crossentropy_of_nothing, [[1.0, 2.0]]), [[0.0, 0.0]]), kinds=LOGITS),
    at("tensorflow 60041", "tf.math.zeta, to x", tf.math.zeta, lambda: (gradient(tf.math.zeta, 2.0, 1.5), 1.0), kinds=TWO, refusal="has no entry for"),
    at("tensorflow 17995", "tf.math.igamma, to a", tf.math.igamma, lambda: (gradient(tf.math.igamma, 1.0, 1.0), -0.431729710634898696), kinds=TWO),
    at("tensorflow 62429, 62431, 62435", "relu and max pooling at ties", tf.nn.relu, reason="a kink: any slope between those of both sides"),
)  # fmt: skip
