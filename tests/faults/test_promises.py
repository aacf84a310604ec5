"""The chapter of promises names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

CHAPTER = Path(__file__).parents[2] / ".github/docs/promises.md"


def functions_in(file):
    """The functions of a file of the fault suite, or of the tests beside it."""
    places = [folder / file for folder in (Path(__file__).parent, Path(__file__).parents[1])]
    tree = ast.parse(next(path for path in places if path.exists()).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def named_tests():
    """(file, test) for each test that the chapter names; one without a file is in the file named before it."""
    file = ""
    for found in re.finditer(r"`(?:(test_\w+\.py)::)?(test_\w+)`", CHAPTER.read_text(encoding="utf-8")):
        file = found[1] or file
        yield file, found[2]


def test_there_are_many():
    assert len(list(named_tests())) > 40


@pytest.mark.parametrize(("file", "name"), sorted(set(named_tests())))
def test_a_named_test_exists(file, name):
    assert name in functions_in(file)


def test_every_file_of_the_fault_suite_is_named():
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert files <= {file for file, _ in named_tests()}
