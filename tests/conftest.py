"""Hypothesis profiles (--hypothesis-profile=dev|ci|shrink|nightly, ci by default), processes and order of tests."""

import gc
import importlib
import os
import pkgutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

# 400 modules of this program and 240 of tests, which pytest rewrites: each process that a run starts reads what the
# first has compiled, wherever bytecode is switched off
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# half a million objects are made before the first test, and live as long as the process: none is looked at until then
gc.disable()

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import providers

import keras_ref
import scratch
from keras_ref.inputs.targets import quiet_tensorflow

quiet_tensorflow()

pytest_plugins = ["pytester", "command_line", "lesson_pages", "sampling"]

REACHED = pytest.StashKey[Counter]()
#: a run of a few tests is not about what it reached: so many options make a whole one
MANY = 500

COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
QUICK = [Phase.explicit, Phase.reuse, Phase.generate]
# ci does not shrink, which may take minutes for each failing test: `shrink` draws the same examples and does
settings.register_profile("ci", max_examples=25, derandomize=True, phases=QUICK, **COMMON)
settings.register_profile("shrink", max_examples=25, derandomize=True, **COMMON)
settings.register_profile("dev", max_examples=5, derandomize=True, phases=QUICK, **COMMON)
settings.register_profile("nightly", max_examples=500, **COMMON)
settings.load_profile("ci")

# Hypothesis draws numbers and strings that it finds in the source of every local module imported so far. Those of the
# product are imported before the first test; those that a test writes and imports would make the examples of later
# tests depend on whether, and when, it ran.
PRODUCT = tuple(Path(package.__path__[0]).resolve() for package in (keras_ref, scratch))
is_local = providers.is_local_module_file


def is_of_product(path: str) -> bool:
    """Whether constants in this file may be drawn."""
    return is_local(path) and any(Path(path).resolve().is_relative_to(folder) for folder in PRODUCT)


providers.is_local_module_file = is_of_product


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Every test begins with what Keras's layers compute in by default, whatever the one before has left."""
    import keras

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    if "tf_keras" in sys.modules:
        sys.modules["tf_keras"].backend.set_floatx("float32")


@pytest.fixture
def own_temporary_files(tmp_path, monkeypatch):
    """A folder for temporary files of this test alone, which is empty afterwards; nothing beside it has changed."""
    kept, place = tmp_path / "kept", tmp_path / "place"
    kept.mkdir(mode=0o750)
    place.mkdir()
    (kept / "file").write_text("mine")
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setenv("GRADTWIN_KEPT", str(kept))
    yield place
    left = list(place.iterdir())
    subprocess.run(["rm", "-rf", *left], check=True)  # pytest cannot remove folders of any depth
    assert left == []
    assert (list(kept.iterdir()), kept.stat().st_mode & 0o777) == ([kept / "file"], 0o750)


@pytest.fixture(autouse=True)
def no_conversion_fails(request):
    """Whatever a test checks, no rounding is estimated because a function was converted wrongly."""
    from keras_ref.evaluation.rounding_errors.rounding import ConversionFailed

    made = []

    def recording(error, *arguments):
        made.append(arguments)
        Exception.__init__(error, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConversionFailed, "__init__", recording)
        yield
    assert request.node.get_closest_marker("wrong_conversion") or not made, made


# Which tests run where, and in what order -----------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Two processes unless -n says otherwise, where pytest-xdist is there to have them (`-p no:xdist` works too), and
    nothing is timed. Coverage has decided by now how many processes there are: `pytest -n 2 --cov` measures in two."""
    plugins = config.pluginmanager
    if plugins.hasplugin("_cov") and config.option.numprocesses is None:
        return
    if plugins.hasplugin("xdist") and not plugins.hasplugin("benchmark") and not hasattr(config, "workerinput"):
        config.option.numprocesses = 2 if config.option.numprocesses is None else config.option.numprocesses
        config.option.dist = "worksteal" if config.option.dist == "no" else config.option.dist


def pytest_sessionstart(session):
    """Import every module where tests are run: not in a process that only hands them out to workers.

    pytester runs pytest in this process, and afterwards forgets every module that was imported there first: ours would
    then exist twice, one that a test patches and one that is run.
    """
    if getattr(session.config.option, "numprocesses", None) and not hasattr(session.config, "workerinput"):
        gc.enable()
        return
    for package in (keras_ref, scratch):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def pytest_collection_finish():
    """From here on garbage is collected again, among what tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


#: what takes longest, and starts first: a worker that begins it at the end makes the other wait
HEAVY = (
    "ConvLSTM3D",
    "StackedRNNCells",
    "test_sensitivity.py",
    "LSTM",
    "pages",
    "ConvLSTM2D",
    "Bidirectional",
    "test_training.py",
    "test_models.py",
    "test_any_model.py",
    "test_lesson.py",
    "test_proven_departures.py",
    "test_plugin.py",
    "test_plugin_targets.py",
    "test_eager_only.py",
    "test_readme.py",
    "test_noise_kinds.py",
    "test_cli_fronts.py",
    "test_homework.py",
    "test_cli.py",
    "test_jumps.py",
    "test_applications.py",
)


def share_of(item):
    """What tests share, so that one worker should run them one after the other: the Keras models of a definition, the
    pages of a lesson, or else whatever their module makes.
    """
    name = getattr(item, "callspec", None) and item.callspec.params.get("name")
    if isinstance(name, str):
        return name
    return "pages" if {"pages", "driver"} & set(getattr(item, "fixturenames", ())) else item.path.name


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put tests that share something together, the heaviest groups first; otherwise the order stays random."""
    groups = {}
    for item in items:
        groups.setdefault(share_of(item), []).append(item)
    places = {name: place for place, name in enumerate(HEAVY)}
    items[:] = [
        item for name in sorted(groups, key=lambda name: places.get(name, len(places))) for item in groups[name]
    ]


# The options that the examples of a run reached: every worker counts, and the terminal says what never came up.


def pytest_addoption(parser):
    parser.addoption("--reached", action="store_true", help="print which options the examples reached, and how often")


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None and "example_pools" in sys.modules:
        output["reached"] = [[*option, count] for option, count in sys.modules["example_pools"].COUNTED.items()]


@pytest.hookimpl(optionalhook=True)  # a hook of pytest-xdist
def pytest_testnodedown(node):
    for *option, count in getattr(node, "workeroutput", {}).get("reached", ()):
        node.config.stash.setdefault(REACHED, Counter())[tuple(option)] += count


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash.get(REACHED, Counter()) + getattr(sys.modules.get("example_pools"), "COUNTED", Counter())
    if not counts or not (config.option.reached or len(counts) > MANY):
        return
    import option_coverage

    seen = sorted({(kind, name) for kind, name, *_ in counts if name in option_coverage.registry.names(kind)})
    if config.option.reached:
        for kind, name in seen:
            for line in option_coverage.table(kind, name, counts):
                terminalreporter.write_line(line)
    never = [".".join(option) for kind, name in seen for option in option_coverage.unreached(kind, name, counts)]
    terminalreporter.write_line(
        f"options of {len(seen)} definitions: {len(never)} never came up" + (f": {', '.join(never)}" if never else "")
    )
