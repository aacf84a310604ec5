"""The examples reach every option of everything that is registered, or a reason is given."""

import importlib
import sys

import option_coverage as reached
import pytest
from example_pools import drawn
from hypothesis import strategies as st

from scratch import registry

SUBJECTS = [(kind, name) for kind in reached.KINDS for name in registry.names(kind)]


@pytest.mark.sampled
@pytest.mark.parametrize(("kind", "name"), SUBJECTS, ids=["-".join(pair) for pair in SUBJECTS])
def test_every_option_comes_up(kind, name):
    """No choice of a field stays untried."""
    counts = reached.counted(kind, name)
    assert not reached.unreached(kind, name, counts)
    reasoned = [option for option in reached.REASONS if option[0] == name and counts[(kind, *option)]]
    assert not reasoned, f"these come up now, and their reasons in tests/option_coverage.py have to go: {reasoned}"


def test_reasons_are_of_options():
    """A reason names an option that there is."""
    every = {option for kind, name in SUBJECTS for option in reached.legal(kind, name)}
    assert set(reached.REASONS) <= every


def test_the_table_of_a_layer():
    """What came up and how often, and what never did."""
    counts = reached.Counter({("layer", "Flatten", "data_format", "'channels_last'"): 2})
    assert reached.table("layer", "Flatten", counts) == [
        "Flatten.data_format: 'channels_last' ×2; never 'channels_first'"
    ]
    assert reached.unreached("layer", "Flatten", counts) == [("Flatten", "data_format", "'channels_first'")]


def test_examples_do_not_depend_on_what_is_imported(tmp_path, monkeypatch):
    """Hypothesis draws constants that it finds in local modules, those that another test has written not among them."""
    before = drawn(st.integers(), 200, "constants")
    (tmp_path / "full_of_constants.py").write_text(
        f"FOUND = {[12345 + 1000 * i for i in range(1000)]}", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "full_of_constants", None)  # whatever is there is put back afterwards
    del sys.modules["full_of_constants"]
    importlib.import_module("full_of_constants")
    assert drawn(st.integers(), 200, "constants") == before
