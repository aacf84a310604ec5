"""README, chapters and CONTRIBUTING: every code block is run or parsed, every link and every function they name exists.

A fenced block says by its language what happens to it here:

    python   with >>>: a doctest; the blocks of a document share their names. Without: a test file, which must pass
    shell    every command is parsed by the program that it calls
    yaml     a workflow, whose gradtwin commands are parsed; steps that use the action, tests/test_action.py
    toml     entries of keras_ref/translation/departures/, word for word; or settings of a project in pyproject.toml
    text     a drawing: counted in NOT_RUN. So is a shell block with a command of another program. The text before such
             a block says "not run"
"""

import ast
import doctest
import importlib
import pkgutil
import re
import shlex
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

import keras_ref
import scratch
from keras_ref.frontends.command_line import cli
from keras_ref.frontends.invocations.invocation import TAKES, Invocation
from keras_ref.options import read_settings
from keras_ref.translation import exceptions
from scratch import registry

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = {
    str(path.relative_to(ROOT)): path
    for path in (README, ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / ".github" / "docs").glob("*.md")))
}
FIRST = "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/gradtwin"
SECOND = "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/pytest"
#: blocks that nothing runs and nothing parses, by document
NOT_RUN = {
    ".github/CONTRIBUTING.md": 2,
    ".github/docs/architecture.md": 1,
    ".github/docs/campaign-and-findings.md": 1,
    ".github/docs/pipeline.md": 2,
}
QUIET = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "-W", "ignore")


@dataclass(frozen=True)
class Block:
    """A fenced block: the document, the line that it begins on, its language, and the text before it."""

    document: str
    line: int
    language: str
    text: str
    before: str

    @property
    def id(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = DOCUMENTS[document].read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, flags=re.MULTILINE)) % 2 == 0, f"{document} has a block without an end"
    return [
        Block(
            document,
            text.count("\n", 0, found.start(2)),
            found[1],
            found[2],
            text[: found.start()].rstrip().rpartition("\n\n")[2],
        )
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    ]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def each(*languages: str, **conditions: bool) -> pytest.MarkDecorator:
    """A test for each block of these languages; doctest=True or False: with or without >>>."""
    chosen = [
        block
        for block in BLOCKS
        if block.language in languages and conditions.get("doctest", ">>> " in block.text) == (">>> " in block.text)
    ]
    return pytest.mark.parametrize("block", chosen, ids=lambda block: block.id)


# Python -------------------------------------------------------------------------------------------------------------


@pytest.mark.sampled
@pytest.mark.parametrize("document", dict.fromkeys(b.document for b in BLOCKS if ">>> " in b.text))
def test_examples(document, monkeypatch, tmp_path):
    """The doctests of a document in order; a failure names the document's own line."""
    monkeypatch.chdir(tmp_path)
    for kind in registry.KINDS:  # what a document registers must not stay for the other tests
        monkeypatch.setitem(registry._RECORDS, kind, dict(registry.every(kind)))
    exceptions.find_mirror("")  # all exceptions are imported before they are copied
    monkeypatch.setattr(exceptions, "_MIRRORS", dict(exceptions._MIRRORS))
    lines = [""] * DOCUMENTS[document].read_text(encoding="utf-8").count("\n")
    for block in blocks_of(document):
        if block.language == "python" and ">>> " in block.text:
            code = block.text.splitlines()
            lines[block.line : block.line + len(code)] = code
    example = doctest.DocTestParser().get_doctest("\n".join(lines), {"__name__": "readme"}, document, document, 0)
    output: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(
        example, out=output.append
    )
    assert (result.failed, result.attempted > 0) == (0, True), "".join(output)


@each("python", doctest=False)
def test_test_files(block, pytester):
    """A block that is a file of tests, as its text says: all of them pass."""
    for package in (scratch, keras_ref):  # a run inside this process forgets the modules that it is the first to import
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    pytester.makepyfile(block.text)
    outcomes = pytester.runpytest_inprocess(*QUIET).parseoutcomes()
    assert set(outcomes) == {"passed"}, outcomes


# Shell --------------------------------------------------------------------------------------------------------------


def commands_in(text: str) -> list[list[str]]:
    """The commands of a shell block as words; comments are left out, a backslash goes on to the next line."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines for words in [shlex.split(line, comments=True)] if words]


def parse_gradtwin(words: list[str], config: pytest.Config) -> None:
    """Raises: click.UsageError for an option that does not exist, CouldNotRun for a value that it does not take."""
    group = typer.main.get_command(cli.app)
    if not words or words[0].startswith("-"):
        group.make_context("gradtwin", words)
        return
    context = group.commands[words[0]].make_context(words[0], list(words[1:]))
    if words[0] in TAKES:
        given = {name: value for name, value in context.params.items() if name not in ("json", "html")}
        Invocation.of(words[0], **given)


def parse_pytest(words: list[str], config: pytest.Config) -> None:
    """Options that this run of pytest knows, and paths that exist."""
    if not config.pluginmanager.hasplugin("xdist"):
        words = shlex.split(re.sub(r"(^| )-n \d+", "", shlex.join(words)))
    if not config.pluginmanager.hasplugin("randomly"):  # pytest -p no:randomly
        words = [word for word in words if not word.startswith("--randomly-seed=")]
    known, unknown = config._parser.parse_known_and_unknown_args(words)
    assert not unknown, unknown
    for path in known.file_or_dir:
        assert (ROOT / path.partition("::")[0]).exists(), path


def parse_python(words: list[str], config: pytest.Config) -> None:
    """A script of this repository, and options that its source has."""
    source = (ROOT / words[0]).read_text(encoding="utf-8")
    for option in (word for word in words[1:] if word.startswith("--")):
        assert f'"{option}"' in source, f"{words[0]} has no option {option}"


def parse_linter(words: list[str], config: pytest.Config) -> None:
    """A linter as the workflow calls it."""
    workflow = (ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8")
    assert shlex.join(words) in workflow, words


PROGRAMS = {"gradtwin": parse_gradtwin, "pytest": parse_pytest, "python": parse_python}
LINTERS = ("ruff", "mypy", "lint-imports")


def is_parsed(words: list[str]) -> bool:
    """Whether a command is one of the two, or of a program that is known here."""
    return shlex.join(words) in (shlex.join(shlex.split(c)) for c in (FIRST, SECOND)) or program(words) in (
        *PROGRAMS,
        *LINTERS,
    )


def program(words: list[str]) -> str:
    """The name of the program that a command calls, without the environment's folder."""
    return words[0].removeprefix(".venv/bin/")


@each("shell")
def test_commands(block, request):
    """Every command has only options that there are."""
    for words in commands_in(block.text):
        if program(words) in LINTERS:
            parse_linter([program(words), *words[1:]], request.config)
        elif program(words) in PROGRAMS:
            PROGRAMS[program(words)](words[1:], request.config)
        elif not is_parsed(words):
            assert "not run" in block.before, f"{shlex.join(words)} is not parsed here, and the text does not say so"


@each("yaml")
def test_workflows(block, request):
    """The gradtwin and pytest commands of a workflow; or the action, with what it needs."""
    actions = re.findall(r"uses: \./gradtwin/(\S+)\n +with: \{targets: \S", block.text)
    assert all((ROOT / action / "action.yml").exists() for action in actions)
    commands = [shlex.split(line) for line in re.findall(r"run: (.*)$", block.text, flags=re.MULTILINE)]
    parsed = [words for words in commands if words[0] in PROGRAMS]
    assert parsed or actions, "a workflow without a check"
    for words in parsed:
        PROGRAMS[words[0]](words[1:], request.config)


@each("toml")
def test_departures_and_settings(block, tmp_path):
    """Entries as they stand in keras_ref/translation/departures/, whose examples tests/test_departures.py runs; or the
    settings of a project, as every front reads them."""
    if "tool" in tomllib.loads(block.text):
        (tmp_path / "pyproject.toml").write_text(block.text, encoding="utf-8")
        assert read_settings(tmp_path)
        return
    known = {
        entry["id"]: entry
        for file in (ROOT / "keras_ref" / "translation" / "departures").glob("*.toml")
        for entry in tomllib.loads(file.read_text(encoding="utf-8"))["departure"]
    }
    entries = tomllib.loads(block.text)["departure"]
    assert entries
    for entry in entries:
        assert entry == known[entry["id"]]


def test_what_is_not_run_is_counted():
    """A drawing, or a command of another program, is in the table above, and the text before it says so."""
    assert {block.language for block in BLOCKS} <= {"python", "shell", "yaml", "toml", "text"}
    aside = [
        block
        for block in BLOCKS
        if block.language == "text" or (block.language == "shell" and not all(map(is_parsed, commands_in(block.text))))
    ]
    assert all("not run" in block.before for block in aside), [b.id for b in aside if "not run" not in b.before]
    assert dict(Counter(block.document for block in aside)) == NOT_RUN


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_block_is_hidden(document):
    """Code is fenced (a block that is only indented would be run by nothing), and no merge left its marks."""
    assert not re.search(r"^(<{7}|>{7}) ", DOCUMENTS[document].read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = re.sub(r"^```.*?^```$", "", DOCUMENTS[document].read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"\n\n {4}\S.*", text)


# What the documents point at ----------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The headings of a document as GitHub names them in a link."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document):
    path = DOCUMENTS[document]
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{document} links to {link}, which is not there"
        assert not anchor or anchor in anchors(target), f"{document} links to {link}, a heading that is not there"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_functions_exist(document):
    """`path/to/file.py` and `path/to/file.py:function` (or Class.method) name what is there."""
    named = re.findall(
        r"`((?:scratch|keras_ref|tests|\.github)/[\w./*-]*)(?::([\w.]+))?`", DOCUMENTS[document].read_text("utf-8")
    )
    for path, name in named:
        found = list(ROOT.glob(path.rstrip("/")))
        assert found, f"{document} names {path}, which is not there"
        assert not name or name in defined_in(found[0]), f"{document} names {path}:{name}, which is not there"


def test_moved_modules_exist():
    """The changelog's table of moved modules: what stands on the right is there."""
    changelog = (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf-8")
    moved = re.findall(r"^\| `[\w.]+` \| `([\w.]+)` \|$", changelog, flags=re.MULTILINE)
    paths = [ROOT.joinpath(*module.split(".")) for module in moved]
    assert len(paths) > 50
    assert [path for path in paths if not (path.is_dir() or path.with_suffix(".py").exists())] == []


def defined_in(path: Path) -> set[str]:
    """The functions, classes, methods and assigned names of a module."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


# The two commands ---------------------------------------------------------------------------------------------------


def test_the_first_screen_has_exactly_the_two_commands():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("python3 ")] == [FIRST, SECOND]
    assert lines.index(SECOND) < 30
    assert len(lines) <= 160


@pytest.mark.parametrize("file", [".ci/run", ".github/workflows/checks.yml"])
def test_ci_runs_the_commands_as_written(file):
    ci = (ROOT / file).read_text(encoding="utf-8")
    assert FIRST in ci and SECOND in ci


def test_pictures_are_small():
    """They are made by tests/pictures.py; each stays below 200 kB."""
    pictures = {path.name: path.stat().st_size for path in (ROOT / ".github" / "images").iterdir()}
    assert set(pictures) == {"lesson.png", "failure.svg", "summary.png"} and max(pictures.values()) < 200_000
