"""The weights of PyTorch's layers as Keras keeps them: a table read both ways, and Keras's own layers beside it."""

import importlib.util
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_ref import compare
from keras_ref.programs.torch_layouts import LAYOUTS

X = np.random.default_rng(0).normal(size=(4, 3))
SEQUENCES = np.random.default_rng(1).normal(size=(3, 5, 4))
IMAGES = np.random.default_rng(2).normal(size=(2, 6, 6, 3))


def stand_in(**values):
    """A module as the table reads it: LSTM and GRU of two layers and directions, attention of two heads."""
    return SimpleNamespace(
        **{
            "groups": 1,
            "in_channels": 3,
            "transposed": False,
            "num_layers": 2,
            "bidirectional": True,
            "num_heads": 2,
            "in_proj_weight": "there",
            **values,
        }
    )


#: (class, module, {parameter: shape} of what is turned; all others are vectors of 12 entries)
MODULES = [
    ("Linear", stand_in(), {"weight": (4, 3)}),
    ("Conv2d", stand_in(), {"weight": (4, 3, 2, 2)}),
    ("Conv1d", stand_in(groups=3), {"weight": (6, 1, 2)}),
    ("ConvTranspose3d", stand_in(transposed=True), {"weight": (3, 4, 2, 2, 2)}),
    ("BatchNorm2d", stand_in(), {}),
    ("LayerNorm", stand_in(), {}),
    ("GroupNorm", stand_in(), {}),
    ("Embedding", stand_in(), {"weight": (5, 3)}),
    ("LSTM", stand_in(), {"weight": (12, 3)}),
    ("RNN", stand_in(bidirectional=False), {"weight": (12, 3)}),
    ("GRU", stand_in(num_layers=1), {"weight": (12, 3)}),
    ("MultiheadAttention", stand_in(), {"weight": (6, 6), "in_proj_weight": (18, 6)}),
    ("MultiheadAttention", stand_in(in_proj_weight=None), {"out_proj.weight": (6, 6), "weight": (6, 5)}),
]


@pytest.mark.parametrize(("name", "module", "shapes"), MODULES)
def test_layouts_are_read_both_ways(name, module, shapes):
    """No entry is lost, and no two blocks of a parameter are the same."""
    layouts = LAYOUTS[name](module)
    assert layouts and len({one.part for one in layouts}) == len(layouts)
    read: dict[str, list] = {}
    for layout in layouts:
        for source in layout.sources:
            shape = next((s for key, s in shapes.items() if key in source), None)
            value = np.random.default_rng(0).normal(size=shape or (12,))
            block = layout.select_part(value)
            assert (layout.to_torch(layout.to_keras(block)) == block).all(), (name, layout.part)
            read.setdefault(source, []).append((block, value))
    for parts in read.values():
        whole = np.concatenate([block for block, _ in parts])
        assert whole.shape == parts[0][1].shape and (whole == parts[0][1]).all()


def test_every_class_of_the_table_is_tried():
    kinds = {name.rstrip("123d") for name, _, _ in MODULES}
    assert {name.rstrip("123d") for name in LAYOUTS} == kinds


NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: pip install gradtwin[torch]"
)


def model_of(shape, *layers):
    return keras.Sequential([keras.Input(shape), *layers])


@NEEDS_TORCH
def test_a_chain():
    from torch import nn

    dense = keras.layers.Dense
    found = compare(
        model_of((3,), dense(4, "tanh"), dense(2)), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), X
    )
    assert found.ok and [m.b for m in found.matched] == ["0/kernel", "0/bias", "2/kernel", "2/bias"]


@NEEDS_TORCH
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (2, True)])
def test_recurrent_modules(kind, layers, both):
    """Several layers of one module are as many layers of Keras, two directions a Bidirectional."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = getattr(nn, kind)(4, 3, num_layers=layers, bidirectional=both, batch_first=True)
            self.out = nn.Linear(6 if both else 3, 2)

        def forward(self, x):
            return self.out(self.inner(x)[0])

    make = getattr(keras.layers, "SimpleRNN" if kind == "RNN" else kind)
    stack = [make(3, return_sequences=True) for _ in range(layers)]
    own = model_of((5, 4), *(map(keras.layers.Bidirectional, stack) if both else stack), keras.layers.Dense(2))
    found = compare(own, Net(), SEQUENCES)
    assert found.ok and len(found.matched) == len(own.weights), found


@NEEDS_TORCH
@pytest.mark.parametrize("one_size", [True, False])
def test_attention(one_size):
    """Queries, keys and values lie in one parameter where their inputs have the same size."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {} if one_size else {"kdim": 5, "vdim": 5}
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **sizes)
            self.keys = nn.Identity() if one_size else nn.Linear(4, 5)
            self.out = nn.Linear(4, 2)

        def forward(self, x):
            keys = self.keys(x)
            return self.out(self.attention(x, keys, keys)[0])

    x = keras.Input((5, 4))
    keys = x if one_size else keras.layers.Dense(5, name="keys")(x)
    h = keras.layers.MultiHeadAttention(2, 2, name="attention")(x, keys, keys)
    own = keras.Model(x, keras.layers.Dense(2)(h))
    mapped = None if one_size else {"keys/kernel": "keys/kernel", "keys/bias": "keys/bias"}
    found = compare(own, Net(), SEQUENCES, map=mapped)
    assert found.ok and len(found.matched) == len(own.weights), found


@NEEDS_TORCH
@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_depthwise_convolution(multiplier):
    from torch import nn

    own = model_of((6, 6, 3), keras.layers.DepthwiseConv2D(3, depth_multiplier=multiplier), keras.layers.Conv2D(2, 1))
    module = nn.Sequential(nn.Conv2d(3, 3 * multiplier, 3, groups=3), nn.Conv2d(3 * multiplier, 2, 1))
    found = compare(own, module, IMAGES)
    assert found.ok and len(found.matched) == len(own.weights), found


@NEEDS_TORCH
def test_grouped_filters_of_keras_are_the_same_weights():
    """Conv2D(groups=3) keeps (space…, 1, 3·m), where DepthwiseConv2D has (space…, 3, m)."""
    from torch import nn

    own = model_of((6, 6, 3), keras.layers.Conv2D(6, 3, groups=3), keras.layers.Conv2D(2, 1))
    for a, b in (
        (own, torch_side := nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 2, 1))),
        (torch_side, own),
    ):
        found = compare(a, b, IMAGES)
        assert found.ok and len(found.matched) == len(own.weights), found


@NEEDS_TORCH
def test_outputs_and_targets_that_are_images():
    """Channels are last in Keras and first in PyTorch, in outputs, in targets and in the loss."""
    import torch
    from torch import nn

    own = model_of((6, 6, 3), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Conv2D(2, 2))
    own.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 2))
    program = {"module": module, "loss": nn.MSELoss(), "optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    found = compare(own, program, IMAGES, np.random.default_rng(3).normal(size=(2, 3, 3, 2)), steps=1)
    assert found.ok and {row.stage for row in found.rows} == {"forward", "loss", "gradient", "update"}, found


@NEEDS_TORCH
def test_what_the_table_does_not_have_is_taken_as_it_is():
    from torch import nn

    from keras_ref.programs.torch_layouts import list_entries

    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    assert [(e.name, e.known) for e in list_entries(attention)][-2:] == [("bias_k", False), ("bias_v", False)]
    projected = list_entries(nn.LSTM(4, 3, proj_size=2))
    assert not any(e.known for e in projected) and "weight_hr_l0" in [e.name for e in projected]
    assert [e.name for e in list_entries(nn.GRU(4, 3, bias=False))] == ["kernel", "recurrent_kernel"]
