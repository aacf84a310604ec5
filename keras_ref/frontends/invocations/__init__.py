"""A command as data, for every front: run it, write it down, read it again; in processes of its own where asked.

verbs.py          the four checks by name, TensorFlow imported on first use
invocation.py     one command: which check, of which targets, with which options
recorded.py       a report read again
isolation.py      a target in a process of its own;   variable_names.py  what it holds
watching.py       targets in a process that may be killed by one
distribution.py   losses from other processes;   shared_check.py  one check for all processes that ask for it
"""
