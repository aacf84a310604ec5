"""The steps of the action, as action.yml calls them: name-environment, install, check.

What they are to do stands in environment variables, the runner's own and GRADTWIN_…. Values for later steps are
appended to the file GITHUB_OUTPUT. Python's own library is all that is there before `install`.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from pathlib import Path

#: the checkout of gradtwin that this action is part of
GRADTWIN = Path(__file__).resolve().parents[3]
#: files of a project that say what it needs
REQUIREMENTS = ("pyproject.toml", "setup.py", "setup.cfg", "requirements*.txt")


def folder(name: str) -> Path:
    """A folder of this job, which the runner empties before the next one."""
    return Path(os.environ["RUNNER_TEMP"]) / f"gradtwin-{name}"


def words(variable: str) -> list[str]:
    """A variable as words, split as a shell does; nothing in it is expanded or run."""
    return shlex.split(os.environ.get(variable, ""))


def write_output(name: str, value: object) -> None:
    """A value for later steps."""
    with Path(os.environ["GITHUB_OUTPUT"]).open("a", encoding="utf-8") as file:
        file.write(f"{name}={value}\n")


def name_environment() -> int:
    """Write the folder of the environment, and a key that changes with whatever decides what is in it."""
    asked = words("GRADTWIN_INSTALL")
    found = [path for glob in REQUIREMENTS for path in sorted(Path.cwd().glob(glob))]
    files = [GRADTWIN / "pyproject.toml", *found, *(Path(word) for word in asked if Path(word).is_file())]
    texts = (path.read_text(encoding="utf-8") for path in files)
    parts = (sys.version, os.environ["GRADTWIN_TENSORFLOW"], *asked, *texts)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    write_output("path", folder("environment"))
    write_output("key", f"gradtwin-{platform.system()}-{platform.machine()}-{digest}")
    return 0


def packages_to_install() -> list[str]:
    """What is installed beside gradtwin: what was asked for, else the project here, else its requirements."""
    asked = words("GRADTWIN_INSTALL")
    if asked:
        return asked
    if any(Path(name).is_file() for name in ("pyproject.toml", "setup.py")):
        return ["."]
    return ["-r", "requirements.txt"] if Path("requirements.txt").is_file() else []


def install() -> int:
    """Bring the environment up to date, whether it comes from the cache or is new. Returns pip's exit status."""
    environment = folder("environment")
    if not program(environment, "python").exists():
        venv.create(environment, with_pip=True, symlinks=os.name != "nt")
    return run([program(environment, "python"), "-m", "pip", "install", "--quiet", GRADTWIN, *packages_to_install()])


def check() -> int:
    """Check each target, and write its reports. Returns the worst exit status, 2 where there is no target."""
    reports = folder("reports")
    shutil.rmtree(reports, ignore_errors=True)  # of an earlier use of this action in the job
    reports.mkdir()
    command = [program(folder("environment"), "gradtwin"), os.environ["GRADTWIN_COMMAND"], *words("GRADTWIN_OPTIONS")]
    worst = 0
    for number, target in enumerate(words("GRADTWIN_TARGETS"), start=1):
        worst = max(worst, run([*command, *report_options(reports / str(number)), "--", target]))
    if not any(words("GRADTWIN_TARGETS")):
        worst = run(command)  # which says what is missing
    write_output("status", worst)
    write_output("reports", reports)
    return worst


def report_options(path: Path) -> list[str]:
    """The options by which a command writes its reports."""
    return [word for kind in ("json", "html") for word in (f"--{kind}", f"{path}.{kind}")]


def run(command: Iterable[str | Path]) -> int:
    """Run a command. Returns its exit status, as a shell does 128 + n where signal n ended it."""
    sys.stdout.flush()
    status = subprocess.run([*map(str, command)], check=False).returncode
    return status if status >= 0 else 128 - status


def program(environment: Path, name: str) -> Path:
    """A program of an environment."""
    return environment / (f"Scripts/{name}.exe" if os.name == "nt" else f"bin/{name}")


STEPS: dict[str, Callable[[], int]] = {"name-environment": name_environment, "install": install, "check": check}

if __name__ == "__main__":
    sys.exit(STEPS[sys.argv[1]]())
