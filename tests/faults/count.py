"""Count the tests behind the promises: the cases of each row of the chapter's tables, and of each list of tests.

    python tests/faults/count.py        prints how many run by default, and in the long form (-m slow)

A case is what pytest counts as a test. Some try one thing, others hundreds: `pytest --junitxml` shows those that count
their tries as the property `tries`.
"""

import io
import re
import sys
from collections import Counter
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / ".github/docs/promises.md"
NAMED = re.compile(r"`(?:(test_\w+\.py)::)?(test_\w+)`")


@dataclass(frozen=True)
class Row:
    """A row of a table, or a list of tests below a heading: what it is about, and {(file, test)}."""

    section: str
    what: str
    tests: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Counted:
    """How many tests, and cases of them: by default, and in the long form."""

    tests: int
    default: int
    slow: int


def read_rows(text):
    """The rows of a chapter that name tests. A test without a file is in the file that was named before it."""
    rows, section, file = [], "", ""
    for block in re.split(r"\n(?=\|)|\n\n", text):
        section = next(iter(re.findall(r"^## (.*)$", block, re.MULTILINE)), section)
        found = set()
        for name in NAMED.finditer(block):
            file = name[1] or file
            found.add((file, name[2]))
        if found:
            cells = block.strip("| \n").split(" | ")
            what = cells[0] if block.startswith("|") else "the tests listed there"
            rows.append(Row(section, what, frozenset(found)))
    return rows


def collect_cases(files):
    """{(file, test): Counter of slow (True) and default (False) cases} of test files, of which nothing is run."""
    cases = {}

    class Collector:
        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(self, items):
            for item in items:
                key = item.path.name, getattr(item, "originalname", item.name)
                cases.setdefault(key, Counter())[item.get_closest_marker("slow") is not None] += 1

    options = ["--collect-only", "-qqq", "-n", "0", "-p", "no:cacheprovider", "--samples", "all"]
    with redirect_stdout(io.StringIO()):
        status = pytest.main([*options, *map(str, files)], plugins=[Collector()])
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(f"The tests must be collected. Received: {status!r}. Run pytest --collect-only.")
    return cases


def count_row(row, cases):
    """What a row's tests come to."""
    total = sum((cases.get(test, Counter()) for test in row.tests), Counter())
    return Counted(tests=len(row.tests), default=total[False], slow=total[True])


def find_files(rows):
    """The test files that rows name, in the fault suite or beside it."""
    names = sorted({file for row in rows for file, _ in row.tests})
    places = [ROOT / "tests/faults", ROOT / "tests"]
    return [next(folder / name for folder in places if (folder / name).exists()) for name in names]


def main():
    rows = read_rows(CHAPTER.read_text(encoding="utf-8"))
    cases = collect_cases(find_files(rows))
    print(f"{'tests':>6} {'cases':>6} {'slow':>6}")
    for row in rows:
        counted = count_row(row, cases)
        print(f"{counted.tests:6} {counted.default:6} {counted.slow:6}  {row.section}: {row.what[:120]}")
    every = count_row(Row("", "", frozenset(test for row in rows for test in row.tests)), cases)
    print(f"{every.tests:6} {every.default:6} {every.slow:6}  all, each test once")


if __name__ == "__main__":
    sys.exit(main())
