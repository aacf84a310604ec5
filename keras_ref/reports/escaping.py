"""Text that comes from files and models, made harmless wherever it is shown: terminal, CI, Markdown."""

from __future__ import annotations

import re

#: what starts a command in the log of a CI service: GitHub's "::" and "##[", Azure's and TeamCity's "##"
_COMMAND = re.compile(r"^\s*(::|##)")
#: characters that Markdown and GitHub's own additions to it give a meaning
_MARKDOWN = re.compile(r"([\\`*_~\[\]<>|&@!#$:]|(?<=www)\.)")

#: what begins a block at the start of a line, where no character above does: a list, a rule, a line under a heading
_BLOCK = re.compile(r"^(\d*)([-+=.)])")

_TICKS = re.compile("`+")


def make_printable(text: str) -> str:
    r"""A text as one line of characters that are seen, and no command of a CI service at its start.

    What is not printable (ESC, NUL, a newline, a mark that turns the direction of writing) is an escape such as \x1b.
    """
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
    return _COMMAND.sub(lambda found: found[0].replace("::", "\\x3a:").replace("##", "\\x23#"), shown)


def escape_markdown(text: str) -> str:
    """A text in a line of Markdown, where it is shown as it is: no link, image, element, formula or mention."""
    return _BLOCK.sub(r"\1\\\2", _MARKDOWN.sub(r"\\\1", make_printable(text).strip()))


def fence(text: str) -> str:
    """A text of several lines as a block of Markdown that no line of it ends."""
    fence = "`" * max(3, 1 + max(map(len, _TICKS.findall(text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
