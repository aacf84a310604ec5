"""The second opinion: the order of the Taylor remainder tells a wrong gradient from a right one, without a slope."""

import numpy as np
import pytest

from keras_ref.comparison.entries.taylor_remainder import remainder_order
from scratch.differences import UNIT

W = np.array([0.5, -0.75, 1.25])


class Smooth:
    """sin(w) · (1, 2, 3): a loss whose gradient is known by hand."""

    name, values = "forward", {"w": W}
    base = float(np.sin(W) @ [1.0, 2.0, 3.0])
    noise = 4 * UNIT

    def losses(self, name, entries, offsets):
        moved = np.tile(W, (*offsets.shape, 1))
        i, j = np.indices(offsets.shape)
        moved[i, j, entries[j]] += offsets
        return np.sin(moved) @ [1.0, 2.0, 3.0]


@pytest.mark.parametrize("entry", range(3))
@pytest.mark.parametrize(("wrong", "order"), [(0.0, 2), (1e-1, 1), (1e-3, 1), (1e-6, 1), (-2.0, 1)])
def test_order(entry, wrong, order):
    slope = np.cos(W[entry]) * (entry + 1)
    assert remainder_order(Smooth(), "w", entry=entry, autodiff=slope * (1 + wrong)) == pytest.approx(order, abs=0.15)


def test_no_opinion_where_everything_is_noise():
    class Flat(Smooth):
        def losses(self, name, entries, offsets):
            return np.full(offsets.shape, self.base)

    assert np.isnan(remainder_order(Flat(), "w", entry=0, autodiff=0.0))
