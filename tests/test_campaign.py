"""The campaign: operations by themselves, at points where derivatives go wrong; its file; what it accuses."""

import json

import numpy as np
import pytest

from keras_ref.campaign import oracles, records, run
from keras_ref.campaign.behind_where import hide_infinite
from keras_ref.campaign.differentiability import is_differentiable
from keras_ref.campaign.exact_check import ExactOperation, WrongValue
from keras_ref.campaign.oracles import load_oracles
from keras_ref.campaign.points import draw_generic_arguments, make_points
from keras_ref.campaign.results import Result
from keras_ref.campaign.run import check_operation
from keras_ref.campaign.subjects import CALLS, NotCalled, Subject, find_subject, list_names
from keras_ref.evaluation.many_digits.exact_numbers import Missing

NAMES = list_names()


def test_every_operation_of_keras_is_a_subject():
    import keras

    exported = {name for name in vars(keras.ops) if not name.startswith("_") and callable(getattr(keras.ops, name))}
    functions = {id(getattr(keras.ops, name)) for name in exported}
    assert functions <= {id(Subject(name=name, arguments=()).function) for name in NAMES}
    assert len(NAMES) > 700 and len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tensorflow.math.xlogy", ("vector", "vector")),
        ("keras.ops.det", ("matrix",)),
        ("keras.ops.segment_max", ("vector", "segments")),
        ("keras.ops.argmax", "gives no floats"),
        ("keras.ops.floor", "rounds or compares"),
        ("keras.ops.while_loop", "takes functions"),
        ("tensorflow.nn.dropout", "draws random numbers"),
    ],
)
def test_how_an_operation_is_called(name, expected):
    found = find_subject(name, draw_generic_arguments)
    if isinstance(expected, tuple):
        assert isinstance(found, Subject) and found.arguments == expected
        assert expected in CALLS or name == "keras.ops.segment_max"
    else:
        assert isinstance(found, NotCalled) and found.reason.startswith(expected)


@pytest.fixture
def three_points(monkeypatch):
    wanted = ("generic", "zeros", "zeros in argument 0")
    monkeypatch.setattr(run, "make_points", lambda kinds, seed: [p for p in make_points(kinds, seed) if p[0] in wanted])


@pytest.mark.sampled
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


@pytest.mark.sampled
def test_a_right_operation_is_not_accused(three_points):
    result = check_operation("keras.ops.square")
    assert result.accusations == ()
    # 4 numbers at two points, and 8 parts at two points of complex ones
    exact = {key: count for key, count in result.counts.items() if key.startswith("first order")}
    # and at the generic point 4 numbers in each of three lower precisions, and 8 parts in complex64
    assert exact == {"first order: match": 24 + 3 * 4 + 8}
    # an even function has no slope at 0 either
    assert (result.counts["symmetry: match"], result.counts["homogeneity: match"]) == (4 * 4, 4 * 3)
    deep = check_operation("keras.ops.square", deep=True)
    assert deep.accusations == ()
    claims = {key.rpartition(": ")[0] for key in deep.counts} - {"symmetry", "homogeneity", "complex step"}
    assert claims == {"first order", "forward mode", "second order", "forward over forward", "graph", "compiled"}
    assert deep.counts["first order: match"] == deep.counts["compiled: match"] == 44


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name",
    [
        "tensorflow.linalg.adjoint",
        "tensorflow.raw_ops.ClipByValue",
        "tensorflow.raw_ops.InvGrad",
        "tensorflow.raw_ops.RsqrtGrad",
        "tensorflow.raw_ops.SigmoidGrad",
        "tensorflow.nn.sufficient_statistics",
    ],
)
def test_conjugates_ordered_bounds_and_outputs_left_out(name, monkeypatch):
    """Some gradient operations conjugate, some do not; a minimum is below a maximum; an output may be None."""
    wanted = ("generic", "generic in complex128", "constant")
    monkeypatch.setattr(run, "make_points", lambda kinds, seed: [p for p in make_points(kinds, seed) if p[0] in wanted])
    result = check_operation(name)
    assert result.accusations == ()
    assert result.counts["first order: match"] > 0 or "kink" in str(result.counts)


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


@pytest.mark.sampled
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
    assert records.count_claims_by_module(results) == {
        "keras.ops": {"first order": {"match": 3, "nan": 1}, "points": {"undefined": 1}}
    }


def test_points_of_other_sizes():
    """Without rows, without columns and with axes of length one: of indices too."""
    found = dict(make_points(("matrix", "indices"), 0))
    assert found["no rows"][0].shape == (0, 3) and found["no rows"][1].shape == (0,)
    assert found["no columns in argument 0"][0].shape == (3, 0)
    assert found["one row in argument 0"][0].shape == (1, 3) and found["one column in argument 0"][0].shape == (3, 1)


def _first_order(function, *arguments, dtype=""):
    """The kinds that the entries of a function's float arguments come to."""
    entries = ExactOperation(function, 0, dtype).entries(arguments)
    return None if entries is None else [entry.kind for entry in entries]


def checked_at(operation, floats, findings=None):
    """What an operation comes to at a point, added to what it has come to before."""
    findings = run.Findings() if findings is None else findings
    place = run.Place(name="f", point="here", operation=operation, floats=floats, claims=("first order",))
    run.check_point(place, findings)
    return findings


def test_numbers_that_where_leaves_out():
    """The entries beside a masked one have their slopes; the masked one's NaN is what tf.where documents."""
    import tensorflow as tf

    x = np.array([4.0, 0.0, 0.25])
    operation = ExactOperation(tf.math.log, 0)
    assert operation.entries([x]) is None
    behind = hide_infinite(tf.math.log, [x])
    assert behind is not None and _first_order(behind, x) == ["match", "nan", "match"]
    np.testing.assert_array_equal(behind.hiding[0], [False, True, False])
    assert hide_infinite(tf.math.log, [x + 1]) is None and hide_infinite(tf.math.log, [0 * x]) is None
    products = hide_infinite(tf.math.cumprod, [np.array([1e200, 1e200, 2.0])])
    assert products is not None
    np.testing.assert_array_equal(products.hiding[0], [True, True, True])  # of inf, behind the first
    differences = hide_infinite(lambda a, b, c: tf.math.log(tf.abs(a - b)) + tf.math.log(c), [x + 1, x + 2, x])
    assert differences is not None
    np.testing.assert_array_equal(differences.hiding[2], [False, True, False])
    assert checked_at(operation, [x]).counts == {
        "behind where, first order: match": 2,
        "behind where, first order: nan, as documented": 1,
    }


def test_a_lower_precision_on_the_way():
    """What is cast down and up again is accused of that, once, and judged by the digits that it has then."""
    import tensorflow as tf

    def rounded(x):
        return tf.cast(tf.sin(tf.cast(x, tf.float32)), x.dtype)

    operation, findings = ExactOperation(rounded, 0), run.Findings()
    for point in (np.array([0.3, 0.7]), np.array([1.3, 0.1])):
        checked_at(operation, [point], findings)
    assert operation.narrows and not operation.gives_less
    assert [one.kind for one in findings.accused] == [run.NARROW]
    assert findings.counts == {"first order: match": 4, "points: lower precision": 2}
    decides = ExactOperation(lambda x: tf.where(tf.cast(x, tf.float32) > 0, x, -x), 0)
    assert list(decides.entries([point])) and not decides.narrows
    plain = ExactOperation(lambda x: tf.sin(tf.cast(x, tf.float32)), 0)
    assert list(plain.entries([point])) and plain.gives_less and not plain.narrows


def test_a_value_that_cancels_or_jumps_is_not_wrong():
    """sin(π 700) has no digits; a value that has digits and is another one is wrong."""
    import tensorflow as tf

    assert _first_order(lambda x: tf.sin(np.pi * x), np.array([700.0])) == ["match"]
    assert _first_order(tf.math.acosh, np.array([complex(-0.0, -0.0)])) is None  # on a branch cut
    with pytest.raises(WrongValue):  # 1 eagerly, 1/2 in a graph
        _first_order(lambda x: x if tf.inside_function() else 2 * x, np.array([0.5]))


def test_a_backward_pass_that_raises_is_accused():
    import tensorflow as tf

    @tf.custom_gradient
    def refuses(x):
        def gradient(_):
            raise ValueError("no gradient for these")

        return x * 2, gradient

    assert _first_order(refuses, np.array([1.0])) == ["raises"]


def test_functions_with_and_without_a_derivative():
    import tensorflow as tf

    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert is_differentiable(tf.linalg.qr, [x]) and is_differentiable(tf.exp, [x])
    assert not is_differentiable(tf.linalg.qr, [np.zeros((2, 2))])
    assert not is_differentiable(tf.abs, [np.zeros(3)])
    assert not is_differentiable(lambda v: tf.sort(v)[1], [np.ones(3)])  # the median: its slopes do not add up


def test_kinks_that_meet():
    """clip(x, a, a) has a slope along x and no derivative; celu bends nowhere, and its gradient at 0 is wrong."""
    import keras

    x = np.array([0.0, 1.0])
    assert set(_first_order(keras.ops.clip, x, x, x)).isdisjoint(run.ACCUSED)
    assert _first_order(keras.ops.celu, x) == ["mismatch", "match"]
    # a bend of another entry excuses nothing
    wrong_and_bent = _first_order(lambda v: keras.ops.stack([keras.ops.celu(v[0]), keras.ops.abs(v[1])]), 0 * x)
    assert wrong_and_bent == ["mismatch", "kink"]


@pytest.mark.parametrize("name", ["tensorflow.linalg.svd", "keras.ops.eigh", "tensorflow.linalg.cholesky"])
def test_complex_factorizations_have_one_gradient(name, monkeypatch):
    """Joined with phases, or with a Hermitian part, at a generic point."""
    monkeypatch.setattr(
        run, "make_points", lambda kinds, seed: [p for p in make_points(kinds, seed) if p[0] == "positive definite"]
    )
    result = check_operation(name)
    assert not result.accusations and result.counts["differences: match"] == 2


def test_every_operation_of_the_oracles_is_called():
    table = load_oracles()
    names = {*table["definition"], *table["identities"]}
    full = {name if name.startswith("keras") else f"tensorflow.{name}" for name in names}
    assert full <= set(NAMES) and len(full) > 100


@pytest.mark.parametrize(
    ("oracle", "right", "wrong"),
    [
        ("symmetry", "sin", "expm1"),
        ("homogeneity", "square", "sin"),
        ("linearity", "negative", "square"),
        ("inverse", "exp", "sin"),
        ("one by one", "tanh", "cumsum"),
        ("complex step", "log1p", "log"),
    ],
)
def test_oracles(oracle, right, wrong, monkeypatch):
    """Each is satisfied by an operation that has the property, and says so of one that has not."""
    table = load_oracles()
    identity = table["identities"].get(f"keras.ops.{right}", {}).get(oracle)
    definition = table["definition"].get(f"keras.ops.{right}")
    for name, holds in ((right, True), (wrong, False)):
        key = f"keras.ops.{name}"
        monkeypatch.setattr(
            oracles,
            "load_oracles",
            lambda key=key: {
                "definition": {key: definition} if oracle == "complex step" else {},
                "identities": {} if oracle == "complex step" else {key: {oracle: identity}},
            },
        )
        found = list(oracles.compare_with_oracles(Subject(name=key, arguments=("vector",))))
        assert found and {one.oracle for one in found} == {oracle}
        assert all(one.right for one in found) is holds


def test_tables(gradtwin, tmp_path):
    path = str(tmp_path / "campaign.jsonl")
    accusation = run._narrow(run.Place(name="tensorflow.math.b", point="generic", operation=None, floats=(), claims=()))
    results = [
        Result(name="keras.ops.a", counts={"first order: match": 2}, gradients=("Exp",)),
        Result(name="tensorflow.math.b", counts={"first order: nan": 1}, accusations=(accusation,)),
        Result(name="tensorflow.math.c", reason="gives no floats"),
    ]
    records.begin(path, head={"seed": 0}, results=results)
    status, out, _ = gradtwin("campaign", "--table", path)
    lines = out.splitlines()
    assert status == 0
    assert "| tensorflow.math | 2 | 1 | 1 | 1 |" in lines and "| all | 3 | 2 | 1 | 1 |" in lines
    assert "| keras.ops | first order | 2 match |" in lines and "| 1 | gives no floats |" in lines
    assert "| tensorflow.math.b | 1 points\\: lower precision | generic |" in lines and "| 1 | ran |" in lines
    status, _, error = gradtwin("campaign", "--table", str(tmp_path / "none"))
    assert status == 2 and "--table must name a file that `gradtwin campaign --file` wrote" in error


def test_points_for_which_there_is_no_time_are_counted(three_points, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(run, "PROCESSOR_TIME", -1.0)
    result = check_operation("keras.ops.square")
    assert result.counts[f"points: {run.NOT_IN_TIME}"] == 8  # two, one in each of four lower precisions, two complex
    assert not any(key.startswith("first order") for key in result.counts)
    monkeypatch.setattr(run, "DIFFERENCES_TIME", 0.01)
    monkeypatch.setattr(run, "check_function", _never_ends)
    slow = ExactOperation(lambda x: tf.nn.isotonic_regression(x)[0], 0)
    point = [np.array([0.5, 0.25, 1.0, 2.0])]
    assert checked_at(slow, point).counts == {f"differences: {run.NOT_IN_TIME}": 1}


def _never_ends(*_, **__):
    while True:
        pass


def test_complex_numbers_of_keras_below_those_of_complex64(monkeypatch):
    """They are 0 in complex64: differences say nothing of them, where the operation is not done in many digits."""
    import keras

    small = np.array([1.0 + 2.0j, 0.5 - 1.0j]) * 1e-170
    operation = ExactOperation(lambda x: keras.ops.inner(x, np.ones(2)), 0, "complex128")

    def missing(*_):
        raise Missing("an operation that is not done in many digits")

    monkeypatch.setattr(operation, "entries", missing)
    findings = checked_at(operation, [small])
    assert findings.counts == {"undefined": 1} and not findings.accused
