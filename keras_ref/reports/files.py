"""The files that a command writes: never one that it reads, never one that is something else, and whole or not at all.

Paths are tried before the work, and refused in one sentence. A file is written beside its place under another name, and
then renamed: whatever happens, there is the former file or the new one.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from keras_ref.errors import CouldNotRun

#: {kind of file: how one begins that gradtwin wrote}
KINDS: Mapping[str, re.Pattern[str]] = {
    "report": re.compile(r'\s*\{\s*"(subject|ok)"'),
    "page": re.compile(r"<!doctype html>.*gradtwin", re.DOTALL),
    "notebook": re.compile(r'\s*\{\s*"cells"'),
    "junit": re.compile(r"<\?xml[^>]*>\s*<testsuites>"),
}
#: characters of a file that say what it is
HEAD = 4096


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file that an option names, "" for none; `kind` is one of KINDS."""

    option: str
    path: str
    kind: str


def refuse_outputs(outputs: Iterable[Output], *, inputs: Iterable[str] = (), force: str = "") -> None:
    """Refuse paths that cannot or must not be written, before minutes of work rather than after.

    inputs   the files that the command reads
    force    the option that allows to overwrite what gradtwin did not write, "" where it was given

    Raises: CouldNotRun, naming the option.
    """
    read, seen = [*filter(None, inputs)], list[Output]()
    for output in outputs:
        if not output.path:
            continue
        refuse_unwritable(output.option, output.path)
        if any(_is_same(output.path, one) for one in read):
            raise _refusal(output.option, "must not name a file that the command reads", output.path)
        for other in seen:
            if _is_same(output.path, other.path):
                raise _refusal(output.option, f"must not name the file that {other.option} names", output.path)
        seen.append(output)
        if force and not _is_ours(output):
            raise CouldNotRun(
                f"{output.option} must name a new file, or one that gradtwin wrote. Received: {output.path}, which "
                f"holds something else. Choose another path, or pass {force} to overwrite it."
            )


def sources_of(targets: Iterable[str]) -> list[str]:
    """The files that targets are read from: a saved model, or the module of a factory, as far as it is found unread."""
    found = []
    for target in targets:
        found.append(target)
        module = target.partition(":")[0].replace(".", os.sep)
        found += [f"{folder or '.'}{os.sep}{module}{end}" for folder in ("", *sys.path) for end in _ENDS]
    return [path for path in found if Path(path).is_file()]


_ENDS = (".py", f"{os.sep}__init__.py")


def write(option: str, path: str, text: str) -> None:
    """Write the file that an option names, whole or not at all. Raises: CouldNotRun, naming the option."""
    if any(_is_same(path, file) for file in _running_sources()):
        raise _refusal(option, "must not name a file that the command reads", path)
    try:
        target = Path(path).resolve()
        if target.exists() and not target.is_file():  # a terminal, a pipe
            target.write_text(text, encoding="utf-8")
        else:
            _replace(target, text)
    except OSError as error:
        raise _cannot_write(option, path, str(error.strerror)) from error


def append(option: str, path: str, text: str) -> None:
    """Append to a file, such as a step's summary. Raises: CouldNotRun, naming the option."""
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _cannot_write(option, path, str(error.strerror)) from error


def _replace(target: Path, text: str) -> None:
    """Put a file into the place of a target, which is what it was until then."""
    beside = target.with_name(f".{target.name[:32]}.{secrets.token_hex(8)}.tmp")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o7777)
        beside.replace(target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise


def _is_same(one: str, other: str) -> bool:
    with suppress(OSError):
        return Path(one).samefile(other)
    return Path(one).resolve() == Path(other).resolve()


def _running_sources() -> list[str]:
    """The files of the modules that are loaded: a factory's, and those that it imports."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return [file for file in files if isinstance(file, str)]


def _is_ours(output: Output) -> bool:
    """Whether there is no file, an empty one, one that is no plain file, or one that gradtwin wrote."""
    target = Path(output.path)
    if not target.is_file() or target.stat().st_size == 0:
        return True
    with target.open(encoding="utf-8", errors="replace") as file:
        return KINDS[output.kind].match(file.read(HEAD)) is not None


def refuse_unwritable(option: str, path: str) -> None:
    """Refuse an output that cannot be written. Raises: CouldNotRun."""
    target = Path(path)
    if target.is_dir():
        reason = "Is a directory"
    elif not target.parent.is_dir():
        reason = "No such file or directory"
    elif not (os.access(target.parent, os.W_OK) or (target.exists() and not target.is_file())) or (
        target.exists() and not os.access(target, os.W_OK)
    ):
        reason = "Permission denied"
    else:
        return
    raise _cannot_write(option, path, reason)


def _refusal(option: str, rule: str, path: str) -> CouldNotRun:
    return CouldNotRun(f"{option} {rule}. Received: {path}. Choose another path.")


def _cannot_write(option: str, path: str, reason: str) -> CouldNotRun:
    return CouldNotRun(
        f"{option} must name a file that can be written. Received: {path}: {reason}. Choose another path."
    )
