"""Pairs of a Keras model and a PyTorch module, for the table of pairs.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from pair_table import drawn, pair, sequential


@pair("torch: the approximation of gelu", "hidden", "forward", needs="torch", steps=1)
def _(wrong: bool) -> Any:
    import keras
    import torch
    from torch import nn

    layers = keras.layers
    a = sequential((3,), layers.Dense(5, "gelu", name="hidden"), layers.Dense(2), optimizer=keras.optimizers.SGD(0.1))
    module = nn.Sequential(nn.Linear(3, 5), nn.GELU(approximate="tanh" if wrong else "none"), nn.Linear(5, 2))
    b = {"module": module, "loss": nn.MSELoss(), "optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}
    return a, b, drawn(6, 3), drawn(6, 2)


@pair("torch: epsilon of batch normalization", "norm", "forward", needs="torch")
def _(wrong: bool) -> Any:
    import keras
    from torch import nn

    layers = keras.layers
    epsilon = 1e-3 if wrong else 1e-5
    a = sequential(
        (6, 6, 2),
        layers.Conv2D(3, 3, name="conv"),
        layers.BatchNormalization(epsilon=epsilon, name="norm"),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
        loss=None,
    )

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.out = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2)

        def forward(self, x: Any) -> Any:
            return self.out(self.bn(self.conv(x)).relu().mean((2, 3)))

    return a, Net(), drawn(4, 6, 6, 2), None


@pair("torch: padding of a strided convolution", "conv", "forward", needs="torch")
def _(wrong: bool) -> Any:
    import keras
    from torch import nn

    layers = keras.layers
    a = sequential(
        (6, 6, 2),
        layers.Conv2D(3, 3, strides=2, padding="same", name="conv"),
        layers.GlobalMaxPooling2D(),
        layers.Dense(2),
        loss=None,
    )
    # "same" of Keras pads one pixel at the end of an even image, padding=1 of PyTorch one on each side
    pad = [] if wrong else [nn.ZeroPad2d((0, 1, 0, 1))]
    tail = [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, 2)]
    return a, nn.Sequential(*pad, nn.Conv2d(2, 3, 3, 2, padding=int(wrong)), *tail), drawn(4, 6, 6, 2), None


@pair("torch: layout of flattened images", "flat", "forward", needs="torch")
def _(wrong: bool) -> Any:
    import keras
    from torch import nn

    layers = keras.layers
    a = sequential(
        (5, 5, 2), layers.Conv2D(3, 2, activation="relu"), layers.Flatten(name="flat"), layers.Dense(2), loss=None
    )

    class ChannelsLast(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1)

    turn = [] if wrong else [ChannelsLast()]
    return (
        a,
        nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), *turn, nn.Flatten(), nn.Linear(48, 2)),
        drawn(4, 5, 5, 2),
        None,
    )


@pair("torch: initial state of a GRU", "gru", "forward", needs="torch")
def _(wrong: bool) -> Any:
    import keras
    import torch
    from torch import nn

    layers = keras.layers
    a = sequential((4,), layers.Embedding(7, 3), layers.GRU(3, return_sequences=True, name="gru"), loss=None)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.gru = nn.Embedding(7, 3), nn.GRU(3, 3, batch_first=True)

        def forward(self, x: Any) -> Any:
            e = self.embedding(x)
            state = torch.ones(1, len(x), 3, dtype=e.dtype) * (0.1 if wrong else 0.0)
            return self.gru(e, state)[0]

    return a, Net(), np.random.default_rng(0).integers(0, 7, (5, 4)), None


@pair("torch: order of the gates of an LSTM", "lstm", "forward", needs="torch")
def _(wrong: bool) -> Any:
    import keras
    import torch
    from torch import nn

    layers = keras.layers
    a = sequential((4, 2), layers.LSTM(3, return_sequences=True, name="lstm"), layers.Dense(2), loss=None)

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel, self.recurrent = nn.Parameter(torch.ones(2, 12)), nn.Parameter(torch.ones(3, 12))
            self.bias = nn.Parameter(torch.ones(12))

        def forward(self, x: Any) -> Any:
            h = c = torch.zeros(len(x), 3, dtype=x.dtype)
            found = []
            for t in range(x.shape[1]):
                z = x[:, t] @ self.kernel + h @ self.recurrent + self.bias
                i, f, g, o = z.chunk(4, 1)
                g, o = (o, g) if wrong else (g, o)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                found.append(h)
            return torch.stack(found, 1)

    return a, nn.Sequential(Cell(), nn.Linear(3, 2)), drawn(5, 4, 2), None
