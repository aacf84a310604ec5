"""The losses of a model with one entry of a weight or input nudged, in few and large array operations.

propagate.py           propagate a stack of nudges through the calls of a model: start here
base_point.py          what is computed once at the point that is nudged
loss_term.py           what each sample adds to the loss
linear_structure.py    verify a layer's declared linear structure against its forward pass
stack.py               many arrays that a layer's forward pass computes with as if they were one
changes.py             what nudges change in a tensor
matrix_layers.py       what a change adds to the output of a layer that multiplies by a matrix
addition_theorems.py   f(z + d) - f(z) from f(z)
blocks.py              run blocks of nudges on threads, or on any executor
"""
