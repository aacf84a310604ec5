"""Objects, classes and functions of a user, and parts of Keras: what is reached from them, and how it is put back.

Code writes what it names. From an object its class is reached, with what it has as attributes; from a class its
methods; from a method or function what it closes over, and the variables of its module that it names. Parts of Keras (a
layer, a regularizer, a schedule) hold objects of users as attributes.

Neither Keras nor TensorFlow is imported: who has an object of them has imported them.
"""

from __future__ import annotations

import dis
import functools
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property, lru_cache, partial
from types import CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from keras_ref.evaluation.changed_state.kept_contents import Kind, Step, find_content_kind
from keras_ref.evaluation.keras_objects.nesting import ATOMS, walk_everything
from keras_ref.undoing import PACKAGES

#: gradtwin's own packages, and those that tests are made of: what they hold is not the user's
_OWN = r"(keras_ref|gradtwin|scratch|_?pytest|pluggy|hypothesis|xdist|execnet)(\.|$)"
_LIBRARIES = re.compile(f"{PACKAGES}|{_OWN}")
#: in the path of a file of an installed package
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
#: modules of Python's own whose classes hold what they are given in attributes
_HOLDERS = frozenset(("collections", "queue", "argparse"))
#: what Keras objects consist of, by the module of Keras that has the class
_PARTS = (
    ("layers", "Layer"),
    ("optimizers", "Optimizer"),
    ("losses", "Loss"),
    ("metrics", "Metric"),
    ("regularizers", "Regularizer"),
    ("constraints", "Constraint"),
    ("initializers", "Initializer"),
    ("callbacks", "Callback"),
)
#: the module of TensorFlow's arrays that grow, which hold a list where they are used eagerly
_ARRAYS = "tensorflow.python.ops.tensor_array_ops"
#: operations of Python's code that write a variable of a module, and an attribute
_WRITE_GLOBAL, _WRITE_ATTRIBUTE = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL")), frozenset(("STORE_ATTR", "DELETE_ATTR"))
#: the attributes of a class that are not its own
_OF_CLASSES = frozenset(("__dict__", "__weakref__", "__doc__", "__module__", "__abstractmethods__", "_abc_impl"))
_MISSING = object()


@lru_cache(maxsize=4096)
def is_of_users(module: Any) -> bool:
    """Whether a module, given by its name, is neither of Python's own nor of an installed package that is known."""
    name = str(module)
    return name.partition(".")[0] not in sys.stdlib_module_names and not _LIBRARIES.match(name) and module is not None


def find_what_callers_have(*values: Any) -> set[int]:
    """The identities of what values lead to without any part of Keras: what a callback can write is its caller's."""

    def inside(value: Any) -> Collection[Any] | None:
        kind = None if _is_part(value) else find_kind(value)
        return None if kind is None else kind.inside(value)

    given = tuple(value for value in values if type(value) not in ATOMS)
    return {id(one) for one in walk_everything(given, inside) if not _is_part(one)} if given else set()


def find_kind(value: Any) -> Kind | None:
    """The kind of a value: of those that Python and NumPy have, or of an object, class or function of a user's."""
    cls = type(value)
    if cls in ATOMS:
        return None
    if isinstance(value, (type, ModuleType)):
        home, kind = (value.__module__, _CLASS) if isinstance(value, type) else (value.__name__, _MODULE)
        return kind if is_of_users(home) else None
    known = find_content_kind(value) or next((kind for code, kind in _CODE.items() if isinstance(value, code)), None)
    if is_of_users(cls.__module__) and not _is_variable(value) and _has_attributes(value):
        return _OBJECT if known is None else _join(known, _OBJECT)
    return known or _find_kind_of_libraries(value)


def _find_kind_of_libraries(value: Any) -> Kind | None:
    """The kind of an object of a library, which may hold objects of users."""
    if type(value).__module__ in _HOLDERS or _is_part(value):
        return _OBJECT
    return _TRACED if _is_traced(value) else None


@lru_cache(maxsize=64)
def _join(one: Kind, other: Kind) -> Kind:
    """The kind of a value that is of two kinds, as a list of a class that a user wrote."""
    return Kind(
        lambda value: (*one.steps(value), *other.steps(value)),
        lambda value: (*one.inside(value), *other.inside(value)),
    )


# Parts of Keras and TensorFlow ----------------------------------------------------------------------------------------


def _is_part(value: Any) -> bool:
    """Whether a value is a layer, an optimizer, a regularizer, … of Keras 3 or Keras 2, or a module of TensorFlow."""
    return isinstance(value, _find_parts(*(sys.modules.get(name) for name in ("keras", "tf_keras", "tensorflow"))))


@lru_cache(maxsize=8)
def _find_parts(*libraries: ModuleType | None) -> tuple[type, ...]:
    keras = [one for one in libraries[:2] if one is not None]
    found = [getattr(getattr(one, module, None), name, None) for one in keras for module, name in _PARTS]
    found += [getattr(sys.modules.get(_ARRAYS), name, None) for name in ("TensorArray", "_EagerTensorArray")]
    found += [getattr(getattr(one.optimizers, "schedules", None), "LearningRateSchedule", None) for one in keras]
    return tuple(one for one in (*found, getattr(libraries[2], "Module", None)) if isinstance(one, type))


def _is_traced(value: Any) -> bool:
    """Whether a value is a tf.function."""
    return type(value).__name__ == "Function" and isinstance(getattr(value, "python_function", None), FunctionType)


def _is_variable(value: Any) -> bool:
    """Whether a value is a variable, whose value is remembered where its handle is taken (reached_variables.py)."""
    library, keras = sys.modules.get("tensorflow"), sys.modules.get("keras")
    classes = (getattr(library, "Variable", None), getattr(library, "Tensor", None), getattr(keras, "Variable", None))
    return isinstance(value, tuple(one for one in classes if isinstance(one, type)))


def _is_unbuilt(value: Any) -> bool:
    """Whether a value is a layer without weights. A check builds it, and it stays built, with all that this left."""
    libraries = (sys.modules.get(name) for name in ("keras", "tf_keras"))
    classes = tuple(one.layers.Layer for one in libraries if one is not None)
    return isinstance(value, classes) and not getattr(value, "built", True)


# Objects --------------------------------------------------------------------------------------------------------------


def _has_attributes(value: Any) -> bool:
    try:
        return isinstance(object.__getattribute__(value, "__dict__"), dict)
    except AttributeError:
        return bool(read_slots(value))


def _find_table(owner: Any) -> dict[str, Any]:
    """The attributes of an object, past what its class makes of them; those in slots are no part of it."""
    try:
        table: dict[str, Any] = object.__getattribute__(owner, "__dict__")
    except AttributeError:
        return {}
    return table


def _keep_object(owner: Any) -> Iterable[Step]:
    if _is_unbuilt(owner):
        return ()
    table, slots = _find_table(owner), read_slots(owner)
    steps: list[Step] = [partial(restore_table, table, table.copy(), frozenset())] if table else []
    return [*steps, partial(restore_slots, owner, slots)] if slots else steps


def _list_in_object(owner: Any) -> Collection[Any]:
    if _is_unbuilt(owner):
        return ()
    found = [value for value in _find_table(owner).values() if type(value) not in ATOMS]
    found += [value for value in read_slots(owner).values() if type(value) not in ATOMS and value is not EMPTY]
    return [*found, type(owner)] if is_of_users(type(owner).__module__) else found


def restore_table(table: dict[str, Any], items: dict[str, Any], without: frozenset[str]) -> None:
    """Give a dictionary of attributes its former items; those in `without` stay as they are."""
    for name in table.keys() - items.keys() - without:  # those in `without` are never taken out, or might be lost
        table.pop(name, None)
    if [name for name in table if name not in without] != [*items]:  # attributes have an order
        for name in items:
            table.pop(name, None)
    table.update(items)


#: in the place of the value of a slot that has none
EMPTY = object()


def read_slots(owner: Any) -> dict[MemberDescriptorType, Any]:
    """The values of the attributes that the classes of an object name in `__slots__`: vars() has none of these."""
    return {slot: _read_slot(slot, owner) for slot in _find_slots(type(owner))}


def _find_slots(cls: type) -> list[MemberDescriptorType]:
    slotted = [vars(one).values() for one in cls.__mro__ if "__slots__" in vars(one)]
    return [one for values in slotted for one in values if isinstance(one, MemberDescriptorType)]


def _read_slot(slot: MemberDescriptorType, owner: Any) -> Any:
    try:
        return slot.__get__(owner)
    except AttributeError:
        return EMPTY


def restore_slots(owner: Any, slots: dict[MemberDescriptorType, Any]) -> None:
    """Give the attributes of an object in slots their former values."""
    for slot, value in slots.items():
        if value is not EMPTY:
            slot.__set__(owner, value)
        elif _read_slot(slot, owner) is not EMPTY:
            slot.__delete__(owner)


# Classes --------------------------------------------------------------------------------------------------------------


def _keep_class(cls: type) -> Iterable[Step]:
    table = {name: value for name, value in vars(cls).items() if name not in _OF_CLASSES}
    return (partial(_restore_class, cls, table),)


def _restore_class(cls: type, table: dict[str, Any]) -> None:
    """Give a class its former attributes, past what its own class makes of them."""
    for name in vars(cls).keys() - table.keys() - _OF_CLASSES:
        type.__delattr__(cls, name)
    for name, value in table.items():
        if vars(cls).get(name, _MISSING) is not value:
            type.__setattr__(cls, name, value)


def _list_in_class(cls: type) -> Collection[Any]:
    bases = [base for base in (*cls.__bases__, type(cls)) if is_of_users(base.__module__)]
    return [*(value for value in vars(cls).values() if type(value) not in ATOMS), *bases]


# Functions ------------------------------------------------------------------------------------------------------------


def _keep_function(function: FunctionType) -> Iterable[Step]:
    if not is_of_users(function.__module__):
        return
    yield partial(restore_table, vars(function), vars(function).copy(), frozenset())
    for cell in function.__closure__ or ():
        yield partial(_restore_cell, cell, _read_cell(cell))
    if _is_of_its_module(function):
        written, table = find_names(function.__code__).written, function.__globals__
        for name in written:
            yield partial(_restore_item, table, name, table.get(name, _MISSING))
        for module, names in _find_modules(function):
            for name in names & find_names(function.__code__).set_attributes:
                yield partial(_restore_item, vars(module), name, vars(module).get(name, _MISSING))


def _list_in_function(function: FunctionType) -> Collection[Any]:
    """What a function closes over, its defaults and attributes, and what it names of its module and of others."""
    if not is_of_users(function.__module__):
        return ()
    found = [_read_cell(cell) for cell in function.__closure__ or ()]
    found += [function.__defaults__, function.__kwdefaults__, *vars(function).values()]
    if _is_of_its_module(function):
        found += [function.__globals__.get(name) for name in find_names(function.__code__).read]
        found += [vars(module).get(name) for module, names in _find_modules(function) for name in names]
    return [value for value in found if type(value) not in ATOMS]


def _is_of_its_module(function: FunctionType) -> bool:
    """Whether the code of a function is of the user's module: that of one that a library decorated is the library's.

    What the code of an installed package names is not followed, which would lead through the whole of it.
    """
    is_installed = _INSTALLED.search(function.__code__.co_filename) is not None
    return not is_installed and is_of_users(function.__globals__.get("__name__"))


def _find_modules(function: FunctionType) -> Iterator[tuple[ModuleType, frozenset[str]]]:
    """(module, names) of the user's modules that a function names, with what else it names that they have."""
    read = find_names(function.__code__).read
    for name in read:
        variables = function.__globals__
        module = variables[name] if name in variables else sys.modules.get(name)  # imported in the function
        if isinstance(module, ModuleType) and is_of_users(module.__name__):
            yield module, frozenset(one for one in read if one in vars(module))


class Names:
    """What code names: variables of its module and attributes (read), and which of either it writes."""

    def __init__(self, code: CodeType) -> None:
        every = [*_list_codes(code)]
        self.read = frozenset(name for one in every for name in one.co_names)
        self.written = frozenset(name for one in every for name in _list_arguments(one, _WRITE_GLOBAL))
        self.set_attributes = frozenset(name for one in every for name in _list_arguments(one, _WRITE_ATTRIBUTE))


@lru_cache(maxsize=4096)
def find_names(code: CodeType) -> Names:
    """What code names, that of the functions in it included."""
    return Names(code)


def _list_arguments(code: CodeType, operations: frozenset[str]) -> Iterator[str]:
    """The names that operations of some code have as arguments. To list all that code does takes long."""
    if not {dis.opmap[name] for name in operations}.isdisjoint(code.co_code[::2]):
        yield from (one.argval for one in dis.get_instructions(code) if one.opname in operations)


def _list_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _list_codes(constant)


def _read_cell(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _restore_cell(cell: CellType, value: Any) -> None:
    if value is _MISSING:
        if _read_cell(cell) is not _MISSING:
            del cell.cell_contents
    elif _read_cell(cell) is not value:
        cell.cell_contents = value


def _restore_item(table: dict[str, Any], name: str, value: Any) -> None:
    if value is _MISSING:
        table.pop(name, None)
    elif table.get(name, _MISSING) is not value:
        table[name] = value


def _find_nothing(_: Any) -> tuple[()]:
    return ()


_OBJECT = Kind(_keep_object, _list_in_object)
_CLASS = Kind(_keep_class, _list_in_class)
#: one that is held as a value; of one that code names, what it names of it (see _list_in_function)
_MODULE = Kind(
    lambda module: (partial(restore_table, vars(module), dict(vars(module)), frozenset()),),
    lambda module: [value for name, value in vars(module).items() if not name.startswith("__")],
)
_TRACED = Kind(_find_nothing, lambda function: (function.python_function,))
#: code, and what holds it
_CODE: dict[type, Kind] = {
    FunctionType: Kind(_keep_function, _list_in_function),
    MethodType: Kind(_find_nothing, lambda method: (method.__func__, method.__self__)),
    partial: Kind(_find_nothing, lambda one: (one.func, one.args, one.keywords)),
    staticmethod: Kind(_find_nothing, lambda one: (one.__func__,)),
    classmethod: Kind(_find_nothing, lambda one: (one.__func__,)),
    property: Kind(_find_nothing, lambda one: (one.fget, one.fset, one.fdel)),
    cached_property: Kind(_find_nothing, lambda one: (one.func,)),
    functools._lru_cache_wrapper: Kind(_find_nothing, lambda one: (one.__wrapped__,)),
}
