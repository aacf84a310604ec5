"""compare: two programs with the same weights, the first place where they part, and which of the two is right."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_ref import Comparison, ProgramsDiffer, compare, reflect
from keras_ref.comparison.two_programs import weight_matching
from keras_ref.comparison.two_programs.weight_matching import _align_weights, find_fitting_layouts, match_weights
from keras_ref.errors import BadInput, CouldNotRun
from keras_ref.frontends.command_line.compare_cli import ComparisonRun
from keras_ref.programs.program import Weight
from scratch.objective import Objective

GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(5, 3)), GENERATOR.normal(size=(5, 2))


def network(*, epsilon=1e-3, activation="tanh", rate=0.1, loss="mse", last=2, last_name="last"):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activation, name="first"),
            layers.LayerNormalization(epsilon=epsilon, name="norm"),
            layers.Dropout(0.5, name="drop"),
            layers.Dense(last, name=last_name),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
    return model


@pytest.mark.sampled
def test_equal_models_agree_in_every_stage():
    found = compare(network(), network(), X, Y, steps=2)
    assert found.ok and found.sentence == "They agree: forward, loss, gradient, update."
    assert "A: Random layers are in inference: drop." in found.notes


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("other", "place", "stage"),
    [
        ({"epsilon": 1e-5}, "norm", "forward"),
        ({"activation": "softsign"}, "first", "forward"),
        ({"loss": keras.losses.MeanSquaredError(reduction="sum")}, "loss", "loss"),
        ({"rate": 0.2}, "first/kernel", "update"),
    ],
)
def test_a_difference_is_named_by_layer_and_stage(other, place, stage):
    found = compare(network(), network(**other), X, Y, steps=1)
    assert (found.parting.a, found.parting.stage) == (place, stage)
    assert found.sentence.startswith(f"They part at `{place}` ({stage})")
    with pytest.raises(ProgramsDiffer, match="They part at"):
        found.raise_if_failed()


@pytest.mark.sampled
def test_models_are_afterwards_what_they_were():
    model = network()
    before = [v.numpy() for v in (*model.variables, *model.optimizer.variables)]
    compare(model, network(), X, Y, steps=1, training=True)
    assert all(
        (a == v.numpy()).all() for a, v in zip(before, (*model.variables, *model.optimizer.variables), strict=False)
    )
    assert not model.run_eagerly and "call" not in vars(model.layers[0])


@pytest.mark.sampled
def test_a_model_and_its_twin_agree():
    model = network()
    twin, _ = reflect(model)
    found = compare(model, Objective.of(twin, "MeanSquaredError"), X, Y)
    assert found.ok and {row.stage for row in found.rows} == {"forward", "loss", "gradient"}


@keras.saving.register_keras_serializable("tests")
class Halved(keras.layers.Layer):
    """The identity with half its gradient."""

    def call(self, x):
        import tensorflow as tf

        return (x + tf.stop_gradient(x)) / 2


@pytest.mark.sampled
def test_slopes_say_who_is_right():
    def chain(*inside):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), *inside, keras.layers.Dense(2)])
        model.compile(loss="mse")
        return model

    found = compare(chain(), chain(Halved()), X, Y)
    assert found.parting.stage == "gradient" and found.parting.right == "A"
    assert abs(found.parting.slope - found.parting.value_a) < 1e-9
    assert "A's is the slope of the loss, B's is not." in found.sentence


def test_a_program_without_a_loss_is_compared_by_a_random_cotangent():
    bare = keras.Sequential(network().layers)
    found = compare(bare, network(), X, Y)
    assert found.ok and any("A has none" in note for note in found.notes)


def weights(*shapes, known=False):
    return [Weight(name=f"w{i}", shape=shape, known=known) for i, shape in enumerate(shapes)]


def test_weights_are_matched_by_order_and_shape():
    found = match_weights(weights((3, 4), (4,), (4, 4), known=True), weights((4, 3), (4, 1), (4, 4)))
    assert [pair.layout.words for pair in found.pairs] == ["transposed", "as a column", "transposed"]
    value = np.arange(12.0).reshape(3, 4)
    assert (found.pairs[0].to_b(value) == value.T).all() and (found.pairs[0].to_a(value.T) == value).all()


def test_a_weight_without_a_counterpart_is_named():
    found = match_weights(weights((3, 4), (4,), (4, 2), known=True), weights((3, 4), (4, 2)))
    assert [w.name for w in found.only_a] == ["w1"] and not found.only_b


@given(st.permutations(range(5)))
@settings(deadline=None)
def test_weights_of_the_same_names_are_matched_in_any_order(order):
    """Of shapes that differ: equal ones are matched by their order, whatever their names are."""
    ours = weights(*[(3, 1 + i) for i in range(5)], known=True)
    found = match_weights(ours, [ours[i] for i in order])
    assert [(pair.a, pair.b) for pair in found.pairs] == [(one, one) for one in ours]
    assert not found.only_a and not found.only_b


def test_what_cannot_be_matched_is_one_sentence():
    with pytest.raises(BadInput, match=r"must have weights that fit.*--map"):
        match_weights(weights((3, 4), known=True), weights((5, 6), known=True))
    with pytest.raises(BadInput, match="'nothing', which A does not have"):
        match_weights(weights((3, 4)), weights((3, 4)), {"nothing": "w0"})
    with pytest.raises(BadInput, match="Mapped weights must have the same entries"):
        match_weights(weights((3, 4)), weights((3, 5)), {"w0": "w0"})


def test_a_map_decides():
    found = match_weights(weights((3, 3), (3, 3)), weights((3, 3), (3, 3)), {"w0": "w1", "w1": "w0"})
    assert [(p.a.name, p.b.name) for p in found.pairs] == [("w0", "w1"), ("w1", "w0")]


@st.composite
def named_weights(draw):
    """A few weights of few names and shapes, some of which are equal."""
    names = st.builds("{}/{}".format, st.sampled_from("abc"), st.sampled_from(("kernel", "bias")))
    shapes = st.sampled_from(((2,), (2, 3), (3, 2), (1, 2), (2, 2)))
    known = draw(st.booleans())
    one = st.builds(Weight, name=names, shape=shapes, known=st.just(known) | st.booleans())
    return draw(st.lists(one, max_size=6))


def gain_of(a, b):
    """A pair counts 1, a quarter more for the same part and for the same name; nothing where they do not fit."""
    if not find_fitting_layouts(a, b) or (a.known and b.known and a.part != b.part):
        return 0
    return 1 + (a.part == b.part) / 4 + (a.name == b.name) / 4


def align_slowly(a, b):
    """(gain, pairs) of the best common order by its definition; of equal ones that which pairs, then skips one of a."""
    if not a or not b:
        return 0, []
    gain = gain_of(a[0], b[0])
    (ahead, others) = align_slowly(a[1:], b[1:])
    ways = [(gain + ahead, [(a[0], b[0]), *others])] if gain else []
    ways += [align_slowly(a[1:], b), align_slowly(a, b[1:])]
    return max(ways, key=lambda way: way[0])


@given(named_weights(), named_weights(), st.data())
@settings(max_examples=50, deadline=None)
def test_weights_are_aligned_by_the_largest_gain(a, b, data):
    if data.draw(st.booleans()):
        b = [*a[: data.draw(st.integers(0, 3))], *b[:3]]
    assert _align_weights(a, b) == align_slowly(a, b)[1]


def test_thousands_of_weights_of_the_same_names_are_matched_at_once(monkeypatch):
    """Without a table of all pairs."""
    monkeypatch.setattr(weight_matching, "_count_gains", lambda a, b: np.zeros((len(a), len(b)), int))
    many = [Weight(name=f"dense_{i // 2}/{('kernel', 'bias')[i % 2]}", shape=(1,) * (2 - i % 2)) for i in range(4000)]
    found = match_weights(many, [replace(one, path="elsewhere") for one in many])
    assert [(p.a.name, p.b.name) for p in found.pairs] == [(one.name, one.name) for one in many]


def test_what_is_no_program_is_refused():
    with pytest.raises(CouldNotRun, match="must be of a kind that can be compared"):
        compare(network(), object(), X, Y)


# The command ----------------------------------------------------------------------------------------------------------

PLAIN = """
    import numpy as np

    X, Y = np.arange(12.0).reshape(4, 3) / 8, np.ones((4, 2)) / 8
    weights = {"W": np.arange(6.0).reshape(3, 2) / 8, "b": np.ones(2) / 4}


    def forward(x, weights):
        return np.tanh(x @ weights["W"] + weights["b"])


    def loss(output, y):
        return np.mean((output - y) ** 2)
"""


@pytest.mark.sampled
def test_a_comparison_is_replayed(gradtwin):
    gradtwin.write_module("one", PLAIN)
    gradtwin.write_module("other", PLAIN.replace("np.tanh", "np.arctan"))
    found = gradtwin("compare", "one.py", "other.py", "--steps", "0", "--json", "parted.json")
    assert found.status == 1 and "They part at `output` (forward)" in found.out, found
    data = json.loads((gradtwin.folder / "parted.json").read_text())
    assert data["run"]["targets"] == ["one.py", "other.py"] and data["run"]["options"]["steps"] == 0
    again = gradtwin("replay", "parted.json")
    assert again.status == 1 and again.out.startswith("replaying: gradtwin compare one.py other.py --steps 0\n")
    assert again.out.endswith("The same result as recorded.\n")
    gradtwin.write_module("other", PLAIN)
    mended = gradtwin("replay", "parted.json")
    assert mended.status == 1 and mended.out.endswith("The result is not the one recorded.\n")
    assert "output (forward): differs recorded, agrees now" in mended.out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data["run"]["targets"].append("third.py"), "run/targets"),
        (lambda data: data["run"]["options"].update(steps=-1), "run/options/steps"),
        (lambda data: data.update(more=1), "'more' was unexpected"),
        (lambda data: data["run"].update(targets=["numpy:os:remove", "b.py"]), "which is of Python's own library"),
    ],
)
def test_an_edited_comparison_is_refused(gradtwin, change, sentence):
    run = ComparisonRun(a="a.py", b="b.py")
    data = {**Comparison(a="NumPy", b="NumPy").to_dict(), "run": run.to_dict()}
    change(data)
    (gradtwin.folder / "edited.json").write_text(json.dumps(data), encoding="utf-8")
    found = gradtwin("replay", "edited.json")
    assert found.status == 2 and sentence in found.err
