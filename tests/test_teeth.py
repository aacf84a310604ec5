"""A sample of the proof of teeth (tests/teeth.py has all of it), and the same for every registered layer."""

import numpy as np
import pytest
import teeth
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st

from keras_ref import departures
from keras_ref import strategies as gt
from keras_ref.sides import twin_sides
from scratch import registry

SAMPLE = 24
WEIGHTED = [n for n in registry.names("layer")]


def test_planted_errors_are_caught_and_correct_gradients_are_not_accused(record_property):
    plants, hits, cases, accused, trouble = teeth.table(SAMPLE, wrong_every=5)
    record_property("caught", f"{sum(hits.values())} of {sum(plants.values())}")
    record_property("accused", f"{sum(accused.values())} of {sum(cases.values())}")
    assert not trouble, "\n\n".join(f"{one[:3]}\n{one[3].explain()}" for one in trouble[:3])
    assert set(plants) == set(teeth.PLANTS) and set(cases) == set(teeth.KINDS)


@st.composite
def weighted(draw, name):
    layer = draw(gt.specifications("layer", name))
    model = gt.model_of(layer, draw(gt.input_shapes_of(layer)))
    return model, draw(gt.weights_of(model, ("generic",))), draw(gt.inputs_of(model, patterns=("generic",)))


def example_of(name):
    """A legal specification of the layer at a generic point, the simplest that has a trainable weight or a float input."""
    usable = settings(max_examples=50, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    return find(weighted(name), lambda case: not departures.touching(case[0].layers.values()), settings=usable)


@pytest.mark.parametrize("name", WEIGHTED)
def test_every_layer_has_teeth(name):
    """A sign, a tensor and an entry wrong by 1e-6, an entry zero: each found in every variable and input of the layer."""
    try:
        model, weights, x = example_of(name)
    except Exception as none:
        if type(none).__name__ != "NoSuchExample":
            raise
        pytest.skip(f"every specification of {name} is touched by a departure: {departures.touching([registry.get('layer', name)])}")
    oracle, autodiff = twin_sides(model, weights, [x[n] for n in model.inputs])
    planted = 0
    for variable in oracle.names:
        gradient = autodiff.gradient[variable]
        if gradient is None or not np.any(gradient):
            continue
        entry = int(np.argmax(np.abs(gradient)))
        for label in ("sign", "tensor 1e-06", "entry 1e-06", "one entry zero"):
            wrong = teeth.planted(autodiff, variable, teeth.PLANTS[label], entry)
            verdict = teeth.compare(oracle, variable, wrong)
            planted += 1
            assert verdict.verdict == "mismatch", f"{label} in {variable} of {model.layers}:\n{verdict.explain()}"
    if not planted:
        assert all(d.dtype.kind != "f" for d in map(np.asarray, x.values())) and not model.trainable, "nothing was planted"
