"""A sample of the sensitivity runs (sensitivity.py and registry_sensitivity.py have all of it)."""

import pytest
import registry_sensitivity
import sensitivity

#: points of each class, and errors planted in each of their gradients
SAMPLE, ERRORS = 1, 0.7


@pytest.mark.parametrize("kind", sensitivity.CLASSES)
def test_planted_errors_are_found_and_right_gradients_pass(kind):
    judged = [one for seed in range(SAMPLE) for one in sensitivity.judge_case(kind, seed, errors=ERRORS)]
    wrong = [one.explain() for one in judged if one.is_wrong or one.outcome == "undecided"]
    assert not wrong, "\n\n".join(wrong[:3])
    assert {one.outcome for one in judged} >= {"passed", "found"}


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
