"""What the command line refuses: one sentence on stderr, exit status 2, and no file of others is touched."""

import json

import numpy as np
import pytest
from small_shop import SHOP


@pytest.fixture
def run(gradtwin):
    """Run the command in a folder with the module fronts_shop."""
    gradtwin.write_module("fronts_shop", SHOP)
    return gradtwin


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
    "an expectation of nothing": (
        ("check", "fronts_shop:build", "--expect", "quant*=surrogate"),
        (
            "`expect` must match at least one variable. Received: 'quant*', where there are shop/encoder/kernel, "
            "shop/encoder/bias, input. Correct the pattern."
        ),
    ),
    "two outputs of one name": (
        ("check", "fronts_shop:build", "--junit", "new.json"),
        "--junit must not name the file that --json names. Received: new.json. Choose another path.",
    ),
    "no report": (
        ("replay", "gone.json"),
        "A report to replay must exist. Received: gone.json: No such file or directory. Check the path.",
    ),
    "a report of something else": (
        ("replay", "other.json"),
        (
            "A report to replay must be one that --json wrote. Received: other.json, which is not. Write one with "
            "gradtwin check … --json report.json."
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
            "(fronts_broken.py, line 1). Correct the module."
        ),
    ),
}


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
    found = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    written = tmp_path / "new.json"
    if found.pop(written, None) is not None:  # where it was a target that could not be run
        assert json.loads(written.read_text())["could_not_run"] == [sentence]
    assert found == before


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
