"""How PyTorch's layers keep their weights where Keras keeps them otherwise: a table, read both ways.

    Linear          weight (out, in)            kernel is its transpose
    Conv            weight (out, in, space…)    kernel (space…, in, out)
    ConvTranspose   weight (in, out, space…)    kernel (space…, out, in)
    depthwise Conv  weight (in·m, 1, space…)    kernel (space…, in, m)
    LSTM            gates i, f, g, o            the same; Keras has one bias, the sum of PyTorch's two
    GRU             gates r, z, n               Keras z, r, h; its bias has both of PyTorch's, a row each
    layers, directions of a recurrent module    a layer of Keras each; a Bidirectional has first the forward one
    MultiheadAttention  in_proj (3·embed, …)    query, key, value: kernel (embed, heads, size), bias (heads, size)
                        out_proj (embed, embed) attention_output: kernel (heads, size, embed)
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
#: the layouts of a module's weights
LayoutsOf = Callable[[Any], "tuple[Layout, ...]"]


def _copy(array: Array) -> Array:
    return array


def _transpose(array: Array) -> Array:
    return np.ascontiguousarray(array.T)


def _to_space_first(array: Array) -> Array:
    """(a, b, space…) → (space…, b, a)"""
    return np.ascontiguousarray(np.moveaxis(array, (0, 1), (-1, -2)))


def _to_space_last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, (-1, -2), (0, 1)))


def _convert_gru_to_keras(array: Array) -> Array:
    """Gates r, z, n along axis 0 → z, r, h along the last axis."""
    reset, update, new = np.split(array, 3)
    return np.ascontiguousarray(np.concatenate([update, reset, new]).T)


def _convert_gru_to_torch(array: Array) -> Array:
    update, reset, new = np.split(array.T, 3)
    return np.ascontiguousarray(np.concatenate([reset, update, new]))


@dataclass(frozen=True)
class Layout:
    """A weight of Keras from parameters of PyTorch, and back.

    part      its name in Keras
    sources   the names of PyTorch's parameters: one, or both biases of a recurrent layer
    block     (i, n): it is the i-th of n equal blocks of the parameter's first axis
    """

    part: str
    sources: tuple[str, ...]
    to_keras: Turn = _copy
    to_torch: Turn = _copy
    block: tuple[int, int] = (0, 1)

    def select_part(self, tensor: Any) -> Any:
        """The block of a parameter, a view of it."""
        number, count = self.block
        size = len(tensor) // count if count > 1 else 0
        return tensor[number * size : (number + 1) * size] if count > 1 else tensor


_NORM = (Layout("gamma", ("weight",)), Layout("beta", ("bias",)))
_BATCH_NORM = (
    *_NORM,
    Layout("moving_mean", ("running_mean",)),
    Layout("moving_variance", ("running_var",)),
)


def _lay_out_convolution(module: Any) -> tuple[Layout, ...]:
    """A group for each channel is a depthwise convolution in Keras: (in·m, 1, space…) → (space…, in, m)."""
    bias, channels = Layout("bias", ("bias",)), module.in_channels
    if module.groups == 1 or module.groups != channels or module.transposed:
        return Layout("kernel", ("weight",), _to_space_first, _to_space_last), bias

    def to_keras(array: Array) -> Array:
        kernel = _to_space_first(array)
        return kernel.reshape(*kernel.shape[:-2], channels, -1)

    def to_torch(array: Array) -> Array:
        return _to_space_last(array.reshape(*array.shape[:-2], 1, -1))

    return Layout("kernel", ("weight",), to_keras, to_torch), bias


def _lay_out_recurrent(to_keras: Turn, to_torch: Turn, of_bias: tuple[Turn, Turn]) -> LayoutsOf:
    """Three weights for each layer and direction of a recurrent module, in the order of Keras's Bidirectional."""

    def layouts(module: Any) -> tuple[Layout, ...]:
        if getattr(module, "proj_size", 0):
            return ()  # Keras has no projection of the state
        ends = [f"_l{k}{way}" for k in range(module.num_layers) for way in ("", "_reverse")[: 1 + module.bidirectional]]
        found = []
        for end in ends:
            folder = f"{end.removeprefix('_')}/" if len(ends) > 1 else ""
            found += [
                Layout(f"{folder}kernel", (f"weight_ih{end}",), to_keras, to_torch),
                Layout(f"{folder}recurrent_kernel", (f"weight_hh{end}",), to_keras, to_torch),
                Layout(f"{folder}bias", (f"bias_ih{end}", f"bias_hh{end}"), *of_bias),
            ]
        return tuple(found)

    return layouts


def _lay_out_attention(module: Any) -> tuple[Layout, ...]:
    """Query, key and value, one below the other in in_proj where their inputs have one size, and the output."""
    heads = module.num_heads

    def split(array: Array) -> Array:
        """(heads·size, in) → (in, heads, size); (heads·size) → (heads, size)"""
        return np.ascontiguousarray(array.T.reshape(*array.shape[1:], heads, -1))

    def joined(array: Array) -> Array:
        return np.ascontiguousarray(array.reshape(*array.shape[:-2], -1).T)

    def to_output(array: Array) -> Array:
        """(out, heads·size) → (heads, size, out)"""
        return np.ascontiguousarray(array.T.reshape(heads, -1, len(array)))

    def from_output(array: Array) -> Array:
        return np.ascontiguousarray(array.reshape(-1, array.shape[-1]).T)

    found, together = [], module.in_proj_weight is not None
    for number, part in enumerate(("query", "key", "value")):
        kernel = ("in_proj_weight", (number, 3)) if together else (f"{part[0]}_proj_weight", (0, 1))
        found += [
            Layout(f"{part}/kernel", (kernel[0],), to_keras=split, to_torch=joined, block=kernel[1]),
            Layout(f"{part}/bias", ("in_proj_bias",), to_keras=split, to_torch=joined, block=(number, 3)),
        ]
    return (
        *found,
        Layout("attention_output/kernel", ("out_proj.weight",), to_output, from_output),
        Layout("attention_output/bias", ("out_proj.bias",)),
    )


def _lay_out_always(*layouts: Layout) -> LayoutsOf:
    """The same layouts for every module of a class."""
    return lambda _: layouts


_TURNED = _lay_out_recurrent(_transpose, _transpose, (_copy, _copy))
#: {class of PyTorch: its weights as Keras has them, for a module of it}
LAYOUTS: Mapping[str, LayoutsOf] = {
    "Linear": _lay_out_always(Layout("kernel", ("weight",), _transpose, _transpose), Layout("bias", ("bias",))),
    **{f"{kind}{n}d": _lay_out_convolution for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
    **{f"BatchNorm{n}d": _lay_out_always(*_BATCH_NORM) for n in (1, 2, 3)},
    "LayerNorm": _lay_out_always(*_NORM),
    "GroupNorm": _lay_out_always(*_NORM),
    "Embedding": _lay_out_always(Layout("embeddings", ("weight",))),
    "LSTM": _TURNED,
    "RNN": _TURNED,
    "GRU": _lay_out_recurrent(
        _convert_gru_to_keras, _convert_gru_to_torch, (_convert_gru_to_keras, _convert_gru_to_torch)
    ),
    "MultiheadAttention": _lay_out_attention,
}


def _read_momentum(module: Any) -> float | None:
    """Keras's momentum of a batch normalization; None for averages over all batches, which Keras does not have."""
    return None if module.momentum is None else 1 - module.momentum


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
        f"BatchNorm{n}d": ("BatchNormalization", {"epsilon": lambda m: m.eps, "momentum": _read_momentum})
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
        return self._join([source.detach() for source in self.sources], sum_of=True)

    def gradient(self) -> Array | None:
        """That of the first of two biases that are added: the other one is the same."""
        found = [source.grad for source in self.sources]
        return None if any(one is None for one in found) else self._join(found, sum_of=False)

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
            self.layout.select_part(source).copy_(torch.as_tensor(np.array(part)).to(source.dtype))

    def _join(self, tensors: list[Any], *, sum_of: bool) -> Array:
        parts = [self.layout.select_part(tensor).cpu().numpy() for tensor in tensors]
        if len(parts) == 1:
            return np.array(self.layout.to_keras(parts[0]))
        if self.layout.to_keras is _copy:
            return np.array(parts[0] + parts[1] if sum_of else parts[0])
        return np.stack([self.layout.to_keras(part) for part in parts])


def list_entries(module: Any) -> tuple[Entry, ...]:
    """The weights of a module in order, as Keras has them; what the table does not have as it is."""
    found, described = [], list[str]()
    for path, part in module.named_modules():
        if path and path.startswith(tuple(described)):
            continue
        known = LAYOUTS.get(type(part).__name__, _lay_out_always())(part)
        described += [f"{path}." if path else ""] if known else []
        own = dict([*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)])
        tensors = own | (dict(part.named_parameters()) if known else {})
        told = {name for layout in known for name in layout.sources}
        trained = {id(parameter) for parameter in part.parameters()}
        prefix = f"{path.replace('.', '/')}/" if path else ""
        for layout in (*known, *(Layout(name, (name,)) for name in own if name not in told)):
            if all(name in tensors for name in layout.sources) and tensors[layout.sources[0]].is_floating_point():
                sources = tuple(tensors[name] for name in layout.sources)
                is_trained = id(sources[0]) in trained
                found.append(
                    Entry(
                        f"{prefix}{layout.part}", layout, sources=sources, trainable=is_trained, known=layout in known
                    )
                )
    return tuple(found)


def find_definition(name: str, module: Any) -> Definition:
    """What a module is in the words of Keras, as far as the table has it."""
    class_name, settings = SETTINGS.get(type(module).__name__, (type(module).__name__, {}))
    return Definition(name=name, class_name=class_name, config={key: read(module) for key, read in settings.items()})
