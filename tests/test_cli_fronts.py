"""The command line in a pipeline: JSON and replay, isolated targets, GitHub Actions, declared surrogates, refusals
before the work.
"""

import json

import keras
import numpy as np
import pytest

from keras_ref.frontends import cli
from keras_ref.reports.verdict import Report, Verdict

SHOP = """
import os
import keras
import numpy as np
import tensorflow as tf

@tf.custom_gradient
def rounded(x):
    return tf.round(x * 4.0) / 4.0, lambda upstream: upstream

class Quant(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2), name="kernel")

    def call(self, x):
        return x @ rounded(tf.convert_to_tensor(self.kernel))

class Dies(keras.layers.Layer):
    def call(self, x):
        if not isinstance(x, keras.KerasTensor):
            tf.py_function(os.abort, [], [])
        return x

def build(*layers):
    keras.utils.set_random_seed(1)
    encoder = keras.layers.Dense(2, "tanh", name="encoder")
    model = keras.Sequential([keras.Input((3,), name="table"), encoder, *layers], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model

def quantized():
    return build(Quant(name="quant"))

def dies():
    return build(Dies())

def with_data():
    return build(), np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8

def of_batches():
    _, x, y = with_data()
    return build(), tf.data.Dataset.from_tensor_slices((x, y)).batch(2)

def too_much():
    return build(), 1, 2, 3, 4
"""


@pytest.fixture
def run(gradtwin):
    """Run the command in a folder with the module fronts_shop."""
    gradtwin.write_module("fronts_shop", SHOP)
    return gradtwin


def test_a_report_is_replayed_and_says_what_changed(run, tmp_path):
    np.savez("data.npz", x=np.arange(12.0).reshape(4, 3) / 8, y=np.arange(8.0).reshape(4, 2) / 8)
    status, _, _ = run(
        "check",
        "fronts_shop:quantized",
        "--data",
        "data.npz",
        "--seed",
        "3",
        "--variables",
        "quant/*",
        "--json",
        "report.json",
    )
    assert status == 1
    written = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert written["run"]["command"] == "check" and written["run"]["targets"] == ["fronts_shop:quantized"]
    assert written["run"]["options"] == {"variables": "quant/*", "seed": 3} and written["run"]["data"] == "data.npz"
    assert written["run"]["versions"]["keras"] == keras.__version__ and list(written["run"]["files"]) == ["data.npz"]
    assert [(v["name"], v["verdict"], v["visible"]) for v in written["verdicts"]] == [
        ("shop/quant/kernel", "mismatch", "nan")
    ]

    status, out, err = run("replay", "report.json")
    assert (status, err) == (1, "") and out.endswith("\nThe same 1 verdicts as recorded.\n")
    assert "replay     gradtwin check fronts_shop:quantized --data data.npz --variables 'quant/*' --seed 3" in out
    np.savez("data.npz", x=np.arange(12.0).reshape(4, 3), y=np.arange(8.0).reshape(4, 2) / 8)
    written["run"]["versions"]["numpy"] = "1.0"
    written["run"]["options"] |= {"expect": ["quant/*=surrogate"]}
    (tmp_path / "report.json").write_text(json.dumps(written))
    status, out, _ = run("replay", "report.json")
    assert status == 1
    assert out.splitlines()[-4:] == [
        f"numpy was 1.0 when the report was written, and is {np.__version__}.",
        "data.npz is not the file that the report was written for.",
        "shop/quant/kernel, by the oracle 'forward': mismatch recorded, surrogate now",
        "1 verdicts are not those recorded.",
    ]


def test_surrogates_are_declared_and_a_factory_may_bring_its_data(run):
    status, out, err = run(
        "check", "fronts_shop:quantized", "fronts_shop:with_data", "--expect", "quant*/kernel=surrogate"
    )
    assert (status, err) == (0, ""), out
    assert "1 surrogate" in out and out.count("Data drawn with seed 0.") == 1  # of the one that brought none
    assert out.splitlines()[-1].startswith("fronts_shop:with_data: 3 variables, 40 of 40 entries compared: 6 match")


def test_locate_is_a_fast_check(run, monkeypatch):
    from keras_ref.checks import gradients

    seen = {}

    def check(model, x, y, **options):
        seen.update(options)
        return Report(model.name, (Verdict("v", "forward", "match", 4, 4, visible=1e-9),), replay=options["replay"])

    monkeypatch.setattr(gradients, "check_gradients", check)
    status, out, _ = run("locate", "fronts_shop:build", "--budget", "60s", "--allow", "undecided")
    assert (status, seen["effort"], seen["budget"]) == (0, "fast", "60s"), out
    assert seen["replay"] == "gradtwin locate fronts_shop:build --budget 60s --allow undecided"
    run("check", "fronts_shop:build")
    assert seen["effort"] == "auto"


def test_a_crash_is_a_verdict_with_the_signal(run, tmp_path, monkeypatch):
    isolated = cli.run_isolated
    # one process of its own is enough for a test: the other targets stay in this one
    monkeypatch.setattr(
        cli,
        "run_isolated",
        lambda command, target: isolated(command, target) if "dies" in target else command.run(target),
    )
    status, out, err = run(
        "check",
        "fronts_shop:dies",
        "fronts_shop:nowhere",
        "fronts_shop:build",
        "--isolate",
        "--variables",
        "encoder/bias",
        "--json",
        "all.json",
    )
    assert (status, err) == (
        2,
        (
            "gradtwin: A target's factory must exist. Received: 'nowhere', which fronts_shop does not have. Check the "
            "name after the colon.\n"
        ),
    )
    lines = out.splitlines()
    assert lines[:2] == ["", "verdict    crash: fronts_shop:dies, killed by SIGABRT"]
    assert lines[2] == "replay     gradtwin check fronts_shop:dies --variables encoder/bias --isolate"
    assert lines[-1].startswith("fronts_shop:build: 1 variable, 4 of 4 entries compared: 2 match")
    written = json.loads((tmp_path / "all.json").read_text())
    assert [(r["target"], r["ok"]) for r in written["reports"]] == [
        ("fronts_shop:dies", False),
        ("fronts_shop:build", True),
    ]
    assert written["could_not_run"] == [err.removeprefix("gradtwin: ").rstrip()]


def test_a_crash_alone_is_a_target_that_could_not_run(run, monkeypatch):
    from keras_ref.frontends import isolation
    from keras_ref.frontends.supervise import End

    for returned, said in (
        (-11, "killed by SIGSEGV"),
        (139, "killed by SIGSEGV"),
        (-9, "killed by SIGKILL"),
        (77, "ended with exit status 77"),
    ):
        stderr = "noise\n2026 F external/x.cc:1] Check failed: a == b\n"
        end = End(status=returned, limit="", stderr=stderr)
        monkeypatch.setattr(isolation, "run_limited", lambda *_, end=end: end)
        status, out, err = run("check", "fronts_shop:dies", "--isolate")
        assert (status, err) == (2, "")
        assert f"verdict    crash: fronts_shop:dies, {said}: 2026 F external/x.cc:1] Check failed: a == b\n" in out


def test_github_actions_get_annotations_and_a_summary(run, tmp_path, monkeypatch):
    status, plain, _ = run("check", "fronts_shop:quantized", "--variables", "quant/*")
    assert status == 1 and "::error" not in plain
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    status, out, _ = run("check", "fronts_shop:quantized", "fronts_shop:build", "--variables", "*/kernel")
    assert status == 1
    found = [line for line in out.splitlines() if line.startswith("::error")]
    assert len(found) == 1
    line = SHOP.splitlines().index("class Quant(keras.layers.Layer):") + 1  # the layer at fault
    assert found[0].startswith(
        f"::error file=fronts_shop.py,line={line},title=gradtwin%3A mismatch in shop/quant/kernel%2C in the layer "
        "quant (Quant)::verdict    mismatch: shop/quant/kernel, by the oracle 'forward'%0Aworst at   ["
    )
    assert found[0].endswith("%0Areplay     gradtwin check fronts_shop:quantized --variables '*/kernel'")
    summary = (tmp_path / "summary.md").read_text()
    assert (
        "### ❌ gradtwin: `fronts_shop:quantized`\n" in summary and "### ✅ gradtwin: `fronts_shop:build`\n" in summary
    )
    assert (
        "| `shop/quant/kernel` | forward | **mismatch** | 4 of 4 |" in summary
        and "```text\nverdict    mismatch: " in summary
    )
    status, out, err = run("check", "fronts_shop:nowhere")
    assert status == 2 and out == "::error title=gradtwin could not run::" + err.removeprefix("gradtwin: ")


CASES = {
    "an option that is no effort": (
        ("check", "fronts_shop:build", "--effort", "some"),
        "--effort must be one of auto, full, fast. Received: 'some'. Choose one of them.",
    ),
    "a mode among several": (
        ("check", "fronts_shop:build", "--mode", "eager,slow"),
        "--mode must be one of eager, function, jit_compile. Received: 'slow'. Choose one of them.",
    ),
    "what cannot be allowed": (
        ("check", "fronts_shop:build", "--allow", "mismatch"),
        "--allow must be one of kink, undecided. Received: 'mismatch'. Choose one of them.",
    ),
    "an expectation without a word": (
        ("check", "fronts_shop:build", "--expect", "quant/*"),
        (
            "--expect must be GLOB=surrogate or GLOB=stop_gradient. Received: 'quant/*'. Pass "
            "--expect 'quant*/kernel=surrogate', say."
        ),
    ),
    "another expectation": (
        ("locate", "fronts_shop:build", "--expect", "quant/*=zero"),
        (
            "--expect must be GLOB=surrogate or GLOB=stop_gradient. Received: 'quant/*=zero'. Pass "
            "--expect 'quant*/kernel=surrogate', say."
        ),
    ),
    "no steps": (
        ("updates", "fronts_shop:build", "--steps", "0"),
        "--steps must be at least 1. Received: 0. Pass 3, say.",
    ),
    "a negative seed": (
        ("check", "fronts_shop:build", "--seed", "-1"),
        "--seed must be at least 0. Received: -1. Pass 0, say.",
    ),
    "a seed of letters": (
        ("check", "fronts_shop:build", "--seed", "x"),
        (
            "Invalid value for '--seed': Input should be a valid integer, unable to parse string as an integer. See "
            "gradtwin check --help."
        ),
    ),
    "no batch": (
        ("check", "fronts_shop:build", "--batches", "0"),
        "--batches must be at least 1. Received: 0. Pass 1, say.",
    ),
    "what there is no gradient by": (
        ("locate", "fronts_shop:build", "--wrt", "labels"),
        "--wrt must be one of weights, inputs. Received: 'labels'. Choose one of them.",
    ),
    "no target": (("check",), "Missing argument 'TARGET'. See gradtwin check --help."),
    "an option of another command": (
        ("updates", "fronts_shop:build", "--effort", "full"),
        "No such option: --effort (Possible options: --force, --import). See gradtwin updates --help.",
    ),
    "no match": (
        ("check", "fronts_shop:build", "--variables", "decoder/*"),
        (
            "`variables` must match at least one variable. Received: 'decoder/*', where there are "
            "shop/encoder/kernel, shop/encoder/bias, input. Correct the pattern."
        ),
    ),
    "a factory of too much": (
        ("check", "fronts_shop:too_much"),
        (
            "A factory must return a keras.Model. Received: a tuple from fronts_shop:too_much. Return the model, or "
            "(model, x, y)."
        ),
    ),
    "a page of two": (
        ("check", "fronts_shop:build", "fronts_shop:build", "--html", "page.html"),
        "--html must have one target. Received: 2. Run the command for each, or write --json.",
    ),
    "no report": (
        ("replay", "gone.json"),
        "A report to replay must exist. Received: gone.json: No such file or directory. Check the path.",
    ),
    "a report of something else": (
        ("replay", "other.json"),
        (
            "A report to replay must be one that --json wrote. Received: other.json, which is not. Write one with "
            "gradtwin check … --json other.json."
        ),
    ),
    "a report of a later gradtwin": (
        ("replay", "later.json"),
        (
            "A recorded run must be one of check, locate, updates with its options. Received: 'check' with later. "
            "Replay it with the gradtwin that wrote it."
        ),
    ),
    "data that do not fit": (
        ("check", "fronts_shop:build", "--data", "wide.npz"),
        "Input 'table' must have shape (any, 3). Received: (4, 5). Reshape the data or change the model's input shape.",
    ),
    "a module that does not import": (
        ("check", "fronts_broken:build"),
        (
            "A target's module must import. Received: fronts_broken, which raised SyntaxError: '(' was never closed "
            "(fronts_broken.py, line 1). Mend the module."
        ),
    ),
}


@pytest.mark.parametrize("command", ["check", "locate"])
def test_batches_and_what_gradients_are_by(run, tmp_path, command):
    """Both are passed on, recorded and replayed: of two batches the loss is that of all the data."""
    words = (command, "fronts_shop:of_batches", "--wrt", "inputs", "--batches", "2")
    status, _, _ = run(*words, "--json", "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (status, {(v["name"], v["total"]) for v in report["verdicts"]}) == (0, {("input", 12)})
    assert report["run"]["options"] == {"wrt": ["inputs"], "batches": 2}
    assert report["replay"] == f"gradtwin {' '.join(words)}"
    status, out, _ = run("replay", "report.json")
    assert status == 0 and f"The same {len(report['verdicts'])} verdicts as recorded." in out
    run(command, "fronts_shop:of_batches", "--wrt", "weights", "--json", "weights.json")
    report = json.loads((tmp_path / "weights.json").read_text())
    assert {v["name"] for v in report["verdicts"]} == {"shop/encoder/kernel", "shop/encoder/bias"}


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_sentence(run, tmp_path, name):
    arguments, sentence = CASES[name]
    np.savez("wide.npz", x=np.zeros((4, 5)), y=np.zeros((4, 2)))
    (tmp_path / "fronts_broken.py").write_text("build = (")
    (tmp_path / "other.json").write_text('{"ok": true}')
    (tmp_path / "later.json").write_text('{"run": {"command": "check", "targets": ["a:b"], "options": {"later": 1}}}')
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    status, out, err = run(*arguments, *(() if arguments[0] == "replay" else ("--json", "new.json")))
    assert (status, out, err) == (2, "", f"gradtwin: {sentence}\n")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")} == before


@pytest.mark.parametrize(
    ("path", "reason"), [("no/such/report.json", "No such file or directory"), (".", "Is a directory")]
)
def test_a_json_path_is_refused_before_the_model_is_built(run, path, reason):
    status, out, err = run("check", "fronts_shop:dies", "--json", path)  # which would end this process
    assert (status, out, err) == (
        2,
        "",
        f"gradtwin: --json must name a file that can be written. Received: {path}: {reason}. Choose another path.\n",
    )


def test_a_file_with_a_lambda_needs_a_flag(run, tmp_path):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2.0, output_shape=(3,)), keras.layers.Dense(1)]
    )
    model.save(tmp_path / "lambda.keras")
    status, out, err = run("check", "lambda.keras")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(
        "gradtwin: A .keras file must load in safe mode. Received: lambda.keras: Requested the deserialization of "
        "a `Lambda` layer"
    )
    assert err.endswith(
        " It holds code, which safe mode does not run: pass --unsafe if you trust the file, or rebuild it in a "
        "factory, package.module:factory.\n"
    )
    assert run("check", "lambda.keras", "--unsafe")[0] == 0


def test_what_the_model_raises_is_said_in_one_sentence(run, tmp_path, monkeypatch):
    raising = SHOP.replace("tf.py_function(os.abort, [], [])", 'raise KeyError("table")')
    raising = raising.replace(
        "class Dies(keras.layers.Layer):",
        "class Dies(keras.layers.Layer):\n    def compute_output_shape(self, shape): return shape",
    )
    (tmp_path / "fronts_raises.py").write_text(raising)
    np.savez("data.npz", x=np.zeros((4, 3)), y=np.zeros((4, 2)))
    status, out, err = run("check", "fronts_raises:dies", "--data", "data.npz")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(
        "gradtwin: A subject must run on the data it is checked on. Received: KeyError: Exception encountered "
        "when calling Dies.call(). table Arguments received"
    )
    assert err.endswith(" Call it on them by itself first.\n")
    monkeypatch.setenv("GRADTWIN_TRACEBACK", "1")
    status, out, traced = run("check", "fronts_raises:dies", "--data", "data.npz")
    assert (status, out) == (2, "")
    assert traced.startswith("Traceback (most recent call last):") and "\nKeyError: " in traced
    assert traced.endswith(err)
