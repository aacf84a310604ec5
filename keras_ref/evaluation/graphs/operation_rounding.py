"""How TensorFlow's operations round: data for evaluation/rounding_errors/rounding.py.

A sum rounds at every step, at the size of what has been added so far; where the terms are equal all steps round alike.
Each of its terms is off by up to a unit of the largest partial sum that it may be added to: whatever the order, the
steps then round at random.

An operation that is in none of these tables rounds like a sum of some hundred products (matrix products, convolutions,
poolings, Fourier transforms, factorizations). Each term is off by half a unit in the last place, and the result by
SUMMED of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import tensorflow as tf

FLOATS = (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.complex64, tf.complex128)


def unit_of(dtype: Any) -> float:
    """The distance of 1 from the next number of a floating dtype, or of the parts of a complex one."""
    dtype = tf.as_dtype(dtype).real_dtype
    return float(ml_dtypes.finfo(dtype.as_numpy_dtype).eps)  # type: ignore[no-untyped-call]


def coarseness(operation: str, dtype: Any) -> float:
    """How many units in the last place of a dtype are one of what an operation computes in with tensors of it."""
    return max(1.0, unit_of(tf.float32) / unit_of(dtype)) if operation in IN_FLOAT32 else 1.0


#: the scope of operations that are left as they are
EXACT_SCOPE = "exact_point"

#: operations that only move, choose or repeat numbers, or change their sign: nothing is rounded
EXACT = frozenset(
    """
    Abs BatchToSpace BatchToSpaceND BroadcastTo CheckNumerics ClipByValue Complex Concat ConcatV2 Conj Copy
    DebugIdentity DeepCopy Diag DiagPart DynamicPartition DynamicStitch EnsureShape ExpandDims ExtractImagePatches
    ExtractVolumePatches Fill Gather GatherNd GatherV2 Identity IdentityN Imag LeakyRelu LeakyReluGrad MatrixBandPart
    MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag
    MatrixSetDiagV2 MatrixSetDiagV3 Max MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax Maximum Min Minimum MirrorPad
    Neg OnesLike OptionalFromValue OptionalGetValue Pack Pad PadV2 ParallelConcat ParallelDynamicStitch
    PlaceholderWithDefault PreventGradient Real Relu Relu6 Relu6Grad ReluGrad Reshape Reverse ReverseSequence
    ReverseV2 Roll Rot90 ScatterNdUpdate SegmentMax SegmentMin Select SelectV2 Slice Snapshot SpaceToBatch
    SpaceToBatchND SpaceToDepth DepthToSpace SparseReshape SparseReorder Split SplitV Squeeze StopGradient
    StridedSlice StridedSliceGrad TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArrayWriteV3
    TensorListConcat TensorListConcatV2 TensorListFromTensor TensorListGather TensorListGetItem TensorListPopBack
    TensorListPushBack TensorListReserve TensorListResize TensorListScatter TensorListScatterV2 TensorListSetItem
    TensorListSplit TensorListStack EmptyTensorList TensorListConcatLists TensorMapInsert TensorMapLookup
    TensorScatterMax TensorScatterMin TensorScatterUpdate Tile TopK TopKV2 Transpose Unpack UnsortedSegmentMax
    UnsortedSegmentMin Where ZerosLike InplaceUpdate ConjugateTranspose
    """.split()  # noqa: SIM905 (a hundred quoted words are no easier to read)
)

#: elementwise operations → by how many half units in the last place their result is off at most. 1: rounded correctly;
#: others: the largest error seen at 8,000 points from 1e-8 to 300 in 50 digits (tests/test_rounding.py), rounded up,
#: and those that are rounded correctly here but elsewhere computed by polynomials counted as 2
UNITS: Mapping[str, float] = {
    name: units
    for units, names in (
        (1.0, "Add AddV2 Sub Mul RealDiv Div DivNoNan MulNoNan Sqrt Square Inv Reciprocal BiasAdd"),
        (2.0, "Sin Cos Tan Asin Acos Rsqrt Softsign SquaredDifference ComplexAbs Angle"),
        (
            3.0,
            "Exp Log Sinh Cosh Asinh Acosh Atanh InvGrad ReciprocalGrad SqrtGrad RsqrtGrad TanhGrad SigmoidGrad",
        ),
        (3.0, "EluGrad SeluGrad SoftsignGrad"),
        (4.0, "Log1p Expm1 Sigmoid Erf Softplus SoftplusGrad Pow Xlogy Xlog1py Xdivy"),
        (6.0, "Atan Atan2"),
        (8.0, "Tanh Ndtri Erfinv"),
        (
            16.0,
            "Erfc Lgamma Digamma Polygamma Zeta Igamma Igammac IgammaGradA Betainc BesselI0 BesselI1 BesselI0e",
        ),
        (
            16.0,
            "BesselI1e BesselJ0 BesselJ1 BesselK0 BesselK1 BesselK0e BesselK1e BesselY0 BesselY1 Spence Dawsn Expint",
        ),
        (16.0, "FresnelCos FresnelSin"),
    )
    for name in names.split()
}

#: operations whose value is a decision about floats (a sign, a whole number, how many there are): both computations
#: take that of the first
DECIDED = frozenset(
    """
    Range Sign Floor Ceil Round Rint FloorDiv TruncateDiv FakeQuantWithMinMaxVars FakeQuantWithMinMaxArgs
    FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 NextAfter
    """.split()  # noqa: SIM905 (a hundred quoted words are no easier to read)
)

#: operations that decide by some of their inputs which numbers of the others they pass on → those inputs
DECIDING: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("ReluGrad", "Relu6Grad", "LeakyReluGrad"), (1,)),
    **dict.fromkeys(("MaxPoolGrad", "MaxPool3DGrad", "MaxPoolGradV2", "MaxPoolGradGrad", "MaxPool3DGradGrad"), (0, 1)),
    **dict.fromkeys(("MaxPoolGradWithArgmax", "MaxPoolGradGradWithArgmax"), (0,)),
}

#: operations that decide whether some of their inputs are 0: there the result is another one than beside it
DECIDING_ZERO: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("DivNoNan", "MulNoNan"), (1,)),
    **dict.fromkeys(("Xlogy", "Xlog1py", "Xdivy"), (0,)),
}


def _elu(x: Any) -> Any:
    return tf.where(x < 0, tf.exp(tf.minimum(x, 0)) - 1, x)


def _selu(x: Any) -> Any:
    scale, product = (tf.cast(tf.constant(c, tf.float64), x.dtype) for c in (1.0507009873554805, 1.7580993408473768))
    return tf.where(x < 0, product * (tf.exp(tf.minimum(x, 0)) - 1), scale * x)


def _softmax(x: Any) -> Any:
    e = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
    return e / tf.reduce_sum(e, -1, keepdims=True)


def _log_softmax(x: Any) -> Any:
    x = x - tf.reduce_max(x, -1, keepdims=True)
    return x - tf.math.log(tf.reduce_sum(tf.exp(x), -1, keepdims=True))


def _crossentropy(x: Any, labels: Any) -> Any:
    """(loss, backprop)"""
    x = x - tf.reduce_max(x, -1, keepdims=True)
    e = tf.exp(x)
    total = tf.reduce_sum(e, -1, keepdims=True)
    return tf.reduce_sum(labels * (tf.math.log(total) - x), -1), e / total - labels


def _sparse_crossentropy(x: Any, labels: Any) -> Any:
    """(loss, backprop)"""
    x = x - tf.reduce_max(x, -1, keepdims=True)
    e = tf.exp(x)
    total = tf.reduce_sum(e, -1, keepdims=True)
    hot = tf.one_hot(labels, tf.shape(x)[-1], dtype=x.dtype)
    there = tf.reduce_sum(tf.where(hot > 0, x, tf.zeros_like(x)), -1)
    return tf.math.log(total[..., 0]) - there, e / total - hot


def _digamma(x: Any) -> Any:
    """Beside its zeros the terms of its series cancel, log(x) and 1/x."""
    terms = tf.abs(tf.math.log(tf.abs(x))) + 1 / tf.abs(x)
    return (tf.math.digamma(x) + terms) - terms


def _floor_mod(x: Any, y: Any) -> Any:
    return x - tf.raw_ops.FloorDiv(x=x, y=y) * y


#: operations in whose kernels numbers cancel that are larger than the result → the same of operations that round by
#: themselves. exp(x) - 1 rounds at the ulp of 1, and the loss of a confident classifier, log(1 + tiny), too
COMPOSED: Mapping[str, Callable[..., Any]] = {
    "Elu": _elu,
    "Selu": _selu,
    "Digamma": _digamma,
    "FloorMod": _floor_mod,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "SoftmaxCrossEntropyWithLogits": _crossentropy,
    "SparseSoftmaxCrossEntropyWithLogits": _sparse_crossentropy,
}

#: operations whose kernels compute in float32 whatever dtype they take and give: `float` in the sources of TensorFlow's
#: kernels of both (tests/test_kernels_in_float32.py finds them, and no others among the operations of the campaign)
IN_FLOAT32 = frozenset(("CTCLoss", "ImageProjectiveTransformV2", "ImageProjectiveTransformV3"))

#: sums → which of their inputs holds the axes; None: all but the last
SUMS: Mapping[str, int | None] = {"Sum": 1, "Mean": 1, "Cumsum": 1, "BiasAddGrad": None}
#: by how many half units the result of a sum, and of any other operation, is off
SUMMED = 4.0
