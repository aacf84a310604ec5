"""Every nudged loss of a model in as few and as large array operations as possible.

walk.py     how a stack of nudges travels through the calls of a model: start here
point.py    what is known at the point that is nudged
term.py     what each sample adds to the loss
claims.py   what layers say of themselves is tried before it is used
shifts.py   f(z + d) from f(z)
blocks.py   who does the work: threads, or any executor
"""
