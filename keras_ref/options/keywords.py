"""Options as keywords of the public verbs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from keras_ref.options.values import parse_expectations


class SharedExpectations(dict[str, str]):
    """{pattern: what} that is declared for several models: a pattern may match nothing in some of them."""


def make_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their names as keywords of the public verbs: mode is `modes` there."""
    return {_KEYWORDS.get(name, name): _CONVERTED.get(name, _as_it_is)(value) for name, value in given.items()}


def project_keywords(settings: Mapping[str, Any], taken: Collection[str]) -> dict[str, Any]:
    """The settings of a project as keywords of a verb, as far as they are among the parameters that it takes."""
    keywords = {name: value for name, value in make_keywords(settings).items() if name in taken}
    # what a project expects is about some of its models
    return keywords | ({"expect": SharedExpectations(keywords["expect"])} if "expect" in keywords else {})


def _as_it_is(value: Any) -> Any:
    return value


_KEYWORDS = {"mode": "modes", "batch-size": "batch_size"}
_CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "mode": lambda modes: tuple(modes.split(",")),
    "expect": parse_expectations,
    "batch-size": lambda size: size or None,
}
