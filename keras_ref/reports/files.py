"""The files that a command writes: never one that it reads, never one that is something else, and whole or not at all.

Paths are tried before the work, and refused in one sentence. A file is written beside its place under another name, and
then renamed: whatever happens, there is the former file or the new one. What a target reads by itself, in another
process perhaps, is not known; it is told by how its name ends.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from keras_ref.errors import CouldNotRun, shorten_error
from keras_ref.undoing import undoing

#: {kind of file: how one begins that a command of gradtwin wrote, whose name stands in the gap}
KINDS: Mapping[str, str] = {
    "report": r'\s*\{{\s*"written_by": "gradtwin {}"',
    "page": r'<!doctype html>\s*<html[^>]*>\s*<head>\s*<meta charset="utf-8">\s*<meta name="generator" '
    r'content="gradtwin {}">',
    "notebook": r'\s*\{{\s*"cells"(?s:.)*"generator": "gradtwin {}"',
    "junit": r'<\?xml[^>]*>\s*<testsuites name="gradtwin {}"',
    "script": r"# gradtwin: ",
}
#: the version of the shape of JSON documents, which README and .github/docs/gradtwin.schema.json describe
SCHEMA_VERSION = 1
#: bytes of the largest text that is read
LARGEST = 2**28
#: characters of a file that say what it is
HEAD = 2**16
#: how the names of files end that a target may read without its being known: code, models and arrays
READ = frozenset(
    f".{end}"
    for end in [
        *("py", "pyi", "pyc", "pyd", "so", "toml", "keras", "h5", "hdf5", "pb"),
        *("npz", "npy", "csv", "parquet", "tfrecord"),
        *("pt", "pth", "ckpt", "safetensors", "onnx", "tflite", "gguf", "pkl", "pickle", "joblib", "index"),
        *("tsv", "mat", "arrow", "feather", "msgpack", "gz", "bz2", "xz", "zst", "zip", "tar", "db", "sqlite"),
    ]
)
#: seconds for which a pipe without a reader is waited for
PATIENCE = 10.0
#: what a path may raise where there cannot be a file: a name that is too long, links in a circle
NO_PATH = (OSError, RuntimeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Output:
    """A file that an option of a command names, "" for none; `kind` is one of KINDS."""

    option: str
    path: str
    kind: str
    command: str


def describe_writer(command: str) -> dict[str, Any]:
    """What a JSON document of a command begins with: who wrote it, and the version of its shape."""
    return {"written_by": f"gradtwin {command}", "schema_version": SCHEMA_VERSION}


def refuse_outputs(outputs: Iterable[Output], *, inputs: Iterable[str] = (), force: str = "") -> None:
    """Refuse paths that cannot or must not be written, before minutes of work rather than after.

    inputs   the files that the command reads
    force    the option that allows to overwrite what the same command did not write, "" where it was given

    Raises: CouldNotRun, naming the option.
    """
    read, seen = [*filter(None, inputs)], list[Output]()
    for output in outputs:
        if not output.path:
            continue
        refuse_unwritable(output.option, output.path)
        _refuse_input(output.option, output.path, read, is_script=output.kind == "script")
        for other in seen:
            if _is_same(output.path, other.path):
                raise _make_refusal(output.option, f"must not name the file that {other.option} names", output.path)
        seen.append(output)
        if force and not _is_ours(output):
            why = "holds something else" if os.access(output.path, os.R_OK) else "cannot be read"
            raise CouldNotRun(
                f"{output.option} must name a new file, or one that gradtwin {output.command} wrote. Received: "
                f"{output.path}, which {why}. Choose another path, or pass {force} to overwrite it."
            )


def _refuse_input(option: str, path: str, read: Iterable[str] = (), *, is_script: bool = False) -> None:
    """Refuse a file that the command reads, may read, or prints to.

    is_script   whether a script is written: then another script of gradtwin's is no code of the user's

    Raises: CouldNotRun.
    """
    if any(_is_same(path, one) for one in read):
        raise _make_refusal(option, "must not name a file that the command reads", path)
    may_be_read = {Path(path).suffix.lower(), Path(path).resolve().suffix.lower()} & READ
    if is_plain_file(path) and may_be_read and not (is_script and _begins_as(path, "script")):
        raise _make_refusal(option, "must not name code, a model or data", path)
    if _is_printed_to(path):
        raise _make_refusal(option, "must not name the file that the command prints to", path)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")  # which is appended to while the command runs
    if summary and _is_same(path, summary):
        raise _make_refusal(option, "must not name the summary of the step (GITHUB_STEP_SUMMARY)", path)


def _is_printed_to(path: str) -> bool:
    """Whether a path is the plain file that standard output or the error stream goes to; such a name is /dev/stdout."""
    for stream in (1, 2):
        with suppress(OSError):
            if is_plain_file(path) and os.path.samestat(Path(path).stat(), os.fstat(stream)):
                return True
    return False


def find_sources(targets: Iterable[str]) -> list[str]:
    """The files that targets are read from: a saved model, or the module of a factory, as far as it is found unread."""
    found = []
    for target in targets:
        found.append(target)
        module = target.partition(":")[0].replace(".", os.sep)
        found += [f"{folder or '.'}{os.sep}{module}{end}" for folder in ("", *sys.path) for end in _ENDS]
    return [path for path in found if is_plain_file(path)]


def is_plain_file(path: str) -> bool:
    """Whether there is a plain file of a name, which may be none that a file can have."""
    try:
        return Path(path).is_file()
    except NO_PATH:
        return False


def is_folder(path: str) -> bool:
    """Whether there is a folder of a name, which may be none that a folder can have."""
    try:
        return Path(path).is_dir()
    except NO_PATH:
        return False


_ENDS = (".py", f"{os.sep}__init__.py")


def require_readable(path: str) -> None:
    """Refuse a file or folder that may not be read, whatever would otherwise be said of what is in it.

    Raises: CouldNotRun.
    """
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 (Path.stat raises the same)
            os.scandir(path).close()
        elif is_plain_file(path):
            Path(path).open("rb").close()
    except PermissionError as error:
        raise CouldNotRun(
            f"A file must be readable. Received: {path}: {error.strerror}. Change its permissions, or those of its "
            "folder."
        ) from error
    except NO_PATH:  # is said by whoever reads it
        return


def read_text(path: str | Path) -> str:
    """The text of a plain file. A pipe or a device may have no end, and is not opened.

    Raises: OSError where there is no plain file, or one of more than LARGEST bytes; ValueError where it is no text, or
    no file can have the name.
    """
    file = Path(path)
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "It is no plain file")
    if file.stat().st_size > LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return file.read_text(encoding="utf-8")


def write(option: str, path: str, text: str) -> None:
    """Write the file that an option names, whole or not at all. Raises: CouldNotRun, naming the option."""
    _refuse_input(option, path, is_script=re.match(KINDS["script"], text) is not None)
    try:
        if _is_replaced(Path(path)):
            _replace(_find_place(path), text)
        else:
            with os.fdopen(_open_special(path), "w", encoding="utf-8") as file:
                file.write(text)
    except NO_PATH as error:
        raise make_write_refusal(option, path, error) from error


def write_unused(option: str, path: str, text: str) -> str:
    """Write a file under the first of list_names that no file has, whoever takes names meanwhile. Returns the name.

    Raises: CouldNotRun, naming the option.
    """
    for name in list_names(path):
        try:
            Path(name).touch(exist_ok=False)  # takes the name, if nobody has it
        except FileExistsError:
            continue
        except NO_PATH as error:
            raise make_write_refusal(option, name, error) from error
        with _removing(Path(name)):
            write(option, name, text)
        return name
    raise AssertionError("there are always more names")


def list_names(path: str) -> Iterator[str]:
    """page.html, page-2.html, page-3.html, …"""
    yield path
    yield from (str(Path(path).with_stem(f"{Path(path).stem}-{k}")) for k in count(2))


def _is_replaced(path: Path) -> bool:
    """Whether a file is put into this place; a terminal or a pipe is written to as it is.

    The path is looked at as it was given: /dev/stdout leads to a pipe, whose own name leads nowhere.
    """
    return path.is_file() or not path.exists()


def _open_special(path: str) -> int:
    """Open a pipe or a device for writing. Raises: OSError, also where nobody reads a pipe within PATIENCE."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            opened = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                raise OSError(errno.ENXIO, f"nobody has read it for {PATIENCE:g} seconds") from error
            time.sleep(0.02)
        else:
            os.set_blocking(opened, True)
            return opened


def append(option: str, path: str, text: str) -> None:
    """Append to a file, such as a step's summary. Raises: CouldNotRun, naming the option."""
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except NO_PATH as error:
        raise make_write_refusal(option, path, error) from error


def _replace(target: Path, text: str) -> None:
    """Put a file into the place of a target, which is what it was until then."""
    beside = target.with_name(f".{target.name[:32]}.{secrets.token_hex(8)}.tmp")
    with _removing(beside):
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            beside.chmod(target.stat().st_mode & 0o7777)
        beside.replace(target)


#: files that are being written, which a signal removes that ends the process
_UNFINISHED: list[Path] = []


@contextmanager
def _removing(path: Path) -> Iterator[None]:
    """Remove a file if the block fails, or if SIGTERM or SIGHUP ends the process in it, as they do by themselves."""
    is_main = threading.current_thread() is threading.main_thread()  # which alone may handle signals
    ending = [one for one in signal.Signals if one.name in ("SIGTERM", "SIGHUP")]
    handled = [one for one in ending if is_main and signal.getsignal(one) is signal.SIG_DFL]
    with undoing(_let_end, handled):
        _UNFINISHED.append(path)
        for one in handled:
            signal.signal(one, _end_by)
        try:
            yield
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        finally:
            _UNFINISHED.remove(path)


def _let_end(handled: Iterable[signal.Signals]) -> None:
    for one in handled:
        signal.signal(one, signal.SIG_DFL)


def _end_by(number: int, _: Any) -> None:
    """End this process by a signal, without what it has not finished."""
    for path in _UNFINISHED:
        with suppress(OSError):
            path.unlink()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _is_same(one: str, other: str) -> bool:
    with suppress(*NO_PATH):
        return Path(one).samefile(other)
    with suppress(*NO_PATH):
        return Path(one).resolve() == Path(other).resolve()
    return False


def _is_ours(output: Output) -> bool:
    """Whether there is no file, an empty one, one that is no plain file, or one that the same command wrote."""
    target = Path(output.path)
    return not target.is_file() or target.stat().st_size == 0 or _begins_as(output.path, output.kind, output.command)


def _begins_as(path: str, kind: str, command: str = "") -> bool:
    """Whether a file begins as one of a kind that a command of gradtwin writes; one that cannot be read does not."""
    with suppress(OSError), Path(path).open(encoding="utf-8", errors="replace") as file:
        return re.match(KINDS[kind].format(command), file.read(HEAD)) is not None
    return False


def refuse_unwritable(option: str, path: str) -> None:
    """Refuse an output that cannot be written. Raises: CouldNotRun."""
    refuse_hidden_name(option, path)
    try:
        # a slash at the end, which Path leaves out, says that a folder is meant
        number = errno.EISDIR if path.endswith(("/", os.sep)) else _find_write_error(Path(path))
    except NO_PATH as error:
        raise make_write_refusal(option, path, error) from error
    if number:
        raise make_write_refusal(option, path, OSError(number, os.strerror(number)))


def refuse_hidden_name(option: str, path: str) -> None:
    """Refuse a new name that is not seen as it is, such as one of several lines. Raises: CouldNotRun."""
    if not Path(path).name.isprintable():
        raise _make_refusal(option, "must have a name in which everything is visible", path)


def _find_write_error(target: Path) -> int:
    """The number of the error that writing would raise, 0 for none. Raises: NO_PATH where there cannot be a file."""
    place = _find_place(target).parent
    if target.is_dir() or not place.is_dir():
        return errno.EISDIR if target.is_dir() else errno.ENOENT
    if _is_mounted(target):
        raise OSError(errno.EBUSY, "it is mounted by itself, and no other file can be put into its place")
    if target.is_block_device() or target.is_socket():
        raise OSError(errno.EINVAL, "it is a disk" if target.is_block_device() else "it is a socket")
    if target.exists() and not os.access(target, os.W_OK):
        return errno.EACCES
    return errno.EACCES if _is_replaced(target) and not os.access(place, os.W_OK) else 0


def _find_place(path: str | Path) -> Path:
    """What a path leads to. Raises: RuntimeError for links in a circle, as Python's own resolve() did before 3.13."""
    found = Path(path).resolve()
    if found.is_symlink():
        raise RuntimeError(f"Symlink loop from {str(found)!r}")
    return found


def _is_mounted(file: Path) -> bool:
    """Whether a plain file is the end of a mount, as one is that a container was given by itself (Linux)."""
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        places = (line.split(" ")[4] for line in lines)
        # a space and what else would part the line is written in octal there
        named = {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place) for place in places}
        return file.is_file() and str(file.resolve()) in named
    return False


def _make_refusal(option: str, rule: str, path: str) -> CouldNotRun:
    return CouldNotRun(f"{option} {rule}. Received: {path}. Choose another path.")


def explain_no_path(error: Exception) -> str:
    """Why there cannot be a file, without its name."""
    return (isinstance(error, OSError) and error.strerror) or shorten_error(error).rstrip(".")


def make_write_refusal(option: str, path: str, error: Exception) -> CouldNotRun:
    """The sentence on a file that cannot be written."""
    return CouldNotRun(
        f"{option} must name a file that can be written. Received: {path}: {explain_no_path(error)}. Choose another "
        "path."
    )
