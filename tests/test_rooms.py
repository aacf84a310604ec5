"""The rooms: an import goes to a lower floor or stays in its room; there are no circles; scratch is NumPy only."""

import ast
import sys
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: floors from the ground up; rooms on one floor do not know each other
FLOORS = tuple(
    set(rooms.split())
    for rooms in (
        "scratch",
        "undoing",
        "supervision",
        "errors",
        "own_modules",
        "options",
        "reports",
        "evaluation",
        "translation",
        "inputs",
        "programs",
        "comparison",
        "checks strategies",
        "coverage homework lesson",
        "campaign",
        "minimisation",
        "frontends",
        "__init__ __main__",
        "face",
    )
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
LIBRARIES = {"scratch": {"numpy", "threadpoolctl"}, "errors": set(), "options": set()}


def modules():
    files = chain((ROOT / "scratch").rglob("*.py"), (ROOT / "keras_ref").rglob("*.py"))
    return {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


MODULES = modules()


def room(module):
    top, *rest = module.split(".")
    return top if top == "scratch" else rest[0] if rest else "__init__"


def imports(module):
    """Every import of a module, those inside functions too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in MODULES else node.module for a in node.names
            )
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


def test_every_room_has_a_floor():
    assert {room(m) for m in MODULES} == set(FLOOR)


@pytest.mark.sampled
@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    here = room(module)
    for other in set(imports(module)) & set(MODULES):
        assert room(other) == here or FLOOR[room(other)] < FLOOR[here], (
            f"{module} ({here}) imports {other} ({room(other)})"
        )


@pytest.mark.parametrize("here", LIBRARIES)
def test_libraries(here):
    known = {m.split(".")[0] for m in MODULES} | set(sys.stdlib_module_names)
    taken = {name.split(".")[0] for m in MODULES if room(m) == here for name in imports(m)} - known
    assert taken <= LIBRARIES[here], taken


@pytest.mark.sampled
def test_no_circles():
    TopologicalSorter({m: set(imports(m)) & set(MODULES) - {m} for m in MODULES}).prepare()


def folder(module, package):
    """The folder of a package that a module lies in, or the module itself where it lies in none.

    What a folder itself exports (its `__init__`) stands by itself: the modules of `translation/exceptions/` register
    themselves there, and the modules beside that folder look them up.
    """
    name, *inside = module.removeprefix(f"{package}.").split(".")
    return f"{name}/" if inside else name


@pytest.mark.parametrize("package", ["scratch", *sorted({f"keras_ref.{room(m)}" for m in MODULES if m.count(".") > 2})])
def test_no_circle_of_folders(package):
    known = [m for m in MODULES if m.startswith(f"{package}.")]
    graph = {folder(module, package): set() for module in known}
    for module in known:
        reached = {folder(other, package) for other in set(imports(module)) & set(known)}
        graph[folder(module, package)] |= reached - {folder(module, package)}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) == "scratch"])
def test_scratch_imports_no_private_names(module):
    """A name with a leading underscore is used in its own module only, imported or as an attribute of the module."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found, modules = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("scratch", "keras_ref"):
            found += [f"{node.module}.{a.name}" for a in node.names if a.name.startswith("_")]
            modules |= {a.asname or a.name for a in node.names if f"{node.module}.{a.name}" in MODULES}
    found += [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
        if node.attr.startswith("_")
    ]
    assert not found, f"{module} uses private names: {', '.join(found)}"
