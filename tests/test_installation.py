"""What is installed: the dependencies with either build of TensorFlow, and the releases that reports name."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from keras_ref.frontends.invocations.invocation import read_versions
from keras_ref.inputs import releases

ROOT = Path(__file__).parents[1]
LISTED = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]["hooks"]
VARIABLE = "GRADTWIN_TENSORFLOW"


def dependencies():
    """The dependencies that a wheel built here and now would have."""
    return ProjectMetadata(str(ROOT), PluginManager()).core.dependencies


def test_tensorflow_is_installed_by_default(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert sorted(dependencies()) == sorted(LISTED["custom"]["requirements"])
    assert sum(one.startswith("tensorflow>=") for one in dependencies()) == 1


@pytest.mark.parametrize("package", ["tensorflow-cpu", ""])
def test_another_build_takes_its_place(monkeypatch, package):
    """With the same bounds; nothing else changes."""
    monkeypatch.delenv(VARIABLE, raising=False)
    before = dependencies()
    (tensorflow,) = (one for one in before if one.startswith("tensorflow"))
    monkeypatch.setenv(VARIABLE, package)
    new = [tensorflow.replace("tensorflow", package)] if package else []
    assert sorted(dependencies()) == sorted([one for one in before if one != tensorflow] + new)


def test_a_package_that_is_no_tensorflow_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "tensorflow @ https://example.org/x.whl")
    with pytest.raises(ValueError, match="GRADTWIN_TENSORFLOW must be one of 'tensorflow', 'tensorflow-cpu', ''"):
        dependencies()


@pytest.mark.parametrize("package", ["tensorflow", "tensorflow-cpu", "tf-nightly"])
def test_a_report_names_the_release_of_any_build(monkeypatch, package):
    present = {package: "2.99.0", "keras": "3.99"}

    def version(name):
        if name not in present:
            raise metadata.PackageNotFoundError(name)
        return present[name]

    monkeypatch.setattr(releases.metadata, "version", version)
    assert read_versions() == {"keras": "3.99", "tensorflow": "2.99.0"}
