"""A sample of the proof of teeth; tests/teeth.py has all of it."""

import teeth

SAMPLE = 24


def test_planted_errors_are_caught_and_correct_gradients_are_not_accused(record_property):
    plants, hits, cases, accused, trouble = teeth.table(SAMPLE, wrong_every=5)
    record_property("caught", f"{sum(hits.values())} of {sum(plants.values())}")
    record_property("accused", f"{sum(accused.values())} of {sum(cases.values())}")
    assert not trouble, "\n\n".join(f"{one[:3]}\n{one[3].explain()}" for one in trouble[:3])
    assert set(plants) == set(teeth.PLANTS) and set(cases) == set(teeth.KINDS)
