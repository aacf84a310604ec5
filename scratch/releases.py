"""Which releases are installed, whichever distribution brings a module. Nothing is imported.

A module and its distribution need not have one name: TensorFlow comes as `tensorflow`, `tensorflow-cpu` and others.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from importlib import metadata


@cache
def find_distribution(module: str) -> str:
    """The name of the installed distribution that brings a module: that of its own name first; "" where none does."""
    with suppress(metadata.PackageNotFoundError):
        metadata.version(module)
        return module
    return min(metadata.packages_distributions().get(module, ()), default="")


def find_version(module: str) -> str:
    """The installed release of a module; "" where there is none."""
    distribution = find_distribution(module)
    return metadata.version(distribution) if distribution else ""
