"""From a failure to a script: a finding is made small, and written as a program of a few lines without gradtwin.

expressions.py   what a subject is built of, as a tree that is written as Python
reading.py       live objects (layers, models, losses, functions, arrays) as such trees
source.py        a function or a class that no module can be asked for, as its own source
reductions.py    the passes: layers taken out, options back to their defaults, sizes, entries, numbers
cases.py         a case: what is built, what is claimed of it, as text
showing.py       both values of a case, the entry and the step that the script shows; the script
origins.py       where a search begins: the parts of a subject that may be at fault alone
definitions.py   a value that is not the one defined
updates.py       a training step that is not that of the law
train_steps.py   a train_step of a model's own
programs.py      two models that part
operations.py    an operation that the campaign accuses
running.py       running a text in this process, and a script in one of its own
finding.py       what a finding is, and when another is the same
search.py        the greedy search for the smallest case with the same finding
minimise.py      the public verb
"""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
