"""Files that say they are of Keras 2: nothing that they name runs without permission."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from keras_ref.errors import CouldNotRun
from keras_ref.inputs.model_files import load_model_file


def functional(*layers):
    """The configuration of a model of Keras 2: an input, and layers behind it."""
    nodes = [{"class_name": "InputLayer", "config": {"batch_input_shape": [None, 2], "name": "x"}, "name": "x"}]
    nodes[0]["inbound_nodes"] = []
    for i, layer in enumerate(layers):
        nodes.append({"name": f"l{i}", "inbound_nodes": [[["x", 0, 0, {}]]], **layer})
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [[nodes[-1]["name"], 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "m", "trainable": True, "layers": nodes, **ends}}


def calling(symbol, constant, **keywords):
    """A layer that is a function of TensorFlow's, of constants: it is called when the model is built."""
    node = ["_CONSTANT_VALUE", -1, constant, keywords]
    return {"class_name": "TFOpLambda", "config": {"name": "l0", "function": symbol}, "inbound_nodes": [node]}


def named(module, class_name, config):
    return {"module": module, "class_name": class_name, "config": config, "registered_name": config}


LAMBDA = {"class_name": "Lambda", "config": {"function": ["4wAAAA==\n", None, None], "function_type": "lambda"}}
#: configurations that would run something → what the sentence says of it
CODE = {
    "a Lambda": (functional(LAMBDA), "A Lambda layer holds code"),
    "a Lambda in a layer": (
        functional({"class_name": "TimeDistributed", "config": {"layer": LAMBDA}}),
        "A Lambda layer holds code",
    ),
    "a function that makes a folder": (functional(calling("io.gfile.makedirs", "owned")), "tf.io.gfile.makedirs may "),
    "a function that writes": (
        functional(calling("io.write_file", "owned", contents="x")),
        "tf.io.write_file may do more ",
    ),
    "an older name of it": (
        functional(calling("compat.v1.write_file", "owned", contents="x")),
        "may do more than compute",
    ),
    "a library": (functional(calling("load_library", "owned.so")), "tf.load_library may do more than compute"),
    "an operation by its raw name": (
        functional(calling("raw_ops.WriteFile", "a", contents="b")),
        "tf.raw_ops.WriteFile may ",
    ),
    "a function of Python": (functional(named("builtins", "function", "exec")), "builtins.exec is no registered part"),
    "a module": (functional(named("os", "function", "system")), "os.system is no registered part of a model"),
    "a module's class": (functional(named("subprocess", "Popen", None)), "subprocess.Popen is no registered part"),
    "a download": (functional(named("keras.utils", "function", "get_file")), "keras.utils.get_file is no registered"),
    "another file": (functional(named("keras.models", "function", "load_model")), "keras.models.load_model is no "),
    "a function in the place of a class": (
        functional(named("tf_keras.src.utils.generic_utils", "func_load", None)),
        "func_load is no registered part",
    ),
    "a private attribute": (
        functional({"class_name": "InstanceProperty", "config": {"attr_name": "__class__"}}),
        "An attribute __class__ is private",
    ),
}
#: ways to write the same JSON
WRITTEN = {
    "plain": json.dumps,
    "dense": lambda data: json.dumps(data, separators=(",", ":")),
    "wide": lambda data: json.dumps(data, indent=3),
    "escaped": lambda data: json.dumps(data).replace("a", "\\u0061"),
}


def write_keras_2(path, config, *, attribute="model_config"):
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.attrs["keras_version"] = "2.15.0"
            file.attrs["model_config"] = json.dumps(functional())
            file.attrs[attribute] = config
            file.create_group("model_weights").attrs["layer_names"] = []
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "2.15.0"}')
        archive.writestr("config.json", config)


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("name", CODE)
def test_code_in_a_file_that_says_it_is_of_keras_2(tmp_path, monkeypatch, name, ending):
    """The file itself says so, and the safe mode of that library does not know all of it."""
    pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
    monkeypatch.chdir(tmp_path)
    config, said = CODE[name]
    for how, write in WRITTEN.items():
        path = tmp_path / f"{how}{ending}"
        write_keras_2(path, write(config))
        with pytest.raises(CouldNotRun) as caught:
            load_model_file(str(path))
        assert str(caught.value).startswith(f"A {ending} file must load in safe mode. Received: {path}: "), how
        assert said in str(caught.value), how
    assert not (tmp_path / "owned").exists()


def test_code_in_how_a_model_was_compiled(tmp_path):
    pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
    path = tmp_path / "model.h5"
    compiled = {"loss": named("os", "function", "system"), "optimizer_config": {"class_name": "SGD", "config": {}}}
    write_keras_2(path, json.dumps(compiled), attribute="training_config")
    with pytest.raises(CouldNotRun, match=r"os\.system is no registered part of a model"):
        load_model_file(str(path))


def test_with_permission_such_a_function_runs(tmp_path, monkeypatch):
    """So the refusals above refuse what would run."""
    pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.h5"
    write_keras_2(path, json.dumps(functional(calling("io.gfile.makedirs", "owned"))))
    with pytest.raises(CouldNotRun, match=r"^A \.h5 file must load\. "):  # a folder is no tensor
        load_model_file(str(path), unsafe=True)
    assert (tmp_path / "owned").is_dir()


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_computations_of_keras_2_load(tmp_path, ending):
    import tensorflow as tf

    tf_keras = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
    x = tf_keras.Input((3,))
    y = tf_keras.layers.Dense(2, activation="relu", kernel_regularizer="l2")(x) + 1
    y = tf.concat([tf.squeeze(tf.expand_dims(y, 1), 1) * tf.nn.softmax(y), y[:, :1]], -1)
    y = tf.where(y > 0, tf.math.tanh(y), tf.transpose(tf.transpose(y))) / tf.reduce_sum(y, axis=-1, keepdims=True)
    model = tf_keras.Model(x, tf_keras.layers.Dense(1)(y))
    model.compile(optimizer=tf_keras.optimizers.Adam(0.1), loss="mse", metrics=["mae"])
    path = tmp_path / f"model{ending}"
    model.save(path)
    loaded = load_model_file(str(path))
    assert np.array_equal(loaded.predict(np.ones((2, 3)), verbose=0), model.predict(np.ones((2, 3)), verbose=0))


@pytest.mark.parametrize("ending", [".h5", ".keras"])
@pytest.mark.parametrize("name", ["StringLookup", "TextVectorization"])
def test_a_vocabulary_in_another_file(tmp_path, name, ending):
    """The layer would read whatever file its configuration names."""
    pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
    (tmp_path / "secret.txt").write_text("one\ntwo\n")
    layer = {"class_name": name, "config": {"name": "l0", "vocabulary": str(tmp_path / "secret.txt")}}
    path = tmp_path / f"model{ending}"
    write_keras_2(path, json.dumps(functional(layer)))
    with pytest.raises(CouldNotRun, match=r"safe mode\. Received: .*A vocabulary lies in a file of its own"):
        load_model_file(str(path))


def test_a_vocabulary_of_its_own(tmp_path):
    tf_keras = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")
    path = tmp_path / "model.keras"
    words = tf_keras.layers.StringLookup(vocabulary=["one", "two"])
    tf_keras.Sequential([tf_keras.Input((1,), dtype="string"), words]).save(path)
    assert load_model_file(str(path)).layers[-1].get_vocabulary() == ["[UNK]", "one", "two"]
