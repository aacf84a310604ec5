"""The book's two recipes in Keras: the same start weights, back-propagation in place of nudging.

Run it with `python -m keras_ref.lesson.keras_recipe`.
"""

import keras
import numpy as np

from scratch.recipe import INPUTS, LEARNING_RATE, OUTPUTS, RECIPE_1, RECIPE_2, RECIPE_2_NOTE


def feed_forward(weights):
    """The network `weights` = [kernel, bias, kernel, bias, …], ReLU between its layers, in float64."""
    layers = [keras.layers.Dense(len(bias), activation="relu", dtype="float64") for bias in weights[1::2]]
    layers[-1].activation = keras.activations.linear
    model = keras.Sequential([keras.Input((len(weights[0]),), dtype="float64"), *layers])
    model.set_weights([np.array(weight, dtype=float) for weight in weights])
    return model


def update_weights(inputs, outputs, weights, epochs):
    """The weights after `epochs` steps of back-propagation and SGD, all samples in one batch."""
    model = feed_forward(weights)
    model.compile(optimizer=keras.optimizers.SGD(LEARNING_RATE), loss="mse")
    inputs, outputs = np.array(inputs, dtype=float), np.array(outputs, dtype=float)
    for _ in range(epochs):
        model.train_on_batch(inputs, outputs)
    return model.get_weights()


def show(marks=(0, 1, 2, 10, 100)):
    """Print the weights of both recipes after these numbers of epochs, as scratch/recipe.py does."""
    for name, start, note in (
        ("Recipe 1", RECIPE_1, "y = 2x, one weight, one bias"),
        ("Recipe 2", RECIPE_2, RECIPE_2_NOTE),
    ):
        print(f"{name}: {note}")
        weights, done = [np.array(weight, dtype=float) for weight in start], 0
        for epochs in marks:
            weights, done = update_weights(INPUTS, OUTPUTS, weights, epochs - done), epochs
            print(f"  after {epochs:4} epochs:", *(str(w.tolist()) for w in weights))


if __name__ == "__main__":
    show()
