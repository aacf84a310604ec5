"""The campaign: operations by themselves, at points where derivatives go wrong; its file; what it accuses."""

import json

import numpy as np
import pytest

from keras_ref.campaign import records, run
from keras_ref.campaign.points import KINDS, generic_arguments, points_of
from keras_ref.campaign.run import Result, check_operation
from keras_ref.campaign.subjects import CALLS, NotCalled, Subject, find_subject, list_names

NAMES = list_names()


def test_every_operation_of_keras_is_a_subject():
    import keras

    exported = {name for name in vars(keras.ops) if not name.startswith("_") and callable(getattr(keras.ops, name))}
    functions = {id(getattr(keras.ops, name)) for name in exported}
    assert functions <= {id(Subject(name=name, arguments=()).function) for name in NAMES}
    assert len(NAMES) > 700 and len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_of_one_kind(kind):
    """All points of a kind have the types of the generic one, and are the same for the same seed."""
    table, again = KINDS[kind](np.random.default_rng(3)), KINDS[kind](np.random.default_rng(3))
    for name, value in table.items():
        assert type(value) is type(table["generic"])
        np.testing.assert_array_equal(value, again[name])


def test_points_of_two_arguments():
    found = dict(points_of(("vector", "segments"), 0))
    assert {"generic", "equal", "zeros in argument 0", "equal in argument 1"} <= set(found)
    assert all(len(arguments) == 2 for arguments in found.values())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tensorflow.math.xlogy", ("vector", "vector")),
        ("keras.ops.det", ("matrix",)),
        ("keras.ops.segment_max", ("vector", "segments")),
        ("keras.ops.argmax", "gives no floats"),
        ("keras.ops.floor", "has no gradient"),
        ("keras.ops.while_loop", "takes functions"),
        ("tensorflow.nn.dropout", "draws random numbers"),
    ],
)
def test_how_an_operation_is_called(name, expected):
    found = find_subject(name, generic_arguments)
    if isinstance(expected, tuple):
        assert isinstance(found, Subject) and found.arguments == expected
        assert expected in CALLS or name == "keras.ops.segment_max"
    else:
        assert isinstance(found, NotCalled) and found.reason.startswith(expected)


@pytest.fixture
def three_points(monkeypatch):
    wanted = ("generic", "zeros", "zeros in argument 0")
    monkeypatch.setattr(run, "points_of", lambda kinds, seed: [p for p in points_of(kinds, seed) if p[0] in wanted])


def test_a_wrong_operation_is_accused_where_it_is_wrong(three_points):
    """d/dx x/y = 1/y, at x = 0 too; a release that says so is accused of nothing."""
    import tensorflow as tf

    x = tf.constant(0.0, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.math.xdivy(x, tf.constant(2.0, tf.float64))
    corrected = float(tape.gradient(y, x)) == 0.5
    result = check_operation("tensorflow.math.xdivy")
    assert {one.point for one in result.accusations if "complex" not in one.point} == (
        set() if corrected else {"zeros in argument 0"}
    )
    if not corrected:
        first = next(one for one in result.accusations if one.claim == "first order")
        assert first.kind == "mismatch" and first.autodiff == 0 and abs(first.numeric) > 0.1
    assert "Xdivy" in result.gradients
    assert result.counts["undefined"] == 0 if "undefined" in result.counts else True
    assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_a_right_operation_is_not_accused(three_points):
    result = check_operation("keras.ops.square")
    assert result.accusations == ()
    # 4 numbers at two points, and 8 parts at two points of complex ones
    assert result.counts == {"first order: match": 24}
    deep = check_operation("keras.ops.square", deep=True)
    assert deep.accusations == ()
    claims = {key.rpartition(": ")[0] for key in deep.counts}
    assert claims == {"first order", "forward mode", "second order", "forward over forward", "graph", "compiled"}
    # and 4 numbers at one point in each of three lower precisions
    assert deep.counts["first order: match"] == deep.counts["compiled: match"] == 36


def test_a_file_goes_on_where_it_stopped(tmp_path):
    path, head = str(tmp_path / "campaign.jsonl"), {"seed": 0}
    assert records.read_results(path, head=head) == []
    first, second = Result(name="a", counts={"match": 3}), Result(name="b", reason="has no gradient")
    records.begin(path, head=head, results=[first])
    records.append(path, second)
    with (tmp_path / "campaign.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"name": "c", "cou')  # a power cut
    assert records.read_results(path, head=head) == [first, second]
    with pytest.raises(records.CouldNotRun, match="goes on with the settings and versions that it began with"):
        records.read_results(path, head={"seed": 1})
    (tmp_path / "other").write_text("model weights")
    with pytest.raises(records.CouldNotRun, match="--file must name a new file, or one of a campaign"):
        records.read_results(str(tmp_path / "other"), head=head)


def test_command(gradtwin, tmp_path):
    status, out, _ = gradtwin("campaign", "keras.ops.s*", "--list")
    assert status == 0 and "keras.ops.square" in out.splitlines()
    assert gradtwin("campaign", "nothing")[0::2] == (
        2,
        "gradtwin: A pattern must match an operation. Received: nothing. `gradtwin campaign --list` has all.\n",
    )
    file = tmp_path / "c.jsonl"
    status, out, _ = gradtwin("campaign", "keras.ops.argmin", "keras.ops.argmax", "--file", str(file), "--workers", "1")
    assert status == 0 and out.splitlines()[-1] == "0 of 2 operations checked, 0 accused."
    status, again, _ = gradtwin("campaign", "keras.ops.argmin", "keras.ops.argmax", "--file", str(file))
    assert status == 0 and again.splitlines()[0] == f"2 operations are in {file}; 0 are left."


def test_registered_gradients():
    """Every one that a run reaches is recorded; every other one has at most one reason."""
    import tensorflow as tf

    from keras_ref.campaign.registered import cover_registered, list_registered, load_reasons, recording_gradients

    names = list_registered()
    assert len(names) > 250 and {"Xdivy", "Svd"} <= set(names) and "Relu6Grad" in names
    assert set(load_reasons()) <= set(names) | {"ApproxTopK"}
    x = tf.constant(2.0)
    with recording_gradients() as ran, tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.exp(x)
        tape.gradient(y * x, x)
    assert ran == {"Exp", "Mul"}
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.sin(x)
    assert float(tape.gradient(y, x)) == float(tf.cos(x)) and "Sin" not in ran
    covered = cover_registered({"a": ["Exp"], "b": ["Exp", "Mul"]})
    assert covered.checked["Exp"] == ("a", "b") and covered.checked["Mul"] == ("b",)
    assert "Enter" in covered.listed and "Sin" in covered.left
    assert len(covered.checked) + len(covered.listed) + len(covered.left) == len(names)


def test_claims_by_module():
    results = [
        Result(name="keras.ops.a", counts={"first order: match": 2, "undefined": 1}),
        Result(name="keras.ops.b", counts={"first order: match": 1, "first order: nan": 1}),
    ]
    assert records.claims_by_module(results) == {
        "keras.ops": {"first order": {"match": 3, "nan": 1}, "points": {"undefined": 1}}
    }
