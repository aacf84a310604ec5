"""From a failure to a script, by the command line and the pytest plugin."""

import textwrap

import keras
import numpy as np
import pytest
from command_line import run_gradtwin
from model_kinds import Stepping

from keras_ref import minimise
from keras_ref.errors import CouldNotRun
from keras_ref.frontends.command_line import minimise_cli
from keras_ref.minimisation.minimise import LINES, Minimised, NothingToMinimise
from keras_ref.minimisation.running import exit_status_of

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
