"""What the configuration of a file of Keras 2 may name without --unsafe: Keras's own parts, and computations.

The safe mode of Keras 2 (seen in tf_keras 2.21) does not know the layers of .h5 files, imports whatever module a
.keras file names, and lets a layer be any function of TensorFlow's, such as tf.io.write_file. A file itself says which
Keras wrote it. The configuration is therefore looked through before that library gets it, as it reads it: parsed.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator, Mapping
from typing import Any

#: classes that hold code
CODE = ("Lambda", "__lambda__")
#: settings of layers and columns that may name a file, which is read when they are made
VOCABULARIES = ("vocabulary", "vocabulary_file")
#: classes that are a function or class of TensorFlow's, and where they say which
SYMBOLS = {"TFOpLambda": "function", "SlicingOpLambda": "function", "ClassMethod": "cls_symbol"}
#: classes that are an attribute of a tensor, whose name they say
ATTRIBUTES = ("InstanceProperty", "InstanceMethod")
# fmt: off
#: modules of tf that compute, and do nothing else
COMPUTING = frozenset((
    "__operators__", "bitwise", "image", "linalg", "math", "nn", "quantization", "ragged", "signal", "sparse",
    "strings",
))
#: functions of tf itself that compute, and have no other home
PLAIN = frozenset((
    "argsort", "boolean_mask", "broadcast_to", "cast", "clip_by_norm", "clip_by_value", "concat",
    "convert_to_tensor", "cumsum", "dynamic_partition", "dynamic_stitch", "edit_distance", "einsum",
    "ensure_shape", "expand_dims", "eye", "fill", "gather", "gather_nd", "histogram_fixed_width", "identity",
    "linspace", "meshgrid", "norm", "one_hot", "ones", "ones_like", "pad", "range", "rank", "realdiv",
    "repeat", "reshape", "reverse", "reverse_sequence", "roll", "scatter_nd", "searchsorted", "sequence_mask",
    "shape", "shape_n", "size", "slice", "sort", "space_to_batch", "split", "squeeze", "stack",
    "stop_gradient", "strided_slice", "tensor_scatter_nd_add", "tensor_scatter_nd_max",
    "tensor_scatter_nd_min", "tensor_scatter_nd_sub", "tensor_scatter_nd_update", "tensordot", "tile",
    "transpose", "truncatediv", "truncatemod", "unique", "unstack", "where", "zeros",
    "zeros_like",
))
# fmt: on
#: modules of Keras whose functions a model may name; of all others it may name classes
FUNCTIONS = frozenset(("activations", "constraints", "initializers", "losses", "metrics", "regularizers"))


def require_no_code(config: str, *, registered: Any) -> None:
    """Look through a configuration in JSON. A text that is no JSON is left to whoever reads it, which refuses it too.

    registered   gives what somebody has registered under a name, or None

    Raises: ValueError where it names code, or anything but Keras's own parts and computations.
    """
    try:
        parsed = json.loads(config)
    except ValueError:
        return
    for part in _walk_dictionaries(parsed):
        name = part.get("class_name")
        if any(isinstance(part.get(key), str) for key in VOCABULARIES):
            raise ValueError("A vocabulary lies in a file of its own, which safe_mode=True does not read.")
        inside = part.get("config")
        if name in CODE:
            raise ValueError("A Lambda layer holds code, which safe_mode=True does not run.")
        if isinstance(name, str) and name in SYMBOLS and isinstance(inside, Mapping):
            _require_computation(inside.get(SYMBOLS[name]))
        if name in ATTRIBUTES and isinstance(inside, Mapping) and str(inside.get("attr_name")).startswith("_"):
            raise ValueError(f"An attribute {inside.get('attr_name')} is private, which safe_mode=True does not read.")
        module = part.get("module")
        if module is not None and not _is_registered(part, registered):
            _require_part(str(module), str(inside if name == "function" else name))


def _walk_dictionaries(value: Any) -> Iterator[Mapping[str, Any]]:
    """All dictionaries in a value, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _require_computation(symbol: Any) -> None:
    name = str(symbol).removeprefix("compat.v1.")
    first, _, rest = name.partition(".")
    if not (first in COMPUTING if rest else name in PLAIN):
        raise ValueError(f"The function tf.{symbol} may do more than compute, which safe_mode=True does not run.")


def _is_registered(part: Mapping[str, Any], registered: Any) -> bool:
    names = [part.get("registered_name"), part.get("config")]
    return any(isinstance(name, str) and registered(name) is not None for name in names)


def _require_part(module: str, name: str) -> None:
    """Require a class of Keras, or a function that a model may have."""
    package, _, rest = module.partition(".")
    if package in ("keras", "tf_keras") and (name[:1].isupper() or rest in FUNCTIONS):
        return
    if module == "builtins" and name not in vars(builtins):  # so Keras 2 writes functions of its own
        return
    raise ValueError(f"{module}.{name} is no registered part of a model, which safe_mode=True does not import.")
