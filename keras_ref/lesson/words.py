"""The texts of the pages: assets/strings.….json has all of them in one language; another language is one more file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from keras_ref.errors import CouldNotRun


@dataclass(frozen=True)
class Phrase:
    """A text that is still in no language: the key of a string, and (name, value) of each of its placeholders.

    A value may be a phrase itself. As a string, a phrase is English.
    """

    key: str
    values: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return ENGLISH.say(self)


def phrase(key: str, **values: Any) -> Phrase:
    """A phrase with the values of its placeholders."""
    return Phrase(key, tuple(values.items()))


@dataclass(frozen=True)
class Words:
    """The strings of one language, by key; {name} in a string is the place of a value."""

    language: str
    texts: Mapping[str, str]

    def say(self, said: Phrase | str, **values: Any) -> str:
        """A phrase, or the string of a key with these values, in this language."""
        if isinstance(said, Phrase):
            return self.say(said.key, **dict(said.values))
        return self._fill(said, values, lambda text: text)

    def html(self, said: Phrase | str, **values: Any) -> str:
        """`say` as HTML: the string is escaped, values that are strings are HTML already."""
        if isinstance(said, Phrase):
            return escape(self.say(said))
        return self._fill(said, values, lambda text: escape(text, quote=False))

    def _fill(self, key: str, values: Mapping[str, Any], write: Callable[[str], str]) -> str:
        filled = {name: self.say(value) if isinstance(value, Phrase) else value for name, value in values.items()}
        return write(self.texts[key]).format(**filled)


@cache
def read_words(language: str) -> Words:
    """The strings of a language: assets/strings.….json. Raises: CouldNotRun for a language without such a file."""
    assets = files("keras_ref.lesson") / "assets"
    known = sorted(path.name.split(".")[1] for path in assets.iterdir() if path.name.startswith("strings."))
    if language not in known:
        raise CouldNotRun(f"--language must be one of {', '.join(known)}. Received: {language!r}. Choose one of them.")
    return Words(language, json.loads((assets / f"strings.{language}.json").read_text(encoding="utf-8")))


#: the words of what is not asked for in another language
ENGLISH = read_words("en")
