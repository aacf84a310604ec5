"""GradientCheck in model.fit: it warns, stops or raises; training goes on bit for bit as it would have without."""

import random
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ref.checks.gradients
from keras_ref import GradientCheck, GradientMismatch, GradientWarning
from keras_ref.reports.verdict import Report, Verdict

X, Y = np.random.default_rng(0).normal(size=(24, 3)), np.random.default_rng(1).normal(size=(24, 2))


@tf.custom_gradient
def doubled(x):
    return x * 2.0, lambda upstream: upstream * 2.001


class Doubled(keras.layers.Layer):
    def call(self, x):
        return doubled(x)


def model(*layers, inputs=True, run_eagerly=True):
    keras.utils.set_random_seed(5)
    parts = [
        keras.layers.Dense(4, "tanh", name="hidden"),
        *(make() for make in layers),
        keras.layers.Dense(2, name="out"),
    ]
    built = keras.Sequential([*([keras.Input((3,))] if inputs else []), *parts], name="mine")
    built.compile(optimizer="adam", loss="mse", metrics=["mae"], run_eagerly=run_eagerly)
    return built


def trained(built, *callbacks, epochs=3):
    """Weights, optimizer slots, history and the random states after training: all that a check might touch."""
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002 (the state that a check must leave alone)
    history = built.fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=list(callbacks))
    values = [v.numpy() for v in [*built.variables, *built.optimizer.variables]]
    return values, history.history, random.random(), np.random.uniform()  # noqa: NPY002 (the same state)


@pytest.mark.sampled
@pytest.mark.parametrize("options", [{}, {"training": True, "modes": ("eager", "function")}], ids=str)
def test_training_goes_on_as_without_it(options):
    noisy = (keras.layers.BatchNormalization, lambda: keras.layers.Dropout(0.5))
    plain = trained(model(*noisy, run_eagerly=False), epochs=2)
    check = GradientCheck((X, Y), every=5, samples=5, on_failure="raise", **options)
    checked = trained(model(*noisy, run_eagerly=False), check, epochs=2)
    assert check.report is not None and check.report.ok
    for before, after in zip(plain[0], checked[0], strict=True):
        np.testing.assert_array_equal(before, after)
    assert plain[1:] == checked[1:]


def stub(monkeypatch, verdict="match"):
    """Count the checks, and what they are given, without their work."""
    calls = []

    def check(model, x, y, **options):
        calls.append((x, y, options, model.optimizer.iterations.numpy()))
        return Report(model.name, (Verdict("v", "forward", verdict, 1, 1, visible=1e-9),))

    monkeypatch.setattr(keras_ref.checks.gradients, "check_gradients", check)
    return calls


@pytest.mark.sampled
def test_before_the_first_batch_and_every_so_many(monkeypatch):
    calls = stub(monkeypatch)
    trained(model(), GradientCheck((X, Y, np.ones(24)), every=4, variables="hidden/*", seed=9))
    assert [int(at) for *_, at in calls] == [0, 4, 8, 12, 16]
    x, y, options, _ = calls[0]
    assert (len(x), len(y)) == (24, 24)
    assert (
        options["effort"] == "fast"
        and options["seed"] == 9
        and options["variables"] == "hidden/*"
        and len(options["sample_weight"]) == 24
    )
    calls.clear()
    trained(model(inputs=False), GradientCheck(every=100), epochs=1)  # built by its first batch
    assert [int(at) for *_, at in calls] == [1]
    assert calls[0][0].shape == (4, 3) and calls[0][1].shape == (4, 2)


@pytest.mark.parametrize("kind", ["dataset", "sequence"])
def test_data_may_be_a_pipeline(monkeypatch, kind):
    class Sequence(keras.utils.PyDataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4]

    calls = stub(monkeypatch)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4) if kind == "dataset" else Sequence()
    trained(model(), GradientCheck(data, every=100, samples=3), epochs=1)
    np.testing.assert_array_equal(calls[0][0], X[:3])
    np.testing.assert_array_equal(calls[0][1], Y[:3])


@pytest.mark.sampled
def test_it_warns_stops_raises_or_calls(monkeypatch):
    wrong = model(Doubled)
    with pytest.warns(
        GradientWarning,
        match=r"Before batch 1 of epoch 1: mine: 4 variables and the input(.|\n)*"
        r"verdict    mismatch: mine/hidden/kernel, by the oracle 'forward'",
    ):
        trained(wrong, GradientCheck((X, Y), every=100, samples=4, effort="full"), epochs=1)
    stub(monkeypatch, "mismatch")
    built = model()
    with pytest.warns(GradientWarning):
        history = built.fit(
            X, Y, batch_size=4, epochs=5, verbose=0, callbacks=[GradientCheck((X, Y), on_failure="stop")]
        )
    assert built.optimizer.iterations.numpy() == 1 and len(history.history["loss"]) == 1
    with pytest.raises(GradientMismatch, match=r"^Before batch 1 of epoch 1: mine: 1 variable"):
        trained(model(), GradientCheck((X, Y), on_failure="raise"))
    seen = []
    trained(model(), GradientCheck((X, Y), every=6, on_failure=seen.append))
    assert [report.ok for report in seen] == [False] * 3


@pytest.mark.sampled
def test_what_has_been_said_is_repeated_in_one_line(monkeypatch):
    """With the epoch; in full again when the failures are others, or are back."""
    words = iter(["mismatch", "mismatch", "nan", "match", "nan"])
    stub(monkeypatch)
    check = keras_ref.checks.gradients.check_gradients
    monkeypatch.setattr(
        keras_ref.checks.gradients,
        "check_gradients",
        lambda *given, **options: replace(check(*given, **options), verdicts=(verdict(next(words)),)),
    )
    with pytest.warns(GradientWarning) as warned:
        trained(model(), GradientCheck((X, Y), every=6), epochs=5)
    said = [str(one.message) for one in warned]
    assert {Path(one.filename).name for one in warned} == {"test_callback.py"}  # where training was started
    assert [text.count("\n") > 6 for text in said] == [True, False, True, True]
    assert said[1] == "Before batch 1 of epoch 2: still the same failures (1 mismatch)"
    assert [text.partition(":")[0][-7:] for text in said] == ["epoch 1", "epoch 2", "epoch 3", "epoch 5"]


def verdict(word):
    return Verdict("v", "forward", word, 1, 1, {}, (), 1.0, 2.0, visible=1e-9)


def test_options_of_the_project_stand_where_none_are_given(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.gradtwin]\neffort = "full"\nseed = 3\nallow = ["undecided"]\nexpect = ["q*=surrogate"]\nsteps = 9\n'
    )
    calls = stub(monkeypatch, "undecided")
    check = GradientCheck((X, Y), every=100, seed=4, on_failure="raise")
    trained(model(), check, epochs=1)
    assert {name: calls[0][2][name] for name in ("effort", "seed", "expect")} == {
        "effort": "full",
        "seed": 4,
        "expect": {"q*": "surrogate"},
    }
    assert "steps" not in calls[0][2] and check.report.ok


def test_a_generator_gives_its_first_batch(monkeypatch):
    calls = stub(monkeypatch)
    batches = ((X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4))
    trained(model(), GradientCheck(batches, every=3), epochs=1)
    assert len(calls) == 2
    for x, y, *_ in calls:
        np.testing.assert_array_equal(x, X[:4])
        np.testing.assert_array_equal(y, Y[:4])


@pytest.mark.sampled
def test_what_goes_wrong_later_does_not_end_the_training():
    """Data that do not fit are refused at once; a model that has become nan is a warning like any other."""
    with pytest.raises(ValueError, match=r"must have shape \(any, 3\). Received: \(24, 2\)"):
        trained(model(), GradientCheck((X[:, :2], Y)))
    built = model()
    spoil = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: built.layers[0].bias.assign([np.nan] * 4) if batch == 1 else None
    )
    with pytest.warns(
        GradientWarning,
        match=r"^The gradients could not be checked before batch 4 of epoch 1: Weight 'mine/hidden/kernel' must be",
    ):
        trained(built, spoil, GradientCheck((X, Y), every=3, samples=2, on_failure="stop"))
    assert built.optimizer.iterations.numpy() == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"every": 0}, "`every` must be a positive integer. Received: 0 (int). Pass 1 or more."),
        ({"samples": 1.5}, "`samples` must be a positive integer. Received: 1.5 (float). Pass 1 or more."),
        (
            {"on_failure": "panic"},
            (
                "`on_failure` must be one of warn, stop, raise, or a function of the report. Received: the text "
                "'panic'. Choose one of them."
            ),
        ),
    ],
)
def test_bad_input_is_refused_when_it_is_made(options, sentence):
    with pytest.raises(ValueError) as caught:
        GradientCheck((X, Y), **options)
    assert str(caught.value) == sentence


def test_the_first_samples_of_sparse_rows():
    rows = np.where(X > 0, X, 0.0)
    sparse = keras.Sequential([keras.Input((3,), sparse=True), keras.layers.Dense(2)])
    sparse.compile("sgd", "mse")
    check = GradientCheck((tf.sparse.from_dense(rows), Y), samples=4, on_failure="raise", effort="full")
    sparse.fit(rows, Y, verbose=0, callbacks=[check])
    (entries,) = {v.total for v in check.report.verdicts if v.name == "input"}
    assert entries == np.count_nonzero(rows[:4])


def test_options_that_there_are_not_are_refused_when_it_is_made():
    with pytest.raises(ValueError, match=r"^GradientCheck must have options of check_gradients. Received: efort. "):
        GradientCheck((X, Y), efort="full")
