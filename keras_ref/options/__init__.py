"""Every option of a check once, for all fronts: the command line and the pytest plugin read this table.

table.py     the options;   values.py  which values they take
settings.py  those that [tool.gradtwin] in pyproject.toml sets
keywords.py  options as keywords of the public verbs
"""

from keras_ref.options.keywords import SharedExpectations, make_keywords, project_keywords
from keras_ref.options.settings import read_settings
from keras_ref.options.table import FILE, FOLDER, OPTIONS, SETTINGS, Option
from keras_ref.options.values import (
    matches_variable,
    parse_budget,
    parse_expectations,
    parse_memory_limit,
    parse_time_limit,
    require_address,
    require_choice,
    require_count,
    require_legal,
    require_path,
    require_seconds,
)

__all__ = [
    "FILE",
    "FOLDER",
    "OPTIONS",
    "SETTINGS",
    "Option",
    "SharedExpectations",
    "make_keywords",
    "matches_variable",
    "parse_budget",
    "parse_expectations",
    "parse_memory_limit",
    "parse_time_limit",
    "project_keywords",
    "read_settings",
    "require_address",
    "require_choice",
    "require_count",
    "require_legal",
    "require_path",
    "require_seconds",
]
