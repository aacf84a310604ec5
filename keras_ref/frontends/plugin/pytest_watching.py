"""A test run with targets is watched: where a target, or a test, ends the process of pytest, pytest begins again
without it, and there is a failed test in its place.

Only a run that names targets is watched (--gradtwin, or gradtwin_targets), on Linux, in one process (pytest-xdist sees
by itself when a worker dies), and without coverage, which writes its data where the process ends.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from keras_ref.frontends.invocations.watching import Journal, can_watch, watch

JOURNAL: pytest.StashKey[Journal] = pytest.StashKey()


def list_targets(config: pytest.Config) -> list[str]:
    """The targets of a test run: those of the ini file where no tests are named, and those of --gradtwin."""
    names_tests = config.args_source is pytest.Config.ArgsSource.ARGS
    listed = [] if names_tests else config.getini("gradtwin_targets")
    return [*listed, *config.getoption("--gradtwin")]


def find_dead_targets(config: pytest.Config) -> dict[str, str]:
    """{name of a target or test that has ended the process of pytest: sentence}."""
    return config.stash[JOURNAL].dead if JOURNAL in config.stash else {}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Go on in a child process, and watch it from here."""
    option = config.option
    is_distributed = getattr(option, "numprocesses", None) or hasattr(config, "workerinput")
    is_plain = not (is_distributed or getattr(option, "help", False) or option.collectonly)
    if not (is_plain and list_targets(config) and can_watch()) or config.pluginmanager.hasplugin("_cov"):
        return None
    journal = config.stash[JOURNAL] = Journal()
    status = watch(journal)
    if status is not None:
        journal.close()
    return status


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of the journal."""
    if JOURNAL in config.stash:
        config.stash[JOURNAL].close()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Write down which test is running: that of a variable is its target's."""
    journal = item.config.stash.get(JOURNAL, None)
    if journal is None:
        return (yield)
    with journal.running(item.parent.name if is_variable(item) and item.parent is not None else item.nodeid):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that has ended the process before."""
    sentence = find_dead_targets(item.config).get(item.nodeid)
    if sentence is not None:
        pytest.fail(sentence, pytrace=False)


def is_variable(item: pytest.Item) -> bool:
    """Whether a test is that of a variable of a target."""
    return item.nodeid.startswith("gradtwin::")
