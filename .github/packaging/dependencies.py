"""The dependencies of gradtwin, with the package of TensorFlow that the environment variable GRADTWIN_TENSORFLOW names.

A dependency cannot say "tensorflow or tensorflow-cpu": both bring the same modules, and the second one that is
installed overwrites files of the first. So the choice is made when gradtwin is installed.
"""

from __future__ import annotations

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "GRADTWIN_TENSORFLOW"
#: what may be chosen; "" leaves TensorFlow out, for another build of it that is there already
PACKAGES = ("tensorflow", "tensorflow-cpu", "")


def choose(dependencies: list[str], package: str) -> list[str]:
    """The dependencies with another package in the place of tensorflow. Raises: ValueError for one that is none."""
    if package not in PACKAGES:
        raise ValueError(f"{VARIABLE} must be one of {', '.join(map(repr, PACKAGES))}. Received: {package!r}.")
    others = [one for one in dependencies if not one.startswith("tensorflow")]
    return others + [package + one.removeprefix("tensorflow") for one in dependencies if package and one not in others]


class Dependencies(MetadataHookInterface):
    """Hatchling calls this for [tool.hatch.metadata.hooks.custom] of pyproject.toml."""

    def update(self, metadata: dict[str, Any]) -> None:
        metadata["dependencies"] = choose(self.config["requirements"], os.environ.get(VARIABLE, "tensorflow"))
