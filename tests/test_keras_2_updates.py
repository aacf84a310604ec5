"""check_updates of models of Keras 2 (tf_keras): the optimizers whose law Keras 3 has too, right and with errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ref import check_updates
from keras_ref.errors import BadInput
from keras_ref.translation.from_keras_2 import SAME_LAW, SAME_SCHEDULES, as_keras_3

tf_keras = pytest.importorskip("tf_keras", reason="needs gradtwin[keras2]")

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.random.default_rng(1).normal(size=(4, 2))
OPTIONS = {"SGD": {"momentum": 0.9, "nesterov": True}, "Adam": {"amsgrad": True}, "RMSprop": {"centered": True}}


def model_of(optimizer, error=0.0, **compiled):
    @tf.custom_gradient
    def tanh(x):
        return tf.tanh(x), lambda upstream: upstream * (1 - tf.tanh(x) ** 2) * (1 + error)

    tf_keras.utils.set_random_seed(3)
    layers = tf_keras.layers
    model = tf_keras.Sequential([tf_keras.Input((3,)), layers.Dense(3, tanh, name="inside"), layers.Dense(2)])
    model.compile(optimizer, "mse", **compiled)
    return model


@pytest.mark.sampled
@pytest.mark.parametrize("name", sorted(SAME_LAW))
def test_right(name):
    """Two steps are compared; model and optimizer are afterwards what they were, and train."""
    optimizer = getattr(tf_keras.optimizers, name)(learning_rate=0.0625, **OPTIONS.get(name, {}))
    model = model_of(optimizer)
    before = [v.numpy().tobytes() for v in model.variables]
    report = check_updates(model, X, Y, steps=2)
    assert report.ok and {v.verdict for v in report.verdicts} == {"match"}, report.explain()
    assert report.subject == f"{model.name}, 2 steps of {name}"
    assert [v.numpy().tobytes() for v in model.variables] == before
    assert int(optimizer.iterations) == 0 and tf_keras.backend.floatx() == "float32"
    model.fit(X, Y, verbose=0)
    assert int(optimizer.iterations) == 1


@pytest.mark.sampled
def test_a_wrong_backward_pass():
    report = check_updates(model_of("adam", 1e-4), X, Y, steps=1)
    assert {v.name for v in report.failures} == {"inside/kernel", "inside/bias"}
    assert {(v.verdict, v.reason_code) for v in report.failures} == {("mismatch", "own-step-gradient")}


def test_a_wrong_optimizer():
    optimizer = tf_keras.optimizers.SGD(0.125)
    step = optimizer.update_step
    optimizer.update_step = lambda gradient, variable: step(gradient * (1 + 1e-6), variable)
    report = check_updates(model_of(optimizer), X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("mismatch", "law-differs")}, report


def only_reason(model):
    report = check_updates(model, X, Y, steps=1)
    assert {(v.verdict, v.reason_code) for v in report.verdicts} == {("undecided", "no-twin")}, report
    return report.verdicts[0].reason


@pytest.mark.sampled
def test_optimizers_without_a_twin():
    """What has no law that is known to be the same is said, and is left as it was."""
    model = model_of("adam")
    model.fit(X, Y, verbose=0)
    assert only_reason(model) == (
        "An optimizer of Keras 2 must not have taken a step to have a twin. Received: one that has."
    )
    model.fit(X, Y, verbose=0)
    assert int(model.optimizer.iterations) == 2
    assert only_reason(model_of(tf_keras.optimizers.Adafactor())) == (
        "An optimizer of Keras 2 must have the law of Keras 3's to have a twin. Received: Adafactor."
    )


@pytest.mark.sampled
@pytest.mark.parametrize("error", [0.0, 1e-6])
def test_nadam(error):
    """It follows the definition but for a warm-up in a few steps and one constant in float32, and for nothing else."""
    optimizer = tf_keras.optimizers.Nadam(0.0625)
    step = optimizer.update_step
    optimizer.update_step = lambda gradient, variable: step(gradient * (1 + error), variable)
    report = check_updates(model_of(optimizer), X, Y, steps=3)
    assert {v.verdict for v in report.verdicts} == {"mismatch" if error else "departure"}, report.explain()


class InFloat32(tf_keras.optimizers.schedules.LearningRateSchedule):
    """A warm-up, then 1/√k, in float32 whatever is asked for."""

    def __call__(self, step):
        k = tf.cast(step, tf.float32) + 1.0
        return 0.3 * tf.minimum(k / 3.0, tf.math.rsqrt(k))


class InFloatx(tf_keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.125 / (1.0 + tf.cast(step, tf_keras.backend.floatx()))


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("schedule", [InFloat32, InFloatx])
def test_a_schedule_of_ones_own(schedule, optimizer):
    """The twin takes its rates as they are, with the error of their precision; an optimizer that is off is found."""
    make = getattr(tf_keras.optimizers, optimizer)
    report = check_updates(model_of(make(schedule())), X, Y, steps=3)
    assert report.ok and {v.verdict for v in report.verdicts} == {"match"}, report.explain()
    wrong = make(schedule())
    step = wrong.update_step
    wrong.update_step = lambda gradient, variable: (step(gradient, variable), variable.assign(variable * 1.0001))
    report = check_updates(model_of(wrong), X, Y, steps=1)
    assert {v.verdict for v in report.verdicts} == {"mismatch"}, report


SCHEDULES = {
    "CosineDecay": (0.25, 4),
    "CosineDecayRestarts": (0.25, 2),
    "ExponentialDecay": (0.1, 2, 0.7),
    "InverseTimeDecay": (0.1, 2, 0.7),
    "PiecewiseConstantDecay": ([1, 2], [0.3, 0.1, 0.7]),
    "PolynomialDecay": (0.1, 3, 0.01, 0.7),
}


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name", [n if n == "ExponentialDecay" else pytest.param(n, marks=pytest.mark.slow) for n in sorted(SAME_SCHEDULES)]
)
def test_schedules(name):
    """The rates of three steps; constants that Keras 2 rounds to float32 are no difference of the law."""
    schedule = getattr(tf_keras.optimizers.schedules, name)(*SCHEDULES[name])
    report = check_updates(model_of(tf_keras.optimizers.SGD(schedule)), X, Y, steps=3)
    assert report.ok and {v.verdict for v in report.verdicts} == {"match"}, report.explain()


@pytest.mark.sampled
def test_weight_decay_by_patterns():
    """Of what is not excluded; a decay that is another is found."""
    optimizer = tf_keras.optimizers.AdamW(0.0625, weight_decay=0.25)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model = model_of(optimizer)
    model.layers[0].bias.assign([1.0, -2.0, 0.5])
    assert check_updates(model, X, Y, steps=2).ok
    optimizer._use_weight_decay = lambda variable: True
    held = type(optimizer)._use_weight_decay
    optimizer._apply_weight_decay = lambda variables: [v.assign_sub(v * 0.25 * 0.0625) for v in variables]
    optimizer._use_weight_decay = held.__get__(optimizer)
    report = check_updates(model, X, Y, steps=1)
    assert {v.name for v in report.failures} == {"inside/bias"}, report.explain()


@pytest.mark.sampled
@pytest.mark.parametrize("dynamic", [True, False])
def test_mixed_precision(dynamic):
    """The step is that of the optimizer inside, on gradients without the scale of the loss, which stays as it was."""
    options = {} if dynamic else {"dynamic": False, "initial_scale": 1024.0}
    optimizer = tf_keras.mixed_precision.LossScaleOptimizer(tf_keras.optimizers.Adam(0.0625), **options)
    model = model_of(optimizer)
    scale = float(optimizer.loss_scale)
    report = check_updates(model, X, Y, steps=2)
    assert report.ok and {v.verdict for v in report.verdicts} == {"match"}, report.explain()
    assert float(optimizer.loss_scale) == scale and int(optimizer.iterations) == 0
    inner = optimizer.inner_optimizer
    step = inner.update_step
    inner.update_step = lambda gradient, variable: step(gradient * (1 + 1e-3), variable)
    wrong = check_updates(model, X, Y, steps=1)
    assert {v.reason_code for v in wrong.failures} == {"law-differs"}, wrong.explain()


@pytest.mark.parametrize("name", sorted(SAME_LAW))
def test_a_configuration_is_carried_over(name):
    optimizer = getattr(tf_keras.optimizers, name)(learning_rate=0.25, **OPTIONS.get(name, {}))
    made = as_keras_3(optimizer).get_config()
    for key, value in optimizer.get_config().items():
        if key in made and key not in ("name", "learning_rate"):
            assert made[key] == value, key
    assert float(made["learning_rate"]) == 0.25


def test_not_compiled():
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    with pytest.raises(BadInput, match="A model must have an optimizer for its updates to be checked"):
        check_updates(model, X, Y)


class Adversarial(tf_keras.Model):
    """Two networks, an optimizer of each, and no `call`: it is never built."""

    def __init__(self, optimizer, wrong=0.0):
        super().__init__()

        @tf.custom_gradient
        def tanh(x):
            return tf.tanh(x), lambda upstream: upstream * (1 - tf.tanh(x) ** 2) * (1 + wrong)

        def network(width, name):
            layers = [
                tf_keras.layers.Dense(3, tanh, name=f"{name}_in"),
                tf_keras.layers.Dense(width, name=f"{name}_out"),
            ]
            return tf_keras.Sequential([tf_keras.Input((3,)), *layers], name=name)

        self.maker, self.judge = network(3, "maker"), network(1, "judge")
        self.makes, self.judges = (getattr(tf_keras.optimizers, optimizer)(0.0625) for _ in range(2))

    def train_step(self, real):
        logs = {}
        for part, optimizer, sign in ((self.judge, self.judges, 1.0), (self.maker, self.makes, -1.0)):
            with tf.GradientTape() as tape:
                judged = self.judge(self.maker(real)) - self.judge(real)
                loss = sign * tf.reduce_mean(judged**2 + judged)
            variables = part.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            logs[part.name] = loss
        return logs


@pytest.mark.sampled
@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "RMSprop", "Adamax"])
def test_optimizers_that_a_model_holds(optimizer):
    """Each computes in float64: TensorFlow takes a plain 0.999 for a float32, which moves Adam's step by 7e-6."""
    tf_keras.utils.set_random_seed(3)
    model = Adversarial(optimizer)
    model.compile()
    before = [v.numpy().tobytes() for v in model.variables]
    report = check_updates(model, X, steps=2)
    assert {v.verdict for v in report.verdicts} == {"match"} and len(report.verdicts) == 8, report.explain()
    assert [v.numpy().tobytes() for v in model.variables] == before and int(model.makes.iterations) == 0
    model.fit(X, verbose=0)
    assert int(model.makes.iterations) == 1
    tf_keras.utils.set_random_seed(3)
    wrong = Adversarial(optimizer, wrong=1e-4)
    wrong.compile()
    named = {v.name for v in check_updates(wrong, X, steps=1).failures}
    # the maker learns through the judge
    parts = ("maker_in", "maker_out", "judge_in")
    assert named == {f"{part}/{weight}" for part in parts for weight in ("kernel", "bias")}


class Holding(Adversarial):
    """The same, with its optimizers in a container."""

    def __init__(self, hold):
        super().__init__("Adam")
        self.held = hold([self.makes, self.judges])
        del self.makes, self.judges

    def __getattr__(self, name):
        if name in ("makes", "judges"):
            return self.held[["makes", "judges"].index(name)]
        raise AttributeError(name)


@pytest.mark.sampled
@pytest.mark.parametrize("hold", [list, tuple, lambda pair: dict(enumerate(pair))], ids=["list", "tuple", "dict"])
def test_optimizers_in_containers(hold):
    """One that is not found is computed in float32, and moves weights beside all that is known."""
    tf_keras.utils.set_random_seed(3)
    model = Holding(hold)
    model.compile()
    report = check_updates(model, X, steps=1)
    assert {v.verdict for v in report.verdicts} == {"match"}, report.explain()


def test_optimizers_of_keras_3_in_containers():
    class Stepping(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.dense, self.held = keras.layers.Dense(2), {"first": [keras.optimizers.Adam(0.0625)]}

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.held["first"][0].apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return {"loss": loss}

    keras.utils.set_random_seed(3)
    model = Stepping()
    model(X)
    model.compile()
    report = check_updates(model, X, Y, steps=1)
    assert {v.verdict for v in report.verdicts} == {"match"}, report.explain()
