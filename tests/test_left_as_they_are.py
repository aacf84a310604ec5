"""compare leaves what it is given, and the random states of the process, bit for bit as they were: every kind."""

import copy
import random
import sys
import types
from collections import deque

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ref import compare, reflect
from keras_ref.evaluation.changed_state.float64 import find_global_generator
from scratch.objective import Objective

GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(4, 3)), GENERATOR.normal(size=(4, 2))


def keras_model(library=keras):
    layers = library.layers
    model = library.Sequential(
        [
            library.Input((3,)),
            layers.Dense(3, "tanh"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )
    model.compile(optimizer=library.optimizers.Adam(0.1), loss="mse", metrics=["mae"])
    model.train_on_batch(X, Y)
    return model


def keras_2():
    import tf_keras

    return keras_model(tf_keras)


class Student:
    """A network that keeps caches, counts, draws and overwrites what it is given."""

    def __init__(self):
        self.weights = {"W": np.ones((3, 2)) / 4, "b": np.zeros(2)}
        self.calls, self.cache, self.random = [], {"x": np.zeros(2)}, np.random.default_rng(3)
        self.seen, self.queue, self.bytes, self.old = {0}, deque([1]), bytearray(b"a"), random.Random(3)
        self.space, self.objects = types.SimpleNamespace(n=0), np.array([None, 1])

    def forward(self, x, weights):
        self.calls.append(self.random.normal())
        self.cache["x"] = x
        self.seen.add(len(self.seen))
        self.queue.append(self.old.random())
        self.bytes += b"b"
        self.space.n += 1
        self.objects[0] = x
        self.weights["W"] += 1
        self.late = np.random.normal() + random.random()  # noqa: NPY002 (the state of the process)
        return x @ weights["W"] + weights["b"]

    def loss(self, output, y):
        return np.mean((output - y) ** 2)

    def backward(self, x, y, weights):
        delta = 2 * (x @ weights["W"] + weights["b"] - y) / y.size
        return {"W": x.T @ delta, "b": delta.sum(0)}

    def update_weights(self, weights, gradients, learning_rate):
        for name, gradient in gradients.items():
            weights[name] -= learning_rate * gradient
        return weights


def module_of_numpy():
    found, student = types.ModuleType("student_module"), Student()
    found.weights, found.forward, found.state = student.weights, student.forward, [student]
    return found


def jax_function():
    def forward(parameters, x):
        return x @ parameters["w"] + parameters["b"]

    def loss(parameters, x, y):
        return ((forward(parameters, x) - y) ** 2).mean()

    return {"forward": forward, "loss": loss, "parameters": {"w": np.ones((3, 2)), "b": np.zeros(2)}}


def torch_module():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install gradtwin[torch]")
    nn = torch.nn

    class Drawing(nn.Module):
        def forward(self, x):
            return x + 0 * torch.randn(())

    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), Drawing(), nn.Linear(3, 2))
    module(torch.ones(2, 3)).sum().backward()
    return {"module": module, "loss": nn.functional.mse_loss, "optimizer": lambda p: torch.optim.SGD(p, 0.1)}


def scratch_model():
    twin, _ = reflect(keras_model())
    return Objective.of(twin, "MeanSquaredError")


KINDS = {
    one.__name__: one
    for one in (keras_model, keras_2, Student, module_of_numpy, jax_function, torch_module, scratch_model)
}


def held_by_torch(module):
    gradients = {n: None if p.grad is None else p.grad.numpy().tobytes() for n, p in module.named_parameters()}
    modes = [(m.training, len(m._forward_hooks)) for m in module.modules()]
    return {n: t.numpy().tobytes() for n, t in module.state_dict().items()}, gradients, modes


def held_by_keras(model):
    things = [model, model.optimizer, *model.layers]
    variables = [*model.variables, *getattr(model, "metrics_variables", ()), *model.optimizer.variables]
    plain = [{k: v for k, v in vars(t).items() if isinstance(v, (int, float, str, type(None)))} for t in things]
    return [np.asarray(v).tobytes() for v in variables], plain, [sorted(vars(t)) for t in things]


#: (what it is told by, what it holds as plain data)
HELD = (
    (lambda value: hasattr(value, "state_dict"), held_by_torch),
    (lambda value: hasattr(value, "get_weights"), held_by_keras),
    (lambda value: isinstance(value, np.ndarray), lambda value: (value.dtype.str, value.shape, value.tobytes())),
    (lambda value: isinstance(value, np.random.Generator), lambda value: value.bit_generator.state),
    (lambda value: isinstance(value, dict), lambda value: {key: held(part) for key, part in value.items()}),
    (lambda value: isinstance(value, (set, deque, bytearray)), lambda value: [type(value), *value]),
    (lambda value: isinstance(value, random.Random), lambda value: value.getstate()),
    (lambda value: isinstance(value, (list, tuple)), lambda value: [held(part) for part in value]),
    (
        lambda value: isinstance(value, (Student, types.ModuleType)),
        lambda value: held({key: part for key, part in vars(value).items() if not key.startswith("__")}),
    ),
    (lambda value: True, repr),
)


def held(value):
    """All that an object holds, as plain data."""
    return next(read(value) for fits, read in HELD if fits(value))


def random_states():
    """The random states of the process, and the float types."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    generator = find_global_generator()
    return (
        random.getstate(),
        held(np.random.get_state()),  # noqa: NPY002 (the state of the process)
        None if generator is None else np.asarray(generator.state).tobytes(),
        tf.random.get_global_generator().state.numpy().tobytes(),
        keras.config.floatx(),
        keras.config.dtype_policy().name,
        None if torch is None else torch.random.get_rng_state().numpy().tobytes(),
        None if jax is None else bool(jax.config.jax_enable_x64),
    )


def require_left(kind, **options):
    value, labels = KINDS[kind](), Y.copy()
    before, states = copy.deepcopy(held(value)), random_states()
    compare(value, value, X, labels, **options)
    assert held(value) == before
    assert random_states() == states
    assert (labels == Y).all()


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_compared_is_left_as_it_was(kind):
    require_left(kind, training=True, steps=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(training=st.booleans(), steps=st.integers(0, 2), seed=st.integers(0, 3))
def test_with_any_options(kind, training, steps, seed):
    require_left(kind, training=training, steps=steps, seed=seed)


class Failing(Student):
    """A program that changes itself and then raises."""

    def loss(self, output, y):
        self.weights["W"] += 1
        raise KeyboardInterrupt


@pytest.mark.sampled
def test_an_interrupted_comparison_leaves_everything_too():
    """The guard of the other verbs is around this one."""
    value = Failing()
    before, states = copy.deepcopy(held(value)), random_states()
    with pytest.raises(KeyboardInterrupt):
        compare(keras_model(), value, X, Y)
    assert held(value) == before
    assert random_states()[4:] == states[4:]
