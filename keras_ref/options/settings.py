"""Options that a project sets for all fronts: [tool.gradtwin] in its pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.options.table import OPTIONS, SETTINGS
from keras_ref.options.values import require_legal


def read_settings(folder: Path) -> dict[str, Any]:
    """{option: value} of [tool.gradtwin] in the nearest pyproject.toml, in this folder or above it; {} without any.

    Raises: CouldNotRun for a file that is no TOML, a key that is no option, and a value that the option does not take.
    """
    file = next((path for one in (folder, *folder.parents) if (path := one / "pyproject.toml").is_file()), None)
    if file is None:
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("gradtwin", {})
    except (OSError, ValueError, RecursionError) as error:
        raise CouldNotRun(
            f"pyproject.toml must be TOML. Received: {file}: {shorten_error(error)} Correct the file."
        ) from error
    if not isinstance(table, dict):
        raise CouldNotRun(
            f"tool.gradtwin must be a table. Received: {shorten_error(repr(table))[:-1]} in {file}. Write "
            "[tool.gradtwin]."
        )
    return {name: _read_setting(name, value, file) for name, value in table.items()}


def _read_setting(name: str, value: Any, file: Path) -> Any:
    """The value of an option in pyproject.toml. Raises: CouldNotRun."""
    if name not in SETTINGS:
        raise CouldNotRun(
            f"[tool.gradtwin] must have options that a project may set. Received: {name!r} in {file}. Choose from "
            f"{', '.join(SETTINGS)}."
        )
    option = OPTIONS[name]
    given = value if option.many and isinstance(value, list) else [value]
    if not all(type(one) is option.type for one in given):
        kind = {str: "a text", int: "a whole number", bool: "true or false"}[option.type]
        raise CouldNotRun(
            f"{name} in [tool.gradtwin] must be {kind}{', or a list of them' if option.many else ''}. Received: "
            f"{shorten_error(repr(value))[:-1]} in {file}. Correct it."
        )
    taken = tuple(given) if option.many else value
    try:
        require_legal({name: taken})
    except CouldNotRun as error:
        raise CouldNotRun(f"[tool.gradtwin] in {file}: {error}") from error
    return taken
