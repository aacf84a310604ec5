"""The speed table, every row measured in this run: `python tests/benchmarks/speed.py [--quick] [--against [COMMIT]]`.

The whole gradient in float64: "two points" is (f(w + h) - f(w - h)) / 2h and nothing else, "default" what users call,
`numeric_gradient` with `Central()`, which measures the noise and states errors. What is compared runs in turns, several
times, and the least counts, of wall-clock seconds and of processor seconds: the former need a quiet machine. The plain
loop is one forward pass for each nudge with one BLAS thread, estimated from a sample of the weights, drawn over all
layers in proportion; the engine uses every core. "Unavoidable" are the functions and products that no nudge can avoid.
--against adds what an earlier commit takes, which is checked out as a git worktree for the time of the run, and the
rows of forward.py: checks by Keras's own forward pass, then and now.
"""

import argparse
import json
import os
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import forward
import numpy as np
from earlier import COMMIT, last_line, worktree
from networks import LARGE, NETWORKS, SMALL, STEP, convolutional, engine, in_turns, network, timed, ways_of
from threadpoolctl import threadpool_limits

from scratch.gradient import Nudges
from scratch.nudging.addition_theorems import TERMS, expand_activation, shift
from scratch.nudging.blocks import cores
from scratch.nudging.matrix_layers import multiply
from scratch.objective import Objective
from scratch.registry import get

#: ways to take a gradient → what a row calls them
WAYS = {"two": "two points", "default": "default"}


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


def unavoidable(sizes, batch):
    """Seconds on one core of the activations behind nudged weights and the products of the last kernel with them.

    A nudge of the first kernel or bias changes all of the second activation, and a product of it with the last kernel;
    a nudge of the second changes one channel. First with the activation itself, then with its addition theorem.
    """
    inputs, first, second, outputs = sizes
    g = np.random.default_rng(0)
    kernel, base = g.normal(size=(second, outputs)), np.tanh(g.normal(size=(batch, second)))
    terms = expand_activation(get("activation", "tanh"), base)[:2]
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


def behind(model, weights, x):
    """Seconds on one core of the layers behind each nudge of any model, and of the nudged layer itself where it is not
    linear in the weight; each computed for as many nudges at once as is fastest.
    """
    nudges = Nudges(Objective.of(model, "MeanSquaredError"), weights, x, np.zeros((len(x), 10)))
    point, seconds = nudges.point, []
    for call in model.calls:
        own, layer = point.weights_of(call), model.layers[call.layer]
        inputs = [point.run.tensors[name] for name in call.inputs]
        costs = []
        for copies in (1, 4, 16):
            many = [np.concatenate([tensor] * copies) for tensor in inputs]
            costs.append(timed(partial(layer.forward, own, *many), 5)[1] / copies)
        seconds.append(min(costs))
    total = 0.0
    for i, call in enumerate(model.calls):
        for name, weight in weights.items():
            if point.owns(call, name):
                linear = point.responses(call, name) is not None
                total += 2 * weight.size * (sum(seconds[i + 1 :]) + (0 if linear else seconds[i]))
    return total


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


def compared(name, text, loop, looked_at, floors, quick, tree=None):
    """The rows of one network: what `floors` says of work that is unavoidable, by name, is seconds on one core."""
    case = _, weights, x, _ = NETWORKS[name]()
    total = sum(w.size for w in weights.values())
    print(f"{text}: {total:,} weights, batch {len(x)}, {cores()} cores")
    ways = {**ways_of(case), "loop": one_thread(loop)}
    ways["two"]()
    found = in_turns(ways, 2 if quick else 5)
    slow = np.array(found["loop"]) * total / looked_at
    row("plain loop, one BLAS thread", slow[0], f"{slow[1]:.3f} of a processor, from {looked_at:,} weights")
    for way, label in WAYS.items():
        wall, processor = found[way]
        row(
            label,
            wall,
            f"{processor:.3f} of processors: {slow[0] / wall:.1f} x faster than the loop "
            f"({slow[1] * cores() / processor:.1f} x by processor time on every core)",
        )
    ratio = np.array(found["default"]) / found["two"]
    print(f"  default / two points: {ratio[1]:.2f} by processor time, {ratio[0]:.2f} by wall time")
    if tree is not None:
        for way, seconds in before(tree, name).items():
            faster = np.array(seconds) / found[way]
            row(f"{WAYS[way]} at the earlier commit", seconds[0], f"{faster[1]:.2f} x the processor time of now")
    for work, floor in floors.items():
        two, users = (found[way][1] / floor for way in ("two", "default"))
        row(
            f"unavoidable: {work}, one core",
            floor,
            f"two points {two:.2f} x that by processor time, default {users:.2f}",
        )
    return found


def before(tree, name):
    """{way: (wall-clock seconds, processor seconds)} of a network with the product of an earlier tree."""
    return json.loads(last_line(tree, Path(__file__).parent / "networks.py", "--row", name))


def one_thread(function):
    """The function with one BLAS thread."""

    def limited():
        with threadpool_limits(1, user_api="blas"):
            function()

    return limited


def compare_dense(name, sizes, batch, quick, tree):
    """The rows of a dense network of tanh, whose plain loop is bare NumPy."""
    case = _, weights, x, y = network(sizes, batch)
    arrays, text = list(weights.values()), f"{'-'.join(map(str, sizes))} tanh"
    which = sample(arrays, 300 if quick else 1000)
    with threadpool_limits(1, user_api="blas"):
        floors = dict(zip(("np.tanh, products", "addition theorem, products"), unavoidable(sizes, batch), strict=True))
    loop = partial(plain_loop, arrays, x, y, which)
    found = compared(name, text, loop, sum(map(len, which)), floors, quick, tree)
    with threadpool_limits(cores(), user_api="blas"):
        row(f"two points, {cores()} BLAS threads asked for outside", *timed_text(partial(engine, *case), found["two"]))
    with without_shifts():
        row("two points without addition theorems", *timed_text(partial(engine, *case), found["two"]))
    if name == "small":
        seconds = tensorflow_check(arrays, x, y)
        row("tf.test.compute_gradient", seconds, f"two points: {seconds / found['two'][0]:.0f} x faster")


def timed_text(function, other):
    """Wall-clock seconds of two runs at best, and what the processor seconds are to those of `other`."""
    wall, processor = timed(function, 2)
    return wall, f"{processor / other[1]:.2f} x the processor time of two points"


def compare_any(name, text, quick, tree):
    """The rows of any network, whose plain loop is one forward pass of the model for each nudge."""
    model, weights, x, y = NETWORKS[name]()
    which = dict(zip(weights, sample(list(weights.values()), 100 if quick else 300), strict=True))
    nudges = Nudges(Objective.of(model, "MeanSquaredError"), weights, x, y, plain=True)

    def loop():
        for weight, entries in which.items():
            nudges.point.losses_by_loop(weight, np.tile(entries, 2), np.repeat([STEP, -STEP], len(entries)))

    with threadpool_limits(1, user_api="blas"):
        floors = {"layers behind the nudge": behind(model, weights, x)}
    compared(name, text, loop, sum(map(len, which.values())), floors, quick, tree)


def compare_sizes(quick):
    """Cost against the number of weights."""
    print("cost against number of weights (64-n-n-10 tanh, batch 64)")
    for n in (32, 64, 128, 256) if quick else (32, 64, 128, 256, 512):
        case = network((64, n, n, 10), 64)
        total = sum(w.size for w in case[1].values())
        engine(*case)
        seconds, processor = timed(partial(engine, *case), 3)
        row(f"n = {n}: {total:,} weights", seconds, f"{processor / total * 1e6:.1f} µs of processors a weight")


def show_memory():
    """Memory of some networks."""
    print("memory, MB before and at the peak, each in a process of its own")
    for name in ("large", "convolutional", "wide"):
        before_it, peak = memory(name)
        print(f"  {name:<60} {before_it:>9.0f} → {peak:.0f}", flush=True)


#: parts of the table → what prints one, of (quick, the tree of an earlier commit or None, that commit)
PARTS = {
    "small": lambda quick, tree, _: compare_dense("small", *SMALL, quick, tree),
    "large": lambda quick, tree, _: compare_dense("large", *LARGE, quick, tree),
    "convolution": lambda quick, tree, _: compare_any(
        "convolution", "two convolutions, pooling, dense on (16, 16, 3)", quick, tree
    ),
    "recurrence": lambda quick, tree, _: compare_any("recurrence", "LSTM(32) on (12, 16), dense", quick, tree),
    "attention": lambda quick, tree, _: compare_any(
        "attention", "attention of two heads on (12, 32), mean, dense", quick, tree
    ),
    "sizes": lambda quick, tree, _: compare_sizes(quick),
    "memory": lambda quick, tree, _: show_memory(),
    "forward": lambda quick, tree, commit: tree and forward.table(forward.ROWS, quick, commit, tree),
}


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
    parser.add_argument("--against", nargs="?", const=COMMIT, help=f"an earlier commit ({COMMIT})")
    parser.add_argument("--only", action="append", choices=PARTS, help="some parts; forward needs --against")
    asked = parser.parse_args()
    with worktree(asked.against) if asked.against else nullcontext() as earlier_tree:
        for part in asked.only or PARTS:
            PARTS[part](asked.quick, earlier_tree, asked.against)
