"""What is installed: the dependencies with either build of TensorFlow, and the releases that reports name."""

import sys
import tomllib
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from keras_ref.frontends.invocations.invocation import read_versions
from scratch import releases
from scratch.nudging import answers

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


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a distribution with a module in place of all others."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    kept = (releases.find_distribution, answers.list_software)

    def install(distribution, module, version):
        folder = tmp_path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (folder / "RECORD").write_text(f"{module}/__init__.py,,\n")
        (tmp_path / module).mkdir(exist_ok=True)  # Python 3.12 lists files that are there
        (tmp_path / module / "__init__.py").touch()
        for one in kept:
            one.cache_clear()

    yield install
    for one in kept:
        one.cache_clear()


@pytest.mark.parametrize("distribution", ["tensorflow", "tensorflow-cpu", "a-build-of-ones-own"])
def test_the_release_of_any_build_is_found(installed, distribution):
    """In reports, in scripts, and in what workers must have in common: a worker with another build rounds otherwise."""
    installed("keras", "keras", "3.99")
    installed(distribution, "tensorflow", "2.99.0")
    assert read_versions() == {"keras": "3.99", "tensorflow": "2.99.0"}
    built = "2.99.0" if distribution == "tensorflow" else f"2.99.0 ({distribution})"
    software = answers.list_software()
    assert (software["keras"], software["tensorflow"]) == ("3.99", built) and "numpy" not in software


def test_the_distribution_with_the_name_of_the_module_comes_first(installed):
    installed("a-plugin", "tensorflow", "1.0")
    installed("tensorflow", "tensorflow", "2.99.0")
    assert releases.find_version("tensorflow") == "2.99.0"
