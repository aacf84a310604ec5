"""Every block of the README runs and prints what it says; the two commands are on the first screen."""

import doctest
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
FIRST = "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/gradtwin"
SECOND = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest"


def test_blocks_run_in_order(monkeypatch):
    from scratch import registry

    # what the README registers must not stay for the other tests
    monkeypatch.setitem(registry._RECORDS, "layer", dict(registry.every("layer")))
    text = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL))
    example = doctest.DocTestParser().get_doctest(text, {"__name__": "readme"}, "README.md", str(README), 0)
    output: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=output.append)
    assert (result.failed, result.attempted > 15) == (0, True), "".join(output)


def test_the_first_screen_has_exactly_the_two_commands():
    commands = re.findall(r"^    (python3 .*)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands == [FIRST, SECOND]
    assert README.read_text(encoding="utf-8").splitlines().index("    " + SECOND) < 25


def test_ci_runs_the_commands_as_written():
    ci = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert FIRST in ci and SECOND in ci
