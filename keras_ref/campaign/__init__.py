"""What is wrong in Keras and TensorFlow: the ledger of findings, with a script for each that needs no gradtwin.

ledger.py         the findings: departures of Keras from its definitions, and faults of TensorFlow's derivatives
scripts.py        a finding as a script of a few lines
standing.py       running the scripts: still there, corrected here, cannot run here
page.py           the ledger as an HTML page, and the draft of an upstream report
tensorflow.toml   the faults of TensorFlow: function, arguments, closed form
"""
