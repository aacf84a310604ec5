"""A run of the whole suite takes one in ten of the tests that cost much, drawn with the seed of the run.

Half of the tests take nine tenths of the time: 20 minutes of two processors in all. Those are marked `sampled`. Plain
`pytest` takes one in ten of them, `pytest --samples=rest --randomly-seed=last` takes the others, and CI runs both. A
run of named files, of `-k` or of what failed last takes all of what it names.

The share is one of all files, not rounded up in each: files with one to three such tests are those that start
processes, and one of each in every run took a sixth of its time.
"""

import random
from collections import defaultdict

import pytest

SHARE = 10


def draw_names(names, seed):
    """Every tenth of the names, from a random one on, in the order of modules and at random within each.

    That is one in ten of each module, rounded up or down, and the same for the same names and seed, in any order.
    """
    modules = defaultdict(list)
    for name in sorted(names):
        modules[name.partition("::")[0]].append(name)
    line = [
        name
        for module, inside in sorted(modules.items())
        for name in random.Random(f"{seed} {module}").sample(inside, len(inside))
    ]
    return set(line[random.Random(f"{seed}").randrange(SHARE) :: SHARE])


def pytest_addoption(parser):
    parser.addoption(
        "--samples",
        choices=["drawn", "rest", "all"],
        help=f"of the tests marked `sampled`: one in {SHARE}, the others, or all (default: drawn when the whole suite "
        "is run, all when files, -k or --lf say what to run)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Decide before workers are started: they are told which files to run, and not that nobody named them."""
    if config.option.samples is None:
        whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        named = config.option.keyword or getattr(config.option, "lf", False)
        config.option.samples = "drawn" if whole and not named else "all"


def pytest_report_header(config):
    taken = {"drawn": f"one in {SHARE}", "rest": "those that this seed does not draw", "all": "all"}
    return f"tests that cost much (--samples): {taken[config.option.samples]}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if config.option.samples == "all":
        return
    sampled = {item.nodeid for item in items if item.get_closest_marker("sampled")}
    drawn = draw_names(sampled, config.getoption("randomly_seed", 0))
    left = drawn if config.option.samples == "rest" else sampled - drawn
    if config.option.samples == "rest":
        left |= {item.nodeid for item in items} - sampled
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left])
    items[:] = [item for item in items if item.nodeid not in left]
