"""Programs: each kind by its own file, in processes of their own, with one sentence for what goes wrong."""

import filecmp
import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import scratch
from keras_ref import compare, reflect
from keras_ref.errors import CouldNotRun
from keras_ref.programs import wire
from keras_ref.programs.keras_models import list_optimizer_variables
from keras_ref.programs.program import Point
from keras_ref.programs.remote import RemoteProgram
from keras_ref.programs.targets import list_kinds, open_object
from keras_ref.programs.torch_layouts import find_definition
from scratch import registry
from scratch.objective import Objective

ROOT = Path(__file__).parents[1]
X, Y = np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(1).normal(size=(5, 2))


def network(optimizer="sgd"):
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh", name="a"), layers.Dense(2, name="b")])
    model.compile(optimizer=optimizer, loss="mse")
    return model


def test_no_kind_knows_another():
    """The prefixes are those of the files, and no file of a kind names another kind's class."""
    assert set(list_kinds()) == {"keras", "keras-jax", "keras-torch", "keras2", "torch", "jax", "numpy", "scratch"}
    classes = {kind.__name__: kind.__module__ for kind in registry.every("program").values()}
    for folder in ("programs", "comparison", "checks", "frontends", "reports", "homework"):
        for file in (ROOT / "keras_ref" / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            assert not [name for name, home in classes.items() if name in text and home != module], file


def test_messages_hold_arrays_and_plain_data():
    sent = {"a": np.arange(3.0), "b": [None, True, 1.5, float("inf"), "text"], "c": {"d": np.zeros((2, 0), np.int32)}}
    back = wire.decode(wire.encode(sent))
    assert back["b"] == sent["b"] and back["c"]["d"].dtype == np.int32 and (back["a"] == sent["a"]).all()


@pytest.mark.sampled
def test_keras_2_agrees_with_keras_3():
    import tf_keras

    layers = tf_keras.layers
    other = tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2)])
    other.compile(optimizer=tf_keras.optimizers.Adam(0.1), loss="mse")
    found = compare(network(keras.optimizers.Adam(0.1)), other, X, Y, steps=1)
    assert found.ok and found.b.endswith("(tf_keras)"), found


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", ["Adam", "legacy.Adam"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_model_of_keras_2_is_left_as_it_was(precision, optimizer):
    import tf_keras

    def held():
        things = [model.optimizer, *model.layers]
        plain = [{k: v for k, v in vars(t).items() if type(v) in (int, float, str, bool, np.float64)} for t in things]
        return (
            tf_keras.backend.floatx(),
            [{k: (type(v), v) for k, v in t.items()} for t in plain],
            [v.numpy().tobytes() for v in (*model.variables, *list_optimizer_variables(model.optimizer))],
        )

    layers = tf_keras.layers
    with list_kinds()["keras2"](None).float_type(precision):
        model = tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(4), layers.BatchNormalization()])
        made = tf_keras.optimizers.legacy if "." in optimizer else tf_keras.optimizers
        model.compile(optimizer=made.Adam(0.1), loss="mse")
        model.train_on_batch(X, np.ones((5, 4)))
    before = held()
    assert compare(model, model, X, np.ones((5, 4)), steps=2, training=True).ok
    assert held() == before


@pytest.mark.sampled
def test_a_function_of_jax():
    import jax.numpy as jnp

    def forward(p, x):
        return jnp.tanh(x @ p["w1"] + p["c1"]) @ p["w2"] + p["c2"]

    def loss(p, x, y):
        return ((forward(p, x) - y) ** 2).mean()

    parameters = {"w1": np.ones((3, 4)), "c1": np.ones(4), "w2": np.ones((4, 2)), "c2": np.ones(2)}
    found = compare(network(), {"forward": forward, "loss": loss, "parameters": parameters}, X, Y)
    assert found.ok and {row.stage for row in found.rows} == {"forward", "loss", "gradient"}


def adam(rate, epsilon=1e-7):
    """Adam as an optimizer of Optax has it: init and update."""
    import jax
    import jax.numpy as jnp

    def each(function, *trees):
        return jax.tree_util.tree_map(function, *trees)

    def init(parameters):
        zeros = each(jnp.zeros_like, parameters)
        return 0, zeros, zeros

    def update(gradients, state, parameters):
        del parameters
        k, m, v = state[0] + 1, *state[1:]
        m = each(lambda a, g: 0.9 * a + 0.1 * g, m, gradients)
        v = each(lambda a, g: 0.999 * a + 0.001 * g**2, v, gradients)
        scale = rate * (1 - 0.999**k) ** 0.5 / (1 - 0.9**k)
        return each(lambda a, b: -scale * a / (jnp.sqrt(b) + epsilon), m, v), (k, m, v)

    return SimpleNamespace(init=init, update=update)


@pytest.mark.sampled
def test_training_steps_in_jax():
    import jax.numpy as jnp

    def forward(p, x):
        return jnp.tanh(x @ p["a"]["w"] + p["a"]["b"]) @ p["out"]["w"] + p["out"]["b"]

    parameters = {"a": {"w": np.ones((3, 4)), "b": np.ones(4)}, "out": {"w": np.ones((4, 2)), "b": np.ones(2)}}
    program = {"forward": forward, "loss": lambda p, x, y: ((forward(p, x) - y) ** 2).mean(), "parameters": parameters}
    own = network(keras.optimizers.Adam(0.1))
    found = compare(own, {**program, "optimizer": adam(0.1)}, X, Y, steps=3)
    assert found.ok and "update" in {row.stage for row in found.rows}, found
    assert "update" not in {row.stage for row in compare(own, program, X, Y, steps=3).rows}
    wrong = compare(own, {**program, "optimizer": adam(0.1, epsilon=1e-8)}, X, Y, steps=3)
    assert wrong.parting.stage == "update" and not wrong.ok, wrong


@pytest.mark.sampled
def test_training_steps_in_scratch():
    """Moving averages of a batch normalization included, which a step moves and no gradient does."""
    layers, definitions = keras.layers, {name: scratch.get("layer", name) for name in ("Dense", "BatchNormalization")}
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.BatchNormalization(), layers.Dense(2)])
    model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    dense, norm = definitions.values()
    objective = Objective.of(scratch.Model.chain([dense(4, "tanh"), norm(), dense(2)], (3,)), "MeanSquaredError")

    def compared(momentum):
        optimizer = scratch.get("optimizer", "SGD")(learning_rate=0.1, momentum=momentum)
        return compare(model, {"objective": objective, "optimizer": optimizer}, X, Y, steps=2)

    found = compared(0.9)
    assert found.ok and len([row for row in found.rows if row.stage == "update"]) == 8, found
    assert compared(0.875).parting.stage == "update"


def test_loss_weights_of_an_objective():
    """The gradient is that of the weighted sum, as the loss is."""
    x = keras.Input((3,), name="x")
    outputs = [keras.layers.Dense(2, name="a")(x), keras.layers.Dense(1, name="b")(x)]
    model = keras.Model(x, outputs)
    model.compile(loss=["mse", "mae"], loss_weights=[0.25, 3.0])
    twin, _ = reflect(model)
    losses = ["MeanSquaredError", "MeanAbsoluteError"]
    y = [Y, np.ones((5, 1))]
    assert compare(model, Objective.of(twin, losses, (0.25, 3.0)), X, y, steps=0).ok
    assert compare(model, Objective.of(twin, losses, (0.25, 2.0)), X, y, steps=0).parting.stage == "loss"


MODELS = """
    def build():
        import keras, numpy as np

        layers = keras.layers
        model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh", name="a"), layers.Dense(2, name="b")])
        model.compile(optimizer="sgd", loss="mse")
        return model
"""


@pytest.mark.slow
def test_keras_on_jax(gradtwin):
    gradtwin.write_module("models", MODELS)
    found = compare(network(), "keras-jax:models:build", X, Y, steps=1)
    assert found.ok and found.b.endswith("on JAX") and found.precision == "float64", found


NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: pip install gradtwin[torch]"
)


@pytest.mark.slow
@NEEDS_TORCH
def test_keras_on_torch(gradtwin):
    gradtwin.write_module("models", MODELS)
    assert compare(network(), "keras-torch:models:build", X, Y, steps=1).ok


def test_outputs_of_a_dictionary_have_one_order_in_all_programs():
    """That of their names, whatever the order in which a program returns them: the same factors belong to each."""
    kernels = {"one": np.arange(9.0).reshape(3, 3) / 8, "two": np.arange(6.0).reshape(3, 2) / 8}
    x = keras.Input((3,))
    b, a = (keras.layers.Dense(n, use_bias=False, name=name)(x) for name, n in (("one", 3), ("two", 2)))
    model = keras.Model(x, {"b": b, "a": a})
    for name, kernel in kernels.items():
        model.get_layer(name).set_weights([kernel])
    in_jax = {
        "forward": lambda p, x: {"b": x @ p["one"]["kernel"], "a": x @ p["two"]["kernel"]},
        "parameters": {name: {"kernel": kernel} for name, kernel in kernels.items()},
    }
    data = np.arange(6.0).reshape(2, 3) / 4
    weights = {f"{name}/kernel": kernel for name, kernel in kernels.items()}
    cotangent = [np.ones((2, 2)), np.full((2, 3), 2.0)]
    for program in map(open_object, (model, in_jax)):
        trace = program.run(Point(weights=weights, x=data, cotangent=cotangent))
        first, second = trace.outputs
        assert (first == data @ kernels["two"]).all() and (second == data @ kernels["one"]).all()
        assert (trace.gradient["two/kernel"] == data.T @ cotangent[0]).all()
    twin, _ = reflect(model)
    assert [value.shape for value in twin.forward(weights, data)] == [(2, 2), (2, 3)]


def test_averages_over_all_batches_have_no_momentum():
    """PyTorch's BatchNorm with momentum=None, which Keras does not have."""
    kind = type("BatchNorm1d", (), {"eps": 1e-5, "momentum": None})
    assert find_definition("bn", kind()).config == {"epsilon": 1e-5, "momentum": None}
    kind.momentum = 0.125
    assert find_definition("bn", kind()).config == {"epsilon": 1e-5, "momentum": 0.875}


def test_a_missing_backend_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CouldNotRun, match=r"needs jax\. Received: an environment without it\. Install gradtwin\[jax\]"):
        RemoteProgram("keras-jax:models:build")


# An eighth kind -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_eighth_program_is_one_file(tmp_path):
    """A copy of keras_ref with one file of at most 80 lines more compares HIPS autograd, in a worker too."""
    pytest.importorskip("autograd", reason="HIPS autograd is not installed")
    eighth = ROOT / "tests" / "eighth_program.py"
    assert len(eighth.read_text(encoding="utf-8").splitlines()) <= 80
    shutil.copytree(ROOT / "keras_ref", tmp_path / "keras_ref", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "scratch", tmp_path / "scratch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(eighth, tmp_path / "keras_ref" / "programs" / "hips_autograd.py")
    (tmp_path / "pair.py").write_text(
        textwrap.dedent("""
            import numpy as np

            def student():
                import autograd.numpy as anp
                forward = lambda p, x: anp.tanh(anp.dot(x, p["w"]) + p["b"])
                loss = lambda p, x, y: anp.mean((forward(p, x) - y) ** 2)
                parameters = {"w": np.ones((3, 2)), "b": np.ones(2)}
                return {"autograd_forward": forward, "loss": loss, "parameters": parameters}

            class Plain:
                weights = {"w": np.ones((3, 2)), "b": np.ones(2)}
                X, Y = np.arange(12.0).reshape(4, 3) / 16, np.ones((4, 2)) / 8
                def forward(self, x, weights): return np.tanh(x @ weights["w"] + weights["b"])
                def loss(self, output, y): return np.mean((output - y) ** 2)
                def backward(self, output, x, y):
                    d = 2 * (output - y) / y.size * (1 - output ** 2)
                    return {"w": x.T @ d, "b": d.sum(0)}
        """),
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-m", "keras_ref", "compare", "numpy:pair:Plain", "autograd:pair:student"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "B: HIPS autograd" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("They agree: forward, loss, gradient.\n")
    assert _differing(filecmp.dircmp(ROOT / "keras_ref", tmp_path / "keras_ref")) == ["hips_autograd.py"]


def _differing(folders: filecmp.dircmp) -> list[str]:
    """Names of the files that two folders do not have alike, inside them too; compiled ones apart."""
    own = [*folders.left_only, *folders.right_only, *folders.diff_files]
    inside = [name for part in folders.subdirs.values() for name in _differing(part)]
    return [name for name in (*own, *inside) if name != "__pycache__"]


def test_every_kind_opens_its_own_objects():
    assert type(open_object(network())).__name__ == "KerasOnTensorFlow"
    assert type(open_object(SimpleNamespace(forward=np.tanh))).__name__ == "NumpyModule"
