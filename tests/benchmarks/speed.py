"""The speed table of the README, every row measured in this run: `python tests/benchmarks/speed.py [--quick]`.

Central differences (two losses a weight), float64, the whole gradient. The engine's time is the best of several runs.
Each way runs with one BLAS thread unless its row says otherwise. The plain loop over 85,002 weights is estimated from a
sample of them, before and after the engine, drawn over all layers in proportion.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from scratch.differences import Central, Estimate, taken
from scratch.gradient import Nudges, numeric_gradient
from scratch.layers.core import Dense
from scratch.model import Model
from scratch.nudging.addition_theorems import TERMS, shift, terms_of
from scratch.nudging.blocks import cores
from scratch.nudging.matrix_layers import multiply
from scratch.objective import Objective
from scratch.registry import get

STEP = 2.0**-17
SMALL, LARGE = ((16, 64, 64, 10), 32), ((64, 256, 256, 10), 64)


def two_points(line, at, noise):
    """(f(w + h) - f(w - h)) / 2h, and nothing about its error: what a plain loop does."""
    ahead, behind = taken(at, np.full(at.shape, STEP)), taken(at, np.full(at.shape, -STEP))
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


def engine(model, weights, x, y, **options):
    """The whole gradient by the engine."""
    return numeric_gradient(model, weights, x, y, loss="MeanSquaredError", scheme=two_points, noise=0.0, **options)


def plain_loss(weights, x, y):
    """The loss as anybody would write it in NumPy."""
    for i in range(0, len(weights), 2):
        x = (x if i == 0 else np.tanh(x)) @ weights[i] + weights[i + 1]
    return np.mean((x - y) ** 2)


def plain_loop(weights, x, y, which=None):
    """Slopes of the flat entries `which` of each weight (None: all), one forward pass for each nudge."""
    slopes = []
    for i, weight in enumerate(weights):
        flat, found = weight.reshape(-1), []
        for e in range(flat.size) if which is None else which[i]:
            kept = flat[e]
            flat[e] = kept + STEP
            high, above = plain_loss(weights, x, y), flat[e]
            flat[e] = kept - STEP
            low, below = plain_loss(weights, x, y), flat[e]
            flat[e] = kept
            found.append((high - low) / (above - below))
        slopes.append(np.array(found))
    return slopes


def sample(weights, count, seed=0):
    """About `count` flat entries, of each weight in proportion to its size, at least one."""
    g, total = np.random.default_rng(seed), sum(w.size for w in weights)
    return [np.sort(g.choice(w.size, max(1, round(count * w.size / total)), replace=False)) for w in weights]


def tensorflow_check(weights, x, y):
    """tf.test.compute_gradient over all weights: seconds."""
    import tensorflow as tf

    def loss(*variables):
        signal = tf.constant(x)
        for i in range(0, len(variables), 2):
            signal = (signal if i == 0 else tf.tanh(signal)) @ variables[i] + variables[i + 1]
        return tf.reduce_mean((signal - y) ** 2)

    arguments = [tf.constant(w) for w in weights]
    return timed(lambda: tf.test.compute_gradient(loss, arguments, delta=STEP))[0]


def timed(function, repeats=1):
    """Wall-clock and processor seconds, each the least of all runs."""
    best = np.full(2, np.inf)
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        function()
        best = np.minimum(best, (time.perf_counter() - wall, time.process_time() - processor))
    return tuple(map(float, best))


def unavoidable(sizes, batch):
    """Seconds on one core of the activations behind nudged weights and the products of the last kernel with them.

    A nudge of the first kernel or bias changes all of the second activation, and a product of it with the last kernel;
    a nudge of the second changes one channel. First with the activation itself, then with its addition theorem.
    """
    inputs, first, second, outputs = sizes
    g = np.random.default_rng(0)
    kernel, base = g.normal(size=(second, outputs)), np.tanh(g.normal(size=(batch, second)))
    terms = terms_of(get("activation", "tanh"), base)[:2]
    activation = product = theorem = np.inf
    for block in (2, 8, max(1, 2**18 // base.size)):  # whatever suits the caches of this machine
        z = g.normal(size=(block, *base.shape))
        step, out, spare = z * 1e-6, np.empty_like(z), np.empty_like(z)
        rows, column = np.ascontiguousarray(step[:, 0]), np.ascontiguousarray(z[:, :, 0])

        def by_theorem(rows=rows, column=column, out=out, spare=spare):
            np.einsum("sb,sk->sbk", column, rows, out=out)
            shift(terms, out, spare)

        activation = min(activation, timed(partial(np.tanh, z, out=out), 9)[1] / block)
        product = min(product, timed(partial(multiply, z, kernel), 9)[1] / block)
        theorem = min(theorem, timed(by_theorem, 9)[1] / block)
    nudges = 2 * (inputs + 1) * first
    own = 2 * ((inputs + 1) * first + (first + 1) * second) * activation / second
    return nudges * (activation + product) + own, nudges * (theorem + product) + own


def memory(name):
    """Peak megabytes of a run in a process of its own, and those before it began."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import speed; speed.report_memory({name!r})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    return [float(n) for n in out.stdout.split()]


WIDE = ((784, 1024, 1024, 10), 256)


def report_memory(name):
    """Print megabytes before and at the peak: all of the large network, of others some entries of each weight."""
    model, weights, x, y = (
        convolutional() if name == "convolutional" else network(*{"large": LARGE, "wide": WIDE}[name])
    )
    before = peak_memory()
    if name == "wide":
        nudges = Nudges(Objective.of(model, "MeanSquaredError"), weights, x, y)
        for weight, value in weights.items():
            nudges.losses(weight, np.arange(min(value.size, 64)), np.full((2, min(value.size, 64)), STEP))
    else:
        engine(model, weights, x, y)
    print(before, peak_memory())


def peak_memory():
    """Megabytes: the most that this program ever held (getrusage would count what its parent held when it forked)."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def row(what, seconds, note=""):
    """One printed line."""
    print(f"  {what:<60} {seconds:>9.3f} s   {note}".rstrip(), flush=True)


def compared(name, sizes, batch, quick):
    """The rows of one network."""
    model, weights, x, y = network(sizes, batch)
    arrays, total = list(weights.values()), sum(w.size for w in weights.values())
    print(f"{'-'.join(map(str, sizes))} tanh, batch {batch}: {total:,} weights, {cores()} cores")
    which = None if name == "small" and not quick else sample(arrays, 300 if quick else 1000)
    looked_at = total if which is None else sum(map(len, which))
    fast_way, slow_way = partial(engine, model, weights, x, y), partial(plain_loop, arrays, x, y, which)
    fast_way()
    with threadpool_limits(1, user_api="blas"):
        loops = [timed(slow_way)]
    fast = timed(fast_way, 3 if quick else 5)
    with threadpool_limits(1, user_api="blas"):
        loops.append(timed(slow_way))
        loop = [t * total / looked_at for t in min(loops)]
        floor, shifted = (t / cores() for t in unavoidable(sizes, batch))
    row("plain NumPy loop, one BLAS thread", loop[0], "" if which is None else f"estimated from {looked_at:,} weights")
    row(
        "engine",
        fast[0],
        f"{loop[0] / fast[0]:.0f} x faster (by processor time on every core {loop[1] * cores() / fast[1]:.0f} x)",
    )
    user = partial(numeric_gradient, model, weights, x, y, loss="MeanSquaredError", scheme=Central())
    seconds = timed(user, 1 if quick else 3)[0]
    row("numeric_gradient with Central(): noise and errors too", seconds, f"{loop[0] / seconds:.0f} x faster")
    with threadpool_limits(cores(), user_api="blas"):
        row(f"engine, {cores()} BLAS threads asked for outside", timed(fast_way, 3)[0])
    with without_shifts():
        row("engine without addition theorems", timed(fast_way)[0])
    row(f"np.tanh and products that no nudge can do without, {cores()} cores", floor)
    row("the same with the addition theorem of tanh", shifted, f"engine: {fast[0] / shifted:.1f} x that")
    if name == "small":
        seconds = tensorflow_check(arrays, x, y)
        row("tf.test.compute_gradient", seconds, f"engine: {seconds / fast[0]:.0f} x faster")


def table(quick=False):
    """All rows, printed as they come."""
    compared("small", *SMALL, quick)
    compared("large", *LARGE, quick)
    print("cost against number of weights (64-n-n-10 tanh, batch 64)")
    for n in (32, 64, 128, 256) if quick else (32, 64, 128, 256, 512):
        case = network((64, n, n, 10), 64)
        total = sum(w.size for w in case[1].values())
        engine(*case)
        seconds, processor = timed(partial(engine, *case), 3)
        row(f"n = {n}: {total:,} weights", seconds, f"{processor / total * 1e6:.1f} µs of processors a weight")
    print("two convolutions, pooling, dense on (16, 16, 3), batch 16")
    case = convolutional()
    fast, plain = timed(partial(engine, *case), 3)[0], timed(partial(engine, *case, plain=True))[0]
    row(
        "engine",
        fast,
        f"{plain / fast:.1f} x faster than one forward pass for each nudge on {cores()} cores ({plain:.1f} s)",
    )
    print("memory, MB before and at the peak, each in a process of its own")
    for name in ("large", "convolutional", "wide"):
        before, peak = memory(name)
        print(f"  {name:<60} {before:>9.0f} → {peak:.0f}")


class without_shifts(nullcontext):
    """Inside, no activation has an addition theorem."""

    def __enter__(self):
        self.kept = dict(TERMS)
        TERMS.clear()

    def __exit__(self, *error):
        TERMS.update(self.kept)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller samples, fewer repeats")
    table(parser.parse_args().quick)
