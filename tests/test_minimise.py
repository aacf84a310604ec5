"""From a failure to a script: the expressions, the passes, the search, what "the same" means, and whole runs."""

import dataclasses
import functools
import math
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from minimised import FAULTS, minimised

from keras_ref import minimise
from keras_ref.checks.culprits import record_calls
from keras_ref.errors import BadInput
from keras_ref.evaluation.loss_function import Data
from keras_ref.minimisation import minimise as verb
from keras_ref.minimisation.cases import CallCase, describe
from keras_ref.minimisation.expressions import (
    Call,
    Imported,
    Inline,
    Item,
    Listing,
    Named,
    Table,
    Values,
    Writer,
    list_children,
    replace_node,
    walk,
    with_children,
)
from keras_ref.minimisation.finding import Finding, list_findings
from keras_ref.minimisation.minimise import LINES, Minimised, NothingToMinimise
from keras_ref.minimisation.origins import _list_regularizers
from keras_ref.minimisation.reading import express
from keras_ref.minimisation.reductions import PASSES, weigh
from keras_ref.minimisation.running import exit_status_of, running
from keras_ref.minimisation.search import Search
from keras_ref.minimisation.showing import Shown, find_worst, list_both, write_script
from keras_ref.minimisation.source import NotWritable
from keras_ref.reports.verdict import Kind, Report, Verdict


def written(tree):
    """The text of an expression, run."""
    writer = Writer()
    text = writer.write(tree)
    with running("\n".join([*writer.imports(), *writer.definitions.values(), f"value = {text}"])) as names:
        return names["value"]


# Expressions ----------------------------------------------------------------------------------------------------------


@given(
    arrays(st.sampled_from(["float64", "float32", "int64", "complex128", "bool"]), array_shapes(min_dims=0, min_side=0))
)
def test_an_array_is_written_as_it_is(array):
    again = written(Values(array))
    assert again.dtype == array.dtype and again.shape == array.shape
    np.testing.assert_array_equal(again, array)


TREES = st.recursive(
    st.one_of(st.integers(-3, 9), st.floats(-2, 2), st.booleans(), st.none(), st.text("ab", max_size=3)),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: Listing(tuple(items))),
        st.tuples(inner, inner).map(lambda pair: Table((("a", pair[0]), ("b", pair[1])))),
        inner.map(lambda value: Call(Imported("builtins", "repr"), (value,))),
        inner.map(lambda value: Item(Listing((value,)), 0)),
    ),
    max_leaves=8,
)


@given(TREES)
def test_a_tree_is_taken_apart_and_put_together(tree):
    assert with_children(tree, list_children(tree)) == tree
    for path, node in walk(tree):
        assert replace_node(tree, path, node) == tree
        assert any(part == Named("new") for _, part in walk(replace_node(tree, path, Named("new"))))


@given(TREES)
def test_candidates_are_other_trees_that_can_be_written(tree):
    """No pass gives the tree itself back as something smaller, and every candidate is a tree like others."""
    size = weigh(tree, Writer().write(tree))
    for one in PASSES:
        for candidate in one.candidates(tree):
            weight = weigh(candidate, Writer().write(candidate))
            assert candidate != tree or weight == size


def test_sizes_are_reduced_together():
    """Units and the axis of the targets that belongs to them stay the same size."""
    layer = Call(Imported("keras.layers", "Dense"), (), (("units", 3),))
    tree = (layer, Values(np.arange(12.0).reshape(4, 3)))
    (sizes,) = [one for one in PASSES if one.what == "sizes"]
    found = [(dict(c[0].keywords)["units"], c[1].array.shape) for c in sizes.candidates(tree)]
    assert (1, (4, 1)) in found and (2, (4, 2)) in found and (3, (1, 3)) in found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (lambda: keras.layers.Dense(3, "relu"), "keras.layers.Dense(units=3, activation='relu')"),
        (
            lambda: keras.layers.Activation(functools.partial(keras.activations.relu, threshold=1.0)),
            "keras.layers.Activation(activation=partial(keras.activations.relu, threshold=1.0))",
        ),
        (lambda: keras.losses.Huber(0.5), "keras.losses.Huber(delta=0.5)"),
        (lambda: keras.optimizers.Adam(0.1), "keras.optimizers.Adam(learning_rate=0.1)"),
        (lambda: keras.losses.mean_squared_error, "keras.losses.mean_squared_error"),
        (lambda: tf.math.xlogy, "tf.math.xlogy"),
        (lambda: np.sin, "np.sin"),
        (lambda: [1, (2.5,), {"a": None}], "[1, (2.5,), {'a': None}]"),
    ],
)
def test_live_objects_are_written_by_their_public_names(value, text):
    assert Writer().write(express(value())) == text


def test_a_layer_is_read_and_made_again():
    """What is written makes a layer of the same configuration."""
    for layer in (
        keras.layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2"),
        keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True)),
        keras.layers.MultiHeadAttention(2, 3, dropout=0.25),
    ):
        again = written(express(layer))
        one, other = ({k: v for k, v in x.get_config().items() if k not in ("name", "dtype")} for x in (layer, again))
        assert str(one).replace(layer.dtype, "") == str(other).replace(again.dtype, "") or one.keys() == other.keys()
        assert type(layer) is type(again)


SCALE = 3.0


def test_local_functions_are_written_with_what_they_need():
    offset = np.array([1.0, 2.0])

    def shifted(x):
        """Not written."""
        return x * SCALE + offset

    tree = express(shifted)
    assert isinstance(tree, Inline)
    np.testing.assert_array_equal(written(tree)(np.array([1.0, 1.0])), [4.0, 5.0])
    assert "Not written" not in Writer().write(tree) + tree.source


def test_what_cannot_be_written_is_refused():
    with pytest.raises(NotWritable, match="generator"):
        express(i for i in range(3))


# The search -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A case that is a list of numbers."""

    tree: Listing

    def with_tree(self, tree):
        return Numbers(tree)

    def simpler(self):
        yield from ()


def search_for(has_same, numbers, *, shows=None, seconds=60.0):
    search = Search(
        shows=shows or has_same,
        has_same=has_same,
        text_of=lambda case: Writer().write(case.tree),
        until=time.monotonic() + seconds,
    )
    return search, search.run(Numbers(Listing(tuple(numbers)))).tree.items


def test_the_search_ends_at_what_matters():
    search, found = search_for(lambda case: 7 in case.tree.items, [5, 12, 7, 3, 9, 40])
    assert found == (7,) and search.finished and search.checked < search.tried


def test_a_pass_that_slips_is_done_again_step_by_step():
    """Where what is shown is kept without the finding, each step is checked."""
    _, found = search_for(
        lambda case: {7, 9} <= set(case.tree.items), [7, 5, 9, 3], shows=lambda case: 7 in case.tree.items
    )
    assert sorted(found) == [7, 9]


def test_a_limit_of_time_ends_the_search():
    search, found = search_for(lambda case: 7 in case.tree.items, [5, 7, 3], seconds=0.0)
    assert found == (5, 7, 3) and not search.finished


def test_ctrl_c_leaves_the_smallest_so_far():
    """What the first pass came to was checked, and stays where the second is interrupted."""
    checked = []

    def has_same(case):
        if checked:
            raise KeyboardInterrupt
        checked.append(case)
        return True

    search = Search(
        shows=lambda case: max(case.tree.items) > 4,
        has_same=has_same,
        text_of=lambda case: Writer().write(case.tree),
        until=time.monotonic() + 60.0,
    )
    with pytest.raises(KeyboardInterrupt):
        search.run(Numbers(Listing((5, 12, 40))))
    assert [search.best] == checked and len(search.best.tree.items) == 1


# What is shown, and what is the same ----------------------------------------------------------------------------------


def test_the_worst_entry():
    both = list_both((np.zeros(2), np.array([[1.0, 2.0]])), (np.zeros(2), np.array([[1.0, 2.5]])))
    assert both.place(find_worst(both)) == "[1][0, 1]"
    missing = list_both(np.array([1.0, np.nan]), np.array([5.0, 2.0]))
    assert missing.place(find_worst(missing)) == "[1]"
    assert find_worst(list_both(np.ones(2), np.ones(2) + 1e-13)) is None
    assert find_worst(list_both(np.ones(2), np.array([np.nan, 1.0]))) is None


@pytest.mark.parametrize(("got", "status"), [(2.0, 1), (1.3, 0), (1.0, 0), (math.nan, 1)])
def test_a_script_ends_by_what_it_sees(got, status):
    """It ends with 1 while both values differ by more than half of what they differed by."""
    shown = Shown(lines=(f"got, want = float('{got}'), 1.0",), path="", got=2.0, want=1.0, names=("a", "b"))
    with pytest.raises(SystemExit) as ended, running(write_script(shown, "a number")):
        pass
    assert ended.value.code == status


def test_the_same_finding():
    found = Finding.of(Verdict("a", "forward", Kind.MISMATCH))
    report = Report("m", (Verdict("b", "forward", Kind.MISMATCH, compared=1), Verdict("a", "twin", Kind.DEPARTURE)))
    assert found.is_in(report) and list_findings(report)[0] == found
    assert not found.is_in(Report("m", (Verdict("a", "forward", Kind.NAN),)))
    assert not found.is_in(Report("m", (Verdict("a", "twin", Kind.MISMATCH),)))
    modes = {
        how: Finding.of(Verdict("a", "forward", Kind.MODE_DEPENDENT, how=how)).claim
        for how in ("function", "jit_compile")
    }
    assert modes == {"function": "function", "jit_compile": "jit_compile"}


def test_subjects_in_words():
    dense = Call(Imported("keras.layers", "Dense"))
    model = Call(Imported("keras", "Sequential"), (Listing((dense, dense)),))
    assert describe(model) == "keras.Sequential of keras.layers.Dense, keras.layers.Dense"
    assert describe(Inline("function", "function = lambda x: x * 2")) == "x * 2"


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_this_process(monkeypatch):
    """Scripts are run in this process, where TensorFlow is there already. Returns those that were run."""
    ran = []

    def run(text, **_):
        ran.append(text)
        with pytest.raises(SystemExit) as ended, running(text):
            pass
        return ended.value.code

    monkeypatch.setattr(verb, "exit_status_of", run)
    return ran


@pytest.mark.sampled
def test_a_function_is_minimised(in_this_process):
    x = np.array([[0.3, 0.0, 1.7], [2.2, -0.4, 0.0]])
    found = minimise(lambda x, y: tf.math.xlogy(x, y) * 2, x, np.abs(x) + 0.5)
    assert isinstance(found, Minimised) and in_this_process == [found.script] and not found.notes
    assert found.lines <= 10 and "gradtwin" not in found.script.partition("\n")[2]
    assert found.got == 0.0 and abs(found.want - 2 * math.log(2.0)) < 1e-9 and "np.array(0.0)" in found.script
    assert found.script.startswith(
        "# gradtwin: tf.math.xlogy(x, y) * 2: autodiff is not the slope of what is computed. Keras "
    )
    assert str(found) == found.script and found.checked < found.tried


def test_what_is_right_is_not_minimised():
    with pytest.raises(NothingToMinimise, match="must fail a check to be made small"):
        minimise(tf.square, np.array([1.0, 2.0]))


def test_what_is_found_once_is_not_minimised():
    report = Report("square", (Verdict("input", "forward", Kind.MISMATCH, compared=1),))
    with pytest.raises(NothingToMinimise, match="must be there twice to be made small"):
        minimise(tf.square, np.array([1.0, 2.0]), report=report)


def test_no_time_is_refused():
    with pytest.raises(BadInput, match=r"`seconds` must be a number of seconds above 0\. Received: 0 "):
        minimise(tf.square, np.array([1.0]), seconds=0)


@pytest.mark.parametrize("is_held", [False, True])
def test_a_penalty_is_tried_at_the_weight_that_it_penalizes(is_held):
    """Whatever the argument is called that gave the penalty, and whichever layer holds the one that has it."""
    layer = keras.layers.SeparableConv1D(2, 2, depthwise_regularizer=half_of_squares)
    shape, outer = ((3, 4, 2), keras.layers.TimeDistributed(layer)) if is_held else ((4, 2), layer)
    model = keras.Sequential([keras.Input(shape), outer])
    calls = record_calls(model, Data(np.zeros((1, *shape))), training=False)
    cases = list(_list_regularizers(calls, Finding(kind=Kind.MISMATCH, oracle="forward")))
    assert cases
    kernel = np.asarray(layer.depthwise_kernel)
    assert all((case.arguments[0].array.astype(kernel.dtype) == kernel).all() for case in cases)


def half_of_squares(weight):
    return keras.ops.sum(weight * weight) / 2


def test_a_case_leaves_nothing_behind():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy().name
    case = CallCase(subject=Imported("keras.layers", "NoSuchLayer"), is_layer=True, arguments=(Values(np.ones(1)),))
    with pytest.raises(AttributeError), running("\n".join([*case.setup().head, *case.setup().lines])):
        pass
    assert keras.config.floatx() == floatx and keras.config.dtype_policy().name == policy


# The forty ------------------------------------------------------------------------------------------------------------


def test_there_are_twenty_of_each():
    assert [sum(fault.is_planted is planted for fault in FAULTS) for planted in (True, False)] == [20, 20]
    assert len({fault.name for fault in FAULTS}) == 40


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_minimised(fault):
    """The script has at most 15 lines, is about the part at fault, and shows it in a process of its own."""
    found = minimised(fault)
    assert not found.notes and found.lines <= LINES and fault.about in found.script
    assert exit_status_of(found.script, seconds=120) == 1


@pytest.mark.slow
def test_a_script_that_cannot_run_ends_with_2():
    shown = Shown(lines=("import no_such_module",), path="", got=2.0, want=1.0, names=("a", "b"))
    assert exit_status_of(write_script(shown, "nothing"), seconds=120) == 2
