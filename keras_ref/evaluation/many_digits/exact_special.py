"""Special functions, complex numbers, Fourier transforms, matrices, windows and segments in many digits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import tensorflow as tf

from keras_ref.evaluation.graphs.operation_rounding import EXACT
from keras_ref.evaluation.many_digits.exact_numbers import ZERO, Missing, each, eagerly, mean, zeros

Operation = Callable[..., list[Any]]


# Functions of one or more numbers -------------------------------------------------------------------------------


def _ndtri(p: Any) -> Any:
    return mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)


def _spence(x: Any) -> Any:
    return mpmath.re(mpmath.polylog(2, 1 - x))


def _dawson(x: Any) -> Any:
    return mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(-x * x) * mpmath.erfi(x)


def _regularized_gamma(a: Any, x: Any) -> Any:
    if x < 0:  # on the other side of a slope at 0; mpmath.gammainc never ends there
        return x**a * mpmath.exp(-x) * mpmath.hyp1f1(1, a + 1, x) * mpmath.rgamma(a + 1)
    return mpmath.gammainc(a, 0, x, regularized=True)


def _regularized_gamma_complement(a: Any, x: Any) -> Any:
    return mpmath.gammainc(a, x, mpmath.inf, regularized=True)


def _next_number(x: Any, _: Any) -> Any:
    return x  # the identity but for a unit in the last place


NUMBERS: Mapping[str, Callable[..., Any]] = {
    "BesselI0": lambda x: mpmath.besseli(0, x),
    "BesselI1": lambda x: mpmath.besseli(1, x),
    "BesselI0e": lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(0, x),
    "BesselI1e": lambda x: mpmath.exp(-abs(x)) * mpmath.besseli(1, x),
    "BesselJ0": lambda x: mpmath.besselj(0, x),
    "BesselJ1": lambda x: mpmath.besselj(1, x),
    "BesselY0": lambda x: mpmath.re(mpmath.bessely(0, x)),
    "BesselY1": lambda x: mpmath.re(mpmath.bessely(1, x)),
    "BesselK0": lambda x: mpmath.re(mpmath.besselk(0, x)),
    "BesselK1": lambda x: mpmath.re(mpmath.besselk(1, x)),
    "BesselK0e": lambda x: mpmath.exp(x) * mpmath.re(mpmath.besselk(0, x)),
    "BesselK1e": lambda x: mpmath.exp(x) * mpmath.re(mpmath.besselk(1, x)),
    "Dawsn": _dawson,
    "Expint": mpmath.ei,
    "FresnelCos": mpmath.fresnelc,
    "FresnelSin": mpmath.fresnels,
    "Spence": _spence,
    "Erfinv": mpmath.erfinv,
    "Ndtri": _ndtri,
    "Igamma": _regularized_gamma,
    "Igammac": _regularized_gamma_complement,
    "Betainc": lambda a, b, x: mpmath.betainc(a, b, 0, x, regularized=True),
    "Zeta": mpmath.zeta,
    "Polygamma": lambda n, x: mpmath.polygamma(int(n), x),
    "NextAfter": _next_number,
    "TruncateDiv": lambda a, b: _truncated(a / b),
    "TruncateMod": lambda a, b: a - b * _truncated(a / b),
    "FloorDiv": lambda a, b: mpmath.floor(a / b),
    "ReciprocalNoNan": lambda x: 1 / x if x else ZERO,
    # complex numbers
    "Complex": mpmath.mpc,
    "Real": mpmath.re,
    "Imag": mpmath.im,
    "Conj": mpmath.conj,
    "ComplexAbs": abs,
    "Angle": mpmath.arg,
}


def _truncated(x: Any) -> Any:
    return mpmath.sign(x) * mpmath.floor(abs(x))


# Matrices -------------------------------------------------------------------------------------------------------


def _each_matrix(function: Callable[..., Any], *arrays: Any) -> list[Any]:
    """A function of matrices, which returns a tuple of arrays, for every matrix of stacks."""
    leading = arrays[0].shape[:-2]
    found = [
        function(*(mpmath.matrix(a[index].tolist()) for a in arrays))
        for index in itertools.product(*map(range, leading))
    ]
    if not found:
        raise Missing("a stack of no matrices")
    return [
        np.array([np.asarray(part, object) for part in parts], object).reshape((*leading, *np.shape(parts[0])))
        for parts in zip(*found, strict=True)
    ]


def _array(matrix: Any) -> Any:
    return np.array(matrix.tolist(), object).reshape(matrix.rows, matrix.cols)


def _determinant(matrix: Any) -> Any:
    try:
        return mpmath.det(matrix)
    except ZeroDivisionError:
        return ZERO


def _solution(matrix: Any, right: Any) -> Any:
    columns = [mpmath.lu_solve(matrix, right[:, j]) for j in range(right.cols)]
    return np.array([[c[i] for c in columns] for i in range(matrix.rows)], object)


def _log_determinant(matrix: Any) -> tuple[Any, Any]:
    found = _determinant(matrix)
    if not found:
        return ZERO, mpmath.ninf
    return found / abs(found), mpmath.log(abs(found))


def _solve(o: Any, a: Any, b: Any) -> list[Any]:
    if o.get_attr("adjoint"):
        a = np.swapaxes(each(mpmath.conj)(a), -1, -2)
    return _each_matrix(lambda m, r: (_solution(m, r),), a, b)


def _solve_triangular(o: Any, a: Any, b: Any) -> list[Any]:
    kept = np.tril(np.ones(a.shape[-2:], int)) if o.get_attr("lower") else np.triu(np.ones(a.shape[-2:], int))
    a = np.where(kept == 1, a, ZERO)
    return _solve(o, a, b)


def _inverse(o: Any, a: Any) -> list[Any]:
    if o.get_attr("adjoint"):
        a = np.swapaxes(each(mpmath.conj)(a), -1, -2)
    return _each_matrix(lambda m: (_array(m**-1),), a)


def _square_root(o: Any, a: Any) -> list[Any]:
    return _each_matrix(lambda m: (_array(mpmath.sqrtm(m)),), a)


def _cross(o: Any, a: Any, b: Any) -> list[Any]:
    nexts, others = [1, 2, 0], [2, 0, 1]
    return [a[..., nexts] * b[..., others] - a[..., others] * b[..., nexts]]


# Fourier transforms ---------------------------------------------------------------------------------------------


def _along(x: Any, axis: int, matrix: Any) -> Any:
    found = np.sum(np.moveaxis(x, axis, -1)[..., None, :] * matrix, axis=-1)
    return np.moveaxis(found, -1, axis)


def _fourier_matrix(rows: int, columns: int, length: int, sign: int) -> Any:
    turns = [[mpmath.expjpi(mpmath.mpf(2 * sign * j * k) / length) for k in range(columns)] for j in range(rows)]
    return np.array(turns, object).reshape(rows, columns)


def _fourier(axes: int, sign: int) -> Operation:
    def transform(o: Any, x: Any) -> list[Any]:
        for axis in range(-axes, 0):
            size = x.shape[axis]
            x = _along(x, axis, _fourier_matrix(size, size, size, sign))
            x = x if sign < 0 else x / size
        return [x]

    return transform


def _resized(x: Any, axis: int, size: int) -> Any:
    x = np.moveaxis(x, axis, 0)[:size]
    missing = [zeros(x.shape[1:])] * (size - len(x))
    return np.moveaxis(np.stack([*x, *missing]), 0, axis)


def _real_fourier(axes: int) -> Operation:
    def transform(o: Any, x: Any, lengths: Any) -> list[Any]:
        sizes = [int(s) for s in np.ravel(lengths)]
        for axis, size in zip(range(-axes, 0), sizes, strict=True):
            x = _resized(x, axis, size)
        for axis, size in zip(range(-axes, 0), sizes, strict=True):
            rows = size // 2 + 1 if axis == -1 else size
            x = _along(x, axis, _fourier_matrix(rows, size, size, -1))
        return [x]

    return transform


def _inverse_real_fourier(axes: int) -> Operation:
    def transform(o: Any, x: Any, lengths: Any) -> list[Any]:
        sizes = [int(s) for s in np.ravel(lengths)]
        for axis, size in zip(range(-axes, -1), sizes[:-1], strict=True):
            x = _resized(x, axis, size)
            x = _along(x, axis, _fourier_matrix(size, size, size, 1)) / size
        size = sizes[-1]
        half = size // 2 + 1
        x = _resized(x, -1, half)
        # Σ over both halves: the second is the conjugate of the first; 0 and (of an even size) the middle stand alone
        weights = np.array([1 if k == 0 or 2 * k == size else 2 for k in range(half)], object)
        return [each(mpmath.re)(_along(x * weights, -1, _fourier_matrix(size, half, size, 1))) / size]

    return transform


# Windows and segments -------------------------------------------------------------------------------------------


def _windows(o: Any, x: Any) -> Any:
    """The numbers in each window of NHWC or NDHWC images, along a new last axis; None where it hangs over."""
    if o.get_attr("data_format") not in (b"NHWC", b"NDHWC"):
        raise Missing(f"{o.type} {o.get_attr('data_format').decode()}")
    sizes, strides = list(o.get_attr("ksize")), list(o.get_attr("strides"))
    places = np.arange(1, x.size + 1, dtype=float).reshape(x.shape)
    padding, channels = o.get_attr("padding").decode(), x.shape[-1]
    if x.ndim == 4:
        patches = tf.image.extract_patches(places, sizes, strides, [1, 1, 1, 1], padding).numpy()
    else:
        patches = tf.raw_ops.ExtractVolumePatches(input=places, ksizes=sizes, strides=strides, padding=padding).numpy()
    patches = patches.reshape(*patches.shape[:-1], -1, channels).astype(int)
    return np.array([None, *x.ravel()], object)[np.swapaxes(patches, -1, -2)]


def _pooled(of: Callable[[list[Any]], Any]) -> Operation:
    def pool(o: Any, x: Any) -> list[Any]:
        windows = _windows(o, x)
        found = np.empty(windows.shape[:-1], object)
        for index in np.ndindex(found.shape):
            found[index] = of([v for v in windows[index] if v is not None])
        return [found]

    return pool


def _in_segments(of: Callable[[list[Any]], Any], empty: Any) -> Operation:
    """A reduction over the rows of each segment: (data, ids), or (data, ids, count).

    empty   what a segment without rows has: a number, or "min" or "max" for that of the operation's dtype
    """

    def reduce(o: Any, x: Any, ids: Any, *count: Any) -> list[Any]:
        ids = np.asarray(ids)
        size = int(count[0]) if count else (int(ids.max()) + 1 if ids.size else 0)
        rows, flat = x.reshape(-1, *x.shape[ids.ndim :]), ids.ravel()
        found = np.empty((size, *rows.shape[1:]), object)
        nothing = mpmath.mpf(float(getattr(o.outputs[0].dtype, empty))) if isinstance(empty, str) else empty
        for segment in range(size):
            own = rows[flat == segment]
            for index in np.ndindex(found.shape[1:]):
                terms = list(own[(slice(None), *index)])
                found[(segment, *index)] = of(terms) if terms else nothing
        return [found]

    return reduce


def _of_chosen(reduce: Operation) -> Operation:
    """A reduction over segments of chosen rows: (data, rows, ids), or (data, rows, ids, count)."""
    return lambda o, x, rows, *rest: reduce(o, x[np.asarray(rows).astype(int)], *rest)


def _over_root(terms: list[Any]) -> Any:
    return mpmath.fsum(terms) / mpmath.sqrt(len(terms))


#: reductions of sparse segments, by the names of their operations
SPARSE = {"Sum": mpmath.fsum, "Mean": mean, "SqrtN": _over_root}


def _linear(o: Any, x: Any, *rest: Any) -> list[Any]:
    """An operation that is linear in its first argument: its matrix is what TensorFlow makes of unit vectors."""
    others = [r.astype(float) if isinstance(r, np.ndarray) and r.dtype == object else r for r in rest]
    total: Any = None
    for index in np.ndindex(x.shape):
        unit = np.zeros(x.shape)
        unit[index] = 1.0
        (image,) = eagerly(o, [unit, *others])
        term = each(mpmath.mpf)(np.asarray(image, float)) * x[index]
        total = term if total is None else total + term
    return [total]


SPECIAL: dict[str, Operation] = {
    **{kind: (lambda _, *x, f=f: [each(f)(*x)]) for kind, f in NUMBERS.items()},
    "MatrixDeterminant": lambda _, a: _each_matrix(lambda m: (_determinant(m),), a),
    "LogMatrixDeterminant": lambda _, a: _each_matrix(_log_determinant, a),
    "MatrixInverse": _inverse,
    "MatrixSolve": _solve,
    "MatrixTriangularSolve": _solve_triangular,
    "MatrixSquareRoot": _square_root,
    "Cross": _cross,
    "FFT": _fourier(1, -1),
    "FFT2D": _fourier(2, -1),
    "FFT3D": _fourier(3, -1),
    "IFFT": _fourier(1, 1),
    "IFFT2D": _fourier(2, 1),
    "IFFT3D": _fourier(3, 1),
    "RFFT": _real_fourier(1),
    "RFFT2D": _real_fourier(2),
    "RFFT3D": _real_fourier(3),
    "IRFFT": _inverse_real_fourier(1),
    "IRFFT2D": _inverse_real_fourier(2),
    "IRFFT3D": _inverse_real_fourier(3),
    "MaxPool": _pooled(max),
    "MaxPool3D": _pooled(max),
    "AvgPool": _pooled(mean),
    "AvgPool3D": _pooled(mean),
    "SegmentSum": _in_segments(mpmath.fsum, ZERO),
    "SegmentMean": _in_segments(mean, ZERO),
    "SegmentProd": _in_segments(mpmath.fprod, mpmath.mpf(1)),
    "SegmentMax": _in_segments(max, ZERO),
    "SegmentMin": _in_segments(min, ZERO),
    **{
        f"SparseSegment{name}{count}": _of_chosen(_in_segments(of, ZERO))
        for name, of in SPARSE.items()
        for count in ("", "WithNumSegments")
    },
    "UnsortedSegmentProd": _in_segments(mpmath.fprod, mpmath.mpf(1)),
    "UnsortedSegmentMax": _in_segments(max, "min"),
    "UnsortedSegmentMin": _in_segments(min, "max"),
    **dict.fromkeys(
        (
            "ResizeBilinear",
            "ResizeBicubic",
            "ResizeArea",
            "ScaleAndTranslate",
            "CropAndResize",
            "ResizeNearestNeighbor",
        ),
        _linear,
    ),
}
#: those that only move numbers, by the table of how operations round
MOVING = frozenset(name for name in EXACT if not any(part in name for part in ("Max", "Min", "TopK")))
