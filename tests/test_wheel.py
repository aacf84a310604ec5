"""A built wheel holds both packages and their data, and works where it is unpacked, outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, cwd, **options):
    done = subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.sampled
def test_wheel(tmp_path):
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT), cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("gradtwin-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
        tags = archive.read(next(n for n in names if n.endswith(".dist-info/WHEEL"))).decode()
    for needed in (
        "scratch/recipe.py",
        "scratch/py.typed",
        "gradtwin/__init__.py",
        "gradtwin/py.typed",
        "keras_ref/py.typed",
        "scratch/layers/core.py",
        "keras_ref/frontends/command_line/cli.py",
        "keras_ref/lesson/assets/page.html",
        "keras_ref/reports/assets/style.css",
        "keras_ref/reports/assets/report.css",
        "keras_ref/translation/departures/losses.toml",
        "keras_ref/campaign/calls/not_called.toml",
        "keras_ref/campaign/faults/tf_linalg.toml",
        "keras_ref/translation/exceptions/__init__.py",
    ):
        assert needed in names
    assert not any(name.startswith(("tests", ".github", "keras_ref/face")) for name in names)
    assert any(name.endswith(".dist-info/licenses/.github/LICENSE") for name in names)
    assert (
        "gradtwin = keras_ref.frontends.command_line.command:main" in entry_points
        and "gradtwin = keras_ref.frontends.plugin.pytest_plugin" in entry_points
    )
    # a virtual environment need not have pip; to install a wheel of this kind is to unpack it
    assert "Root-Is-Purelib: true" in tags and not any(".data/" in name for name in names)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = (
        "import scratch, keras_ref, gradtwin; print(scratch.__file__, keras_ref.__file__, gradtwin.__file__); "
        "from keras_ref.translation import departures; print(len(departures.load_departures()))"
    )
    out = run("-c", code, cwd=tmp_path, env=environment)
    assert out.count(str(tmp_path / "site")) == 3
    assert int(out.splitlines()[-1]) > 0
    assert "1.556179450000008" in run("-m", "scratch.recipe", cwd=tmp_path, env=environment)
