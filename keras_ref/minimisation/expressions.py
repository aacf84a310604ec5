"""What a subject is built of, as a tree of expressions that is written as Python.

A tree is written, and the text is run: what is checked is what the script says. A node is a plain constant (None, a
bool, a number, a text), a tuple, or one of the records below; all are compared by value.
"""

from __future__ import annotations

import cmath
import keyword
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratch.arrays import Array

#: modules under the names by which their users know them
KNOWN = {"keras": "keras", "tensorflow": "tf", "numpy": "np"}
#: entries up to which an array of equal numbers is written out
FEW = 4

Expression = Any


@dataclass(frozen=True)
class Imported:
    """An object of a module, by its (dotted) name there; the module itself without a name."""

    module: str
    name: str


@dataclass(frozen=True)
class Inline:
    """A function or class that is written out: its name, its lines, and what these need, by name."""

    name: str
    source: str
    needs: tuple[tuple[str, Expression], ...] = ()


@dataclass(frozen=True)
class Call:
    """A call: of what, with which arguments and keywords."""

    function: Expression
    arguments: tuple[Expression, ...] = ()
    keywords: tuple[tuple[str, Expression], ...] = ()


@dataclass(frozen=True)
class Item:
    """A part of a value, by key or place."""

    of: Expression
    key: Any


@dataclass(frozen=True)
class Listing:
    """A list."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Table:
    """A dictionary with constant keys."""

    items: tuple[tuple[Any, Expression], ...]


@dataclass(frozen=True, eq=False)
class Values:
    """An array. One that is `held` is no point at which a derivative is taken: targets, indices, weights of samples."""

    array: Array
    held: bool = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Values) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.array.shape, self.array.dtype.str, self.array.tobytes(), self.held

    @property
    def is_point(self) -> bool:
        """Whether a derivative is taken here."""
        return not self.held and self.array.dtype.kind in "fc"


@dataclass(frozen=True)
class Named:
    """A name that the script has assigned before."""

    name: str


def list_children(node: Expression) -> tuple[Expression, ...]:
    """The nodes directly below a node."""
    if isinstance(node, tuple):
        return node
    if isinstance(node, Call):
        return (node.function, *node.arguments, *(value for _, value in node.keywords))
    if isinstance(node, Listing):
        return node.items
    if isinstance(node, Table):
        return tuple(value for _, value in node.items)
    if isinstance(node, Inline):
        return tuple(value for _, value in node.needs)
    return (node.of,) if isinstance(node, Item) else ()


def with_children(node: Expression, new: tuple[Expression, ...]) -> Expression:
    """The node with other nodes below it, as many."""
    if isinstance(node, tuple):
        return new
    if isinstance(node, Call):
        count = 1 + len(node.arguments)
        names = (name for name, _ in node.keywords)
        return Call(new[0], new[1:count], tuple(zip(names, new[count:], strict=True)))
    if isinstance(node, Listing):
        return Listing(new)
    if isinstance(node, Table):
        return Table(tuple(zip((key for key, _ in node.items), new, strict=True)))
    if isinstance(node, Inline):
        return Inline(node.name, node.source, tuple(zip((name for name, _ in node.needs), new, strict=True)))
    return Item(new[0], node.key) if isinstance(node, Item) else node


def is_name(text: str) -> bool:
    """Whether a text can stand in a script as a name: what came from a configuration or a module may be any text."""
    return text.isidentifier() and not keyword.iskeyword(text)


def is_dotted_name(text: str) -> bool:
    """Whether a text is names with dots between them."""
    return all(map(is_name, text.split(".")))


Path = tuple[int, ...]


def walk(node: Expression, path: Path = ()) -> Iterator[tuple[Path, Expression]]:
    """Every node with its path, those above before those below."""
    yield path, node
    for place, child in enumerate(list_children(node)):
        yield from walk(child, (*path, place))


def replace_node(node: Expression, path: Path, new: Expression) -> Expression:
    """The tree with another node at a path."""
    if not path:
        return new
    below = list(list_children(node))
    below[path[0]] = replace_node(below[path[0]], path[1:], new)
    return with_children(node, tuple(below))


@dataclass
class Writer:
    """Writes expressions, and collects the imports and definitions that they need, in order."""

    modules: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    _written: dict[Inline, str] = field(default_factory=dict)

    def write(self, node: Expression) -> str:
        """An expression as Python."""
        rules: dict[type, Callable[[Any], str]] = {
            Imported: self._import,
            Inline: self._write_inline,
            Call: self._call,
            Item: lambda item: f"{self.write(item.of)}[{item.key!r}]",
            Listing: lambda listing: f"[{', '.join(map(self.write, listing.items))}]",
            Table: lambda of: "{" + ", ".join(f"{key!r}: {self.write(value)}" for key, value in of.items) + "}",
            tuple: lambda items: f"({', '.join(map(self.write, items))}{',' if len(items) == 1 else ''})",
            Values: lambda values: self._write_values(values.array),
            Named: lambda named: named.name,
            float: self._write_number,
        }
        return rules.get(type(node), repr)(node)

    def write_keyword(self, name: str, value: Expression) -> str:
        """An argument by its name, whatever characters that has."""
        text = self.write(value)
        return f"{name}={text}" if is_name(name) else f"**{{{name!r}: {text}}}"

    def _call(self, node: Call) -> str:
        given = [*map(self.write, node.arguments), *(self.write_keyword(*one) for one in node.keywords)]
        return f"{self.write(node.function)}({', '.join(given)})"

    def _import(self, node: Imported) -> str:
        top, _, rest = node.module.partition(".")
        if top in KNOWN:
            self.modules.add(top)
            return ".".join(filter(None, (KNOWN[top], rest, node.name)))
        if node.module == "builtins":
            return node.name
        if not node.name:  # the module itself
            self.modules.add(node.module)
            return node.module
        first = node.name.partition(".")[0]
        if self.names.setdefault(first, node.module) != node.module:
            self.modules.add(node.module)
            return f"{node.module}.{node.name}"
        return node.name

    def _write_inline(self, node: Inline) -> str:
        known = self._written.get(node)
        if known:
            return known
        for name, needed in node.needs:
            text = self.write(needed)
            if text != name:
                self.definitions.setdefault(name, f"{name} = {text}")
        name, count = node.name, 1
        while name in self.definitions:
            count += 1
            name = f"{node.name}_{count}"
        self.definitions[name] = re.sub(rf"\b{node.name}\b", name, node.source, count=1)
        self._written[node] = name
        return name

    def _write_values(self, array: Array) -> str:
        self.modules.add("numpy")
        kind = array.dtype.kind
        usual = {"f": "float64", "i": "int64", "c": "complex128", "b": "bool"}.get(kind)
        dtype = "" if array.dtype.name == usual else f', "{array.dtype.name}"'
        flat = array.ravel()
        if flat.size > FEW and kind in "fi":
            counted = np.arange(flat.size).astype(array.dtype)
            if (flat == flat[0]).all():
                shape = array.shape if array.ndim > 1 else array.size
                of = {0.0: "zeros", 1.0: "ones"}.get(float(flat[0])) if kind == "f" else None
                return (
                    f"np.{of}({shape}{dtype})"
                    if of
                    else f"np.full({shape}, {self._write_number(flat[0].item())}{dtype})"
                )
            if (flat == counted).all() and not dtype:
                shaped = "" if array.ndim == 1 else f".reshape{array.shape}"
                return f"np.arange({self._write_number(float(flat.size)) if kind == 'f' else flat.size}){shaped}"
        if not flat.size:
            return f'np.zeros({array.shape}, "{array.dtype.name}")'
        return f"np.array({self._write_nested(array.tolist())}{dtype})"

    def _write_nested(self, value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(self._write_nested, value))}]"
        return self._write_number(value)

    def _write_number(self, value: Any) -> str:
        if isinstance(value, complex) and not cmath.isfinite(value):
            return f"complex({self._write_number(value.real)}, {self._write_number(value.imag)})"
        if isinstance(value, float) and not math.isfinite(value):
            self.modules.add("numpy")
            return "np.nan" if math.isnan(value) else "np.inf" if value > 0 else "-np.inf"
        return repr(value)

    def imports(self) -> list[str]:
        """The lines that import what was written."""
        plain = [f"{m} as {KNOWN[m]}" if KNOWN.get(m, m) != m else m for m in sorted(self.modules, key=_order)]
        lines = [f"import {', '.join(plain)}"] if plain else []
        by_module: dict[str, list[str]] = {}
        for name, module in self.names.items():
            by_module.setdefault(module, []).append(name)
        return [*lines, *(f"from {module} import {', '.join(sorted(names))}" for module, names in by_module.items())]


def _order(module: str) -> tuple[int, str]:
    return (list(KNOWN).index(module) if module in KNOWN else len(KNOWN)), module
