"""The networks of the speed table and how their gradients are taken; an earlier tree has all that this file imports.

`python networks.py --row NAME --repeats N` prints seconds as JSON, of the product that PYTHONPATH names.
"""

import argparse
import json
import time
from functools import partial

import numpy as np

from scratch.calls import Call
from scratch.differences import Central, Estimate
from scratch.gradient import numeric_gradient
from scratch.layers.core import Dense
from scratch.model import Model
from scratch.registry import get

STEP = 2.0**-17
SMALL, LARGE = ((16, 64, 64, 10), 32), ((64, 256, 256, 10), 64)


def two_points(line, at, noise):
    """(f(w + h) - f(w - h)) / 2h, and nothing about its error: what a plain loop does."""
    ahead, behind = (at + STEP) - at, (at - STEP) - at
    high, low = line(np.stack([ahead, behind]))
    return Estimate((high - low) / (ahead - behind), np.zeros(at.shape), np.zeros(at.shape))


def network(sizes, batch, seed=0):
    """Model, weights, x, y: tanh between dense layers, a linear last one, mean squared error."""
    g = np.random.default_rng(seed)
    model = Model.chain([*(Dense(n, "tanh") for n in sizes[1:-1]), Dense(sizes[-1])], sizes[:1])
    weights = {n: g.normal(size=s) / np.sqrt(s[0]) for n, s in model.weight_shapes.items()}
    return model, weights, g.normal(size=(batch, sizes[0])), g.normal(size=(batch, sizes[-1]))


def convolutional(seed=0):
    """Two convolutions, a pooling, a dense layer."""
    g = np.random.default_rng(seed)
    layers = [get("layer", "Conv2D")(8, 3, activation="tanh"), get("layer", "Conv2D")(8, 3, activation="tanh")]
    model = Model.chain([*layers, get("layer", "MaxPooling2D")(2), get("layer", "Flatten")(), Dense(10)], (16, 16, 3))
    weights = {n: g.normal(size=s) / 4 for n, s in model.weight_shapes.items()}
    return model, weights, g.normal(size=(16, 16, 16, 3)), g.normal(size=(16, 10))


def recurrent(seed=0):
    """An LSTM over twelve steps, a dense layer."""
    model = Model.chain([get("layer", "LSTM")(32), Dense(10)], (12, 16))
    return drawn(model, (16, 12, 16), seed)


def attention(seed=0):
    """Self-attention of two heads, the mean over the places, a dense layer."""
    layers = {
        "attention": get("layer", "MultiHeadAttention")(2, 16),
        "mean": get("layer", "GlobalAveragePooling1D")(),
        "dense": Dense(10),
    }
    calls = (
        Call("attention", ("input", "input"), ("attended",)),
        Call("mean", ("attended",), ("mean",)),
        Call("dense", ("mean",), ("dense",)),
    )
    return drawn(Model({"input": (None, 12, 32)}, layers, calls, ("dense",)), (16, 12, 32), seed)


def drawn(model, shape, seed):
    """Model, weights, x, y."""
    g = np.random.default_rng(seed)
    weights = {n: g.normal(size=s) / 4 for n, s in model.weight_shapes.items()}
    return model, weights, g.normal(size=shape), g.normal(size=(shape[0], 10))


def engine(model, weights, x, y, **options):
    """The whole gradient by the engine, of two points a weight."""
    return numeric_gradient(model, weights, x, y, loss="MeanSquaredError", scheme=two_points, noise=0.0, **options)


def default(model, weights, x, y):
    """The whole gradient as users call it."""
    return numeric_gradient(model, weights, x, y, loss="MeanSquaredError", scheme=Central())


def timed(function, repeats=1):
    """Wall-clock and processor seconds, each the least of all runs."""
    return in_turns({"": function}, repeats)[""]


def in_turns(functions, repeats):
    """The same of several functions by name, which run one after another, again and again."""
    best = {name: np.full(2, np.inf) for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            wall, processor = time.perf_counter(), time.process_time()
            function()
            spent = time.perf_counter() - wall, time.process_time() - processor
            best[name] = np.minimum(best[name], spent)
    return {name: tuple(map(float, seconds)) for name, seconds in best.items()}


#: rows of the speed table → what makes their model, weights, x and y
NETWORKS = {
    "small": partial(network, *SMALL),
    "large": partial(network, *LARGE),
    "convolution": convolutional,
    "recurrence": recurrent,
    "attention": attention,
}


def ways_of(case):
    """The two ways in which users and the benchmark take the gradient of a network, by name."""
    return {"two": partial(engine, *case), "default": partial(default, *case)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--row", choices=NETWORKS, required=True)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    ways = ways_of(NETWORKS[options.row]())
    ways["two"]()
    print(json.dumps(in_turns(ways, options.repeats)))
