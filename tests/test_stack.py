"""What a stack of arrays gives is the stack of what each array gives: for every registered layer, and every operation
that has a rule.
"""

import numpy as np
import pytest
from example_pools import pool
from hypothesis import given, note, settings
from hypothesis import strategies as st

from keras_ref import strategies as gt
from scratch import registry
from scratch.calls import as_masks, as_tuple
from scratch.differences import UNIT
from scratch.gradient import Nudges
from scratch.layers.base import Layer
from scratch.layers.recurrent import Recurrent
from scratch.model import Model
from scratch.nudging.stack import Stack, Unstackable, values_of
from scratch.objective import Objective

COUNT = 4
#: layers with weights, and the operation that keeps some of their forward passes from being stacked
LOOPED = {
    "Conv1DTranspose": "writes into an array",
    "Conv2DTranspose": "writes into an array",
    "Conv3DTranspose": "writes into an array",
    "SpectralNormalization": "asks whether the kernel is one of zeros",
}
#: layers all of whose weights are state, which gradients do not train
UNTRAINED = ("Normalization", "Pipeline")
LAYERS = [
    name
    for name, cls in registry.every("layer").items()
    if cls.weight_shapes is not Layer.weight_shapes and name not in UNTRAINED
]


def trained(architecture):
    """The names of the weights that gradients train."""
    return [
        name for name in architecture.layer.weight_shapes(*architecture.shapes) if name not in architecture.layer.state
    ]


def is_close(mine, true):
    """Whether two arrays are equal to rounding, as matrix products of other sizes round; the parts by themselves."""
    parts = (np.real, np.imag) if np.iscomplexobj(true) else (np.float64,)
    return all(
        np.max(np.abs(part(mine) - part(true)), initial=0) <= 256 * UNIT * np.max(np.abs(part(true)), initial=0)
        for part in parts
    )


def is_same(mine, true):
    """Whether an array has the shape, type and values of another, infinite and undefined ones at the same places."""
    finite = np.isfinite(true)
    assert mine.shape == true.shape
    assert mine.dtype == true.dtype
    return np.array_equal(np.isfinite(mine), finite) and is_close(mine[finite], true[finite])


@pytest.fixture
def drawn(request):
    """The architectures are drawn before the examples are: Hypothesis does not like to draw while it draws."""
    pool(request.node.callspec.params["name"])


@pytest.mark.sampled
@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=max(5, settings.default.max_examples // 2))
@given(data=st.data())
def test_layers(name, data):
    """A forward pass on a stack of weights: each weight, or all; in training and not, with masks, draws and states."""
    chosen = data.draw(st.sampled_from([one for one in pool(name) if trained(one)]))
    layer, shapes = chosen.layer, chosen.shapes
    weights = gt.weights_of(chosen.model, ("generic",))
    weights = {key.split("/", 1)[1]: value for key, value in data.draw(weights).items()}
    x = tuple(data.draw(gt.inputs_of(chosen.model, batch=shapes[0][0], patterns=("generic",))).values())
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    call = calls_of(layer, shapes, generator, training=data.draw(st.booleans()))
    if "stopped" in layer.accepts:
        call["stopped"] = layer.stopped(weights, *x, **call)
    names = trained(chosen)
    moved = [data.draw(st.sampled_from(names))] if data.draw(st.booleans()) else names
    kind = data.draw(st.sampled_from((1.0, 1e-20j)))
    stacked = {key: weights[key] + kind * generator.uniform(0.5, 1.0, (COUNT, *weights[key].shape)) for key in moved}
    note(f"replay: {layer} on {shapes}, moved {moved}, {call}")
    with np.errstate(all="ignore"):
        try:
            found = layer.forward(weights | {key: Stack(value) for key, value in stacked.items()}, *x, **call)
        except Unstackable:
            assert name in LOOPED
            return
        each = [
            layer.forward(weights | {key: value[s] for key, value in stacked.items()}, *x, **call) for s in range(COUNT)
        ]
    for i, mine in enumerate(as_tuple(found)):
        assert is_same(values_of(mine, COUNT), np.stack([np.asarray(as_tuple(one)[i]) for one in each]))


def calls_of(layer, shapes, generator, *, training):
    """The keywords of a call: `training`, random draws, and for a sequence a mask."""
    call = {}
    if "training" in layer.accepts:
        call["training"] = training
    if "draw" in layer.accepts and training:
        call["draw"] = {
            key: generator.normal(size=shape) if key.endswith("noise") else generator.random(shape) < 0.7
            for key, shape in layer.draw_shapes(*shapes).items()
        }
    if isinstance(layer, Recurrent) and generator.random() < 0.5:
        call["mask"] = as_masks(generator.random(shapes[0][:2]) < 0.7, len(shapes))
    return call


class Inverse(Layer):
    """x · kernel⁻¹, for which stacks have no rule; it has an error of its own."""

    def weight_shapes(self, *inputs):
        return {"kernel": (2, 2)}

    def forward(self, weights, *inputs):
        return inputs[0] @ np.linalg.inv(weights["kernel"])


def test_what_cannot_be_stacked_is_looped_over():
    """A layer without rules is computed for one nudge after another, which is remembered, and raises its own errors."""
    model, y = Model.chain([Inverse()], (2,)), np.ones((2, 2))
    weights = {"inverse/kernel": np.array([[2.0, 1.0], [0.5, 1.0]])}
    fast, plain = (Nudges(Objective.of(model, "MeanSquaredError"), weights, np.eye(2), y, plain=p) for p in (0, 1))
    nudges = "inverse/kernel", np.arange(4), np.array([[1e-3] * 4, [-1e-3] * 4])
    assert is_same(fast.losses(*nudges), plain.losses(*nudges))
    assert fast.point.unstackable == {(model.calls[0].outputs, "inverse/kernel")}
    with pytest.raises(np.linalg.LinAlgError):  # the first of these kernels is singular
        fast.losses("inverse/kernel", np.array([0, 1]), np.array([[-1.5, 1.0]]))


A, B = np.arange(24.0).reshape(2, 3, 4) - 9.5, np.arange(1.0, 5.0)
INDICES = np.argsort(A, axis=-1)
#: operations on arrays (2, 3, 4)
OPERATIONS = {
    "arithmetic": lambda a: (B * a - a / 2 + 1) ** 2,
    "a function with two results": lambda a: np.divmod(a.real, 3.0),
    "more axes on the left": lambda a: a + np.ones((5, 2, 3, 4)),
    "more axes on the right": lambda a: np.ones((2, 1, 1)) * a[0],
    "comparisons": lambda a: (a.real > 0) & ~(a.real > 5),
    "parts": lambda a: a.real + 2 * a.imag,
    "matrix product": lambda a: a @ np.ones((4, 2)),
    "matrix product from the left": lambda a: np.ones((5, 3)) @ a,
    "matrix products": lambda a: a @ a.swapaxes(-1, -2),
    "products of matrices in other numbers": lambda a: a[0] @ a.swapaxes(1, 2),
    "tensordot": lambda a: np.tensordot(a, np.ones((3, 4, 2)), 2),
    "tensordot from the left": lambda a: np.tensordot(np.ones((5, 2)), a, 1),
    "einsum": lambda a: np.einsum("zab,bc->zac", a, np.ones((4, 2))),
    "einsum, twice": lambda a: np.einsum("...ab,...cb->...ac", a, a),
    "where": lambda a: np.where(a.real > 0, a, B),
    "where of plain arrays": lambda a: np.where(B > 2, a, 0.0),
    "sum": lambda a: a.sum(axis=-1),
    "sum of two axes": lambda a: a.sum(axis=(0, -1), keepdims=True),
    "sum of all": lambda a: a.sum(),
    "np.sum": lambda a: np.sum(a, axis=1),
    "mean": lambda a: a.mean(axis=1, keepdims=True),
    "max": lambda a: a.real.max(axis=0),
    "min": lambda a: np.min(a.real, axis=0),
    "any": lambda a: (a.real > 0).any(axis=1),
    "reshape": lambda a: a.reshape(-1, 4),
    "reshape to a tuple": lambda a: a.reshape((3, -1)),
    "reshape to a list": lambda a: a.reshape([4, 1, 6]),
    "transpose": lambda a: a.transpose(2, 0, 1),
    "transpose in an order": lambda a: np.transpose(a, np.array([0, 2, 1])),
    "opposite": lambda a: a.transpose() + a.T,
    "swapaxes": lambda a: np.swapaxes(a, 0, -1),
    "moveaxis": lambda a: np.moveaxis(a, 0, -1),
    "moveaxis of several": lambda a: np.moveaxis(a, range(2), (1, 2)),
    "expand_dims": lambda a: np.expand_dims(a, 0) * np.expand_dims(a, -1)[..., 0],
    "broadcast_to": lambda a: np.broadcast_to(a[0], (2, 3, 4)),
    "pad": lambda a: np.pad(a, ((1, 0), (0, 2), (0, 0)), constant_values=2.0),
    "windows": lambda a: np.lib.stride_tricks.sliding_window_view(a, (2, 2), axis=(1, 2)),
    "split": lambda a: np.split(a, 2, axis=-1),
    "split at the first axis": lambda a: np.split(a, 2, axis=0),
    "repeat": lambda a: np.repeat(a, 2, axis=-2),
    "flip": lambda a: np.flip(a, axis=1),
    "cumsum": lambda a: np.cumsum(a, axis=-1),
    "argsort": lambda a: np.argsort(-a.real, axis=-1, kind="stable"),
    "take_along_axis": lambda a: np.take_along_axis(a, INDICES, axis=-1),
    "take_along_axis of a plain array": lambda a: np.take_along_axis(A, np.argsort(a.real, axis=-1), axis=-1),
    "concatenate": lambda a: np.concatenate([a, A, a], axis=-1),
    "concatenate the first axis": lambda a: np.concatenate([a, A]),
    "stack": lambda a: np.stack([a, A], axis=1),
    "stack at the last axis": lambda a: np.stack([A, a], axis=-1),
    "zeros_like": lambda a: a + np.zeros_like(a) + np.ones_like(a),
    "astype": lambda a: (a.real > 0).astype(float),
    "types": lambda a: a * np.zeros(1, np.result_type(a, A)),
    "facts": lambda a: a * (np.ndim(a) + len(a) + a.size + np.shape(a)[-1] + np.iscomplexobj(a)),
    "index": lambda a: a[1],
    "slices": lambda a: a[:, ::-1, None, 1:],
    "ellipsis": lambda a: a[..., 1],
    "array as an index": lambda a: a[np.array([1, 0, 1])],
    "array behind a slice": lambda a: a[:, np.array([2, 0])],
    "loop": lambda a: sum(part * (i + 1) for i, part in enumerate(a)),
}


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name, kind):
    """An operation on a stack, and on its arrays one after another."""
    generator = np.random.default_rng(0)
    arrays = A + generator.normal(size=(COUNT, *A.shape)) * (1.0 if kind is float else 1e-20j)
    found = OPERATIONS[name](Stack(arrays))
    each = [OPERATIONS[name](array) for array in arrays]
    several = isinstance(found, (list, tuple))
    for i, mine in enumerate(found if several else [found]):
        assert isinstance(mine, Stack)
        assert is_same(mine.values, np.stack([one[i] if several else one for one in each]))


REFUSED = {
    "a branch": lambda a: a if a.sum() > 0 else -a,
    "a number": lambda a: float(a.sum()),
    "a plain array": np.asarray,
    "writing": lambda a: a.__setitem__(0, 1.0),
    "writing into a plain array": lambda a: np.zeros(A.shape).__setitem__(0, a[0]),
    "in place": lambda a: np.add(a, 1.0, out=a),
    "reduction of a ufunc": np.add.reduce,
    "a vector": lambda a: a @ B,
    "stack as an index": lambda a: a[(a.real > 0)],
    "several arrays as an index": lambda a: a[np.array([0]), :, np.array([0])],
    "windows to write into": lambda a: np.lib.stride_tricks.sliding_window_view(a, (2,), axis=(1,), writeable=True),
    "a function without a rule": lambda a: np.linalg.inv(a @ a.swapaxes(-1, -2)),
    "a method without a rule": lambda a: a.ptp(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    """What has no rule is refused, never computed wrongly."""
    with pytest.raises(Unstackable):
        REFUSED[name](Stack(np.stack([A] * COUNT)))
