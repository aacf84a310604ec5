"""From a target or an object to its program: `torch:package.module:factory`, student.py, a model.

A target is package.module:name, a module of functions (package.module) or a file (.py, .keras), each with or without
the prefix of a kind of program. Without it the kind is that of what the target gives: a model of Keras is Keras on
TensorFlow, a torch.nn.Module is a PyTorch module.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.inputs.targets import import_module
from keras_ref.own_modules import refuse_namesakes, registry
from keras_ref.programs.program import Load, Program


def list_kinds() -> dict[str, type[Program]]:
    """The kinds of program, by prefix, in the order in which they are asked whether an object is theirs."""
    known: list[type[Program]] = sorted(registry.every("program").values(), key=lambda kind: kind.last)
    return {kind.prefix: kind for kind in known}


def split_prefix(target: str) -> tuple[type[Program] | None, str]:
    """The kind that the prefix of a target names (None without one), and the rest."""
    prefix, colon, rest = target.partition(":")
    found = list_kinds().get(prefix) if colon else None
    return (found, rest) if found is not None else (None, target)


def open_target(target: str) -> Program:
    """The program of a target, in this process. Raises: CouldNotRun."""
    kind, place = split_prefix(target)
    if kind is not None:
        require_installed(kind)
        return kind(make_loader(place))
    load, first = make_loader(place), [make_loader(place)()]
    return open_object(*first[0], load=lambda: first.pop() if first else load())


def open_object(value: Any, x: Any = None, y: Any = None, *, load: Load | None = None) -> Program:
    """The program that an object is, by the first kind that accepts it. Raises: CouldNotRun."""
    if isinstance(value, Program):
        return value
    for kind in list_kinds().values():
        if kind.accepts(value):
            require_installed(kind)
            found: Program = kind(load or (lambda: (value, x, y)))
            return found
    raise CouldNotRun(
        f"A program must be of a kind that can be compared ({', '.join(list_kinds())}). Received: a "
        f"{type(value).__name__}. Return a model, or say the kind before the target: numpy:package.module."
    )


def require_installed(kind: type[Program]) -> None:
    """Raises: CouldNotRun where the module that a kind of program needs is not installed."""
    module, extra = kind.needs
    if module and importlib.util.find_spec(module) is None:
        raise CouldNotRun(
            f"A program of the kind {kind.prefix} needs {module}. Received: an environment without it. "
            f"Install gradtwin[{extra}]."
        )


def make_loader(place: str) -> Load:
    """What loads the object of a target without prefix: (object, x, y). It raises CouldNotRun."""

    def load() -> tuple[Any, Any, Any]:
        if place.endswith(".keras"):
            from keras_ref.inputs.targets import load_target

            return load_target(place)[:3]
        file, _, name = place.partition(":")
        module = _import_file(file) if file.endswith(".py") else import_module(file)
        return _make(place, module, name) if name else (module, None, None)

    return load


def _import_file(path: str) -> ModuleType:
    """Run a Python file as a module. Raises: CouldNotRun, with the line of the file that raised."""
    if not Path(path).is_file():
        raise CouldNotRun(f"A file must exist. Received: {path}, which does not. Check the path.")
    here = str(Path(path).resolve().parent)
    refuse_namesakes(here)
    if here not in sys.path:
        sys.path.insert(0, here)
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise CouldNotRun(f"A file must be Python. Received: {path}. Check the path.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise CouldNotRun(f"A file must run. Received: {describe_error(error, path)} Correct it there.") from error
    return module


def _make(place: str, module: ModuleType, name: str) -> tuple[Any, Any, Any]:
    """(object, x, y) of a name in a module: the object itself, or what it returns when it is called."""
    found = getattr(module, name, None)
    if found is None:
        raise CouldNotRun(
            f"A target's factory must exist. Received: {name!r}, which {module.__name__} does not have. "
            "Check the name after the colon."
        )
    is_object = any(kind.accepts(found) for kind in list_kinds().values())
    try:
        made = found if is_object or not callable(found) else found()
    except Exception as error:
        where = str(getattr(module, "__file__", "") or "")
        raise CouldNotRun(
            f"A factory must return a program. Received: {place}: {describe_error(error, where)} Run it by itself."
        ) from error
    parts = made if isinstance(made, tuple) and made else (made,)
    value, x, y = [*parts, None, None][:3]
    return value, x, y


def describe_error(error: BaseException, path: str) -> str:
    """An error as its user sees it: "student.py, line 12, in forward: ValueError: …", the last line of their file."""
    file = os.path.realpath(path) if path else ""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file and os.path.realpath(frame.filename) == file]
    kind = f"{type(error).__name__}: {shorten_error(error)}"
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{Path(path).name}, line {error.lineno}: {kind}"
    if not own:
        return kind
    where = f"{Path(path).name}, line {own[-1].lineno}"
    return f"{where}{'' if own[-1].name == '<module>' else f', in {own[-1].name}'}: {kind}"
