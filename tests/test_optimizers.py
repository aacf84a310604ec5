"""Every registered optimizer against Keras: one step from the same state with the same gradient, and what is refused.

A new optimizer is tested because it exists. Where Keras departs from a law, a departure has to say so, and Keras's
step has to be that of the law with just those departures (as_keras), to rounding.
"""

from dataclasses import replace

import keras
import numpy as np
import optimizer_cases as cases
import optimizer_rounding as rounding
import pytest
from example_pools import record
from hypothesis import given, note
from hypothesis import strategies as st

from keras_ref.checks.updates import check_updates
from keras_ref.translation.exceptions.optimizers import as_keras, find_excluded_from_weight_decay
from keras_ref.translation.from_keras import reflect_object
from keras_ref.translation.to_keras import mirror_object
from scratch import registry
from scratch.optimizers.adam import Adam
from scratch.optimizers.muon import Muon
from scratch.optimizers.sgd import SGD
from scratch.optimizers.wrappers import LossScaleOptimizer, MultiOptimizer

#: steps of an example; accumulation and overwriting depend on the steps taken before, which are drawn
STEPS = 2


@pytest.fixture(autouse=True)
def drawn(request):
    """The specifications are drawn before the examples are: Hypothesis does not like to draw while it draws."""
    parameters = getattr(request.node, "callspec", None)
    if parameters is not None and "name" in parameters.params:
        cases.pool(parameters.params["name"])


def holds(spec, before, gradients, after, **how):
    """Keras's step is the law's, or its whole difference is a named departure. Raises: AssertionError."""
    lines = rounding.departing(spec, before, gradients, after, **how)
    if lines:
        ids = cases.named(spec, gradients, **how)
        assert ids, ("Keras departs from the law, and no departure says so", lines)
        left = rounding.departing(as_keras(spec), before, gradients, after, **how)
        assert not left, ("the known departures do not explain all of it", ids, left)


@pytest.mark.sampled
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
@given(data=st.data())
def test_step(name, data):
    """From Keras's own state and with the same gradient, weights and slots are those of the law.

    The first state is the twin's, and a Keras optimizer gives its specification back.
    """
    spec, weights = data.draw(st.sampled_from(cases.pool(name))), data.draw(cases.points())
    record("optimizer", spec)
    how = {"constrained": data.draw(st.booleans()), "exclude": data.draw(st.sampled_from((None, "bias")))}
    given_gradients = [data.draw(cases.gradients(spec)) for _ in range(STEPS)]
    taken = data.draw(st.sampled_from((0, 0, 1, 2, 9, 1000)))
    note(f"{spec}, {how}, {taken} steps taken")
    with cases.keras_optimizer(spec, weights=weights, **how) as optimizer:
        assert find_excluded_from_weight_decay(optimizer, cases.PATHS) == cases.excluded(how["exclude"])
        ours, theirs = rounding.flat(cases.Moment(weights, spec.init(weights))), rounding.flat(cases.moment(optimizer))
        assert ours.keys() == theirs.keys() and all(np.array_equal(ours[n], theirs[n]) for n in ours)
        # Keras takes an inner loss scale away, as the twin does
        assert reflect_object(optimizer, "optimizer") == (
            replace(spec, inner_optimizer=spec.inner) if isinstance(spec, LossScaleOptimizer) else spec
        )
        cases.advance(optimizer, taken)
        for gradients in given_gradients:
            before = cases.moment(optimizer)
            cases.apply(optimizer, gradients)
            holds(spec, before, gradients, cases.moment(optimizer), **how)


@pytest.mark.sampled
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
@given(data=st.data())
def test_repeated_indices(name, data):
    """Rows of a repeated index are added up before anything else, or the departure is named."""
    spec = registry.get("optimizer", name)()
    gradients = {**data.draw(cases.gradients(SGD())), cases.TABLE: data.draw(cases.sparse(unique=False))}
    with cases.keras_optimizer(spec, weights=data.draw(cases.points())) as optimizer:
        before = cases.moment(optimizer)
        cases.apply(optimizer, gradients)
        after = cases.moment(optimizer)
    lines = rounding.departing(spec, before, gradients, after)
    if lines:
        assert cases.named(spec, gradients), lines
        # no other variable is touched by it, and optimizers that square nothing are right
        rest = rounding.departing(as_keras(spec), before, gradients, after)
        assert all(line.startswith(cases.TABLE) for line in rest), rest
        assert name not in ("SGD", "Lion", "LossScaleOptimizer", "MultiOptimizer"), lines


@pytest.mark.sampled
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_small_errors_are_seen(name):
    """What rounding is granted hides nothing: a learning rate wrong by a part in 2^30 is seen at every weight."""
    generator = np.random.default_rng(0)
    spec = registry.get("optimizer", name)()
    rate = getattr(spec, "inner_optimizer", getattr(spec, "default_optimizer", spec)).learning_rate
    wrong = replace_rate(spec, rate * (1 + 2.0**-30))
    weights = {n: np.zeros(shape) + generator.normal(size=shape) / 8 for n, shape in cases.SHAPES.items()}
    at = cases.Moment(weights, spec.init(weights))
    for _ in range(3):
        gradients = {n: generator.normal(size=shape) for n, shape in cases.SHAPES.items()}
        gradients = {n: g * spec.loss_scale(at.state) for n, g in gradients.items()}
        before, at = at, cases.step(spec, at, gradients)
    seen = {line.partition("[")[0] for line in rounding.departing(wrong, before, gradients, at)}
    assert seen >= set(cases.SHAPES), seen


def replace_rate(spec, rate):
    """The specification, or what it wraps, with another learning rate."""
    for field in ("inner_optimizer", "default_optimizer"):
        if hasattr(spec, field):
            return replace(spec, **{field: replace_rate(getattr(spec, field), rate)})
    return replace(spec, learning_rate=rate)


# The whole training step ----------------------------------------------------------------------------------------------

#: arguments beside the defaults with which check_updates is tried
ARGUMENTS = {
    "defaults": {},
    "several": {
        "clipnorm": 0.5,
        "weight_decay": 0.125,
        "use_ema": True,
        "ema_momentum": 0.5,
        "ema_overwrite_frequency": 2,
        "gradient_accumulation_steps": 2,
        "loss_scale_factor": 8.0,
    },
}


def keras_model():
    """Two layers and a constraint."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(2, "tanh", kernel_constraint=keras.constraints.MaxNorm(0.75), name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, name="out")(hidden), name="tiny")


def with_arguments(name, arguments):
    """An optimizer with shared arguments, which a wrapper's inner optimizers take."""
    cls = registry.get("optimizer", name)
    if name == "LossScaleOptimizer":
        return cls(Adam(0.05, **{k: v for k, v in arguments.items() if k != "loss_scale_factor"}), 8.0, 2)
    if name == "MultiOptimizer":
        own = {k: v for k, v in arguments.items() if k != "loss_scale_factor"}
        return cls(
            SGD(0.05, **own), {".*kernel": Adam(0.05, **own)}, loss_scale_factor=arguments.get("loss_scale_factor")
        )
    return cls(learning_rate=0.05, **arguments)


@pytest.mark.sampled
@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_check_updates(name, arguments):
    """check_updates agrees with every optimizer of Keras, or names the departure."""
    x, y = np.random.default_rng(1).normal(size=(4, 3)), np.random.default_rng(2).normal(size=(4, 1))
    spec = with_arguments(name, ARGUMENTS[arguments])
    model = keras_model()
    model.compile(mirror_object(spec), "mse")
    report = check_updates(model, x, y, steps=3)
    assert report.ok, report.explain()
    assert all(v.verdict == "match" for v in report.verdicts) or cases.named(
        spec, dict.fromkeys(cases.SHAPES), constrained=True
    )


# Refusals -------------------------------------------------------------------------------------------------------------

REFUSALS = {
    "rate": (
        lambda: SGD(-0.5),
        (
            "`learning_rate` of SGD must be at least 0.0 or of type Schedule. Received: learning_rate=-0.5. Pass a "
            "legal value."
        ),
    ),
    "momentum": (
        lambda: SGD(momentum=1.5),
        "`momentum` of SGD must lie in [0.0, 1.0]. Received: momentum=1.5. Pass a legal value.",
    ),
    "beta": (
        lambda: Adam(beta_1=1.0),
        "`beta_1` of Adam must lie in [0.0, 1.0). Received: beta_1=1.0. Pass a legal value.",
    ),
    "clipping": (
        lambda: SGD(clipnorm=1.0, clipvalue=1.0),
        (
            "At most one of `clipnorm`, `clipvalue` and `global_clipnorm` may be set. Received: clipnorm, clipvalue. "
            "Drop the others."
        ),
    ),
    "accumulation": (
        lambda: SGD(gradient_accumulation_steps=1),
        (
            "`gradient_accumulation_steps` of SGD must be an integer, at least 2 or None. Received: "
            "gradient_accumulation_steps=1. Pass a legal value."
        ),
    ),
    "patterns": (
        lambda: Muon(exclude_layers=("[",)),
        (
            "`exclude_layers` of Muon must be a sequence of regular expressions. Received: exclude_layers=('[',). "
            "Pass a legal value."
        ),
    ),
    "wrapped": (
        lambda: LossScaleOptimizer(LossScaleOptimizer()),
        "LossScaleOptimizer may not wrap another. Received: a LossScaleOptimizer inside. Unwrap it.",
    ),
    "shared": (
        lambda: LossScaleOptimizer(clipnorm=1.0),
        (
            "LossScaleOptimizer does not take `clipnorm`. Received: clipnorm=1.0. Set `clipnorm` on the optimizer "
            "inside it."
        ),
    ),
    "several": (
        lambda: MultiOptimizer(SGD(), {"a.*": SGD(), ".*b": SGD()}).optimizer_of("ab"),
        "At most one pattern may match a path. Received: 2 for 'ab'. Narrow the patterns.",
    ),
    "gradients": (
        lambda: SGD().step({"w": np.ones(1)}, {"w": None}, SGD().init({"w": np.ones(1)})),
        "A step needs the gradient of at least one weight. Received: none for w. Pass gradients={name: array}.",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal(case):
    """What is refused, in whole sentences."""
    make, message = REFUSALS[case]
    with pytest.raises(ValueError) as refusal:
        make()
    assert str(refusal.value) == message
