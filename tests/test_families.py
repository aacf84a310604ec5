"""Families of layers over one, two and three axes: a member has its family's law, documented for its number of axes."""

import pickle

import pytest

from scratch import registry
from scratch.layers.families import Family

MEMBERS = {name: thing for name, thing in registry.every("layer").items() if issubclass(thing, Family)}


def test_the_members():
    """The members of a family differ in one digit, which is their rank."""
    assert len(MEMBERS) == 43
    assert {name: thing.rank for name, thing in MEMBERS.items()} == {
        name: next(int(digit) for digit in name if digit in "123") for name in MEMBERS
    }


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_documented_by_its_family(name):
    text = MEMBERS[name].__doc__
    assert "{rank}" not in text and f"Keras   {name}" in text and "Shapes  " in text
    page = next(line for line in text.splitlines() if line.strip().startswith("Source"))
    assert "keras.io" not in page or f"{MEMBERS[name].rank}d" in page


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_pickled_by_its_name(name):
    assert pickle.loads(pickle.dumps(MEMBERS[name])) is MEMBERS[name]
