"""Saved models: .keras and .h5 files, by Keras 3 or by Keras 2 (tf_keras), whichever wrote them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.inputs.archives import require_declared_size
from keras_ref.inputs.keras_2_configs import require_no_code
from keras_ref.reports.files import require_readable
from keras_ref.undoing import undoing

#: how the names of model files end
ENDINGS = (".keras", ".h5", ".hdf5")
#: how Keras 3 and Keras 2 begin to say that they do not know a class or function of a file
MISSING = re.compile(r"Could not locate \w+ '[^']*'|Unknown \w+: '[^']*'")
#: attributes of an .h5 file that hold configurations
CONFIGS = ("model_config", "training_config")
#: short names of losses, as people compile with
ABBREVIATIONS = tuple(name for short in ("mse", "mae", "mape", "msle", "bce", "kld") for name in (short, short.upper()))


def is_model_file(target: str) -> bool:
    """Whether a target names a file, and no factory."""
    return target.endswith(ENDINGS) or os.path.sep in target


def load_model_file(target: str, *, unsafe: bool = False) -> Any:
    """The model of a file. Raises: CouldNotRun."""
    path = Path(target)
    require_readable(target)
    if not os.path.exists(path):  # noqa: PTH110 (Path.exists raises for a name that no file can have)
        raise CouldNotRun(f"A model file must exist. Received: {target}, which does not. Check the path.")
    if not path.is_file() or path.suffix not in ENDINGS:
        raise CouldNotRun(
            f"A model file must be a .keras or .h5 file. Received: {target}, which is none. Save the model with "
            "model.save('name.keras'), or load it in a factory, package.module:factory."
        )
    require_declared_size(target)
    how = "" if unsafe else " in safe mode"
    try:
        version, configs = _read(path)
        library = _load_library(version, target)
        if not unsafe and library.__name__ == "tf_keras":
            for config in configs:
                require_no_code(config, registered=library.saving.get_registered_object)
        with warnings.catch_warnings(), _without_absl():
            # an optimizer that was never run is saved without its slots, and Keras warns of that
            warnings.simplefilter("ignore", UserWarning)
            # Keras 3 writes these names into HDF5 files, and does not find them again (seen in 3.15.1)
            lost = ABBREVIATIONS if path.suffix != ".keras" and library.__name__ == "keras" else ()
            names = {name: library.losses.get(name) for name in lost}
            model = library.saving.load_model(path, custom_objects=names, compile=True, safe_mode=not unsafe)
    except CouldNotRun:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        said = _find_missing(error) or text
        raise CouldNotRun(
            f"A {path.suffix} file must load{how}. Received: {target}: {shorten_error(said)} "
            f"{_advise(text, unsafe=unsafe)}"
        ) from error
    if not isinstance(model, library.Model):
        raise CouldNotRun(
            f"A {path.suffix} file must hold a model. Received: {target}, which holds a {type(model).__name__}. Save a "
            "model, or check the layer with check_layer."
        )
    return model


def _read(path: Path) -> tuple[str, list[str]]:
    """The version of Keras that wrote a file, and its configurations, in JSON; empty where it does not say so."""
    if path.suffix == ".keras":
        if not zipfile.is_zipfile(path):
            return "", []
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            data = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
            config = archive.read("config.json").decode() if "config.json" in names else ""
        return str(data.get("keras_version", "")), [config]
    import h5py

    with h5py.File(path) as file:
        version, *configs = (_read_text(file.attrs.get(name, "")) for name in ("keras_version", *CONFIGS))
    return version, configs


def _read_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _load_library(version: str, target: str) -> Any:
    """The library of a version of Keras. Raises: CouldNotRun where Keras 2 is not installed."""
    name = "tf_keras" if version.startswith("2.") else "keras"
    if importlib.util.find_spec(name) is None:
        raise CouldNotRun(
            f"A file of Keras 2 needs tf_keras. Received: {target}, written by Keras {version}, and an environment "
            "without it. Install gradtwin[keras2]."
        )
    return importlib.import_module(name)


@contextmanager
def _without_absl() -> Iterator[None]:
    """Without the log lines of Keras, which says of each HDF5 file that its metrics are not built yet."""
    logger = logging.getLogger("absl")
    level = logger.level
    with undoing(logger.setLevel, level):
        logger.setLevel(logging.ERROR)
        yield


def _find_missing(error: BaseException | None) -> str:
    """What Keras says of a class or function that it does not know, which may stand in the cause of its last error."""
    while error is not None:
        if said := MISSING.search(" ".join(str(error).split())):
            return said.group()
        error = error.__cause__ or error.__context__
    return ""


def _advise(text: str, *, unsafe: bool) -> str:
    """What to do where loading a file raised this text."""
    if not unsafe and ("safe_mode" in text or "lambda" in text.lower()):
        return (
            "It holds code, which safe mode does not run: pass --unsafe if you trust the file, or rebuild it in a "
            "factory, package.module:factory."
        )
    if MISSING.search(text) or "registered" in text.lower() or "deserialize" in text.lower():
        return (
            "Decorate its custom classes with @keras.saving.register_keras_serializable() and name their module with "
            "--import, or give a factory, package.module:factory."
        )
    return "Save it again with model.save('name.keras')."
