"""How much memory verbs take on what is large, and training steps by optimizer: the peak of the process beside what it
has before (Linux).

python tests/faults/memory.py [name …] prints tables of these optimizers of Keras's and large things; of all of them
without a name.
"""

import ctypes
import gc
import sys
from pathlib import Path

import keras
import numpy as np

from keras_ref import check_gradients, check_updates, compare

#: weights of the layers that are measured, and rows of 8 of the embeddings, five of which the data use
WEIGHTS, ROWS = (5_000, 20_000, 80_000), (40_000, 120_000)
#: what a step may take: bytes, and times the float32 weights, all of which some optimizers take together
FIXED, TIMES = 25e6, 80
#: the base class, and optimizers that others are inside of
WRAPPERS = frozenset(("Optimizer", "LossScaleOptimizer", "MultiOptimizer"))
OPTIMIZERS = {
    name: one
    for name, one in vars(keras.optimizers).items()
    if isinstance(one, type) and issubclass(one, keras.optimizers.Optimizer) and name not in WRAPPERS
}


def with_embedding(rows, optimizer):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Embedding(rows, 8, name="rows"), keras.layers.Flatten(), keras.layers.Dense(1, "tanh")]
    model = keras.Sequential([keras.Input((3,), dtype="int32"), *layers], name="rows")
    model.compile(optimizer=optimizer, loss="mse")
    return model, np.array([[7, 70, 3], [3, 50, 0]]), np.array([[1.0], [0.5]])


def with_weights(count, optimizer):
    keras.utils.set_random_seed(0)
    units = int(count**0.5)
    layers = [keras.layers.Dense(units, "tanh", name="large"), keras.layers.Dense(1, name="last")]
    model = keras.Sequential([keras.Input((units,)), *layers], name="weights")
    model.compile(optimizer=optimizer, loss="mse")
    g = np.random.default_rng(0)
    return model, g.normal(size=(2, units)), g.normal(size=(2, 1))


def resident(what):
    """Bytes of the process: VmRSS now, or VmHWM, the most since `peak_of` began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024


def measure_peak(call):
    """(result, bytes) of a call: the most that the process has while it lasts, beside what it has before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    found = call()
    return found, resident("VmHWM") - before


def peak_of(make, size, optimizer):
    """(bytes of a step's peak, float32 bytes of the weights)."""
    model, x, y = make(size, optimizer)
    report, peak = measure_peak(lambda: check_updates(model, x, y, steps=1))
    assert report.ok, report
    return peak, 4 * model.count_params()


def with_batch(samples):
    """A model of 2,551 weights, and a batch of 50 features."""
    model, _, _ = with_weights(2500, "sgd")
    g = np.random.default_rng(0)
    return model, g.normal(size=(samples, 50)), g.normal(size=(samples, 1))


def with_sgd(count):
    return with_weights(count, "sgd")


def compare_with_equal(model, x, y):
    other = keras.models.clone_model(model)
    other.compile(optimizer="sgd", loss="mse")
    other.set_weights(model.get_weights())
    return compare(model, other, x, y, steps=1)


#: name → (make(size), size, call(model, x, y), what it takes at most: bytes, and times the float32 weights and float64
#: data)
LARGE = {
    "4,000,000 weights, fast": (with_sgd, 4_000_000, lambda *on: check_gradients(*on, effort="fast"), (25e6, 25)),
    "4,000,000 weights, compare": (with_sgd, 4_000_000, compare_with_equal, (25e6, 45)),
    "10,000 samples, 100 entries each": (with_batch, 10_000, lambda *on: check_gradients(*on, most=100), (300e6, 25)),
}


def measure_large(name):
    """(bytes of the peak, bytes allowed, float32 bytes of the weights and float64 ones of the data)."""
    make, size, call, (fixed, times) = LARGE[name]
    call(*make(100))  # what is loaded once
    on = make(size)
    report, peak = measure_peak(lambda: call(*on))
    assert report.ok, report
    model, x, y = on
    given = 4 * model.count_params() + x.nbytes + y.nbytes
    return peak, fixed + times * given, given


def measure(name):
    """The peaks of an optimizer's steps: those of layers, and those of embeddings."""
    optimizer = OPTIMIZERS[name]
    peak_of(with_weights, 100, optimizer(0.01))
    peak_of(with_embedding, 100, optimizer(0.01))
    return [peak_of(make, size, optimizer(0.01)) for make, sizes in KINDS.items() for size in sizes]


KINDS = {with_weights: WEIGHTS, with_embedding: ROWS}


if __name__ == "__main__":
    heads = [*(f"{size:,} weights" for size in WEIGHTS), *(f"{size:,} rows" for size in ROWS)]
    print(f"| optimizer | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for each in [name for name in sys.argv[1:] or OPTIMIZERS if name in OPTIMIZERS]:
        cells = [f"{peak / 1e6:.0f} MB, {peak / weights:.0f} ×" for peak, weights in measure(each)]
        print(f"| {each} | {' | '.join(cells)} |", flush=True)
    print("\n| what | peak | of weights and data | at most |\n|---|---:|---:|---:|")
    for each in [name for name in sys.argv[1:] or LARGE if name in LARGE]:
        peak, allowed, given = measure_large(each)
        print(f"| {each} | {peak / 1e6:.0f} MB | {peak / given:.0f} × | {allowed / 1e6:.0f} MB |", flush=True)
