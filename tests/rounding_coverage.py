"""Does the stated rounding error cover the true one? The long form of test_rounding.py: a table over many cases.

    python tests/rounding_coverage.py [cases] [seed]

Covered: |loss - truth in 50 digits| ≤ stated. Exaggerated: stated > 1,000 · max(|loss - truth|, one unit of the loss).
Both at the point, and with points beside it, for whose losses the same error is stated (rounding_cases.py says why).
"""

import os
import sys
from collections import Counter, defaultdict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import rounding_cases as rc
import rounding_registry as rr

from keras_ref.errors import UserCodeFailed
from keras_ref.evaluation.many_digits.exact_numbers import Missing


def main():
    total, seed = (int(a) for a in (*sys.argv[1:], *("100000", "0")[len(sys.argv) - 1 :]))
    keras.config.set_floatx("float64")
    generator = np.random.default_rng(seed)
    composed = max(20, total // 100)
    groups = {
        "operations": rc.operations(),
        "compositions": list(rc.compositions(composed, start=seed)),
        "activations": rr.activations(),
        "losses": rr.losses(),
        "layers": rr.layers(),
    }
    shares = {"operations": 0.3, "compositions": 0.3, "activations": 0.05, "losses": 0.05, "layers": 0.15}
    for group in ("operations", "compositions", "activations"):  # every gradient has twelve entries, or about as many
        # that of a maximum decides which entry is the largest: where floats tie, the truth is another decision
        chosen = [one for one in groups[group] if "logsumexp" not in one.name]
        groups[f"gradients of {group}"] = [s.gradient for s in chosen[:: 1 if group != "compositions" else 4]]
        shares[f"gradients of {group}"] = 0.05 / 12
    only = os.environ.get("ONLY")
    groups = {name: found for name, found in groups.items() if not only or only in name}
    print(
        "| of | subjects | cases | not covered | exaggerated | not covered beside | … beside | median stated / true |"
    )
    print("|---|---|---|---|---|---|---|---|")
    every = defaultdict(list)
    for group, subjects in groups.items():
        count, missing = max(1, int(total * shares[group]) // len(subjects)), []
        for subject in subjects:
            try:
                found = list(subject.cases(generator, count, beside=True))
            except Missing as operation:
                missing.append(str(operation))
                continue
            except (
                ValueError,
                UserCodeFailed,
            ) as refused:  # Keras refuses the example (an adaptive pooling of one step)
                missing.append(str(refused).split("\n")[0][:60])
                continue
            every[group] += found
            bad = sum(not (c.covered and c.covered_beside) for c in found)
            over = sum(c.exaggerated_beside for c in found)
            if bad or over > 0.05 * len(found):
                print(
                    f"    {subject.name}: {len(found)} cases, {bad} not covered, {over} exaggerated",
                    [c for c in found if not (c.covered and c.covered_beside)][:1],
                    file=sys.stderr,
                    flush=True,
                )
        say(group, len(subjects), every[group])
        if missing:
            print("    not in 50 digits:", dict(Counter(missing)), file=sys.stderr, flush=True)
    say("all", sum(map(len, groups.values())), [c for found in every.values() for c in found])


def say(name, subjects, cases):
    ratios = [c.stated / max(c.error, rc.UNIT * abs(c.value), 1e-300) for c in cases]
    counts = (
        sum(not c.covered for c in cases),
        sum(c.exaggerated for c in cases),
        sum(not c.covered_beside for c in cases),
        sum(c.exaggerated_beside for c in cases),
    )
    shares = " | ".join(f"{count} ({100 * count / max(1, len(cases)):.2f} %)" for count in counts)
    median = np.median(ratios) if ratios else np.nan
    print(f"| {name} | {subjects} | {len(cases)} | {shares} | {median:.0f} |", flush=True)


if __name__ == "__main__":
    main()
