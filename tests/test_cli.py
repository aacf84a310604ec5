"""The command line: exit status, what it prints, and one sentence for whatever cannot be done."""

import json
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_ref.frontends import cli

RIGHT = """
import keras

def build():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(4, "tanh", name="hidden"), keras.layers.Dense(2, name="out")])
    model.compile(optimizer="adam", loss="mse")
    return model

def raises():
    raise RuntimeError("no weights today")

def nothing():
    return None

number = 3
"""

WRONG = """
import keras
import tensorflow as tf

@keras.saving.register_keras_serializable("tests")
class Halved(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2), name="kernel")

    def call(self, x):
        @tf.custom_gradient
        def product(x, w):
            def backward(upstream):
                return tf.matmul(upstream, w, transpose_b=True), tf.matmul(x, upstream, transpose_a=True) * tf.constant([1.0, 0.5], x.dtype)
            return tf.matmul(x, w), backward
        return product(x, tf.convert_to_tensor(self.kernel))

def build():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh", name="hidden"), Halved(name="halved")])
    model.compile(optimizer="sgd", loss="mse")
    return model
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command in a folder of its own; returns (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["gradtwin", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return command


def module(tmp_path, name, source):
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
    sys.modules.pop(name, None)
    return f"{name}:build"


def test_check_of_a_right_model(run, tmp_path):
    status, out, err = run("check", module(tmp_path, "right_models", RIGHT), "--json", "report.json")
    assert (status, err) == (0, ""), out
    assert "Data drawn with seed 0." in out
    assert "5 variables" in out and "10 match" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] and {v["verdict"] for v in report["verdicts"]} == {"match"}


def test_check_of_a_wrong_layer_names_variable_and_entry(run, tmp_path):
    status, out, _ = run("check", module(tmp_path, "wrong_models", WRONG), "--seed", "5")
    assert status == 1
    assert "mismatch: sequential" in out and "halved/kernel, by the oracle 'forward'" in out
    assert "4 of 8 compared entries" in out
    assert "replay     gradtwin check wrong_models:build --seed 5" in out
    assert "autodiff is not the derivative of Keras's own forward pass: look at the backward pass" in out


def test_check_of_a_saved_file_with_data(run, tmp_path):
    module(tmp_path, "right_models", RIGHT)
    import importlib

    model = importlib.import_module("right_models").build()
    model.save(tmp_path / "model.keras")
    generator = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=generator.normal(size=(5, 3)), y=generator.normal(size=(5, 2)))
    status, out, err = run("check", "model.keras", "--data", "data.npz")
    assert (status, err) == (0, ""), out
    assert "Data drawn" not in out
    status, out, _ = run("updates", "model.keras", "--data", "data.npz", "--steps", "2")
    assert status == 0, out
    assert "2 steps of Adam" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("check", "nowhere"),
            "A target must be package.module:factory or a .keras file. Received: 'nowhere'. Name the factory after a colon.",
        ),
        (("check", "gone.keras"), "A model file must exist. Received: gone.keras, which does not. Check the path."),
        (
            ("check", "no_such_module_x:build"),
            "A target's module must import. Received: no_such_module_x: No module named 'no_such_module_x'. Check the name, or install what it needs.",
        ),
        (
            ("check", "right_models:missing"),
            "A target's factory must exist. Received: 'missing', which right_models does not have. Check the name after the colon.",
        ),
        (
            ("check", "right_models:raises"),
            "A factory must return a model. Received: right_models:raises, which raised RuntimeError: no weights today. Run it by itself.",
        ),
        (
            ("check", "right_models:nothing"),
            "A factory must return a keras.Model. Received: a NoneType from right_models:nothing. Return the model, or (model, x, y).",
        ),
        (
            ("check", "right_models:number"),
            "A target must be a model or a function that returns one. Received: right_models:number, a int. Name another.",
        ),
        (
            ("check", "right_models:build", "--data", "none.npz"),
            "--data must name an .npz file. Received: none.npz: [Errno 2] No such file or directory: 'none.npz'. Write it with numpy.savez(path, x=…, y=…).",
        ),
        (
            ("check", "right_models:build", "--effort", "some"),
            "--effort must be one of auto, full, fast. Received: 'some'. Choose one of them.",
        ),
        (
            ("check", "right_models:build", "--mode", "slow"),
            "--mode must be one of eager, function, jit_compile. Received: 'slow'. Choose one of them.",
        ),
        (
            ("check", "right_models:build", "--json", "no/such/folder.json"),
            "--json must name a file that can be written. Received: no/such/folder.json: No such file or directory. Choose another path.",
        ),
        (("chekc",), "No such command 'chekc'. Did you mean 'check'? See gradtwin --help."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(run, tmp_path, arguments, sentence):
    module(tmp_path, "right_models", RIGHT)
    status, _, err = run(*arguments)
    assert (status, err) == (2, f"gradtwin: {sentence}\n")


def test_a_file_that_is_no_model(run, tmp_path):
    (tmp_path / "text.keras").write_text("not a model")
    status, out, err = run("check", "text.keras")
    assert (status, out) == (2, "")
    assert err.startswith("gradtwin: A .keras file must load in safe mode. Received: text.keras: ")
    assert err.endswith("Save it again with model.save('name.keras').\n") and err.count("\n") == 1


def test_safe_mode_stays_on(run, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2.0), keras.layers.Dense(1)])
    model.save(tmp_path / "lambda.keras")
    status, _, err = run("check", "lambda.keras")
    assert status == 2
    assert (
        "It holds code, which safe mode does not run: pass --unsafe if you trust the file, or rebuild it in a factory, package.module:factory."
        in err
    )


def test_the_bare_command_in_a_process_of_its_own():
    """Plain text, no TensorFlow log noise, both recipes, the gallery, one line that sums up."""
    done = subprocess.run([sys.executable, "-m", "keras_ref"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "1.556179450000           1.556186950000  -7.500e-06            -7.500e-06" in done.stdout
    assert "only the output bias learns" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1].startswith("12 of 12 checks match: ")
    assert "\x1b" not in done.stdout
