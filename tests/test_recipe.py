"""The book's numbers, to the last digit that the issue of the recipe gives."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reference_network import Network

from scratch import recipe

SCREEN = 60


def run(weights, epochs):
    return recipe.update_weights(recipe.INPUTS, recipe.OUTPUTS, weights, epochs)


@pytest.mark.parametrize(
    ("epochs", "weight", "bias"),
    [
        (1, "1.55617945", "0.02610565"),
        (2, "1.62143975", "0.04777356"),
        (10, "1.87214395", "0.12887177"),
        (100, "1.95980346", "0.11804470"),
        (1000, "1.99710812", "0.00836445"),
    ],
)
def test_recipe_1(epochs, weight, bias):
    kernel, offset = run(recipe.RECIPE_1, epochs)
    assert (f"{kernel[0, 0]:.8f}", f"{offset[0]:.8f}") == (weight, bias)


def test_recipe_1_to_the_last_bit():
    kernel, bias = run(recipe.RECIPE_1, 1)
    assert (kernel[0, 0], bias[0]) == (1.556179450000008, 0.02610564999995374)


def test_recipe_2():
    printed = [[f"{v:.8f}" for v in np.ravel(w)] for w in run(recipe.RECIPE_2, 1)]
    assert printed == [
        ["-0.82203424", "-0.91858060", "-0.12938991"],
        ["0.00000000", "0.00000000", "-0.05477719"],
        ["1.06928960", "0.62761235", "-0.53204233"],
        ["0.10094705"],
    ]


def test_recipe_2_lives_on_in_its_output_bias_alone():
    first, later = run(recipe.RECIPE_2, 1), run(recipe.RECIPE_2, 50)
    for before, after in zip(first[:3], later[:3], strict=True):
        np.testing.assert_array_equal(before, after)
    assert first[3][0] != later[3][0]


@pytest.mark.parametrize("weights", [recipe.RECIPE_1, recipe.RECIPE_2], ids=["recipe1", "recipe2"])
def test_arguments_are_left_alone(weights):
    given = copy.deepcopy((recipe.INPUTS, recipe.OUTPUTS, weights))
    run(given[2], 3)
    assert given == (recipe.INPUTS, recipe.OUTPUTS, weights)


def test_feed_forward_returns_squared_errors():
    errors = recipe.feed_forward(recipe.INPUTS, recipe.OUTPUTS, recipe.RECIPE_1)
    np.testing.assert_array_equal(errors, (np.array([[1], [2], [3], [4]]) * 1.477867 - np.array(recipe.OUTPUTS)) ** 2)


def test_it_fits_on_one_screen():
    assert len(Path(recipe.__file__).read_text(encoding="utf-8").splitlines()) <= SCREEN


def test_it_needs_numpy_alone():
    """Imported third-party modules of `python -m scratch.recipe`, NumPy's own aside."""
    code = (
        "import sys, runpy; before = set(sys.modules); runpy.run_module('scratch.recipe', run_name='__main__');"
        "print('loaded:', *sorted({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, loaded = done.stdout.splitlines()
    assert set(loaded.removeprefix("loaded:").split()) <= {"numpy", "scratch"}
    assert "1.556179450000008" in done.stdout
    assert "two of its three" in done.stdout.lower()


def test_keras_beside_it():
    """The difference from Keras after one epoch is the nudge's own error, and nothing else."""
    from keras_ref.lesson.recipe_table import RECIPES, compare_recipe

    for weights, _ in RECIPES.values():
        network = Network.of(recipe.INPUTS, recipe.OUTPUTS, weights, recipe.LEARNING_RATE)
        rounding = network.rate * network.noise()
        for row in compare_recipe(weights):
            assert abs(row.difference - row.explained) <= rounding, row


def test_the_nudge_is_h_times_mean_of_x_squared():
    from keras_ref.lesson.recipe_table import compare_recipe

    weight, bias = compare_recipe(recipe.RECIPE_1)
    assert f"{-weight.explained / recipe.LEARNING_RATE:.1e}" == "7.5e-04"
    assert f"{weight.explained:.1e}" == "-7.5e-06"
    assert f"{bias.explained:.1e}" == "-1.0e-06"
