"""The book's back-propagation by hand: nudge every weight, look at the loss, step.

Source: Neural Networks with Keras Cookbook, chapter 1. NumPy alone; run it with `python -m scratch.recipe`.
"""

import numpy as np

NUDGE, LEARNING_RATE = 0.0001, 0.01

INPUTS = [[1], [2], [3], [4]]
OUTPUTS = [[2], [4], [6], [8]]
RECIPE_1 = [[[1.477867]], [0.0]]
RECIPE_2 = [
    [[-0.82203424, -0.9185806, 0.03494298]],
    [0.0, 0.0, 0.0],
    [[1.0692896], [0.62761235], [-0.5426246]],
    [0],
]
RECIPE_2_NOTE = (
    "Two of its three ReLU units start dead and the third dies in the first step: "
    "from epoch 2 on only the output bias learns."
)


def feed_forward(inputs, outputs, weights):
    """Squared errors of the network `weights` = [kernel, bias, kernel, bias, …], ReLU between its layers."""
    signal = np.asarray(inputs, dtype=float)
    for layer in range(0, len(weights), 2):
        if layer > 0:
            signal = np.maximum(signal, 0)
        signal = signal @ np.asarray(weights[layer], dtype=float) + np.asarray(weights[layer + 1], dtype=float)
    return np.square(signal - np.asarray(outputs, dtype=float))


def update_weights(inputs, outputs, weights, epochs):
    """Nudge each weight, take the mean change of the loss as the slope, step; all weights together, once an epoch."""
    weights = [np.array(weight, dtype=float) for weight in weights]
    for _ in range(epochs):
        original_loss = feed_forward(inputs, outputs, weights)
        updated = [weight.copy() for weight in weights]
        for i, weight in enumerate(weights):
            for entry in np.ndindex(weight.shape):
                nudged = [other.copy() for other in weights]
                nudged[i][entry] += NUDGE
                slope = np.mean(feed_forward(inputs, outputs, nudged) - original_loss) / NUDGE
                updated[i][entry] -= slope * LEARNING_RATE
        weights = updated
    return weights


if __name__ == "__main__":
    np.set_printoptions(precision=8, suppress=True)
    for name, start, note in (("Recipe 1", RECIPE_1, "y = 2x, one weight, one bias"), ("Recipe 2", RECIPE_2, RECIPE_2_NOTE)):
        print(f"{name}: {note}")
        for epochs in (0, 1, 2, 10, 100, 1000):
            print(f"  after {epochs:4} epochs:", *(str(w.tolist()) for w in update_weights(INPUTS, OUTPUTS, start, epochs)))
