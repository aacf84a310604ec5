"""gradtwin homework: what is right, what is wrong first and what it looks like; nothing that is right is accused."""

import json
import xml.etree.ElementTree as ET

import pytest
from benchmarks.mistakes import MISTAKES, MORE, NETWORKS, STYLES, Student, graded, is_accused

from keras_ref.homework.exercises import EXERCISES, find_exercise
from keras_ref.homework.grading import list_submissions

RELU, TANH, CLASSIFIER, LEAKY = NETWORKS
SOLUTION = """
import numpy as np

EXERCISE = "softmax"


def initial_weights():
    return {"W1": np.ones((4, 3)), "b1": np.ones(3)}


def forward(x, weights):
    e = np.exp(x @ weights["W1"] + weights["b1"])
    return e / e.sum(axis=1, keepdims=True)


def loss(output, y):
    return -np.mean(np.sum(y * np.log(output), axis=1))


def backward(x, y, weights):
    delta = (forward(x, weights) - y) / len(x)
    return {"W1": x.T @ delta, "b1": delta.sum(axis=0)}


def update_weights(weights, gradients, learning_rate):
    return {name: w - learning_rate * gradients[name] for name, w in weights.items()}
"""


@pytest.mark.sampled
@pytest.mark.parametrize("mistake", ["error the other way round", "derivative left out", "last sample only", *MORE])
def test_a_mistake_is_named(mistake):
    network = CLASSIFIER if mistake == "error the other way round" else RELU
    found = graded(Student(network, mistake), network)
    assert found.first.stage == "gradient" and found.first.cause in {**MISTAKES, **MORE}[mistake]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_is_called_wrong_at_the_gradient(mistake, network):
    assert graded(Student(network, mistake), network).first.stage == "gradient"


@pytest.mark.sampled
@pytest.mark.parametrize("style", STYLES)
def test_a_correct_solution_is_not_accused(style):
    found = graded(STYLES[style](LEAKY if style == "columns" else RELU), LEAKY if style == "columns" else RELU)
    assert not is_accused(found), found
    assert found.ok or style == "the book's"


@pytest.mark.sampled
@pytest.mark.parametrize("name", EXERCISES)
def test_the_weights_of_an_exercise_are_those_of_its_model(name):
    exercise = EXERCISES[name]
    model = exercise.build()
    assert [tuple(w.shape) for w in model.weights] == list(exercise.weights.values())
    x, y = exercise.data()
    assert tuple(model(x).shape) == exercise.y == y.shape


@pytest.mark.sampled
def test_exercises_are_handed_out_and_graded(gradtwin):
    assert gradtwin("homework", "--new", "course").status == 0
    assert sorted(p.name for p in (gradtwin.folder / "course").iterdir()) == sorted(f"{n}.py" for n in EXERCISES)
    assert gradtwin("homework", "--new", "course").err.startswith("gradtwin: --new must name a folder that is empty")
    found = gradtwin("homework", "course/linear.py")
    assert found.status == 1 and "not written yet" in found.out and "Go on with what is missing." in found.out


@pytest.mark.sampled
def test_a_folder_is_one_table(gradtwin):
    (gradtwin.folder / "all").mkdir()
    for name, text in {
        "ada": SOLUTION,
        "ben": SOLUTION.replace("delta.sum(axis=0)", "delta.mean(axis=0)"),
        "eve": SOLUTION.replace("    delta =", "    print('hello')\n    1 / 0\n    delta ="),
        "tom": SOLUTION.replace("def forward(x, weights):", "def forward(x, weights):\n    while True: pass"),
    }.items():
        (gradtwin.folder / "all" / f"{name}.py").write_text(text, encoding="utf-8")
    found = gradtwin("homework", "all", "--json", "all.json", "--junit", "all.xml", "--time-limit", "12")
    assert found.status == 2 and "1 of 4 submissions are right." in found.out and "hello" not in found.out
    ada, ben, eve, tom = json.loads((gradtwin.folder / "all.json").read_text())["submissions"]
    assert ada["ok"] and not ben["ok"]
    assert ben["stages"][2]["text"].startswith("the gradient of b1 is not the slopes of the loss (W1 right).")
    assert "1/5, one over the batch size" in ben["stages"][2]["text"]
    assert "eve.py, line 22, in backward: ZeroDivisionError: division by zero" in eve["stages"][2]["text"]
    assert "must answer within 12 seconds" in tom["refused"]
    tree = ET.fromstring((gradtwin.folder / "all.xml").read_text())
    assert [suite.get("failures") for suite in tree] == ["0", "1", "1", "0"] and tree[3].get("errors") == "1"


def test_what_a_folder_holds_beside_submissions(tmp_path):
    """Jupyter's copies, environments and hidden folders are not graded."""
    theirs = ["ada.py", "group/ben.py"]
    for name in (*theirs, ".ipynb_checkpoints/ada-checkpoint.py", ".venv/lib/site-packages/x.py", "__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(SOLUTION, encoding="utf-8")
    (tmp_path / "env/lib/site-packages").mkdir(parents=True)
    (tmp_path / "env/lib/site-packages/numpy.py").write_text(SOLUTION, encoding="utf-8")
    assert list_submissions([str(tmp_path)]) == [str(tmp_path / name) for name in theirs]


@pytest.mark.parametrize("line", ['EXERCISE = "softmax"', 'EXERCISE: str = "softmax"', 'A = EXERCISE = "softmax"'])
def test_how_a_submission_says_its_exercise(tmp_path, line):
    (tmp_path / "ada.py").write_text(f"{line}\n", encoding="utf-8")
    assert find_exercise(str(tmp_path / "ada.py")).name == "softmax"


def test_the_shapes_that_an_exercise_states():
    assert "x has the shape (batch, 5, 2), y (batch, 2)." in EXERCISES["rnn"].page()


def test_what_is_no_submission_is_refused(gradtwin):
    (gradtwin.folder / "odd.py").write_text("x = 1\n", encoding="utf-8")
    assert "must say its exercise" in gradtwin("homework", "odd.py").out
    assert gradtwin("homework", "none.py").err.startswith("gradtwin: A submission must exist.")
    assert gradtwin("homework").err.startswith("gradtwin: homework must have a submission")
