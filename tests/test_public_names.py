"""The public names of scratch: listed, imported at their first use, and the same for a type checker."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import scratch

TREE = ast.parse(Path(scratch.__file__).read_text(encoding="utf-8"))


def test_every_public_name_is_listed():
    assert set(scratch.__all__) == set(scratch._HOMES) <= set(dir(scratch))


@pytest.mark.parametrize("name", scratch.__all__)
def test_a_public_name_is_that_of_its_module(name):
    assert getattr(scratch, name) is getattr(import_module(f"scratch.{scratch._HOMES[name]}"), name)


def test_a_type_checker_sees_the_same_names():
    """What is imported under TYPE_CHECKING is what is imported at the first use."""
    seen = {
        alias.name: node.module.removeprefix("scratch.")
        for node in ast.walk(TREE)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("scratch.")
        for alias in node.names
    }
    assert seen == scratch._HOMES


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'scratch' has no attribute 'Layer'"):
        scratch.Layer  # noqa: B018 (the look-up itself is tried)


def test_scratch_alone_imports_nothing():
    """The recipe and the public names are loaded when they are asked for."""
    code = "import scratch, sys; print([m for m in sys.modules if m.startswith('scratch.') or m == 'numpy'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_map_names_every_module():
    """The docstring of scratch lists each module and folder in it, once."""
    here = Path(scratch.__file__).parent
    known = {p.name for p in here.glob("*.py")} | {f"{p.parent.name}/" for p in here.glob("*/__init__.py")}
    listed = [
        line.split()[0] for line in scratch.__doc__.splitlines() if line and line.split()[0].endswith((".py", "/"))
    ]
    assert sorted(listed) == sorted(known - {"__init__.py", "recipe.py"})
