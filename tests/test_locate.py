"""effort="fast" and "auto" within a budget: nothing right is accused, one wrong entry of thousands is named."""

import functools

import keras
import numpy as np
import planting
import pytest
import sensitivity
import tensorflow as tf
from support_sides import numeric_sides

from keras_ref import check_gradients
from keras_ref.comparison.directions.bisection import Search
from keras_ref.comparison.directions.directional import DirectionalPoint
from keras_ref.comparison.sources.sums import dot
from keras_ref.comparison.time_budget import LESS, shares
from keras_ref.errors import BadInput
from keras_ref.options import parse_budget

SIZES = (20, 60, 10, 3)
#: classes of sensitivity_cases
KINDS = ("smooth", "near a kink", "on a kink", "badly scaled")


@functools.cache
def network():
    """A kernel of 1,200 entries in front of a bias of 10."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((SIZES[0],)),
            *(keras.layers.Dense(n, "relu", name=f"d{n}") for n in SIZES[1:3]),
            keras.layers.Dense(SIZES[3], name="out"),
        ],
        name="net",
    )
    model.compile(loss="mse")
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            variable.assign(generator.normal(scale=0.1, size=variable.shape))
    return model, generator.normal(size=(16, SIZES[0])), generator.normal(size=(16, SIZES[3]))


@functools.cache
def live_entry(layer, name):
    """An entry of a weight of `network` whose gradient is at least of ordinary size."""
    model, x, y = network()
    variable = getattr(model.get_layer(layer), name)
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, y.astype("float32"), model(x.astype("float32")))
    gradient = np.abs(tape.gradient(loss, variable._value).numpy())
    among = np.argwhere(gradient >= np.sqrt(np.mean(gradient**2)))
    return tuple(int(i) for i in among[len(among) // 2])


@pytest.fixture
def planted():
    """Plant factors in layers of `network`, by layer and weight; the network is mended afterwards."""
    model, x, y = network()
    layers = []

    def check(plants, **options):
        for layer, name, factor in plants:
            layers.append(model.get_layer(layer))
            planting.plant(layers[-1], **{name: factor})
        return check_gradients(model, x, y, effort="fast", **options)

    yield check
    for layer in layers:
        planting.plant(layer)


def one(layer, name, factor):
    """A factor at one live entry of a weight."""
    entry = live_entry(layer, name)
    return entry, planting.factors(getattr(network()[0].get_layer(layer), name).shape, [entry], factor)


def test_right():
    """Few forward passes and one backward, and what they would have missed is said."""
    model, x, y = network()
    report = check_gradients(model, x, y, effort="fast")
    assert report.ok, report.explain()
    assert {v.verdict for v in report.verdicts} == {"match"} and len(report.verdicts) == 7
    assert all(v.compared == 0 and v.together == v.total for v in report.verdicts)
    assert all(v.visible_relative < 1e-3 for v in report.verdicts)
    entries = sum(v.total for v in report.verdicts)
    assert report.notes[0] == (
        f"{entries} entries were moved together along 2 random directions, and one entry of each variable, drawn at "
        "random, along one more."
    )
    assert report.notes[1].startswith("One entry wrong by less than ") and report.notes[1].endswith(
        "effort='full' compares every entry."
    )
    assert f"0 of {entries} entries compared, {entries} together along random directions: 7 match" in report.summary()
    assert any(note.startswith("fast: 8 forward passes and 1 backward in ") for note in report.notes)


def test_right_by_the_twin_alone():
    """The twin's loss along directions takes no more passes than its noise and they do."""
    model, x, y = network()
    report = check_gradients(model, x, y, effort="fast", oracles=("twin",))
    assert report.ok, report.explain()
    assert {(v.verdict, v.oracle) for v in report.verdicts} == {("match", "twin")} and len(report.verdicts) == 7
    assert all(v.compared == 0 and v.together == v.total for v in report.verdicts)
    assert all(v.visible_relative < 1e-3 for v in report.verdicts)
    # 8 as by Keras's own forward pass, the loss at the point, and its noise
    assert any(note.startswith("fast: 25 forward passes and 1 backward in ") for note in report.notes), report.notes


class Halved(keras.layers.Dense):
    """A dense layer that adds up its products in two halves, the second one first: other last bits."""

    def call(self, x):
        half = self.kernel.shape[0] // 2
        product = keras.ops.matmul(x[:, half:], self.kernel[half:]) + keras.ops.matmul(x[:, :half], self.kernel[:half])
        return self.activation(product + self.bias)


def passes(dense, seed, *, scale):
    """The forward and backward passes that a network of ReLUs takes, and the loss."""
    keras.utils.set_random_seed(seed)
    sizes = (20, 400, 400, 3)
    layers = [dense(n, "relu" if n > 3 else None) for n in sizes[1:]]
    model = keras.Sequential([keras.Input((sizes[0],)), *layers])
    model.compile(loss="mse")
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(scale * variable)
    x, y = generator.normal(size=(8, sizes[0])), generator.normal(size=(8, 3))
    report = check_gradients(model, x, y, effort="fast")
    assert report.ok, report.explain()
    said = next(note for note in report.notes if note.startswith("fast: "))
    share = next(note for note in report.notes if note.startswith("Along each direction"))
    assert float(share.split()[6]) <= 1e-4
    return said.split(" in ")[0]


@pytest.mark.sampled
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_passes_do_not_depend_on_the_last_bits(scale):
    """Sums in another order, as another machine takes them, ask for the same passes; 8 where there is no doubt."""
    found = [[passes(dense, seed, scale=scale) for dense in (keras.layers.Dense, Halved)] for seed in range(3)]
    assert all(one == other for one, other in found), found
    assert scale > 1 or "fast: 8 forward passes and 1 backward" in found[0], found


@pytest.mark.parametrize("oracles", [("forward", "twin"), ("twin",)])
@pytest.mark.sampled
@pytest.mark.parametrize(
    ("layer", "name", "factor"),
    [("d60", "kernel", 1.1), ("d10", "bias", 1.001), ("out", "bias", 0.9), ("out", "kernel", 1.001)],
)
def test_one_wrong_entry(planted, layer, name, factor, oracles):
    """A single entry, in a large kernel or in a small bias behind it, is named; the others are not accused."""
    entry, factors = one(layer, name, factor)
    report = planted([(layer, name, factors)], oracles=oracles)
    assert {v.oracle for v in report.verdicts} == {oracles[0]}
    assert [(v.name, v.verdict, v.worst) for v in report.failures] == [(f"net/{layer}/{name}", "mismatch", entry)]
    failure = report.failures[0]
    # autodiff is the factor times the slope, which the numeric one is within what is allowed
    assert abs(failure.autodiff - factor * failure.numeric) <= abs(factor) * failure.allowed
    assert failure.difference > failure.allowed
    assert failure.reason == "the other entries match along a random direction"


@pytest.mark.sampled
def test_whole_tensor(planted):
    """A tensor that is wrong as a whole is said to be, with the factor and its largest entry."""
    report = planted([("d60", "kernel", np.full((20, 60), 1.1))])
    (failure,) = report.failures
    assert (failure.name, failure.reason) == ("net/d60/kernel", "the whole tensor is wrong, by a factor of 1.1")


@pytest.mark.sampled
def test_input(planted):
    """Of the inputs too; one sample's gradient that is lost is more than one entry."""
    factors = np.ones((16, 20))
    factors[3] = 0.0
    report = planted([("d60", "input", factors)])
    (failure,) = report.failures
    assert failure.name == "input" and failure.worst[0] == 3
    assert failure.reason == "other entries of this variable are wrong too"


@pytest.mark.sampled
def test_two_wrong_variables(planted):
    """Each is named, at its own entry."""
    plants = {
        (layer, name): one(layer, name, factor)
        for layer, name, factor in (("d60", "kernel", 1.1), ("out", "bias", 1.01))
    }
    report = planted([(*place, factors) for place, (_, factors) in plants.items()])
    assert {v.name: v.worst for v in report.failures} == {
        f"net/{layer}/{name}": entry for (layer, name), (entry, _) in plants.items()
    }


@pytest.mark.sampled
def test_declared(planted):
    """A declared surrogate moves by itself, is not bisected, and hides nothing else."""
    entry, factors = one("out", "bias", 1.01)
    report = planted(
        [("d60", "kernel", np.full((20, 60), 0.5)), ("out", "bias", factors)], expect={"*d60/kernel": "surrogate"}
    )
    verdicts = {v.name: v for v in report.verdicts}
    assert verdicts["net/d60/kernel"].verdict == "surrogate"
    assert [(v.name, v.worst) for v in report.failures] == [("net/out/bias", entry)]


def test_not_a_number(planted):
    """A gradient that is not finite is found without a direction, and the rest is checked without it."""
    entry, factors = one("d10", "bias", np.nan)
    report = planted([("d10", "bias", factors)])
    assert [(v.name, v.verdict, v.worst) for v in report.failures] == [("net/d10/bias", "nan", entry)]


@pytest.mark.parametrize("training", [False, True])
def test_kinks_and_batch_statistics(training):
    """ReLUs at exactly zero (biases, a sample of zeros), ties of a maximum, batch statistics: no false positives."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.BatchNormalization(),
            layers.Conv2D(3, 2),
            layers.ReLU(),
            layers.GlobalMaxPooling2D(),
            layers.Dropout(0.25),
            layers.Dense(2),
        ]
    )
    model.compile(loss="mse")
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(5, 8, 8, 2)), generator.normal(size=(5, 2))
    x[1] = 0.0
    before = [v.numpy() for v in model.variables]
    report = check_gradients(model, x, y, effort="fast", training=training)
    assert report.ok, report.explain()
    assert {v.verdict for v in report.verdicts} <= {"match", "kink"}
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


@pytest.mark.parametrize("start", range(4))
def test_sensitivity(start):
    """Along directions of the twin: correct gradients at smooth, kinked and badly scaled points pass, a planted entry
    does not.
    """
    for i in range(start, start + 8, 4):
        case = sensitivity.case(KINDS[i % 4], i)
        oracle, autodiff = numeric_sides(case.subject, case.weights, case.x, case.y, case.loss)
        names = list(oracle.names)

        def sweep(said, oracle=oracle, names=names):
            point = DirectionalPoint(oracle, lambda at: said.at(at).gradient, gradient=said.gradient)
            return [r for r in Search(point=point, autodiff=said, seed=0).sweep(names) if r.is_trouble]

        assert not sweep(autodiff), case
        name = names[-1]
        if not np.any(autodiff.gradient[name]):
            continue
        entry = int(np.argmax(np.abs(autodiff.gradient[name])))
        (trouble,) = sweep(sensitivity.planted(autodiff, name, sensitivity.scaled_entry(0.1), entry))
        assert trouble.kind == "mismatch", case


def test_budget():
    """auto compares what the time is enough for, says how much that was, and moves the rest together."""
    model, x, y = network()
    report = check_gradients(model, x, y, budget="0.5s", oracles=("forward",))
    assert report.ok, report.explain()
    total = sum(v.total for v in report.verdicts)
    compared = sum(v.compared for v in report.verdicts)
    assert 0 < compared < total
    said = f"{compared} of {total} entries were compared one by one, drawn with seed 0, within 0.5 s; "
    said += "the others together along random directions; effort='full' compares all."
    assert said + LESS in report.notes
    assert all(v.together == v.total for v in report.verdicts)


def test_ample_budget():
    """With time enough nothing is left out."""
    model, x, y = network()
    report = check_gradients(model, x, y, budget="1h", variables="*bias", oracles=("forward",))
    assert report.ok and all(v.compared == v.total and not v.together for v in report.verdicts)


def test_shares():
    """An equal share each; small variables all of theirs, and what they leave goes to the others; one at least."""
    sizes, costs = {"kernel": 1000, "bias": 10}, {"kernel": 0.1, "bias": 0.1}
    assert shares(sizes, costs, seconds=5.0, most=None) == {"kernel": 40, "bias": 10}
    assert shares(sizes, costs, seconds=1e6, most=None) == sizes
    assert shares(sizes, costs, seconds=1e6, most=64) == {"kernel": 64, "bias": 10}
    assert shares(sizes, costs, seconds=0.0, most=None) == {"kernel": 1, "bias": 1}


def test_dot():
    """Ten million terms that cancel, summed to a unit in the last place of a piece."""
    a = np.concatenate([np.full(2**20, 1e8), np.full(2**20, -1e8), [1.0]])
    assert dot(a, np.ones(a.size)) == 1.0


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [(None, None), ("", None), (90, 90.0), ("90", 90.0), ("60s", 60.0), ("5m", 300.0), ("1.5h", 5400.0)],
)
def test_seconds(budget, seconds):
    """Seconds of a budget."""
    assert parse_budget(budget) == seconds


@pytest.mark.parametrize(
    ("budget", "received"),
    [*((text, repr(text)) for text in ("soon", "-3", "0s", "5 days")), (True, "True (bool)"), (float("nan"), "nan")],
)
def test_bad_budget(budget, received):
    """One sentence, before anything runs."""
    with pytest.raises(BadInput) as error:
        check_gradients(*network(), budget=budget)
    assert str(error.value) == (
        f"`budget` must be a time such as 60s, 5m or 1h. Received: {received}. Pass seconds, or a number with s, "
        f"m or h."
    )


@pytest.mark.slow
def test_resnet50():
    """One entry of 23.6 million, wrong by a tenth, is named; without it nothing is accused."""
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10)
    model.compile(loss="categorical_crossentropy")
    x, y = np.random.default_rng(0).normal(size=(4, 32, 32, 3)), np.eye(10)[:4]
    report = check_gradients(model, x, y, effort="fast")
    assert (
        report.ok
        and sum(v.together for v in report.verdicts)
        == sum(int(np.prod(v.shape)) for v in model.trainable_variables) + x.size
    ), report.explain()
    layer, entry = model.get_layer("conv4_block3_2_conv"), (1, 1, 21, 7)
    planting.plant(layer, kernel=planting.factors(layer.kernel.shape, [entry], 1.1))
    report = check_gradients(model, x, y, effort="fast")
    assert [(v.name, v.worst) for v in report.failures] == [("conv4_block3_2_conv/kernel", entry)]
