"""The command line in a pipeline: JSON and replay, isolated targets, GitHub Actions, declared surrogates, refusals
before the work.
"""

import json
from xml.etree import ElementTree as ET

import keras
import numpy as np
import pytest
from small_shop import SHOP

from keras_ref.frontends.command_line import running
from keras_ref.reports.verdict import Report, Verdict, write_json_text


@pytest.fixture
def run(gradtwin):
    """Run the command in a folder with the module fronts_shop."""
    gradtwin.write_module("fronts_shop", SHOP)
    return gradtwin


@pytest.mark.sampled
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


@pytest.mark.sampled
def test_surrogates_are_declared_and_a_factory_may_bring_its_data(run):
    status, out, err = run(
        "check", "fronts_shop:quantized", "fronts_shop:with_data", "--expect", "quant*/kernel=surrogate"
    )
    assert (status, err) == (0, ""), out
    assert "1 surrogate" in out and out.count("Data drawn with seed 0.") == 1  # of the one that brought none
    assert out.splitlines()[-1].startswith(
        "fronts_shop:with_data: 2 variables and the input, 40 of 40 entries compared: 6 match"
    )


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


@pytest.mark.sampled
def test_a_crash_is_a_verdict_with_the_signal(run, tmp_path, monkeypatch):
    isolated = running.run_isolated
    # one process of its own is enough for a test: the other targets stay in this one
    monkeypatch.setattr(
        running,
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


def test_files_say_that_no_target_could_be_run(run, tmp_path):
    """A pipeline that reads yesterday's files would take them for today's."""
    (tmp_path / "all.json").write_text(write_json_text({"written_by": "gradtwin check", "ok": True}))
    status, _, err = run(
        *("check", "fronts_shop:nowhere", "--json", "all.json", "--junit", "all.xml", "--html", "all.html")
    )
    sentence = err.removeprefix("gradtwin: ").rstrip()
    written = json.loads((tmp_path / "all.json").read_text())
    assert (status, written["ok"], written["reports"], written["could_not_run"]) == (2, False, [], [sentence])
    assert [error.get("message") for error in ET.parse(tmp_path / "all.xml").getroot().iter("error")] == [sentence]
    assert not (tmp_path / "all.html").exists()
    status, _, err = run("replay", "all.json")
    assert (status, err) == (
        2,
        (
            "gradtwin: A report to replay must hold the verdicts of a target. Received: all.json, whose targets could "
            "not be run. Run its command again.\n"
        ),
    )


def test_a_crash_alone_is_a_target_that_could_not_run(run, monkeypatch):
    from keras_ref.frontends.invocations import isolation
    from keras_ref.supervision.supervise import End

    for returned, said in (
        (-11, "killed by SIGSEGV"),
        (139, "killed by SIGSEGV"),
        (-9, "killed by SIGKILL"),
        (77, "ended with exit status 77"),
    ):
        stderr = "noise\n2026 F external/x.cc:1] Check failed: a == b\n"
        end = End(status=returned, limit="", stderr=stderr)
        monkeypatch.setattr(isolation, "run_limited", lambda *_, end=end, **__: end)
        status, out, err = run("check", "fronts_shop:dies", "--isolate")
        assert (status, err) == (2, "")
        assert f"verdict    crash: fronts_shop:dies, {said}: 2026 F external/x.cc:1] Check failed: a == b\n" in out


@pytest.mark.sampled
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


@pytest.mark.sampled
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


@pytest.mark.sampled
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
    status, out, err = run("check", "lambda.keras", "--unsafe")
    assert status == 0, (out, err)


@pytest.mark.sampled
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
