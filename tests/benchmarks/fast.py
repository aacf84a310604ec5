"""What effort="fast" costs five architectures of keras.applications, in units of their own forward and backward pass.

    python tests/benchmarks/fast.py [ResNet50 …]

Both in float64 and after tracing, one after the other in one process: the ratio is what counts on a shared machine.
"""

import os
import re
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
import tensorflow as tf

from keras_ref import check_gradients
from keras_ref.evaluation.float64 import in_float64

ARCHITECTURES, BATCH, REPEATS = ("ResNet50", "MobileNetV2", "DenseNet121", "EfficientNetB0", "VGG16"), 8, 5


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
    """(entries, own seconds before and after, seconds of fast, of tracing, forward passes, backward passes, report)."""
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
    return sum(v.total for v in report.verdicts), before, after, seconds, tracing, int(forward), int(backward), report


def main():
    print(
        "| architecture, 32 × 32, batch 8 | entries | own forward and backward | fast | ratio | passes | tracing "
        "| verdict |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or ARCHITECTURES:
        entries, before, after, seconds, tracing, forward, backward, report = measured(name)
        own_seconds = (before + after) / 2
        print(
            f"| {name} | {entries:,} | {own_seconds:.2f} s | {seconds:.1f} s | {seconds / own_seconds:.1f} | "
            f"{forward} + {backward} | {tracing:.0f} s | "
            f"{'match' if report.ok else report.summary()}, sees "
            f"{np.nanmedian([v.visible_relative for v in report.verdicts]):.0e} |",
            flush=True,
        )
        keras.backend.clear_session(free_memory=True)


if __name__ == "__main__":
    main()
