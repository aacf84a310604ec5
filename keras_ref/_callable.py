"""`keras_ref.mirror` and `keras_ref.reflect` are modules by file and verbs by use: a module that can be called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def make_callable(name: str, verb: Callable[..., Any]) -> None:
    """Let the imported module `name` be called as its function `verb`."""

    class CallableModule(ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return verb(*arguments, **options)

    sys.modules[name].__class__ = CallableModule
