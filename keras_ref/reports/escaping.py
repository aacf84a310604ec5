"""Text that comes from files and models, made harmless wherever it is shown: terminal, CI, Markdown."""

from __future__ import annotations

import re

#: what starts a command in the log of a CI service: GitHub's "::" and "##[", Azure's and TeamCity's "##"
_COMMAND = re.compile(r"^\s*(::|##)")
#: characters that Markdown and GitHub's own additions to it give a meaning
_MARKDOWN = re.compile(r"([\\`*_~\[\]<>|&@!#])")


def printable(text: str) -> str:
    r"""A text as one line of characters that are seen: what is not printable (ESC, NUL, a newline, a mark that turns
    the direction of writing) as an escape such as \\x1b, and no command of a CI service at its start."""
    shown = str(text)
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)
    return _COMMAND.sub(lambda found: found[0].replace("::", "\\x3a:").replace("##", "\\x23#"), shown)


def markdown(text: str) -> str:
    """A text in a line of Markdown, where it is shown as it is: no link, image, element or mention."""
    return _MARKDOWN.sub(r"\\\1", printable(text))
