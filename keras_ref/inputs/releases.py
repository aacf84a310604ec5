"""Which releases are installed, whatever package brought them. Nothing is imported."""

from __future__ import annotations

from contextlib import suppress
from importlib import metadata

#: packages that bring a module of another name: of TensorFlow there are several builds
PACKAGES = {"tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-rocm", "tf-nightly")}


def find_version(name: str) -> str:
    """The installed release of a package, by the name of its main build; "" where there is none."""
    for package in PACKAGES.get(name, (name,)):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(package)
    return ""
