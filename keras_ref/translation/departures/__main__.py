"""Run one function of a module in this process: python -m keras_ref.translation.departures MODULE FUNCTION."""

import sys
from importlib import import_module

if __name__ == "__main__":
    module, function = sys.argv[1:]
    getattr(import_module(module), function)()
