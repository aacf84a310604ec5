"""A sample of the proof of teeth (teeth.py and registry_teeth.py have all of it)."""

import pytest
import registry_sensitivity as registry_teeth
import sensitivity as teeth

SAMPLE = 24


def test_planted_errors_are_caught_and_correct_gradients_are_not_accused(record_property):
    plants, hits, cases, accused, trouble = teeth.table(SAMPLE, wrong_every=5)
    record_property("caught", f"{sum(hits.values())} of {sum(plants.values())}")
    record_property("accused", f"{sum(accused.values())} of {sum(cases.values())}")
    assert not trouble, "\n\n".join(f"{one[:3]}\n{one[3].explain()}" for one in trouble[:3])
    assert set(plants) == set(teeth.PLANTS) and set(cases) == set(teeth.KINDS)


@pytest.mark.parametrize(("kind", "name"), registry_teeth.NAMES)
def test_every_definition_has_teeth(kind, name):
    """Its right gradient is accepted; a wrong sign, and an entry wrong by a millionth, are found everywhere."""
    planted = 0
    for variable, label, verdict in registry_teeth.judged(registry_teeth.subject(kind, name), ("sign", "entry 1e-06")):
        planted += label != "correct"
        assert verdict.failed == (label != "correct"), f"{label} in {variable}:\n{verdict.explain()}"
    assert planted, "nothing was planted"
