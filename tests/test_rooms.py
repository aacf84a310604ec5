"""The rooms: an import goes to a lower floor or stays in its room; there are no circles; scratch is NumPy only."""

import ast
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from itertools import chain, pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
#: {"keras_ref": its rooms, "keras_ref.evaluation": its folders, …}: floor by floor from the top, as lint-imports does
LAYERS = {
    contract.get("containers", ["keras_ref"])[0]: [
        {name.strip().removeprefix("keras_ref.") for name in floor.split("|")} for floor in contract["layers"]
    ]
    for contract in CONTRACTS
    if contract["type"] == "layers"
}
# what the package exports, and the face over it, may import all
LAYERS["keras_ref"][:1] = [{"face"}, LAYERS["keras_ref"][0] | {"__init__"}]
#: the floor of each room or folder, from the ground up; those on one floor do not know each other
FLOORS = {
    package: {name: floor for floor, names in enumerate(reversed(layers)) for name in names}
    for package, layers in LAYERS.items()
}
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
    assert {room(m) for m in MODULES} == set(FLOORS["keras_ref"])


@pytest.mark.parametrize("here", [package for package in LAYERS if package != "keras_ref"])
def test_every_folder_has_a_floor(here):
    """A folder that no contract names could import whatever it likes."""
    folders = {m.removeprefix(f"{here}.").split(".")[0] for m in MODULES if m.startswith(f"{here}.")}
    folders = {name for name in folders if (ROOT.joinpath(*here.split(".")) / name).is_dir()}
    assert folders <= set(chain(*LAYERS[here]))


def test_the_chapter_lists_rooms_and_folders_from_the_ground_up():
    """The tables of architecture.md have every room and folder, each below those that may import it."""
    text = (ROOT / ".github/docs/architecture.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`([\w/]+?)(?:/|\.py)`", line.split("|")[1]) for line in text.splitlines() if line[:3] == "| `"]
    listed = [name.removeprefix("keras_ref/") for row in rows for name in row]
    for package, layers in LAYERS.items():
        inside = package.removeprefix("keras_ref").removeprefix(".")
        floors = {f"{inside}/{name}".strip("/"): floor for floor, names in enumerate(layers) for name in names}
        floors = {name: floor for name, floor in floors.items() if not name.startswith("__")}
        places = [name for name in listed if name in floors]
        assert set(places) == set(floors), package
        assert [floors[name] for name in places] == sorted((floors[name] for name in places), reverse=True), package


def find_place(module, package):
    """The room, or the folder of a room, that a module lies in."""
    return room(module) if package == "keras_ref" else module.removeprefix(f"{package}.").split(".")[0]


def goes_down(module, other):
    """Whether a module may import another: it is on a lower floor, or at the same place, of rooms and of folders."""
    for package, floors in FLOORS.items():
        here, there = find_place(module, package), find_place(other, package)
        if here in floors and there in floors and here != there and floors[there] >= floors[here]:
            return False
    return True


@pytest.mark.sampled
@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    assert [other for other in sorted(set(imports(module)) & set(MODULES)) if not goes_down(module, other)] == []


@pytest.mark.parametrize("package", LAYERS)
def test_an_import_that_goes_up_is_found(package):
    """From each floor to the next one, between neighbours, and back."""
    places = {find_place(m, package): m for m in MODULES if package == "keras_ref" or m.startswith(f"{package}.")}
    floors = [sorted(names) for names in LAYERS[package]]
    for upper, lower in pairwise(floors):
        assert not goes_down(places[lower[0]], places[upper[0]]) and goes_down(places[upper[0]], places[lower[0]])
    for beside in (names for names in floors if len(names) > 1):
        assert not goes_down(places[beside[0]], places[beside[1]])


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
