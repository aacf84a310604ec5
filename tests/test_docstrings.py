"""What the docstring of a public function says: its parameters, the shapes of its arrays, the errors that it raises;
that of a definition its formula and its source.

The texts of a language are not judged here. What a docstring may leave out is in docstrings.toml, with the reason.
"""

import ast
import builtins
import inspect
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import keras_ref
import scratch
from keras_ref import errors, strategies
from keras_ref.comparison.sources.oracles import Oracle
from keras_ref.own_modules import registry
from keras_ref.programs.program import Definition, Facts, Point, Program, Trace, Weight
from keras_ref.translation import departures, exceptions
from scratch import constraints, differences, fields, regularizers, schedules
from scratch.arrays import Array
from scratch.gradient import Nudges
from scratch.layers.base import Layer
from scratch.losses.base import Loss
from scratch.optimizers.base import Optimizer

DATA = tomllib.loads(Path(__file__).with_name("docstrings.toml").read_text(encoding="utf-8"))
#: modules whose `__all__` is public, and what the documentation tells users to build on beside them
FACES = (scratch, keras_ref, strategies, registry, departures)
BASES = (
    *(Layer, Loss, Optimizer, Oracle, fields.Domain, differences.Scheme, Nudges),
    *(Program, Definition, Facts, Point, Trace, Weight),
    *(schedules.Schedule, regularizers.Regularizer, constraints.Constraint),
    *(exceptions.mirrors, exceptions.reflects),
)
#: "the other options are those of check_gradients": its docstring names them
ELSEWHERE = re.compile(r"\b(?:as for|as of|those of|that of)\s+`?([A-Za-z_.]+)`?")
#: a shape in parentheses, "(batch, …)" or "(n,)", or words for one
SHAPE = re.compile(r"\(\w*[,…][^()]*\)|\bshapes?\b|\bscalar\b|\bbatch first\b", re.IGNORECASE)
#: what a formula has and a sentence has not
FORMULA = re.compile(r"[=←·/√Σ²|]|\w\([^()]+\)|\b\w+ - \w+|[<>≤≥]")
SOURCE = re.compile(r"Source:? +\S+")


def list_public() -> dict[str, Any]:
    """{name: function or class} of all that is public, the methods and properties of public classes included."""
    named = {f"{face.__name__}.{name}": getattr(face, name) for face in FACES for name in face.__all__}
    own = (one for one in vars(fields).values() if getattr(one, "__module__", "") == fields.__name__)
    domains = (one for one in own if callable(one) and not one.__name__.startswith("_"))
    named |= {f"{one.__module__}.{one.__qualname__}": one for one in (*BASES, *domains)}
    return {
        name: found for top, public in named.items() if callable(public) for name, found in _list_parts(top, public)
    }


def _list_parts(name: str, public: Any) -> Iterator[tuple[str, Any]]:
    yield name, public
    for key, value in vars(public).items() if inspect.isclass(public) else ():
        if key == "__call__" or not key.startswith("_"):
            function = getattr(value, "__func__", None) or getattr(value, "fget", None) or getattr(value, "func", value)
            if inspect.isfunction(function):
                yield f"{name}.{key}", function


def find_lacks(name: str, public: Any, owner: Any = None) -> list[str]:
    """What the docstring of a function, a class, or a method of the class `owner` does not say."""
    text = read_docstring(public, owner)
    if not text:
        return [f"{name}: no docstring"]
    around = "\n".join((text, "" if owner is None else read_docstring(owner)))
    around = "\n".join((around, *(read_docstring(PUBLIC[other]) for other in list_referred(around))))
    lacks = [
        f"{name}: `{parameter}` is not named"
        for parameter in list_parameters(public)
        if not re.search(rf"(?<!\w){re.escape(parameter)}(?!\w)", around)
    ]
    if has_arrays(public) and not SHAPE.search(around):
        lacks.append(f"{name}: the shape of an array is not said")
    stated = list_errors(text)
    return lacks + [f"{name}: raises {one.__name__}" for one in find_raised(public) if not issubclass(one, stated)]


def read_docstring(public: Any, owner: Any = None) -> str:
    """The docstring; of a method without one that of the method it overrides."""
    text = vars(public).get("__doc__") if inspect.isclass(public) else public.__doc__
    for base in () if owner is None else owner.__mro__:
        text = text or getattr(vars(base).get(public.__name__), "__doc__", None)
    return inspect.cleandoc(text or "")


def list_referred(text: str) -> list[str]:
    """The public names at which a docstring says that more is found."""
    return [name for one in ELSEWHERE.findall(text) for name in PUBLIC if name.endswith(f".{one.rstrip('.')}")]


def list_parameters(public: Any) -> list[str]:
    """The parameters that a caller gives: not `draw`, which Hypothesis gives."""
    if inspect.isclass(public) and (issubclass(public, BaseException) or getattr(public, "_is_protocol", False)):
        return []
    try:
        parameters = inspect.signature(inspect.unwrap(public)).parameters
    except ValueError:  # a subclass of a built-in type
        return []
    return [name for name in parameters if name not in {"self", "cls", "draw"} and not name.startswith("_")]


def has_arrays(public: Any) -> bool:
    """Whether a function takes or returns arrays, by its annotations."""
    if inspect.isclass(public):
        return False
    return "Array" in " ".join(map(str, inspect.get_annotations(inspect.unwrap(public)).values()))


def list_errors(text: str) -> tuple[type[BaseException], ...]:
    """The exceptions that a docstring names after "Raises"."""
    words = re.findall(r"\w+", text.partition("Raises")[2])
    return tuple(error for word in words if (error := find_exception(word)) is not None)


def find_exception(name: str) -> type[BaseException] | None:
    for place in (builtins, errors, *map(import_module, DATA["exceptions"])):
        found = getattr(place, name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return found
    return None


def find_raised(public: Any) -> list[type[BaseException]]:
    """The exceptions that a function raises itself, or that functions which it calls raise by their docstrings.

    Of a class: those of the methods that check its fields.
    """
    if not inspect.isclass(public):
        return _find_raised_in(public)
    checks = [vars(public)[name] for name in ("__init__", "__post_init__", "check") if name in vars(public)]
    own = [] if getattr(public, "_is_protocol", False) else filter(inspect.isfunction, checks)
    return [error for check in own for error in _find_raised_in(check)]


def _find_raised_in(function: Any) -> list[type[BaseException]]:
    # Hypothesis wraps a strategy in a function of a module that it makes
    inner = inspect.unwrap(function)
    module = sys.modules.get(inner.__module__) or sys.modules[function.__module__]
    name = inner.__qualname__.removeprefix("accept.<locals>.")
    tree = parse_definitions(module.__file__).get(name, ast.Module([], []))
    owner = getattr(module, name.partition(".")[0], None)
    names = {**vars(builtins), **vars(module), "self": owner, "cls": owner}
    found: dict[Any, None] = {}
    for node in _walk_uncaught(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found[_resolve(node.exc.func, names)] = None
        elif isinstance(node, ast.Call):
            called = _resolve(node.func, names)
            if str(getattr(called, "__module__", "")).partition(".")[0] in {"scratch", "keras_ref"}:
                found |= dict.fromkeys(list_errors(inspect.getdoc(called) or ""))
    return [one for one in found if isinstance(one, type) and issubclass(one, BaseException)]


def _walk_uncaught(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function, without those in a block whose exceptions are caught, or converted to others."""
    yield node
    inside = node.body if _catches(node) else []
    for child in ast.iter_child_nodes(node):
        if child not in inside:
            yield from _walk_uncaught(child)


def _catches(node: ast.AST) -> bool:
    if isinstance(node, ast.With):
        managers = [one.context_expr.func for one in node.items if isinstance(one.context_expr, ast.Call)]
        return any(isinstance(one, ast.Name) and one.id in DATA["converting"] for one in managers)
    return isinstance(node, ast.Try) and bool(node.handlers)


def _resolve(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """What a dotted name refers to; None where that is not known before the code runs."""
    if isinstance(node, ast.Attribute):
        return getattr(_resolve(node.value, names), node.attr, None)
    return names.get(node.id) if isinstance(node, ast.Name) else None


@cache
def parse_definitions(path: str) -> dict[str, ast.AST]:
    """{qualified name: function} of a file."""
    found: dict[str, ast.AST] = {}

    def add(parent: ast.AST, prefix: str) -> None:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found[prefix + node.name] = node
                add(node, f"{prefix}{node.name}." + ("" if isinstance(node, ast.ClassDef) else "<locals>."))

    add(ast.parse(Path(path).read_text(encoding="utf-8")), "")
    return found


PUBLIC = list_public()


def test_public_functions_name_parameters_shapes_and_errors():
    lacks = {
        lack
        for name, public in PUBLIC.items()
        for lack in find_lacks(name, public, PUBLIC.get(name.rpartition(".")[0]))
    }
    assert lacks == set(DATA["left_out"])


def test_what_is_said_to_be_raised_is_an_exception():
    said = {name: re.findall(r"Raises:? +(\w+)", read_docstring(public)) for name, public in PUBLIC.items()}
    assert {(name, one) for name, words in said.items() for one in words if not find_exception(one)} == set()
    assert sum(map(len, said.values())) > 50


def find_lacks_of_definition(name: str, definition: Any, known: frozenset[str]) -> list[str]:
    """What the docstring of a registered definition does not say; a formula may be that of another definition."""
    text = inspect.cleandoc(definition.__doc__ or "")
    law = re.split(r"Shapes|Keras  |Source", text)[0]
    has_law = FORMULA.search(law) or known & set(re.findall(r"\w+", law)) - {name}
    return [f"{name}: no {what}" for what, said in (("formula", has_law), ("source", SOURCE.search(text))) if not said]


@pytest.mark.parametrize("kind", registry.KINDS)
def test_definitions_have_a_formula_and_a_source(kind):
    definitions = registry.every(kind)
    own = {name: thing for name, thing in definitions.items() if thing.__module__.startswith("scratch.")}
    assert [lack for name, thing in own.items() for lack in find_lacks_of_definition(name, thing, frozenset(own))] == []
    assert len(own) >= 4


# Functions that lack something ----------------------------------------------------------------------------------------


def undocumented(x):
    return x


def unnamed(first, second):
    """The sum of `first` and more."""
    return first + second


def shapeless(x: "Array") -> "Array":
    """Twice x."""
    return 2 * x


def silent(x):
    """x, if it is positive."""
    if x < 0:
        raise ValueError(f"`x` must be positive. Received: {x}. Pass 1.")
    return x


def passes_on(kind):
    """The definitions of a kind."""
    return registry.every(kind)


def complete(kind):
    """The definitions of a kind. Raises: ValueError for an unknown one."""
    try:
        registry.get(kind, "nothing")
    except ValueError:
        return registry.every(kind)
    raise KeyError  # which no message goes with


@pytest.mark.parametrize(
    ("function", "lacks"),
    [
        (undocumented, ["undocumented: no docstring"]),
        (unnamed, ["unnamed: `second` is not named"]),
        (shapeless, ["shapeless: the shape of an array is not said"]),
        (silent, ["silent: raises ValueError"]),
        (passes_on, ["passes_on: raises ValueError"]),
        (complete, []),
    ],
)
def test_what_is_lacking_is_found(function, lacks):
    assert find_lacks(function.__name__, function) == lacks


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("y = 2x. Source  keras.io", []),
        ("The double of a number. Source  keras.io", ["f: no formula"]),
        ("y = 2x", ["f: no source"]),
        ("relu of it. Source  keras.io", []),
    ],
)
def test_a_definition_without_formula_or_source_is_found(text, lacks):
    def f(x):
        return 2 * x

    f.__doc__ = text
    assert find_lacks_of_definition("f", f, frozenset({"relu"})) == lacks
