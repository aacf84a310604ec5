"""Models and data in archives that unpack to much, are broken, or leave open which array is which."""

import io
import json
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.inputs import archives
from keras_ref.inputs.data import nest_numbered
from keras_ref.inputs.targets import load_data, load_target


@pytest.fixture
def small_bound(monkeypatch):
    """A bound that a test's file can exceed in no time."""
    monkeypatch.setattr(archives, "SMALL", 2**16)


def require_refused(call, path):
    with pytest.raises(CouldNotRun) as caught:
        call()
    assert str(caught.value).startswith(f"A file must unpack to at most 8 times its size, or 0 MiB. Received: {path}")


def test_data_that_unpack_to_much(tmp_path, small_bound):
    path = str(tmp_path / "zeros.npz")
    np.savez_compressed(path, x=np.zeros((512, 1024)))
    require_refused(lambda: load_data(path), path)


def test_a_model_whose_archive_unpacks_to_much(tmp_path, small_bound):
    path = str(tmp_path / "model.keras")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(2**22))
    require_refused(lambda: load_target(path), path)


def test_a_model_whose_weights_declare_much(tmp_path, small_bound):
    path, weights = str(tmp_path / "model.keras"), tmp_path / "weights.h5"
    with h5py.File(weights, "w") as file:
        file.create_dataset("w", shape=(2**12, 2**12), dtype="f4", chunks=(64, 64), compression="gzip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(weights, "model.weights.h5")
    require_refused(lambda: load_target(path), path)


def test_an_archive_inside_a_model(tmp_path, small_bound):
    path, inside = str(tmp_path / "model.keras"), io.BytesIO()
    np.savez_compressed(inside, w=np.zeros((512, 1024)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.npz", inside.getvalue())
    require_refused(lambda: load_target(path), path)


def marked(content, local, central, value):
    """An archive in which each member's headers have another value, two bytes at these places of each."""
    edited = bytearray(content)
    for signature, place in ((b"PK\3\4", local), (b"PK\1\2", central)):
        for found in re.finditer(re.escape(signature), content):
            edited[found.start() + place : found.start() + place + 2] = value.to_bytes(2, "little")
    return bytes(edited)


#: how an archive is broken → what makes it so
BROKEN = {
    "encrypted": lambda content: marked(content, 6, 8, 1),
    "compressed in no known way": lambda content: marked(content, 8, 10, 98),
    "compressed as it is not": lambda content: marked(content, 8, 10, 8),
    "another content": lambda content: content.replace(b"HDF\r\n", b"HDF\r\r").replace(b"NUMPY", b"NUMPS"),
    "another directory": lambda content: content.replace(b"PK\1\2", b"PK\1\3"),
    "cut off": lambda content: content[:-30],
    "begun": lambda content: content[:30],
    "empty": lambda content: b"",
    "sizes that lie": lambda content: marked(content, 22, 24, 16),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_archive_is_one_sentence(tmp_path, name):
    model, data = tmp_path / "model.keras", tmp_path / "data.npz"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(model)
    np.savez(data, x=np.ones((2, 3)))
    for path, load in ((model, load_target), (data, load_data)):
        path.write_bytes(BROKEN[name](path.read_bytes()))
        with pytest.raises(CouldNotRun) as caught:
            load(str(path))
        assert str(caught.value).count("\n") == 0
        assert str(path) in str(caught.value)


def test_what_is_no_model_file(tmp_path):
    folder, layer = tmp_path / "folder", tmp_path / "layer.keras"
    folder.mkdir()
    (tmp_path / "old.pb").write_bytes(b"\x89HDF\r\n")
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n")
    for path in (folder, tmp_path / "old.pb"):
        with pytest.raises(CouldNotRun, match=r"^A model file must be a \.keras or \.h5 file\. Received: "):
            load_target(str(path))
    with pytest.raises(CouldNotRun, match=r"^A \.h5 file must load in safe mode\. Received: "):
        load_target(str(tmp_path / "old.h5"))
    with pytest.raises(CouldNotRun, match=r"^A model file must exist\. Received: "):
        load_target("a" * 300 + ".keras")
    with zipfile.ZipFile(layer, "w") as archive, h5py.File(tmp_path / "w.h5", "w") as weights:
        archive.writestr("metadata.json", "{}")
        one = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}, "registered_name": None}
        archive.writestr("config.json", json.dumps(one))
        weights.close()
        archive.write(tmp_path / "w.h5", "model.weights.h5")
    with pytest.raises(CouldNotRun, match=r"^A \.keras file must hold a model\. .* which holds a Dense\. "):
        load_target(str(layer))


def test_an_honest_model_loads(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(loss="mse")
    model.save(tmp_path / "model.keras")
    assert load_target(str(tmp_path / "model.keras"))[0].count_params() == 8


def test_inputs_are_in_the_order_of_their_numbers(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, **{f"x{i}": np.full((2, 1), i) for i in (10, 2, 0, 1)}, y0=np.zeros(2))
    x, y, _ = load_data(str(path))
    assert [int(part[0, 0]) for part in x] == [0, 1, 2, 10]
    assert len(y) == 1


@pytest.mark.parametrize("names", [("x1", "x01", "x0"), ("x", "x0"), ("x0", "x1", "x2", "x02")])
def test_numbers_that_leave_the_order_open(tmp_path, names):
    path = str(tmp_path / "data.npz")
    np.savez(path, **{name: np.zeros((2, 1)) for name in names})
    with pytest.raises(CouldNotRun) as caught:
        load_data(path)
    assert str(caught.value) == (
        f"--data must hold one array x, or x0, x1, … Received: {', '.join(sorted(names))} in {path}. "
        "Number the arrays in the order of the model's inputs or outputs."
    )


def model_with_names(names):
    x = {name.replace("y", "x"): keras.Input((1,)) for name in names}
    first = keras.layers.Concatenate()(list(x.values()))
    return keras.Model(x, {name: keras.layers.Dense(1)(first) for name in names})


def test_numbered_arrays_of_a_model_that_names_its_own():
    """A dictionary's names are sorted where it is flattened: y10 before y2."""
    x, y = [[np.full((2, 1), i) for i in range(11)] for _ in range(2)]
    found = nest_numbered(model_with_names([f"y{i}" for i in range(11)]), x, y)
    assert [{name: int(array[0, 0]) for name, array in part.items()} for part in found] == [
        {f"{letter}{i}": i for i in range(11)} for letter in "xy"
    ]
    with pytest.raises(BadInput) as caught:
        nest_numbered(model_with_names(["ya", "yb"]), x[:2], y[:2])
    assert str(caught.value) == (
        "Arrays that are numbered must be those of a model that numbers its own. Received: x0, x1 for xa, xb. "
        "Return (model, x, y) with dictionaries from a factory."
    )


# Parts that lie elsewhere, and names ----------------------------------------------------------------------------------


def external_link(file, name, folder):
    file[name] = h5py.ExternalLink(str(folder / "other.h5"), "k")


def external_storage(file, name, folder):
    file.create_dataset(name, (2, 1), "f4", external=[(str(folder / "raw.bin"), 0, 8)])


def virtual_dataset(file, name, folder):
    layout = h5py.VirtualLayout((2, 1), "f4")
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "k", (2, 1))
    file.create_virtual_dataset(name, layout)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("elsewhere", [external_link, external_storage, virtual_dataset])
def test_weights_that_lie_in_another_file(tmp_path, library, elsewhere):
    """Whichever Keras reads the file, and with permission, too: it would read what its user did not name."""
    keras_of = pytest.importorskip(library, reason="needs gradtwin[keras2]")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["k"] = np.full((2, 1), 42, "f4")
    np.full((2, 1), 43, "f4").tofile(tmp_path / "raw.bin")
    path, found = tmp_path / "model.h5", []
    model = keras_of.Sequential([keras_of.Input((2,)), keras_of.layers.Dense(1)])
    model.save(path)
    load_target(str(path))
    with h5py.File(path, "a") as file:
        file.visititems(lambda name, item: found.append(name) if getattr(item, "shape", None) == (2, 1) else None)
        del file[found[0]]
        elsewhere(file, found[0], tmp_path)
    for unsafe in (False, True):
        with pytest.raises(CouldNotRun, match=r"^An archive must be whole\. Received: .*lies in another file"):
            load_target(str(path), unsafe=unsafe)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("names", [("x.npy", "x.npy"), ("x", "x.npy"), ("x0.npy", "x1.npy", "x1.npy")])
def test_two_arrays_of_one_name(tmp_path, names):
    path = str(tmp_path / "data.npz")
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(names):
            content = io.BytesIO()
            np.save(content, np.full((1, 1), i))
            archive.writestr(name, content.getvalue())
    with pytest.raises(CouldNotRun, match=r"^--data must hold one array of each name\. Received: x1? twice in "):
        load_data(path)


@pytest.mark.parametrize("digits", [10, 5000])
def test_a_number_without_end(tmp_path, digits):
    """Python reads no number of more than 4,300 digits."""
    path = str(tmp_path / "data.npz")
    np.savez(path, **{"x" + "1" * digits: np.ones((1, 1))})
    with pytest.raises(CouldNotRun, match=r"^--data must hold an array x\. Received: x1"):
        load_data(path)
