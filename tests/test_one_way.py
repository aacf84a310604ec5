"""The way through a check: pure annotators, complete oracles, reasons with codes, and one effort for each wish."""

import copy
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ref
from keras_ref import check_gradients
from keras_ref.checks.annotations import list_annotators, mark_departures
from keras_ref.checks.checked_loss import CheckedLoss, list_untrained, make_model_loss
from keras_ref.checks.disconnected import GradientPaths
from keras_ref.checks.gather import gather
from keras_ref.checks.twins import build_twin
from keras_ref.comparison.efforts import BUDGET, LARGE, SAMPLED, Budgeted, Directional, Full, choose_effort
from keras_ref.comparison.entries.neighbourhood import Judgement, Tally, conclude, tally_neighbours
from keras_ref.comparison.entries.proven_departures import DepartingTwin, Proof
from keras_ref.comparison.higher_order import SingleVariableOracle, draw_direction
from keras_ref.comparison.sources.evidence import Outcome, annotate
from keras_ref.comparison.sources.oracles import DirectionalOracle, ForwardOracle, Oracle
from keras_ref.comparison.sources.settings import Settings
from keras_ref.evaluation.changed_state.float64 import in_float64
from keras_ref.evaluation.loss_function import Data
from keras_ref.reports.verdict import Kind, Reason, Verdict
from keras_ref.translation.departures import get_departure
from scratch.differences import Central

PACKAGE = Path(keras_ref.__file__).parent
X, Y = np.arange(12.0).reshape(4, 3) / 8 - 0.5, np.arange(8.0).reshape(4, 2) / 8


@pytest.fixture(scope="module")
def subject():
    """A small model, computing in float64 while the tests of this module run, as a check sees it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, "tanh", name="a"), keras.layers.Dense(2, name="b")], name="m"
    )
    model.compile(loss="mse")
    with in_float64(model):
        found = make_model_loss(model, Data(X, Y))
        trained = list(model.trainable_variables)
        yield CheckedLoss(
            name="m",
            data=found.data,
            loss=found.loss,
            trained=trained,
            state=list_untrained(model, trained),
            twin=lambda loss: build_twin(model, loss, data=found.data, projection=False, training=False),
        )


@pytest.fixture(scope="module")
def evidence(subject):
    return gather(subject, Settings(expect={"m/b/*": "surrogate"}), dtype="float64", started=0.0)


# Oracles ------------------------------------------------------------------------------------------------------------

MEMBERS = (
    "name",
    "values",
    "base",
    "noise",
    "supports_complex",
    "of_forward_pass",
    "specifications",
    "inputs",
    "passes",
    "passes_singly",
)
METHODS = (
    "covers",
    "losses",
    "directional",
    "branch_losses",
    "branch_directional",
    "moved",
    "with_noise",
    "with_noise_beside",
    "measured_noise",
    "noise_along",
)


@pytest.fixture(params=["forward", "twin", "directional", "one variable"])
def oracle(request, evidence):
    loss, (forward, twin) = evidence.loss, evidence.oracles
    return {
        "forward": lambda: forward,
        "twin": lambda: twin,
        "directional": lambda: DirectionalOracle.of(loss),
        "one variable": lambda: SingleVariableOracle(
            loss=loss,
            direction=draw_direction(loss.values, 0),
            values={"m/a/kernel": np.zeros(1)},
            base=forward.base,
            noise=forward.noise,
        ),
    }[request.param]()


def test_the_protocol_is_what_is_tested_here():
    public = {name for name in (*vars(Oracle), *Oracle.__annotations__) if not name.startswith("_")}
    assert public == {*MEMBERS, *METHODS}


def test_an_oracle_is_complete(oracle):
    """Every member of the protocol is there, and none that has no default is the protocol's stub."""
    for member in MEMBERS:
        assert getattr(oracle, member) is not None
    for method in ("losses", "directional", "moved", "with_noise"):
        assert getattr(type(oracle), method) is not getattr(Oracle, method), method
    assert {type(getattr(oracle, m)) for m in ("supports_complex", "of_forward_pass")} == {bool}


def test_an_oracle_agrees_with_itself(oracle):
    """Moved entries, directions and moved points are the same losses."""
    name = "m/a/kernel"
    assert oracle.covers(name) and not oracle.covers("nobody")
    one = np.zeros(oracle.values[name].shape)
    one.flat[0] = 1.0
    steps = np.array([0.0, 0.125, -0.25])
    along = oracle.directional({name: one}, steps)
    assert along[0] == pytest.approx(oracle.base, abs=oracle.noise)
    np.testing.assert_allclose(
        along, oracle.losses(name, np.array([0]), steps[:, None])[:, 0], rtol=0, atol=8 * oracle.noise
    )
    there = oracle.moved({**oracle.values, name: oracle.values[name] + 0.125 * one})
    assert there.base == pytest.approx(along[1], abs=8 * oracle.noise)
    assert type(there) is type(oracle) and there.noise > 0  # measured anew there


def test_the_noise_of_an_oracle_is_replaced_and_nothing_else(oracle):
    louder = oracle.with_noise(0.5)
    assert (louder.noise, louder.base, louder.name) == (0.5, oracle.base, oracle.name)
    assert oracle.measured_noise(seed=0) >= 0


def test_the_noise_beside_a_point_counts_along_every_name(oracle):
    for noise in (0.5, 0.0):
        louder = oracle.with_noise_beside(noise)
        assert (louder.base, louder.name) == (oracle.base, oracle.name)
        assert louder.noise == max(noise, oracle.noise)
        assert all(louder.noise_along(name) == max(noise, oracle.noise_along(name)) for name in oracle.values)


def test_an_oracle_takes_complex_offsets_where_it_says_so(oracle):
    if oracle.supports_complex:
        found = oracle.losses("m/a/kernel", np.array([0]), np.array([[1e-100j]]))
        assert np.iscomplexobj(found) and found.imag.any()
    assert oracle.supports_complex == (oracle.name == "twin")


def test_what_an_oracle_follows(evidence):
    forward, twin = evidence.oracles
    assert (forward.of_forward_pass, twin.of_forward_pass) == (True, False)
    assert forward.specifications == () and len(twin.specifications) == 3
    assert isinstance(forward, ForwardOracle)


# Annotators ---------------------------------------------------------------------------------------------------------

SOMETHING_FOR_EVERY_ANNOTATOR = Outcome(
    (
        Verdict("m/a/kernel", "twin", Kind.MISMATCH, 6, 6, {"mismatch": 6}, (0, 0), 1.0, 2.0, accused=(0, 1)),
        Verdict("m/a/bias", "forward", Kind.DISCONNECTED, 2, 2, {"disconnected": 2}),
        Verdict("m/b/kernel", "forward", Kind.MISMATCH, 4, 4, {"mismatch": 1}, (0, 1), 1.0, 2.0),
        Verdict("m/b/bias", "forward", Kind.MATCH, 2, 2, {"match": 2}, (0,), 0.0, 0.0, visible=1e-12),
        Verdict("input", "forward", Kind.KINK, 12, 12, {"kink": 1, "match": 11}, (0, 0), 0.5, 0.25),
    ),
    ("a note",),
)


PROOF = Proof(("gelu-has-float32-constants",), "shown in a test")
CAUSES = "dead, saturated or without influence"


def test_annotators_are_pure(subject, evidence, monkeypatch):
    """The outcome that an annotator is given stays what it was, and the same comes out twice."""
    monkeypatch.setattr(DepartingTwin, "prove", lambda departing, verdict: PROOF)
    outcome, before = SOMETHING_FOR_EVERY_ANNOTATOR, copy.deepcopy(SOMETHING_FOR_EVERY_ANNOTATOR)
    for annotator in list_annotators(evidence, GradientPaths.of(subject, evidence.loss, ())):
        found = annotator(outcome)
        assert repr(outcome) == repr(before) and outcome == before, annotator
        assert repr(annotator(outcome)) == repr(found), annotator
        outcome, before = found, copy.deepcopy(found)


def test_what_annotators_find(subject, evidence, monkeypatch):
    monkeypatch.setattr(DepartingTwin, "entries", {PROOF.ids[0]: ()})
    monkeypatch.setattr(DepartingTwin, "prove", lambda departing, verdict: PROOF)
    paths = GradientPaths.of(subject, evidence.loss, ())
    found = annotate(SOMETHING_FOR_EVERY_ANNOTATOR, list_annotators(evidence, paths))
    assert {v.name: (v.verdict, v.reason_code) for v in found.verdicts} == {
        "m/a/kernel": (Kind.DEPARTURE, Reason.KNOWN_DEPARTURE),
        "m/a/bias": (Kind.DISCONNECTED, Reason.NO_GRADIENT),
        "m/b/kernel": (Kind.SURROGATE, Reason.SURROGATE_BY_NAME),
        "m/b/bias": (Kind.MATCH, None),
        "input": (Kind.KINK, None),
    }
    departed = next(v for v in found.verdicts if v.verdict is Kind.DEPARTURE)
    assert departed.instead == get_departure(PROOF.ids[0]).reason
    assert found.notes == (
        "a note",
        (
            f"Keras departs from the definition here ({PROOF.ids[0]}): {get_departure(PROOF.ids[0]).reason} In "
            f"m/a/kernel {list(departed.worst)} Keras has {departed.autodiff:+.6e}, and the definition "
            f"{departed.numeric:+.6e}."
        ),
        f"m/a/bias: autodiff gives None, and the loss does not move either: {Reason.NO_GRADIENT.sentence}.",
        f"m/b/bias: every compared slope is zero ({CAUSES}); compared against the noise alone.",
        "input: 1 entries sit on a kink; autodiff is right beside it.",
    )


def test_a_departure_excuses_no_oracle_that_follows_no_definition(evidence, monkeypatch):
    monkeypatch.setattr(DepartingTwin, "entries", {PROOF.ids[0]: ()})
    monkeypatch.setattr(DepartingTwin, "prove", lambda departing, verdict: PROOF)
    outcome = Outcome((Verdict("m/a/kernel", "forward", Kind.MISMATCH, 6, 6, accused=(0,)),))
    assert mark_departures(outcome, evidence=evidence) is outcome


def test_outcomes_add_up():
    one, other = Outcome((Verdict("a", "forward", "match"),), ("x",)), Outcome((Verdict("b", "twin", "nan"),), ("y",))
    assert one + other == Outcome(one.verdicts + other.verdicts, ("x", "y"))
    assert (one.failed, other.failed, (one + other).failed) == (False, True, True)


# Points beside ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_kink", "between", "right", "wrong", "kinks_meet", "kind", "reason"),
    [
        (True, True, 1, 1, True, Kind.MISMATCH, Reason.KINK_WRONG_BESIDE),
        (False, True, 1, 1, True, Kind.MISMATCH, None),
        (True, True, 1, 0, True, Kind.KINK, Reason.KINK_BETWEEN),
        (True, False, 1, 0, True, Kind.KINK, Reason.KINKS_MEET),
        (False, False, 1, 0, True, Kind.KINK, Reason.KINKS_MEET),
        (False, False, 1, 0, False, Kind.MISMATCH, Reason.WRONG_ONLY_HERE),
        (True, True, 0, 0, True, Kind.KINK, Reason.KINK_ALONE),
        (True, False, 1, 0, False, Kind.MISMATCH, Reason.BEYOND_KINKS),
        (True, False, 0, 0, True, Kind.UNDECIDED, Reason.KINK_OUTSIDE),
        (False, False, 0, 0, True, Kind.MISMATCH, None),
    ],
)
def test_conclusions(at_kink, between, right, wrong, kinks_meet, kind, reason):
    found = conclude(at_kink=at_kink, between=between, right=right, wrong=wrong, kinks_meet=kinks_meet)
    assert found == Judgement(kind, reason)


@pytest.mark.parametrize(("paired", "looks"), [(False, [3, 2, 1, 1]), (True, [3, 2, 1, 1])])
def test_points_beside_are_looked_at_as_long_as_they_are_needed(paired, looks):
    """Item 0 is wrong at once; item 1 is excused by one right point (a pair with one); item 2 needs them all."""
    seen = []

    def judge(k, pending):
        seen.append(len(pending))
        right = np.isin(pending, (1, 2)) & (k >= (0 if paired else 1))
        return Tally(right, pending == 0)

    tally = tally_neighbours(judge, between=np.array([False, True, False]), points=4, paired=paired)
    assert seen == looks
    assert tally.wrong.tolist() == [1, 0, 0] and tally.right.tolist() == [0, 2 if paired else 1, 4 if paired else 3]


# Efforts ------------------------------------------------------------------------------------------------------------

NOTE = f"{SAMPLED} entries of each variable are compared, drawn with seed 0; effort='full' compares all."


@pytest.mark.parametrize(
    ("options", "large", "effort"),
    [
        ({}, False, Full()),
        ({}, True, Budgeted(BUDGET, SAMPLED)),
        ({"budget": "5s"}, False, Budgeted(5.0)),
        ({"budget": "5s"}, True, Budgeted(5.0)),
        ({"most": 3}, True, Full(3)),
        ({"effort": "full"}, True, Full()),
        ({"effort": "full", "most": 3}, True, Full(3)),
        ({"effort": "fast"}, True, Directional()),
        ({"effort": "fast", "oracles": ("twin",)}, True, Directional()),
        ({"scheme": Central()}, True, Full(SAMPLED, NOTE)),
        ({"scheme": Central()}, False, Full()),
        ({"scheme": Central(), "budget": "5s"}, False, Full()),
    ],
)
def test_one_effort_for_each_wish(evidence, options, large, effort, monkeypatch):
    assert evidence.entries == 6 + 2 + 4 + 2 + 12 < LARGE
    if large:
        monkeypatch.setattr("keras_ref.comparison.efforts.LARGE", 1)
    assert choose_effort(replace(evidence, settings=Settings(**options))) == effort


def test_a_twin_alone_is_sampled(evidence, monkeypatch):
    """Directions are taken of Keras's own forward pass: without it there is no budget to keep."""
    monkeypatch.setattr("keras_ref.comparison.efforts.LARGE", 1)
    alone = replace(evidence, oracles=evidence.oracles[1:], settings=Settings(oracles=("twin",)))
    assert choose_effort(alone) == Full(SAMPLED, NOTE)


def test_efforts_agree_on_a_small_model(evidence):
    quiet = replace(evidence, settings=Settings(), preparation=None)
    for effort in (Full(), Full(2), Budgeted(60.0), Directional()):
        outcome = effort.compare(quiet)
        assert {v.verdict for v in outcome.verdicts} == {Kind.MATCH}, effort
        assert {v.name for v in outcome.verdicts} == set(quiet.names), effort


def test_a_check_is_its_parts(evidence):
    """The public verb says what gathering, comparing and annotating say."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="a")], name="m")
    model.compile(loss="mse")
    report = check_gradients(model, X, Y)
    assert report.ok and {(v.oracle, v.verdict, v.reason_code) for v in report.verdicts} == {
        ("forward", Kind.MATCH, None),
        ("twin", Kind.MATCH, None),
    }
