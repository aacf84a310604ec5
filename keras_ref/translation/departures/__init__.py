"""Known differences of Keras 3.15.1 (TensorFlow 2.21, CPU) from the definition, as data: a TOML file for each family.

An entry has an id, a reading (see READINGS), a reason and a source. Its smallest example is the function of the same
name in the Python file beside it: the suite runs every example. One that no longer differs has been corrected
upstream, and gets a `fixed_in`. `applies` says which specifications may show it, as conditions of which one has to
hold:

    name         class name, or several
    activation   name of an activation that a field holds, or several
    any field    its value, or several
    where        a predicate of the fields (with `activation`: of the arguments that the function is called with)
    beside       a condition that another specification of the same model fulfils
    shapes       a predicate of the fields and of `shapes`, those of the inputs, where they are known

Predicates are functions of predicates.py, given by name. `only` says what it takes beside the specification
(CIRCUMSTANCES). `says` is what Keras says when it refuses: words of the exception, without which a refusal is not the
known one. `kernels = "plain"`: it shows without the kernels of oneDNN only. `kind`, `upstream` and `fixed_in` are for
the ledger (keras_ref/campaign/ledger.py). An entry without `applies` depends on data (weights, masks, targets), not on
a specification: it excuses nothing by itself.
"""

from keras_ref.translation.departures.conditions import (
    Condition,
    any_meets,
    list_parts,
    meets_any,
    nested_specifications,
)
from keras_ref.translation.departures.entries import (
    ASPECTS,
    CIRCUMSTANCES,
    READINGS,
    Departure,
    find_departures,
    find_refusals,
    get_departure,
    load_departures,
)
from keras_ref.translation.departures.examples import (
    Answers,
    differs,
    load_examples,
    run_example,
    run_here,
    run_in_own_process,
)

__all__ = [
    "ASPECTS",
    "CIRCUMSTANCES",
    "READINGS",
    "Answers",
    "Condition",
    "Departure",
    "any_meets",
    "differs",
    "find_departures",
    "find_refusals",
    "get_departure",
    "list_parts",
    "load_departures",
    "load_examples",
    "meets_any",
    "nested_specifications",
    "run_example",
    "run_here",
    "run_in_own_process",
]
