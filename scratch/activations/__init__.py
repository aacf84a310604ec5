"""Activations: functions of an array, exact in float32 and float64 and analytic in complex128 between their kinks.

    piecewise.py     from straight lines and parabolas, with kinks
    smooth.py        from exponentials
    normalizing.py   along an axis: softmax and its kin, and the gated linear unit
    special.py       the error function, which NumPy does not have

A branch is chosen by the real part, so that a complex step stays on the branch of the point; at a kink the branch is
the one that Keras's value takes. Source of each law: keras.io/api/layers/activations unless its docstring names a paper.
"""
