"""The command line: exit status, what it prints, and one sentence for whatever cannot be done."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

RIGHT = """
import keras

def build():
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh", name="hidden"), keras.layers.Dense(2, name="out")]
    model = keras.Sequential([keras.Input((3,), name="x"), *layers])
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
                of_kernel = tf.matmul(x, upstream, transpose_a=True) * tf.constant([1.0, 0.5], x.dtype)
                return tf.matmul(upstream, w, transpose_b=True), of_kernel
            return tf.matmul(x, w), backward
        return product(x, tf.convert_to_tensor(self.kernel))

def build():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh", name="hidden"), Halved(name="halved")])
    model.compile(optimizer="sgd", loss="mse")
    return model
"""


def test_check_of_a_right_model(gradtwin, tmp_path):
    status, out, err = gradtwin("check", gradtwin.write_module("right_models", RIGHT), "--json", "report.json")
    assert (status, err) == (0, ""), out
    assert "Data drawn with seed 0." in out
    assert "4 variables and the input" in out and "10 match" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] and {v["verdict"] for v in report["verdicts"]} == {"match"}


@pytest.mark.sampled
def test_check_of_a_wrong_layer_names_variable_and_entry(gradtwin, tmp_path):
    status, out, _ = gradtwin("check", gradtwin.write_module("wrong_models", WRONG), "--seed", "5")
    assert status == 1
    assert "mismatch: sequential" in out and "halved/kernel, by the oracle 'forward'" in out
    assert "4 of 8 compared entries" in out
    assert "replay     gradtwin check wrong_models:build --seed 5" in out
    assert "autodiff is not the derivative of Keras's own forward pass: look at the backward pass" in out


@pytest.mark.sampled
def test_check_of_a_saved_file_with_data(gradtwin, tmp_path):
    gradtwin.write_module("right_models", RIGHT)
    import importlib

    model = importlib.import_module("right_models").build()
    model.save(tmp_path / "model.keras")
    generator = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", x=generator.normal(size=(5, 3)), y=generator.normal(size=(5, 2)))
    status, out, err = gradtwin("check", "model.keras", "--data", "data.npz")
    assert (status, err) == (0, ""), out
    assert "Data drawn" not in out
    status, out, _ = gradtwin("updates", "model.keras", "--data", "data.npz", "--steps", "2")
    assert status == 0, out
    assert "2 steps of Adam" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("check", "nowhere"),
            (
                "A target must be package.module:factory or a .keras or .h5 file. Received: 'nowhere'. Name the "
                "factory after a colon."
            ),
        ),
        (("check", "gone.keras"), "A model file must exist. Received: gone.keras, which does not. Check the path."),
        (
            ("check", "no_such_module_x:build"),
            (
                "A target's module must import. Received: no_such_module_x: No module named 'no_such_module_x'. Check "
                "the name, or install what it needs."
            ),
        ),
        (
            ("check", "right_models:missing"),
            (
                "A target's factory must exist. Received: 'missing', which right_models does not have. Check the name "
                "after the colon."
            ),
        ),
        (
            ("check", "right_models:raises"),
            (
                "A factory must return a model. Received: right_models:raises, which raised RuntimeError: no weights "
                "today (right_models.py:12). Run it by itself."
            ),
        ),
        (
            ("check", "right_models:nothing"),
            (
                "A factory must return a keras.Model. Received: a NoneType from right_models:nothing. Return the "
                "model, or (model, x, y)."
            ),
        ),
        (
            ("check", "right_models:number"),
            (
                "A target must be a model or a function that returns one. Received: right_models:number, a int. Name "
                "another."
            ),
        ),
        (
            ("check", "right_models:build", "--data", "none.npz"),
            (
                "--data must name an .npz file. Received: none.npz: [Errno 2] No such file or directory: 'none.npz'. "
                "Write it with numpy.savez(path, x=…, y=…)."
            ),
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
            (
                "--json must name a file that can be written. Received: no/such/folder.json: No such file or "
                "directory. Choose another path."
            ),
        ),
        (("chekc",), "No such command 'chekc'. Did you mean 'check'? See gradtwin --help."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_sentence_and_status_2(gradtwin, tmp_path, arguments, sentence):
    gradtwin.write_module("right_models", RIGHT)
    status, _, err = gradtwin(*arguments)
    assert (status, err) == (2, f"gradtwin: {sentence}\n")


def test_a_file_that_is_no_model(gradtwin, tmp_path):
    (tmp_path / "text.keras").write_text("not a model")
    status, out, err = gradtwin("check", "text.keras")
    assert (status, out) == (2, "")
    assert err.startswith("gradtwin: A .keras file must load in safe mode. Received: text.keras: ")
    assert err.endswith("Save it again with model.save('name.keras').\n") and err.count("\n") == 1


def test_safe_mode_stays_on(gradtwin, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x * 2.0), keras.layers.Dense(1)])
    model.save(tmp_path / "lambda.keras")
    status, _, err = gradtwin("check", "lambda.keras")
    assert status == 2
    assert (
        "It holds code, which safe mode does not run: pass --unsafe if you trust the file, or rebuild it in a "
        "factory, package.module:factory."
    ) in err


CUSTOM = """
import keras

class Odd(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_a_class_that_no_module_registers_is_named(gradtwin, tmp_path, monkeypatch):
    """Also where its module was imported: Keras's last error has no more than its configuration."""
    gradtwin.write_module("odd_layers", CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    from odd_layers import Odd

    keras.Sequential([keras.Input((3,)), Odd(), keras.layers.Dense(1)]).save(tmp_path / "odd.keras")
    status, _, err = gradtwin("check", "odd.keras", "--import", "odd_layers")
    assert (status, err) == (
        2,
        (
            "gradtwin: A .keras file must load in safe mode. Received: odd.keras: Could not locate class 'Odd'. "
            "Decorate its custom classes with @keras.saving.register_keras_serializable() and name their module with "
            "--import, or give a factory, package.module:factory.\n"
        ),
    )


@pytest.mark.sampled
def test_help_loads_neither_tensorflow_nor_hypothesis():
    """The front page names every command, and costs no import of TensorFlow."""
    code = (
        "import sys; from keras_ref.frontends.command_line import cli; sys.argv = ['gradtwin', '--help']\n"
        "try:\n    cli.main()\nfinally:\n"
        "    print([m for m in ('tensorflow', 'keras', 'hypothesis') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("check", "updates", "locate", "replay", "coverage", "lesson", "recipe"):
        assert f" {command} " in done.stdout


@pytest.mark.sampled
def test_the_bare_command_in_a_process_of_its_own():
    """One screen of plain text: both recipes beside Keras, a line per model, one that sums up; no TensorFlow logs."""
    done = subprocess.run([sys.executable, "-m", "keras_ref"], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 30 and max(map(len, map(str.rstrip, lines))) <= 100, done.stdout
    assert "\x1b" not in done.stdout
    assert "Neural Networks with Keras Cookbook" in lines[0]
    words = [line.split() for line in lines]
    assert ["kernel", "1.47786700", "1.556179450", "1.556186950", "-7.50e-06", "-7.50e-06"] in words
    assert ["layer", "2", "bias", "0.00000000", "0.100947046", "0.100948046", "-1.00e-06", "-1.00e-06"] in words
    assert "only the output bias learns" in " ".join(done.stdout.split())
    assert "smallest error it would have seen" in done.stdout
    for name in ("linear regression", "softmax regression", "one against the rest", "ReLU network", "two towers"):
        (line,) = [line for line in lines if line.startswith(name)]
        assert line.split()[-4:-2] == ["match", "match"] and 0 < float(line.split()[-1]) < 1e-6
    assert lines[-1] == "12 of 12 checks match: 98 verdicts on 1830 entries, seed 0. NumPy and Keras agree."


@pytest.mark.sampled
def test_the_bare_command_with_every_number(gradtwin):
    """--verbose: a row for every weight of the recipes, and for every variable and oracle of the gallery."""
    status, out, err = gradtwin("--verbose")
    assert (status, err) == (0, "")
    assert "1.556179450000           1.556186950000  -7.500e-06            -7.500e-06" in out
    assert "only the output bias learns" in " ".join(out.split())
    for title in ("iris, ReLU network\n", "iris, two towers, 3 steps of SGD\n"):
        assert title in "".join(f"{line.rstrip()}\n" for line in out.splitlines())
    assert sum(line.rstrip().endswith(" match") for line in out.splitlines()) == 98
    assert out.splitlines()[-1].startswith("12 of 12 checks match: ")


def test_the_bare_command_with_a_finding(gradtwin, monkeypatch):
    """A wrong step is named in its line, explained in six, and the exit status is 1."""
    from keras_ref.frontends.command_line import overview
    from keras_ref.reports.verdict import Report, Verdict

    def check(name, verdict):
        found = Verdict(name, "update", verdict, 4, 4, {verdict: 1}, (0,), 1.0, 2.0, truncation=0.1, rounding=0.1)
        return lambda *_, **__: Report("stub", (found,))

    monkeypatch.setattr(overview, "check_gradients", check("kernel", "match"))
    monkeypatch.setattr(overview, "check_updates", check("kernel", "mismatch"))
    status, out, _ = gradtwin()
    assert status == 1
    assert sum("mismatch (SGD)" in line or "mismatch (Adam)" in line for line in out.splitlines()) == 6
    assert out.count("verdict    mismatch: kernel") == 6
    assert out.splitlines()[-1] == (
        "6 of 12 checks match: 12 verdicts on 48 entries, seed 0. See the six lines of each mismatch above."
    )
