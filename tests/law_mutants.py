"""Wrong laws made from the right ones: the source of a definition is parsed, one expression of it is changed, and the
function is given the code of the changed source for the time of a `with` block.

    for mutant in mutants(LSTM, ("forward",)):  # a sign, a dropped term, swapped gates, a lost epsilon, …
        with mutant.applied():
            ...                                       # the law is wrong here

Nothing here is specific to a definition: a new layer, loss or optimizer has mutants because it has source code. A
mutant may be equivalent to the law, or fail: whoever uses one looks at what it computes first.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from types import CodeType, FunctionType

from scratch import registry
from scratch.layers.base import Layer
from scratch.losses.base import Loss
from scratch.optimizers.base import Optimizer

#: packages whose functions are part of a law; the rest of scratch is bookkeeping
LAWS = ("scratch.layers", "scratch.activations", "scratch.losses", "scratch.optimizers")
#: functions of NumPy (as methods too) and the wrong ones to take in their place
OTHERS = {
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
    "argmax": "argmin",
    "sum": "mean",
    "mean": "sum",
    "prod": "sum",
    "var": "mean",
    "sqrt": "abs",
    "abs": "sqrt",
    "exp": "expm1",
    "expm1": "exp",
    "log": "log1p",
    "log1p": "log",
    "sin": "cos",
    "cos": "sin",
    "tanh": "arctan",
    "cumsum": "cumprod",
    "repeat": "tile",
    "concatenate": "stack",
}
#: kinds of error by the start of their names, those that say most about a law first
TELLING = (
    "swapped-gates",
    "lost-epsilon",
    "sign",
    "dropped",
    "swapped-operands",
    "inverted-quotient",
    "other-axis",
    "other-branch",
    "doubled-result",
    "reversed-result",
)
#: annotations are not part of a law
UNEVALUATED = ast.parse("from __future__ import annotations").body
#: axes to take in place of an axis
AXES = (-1, 0, 1, -2)


@dataclass(frozen=True)
class Mutant:
    """A function of a law and one node of its syntax tree to be changed; `kind` says what kind of error that is."""

    kind: str
    function: FunctionType
    source: ast.AST
    node: ast.AST
    wrong: ast.AST

    def __str__(self) -> str:
        wrong = ast.unparse(ast.fix_missing_locations(self.wrong))
        return f"{self.function.__qualname__}: {ast.unparse(self.node)} → {wrong}"

    @cached_property
    def code(self) -> CodeType:
        """The code of the changed function, compiled inside its class, where `super()` needs one."""
        body = [copy.deepcopy(self.source, {id(self.node): self.wrong})]
        for name in reversed(self.function.__qualname__.split(".")[:-1]):
            body = [ast.ClassDef(name, bases=[], keywords=[], body=body, decorator_list=[], type_params=[])]
        module = ast.fix_missing_locations(ast.Module([*UNEVALUATED, *body], type_ignores=[]))
        right = self.function.__code__
        return next(
            code
            for code in _codes(compile(module, right.co_filename, "exec"))
            if code.co_qualname == right.co_qualname and code.co_freevars == right.co_freevars
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The wrong law in place of the right one."""
        right = self.function.__code__
        self.function.__code__ = self.code
        try:
            yield
        finally:
            self.function.__code__ = right


@cache
def mutants(cls: type, roots: tuple[str, ...]) -> tuple[Mutant, ...]:
    """The mutants of a class's law: of its methods `roots` first, then of the functions that those refer to."""
    functions = functions_of(cls, roots)
    return tuple(m for function in functions for m in mutants_of(function, whole=function.__name__ in roots))


def kinds(cls: type, roots: tuple[str, ...]) -> tuple[str, ...]:
    """The kinds of error that a law's mutants make, those that say most about a law first."""
    found = dict.fromkeys(m.kind for m in mutants(cls, roots))

    def rank(kind: str) -> int:
        return next((i for i, start in enumerate(TELLING) if kind.startswith(start)), len(TELLING))

    return tuple(sorted(found, key=rank))


def functions_of(cls: type, roots: Sequence[str]) -> list[FunctionType]:
    """The functions of scratch that make up the law, those nearest to the roots first: what the names in a function's
    code refer to in its class and its module, and activations that it calls by name.
    """
    waiting = [own for base in cls.__mro__ for name in roots if name in vars(base) and (own := _own(base, name))]
    found: list[FunctionType] = []
    while waiting:
        function = waiting.pop(0)
        if function in found or not function.__module__.startswith(LAWS):
            continue
        found.append(function)
        for code in _codes(function.__code__):
            for name in code.co_names:
                referred = (_own(cls, name), function.__globals__.get(name))
                waiting += [f for f in referred if isinstance(f, FunctionType) and f.__closure__ is None]
            named = {c for c in code.co_consts if isinstance(c, str)}
            waiting += [registry.get("activation", name) for name in sorted(named & set(registry.names("activation")))]
    return found


def _own(cls: type, name: str) -> FunctionType | None:
    """A method or property of a class as a function, those of the bases of all definitions left out."""
    found = inspect.getattr_static(cls, name, None)
    found = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
    shared = any(vars(base).get(name) is found for base in (Layer, Loss, Optimizer, object))
    return found if isinstance(found, FunctionType) and not shared else None


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


@cache
def mutants_of(function: FunctionType, *, whole: bool) -> tuple[Mutant, ...]:
    """The mutants of one function; with `whole` its result is changed too."""
    source = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    source.decorator_list = []
    return tuple(
        Mutant(kind, function, source, node, wrong)
        for node in _expressions(source.body)
        for kind, wrong in [*_wrong(node), *(_wrong_result(node) if whole else ())]
    )


def _expressions(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Statements and expressions that compute values: no refusals, subscripts, conditions, texts and shapes."""
    for node in nodes:
        raises = isinstance(node, ast.If) and all(isinstance(own, ast.Raise) for own in node.body)
        if raises or isinstance(node, ast.Raise | ast.JoinedStr | ast.arguments | ast.Assert) or _of_shapes(node):
            continue
        yield node
        for field, value in ast.iter_fields(node):
            if field not in ("slice", "test", "annotation", "returns"):
                parts = value if isinstance(value, list) else [value]
                yield from _expressions([part for part in parts if isinstance(part, ast.AST)])


def _of_shapes(node: ast.AST) -> bool:
    """Whether an expression is arithmetic of shapes or lengths: nearly all of its mutants cannot be computed."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("range", "len", "reversed", "sorted", "slice", "isinstance")
    return isinstance(node, ast.BinOp) and any(
        isinstance(part, ast.Tuple | ast.List)
        or (isinstance(part, ast.Attribute) and part.attr in ("ndim", "shape", "size"))
        or (isinstance(part, ast.Name) and part.id in ("rank", "len"))
        for part in ast.walk(node)
        if not isinstance(node.op, ast.MatMult)
    )


def _wrong(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:  # noqa: C901, PLR0912 (a table, one row for each kind)
    """What an expression may be changed to, and the kind of error that this is."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield from (("sign", ast.BinOp(left, ast.Sub(), right)), ("dropped-term", left), ("dropped-term", right))
        case ast.BinOp(left, ast.Sub(), right):
            yield from (
                ("sign", ast.BinOp(left, ast.Add(), right)),
                ("swapped-operands", ast.BinOp(right, ast.Sub(), left)),
            )
            yield "dropped-term", left
        case ast.BinOp(left, ast.Mult(), right):
            yield from (("dropped-factor", left), ("dropped-factor", right))
        case ast.BinOp(left, ast.Div(), right):
            yield from (("dropped-factor", left), ("inverted-quotient", ast.BinOp(right, ast.Div(), left)))
        case ast.BinOp(left, ast.MatMult(), right):
            yield "swapped-operands", ast.BinOp(right, ast.MatMult(), left)
        case ast.BinOp(left, ast.Pow(), _):
            yield "dropped-power", left
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield "sign", operand
        case ast.Compare(left, [operator], [right]) if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            yield "swapped-comparison", ast.Compare(right, [operator], [left])
        case ast.IfExp(test, body, otherwise):
            yield "other-branch", ast.IfExp(test, otherwise, body)
        case ast.keyword("axis", _):
            yield from (("other-axis", ast.keyword("axis", ast.Constant(axis))) for axis in AXES)
        case ast.Attribute(_, name, _) | ast.Name(name, _) if "epsilon" in name.lower() and isinstance(
            node.ctx, ast.Load
        ):
            yield "lost-epsilon", ast.Constant(0.0)
        case ast.Call(ast.Attribute(owner, name, _) as called, arguments, keywords):
            if name in OTHERS:
                other = ast.Attribute(owner, OTHERS[name], ast.Load())
                yield f"{OTHERS[name]}-for-{name}", ast.Call(other, arguments, keywords)
            if name in ("matmul", "where", "einsum") and len(arguments) >= 2:
                *first, one, two = arguments
                yield "swapped-operands", ast.Call(called, [*first, two, one], keywords)
        case ast.Assign([ast.Tuple([one, two, *more], context)], value) if not isinstance(value, ast.Tuple):
            parts = value.id if isinstance(value, ast.Name) else "parts"
            yield f"swapped-{parts}", ast.Assign([ast.Tuple([two, one, *more], context)], value)


def _wrong_result(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What the result of a whole law may be changed to: twice as much, and backwards along its last axis."""
    match node:
        case ast.Return(value) if value is not None and not isinstance(value, ast.Tuple):
            yield "doubled-result", ast.Return(ast.BinOp(ast.Constant(2), ast.Mult(), value))
            backwards = ast.Tuple([ast.Constant(...), ast.Slice(step=ast.Constant(-1))], ast.Load())
            yield "reversed-result", ast.Return(ast.Subscript(value, backwards, ast.Load()))
