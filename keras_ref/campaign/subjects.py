"""The operations that the campaign checks: those of keras.ops and of TensorFlow's modules, and how each is called."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from keras_ref.campaign.folders import read_folder
from keras_ref.evaluation.keras_objects.real_parts import dtype_in

#: the modules whose public functions are subjects
MODULES = (
    "keras.ops",
    "tensorflow.math",
    "tensorflow.math.special",
    "tensorflow.linalg",
    "tensorflow.nn",
    "tensorflow.signal",
    "tensorflow.image",
    "tensorflow.sparse",
)
#: how a function is called that calls/ says nothing of: the first of these that gives a float from floats
CALLS: tuple[tuple[str, ...], ...] = (
    ("vector",),
    ("vector", "vector"),
    ("vector", "vector", "vector"),
    ("matrix",),
    ("matrix", "matrix"),
    ("images",),
    ("vectors",),
    ("matrix", "integer"),
    ("complex vector",),
    ("complex matrix",),
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An operation and how it is called.

    arguments   the kind of each positional argument (see points.py); those of floats are differentiated
    options     keywords
    within      what its first argument goes through before it, of CHANGES
    after       what its outputs go through behind it, of CHANGES
    without     points at which its kernel does not compute what it is named after
    """

    name: str
    arguments: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    within: str = ""
    after: str = ""
    without: tuple[str, ...] = ()

    @property
    def function(self) -> Callable[..., Any]:
        """The operation, and what it is joined with."""
        operation = find_function(self.name)
        if not self.within and not self.after:
            return operation
        within, after = CHANGES.get(self.within, _same), CHANGES.get(self.after, _same)
        return lambda first, *others, **options: after(operation(within(first), *others, **options))

    def runs(self, values: list[Any], dtype: str) -> bool:
        """Whether the operation takes these arguments, floats in a dtype ("" for their own), and has a gradient."""
        return not _try(self.function, values, self.options, dtype)


@dataclass(frozen=True, kw_only=True)
class NotCalled:
    """An operation that is not checked, and why."""

    name: str
    reason: str


def _same(value: Any) -> Any:
    return value


def _hermitian(a: Any) -> Any:
    """(A + Aᴴ) / 2: an operation that reads one triangle of a symmetric matrix has a gradient only by this."""
    return (a + _adjoint(a)) / 2


def _adjoint(a: Any) -> Any:
    import tensorflow as tf

    return tf.linalg.adjoint(a)


def _with_phases(vectors: Any, by: Any) -> Any:
    """Columns turned so that the first entries of `by` become positive: singular and eigenvectors have any phase."""
    import tensorflow as tf

    first = by[..., :1, :]
    return vectors * (tf.math.conj(first) / tf.cast(tf.abs(first), first.dtype)) if first.dtype.is_complex else vectors


#: what operations are joined with so that they have one value and one gradient (calls/)
CHANGES: Mapping[str, Callable[[Any], Any]] = {
    "Hermitian": _hermitian,
    "eigenvectors with a phase": lambda found: (found[0], _with_phases(found[1], found[1])),
    "singular vectors with a phase": lambda s_u_v: (
        s_u_v[0],
        _with_phases(s_u_v[1], s_u_v[1]),
        _with_phases(s_u_v[2], s_u_v[1]),
    ),
    "singular vectors and adjoints with a phase": lambda u_s_vh: (
        _with_phases(u_s_vh[0], u_s_vh[0]),
        u_s_vh[1],
        _adjoint(_with_phases(_adjoint(u_s_vh[2]), u_s_vh[0])),
    ),
}

#: the operations of TensorFlow's graphs themselves, of which calls/ names those that nothing else reaches
RAW = "tensorflow.raw_ops."


def find_function(name: str) -> Callable[..., Any]:
    """The function of a full name, as in "tensorflow.math.xlogy"."""
    module, _, attribute = name.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return _make_positional(found) if name.startswith(RAW) else found


def _make_positional(operation: Callable[..., Any]) -> Callable[..., Any]:
    """A raw operation, which takes keywords only, as a function in order of its inputs that are no options."""
    parameters = list(inspect.signature(operation).parameters)

    def call(*values: Any, **options: Any) -> Any:
        inputs = [parameter for parameter in parameters if parameter not in options]
        return operation(**dict(zip(inputs, values, strict=False)), **options)

    return call


def list_names(modules: Iterable[str] = MODULES) -> tuple[str, ...]:
    """The full names of all public functions of the modules, each function once."""
    found: dict[int, str] = {}
    for module in modules:
        for name, value in sorted(vars(importlib.import_module(module)).items()):
            if not name.startswith("_") and callable(value) and not isinstance(value, type):
                found.setdefault(id(value), f"{module}.{name}")
    return (*found.values(), *(name for name in _read_calls() if name.startswith(RAW)))


def find_subject(name: str, make: Callable[[tuple[str, ...]], list[Any]]) -> Subject | NotCalled:
    """How a function is called.

    make   makes arguments of these kinds: the generic point
    """
    said = _read_calls().get(name, {})
    if "reason" in said:
        return NotCalled(name=name, reason=said["reason"])
    options = _with_dtypes(name, said.get("options", {}))
    calls = (tuple(said["arguments"]),) if "arguments" in said else CALLS
    reasons = []
    for arguments in calls:
        reason = _try(find_function(name), make(arguments), options)
        if not reason:
            return Subject(
                name=name,
                arguments=arguments,
                options=options,
                within=said.get("within", ""),
                after=said.get("after", ""),
                without=tuple(said.get("without", ())),
            )
        reasons.append(reason)
    best = (
        "gives no floats" if "gives no floats" in reasons else "has no gradient" if "has no gradient" in reasons else ""
    )
    return NotCalled(name=name, reason=best or f"takes other arguments ({reasons[0]})")


def _with_dtypes(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options whose dtype is one of TensorFlow where a function of TensorFlow takes it: not all of them take names."""
    import tensorflow as tf

    if "dtype" not in options or name.startswith("keras."):
        return options
    return {**options, "dtype": tf.as_dtype(options["dtype"])}


def leaf_dtype(leaf: Any, dtype: str) -> Any:
    """The dtype of an array in an operation that runs in `dtype` ("" for its own): a complex array stays complex."""
    import tensorflow as tf

    own = np.asarray(leaf).dtype
    return dtype_in(tf.as_dtype(dtype).real_dtype.name, own) if dtype else own.name


def _try(function: Callable[..., Any], values: list[Any], options: Mapping[str, Any], dtype: str = "") -> str:
    """Why a function cannot be checked with these arguments, floats in a dtype ("" for their own); "" if it can."""
    import tensorflow as tf

    def tensor(value: Any) -> Any:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fc":
            return value
        return tf.cast(value, leaf_dtype(value, dtype))

    tensors = tf.nest.map_structure(tensor, values)
    watched = [t for t in tf.nest.flatten(tensors) if isinstance(t, tf.Tensor)]
    try:
        with tf.GradientTape() as tape:
            tape.watch(watched)
            outputs = [o for o in tf.nest.flatten(function(*tensors, **options)) if _is_float(o)]
            total = (
                tf.add_n([tf.reduce_sum(tf.cast(tf.math.real(o), tf.float64)) for o in outputs]) if outputs else None
            )
        if total is None:
            return "gives no floats"
        gradients = tape.gradient(total, watched)
    except Exception as error:  # noqa: BLE001 (whatever a function says of arguments that it does not take)
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80] if str(error).strip() else ''}"
    return "" if any(g is not None for g in gradients) else "has no gradient"


def _is_float(value: Any) -> bool:
    import tensorflow as tf

    return isinstance(value, tf.Tensor) and (value.dtype.is_floating or value.dtype.is_complex)


@cache
def _read_calls() -> dict[str, Any]:
    """What the files of calls/ say, by name. Raises: ValueError for a function that two of them speak of.

    An entry has `arguments` (kinds of points.py) and `options`, `within`, `after` and `without` as Subject has them; or
    the `reason` for which the function is not checked, which groups of them share.
    """
    said: dict[str, Any] = {}
    for table in read_folder("calls"):
        groups = table.pop("group", [])
        reasons = [(name, {"reason": group["reason"]}) for group in groups for name in group["functions"].split()]
        for name, entry in (*table.items(), *reasons):
            if name in said:
                raise ValueError(f"calls/ must name a function once. Received: {name} twice. Take one entry out.")
            said[name] = entry
    return said
