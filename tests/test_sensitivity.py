"""A sample of the sensitivity runs (sensitivity.py and registry_sensitivity.py have all of it)."""

import pytest
import registry_sensitivity
import sensitivity

#: points of each class, and errors planted in each of their gradients
SAMPLE, ERRORS = 1, 0.7


@pytest.mark.sampled
@pytest.mark.parametrize("kind", sensitivity.CLASSES)
def test_planted_errors_are_found_and_right_gradients_pass(kind):
    judged = [one for seed in range(SAMPLE) for one in sensitivity.judge_case(kind, seed, errors=ERRORS)]
    wrong = [one.explain() for one in judged if one.is_wrong or one.outcome == "undecided"]
    assert not wrong, "\n\n".join(wrong[:3])
    assert {one.outcome for one in judged} >= {"passed", "found"}


#: points at which a right gradient was once reported: a term of the loss that is smaller than its noise had a slope
REPORTED = (("features 1e-6 … 1e6", 1054), ("confident, loss 1 … 1e-60", 1014), ("confident, loss 1 … 1e-60", 1043))
#: points at which an error once passed: saturated, so that the loss does not carry the digits of the gradient
PASSED = (
    ("confident, loss 1 … 1e-60", 18, "dropped"),
    ("confident, loss 1 … 1e-60", 10, "entry 1e-04"),
    ("confident, loss 1 … 1e-60", 0, "sign"),
    ("trained, loss 1 … 1e-60", 0, "tensor 1e-06"),
    ("confident, loss 1 … 1e-60", 97, "one entry zero"),
)


@pytest.mark.parametrize(("kind", "seed"), REPORTED)
def test_what_noise_may_hide_is_not_reported(kind, seed):
    assert {one.outcome for one in sensitivity.judge_case(kind, seed, errors=0)} == {"passed"}


@pytest.mark.sampled
@pytest.mark.parametrize(("kind", "seed", "label"), PASSED)
def test_what_the_loss_does_not_carry_is_found_at_another_scale(kind, seed, label):
    judged = list(sensitivity.judge_case(kind, seed, errors=1, labels=(label,)))
    assert {one.outcome for one in judged} == {"passed", "found"}, "\n\n".join(one.explain() for one in judged)


@pytest.mark.sampled
def test_what_noise_hides_from_short_steps_is_found_with_longer_ones():
    judged = list(sensitivity.judge_case("near a kink", 69, errors=1, labels=("tensor 1e-05",)))
    assert {one.outcome for one in judged} == {"passed", "found"}, "\n\n".join(one.explain() for one in judged)


@pytest.mark.sampled
@pytest.mark.parametrize(("kind", "name"), registry_sensitivity.NAMES)
def test_errors_are_found_in_every_definition(kind, name):
    """Its right gradient is accepted; a wrong sign, and an entry wrong by a millionth, are found everywhere."""
    planted = 0
    for variable, label, verdict in registry_sensitivity.judged(
        registry_sensitivity.subject(kind, name), ("sign", "entry 1e-06")
    ):
        planted += label != "correct"
        assert verdict.failed == (label != "correct"), f"{label} in {variable}:\n{verdict.explain()}"
    assert planted, "nothing was planted"
