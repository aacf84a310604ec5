"""Data as people have them: generators, tables, models that the data build, HDF5 files, instances."""

import sys
import types

import keras
import numpy as np
import pytest

from keras_ref import check_gradients, check_updates
from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.inputs import tables
from keras_ref.inputs.arrays import convert_data
from keras_ref.inputs.tables import Table, is_table, read_table, split_table

X, Y = np.arange(12.0).reshape(4, 3) / 8, np.arange(8.0).reshape(4, 2) / 8


def batches():
    for i in range(0, 4, 2):
        yield X[i : i + 2], Y[i : i + 2]


class Subclassed(keras.Model):
    """A model without an Input, whose layers are made in the constructor."""

    def __init__(self):
        super().__init__(name="mine")
        self.hidden, self.out = keras.layers.Dense(2, "tanh", name="hidden"), keras.layers.Dense(2, name="out")

    def call(self, x):
        return self.out(self.hidden(x))


def unbuilt(kind):
    keras.utils.set_random_seed(1)
    model = Subclassed() if kind == "subclassed" else keras.Sequential([keras.layers.Dense(2, name="out")], name="mine")
    model.compile(optimizer="sgd", loss="mse")
    return model


@pytest.mark.parametrize("count", [1, 2])
def test_a_generator_gives_its_first_batches(count):
    found = convert_data(batches(), batches=count)
    np.testing.assert_array_equal(found.x, X[: 2 * count])
    np.testing.assert_array_equal(found.y, Y[: 2 * count])
    with pytest.raises(BadInput, match=r"A data set must hold a batch. Received: an empty one"):
        convert_data(iter(()))


def test_batches_of_lists_are_those_of_a_loader():
    found = convert_data(iter([[X, Y]]))
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)


@pytest.mark.parametrize("kind", ["subclassed", "sequential"])
def test_the_data_build_a_model(kind):
    model = unbuilt(kind)
    report = check_gradients(model, X, Y, effort="fast")
    assert report.ok and model.built
    assert {v.name for v in report.verdicts} > {"mine/out/kernel", "mine/out/bias"}
    again = unbuilt(kind)
    assert check_updates(again, batches(), steps=1).ok
    assert int(again.optimizer.iterations) == 0


def test_a_model_that_cannot_be_built_is_as_it_was():
    model = Subclassed()
    with pytest.raises(BadInput, match=r"^A subject must run on the data it is checked on. Received: "):
        check_gradients(model, X[:, :, None, None].astype(str), Y)
    assert not model.built and model.weights == []


# Tables ---------------------------------------------------------------------------------------------------------------


def two_inputs():
    a, b = keras.Input((2,), name="table"), keras.Input((1,), name="age")
    joined = keras.layers.Concatenate()([a, b])
    return keras.Model([a, b], keras.layers.Dense(1, name="price")(joined))


def table(names):
    """Columns of these names, each of its own numbers."""
    return Table("rows.csv", {name: np.arange(4.0) + 10 * i for i, name in enumerate(names.split())})


@pytest.mark.parametrize(
    ("names", "x", "y", "weight"),
    [
        ("width height y", ["width", "height"], ["y"], None),
        ("y1 width y0 sample_weight", ["width"], ["y0", "y1"], "sample_weight"),
        ("width y10 y2", ["width"], ["y2", "y10"], None),
        ("price width", ["width"], ["price"], None),
        ("width height", ["width", "height"], None, None),
    ],
)
def test_the_columns_of_a_model_with_one_input(names, x, y, weight):
    one = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="price")])
    found = table(names)
    inputs, targets, weights = split_table(found, one)
    np.testing.assert_array_equal(inputs, np.stack([found.columns[name] for name in x], axis=-1))
    if y is None:
        assert targets is None
    else:
        np.testing.assert_array_equal(targets, np.stack([found.columns[name] for name in y], axis=-1))
    assert (weights is None) == (weight is None)


def test_the_columns_of_a_model_with_several_inputs():
    found = table("age y table1 table0 other")
    inputs, targets, _ = split_table(found, two_inputs())
    np.testing.assert_array_equal(inputs[0], np.stack([found.columns["table0"], found.columns["table1"]], axis=-1))
    np.testing.assert_array_equal(inputs[1], found.columns["age"][:, None])
    assert targets.shape == (4, 1)
    with pytest.raises(BadInput) as caught:
        split_table(table("age y"), two_inputs())
    assert str(caught.value) == (
        "A table must have a column for each input of the model. Received: age, y in rows.csv, and none for table. "
        "Name the columns as the inputs, with numbers behind for several."
    )
    with pytest.raises(BadInput, match=r"^A table must have columns of inputs. Received: y. Add them.$"):
        split_table(table("y"), keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]))


def test_without_pandas_the_extra_is_named(monkeypatch, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n1,2\n")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CouldNotRun) as caught:
        read_table(str(path))
    assert str(caught.value) == (
        f"A table is read with pandas. Received: {path}, and pandas is not installed. Install gradtwin[pandas], or "
        "write an .npz file with numpy.savez(path, x=…, y=…)."
    )
    with pytest.raises(CouldNotRun, match=r"^--data must name a file. Received: gone.csv, which is none. "):
        read_table("gone.csv")
    assert is_table("A.PARQUET") and not is_table("a.npz")


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_table_that_does_not_fit_into_memory(tmp_path, monkeypatch, name):
    """It is refused by its size, before anybody reads it."""
    monkeypatch.setattr(tables, "default_memory", lambda: 2**20)
    (tmp_path / name).write_bytes(bytes(3 * 2**20))
    with pytest.raises(CouldNotRun) as refused:
        read_table(str(tmp_path / name))
    assert str(refused.value) == (
        f"A table must fit into memory. Received: {tmp_path / name} of 3 MiB, for 1 MiB. Pass fewer rows."
    )


def test_a_table_is_the_data_of_a_check(gradtwin, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas", reason="needs gradtwin[pandas]")
    pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y0": Y[:, 0], "y1": Y[:, 1]}).to_csv(
        tmp_path / "rows.csv", index=False
    )
    gradtwin.write_module("table_shop", SHOP)
    status, out, err = gradtwin("check", "table_shop:instance", "--data", "rows.csv", "--effort", "fast")
    assert (status, err) == (0, ""), out
    assert "Data drawn" not in out


SHOP = """
import keras
import numpy as np

keras.utils.set_random_seed(1)

def build():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="shop")
    model.compile(optimizer="sgd", loss="mse")
    return model

class Made(keras.Sequential):
    def __init__(self):
        super().__init__([keras.Input((3,)), keras.layers.Dense(2, name="dense")], name="made")

instance = build()
with_data = instance, np.ones((2, 3)) / 4, np.ones((2, 2)) / 8
number = 3
"""


def test_an_instance_a_class_a_tuple_and_an_hdf5_file_are_targets(gradtwin, tmp_path, monkeypatch):
    """Each is loaded as what a factory returns; the checks themselves are other tests'."""
    from keras_ref.inputs.targets import load_target

    gradtwin.write_module("forms_shop", SHOP)
    model, *data = load_target("forms_shop:instance")
    assert (model.name, data) == ("shop", [None, None, None])
    assert load_target("forms_shop:Made")[0].name == "made"
    assert load_target("forms_shop:with_data")[1].shape == (2, 3)
    model.compile(optimizer="adam", loss="mse", metrics=["mae"])  # names that Keras itself does not find again
    model.save(tmp_path / "old.h5")
    loaded = load_target("old.h5")[0]
    assert loaded.loss is keras.losses.mean_squared_error
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    with pytest.raises(CouldNotRun, match=r"^A target must be a model or a function that returns one. Received: "):
        load_target("forms_shop:number")
    (tmp_path / "broken.h5").write_bytes(b"no model")
    with pytest.raises(CouldNotRun, match=r"^A .h5 file must load in safe mode. Received: broken.h5: ") as caught:
        load_target("broken.h5")
    assert "\n" not in str(caught.value)


def test_a_table_of_pandas_needs_pandas_alone(monkeypatch, tmp_path):
    """What is asked of pandas: to read the file, and a column by its name."""

    class Column(list):
        def to_numpy(self):
            return np.array(self)

    class Frame(dict):
        @property
        def columns(self):
            return list(self)

    fake = types.SimpleNamespace(read_csv=lambda path: Frame(a=Column([1.0, 2.0]), y=Column([3, 4])))
    monkeypatch.setitem(sys.modules, "pandas", fake)
    (tmp_path / "rows.csv").touch()
    found = read_table(str(tmp_path / "rows.csv"))
    assert list(found.columns) == ["a", "y"]
    np.testing.assert_array_equal(found.columns["a"], [1.0, 2.0])
