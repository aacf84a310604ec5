"""Hypothesis profiles and a quiet TensorFlow. `pytest --hypothesis-profile=dev|ci|shrink|nightly`; ci is the default."""

import os
import sys
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import pytest
from hypothesis import HealthCheck, Phase, settings

from keras_ref.inputs.targets import quiet_tensorflow

quiet_tensorflow()
pytest_plugins = ["pytester", "command_line", "lesson_pages"]

REACHED = pytest.StashKey[Counter]()
#: a run of a few tests is not about what it reached: so many options make a whole one
MANY = 500

COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
QUICK = [Phase.explicit, Phase.reuse, Phase.generate]
# ci does not shrink, which may take minutes for each failing test: `shrink` draws the same examples, and makes one small
settings.register_profile("ci", max_examples=25, derandomize=True, phases=QUICK, **COMMON)
settings.register_profile("shrink", max_examples=25, derandomize=True, **COMMON)
settings.register_profile("dev", max_examples=5, derandomize=True, phases=QUICK, **COMMON)
settings.register_profile("nightly", max_examples=500, **COMMON)
settings.load_profile("ci")


#: the tests that take longest, in the order in which they start: a worker that begins one at the end makes the other wait
HEAVY = (
    "test_gradient[ConvLSTM3D]",
    "test_gradient[Bidirectional]",
    "test_gradients_by_both_oracles",
    "test_gradient[ConvLSTM1D]",
    "test_planted_errors_are_caught_and_correct_gradients_are_not_accused",
    "test_gradient[LSTM]",
    "test_gradient[MultiHeadAttention]",
    "test_value[CTC]",
    "test_fit",
    "test_step[MultiOptimizer]",
    "test_step[ScheduleFreeAdamW]",
)


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(HEAVY)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[2], len(places)))


# The options that the examples of a run reached: every worker counts, and the terminal says what never came up.


def pytest_addoption(parser):
    parser.addoption("--reached", action="store_true", help="print which options the examples reached, and how often")


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None and "example_pools" in sys.modules:
        output["reached"] = [[*option, count] for option, count in sys.modules["example_pools"].COUNTED.items()]


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
