"""What checks by Keras's own forward pass cost, before and after: `python tests/benchmarks/forward.py [--quick]`.

Every row is the same check with this tree and with the tree of an earlier commit, one after the other in one run, in
fresh processes, in processor seconds. The commit is checked out as a git worktree for the time of the run.
"""

import argparse
import json
import time

import numpy as np
from earlier import COMMIT, ROOT, last_line, worktree

#: name → whether the entries of one variable stand for all before (the whole of it takes many minutes)
ROWS = {
    "dense, 67 weights": False,
    "dense, 5,898 weights": False,
    "dense, 85,002 weights": True,
    "custom layer between stock ones": False,
    "embedding": False,
    "convolution": False,
    "recurrence": False,
    "attention": False,
}
SAMPLED = 64


def dense(*sizes):
    from keras import layers

    return [*(layers.Dense(n, "tanh") for n in sizes[1:-1]), layers.Dense(sizes[-1])], (sizes[0],)


def built(name):
    """A model and a batch: (model, x, y)."""
    import keras
    from keras import layers

    class Bent(layers.Layer):
        """x · sigmoid(gain · x): a layer that has no twin."""

        def build(self, shape):
            self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

        def call(self, x):
            return x * keras.ops.sigmoid(self.gain * x)

    keras.utils.set_random_seed(0)
    draw, batch = np.random.default_rng(0).normal, 16
    if name == "dense, 67 weights":
        (chain, shape), batch = dense(4, 8, 3), 8
    elif name == "dense, 5,898 weights":
        (chain, shape), batch = dense(16, 64, 64, 10), 32
    elif name == "dense, 85,002 weights":
        (chain, shape), batch = dense(64, 256, 256, 10), 64
    elif name == "custom layer between stock ones":
        chain, shape = [layers.Dense(48), Bent(), layers.LayerNormalization(), layers.Dense(16)], (24,)
    elif name == "embedding":
        chain, shape = [layers.Embedding(64, 16), layers.Flatten(), layers.Dense(10)], (8,)
    elif name == "convolution":
        convolutions = [layers.Conv2D(8, 3, activation="tanh"), layers.MaxPooling2D(2), layers.Conv2D(8, 3)]
        chain, shape = [*convolutions, layers.Flatten(), layers.Dense(10)], (12, 12, 3)
    elif name == "recurrence":
        chain, shape = [layers.LSTM(8), layers.Dense(16, "tanh"), layers.Dense(4)], (6, 4)
    else:
        x = keras.Input((6, 16))
        h = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
        model = keras.Model(x, layers.Dense(4)(layers.Dense(16, "gelu")(h)))
        model.compile(loss="mse")
        return model, draw(size=(batch, 6, 16)), draw(size=(batch, 6, 4))
    integers = name == "embedding"
    model = keras.Sequential([keras.Input(shape, dtype="int32" if integers else "float32"), *chain])
    model.compile(loss="mse")
    x = np.random.default_rng(1).integers(0, 64, (batch, *shape)) if integers else draw(size=(batch, *shape))
    return model, x, draw(size=(batch, *model.output_shape[1:]))


def measure(name, most):
    """Print processor seconds of the first check in a process and of the second, and entries compared and in all."""
    from keras_ref import check_gradients

    seconds, small = [], name == "dense, 67 weights"
    options = {} if small else {"oracles": ("forward",), "wrt": ("weights",), "effort": "full"}
    options |= {"most": most} if most else {}
    for _ in range(2 if small else 1):
        subject = built(name)
        start = time.process_time()
        report = check_gradients(*subject, **options)
        seconds.append(time.process_time() - start)
        if not report.ok:
            raise SystemExit(f"{name}: {report}")
    own = [v for v in report.verdicts if v.oracle == "forward"]
    print(json.dumps([seconds, sum(v.compared for v in own), sum(v.total for v in own)]))


def measured(tree, name, most):
    """`measure` in a process of its own, of the product in a tree."""
    return json.loads(last_line(tree, __file__, "--row", name, "--most", most))


def table(rows, quick, commit, tree):
    """Print the rows as they are measured, with the product in the tree of a commit and with this one."""
    print(f"{'processor seconds of one check':<46}{commit:>10}{'now':>10}")
    for name in rows:
        most = SAMPLED if quick or ROWS[name] else 0
        before, compared, entries = measured(tree, name, most)
        now, *_ = measured(ROOT, name, SAMPLED if quick else 0)
        sampled = most and entries > compared
        before = [s * entries / compared for s in before] if sampled and not quick else before
        for i, (old, new) in enumerate(zip(before, now, strict=True)):
            which = f", {('first in the process', 'the second')[i]}" if len(now) > 1 else ""
            note = f" (estimated from {compared:,} of {entries:,})" if sampled and not quick else ""
            print(f"{name + which:<46}{old:>10.2f}{new:>10.2f}   {old / new:.1f} x{note}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{SAMPLED} entries of each variable")
    parser.add_argument("--only", action="append", choices=ROWS, help="some rows")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--most", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        measure(asked.row, asked.most)
    else:
        with worktree(COMMIT) as earlier_tree:
            table(asked.only or ROWS, asked.quick, COMMIT, earlier_tree)
