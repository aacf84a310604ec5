"""What is wrong in Keras and TensorFlow: the campaign that looks for it, and the ledger of what is known.

ledger.py         the findings: departures of Keras from its definitions, and faults of TensorFlow's derivatives
scripts.py        a finding as a script of a few lines
standing.py       running the scripts: still there, corrected here, cannot run here
page.py           the ledger as an HTML page, and the draft of an upstream report
subjects.py       the operations of a campaign, and how each is called (calls/)
points.py         generic points, and those where derivatives go wrong
results.py        what is said of an operation
oracles.py        functions of NumPy and SciPy by a complex step, and identities (oracles.toml)
run.py            every operation at every point
other_backends.py  the gradients of keras.ops on JAX against the same slopes (backend_worker.py)
records.py        the file of a campaign, and what it came to
releases.toml     older releases in which the scripts were run
faults/           faults of derivatives by the module of the function: arguments, closed form (ledger.py)
folders.py        reading calls/ and faults/
claims.py         what is claimed of a derivative, and how TensorFlow computes it
precisions.py     the precision that an operation computes in
differentiability.py  whether there is a derivative at all
behind_where.py   an operation behind tf.where, where it is not finite everywhere
exact_check.py    an operation at one point against slopes in many digits
registered.py     the gradients that TensorFlow registers, and which of them a campaign differentiates (registered.toml)
"""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
