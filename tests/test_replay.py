"""Every recorded case of Keras's own tests agrees with the twins, but for those that tests/replay.toml explains."""

import float32_allowance as allowance
import pytest
import recorded
import replaying

PRESENT = recorded.CASES.is_dir()
SUBJECTS = [
    (kind, name) for kind in recorded.KINDS for name in sorted({case["class"] for case in recorded.cases(kind)})
]


def explained(outcome):
    """The entry of replay.toml that goes with an outcome, or None."""
    table = recorded.exceptions()
    if outcome.end == "differing":
        return next((key for key in table["differs"] if outcome.id.endswith(key)), None)
    return next((entry["match"] for entry in table["not_applicable"] if entry["match"] in outcome.reason), None)


@pytest.mark.sampled
@pytest.mark.skipif(not PRESENT, reason="the recorded cases lie beside the repository, and are not there")
@pytest.mark.parametrize(("kind", "subject"), SUBJECTS, ids=["-".join(pair) for pair in SUBJECTS])
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
def test_replay(kind, subject):
    """No case differs without an entry, and no case that has one agrees."""
    found = list(replaying.outcomes(kind, subject))
    assert found
    unexplained = [o for o in found if o.end != "matched" and explained(o) is None]
    assert not unexplained, "\n".join(f"{o.id}: {o.end}: {o.reason}" for o in unexplained)
    differs = recorded.exceptions()["differs"]
    agreeing = [o.id for o in found if o.end == "matched" and any(o.id.endswith(key) for key in differs)]
    assert not agreeing, f"these agree now, and their entries in tests/replay.toml have to go: {agreeing}"


@pytest.mark.skipif(not PRESENT, reason="the recorded cases lie beside the repository, and are not there")
def test_entries_name_cases():
    """An entry of replay.toml names a case that is there, and a reason that is given."""
    table = recorded.exceptions()
    ids = [case["id"] for kind in recorded.KINDS for case in recorded.cases(kind)]
    for key, reason in table["differs"].items():
        assert sum(i.endswith(key) for i in ids) == 1, key
        assert reason in table["reasons"], reason
    assert set(table["reasons"]) == set(table["differs"].values())


def test_a_wrong_twin_is_seen():
    """The allowance is no cloak: a relative error of 1e-5 in one recorded entry of a Dense layer is told."""
    import numpy as np

    from scratch.layers.core import Dense

    x, kernel, bias = (
        np.array([[0.5, -1.25], [2.0, 0.375]]),
        np.array([[0.75, -0.5], [1.5, 0.25]]),
        np.array([0.125, -0.25]),
    )
    weights = {"kernel": kernel, "bias": bias}

    def law(spec, arguments):
        weights, x = arguments
        return spec.forward(weights, x)

    recorded = (x @ kernel + bias).astype(np.float32)
    allowance.compare(law, Dense(2), (weights, x), recorded)
    recorded[1, 0] *= 1 + 2e-5
    with pytest.raises(AssertionError, match="1 of 4 entries"):
        allowance.compare(law, Dense(2), (weights, x), recorded)
