"""How PyTorch's layers keep their weights where Keras keeps them otherwise: a table, read both ways.

    Linear          weight (out, in)            kernel is its transpose
    Conv            weight (out, in, space…)    kernel (space…, in, out)
    ConvTranspose   weight (in, out, space…)    kernel (space…, out, in)
    LSTM            gates i, f, g, o            the same; Keras has one bias, the sum of PyTorch's two
    GRU             gates r, z, n               Keras z, r, h; its bias has both of PyTorch's, a row each
    BatchNorm       momentum m                  Keras 1 - m; the running variance is the unbiased one in PyTorch
    LayerNorm       eps 1e-5                    Keras epsilon 1e-3
Source  pytorch.org/docs/stable/nn.html; keras.io/api/layers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ref.programs.program import Definition
from scratch.arrays import Array

Turn = Callable[[Array], Array]


def _same(array: Array) -> Array:
    return array


def _transposed(array: Array) -> Array:
    return np.ascontiguousarray(array.T)


def _to_space_first(array: Array) -> Array:
    """(a, b, space…) → (space…, b, a)"""
    return np.ascontiguousarray(np.moveaxis(array, (0, 1), (-1, -2)))


def _to_space_last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)))


def _gru_to_keras(array: Array) -> Array:
    """Gates r, z, n along axis 0 → z, r, h along the last axis."""
    reset, update, new = np.split(array, 3)
    return np.ascontiguousarray(np.concatenate([update, reset, new]).T)


def _gru_to_torch(array: Array) -> Array:
    update, reset, new = np.split(array.T, 3)
    return np.ascontiguousarray(np.concatenate([reset, update, new]))


@dataclass(frozen=True)
class Layout:
    """A weight of Keras from parameters of PyTorch, and back.

    part      its name in Keras
    sources   the names of PyTorch's parameters: one, or both biases of a recurrent layer
    """

    part: str
    sources: tuple[str, ...]
    to_keras: Turn = _same
    to_torch: Turn = _same


_CONVOLUTION = (Layout("kernel", ("weight",), _to_space_first, _to_space_last), Layout("bias", ("bias",)))
_NORM = (Layout("gamma", ("weight",)), Layout("beta", ("bias",)))
_BATCH_NORM = (
    *_NORM,
    Layout("moving_mean", ("running_mean",)),
    Layout("moving_variance", ("running_var",)),
)
_LSTM = (
    Layout("kernel", ("weight_ih_l0",), _transposed, _transposed),
    Layout("recurrent_kernel", ("weight_hh_l0",), _transposed, _transposed),
    Layout("bias", ("bias_ih_l0", "bias_hh_l0")),
)
_GRU = (
    Layout("kernel", ("weight_ih_l0",), _gru_to_keras, _gru_to_torch),
    Layout("recurrent_kernel", ("weight_hh_l0",), _gru_to_keras, _gru_to_torch),
    Layout("bias", ("bias_ih_l0", "bias_hh_l0"), _gru_to_keras, _gru_to_torch),
)
#: {class of PyTorch: its weights as Keras has them}
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "Linear": (Layout("kernel", ("weight",), _transposed, _transposed), Layout("bias", ("bias",))),
    **{f"{kind}{n}d": _CONVOLUTION for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": _BATCH_NORM for n in (1, 2, 3)},
    "LayerNorm": _NORM,
    "GroupNorm": _NORM,
    "Embedding": (Layout("embeddings", ("weight",)),),
    "LSTM": _LSTM,
    "RNN": _LSTM,
    "GRU": _GRU,
}
#: {class of PyTorch: (class of Keras, {setting of Keras: how it is read from the module})}
SETTINGS: Mapping[str, tuple[str, Mapping[str, Callable[[Any], Any]]]] = {
    "Linear": ("Dense", {"units": lambda m: m.out_features, "use_bias": lambda m: m.bias is not None}),
    "Conv2d": (
        "Conv2D",
        {
            "filters": lambda m: m.out_channels,
            "kernel_size": lambda m: tuple(m.kernel_size),
            "strides": lambda m: tuple(m.stride),
            "use_bias": lambda m: m.bias is not None,
        },
    ),
    **{
        f"BatchNorm{n}d": ("BatchNormalization", {"epsilon": lambda m: m.eps, "momentum": lambda m: 1 - m.momentum})
        for n in (1, 2, 3)
    },
    "LayerNorm": ("LayerNormalization", {"epsilon": lambda m: m.eps}),
    "GroupNorm": ("GroupNormalization", {"epsilon": lambda m: m.eps, "groups": lambda m: m.num_groups}),
    "LSTM": ("LSTM", {"units": lambda m: m.hidden_size}),
    "GRU": ("GRU", {"units": lambda m: m.hidden_size}),
    "LeakyReLU": ("LeakyReLU", {"negative_slope": lambda m: m.negative_slope}),
    "ELU": ("ELU", {"alpha": lambda m: m.alpha}),
    "ReLU": ("ReLU", {}),
    "Dropout": ("Dropout", {"rate": lambda m: m.p}),
}


@dataclass(frozen=True)
class Entry:
    """A weight of a module in the layout of Keras: read, written, differentiated."""

    name: str
    layout: Layout
    sources: tuple[Any, ...]
    trainable: bool
    known: bool = True

    def read(self) -> Array:
        return self._joined([source.detach().cpu().numpy() for source in self.sources], sum_of=True)

    def gradient(self) -> Array | None:
        """That of the first of two biases that are added: the other one is the same."""
        found = [source.grad for source in self.sources]
        if any(one is None for one in found):
            return None
        return self._joined([one.detach().cpu().numpy() for one in found], sum_of=False)

    def write(self, value: Array) -> None:
        """The whole of a bias goes to the first of two that are added."""
        import torch

        if len(self.sources) == 1:
            parts = [self.layout.to_torch(value)]
        elif value.ndim == 2:
            parts = [self.layout.to_torch(row) for row in value]
        else:
            parts = [value, np.zeros_like(value)]
        for source, part in zip(self.sources, parts, strict=True):
            source.copy_(torch.as_tensor(np.array(part)).to(source.dtype))

    def _joined(self, parts: list[Array], *, sum_of: bool) -> Array:
        if len(parts) == 1:
            return np.array(self.layout.to_keras(parts[0]))
        if self.layout.to_keras is _same:
            return np.array(parts[0] + parts[1] if sum_of else parts[0])
        return np.stack([self.layout.to_keras(part) for part in parts])


def entries_of(module: Any) -> tuple[Entry, ...]:
    """The weights of a module in order, as Keras has them; parameters of other modules as they are."""
    found = []
    for path, part in module.named_modules():
        tensors = {
            name: (tensor, isinstance_parameter)
            for isinstance_parameter, pairs in (
                (True, part.named_parameters(recurse=False)),
                (False, part.named_buffers(recurse=False)),
            )
            for name, tensor in pairs
        }
        layouts = LAYOUTS.get(type(part).__name__)
        chosen = layouts or tuple(Layout(name, (name,)) for name in tensors)
        for layout in chosen:
            if all(name in tensors for name in layout.sources) and tensors[layout.sources[0]][0].is_floating_point():
                sources = tuple(tensors[name][0] for name in layout.sources)
                prefix = f"{path.replace('.', '/')}/" if path else ""
                trained = tensors[layout.sources[0]][1]
                found.append(Entry(f"{prefix}{layout.part}", layout, sources, trained, layouts is not None))
    return tuple(found)


def definition_of(name: str, module: Any) -> Definition:
    """What a module is in the words of Keras, as far as the table has it."""
    class_name, settings = SETTINGS.get(type(module).__name__, (type(module).__name__, {}))
    return Definition(name=name, class_name=class_name, config={key: read(module) for key, read in settings.items()})
