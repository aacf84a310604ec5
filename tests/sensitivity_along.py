"""Sensitivity of effort="fast": right gradients pass along random directions, and errors planted in them are found.

    python tests/sensitivity_along.py [--draws 20] [--seed 0] [--errors 3] [--minutes 30]

The points and errors of sensitivity.py, before Keras's own forward pass moved along directions as check_gradients does.
All variables and inputs of a point are moved together, so that an error in one has to be named among all of them.
Prints the table. Exit status 1 where a right gradient is accused,
or an error passes that the check claims to see.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from sensitivity import PLANTS as PLANTED_ERRORS
from sensitivity import Judged, case, planted, plants_of, shown, sides
from sensitivity_cases import CLASSES

from keras_ref.comparison.directions.bisection import Search
from keras_ref.comparison.directions.directional_point import DirectionalPoint
from keras_ref.comparison.sources.autodiff import Autodiff
from keras_ref.comparison.sources.evidence import Outcome
from keras_ref.comparison.sources.oracles import DirectionalOracle


def compare(oracle: DirectionalOracle, said: Autodiff, seed: int) -> Outcome:
    """The verdicts on all variables and inputs, as effort="fast" has them."""
    point = DirectionalPoint(oracle, lambda at: said.at(at).gradient, gradient=said.gradient, seed=seed)
    return Search(point=point, autodiff=said, seed=seed).compare_together(list(oracle.values))


def judge(kind: str, seed: int, *, errors: float) -> Iterator[Judged]:
    """The right gradients of a point, and `errors` planted in one after another of them, drawn, on average."""
    generator = np.random.default_rng([seed, 2])
    with sides(case(kind, seed)) as (oracles, autodiff):
        oracle = DirectionalOracle.of(oracles[0].whole.loss)
        for verdict in compare(oracle, autodiff, seed).verdicts:
            yield Judged(kind, seed, verdict.name, verdict)
        for name in generator.permutation(list(oracle.values)):
            gradient = autodiff.gradient[name]
            if gradient is None or not np.any(gradient):
                continue
            for label, plant, entry in plants_of(
                gradient, generator, errors / len(oracle.values), tuple(PLANTED_ERRORS)
            ):
                wrong = planted(autodiff, name, plant, entry)
                error = np.abs(np.asarray(wrong.gradient[name]) - gradient)
                hidden = bool((error <= autodiff.rounding[name]).all())
                for verdict in compare(oracle, wrong, seed).verdicts:
                    if verdict.name == name:
                        yield Judged(kind, seed, name, verdict, label, float(np.max(error)), hidden)
                    elif verdict.verdict in ("mismatch", "nan"):
                        yield Judged(kind, seed, verdict.name, verdict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20, help="points of each class")
    parser.add_argument("--seed", type=int, default=0, help="number of the first point")
    parser.add_argument("--errors", type=float, default=3.0, help="errors planted at each point, on average")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="how long to go on at most")
    options = parser.parse_args()
    tally: Counter[tuple[str, bool, str]] = Counter()
    wrong, begun = 0, time.monotonic()
    for seed in range(options.seed, options.seed + options.draws):
        if time.monotonic() - begun > 60 * options.minutes:
            break
        for kind in CLASSES:
            for one in judge(kind, seed, errors=options.errors):
                tally[kind, bool(one.error), one.outcome] += 1
                wrong += one.is_wrong
                if one.is_wrong:
                    print(one.explain(), file=sys.stderr, flush=True)
    print(shown(tuple(CLASSES), tally))
    print(f"\nseed {options.seed}, {time.process_time():.0f} processor seconds")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
