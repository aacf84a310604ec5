"""The rows of the speed table under pytest-benchmark: `pytest -o addopts= tests/benchmarks`. Not part of the default
run.
"""

import numpy as np
import pytest
import speed

pytest.importorskip("pytest_benchmark", reason="needs gradtwin[benchmark]")


@pytest.mark.parametrize("name", ["small", "large"])
def test_engine(benchmark, name):
    """The whole gradient."""
    case = speed.network(*{"small": speed.SMALL, "large": speed.LARGE}[name])
    benchmark.pedantic(speed.engine, case, rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("name", ["small", "large"])
def test_plain_loop(benchmark, name):
    """Two hundred weights of the plain loop, one BLAS thread."""
    _, weights, x, y = speed.network(*{"small": speed.SMALL, "large": speed.LARGE}[name])
    arrays = list(weights.values())
    with speed.threadpool_limits(1, user_api="blas"):
        benchmark.pedantic(speed.plain_loop, (arrays, x, y, speed.sample(arrays, 200)), rounds=3)


@pytest.mark.parametrize("width", [32, 64, 128, 256])
def test_cost_grows_as_the_number_of_weights(benchmark, width):
    """64-n-n-10: seconds for each weight stay what they are."""
    case = speed.network((64, width, width, 10), 64)
    benchmark.extra_info["weights"] = sum(w.size for w in case[1].values())
    benchmark.pedantic(speed.engine, case, rounds=3, warmup_rounds=1)


def test_convolutional(benchmark):
    """A convolutional network."""
    benchmark.pedantic(speed.engine, speed.convolutional(), rounds=1)


@pytest.mark.parametrize("name", ["large", "convolutional", "wide"])
def test_memory(name):
    """The peak stays under 1 GiB, whatever the network."""
    _, peak = speed.memory(name)
    assert peak < 1024


def test_same_numbers():
    """What is fast is also right: the engine's slopes are those of the plain loop."""
    model, weights, x, y = speed.network(*speed.LARGE)
    arrays = list(weights.values())
    which = speed.sample(arrays, 100)
    slopes = speed.plain_loop(arrays, x, y, which)
    for name, entries, true in zip(weights, which, slopes, strict=True):
        nudges = speed.Nudges(speed.Objective.of(model, "MeanSquaredError"), weights, x, y)
        offsets = np.array([[speed.STEP], [-speed.STEP]]) * np.ones(len(entries))
        high, low = nudges.losses(name, entries, offsets)
        assert np.abs((high - low) / (2 * speed.STEP) - true).max() < 64 * 2.0**-52 / speed.STEP
