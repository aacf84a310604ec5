"""Tables that are folders of TOML files, calls/ and faults/: a file for each module whose functions are named."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def read_folder(name: str) -> list[dict[str, Any]]:
    """What each file of a folder beside this module holds, in the order of the files' names."""
    files = sorted((Path(__file__).parent / name).glob("*.toml"))
    return [tomllib.loads(file.read_text(encoding="utf-8")) for file in files]
