"""Activations: functions of an array, of float32, float64 or complex128, analytic between their kinks.

    piecewise.py     made of straight lines and parabolas, with kinks
    smooth.py        made of exponentials
    normalizing.py   along an axis: softmax and the like, and the gated linear unit
    special.py       the error function, which NumPy does not have
    axes.py          the domains of axis arguments

A branch is chosen by the real part, so that a complex step stays on the branch of the point; at a kink the branch is
that of Keras's value. Source of each function: keras.io/api/layers/activations, unless its docstring names a paper.
"""
