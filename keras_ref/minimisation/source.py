"""A function or a class as its own source, with what it needs: for those that no module can be asked for by name."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

from keras_ref.minimisation.expressions import Expression, Inline


class NotWritable(Exception):
    """Something cannot be written as Python: the message is a clause that says what, and why."""


def inline_source(value: Any, express: Callable[[Any], Expression]) -> Inline:
    """A function or class as its source; `express` writes what it needs. Raises: NotWritable."""
    called = getattr(value, "__name__", type(value).__name__)
    try:
        value = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(value, FunctionType):
            node: ast.Lambda | ast.FunctionDef | ast.ClassDef = _find_function(value)
        else:
            tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
            node = next(part for part in tree.body if isinstance(part, ast.ClassDef))
    except (OSError, TypeError, SyntaxError, StopIteration, ValueError) as error:
        raise NotWritable(f"{called} has no source that can be read ({type(error).__name__})") from error
    known = _find_names_known(value)
    plain = _without_documentation(node)
    read = _find_names_read(value)
    outside = [*getattr(node, "decorator_list", ()), *getattr(node, "bases", ())]
    around = {n.id for part in outside for n in ast.walk(part) if isinstance(n, ast.Name)}
    needs = tuple(
        (used, express(known[used]))
        for used in dict.fromkeys(n.id for n in ast.walk(plain) if isinstance(n, ast.Name))
        if used in known and known[used] is not value and used in read | around
    )
    text = ast.unparse(ast.fix_missing_locations(plain))
    if isinstance(node, ast.Lambda):
        return Inline("function", f"function = {text}", needs)
    return Inline(node.name, text, needs)  # its __name__ may be any text


def _find_function(function: FunctionType) -> ast.Lambda | ast.FunctionDef:
    """The definition of a function in its file. Raises: ValueError where two look alike."""
    lines, start = inspect.findsource(function)
    text = "".join(lines)
    tree = ast.parse(text)
    wanted = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
    first = function.__code__.co_firstlineno
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, wanted) and first in (node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ())))
    ]
    if len(found) > 1:
        found = [node for node in found if _find_code(node).co_code == function.__code__.co_code]
    if not found or start < 0:
        raise ValueError(function.__name__)
    return found[0]


def _find_code(node: ast.Lambda | ast.FunctionDef) -> CodeType:
    body = ast.Expression(node) if isinstance(node, ast.Lambda) else ast.Module([node], [])
    compiled: CodeType = compile(body, "<part>", "eval" if isinstance(node, ast.Lambda) else "exec")
    inner: CodeType = next(c for c in compiled.co_consts if isinstance(c, CodeType))
    return inner


def _find_names_read(value: Any) -> set[str]:
    """The names that the code of a function or class reads from outside of itself; attributes are among them."""
    codes = [f.__code__ for f in _list_functions(value)]
    found = {name for code in codes for name in code.co_freevars}
    while codes:
        code = codes.pop()
        found |= {*code.co_names}
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found


def _list_functions(value: Any) -> list[FunctionType]:
    return [value] if isinstance(value, FunctionType) else [f for f in vars(value).values() if inspect.isfunction(f)]


def _find_names_known(value: Any) -> Mapping[str, Any]:
    """What the names in a function or class stand for, those of its closure too."""
    module = inspect.getmodule(value)
    known = dict(vars(module)) if module is not None else {}
    for function in _list_functions(value):
        known |= function.__globals__
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        known |= {name: cell.cell_contents for name, cell in cells if name != "__class__"}
    return known


def _without_documentation(node: Any) -> Any:
    """A definition without annotations and docstrings, which need imports and lines of their own."""
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            rest = [line for line in part.body if not _is_text(line)]
            part.body = rest or [ast.Pass()]
            if isinstance(part, ast.FunctionDef):
                part.returns = None
        elif isinstance(part, ast.arg):
            part.annotation = None
    return node


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
