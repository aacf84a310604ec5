"""pytest fixtures `check_gradients` and `check_updates`: the checks, failing the test on a finding.

Loading this plugin imports neither TensorFlow nor Hypothesis; the checks do, when first called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keras_ref.options import OPTIONS

SHARED = ("effort", "seed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--gradtwin-effort and the like, from the same table as the command line's options."""
    group = parser.getgroup("gradtwin", "gradient checks")
    for name in SHARED:
        option = OPTIONS[name]
        group.addoption(f"--gradtwin-{name}", type=option.type, default=option.default, choices=option.choices or None, help=option.help)


def _failing(request: pytest.FixtureRequest, verb: str, shared: tuple[str, ...]) -> Callable[..., Any]:
    defaults = {name: request.config.getoption(f"--gradtwin-{name}") for name in shared}

    def check(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        from keras_ref.target import quiet_tensorflow

        quiet_tensorflow()
        from keras_ref import checks

        replay = f"pytest {request.node.nodeid!r} --gradtwin-seed {options.get('seed', defaults['seed'])}"
        report = getattr(checks, verb)(*arguments, **{"replay": replay, **defaults, **options})
        if not report.ok:
            pytest.fail(report.explain(), pytrace=False)
        return report

    return check


@pytest.fixture
def check_gradients(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """keras_ref.check_gradients that fails the test with the six lines of each finding, and returns the report."""
    return _failing(request, "check_gradients", ("effort", "seed"))


@pytest.fixture
def check_updates(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """keras_ref.check_updates that fails the test with the six lines of each finding, and returns the report."""
    return _failing(request, "check_updates", ("seed",))
