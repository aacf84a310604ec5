"""From a failure to a script, by the command line and the pytest plugin."""

import json
import textwrap

import keras
import numpy as np
import pytest
from command_line import run_gradtwin
from model_kinds import Stepping

from keras_ref import minimise
from keras_ref.errors import CouldNotRun
from keras_ref.frontends.command_line import minimise_cli
from keras_ref.frontends.command_line.compare_cli import ComparisonRun
from keras_ref.minimisation.minimise import LINES, Minimised, NothingToMinimise
from keras_ref.minimisation.running import exit_status_of
from keras_ref.reports.comparison import Comparison
from keras_ref.reports.files import describe_writer
from keras_ref.reports.verdict import write_json_text

FOUND = Minimised(
    script="# gradtwin: a\nprint(1)\n", what="a", finding="mismatch", got=1.0, want=2.0, seconds=1.0, tried=3, checked=1
)


def test_the_command_prints_and_writes_the_script(tmp_path, monkeypatch):
    monkeypatch.setattr(minimise_cli, "open_subject", lambda *_: lambda *_: FOUND)
    file = tmp_path / "fault.py"
    done = run_gradtwin("minimise", "shop:model", "--script", str(file))
    assert done.status == 1 and done.out.startswith(FOUND.script) and "2 lines" in done.out
    assert file.read_text(encoding="utf-8") == FOUND.script
    assert run_gradtwin("minimise", "shop:model", "--script", str(file)).status == 1  # it is gradtwin's own
    file.write_text("import shop\n", encoding="utf-8")
    refused = run_gradtwin("minimise", "shop:model", "--script", str(file))
    assert refused.status == 2 and "--script must not name code" in refused.err
    assert file.read_text(encoding="utf-8") == "import shop\n"


def test_the_command_says_that_nothing_fails(monkeypatch):
    def nothing(*_):
        raise NothingToMinimise("A subject must fail.")

    monkeypatch.setattr(minimise_cli, "open_subject", lambda *_: nothing)
    done = run_gradtwin("minimise", "shop:model")
    assert (done.status, done.out) == (0, "A subject must fail.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["tensorflow.math.no_such"],
            "A target must be package.module:factory, a .keras file, a report or an operation.",
        ),
        (["no_such_module:model"], "no_such_module"),
        (["shop:model", "--time", "soon"], "soon"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments, said):
    done = run_gradtwin("minimise", *arguments)
    assert done.status == 2 and said in done.err and len(done.err.splitlines()) == 1


def test_a_check_minimises_at_once(monkeypatch):
    """`check --minimise` prints the script behind the report; a refusal is a sentence there."""
    shown = []
    monkeypatch.setattr(minimise_cli, "of_invocation", lambda *_: lambda *_: FOUND)
    monkeypatch.setattr(minimise_cli, "say", shown.append)
    minimise_cli.show_minimised(None, "shop:model", None)
    assert shown[0] == FOUND.script.rstrip("\n")

    def refuse(*_):
        raise CouldNotRun("No.")

    monkeypatch.setattr(minimise_cli, "of_invocation", lambda *_: refuse)
    minimise_cli.show_minimised(None, "shop:model", None)
    assert shown[-1] == "Not minimised: No."


@pytest.mark.parametrize("end", ["csv", "npz"])
def test_data_and_weights_of_samples_are_those_of_the_check(tmp_path, monkeypatch, end):
    """`--data` and what a factory returns reach the search as they reach the check, weights of samples too."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    x, y, weight = np.arange(6.0).reshape(3, 2), np.ones((3, 1)), np.array([1.0, 0.0, 2.0])
    path = str(tmp_path / f"data.{end}")
    if end == "npz":
        np.savez(path, x=x, y=y, sample_weight=weight)
    else:
        rows = np.column_stack([x, y, weight])
        np.savetxt(path, rows, delimiter=",", header="a,b,y,sample_weight", comments="")
    seen = []
    monkeypatch.setattr("keras_ref.minimisation.minimise.minimise", lambda *given, **more: seen.append((given, more)))
    monkeypatch.setattr(minimise_cli, "load_subject", lambda *_, **__: (model,))
    minimise_cli.open_subject("shop:build", "", minimise_cli.Asked(data=path))(1.0, None)
    monkeypatch.setattr(minimise_cli, "load_subject", lambda *_, **__: (model, x, y, weight))
    minimise_cli.open_subject("shop:build", "", minimise_cli.Asked())(1.0, None)
    for (subject, own_x, own_y), more in seen:
        assert subject is model and (own_x == x).all() and (own_y == y).all()
        assert (more["sample_weight"] == weight).all()
    assert len(seen) == 2


def test_a_comparison_that_somebody_has_edited(tmp_path):
    """A report of `compare` is read as `replay` reads it: valid, and no target of Python's own library."""
    right, parting = tmp_path / "right.json", {"command": "compare", "targets": ["scratch:a:b", "c:d"]}
    right.write_text(json.dumps({"run": parting}), encoding="utf-8")
    refused = run_gradtwin("minimise", str(right))
    assert refused.status == 2 and "A report to replay must be one that --json wrote" in refused.err
    found = Comparison(a="a", b="b").to_dict()
    run = ComparisonRun(a="keras:antigravity:geohash", b="c:d").to_dict()
    right.write_text(write_json_text({**describe_writer("compare"), **found, "run": run}), encoding="utf-8")
    refused = run_gradtwin("minimise", str(right))
    assert refused.status == 2 and "which is of Python's own library" in refused.err


WRONG = """
    import keras, numpy as np, tensorflow as tf

    @tf.custom_gradient
    def doubled(x):
        return x * 2.0, lambda upstream: upstream * 2.5

    class Doubled(keras.layers.Layer):
        def call(self, x):
            return doubled(x)

    def build():
        layers = [keras.Input((3,)), keras.layers.Dense(2, "tanh"), Doubled()]
        model = keras.Sequential(layers)
        model.compile(loss="mse")
        return model, np.ones((4, 3)) / 4, np.ones((4, 2)) / 8
"""


@pytest.mark.slow
def test_a_report_and_a_check_are_minimised(gradtwin):
    """The script of `check --minimise` is that of the recorded report, and that of the command in a process."""
    target = gradtwin.write_module("wrong_at_once", WRONG)
    done = gradtwin("check", target, "--minimise", "--json", "report.json")
    script = next(line for line in done.out.splitlines() if line.startswith("# gradtwin: "))
    assert done.status == 1 and "Doubled" in script
    for arguments in (["report.json"], [target, "--isolate"]):
        again = gradtwin("minimise", *arguments, "--script", "fault.py", "--force")
        assert again.status == 1 and again.out.startswith(script)
        assert exit_status_of((gradtwin.folder / "fault.py").read_text(encoding="utf-8"), seconds=120) == 1


@pytest.mark.slow
def test_a_failing_test_shows_the_script(pytester):
    pytester.makepyfile(textwrap.dedent(WRONG) + "\ndef test_wrong(check_gradients):\n    check_gradients(*build())\n")
    quiet = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "ignore")
    result = pytester.runpytest_inprocess(*quiet, "--gradtwin-minimise")
    result.assert_outcomes(failed=1)
    assert "# gradtwin: Doubled: autodiff is not the slope of what is computed." in result.stdout.str()


@pytest.mark.slow
def test_a_target_that_ends_its_process(gradtwin):
    target = gradtwin.write_module("ends_at_once", "import os\n\ndef build():\n    os.abort()\n")
    done = gradtwin("minimise", target, "--isolate")
    assert done.status == 2 and "whose process was killed by SIGABRT" in done.err


@pytest.mark.slow
def test_a_train_step_is_minimised():
    """What a train_step hands over is compared with the slope of the loss that it returns."""
    keras.utils.set_random_seed(3)
    model = Stepping(wrong=0.5)
    x, y = np.ones((4, 3)) / 4, np.ones((4, 2)) / 8
    model(x)
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    found = minimise(model, x, y, updates=True, steps=1)
    assert found.lines <= LINES and not found.notes and found.got / found.want > 1.4
    assert exit_status_of(found.script, seconds=120) == 1
