"""gradtwin's own modules, whatever else is called as they are: people have a scratch.py of their own.

Importing this module loads every module of the package `scratch` from beside keras_ref, as scratch.registry and so on,
and then leaves the name `scratch` itself to the search path: `import scratch` finds what it finds without gradtwin.

So nothing in keras_ref may import from the bare name: `from scratch.registry import get` takes the module that is
loaded, and `from scratch import registry` might run somebody's file. Modules that are wanted whole are taken from here.
tests/test_names.py holds both, and that each room which uses scratch imports this module first.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from keras_ref.errors import CouldNotRun
from keras_ref.undoing import undoing

if TYPE_CHECKING:
    from scratch import fields, noise, recipe, registry, rounding

__all__ = [
    "PLACE",
    "fields",
    "list_isolating_flags",
    "noise",
    "own_command",
    "recipe",
    "refuse_namesakes",
    "registry",
    "rounding",
]

NAME = "scratch"
#: the folder of the package
PLACE = Path(__file__).parents[1] / NAME
#: what belongs to gradtwin alone, and runs in place of a user's module of that name
RESERVED = ("keras_ref",)
#: a module run as a program, of this keras_ref, also where another one is installed; its folder is searched last, and
#: the working directory is not
_START = """\
import importlib.util, json, runpy, sys
first, last, module = json.loads(sys.argv.pop(1))
sys.path[:0] = first
sys.path.append(last)
folder = last + "/keras_ref"
spec = importlib.util.spec_from_file_location("keras_ref", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["keras_ref"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["keras_ref"])
from keras_ref.undoing import let_packages_warn
let_packages_warn()
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def _is_own(module: ModuleType) -> bool:
    return bool(module.__file__) and Path(str(module.__file__)).is_relative_to(PLACE)


def _load() -> None:
    """Load the whole package, and put back what the name `scratch` meant before."""
    loaded = {name: module for name, module in sys.modules.items() if name.split(".")[0] == NAME}
    others = {name: module for name, module in loaded.items() if not _is_own(module)}
    with undoing(partial(_name_others, others, had_name=NAME in loaded)):
        for name in others:
            del sys.modules[name]
        package = sys.modules.get(NAME) or _load_package()
        for found in pkgutil.walk_packages(package.__path__, f"{NAME}."):
            importlib.import_module(found.name)


def _name_others(others: dict[str, ModuleType], *, had_name: bool) -> None:
    """Let the name `scratch` mean what it meant before."""
    if not had_name:
        sys.modules.pop(NAME, None)
    sys.modules.update({name: module for name, module in others.items() if name not in sys.modules or name == NAME})


def _load_package() -> ModuleType:
    spec = importlib.util.spec_from_file_location(NAME, PLACE / "__init__.py", submodule_search_locations=[str(PLACE)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{PLACE} is no package")
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    return package


def refuse_namesakes(folder: str = "") -> None:
    """Refuse modules of a user that cannot be told from gradtwin's own: a package `scratch` with modules of the same
    names, or a module keras_ref.

    folder   searched before sys.path

    Raises: CouldNotRun.
    """
    path = [*([folder] if folder else []), *sys.path]
    spec = PathFinder.find_spec(NAME, path)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if not Path(place).samefile(PLACE) and not _holds_gradtwin(Path(place).parent):
            both = sorted({m.name for m in pkgutil.iter_modules([place])} & _own_names())
            if both:
                raise CouldNotRun(
                    f"A package called {NAME} must not have modules that gradtwin's own has. Received: {place} with "
                    f"{', '.join(both)}. Rename the package or these modules."
                )
    for name in RESERVED:
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.origin and not _holds_gradtwin(Path(spec.origin).parents[1]):
            raise CouldNotRun(f"No module but gradtwin's own may be called {name}. Received: {spec.origin}. Rename it.")


def _holds_gradtwin(folder: Path) -> bool:
    """Whether a folder has this gradtwin, or another one, which is not imported in its place."""
    return (folder / RESERVED[0] / Path(__file__).name).is_file()


def own_command(module: str, *arguments: str, path: Iterable[str] = ()) -> list[str]:
    """The words that run a module of keras_ref in a process of its own: `python -m` would take a namesake from the
    working directory.

    Python is started with the options that this process was started with (-I, -E, -s, -O, -W, -X): what it must not
    take from its surroundings, that one must not either.

    path   folders that are searched before all others; PYTHONPATH would be ignored with some of these options
    """
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 (multiprocessing does)
    told = json.dumps([list(path), str(PLACE.parent), module])
    return [sys.executable, *flags, "-P", "-c", _START, told, *arguments]


def list_isolating_flags() -> list[str]:
    """The options of this process that keep Python from taking modules from its surroundings."""
    if sys.flags.isolated:
        return ["-I"]
    told = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site, "-P": sys.flags.safe_path}
    return [flag for flag, is_set in told.items() if is_set]


def _own_names() -> set[str]:
    return {found.name for found in pkgutil.iter_modules([str(PLACE)])}


_load()
if not TYPE_CHECKING:
    fields, noise, recipe, registry, rounding = (
        sys.modules[f"{NAME}.{name}"] for name in ("fields", "noise", "recipe", "registry", "rounding")
    )
