"""The chapter of promises names tests that exist."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from count import CHAPTER, Counted, Row, count_row, find_files, read_rows


def functions_in(file):
    """The functions of a file of the fault suite, or of the tests beside it."""
    places = [folder / file for folder in (Path(__file__).parent, Path(__file__).parents[1])]
    tree = ast.parse(next(path for path in places if path.exists()).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


ROWS = read_rows(CHAPTER.read_text(encoding="utf-8"))


def named_tests():
    """(file, test) for each test that the chapter names."""
    return [test for row in ROWS for test in sorted(row.tests)]


def test_there_are_many():
    assert len(ROWS) > 50 and len(named_tests()) > 150


@pytest.mark.parametrize(("file", "name"), sorted(set(named_tests())))
def test_a_named_test_exists(file, name):
    assert name in functions_in(file)


def test_every_file_of_the_fault_suite_is_named():
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    assert files <= {file for file, _ in named_tests()}


CHAPTER_OF_TWO = """
## Files

| under this fault | test |
|---|---|
| a full disk | `test_a.py::test_one`, `test_two` |
| a pipe | `test_b.py::test_three` |

Tests: `test_b.py::test_three`,
`test_four`.
"""


def test_the_rows_of_a_chapter():
    full, listed = frozenset({("test_a.py", "test_one"), ("test_a.py", "test_two")}), ("test_b.py", "test_three")
    rows = read_rows(CHAPTER_OF_TWO)
    assert rows == [
        Row("Files", "a full disk", full),
        Row("Files", "a pipe", frozenset({listed})),
        Row("Files", "the tests listed there", frozenset({listed, ("test_b.py", "test_four")})),
    ]
    cases = {("test_a.py", "test_one"): Counter({False: 3, True: 2}), ("test_a.py", "test_two"): Counter({False: 1})}
    assert [count_row(row, cases) for row in rows] == [Counted(2, 4, 2), Counted(1, 0, 0), Counted(2, 0, 0)]


def test_the_files_of_rows_are_found():
    assert len(find_files(ROWS)) > 25
