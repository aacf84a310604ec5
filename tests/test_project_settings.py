"""[tool.gradtwin] in pyproject.toml: read by every front, beneath what is given there, and refused in one sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ref.checks import gradients
from keras_ref.errors import CouldNotRun
from keras_ref.frontends.invocations import variable_names, verbs
from keras_ref.frontends.invocations.invocation import TAKES, Invocation, build_default_map
from keras_ref.inputs import targets
from keras_ref.options import OPTIONS, SETTINGS, SharedExpectations, make_keywords, read_settings
from keras_ref.reports.verdict import Report, Verdict

SHOP = """
import keras

def build():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,), name="table"), keras.layers.Dense(2, name="encoder")], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model
"""
PROJECT = """
[tool.gradtwin]
effort = "full"
seed = 7
variables = "encoder/*"
training = true
mode = "eager,function"
expect = ["quant*/kernel=surrogate"]
allow = "undecided"
steps = 5
"""


@pytest.fixture
def seen(monkeypatch):
    """The options that check_gradients was called with, in the place of its work."""
    found = []

    def check(model, x, y=None, **options):
        found.append(options)
        return Report(model.name, (Verdict("shop/encoder/bias", "forward", "undecided", 4, 4, visible=1e-9),))

    monkeypatch.setattr(gradients, "check_gradients", check)
    return found


def test_the_command_line(gradtwin, tmp_path, seen):
    gradtwin.write_module("settings_shop", SHOP)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    status, out, err = gradtwin("check", "settings_shop:build", "--json", "a.json")
    assert (status, err) == (0, ""), out
    assert {name: seen[0][name] for name in ("effort", "seed", "variables", "training", "modes", "expect")} == {
        "effort": "full",
        "seed": 7,
        "variables": "encoder/*",
        "training": True,
        "modes": ("eager", "function"),
        "expect": {"quant*/kernel": "surrogate"},
    }
    assert isinstance(seen[0]["expect"], SharedExpectations)  # it may be about another model of the project
    options = json.loads((tmp_path / "a.json").read_text())["run"]["options"]
    assert options["allow"] == ["undecided"] and "steps" not in options
    gradtwin("check", "settings_shop:build", "--seed", "0", "--effort", "auto", "--no-training")
    assert {name: seen[1][name] for name in ("effort", "seed", "training")} == {
        "effort": "auto",
        "seed": 0,
        "training": False,
    }
    words = seen[1]["replay"].split()  # which says what differs from the project's settings, too
    assert {"--no-training", "--effort", "--seed"} <= {*words}
    (tmp_path / "below").mkdir()
    assert read_settings(tmp_path / "below") == read_settings(tmp_path)


def stub_pytest(monkeypatch):
    """In the place of loading and checking: what each is called with, as a note."""

    def check(subject, *, seed=0, effort="auto", training=False, modes=(), expect=(), variables="*", replay=""):
        text = f"{effort} {seed} {training} {modes} {expect} {variables}"
        return Report("stub", (Verdict("v", "forward", "undecided", 4, 4, visible=1e-9),), (text,), seed, replay)

    def run(invocation, target, progress=None, loaded=None, executor=None):
        verdict = Verdict("v", "forward", "match", 4, 4, visible=1e-9)
        return Report(target, (verdict,), (f"{dict(invocation.options)}",))

    monkeypatch.setattr(verbs, "find_check", lambda verb: check)
    monkeypatch.setattr(targets, "load_target", lambda target: ("model", "x", "y", None))
    monkeypatch.setattr(variable_names, "list_variable_names", lambda model, x, seed: ["v"])
    monkeypatch.setattr(Invocation, "run", run)


def test_pytest_fixtures_and_targets(pytester, monkeypatch):
    pytester.makepyprojecttoml(PROJECT)
    stub_pytest(monkeypatch)
    pytester.makepyfile(
        """
def test_fixture(check_gradients):
    print(check_gradients("model").notes[0])

def test_own(check_gradients):
    print(check_gradients("model", effort="fast", seed=1, training=False, variables="*").notes[0])
"""
    )
    quiet = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "ignore")
    result = pytester.runpytest_inprocess(*quiet, "-rP", "--gradtwin", "m:build", "--gradtwin-json", "all.json")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "full 7 True ('eager', 'function') {'quant[*]/kernel': 'surrogate'} encoder/[*]",
            "fast 1 False ('eager', 'function') {'quant[*]/kernel': 'surrogate'} [*]",
        ]
    )
    reports = {one["test"]: one for one in json.loads((pytester.path / "all.json").read_text())["reports"]}
    options = reports["gradtwin::m:build::v"]["notes"][0]
    assert all(word in options for word in ("'effort': 'full'", "'seed': 7", "'mode': 'eager,function'"))


REFUSED = {
    "a key that is none": (
        'efort = "full"',
        (
            "[tool.gradtwin] must have options that a project may set. Received: 'efort' in {}. Choose from "
            f"{', '.join(SETTINGS)}."
        ),
    ),
    "a permission": ("unsafe = true", "[tool.gradtwin] must have options that a project may set. Received: 'unsafe'"),
    "a word that is none": (
        'effort = "some"',
        "[tool.gradtwin] in {}: --effort must be one of auto, full, fast. Received: 'some'. Choose one of them.",
    ),
    "words where one is taken": (
        'backend = "jax,torch"',
        "[tool.gradtwin] in {}: --backend must be one of tensorflow, jax, torch. Received: 'jax,torch'. Choose one",
    ),
    "no samples": ("batch-size = -1", "[tool.gradtwin] in {}: --batch-size must be at least 0. Received: -1. Pass 0,"),
    "a text for a number": (
        'seed = "3"',
        "seed in [tool.gradtwin] must be a whole number. Received: '3' in {}. Correct it.",
    ),
    "a truth for a number": ("steps = true", "steps in [tool.gradtwin] must be a whole number. Received: True in {}"),
    "numbers for texts": ("allow = [1]", "allow in [tool.gradtwin] must be a text, or a list of them. Received: [1]"),
    "a time that is none": ('time-limit = "soon"', "[tool.gradtwin] in {}: --time-limit must be a time such as 60s"),
    "no steps": ("steps = 0", "[tool.gradtwin] in {}: --steps must be at least 1. Received: 0. Pass 3, say."),
    "no table": ("\n[tool]\ngradtwin = 3", "tool.gradtwin must be a table. Received: 3 in {}. Write [tool.gradtwin]."),
    "no TOML": ("seed =", "pyproject.toml must be TOML. Received: {}: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence_by_every_front(gradtwin, tmp_path, name):
    text, sentence = REFUSED[name]
    file = tmp_path / "pyproject.toml"
    file.write_text(text if "[tool]" in text else f"[tool.gradtwin]\n{text}\n")
    expected = sentence.format(file)
    with pytest.raises(CouldNotRun) as caught:
        read_settings(tmp_path)
    assert str(caught.value).startswith(expected) and "\n" not in str(caught.value)
    status, out, err = gradtwin("check", "m:build")
    assert (status, out) == (2, "")
    assert err.startswith(f"gradtwin: {expected}") and err.count("\n") == 1


def test_pytest_refuses_them_before_a_test_runs(pytester):
    pytester.makepyprojecttoml("[tool.gradtwin]\nefort = 1\n")
    pytester.makepyfile("def test_it(): open('ran', 'w')")
    result = pytester.runpytest_inprocess(
        "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "ignore"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: * Received: 'efort' in *"])
    assert not (pytester.path / "ran").exists()


def values_of(name):
    """Values that an option takes."""
    option = OPTIONS[name]
    known = {
        "budget": st.sampled_from(["60s", "5m"]),
        "time-limit": st.sampled_from(["60s", "1h"]),
        "memory-limit": st.sampled_from(["500M", "8G"]),
        "expect": st.sampled_from(["a*=surrogate", "b=stop_gradient"]),
        "cluster": st.sampled_from(["tcp://host:8786", "tls://10.0.0.1:1"]),
        "variables": st.sampled_from(["*", "dense/*"]),
    }
    of_type = {
        bool: st.booleans(),
        int: st.integers(1, 9),
        str: known[name] if name in known else st.sampled_from(option.choices),
    }
    one = of_type[option.type]
    return st.lists(one, min_size=1, max_size=2).map(tuple) if option.many else one


@given(st.data())
def test_every_option_goes_its_way_through_the_command(data):
    """What a project sets is what a command has that is told nothing, can be typed again, and has a keyword."""
    names = data.draw(st.sets(st.sampled_from(SETTINGS)))
    settings = {name: data.draw(values_of(name)) for name in sorted(names)}
    for command, takes in TAKES.items():
        defaults = build_default_map(settings)[command]
        given_ = {name.replace("-", "_"): OPTIONS[name].default for name in takes if name != "import"}
        made = Invocation.of(
            command, targets=["m:f"], data="", project=settings, **{"imports": [], **given_, **defaults}
        )
        assert made.options == {name: value for name, value in settings.items() if name in takes}
        again = [word.removeprefix("--").removeprefix("no-") for word in made.argv() if word.startswith("--")]
        assert {*again} == {*made.options}
    assert len(make_keywords(settings)) == len(settings)
