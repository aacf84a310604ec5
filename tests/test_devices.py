"""The forward oracle with two devices: its blocks run where TensorFlow, the model or the caller puts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: in a process of its own: logical devices are made before TensorFlow runs anything
PROGRAM = """
import json
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras
import numpy as np
from keras_ref import check_gradients
from keras_ref.evaluation.graphs import stacked_calls

stacks = []
class Watched(stacked_calls.StackedCall):
    def __call__(self, *arguments):
        found = super().__call__(*arguments)
        stacks.append((found.device[-5:], self.has_order))
        return found

from keras_ref.evaluation.nudged_losses import stacked_losses
stacked_losses.StackedCall = Watched

@keras.saving.register_keras_serializable()
class Placed(keras.layers.Layer):
    def call(self, x):
        with tf.device("CPU:1"):
            return tf.tanh(x)

def report(layer):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((3,)), keras.layers.Dense(4, name="a"), layer, keras.layers.Dense(1, name="b")]
    model = keras.Sequential(layers, name="net")
    model.compile(loss="mse")
    x, y = np.linspace(-1, 1, 6).reshape(2, 3), np.ones((2, 1))
    found = check_gradients(model, x, y, effort="full", oracles=("forward",))
    where = sorted(set(stacks))
    stacks.clear()
    return {"ok": found.ok, "verdicts": repr(found.verdicts), "where": where}

found = {"nowhere": report(keras.layers.Activation("tanh"))}
with tf.device("CPU:1"):
    found["by the caller"] = report(keras.layers.Activation("tanh"))
found["by the model"] = report(Placed(name="placed"))
print(json.dumps(found))
"""


@pytest.mark.sampled
def test_two_devices():
    """Placed operations are called one after another, the others in stacks; what is computed is the same."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(one["ok"] for one in found.values())
    assert len({one["verdicts"] for one in found.values()}) == 1
    where = {name: one["where"] for name, one in found.items()}
    assert where == {
        "nowhere": [["CPU:0", False]],
        "by the caller": [["CPU:1", False]],
        "by the model": [["CPU:0", True]],
    }
