"""What effort="fast" costs five architectures of keras.applications, in units of their own forward and backward pass.

    python tests/benchmarks/fast.py [ResNet50 …] [--processor] [--against [COMMIT]]

Both in float64 and after tracing, one after the other in one process: the ratio is what counts on a shared machine.
--processor takes processor seconds in place of wall time, where others use the machine too; --against runs every row
with an earlier commit first, which is checked out as a git worktree for the time of the run. Where all architectures
are measured, the last rows are those of a dense network, by Keras's own forward pass and by the twin alone: seconds of
the whole check, the second one in a process.
"""

import argparse
import os
import re
import time
from contextlib import nullcontext
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import forward
import keras
import numpy as np
import tensorflow as tf
from earlier import COMMIT, ROOT, last_line, worktree

from keras_ref import check_gradients
from keras_ref.evaluation.changed_state.float64 import in_float64

ARCHITECTURES, BATCH, REPEATS = ("ResNet50", "MobileNetV2", "DenseNet121", "EfficientNetB0", "VGG16"), 8, 5
ORACLES = ("forward", "twin")


def own(model, x, y):
    """Seconds of a traced forward and backward pass in float64: the median of several."""
    with in_float64(model):
        values = [v._value for v in model.trainable_variables]
        x, y = tf.constant(x), tf.constant(y)

        @tf.function(autograph=False)
        def both():
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for value in [*values, x]:
                    tape.watch(value)
                loss = model._compute_loss(x=x, y=y, y_pred=model(x, training=False), training=False)
            return tape.gradient(loss, [*values, x])

        both()
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            both()
            seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def lively(model, x):
    """Weights as a trained network has them, in that signals reach its end: kernels scaled for ReLUs where nothing
    normalizes, moving averages that are those of the data where something does.
    """
    normalized = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalized:
        layer.momentum = 0.0
    if normalized:
        model(x, training=True)
    else:
        for variable in model.trainable_variables:
            variable.assign(variable * 2**0.5)


def measured(name):
    """What "fast" costs an architecture, and what it sees."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=10)
    model.compile(loss="categorical_crossentropy")
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(BATCH, 32, 32, 3)), np.eye(10)[generator.integers(0, 10, BATCH)]
    lively(model, x)
    before = own(model, x, y)
    report = check_gradients(model, x, y, effort="fast")
    after = own(model, x, y)
    said = next(note for note in report.notes if note.startswith("fast: "))
    forward, backward, seconds, tracing = map(float, re.findall(r"[\d.]+(?= forward| backward| s,| s for)", said))
    along = [re.search(r"an error of (\S+) of the slope", note) for note in report.notes]
    return Row(
        entries=sum(v.total for v in report.verdicts),
        own=(before + after) / 2,
        seconds=seconds,
        tracing=tracing,
        passes=f"{forward:.0f} + {backward:.0f}",
        along=next((found[1] for found in along if found), "not said"),
        alone=float(np.nanmedian([v.visible_relative for v in report.verdicts])),
        verdict="match" if report.ok else report.summary(),
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """Seconds: of a forward and backward pass of the model's own, of "fast" after tracing, of tracing. `along`: the
    smallest error along a direction that would have been seen, as a share of the slope; `alone`: of one entry, as a
    share of the root mean square of its variable, the median.
    """

    entries: int
    own: float
    seconds: float
    tracing: float
    passes: str
    along: str
    alone: float
    verdict: str


COLUMNS = (
    "architecture, 32 × 32, batch 8",
    "entries",
    "own forward and backward",
    "fast",
    "ratio",
    "passes",
    "tracing",
    "sees along a direction",
    "in one entry",
    "verdict",
)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def by_oracle(oracle):
    """Seconds of "fast" by one oracle on a dense network of 85,002 weights, the second check of two."""
    subject = forward.built("dense, 85,002 weights")
    for _ in range(2):
        start = time.perf_counter()
        report = check_gradients(*subject, oracles=(oracle,), effort="fast")
        seconds = time.perf_counter() - start
    seen = float(np.nanmedian([v.visible_relative for v in report.verdicts]))
    verdict = "match" if report.ok else report.summary()
    return f"dense, 85,002 weights, {oracle} alone: {seconds:.2f} s, sees {seen:.0e} in one entry, {verdict}"


def row(name):
    """The printed row of an architecture, or of an oracle."""
    if name in ORACLES:
        return by_oracle(name)
    found = measured(name)
    keras.backend.clear_session(free_memory=True)
    return (
        f"| {name} | {found.entries:,} | {found.own:.2f} s | {found.seconds:.1f} s | {found.seconds / found.own:.1f} | "
        f"{found.passes} | {found.tracing:.0f} s | {found.along} | {found.alone:.0e} | {found.verdict} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=(*ARCHITECTURES, *ORACLES))
    parser.add_argument("--processor", action="store_true", help="processor seconds in place of wall time")
    parser.add_argument("--against", nargs="?", const=COMMIT, help=f"an earlier commit ({COMMIT})")
    parser.add_argument("--no-head", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.processor:
        time.perf_counter = time.process_time  # what the check and this script read
    if not options.no_head:
        print(HEAD, flush=True)
    flags = ["--no-head", *(["--processor"] if options.processor else [])]
    with worktree(options.against) if options.against else nullcontext() as tree:
        for name in options.rows:
            if tree is None:
                print(row(name), flush=True)
            else:  # both in processes of their own
                print("before: " + last_line(tree, __file__, name, *flags), flush=True)
                print("now:    " + last_line(ROOT, __file__, name, *flags), flush=True)


if __name__ == "__main__":
    main()
