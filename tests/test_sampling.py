"""What a run takes of the tests that cost much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampling import SHARE, draw_names

NAMES = st.sets(st.builds("{}::test[{}]".format, st.sampled_from(["a.py", "b.py", "c/d.py"]), st.integers(0, 99)))

TESTS = """
import pytest

@pytest.mark.sampled
@pytest.mark.parametrize("number", range(20))
def test_that_costs_much(number): pass

@pytest.mark.parametrize("number", range(20))
def test_that_costs_little(number): pass
"""


@given(NAMES, st.integers())
def test_each_file_has_its_share(names, seed):
    drawn = draw_names(names, seed)
    assert drawn <= names
    for module in {name.partition("::")[0] for name in names}:
        inside = {name for name in names if name.startswith(f"{module}::")}
        assert len(inside) // SHARE <= len(inside & drawn) <= -(-len(inside) // SHARE)
    assert len(names) // SHARE <= len(drawn) <= -(-len(names) // SHARE)
    assert draw_names(sorted(names, reverse=True), seed) == drawn, "the order of tests decides nothing"


def test_every_test_is_drawn_by_some_seed():
    names = {f"a.py::test[{number}]" for number in range(50)} | {"b.py::test", "c.py::test[0]", "c.py::test[1]"}
    assert set().union(*(draw_names(names, seed) for seed in range(100))) == names


def test_a_file_of_one_test_has_its_chance_too():
    """One in ten: within four deviations of 800 draws."""
    names = {f"a.py::test[{number}]" for number in range(50)} | {"b.py::test"}
    drawn = sum("b.py::test" in draw_names(names, seed) for seed in range(800))
    assert abs(drawn - 800 / SHARE) <= 4 * (800 / SHARE * (1 - 1 / SHARE)) ** 0.5


@pytest.fixture
def run(pytester):
    pytester.makepyfile(test_some=TESTS)
    pytester.makeini("[pytest]\ntestpaths = .\nmarkers = sampled: costs much")

    def names(*arguments):
        result = pytester.runpytest_inprocess("-p", "sampling", "-p", "no:randomly", "-p", "no:xdist", "-v", *arguments)
        return {line.split()[0] for line in result.outlines if " PASSED" in line}

    return names


@pytest.mark.sampled
def test_the_rest_is_what_was_not_drawn(run):
    drawn, rest, everything = run(), run("--samples=rest"), run("--samples=all")
    assert 20 + 20 // SHARE <= len(drawn) <= 20 - -20 // SHARE
    assert (len(drawn) + len(rest), len(everything)) == (40, 40)
    assert drawn | rest == everything


@pytest.mark.parametrize("named", [["test_some.py"], ["-k", "costs"]])
def test_what_is_named_is_run_whole(run, named):
    assert len(run(*named)) == 40
