"""Targets of the command line: package.module:factory, or a saved .keras or .h5 file; and the data to check them on."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_ref.errors import CouldNotRun, find_place, join_names, shorten_error, target_stays
from keras_ref.inputs.archives import NUMBER, require_declared_size
from keras_ref.inputs.model_files import is_model_file, load_model_file
from keras_ref.own_modules import refuse_namesakes
from keras_ref.reports.files import is_plain_file
from keras_ref.undoing import undoing


def quiet_tensorflow() -> None:
    """Set the environment variables by which TensorFlow loads without writing to the terminal; call before its import.

    Raises: CouldNotRun if Keras is set to another backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise CouldNotRun(
            f"Keras must run on the TensorFlow backend. Received: KERAS_BACKEND={backend}. "
            "Unset it, or set it to tensorflow."
        )


def import_quietly() -> None:
    """Import TensorFlow and run one operation with the error stream redirected to a file.

    What its C++ code logs before logging is set up (that no GPU was found, say) obeys no level. It is shown if the
    import fails.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as aside, os.fdopen(terminal, "wb"), undoing(os.dup2, terminal, 2):
        os.dup2(aside.fileno(), 2)
        try:
            import tensorflow as tf

            tf.reduce_sum(tf.zeros(2)).numpy()
        except BaseException:
            aside.seek(0)
            os.write(terminal, aside.read())
            raise


#: (model, x, y, sample_weight)
Loaded = tuple[Any, Any, Any, Any]


def load_target(target: str, *, unsafe: bool = False) -> Loaded:
    """(model, x, y, sample_weight) of a target; a file, and a factory that returns a model alone, leave the data None.

    Raises: CouldNotRun with one line for whatever goes wrong.
    """
    if is_model_file(target):
        return load_model_file(target, unsafe=unsafe), None, None, None
    if ":" not in target:
        raise CouldNotRun(
            f"A target must be package.module:factory or a .keras or .h5 file. Received: {target!r}. "
            "Name the factory after a colon."
        )
    return _load_factory(target)


def complete_data(
    model: Any, x: Any = None, y: Any = None, sample_weight: Any = None, *, seed: int = 0
) -> tuple[tuple[Any, Any, Any, Any], str]:
    """((model, x, y, sample_weight), note): the data of a check, drawn with the seed where none are given.

    The note says so in one sentence; it is empty where data were given. Raises: BadInput where the model does not state
    its inputs.
    """
    if x is not None:
        return (model, x, y, sample_weight), ""
    from keras_ref.evaluation.changed_state.keras_2 import is_model
    from keras_ref.inputs import data

    x = data.draw_inputs(model, seed=seed)
    # Keras 3 has a method of the name under which Keras 2 keeps its compiled loss
    compiled = getattr(model, "compiled_loss" if is_model(model) else "_compile_loss", None) is not None
    y = data.draw_targets(model, data.compute_outputs(model, x), seed=seed) if compiled else None
    return (model, x, y, None), f"Data drawn with seed {seed}."


def import_module(name: str) -> Any:
    """Import a module by name, from the working directory too. Raises: CouldNotRun where it does not import."""
    here = str(Path.cwd())
    refuse_namesakes(here)
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)
    try:
        with target_stays(name):
            return importlib.import_module(name)
    except CouldNotRun:
        raise
    except ImportError as error:
        raise CouldNotRun(
            f"A target's module must import. Received: {name}: {shorten_error(error, find_place(error))} Check the "
            "name, or install what it needs."
        ) from error
    except Exception as error:
        raise CouldNotRun(
            f"A target's module must import. Received: {name}, which raised {type(error).__name__}: "
            f"{shorten_error(error, find_place(error))} Correct the module."
        ) from error


def _load_factory(target: str) -> tuple[Any, Any, Any, Any]:
    """(model, x, y, sample_weight) of package.module:factory. Raises: CouldNotRun."""
    import keras

    from keras_ref.evaluation.changed_state.keras_2 import is_model

    module_name, _, factory_name = target.partition(":")
    module = import_module(module_name)
    factory = getattr(module, factory_name, None)
    if factory is None:
        raise CouldNotRun(
            f"A target's factory must exist. Received: {factory_name!r}, which {module_name} does not have. "
            "Check the name after the colon."
        )
    is_made = isinstance(factory, (keras.Model, tuple)) or is_model(factory)
    if not is_made and not callable(factory):
        raise CouldNotRun(
            f"A target must be a model or a function that returns one. Received: {target}, a {type(factory).__name__}. "
            "Name another."
        )
    try:
        with target_stays(target):
            made = factory if is_made else factory()  # a class without parameters is a factory, too
    except CouldNotRun:
        raise
    except Exception as error:
        raise CouldNotRun(
            f"A factory must return a model. Received: {target}, which raised {type(error).__name__}: "
            f"{shorten_error(error, find_place(error))} Run it by itself."
        ) from error
    model, *data = made if isinstance(made, tuple) and made else (made,)
    if not (isinstance(model, keras.Model) or is_model(model)) or len(data) > 3:
        raise CouldNotRun(
            f"A factory must return a keras.Model. Received: a {type(made).__name__} from {target}. "
            "Return the model, or (model, x, y)."
        )
    x, y, sample_weight = [*data, None, None, None][:3]
    return model, x, y, sample_weight


def load_data(path: str) -> tuple[Any, Any, Any]:
    """x, y and sample_weight of an .npz file: arrays of these names, or x0, x1, … for several inputs.

    Raises: CouldNotRun for a file that is not one, or has no x. A table (.csv, .parquet) is for a model to take apart.
    """
    require_declared_size(path)
    if os.path.exists(path) and not is_plain_file(path):  # noqa: PTH110 (a pipe might be waited for, for ever)
        raise CouldNotRun(f"--data must name an .npz file. Received: {path}, which is no file. Check the path.")
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            twice = [name for name, times in Counter(archive.files).items() if times > 1]
            arrays = dict(archive)
    except Exception as error:
        raise CouldNotRun(
            f"--data must name an .npz file. Received: {path}: {shorten_error(error)} "
            "Write it with numpy.savez(path, x=…, y=…)."
        ) from error

    if twice:  # x and x.npy, or one member of the archive twice
        raise CouldNotRun(
            f"--data must hold one array of each name. Received: {join_names(twice)} twice in {path}. Write it again."
        )
    x, y = _collect_arrays("x", arrays, path), _collect_arrays("y", arrays, path)
    if x is None:
        raise CouldNotRun(
            f"--data must hold an array x. Received: {join_names(arrays) or 'no arrays'} in {path}. "
            "Add x (or x0, x1, …) and y."
        )
    return x, y, arrays.get("sample_weight")


def _collect_arrays(name: str, arrays: Mapping[str, Any], path: str) -> Any:
    """The array of a name, or the list of those that are numbered: x10 comes after x2. None without any.

    Raises: CouldNotRun where the numbers leave open which array is which.
    """
    found = {key: int(key[len(name) :] or -1) for key in arrays if re.fullmatch(name + NUMBER, key)}
    if found in ({}, {name: -1}):
        return arrays.get(name)
    if name in found or len({*found.values()}) < len(found):
        raise CouldNotRun(
            f"--data must hold one array {name}, or {name}0, {name}1, … Received: {join_names(sorted(found))} in "
            f"{path}. Number the arrays in the order of the model's inputs or outputs."
        )
    return [arrays[key] for key in sorted(found, key=found.__getitem__)]
