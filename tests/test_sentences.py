"""No sentence is long: in the documents, docstrings, comments, messages, and the texts of the lesson. No file is."""

import ast
import json
import re
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from keras_ref.reports.reasons import Reason

ROOT = Path(__file__).parents[1]
#: words of a sentence, at most; of a reason, which is read in a line of a report, fewer
LONGEST, LONGEST_REASON = 40, 30
#: lines of a file of code, at most
LINES = 400
DOCUMENTS = sorted((ROOT / ".github").rglob("*.md"))
MODULES = sorted(path for room in ("scratch", "keras_ref") for path in (ROOT / room).rglob("*.py"))
#: where one ends and the next begins
END = re.compile(r"(?<=[.!?])[\"'”)`*]*\s+(?=[A-Z0-9`\"“*\[(])")
#: what begins a paragraph of its own: an empty line, an item of a list, a row of a table of names, a headed part
PART = re.compile(
    r"\n\s*\n|\n(?=\s*(?:[-*|#]|\d+\.) ?)|\n(?=[^\n]*\S {2,}\S)|\n(?=\s*(?:Raises|Shapes|Units|Source)\b)"
)


def find_long(text: str, longest: int = LONGEST) -> list[str]:
    """The sentences that have more words than are allowed; a list of names is none, and neither is a formula."""
    found = []
    for part in PART.split(text):
        for sentence in END.split(re.sub(r"\s+", " ", re.sub(r"`[^`]*`(?:, `[^`]*`){3,}", "NAMES", part))):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            names = sum(word[0].isupper() for word in words) > len(words) / 2
            if len(words) > longest and not names and not re.search("[=←] ", sentence):
                found.append(f"{len(words)} words: {sentence}")
    return found


def read_document(path: Path) -> Iterator[str]:
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^---\n.*?^---\n", "", text, flags=re.DOTALL | re.MULTILINE)
    yield re.sub(r"\]\([^)]*\)", "]", re.sub(r"\|", "\n\n", text))


def read_module(path: Path) -> Iterator[str]:
    """Docstrings and other texts, with X for what an f-string puts in; and each block of comments."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield "" if ";" in node.value and "{" in node.value else node.value  # a style sheet
    block, last = "", -1
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                follows = token.start[0] == last + 1
                yield "" if follows else block
                block = f"{block if follows else ''} {token.string.lstrip('#: ')}"
                last = token.start[0]
    yield block


def read_table(path: Path) -> Iterator[str]:
    """The texts of a file of departures, faults or questions, and those of the lesson."""

    def walk(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value if "." in value and " " in value else ""
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from walk(inner)

    text = path.read_text(encoding="utf-8")
    yield from walk(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))


READERS = {".md": read_document, ".py": read_module, ".toml": read_table, ".json": read_table}
TABLES = (*sorted((ROOT / "keras_ref").rglob("departures/*.toml")), ROOT / "keras_ref/lesson/assets/strings.en.json")


@pytest.mark.parametrize("room", ["documents", "scratch", "keras_ref", "tables"])
def test_no_sentence_is_long(room):
    modules = [path for path in MODULES if path.relative_to(ROOT).parts[0] == room]
    paths = {"documents": [ROOT / "README.md", *DOCUMENTS], "tables": TABLES}.get(room, modules)
    assert paths
    found = {
        str(path.relative_to(ROOT)): long
        for path in paths
        if (long := [one for text in READERS[path.suffix](path) for one in find_long(text)])
    }
    assert found == {}


@pytest.mark.parametrize("reason", Reason)
def test_no_reason_is_long(reason):
    assert max(len(text.split()) for text in (reason.sentence, reason.template)) <= LONGEST_REASON


def test_no_file_is_long():
    paths = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "keras_ref").rglob("*.js")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    assert {path: count for path, count in lines.items() if count > LINES} == {}


def test_long_sentences_are_found(tmp_path):
    long = " ".join(["word"] * (LONGEST + 1))
    texts = {
        "a.md": f"Short. {long}. Short.\n\n- item\n",
        "b.md": f"| a | {long} |\n",
        "c.py": f'"""Says.\n\n{long}\n"""\n',
        "d.py": "raise ValueError(f'{1} " + long + "')\n",
        "e.py": f"#: {long[:50]}\n#: {long[51:]}\nx = 1\n",
        "f.toml": f'reason = "{long}. It is."\n',
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        assert sum(map(len, map(find_long, READERS[path.suffix](path)))) == 1, name
    assert not find_long(". ".join(["A short one"] * LONGEST)) and not find_long("\n\n".join(["short"] * LONGEST))
