"""Models of Keras 2 (tf_keras) on the command line: factories and .h5 files, in all four verbs."""

import json
import warnings

import numpy as np
import pytest

from keras_ref.errors import CouldNotRun
from keras_ref.inputs.targets import load_target

tf_keras = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")

MODELS = """
import tensorflow as tf
import tf_keras

class Halved(tf_keras.layers.Dense):
    def call(self, x):
        @tf.custom_gradient
        def halved(y):
            return tf.identity(y), lambda upstream: upstream / 2
        return halved(super().call(x))

def build(layer=tf_keras.layers.Dense):
    tf_keras.utils.set_random_seed(3)
    layers = [layer(4, "tanh", name="hidden"), tf_keras.layers.Dense(2, name="out")]
    model = tf_keras.Sequential([tf_keras.Input((3,)), *layers], name="net")
    model.compile(tf_keras.optimizers.SGD(0.125), "mse")
    return model

def wrong():
    return build(Halved)
"""


@pytest.mark.sampled
def test_a_factory_in_all_four_verbs(gradtwin, tmp_path):
    gradtwin.write_module("old_models", MODELS)
    status, out, err = gradtwin("check", "old_models:build", "--json", "report.json")
    assert (status, err) == (0, ""), out
    oracles = {v["oracle"] for v in json.loads((tmp_path / "report.json").read_text())["verdicts"]}
    assert oracles == {"forward", "twin"} and "Data drawn with seed 0." in out
    status, out, _ = gradtwin("updates", "old_models:build", "--steps", "1")
    assert status == 0 and "1 steps of SGD" in out, out
    status, out, _ = gradtwin("check", "old_models:wrong", "--json", "wrong.json")
    assert status == 1 and "hidden/kernel" in out, out
    status, out, _ = gradtwin("locate", "old_models:wrong")
    assert status == 1 and "hidden/kernel" in out, out
    status, out, _ = gradtwin("replay", "wrong.json")
    assert status == 1 and "hidden/kernel" in out, out


def save(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that .h5 is an old format
        model.save(path)


@pytest.mark.sampled
@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_a_file_is_loaded_by_the_library_that_wrote_it(ending, gradtwin, tmp_path, monkeypatch):
    gradtwin.write_module("saved_models", MODELS)
    import importlib

    path = tmp_path / f"model.{ending}"
    save(importlib.import_module("saved_models").build(), path)
    np.savez(tmp_path / "data.npz", x=np.arange(12.0).reshape(4, 3) / 8, y=np.ones((4, 2)) / 8)
    model, *_ = load_target(str(path))
    assert type(model).__module__.startswith("tf_keras.")
    status, out, _ = gradtwin("check", path.name, "--data", "data.npz")
    assert status == 0 and "match" in out, out
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        CouldNotRun, match=r"needs tf_keras\. Received: .*written by Keras 2.* Install gradtwin\[keras2\]"
    ):
        load_target(str(path))


def test_code_in_a_file_is_not_run(tmp_path):
    path = tmp_path / "code.h5"
    layers = [tf_keras.Input((3,)), tf_keras.layers.Lambda(lambda x: x * 2), tf_keras.layers.Dense(2)]
    save(tf_keras.Sequential(layers), path)
    with pytest.raises(CouldNotRun, match=r"must load in safe mode.*pass --unsafe if you trust the file"):
        load_target(str(path))
    assert load_target(str(path), unsafe=True)[0].count_params() == 8


def test_a_file_of_keras_3_is_one_of_keras_3(tmp_path):
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.save(tmp_path / "model.h5")
    assert isinstance(load_target(str(tmp_path / "model.h5"))[0], keras.Model)
