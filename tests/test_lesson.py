"""The lesson without a browser: refusals word by word, divergence, the notebook run from top to bottom, what notebooks
show.
"""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from reference_network import Network, flat

from keras_ref.lesson import cli
from keras_ref.reports.files import write_unused
from scratch.recipe import INPUTS, OUTPUTS, RECIPE_2, RECIPE_2_NOTE

MODELS = """
import keras
import numpy as np

def model(name, *layers, rate=0.1, loss="mse", shape=(3,), dtype=None):
    keras.utils.set_random_seed(3)
    built = keras.Sequential([keras.Input(shape, dtype=dtype), *layers], name=name)
    built.compile(optimizer=keras.optimizers.SGD(rate), loss=loss)
    return built

Dense = keras.layers.Dense

def big(): return model("big", Dense(40), Dense(1))
def diverging():  # an initializer without a seed draws one before model() sets it
    return model("diverging", Dense(1, kernel_initializer="ones"), rate=10.0, shape=(1,))

def dropping(): return model("dropping", Dense(2), keras.layers.Dropout(0.5, name="at_random"), Dense(1))
def image():
    layers = keras.layers.Conv2D(2, 3), keras.layers.GlobalAveragePooling2D(), Dense(1)
    return model("image", *layers, shape=(50, 50, 1))
def recurrent():
    layers = keras.layers.SimpleRNN(1), Dense(1, "sigmoid")
    return model("recurrent", *layers, loss="binary_crossentropy", shape=(3, 1))
def dense(): return model("dense", Dense(4, "relu"), Dense(1))
def loose(): return keras.Sequential([keras.Input((3,)), Dense(1)], name="loose")

class Own(keras.layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 1))
    def call(self, x):
        return x @ self.kernel

def own(): return model("own", Own())
def weighted(): return dense(), np.ones((2, 3)), np.ones((2, 1)), np.ones(2)
def halved(): return dense(), np.ones((2, 3))
def paired(): return dense(), np.array([[1, 2, 3], [4, 2, 6]]) / 8, np.ones((2, 1))
"""


@pytest.fixture
def run(gradtwin):
    """Run the command in a folder with the module lesson_models."""
    gradtwin.write_module("lesson_models", MODELS)
    return gradtwin


REFUSED = {
    "lesson lesson_models:big": (
        "A model must have at most 128 weights to be taught from, each being nudged and shown. Received: "
        "lesson_models:big, which has 201. Use gradtwin check, which takes any size, or a smaller model of the "
        "same kind."
    ),
    "lesson lesson_models:image": (
        "A forward pass must have at most 8000 numbers to be taught from, each being shown. Received: "
        "lesson_models:image, which has 28444 with 4 samples. Pass fewer rows in --data, use a smaller model of "
        "the same kind, or gradtwin check, which takes any size."
    ),
    "lesson lesson_models:dense --epochs 1000": (
        "A lesson must have at most 15000 weights times epochs to fit into a page. Received: 21 weights of dense, "
        "1000 epochs. Pass --epochs 714, or a smaller model."
    ),
    "lesson lesson_models:dense --epochs 1000 --notebook dense.ipynb": (
        "A lesson must have at most 15000 weights times epochs to fit into a page. Received: 21 weights of dense, "
        "1000 epochs. Pass --epochs 714, or a smaller model."
    ),
    "lesson none.h5": "A model file must exist. Received: none.h5, which does not. Check the path.",
    "lesson lesson_models:dense --data many.npz": (
        "A lesson must have at most 64 samples, each being shown. Received: 65 for lesson_models:dense. Pass fewer "
        "rows in --data, or use gradtwin check, which takes any number."
    ),
    "lesson lesson_models:dropping": (
        "A model must not draw random numbers to be taught from: nudged losses would differ by chance. Received: "
        "at_random. Leave them out, or use gradtwin check --training."
    ),
    "lesson lesson_models:loose": (
        "A model must be compiled with a loss and an optimizer to be taught from. Received: lesson_models:loose, "
        "which is not. Call model.compile(optimizer=…, loss=…) in the factory."
    ),
    "lesson lesson_models:own": (
        "A model must have a NumPy twin to be taught from. Received: lesson_models.Own. Use gradtwin check, which "
        "needs no twin."
    ),
    "lesson lesson_models:weighted": (
        "A lesson takes no sample weights. Received: sample_weight in lesson_models:weighted. Leave it out, or use "
        "gradtwin check."
    ),
    "lesson lesson_models:halved": (
        "A factory with data must return targets for a lesson. Received: lesson_models:halved, which returns a "
        "model and x. Return (model, x, y)."
    ),
    "lesson lesson_models:dense --data half.npz": (
        "--data must hold targets y for a lesson. Received: half.npz without. Add y to the .npz file."
    ),
    "lesson recipe3": (
        "A recipe must be one of recipe1, recipe2. Received: 'recipe3'. Name one of them; gradtwin lesson also "
        "takes a model, package.module:factory."
    ),
    "lesson recipe1 -o no/such/page.html": (
        "--output must name a file that can be written. Received: no/such/page.html: No such file or directory. "
        "Choose another path."
    ),
    "lesson recipe1 -o .": (
        "--output must name a file that can be written. Received: .: Is a directory. Choose another path."
    ),
    "lesson recipe1 --notebook no/lesson.ipynb": (
        "--notebook must name a file that can be written. Received: no/lesson.ipynb: No such file or directory. "
        "Choose another path."
    ),
    "lesson recipe1 --epochs 0": "--epochs must be from 1 to 1000. Received: 0. Pass 100, say.",
    "recipe --epochs -1": "--epochs must be at least 0. Received: -1. Pass 10, say.",
    "recipe --batch-size -1": "--batch-size must be at least 0. Received: -1. Pass 2, say, or 0 for all samples.",
    "recipe recipe3": (
        "A recipe must be one of recipe1, recipe2. Received: 'recipe3'. Name one of them; gradtwin lesson also takes "
        "a model, package.module:factory."
    ),
    "recipe --step 0": "--step must be a number above 0. Received: 0.0. Pass 0.0001, say.",
    "recipe --scheme sideways": (
        "--scheme must be one of forward, backward, central, richardson, complex. Received: 'sideways'. Choose one of "
        "them."
    ),
    "recipe --learning-rate nan": "A learning rate must be a finite number, at least 0. Received: nan. Pass 0.01, say.",
    "recipe --learning-rate -1": "A learning rate must be a finite number, at least 0. Received: -1.0. Pass 0.01, say.",
    "recipe --weights [[": (
        "--weights must be JSON, [kernel, bias, kernel, bias, …]. Received: '[[': Expecting value. Pass '[[[1.5]], "
        "[0.0]]', say."
    ),
    "recipe --weights [[[1,2]],[0]]": (
        "Weights must be [kernel, bias, kernel, bias, …] of one input and one output, as in scratch/recipe.py. "
        "Received: arrays of shapes (1, 2), (1,). Pass '[[[1.5]], [0.0]]', say."
    ),
    "recipe --weights [[[NaN]],[0]]": (
        "Weights must be [kernel, bias, kernel, bias, …] of one input and one output, as in scratch/recipe.py, all "
        "finite. Received: [[[nan]], [0]]. Pass '[[[1.5]], [0.0]]', say."
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_done_is_one_sentence_and_status_2(run, command, tmp_path):
    np.savez(tmp_path / "many.npz", x=np.ones((65, 3)), y=np.ones((65, 1)))
    np.savez(tmp_path / "half.npz", x=np.ones((2, 3)))
    status, out, err = run(*command.split())
    assert (status, out, err) == (2, "", f"gradtwin: {REFUSED[command]}\n")
    assert not (tmp_path / "lesson.html").exists()


@pytest.mark.sampled
def test_a_page_that_would_be_too_large(run, monkeypatch, tmp_path):
    from keras_ref.lesson import page

    monkeypatch.setattr(page, "LIMIT", 1_500_000)
    status, _, err = run("lesson", "recipe1", "--epochs", "2")
    assert status == 2
    assert err.startswith("gradtwin: A page must have at most 1.5 MB. Received: recipe1, whose page would have 2.")
    assert err.endswith(" MB. Pass fewer --epochs, or a smaller model.\n")
    assert not (tmp_path / "lesson.html").exists()


@pytest.mark.sampled
def test_divergence_is_shown_as_divergence(run, tmp_path):
    status, out, err = run("lesson", "lesson_models:diverging", "-o", "page.html")
    assert (status, err) == (0, "")
    assert "are within what is allowed. The training diverges: it was stopped at epoch 6." in out
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (
        "See both trainings diverge together: the steps are too large, each lands farther from the minimum "
        "than the one before, and the loss grows from"
    ) in text
    assert "See both paths leap across the valley" in text and "Both paths run away from the valley" in text
    status, out, err = run("recipe", "recipe1", "--learning-rate", "0.3", "--epochs", "50")
    assert (status, err) == (0, "")
    assert (
        "The training diverges: after epoch 10 the loss is more than 10¹² times what it was, and we stop. Pass "
        "a smaller --learning-rate."
    ) in out


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("target", "note", "compared"),
    [
        ("recurrent", "5 weights in 5 arrays, 4 samples drawn with seed 0, SGD, BinaryCrossentropy", 40),
        ("paired", "21 weights in 4 arrays, 2 samples, SGD, MeanSquaredError", 168),
    ],
)
def test_any_small_model_is_taught_from(run, target, note, compared):
    status, out, err = run("lesson", f"lesson_models:{target}", "--epochs", "3")
    assert (status, err) == (0, "")
    assert out.splitlines()[:2] == [
        note,
        f"All {compared} differences, of slopes and of weights over 3 epochs, are within what is allowed.",
    ]


@pytest.mark.sampled
def test_the_notebook_runs_from_top_to_bottom(run, tmp_path):
    from nbclient import NotebookClient

    status, out, _ = run("lesson", "recipe2", "--notebook", "lesson.ipynb", "--epochs", "3")
    assert status == 0 and f"{tmp_path / 'lesson.ipynb'}: run it from top to bottom." in out
    assert not (tmp_path / "lesson.html").exists()
    written = nbformat.read(tmp_path / "lesson.ipynb", as_version=4)
    nbformat.validate(written)
    NotebookClient(
        written, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in written.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    shown = "\n".join(str(o.get("data", o.get("text"))) for o in outputs)
    assert sum("application/vnd.plotly.v1+json" in o.get("data", {}) for o in outputs) == 9
    network = Network.of(INPUTS, OUTPUTS, RECIPE_2, 0.01)
    for weights in (network.path(3, network.nudged)[3], network.path(3, network.chain_rule)[3]):
        assert all(f"{v:.9g}"[:-1] in shown for v in flat(weights) if v)  # shown with 10 digits
    assert RECIPE_2_NOTE in written.cells[0].source and RECIPE_2_NOTE in shown
    assert "1.556179450000008" in shown  # the programs printed it


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "--questions must hold a [[question]] table at least. Received: sheet.toml without. Add one."),
        (
            '[[question]]\nask = "?"\nrecipe = "recipe1"\nkind = "size"\n',
            (
                "`kind` of question 1 must be one of sign, moves, diverges, dies. Received: 'size'. "
                "See keras_ref/lesson/assets/questions.toml."
            ),
        ),
        (
            '[[question]]\nask = "?"\nrecipe = "recipe1"\nkind = "moves"\nset = { rate = -1 }\n',
            (
                "`set` of question 1 must be a table of rate, nudge, batch, units, activation, loss and optimizer with "
                "legal values. Received: {'rate': -1}. See keras_ref/lesson/assets/questions.toml."
            ),
        ),
    ],
)
def test_questions_that_cannot_be_asked(run, tmp_path, text, sentence):
    (tmp_path / "sheet.toml").write_text(text, encoding="utf-8")
    assert run("lesson", "--questions", "sheet.toml") == (2, "", f"gradtwin: {sentence}\n")


def test_a_second_lesson_keeps_the_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("lesson.html", "lesson-2.html", "lesson-3.html"):
        assert write_unused("--output", cli.PAGE, name) == name
        assert Path(name).read_text() == name
