"""A program as a value: one file for each kind of program that can be compared with another one.

A file registers one class with `@program`; nothing else knows it by name. `program.py` says what a program is,
`targets.py` finds the class for a target or an object, and `remote.py` runs a program in a process of its own.
"""

import keras_ref.own_modules  # noqa: F401 (before anything imports from scratch)
