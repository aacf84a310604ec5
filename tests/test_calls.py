"""Calls say what they pass: more than four values are given by name, to functions and records of gradtwin's own."""

import ast
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(chain((ROOT / "scratch").rglob("*.py"), (ROOT / "keras_ref").rglob("*.py")))
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}
#: so many values a reader tells apart by their order
MOST = 4


def find_variadic(node):
    """Whether a function takes any number of positional values: then their names are not known."""
    return isinstance(node, ast.FunctionDef) and node.args.vararg is not None


NODES = [node for tree in TREES.values() for node in ast.walk(tree)]
VARIADIC = {node.name for node in NODES if find_variadic(node)}
OWN = {node.name for node in NODES if isinstance(node, ast.FunctionDef | ast.ClassDef)} - VARIADIC | {"cls"}


def find_long_calls(tree):
    """Calls of something of that name here, with more positional values than a reader tells apart."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and len(node.args) > MOST:
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in OWN and not any(isinstance(value, ast.Starred) for value in node.args):
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_calls_name_what_they_pass():
    found = {str(file.relative_to(ROOT)): list(find_long_calls(tree)) for file, tree in TREES.items()}
    assert {file: calls for file, calls in found.items() if calls} == {}


def test_a_long_call_is_found():
    found = list(
        find_long_calls(ast.parse("Verdict(a, b, c, d, e)\nself.settle(a, b, c, d, iterations)\nzip(a, b, c, d, e)"))
    )
    assert found == ["line 1: Verdict(a, b, c, d, e)", "line 2: self.settle(a, b, c, d, iterations)"]
