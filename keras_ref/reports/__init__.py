"""Records of what a check found, and how they are shown: terminal, HTML, GitHub, JSON.

heat_map.py     the entries around the worst one
kinds.py        the kinds of verdict;   reasons.py  why a verdict is what it is
html_tables.py  tables and heat maps as HTML, for the page and for notebooks
verdict.py      Verdict and Report, the records
html.py         a report as a page;   terminal.py  in a terminal;   github.py  in GitHub Actions
files.py        writing files

Nothing here imports TensorFlow or does arithmetic on gradients.
"""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
