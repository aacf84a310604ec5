"""The GitHub Action and the pre-commit hook, offline: every step of theirs that is a command is executed.

A runner's files and folders are in a temporary folder. The programs of the action's environment are stand-ins: pip
writes down how it is called, and gradtwin has reports without Keras.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from stubbed_checks import STUBS
from tested_projects import DOUBLED

yaml = pytest.importorskip("yaml", reason="PyYAML is in the extra `test`")

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "actions" / "gradtwin"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
DEFAULTS = {name: given.get("default", "") for name, given in ACTION["inputs"].items()}
SHOP = "\n\ndef right():\n    raise SystemExit  # a stand-in is checked\n\n\n@str\ndef wrong():\n    raise SystemExit\n"
#: a program that writes down its arguments, and the variable that pip is to see
WRITES_DOWN = f"""#!{sys.executable}
import json, os, pathlib, sys
with open(pathlib.Path(__file__).parent / "calls.json", "a") as file:
    print(json.dumps([sys.argv[1:], os.environ.get("GRADTWIN_TENSORFLOW")]), file=file)
"""
GRADTWIN = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
{STUBS}
from keras_ref.frontends.command_line import cli
cli.main()
"""


@dataclass(frozen=True)
class Runner:
    """A runner of GitHub Actions: a workspace with a project, and a folder for everything else."""

    workspace: Path
    temporary: Path

    @property
    def programs(self):
        return self.temporary / "gradtwin-environment" / "bin"

    @property
    def calls(self):
        return [json.loads(line) for line in (self.programs / "calls.json").read_text(encoding="utf-8").splitlines()]

    @property
    def summary(self):
        return (self.temporary / "summary.md").read_text(encoding="utf-8")

    def write_program(self, name, text):
        self.programs.mkdir(parents=True, exist_ok=True)
        (self.programs / name).write_text(text, encoding="utf-8")
        (self.programs / name).chmod(0o755)

    def environment(self, output):
        (self.temporary / "event.json").write_text("{}", encoding="utf-8")
        return {
            **os.environ,
            "PATH": f"{self.temporary}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(FOLDER),
            "GITHUB_EVENT_PATH": str(self.temporary / "event.json"),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_STEP_SUMMARY": str(self.temporary / "summary.md"),
            "GITHUB_WORKSPACE": str(self.workspace),
            "RUNNER_TEMP": str(self.temporary),
        }

    def run(self, **given):
        """Run the steps of the action that are commands, up to one that fails. Returns (outputs by step, the last)."""
        inputs = {**DEFAULTS, **{name.replace("_", "-"): value for name, value in given.items()}}
        assert set(inputs) == set(DEFAULTS), "the action has no such input"
        values = {f"inputs.{name}": value for name, value in inputs.items()}
        done = None
        for number, step in enumerate(ACTION["runs"]["steps"]):
            if "run" not in step:
                continue
            output = self.temporary / f"output-{number}"
            output.touch()
            passed = {name: fill(text, values) for name, text in step["env"].items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.workspace / fill(step["working-directory"], values),
                env={**self.environment(output), **passed},
                capture_output=True,
                text=True,
                check=False,
            )
            for name, _, value in (line.partition("=") for line in output.read_text(encoding="utf-8").splitlines()):
                values[f"steps.{step['id']}.outputs.{name}"] = value
            if done.returncode:
                break
        return values, done


def fill(text, values):
    """A text with the expressions of a workflow in it replaced."""
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda found: values[found[1]], text)


@pytest.fixture
def runner(tmp_path):
    made = Runner(tmp_path / "workspace", tmp_path / "temporary")
    for folder in (made.workspace, made.temporary):
        folder.mkdir()
    (made.temporary / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    (made.temporary / "python").chmod(0o755)
    (made.workspace / "shop.py").write_text(SHOP, encoding="utf-8")
    made.write_program("python", WRITES_DOWN)
    made.write_program("gradtwin", GRADTWIN)
    return made


@pytest.mark.sampled
def test_a_check_with_a_finding(runner):
    values, done = runner.run(targets="shop:right\nshop:wrong", options="--seed 3")
    assert done.returncode == 1, done.stderr
    assert values["steps.check.outputs.status"] == "1"
    reports = Path(values["steps.check.outputs.reports"])
    assert {path.name for path in reports.iterdir()} == {"1.json", "1.html", "2.json", "2.html"}
    read = [json.loads((reports / f"{number}.json").read_text(encoding="utf-8")) for number in (1, 2)]
    assert [(one["ok"], one["replay"]) for one in read] == [
        (True, "gradtwin check shop:right --seed 3"),
        (False, "gradtwin check shop:wrong --seed 3"),
    ]
    errors = [line for line in done.stdout.splitlines() if line.startswith("::error ")]
    line = SHOP.splitlines().index("def wrong():") + 1
    assert [error.partition("::verdict")[0] for error in errors] == [
        f"::error file=shop.py,line={line},title=gradtwin%3A {kind} in {name}"
        for kind, name in (("mismatch", "v1"), ("nan", "v2"))
    ]
    titles = re.findall("^### .*$", runner.summary, flags=re.MULTILINE)
    assert titles == ["### ✅ gradtwin: `shop:right`", "### ❌ gradtwin: `shop:wrong`"]
    assert runner.calls == [[["-m", "pip", "install", "--quiet", str(ROOT)], "tensorflow"]]


@pytest.mark.sampled
def test_nothing_found(runner):
    values, done = runner.run(targets="shop:right", options="", tensorflow="tensorflow-cpu", install="-r 'a b.txt' x")
    assert (done.returncode, values["steps.check.outputs.status"]) == (0, "0"), done.stderr
    assert runner.calls == [[["-m", "pip", "install", "--quiet", str(ROOT), "-r", "a b.txt", "x"], "tensorflow-cpu"]]


@pytest.mark.parametrize(
    ("files", "installed"),
    [
        (("pyproject.toml", "requirements.txt"), ["."]),
        (("setup.py",), ["."]),
        (("requirements.txt",), ["-r", "requirements.txt"]),
    ],
)
def test_the_project_is_installed(runner, files, installed):
    runner.write_program("gradtwin", "#!/bin/sh\n")
    (runner.workspace / "below").mkdir()
    for name in files:
        (runner.workspace / "below" / name).write_text("numpy\n", encoding="utf-8")
    _, done = runner.run(targets="shop:right", working_directory="below")
    assert done.returncode == 0, done.stderr
    assert runner.calls[0][0][5:] == installed


@pytest.mark.sampled
def test_the_key_of_the_cache(runner):
    """It changes with what is installed, and with nothing else."""
    runner.write_program("gradtwin", "#!/bin/sh\n")

    def key(**given):
        return runner.run(targets="shop:right", options="", **given)[0]["steps.environment.outputs.key"]

    first = key()
    assert first == key(artifact="other")
    (runner.workspace / "requirements.txt").write_text("numpy\n", encoding="utf-8")
    (runner.workspace / "more.txt").write_text("scipy\n", encoding="utf-8")
    keys = [first, key(), key(tensorflow="tensorflow-cpu"), key(install="-r more.txt")]
    (runner.workspace / "more.txt").write_text("scipy<2\n", encoding="utf-8")
    keys.append(key(install="-r more.txt"))
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"gradtwin-[\w-]+", one) for one in keys)


def test_a_failing_installation_is_the_end(runner):
    runner.write_program("python", "#!/bin/sh\nexit 3\n")
    values, done = runner.run(targets="shop:right")
    assert done.returncode == 3
    assert "steps.check.outputs.status" not in values


@pytest.mark.parametrize(("ends", "status"), [("exit 2", 2), ("kill -9 $$", 137), ("exit 130", 130)])
def test_the_worst_status_is_the_last(runner, ends, status):
    runner.write_program("gradtwin", f'#!/bin/sh\ncase "$*" in *:right) exit 0;; esac\n{ends}\n')
    values, done = runner.run(targets="shop:right shop:wrong shop:right")
    assert (done.returncode, values["steps.check.outputs.status"]) == (status, str(status))


@pytest.mark.sampled
def test_no_target_is_no_success(runner):
    _, done = runner.run(targets=" \n ", options="")
    assert done.returncode == 2
    assert "Missing argument 'TARGET'" in done.stderr
    assert "### ❌ gradtwin could not run" in runner.summary


HOSTILE = "$(touch owned) `touch owned` ;touch owned &&touch owned |tee owned ${{github.token}} --unsafe '::error::x y'"


@pytest.mark.sampled
def test_inputs_are_never_run(runner):
    """What an input holds arrives as words; of a target none is an option."""
    runner.write_program("gradtwin", WRITES_DOWN)
    _, done = runner.run(targets=HOSTILE, options="--seed '$(touch owned)'", install="'x; touch owned'")
    assert done.returncode == 0, done.stderr
    calls = [words for words, _ in runner.calls]
    assert calls[0][-1] == "x; touch owned"
    assert all(words[:3] == ["check", "--seed", "$(touch owned)"] and words[-2] == "--" for words in calls[1:])
    assert [words[-1] for words in calls[1:]] == shlex.split(HOSTILE)
    assert not list(runner.workspace.parent.rglob("owned"))
    assert not done.stdout


def test_no_expression_is_part_of_a_script():
    """An input in the text of a script would be run."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    outputs = [given["value"] for given in ACTION["outputs"].values()]
    ids = {step.get("id") for step in ACTION["runs"]["steps"]}
    named = re.findall(r"steps\.([\w-]+)\.", json.dumps([ACTION["runs"]["steps"], outputs]))
    assert set(named) <= ids
    assert set(re.findall(r"inputs\.([\w-]+)", json.dumps(ACTION["runs"]["steps"]))) == set(ACTION["inputs"])


# The workflow of the README, and the hook ----------------------------------------------------------------------------


def test_the_readme_needs_five_lines():
    (snippet,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(snippet.splitlines()) <= 5
    checkout, use = yaml.safe_load(snippet)
    assert checkout["uses"].startswith("actions/checkout@")
    assert use["uses"] == f"./gradtwin/{FOLDER.relative_to(ROOT)}"
    assert set(use["with"]) <= set(ACTION["inputs"])
    assert {name for name, given in ACTION["inputs"].items() if given.get("required")} <= set(use["with"])


MODELS = (
    """
import keras, tensorflow as tf
"""
    + DOUBLED
    + """
def build(*layers):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), *layers])
    model.compile(loss="mse")
    return model

def wrong():
    return build(Doubled())
"""
)


@pytest.mark.sampled
def test_the_hook(gradtwin):
    """Its entry, with the arguments that a project gives it, checks them."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {"id", "name", "entry", "language"} <= set(hook)
    assert hook["pass_filenames"] is False  # a target is no file of the commit
    program, *words = shlex.split(hook["entry"])
    assert program == "gradtwin"
    gradtwin.write_module("hooked_models", MODELS)
    assert gradtwin(*words, "hooked_models:build").status == 0
    status, out, _ = gradtwin(*words, "hooked_models:build", "hooked_models:wrong")
    assert status == 1
    assert "verdict    mismatch" in out
