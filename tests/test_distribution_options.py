"""--workers and --cluster: what they take, and that no report names a machine."""

import json

import pytest

from keras_ref.errors import CouldNotRun
from keras_ref.frontends.invocations.invocation import Invocation
from keras_ref.frontends.invocations.recorded import read_recorded
from keras_ref.options import require_legal

RIGHT = "distributed_targets:right"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": -1}, "--workers must be at least 0. Received: -1. Pass 0, say."),
        (
            {"cluster": "here"},
            "--cluster must be an address such as tcp://host:8786. Received: 'here'. Pass that of a Dask scheduler.",
        ),
    ],
)
def test_what_the_options_do_not_take(options, sentence):
    with pytest.raises(CouldNotRun) as refused:
        require_legal(options)
    assert str(refused.value) == sentence


def test_a_report_names_no_machine(tmp_path):
    """One that somebody sends cannot let a replay connect to an address."""
    file = tmp_path / "report.json"
    run = {"command": "check", "options": {"cluster": "tcp://elsewhere:8786"}}
    file.write_text(json.dumps({"run": run}))
    with pytest.raises(CouldNotRun, match="Received: 'check' with cluster"):
        read_recorded(str(file))
    spread = Invocation("check", (RIGHT,), "", {"workers": 4, "cluster": "tcp://here:8786", "effort": "full"})
    assert spread.replay() == f"gradtwin check {RIGHT} --effort full"
    assert spread.to_dict()["options"] == {"effort": "full"}
    assert spread.among(3).value("workers") == 1
