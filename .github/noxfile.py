"""Each release of TensorFlow that is supported with a Keras of its time: `nox -f .github/noxfile.py`.

A session installs gradtwin there (2.4 GB, removed afterwards), runs it, and runs the kinds of model, right and planted.
The pythons are looked for by name (python3.11, …). docs/pipeline.md has the table of the last run.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import nox

ROOT = Path(__file__).resolve().parents[1]


class Releases(NamedTuple):
    """What is tested together; a release of TensorFlow has a tf_keras of the same number."""

    python: str
    tensorflow: str
    keras: str


ENVIRONMENTS = (
    Releases("3.11", "2.18", "3.6"),
    Releases("3.12", "2.19", "3.9"),
    Releases("3.12", "2.20", "3.11"),
    Releases("3.13", "2.21", "3.15"),
)


def check_kinds(session: nox.Session, releases: Releases) -> None:
    """The command by itself, and tests/test_any_model.py."""
    pins = [f"{name}=={release}.*" for name, release in zip(releases._fields, releases, strict=True)][1:]
    session.install(str(ROOT), *pins, f"tf_keras=={releases.tensorflow}.*", "pytest", "hypothesis")
    session.run("gradtwin")
    session.run("pytest", "-p", "no:cacheprovider", str(ROOT / "tests" / "test_any_model.py"), *session.posargs)
    shutil.rmtree(session.virtualenv.location)


for environment in ENVIRONMENTS:
    nox.session(python=environment.python, name=f"tensorflow-{environment.tensorflow}", venv_backend="venv")(
        lambda session, releases=environment: check_kinds(session, releases)
    )
