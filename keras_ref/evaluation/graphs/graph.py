"""The operations of a traced computation, inner functions included; what they say of its precision and smoothness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_ref.evaluation.graphs.operation_rounding import IN_FLOAT32, unit_of

#: types of operations → the attributes that hold functions which they call
_CALLING: dict[str, tuple[str, ...]] = {}
#: operations that run Python
OPAQUE = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
#: operations whose outputs need not depend on each of their inputs
SAYING_NOTHING = (*OPAQUE, "IdentityN")
#: parts of the names of operations that draw random numbers of a floating dtype
DRAWING = ("Uniform", "RandomNormal", "StandardNormal", "TruncatedNormal", "Gamma", "Poisson", "Binomial")


def walk_operations(graph: Any) -> Iterator[Any]:
    """Every operation of a traced function, those of the functions that it calls (loops, branches) included.

    None where there is no graph.
    """
    queue, seen = [] if graph is None else [graph], set[str]()
    while queue:
        here = queue.pop()
        for operation in here.get_operations():
            yield operation
            for name in list_called_functions(operation):
                if name not in seen:
                    seen.add(name)
                    inner = find_function_graph(here, name)
                    if inner is not None:
                        queue.append(inner)


def list_called_functions(operation: Any) -> list[str]:
    """The names of the functions that an operation calls."""
    if operation.type not in _CALLING:
        attributes = operation.op_def.attr  # which takes as long as all else here
        _CALLING[operation.type] = tuple(a.name for a in attributes if a.type in ("func", "list(func)"))
    values = [operation.get_attr(name) for name in _CALLING[operation.type]]
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    return [one.name for one in flat]


def find_function_graph(graph: Any, name: str) -> Any:
    """The graph of a function that is known to a graph, or to one around it, by name; None where there is none."""
    while graph is not None:
        found = graph._get_function(name)
        if found is not None:
            return getattr(found, "graph", None)
        graph = getattr(graph, "outer_graph", None)
    return None


def find_casts_down(graph: Any) -> list[Any]:
    """What takes a traced float64 computation to a lower floating precision: from there on it is less exact."""
    return [o for o in walk_operations(graph) if is_cast_down(o)]


def is_cast_down(operation: Any) -> bool:
    """Whether an operation takes float64, or complex128, and computes in a lower floating precision: a cast, one that
    gives float32 whatever it takes (resizing an image), or one whose kernel computes in float32.

    The dtypes of what runs a function, in TensorFlow or in Python, say nothing; nor do those of what hands tensors on.
    """
    if all(_convert_to_real(t.dtype) != tf.float64 for t in operation.inputs) or operation.type in SAYING_NOTHING:
        return False
    return lower_dtype(operation) is not None and not list_called_functions(operation)


def lower_dtype(operation: Any) -> Any:
    """The floating dtype below float64 that an operation computes in, or gives; None where there is none."""
    if operation.type in IN_FLOAT32:
        return tf.float32
    lower = [_convert_to_real(t.dtype) for t in operation.outputs if _lower(t.dtype)]
    return min(lower, key=lambda dtype: dtype.size, default=None)


def _convert_to_real(dtype: Any) -> Any:
    """The dtype of the parts of a complex dtype; another one as it is."""
    return dtype.real_dtype if dtype.is_complex else dtype


def _lower(dtype: Any) -> bool:
    return bool(_convert_to_real(dtype).is_floating and _convert_to_real(dtype).size < tf.float64.size)


def find_constants_in_float32(graph: Any) -> list[tuple[Any, float]]:
    """(operation, value) of the scalars that were rounded to float32 before they reach float64: 0.1, but not 0.5."""
    found = []
    for o in walk_operations(graph):
        if o.type == "Cast" and o.outputs[0].dtype == tf.float64 and _is_low_constant(o.inputs[0]):
            value = np.asarray(tf.get_static_value(o.inputs[0]))
            if value.size == 1 and np.isfinite(value.astype(float)).all():
                (number,) = value.ravel()
                written = float(str(number))  # the shortest number that rounds to it: what somebody wrote
                if written != float(number):
                    found.append((o.inputs[0].op, written))
    return found


def _is_low_constant(tensor: Any) -> bool:
    return tensor.op.type == "Const" and _lower(tensor.dtype)


def find_opaque_operations(graph: Any) -> list[Any]:
    """The operations of a graph that run Python, whose precision no graph shows."""
    return [o for o in walk_operations(graph) if o.type in OPAQUE]


def opaque_unit(graph: Any) -> float:
    """The distance of 1 from the next number in the coarsest floating dtype that Python inside a graph returns; 0 where
    that is float64, or there is none.
    """
    dtypes = [t.dtype for o in find_opaque_operations(graph) for t in o.outputs if _lower(t.dtype)]
    return max(map(unit_of, dtypes), default=0.0)


def random_draws(graph: Any) -> list[Any]:
    """The operations of a graph that draw random floats: which numbers depends on their precision."""
    return [
        o
        for o in walk_operations(graph)
        if o.type.startswith(("Random", "Stateless", "Stateful", "Truncated", "Parameterized"))
        and any(part in o.type for part in DRAWING)
        and any(t.dtype.is_floating for t in o.outputs)
    ]
