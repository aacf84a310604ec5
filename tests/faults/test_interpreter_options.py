"""Commands under options of Python: warnings that are errors, and nothing that is taken from the surroundings."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from shop_text import SHOP

from keras_ref import check_gradients, compare
from keras_ref.errors import BadInput
from keras_ref.own_modules import own_command

pytestmark = pytest.mark.sampled

ROOT = Path(__file__).parents[2]
#: the command where Python does not look for it by itself
START = """
import sys
sys.path[:0] = [sys.argv.pop(1)]
sys.argv[0] = "gradtwin"
from keras_ref.frontends.command_line.command import main
main()
"""


@dataclass(frozen=True)
class Verb:
    """A command, its status, what it says; and a command that is run before."""

    arguments: tuple[str, ...]
    status: int
    says: str
    first: tuple[str, ...] = ()


#: those that start processes are first
VERBS = {
    "isolate": Verb(("check", "opt_shop:build", "--isolate"), 0, "6 match"),
    "compare": Verb(("compare", "opt_shop:network", "opt_shop:network"), 0, "They agree"),
    "homework": Verb(("homework", "new"), 1, "0 of 6 submissions are right", ("homework", "--new", "new")),
    "workers": Verb(("check", "opt_shop:build", "--workers", "2"), 0, "6 match"),
    "campaign": Verb(("campaign", "keras.ops.square"), 0, "1 of 1 operations checked, 0 accused"),
    "minimise": Verb(("minimise", "opt_shop:wrong", "--time", "5s", "--isolate"), 1, "difference quotient"),
    "findings": Verb(("findings", "celu-has-slope-two-at-zero"), 0, "1 still there"),
    "JAX": Verb(("compare", "opt_shop:network", "keras-jax:opt_shop:network"), 0, "They agree"),
    "check": Verb(("check", "opt_shop:build"), 0, "6 match"),
    "digits": Verb(("check", "opt_shop:build", "--digits"), 0, "match"),
    "updates": Verb(("updates", "opt_shop:build"), 0, "match"),
    "locate": Verb(("locate", "opt_shop:build"), 0, "match"),
    "replay": Verb(("replay", "r.json"), 1, "as recorded", ("check", "opt_shop:wrong", "--json", "r.json")),
    "recipe": Verb(("recipe",), 0, "nudged"),
    "lesson": Verb(("lesson", "-o", "lesson.html"), 0, "open it in a browser"),
    "notebook": Verb(("lesson", "--notebook", "lesson.ipynb"), 0, "run it from top to bottom"),
    "coverage": Verb(("coverage",), 0, "loss 22/22"),
    "--version": Verb(("--version",), 0, "gradtwin"),
    "alone": Verb((), 0, "12 of 12 checks match"),
}
OPTIONS = {"warnings are errors": ("-W", "error"), "isolated": ("-I",), "each by itself": ("-E", "-s", "-P")}
#: what the default run takes
SAMPLE = {("warnings are errors", "homework"), ("isolated", "isolate"), ("each by itself", "compare")}
#: modules that nobody may take: they are where PYTHONPATH says
TRAP = "import os\nos.write(2, __name__.encode())\nos._exit(77)\n"
TRAPPED = ("json", "numpy", "tensorflow", "usercustomize", "sitecustomize")


def run(folder, options, arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    return subprocess.run(
        [sys.executable, *options, "-c", START, str(ROOT), *arguments],
        cwd=folder,
        env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def takes(options, name):
    slow = () if (options, name) in SAMPLE else pytest.mark.slow
    return pytest.param(OPTIONS[options], VERBS[name], marks=slow, id=f"{options}, {name}")


@pytest.mark.parametrize(("options", "verb"), [takes(options, name) for options in OPTIONS for name in VERBS])
def test_a_verb_under_options_of_python(options, verb, tmp_path):
    """It says what it says without them; so do all processes that it starts, which take nothing either."""
    (tmp_path / "opt_shop.py").write_text(SHOP)
    environment = {}
    if options != OPTIONS["warnings are errors"]:
        (tmp_path / "traps").mkdir()
        for name in TRAPPED:
            (tmp_path / "traps" / f"{name}.py").write_text(TRAP)
        environment["PYTHONPATH"] = str(tmp_path / "traps")
    if verb.first:
        assert run(tmp_path, options, verb.first, **environment).returncode in (0, 1)
    done = run(tmp_path, options, verb.arguments, **environment)
    assert (done.returncode, done.stderr) == (verb.status, "")
    assert verb.says in done.stdout


def model_and_data(layer):
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(optimizer="sgd", loss="mse")
    return model, np.ones((2, 2)), np.ones((2, 1))


def test_what_packages_are_warned_of_ends_no_verb():
    """NumPy warns of how Keras gives it a variable; the filters of warnings are what they were."""
    model, x, y = model_and_data(keras.layers.Dense(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        assert compare(model, model, x, y).ok
        assert check_gradients(model, x, y).ok
        assert warnings.filters == before


def test_a_warning_at_a_line_of_the_user_is_an_error():
    class Old(keras.layers.Dense):
        def call(self, x):
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            return super().call(x)

    model, x, y = model_and_data(Old(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BadInput, match=r"DeprecationWarning: .* old "):
            check_gradients(model, x, y)


@pytest.mark.parametrize(
    ("options", "isolating"),
    [
        (("-I",), ["-I"]),
        (("-E", "-s"), ["-E", "-s"]),
        (("-P",), ["-P"]),
        (("-O", "-W", "error::UserWarning", "-X", "utf8"), []),
        ((), []),
    ],
    ids=str,
)
def test_processes_have_the_options_of_this_one(options, isolating):
    """Those that keep Python from its surroundings, those of warnings, whether it asserts; a script the first alone."""
    program = f"""
import json, sys
sys.path[:0] = [{str(ROOT)!r}]
from keras_ref.own_modules import list_isolating_flags, own_command
print(json.dumps([own_command("m"), list_isolating_flags()]))
"""
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=True)
    command, for_scripts = json.loads(done.stdout)
    given = command[1 : command.index("-c")]
    wanted = [option for option in options if option not in ("-W", "-X")]
    assert all(any(option in one for one in given) for option in wanted), given
    assert for_scripts == isolating
    assert given[-1] == "-P"


def test_a_process_runs_this_gradtwin(tmp_path):
    """Also where another one is found first."""
    (tmp_path / "keras_ref").mkdir()
    (tmp_path / "keras_ref" / "__init__.py").write_text("raise RuntimeError")
    command = own_command("keras_ref", "--version", path=[str(tmp_path)])
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("gradtwin ")


def test_a_process_looks_where_it_is_told_to_first(tmp_path):
    command = own_command("told_module", "a", path=[str(tmp_path)])
    (tmp_path / "told_module.py").write_text("import sys; print(sys.argv[1:], sys.path[0])")
    said = subprocess.run([command[0], "-I", *command[1:]], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["['a']", str(tmp_path)]
