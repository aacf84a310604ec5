"""What Keras computes in the place of a definition: a law for each entry that can state one, under the entry's id.

    @instead
    def tversky_swaps_alpha_and_beta(loss: Tversky) -> Tversky:
        return replace(loss, alpha=loss.beta, beta=loss.alpha)

A law takes the specification that shows the departure and returns one that computes as Keras does: with other fields
(`replace`), with another function for its activation (`with_activation`), or with one method overridden (`altered`).
All else stays the code of the definition, so that nothing but the departure is excused by it.
"""

from keras_ref.translation.departures.laws.registry import (
    altered,
    as_keras,
    instead,
    instead_in_model,
    rounded,
    states_law,
    with_activation,
)

__all__ = [
    "altered",
    "as_keras",
    "instead",
    "instead_in_model",
    "rounded",
    "states_law",
    "with_activation",
]
