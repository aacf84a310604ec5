"""Every path, and every name in a file, that the chapters and CONTRIBUTING tell a reader to open exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / ".github" / "docs").glob("*.md"))]
#: `scratch/differences.py:Central`, `keras_ref/reports/`
PLACE = re.compile(r"`((?:scratch|keras_ref|tests)/[\w./-]*?)(?::([A-Za-z_][\w.]*))?`")


def defines(body, name):
    """Whether a module, or a class in it, has a definition or an assignment of a (dotted) name."""
    first, _, rest = name.partition(".")
    for node in body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if first == getattr(node, "name", None) or any(first == getattr(t, "id", None) for t in targets):
            return not rest or defines(getattr(node, "body", []), rest)
    return False


def is_there(path, name):
    file = ROOT / path
    return file.exists() and (not name or defines(ast.parse(file.read_text(encoding="utf-8")).body, name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_points_at_is_there(page):
    found = PLACE.findall(page.read_text(encoding="utf-8"))
    assert [place for place in found if not is_there(*place)] == []
    if page.name == "architecture.md":
        named = [name for _, name in found if name]
        assert {"check_gradients", "numeric_gradient", "main"} <= {*named}, "the three walks begin with these"


@pytest.mark.parametrize(
    "place", [("scratch/nowhere.py", ""), ("scratch/gradient.py", "slopes"), ("scratch/gradient.py", "Nudges.gone")]
)
def test_what_is_not_there_is_found(place):
    assert not is_there(*place)
